//! The units in docs/systemd: systemd takes them, and what they run are command lines of ours.

use std::path::Path;
use std::process::Command;

use crate::common::{needs, skipped};
use crate::world::World;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/systemd/brickwork-brick@.service");

fn unit() -> String {
    std::fs::read_to_string(UNIT).expect("the unit")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_of_a_brick() {
    if !needs("systemd-analyze") {
        return;
    }
    let world = World::of(Vec::new(), env!("CARGO_BIN_EXE_brickwork").into());
    // It also looks whether the command is there.
    world.write("brickwork-brick@.service", &unit().replace("/usr/bin/brickwork", env!("CARGO_BIN_EXE_brickwork")));
    std::os::unix::fs::symlink("brickwork-brick@.service", world.path("brickwork-brick@b1.service")).expect("a link");
    let verify = Command::new("systemd-analyze")
        .args(["verify", "./brickwork-brick@b1.service"])
        .current_dir(world.folder())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    if said.contains("Failed to initialize manager") {
        return skipped("systemd-analyze cannot work here");
    }
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("brickwork-brick")).collect();
    assert!(verify.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn every_command_of_the_unit_is_a_command() {
    let world = World::of(Vec::new(), env!("CARGO_BIN_EXE_brickwork").into());
    let lines = unit();
    let commands: Vec<Vec<&str>> = lines
        .lines()
        .filter_map(|line| line.strip_prefix("Exec")?.split_once('=')?.1.strip_prefix("/usr/bin/brickwork "))
        .map(|words| words.split(' ').collect())
        .collect();
    assert_eq!(commands.len(), 3, "a check, the start, a check before a reload: {commands:?}");
    for words in &commands {
        // A file that is not there is as far as it comes: the words before it were understood.
        let done = world.run(words);
        done.failed(78, "/etc/brickwork/volfiles/%i.vol` cannot be read");
    }
}

#[test]
fn the_unit_and_the_command_agree_on_how_a_start_and_a_wrong_volfile_are_told() {
    let lines = unit();
    for setting in ["Type=notify", "RestartPreventExitStatus=78", "WatchdogSec=", "RuntimeDirectory=brickwork"] {
        assert!(lines.lines().any(|line| line.starts_with(setting)), "{setting}");
    }
    assert!(Path::new(UNIT).with_file_name("README.md").is_file());
}

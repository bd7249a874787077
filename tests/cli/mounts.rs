//! `brickwork mount` and `umount`: a process in the background, from its start to its end.

use std::fs::File;

use rustix::process::Signal;

use crate::common::{ended, is_mounted};
use crate::world::World;

#[test]
fn a_mount_answers_when_the_command_returns_and_its_process_has_ended_when_umount_does() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    std::fs::write(world.path("mnt/f"), "written").expect("it answers");
    let status = world.run(["status", "test"]).ok();
    assert!(status.contains(concat!(" · version ", env!("CARGO_PKG_VERSION"))), "{status}");
    let process = world.process().expect("it runs");
    world.umount("mnt");
    assert!(ended(&process) && !is_mounted(&world.path("mnt")));
    assert!(!world.path("pid").exists(), "the pid file is gone");
    assert_eq!(std::fs::read_dir(world.path("run")).expect("list").count(), 0, "the admin socket is gone");
    world.mount(&[]).ok();
    assert_eq!(std::fs::read_to_string(world.path("mnt/f")).expect("read"), "written");
    world.umount("mnt");
}

#[test]
fn a_mount_in_use_is_not_taken_away_unless_lazily() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let open = File::create(world.path("mnt/f")).expect("create");
    world.run(["umount", "mnt"]).failed(75, "error[E0131]: ");
    assert!(is_mounted(&world.path("mnt")), "it is as before");
    let process = world.process().expect("it runs");
    world.run(["umount", "--lazy", "mnt"]).ok();
    assert!(!is_mounted(&world.path("mnt")));
    std::os::unix::fs::FileExt::write_all_at(&open, b"last words", 0).expect("an open file lives on");
    drop(open);
    assert!(ended(&process), "it ends with the last open file");
    assert_eq!(std::fs::read_to_string(world.path("brick/f")).expect("read"), "last words");
}

#[test]
fn what_a_killed_process_left_is_cleared_by_the_next_mount() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    std::fs::write(world.path("mnt/f"), "before").expect("write");
    let process = world.process().expect("it runs");
    world.signal(Signal::KILL);
    assert!(ended(&process));
    assert_eq!(std::fs::read(world.path("mnt/f")).expect_err("dead").raw_os_error(), Some(libc::ENOTCONN));
    world.mount(&[]).ok();
    assert_eq!(std::fs::read_to_string(world.path("mnt/f")).expect("read"), "before");
    world.umount("mnt");
    assert!(!is_mounted(&world.path("mnt")), "nothing dead is beneath");
}

#[test]
fn a_dead_mount_is_a_problem_of_status_and_can_be_taken_away() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let process = world.process().expect("it runs");
    world.signal(Signal::KILL);
    assert!(ended(&process));
    let point = world.path("mnt").display().to_string();
    let status = world.run(["status"]).ok();
    assert!(status.contains(&format!("the process behind the mount `{point}` has died")), "{status}");
    assert_eq!(world.run(["status", "--exit-code"]).code, Some(3));
    let status = world.run(["status", "--json"]).json();
    let dead = status["deadMounts"].as_array().expect("a list");
    assert!(dead.iter().any(|dead| dead == point.as_str()), "{status}");
    // Whoever names an instance asks about that one.
    world.run(["status", "test"]).failed(69, "error[E0101]: ");
    world.umount("mnt");
    assert!(!is_mounted(&world.path("mnt")));
}

#[test]
fn one_process_mounts_one_graph_at_two_places_and_ends_with_the_second() {
    let Some(world) = World::new() else { return };
    world.mount(&["--also", "mnt2"]).ok();
    std::fs::write(world.path("mnt/f"), "here").expect("write");
    assert_eq!(std::fs::read_to_string(world.path("mnt2/f")).expect("read"), "here");
    let process = world.process().expect("it runs");
    world.umount("mnt");
    assert_eq!(std::fs::read_to_string(world.path("mnt2/f")).expect("the other one serves on"), "here");
    world.umount("mnt2");
    assert!(ended(&process));
}

#[test]
fn a_mount_through_a_link_is_unmounted_through_it() {
    let Some(world) = World::new() else { return };
    std::os::unix::fs::symlink("mnt", world.path("link")).expect("a link");
    world.run(["mount", "test.vol", "link", "--pid-file", "pid", "--log-file", "log"]).ok();
    assert!(is_mounted(&world.path("mnt")));
    world.umount("link");
    assert!(!is_mounted(&world.path("mnt")));
}

#[test]
fn a_brick_is_detached_when_nobody_serves_it() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    world.run(["brick", "detach", "brick"]).failed(75, "error[E0141]: `brick` is being served");
    world.umount("mnt");
    assert!(world.run(["brick", "detach", "brick"]).ok().contains(".brickwork.brick"));
    world.run(["brick", "detach", "brick"]).failed(1, "error[E0140]: `brick` has no marks");
}

#[test]
fn a_brick_whose_process_was_killed_is_detached_without_a_trace() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    std::fs::write(world.path("mnt/kept"), "kept").expect("write");
    let open = File::create(world.path("mnt/removed")).expect("create");
    std::fs::remove_file(world.path("mnt/removed")).expect("remove");
    let process = world.process().expect("it runs");
    world.signal(Signal::KILL);
    assert!(ended(&process));
    drop(open);
    world.umount("mnt");
    let ours = || std::fs::exists(world.path("brick/.glusterfs/brickwork")).expect("look");
    assert!(ours(), "a killed process leaves its folder");
    world.run(["brick", "detach", "brick"]).ok();
    assert!(!ours());
    assert_eq!(std::fs::read_to_string(world.path("brick/kept")).expect("read"), "kept");
    let mut names = [0_u8; 4096];
    let length = rustix::fs::listxattr(world.path("brick"), &mut names[..]).expect("list");
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    assert!(!names.contains("trusted.brickwork") && !names.contains("user.brickwork.brick"), "{names:?}");
}

#[test]
fn the_log_is_named_by_the_whole_stem_of_the_volfile_and_notices_are_json_with_json() {
    let Some(world) = World::new() else { return };
    world.write("fixa.storage1.fixa-b1.vol", &world.volfile("    option linux-aio on\n"));
    let mounted = world.run(["mount", "--json", "fixa.storage1.fixa-b1.vol", "mnt", "--pid-file", "pid"]);
    let notice: serde_json::Value = serde_json::from_str(&mounted.stderr).expect("JSON");
    assert!(notice["items"].as_array().is_some_and(|items| !items.is_empty()), "{notice}");
    assert_eq!(mounted.json()["kind"], "MountList");
    assert!(world.path("logs/fixa.storage1.fixa-b1.log").exists());
    world.umount("mnt");
}

#[test]
fn the_volfiles_of_the_repository_run_as_they_are() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/volfiles");
    for entry in std::fs::read_dir(folder).expect("list") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "vol") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.lines().take_while(|line| line.starts_with('#')).count() > 10, "{path:?} opens with a drawing");
        if text.contains("type protocol/") {
            // Two processes: `bricks` runs them against each other.
            continue;
        }
        let Some(world) = World::new() else { return };
        let path = path.to_str().expect("UTF-8");
        world.run(["volfile", "check", "--deny-warnings", path]).ok();
        world.run(["volfile", "fmt", "--check", path]).ok();
        let directory = format!("posix.directory={}", world.path("brick").display());
        let files = ["--pid-file", "pid", "--log-file", "log"];
        world.run(["mount", path, "mnt", "--xlator-option", &directory].iter().chain(&files)).ok();
        std::fs::write(world.path("mnt/f"), "x").expect("it serves");
        world.umount("mnt");
    }
}

#[test]
fn an_idle_mount_stays_below_20_mib() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let dump = world.run(["dump"]).json();
    let mut resident = dump["items"][0]["process"]["residentBytes"].as_u64().expect("resident bytes");
    if cfg!(debug_assertions) {
        // A program that is not optimised has several times the pages of the one that is used; they are not its memory.
        let pid = std::fs::read_to_string(world.path("pid")).expect("the pid");
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("RssFile");
        resident -= line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024;
    }
    assert!(resident < 20 << 20, "{resident} bytes");
    world.umount("mnt");
}

//! `brickwork dev`: the playground.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::World;

/// What a playground leaves behind when it leaves nothing.
fn left(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("home")).expect("list");
    entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn dev_exits_with_the_code_of_its_command() {
    let Some(world) = World::new() else { return };
    for (command, code) in [("true", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9)] {
        let done = world.run(["dev", "--exec", command]);
        assert_eq!(done.code, Some(code), "{command}: {done:?}");
    }
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn the_command_of_dev_finds_the_mount_in_mnt_and_its_own_working_directory() {
    let Some(world) = World::new() else { return };
    world.write("here", "from outside");
    let script = "cp here \"$MNT/f\" && cat \"$MNT/f\" && stat -f -c %T \"$MNT\"";
    assert_eq!(world.run(["dev", "--exec", script]).ok(), "from outsidefuseblk\n");
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn a_kept_playground_stays_and_is_not_taken_by_the_next() {
    let Some(world) = World::new() else { return };
    let done = world.run(["dev", "--keep", "--exec", "echo kept > $MNT/f"]);
    let kept = done.stderr.trim().strip_prefix("kept ").expect("the path is said").to_owned();
    done.ok();
    world.run(["dev", "--exec", "test ! -e $MNT/f"]).ok();
    assert_eq!(std::fs::read_to_string(format!("{kept}/b1/f")).expect("the brick"), "kept\n");
    assert_eq!(left(&world), ["brickwork-dev"]);
}

#[test]
fn dev_serves_a_graph_of_the_user_with_a_brick_of_its_own() {
    let Some(world) = World::new() else { return };
    world.write(
        "own.vol",
        "volume disk\n type storage/posix\n option directory /brickwork/dev/disk\nend-volume\n\
         volume through\n type debug/null\n subvolumes disk\nend-volume\n",
    );
    let exec = "echo hi > $MNT/f && cat $MNT/../disk/f && ls $MNT/..";
    assert_eq!(world.run(["dev", "--graph", "own.vol", "--exec", exec]).ok(), "hi\ndisk\nlock\nmnt\n");
    world.run(["dev", "--graph", "test.vol", "--exec", "echo own > $MNT/f"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("brick/f")).expect("the user's own brick"), "own\n");
}

#[test]
fn several_bricks_are_refused_with_the_reason() {
    let Some(world) = World::new() else { return };
    world.run(["dev", "--bricks", "3", "--exec", "true"]).failed(2, "error[E0150]: `dev` serves one brick, not 3");
}

/// A playground whose command says where it is mounted and then reads a line.
struct Waiting {
    child: Child,
    stdin: ChildStdin,
    mount: String,
}

fn waiting(world: &World) -> Waiting {
    let mut command: Command = world.command();
    command
        .args(["dev", "--exec", "echo $MNT $BRICKWORK_INSTANCE; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("dev");
    let stdin = child.stdin.take().expect("piped");
    let mut mount = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut mount).expect("a line");
    Waiting { child, stdin, mount: mount.trim().to_owned() }
}

impl Waiting {
    fn finish(mut self) {
        self.stdin.write_all(b"\n").expect("it reads");
        assert!(self.child.wait().expect("wait").success());
    }
}

#[test]
fn two_playgrounds_at_once_do_not_meet() {
    let Some(world) = World::new() else { return };
    let (first, second) = (waiting(&world), waiting(&world));
    let (one, two) =
        (first.mount.split_once(' ').expect("two words"), second.mount.split_once(' ').expect("two words"));
    assert!(one.0 != two.0 && one.1 != two.1, "{one:?} {two:?}");
    std::fs::write(format!("{}/f", one.0), "one").expect("write");
    assert!(!std::fs::exists(format!("{}/f", two.0)).expect("stat"));
    assert_eq!(world.run(["status", "--json"]).json()["items"].as_array().map(Vec::len), Some(2));
    first.finish();
    second.finish();
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn what_a_killed_playground_left_is_gone_after_the_next() {
    let Some(world) = World::new() else { return };
    let mut killed = waiting(&world);
    killed.child.kill().expect("kill");
    killed.child.wait().expect("wait");
    assert_eq!(left(&world), ["brickwork-dev"]);
    world.run(["dev", "--exec", "true"]).ok();
    assert_eq!(left(&world), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(world.path("run")).expect("list").count(), 0, "no stale sockets");
}

#[test]
fn sigterm_ends_the_command_and_the_playground() {
    let Some(world) = World::new() else { return };
    let mut waiting = waiting(&world);
    kill_process(Pid::from_child(&waiting.child), Signal::TERM).expect("kill");
    assert_eq!(waiting.child.wait().expect("wait").code(), Some(128 + 15));
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn without_a_command_dev_says_what_to_do_is_ready_in_a_second_and_ends_with_ctrl_c() {
    let Some(world) = World::new() else { return };
    let mut child = world.command().arg("dev").stdout(Stdio::piped()).spawn().expect("dev");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    while !said.contains("Ctrl-C") {
        assert_ne!(lines.read_line(&mut said).expect("a line"), 0, "{said}");
    }
    let ready = said.lines().find_map(|line| line.strip_prefix("ready in ")?.strip_suffix(" s")).expect("ready in");
    assert!(ready.parse::<f64>().expect("seconds") <= 1.0, "{said}");
    kill_process(Pid::from_child(&child), Signal::INT).expect("kill");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn the_file_systems_own_end_is_no_end_of_the_command() {
    let Some(world) = World::new() else { return };
    let program = env!("CARGO_BIN_EXE_brickwork");
    let done = world.run(["dev", "--exec", &format!("{program} umount $MNT --timeout 1s; echo still here; exit 5")]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(5), "still here\n"), "{done:?}");
}

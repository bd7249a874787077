//! Processes that wait for a brick that is away.

mod common;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::brick::Brick;
use common::{Mounted, until};
use rustix::process::{Pid, Signal, kill_process};

/// Well below `reconnect-wait`, and above what a busy machine takes for nothing.
const SOON: Duration = Duration::from_secs(20);

/// A brick, and a mount of it that waits a minute for it.
fn mounted() -> Option<(Brick, Mounted)> {
    let brick = Brick::start()?;
    let client = brick.client("    option reconnect-wait 60\n");
    let mounted = Mounted::client(&client, &[])?;
    Some((brick, mounted))
}

/// Waits until `child` is inside a call of the mount.
fn until_it_hangs(child: &Child) {
    until("the process waits for the brick", || {
        let wait = std::fs::read_to_string(format!("/proc/{}/wchan", child.id())).ok()?;
        wait.contains("request_wait_answer").then_some(())
    });
}

fn ends_soon(child: &mut Child) -> bool {
    let killed = Instant::now();
    child.wait().expect("a child");
    killed.elapsed() < SOON
}

/// Whoever was killed while its brick was away stayed in D state for as long as the mount waited for the brick: its call,
/// and after that the closing of each file it had open.
#[test]
fn a_process_that_is_killed_while_its_brick_is_away_ends_at_once() {
    let Some((mut brick, mounted)) = mounted() else { return };
    let file = mounted.path().join("file");
    File::create(&file).expect("a file");
    brick.kill9();
    let mut reader = Command::new("cat").arg(&file).spawn().expect("cat");
    until_it_hangs(&reader);
    reader.kill().expect("a child");
    assert!(ends_soon(&mut reader), "a killed process waits for the brick");
    brick.start_again();
    assert_eq!(std::fs::read(&file).expect("the mount goes on"), b"");
}

#[test]
fn the_files_of_a_process_that_was_killed_while_its_brick_is_away_are_closed_without_it() {
    let Some((mut brick, mounted)) = mounted() else { return };
    let file = mounted.path().join("file");
    File::create(&file).expect("a file");
    let held = || File::open(&file).expect("a file");
    let mut holder =
        Command::new("sleep").arg("1000").stdin(held()).stdout(held()).stderr(held()).spawn().expect("sleep");
    brick.kill9();
    until("the mount knows", || mounted.log().contains("the volume cannot serve").then_some(()));
    holder.kill().expect("a child");
    assert!(ends_soon(&mut holder), "the end of a process waits for the brick");
    brick.start_again();
    assert_eq!(std::fs::read(&file).expect("the mount goes on"), b"");
}

#[test]
fn a_signal_that_does_not_kill_changes_nothing_for_a_call_that_waits_for_the_brick() {
    let Some((mut brick, mounted)) = mounted() else { return };
    let file = mounted.path().join("file");
    std::fs::write(&file, "content").expect("a file");
    brick.kill9();
    let script = format!("trap : USR1; read line <{}; echo \"$line\"", file.display());
    let mut reader = Command::new("sh").arg("-c").arg(script).stdout(Stdio::piped()).spawn().expect("sh");
    until_it_hangs(&reader);
    let pid = Pid::from_child(&reader);
    for _ in 0..3 {
        kill_process(pid, Signal::USR1).expect("a child");
    }
    brick.start_again();
    let output = reader.stdout.take().map(std::io::read_to_string).expect("a pipe").expect("its output");
    assert_eq!((output.trim(), reader.wait().expect("a child").success()), ("content", true));
}

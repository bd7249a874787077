//! What processes do and what they are answered, written down line by line; run on a local file system, which is right
//! by definition, and then on mounts.
//!
//! ```text
//! A open f file rwc        a process, what it is told; it must answer ok
//! B lock f w 0 1 = EAGAIN  it must answer EAGAIN
//! B wait f w 0 1 ...       it must not be answered yet
//! A lock f u 0 0
//! B ... = ok               now it must be
//! B ofd-get f w 0 0 = free / fuse: r 0 0 A    the kernel's FUSE answers otherwise, whoever serves it
//! A signal, A exit, A kill   SIGUSR1; its end, by itself or by SIGKILL
//! ```
//!
//! The first process that is named acts in the first folder, all others in the last. What a process can do is in
//! `agent.rs`.

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount};
use crate::stage::Stage;

/// Where a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A local folder: the yardstick.
    Local,
    /// A mount of a brick.
    OneMount,
    /// Two mounts of a brick, by two processes.
    TwoMounts,
}

/// Runs `script` where `on` says.
pub fn run(on: On, script: &str) {
    with(on, |stage| perform(stage, script, on != On::Local));
}

/// Has `act` done where `on` says.
pub fn with(on: On, act: impl FnOnce(&mut Stage)) {
    if on == On::Local {
        let folder = tempfile::tempdir().expect("a folder");
        return act(&mut Stage::on(&[folder.path()]));
    }
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    if on == On::TwoMounts {
        let Some(second) = Mounted::client(&client, &[]) else { return };
        act(&mut Stage::on(&[first.path(), second.path()]));
        second.unmount();
    } else {
        act(&mut Stage::on(&[first.path()]));
    }
    first.unmount();
}

/// Does what `script` says, on a FUSE mount or not.
pub fn perform(stage: &mut Stage, script: &str, fuse: bool) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        eprintln!("{line}");
        step(stage, line, fuse);
    }
    stage.all_wait_on();
}

fn step(stage: &mut Stage, line: &str, fuse: bool) {
    let (told, expected) = line.split_once(" = ").unwrap_or((line, "ok"));
    let (who, words) = told.split_once(' ').expect("WHO WORDS");
    let expected = match expected.split_once(" / fuse: ") {
        Some((_, on_fuse)) if fuse => on_fuse,
        Some((elsewhere, _)) => elsewhere,
        None => expected,
    };
    if words == "..." {
        assert_eq!(stage.answer(who), expected, "{line}");
        return;
    }
    stage.all_wait_on();
    match words {
        "signal" => stage.interrupt(who),
        "kill" => stage.kill9(who),
        "exit" => stage.exit(who),
        _ => match words.strip_suffix(" ...") {
            Some(words) => stage.waits(who, words),
            None => assert_eq!(stage.ask(who, words), expected, "{line}"),
        },
    }
}

/// Makes tests of each promise: on a local file system, through one mount, and through two.
macro_rules! promises {
    ($($(#[$note:meta])* $promise:ident: $script:expr;)*) => {$(
        $(#[$note])*
        mod $promise {
            use crate::script::{On, run};

            #[test]
            fn on_a_local_file_system() {
                run(On::Local, $script);
            }

            #[test]
            fn through_one_mount() {
                run(On::OneMount, $script);
            }

            #[test]
            fn through_two_mounts() {
                run(On::TwoMounts, $script);
            }
        }
    )*};
}
pub(crate) use promises;

//! A process that serves a brick is killed in the middle of its work; the next one puts right what it left.

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use brickwork_api::Gfid;
use common::check::problems;
use common::work::{Random, Worker, look_everything_up, seed};

const FOLDER: &str = "BRICKWORK_CRASH_FOLDER";
const SEED: &str = "BRICKWORK_CRASH_SEED";
/// Changes between two signs of life.
const STRIDE: usize = 16;

/// Not a test by itself: the process that is killed. Each byte of its output is [`STRIDE`] changes of one of its threads.
#[test]
fn child_that_changes_names_until_it_is_killed() {
    let (Ok(folder), Ok(seed)) = (std::env::var(FOLDER), std::env::var(SEED)) else { return };
    let brick = common::serve(Path::new(&folder));
    let folders = folders(&brick);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (client, folders, seed) = (&brick.client, folders.clone(), seed.parse::<u64>().unwrap());
            scope.spawn(move || {
                let mut worker = Worker::new(client, folders, Random(seed + thread));
                loop {
                    (0..STRIDE).for_each(|_| worker.step());
                    rustix::io::write(rustix::stdio::stderr(), b".").unwrap();
                }
            });
        }
    });
}

fn folders(brick: &common::Brick) -> Vec<Gfid> {
    let mut folders = vec![Gfid::ROOT];
    for name in ["folder-a", "folder-b"] {
        let found = brick.client.lookup(Gfid::ROOT, name).map(|attr| attr.gfid);
        folders.push(found.or_else(|_| brick.client.mkdir(Gfid::ROOT, name)).unwrap());
    }
    folders
}

/// Lets a child work on the brick for a while and kills it.
fn work_and_die(folder: &Path, random: &mut Random) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_changes_names_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SEED, random.below(1 << 30).to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut signs = vec![0; 1 + random.below(40)];
    let mut output = child.stderr.take().unwrap();
    let alive = output.read_exact(&mut signs);
    // A few microseconds more or less: the kill is to fall anywhere in a change.
    (0..random.below(20_000)).for_each(|_| std::hint::spin_loop());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let text = String::from_utf8_lossy(&signs).into_owned() + &rest;
    assert!(alive.is_ok() && !text.contains("panicked"), "the child ended by itself: {text}");
}

#[test]
fn a_killed_process_leaves_no_name_without_gfid_and_no_handle_without_name() {
    if !common::privileged() {
        return;
    }
    let rounds = if std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full") { 200 } else { 20 };
    let mut random = Random(seed());
    let folder = common::folder();
    for round in 0..rounds {
        work_and_die(folder.path(), &mut random);
        let brick = common::serve(folder.path());
        assert_eq!(problems(folder.path(), false), [""; 0], "after recovery, round {round}");
        look_everything_up(&brick.client);
        assert_eq!(problems(folder.path(), true), [""; 0], "after lookups, round {round}");
    }
}

//! Whatever is killed or cut: each operation is done once, nothing acknowledged is lost, no caller hears of it.
//!
//! Two clients with eight workers and a random series of reads and writes (fsx) work on one brick all the time.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::common::brick::Brick;
use crate::common::whole::{check_brick, walk};
use crate::common::{Mounted, Random, can_mount, fsx, needs, rounds, until};
use crate::proxy::{Fault, Proxy, Toward};
use crate::workload::{WORKERS, Workload};

/// Operations between two faults, at most.
const BETWEEN_MAX: u64 = 400;
/// How long connections may take to be broken, each.
const CUT_PATIENCE: Duration = Duration::from_secs(20);
/// Makes a client notice a silent connection early enough for a test.
const PATIENT_CLIENT: &str = "    option ping-timeout 2\n";

/// Hears of each operation of the workers.
pub struct Progress(Receiver<()>);

impl Progress {
    /// Waits for `count` operations.
    fn wait(&self, count: u64) {
        for _ in 0..count {
            self.0.recv_timeout(Duration::from_secs(120)).expect("the workers go on");
        }
    }
}

/// Runs the workload on two mounts while `faults` happen, then checks everything.
fn under(first: &Path, second: &Path, random: &mut Random, faults: impl FnOnce(&Progress, &mut Random)) {
    let workload = Workload::on(first, second);
    let (done, progress) = channel();
    let logs = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (done, seed, workload) = (done.clone(), random.draw(), &workload);
                scope.spawn(move || workload.work(worker, seed, &done))
            })
            .collect();
        let mut for_fsx = Random::from_seed(random.draw());
        let reader_and_writer = {
            let workload = &workload;
            scope.spawn(move || fsx::compare(first, true, &mut for_fsx, |_| workload.stopped()))
        };
        // A fault that fails its test must not leave the workers running.
        let stop = StopAtEnd(&workload);
        let progress = Progress(progress);
        faults(&progress, random);
        // Some more, so that the last fault has an after.
        progress.wait(BETWEEN_MAX);
        drop(stop);
        reader_and_writer.join().expect("fsx");
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect::<Vec<_>>()
    });
    workload.check(&logs);
    walk(second);
}

struct StopAtEnd<'a>(&'a Workload<'a>);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends clients and brick in good order; what is left on disk is whole.
fn end(mounts: &[&Mounted], mut brick: Brick) {
    mounts.iter().for_each(|mount| mount.unmount());
    brick.stop();
    // What was without a name while clients might have come back is let go of when the brick knows that none will.
    brick.start_again();
    let unlinked = brick.directory().join(".glusterfs/unlink");
    until("nothing is kept for clients that are gone", || {
        let left = fs::read_dir(&unlinked).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
    brick.stop();
    if needs("getfattr") {
        check_brick(&brick.directory());
    }
}

/// The control: what the others find is the fault of faults.
#[test]
fn without_a_network_the_workload_finds_nothing_wrong() {
    let Some(mounted) = Mounted::twice() else { return };
    let mut random = Random::from_env();
    under(mounted.path(), mounted.second(), &mut random, |progress, _| progress.wait(20 * BETWEEN_MAX));
}

#[test]
fn a_brick_that_is_killed_again_and_again_does_each_operation_once_and_nobody_notices() {
    if !can_mount() {
        return;
    }
    let Some(mut brick) = Brick::start() else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut random = Random::from_env();
    under(first.path(), second.path(), &mut random, |progress, random| {
        for _ in 0..rounds(5, 200) {
            progress.wait(random.below(BETWEEN_MAX));
            brick.kill9();
            brick.start_again();
        }
    });
    end(&[&first, &second], brick);
}

#[test]
fn connections_that_are_cut_in_every_way_do_each_operation_once_and_nobody_notices() {
    if !can_mount() {
        return;
    }
    let Some(brick) = Brick::start() else { return };
    let proxy = Proxy::to(brick.address());
    let client = brick.client_at(proxy.port(), PATIENT_CLIENT);
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut random = Random::from_env();
    under(first.path(), second.path(), &mut random, |_, random| {
        proxy.chaos(Random::from_seed(random.draw()));
        let cuts = rounds(8, 200);
        for cut in 1..=cuts {
            proxy.wait_for_cuts(cut, CUT_PATIENCE);
        }
        proxy.calm();
    });
    end(&[&first, &second], brick);
}

#[test]
fn each_way_to_break_a_connection_is_survived_by_a_write_that_is_under_way() {
    if !can_mount() {
        return;
    }
    let Some(brick) = Brick::start() else { return };
    let proxy = Proxy::to(brick.address());
    let Some(mount) = Mounted::client(&brick.client_at(proxy.port(), PATIENT_CLIENT), &[]) else { return };
    let content = Random::from_env().bytes(3 << 20);
    let faults = [
        Fault::Reset,
        Fault::Close,
        Fault::Truncate(Toward::Brick, 100_000),
        Fault::Truncate(Toward::Client, 10),
        Fault::Hold(Duration::from_millis(300)),
        Fault::Blackhole,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let path = mount.path().join(format!("f{number}"));
        let mut file = File::create_new(&path).expect("create");
        file.write_all(&content[..1 << 20]).expect("write");
        proxy.strike(fault);
        file.write_all(&content[1 << 20..]).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        file.sync_all().expect("fsync");
        assert!(fs::read(&path).expect("read") == content, "{fault:?}");
        assert!(fs::read(brick.directory().join(format!("f{number}"))).expect("read") == content, "{fault:?}");
    }
}

#[test]
fn a_brick_on_a_unix_socket_that_is_killed_is_found_again() {
    if !can_mount() {
        return;
    }
    let Some(mut brick) = Brick::unix() else { return };
    let Some(mount) = Mounted::client(&brick.client(""), &[]) else { return };
    for round in 0..3 {
        let path = mount.path().join(format!("f{round}"));
        fs::write(&path, "content").expect("write");
        brick.kill9();
        brick.start_again();
        assert_eq!(fs::read_to_string(&path).expect("read"), "content");
    }
    mount.unmount();
}

#[test]
fn an_open_file_without_a_name_outlives_a_kill_of_the_brick() {
    if !can_mount() {
        return;
    }
    let Some(mut brick) = Brick::start() else { return };
    let Some(mount) = Mounted::client(&brick.client(""), &[]) else { return };
    let path = mount.path().join("f");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("create");
    file.write_all(b"before").expect("write");
    fs::remove_file(&path).expect("unlink");
    for round in 0..rounds(2, 20) {
        brick.kill9();
        brick.start_again();
        let more = format!(" and after {round}");
        file.write_all(more.as_bytes()).expect("write");
        let mut content = String::new();
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.read_to_string(&mut content).expect("read");
        assert!(content.starts_with("before") && content.ends_with(&more), "{content}");
        assert!(!path.exists(), "the name stays away");
    }
    drop(file);
    end(&[&mount], brick);
}

#[test]
fn an_open_file_whose_mode_was_taken_away_outlives_a_kill_of_the_brick() {
    if !can_mount() {
        return;
    }
    let Some(mut brick) = Brick::start() else { return };
    let Some(mount) = Mounted::client(&brick.client(""), &[]) else { return };
    let path = mount.path().join("f");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("create");
    let mut locked = file.metadata().expect("fstat").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut locked, 0o000);
    fs::set_permissions(&path, locked).expect("chmod");
    brick.kill9();
    brick.start_again();
    file.write_all(b"as it was opened").expect("write");
    file.sync_all().expect("fsync");
    assert_eq!(fs::read(brick.directory().join("f")).expect("read"), b"as it was opened");
}

#[test]
fn a_brick_that_is_told_to_stop_answers_what_it_was_asked_and_its_clients_go_on_with_the_next() {
    if !can_mount() {
        return;
    }
    let Some(mut brick) = Brick::start() else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut random = Random::from_env();
    under(first.path(), second.path(), &mut random, |progress, random| {
        for _ in 0..rounds(2, 20) {
            progress.wait(random.below(BETWEEN_MAX));
            brick.stop();
            brick.start_again();
        }
    });
    end(&[&first, &second], brick);
}

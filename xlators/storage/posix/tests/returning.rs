//! Clients of a server come back, after its process died, for files that had lost their last name.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use brickwork_api::*;
use common::Brick;

const FOLDER: &str = "BRICKWORK_RETURNING_FOLDER";
const ROOT: Gfid = Gfid::ROOT;

/// One test at a time: a child that another one starts has, between fork and exec, the lock of every brick served here.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(brick: &Brick, operation: &str, argument: &[u8]) -> Result<Bytes, Errno> {
    let (operation, payload) = (operation.to_owned(), Bytes::copy_from_slice(argument));
    let request = IpcReq { operation, payload, xdata: Xdata::EMPTY };
    brick.client.call::<fop::Ipc>(&request).map(|reply| reply.payload)
}

fn folder_of(brick: &Brick, name: &str) -> PathBuf {
    let answer = ask(brick, ipc::WORK_FOLDER, name.as_bytes()).unwrap();
    PathBuf::from(std::str::from_utf8(&answer).unwrap())
}

fn work_folder(brick: &Brick) -> PathBuf {
    folder_of(brick, ipc::SESSIONS)
}

fn unlink_open(brick: &Brick, name: &str) -> OpenFile {
    let file = brick.client.create(ROOT, name).unwrap();
    brick.client.write(file, 0, name.as_bytes()).unwrap();
    brick.client.unlink(ROOT, name).unwrap();
    file
}

/// What lies in `unlink/`.
fn kept(folder: &Path) -> usize {
    std::fs::read_dir(folder.join(".glusterfs/unlink")).map_or(0, Iterator::count)
}

/// Not a test by itself: the process that is killed. Tells the gfids of two files that are open and have no name.
#[test]
fn child_that_has_files_open_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let brick = common::serve(Path::new(&folder));
    std::fs::write(work_folder(&brick).join("records"), "of clients").unwrap();
    for name in ["one", "two"] {
        let file = unlink_open(&brick, name);
        eprintln!("gfid {}", file.gfid);
    }
    // Until the kill.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    panic!("nobody killed this process");
}

/// Serves the folder in a process that is killed with two files open that have no name.
fn serve_and_die(folder: &Path) -> [Gfid; 2] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_has_files_open_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let gfids = lines.filter_map(|line| line.strip_prefix("gfid ").map(|gfid| gfid.parse().unwrap()));
    let gfids: Vec<Gfid> = gfids.take(2).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    gfids.try_into().expect("two gfids from the child")
}

#[test]
fn what_was_open_without_a_name_is_there_after_a_kill_until_all_clients_are_back() {
    let _alone = alone();
    let folder = common::folder();
    let [one, two] = serve_and_die(folder.path());
    let brick = common::serve(folder.path());
    work_folder(&brick);
    let client = &brick.client;

    let attr = client.stat(one).unwrap();
    assert_eq!((attr.size, attr.links), (3, 0));
    let file = client.open(one, libc::O_RDWR).unwrap();
    assert_eq!(&client.read(file, 0, 10).unwrap()[..], b"one");
    assert_eq!(client.write(file, 3, b" more"), Ok(5));
    assert_eq!(client.link(one, ROOT, "again"), Err(Errno::ENOENT));

    // Another client that is not back yet may have had it open as well.
    client.release(file).unwrap();
    let file = client.open(one, libc::O_RDONLY).unwrap();
    assert_eq!(&client.read(file, 0, 10).unwrap()[..], b"one more");

    ask(&brick, ipc::DROP_UNLINKED, b"").unwrap();
    assert_eq!(client.open(two, libc::O_RDONLY), Err(Errno::ESTALE));
    assert_eq!(client.stat(two), Err(Errno::ESTALE));
    assert_eq!(&client.read(file, 0, 10).unwrap()[..], b"one more");
    assert_eq!(kept(folder.path()), 1);
    client.release(file).unwrap();
    assert_eq!(client.stat(one), Err(Errno::ESTALE));
    assert_eq!(kept(folder.path()), 0);
}

#[test]
fn a_file_unlinked_while_clients_are_awaited_is_there_for_who_had_it_open() {
    let _alone = alone();
    let folder = common::folder();
    serve_and_die(folder.path());
    let brick = common::serve(folder.path());
    work_folder(&brick);
    let gfid = brick.client.put(ROOT, "file", b"content").unwrap();
    let other = brick.client.put(ROOT, "other", b"other").unwrap();
    brick.client.unlink(ROOT, "file").unwrap();
    brick.client.put(ROOT, "name", b"").unwrap();
    brick.client.rename((ROOT, "name"), (ROOT, "other"), RenameMode::Replace).unwrap();
    assert_eq!(&brick.client.content(gfid).unwrap()[..], b"content");
    assert_eq!(&brick.client.content(other).unwrap()[..], b"other");

    ask(&brick, ipc::DROP_UNLINKED, b"").unwrap();
    assert_eq!(brick.client.stat(gfid), Err(Errno::ESTALE));
    let gfid = brick.client.put(ROOT, "file", b"content").unwrap();
    brick.client.unlink(ROOT, "file").unwrap();
    assert_eq!(brick.client.stat(gfid), Err(Errno::ESTALE));
    assert_eq!(kept(folder.path()), 0);
}

#[test]
fn a_brick_that_is_served_without_its_server_in_between_keeps_what_was_kept_and_adds_nothing() {
    let _alone = alone();
    let folder = common::folder();
    serve_and_die(folder.path());
    let brick = common::serve(folder.path());
    assert_eq!(kept(folder.path()), 2);
    let gfid = brick.client.put(ROOT, "file", b"content").unwrap();
    brick.client.unlink(ROOT, "file").unwrap();
    assert_eq!(brick.client.stat(gfid), Err(Errno::ESTALE));
    let file = unlink_open(&brick, "open");
    brick.client.release(file).unwrap();
    assert_eq!(kept(folder.path()), 2);
}

#[test]
fn without_records_of_a_server_nothing_is_kept() {
    let _alone = alone();
    let folder = common::folder();
    serve_and_die(folder.path());
    std::fs::remove_file(folder.path().join(".glusterfs/brickwork/work/sessions/records")).unwrap();
    let brick = common::serve(folder.path());
    assert_eq!(kept(folder.path()), 0);
    drop(brick);
    assert!(!folder.path().join(".glusterfs/brickwork").exists());
}

#[test]
fn a_clean_stop_keeps_the_records_and_what_was_open() {
    let _alone = alone();
    let folder = common::folder();
    let brick = common::serve(folder.path());
    let records = work_folder(&brick);
    assert_eq!(records, folder.path().join(".glusterfs/brickwork/work/sessions"));
    assert_eq!(records.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    std::fs::write(records.join("records"), "of clients").unwrap();
    let file = unlink_open(&brick, "file");
    drop(brick);
    assert_eq!(std::fs::read(records.join("records")).unwrap(), b"of clients");
    let brick = common::serve(folder.path());
    assert_eq!(&brick.client.content(file.gfid).unwrap()[..], b"file");
    assert_eq!(brick.xlator.status()["keeps-unlinked-for-clients"], true);
}

#[test]
fn detach_takes_the_records_away_and_what_was_kept() {
    let _alone = alone();
    let folder = common::folder();
    serve_and_die(folder.path());
    let detached = brickwork_posix::detach(folder.path()).unwrap();
    assert!(detached.folder);
    assert_eq!(kept(folder.path()), 0);
    assert!(!folder.path().join(".glusterfs/brickwork").exists());
}

#[test]
fn each_asker_has_a_folder_of_its_own_for_its_owner_only() {
    let _alone = alone();
    let brick = common::fresh();
    let (sessions, locks) = (work_folder(&brick), folder_of(&brick, "locks"));
    assert_eq!(locks, brick.path.join(".glusterfs/brickwork/work/locks"));
    assert_ne!(sessions, locks);
    for folder in [&sessions, &locks, &locks.parent().unwrap().to_owned()] {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o700, "{folder:?}");
    }
    std::fs::write(locks.join("records"), "of locks").unwrap();
    assert_eq!(folder_of(&brick, "locks"), locks, "it is there already");
}

#[test]
fn a_work_folder_that_is_no_plain_component_is_refused_with_einval_and_not_made() {
    let _alone = alone();
    let brick = common::fresh();
    let long = [b'x'; 256];
    for name in [&b""[..], b".", b"..", b"a/b", b"/a", b"a/", b"a\0b", b"\xff\xfe", &long] {
        assert_eq!(ask(&brick, ipc::WORK_FOLDER, name), Err(Errno::EINVAL), "{name:?}");
    }
    assert!(!brick.path.join(".glusterfs/brickwork/work").exists());
    ask(&brick, ipc::WORK_FOLDER, &long[1..]).unwrap();
}

#[test]
fn records_of_others_than_the_server_keep_no_content_and_outlive_a_clean_stop() {
    let _alone = alone();
    let folder = common::folder();
    let brick = common::serve(folder.path());
    let records = folder_of(&brick, "locks").join("records");
    std::fs::write(&records, "of locks").unwrap();
    let file = unlink_open(&brick, "file");
    drop(brick);
    assert_eq!(std::fs::read(&records).unwrap(), b"of locks");
    let brick = common::serve(folder.path());
    assert_eq!(brick.xlator.status()["keeps-unlinked-for-clients"], false);
    assert_eq!(brick.client.stat(file.gfid), Err(Errno::ESTALE));
    assert_eq!(kept(folder.path()), 0);
}

#[test]
fn a_question_nobody_knows_is_refused() {
    let _alone = alone();
    let brick = common::fresh();
    let request = IpcReq { operation: "storage/posix:else".to_owned(), payload: Bytes::new(), xdata: Xdata::EMPTY };
    assert_eq!(brick.client.call::<fop::Ipc>(&request), Err(Errno::EOPNOTSUPP));
}

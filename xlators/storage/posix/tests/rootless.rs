//! The same brick for somebody without privilege.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use brickwork_api::*;
use brickwork_testkit::behaviour::{Subject, run_except};
use brickwork_testkit::client::entry;

const CHILD: &str = "BRICKWORK_ROOTLESS";
const NOBODY: u32 = 65534;

/// Runs the test `name` of this file once more as nobody, unless this is that process; whether it is.
fn as_nobody(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some() || !rustix::process::geteuid().is_root() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn the_brick_keeps_every_promise_without_privilege() {
    if !as_nobody("the_brick_keeps_every_promise_without_privilege") {
        return;
    }
    let make = || {
        let folder = common::folder();
        let brick = common::serve(folder.path());
        Subject::new(Arc::clone(&brick.xlator)).keeping((brick, folder))
    };
    run_except(&make, EXCEPT);
}

/// What only root can have.
const EXCEPT: &[&str] = &[];

#[test]
fn an_object_that_cannot_show_its_gfid_keeps_it() {
    if !as_nobody("an_object_that_cannot_show_its_gfid_keeps_it") {
        return;
    }
    let folder = common::folder();
    let brick = common::serve(folder.path());
    let client = &brick.client;
    let link = client.symlink(Gfid::ROOT, "link", b"text").unwrap().gfid;
    let pipe = client.mknod(Gfid::ROOT, "pipe", libc::S_IFIFO | 0o600).unwrap().gfid;
    let secret = client.put(Gfid::ROOT, "secret", b"content").unwrap();
    let shut = client.mkdir(Gfid::ROOT, "shut").unwrap();
    for gfid in [secret, shut] {
        client.setattr(gfid, AttrChange { mode: Some(0), ..AttrChange::default() }).unwrap();
    }
    let request = CreateReq {
        entry: entry(Gfid::ROOT, "born-secret"),
        gfid: Gfid::random(),
        open: client.fresh_open(),
        flags: libc::O_RDWR as u32,
        mode: 0,
        umask: 0,
        xdata: Xdata::EMPTY,
    };
    let born = client.call::<fop::Create>(&request).unwrap().attr;
    assert_eq!(born.mode, 0);
    drop(brick);
    let brick = common::serve(folder.path());
    let names = [("link", link), ("pipe", pipe), ("secret", secret), ("shut", shut), ("born-secret", born.gfid)];
    for (name, gfid) in names {
        assert_eq!(brick.client.lookup(Gfid::ROOT, name).map(|attr| attr.gfid), Ok(gfid), "{name}");
        assert_eq!(brick.client.stat(gfid).map(|attr| attr.gfid), Ok(gfid), "{name}");
    }
    for (name, _) in names {
        match name {
            "shut" => brick.client.rmdir(Gfid::ROOT, name).unwrap(),
            _ => brick.client.unlink(Gfid::ROOT, name).unwrap(),
        };
    }
    let left = std::fs::read_dir(folder.path().join(".glusterfs/brickwork/inode")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn another_user_is_refused_and_nothing_can_be_given_away() {
    if !as_nobody("another_user_is_refused_and_nothing_can_be_given_away") {
        return;
    }
    let brick = common::fresh();
    let file = brick.client.put(Gfid::ROOT, "file", b"").unwrap();
    let other = Credentials { uid: 4242, gid: 4242, pid: 1, groups: Arc::new([]) };
    let stranger = brickwork_testkit::Client::acting_as(Arc::clone(&brick.xlator), other);
    assert_eq!(stranger.open(file, libc::O_RDONLY).map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.mkdir(Gfid::ROOT, "folder").map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.unlink(Gfid::ROOT, "file").map(drop), Err(Errno::EACCES));
    let given = AttrChange { uid: Some(4242), ..AttrChange::default() };
    assert_eq!(brick.client.setattr(file, given).map(drop), Err(Errno::EPERM));
}

#[test]
fn a_brick_with_trusted_keys_is_not_served_without_privilege() {
    let name = "a_brick_with_trusted_keys_is_not_served_without_privilege";
    const FOLDER: &str = "BRICKWORK_ROOTLESS_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let refused = common::serve_with(folder.as_ref(), &[]).err().unwrap();
        assert!(refused.contains("only a process with CAP_SYS_ADMIN"), "{refused}");
        return;
    }
    if !common::privileged() {
        return;
    }
    let folder = common::folder();
    drop(common::serve(folder.path()));
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .env(FOLDER, folder.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_brick_made_without_privilege_stays_one_when_root_serves_it() {
    if !common::privileged() {
        return;
    }
    let folder = common::folder();
    common::set_xattr(folder.path(), "user.brickwork.gfid", &Gfid::ROOT.to_bytes()).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let brick = common::serve(folder.path());
    brick.client.put(Gfid::ROOT, "file", b"").unwrap();
    let keys = common::xattrs(&folder.path().join("file"));
    assert_eq!(keys, ["user.brickwork.gfid"]);
}

//! Ending a connection from our side alone.
//!
//! In a program of its own: a child that another test starts has, until its exec, copies of our descriptors, which keep
//! the connection up.

mod memfs;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_fuse::{Limits, Mount, MountOptions, Session, Wanted};
use memfs::place::{can_mount, runtime};
use memfs::{MemFs, Served};

/// Without root a detached mount that is still open somewhere lived on for ever, and the session with it: wait() never
/// returned, and the process could not even be killed. Closing our side needs no privilege.
#[test]
fn a_session_that_may_not_force_its_mount_ends_the_connection_by_itself() {
    if !can_mount() {
        return;
    }
    for readers in [1, 2, 4, 9].repeat(5) {
        let folder = tempfile::TempDir::new().unwrap();
        let (fs, runtime) = (Arc::new(MemFs::new()), runtime());
        let (mount, lane) = Mount::new(folder.path(), &MountOptions::default()).unwrap();
        let limits = Limits { readers, ..Limits::default() };
        let handler = Arc::new(Served(fs.clone()));
        let session =
            Session::start(Arc::new(lane), None, &Wanted::default(), limits, handler, runtime.handle()).unwrap();
        let file = File::create_new(folder.path().join("f")).unwrap();
        mount.unmount().unwrap();
        file.metadata().expect("still served");
        session.abort().unwrap();
        session.wait();
        assert!(file.metadata().is_err());
        assert_eq!(fs.seen.ended.load(Ordering::SeqCst), 1);
    }
}

//! What clients have open.
//!
//! An open is found by client and [`OpenId`], and by the object it is on: that tells `unlink` to keep the content, and
//! answers fops by gfid on an object that has lost its last name.
//!
//! An [`OpenId`] that is in use is not given twice: `EEXIST`. One that is unknown, or that was given for another object, is
//! `EBADF`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use brickwork_api::{ClientId, Errno, FopResult, Gfid, OpenId};
use parking_lot::Mutex;
use rustix::fs::OFlags;

use crate::dir::Stream;

const SHARDS: usize = 64;

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) gfid: Gfid,
    pub(crate) fd: OwnedFd,
    pub(crate) flags: OFlags,
    /// Where a directory is read; `None` for files.
    pub(crate) stream: Option<Mutex<Stream>>,
    /// Its content is kept below `unlink/` until the last of its opens goes.
    pub(crate) parked: AtomicBool,
    buffered: OnceLock<OwnedFd>,
}

impl Open {
    pub(crate) fn file(gfid: Gfid, fd: OwnedFd, flags: OFlags) -> Open {
        Open { gfid, fd, flags, stream: None, parked: AtomicBool::new(false), buffered: OnceLock::new() }
    }

    pub(crate) fn directory(gfid: Gfid, fd: OwnedFd) -> Open {
        let stream = Some(Mutex::default());
        Open { stream, ..Open::file(gfid, fd, OFlags::RDONLY | OFlags::DIRECTORY) }
    }

    /// Whether the caller asked for the right to read; the descriptor may be able to do more.
    pub(crate) fn reads(&self) -> bool {
        self.stream.is_none() && self.flags & OFlags::ACCMODE != OFlags::WRONLY
    }

    /// Whether the caller asked for the right to write.
    pub(crate) fn writes(&self) -> bool {
        self.stream.is_none() && self.flags & OFlags::ACCMODE != OFlags::RDONLY
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.flags.contains(OFlags::DIRECT)
    }

    /// The file opened once more without `O_DIRECT`, for transfers that the device cannot do directly.
    pub(crate) fn buffered(&self) -> FopResult<BorrowedFd<'_>> {
        if self.buffered.get().is_none() {
            let flags = (self.flags - OFlags::DIRECT) | OFlags::CLOEXEC;
            let path = crate::sys::proc_path(self.fd.as_fd());
            let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
            // Another thread may have been first; then ours is closed again.
            let _ = self.buffered.set(fd);
        }
        Ok(self.buffered.get().expect("set above").as_fd())
    }
}

type ById = HashMap<(ClientId, OpenId), Arc<Open>>;
type ByGfid = HashMap<Gfid, Vec<Arc<Open>>>;

/// All opens of a brick.
#[derive(Debug)]
pub(crate) struct Opens {
    by_id: [Mutex<ById>; SHARDS],
    by_gfid: [Mutex<ByGfid>; SHARDS],
    hasher: RandomState,
    count: AtomicUsize,
}

impl Opens {
    pub(crate) fn new() -> Opens {
        Opens {
            by_id: std::array::from_fn(|_| Mutex::default()),
            by_gfid: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether `id` is free for a new open of `client`.
    pub(crate) fn check_free(&self, client: ClientId, id: OpenId) -> FopResult<()> {
        match self.ids((client, id)).lock().contains_key(&(client, id)) {
            true => Err(Errno::EEXIST.into()),
            false => Ok(()),
        }
    }

    /// Takes `open` in under `id`.
    pub(crate) fn insert(&self, client: ClientId, id: OpenId, open: Open) -> FopResult<()> {
        let open = Arc::new(open);
        let mut ids = self.ids((client, id)).lock();
        if ids.contains_key(&(client, id)) {
            return Err(Errno::EEXIST.into());
        }
        self.gfids(open.gfid).lock().entry(open.gfid).or_default().push(Arc::clone(&open));
        ids.insert((client, id), open);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The open `id` of `client`, which must be on `gfid`.
    pub(crate) fn get(&self, client: ClientId, gfid: Gfid, id: OpenId) -> FopResult<Arc<Open>> {
        match self.ids((client, id)).lock().get(&(client, id)) {
            Some(open) if open.gfid == gfid => Ok(Arc::clone(open)),
            _ => Err(Errno::EBADF.into()),
        }
    }

    /// Lets `id` on `gfid` go, and returns the open if it was the last one of its object. One on another object stays.
    pub(crate) fn remove(&self, client: ClientId, gfid: Gfid, id: OpenId) -> Option<Arc<Open>> {
        let open = {
            let mut ids = self.ids((client, id)).lock();
            ids.get(&(client, id)).filter(|open| open.gfid == gfid)?;
            ids.remove(&(client, id))?
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut gfids = self.gfids(open.gfid).lock();
        let others = gfids.get_mut(&open.gfid)?;
        others.retain(|other| !Arc::ptr_eq(other, &open));
        if !others.is_empty() {
            return None;
        }
        gfids.remove(&open.gfid);
        Some(open)
    }

    /// Some open of `gfid`.
    pub(crate) fn of(&self, gfid: Gfid) -> Option<Arc<Open>> {
        self.gfids(gfid).lock().get(&gfid).and_then(|opens| opens.first()).cloned()
    }

    /// Notes on every open of `gfid` that the content is parked.
    pub(crate) fn park(&self, gfid: Gfid) {
        for open in self.gfids(gfid).lock().get(&gfid).into_iter().flatten() {
            open.parked.store(true, Ordering::Release);
        }
    }

    fn ids(&self, key: (ClientId, OpenId)) -> &Mutex<ById> {
        &self.by_id[self.shard(key)]
    }

    fn gfids(&self, gfid: Gfid) -> &Mutex<ByGfid> {
        &self.by_gfid[self.shard(gfid)]
    }

    fn shard(&self, key: impl Hash) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(gfid: Gfid) -> Open {
        let fd = rustix::fs::open("/dev/null", OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        Open::file(gfid, fd, OFlags::RDONLY)
    }

    #[test]
    fn an_id_in_use_is_refused_and_one_of_another_client_is_not() {
        let (opens, gfid) = (Opens::new(), Gfid::random());
        opens.insert(ClientId(1), OpenId(7), open(gfid)).unwrap();
        assert_eq!(opens.insert(ClientId(1), OpenId(7), open(gfid)).unwrap_err().errno(), Errno::EEXIST);
        opens.insert(ClientId(2), OpenId(7), open(gfid)).unwrap();
        assert_eq!(opens.count(), 2);
    }

    #[test]
    fn an_id_of_another_object_is_no_open_of_this_one() {
        let (opens, gfid) = (Opens::new(), Gfid::random());
        opens.insert(ClientId(1), OpenId(7), open(gfid)).unwrap();
        assert_eq!(opens.get(ClientId(1), Gfid::random(), OpenId(7)).unwrap_err().errno(), Errno::EBADF);
        assert!(opens.get(ClientId(1), gfid, OpenId(7)).is_ok());
    }

    #[test]
    fn only_the_last_open_of_an_object_is_handed_back() {
        let (opens, gfid) = (Opens::new(), Gfid::random());
        opens.insert(ClientId(1), OpenId(1), open(gfid)).unwrap();
        opens.insert(ClientId(1), OpenId(2), open(gfid)).unwrap();
        assert!(opens.remove(ClientId(1), gfid, OpenId(1)).is_none());
        assert!(opens.remove(ClientId(1), Gfid::random(), OpenId(2)).is_none());
        assert!(opens.of(gfid).is_some());
        assert!(opens.remove(ClientId(1), gfid, OpenId(2)).is_some());
        assert!(opens.of(gfid).is_none());
        assert!(opens.remove(ClientId(1), gfid, OpenId(2)).is_none());
        assert_eq!(opens.count(), 0);
    }
}

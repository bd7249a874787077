//! What applications have open through this mount, and where each listing of a directory stands.
//!
//! Reads and writes do not come here: they carry the number of the open, which is all a fop needs. The table is there
//! for what must outlive a request: releasing everything when the mount ends, and moving it to another graph.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use brickwork_api::{DirEntry, Gfid, OpenFile, OpenId};
use brickwork_fuse::Fh;
use parking_lot::Mutex;

use crate::coherence::Moment;

const SHARDS: usize = 16;

/// One open file or directory.
pub(crate) enum Open {
    /// A file.
    File {
        gfid: Gfid,
        /// The kernel caches what is read and written through it.
        keeps_pages: bool,
        /// Locks were asked for through it.
        has_locks: bool,
        /// A lock that was taken through it is gone: the brick answers EIO until it is closed.
        lost: bool,
    },
    /// A directory.
    Directory {
        gfid: Gfid,
        /// Entries that were read from the graph and had no room in the kernel's buffer.
        rest: Rest,
        /// When the last listing that was answered was asked for, until it is known that the kernel has taken it in.
        listed: Option<Moment>,
    },
}

/// The entries after the last one that the kernel took.
#[derive(Default)]
pub(crate) struct Rest {
    /// The offset at which the kernel goes on when it takes them.
    pub(crate) at: u64,
    pub(crate) entries: Vec<DirEntry>,
    /// There are no entries, and none follow.
    pub(crate) last: bool,
}

/// Everything that is open.
pub(crate) struct Opens {
    shards: [Mutex<HashMap<u64, Open>>; SHARDS],
    /// How many opens of an object have lost a lock.
    lost: Mutex<HashMap<Gfid, usize>>,
    lost_count: AtomicUsize,
}

impl Opens {
    pub(crate) fn new() -> Opens {
        Opens { shards: Default::default(), lost: Mutex::default(), lost_count: AtomicUsize::new(0) }
    }

    /// Notes that `file` is open; call it before the reply leaves.
    pub(crate) fn insert_file(&self, file: OpenFile, keeps_pages: bool) {
        self.shard(file.open.0)
            .lock()
            .insert(file.open.0, Open::File { gfid: file.gfid, keeps_pages, has_locks: false, lost: false });
    }

    /// Whether the kernel caches what is read and written through `open`.
    pub(crate) fn keeps_pages(&self, open: OpenId) -> bool {
        matches!(self.shard(open.0).lock().get(&open.0), Some(Open::File { keeps_pages: true, .. }))
    }

    /// Notes that locks are asked for through `open`.
    pub(crate) fn asks_for_locks(&self, open: OpenId) {
        if let Some(Open::File { has_locks, .. }) = self.shard(open.0).lock().get_mut(&open.0) {
            *has_locks = true;
        }
    }

    /// Whether locks were asked for through `open`.
    pub(crate) fn has_locks(&self, open: OpenId) -> bool {
        matches!(self.shard(open.0).lock().get(&open.0), Some(Open::File { has_locks: true, .. }))
    }

    /// Notes that a lock that was taken through `open` is gone; whether that is news.
    pub(crate) fn lose(&self, open: OpenId) -> bool {
        let mut shard = self.shard(open.0).lock();
        let Some(Open::File { gfid, lost, .. }) = shard.get_mut(&open.0) else { return false };
        if std::mem::replace(lost, true) {
            return false;
        }
        // Under the shard's mutex: its end finds it counted.
        *self.lost.lock().entry(*gfid).or_default() += 1;
        self.lost_count.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Whether an open of `gfid` has lost a lock: the kernel is to keep no page of it, which it would show through that
    /// open, too.
    pub(crate) fn any_lost(&self, gfid: Gfid) -> bool {
        self.lost_count.load(Ordering::SeqCst) > 0 && self.lost.lock().contains_key(&gfid)
    }

    /// Notes that a listing of `fh`, asked for at `since`, is about to be answered.
    pub(crate) fn lists(&self, fh: Fh, since: Moment) {
        if let Some(Open::Directory { listed, .. }) = self.shard(fh.0).lock().get_mut(&fh.0) {
            *listed = Some(since);
        }
    }

    /// When the last listing of `fh` was asked for; the kernel has taken it in, as it asks for more.
    pub(crate) fn take_listed(&self, fh: Fh) -> Option<Moment> {
        match self.shard(fh.0).lock().get_mut(&fh.0) {
            Some(Open::Directory { listed, .. }) => listed.take(),
            _ => None,
        }
    }

    /// Notes that the directory `file` is open; call it before the reply leaves.
    pub(crate) fn insert_directory(&self, file: OpenFile) {
        let open = Open::Directory { gfid: file.gfid, rest: Rest::default(), listed: None };
        self.shard(file.open.0).lock().insert(file.open.0, open);
    }

    /// Notes that an open has ended.
    pub(crate) fn remove(&self, fh: Fh) {
        let mut shard = self.shard(fh.0).lock();
        if let Some(Open::File { gfid, lost: true, .. }) = shard.remove(&fh.0) {
            let mut lost = self.lost.lock();
            if let Some(count) = lost.get_mut(&gfid) {
                *count -= 1;
                if *count == 0 {
                    lost.remove(&gfid);
                }
            }
            self.lost_count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Takes the entries that the last listing of `fh` left, if it goes on at `offset`; drops others.
    pub(crate) fn take_rest(&self, fh: Fh, offset: u64) -> Option<Rest> {
        match self.shard(fh.0).lock().get_mut(&fh.0) {
            Some(Open::Directory { rest, .. }) => {
                Some(std::mem::take(rest)).filter(|rest| offset != 0 && rest.at == offset)
            }
            _ => None,
        }
    }

    /// Keeps the entries that had no room for the next listing of `fh`.
    pub(crate) fn keep_rest(&self, fh: Fh, kept: Rest) {
        if let Some(Open::Directory { rest, .. }) = self.shard(fh.0).lock().get_mut(&fh.0) {
            *rest = kept;
        }
    }

    /// How many files and how many directories are open.
    pub(crate) fn count(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(files, directories), shard| {
            let shard = shard.lock();
            let here = shard.values().filter(|open| matches!(open, Open::File { .. })).count();
            (files + here, directories + shard.len() - here)
        })
    }

    /// Takes everything out: the mount has ended and no RELEASE comes. `true` marks directories.
    pub(crate) fn clear(&self) -> Vec<(OpenFile, bool)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().drain().map(|(number, open)| match open {
                Open::File { gfid, .. } => (OpenFile { gfid, open: OpenId(number) }, false),
                Open::Directory { gfid, .. } => (OpenFile { gfid, open: OpenId(number) }, true),
            }));
        }
        all
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Open>> {
        &self.shards[number as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(number: u64) -> OpenFile {
        OpenFile { gfid: Gfid::ROOT, open: OpenId(number) }
    }

    #[test]
    fn the_rest_of_a_listing_is_given_to_the_one_that_goes_on_and_to_no_other() {
        let opens = Opens::new();
        let directory = open(1);
        opens.insert_directory(directory);
        let fh = Fh(directory.open.0);
        let rest = || Rest { at: 5, entries: Vec::new(), last: true };
        opens.keep_rest(fh, rest());
        assert!(opens.take_rest(fh, 5).is_some_and(|rest| rest.last));
        assert!(opens.take_rest(fh, 5).is_none(), "taken twice");
        opens.keep_rest(fh, rest());
        assert!(opens.take_rest(fh, 0).is_none(), "a rewound listing starts anew");
        assert!(opens.take_rest(fh, 5).is_none(), "and what was kept is gone");
    }

    #[test]
    fn a_file_with_a_lost_lock_keeps_no_pages_until_the_last_such_open_is_closed() {
        let opens = Opens::new();
        let (first, second, closed) = (open(1), open(2), open(3));
        opens.insert_file(first, true);
        opens.insert_file(second, true);
        assert!(!opens.lose(closed.open) && !opens.any_lost(Gfid::ROOT));
        assert!(opens.lose(first.open) && !opens.lose(first.open) && opens.lose(second.open));
        opens.remove(Fh(first.open.0));
        assert!(opens.any_lost(Gfid::ROOT) && !opens.any_lost(Gfid::random()));
        opens.remove(Fh(second.open.0));
        assert!(!opens.any_lost(Gfid::ROOT));
    }

    #[test]
    fn the_end_of_the_mount_finds_everything_that_is_open() {
        let opens = Opens::new();
        let (file, directory, closed) = (open(1), open(2), open(3));
        opens.insert_file(file, true);
        assert!(opens.keeps_pages(file.open) && !opens.keeps_pages(directory.open));
        opens.insert_directory(directory);
        opens.insert_file(closed, false);
        assert!(!opens.keeps_pages(closed.open));
        opens.remove(Fh(closed.open.0));
        assert_eq!(opens.count(), (1, 1));
        let mut all = opens.clear();
        all.sort_unstable_by_key(|(file, _)| file.open);
        assert_eq!(all, [(file, false), (directory, true)]);
        assert_eq!(opens.count(), (0, 0));
    }
}

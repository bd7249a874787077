//! Extended attributes that are questions: GlusterFS's way to clear locks, and lockinfo.

use std::path::Path;

use brickwork_api::locks::LostBy;
use brickwork_api::ranges::ByteRange;
use brickwork_api::{Bytes, Cx, Errno, FopError, FopResult, Gfid, LkKind, Target};

use crate::brick::Brick;
use crate::rules::clrlk::{ClearLocks, What};
use crate::rules::lockinfo::{Lockinfo, LockinfoKey};
use crate::rules::xlator_locks::Scope;
use crate::store::{KINDS, Shard};
use crate::table::{LockId, OwnerKey, Table, WaiterId};
use crate::waits::{Outcome, Queue};

/// Which locks an open holds, for the graph that takes it over.
pub(crate) const LOCKINFO: &[u8] = b"trusted.glusterfs.lockinfo";
/// The file of its secret in the folder of the locks.
const KEY_FILE: &str = "lockinfo.key";

impl Brick {
    /// Answers an attribute that is a question; `None` for all others.
    pub(crate) fn virtual_xattr(&self, cx: &Cx, target: Target, name: &[u8]) -> Option<FopResult<Bytes>> {
        if name == LOCKINFO {
            return Some(self.lockinfo(cx, target));
        }
        match ClearLocks::parse(name) {
            Ok(None) => None,
            Ok(Some(clear)) => Some(self.clear(cx, target.gfid, &clear)),
            Err(error) => Some(Err(FopError::new(Errno::EINVAL).doing("clearing locks").with("reason", error))),
        }
    }

    fn lockinfo(&self, cx: &Cx, target: Target) -> FopResult<Bytes> {
        let open =
            target.open.ok_or_else(|| FopError::new(Errno::EINVAL).doing("asking for lockinfo without an open"))?;
        let shard = self.store.shard(target.gfid);
        let of = |table: &Table| {
            let theirs = |owner: OwnerKey| self.store.clients.owner(owner).client.id == cx.client();
            table.locks().filter(|lock| lock.tag.open == open && theirs(lock.owner)).count()
        };
        let inode = shard.inode(target.gfid);
        let count: usize = KINDS.iter().filter_map(|kind| inode.and_then(|inode| inode.table(*kind))).map(of).sum();
        if count == 0 {
            return Err(Errno::ENODATA.into());
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(self.key().seal(&Lockinfo { client: cx.client(), gfid: target.gfid, open, count }).into())
    }

    /// Takes a lockinfo that was given out for another incarnation of the same client. Its locks belong to the client and to its
    /// open id, so nothing moves; nothing is stored either.
    ///
    /// # Errors
    /// `EACCES` when it was not made here or not for this client, `EINVAL` when it is none.
    pub(crate) fn set_lockinfo(&self, cx: &Cx, gfid: Gfid, value: &[u8]) -> FopResult<()> {
        let opened = self.key().open(value, cx.client(), gfid);
        opened.map(drop).map_err(|refused| {
            FopError::new(refused.errno()).doing("binding locks to an open").with("reason", refused.word())
        })
    }

    /// Clears locks as GlusterFS's tools ask: waiters are answered, held locks go and their opens are fenced.
    fn clear(&self, cx: &Cx, gfid: Gfid, clear: &ClearLocks) -> FopResult<Bytes> {
        if cx.credentials.uid != 0 {
            return Err(FopError::new(Errno::EPERM).doing("clearing locks"));
        }
        let (waiters, held) = match &clear.what {
            What::Posix(range) => self.clear_lks(gfid, range.unwrap_or(ByteRange::ALL), clear),
            What::Inode(range) => self.clear_between(gfid, clear, &|scope| match scope {
                Scope::Range(locked) => range.is_none_or(|range| range.overlaps(*locked)),
                Scope::Name(_) | Scope::AllNames => false,
            }),
            What::Entry(name) => self.clear_between(gfid, clear, &|scope| match scope {
                Scope::Range(_) => false,
                Scope::AllNames => true,
                Scope::Name(locked) => name.as_ref().is_none_or(|name| name == locked),
            }),
        };
        tracing::warn!(brick = &*self.name, %gfid, waiters, held, "locks were cleared by an extended attribute");
        Ok(clear.answer(waiters, held).into_bytes().into())
    }

    fn clear_lks(&self, gfid: Gfid, range: ByteRange, clear: &ClearLocks) -> (usize, usize) {
        let (mut waiters, mut held) = (0, 0);
        for kind in KINDS {
            // Waiters first: they would be granted what goes.
            let (ids, _) = in_range(&self.store.shard(gfid), gfid, kind, range);
            if clear.which.waiters() {
                let queue = Queue::Lk(kind);
                waiters += ids.iter().filter(|id| self.end_wait(gfid, queue, **id, Outcome::Gone)).count();
            }
            if clear.which.held() {
                (_, _) = self.change(gfid, |shard, journal, news| {
                    let (_, owners) = in_range(shard, gfid, kind, range);
                    for owner in owners {
                        let table = shard.inode(gfid).and_then(|inode| inode.table(kind));
                        let count = table.map_or(0, |table| table.overlapping(owner, range).len());
                        let taken = self.take(shard, journal, (gfid, kind, owner), range, (LostBy::Drop, true), news);
                        held += if taken.is_ok() { count } else { 0 };
                    }
                    ((), None)
                });
            }
        }
        (waiters, held)
    }

    fn clear_between(&self, gfid: Gfid, clear: &ClearLocks, means: &dyn Fn(&Scope) -> bool) -> (usize, usize) {
        let shard = self.store.shard(gfid);
        let between = shard.inode(gfid).and_then(|inode| inode.between());
        let waiting: Vec<WaiterId> = between.map_or_else(Vec::new, |between| {
            between.waiters().filter(|(_, one)| means(&one.request.scope)).map(|(_, one)| one.id).collect()
        });
        let locks: Vec<LockId> = between.map_or_else(Vec::new, |between| {
            between.locks().filter(|(_, one)| means(&one.request.scope)).map(|(_, one)| one.id).collect()
        });
        drop(shard);
        let (mut waiters, mut held) = (0, 0);
        if clear.which.waiters() {
            waiters = waiting.iter().filter(|id| self.end_wait(gfid, Queue::Between, **id, Outcome::Gone)).count();
        }
        if clear.which.held() {
            held = locks.iter().filter(|id| self.take_between(gfid, **id)).count();
        }
        (waiters, held)
    }

    fn key(&self) -> &LockinfoKey {
        self.lockinfo.get_or_init(|| LockinfoKey::new(random()))
    }

    /// Takes the secret that was drawn when these locks were kept first.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn read_key(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(KEY_FILE);
        let secret = match std::fs::read(&path) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes)
                .map_err(|_| format!("{} is not the 32 bytes that it should be; remove it", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let secret = random();
                write_once(&path, &secret).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
                secret
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        // A brick starts once.
        let _ = self.lockinfo.set(LockinfoKey::new(secret));
        Ok(())
    }
}

/// Who waits for a part of a range, and who holds one.
fn in_range(shard: &Shard, gfid: Gfid, kind: LkKind, range: ByteRange) -> (Vec<WaiterId>, Vec<OwnerKey>) {
    let Some(table) = shard.inode(gfid).and_then(|inode| inode.table(kind)) else { return Default::default() };
    let waiters = table.waiters().filter(|waiter| waiter.ask.range.overlaps(range)).map(|waiter| waiter.id).collect();
    let mut owners: Vec<OwnerKey> =
        table.locks().filter(|lock| lock.range.overlaps(range)).map(|lock| lock.owner).collect();
    owners.sort_unstable();
    owners.dedup();
    (waiters, owners)
}

/// Writes a file whole or not at all, for its owner only.
fn write_once(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers");
    bytes
}

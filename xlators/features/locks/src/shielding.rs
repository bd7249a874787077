//! I/O that a lock keeps away (`mandatory-locking`), and files on which the newest lock wins (`enforce-mandatory-lock`).
//!
//! Neither is the default, and then no I/O comes here.

use brickwork_api::locks::LostBy;
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    Cx, Errno, FopError, FopResult, GetxattrReq, Gfid, LkKind, OpenFile, OpenId, StatReq, Target, XattrName, Xdata,
};

use crate::brick::Brick;
use crate::record::Lk;
use crate::rules::mandatory::{
    Access, Actor, ENFORCE, InTheWay, Mandatory, Standing, Whose, covers, is_internal, judge_enforced, preempts,
};
use crate::table::{Lock, OwnerKey};
use crate::waits::{Outcome, Queue};

/// As in Linux on every architecture that we run on.
const O_TRUNC: u32 = 0o1000;

/// An I/O on an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Io {
    pub(crate) gfid: Gfid,
    pub(crate) open: Option<OpenId>,
    pub(crate) range: Option<ByteRange>,
    pub(crate) access: Access,
}

impl Io {
    /// Reads `length` bytes.
    pub(crate) fn read(file: OpenFile, offset: u64, length: u64) -> Io {
        Io { access: Access::Read, ..Io::write(file, offset, length) }
    }

    /// Changes `length` bytes.
    pub(crate) fn write(file: OpenFile, offset: u64, length: u64) -> Io {
        let range = ByteRange::new(offset, offset.saturating_add(length));
        Io { gfid: file.gfid, open: Some(file.open), range, access: Access::Write }
    }

    /// Changes everything from an offset on.
    pub(crate) fn to_end(target: Target, offset: u64) -> Io {
        Io { gfid: target.gfid, open: target.open, range: ByteRange::new(offset, u64::MAX), access: Access::Write }
    }

    /// Opens, and with `O_TRUNC` empties. The open is new: no fence is for it.
    pub(crate) fn open(file: OpenFile, flags: u32) -> Io {
        let empties = flags & O_TRUNC != 0;
        let range = empties.then_some(ByteRange::ALL);
        Io { gfid: file.gfid, open: None, range, access: Access::Write }
    }

    /// Touches no bytes.
    pub(crate) fn none(file: OpenFile) -> Io {
        Io { gfid: file.gfid, open: Some(file.open), range: None, access: Access::Read }
    }
}

impl Brick {
    /// Whether I/O has to be looked at.
    pub(crate) fn shields(&self) -> bool {
        let options = self.options.load();
        options.mandatory != Mandatory::Off || options.enforce
    }

    /// Whether an I/O may be done.
    ///
    /// # Errors
    /// `EAGAIN` or `EBUSY`: a lock is in its way. It is not waited for, as the one who holds it may be waiting for this very I/O.
    pub(crate) async fn admit_io(&self, cx: &Cx, io: Io) -> FopResult<()> {
        let Some(range) = io.range else { return Ok(()) };
        let options = self.options.load();
        let actor =
            Actor { owner_known: !cx.lk_owner.as_bytes().is_empty(), internal: is_internal(cx.credentials.pid) };
        if options.enforce && self.is_enforced(cx, io.gfid).await? {
            let standing = self.standing(cx, io, range);
            return judge_enforced(actor, io.access, standing).map_err(|errno| in_the_way(errno, io));
        }
        if options.mandatory == Mandatory::Off || !self.any_lock(io.gfid) {
            return Ok(());
        }
        if options.mandatory == Mandatory::File && !self.is_marked(cx, io, options.mandatory).await? {
            return Ok(());
        }
        // Keys of owners are good meanwhile.
        let _held = self.ledger().hold();
        for lock in self.overlapping(io.gfid, range) {
            let lock = InTheWay { whose: self.whose(cx, io, &lock), mode: lock.mode, mandatory: lock.tag.mandatory };
            options.mandatory.judge(actor, io.access, lock).map_err(|errno| in_the_way(errno, io))?;
        }
        Ok(())
    }

    /// On a file with the fencing xattr a new lock takes everything from all others.
    pub(crate) async fn preempt(&self, cx: &Cx, asks: &Lk) -> FopResult<()> {
        if !self.options.load().enforce || !self.is_enforced(cx, asks.gfid).await? {
            return Ok(());
        }
        let client = self.store.clients.calling(asks.client)?;
        let (waiters, _) = self.change(asks.gfid, |shard, held, news| {
            let own = self.store.clients.known_key(&client, &asks.owner);
            let whose = |owner: OwnerKey| if Some(owner) == own { Whose::Own } else { Whose::Other };
            let table = shard.inode(asks.gfid).and_then(|inode| inode.table(asks.kind));
            let (mut holders, waiters): (Vec<OwnerKey>, Vec<_>) = table.map_or_else(Default::default, |table| {
                let others = table.waiters().filter(|one| preempts(whose(one.ask.owner))).map(|one| one.id);
                (
                    table.locks().map(|lock| lock.owner).filter(|owner| preempts(whose(*owner))).collect(),
                    others.collect(),
                )
            });
            holders.sort_unstable();
            holders.dedup();
            for owner in holders {
                // Releasing whole ranges needs no room.
                let _ =
                    self.take(shard, held, (asks.gfid, asks.kind, owner), ByteRange::ALL, (LostBy::Fence, true), news);
            }
            (waiters, None)
        });
        for id in waiters {
            self.end_wait(asks.gfid, Queue::Lk(asks.kind), id, Outcome::Fenced);
        }
        Ok(())
    }

    async fn is_enforced(&self, cx: &Cx, gfid: Gfid) -> FopResult<bool> {
        let cx = Cx::internal(cx.client(), cx.host.clone());
        let name = XattrName::new(ENFORCE.as_bytes())?;
        let request = GetxattrReq { target: Target { gfid, open: None }, name, xdata: Xdata::EMPTY };
        match self.child.getxattr(&cx, &request).await {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Errno::ENODATA => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn is_marked(&self, cx: &Cx, io: Io, mandatory: Mandatory) -> FopResult<bool> {
        let cx = Cx::internal(cx.client(), cx.host.clone());
        let request = StatReq { target: Target { gfid: io.gfid, open: io.open }, xdata: Xdata::EMPTY };
        Ok(mandatory.applies(self.child.stat(&cx, &request).await?.attr.mode))
    }

    fn any_lock(&self, gfid: Gfid) -> bool {
        self.store.shard(gfid).inode(gfid).is_some()
    }

    fn overlapping(&self, gfid: Gfid, range: ByteRange) -> Vec<Lock> {
        let shard = self.store.shard(gfid);
        let table = shard.inode(gfid).and_then(|inode| inode.table(LkKind::Posix));
        table.map_or_else(Vec::new, |table| table.locks().filter(|lock| lock.range.overlaps(range)).collect())
    }

    fn whose(&self, cx: &Cx, io: Io, lock: &Lock) -> Whose {
        let owner = self.store.clients.owner(lock.owner);
        match owner.client.id == cx.client() {
            true if owner.name == cx.lk_owner => Whose::Own,
            true if Some(lock.tag.open) == io.open => Whose::SameOpen,
            _ => Whose::Other,
        }
    }

    fn standing(&self, cx: &Cx, io: Io, range: ByteRange) -> Standing {
        let actor = Actor { owner_known: !cx.lk_owner.as_bytes().is_empty(), internal: false };
        let _held = self.ledger().hold();
        let mut own: Vec<ByteRange> = self
            .overlapping(io.gfid, range)
            .iter()
            .filter(|lock| actor.holds(self.whose(cx, io, lock)))
            .map(|lock| lock.range)
            .collect();
        own.sort_unstable();
        if covers(own, range) { Standing::Covered } else { Standing::Uncovered }
    }
}

fn in_the_way(errno: Errno, io: Io) -> FopError {
    FopError::new(errno).doing("reading or writing what another owner has locked").with("gfid", io.gfid)
}

//! Open directories and their listings.
//!
//! Bricks list neither `.` nor `..`; they are made here. To the kernel offset 1 is behind `.` and 2 behind `..`, where
//! the brick's listing begins. A brick's own offsets pass as they are, but for 1 and 2, which change places with two of
//! the highest: file systems have either small numbers in sequence or hashes, and not both of them.

use std::sync::Arc;

use brickwork_api::{
    Attr, DirEntry, Errno, FopError, FopKind, FsyncdirReq, Gfid, OpenFile, OpendirReq, ReaddirReq, ReaddirplusReq,
    StatReq, Target, Xdata, fop,
};
use brickwork_fuse::abi::OpenFlags;
use brickwork_fuse::request::ReadRequest;
use brickwork_fuse::{
    Delivery, DirectoryBuffer, DirectoryPlusBuffer, Entry, Fh, FileKind, Handled, NodeId, Opened, Reply,
};

use super::or_refuse;
use crate::coherence::Freshness;
use crate::convert;
use crate::front::{Caller, Front, Work};
use crate::opens::Rest;

/// Behind `.`.
const AFTER_DOT: u64 = 1;
/// Behind `..`: the start of the brick's listing.
const AFTER_DOT_DOT: u64 = 2;
/// Where a brick's offset 0 would be if it were moved; 1 and 2 are moved to the numbers that follow.
const MOVED: u64 = i64::MAX as u64 - 16;

/// The kernel's number for a brick's offset.
///
/// # Errors
/// `EIO` for one of the two numbers in the world that cannot be said.
fn offset_to_kernel(next: u64) -> Result<u64, FopError> {
    match next {
        1 | 2 => Ok(MOVED + next),
        _ if next == 0 || next == MOVED + 1 || next == MOVED + 2 => {
            Err(FopError::new(Errno::EIO).doing("listing a directory").with("impossible-offset", next))
        }
        _ => Ok(next),
    }
}

/// The brick's offset behind a number that the kernel was given; at least [`AFTER_DOT_DOT`].
fn offset_to_brick(offset: u64) -> u64 {
    match offset {
        AFTER_DOT_DOT => 0,
        _ if offset == MOVED + 1 || offset == MOVED + 2 => offset - MOVED,
        _ => offset,
    }
}

/// The reply being filled, with or without attributes.
enum Filling {
    Names(DirectoryBuffer),
    Plus {
        buffer: DirectoryPlusBuffer,
        /// What the kernel is told of: to be taken back if it does not take the reply.
        told: Vec<NodeId>,
    },
}

impl Filling {
    fn new(size: u32, plus: bool) -> Filling {
        if plus {
            Filling::Plus { buffer: DirectoryPlusBuffer::new(size), told: Vec::new() }
        } else {
            Filling::Names(DirectoryBuffer::new(size))
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Filling::Names(buffer) => buffer.is_empty(),
            Filling::Plus { buffer, .. } => buffer.is_empty(),
        }
    }

    /// Appends `.` or `..`, which count no lookup.
    fn push_dot(&mut self, ino: u64, offset: u64, name: &[u8]) -> bool {
        match self {
            Filling::Names(buffer) => buffer.push(ino, offset, FileKind::Directory, name),
            Filling::Plus { buffer, .. } => buffer.push(None, ino, offset, FileKind::Directory, name),
        }
    }
}

/// One listing request on its way.
struct Listing {
    directory: OpenFile,
    read: ReadRequest,
    plus: bool,
    /// What `..` is.
    parent: Gfid,
}

impl Front {
    /// OPENDIR.
    pub(crate) fn opendir(self: &Arc<Front>, caller: Caller, node: NodeId, reply: Reply) -> Handled {
        let gfid = or_refuse!(self, reply, self.gfid(node));
        self.fops(caller, reply, move |front, caller, reply| async move {
            let file = OpenFile { gfid, open: front.client.fresh_open() };
            let owner = caller.again();
            let (result, fresh) = {
                let work = front.begin(caller).await;
                (work.call::<fop::Opendir>(&OpendirReq { file, xdata: Xdata::EMPTY }).await, work.freshness())
            };
            if let Err(error) = result {
                return front.refuse(FopKind::Opendir, &error, reply);
            }
            front.opens.insert_directory(file);
            // The kernel keeps the names until the graph tells that they changed; where it does not tell, the kernel
            // compares the directory's time whenever a listing begins.
            let cached = OpenFlags::CACHE_DIR | OpenFlags::KEEP_CACHE;
            let kept = front.keeps_cache(node) && front.may_be_kept(gfid, fresh);
            let flags = if kept { cached } else { OpenFlags::empty() };
            let delivery = reply.opened(Opened { flags, ..Opened::plain(Fh(file.open.0)) });
            if delivery != Delivery::Taken {
                front.release(owner, file, true).await;
            }
            delivery
        })
    }

    /// FSYNCDIR.
    pub(crate) fn fsyncdir(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        fh: Fh,
        data_only: bool,
        reply: Reply,
    ) -> Handled {
        let file = or_refuse!(self, reply, self.open_file(node, fh));
        let request = FsyncdirReq { file, data_only, xdata: Xdata::EMPTY };
        self.fop::<fop::Fsyncdir>(caller, request, reply, |_, _, reply| reply.ok())
    }

    /// READDIR, or READDIRPLUS when `plus`.
    pub(crate) fn readdir(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        read: &ReadRequest,
        plus: bool,
        reply: Reply,
    ) -> Handled {
        let directory = or_refuse!(self, reply, self.open_file(node, read.fh));
        self.drop_overtaken_listing(node, directory);
        let parent = self.nodes.parent(node).unwrap_or(directory.gfid);
        let listing = Listing { directory, read: *read, plus, parent };
        self.fops(caller, reply, |front, caller, reply| async move {
            let mut filling = Filling::new(listing.read.size, plus);
            let (listed, fresh) = {
                let mut work = front.begin(caller).await;
                let listed = front.list(&mut work, &listing, &mut filling).await;
                (listed, work.freshness())
            };
            front.opens.lists(listing.read.fh, fresh.since);
            let kind = if plus { FopKind::Readdirplus } else { FopKind::Readdir };
            match listed {
                Ok(()) => {
                    let delivery = front.reply_listing(filling, reply);
                    if fresh.uncached {
                        front.drop_untellable(node);
                    }
                    delivery
                }
                // The kernel has not been told of what was filled in so far.
                Err(error) => {
                    front.take_back(filling);
                    front.refuse(kind, &error, reply)
                }
            }
        })
    }

    /// Drops what the kernel made of the last listing of an open directory, if an invalidation has overtaken it.
    ///
    /// The kernel takes names in from a listing as they are, and keeps them, however old they became on the way. That it
    /// has done so is known once the same open asks again or is closed.
    pub(crate) fn drop_overtaken_listing(self: &Arc<Front>, node: NodeId, directory: OpenFile) {
        let listed = self.opens.take_listed(Fh(directory.open.0));
        if listed.is_some_and(|since| self.coherence.overtaken(directory.gfid, since)) {
            self.drop_listing(node, directory.gfid);
        }
    }

    fn reply_listing(self: &Arc<Front>, filling: Filling, reply: Reply) -> Delivery {
        let delivery = match &filling {
            Filling::Names(buffer) => reply.directory(buffer),
            Filling::Plus { buffer, .. } => reply.directory_plus(buffer),
        };
        if delivery != Delivery::Taken {
            self.take_back(filling);
        }
        delivery
    }

    fn take_back(self: &Arc<Front>, filling: Filling) {
        if let Filling::Plus { told, .. } = filling {
            self.forget_untold(told.into_iter().map(|node| (node, 1)));
        }
    }

    async fn list(&self, work: &mut Work<'_>, listing: &Listing, filling: &mut Filling) -> Result<(), FopError> {
        let mut offset = listing.read.offset;
        if offset == 0 {
            if !filling.push_dot(listing.directory.gfid.ino(), AFTER_DOT, b".") {
                return Err(Errno::EINVAL.into());
            }
            offset = AFTER_DOT;
        }
        if offset == AFTER_DOT {
            if !filling.push_dot(listing.parent.ino(), AFTER_DOT_DOT, b"..") {
                return if filling.is_empty() { Err(Errno::EINVAL.into()) } else { Ok(()) };
            }
            offset = AFTER_DOT_DOT;
        }
        match self.opens.take_rest(listing.read.fh, listing.read.offset) {
            Some(rest) if rest.last => Ok(()),
            Some(rest) => self.fill_from_rest(work, listing, filling, rest).await,
            None => {
                let entries = ask(work, listing, offset).await?;
                if entries.is_empty() && !filling.is_empty() {
                    // The kernel asks once more, as only an empty reply is the end: that one is answered from here.
                    self.opens.keep_rest(listing.read.fh, Rest { at: offset, entries, last: true });
                    return Ok(());
                }
                self.fill(listing, filling, entries, (offset, work.freshness()))
            }
        }
    }

    /// Fills in what an earlier request left. Attributes read then may be older than what the kernel knows by now, so
    /// they are read again.
    async fn fill_from_rest(
        &self,
        work: &mut Work<'_>,
        listing: &Listing,
        filling: &mut Filling,
        rest: Rest,
    ) -> Result<(), FopError> {
        let mut entries = rest.entries;
        if listing.plus {
            for entry in &mut entries {
                work.next();
                entry.attr = attr_now(work, entry.gfid).await?;
            }
        }
        self.fill(listing, filling, entries, (rest.at, work.freshness()))
    }

    /// Fills in `entries`, which begin at `offset`; what has no room is kept for the request that goes on there.
    fn fill(
        &self,
        listing: &Listing,
        filling: &mut Filling,
        mut entries: Vec<DirEntry>,
        (mut offset, fresh): (u64, Freshness),
    ) -> Result<(), FopError> {
        let mut taken = 0;
        for entry in &entries {
            let next = offset_to_kernel(entry.next)?;
            if !self.push(listing, filling, entry, (next, fresh)) {
                break;
            }
            offset = next;
            taken += 1;
        }
        entries.drain(..taken);
        if entries.is_empty() {
            return Ok(());
        }
        if filling.is_empty() {
            // No room for even one entry: an empty reply would say that there is none.
            return Err(Errno::EINVAL.into());
        }
        entries.iter_mut().for_each(|entry| entry.attr = None);
        self.opens.keep_rest(listing.read.fh, Rest { at: offset, entries, last: false });
        Ok(())
    }

    fn push(
        &self,
        listing: &Listing,
        filling: &mut Filling,
        entry: &DirEntry,
        (next, fresh): (u64, Freshness),
    ) -> bool {
        let directory = listing.directory.gfid;
        let (ino, kind, name) = (entry.gfid.ino(), convert::file_kind(entry.kind), entry.name.as_bytes());
        match filling {
            Filling::Names(buffer) => buffer.push(ino, next, kind, name),
            Filling::Plus { buffer, .. } if !buffer.has_room(name) => false,
            Filling::Plus { buffer, told } => {
                let known: Option<Entry> = entry.attr.as_ref().map(|attr| self.listed_entry(attr, directory, fresh));
                told.extend(known.map(|entry| entry.node));
                buffer.push(known.as_ref(), ino, next, kind, name)
            }
        }
    }
}

impl Front {
    /// As [`Front::entry`], of a name in a listing of `directory`: the kernel takes it in with the epoch of that moment.
    fn listed_entry(&self, attr: &Attr, directory: Gfid, fresh: Freshness) -> Entry {
        let mut entry = self.entry(attr, Some(directory), fresh);
        if !self.may_be_kept(directory, fresh) {
            entry.entry_valid = std::time::Duration::ZERO;
        }
        entry
    }
}

/// Asks the graph for entries from the kernel's `offset` on.
async fn ask(work: &Work<'_>, listing: &Listing, offset: u64) -> Result<Vec<DirEntry>, FopError> {
    let (file, offset, size) = (listing.directory, offset_to_brick(offset), listing.read.size);
    if listing.plus {
        let request = ReaddirplusReq { file, offset, size, xdata: Xdata::EMPTY };
        Ok(work.call::<fop::Readdirplus>(&request).await?.entries)
    } else {
        let request = ReaddirReq { file, offset, size, xdata: Xdata::EMPTY };
        Ok(work.call::<fop::Readdir>(&request).await?.entries)
    }
}

/// The attributes of an object at this moment; `None` when it is gone.
async fn attr_now(work: &Work<'_>, gfid: Gfid) -> Result<Option<Attr>, FopError> {
    match work.call::<fop::Stat>(&StatReq { target: Target::from(gfid), xdata: Xdata::EMPTY }).await {
        Ok(found) => Ok(Some(found.attr)),
        Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::ESTALE) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_bricks_come_back_as_they_were() {
        for next in [1, 2, 3, 24, 1 << 40, MOVED, MOVED + 3, i64::MAX as u64] {
            let kernel = offset_to_kernel(next).unwrap();
            assert!(kernel > AFTER_DOT_DOT, "{next} is taken for `.` or `..`");
            assert_eq!(offset_to_brick(kernel), next);
        }
        assert_eq!(offset_to_brick(AFTER_DOT_DOT), 0);
    }

    #[test]
    fn an_offset_that_would_start_the_listing_anew_is_an_error() {
        for next in [0, MOVED + 1, MOVED + 2] {
            assert_eq!(offset_to_kernel(next).unwrap_err().errno(), Errno::EIO);
        }
    }
}

//! CREATE and OPEN: everything that makes an open file.

use std::sync::Arc;

use brickwork_api::{
    Attr, CreateReq, Entry, Errno, FileKind, FopError, FopKind, Gfid, Locate, LookupReq, MODE_BITS, OpenFile, OpenId,
    OpenReq, ReleaseReq, StatReq, Xdata, fop,
};
use brickwork_fuse::abi::OpenFlags;
use brickwork_fuse::request::Create;
use brickwork_fuse::{Delivery, Fh, Handled, NodeId, Opened, Reply};

use super::or_refuse;
use crate::coherence::Freshness;
use crate::front::{Caller, Front, Work};

/// Rounds of "it exists" and "it is gone" before the caller is told to look again.
const ROUNDS_MAX: u32 = 8;

const O_APPEND: u32 = libc::O_APPEND.cast_unsigned();
const O_CREAT: u32 = libc::O_CREAT.cast_unsigned();
const O_DIRECT: u32 = libc::O_DIRECT.cast_unsigned();
const O_EXCL: u32 = libc::O_EXCL.cast_unsigned();
const O_TRUNC: u32 = libc::O_TRUNC.cast_unsigned();
/// Nothing to the file behind the name: the kernel has followed links and set the descriptor up.
const KERNEL_ONLY: u32 = (libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_ASYNC).cast_unsigned();

/// What a CREATE asks for.
struct Making {
    entry: Entry,
    flags: u32,
    mode: u32,
    umask: u32,
    kill_set_id: bool,
}

impl Front {
    /// How the kernel is to treat a file opened with `flags`.
    ///
    /// With O_APPEND the brick finds the end, and what the kernel would cache after a write could be at another place.
    /// With O_DIRECT the kernel would ask for size and time before each read all the same, of a cache it does not use.
    /// What was cached before is good where its time tells ([`Front::keeps_cache`]): the look at the name that came before
    /// this open, and the question before each read, have compared it.
    fn open_flags(&self, node: NodeId, flags: u32, uncached: bool) -> OpenFlags {
        if self.treatment.direct_io || uncached || flags & (O_APPEND | O_DIRECT) != 0 {
            OpenFlags::DIRECT_IO | OpenFlags::PARALLEL_DIRECT_WRITES
        } else if self.keeps_cache(node) {
            OpenFlags::KEEP_CACHE
        } else {
            OpenFlags::empty()
        }
    }

    fn opened(&self, node: NodeId, file: OpenFile, flags: u32, fresh: Freshness) -> Opened {
        let uncached = fresh.uncached || self.nodes.is_forgetting(file.gfid) || self.opens.any_lost(file.gfid);
        let flags = self.open_flags(node, flags, uncached);
        self.opens.insert_file(file, !flags.contains(OpenFlags::DIRECT_IO));
        Opened { flags, ..Opened::plain(Fh(file.open.0)) }
    }

    /// OPEN.
    pub(crate) fn open(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        flags: u32,
        kill_set_id: bool,
        reply: Reply,
    ) -> Handled {
        let gfid = or_refuse!(self, reply, self.gfid(node));
        self.fops(caller, reply, move |front, caller, reply| async move {
            let file = OpenFile { gfid, open: front.client.fresh_open() };
            let owner = caller.again();
            let _until_answered = (flags & O_TRUNC != 0).then(|| front.changing(gfid));
            let (result, fresh) = {
                let work = front.begin(caller).await;
                (open_existing(&work, file, flags, kill_set_id).await, work.freshness())
            };
            if let Err(error) = result {
                return front.refuse(FopKind::Open, &error, reply);
            }
            let delivery = reply.opened(front.opened(node, file, flags, fresh));
            if delivery != Delivery::Taken {
                front.release(owner, file, false).await;
            }
            delivery
        })
    }

    /// CREATE: makes the file and opens it; one that was made by somebody else meanwhile is opened, unless O_EXCL.
    pub(crate) fn create(
        self: &Arc<Front>,
        caller: Caller,
        directory: NodeId,
        create: &Create<'_>,
        reply: Reply,
    ) -> Handled {
        let making = Making {
            entry: or_refuse!(self, reply, self.entry_in(directory, create.name)),
            flags: create.flags,
            mode: create.mode & MODE_BITS,
            umask: create.umask,
            kill_set_id: create.kill_suidgid,
        };
        self.fops(caller, reply, |front, caller, reply| async move {
            let owner = caller.again();
            let (made, fresh) = {
                let mut work = front.begin(caller).await;
                (front.make_or_open(&mut work, &making).await, work.freshness())
            };
            let (file, attr, is_new) = match made {
                Ok(made) => made,
                Err(error) => return front.refuse(FopKind::Create, &error, reply),
            };
            // Of a file that it knew the kernel takes the attributes in without asking whether they are older than an
            // invalidation.
            let known = Freshness { uncached: fresh.uncached || !is_new, ..fresh };
            let entry = front.entry(&attr, None, known);
            let delivery = reply.created(&entry, front.opened(entry.node, file, making.flags, fresh));
            if delivery != Delivery::Taken {
                front.forget_untold([(entry.node, 1)]);
                front.release(owner, file, false).await;
            }
            delivery
        })
    }

    /// The open file, its attributes, and whether it was made here.
    async fn make_or_open(
        self: &Arc<Front>,
        work: &mut Work<'_>,
        making: &Making,
    ) -> Result<(OpenFile, Attr, bool), FopError> {
        let open = self.client.fresh_open();
        for _ in 0..ROUNDS_MAX {
            match make(work, making, self.client.fresh_gfid(), open).await {
                Err(error) if error.errno() == Errno::EEXIST && making.flags & O_EXCL == 0 => {}
                result => return result.map(|(file, attr)| (file, attr, true)),
            }
            work.next();
            let request = LookupReq { target: Locate::Entry(making.entry.clone()), xdata: Xdata::EMPTY };
            let attr = match work.call::<fop::Lookup>(&request).await {
                Ok(found) => found.attr,
                Err(error) if error.errno() == Errno::ENOENT => {
                    work.next();
                    continue;
                }
                Err(error) => return Err(error),
            };
            if attr.kind != FileKind::File {
                break;
            }
            work.next();
            let file = OpenFile { gfid: attr.gfid, open };
            match open_existing(work, file, making.flags, making.kill_set_id).await {
                // What was looked at before it was emptied is true no more.
                Ok(()) if making.flags & O_TRUNC != 0 => {
                    work.next();
                    let request = StatReq { target: file.into(), xdata: Xdata::EMPTY };
                    return match work.call::<fop::Stat>(&request).await {
                        Ok(emptied) => Ok((file, emptied.attr, false)),
                        Err(error) => Err(give_back(work, file, error).await),
                    };
                }
                Ok(()) => return Ok((file, attr, false)),
                // Unlinked between the look and the open.
                Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::ESTALE) => work.next(),
                Err(error) => return Err(error),
            }
        }
        // The kernel then looks the name up anew and does what is right for a link, a directory, a pipe.
        Err(Errno::ESTALE.into())
    }
}

async fn make(work: &Work<'_>, making: &Making, gfid: Gfid, open: OpenId) -> Result<(OpenFile, Attr), FopError> {
    let request = CreateReq {
        entry: making.entry.clone(),
        gfid,
        open,
        flags: making.flags & !KERNEL_ONLY,
        mode: making.mode,
        umask: making.umask,
        xdata: Xdata::EMPTY,
    };
    let attr = work.call::<fop::Create>(&request).await?.attr;
    Ok((OpenFile { gfid: attr.gfid, open }, attr))
}

/// Opens a file that is there.
async fn open_existing(work: &Work<'_>, file: OpenFile, flags: u32, kill_set_id: bool) -> Result<(), FopError> {
    let flags = flags & !(KERNEL_ONLY | O_CREAT | O_EXCL);
    work.call::<fop::Open>(&OpenReq { file, flags, kill_set_id, xdata: Xdata::EMPTY }).await.map(drop)
}

/// Ends an open that nobody will hear of, because of `error`.
async fn give_back(work: &mut Work<'_>, file: OpenFile, error: FopError) -> FopError {
    work.next();
    if let Err(error) = work.call::<fop::Release>(&ReleaseReq { file, xdata: Xdata::EMPTY }).await {
        tracing::warn!(%error, gfid = %file.gfid, "an open could not be released");
    }
    error
}

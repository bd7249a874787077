//! Operations on open files.

use std::sync::Arc;

use brickwork_api::{
    CopyFileRangeReq, Errno, FallocateReq, FlushReq, FopKind, FsyncReq, OpenFile, ReadReq, SeekReq, WriteReq, Xdata,
    fop,
};
use brickwork_fuse::abi::WriteFlags;
use brickwork_fuse::request::{CopyRange, ReadRequest, Release, WriteRequest};
use brickwork_fuse::{Fh, Handled, LockOwner, NodeId, Reply};

use super::or_refuse;
use crate::coherence::Freshness;
use crate::convert;
use crate::drops::Dropping;
use crate::front::{Caller, Front};

/// A range of an open file.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) fh: Fh,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Front {
    /// READ.
    pub(crate) fn read(self: &Arc<Front>, caller: Caller, node: NodeId, read: &ReadRequest, reply: Reply) -> Handled {
        let file = or_refuse!(self, reply, self.open_file(node, read.fh));
        let request = ReadReq { file, offset: read.offset, size: read.size, xdata: Xdata::EMPTY };
        let most = read.size as usize;
        if self.treatment.invalidates {
            self.coherence.reads(file.gfid, &(read.offset..read.offset.saturating_add(u64::from(read.size))));
        }
        let caller = caller.owning(read.lock_owner);
        self.kept_fop::<fop::Read>(caller, request, reply, move |front, answer, fresh, reply| {
            let dropping = front.uncached_pages(file, fresh);
            // More than was asked for would be refused by the kernel.
            let delivery = reply.data(&answer.data[..answer.data.len().min(most)]);
            if let Some(dropping) = dropping {
                front.drop_noted(node, file.gfid, dropping);
            }
            delivery
        })
    }

    /// Notes that the pages which a transfer leaves with the kernel are to go, as nobody will tell that they are old, or an
    /// open that has lost a lock would show them.
    ///
    /// Before the reply: with it, its caller may give a lock back, and somebody else have it.
    fn uncached_pages(&self, file: OpenFile, fresh: Freshness) -> Option<Dropping> {
        let goes = (fresh.uncached || self.opens.any_lost(file.gfid)) && self.opens.keeps_pages(file.open);
        goes.then(|| self.drops.note(file.gfid))
    }

    /// WRITE; the payload stays where it was read to.
    pub(crate) fn write(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        write: &WriteRequest<'_>,
        reply: Reply,
    ) -> Handled {
        let file = or_refuse!(self, reply, self.open_file(node, write.fh));
        // The kernel sends pages of a mapping through any open of the file; they belong where they are.
        let append =
            write.flags & libc::O_APPEND.cast_unsigned() != 0 && !write.write_flags.contains(WriteFlags::CACHE);
        let request = WriteReq {
            file,
            offset: write.offset,
            data: write.data.to_bytes(),
            append,
            kill_set_id: write.write_flags.contains(WriteFlags::KILL_SUIDGID),
            xdata: Xdata::EMPTY,
        };
        let end = write.offset.saturating_add(request.data.len() as u64);
        let changing = self.changing_bytes(file.gfid, write.offset..end);
        self.kept_fop::<fop::Write>(caller, request, reply, move |front, answer, fresh, reply| {
            let dropping = front.uncached_pages(file, fresh);
            // Before the reply, for the same reason: what was read over it is noted to go.
            drop(changing);
            let delivery = reply.written(answer.written);
            if let Some(dropping) = dropping {
                front.drop_noted(node, file.gfid, dropping);
            }
            delivery
        })
    }

    /// FLUSH: a descriptor was closed.
    ///
    /// Of a process that has ended nobody hears the answer, and nothing can interrupt it: while a brick is away it is
    /// answered at once, and done when the brick is back.
    pub(crate) fn flush(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        fh: Fh,
        owner: LockOwner,
        reply: Reply,
    ) -> Handled {
        let file = or_refuse!(self, reply, self.open_file(node, fh));
        if self.opens.has_locks(file.open) {
            self.closings.flushed(file);
        }
        let request = FlushReq { file, xdata: Xdata::EMPTY };
        let pid = caller.credentials.pid;
        self.fops(caller.owning(Some(owner)), reply, move |front, caller, reply| async move {
            let done = async {
                let work = front.begin(caller).await;
                work.call::<fop::Flush>(&request).await
            };
            let mut done = std::pin::pin!(done);
            let mut flushing = front.flushes.begin(pid);
            let result = tokio::select! {
                biased;
                result = &mut done => result,
                () = flushing.let_go() => {
                    let delivery = reply.ok();
                    if let Err(error) = done.await {
                        tracing::warn!(%error, gfid = %file.gfid, "a process ended, and its file was not flushed");
                    }
                    return delivery;
                }
            };
            match result {
                Ok(_) => reply.ok(),
                Err(error) => front.refuse(FopKind::Flush, &error, reply),
            }
        })
    }

    /// RELEASE and RELEASEDIR: the last descriptor is gone. Never fails for the kernel, which would not listen.
    pub(crate) fn end_open(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        release: &Release,
        directory: bool,
        reply: Reply,
    ) -> Handled {
        let file = or_refuse!(self, reply, self.open_file(node, release.fh));
        if directory {
            self.drop_overtaken_listing(node, file);
        }
        let releasing = self.opens.has_locks(file.open).then(|| self.closings.releasing(file));
        let owner = (release.flock_unlock || release.flush).then_some(release.lock_owner);
        let flush = release.flush && !directory;
        self.fops(caller.owning(owner), reply, move |front, caller, reply| async move {
            if flush {
                let work = front.begin(caller.again()).await;
                let request = FlushReq { file, xdata: Xdata::EMPTY };
                if let Err(error) = work.call::<fop::Flush>(&request).await {
                    tracing::debug!(%error, gfid = %file.gfid, "a flush at the last close was refused");
                }
            }
            front.release(caller, file, directory).await;
            drop(releasing);
            reply.ok()
        })
    }

    /// FSYNC.
    pub(crate) fn fsync(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        fh: Fh,
        data_only: bool,
        reply: Reply,
    ) -> Handled {
        let file = or_refuse!(self, reply, self.open_file(node, fh));
        let request = FsyncReq { file, data_only, xdata: Xdata::EMPTY };
        self.fop::<fop::Fsync>(caller, request, reply, |_, _, reply| reply.ok())
    }

    /// FALLOCATE.
    pub(crate) fn fallocate(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        range: Range,
        mode: u32,
        reply: Reply,
    ) -> Handled {
        let request = FallocateReq {
            mode: or_refuse!(self, reply, convert::fallocate_mode(mode)),
            file: or_refuse!(self, reply, self.open_file(node, range.fh)),
            offset: range.offset,
            length: range.length,
            xdata: Xdata::EMPTY,
        };
        let changing = self.changing(request.file.gfid);
        self.fop::<fop::Fallocate>(caller, request, reply, |_, _, reply| {
            let _until_answered = changing;
            reply.ok()
        })
    }

    /// LSEEK, of which only the search for data and holes comes here.
    pub(crate) fn seek(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        fh: Fh,
        (offset, whence): (u64, u32),
        reply: Reply,
    ) -> Handled {
        let request = SeekReq {
            what: or_refuse!(self, reply, convert::seek_what(whence)),
            file: or_refuse!(self, reply, self.open_file(node, fh)),
            offset,
            xdata: Xdata::EMPTY,
        };
        self.fop::<fop::Seek>(caller, request, reply, |_, found, reply| reply.offset(found.offset))
    }

    /// COPY_FILE_RANGE and COPY_FILE_RANGE_64.
    pub(crate) fn copy_file_range(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        copy: &CopyRange,
        reply: Reply,
    ) -> Handled {
        if copy.flags != 0 {
            return self.refuse_at_once(Errno::EINVAL, reply);
        }
        // The narrow form answers 32 bits: what is copied beyond could not be told.
        let most = if copy.wide { u64::MAX } else { u64::from(!4095_u32) };
        let request = CopyFileRangeReq {
            from: or_refuse!(self, reply, self.open_file(node, copy.fh_in)),
            from_offset: copy.offset_in,
            to: or_refuse!(self, reply, self.open_file(copy.node_out, copy.fh_out)),
            to_offset: copy.offset_out,
            length: copy.length.min(most),
            xdata: Xdata::EMPTY,
        };
        let changing = self.changing(request.to.gfid);
        self.fop::<fop::CopyFileRange>(caller, request, reply, |_, answer, reply| {
            let _until_answered = changing;
            reply.copied(answer.copied)
        })
    }
}

//! Which operation of the kernel becomes what.

use std::sync::Arc;

use brickwork_api::Errno;
use brickwork_fuse::{Handled, Handler, Operation, Reply, Request, Started};
use tokio::sync::watch;

use crate::front::{Caller, Front};
use crate::ops::files::Range;
use crate::ops::names::{NewNode, RenameTo};

/// The front as the session calls it.
pub(crate) struct FrontHandler {
    pub(crate) front: Arc<Front>,
    /// Becomes true when the mount has ended and everything was given back to the graph.
    pub(crate) ended: watch::Sender<bool>,
}

impl Handler for FrontHandler {
    fn started(&self, started: &Started) {
        // A session starts once.
        let _ = self.front.started.set(started.clone());
    }

    fn handle(&self, request: Request<'_>, reply: Reply) -> Handled {
        self.front.counters.request(request.opcode());
        let caller = match acts_by_name(request.operation()) {
            true => self.front.caller(&request),
            false => self.front.caller_without_groups(&request),
        };
        dispatch(&self.front, caller, request, reply)
    }

    fn ended(&self) {
        let (front, ended) = (self.front.clone(), self.ended.clone());
        self.front.host.spawn(Box::pin(async move {
            front.give_back().await;
            ended.send_replace(true);
        }));
    }
}

/// Whether the rights of the caller are asked for again below. The others go through an open, or ask nobody's rights.
fn acts_by_name(operation: &Operation<'_>) -> bool {
    !matches!(
        operation,
        Operation::Forget { .. }
            | Operation::BatchForget(_)
            | Operation::GetAttr { .. }
            | Operation::Read(_)
            | Operation::Write(_)
            | Operation::StatFs
            | Operation::Release(_)
            | Operation::FSync { .. }
            | Operation::Flush { .. }
            | Operation::ReadDir(_)
            | Operation::ReadDirPlus(_)
            | Operation::ReleaseDir(_)
            | Operation::FSyncDir { .. }
            | Operation::GetLk(_)
            | Operation::SetLk { .. }
            | Operation::FAllocate { .. }
            | Operation::LSeek { .. }
            | Operation::CopyFileRange(_)
    )
}

fn dispatch(front: &Arc<Front>, caller: Caller, request: Request<'_>, reply: Reply) -> Handled {
    let node = request.node();
    match request.into_operation() {
        Operation::Lookup { name } => front.lookup(caller, node, name, reply),
        Operation::Forget { lookups } => front.forget([(node, lookups)]),
        Operation::BatchForget(forgets) => front.forget(forgets.iter()),
        Operation::GetAttr { fh } => front.getattr(caller, node, fh, reply),
        Operation::SetAttr(set) => front.setattr(caller, node, &set, reply),
        Operation::ReadLink => front.readlink(caller, node, reply),
        Operation::SymLink { name, target } => front.symlink(caller, node, name, target, reply),
        Operation::MkNod { name, mode, rdev, umask } => {
            front.mknod(caller, node, name, NewNode { mode, umask, rdev }, reply)
        }
        Operation::MkDir { name, mode, umask } => {
            front.mkdir(caller, node, name, NewNode { mode, umask, rdev: 0 }, reply)
        }
        Operation::Unlink { name } => front.unlink(caller, node, name, reply),
        Operation::RmDir { name } => front.rmdir(caller, node, name, reply),
        Operation::Rename { name, new_parent, new_name, flags } => {
            front.rename(caller, node, name, RenameTo { directory: new_parent, name: new_name, flags }, reply)
        }
        Operation::Link { node: linked, name } => front.link(caller, linked, node, name, reply),
        Operation::Open { flags, kill_suidgid } => front.open(caller, node, flags, kill_suidgid, reply),
        Operation::Create(create) => front.create(caller, node, &create, reply),
        Operation::Read(read) => front.read(caller, node, &read, reply),
        Operation::Write(write) => front.write(caller.owning(write.lock_owner), node, &write, reply),
        Operation::Flush { fh, lock_owner } => front.flush(caller, node, fh, lock_owner, reply),
        Operation::FSync { fh, data_only } => front.fsync(caller, node, fh, data_only, reply),
        Operation::Release(release) => front.end_open(caller, node, &release, false, reply),
        Operation::FAllocate { fh, offset, length, mode } => {
            front.fallocate(caller, node, Range { fh, offset, length }, mode, reply)
        }
        Operation::LSeek { fh, offset, whence } => front.seek(caller, node, fh, (offset, whence), reply),
        Operation::CopyFileRange(copy) => front.copy_file_range(caller, node, &copy, reply),
        Operation::StatFs => front.statfs(caller, node, reply),
        Operation::SetXattr(set) => front.setxattr(caller, node, &set, reply),
        Operation::GetXattr { name, size } => front.getxattr(caller, node, name, size, reply),
        Operation::ListXattr { size } => front.listxattr(caller, node, size, reply),
        Operation::RemoveXattr { name } => front.removexattr(caller, node, name, reply),
        Operation::OpenDir { .. } => front.opendir(caller, node, reply),
        Operation::ReadDir(read) => front.readdir(caller, node, &read, false, reply),
        Operation::ReadDirPlus(read) => front.readdir(caller, node, &read, true, reply),
        Operation::ReleaseDir(release) => front.end_open(caller, node, &release, true, reply),
        Operation::FSyncDir { fh, data_only } => front.fsyncdir(caller, node, fh, data_only, reply),
        Operation::GetLk(lock) => front.getlk(caller, node, lock, reply),
        Operation::SetLk { lock, wait } => front.setlk(caller, node, &lock, wait, reply),
        Operation::Access { mask } => front.access(caller, node, mask, reply),
        // Programs that ask for a control nobody has must hear so; ENOSYS would speak for all files at once.
        Operation::IoCtl(_) => front.refuse_at_once(Errno::ENOTTY, reply),
        // The kernel makes the file under a passing name instead, as its caller does on any such file system.
        Operation::TmpFile(_) => front.refuse_at_once(Errno::EOPNOTSUPP, reply),
        Operation::NotifyReply { .. } => Handled::Done,
        // The kernel stops asking, and does what is right for all files: always ready (POLL), no blocks (BMAP),
        // attributes by GETATTR (STATX). No graph has a way to make everything durable at once (SYNCFS).
        Operation::Poll { .. } | Operation::BMap { .. } | Operation::StatX { .. } | Operation::SyncFs => {
            front.refuse_at_once(Errno::ENOSYS, reply)
        }
        // The session answers these itself.
        Operation::Init { .. }
        | Operation::Interrupt { .. }
        | Operation::Destroy
        | Operation::SetupMapping
        | Operation::RemoveMapping
        | Operation::Unknown { .. } => front.refuse_at_once(Errno::ENOSYS, reply),
    }
}

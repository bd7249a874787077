//! Operations on names: finding, making, taking, moving.

use std::sync::Arc;

use bytes::Bytes;

use brickwork_api::{
    Entry, Errno, FopKind, LinkReq, Locate, LookupReq, MkdirReq, MknodReq, Name, RenameReq, RmdirReq, SymlinkReq,
    UnlinkReq, Xdata, fop,
};
use brickwork_fuse::{Handled, NodeId, Reply};

use super::or_refuse;
use crate::coherence::Freshness;
use crate::convert;
use crate::front::{Caller, Front};

/// A node to be made: everything but its name.
pub(crate) struct NewNode {
    pub(crate) mode: u32,
    pub(crate) umask: u32,
    /// As the protocol packs it.
    pub(crate) rdev: u32,
}

/// The other end of a rename.
pub(crate) struct RenameTo<'a> {
    pub(crate) directory: NodeId,
    pub(crate) name: &'a [u8],
    pub(crate) flags: u32,
}

impl Front {
    /// The entry `name` in a directory.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, `EINVAL` for what is no name, `ESTALE` for a directory that the kernel was never told of.
    pub(crate) fn entry_in(&self, directory: NodeId, name: &[u8]) -> Result<Entry, Errno> {
        let name = Name::new(name)?;
        Ok(Entry { parent: self.gfid(directory)?, name })
    }

    /// LOOKUP; `.` and `..` come from whoever opens files by handle.
    pub(crate) fn lookup(self: &Arc<Front>, caller: Caller, directory: NodeId, name: &[u8], reply: Reply) -> Handled {
        let target = match name {
            b"." => self.gfid(directory).map(Locate::Gfid),
            b".." => self.nodes.parent(directory).map(Locate::Gfid).ok_or(Errno::ESTALE),
            name => self.entry_in(directory, name).map(Locate::Entry),
        };
        let request = LookupReq { target: or_refuse!(self, reply, target), xdata: Xdata::EMPTY };
        self.fops(caller, reply, |front, caller, reply| async move {
            let work = front.begin(caller).await;
            let parent = match &request.target {
                Locate::Entry(entry) => Some(entry.parent),
                Locate::Gfid(_) => None,
            };
            let result = work.call::<fop::Lookup>(&request).await;
            let mut fresh = work.freshness();
            // The brick may hear of the forget after this lookup, and then tell of no change of the names here.
            fresh.uncached |= parent.is_some_and(|parent| front.nodes.is_forgetting(parent));
            match result {
                Ok(found) => front.reply_entry(&found.attr, parent, fresh, reply),
                Err(error) if error.errno() == Errno::ENOENT && parent.is_some() => {
                    reply.no_entry(front.negative_valid(fresh))
                }
                Err(error) => front.refuse(FopKind::Lookup, &error, reply),
            }
        })
    }

    /// MKNOD: regular files, devices, pipes, sockets.
    pub(crate) fn mknod(
        self: &Arc<Front>,
        caller: Caller,
        directory: NodeId,
        name: &[u8],
        node: NewNode,
        reply: Reply,
    ) -> Handled {
        let request = MknodReq {
            entry: or_refuse!(self, reply, self.entry_in(directory, name)),
            gfid: self.client.fresh_gfid(),
            mode: node.mode,
            umask: node.umask,
            rdev: convert::device_from_kernel(node.rdev),
            xdata: Xdata::EMPTY,
        };
        self.kept_fop::<fop::Mknod>(caller, request, reply, |front, made, fresh, reply| {
            front.reply_entry(&made.attr, None, fresh, reply)
        })
    }

    /// MKDIR.
    pub(crate) fn mkdir(
        self: &Arc<Front>,
        caller: Caller,
        directory: NodeId,
        name: &[u8],
        node: NewNode,
        reply: Reply,
    ) -> Handled {
        let entry = or_refuse!(self, reply, self.entry_in(directory, name));
        let parent = entry.parent;
        let request = MkdirReq {
            entry,
            gfid: self.client.fresh_gfid(),
            mode: node.mode & brickwork_api::MODE_BITS,
            umask: node.umask,
            xdata: Xdata::EMPTY,
        };
        self.kept_fop::<fop::Mkdir>(caller, request, reply, move |front, made, fresh, reply| {
            front.reply_entry(&made.attr, Some(parent), fresh, reply)
        })
    }

    /// SYMLINK.
    pub(crate) fn symlink(
        self: &Arc<Front>,
        caller: Caller,
        directory: NodeId,
        name: &[u8],
        target: &[u8],
        reply: Reply,
    ) -> Handled {
        let request = SymlinkReq {
            entry: or_refuse!(self, reply, self.entry_in(directory, name)),
            gfid: self.client.fresh_gfid(),
            target: Bytes::copy_from_slice(target),
            xdata: Xdata::EMPTY,
        };
        self.kept_fop::<fop::Symlink>(caller, request, reply, |front, made, fresh, reply| {
            front.reply_entry(&made.attr, None, fresh, reply)
        })
    }

    /// LINK: one more name for `node`.
    pub(crate) fn link(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        directory: NodeId,
        name: &[u8],
        reply: Reply,
    ) -> Handled {
        let entry = or_refuse!(self, reply, self.entry_in(directory, name));
        let gfid = or_refuse!(self, reply, self.gfid(node));
        let request = LinkReq { gfid, entry, xdata: Xdata::EMPTY };
        self.kept_fop::<fop::Link>(caller, request, reply, |front, linked, fresh, reply| {
            // The kernel takes the attributes in without asking whether they are older than an invalidation.
            front.reply_entry(&linked.attr, None, Freshness { uncached: true, ..fresh }, reply)
        })
    }

    /// UNLINK.
    pub(crate) fn unlink(self: &Arc<Front>, caller: Caller, directory: NodeId, name: &[u8], reply: Reply) -> Handled {
        let entry = or_refuse!(self, reply, self.entry_in(directory, name));
        let request = UnlinkReq { entry, xdata: Xdata::EMPTY };
        self.fop::<fop::Unlink>(caller, request, reply, |_, _, reply| reply.ok())
    }

    /// RMDIR.
    pub(crate) fn rmdir(self: &Arc<Front>, caller: Caller, directory: NodeId, name: &[u8], reply: Reply) -> Handled {
        let entry = or_refuse!(self, reply, self.entry_in(directory, name));
        let request = RmdirReq { entry, xdata: Xdata::EMPTY };
        self.fop::<fop::Rmdir>(caller, request, reply, |_, _, reply| reply.ok())
    }

    /// RENAME and RENAME2.
    pub(crate) fn rename(
        self: &Arc<Front>,
        caller: Caller,
        directory: NodeId,
        name: &[u8],
        to: RenameTo<'_>,
        reply: Reply,
    ) -> Handled {
        let request = RenameReq {
            mode: or_refuse!(self, reply, convert::rename_mode(to.flags)),
            from: or_refuse!(self, reply, self.entry_in(directory, name)),
            to: or_refuse!(self, reply, self.entry_in(to.directory, to.name)),
            xdata: Xdata::EMPTY,
        };
        let (old, new) = (request.from.parent, request.to.parent);
        self.fop::<fop::Rename>(caller, request, reply, move |front, renamed, reply| {
            front.nodes.moved(renamed.attr.gfid, new);
            if let Some(exchanged) = renamed.replaced {
                front.nodes.moved(exchanged.gfid, old);
            }
            reply.ok()
        })
    }
}

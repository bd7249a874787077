//! Attributes, links' text, space.

use std::sync::Arc;

use brickwork_api::{
    AccessReq, AttrChange, Errno, FopError, FopKind, MODE_BITS, OpenId, ReadlinkReq, SetattrReq, StatReq, StatfsReq,
    Target, TruncateReq, Xdata, fop,
};
use brickwork_fuse::request::SetAttr;
use brickwork_fuse::{Fh, Handled, NodeId, Reply};

use super::or_refuse;
use crate::convert;
use crate::front::{Caller, Front, Work};

/// What a SETATTR comes to.
struct Change {
    target: Target,
    size: Option<u64>,
    kill_set_id: bool,
    rest: AttrChange,
}

impl Front {
    fn target(&self, node: NodeId, fh: Option<Fh>) -> Result<Target, Errno> {
        Ok(Target { gfid: self.gfid(node)?, open: fh.map(|fh| OpenId(fh.0)) })
    }

    /// GETATTR.
    pub(crate) fn getattr(self: &Arc<Front>, caller: Caller, node: NodeId, fh: Option<Fh>, reply: Reply) -> Handled {
        let target = or_refuse!(self, reply, self.target(node, fh));
        let request = StatReq { target, xdata: Xdata::EMPTY };
        self.kept_fop::<fop::Stat>(caller, request, reply, |front, found, fresh, reply| {
            front.reply_attr(&found.attr, fresh, reply)
        })
    }

    /// SETATTR: a change of the length is a fop of its own, done first.
    pub(crate) fn setattr(self: &Arc<Front>, caller: Caller, node: NodeId, set: &SetAttr, reply: Reply) -> Handled {
        let change = or_refuse!(self, reply, self.change(node, set));
        let changing = change.size.and_then(|_| self.changing(change.target.gfid));
        self.fops(caller.owning(set.lock_owner), reply, |front, caller, reply| async move {
            let _until_answered = changing;
            let mut work = front.begin(caller).await;
            match apply(&mut work, &change).await {
                Ok(attr) => front.reply_changed_attr(&attr, reply),
                Err(error) => front.refuse(FopKind::Setattr, &error, reply),
            }
        })
    }

    fn change(&self, node: NodeId, set: &SetAttr) -> Result<Change, Errno> {
        Ok(Change {
            target: self.target(node, set.fh)?,
            size: set.size,
            kill_set_id: set.kill_suidgid,
            // `ctime` comes with the writeback cache only, which is never asked for.
            rest: AttrChange {
                mode: set.mode.map(|mode| mode & MODE_BITS),
                uid: set.uid,
                gid: set.gid,
                accessed: set.atime.map(convert::set_time).transpose()?,
                modified: set.mtime.map(convert::set_time).transpose()?,
            },
        })
    }

    /// READLINK.
    pub(crate) fn readlink(self: &Arc<Front>, caller: Caller, node: NodeId, reply: Reply) -> Handled {
        let gfid = or_refuse!(self, reply, self.gfid(node));
        let request = ReadlinkReq { gfid, xdata: Xdata::EMPTY };
        self.fop::<fop::Readlink>(caller, request, reply, |_, link, reply| reply.data(&link.target))
    }

    /// ACCESS, which the kernel sends when it does not check permissions itself.
    pub(crate) fn access(self: &Arc<Front>, caller: Caller, node: NodeId, mask: u32, reply: Reply) -> Handled {
        let gfid = or_refuse!(self, reply, self.gfid(node));
        let request = AccessReq { gfid, mask, xdata: Xdata::EMPTY };
        self.fop::<fop::Access>(caller, request, reply, |_, _, reply| reply.ok())
    }

    /// STATFS.
    pub(crate) fn statfs(self: &Arc<Front>, caller: Caller, node: NodeId, reply: Reply) -> Handled {
        let gfid = or_refuse!(self, reply, self.gfid(node));
        let request = StatfsReq { gfid, xdata: Xdata::EMPTY };
        self.fop::<fop::Statfs>(caller, request, reply, |_, found, reply| reply.statfs(&convert::statfs(&found.stat)))
    }
}

/// Does what `change` asks; the attributes are those after the last of it.
async fn apply(work: &mut Work<'_>, change: &Change) -> Result<brickwork_api::Attr, FopError> {
    let &Change { target, size, kill_set_id, rest } = change;
    let mut attr = None;
    if let Some(size) = size {
        let request = TruncateReq { target, size, kill_set_id, xdata: Xdata::EMPTY };
        attr = Some(work.call::<fop::Truncate>(&request).await?.attr);
        work.next();
    }
    match attr {
        Some(attr) if rest == AttrChange::default() => Ok(attr),
        // A SETATTR that sets nothing (a change of `ctime` alone) still answers the attributes.
        None if rest == AttrChange::default() => {
            let request = StatReq { target, xdata: Xdata::EMPTY };
            Ok(work.call::<fop::Stat>(&request).await?.attr)
        }
        _ => {
            let request = SetattrReq { target, change: rest, xdata: Xdata::EMPTY };
            Ok(work.call::<fop::Setattr>(&request).await?.attr)
        }
    }
}

//! Extended attributes. ACLs are among them: the kernel keeps and checks them by `system.posix_acl_*`.

use std::sync::Arc;

use bytes::Bytes;

use brickwork_api::{
    Errno, FopKind, GetxattrReq, ListxattrReq, RemovexattrReq, SetxattrReq, Target, XattrName, Xdata, fop,
};
use brickwork_fuse::request::SetXattr;
use brickwork_fuse::{Delivery, Handled, NodeId, Reply};

use super::or_refuse;
use crate::convert;
use crate::front::{Caller, Front};

/// Answers `value` to a caller with room for `room` bytes, where 0 asks for the length alone.
fn reply_sized(value: &[u8], room: u32, reply: Reply) -> Delivery {
    match u32::try_from(value.len()) {
        Ok(length) if room == 0 => reply.size(length),
        Ok(length) if length <= room => reply.data(value),
        _ => reply.error(convert::errno(Errno::ERANGE)),
    }
}

/// Whether `name` is one of the two under which ACLs travel.
fn is_acl(name: &XattrName) -> bool {
    matches!(name.as_bytes(), b"system.posix_acl_access" | b"system.posix_acl_default")
}

impl Front {
    /// GETXATTR.
    ///
    /// Where ACLs are not supported there is none: the kernel asks for it before each chmod and each check of rights,
    /// and would refuse both.
    pub(crate) fn getxattr(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        name: &[u8],
        room: u32,
        reply: Reply,
    ) -> Handled {
        let request = GetxattrReq {
            target: Target::from(or_refuse!(self, reply, self.gfid(node))),
            name: or_refuse!(self, reply, XattrName::new(name)),
            xdata: Xdata::EMPTY,
        };
        self.fops(caller, reply, move |front, caller, reply| async move {
            let work = front.begin(caller).await;
            match work.call::<fop::Getxattr>(&request).await {
                Ok(found) => {
                    let delivery = reply_sized(&found.value, room, reply);
                    if is_acl(&request.name) && work.freshness().uncached {
                        // The kernel keeps ACLs until the attributes are dropped.
                        front.drop_untellable(node);
                    }
                    delivery
                }
                Err(error) if error.errno() == Errno::EOPNOTSUPP && is_acl(&request.name) => {
                    reply.error(convert::errno(Errno::ENODATA))
                }
                Err(error) => front.refuse(FopKind::Getxattr, &error, reply),
            }
        })
    }

    /// LISTXATTR: the names, each with a NUL behind it.
    pub(crate) fn listxattr(self: &Arc<Front>, caller: Caller, node: NodeId, room: u32, reply: Reply) -> Handled {
        let target = Target::from(or_refuse!(self, reply, self.gfid(node)));
        let request = ListxattrReq { target, xdata: Xdata::EMPTY };
        self.fop::<fop::Listxattr>(caller, request, reply, move |_, found, reply| {
            let mut list = Vec::new();
            for name in &found.names {
                list.extend_from_slice(name.as_bytes());
                list.push(0);
            }
            reply_sized(&list, room, reply)
        })
    }

    /// SETXATTR.
    pub(crate) fn setxattr(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        set: &SetXattr<'_>,
        reply: Reply,
    ) -> Handled {
        let request = SetxattrReq {
            target: Target::from(or_refuse!(self, reply, self.gfid(node))),
            name: or_refuse!(self, reply, XattrName::new(set.name)),
            value: Bytes::copy_from_slice(set.value),
            mode: or_refuse!(self, reply, convert::xattr_mode(set.flags)),
            kill_set_gid: set.acl_kill_sgid,
            xdata: Xdata::EMPTY,
        };
        self.fop::<fop::Setxattr>(caller, request, reply, |_, _, reply| reply.ok())
    }

    /// REMOVEXATTR.
    pub(crate) fn removexattr(self: &Arc<Front>, caller: Caller, node: NodeId, name: &[u8], reply: Reply) -> Handled {
        let request = RemovexattrReq {
            target: Target::from(or_refuse!(self, reply, self.gfid(node))),
            name: or_refuse!(self, reply, XattrName::new(name)),
            xdata: Xdata::EMPTY,
        };
        self.fop::<fop::Removexattr>(caller, request, reply, |_, _, reply| reply.ok())
    }
}

//! What a fop with effect needs before it begins: its turns, and an intent when it cannot be done twice.

use std::any::Any;

use brickwork_api::*;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};

use super::intent::Intent;
use super::look::Look;
use super::opens::OpenRecord;
use super::turns::{Claim, Mode, Turns};

/// Bytes of the values that one `xattrop` names, given and before: they stand in its intent and its answer.
pub const XATTROP_MAX: usize = 64 << 10;

/// A request, seen by what it changes that others change too.
#[derive(Debug)]
pub enum Plan<'r> {
    /// Nothing.
    Free,
    /// The length of a file, in a way that can be done twice.
    Length(Gfid),
    /// Xattrs, in a way that can be done twice.
    Xattrs(Gfid),
    /// A name gets a new object.
    Make(&'r Entry, Gfid, Option<(OpenId, OpenRecord)>),
    /// A name gets an object.
    Link(&'r LinkReq),
    /// A name goes.
    Remove(&'r Entry),
    /// An object changes its name.
    Rename(&'r RenameReq),
    /// A file grows at its end.
    Append(&'r WriteReq),
    /// A file is cut or stretched somewhere in it.
    Shift(&'r FallocateReq),
    /// An xattr is made or replaced.
    Setxattr(&'r SetxattrReq),
    /// An xattr goes.
    Removexattr(&'r RemovexattrReq),
    /// Counters change.
    Xattrop(&'r XattropReq),
}

impl<'r> Plan<'r> {
    /// The plan for a request of `kind`.
    #[must_use]
    pub fn of(kind: FopKind, request: &'r dyn Any) -> Plan<'r> {
        Plan::find(kind, request).unwrap_or(Plan::Free)
    }

    fn find(kind: FopKind, request: &'r dyn Any) -> Option<Plan<'r>> {
        Some(match kind {
            FopKind::Mknod => request.downcast_ref().map(|req: &MknodReq| Plan::Make(&req.entry, req.gfid, None))?,
            FopKind::Mkdir => request.downcast_ref().map(|req: &MkdirReq| Plan::Make(&req.entry, req.gfid, None))?,
            FopKind::Symlink => {
                request.downcast_ref().map(|req: &SymlinkReq| Plan::Make(&req.entry, req.gfid, None))?
            }
            FopKind::Create => request.downcast_ref().map(|req: &CreateReq| {
                Plan::Make(&req.entry, req.gfid, Some((req.open, OpenRecord::file(req.gfid, req.flags))))
            })?,
            FopKind::Link => Plan::Link(request.downcast_ref()?),
            FopKind::Unlink => request.downcast_ref().map(|req: &UnlinkReq| Plan::Remove(&req.entry))?,
            FopKind::Rmdir => request.downcast_ref().map(|req: &RmdirReq| Plan::Remove(&req.entry))?,
            FopKind::Rename => Plan::Rename(request.downcast_ref()?),
            FopKind::Write => request.downcast_ref().map(Plan::of_write)?,
            FopKind::Truncate => request.downcast_ref().map(|req: &TruncateReq| Plan::Length(req.target.gfid))?,
            FopKind::Open => request.downcast_ref().and_then(Plan::of_open)?,
            FopKind::Fallocate => request.downcast_ref().map(Plan::of_fallocate)?,
            FopKind::Zerofill => request.downcast_ref().map(|req: &ZerofillReq| Plan::Length(req.file.gfid))?,
            FopKind::CopyFileRange => request.downcast_ref().map(|req: &CopyFileRangeReq| Plan::Length(req.to.gfid))?,
            FopKind::Setxattr => request.downcast_ref().map(Plan::of_setxattr)?,
            FopKind::Removexattr => Plan::Removexattr(request.downcast_ref()?),
            FopKind::Xattrop => Plan::Xattrop(request.downcast_ref()?),
            _ => return None,
        })
    }

    fn of_write(request: &'r WriteReq) -> Plan<'r> {
        if request.append { Plan::Append(request) } else { Plan::Length(request.file.gfid) }
    }

    fn of_open(request: &'r OpenReq) -> Option<Plan<'r>> {
        let empties = request.flags & OFlags::TRUNC.bits() != 0;
        empties.then_some(Plan::Length(request.file.gfid))
    }

    fn of_fallocate(request: &'r FallocateReq) -> Plan<'r> {
        match request.mode {
            FallocateMode::CollapseRange | FallocateMode::InsertRange => Plan::Shift(request),
            FallocateMode::Allocate { .. }
            | FallocateMode::PunchHole
            | FallocateMode::ZeroRange { .. }
            | FallocateMode::UnshareRange => Plan::Length(request.file.gfid),
        }
    }

    fn of_setxattr(request: &'r SetxattrReq) -> Plan<'r> {
        match request.mode {
            XattrMode::Set => Plan::Xattrs(request.target.gfid),
            XattrMode::Create | XattrMode::Replace => Plan::Setxattr(request),
        }
    }

    /// The turns that it needs.
    #[must_use]
    pub fn claims(&self, turns: &Turns) -> SmallVec<[Claim; 2]> {
        match self {
            Plan::Free => SmallVec::new(),
            Plan::Length(gfid) => smallvec![turns.length(*gfid, Mode::Shared)],
            Plan::Append(write) => smallvec![turns.length(write.file.gfid, Mode::Alone)],
            Plan::Shift(change) => smallvec![turns.length(change.file.gfid, Mode::Alone)],
            Plan::Make(entry, ..) | Plan::Remove(entry) => smallvec![turns.name(entry)],
            Plan::Link(link) => smallvec![turns.name(&link.entry)],
            Plan::Rename(rename) => smallvec![turns.name(&rename.from), turns.name(&rename.to)],
            Plan::Xattrs(gfid) => smallvec![turns.xattrs(*gfid)],
            Plan::Setxattr(set) => smallvec![turns.xattrs(set.target.gfid)],
            Plan::Removexattr(remove) => smallvec![turns.xattrs(remove.target.gfid)],
            Plan::Xattrop(change) => smallvec![turns.xattrs(change.target.gfid)],
        }
    }

    /// The intent, from what is there while the turns are held; `None` when the fop can be done twice after all, mostly
    /// because it will fail.
    ///
    /// # Errors
    /// Those of the looks: the fop cannot succeed, or must not begin.
    pub async fn intent(&self, look: &Look<'_>) -> FopResult<Option<Intent>> {
        match self {
            Plan::Free | Plan::Length(_) | Plan::Xattrs(_) => Ok(None),
            Plan::Make(entry, gfid, opens) => {
                Ok(Some(Intent::Make { entry: (*entry).clone(), gfid: *gfid, opens: *opens }))
            }
            Plan::Link(link) => {
                let intent = Intent::Link { entry: link.entry.clone(), gfid: link.gfid };
                Ok(look.name(&link.entry).await?.is_none().then_some(intent))
            }
            Plan::Remove(entry) => {
                // Nothing there while nobody else may make it: this is the answer.
                let gfid = look.name(entry).await?.ok_or(Errno::ENOENT)?;
                Ok(Some(Intent::Remove { entry: (*entry).clone(), gfid }))
            }
            Plan::Rename(rename) => of_rename(rename, look).await,
            Plan::Append(write) => of_append(write, look).await,
            Plan::Shift(change) => of_shift(change, look).await,
            Plan::Setxattr(set) => of_setxattr(set, look).await,
            Plan::Removexattr(RemovexattrReq { target, name, .. }) => {
                let there = look.xattr(*target, name).await?.is_some();
                Ok(there.then(|| Intent::RemoveXattr { gfid: target.gfid, name: name.clone() }))
            }
            Plan::Xattrop(change) => of_xattrop(change, look).await,
        }
    }
}

async fn of_rename(rename: &RenameReq, look: &Look<'_>) -> FopResult<Option<Intent>> {
    let RenameReq { from, to, mode, .. } = rename;
    let moved = look.name(from).await?.ok_or(Errno::ENOENT)?;
    let other = look.name(to).await?;
    let fails = match mode {
        RenameMode::Replace => false,
        RenameMode::NoReplace => other.is_some(),
        RenameMode::Exchange => other.is_none(),
    };
    let changes_nothing = other == Some(moved);
    let exchange = *mode == RenameMode::Exchange;
    let intent = Intent::Rename { from: from.clone(), to: to.clone(), moved, other, exchange };
    Ok((!fails && !changes_nothing).then_some(intent))
}

async fn of_append(write: &WriteReq, look: &Look<'_>) -> FopResult<Option<Intent>> {
    let Ok(length) = u32::try_from(write.data.len()) else { return Err(Errno::EINVAL.into()) };
    if length == 0 {
        return Ok(None);
    }
    let before = look.stat(write.file.into()).await?.size;
    Ok(Some(Intent::Append { gfid: write.file.gfid, before, length }))
}

async fn of_shift(change: &FallocateReq, look: &Look<'_>) -> FopResult<Option<Intent>> {
    let before = look.stat(change.file.into()).await?.size;
    let after = match change.mode {
        FallocateMode::CollapseRange => before.checked_sub(change.length),
        _ => before.checked_add(change.length),
    };
    // What cannot be, fails.
    Ok(after.filter(|after| *after != before).map(|after| Intent::Shift { gfid: change.file.gfid, before, after }))
}

async fn of_setxattr(set: &SetxattrReq, look: &Look<'_>) -> FopResult<Option<Intent>> {
    let there = look.xattr(set.target, &set.name).await?.is_some();
    let digest = match (set.mode, there) {
        (XattrMode::Create, false) => None,
        (XattrMode::Replace, true) => Some(Sha256::digest(&set.value).into()),
        _ => return Ok(None),
    };
    Ok(Some(Intent::SetXattr { gfid: set.target.gfid, name: set.name.clone(), digest }))
}

async fn of_xattrop(change: &XattropReq, look: &Look<'_>) -> FopResult<Option<Intent>> {
    let XattropReq { target, kind, values, .. } = change;
    let mut before = Vec::with_capacity(values.len());
    let mut bytes = values.iter().map(|(name, value)| name.as_bytes().len() + value.len()).sum::<usize>();
    for (name, _) in values {
        let value = look.xattr(*target, name).await?;
        bytes += value.as_ref().map_or(0, Bytes::len);
        if bytes > XATTROP_MAX {
            return Err(FopError::new(Errno::E2BIG).doing("remembering the values of an xattrop").with("bytes", bytes));
        }
        before.push((name.clone(), value));
    }
    Ok(Some(Intent::Xattrop { gfid: target.gfid, kind: *kind, before }))
}

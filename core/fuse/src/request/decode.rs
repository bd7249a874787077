//! From the bytes of one operation to its arguments.

use super::cursor::Cursor;
use super::{
    CopyRange, Create, Fault, Fh, Forgets, IoCtl, Lock, LockKind, LockOwner, NodeId, Operation, ReadRequest, Release,
    SetAttr, SetTime, SetXattr, Time, WriteRequest,
};
use crate::abi::{
    self, AccessIn, BMapIn, BatchForgetIn, CopyFileRangeIn, CreateIn, FAllocateIn, FSyncIn, FlushIn, ForgetIn,
    ForgetOne, GetAttrIn, GetXattrIn, InitCompatIn, InitIn, InterruptIn, IoCtlFlags, IoCtlIn, LSeekIn, LinkIn, LkIn,
    MkDirIn, MkNodIn, NotifyRetrieveIn, Opcode, OpenIn, PollIn, ReadIn, ReleaseIn, Rename2In, RenameIn, SetAttrIn,
    SetAttrValid, SetXattrCompatIn, SetXattrIn, StatXIn, SyncFsIn, WriteFlags, WriteIn,
};
use crate::buffer::Payload;
use crate::init::InitFlags;

type Decoded<'a> = Result<Operation<'a>, Fault>;

/// Decodes the arguments of `opcode` from `body`, the message without its header and extensions.
pub(super) fn operation<'a>(
    opcode: Opcode,
    body: &'a [u8],
    granted: InitFlags,
    payload: impl FnOnce(&'a [u8]) -> Payload<'a>,
) -> Decoded<'a> {
    let mut c = Cursor::new(body);
    let operation = match opcode {
        Opcode::Lookup => Operation::Lookup { name: c.name()? },
        Opcode::Forget => Operation::Forget { lookups: c.fixed::<ForgetIn>()?.nlookup },
        Opcode::BatchForget => forgets(&mut c)?,
        Opcode::GetAttr => getattr(&c.fixed()?),
        Opcode::StatX => statx(&c.fixed()?),
        Opcode::SetAttr => Operation::SetAttr(setattr(&c.fixed()?)),
        Opcode::ReadLink => Operation::ReadLink,
        Opcode::SymLink => Operation::SymLink { name: c.name()?, target: c.text()? },
        Opcode::MkNod => {
            let MkNodIn { mode, rdev, umask, .. } = c.fixed()?;
            Operation::MkNod { name: c.name()?, mode, rdev, umask }
        }
        Opcode::MkDir => {
            let MkDirIn { mode, umask } = c.fixed()?;
            Operation::MkDir { name: c.name()?, mode, umask }
        }
        Opcode::Unlink => Operation::Unlink { name: c.name()? },
        Opcode::RmDir => Operation::RmDir { name: c.name()? },
        Opcode::Rename => {
            let RenameIn { newdir } = c.fixed()?;
            rename(&mut c, newdir, 0)?
        }
        Opcode::Rename2 => {
            let Rename2In { newdir, flags, .. } = c.fixed()?;
            rename(&mut c, newdir, flags)?
        }
        Opcode::Link => {
            let LinkIn { oldnodeid } = c.fixed()?;
            Operation::Link { node: NodeId(oldnodeid), name: c.name()? }
        }
        Opcode::Open => {
            let OpenIn { flags, open_flags } = c.fixed()?;
            Operation::Open { flags, kill_suidgid: open_flags & abi::OPEN_KILL_SUIDGID != 0 }
        }
        Opcode::OpenDir => Operation::OpenDir { flags: c.fixed::<OpenIn>()?.flags },
        Opcode::Create => Operation::Create(create(&mut c)?),
        Opcode::TmpFile => Operation::TmpFile(create(&mut c)?),
        Opcode::Read => Operation::Read(read(&c.fixed()?)),
        Opcode::ReadDir => Operation::ReadDir(read(&c.fixed()?)),
        Opcode::ReadDirPlus => Operation::ReadDirPlus(read(&c.fixed()?)),
        Opcode::Write => Operation::Write(write(&mut c, payload)?),
        Opcode::NotifyReply => {
            let NotifyRetrieveIn { offset, size, .. } = c.fixed()?;
            Operation::NotifyReply { offset, data: payload(c.bytes(size as usize)?) }
        }
        Opcode::StatFs => Operation::StatFs,
        Opcode::Release => Operation::Release(release(&c.fixed()?)),
        Opcode::ReleaseDir => Operation::ReleaseDir(release(&c.fixed()?)),
        Opcode::FSync => {
            let FSyncIn { fh, fsync_flags, .. } = c.fixed()?;
            Operation::FSync { fh: Fh(fh), data_only: fsync_flags & abi::FSYNC_FDATASYNC != 0 }
        }
        Opcode::FSyncDir => {
            let FSyncIn { fh, fsync_flags, .. } = c.fixed()?;
            Operation::FSyncDir { fh: Fh(fh), data_only: fsync_flags & abi::FSYNC_FDATASYNC != 0 }
        }
        Opcode::SetXattr => Operation::SetXattr(setxattr(&mut c, granted)?),
        Opcode::GetXattr => {
            let GetXattrIn { size, .. } = c.fixed()?;
            Operation::GetXattr { name: c.text()?, size }
        }
        Opcode::ListXattr => Operation::ListXattr { size: c.fixed::<GetXattrIn>()?.size },
        Opcode::RemoveXattr => Operation::RemoveXattr { name: c.text()? },
        Opcode::Flush => {
            let FlushIn { fh, lock_owner, .. } = c.fixed()?;
            Operation::Flush { fh: Fh(fh), lock_owner: LockOwner(lock_owner) }
        }
        Opcode::Init => return init(body),
        Opcode::GetLk => Operation::GetLk(lock(&c.fixed()?)?),
        Opcode::SetLk => Operation::SetLk { lock: lock(&c.fixed()?)?, wait: false },
        Opcode::SetLkW => Operation::SetLk { lock: lock(&c.fixed()?)?, wait: true },
        Opcode::Access => Operation::Access { mask: c.fixed::<AccessIn>()?.mask },
        Opcode::Interrupt => Operation::Interrupt { unique: c.fixed::<InterruptIn>()?.unique },
        Opcode::BMap => {
            let BMapIn { block, blocksize, .. } = c.fixed()?;
            Operation::BMap { block, block_size: blocksize }
        }
        Opcode::Destroy => Operation::Destroy,
        Opcode::IoCtl => Operation::IoCtl(ioctl(&mut c)?),
        Opcode::Poll => poll(&c.fixed()?),
        Opcode::FAllocate => {
            let FAllocateIn { fh, offset, length, mode, .. } = c.fixed()?;
            Operation::FAllocate { fh: Fh(fh), offset, length, mode }
        }
        Opcode::LSeek => {
            let LSeekIn { fh, offset, whence, .. } = c.fixed()?;
            Operation::LSeek { fh: Fh(fh), offset, whence }
        }
        Opcode::CopyFileRange => Operation::CopyFileRange(copy_range(&c.fixed()?, false)),
        Opcode::CopyFileRange64 => Operation::CopyFileRange(copy_range(&c.fixed()?, true)),
        Opcode::SyncFs => {
            let SyncFsIn { .. } = c.fixed()?;
            Operation::SyncFs
        }
        // virtiofs' own, never asked for by /dev/fuse: answered ENOSYS without looking at the arguments.
        Opcode::SetupMapping => return Ok(Operation::SetupMapping),
        Opcode::RemoveMapping => return Ok(Operation::RemoveMapping),
    };
    c.finish(operation)
}

fn forgets<'a>(c: &mut Cursor<'a>) -> Decoded<'a> {
    let BatchForgetIn { count, .. } = c.fixed()?;
    let length = (count as usize).checked_mul(size_of::<ForgetOne>()).ok_or(Fault::Short)?;
    Ok(Operation::BatchForget(Forgets(c.bytes(length)?)))
}

fn getattr(fixed: &GetAttrIn) -> Operation<'static> {
    Operation::GetAttr { fh: (fixed.getattr_flags & abi::GETATTR_FH != 0).then_some(Fh(fixed.fh)) }
}

fn statx(fixed: &StatXIn) -> Operation<'static> {
    Operation::StatX {
        fh: (fixed.getattr_flags & abi::GETATTR_FH != 0).then_some(Fh(fixed.fh)),
        flags: fixed.sx_flags,
        mask: fixed.sx_mask,
    }
}

fn setattr(fixed: &SetAttrIn) -> SetAttr {
    let valid = SetAttrValid(fixed.valid);
    let has = |bit| valid.contains(bit);
    let time = |set: bool, now: bool, seconds: u64, nanos: u32| match (set, now) {
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::To(Time { seconds: seconds.cast_signed(), nanos })),
        (false, _) => None,
    };
    SetAttr {
        fh: has(SetAttrValid::FH).then_some(Fh(fixed.fh)),
        mode: has(SetAttrValid::MODE).then_some(fixed.mode),
        uid: has(SetAttrValid::UID).then_some(fixed.uid),
        gid: has(SetAttrValid::GID).then_some(fixed.gid),
        size: has(SetAttrValid::SIZE).then_some(fixed.size),
        atime: time(has(SetAttrValid::ATIME), has(SetAttrValid::ATIME_NOW), fixed.atime, fixed.atimensec),
        mtime: time(has(SetAttrValid::MTIME), has(SetAttrValid::MTIME_NOW), fixed.mtime, fixed.mtimensec),
        ctime: has(SetAttrValid::CTIME).then_some(Time { seconds: fixed.ctime.cast_signed(), nanos: fixed.ctimensec }),
        lock_owner: has(SetAttrValid::LOCKOWNER).then_some(LockOwner(fixed.lock_owner)),
        kill_suidgid: has(SetAttrValid::KILL_SUIDGID),
    }
}

fn rename<'a>(c: &mut Cursor<'a>, new_parent: u64, flags: u32) -> Decoded<'a> {
    Ok(Operation::Rename { name: c.name()?, new_parent: NodeId(new_parent), new_name: c.name()?, flags })
}

fn create<'a>(c: &mut Cursor<'a>) -> Result<Create<'a>, Fault> {
    let CreateIn { flags, mode, umask, open_flags } = c.fixed()?;
    // The kernel names an O_TMPFILE "/": what matters of it is that it ends.
    let name = c.text()?;
    Ok(Create { name, flags, mode, umask, kill_suidgid: open_flags & abi::OPEN_KILL_SUIDGID != 0 })
}

fn read(fixed: &ReadIn) -> ReadRequest {
    ReadRequest {
        fh: Fh(fixed.fh),
        offset: fixed.offset,
        size: fixed.size,
        flags: fixed.flags,
        lock_owner: (fixed.read_flags & abi::READ_LOCKOWNER != 0).then_some(LockOwner(fixed.lock_owner)),
    }
}

fn write<'a>(c: &mut Cursor<'a>, payload: impl FnOnce(&'a [u8]) -> Payload<'a>) -> Result<WriteRequest<'a>, Fault> {
    let fixed: WriteIn = c.fixed()?;
    let write_flags = WriteFlags(fixed.write_flags);
    Ok(WriteRequest {
        fh: Fh(fixed.fh),
        offset: fixed.offset,
        flags: fixed.flags,
        write_flags,
        lock_owner: write_flags.contains(WriteFlags::LOCKOWNER).then_some(LockOwner(fixed.lock_owner)),
        data: payload(c.bytes(fixed.size as usize)?),
    })
}

fn release(fixed: &ReleaseIn) -> Release {
    Release {
        fh: Fh(fixed.fh),
        flags: fixed.flags,
        lock_owner: LockOwner(fixed.lock_owner),
        flush: fixed.release_flags & abi::RELEASE_FLUSH != 0,
        flock_unlock: fixed.release_flags & abi::RELEASE_FLOCK_UNLOCK != 0,
    }
}

fn setxattr<'a>(c: &mut Cursor<'a>, granted: InitFlags) -> Result<SetXattr<'a>, Fault> {
    let SetXattrIn { size, flags, setxattr_flags, .. } = if granted.contains(InitFlags::SETXATTR_EXT) {
        c.fixed()?
    } else {
        let SetXattrCompatIn { size, flags } = c.fixed()?;
        SetXattrIn { size, flags, ..SetXattrIn::default() }
    };
    Ok(SetXattr {
        name: c.text()?,
        value: c.bytes(size as usize)?,
        flags,
        acl_kill_sgid: setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0,
    })
}

fn init(body: &[u8]) -> Decoded<'static> {
    let mut c = Cursor::new(body);
    if body.len() < size_of::<InitIn>() {
        let InitCompatIn { major, minor, max_readahead, flags } = c.fixed()?;
        return Ok(Operation::Init { major, minor, max_readahead, flags: flags.into() });
    }
    // Bytes that follow belong to a newer minor version and mean nothing to ours.
    let InitIn { major, minor, max_readahead, flags, flags2, .. } = c.fixed()?;
    Ok(Operation::Init { major, minor, max_readahead, flags: u64::from(flags) | u64::from(flags2) << 32 })
}

fn lock(fixed: &LkIn) -> Result<Lock, Fault> {
    let kind = match i32::try_from(fixed.lk.kind).map_err(|_| Fault::Value)? {
        libc::F_RDLCK => LockKind::Read,
        libc::F_WRLCK => LockKind::Write,
        libc::F_UNLCK => LockKind::Unlock,
        _ => return Err(Fault::Value),
    };
    if fixed.lk.start > fixed.lk.end || fixed.lk.end > i64::MAX as u64 {
        return Err(Fault::Value);
    }
    Ok(Lock {
        fh: Fh(fixed.fh),
        owner: LockOwner(fixed.owner),
        start: fixed.lk.start,
        end: fixed.lk.end,
        kind,
        pid: fixed.lk.pid,
        flock: fixed.lk_flags & abi::LK_FLOCK != 0,
    })
}

fn ioctl<'a>(c: &mut Cursor<'a>) -> Result<IoCtl<'a>, Fault> {
    let IoCtlIn { fh, flags, cmd, arg, in_size, out_size } = c.fixed()?;
    let data = c.bytes(in_size as usize)?;
    Ok(IoCtl { fh: Fh(fh), flags: IoCtlFlags(flags), cmd, arg, data, out_size })
}

fn poll(fixed: &PollIn) -> Operation<'static> {
    Operation::Poll {
        fh: Fh(fixed.fh),
        kh: fixed.kh,
        events: fixed.events,
        notify: fixed.flags & abi::POLL_SCHEDULE_NOTIFY != 0,
    }
}

fn copy_range(fixed: &CopyFileRangeIn, wide: bool) -> CopyRange {
    CopyRange {
        fh_in: Fh(fixed.fh_in),
        offset_in: fixed.off_in,
        node_out: NodeId(fixed.nodeid_out),
        fh_out: Fh(fixed.fh_out),
        offset_out: fixed.off_out,
        length: fixed.len,
        flags: fixed.flags,
        wide,
    }
}

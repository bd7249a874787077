//! The structures against the kernel's header, whose sizes and offsets were printed by a C compiler:
//! `linux/fuse.h` of 7.38 for all it has, the kernel's protocol change log for what 7.39 to 7.45 added.

use super::*;
use crate::init::InitFlags;

macro_rules! sizes {
    ($($name:ident == $size:literal;)*) => {$(assert_eq!(size_of::<$name>(), $size, stringify!($name));)*};
}

macro_rules! offsets {
    ($($name:ident.$field:ident == $offset:literal;)*) => {$(
        assert_eq!(std::mem::offset_of!($name, $field), $offset, concat!(stringify!($name), ".", stringify!($field)));
    )*};
}

#[test]
fn sizes_are_those_of_the_kernels_header() {
    sizes! {
        InHeader == 40;
        OutHeader == 16;
        ForgetIn == 8;
        ForgetOne == 16;
        BatchForgetIn == 8;
        GetAttrIn == 16;
        MkNodIn == 16;
        MkDirIn == 8;
        RenameIn == 8;
        Rename2In == 16;
        LinkIn == 8;
        SetAttrIn == 88;
        OpenIn == 8;
        CreateIn == 16;
        ReleaseIn == 24;
        FlushIn == 24;
        ReadIn == 40;
        WriteIn == 40;
        FSyncIn == 16;
        SetXattrIn == 16;
        GetXattrIn == 8;
        FileLock == 24;
        LkIn == 48;
        AccessIn == 8;
        InitIn == 64;
        InterruptIn == 8;
        BMapIn == 16;
        IoCtlIn == 32;
        PollIn == 24;
        FAllocateIn == 32;
        LSeekIn == 24;
        CopyFileRangeIn == 56;
        SyncFsIn == 8;
        NotifyRetrieveIn == 40;
        ExtHeader == 8;
        SecCtx == 8;
        Attr == 88;
        EntryOut == 128;
        AttrOut == 104;
        OpenOut == 16;
        WriteOut == 8;
        StatFsOut == 80;
        GetXattrOut == 8;
        LkOut == 24;
        InitOut == 64;
        BMapOut == 8;
        IoCtlOut == 16;
        PollOut == 8;
        LSeekOut == 8;
        DirEnt == 24;
        NotifyInvalInodeOut == 24;
        NotifyInvalEntryOut == 16;
        NotifyDeleteOut == 24;
        NotifyStoreOut == 24;
    }
}

#[test]
fn offsets_are_those_of_the_kernels_header() {
    offsets! {
        InHeader.total_extlen == 36;
        SetAttrIn.gid == 80;
        SetAttrIn.mode == 68;
        ReadIn.lock_owner == 24;
        WriteIn.lock_owner == 24;
        WriteIn.write_flags == 20;
        ReleaseIn.release_flags == 12;
        ReleaseIn.lock_owner == 16;
        LkIn.lk_flags == 40;
        FileLock.kind == 16;
        InitIn.flags2 == 16;
        CopyFileRangeIn.off_out == 32;
        Attr.mode == 60;
        Attr.rdev == 76;
        EntryOut.attr == 40;
        AttrOut.attr == 16;
        OpenOut.open_flags == 8;
        StatFsOut.frsize == 48;
        InitOut.max_write == 20;
        InitOut.time_gran == 24;
        InitOut.max_pages == 28;
        InitOut.flags2 == 32;
        DirEnt.kind == 20;
        NotifyDeleteOut.namelen == 16;
        NotifyStoreOut.size == 16;
        IoCtlIn.arg == 16;
        PollIn.events == 20;
        FAllocateIn.mode == 24;
        MkNodIn.umask == 8;
        CreateIn.umask == 8;
        FlushIn.lock_owner == 16;
    }
}

#[test]
fn what_came_after_7_38_has_the_kernels_layout() {
    sizes! {
        StatXIn == 24;
        SxTime == 16;
        StatX == 256;
        StatXOut == 288;
        CopyFileRangeOut == 8;
        SetXattrCompatIn == 8;
        InitCompatIn == 16;
        SuppGroups == 4;
    }
    offsets! {
        StatX.ino == 32;
        StatX.atime == 64;
        StatX.rdev_major == 128;
        StatXOut.stat == 32;
        OpenOut.backing_id == 12;
        InitOut.max_stack_depth == 36;
        InitOut.request_timeout == 40;
    }
}

#[test]
fn the_clone_ioctl_has_the_number_the_c_macro_gives() {
    assert_eq!(DEV_IOC_CLONE, 0x8004_e500);
    assert_eq!(DEV_IOC_CLONE, 2 << 30 | 4 << 16 | 229 << 8);
}

#[test]
fn opcodes_go_from_number_to_name_and_back() {
    for &opcode in Opcode::ALL {
        assert_eq!(Opcode::from_number(opcode as u32), Some(opcode));
    }
    let numbers: Vec<u32> = Opcode::ALL.iter().map(|&opcode| opcode as u32).collect();
    let expected: Vec<u32> = (1..=53).filter(|number| ![7, 19].contains(number)).collect();
    assert_eq!(numbers, expected);
    assert_eq!(Opcode::from_number(54), None);
}

#[test]
fn flags_print_their_names_and_what_has_none() {
    assert_eq!(format!("{:?}", InitFlags::MAX_PAGES | InitFlags::ASYNC_READ), "ASYNC_READ|MAX_PAGES");
    assert_eq!(format!("{:?}", InitFlags(1 | 1 << 60)), "ASYNC_READ+0x1000000000000000");
    assert_eq!(format!("{:?}", InitFlags::empty()), "0");
}

#[test]
fn records_are_aligned_to_eight_bytes() {
    assert_eq!([0, 1, 8, 9].map(record_align), [0, 8, 8, 16]);
}

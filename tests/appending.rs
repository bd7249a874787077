//! `O_APPEND` belongs to a write, not to an open: it can be switched, and a mapping is written in place.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;

use common::Mounted;
use rustix::fs::OFlags;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

#[test]
fn append_switched_on_by_fcntl_writes_at_the_end() {
    let Some(mounted) = Mounted::dev() else { return };
    let path = mounted.path().join("log");
    fs::write(&path, "0123456789").expect("write");
    let mut log = OpenOptions::new().write(true).open(&path).expect("open");
    rustix::fs::fcntl_setfl(&log, OFlags::APPEND).expect("fcntl");
    log.write_all(b"end").expect("write");
    rustix::fs::fcntl_setfl(&log, OFlags::empty()).expect("fcntl");
    rustix::fs::seek(&log, rustix::fs::SeekFrom::Start(0)).expect("seek");
    log.write_all(b"begin").expect("write");
    assert_eq!(fs::read_to_string(&path).expect("read"), "begin56789end");
}

/// The pages of a mapping of a file opened with `O_APPEND` were appended to it: the brick had the flag on its own
/// descriptor, and the kernel writes pages back through whichever open it finds. The flag now travels with each write.
#[test]
fn a_mapping_of_a_file_opened_to_append_is_written_in_place() {
    let Some(mounted) = Mounted::dev() else { return };
    let path = mounted.path().join("log");
    fs::write(&path, "0123456789").expect("write");
    let log = OpenOptions::new().read(true).append(true).open(&path).expect("open");
    // SAFETY: a fresh mapping of ten bytes that nothing else refers to; the file is not truncated meanwhile.
    unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let map = rustix::mm::mmap(std::ptr::null_mut(), 10, protection, MapFlags::SHARED, &log, 0).expect("mmap");
        std::slice::from_raw_parts_mut(map.cast::<u8>(), 10)[..5].copy_from_slice(b"begin");
        rustix::mm::msync(map, 10, MsyncFlags::SYNC).expect("msync");
        rustix::mm::munmap(map, 10).expect("munmap");
    }
    assert_eq!(fs::read_to_string(&path).expect("read"), "begin56789");
}

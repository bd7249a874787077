//! fsx-style: the same random operations on a file of a mount and on a local file give the same answers.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Random;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// No file grows past this, in bytes.
const LENGTH_MAX: u64 = 1 << 20;
/// No single operation touches more, in bytes.
const SPAN_MAX: u64 = 1 << 17;
/// Operations between two comparisons of the whole content.
const CHECK_EVERY: usize = 2_000;

/// One operation, drawn once and done on both files.
#[derive(Clone, Debug)]
enum Operation {
    Read { offset: u64, length: u64 },
    Write { offset: u64, data: Vec<u8> },
    MapRead { offset: u64, length: u64 },
    MapWrite { offset: u64, data: Vec<u8> },
    Truncate { size: u64 },
    Fallocate { flags: FallocateFlags, offset: u64, length: u64 },
    Copy { from: u64, to: u64, length: u64 },
    Seek { from: SeekFrom },
    Sync,
    Reopen,
}

fn draw(random: &mut Random, size: u64, mmap: bool) -> Operation {
    let offset = random.below(LENGTH_MAX - SPAN_MAX);
    let length = 1 + random.below(SPAN_MAX);
    // A mapping reaches no further than the file: past its last page is SIGBUS, here and everywhere.
    let mapped = (size > 1).then(|| {
        let offset = random.below(size);
        (offset, 1 + random.below((size - offset).min(SPAN_MAX)))
    });
    match (random.below(if mmap { 13 } else { 11 }), mapped) {
        (0..=2, _) => Operation::Read { offset, length },
        (3..=5, _) => Operation::Write { offset, data: random.bytes(length as usize) },
        (6, _) => Operation::Truncate { size: random.below(LENGTH_MAX) },
        (7, _) => {
            let flags = [
                FallocateFlags::empty(),
                FallocateFlags::KEEP_SIZE,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                // The kernel's FUSE refuses all others before they reach us.
                FallocateFlags::ZERO_RANGE,
            ];
            Operation::Fallocate { flags: flags[random.below(flags.len() as u64) as usize], offset, length }
        }
        (8, _) => Operation::Copy { from: offset, to: random.below(LENGTH_MAX - SPAN_MAX), length },
        (9, _) if random.below(4) == 0 => Operation::Reopen,
        (9, _) => Operation::Sync,
        (10, _) if random.below(2) == 0 => Operation::Seek { from: SeekFrom::Data(offset) },
        (10, _) => Operation::Seek { from: SeekFrom::Hole(offset) },
        (11, Some((offset, length))) => Operation::MapRead { offset, length },
        (12, Some((offset, length))) => Operation::MapWrite { offset, data: random.bytes(length as usize) },
        _ => Operation::Sync,
    }
}

/// A file with the operations that both sides answer.
struct Subject {
    path: PathBuf,
    file: File,
}

impl Subject {
    fn create(path: PathBuf) -> Subject {
        let file = open(&path);
        Subject { path, file }
    }

    /// Does `operation`; what it answers is compared between the two sides.
    fn apply(&mut self, operation: &Operation) -> Result<Vec<u8>, i32> {
        let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(0);
        match operation {
            Operation::Read { offset, length } => {
                let mut data = vec![0; *length as usize];
                let read = read_to_end_of(&self.file, &mut data, *offset).map_err(errno)?;
                data.truncate(read);
                Ok(data)
            }
            Operation::Write { offset, data } => {
                self.file.write_all_at(data, *offset).map(|()| Vec::new()).map_err(errno)
            }
            Operation::MapRead { offset, length } => Ok(mapped(&self.file, *offset, *length, |map| map.to_vec())),
            Operation::MapWrite { offset, data } => {
                mapped(&self.file, *offset, data.len() as u64, |map| map.copy_from_slice(data));
                Ok(Vec::new())
            }
            Operation::Truncate { size } => self.file.set_len(*size).map(|()| Vec::new()).map_err(errno),
            Operation::Fallocate { flags, offset, length } => {
                let done = fallocate(self.file.as_fd(), *flags, *offset, *length);
                done.map(|()| Vec::new()).map_err(|error| error.raw_os_error())
            }
            Operation::Copy { from, to, length } => {
                // Kernels refuse to copy a range onto itself; both sides do.
                let (mut from, mut to) = (*from, *to);
                let copied = rustix::fs::copy_file_range(
                    self.file.as_fd(),
                    Some(&mut from),
                    self.file.as_fd(),
                    Some(&mut to),
                    *length as usize,
                );
                copied.map(|copied| copied.to_le_bytes().to_vec()).map_err(|error| error.raw_os_error())
            }
            Operation::Seek { from } => {
                // Where holes lie is the file system's choice, and so whether data follows; that an offset past the
                // end is refused is not.
                let (SeekFrom::Data(offset) | SeekFrom::Hole(offset)) = from else { unreachable!("what was drawn") };
                let size = self.size();
                match rustix::fs::seek(self.file.as_fd(), *from) {
                    Err(error) if *offset >= size => Err(error.raw_os_error()),
                    Ok(found) => {
                        assert!(found >= *offset && found <= size, "{from:?} found {found} of {size}");
                        Ok(Vec::new())
                    }
                    Err(error) => {
                        assert_eq!(error, rustix::io::Errno::NXIO, "{from:?} of {size}");
                        Ok(Vec::new())
                    }
                }
            }
            Operation::Sync => self.file.sync_data().map(|()| Vec::new()).map_err(errno),
            Operation::Reopen => {
                self.file = open(&self.path);
                Ok(Vec::new())
            }
        }
    }

    fn size(&self) -> u64 {
        self.file.metadata().expect("fstat").len()
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("read the whole file")
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

fn read_to_end_of(file: &File, data: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.read_at(&mut data[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Maps `[offset, offset + length)` shared, lets `use_it` at it, and writes it back.
fn mapped<T>(file: &File, offset: u64, length: u64, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    let page = offset / 4096 * 4096;
    let inside = (offset - page) as usize;
    let whole = inside + length as usize;
    // SAFETY: a fresh mapping of `whole` bytes that nothing else in this process refers to, unmapped below; the file is
    // this test's alone and is not truncated meanwhile.
    unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let map =
            rustix::mm::mmap(std::ptr::null_mut(), whole, protection, MapFlags::SHARED, file, page).expect("mmap");
        let result = use_it(&mut std::slice::from_raw_parts_mut(map.cast::<u8>(), whole)[inside..]);
        rustix::mm::msync(map, whole, MsyncFlags::SYNC).expect("msync");
        rustix::mm::munmap(map, whole).expect("munmap");
        result
    }
}

/// Does the same random operations on a new file in `mount` and on a local one until `done` says so, which is asked
/// after each with how many there were; panics at the first answer that differs, and when the contents do.
pub fn compare(mount: &Path, mmap: bool, random: &mut Random, mut done: impl FnMut(usize) -> bool) {
    let local = tempfile::tempdir().expect("a local folder");
    let mut here = Subject::create(mount.join("subject"));
    let mut there = Subject::create(local.path().join("subject"));
    let mut step = 0;
    loop {
        let operation = draw(random, there.size(), mmap);
        let expected = there.apply(&operation);
        let answered = here.apply(&operation);
        assert!(
            answered == expected,
            "step {step}: {operation:?} answered differently: {}",
            describe(&answered, &expected)
        );
        assert_eq!(here.size(), there.size(), "step {step}: size after {operation:?}");
        if step % CHECK_EVERY == 0 {
            assert!(here.content() == there.content(), "step {step}: content differs after {operation:?}");
        }
        step += 1;
        if done(step) {
            break;
        }
    }
    assert!(here.content() == there.content(), "content differs at the end");
}

fn describe(answered: &Result<Vec<u8>, i32>, expected: &Result<Vec<u8>, i32>) -> String {
    match (answered, expected) {
        (Ok(a), Ok(b)) => {
            let at = a.iter().zip(b).position(|(a, b)| a != b);
            format!("{} and {} bytes, first difference at {at:?}", a.len(), b.len())
        }
        (a, b) => format!("{:?}, locally {:?}", a.as_ref().map(Vec::len), b.as_ref().map(Vec::len)),
    }
}

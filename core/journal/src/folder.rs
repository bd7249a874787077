//! The folder of a journal: its lock and the names in it.
//!
//! `lock` holds the process id of whoever has the journal open. `segment-NUMBER` (16 hexadecimal digits) are the
//! segments; `overflow.new` and `snapshot.new` are segments that are not valid yet, and are removed at the next open.

use std::fs::{DirBuilder, File, OpenOptions, ReadDir};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{OpenError, Refusal};

const LOCK: &str = "lock";
const PREFIX: &str = "segment-";

/// A segment that is not valid yet. An append and a rotation may each be making one at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unborn {
    Overflow,
    Snapshot,
}

/// The folder of a journal, locked as long as this lives.
pub(crate) struct Folder {
    path: PathBuf,
    folder: File,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, for its owner alone, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Held`], [`OpenError::System`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(Refusal::of("make the folder", path))?;
        let lock = lock(&path.join(LOCK))?;
        let folder = File::open(path).map_err(Refusal::of("open the folder", path))?;
        Ok(Self { path: path.into(), folder, _lock: lock })
    }

    /// The path of a segment.
    pub fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{number:016x}"))
    }

    /// The path of a segment that is not valid yet.
    pub fn unborn(&self, name: Unborn) -> PathBuf {
        self.path.join(match name {
            Unborn::Overflow => "overflow.new",
            Unborn::Snapshot => "snapshot.new",
        })
    }

    /// The numbers of the segments, ascending.
    pub fn numbers(&self) -> Result<Vec<u64>, Refusal> {
        let refused = |source| Refusal::of("list the folder", &self.path)(source);
        let mut numbers = Vec::new();
        let entries: ReadDir = self.path.read_dir().map_err(refused)?;
        for entry in entries {
            let name = entry.map_err(refused)?.file_name();
            numbers.extend(name.to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes what a killed process had not made valid.
    pub fn remove_unborn(&self) -> Result<(), Refusal> {
        [Unborn::Overflow, Unborn::Snapshot].into_iter().try_for_each(|name| self.remove(&self.unborn(name)))
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove(&self, file: &Path) -> Result<(), Refusal> {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Refusal::of("remove", file)(error)),
            _ => Ok(()),
        }
    }

    /// Gives a new segment its number, in one step: from here on it counts.
    pub fn publish(&self, name: Unborn, number: u64) -> Result<(), Refusal> {
        let path = self.unborn(name);
        std::fs::rename(&path, self.segment(number)).map_err(Refusal::of("rename", &path))
    }

    /// Itself, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the names to the disk.
    pub fn sync(&self) -> rustix::io::Result<()> {
        rustix::fs::fsync(&self.folder)
    }
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(Refusal::of("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(OpenError::Held { file: path.into(), pid: holder(&mut file) }),
        Err(errno) => return Err(Refusal::of("lock", path)(errno).into()),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(Refusal::of("write", path))?;
    Ok(file)
}

/// The process that the lock file names, if it has come to that.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = [0; 16];
    let length = file.read(&mut text).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.strip_suffix('\n')?.parse().ok()
}

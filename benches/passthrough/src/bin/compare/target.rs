//! A folder under comparison.

use std::io;
use std::path::PathBuf;

use rustix::fs::statfs;

const FUSE_MAGIC: i64 = 0x6573_5546;

/// A named folder.
pub struct Target {
    /// The name of its column.
    pub name: String,
    /// Where the work is done.
    pub directory: PathBuf,
    /// Whether a FUSE mount shows it, with a page cache of its own above that of the disk.
    pub fuse: bool,
}

impl Target {
    /// Looks at `directory`.
    ///
    /// # Errors
    /// Those of `statfs`.
    pub fn open(name: &str, directory: &str) -> io::Result<Self> {
        let fuse = statfs(directory)?.f_type == FUSE_MAGIC;
        Ok(Self { name: name.to_owned(), directory: directory.into(), fuse })
    }
}

//! The directory of a playground: a mount point and bricks, found, made, and removed again.
//!
//! A process holds a lock on the file `lock` in its directory. A directory without a holder was left by a process that was
//! killed: the next playground removes it, unless the file says that it is to be kept.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, XattrFlags, flock, removexattr, renameat_with, setxattr};
use rustix::io::Errno;

use crate::codes::Code;
use crate::failure::Failure;
use crate::mountinfo;

/// Playgrounds of one user in one directory.
const PLACES_MAX: u32 = 1000;
/// What the lock file of a directory says that is to be kept.
const KEEP: &[u8] = b"keep\n";
const LOCK: &str = "lock";
const MOUNT: &str = "mnt";

/// A directory that belongs to this process.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    keep: bool,
    _lock: File,
}

impl Place {
    /// Makes a directory in `$XDG_RUNTIME_DIR`, or in the temporary directory where the first cannot hold a brick.
    ///
    /// # Errors
    /// `DevPlace`.
    pub fn make(keep: bool) -> Result<Place, Failure> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut refused = Vec::new();
        for parent in runtime.into_iter().chain([std::env::temp_dir()]) {
            match Place::beneath(&parent, keep) {
                Ok(place) => return Ok(place),
                Err(error) => refused.push(format!("{}: {error}", parent.display())),
            }
        }
        Err(Failure::new(Code::DevPlace, "there is no place for the playground")
            .because(refused.join("\n"))
            .next("set TMPDIR to a directory on ext4, xfs or btrfs"))
    }

    fn beneath(parent: &Path, keep: bool) -> io::Result<Place> {
        // Without links, as the mount table and volfiles need it.
        let parent = parent.canonicalize()?;
        // Filled and locked before it gets its name, so that no other playground takes it for an abandoned one.
        let unnamed = tempfile_in(&parent)?;
        let named = fill(&unnamed, keep).and_then(|lock| Ok((lock, name(&parent, &unnamed)?)));
        match named {
            Ok((lock, directory)) => Ok(Place { directory, keep, _lock: lock }),
            Err(error) => {
                // It is ours and of no use.
                remove_tree(&unnamed)?;
                Err(error)
            }
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The mount point.
    pub fn mount(&self) -> PathBuf {
        self.directory.join(MOUNT)
    }

    /// Makes the directory of the brick `name`.
    ///
    /// # Errors
    /// `DevPlace`.
    pub fn brick(&self, name: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Failure::new(Code::DevPlace, format!("`{}` cannot be made", path.display())).because(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the directory, unless it is to be kept.
    ///
    /// # Errors
    /// `System`: something of it is still there.
    pub fn clean(mut self) -> Result<(), Failure> {
        self.remove().map_err(|error| {
            Failure::new(Code::System, format!("`{}` could not be removed", self.directory.display())).because(error)
        })
    }

    fn remove(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.keep, true) {
            return Ok(());
        }
        // Never into a volume that is still mounted: that would delete its files, not ours.
        if mountinfo::is_mounted(&self.mount())? {
            return Err(io::Error::other("it is still mounted"));
        }
        remove_tree(&self.directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::error!(directory = %self.directory.display(), %error, "the playground could not be removed");
        }
    }
}

/// A new directory in `parent` that nobody else has.
fn tempfile_in(parent: &Path) -> io::Result<PathBuf> {
    let directory =
        parent.join(format!(".brickwork-dev-{}-{:016x}", std::process::id(), brickwork_api::Gfid::random().ino()));
    DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

/// Makes what belongs into a playground, and locks it.
fn fill(directory: &Path, keep: bool) -> io::Result<File> {
    let lock = File::create_new(directory.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    if keep {
        (&lock).write_all(KEEP)?;
    }
    DirBuilder::new().mode(0o700).create(directory.join(MOUNT))?;
    keeps_attributes(directory)?;
    Ok(lock)
}

/// Gives `directory` the first name in `parent` that is free, or was left by a killed process.
fn name(parent: &Path, directory: &Path) -> io::Result<PathBuf> {
    for number in 1..=PLACES_MAX {
        let name = if number == 1 { "brickwork-dev".to_owned() } else { format!("brickwork-dev-{number}") };
        let named = parent.join(name);
        let take = || renameat_with(CWD, directory, CWD, &named, RenameFlags::NOREPLACE);
        let mut taken = take();
        if taken == Err(Errno::EXIST) && sweep(&named) {
            taken = take();
        }
        match taken {
            Ok(()) => return Ok(named),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other(format!("{PLACES_MAX} playgrounds are there")))
}

/// Tries whether a brick can keep its metadata in `directory`.
fn keeps_attributes(directory: &Path) -> io::Result<()> {
    let class = if rustix::process::geteuid().is_root() { "trusted" } else { "user" };
    let name = CString::new(format!("{class}.brickwork.probe")).map_err(io::Error::other)?;
    setxattr(directory, &*name, b"1", XattrFlags::empty())
        .and_then(|()| removexattr(directory, &*name))
        .map_err(|errno| io::Error::other(format!("extended attributes are not kept there: {errno}")))
}

/// Removes a playground whose process was killed, and answers whether it did. Whatever is no such thing stays.
fn sweep(directory: &Path) -> bool {
    let abandoned = || -> io::Result<bool> {
        let found = fs::symlink_metadata(directory)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Ok(false);
        }
        let lock = File::open(directory.join(LOCK))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || fs::read(directory.join(LOCK))? == KEEP {
            return Ok(false);
        }
        let mount = directory.join(MOUNT);
        if mountinfo::is_mounted(&mount)? {
            brickwork_fuse::mount::unmount(&mount).map_err(io::Error::other)?;
        }
        remove_tree(directory)?;
        Ok(true)
    };
    abandoned().unwrap_or_else(|error| {
        tracing::debug!(directory = %directory.display(), %error, "what is there stays");
        false
    })
}

/// Removes `directory` with everything in it, also what was made unwritable in it.
fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(directory)?;
            fs::remove_dir_all(directory)
        }
        removed => removed,
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_playgrounds_at_once_are_two_directories_and_leave_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let first = Place::beneath(parent.path(), false).unwrap();
        let second = Place::beneath(parent.path(), false).unwrap();
        assert_ne!(first.directory(), second.directory());
        first.clean().unwrap();
        drop(second);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_playground_left_is_removed_by_the_next_unless_it_is_to_be_kept() {
        let parent = tempfile::tempdir().unwrap();
        for (name, lock) in [("brickwork-dev", b"".as_slice()), ("brickwork-dev-2", KEEP)] {
            let left = parent.path().join(name);
            fs::create_dir_all(left.join("b1/unwritable/below")).unwrap();
            fs::set_permissions(left.join("b1/unwritable"), fs::Permissions::from_mode(0o555)).unwrap();
            fs::write(left.join(LOCK), lock).unwrap();
        }
        let first = Place::beneath(parent.path(), false).unwrap_or_else(|error| panic!("{error}"));
        let second = Place::beneath(parent.path(), false).unwrap();
        // The name is taken again by the one after the sweep, and the kept one is passed over.
        assert!(parent.path().join("brickwork-dev-2/b1").exists());
        drop((first, second));
        assert!(!parent.path().join("brickwork-dev").exists());
        assert!(!parent.path().join("brickwork-dev-3").exists());
    }

    #[test]
    fn a_directory_of_that_name_that_is_no_playground_stays() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("brickwork-dev")).unwrap();
        fs::write(parent.path().join("brickwork-dev/mine"), "").unwrap();
        Place::beneath(parent.path(), false).unwrap().clean().unwrap();
        assert!(parent.path().join("brickwork-dev/mine").exists());
    }
}

//! The instances of this user: their names, their admin sockets, and which of them live.
//!
//! A running process holds a lock on `NAME.lock`, which lists its mount points, and listens on `NAME.sock`, in a
//! directory that nobody else can write to. The lock decides: the kernel releases it when the process ends, however it ends. So a name is taken exactly
//! as long as its process lives, and a socket without a holder of its lock is rubbish.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::codes::Code;
use crate::failure::Failure;

/// Instances of one user with names from the same stem: `gd1`, `gd1-2`, … up to this number.
pub const SAME_NAME_MAX: u32 = 1000;

/// The directory with the admin sockets of this user.
#[derive(Clone, Debug)]
pub struct Runtime(PathBuf);

impl Runtime {
    /// `$BRICKWORK_RUNTIME_DIR`; else `/run/brickwork` for root, `$XDG_RUNTIME_DIR/brickwork` for others, and where
    /// there is none a directory of the user in the temporary directory. It need not exist.
    #[must_use]
    pub fn find() -> Runtime {
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let uid = rustix::process::geteuid();
        Runtime(match (given("BRICKWORK_RUNTIME_DIR"), given("XDG_RUNTIME_DIR")) {
            (Some(directory), _) => directory,
            (None, _) if uid.is_root() => PathBuf::from("/run/brickwork"),
            (None, Some(directory)) => directory.join("brickwork"),
            (None, None) => std::env::temp_dir().join(format!("brickwork-{}", uid.as_raw())),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The admin socket of the instance `name`.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.sock"))
    }

    fn lock(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.lock"))
    }

    /// The names of the instances that live, sorted. Removes what dead ones left.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn instances(&self) -> Result<Vec<String>, Failure> {
        let unreadable = |error: io::Error| {
            Failure::new(Code::RuntimeDirectory, format!("`{}` cannot be read", self.0.display())).because(error)
        };
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(unreadable)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "sock")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
                && self.lives(name)
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The living instance that is mounted at the absolute path `point`.
    ///
    /// # Errors
    /// As [`Runtime::instances`].
    pub fn mounted_at(&self, point: &Path) -> Result<Option<String>, Failure> {
        let lists =
            |name: &String| fs::read(self.lock(name)).is_ok_and(|list| points(&list).any(|listed| listed == point));
        Ok(self.instances()?.into_iter().find(lists))
    }

    /// The mount points of all living instances.
    ///
    /// # Errors
    /// As [`Runtime::instances`].
    pub fn mounted(&self) -> Result<Vec<PathBuf>, Failure> {
        let lists = self.instances()?.into_iter().filter_map(|name| fs::read(self.lock(&name)).ok());
        Ok(lists.flat_map(|list| points(&list).map(Path::to_owned).collect::<Vec<_>>()).collect())
    }

    /// Whether the process of `name` lives. What a dead one left is removed.
    fn lives(&self, name: &str) -> bool {
        // Only when nobody listens is the lock looked at: a look at the lock of a living process would
        // be in the way of nobody, but one at a name just being taken would make that process choose another.
        if std::os::unix::net::UnixStream::connect(self.socket(name)).is_ok() {
            return true;
        }
        match self.try_lock(name) {
            Ok(Some(lock)) => {
                drop(Claim { name: name.to_owned(), runtime: self.clone(), lock });
                false
            }
            Ok(None) => true,
            Err(error) => {
                tracing::debug!(name, %error, "the lock of an instance cannot be looked at");
                false
            }
        }
    }

    /// Takes the name `wanted`, or `wanted-2` and so on when it is taken, for this process.
    ///
    /// # Errors
    /// A directory that cannot be made or that others can write to.
    pub fn claim(&self, wanted: &str) -> Result<Claim, Failure> {
        self.make()?;
        let stem = name_of(wanted);
        let names = std::iter::once(stem.clone()).chain((2..=SAME_NAME_MAX).map(|number| format!("{stem}-{number}")));
        for name in names {
            let lock = self.try_lock(&name).map_err(|error| {
                Failure::new(Code::RuntimeDirectory, format!("`{}` cannot be locked", self.lock(&name).display()))
                    .because(error)
            })?;
            if let Some(lock) = lock {
                return Ok(Claim { name, runtime: self.clone(), lock });
            }
        }
        Err(Failure::new(Code::RuntimeDirectory, format!("{SAME_NAME_MAX} instances called `{stem}` are running"))
            .next("give this one another name with `-i NAME`"))
    }

    /// Locks `name`; `None` when another process has it.
    fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        let path = self.lock(name);
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                locked => locked?,
            }
            // The file may have been removed by its holder between our open and our lock: then it locks nothing.
            let ours = file.metadata()?;
            match fs::metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => return Ok(Some(file)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    fn make(&self) -> Result<(), Failure> {
        let refused = |why: String| {
            Failure::new(Code::RuntimeDirectory, format!("`{}` cannot hold admin sockets", self.0.display()))
                .because(why)
                .next("name another directory with BRICKWORK_RUNTIME_DIR")
        };
        let mode = if rustix::process::geteuid().is_root() { 0o755 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(&self.0).map_err(|error| refused(error.to_string()))?;
        let found = fs::symlink_metadata(&self.0).map_err(|error| refused(error.to_string()))?;
        match () {
            () if !found.is_dir() => Err(refused("it is no directory".to_owned())),
            () if found.uid() != rustix::process::geteuid().as_raw() => {
                Err(refused(format!("it belongs to uid {}", found.uid())))
            }
            () if found.mode() & 0o022 != 0 => {
                Err(refused(format!("others can write to it (mode {:o})", found.mode() & 0o7777)))
            }
            () => Ok(()),
        }
    }
}

/// A name that belongs to this process until it is dropped; then its files are removed.
#[derive(Debug)]
pub struct Claim {
    name: String,
    runtime: Runtime,
    lock: File,
}

impl Claim {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lists `points` as the mount points of this process, in place of those listed before.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn list_mounts<'a>(&self, points: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
        let mut list = Vec::new();
        for point in points {
            list.extend_from_slice(point.as_os_str().as_bytes());
            // No path holds a NUL.
            list.push(0);
        }
        self.lock.set_len(0)?;
        self.lock.write_all_at(&list, 0)
    }

    /// Where the admin socket belongs. What a dead process left there is removed.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn socket(&self) -> io::Result<PathBuf> {
        let path = self.runtime.socket(&self.name);
        remove(&path)?;
        Ok(path)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock is held until the fields are dropped, after this: nobody can have taken the name meanwhile.
        for path in [self.runtime.socket(&self.name), self.runtime.lock(&self.name)] {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a file of this instance could not be removed");
            }
        }
    }
}

fn points(list: &[u8]) -> impl Iterator<Item = &Path> {
    // Each ends with a NUL: behind the last is nothing.
    list.split(|&byte| byte == 0).filter(|point| !point.is_empty()).map(|point| Path::new(OsStr::from_bytes(point)))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// `wanted` with everything replaced that does not belong into a file name or a command line; never empty.
fn name_of(wanted: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = wanted.chars().map(keep).take(64).collect();
    match name.trim_matches(['.', '-']) {
        "" => "volume".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> (tempfile::TempDir, Runtime) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime(directory.path().join("brickwork"));
        (directory, runtime)
    }

    #[test]
    fn a_taken_name_gets_a_number_and_is_free_again_when_dropped() {
        let (_directory, runtime) = runtime();
        let first = runtime.claim("dev").unwrap();
        let second = runtime.claim("dev").unwrap();
        assert_eq!([first.name(), second.name()], ["dev", "dev-2"]);
        drop(first);
        assert_eq!(runtime.claim("dev").unwrap().name(), "dev");
        assert_eq!(second.name(), "dev-2");
    }

    #[test]
    fn a_dead_instance_is_not_listed_and_what_it_left_is_removed() {
        let (_directory, runtime) = runtime();
        let living = runtime.claim("living").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(living.socket().unwrap()).unwrap();
        // A process killed by SIGKILL leaves both files; only its lock is gone.
        fs::write(runtime.lock("dead"), "").unwrap();
        drop(std::os::unix::net::UnixListener::bind(runtime.socket("dead")).unwrap());
        assert_eq!(runtime.instances().unwrap(), ["living"]);
        assert!(!runtime.socket("dead").exists() && !runtime.lock("dead").exists());
        assert!(runtime.socket("living").exists());
    }

    #[test]
    fn an_instance_is_found_by_its_mount_point() {
        let (_directory, runtime) = runtime();
        let claim = runtime.claim("gd1").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(claim.socket().unwrap()).unwrap();
        claim.list_mounts([Path::new("/mnt/a"), Path::new("/mnt/b")]).unwrap();
        assert_eq!(runtime.mounted_at(Path::new("/mnt/b")).unwrap().as_deref(), Some("gd1"));
        assert_eq!(runtime.mounted().unwrap(), [PathBuf::from("/mnt/a"), PathBuf::from("/mnt/b")]);
        claim.list_mounts([Path::new("/mnt/a")]).unwrap();
        assert_eq!(runtime.mounted_at(Path::new("/mnt/b")).unwrap(), None);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, runtime) = runtime();
        fs::create_dir(&runtime.0).unwrap();
        fs::set_permissions(&runtime.0, fs::Permissions::from_mode(0o777)).unwrap();
        let failure = runtime.claim("dev").unwrap_err();
        assert_eq!(failure.code(), Code::RuntimeDirectory);
        assert_eq!(failure.why(), Some("others can write to it (mode 777)"));
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        assert_eq!(name_of("../../etc/x y"), "etc-x-y");
        assert_eq!(name_of("…"), "volume");
    }
}

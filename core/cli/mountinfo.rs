//! The mounts of Brickwork that the kernel knows, also those whose process has died.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The file system type that the kernel shows for our mounts.
pub const FILE_SYSTEM: &str = "fuse.brickwork";

/// How a mount point is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Alive,
    /// Nobody serves it any more.
    Dead,
}

/// The mount points of Brickwork that this process can see, in the order of mounting.
///
/// # Errors
/// `/proc` is not readable.
pub fn mount_points() -> io::Result<Vec<PathBuf>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Whether a mount of Brickwork is on top at `path`.
///
/// # Errors
/// As [`mount_points`].
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Asks the mount at `path` for its state. Blocks for as long as the file system does.
///
/// # Errors
/// What the system said when it was neither an answer nor "nobody is there".
pub fn state(path: &Path) -> io::Result<State> {
    match rustix::fs::statfs(path) {
        Ok(_) => Ok(State::Alive),
        Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(State::Dead),
        Err(errno) => Err(errno.into()),
    }
}

/// The absolute path of `path` without links, also where a dead mount gives no answer.
///
/// # Errors
/// The directory above does not exist.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    // A dead mount answers an error here: then it is no link.
    if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return path.canonicalize();
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(path),
    }
}

fn parse(text: &[u8]) -> Vec<PathBuf> {
    let points = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        (*fields.get(separator + 1)? == FILE_SYSTEM.as_bytes()).then(|| unescape(fields[4]))
    });
    points.collect()
}

/// Replaces `\ooo`, as the kernel writes blanks and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_mounts_are_found_and_blanks_in_their_paths_are_read() {
        let text = b"22 1 0:20 / /proc rw shared:5 - proc proc rw\n\
            40 1 0:35 / /mnt/my\\040files\\134 rw,nosuid shared:9 master:1 - fuse.brickwork dev.vol rw,user_id=0\n\
            41 1 0:36 / /mnt/other rw - fuse.sshfs host: rw\nrubbish\n";
        assert_eq!(parse(text), [PathBuf::from("/mnt/my files\\")]);
    }
}

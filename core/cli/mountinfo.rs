//! The mounts of Brickwork that the kernel knows, also those whose process has died.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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

/// How the mounts at `points` are; `None` for one that gives no answer within `limit`.
///
/// Each is asked by a thread of its own: one that hangs in a call of a broken file system holds nobody up.
#[must_use]
pub fn states(points: Vec<PathBuf>, limit: Duration) -> Vec<(PathBuf, Option<State>)> {
    let (answers, answered) = mpsc::channel();
    for point in points.iter().cloned() {
        let answers = answers.clone();
        std::thread::spawn(move || {
            let state = match rustix::fs::statfs(&point) {
                Err(Errno::NOTCONN | Errno::CONNABORTED) => State::Dead,
                _ => State::Alive,
            };
            // Nobody listens after the limit.
            let _ = answers.send((point, state));
        });
    }
    drop(answers);
    let end = Instant::now() + limit;
    let mut known: Vec<(PathBuf, State)> = Vec::new();
    while let Ok(answer) = answered.recv_timeout(end.saturating_duration_since(Instant::now())) {
        known.push(answer);
    }
    let state = |point: &PathBuf| known.iter().find(|(other, _)| other == point).map(|(_, state)| *state);
    points.into_iter().map(|point| (point.clone(), state(&point))).collect()
}

/// The absolute path of `path` without links, asking no mount of ours that is at it: that may be dead or stuck.
///
/// # Errors
/// The directory above does not exist.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    let placed = parent.canonicalize()?.join(name);
    if is_mounted(&placed)? || !placed.is_symlink() { Ok(placed) } else { placed.canonicalize() }
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

//! What is mounted where, by `/proc/self/mountinfo`: looking there asks no server anything.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mounted {
    pub(super) point: PathBuf,
    pub(super) device_minor: u32,
    pub(super) kind: Vec<u8>,
}

impl Mounted {
    /// Whether it is a FUSE mount of any subtype.
    pub(super) fn is_fuse(&self) -> bool {
        self.kind == b"fuse" || self.kind.starts_with(b"fuse.")
    }

    /// Whether it is a mount of this project.
    pub(super) fn is_ours(&self) -> bool {
        self.kind == super::MOUNT_TYPE.as_bytes()
    }

    /// Reads `id parent major:minor root point options [tags] - type source options`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = std::str::from_utf8(fields.nth(2)?).ok()?;
        let device_minor = device.split_once(':')?.1.parse().ok()?;
        let point = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
        let kind = fields.skip_while(|&field| field != b"-").nth(1)?.to_vec();
        Some(Self { point, device_minor, kind })
    }
}

/// The mount seen at the absolute path `point`: the last of those there.
pub(super) fn top(point: &Path) -> Option<Mounted> {
    last(&read(), point)
}

/// Whether anything is mounted at the absolute path `point`.
pub(super) fn is_mounted(point: &Path) -> bool {
    top(point).is_some()
}

fn read() -> Vec<u8> {
    std::fs::read("/proc/self/mountinfo").unwrap_or_else(|why| {
        tracing::warn!(%why, "/proc/self/mountinfo cannot be read; nothing seems to be mounted");
        Vec::new()
    })
}

fn last(table: &[u8], point: &Path) -> Option<Mounted> {
    table.split(|&byte| byte == b'\n').filter_map(Mounted::parse).rfind(|mounted| mounted.point == point)
}

/// Undoes the table's `\040` for space, tab, newline and backslash.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.first_chunk::<3>()).flatten();
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:51 / /mnt/a rw - fuse.brickwork old rw
41 22 0:52 / /mnt/a rw shared:7 master:2 - fuse.brickwork new rw,user_id=0
42 22 0:53 / /mnt/with\\040space\\134 rw - fuse vol rw
damaged line
";

    #[test]
    fn the_last_mount_at_a_point_is_the_one_seen() {
        let seen = last(TABLE, Path::new("/mnt/a")).unwrap();
        assert_eq!((seen.device_minor, seen.is_ours()), (52, true));
    }

    #[test]
    fn points_are_unescaped() {
        let seen = last(TABLE, Path::new("/mnt/with space\\")).unwrap();
        assert!(seen.is_fuse() && !seen.is_ours());
    }

    #[test]
    fn what_is_not_mounted_is_not_found() {
        assert_eq!(last(TABLE, Path::new("/mnt")), None);
        assert!(!last(TABLE, Path::new("/")).unwrap().is_fuse());
    }
}

//! What a new object inherits from its directory: group, set-gid bit, ACLs.
//!
//! The kernel does this for files that it creates in their directory. Directories, links and special files are made in the
//! staging folder first, so it is done here, by the same rules. Pure.

/// What a new object starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// Permission, set-id and sticky bits.
    pub(crate) mode: u32,
    /// Its `system.posix_acl_access`, where it says more than the mode.
    pub(crate) access: Option<Vec<u8>>,
    /// Its `system.posix_acl_default`.
    pub(crate) default: Option<Vec<u8>>,
}

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

const HEADER: usize = 4;
const ENTRY: usize = 8;

/// Mode and ACLs of a new object of `mode` in a directory whose default ACL is `default`.
///
/// # Source
/// `posix_acl_create()` of Linux; the layout of the xattr is that of `linux/posix_acl_xattr.h`.
pub(crate) fn inherit(default: Option<&[u8]>, mode: u32, umask: u32, directory: bool) -> Inherited {
    let Some(default) = default.filter(|acl| well_formed(acl)) else {
        return Inherited { mode: mode & !(umask & 0o777), access: None, default: None };
    };
    let mut acl = default.to_vec();
    let mut mode = mode;
    let mut says_more = false;
    let has_mask = entries(&acl).any(|(_, tag)| tag == MASK);
    for (at, tag) in entries(default) {
        let shift = match tag {
            USER_OBJ => 6,
            OTHER => 0,
            MASK => 3,
            GROUP_OBJ if !has_mask => 3,
            _ => {
                says_more |= matches!(tag, USER | GROUP);
                continue;
            }
        };
        says_more |= tag == MASK;
        let allowed = u32::from(acl[at + 2]) & mode >> shift & 7;
        acl[at + 2] = allowed as u8;
        mode = mode & !(7 << shift) | allowed << shift;
    }
    Inherited { mode, access: says_more.then_some(acl), default: directory.then(|| default.to_vec()) }
}

/// The mode of a new object in a directory with the set-gid bit, and whether it gets the directory's group.
///
/// # Source
/// `inode_init_owner()` and `mode_strip_sgid()` of Linux.
pub(crate) fn in_setgid_directory(mode: u32, directory: bool, may_keep: bool) -> u32 {
    const BOTH: u32 = libc::S_ISGID | libc::S_IXGRP;
    match directory {
        true => mode | libc::S_ISGID,
        false if mode & BOTH == BOTH && !may_keep => mode & !libc::S_ISGID,
        false => mode,
    }
}

fn well_formed(acl: &[u8]) -> bool {
    acl.len() > HEADER && (acl.len() - HEADER).is_multiple_of(ENTRY) && acl[..HEADER] == 2_u32.to_le_bytes()
}

/// Place and tag of each entry.
fn entries(acl: &[u8]) -> impl Iterator<Item = (usize, u16)> {
    (HEADER..acl.len()).step_by(ENTRY).map(|at| (at, u16::from_le_bytes([acl[at], acl[at + 1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u8, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, allowed, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(u16::from(*allowed).to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn without_a_default_acl_the_umask_counts() {
        let inherited = inherit(None, 0o4777, 0o022, true);
        assert_eq!(inherited, Inherited { mode: 0o4755, access: None, default: None });
    }

    #[test]
    fn with_a_default_acl_the_umask_does_not_count() {
        let default = acl(&[(USER_OBJ, 7, 0), (USER, 6, 1000), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 4, 0)]);
        let inherited = inherit(Some(&default), 0o770, 0o077, true);
        assert_eq!(inherited.mode, 0o770);
        assert_eq!(inherited.default, Some(default));
        let access = acl(&[(USER_OBJ, 7, 0), (USER, 6, 1000), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 0, 0)]);
        assert_eq!(inherited.access, Some(access));
    }

    #[test]
    fn an_acl_that_says_what_the_mode_says_is_not_kept_on_a_file() {
        let default = acl(&[(USER_OBJ, 6, 0), (GROUP_OBJ, 4, 0), (OTHER, 0, 0)]);
        let inherited = inherit(Some(&default), 0o666, 0, false);
        assert_eq!(inherited, Inherited { mode: 0o640, access: None, default: None });
    }

    #[test]
    fn a_directory_hands_the_set_gid_bit_on_and_a_file_loses_one_it_may_not_have() {
        assert_eq!(in_setgid_directory(0o755, true, false), 0o2755);
        assert_eq!(in_setgid_directory(0o2755, false, false), 0o755);
        assert_eq!(in_setgid_directory(0o2755, false, true), 0o2755);
        assert_eq!(in_setgid_directory(0o2745, false, false), 0o2745);
    }

    #[test]
    fn an_xattr_that_is_no_acl_counts_as_none() {
        for bytes in [&b""[..], b"\x02\0\0\0", b"\x01\0\0\0\0\0\0\0\0\0\0\0", b"\x02\0\0\0\x01"] {
            assert_eq!(inherit(Some(bytes), 0o777, 0o022, true).mode, 0o755);
        }
    }
}

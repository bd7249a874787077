//! The names of the xattrs in which a brick keeps what it knows of an object.
//!
//! With `CAP_SYS_ADMIN` they are GlusterFS's own; without, the same things stand under `user.brickwork.`.

use std::ffi::{CStr, CString};

use brickwork_api::{Gfid, XattrName};

use crate::handle;

/// Which names a brick uses: decided when it is first served, the same for ever after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// GlusterFS's.
    Trusted,
    /// Those that need no privilege.
    User,
}

/// What an application may do with an xattr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Everything that the kernel lets it.
    Open,
    /// Root may read and change it.
    Root,
    /// It does not exist, and cannot be made.
    Hidden,
}

impl Keys {
    /// 16 bytes, on every object.
    pub(crate) fn gfid(self) -> &'static CStr {
        match self {
            Keys::Trusted => c"trusted.gfid",
            Keys::User => c"user.brickwork.gfid",
        }
    }

    /// 16 bytes, on the root.
    pub(crate) fn volume_id(self) -> &'static CStr {
        match self {
            Keys::Trusted => c"trusted.glusterfs.volume-id",
            Keys::User => c"user.brickwork.volume-id",
        }
    }

    /// On the root: this brick is, or was, served by Brickwork. All that stays on a brick of GlusterFS.
    pub(crate) fn mark(self) -> &'static CStr {
        match self {
            Keys::Trusted => c"trusted.brickwork.brick",
            Keys::User => c"user.brickwork.brick",
        }
    }

    /// Whether objects carry an xattr for each of their names.
    ///
    /// Not without privilege: an xattr of `user.` cannot be set on a file that its owner may not write.
    pub(crate) fn has_paths(self) -> bool {
        self == Keys::Trusted
    }

    /// In words, for `status`.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Keys::Trusted => "trusted",
            Keys::User => "user.brickwork",
        }
    }
}

/// Start of the keys that hold the names of an object.
pub(crate) const PATH_PREFIX: &[u8] = b"trusted.gfid2path.";

/// Key and value that say that an object has `name` in `parent`.
///
/// # Source
/// GlusterFS's gfid2path: the key ends in the xxhash64 (seed 0) of the value `<gfid of the parent>/<name>`.
pub(crate) fn path_xattr(parent: Gfid, name: &[u8]) -> (CString, Vec<u8>) {
    let value = [&handle::uuid(parent)[..], b"/", name].concat();
    let hash = twox_hash::XxHash64::oneshot(0, &value);
    let key = CString::new(format!("trusted.gfid2path.{hash:016x}")).expect("hexadecimal digits");
    (key, value)
}

/// Parent and name in the value of such a key.
pub(crate) fn parse_path_value(value: &[u8]) -> Option<(Gfid, &[u8])> {
    let (parent, name) = value.split_at_checked(36)?;
    Some((handle::parse_gfid(parent)?, name.strip_prefix(b"/")?))
}

/// What an application may do with `name`.
pub(crate) fn visibility(name: &[u8]) -> Visibility {
    const HIDDEN: [&[u8]; 5] =
        [b"trusted.gfid", b"trusted.pgfid.", b"trusted.glusterfs.", b"trusted.brickwork.", b"user.brickwork."];
    if HIDDEN.iter().any(|prefix| name.starts_with(prefix)) {
        Visibility::Hidden
    } else if name.starts_with(b"trusted.") {
        Visibility::Root
    } else {
        Visibility::Open
    }
}

/// Whether only root may set `name`, by the kernel's own rule for processes without `CAP_SYS_ADMIN`.
///
/// The brick has that capability, so the kernel below would not ask.
pub(crate) fn only_root_sets(name: &XattrName) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.") || name.starts_with(b"security.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_name_is_the_one_glusterfs_wrote() {
        // Read off the fixture `fixa`, brick b1.
        for (name, hash) in [("1.13", "89a41b89cc83a3e4"), ("漢字.154", "9d963f4602dd6a3e")] {
            let (key, value) = path_xattr(Gfid::ROOT, name.as_bytes());
            assert_eq!(key.to_str().unwrap(), format!("trusted.gfid2path.{hash}"));
            assert_eq!(value, format!("00000000-0000-0000-0000-000000000001/{name}").as_bytes());
            assert_eq!(parse_path_value(&value), Some((Gfid::ROOT, name.as_bytes())));
        }
    }

    #[test]
    fn what_the_brick_keeps_for_itself_is_hidden_and_the_rest_is_not() {
        for name in
            ["trusted.gfid", "trusted.gfid2path.0123456789abcdef", "trusted.glusterfs.dht", "user.brickwork.gfid"]
        {
            assert_eq!(visibility(name.as_bytes()), Visibility::Hidden, "{name}");
        }
        assert_eq!(visibility(b"trusted.SGI_ACL_FILE"), Visibility::Root);
        for name in ["user.note", "system.posix_acl_access", "security.capability", "user.brickworker"] {
            assert_eq!(visibility(name.as_bytes()), Visibility::Open, "{name}");
        }
    }
}

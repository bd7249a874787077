//! Handles: the second way to every object, by its gfid.
//!
//! `.glusterfs/XX/YY/<gfid>`, XX and YY the first two bytes in hexadecimal: for a directory a symbolic link with the text
//! `../../PX/PY/<gfid of the parent>/<name>`, for everything else one more hard link. Pure; the layout is GlusterFS's.

use std::ffi::CStr;

use brickwork_api::{Gfid, Name};

/// The folder of the handles, in the brick's root.
pub(crate) const FOLDER: &[u8] = b".glusterfs";

/// The text of the root's handle.
pub(crate) const ROOT_TEXT: &str = "../../..";

/// Longest text of a directory's handle: the fixed part and a name.
pub(crate) const TEXT_MAX: usize = 64 + Name::MAX;

/// The path of a handle from the folder of the handles: `XX/YY/<gfid>`.
#[derive(Clone, Copy)]
pub(crate) struct HandlePath([u8; 43]);

impl HandlePath {
    pub(crate) fn of(gfid: Gfid) -> HandlePath {
        let mut path = [0; 43];
        let text = uuid(gfid);
        path[..2].copy_from_slice(&text[..2]);
        path[2] = b'/';
        path[3..5].copy_from_slice(&text[2..4]);
        path[5] = b'/';
        path[6..42].copy_from_slice(&text);
        HandlePath(path)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0).expect("hexadecimal digits and one NUL")
    }

    /// `XX` and `XX/YY`: the folders it needs.
    pub(crate) fn folders(&self) -> [&[u8]; 2] {
        [&self.0[..2], &self.0[..5]]
    }

    /// `<gfid>`.
    pub(crate) fn name(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0[6..]).expect("hexadecimal digits and one NUL")
    }
}

/// The text of the handle of the directory `name` in `parent`.
pub(crate) fn directory_text(parent: Gfid, name: &[u8]) -> Vec<u8> {
    let path = HandlePath::of(parent);
    [b"../../", path.as_c_str().to_bytes(), b"/", name].concat()
}

/// Parent and name in the text of a directory's handle; `None` when it is no such text.
pub(crate) fn parse_directory_text(text: &[u8]) -> Option<(Gfid, Name)> {
    let rest = text.strip_prefix(b"../../")?;
    let (path, name) = (rest.get(..42)?, rest.get(42..)?.strip_prefix(b"/")?);
    let gfid = parse_gfid(&path[6..])?;
    let canonical = HandlePath::of(gfid).as_c_str().to_bytes() == path;
    canonical.then_some(())?;
    Some((gfid, Name::new(name).ok()?))
}

/// The gfid that `text` spells; `None` when it is not one in lower case.
pub(crate) fn parse_gfid(text: &[u8]) -> Option<Gfid> {
    let gfid: Gfid = std::str::from_utf8(text).ok()?.parse().ok()?;
    (uuid(gfid)[..] == *text).then_some(gfid)
}

/// The gfid as text, without an allocation.
pub(crate) fn uuid(gfid: Gfid) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in gfid.to_bytes().into_iter().enumerate() {
        at += usize::from(matches!(index, 4 | 6 | 8 | 10));
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_gfid_is_that_of_its_display() {
        for gfid in [Gfid::ROOT, Gfid::random(), Gfid::from_bytes([0xff; 16])] {
            assert_eq!(uuid(gfid), gfid.to_string().as_bytes());
        }
    }

    #[test]
    fn a_handle_lies_in_two_folders_named_by_its_first_bytes() {
        let path = HandlePath::of("a6d69619-74f1-43c3-85bf-5277594aa13a".parse().unwrap());
        assert_eq!(path.as_c_str(), c"a6/d6/a6d69619-74f1-43c3-85bf-5277594aa13a");
        assert_eq!(path.folders(), [&b"a6"[..], b"a6/d6"]);
        assert_eq!(path.name(), c"a6d69619-74f1-43c3-85bf-5277594aa13a");
    }

    #[test]
    fn the_text_of_a_directory_is_read_as_it_was_written() {
        let parent = Gfid::random();
        let text = directory_text(parent, b"a name");
        assert!(text.len() <= TEXT_MAX);
        assert_eq!(parse_directory_text(&text), Some((parent, Name::new(b"a name").unwrap())));
    }

    #[test]
    fn a_text_that_leads_anywhere_else_is_no_handle() {
        let root = HandlePath::of(Gfid::ROOT);
        let root = std::str::from_utf8(root.as_c_str().to_bytes()).unwrap();
        for text in [
            "",
            "../../..",
            "/etc/passwd",
            &format!("../../{root}"),
            &format!("../../{root}/"),
            &format!("../../{root}/.."),
            &format!("../../{root}/a/b"),
            &format!("../../{}/a", root.replacen("00/00", "00/01", 1)),
        ] {
            assert_eq!(parse_directory_text(text.as_bytes()), None, "{text}");
        }
    }
}

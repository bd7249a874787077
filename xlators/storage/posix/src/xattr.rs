//! Extended attributes: those of applications, passed through to the brick's file system (ACLs among them), and those that
//! are made up when asked for.
//!
//! What the brick keeps for itself is hidden: reading it is `ENODATA`, setting it `EPERM`.
//!
//! | virtual | value |
//! | --- | --- |
//! | `glusterfs.gfid.string` | the gfid as text |
//! | `glusterfs.gfid` | its 16 bytes |
//! | `glusterfs.gfidtopath` | the path in the volume, of one of the names |
//! | `trusted.glusterfs.pathinfo`, `glusterfs.pathinfo` | `<POSIX(brick):host:path on the brick>` |

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use brickwork_api::{
    Bytes, ClientId, Credentials, Errno, FopError, FopResult, Gfid, SetxattrReq, Target, XattrMode, XattrName,
    XattropKind, XattropReq,
};
use rustix::io::Errno as Sys;

use crate::attr::{is_dir, set_mode};
use crate::brick::Brick;
use crate::handle::{self, HandlePath};
use crate::keys::{self, Visibility};
use crate::resolve::{CName, Object};
use crate::sys::{self, At};

/// Longest value and longest list that Linux has, in bytes.
const LONGEST: usize = 64 << 10;

/// Reads an xattr of any length.
pub(crate) fn read(at: At<'_>, name: &CStr) -> rustix::io::Result<Vec<u8>> {
    grow(|buffer| sys::get_xattr(at, name, buffer))
}

/// Reads the list of names.
pub(crate) fn list(at: At<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let names = grow(|buffer| sys::list_xattrs(at, buffer))?;
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn grow(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Sys::RANGE) if buffer.len() < LONGEST => buffer.resize(LONGEST, 0),
            Err(errno) => return Err(errno),
        }
    }
}

fn c_name(name: &XattrName) -> CString {
    CString::new(name.as_bytes()).expect("names of xattrs hold no NUL")
}

impl Brick {
    /// The object of `target` for calls as ourselves.
    fn target(&self, client: ClientId, target: Target) -> FopResult<Object> {
        match target.open {
            Some(open) => Ok(Object::Open(self.opens.get(client, target.gfid, open)?)),
            None => Ok(self.object(target.gfid)?.0),
        }
    }

    /// Reads an xattr.
    pub(crate) fn getxattr(
        &self,
        client: ClientId,
        who: &Credentials,
        target: Target,
        name: &XattrName,
    ) -> FopResult<Bytes> {
        let object = self.target(client, target)?;
        if let Some(value) = self.virtual_xattr(&object, target.gfid, name)? {
            return Ok(value);
        }
        match keys::visibility(name.as_bytes()) {
            Visibility::Hidden => return Err(Errno::ENODATA.into()),
            Visibility::Root if who.uid != 0 => return Err(Errno::ENODATA.into()),
            Visibility::Root | Visibility::Open => {}
        }
        Ok(Bytes::from(read(object.at(self), &c_name(name))?))
    }

    /// Lists the xattrs that the caller may see.
    pub(crate) fn listxattr(&self, client: ClientId, who: &Credentials, target: Target) -> FopResult<Vec<XattrName>> {
        let object = self.target(client, target)?;
        let mut names = Vec::new();
        for name in list(object.at(self))? {
            let shown = match keys::visibility(&name) {
                Visibility::Open => true,
                Visibility::Root => who.uid == 0,
                Visibility::Hidden => false,
            };
            if shown {
                names.push(XattrName::new(&name)?);
            }
        }
        Ok(names)
    }

    /// Sets an xattr as `who`.
    pub(crate) fn setxattr(&self, client: ClientId, who: &Credentials, request: &SetxattrReq) -> FopResult<()> {
        self.check_space()?;
        check_change(who, &request.name)?;
        let grip = self.hold(client, request.target)?;
        let flags = match request.mode {
            XattrMode::Set => 0,
            XattrMode::Create => libc::XATTR_CREATE,
            XattrMode::Replace => libc::XATTR_REPLACE,
        };
        {
            let _acting = self.identities.assume(who)?;
            sys::set_xattr(At::of(&grip), &c_name(&request.name), &request.value, flags)?;
        }
        if request.kill_set_gid {
            let mode = u32::from(sys::stat(At::of(&grip))?.stx_mode);
            if mode & libc::S_ISGID != 0 {
                set_mode(grip.as_fd(), mode & !libc::S_ISGID)?;
            }
        }
        Ok(())
    }

    /// Removes an xattr as `who`.
    pub(crate) fn removexattr(
        &self,
        client: ClientId,
        who: &Credentials,
        target: Target,
        name: &XattrName,
    ) -> FopResult<()> {
        check_change(who, name)?;
        let grip = self.hold(client, target)?;
        let _acting = self.identities.assume(who)?;
        Ok(sys::remove_xattr(At::of(&grip), &c_name(name))?)
    }

    /// Combines stored values with given ones as `who`, each in one step.
    pub(crate) fn xattrop(
        &self,
        client: ClientId,
        who: &Credentials,
        request: &XattropReq,
    ) -> FopResult<Vec<(XattrName, Bytes)>> {
        for (name, _) in &request.values {
            check_change(who, name)?;
        }
        let grip = self.hold(client, request.target)?;
        let at = At::of(&grip);
        let _held = self.objects.object(request.target.gfid);
        let mut answers = Vec::with_capacity(request.values.len());
        for (name, given) in &request.values {
            let key = c_name(name);
            let stored = match read(at, &key) {
                Ok(stored) => stored,
                Err(Sys::NODATA) => Vec::new(),
                Err(errno) => return Err(errno.into()),
            };
            let next = combine(request.kind, &stored, given)?;
            {
                let _acting = self.identities.assume(who)?;
                sys::set_xattr(at, &key, &next, 0)?;
            }
            let answer = if request.kind == XattropKind::GetAndSet { stored } else { next };
            answers.push((name.clone(), Bytes::from(answer)));
        }
        Ok(answers)
    }

    fn virtual_xattr(&self, object: &Object, gfid: Gfid, name: &XattrName) -> FopResult<Option<Bytes>> {
        Ok(Some(match name.as_bytes() {
            b"glusterfs.gfid.string" => Bytes::from(gfid.to_string()),
            b"glusterfs.gfid" => Bytes::copy_from_slice(&gfid.to_bytes()),
            b"glusterfs.gfidtopath" => {
                let path = self.path_of(object, gfid)?;
                let below = path.strip_prefix(self.path.as_os_str().as_encoded_bytes()).unwrap_or(&path);
                if below.is_empty() { Bytes::from_static(b"/") } else { Bytes::copy_from_slice(below) }
            }
            b"trusted.glusterfs.pathinfo" | b"glusterfs.pathinfo" => {
                let brick = self.path.as_os_str().as_encoded_bytes();
                let host = rustix::system::uname();
                let path = self.path_of(object, gfid)?;
                let parts: [&[u8]; 7] = [b"<POSIX(", brick, b"):", host.nodename().to_bytes(), b":", &path, b">"];
                Bytes::from(parts.concat())
            }
            _ => return Ok(None),
        }))
    }

    /// A path of the object on the brick.
    ///
    /// # Errors
    /// `ENODATA` when it has no name that is known.
    fn path_of(&self, object: &Object, gfid: Gfid) -> FopResult<Vec<u8>> {
        if let Object::Dir(dir) = object {
            return self.walk_up(dir.gfid, Vec::new());
        }
        for key in list(object.at(self))? {
            if !key.starts_with(keys::PATH_PREFIX) {
                continue;
            }
            let key = CString::new(key).map_err(|_| Errno::EIO)?;
            let value = read(object.at(self), &key)?;
            if let Some((parent, name)) = keys::parse_path_value(&value).filter(|name| self.is_name_of(*name, gfid)) {
                return self.walk_up(parent, name.to_vec());
            }
        }
        Err(Errno::ENODATA.into())
    }

    /// The path of `name` in the directory `gfid`, from the handles of the directories above.
    fn walk_up(&self, mut gfid: Gfid, name: Vec<u8>) -> FopResult<Vec<u8>> {
        let mut parts = if name.is_empty() { Vec::new() } else { vec![name] };
        while gfid != Gfid::ROOT {
            let text = rustix::fs::readlinkat(&self.handles, HandlePath::of(gfid).as_c_str(), Vec::new())?;
            let (parent, name) = handle::parse_directory_text(text.to_bytes()).ok_or(Errno::ESTALE)?;
            parts.push(name.as_bytes().to_vec());
            if parts.len() > libc::PATH_MAX as usize {
                return Err(Errno::ELOOP.into());
            }
            gfid = parent;
        }
        let mut path = self.path.as_os_str().as_encoded_bytes().to_vec();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        Ok(path)
    }

    /// Whether a name is one of the object `gfid`.
    pub(crate) fn is_name_of(&self, (parent, name): (Gfid, &[u8]), gfid: Gfid) -> bool {
        let Ok(name) = brickwork_api::Name::new(name) else { return false };
        let Ok(dir) = self.dir(parent) else { return false };
        let name = CName::new(&name);
        let at = At { dir: dir.fd.as_fd(), path: name.as_c_str() };
        let found = sys::stat(at).ok().and_then(|stat| {
            let gfid = self.gfid_at(at, &stat).ok().flatten()?;
            (!is_dir(&stat)).then_some(gfid)
        });
        found == Some(gfid)
    }
}

/// Refuses changes of what is not the caller's.
fn check_change(who: &Credentials, name: &XattrName) -> FopResult<()> {
    let hidden = keys::visibility(name.as_bytes()) == Visibility::Hidden || name.as_bytes().starts_with(b"glusterfs.");
    match hidden || (who.uid != 0 && keys::only_root_sets(name)) {
        true => Err(Errno::EPERM.into()),
        false => Ok(()),
    }
}

/// The stored value after one operation; the shorter one counts as if zeros followed.
fn combine(kind: XattropKind, stored: &[u8], given: &[u8]) -> FopResult<Vec<u8>> {
    if kind == XattropKind::GetAndSet {
        return Ok(given.to_vec());
    }
    let width = match kind {
        XattropKind::Add32 => 4,
        XattropKind::Add64 => 8,
        XattropKind::Or | XattropKind::And | XattropKind::GetAndSet => 1,
    };
    let length = stored.len().max(given.len());
    if !length.is_multiple_of(width) || length > LONGEST {
        let error = FopError::new(Errno::EINVAL).doing("combining arrays of numbers");
        return Err(error.with("stored", stored.len()).with("given", given.len()));
    }
    let mut next = vec![0; length];
    for (at, into) in next.chunks_exact_mut(width).enumerate() {
        let (one, two) = (number(stored, at, width), number(given, at, width));
        let combined = match kind {
            XattropKind::Add32 | XattropKind::Add64 => one.wrapping_add(two),
            XattropKind::Or => one | two,
            XattropKind::And | XattropKind::GetAndSet => one & two,
        };
        into.copy_from_slice(&combined.to_be_bytes()[8 - width..]);
    }
    Ok(next)
}

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    (at * width..(at + 1) * width).fold(0, |number, at| number << 8 | u64::from(bytes.get(at).copied().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_big_endian_arrays_and_a_missing_one_is_zeros() {
        let added = combine(XattropKind::Add32, &[], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert_eq!(added, [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        let again = combine(XattropKind::Add32, &added, &[0, 0, 0, 1, 0, 0, 0, 1]).unwrap();
        assert_eq!(again, [0, 0, 0, 2, 0, 0, 0, 0]);
        let wide = combine(XattropKind::Add64, &1_u64.to_be_bytes(), &u64::from(u32::MAX).to_be_bytes()).unwrap();
        assert_eq!(wide, (1_u64 << 32).to_be_bytes());
    }

    #[test]
    fn bits_are_combined_byte_by_byte() {
        assert_eq!(combine(XattropKind::Or, &[0b01, 0xf0], &[0b10]).unwrap(), [0b11, 0xf0]);
        assert_eq!(combine(XattropKind::And, &[0b11, 0xf0], &[0b10]).unwrap(), [0b10, 0]);
        assert_eq!(combine(XattropKind::GetAndSet, &[1], &[2, 3]).unwrap(), [2, 3]);
    }

    #[test]
    fn an_array_of_the_wrong_length_is_refused() {
        assert_eq!(combine(XattropKind::Add32, &[], &[1, 2, 3]).unwrap_err().errno(), Errno::EINVAL);
    }

    #[test]
    fn what_the_brick_keeps_cannot_be_set_and_what_is_roots_only_by_root() {
        let name = |text: &str| XattrName::new(text.as_bytes()).unwrap();
        let user = Credentials { uid: 1000, ..Credentials::root() };
        for hidden in ["trusted.gfid", "user.brickwork.gfid", "glusterfs.gfid.string"] {
            assert!(check_change(&Credentials::root(), &name(hidden)).is_err(), "{hidden}");
        }
        for roots in ["trusted.note", "security.note"] {
            assert!(check_change(&Credentials::root(), &name(roots)).is_ok(), "{roots}");
            assert!(check_change(&user, &name(roots)).is_err(), "{roots}");
        }
        assert!(check_change(&user, &name("user.note")).is_ok());
    }
}

//! Extended attributes of one object, with the rules of Linux about who may have which.

use brickwork_api::{Bytes, Credentials, Errno, FileKind, XattrMode, XattrName, XattropKind};

use super::inode::Inode;

/// The longest value, in bytes, as of Linux.
const VALUE_MAX: usize = 64 << 10;

/// The value of `name`.
///
/// # Errors
/// `ENODATA`, `EOPNOTSUPP` for an unknown namespace, `EPERM` for one that the caller may not use here.
pub fn get(inode: &Inode, who: &Credentials, name: &XattrName) -> Result<Bytes, Errno> {
    check(inode, who, name).map_err(hidden)?;
    inode.xattrs.get(name).cloned().ok_or(Errno::ENODATA)
}

/// The names that the caller may see.
pub fn list(inode: &Inode, who: &Credentials) -> Vec<XattrName> {
    inode.xattrs.keys().filter(|name| check(inode, who, name).is_ok()).cloned().collect()
}

/// Sets `name`.
///
/// # Errors
/// `EEXIST` and `ENODATA` as `mode` says, `E2BIG`, and those of [`get`].
pub fn set(
    inode: &mut Inode,
    who: &Credentials,
    name: &XattrName,
    value: &Bytes,
    mode: XattrMode,
) -> Result<(), Errno> {
    check(inode, who, name)?;
    if value.len() > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    match (mode, inode.xattrs.contains_key(name)) {
        (XattrMode::Create, true) => return Err(Errno::EEXIST),
        (XattrMode::Replace, false) => return Err(Errno::ENODATA),
        _ => {}
    }
    inode.xattrs.insert(name.clone(), value.clone());
    inode.touch_attributes();
    Ok(())
}

/// Removes `name`.
///
/// # Errors
/// Those of [`get`].
pub fn remove(inode: &mut Inode, who: &Credentials, name: &XattrName) -> Result<(), Errno> {
    check(inode, who, name)?;
    inode.xattrs.remove(name).ok_or(Errno::ENODATA)?;
    inode.touch_attributes();
    Ok(())
}

/// Combines stored values with the given ones; all of them, or none.
///
/// # Errors
/// `EINVAL` for a value that is no array of numbers of the kind.
pub fn combine(
    inode: &mut Inode,
    kind: XattropKind,
    values: &[(XattrName, Bytes)],
) -> Result<Vec<(XattrName, Bytes)>, Errno> {
    let combined = values.iter().map(|(name, given)| {
        let stored = inode.xattrs.get(name).map_or(&[][..], |value| value);
        Ok((name.clone(), combine_one(kind, stored, given)?))
    });
    let combined: Vec<(XattrName, Bytes)> = combined.collect::<Result<_, Errno>>()?;
    let mut answers = Vec::with_capacity(combined.len());
    for ((name, new), (_, given)) in combined.into_iter().zip(values) {
        let stored = if kind == XattropKind::GetAndSet { given.clone() } else { new.clone() };
        let old = inode.xattrs.insert(name.clone(), stored);
        let answer = if kind == XattropKind::GetAndSet { old.unwrap_or_default() } else { new };
        answers.push((name, answer));
    }
    inode.touch_attributes();
    Ok(answers)
}

fn combine_one(kind: XattropKind, stored: &[u8], given: &[u8]) -> Result<Bytes, Errno> {
    let width = match kind {
        XattropKind::Add32 => 4,
        XattropKind::Add64 => 8,
        XattropKind::Or | XattropKind::And => 1,
        XattropKind::GetAndSet if given.len() > VALUE_MAX => return Err(Errno::E2BIG),
        XattropKind::GetAndSet => return Ok(Bytes::copy_from_slice(given)),
    };
    if given.is_empty() || !given.len().is_multiple_of(width) {
        return Err(Errno::EINVAL);
    }
    if given.len() > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut padded = stored.to_vec();
    padded.resize(given.len().max(stored.len()), 0);
    for (place, add) in padded.chunks_exact_mut(width).zip(given.chunks_exact(width)) {
        let (old, operand) = (big_endian(place), big_endian(add));
        let new = match kind {
            XattropKind::Or => old | operand,
            XattropKind::And => old & operand,
            _ => old.wrapping_add(operand),
        };
        place.copy_from_slice(&new.to_be_bytes()[8 - width..]);
    }
    Ok(padded.into())
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn check(inode: &Inode, who: &Credentials, name: &XattrName) -> Result<(), Errno> {
    let text = name.as_bytes();
    if text.starts_with(b"user.") && text.len() > 5 {
        let carries = matches!(inode.attr.kind, FileKind::File | FileKind::Directory);
        return if carries { Ok(()) } else { Err(Errno::EPERM) };
    }
    if text.starts_with(b"trusted.") && text.len() > 8 {
        return if who.uid == 0 { Ok(()) } else { Err(Errno::EPERM) };
    }
    if text.starts_with(b"security.") && text.len() > 9 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Reading what one may not see is reading what is not there.
fn hidden(errno: Errno) -> Errno {
    if errno == Errno::EPERM { Errno::ENODATA } else { errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_big_endian_and_a_missing_value_counts_as_zeros() {
        let one = [0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(combine_one(XattropKind::Add32, &[], &one).unwrap()[..], one);
        assert_eq!(combine_one(XattropKind::Add32, &one, &one).unwrap()[..], [0, 0, 0, 2, 0, 0, 0, 4]);
        assert_eq!(combine_one(XattropKind::Add64, &[0xff; 8], &[0, 0, 0, 0, 0, 0, 0, 1]).unwrap()[..], [0; 8]);
        assert_eq!(combine_one(XattropKind::Add64, &[], &[1]), Err(Errno::EINVAL));
    }
}

//! A checked walk over the bytes of one operation.

use zerocopy::FromBytes;

use super::Fault;

/// What of an operation has not been decoded yet.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes a fixed part. The bytes need no alignment: they are copied, and are at most 88.
    pub(super) fn fixed<T: FromBytes>(&mut self) -> Result<T, Fault> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Fault::Short)?;
        self.0 = rest;
        Ok(value)
    }

    /// Takes `length` bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes the bytes before the next NUL, and the NUL.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.0.iter().position(|&byte| byte == 0).ok_or(Fault::Name)?;
        let string = &self.0[..length];
        self.0 = &self.0[length + 1..];
        Ok(string)
    }

    /// Takes the name of a directory entry: neither empty nor a path.
    pub(super) fn name(&mut self) -> Result<&'a [u8], Fault> {
        let name = self.string()?;
        if name.is_empty() || name.contains(&b'/') { Err(Fault::Name) } else { Ok(name) }
    }

    /// Takes the name of an extended attribute or a link's target: not empty.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Fault> {
        let text = self.string()?;
        if text.is_empty() { Err(Fault::Name) } else { Ok(text) }
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// `Trailing` if bytes are left. The kernel pads nothing: what is left was not meant for this operation.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Fault> {
        if self.0.is_empty() { Ok(value) } else { Err(Fault::Trailing) }
    }
}

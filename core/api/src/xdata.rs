//! What travels beside a request or a reply: values under typed keys.
//!
//! A key is declared once, as a constant with its type, and never spelled in a second place:
//!
//! ```
//! use brickwork_api::xdata::{Key, Xdata};
//! /// The lock is taken over from a holder that failed.
//! const RECLAIM_LOCK: Key<bool> = Key::new("reclaim-lock");
//!
//! let xdata = Xdata::EMPTY.with(&RECLAIM_LOCK, true);
//! assert_eq!(xdata.get(&RECLAIM_LOCK), Ok(Some(true)));
//! ```

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Errno, FopError};

/// A value of one of the four shapes that cross every boundary (wire, C, journal).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// An unsigned number.
    Number(u64),
    /// UTF-8 text.
    Text(String),
    /// Anything else.
    Bytes(Bytes),
}

/// The name of a value and, in its type, the shape.
pub struct Key<T> {
    name: &'static str,
    shape: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Declares a key; names are lower-case words joined by `-`, with a vendor's prefix for third parties.
    #[must_use]
    pub const fn new(name: &'static str) -> Key<T> {
        Key { name, shape: PhantomData }
    }

    /// The name that travels.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A shape that a key can have.
pub trait Shape: Sized {
    /// The value that travels.
    fn into_value(self) -> Value;
    /// The shape in `value`, or `None` when it has another one.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! shapes {
    ($($shape:ty => $variant:ident)*) => {
        $(impl Shape for $shape {
            fn into_value(self) -> Value {
                Value::$variant(self)
            }
            fn from_value(value: &Value) -> Option<$shape> {
                match value {
                    Value::$variant(inner) => Some(inner.clone()),
                    _ => None,
                }
            }
        })*
    };
}

shapes! { bool => Bool u64 => Number String => Text Bytes => Bytes }

/// The values beside one request or reply; most carry none, and then it is one null pointer.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Xdata(Option<Box<Entries>>);

type Entries = Vec<(Cow<'static, str>, Value)>;

impl Xdata {
    /// No values.
    pub const EMPTY: Xdata = Xdata(None);

    /// Adds `value` under `key`, in place of one that was there.
    #[must_use]
    pub fn with<T: Shape>(mut self, key: &Key<T>, value: T) -> Xdata {
        self.insert(key, value);
        self
    }

    /// Puts `value` under `key`, in place of one that was there.
    pub fn insert<T: Shape>(&mut self, key: &Key<T>, value: T) {
        let entries = self.0.get_or_insert_default();
        let value = value.into_value();
        match entries.iter_mut().find(|(name, _)| name == key.name) {
            Some((_, old)) => *old = value,
            None => entries.push((Cow::Borrowed(key.name), value)),
        }
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// `EINVAL` when the sender put another shape under this name.
    pub fn get<T: Shape>(&self, key: &Key<T>) -> Result<Option<T>, FopError> {
        let Some((_, value)) = self.iter().find(|(name, _)| *name == key.name) else { return Ok(None) };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(FopError::new(Errno::EINVAL).doing("reading xdata").with("key", key.name)),
        }
    }

    /// All names and values, in the order they were put in.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().flat_map(|entries| entries.iter()).map(|(name, value)| (name.as_ref(), value))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl fmt::Debug for Xdata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Beside the reply to a `statfs`: every change of a file's content gives it a time of change that whoever asked before
/// has not seen.
///
/// A front-end can then tell by size and time alone whether what it cached is still right. Linux 6.13 and newer promise
/// it for ext4, xfs, btrfs and tmpfs; without the key it does not hold.
pub const FINE_TIMESTAMPS: Key<bool> = Key::new("fine-timestamps");

/// Beside the reply to a `statfs`: whoever keeps what a fop answered is told by [`Event::Invalidate`] before a change
/// by anybody else is answered, for everything below.
///
/// A front-end may then believe what it was told for as long as it likes. A cluster xlator says so only when all of its
/// children do.
///
/// [`Event::Invalidate`]: crate::Event::Invalidate
pub const INVALIDATES: Key<bool> = Key::new("invalidates");

/// Beside any reply: nothing of it may be kept, as nobody will be told when it changes. An open with it goes past the
/// page cache.
pub const UNCACHED: Key<bool> = Key::new("uncached");

/// Beside an `open` or `opendir`: the client had this open before the brick lost it, and wants it back under its id.
pub const REOPEN: Key<bool> = Key::new("reopen");

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Key<u64> = Key::new("count");
    const COUNT_AS_TEXT: Key<String> = Key::new("count");

    #[test]
    fn an_empty_xdata_is_one_pointer() {
        assert_eq!(size_of::<Xdata>(), size_of::<usize>());
        assert!(Xdata::EMPTY.is_empty());
    }

    #[test]
    fn a_second_value_replaces_the_first() {
        let xdata = Xdata::EMPTY.with(&COUNT, 1).with(&COUNT, 2);
        assert_eq!(xdata.get(&COUNT), Ok(Some(2)));
        assert_eq!(xdata.iter().count(), 1);
    }

    #[test]
    fn a_value_of_another_shape_is_refused_not_dropped() {
        let xdata = Xdata::EMPTY.with(&COUNT, 1);
        assert_eq!(xdata.get(&COUNT_AS_TEXT).unwrap_err().errno(), Errno::EINVAL);
    }
}

//! How short sequences come from and go to serde: checked, and without an allocation that is not kept.
//!
//! Bytes are written in one run (in a binary format a length and the bytes, in JSON a list of numbers), where serde's own
//! way through a `Vec<u8>` goes byte by byte.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use smallvec::SmallVec;

use crate::error::Errno;
use crate::types::Credentials;

/// Implements serde for `$type`, which has `new(&[u8]) -> Result<$type, Errno>` and `as_bytes()`, as a run of at most
/// `$max` bytes that people call `$words`.
macro_rules! run_of_bytes {
    ($type:ident, $max:expr, $words:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.as_bytes())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_bytes(crate::run::Run { words: $words, max: $max, new: $type::new })
            }
        }
    };
}
pub(crate) use run_of_bytes;

/// Takes bytes in, in whatever form a format has them.
pub(crate) struct Run<T> {
    pub(crate) words: &'static str,
    pub(crate) max: usize,
    pub(crate) new: fn(&[u8]) -> Result<T, Errno>,
}

impl<'de, T> Visitor<'de> for Run<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of at most {} bytes", self.words, self.max)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        (self.new)(bytes).map_err(|errno| E::custom(format_args!("not {}: {errno}", self.words)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<T, A::Error> {
        let bytes: SmallVec<[u8; 256]> = collect(sequence, self.max)?;
        self.visit_bytes(&bytes)
    }
}

/// The supplementary groups of a caller, at most [`Credentials::GROUPS_MAX`]: none cost no allocation, 32 cost one.
pub(crate) fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u32]>, D::Error> {
    let groups = deserializer.deserialize_seq(Few::<[u32; 32]> { max: Credentials::GROUPS_MAX, array: PhantomData })?;
    // The default of an `Arc<[u32]>` is one that all share.
    Ok(if groups.is_empty() { Arc::default() } else { Arc::from(&groups[..]) })
}

/// Takes at most `max` values in.
struct Few<A> {
    max: usize,
    array: PhantomData<A>,
}

impl<'de, A: smallvec::Array> Visitor<'de> for Few<A>
where
    A::Item: Deserialize<'de>,
{
    type Value = SmallVec<A>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {}", self.max)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, sequence: S) -> Result<SmallVec<A>, S::Error> {
        collect(sequence, self.max)
    }
}

/// The values of `sequence`; what it says of its length is not believed.
fn collect<'de, A, S>(mut sequence: S, max: usize) -> Result<SmallVec<A>, S::Error>
where
    A: smallvec::Array,
    A::Item: Deserialize<'de>,
    S: SeqAccess<'de>,
{
    let mut values = SmallVec::new();
    while let Some(value) = sequence.next_element()? {
        if values.len() == max {
            return Err(S::Error::custom(format_args!("more than {max} values")));
        }
        values.push(value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LkOwner, Name, XattrName};
    use serde::de::value::{BorrowedBytesDeserializer, BytesDeserializer, Error as ValueError, SeqDeserializer};

    /// A format that hands out bytes it owns.
    struct Owned(Vec<u8>);

    impl<'de> Deserializer<'de> for Owned {
        type Error = ValueError;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            visitor.visit_byte_buf(self.0)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
        }
    }

    fn in_every_form(bytes: &[u8]) -> [Result<Name, ValueError>; 4] {
        [
            Name::deserialize(BorrowedBytesDeserializer::new(bytes)),
            Name::deserialize(BytesDeserializer::new(bytes)),
            Name::deserialize(Owned(bytes.to_vec())),
            Name::deserialize(SeqDeserializer::new(bytes.iter().copied())),
        ]
    }

    #[test]
    fn a_name_is_taken_in_every_form_and_checked_in_every_form() {
        for good in [&b"a"[..], b"\xff no text", &[b'n'; Name::MAX]] {
            assert_eq!(in_every_form(good), std::array::from_fn(|_| Ok(Name::new(good).unwrap())));
        }
        for bad in [&b""[..], b"..", b"a/b", b"a\0", &[b'n'; Name::MAX + 1]] {
            assert!(in_every_form(bad).iter().all(Result::is_err), "{bad:?}");
        }
    }

    #[test]
    fn json_has_them_as_lists_of_numbers_and_takes_them_back() {
        fn there_and_back<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(
            value: T,
            text: &str,
        ) {
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
            assert_eq!(serde_json::from_str::<T>(text).unwrap(), value);
        }
        there_and_back(Name::new(b"ab").unwrap(), "[97,98]");
        there_and_back(XattrName::new(b"user.a").unwrap(), "[117,115,101,114,46,97]");
        there_and_back(LkOwner::default(), "[]");
        let owner = LkOwner::new(&[7; LkOwner::MAX]).unwrap();
        there_and_back(owner, &format!("[{}]", ["7"; LkOwner::MAX].join(",")));
        assert!(serde_json::from_str::<Name>("[46,46]").is_err());
        assert!(serde_json::from_str::<Name>("[256]").is_err());
    }

    #[test]
    fn a_caller_has_as_many_groups_as_the_kernel_knows_and_no_more() {
        let read = |count: usize| {
            let list = vec!["5"; count].join(",");
            serde_json::from_str::<Credentials>(&format!(r#"{{"uid":1,"gid":2,"pid":3,"groups":[{list}]}}"#))
        };
        for count in [0, 1, 32, 33, Credentials::GROUPS_MAX] {
            assert_eq!(read(count).unwrap().groups[..], vec![5; count], "{count}");
        }
        assert!(read(Credentials::GROUPS_MAX + 1).is_err());
    }
}

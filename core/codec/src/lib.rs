#![doc = include_str!("../README.md")]

use std::fmt;

use bincode::Options;
use serde::Serialize;
use serde::de::Deserialize;

/// Appends the encoding of `value` to `buffer`.
///
/// # Panics
/// When `value` is a sequence that does not know its length, which no type of ours is.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) {
    let options = bincode::DefaultOptions::new().with_fixint_encoding();
    options.serialize_into(buffer, value).expect("a vector takes everything, and every length is known");
}

/// The encoding of `value`.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(128);
    encode_into(value, &mut buffer);
    buffer
}

/// Decodes a `T` from `bytes`; no more memory is set aside than a small multiple of their length.
///
/// # Errors
/// What does not fit: bytes missing or left over, an unknown variant, text that is no UTF-8, a value that `T` refuses.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let options = bincode::DefaultOptions::new().with_fixint_encoding().with_limit(bytes.len() as u64);
    options.deserialize(bytes).map_err(|error| DecodeError(error.to_string()))
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_fixed_and_little_endian_and_lengths_are_64_bits() {
        assert_eq!(encode(&(1u16, "ab", Some(2u8))), [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 1, 2]);
    }

    #[test]
    fn what_is_left_over_or_missing_is_refused() {
        assert_eq!(decode::<u32>(&[1, 0, 0, 0]), Ok(1));
        assert!(decode::<u32>(&[1, 0, 0, 0, 0]).is_err());
        assert!(decode::<u32>(&[1, 0, 0]).is_err());
    }

    #[test]
    fn a_length_beyond_the_bytes_sets_no_memory_aside() {
        let mut bytes = (1u64 << 40).to_le_bytes().to_vec();
        bytes.push(7);
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
    }
}

//! Client state on the move: fence, export, import, release.
//!
//! A rebalance, a switch of graphs, an upgrade and a reload are the same three steps over client state:
//! *fence* it, *transfer* its records, *redirect* whoever still comes. Each xlator that keeps such state
//! implements the five fops of these types once; the rules are in `features/locks`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Errno, FopError, FopResult};
use crate::types::{ClientId, Gfid};

/// Whose state is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// One object, all clients: a file that moves.
    Inode(Gfid),
    /// One client, all objects: a switch of graphs.
    Client(ClientId),
    /// Everything an xlator keeps: a reload, an upgrade.
    Brick,
}

/// The number of a fence: only ever raised, journaled before it is answered, compared by everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FenceNumber(pub u64);

/// What `state_import` answers: a hash of `records`, in their order (64-bit FNV-1a over kind, version and payload, each
/// text and payload after its length).
#[must_use]
pub fn hash(records: &[StateRecord]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for record in records {
        take(&(record.kind.len() as u64).to_le_bytes());
        take(record.kind.as_bytes());
        take(&record.version.to_le_bytes());
        take(&(record.payload.len() as u64).to_le_bytes());
        take(&record.payload);
    }
    hash
}

/// Takes in the records that a leaf without client state can: none. Answers their hash.
///
/// # Errors
/// `EOPNOTSUPP` for anything else.
pub fn import_none(records: &[StateRecord]) -> FopResult<u64> {
    match records.first() {
        None => Ok(hash(records)),
        Some(record) => {
            let error = FopError::new(Errno::EOPNOTSUPP).doing("taking in client state where none is kept");
            Err(error.with("kind", &record.kind))
        }
    }
}

/// One piece of state in a form that another brick, graph or process understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// The xlator type that wrote it, and what it is: `features/locks:posix`.
    pub kind: String,
    /// The version of the payload's layout within `kind`.
    pub version: u16,
    /// The record, in the codec of the kind.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_knows_where_one_part_ends_and_the_next_begins() {
        let record = |kind: &str, version, payload: &'static [u8]| StateRecord {
            kind: kind.to_owned(),
            version,
            payload: Bytes::from_static(payload),
        };
        let (one, other) = (record("ab", 1, b"c"), record("a", 1, b"bc"));
        let both = [one, other];
        let hashes = [hash(&[]), hash(&both[..1]), hash(&both[1..]), hash(&both)];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{hashes:x?}");
        }
        let [one, other] = both;
        assert_ne!(hash(&[other, one]), hashes[3]);
        assert_eq!(hash(&[]), 0xcbf2_9ce4_8422_2325);
    }

    #[test]
    fn a_leaf_without_state_takes_in_no_record() {
        let record = StateRecord { kind: "x:y".to_owned(), version: 1, payload: Bytes::new() };
        assert_eq!(import_none(&[]), Ok(hash(&[])));
        assert_eq!(import_none(&[record]).unwrap_err().errno(), Errno::EOPNOTSUPP);
    }
}

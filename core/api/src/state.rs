//! Client state on the move: fence, export, import, release.
//!
//! A rebalance, a switch of graphs, an upgrade and a reload are the same three steps over client state:
//! *fence* it, *transfer* its records, *redirect* whoever still comes. Each xlator that keeps such state
//! implements the five fops of these types once; the rules are in `features/locks`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

//! What administrators ask of a brick's locks, and the answers: JSON, between the admin socket's process and `features/locks`.
//!
//! Times are spans in milliseconds up to the moment of the answer: a brick's clock means nothing elsewhere.

use std::fmt;
use std::str::FromStr;

use brickwork_api::{ClientId, Gfid};
use serde::{Deserialize, Serialize};

/// Rows in one answer; [`ListAnswer::cut`] says when there are more.
pub const ROWS_MAX: u32 = 20_000;
/// Rows in one [`DropAsk`] or [`RestoreAsk`]: they fit into one request of the admin socket.
pub const CHANGES_MAX: usize = 4096;

/// A lock or a waiting request of one brick, for people: `lk:8f3a` is held, `lk:w8f3b` waits.
///
/// Unique in the brick over all kinds. A lock whose range or mode changes is another one, and so is a waiter that is
/// granted: what somebody has looked at and then names is that, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowId {
    /// A lock.
    Held(u64),
    /// A request that waits.
    Waiting(u64),
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowId::Held(id) => write!(f, "lk:{id:x}"),
            RowId::Waiting(id) => write!(f, "lk:w{id:x}"),
        }
    }
}

impl FromStr for RowId {
    type Err = String;

    /// Reads it as it is shown.
    fn from_str(text: &str) -> Result<RowId, String> {
        let wrong = || format!("`{text}` is no lock: `lk:8f3a` is a held one, `lk:w8f3b` one that waits");
        let id = text.strip_prefix("lk:").ok_or_else(wrong)?;
        let (made, digits): (fn(u64) -> RowId, &str) = match id.strip_prefix('w') {
            Some(digits) => (RowId::Waiting, digits),
            None => (RowId::Held, id),
        };
        // `from_str_radix` takes a sign, too.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u64::from_str_radix(digits, 16).map(made).map_err(|_| wrong())
    }
}

/// A family of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `fcntl`, per process or per open.
    Posix,
    /// `flock`.
    Flock,
    /// A range, between xlators.
    Inode,
    /// A name in a directory, between xlators.
    Entry,
}

impl Kind {
    /// As the table shows it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Posix => "POSIX",
            Kind::Flock => "FLOCK",
            Kind::Inode => "INODE",
            Kind::Entry => "ENTRY",
        }
    }
}

/// How the client of a lock is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum ClientState {
    /// A client of this process: its locks end with the process.
    Local,
    /// Connected.
    Attached,
    /// No connection is left.
    Detached {
        /// Since its last sign of life.
        silent_ms: u64,
        /// Until somebody who conflicts may have its locks; 0 when that is so.
        protected_ms: u64,
    },
}

/// A lock that is held or waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRow {
    /// Which, and whether it is held or waits.
    #[serde(with = "text")]
    pub id: RowId,
    /// The family.
    pub kind: Kind,
    /// The object.
    #[serde(with = "text")]
    pub gfid: Gfid,
    /// The path in the volume of one of its names. The brick leaves it out; whoever asked it fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of a lock between xlators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Of a lock on a name; none is every name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A write lock.
    pub exclusive: bool,
    /// Its first byte.
    pub start: u64,
    /// The byte after its last; `u64::MAX` reaches past any growth.
    pub end: u64,
    /// Since when it is held or waits.
    pub age_ms: u64,
    /// Whose it is: with [`LockRow::owner`], its identity.
    #[serde(with = "client")]
    pub client: ClientId,
    /// Who holds it in the client's words, in hexadecimal digits.
    pub owner: String,
    /// Where the client runs; empty when it did not say.
    pub host: String,
    /// The process; empty when the client did not say.
    pub command: String,
    /// The process's number on its host.
    pub pid: u32,
    /// The open through which it was asked for, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// Others' reads and writes of the range are refused.
    pub mandatory: bool,
    /// How its client is doing.
    pub client_state: ClientState,
    /// What a waiting request waits for: held locks first, then earlier requests.
    #[serde(with = "texts")]
    pub blockers: Vec<RowId>,
}

impl LockRow {
    /// Whether it waits.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self.id, RowId::Waiting(_))
    }

    /// Whether it belongs to whom `other` belongs.
    #[must_use]
    pub fn same_owner(&self, other: &LockRow) -> bool {
        self.client == other.client && self.owner == other.owner
    }

    /// Whether both are of one table: locks of different tables never conflict.
    #[must_use]
    pub fn same_table(&self, other: &LockRow) -> bool {
        (self.gfid, self.kind, &self.domain) == (other.gfid, other.kind, &other.domain)
    }

    /// Whether the owners of both cannot have them at the same time.
    #[must_use]
    pub fn conflicts(&self, other: &LockRow) -> bool {
        self.same_table(other) && !self.same_owner(other) && (self.exclusive || other.exclusive) && self.meets(other)
    }

    fn meets(&self, other: &LockRow) -> bool {
        match self.kind {
            Kind::Entry => self.name.is_none() || other.name.is_none() || self.name == other.name,
            _ => self.start < other.end && other.start < self.end,
        }
    }
}

/// Which locks are meant: those that every part means. The default means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListAsk {
    /// Of these objects; of all when empty.
    #[serde(with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub gfids: Vec<Gfid>,
    /// Of these families; of all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// Of clients on this host, or whose identity begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Of this owner, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// These very ones; all when empty.
    #[serde(with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<RowId>,
    /// At least this old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_ms: Option<u64>,
    /// Of clients that are away.
    pub stale: bool,
    /// Of objects on which somebody waits.
    pub contended: bool,
    /// Rows in the answer at most; 0 and what is above [`ROWS_MAX`] mean [`ROWS_MAX`].
    pub limit: u32,
}

/// Which there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAnswer {
    /// Those that are meant, an object's together, its held ones before its waiting ones, these in the order of their queue.
    pub locks: Vec<LockRow>,
    /// How many held ones are meant, shown or not.
    pub held: u64,
    /// How many waiting ones are meant, shown or not.
    pub waiting: u64,
    /// Whether more are meant than are shown.
    pub cut: bool,
}

/// Takes locks and waiting requests from their owners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropAsk {
    /// Which, as they were shown: one that has changed since, or is of another start of the brick, is missing.
    pub locks: Vec<LockRow>,
    /// The opens through which a held one was taken answer `EIO` from then on, until they are closed.
    pub fence: bool,
    /// Only says what would happen.
    pub dry_run: bool,
    /// Why, for the log.
    pub reason: String,
}

/// What became of them. All or nothing: when one is missing, nothing was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropAnswer {
    /// Those that were (or would be) taken, as they were.
    pub dropped: Vec<LockRow>,
    /// Those that are not there: released, granted or changed since somebody looked.
    #[serde(with = "texts")]
    pub missing: Vec<RowId>,
    /// Opens that answer `EIO` now.
    pub fenced_opens: u32,
    /// Waiting requests that were (or would be) granted by it.
    #[serde(with = "texts")]
    pub granted: Vec<RowId>,
}

/// Gives dropped locks back to those who held them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAsk {
    /// Those of a receipt; requests that waited are left out.
    pub locks: Vec<LockRow>,
    /// The free part of a range, when others hold some of it; else all or nothing.
    pub shrink: bool,
}

/// What became of each, in their order. Without `shrink` nothing was restored unless all were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAnswer {
    /// One for each.
    pub outcomes: Vec<Restored>,
}

impl RestoreAnswer {
    /// How many are held again, at least in part.
    #[must_use]
    pub fn restored(&self) -> usize {
        let again = |outcome: &&Restored| match outcome {
            Restored::Whole => true,
            Restored::Parts { ranges, .. } => !ranges.is_empty(),
            Restored::Conflict { .. }
            | Restored::Gone
            | Restored::Internal
            | Restored::NoRoom
            | Restored::Untouched => false,
        };
        self.outcomes.iter().filter(again).count()
    }
}

/// What became of a lock that was to be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Restored {
    /// Its owner has these ranges of it again.
    Whole,
    /// Its owner has these parts of it again, as first byte and the byte after the last; the rest is held by others.
    Parts {
        /// Disjoint and in order; may be empty.
        ranges: Vec<(u64, u64)>,
        /// One of the others.
        with: Box<LockRow>,
    },
    /// Somebody holds some of it.
    Conflict {
        /// Who.
        with: Box<LockRow>,
    },
    /// Its client is gone or has closed the file: nobody could ever release it.
    Gone,
    /// It is one between xlators: nobody waits to have it back.
    Internal,
    /// There is no room for it (`locks-max-per-inode`).
    NoRoom,
    /// It could be restored, but another one could not.
    Untouched,
}

/// A grace of one brick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraceAnswer {
    /// Whether there is one; nothing else means anything without.
    pub active: bool,
    /// Why.
    pub reason: String,
    /// Until it ends by time.
    pub ends_in_ms: u64,
    /// Locks that were claimed again.
    pub reclaimed: u64,
    /// Lock requests that wait for its end.
    pub waiting_requests: u64,
    /// The clients that held locks before.
    pub clients: Vec<GraceClient>,
}

/// A client that held locks before a grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraceClient {
    /// Who.
    #[serde(with = "client")]
    pub client: ClientId,
    /// Where it runs.
    pub host: String,
    /// Since its last sign of life; none since the restart.
    pub last_seen_ms: Option<u64>,
    /// Locks that it has claimed again.
    pub reclaimed: u64,
    /// Whether it has said that it claims no more.
    pub complete: bool,
}

/// Ends a grace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraceEndAsk {
    /// Although clients have not claimed yet: what they held is lost.
    pub force: bool,
}

/// Whether it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraceEndAnswer {
    /// It did, or there was none.
    pub ended: bool,
    /// The grace as it was just before: whose locks are (or would be) lost.
    pub grace: GraceAnswer,
}

/// A value as its text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Values as their texts.
mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err = String>,
        D: Deserializer<'de>,
    {
        Vec::<String>::deserialize(deserializer)?.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A client as 32 hexadecimal digits.
mod client {
    use brickwork_api::ClientId;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(client: &ClientId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(client)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientId, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(ClientId).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_shown_and_says_whether_it_waits() {
        for (id, text) in [(RowId::Held(0x8f3a), "lk:8f3a"), (RowId::Waiting(1), "lk:w1")] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
        }
        for wrong in ["8f3a", "lk:", "lk:w", "lk:xyz", "lk:+1", "lk:w-1", "lk:11111111111111111", "client:web01"] {
            assert!(wrong.parse::<RowId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_question_means_every_lock() {
        assert_eq!(serde_json::from_str::<ListAsk>("{}").unwrap(), ListAsk::default());
    }

    #[test]
    fn the_largest_numbers_survive_the_way_through_json() {
        let row = LockRow {
            id: RowId::Held(u64::MAX),
            kind: Kind::Entry,
            gfid: Gfid::ROOT,
            path: None,
            domain: Some("dht".to_owned()),
            name: Some("a".to_owned()),
            exclusive: true,
            start: 0,
            end: u64::MAX,
            age_ms: u64::MAX,
            client: ClientId(u128::MAX),
            owner: "00ff".to_owned(),
            host: "web01".to_owned(),
            command: "python3".to_owned(),
            pid: u32::MAX,
            open: Some(u64::MAX),
            mandatory: false,
            client_state: ClientState::Detached { silent_ms: u64::MAX, protected_ms: 0 },
            blockers: vec![RowId::Waiting(u64::MAX)],
        };
        let value = serde_json::to_value(&row).unwrap();
        assert_eq!(serde_json::from_value::<LockRow>(value).unwrap(), row);
    }
}

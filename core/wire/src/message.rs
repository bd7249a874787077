//! What stands in headers.
//!
//! What has travelled stays: structs keep their fields, enums only grow at the end; what is new goes into `xdata` or
//! behind a higher minor version, and nobody sends a peer what its version does not know.

use std::fmt;
use std::sync::Arc;

use brickwork_api::locks::LockNotice;
use brickwork_api::{ClientId, Credentials, Cx, Gfid, LkOwner, Xdata};
use serde::{Deserialize, Serialize};

/// The first bytes of every greeting.
pub const MAGIC: u64 = u64::from_le_bytes(*b"brickwrk");

/// A version of the protocol. Another major version is another language; a higher minor one knows more words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The language.
    pub major: u16,
    /// The words.
    pub minor: u16,
}

impl Version {
    /// What this library speaks.
    pub const CURRENT: Version = Version { major: 1, minor: 0 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version that two peers speak: the same major one, and the minor one that both know.
///
/// # Errors
/// Other major versions, as a sentence for the one who asked.
pub fn agree(ours: Version, theirs: Version) -> Result<Version, String> {
    if ours.major != theirs.major {
        return Err(format!(
            "speaks protocol {theirs}, this side {ours}: the first numbers must be equal, so one of the two has to be upgraded"
        ));
    }
    Ok(Version { major: ours.major, minor: ours.minor.min(theirs.minor) })
}

/// 32 bytes that nobody guesses.
pub type Nonce = [u8; 32];

/// The process at the other end, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The machine.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// What it is: `mount /mnt/volume`, `brick serve`.
    pub name: String,
    /// The release.
    pub software: String,
}

/// A call of the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// The first frame of a connection.
    Hello(Hello),
    /// Asks for the client volfile of a volume.
    Volfile(VolfileCall),
    /// Chooses the subvolume that this connection is for, and shows that it may.
    Subvolume(SubvolumeCall),
    /// Begins, or takes up again, the session of one client.
    Attach(AttachCall),
    /// Ends one incarnation of a client; the session ends with the last.
    Goodbye(GoodbyeCall),
}

/// The result of a call, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Of [`Call::Hello`].
    Welcome(Welcome),
    /// Of [`Call::Volfile`].
    Volfile(Volfile),
    /// Of [`Call::Subvolume`].
    Subvolume(Subvolume),
    /// Of [`Call::Attach`].
    Attached(Attached),
    /// Of [`Call::Goodbye`].
    Goodbye,
}

/// Who connects and what it speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: u64,
    /// The newest version that it speaks.
    pub version: Version,
    /// Bits of what it can do beyond its version; none are given out yet.
    pub features: u64,
    /// Who it is.
    pub process: Process,
    /// For proofs.
    pub nonce: Nonce,
    /// What later versions add.
    pub xdata: Xdata,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both speak.
    pub version: Version,
    /// Those of the asked features that both have.
    pub features: u64,
    /// Who it is.
    pub process: Process,
    /// For proofs.
    pub nonce: Nonce,
    /// What later versions add.
    pub xdata: Xdata,
}

/// Which volfile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolfileCall {
    /// The volume.
    pub volume: String,
    /// What later versions add.
    pub xdata: Xdata,
}

/// The client volfile of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volfile {
    /// Counts its changes.
    pub generation: u64,
    /// Of the text.
    pub sha256: [u8; 32],
    /// The volfile.
    pub text: String,
    /// What later versions add.
    pub xdata: Xdata,
}

/// Which subvolume, and by what right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubvolumeCall {
    /// Its name in the brick's volfile.
    pub name: String,
    /// A user and the proof of its password, when the client has one.
    pub login: Option<Login>,
    /// What later versions add.
    pub xdata: Xdata,
}

/// A user who knows its password: the proof is made from it and both nonces, see [`login`](crate::login).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The proof.
    pub proof: [u8; 32],
}

/// What a subvolume says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subvolume {
    /// How often this brick has started; another number than before means that it has forgotten what is open.
    pub boot: u64,
    /// What later versions add.
    pub xdata: Xdata,
}

/// One client takes up its session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttachCall {
    /// The client.
    pub client: ClientId,
    /// Shown at the first attach, and again at each later one: nobody else can be this client.
    pub secret: Nonce,
    /// Above every earlier one of this client, or with `join` the current one.
    pub incarnation: u32,
    /// Older incarnations that stay alive; what is neither new nor kept is fenced.
    pub keep: Vec<u32>,
    /// One more connection of an incarnation that is attached already.
    pub join: bool,
    /// What later versions add.
    pub xdata: Xdata,
}

/// A session on this connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// Its number in the prefix of requests, from 1.
    pub session: u16,
    /// Whether the brick knew the client: its slots, remembered answers and opens are as they were.
    pub known: bool,
    /// How long locks are protected after the connection is lost, in milliseconds.
    pub detach_timeout_ms: u32,
    /// After how much silence the brick no longer waits for this client to drop what it cached, in milliseconds. The
    /// client pings every third of it, and holds everything it keeps for old once that age is reached.
    pub invalidate_timeout_ms: u32,
    /// Requests under way at once.
    pub slots: u32,
    /// Lock calls that wait at once, in slots of their own after those.
    pub waiters_max: u32,
    /// What later versions add.
    pub xdata: Xdata,
}

/// One incarnation ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodbyeCall {
    /// The session on this connection.
    pub session: u16,
    /// What later versions add.
    pub xdata: Xdata,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For programs.
    pub why: Why,
    /// For people, without secrets.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// No version in common, or no Brickwork at all.
    Version,
    /// This address, user or certificate may not.
    NotAllowed,
    /// No volume or subvolume of this name.
    NotFound,
    /// Another's client id, or an incarnation that was left behind.
    Identity,
    /// No room: connections, clients.
    Full,
    /// Not now: starting or stopping.
    Later,
    /// Nonsense.
    Protocol,
}

/// What the server says unasked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// What this session keeps of an object is old; acknowledged with [`Kind::Noticed`](crate::frame::Kind::Noticed).
    Invalidate {
        /// The object.
        gfid: Gfid,
        /// What is kept of the names in it too.
        names: bool,
    },
    /// The brick is going down in good order: do not wait for it to time out.
    Leaving {
        /// For people.
        reason: String,
    },
    /// Something about the locks of this session's client.
    Lock(LockNotice),
}

/// Who asks for a fop, and under which name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestHead {
    /// The client's slot.
    pub slot: u32,
    /// How many requests it has carried; 0 for a request that may be done twice.
    pub sequence: u64,
    /// The lock owner.
    pub lk_owner: LkOwner,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process, for people.
    pub pid: u32,
    /// Further groups; at most [`GROUPS_MAX`].
    pub groups: Arc<[u32]>,
}

/// Groups of one request: `NGROUPS_MAX` of Linux.
pub const GROUPS_MAX: usize = 65_536;

impl RequestHead {
    /// The head of a request in the context `cx`.
    #[must_use]
    pub fn of(cx: &Cx) -> RequestHead {
        let Credentials { uid, gid, pid, groups } = &cx.credentials;
        RequestHead {
            slot: cx.request.slot,
            sequence: cx.request.sequence,
            lk_owner: cx.lk_owner.clone(),
            uid: *uid,
            gid: *gid,
            pid: *pid,
            groups: groups.clone(),
        }
    }
}

/// A waiting request that its client no longer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Its slot.
    pub slot: u32,
    /// Its sequence: another request in the slot is left alone.
    pub sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_minor_version_speaks_the_lower_one_and_another_major_is_refused() {
        let ours = Version { major: 1, minor: 3 };
        assert_eq!(agree(ours, Version { major: 1, minor: 9 }), Ok(ours));
        assert_eq!(agree(ours, Version { major: 1, minor: 0 }), Ok(Version { major: 1, minor: 0 }));
        assert!(
            agree(ours, Version { major: 2, minor: 0 }).unwrap_err().starts_with("speaks protocol 2.0, this side 1.3")
        );
    }
}

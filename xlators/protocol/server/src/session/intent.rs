//! What a fop that cannot be done twice is about to do, and how to tell afterwards whether it did.
//!
//! Pure. An intent is written while its fop holds the turn of what it changes ([`turns`](super::turns)), and its answer
//! before that turn ends. So at most one intent of a name, a file's length or an object's xattrs is undecided when the
//! brick comes back, nothing else that changes the same was done after it, and what is seen then tells for itself:
//! no intent is explained by another.

use brickwork_api::{Bytes, Entry, Gfid, OpenId, XattrName, XattropKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::opens::OpenRecord;

/// A fop about to change something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// `mknod`, `mkdir`, `symlink`, `create`: the name gets an object that is new by its gfid.
    Make {
        /// The name.
        entry: Entry,
        /// The object.
        gfid: Gfid,
        /// What `create` opens.
        opens: Option<(OpenId, OpenRecord)>,
    },
    /// `link`, where the name was free.
    Link {
        /// The name.
        entry: Entry,
        /// The object.
        gfid: Gfid,
    },
    /// `unlink`, `rmdir`.
    Remove {
        /// The name.
        entry: Entry,
        /// What it pointed to.
        gfid: Gfid,
    },
    /// `rename`, of two names that did not point to one object.
    Rename {
        /// The name that goes.
        from: Entry,
        /// The name that comes.
        to: Entry,
        /// What `from` pointed to.
        moved: Gfid,
        /// What `to` pointed to.
        other: Option<Gfid>,
        /// Whether they swap.
        exchange: bool,
    },
    /// `write` at the end.
    Append {
        /// The file.
        gfid: Gfid,
        /// Its length before.
        before: u64,
        /// Bytes to come.
        length: u32,
    },
    /// `fallocate` that cuts or inserts a range.
    Shift {
        /// The file.
        gfid: Gfid,
        /// Its length before.
        before: u64,
        /// Its length when it is done.
        after: u64,
    },
    /// `setxattr` of one that was missing (`Create`), or that had another value (`Replace`).
    SetXattr {
        /// The object.
        gfid: Gfid,
        /// The attribute.
        name: XattrName,
        /// The sha256 of the new value; `None` when there was no value before, so that any tells.
        digest: Option<[u8; 32]>,
    },
    /// `removexattr` of one that was there.
    RemoveXattr {
        /// The object.
        gfid: Gfid,
        /// The attribute.
        name: XattrName,
    },
    /// `xattrop`.
    Xattrop {
        /// The object.
        gfid: Gfid,
        /// How it combines.
        kind: XattropKind,
        /// The attributes with their values before.
        before: Vec<(XattrName, Option<Bytes>)>,
    },
}

/// What is there when the brick has come back, of what an intent names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the name points to; of a rename, the one that goes.
    pub name: Option<Gfid>,
    /// Of a rename, what the one that comes points to.
    pub to: Option<Gfid>,
    /// The file's length; `None` when there is no such file.
    pub size: Option<u64>,
    /// The values of the attributes, in the intent's order.
    pub values: Vec<Option<Bytes>>,
}

/// What became of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done: its client gets the answer.
    Done,
    /// Nothing was done: the client's repeat does it.
    NotDone,
    /// A part was appended: the file is cut back to this length, and then nothing was done.
    CutBack(u64),
    /// Some values were changed: they are put back, and then nothing was done.
    PutBack,
}

impl Intent {
    /// What became of it.
    #[must_use]
    pub fn judge(&self, seen: &Seen) -> Verdict {
        match self {
            Intent::Make { gfid, .. } | Intent::Link { gfid, .. } => done_if(seen.name == Some(*gfid)),
            Intent::Remove { gfid, .. } => done_if(seen.name != Some(*gfid)),
            Intent::Rename { moved, .. } => done_if(seen.to == Some(*moved) && seen.name != Some(*moved)),
            Intent::Append { before, length, .. } => judge_append(*before, u64::from(*length), seen.size),
            Intent::Shift { after, .. } => done_if(seen.size == Some(*after)),
            Intent::SetXattr { digest, .. } => done_if(
                seen.value()
                    .is_some_and(|value| digest.is_none_or(|digest| digest == <[u8; 32]>::from(Sha256::digest(value)))),
            ),
            Intent::RemoveXattr { .. } => done_if(seen.value().is_none()),
            Intent::Xattrop { before, .. } => judge_xattrop(before, &seen.values),
        }
    }

    /// What is open when it was done.
    #[must_use]
    pub fn opens(&self) -> Option<(OpenId, OpenRecord)> {
        match self {
            Intent::Make { opens, .. } => *opens,
            _ => None,
        }
    }

    /// The object that it is about.
    #[must_use]
    pub fn gfid(&self) -> Gfid {
        match self {
            Intent::Make { gfid, .. }
            | Intent::Link { gfid, .. }
            | Intent::Remove { gfid, .. }
            | Intent::Rename { moved: gfid, .. }
            | Intent::Append { gfid, .. }
            | Intent::Shift { gfid, .. }
            | Intent::SetXattr { gfid, .. }
            | Intent::RemoveXattr { gfid, .. }
            | Intent::Xattrop { gfid, .. } => *gfid,
        }
    }
}

impl Seen {
    fn value(&self) -> Option<&Bytes> {
        self.values.first()?.as_ref()
    }
}

fn done_if(done: bool) -> Verdict {
    if done { Verdict::Done } else { Verdict::NotDone }
}

fn judge_append(before: u64, length: u64, size: Option<u64>) -> Verdict {
    match size {
        Some(size) if size >= before + length => Verdict::Done,
        Some(size) if size > before => Verdict::CutBack(before),
        _ => Verdict::NotDone,
    }
}

/// Each value changes in one step of its own. One that is as before may be one that the change leaves as it is: putting
/// the others back and doing all of it again is right in both cases.
fn judge_xattrop(before: &[(XattrName, Option<Bytes>)], now: &[Option<Bytes>]) -> Verdict {
    let changed = before.iter().zip(now).filter(|((_, before), now)| before != *now).count();
    match changed {
        0 => Verdict::NotDone,
        all if all == before.len() => Verdict::Done,
        _ => Verdict::PutBack,
    }
}

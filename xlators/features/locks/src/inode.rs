//! What is locked on one object.

use brickwork_api::LkKind;

use crate::rules::xlator_locks::XlatorLocks;
use crate::table::Table;

/// The locks of one object. Most have one kind: the others cost a pointer.
#[derive(Debug, Default)]
pub(crate) struct Inode {
    posix: Table,
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    flock: Table,
    between: XlatorLocks,
}

impl Inode {
    /// The locks of one family, when there were any.
    pub(crate) fn table(&self, kind: LkKind) -> Option<&Table> {
        match kind {
            LkKind::Posix => Some(&self.posix),
            LkKind::Flock => self.others.as_ref().map(|others| &others.flock),
        }
    }

    /// The locks of one family.
    pub(crate) fn table_mut(&mut self, kind: LkKind) -> &mut Table {
        match kind {
            LkKind::Posix => &mut self.posix,
            LkKind::Flock => &mut self.others.get_or_insert_default().flock,
        }
    }

    /// Locks between xlators, when there were any.
    pub(crate) fn between(&self) -> Option<&XlatorLocks> {
        self.others.as_ref().map(|others| &others.between)
    }

    /// Locks between xlators.
    pub(crate) fn between_mut(&mut self) -> &mut XlatorLocks {
        &mut self.others.get_or_insert_default().between
    }

    /// Whether nothing is locked and nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.posix.is_empty()
            && self.others.as_ref().is_none_or(|others| others.flock.is_empty() && others.between.is_empty())
    }
}

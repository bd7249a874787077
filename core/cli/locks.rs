//! `brickwork locks`: who holds and who waits, and taking locks away without losing track of them.

mod blockers;
mod confirm;
mod drop;
mod explain;
mod forest;
mod list;
mod look;
mod range;
mod receipt;
mod receipts;
mod reclaim;
mod restore;
mod row;
mod select;

pub use look::ask_all;
pub use row::plain;

use crate::args::Globals;
use crate::failure::Outcome;
use crate::output::Output;

/// Show and change the locks of bricks.
#[derive(clap::Subcommand, Debug)]
pub enum Locks {
    /// List the locks that are held and waited for
    List(list::List),
    /// Show who waits for whom, and deadlocks
    Blockers(blockers::Blockers),
    /// Explain who is in the way on a range of a file, and what a lock asked for now would meet
    Explain(explain::Explain),
    /// Take locks from their owners: fences them first, writes a receipt
    Drop(drop::Drop),
    /// Give the locks of a receipt back
    Restore(restore::Restore),
    /// List the receipts of dropped locks
    Receipts(receipts::Receipts),
    /// Take over a lock of a client that has failed, as the client behind a mount
    Reclaim(reclaim::Reclaim),
    /// Release a lock of an owner, as the client behind a mount
    Release(reclaim::Release),
}

impl Locks {
    /// Does what was asked for.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        match self {
            Locks::List(list) => list.run(globals, output),
            Locks::Blockers(blockers) => blockers.run(globals, output),
            Locks::Explain(explain) => explain.run(globals, output),
            Locks::Drop(drop) => drop.run(globals, output),
            Locks::Restore(restore) => restore.run(globals, output),
            Locks::Receipts(receipts) => receipts.run(output),
            Locks::Reclaim(reclaim) => reclaim.run(globals, output),
            Locks::Release(release) => release.run(globals, output),
        }
    }
}

#![doc = include_str!("../README.md")]

mod error;
mod folder;
mod frame;
mod journal;
mod limits;
mod log;
mod mark;
mod replay;
mod segment;
mod sync;

pub use error::{AppendError, Damage, DamageKind, OpenError, Refusal, RotateError, SyncError};
pub use frame::RECORD_MAX;
pub use journal::{Appended, Journal, Opened, Usage};
pub use limits::Limits;
pub use log::Snapshot;
pub use replay::{Found, Records};
pub use sync::Durable;

/// What the log survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The death of the process, at any instruction: records are in the kernel's pages when an append returns. No
    /// system call per append.
    Process,
    /// The death of the machine too, for records that were waited for.
    Disk,
}

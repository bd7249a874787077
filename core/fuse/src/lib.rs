#![doc = include_str!("../README.md")]

pub mod abi;
mod buffer;
mod directory;
mod error;
mod fuzz;
mod init;
mod interrupt;
mod limits;
pub mod mount;
mod notify;
mod pending;
mod reader;
pub mod reply;
pub mod request;
mod session;
pub mod transport;

pub use buffer::Payload;
pub use directory::{DirectoryBuffer, DirectoryPlusBuffer, FileKind};
pub use error::SessionError;
pub use fuzz::fuzz_request;
pub use init::{Granted, InitFlags, Wanted};
pub use interrupt::Interruptible;
pub use limits::Limits;
pub use mount::{Mount, MountError, MountOptions};
pub use notify::{Notified, Notifier, NotifyError};
pub use reply::{Delivery, Entry, Opened, Reply};
pub use request::{Fh, LockOwner, NodeId, Operation, Request};
/// An error number as the kernel takes it; only 1 to 511 pass the protocol, others become `EIO`.
pub use rustix::io::Errno;
pub use session::{Handled, Handler, Session, Started};
pub use transport::{DevFuse, Received, Transport};

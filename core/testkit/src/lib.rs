#![doc = include_str!("../README.md")]

pub mod behaviour;
pub mod client;
pub mod conformance;
pub mod executor;
pub mod faults;
pub mod gate;
pub mod host;
pub mod hostile;
pub mod keeps_locks;
pub mod memory;
pub mod mock;
pub mod never_grants;
pub mod samples;

pub use crate::client::Client;
pub use crate::executor::{block_on, poll_once};
pub use crate::faults::Faults;
pub use crate::gate::Gate;
pub use crate::host::{TestHost, cx};
pub use crate::hostile::Hostile;
pub use crate::keeps_locks::KeepsLocks;
pub use crate::memory::MemoryLeaf;
pub use crate::mock::{Answer, Call, MockChild};
pub use crate::never_grants::NeverGrants;

#![doc = include_str!("../README.md")]

mod client;
mod file;
mod slots;
mod volume;

pub use crate::client::{Client, PROBES_MAX, Waits};
pub use crate::file::{File, How, Lock};
pub use crate::slots::{Slot, Slots, lane};
pub use crate::volume::{SLOTS, Volume, WAITERS_MAX};

#![doc = include_str!("../README.md")]

mod closings;
mod coherence;
mod commands;
mod control;
mod convert;
mod counters;
mod drops;
mod front;
mod groups;
mod handler;
mod invalidate;
mod killed;
mod mount;
mod nodes;
mod opens;
mod ops;
mod options;
mod readers;

pub use brickwork_fuse::MountError;

pub use crate::control::{CONTROL_LOCKS_MAX, Control};
pub use crate::front::Roots;
pub use crate::mount::{Left, Mount, MountConfig, StartError};
pub use crate::options::{Choice, FuseOptions, LockKeeper, Timeout};

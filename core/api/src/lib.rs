#![doc = include_str!("../README.md")]

pub mod cx;
pub mod error;
pub mod fops;
pub mod gfids;
pub mod host;
pub mod ipc;
pub mod lifecycle;
pub mod locks;
pub mod options;
pub mod probes;
pub mod ranges;
mod run;
pub mod state;
pub mod types;
pub mod xdata;
pub mod xlator;

pub use async_trait::async_trait;
pub use bytes::Bytes;

pub use crate::cx::{Cancel, Cx};
pub use crate::error::{Errno, FopError, FopResult};
pub use crate::fops::*;
pub use crate::gfids::GfidSource;
pub use crate::host::{Host, blocking, waiting};
pub use crate::types::*;
pub use crate::xdata::Xdata;
pub use crate::xlator::{
    Arity, BoxFuture, Each, Event, FopType, Hold, Onward, Route, Setup, SetupError, Upward, Xlator, XlatorType,
};

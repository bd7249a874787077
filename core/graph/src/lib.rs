//! From a volfile to a running stack of xlators

pub mod check;
pub mod compat;
pub mod diagnostic;
pub mod explain;
pub mod graph;
pub mod host;
mod pattern;
pub mod plan;
pub mod registry;
pub mod swap;
pub mod volfile;

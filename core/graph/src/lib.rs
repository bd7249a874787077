//! From a volfile to a running stack of xlators

pub mod diagnostic;
pub mod graph;
pub mod host;
pub mod plan;
pub mod registry;
pub mod swap;
pub mod volfile;

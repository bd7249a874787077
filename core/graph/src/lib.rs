//! From a volfile to a running stack of xlators

pub mod diagnostic;
pub mod volfile;

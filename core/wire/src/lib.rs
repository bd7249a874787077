//! Frames, versions and messages between clients and bricks.

pub mod tls;

//! The command as users meet it: every verb, its output, its exit code, and what it leaves behind.

#[path = "../common/mod.rs"]
mod common;

mod bricks;
mod checks;
mod dev;
mod helper;
mod json;
mod locks;
mod mounts;
mod rootless;
mod signals;
mod systemd;
mod world;
mod wrong;

//! Bricks over the network, end to end: real bricks in processes of their own, real mounts, and what goes wrong
//! between them.

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod appends;
mod coherence;
mod faults;
mod history;
mod hostile;
mod linear;
mod model;
mod peer;
mod proxy;
mod unreachable;
mod versions;
mod workload;

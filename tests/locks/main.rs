//! Locks over real bricks, mounts and processes: what the kernel promises for local files holds on a mount, and outlives
//! what is killed and cut.

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod flock;
mod gluster_cases;
mod history;
mod locker;
mod ofd;
mod posix;
#[path = "../network/proxy.rs"]
mod proxy;
mod script;
mod stage;
mod storms;

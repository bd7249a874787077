//! Locks over real bricks, mounts and processes: what the kernel promises for local files holds on a mount, and outlives
//! what is killed and cut.

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod deadlock;
mod failover;
mod flock;
mod gluster_cases;
mod grace;
mod history;
mod leftovers;
mod library;
mod locker;
mod lost;
mod ofd;
mod order;
mod posix;
#[path = "../network/proxy.rs"]
mod proxy;
mod restart;
mod script;
mod sqlite;
mod stage;
mod storms;

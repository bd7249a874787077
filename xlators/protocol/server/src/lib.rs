//! Serves subvolumes over the network.

mod auth;
mod caches;
mod identity;
mod session;

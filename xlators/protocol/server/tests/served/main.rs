//! What `protocol/server` promises to whoever connects: a server over a child in memory, and peers that speak the wire's
//! words one by one.
//!
//! Each test has a runtime of one thread, so that what the server logs is seen by the test that caused it, and time can
//! stand still. Sockets are unix sockets where time does: what is sent there has arrived when the call returns.

mod admission;
mod coherence;
mod drain;
mod flow;
mod listening;
mod locks;
mod logs;
mod options;
mod peer;
mod protocol;
mod repeats;
mod sessions;
mod world;

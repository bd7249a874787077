//! The rules of locks beside the table of one object: whose time is up, who may take what over, what is refused.
//!
//! All pure: no clock (times are milliseconds of one monotonic clock, handed in), no tasks, no I/O. The same calls in the
//! same order give the same answers, so a journal of the calls is a journal of the state.

pub mod clrlk;
pub mod deadlock;
pub mod grace;
pub mod life;
pub mod lockinfo;
pub mod mandatory;
pub mod reclaim;
pub mod xlator_locks;

#[cfg(test)]
mod tests;

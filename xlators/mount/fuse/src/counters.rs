//! What a mount has done so far, counted without threads getting in each other's way.

use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_fuse::abi::Opcode;
use brickwork_volume::lane;
use serde_json::{Map, Value};

const LANES: usize = 8;
/// One more than the highest opcode.
const OPCODES: usize = 64;

#[repr(align(128))]
struct Lane {
    requests: [AtomicU64; OPCODES],
    errors: AtomicU64,
    handed_on: AtomicU64,
    interrupts: AtomicU64,
    replies_lost: AtomicU64,
}

/// The counters of one mount.
pub(crate) struct Counters {
    lanes: Box<[Lane]>,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        let lane = || Lane {
            requests: [const { AtomicU64::new(0) }; OPCODES],
            errors: AtomicU64::new(0),
            handed_on: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            replies_lost: AtomicU64::new(0),
        };
        Counters { lanes: (0..LANES).map(|_| lane()).collect() }
    }

    /// A request with the number `opcode` came.
    pub(crate) fn request(&self, opcode: u32) {
        if let Some(counter) = self.here().requests.get(opcode as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A fop answered an error.
    pub(crate) fn error(&self) {
        self.here().errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was finished by another thread than the one that read it.
    pub(crate) fn handed_on(&self) {
        self.here().handed_on.fetch_add(1, Ordering::Relaxed);
    }

    /// A waiting request was interrupted.
    pub(crate) fn interrupt(&self) {
        self.here().interrupts.fetch_add(1, Ordering::Relaxed);
    }

    /// A reply found nobody waiting for it.
    pub(crate) fn reply_lost(&self) {
        self.here().replies_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters for `status`.
    pub(crate) fn status(&self) -> Map<String, Value> {
        let requests: Map<String, Value> = Opcode::ALL
            .iter()
            .map(|opcode| (*opcode, self.sum(|lane| &lane.requests[*opcode as usize])))
            .filter(|(_, count)| *count > 0)
            .map(|(opcode, count)| (format!("{opcode:?}").to_lowercase(), count.into()))
            .collect();
        let mut status = Map::new();
        status.insert("requests".into(), requests.into());
        status.insert("errors".into(), self.sum(|lane| &lane.errors).into());
        status.insert("handed_on".into(), self.sum(|lane| &lane.handed_on).into());
        status.insert("interrupts".into(), self.sum(|lane| &lane.interrupts).into());
        status.insert("replies_lost".into(), self.sum(|lane| &lane.replies_lost).into());
        status
    }

    fn sum(&self, counter: impl Fn(&Lane) -> &AtomicU64) -> u64 {
        self.lanes.iter().map(|lane| counter(lane).load(Ordering::Relaxed)).sum()
    }

    fn here(&self) -> &Lane {
        &self.lanes[lane() % LANES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_count_is_added_up_and_what_never_came_is_left_out() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| counters.request(Opcode::Lookup as u32)));
            }
        });
        counters.request(u32::MAX);
        counters.error();
        let status = Value::from(counters.status());
        assert_eq!(status["requests"], serde_json::json!({ "lookup": 400 }));
        assert_eq!(status["errors"], 1);
    }

    #[test]
    fn every_opcode_has_a_counter() {
        assert!(Opcode::ALL.iter().all(|opcode| (*opcode as usize) < OPCODES));
    }
}

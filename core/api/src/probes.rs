//! Where the calls of one client wait for locks: the client's part in finding a deadlock over several bricks.
//!
//! Each brick sees only its own locks. A brick in which a request waits asks the client of whoever is in the way by
//! [`LockNotice::Probe`](crate::locks::LockNotice::Probe); that client knows where that owner waits itself, and sends the
//! question on there. When it comes back to the request that asked first, and later once more by the very same waits, these
//! are a circle: each of them has lasted from the first time to the second, so that all of them were there at once. (One time
//! alone proves nothing: the first wait of the way may have ended before the last began.)
//!
//! Pure: no clock, no tasks. The front-ends (mount/fuse, the client library) keep one [`Waiting`] under a mutex, note in it
//! each call of the POSIX family for as long as it waits, and do what [`Waiting::on_probe`] says. `flock` has no
//! deadlock detection, as on Linux.
//!
//! Always true between calls: an owner has an entry only while a call of it waits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::locks::{Deadlocked, GivenUp, PROBE_HOPS_MAX, Probe};
use crate::types::{Gfid, LkOwner, RequestId};

/// For how long a question is not sent on again from the same wait.
///
/// Where many wait for many, the ways from one to another are more than can be counted; each wait is on the way once.
/// A brick that asks again later, because others are in the way by then, is heard.
pub const PROBE_REPEAT: Duration = Duration::from_millis(50);

/// Questions that one wait remembers having sent on; beyond that the oldest is forgotten.
pub const PROBES_REMEMBERED_MAX: usize = 64;

/// Ways by which the question of one wait came back that it remembers; beyond that the oldest is forgotten.
pub const WAYS_REMEMBERED_MAX: usize = 8;

/// What a client does about a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Ask the brick of `gfid` by [`PROBE`](crate::locks::PROBE).
    Ask(Probe),
    /// Tell the brick of `gfid` by [`DEADLOCKED`](crate::locks::DEADLOCKED).
    Deadlocked(Deadlocked),
}

/// One call that waits.
#[derive(Debug)]
struct Wait {
    gfid: Gfid,
    request: RequestId,
    /// Who asked over this wait, and when it was sent on last; oldest first.
    sent_on: SmallVec<[(RequestId, Instant); 2]>,
    /// The ways by which its own question has come back, oldest first.
    came_back: SmallVec<[Vec<RequestId>; 1]>,
}

/// The calls of one client that wait for locks.
#[derive(Debug, Default)]
pub struct Waiting {
    owners: HashMap<LkOwner, SmallVec<[Wait; 1]>>,
}

impl Waiting {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Waiting {
        Waiting::default()
    }

    /// Notes that `request` of `owner` may wait for a lock on `gfid` from here on, until [`Waiting::end`].
    pub fn begin(&mut self, owner: &LkOwner, gfid: Gfid, request: RequestId) {
        let wait = Wait { gfid, request, sent_on: SmallVec::new(), came_back: SmallVec::new() };
        match self.owners.get_mut(owner) {
            Some(waits) => waits.push(wait),
            None => drop(self.owners.insert(owner.clone(), SmallVec::from_iter([wait]))),
        }
    }

    /// Notes that `request` of `owner` was answered.
    pub fn end(&mut self, owner: &LkOwner, request: RequestId) {
        let Some(waits) = self.owners.get_mut(owner) else { return };
        waits.retain(|wait| wait.request != request);
        if waits.is_empty() {
            self.owners.remove(owner);
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// What to do about `probe`, which came at `now`.
    ///
    /// Nothing when its owner does not wait. When one of the calls in which it waits is the one that asked first, and it came back by
    /// this very way before: that call is deadlocked. Otherwise the question goes on to where each of them waits, unless it has made
    /// [`PROBE_HOPS_MAX`] hops, or went on from there within [`PROBE_REPEAT`].
    pub fn on_probe(&mut self, probe: &Probe, now: Instant) -> SmallVec<[Forward; 1]> {
        let Some(waits) = self.owners.get_mut(&probe.owner) else { return SmallVec::new() };
        if let Some(wait) = waits.iter_mut().find(|wait| wait.request == probe.initiator) {
            if !wait.knows_way(&probe.path) {
                return SmallVec::new();
            }
            let request = GivenUp { slot: wait.request.slot, sequence: wait.request.sequence };
            return SmallVec::from_iter([Forward::Deadlocked(Deadlocked { gfid: wait.gfid, request })]);
        }
        if probe.path.len() >= PROBE_HOPS_MAX {
            return SmallVec::new();
        }
        let due =
            waits.iter_mut().filter_map(|wait| wait.is_due(probe.initiator, now).then_some((wait.gfid, wait.request)));
        due.map(|(gfid, request)| {
            let path = probe.path.iter().copied().chain([request]).collect();
            Forward::Ask(Probe { gfid, path, ..probe.clone() })
        })
        .collect()
    }
}

impl Wait {
    /// Whether its own question came back by this way before; notes it.
    fn knows_way(&mut self, path: &[RequestId]) -> bool {
        if self.came_back.iter().any(|way| way == path) {
            return true;
        }
        if self.came_back.len() >= WAYS_REMEMBERED_MAX {
            self.came_back.remove(0);
        }
        self.came_back.push(path.to_vec());
        false
    }

    /// Whether a question of `initiator` goes on from here at `now`; notes it if so.
    fn is_due(&mut self, initiator: RequestId, now: Instant) -> bool {
        self.sent_on.retain(|(_, at)| now.saturating_duration_since(*at) < PROBE_REPEAT);
        if self.sent_on.iter().any(|(asked, _)| *asked == initiator) {
            return false;
        }
        if self.sent_on.len() >= PROBES_REMEMBERED_MAX {
            self.sent_on.remove(0);
        }
        self.sent_on.push((initiator, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClientId;

    const A: Gfid = Gfid::from_bytes([0xa; 16]);
    const B: Gfid = Gfid::from_bytes([0xb; 16]);

    fn request(client: u128, slot: u32) -> RequestId {
        RequestId { client: ClientId(client), slot, sequence: 1 }
    }

    fn owner(number: u64) -> LkOwner {
        LkOwner::from_u64(number)
    }

    fn probe(initiator: RequestId, number: u64, hops: usize) -> Probe {
        let path = (0..hops as u32).map(|slot| request(9, slot)).collect();
        Probe { initiator, owner: owner(number), gfid: Gfid::ROOT, path }
    }

    #[test]
    fn a_probe_for_an_owner_that_does_not_wait_ends() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        waiting.end(&owner(1), request(1, 1));
        assert!(waiting.is_empty());
        assert!(waiting.on_probe(&probe(request(2, 1), 1, 0), now).is_empty());
    }

    #[test]
    fn a_probe_goes_on_to_everywhere_its_owner_waits() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        waiting.begin(&owner(1), B, request(1, 2));
        waiting.begin(&owner(2), A, request(1, 3));
        let asked = probe(request(2, 1), 1, 4);
        let on = |gfid, slot| {
            let path = [asked.path.clone(), vec![request(1, slot)]].concat();
            Forward::Ask(Probe { gfid, path, ..asked.clone() })
        };
        assert_eq!(waiting.on_probe(&asked, now).as_slice(), [on(A, 1), on(B, 2)]);
    }

    #[test]
    fn a_probe_that_finds_the_call_that_asked_says_where_it_is_deadlocked() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        waiting.begin(&owner(1), B, request(1, 2));
        let found = Deadlocked { gfid: B, request: GivenUp { slot: 2, sequence: 1 } };
        // Also at the last hop: it goes no further.
        for hops in [0, PROBE_HOPS_MAX] {
            let asked = probe(request(1, 2), 1, hops);
            assert!(waiting.on_probe(&asked, now).is_empty(), "once is no proof");
            assert_eq!(waiting.on_probe(&asked, now).as_slice(), [Forward::Deadlocked(found)]);
        }
    }

    /// Under load a waiter was refused whose question had come back over a wait that ended and began again meanwhile, behind
    /// it: nobody had waited for anybody in a circle. The same way twice cannot be of waits that have ended.
    #[test]
    fn a_question_that_comes_back_by_another_way_each_time_is_no_deadlock() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        for sequence in 1..10 {
            let path = vec![RequestId { sequence, ..request(2, 1) }];
            let asked = Probe { path, ..probe(request(1, 1), 1, 0) };
            assert!(waiting.on_probe(&asked, now).is_empty());
        }
    }

    #[test]
    fn a_later_request_of_the_same_slot_is_not_the_one_that_asked() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, RequestId { sequence: 2, ..request(1, 1) });
        assert!(matches!(waiting.on_probe(&probe(request(1, 1), 1, 0), now).as_slice(), [Forward::Ask(_)]));
    }

    #[test]
    fn a_probe_ends_after_the_most_hops() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        assert_eq!(waiting.on_probe(&probe(request(2, 1), 1, PROBE_HOPS_MAX - 1), now).len(), 1);
        assert!(waiting.on_probe(&probe(request(2, 2), 1, PROBE_HOPS_MAX), now).is_empty());
    }

    #[test]
    fn a_question_that_comes_on_many_ways_goes_on_once_and_again_when_it_is_asked_again() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        let asked = probe(request(2, 1), 1, 0);
        assert_eq!(waiting.on_probe(&asked, now).len(), 1);
        let other_way = Probe { path: vec![request(3, 1)], ..asked.clone() };
        assert!(waiting.on_probe(&other_way, now).is_empty(), "sent on twice");
        assert_eq!(waiting.on_probe(&probe(request(2, 2), 1, 0), now).len(), 1, "another question");
        assert_eq!(waiting.on_probe(&asked, now + PROBE_REPEAT).len(), 1, "asked again");
    }

    #[test]
    fn at_the_limit_the_oldest_question_is_forgotten() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        waiting.begin(&owner(1), A, request(1, 1));
        for slot in 0..=PROBES_REMEMBERED_MAX as u32 {
            assert_eq!(waiting.on_probe(&probe(request(2, slot), 1, 0), now).len(), 1);
        }
        assert_eq!(waiting.owners[&owner(1)][0].sent_on.len(), PROBES_REMEMBERED_MAX);
        assert_eq!(waiting.on_probe(&probe(request(2, 0), 1, 0), now).len(), 1, "forgotten");
        assert!(waiting.on_probe(&probe(request(2, 64), 1, 0), now).is_empty(), "remembered");
    }

    /// Two clients in one circle over two bricks, as the questions travel.
    #[test]
    fn two_owners_that_wait_for_each_other_on_two_bricks_are_found() {
        let (mut first, mut second, now) = (Waiting::new(), Waiting::new(), Instant::now());
        // Owner 1 of the first client holds A and waits for B; owner 2 of the second the other way round.
        first.begin(&owner(1), B, request(1, 9));
        second.begin(&owner(2), A, request(2, 9));
        // The brick of B asks the holder of B.
        let [Forward::Ask(on)] = &second.on_probe(&probe(request(1, 9), 2, 0), now)[..] else { panic!("it ended") };
        assert_eq!(on.gfid, A);
        // The brick of A asks the holder of A; and once more, as both still wait.
        let back = Probe { owner: owner(1), ..on.clone() };
        assert!(first.on_probe(&back, now).is_empty());
        let [Forward::Deadlocked(found)] = &first.on_probe(&back, now)[..] else { panic!("it went on") };
        assert_eq!((found.gfid, found.request.slot), (B, 9));
    }
}

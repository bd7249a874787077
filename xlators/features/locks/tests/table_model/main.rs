//! Random operations on a table and on a model that has one slot for each byte: no difference in what is held, by whom,
//! since when, what is in the way of what, who waits, who is granted and in which order.
//!
//! `BRICKWORK_ROUNDS=full` makes 10,000,000 operations. The seed is printed; `BRICKWORK_SEED` sets it.

mod model;
mod run;

use brickwork_api::OpenId;
use brickwork_locks::table::{CHAINED_MAX, Mode, OwnerKey};
use proptest::prelude::*;

use crate::run::{Act, Run, Size};

/// A small quick generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn size(&mut self) -> Size {
        let slots = [6, 12, 24, 48, 64][self.below(5)];
        let max = if self.below(3) == 0 { 1 + self.below(12) } else { usize::MAX };
        Size { slots, owners: 2 + self.below(if slots > 24 { 12 } else { 6 }), max }
    }

    fn act(&mut self, size: &Size, drained: bool) -> Act {
        let start = self.below(size.slots);
        // Mostly short ranges, sometimes all that there is.
        let longest = if self.below(4) == 0 { size.slots } else { 1 + size.slots / 8 };
        let slots = start..(start + 1 + self.below(longest)).min(size.slots);
        let owner = OwnerKey(self.below(size.owners) as u32);
        let mode = if self.below(2) == 0 { Mode::Shared } else { Mode::Exclusive };
        let (open, mandatory) = (OpenId(self.below(4) as u64), self.below(8) == 0);
        let nth = self.below(1 << 16);
        match self.below(if drained { 20 } else { 100 }) {
            0..=6 => Act::Unlock { owner, slots },
            7..=9 => Act::Cancel { nth },
            10 => Act::ReleaseOwner { owner },
            11 => Act::ReleaseOpen { client: nth % 3, open },
            12 => Act::HandOver { nth, to: owner, open },
            13 => Act::Settle,
            14 => Act::Restore,
            15..=19 => Act::Probe { owner, slots, mode, nth },
            20..=35 => Act::Unlock { owner, slots },
            36..=67 => Act::Set { owner, slots, mode, open, mandatory },
            _ => Act::Wait { owner, slots, mode, open, mandatory },
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| getrandom::u64().expect("randomness"));
    eprintln!("seed: BRICKWORK_SEED={seed}");
    seed
}

fn acts() -> usize {
    let full = std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full");
    eprintln!("sizes: {} (BRICKWORK_ROUNDS)", if full { "full" } else { "short" });
    if full { 10_000_000 } else { 300_000 }
}

#[test]
fn a_table_does_what_a_slot_for_each_byte_does() {
    const IN_A_ROUND: usize = 2_000;
    let (acts, seed) = (acts(), seed());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let one = |thread: usize| {
        for round in (thread..acts / IN_A_ROUND).step_by(threads) {
            let mut random = Random(seed.wrapping_add(round as u64));
            let mut run = Run::new(random.size());
            for at in 0..IN_A_ROUND {
                // Queues fill up and run dry by turns.
                let act = random.act(run.size(), at % 200 > 150);
                run.act(&act);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        for thread in threads {
            thread.join().expect("no difference");
        }
    });
}

/// Queues that grow and shrink about the length up to which chains are followed.
#[test]
fn a_crowd_does_what_a_slot_for_each_byte_does() {
    let seed = seed();
    let mut longest = 0;
    for round in 0..(acts() / 100_000).max(1) {
        let mut random = Random(seed.wrapping_add(round as u64));
        let size = Size { slots: 12, owners: 16 + random.below(48), max: usize::MAX };
        let mut run = Run::new(size);
        let (owner, mode, open) = (OwnerKey(0), Mode::Exclusive, OpenId(0));
        run.act(&Act::Set { owner, slots: 0..size.slots, mode, open, mandatory: false });
        let mut steps = 0;
        // Chance alone may keep a queue below the bound for long.
        while steps < 1_000 || (longest <= CHAINED_MAX + 2 && steps < 100_000) {
            steps += 1;
            let few = run.waiters() < CHAINED_MAX - random.below(8);
            let act = random.act(run.size(), run.waiters() > CHAINED_MAX + 8);
            if few && !matches!(act, Act::Wait { .. }) {
                continue;
            }
            run.act(&act);
            longest = longest.max(run.waiters());
        }
    }
    assert!(longest > CHAINED_MAX + 2, "the longest queue had {longest} waiters");
}

fn any_act(size: Size) -> impl Strategy<Value = Act> {
    let Size { slots, owners, .. } = size;
    let place = (0..slots, 1..=slots).prop_map(move |(start, len)| start..(start + len).min(slots));
    let owner = (0..owners as u32).prop_map(OwnerKey);
    let mode = prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)];
    let ask = (owner.clone(), place.clone(), mode, (0..3u64).prop_map(OpenId), any::<bool>());
    prop_oneof![
        4 => ask.clone().prop_map(|(owner, slots, mode, open, mandatory)| Act::Set { owner, slots, mode, open, mandatory }),
        6 => ask.clone().prop_map(|(owner, slots, mode, open, mandatory)| Act::Wait { owner, slots, mode, open, mandatory }),
        4 => (owner.clone(), place).prop_map(|(owner, slots)| Act::Unlock { owner, slots }),
        1 => (0..64usize).prop_map(|nth| Act::Cancel { nth }),
        1 => owner.clone().prop_map(|owner| Act::ReleaseOwner { owner }),
        1 => (0..3usize, (0..3u64).prop_map(OpenId)).prop_map(|(client, open)| Act::ReleaseOpen { client, open }),
        1 => (0..64usize, owner).prop_map(|(nth, to)| Act::HandOver { nth, to, open: OpenId(9) }),
        1 => Just(Act::Settle),
        1 => Just(Act::Restore),
        1 => (ask, 0..64usize).prop_map(|((owner, slots, mode, ..), nth)| Act::Probe { owner, slots, mode, nth }),
    ]
}

proptest! {
    // A difference that the long test found is small here.
    #[test]
    fn a_short_run_has_no_difference(acts in prop::collection::vec(any_act(Size { slots: 8, owners: 4, max: 6 }), 1..60)) {
        let mut run = Run::new(Size { slots: 8, owners: 4, max: 6 });
        acts.iter().for_each(|act| run.act(act));
    }
}

//! Life, grace and reclaim together, as a brick uses them, under random attaches, losses, restarts and thefts: what L1 to L3
//! of the protocol come to for a few clients that all want the same few exclusive locks.
//!
//! The model also says what the rim owes these rules, because each was found missing by a run of it:
//! - the durable record marks a client before a lock is taken from it, until it has heard of that: after a lost journal it
//!   would claim the lock before its new holder does. The mark goes into [`Recorded::robbed`];
//! - a grace lasts no shorter than a client that is cut off trusts its locks (`detach-timeout`).

use std::collections::BTreeMap;

use brickwork_api::ClientId;
use proptest::prelude::*;

use super::grace::{Grace, Reason, Recorded};
use super::life::Life;
use super::reclaim::{ClaimDecision, Decision, GraceFor, Holder, Reclaim, ReclaimFrom, Record, Rules, decide_claim};

const CLIENTS: usize = 3;
const LOCKS: usize = 2;
const DETACH_MS: u32 = 1_000;
const GRACE_MS: u64 = 1_500;

#[derive(Clone, Debug)]
enum Step {
    Attach(usize),
    Claim(usize),
    Lose { client: usize, silent_ms: u64 },
    End(usize),
    Take { client: usize, lock: usize },
    Release { client: usize, lock: usize },
    Reclaim { client: usize, lock: usize, same_owner: bool },
    Restart { journal_lost: bool },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let (client, lock) = (0..CLIENTS, 0..LOCKS);
    prop_oneof![
        6 => client.clone().prop_map(Step::Attach),
        6 => client.clone().prop_map(Step::Claim),
        3 => (client.clone(), 0u64..900).prop_map(|(client, silent_ms)| Step::Lose { client, silent_ms }),
        1 => client.clone().prop_map(Step::End),
        8 => (client.clone(), lock.clone()).prop_map(|(client, lock)| Step::Take { client, lock }),
        2 => (client.clone(), lock.clone()).prop_map(|(client, lock)| Step::Release { client, lock }),
        2 => (client, lock, any::<bool>()).prop_map(|(client, lock, same_owner)| Step::Reclaim { client, lock, same_owner }),
        2 => any::<bool>().prop_map(|journal_lost| Step::Restart { journal_lost }),
        5 => (1u64..1_200).prop_map(Step::Pass),
    ]
}

/// One client process, as it sees itself.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    /// It has a connection.
    attached: bool,
    /// Its claims were answered since: it works.
    works: bool,
    /// When it attached last: the brick has heard of it then.
    heard_ms: u64,
    /// The last sign of life that it knows the brick has had while it worked.
    certain_ms: u64,
    believes: [bool; LOCKS],
    /// The brick does not serve it there: it is fenced, or the brick has restarted and its claim is not answered yet.
    robbed: [bool; LOCKS],
}

/// The brick and what survives it.
#[derive(Debug)]
struct Brick {
    lives: BTreeMap<usize, Life>,
    holders: [Option<usize>; LOCKS],
    grace: Option<Grace>,
    /// The durable record of clients: whether something was taken from it that it has not heard of.
    record: BTreeMap<usize, bool>,
    rules: Rules,
}

struct World {
    now_ms: u64,
    processes: [Process; CLIENTS],
    brick: Brick,
    /// The last time that a grace was begun, for its end.
    grace_begun_ms: u64,
}

fn id(client: usize) -> ClientId {
    ClientId(client as u128)
}

impl Brick {
    fn grace_for(&self, client: usize, now_ms: u64) -> GraceFor {
        match &self.grace {
            None => GraceFor::Nobody,
            Some(grace) if grace.may_reclaim(id(client), now_ms) => GraceFor::This,
            Some(_) => GraceFor::Others,
        }
    }

    fn grant(&mut self, client: usize, lock: usize) {
        self.holders[lock] = Some(client);
        self.record.entry(client).or_insert(false);
    }

    /// Ends a grace whose time is over; who holds nothing then is not on the record any more.
    fn look_at_the_clock(&mut self, now_ms: u64) {
        if self.grace.as_ref().is_some_and(|grace| grace.is_over(now_ms)) {
            self.grace = None;
        }
        if self.grace.is_none() {
            let holders = self.holders;
            self.record.retain(|client, marked| *marked || holders.contains(&Some(*client)));
        }
    }

    fn restart(&mut self, journal_lost: bool, now_ms: u64) {
        let recorded = |client: &usize| {
            let awaited = |grace: &Grace| grace.awaited().any(|awaited| awaited == id(*client));
            journal_lost || self.grace.as_ref().is_some_and(awaited)
        };
        let recorded = self.record.iter().filter(|(client, _)| recorded(client));
        let recorded = recorded.map(|(client, robbed)| Recorded { client: id(*client), robbed: *robbed });
        let grace = Grace::begin(Reason::JournalMissing, recorded, now_ms, GRACE_MS);
        self.grace = Some(grace);
        if journal_lost {
            (self.lives, self.holders) = Default::default();
        }
        self.lives.values_mut().for_each(|life| *life = Life::restored(life.incarnation(), DETACH_MS, now_ms));
        self.look_at_the_clock(now_ms);
    }
}

impl World {
    fn new(from: ReclaimFrom) -> World {
        let (lives, holders) = Default::default();
        let rules = Rules { enabled: true, from };
        let brick = Brick { lives, holders, grace: None, record: BTreeMap::new(), rules };
        World { now_ms: 10_000, processes: Default::default(), brick, grace_begun_ms: 0 }
    }

    /// Whether a client acts as the holder of a lock: it has been told so and not otherwise, it is heard or may trust that
    /// its locks are protected, and the brick serves it.
    fn acts(&self, client: usize, lock: usize) -> bool {
        let process = &self.processes[client];
        let certain = process.works || self.now_ms < process.certain_ms + u64::from(DETACH_MS);
        process.believes[lock] && certain && !process.robbed[lock]
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Attach(client) => self.attach(client),
            Step::Claim(client) if self.processes[client].attached => self.claim(client),
            Step::Lose { client, silent_ms } if self.processes[client].attached => self.lose(client, silent_ms),
            Step::End(client) if self.processes[client].attached => self.end(client),
            Step::Take { client, lock } if self.processes[client].works => self.take(client, lock),
            Step::Release { client, lock } if self.processes[client].works => self.release(client, lock),
            Step::Reclaim { client, lock, same_owner } if self.processes[client].works => {
                self.reclaim(client, lock, same_owner);
            }
            Step::Restart { journal_lost } => self.restart(journal_lost),
            Step::Pass(ms) => self.now_ms += ms,
            _ => {}
        }
        self.brick.look_at_the_clock(self.now_ms);
    }

    fn attach(&mut self, client: usize) {
        self.brick.lives.entry(client).or_insert(Life::begin(1, DETACH_MS)).attach(1, DETACH_MS);
        (self.processes[client].attached, self.processes[client].heard_ms) = (true, self.now_ms);
    }

    fn claim(&mut self, client: usize) {
        let grace = self.brick.grace_for(client, self.now_ms);
        for lock in 0..LOCKS {
            let (held, holder) = (self.brick.holders[lock] == Some(client), self.brick.holders[lock]);
            let believed = self.processes[client].believes[lock];
            match decide_claim(held, holder.is_some_and(|holder| holder != client), grace) {
                _ if !believed => {}
                ClaimDecision::Held => {}
                ClaimDecision::Grant => {
                    assert_eq!(self.brick.record.get(&client), Some(&false), "a stranger has reclaimed");
                    self.brick.grant(client, lock);
                    self.brick.grace.as_mut().unwrap().reclaimed(id(client), 1, self.now_ms);
                }
                ClaimDecision::Lost => self.processes[client].believes[lock] = false,
            }
        }
        if let Some(grace) = &mut self.brick.grace {
            grace.complete(id(client));
        }
        // It has heard of everything now.
        self.processes[client].robbed = Default::default();
        self.brick.record.entry(client).and_modify(|marked| *marked = false);
        self.processes[client].works = true;
    }

    fn lose(&mut self, client: usize, silent_ms: u64) {
        let silent_ms = silent_ms.min(self.now_ms - self.processes[client].heard_ms);
        self.brick.lives.get_mut(&client).unwrap().detach(self.now_ms, silent_ms);
        let process = &mut self.processes[client];
        if process.works {
            process.certain_ms = self.now_ms - silent_ms;
        }
        (process.attached, process.works) = (false, false);
    }

    fn end(&mut self, client: usize) {
        self.processes[client] = Process::default();
        self.brick.lives.remove(&client);
        self.brick.holders.iter_mut().filter(|holder| **holder == Some(client)).for_each(|holder| *holder = None);
        self.brick.record.remove(&client);
        if let Some(grace) = &mut self.brick.grace {
            grace.gone(id(client));
        }
    }

    fn take(&mut self, client: usize, lock: usize) {
        if self.brick.grace.as_ref().is_some_and(|grace| !grace.is_over(self.now_ms))
            || self.processes[client].robbed[lock]
        {
            return;
        }
        match self.brick.holders[lock] {
            Some(holder) if holder != client => {
                if !self.brick.lives[&holder].may_expire(self.now_ms) {
                    return;
                }
                assert!(!self.acts(holder, lock), "client {holder} trusts lock {lock}, which a conflict takes from it");
                self.rob(holder, lock);
            }
            _ => {}
        }
        self.brick.grant(client, lock);
        self.processes[client].believes[lock] = true;
    }

    /// Marks first, then takes: whatever happens in between errs on the side of the next holder.
    fn rob(&mut self, client: usize, lock: usize) {
        self.brick.record.insert(client, true);
        self.brick.holders[lock] = None;
        self.processes[client].robbed[lock] = true;
    }

    fn release(&mut self, client: usize, lock: usize) {
        if self.brick.holders[lock] == Some(client) {
            self.brick.holders[lock] = None;
        }
        self.processes[client].robbed[lock] = false;
        self.processes[client].believes[lock] = false;
    }

    fn reclaim(&mut self, client: usize, lock: usize, same_owner: bool) {
        let grace = self.brick.grace_for(client, self.now_ms);
        let holder = self.brick.holders[lock].filter(|holder| *holder != client);
        let seen =
            |holder: usize| Holder { same_group: holder + client == 1, detached: !self.processes[holder].attached };
        let (record, conflict) = match holder {
            None if self.brick.holders[lock].is_some() => (Record::Own, false),
            None => (Record::Nothing, false),
            Some(holder) if same_owner => (Record::Exact(seen(holder)), false),
            Some(_) => (Record::Nothing, true),
        };
        match self.brick.rules.decide(Reclaim { record, conflict, grace }) {
            Decision::TakeOver => {
                let holder = holder.expect("there is a record");
                assert!(same_owner && self.brick.rules.allows(seen(holder)));
                self.rob(holder, lock);
                self.brick.grant(client, lock);
            }
            // In a grace a client is believed. One that lies gets what it never held; this one does not.
            Decision::Grant if record == Record::Nothing && !self.processes[client].believes[lock] => return,
            Decision::Grant => {
                assert!(
                    record == Record::Own || self.brick.record.get(&client) == Some(&false),
                    "a stranger has reclaimed"
                );
                self.brick.grant(client, lock);
            }
            Decision::Refuse(_) => return,
        }
        self.processes[client].believes[lock] = true;
    }

    fn restart(&mut self, journal_lost: bool) {
        (0..CLIENTS).filter(|client| self.processes[*client].attached).collect::<Vec<_>>().into_iter().for_each(
            |client| {
                self.lose(client, 0);
            },
        );
        self.brick.restart(journal_lost, self.now_ms);
        self.grace_begun_ms = self.now_ms;
    }

    fn check(&self) {
        for lock in 0..LOCKS {
            let acting: Vec<usize> = (0..CLIENTS).filter(|client| self.acts(*client, lock)).collect();
            assert!(acting.len() <= 1, "lock {lock} has several holders: {acting:?}");
            let holder = self.brick.holders[lock];
            assert!(
                acting.is_empty() || self.brick.grace.is_some() || holder == Some(acting[0]),
                "{acting:?} lost lock {lock} unheard"
            );
            assert!(holder.is_none_or(|holder| self.brick.lives.contains_key(&holder)), "lock {lock} is a ghost's");
        }
        assert!(
            self.brick.grace.is_none() || self.now_ms < self.grace_begun_ms + 2 * GRACE_MS,
            "the grace does not end"
        );
    }
}

fn cases() -> u32 {
    if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full") { 20_000 } else { 500 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn nobody_loses_a_protected_lock_unheard_and_every_grace_ends(
        steps in prop::collection::vec(steps(), 1..80),
        from in prop_oneof![Just(ReclaimFrom::Group), Just(ReclaimFrom::Detached), Just(ReclaimFrom::Any)],
    ) {
        let mut world = World::new(from);
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}

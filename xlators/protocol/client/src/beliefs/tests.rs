//! Beliefs beside a brick that does what it is told or not, in any order, and is cut off at any moment.
//!
//! What an owner may rely on is worked out here a second time, from the whole history and byte by byte: a change may be
//! the last one of a byte unless another one was sent after it was answered and was made.

use super::*;
use LkType::{Read, Unlock, Write};

const BYTES: usize = 6;
const FILE: Gfid = Gfid::ROOT;

fn key(owner: u64) -> Key {
    Key { gfid: FILE, kind: LkKind::Posix, owner: LkOwner::from_u64(owner) }
}

fn change(owner: u64, (start, end): (u64, u64), to: LkType) -> Change {
    Change { key: key(owner), open: OpenId(owner), range: ByteRange::new(start, end).unwrap(), to, pid: 1 }
}

fn claimed(beliefs: &Beliefs, owner: u64) -> [LkType; BYTES] {
    let mut bytes = [Unlock; BYTES];
    let claims = beliefs.claims(&key(owner));
    for range in claims.iter().flat_map(|claim| &claim.ranges) {
        assert!(range.start < range.end && range.kind != Unlock, "{range:?}");
        for byte in &mut bytes[range.start as usize..(range.end as usize).min(BYTES)] {
            assert_eq!(*byte, Unlock, "claimed twice");
            *byte = range.kind;
        }
    }
    bytes
}

fn made(beliefs: &mut Beliefs, owner: u64, range: (u64, u64), to: LkType) {
    let change = change(owner, range, to);
    let ticket = beliefs.sent(&change).unwrap();
    beliefs.made(&change, ticket, 1).unwrap();
}

#[test]
fn an_unlock_whose_answer_was_lost_is_not_claimed_and_one_that_was_not_sent_changes_nothing() {
    let mut beliefs = Beliefs::default();
    made(&mut beliefs, 1, (0, 6), Write);
    let unlock = change(1, (2, 4), Unlock);
    assert_eq!(claimed(&beliefs, 1), [Write; 6]);
    let ticket = beliefs.sent(&unlock).unwrap();
    assert_eq!(claimed(&beliefs, 1), [Write, Write, Unlock, Unlock, Write, Write]);
    beliefs.refused(&unlock, ticket);
    assert_eq!(claimed(&beliefs, 1), [Write; 6]);
}

#[test]
fn an_upgrade_claims_the_old_lock_and_a_downgrade_the_new_one() {
    for (old, new) in [(Read, Write), (Write, Read)] {
        let mut beliefs = Beliefs::default();
        made(&mut beliefs, 1, (0, 6), old);
        let change = change(1, (0, 6), new);
        let ticket = beliefs.sent(&change).unwrap();
        assert_eq!(claimed(&beliefs, 1), [Read; 6]);
        beliefs.made(&change, ticket, 1).unwrap();
        assert_eq!(claimed(&beliefs, 1), [new; 6]);
    }
}

#[test]
fn a_flock_that_is_converted_is_not_claimed_meanwhile_and_gone_when_it_is_refused() {
    let mut beliefs = Beliefs::default();
    let key = Key { kind: LkKind::Flock, ..key(1) };
    let of = |to| Change { key: key.clone(), ..change(1, (0, 6), to) };
    let ticket = beliefs.sent(&of(Read)).unwrap();
    beliefs.made(&of(Read), ticket, 1).unwrap();
    let again = beliefs.sent(&of(Read)).unwrap();
    assert_eq!(beliefs.claims(&key).len(), 1, "the same lock is no conversion");
    beliefs.refused(&of(Read), again);
    let up = beliefs.sent(&of(Write)).unwrap();
    assert!(beliefs.claims(&key).iter().all(|claim| claim.ranges.is_empty()));
    beliefs.refused(&of(Write), up);
    assert!(beliefs.claims(&key).is_empty());
    assert_eq!(beliefs.ranges(), 0);
}

#[test]
fn a_flock_whose_conversion_never_left_is_held_as_before() {
    // The connection had just closed. Its conversion counted as refused, with the lock gone, so the lock was not claimed at
    // the next attach, and its owner never heard that the brick had lost it.
    let mut beliefs = Beliefs::default();
    let key = Key { kind: LkKind::Flock, ..key(1) };
    let of = |to| Change { key: key.clone(), ..change(1, (0, 6), to) };
    let ticket = beliefs.sent(&of(Read)).unwrap();
    beliefs.made(&of(Read), ticket, 1).unwrap();
    let up = beliefs.sent(&of(Write)).unwrap();
    beliefs.not_sent(&of(Write), up);
    assert_eq!(beliefs.claims(&key).iter().flat_map(|claim| &claim.ranges).count(), 1);
}

#[test]
fn what_was_under_way_together_counts_as_the_weakest_until_something_comes_after_it() {
    let mut beliefs = Beliefs::default();
    let (lock, unlock) = (change(1, (0, 6), Write), change(1, (0, 3), Unlock));
    let (one, other) = (beliefs.sent(&lock).unwrap(), beliefs.sent(&unlock).unwrap());
    beliefs.made(&unlock, other, 1).unwrap();
    beliefs.made(&lock, one, 1).unwrap();
    assert_eq!(claimed(&beliefs, 1), [Unlock, Unlock, Unlock, Write, Write, Write]);
    made(&mut beliefs, 1, (0, 2), Write);
    assert_eq!(claimed(&beliefs, 1), [Write, Write, Unlock, Write, Write, Write]);
}

#[test]
fn a_grant_from_before_the_last_claims_is_asked_for_again() {
    let mut beliefs = Beliefs::default();
    let lock = change(1, (0, 6), Write);
    let ticket = beliefs.sent(&lock).unwrap();
    beliefs.begin_claims(2);
    assert_eq!(beliefs.made(&lock, ticket, 1), Err(Outdated));
    assert_eq!(claimed(&beliefs, 1), [Unlock; 6]);
    beliefs.made(&lock, ticket, 2).unwrap();
    assert_eq!(claimed(&beliefs, 1), [Write; 6]);
    let unlock = change(1, (0, 6), Unlock);
    let ticket = beliefs.sent(&unlock).unwrap();
    beliefs.begin_claims(3);
    assert_eq!(beliefs.made(&unlock, ticket, 2), Ok(()), "what was given up stays given up");
    assert!(beliefs.begin_claims(4).is_empty());
}

#[test]
fn what_was_taken_through_an_open_goes_with_it_and_leaves_nothing_behind() {
    let mut beliefs = Beliefs::default();
    made(&mut beliefs, 1, (0, 6), Write);
    made(&mut beliefs, 2, (0, 6), Read);
    assert!(beliefs.end_open(OpenId(1)) && !beliefs.end_open(OpenId(1)));
    assert_eq!((claimed(&beliefs, 1), claimed(&beliefs, 2)), ([Unlock; 6], [Read; 6]));
    assert_eq!(beliefs.lost(&key(2)), [OpenId(2)]);
    assert_eq!((beliefs.ranges(), beliefs.size, beliefs.of.len(), beliefs.through.len()), (0, 0, 0, 0));
}

#[test]
fn more_ranges_than_fit_into_one_claim_make_several() {
    let mut beliefs = Beliefs::default();
    let count = CLAIM_RANGES_MAX as u64 + 1;
    (0..count).for_each(|at| made(&mut beliefs, 1, (2 * at, 2 * at + 1), Write));
    let claims = beliefs.claims(&key(1));
    let counts: Vec<usize> = claims.iter().map(|claim| claim.ranges.len()).collect();
    assert_eq!(counts, [CLAIM_RANGES_MAX, 1]);
    assert_eq!(beliefs.ranges(), CLAIM_RANGES_MAX + 1);
}

#[test]
fn one_lock_more_than_the_limit_is_refused_and_one_that_goes_makes_room() {
    let mut beliefs = Beliefs::of_at_most(9);
    (0..9).for_each(|at| made(&mut beliefs, 1, (2 * at, 2 * at + 1), Read));
    let error = beliefs.sent(&change(2, (0, 1), Read)).unwrap_err();
    assert_eq!(error.to_string(), "keeping one more lock: ENOLCK (limit 9)");
    made(&mut beliefs, 1, (0, 1), Unlock);
    made(&mut beliefs, 2, (0, 1), Read);
    assert_eq!(beliefs.ranges(), 9);
    assert_eq!(Beliefs::default().size_max, BELIEFS_MAX);
}

/// Numbers without a pattern, from a seed that is printed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On its way, or waiting at the brick.
    Sent,
    /// Answered; the client has not looked yet. `true`: made.
    Answered(bool),
    Made,
    Refused,
    GivenUp,
}

#[derive(Clone, Debug)]
struct Request {
    change: Change,
    ticket: Ticket,
    sent: u64,
    /// When the client took the end in.
    ended: u64,
    state: State,
    /// The connection of the answer.
    incarnation: u32,
    /// The brick remembers that it has done it.
    done: bool,
}

/// One client, its brick and all that happened.
struct World {
    beliefs: Beliefs,
    requests: Vec<Request>,
    /// By owner.
    brick: [[LkType; BYTES]; 2],
    now: u64,
    incarnation: u32,
    /// Bytes whose locks the brick has lost and nobody has taken since.
    gone: [[bool; BYTES]; 2],
    /// When the owner was told last of a loss: it relies on nothing from before.
    told: [u64; 2],
}

impl World {
    fn new() -> World {
        World {
            beliefs: Beliefs::default(),
            requests: Vec::new(),
            brick: [[Unlock; BYTES]; 2],
            now: 0,
            incarnation: 1,
            gone: [[false; BYTES]; 2],
            told: [0; 2],
        }
    }

    fn pick(&self, random: &mut Random, which: impl Fn(State) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.requests.len()).filter(|at| which(self.requests[*at].state)).collect();
        let at = fitting.get(random.below(fitting.len().max(1) as u64) as usize)?;
        Some(*at)
    }

    fn send(&mut self, random: &mut Random) {
        if self.requests.iter().filter(|request| matches!(request.state, State::Sent | State::Answered(_))).count() > 3
        {
            return;
        }
        let (one, other) = (random.below(BYTES as u64), random.below(BYTES as u64));
        let range = (one.min(other), one.max(other) + 1);
        let change = change(random.below(2), range, [Read, Write, Unlock][random.below(3) as usize]);
        let ticket = self.beliefs.sent(&change).unwrap();
        let (sent, state) = (self.now, State::Sent);
        self.requests.push(Request { change, ticket, sent, ended: 0, state, incarnation: 0, done: false });
    }

    /// The brick does a request, and its answer goes out or is lost with the connection.
    fn execute(&mut self, random: &mut Random) {
        let Some(at) = self.pick(random, |state| state == State::Sent) else { return };
        let again = self.requests[at].done;
        let made = again || random.below(4) > 0;
        if made && !again {
            self.requests[at].done = true;
            let Change { key, range, to, .. } = &self.requests[at].change;
            let owner = usize::from(*key == self::key(1));
            for byte in range.start() as usize..range.end() as usize {
                self.brick[owner][byte] = *to;
                self.gone[owner][byte] = false;
            }
        }
        if !made || random.below(3) > 0 {
            self.requests[at].state = State::Answered(made);
            self.requests[at].incarnation = self.incarnation;
        }
    }

    fn look(&mut self, random: &mut Random) {
        let Some(at) = self.pick(random, |state| matches!(state, State::Answered(_))) else { return };
        let request = &mut self.requests[at];
        request.ended = self.now;
        request.state = match request.state {
            State::Answered(true) => {
                match self.beliefs.made(&request.change, request.ticket, request.incarnation) {
                    Ok(()) => State::Made,
                    // It goes again.
                    Err(Outdated) => State::Sent,
                }
            }
            _ => {
                self.beliefs.refused(&request.change, request.ticket);
                State::Refused
            }
        };
    }

    fn give_up(&mut self, random: &mut Random) {
        let Some(at) = self.pick(random, |state| state == State::Sent) else { return };
        let request = &mut self.requests[at];
        self.beliefs.given_up(&request.change, request.ticket);
        (request.state, request.ended) = (State::GivenUp, self.now);
    }

    /// What `owner` may rely on at least, from the history.
    fn relied_on(&self, owner: u64) -> [LkType; BYTES] {
        std::array::from_fn(|byte| {
            let here = |request: &&Request| {
                let range = request.change.range;
                request.change.key == key(owner) && (range.start()..range.end()).contains(&(byte as u64))
            };
            let after = |request: &Request| {
                let mut here = self.requests.iter().filter(here);
                here.any(|later| later.state == State::Made && later.sent > request.ended)
            };
            let may_be_last = |request: &&Request| match request.state {
                State::Sent | State::Answered(_) => true,
                State::Made | State::GivenUp => !after(request),
                State::Refused => false,
            };
            let last: Vec<&Request> = self.requests.iter().filter(here).filter(may_be_last).collect();
            // Nothing stands there before the first that is certain.
            let told = self.told[owner as usize];
            let mut here = self.requests.iter().filter(here);
            let certain = here.any(|request| request.state == State::Made && request.ended > told);
            match certain {
                true => last.iter().map(|request| request.change.to).min_by_key(|to| strength(*to)).unwrap_or(Unlock),
                false => Unlock,
            }
        })
    }

    /// What is claimed is what may be relied on, byte for byte, and the brick has lost every byte of it that it lacks.
    fn check(&self, story: impl Fn() -> String) {
        for owner in 0..2 {
            let claimed = claimed(&self.beliefs, owner);
            assert_eq!(claimed, self.relied_on(owner), "{}: owner {owner} of {:#?}", story(), self.requests);
            for (byte, kind) in claimed.into_iter().enumerate() {
                let (held, gone) = (self.brick[owner as usize][byte], self.gone[owner as usize][byte]);
                assert!(
                    strength(held) >= strength(kind) || gone,
                    "{}: a loss that is none, owner {owner} byte {byte}: {:#?}",
                    story(),
                    self.requests
                );
            }
        }
    }

    /// The brick loses all that an owner holds.
    fn lose(&mut self, random: &mut Random) {
        let owner = random.below(2) as usize;
        for byte in 0..BYTES {
            self.gone[owner][byte] |= self.brick[owner][byte] != Unlock;
            self.brick[owner][byte] = Unlock;
        }
        // A grant that was taken back is not remembered.
        let grants = self.requests.iter_mut().filter(|request| request.change.takes());
        grants.filter(|request| request.change.key == key(owner as u64)).for_each(|request| request.done = false);
    }

    /// The connection was lost and is back: what is believed is compared.
    fn attach(&mut self) {
        self.incarnation += 1;
        let keys = self.beliefs.begin_claims(self.incarnation);
        for owner in 0..2 {
            let claimed = claimed(&self.beliefs, owner);
            assert!(keys.contains(&key(owner)) || claimed == [Unlock; BYTES]);
            let lost = (0..BYTES).any(|byte| strength(self.brick[owner as usize][byte]) < strength(claimed[byte]));
            if lost {
                self.tell_lost(owner);
            }
        }
    }

    fn tell_lost(&mut self, owner: u64) {
        assert_eq!(self.beliefs.lost(&key(owner)), [OpenId(owner)]);
        self.told[owner as usize] = self.now;
    }
}

#[test]
fn whatever_is_cut_off_whenever_no_loss_is_invented_and_none_is_missed() {
    let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed
        .unwrap_or_else(|| Gfid::random().to_bytes()[8..].iter().fold(1, |seed, byte| seed << 7 ^ u64::from(*byte)));
    println!("BRICKWORK_SEED={seed}");
    let mut random = Random(seed | 1);
    let rounds = if std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full") { 20_000 } else { 2_000 };
    for round in 0..rounds {
        let mut world = World::new();
        for step in 0..40 {
            world.now += 1;
            match random.below(16) {
                0..5 => world.send(&mut random),
                5..9 => world.execute(&mut random),
                9..13 => world.look(&mut random),
                13 => world.give_up(&mut random),
                14 => world.lose(&mut random),
                _ => world.attach(),
            }
            world.check(|| format!("seed {seed} round {round} step {step}"));
        }
    }
}

//! Any interleaving against the rule itself: once a change is acknowledged, nobody else keeps what was before it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

const SESSIONS: usize = 4;
const OBJECTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A fop that reads begins.
    Read {
        session: usize,
        object: usize,
    },
    /// A fop that changes begins.
    Change {
        session: usize,
        object: usize,
    },
    /// One of the fops under way goes one step on.
    Step(usize),
    /// One of the notices on their way arrives and is acknowledged.
    Deliver(usize),
    /// A client forgets an object that it asks nothing about at the moment.
    Forget {
        session: usize,
        object: usize,
    },
    Detach(usize),
    /// A client comes back, with nothing kept.
    Return(usize),
    /// Seconds pass.
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let session = || 0..SESSIONS;
    let object = || 0..OBJECTS;
    prop_oneof![
        3 => (session(), object()).prop_map(|(session, object)| Act::Read { session, object }),
        2 => (session(), object()).prop_map(|(session, object)| Act::Change { session, object }),
        8 => (0..64_usize).prop_map(Act::Step),
        4 => (0..64_usize).prop_map(Act::Deliver),
        1 => (session(), object()).prop_map(|(session, object)| Act::Forget { session, object }),
        1 => session().prop_map(Act::Detach),
        1 => session().prop_map(Act::Return),
        1 => (1..30_u64).prop_map(Act::Pass),
    ]
}

/// A fop under way, and how far it is.
enum Doing {
    Begun {
        since: Moment,
    },
    /// It has seen, or made, this version.
    Done {
        since: Moment,
        version: u64,
    },
    /// Its answer waits for the others.
    Waiting {
        version: u64,
        over: Arc<AtomicBool>,
        kept: bool,
    },
    /// Its answer is on its way.
    Answered {
        version: u64,
        kept: bool,
    },
}

struct Fop {
    session: usize,
    object: usize,
    change: bool,
    /// What the client had dropped of the object when it asked.
    dropped: u64,
    doing: Doing,
}

#[derive(Default)]
struct World {
    notices: Vec<Notice>,
    /// What a detached session keeps counts until then.
    detached: HashMap<usize, Instant>,
}

struct Model {
    caches: Caches,
    world: Arc<Mutex<World>>,
    versions: [u64; OBJECTS],
    kept: [[Option<u64>; OBJECTS]; SESSIONS],
    dropped: [[u64; OBJECTS]; SESSIONS],
    fops: Vec<Fop>,
}

fn gfid(object: usize) -> Gfid {
    Gfid::from_bytes((object as u128 + 2).to_be_bytes())
}

fn key(session: usize) -> SessionKey {
    SessionKey(session as u32)
}

impl Model {
    fn new() -> Model {
        Model {
            // Two of four sessions may keep one object.
            caches: caches(2, 1000),
            world: Arc::default(),
            versions: [0; OBJECTS],
            kept: [[None; OBJECTS]; SESSIONS],
            dropped: [[0; OBJECTS]; SESSIONS],
            fops: Vec::new(),
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Read { session, object } => self.begin(session, object, false),
            Act::Change { session, object } => self.begin(session, object, true),
            Act::Step(number) => self.step(number),
            Act::Deliver(number) => self.deliver(number),
            Act::Forget { session, object } => {
                let asks = |fop: &Fop| fop.session == session && fop.object == object;
                if !self.fops.iter().any(asks) {
                    self.drop_kept(session, object);
                    self.caches.forgotten(key(session), &[gfid(object)]);
                }
            }
            Act::Detach(session) => {
                self.world.lock().detached.entry(session).or_insert_with(|| Instant::now() + TIMEOUT);
            }
            Act::Return(session) => self.come_back(session),
            Act::Pass(seconds) => self.pass(seconds).await,
        }
        // Whatever waits hears of it.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        self.check();
    }

    fn begin(&mut self, session: usize, object: usize, change: bool) {
        if self.world.lock().detached.contains_key(&session) || self.fops.len() > 12 {
            return;
        }
        let doing = Doing::Begun { since: self.caches.now() };
        self.fops.push(Fop { session, object, change, dropped: self.dropped[session][object], doing });
    }

    fn step(&mut self, number: usize) {
        if self.fops.is_empty() {
            return;
        }
        let number = number % self.fops.len();
        let Fop { session, object, change, dropped, ref doing } = self.fops[number];
        let doing = match *doing {
            Doing::Begun { since } => {
                self.versions[object] += u64::from(change);
                Doing::Done { since, version: self.versions[object] }
            }
            Doing::Done { since, version } => self.after(session, object, change, since, version),
            Doing::Waiting { version, ref over, kept } if over.load(Ordering::SeqCst) => {
                Doing::Answered { version, kept }
            }
            Doing::Waiting { .. } => return,
            Doing::Answered { version, kept } => {
                // A client drops also what was on its way when it was told to.
                let told_since = self.dropped[session][object] != dropped;
                if kept && !told_since && !self.world.lock().detached.contains_key(&session) {
                    let newer = self.kept[session][object].map_or(version, |older| older.max(version));
                    self.kept[session][object] = Some(newer);
                }
                self.fops.remove(number);
                return;
            }
        };
        self.fops[number].doing = doing;
    }

    fn after(&self, session: usize, object: usize, change: bool, since: Moment, version: u64) -> Doing {
        let (caches, world) = (&self.caches, self.world.clone());
        let tell = move |notice: &Notice| {
            let mut world = world.lock();
            if let Some(until) = world.detached.get(&(notice.session.0 as usize)) {
                return Reach::Detached(*until);
            }
            world.notices.push(*notice);
            Reach::Sent
        };
        let (after, kept) = if change {
            let request =
                SetattrReq { target: gfid(object).into(), change: AttrChange::default(), xdata: Xdata::EMPTY };
            let mut outcome = Ok(SetattrReply { attr: samples::attr(gfid(object)), xdata: Xdata::EMPTY });
            let after = caches.after::<fop::Setattr>(key(session), since, &request, &mut outcome, &tell);
            (after, outcome.unwrap().xdata.is_empty())
        } else {
            let (request, mut outcome) = stat(gfid(object));
            let after = caches.after::<fop::Stat>(key(session), since, &request, &mut outcome, &tell);
            (after, outcome.unwrap().xdata.is_empty())
        };
        let Some(waiting) = after.change else { return Doing::Answered { version, kept } };
        let (over, world) = (Arc::new(AtomicBool::new(false)), self.world.clone());
        let is_over = over.clone();
        tokio::spawn(async move {
            let silent = |session: SessionKey| {
                let mut world = world.lock();
                world.notices.retain(|notice| notice.session != session);
                let until = Instant::now() + TIMEOUT;
                Some(*world.detached.entry(session.0 as usize).or_insert(until))
            };
            waiting.all(TIMEOUT, silent).await;
            is_over.store(true, Ordering::SeqCst);
        });
        Doing::Waiting { version, over, kept }
    }

    fn deliver(&mut self, number: usize) {
        let notice = {
            let notices = &mut self.world.lock().notices;
            if notices.is_empty() {
                return;
            }
            let number = number % notices.len();
            notices.remove(number)
        };
        let (session, object) = (notice.session.0 as usize, usize::from(notice.gfid.to_bytes()[15]) - 2);
        if self.world.lock().detached.contains_key(&session) {
            return;
        }
        self.drop_kept(session, object);
        self.caches.acknowledged(notice.session, notice.id);
    }

    fn come_back(&mut self, session: usize) {
        let asks = self.fops.iter().any(|fop| fop.session == session);
        if asks || self.world.lock().detached.remove(&session).is_none() {
            return;
        }
        (0..OBJECTS).for_each(|object| self.drop_kept(session, object));
        self.world.lock().notices.retain(|notice| notice.session != key(session));
        self.caches.drop_session(key(session));
    }

    async fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            // A client's clock is not behind: it drops what no longer counts before the server believes so.
            let next = Instant::now() + Duration::from_secs(1);
            let over: Vec<usize> = {
                let world = self.world.lock();
                world.detached.iter().filter(|(_, until)| **until <= next).map(|(session, _)| *session).collect()
            };
            over.into_iter().for_each(|session| (0..OBJECTS).for_each(|object| self.drop_kept(session, object)));
            tokio::time::sleep_until(next).await;
        }
    }

    fn drop_kept(&mut self, session: usize, object: usize) {
        self.kept[session][object] = None;
        self.dropped[session][object] += 1;
    }

    fn check(&self) {
        for fop in self.fops.iter().filter(|fop| fop.change) {
            let made = match &fop.doing {
                Doing::Answered { version, .. } => *version,
                Doing::Waiting { version, over, .. } if over.load(Ordering::SeqCst) => *version,
                _ => continue,
            };
            for session in (0..SESSIONS).filter(|session| *session != fop.session) {
                let kept = self.kept[session][fop.object];
                assert!(
                    kept.is_none_or(|version| version >= made),
                    "session {session} keeps version {kept:?} of object {}, and version {made} was acknowledged",
                    fop.object
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_keeps_what_was_before_an_acknowledged_change_of_another(acts in prop::collection::vec(act(), 1..300)) {
        runtime().block_on(async {
            let mut model = Model::new();
            for act in acts {
                model.act(act).await;
            }
        });
    }
}

fn rounds() -> u32 {
    if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|value| value == "full") { 10_000 } else { 200 }
}

//! The clients of a brick, as the locks know them: who they are, whether they are here, what they were answered last.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::locks::{Attaching, FailoverGroup};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{ClientId, Errno, Gfid, LkKind, LkOwner};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::record::Asked;
use crate::rules::life::Life;
use crate::rules::xlator_locks::Scope;
use crate::table::{Mode, OwnerKey};

/// Processes of one client whose commands are remembered; of others none is shown.
const COMMANDS_MAX: usize = 65_536;

/// The shortest distance between two counts of a client's locks one by one.
const RECOUNT: Duration = Duration::from_secs(1);

/// Ended clients that are remembered; a call of one that ended before them is taken for that of a client of this process.
const GONE_MAX: usize = 16_384;

/// What an owner held in a range before something else was granted there.
pub(crate) type Before = SmallVec<[(ByteRange, Mode); 1]>;

/// A success that its client may ask for again.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) sequence: u64,
    pub(crate) gfid: Gfid,
    /// A lock was granted; else released.
    pub(crate) took: bool,
    pub(crate) done: Done,
}

/// What was granted or released.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// Of an application.
    Lk {
        kind: LkKind,
        owner: OwnerKey,
        range: ByteRange,
        mode: Mode,
        /// What its owner held in the range before.
        before: Before,
    },
    /// Of an xlator.
    Between { owner: OwnerKey, domain: String, scope: Scope },
}

impl Done {
    /// Whose.
    pub(crate) fn owner(&self) -> OwnerKey {
        match self {
            Done::Lk { owner, .. } | Done::Between { owner, .. } => *owner,
        }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    /// It comes over a network: its locks outlive this process.
    pub(crate) remote: AtomicBool,
    /// It is gone for good: nothing is taken for it any more.
    pub(crate) ended: AtomicBool,
    /// It stands on the durable record of clients with locks.
    pub(crate) recorded: AtomicBool,
    /// Its locks of applications; somewhat more where granted waiters were joined to others: see [`Client::recounted`].
    pub(crate) held: AtomicI64,
    /// When they were counted one by one.
    counted: Mutex<Option<Instant>>,
    /// It has attached, or ended.
    pub(crate) turned: Notify,
    pub(crate) person: Mutex<Person>,
    answers: Mutex<HashMap<u32, Remembered>>,
    owners: Mutex<HashMap<LkOwner, OwnerKey>>,
    commands: Mutex<HashMap<u32, Arc<str>>>,
}

/// What is known of a client.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    /// None for a client of this process, which is here as long as the process is.
    pub(crate) life: Option<Life>,
    pub(crate) host: Arc<str>,
    pub(crate) group: Option<FailoverGroup>,
    /// As it was announced last.
    pub(crate) attaching: Option<Attaching>,
}

impl Client {
    fn new(id: ClientId) -> Client {
        Client {
            id,
            remote: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            recorded: AtomicBool::new(false),
            held: AtomicI64::new(0),
            counted: Mutex::default(),
            turned: Notify::new(),
            person: Mutex::new(Person { life: None, host: "".into(), group: None, attaching: None }),
            answers: Mutex::default(),
            owners: Mutex::default(),
            commands: Mutex::default(),
        }
    }

    /// Whether its locks outlive this process.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.load(Ordering::Relaxed)
    }

    /// Whether its locks may be counted one by one now: not more often than every [`RECOUNT`].
    pub(crate) fn recounted(&self) -> bool {
        let mut counted = self.counted.lock();
        let due = counted.is_none_or(|at| at.elapsed() >= RECOUNT);
        if due {
            *counted = Some(Instant::now());
        }
        due
    }

    /// The keys of its owners.
    pub(crate) fn keys(&self) -> HashSet<OwnerKey> {
        self.owners.lock().values().copied().collect()
    }

    /// Whether somebody who wants its locks gets them at `now_ms`.
    pub(crate) fn may_expire(&self, now_ms: u64) -> bool {
        self.person.lock().life.is_some_and(|life| life.may_expire(now_ms))
    }

    /// The success of `asked`, when it was the last in its slot.
    pub(crate) fn answered(&self, asked: Option<Asked>) -> Option<Remembered> {
        let Asked { slot, sequence } = asked?;
        self.answers.lock().get(&slot).filter(|remembered| remembered.sequence == sequence).cloned()
    }

    /// Remembers a success, unless that of a later request in its slot is known: a call that was given up may be granted
    /// after its slot was used again.
    pub(crate) fn remember(&self, slot: u32, remembered: Remembered) {
        let mut answers = self.answers.lock();
        if answers.get(&slot).is_none_or(|known| known.sequence <= remembered.sequence) {
            answers.insert(slot, remembered);
        }
    }

    /// Forgets a success.
    pub(crate) fn forget(&self, slot: u32) {
        self.answers.lock().remove(&slot);
    }

    /// Forgets that `owner` was granted anything on `gfid`: it is not so any more.
    pub(crate) fn forget_grants(&self, gfid: Gfid, kind: LkKind, owner: OwnerKey) {
        self.forget_where(|one| {
            let same =
                |done: &Done| matches!(done, Done::Lk { kind: of, owner: by, .. } if (*of, *by) == (kind, owner));
            one.took && one.gfid == gfid && same(&one.done)
        });
    }

    /// As [`Client::forget_grants`], of locks between xlators.
    pub(crate) fn forget_between(&self, gfid: Gfid, owner: OwnerKey) {
        self.forget_where(|one| {
            one.took && one.gfid == gfid && matches!(one.done, Done::Between { owner: by, .. } if by == owner)
        });
    }

    fn forget_where(&self, is_it: impl Fn(&Remembered) -> bool) {
        self.answers.lock().retain(|_, one| !is_it(one));
    }

    /// Every remembered success by its slot.
    pub(crate) fn answers(&self) -> Vec<(u32, Remembered)> {
        let mut answers: Vec<_> = self.answers.lock().iter().map(|(slot, one)| (*slot, one.clone())).collect();
        answers.sort_unstable_by_key(|(slot, _)| *slot);
        answers
    }

    /// Notes the command of a process, for people.
    pub(crate) fn name(&self, pid: u32, command: &str) {
        let mut commands = self.commands.lock();
        let known = commands.get(&pid).is_some_and(|known| &**known == command);
        if !known && (commands.len() < COMMANDS_MAX || commands.contains_key(&pid)) {
            commands.insert(pid, command.into());
        }
    }

    /// The command of a process, when it was told.
    pub(crate) fn command(&self, pid: u32) -> Option<Arc<str>> {
        self.commands.lock().get(&pid).cloned()
    }
}

/// An owner of locks.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) client: Arc<Client>,
    pub(crate) name: LkOwner,
    /// Its locks of applications; somewhat more, as those of its client.
    held: AtomicI64,
}

impl Owner {
    /// Counts its locks, and those of its client.
    pub(crate) fn count(&self, more: i64) {
        self.held.fetch_add(more, Ordering::Relaxed);
        self.client.held.fetch_add(more, Ordering::Relaxed);
    }

    /// Whether it may hold a lock.
    pub(crate) fn may_be_waited_for(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }
}

/// All clients, and the owners in them by their short keys.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_id: RwLock<HashMap<ClientId, Arc<Client>>>,
    gone: Mutex<Gone>,
    owners: RwLock<Keys>,
    /// Keys were added although none was free.
    grown: AtomicBool,
}

/// The last clients that ended: what of their calls comes late is nobody's.
#[derive(Debug, Default)]
struct Gone {
    order: VecDeque<ClientId>,
    ids: HashSet<ClientId>,
}

#[derive(Debug, Default)]
struct Keys {
    entries: Vec<Option<Arc<Owner>>>,
    free: Vec<u32>,
}

impl Clients {
    /// The client of this id, new if need be.
    pub(crate) fn of(&self, id: ClientId) -> Arc<Client> {
        if let Some(client) = self.get(id) {
            return client;
        }
        self.by_id.write().entry(id).or_insert_with(|| Arc::new(Client::new(id))).clone()
    }

    /// The client of this id, for a call of it.
    ///
    /// # Errors
    /// `ENOTCONN` when it has ended.
    pub(crate) fn calling(&self, id: ClientId) -> Result<Arc<Client>, Errno> {
        if let Some(client) = self.get(id) {
            return Ok(client);
        }
        if self.gone.lock().ids.contains(&id) { Err(Errno::ENOTCONN) } else { Ok(self.of(id)) }
    }

    /// The client of this id, which is let in.
    pub(crate) fn welcome(&self, id: ClientId) -> Arc<Client> {
        self.may_come(id);
        self.of(id)
    }

    /// Notes that calls of this client are not of one that has ended.
    pub(crate) fn may_come(&self, id: ClientId) {
        let mut gone = self.gone.lock();
        if gone.ids.remove(&id) {
            gone.order.retain(|other| *other != id);
        }
    }

    /// The client of this id, if it is known.
    pub(crate) fn get(&self, id: ClientId) -> Option<Arc<Client>> {
        self.by_id.read().get(&id).cloned()
    }

    /// Every client.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.by_id.read().values().cloned().collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }

    /// Forgets a client; its keys go with the next [`Clients::sweep`].
    pub(crate) fn remove(&self, id: ClientId) -> Option<Arc<Client>> {
        let mut gone = self.gone.lock();
        if gone.ids.insert(id) {
            gone.order.push_back(id);
        }
        if gone.order.len() > GONE_MAX
            && let Some(oldest) = gone.order.pop_front()
        {
            gone.ids.remove(&oldest);
        }
        drop(gone);
        self.by_id.write().remove(&id)
    }

    /// The key of an owner, new if need be. It is good until the journal is let go of that is held meanwhile: one that is
    /// not in use may be another owner's then.
    pub(crate) fn key(&self, client: &Arc<Client>, owner: &LkOwner) -> OwnerKey {
        let mut known = client.owners.lock();
        if let Some(key) = known.get(owner) {
            return *key;
        }
        let entry = Arc::new(Owner { client: client.clone(), name: owner.clone(), held: AtomicI64::new(0) });
        let mut keys = self.owners.write();
        let key = match keys.free.pop() {
            Some(key) => {
                keys.entries[key as usize] = Some(entry);
                OwnerKey(key)
            }
            None => {
                keys.entries.push(Some(entry));
                self.grown.store(true, Ordering::Relaxed);
                OwnerKey(u32::try_from(keys.entries.len() - 1).expect("owners are bounded by locks and waiters"))
            }
        };
        known.insert(owner.clone(), key);
        key
    }

    /// The key of an owner that has one.
    pub(crate) fn known_key(&self, client: &Client, owner: &LkOwner) -> Option<OwnerKey> {
        client.owners.lock().get(owner).copied()
    }

    /// Whose key it is.
    pub(crate) fn owner(&self, key: OwnerKey) -> Arc<Owner> {
        self.owners.read().entries[key.0 as usize].clone().expect("a key in use is not swept")
    }

    /// Whether there are more keys than when this was asked last.
    pub(crate) fn have_grown(&self) -> bool {
        self.grown.load(Ordering::Relaxed) && self.grown.swap(false, Ordering::Relaxed)
    }

    /// How many keys are given out.
    pub(crate) fn keys(&self) -> usize {
        let keys = self.owners.read();
        keys.entries.len() - keys.free.len()
    }

    /// Takes back the keys for which `in_use` says no. Nobody may hold one that it has not put to use.
    pub(crate) fn sweep(&self, in_use: impl Fn(OwnerKey) -> bool) {
        let entries = self.owners.read().entries.clone();
        for (number, owner) in (0u32..).zip(entries) {
            let Some(owner) = owner.filter(|_| !in_use(OwnerKey(number))) else { continue };
            // First the owner's name, as whoever looks for its key does.
            let mut known = owner.client.owners.lock();
            known.remove(&owner.name);
            let mut keys = self.owners.write();
            keys.entries[number as usize] = None;
            keys.free.push(number);
        }
    }
}

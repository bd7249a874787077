//! Which sessions may keep what of which object.
//!
//! Pure: no clock, no tasks, no sending. What has to be told to whom is handed to [`Notices`] while the object's shard
//! is locked, so that nobody finds a session half told.
//!
//! Always true between calls:
//! - a session that may keep something of an object stands beside it, with what it may keep;
//! - a session that was told to drop it stands beside it until it has acknowledged ([`Registry::acknowledged`]), so that
//!   the next change waits for that acknowledgement too;
//! - an object has at most `clients_max` sessions beside it, and a shard at most its part of `inodes_max` objects;
//! - an object without sessions takes no room.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;
use std::ops::{BitAnd, BitOr, Not};
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::Gfid;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

const SHARDS: usize = 64;
/// Marks of changes of one shard. Two objects that share one cost an answer its caching now and then, never its truth.
const MARKS: usize = 256;
/// Places that the search for an old object looks at before it takes any.
const STEPS_MAX: usize = 64;

/// A session of one export, as a number that is cheap to keep a million times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionKey(pub(crate) u32);

/// The name of one demand to drop something, until it is acknowledged.
pub(crate) type NoticeId = NonZeroU64;

/// Parts of an object that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept(u8);

impl Kept {
    pub(crate) const NOTHING: Kept = Kept(0);
    /// Its content, attributes, and extended attributes.
    pub(crate) const OBJECT: Kept = Kept(1);
    /// The names in it, and that others are not in it.
    pub(crate) const NAMES: Kept = Kept(2);
    pub(crate) const BOTH: Kept = Kept(3);

    pub(crate) fn has_names(self) -> bool {
        self & Kept::NAMES != Kept::NOTHING
    }
}

impl BitAnd for Kept {
    type Output = Kept;
    fn bitand(self, other: Kept) -> Kept {
        Kept(self.0 & other.0)
    }
}

impl BitOr for Kept {
    type Output = Kept;
    fn bitor(self, other: Kept) -> Kept {
        Kept(self.0 | other.0)
    }
}

impl Not for Kept {
    type Output = Kept;
    fn not(self) -> Kept {
        Kept(!self.0 & Kept::BOTH.0)
    }
}

/// A point in the order of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// Where it goes what sessions have to be told. Called with a shard locked: it must not wait, nor come back here.
pub(crate) trait Notices {
    /// A demand to `session` to drop what it keeps of `gfid`, with the names in it when `names`; returns its name.
    fn open(&mut self, session: SessionKey, gfid: Gfid, names: bool) -> NoticeId;
    /// A demand that was opened before covers this change too; it may have been acknowledged already.
    fn join(&mut self, id: NoticeId);
}

/// Bounds of a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sessions beside one object (`caching-clients-max`).
    pub(crate) clients_max: usize,
    /// Objects in all (`caching-inodes-max`); the shards share it evenly.
    pub(crate) inodes_max: usize,
}

struct Holder {
    session: SessionKey,
    kept: Kept,
    /// Whether the demand that is open covers the names.
    telling_names: bool,
    telling: Option<NoticeId>,
}

struct Inode {
    gfid: Gfid,
    holders: SmallVec<[Holder; 1]>,
    /// Told of since the search for an old object came by.
    used: bool,
}

/// When the objects of one mark were changed last, and by whom.
#[derive(Clone, Copy)]
struct Mark {
    newest: u64,
    by: Option<SessionKey>,
    /// The newest change by anybody else than `by`.
    others: u64,
}

struct Shard {
    places: HashMap<Gfid, u32, Scatter>,
    /// `None`: free, and named in `free`.
    inodes: Vec<Option<Inode>>,
    free: Vec<u32>,
    hand: usize,
    marks: Box<[Mark; MARKS]>,
}

/// Who may keep what, of all objects of one export.
pub(crate) struct Registry {
    shards: Box<[Mutex<Shard>]>,
    scatter: Scatter,
    changes: AtomicU64,
    clients_max: usize,
    /// Objects of a shard from which on old ones are asked back, and at which newcomers are refused.
    room: (usize, usize),
}

impl Registry {
    pub(crate) fn new(limits: Limits) -> Registry {
        let scatter = Scatter::random();
        let hard = limits.inodes_max.div_ceil(SHARDS).max(1);
        let shard = || Shard {
            places: HashMap::with_hasher(scatter),
            inodes: Vec::new(),
            free: Vec::new(),
            hand: 0,
            marks: Box::new([Mark { newest: 0, by: None, others: 0 }; MARKS]),
        };
        Registry {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            scatter,
            changes: AtomicU64::new(0),
            clients_max: limits.clients_max,
            room: (hard - hard / 16, hard),
        }
    }

    /// The moment before a fop is done; what it shows is compared with it ([`Registry::told`]).
    pub(crate) fn now(&self) -> Moment {
        // Acquire: the fop that follows must not read what is older than the changes counted here.
        Moment(self.changes.load(Ordering::Acquire))
    }

    /// Notes that `session` is told of `gfid`; whether it may keep it.
    ///
    /// `since` is the moment before the fop, for an answer that shows the object as it was: when another session changed
    /// the object since, the answer may be either side of that change and nobody would tell. The object may be one of
    /// many that share a mark, so a "no" can be for nothing.
    pub(crate) fn told(
        &self,
        session: SessionKey,
        gfid: Gfid,
        kept: Kept,
        since: Option<Moment>,
        notices: &mut impl Notices,
    ) -> bool {
        let (mut shard, mark) = self.shard(gfid);
        if since.is_some_and(|since| shard.marks[mark].changed_by_another(session) > since.0) {
            return false;
        }
        match shard.places.get(&gfid).copied() {
            Some(place) => shard.inode(place).told(session, kept, self.clients_max),
            None => shard.insert(session, gfid, kept, self.room, notices),
        }
    }

    /// Notes that `what` of `gfid` was changed, by `by`; everybody else who may keep it gets a notice, or is waited for
    /// when one is open already.
    pub(crate) fn changed(&self, by: SessionKey, gfid: Gfid, what: Kept, notices: &mut impl Notices) {
        let (mut shard, mark) = self.shard(gfid);
        // Counted under the lock, so that marks only grow.
        let number = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        shard.marks[mark].change(by, number);
        let Some(place) = shard.places.get(&gfid).copied() else { return };
        for holder in shard.inode(place).holders.iter_mut().filter(|holder| holder.session != by) {
            holder.ask_back(gfid, what, notices);
        }
    }

    /// Notes that `session` has dropped what the notice `id` was about.
    pub(crate) fn acknowledged(&self, session: SessionKey, gfid: Gfid, id: NoticeId) {
        let (mut shard, _) = self.shard(gfid);
        shard.update(gfid, |holders| {
            for holder in holders.iter_mut().filter(|holder| holder.session == session && holder.telling == Some(id)) {
                holder.telling = None;
            }
        });
    }

    /// Notes that `session` no longer keeps anything of `gfid`.
    pub(crate) fn forgotten(&self, session: SessionKey, gfid: Gfid) {
        let (mut shard, _) = self.shard(gfid);
        shard.update(gfid, |holders| {
            for holder in holders.iter_mut().filter(|holder| holder.session == session) {
                holder.kept = Kept::NOTHING;
            }
        });
    }

    /// Takes `session` out everywhere: it keeps nothing any more. Looks at every object, a shard at a time.
    pub(crate) fn drop_session(&self, session: SessionKey) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            for place in 0..shard.inodes.len() {
                let Some(inode) = &mut shard.inodes[place] else { continue };
                inode.holders.retain(|holder| holder.session != session);
                if inode.holders.is_empty() {
                    shard.take_out(place as u32);
                }
            }
        }
    }

    /// Objects that somebody may keep, or was told to drop and has not answered.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().places.len()).sum()
    }

    fn shard(&self, gfid: Gfid) -> (MutexGuard<'_, Shard>, usize) {
        let hash = self.scatter.hash_one(gfid) as usize;
        // The map below takes the lowest and the highest bits.
        (self.shards[(hash >> 20) % SHARDS].lock(), (hash >> 30) % MARKS)
    }
}

impl Mark {
    fn change(&mut self, by: SessionKey, number: u64) {
        if self.by != Some(by) {
            (self.others, self.by) = (self.newest, Some(by));
        }
        self.newest = number;
    }

    fn changed_by_another(&self, session: SessionKey) -> u64 {
        if self.by == Some(session) { self.others } else { self.newest }
    }
}

impl Holder {
    fn ask_back(&mut self, gfid: Gfid, what: Kept, notices: &mut impl Notices) {
        let hit = self.kept & what;
        match self.telling {
            // Nothing came since: whatever it was told to drop is all there is.
            Some(id) if hit == Kept::NOTHING => notices.join(id),
            None if hit == Kept::NOTHING => {}
            former => {
                self.kept = self.kept & !what;
                // The new notice stands for the former one too, which nobody will find here any more.
                self.telling_names = hit.has_names() || former.is_some() && self.telling_names;
                self.telling = Some(notices.open(self.session, gfid, self.telling_names));
            }
        }
    }
}

impl Inode {
    fn told(&mut self, session: SessionKey, kept: Kept, clients_max: usize) -> bool {
        self.used = true;
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.session == session) {
            holder.kept = holder.kept | kept;
            return true;
        }
        let room = self.holders.len() < clients_max;
        if room {
            self.holders.push(Holder { session, kept, telling_names: false, telling: None });
        }
        room
    }

    fn is_kept(&self) -> bool {
        self.holders.iter().any(|holder| holder.kept != Kept::NOTHING)
    }
}

impl Shard {
    fn inode(&mut self, place: u32) -> &mut Inode {
        self.inodes[place as usize].as_mut().expect("a place that is named is not free")
    }

    fn insert(
        &mut self,
        session: SessionKey,
        gfid: Gfid,
        kept: Kept,
        (soft, hard): (usize, usize),
        notices: &mut impl Notices,
    ) -> bool {
        if self.places.len() >= soft {
            self.ask_an_old_one_back(notices);
        }
        if self.places.len() >= hard {
            return false;
        }
        let holder = Holder { session, kept, telling_names: false, telling: None };
        let inode = Some(Inode { gfid, holders: SmallVec::from([holder]), used: true });
        let place = match self.free.pop() {
            Some(place) => {
                self.inodes[place as usize] = inode;
                place
            }
            None => {
                self.inodes.push(inode);
                (self.inodes.len() - 1) as u32
            }
        };
        self.places.insert(gfid, place);
        true
    }

    /// Tells those who keep an object that was not told of for long to drop it; it goes when they have.
    fn ask_an_old_one_back(&mut self, notices: &mut impl Notices) {
        let mut found = None;
        for _ in 0..self.inodes.len().min(STEPS_MAX) {
            self.hand = (self.hand + 1) % self.inodes.len();
            let Some(inode) = &mut self.inodes[self.hand] else { continue };
            if !inode.is_kept() {
                continue;
            }
            found = Some(self.hand);
            if !std::mem::take(&mut inode.used) {
                break;
            }
        }
        let Some(inode) = found.and_then(|place| self.inodes[place].as_mut()) else { return };
        for holder in &mut inode.holders {
            holder.ask_back(inode.gfid, Kept::BOTH, notices);
        }
    }

    fn update(&mut self, gfid: Gfid, change: impl FnOnce(&mut [Holder])) {
        let Some(place) = self.places.get(&gfid).copied() else { return };
        let inode = self.inode(place);
        change(&mut inode.holders);
        inode.holders.retain(|holder| holder.kept != Kept::NOTHING || holder.telling.is_some());
        if inode.holders.is_empty() {
            self.take_out(place);
        }
    }

    fn take_out(&mut self, place: u32) {
        if let Some(inode) = self.inodes[place as usize].take() {
            self.places.remove(&inode.gfid);
            self.free.push(place);
        }
    }
}

/// Hashes gfids: one multiplication of 64 by 64 bits, by numbers that no client knows.
#[derive(Clone, Copy)]
struct Scatter([u64; 2]);

impl Scatter {
    fn random() -> Scatter {
        let random = RandomState::new();
        Scatter([random.hash_one(1), random.hash_one(2)])
    }
}

impl BuildHasher for Scatter {
    type Hasher = Scattering;

    fn build_hasher(&self) -> Scattering {
        Scattering { secret: self.0, state: 0 }
    }
}

struct Scattering {
    secret: [u64; 2],
    state: u64,
}

impl Hasher for Scattering {
    fn write_u128(&mut self, number: u128) {
        let (high, low) = ((number >> 64) as u64 ^ self.secret[0], number as u64 ^ self.secret[1]);
        let product = u128::from(high) * u128::from(low);
        self.state ^= (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            let mut number = [0; 16];
            number[..chunk.len()].copy_from_slice(chunk);
            self.write_u128(u128::from_le_bytes(number));
        }
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

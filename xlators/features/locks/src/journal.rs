//! Where the locks are written down, and the durable record of the clients that hold any.
//!
//! Always true: a record stands in the journal before what it tells of is answered, and a snapshot contains every change
//! whose record stands before it. For that, whoever changes something *holds* the journal from before the change until
//! its record is written, and a snapshot waits until nobody does.
//!
//! When it cannot be written, locks are refused until a snapshot has mended it: what is in memory is right.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use brickwork_api::{ClientId, Errno, FopError, FopResult};
use brickwork_codec::{decode, encode};
use brickwork_journal::{Found, Journal, Limits, Mode};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::options::LockJournal;
use crate::record::Record;
use crate::rules::grace::Reason;

/// The folder of the journal in the working folder of the locks, and that of the record of clients.
const LOCKS: &str = "journal";
const CLIENTS: &str = "clients";

/// A client of which nothing is known.
const NOBODY: Holder = Holder { detach_timeout_ms: 0, robbed: false };

/// What a start found.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The changes that the process before this one wrote down, in their order; none when they are not to be trusted.
    pub(crate) records: Vec<Record>,
    /// The clients that may hold locks.
    pub(crate) holders: BTreeMap<ClientId, Holder>,
    /// Why their locks are not known: they have to claim them.
    pub(crate) lost: Option<Reason>,
}

/// The journal of the locks.
pub(crate) struct Ledger {
    kind: LockJournal,
    /// None: nothing is written, or it was closed.
    journal: RwLock<Option<Arc<Journal>>>,
    holders: Option<Mutex<Holders>>,
    broken: AtomicBool,
    due: AtomicBool,
    /// Where the last record stands.
    last: AtomicU64,
    /// A snapshot is due.
    pub(crate) wants: Notify,
}

/// Keeps snapshots away.
pub(crate) struct Held<'l> {
    ledger: &'l Ledger,
    journal: RwLockReadGuard<'l, Option<Arc<Journal>>>,
}

/// Keeps every change away.
pub(crate) struct Still<'l> {
    ledger: &'l Ledger,
    journal: RwLockWriteGuard<'l, Option<Arc<Journal>>>,
}

/// The clients that may hold locks, on the disk.
struct Holders {
    /// None: it was closed.
    journal: Option<Journal>,
    clients: BTreeMap<ClientId, Holder>,
}

/// A client that may hold locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// For how long it trusts its locks when it is cut off, in milliseconds.
    pub(crate) detach_timeout_ms: u32,
    /// A lock was taken from it, and it has not answered for that by a claim.
    pub(crate) robbed: bool,
}

#[derive(Serialize, Deserialize)]
enum HolderRecord {
    Holds(ClientId, Holder),
    Gone(ClientId),
}

impl Ledger {
    /// Before the start, and where there is nothing to write to.
    pub(crate) fn closed() -> Ledger {
        Ledger {
            kind: LockJournal::Memory,
            journal: RwLock::new(None),
            holders: None,
            broken: AtomicBool::new(false),
            due: AtomicBool::new(false),
            last: AtomicU64::new(0),
            wants: Notify::new(),
        }
    }

    /// Opens what the process before this one left in `folder`.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn open(kind: LockJournal, folder: &Path) -> Result<(Ledger, Past), String> {
        let holders = Holders::open(&folder.join(CLIENTS))?;
        let known = holders.clients.clone();
        let (journal, records, lost) = match kind {
            LockJournal::Memory => {
                forget(&folder.join(LOCKS))?;
                (None, Vec::new(), Some(Reason::JournalMissing))
            }
            LockJournal::Process => open(&folder.join(LOCKS), Mode::Process)?,
            LockJournal::Disk => open(&folder.join(LOCKS), Mode::Disk)?,
        };
        let lost = lost.filter(|_| !known.is_empty());
        let ledger = Ledger {
            kind,
            journal: RwLock::new(journal.map(Arc::new)),
            holders: Some(Mutex::new(holders)),
            broken: AtomicBool::new(false),
            due: AtomicBool::new(false),
            last: AtomicU64::new(0),
            wants: Notify::new(),
        };
        Ok((ledger, Past { records, holders: known, lost }))
    }

    /// Refuses while the journal cannot be written.
    ///
    /// # Errors
    /// `ENOLCK`.
    pub(crate) fn check(&self) -> FopResult<()> {
        match self.broken.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(FopError::new(Errno::ENOLCK).doing("taking a lock that the journal cannot take in")),
        }
    }

    /// Keeps snapshots away until the guard is dropped, which is not kept across an await.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held { ledger: self, journal: self.journal.read() }
    }

    /// Keeps every change away until the guard is dropped.
    pub(crate) fn still(&self) -> Still<'_> {
        Still { ledger: self, journal: self.journal.write() }
    }

    /// Waits until the record at `place` survives what `lock-journal` says.
    ///
    /// # Errors
    /// `EIO` when the disk refused.
    pub(crate) async fn settle(&self, place: Option<u64>) -> FopResult<()> {
        let (Some(place), LockJournal::Disk) = (place, self.kind) else { return Ok(()) };
        let journal = self.journal.read().clone();
        let Some(journal) = journal else { return Err(self.unwritten(&"it is closed")) };
        journal.durable(place).await.map_err(|error| self.unwritten(&error))
    }

    /// As [`Ledger::settle`], of everything that was written until now.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub(crate) async fn settle_all(&self) -> FopResult<()> {
        let last = self.last.load(Ordering::Acquire);
        self.settle((last > 0).then_some(last)).await
    }

    /// Whether a snapshot is wanted.
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Puts a client on the durable record of those with locks. Blocks for the disk.
    ///
    /// # Errors
    /// `ENOLCK`: it must hold none.
    pub(crate) fn holds(&self, client: ClientId, detach_timeout_ms: u32) -> FopResult<()> {
        let set = self.set_holder(client, |_| Holder { detach_timeout_ms, robbed: false });
        set.map_err(|error| {
            FopError::new(Errno::ENOLCK).doing("writing down that a client holds locks").with("reason", error)
        })
    }

    /// Notes, before a lock is taken from a client, that its claims are not to be believed until it has heard of that.
    /// Blocks for the disk, once until [`Ledger::forgive`].
    ///
    /// # Errors
    /// For people: nothing may be taken from it.
    pub(crate) fn rob(&self, client: ClientId) -> Result<(), String> {
        self.set_holder(client, |holder| Holder { robbed: true, ..holder.unwrap_or(NOBODY) })
    }

    /// Notes that a client has heard what was taken from it.
    pub(crate) fn forgive(&self, client: ClientId) {
        let Some(holders) = &self.holders else { return };
        let robbed = holders.lock().clients.get(&client).is_some_and(|holder| holder.robbed);
        let forgiven = |holder: Option<Holder>| Holder { robbed: false, ..holder.unwrap_or(NOBODY) };
        if robbed && let Err(error) = self.set_holder(client, forgiven) {
            warn!(%client, error, "a client that lost locks and knows it stays on the record of those who do not");
        }
    }

    fn set_holder(&self, client: ClientId, as_of: impl FnOnce(Option<Holder>) -> Holder) -> Result<(), String> {
        let Some(holders) = &self.holders else { return Ok(()) };
        let mut holders = holders.lock();
        let holder = as_of(holders.clients.get(&client).copied());
        holders.set(client, holder)
    }

    /// Takes a client off the record; it may come off later when the disk refuses.
    pub(crate) fn holds_nothing(&self, client: ClientId) {
        if let Some(holders) = &self.holders {
            holders.lock().remove(client);
        }
    }

    /// Ends the journal in good order; nothing is written after that.
    pub(crate) fn close(&self) {
        // Also when somebody still has this brick: the next one opens the same folder.
        if let Some(Err(error)) =
            self.holders.as_ref().and_then(|holders| holders.lock().journal.take()).map(Journal::close)
        {
            warn!(%error, "the record of clients with locks was not closed in good order");
        }
        let Some(journal) = self.journal.write().take() else { return };
        match Arc::into_inner(journal).map(Journal::close) {
            Some(Ok(())) => {}
            Some(Err(error)) => warn!(%error, "the journal of the locks was not closed in good order"),
            None => warn!("a lock call still waits for the journal; it is not closed in good order"),
        }
    }

    /// Asks for a snapshot, and with it for a look at which owners are in use.
    pub(crate) fn want(&self) {
        self.due.store(true, Ordering::Relaxed);
        self.wants.notify_one();
    }

    fn unwritten(&self, reason: &dyn std::fmt::Display) -> FopError {
        self.want();
        // Every call would say it again.
        if !self.broken.swap(true, Ordering::Relaxed) {
            error!(%reason, "the journal of the locks cannot be written");
        }
        FopError::new(Errno::EIO).doing("writing the journal of the locks").with("reason", reason)
    }
}

impl Held<'_> {
    /// Writes a change that was made, and says where it stands. When that cannot be, the change is true all the same: the
    /// log says it, and no others are made until a snapshot has mended it.
    pub(crate) fn append(&self, record: &Record) -> Option<u64> {
        let journal = self.journal.as_ref()?;
        let appended = journal.append(&encode(record)).map_err(|error| self.ledger.unwritten(&error)).ok()?;
        if appended.wants_snapshot {
            self.ledger.want();
        }
        self.ledger.last.fetch_max(appended.sequence, Ordering::AcqRel);
        Some(appended.sequence)
    }
}

impl Still<'_> {
    /// Begins the journal anew with `records`. Blocks.
    ///
    /// # Errors
    /// For people; the journal is as before, and a snapshot stays due.
    pub(crate) fn rotate(&self, records: impl FnOnce(&mut dyn FnMut(&Record))) -> Result<(), String> {
        let Some(journal) = &*self.journal else {
            self.ledger.due.store(false, Ordering::Relaxed);
            return Ok(());
        };
        let rotated = journal.rotate(|snapshot| {
            let mut failed = Ok(());
            records(&mut |record| {
                if failed.is_ok() {
                    failed = snapshot.write(&encode(record));
                }
            });
            failed
        });
        rotated.map_err(|error| error.to_string())?;
        self.ledger.due.store(false, Ordering::Relaxed);
        if self.ledger.broken.swap(false, Ordering::Relaxed) {
            info!("the journal of the locks can be written again");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("kind", &self.kind).finish_non_exhaustive()
    }
}

type Read = (Option<Journal>, Vec<Record>, Option<Reason>);

fn open(folder: &Path, mode: Mode) -> Result<Read, String> {
    let opened = Journal::open(folder, mode, Limits::default()).map_err(|error| error.to_string())?;
    let place = folder.display();
    let lost = if let Some(damage) = &opened.damage {
        error!(folder = %place, %damage, "the journal of the locks is damaged; clients have to claim their locks");
        Some(Reason::JournalDamaged)
    } else {
        match opened.found {
            Found::Closed | Found::Killed => None,
            Found::New => Some(Reason::JournalMissing),
            Found::Doubtful => {
                info!(folder = %place, "the machine stopped under `lock-journal process`; clients have to claim their locks");
                Some(Reason::JournalDamaged)
            }
        }
    };
    let mut records = Vec::new();
    if lost.is_none() {
        for record in opened.records.iter() {
            records.push(decode(record).map_err(|error| format!("{place}: {error}"))?);
        }
    }
    Ok((Some(opened.journal), records, lost))
}

/// Removes a journal that nobody writes any more: its locks must not come back with a later start.
fn forget(folder: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("the former journal in {} cannot be removed: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

impl Holders {
    fn open(folder: &Path) -> Result<Holders, String> {
        let opened = Journal::open(folder, Mode::Disk, Limits::default()).map_err(|error| error.to_string())?;
        if let Some(damage) = &opened.damage {
            error!(folder = %folder.display(), %damage, "the record of clients with locks is damaged; those after the damage are missed");
        }
        let mut clients = BTreeMap::new();
        for record in opened.records.iter() {
            match decode(record).map_err(|error| format!("{}: {error}", folder.display()))? {
                HolderRecord::Holds(client, holder) => clients.insert(client, holder),
                HolderRecord::Gone(client) => clients.remove(&client),
            };
        }
        let holders = Holders { journal: Some(opened.journal), clients };
        holders.rotate()?;
        Ok(holders)
    }

    fn set(&mut self, client: ClientId, holder: Holder) -> Result<(), String> {
        if self.clients.get(&client) == Some(&holder) {
            return Ok(());
        }
        self.write(&HolderRecord::Holds(client, holder))?;
        self.clients.insert(client, holder);
        Ok(())
    }

    fn remove(&mut self, client: ClientId) {
        if self.clients.remove(&client).is_some()
            && let Err(error) = self.write(&HolderRecord::Gone(client))
        {
            warn!(%client, error, "a client without locks stays on the record of those with locks");
        }
    }

    fn write(&self, record: &HolderRecord) -> Result<(), String> {
        let journal = self.journal.as_ref().ok_or("it is closed")?;
        let appended = journal.append(&encode(record)).map_err(|error| error.to_string())?;
        journal.wait_durable(appended.sequence).map_err(|error| error.to_string())?;
        if appended.wants_snapshot { self.rotate() } else { Ok(()) }
    }

    fn rotate(&self) -> Result<(), String> {
        let write = |snapshot: &mut brickwork_journal::Snapshot<'_, '_>| {
            let mut holders = self.clients.iter();
            holders.try_for_each(|(client, holder)| snapshot.write(&encode(&HolderRecord::Holds(*client, *holder))))
        };
        let journal = self.journal.as_ref().ok_or("it is closed")?;
        journal.rotate(write).map_err(|error| error.to_string())
    }
}

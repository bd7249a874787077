//! Where sessions write what must outlive the process.
//!
//! Always true: a record stands in the journal before what it tells of is answered, and a snapshot contains every change
//! whose record stands before it. For that, whoever writes a record and makes true what it says *holds* the ledger
//! meanwhile, and a snapshot waits until nobody does.
//!
//! When the journal cannot be written, fops with effect are refused until a new snapshot has mended it: what is in memory
//! is right.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::{Errno, FopError, FopResult};
use brickwork_journal::{Found, Journal, Limits, Mode, RotateError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tracing::{error, info, warn};

use super::record::{Record, RequestKey, State, Undecided};
use crate::options::ExactlyOnce;

/// The journal of one subvolume, and what of it is undecided.
pub struct Ledger {
    eos: ExactlyOnce,
    /// None: nothing is written, or it was closed.
    journal: RwLock<Option<Arc<Journal>>>,
    pending: Mutex<Pending>,
    /// Something could not be written: only a snapshot puts that right.
    broken: AtomicBool,
    /// A snapshot is due.
    due: AtomicBool,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    undecided: BTreeMap<u64, Undecided>,
}

/// An intent that is written and not yet answered.
#[derive(Clone, Copy, Debug)]
pub struct PendingPlace(u64);

/// Keeps snapshots away.
pub struct Held<'l> {
    ledger: &'l Ledger,
    journal: RwLockReadGuard<'l, Option<Arc<Journal>>>,
}

/// The place of a record, to wait for; `None` where nothing is to be waited for.
pub type Place = Option<u64>;

impl Ledger {
    /// Writes nothing: `eos memory`.
    #[must_use]
    pub fn memory() -> Ledger {
        Ledger::new(ExactlyOnce::Memory, None)
    }

    /// Opens the journal in `folder` and says what it remembers. A journal that may be incomplete tells only how often
    /// the brick has started: it is better that clients learn that they were forgotten than that they get wrong answers.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn open(eos: ExactlyOnce, folder: &Path, limits: Limits) -> Result<(Ledger, State), String> {
        let mode = if eos == ExactlyOnce::Disk { Mode::Disk } else { Mode::Process };
        let opened = Journal::open(folder, mode, limits).map_err(|error| error.to_string())?;
        let mut state = State::default();
        for record in opened.records.iter() {
            state.apply(Record::decode(record).map_err(|error| format!("{}: {error}", folder.display()))?);
        }
        let folder = folder.display();
        if let Some(damage) = &opened.damage {
            error!(%folder, %damage, "the journal of the sessions is damaged; all sessions are forgotten");
            state.lose();
        } else if opened.found == Found::Doubtful {
            info!(%folder, "the machine stopped under `eos process`; all sessions are forgotten");
            state.lose();
        }
        Ok((Ledger::new(eos, Some(opened.journal)), state))
    }

    fn new(eos: ExactlyOnce, journal: Option<Journal>) -> Ledger {
        let (broken, due) = (AtomicBool::new(false), AtomicBool::new(false));
        Ledger { eos, journal: RwLock::new(journal.map(Arc::new)), pending: Mutex::default(), broken, due }
    }

    /// Whether anything is written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.eos != ExactlyOnce::Memory
    }

    /// Refuses while the journal cannot be written.
    ///
    /// # Errors
    /// `EIO`.
    pub fn check(&self) -> FopResult<()> {
        match self.broken.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(FopError::new(Errno::EIO).doing("doing what the journal of the sessions cannot take in")),
        }
    }

    /// Keeps snapshots away until the guard is dropped, which is not kept across an await.
    pub fn hold(&self) -> Held<'_> {
        Held { ledger: self, journal: self.journal.read() }
    }

    /// Writes `record` and makes it true with `act`, also when it could not be written.
    ///
    /// # Errors
    /// `EIO` when it was not written.
    pub fn write(&self, record: &Record, act: impl FnOnce()) -> FopResult<Place> {
        let held = self.hold();
        let place = held.append(record);
        act();
        place
    }

    /// Writes an intent, and waits until it survives what `eos` says.
    ///
    /// # Errors
    /// `EIO` when it does not; the fop must not begin.
    pub async fn intend(&self, undecided: Undecided) -> FopResult<PendingPlace> {
        let record = Record::Intent { key: undecided.key, kind: undecided.kind, intent: undecided.intent.clone() };
        let (pending, place) = {
            let held = self.hold();
            let place = held.append(&record)?;
            (self.restore(undecided), place)
        };
        match self.settle(place).await {
            Ok(()) => Ok(pending),
            Err(error) => {
                self.decided(pending);
                Err(error)
            }
        }
    }

    /// Notes an intent that stands in the journal already.
    pub fn restore(&self, undecided: Undecided) -> PendingPlace {
        let mut pending = self.pending.lock();
        let place = pending.next;
        pending.next += 1;
        pending.undecided.insert(place, undecided);
        PendingPlace(place)
    }

    /// Takes an intent off the undecided ones; its answer is written by the one who holds the ledger.
    pub fn decided(&self, pending: PendingPlace) {
        self.pending.lock().undecided.remove(&pending.0);
    }

    /// Writes that an intent came to nothing.
    ///
    /// # Errors
    /// `EIO` when it was not written.
    pub fn forget(&self, key: RequestKey, pending: PendingPlace) -> FopResult<Place> {
        self.write(&Record::Forgotten { key }, || self.decided(pending))
    }

    /// Intents without an answer.
    #[must_use]
    pub fn undecided(&self) -> usize {
        self.pending.lock().undecided.len()
    }

    /// Waits until the record at `place` survives what `eos` says.
    ///
    /// # Errors
    /// `EIO` when the disk refused.
    pub async fn settle(&self, place: Place) -> FopResult<()> {
        let (Some(place), ExactlyOnce::Disk) = (place, self.eos) else { return Ok(()) };
        let journal = self.journal.read().clone();
        let Some(journal) = journal else { return Err(self.unwritten(&"it is closed")) };
        journal.durable(place).await.map_err(|error| self.unwritten(&error))
    }

    /// As [`Ledger::settle`], for a thread that may wait.
    ///
    /// # Errors
    /// As there.
    pub fn settle_here(&self, place: Place) -> FopResult<()> {
        let (Some(place), Some(journal)) = (place, &*self.journal.read()) else { return Ok(()) };
        journal.wait_durable(place).map_err(|error| self.unwritten(&error))
    }

    /// Whether a snapshot is wanted.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Begins the journal anew with what `snapshot` returns and the undecided intents. Blocks.
    ///
    /// # Errors
    /// [`RotateError`]; the journal is as before, and a snapshot stays due.
    pub fn rotate(&self, snapshot: impl FnOnce() -> Vec<Record>) -> Result<(), RotateError> {
        let journal = self.journal.write();
        let Some(journal) = &*journal else { return Ok(()) };
        let mut records = snapshot();
        let undecided = self.pending.lock().undecided.values().cloned().collect::<Vec<_>>();
        records.extend(undecided.into_iter().map(|Undecided { key, kind, intent }| Record::Intent {
            key,
            kind,
            intent,
        }));
        journal.rotate(|snapshot| records.iter().try_for_each(|record| snapshot.write(&record.encode())))?;
        self.due.store(false, Ordering::Relaxed);
        if self.broken.swap(false, Ordering::Relaxed) {
            info!("the journal of the sessions can be written again");
        }
        Ok(())
    }

    /// Ends the journal in good order; nothing is written after that.
    pub fn close(&self) {
        let Some(journal) = self.journal.write().take() else { return };
        match Arc::into_inner(journal).map(Journal::close) {
            Some(Ok(())) => {}
            Some(Err(error)) => warn!(%error, "the journal of the sessions was not closed in good order"),
            None => warn!("a fop still waits for the journal of the sessions; it is not closed in good order"),
        }
    }

    fn unwritten(&self, reason: &dyn std::fmt::Display) -> FopError {
        self.due.store(true, Ordering::Relaxed);
        // Every fop would say it again.
        if !self.broken.swap(true, Ordering::Relaxed) {
            error!(%reason, "the journal of the sessions cannot be written");
        }
        FopError::new(Errno::EIO).doing("writing the journal of the sessions").with("reason", reason)
    }
}

impl Held<'_> {
    /// Writes `record`.
    ///
    /// # Errors
    /// `EIO`; nothing was written.
    pub fn append(&self, record: &Record) -> FopResult<Place> {
        let Some(journal) = &*self.journal else {
            return if self.ledger.is_written() { Err(self.ledger.unwritten(&"it is closed")) } else { Ok(None) };
        };
        let appended = journal.append(&record.encode()).map_err(|error| self.ledger.unwritten(&error))?;
        if appended.wants_snapshot {
            self.ledger.due.store(true, Ordering::Relaxed);
        }
        Ok(Some(appended.sequence))
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("eos", &self.eos).finish_non_exhaustive()
    }
}

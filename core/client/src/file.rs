//! One open file of a volume.

use std::sync::Arc;

use brickwork_api::locks::{COMMAND, LOCK_LOST, RECLAIM_LOCK};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    Bytes, Cancel, Errno, FlushReq, FopError, FopResult, FopType, LkCommand, LkKind, LkOwner, LkRange, LkReply, LkReq,
    LkType, OpenFile, ReadReq, ReleaseReq, WriteReq, Xdata, fop,
};

use crate::slots::lane;
use crate::volume::{Opened, Shared};

/// A file open through a [`Volume`](crate::Volume).
///
/// Dropped without [`File::close`], it is closed beside.
pub struct File {
    shared: Arc<Shared>,
    opened: Arc<Opened>,
    /// For whom it reads and writes.
    owner: LkOwner,
    closed: bool,
}

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The family.
    pub kind: LkKind,
    /// The bytes; those of a `flock` are [`ByteRange::ALL`].
    pub range: ByteRange,
    /// Others may share it.
    pub shared: bool,
}

impl Lock {
    /// An exclusive lock of the POSIX family on `range`.
    #[must_use]
    pub const fn exclusive(range: ByteRange) -> Lock {
        Lock { kind: LkKind::Posix, range, shared: false }
    }

    /// A shared lock of the POSIX family on `range`.
    #[must_use]
    pub const fn shared(range: ByteRange) -> Lock {
        Lock { kind: LkKind::Posix, range, shared: true }
    }

    fn asked(self) -> LkRange {
        ranged(if self.shared { LkType::Read } else { LkType::Write }, self.range)
    }
}

/// How a lock is taken.
#[derive(Clone, Debug)]
pub enum How {
    /// At once, or `EAGAIN`.
    Try,
    /// When it is free; `EINTR` when the cancel is set before.
    Wait(Cancel),
    /// Over from the client that holds it, or, in a grace, back: the very record with this owner, range and strength. Never
    /// an ordinary grant: `ENOLCK` with [`RECLAIM_REFUSED`](brickwork_api::locks::RECLAIM_REFUSED).
    Reclaim,
}

impl File {
    pub(crate) fn new(shared: Arc<Shared>, opened: Arc<Opened>) -> File {
        File { shared, opened, owner: LkOwner::default(), closed: false }
    }

    /// The object and the open.
    #[must_use]
    pub fn id(&self) -> OpenFile {
        self.opened.file
    }

    /// The same file, reading and writing for `owner`: mandatory locks of others are in its way, its own are not.
    #[must_use]
    pub fn acting_for(mut self, owner: LkOwner) -> File {
        self.owner = owner;
        self
    }

    /// Why a lock that was taken through this file is gone, as soon as the graph has said so, by an event or an answer.
    ///
    /// The file is then good for nothing but its close: `EIO` with [`LOCK_LOST`](brickwork_api::locks::LOCK_LOST).
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.opened.lost.get().map(String::as_str)
    }

    /// Does one fop through the file.
    async fn ask<F: FopType>(&self, owner: &LkOwner, request: &F::Request) -> FopResult<F::Reply> {
        self.heed(self.shared.ask::<F>(owner, request).await)
    }

    /// The answer, which may say that a lock is gone.
    fn heed<T>(&self, answer: FopResult<T>) -> FopResult<T> {
        if let Err(error) = &answer
            && error.errno() == Errno::EIO
            && let Ok(Some(why)) = error.xdata().get(&LOCK_LOST)
        {
            // Lost once is lost.
            let _ = self.opened.lost.set(why);
        }
        answer
    }

    /// Reads up to `size` bytes at `offset`; fewer mean the end of the file.
    ///
    /// # Errors
    /// What the graph answers; `EIO` with `LOCK_LOST` for a file whose lock is gone.
    pub async fn read_at(&self, offset: u64, size: u32) -> FopResult<Bytes> {
        let request = ReadReq { file: self.id(), offset, size, xdata: Xdata::EMPTY };
        Ok(self.ask::<fop::Read>(&self.owner, &request).await?.data)
    }

    /// Writes `data` at `offset` and returns how many bytes of it were written, from the first on.
    ///
    /// # Errors
    /// As [`File::read_at`].
    pub async fn write_at(&self, offset: u64, data: Bytes) -> FopResult<u32> {
        let request =
            WriteReq { file: self.id(), offset, data, append: false, kill_set_id: false, xdata: Xdata::EMPTY };
        Ok(self.ask::<fop::Write>(&self.owner, &request).await?.written)
    }

    /// Takes `lock` for `owner`.
    ///
    /// # Errors
    /// `EAGAIN`, `EINTR`, `ENOLCK` by [`How`]; `EDEADLK` when its wait would never end; `ENOLCK` beyond a limit; `EIO` with
    /// `LOCK_LOST` for a file whose lock is gone.
    ///
    /// # Cancel
    /// [`How::Wait`]: answers `EINTR`; nothing was taken.
    pub async fn lock(&self, owner: &LkOwner, lock: Lock, how: How) -> FopResult<()> {
        let mut xdata = Xdata::EMPTY.with(&COMMAND, self.shared.command.clone());
        let (command, cancel) = match how {
            How::Try => (LkCommand::Set, None),
            How::Wait(cancel) => (LkCommand::SetWait, Some(cancel)),
            How::Reclaim => {
                xdata.insert(&RECLAIM_LOCK, true);
                (LkCommand::Set, None)
            }
        };
        let request = LkReq { file: self.id(), command, kind: lock.kind, range: lock.asked(), xdata };
        match cancel {
            Some(cancel) => self.wait_for(owner, &request, cancel).await,
            None => self.ask::<fop::Lk>(owner, &request).await,
        }?;
        Ok(())
    }

    async fn wait_for(&self, owner: &LkOwner, request: &LkReq, cancel: Cancel) -> FopResult<LkReply> {
        let client = &self.shared.client;
        let Some(slot) = client.waits().try_take(lane()) else {
            return Err(FopError::new(Errno::ENOLCK).doing("waiting for a lock, as too many do"));
        };
        let cx = self.shared.cx(&slot, owner, cancel);
        let _noted = (request.kind == LkKind::Posix).then(|| client.waits_for(owner, request.file.gfid, cx.request));
        self.heed(self.shared.root().lk(&cx, request).await)
    }

    /// Releases what `owner` holds of `range`; nothing held is no error.
    ///
    /// # Errors
    /// `ENOLCK` when it splits a lock and a limit is reached; `EIO` with `LOCK_LOST` for a file whose lock is gone.
    pub async fn unlock(&self, owner: &LkOwner, kind: LkKind, range: ByteRange) -> FopResult<()> {
        let range = ranged(LkType::Unlock, range);
        let request = LkReq { file: self.id(), command: LkCommand::Set, kind, range, xdata: Xdata::EMPTY };
        self.ask::<fop::Lk>(owner, &request).await.map(drop)
    }

    /// The first lock in the way of `lock` for `owner`, with its holder's process, if there is one.
    ///
    /// # Errors
    /// What the graph answers.
    pub async fn test(&self, owner: &LkOwner, lock: Lock) -> FopResult<Option<LkRange>> {
        let command = LkCommand::Get;
        let request = LkReq { file: self.id(), command, kind: lock.kind, range: lock.asked(), xdata: Xdata::EMPTY };
        let found = self.ask::<fop::Lk>(owner, &request).await?.range;
        Ok((found.kind != LkType::Unlock).then_some(found))
    }

    /// Releases the locks of the POSIX family that `owner` holds on the file, as a `close` of a descriptor does.
    ///
    /// # Errors
    /// What the graph answers.
    pub async fn flush(&self, owner: &LkOwner) -> FopResult<()> {
        let request = FlushReq { file: self.id(), xdata: Xdata::EMPTY };
        self.ask::<fop::Flush>(owner, &request).await.map(drop)
    }

    /// Closes the file: every lock taken through it goes.
    ///
    /// # Errors
    /// What the graph answers; the file is closed all the same.
    pub async fn close(mut self) -> FopResult<()> {
        self.closed = true;
        release(&self.shared, self.id()).await
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let (shared, file) = (self.shared.clone(), self.id());
        self.shared.host.spawn(Box::pin(async move {
            if let Err(error) = release(&shared, file).await {
                tracing::warn!(%error, gfid = %file.gfid, "an open could not be released");
            }
        }));
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("file", &self.opened.file).field("lost", &self.lost()).finish_non_exhaustive()
    }
}

async fn release(shared: &Shared, file: OpenFile) -> FopResult<()> {
    let request = ReleaseReq { file, xdata: Xdata::EMPTY };
    let released = shared.ask::<fop::Release>(&LkOwner::default(), &request).await;
    shared.closed(file.open);
    released.map(drop)
}

fn ranged(kind: LkType, range: ByteRange) -> LkRange {
    LkRange { kind, start: range.start(), end: range.end(), pid: std::process::id() }
}

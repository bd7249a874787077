//! Short blocking calls on a stack, for tests that read like a shell session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use brickwork_api::*;
use parking_lot::Mutex;

use crate::executor::block_on;
use crate::host::cx;

/// A client of a stack: chooses gfids and open ids, waits for every reply, and gives errors as their number.
///
/// Its requests are numbered as a mount's are: each takes a slot that no other has at the moment, and the sequence of a
/// slot grows by one with each. So two clients of one stack must not have one [`ClientId`].
#[derive(Debug)]
pub struct Client {
    /// The top of the stack.
    pub xlator: Arc<dyn Xlator>,
    /// For whom everything is done; slot and sequence in it are not looked at.
    pub cx: Cx,
    next_open: AtomicU64,
    slots: Slots,
}

/// As many slots as there were requests at once.
#[derive(Debug, Default)]
struct Slots {
    free: Mutex<Vec<(u32, u64)>>,
    count: AtomicU32,
}

/// A slot that a request occupies; free again when dropped.
struct Slot<'a> {
    slots: &'a Slots,
    number: u32,
    sequence: u64,
}

impl Slots {
    fn take(&self) -> Slot<'_> {
        // The one that was given back last: whoever asks for one thing at a time stays in slot 0.
        let free = self.free.lock().pop();
        let (number, sequence) = free.unwrap_or_else(|| (self.count.fetch_add(1, Ordering::Relaxed), 0));
        Slot { slots: self, number, sequence: sequence + 1 }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.free.lock().push((self.number, self.sequence));
    }
}

/// What the short calls answer.
pub type Answer<T> = Result<T, Errno>;

/// `text` as a name.
///
/// # Panics
/// When it cannot stand in a directory.
#[must_use]
pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name that can stand in a directory")
}

/// `text` in `parent`.
#[must_use]
pub fn entry(parent: Gfid, text: &str) -> Entry {
    Entry { parent, name: name(text) }
}

/// `text` as the name of an xattr.
///
/// # Panics
/// When it cannot be one.
#[must_use]
pub fn xattr(text: &str) -> XattrName {
    XattrName::new(text.as_bytes()).expect("a name of an xattr")
}

impl Client {
    /// A fresh client that acts as root.
    #[must_use]
    pub fn new(xlator: Arc<dyn Xlator>) -> Client {
        Client { xlator, cx: cx(), next_open: AtomicU64::new(1), slots: Slots::default() }
    }

    /// A fresh client that acts for `credentials`.
    #[must_use]
    pub fn acting_as(xlator: Arc<dyn Xlator>, credentials: Credentials) -> Client {
        Client { cx: Cx { credentials, ..cx() }, ..Client::new(xlator) }
    }

    /// Does one fop.
    ///
    /// # Errors
    /// Those of the fop.
    pub fn call<F: FopType>(&self, request: &F::Request) -> Answer<F::Reply> {
        let slot = self.slots.take();
        let name = RequestId { client: self.cx.client(), slot: slot.number, sequence: slot.sequence };
        let cx = Cx { request: name, ..self.cx.clone() };
        block_on(F::call(&*self.xlator, &cx, request)).map_err(|error| error.errno())
    }

    /// An id for an open that this client has not used.
    pub fn fresh_open(&self) -> OpenId {
        OpenId(self.next_open.fetch_add(1, Ordering::Relaxed))
    }

    /// The object under a name.
    ///
    /// # Errors
    /// Those of `lookup`.
    pub fn lookup(&self, parent: Gfid, text: &str) -> Answer<Attr> {
        let target = Locate::Entry(entry(parent, text));
        self.call::<fop::Lookup>(&LookupReq { target, xdata: Xdata::EMPTY }).map(|reply| reply.attr)
    }

    /// Attributes, of a gfid or an open file.
    ///
    /// # Errors
    /// Those of `stat`.
    pub fn stat(&self, target: impl Into<Target>) -> Answer<Attr> {
        self.call::<fop::Stat>(&StatReq { target: target.into(), xdata: Xdata::EMPTY }).map(|reply| reply.attr)
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// Those of `setattr`.
    pub fn setattr(&self, target: impl Into<Target>, change: AttrChange) -> Answer<Attr> {
        let request = SetattrReq { target: target.into(), change, xdata: Xdata::EMPTY };
        self.call::<fop::Setattr>(&request).map(|reply| reply.attr)
    }

    /// Creates a directory of mode 0755.
    ///
    /// # Errors
    /// Those of `mkdir`.
    pub fn mkdir(&self, parent: Gfid, text: &str) -> Answer<Gfid> {
        let gfid = Gfid::random();
        let request = MkdirReq { entry: entry(parent, text), gfid, mode: 0o755, umask: 0, xdata: Xdata::EMPTY };
        self.call::<fop::Mkdir>(&request).map(|reply| reply.attr.gfid)
    }

    /// Creates a file of mode 0644, open for reading and writing.
    ///
    /// # Errors
    /// Those of `create`.
    pub fn create(&self, parent: Gfid, text: &str) -> Answer<OpenFile> {
        let (gfid, open) = (Gfid::random(), self.fresh_open());
        let flags = libc::O_RDWR as u32;
        let entry = entry(parent, text);
        let request = CreateReq { entry, gfid, open, flags, mode: 0o644, umask: 0, xdata: Xdata::EMPTY };
        self.call::<fop::Create>(&request).map(|reply| OpenFile { gfid: reply.attr.gfid, open })
    }

    /// Opens a file with `O_*` flags.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(&self, gfid: Gfid, flags: i32) -> Answer<OpenFile> {
        let file = OpenFile { gfid, open: self.fresh_open() };
        let request = OpenReq { file, flags: flags as u32, kill_set_id: false, xdata: Xdata::EMPTY };
        self.call::<fop::Open>(&request).map(|_| file)
    }

    /// Ends an open.
    ///
    /// # Errors
    /// Those of `release`.
    pub fn release(&self, file: OpenFile) -> Answer<()> {
        self.call::<fop::Release>(&ReleaseReq { file, xdata: Xdata::EMPTY }).map(drop)
    }

    /// Writes at an offset.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn write(&self, file: OpenFile, offset: u64, data: &[u8]) -> Answer<u32> {
        let data = Bytes::copy_from_slice(data);
        let request = WriteReq { file, offset, data, append: false, kill_set_id: false, xdata: Xdata::EMPTY };
        self.call::<fop::Write>(&request).map(|reply| reply.written)
    }

    /// Writes at the end, with an offset that must not matter.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn append(&self, file: OpenFile, offset: u64, data: &[u8]) -> Answer<u32> {
        let data = Bytes::copy_from_slice(data);
        let request = WriteReq { file, offset, data, append: true, kill_set_id: false, xdata: Xdata::EMPTY };
        self.call::<fop::Write>(&request).map(|reply| reply.written)
    }

    /// Reads from an offset.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read(&self, file: OpenFile, offset: u64, size: u32) -> Answer<Bytes> {
        self.call::<fop::Read>(&ReadReq { file, offset, size, xdata: Xdata::EMPTY }).map(|reply| reply.data)
    }

    /// Creates a file with `content` and closes it.
    ///
    /// # Errors
    /// Those of `create` and `write`; `EIO` when not all was written at once.
    pub fn put(&self, parent: Gfid, text: &str, content: &[u8]) -> Answer<Gfid> {
        let file = self.create(parent, text)?;
        let written = if content.is_empty() { 0 } else { self.write(file, 0, content)? };
        self.release(file)?;
        if written as usize == content.len() { Ok(file.gfid) } else { Err(Errno::EIO) }
    }

    /// The first MiB of a file.
    ///
    /// # Errors
    /// Those of `open` and `read`.
    pub fn content(&self, gfid: Gfid) -> Answer<Bytes> {
        let file = self.open(gfid, libc::O_RDONLY)?;
        let content = self.read(file, 0, 1 << 20);
        self.release(file)?;
        content
    }

    /// Sets the length.
    ///
    /// # Errors
    /// Those of `truncate`.
    pub fn truncate(&self, target: impl Into<Target>, size: u64) -> Answer<Attr> {
        let request = TruncateReq { target: target.into(), size, kill_set_id: false, xdata: Xdata::EMPTY };
        self.call::<fop::Truncate>(&request).map(|reply| reply.attr)
    }

    /// Sets space aside and the like.
    ///
    /// # Errors
    /// Those of `fallocate`.
    pub fn fallocate(&self, file: OpenFile, mode: FallocateMode, offset: u64, length: u64) -> Answer<()> {
        self.call::<fop::Fallocate>(&FallocateReq { file, mode, offset, length, xdata: Xdata::EMPTY }).map(drop)
    }

    /// The next data or hole.
    ///
    /// # Errors
    /// Those of `seek`.
    pub fn seek(&self, file: OpenFile, offset: u64, what: SeekWhat) -> Answer<u64> {
        self.call::<fop::Seek>(&SeekReq { file, offset, what, xdata: Xdata::EMPTY }).map(|reply| reply.offset)
    }

    /// Takes a name from a file.
    ///
    /// # Errors
    /// Those of `unlink`.
    pub fn unlink(&self, parent: Gfid, text: &str) -> Answer<Unnamed> {
        let request = UnlinkReq { entry: entry(parent, text), xdata: Xdata::EMPTY };
        self.call::<fop::Unlink>(&request).map(|reply| reply.removed)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of `rmdir`.
    pub fn rmdir(&self, parent: Gfid, text: &str) -> Answer<Unnamed> {
        let request = RmdirReq { entry: entry(parent, text), xdata: Xdata::EMPTY };
        self.call::<fop::Rmdir>(&request).map(|reply| reply.removed)
    }

    /// Renames.
    ///
    /// # Errors
    /// Those of `rename`.
    pub fn rename(&self, from: (Gfid, &str), to: (Gfid, &str), mode: RenameMode) -> Answer<RenameReply> {
        let (from, to) = (entry(from.0, from.1), entry(to.0, to.1));
        self.call::<fop::Rename>(&RenameReq { from, to, mode, xdata: Xdata::EMPTY })
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// Those of `link`.
    pub fn link(&self, gfid: Gfid, parent: Gfid, text: &str) -> Answer<Attr> {
        let request = LinkReq { gfid, entry: entry(parent, text), xdata: Xdata::EMPTY };
        self.call::<fop::Link>(&request).map(|reply| reply.attr)
    }

    /// Creates a symbolic link.
    ///
    /// # Errors
    /// Those of `symlink`.
    pub fn symlink(&self, parent: Gfid, text: &str, target: &[u8]) -> Answer<Attr> {
        let (entry, gfid) = (entry(parent, text), Gfid::random());
        let request = SymlinkReq { entry, gfid, target: Bytes::copy_from_slice(target), xdata: Xdata::EMPTY };
        self.call::<fop::Symlink>(&request).map(|reply| reply.attr)
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    /// Those of `readlink`.
    pub fn readlink(&self, gfid: Gfid) -> Answer<Bytes> {
        self.call::<fop::Readlink>(&ReadlinkReq { gfid, xdata: Xdata::EMPTY }).map(|reply| reply.target)
    }

    /// Creates a pipe, socket or device of `mode`.
    ///
    /// # Errors
    /// Those of `mknod`.
    pub fn mknod(&self, parent: Gfid, text: &str, mode: u32) -> Answer<Attr> {
        let (entry, gfid) = (entry(parent, text), Gfid::random());
        let request = MknodReq { entry, gfid, mode, umask: 0, rdev: 0, xdata: Xdata::EMPTY };
        self.call::<fop::Mknod>(&request).map(|reply| reply.attr)
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// Those of `opendir`.
    pub fn opendir(&self, gfid: Gfid) -> Answer<OpenFile> {
        let file = OpenFile { gfid, open: self.fresh_open() };
        self.call::<fop::Opendir>(&OpendirReq { file, xdata: Xdata::EMPTY }).map(|_| file)
    }

    /// Ends an open of a directory.
    ///
    /// # Errors
    /// Those of `releasedir`.
    pub fn releasedir(&self, file: OpenFile) -> Answer<()> {
        self.call::<fop::Releasedir>(&ReleasedirReq { file, xdata: Xdata::EMPTY }).map(drop)
    }

    /// Some entries from an offset on.
    ///
    /// # Errors
    /// Those of `readdir`.
    pub fn readdir(&self, file: OpenFile, offset: u64, size: u32) -> Answer<Vec<DirEntry>> {
        let request = ReaddirReq { file, offset, size, xdata: Xdata::EMPTY };
        self.call::<fop::Readdir>(&request).map(|reply| reply.entries)
    }

    /// Some entries with attributes from an offset on.
    ///
    /// # Errors
    /// Those of `readdirplus`.
    pub fn readdirplus(&self, file: OpenFile, offset: u64, size: u32) -> Answer<Vec<DirEntry>> {
        let request = ReaddirplusReq { file, offset, size, xdata: Xdata::EMPTY };
        self.call::<fop::Readdirplus>(&request).map(|reply| reply.entries)
    }

    /// All entries from an offset on, in steps of about `size` bytes, as they come.
    ///
    /// # Errors
    /// Those of `readdir`.
    ///
    /// # Panics
    /// When a listing does not get on, or goes on past a million entries.
    pub fn list(&self, file: OpenFile, mut offset: u64, size: u32) -> Answer<Vec<DirEntry>> {
        let mut all = Vec::new();
        loop {
            let entries = self.readdir(file, offset, size)?;
            let Some(last) = entries.last() else { return Ok(all) };
            assert_ne!(last.next, offset, "the listing after offset {offset} ends at the same offset");
            offset = last.next;
            all.extend(entries);
            assert!(all.len() <= 1_000_000, "the listing has no end");
        }
    }

    /// All names in a directory, sorted.
    ///
    /// # Errors
    /// Those of `opendir` and `readdir`.
    pub fn names(&self, gfid: Gfid) -> Answer<Vec<String>> {
        let file = self.opendir(gfid)?;
        let entries = self.list(file, 0, 4096);
        self.releasedir(file)?;
        let mut names: Vec<String> = entries?.iter().map(|entry| entry.name.to_string()).collect();
        names.sort();
        Ok(names)
    }

    /// Reads an xattr.
    ///
    /// # Errors
    /// Those of `getxattr`.
    pub fn getxattr(&self, target: impl Into<Target>, text: &str) -> Answer<Bytes> {
        let request = GetxattrReq { target: target.into(), name: xattr(text), xdata: Xdata::EMPTY };
        self.call::<fop::Getxattr>(&request).map(|reply| reply.value)
    }

    /// Sets an xattr.
    ///
    /// # Errors
    /// Those of `setxattr`.
    pub fn setxattr(&self, target: impl Into<Target>, text: &str, value: &[u8], mode: XattrMode) -> Answer<()> {
        let (target, name, value) = (target.into(), xattr(text), Bytes::copy_from_slice(value));
        let request = SetxattrReq { target, name, value, mode, kill_set_gid: false, xdata: Xdata::EMPTY };
        self.call::<fop::Setxattr>(&request).map(drop)
    }

    /// Removes an xattr.
    ///
    /// # Errors
    /// Those of `removexattr`.
    pub fn removexattr(&self, target: impl Into<Target>, text: &str) -> Answer<()> {
        let request = RemovexattrReq { target: target.into(), name: xattr(text), xdata: Xdata::EMPTY };
        self.call::<fop::Removexattr>(&request).map(drop)
    }

    /// The names of xattrs, sorted.
    ///
    /// # Errors
    /// Those of `listxattr`.
    pub fn listxattr(&self, target: impl Into<Target>) -> Answer<Vec<String>> {
        let request = ListxattrReq { target: target.into(), xdata: Xdata::EMPTY };
        let reply = self.call::<fop::Listxattr>(&request)?;
        let text = |name: &XattrName| String::from_utf8_lossy(name.as_bytes()).into_owned();
        let mut names: Vec<String> = reply.names.iter().map(text).collect();
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Gate, MockChild};
    use std::thread;

    #[test]
    fn one_request_after_the_other_goes_through_slot_0_with_growing_numbers() {
        let mock = MockChild::new();
        let client = Client::new(mock.clone());
        for _ in 0..3 {
            client.stat(Gfid::ROOT).unwrap();
        }
        let numbers: Vec<_> =
            mock.calls().iter().map(|call| (call.cx.request.slot, call.cx.request.sequence)).collect();
        assert_eq!(numbers, [(0, 1), (0, 2), (0, 3)]);
        assert_ne!(Client::new(mock).cx.client(), client.cx.client());
    }

    #[test]
    fn requests_at_once_have_different_slots() {
        let (mock, gate) = (MockChild::new(), Gate::new());
        let client = Client::new(mock.clone());
        for _ in 0..2 {
            let reply = crate::samples::reply(FopKind::Stat);
            mock.script(FopKind::Stat, Answer::Behind(gate.clone(), Ok(reply)));
        }
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| client.stat(Gfid::ROOT).unwrap());
            }
            block_on(gate.arrivals(2));
            gate.open();
        });
        let mut slots: Vec<_> = mock.calls().iter().map(|call| call.cx.request.slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1]);
    }
}

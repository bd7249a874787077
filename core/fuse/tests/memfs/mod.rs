//! A file system in memory, to show the session layer against the kernel. Every operation is answered inline, except
//! waiting for a lock and whatever a [`Gate`] holds back.
#![allow(dead_code, reason = "each test file uses its own part")]

mod locks;
pub mod place;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use brickwork_fuse::abi::{Attr, OpenFlags, StatFsOut};
use brickwork_fuse::request::{Create, ReadRequest, SetAttr, WriteRequest};
use brickwork_fuse::{
    Delivery, DirectoryBuffer, DirectoryPlusBuffer, Entry, Errno, Fh, FileKind, Handled, Handler, NodeId, Opened,
    Operation, Reply, Request, Started,
};
use parking_lot::{Condvar, Mutex};

pub use locks::Locks;

enum Content {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, u64>),
}

struct Node {
    attr: Attr,
    content: Content,
}

/// What the file system has seen.
#[derive(Default)]
pub struct Seen {
    pub getattrs: AtomicU64,
    pub lookups: AtomicU64,
    pub readdirplus: AtomicU64,
    pub largest_write: AtomicUsize,
    pub unaligned_large_writes: AtomicUsize,
    pub ended: AtomicU32,
}

/// Holds readers back until as many as it waits for have come.
pub struct Gate {
    pub wanted: usize,
    come: Mutex<usize>,
    all: Condvar,
}

impl Gate {
    pub fn new(wanted: usize) -> Self {
        Self { wanted, come: Mutex::new(0), all: Condvar::new() }
    }

    /// Whether all came within ten seconds.
    fn pass(&self) -> bool {
        let mut come = self.come.lock();
        *come += 1;
        self.all.notify_all();
        !self.all.wait_while_for(&mut come, |come| *come < self.wanted, Duration::from_secs(10)).timed_out()
    }
}

/// How reads are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// On the reader, without a future.
    #[default]
    Inline,
    /// By a future that is ready at its first poll.
    Ready,
    /// By a task of the runtime, as a layer would that hands every request on.
    Spawned,
}

pub struct MemFs {
    nodes: Mutex<HashMap<u64, Node>>,
    next: AtomicU64,
    pub locks: Arc<Locks>,
    pub seen: Seen,
    /// Reads of files named `gate` pass it on the reader's own thread.
    pub gate: OnceLock<Gate>,
    /// Reads of files named `slow` wait for it in a future.
    pub slow: Arc<tokio::sync::Notify>,
    pub valid: Duration,
    pub way: Way,
    pub started: OnceLock<Started>,
}

const ROOT: u64 = 1;

impl MemFs {
    /// A file system whose answers the kernel may believe for `valid`.
    pub fn cached(valid: Duration) -> Self {
        Self { valid, ..Self::new() }
    }

    /// A file system that answers reads by `way`.
    pub fn by(way: Way) -> Self {
        Self { way, ..Self::new() }
    }

    pub fn new() -> Self {
        let root = Node { attr: attr(ROOT, libc::S_IFDIR | 0o755), content: Content::Directory(BTreeMap::new()) };
        Self {
            nodes: Mutex::new(HashMap::from([(ROOT, root)])),
            next: AtomicU64::new(ROOT + 1),
            locks: Arc::default(),
            seen: Seen::default(),
            gate: OnceLock::new(),
            slow: Arc::default(),
            valid: Duration::ZERO,
            way: Way::default(),
            started: OnceLock::new(),
        }
    }

    /// The node of `name` in the root.
    pub fn node(&self, name: &[u8]) -> NodeId {
        NodeId(self.find(ROOT, name).expect("it is there"))
    }

    /// Changes a file behind the kernel's back.
    pub fn replace(&self, node: NodeId, content: &[u8]) {
        let mut nodes = self.nodes.lock();
        let node = nodes.get_mut(&node.0).expect("it is there");
        node.attr.size = content.len() as u64;
        node.content = Content::File(content.to_vec());
    }

    fn find(&self, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        match &self.nodes.lock().get(&parent).ok_or(Errno::NOENT)?.content {
            Content::Directory(names) if name == b"." || name == b".." => {
                Ok(names.get(name).copied().unwrap_or(parent))
            }
            Content::Directory(names) => names.get(name).copied().ok_or(Errno::NOENT),
            Content::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn with<T>(&self, node: u64, act: impl FnOnce(&mut Node) -> Result<T, Errno>) -> Result<T, Errno> {
        act(self.nodes.lock().get_mut(&node).ok_or(Errno::NOENT)?)
    }

    fn names<T>(
        &self,
        node: u64,
        act: impl FnOnce(&mut BTreeMap<Vec<u8>, u64>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.with(node, |node| match &mut node.content {
            Content::Directory(names) => act(names),
            Content::File(_) => Err(Errno::NOTDIR),
        })
    }

    fn bytes<T>(&self, node: u64, act: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, Errno> {
        self.with(node, |node| match &mut node.content {
            Content::File(bytes) => {
                let result = act(bytes);
                node.attr.size = bytes.len() as u64;
                Ok(result)
            }
            Content::Directory(_) => Err(Errno::ISDIR),
        })
    }

    fn entry(&self, node: u64) -> Result<Entry, Errno> {
        let attr = self.with(node, |node| Ok(node.attr))?;
        Ok(Entry { node: NodeId(node), generation: 0, entry_valid: self.valid, attr_valid: self.valid, attr })
    }

    fn make(&self, parent: u64, name: &[u8], mode: u32, caller: (u32, u32)) -> Result<Entry, Errno> {
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        self.names(parent, |names| match names.contains_key(name) {
            true => Err(Errno::EXIST),
            false => Ok(names.insert(name.to_vec(), node)),
        })?;
        let directory = mode & libc::S_IFMT == libc::S_IFDIR;
        let content = if directory { Content::Directory(BTreeMap::new()) } else { Content::File(Vec::new()) };
        let attr = Attr { uid: caller.0, gid: caller.1, ..attr(node, mode) };
        self.nodes.lock().insert(node, Node { attr, content });
        self.entry(node)
    }

    fn remove(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let node = self.find(parent, name)?;
        self.with(node, |node| match &node.content {
            Content::Directory(names) if !names.is_empty() => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        })?;
        self.names(parent, |names| Ok(names.remove(name)))?;
        Ok(())
    }

    fn rename(&self, parent: u64, name: &[u8], new_parent: u64, new_name: &[u8]) -> Result<(), Errno> {
        let node = self.names(parent, |names| names.remove(name).ok_or(Errno::NOENT))?;
        self.names(new_parent, |names| Ok(names.insert(new_name.to_vec(), node)))?;
        Ok(())
    }

    fn setattr(&self, node: u64, set: &SetAttr) -> Result<Attr, Errno> {
        if let Some(size) = set.size {
            self.bytes(node, |bytes| bytes.resize(size as usize, 0))?;
        }
        self.with(node, |node| {
            node.attr.mode = set.mode.unwrap_or(node.attr.mode);
            node.attr.uid = set.uid.unwrap_or(node.attr.uid);
            node.attr.gid = set.gid.unwrap_or(node.attr.gid);
            Ok(node.attr)
        })
    }

    fn write(&self, node: u64, write: &WriteRequest<'_>) -> Result<u32, Errno> {
        let data = write.data.to_bytes();
        self.seen.largest_write.fetch_max(data.len(), Ordering::Relaxed);
        if data.len() >= 1 << 16 && !data.as_ptr().addr().is_multiple_of(4096) {
            self.seen.unaligned_large_writes.fetch_add(1, Ordering::Relaxed);
        }
        let (start, end) = (write.offset as usize, write.offset as usize + data.len());
        self.bytes(node, |bytes| {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(&data);
        })?;
        Ok(data.len() as u32)
    }

    fn read(self: &Arc<Self>, node: u64, read: ReadRequest, reply: Reply) -> Handled {
        if self.find(ROOT, b"slow") == Ok(node) {
            let (fs, slow) = (self.clone(), self.slow.clone());
            return Handled::later(async move {
                slow.notified().await;
                fs.answer_read(node, read, reply);
            });
        }
        if self.find(ROOT, b"gate") == Ok(node) && !self.gate.get().is_none_or(Gate::pass) {
            reply.error(Errno::TIMEDOUT);
            return Handled::Done;
        }
        let fs = self.clone();
        match self.way {
            Way::Inline => {
                self.answer_read(node, read, reply);
                Handled::Done
            }
            Way::Ready => Handled::later(async move { fs.answer_read(node, read, reply) }),
            Way::Spawned => {
                tokio::spawn(async move { fs.answer_read(node, read, reply) });
                Handled::Done
            }
        }
    }

    fn answer_read(&self, node: u64, read: ReadRequest, reply: Reply) {
        let part = self.bytes(node, |bytes| {
            let start = bytes.len().min(read.offset as usize);
            let end = bytes.len().min(start + read.size as usize);
            bytes[start..end].to_vec()
        });
        // Replied to outside the lock, so that readers answer at once.
        match part {
            Ok(part) => reply.data(&part),
            Err(errno) => reply.error(errno),
        };
    }

    fn list(&self, node: u64, read: &ReadRequest) -> Result<DirectoryBuffer, Errno> {
        let mut buffer = DirectoryBuffer::new(read.size);
        let names = self.names(node, |names| Ok(names.clone()))?;
        for (at, (name, node)) in names.iter().enumerate().skip(read.offset as usize) {
            if !buffer.push(*node, at as u64 + 1, FileKind::Unknown, name) {
                break;
            }
        }
        Ok(buffer)
    }

    fn list_plus(&self, node: u64, read: &ReadRequest) -> Result<DirectoryPlusBuffer, Errno> {
        self.seen.readdirplus.fetch_add(1, Ordering::Relaxed);
        let mut buffer = DirectoryPlusBuffer::new(read.size);
        let names = self.names(node, |names| Ok(names.clone()))?;
        for (at, (name, node)) in names.iter().enumerate().skip(read.offset as usize) {
            let entry = self.entry(*node)?;
            if !buffer.push(Some(&entry), *node, at as u64 + 1, FileKind::from_mode(entry.attr.mode), name) {
                break;
            }
        }
        Ok(buffer)
    }
}

fn attr(node: u64, mode: u32) -> Attr {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Attr { ino: node, mode, nlink: 1, uid, gid, blksize: 4096, ..Attr::default() }
}

fn opened() -> Opened {
    Opened::plain(Fh(7))
}

/// Answers with what came out.
fn answer<T>(reply: Reply, result: Result<T, Errno>, give: impl FnOnce(Reply, T) -> Delivery) -> Handled {
    match result {
        Ok(value) => give(reply, value),
        Err(errno) => reply.error(errno),
    };
    Handled::Done
}

/// The file system as the session calls it.
pub struct Served(pub Arc<MemFs>);

impl Handler for Served {
    fn started(&self, started: &Started) {
        self.0.started.set(started.clone()).expect("started once");
    }

    fn ended(&self) {
        self.0.seen.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn handle(&self, request: Request<'_>, reply: Reply) -> Handled {
        let fs = &self.0;
        let (node, caller) = (request.node().0, (request.uid(), request.gid()));
        let entry = |reply: Reply, entry: Entry| reply.entry(&entry);
        match request.operation() {
            Operation::Lookup { name } => {
                fs.seen.lookups.fetch_add(1, Ordering::Relaxed);
                answer(reply, fs.find(node, name).and_then(|node| fs.entry(node)), entry)
            }
            Operation::GetAttr { .. } => {
                fs.seen.getattrs.fetch_add(1, Ordering::Relaxed);
                answer(reply, fs.entry(node), |reply, entry| reply.attr(&entry.attr, fs.valid))
            }
            Operation::SetAttr(set) => answer(reply, fs.setattr(node, set), |reply, attr| reply.attr(&attr, fs.valid)),
            Operation::MkDir { name, mode, umask } => {
                let mode = libc::S_IFDIR | (mode & !umask);
                answer(reply, fs.make(node, name, mode, caller), entry)
            }
            Operation::Create(Create { name, mode, umask, .. }) => {
                let made = fs.make(node, name, mode & !umask, caller);
                answer(reply, made, |reply, entry| reply.created(&entry, opened()))
            }
            Operation::Unlink { name } | Operation::RmDir { name } => {
                answer(reply, fs.remove(node, name), |reply, ()| reply.ok())
            }
            Operation::Rename { name, new_parent, new_name, .. } => {
                let renamed = fs.rename(node, name, new_parent.0, new_name);
                answer(reply, renamed, |reply, ()| reply.ok())
            }
            Operation::Open { flags, .. } => {
                let truncate = flags & libc::O_TRUNC.cast_unsigned() != 0;
                let done = if truncate { fs.bytes(node, Vec::clear) } else { Ok(()) };
                let keep = Opened { flags: OpenFlags::KEEP_CACHE, ..opened() };
                let opened = if fs.valid.is_zero() { opened() } else { keep };
                answer(reply, done, |reply, ()| reply.opened(opened))
            }
            Operation::OpenDir { .. } => answer(reply, Ok(()), |reply, ()| reply.opened(opened())),
            Operation::Read(read) => fs.read(node, *read, reply),
            Operation::Write(write) => answer(reply, fs.write(node, write), |reply, written| reply.written(written)),
            Operation::ReadDir(read) => answer(reply, fs.list(node, read), |reply, list| reply.directory(&list)),
            Operation::ReadDirPlus(read) => {
                answer(reply, fs.list_plus(node, read), |reply, list| reply.directory_plus(&list))
            }
            Operation::StatFs => answer(reply, Ok(StatFsOut::default()), |reply, out| reply.statfs(&out)),
            Operation::GetLk(lock) => answer(reply, Ok(fs.locks.conflict(node, lock)), |reply, lock| reply.lock(&lock)),
            Operation::SetLk { lock, wait } => locks::set(&fs.locks, node, *lock, *wait, reply),
            Operation::Flush { lock_owner, .. } => {
                fs.locks.release(node, false, *lock_owner);
                answer(reply, Ok(()), |reply, ()| reply.ok())
            }
            Operation::Release(release) => {
                if release.flock_unlock {
                    fs.locks.release(node, true, release.lock_owner);
                }
                answer(reply, Ok(()), |reply, ()| reply.ok())
            }
            Operation::ReleaseDir(_) | Operation::FSync { .. } | Operation::FSyncDir { .. } => {
                answer(reply, Ok(()), |reply, ()| reply.ok())
            }
            Operation::Forget { .. } | Operation::BatchForget(_) => Handled::Done,
            _ => answer(reply, Err(Errno::NOSYS), |reply, ()| reply.ok()),
        }
    }
}

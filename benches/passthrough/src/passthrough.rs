//! The file system: every request becomes the same call on the source, answered by the thread that read it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::{Mutex, RwLock};
use rustix::fs::{
    self, AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timestamps, Uid, XattrFlags,
};

use crate::attributes::{file_attr, file_type, timespec};
use crate::caller::Caller;
use crate::directory::DirectoryStream;
use crate::files::{MAX_WRITE, borrow, drop_set_ids, errno, open_flags, with_buffer, write_at};
use crate::inodes::{Inodes, proc_path};

/// Nothing is cached: the next call of anyone sees what the last one did.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
/// Requests that the kernel may have under way on its own account: readahead and asynchronous direct I/O.
const MAX_BACKGROUND: u16 = 64;
const XATTR_SIZE_MAX: usize = 64 * 1024;

/// What the kernel may use, as far as it offers it.
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_ATOMIC_O_TRUNC)
    .union(InitFlags::FUSE_AUTO_INVAL_DATA)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_DONT_MASK)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_POSIX_ACL);

/// The source folder, served as it is.
pub struct Passthrough {
    inodes: Inodes,
    directories: RwLock<HashMap<u64, Arc<Mutex<DirectoryStream>>>>,
    next_directory: AtomicU64,
}

impl Passthrough {
    /// Opens `source`; nothing is mounted yet.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(source: &Path) -> io::Result<Self> {
        Ok(Self {
            inodes: Inodes::open(source)?,
            directories: RwLock::new(HashMap::new()),
            next_directory: AtomicU64::new(1),
        })
    }

    fn attributes(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let stat = fs::fstat(&*self.inodes.get(ino)?).map_err(errno)?;
        Ok(file_attr(ino, &stat))
    }

    /// Opens what a node stands for anew: an `O_PATH` descriptor neither reads nor writes.
    fn reopen(&self, ino: INodeNo, flags: OFlags) -> Result<OwnedFd, Errno> {
        let node = self.inodes.get(ino)?;
        fs::openat(CWD, proc_path(&*node), flags | OFlags::CLOEXEC, Mode::empty()).map_err(errno)
    }

    /// Makes an object with `make` in the caller's name, and looks it up.
    fn make(
        &self,
        request: &Request,
        umask: u32,
        parent: INodeNo,
        name: &OsStr,
        make: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
    ) -> Result<FileAttr, Errno> {
        let parent = self.inodes.get(parent)?;
        let caller = Caller::enter(request, umask).map_err(errno)?;
        make(&parent).map_err(errno)?;
        drop(caller);
        self.inodes.lookup(&*parent, name)
    }

    fn create_file(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: Mode,
        umask: u32,
        flags: OFlags,
    ) -> Result<(OwnedFd, FileAttr), Errno> {
        let parent = self.inodes.get(parent)?;
        let caller = Caller::enter(request, umask).map_err(errno)?;
        let flags = flags | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&*parent, name, flags, mode).map_err(errno)?;
        drop(caller);
        let attributes = self.inodes.lookup_open(&file)?;
        Ok((file, attributes))
    }

    fn truncate(&self, request: &Request, ino: INodeNo, fh: Option<FileHandle>, size: u64) -> Result<(), Errno> {
        let reopened;
        let file = match fh {
            Some(fh) => borrow(fh),
            None => {
                reopened = self.reopen(ino, OFlags::WRONLY)?;
                reopened.as_fd()
            }
        };
        if request.uid() != 0 {
            drop_set_ids(file)?;
        }
        fs::ftruncate(file, size).map_err(errno)
    }

    fn directory(&self, fh: FileHandle) -> Result<Arc<Mutex<DirectoryStream>>, Errno> {
        self.directories.read().get(&fh.0).cloned().ok_or(Errno::EBADF)
    }

    /// One entry of a readdirplus reply; a lookup is counted, except of `.` and `..`.
    fn entry_plus(&self, directory: &OwnedFd, number: u64, kind: u8, name: &OsStr) -> Result<FileAttr, Errno> {
        if !matches!(name.as_bytes(), b"." | b"..") {
            return self.inodes.lookup(directory, name);
        }
        let mut stat: Stat = fs::fstat(directory).map_err(errno)?;
        stat.st_mode = u32::from(kind) << 12;
        Ok(file_attr(INodeNo(number), &stat))
    }
}

/// The kernel does not take a setting; each such error names what it would take instead.
fn refused(alternative: impl std::fmt::Debug) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the kernel would take {alternative:?}"))
}

/// Answers an xattr request: the size for an asker without a buffer, `ERANGE` for one whose buffer is too small.
fn answer_xattr(found: rustix::io::Result<&[u8]>, size: u32, reply: ReplyXattr) {
    match found {
        Err(error) => reply.error(errno(error)),
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(value),
    }
}

/// Sends what `result` says through `reply`, by its method for success.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $success:expr) => {
        match $result {
            Ok($value) => $success,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Passthrough {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config.add_capabilities(WANTED & config.capabilities()).map_err(refused)?;
        config.set_max_write(MAX_WRITE).map_err(refused)?;
        config.set_max_background(MAX_BACKGROUND).map_err(refused)?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.inodes.get(parent).and_then(|parent| self.inodes.lookup(&*parent, name));
        answer!(reply, found, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.inodes.forget(ino, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.attributes(ino), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        fh: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = || {
            let node = self.inodes.get(ino)?;
            if uid.is_some() || gid.is_some() {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                fs::chownat(&*node, "", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)?;
            }
            if let Some(mode) = mode {
                fs::chmod(proc_path(&*node), Mode::from_raw_mode(mode)).map_err(errno)?;
            }
            if let Some(size) = size {
                self.truncate(request, ino, fh, size)?;
            }
            if atime.is_some() || mtime.is_some() {
                let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
                fs::utimensat(&*node, "", &times, AtFlags::EMPTY_PATH).map_err(errno)?;
            }
            self.attributes(ino)
        };
        answer!(reply, change(), attr => reply.attr(&TTL, &attr));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.inodes.get(ino).and_then(|node| fs::readlinkat(&*node, "", Vec::new()).map_err(errno));
        answer!(reply, target, target => reply.data(target.as_bytes()));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let made = self.make(request, umask, parent, name, |parent| {
            fs::mknodat(parent, name, FileType::from_raw_mode(mode), Mode::from_raw_mode(mode), rdev.into())
        });
        answer!(reply, made, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made =
            self.make(request, umask, parent, name, |parent| fs::mkdirat(parent, name, Mode::from_raw_mode(mode)));
        answer!(reply, made, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.inodes.get(parent).and_then(|at| fs::unlinkat(&*at, name, AtFlags::empty()).map_err(errno));
        answer!(reply, done, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.inodes.get(parent).and_then(|at| fs::unlinkat(&*at, name, AtFlags::REMOVEDIR).map_err(errno));
        answer!(reply, done, () => reply.ok());
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.make(request, 0, parent, name, |parent| fs::symlinkat(target, parent, name));
        answer!(reply, made, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = || {
            let (source, target) = (self.inodes.get(parent)?, self.inodes.get(newparent)?);
            let flags = fs::RenameFlags::from_bits_retain(flags.bits());
            fs::renameat_with(&*source, name, &*target, newname, flags).map_err(errno)
        };
        answer!(reply, rename(), () => reply.ok());
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let link = || {
            let (node, parent) = (self.inodes.get(ino)?, self.inodes.get(newparent)?);
            fs::linkat(&*node, "", &*parent, newname, AtFlags::EMPTY_PATH).map_err(errno)?;
            self.inodes.lookup(&*parent, newname)
        };
        answer!(reply, link(), attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let open = || {
            let flags = open_flags(flags.0);
            if flags.contains(OFlags::TRUNC) && request.uid() != 0 {
                drop_set_ids(self.reopen(ino, OFlags::WRONLY)?.as_fd())?;
            }
            self.reopen(ino, flags)
        };
        answer!(reply, open(), file => reply.opened(FileHandle(file.into_raw_fd() as u64), FopenFlags::empty()));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let exclusive = OFlags::from_bits_retain(flags as u32) & OFlags::EXCL;
        let flags = open_flags(flags) | exclusive;
        let created = self.create_file(request, parent, name, Mode::from_raw_mode(mode), umask, flags);
        answer!(reply, created, (file, attr) => {
            let handle = FileHandle(file.into_raw_fd() as u64);
            reply.created(&TTL, &attr, GENERATION, handle, FopenFlags::empty());
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        with_buffer(size as usize, |buffer| {
            let read = rustix::io::pread(borrow(fh), &mut *buffer, offset).map_err(errno);
            answer!(reply, read, length => reply.data(&buffer[..length]));
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || {
            if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                drop_set_ids(borrow(fh))?;
            }
            write_at(borrow(fh), data, offset, flags.0 & libc::O_DIRECT != 0).map_err(errno)
        };
        answer!(reply, write(), written => reply.written(written as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // SAFETY: `open` or `create` gave this descriptor out and forgot it; the kernel releases it once.
        drop(unsafe { OwnedFd::from_raw_fd(fh.0 as RawFd) });
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let synced = if datasync { fs::fdatasync(borrow(fh)) } else { fs::fsync(borrow(fh)) };
        answer!(reply, synced.map_err(errno), () => reply.ok());
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.reopen(ino, OFlags::RDONLY | OFlags::DIRECTORY);
        answer!(reply, opened, directory => {
            let handle = self.next_directory.fetch_add(1, Ordering::Relaxed);
            let stream = Arc::new(Mutex::new(DirectoryStream::new(directory)));
            self.directories.write().insert(handle, stream);
            reply.opened(FileHandle(handle), FopenFlags::empty());
        });
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut read = || {
            let stream = self.directory(fh)?;
            let mut stream = stream.lock();
            stream.seek_to(offset).map_err(errno)?;
            let take = |entry: &crate::directory::DirectoryEntry<'_>| {
                !reply.add(INodeNo(entry.number), entry.next, file_type(u32::from(entry.kind) << 12), entry.name)
            };
            stream.read(take).map_err(errno)
        };
        answer!(reply, read(), () => reply.ok());
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let mut read = || {
            let stream = self.directory(fh)?;
            let directory = self.inodes.get(ino)?;
            let mut stream = stream.lock();
            stream.seek_to(offset).map_err(errno)?;
            let take = |entry: &crate::directory::DirectoryEntry<'_>| {
                match self.entry_plus(&directory, entry.number, entry.kind, entry.name) {
                    // Removed since the directory was read: as if it had been before.
                    Err(_) => true,
                    Ok(attr) => {
                        let full = reply.add(attr.ino, entry.next, entry.name, &TTL, &attr, GENERATION);
                        if full && !matches!(entry.name.as_bytes(), b"." | b"..") {
                            self.inodes.forget(attr.ino, 1);
                        }
                        !full
                    }
                }
            };
            stream.read(take).map_err(errno)
        };
        answer!(reply, read(), () => reply.ok());
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.directories.write().remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let sync = || {
            let stream = self.directory(fh)?;
            let stream = stream.lock();
            let directory = stream.descriptor();
            if datasync { fs::fdatasync(directory) } else { fs::fsync(directory) }.map_err(errno)
        };
        answer!(reply, sync(), () => reply.ok());
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let found = self.inodes.get(ino).and_then(|node| fs::fstatvfs(&*node).map_err(errno));
        answer!(reply, found, v => reply.statfs(
            v.f_blocks, v.f_bfree, v.f_bavail, v.f_files, v.f_ffree, v.f_bsize as u32, v.f_namemax as u32, v.f_frsize as u32,
        ));
    }

    fn setxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        let set = || {
            let node = self.inodes.get(ino)?;
            fs::setxattr(proc_path(&*node), name, value, XattrFlags::from_bits_retain(flags as u32)).map_err(errno)
        };
        answer!(reply, set(), () => reply.ok());
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let node = match self.inodes.get(ino) {
            Ok(node) => node,
            Err(error) => return reply.error(error),
        };
        with_buffer(XATTR_SIZE_MAX, |buffer| {
            let found = fs::getxattr(proc_path(&*node), name, &mut *buffer);
            answer_xattr(found.map(|length| &buffer[..length]), size, reply);
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let node = match self.inodes.get(ino) {
            Ok(node) => node,
            Err(error) => return reply.error(error),
        };
        with_buffer(XATTR_SIZE_MAX, |buffer| {
            let found = fs::listxattr(proc_path(&*node), &mut *buffer);
            answer_xattr(found.map(|length| &buffer[..length]), size, reply);
        });
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.inodes.get(ino).and_then(|node| fs::removexattr(proc_path(&*node), name).map_err(errno));
        answer!(reply, removed, () => reply.ok());
    }

    fn access(&self, _: &Request, ino: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // Never asked under default_permissions; the answer is the kernel's own.
        answer!(reply, self.inodes.get(ino), _ => reply.ok());
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = fs::fallocate(borrow(fh), FallocateFlags::from_bits_retain(mode as u32), offset, length);
        answer!(reply, done.map_err(errno), () => reply.ok());
    }

    fn lseek(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let position = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset as u64),
            libc::SEEK_HOLE => SeekFrom::Hole(offset as u64),
            _ => return reply.error(Errno::EINVAL),
        };
        answer!(reply, fs::seek(borrow(fh), position).map_err(errno), found => reply.offset(found as i64));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (mut from, mut to) = (offset_in, offset_out);
        // The reply counts in 32 bits; a shorter copy is continued by the caller.
        let length = len.min(u64::from(u32::MAX >> 1)) as usize;
        let copied = fs::copy_file_range(borrow(fh_in), Some(&mut from), borrow(fh_out), Some(&mut to), length);
        answer!(reply, copied.map_err(errno), copied => reply.written(copied as u32));
    }
}

//! System calls that rustix does not have, and the few shapes of those it has that this crate needs.
//!
//! The only file of the crate with `unsafe`. Every function is one system call, or one and its older spelling.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};

/// An object as system calls name it: a path from a directory, or, with an empty path, the descriptor itself.
/// The last part of the path is never followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) path: &'a CStr,
}

impl<'a> At<'a> {
    /// The object that `fd` is open on, `O_PATH` or not.
    pub(crate) fn of(fd: &'a impl AsFd) -> At<'a> {
        At { dir: fd.as_fd(), path: c"" }
    }
}

/// `/proc/self/fd/N`: the object of a descriptor as a path that is followed.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("digits hold no NUL")
}

/// Attributes of `at`.
pub(crate) fn stat(at: At<'_>) -> Result<Statx> {
    rustix::fs::statx(at.dir, at.path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens one name of a directory, never following a link and never leaving the directory.
///
/// `name` is a single part (no `/`, not `..`), so without `openat2` (a filter may forbid it) `O_NOFOLLOW` says the same.
pub(crate) fn open_name(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Whether the thread's file system identity may do `mask` (`R_OK` 4, `W_OK` 2, `X_OK` 1) with the object of `fd`.
pub(crate) fn access(fd: BorrowedFd<'_>, mask: u32) -> Result<()> {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a NUL-terminated constant; the call writes nothing.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, fd.as_raw_fd(), c"".as_ptr(), mask, flags) }).map(drop)
}

/// Sets the length of the file that `fd`, an `O_PATH` descriptor, stands for; needs the right to write.
pub(crate) fn truncate(fd: BorrowedFd<'_>, size: i64) -> Result<()> {
    let path = proc_path(fd);
    // SAFETY: `path` is NUL-terminated and lives through the call.
    check(unsafe { libc::truncate(path.as_ptr(), size) }.into()).map(drop)
}

// The numbers are the same on all architectures with the common table, these among them.
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;
const COMMON_NUMBERS: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64"));

/// Argument of `getxattrat` and `setxattrat`.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

static NO_XATTRAT: AtomicBool = AtomicBool::new(!COMMON_NUMBERS);

/// Whether the kernel (6.13 and later) has the xattr calls that take a directory and a path.
fn xattrat() -> bool {
    !NO_XATTRAT.load(Ordering::Relaxed)
}

/// Notes that it has not, if that is what `result` says. `EPERM` of a filter cannot be told from one of the
/// file system, so the probe at the start ([`probe_xattrat`]) decides about filters.
fn absent(result: &Result<usize>) -> bool {
    let absent = matches!(result, Err(Errno::NOSYS));
    if absent {
        NO_XATTRAT.store(true, Ordering::Relaxed);
    }
    absent
}

/// Tries `getxattrat` on a directory that can be read: a refusal there is that of a filter.
pub(crate) fn probe_xattrat(dir: BorrowedFd<'_>) {
    if get_xattr(At { dir, path: c"." }, c"user.brickwork.probe", &mut []) == Err(Errno::PERM) {
        NO_XATTRAT.store(true, Ordering::Relaxed);
    }
}

/// The path for the older calls, and whether its last part is to be followed.
fn older_path(at: At<'_>) -> (CString, bool) {
    let mut path = proc_path(at.dir).into_bytes();
    let follow = at.path.is_empty();
    if !follow {
        path.push(b'/');
        path.extend_from_slice(at.path.to_bytes());
    }
    (CString::new(path).expect("both parts came from C strings"), follow)
}

/// Does `call`, `getxattrat` or `setxattrat`; `None` where the older calls have to do it.
///
/// # Safety
/// `args` describes memory that is readable, and for `getxattrat` writable.
unsafe fn value_at(call: libc::c_long, at: At<'_>, name: &CStr, args: &XattrArgs) -> Option<Result<usize>> {
    if !xattrat() || at.path.is_empty() {
        return None;
    }
    // SAFETY: path and name are NUL-terminated; the rest is the caller's promise.
    let result = usize_of(unsafe {
        libc::syscall(
            call,
            at.dir.as_raw_fd(),
            at.path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            args,
            size_of::<XattrArgs>(),
        )
    });
    (!absent(&result)).then_some(result)
}

/// Reads the xattr `name` of `at` into `value` and returns its length; with an empty buffer only the length.
pub(crate) fn get_xattr(at: At<'_>, name: &CStr, value: &mut [u8]) -> Result<usize> {
    let args = XattrArgs { value: value.as_mut_ptr() as u64, size: length(value), flags: 0 };
    // SAFETY: `args` describes `value`, which is writable for its size.
    if let Some(result) = unsafe { value_at(SYS_GETXATTRAT, at, name, &args) } {
        return result;
    }
    let (path, follow) = older_path(at);
    let call = if follow { libc::getxattr } else { libc::lgetxattr };
    // SAFETY: path and name are NUL-terminated and `value` is writable for its length.
    usize_of(unsafe { call(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) } as i64)
}

/// Sets the xattr `name` of `at`; `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
pub(crate) fn set_xattr(at: At<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
    let args = XattrArgs { value: value.as_ptr() as u64, size: length(value), flags: flags as u32 };
    // SAFETY: `args` describes `value`, which is only read.
    if let Some(result) = unsafe { value_at(SYS_SETXATTRAT, at, name, &args) } {
        return result.map(drop);
    }
    let (path, follow) = older_path(at);
    let call = if follow { libc::setxattr } else { libc::lsetxattr };
    // SAFETY: path and name are NUL-terminated and `value` is readable for its length.
    check(unsafe { call(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) }.into()).map(drop)
}

/// Writes the NUL-separated names of the xattrs of `at` into `names` and returns their length.
pub(crate) fn list_xattrs(at: At<'_>, names: &mut [u8]) -> Result<usize> {
    if xattrat() && !at.path.is_empty() {
        // SAFETY: the path is NUL-terminated and `names` is writable for its length.
        let result = usize_of(unsafe {
            libc::syscall(
                SYS_LISTXATTRAT,
                at.dir.as_raw_fd(),
                at.path.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                names.as_mut_ptr(),
                names.len(),
            )
        });
        if !absent(&result) {
            return result;
        }
    }
    let (path, follow) = older_path(at);
    let call = if follow { libc::listxattr } else { libc::llistxattr };
    // SAFETY: the path is NUL-terminated and `names` is writable for its length.
    usize_of(unsafe { call(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) } as i64)
}

/// Removes the xattr `name` of `at`.
pub(crate) fn remove_xattr(at: At<'_>, name: &CStr) -> Result<()> {
    if xattrat() && !at.path.is_empty() {
        // SAFETY: path and name are NUL-terminated.
        let result = usize_of(unsafe {
            libc::syscall(
                SYS_REMOVEXATTRAT,
                at.dir.as_raw_fd(),
                at.path.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                name.as_ptr(),
            )
        });
        if !absent(&result) {
            return result.map(drop);
        }
    }
    let (path, follow) = older_path(at);
    let call = if follow { libc::removexattr } else { libc::lremovexattr };
    // SAFETY: path and name are NUL-terminated.
    check(unsafe { call(path.as_ptr(), name.as_ptr()) }.into()).map(drop)
}

/// Makes `uid` the file system user of this thread; checked, since the call itself reports nothing.
pub(crate) fn set_fsuid(uid: u32) -> Result<()> {
    // SAFETY: changes the credentials of this thread only (the raw call, unlike glibc's for setuid); -1 changes nothing.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsuid, uid);
        libc::syscall(libc::SYS_setfsuid, -1)
    };
    if now as u32 == uid { Ok(()) } else { Err(Errno::PERM) }
}

/// Makes `gid` the file system group of this thread.
pub(crate) fn set_fsgid(gid: u32) -> Result<()> {
    // SAFETY: as in `set_fsuid`.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsgid, -1)
    };
    if now as u32 == gid { Ok(()) } else { Err(Errno::PERM) }
}

/// Makes `groups` the supplementary groups of this thread.
pub(crate) fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: `groups` is readable for its length; the raw call changes this thread only.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Gives this thread a umask (and working directory) of its own, apart from the rest of the process.
pub(crate) fn own_umask() -> Result<()> {
    // SAFETY: touches no memory; the thread's paths are all absolute or from a descriptor.
    check(unsafe { libc::unshare(libc::CLONE_FS) }.into()).map(drop)
}

/// The effective capabilities of this thread, as a bit set.
pub(crate) fn capabilities() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn length(value: &[u8]) -> u32 {
    u32::try_from(value.len()).unwrap_or(u32::MAX)
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(result)
}

fn usize_of(result: libc::c_long) -> Result<usize> {
    check(result).map(|length| length as usize)
}

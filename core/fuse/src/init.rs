//! INIT: what a mount wants of the kernel, and what it gets.

use std::io::IoSlice;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::abi::{InitOut, KERNEL_MINOR_VERSION, KERNEL_MINOR_VERSION_MIN, KERNEL_VERSION, OutHeader, bits};
use crate::buffer::Buffer;
use crate::error::SessionError;
use crate::limits::Limits;
use crate::request::{Operation, Request};
use crate::transport::{Received, Transport};

bits! {
    /// What server and kernel agree on at INIT.
    InitFlags: u64 {
        /// Reads of one file run at once and out of order.
        ASYNC_READ = 1 << 0;
        /// `fcntl` locks come to the server: GETLK, SETLK, SETLKW.
        POSIX_LOCKS = 1 << 1;
        /// Never granted by Linux.
        FILE_OPS = 1 << 2;
        /// OPEN carries `O_TRUNC`, and the server truncates.
        ATOMIC_O_TRUNC = 1 << 3;
        /// LOOKUP of `.` and `..` is answered, by node id: NFS export, `open_by_handle_at`.
        EXPORT_SUPPORT = 1 << 4;
        /// Writes may be larger than a page.
        BIG_WRITES = 1 << 5;
        /// The umask is left to the server, which needs it for default ACLs.
        DONT_MASK = 1 << 6;
        /// The kernel can splice to the device.
        SPLICE_WRITE = 1 << 7;
        /// The kernel can move pages while splicing.
        SPLICE_MOVE = 1 << 8;
        /// The kernel can splice from the device.
        SPLICE_READ = 1 << 9;
        /// `flock` locks come to the server, marked as such.
        FLOCK_LOCKS = 1 << 10;
        /// IOCTL on directories.
        HAS_IOCTL_DIR = 1 << 11;
        /// Cached pages are dropped when size or modification time are seen to have changed.
        AUTO_INVAL_DATA = 1 << 12;
        /// READDIRPLUS is understood.
        DO_READDIRPLUS = 1 << 13;
        /// The kernel chooses between READDIR and READDIRPLUS by what its caller does.
        READDIRPLUS_AUTO = 1 << 14;
        /// Large direct I/O is split into requests that run at once.
        ASYNC_DIO = 1 << 15;
        /// Buffered writes stay in the kernel for a while. Another mount cannot see them: not for a shared file system.
        WRITEBACK_CACHE = 1 << 16;
        /// `ENOSYS` to OPEN means that no file needs opening.
        NO_OPEN_SUPPORT = 1 << 17;
        /// LOOKUP and READDIR in one directory run at once.
        PARALLEL_DIROPS = 1 << 18;
        /// The server clears set-user-id, set-group-id and capabilities on write, chown and truncate.
        HANDLE_KILLPRIV = 1 << 19;
        /// POSIX ACLs are extended attributes of the server, and the kernel checks them.
        POSIX_ACL = 1 << 20;
        /// Reading the device after an abort answers `ECONNABORTED`.
        ABORT_ERROR = 1 << 21;
        /// Requests may be larger than 128 KiB.
        MAX_PAGES = 1 << 22;
        /// Targets of symbolic links are cached.
        CACHE_SYMLINKS = 1 << 23;
        /// `ENOSYS` to OPENDIR means that no directory needs opening.
        NO_OPENDIR_SUPPORT = 1 << 24;
        /// Cached pages are dropped when the server says so, and only then.
        EXPLICIT_INVAL_DATA = 1 << 25;
        /// virtiofs only.
        MAP_ALIGNMENT = 1 << 26;
        /// Directories of the server may be mounts of their own.
        SUBMOUNTS = 1 << 27;
        /// As `HANDLE_KILLPRIV`, but only when the kernel asks for it: `kill_suidgid` in WRITE, OPEN, SETATTR.
        HANDLE_KILLPRIV_V2 = 1 << 28;
        /// SETXATTR has its longer form.
        SETXATTR_EXT = 1 << 29;
        /// INIT has a second word of flags.
        INIT_EXT = 1 << 30;
        /// Operations that make a file carry its security contexts.
        SECURITY_CTX = 1 << 32;
        /// virtiofs only.
        HAS_INODE_DAX = 1 << 33;
        /// Operations that make a file carry the group of its directory, if the caller is in it.
        CREATE_SUPP_GROUP = 1 << 34;
        /// Notifications may let a name run out instead of dropping it.
        HAS_EXPIRE_ONLY = 1 << 35;
        /// Files open with `DIRECT_IO` may be mapped shared.
        DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// Reads and writes may go straight to a registered file.
        PASSTHROUGH = 1 << 37;
        /// The server cannot be exported by NFS.
        NO_EXPORT_SUPPORT = 1 << 38;
        /// The kernel can send all pending requests again.
        HAS_RESEND = 1 << 39;
        /// The mount may be id-mapped.
        ALLOW_IDMAP = 1 << 40;
        /// Requests may come over io_uring.
        OVER_IO_URING = 1 << 41;
        /// The kernel ends the connection when a request takes too long.
        REQUEST_TIMEOUT = 1 << 42;
    }
}

/// What a mount wants of the kernel.
///
/// The default is a coherent shared file system. It promises of the handler: OPEN with `O_TRUNC` truncates
/// (`ATOMIC_O_TRUNC`); LOOKUP of `.` and `..` is answered (`EXPORT_SUPPORT`); the umask is applied where the directory
/// has no default ACL (`DONT_MASK`); `system.posix_acl_*` attributes are kept (`POSIX_ACL`, which makes the kernel check
/// permissions); locks are answered. Whoever cannot keep one takes it out of `flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Asked for; granted as far as the kernel has it. `HANDLE_KILLPRIV` and `HANDLE_KILLPRIV_V2` are not in the
    /// default: without them the kernel itself clears the bits, with a SETATTR before the write.
    pub flags: InitFlags,
    /// Without these the session does not start.
    pub required: InitFlags,
    /// Largest payload of a WRITE, and of a READ by way of its pages, in bytes. Default: 1 MiB. At least 4096.
    pub max_write: u32,
    /// Most bytes read ahead. Default: 1 MiB; the kernel's own bound may be lower.
    pub max_readahead: u32,
    /// Resolution of times in nanoseconds, a power of ten. Default: 1.
    pub time_granularity_ns: u32,
    /// With `PASSTHROUGH`: how many file systems may be stacked below a registered file. Default: 0.
    pub max_stack_depth: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        let flags = InitFlags::ASYNC_READ
            | InitFlags::POSIX_LOCKS
            | InitFlags::FLOCK_LOCKS
            | InitFlags::ATOMIC_O_TRUNC
            | InitFlags::EXPORT_SUPPORT
            | InitFlags::BIG_WRITES
            | InitFlags::DONT_MASK
            | InitFlags::POSIX_ACL
            | InitFlags::AUTO_INVAL_DATA
            | InitFlags::DO_READDIRPLUS
            | InitFlags::READDIRPLUS_AUTO
            | InitFlags::ASYNC_DIO
            | InitFlags::PARALLEL_DIROPS
            | InitFlags::ABORT_ERROR
            | InitFlags::MAX_PAGES
            | InitFlags::SETXATTR_EXT
            | InitFlags::INIT_EXT
            | InitFlags::CREATE_SUPP_GROUP
            | InitFlags::HAS_EXPIRE_ONLY
            | InitFlags::DIRECT_IO_ALLOW_MMAP;
        Self {
            flags,
            required: InitFlags::BIG_WRITES,
            max_write: 1 << 20,
            max_readahead: 1 << 20,
            time_granularity_ns: 1,
            max_stack_depth: 0,
        }
    }
}

/// What server and kernel agreed on; plain data, so that it can be handed over with the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The minor version both speak.
    pub minor: u32,
    /// The minor version of the kernel.
    pub kernel_minor: u32,
    /// Wanted and known to the kernel.
    pub flags: InitFlags,
    /// Everything the kernel offered.
    pub offered: InitFlags,
    /// Largest payload of a WRITE, in bytes.
    pub max_write: u32,
    /// Most bytes read ahead.
    pub max_readahead: u32,
}

/// The first minor version with an epoch of names: Linux 6.16.
const MINOR_WITH_EPOCH: u32 = 44;

impl Granted {
    /// Whether all cached names can be let run out at once ([`Notifier::inc_epoch`](crate::Notifier::inc_epoch)).
    #[must_use]
    pub const fn has_epoch(&self) -> bool {
        self.minor >= MINOR_WITH_EPOCH
    }
}

/// Bytes of a page, in which `max_pages` counts.
const PAGE: u32 = 4096;
/// Pages of a request where `MAX_PAGES` is not granted.
const PAGES_WITHOUT_MAX_PAGES: u32 = 32;

impl Wanted {
    /// Decides what to answer to the kernel's INIT.
    ///
    /// # Errors
    /// The kernel is too old, or lacks something required.
    fn grant(&self, kernel_minor: u32, max_readahead: u32, offered: InitFlags) -> Result<Granted, SessionError> {
        if kernel_minor < KERNEL_MINOR_VERSION_MIN {
            return Err(SessionError::KernelTooOld { minor: kernel_minor });
        }
        let missing = self.required.without(offered);
        if !missing.is_empty() {
            return Err(SessionError::Missing { flags: missing });
        }
        let flags = self.flags.with(self.required).both(offered);
        let most = if flags.contains(InitFlags::MAX_PAGES) { u16::MAX.into() } else { PAGES_WITHOUT_MAX_PAGES };
        Ok(Granted {
            minor: kernel_minor.min(KERNEL_MINOR_VERSION),
            kernel_minor,
            flags,
            offered,
            max_write: self.max_write.clamp(PAGE, most * PAGE),
            max_readahead: self.max_readahead.min(max_readahead),
        })
    }

    fn answer(&self, granted: &Granted, limits: &Limits) -> InitOut {
        InitOut {
            major: KERNEL_VERSION,
            minor: granted.minor,
            max_readahead: granted.max_readahead,
            flags: granted.flags.0 as u32,
            flags2: (granted.flags.0 >> 32) as u32,
            max_background: limits.max_background,
            congestion_threshold: limits.congestion_threshold,
            max_write: granted.max_write,
            time_gran: self.time_granularity_ns,
            max_pages: granted.max_write.div_ceil(PAGE) as u16,
            max_stack_depth: self.max_stack_depth,
            ..InitOut::default()
        }
    }
}

/// Waits for INIT on `lane` and answers it.
///
/// # Errors
/// Those of [`Wanted::grant`], each after telling the kernel; the mount ended, or something else than INIT came first.
pub(crate) fn negotiate(
    lane: &dyn Transport,
    buffer: &mut Buffer,
    wanted: &Wanted,
    limits: &Limits,
) -> Result<Granted, SessionError> {
    loop {
        let length = match lane.receive(buffer.space()) {
            Received::Message(length) => length,
            Received::Again => continue,
            Received::Ended => return Err(SessionError::EndedBeforeInit),
            Received::Failed(errno) => return Err(SessionError::Lane { errno }),
        };
        let request = Request::decode(buffer.message(length), InitFlags::empty()).map_err(SessionError::Malformed)?;
        let &Operation::Init { major, minor, max_readahead, flags } = request.operation() else {
            return Err(SessionError::NoInit { opcode: request.opcode() });
        };
        if major > KERNEL_VERSION {
            // The kernel sends INIT again, in our version.
            let version = InitOut { major: KERNEL_VERSION, minor: KERNEL_MINOR_VERSION, ..InitOut::default() };
            send(lane, request.unique(), 0, version.as_bytes())?;
            continue;
        }
        let granted = match major {
            KERNEL_VERSION => wanted.grant(minor, max_readahead, InitFlags(flags)),
            _ => Err(SessionError::KernelTooOld { minor: 0 }),
        };
        match granted {
            Ok(granted) => {
                send(lane, request.unique(), 0, wanted.answer(&granted, limits).as_bytes())?;
                return Ok(granted);
            }
            Err(refusal) => {
                send(lane, request.unique(), -Errno::PROTO.raw_os_error(), &[])?;
                return Err(refusal);
            }
        }
    }
}

fn send(lane: &dyn Transport, unique: u64, error: i32, body: &[u8]) -> Result<(), SessionError> {
    let header = OutHeader { len: (size_of::<OutHeader>() + body.len()) as u32, error, unique };
    let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(body)];
    lane.send(&parts).map_err(|errno| SessionError::Lane { errno })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_what_is_wanted_and_offered() {
        let offered = InitFlags::BIG_WRITES | InitFlags::MAX_PAGES | InitFlags::WRITEBACK_CACHE;
        let granted = Wanted::default().grant(45, 4096, offered).unwrap();
        assert_eq!(granted.flags, InitFlags::BIG_WRITES | InitFlags::MAX_PAGES);
        assert_eq!((granted.minor, granted.max_write, granted.max_readahead), (45, 1 << 20, 4096));
    }

    #[test]
    fn the_default_wants_no_cache_that_another_mount_cannot_see() {
        let wanted = Wanted::default();
        for flag in [InitFlags::WRITEBACK_CACHE, InitFlags::EXPLICIT_INVAL_DATA, InitFlags::CACHE_SYMLINKS] {
            assert!(!wanted.flags.contains(flag));
        }
    }

    #[test]
    fn a_newer_kernel_is_spoken_to_in_our_version() {
        let granted = Wanted::default().grant(99, 0, InitFlags(u64::MAX)).unwrap();
        assert_eq!((granted.minor, granted.kernel_minor), (KERNEL_MINOR_VERSION, 99));
    }

    #[test]
    fn a_kernel_below_the_oldest_version_is_refused() {
        let grant = |minor| Wanted::default().grant(minor, 0, InitFlags(u64::MAX));
        assert!(matches!(grant(30), Err(SessionError::KernelTooOld { minor: 30 })));
        assert_eq!(grant(31).unwrap().minor, 31);
    }

    #[test]
    fn a_missing_requirement_is_named() {
        let wanted = Wanted { required: InitFlags::POSIX_ACL | InitFlags::BIG_WRITES, ..Wanted::default() };
        let refusal = wanted.grant(45, 0, InitFlags::BIG_WRITES).unwrap_err();
        assert!(refusal.to_string().contains("POSIX_ACL") && !refusal.to_string().contains("BIG_WRITES"));
    }

    #[test]
    fn without_max_pages_a_write_has_at_most_32_pages() {
        let granted = Wanted::default().grant(45, 0, InitFlags::BIG_WRITES).unwrap();
        assert_eq!(granted.max_write, 32 * 4096);
        assert_eq!(Wanted::default().answer(&granted, &Limits::default()).max_pages, 32);
    }
}

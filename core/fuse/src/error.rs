//! Why a session does not start.

use rustix::io::Errno;

use crate::abi::KERNEL_MINOR_VERSION_MIN;
use crate::init::InitFlags;
use crate::request::Malformed;

/// Why a session does not start; each says what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionError {
    /// The kernel's protocol is older than this crate speaks.
    KernelTooOld {
        /// The kernel's minor version.
        minor: u32,
    },
    /// The kernel lacks what the mount requires.
    Missing {
        /// What it lacks.
        flags: InitFlags,
    },
    /// The mount ended before the kernel sent INIT.
    EndedBeforeInit,
    /// The first message is not INIT: another server has this descriptor too.
    NoInit {
        /// What came instead.
        opcode: u32,
    },
    /// The first message does not fit the protocol.
    Malformed(Malformed),
    /// The device refused to be read, written or cloned.
    Lane {
        /// What it said.
        errno: Errno,
    },
    /// A reader thread could not be started.
    Thread {
        /// What the system said.
        why: String,
    },
    /// There is no memory for the message buffers.
    Memory {
        /// Bytes of one buffer.
        bytes: usize,
    },
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KernelTooOld { minor } => write!(
                f,
                "the kernel speaks FUSE 7.{minor}, at least 7.{KERNEL_MINOR_VERSION_MIN} is needed; use Linux 5.4 or newer"
            ),
            Self::Missing { flags } => {
                write!(f, "the kernel's FUSE lacks {flags:?}, which this mount requires; use a newer kernel")
            }
            Self::EndedBeforeInit => {
                f.write_str("the mount ended before it began: somebody unmounted or aborted it; mount it again")
            }
            Self::NoInit { opcode } => write!(
                f,
                "the connection is in use already: opcode {opcode} came instead of INIT; resume it with what was granted before"
            ),
            Self::Malformed(malformed) => write!(f, "the kernel's INIT cannot be read: {malformed}"),
            Self::Lane { errno } => write!(f, "/dev/fuse: {errno}"),
            Self::Thread { why } => write!(f, "a reader thread could not be started: {why}; raise the limit of tasks"),
            Self::Memory { bytes } => {
                write!(f, "no memory for message buffers of {bytes} bytes; lower `max_write` or the number of readers")
            }
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(malformed) => Some(malformed),
            Self::Lane { errno } => Some(errno),
            _ => None,
        }
    }
}

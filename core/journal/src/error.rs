//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::frame::RECORD_MAX;

/// A call of the system that the log needed and did not get.
#[derive(Debug)]
pub struct Refusal {
    /// What was being done, as in "cannot …".
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system answered.
    pub source: io::Error,
}

impl Refusal {
    pub(crate) fn of<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self { doing, path: path.into(), source: source.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.source)
    }
}

/// Why a journal was not opened. Nothing in its folder was changed.
#[derive(Debug)]
pub enum OpenError {
    /// Another process, or another `Journal` of this one, has it open.
    Held {
        /// The file whose lock it holds.
        file: PathBuf,
        /// The process, if it has said so.
        pid: Option<u32>,
    },
    /// A segment is written in a format that this program does not know.
    Version {
        /// The segment.
        file: PathBuf,
        /// Its version.
        found: u8,
    },
    /// A limit of the caller makes no sense.
    Limit {
        /// Its name and what it may be.
        what: &'static str,
    },
    /// The system refused something.
    System(Refusal),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { file, pid: Some(pid) } => {
                write!(f, "the journal is in use by process {pid}, which holds {}; stop it first", file.display())
            }
            Self::Held { file, pid: None } => {
                write!(
                    f,
                    "the journal is in use: {} is locked; `fuser {}` names the process",
                    file.display(),
                    file.display()
                )
            }
            Self::Version { file, found } => write!(
                f,
                "{} has version {found} of the journal's format, this program reads version {}; run the program that \
                 wrote it, or move the folder away and lose what it remembers",
                file.display(),
                crate::segment::VERSION,
            ),
            Self::Limit { what } => write!(f, "limit of the journal out of range: {what}"),
            Self::System(refusal) => refusal.fmt(f),
        }
    }
}

/// Why a record was not appended. The log is as it was.
#[derive(Debug)]
pub enum AppendError {
    /// It has more than [`RECORD_MAX`] bytes.
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// The log has grown to its limit because its owner did not rotate it.
    Full {
        /// The limit: overflow segments beside the first.
        overflow_segments: usize,
    },
    /// The log was found damaged and has not been rotated since.
    Damaged,
    /// A sync failed; what was appended since the one before may be lost with the machine. A rotation mends it.
    Broken(SyncError),
    /// The system refused a further segment, for want of space for example. Works again when there is some.
    System(Refusal),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => write!(f, "a record of {bytes} bytes; at most {RECORD_MAX} are allowed"),
            Self::Full { overflow_segments } => {
                write!(f, "the journal has reached its limit of {overflow_segments} overflow segments; rotate it")
            }
            Self::Damaged => write!(f, "the journal is damaged; rotate it before appending"),
            Self::Broken(error) => write!(f, "{error}; rotate the journal before appending"),
            Self::System(refusal) => refusal.fmt(f),
        }
    }
}

/// Why a rotation did not happen. The log is as it was, and asks again at the next append.
#[derive(Debug)]
pub enum RotateError {
    /// A record of the snapshot has more than [`RECORD_MAX`] bytes.
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// The snapshot passed its limit.
    TooLarge {
        /// The limit, in bytes.
        snapshot_bytes: usize,
    },
    /// The owner gave up, for the reason it gave.
    Abandoned(String),
    /// The disk did not take the new segment's name. The log has been rotated all the same, but takes no appends until
    /// a further rotation succeeds.
    Broken(SyncError),
    /// The system refused something.
    System(Refusal),
}

impl fmt::Display for RotateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "a record of {bytes} bytes in the snapshot; at most {RECORD_MAX} are allowed")
            }
            Self::TooLarge { snapshot_bytes } => {
                write!(f, "the snapshot passed its limit of {snapshot_bytes} bytes")
            }
            Self::Broken(error) => write!(f, "{error}; rotate the journal again"),
            Self::Abandoned(reason) => write!(f, "the owner abandoned the snapshot: {reason}"),
            Self::System(refusal) => refusal.fmt(f),
        }
    }
}

/// The disk did not take what was appended.
///
/// The kernel says so once and then forgets which pages it could not write, so no later sync of the same file is
/// believed: every append and wait answers this until a rotation has written all that is known to a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncError(pub(crate) Errno);

impl SyncError {
    /// What the system answered.
    #[must_use]
    pub fn kind(self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk did not take what was appended to the journal: {}", self.0)
    }
}

/// A place where the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment, or the name it should have.
    pub file: PathBuf,
    /// The first byte that is not as it was written.
    pub offset: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong with a damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The segment does not exist, though later ones do.
    Missing,
    /// Its first bytes are not a segment's.
    Header,
    /// A record was lost, and a whole one follows.
    Record,
    /// It ends before the place that it is known to have reached.
    Short,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, kind } = self;
        let file = file.display();
        match kind {
            DamageKind::Missing => write!(f, "{file} is missing; later segments of the journal are there"),
            DamageKind::Header => write!(f, "{file} does not begin like a segment of a journal"),
            DamageKind::Record => write!(f, "{file} is damaged at byte {offset}; whole records follow"),
            DamageKind::Short => write!(f, "{file} ends at byte {offset}, though records were written behind it"),
        }
    }
}

macro_rules! from_refusal {
    ($($error:ident)*) => {$(
        impl std::error::Error for $error {}
        impl From<Refusal> for $error {
            fn from(refusal: Refusal) -> Self {
                Self::System(refusal)
            }
        }
    )*};
}

from_refusal!(OpenError AppendError RotateError);

impl From<SyncError> for AppendError {
    fn from(error: SyncError) -> Self {
        Self::Broken(error)
    }
}

impl std::error::Error for Refusal {}
impl std::error::Error for SyncError {}
impl std::error::Error for Damage {}

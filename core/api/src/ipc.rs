//! Questions between xlators that are asked by `ipc`: their names, and the shapes of argument and answer.
//!
//! Whoever does not know a question hands it to its child; a leaf refuses it with `EOPNOTSUPP`.

/// Asks a brick for a folder in which an xlator above it may keep its own records.
///
/// Argument: the asker's name for it, one path component: [`SESSIONS`], `locks`. Answer: the absolute path of the folder,
/// as bytes; it is made if need be, for its owner only (0700). `EINVAL` for what is no plain component.
///
/// What is in it outlives the process, however it ends, and goes when the brick is detached.
pub const WORK_FOLDER: &str = "storage/posix:work-folder";

/// The folder of whoever lets clients in (protocol/server), for what they have open.
///
/// While there is something in it when a brick is opened, the brick keeps what was open and had lost its last name, since
/// clients may come back for it: until [`DROP_UNLINKED`]. Folders of other names mean nothing to it.
pub const SESSIONS: &str = "sessions";

/// Tells a brick that every client which may come back for its open files has done so, or will not.
///
/// Argument and answer: empty. Content that was kept for them and is not open at this moment goes.
pub const DROP_UNLINKED: &str = "storage/posix:drop-unlinked";

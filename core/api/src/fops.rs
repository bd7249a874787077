//! The table of file operations (*fops*): every fop once, with its request, its reply and its meaning.
//!
//! From this table come the methods of [`Xlator`], the marker types in [`fop`], [`FopKind`] with the
//! names used in volfiles, metrics and the C interface, and the twins [`Fop`] and [`Reply`] for everything that
//! handles fops as values (wire, replay, tests).
//!
//! What holds for all of them:
//! - requests are borrowed: an xlator may call its child with the same request, twice if it must;
//! - every request and reply carries [`Xdata`];
//! - payloads (`data`) are [`Bytes`], and serde leaves them out: on a wire they follow the header as they are;
//! - nothing happens before the returned future is polled; one that was polled is polled to its end;
//! - only waits (`lk` with wait, `inodelk`, `entrylk`, lease recall) look at `cx.cancel`, answer `EINTR`, and have then
//!   changed nothing;
//! - offsets and lengths are bytes, ranges half-open.
//!
//! The order of the table is the order of the numbers on the wire: new fops go to the end.

mod expand;
mod set;
mod values;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::state::{FenceNumber, Scope, StateRecord};
use crate::types::{Attr, Entry, Gfid, Locate, Name, OpenFile, OpenId, Target, XattrName};
use crate::xdata::Xdata;

use expand::fops;
pub use set::FopSet;
pub use values::*;

fops! { $
    /// Finds an object by name or gfid. `ENOENT` for a name that is not there, `ESTALE` for a gfid that is not.
    fn lookup as Lookup(struct LookupReq {
        /// The name, or the gfid.
        target: Locate,
    }) -> struct LookupReply {
        /// What was found.
        attr: Attr,
    }

    /// Reads attributes.
    fn stat as Stat(struct StatReq {
        /// The object.
        target: Target,
    }) -> struct StatReply {
        /// Its attributes.
        attr: Attr,
    }

    /// Changes attributes other than the length. All of the change, or none.
    fn setattr as Setattr(struct SetattrReq {
        /// The object; a symbolic link is itself, not what it points to.
        target: Target,
        /// What to set.
        change: AttrChange,
    }) -> struct SetattrReply {
        /// The attributes afterwards.
        attr: Attr,
    }

    /// Reads the text of a symbolic link.
    fn readlink as Readlink(struct ReadlinkReq {
        /// The link.
        gfid: Gfid,
    }) -> struct ReadlinkReply {
        /// The text, without a NUL.
        target: Bytes,
    }

    /// Creates a file, device, pipe or socket without opening it.
    fn mknod as Mknod(struct MknodReq {
        /// The new name.
        entry: Entry,
        /// The new object, chosen by the client.
        gfid: Gfid,
        /// Type (`S_IFMT`) and permissions, before the umask.
        mode: u32,
        /// The caller's umask; not applied where the directory has a default ACL.
        umask: u32,
        /// Device number for a device.
        rdev: u64,
    }) -> struct MknodReply {
        /// The new object.
        attr: Attr,
    }

    /// Creates a directory.
    fn mkdir as Mkdir(struct MkdirReq {
        /// The new name.
        entry: Entry,
        /// The new object, chosen by the client.
        gfid: Gfid,
        /// Permissions, before the umask.
        mode: u32,
        /// The caller's umask; not applied where the directory has a default ACL.
        umask: u32,
    }) -> struct MkdirReply {
        /// The new directory.
        attr: Attr,
    }

    /// Takes a name from a file. `EISDIR` for a directory.
    fn unlink as Unlink(struct UnlinkReq {
        /// The name.
        entry: Entry,
    }) -> struct UnlinkReply {
        /// What the name pointed to.
        removed: Unnamed,
    }

    /// Removes an empty directory.
    fn rmdir as Rmdir(struct RmdirReq {
        /// Its name.
        entry: Entry,
    }) -> struct RmdirReply {
        /// The directory that was.
        removed: Unnamed,
    }

    /// Creates a symbolic link.
    fn symlink as Symlink(struct SymlinkReq {
        /// The new name.
        entry: Entry,
        /// The new object, chosen by the client.
        gfid: Gfid,
        /// The text of the link: 1 to 4,095 bytes without NUL.
        target: Bytes,
    }) -> struct SymlinkReply {
        /// The link.
        attr: Attr,
    }

    /// Gives an object another name in place of one it has; atomic for every observer.
    fn rename as Rename(struct RenameReq {
        /// The name it has.
        from: Entry,
        /// The name it gets.
        to: Entry,
        /// What happens to an object that has the new name.
        mode: RenameMode,
    }) -> struct RenameReply {
        /// The renamed object.
        attr: Attr,
        /// The object that lost the new name, or, for an exchange, got the old one.
        replaced: Option<Unnamed>,
    }

    /// Gives a file one more name.
    fn link as Link(struct LinkReq {
        /// The file.
        gfid: Gfid,
        /// The new name.
        entry: Entry,
    }) -> struct LinkReply {
        /// The file, with its new count of names.
        attr: Attr,
    }

    /// Creates a regular file and opens it; `EEXIST` when the name exists, `O_EXCL` or not.
    fn create as Create(struct CreateReq {
        /// The new name.
        entry: Entry,
        /// The new object, chosen by the client.
        gfid: Gfid,
        /// The open, chosen by the client.
        open: OpenId,
        /// `O_*` flags of the open.
        flags: u32,
        /// Permissions, before the umask.
        mode: u32,
        /// The caller's umask; not applied where the directory has a default ACL.
        umask: u32,
    }) -> struct CreateReply {
        /// The new file.
        attr: Attr,
    }

    /// Opens a file. With `O_TRUNC` it is empty afterwards; `O_CREAT` and `O_EXCL` mean nothing here.
    fn open as Open(struct OpenReq {
        /// The file and the open, chosen by the client.
        file: OpenFile,
        /// `O_*` flags.
        flags: u32,
        /// With `O_TRUNC`: take set-id bits away, as a truncation by somebody else than root does.
        kill_set_id: bool,
    }) -> struct OpenReply {
    }

    /// Reads a range. Fewer bytes than asked means the end of the file.
    fn read as Read(struct ReadReq {
        /// The open file.
        file: OpenFile,
        /// First byte.
        offset: u64,
        /// Bytes wanted.
        size: u32,
    }) -> struct ReadReply {
        /// The bytes.
        #[serde(skip)]
        data: Bytes,
    }

    /// Writes a range, or at the end of the file. That a file was opened with `O_APPEND` says nothing here: each write
    /// says for itself, since the flag can change and a mapping of such a file is written in place.
    fn write as Write(struct WriteReq {
        /// The open file.
        file: OpenFile,
        /// First byte.
        offset: u64,
        /// The bytes.
        #[serde(skip)]
        data: Bytes,
        /// At the end of the file, whatever the offset says, and in one step with all other such writes.
        append: bool,
        /// Take set-id bits away, as a write by somebody else than root does.
        kill_set_id: bool,
    }) -> struct WriteReply {
        /// Bytes written, from the first on.
        written: u32,
    }

    /// Tells that an application closed one of its descriptors: POSIX locks of `cx.lk_owner` go.
    fn flush as Flush(struct FlushReq {
        /// The open file.
        file: OpenFile,
    }) -> struct FlushReply {
    }

    /// Makes everything written so far survive a power cut.
    fn fsync as Fsync(struct FsyncReq {
        /// The open file.
        file: OpenFile,
        /// Content only, not the times.
        data_only: bool,
    }) -> struct FsyncReply {
    }

    /// Ends an open; every lock taken through it goes. Never fails for the caller.
    fn release as Release(struct ReleaseReq {
        /// The open file.
        file: OpenFile,
    }) -> struct ReleaseReply {
    }

    /// Sets the length of a file; what is added reads as zeros.
    fn truncate as Truncate(struct TruncateReq {
        /// The file.
        target: Target,
        /// The new length.
        size: u64,
        /// Take set-id bits away, as a truncation by somebody else than root does.
        kill_set_id: bool,
    }) -> struct TruncateReply {
        /// The attributes afterwards.
        attr: Attr,
    }

    /// Sets space aside, gives it back, cuts or inserts ranges. `EOPNOTSUPP` where the file system below cannot.
    fn fallocate as Fallocate(struct FallocateReq {
        /// The open file.
        file: OpenFile,
        /// What to do.
        mode: FallocateMode,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    }) -> struct FallocateReply {
    }

    /// Finds the next data or hole at or after an offset; `ENXIO` past the end.
    fn seek as Seek(struct SeekReq {
        /// The open file.
        file: OpenFile,
        /// Where to begin.
        offset: u64,
        /// What to find.
        what: SeekWhat,
    }) -> struct SeekReply {
        /// Where it was found.
        offset: u64,
    }

    /// Copies a range between two files without a way through the client.
    fn copy_file_range as CopyFileRange(struct CopyFileRangeReq {
        /// The source.
        from: OpenFile,
        /// First byte in the source.
        from_offset: u64,
        /// The target.
        to: OpenFile,
        /// First byte in the target.
        to_offset: u64,
        /// Bytes.
        length: u64,
    }) -> struct CopyFileRangeReply {
        /// Bytes copied; fewer than asked is no error.
        copied: u64,
    }

    /// Space and objects of the volume.
    fn statfs as Statfs(struct StatfsReq {
        /// Any object in it.
        gfid: Gfid,
    }) -> struct StatfsReply {
        /// The counts.
        stat: FsStat,
    }

    /// Reads an extended attribute; `ENODATA` when it is missing.
    fn getxattr as Getxattr(struct GetxattrReq {
        /// The object.
        target: Target,
        /// The attribute.
        name: XattrName,
    }) -> struct GetxattrReply {
        /// Its value.
        value: Bytes,
    }

    /// Lists the extended attributes that the caller may see.
    fn listxattr as Listxattr(struct ListxattrReq {
        /// The object.
        target: Target,
    }) -> struct ListxattrReply {
        /// Their names.
        names: Vec<XattrName>,
    }

    /// Sets an extended attribute.
    fn setxattr as Setxattr(struct SetxattrReq {
        /// The object.
        target: Target,
        /// The attribute.
        name: XattrName,
        /// Its value.
        value: Bytes,
        /// What to do when it exists or is missing.
        mode: XattrMode,
        /// Take the set-gid bit away, as an ACL set by somebody outside the group does.
        kill_set_gid: bool,
    }) -> struct SetxattrReply {
    }

    /// Removes an extended attribute; `ENODATA` when it is missing.
    fn removexattr as Removexattr(struct RemovexattrReq {
        /// The object.
        target: Target,
        /// The attribute.
        name: XattrName,
    }) -> struct RemovexattrReply {
    }

    /// Opens a directory.
    fn opendir as Opendir(struct OpendirReq {
        /// The directory and the open, chosen by the client.
        file: OpenFile,
    }) -> struct OpendirReply {
    }

    /// Lists names from an offset on; none left means the end. `.` and `..` are the front-end's.
    fn readdir as Readdir(struct ReaddirReq {
        /// The open directory.
        file: OpenFile,
        /// 0, or the `next` of the entry after which to go on; good for as long as the directory is open.
        offset: u64,
        /// About how many bytes of names and headers the caller has room for; at least one entry comes.
        size: u32,
    }) -> struct ReaddirReply {
        /// Entries, without attributes.
        entries: Vec<DirEntry>,
    }

    /// Lists names and attributes from an offset on, otherwise like `readdir`.
    fn readdirplus as Readdirplus(struct ReaddirplusReq {
        /// The open directory.
        file: OpenFile,
        /// 0, or the `next` of the entry after which to go on; good for as long as the directory is open.
        offset: u64,
        /// About how many bytes of names and headers the caller has room for; at least one entry comes.
        size: u32,
    }) -> struct ReaddirplusReply {
        /// Entries with attributes.
        entries: Vec<DirEntry>,
    }

    /// Makes the names in a directory survive a power cut.
    fn fsyncdir as Fsyncdir(struct FsyncdirReq {
        /// The open directory.
        file: OpenFile,
        /// Names only, not the times.
        data_only: bool,
    }) -> struct FsyncdirReply {
    }

    /// Ends an open of a directory. Never fails for the caller.
    fn releasedir as Releasedir(struct ReleasedirReq {
        /// The open directory.
        file: OpenFile,
    }) -> struct ReleasedirReply {
    }

    /// Asks whether the caller may read (4), write (2) or execute (1); `EACCES` when not.
    fn access as Access(struct AccessReq {
        /// The object.
        gfid: Gfid,
        /// The rights asked for, or 0 for its mere existence.
        mask: u32,
    }) -> struct AccessReply {
    }

    /// Tests, takes and releases locks of applications for `cx.lk_owner`.
    ///
    /// # Cancel
    /// `SetWait` answers `EINTR`; nothing was taken.
    fn lk as Lk(struct LkReq {
        /// The open file.
        file: OpenFile,
        /// Test, take, or take with waiting.
        command: LkCommand,
        /// The family.
        kind: LkKind,
        /// The range and its strength.
        range: LkRange,
    }) -> struct LkReply {
        /// For `Get` the first lock in the way, or the asked range as `Unlock`; else what was asked.
        range: LkRange,
    }

    /// Locks a range of an inode between xlators, in a named domain, for `cx.lk_owner`.
    ///
    /// # Cancel
    /// `Lock` answers `EINTR`; nothing was taken.
    fn inodelk as Inodelk(struct InodelkReq {
        /// The domain; domains do not conflict with each other.
        domain: String,
        /// The object.
        target: Target,
        /// Take, try, or release.
        command: XlatorLkCommand,
        /// The range and its strength.
        range: LkRange,
    }) -> struct InodelkReply {
    }

    /// Locks a name in a directory, or all of them, between xlators, in a named domain, for `cx.lk_owner`.
    ///
    /// # Cancel
    /// `Lock` answers `EINTR`; nothing was taken.
    fn entrylk as Entrylk(struct EntrylkReq {
        /// The domain; domains do not conflict with each other.
        domain: String,
        /// The directory.
        target: Target,
        /// The name, or all of them.
        name: Option<Name>,
        /// Take, try, or release.
        command: XlatorLkCommand,
        /// Shared or exclusive.
        kind: LkType,
    }) -> struct EntrylkReply {
    }

    /// Changes counters kept in extended attributes, each atomically; a missing one counts as zeros.
    fn xattrop as Xattrop(struct XattropReq {
        /// The object.
        target: Target,
        /// How to combine.
        kind: XattropKind,
        /// Attributes and values.
        values: Vec<(XattrName, Bytes)>,
    }) -> struct XattropReply {
        /// The values afterwards (for `GetAndSet`: before), in the order asked.
        values: Vec<(XattrName, Bytes)>,
    }

    /// Takes, gives back or shows a lease.
    ///
    /// # Cancel
    /// A wait for a recall answers `EINTR`; nothing was taken.
    fn lease as Lease(struct LeaseReq {
        /// The file.
        target: Target,
        /// What is asked.
        command: LeaseCommand,
        /// The strength.
        kind: LeaseType,
        /// The lease's name, chosen by the client.
        id: u128,
    }) -> struct LeaseReply {
        /// The lease that stands.
        kind: LeaseType,
    }

    /// A question between xlators that is no file operation.
    fn ipc as Ipc(struct IpcReq {
        /// `type:question`, as `cluster/distribute:layout`; those of this project stand in [`ipc`](crate::ipc).
        operation: String,
        /// Its argument.
        payload: Bytes,
    }) -> struct IpcReply {
        /// Its answer.
        payload: Bytes,
    }

    /// Gives the space of a range back; it reads as zeros and the length stays.
    fn discard as Discard(struct DiscardReq {
        /// The open file.
        file: OpenFile,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    }) -> struct DiscardReply {
    }

    /// Makes a range zeros; the file grows to its end.
    fn zerofill as Zerofill(struct ZerofillReq {
        /// The open file.
        file: OpenFile,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    }) -> struct ZerofillReply {
    }

    /// Tells that a front-end no longer refers to these objects; what was kept per inode for it may go.
    fn forget as Forget(struct ForgetReq {
        /// The objects.
        gfids: Vec<Gfid>,
    }) -> struct ForgetReply {
    }

    /// Stops the client state of a scope from changing, timers included, until `unfence` or the time is over.
    ///
    /// A leaf that keeps no client state has nothing to stop, to end or to let go (`unfence`, `state_release`): it
    /// succeeds, so that whoever stands above it can ask its children without knowing them.
    fn fence as Fence(struct FenceReq {
        /// Whose state.
        scope: Scope,
        /// Above every number this scope ever had, or the one it is in.
        number: FenceNumber,
        /// After this long, in milliseconds, the fence ends by itself as if aborted.
        ttl_ms: u32,
    }) -> struct FenceReply {
    }

    /// Ends a fence: what was queued runs here (`moved` false) or is redirected (`moved` true).
    fn unfence as Unfence(struct UnfenceReq {
        /// Whose state.
        scope: Scope,
        /// The fence.
        number: FenceNumber,
        /// Whether the state lives elsewhere from now on.
        moved: bool,
    }) -> struct UnfenceReply {
    }

    /// Hands out the client state of a fenced scope; a leaf that keeps none hands out nothing.
    fn state_export as StateExport(struct StateExportReq {
        /// Whose state.
        scope: Scope,
        /// The fence.
        number: FenceNumber,
    }) -> struct StateExportReply {
        /// The records; an xlator adds its own to those of its children.
        records: Vec<StateRecord>,
    }

    /// Takes in client state, durable before it is answered, invisible until its scope becomes active. A record that
    /// nobody in the stack keeps is refused with `EOPNOTSUPP`.
    fn state_import as StateImport(struct StateImportReq {
        /// Whose state.
        scope: Scope,
        /// The fence it was exported under.
        number: FenceNumber,
        /// The records.
        records: Vec<StateRecord>,
    }) -> struct StateImportReply {
        /// [Hash](crate::state::hash) of the records, for the exporter to compare.
        hash: u64,
    }

    /// Lets exported state go at its old home: the new one has it.
    fn state_release as StateRelease(struct StateReleaseReq {
        /// Whose state.
        scope: Scope,
        /// The fence it was exported under.
        number: FenceNumber,
    }) -> struct StateReleaseReply {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fop_has_a_name_of_its_own_and_its_number_is_its_place() {
        let mut names: Vec<&str> = FopKind::ALL.iter().map(|kind| kind.name()).collect();
        for (place, kind) in FopKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FopKind::ALL.len());
    }

    #[test]
    fn payloads_are_left_out_of_the_header() {
        let file = OpenFile { gfid: Gfid::ROOT, open: OpenId(3) };
        let data = Bytes::from_static(b"not in the header");
        let request = WriteReq { file, offset: 0, data, append: false, kill_set_id: false, xdata: Xdata::EMPTY };
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains("\"data\""), "{text}");
    }
}

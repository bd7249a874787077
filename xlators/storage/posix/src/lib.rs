#![doc = include_str!("../README.md")]

mod acl;
mod adopt;
mod attr;
mod brick;
mod buffers;
mod create;
mod detach;
mod dir;
mod dirs;
mod handle;
mod heal;
mod identity;
mod intents;
mod io;
mod keys;
mod locks;
mod names;
mod opening;
mod opens;
mod options;
mod recover;
mod resolve;
mod returning;
mod side;
mod space;
mod sys;
mod watch;
mod xattr;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::*;
use rustix::io::Errno as Sys;

use crate::brick::{Brick, Settings};
use crate::watch::{Health, Rules, Watch};

pub use crate::detach::{DetachError, Detached, detach};
pub use crate::heal::GFID_REQ;
pub use crate::options::{Permissions, PosixOptions};

/// `storage/posix`.
pub const TYPE: XlatorType = XlatorType {
    name: "storage/posix",
    about: "serves a folder in GlusterFS's on-disk format",
    options: PosixOptions::SPECS,
    subvolumes: Arity::Leaf,
    prepare,
};

fn prepare(setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    let options = PosixOptions::parse(&setup.options)?;
    let brick = Brick::open(&options).map_err(SetupError::Failed)?;
    Ok(Arc::new(Posix {
        brick,
        watch: Watch::new(Rules::of(&options)),
        settings: Settings::of(&options),
        up: setup.up,
    }))
}

/// A brick in a graph.
#[derive(Debug)]
struct Posix {
    brick: Arc<Brick>,
    watch: Watch,
    settings: Settings,
    up: Upward,
}

#[async_trait]
impl Xlator for Posix {
    /// Locks and leases are the business of xlators above.
    fn route(&self) -> Route<'_> {
        Route::Stop(Errno::EOPNOTSUPP)
    }

    fn start(&self) -> Result<(), String> {
        // The graph that starts last says how the brick is served.
        *self.brick.settings.write() = self.settings;
        self.watch.start(Arc::clone(&self.brick), self.up.clone())
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        let options = PosixOptions::parse(options)?;
        let paths = self.settings.paths;
        *self.brick.settings.write() = Settings { paths, ..Settings::of(&options) };
        self.watch.set_rules(Rules::of(&options));
        Ok(())
    }

    async fn stop(&self) {
        self.watch.stop();
        // Another graph of this process may serve the brick by now; then the folder is in use.
        if Arc::strong_count(&self.brick) == 1
            && let Err(error) = self.brick.tidy()
        {
            tracing::warn!(%error, "our folder stays on the brick");
        }
    }

    fn status(&self) -> serde_json::Value {
        let brick = &self.brick;
        let (health, reason) = match self.watch.health() {
            Health::Good => ("good", None),
            Health::Bad(reason) => ("bad", Some(reason)),
        };
        serde_json::json!({
            "directory": brick.path.display().to_string(),
            "keys": brick.keys.namespace(),
            "acts-for-callers": brick.identities.switches(),
            "open-files": brick.opens.count(),
            "keeps-unlinked-for-clients": brick.returning.may(),
            "open-directories-cached": brick.dirs.len(),
            "read-buffer-misses": brick.buffers.misses(),
            "waits-in-place": brick.waits.in_place.load(Ordering::Relaxed),
            "waits-on-pool": brick.waits.on_pool.load(Ordering::Relaxed),
            "reserved-bytes": brick.reserved.load(Ordering::Relaxed),
            "below-reserve": brick.full.load(Ordering::Relaxed),
            "health": health,
            "health-reason": reason,
        })
    }

    async fn lookup(&self, _cx: &Cx, request: &LookupReq) -> FopResult<LookupReply> {
        let attr = match &request.target {
            Locate::Gfid(gfid) => self.brick.stat(ClientId(0), Target::from(*gfid))?,
            Locate::Entry(entry) => {
                let wanted = request.xdata.get(&GFID_REQ)?.map(|bytes| wanted_gfid(&bytes)).transpose()?;
                let found = self.brick.named(&self.brick.place(entry)?, wanted)?;
                attr::attr(found.gfid, &found.stat)?
            }
        };
        Ok(LookupReply { attr, xdata: Xdata::EMPTY })
    }

    async fn stat(&self, cx: &Cx, request: &StatReq) -> FopResult<StatReply> {
        Ok(StatReply { attr: self.brick.stat(cx.client(), request.target)?, xdata: Xdata::EMPTY })
    }

    async fn setattr(&self, cx: &Cx, request: &SetattrReq) -> FopResult<SetattrReply> {
        let attr = self.brick.setattr(cx.client(), &cx.credentials, request.target, &request.change)?;
        Ok(SetattrReply { attr, xdata: Xdata::EMPTY })
    }

    async fn readlink(&self, _cx: &Cx, request: &ReadlinkReq) -> FopResult<ReadlinkReply> {
        let (object, _) = self.brick.object(request.gfid)?;
        let at = object.at(&self.brick);
        let text = rustix::fs::readlinkat(at.dir, at.path, Vec::new()).map_err(|errno| match errno {
            // An empty path says so of what is no link.
            Sys::NOENT => Errno::EINVAL,
            errno => errno.into(),
        })?;
        Ok(ReadlinkReply { target: Bytes::from(text.into_bytes()), xdata: Xdata::EMPTY })
    }

    async fn mknod(&self, cx: &Cx, request: &MknodReq) -> FopResult<MknodReply> {
        Ok(MknodReply { attr: self.brick.mknod(&cx.credentials, request)?, xdata: Xdata::EMPTY })
    }

    async fn mkdir(&self, cx: &Cx, request: &MkdirReq) -> FopResult<MkdirReply> {
        Ok(MkdirReply { attr: self.brick.mkdir(&cx.credentials, request)?, xdata: Xdata::EMPTY })
    }

    async fn unlink(&self, cx: &Cx, request: &UnlinkReq) -> FopResult<UnlinkReply> {
        Ok(UnlinkReply { removed: self.brick.unlink(&cx.credentials, &request.entry)?, xdata: Xdata::EMPTY })
    }

    async fn rmdir(&self, cx: &Cx, request: &RmdirReq) -> FopResult<RmdirReply> {
        Ok(RmdirReply { removed: self.brick.rmdir(&cx.credentials, &request.entry)?, xdata: Xdata::EMPTY })
    }

    async fn symlink(&self, cx: &Cx, request: &SymlinkReq) -> FopResult<SymlinkReply> {
        Ok(SymlinkReply { attr: self.brick.symlink(&cx.credentials, request)?, xdata: Xdata::EMPTY })
    }

    async fn rename(&self, cx: &Cx, request: &RenameReq) -> FopResult<RenameReply> {
        let (attr, replaced) = self.brick.rename(&cx.credentials, request)?;
        Ok(RenameReply { attr, replaced, xdata: Xdata::EMPTY })
    }

    async fn link(&self, cx: &Cx, request: &LinkReq) -> FopResult<LinkReply> {
        Ok(LinkReply { attr: self.brick.link(&cx.credentials, request)?, xdata: Xdata::EMPTY })
    }

    async fn create(&self, cx: &Cx, request: &CreateReq) -> FopResult<CreateReply> {
        Ok(CreateReply { attr: self.brick.create(cx.client(), &cx.credentials, request)?, xdata: Xdata::EMPTY })
    }

    async fn open(&self, cx: &Cx, request: &OpenReq) -> FopResult<OpenReply> {
        self.brick.open_file(cx.client(), &cx.credentials, request)?;
        Ok(OpenReply { xdata: Xdata::EMPTY })
    }

    async fn read(&self, cx: &Cx, request: &ReadReq) -> FopResult<ReadReply> {
        let data = self.brick.read(cx, request.file, request.offset, request.size).await?;
        Ok(ReadReply { data, xdata: Xdata::EMPTY })
    }

    async fn write(&self, cx: &Cx, request: &WriteReq) -> FopResult<WriteReply> {
        Ok(WriteReply { written: self.brick.write(cx, request).await?, xdata: Xdata::EMPTY })
    }

    async fn flush(&self, _cx: &Cx, _request: &FlushReq) -> FopResult<FlushReply> {
        // Its locks are those of the xlator above; the content is the kernel's already.
        Ok(FlushReply { xdata: Xdata::EMPTY })
    }

    async fn fsync(&self, cx: &Cx, request: &FsyncReq) -> FopResult<FsyncReply> {
        self.brick.fsync(cx, request.file, request.data_only).await?;
        Ok(FsyncReply { xdata: Xdata::EMPTY })
    }

    async fn release(&self, cx: &Cx, request: &ReleaseReq) -> FopResult<ReleaseReply> {
        self.brick.release(cx.client(), request.file);
        Ok(ReleaseReply { xdata: Xdata::EMPTY })
    }

    async fn truncate(&self, cx: &Cx, request: &TruncateReq) -> FopResult<TruncateReply> {
        Ok(TruncateReply { attr: self.brick.truncate(cx, request)?, xdata: Xdata::EMPTY })
    }

    async fn fallocate(&self, cx: &Cx, request: &FallocateReq) -> FopResult<FallocateReply> {
        self.brick.fallocate(cx, request.file, request.mode, request.offset, request.length).await?;
        Ok(FallocateReply { xdata: Xdata::EMPTY })
    }

    async fn seek(&self, cx: &Cx, request: &SeekReq) -> FopResult<SeekReply> {
        Ok(SeekReply { offset: self.brick.seek(cx, request)?, xdata: Xdata::EMPTY })
    }

    async fn copy_file_range(&self, cx: &Cx, request: &CopyFileRangeReq) -> FopResult<CopyFileRangeReply> {
        Ok(CopyFileRangeReply { copied: self.brick.copy_file_range(cx, request).await?, xdata: Xdata::EMPTY })
    }

    async fn statfs(&self, _cx: &Cx, _request: &StatfsReq) -> FopResult<StatfsReply> {
        let xdata = match self.brick.fine_timestamps {
            true => Xdata::EMPTY.with(&xdata::FINE_TIMESTAMPS, true),
            false => Xdata::EMPTY,
        };
        Ok(StatfsReply { stat: self.brick.statfs()?, xdata })
    }

    async fn getxattr(&self, cx: &Cx, request: &GetxattrReq) -> FopResult<GetxattrReply> {
        let value = self.brick.getxattr(cx.client(), &cx.credentials, request.target, &request.name)?;
        Ok(GetxattrReply { value, xdata: Xdata::EMPTY })
    }

    async fn listxattr(&self, cx: &Cx, request: &ListxattrReq) -> FopResult<ListxattrReply> {
        let names = self.brick.listxattr(cx.client(), &cx.credentials, request.target)?;
        Ok(ListxattrReply { names, xdata: Xdata::EMPTY })
    }

    async fn setxattr(&self, cx: &Cx, request: &SetxattrReq) -> FopResult<SetxattrReply> {
        self.brick.setxattr(cx.client(), &cx.credentials, request)?;
        Ok(SetxattrReply { xdata: Xdata::EMPTY })
    }

    async fn removexattr(&self, cx: &Cx, request: &RemovexattrReq) -> FopResult<RemovexattrReply> {
        self.brick.removexattr(cx.client(), &cx.credentials, request.target, &request.name)?;
        Ok(RemovexattrReply { xdata: Xdata::EMPTY })
    }

    async fn opendir(&self, cx: &Cx, request: &OpendirReq) -> FopResult<OpendirReply> {
        self.brick.open_directory(cx.client(), &cx.credentials, request.file)?;
        Ok(OpendirReply { xdata: Xdata::EMPTY })
    }

    async fn readdir(&self, cx: &Cx, request: &ReaddirReq) -> FopResult<ReaddirReply> {
        let entries = self.brick.read_directory(cx.client(), request.file, request.offset, request.size, false)?;
        Ok(ReaddirReply { entries, xdata: Xdata::EMPTY })
    }

    async fn readdirplus(&self, cx: &Cx, request: &ReaddirplusReq) -> FopResult<ReaddirplusReply> {
        let entries = self.brick.read_directory(cx.client(), request.file, request.offset, request.size, true)?;
        Ok(ReaddirplusReply { entries, xdata: Xdata::EMPTY })
    }

    async fn fsyncdir(&self, cx: &Cx, request: &FsyncdirReq) -> FopResult<FsyncdirReply> {
        self.brick.fsync(cx, request.file, request.data_only).await?;
        Ok(FsyncdirReply { xdata: Xdata::EMPTY })
    }

    async fn releasedir(&self, cx: &Cx, request: &ReleasedirReq) -> FopResult<ReleasedirReply> {
        self.brick.release(cx.client(), request.file);
        Ok(ReleasedirReply { xdata: Xdata::EMPTY })
    }

    async fn access(&self, cx: &Cx, request: &AccessReq) -> FopResult<AccessReply> {
        self.brick.access(&cx.credentials, request.gfid, request.mask)?;
        Ok(AccessReply { xdata: Xdata::EMPTY })
    }

    async fn xattrop(&self, cx: &Cx, request: &XattropReq) -> FopResult<XattropReply> {
        Ok(XattropReply { values: self.brick.xattrop(cx.client(), &cx.credentials, request)?, xdata: Xdata::EMPTY })
    }

    async fn discard(&self, cx: &Cx, request: &DiscardReq) -> FopResult<DiscardReply> {
        let hole = FallocateMode::PunchHole;
        self.brick.fallocate(cx, request.file, hole, request.offset, request.length).await?;
        Ok(DiscardReply { xdata: Xdata::EMPTY })
    }

    async fn zerofill(&self, cx: &Cx, request: &ZerofillReq) -> FopResult<ZerofillReply> {
        self.brick.zerofill(cx, request.file, request.offset, request.length).await?;
        Ok(ZerofillReply { xdata: Xdata::EMPTY })
    }

    async fn ipc(&self, cx: &Cx, request: &IpcReq) -> FopResult<IpcReply> {
        let payload = match request.operation.as_str() {
            ipc::WORK_FOLDER => self.brick.work_folder(&request.payload)?,
            ipc::DROP_UNLINKED => {
                let brick = Arc::clone(&self.brick);
                blocking(&*cx.host, move || brick.drop_unlinked()).await??;
                Bytes::new()
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        Ok(IpcReply { payload, xdata: Xdata::EMPTY })
    }

    async fn fence(&self, _cx: &Cx, _request: &FenceReq) -> FopResult<FenceReply> {
        Ok(FenceReply { xdata: Xdata::EMPTY })
    }

    async fn unfence(&self, _cx: &Cx, _request: &UnfenceReq) -> FopResult<UnfenceReply> {
        Ok(UnfenceReply { xdata: Xdata::EMPTY })
    }

    async fn state_export(&self, _cx: &Cx, _request: &StateExportReq) -> FopResult<StateExportReply> {
        Ok(StateExportReply { records: Vec::new(), xdata: Xdata::EMPTY })
    }

    async fn state_import(&self, _cx: &Cx, request: &StateImportReq) -> FopResult<StateImportReply> {
        Ok(StateImportReply { hash: state::import_none(&request.records)?, xdata: Xdata::EMPTY })
    }

    async fn state_release(&self, _cx: &Cx, _request: &StateReleaseReq) -> FopResult<StateReleaseReply> {
        Ok(StateReleaseReply { xdata: Xdata::EMPTY })
    }

    async fn forget(&self, _cx: &Cx, request: &ForgetReq) -> FopResult<ForgetReply> {
        for gfid in &request.gfids {
            self.brick.dirs.remove(*gfid);
        }
        Ok(ForgetReply { xdata: Xdata::EMPTY })
    }
}

fn wanted_gfid(bytes: &[u8]) -> FopResult<Gfid> {
    let bytes = bytes.try_into().map_err(|_| FopError::new(Errno::EINVAL).doing("reading the gfid beside a lookup"))?;
    let gfid = Gfid::from_bytes(bytes);
    if gfid.is_null() || gfid == Gfid::ROOT { Err(Errno::EINVAL.into()) } else { Ok(gfid) }
}

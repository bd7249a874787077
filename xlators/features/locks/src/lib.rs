#![doc = include_str!("../README.md")]

pub mod admin;
mod between;
mod brick;
mod calls;
mod clients;
mod fences;
mod folder;
mod inode;
mod journal;
pub mod options;
mod presence;
mod questions;
mod reclaiming;
mod record;
#[cfg(test)]
mod replayed;
pub mod rules;
mod shielding;
mod store;
pub mod table;
mod timers;
mod virtuals;
mod waits;

use std::sync::Arc;

use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::*;

use crate::brick::Brick;
use crate::options::LocksOptions;
use crate::shielding::Io;

/// What a volfile knows it by.
pub const TYPE: XlatorType = XlatorType {
    name: "features/locks",
    about: "keeps the locks of clients, so that they survive",
    options: LocksOptions::SPECS,
    subvolumes: Arity::One,
    prepare,
};

fn prepare(mut setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    let options = LocksOptions::parse(&setup.options)?;
    let child = setup.only_child();
    Ok(Arc::new(Locks(Arc::new(Brick::new(setup.name, child, setup.host, setup.up, options)))))
}

/// The locks of a brick.
#[derive(Debug)]
pub struct Locks(Arc<Brick>);

/// Fops through an open file: nothing is added to them unless some open is fenced or locks keep I/O away.
macro_rules! guarded {
    ($($name:ident $request:ident $reply:ident |$asked:ident| $io:expr;)*) => {
        $(
            fn $name<'life0, 'life1, 'life2, 'async_trait>(
                &'life0 self,
                cx: &'life1 Cx,
                request: &'life2 $request,
            ) -> BoxFuture<'async_trait, FopResult<$reply>>
            where
                'life0: 'async_trait,
                'life1: 'async_trait,
                'life2: 'async_trait,
                Self: 'async_trait,
            {
                if !self.0.store.fences.any() && !self.0.shields() {
                    return self.0.child.$name(cx, request);
                }
                Box::pin(async move {
                    let $asked = request;
                    self.admit(cx, $io).await?;
                    self.0.child.$name(cx, request).await
                })
            }
        )*
    };
}

impl Locks {
    /// Whether an I/O may be done.
    async fn admit(&self, cx: &Cx, io: Io) -> FopResult<()> {
        let admitted = match io.open.map(|open| self.0.store.fences.check(cx.client(), open)) {
            Some(Err(error)) => Err(error),
            _ if self.0.shields() => self.0.admit_io(cx, io).await,
            _ => Ok(()),
        };
        admitted.map_err(|error| error.from_xlator(&self.0.name))
    }
}

#[async_trait]
impl Xlator for Locks {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.0.child)
    }

    fn start(&self) -> Result<(), String> {
        self.0.start()
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        let options = LocksOptions::parse(options)?;
        self.0.reconfigure(options);
        Ok(())
    }

    async fn stop(&self) {
        self.0.stop();
    }

    fn status(&self) -> serde_json::Value {
        self.0.status()
    }

    async fn lk(&self, cx: &Cx, request: &LkReq) -> FopResult<LkReply> {
        self.0.lk(cx, request).await.map_err(|error| error.from_xlator(&self.0.name))
    }

    async fn inodelk(&self, cx: &Cx, request: &InodelkReq) -> FopResult<InodelkReply> {
        self.0.inodelk(cx, request).await.map_err(|error| error.from_xlator(&self.0.name))?;
        Ok(InodelkReply { xdata: Xdata::EMPTY })
    }

    async fn entrylk(&self, cx: &Cx, request: &EntrylkReq) -> FopResult<EntrylkReply> {
        self.0.entrylk(cx, request).await.map_err(|error| error.from_xlator(&self.0.name))?;
        Ok(EntrylkReply { xdata: Xdata::EMPTY })
    }

    async fn flush(&self, cx: &Cx, request: &FlushReq) -> FopResult<FlushReply> {
        // What was written comes before what its locks let others see.
        let flushed = self.0.child.flush(cx, request).await;
        self.0.flushed(cx, request.file.gfid).await?;
        flushed
    }

    async fn release(&self, cx: &Cx, request: &ReleaseReq) -> FopResult<ReleaseReply> {
        let released = self.0.child.release(cx, request).await;
        self.0.released(cx, request.file.gfid, request.file.open).await?;
        released
    }

    async fn ipc(&self, cx: &Cx, request: &IpcReq) -> FopResult<IpcReply> {
        match self.0.asked_of_locks(cx, &request.operation, &request.payload).await {
            Some(Ok(payload)) => Ok(IpcReply { payload, xdata: Xdata::EMPTY }),
            Some(Err(error)) => Err(error.from_xlator(&self.0.name)),
            None => self.0.child.ipc(cx, request).await,
        }
    }

    async fn getxattr(&self, cx: &Cx, request: &GetxattrReq) -> FopResult<GetxattrReply> {
        match self.0.virtual_xattr(cx, request.target, request.name.as_bytes()) {
            None => self.0.child.getxattr(cx, request).await,
            Some(value) => {
                let value = value.map_err(|error| error.from_xlator(&self.0.name))?;
                Ok(GetxattrReply { value, xdata: Xdata::EMPTY })
            }
        }
    }

    async fn setxattr(&self, cx: &Cx, request: &SetxattrReq) -> FopResult<SetxattrReply> {
        if request.name.as_bytes() != virtuals::LOCKINFO {
            return self.0.child.setxattr(cx, request).await;
        }
        let set = self.0.set_lockinfo(cx, request.target.gfid, &request.value);
        set.map_err(|error| error.from_xlator(&self.0.name))?;
        Ok(SetxattrReply { xdata: Xdata::EMPTY })
    }

    guarded! {
        read ReadReq ReadReply |asked| Io::read(asked.file, asked.offset, u64::from(asked.size));
        write WriteReq WriteReply |asked| match asked.append {
            true => Io::to_end(asked.file.into(), 0),
            false => Io::write(asked.file, asked.offset, asked.data.len() as u64),
        };
        fallocate FallocateReq FallocateReply |asked| Io::write(asked.file, asked.offset, asked.length);
        discard DiscardReq DiscardReply |asked| Io::write(asked.file, asked.offset, asked.length);
        zerofill ZerofillReq ZerofillReply |asked| Io::write(asked.file, asked.offset, asked.length);
        truncate TruncateReq TruncateReply |asked| Io::to_end(asked.target, asked.size);
        open OpenReq OpenReply |asked| Io::open(asked.file, asked.flags);
        copy_file_range CopyFileRangeReq CopyFileRangeReply |asked| Io::write(asked.to, asked.to_offset, asked.length);
        fsync FsyncReq FsyncReply |asked| Io::none(asked.file);
        seek SeekReq SeekReply |asked| Io::none(asked.file);
    }
}

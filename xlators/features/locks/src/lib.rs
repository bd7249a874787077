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
pub mod rules;
mod store;
pub mod table;
mod timers;
mod waits;

use std::sync::Arc;

use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::*;

use crate::brick::Brick;
use crate::options::LocksOptions;

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

/// Fops through an open file: nothing is added to them unless some open is fenced.
macro_rules! unless_fenced {
    ($($name:ident $request:ident $reply:ident $open:expr;)*) => {
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
                let open: fn(&$request) -> Option<OpenId> = $open;
                if self.0.store.fences.any()
                    && let Some(open) = open(request)
                    && let Err(error) = self.0.store.fences.check(cx.client(), open)
                {
                    return Box::pin(std::future::ready(Err(error.from_xlator(&self.0.name))));
                }
                self.0.child.$name(cx, request)
            }
        )*
    };
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

    unless_fenced! {
        read ReadReq ReadReply |request| Some(request.file.open);
        write WriteReq WriteReply |request| Some(request.file.open);
        fsync FsyncReq FsyncReply |request| Some(request.file.open);
        fallocate FallocateReq FallocateReply |request| Some(request.file.open);
        discard DiscardReq DiscardReply |request| Some(request.file.open);
        zerofill ZerofillReq ZerofillReply |request| Some(request.file.open);
        seek SeekReq SeekReply |request| Some(request.file.open);
        truncate TruncateReq TruncateReply |request| request.target.open;
        copy_file_range CopyFileRangeReq CopyFileRangeReply |request| Some(request.to.open);
    }
}

#![doc = include_str!("../README.md")]

mod beliefs;
mod believers;
mod brick;
mod call;
mod claims;
mod clients;
mod dial;
mod greet;
mod line;
mod link;
mod opens;
mod options;
mod pulse;
mod rim;
mod sessions;
mod through;
mod volfile;
mod waits;

use std::sync::Arc;

use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::{
    Arity, BoxFuture, Cx, Each, Errno, FopResult, FopType, Host, Route, Setup, SetupError, Xlator, XlatorType, each_fop,
};
use brickwork_wire::tls::TlsClient;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use options::{ClientOptions, Family, OnLostLock, Server, Transport};
pub use volfile::{FetchError, Fetched, fetch_volfile};

use brick::Brick;
use options::Settings;

/// What a volfile knows it by.
pub const TYPE: XlatorType = XlatorType {
    name: "protocol/client",
    about: "is a brick of another process, over the network",
    options: &options::SPECS,
    subvolumes: Arity::Leaf,
    prepare,
};

/// A brick over the network.
#[derive(Debug)]
pub struct Client {
    brick: Arc<Brick>,
    host: Arc<dyn Host>,
    /// Tells when the task that keeps the connection has ended; `None` before it was started.
    running: Mutex<Option<oneshot::Receiver<()>>>,
}

fn prepare(setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    let settings = Settings::parse(&setup.options)?;
    let tls = settings.tls.as_ref().map(|(tls, connect)| TlsClient::load(tls, connect));
    let tls = tls.transpose().map_err(|error| SetupError::Failed(error.to_string()))?;
    let brick = Arc::new(Brick::new(setup.name, settings, tls, setup.up));
    Ok(Arc::new(Client { brick, host: setup.host, running: Mutex::new(None) }))
}

impl Xlator for Client {
    fn route(&self) -> Route<'_> {
        Route::Stop(Errno::EOPNOTSUPP)
    }

    fn start(&self) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        *self.running.lock() = Some(receiver);
        self.host.spawn(Box::pin(rim::run(self.brick.clone(), sender)));
        Ok(())
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        self.brick.reconsider(Settings::parse(options)?.patience);
        Ok(())
    }

    fn stop<'life0, 'async_trait>(&'life0 self) -> BoxFuture<'async_trait, ()>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let running = self.running.lock().take();
            if let Some(ended) = running {
                self.brick.stopping.notify_one();
                // Nothing is sent: it is over when the sender is gone, also with the runtime.
                let _ = ended.await;
            }
        })
    }

    fn status(&self) -> serde_json::Value {
        self.brick.status()
    }

    each_fop!();
}

impl Each for Client {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        Box::pin(async move {
            let result = call::call::<F>(&self.brick, cx, request).await;
            result.map_err(|error| error.from_xlator(&self.brick.name))
        })
    }
}

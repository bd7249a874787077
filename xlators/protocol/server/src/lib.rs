#![doc = include_str!("../README.md")]

mod auth;
mod caches;
mod connection;
mod export;
mod fops;
mod greeting;
mod identity;
mod listen;
mod options;
mod server;
mod session;
mod volumes;

use std::sync::Arc;

use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::{Arity, Errno, Route, Setup, SetupError, Xlator, XlatorType, async_trait};
pub use options::{ExactlyOnce, Family, ServerOptions, Transport};

use crate::server::Server;

/// The type for volfiles.
pub static TYPE: XlatorType = XlatorType {
    name: "protocol/server",
    about: "serves its subvolumes to clients over the network",
    options: options::SPECS,
    subvolumes: Arity::Some,
    prepare: |setup| prepare(setup).map(|server| server as Arc<dyn Xlator>),
};

/// The xlator: nothing comes to it from above, its fops come from connections.
#[derive(Debug)]
struct ProtocolServer(Arc<Server>);

fn prepare(setup: Setup) -> Result<Arc<ProtocolServer>, SetupError> {
    Ok(Arc::new(ProtocolServer(Arc::new(Server::prepare(setup)?))))
}

#[async_trait]
impl Xlator for ProtocolServer {
    fn route(&self) -> Route<'_> {
        Route::Stop(Errno::EOPNOTSUPP)
    }

    fn start(&self) -> Result<(), String> {
        self.0.start()
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        self.0.reconfigure(options)
    }

    async fn stop(&self) {
        self.0.stop().await;
    }

    fn status(&self) -> serde_json::Value {
        self.0.status()
    }
}

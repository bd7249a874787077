#![doc = include_str!("../README.md")]

mod ask;
mod auth;
mod caches;
mod connection;
mod export;
mod fops;
mod greeting;
mod identity;
mod listen;
mod locks;
mod options;
mod seats;
mod server;
mod session;
mod volumes;

use std::sync::Arc;

use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::{Arity, Errno, Event, Onward, Route, Setup, SetupError, Xlator, XlatorType, async_trait};
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

    fn notify(&self, event: &Event) -> Onward {
        match event {
            Event::Lock(told) => {
                self.0.tell_client(told);
                Onward::Stop
            }
            _ => Onward::Up,
        }
    }

    fn status(&self) -> serde_json::Value {
        self.0.status()
    }
}

//! Clients of bricks in this process: volumes over protocol/client, without a mount.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use brickwork_api::options::OptionMap;
use brickwork_api::{Event, Host, Setup, Upward, Xlator};
use brickwork_graph::host::TokioHost;
use brickwork_volume::Volume;
use tokio::runtime::{Builder, Runtime};

use crate::common::brick::SUBVOLUME;

/// Where volumes of a test run. Dropping it ends them.
pub struct Library {
    runtime: Runtime,
    /// Who hears of events.
    volumes: Arc<Mutex<Vec<Weak<Volume>>>>,
}

impl Library {
    pub fn new() -> Library {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        Library { runtime, volumes: Arc::default() }
    }

    /// Waits for something that a volume does.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A connection to the brick at `address`.
    pub fn near(&self, address: SocketAddr) -> Arc<dyn Xlator> {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let options = [("remote-host", &*host), ("remote-port", &*port), ("remote-subvolume", SUBVOLUME)];
        let volumes = self.volumes.clone();
        let hear = move |event: Event| {
            let volumes = volumes.lock().expect("nobody panics with it").clone();
            volumes.iter().filter_map(Weak::upgrade).for_each(|volume| volume.hear(&event));
        };
        let setup = Setup {
            name: "client".into(),
            options: options.into_iter().collect::<OptionMap>(),
            children: Vec::new(),
            subvolumes: Vec::new(),
            up: Upward::new(hear),
            host: self.host(),
        };
        let _in_runtime = self.runtime.enter();
        let client = (brickwork_client::TYPE.prepare)(setup).expect("options of a client");
        client.start().expect("a start");
        client
    }

    /// What is under `root` as seen by one more client.
    pub fn volume(&self, root: Arc<dyn Xlator>) -> Arc<Volume> {
        let volume = Arc::new(Volume::new(root, self.host()));
        self.volumes.lock().expect("nobody panics with it").push(Arc::downgrade(&volume));
        volume
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::new(TokioHost::new(self.runtime.handle().clone()))
    }
}

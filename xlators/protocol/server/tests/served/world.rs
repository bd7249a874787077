//! A server on a place of its own, over a child that the test looks into.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use brickwork_api::options::OptionMap;
use brickwork_api::{
    Cx, Errno, FopResult, IpcReply, IpcReq, Route, Setup, SetupError, Upward, Xlator, async_trait, locks,
};
use brickwork_testkit::{MemoryLeaf, TestHost};
use serde_json::Value;
use tempfile::TempDir;

/// The name of the subvolume.
pub const LEAF: &str = "leaf";

/// Options of a test: key and value.
pub type Options<'a> = &'a [(&'a str, &'a str)];

/// A server that listens.
pub struct World {
    pub server: Arc<dyn Xlator>,
    folder: Arc<TempDir>,
}

/// A folder that a test has for itself.
pub fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a folder"))
}

/// Makes a server that does not listen yet.
pub fn prepare(children: &[(&str, Arc<dyn Xlator>)], options: Options<'_>) -> Result<Arc<dyn Xlator>, SetupError> {
    crate::logs::install();
    (brickwork_server::TYPE.prepare)(Setup {
        name: "server".into(),
        options: OptionMap::from_iter(options.iter().copied()),
        children: children.iter().map(|(_, child)| child.clone()).collect(),
        subvolumes: children.iter().map(|(name, _)| (*name).into()).collect(),
        up: Upward::new(|_| {}),
        host: TestHost::new(),
    })
}

impl World {
    /// Serves `child` on a unix socket to everybody, with `eos memory`, unless `options` say otherwise.
    pub fn over(child: Arc<dyn Xlator>, options: Options<'_>) -> World {
        World::within(folder(), child, options)
    }

    /// The same of a file system in memory.
    pub fn of_memory(options: Options<'_>) -> World {
        World::over(Arc::new(MemoryLeaf::new()), options)
    }

    /// The same on a free TCP port of this machine.
    pub fn on_tcp(child: Arc<dyn Xlator>, options: Options<'_>) -> World {
        let tcp = [("transport-type", "tcp"), ("transport.socket.bind-address", "127.0.0.1")];
        World::over(child, &[&tcp, options].concat())
    }

    /// The same with its socket and its journal in `folder`, where a server may have been before.
    pub fn within(folder: Arc<TempDir>, child: Arc<dyn Xlator>, options: Options<'_>) -> World {
        let (socket, journal) = (folder.path().join("socket"), folder.path().join("journal"));
        let defaults = [
            ("transport-type", "unix"),
            ("transport.socket.listen-path", text(&socket)),
            ("transport.socket.listen-port", "0"),
            ("journal-directory", text(&journal)),
            ("auth.addr.leaf.allow", "*"),
            ("eos", "memory"),
        ];
        // The last one of a key counts.
        let options = [&defaults, options].concat();
        let child: Arc<dyn Xlator> = Arc::new(WithoutLocks(child));
        let server = prepare(&[(LEAF, child)], &options).expect("options of a server");
        server.start().expect("a server that listens");
        World { server, folder }
    }

    /// Serves `children`, which are asked about locks, on a unix socket.
    pub fn with_locks(children: &[(&str, Arc<dyn Xlator>)], options: Options<'_>) -> World {
        let folder = folder();
        let socket = folder.path().join("socket");
        let mut all =
            vec![("transport-type", "unix"), ("transport.socket.listen-path", text(&socket)), ("eos", "memory")];
        let allow: Vec<String> = children.iter().map(|(name, _)| format!("auth.addr.{name}.allow")).collect();
        all.extend(allow.iter().map(|key| (key.as_str(), "*")));
        all.extend(options);
        let server = prepare(children, &all).expect("options of a server");
        server.start().expect("a server that listens");
        World { server, folder }
    }

    /// Where it listens: an address, or `unix:` and a path.
    pub fn place(&self) -> String {
        self.server.status()["listening"][0].as_str().expect("a place").to_owned()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What its status says under `key`.
    pub fn status(&self, key: &str) -> Value {
        self.server.status()[key].clone()
    }

    /// What the status of its subvolume says under `key`.
    pub fn export(&self, key: &str) -> Value {
        self.server.status()["exports"][0][key].clone()
    }

    /// Lets everybody else go on until `what` holds. For what no answer tells of; it fails when nothing happens any more.
    #[track_caller]
    pub fn until<'a>(&'a self, what: &'a str, holds: impl Fn(&World) -> bool + 'a) -> impl Future<Output = ()> + 'a {
        let place = std::panic::Location::caller();
        async move {
            for _ in 0..TURNS_MAX {
                if holds(self) {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("{place}: it never came that {what}: {:#}", self.server.status());
        }
    }
}

/// Answers about locks as any stack without them does, whatever is below: a mock would answer everything.
struct WithoutLocks(Arc<dyn Xlator>);

#[async_trait]
impl Xlator for WithoutLocks {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.0)
    }

    async fn ipc(&self, cx: &Cx, request: &IpcReq) -> FopResult<IpcReply> {
        match request.operation.as_str() {
            locks::ATTACHED | locks::DETACHED | locks::ENDED | locks::HOLDS | locks::GIVEN_UP => {
                Err(Errno::EOPNOTSUPP.into())
            }
            _ => self.0.ipc(cx, request).await,
        }
    }
}

/// Turns of all tasks of a test until it is sure that nothing happens any more: each asks the sockets once.
const TURNS_MAX: usize = 200_000;

/// A path that is text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

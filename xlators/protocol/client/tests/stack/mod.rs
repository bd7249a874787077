//! protocol/client over protocol/server over a leaf, in this process, over every kind of connection.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod proxy;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use brickwork_api::options::OptionMap;
use brickwork_api::{Host, Setup, Upward, Xlator, XlatorType};
use brickwork_graph::host::TokioHost;
use brickwork_testkit::block_on;
use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// All stacks of a test binary share it.
pub static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Tcp,
    Unix,
    /// TLS over TCP.
    Tls,
}

/// A client of a server of a leaf. Dropping it ends all three.
pub struct Stack {
    pub client: Arc<dyn Xlator>,
    pub server: Arc<dyn Xlator>,
    leaf: Arc<dyn Xlator>,
    _files: TempDir,
}

impl Stack {
    /// `leaf` served and connected to by `way`.
    pub fn over(way: Way, leaf: Arc<dyn Xlator>, server: &[(&str, &str)]) -> Stack {
        let files = tempfile::tempdir().unwrap();
        let server = serve(way, files.path(), leaf.clone(), server);
        let client = connect(&client_options(way, files.path(), &place(&server)));
        Stack { client, server, leaf, _files: files }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        block_on(self.client.stop());
        stop(&self.server);
        block_on(self.leaf.stop());
    }
}

/// Where a server listens.
pub fn place(server: &Arc<dyn Xlator>) -> String {
    server.status()["listening"][0].as_str().unwrap().to_owned()
}

/// Ends a server: its timers need the runtime.
pub fn stop(server: &Arc<dyn Xlator>) {
    RUNTIME.block_on(server.stop());
}

/// A started server of `leaf`, under the name `leaf`.
pub fn serve(way: Way, files: &Path, leaf: Arc<dyn Xlator>, more: &[(&str, &str)]) -> Arc<dyn Xlator> {
    let mut options: OptionMap = match way {
        Way::Tcp => [("listen-port", "0"), ("bind-address", "127.0.0.1")].into_iter().collect(),
        Way::Unix => unix(files, "transport.socket.listen-path"),
        Way::Tls => {
            let mut options = tls(files);
            options.insert("listen-port", "0");
            options.insert("bind-address", "127.0.0.1");
            options
        }
    };
    let allowed = if way == Way::Tls { "auth.ssl-allow" } else { "auth.addr.leaf.allow" };
    options.insert(allowed, "*");
    for (key, value) in more {
        options.insert(*key, *value);
    }
    make(&brickwork_server::TYPE, options, vec![("leaf".into(), leaf)])
}

/// What a client says to get to a server at `place`.
pub fn client_options(way: Way, files: &Path, place: &str) -> OptionMap {
    let mut options = match way {
        Way::Tcp => OptionMap::default(),
        Way::Unix => unix(files, "transport.socket.connect-path"),
        Way::Tls => tls(files),
    };
    if let Some((host, port)) = place.rsplit_once(':').filter(|_| way != Way::Unix) {
        options.insert("remote-host", host);
        options.insert("remote-port", port);
    }
    options.insert("remote-subvolume", "leaf");
    options
}

/// A started client.
pub fn connect(options: &OptionMap) -> Arc<dyn Xlator> {
    make(&brickwork_client::TYPE, options.clone(), Vec::new())
}

fn make(kind: &XlatorType, options: OptionMap, children: Vec<(Arc<str>, Arc<dyn Xlator>)>) -> Arc<dyn Xlator> {
    let (subvolumes, children) = children.into_iter().unzip();
    let name = kind.name.rsplit('/').next().unwrap().into();
    let setup = Setup { name, options, children, subvolumes, up: Upward::new(|_| {}), host: host() };
    let _in_runtime = RUNTIME.enter();
    let xlator = (kind.prepare)(setup).unwrap();
    xlator.start().unwrap();
    xlator
}

/// What the process lends.
pub fn host() -> Arc<dyn Host> {
    Arc::new(TokioHost::new(RUNTIME.handle().clone()))
}

/// A started storage/posix of `folder`.
pub fn posix(folder: &Path) -> Arc<dyn Xlator> {
    let directory = folder.to_str().unwrap();
    let options = [("directory", directory), ("health-check-interval", "0"), ("reserve", "0")];
    make(&brickwork_posix::TYPE, options.into_iter().collect(), Vec::new())
}

/// A started features/locks over `leaf`, which forgets its locks with the process.
pub fn locks(leaf: Arc<dyn Xlator>) -> Arc<dyn Xlator> {
    let options = [("lock-journal", "memory")].into_iter().collect();
    make(&brickwork_locks::TYPE, options, vec![("memory".into(), leaf)])
}

fn unix(files: &Path, key: &str) -> OptionMap {
    let path = files.join("brick.sock");
    [("transport-type", "unix"), (key, path.to_str().unwrap())].into_iter().collect()
}

/// One certificate for both ends, which believe it.
fn tls(files: &Path) -> OptionMap {
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
    if !files.join("pem").exists() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "machine");
        let key = KeyPair::generate().unwrap();
        std::fs::write(path("pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
    }
    [
        ("transport.socket.ssl-enabled", "on".to_owned()),
        ("transport.socket.ssl-own-cert", path("pem")),
        ("transport.socket.ssl-private-key", path("key")),
        ("transport.socket.ssl-ca-list", path("pem")),
    ]
    .into_iter()
    .collect()
}

/// Whether this process may set `trusted.` xattrs, which a brick needs; says so when not.
pub fn privileged() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let able = rustix::fs::lsetxattr(folder.path(), "trusted.brickwork.probe", b"1", flags).is_ok();
    if !able {
        println!("SKIPPED: needs root (CAP_SYS_ADMIN) and a temporary folder with `trusted.` xattrs");
    }
    able
}

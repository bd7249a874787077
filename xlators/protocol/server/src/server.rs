//! The running server: its socket, its connections, what it serves.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use brickwork_api::locks::ClientNotice;
use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::{Host, Setup, SetupError};
use brickwork_wire::message::{Process, Refused, Why};
use brickwork_wire::stream::Stream;
use brickwork_wire::tls::{AcceptOptions, TlsOptions, TlsServer};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth::{Peer, PeerAddr};
use crate::connection::{self, Connection};
use crate::export::Export;
use crate::identity::Identities;
use crate::listen::{Accepted, Listener, tune};
use crate::options::ServerOptions;
use crate::volumes::Volumes;

/// How long requests under way may take when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to read why it was refused.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// One `protocol/server`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) options: ServerOptions,
    pub(crate) volumes: Volumes,
    pub(crate) host: Arc<dyn Host>,
    /// Who we are, for those who ask.
    pub(crate) process: Process,
    pub(crate) identities: ArcSwap<Identities>,
    exports: Vec<Arc<Export>>,
    tls: Option<TlsServer>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    counts: Counts,
    running: OnceLock<Running>,
}

#[derive(Debug, Default)]
struct Counts {
    next: AtomicU64,
    /// Connected, greeted or not.
    connected: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Running {
    place: String,
    stop: watch::Sender<bool>,
    /// Holds the socket that listens.
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Reads and checks everything that can be checked without listening.
    pub(crate) fn prepare(setup: Setup) -> Result<Server, SetupError> {
        let Setup { options: map, children, subvolumes, host, .. } = setup;
        let options = ServerOptions::read(&map)?;
        let names: Vec<&str> = subvolumes.iter().map(|name| &**name).collect();
        for stray in crate::auth::strays(&names, &map) {
            tracing::warn!("{stray}");
        }
        let (tls, accept) = (TlsOptions::parse(&map)?, AcceptOptions::parse(&map)?);
        let tls = match tls.enabled {
            true => Some(TlsServer::load(&tls, &accept).map_err(|error| SetupError::Failed(error.to_string()))?),
            false => None,
        };
        let exports = subvolumes
            .iter()
            .zip(children)
            .map(|(name, child)| Export::new(name, child, &options, &map, &host).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Server {
            volumes: Volumes::parse(options.client_volfile.as_deref())?,
            identities: ArcSwap::from_pointee(Identities::new(&options)),
            process: Process {
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                pid: std::process::id(),
                name: "brick".to_owned(),
                software: concat!("brickwork ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            options,
            host,
            exports,
            tls,
            connections: Mutex::default(),
            counts: Counts::default(),
            running: OnceLock::new(),
        })
    }

    /// Listens, and opens what it serves: nobody is let in before that is done.
    pub(crate) fn start(self: &Arc<Server>) -> Result<(), String> {
        for export in &self.exports {
            export.open(&self.options, &self.host)?;
            if !export.auth.load().has_anybody() {
                let next = format!("set `auth.addr.{}.allow`", export.name);
                tracing::warn!(subvolume = &*export.name, next, "nobody may have this subvolume");
            }
        }
        let listener = Listener::bind(&self.options)?;
        let (stop, stopping) = watch::channel(false);
        let place = listener.place();
        tracing::info!(place, subvolumes = self.names(), "listening");
        let server = self.clone();
        let accepting = tokio::spawn(async move {
            // What was under way when the process died is decided before anybody is let in; those who knock wait.
            for export in &server.exports {
                export.decide(&server.host).await;
            }
            for export in &server.exports {
                tokio::spawn(export.clone().keep_house(server.host.clone(), stopping.clone()));
            }
            server.accept(listener, stopping).await;
        });
        let running = Running { place, stop, accepting: Mutex::new(Some(accepting)) };
        assert!(self.running.set(running).is_ok(), "a server starts once");
        Ok(())
    }

    /// Takes the options that can change in place.
    pub(crate) fn reconfigure(&self, map: &OptionMap) -> Result<(), Vec<OptionError>> {
        let options = ServerOptions::read(map)?;
        let auths = self.exports.iter().map(|export| export.read_auth(map)).collect::<Result<Vec<_>, _>>()?;
        for (export, auth) in self.exports.iter().zip(auths) {
            export.auth.store(Arc::new(auth));
        }
        self.identities.store(Arc::new(Identities::new(&options)));
        Ok(())
    }

    /// Takes no more connections, answers what is under way, tells the clients, and closes.
    pub(crate) async fn stop(&self) {
        let Some(running) = self.running.get() else { return };
        running.stop.send_replace(true);
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        for connection in &connections {
            connection.leave("the brick is stopping");
        }
        let drained = async {
            // First, for the next server may want the place.
            let accepting = running.accepting.lock().take();
            if let Some(accepting) = accepting
                && let Err(error) = accepting.await
            {
                tracing::error!(%error, "the task that took connections in has ended badly");
            }
            for connection in &connections {
                connection.drained().await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            let waited_s = DRAIN_MAX.as_secs();
            tracing::warn!(waited_s, "requests are still under way; their clients ask again when the brick is back");
        }
        // That they are closed says nothing of the clients.
        self.exports.iter().for_each(|export| export.locks.close());
        connections.iter().for_each(|connection| connection.close());
        for export in &self.exports {
            export.close().await;
        }
    }

    /// Tells a client what its locks say unasked. An event does not say which subvolume it is of: a client that has
    /// several hears it of each, and knows the object, the opens and the requests in it at one only.
    pub(crate) fn tell_client(&self, told: &ClientNotice) {
        self.exports.iter().for_each(|export| export.tell_client(told));
    }

    /// The subvolume called `name`.
    pub(crate) fn export(&self, name: &str) -> Option<Arc<Export>> {
        self.exports.iter().find(|export| &*export.name == name).cloned()
    }

    /// What it serves, for people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.exports.iter().map(|export| &*export.name).collect();
        names.join(", ")
    }

    /// Whether `peer` may ask what there is: whoever may have some subvolume by its address.
    pub(crate) fn lets_ask(&self, peer: &Peer) -> Result<(), Refused> {
        if self.exports.iter().any(|export| export.auth.load().admits_address(peer)) {
            return Ok(());
        }
        tracing::warn!(%peer, "a volfile was refused: no subvolume admits this address");
        Err(Refused { why: Why::NotAllowed, reason: "this address may not ask for volfiles".to_owned() })
    }

    /// For `status`, `brick status` and `dump`.
    pub(crate) fn status(&self) -> Value {
        let place = self.running.get().map_or("", |running| running.place.as_str());
        json!({
            "listening": [place],
            "tls": self.tls.is_some(),
            "connections": self.counts.connected.load(Ordering::Relaxed),
            "in_flight": self.connections.lock().values().map(|connection| connection.in_flight()).sum::<usize>(),
            "refused": self.counts.refused.load(Ordering::Relaxed),
            "volumes": self.volumes.iter().map(|(name, path)| json!({"name": name, "path": path})).collect::<Vec<_>>(),
            "exports": self.exports.iter().map(|export| export.status()).collect::<Vec<_>>(),
        })
    }

    async fn accept(self: Arc<Server>, listener: Listener, mut stopping: watch::Receiver<bool>) {
        loop {
            let (accepted, address) = tokio::select! {
                accepted = listener.accept() => accepted,
                // An error says that the server is gone.
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let (server, stopping) = (self.clone(), stopping.clone());
            let Some(place) = Place::take(&self) else {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(limit = self.options.connections_max, "a connection was refused: there are too many");
                continue;
            };
            tokio::spawn(async move { server.serve(accepted, address, place, stopping).await });
        }
    }

    /// One connection from its first byte to its last.
    async fn serve(
        self: Arc<Server>,
        accepted: Accepted,
        address: PeerAddr,
        _place: Place,
        mut stopping: watch::Receiver<bool>,
    ) {
        let limit = self.options.handshake_timeout.0;
        let deadline = tokio::time::Instant::now() + limit;
        let secured = tokio::select! {
            secured = tokio::time::timeout_at(deadline, self.secure(accepted, address)) => secured,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let (stream, peer) = match secured {
            Ok(Ok(secured)) => secured,
            Ok(Err((peer, why))) => return self.refused(&peer, &why),
            Err(_) => return self.refused(&Peer::at(address), "it said nothing for too long"),
        };
        let (outbox, mut inbox) = brickwork_wire::connection::open(stream);
        let greet = crate::greeting::greet(&self, &peer, &outbox, &mut inbox);
        let greeted = tokio::select! {
            greeted = tokio::time::timeout_at(deadline, greet) => greeted,
            _ = stopping.wait_for(|stopping| *stopping) => return outbox.close(),
        };
        match greeted {
            Ok(Ok(Some(greeted))) => {
                let number = self.counts.next.fetch_add(1, Ordering::Relaxed);
                let connection = Arc::new(Connection::new(number, self.clone(), greeted, peer, outbox));
                self.connections.lock().insert(number, connection.clone());
                // Whoever stops the server has closed those that it found; one that came since is ours to close.
                if *stopping.borrow() {
                    connection.close();
                } else {
                    connection::run(&connection, inbox).await;
                }
                self.connections.lock().remove(&number);
                return;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.refused(&peer, &error.to_string()),
            Err(_) => self.refused(&peer, &format!("it has not said who it is within {limit:?}")),
        }
        // What it was told last has to reach it.
        let _ = tokio::time::timeout(FAREWELL_MAX, outbox.room(0)).await;
        outbox.close();
    }

    async fn secure(&self, accepted: Accepted, address: PeerAddr) -> Result<(Stream, Peer), (Peer, String)> {
        let peer = Peer::at(address);
        match (accepted, &self.tls) {
            (Accepted::Unix(stream), _) => Ok((Stream::Unix(stream), peer)),
            (Accepted::Tcp(stream), None) => {
                tune(&stream, &self.options);
                Ok((Stream::Tcp(stream), peer))
            }
            (Accepted::Tcp(stream), Some(tls)) => {
                tune(&stream, &self.options);
                let nodelay = stream.set_nodelay(true);
                let beneath = nodelay.and_then(|()| stream.as_fd().try_clone_to_owned());
                let beneath = beneath.map_err(|error| (peer.clone(), error.to_string()))?;
                let encrypted = tls.accept(stream).await.map_err(|error| (peer.clone(), error.to_string()))?;
                let peer = Peer { certificate: encrypted.peer, ..peer };
                Ok((Stream::Tls(Box::new(encrypted.stream), beneath), peer))
            }
        }
    }

    fn refused(&self, peer: &Peer, why: &str) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%peer, why, "a connection was refused");
    }
}

/// A place among the connections; given back when dropped.
struct Place(Arc<Server>);

impl Place {
    fn take(server: &Arc<Server>) -> Option<Place> {
        let limit = u64::from(server.options.connections_max);
        let taken = server.counts.connected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |connected| {
            (connected < limit).then_some(connected + 1)
        });
        taken.ok().map(|_| Place(server.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.counts.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

//! One served subvolume: its sessions, who keeps what, and who may have it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::{Bytes, ClientId, Cx, Host, IpcReq, SetupError, Xdata, Xlator, ipc};
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::{AttachCall, Notice as Said, Refused};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::Auth;
use crate::caches::{Caches, Limits, Notice, NoticeId, Reach, SessionKey};
use crate::connection::Connection;
use crate::fops::Destination;
use crate::options::{ExactlyOnce, ServerOptions};
use crate::session::{Session, Sessions};

/// How often sessions that ended by time are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// One served subvolume.
pub(crate) struct Export {
    pub(crate) name: Arc<str>,
    pub(crate) child: Arc<dyn Xlator>,
    pub(crate) auth: ArcSwap<Auth>,
    pub(crate) caches: Caches,
    sessions: OnceLock<Arc<Sessions<Destination>>>,
    keys: Mutex<Keys>,
    /// One client enters at a time: of two incarnations of one, the later finds the line of the earlier.
    entering: Mutex<()>,
    eos: ExactlyOnce,
    invalidate_timeout: Duration,
    /// Files that lost their name while somebody had them open are kept until everybody known has come back.
    keeps_unlinked: AtomicBool,
}

impl Export {
    /// Reads what it needs of the server's options; opens nothing.
    pub(crate) fn new(
        name: &Arc<str>,
        child: Arc<dyn Xlator>,
        options: &ServerOptions,
        map: &OptionMap,
    ) -> Result<Export, SetupError> {
        let limits = Limits {
            clients_max: options.caching_clients_max as usize,
            inodes_max: options.caching_inodes_max as usize,
        };
        Ok(Export {
            name: name.clone(),
            child,
            auth: ArcSwap::from_pointee(Auth::from_options(name, map)?),
            caches: Caches::new(limits),
            sessions: OnceLock::new(),
            keys: Mutex::default(),
            entering: Mutex::default(),
            eos: options.eos,
            invalidate_timeout: options.invalidate_timeout.0,
            keeps_unlinked: AtomicBool::new(true),
        })
    }

    /// The rules of who may have it, from new options.
    pub(crate) fn read_auth(&self, map: &OptionMap) -> Result<Auth, Vec<OptionError>> {
        Auth::from_options(&self.name, map)
    }

    /// Opens its sessions, as a process before this one left them.
    ///
    /// # Errors
    /// A sentence: where, why, what next.
    pub(crate) fn open(&self, options: &ServerOptions, host: &Arc<dyn Host>) -> Result<(), String> {
        let folder = match (options.eos, &options.journal_directory) {
            (ExactlyOnce::Memory, _) => None,
            (_, Some(path)) => Some(path.0.join(&*self.name)),
            (_, None) => Some(self.work_folder(host)?),
        };
        let sessions = Sessions::open(options, folder.as_deref()).map_err(|why| format!("`{}`: {why}", self.name))?;
        assert!(self.sessions.set(Arc::new(sessions)).is_ok(), "an export is opened once");
        Ok(())
    }

    /// Where the brick below lets a server keep its records.
    fn work_folder(&self, host: &Arc<dyn Host>) -> Result<PathBuf, String> {
        use std::os::unix::ffi::OsStringExt;
        let refused = |why: String| {
            format!(
                "`eos` other than `memory` needs a folder for the journal, and `{}` has none ({why}); set \
                 `journal-directory`, or `eos memory`",
                self.name
            )
        };
        let cx = Cx::internal(ClientId(0), host.clone());
        let request = IpcReq {
            operation: ipc::WORK_FOLDER.to_owned(),
            payload: Bytes::from_static(ipc::SESSIONS.as_bytes()),
            xdata: Xdata::EMPTY,
        };
        // A brick answers questions about itself at once.
        let asked = pin!(self.child.ipc(&cx, &request)).poll(&mut Context::from_waker(Waker::noop()));
        match asked {
            Poll::Ready(Ok(reply)) => Ok(PathBuf::from(std::ffi::OsString::from_vec(reply.payload.to_vec()))),
            Poll::Ready(Err(error)) => Err(refused(error.to_string())),
            Poll::Pending => Err(refused("it did not answer at once".to_owned())),
        }
    }

    /// How often it has started.
    pub(crate) fn boot(&self) -> u64 {
        self.sessions().boot()
    }

    /// Decides what was under way when the process before this one died. Before anybody is let in.
    pub(crate) async fn decide(&self, host: &Arc<dyn Host>) {
        self.sessions().decide(&*self.child, host).await;
    }

    /// Takes a client in on `connection`, as session `index` of it; whether it was known.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn attach(
        &self,
        connection: &Arc<Connection>,
        index: u16,
        call: &AttachCall,
    ) -> Result<(Arc<Member>, bool), Refused> {
        let entering = self.entering.lock();
        let attached = self.sessions().attach(call)?;
        let mut fenced = Vec::new();
        let key = {
            let mut keys = self.keys.lock();
            let key = keys.key(&attached.session);
            let seat = keys.seats.get_mut(&key).expect("a key has a seat");
            seat.lines.retain(|(line, _, incarnation)| {
                let stays = !attached.fenced.contains(incarnation);
                if !stays {
                    fenced.push(line.clone());
                }
                stays
            });
            seat.lines.push((connection.clone(), index, call.incarnation));
            key
        };
        drop(entering);
        // Not under the mutex: their tasks come back for it.
        fenced.iter().for_each(|line| line.close());
        // What it keeps still counts: others' changes go on waiting for it, as when it had not been away.
        self.caches.tell_again(key, self.invalidate_timeout, &|notice: &_| self.tell(notice));
        let member = Member {
            client: call.client,
            key,
            session: attached.session,
            incarnation: call.incarnation,
            connection: connection.number(),
            index,
        };
        Ok((Arc::new(member), attached.known))
    }

    /// Notes that the connection of `member` is gone.
    pub(crate) fn detach(&self, member: &Member, heard: Instant) {
        let mut keys = self.keys.lock();
        if let Some(seat) = keys.seats.get_mut(&member.key) {
            seat.lines.retain(|(line, index, _)| (line.number(), *index) != (member.connection, member.index));
            seat.heard = seat.heard.max(heard);
        }
        drop(keys);
        self.sessions().detach(&member.session, member.incarnation);
    }

    /// Ends the incarnation of `member`, and with the last one its session.
    pub(crate) async fn goodbye(&self, member: &Member, host: &Arc<dyn Host>) {
        self.detach(member, Instant::now());
        if self.sessions().goodbye(&member.session, member.incarnation, &*self.child, host).await {
            self.end(member.key);
        }
    }

    /// Forgets a session that has ended. Whoever is still connected for it has to begin another.
    fn end(&self, key: SessionKey) {
        let seat = self.keys.lock().remove(key);
        self.caches.drop_session(key);
        seat.iter().flat_map(|seat| &seat.lines).for_each(|(line, _, _)| line.close());
    }

    /// Notes that `member` has dropped what a notice named.
    pub(crate) fn noticed(&self, member: &Member, id: u64) {
        if let Some(id) = NoticeId::new(id) {
            self.caches.acknowledged(member.key, id);
        }
    }

    /// Sends a notice to its session.
    pub(crate) fn tell(&self, notice: &Notice) -> Reach {
        let keys = self.keys.lock();
        let Some(seat) = keys.seats.get(&notice.session) else { return Reach::Gone };
        for (line, index, _) in &seat.lines {
            let said = Said::Invalidate { gfid: notice.gfid, names: notice.names };
            let prefix = Prefix::new(Kind::Notice, notice.id.get()).of(0, *index);
            if line.outbox.send(prefix, &said, Bytes::new()).is_ok() {
                return Reach::Sent;
            }
        }
        // Also of a connection that was closed just now, and whose task has not said so yet.
        Reach::Detached(seat.heard() + self.invalidate_timeout)
    }

    /// Cuts off a session that has not dropped what it was told to, if it is connected; returns until when what it keeps
    /// counts.
    pub(crate) fn cut_off(&self, silent: SessionKey) -> Option<Instant> {
        let mut keys = self.keys.lock();
        let seat = keys.seats.get_mut(&silent)?;
        let heard = seat.heard();
        seat.heard = heard;
        let lines = std::mem::take(&mut seat.lines);
        let client = seat.session.client();
        drop(keys);
        if !lines.is_empty() {
            let timeout_ms = self.invalidate_timeout.as_millis() as u64;
            tracing::warn!(%client, timeout_ms, "a client did not drop what it cached, and is cut off");
        }
        lines.iter().for_each(|(line, _, _)| line.close());
        Some(heard + self.invalidate_timeout)
    }

    /// Ends sessions whose client stays away, and lets go of what was kept for those that have come back.
    pub(crate) async fn keep_house(self: Arc<Export>, host: Arc<dyn Host>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(HOUSEKEEPING) => {}
                // An error says that the server is gone.
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            for client in self.sessions().expire(&*self.child, &host).await {
                tracing::info!(%client, "a client stayed away; its session has ended");
                let ended = self.keys.lock().ended(client);
                if let Some(key) = ended {
                    self.end(key);
                }
            }
            if self.keeps_unlinked.load(Ordering::Relaxed) && self.sessions().all_are_back() {
                self.keeps_unlinked.store(false, Ordering::Relaxed);
                self.drop_unlinked(&host).await;
            }
        }
    }

    async fn drop_unlinked(&self, host: &Arc<dyn Host>) {
        let cx = Cx::internal(ClientId(0), host.clone());
        let request = IpcReq { operation: ipc::DROP_UNLINKED.to_owned(), payload: Bytes::new(), xdata: Xdata::EMPTY };
        if let Err(error) = self.child.ipc(&cx, &request).await
            && error.errno() != brickwork_api::Errno::EOPNOTSUPP
        {
            tracing::warn!(%error, "files without a name stay until the next start");
        }
    }

    /// Writes down what is only in memory.
    pub(crate) async fn close(&self) {
        if let Some(sessions) = self.sessions.get() {
            sessions.close().await;
        }
    }

    /// For `status`: its sessions, each with the process that is connected.
    pub(crate) fn status(&self) -> Value {
        if self.sessions.get().is_none() {
            return json!({ "name": &*self.name, "eos": self.eos.word(), "sessions": [] });
        }
        let (cached, notices) = self.caches.counts();
        let mut status = self.sessions().status();
        let clients = status["clients"].take();
        let clients = clients.as_array().map_or(&[][..], Vec::as_slice);
        let lines = self.keys.lock().lines();
        let session = |client: &Value| session_status(client, client["client"].as_str().and_then(|id| lines.get(id)));
        json!({
            "name": &*self.name,
            "boot": self.boot(),
            "eos": self.eos.word(),
            "sessions": clients.iter().map(session).collect::<Vec<_>>(),
            "undecided": status["undecided"],
            "cached_objects": cached,
            "unacknowledged": notices,
        })
    }

    fn sessions(&self) -> &Arc<Sessions<Destination>> {
        self.sessions.get().expect("opened before anybody is let in")
    }
}

/// What is known of a session, and of the process at the other end of its first connection.
fn session_status(session: &Value, line: Option<&Arc<Connection>>) -> Value {
    let mut status = json!({
        "client": session["client"],
        "state": if line.is_some() { "attached" } else { "detached" },
        "since_s": line.map_or(session["away_s"].clone(), |line| json!(line.since().elapsed().as_secs())),
        "in_flight": session["under_way"],
        "opens": session["open"],
    });
    if let Some(line) = line {
        let (peer, process) = line.peer();
        status["address"] = json!(peer.to_string());
        status["host"] = json!(process.host);
        status["pid"] = json!(process.pid);
        status["process"] = json!(process.name);
    }
    status
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A client on one connection.
pub(crate) struct Member {
    pub(crate) client: ClientId,
    pub(crate) key: SessionKey,
    pub(crate) session: Arc<Session<Destination>>,
    incarnation: u32,
    /// The number of its connection, and its own there.
    connection: u64,
    index: u16,
}

/// Which sessions there are for [`Caches`], and where they can be told.
#[derive(Debug, Default)]
struct Keys {
    last: u32,
    by_client: HashMap<ClientId, SessionKey>,
    seats: HashMap<SessionKey, Seat>,
}

/// Where one session can be told something.
#[derive(Debug)]
struct Seat {
    session: Arc<Session<Destination>>,
    /// Connections, the session's number on each, and the incarnation.
    lines: Vec<(Arc<Connection>, u16, u32)>,
    /// The last sign of life of a connection that is gone.
    heard: Instant,
}

impl Member {
    /// Of its client, when it attached.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Cancels a wait that its client gives up.
    pub(crate) fn given_up(&self, slot: u32, sequence: u64) {
        if let Some(cancel) = self.session.slots().given_up(slot, sequence) {
            cancel.cancel();
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Seat {
    /// The last sign of life of its client.
    fn heard(&self) -> Instant {
        self.lines.iter().map(|(line, _, _)| line.heard()).fold(self.heard, Instant::max)
    }
}

impl Keys {
    /// The key of `session`. One that its client had before and that has ended keeps its own, until it is forgotten.
    fn key(&mut self, session: &Arc<Session<Destination>>) -> SessionKey {
        let client = session.client();
        if let Some(key) = self.by_client.get(&client)
            && self.seats.get(key).is_some_and(|seat| Arc::ptr_eq(&seat.session, session))
        {
            return *key;
        }
        // After 2^32 sessions of one process a number may come again; by then the one before it has long gone.
        self.last = self.last.wrapping_add(1);
        let key = SessionKey(self.last);
        self.by_client.insert(client, key);
        self.seats.insert(key, Seat { session: session.clone(), lines: Vec::new(), heard: Instant::now() });
        key
    }

    /// The key of a session of `client` that has ended; the client may have another since.
    fn ended(&self, client: ClientId) -> Option<SessionKey> {
        let is_it = |seat: &Seat| seat.session.client() == client && seat.session.has_ended();
        self.seats.iter().find(|(_, seat)| is_it(seat)).map(|(key, _)| *key)
    }

    fn remove(&mut self, key: SessionKey) -> Option<Seat> {
        let seat = self.seats.remove(&key)?;
        let client = seat.session.client();
        if self.by_client.get(&client) == Some(&key) {
            self.by_client.remove(&client);
        }
        Some(seat)
    }

    /// The first connection of every client that is connected, by the client's name for people.
    fn lines(&self) -> HashMap<String, Arc<Connection>> {
        let first =
            |seat: &Seat| seat.lines.first().map(|(line, _, _)| (seat.session.client().to_string(), line.clone()));
        self.seats.values().filter_map(first).collect()
    }
}

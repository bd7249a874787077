//! One served subvolume: its sessions, who keeps what, and who may have it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use brickwork_api::locks::{Attaching, ClientNotice};
use brickwork_api::options::{OptionError, OptionMap};
use brickwork_api::{Bytes, ClientId, Cx, FopError, Host, IpcReq, SetupError, Xdata, Xlator, ipc};
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::{AttachCall, Notice as Said, Refused, Why};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ask;
use crate::auth::Auth;
use crate::caches::{Caches, Limits, Notice, NoticeId, Reach, SessionKey};
use crate::connection::Connection;
use crate::fops::Destination;
use crate::locks::{Locks, failover_group};
use crate::options::{ExactlyOnce, ServerOptions};
use crate::seats::{Keys, Member};
use crate::session::{Abandoned, Ended, Origin, Sessions};

/// How often sessions that ended by time are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// One served subvolume.
pub(crate) struct Export {
    pub(crate) name: Arc<str>,
    pub(crate) child: Arc<dyn Xlator>,
    pub(crate) auth: ArcSwap<Auth>,
    pub(crate) caches: Caches,
    pub(crate) locks: Locks,
    sessions: OnceLock<Arc<Sessions<Destination>>>,
    keys: Mutex<Keys>,
    /// One client comes or goes at a time: of two incarnations of one, the later finds the line of the earlier, and the
    /// locks are told what became of it in the order in which it did. Taken before `keys`.
    passing: Mutex<()>,
    eos: ExactlyOnce,
    invalidate_timeout: Duration,
    locked_session_timeout: Duration,
    detach_timeout: Duration,
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
        host: &Arc<dyn Host>,
    ) -> Result<Export, SetupError> {
        let limits = Limits {
            clients_max: options.caching_clients_max as usize,
            inodes_max: options.caching_inodes_max as usize,
        };
        Ok(Export {
            name: name.clone(),
            locks: Locks::new(child.clone(), host.clone()),
            child,
            auth: ArcSwap::from_pointee(Auth::from_options(name, map)?),
            caches: Caches::new(limits),
            sessions: OnceLock::new(),
            keys: Mutex::default(),
            passing: Mutex::default(),
            eos: options.eos,
            invalidate_timeout: options.invalidate_timeout.0,
            locked_session_timeout: options.locked_session_timeout.0,
            detach_timeout: options.detach_timeout.0,
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
        let refused = |why: FopError| {
            format!(
                "`eos` other than `memory` needs a folder for the journal, and `{}` has none ({why}); set \
                 `journal-directory`, or `eos memory`",
                self.name
            )
        };
        let cx = Cx::internal(ClientId(0), host.clone());
        // A brick answers questions about itself at once.
        let folder = ask::at_once(&*self.child, &cx, ipc::WORK_FOLDER, Bytes::from_static(ipc::SESSIONS.as_bytes()));
        folder.map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))).map_err(refused)
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
        let attaching = self.attaching(connection, call)?;
        let passing = self.passing.lock();
        let attached = self.sessions().attach(call)?;
        // Before it can ask for anything.
        let told = self.locks.attached(call.client, &attaching);
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
            if told.is_ok() {
                seat.lines.push((connection.clone(), index, call.incarnation));
                seat.announced = true;
            }
            key
        };
        if told.is_err() {
            self.sessions().detach(&attached.session, call.incarnation);
            self.tell_if_gone(key);
        }
        drop(passing);
        // Not under the mutex: their tasks come back for it.
        fenced.iter().for_each(|line| line.close());
        told.map_err(|error| Refused {
            why: Why::Later,
            reason: format!("the locks of the client cannot be looked after: {error}"),
        })?;
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

    /// What the locks are told of a client that comes.
    fn attaching(&self, connection: &Connection, call: &AttachCall) -> Result<Attaching, Refused> {
        Ok(Attaching {
            incarnation: call.incarnation,
            keep: call.keep.clone(),
            detach_timeout_ms: u32::try_from(self.detach_timeout.as_millis()).unwrap_or(u32::MAX),
            host: connection.peer().1.host.clone(),
            group: failover_group(&call.xdata)?,
        })
    }

    /// Notes that the connection of `member` is gone.
    pub(crate) fn detach(&self, member: &Member, heard: Instant) {
        let _passing = self.passing.lock();
        self.leave(member, heard);
        self.tell_if_gone(member.key);
    }

    /// Takes the connection of `member` off its session. `passing` is held.
    fn leave(&self, member: &Member, heard: Instant) {
        let mut keys = self.keys.lock();
        if let Some(seat) = keys.seats.get_mut(&member.key) {
            seat.lines.retain(|(line, index, _)| (line.number(), *index) != (member.connection, member.index));
            seat.heard = seat.heard.max(heard);
        }
        drop(keys);
        self.sessions().detach(&member.session, member.incarnation);
    }

    /// Tells the locks of a client that has just lost its last connection. `passing` is held.
    fn tell_if_gone(&self, key: SessionKey) {
        let gone = self.keys.lock().newly_gone(key);
        if let Some((client, silent)) = gone {
            self.locks.detached(client, silent);
        }
    }

    /// Ends the incarnation of `member`, and with the last one its session.
    pub(crate) async fn goodbye(&self, member: &Member, host: &Arc<dyn Host>) {
        let ended = {
            let _passing = self.passing.lock();
            self.leave(member, Instant::now());
            let ended = self.sessions().goodbye(&member.session, member.incarnation);
            match &ended {
                Some(ended) => self.tell_end(ended),
                None => self.tell_if_gone(member.key),
            }
            ended
        };
        if let Some(ended) = ended {
            ended.put_away(&*self.child, host).await;
            self.end(member.key);
        }
    }

    /// Tells the locks that a session has ended. `passing` is held.
    ///
    /// That comes before what it has open is released: a release may take its time at the disk, others wait for the locks,
    /// and the client may begin its next session meanwhile, which must not lose what it takes to the end of this one.
    fn tell_end(&self, ended: &Ended<Destination>) {
        if let Some(seat) = self.keys.lock().of(ended.client()).filter(|seat| ended.is_of(&seat.session)) {
            seat.announced = false;
        }
        self.locks.ended(ended.client());
    }

    /// Lets go of a lock that was taken for a session which had ended by then: it would be nobody's.
    pub(crate) fn locked_too_late(&self, client: ClientId) {
        let _passing = self.passing.lock();
        if !self.sessions().knows(client) {
            self.locks.ended(client);
        }
    }

    /// Ends what `member` no longer waits for; `by` is the frame that says so.
    pub(crate) fn give_up(&self, member: &Member, slot: u32, sequence: u64, by: Origin) {
        match member.session.slots().give_up(slot, sequence, by) {
            Abandoned::Running(cancel) => cancel.cancel(),
            Abandoned::Unheard { superseded } => {
                if let Some(superseded) = superseded {
                    superseded.cancel();
                }
                self.locks.given_up(member.client, slot, sequence);
            }
            Abandoned::Nothing => {}
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

    /// Tells a client what its locks say unasked, on one connection of each of its incarnations; whoever cannot be told
    /// learns it when it comes back and claims what it holds.
    pub(crate) fn tell_client(&self, told: &ClientNotice) {
        let mut keys = self.keys.lock();
        let Some(seat) = keys.of(told.client) else { return };
        let said = Said::Lock(told.notice.clone());
        let mut reached = Vec::new();
        for (line, index, incarnation) in &seat.lines {
            let prefix = Prefix::new(Kind::Notice, 0).of(0, *index);
            if !reached.contains(incarnation) && line.outbox.send(prefix, &said, Bytes::new()).is_ok() {
                reached.push(*incarnation);
            }
        }
    }

    /// Cuts off a session that has not dropped what it was told to, if it is connected; returns until when what it keeps
    /// counts.
    pub(crate) fn cut_off(&self, silent: SessionKey) -> Option<Instant> {
        let timeout_ms = self.invalidate_timeout.as_millis() as u64;
        if let Some(client) = self.disconnect(silent, Duration::ZERO) {
            tracing::warn!(%client, timeout_ms, "a client did not drop what it cached, and is cut off");
        }
        let heard = self.keys.lock().seats.get(&silent)?.heard();
        Some(heard + self.invalidate_timeout)
    }

    /// Cuts off clients that are connected and silent for so long that they trust their locks no more. Others wait for
    /// those, and a dead machine does not close its connections.
    fn cut_off_silent(&self) {
        if !self.locks.are_there() {
            return;
        }
        let silent = self.keys.lock().silent(self.detach_timeout);
        let timeout_ms = self.detach_timeout.as_millis() as u64;
        for client in silent.into_iter().filter_map(|key| self.disconnect(key, self.detach_timeout)) {
            tracing::warn!(%client, timeout_ms, "a client says nothing any more, and is cut off");
        }
    }

    /// Closes the connections of a session that has been silent for `silence`; whose it is, if it had any.
    fn disconnect(&self, key: SessionKey, silence: Duration) -> Option<ClientId> {
        let passing = self.passing.lock();
        let (lines, client) = {
            let mut keys = self.keys.lock();
            let client = keys.seats.get(&key)?.session.client();
            (keys.disconnect(key, silence), client)
        };
        self.tell_if_gone(key);
        drop(passing);
        lines.iter().for_each(|line| line.close());
        (!lines.is_empty()).then_some(client)
    }

    /// Cuts off who is silent, ends sessions whose client stays away, and lets go of what was kept for those that have come
    /// back.
    pub(crate) async fn keep_house(self: Arc<Export>, host: Arc<dyn Host>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(HOUSEKEEPING) => {}
                // An error says that the server is gone.
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            self.cut_off_silent();
            for client in self.sessions().overdue() {
                let Some(ended) = self.end_overdue(client) else { continue };
                ended.put_away(&*self.child, &host).await;
                tracing::info!(%client, "a client stayed away; its session has ended");
                let ended = self.keys.lock().ended(client);
                if let Some(key) = ended {
                    self.end(key);
                }
            }
            self.sessions().rotate_if_due(&host).await;
            if self.keeps_unlinked.load(Ordering::Relaxed) && self.sessions().all_are_back() {
                self.keeps_unlinked.store(false, Ordering::Relaxed);
                self.drop_unlinked(&host).await;
            }
        }
    }

    /// Ends the session of a client that has been away for too long: for much longer if it holds locks or waits for some.
    fn end_overdue(&self, client: ClientId) -> Option<Ended<Destination>> {
        let _passing = self.passing.lock();
        let away = self.sessions().away(client)?;
        if away < self.locked_session_timeout && self.locks.hold(client) {
            return None;
        }
        let ended = self.sessions().end_overdue(client)?;
        self.tell_end(&ended);
        Some(ended)
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

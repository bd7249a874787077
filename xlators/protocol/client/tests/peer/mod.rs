//! A brick whose every word is the test's, and a client that speaks to it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::time::Duration;

use brickwork_api::locks::{CLAIM, Claims, Verdict};
use brickwork_api::*;
use brickwork_graph::host::TokioHost;
use brickwork_wire::connection::{self, Inbox, decode};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::message::*;
use brickwork_wire::outbox::Outbox;
use brickwork_wire::stream::Stream;
use brickwork_wire::{login, payload};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(10);

/// Waits for what must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} has not come within {SOON:?}"))
}

/// Where clients knock.
pub struct Door(TcpListener);

impl Door {
    pub async fn open() -> Door {
        Door(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next connection.
    pub async fn accept(&self) -> Peer {
        let (socket, _) = soon("a connection", self.0.accept()).await.unwrap();
        let (outbox, inbox) = connection::open(Stream::Tcp(socket));
        Peer::new(outbox, inbox)
    }

    /// The next connection, let in: the brick has started `boot` times.
    pub async fn admit(&self, boot: u64) -> Peer {
        let mut peer = self.accept().await;
        peer.greet().await;
        peer.choose(boot).await;
        peer
    }
}

/// The brick's end of a connection.
pub struct Peer {
    pub outbox: Outbox,
    pub inbox: Inbox,
    /// Whether pings are answered while something else is waited for.
    pub pings: bool,
    /// The client knows that this brick keeps no locks: it says nothing when it has nothing to claim.
    pub lockless: bool,
}

/// What a brick says of itself at an attach.
pub const PATIENCE_MS: u32 = 60_000;

/// An attached session without surprises.
pub fn attached(session: u16, known: bool) -> Attached {
    Attached {
        session,
        known,
        detach_timeout_ms: PATIENCE_MS,
        invalidate_timeout_ms: PATIENCE_MS,
        slots: 1024,
        waiters_max: 65_536,
        xdata: Xdata::EMPTY,
    }
}

impl Peer {
    pub fn new(outbox: Outbox, inbox: Inbox) -> Peer {
        Peer { outbox, inbox, pings: true, lockless: false }
    }

    /// The next frame that is no ping.
    pub async fn frame(&mut self) -> Frame {
        loop {
            let frame = soon("a frame", self.inbox.next()).await.unwrap().expect("the client has ended the connection");
            if frame.prefix.kind != Kind::Ping {
                return frame;
            }
            if self.pings {
                self.send(Prefix::new(Kind::Pong, frame.prefix.id), &());
            }
        }
    }

    /// Waits until the client has ended the connection, whatever it says before.
    pub async fn ended(&mut self) {
        soon("the end of the connection", async { while let Ok(Some(_)) = self.inbox.next().await {} }).await;
    }

    pub fn send<H: serde::Serialize + ?Sized>(&self, prefix: Prefix, header: &H) {
        self.outbox.send(prefix, header, Bytes::new()).expect("the connection is there");
    }

    pub async fn call(&mut self) -> (u64, Call) {
        let frame = self.frame().await;
        assert_eq!(frame.prefix.kind, Kind::Call, "a call");
        (frame.prefix.id, decode(&frame.header).unwrap())
    }

    pub fn answer(&self, id: u64, answer: Result<Answer, Refused>) {
        self.send(Prefix::new(Kind::Answer, id), &answer);
    }

    pub fn refuse(&self, id: u64, why: Why, reason: &str) {
        self.answer(id, Err(Refused { why, reason: reason.to_owned() }));
    }

    /// Reads the greeting and answers it.
    pub async fn greet(&mut self) -> Hello {
        let (id, call) = self.call().await;
        let Call::Hello(hello) = call else { panic!("{call:?} instead of a greeting") };
        assert_eq!(hello.magic, MAGIC);
        let welcome = Welcome {
            version: Version::CURRENT,
            features: 0,
            process: Process::default(),
            nonce: [7; 32],
            xdata: Xdata::EMPTY,
        };
        self.answer(id, Ok(Answer::Welcome(welcome)));
        hello
    }

    /// Reads the choice of a subvolume and answers it.
    pub async fn choose(&mut self, boot: u64) -> SubvolumeCall {
        let (id, call) = self.call().await;
        let Call::Subvolume(call) = call else { panic!("{call:?} instead of a subvolume") };
        self.answer(id, Ok(Answer::Subvolume(Subvolume { boot, xdata: Xdata::EMPTY })));
        self.inbox.let_in();
        call
    }

    /// Reads an attach and answers it, as a brick that keeps no locks.
    pub async fn attach(&mut self, answer: Attached) -> AttachCall {
        let call = self.attach_only(answer).await;
        if !std::mem::replace(&mut self.lockless, true) {
            let (to, claims) = self.claims().await;
            assert_eq!(claims, Claims { claims: Vec::new(), complete: true });
            self.fail(to, &Errno::EOPNOTSUPP.into());
        }
        call
    }

    /// Reads a question for locks.
    pub async fn claims(&mut self) -> (Prefix, Claims) {
        let (to, head, request) = self.request::<fop::Ipc>().await;
        assert_eq!((request.operation.as_str(), head.sequence), (CLAIM, 0));
        (to, decode(&request.payload).unwrap())
    }

    pub fn verdicts(&self, to: Prefix, verdicts: &[Verdict]) {
        let payload = brickwork_codec::encode(verdicts).into();
        self.reply(to, &IpcReply { payload, xdata: Xdata::EMPTY });
    }

    /// Reads an attach and answers it.
    pub async fn attach_only(&mut self, answer: Attached) -> AttachCall {
        let (id, call) = self.call().await;
        let Call::Attach(call) = call else { panic!("{call:?} instead of an attach") };
        self.answer(id, Ok(Answer::Attached(answer)));
        call
    }

    /// Reads a request of the kind `F`.
    pub async fn request<F: FopType>(&mut self) -> (Prefix, RequestHead, F::Request) {
        let frame = self.frame().await;
        assert_eq!((frame.prefix.kind, frame.prefix.fop), (Kind::Request, F::KIND as u8), "a {}", F::KIND.name());
        let (head, mut request): (RequestHead, F::Request) = decode(&frame.header).unwrap();
        assert!(payload::give(&mut request, frame.payload));
        (frame.prefix, head, request)
    }

    pub fn reply<T: serde::Serialize + 'static>(&self, to: Prefix, reply: &T) {
        let prefix = Prefix::new(Kind::Reply, to.id).of(to.fop, to.session);
        self.outbox.send(prefix, reply, payload::of(reply)).unwrap();
    }

    pub fn fail(&self, to: Prefix, error: &FopError) {
        self.send(Prefix::new(Kind::Failure, to.id).of(to.fop, to.session), error);
    }

    pub fn cut(&self) {
        self.outbox.close();
    }
}

/// Whether `shown` proves the password `secret` of `anna` to [`Peer::greet`].
pub fn proves(call: &SubvolumeCall, hello: &Hello, password: &str) -> bool {
    let Some(shown) = &call.login else { return false };
    let nonces = login::Nonces { server: [7; 32], client: hello.nonce };
    let claim = login::Claim { user: &shown.user, subvolume: &call.name };
    login::is_proof(&shown.proof, password, &nonces, &claim)
}

/// A started client, and what it says upward.
pub struct Subject {
    pub xlator: Arc<dyn Xlator>,
    pub events: mpsc::UnboundedReceiver<Event>,
}

impl Subject {
    /// Speaks to the brick behind `door`, with these options on top.
    pub fn at(door: &Door, options: &[(&str, &str)]) -> Subject {
        let port = door.port().to_string();
        let address = [("remote-host", "127.0.0.1"), ("remote-port", port.as_str()), ("remote-subvolume", "b")];
        Subject::with(&address.into_iter().chain(options.iter().copied()).collect::<Vec<_>>())
    }

    pub fn with(options: &[(&str, &str)]) -> Subject {
        let (sender, events) = mpsc::unbounded_channel();
        let up = Upward::new(move |event| {
            // A test that is over no longer listens.
            let _ = sender.send(event);
        });
        let setup = Setup {
            name: "client-0".into(),
            options: options.iter().copied().collect(),
            children: Vec::new(),
            subvolumes: Vec::new(),
            up,
            host: Arc::new(TokioHost::new(tokio::runtime::Handle::current())),
        };
        let xlator = (brickwork_client::TYPE.prepare)(setup).unwrap();
        xlator.start().unwrap();
        Subject { xlator, events }
    }

    pub async fn event(&mut self) -> Event {
        soon("an event", self.events.recv()).await.unwrap()
    }

    /// Begins a fop beside the test.
    pub fn begin<F: FopType>(&self, cx: &Cx, request: F::Request) -> tokio::task::JoinHandle<FopResult<F::Reply>> {
        let (xlator, cx) = (self.xlator.clone(), cx.clone());
        tokio::spawn(async move { F::call(&*xlator, &cx, &request).await })
    }
}

/// Request `sequence` of `slot`.
pub fn numbered(cx: &Cx, slot: u32, sequence: u64) -> Cx {
    Cx { request: RequestId { slot, sequence, ..cx.request }, ..cx.clone() }
}

pub fn stat() -> StatReq {
    StatReq { target: Gfid::ROOT.into(), xdata: Xdata::EMPTY }
}

pub fn mkdir(gfid: Gfid) -> MkdirReq {
    let entry = brickwork_testkit::client::entry(Gfid::ROOT, "d");
    MkdirReq { entry, gfid, mode: 0o755, umask: 0, xdata: Xdata::EMPTY }
}

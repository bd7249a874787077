//! A peer that speaks the wire's words one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use brickwork_api::*;
use brickwork_codec::decode;
use brickwork_testkit::client::{entry, name};
use brickwork_wire::connection::{Inbox, WireError, open};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::login::{Claim, Nonces, proof};
use brickwork_wire::message::*;
use brickwork_wire::outbox::Outbox;
use brickwork_wire::payload;
use brickwork_wire::stream::Stream;
use serde::Serialize;
use tokio::net::{TcpStream, UnixStream};

use crate::world::{LEAF, World};

/// What the peer throws into proofs.
const NONCE: Nonce = [7; 32];
/// What a client shows for its id, unless a test says otherwise.
pub const SECRET: Nonce = [9; 32];

/// One connection, and the session on it.
pub struct Peer {
    pub outbox: Outbox,
    inbox: Inbox,
    /// What came while something else was waited for.
    aside: VecDeque<Frame>,
    next_id: u64,
    pub client: ClientId,
    /// What the server said of the session that was attached last.
    pub attached: Option<Attached>,
    /// Of slot 0, which [`Peer::fop`] takes.
    sequence: u64,
    /// For whom it asks.
    pub caller: Credentials,
}

/// Connects to `place` and says nothing.
pub async fn stream(place: &str) -> Stream {
    match place.strip_prefix("unix:") {
        Some(path) => Stream::Unix(UnixStream::connect(path).await.expect("the server listens")),
        None => Stream::Tcp(TcpStream::connect(place).await.expect("the server listens")),
    }
}

/// A greeting in `version`.
pub fn hello(version: Version) -> Call {
    let process = Process { host: "far".to_owned(), pid: 77, name: "peer".to_owned(), software: "0".to_owned() };
    Call::Hello(Hello { magic: MAGIC, version, features: 0, process, nonce: NONCE, xdata: Xdata::EMPTY })
}

/// The choice of the subvolume `name`, without a login.
pub fn choice(name: &str) -> Call {
    Call::Subvolume(SubvolumeCall { name: name.to_owned(), login: None, xdata: Xdata::EMPTY })
}

/// The attach of a client that was not here before.
pub fn attach_call(client: ClientId) -> AttachCall {
    AttachCall { client, secret: SECRET, incarnation: 1, keep: Vec::new(), join: false, xdata: Xdata::EMPTY }
}

impl Peer {
    /// Connected, not greeted.
    pub async fn connect(place: &str) -> Peer {
        let (outbox, mut inbox) = open(stream(place).await);
        inbox.let_in();
        Peer {
            outbox,
            inbox,
            aside: VecDeque::new(),
            next_id: 1,
            client: ClientId::random(),
            attached: None,
            sequence: 0,
            caller: Credentials { uid: 0, gid: 0, pid: 5, groups: Arc::new([]) },
        }
    }

    /// Let in, with no client attached.
    pub async fn greeted(world: &World) -> Peer {
        let mut peer = Peer::connect(&world.place()).await;
        peer.choose(None).await.expect("everybody may");
        peer
    }

    /// A new client in its first session.
    pub async fn attached(world: &World) -> Peer {
        let mut peer = Peer::greeted(world).await;
        peer.attach(attach_call(peer.client)).await.expect("a new client");
        peer
    }

    /// A new connection of the client of `former`, as its next incarnation; its requests go on where they were.
    pub async fn again(world: &World, former: &Peer, incarnation: u32) -> Peer {
        let mut peer = Peer::greeted(world).await;
        (peer.client, peer.sequence) = (former.client, former.sequence);
        peer.attach(AttachCall { incarnation, ..attach_call(peer.client) }).await.expect("a client that is known");
        peer
    }

    /// Greets and chooses the subvolume, as `user` with `password` where there is one.
    pub async fn choose(&mut self, login: Option<(&str, &str)>) -> Result<Subvolume, Refused> {
        self.choose_of(LEAF, login).await
    }

    /// The same with the subvolume `name`.
    pub async fn choose_of(&mut self, name: &str, login: Option<(&str, &str)>) -> Result<Subvolume, Refused> {
        let server = match self.call(&hello(Version::CURRENT)).await? {
            Answer::Welcome(welcome) => welcome.nonce,
            other => panic!("a greeting is answered by {other:?}"),
        };
        let login = login.map(|(user, password)| {
            let nonces = Nonces { server, client: NONCE };
            Login { user: user.to_owned(), proof: proof(password, &nonces, &Claim { user, subvolume: name }) }
        });
        let call = SubvolumeCall { name: name.to_owned(), login, xdata: Xdata::EMPTY };
        match self.call(&Call::Subvolume(call)).await? {
            Answer::Subvolume(subvolume) => Ok(subvolume),
            other => panic!("a choice is answered by {other:?}"),
        }
    }

    pub async fn attach(&mut self, call: AttachCall) -> Result<Attached, Refused> {
        match self.call(&Call::Attach(call)).await? {
            Answer::Attached(attached) => {
                self.attached = Some(attached.clone());
                Ok(attached)
            }
            other => panic!("an attach is answered by {other:?}"),
        }
    }

    pub async fn goodbye(&mut self, session: u16) -> Result<Answer, Refused> {
        self.call(&Call::Goodbye(GoodbyeCall { session, xdata: Xdata::EMPTY })).await
    }

    /// The number of its session.
    pub fn session(&self) -> u16 {
        self.attached.as_ref().expect("a session").session
    }

    pub fn send(&self, prefix: Prefix, header: &impl Serialize) {
        // A test that looks for the end of a connection may come too late to send.
        let _ = self.outbox.send(prefix, header, Bytes::new());
    }

    /// Sends a call and waits for its answer.
    pub async fn call(&mut self, call: &Call) -> Result<Answer, Refused> {
        let id = self.id();
        self.send(Prefix::new(Kind::Call, id), call);
        let frame = self.find(|frame| frame.prefix.kind == Kind::Answer && frame.prefix.id == id).await;
        decode(&frame.expect("an answer").header).expect("an answer")
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The head of a request of its caller.
    pub fn head(&self, slot: u32, sequence: u64) -> RequestHead {
        let Credentials { uid, gid, pid, groups } = self.caller.clone();
        RequestHead { slot, sequence, lk_owner: LkOwner::from_u64(3), uid, gid, pid, groups }
    }

    /// Sends a request and returns the id that its answer will carry.
    pub fn ask<F: FopType>(&mut self, slot: u32, sequence: u64, request: &F::Request) -> u64 {
        let id = self.id();
        let prefix = Prefix::new(Kind::Request, id).of(F::KIND as u8, self.session());
        let _ = self.outbox.send(prefix, &(self.head(slot, sequence), request), payload::of(request));
        id
    }

    /// Waits for the answer to the request `id`.
    pub async fn answer<F: FopType>(&mut self, id: u64) -> FopResult<F::Reply> {
        let is_it = |frame: &Frame| matches!(frame.prefix.kind, Kind::Reply | Kind::Failure) && frame.prefix.id == id;
        let frame = self.find(is_it).await.expect("an answer");
        assert_eq!((frame.prefix.fop, frame.prefix.session), (F::KIND as u8, self.session()));
        if frame.prefix.kind == Kind::Failure {
            return Err(decode(&frame.header).expect("an error"));
        }
        let mut reply: F::Reply = decode(&frame.header).expect("a reply");
        assert!(payload::give(&mut reply, frame.payload), "a payload beside a {}", F::KIND.name());
        Ok(reply)
    }

    /// Whether the answer to `id` is here already, when everything that could go on has gone on.
    pub async fn is_answered(&mut self, id: u64) -> bool {
        // The server answers pings in the order in which they came, and other tasks go on meanwhile.
        for _ in 0..20 {
            self.ping().await;
        }
        self.aside.iter().any(|frame| frame.prefix.id == id)
    }

    /// Goes on in slot 0 after `sequence`, which another connection of the client has come to.
    pub fn sequence_from(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Does one fop in slot 0.
    pub async fn fop<F: FopType>(&mut self, request: &F::Request) -> FopResult<F::Reply> {
        self.sequence += 1;
        let id = self.ask::<F>(0, self.sequence, request);
        self.answer::<F>(id).await
    }

    pub async fn stat(&mut self, gfid: Gfid) -> FopResult<StatReply> {
        self.fop::<fop::Stat>(&StatReq { target: gfid.into(), xdata: Xdata::EMPTY }).await
    }

    pub async fn lookup(&mut self, text: &str) -> FopResult<LookupReply> {
        let target = Locate::Entry(entry(Gfid::ROOT, text));
        self.fop::<fop::Lookup>(&LookupReq { target, xdata: Xdata::EMPTY }).await
    }

    pub async fn mkdir(&mut self, text: &str) -> FopResult<MkdirReply> {
        self.fop::<fop::Mkdir>(&mkdir(text)).await
    }

    pub async fn create(&mut self, text: &str, open: u64) -> FopResult<OpenFile> {
        let file = OpenFile { gfid: Gfid::random(), open: OpenId(open) };
        let request = CreateReq {
            entry: entry(Gfid::ROOT, text),
            gfid: file.gfid,
            open: file.open,
            flags: 2,
            mode: 0o600,
            umask: 0,
            xdata: Xdata::EMPTY,
        };
        self.fop::<fop::Create>(&request).await.map(|_| file)
    }

    pub async fn write(&mut self, file: OpenFile, offset: u64, data: &[u8]) -> FopResult<WriteReply> {
        self.fop::<fop::Write>(&write(file, offset, data)).await
    }

    /// A round trip that asks nothing.
    pub async fn ping(&mut self) {
        let id = self.id();
        self.send(Prefix::new(Kind::Ping, id), &());
        let pong = self.find(|frame| frame.prefix.kind == Kind::Pong && frame.prefix.id == id).await;
        assert!(pong.is_some(), "the connection has ended");
    }

    /// The next notice.
    pub async fn notice(&mut self) -> (u64, Notice) {
        let frame = self.find(|frame| frame.prefix.kind == Kind::Notice).await.expect("a notice");
        (frame.prefix.id, decode(&frame.header).expect("a notice"))
    }

    /// Whether a notice has come, after everything that was sent before this.
    pub async fn has_notice(&mut self) -> bool {
        self.ping().await;
        self.aside.iter().any(|frame| frame.prefix.kind == Kind::Notice)
    }

    /// Says that it has dropped what the notice `id` named.
    pub fn noticed(&self, id: u64) {
        self.send(Prefix::new(Kind::Noticed, id).of(0, self.session()), &());
    }

    /// Gives up a wait, and waits no more for its answer.
    pub fn cancel(&self, slot: u32, sequence: u64) {
        self.cancel_as(0, slot, sequence);
    }

    /// Gives up a wait whose answer, of the request `id`, is still waited for.
    pub fn cancel_as(&self, id: u64, slot: u32, sequence: u64) {
        self.send(Prefix::new(Kind::Cancel, id).of(0, self.session()), &GivenUp { slot, sequence });
    }

    /// The first frame that `is_it`; `None` when the connection ends before. What else comes is kept.
    async fn find(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        if let Some(place) = self.aside.iter().position(&is_it) {
            return self.aside.remove(place);
        }
        loop {
            let frame = self.next().await?;
            if is_it(&frame) {
                return Some(frame);
            }
            self.aside.push_back(frame);
        }
    }

    /// The next frame of any kind; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        match self.inbox.next().await {
            Ok(frame) => frame,
            // An end is an end, however it came.
            Err(WireError::Lost(_) | WireError::CutShort) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the server ends the connection, whatever it says before.
    pub async fn ended(&mut self) {
        while self.next().await.is_some() {}
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// A new directory under the root.
pub fn mkdir(text: &str) -> MkdirReq {
    MkdirReq { entry: entry(Gfid::ROOT, text), gfid: Gfid::random(), mode: 0o755, umask: 0, xdata: Xdata::EMPTY }
}

pub fn write(file: OpenFile, offset: u64, data: &[u8]) -> WriteReq {
    WriteReq {
        file,
        offset,
        append: false,
        kill_set_id: false,
        data: Bytes::copy_from_slice(data),
        xdata: Xdata::EMPTY,
    }
}

/// A lock call on the root; with `wait` it waits.
pub fn lock(wait: bool, kind: LkType) -> LkReq {
    let command = if wait { LkCommand::SetWait } else { LkCommand::Set };
    let file = OpenFile { gfid: Gfid::ROOT, open: OpenId(1) };
    let range = LkRange { kind, start: 0, end: 1, pid: 1 };
    LkReq { file, command, kind: LkKind::Posix, range, xdata: Xdata::EMPTY }
}

/// The object under `text` in the root is removed.
pub fn unlink(text: &str) -> UnlinkReq {
    UnlinkReq { entry: Entry { parent: Gfid::ROOT, name: name(text) }, xdata: Xdata::EMPTY }
}

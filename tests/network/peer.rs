//! A peer that speaks the wire's words one by one, by hand: the right ones, or whatever a test wants the brick to hear.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::{ClientId, FopKind, LkOwner, Xdata};
use brickwork_wire::frame::{Frame, FrameLimits, Kind, Prefix, take};
use brickwork_wire::login::{Claim, Nonces, proof};
use brickwork_wire::message::{
    Answer, AttachCall, Attached, Call, Hello, Login, MAGIC, Nonce, Process, Refused, RequestHead, Subvolume,
    SubvolumeCall, Version, Welcome,
};
use bytes::BytesMut;
use serde::Serialize;

use crate::common::brick::SUBVOLUME;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the peer throws into proofs.
pub const NONCE: Nonce = [7; 32];

/// One connection.
pub struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
    next_id: u64,
}

/// What the brick did.
#[derive(Debug)]
pub enum Heard {
    /// It sent this.
    Frame(Frame),
    /// It ended the connection.
    End,
}

impl Peer {
    pub fn connect(brick: SocketAddr) -> Peer {
        let stream = TcpStream::connect(brick).expect("the brick listens");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
        Peer { stream, buffer: BytesMut::new(), next_id: 1 }
    }

    /// The socket, for what has no words.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes that may be anything; whether the brick still took them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame.
    #[track_caller]
    pub fn put(&mut self, prefix: Prefix, header: &(impl Serialize + ?Sized), payload: &[u8]) {
        let bytes = frame(prefix, header, payload);
        assert!(self.send(&bytes), "the brick takes {prefix:?}");
    }

    /// The next frame, or the end.
    #[track_caller]
    pub fn hear(&mut self) -> Heard {
        loop {
            if let Some(frame) = take(&mut self.buffer, FrameLimits::FULL).expect("a frame") {
                return Heard::Frame(frame);
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(length) if length > 0 => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    panic!("the brick neither answers nor ends the connection in {PATIENCE:?}")
                }
                // An end is an end, by whichever word of TCP.
                Ok(_) | Err(_) => return Heard::End,
            }
        }
    }

    /// The brick ends the connection, whatever it says before that.
    #[track_caller]
    pub fn expect_end(&mut self) {
        while let Heard::Frame(_) = self.hear() {}
    }

    /// Calls; `None` when the brick ends the connection instead.
    #[track_caller]
    pub fn call(&mut self, call: &Call) -> Option<Result<Answer, Refused>> {
        let id = self.next_id;
        self.next_id += 1;
        if !self.send(&frame(Prefix::new(Kind::Call, id), call, &[])) {
            return None;
        }
        loop {
            match self.hear() {
                Heard::Frame(frame) if frame.prefix.kind == Kind::Answer && frame.prefix.id == id => {
                    return Some(brickwork_codec::decode(&frame.header).expect("an answer"));
                }
                // Notices may come in between.
                Heard::Frame(_) => (),
                Heard::End => return None,
            }
        }
    }

    /// The right greeting.
    #[track_caller]
    pub fn welcome(&mut self) -> Welcome {
        match self.call(&Call::Hello(hello(Version::CURRENT))) {
            Some(Ok(Answer::Welcome(welcome))) => welcome,
            other => panic!("the greeting is answered by {other:?}"),
        }
    }

    /// Greets and chooses the subvolume, as `user` with `password` where there is one.
    #[track_caller]
    pub fn choose(&mut self, login: Option<(&str, &str)>) -> Result<Subvolume, Refused> {
        let server = self.welcome().nonce;
        let login = login.map(|(user, password)| {
            let nonces = Nonces { server, client: NONCE };
            Login { user: user.to_owned(), proof: proof(password, &nonces, &Claim { user, subvolume: SUBVOLUME }) }
        });
        let call = SubvolumeCall { name: SUBVOLUME.to_owned(), login, xdata: Xdata::EMPTY };
        match self.call(&Call::Subvolume(call)).expect("an answer") {
            Ok(Answer::Subvolume(subvolume)) => Ok(subvolume),
            Ok(other) => panic!("the choice is answered by {other:?}"),
            Err(refused) => Err(refused),
        }
    }

    /// Attaches `client`.
    #[track_caller]
    pub fn attach(&mut self, client: ClientId, secret: Nonce, incarnation: u32) -> Result<Attached, Refused> {
        let call = AttachCall { client, secret, incarnation, keep: Vec::new(), join: false, xdata: Xdata::EMPTY };
        match self.call(&Call::Attach(call)).expect("an answer") {
            Ok(Answer::Attached(attached)) => Ok(attached),
            Ok(other) => panic!("the attach is answered by {other:?}"),
            Err(refused) => Err(refused),
        }
    }

    /// A peer that is in, with the number of its session.
    #[track_caller]
    pub fn attached(brick: SocketAddr) -> (Peer, u16) {
        let mut peer = Peer::connect(brick);
        peer.choose(None).expect("everybody may");
        let attached = peer.attach(ClientId::random(), [1; 32], 1).expect("a new client");
        (peer, attached.session)
    }
}

/// A greeting in `version`.
pub fn hello(version: Version) -> Hello {
    let process = Process {
        host: "test".to_owned(),
        pid: std::process::id(),
        name: "tests/network".to_owned(),
        software: "0.0.0".to_owned(),
    };
    Hello { magic: MAGIC, version, features: 0, process, nonce: NONCE, xdata: Xdata::EMPTY }
}

/// A whole frame, as it travels.
pub fn frame(prefix: Prefix, header: &(impl Serialize + ?Sized), payload: &[u8]) -> Vec<u8> {
    let header = brickwork_codec::encode(header);
    let prefix = Prefix { header: header.len() as u32, payload: payload.len() as u32, ..prefix };
    [&prefix.to_bytes(), &header[..], payload].concat()
}

/// A request of `kind` in `session` under a number of its own, which nobody repeats.
pub fn request(kind: FopKind, session: u16, id: u64, request: &impl Serialize, payload: &[u8]) -> Vec<u8> {
    let head = RequestHead {
        slot: 0,
        sequence: 0,
        lk_owner: LkOwner::default(),
        uid: 0,
        gid: 0,
        pid: std::process::id(),
        groups: Arc::from([0]),
    };
    frame(Prefix::new(Kind::Request, id).of(kind as u8, session), &(head, request), payload)
}

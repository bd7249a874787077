//! The first words on a connection, until the peer has shown that it may have a subvolume.
//!
//! Nobody who has not done so holds more than a greeting's memory, nor longer than `handshake-timeout`.

use std::sync::Arc;

use brickwork_api::Xdata;
use brickwork_wire::connection::{Inbox, WireError, decode};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::login::Nonces;
use brickwork_wire::message::{
    Answer, Call, Hello, MAGIC, Process, Refused, Subvolume, SubvolumeCall, Version, Welcome, Why, agree,
};
use brickwork_wire::outbox::Outbox;
use bytes::Bytes;

use crate::auth::{Login, Peer};
use crate::export::Export;
use crate::server::Server;

/// Volfiles that one connection may ask for before it chooses a subvolume.
const VOLFILES_MAX: u32 = 16;
/// Bytes of answers that a peer may leave unread; nothing more is read from it then.
const UNREAD_MAX: usize = 16 << 10;

/// A peer that was let in.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) export: Arc<Export>,
    pub(crate) process: Process,
}

/// Speaks the first words; `None` when the peer only wanted a volfile and has gone.
///
/// # Errors
/// What ends the connection; a peer that was refused has been told.
pub(crate) async fn greet(
    server: &Server,
    peer: &Peer,
    outbox: &Outbox,
    inbox: &mut Inbox,
) -> Result<Option<Greeted>, WireError> {
    let (id, hello) = match next_call(outbox, inbox).await? {
        Some((id, Call::Hello(hello))) => (id, hello),
        Some((id, _)) => return Err(refuse(outbox, id, Why::Protocol, "a connection begins with a greeting")),
        None => return Ok(None),
    };
    let nonces = welcome(server, outbox, id, &hello)?;
    for _ in 0..VOLFILES_MAX {
        let Some((id, call)) = next_call(outbox, inbox).await? else { return Ok(None) };
        match call {
            Call::Volfile(call) => {
                let answer = match server.lets_ask(peer) {
                    Ok(()) => server.volumes.volfile(&*server.host, &call.volume).await.map(Answer::Volfile),
                    Err(refused) => Err(refused),
                };
                answer_call(outbox, id, &answer)?;
            }
            Call::Subvolume(call) => {
                let export = match choose(server, peer, &nonces, &call) {
                    Ok(export) => export,
                    Err(refused) => return Err(refuse(outbox, id, refused.why, &refused.reason)),
                };
                let said = Subvolume { boot: export.boot(), xdata: Xdata::EMPTY };
                answer_call(outbox, id, &Ok(Answer::Subvolume(said)))?;
                inbox.let_in();
                return Ok(Some(Greeted { export, process: hello.process }));
            }
            _ => return Err(refuse(outbox, id, Why::Protocol, "a subvolume has to be chosen first")),
        }
    }
    Ok(None)
}

fn welcome(server: &Server, outbox: &Outbox, id: u64, hello: &Hello) -> Result<Nonces, WireError> {
    if hello.magic != MAGIC {
        return Err(refuse(
            outbox,
            id,
            Why::Version,
            "this is a Brickwork brick, and that was no greeting of Brickwork",
        ));
    }
    let version = match agree(Version::CURRENT, hello.version) {
        Ok(version) => version,
        Err(why) => return Err(refuse(outbox, id, Why::Version, &format!("the client {why}"))),
    };
    let mut ours = [0; 32];
    if let Err(error) = getrandom::fill(&mut ours) {
        tracing::error!(%error, "no random numbers: nobody can be let in");
        return Err(refuse(outbox, id, Why::Later, "the brick has no random numbers"));
    }
    let process = server.process.clone();
    let welcome = Welcome { version, features: 0, process, nonce: ours, xdata: Xdata::EMPTY };
    answer_call(outbox, id, &Ok(Answer::Welcome(welcome)))?;
    Ok(Nonces { server: ours, client: hello.nonce })
}

fn choose(server: &Server, peer: &Peer, nonces: &Nonces, call: &SubvolumeCall) -> Result<Arc<Export>, Refused> {
    let not_allowed = |reason: String| Refused { why: Why::NotAllowed, reason };
    let Some(export) = server.export(&call.name) else {
        // Those who may ask for a volfile may know what there is.
        let reason = match server.lets_ask(peer) {
            Ok(()) => format!("no such subvolume `{}` (it serves: {})", call.name, server.names()),
            Err(_) => format!("no such subvolume `{}`", call.name),
        };
        return Err(Refused { why: Why::NotFound, reason });
    };
    let login = call.login.as_ref().map(|login| Login { user: &login.user, proof: &login.proof });
    export.auth.load().judge(peer, login, nonces).map_err(|refusal| {
        tracing::warn!(peer = %peer, subvolume = call.name, why = refusal.log, "a client was refused");
        not_allowed(refusal.told)
    })?;
    Ok(export)
}

async fn next_call(outbox: &Outbox, inbox: &mut Inbox) -> Result<Option<(u64, Call)>, WireError> {
    loop {
        outbox.room(UNREAD_MAX).await;
        let Some(Frame { prefix, header, .. }) = inbox.next().await? else { return Ok(None) };
        match prefix.kind {
            Kind::Call => return Ok(Some((prefix.id, decode(&header)?))),
            Kind::Ping => outbox.send(Prefix::new(Kind::Pong, prefix.id), &(), Bytes::new())?,
            kind => return Err(WireError::Unexpected(kind)),
        }
    }
}

/// Answers the call `id`.
///
/// # Errors
/// The connection is closed.
pub(crate) fn answer_call(outbox: &Outbox, id: u64, answer: &Result<Answer, Refused>) -> Result<(), WireError> {
    Ok(outbox.send(Prefix::new(Kind::Answer, id), answer, Bytes::new())?)
}

/// Tells the peer that its call `id` is refused; the error ends the connection.
fn refuse(outbox: &Outbox, id: u64, why: Why, reason: &str) -> WireError {
    let refused = Refused { why, reason: reason.to_owned() };
    match answer_call(outbox, id, &Err(refused.clone())) {
        Ok(()) => WireError::Refused(refused),
        Err(error) => error,
    }
}

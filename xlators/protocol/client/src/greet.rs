//! The first words of a connection, from this side.

use brickwork_api::Xdata;
use brickwork_wire::connection::{Inbox, ask};
use brickwork_wire::login::{Claim, Nonces, proof};
use brickwork_wire::message::{
    Answer, Call, Hello, Login, MAGIC, Nonce, Process, SubvolumeCall, Version, Welcome, agree,
};
use brickwork_wire::outbox::Outbox;

use crate::link::{Cause, Failure};

/// Numbers of the calls before the sessions.
const HELLO: u64 = 1;
pub(crate) const NEXT: u64 = 2;

/// What both sides have said.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) welcome: Welcome,
    nonce: Nonce,
}

/// This process, for people at the brick; `role` says what it is there for.
pub(crate) fn process(role: &str) -> Process {
    let program = std::env::args_os().next().map(std::path::PathBuf::from);
    let program = program.as_deref().and_then(std::path::Path::file_name);
    let program = program.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Process {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        name: format!("{program} {role}").trim().to_owned(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Greets whoever listens.
///
/// # Errors
/// It is no brick, or speaks another version.
pub(crate) async fn greet(outbox: &Outbox, inbox: &mut Inbox, process: Process) -> Result<Greeting, Failure> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| Failure::lost(format!("no random numbers: {error}")))?;
    let hello = Hello { magic: MAGIC, version: Version::CURRENT, features: 0, process, nonce, xdata: Xdata::EMPTY };
    match ask(outbox, inbox, HELLO, &Call::Hello(hello)).await? {
        Answer::Welcome(welcome) => {
            agree(Version::CURRENT, welcome.version)
                .map_err(|why| Failure { reason: format!("the brick {why}"), cause: Cause::Version })?;
            Ok(Greeting { welcome, nonce })
        }
        _ => Err(Failure { reason: "another answer than to a greeting came".to_owned(), cause: Cause::Stranger }),
    }
}

/// Chooses `subvolume`, with the user and password of `login`; returns the brick's count of its starts.
///
/// # Errors
/// There is no such subvolume, or it is not for us.
pub(crate) async fn choose(
    outbox: &Outbox,
    inbox: &mut Inbox,
    greeting: &Greeting,
    subvolume: &str,
    login: Option<&(String, String)>,
) -> Result<u64, Failure> {
    let nonces = Nonces { server: greeting.welcome.nonce, client: greeting.nonce };
    let login = login.map(|(user, password)| Login {
        user: user.clone(),
        proof: proof(password, &nonces, &Claim { user, subvolume }),
    });
    let call = SubvolumeCall { name: subvolume.to_owned(), login, xdata: Xdata::EMPTY };
    match ask(outbox, inbox, NEXT, &Call::Subvolume(call)).await? {
        Answer::Subvolume(chosen) => {
            inbox.let_in();
            Ok(chosen.boot)
        }
        _ => Err(Failure::lost("another answer than of a subvolume came")),
    }
}

//! Asks a brick for the client volfile of a volume.

use std::fmt;
use std::time::Duration;

use brickwork_api::Xdata;
use brickwork_wire::connection::{self, WireError, ask};
use brickwork_wire::message::{Answer, Call, Volfile, VolfileCall, Why};
use brickwork_wire::tls::TlsClient;
use sha2::{Digest, Sha256};

use crate::dial::dial;
use crate::greet::{NEXT, greet, process};
use crate::link::{Cause, Failure};
use crate::options::{Server, Tcp};
use crate::rim::Closing;

/// The client volfile of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Counts its changes, on the brick that was asked.
    pub generation: u64,
    /// Of the text; checked.
    pub sha256: [u8; 32],
    /// The volfile.
    pub text: String,
}

/// Why there is no volfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Nobody answers there.
    Unreachable {
        /// What happened, where.
        why: String,
    },
    /// The brick does not know the volume.
    NoSuchVolume {
        /// In words, with the volumes that there are where we may know them.
        reason: String,
    },
    /// The brick does not let us ask, or cannot read the volfile.
    Refused {
        /// In its words.
        reason: String,
    },
    /// The brick speaks another protocol.
    Version {
        /// Which, and what to do.
        reason: String,
    },
    /// There is no agreement on how to encrypt.
    Tls {
        /// What is wrong, and with what.
        reason: String,
    },
    /// What answers there is no brick.
    Stranger {
        /// What it did.
        reason: String,
    },
    /// No answer in time.
    Timeout {
        /// How long was waited.
        after: Duration,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Unreachable { why } => f.write_str(why),
            FetchError::NoSuchVolume { reason }
            | FetchError::Refused { reason }
            | FetchError::Version { reason }
            | FetchError::Tls { reason }
            | FetchError::Stranger { reason } => f.write_str(reason),
            FetchError::Timeout { after } => write!(f, "no answer within {} s", after.as_secs_f64()),
        }
    }
}

impl std::error::Error for FetchError {}

impl From<Failure> for FetchError {
    fn from(Failure { reason, cause }: Failure) -> FetchError {
        match cause {
            Cause::Lost => FetchError::Unreachable { why: reason },
            Cause::Tls => FetchError::Tls { reason },
            Cause::Stranger => FetchError::Stranger { reason },
            Cause::Version => FetchError::Version { reason },
            Cause::Refused => FetchError::Refused { reason },
        }
    }
}

/// Asks `server` for the client volfile of `volume`; over TLS when `tls` is given and the server is no unix socket.
/// Needs a tokio runtime.
///
/// # Errors
/// [`FetchError`]; nothing is tried twice.
pub async fn fetch_volfile(
    server: &Server,
    tls: Option<&TlsClient>,
    volume: &str,
    timeout: Duration,
) -> Result<Fetched, FetchError> {
    let fetched = tokio::time::timeout(timeout, fetch(server, tls, volume)).await;
    fetched.unwrap_or(Err(FetchError::Timeout { after: timeout }))
}

async fn fetch(server: &Server, tls: Option<&TlsClient>, volume: &str) -> Result<Fetched, FetchError> {
    let stream = dial(server, &Tcp::DEFAULT, tls).await?;
    let (outbox, mut inbox) = connection::open(stream);
    let _closing = Closing::new(&outbox);
    greet(&outbox, &mut inbox, process("volfile")).await?;
    inbox.let_in();
    let call = Call::Volfile(VolfileCall { volume: volume.to_owned(), xdata: Xdata::EMPTY });
    match ask(&outbox, &mut inbox, NEXT, &call).await {
        Ok(Answer::Volfile(volfile)) => checked(volfile),
        Ok(_) => Err(FetchError::Stranger { reason: "another answer than a volfile came".to_owned() }),
        Err(WireError::Refused(refused)) if refused.why == Why::NotFound => {
            Err(FetchError::NoSuchVolume { reason: refused.reason })
        }
        Err(error) => Err(Failure::from(error).into()),
    }
}

fn checked(volfile: Volfile) -> Result<Fetched, FetchError> {
    let Volfile { generation, sha256, text, .. } = volfile;
    let ours: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    match ours == sha256 {
        true => Ok(Fetched { generation, sha256, text }),
        false => Err(FetchError::Unreachable { why: "the volfile was damaged on its way".to_owned() }),
    }
}

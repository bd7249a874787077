//! A volume on other machines: its client volfile is asked for at any of its bricks.

use std::time::Duration;

use brickwork_client::{FetchError, Fetched, fetch_volfile};
use brickwork_wire::tls::{ConnectOptions, TlsClient, TlsOptions};
use tokio::time::Instant;

use crate::codes::Code;
use crate::failure::Failure;
use crate::mount::words::Words;
use crate::spec::{PORT, Server, Spec};

/// How long one server may take to hand out a volfile.
const SERVER_MAX: Duration = Duration::from_secs(10);
/// How long all of them together may take while others wait for the process.
const AGAIN_MAX: Duration = Duration::from_secs(15);
/// How long to rest when none of the servers could be reached.
const PAUSE: Duration = Duration::from_millis(250);

/// A volume, and who is asked for its volfile.
#[derive(Debug)]
pub struct Remote {
    name: String,
    volume: String,
    servers: Vec<Server>,
    attempts: u32,
    tls: Option<(TlsOptions, ConnectOptions)>,
}

impl Remote {
    /// The volume that was written as `name`, which reads as `spec`.
    ///
    /// # Errors
    /// `MountOption` for values of TLS that cannot be read.
    pub fn new(name: &str, spec: Spec, words: &Words) -> Result<Remote, Failure> {
        let servers = spec.servers.into_iter().chain(words.backups.iter().cloned());
        let tls = TlsOptions::parse(&words.tls).and_then(|tls| Ok((tls, ConnectOptions::parse(&words.tls)?)));
        let tls = tls.map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::new(Code::MountOption, texts.join("\n")).next("brickwork mount --help")
        })?;
        Ok(Remote {
            name: name.to_owned(),
            volume: spec.volume,
            servers: servers.map(|server| server.or_port(words.port)).collect(),
            attempts: words.attempts,
            tls: Some(tls).filter(|(tls, _)| tls.enabled),
        })
    }

    /// As it was written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the volume.
    #[must_use]
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Asks the servers in their order until one gives the volfile. With `patience`, servers that cannot be reached are
    /// asked again that long.
    ///
    /// # Errors
    /// What the first server said that answered; `BrickUnreachable` when none did; `TlsRefused` for certificates that
    /// cannot be used.
    pub async fn fetch(&self, patience: Option<Duration>) -> Result<String, Failure> {
        let begun = Instant::now();
        let tls = self.load_tls().await?;
        let mut rounds = 0;
        loop {
            let failure = match self.ask_all(tls.as_ref()).await {
                Ok(text) => return Ok(text),
                Err(failure) => failure,
            };
            rounds += 1;
            let late = patience.is_none_or(|patience| begun.elapsed() + PAUSE >= patience);
            if failure.code() != Code::BrickUnreachable || late && rounds >= self.attempts {
                return Err(failure);
            }
            tracing::info!(why = failure.why(), "{}; it is asked again", failure.message());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks once more, for a process that serves already: not for long.
    ///
    /// # Errors
    /// Those of [`Remote::fetch`].
    pub async fn fetch_again(&self) -> Result<String, Failure> {
        let late = |_| Err(self.unreachable(&[format!("nobody answered within {AGAIN_MAX:?}")]));
        tokio::time::timeout(AGAIN_MAX, self.fetch(None)).await.unwrap_or_else(late)
    }

    async fn load_tls(&self) -> Result<Option<TlsClient>, Failure> {
        let Some((tls, connect)) = self.tls.clone() else { return Ok(None) };
        let refused = |why: String| Failure::new(Code::TlsRefused, "TLS cannot be used").because(why);
        let loaded = tokio::task::spawn_blocking(move || TlsClient::load(&tls, &connect)).await;
        let loaded = loaded.map_err(|error| refused(error.to_string()))?;
        loaded.map(Some).map_err(|error| refused(error.to_string()))
    }

    async fn ask_all(&self, tls: Option<&TlsClient>) -> Result<String, Failure> {
        let mut answered = None;
        let mut unreachable = Vec::new();
        for server in &self.servers {
            match fetch_volfile(&address(server), tls, &self.volume, SERVER_MAX).await {
                Ok(Fetched { generation, sha256, text }) => {
                    let sha256: String = sha256.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                    tracing::info!(volume = self.volume, %server, generation, sha256, "volfile fetched");
                    return Ok(text);
                }
                Err(FetchError::Unreachable { why }) => unreachable.push(format!("{server}: {why}")),
                Err(error @ FetchError::Timeout { .. }) => unreachable.push(format!("{server}: {error}")),
                // Another one may be newer; if not, the first answer is told.
                Err(error) => drop(answered.get_or_insert((server, error))),
            }
        }
        Err(match answered {
            Some((server, error)) => refusal(server, &error),
            None => self.unreachable(&unreachable),
        })
    }

    fn unreachable(&self, reasons: &[String]) -> Failure {
        let names: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        Failure::new(Code::BrickUnreachable, format!("no brick can be reached at {}", names.join(", ")))
            .because(reasons.join("\n"))
            .next("start the brick there, or name a machine with one; -o wait=30s waits for it")
    }
}

fn address(server: &Server) -> brickwork_client::Server {
    match server {
        Server::Tcp { host, port } => brickwork_client::Server::tcp(host, port.unwrap_or(PORT)),
        Server::Unix(path) => brickwork_client::Server::Unix(path.clone()),
    }
}

/// What `server` answered instead of a volfile.
fn refusal(server: &Server, error: &FetchError) -> Failure {
    let (code, next) = match error {
        FetchError::NoSuchVolume { .. } => (Code::NoSuchVolume, "name one that it serves, or ask another machine"),
        FetchError::Version { .. } => (Code::OtherVersion, "upgrade the older side"),
        FetchError::Refused { .. } => (Code::NotAdmitted, "the log of the brick says what was missing"),
        FetchError::Tls { .. } => (Code::TlsRefused, "-o ssl=on, and the certificates of both sides"),
        FetchError::Stranger { .. } => (Code::NoBrickThere, "name the port of the brick: HOST:PORT:/VOLUME"),
        FetchError::Unreachable { .. } | FetchError::Timeout { .. } => {
            (Code::BrickUnreachable, "start the brick there")
        }
    };
    Failure::new(code, error.to_string()).at(server).next(next)
}

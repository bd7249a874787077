//! A volume on other machines: its client volfile is asked for at any of its bricks.

use std::time::Duration;

use tokio::time::Instant;

use crate::codes::Code;
use crate::failure::Failure;
use crate::mount::words::Words;
use crate::spec::{Server, Spec};

/// How long one server may take to hand out a volfile.
const SERVER_MAX: Duration = Duration::from_secs(10);
/// How long to rest when none of the servers could be reached.
const PAUSE: Duration = Duration::from_millis(250);

/// A volume, and who is asked for its volfile.
#[derive(Debug)]
pub struct Remote {
    name: String,
    volume: String,
    servers: Vec<Server>,
    attempts: u32,
}

impl Remote {
    /// The volume that was written as `name`, which reads as `spec`.
    ///
    /// # Errors
    /// `MountOption` for options of TLS that contradict each other or name files that are not there.
    pub fn new(name: &str, spec: Spec, words: &Words) -> Result<Remote, Failure> {
        let servers = spec.servers.into_iter().chain(words.backups.iter().cloned());
        Ok(Remote {
            name: name.to_owned(),
            volume: spec.volume,
            servers: servers.map(|server| server.or_port(words.port)).collect(),
            attempts: words.attempts,
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
    /// What the first server said that answered; `BrickUnreachable` when none did.
    pub async fn fetch(&self, patience: Option<Duration>) -> Result<String, Failure> {
        let begun = Instant::now();
        let mut rounds = 0;
        loop {
            let failure = match self.ask_all().await {
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

    async fn ask_all(&self) -> Result<String, Failure> {
        let mut answered = None;
        let mut unreachable = Vec::new();
        for server in &self.servers {
            match ask(server, &self.volume).await {
                Ok(text) => return Ok(text),
                Err(failure) if failure.code() == Code::BrickUnreachable => {
                    unreachable.push(failure.why().unwrap_or_default().to_owned())
                }
                // Another one may be newer; if not, the first answer is told.
                Err(failure) => drop(answered.get_or_insert(failure)),
            }
        }
        let names: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        Err(answered.unwrap_or_else(|| {
            Failure::new(Code::BrickUnreachable, format!("no brick can be reached at {}", names.join(", ")))
                .because(unreachable.join("\n"))
                .next("start the brick there, or name a machine with one; -o wait=30s waits for it")
        }))
    }
}

async fn ask(server: &Server, _volume: &str) -> Result<String, Failure> {
    Err(Failure::new(Code::BrickUnreachable, "").because(format!("{server} PLACEHOLDER {SERVER_MAX:?}")))
}

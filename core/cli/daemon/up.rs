//! The start of a volume whose bricks are on other machines: the process waits for the first word of them.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::life::Word;
use super::report::links;
use super::signals::{Signal, Signals};
use super::{CLIENT, Server};
use crate::codes::Code;
use crate::failure::Failure;

/// How long a brick may take to say yes or no where nobody said how long to wait.
const WORD_MAX: Duration = Duration::from_secs(30);

impl Server {
    /// Waits until a volume with bricks on other machines can serve; any other volume needs no waiting.
    ///
    /// Commands are answered meanwhile. With `patience`, reasons why it cannot are waited out that long.
    ///
    /// # Errors
    /// `BrickUnreachable` with the last reason; `Interrupted` when the process is told to stop.
    pub(super) async fn wait_until_up(
        &mut self,
        patience: Option<Duration>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        if !self.plan.volumes.iter().any(|volume| volume.kind.name == CLIENT) {
            return Ok(());
        }
        let waited = patience.unwrap_or(WORD_MAX);
        let end = Instant::now() + waited;
        let mut words = self.heard.words();
        let mut beat = self.notify.beat();
        loop {
            let word = words.borrow_and_update().clone();
            match word {
                Word::Up => return Ok(()),
                Word::Down(reason) if patience.is_none() => return Err(self.trouble(&reason, None)),
                Word::Down(_) | Word::None => {}
            }
            tokio::select! {
                // It is ours: its sender lives.
                _ = words.changed() => {}
                Some(command) = self.commands.recv() => self.obey(command).await,
                signal = signals.next() => match signal {
                    Signal::Interrupt | Signal::Terminate => {
                        return Err(Failure::new(Code::Interrupted, "interrupted while waiting for a brick"));
                    }
                    Signal::User1 => self.dump_to_file().await,
                    // The volfile is new enough.
                    Signal::Hangup => {}
                },
                () = beat.next() => self.notify.status("waiting for a brick"),
                () = sleep_until(end) => {
                    let reason = self.heard.down().unwrap_or_else(|| "it said neither yes nor no".to_owned());
                    return Err(self.trouble(&reason, Some(waited)));
                }
            }
        }
    }

    /// Why the volume cannot serve, by the first brick that cannot be used; where none says so, by what was heard.
    fn trouble(&self, heard: &str, waited: Option<Duration>) -> Failure {
        let after = waited.map(|waited| format!(" after {waited:?}")).unwrap_or_default();
        let links = links(self.root.load().graph());
        let Some(link) = links.iter().find(|link| !link.up()) else {
            return Failure::new(Code::BrickUnreachable, format!("the volume cannot serve{after}: {heard}"));
        };
        let (code, trouble) = link.trouble();
        let failure = Failure::new(code, format!("brick `{}` ({}) {trouble}{after}", link.name, link.brick));
        failure.because(link.reason()).next(match code {
            Code::BrickUnreachable => "start the brick; -o wait=30s waits for it",
            _ => "the log of the brick says more",
        })
    }
}

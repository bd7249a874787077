//! The signals that a serving process hears.

use tokio::signal::unix::{SignalKind, signal};

use crate::codes::Code;
use crate::failure::Failure;

/// A signal that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: stop; with `--exec` it is meant for the command.
    Interrupt,
    /// SIGTERM: stop.
    Terminate,
    /// SIGHUP: read the volfile again.
    Hangup,
    /// SIGUSR1: write a dump.
    User1,
}

/// Hears signals from the moment it is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    user1: tokio::signal::unix::Signal,
}

impl Signals {
    /// Hears them from now on, in place of what they do by default.
    ///
    /// # Errors
    /// A kernel that does not let us.
    pub fn hear() -> Result<Signals, Failure> {
        let hear =
            |kind| signal(kind).map_err(|error| Failure::new(Code::System, "signals cannot be heard").because(error));
        Ok(Signals {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: hear(SignalKind::hangup())?,
            user1: hear(SignalKind::user_defined1())?,
        })
    }

    /// Waits for `work`; gives it up when the process is told to stop.
    ///
    /// # Errors
    /// `Interrupted`.
    pub async fn unless_told<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                signal = self.next() => if matches!(signal, Signal::Interrupt | Signal::Terminate) {
                    return Err(Failure::new(Code::Interrupted, "interrupted while waiting for a brick"));
                }
            }
        }
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        // The streams of tokio end only with the runtime.
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.user1.recv() => Signal::User1,
        }
    }
}

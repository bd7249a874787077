//! Processes that are being killed while they wait for a brick.
//!
//! Ordinary calls are not interrupted by signals, on any file system: a program that has set a timer does not expect
//! `EINTR` of `stat`. But whoever is killed must be able to end, also while a brick is away. The kernel says only that some
//! signal came, once for each request, and not that another one followed; so from then on `/proc` is asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use brickwork_api::{Cancel, Host, blocking};
use brickwork_fuse::Interruptible;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::front::Front;

/// How often `/proc` is asked about a process that got a signal, or has ended, for as long as its request is under way.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const SIGKILL: u64 = 1 << 8;

/// What an INTERRUPT does to an ordinary request: cancels it once its process is being killed.
pub(crate) struct Killable {
    front: Arc<Front>,
    pid: u32,
    cancel: Cancel,
    under_way: Weak<()>,
}

impl Killable {
    /// `under_way` is kept by the request until its end.
    pub(crate) fn new(front: Arc<Front>, pid: u32, cancel: Cancel, under_way: &Arc<()>) -> Killable {
        Killable { front, pid, cancel, under_way: Arc::downgrade(under_way) }
    }
}

impl Interruptible for Killable {
    fn interrupt(&self) {
        self.front.counters.interrupt();
        let (pid, cancel, under_way) = (self.pid, self.cancel.clone(), self.under_way.clone());
        let host = self.front.host.clone();
        self.front.host.spawn(Box::pin(async move {
            while under_way.strong_count() > 0 {
                if ask(&*host, move || is_killed(pid)).await {
                    return cancel.cancel();
                }
                tokio::time::sleep(ASKED_EVERY).await;
            }
        }));
    }
}

/// Whether the thread `pid` has a SIGKILL that it has not taken, being in a call of ours.
fn is_killed(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    masks(&status).any(|mask| mask & SIGKILL != 0)
}

/// The pending signals of the thread and of its process.
fn masks(status: &str) -> impl Iterator<Item = u64> + '_ {
    let lines = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    lines.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
}

/// FLUSH requests under way: nothing can interrupt one, and a process that has ended waits for it with each file it had
/// open. While a brick is away they are let go, and what they ask for is done beside.
#[derive(Default)]
pub(crate) struct Flushes {
    waiting: Mutex<HashMap<u64, (u32, oneshot::Sender<()>)>>,
    next: AtomicU64,
    /// Somebody looks for processes that have ended.
    looking: AtomicBool,
    away: AtomicBool,
}

/// One FLUSH under way.
pub(crate) struct Flushing<'f> {
    flushes: &'f Flushes,
    number: u64,
    let_go: oneshot::Receiver<()>,
}

impl Flushes {
    /// Notes a FLUSH of the thread `pid`.
    pub(crate) fn begin(&self, pid: u32) -> Flushing<'_> {
        let (sender, let_go) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, (pid, sender));
        Flushing { flushes: self, number, let_go }
    }

    /// Notes whether a brick is away; whether the caller is to look from now on, by [`Flushes::look`].
    pub(crate) fn is_away(&self, away: bool) -> bool {
        self.away.store(away, Ordering::SeqCst);
        away && !self.looking.swap(true, Ordering::SeqCst)
    }

    /// Lets those go whose process has ended, as long as a brick is away.
    pub(crate) async fn look(&self, host: &dyn Host) {
        loop {
            self.look_while_away(host).await;
            self.looking.store(false, Ordering::SeqCst);
            // It may have gone away again before the line above; then nobody else looks.
            if !self.away.load(Ordering::SeqCst) || self.looking.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    async fn look_while_away(&self, host: &dyn Host) {
        while self.away.load(Ordering::SeqCst) {
            tokio::time::sleep(ASKED_EVERY).await;
            let waiting: Vec<(u64, u32)> =
                self.waiting.lock().iter().map(|(number, (pid, _))| (*number, *pid)).collect();
            for (number, pid) in waiting {
                if ask(host, move || is_exiting(pid)).await
                    && let Some((_, sender)) = self.waiting.lock().remove(&number)
                {
                    // Answered meanwhile.
                    let _ = sender.send(());
                }
            }
        }
    }
}

impl Flushing<'_> {
    /// Returns when the process has ended and a brick is away.
    pub(crate) async fn let_go(&mut self) {
        if (&mut self.let_go).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.flushes.waiting.lock().remove(&self.number);
    }
}

/// Asks `/proc` from the pool: it may make us wait for the process, which may wait for us.
async fn ask(host: &dyn Host, question: impl FnOnce() -> bool + Send + 'static) -> bool {
    blocking(host, question).await.unwrap_or(false)
}

/// Whether the process is past its end: what it still calls, it calls because its files are closed for it.
fn is_exiting(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| has_no_memory(&status))
}

/// Its memory goes before its files. `/proc/PID/stat` has a flag for it, but keeps whoever reads it waiting while the
/// process is in `execve`, which closes files too.
fn has_no_memory(status: &str) -> bool {
    !status.lines().any(|line| line.starts_with("VmSize:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sigkill_is_seen_among_the_signals_of_thread_and_process() {
        let status =
            |thread: &str, process: &str| format!("Name:\tx\nSigPnd:\t{thread}\nShdPnd:\t{process}\nSigBlk:\t0\n");
        for (thread, process, killed) in [
            ("0000000000000000", "0000000000000000", false),
            ("0000000000000100", "0000000000000000", true),
            ("0000000000000000", "0000000000004100", true),
            ("0000000000004000", "0000000000002000", false),
        ] {
            let status = status(thread, process);
            assert_eq!(masks(&status).any(|mask| mask & SIGKILL != 0), killed, "{thread} {process}");
        }
    }

    #[test]
    fn a_process_that_runs_has_memory_and_one_that_has_ended_has_none() {
        assert!(!is_exiting(std::process::id()));
        assert!(!is_killed(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        // A zombie until it is waited for.
        while !is_exiting(child.id()) {
            std::thread::yield_now();
        }
        child.wait().expect("a child");
    }
}

//! The two watches over a running brick, on one thread: how much space is free, and whether the disk still answers.
//!
//! The try of the disk is a small write and read of `health_check` in our folder, on a thread of its own since it may never
//! come back. A failure, or no answer in time, tells the parents that the brick is down; the next try that goes well, that it
//! is up again.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use brickwork_api::options::PercentOrSize;
use brickwork_api::{Event, Upward};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{Mode, OFlags};
use tracing::{error, info, warn};

use crate::brick::Brick;
use crate::options::PosixOptions;

/// How often free space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(5);
/// The file of the try, in our own folder.
pub(crate) const FILE: &str = "health_check";

/// What the watches go by; a running brick takes new ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    reserve: PercentOrSize,
    interval: Duration,
    timeout: Duration,
}

impl Rules {
    pub(crate) fn of(options: &PosixOptions) -> Rules {
        Rules {
            reserve: options.reserve,
            interval: options.health_check_interval.0,
            timeout: options.health_check_timeout.0,
        }
    }
}

/// How the last try of the disk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    Bad(String),
}

#[derive(Debug)]
struct State {
    rules: Rules,
    stop: bool,
    health: Health,
    /// A try is under way since then.
    trying: Option<Instant>,
    answer: Option<Result<(), String>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The watches of one running graph over its brick.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    pub(crate) fn new(rules: Rules) -> Watch {
        let state = State { rules, stop: false, health: Health::Good, trying: None, answer: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        Watch { shared, thread: Mutex::new(None) }
    }

    /// Begins to watch.
    pub(crate) fn start(&self, brick: Arc<Brick>, up: Upward) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let watch = move || watch(&shared, &brick, &up);
        let thread = std::thread::Builder::new().name("posix-watch".to_owned()).spawn(watch);
        let thread = thread.map_err(|error| format!("cannot start the thread that watches the brick: {error}"))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Ends it; a try that hangs is left behind.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            warn!("the thread that watched the brick had panicked");
        }
    }

    /// Goes by new rules from now on.
    pub(crate) fn set_rules(&self, rules: Rules) {
        self.shared.state.lock().rules = rules;
        self.shared.changed.notify_all();
    }

    pub(crate) fn health(&self) -> Health {
        self.shared.state.lock().health.clone()
    }
}

fn watch(shared: &Arc<Shared>, brick: &Arc<Brick>, up: &Upward) {
    let (mut next_space, mut next_try) = (Instant::now(), Instant::now());
    let mut state = shared.state.lock();
    let mut rules = state.rules;
    while !state.stop {
        let now = Instant::now();
        if rules != state.rules {
            rules = state.rules;
            (next_space, next_try) = (now, now);
        }
        if now >= next_space {
            next_space = now + SPACE_INTERVAL;
            let reserve = rules.reserve;
            let looked = parking_lot::MutexGuard::unlocked(&mut state, || brick.watch_space(reserve));
            if let Err(error) = looked {
                warn!(%error, "cannot see how much space is free");
            }
            continue;
        }
        if let Some(verdict) = verdict(&mut state, now) {
            if let Some(event) = change(brick, &mut state, verdict) {
                parking_lot::MutexGuard::unlocked(&mut state, || up.notify(event));
            }
            continue;
        }
        if state.trying.is_none() && !rules.interval.is_zero() && now >= next_try {
            next_try = now + rules.interval;
            state.trying = try_disk(shared, brick).then_some(now);
            continue;
        }
        let deadline = state.trying.map(|since| since + rules.timeout).filter(|_| state.health == Health::Good);
        let wake = [
            Some(next_space),
            (!rules.interval.is_zero()).then_some(next_try).filter(|_| state.trying.is_none()),
            deadline,
        ];
        let wake = wake.into_iter().flatten().min().unwrap_or(next_space);
        shared.changed.wait_until(&mut state, wake);
    }
}

/// What is known of the try under way, if that is something new.
fn verdict(state: &mut State, now: Instant) -> Option<Health> {
    let since = state.trying?;
    if let Some(answer) = state.answer.take() {
        state.trying = None;
        return Some(answer.map_or_else(Health::Bad, |()| Health::Good));
    }
    let late = now.duration_since(since) >= state.rules.timeout && state.health == Health::Good;
    late.then(|| Health::Bad(format!("no answer in {} s", state.rules.timeout.as_secs())))
}

/// Notes the verdict and returns what the parents are to hear.
fn change(brick: &Brick, state: &mut State, verdict: Health) -> Option<Event> {
    let path = brick.path.display();
    let event = match (&state.health, &verdict) {
        (Health::Good, Health::Bad(reason)) => {
            error!(brick = %path, %reason, "the brick's file system does not work");
            Some(Event::ChildDown { reason: format!("brick `{path}`: {reason}") })
        }
        (Health::Bad(_), Health::Good) => {
            info!(brick = %path, "the brick's file system works again");
            Some(Event::ChildUp)
        }
        _ => None,
    };
    state.health = verdict;
    event
}

/// Begins a try; `false` when there is no thread for it, which says nothing about the disk.
fn try_disk(shared: &Arc<Shared>, brick: &Arc<Brick>) -> bool {
    let (answer_to, brick) = (Arc::clone(shared), Arc::clone(brick));
    let work = move || {
        let answer = check(&brick);
        answer_to.state.lock().answer = Some(answer);
        answer_to.changed.notify_all();
    };
    let spawned = std::thread::Builder::new().name("posix-health".to_owned()).spawn(work);
    if let Err(error) = &spawned {
        warn!(%error, "cannot start the thread that tries the brick's file system");
    }
    spawned.is_ok()
}

/// Writes the time and reads it back.
fn check(brick: &Brick) -> Result<(), String> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let wrong = |what: &str, errno: rustix::io::Errno| {
        format!("{what} `.glusterfs/brickwork/{FILE}`: {}", std::io::Error::from(errno))
    };
    let file = rustix::fs::openat(brick.own.as_fd(), FILE, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| wrong("cannot open", errno))?;
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let text = format!("{:020}\n", since.as_nanos());
    let written = rustix::io::pwrite(&file, text.as_bytes(), 0).map_err(|errno| wrong("cannot write", errno))?;
    rustix::fs::fdatasync(&file).map_err(|errno| wrong("cannot write", errno))?;
    let mut back = vec![0; text.len()];
    let read = rustix::io::pread(&file, &mut back, 0).map_err(|errno| wrong("cannot read", errno))?;
    match written == text.len() && read == text.len() && back == text.as_bytes() {
        true => Ok(()),
        false => Err(format!("`.glusterfs/brickwork/{FILE}` reads other than it was written")),
    }
}

//! `brickwork umount`: takes a mount away and waits until nothing of it runs any more.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use brickwork_fuse::mount;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use serde::Deserialize;
use serde_json::json;

use crate::args::Globals;
use crate::client::Client;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::mountinfo::{self, State, absolute};
use crate::output::Output;
use crate::protocol::Request;

/// Unmount, and wait until the process behind the mount has ended.
#[derive(clap::Args, Debug)]
pub struct Umount {
    /// The mount point
    #[arg(value_name = "DIR")]
    point: PathBuf,
    /// Also while it is in use: it disappears at once and ends when the last file is closed
    #[arg(long)]
    lazy: bool,
}

#[derive(Deserialize)]
struct Left {
    left: usize,
}

impl Umount {
    /// Unmounts.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let point = absolute(&self.point).map_err(|error| not_mounted(&self.point).because(error))?;
        let runtime = Runtime::find();
        match runtime.mounted_at(&point)? {
            Some(name) => self.ask(Client::connect(&runtime, &name, globals.timeout)?, &point, globals)?,
            // A mount whose process has died, or that belongs to another user's process.
            None if is_mounted(&point)? => self.take_away(&point, globals)?,
            None => return Err(not_mounted(&point)),
        }
        if output.is_json() {
            output.document("UnmountList", &[json!({"path": point, "lazy": self.lazy})])?;
        }
        Ok(Exit::Done)
    }

    fn ask(&self, mut client: Client, point: &Path, globals: &Globals) -> Result<(), Failure> {
        let name = client.name().to_owned();
        // Held open, so that it names this very process whatever happens to its number.
        let process = pidfd_open(client.process()?, PidfdFlags::empty()).map_err(|errno| {
            Failure::new(Code::System, format!("the process of `{name}` cannot be watched")).because(errno)
        })?;
        let Left { left } = client.ask(&Request::Unmount { path: point.to_owned(), lazy: self.lazy })?;
        // A lazy unmount ends when the last file is closed: nobody waits for that.
        if left > 0 || self.lazy || ended(&process, globals)? {
            return Ok(());
        }
        Err(Failure::new(Code::StillRunning, format!("`{name}` has not ended yet"))
            .at(point.display())
            .next("its log says what it waits for"))
    }

    fn take_away(&self, point: &Path, globals: &Globals) -> Result<(), Failure> {
        let states = mountinfo::states(vec![point.to_owned()], globals.timeout);
        let dead = states.iter().any(|(_, state)| *state == Some(State::Dead));
        let taken = if dead || self.lazy { mount::unmount(point) } else { mount::unmount_unused(point) };
        taken.map_err(|error| crate::daemon::mount_failure(&error))
    }
}

fn is_mounted(point: &Path) -> Result<bool, Failure> {
    mountinfo::is_mounted(point)
        .map_err(|error| Failure::new(Code::System, "the mounts cannot be listed").because(error))
}

fn not_mounted(point: &Path) -> Failure {
    Failure::new(Code::NotMounted, format!("Brickwork is not mounted at `{}`", point.display()))
        .next("brickwork status lists the mounts of running instances")
}

/// Waits until `process` has ended; `false` when it has not in time.
fn ended(process: &OwnedFd, globals: &Globals) -> Result<bool, Failure> {
    let limit = Timespec {
        tv_sec: i64::try_from(globals.timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: globals.timeout.subsec_nanos().into(),
    };
    let ready = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit));
    ready.map(|ready| ready > 0).map_err(|errno| Failure::new(Code::System, "waiting for a process").because(errno))
}

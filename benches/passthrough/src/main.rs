//! `passthrough SOURCE MOUNTPOINT`: shows SOURCE at MOUNTPOINT through FUSE, as plainly as a good server can.
//!
//! It is the yardstick of `benches/mount.sh`: what a mount costs that does nothing but hand each request on.
//! Four threads on cloned descriptors, answers inline, attribute and entry timeout 0, no writeback cache,
//! requests up to 1 MiB; the kernel checks permissions. The same settings as a Brickwork mount.
//!
//! Runs in the foreground as root, prints `mounted` when the kernel has accepted the session, and ends when
//! MOUNTPOINT is unmounted.

mod attributes;
mod caller;
mod directory;
mod files;
mod inodes;
mod passthrough;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, io};

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::passthrough::Passthrough;

/// Readers of `/dev/fuse`, each on a descriptor of its own.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(source), Some(mountpoint), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: passthrough SOURCE MOUNTPOINT");
        return ExitCode::from(64);
    };
    match serve(&source, &mountpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("passthrough: {} at {}: {error}", source.display(), mountpoint.display());
            ExitCode::FAILURE
        }
    }
}

/// Mounts, says so, and answers until the unmount.
fn serve(source: &Path, mountpoint: &Path) -> io::Result<()> {
    allow_a_descriptor_per_inode();
    // The umask of each caller is applied per request.
    rustix::process::umask(Mode::empty());
    let filesystem = Passthrough::open(source)?;
    let session = Session::new(filesystem, mountpoint, &config(source))?;
    println!("mounted");
    session.run()
}

/// Raises the soft limit of open files to the hard one: every inode that the kernel knows holds one.
fn allow_a_descriptor_per_inode() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("passthrough: open files stay limited to {:?}: {error}", limit.current);
    }
}

fn config(source: &Path) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(source.display().to_string()),
        MountOption::Subtype("passthrough".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::Dev,
        MountOption::Suid,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config
}

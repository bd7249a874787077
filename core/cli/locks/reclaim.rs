//! `brickwork locks reclaim` and `release`: locks that a mount holds for a tool or a gateway, as the client that it is.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::list::Type;
use super::range::Range;
use crate::args::Globals;
use crate::client::Client;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::output::Output;
use crate::protocol::{MountLock, MountLockAct, Request};

/// Take over a lock of a client that has failed, as the client behind a mount.
#[derive(clap::Args, Debug)]
pub struct Reclaim {
    #[command(flatten)]
    lock: Words,
    /// The bytes, exactly as they are locked: 0-99, 100-EOF, 0..100
    #[arg(long, default_value = "0-EOF")]
    range: Range,
    /// A read lock
    #[arg(long)]
    shared: bool,
}

/// Release a lock of an owner, as the client behind a mount.
#[derive(clap::Args, Debug)]
pub struct Release {
    #[command(flatten)]
    lock: Words,
    /// The bytes: the locks of the owner in them
    #[arg(long, default_value = "0-EOF")]
    range: Range,
}

/// Which lock.
#[derive(clap::Args, Debug)]
struct Words {
    /// The file, below the mount of the client that is to hold the lock
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The lock owner, as brickwork locks list --json shows it
    #[arg(long, value_name = "HEX", value_parser = owner)]
    owner: Owner,
    /// The family
    #[arg(long, value_enum, default_value_t = Kind::Posix)]
    kind: Kind,
}

/// The families of locks of applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// `fcntl`.
    Posix,
    /// `flock`.
    Flock,
}

/// The bytes of a lock owner.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner(Vec<u8>);

fn owner(text: &str) -> Result<Owner, String> {
    let wrong = || format!("`{text}` is no lock owner: an even number of hexadecimal digits");
    let text = text.strip_prefix("owner:").unwrap_or(text);
    let is_hex =
        !text.is_empty() && text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong());
    (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Owner)
}

impl Reclaim {
    /// Asks the mount to take the lock over.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let act = if self.shared { MountLockAct::ReclaimShared } else { MountLockAct::ReclaimExclusive };
        let mount = self.lock.ask(globals, self.range, act)?;
        let mode = if self.shared { "READ" } else { "WRITE" };
        let said = format!(
            "✓ the client behind {} holds {mode} {} of {}\n",
            mount.display(),
            self.range,
            self.lock.path.display()
        );
        let more = json!({"mount": mount, "mode": mode.to_lowercase(), "range": self.range.to_string()});
        self.lock.tell(output, "ReclaimedLockList", &said, more)
    }
}

impl Release {
    /// Asks the mount to release what it took over.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let mount = self.lock.ask(globals, self.range, MountLockAct::Release)?;
        let said = format!("✓ released {} of {}\n", self.range, self.lock.path.display());
        let more = json!({"mount": mount, "range": self.range.to_string()});
        self.lock.tell(output, "ReleasedLockList", &said, more)
    }
}

impl Words {
    /// Asks the process of the mount that the path is on; answers where that mount is.
    fn ask(&self, globals: &Globals, range: Range, act: MountLockAct) -> Result<PathBuf, Failure> {
        let runtime = Runtime::find();
        let elsewhere = |why: String| {
            Failure::new(Code::NotOnMount, format!("`{}` is on no mount of Brickwork", self.path.display()))
                .because(why)
                .next("brickwork status lists the mounts of running instances")
        };
        let path = std::path::absolute(&self.path).map_err(|error| elsewhere(error.to_string()))?;
        let mounts = runtime.mounted()?;
        let on: Option<&PathBuf> =
            mounts.iter().filter(|mount| path.starts_with(mount)).max_by_key(|mount| mount.components().count());
        let mount = on.ok_or_else(|| elsewhere(format!("{} mounts are known", mounts.len())))?;
        let below: &Path = path.strip_prefix(mount).expect("it starts so");
        let instance = runtime.mounted_at(mount)?.ok_or_else(|| elsewhere("its mount has just gone".to_owned()))?;
        let lock = MountLock {
            mount: mount.clone(),
            path: below.as_os_str().as_bytes().to_vec(),
            kind: match self.kind {
                Kind::Posix => Type::Posix.into(),
                Kind::Flock => Type::Flock.into(),
            },
            owner: self.owner.0.clone(),
            start: range.start,
            end: range.end,
            act,
        };
        let _: serde_json::Value =
            Client::connect(&runtime, &instance, globals.timeout)?.ask(&Request::MountLock(lock))?;
        Ok(mount.clone())
    }

    fn tell(&self, output: Output, kind: &str, said: &str, mut more: serde_json::Value) -> Outcome {
        if output.is_json() {
            more["path"] = json!(self.path);
            output.document(kind, &[more])?;
        } else {
            output.text(said)?;
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_from_its_hexadecimal_digits() {
        assert_eq!(owner("00fF"), Ok(Owner(vec![0, 255])));
        assert_eq!(owner("owner:0a"), Ok(Owner(vec![10])));
        for wrong in ["", "0", "xy", "+1", "0é"] {
            assert!(owner(wrong).is_err(), "{wrong}");
        }
    }
}

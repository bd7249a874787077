//! `mount.brickwork`: this command under the name by which mount(8) starts it for file systems of type `brickwork`.
//!
//!     ln -s "$(command -v brickwork)" /sbin/mount.brickwork
//!
//! It takes what mount(8) hands to helpers and answers in mount(8)'s exit codes; its first line on stderr is
//! `mount.brickwork: VOLUME: reason [CODE]`.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::args::Cli;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};

/// The name.
const NAME: &str = "mount.brickwork";
/// What `-t` may say.
const TYPES: [&str; 2] = ["brickwork", crate::mountinfo::FILE_SYSTEM];

/// Mounts a Brickwork volume for mount(8).
#[derive(Parser, Debug)]
#[command(name = NAME, version, max_term_width = 100)]
pub struct Helper {
    /// A volume on other machines (HOST:/VOLUME) or a volfile
    #[arg(value_name = "VOLUME")]
    volume: OsString,
    /// The directory to mount on
    #[arg(value_name = "DIR")]
    point: OsString,
    /// Leave out options that are unknown
    #[arg(short)]
    sloppy: bool,
    /// Do everything but the mount
    #[arg(short)]
    fake: bool,
    /// Write no mtab; there is none
    #[arg(short)]
    no_mtab: bool,
    /// Say what was done
    #[arg(short)]
    verbose: bool,
    /// Mount in the mount namespace of this process or file
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Options, separated by commas; `brickwork mount --help` lists them
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// The type, as mount(8) was told it
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
}

/// Bits of mount(8)'s exit code.
const USAGE: u8 = 1;
const SYSTEM: u8 = 2;
const BUG: u8 = 4;
const INTERRUPTED: u8 = 8;
const REFUSED: u8 = 32;

/// Whether this process was started by the name of the helper.
#[must_use]
pub fn is_meant() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.and_then(|name| name.file_name()?.to_str().map(|name| name == NAME)).unwrap_or(false)
}

/// Mounts as the command line of the helper says, by `run`, which runs a command line of `brickwork`.
pub fn main(run: impl FnOnce(&Cli) -> Outcome) -> ExitCode {
    let helper = match Helper::try_parse() {
        Ok(helper) => helper,
        Err(error) => {
            // A stdout or stderr that is closed has no reader to tell.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let volume = helper.volume.display().to_string();
    let outcome = catch_unwind(AssertUnwindSafe(|| helper.mount(run)));
    match outcome {
        Ok(Ok(Exit::Done)) => {
            if helper.verbose {
                // Nobody is left to tell when stdout is gone.
                let _ = crate::output::line(&format!("{NAME}: {volume} mounted on {}.", helper.point.display()));
            }
            ExitCode::SUCCESS
        }
        Ok(Ok(_)) => REFUSED.into(),
        Ok(Err(failure)) => {
            eprintln!("{}", failure.after(&format!("{NAME}: {volume}")));
            bit(&failure).into()
        }
        // The panic has said what it is.
        Err(_) => BUG.into(),
    }
}

impl Helper {
    fn mount(&self, run: impl FnOnce(&Cli) -> Outcome) -> Outcome {
        if let Some(kind) = self.kind.as_deref().filter(|kind| !TYPES.contains(kind)) {
            return Err(
                Failure::new(Code::Usage, format!("`{kind}` is not mounted by this helper")).next("mount -t brickwork")
            );
        }
        if let Some(namespace) = &self.namespace {
            enter(namespace)?;
        }
        let words = self.words();
        let line = std::iter::once(OsString::from("brickwork")).chain(words.iter().cloned());
        let mut cli = Cli::try_parse_from(line).map_err(|error| {
            let text = error.to_string();
            Failure::new(Code::Usage, text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        })?;
        cli.globals.words = words;
        run(&cli)
    }

    /// The command line of `brickwork` that does what this one asks.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["mount".into()];
        words.extend(self.options.iter().flat_map(|options| ["-o".into(), options.clone()]));
        words.extend(self.sloppy.then(|| "--sloppy".into()));
        words.extend(self.fake.then(|| "--fake".into()));
        words.extend(["--".into(), self.volume.clone(), self.point.clone()]);
        words
    }
}

/// Enters the mount namespace of a process, by its number, or that of a file.
fn enter(namespace: &str) -> Result<(), Failure> {
    let path = match namespace.parse::<u32>() {
        Ok(pid) => format!("/proc/{pid}/ns/mnt"),
        Err(_) => namespace.to_owned(),
    };
    let refused = |error: std::io::Error| {
        Failure::new(Code::System, format!("the mount namespace `{namespace}` cannot be entered")).because(error)
    };
    let file = File::open(path).map_err(refused)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(|errno| refused(errno.into()))
}

/// The bit of mount(8) for `failure`.
fn bit(failure: &Failure) -> u8 {
    match (failure.code(), failure.code().exit()) {
        (Code::Interrupted, _) => INTERRUPTED,
        (Code::System | Code::FuseMissing | Code::HelperMissing | Code::DaemonDied, _) => SYSTEM,
        (Code::RuntimeDirectory, _) => SYSTEM,
        // What a brick refuses is no matter of this machine's permissions.
        (Code::NotAdmitted, _) => REFUSED,
        (_, Exit::Usage | Exit::Permission) => USAGE,
        _ => REFUSED,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Helper::command().debug_assert();
    }

    #[test]
    fn what_mount_hands_over_becomes_a_command_line_of_ours() {
        let line = "mount.brickwork vm:/gd1 /mnt/g1 -sfnv -o rw,_netdev,wait=30s -o ro -t brickwork";
        let helper = Helper::try_parse_from(line.split(' ')).unwrap();
        let words: Vec<String> = helper.words().iter().map(|word| word.to_str().unwrap().to_owned()).collect();
        assert_eq!(words.join(" "), "mount -o rw,_netdev,wait=30s -o ro --sloppy --fake -- vm:/gd1 /mnt/g1");
        assert!(helper.verbose && helper.no_mtab);
        assert!(Cli::try_parse_from(std::iter::once("brickwork".to_owned()).chain(words)).is_ok());
    }

    #[test]
    fn every_code_has_a_bit_of_mount_and_those_that_matter_have_theirs() {
        let of = |code| bit(&Failure::new(code, "x"));
        for code in Code::ALL {
            assert!([USAGE, SYSTEM, INTERRUPTED, REFUSED].contains(&of(*code)), "{code:?}");
        }
        assert_eq!([of(Code::MountOption), of(Code::VolumeSpec), of(Code::MountRefused)], [USAGE; 3]);
        assert_eq!([of(Code::NoSuchVolume), of(Code::BrickUnreachable), of(Code::MountPointMissing)], [REFUSED; 3]);
        assert_eq!([of(Code::System), of(Code::Interrupted)], [SYSTEM, INTERRUPTED]);
    }
}

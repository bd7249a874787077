//! `brickwork mount`: a process of its own that serves a volume at a directory.
//!
//! The volume is a volfile of this machine, or one that bricks on other machines hand out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use brickwork_mount::FuseOptions;
use serde_json::json;

use crate::args::Globals;
use crate::background::{self, Ready, Ways};
use crate::codes::Code;
use crate::daemon::notify::Notify;
use crate::daemon::process::MOUNT_WORKERS;
use crate::daemon::signals::Signals;
use crate::daemon::{MOUNTS_MAX, Order, log};
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::mountinfo::absolute;
use crate::output::Output;
use crate::remote::Remote;
use crate::spec::Spec;
use crate::stack::{Changes, Stack, Text};
use crate::volfile::look;

pub mod words;

use words::Words;

/// The options of `-o`, for the end of the help.
fn options_help() -> String {
    let mut help = String::from("Options of the mount, for -o:\n");
    for spec in FuseOptions::SPECS {
        let default = spec.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
        let doc: Vec<&str> = spec.doc.split_whitespace().collect();
        help.push_str(&format!("  {}: {}{default}\n          {}\n", spec.key, spec.values, doc.join(" ")));
    }
    help + "\n" + &words::help()
}

/// Mount a volume: one that bricks on other machines serve, or one that a volfile describes.
#[derive(clap::Args, Debug)]
#[command(after_long_help = options_help())]
pub struct Mount {
    /// A volfile, or a volume on other machines: HOST:/VOLUME, HOST:PORT:/VOLUME, HOST1,HOST2:/VOLUME,
    /// unix:/path/to.sock:/VOLUME. What exists as a file is a volfile
    #[arg(value_name = "VOLUME")]
    pub volume: PathBuf,
    /// The directory to mount on
    #[arg(value_name = "DIR")]
    point: PathBuf,
    /// Mount on this directory too: one graph in one process, at two places
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
    /// Stay in the foreground and log to stderr
    #[arg(long)]
    foreground: bool,
    /// Options of the mount, separated by commas: ro, allow_other, readers=2. The long help lists them
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    #[command(flatten)]
    changes: Changes,
    /// Log to this file instead of one in $BRICKWORK_LOG_DIR, else in /var/log/brickwork (as root) or
    /// $XDG_STATE_HOME/brickwork
    #[arg(long, value_name = "FILE", conflicts_with = "foreground")]
    log_file: Option<PathBuf>,
    #[command(flatten)]
    ways: Ways,
    /// Set by `mount.brickwork -s`: options that are unknown are left out
    #[arg(long, hide = true)]
    sloppy: bool,
    /// Set by `mount.brickwork -f`: everything but the mount
    #[arg(long, hide = true)]
    fake: bool,
}

/// Where a volume comes from.
#[derive(Clone, Debug)]
enum Source {
    /// A file of this machine.
    Volfile(PathBuf),
    /// Other machines.
    Volume(Arc<Remote>),
}

impl Source {
    /// What the instance and its log are called.
    fn name(&self) -> String {
        match self {
            Source::Volfile(path) => background::stem(path),
            Source::Volume(remote) => remote.volume().to_owned(),
        }
    }
}

impl Mount {
    /// Mounts.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let words = Words::parse(&self.options, self.sloppy)?;
        let source = self.source(&words)?;
        if globals.daemonized {
            return self.serve(globals, &source, &words, true);
        }
        self.tell(output, &words.notices);
        let points = self.points()?;
        if let Source::Volfile(path) = &source {
            let (_, checked) = self.stack(Text::File(path.clone()), &words).plan(look(output))?;
            self.ways.tell_findings(output, &checked, self.foreground);
        }
        match (self.fake, self.foreground) {
            (true, _) => Ok(Exit::Done),
            (false, true) => self.serve(globals, &source, &words, false),
            (false, false) => self.in_background(globals, output, &source, &words, &points),
        }
    }

    fn tell(&self, output: Output, notices: &[String]) {
        for notice in notices {
            output.aside(&match output.is_json() {
                true => json!({"notice": notice}).to_string(),
                false => format!("notice: {notice}"),
            });
        }
    }

    /// What is to be mounted: a file that exists, or else a volume on other machines.
    fn source(&self, words: &Words) -> Result<Source, Failure> {
        let text = self.volume.to_string_lossy();
        if self.volume.symlink_metadata().is_ok() || !text.contains(':') {
            if let Some(word) = words.remote.first() {
                let what = format!("option `{word}` is for volumes on other machines, and `{text}` is a volfile");
                return Err(Failure::new(Code::MountOption, what).next("leave it out, or mount HOST:/VOLUME"));
            }
            return Ok(Source::Volfile(background::path(&self.volume)?));
        }
        let spec = Spec::parse(&text).map_err(|why| {
            Failure::new(Code::VolumeSpec, format!("`{text}` is neither a file nor a volume on other machines"))
                .because(why)
                .next("HOST:/VOLUME, or the path of a volfile")
        })?;
        Ok(Source::Volume(Arc::new(Remote::new(&text, spec, words)?)))
    }

    fn stack(&self, text: Text, words: &Words) -> Stack {
        let mut overrides = self.changes.overrides();
        overrides.xlator_options.extend(words.xlator_options.iter().cloned());
        overrides.volume_name = overrides.volume_name.or(words.volume_name.clone());
        Stack { text, overrides }
    }

    /// What is to be served; a volume on other machines is asked for.
    async fn order(
        &self,
        globals: &Globals,
        source: &Source,
        words: &Words,
        signals: &mut Signals,
    ) -> Result<Order, Failure> {
        let text = match source {
            Source::Volfile(path) => Text::File(path.clone()),
            Source::Volume(remote) => {
                let text = signals.unless_told(remote.fetch(words.wait)).await??;
                Text::Fetched(remote.clone(), text)
            }
        };
        let stack = self.stack(text, words);
        let (plan, checked) = stack.plan(brickwork_graph::diagnostic::Look::default())?;
        if let Source::Volume(_) = source {
            // Nobody reads it over the shoulder of this machine's user: it is the administrator's of the bricks.
            log::findings(&checked);
        }
        Ok(Order {
            instance: globals.instance.clone().unwrap_or_else(|| source.name()),
            stack,
            plan,
            points: self.points()?,
            options: words.fuse.clone(),
            wait: words.wait,
            notify: Notify::from_environment(),
            pool_threads: self.ways.threads.pool(),
        })
    }

    fn points(&self) -> Result<Vec<PathBuf>, Failure> {
        if self.also.len() >= MOUNTS_MAX {
            return Err(Failure::new(Code::Usage, format!("one process has at most {MOUNTS_MAX} mounts"))
                .next("mount the others by another command"));
        }
        std::iter::once(&self.point).chain(&self.also).map(|point| placed(point)).collect()
    }

    /// Serves in this process; `detached` from whoever started it when it is the one in the background.
    fn serve(&self, globals: &Globals, source: &Source, words: &Words, detached: bool) -> Outcome {
        log::start(self.ways.log_format, words.log_level, "info");
        let order = async |signals: &mut Signals| self.order(globals, source, words, signals).await;
        let tell = |ready: &Ready| tracing::info!(instance = ready.instance, points = ?ready.points, "mounted");
        if detached {
            return self.ways.serve_detached(MOUNT_WORKERS, order, tell);
        }
        self.ways.serve(MOUNT_WORKERS, order, |ready| {
            tell(&ready);
            Ok(())
        })
    }

    /// Starts this command again in the background and waits until it has mounted or failed.
    fn in_background(
        &self,
        globals: &Globals,
        output: Output,
        source: &Source,
        words: &Words,
        points: &[PathBuf],
    ) -> Outcome {
        let log = self.log_file.clone().or(words.log_file.clone());
        let log = log.unwrap_or_else(|| background::default_log(&source.name()));
        let Ready { instance, pid, .. } = background::start(&globals.words, &log)?;
        if output.is_json() {
            let items: Vec<_> =
                points.iter().map(|path| json!({"path": path, "instance": instance, "pid": pid})).collect();
            output.document("MountList", &items)?;
        }
        Ok(Exit::Done)
    }
}

/// The mount point `point` as the kernel names it.
///
/// # Errors
/// `MountPointMissing` and `MountPointTaken`, before a brick is opened. Whatever else is there, a dead mount too, is for
/// the mount to judge.
fn placed(point: &Path) -> Result<PathBuf, Failure> {
    let missing = |error: std::io::Error| {
        Failure::new(Code::MountPointMissing, format!("`{}` is not there", point.display()))
            .because(error)
            .next(format!("mkdir -p {}", point.display()))
    };
    let placed = absolute(point).map_err(missing)?;
    // Before it is touched: a mount whose brick is away makes who looks at it wait, and answers as a dead one does when
    // they waited too long. That its process lives is the difference.
    if let Some(instance) = Runtime::find().mounted_at(&placed)? {
        let shown = placed.display();
        return Err(Failure::new(Code::MountPointTaken, format!("`{instance}` is mounted at `{shown}` already"))
            .next(format!("brickwork umount {shown}, or choose another directory")));
    }
    match placed.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(error)),
        _ => Ok(placed),
    }
}

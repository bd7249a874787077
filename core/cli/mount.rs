//! `brickwork mount`: a process of its own that serves a volfile at a directory.
//!
//! Without `--foreground` the command starts itself again in the background and waits for one line on its stdout: that
//! every mount answers, or why not. So it returns when the mount can be used, and its exit code is the truth.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};

use brickwork_graph::check::Checked;
use brickwork_mount::FuseOptions;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::Globals;
use crate::codes::Code;
use crate::daemon::signals::{Signal, Signals};
use crate::daemon::{Ended, MOUNTS_MAX, Order, Server, log, process};
use crate::failure::{Exit, Failure, Outcome};
use crate::mountinfo::absolute;
use crate::output::Output;
use crate::stack::{Changes, Stack, Text};
use crate::volfile::look;

/// The options of `-o`, for the end of the help.
fn options_help() -> String {
    let mut help = String::from("Options of the mount, for -o:\n");
    for spec in FuseOptions::SPECS {
        let default = spec.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
        let doc: Vec<&str> = spec.doc.split_whitespace().collect();
        help.push_str(&format!("  {}: {}{default}\n          {}\n", spec.key, spec.values, doc.join(" ")));
    }
    help
}

/// Mount the volume that a volfile describes.
#[derive(clap::Args, Debug)]
#[command(after_long_help = options_help())]
pub struct Mount {
    /// The volfile
    #[arg(value_name = "VOLFILE")]
    volfile: PathBuf,
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
    /// Write the number of the serving process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Log to this file instead of one in $BRICKWORK_LOG_DIR, else in /var/log/brickwork (as root) or
    /// $XDG_STATE_HOME/brickwork
    #[arg(long, value_name = "FILE", conflicts_with = "foreground")]
    log_file: Option<PathBuf>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = log::Format::Text, value_name = "FORMAT")]
    log_format: log::Format,
    #[command(flatten)]
    threads: process::Threads,
}

/// What a process in the background tells the command that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Report {
    /// Every mount answers.
    Ready(Ready),
    /// Nothing is left of it.
    Failed(Failure),
}

/// What serves where.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    instance: String,
    pid: u32,
    points: Vec<PathBuf>,
}

impl Mount {
    /// Mounts.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        if globals.daemonized {
            return self.as_daemon(globals, output);
        }
        let (order, checked) = self.order(globals, output)?;
        if output.is_json() && !checked.findings.is_empty() {
            output.aside(&checked.to_json().to_string());
        } else {
            output.aside_unless_empty(&checked.render(look(output)));
        }
        if !self.foreground {
            return self.in_background(output);
        }
        log::start(self.log_format, "info");
        self.serve(order, self.pid_file.clone(), |ready| {
            tracing::info!(instance = ready.instance, points = ?ready.points, "mounted");
            Ok(())
        })
    }

    /// What is to be served, and what the check has to say that does not forbid it.
    fn order(&self, globals: &Globals, output: Output) -> Result<(Order, Checked), Failure> {
        let stack = Stack { text: Text::File(path(&self.volfile)?), overrides: self.changes.overrides() };
        let (plan, checked) = stack.plan(look(output))?;
        let stem = self.volfile.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let order = Order {
            instance: globals.instance.clone().unwrap_or(stem),
            stack,
            plan,
            points: self.points()?,
            options: words(&self.options)?,
            pool_threads: self.threads.pool(),
        };
        Ok((order, checked))
    }

    fn points(&self) -> Result<Vec<PathBuf>, Failure> {
        if self.also.len() >= MOUNTS_MAX {
            return Err(Failure::new(Code::Usage, format!("one process has at most {MOUNTS_MAX} mounts"))
                .next("mount the others by another command"));
        }
        std::iter::once(&self.point)
            .chain(&self.also)
            .map(|point| {
                let missing = |error: std::io::Error| {
                    Failure::new(Code::MountPointMissing, format!("`{}` is not there", point.display()))
                        .because(error)
                        .next(format!("mkdir -p {}", point.display()))
                };
                let placed = absolute(point).map_err(missing)?;
                match placed.symlink_metadata() {
                    // Before the brick is opened. Whatever else there is, a dead mount too, is for the mount to judge.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(error)),
                    _ => Ok(placed),
                }
            })
            .collect()
    }

    /// Serves until the last mount is gone or a signal ends it; `tell` is called when every mount answers.
    fn serve(
        &self,
        order: Order,
        pid_file: Option<PathBuf>,
        tell: impl FnOnce(Ready) -> Result<(), Failure>,
    ) -> Outcome {
        process::prepare();
        let runtime = self.threads.runtime()?;
        let outcome = runtime.block_on(async {
            let mut signals = Signals::hear()?;
            let mut server = Server::start(order).await?;
            let told = pid_file.as_deref().map(PidFile::write).transpose().and_then(|pid_file| {
                let points = server.points().map(Path::to_owned).collect();
                tell(Ready { instance: server.instance().to_owned(), pid: std::process::id(), points })?;
                Ok(pid_file)
            });
            let pid_file = match told {
                Ok(pid_file) => pid_file,
                Err(failure) => {
                    server.stop(true).await;
                    return Err(failure);
                }
            };
            let never = pin!(std::future::pending::<()>());
            let ended = server.drive(&mut signals, never).await;
            tracing::info!(?ended, "stopping");
            let clean = server.stop(matches!(ended, Ended::Told(Signal::Interrupt))).await;
            drop(pid_file);
            Ok(if clean { Exit::Done } else { Exit::Failed })
        });
        // Threads of the pool that hang in a call of a broken disk must not keep the process.
        runtime.shutdown_background();
        outcome
    }

    /// The process in the background: serves, and reports on its stdout.
    fn as_daemon(&self, globals: &Globals, output: Output) -> Outcome {
        log::start(self.log_format, "info");
        let outcome = self.order(globals, output).and_then(|(order, _)| {
            // Alone in a session, so that no terminal's Ctrl-C or hang-up reaches it. Only a leader of a process group
            // is refused, and that has a terminal of its own already.
            let _ = rustix::process::setsid();
            let pid_file = self.pid_file.as_deref().map(path).transpose()?;
            // The directory it was started in may be on a disk that somebody wants to unmount.
            std::env::set_current_dir("/")
                .map_err(|error| Failure::new(Code::System, "the working directory cannot be left").because(error))?;
            self.serve(order, pid_file, |ready| {
                tracing::info!(instance = ready.instance, points = ?ready.points, "mounted");
                report(&Report::Ready(ready))
                    .and_then(|()| process::close_stdout())
                    .map_err(|error| Failure::new(Code::System, "nobody waits for the mount any more").because(error))
            })
        });
        if let Err(failure) = &outcome {
            tracing::error!(code = failure.code().as_str(), why = failure.why(), "{}", failure.message());
            // Nobody reads it after the mount was ready: then stdout leads nowhere.
            let _ = report(&Report::Failed(failure.clone()));
        }
        outcome
    }

    /// Starts this command again in the background and waits until it has mounted or failed.
    fn in_background(&self, output: Output) -> Outcome {
        let (log_path, log) = self.log()?;
        let mut child = spawn(log)?;
        let report = hear(&mut child);
        match report {
            Some(Report::Ready(Ready { instance, pid, points })) => {
                if output.is_json() {
                    let items: Vec<_> =
                        points.iter().map(|path| json!({"path": path, "instance": instance, "pid": pid})).collect();
                    output.document("MountList", &items)?;
                }
                Ok(Exit::Done)
            }
            Some(Report::Failed(failure)) => {
                // It ends by itself; until then its mounts and names may not be free.
                let _ = child.wait();
                Err(failure)
            }
            None => {
                let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(Failure::new(Code::DaemonDied, "the process ended before the mount was ready")
                    .because(status)
                    .next(format!("its log: {}", log_path.display())))
            }
        }
    }

    fn log(&self) -> Result<(PathBuf, File), Failure> {
        let path = match &self.log_file {
            Some(path) => path.clone(),
            None => default_log(&self.volfile),
        };
        let open = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
            }
            OpenOptions::new().create(true).append(true).mode(0o640).open(&path)
        };
        match open() {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(Failure::new(Code::System, format!("the log `{}` cannot be opened", path.display()))
                .because(error)
                .next("name another file with --log-file")),
        }
    }
}

/// Reads what follows `-o`.
pub fn words(options: &[String]) -> Result<FuseOptions, Failure> {
    FuseOptions::from_words(&options.join(",")).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Code::MountOption, texts.join("\n")).next("brickwork mount --help")
    })
}

/// `path` as it stays valid in another working directory.
fn path(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Code::System, "the working directory is not known").because(error))
}

fn report(report: &Report) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout();
    stdout.write_all(&line)?;
    stdout.flush()
}

fn spawn(log: File) -> Result<Child, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Code::System, "the background process cannot be started").because(error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("--daemonized").args(std::env::args_os().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().map_err(failed)
}

/// What the process in the background reports; `None` when it ended without a word.
fn hear(child: &mut Child) -> Option<Report> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// In `$BRICKWORK_LOG_DIR`; else in `/var/log/brickwork` for root; for a user in `$XDG_STATE_HOME/brickwork`, or what the specification says it is.
fn default_log(volfile: &Path) -> PathBuf {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || match (given("XDG_STATE_HOME"), given("HOME")) {
        (Some(state), _) => state.join("brickwork"),
        (None, Some(home)) => home.join(".local/state/brickwork"),
        (None, None) => std::env::temp_dir(),
    };
    let folder = given("BRICKWORK_LOG_DIR").unwrap_or_else(|| match rustix::process::geteuid().is_root() {
        true => PathBuf::from("/var/log/brickwork"),
        false => of_user(),
    });
    // Not `with_extension`: a stem may have dots of its own, as those of GlusterFS do.
    let mut name = volfile.file_stem().unwrap_or("mount".as_ref()).to_owned();
    name.push(".log");
    folder.join(name)
}

/// A file with the number of this process, while it lives.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<PidFile, Failure> {
        std::fs::write(path, format!("{}\n", std::process::id())).map(|()| PidFile(path.to_owned())).map_err(|error| {
            Failure::new(Code::System, format!("`{}` cannot be written", path.display())).because(error)
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "the pid file could not be removed");
        }
    }
}

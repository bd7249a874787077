//! How a serving process is run: in the foreground, or in the background with a word to whoever started it.
//!
//! A command that leaves a process in the background starts itself again and waits for one line on its stdout: that
//! everything answers, or why not. So it returns when what it started can be used, and its exit code is the truth.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};

use brickwork_graph::check::Checked;
use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::daemon::signals::{Signal, Signals};
use crate::daemon::{Ended, Order, Server, log, process};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::volfile::look;

/// What every serving process takes.
#[derive(clap::Args, Clone, Debug)]
pub struct Ways {
    /// Write the number of the serving process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = log::Format::Text, value_name = "FORMAT")]
    pub log_format: log::Format,
    #[command(flatten)]
    pub threads: process::Threads,
}

/// What a process in the background tells the command that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Report {
    /// Everything answers.
    Ready(Ready),
    /// Nothing is left of it.
    Failed(Failure),
}

/// What serves, and where it is mounted, if it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// The instance.
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// Its mounts.
    pub points: Vec<PathBuf>,
}

impl Ways {
    /// Tells what a check has to say that does not forbid the volfile. A process in the foreground whose log is JSON has
    /// nothing else on stderr: then each finding is a line of the log.
    pub fn tell_findings(&self, output: Output, checked: &Checked, foreground: bool) {
        if foreground && self.log_format == log::Format::Json {
            log::start(self.log_format, None, "info");
            log::findings(checked);
        } else if output.is_json() && !checked.findings.is_empty() {
            output.aside(&checked.to_json().to_string());
        } else {
            output.aside_unless_empty(&checked.render(look(output)));
        }
    }

    /// Serves what `order` says until the last mount is gone or a signal ends it; `tell` is called when everything
    /// answers.
    ///
    /// # Errors
    /// Those of `order`, of the start and of `tell`; nothing runs then.
    pub fn serve(
        &self,
        workers: usize,
        order: impl AsyncFnOnce(&mut Signals) -> Result<Order, Failure>,
        tell: impl FnOnce(Ready) -> Result<(), Failure>,
    ) -> Outcome {
        let pid_file = self.pid_file.as_deref().map(path).transpose()?;
        process::prepare();
        let runtime = self.threads.runtime(workers)?;
        let outcome = runtime.block_on(async {
            let mut signals = Signals::hear()?;
            let order = order(&mut signals).await?;
            let mut server = Server::start(order, &mut signals).await?;
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
    pub fn serve_detached(
        &self,
        workers: usize,
        order: impl AsyncFnOnce(&mut Signals) -> Result<Order, Failure>,
        tell: impl FnOnce(&Ready),
    ) -> Outcome {
        // Alone in a session, so that no terminal's Ctrl-C or hang-up reaches it. Only a leader of a process group
        // is refused, and that has a terminal of its own already.
        let _ = rustix::process::setsid();
        let outcome = self.absolute().and_then(|ways| {
            let order = async |signals: &mut Signals| {
                let order = order(signals).await?;
                // The directory it was started in may be on a disk that somebody wants to unmount.
                std::env::set_current_dir("/").map_err(|error| {
                    Failure::new(Code::System, "the working directory cannot be left").because(error)
                })?;
                Ok(order)
            };
            ways.serve(workers, order, |ready| {
                tell(&ready);
                report(&Report::Ready(ready)).and_then(|()| process::close_stdout()).map_err(|error| {
                    Failure::new(Code::System, "nobody waits for this process any more").because(error)
                })
            })
        });
        if let Err(failure) = &outcome {
            tracing::error!(code = failure.code().as_str(), why = failure.why(), "{}", failure.message());
            // Nobody reads it after everything was ready: then stdout leads nowhere.
            let _ = report(&Report::Failed(failure.clone()));
        }
        outcome
    }

    fn absolute(&self) -> Result<Ways, Failure> {
        Ok(Ways { pid_file: self.pid_file.as_deref().map(path).transpose()?, ..self.clone() })
    }
}

/// Starts this command again in the background, with `words` and a log, and waits until it is ready or has failed.
///
/// # Errors
/// What the process reports; `DaemonDied` when it ended without a word.
pub fn start(words: &[OsString], log: &Path) -> Result<Ready, Failure> {
    let mut child = spawn(words, open_log(log)?)?;
    match hear(&mut child) {
        Some(Report::Ready(ready)) => Ok(ready),
        Some(Report::Failed(failure)) => {
            // It ends by itself; until then its mounts and names may not be free.
            let _ = child.wait();
            Err(failure)
        }
        None => {
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(Failure::new(Code::DaemonDied, "the process ended before it was ready")
                .because(status)
                .next(format!("its log: {}", log.display())))
        }
    }
}

/// Where a process called `name` logs to, in `$BRICKWORK_LOG_DIR`; else in `/var/log/brickwork` for root; for a user in
/// `$XDG_STATE_HOME/brickwork`, or what the specification says it is.
#[must_use]
pub fn default_log(name: &str) -> PathBuf {
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
    folder.join(format!("{name}.log"))
}

/// The file name of `volfile` up to its last dot: a stem may have dots of its own, as those of GlusterFS do.
#[must_use]
pub fn stem(volfile: &Path) -> String {
    volfile.file_stem().unwrap_or("volume".as_ref()).to_string_lossy().into_owned()
}

/// `path` as it stays valid in another working directory.
///
/// # Errors
/// A working directory that is not known.
pub fn path(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Code::System, "the working directory is not known").because(error))
}

fn open_log(path: &Path) -> Result<File, Failure> {
    let open = || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o640).open(path)
    };
    open().map_err(|error| {
        Failure::new(Code::System, format!("the log `{}` cannot be opened", path.display()))
            .because(error)
            .next("name another file with --log-file")
    })
}

fn spawn(words: &[OsString], log: File) -> Result<Child, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Code::System, "the background process cannot be started").because(error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("--daemonized").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().map_err(failed)
}

/// What the process in the background reports; `None` when it ended without a word.
fn hear(child: &mut Child) -> Option<Report> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn report(report: &Report) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout();
    stdout.write_all(&line)?;
    stdout.flush()
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

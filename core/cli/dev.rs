//! `brickwork dev`: from nothing to a mounted volume in one command, and back to nothing.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use brickwork_graph::check::Overrides;
use brickwork_graph::volfile::Volfile;
use brickwork_mount::FuseOptions;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::args::Globals;
use crate::codes::Code;
use crate::daemon::notify::Notify;
use crate::daemon::signals::{Signal, Signals};
use crate::daemon::{Ended, Order, Server, log, process};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::stack::{Changes, Stack, Text};
use crate::volfile::look;

mod place;

use place::Place;

/// The graph without `--graph`.
const DEV_VOL: &str = include_str!("../../volfiles/dev.vol");
/// A brick in a volfile with a directory beneath this one gets its directory from `dev`.
const PLACEHOLDER: &str = "/brickwork/dev/";

/// Start a playground: a brick, a graph and a mount in one command, without root.
#[derive(clap::Args, Debug)]
pub struct Dev {
    /// How many bricks
    #[arg(long, value_name = "N", default_value_t = 1)]
    bricks: u32,
    /// Serve this volfile; bricks with a directory beneath /brickwork/dev/ get one of the playground
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// Run CMD by `sh -c` with $MNT as the mount, clean up, and exit with its code
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Keep the directory
    #[arg(long)]
    keep: bool,
    /// Options of the mount, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = log::Format::Text, value_name = "FORMAT")]
    log_format: log::Format,
    #[command(flatten)]
    threads: process::Threads,
}

impl Dev {
    /// Serves until the command or the user ends it.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let begun = Instant::now();
        if self.bricks != 1 {
            return Err(Failure::new(Code::DevBricks, format!("`dev` serves one brick, not {}", self.bricks))
                .because("several bricks need cluster/distribute, which is not part of this version")
                .next("leave --bricks out"));
        }
        let options = crate::mount::words::fuse(&self.options)?;
        log::start(self.log_format, None, "warn");
        let place = Place::make(self.keep)?;
        let order = self.order(globals, output, &place, options)?;
        process::prepare();
        let runtime = self.threads.runtime(process::MOUNT_WORKERS)?;
        let outcome = runtime.block_on(self.serve(order, &place, output, begun));
        // Threads of the pool that hang in a call of a broken disk must not keep the process.
        runtime.shutdown_background();
        if self.keep {
            output.aside(&format!("kept {}", place.directory().display()));
        }
        let cleaned = place.clean();
        outcome.and_then(|exit| cleaned.map(|()| exit))
    }

    fn order(&self, globals: &Globals, output: Output, place: &Place, options: FuseOptions) -> Result<Order, Failure> {
        let text = match &self.graph {
            Some(path) => Text::File(path.clone()),
            None => Text::BuiltIn("dev.vol", DEV_VOL),
        };
        let overrides = self.changes.overrides();
        let mut stack = Stack { text, overrides };
        let bricks = placeholders(&stack.check()?.tree);
        for (_, name) in &bricks {
            place.brick(name)?;
        }
        stack.overrides = with_directories(&stack.overrides, &bricks, place);
        let (plan, checked) = stack.plan(look(output))?;
        output.aside_unless_empty(&checked.render(look(output)));
        Ok(Order {
            instance: globals.instance.clone().unwrap_or_else(|| "dev".to_owned()),
            stack,
            plan,
            points: vec![place.mount()],
            options,
            wait: None,
            notify: Notify::default(),
            pool_threads: self.threads.pool(),
        })
    }

    async fn serve(&self, order: Order, place: &Place, output: Output, begun: Instant) -> Outcome {
        let mut signals = Signals::hear()?;
        let summary = Summary::of(&order, place);
        let mut server = Server::start(order, &mut signals).await?;
        let outcome = match &self.exec {
            Some(command) => execute(&mut server, &mut signals, place, command).await,
            None => {
                summary.print(output, server.instance(), self.keep, begun)?;
                let never = pin!(std::future::pending::<()>());
                server.drive(&mut signals, never).await;
                Ok(Exit::Done)
            }
        };
        // It is a playground: files that are still open in it have no claim.
        let clean = server.stop(true).await;
        match outcome {
            Ok(Exit::Done) if !clean => Ok(Exit::Failed),
            outcome => outcome,
        }
    }
}

/// Runs `command` while `server` serves, and answers what it exited with.
async fn execute(server: &mut Server, signals: &mut Signals, place: &Place, command: &str) -> Outcome {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("MNT", place.mount())
        .env("BRICKWORK_INSTANCE", server.instance())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::new(Code::DevCommand, "`sh` cannot be started").because(error))?;
    let pid = pid_of(&child);
    let mut waiting = pin!(child.wait());
    loop {
        match server.drive(signals, waiting.as_mut()).await {
            Ended::Done(Ok(status)) => {
                // As a shell says it: 128 and the signal.
                let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
                return Ok(if code == 0 { Exit::Done } else { Exit::Of(code as u8) });
            }
            Ended::Done(Err(error)) => {
                return Err(Failure::new(Code::DevCommand, "the command was lost").because(error));
            }
            Ended::Told(Signal::Terminate) => {
                if let Some(pid) = pid
                    && let Err(errno) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                {
                    tracing::debug!(%errno, "the command had ended already");
                }
            }
            // The terminal sends it to the command too: the command decides. A mount that the command took away is
            // its own business.
            Ended::Told(_) | Ended::Unmounted => {}
        }
    }
}

fn pid_of(child: &Child) -> Option<rustix::process::Pid> {
    child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32))
}

/// The bricks of a volfile that get a directory from `dev`: their volume, and the name of the directory.
fn placeholders(tree: &Volfile) -> Vec<(String, String)> {
    let bricks =
        tree.volumes.iter().filter(|volume| volume.kind().is_some_and(|kind| kind.text == brickwork_posix::TYPE.name));
    let named = bricks.filter_map(|volume| {
        let (_, directory, _) = volume.options().find(|(key, _, _)| key.text == "directory")?;
        let name = directory.text.strip_prefix(PLACEHOLDER)?;
        let plain = !name.is_empty() && !name.contains('/') && name != ".." && name != ".";
        plain.then(|| (volume.name().text.clone(), name.to_owned()))
    });
    named.collect()
}

/// What the command line changes comes after what `dev` does, and so wins.
fn with_directories(overrides: &Overrides, bricks: &[(String, String)], place: &Place) -> Overrides {
    let directory =
        |(volume, name): &(String, String)| format!("{volume}.directory={}", place.directory().join(name).display());
    let xlator_options = bricks.iter().map(directory).chain(overrides.xlator_options.iter().cloned()).collect();
    Overrides { xlator_options, ..overrides.clone() }
}

/// What is told when everything is there.
struct Summary {
    mount: PathBuf,
    bricks: Vec<PathBuf>,
    graph: String,
    xlators: usize,
}

impl Summary {
    fn of(order: &Order, place: &Place) -> Summary {
        let bricks = order.plan.volumes.iter().filter(|volume| volume.kind.name == brickwork_posix::TYPE.name);
        Summary {
            mount: place.mount(),
            bricks: bricks.filter_map(|volume| volume.options.get("directory")).map(PathBuf::from).collect(),
            graph: order.stack.name(),
            xlators: order.plan.volumes.len(),
        }
    }

    fn print(&self, output: Output, instance: &str, keep: bool, begun: Instant) -> Result<(), Failure> {
        let seconds = begun.elapsed().as_secs_f64();
        let mount = self.mount.display();
        if output.is_json() {
            let item = json!({
                "instance": instance, "mount": self.mount, "bricks": self.bricks, "graph": self.graph,
                "xlators": self.xlators, "pid": std::process::id(), "readySeconds": seconds,
            });
            return output.document("Dev", &[item]);
        }
        let rootless = if rustix::process::geteuid().is_root() {
            ""
        } else {
            "   (rootless: metadata in user.brickwork.*, private to you)"
        };
        let bricks: String =
            self.bricks.iter().map(|brick| format!("  ✓ brick    {}{rootless}\n", brick.display())).collect();
        let plural = if self.xlators == 1 { "" } else { "s" };
        let end = if keep {
            "Ctrl-C stops everything."
        } else {
            "Ctrl-C stops everything and deletes the directory (--keep to keep it)."
        };
        output.text(&format!(
            "{bricks}  ✓ graph    {}   generation 1, {} xlator{plural}, checked\n  ✓ mount    {mount}\nready in {seconds:.2} s\n\n\
             \x20 echo hi > {mount}/f{:12}write something\n\
             \x20 brickwork -i {instance} graph show --live{:6}see where it goes\n\
             \x20 brickwork -i {instance} status\n{end}\n",
            self.graph, self.xlators, "", "",
        ))
    }
}

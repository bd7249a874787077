//! `brickwork brick serve`: a process that serves the bricks of a volfile to other machines.

use std::path::PathBuf;

use brickwork_graph::plan::Plan;
use brickwork_mount::FuseOptions;
use serde_json::json;

use crate::args::Globals;
use crate::background::{self, Ready, Ways};
use crate::codes::Code;
use crate::daemon::notify::Notify;
use crate::daemon::process::brick_workers;
use crate::daemon::signals::Signals;
use crate::daemon::{Order, SERVER, log};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::stack::{Changes, Stack, Text};
use crate::volfile::look;

/// Serve bricks to other machines.
///
/// It stays in the foreground, logs to stderr, and tells systemd when clients can come (Type=notify). SIGTERM: what
/// clients have asked for is answered, then it ends. SIGHUP: the volfile is read again.
#[derive(clap::Args, Debug)]
pub struct Serve {
    /// The volfile; its top is a `protocol/server` volume
    #[arg(value_name = "VOLFILE")]
    volfile: PathBuf,
    /// Leave the process in the background; return when clients can come
    #[arg(long)]
    background: bool,
    /// With --background, log to this file instead of one in $BRICKWORK_LOG_DIR, else in /var/log/brickwork (as root)
    /// or $XDG_STATE_HOME/brickwork
    #[arg(long, value_name = "FILE", requires = "background")]
    log_file: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    ways: Ways,
}

impl Serve {
    /// Serves until it is told to stop.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let stack = Stack { text: Text::File(background::path(&self.volfile)?), overrides: self.changes.overrides() };
        if globals.daemonized {
            return self.serve(globals, &stack, true);
        }
        let (plan, checked) = stack.plan(look(output))?;
        self.served(&plan)?;
        self.ways.tell_findings(output, &checked, !self.background);
        if !self.background {
            return self.serve(globals, &stack, false);
        }
        let log = self.log_file.clone().unwrap_or_else(|| background::default_log(&background::stem(&self.volfile)));
        let Ready { instance, pid, .. } = background::start(&globals.words, &log)?;
        if output.is_json() {
            output.document("BrickList", &[json!({"instance": instance, "pid": pid})])?;
        }
        Ok(Exit::Done)
    }

    fn serve(&self, globals: &Globals, stack: &Stack, detached: bool) -> Outcome {
        log::start(self.ways.log_format, None, "info");
        let order = async |_: &mut Signals| self.order(globals, stack);
        let tell = |ready: &Ready| tracing::info!(instance = ready.instance, volfile = stack.name(), "serving");
        if detached {
            return self.ways.serve_detached(brick_workers(), order, tell);
        }
        self.ways.serve(brick_workers(), order, |ready| {
            tell(&ready);
            Ok(())
        })
    }

    fn order(&self, globals: &Globals, stack: &Stack) -> Result<Order, Failure> {
        let (plan, _) = stack.plan(brickwork_graph::diagnostic::Look::default())?;
        self.served(&plan)?;
        Ok(Order {
            instance: globals.instance.clone().unwrap_or_else(|| background::stem(&self.volfile)),
            stack: stack.clone(),
            plan,
            points: Vec::new(),
            options: FuseOptions::default(),
            wait: None,
            notify: Notify::from_environment(),
            pool_threads: self.ways.threads.pool(),
        })
    }

    /// Whether `plan` serves anything.
    ///
    /// # Errors
    /// `NothingServed`.
    fn served(&self, plan: &Plan) -> Result<(), Failure> {
        let top = &plan.volumes[plan.root];
        if top.kind.name == SERVER {
            return Ok(());
        }
        let shown = self.volfile.display();
        Err(Failure::new(Code::NothingServed, format!("`{shown}` serves nothing"))
            .at(&top.place)
            .because(format!("its top, `{}`, is a `{}`, not a `{SERVER}`", top.name, top.kind.name))
            .next(format!("put a `{SERVER}` volume on it, or: brickwork mount {shown} DIR")))
    }
}

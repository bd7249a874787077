//! `brickwork status`: what runs, problems first.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::args::Globals;
use crate::client::{Client, no_instance};
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::mountinfo::{self, State};
use crate::output::{Output, bytes, span, table};
use crate::protocol::{InstanceReport, ProblemReport, Request, ServingReport};

/// How long `status` waits for a mount point to say whether anybody serves it.
const MOUNT_MAX: Duration = Duration::from_millis(500);

/// Show what runs, problems first.
#[derive(clap::Args, Debug)]
pub struct Status {
    /// The instance; all when none is named
    #[arg(value_name = "INSTANCE")]
    name: Option<String>,
    /// Exit with 3 when something is degraded
    #[arg(long)]
    exit_code: bool,
}

/// An instance, or why it did not tell.
struct Heard {
    name: String,
    report: Result<InstanceReport, Failure>,
}

impl Status {
    /// Asks every instance that is meant and prints what they say.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let runtime = Runtime::find();
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => globals.instance.clone().map_or_else(|| runtime.instances(), |name| Ok(vec![name]))?,
        };
        let named = self.name.is_some() || globals.instance.is_some();
        let dead = if named { Vec::new() } else { dead_mounts(&runtime)? };
        // After a crash of the only instance its mounts are what there is to tell.
        if names.is_empty() && dead.is_empty() {
            return Err(no_instance(&runtime));
        }
        let heard: Vec<Heard> = names.into_iter().map(|name| hear(&runtime, name, globals)).collect();
        if let [Heard { report: Err(failure), .. }] = heard.as_slice()
            && named
        {
            return Err(failure.clone());
        }
        let healthy = dead.is_empty() && heard.iter().all(|heard| heard.problems().is_empty());
        if output.is_json() {
            print_json(output, &heard, &dead)?;
        } else {
            output.text(&text(&heard, &dead))?;
        }
        Ok(if self.exit_code && !healthy { Exit::Degraded } else { Exit::Done })
    }
}

fn hear(runtime: &Runtime, name: String, globals: &Globals) -> Heard {
    let report = Client::connect(runtime, &name, globals.timeout).and_then(|mut client| client.ask(&Request::Status));
    Heard { name, report }
}

impl Heard {
    fn problems(&self) -> Vec<ProblemReport> {
        match &self.report {
            Ok(report) => report.problems.clone(),
            Err(failure) => vec![ProblemReport {
                what: failure.message().to_owned(),
                effect: "what it does is not known".to_owned(),
                next: format!("brickwork explain {}", failure.code().as_str()),
            }],
        }
    }
}

/// Mount points of ours whose process has died.
fn dead_mounts(runtime: &Runtime) -> Result<Vec<PathBuf>, Failure> {
    let mut points = mountinfo::mount_points().unwrap_or_default();
    // Those of a process that lives need not be asked: one whose brick is away makes its askers wait, and answers as a
    // dead one does when they waited too long.
    let alive = runtime.mounted()?;
    points.retain(|point| !alive.contains(point));
    let states = mountinfo::states(points, MOUNT_MAX);
    let dead = states.into_iter().filter(|(_, state)| *state == Some(State::Dead)).map(|(point, _)| point);
    Ok(dead.collect())
}

fn print_json(output: Output, heard: &[Heard], dead: &[PathBuf]) -> Result<(), Failure> {
    let items: Vec<Value> = heard
        .iter()
        .map(|heard| match &heard.report {
            Ok(report) => json!(report),
            Err(_) => json!({"instance": heard.name, "problems": heard.problems()}),
        })
        .collect();
    output.document_with("StatusList", &items, Map::from_iter([("deadMounts".to_owned(), json!(dead))]))
}

fn text(heard: &[Heard], dead: &[PathBuf]) -> String {
    let mut text: String = heard.iter().map(headline).collect();
    if heard.is_empty() {
        text.push_str("no instance is running\n");
    }
    let mut problems: Vec<ProblemReport> = heard.iter().flat_map(Heard::problems).collect();
    problems.extend(dead.iter().map(|point| ProblemReport {
        what: format!("the process behind the mount `{}` has died", point.display()),
        effect: "everything there answers ENOTCONN".to_owned(),
        next: format!("mount it again, or brickwork umount {}", point.display()),
    }));
    for problem in problems {
        text.push_str(&format!(
            "\n✗ {}\n    effect   {}\n    next     {}\n",
            problem.what, problem.effect, problem.next
        ));
    }
    let reports: Vec<&InstanceReport> = heard.iter().filter_map(|heard| heard.report.as_ref().ok()).collect();
    for report in &reports {
        if let Some(uid) = report.private_to_uid {
            text.push_str(&format!(
                "\n{}: private mount of uid {uid}: other users get EACCES, files cannot be given to others (EPERM)\n",
                report.instance
            ));
        }
    }
    text + &tables(&reports)
}

fn headline(heard: &Heard) -> String {
    let Ok(report) = &heard.report else { return format!("{}   UNKNOWN\n", heard.name) };
    let state = if report.problems.is_empty() { "healthy" } else { "DEGRADED" };
    let used = match report.capacity {
        Some(capacity) => format!("{} used of {}", bytes(capacity.used_bytes), bytes(capacity.total_bytes)),
        None => "use not known".to_owned(),
    };
    let does = match report.serving.as_slice() {
        [] => format!("{} · {used}", counted(report.mounts.len(), "mount")),
        serving => serves(serving),
    };
    let up = span(report.uptime_seconds as u64);
    format!("{}   {state}   {does} · up {up} · pid {} · version {}\n", report.instance, report.pid, report.version)
}

fn serves(serving: &[ServingReport]) -> String {
    let exports = || serving.iter().flat_map(|serving| &serving.exports);
    let sessions = exports().flat_map(|export| &export.sessions).filter(|session| session.attached());
    let clients: BTreeSet<&str> = sessions.map(|session| session.client.as_str()).collect();
    let places: Vec<&str> = serving.iter().flat_map(|serving| &serving.listening).map(String::as_str).collect();
    let (bricks, clients) = (counted(exports().count(), "brick"), counted(clients.len(), "client"));
    format!("{bricks} · {clients} · listening at {}", places.join(" "))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn tables(reports: &[&InstanceReport]) -> String {
    let mounts: Vec<[String; 4]> = reports
        .iter()
        .flat_map(|report| report.mounts.iter().map(move |mount| (report, mount)))
        .map(|(report, mount)| {
            let count = |key: &str| mount.status[key].as_u64().map_or("–".to_owned(), |count| count.to_string());
            let path = mount.path.display().to_string();
            [path, report.instance.clone(), count("open_files"), count("pending")]
        })
        .collect();
    let bricks: Vec<[String; 3]> = reports
        .iter()
        .flat_map(|report| report.bricks.iter().map(move |brick| (report, brick)))
        .map(|(report, brick)| [brick.name.clone(), report.instance.clone(), brick.directory.display().to_string()])
        .collect();
    let links: Vec<[String; 5]> = reports
        .iter()
        .flat_map(|report| report.links.iter().map(move |link| (report, link)))
        .map(|(report, link)| {
            let state = if link.up() { "up".to_owned() } else { link.state.to_uppercase() };
            let since = span(link.since_seconds as u64);
            [link.name.clone(), report.instance.clone(), state, since, link.brick.clone()]
        })
        .collect();
    let mut text = String::new();
    if !mounts.is_empty() {
        text.push_str(&format!("\n{}", table(["MOUNT", "INSTANCE", "OPEN FILES", "WAITING"], &mounts)));
    }
    if !bricks.is_empty() {
        text.push_str(&format!("\n{}", table(["BRICK", "INSTANCE", "DIRECTORY"], &bricks)));
    }
    if !links.is_empty() {
        text.push_str(&format!("\n{}", table(["BRICK", "INSTANCE", "STATE", "SINCE", "AT"], &links)));
    }
    text
}

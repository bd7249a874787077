//! `brickwork brick status`: the bricks that are served on this machine, and who uses them.

use serde_json::{Value, json};

use crate::args::Globals;
use crate::client::{Client, no_instance};
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::output::{Output, bytes, span, table};
use crate::protocol::{ExportReport, InstanceReport, Request, ServingReport};

/// Show the bricks that are served on this machine, and their clients.
#[derive(clap::Args, Debug)]
pub struct Status {
    /// The instance; all that serve bricks when none is named
    #[arg(value_name = "INSTANCE")]
    name: Option<String>,
}

impl Status {
    /// Asks every instance that is meant and prints what those say that serve bricks.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let runtime = Runtime::find();
        let named = self.name.clone().or_else(|| globals.instance.clone());
        let names = match &named {
            Some(name) => vec![name.clone()],
            None => runtime.instances()?,
        };
        let (mut reports, mut silent) = (Vec::new(), Vec::new());
        for name in names {
            match ask(&runtime, &name, globals) {
                Ok(report) => reports.push(report),
                Err(failure) => silent.push(failure),
            }
        }
        reports.retain(|report| !report.serving.is_empty());
        match (reports.is_empty(), silent.into_iter().next()) {
            (true, Some(failure)) => return Err(failure),
            (true, None) => return Err(none(&runtime, named.as_deref())),
            // The others are there to be seen; who is silent is a problem that is told beside them.
            (false, Some(failure)) => output.failure(&failure),
            (false, None) => {}
        }
        if output.is_json() {
            output.document("BrickStatusList", &reports.iter().flat_map(items).collect::<Vec<_>>())?;
        } else {
            output.text(&text(&reports))?;
        }
        Ok(Exit::Done)
    }
}

fn ask(runtime: &Runtime, name: &str, globals: &Globals) -> Result<InstanceReport, Failure> {
    Client::connect(runtime, name, globals.timeout)?.ask(&Request::Status)
}

fn none(runtime: &Runtime, named: Option<&str>) -> Failure {
    match named {
        Some(name) => Failure::new(Code::NoInstance, format!("`{name}` serves no bricks"))
            .next("brickwork status shows what it does"),
        None => no_instance(runtime).next("brickwork brick serve VOLFILE"),
    }
}

/// Each brick of `report` with what serves it.
fn bricks(report: &InstanceReport) -> impl Iterator<Item = (&ServingReport, &ExportReport)> + Clone {
    report.serving.iter().flat_map(|serving| serving.exports.iter().map(move |export| (serving, export)))
}

fn items(report: &InstanceReport) -> Vec<Value> {
    let item = |(serving, export): (&ServingReport, &ExportReport)| {
        let mut item = json!(export);
        item["instance"] = json!(report.instance);
        item["pid"] = json!(report.pid);
        item["uptimeSeconds"] = json!(report.uptime_seconds);
        item["listening"] = json!(serving.listening);
        item["connections"] = json!(serving.connections);
        item["refused"] = json!(serving.refused);
        item
    };
    bricks(report).map(item).collect()
}

fn text(reports: &[InstanceReport]) -> String {
    let served =
        reports.iter().flat_map(|report| bricks(report).map(move |(serving, export)| (report, serving, export)));
    let rows: Vec<[String; 9]> = served
        .clone()
        .map(|(report, serving, export)| {
            let (used, free) = match export.capacity {
                Some(capacity) => {
                    (bytes(capacity.used_bytes), bytes(capacity.total_bytes.saturating_sub(capacity.used_bytes)))
                }
                None => ("–".to_owned(), "–".to_owned()),
            };
            [
                export.name.clone(),
                report.instance.clone(),
                serving.listening.join(" "),
                span(report.uptime_seconds as u64),
                used,
                free,
                export.sessions.iter().filter(|session| session.attached()).count().to_string(),
                export.boot.to_string(),
                export.eos.clone(),
            ]
        })
        .collect();
    let clients: Vec<[String; 8]> = served
        .flat_map(|(_, _, export)| export.sessions.iter().map(move |session| (export, session)))
        .map(|(export, session)| {
            [
                session.client.clone(),
                session.host.clone(),
                format!("{}({})", session.process, session.pid),
                export.name.clone(),
                session.state.clone(),
                span(session.since_seconds as u64),
                session.in_flight.to_string(),
                session.opens.to_string(),
            ]
        })
        .collect();
    let head = ["BRICK", "INSTANCE", "LISTENING", "UP", "USED", "FREE", "CLIENTS", "STARTS", "EOS"];
    let mut text = table(head, &rows);
    if !clients.is_empty() {
        let head = ["CLIENT", "HOST", "PROCESS", "BRICK", "STATE", "SINCE", "UNDER WAY", "OPEN FILES"];
        text.push_str(&format!("\n{}", table(head, &clients)));
    }
    text
}

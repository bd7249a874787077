//! `brickwork grace`: whether a brick waits for the locks of before, and ending that.

use brickwork_locks::admin::shapes::{GraceAnswer, GraceClient, GraceEndAnswer, GraceEndAsk};
use serde_json::{Value, json};

use crate::args::Globals;
use crate::client::Client;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::locks::{ask_all, plain};
use crate::output::{Output, span, table};
use crate::protocol::{GraceReport, Request};

/// Show or end the grace of a brick that lost its journal of locks.
#[derive(clap::Subcommand, Debug)]
pub enum Grace {
    /// Show which bricks are in grace; exit with 75 when one is
    Status(Status),
    /// End a grace now
    End(End),
}

/// Show which bricks are in grace.
#[derive(clap::Args, Debug)]
pub struct Status {
    /// The brick; all without one
    #[arg(value_name = "BRICK")]
    brick: Option<String>,
}

/// End a grace now.
#[derive(clap::Args, Debug)]
pub struct End {
    /// The brick; needed when more than one keeps locks
    #[arg(value_name = "BRICK")]
    brick: Option<String>,
    /// Although clients have not claimed their locks yet: they lose them
    #[arg(long)]
    force: bool,
}

impl Grace {
    /// Does what was asked for.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        match self {
            Grace::Status(status) => status.run(globals, output),
            Grace::End(end) => end.run(globals, output),
        }
    }
}

/// The grace of a brick of an instance.
struct Heard {
    instance: String,
    brick: String,
    grace: GraceAnswer,
}

fn hear(globals: &Globals, output: Output, brick: Option<&str>) -> Result<Vec<Heard>, Failure> {
    let request = Request::Grace { brick: brick.map(str::to_owned) };
    let told = ask_all::<Vec<GraceReport>>(globals, output, &Runtime::find(), &request)?;
    let heard = |(instance, reports): (String, Vec<GraceReport>)| {
        reports.into_iter().map(move |GraceReport { brick, grace }| Heard { instance: instance.clone(), brick, grace })
    };
    Ok(told.into_iter().flat_map(heard).collect())
}

impl Status {
    fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let heard = hear(globals, output, self.brick.as_deref())?;
        match output.is_json() {
            true => output.document("GraceList", &heard.iter().map(item).collect::<Vec<_>>())?,
            false => output.text(&heard.iter().map(text).collect::<String>())?,
        }
        Ok(if heard.iter().any(|heard| heard.grace.active) { Exit::TryAgain } else { Exit::Done })
    }
}

impl End {
    fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let heard = hear(globals, output, self.brick.as_deref())?;
        let Heard { instance, brick, .. } = match heard.as_slice() {
            [one] => one,
            all => {
                let names: Vec<String> =
                    all.iter().map(|heard| format!("{} (-i {})", heard.brick, heard.instance)).collect();
                return Err(Failure::new(Code::LockSelector, format!("{} bricks could be meant", all.len()))
                    .because(names.join(", "))
                    .next("name one: brickwork grace end BRICK, or -i INSTANCE"));
            }
        };
        let request = Request::GraceEnd { brick: brick.clone(), ask: GraceEndAsk { force: self.force } };
        let answer: GraceEndAnswer = Client::connect(&Runtime::find(), instance, globals.timeout)?.ask(&request)?;
        let lost: Vec<String> = answer.grace.clients.iter().filter(|client| !is_done(client)).map(named).collect();
        if !answer.ended {
            return Err(Failure::new(
                Code::GraceNeeded,
                format!("`{brick}` is still waited for by {} clients", lost.len()),
            )
            .because(format!("what they held would be lost: {}", lost.join(", ")))
            .next(format!(
                "wait {}, or brickwork grace end {brick} --force",
                span(answer.grace.ends_in_ms.div_ceil(1000))
            )));
        }
        if output.is_json() {
            let heard = Heard { instance: instance.clone(), brick: brick.clone(), grace: answer.grace };
            output.document("GraceEndList", &[item(&heard)])?;
            return Ok(Exit::Done);
        }
        output.text(&match (answer.grace.active, lost.as_slice()) {
            (false, _) => format!("{brick} is not in grace\n"),
            (true, []) => format!("the grace of {brick} is over\n"),
            (true, lost) => format!(
                "the grace of {brick} is over; these clients lose what they have not claimed: {}\n",
                lost.join(", ")
            ),
        })?;
        Ok(Exit::Done)
    }
}

fn is_done(client: &GraceClient) -> bool {
    client.complete
}

fn named(client: &GraceClient) -> String {
    match client.host.as_str() {
        "" => client.client.to_string()[..8].to_owned(),
        host => format!("{} ({})", plain(host), &client.client.to_string()[..8]),
    }
}

fn text(heard: &Heard) -> String {
    let Heard { brick, grace, .. } = heard;
    if !grace.active {
        return format!("{brick}   not in grace\n");
    }
    let waiting = grace.clients.iter().filter(|client| !is_done(client)).count();
    let mut text = format!(
        "{brick}   IN GRACE   reason: {}   ends in {}, or as soon as all have claimed their locks\n     reclaimed \
         {} · waiting for {waiting} of {} clients\n",
        plain(&grace.reason),
        span(grace.ends_in_ms.div_ceil(1000)),
        grace.reclaimed,
        grace.clients.len(),
    );
    let rows: Vec<[String; 4]> = grace
        .clients
        .iter()
        .map(|client| {
            let seen = client.last_seen_ms.map_or_else(|| "–".to_owned(), |ms| span(ms / 1000));
            [named(client), seen, client.reclaimed.to_string(), state(client).to_owned()]
        })
        .collect();
    text.push_str(&table(["CLIENT", "LAST SEEN", "RECLAIMED", "STATE"], &rows));
    text.push_str(&format!(
        "meanwhile: {} new lock requests wait; reads and writes are not held up\n",
        grace.waiting_requests
    ));
    text.push_str(&format!("end now: brickwork grace end {brick} --force\n"));
    text
}

fn state(client: &GraceClient) -> &'static str {
    match (client.complete, client.last_seen_ms) {
        (true, _) => "complete",
        (false, Some(_)) => "claiming",
        (false, None) => "not back yet",
    }
}

fn item(heard: &Heard) -> Value {
    let grace = &heard.grace;
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let client = |client: &GraceClient| {
        json!({
            "client": client.client.to_string(),
            "host": client.host,
            "lastSeenSeconds": client.last_seen_ms.map(seconds),
            "reclaimed": client.reclaimed,
            "state": state(client),
        })
    };
    json!({
        "instance": heard.instance,
        "brick": heard.brick,
        "active": grace.active,
        "reason": grace.active.then_some(&grace.reason),
        "endsInSeconds": grace.active.then(|| seconds(grace.ends_in_ms)),
        "reclaimed": grace.reclaimed,
        "waitingRequests": grace.waiting_requests,
        "clients": grace.clients.iter().map(client).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use brickwork_api::ClientId;

    use super::*;

    #[test]
    fn a_grace_is_shown_with_everyone_it_waits_for() {
        let client = |id: u128, host: &str, seen, complete| GraceClient {
            client: ClientId(id << 96),
            host: host.to_owned(),
            last_seen_ms: seen,
            reclaimed: if complete { 7 } else { 0 },
            complete,
        };
        let grace = GraceAnswer {
            active: true,
            reason: "lock journal missing".to_owned(),
            ends_in_ms: 37_400,
            reclaimed: 7,
            waiting_requests: 5,
            clients: vec![client(0xa1, "web01", Some(200), true), client(0xb2, "", None, false)],
        };
        let heard = Heard { instance: "gd1".to_owned(), brick: "b2".to_owned(), grace };
        assert_eq!(
            text(&heard),
            "\
b2   IN GRACE   reason: lock journal missing   ends in 38s, or as soon as all have claimed their locks
     reclaimed 7 · waiting for 1 of 2 clients
CLIENT            LAST SEEN  RECLAIMED  STATE
web01 (000000a1)  0s         7          complete
000000b2          –          0          not back yet
meanwhile: 5 new lock requests wait; reads and writes are not held up
end now: brickwork grace end b2 --force
"
        );
    }
}

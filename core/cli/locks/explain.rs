//! `brickwork locks explain`: who is in the way on a range of a file, and what a lock asked for now would meet.

use brickwork_api::ClientId;
use brickwork_locks::admin::shapes::{ClientState, Kind, LockRow, RowId};
use serde_json::{Map, json};

use super::look::look;
use super::range::Range;
use super::row::Row;
use super::select::{Selection, Selector};
use crate::args::Globals;
use crate::failure::{Exit, Outcome};
use crate::instance::Runtime;
use crate::output::{Output, span};

/// Explain who is in the way on a range of a file, and what a lock asked for now would meet.
#[derive(clap::Args, Debug)]
pub struct Explain {
    /// The path of the file, in the volume or below a mount; or gfid:UUID
    #[arg(value_name = "PATH")]
    path: String,
    /// The bytes: 0-99, 100-EOF, 0..100
    #[arg(value_name = "RANGE", default_value = "0-EOF")]
    range: Range,
}

impl Explain {
    /// Asks every instance that is meant and prints what stands in the way.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let runtime = Runtime::find();
        let mut selection = Selection::of(&[Selector::Path(self.path.clone())], &runtime)?;
        selection.ask.kinds = vec![Kind::Posix, Kind::Flock];
        let found = look(globals, output, &runtime, &selection)?;
        let rows: Vec<&Row> = found.rows.iter().filter(|row| in_range(row, self.range)).collect();
        let chances: Vec<Chance<'_>> =
            [(Kind::Posix, true), (Kind::Posix, false), (Kind::Flock, true), (Kind::Flock, false)]
                .map(|(kind, exclusive)| Chance::of(&rows, kind, exclusive, self.range))
                .into();
        if output.is_json() {
            let items: Vec<_> = rows.iter().map(|row| row.to_json()).collect();
            let chances: Vec<_> = chances.iter().map(Chance::to_json).collect();
            let more =
                [("range", json!(self.range.to_string())), ("askedNow", json!(chances)), ("cut", json!(found.cut))];
            let more = more.into_iter().map(|(key, value)| (key.to_owned(), value));
            output.document_with("LockExplanation", &items, Map::from_iter(more))?;
        } else {
            let mut text = text(selection.paths.first().map_or("", String::as_str), self.range, &rows, &chances);
            text.extend(found.cut_note().map(|note| format!("{note}\n")));
            output.text(&text)?;
        }
        Ok(Exit::Done)
    }
}

fn in_range(row: &Row, range: Range) -> bool {
    row.lock.start < range.end && range.start < row.lock.end
}

/// What a stranger would meet who asked for a lock now.
#[derive(Debug)]
struct Chance<'a> {
    kind: Kind,
    exclusive: bool,
    /// Held locks that are in the way.
    held: Vec<&'a Row>,
    /// Requests that would be ahead.
    ahead: Vec<&'a Row>,
}

impl<'a> Chance<'a> {
    fn of(rows: &[&'a Row], kind: Kind, exclusive: bool, range: Range) -> Chance<'a> {
        let in_way = |row: &&&'a Row| stranger(row, kind, exclusive, range).conflicts(&row.lock);
        let (ahead, held) = rows.iter().filter(in_way).copied().partition(|row| row.lock.waits());
        Chance { kind, exclusive, held, ahead }
    }

    fn asked(&self) -> &'static str {
        match (self.kind, self.exclusive) {
            (Kind::Flock, true) => "flock, exclusive",
            (Kind::Flock, false) => "flock, shared",
            (_, true) => "fcntl, write",
            (_, false) => "fcntl, read",
        }
    }

    /// The longest that a client which is away protects its lock; `None` when one in the way is not away.
    fn protected_ms(&self) -> Option<u64> {
        let protected = |row: &&Row| match row.lock.client_state {
            ClientState::Detached { protected_ms, .. } => Some(protected_ms),
            ClientState::Attached | ClientState::Local => None,
        };
        self.held.iter().map(protected).try_fold(0, |longest, ms| Some(longest.max(ms?)))
    }

    fn words(&self) -> String {
        let ids = |rows: &[&Row]| match rows {
            [] => String::new(),
            [one] => one.lock.id.to_string(),
            [first, more @ ..] => format!("{} and {} more", first.lock.id, more.len()),
        };
        match (self.held.is_empty(), self.ahead.is_empty(), self.protected_ms()) {
            (true, true, _) => "is granted at once".to_owned(),
            (true, false, _) => {
                format!("is granted at once if it does not wait; else it queues behind {}", ids(&self.ahead))
            }
            (false, true, Some(0)) => {
                format!("is granted at once: who held {} is away too long and loses it", ids(&self.held))
            }
            (false, true, Some(ms)) => {
                format!("waits for {}, at most {}: its client is away", ids(&self.held), span(ms.div_ceil(1000)))
            }
            (false, true, None) => format!("waits for {}", ids(&self.held)),
            (false, false, _) => format!("waits for {}, behind {}", ids(&self.held), ids(&self.ahead)),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let ids = |rows: &[&Row]| rows.iter().map(|row| row.lock.id.to_string()).collect::<Vec<_>>();
        json!({
            "type": self.kind,
            "mode": if self.exclusive { "write" } else { "read" },
            "granted": self.held.is_empty() || self.protected_ms() == Some(0),
            "held": ids(&self.held),
            "ahead": ids(&self.ahead),
        })
    }
}

/// What somebody would ask for who owns nothing yet, on the object of `row`.
fn stranger(row: &Row, kind: Kind, exclusive: bool, range: Range) -> LockRow {
    LockRow {
        id: RowId::Waiting(0),
        kind,
        exclusive,
        start: range.start,
        end: range.end,
        domain: None,
        name: None,
        // No client has this one: it is not random.
        client: ClientId(0),
        owner: String::new(),
        blockers: Vec::new(),
        ..row.lock.clone()
    }
}

fn text(path: &str, range: Range, rows: &[&Row], chances: &[Chance<'_>]) -> String {
    let mut text = format!("{}, bytes {range}\n", super::row::plain(path));
    for (title, waits) in [("held", false), ("waiting", true)] {
        let of_kind: Vec<&&Row> = rows.iter().filter(|row| row.lock.waits() == waits).collect();
        match of_kind.as_slice() {
            [] => text.push_str(&format!("{title}: nothing\n")),
            rows => {
                text.push_str(&format!("{title}:\n"));
                for row in rows {
                    text.push_str(&format!("  {}\n", explained(row)));
                }
            }
        }
    }
    text.push_str("asked for now:\n");
    for chance in chances {
        text.push_str(&format!("  {:<17} {}\n", chance.asked(), chance.words()));
    }
    text
}

fn explained(row: &Row) -> String {
    let mut line = row.line();
    if !row.lock.blockers.is_empty() {
        let ids: Vec<String> = row.lock.blockers.iter().map(ToString::to_string).collect();
        line.push_str(&format!(" for {}", ids.join(" ")));
    }
    if row.lock.mandatory {
        line.push_str("; others' reads and writes there are refused");
    }
    if let Some(note) = row.note() {
        line.push_str(&format!("; {note}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    fn words(rows: &[&Row], exclusive: bool, range: &str) -> String {
        Chance::of(rows, Kind::Posix, exclusive, range.parse().unwrap()).words()
    }

    #[test]
    fn a_lock_asked_for_now_meets_what_is_held_and_what_is_ahead() {
        let read = row("lk:1", "web01", "READ", "0-99");
        let write = row("lk:2", "web02", "WRITE", "200-299");
        let waits = row("lk:w3", "web03", "WRITE", "50-149");
        let rows = [&read, &write, &waits];
        assert_eq!(words(&rows, false, "300-EOF"), "is granted at once");
        assert_eq!(words(&rows, false, "0-9"), "is granted at once");
        assert_eq!(words(&rows, true, "0-9"), "waits for lk:1");
        assert_eq!(words(&rows, true, "60-250"), "waits for lk:1 and 1 more, behind lk:w3");
        assert_eq!(
            words(&rows, false, "120-130"),
            "is granted at once if it does not wait; else it queues behind lk:w3"
        );
        let flock = Chance::of(&rows, Kind::Flock, true, "0-EOF".parse().unwrap()).words();
        assert_eq!(flock, "is granted at once", "kinds do not conflict with each other");
    }

    #[test]
    fn who_is_away_too_long_is_no_obstacle() {
        let mut away = row("lk:1", "web01", "WRITE", "0-99");
        away.lock.client_state = ClientState::Detached { silent_ms: 41_000, protected_ms: 4_000 };
        assert_eq!(words(&[&away], true, "0"), "waits for lk:1, at most 4s: its client is away");
        away.lock.client_state = ClientState::Detached { silent_ms: 41_000, protected_ms: 0 };
        assert!(words(&[&away], true, "0").starts_with("is granted at once: "));
    }
}

//! `brickwork locks list`: the locks that are held and waited for, in the columns of `lslocks`.

use std::time::Duration;

use brickwork_locks::admin::shapes::Kind;
use serde_json::{Map, json};

use super::look::{Found, look};
use super::row::Row;
use super::select::{Selection, Selector};
use crate::args::{Globals, duration};
use crate::failure::{Exit, Outcome};
use crate::instance::Runtime;
use crate::output::{Output, table};

/// List the locks that are held and waited for.
#[derive(clap::Args, Debug)]
pub struct List {
    /// Which: lk:ID, client:HOST, owner:HEX, brick:NAME, or the path of a file; all without one
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<Selector>,
    /// Of these families; those between xlators (inode, entry) are shown only when they are named
    #[arg(long = "type", value_enum, value_delimiter = ',', default_value = "posix,flock", value_name = "TYPE")]
    kinds: Vec<Type>,
    /// Of clients on this host, or whose identity begins so
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Of clients that are away
    #[arg(long)]
    stale: bool,
    /// At least this old
    #[arg(long, value_parser = duration, value_name = "TIME")]
    older: Option<Duration>,
    /// Of files on which somebody waits
    #[arg(long)]
    waiters: bool,
}

/// A family of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Type {
    /// `fcntl`, of processes and of open files.
    Posix,
    /// `flock`.
    Flock,
    /// Ranges, between xlators.
    Inode,
    /// Names, between xlators.
    Entry,
}

impl From<Type> for Kind {
    fn from(kind: Type) -> Kind {
        match kind {
            Type::Posix => Kind::Posix,
            Type::Flock => Kind::Flock,
            Type::Inode => Kind::Inode,
            Type::Entry => Kind::Entry,
        }
    }
}

impl List {
    /// Asks every instance that is meant and prints what they hold.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let runtime = Runtime::find();
        let mut selectors = self.selectors.clone();
        selectors.extend(self.client.clone().map(Selector::Client));
        let mut selection = Selection::of(&selectors, &runtime)?;
        // Whoever names a lock means it, whatever its family is.
        if selection.ask.ids.is_empty() {
            selection.ask.kinds = self.kinds.iter().map(|&kind| kind.into()).collect();
        }
        selection.ask.stale = self.stale;
        selection.ask.contended = self.waiters;
        selection.ask.older_ms = self.older.map(|older| u64::try_from(older.as_millis()).unwrap_or(u64::MAX));
        let found = look(globals, output, &runtime, &selection)?;
        if output.is_json() {
            let items: Vec<_> = found.rows.iter().map(Row::to_json).collect();
            let counts = [("held", json!(found.held)), ("waiting", json!(found.waiting)), ("cut", json!(found.cut))];
            let counts = counts.into_iter().map(|(key, value)| (key.to_owned(), value));
            output.document_with("LockList", &items, Map::from_iter(counts))?;
        } else {
            output.text(&text(&found))?;
        }
        Ok(Exit::Done)
    }
}

fn text(found: &Found) -> String {
    let counts = format!("{} held, {} waiting", found.held, found.waiting);
    if found.rows.is_empty() {
        return format!("no locks ({counts})\n");
    }
    let rows: Vec<[String; 11]> = found.rows.iter().map(cells).collect();
    let head = ["ID", "STATE", "TYPE", "MODE", "START", "END", "AGE", "HOST:COMMAND(PID)", "BLOCKER", "BRICK", "PATH"];
    let mut text = table(head, &rows);
    let mut notes: Vec<String> = found.rows.iter().filter_map(Row::note).collect();
    notes.sort_unstable();
    notes.dedup();
    for note in notes {
        text.push_str(&format!("⚠ {note}\n"));
    }
    let all = found.held + found.waiting;
    text.push_str(&format!("{all} lock{} ({counts})\n", if all == 1 { "" } else { "s" }));
    if let Some(note) = found.cut_note() {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn cells(row: &Row) -> [String; 11] {
    let lock = &row.lock;
    let (start, end) = match (lock.kind, lock.end) {
        (Kind::Entry, _) => ("–".to_owned(), "–".to_owned()),
        (_, u64::MAX) => (lock.start.to_string(), "EOF".to_owned()),
        (_, end) => (lock.start.to_string(), (end - 1).to_string()),
    };
    let blocker = match lock.blockers.as_slice() {
        [] => "–".to_owned(),
        [one] => one.to_string(),
        [first, more @ ..] => format!("{first} +{}", more.len()),
    };
    let away = if row.note().is_some() { " ⚠" } else { "" };
    let mut path = row.path();
    if lock.kind == Kind::Entry {
        path.push_str(&format!(" ({})", row.range()));
    }
    if let Some(domain) = &lock.domain {
        path.push_str(&format!(" [{}]", super::row::plain(domain)));
    }
    [
        lock.id.to_string(),
        if lock.waits() { "wait" } else { "held" }.to_owned(),
        lock.kind.word().to_owned(),
        format!("{}{}", row.mode(), if lock.mandatory { "*" } else { "" }),
        start,
        end,
        row.age(),
        row.who() + away,
        blocker,
        row.brick.clone(),
        path,
    ]
}

#[cfg(test)]
mod tests {
    use brickwork_locks::admin::shapes::ClientState;

    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn locks_are_listed_in_the_columns_of_lslocks_with_what_waits_for_what() {
        let held = row("lk:8f3a", "web01", "WRITE", "0-99");
        let mut waits = row("lk:w8f3b", "web02", "READ", "50-EOF");
        waits.lock.blockers = vec!["lk:8f3a".parse().unwrap()];
        let mut away = row("lk:8f52", "web03", "WRITE", "200-299");
        away.lock.client_state = ClientState::Detached { silent_ms: 41_000, protected_ms: 3_500 };
        let found = Found { rows: vec![held, waits, away], held: 2, waiting: 1, cut: false, bricks: 1 };
        assert_eq!(
            text(&found),
            "\
ID        STATE  TYPE   MODE   START  END  AGE  HOST:COMMAND(PID)       BLOCKER  BRICK  PATH
lk:8f3a   held   POSIX  WRITE  0      99   4s   web01:python3(18739)    –        b2     /lj/ctr.44
lk:w8f3b  wait   POSIX  READ   50     EOF  4s   web02:python3(18739)    lk:8f3a  b2     /lj/ctr.44
lk:8f52   held   POSIX  WRITE  200    299  4s   web03:python3(18739) ⚠  –        b2     /lj/ctr.44
⚠ web03:python3(18739) is silent for 41s; its lock is protected for 4s more
3 locks (2 held, 1 waiting)
"
        );
    }

    #[test]
    fn an_answer_that_does_not_show_everything_says_so() {
        let found = Found { rows: vec![row("lk:1", "a", "READ", "0")], held: 90_000, waiting: 0, cut: true, bricks: 1 };
        assert!(text(&found).contains("1 of 90000 are shown"), "{}", text(&found));
    }
}

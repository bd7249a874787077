//! `brickwork locks blockers`: who waits for whom, as a forest, and deadlocks.

use serde_json::{Map, Value, json};

use super::forest::{Contention, Link, Node, cycles};
use super::look::{Found, look};
use super::row::Row;
use super::select::{Selection, Selector};
use crate::args::Globals;
use crate::failure::{Exit, Outcome};
use crate::instance::Runtime;
use crate::output::{Output, span};

/// Show who waits for whom, and deadlocks.
#[derive(clap::Args, Debug)]
pub struct Blockers {
    /// Which: a path, brick:NAME, gfid:UUID; all without one
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<Selector>,
}

impl Blockers {
    /// Asks every instance that is meant and prints who waits.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let runtime = Runtime::find();
        let mut selection = Selection::of(&self.selectors, &runtime)?;
        selection.ask.contended = true;
        let found = look(globals, output, &runtime, &selection)?;
        if output.is_json() {
            let items: Vec<Value> = Contention::all(&found.rows).iter().map(contention_json).collect();
            let deadlocks: Vec<Value> = cycles(&found.rows).iter().map(|cycle| cycle_json(cycle)).collect();
            let more = [("deadlocks".to_owned(), json!(deadlocks)), ("cut".to_owned(), json!(found.cut))];
            output.document_with("BlockerList", &items, Map::from_iter(more))?;
        } else {
            output.text(&text(&found))?;
        }
        Ok(Exit::Done)
    }
}

fn contention_json(contention: &Contention<'_>) -> Value {
    let first = contention.rows[0];
    json!({
        "instance": first.instance,
        "brick": first.brick,
        "gfid": first.lock.gfid.to_string(),
        "path": first.lock.path,
        "type": first.lock.kind,
        "waiting": contention.waiting().count(),
        "longestWaitSeconds": contention.worst_ms() as f64 / 1000.0,
        "blockers": contention.roots.iter().map(node_json).collect::<Vec<_>>(),
    })
}

fn node_json(node: &Node<'_>) -> Value {
    json!({
        "lock": node.row.to_json(),
        "grantedWithoutIt": node.frees,
        "waiters": node.waiters.iter().map(node_json).collect::<Vec<_>>(),
    })
}

fn cycle_json(cycle: &[Link<'_>]) -> Value {
    let link = |link: &Link<'_>| json!({"holds": link.holds.to_json(), "waits": link.waits.to_json()});
    json!({
        "youngest": youngest(cycle).lock.id.to_string(),
        "processes": cycle.iter().map(link).collect::<Vec<_>>(),
    })
}

/// The request that was made last: without it there would be no cycle.
fn youngest<'a>(cycle: &[Link<'a>]) -> &'a Row {
    let waits = cycle.iter().map(|link| link.waits);
    waits.min_by_key(|row| row.lock.age_ms).expect("a cycle has members")
}

fn text(found: &Found) -> String {
    let contended = Contention::all(&found.rows);
    let cycles = cycles(&found.rows);
    if contended.is_empty() {
        return "nobody waits\n".to_owned();
    }
    let mut text = String::new();
    for contention in &contended {
        let first = contention.rows[0];
        let (waiting, worst) = (contention.waiting().count(), span(contention.worst_ms() / 1000));
        text.push_str(&format!("{} on {} — {waiting} waiting, worst {worst}\n", first.path(), first.brick));
        for root in &contention.roots {
            draw(root, "", "", &mut text);
        }
    }
    for cycle in &cycles {
        text.push_str(&deadlock(cycle, found.bricks > 1));
    }
    if let Some(note) = found.cut_note() {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn draw(node: &Node<'_>, above: &str, branch: &str, text: &mut String) {
    let row = node.row;
    let state = if row.lock.waits() { "waiting" } else { "held" };
    text.push_str(&format!(
        "  {above}{branch}{}  {}  {} {}  {state} {}",
        row.who(),
        row.lock.id,
        row.mode(),
        row.range(),
        row.age()
    ));
    match (branch.is_empty(), row.lock.waits(), node.frees) {
        (true, false, frees) if frees > 0 => {
            text.push_str(&format!(
                "   ← without it {frees} {} granted at once",
                if frees == 1 { "is" } else { "are" }
            ));
        }
        _ => {}
    }
    text.push('\n');
    let below = match branch {
        "" => above.to_owned(),
        "├─ " => format!("{above}│  "),
        _ => format!("{above}   "),
    };
    for (index, waiter) in node.waiters.iter().enumerate() {
        let branch = if index + 1 == node.waiters.len() { "└─ " } else { "├─ " };
        draw(waiter, &below, branch, text);
    }
}

fn deadlock(cycle: &[Link<'_>], name_brick: bool) -> String {
    let youngest = youngest(cycle);
    let paths: Vec<String> = cycle.iter().map(|link| link.waits.path()).collect();
    let parts: Vec<String> = cycle
        .iter()
        .map(|link| {
            let has = if link.holds.lock.waits() { "is ahead on" } else { "holds" };
            format!(
                "{} {has} {} ({}), waits for {} ({})",
                link.waits.who(),
                link.holds.path(),
                link.holds.lock.id,
                link.waits.path(),
                link.waits.lock.id
            )
        })
        .collect();
    let brick = if name_brick { format!(" brick:{}", youngest.brick) } else { String::new() };
    format!(
        "{} — DEADLOCK ({} processes, since {})\n  {}\n  next: brickwork locks drop {}{brick} --wait-only      (the younger \
         request fails; nobody loses a lock)\n",
        paths.join(" ⇄ "),
        cycle.len(),
        youngest.age(),
        parts.join("\n  "),
        youngest.lock.id,
    )
}

#[cfg(test)]
mod tests {
    use brickwork_api::Gfid;

    use super::super::row::tests::row;
    use super::*;

    fn waits(id: &str, host: &str, range: &str, blockers: &[&str], age_ms: u64) -> Row {
        let mut row = row(id, host, "WRITE", range);
        row.lock.blockers = blockers.iter().map(|id| id.parse().unwrap()).collect();
        row.lock.age_ms = age_ms;
        row
    }

    fn found(rows: Vec<Row>) -> Found {
        Found { rows, held: 0, waiting: 0, cut: false, bricks: 1 }
    }

    #[test]
    fn waiters_hang_below_what_they_wait_for() {
        let rows = vec![
            row("lk:8f3a", "web01", "WRITE", "0-99"),
            waits("lk:w8f3b", "web02", "50-149", &["lk:8f3a"], 13_000),
            waits("lk:w8f3e", "web03", "120-130", &["lk:w8f3b"], 6_000),
            waits("lk:w8f3c", "web04", "0-9", &["lk:8f3a"], 9_000),
        ];
        assert_eq!(
            text(&found(rows)),
            "\
/lj/ctr.44 on b2 — 3 waiting, worst 13s
  web01:python3(18739)  lk:8f3a  WRITE 0-99  held 4s   ← without it 2 are granted at once
  ├─ web02:python3(18739)  lk:w8f3b  WRITE 50-149  waiting 13s
  │  └─ web03:python3(18739)  lk:w8f3e  WRITE 120-130  waiting 6s
  └─ web04:python3(18739)  lk:w8f3c  WRITE 0-9  waiting 9s
"
        );
    }

    #[test]
    fn a_deadlock_is_shown_with_the_command_that_ends_it() {
        let on = |mut row: Row, object: u8| {
            row.lock.gfid = Gfid::from_bytes([object; 16]);
            row.lock.path = Some(format!("/acct/{object}"));
            row
        };
        let rows = vec![
            on(row("lk:1", "web01", "WRITE", "0"), 1),
            on(waits("lk:w3", "web02", "0", &["lk:1"], 40_000), 1),
            on(row("lk:2", "web02", "WRITE", "0"), 2),
            on(waits("lk:w4", "web01", "0", &["lk:2"], 31_000), 2),
        ];
        let text = text(&found(rows));
        let end = text.find("/acct/1 ⇄ /acct/2").expect("the deadlock");
        assert_eq!(
            &text[end..],
            "\
/acct/1 ⇄ /acct/2 — DEADLOCK (2 processes, since 31s)
  web02:python3(18739) holds /acct/2 (lk:2), waits for /acct/1 (lk:w3)
  web01:python3(18739) holds /acct/1 (lk:1), waits for /acct/2 (lk:w4)
  next: brickwork locks drop lk:w4 --wait-only      (the younger request fails; nobody loses a lock)
"
        );
    }
}

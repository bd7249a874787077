//! `brickwork locks restore`: gives the locks of a receipt back where nothing conflicts.

use brickwork_locks::admin::shapes::{RestoreAnswer, RestoreAsk, Restored};
use serde_json::{Value, json};

use super::range::Range;
use super::receipt::{Dropped, Receipts};
use super::row::Row;
use crate::args::Globals;
use crate::client::Client;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::output::{Output, now};
use crate::protocol::Request;

/// Give the locks of a receipt back.
#[derive(clap::Args, Debug)]
pub struct Restore {
    /// The receipt: rc-20261120-231501-8f3a
    #[arg(value_name = "RECEIPT")]
    receipt: String,
    /// The free parts of ranges that others hold some of
    #[arg(long)]
    shrink: bool,
}

impl Restore {
    /// Asks the bricks of the receipt.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let receipts = Receipts::find()?;
        let mut receipt = receipts.read(&self.receipt)?;
        if let Some(when) = &receipt.restored_at {
            return Err(
                Failure::new(Code::RestoreRefused, format!("`{}` was restored already", receipt.id)).because(when)
            );
        }
        let runtime = Runtime::find();
        let mut outcomes: Vec<(Row, Restored)> = Vec::new();
        let mut failed = None;
        for dropped in &receipt.bricks {
            match self.ask(globals, &runtime, dropped) {
                Ok(answer) => outcomes.extend(rows(dropped).zip(answer.outcomes)),
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        let whole = outcomes.iter().all(|(_, outcome)| *outcome == Restored::Whole) && failed.is_none();
        if whole {
            receipt.restored_at = Some(now());
            receipts.save(&receipt)?;
        }
        match output.is_json() {
            true => output.document("RestoredLockList", &outcomes.iter().map(item).collect::<Vec<_>>())?,
            false => output.text(&outcomes.iter().map(line).collect::<String>())?,
        }
        match failed {
            Some(failure) => Err(failure),
            None if whole => Ok(Exit::Done),
            None => Err(refused(&receipt.id, &outcomes, receipt.locks(), self.shrink)),
        }
    }

    fn ask(&self, globals: &Globals, runtime: &Runtime, dropped: &Dropped) -> Result<RestoreAnswer, Failure> {
        let ask = RestoreAsk { locks: dropped.locks.clone(), shrink: self.shrink };
        let request = Request::LocksRestore { brick: dropped.brick.clone(), ask };
        Client::connect(runtime, &dropped.instance, globals.timeout)?.ask(&request)
    }
}

fn rows(dropped: &Dropped) -> impl Iterator<Item = Row> {
    dropped.locks.iter().map(|lock| Row {
        instance: dropped.instance.clone(),
        brick: dropped.brick.clone(),
        lock: lock.clone(),
    })
}

fn refused(id: &str, outcomes: &[(Row, Restored)], all: usize, shrink: bool) -> Failure {
    let restored = outcomes.iter().filter(|(_, outcome)| is_held(outcome)).count();
    let failure = Failure::new(Code::RestoreRefused, format!("restored {restored} of {all} locks of `{id}`"));
    let conflict = outcomes.iter().any(|(_, outcome)| matches!(outcome, Restored::Conflict { .. }));
    match conflict && !shrink {
        true => {
            failure.next(format!("wait until what is in the way is released, or brickwork locks restore {id} --shrink"))
        }
        false => failure.next("brickwork locks list"),
    }
}

fn is_held(outcome: &Restored) -> bool {
    match outcome {
        Restored::Whole => true,
        Restored::Parts { ranges, .. } => !ranges.is_empty(),
        Restored::Conflict { .. } | Restored::Gone | Restored::Internal | Restored::NoRoom | Restored::Untouched => {
            false
        }
    }
}

/// What became of one: `POSIX WRITE 0-99 /lj/ctr.44 for web01:python3(18739): conflicts with …`.
fn line((row, outcome): &(Row, Restored)) -> String {
    let what = format!("{} {} {} {} for {}", row.lock.kind.word(), row.mode(), row.range(), row.path(), row.who());
    let other = |with: &brickwork_locks::admin::shapes::LockRow| {
        let with = Row { lock: with.clone(), ..row.clone() };
        format!("{} ({}, {} {}, held {})", with.lock.id, with.who(), with.mode(), with.range(), with.age())
    };
    match outcome {
        Restored::Whole => format!("✓ {what}\n"),
        Restored::Parts { ranges, with } if ranges.is_empty() => {
            format!("✗ {what}: all of it is held, by {}\n", other(with))
        }
        Restored::Parts { ranges, with } => {
            let parts: Vec<String> = ranges.iter().map(|&(start, end)| Range { start, end }.to_string()).collect();
            format!("✓ {what}: only {}; the rest is held, by {}\n", parts.join(" "), other(with))
        }
        Restored::Conflict { with } => format!("✗ {what}: conflicts with {}\n", other(with)),
        Restored::Gone => format!("✗ {what}: its client is gone or has closed the file\n"),
        Restored::Internal => format!("– {what}: a lock between xlators is not restored\n"),
        Restored::NoRoom => format!("✗ {what}: the file has as many locks as it may (locks-max-per-inode)\n"),
        Restored::Untouched => format!("– {what}: could be restored, but not all could\n"),
    }
}

fn item((row, outcome): &(Row, Restored)) -> Value {
    let mut item = row.to_json();
    let with = |with: &brickwork_locks::admin::shapes::LockRow| Row { lock: with.clone(), ..row.clone() }.to_json();
    let (word, more) = match outcome {
        Restored::Whole => ("restored", Value::Null),
        Restored::Parts { ranges, with: other } => {
            let last = |end: u64| (end != u64::MAX).then(|| end - 1);
            let ranges: Vec<Value> =
                ranges.iter().map(|&(start, end)| json!({"start": start, "end": last(end)})).collect();
            item["parts"] = json!(ranges);
            ("partly-restored", with(other))
        }
        Restored::Conflict { with: other } => ("conflict", with(other)),
        Restored::Gone => ("gone", Value::Null),
        Restored::Internal => ("internal", Value::Null),
        Restored::NoRoom => ("no-room", Value::Null),
        Restored::Untouched => ("untouched", Value::Null),
    };
    item["outcome"] = json!(word);
    item["conflict"] = more;
    item
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn a_lock_that_cannot_be_restored_names_what_is_in_the_way() {
        let lost = row("lk:8f3a", "web01", "WRITE", "0-99");
        let with = Box::new(row("lk:8f60", "web02", "WRITE", "50-149").lock);
        assert_eq!(
            line(&(lost.clone(), Restored::Conflict { with: with.clone() })),
            "✗ POSIX WRITE 0-99 /lj/ctr.44 for web01:python3(18739): conflicts with lk:8f60 (web02:python3(18739), WRITE \
             50-149, held 4s)\n"
        );
        let outcome = Restored::Parts { ranges: vec![(0, 50)], with };
        assert!(line(&(lost.clone(), outcome.clone())).contains(": only 0-49; the rest is held, by lk:8f60"));
        assert_eq!(item(&(lost, outcome))["parts"][0]["end"], 49);
    }
}

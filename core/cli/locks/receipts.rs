//! `brickwork locks receipts`: what was dropped, and can be restored.

use serde_json::json;

use super::receipt::{Receipt, Receipts as Folder};
use super::row::{Row, plain};
use crate::failure::{Exit, Outcome};
use crate::output::{Output, table};

/// List the receipts of dropped locks.
#[derive(clap::Args, Debug)]
pub struct Receipts {}

impl Receipts {
    /// Lists those of this user.
    pub fn run(&self, output: Output) -> Outcome {
        let (receipts, strange) = Folder::find()?.all()?;
        for name in strange {
            output.aside(&format!("`{}` is no receipt", plain(&name)));
        }
        match output.is_json() {
            true => output
                .document("LockReceiptList", &receipts.iter().map(|receipt| json!(receipt)).collect::<Vec<_>>())?,
            false => output.text(&text(&receipts))?,
        }
        Ok(Exit::Done)
    }
}

fn text(receipts: &[Receipt]) -> String {
    if receipts.is_empty() {
        return "no receipts\n".to_owned();
    }
    let rows: Vec<[String; 6]> = receipts.iter().map(cells).collect();
    table(["RECEIPT", "DROPPED", "STATE", "LOCKS", "WHAT", "REASON"], &rows)
}

fn cells(receipt: &Receipt) -> [String; 6] {
    let state = match (&receipt.restored_at, receipt.done) {
        (Some(_), _) => "restored",
        (None, true) => "dropped",
        // The command was cut off in the middle.
        (None, false) => "unknown",
    };
    let first = receipt.bricks.iter().flat_map(|brick| brick.locks.iter().map(move |lock| (brick, lock))).next();
    let what = first.map_or_else(String::new, |(brick, lock)| {
        let row = Row { instance: brick.instance.clone(), brick: brick.brick.clone(), lock: lock.clone() };
        format!("{} {} {} {}", row.mode(), row.range(), row.path(), row.who())
    });
    let more = receipt.locks().saturating_sub(1);
    let what = if more == 0 { what } else { format!("{what} +{more}") };
    [
        receipt.id.clone(),
        receipt.dropped_at.clone(),
        state.to_owned(),
        receipt.locks().to_string(),
        what,
        plain(&receipt.reason),
    ]
}

//! `brickwork locks drop`: takes locks from their owners. Shows them, asks, writes a receipt, fences, releases.

use brickwork_locks::admin::shapes::{CHANGES_MAX, DropAnswer, DropAsk};
use serde_json::{Map, Value, json};

use super::confirm::confirm;
use super::look::look;
use super::receipt::{Dropped, Receipt, Receipts};
use super::row::Row;
use super::select::{Selection, Selector};
use crate::args::Globals;
use crate::client::Client;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::instance::Runtime;
use crate::output::Output;
use crate::protocol::Request;

/// Take locks from their owners: fences them first, writes a receipt.
#[derive(clap::Args, Debug)]
pub struct Drop {
    /// Which: lk:ID, client:HOST, owner:HEX, brick:NAME, or the path of a file
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Selector>,
    /// Why, for the receipt and the logs
    #[arg(long, default_value = "")]
    reason: String,
    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only requests that wait: nobody loses a lock
    #[arg(long)]
    wait_only: bool,
    /// Leave the opens as they are: programs that lost a lock go on reading and writing without it
    #[arg(long)]
    no_fence: bool,
}

/// What is dropped of one brick.
struct Part {
    instance: String,
    brick: String,
    rows: Vec<Row>,
    preview: DropAnswer,
}

impl Drop {
    /// Shows what is meant, asks, and drops it.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let runtime = Runtime::find();
        let rows = self.meant(globals, output, &runtime)?;
        let mut parts = Vec::new();
        for rows in by_brick(rows) {
            let (instance, brick) = (rows[0].instance.clone(), rows[0].brick.clone());
            let preview = self.ask(globals, &runtime, (&instance, &brick), &rows, true)?;
            parts.push(Part { instance, brick, rows, preview });
        }
        if self.dry_run {
            self.show(output, &parts, None, &[])?;
            return Ok(Exit::Done);
        }
        if !self.yes {
            output.aside(&self.plan(&parts));
        }
        let rows: Vec<&Row> = parts.iter().flat_map(|part| &part.rows).collect();
        let word = match rows.as_slice() {
            [one] => one.lock.id.to_string(),
            all => format!("drop {}", all.len()),
        };
        confirm("Drop?", &word, self.yes)?;
        self.drop(globals, output, &runtime, &parts)
    }

    /// The locks that are meant.
    fn meant(&self, globals: &Globals, output: Output, runtime: &Runtime) -> Result<Vec<Row>, Failure> {
        let selection = Selection::of(&self.selectors, runtime)?;
        let found = look(globals, output, runtime, &selection)?;
        let mut rows = found.rows;
        if let Some(id) = selection.ask.ids.iter().find(|id| !rows.iter().any(|row| row.lock.id == **id)) {
            return Err(none(&format!("`{id}` is not there")));
        }
        if self.wait_only {
            if let Some(held) = rows.iter().find(|row| selection.ask.ids.contains(&row.lock.id) && !row.lock.waits()) {
                return Err(none(&format!("`{}` does not wait: it is held", held.lock.id)));
            }
            rows.retain(|row| row.lock.waits());
        }
        // The same id on two bricks is two locks; somebody who types one id means one.
        for id in &selection.ask.ids {
            let mut bricks = rows.iter().filter(|row| row.lock.id == *id).map(|row| row.brick.as_str());
            if let (Some(one), Some(other)) = (bricks.next(), bricks.next()) {
                return Err(Failure::new(Code::LockSelector, format!("`{id}` is on `{one}` and on `{other}`"))
                    .next(format!("say which: {id} brick:{one}, or -i INSTANCE")));
            }
        }
        if rows.is_empty() {
            return Err(none("nothing is held or waited for there"));
        }
        if found.cut || rows.len() > CHANGES_MAX {
            let all = found.held + found.waiting;
            return Err(Failure::new(
                Code::LockSelector,
                format!("{all} locks are meant, and one command drops at most {CHANGES_MAX}"),
            )
            .next("select less: by path, client, owner or brick"));
        }
        Ok(rows)
    }

    fn ask(
        &self,
        globals: &Globals,
        runtime: &Runtime,
        (instance, brick): (&str, &str),
        rows: &[Row],
        dry_run: bool,
    ) -> Result<DropAnswer, Failure> {
        let locks = rows.iter().map(|row| row.lock.clone()).collect();
        let ask = DropAsk { locks, fence: !self.no_fence, dry_run, reason: self.reason.clone() };
        let request = Request::LocksDrop { brick: brick.to_owned(), ask };
        let answer: DropAnswer = Client::connect(runtime, instance, globals.timeout)?.ask(&request)?;
        match answer.missing.first() {
            None => Ok(answer),
            Some(id) => {
                Err(Failure::new(Code::LockChanged, format!("`{id}` was released, granted or changed meanwhile"))
                    .next("brickwork locks list shows what there is now"))
            }
        }
    }

    fn drop(&self, globals: &Globals, output: Output, runtime: &Runtime, parts: &[Part]) -> Outcome {
        let held = |part: &Part| part.rows.iter().filter(|row| !row.lock.waits()).map(|row| row.lock.clone()).collect();
        let bricks = parts.iter().map(|part| Dropped {
            instance: part.instance.clone(),
            brick: part.brick.clone(),
            locks: held(part),
        });
        let bricks: Vec<Dropped> = bricks.filter(|brick| !brick.locks.is_empty()).collect();
        // What only waited holds nothing that could be given back.
        let receipts = Receipts::find()?;
        let mut receipt = (!bricks.is_empty()).then(|| Receipt::new(&self.reason, bricks));
        if let Some(receipt) = &mut receipt {
            receipts.add(receipt)?;
        }
        let mut answers = Vec::new();
        let mut failed = None;
        for part in parts {
            match self.ask(globals, runtime, (&part.instance, &part.brick), &part.rows, false) {
                Ok(answer) => answers.push(answer),
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        let receipt = complete(&receipts, receipt, parts, &answers, failed.as_ref())?;
        if !answers.is_empty() {
            self.show(output, &parts[..answers.len()], receipt.as_ref(), &answers)?;
        }
        failed.map_or(Ok(Exit::Done), Err)
    }

    /// What will happen, for the question.
    fn plan(&self, parts: &[Part]) -> String {
        let count: usize = parts.iter().map(|part| part.rows.len()).sum();
        let mut text = format!("will drop {count} lock{}:\n", if count == 1 { "" } else { "s" });
        for row in parts.iter().flat_map(|part| &part.rows) {
            text.push_str(&format!("  {}  on {}\n", row.line(), row.brick));
        }
        if parts.iter().any(|part| part.rows.iter().any(|row| !row.lock.waits())) {
            text.push_str(match self.no_fence {
                false => "  fence   yes: reads, writes and lock calls through these opens answer EIO until they are closed (--no-fence: do not)\n",
                true => "  fence   no: these programs go on reading and writing as if they had their locks\n",
            });
        }
        if parts.iter().any(|part| part.rows.iter().any(|row| row.lock.waits())) {
            text.push_str("  wait    requests that wait fail; nothing is taken from anybody by that\n");
        }
        let granted: Vec<String> =
            parts.iter().flat_map(|part| &part.preview.granted).map(ToString::to_string).collect();
        text.push_str(&match granted.as_slice() {
            [] => "  then    nobody who waits is granted a lock by it\n".to_owned(),
            granted => {
                format!("  then    {} {} granted\n", granted.join(" "), if granted.len() == 1 { "is" } else { "are" })
            }
        });
        text
    }

    /// Prints what happened, or without answers what would.
    fn show(
        &self,
        output: Output,
        parts: &[Part],
        receipt: Option<&Receipt>,
        answers: &[DropAnswer],
    ) -> Result<(), Failure> {
        if output.is_json() {
            let items: Vec<Value> = parts.iter().flat_map(|part| &part.rows).map(Row::to_json).collect();
            let previews: Vec<&DropAnswer> = parts.iter().map(|part| &part.preview).collect();
            let answers: Vec<&DropAnswer> = if answers.is_empty() { previews } else { answers.iter().collect() };
            let granted: Vec<String> =
                answers.iter().flat_map(|answer| &answer.granted).map(ToString::to_string).collect();
            let more = [
                ("dryRun", json!(self.dry_run)),
                ("fencedOpens", json!(answers.iter().map(|answer| answer.fenced_opens).sum::<u32>())),
                ("granted", json!(granted)),
                ("receipt", json!(receipt.map(|receipt| &receipt.id))),
            ];
            let more = more.into_iter().map(|(key, value)| (key.to_owned(), value));
            return output.document_with("DroppedLockList", &items, Map::from_iter(more));
        }
        if self.dry_run {
            return output.text(&(self.plan(parts) + "nothing was changed (--dry-run)\n"));
        }
        output.text(&done(parts, receipt, answers))
    }
}

fn done(parts: &[Part], receipt: Option<&Receipt>, answers: &[DropAnswer]) -> String {
    let fenced: u32 = answers.iter().map(|answer| answer.fenced_opens).sum();
    let dropped: usize = parts.iter().map(|part| part.rows.len()).sum();
    let granted: Vec<String> = answers.iter().flat_map(|answer| &answer.granted).map(ToString::to_string).collect();
    let mut text = String::new();
    if fenced > 0 {
        text.push_str(&format!("✓ fenced {fenced} open{} · ", if fenced == 1 { "" } else { "s" }));
    }
    text.push_str(&format!("✓ dropped {dropped} lock{}", if dropped == 1 { "" } else { "s" }));
    if !granted.is_empty() {
        text.push_str(&format!(" · ✓ {} granted", granted.join(" ")));
    }
    text.push('\n');
    let mut away: Vec<String> = parts.iter().flat_map(|part| &part.rows).filter_map(Row::note).collect();
    away.sort_unstable();
    away.dedup();
    if !away.is_empty() && fenced > 0 {
        text.push_str("who is away is fenced at the brick and told when it is back\n");
    }
    if let Some(receipt) = receipt {
        let id = &receipt.id;
        text.push_str(&format!("receipt {id}   undo while nothing conflicts: brickwork locks restore {id}\n"));
    }
    text
}

/// Makes the receipt say what was dropped; one of nothing goes.
fn complete(
    receipts: &Receipts,
    receipt: Option<Receipt>,
    parts: &[Part],
    answers: &[DropAnswer],
    failed: Option<&Failure>,
) -> Result<Option<Receipt>, Failure> {
    let Some(mut receipt) = receipt else { return Ok(None) };
    let refused = failed.is_none_or(|failure| failure.code() == Code::LockChanged);
    let dropped = |brick: &Dropped| {
        parts.iter().zip(answers).find(|(part, _)| part.instance == brick.instance && part.brick == brick.brick)
    };
    if refused {
        // As they were when they were taken: the list may be older.
        receipt.bricks.retain_mut(|brick| match dropped(brick) {
            Some((_, answer)) => {
                brick.locks = answer.dropped.iter().filter(|lock| !lock.waits()).cloned().collect();
                true
            }
            None => false,
        });
        receipt.done = true;
    }
    if receipt.bricks.is_empty() {
        receipts.remove(&receipt)?;
        return Ok(None);
    }
    receipts.save(&receipt)?;
    Ok(Some(receipt))
}

fn by_brick(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut parts: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match parts.iter_mut().find(|part| part[0].instance == row.instance && part[0].brick == row.brick) {
            Some(part) => part.push(row),
            None => parts.push(vec![row]),
        }
    }
    parts
}

fn none(why: &str) -> Failure {
    Failure::new(Code::NoSuchLock, "there is no such lock").because(why).next("brickwork locks list")
}

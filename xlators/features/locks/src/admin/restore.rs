//! Gives dropped locks back.
//!
//! A lock is restored only for an open that is still open: its release then takes the lock away, whatever has become of
//! the rest. Fences stay: whoever was told that its lock is gone does not act on it again, and until it closes the file
//! nobody else gets the range.

use std::collections::HashMap;
use std::ops::ControlFlow;

use brickwork_api::ranges::ByteRange;
use brickwork_api::{ClientId, Cx, FopResult, OpenId, StatReq, Target, Xdata};

use super::find::{lk_kind, mode, owner};
use super::list::row_of;
use super::shapes::{CHANGES_MAX, LockRow, RestoreAnswer, RestoreAsk, Restored};
use super::too_many;
use crate::brick::Brick;
use crate::record::{Lk, Record};
use crate::store::{AllShards, News, Shard};
use crate::table::{Lock, Tag};

/// What is to be taken of one row.
enum Plan {
    /// These ranges, some of them because of that lock.
    Take(Lk, Vec<ByteRange>, Option<Lock>),
    /// Nothing, and why.
    Leave(Restored),
}

/// Restores what `ask` names; without `shrink` all or nothing.
///
/// # Errors
/// `EINVAL` for more than [`CHANGES_MAX`]; those of a journal that cannot be written.
pub(super) async fn restore(brick: &Brick, ask: &RestoreAsk) -> FopResult<RestoreAnswer> {
    if ask.locks.len() > CHANGES_MAX {
        return Err(too_many(ask.locks.len()));
    }
    let open = opens(brick, &ask.locks).await;
    let (mut answer, taken, place) = take(brick, ask, &open);
    // An open that was released while its lock was taken: its release may have been before.
    let still = opens(brick, &ask.locks).await;
    for (index, lk) in taken {
        if !is_open(&still, &ask.locks[index]) {
            brick.change(lk.gfid, |shard, _, news| {
                let gone = brick.store.unlock(shard, &lk, news).is_ok();
                ((), gone.then(|| Record::Unlock(lk.clone())))
            });
            answer.outcomes[index] = Restored::Gone;
        }
    }
    brick.ledger().settle(place).await?;
    Ok(answer)
}

type Opens = HashMap<(ClientId, OpenId), bool>;

/// Which opens of the rows are open.
async fn opens(brick: &Brick, rows: &[LockRow]) -> Opens {
    let mut opens = Opens::new();
    for row in rows {
        let Some(open) = row.open.map(OpenId) else { continue };
        if opens.contains_key(&(row.client, open)) {
            continue;
        }
        let cx = Cx::internal(row.client, brick.host.clone());
        let target = Target { gfid: row.gfid, open: Some(open) };
        let found = brick.child.stat(&cx, &StatReq { target, xdata: Xdata::EMPTY }).await;
        opens.insert((row.client, open), found.is_ok());
    }
    opens
}

fn is_open(opens: &Opens, row: &LockRow) -> bool {
    row.open.and_then(|open| opens.get(&(row.client, OpenId(open)))).copied().unwrap_or(false)
}

type Taken = Vec<(usize, Lk)>;

fn take(brick: &Brick, ask: &RestoreAsk, open: &Opens) -> (RestoreAnswer, Taken, Option<u64>) {
    let held = brick.ledger().hold();
    let mut shards = brick.store.all();
    let plans: Vec<Plan> = ask.locks.iter().map(|row| plan(brick, &mut shards, row, ask.shrink, open)).collect();
    let whole = plans.iter().all(|plan| matches!(plan, Plan::Take(_, _, None)));
    let mut news = News::default();
    let mut taken = Taken::new();
    let mut outcomes = Vec::with_capacity(plans.len());
    for (index, plan) in plans.into_iter().enumerate() {
        let outcome = match plan {
            Plan::Leave(outcome) => outcome,
            Plan::Take(..) if !whole && !ask.shrink => Restored::Untouched,
            Plan::Take(lk, ranges, with) => {
                let with = with.map(|lock| Box::new(row_of(brick, lk.gfid, lk.kind, &lock)));
                let mut got = Vec::new();
                for range in ranges {
                    let lk = Lk { range, ..lk.clone() };
                    // Full now: what is left of the table's room went to another row of this very question.
                    if brick.store.set(shards.of(lk.gfid), &lk, &mut news).is_ok() {
                        news.place = held.append(&Record::Set(lk.clone())).max(news.place);
                        got.push((range.start(), range.end()));
                        taken.push((index, lk));
                    }
                }
                match with {
                    None if !got.is_empty() => Restored::Whole,
                    None => Restored::NoRoom,
                    Some(with) => Restored::Parts { ranges: got, with },
                }
            }
        };
        outcomes.push(outcome);
    }
    drop(shards);
    drop(held);
    let place = news.place;
    brick.publish(news, place);
    (RestoreAnswer { outcomes }, taken, place)
}

fn plan(brick: &Brick, shards: &mut AllShards<'_>, row: &LockRow, shrink: bool, open: &Opens) -> Plan {
    let Some(kind) = lk_kind(row.kind).filter(|_| !row.waits()) else { return Plan::Leave(Restored::Internal) };
    let known = brick.store.clients.get(row.client);
    let (Some(client), Some(owner), Some(range)) = (known, owner(&row.owner), ByteRange::new(row.start, row.end))
    else {
        return Plan::Leave(Restored::Gone);
    };
    if !is_open(open, row) {
        return Plan::Leave(Restored::Gone);
    }
    let open = OpenId(row.open.unwrap_or(0));
    let tag = Tag { open, process: row.pid, since_ms: brick.today_ms(), mandatory: row.mandatory };
    let lk = Lk { gfid: row.gfid, kind, client: client.id, owner, range, mode: mode(row.exclusive), tag, asked: None };
    let (free, first) = free(brick, shards.of(row.gfid), &lk);
    match first {
        Some(first) if !shrink => {
            Plan::Leave(Restored::Conflict { with: Box::new(row_of(brick, row.gfid, kind, &first)) })
        }
        first => Plan::Take(lk, free, first),
    }
}

/// The parts of a range that nobody keeps from the owner, and the first lock that is in its way.
fn free(brick: &Brick, shard: &Shard, lk: &Lk) -> (Vec<ByteRange>, Option<Lock>) {
    let client = brick.store.clients.of(lk.client);
    let owner = brick.store.clients.key(&client, &lk.owner);
    let (mut free, mut first, mut from) = (Vec::new(), None, lk.range.start());
    if let Some(table) = shard.inode(lk.gfid).and_then(|inode| inode.table(lk.kind)) {
        table.for_each_conflict(owner, lk.range, lk.mode, &mut |lock| {
            first.get_or_insert(*lock);
            free.extend(ByteRange::new(from, lock.range.start().max(from)));
            from = from.max(lock.range.end());
            ControlFlow::Continue(())
        });
    }
    free.extend(ByteRange::new(from, lk.range.end().max(from)));
    (free, first)
}

//! Takes locks from their owners at an administrator's word.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use brickwork_api::locks::LostBy;
use brickwork_api::{ClientId, FopResult, Gfid};

use super::find::{Found, find, lk_kind};
use super::list::rows_of;
use super::shapes::{CHANGES_MAX, DropAnswer, DropAsk, Kind, LockRow, RowId};
use super::too_many;
use crate::brick::Brick;
use crate::journal::Held;
use crate::record::Record;
use crate::store::{AllShards, News, Shard};
use crate::table::{Ids, Table};
use crate::waits::Outcome;

/// Takes what `ask` names, all or nothing; only says what would happen when that is asked.
///
/// Done when the records of it are as durable as those of lock calls.
///
/// # Errors
/// `EINVAL` for more than [`CHANGES_MAX`]; those of a journal that cannot be written.
pub(super) async fn drop(brick: &Brick, ask: &DropAsk) -> FopResult<DropAnswer> {
    if ask.locks.len() > CHANGES_MAX {
        return Err(too_many(ask.locks.len()));
    }
    let (answer, place) = take(brick, ask);
    brick.ledger().settle(place).await?;
    Ok(answer)
}

/// A table of an object; all locks between xlators are in one.
type Place = (Gfid, Kind);

fn place_of(row: &LockRow) -> Place {
    (row.gfid, if lk_kind(row.kind).is_some() { row.kind } else { Kind::Inode })
}

fn take(brick: &Brick, ask: &DropAsk) -> (DropAnswer, Option<u64>) {
    let mut news = News::default();
    // A change of many objects at once: the journal first, as everywhere.
    let held = brick.ledger().hold();
    let mut shards = brick.store.all();
    let mut answer = DropAnswer::default();
    let mut found: Vec<(&LockRow, Found)> = Vec::new();
    for row in &ask.locks {
        match find(&brick.store, shards.of(row.gfid), row) {
            Some(what) => found.push((row, what)),
            None => answer.missing.push(row.id),
        }
    }
    if !answer.missing.is_empty() {
        return (answer, None);
    }
    answer.dropped = rows_now(brick, &mut shards, &found);
    if ask.fence {
        let fenced = answer.dropped.iter().filter(|row| !row.waits() && lk_kind(row.kind).is_some());
        let opens: BTreeSet<(ClientId, u64)> = fenced.filter_map(|row| Some((row.client, row.open?))).collect();
        answer.fenced_opens = opens.len() as u32;
    }
    if ask.dry_run {
        answer.granted = preview(&mut shards, &found);
        return (answer, None);
    }
    let places: BTreeSet<Place> = found.iter().map(|(row, _)| place_of(row)).collect();
    let before = waiting(&mut shards, &places);
    for (row, what) in &found {
        let place = take_one(brick, shards.of(row.gfid), &held, row, what, ask.fence, &mut news);
        news.place = news.place.max(place);
    }
    let (after, dropped): (HashSet<RowId>, HashSet<RowId>) =
        (waiting(&mut shards, &places).into_iter().collect(), found.iter().map(|(row, _)| row.id).collect());
    answer.granted = before.into_iter().filter(|id| !after.contains(id) && !dropped.contains(id)).collect();
    std::mem::drop(shards);
    std::mem::drop(held);
    let place = news.place;
    brick.publish(news, place);
    (answer, place)
}

/// The rows of what was found, as it is now.
fn rows_now(brick: &Brick, shards: &mut AllShards<'_>, found: &[(&LockRow, Found)]) -> Vec<LockRow> {
    let mut by_object: BTreeMap<Gfid, Vec<RowId>> = BTreeMap::new();
    for (row, _) in found {
        by_object.entry(row.gfid).or_default().push(row.id);
    }
    let rows = by_object.into_iter().flat_map(|(gfid, ids)| {
        let inode = shards.of(gfid).inode(gfid);
        inode.map(|inode| rows_of(brick, gfid, inode, &ids)).unwrap_or_default()
    });
    rows.collect()
}

/// Who waits in these tables, in their order.
fn waiting(shards: &mut AllShards<'_>, places: &BTreeSet<Place>) -> Vec<RowId> {
    let mut ids = Vec::new();
    for (gfid, kind) in places {
        let Some(inode) = shards.of(*gfid).inode(*gfid) else { continue };
        match lk_kind(*kind) {
            Some(kind) => {
                let waiters = inode.table(kind).into_iter().flat_map(Table::waiters);
                ids.extend(waiters.map(|waiter| RowId::Waiting(waiter.id.0)));
            }
            None => {
                let waiters = inode.between().into_iter().flat_map(|between| between.waiters());
                ids.extend(waiters.map(|(_, waiter)| RowId::Waiting(waiter.id.0)));
            }
        }
    }
    ids
}

/// Takes one and returns where its record stands.
fn take_one(
    brick: &Brick,
    shard: &mut Shard,
    held: &Held<'_>,
    row: &LockRow,
    what: &Found,
    fence: bool,
    news: &mut News,
) -> Option<u64> {
    match what {
        Found::Lock(kind, owner, range) => {
            let taken = brick.take(shard, held, (row.gfid, *kind, *owner), *range, (LostBy::Drop, fence), news);
            // A whole lock leaves no rest that could find no room; without the record that it goes it stays, which the log
            // says.
            taken.ok().and(news.place)
        }
        Found::Waiter(kind, id) => {
            let waiting = brick.store.cancel(shard, row.gfid, *kind, *id, news)?;
            news.answered.extend(waiting.call.map(|call| (call, Outcome::Deadlock)));
            held.append(&Record::Cancel(row.gfid, *kind, *id))
        }
        Found::Between(id) => {
            brick.store.between_take(shard, row.gfid, *id, news)?;
            held.append(&Record::BetweenTake(row.gfid, *id))
        }
        Found::BetweenWaiter(id) => {
            let waiting = brick.store.between_cancel(shard, row.gfid, *id, news)?;
            news.answered.extend(waiting.call.map(|call| (call, Outcome::Deadlock)));
            held.append(&Record::BetweenCancel(row.gfid, *id))
        }
    }
}

/// Who would be granted a lock: the very rules, on a copy.
fn preview(shards: &mut AllShards<'_>, found: &[(&LockRow, Found)]) -> Vec<RowId> {
    let mut by_place: BTreeMap<Place, Vec<&Found>> = BTreeMap::new();
    for (row, what) in found {
        by_place.entry(place_of(row)).or_default().push(what);
    }
    let ids = Ids::default();
    let mut granted = Vec::new();
    for ((gfid, kind), gone) in by_place {
        let Some(inode) = shards.of(gfid).inode(gfid) else { continue };
        match lk_kind(kind).and_then(|kind| inode.table(kind)) {
            Some(table) => {
                let mut copy = Table::default();
                table.locks().for_each(|lock| copy.restore(lock));
                table.waiters().for_each(|waiter| copy.restore_waiter(*waiter));
                for what in gone {
                    let effects = match what {
                        Found::Lock(_, owner, range) => copy.unlock(*owner, *range, &ids, usize::MAX).ok(),
                        Found::Waiter(_, id) => copy.cancel(*id, &ids, usize::MAX).map(|(_, effects)| effects),
                        Found::Between(..) | Found::BetweenWaiter(_) => None,
                    };
                    granted.extend(effects.into_iter().flat_map(|effects| effects.granted).map(|waiter| waiter.id));
                }
            }
            None => {
                let Some(mut copy) = inode.between().cloned() else { continue };
                for what in gone {
                    granted.extend(match what {
                        Found::Between(id) => copy.take(*id, &ids).map(|(_, _, granted)| granted).unwrap_or_default(),
                        Found::BetweenWaiter(id) => {
                            copy.cancel(*id, &ids).map(|(_, granted)| granted).unwrap_or_default()
                        }
                        Found::Lock(..) | Found::Waiter(..) => Vec::new(),
                    });
                }
            }
        }
    }
    let gone: HashSet<RowId> = found.iter().map(|(row, _)| row.id).collect();
    granted.into_iter().map(|id| RowId::Waiting(id.0)).filter(|id| !gone.contains(id)).collect()
}

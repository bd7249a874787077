//! Who waits for whom: a forest for each object, and the cycles over all of them.
//!
//! Pure. Cycles are looked for among processes: each open file is an owner of its own where `flock` and OFD locks are
//! concerned, and a process that holds by one and waits by another closes a cycle all the same. A waiting request stands once in the forest, below the first of those it waits for: held locks come first.

use std::collections::{HashMap, HashSet};

use brickwork_api::{ClientId, Gfid};
use brickwork_locks::admin::shapes::{Kind, RowId};

use super::row::Row;

/// How deep the forest is drawn; what is below stands there.
const DEPTH_MAX: usize = 32;

/// The waiting of one object, in one family of locks.
#[derive(Debug)]
pub struct Contention<'a> {
    /// All its rows, held ones first.
    pub rows: Vec<&'a Row>,
    /// Held locks in the way of others, and requests whose blockers are not shown.
    pub roots: Vec<Node<'a>>,
}

/// A lock or request, and those that wait for it.
#[derive(Debug)]
pub struct Node<'a> {
    /// The lock or request.
    pub row: &'a Row,
    /// How many wait for nothing else.
    pub frees: usize,
    /// Those below.
    pub waiters: Vec<Node<'a>>,
}

/// Where a row is known: ids are unique in a brick.
type Place<'a> = (&'a str, &'a str, RowId);

fn place(row: &Row) -> Place<'_> {
    (&row.instance, &row.brick, row.lock.id)
}

impl<'a> Contention<'a> {
    /// Those of `rows`, the longest waiting first.
    #[must_use]
    pub fn all(rows: &'a [Row]) -> Vec<Contention<'a>> {
        type Table<'a> = (&'a str, &'a str, Gfid, Kind, Option<&'a str>);
        let mut order: Vec<Table<'a>> = Vec::new();
        let mut groups: HashMap<Table<'a>, Vec<&'a Row>> = HashMap::new();
        for row in rows {
            let lock = &row.lock;
            let table: Table<'a> = (&row.instance, &row.brick, lock.gfid, lock.kind, lock.domain.as_deref());
            groups.entry(table).or_insert_with(|| {
                order.push(table);
                Vec::new()
            });
            groups.get_mut(&table).expect("just made").push(row);
        }
        let contended = order.iter().filter_map(|table| groups.remove(table)).map(Contention::of);
        let mut all: Vec<_> = contended.filter(|contention| contention.waiting().next().is_some()).collect();
        all.sort_by_key(|contention| std::cmp::Reverse(contention.worst_ms()));
        all
    }

    fn of(rows: Vec<&'a Row>) -> Contention<'a> {
        let known: HashMap<RowId, &Row> = rows.iter().map(|row| (row.lock.id, *row)).collect();
        let mut below: HashMap<RowId, Vec<&'a Row>> = HashMap::new();
        let mut tops = Vec::new();
        for &row in &rows {
            match row.lock.blockers.iter().find(|id| known.contains_key(id)) {
                Some(&parent) => below.entry(parent).or_default().push(row),
                None => tops.push(row),
            }
        }
        let mut alone: HashMap<RowId, usize> = HashMap::new();
        for row in &rows {
            if let [only] = row.lock.blockers.as_slice() {
                *alone.entry(*only).or_default() += 1;
            }
        }
        tops.retain(|row| row.lock.waits() || below.contains_key(&row.lock.id));
        let roots = tops.into_iter().map(|row| grow(row, &below, &alone, 0)).collect();
        Contention { rows, roots }
    }

    /// The requests that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().copied().filter(|row| row.lock.waits())
    }

    /// For how long the first of them waits.
    #[must_use]
    pub fn worst_ms(&self) -> u64 {
        self.waiting().map(|row| row.lock.age_ms).max().unwrap_or(0)
    }
}

fn grow<'a>(
    row: &'a Row,
    below: &HashMap<RowId, Vec<&'a Row>>,
    alone: &HashMap<RowId, usize>,
    depth: usize,
) -> Node<'a> {
    let frees = alone.get(&row.lock.id).copied().unwrap_or(0);
    let children = below.get(&row.lock.id).map_or(&[][..], Vec::as_slice);
    let waiters = match depth < DEPTH_MAX {
        true => children.iter().map(|child| grow(child, below, alone, depth + 1)).collect(),
        false => {
            everything_below(row, below).into_iter().map(|row| Node { row, frees: 0, waiters: Vec::new() }).collect()
        }
    };
    Node { row, frees, waiters }
}

fn everything_below<'a>(row: &'a Row, below: &HashMap<RowId, Vec<&'a Row>>) -> Vec<&'a Row> {
    let (mut all, mut next) = (Vec::new(), vec![row]);
    while let Some(row) = next.pop() {
        let children = below.get(&row.lock.id).map_or(&[][..], Vec::as_slice);
        all.extend(children);
        next.extend(children);
    }
    all
}

/// A process that holds and waits, as part of a cycle.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// What it waits for.
    pub waits: &'a Row,
    /// What the one before it in the cycle waits for: its lock, or its request that is ahead.
    pub holds: &'a Row,
}

/// A process; of a client that does not say which, an owner.
type Owner<'a> = (ClientId, u32, &'a str);

fn owner(row: &Row) -> Owner<'_> {
    match row.lock.pid {
        0 => (row.lock.client, 0, &row.lock.owner),
        pid => (row.lock.client, pid, ""),
    }
}

/// The cycles among `rows`, each once; each process is in one at most.
#[must_use]
pub fn cycles(rows: &[Row]) -> Vec<Vec<Link<'_>>> {
    let known: HashMap<Place<'_>, &Row> = rows.iter().map(|row| (place(row), row)).collect();
    // Whom each process waits for: the request, and the row that is in its way.
    let mut edges: HashMap<Owner<'_>, Vec<(&Row, &Row)>> = HashMap::new();
    for row in rows {
        for id in &row.lock.blockers {
            if let Some(blocker) = known.get(&(row.instance.as_str(), row.brick.as_str(), *id)) {
                edges.entry(owner(row)).or_default().push((row, blocker));
            }
        }
    }
    let mut done: HashSet<Owner<'_>> = HashSet::new();
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| row.lock.waits()) {
        if let Some(cycle) = follow(owner(row), &edges, &mut done) {
            found.push(cycle);
        }
    }
    found
}

/// The first cycle that is met on the ways from `start` through processes that are not `done`; all of those that were met are done then.
fn follow<'a>(
    start: Owner<'a>,
    edges: &HashMap<Owner<'a>, Vec<(&'a Row, &'a Row)>>,
    done: &mut HashSet<Owner<'a>>,
) -> Option<Vec<Link<'a>>> {
    // The way to where we stand: each process, the edge that is tried next, and the edge by which it was left.
    let mut way: Vec<(Owner<'a>, usize)> = vec![(start, 0)];
    let mut taken: Vec<(&'a Row, &'a Row)> = Vec::new();
    if !done.insert(start) {
        return None;
    }
    while let Some((at, next)) = way.last_mut() {
        let Some(&(waits, blocker)) = edges.get(at).and_then(|edges| edges.get(*next)) else {
            way.pop();
            taken.pop();
            continue;
        };
        *next += 1;
        let to = owner(blocker);
        if let Some(first) = way.iter().position(|(on_way, _)| *on_way == to) {
            let mut steps = taken[first..].to_vec();
            steps.push((waits, blocker));
            // Who waits in step i is who is in the way of step i - 1.
            let before = |index: usize| steps[(index + steps.len() - 1) % steps.len()].1;
            return Some((0..steps.len()).map(|index| Link { waits: steps[index].0, holds: before(index) }).collect());
        }
        if done.insert(to) {
            taken.push((waits, blocker));
            way.push((to, 0));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    fn waits(id: &str, host: &str, range: &str, blockers: &[&str]) -> Row {
        let mut row = row(id, host, "WRITE", range);
        row.lock.blockers = blockers.iter().map(|id| id.parse().unwrap()).collect();
        row
    }

    fn on(mut row: Row, object: u8) -> Row {
        row.lock.gfid = Gfid::from_bytes([object; 16]);
        row.lock.path = Some(format!("/acct/{object}"));
        row
    }

    /// Ids by depth.
    fn drawn(nodes: &[Node<'_>], depth: usize, lines: &mut Vec<String>) {
        for node in nodes {
            lines.push(format!("{}{} frees {}", " ".repeat(depth), node.row.lock.id, node.frees));
            drawn(&node.waiters, depth + 1, lines);
        }
    }

    #[test]
    fn every_waiter_stands_once_below_the_first_it_waits_for() {
        let rows = [
            row("lk:a", "web01", "WRITE", "0-99"),
            row("lk:9", "web09", "WRITE", "500-599"),
            waits("lk:wb", "web02", "50-149", &["lk:a"]),
            waits("lk:wc", "web03", "120-130", &["lk:wb"]),
            waits("lk:wd", "web04", "0-60", &["lk:a", "lk:wb"]),
        ];
        let all = Contention::all(&rows);
        assert_eq!(all.len(), 1);
        let mut lines = Vec::new();
        drawn(&all[0].roots, 0, &mut lines);
        assert_eq!(lines, ["lk:a frees 1", " lk:wb frees 1", "  lk:wc frees 0", " lk:wd frees 0"]);
    }

    #[test]
    fn a_chain_deeper_than_is_drawn_loses_nobody() {
        let mut rows = vec![row("lk:1", "h", "WRITE", "0")];
        for index in 1..200 {
            let before = if index == 1 { "lk:1".to_owned() } else { format!("lk:w{:x}", index - 1) };
            rows.push(waits(&format!("lk:w{index:x}"), &format!("h{index}"), "0", &[&before]));
        }
        let all = Contention::all(&rows);
        let mut lines = Vec::new();
        drawn(&all[0].roots, 0, &mut lines);
        assert_eq!(lines.len(), 200);
    }

    #[test]
    fn objects_without_waiters_are_left_out() {
        assert!(Contention::all(&[row("lk:1", "a", "WRITE", "0")]).is_empty());
    }

    #[test]
    fn a_cycle_over_two_files_is_found_once_with_what_each_holds_and_waits_for() {
        let rows = [
            on(row("lk:1", "web01", "WRITE", "0"), 1),
            on(waits("lk:w3", "web02", "0", &["lk:1"]), 1),
            on(row("lk:2", "web02", "WRITE", "0"), 2),
            on(waits("lk:w4", "web01", "0", &["lk:2"]), 2),
            on(waits("lk:w5", "web05", "0", &["lk:2"]), 2),
        ];
        let cycles = cycles(&rows);
        assert_eq!(cycles.len(), 1);
        let ids: Vec<_> =
            cycles[0].iter().map(|link| (link.holds.lock.id.to_string(), link.waits.lock.id.to_string())).collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(ids, [pair("lk:2", "lk:w3"), pair("lk:1", "lk:w4")]);
    }

    #[test]
    fn a_chain_that_ends_is_no_cycle() {
        let rows = [
            on(row("lk:1", "web01", "WRITE", "0"), 1),
            on(waits("lk:w3", "web02", "0", &["lk:1"]), 1),
            on(row("lk:2", "web02", "WRITE", "0"), 2),
            on(waits("lk:w5", "web03", "0", &["lk:2"]), 2),
        ];
        assert!(cycles(&rows).is_empty());
    }

    #[test]
    fn a_cycle_behind_a_dead_end_is_found() {
        // The first blocker of web01 leads nowhere; the second closes the cycle.
        let rows = [
            on(row("lk:9", "web09", "READ", "0"), 2),
            on(row("lk:2", "web02", "READ", "0"), 2),
            on(waits("lk:w4", "web01", "0", &["lk:9", "lk:2"]), 2),
            on(row("lk:1", "web01", "WRITE", "0"), 1),
            on(waits("lk:w3", "web02", "0", &["lk:1"]), 1),
        ];
        assert_eq!(cycles(&rows).len(), 1);
    }
}

//! Which locks there are.

use std::ops::ControlFlow;

use brickwork_api::{Gfid, LkKind};

use super::shapes::{ClientState, Kind, ListAnswer, ListAsk, LockRow, ROWS_MAX, RowId};
use crate::brick::Brick;
use crate::clients::Client;
use crate::inode::Inode;
use crate::rules::life::Presence;
use crate::rules::xlator_locks::{Request, Scope};
use crate::store::{KINDS, Shard};
use crate::table::{Blocker, Lock, Mode, OwnerKey, Table, Tag, Waiter, WaiterId};

/// Blockers of one row that are shown.
const BLOCKERS_SHOWN_MAX: usize = 64;
/// Blockers that are looked for in one answer; once they are found, of a request only the first held lock in its way is.
const BLOCKERS_LOOKED_AT_MAX: usize = 1_000_000;
/// The fewest digits of a client's identity that mean it: fewer could be those of another one by chance.
const CLIENT_DIGITS_MIN: usize = 8;

/// The locks that `ask` means.
pub(super) fn list(brick: &Brick, ask: &ListAsk) -> ListAnswer {
    let limit = match ask.limit {
        0 => ROWS_MAX,
        limit => limit.min(ROWS_MAX),
    };
    let mut list = List::new(brick, ask, limit as usize);
    if ask.gfids.is_empty() {
        for shard in brick.store.shards() {
            shard.iter().for_each(|(gfid, inode)| list.inode(gfid, inode));
        }
    } else {
        for gfid in &ask.gfids {
            let shard: &Shard = &brick.store.shard(*gfid);
            shard.inode(*gfid).into_iter().for_each(|inode| list.inode(*gfid, inode));
        }
    }
    list.answer
}

/// Rows of what `gfid` has under these ids, as they are now.
pub(super) fn rows_of(brick: &Brick, gfid: Gfid, inode: &Inode, ids: &[RowId]) -> Vec<LockRow> {
    let ask = ListAsk { ids: ids.to_vec(), ..ListAsk::default() };
    let mut list = List::new(brick, &ask, ids.len());
    list.inode(gfid, inode);
    list.answer.locks
}

/// A row of a held lock.
pub(super) fn row_of(brick: &Brick, gfid: Gfid, kind: LkKind, lock: &Lock) -> LockRow {
    let ask = ListAsk::default();
    List::new(brick, &ask, 1).row(gfid, &held(kind, lock))
}

/// An answer in the making.
struct List<'a> {
    brick: &'a Brick,
    ask: &'a ListAsk,
    limit: usize,
    now_ms: u64,
    today_ms: u64,
    blockers: usize,
    answer: ListAnswer,
}

/// What all kinds have in common.
struct Raw {
    id: RowId,
    kind: Kind,
    domain: Option<String>,
    name: Option<String>,
    exclusive: bool,
    range: (u64, u64),
    owner: OwnerKey,
    tag: Tag,
}

fn kind_of(kind: LkKind) -> Kind {
    match kind {
        LkKind::Posix => Kind::Posix,
        LkKind::Flock => Kind::Flock,
    }
}

fn held(kind: LkKind, lock: &Lock) -> Raw {
    Raw {
        id: RowId::Held(lock.id.0),
        kind: kind_of(kind),
        domain: None,
        name: None,
        exclusive: lock.mode == Mode::Exclusive,
        range: (lock.range.start(), lock.range.end()),
        owner: lock.owner,
        tag: lock.tag,
    }
}

fn waiting(kind: LkKind, waiter: &Waiter) -> Raw {
    let ask = &waiter.ask;
    Raw {
        id: RowId::Waiting(waiter.id.0),
        kind: kind_of(kind),
        domain: None,
        name: None,
        exclusive: ask.mode == Mode::Exclusive,
        range: (ask.range.start(), ask.range.end()),
        owner: ask.owner,
        tag: ask.tag,
    }
}

fn between(id: RowId, domain: &str, request: &Request) -> Raw {
    let (kind, name, range) = match &request.scope {
        Scope::Range(range) => (Kind::Inode, None, (range.start(), range.end())),
        Scope::Name(name) => (Kind::Entry, Some(name.to_string()), (0, u64::MAX)),
        Scope::AllNames => (Kind::Entry, None, (0, u64::MAX)),
    };
    let Request { owner, mode, tag, .. } = request;
    let exclusive = *mode == Mode::Exclusive;
    Raw { id, kind, domain: Some(domain.to_owned()), name, exclusive, range, owner: *owner, tag: *tag }
}

impl<'a> List<'a> {
    fn new(brick: &'a Brick, ask: &'a ListAsk, limit: usize) -> List<'a> {
        let (now_ms, today_ms) = (brick.now_ms(), brick.today_ms());
        List { brick, ask, limit, now_ms, today_ms, blockers: 0, answer: ListAnswer::default() }
    }

    fn inode(&mut self, gfid: Gfid, inode: &Inode) {
        let waits = |kind: &LkKind| inode.table(*kind).is_some_and(|table| table.waiters().next().is_some());
        let contended =
            || KINDS.iter().any(waits) || inode.between().is_some_and(|between| between.waiters().next().is_some());
        if self.ask.contended && !contended() {
            return;
        }
        for kind in KINDS {
            if let Some(table) = inode.table(kind).filter(|_| self.asks_for(kind_of(kind))) {
                table.locks().for_each(|lock| self.add(gfid, held(kind, &lock), |_| Vec::new()));
                for waiter in table.waiters() {
                    self.add(gfid, waiting(kind, waiter), |list| list.blockers(table, waiter));
                }
            }
        }
        let Some(locks) = inode.between() else { return };
        if !self.asks_for(Kind::Inode) && !self.asks_for(Kind::Entry) {
            return;
        }
        for (domain, lock) in locks.locks() {
            self.add(gfid, between(RowId::Held(lock.id.0), domain, &lock.request), |_| Vec::new());
        }
        for (domain, waiter) in locks.waiters() {
            let raw = between(RowId::Waiting(waiter.id.0), domain, &waiter.request);
            self.add(gfid, raw, |_| shown(&locks.blockers(waiter.id)));
        }
    }

    fn asks_for(&self, kind: Kind) -> bool {
        self.ask.kinds.is_empty() || self.ask.kinds.contains(&kind)
    }

    fn blockers(&mut self, table: &Table, waiter: &Waiter) -> Vec<RowId> {
        if self.blockers < BLOCKERS_LOOKED_AT_MAX {
            let blockers = table.blockers(waiter.id);
            self.blockers += blockers.len();
            return shown(&blockers);
        }
        let mut first = Vec::new();
        table.for_each_conflict(waiter.ask.owner, waiter.ask.range, waiter.ask.mode, &mut |lock| {
            first.push(RowId::Held(lock.id.0));
            ControlFlow::Break(())
        });
        first
    }

    /// Counts what is meant, and shows it while there is room.
    fn add(&mut self, gfid: Gfid, raw: Raw, blockers: impl FnOnce(&mut Self) -> Vec<RowId>) {
        if !self.means(&raw) {
            return;
        }
        match raw.id {
            RowId::Held(_) => self.answer.held += 1,
            RowId::Waiting(_) => self.answer.waiting += 1,
        }
        if self.answer.locks.len() >= self.limit {
            self.answer.cut = true;
            return;
        }
        let mut row = self.row(gfid, &raw);
        row.blockers = blockers(self);
        self.answer.locks.push(row);
    }

    fn means(&self, raw: &Raw) -> bool {
        let ask = self.ask;
        if !self.asks_for(raw.kind) || (!ask.ids.is_empty() && !ask.ids.contains(&raw.id)) {
            return false;
        }
        if ask.older_ms.is_some_and(|older_ms| self.age_ms(raw) < older_ms) {
            return false;
        }
        if ask.owner.is_none() && ask.client.is_none() && !ask.stale {
            return true;
        }
        let owner = self.brick.store.clients.owner(raw.owner);
        let client = &owner.client;
        ask.owner.as_ref().is_none_or(|wanted| *wanted == format!("{:?}", owner.name))
            && ask.client.as_ref().is_none_or(|wanted| is_called(client, wanted))
            && (!ask.stale || matches!(self.state(client), ClientState::Detached { .. }))
    }

    fn row(&self, gfid: Gfid, raw: &Raw) -> LockRow {
        let owner = self.brick.store.clients.owner(raw.owner);
        let client = &owner.client;
        let host = client.person.lock().host.to_string();
        LockRow {
            id: raw.id,
            kind: raw.kind,
            gfid,
            path: None,
            domain: raw.domain.clone(),
            name: raw.name.clone(),
            exclusive: raw.exclusive,
            start: raw.range.0,
            end: raw.range.1,
            age_ms: self.age_ms(raw),
            client: client.id,
            owner: format!("{:?}", owner.name),
            host,
            command: client.command(raw.tag.process).map(|command| command.to_string()).unwrap_or_default(),
            pid: raw.tag.process,
            open: (raw.tag.open.0 != 0).then_some(raw.tag.open.0),
            mandatory: raw.tag.mandatory,
            client_state: self.state(client),
            blockers: Vec::new(),
        }
    }

    fn age_ms(&self, raw: &Raw) -> u64 {
        let waits_for_ms = |id| self.brick.store.waits.with(WaiterId(id), |one| one.since.elapsed().as_millis() as u64);
        match raw.id {
            RowId::Held(_) => self.today_ms.saturating_sub(raw.tag.since_ms),
            RowId::Waiting(id) => waits_for_ms(id).unwrap_or(0),
        }
    }

    fn state(&self, client: &Client) -> ClientState {
        let Some(life) = client.person.lock().life else { return ClientState::Local };
        match life.presence() {
            Presence::Attached => ClientState::Attached,
            Presence::Detached { since_ms } => ClientState::Detached {
                silent_ms: self.now_ms.saturating_sub(since_ms),
                protected_ms: life.protected_until().unwrap_or(self.now_ms).saturating_sub(self.now_ms),
            },
        }
    }
}

/// Whether people call `client` so: by its host, or by the beginning of its identity.
fn is_called(client: &Client, wanted: &str) -> bool {
    let begins =
        || wanted.len() >= CLIENT_DIGITS_MIN && client.id.to_string().starts_with(&wanted.to_ascii_lowercase());
    &*client.person.lock().host == wanted || begins()
}

fn shown(blockers: &[Blocker]) -> Vec<RowId> {
    let id = |blocker: &Blocker| match (blocker.lock, blocker.waiter) {
        (Some(lock), _) => Some(RowId::Held(lock.0)),
        (None, waiter) => waiter.map(|waiter| RowId::Waiting(waiter.0)),
    };
    blockers.iter().take(BLOCKERS_SHOWN_MAX).filter_map(id).collect()
}

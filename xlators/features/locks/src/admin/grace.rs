//! How a grace is going, and its end by an administrator.

use std::sync::atomic::Ordering;

use super::shapes::{GraceAnswer, GraceClient, GraceEndAnswer, GraceEndAsk};
use crate::brick::Brick;
use crate::rules::grace::{Grace, Standing};
use crate::rules::life::Presence;

/// How the grace is going, if there is one.
pub(super) fn grace(brick: &Brick) -> GraceAnswer {
    let grace = brick.grace.lock();
    grace
        .as_ref()
        .filter(|grace| !grace.is_over(brick.now_ms()))
        .map_or_else(GraceAnswer::default, |grace| shown(brick, grace))
}

/// Ends the grace, if nobody is waited for or all the same.
pub(super) fn end(brick: &Brick, ask: GraceEndAsk) -> GraceEndAnswer {
    let mut running = brick.grace.lock();
    let now_ms = brick.now_ms();
    let Some(grace) = running.as_mut().filter(|grace| !grace.is_over(now_ms)) else {
        return GraceEndAnswer { ended: true, grace: GraceAnswer::default() };
    };
    let before = shown(brick, grace);
    if grace.counts().awaited > 0 && !ask.force {
        return GraceEndAnswer { ended: false, grace: before };
    }
    grace.end_now(now_ms);
    drop(running);
    brick.end_grace_if_over();
    GraceEndAnswer { ended: true, grace: before }
}

fn shown(brick: &Brick, grace: &Grace) -> GraceAnswer {
    let now_ms = brick.now_ms();
    let clients = grace.clients().map(|(id, reclaims)| {
        let client = brick.store.clients.get(id);
        let person = client.as_ref().map(|client| client.person.lock());
        let last_seen_ms = person.as_ref().and_then(|person| person.life).map(|life| match life.presence() {
            Presence::Attached => 0,
            Presence::Detached { since_ms } => now_ms.saturating_sub(since_ms),
        });
        GraceClient {
            client: id,
            host: person.map(|person| person.host.to_string()).unwrap_or_default(),
            last_seen_ms,
            reclaimed: reclaims.reclaimed,
            complete: reclaims.standing != Standing::Awaited,
        }
    });
    GraceAnswer {
        active: true,
        reason: grace.reason().word().to_owned(),
        ends_in_ms: grace.ends_at().saturating_sub(now_ms),
        reclaimed: grace.counts().reclaimed,
        waiting_requests: brick.grace_waits.load(Ordering::Relaxed) as u64,
        clients: clients.collect(),
    }
}

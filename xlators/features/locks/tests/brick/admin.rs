//! What administrators ask: lists at their limits, drops that are all or nothing.

use brickwork_api::{Cx, EntrylkReq, Errno, Gfid, IpcReq, LkType, Name, Xdata, XlatorLkCommand};
use brickwork_locks::admin::shapes::{
    CHANGES_MAX, DropAnswer, DropAsk, Kind, ListAnswer, ListAsk, RestoreAnswer, RestoreAsk, Restored, RowId,
};
use brickwork_locks::admin::{DROP, LIST, RESTORE};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::world::{FILE, World};

async fn ask<A: Serialize, T: DeserializeOwned>(world: &World, operation: &str, argument: &A) -> Result<T, Errno> {
    let cx = Cx::internal(brickwork_api::ClientId(0), world.host.clone());
    let payload = serde_json::to_vec(argument).unwrap().into();
    let request = IpcReq { operation: operation.to_owned(), payload, xdata: Xdata::EMPTY };
    let answer = world.locks.ipc(&cx, &request).await.map_err(|error| error.errno())?;
    Ok(serde_json::from_slice(&answer.payload).unwrap())
}

async fn list(world: &World, asks: ListAsk) -> ListAnswer {
    ask(world, LIST, &asks).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_beyond_its_limit_counts_everything_and_says_that_it_is_cut() {
    let world = World::new(&[]);
    let client = world.client();
    for at in 0..10 {
        // Apart, so that they do not join.
        world.request(&client, 1).take(at * 10, at * 10 + 1).await.unwrap();
    }
    let all = list(&world, ListAsk { limit: 10, ..ListAsk::default() }).await;
    assert_eq!((all.locks.len(), all.held, all.waiting, all.cut), (10, 10, 0, false));
    let cut = list(&world, ListAsk { limit: 9, ..ListAsk::default() }).await;
    assert_eq!((cut.locks.len(), cut.held, cut.cut), (9, 10, true));
    assert_eq!(all.locks[0].host, "web01");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_meant_by_its_host_or_by_enough_of_its_identity() {
    let world = World::new(&[]);
    let client = world.client();
    world.request(&client, 1).take(0, 1).await.unwrap();
    let digits = client.id.to_string();
    let found =
        async |client: &str| list(&world, ListAsk { client: Some(client.to_owned()), ..ListAsk::default() }).await.held;
    assert_eq!(found("web01").await, 1);
    assert_eq!(found("web").await, 0, "a part of a host's name is another host");
    assert_eq!(found(&digits[..8]).await, 1);
    assert_eq!(found(&digits[..7]).await, 0, "so few digits could be another client's, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_of_what_has_changed_drops_nothing_at_all() {
    let world = World::new(&[]);
    let client = world.client();
    world.request(&client, 1).take(0, 10).await.unwrap();
    world.request(&client, 2).take(20, 30).await.unwrap();
    let seen = list(&world, ListAsk::default()).await.locks;
    world.request(&client, 2).unlock(20, 25).await.unwrap();
    let asks = DropAsk { locks: seen.clone(), fence: true, ..DropAsk::default() };
    let answer: DropAnswer = ask(&world, DROP, &asks).await.unwrap();
    let stale = seen.iter().find(|row| row.start == 20).unwrap().id;
    assert_eq!((answer.missing, answer.dropped.len()), (vec![stale], 0));
    assert_eq!(list(&world, ListAsk::default()).await.held, 2);
    assert_eq!(world.locks.status()["fenced_opens"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dry_run_says_is_what_then_happens() {
    let world = World::new(&[]);
    let (holder, others) = (world.client(), world.client());
    world.request(&holder, 1).take(0, 100).await.unwrap();
    let first = world.request(&others, 2).wait(50, 150).await;
    let behind = world.request(&others, 3).wait(120, 130).await;
    let beside = world.request(&others, 4).wait(0, 10).await;
    let held = list(&world, ListAsk::default()).await.locks.into_iter().filter(|row| !row.waits()).collect();
    let asks = DropAsk { locks: held, fence: true, dry_run: true, ..DropAsk::default() };
    let said: DropAnswer = ask(&world, DROP, &asks).await.unwrap();
    assert_eq!((said.granted.len(), said.fenced_opens), (2, 1));
    assert_eq!(list(&world, ListAsk::default()).await.waiting, 3, "it only said so");
    let done: DropAnswer = ask(&world, DROP, &DropAsk { dry_run: false, ..asks }).await.unwrap();
    assert_eq!((&done.granted, done.fenced_opens), (&said.granted, said.fenced_opens));
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!(beside.await.unwrap(), Ok(()));
    assert!(!behind.is_finished());
    // The one behind, too, is ended: by its own name.
    let waits: Vec<_> = list(&world, ListAsk::default()).await.locks.into_iter().filter(|row| row.waits()).collect();
    let answer: DropAnswer = ask(&world, DROP, &DropAsk { locks: waits, ..DropAsk::default() }).await.unwrap();
    assert_eq!((answer.dropped.len(), answer.fenced_opens), (1, 0));
    assert_eq!(behind.await.unwrap(), Err(Errno::EDEADLK));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_stays_dropped_after_the_process_is_killed() {
    let mut world = World::new(&[]);
    let client = world.client();
    world.request(&client, 1).take(0, 10).await.unwrap();
    world.request(&client, 2).take(20, 30).await.unwrap();
    let seen = list(&world, ListAsk::default()).await.locks;
    let first = seen.iter().filter(|row| row.start == 0).cloned().collect();
    let _: DropAnswer = ask(&world, DROP, &DropAsk { locks: first, fence: true, ..DropAsk::default() }).await.unwrap();
    world.kill().await;
    let left = list(&world, ListAsk::default()).await;
    assert_eq!((left.held, left.locks[0].start), (1, 20));
    assert_eq!(world.locks.status()["fenced_opens"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_between_xlators_is_listed_by_its_name_and_dropped() {
    let world = World::new(&[]);
    let (holder, other) = (world.client(), world.client());
    let call = |client, command| {
        let name = Some(Name::new(b"a").unwrap());
        let (domain, target) = ("dht".to_owned(), Gfid::ROOT.into());
        let request = EntrylkReq { domain, target, name, command, kind: LkType::Write, xdata: Xdata::EMPTY };
        (world.request(client, 1).cx, request)
    };
    let (cx, request) = call(&holder, XlatorLkCommand::TryLock);
    world.locks.entrylk(&cx, &request).await.unwrap();
    let (cx, again) = call(&other, XlatorLkCommand::TryLock);
    assert_eq!(world.locks.entrylk(&cx, &again).await.unwrap_err().errno(), Errno::EAGAIN);
    let rows = list(&world, ListAsk { kinds: vec![Kind::Entry], ..ListAsk::default() }).await.locks;
    assert_eq!((rows.len(), rows[0].name.as_deref(), rows[0].domain.as_deref()), (1, Some("a"), Some("dht")));
    let restored: RestoreAnswer =
        ask(&world, RESTORE, &RestoreAsk { locks: rows.clone(), shrink: false }).await.unwrap();
    assert_eq!(restored.outcomes, [Restored::Internal]);
    let answer: DropAnswer = ask(&world, DROP, &DropAsk { locks: rows, ..DropAsk::default() }).await.unwrap();
    assert_eq!(answer.dropped.len(), 1);
    let (cx, again) = call(&other, XlatorLkCommand::TryLock);
    world.locks.entrylk(&cx, &again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_more_than_it_may_hold_is_refused() {
    let world = World::new(&[]);
    let client = world.client();
    world.request(&client, 1).take(0, 10).await.unwrap();
    let row = list(&world, ListAsk::default()).await.locks.remove(0);
    assert_eq!(row.gfid, FILE.gfid);
    let many = |count: usize| {
        let row = |id| brickwork_locks::admin::shapes::LockRow { id: RowId::Held(1_000_000 + id), ..row.clone() };
        DropAsk { locks: (0..count as u64).map(row).collect(), ..DropAsk::default() }
    };
    let at_limit: DropAnswer = ask(&world, DROP, &many(CHANGES_MAX)).await.unwrap();
    assert_eq!(at_limit.missing.len(), CHANGES_MAX);
    let beyond = many(CHANGES_MAX + 1);
    assert_eq!(ask::<_, DropAnswer>(&world, DROP, &beyond).await.unwrap_err(), Errno::EINVAL);
    let beyond = RestoreAsk { locks: beyond.locks, shrink: false };
    assert_eq!(ask::<_, RestoreAnswer>(&world, RESTORE, &beyond).await.unwrap_err(), Errno::EINVAL);
    assert_eq!(list(&world, ListAsk::default()).await.held, 1);
}

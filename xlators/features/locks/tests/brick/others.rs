//! Locks that are taken over, limits, I/O that is kept away, attributes that are questions, locks between xlators.

use brickwork_api::locks::{RECLAIM_LOCK, RECLAIM_REFUSED};
use brickwork_api::{
    Errno, GetxattrReq, InodelkReq, LkCommand, LkRange, LkType, SetxattrReq, Target, WriteReq, XattrMode, XattrName,
    Xdata, XlatorLkCommand,
};

use crate::world::{Call, FILE, PROTECTED, World};

async fn reclaim(mut call: Call, kind: LkType, start: u64, end: u64) -> Result<(), String> {
    call.xdata = Xdata::EMPTY.with(&RECLAIM_LOCK, true);
    let answer = call.lk(LkCommand::Set, kind, start, end).await;
    answer.map(drop).map_err(|error| error.xdata().get(&RECLAIM_REFUSED).unwrap().unwrap_or_else(|| error.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_taken_over_by_its_owner_in_a_client_of_the_same_group_and_its_former_client_is_fenced() {
    let world = World::new(&[("reclaim-lock", "on")]);
    let (failed, gateway, stranger) = (world.client(), world.client(), world.client());
    world.attach(&failed, 2, Some(("nfs", "secret")));
    world.attach(&gateway, 2, Some(("nfs", "secret")));
    world.attach(&stranger, 2, Some(("nfs", "guessed")));
    let held = world.request(&failed, 1);
    held.take(0, 10).await.unwrap();
    let waiter = world.request(&stranger, 5).wait(0, 10).await;
    assert_eq!(reclaim(world.request(&stranger, 1), LkType::Write, 0, 10).await, Err("not-allowed".to_owned()));
    assert_eq!(reclaim(world.request(&gateway, 1), LkType::Write, 0, 5).await, Err("range-mismatch".to_owned()));
    assert_eq!(reclaim(world.request(&gateway, 2), LkType::Write, 0, 10).await, Err("conflict".to_owned()));
    assert_eq!(reclaim(world.request(&gateway, 2), LkType::Write, 50, 60).await, Err("no-record".to_owned()));
    assert_eq!(reclaim(world.request(&gateway, 1), LkType::Write, 0, 10).await, Ok(()));
    assert_eq!(
        reclaim(world.request(&gateway, 1), LkType::Write, 0, 10).await,
        Ok(()),
        "its answer may have been lost"
    );
    let write =
        WriteReq { file: FILE, offset: 0, data: "x".into(), append: false, kill_set_id: false, xdata: Xdata::EMPTY };
    assert_eq!(world.locks.write(&held.cx, &write).await.unwrap_err().errno(), Errno::EIO);
    assert!(!waiter.is_finished(), "nobody slipped in");
    world.end(&failed);
    assert!(!waiter.is_finished(), "the end of the former client changes nothing");
    world.request(&gateway, 1).unlock(0, 10).await.unwrap();
    assert_eq!(waiter.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn reclaim_from_detached_takes_from_those_who_are_away_and_off_from_nobody() {
    let world = World::new(&[("reclaim-lock", "on"), ("reclaim-from", "detached")]);
    let (failed, gateway) = (world.client(), world.client());
    world.request(&failed, 1).take(0, 10).await.unwrap();
    assert_eq!(reclaim(world.request(&gateway, 1), LkType::Write, 0, 10).await, Err("not-allowed".to_owned()));
    world.detach(&failed);
    assert_eq!(reclaim(world.request(&gateway, 1), LkType::Write, 0, 10).await, Ok(()));
    let world = World::new(&[]);
    let gateway = world.client();
    assert_eq!(reclaim(world.request(&gateway, 1), LkType::Write, 0, 10).await, Err("off".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_answers_enolck_and_leaves_everything_as_it_was() {
    for (option, limit) in [("locks-max-per-inode", 3), ("locks-max-per-client", 3), ("locks-max", 3)] {
        let world = World::new(&[(option, &limit.to_string())]);
        let one = world.client();
        for number in 0..limit {
            world.request(&one, 1).take(number * 10, number * 10 + 5).await.unwrap();
        }
        assert_eq!(world.request(&one, 1).take(90, 95).await, Err(Errno::ENOLCK), "{option}");
        world.request(&one, 1).unlock(0, 5).await.unwrap();
        assert_eq!(world.request(&one, 1).take(90, 95).await, Ok(()), "{option}");
    }
    let world = World::new(&[("waiters-max", "1")]);
    let one = world.client();
    world.request(&one, 1).take(0, 10).await.unwrap();
    let waiter = world.request(&one, 2).wait(0, 10).await;
    assert_eq!(world.request(&one, 3).wait(0, 10).await.await.unwrap(), Err(Errno::ENOLCK));
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(waiter.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_empty_or_too_long_is_refused() {
    let world = World::new(&[("lk-owner-max", "16")]);
    let one = world.client();
    for (length, answer) in [(0, Err(Errno::EINVAL)), (16, Ok(())), (17, Err(Errno::EINVAL))] {
        let mut call = world.request(&one, 1);
        call.cx.lk_owner = brickwork_api::LkOwner::new(&vec![7; length]).unwrap();
        assert_eq!(call.take(0, 10).await, answer, "{length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandatory_lock_keeps_others_io_away_and_no_other_does() {
    for (mode, refused) in [("off", false), ("forced", true)] {
        let world = World::new(&[("mandatory-locking", mode)]);
        let (one, other) = (world.client(), world.client());
        let held = world.request(&one, 1);
        held.take(0, 10).await.unwrap();
        let write = |offset: u64| WriteReq {
            file: FILE,
            offset,
            data: "x".into(),
            append: false,
            kill_set_id: false,
            xdata: Xdata::EMPTY,
        };
        let stranger = world.request(&other, 2);
        let answer = world.locks.write(&stranger.cx, &write(5)).await.unwrap_err().errno();
        assert_eq!(answer == Errno::EAGAIN, refused, "{mode}: {answer}");
        // The leaf has no such open: what passes is refused there.
        for (call, offset) in [(&stranger, 10), (&held, 5)] {
            assert_ne!(world.locks.write(&call.cx, &write(offset)).await.unwrap_err().errno(), Errno::EAGAIN, "{mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lockinfo_is_for_the_client_it_was_given_to_and_is_never_stored() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    let held = world.request(&one, 1);
    held.take(0, 10).await.unwrap();
    let name = || XattrName::new(b"trusted.glusterfs.lockinfo").unwrap();
    let target = Target { gfid: FILE.gfid, open: Some(FILE.open) };
    let ask = GetxattrReq { target, name: name(), xdata: Xdata::EMPTY };
    let value = world.locks.getxattr(&held.cx, &ask).await.unwrap().value;
    let set = |value| SetxattrReq {
        target,
        name: name(),
        value,
        mode: XattrMode::Set,
        kill_set_gid: false,
        xdata: Xdata::EMPTY,
    };
    world.locks.setxattr(&held.cx, &set(value.clone())).await.unwrap();
    let foreign = world.request(&other, 1);
    assert_eq!(world.locks.setxattr(&foreign.cx, &set(value.clone())).await.unwrap_err().errno(), Errno::EACCES);
    let mut forged = value.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(world.locks.setxattr(&held.cx, &set(forged.into())).await.unwrap_err().errno(), Errno::EACCES);
    assert_eq!(world.locks.setxattr(&held.cx, &set("x".into())).await.unwrap_err().errno(), Errno::EINVAL);
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(world.locks.getxattr(&held.cx, &ask).await.unwrap_err().errno(), Errno::ENODATA);
}

#[tokio::test(flavor = "multi_thread")]
async fn glusterfs_clear_locks_answers_waiters_and_takes_what_is_held() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    let held = world.request(&one, 1);
    held.take(0, 10).await.unwrap();
    let waiter = world.request(&other, 2).wait(0, 10).await;
    let name = XattrName::new(b"glusterfs.clrlk.tposix.kall").unwrap();
    let ask = GetxattrReq { target: Target { gfid: FILE.gfid, open: None }, name, xdata: Xdata::EMPTY };
    let value = world.locks.getxattr(&held.cx, &ask).await.unwrap().value;
    assert_eq!(value, "posix blocked locks=1 granted locks=1");
    assert_eq!(waiter.await.unwrap(), Err(Errno::EBADF));
    assert_eq!(world.locks.status()["locks"], 0);
    assert_eq!(world.request(&one, 1).take(0, 10).await, Err(Errno::EIO), "its open was fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_between_xlators_wait_expire_and_outlive_a_kill() {
    let mut world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    let request = |command, kind| InodelkReq {
        domain: "dht.layout".to_owned(),
        target: Target { gfid: FILE.gfid, open: None },
        command,
        range: LkRange { kind, start: 0, end: u64::MAX, pid: 1 },
        xdata: Xdata::EMPTY,
    };
    let lock = request(XlatorLkCommand::TryLock, LkType::Write);
    world.locks.inodelk(&world.request(&one, 1).cx, &lock).await.unwrap();
    world.kill().await;
    let taken = world.locks.inodelk(&world.request(&other, 2).cx, &lock).await;
    assert_eq!(taken.unwrap_err().errno(), Errno::EAGAIN);
    tokio::time::sleep(PROTECTED).await;
    let waits = request(XlatorLkCommand::Lock, LkType::Write);
    world.locks.inodelk(&world.request(&other, 2).cx, &waits).await.unwrap();
    let release = request(XlatorLkCommand::Unlock, LkType::Unlock);
    assert_eq!(world.locks.inodelk(&world.request(&one, 1).cx, &release).await.unwrap_err().errno(), Errno::EINVAL);
    world.locks.inodelk(&world.request(&other, 2).cx, &release).await.unwrap();
}

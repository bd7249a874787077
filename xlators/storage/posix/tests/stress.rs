//! Many threads on few names, and others that watch them.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::*;
use brickwork_testkit::Client;
use common::check::problems;
use common::work::{Random, Worker, seed};

const CHANGES: usize = 3_000;

/// Tells the watchers to end, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `watch` again and again on two threads while four change names; everything is consistent afterwards.
fn under_changes(watch: impl Fn(&Client, &mut Random) + Sync) {
    if !common::privileged() {
        return;
    }
    let changes = if std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full") { 20 * CHANGES } else { CHANGES };
    let seed = seed();
    // So few directories held open that most are searched for.
    let brick = common::fresh_with(&[("dirfd-cache", "16")]);
    let mut folders = vec![Gfid::ROOT];
    for name in ["folder-a", "folder-b"] {
        folders.push(brick.client.mkdir(Gfid::ROOT, name).unwrap());
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (client, done, watch) = (&brick.client, &done, &watch);
            scope.spawn(move || {
                let mut random = Random(seed ^ thread);
                while !done.load(Ordering::Relaxed) {
                    watch(client, &mut random);
                }
            });
        }
        let workers: Vec<_> = (10..14)
            .map(|thread| {
                let (client, folders) = (&brick.client, folders.clone());
                scope.spawn(move || {
                    let mut worker = Worker::new(client, folders, Random(seed + thread));
                    (0..changes).for_each(|_| worker.step());
                    worker.end();
                })
            })
            .collect();
        let _end = End(&done);
        assert!(workers.into_iter().all(|worker| worker.join().is_ok()));
    });
    assert_eq!(problems(&brick.path, true), [""; 0]);
}

#[test]
fn nobody_sees_an_object_without_gfid_or_a_listing_that_lacks_one() {
    under_changes(|client, random| {
        let name = format!("name-{}", random.below(12));
        match client.lookup(Gfid::ROOT, &name) {
            Ok(attr) => assert!(attr.links > 0 && !attr.gfid.is_null(), "{attr:?}"),
            Err(errno) => assert_eq!(errno, Errno::ENOENT),
        }
        let open = client.opendir(Gfid::ROOT).unwrap();
        for entry in client.readdirplus(open, 0, 1 << 16).unwrap() {
            assert!(!entry.gfid.is_null() && entry.attr.is_none_or(|attr| attr.gfid == entry.gfid));
        }
        client.releasedir(open).unwrap();
    });
}

#[test]
fn what_is_only_renamed_is_found_by_its_gfid_at_any_time() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh_with(&[("dirfd-cache", "16")]);
    let client = &brick.client;
    let folders: Vec<Gfid> =
        (0..3).map(|number| client.mkdir(Gfid::ROOT, &format!("folder-{number}")).unwrap()).collect();
    let wanderer = client.mkdir(folders[0], "wanderer").unwrap();
    let below = client.mkdir(wanderer, "below").unwrap();
    let file = client.put(below, "file", b"content").unwrap();
    let other = client.put(folders[0], "other", b"").unwrap();
    let done = AtomicBool::new(false);
    let rounds = if std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full") { 50_000 } else { 3_000 };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for gfid in [wanderer, below, file, other] {
                        client
                            .call::<fop::Forget>(&ForgetReq { gfids: vec![wanderer, below], xdata: Xdata::EMPTY })
                            .unwrap();
                        assert_eq!(client.stat(gfid).map(|attr| attr.gfid), Ok(gfid));
                    }
                    assert_eq!(client.lookup(below, "file").map(|attr| attr.gfid), Ok(file));
                    assert_eq!(&client.content(file).unwrap()[..], b"content");
                }
            });
        }
        let _end = End(&done);
        for round in 0..rounds {
            let (from, to) = (folders[round % 3], folders[(round + 1) % 3]);
            client.rename((from, "wanderer"), (to, "wanderer"), RenameMode::Replace).unwrap();
            client.rename((from, "other"), (to, "other"), RenameMode::NoReplace).unwrap();
        }
    });
    assert_eq!(problems(&brick.path, true), [""; 0]);
}

#[test]
fn a_name_is_created_by_exactly_one_of_many_and_replaced_without_a_gap() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let client = &brick.client;
    for round in 0..50 {
        let name = format!("contested-{round}");
        let created = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| client.create(Gfid::ROOT, &name))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(Result::is_ok).count()
        });
        assert_eq!(created, 1);
    }
    client.put(Gfid::ROOT, "settings", b"0").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let attr = client.lookup(Gfid::ROOT, "settings").unwrap();
                assert_eq!((attr.size, attr.links), (1, 1));
            }
        });
        let _end = End(&done);
        for _ in 0..1_000 {
            client.put(Gfid::ROOT, "settings.new", b"1").unwrap();
            client.rename((Gfid::ROOT, "settings.new"), (Gfid::ROOT, "settings"), RenameMode::Replace).unwrap();
        }
    });
}

//! Requests with any values at all: an error or a success, and nothing but the volume's own content is changed.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::FopKind;
use brickwork_testkit::{Hostile, block_on};
use common::check::problems;
use common::work::{look_everything_up, seed};

/// Set by a panic on any thread: one of the pool would end only its thread.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What the brick keeps of itself on its root.
fn marks(brick: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let keys = common::xattrs(brick).into_iter();
    let ours = keys.filter(|key| key == "trusted.gfid" || key.contains("glusterfs") || key.contains("brickwork"));
    ours.map(|key| (key.clone(), common::get_xattr(brick, &key))).collect()
}

#[test]
fn any_request_is_answered_and_only_the_content_of_the_volume_changes() {
    if !common::privileged() {
        return;
    }
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, Ordering::Relaxed);
        report(info);
    }));
    let bricks = if std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full") { 50 } else { 1 };
    let seed = seed();
    (0..bricks).for_each(|number| harass_a_brick(Hostile::new(seed.wrapping_add(number))));
}

/// Requests to one brick: more would nest directories deeper than the check of a brick can follow.
const REQUESTS: usize = 20_000;

fn harass_a_brick(mut hostile: Hostile) {
    let world = common::folder();
    let (path, outside) = (world.path().join("brick"), world.path().join("outside"));
    std::fs::create_dir(&path).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "untouched").unwrap();
    let volume = [("volume-id", "8a1f9d3e-6c0b-4c53-9f2b-0f2f6f1f7d11")];
    let brick = common::serve_with(&path, &volume).unwrap();
    let before = marks(&path);
    assert!(before.len() >= 3, "{before:?}");

    let mut done = [0; FopKind::ALL.len()];
    for round in 0..REQUESTS {
        let request = hostile.request();
        let caller = hostile.caller(&brick.client.cx);
        if let Ok(reply) = block_on(request.call(&*brick.xlator, &caller)) {
            done[request.kind() as usize] += 1;
            hostile.learn(&request, &reply);
        }
        assert!(!PANICKED.load(Ordering::Relaxed), "round {round}: {request:?} for {:?}", caller.credentials.uid);
    }
    assert!(done.iter().sum::<usize>() > REQUESTS / 20, "hardly anything succeeded: {done:?}");
    for kind in [FopKind::Create, FopKind::Write, FopKind::Setattr, FopKind::Mkdir] {
        assert!(done[kind as usize] > 0, "`{}` never succeeded: {done:?}", kind.name());
    }

    assert_eq!(marks(&path), before);
    drop(brick);
    let brick = common::serve_with(&path, &volume).expect("the brick can be served again");
    look_everything_up(&brick.client);
    drop(brick);
    assert_eq!(problems(&path, true), [""; 0]);
    let mut names: Vec<_> = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["brick", "outside"]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"untouched");
}

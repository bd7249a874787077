//! Who waits is granted in the order of the queue. When a wait came to its queue, no locker can tell: the test looks, as an
//! administrator does, and who was seen to wait must not be overtaken by who began later.

use brickwork_check::log::{Family, Mode, Span, What, now};
use brickwork_check::verdict::Rules;
use serde_json::Value;

use crate::common::brick::Brick;
use crate::common::{Mounted, Random, can_mount, rounds, run};
use crate::locker::{Load, Lockers};
use crate::proxy::{Fault, Proxy};

/// Calls between two looks: others wait by then.
const BETWEEN: usize = 30;

/// Looks at the queues and logs who waits in them.
fn look(brick: &Brick, lockers: &Lockers) {
    let begun = now();
    let document = run(&mut brick.command(&["locks", "list", "--json"]));
    let until = now();
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let locks = document["items"].as_array().expect("items");
    for waiting in locks.iter().filter(|lock| lock["state"] == "waiting") {
        let seen = seen(lockers, until, waiting).unwrap_or_else(|| panic!("no wait of a locker: {waiting}"));
        lockers.note_at(begun, seen);
    }
}

/// A row of the list as logs have it.
fn seen(lockers: &Lockers, until: u64, waiting: &Value) -> Option<What> {
    let mode = match waiting["mode"].as_str()? {
        "read" => Mode::Read,
        "write" => Mode::Write,
        _ => return None,
    };
    let family = (waiting["type"] == "posix").then_some(Family::Posix)?;
    // It shows the last byte, and none when that is beyond any growth.
    let end = if waiting["end"].is_null() { u64::MAX } else { waiting["end"].as_u64()? + 1 };
    let span = Span(waiting["start"].as_u64()?, end);
    let pid = waiting["pid"].as_u64()?.try_into().ok()?;
    Some(What::Seen { until, pid, file: lockers.file_at(waiting["path"].as_str()?)?, family, mode, span })
}

/// Has lockers on two mounts of `brick`, which come by way of `port`, wait for each other, and looks at their queues
/// `looks` times, each time with `then` after it. Fails when somebody was overtaken, and when hardly anybody could be.
fn expect_order(brick: &Brick, port: u16, looks: usize, mut then: impl FnMut()) {
    let client = brick.client_at(port, "    option ping-timeout 2\n");
    let Some(one) = Mounted::client(&client, &[]) else { return };
    let Some(other) = Mounted::client(&client, &[]) else { return };
    let mut random = Random::from_env();
    let mut lockers = Lockers::start(&[one.path(), other.path()], random.draw(), Load::queues());
    for _ in 0..looks {
        lockers.wait_for_calls(BETWEEN);
        look(brick, &lockers);
        then();
    }
    // Who was seen last is granted, too.
    lockers.wait_for_calls(BETWEEN);
    let figures = lockers.expect_lawful(&Rules::default());
    assert!(figures.ordered > looks / 2, "few waits were seen that others could have overtaken: {figures:?}");
    one.unmount();
    other.unmount();
}

#[test]
fn who_was_seen_in_a_queue_is_not_overtaken() {
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    expect_order(&brick, brick.address().port(), rounds(30, 1_000), || ());
}

#[test]
fn who_was_seen_in_a_queue_is_not_overtaken_when_the_connections_are_cut() {
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    let proxy = Proxy::to(brick.address());
    let mut faults = [Fault::Reset, Fault::Close].into_iter().cycle();
    // Who was just seen waits still.
    expect_order(&brick, proxy.port(), rounds(30, 1_000), || proxy.strike(faults.next().expect("no end")));
}

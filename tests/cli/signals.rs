//! Signals of a serving process.

use std::fs::File;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{ended, is_mounted};
use crate::world::World;

#[test]
fn sigterm_unmounts_and_ends() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let process = world.process().expect("it runs");
    world.signal(Signal::TERM);
    assert!(ended(&process) && !is_mounted(&world.path("mnt")));
    assert_eq!(std::fs::read_dir(world.path("run")).expect("list").count(), 0, "the admin socket is gone");
}

#[test]
fn sigint_does_not_wait_for_open_files() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let open = File::create(world.path("mnt/f")).expect("create");
    let process = world.process().expect("it runs");
    world.signal(Signal::INT);
    assert!(ended(&process) && !is_mounted(&world.path("mnt")));
    let error = open.sync_all().expect_err("the connection was cut");
    assert!(matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED | libc::EIO)), "{error}");
}

/// The dump after the `count`th reload.
fn reloaded(world: &World, count: u64) -> Value {
    world.signal(Signal::HUP);
    world.until("reloaded", || {
        let dump = world.run(["dump"]).json();
        (dump["items"][0]["reloads"]["count"] == count).then(|| dump["items"][0].clone())
    })
}

#[test]
fn sighup_changes_live_options_in_place_and_refuses_everything_else() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let open = File::create(world.path("mnt/f")).expect("create");
    let option = |dump: &Value| dump["graph"]["xlators"][1]["options"]["reserve"].clone();

    world.write("test.vol", &world.volfile("    option reserve 2%\n"));
    let dump = reloaded(&world, 1);
    assert_eq!((option(&dump), dump["reloads"]["refused"].clone()), ("2%".into(), Value::Null));

    world.write("test.vol", &world.volfile("    option resreve 3%\n"));
    let dump = reloaded(&world, 2);
    assert_eq!((option(&dump), dump["reloads"]["refused"]["code"].clone()), ("2%".into(), "E0301".into()));

    world.write("test.vol", &world.volfile("    option reserve 2%\n    option dirfd-cache 100\n"));
    assert_eq!(reloaded(&world, 3)["reloads"]["refused"]["code"], "E0302");

    let more = "volume more\n    type debug/null\n    subvolumes stats\nend-volume\n";
    world.write("test.vol", &(world.volfile("    option reserve 2%\n") + more));
    assert_eq!(reloaded(&world, 4)["reloads"]["refused"]["code"], "E0302");
    let status = world.run(["status", "test", "--exit-code"]);
    assert!(status.code == Some(3) && status.stdout.contains("the last reload was refused"), "{status:?}");

    world.write("test.vol", &world.volfile("    option reserve 3%\n"));
    let dump = reloaded(&world, 5);
    assert_eq!((option(&dump), dump["reloads"]["refused"].clone()), ("3%".into(), Value::Null));
    assert_eq!(world.run(["status", "test", "--exit-code"]).code, Some(0));
    std::os::unix::fs::FileExt::write_all_at(&open, b"x", 0).expect("open files noticed nothing");
    drop(open);
    world.umount("mnt");
}

#[test]
fn sigusr1_writes_a_dump_beside_the_admin_socket() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    world.signal(Signal::USR1);
    let written = world.until("a dump", || world.log().split("dump written path=").nth(1).map(str::to_owned));
    let dump = std::fs::read_to_string(written.trim()).expect("the dump");
    let dump: Value = serde_json::from_str(&dump).expect("JSON");
    assert_eq!(dump["graph"]["xlators"][0]["type"], "debug/io-stats");
    world.umount("mnt");
}

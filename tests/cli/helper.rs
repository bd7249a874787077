//! `mount.brickwork`: what mount(8) starts.

use rustix::process::Signal;

use crate::common::{is_mounted, needs, needs_root, run};
use crate::world::World;

#[test]
fn a_volume_is_mounted_in_the_background_and_the_exit_code_is_0() {
    let Some(world) = World::new() else { return };
    let done = world.helper(["test.vol", "mnt", "-n", "-v", "-t", "brickwork", "-o", "rw,_netdev,log-file=log"]);
    assert_eq!(done.stderr, "");
    assert_eq!(done.ok(), "mount.brickwork: test.vol mounted on mnt.\n");
    std::fs::write(world.path("mnt/f"), "x").expect("it serves");
    assert!(world.log().contains("mounted"), "{}", world.log());
    world.umount("mnt");
}

#[test]
fn a_fake_mount_checks_everything_and_mounts_nothing() {
    let Some(world) = World::new() else { return };
    world.helper(["-f", "test.vol", "mnt"]).ok();
    assert!(!is_mounted(&world.path("mnt")) && !world.path("logs").exists());
    world.write("bad.vol", &world.volfile("    option resreve 1%\n"));
    assert_eq!(world.helper(["-f", "bad.vol", "mnt"]).code, Some(32));
}

/// Words, the bit, and how the first line begins.
const WRONG: &[(&[&str], i32, &str)] = &[
    (&["test.vol"], 1, "error: "),
    (&["test.vol", "mnt", "-t", "ext4"], 1, "mount.brickwork: test.vol: `ext4` is not mounted by this helper [E0001]"),
    (&["test.vol", "mnt", "-o", "bogus"], 1, "mount.brickwork: test.vol: option `bogus`: no such mount option; "),
    (&["test.vol", "mnt", "-o", "wait=soon"], 1, "mount.brickwork: test.vol: option `wait`: `soon` "),
    (&["test.vol", "mnt", "-o", "root-squash=on"], 1, "mount.brickwork: test.vol: option `root-squash`: whom root "),
    (
        &["test.vol", "mnt", "-o", "ssl=on"],
        1,
        "mount.brickwork: test.vol: option `ssl` is for volumes on other machines",
    ),
    (&["test.vol", "nowhere"], 32, "mount.brickwork: test.vol: `nowhere` is not there [E0120]"),
    (
        &["vm:/a/b", "mnt"],
        1,
        "mount.brickwork: vm:/a/b: `vm:/a/b` is neither a file nor a volume on other machines [E0202]",
    ),
    (&["missing.vol", "mnt"], 32, "mount.brickwork: missing.vol: `"),
    (
        &["unix:/nowhere/sock:/gd1", "mnt"],
        32,
        "mount.brickwork: unix:/nowhere/sock:/gd1: no brick can be reached at unix:/nowhere/sock [E0207]",
    ),
    (&["test.vol", "mnt", "-N", "/nowhere"], 2, "mount.brickwork: test.vol: the mount namespace `/nowhere` cannot be"),
    (&["test.vol", "mnt", "-o", "log-file=test.vol/log"], 2, "mount.brickwork: test.vol: the log "),
];

#[test]
fn what_goes_wrong_is_said_in_the_first_line_and_in_the_exit_code_of_mount() {
    let Some(world) = World::new() else { return };
    for (words, bit, first) in WRONG {
        let done = world.helper(*words);
        let said = done.stderr.lines().next().unwrap_or_default();
        assert!(done.code == Some(*bit) && said.starts_with(first), "{words:?}: not {bit} with `{first}`: {done:?}");
        assert_eq!(done.stdout, "", "{words:?}");
        assert!(!is_mounted(&world.path("mnt")), "{words:?}");
    }
}

#[test]
fn sloppy_leaves_out_what_is_unknown_and_says_so() {
    let Some(world) = World::new() else { return };
    let done = world.helper(["-s", "test.vol", "mnt", "-o", "bogus=1,fopen-keep-cache"]);
    assert!(done.stderr.contains("notice: option `bogus` is unknown and left out\n"), "{done:?}");
    assert!(done.stderr.contains("notice: option `fopen-keep-cache` has no effect: "), "{done:?}");
    done.ok();
    world.umount("mnt");
}

#[test]
fn a_mount_goes_into_the_namespace_that_is_named() {
    if !(needs_root("a mount namespace") && needs("unshare") && needs("nsenter")) {
        return;
    }
    let Some(world) = World::new() else { return };
    let holder = std::process::Command::new("unshare").args(["-m", "sleep", "600"]).spawn().expect("unshare");
    let holder = Held(holder);
    let own = std::fs::read_link("/proc/self/ns/mnt").expect("our namespace");
    let of_holder = format!("/proc/{}/ns/mnt", holder.0.id());
    world.until("a namespace of its own", || (std::fs::read_link(&of_holder).ok()? != own).then_some(()));
    let absolute = |name: &str| world.path(name).display().to_string();
    let (volfile, point) = (absolute("test.vol"), absolute("mnt"));
    world.helper(["-N", &holder.0.id().to_string(), &volfile, &point, "-o", "log-file=/dev/null"]).ok();
    assert!(!is_mounted(&world.path("mnt")), "not in ours");
    let inside = |command: &[&str]| {
        run(std::process::Command::new("nsenter").arg(format!("--mount={of_holder}")).args(command));
    };
    inside(&["mountpoint", "-q", &point]);
    inside(&["umount", &point]);
}

/// A process that goes with its test.
struct Held(std::process::Child);

impl Drop for Held {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = self.0.wait();
    }
}

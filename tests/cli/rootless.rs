//! Without root: mounted by fusermount3, private to its user, with the metadata in `user.brickwork.*`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use crate::common::{needs, needs_root, run, skipped};
use crate::world::World;

const NOBODY: u32 = 65_534;
const SOMEBODY_ELSE: u32 = 65_533;

fn as_user(uid: u32) -> Vec<String> {
    let words = ["setpriv", &format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "--"];
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A world of `nobody`, with a copy of the command that it can run.
fn world_of_nobody(programs: &tempfile::TempDir) -> Option<World> {
    if !(needs_root("becoming another user") && needs("setpriv") && needs("fusermount3")) {
        return None;
    }
    let device = std::fs::metadata("/dev/fuse").expect("/dev/fuse").mode();
    if device & 0o006 != 0o006 {
        skipped(&format!("/dev/fuse has mode {:o}; for users it is 666", device & 0o777));
        return None;
    }
    let program: PathBuf = programs.path().join("brickwork");
    // By a process of its own: while this one has the copy open for writing, a child of another test may keep it so,
    // and it cannot be run.
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_brickwork")).arg(&program));
    open(programs.path());
    let world = World::of(as_user(NOBODY), program);
    open(world.folder());
    for path in
        [world.folder().to_owned(), world.path("run"), world.path("brick"), world.path("mnt"), world.path("home")]
    {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    Some(world)
}

fn open(folder: &std::path::Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn sh(uid: u32, script: &str) -> std::process::Output {
    let user = as_user(uid);
    let mut command = Command::new(&user[0]);
    command.args(&user[1..]).args(["sh", "-c", script]).env("LC_ALL", "C");
    command.output().expect("setpriv runs")
}

#[test]
fn a_user_mounts_alone_and_status_says_so() {
    let programs = tempfile::tempdir().expect("a folder");
    let Some(world) = world_of_nobody(&programs) else { return };
    world.mount(&[]).ok();
    let mount = world.path("mnt").display().to_string();

    let mine = sh(NOBODY, &format!("echo hi > {mount}/f && chmod 600 {mount}/f && cat {mount}/f"));
    assert_eq!(String::from_utf8_lossy(&mine.stdout), "hi\n", "{mine:?}");
    let given = sh(NOBODY, &format!("chown {SOMEBODY_ELSE} {mount}/f"));
    assert!(String::from_utf8_lossy(&given.stderr).contains("Operation not permitted"), "{given:?}");
    let other = sh(SOMEBODY_ELSE, &format!("ls {mount}"));
    assert!(String::from_utf8_lossy(&other.stderr).contains("Permission denied"), "{other:?}");
    let root = std::fs::metadata(world.path("mnt")).expect_err("not even root");
    assert_eq!(root.raw_os_error(), Some(libc::EACCES));

    let status = world.run(["status"]).ok();
    assert!(status.contains(&format!("private mount of uid {NOBODY}")), "{status}");
    let on_disk = std::fs::metadata(world.path("brick/f")).expect("stat");
    assert_eq!((on_disk.uid(), on_disk.mode() & 0o777), (NOBODY, 0o600));
    world.run(["umount", "mnt"]).ok();
}

#[test]
fn another_user_may_not_administer_the_instance() {
    let programs = tempfile::tempdir().expect("a folder");
    let Some(world) = world_of_nobody(&programs) else { return };
    world.mount(&[]).ok();
    let other = World::of(as_user(SOMEBODY_ELSE), programs.path().join("brickwork"));
    let mut command = other.command();
    // The directory is closed to others; open it, so that the socket itself is what refuses.
    std::fs::set_permissions(world.path("run"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let output = command
        .current_dir("/")
        .env("BRICKWORK_RUNTIME_DIR", world.path("run"))
        .args(["-i", "test", "status"])
        .output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error[E0104]: "), "{output:?}");
    world.run(["umount", "mnt"]).ok();
}

#[test]
fn dev_works_without_root_and_leaves_nothing() {
    let programs = tempfile::tempdir().expect("a folder");
    let Some(world) = world_of_nobody(&programs) else { return };
    let script = "id -u; mkdir $MNT/d && chmod 0 $MNT/d && echo hi > $MNT/f && cat $MNT/f";
    assert_eq!(world.run(["dev", "--exec", script]).ok(), format!("{NOBODY}\nhi\n"));
    assert_eq!(std::fs::read_dir(world.path("home")).expect("list").count(), 0);
}

#[test]
fn allow_other_that_the_machine_does_not_allow_is_refused_with_the_way_out() {
    let allowed = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if allowed.lines().any(|line| line.trim() == "user_allow_other") {
        skipped("this machine allows allow_other to users");
        return;
    }
    let programs = tempfile::tempdir().expect("a folder");
    let Some(world) = world_of_nobody(&programs) else { return };
    let refused = world.mount(&["-o", "allow_other"]);
    refused.failed(77, "error[E0125]: ");
    assert!(refused.stderr.contains("add the line user_allow_other to /etc/fuse.conf"), "{refused:?}");
}

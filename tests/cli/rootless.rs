//! Without root: mounted by fusermount3, private to its user, with the metadata in `user.brickwork.*`.
//!
//! Each test has a machine as users have it, whatever this one is like: a mount namespace of its own, where /dev/fuse
//! is open to all and /etc/fuse.conf does not allow `allow_other`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev};
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

use crate::common::{needs, needs_root, run};
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
    enter_machine_of_users(programs.path());
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

/// Moves this thread, and so the processes it starts, to a mount namespace where users may mount.
fn enter_machine_of_users(folder: &Path) {
    // SAFETY: only the table of mounts and the working directory, which tests do not use, are this thread's own from
    // here on; descriptors stay shared with the other threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.expect("a mount namespace");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("mounts of this thread alone");
    let device = folder.join("fuse");
    let everybody = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &device, FileType::CharacterDevice, everybody, makedev(10, 229)).expect("a device");
    std::fs::set_permissions(&device, std::fs::Permissions::from_mode(0o666)).expect("chmod");
    rustix::mount::mount_bind(&device, "/dev/fuse").expect("a device for all");
    if Path::new("/etc/fuse.conf").exists() {
        let conf = folder.join("fuse.conf");
        std::fs::write(&conf, "# nothing is allowed\n").expect("write");
        rustix::mount::mount_bind(&conf, "/etc/fuse.conf").expect("a configuration of its own");
    }
}

fn open(folder: &Path) {
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
    world.umount("mnt");
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
    world.umount("mnt");
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
    let programs = tempfile::tempdir().expect("a folder");
    let Some(world) = world_of_nobody(&programs) else { return };
    let refused = world.mount(&["-o", "allow_other"]);
    refused.failed(77, "error[E0125]: ");
    assert!(refused.stderr.contains("add the line user_allow_other to /etc/fuse.conf"), "{refused:?}");
}

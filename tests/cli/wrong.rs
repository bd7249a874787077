//! Wrong mounts: the first line says why, the exit code says what kind of wrong it is, and nothing is left behind.

use std::process::Command;

use crate::common::{is_mounted, needs, needs_root};
use crate::world::World;

/// Words after `brickwork`, what they need to be there, exit code, and what the first line of stderr says.
const WRONG: &[(&[&str], i32, &str)] = &[
    (&["mount", "missing.vol", "mnt"], 78, "missing.vol` cannot be read"),
    (&["mount", "brick", "mnt"], 78, "brick` cannot be read"),
    (&["mount", "mistyped.vol", "mnt"], 78, "error[V0004]: unknown option `resreve` for `storage/posix`"),
    (&["mount", "no-brick.vol", "mnt"], 78, "error[E0112]: "),
    (&["mount", "test.vol", "nowhere"], 1, "error[E0120]: `nowhere` is not there"),
    (&["mount", "no-brick.vol", "nowhere"], 1, "error[E0120]: `nowhere` is not there"),
    (&["mount", "test.vol", "mnt", "-o", "remount,ro"], 2, "error[E0126]: option `remount`: "),
    (&["mount", "test.vol", "nowhere/below"], 1, "error[E0120]: "),
    (&["mount", "test.vol", "test.vol"], 1, "error[E0121]: "),
    (
        &["mount", "test.vol", "mnt", "-o", "direct-io=maybe"],
        2,
        "error[E0126]: option `direct-io`: `maybe` is not one of",
    ),
    (&["mount", "test.vol", "mnt", "-o", "allow-otter"], 2, "error[E0126]: option `allow-otter`: "),
    (&["mount", "test.vol", "mnt", "--xlator-option", "posix.resreve=1%"], 78, "error[V0004]"),
    (&["mount", "test.vol", "mnt", "--volume-name", "statz"], 78, "error[V0022]"),
    (&["mount", "test.vol"], 2, "error: "),
    (&["mount", "test.vol", "mnt", "--log-file", "nowhere.d/../test.vol/log"], 1, "error[E0002]: the log "),
    (&["moutn", "test.vol", "mnt"], 2, "error: unrecognized subcommand 'moutn'"),
    (&["umount", "mnt"], 1, "error[E0130]: Brickwork is not mounted at "),
    (&["umount", "nowhere"], 1, "error[E0130]: Brickwork is not mounted at "),
    (&["dump"], 69, "error[E0101]: no instance is running"),
    (&["graph", "show", "gd1"], 69, "error[E0101]: no instance `gd1` is running"),
    (&["dump", "-i", "gd1"], 69, "error[E0101]: no instance `gd1` is running"),
    (&["xlator", "info", "storage/posx"], 1, "error[E0113]: there is no xlator `storage/posx`"),
    (&["explain", "X0001"], 1, "error[E0114]: there is no code `X0001`"),
    (&["brick", "detach", "nowhere"], 1, "error[E0140]: `nowhere` cannot be detached"),
    (&["brick", "detach", "home"], 1, "error[E0140]: `home` has no marks of Brickwork"),
    (&["brick", "serve", "missing.vol"], 78, "missing.vol` cannot be read"),
    (&["brick", "serve", "test.vol"], 78, "error[E0208]: `test.vol` serves nothing"),
    (&["brick", "serve", "test.vol", "--log-file", "log"], 2, "error: "),
    (&["brick", "status"], 69, "error[E0101]: no instance is running"),
    (&["brick", "status", "gd1"], 69, "error[E0101]: no instance `gd1` is running"),
    (&["mount", "vm:/a/b", "mnt"], 2, "error[E0202]: `vm:/a/b` is neither a file nor a volume on other machines"),
    (&["mount", "[::1:/gd1", "mnt"], 2, "error[E0202]: "),
    (&["mount", "unix:/nowhere/sock:/gd1", "mnt"], 69, "error[E0207]: no brick can be reached at unix:/nowhere/sock"),
    (&["mount", "test.vol", "mnt", "-o", "ssl=on"], 2, "error[E0126]: option `ssl` is for volumes on other machines"),
    (&["volfile", "check", "missing.vol"], 78, "missing.vol` cannot be read"),
    (&["volfile", "fmt", "broken.vol"], 78, "error[V0001]: "),
];

#[test]
fn everything_that_goes_wrong_says_so_in_its_first_line_and_exit_code() {
    let Some(world) = World::new() else { return };
    world.write("mistyped.vol", &world.volfile("    option resreve 1%\n"));
    world.write("no-brick.vol", &world.volfile("").replace("/brick\n", "/no-brick\n"));
    world.write("broken.vol", "volume a\n    type debug/null\n");
    for (words, code, first) in WRONG {
        let done = world.run(*words);
        let said = done.stderr.lines().next().unwrap_or_default();
        assert!(done.code == Some(*code) && said.contains(first), "{words:?}: not {code} with `{first}`: {done:?}");
        assert_eq!(done.stdout, "", "{words:?}: data only on stdout");
        assert!(!is_mounted(&world.path("mnt")), "{words:?}");
        let left: Vec<_> = std::fs::read_dir(world.path("run")).expect("list").collect();
        assert!(left.is_empty(), "{words:?} left {left:?}");
    }
}

#[test]
fn one_mount_more_than_a_process_may_have_is_refused() {
    let Some(world) = World::new() else { return };
    let more = ["--also", "mnt2"].repeat(64);
    world.mount(&more).failed(2, "error[E0001]: one process has at most 64 mounts");
    assert!(!is_mounted(&world.path("mnt")));
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let Some(world) = World::new() else { return };
    for (words, code) in [
        (&["umount", "mnt", "--json"] as &[&str], "E0130"),
        (&["--json", "mount", "missing.vol", "mnt"], "E0110"),
        (&["moutn", "--json"], "E0001"),
    ] {
        let done = world.run(words);
        let error: serde_json::Value =
            serde_json::from_str(&done.stderr).unwrap_or_else(|why| panic!("{why}: {done:?}"));
        assert_eq!(error["error"]["code"], code, "{error}");
        assert_eq!(error["error"]["docs"], format!("brickwork explain {code}"));
        assert_eq!(error["error"]["exit"], done.code.expect("a code"));
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn a_second_mount_at_one_place_and_of_one_brick_is_refused() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let second = ["--pid-file", "pid2", "--log-file", "log2"];
    let run = |words: &[&str]| world.run(words.iter().chain(&second));
    run(&["mount", "test.vol", "mnt2"]).failed(78, "is served by another process already");
    std::fs::create_dir(world.path("brick2")).expect("a folder");
    let other = format!("posix.directory={}", world.path("brick2").display());
    let taken = run(&["mount", "test.vol", "mnt", "--xlator-option", &other]);
    taken.failed(1, "error[E0122]: ");
    assert!(taken.stderr.contains("next  brickwork umount /"), "{taken:?}");
    std::fs::write(world.path("mnt/f"), "x").expect("the first one serves on");
    world.umount("mnt");
}

#[test]
fn a_machine_without_fuse_is_told_what_to_do() {
    if !(needs_root("a mount namespace") && needs("unshare")) {
        return;
    }
    let Some(world) = World::new() else { return };
    let script = format!(
        "mount --bind /dev/null /dev/fuse && exec {} mount test.vol mnt --log-file log --pid-file pid",
        env!("CARGO_BIN_EXE_brickwork")
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .current_dir(world.folder())
        .env("BRICKWORK_RUNTIME_DIR", world.path("run"))
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(69 | 77)) && said.starts_with("error[E012"), "{output:?}");
}

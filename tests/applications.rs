//! Real applications do their work on a mount.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Mounted, needs, rounds, run};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn git_clones_collects_and_checks_this_repository() {
    let Some(mounted) = Mounted::dev() else { return };
    if !needs("git") {
        return;
    }
    let clone = mounted.path().join("clone");
    let safe = format!("safe.directory={REPOSITORY}/.git");
    run(Command::new("git").args(["-c", &safe, "clone", "--quiet", "--no-local", REPOSITORY]).arg(&clone));
    let git =
        |args: &[&str]| run(Command::new("git").arg("-C").arg(&clone).args(["-c", "safe.directory=*"]).args(args));
    git(&["gc", "--quiet", "--prune=now"]);
    git(&["fsck", "--full", "--strict"]);
    assert_eq!(git(&["status", "--porcelain"]), "", "a fresh clone is clean");
}

#[test]
fn cargo_builds_and_tests_a_small_crate() {
    let Some(mounted) = Mounted::dev() else { return };
    let project = mounted.path().join("small");
    run(Command::new("cargo").args(["new", "--quiet", "--vcs", "none", "--lib"]).arg(&project));
    let cargo = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(args).args(["--quiet", "--offline"]).current_dir(&project);
        run(command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS"))
    };
    cargo(&["build"]);
    cargo(&["test"]);
    assert!(project.join("target/debug").is_dir(), "the target folder is on the mount");
}

#[test]
fn tar_brings_back_times_modes_links_xattrs_and_acls() {
    let Some(mounted) = Mounted::dev() else { return };
    if !(needs("tar") && needs("setfacl") && needs("setfattr")) {
        return;
    }
    let source = tempfile::tempdir().expect("a local folder");
    make_tree(source.path());
    let archive = source.path().with_extension("tar");
    let flags = ["--xattrs", "--xattrs-include=user.*", "--acls", "--sparse", "--numeric-owner"];
    run(Command::new("tar").args(flags).arg("-cpf").arg(&archive).arg("-C").arg(source.path()).arg("."));
    let unpacked = mounted.path().join("unpacked");
    std::fs::create_dir(&unpacked).expect("mkdir");
    run(Command::new("tar").args(flags).arg("-xpf").arg(&archive).arg("-C").arg(&unpacked));
    std::fs::remove_file(&archive).expect("remove the archive");
    assert_eq!(describe(&unpacked), describe(source.path()));
}

#[test]
fn rsync_with_every_attribute_finds_nothing_left_to_do() {
    let Some(mounted) = Mounted::dev() else { return };
    if !(needs("rsync") && needs("setfacl") && needs("setfattr")) {
        return;
    }
    let source = tempfile::tempdir().expect("a local folder");
    make_tree(source.path());
    let from = format!("{}/", source.path().display());
    let to = mounted.path().join("copy");
    run(Command::new("rsync").args(["-aHAX", &from]).arg(&to));
    let left = run(Command::new("rsync").args(["-aHAXin", "--checksum", "--delete", &from]).arg(&to));
    assert_eq!(left, "", "what a second run would change");
    assert_eq!(describe(&to), describe(source.path()));
}

#[test]
fn sqlite_keeps_its_integrity_with_and_without_a_write_ahead_log() {
    let Some(mounted) = Mounted::dev() else { return };
    if !needs("sqlite3") {
        return;
    }
    for journal in ["delete", "wal"] {
        let database = mounted.path().join(format!("{journal}.db"));
        let rows = rounds(2_000, 20_000);
        let script = format!(
            "pragma journal_mode={journal}; create table t(id integer primary key, text);
             with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
             insert into t select i, hex(randomblob(20)) from n;
             update t set text = text || 'x' where id % 3 = 0; delete from t where id % 5 = 0;
             pragma integrity_check; select count(*) from t;"
        );
        let output = run(Command::new("sqlite3").arg(&database).arg(script));
        let expected = rows - rows / 5;
        assert!(output.trim().ends_with(&format!("ok\n{expected}")), "{journal}: {output}");
    }
}

#[test]
fn eight_stress_clients_find_no_difference() {
    let Some(mounted) = Mounted::dev() else { return };
    if !needs("stress-ng") {
        return;
    }
    let seconds = rounds(1, 15).to_string();
    let stressors = ["dentry", "dir", "fallocate", "filename", "hdd", "link", "rename", "seek", "symlink", "utime"];
    for stressor in stressors {
        let mut command = Command::new("stress-ng");
        command.arg("--temp-path").arg(mounted.path());
        command.args([&format!("--{stressor}"), "8", "--verify", "--timeout", &seconds, "--hdd-bytes", "8M"]);
        run(&mut command);
    }
}

/// A tree with everything that an archive can carry.
fn make_tree(root: &Path) {
    let script = r#"
        set -e
        umask 022
        mkdir -p dir/sub empty
        printf 'content' > dir/file
        ln dir/file dir/sub/hard
        ln -s ../dir/file link
        ln -s nowhere dangling
        mkfifo fifo
        truncate -s 3M sparse; printf end | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
        head -c 300000 /dev/urandom > random
        chmod 4755 dir/file; chmod 1777 empty; chmod 2750 dir/sub
        setfattr -n user.note -v 'a note' dir/file; setfattr -n user.empty dir
        setfacl -m u:1234:rw dir/file; setfacl -d -m g:2345:rx dir
        printf 'ünïcode' > 'nàme with spaces'
        touch -d '2001-02-03 04:05:06.789' random
    "#;
    run(Command::new("sh").arg("-c").arg(script).current_dir(root));
}

/// Everything of a tree that a copy must keep, as text.
fn describe(root: &Path) -> String {
    let script = r#"
        find . -mindepth 1 -printf '%P %y %m %n %U:%G %s %l ' -type f -printf '%Ts' -printf '\n' | LC_ALL=C sort | grep -v '^[^ ]* d' || true
        find . -mindepth 1 -type d -printf '%P %m %U:%G\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        find . -mindepth 1 -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m '^user\.' --absolute-names 2>&1
        find . -mindepth 1 -not -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -np
    "#;
    run(Command::new("sh").arg("-c").arg(script).current_dir(root))
}

//! Bricks that a real GlusterFS wrote are served as they are, and left as they were.
//!
//! `tests/data/gluster` holds two volumes with what GlusterFS's own mount showed of them (`manifest.tsv`). Each brick is
//! served alone here: its files must be those of the manifest, byte for byte.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Mounted, brickwork, needs_root, run};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/gluster");

/// A line of a manifest: what GlusterFS's mount showed of one path.
#[derive(Debug)]
struct Shown {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    links: u64,
    content: String,
    xattrs: String,
}

fn manifest(volume: &str) -> BTreeMap<PathBuf, Shown> {
    let text = std::fs::read_to_string(format!("{DATA}/{volume}/manifest.tsv")).expect("the manifest");
    text.lines().map(shown).collect()
}

fn shown(line: &str) -> (PathBuf, Shown) {
    let fields: Vec<&str> = line.split('\t').collect();
    let number = |index: usize| fields[index].parse().expect("a number");
    let mode = fields[1].strip_prefix("0o").expect("an octal mode");
    let shown = Shown {
        mode: u32::from_str_radix(mode, 8).expect("an octal mode"),
        uid: number(2) as u32,
        gid: number(3) as u32,
        size: number(4),
        links: number(5),
        content: fields[6].to_owned(),
        xattrs: fields.get(7).copied().unwrap_or_default().to_owned(),
    };
    (PathBuf::from(fields[0]), shown)
}

/// The bricks of `volume`, unpacked.
fn unpack(volume: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--acls", "-xpzf"]).arg(format!("{DATA}/{volume}/bricks.tar.gz"));
    run(tar.arg("-C").arg(folder.path()));
    folder
}

/// Every xattr of every path of a brick, `.glusterfs` included, as `getfattr` prints it.
fn xattrs(brick: &Path) -> String {
    let script = "find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - -e hex --absolute-names 2>&1";
    run(Command::new("sh").arg("-c").arg(script).current_dir(brick))
}

fn serve_each_brick(volume: &str, bricks: &[&str]) {
    if !needs_root("unpacking trusted.* xattrs") {
        return;
    }
    let folder = unpack(volume);
    let manifest = manifest(volume);
    let mut seen = BTreeSet::new();
    for brick in bricks {
        let root = folder.path().join(brick);
        let before = xattrs(&root);
        let volfile = format!("{DATA}/{volume}/{volume}.storage1.{volume}-{brick}.vol");
        let Some(mounted) = Mounted::start(&[
            &volfile,
            "--volume-name",
            &format!("/bricks/{volume}/{brick}"),
            "--skip-type",
            "features/locks",
            "--xlator-option",
            &format!("{volume}-posix.directory={}", root.display()),
        ]) else {
            return;
        };
        let complete = compare(mounted.path(), &root, &manifest, &mut seen);
        assert!(complete > 0, "{brick} shows files");
        mounted.unmount();
        assert_only_the_root_gained(&before, &xattrs(&root));
        run(brickwork().args(["brick", "detach"]).arg(&root));
        assert!(xattrs(&root) == before, "{brick}: after detach every xattr is as it was");
    }
    let missing: Vec<_> = manifest.keys().filter(|path| !seen.contains(*path)).collect();
    assert!(missing.is_empty(), "on no brick: {missing:?}");
}

/// Walks the mount of one brick beside its manifest; returns how many data files it compared.
fn compare(mount: &Path, brick: &Path, manifest: &BTreeMap<PathBuf, Shown>, seen: &mut BTreeSet<PathBuf>) -> usize {
    let mut folders = vec![PathBuf::new()];
    let mut compared = 0;
    while let Some(folder) = folders.pop() {
        let names: BTreeSet<_> = std::fs::read_dir(mount.join(&folder))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        let beneath: BTreeSet<_> = std::fs::read_dir(brick.join(&folder))
            .expect("list the brick")
            .map(|entry| entry.expect("entry").file_name())
            .filter(|name| !(folder.as_os_str().is_empty() && name.as_bytes() == b".glusterfs"))
            .collect();
        assert_eq!(names, beneath, "names in {folder:?}");
        for name in names {
            let path = folder.join(name);
            let metadata = std::fs::symlink_metadata(mount.join(&path)).expect("stat");
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let linkto = metadata.is_file() && metadata.mode() & 0o7777 == 0o1000 && metadata.len() == 0;
            if linkto || path.starts_with(".trashcan") {
                continue;
            }
            let Some(shown) = manifest.get(&path) else { panic!("{path:?} is not in the manifest") };
            assert_eq!(metadata.mode(), shown.mode, "mode of {path:?}");
            assert_eq!((metadata.uid(), metadata.gid()), (shown.uid, shown.gid), "owner of {path:?}");
            compared += usize::from(compare_content(&mount.join(&path), &metadata, shown));
            seen.insert(path);
        }
    }
    compared
}

fn compare_content(path: &Path, metadata: &std::fs::Metadata, shown: &Shown) -> bool {
    if metadata.is_symlink() {
        assert_eq!(std::fs::read_link(path).expect("readlink").to_string_lossy(), shown.content, "{path:?}");
    }
    if !metadata.is_file() {
        return false;
    }
    assert_eq!(metadata.len(), shown.size, "size of {path:?}");
    assert!(metadata.nlink() >= 1 && metadata.nlink() <= shown.links, "links of {path:?}: {}", metadata.nlink());
    let sum = run(Command::new("sha256sum").arg(path).env("LC_ALL", "C"));
    let sum = sum.trim_start_matches('\\').split_whitespace().next().unwrap_or_default().to_owned();
    assert_eq!(sum, shown.content, "content of {path:?}");
    for xattr in shown.xattrs.split(',').filter(|xattr| !xattr.is_empty()) {
        let (name, value) = xattr.split_once('=').expect("name=value");
        let found = run(Command::new("getfattr").args(["--only-values", "--absolute-names", "-n", name]).arg(path));
        assert_eq!(found, value, "{name} of {path:?}");
    }
    true
}

/// Nothing changed on a brick but `trusted.brickwork.*` on its root.
fn assert_only_the_root_gained(before: &str, after: &str) {
    let kept: String = after.lines().filter(|line| !line.starts_with("trusted.brickwork.")).collect();
    let before: String = before.lines().collect();
    assert!(kept == before, "something else than trusted.brickwork.* on the root changed");
}

#[test]
fn every_brick_of_a_two_brick_volume_is_served_and_left_as_it_was() {
    serve_each_brick("fixa", &["b1", "b2"]);
}

#[test]
fn every_brick_of_a_volume_that_grew_is_served_and_left_as_it_was() {
    serve_each_brick("fixb", &["b1", "b2", "b3"]);
}

//! Whether a brick, or a mount, is whole: what must always hold between names, gfids and handles.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// Looks at everything once through the mount, as any user would.
pub fn walk(folder: &Path) {
    for entry in fs::read_dir(folder).expect("list") {
        let path = entry.expect("entry").path();
        let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{path:?} is listed, but: {error}"));
        if metadata.is_dir() {
            walk(&path);
        }
    }
}

/// Checks that no name is without its gfid and handle, and no handle without a name. Needs root and `getfattr`.
pub fn check_brick(brick: &Path) {
    let script =
        r#"find . -path ./.glusterfs -prune -o -print0 | xargs -0 getfattr -h -n trusted.gfid -e hex --absolute-names"#;
    let listing = run(Command::new("sh").arg("-c").arg(script).current_dir(brick));
    let mut handles = HashMap::new();
    for block in listing.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let path = block.lines().next().and_then(|line| line.strip_prefix("# file: ")).expect("a path");
        let gfid = block.lines().nth(1).and_then(|line| line.strip_prefix("trusted.gfid=0x")).expect("a gfid");
        let uuid = [&gfid[..8], &gfid[8..12], &gfid[12..16], &gfid[16..20], &gfid[20..]].join("-");
        let handle = brick.join(".glusterfs").join(&gfid[..2]).join(&gfid[2..4]).join(uuid);
        let named = fs::symlink_metadata(brick.join(path)).expect("stat");
        let through = fs::symlink_metadata(&handle).unwrap_or_else(|error| panic!("handle of {path}: {error}"));
        assert!(named.is_dir() || through.ino() == named.ino(), "the handle of {path} is that very file");
        handles.insert(handle, path.to_owned());
    }
    for handle in handles_of(brick) {
        assert!(handles.contains_key(&handle), "{handle:?} is a handle without a name");
    }
    let waiting = fs::read_dir(brick.join(".glusterfs/unlink")).map_or(0, Iterator::count);
    assert_eq!(waiting, 0, "nothing is left in the unlink folder");
}

fn handles_of(brick: &Path) -> Vec<PathBuf> {
    let list = "find .glusterfs -mindepth 3 -maxdepth 3 -regextype posix-extended \
                -regex '.*/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f-]{36}'";
    let listing = run(Command::new("sh").arg("-c").arg(list).current_dir(brick));
    listing.lines().map(|line| brick.join(line)).collect()
}

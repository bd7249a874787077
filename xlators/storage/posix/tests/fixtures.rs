//! Bricks that a real GlusterFS wrote, served in place.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use brickwork_api::{Attr, DirEntry, FileKind, Gfid, OpenFile, Timespec};
use brickwork_testkit::Client;

/// Everything that can be known of a tree without changing it: path, inode facts, xattrs.
fn survey(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(path) = folders.pop() {
        let meta = path.symlink_metadata().unwrap();
        let mut xattrs = common::xattrs(&path);
        xattrs.sort();
        let values: Vec<_> = xattrs.iter().map(|name| (name, common::get_xattr(&path, name))).collect();
        let text = meta.is_symlink().then(|| std::fs::read_link(&path).unwrap());
        // Sizes and times of folders say what is in them, or that something was in them for a while.
        let size = if meta.is_dir() { 0 } else { meta.size() };
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let facts = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), links, size, text, values);
        if meta.is_dir() {
            folders.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path.strip_prefix(root).unwrap().to_owned(), format!("{facts:?}"));
    }
    all
}

fn bricks(fixture: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = common::folder();
    let archive =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/data/gluster").join(fixture).join("bricks.tar.gz");
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--acls", "-xpzf"])
        .arg(archive)
        .arg("-C")
        .arg(folder.path())
        .status()
        .expect("tar");
    assert!(status.success());
    let mut bricks: Vec<PathBuf> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The third brick of `fixb` was never started: an empty folder.
    bricks.retain(|brick| brick.join(".glusterfs").exists());
    bricks.sort();
    assert!(bricks.len() >= 2, "{bricks:?}");
    bricks.iter().for_each(|brick| join_pipes(brick));
    (folder, bricks)
}

/// tar keeps no hard links of pipes: joins each with its handle again, as GlusterFS had them.
fn join_pipes(brick: &Path) {
    for gfid in gfids(brick) {
        let (gfid, path) = (gfid.0.to_string(), gfid.1);
        if path.symlink_metadata().unwrap().file_type().is_fifo() {
            let handle = brick.join(".glusterfs").join(&gfid[..2]).join(&gfid[2..4]).join(&gfid);
            std::fs::remove_file(&handle).unwrap();
            std::fs::hard_link(&path, &handle).unwrap();
        }
    }
}

fn list_plus(client: &Client, open: OpenFile) -> Vec<DirEntry> {
    let mut all: Vec<DirEntry> = Vec::new();
    loop {
        let from = all.last().map_or(0, |entry| entry.next);
        let more = client.readdirplus(open, from, 4096).unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// Walks everything through the fops and compares it with the brick; returns the number of objects.
fn walk(client: &Client, brick: &Path) -> usize {
    let mut objects = 0;
    let mut folders = vec![(Gfid::ROOT, brick.to_owned())];
    while let Some((gfid, path)) = folders.pop() {
        let open = client.opendir(gfid).unwrap();
        let plain = client.list(open, 0, 4096).unwrap();
        let plus = list_plus(client, open);
        client.releasedir(open).unwrap();
        let mut shown: Vec<String> = plus.iter().map(|entry| entry.name.to_string()).collect();
        let mut there: Vec<String> = std::fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !(gfid == Gfid::ROOT && name == ".glusterfs"))
            .collect();
        shown.sort();
        there.sort();
        assert_eq!(shown, there, "{}", path.display());
        assert_eq!(plain.len(), plus.len());
        for entry in plus {
            objects += 1;
            let on_disk = path.join(entry.name.to_string());
            let key = common::get_xattr(&on_disk, "trusted.gfid").expect("a gfid");
            assert_eq!(entry.gfid.to_bytes()[..], key[..], "{}", on_disk.display());
            let attr = client.lookup(gfid, &entry.name.to_string()).unwrap();
            // Reading the content under another name of it moves the time of access.
            let timeless = |attr: &Attr| Attr { accessed: Timespec::default(), ..attr.clone() };
            assert_eq!(entry.attr.as_ref().map(timeless), Some(timeless(&attr)));
            assert_eq!(timeless(&client.stat(entry.gfid).unwrap()), timeless(&attr), "{}", on_disk.display());
            let meta = on_disk.symlink_metadata().unwrap();
            assert_eq!((attr.size, attr.uid, attr.gid), (meta.size(), meta.uid(), meta.gid()));
            assert_eq!(attr.mode, meta.mode() & 0o7777);
            let names = client.listxattr(entry.gfid).unwrap();
            let hidden = |name: &&String| name.starts_with("trusted.gfid") || name.starts_with("trusted.glusterfs.");
            assert_eq!(names.iter().find(hidden), None);
            for name in names {
                let value = client.getxattr(entry.gfid, &name).unwrap();
                assert_eq!(Some(&value[..]), common::get_xattr(&on_disk, &name).as_deref());
            }
            match attr.kind {
                FileKind::Directory => folders.push((entry.gfid, on_disk)),
                FileKind::Symlink => {
                    let text = client.readlink(entry.gfid).unwrap();
                    assert_eq!(text, std::fs::read_link(&on_disk).unwrap().as_os_str().as_encoded_bytes());
                }
                FileKind::File => {
                    let content = std::fs::read(&on_disk).unwrap();
                    assert_eq!(attr.links as u64, meta.nlink() - 1);
                    assert!(content.starts_with(&client.content(entry.gfid).unwrap()));
                }
                _ => {}
            }
        }
    }
    objects
}

#[test]
fn a_brick_of_glusterfs_is_served_whole_and_left_as_it_was() {
    if !common::privileged() {
        return;
    }
    for fixture in ["fixa", "fixb"] {
        let (_folder, bricks) = bricks(fixture);
        let mut objects = 0;
        for path in bricks {
            let before = survey(&path);
            {
                let brick = common::serve(&path);
                objects += walk(&brick.client, &path);
                // A second walk by gfid alone, with nothing cached.
                drop(brick);
                let brick = common::serve(&path);
                for (gfid, _) in gfids(&path) {
                    assert_eq!(brick.client.stat(gfid).unwrap().gfid, gfid);
                }
            }
            let served = survey(&path);
            let changed: Vec<_> = served.iter().filter(|(path, facts)| before.get(*path) != Some(facts)).collect();
            assert_eq!(changed.len(), 1, "{changed:#?}");
            assert_eq!(changed[0].0, Path::new(""), "{changed:#?}");
            assert_eq!(served.len(), before.len());
            let detached = brickwork_posix::detach(&path).unwrap();
            assert_eq!(detached.xattrs, ["trusted.brickwork.brick"]);
            assert_eq!(survey(&path), before);
            assert!(brickwork_posix::detach(&path).unwrap_err().to_string().contains("nothing to detach"));
        }
        assert!(objects > 100, "{objects} objects in {fixture}");
    }
}

/// Every name on the brick with the gfid of its object.
fn gfids(brick: &Path) -> Vec<(Gfid, PathBuf)> {
    let mut gfids = Vec::new();
    let mut folders = vec![brick.to_owned()];
    while let Some(path) = folders.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".glusterfs" {
                continue;
            }
            let key = common::get_xattr(&entry.path(), "trusted.gfid").unwrap();
            gfids.push((Gfid::from_bytes(key.try_into().unwrap()), entry.path()));
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    gfids
}

#[test]
fn the_paths_that_objects_carry_are_told() {
    if !common::privileged() {
        return;
    }
    let (_folder, bricks) = bricks("fixa");
    let brick = common::serve(&bricks[0]);
    let file = brick.client.lookup(Gfid::ROOT, "1.13").unwrap();
    assert_eq!(brick.client.getxattr(file.gfid, "glusterfs.gfidtopath").unwrap(), &b"/1.13"[..]);
    assert_eq!(
        brick.client.getxattr(file.gfid, "glusterfs.gfid.string").unwrap(),
        &b"a6d69619-74f1-43c3-85bf-5277594aa13a"[..]
    );
    let info = brick.client.getxattr(file.gfid, "trusted.glusterfs.pathinfo").unwrap();
    let info = String::from_utf8(info.to_vec()).unwrap();
    let path = bricks[0].display();
    assert!(info.starts_with(&format!("<POSIX({path}):")) && info.ends_with(&format!(":{path}/1.13>")), "{info}");
}

#[test]
fn another_volume_is_refused() {
    if !common::privileged() {
        return;
    }
    let (_folder, bricks) = bricks("fixa");
    let other = "00000000-0000-4000-8000-000000000000";
    let refused = common::serve_with(&bricks[0], &[("volume-id", other)]).err().unwrap();
    assert!(refused.contains("belongs to volume 090bf5b4-f474-4c64-8dc9-8544370860e3"), "{refused}");
    common::serve_with(&bricks[0], &[("volume-id", "090bf5b4-f474-4c64-8dc9-8544370860e3")]).unwrap();
}

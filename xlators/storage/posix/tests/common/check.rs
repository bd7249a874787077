//! Looks at a brick that nobody serves: do names, gfids, handles and gfid2path agree?

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::get_xattr;

/// The gfids of a folder's objects, by path.
struct Survey {
    gfids: BTreeMap<PathBuf, String>,
    problems: Vec<String>,
}

fn gfid(path: &Path, key: &str) -> Option<String> {
    let bytes: [u8; 16] = get_xattr(path, key)?.try_into().ok()?;
    Some(brickwork_api::Gfid::from_bytes(bytes).to_string())
}

/// What is wrong on the brick, in words; empty when nothing is.
///
/// Names without a handle are what a crash may leave until somebody looks them up: they count only if `complete`.
pub fn problems(brick: &Path, complete: bool) -> Vec<String> {
    let mut survey = Survey { gfids: BTreeMap::new(), problems: Vec::new() };
    survey.names(brick);
    survey.handles(brick);
    survey.paths(brick, complete);
    survey.problems
}

impl Survey {
    fn names(&mut self, brick: &Path) {
        let mut folders = vec![brick.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path == brick.join(".glusterfs") {
                    continue;
                }
                match gfid(&path, "trusted.gfid") {
                    Some(gfid) => drop(self.gfids.insert(path.clone(), gfid)),
                    None => self.problems.push(format!("{} has no gfid", path.display())),
                }
                if path.symlink_metadata().unwrap().is_dir() {
                    folders.push(path);
                }
            }
        }
    }

    fn handles(&mut self, brick: &Path) {
        let folder = brick.join(".glusterfs");
        for path in files_below(&folder) {
            let meta = path.symlink_metadata().unwrap();
            let below = path.strip_prefix(&folder).unwrap().to_owned();
            if below.starts_with("brickwork/staging") || below.starts_with("unlink") {
                self.problems.push(format!("{} is left over", below.display()));
            }
            let Some(name) = below.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 36) else {
                continue;
            };
            if name == "00000000-0000-0000-0000-000000000001" || below.starts_with("brickwork") {
                continue;
            }
            if meta.is_symlink() && meta.nlink() == 1 {
                let target = std::fs::canonicalize(&path).ok();
                if target.and_then(|target| gfid(&target, "trusted.gfid")).as_deref() != Some(name) {
                    self.problems.push(format!("the handle of directory {name} leads nowhere"));
                }
            } else if meta.nlink() < 2 {
                self.problems.push(format!("handle {name} has no name"));
            } else if gfid(&path, "trusted.gfid").as_deref() != Some(name) {
                self.problems.push(format!("handle {name} is that of another object"));
            }
        }
    }

    /// gfid2path of each object against its names, and the handle of each name.
    fn paths(&mut self, brick: &Path, complete: bool) {
        let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let root = "00000000-0000-0000-0000-000000000001".to_owned();
        for (path, gfid) in &self.gfids {
            let parent = path.parent().unwrap();
            let parent = if parent == brick { &root } else { &self.gfids[parent] };
            let name = path.file_name().unwrap().to_str().unwrap();
            names.entry(gfid).or_default().insert(format!("{parent}/{name}"));
        }
        for (path, gfid) in &self.gfids {
            let meta = path.symlink_metadata().unwrap();
            let handle = brick.join(".glusterfs").join(&gfid[..2]).join(&gfid[2..4]).join(gfid);
            match (handle.symlink_metadata(), meta.is_dir()) {
                (Err(_), _) if !complete => {}
                (Err(_), _) => self.problems.push(format!("{} has no handle", path.display())),
                (Ok(_), true) if std::fs::canonicalize(&handle).ok().as_ref() == Some(path) => {}
                (Ok(handle), false) if handle.ino() == meta.ino() => {}
                (Ok(_), _) => self.problems.push(format!("the handle of {} is another's", path.display())),
            }
            if meta.is_dir() {
                continue;
            }
            let keys = super::xattrs(path).into_iter().filter(|key| key.starts_with("trusted.gfid2path."));
            let told: BTreeSet<String> =
                keys.map(|key| String::from_utf8(get_xattr(path, &key).unwrap()).unwrap()).collect();
            if told != names[gfid.as_str()] {
                let problem = format!("{gfid} says it is {told:?} but is {:?}", names[gfid.as_str()]);
                self.problems.push(problem);
            }
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let list = if path.symlink_metadata().unwrap().is_dir() { &mut folders } else { &mut files };
            list.push(path);
        }
    }
    files
}

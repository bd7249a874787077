//! A brick in a temporary folder, as a stack of one xlator.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod check;
pub mod work;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use brickwork_api::options::OptionMap;
use brickwork_api::{Event, Setup, SetupError, Upward, Xlator};
use brickwork_testkit::{Client, TestHost, block_on};

/// A served brick. Dropping it stops the xlator; the folder goes last.
pub struct Brick {
    pub xlator: Arc<dyn Xlator>,
    pub client: Client,
    pub events: parking_lot::Mutex<Receiver<Event>>,
    pub path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Brick {
    fn drop(&mut self) {
        block_on(self.xlator.stop());
    }
}

/// A folder on a file system that has what a brick needs.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Others than root must get to what is in it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("its permissions");
    folder
}

pub fn fresh() -> Brick {
    fresh_with(&[])
}

pub fn fresh_with(options: &[(&str, &str)]) -> Brick {
    let folder = folder();
    let mut brick = serve_with(folder.path(), options).expect("a fresh brick");
    brick._folder = Some(folder);
    brick
}

pub fn serve(path: &Path) -> Brick {
    serve_with(path, &[]).expect("a brick that can be served")
}

/// Prepares and starts storage/posix over `path`; small watches so that nothing runs by itself in a test.
pub fn serve_with(path: &Path, options: &[(&str, &str)]) -> Result<Brick, String> {
    let (sender, events) = channel();
    let mut map: OptionMap = [("health-check-interval", "0"), ("reserve", "0")].into_iter().collect();
    map.insert("directory", path.to_str().expect("UTF-8"));
    for (key, value) in options {
        map.insert(*key, *value);
    }
    let setup = Setup {
        name: "posix".into(),
        options: map,
        children: Vec::new(),
        subvolumes: Vec::new(),
        up: Upward::new(move |event| sender.send(event).unwrap_or(())),
        host: TestHost::new(),
    };
    let xlator = (brickwork_posix::TYPE.prepare)(setup).map_err(|error| match error {
        SetupError::Failed(reason) => reason,
        other => other.to_string(),
    })?;
    xlator.start()?;
    let client = Client::new(Arc::clone(&xlator));
    Ok(Brick { xlator, client, events: parking_lot::Mutex::new(events), path: path.to_owned(), _folder: None })
}

/// Whether this process may set `trusted.` xattrs and act for others; says so when not.
pub fn privileged() -> bool {
    let folder = folder();
    let able = set_xattr(folder.path(), "trusted.brickwork.probe", b"1").is_ok();
    if !able {
        println!("SKIPPED: needs root (CAP_SYS_ADMIN) and a temporary folder with `trusted.` xattrs");
    }
    able
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// An xattr of what stands on the brick, links not followed.
pub fn get_xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(c(path), name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), rustix::io::Errno> {
    rustix::fs::lsetxattr(c(path), name, value, rustix::fs::XattrFlags::empty())
}

/// The names of all xattrs of what stands on the brick.
pub fn xattrs(path: &Path) -> Vec<String> {
    let mut names = vec![0_u8; 65536];
    let length = rustix::fs::llistxattr(c(path), &mut names).expect("a list of xattrs");
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

//! Who asks, under which name, on which thread; and what is left when a mount ends.

mod common;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use brickwork_api::{FopKind, Host};
use brickwork_mount::{FuseOptions, Left, Mount, MountConfig, MountError, Roots};
use brickwork_testkit::{MemoryLeaf, TestHost};
use common::recorder::{Seen, forgotten};
use common::{Rig, rounds};

#[test]
fn what_a_local_graph_answers_never_leaves_the_reader() {
    let Some(rig) = Rig::memory("") else { return };
    let path = rig.path().join("x");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    for _ in 0..100 {
        file.write_all(b"0123456789").unwrap();
        let mut bytes = [0; 10];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        fs::metadata(&path).unwrap();
        drop(File::create_new(rig.path().join("y")).unwrap());
        fs::rename(rig.path().join("y"), rig.path().join("z")).unwrap();
        fs::read_dir(rig.path()).unwrap().for_each(|entry| drop(entry.unwrap()));
        fs::remove_file(rig.path().join("z")).unwrap();
    }
    let status = rig.mounted().status();
    assert_eq!(status["handed_on"], 0, "{status}");
    let seen = rig.recorder.take();
    for kind in [FopKind::Lookup, FopKind::Stat, FopKind::Read, FopKind::Write, FopKind::Create, FopKind::Readdir] {
        let threads: Vec<Option<String>> =
            seen.iter().filter(|seen| seen.fop == kind).map(|seen| seen.thread.clone()).collect();
        assert!(threads.len() >= 100, "{kind:?} came {} times", threads.len());
        // The first lookup is that of the start.
        let elsewhere = threads.iter().filter(|name| !name.as_deref().unwrap_or("").starts_with("fuse-")).count();
        assert!(elsewhere <= usize::from(kind == FopKind::Lookup), "{kind:?}: {threads:?}");
    }
}

#[test]
fn an_unlink_and_what_the_kernel_forgets_after_it_never_leave_the_reader() {
    let Some(rig) = Rig::memory("") else { return };
    for round in 0..100 {
        drop(File::create_new(rig.path().join("x")).unwrap());
        fs::remove_file(rig.path().join("x")).unwrap();
        rig.recorder.wait_for_forgotten(round + 1);
    }
    let status = rig.mounted().status();
    assert_eq!(status["handed_on"], 0, "{status}");
    let elsewhere = |seen: &&Seen| !seen.thread.as_deref().unwrap_or("").starts_with("fuse-");
    let seen = rig.recorder.take();
    let handed = seen.iter().filter(|seen| matches!(seen.fop, FopKind::Unlink | FopKind::Forget)).find(elsewhere);
    assert!(handed.is_none(), "{handed:?}");
}

#[test]
fn one_reader_never_waits_for_a_disk_and_of_two_one_may() {
    for (words, may) in [("readers=1", 0), ("readers=2", 1), ("readers=5", 2)] {
        let Some(rig) = Rig::memory(words) else { return };
        fs::write(rig.path().join("x"), b"x").unwrap();
        let seen = rig.recorder.take();
        let host = &seen.iter().find(|seen| seen.fop == FopKind::Write).unwrap().cx.host;
        assert_eq!(waits_within_waits(&**host), may, "{words}");
    }
}

/// How many may wait at once: each waits while the next one asks.
fn waits_within_waits(host: &dyn Host) -> usize {
    let mut inner = 0;
    let waited = host.wait_here(&mut || inner = waits_within_waits(host));
    inner + usize::from(waited)
}

#[test]
fn every_request_of_a_client_has_a_name_of_its_own() {
    let Some(mut rig) = Rig::memory("") else { return };
    let points = [rig.path(), rig.mount("")];
    std::thread::scope(|scope| {
        for (number, point) in points.iter().cycle().take(6).enumerate() {
            scope.spawn(move || {
                for round in 0..rounds(500) {
                    fs::write(point.join(format!("{number}-{round}")), b"x").unwrap();
                }
            });
        }
    });
    let mut last: HashMap<_, u64> = HashMap::new();
    let clients = rig.clients();
    let mut requests: Vec<_> = rig.recorder.take().into_iter().map(|seen| seen.cx.request).collect();
    requests.retain(|request| request.sequence > 0);
    assert!(requests.iter().all(|request| clients.contains(&request.client) && request.slot < 1024));
    requests.sort_unstable_by_key(|request| (request.client, request.slot, request.sequence));
    for request in requests {
        let before = last.insert((request.client, request.slot), request.sequence).unwrap_or(0);
        assert_eq!(request.sequence, before + 1, "slot {} skipped or repeated a number", request.slot);
    }
}

/// Runs `touch` on a new file as a user with these supplementary groups; returns what the graph heard of it.
fn create_as(rig: &Rig, uid: u32, gid: u32, groups: &'static [u32]) -> Vec<Seen> {
    let path = rig.path().join(format!("of-{uid}-{gid}-{}", groups.len()));
    rig.recorder.take();
    let mut command = Command::new("touch");
    // SAFETY: between fork and exec the child only makes these three system calls.
    unsafe {
        command.pre_exec(move || {
            let become_caller = || {
                if libc::setgroups(groups.len(), groups.as_ptr()) != 0 {
                    return -1;
                }
                libc::setresgid(gid, gid, gid) | libc::setresuid(uid, uid, uid)
            };
            if become_caller() == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let output = command.arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    rig.recorder.take().into_iter().filter(|seen| seen.fop == FopKind::Create).collect()
}

#[test]
fn the_groups_of_the_caller_come_along() {
    let Some(rig) = Rig::memory("") else { return };
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for (uid, gid, groups) in [(4242, 4243, &[7_u32, 4711, 70_000][..]), (4242, 4243, &[]), (4244, 1, &[9])] {
        let seen = create_as(&rig, uid, gid, groups);
        let credentials = &seen[0].cx.credentials;
        assert_eq!((credentials.uid, credentials.gid, &credentials.groups[..]), (uid, gid, groups));
        assert!(credentials.pid > 0);
    }
    let seen = create_as(&rig, 0, 0, &[7, 8]);
    assert!(seen[0].cx.credentials.groups.is_empty(), "root needs none");
}

#[test]
fn a_group_of_the_caller_opens_what_belongs_to_it() {
    let Some(rig) = Rig::memory("") else { return };
    let shared = rig.path().join("shared");
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(0), Some(4711)).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o2770)).unwrap();
    let touch = |groups: &'static str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=4242", "--regid=4243", groups, "touch"]).arg(shared.join("x"));
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(!touch("--clear-groups"));
    assert!(touch("--groups=4711"));
}

#[test]
fn what_the_kernel_forgets_the_graph_forgets() {
    let Some(mut rig) = Rig::memory("") else { return };
    let count = 300;
    let gfids: Vec<String> = (0..count)
        .map(|number| {
            fs::write(rig.path().join(number.to_string()), b"").unwrap();
            number.to_string()
        })
        .collect();
    assert!(rig.mounted().status()["nodes"].as_u64().unwrap() > gfids.len() as u64);
    gfids.iter().for_each(|name| fs::remove_file(rig.path().join(name)).unwrap());
    let mount = rig.unmount();
    assert_eq!(mount.status()["nodes"], 1, "{}", mount.status());
    assert_eq!(mount.status()["open_files"], 0);
    assert_eq!(forgotten(&rig.recorder.take()), count);
}

#[test]
fn a_mount_in_use_is_only_unmounted_on_demand_and_ends_with_the_last_close() {
    let Some(rig) = Rig::memory("") else { return };
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(rig.path().join("x")).unwrap();
    let refused = rig.block_on(rig.mounted().unmount_unused()).unwrap_err();
    assert!(matches!(refused, MountError::InUse { .. }), "{refused}");
    file.write_all(b"as before").unwrap();
    let left = rig.block_on(rig.mounted().unmount()).unwrap();
    assert_eq!(left, Left::Open { files: 1, directories: 0 });
    assert!(!rig.path().join("x").exists(), "it is out of the tree");
    file.write_all(b"still there").unwrap();
    assert_eq!(rig.mounted().status()["ended"], false);
    drop(file);
    rig.block_on(rig.mounted().ended());
    assert_eq!(rig.mounted().status()["ended"], true);
    assert_eq!(rig.recorder.count(FopKind::Release), 1);
}

#[test]
fn an_aborted_mount_fails_what_is_open_and_gives_the_graph_everything_back() {
    let Some(rig) = Rig::memory("") else { return };
    let mut file = File::create_new(rig.path().join("x")).unwrap();
    fs::create_dir(rig.path().join("d")).unwrap();
    let directory = fs::read_dir(rig.path().join("d")).unwrap();
    rig.block_on(async {
        rig.mounted().abort().await.unwrap();
        rig.mounted().ended().await;
    });
    let error = file.write(b"x").unwrap_err().raw_os_error();
    assert!(matches!(error, Some(libc::ENOTCONN | libc::ECONNABORTED)), "{error:?}");
    let seen = rig.recorder.take();
    let count = |kind| seen.iter().filter(|seen| seen.fop == kind).count();
    assert_eq!((count(FopKind::Release), count(FopKind::Releasedir)), (1, 1));
    assert!(count(FopKind::Forget) > 0);
    drop((file, directory));
}

#[test]
fn a_read_only_mount_refuses_to_change_anything() {
    let Some(mut rig) = Rig::memory("") else { return };
    fs::write(rig.path().join("x"), b"x").unwrap();
    let point = rig.mount("ro,fsname=volume-one");
    assert_eq!(fs::read(point.join("x")).unwrap(), b"x");
    assert_eq!(fs::write(point.join("x"), b"y").unwrap_err().raw_os_error(), Some(libc::EROFS));
    let mut table = String::new();
    File::open("/proc/self/mounts").unwrap().read_to_string(&mut table).unwrap();
    let line = table.lines().find(|line| line.contains(point.to_str().unwrap())).unwrap();
    assert!(line.starts_with("volume-one ") && line.contains(" fuse.brickwork ro,"), "{line}");
}

#[test]
fn a_mount_on_what_is_no_directory_says_where_and_why_and_leaves_nothing() {
    struct Memory(Arc<MemoryLeaf>);
    impl Roots for Memory {
        fn root(&self) -> Arc<dyn brickwork_api::Xlator> {
            self.0.clone()
        }
        fn keeps_locks(&self) -> bool {
            false
        }
    }
    let Some(rig) = Rig::memory("") else { return };
    let start = |point: std::path::PathBuf| {
        let config = MountConfig { point, source: "test".into(), options: FuseOptions::default() };
        rig.block_on(Mount::start(Arc::new(Memory(Arc::new(MemoryLeaf::new()))), TestHost::new(), config))
    };
    let busy = start(rig.path()).unwrap_err().to_string();
    assert!(busy.contains("a brickwork mount is there already"), "{busy}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start(file.path().to_owned()).unwrap_err().to_string();
    assert!(error.contains("not a directory"), "{error}");
}

//! What this leaf promises beyond what every leaf does.

mod common;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::*;
use brickwork_testkit::Client;
use brickwork_testkit::client::entry;
use common::check::problems;

const ROOT: Gfid = Gfid::ROOT;

fn user(uid: u32, groups: &[u32]) -> Credentials {
    Credentials { uid, gid: uid, pid: 1, groups: groups.into() }
}

fn acting(brick: &common::Brick, who: Credentials) -> Client {
    Client::acting_as(Arc::clone(&brick.xlator), who)
}

fn mode(mode: u32) -> AttrChange {
    AttrChange { mode: Some(mode), ..AttrChange::default() }
}

fn owner(uid: u32, gid: u32) -> AttrChange {
    AttrChange { uid: Some(uid), gid: Some(gid), ..AttrChange::default() }
}

fn create(client: &Client, parent: Gfid, name: &str, mode: u32, umask: u32) -> Result<Attr, Errno> {
    let (gfid, open) = (Gfid::random(), client.fresh_open());
    let flags = libc::O_RDWR as u32;
    let request = CreateReq { entry: entry(parent, name), gfid, open, flags, mode, umask, xdata: Xdata::EMPTY };
    let attr = client.call::<fop::Create>(&request)?.attr;
    client.release(OpenFile { gfid, open })?;
    Ok(attr)
}

fn mkdir(client: &Client, parent: Gfid, name: &str, mode: u32, umask: u32) -> Result<Attr, Errno> {
    let request = MkdirReq { entry: entry(parent, name), gfid: Gfid::random(), mode, umask, xdata: Xdata::EMPTY };
    Ok(client.call::<fop::Mkdir>(&request)?.attr)
}

#[test]
fn every_kind_of_object_has_a_handle_where_glusterfs_looks_for_it() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let folder = brick.client.mkdir(ROOT, "folder").unwrap();
    let file = brick.client.put(folder, "file", b"content").unwrap();
    let link = brick.client.symlink(folder, "link", b"text").unwrap().gfid;
    let handle = |gfid: Gfid| {
        let text = gfid.to_string();
        brick.path.join(".glusterfs").join(&text[..2]).join(&text[2..4]).join(text)
    };
    let parent = "00/00/00000000-0000-0000-0000-000000000001";
    assert_eq!(std::fs::read_link(handle(folder)).unwrap().to_str().unwrap(), format!("../../{parent}/folder"));
    assert_eq!(std::fs::read(handle(file)).unwrap(), b"content");
    assert_eq!(std::fs::read_link(handle(link)).unwrap().to_str(), Some("text"));
    assert_eq!(std::fs::read_link(handle(ROOT)).unwrap().to_str(), Some("../../.."));
    assert_eq!(common::get_xattr(&brick.path.join("folder/file"), "trusted.gfid").unwrap(), file.to_bytes());
    assert_eq!(problems(&brick.path, true), [""; 0]);
}

#[test]
fn the_folder_of_the_handles_is_neither_listed_nor_reached() {
    let brick = common::fresh();
    brick.client.mkdir(ROOT, "folder").unwrap();
    assert_eq!(brick.client.names(ROOT).unwrap(), ["folder"]);
    assert_eq!(brick.client.lookup(ROOT, ".glusterfs").map(drop), Err(Errno::EPERM));
    assert_eq!(brick.client.rmdir(ROOT, ".glusterfs").map(drop), Err(Errno::EPERM));
    let over = brick.client.rename((ROOT, "folder"), (ROOT, ".glusterfs"), RenameMode::Exchange);
    assert_eq!(over.map(drop), Err(Errno::EPERM));
    assert_eq!(brick.client.stat(ROOT).unwrap().links, 3);
}

#[test]
fn an_open_file_without_a_name_lives_until_its_last_release_and_is_parked_on_the_brick() {
    let brick = common::fresh();
    let client = &brick.client;
    let file = client.create(ROOT, "file").unwrap();
    client.write(file, 0, b"content").unwrap();
    let second = client.open(file.gfid, libc::O_RDONLY).unwrap();
    assert_eq!(client.unlink(ROOT, "file").unwrap(), Unnamed { gfid: file.gfid, links: 0 });
    let parked = brick.path.join(format!(".glusterfs/unlink/{}", file.gfid));
    assert_eq!(std::fs::read(&parked).unwrap(), b"content");
    // By gfid too: the kernel asks for attributes without naming an open.
    assert_eq!(client.stat(file.gfid).map(|attr| (attr.links, attr.size)), Ok((0, 7)));
    client.release(file).unwrap();
    assert_eq!(&client.read(second, 0, 100).unwrap()[..], b"content");
    client.release(second).unwrap();
    assert!(!parked.exists());
    assert_eq!(client.stat(file.gfid), Err(Errno::ESTALE));
}

#[test]
fn a_refused_unlink_of_a_last_name_leaves_everything_as_it_was() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let client = &brick.client;
    let folder = client.mkdir(ROOT, "sticky").unwrap();
    client.setattr(folder, mode(0o1777)).unwrap();
    let file = client.put(folder, "file", b"content").unwrap();
    let open = client.open(file, libc::O_RDONLY).unwrap();
    let stranger = acting(&brick, user(4242, &[]));
    assert_eq!(stranger.unlink(folder, "file").map(drop), Err(Errno::EPERM));
    client.release(open).unwrap();
    assert_eq!(stranger.unlink(folder, "file").map(drop), Err(Errno::EPERM));
    let over = stranger
        .put(folder, "mine", b"")
        .and_then(|_| stranger.rename((folder, "mine"), (folder, "file"), RenameMode::Replace).map(drop));
    assert_eq!(over, Err(Errno::EPERM));
    assert_eq!(&client.content(file).unwrap()[..], b"content");
    assert_eq!(problems(&brick.path, true), [""; 0]);
}

#[test]
fn the_kernel_below_checks_as_the_caller() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let client = &brick.client;
    let file = client.put(ROOT, "file", b"").unwrap();
    client.setattr(file, owner(1000, 2000)).unwrap();
    client.setattr(file, mode(0o640)).unwrap();
    let (its, member, other) = (user(1000, &[]), user(3000, &[2000]), user(4242, &[77]));
    let may = |who: &Credentials, flags| acting(&brick, who.clone()).open(file, flags).map(drop);
    assert_eq!(may(&its, libc::O_RDWR), Ok(()));
    assert_eq!(may(&member, libc::O_RDONLY), Ok(()));
    assert_eq!(may(&member, libc::O_RDWR), Err(Errno::EACCES));
    assert_eq!(may(&other, libc::O_RDONLY), Err(Errno::EACCES));
    let access = |who: &Credentials, mask| {
        acting(&brick, who.clone()).call::<fop::Access>(&AccessReq { gfid: file, mask, xdata: Xdata::EMPTY }).map(drop)
    };
    assert_eq!(access(&member, 4), Ok(()));
    assert_eq!(access(&member, 2), Err(Errno::EACCES));
    assert_eq!(access(&other, 0), Ok(()));
    let stranger = acting(&brick, other);
    assert_eq!(stranger.mkdir(ROOT, "folder").map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.create(ROOT, "new").map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.symlink(ROOT, "link", b"text").map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.unlink(ROOT, "file").map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.setattr(file, mode(0o777)).map(drop), Err(Errno::EPERM));
    assert_eq!(stranger.truncate(file, 0).map(drop), Err(Errno::EACCES));
    assert_eq!(stranger.setxattr(file, "user.note", b"1", XattrMode::Set), Err(Errno::EACCES));
    // And this thread is root again.
    assert_eq!(problems(&brick.path, true), [""; 0]);
}

#[test]
fn a_change_of_attributes_that_is_refused_in_part_is_refused_as_a_whole() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let file = brick.client.put(ROOT, "file", b"").unwrap();
    brick.client.setattr(file, owner(1000, 1000)).unwrap();
    let its = acting(&brick, user(1000, &[1500]));
    let before = brick.client.stat(file).unwrap();
    // A group that it is in may be given; a time out of range may not.
    let modified = Some(SetTime::To(Timespec { seconds: 0, nanoseconds: 2_000_000_000 }));
    let change = AttrChange { gid: Some(1500), mode: Some(0o600), modified, ..AttrChange::default() };
    assert_eq!(its.setattr(file, change).map(drop), Err(Errno::EINVAL));
    let after = brick.client.stat(file).unwrap();
    assert_eq!((after.gid, after.mode), (before.gid, before.mode));
}

#[test]
fn owner_group_and_mode_of_new_objects_are_those_of_the_kernel() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    // The same in a plain folder, by the kernel alone.
    for (index, (parent_mode, parent_gid)) in [(0o777, 0), (0o2777, 5000), (0o1777, 0)].into_iter().enumerate() {
        let parent = brick.client.mkdir(ROOT, &format!("parent-{index}")).unwrap();
        brick.client.setattr(parent, owner(0, parent_gid)).unwrap();
        brick.client.setattr(parent, mode(parent_mode)).unwrap();
        for who in [user(1000, &[1500]), user(1000, &[5000]), Credentials::root()] {
            for umask in [0, 0o027] {
                let client = acting(&brick, who.clone());
                let name = format!("{}-{umask}-{:?}", who.uid, who.groups);
                let file = create(&client, parent, &format!("f{name}"), 0o2775, umask).unwrap();
                let folder = mkdir(&client, parent, &format!("d{name}"), 0o775, umask).unwrap();
                let request = MknodReq {
                    entry: entry(parent, &format!("p{name}")),
                    gfid: Gfid::random(),
                    mode: libc::S_IFIFO | 0o2775,
                    umask,
                    rdev: 0,
                    xdata: Xdata::EMPTY,
                };
                let pipe = client.call::<fop::Mknod>(&request).unwrap().attr;
                let setgid = parent_mode & 0o2000 != 0;
                let gid = if setgid { parent_gid } else { who.gid };
                let in_group = who.uid == 0 || gid == who.gid || who.groups.contains(&gid);
                let bit = if setgid && !in_group { 0 } else { 0o2000 };
                assert_eq!((file.uid, file.gid, file.mode), (who.uid, gid, (0o775 | bit) & !umask), "{name}");
                assert_eq!((pipe.uid, pipe.gid, pipe.mode), (who.uid, gid, (0o775 | bit) & !umask), "{name}");
                let inherited = if setgid { 0o2000 } else { 0 };
                assert_eq!((folder.uid, folder.gid), (who.uid, gid), "{name}");
                assert_eq!(folder.mode, 0o775 & !umask | inherited, "{name}");
            }
        }
    }
}

#[test]
fn a_default_acl_is_inherited_and_the_umask_then_does_not_count() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let client = &brick.client;
    let parent = client.mkdir(ROOT, "parent").unwrap();
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, allowed, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(allowed.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    client.setxattr(parent, "system.posix_acl_default", &acl, XattrMode::Set).unwrap();
    let file = create(client, parent, "file", 0o666, 0o077).unwrap();
    let folder = mkdir(client, parent, "folder", 0o777, 0o077).unwrap();
    assert_eq!((file.mode, folder.mode), (0o660, 0o770));
    // What the kernel makes of the same by itself.
    std::fs::create_dir(brick.path.join("parent/by-kernel")).unwrap();
    for key in ["system.posix_acl_access", "system.posix_acl_default"] {
        let kernels = common::get_xattr(&brick.path.join("parent/by-kernel"), key).unwrap();
        let ours = client.getxattr(folder.gfid, key).unwrap();
        assert_eq!(ours[..], kernels[..], "{key}");
    }
    // The handle is no way around the ACL either.
    assert_eq!(acting(&brick, user(1000, &[])).open(file.gfid, libc::O_RDWR).map(drop), Ok(()));
    assert_eq!(acting(&brick, user(1001, &[])).open(file.gfid, libc::O_RDWR).map(drop), Err(Errno::EACCES));
}

#[test]
fn what_is_put_on_the_brick_by_hand_becomes_part_of_the_volume() {
    let brick = common::fresh();
    std::fs::create_dir_all(brick.path.join("folder/below")).unwrap();
    std::fs::write(brick.path.join("folder/below/file"), "content").unwrap();
    let open = brick.client.opendir(ROOT).unwrap();
    let listed = brick.client.list(open, 0, 4096).unwrap();
    let folder = brick.client.lookup(ROOT, "folder").unwrap();
    assert_eq!(listed[0].gfid, folder.gfid);
    let below = brick.client.lookup(folder.gfid, "below").unwrap();
    let wanted = Gfid::random();
    let request = LookupReq {
        target: Locate::Entry(entry(below.gfid, "file")),
        xdata: Xdata::EMPTY.with(&brickwork_posix::GFID_REQ, Bytes::copy_from_slice(&wanted.to_bytes())),
    };
    let file = brick.client.call::<fop::Lookup>(&request).unwrap().attr;
    assert_eq!((file.gfid, file.links), (wanted, 1));
    assert_eq!(&brick.client.content(wanted).unwrap()[..], b"content");
    if common::privileged() {
        assert_eq!(problems(&brick.path, true), [""; 0]);
    }
}

#[test]
fn a_copy_that_carries_the_gfid_of_another_object_is_refused() {
    if !common::privileged() {
        return;
    }
    let brick = common::fresh();
    let file = brick.client.put(ROOT, "file", b"content").unwrap();
    let folder = brick.client.mkdir(ROOT, "folder").unwrap();
    std::fs::write(brick.path.join("copy"), "other").unwrap();
    common::set_xattr(&brick.path.join("copy"), "trusted.gfid", &file.to_bytes()).unwrap();
    std::fs::create_dir(brick.path.join("folder-copy")).unwrap();
    common::set_xattr(&brick.path.join("folder-copy"), "trusted.gfid", &folder.to_bytes()).unwrap();
    assert_eq!(brick.client.lookup(ROOT, "copy").map(drop), Err(Errno::EIO));
    assert_eq!(brick.client.lookup(ROOT, "folder-copy").map(drop), Err(Errno::EIO));
    assert_eq!(&brick.client.content(file).unwrap()[..], b"content");
    assert!(brick.client.names(ROOT).unwrap().contains(&"file".to_owned()));
}

#[test]
fn a_gfid_in_use_is_not_given_to_a_second_object() {
    let brick = common::fresh();
    let file = brick.client.put(ROOT, "file", b"").unwrap();
    let folder = brick.client.mkdir(ROOT, "folder").unwrap();
    for gfid in [file, folder] {
        let entry = entry(ROOT, "second");
        let request = MkdirReq { entry: entry.clone(), gfid, mode: 0o755, umask: 0, xdata: Xdata::EMPTY };
        assert_eq!(brick.client.call::<fop::Mkdir>(&request).map(drop), Err(Errno::EEXIST));
        let open = brick.client.fresh_open();
        let flags = libc::O_RDWR as u32;
        let request = CreateReq { entry, gfid, open, flags, mode: 0o644, umask: 0, xdata: Xdata::EMPTY };
        assert_eq!(brick.client.call::<fop::Create>(&request).map(drop), Err(Errno::EEXIST));
        assert_eq!(brick.client.lookup(ROOT, "second").map(drop), Err(Errno::ENOENT));
    }
}

#[test]
fn a_file_has_at_most_as_many_names_as_the_option_says() {
    let brick = common::fresh_with(&[("max-hardlinks", "3")]);
    let file = brick.client.put(ROOT, "file", b"").unwrap();
    assert_eq!(brick.client.link(file, ROOT, "second").unwrap().links, 2);
    assert_eq!(brick.client.link(file, ROOT, "third").unwrap().links, 3);
    assert_eq!(brick.client.link(file, ROOT, "fourth").map(drop), Err(Errno::EMLINK));
}

#[test]
fn permissions_of_new_objects_are_masked_and_forced_as_the_options_say() {
    let brick = common::fresh_with(&[
        ("create-mask", "0640"),
        ("force-create-mode", "0001"),
        ("create-directory-mask", "0750"),
        ("force-directory-mode", "0005"),
    ]);
    assert_eq!(create(&brick.client, ROOT, "file", 0o777, 0).unwrap().mode, 0o641);
    assert_eq!(mkdir(&brick.client, ROOT, "folder", 0o777, 0).unwrap().mode, 0o755);
}

#[test]
fn below_the_reserve_nothing_grows_and_everything_shrinks() {
    let brick = common::fresh();
    let file = brick.client.create(ROOT, "file").unwrap();
    brick.client.write(file, 0, b"content").unwrap();
    let options = |reserve: &str| {
        [("directory", brick.path.to_str().unwrap()), ("health-check-interval", "0"), ("reserve", reserve)]
            .into_iter()
            .collect()
    };
    brick.xlator.reconfigure(&options("100%")).unwrap();
    wait_for(|| brick.xlator.status()["below-reserve"] == true);
    assert_eq!(brick.client.create(ROOT, "new").map(drop), Err(Errno::ENOSPC));
    assert_eq!(brick.client.mkdir(ROOT, "new").map(drop), Err(Errno::ENOSPC));
    assert_eq!(brick.client.write(file, 7, b"more"), Err(Errno::ENOSPC));
    assert_eq!(brick.client.write(file, 0, b"CONTENT"), Ok(7));
    let mode = FallocateMode::Allocate { keep_size: false };
    assert_eq!(brick.client.fallocate(file, mode, 0, 4096), Err(Errno::ENOSPC));
    brick.client.rename((ROOT, "file"), (ROOT, "renamed"), RenameMode::Replace).unwrap();
    brick.client.truncate(file, 1).unwrap();
    brick.client.unlink(ROOT, "renamed").unwrap();
    brick.xlator.reconfigure(&options("0")).unwrap();
    wait_for(|| brick.xlator.status()["below-reserve"] == false);
    brick.client.mkdir(ROOT, "new").unwrap();
}

/// Waits for what another thread was told to do.
fn wait_for(done: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(20), "it did not happen in 20 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_file_system_that_fails_takes_the_brick_down_and_up_again() {
    let brick = common::fresh_with(&[("health-check-interval", "100ms"), ("health-check-timeout", "5")]);
    let file = brick.path.join(".glusterfs/brickwork/health_check");
    wait_for(|| file.exists());
    let next = || brick.events.lock().recv_timeout(Duration::from_secs(20)).expect("an event");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    match next() {
        Event::ChildDown { reason } => assert!(reason.contains("health_check"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(brick.xlator.status()["health"], "bad");
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(next(), Event::ChildUp);
}

#[test]
fn one_process_serves_a_brick_and_shares_it_among_its_graphs() {
    let folder = common::folder();
    let first = common::serve(folder.path());
    let file = first.client.create(ROOT, "file").unwrap();
    // A graph that is loaded beside the running one: what is open stays open.
    let second = common::serve(folder.path());
    let mut client = Client::new(Arc::clone(&second.xlator));
    client.cx.request.client = first.client.cx.request.client;
    assert_eq!(client.write(file, 0, b"content"), Ok(7));
    drop(first);
    assert_eq!(&client.read(file, 0, 10).unwrap()[..], b"content");
    assert!(brickwork_posix::detach(folder.path()).unwrap_err().to_string().contains("is served by another process"));
}

#[test]
fn what_cannot_be_a_brick_is_refused_with_the_reason() {
    let folder = common::folder();
    let missing = folder.path().join("missing");
    let refused = |path: &std::path::Path, options: &[(&str, &str)]| common::serve_with(path, options).err().unwrap();
    assert!(refused(&missing, &[]).ends_with("missing` does not exist"));
    std::fs::write(&missing, "").unwrap();
    assert!(refused(&missing, &[]).ends_with("missing` is not a directory"));
    let volume = ("volume-id", "090bf5b4-f474-4c64-8dc9-8544370860e3");
    let fresh = folder.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    drop(common::serve_with(&fresh, &[volume]).unwrap());
    drop(common::serve_with(&fresh, &[volume]).unwrap());
    let other = [("volume-id", "00000000-0000-4000-8000-000000000000")];
    assert!(refused(&fresh, &other).contains("belongs to volume 090bf5b4"));
    let plain = folder.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    drop(common::serve(&plain));
    assert!(refused(&plain, &[volume]).ends_with("is its disk mounted?"));
    let brick = common::serve(&plain);
    let inside = brick.client.mkdir(ROOT, "inside").unwrap();
    assert!(refused(&plain.join("inside"), &[]).contains(&format!("its gfid is {inside}")));
}

#[test]
fn set_id_bits_go_when_the_request_says_so() {
    let brick = common::fresh();
    let client = &brick.client;
    let file = client.create(ROOT, "file").unwrap();
    let with_bits = || client.setattr(file.gfid, mode(0o6755)).unwrap();
    with_bits();
    client.write(file, 0, b"x").unwrap();
    assert_eq!(client.stat(file.gfid).unwrap().mode, 0o6755);
    let data = Bytes::from_static(b"x");
    let write = WriteReq { file, offset: 0, data, append: false, kill_set_id: true, xdata: Xdata::EMPTY };
    client.call::<fop::Write>(&write).unwrap();
    assert_eq!(client.stat(file.gfid).unwrap().mode, 0o755);
    with_bits();
    let request = TruncateReq { target: file.into(), size: 0, kill_set_id: true, xdata: Xdata::EMPTY };
    assert_eq!(client.call::<fop::Truncate>(&request).unwrap().attr.mode, 0o755);
}

#[test]
fn direct_transfers_that_the_device_cannot_do_are_done_all_the_same() {
    let brick = common::fresh();
    let client = &brick.client;
    let gfid = client.put(ROOT, "file", &[7; 10_000]).unwrap();
    let file = client.open(gfid, libc::O_RDWR | libc::O_DIRECT).unwrap();
    assert_eq!(&client.read(file, 4096, 4096).unwrap()[..], [7; 4096]);
    assert_eq!(&client.read(file, 3, 5).unwrap()[..], [7; 5]);
    assert_eq!(client.read(file, 8192, 4096).unwrap().len(), 10_000 - 8192);
    assert_eq!(client.write(file, 1, b"xyz"), Ok(3));
    assert_eq!(&client.read(file, 0, 5).unwrap()[..], b"\x07xyz\x07");
}

#[test]
fn large_and_cold_reads_are_whole() {
    let brick = common::fresh();
    let content: Vec<u8> = (0..3_000_001_u32).map(|number| (number / 7) as u8).collect();
    let gfid = brick.client.put(ROOT, "file", &content).unwrap();
    let file = brick.client.open(gfid, libc::O_RDONLY).unwrap();
    let on_disk = std::fs::File::open(brick.path.join("file")).unwrap();
    on_disk.sync_all().unwrap();
    for round in 0..2 {
        rustix::fs::fadvise(&on_disk, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let mut read = Vec::new();
        while read.len() < content.len() {
            let part = brick.client.read(file, read.len() as u64, 1 << 20).unwrap();
            assert!(!part.is_empty());
            read.extend_from_slice(&part);
        }
        assert!(read == content, "round {round}");
    }
    let mut byte = [0];
    on_disk.read_exact_at(&mut byte, 3_000_000).unwrap();
    assert_eq!(byte[0], content[3_000_000]);
    assert_eq!(on_disk.metadata().unwrap().size(), 3_000_001);
}

#[test]
fn the_brick_says_that_its_timestamps_tell_changes_apart_where_they_do() {
    let brick = common::fresh();
    let request = StatfsReq { gfid: ROOT, xdata: Xdata::EMPTY };
    let reply = brick.client.call::<fop::Statfs>(&request).unwrap();
    let said = reply.xdata.get(&xdata::FINE_TIMESTAMPS).unwrap() == Some(true);
    let file = brick.client.create(ROOT, "file").unwrap();
    let mut last = brick.client.stat(file).unwrap().changed;
    let mut distinct = true;
    for _ in 0..1_000 {
        brick.client.write(file, 0, b"x").unwrap();
        let next = brick.client.stat(file).unwrap().changed;
        distinct &= next > last;
        last = next;
    }
    assert!(distinct || !said);
}

//! What applications do with files, on a mount of a file system in memory.

mod common;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use brickwork_api::{
    Cx, FopKind, FopResult, GetxattrReply, GetxattrReq, Route, SetxattrReply, SetxattrReq, XattrName, Xlator,
    async_trait,
};
use brickwork_testkit::MemoryLeaf;
use common::{Rig, rounds};
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags, SeekFrom as At, XattrFlags};
use rustix::io::Errno;

#[test]
fn a_file_has_what_was_written_and_its_attributes_change_as_they_should() {
    let Some(rig) = Rig::memory("") else { return };
    let path = rig.path().join("file");
    fs::write(&path, b"hello world").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hello world");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&path, Some(7), Some(8)).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid(), found.len()), (0o640, 7, 8, 11));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(5).unwrap();
    let past = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    file.set_modified(past).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!((found.len(), found.modified().unwrap()), (5, past));
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn names_links_and_renames_behave_as_on_any_file_system() {
    let Some(rig) = Rig::memory("") else { return };
    names_and_renames(&rig.path());
}

fn names_and_renames(root: &Path) {
    let (a, b, c) = (root.join("a"), root.join("b"), root.join("c"));
    fs::write(&a, b"a").unwrap();
    fs::write(&b, b"b").unwrap();
    let rename = |flags| rustix::fs::renameat_with(CWD, &a, CWD, &b, flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"b".to_vec(), b"a".to_vec()));
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));
    fs::hard_link(&a, &c).unwrap();
    assert_eq!(
        (fs::metadata(&c).unwrap().nlink(), fs::metadata(&a).unwrap().ino()),
        (2, fs::metadata(&c).unwrap().ino())
    );
    let open = File::open(&b).unwrap();
    fs::rename(&a, &b).unwrap();
    let mut old = String::new();
    (&open).read_to_string(&mut old).unwrap();
    assert_eq!((old.as_str(), fs::read(&b).unwrap()), ("a", b"b".to_vec()));
    symlink("some/where", root.join("link")).unwrap();
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("some/where"));
    let long = root.join("n".repeat(256));
    assert_eq!(fs::metadata(&long).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    rustix::fs::mknodat(CWD, root.join("pipe"), rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
    assert!(fs::metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    let device = libc::makedev(8, 70_000);
    rustix::fs::mknodat(CWD, root.join("disk"), rustix::fs::FileType::BlockDevice, Mode::from(0o600), device).unwrap();
    assert_eq!(fs::metadata(root.join("disk")).unwrap().rdev(), device);
    fs::create_dir_all(root.join("d/e")).unwrap();
    assert_eq!(fs::remove_dir(root.join("d")).unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
    fs::rename(root.join("d/e"), root.join("e")).unwrap();
    let up = fs::metadata(root.join("e/..")).unwrap().ino();
    assert_eq!(up, fs::metadata(root).unwrap().ino());
    assert_eq!(listed_parent(&root.join("e")), up);
    fs::remove_dir(root.join("d")).unwrap();
}

/// The inode number that the listing of `directory` shows for `..`.
fn listed_parent(directory: &Path) -> u64 {
    let open = File::open(directory).unwrap();
    let mut entries = rustix::fs::Dir::read_from(&open).unwrap();
    entries.find_map(|entry| entry.ok().filter(|entry| entry.file_name() == c"..")).unwrap().ino()
}

#[test]
fn the_umask_and_set_id_bits_are_the_bricks_to_apply() {
    let Some(rig) = Rig::memory("") else { return };
    let path = rig.path().join("tool");
    let made = OpenOptions::new().write(true).create_new(true).mode(0o6777).open(&path).unwrap();
    let asked = rig.recorder.take().into_iter().find(|seen| seen.fop == FopKind::Create).unwrap();
    assert!(asked.request.contains("umask: 18"), "{}", asked.request);
    assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o755);
}

#[test]
fn holes_are_found_punched_and_copied() {
    let Some(rig) = Rig::memory("") else { return };
    let (a, b) = (rig.path().join("a"), rig.path().join("b"));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&a).unwrap();
    file.write_all_at(&[7; 4096], 1 << 20).unwrap();
    assert_eq!(rustix::fs::seek(&file, At::Data(0)).unwrap(), 1 << 20);
    assert_eq!(rustix::fs::seek(&file, At::Hole(1 << 20)).unwrap(), (1 << 20) + 4096);
    assert_eq!(rustix::fs::seek(&file, At::Data(2 << 20)), Err(Errno::NXIO));
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 1 << 20, 1024).unwrap();
    let mut bytes = [1; 2048];
    file.read_exact_at(&mut bytes, 1 << 20).unwrap();
    assert_eq!((bytes[..1024].iter().max(), bytes[1024..].iter().min()), (Some(&0), Some(&7)));
    let copy = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&b).unwrap();
    let (mut from, mut to) = (1 << 20, 10);
    assert_eq!(rustix::fs::copy_file_range(&file, Some(&mut from), &copy, Some(&mut to), 4096).unwrap(), 4096);
    assert!(rig.recorder.count(FopKind::CopyFileRange) > 0, "the copy was to be done below");
    assert_eq!(fs::metadata(&b).unwrap().len(), 4106);
    file.seek(SeekFrom::Start(0)).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn xattrs_keep_the_protocol_of_sizes() {
    let Some(rig) = Rig::memory("") else { return };
    let path = rig.path().join("x");
    fs::write(&path, b"").unwrap();
    let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&path, name, value, flags);
    set("user.one", b"value", XattrFlags::CREATE).unwrap();
    assert_eq!(set("user.one", b"other", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.two", b"other", XattrFlags::REPLACE), Err(Errno::NODATA));
    set("user.empty", b"", XattrFlags::empty()).unwrap();
    let c_path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let result = |length: isize| match length {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        length => Ok(length.cast_unsigned()),
    };
    let get = |name: &str, room: usize| {
        let (name, mut buffer) = (CString::new(name).unwrap(), vec![0_u8; room]);
        // SAFETY: both names end with a NUL, and the buffer has `room` bytes.
        result(unsafe { libc::getxattr(c_path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), room) })
    };
    assert_eq!(get("user.one", 0), Ok(5));
    assert_eq!(get("user.one", 4), Err(libc::ERANGE));
    assert_eq!(get("user.one", 5), Ok(5));
    assert_eq!(get("user.none", 5), Err(libc::ENODATA));
    assert_eq!(get("user.empty", 0), Ok(0));
    let list = |room: usize| {
        let mut buffer = vec![0_u8; room];
        // SAFETY: the path ends with a NUL, and the buffer has `room` bytes.
        result(unsafe { libc::listxattr(c_path.as_ptr(), buffer.as_mut_ptr().cast(), room) })
    };
    let whole = list(0).unwrap();
    assert_eq!(whole, "user.one\0user.empty\0".len());
    assert_eq!(list(whole - 1), Err(libc::ERANGE));
    assert_eq!(list(whole), Ok(whole));
    rustix::fs::removexattr(&path, "user.one").unwrap();
    assert_eq!(rustix::fs::removexattr(&path, "user.one"), Err(Errno::NODATA));
}

/// Keeps ACLs in a leaf that has none, as attributes of another name.
struct AclsAsXattrs(Arc<dyn Xlator>);

fn stored(name: &XattrName) -> XattrName {
    match name.as_bytes().strip_prefix(b"system.") {
        Some(rest) => XattrName::new(&[b"user.", rest].concat()).unwrap(),
        None => name.clone(),
    }
}

#[async_trait]
impl Xlator for AclsAsXattrs {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.0)
    }

    async fn getxattr(&self, cx: &Cx, req: &GetxattrReq) -> FopResult<GetxattrReply> {
        self.0.getxattr(cx, &GetxattrReq { name: stored(&req.name), ..req.clone() }).await
    }

    async fn setxattr(&self, cx: &Cx, req: &SetxattrReq) -> FopResult<SetxattrReply> {
        self.0.setxattr(cx, &SetxattrReq { name: stored(&req.name), ..req.clone() }).await
    }
}

#[test]
fn an_acl_comes_back_as_it_was_set_and_the_kernel_checks_by_it() {
    let leaf = AclsAsXattrs(Arc::new(MemoryLeaf::new()));
    let Some(rig) = Rig::over(Arc::new(leaf), "", false) else { return };
    let path = rig.path().join("x");
    fs::write(&path, b"secret").unwrap();
    // The bits of the group are the mask, as a leaf that knows ACLs would set them.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    // Version 2: owner rw, user 4242 r, group none, mask r, others none.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, rights, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 4242), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&rights.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    rustix::fs::setxattr(&path, "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    let mut found = [0; 100];
    let length = rustix::fs::getxattr(&path, "system.posix_acl_access", &mut found[..]).unwrap();
    assert_eq!(found[..length], acl);
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cat = |uid: u32| {
        let mut command = std::process::Command::new("cat");
        std::os::unix::process::CommandExt::uid(&mut command, uid);
        std::os::unix::process::CommandExt::gid(&mut command, 4243);
        command.arg(&path).stderr(std::process::Stdio::null()).output().unwrap()
    };
    assert_eq!(cat(4242).stdout, b"secret", "the ACL lets this user read");
    assert!(!cat(4244).status.success(), "and nobody else");
}

#[test]
fn a_listing_of_many_names_has_each_exactly_once_with_and_without_attributes() {
    let count = rounds(10_000);
    for words in ["readdirplus=off", "readdirplus=on"] {
        let Some(rig) = Rig::memory(words) else { return };
        let names: Vec<String> = (0..count).map(|number| format!("{number}-{}", "x".repeat(number % 200))).collect();
        names.iter().for_each(|name| drop(File::create_new(rig.path().join(name)).unwrap()));
        rig.recorder.take();
        let mut listed: Vec<String> = Vec::new();
        let mut entries = rustix::fs::Dir::read_from(File::open(rig.path()).unwrap()).unwrap();
        let mut walk = |entries: &mut rustix::fs::Dir| {
            listed.clear();
            listed.extend(entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()));
            listed.retain(|name| name != "." && name != "..");
            listed.sort_unstable();
            listed.clone()
        };
        let mut expected = names.clone();
        expected.sort_unstable();
        assert_eq!(walk(&mut entries), expected);
        fs::remove_file(rig.path().join(&names[0])).unwrap();
        expected.retain(|name| *name != names[0]);
        entries.rewind();
        assert_eq!(walk(&mut entries), expected, "a rewound listing starts anew");
        let plus = rig.recorder.count(FopKind::Readdirplus);
        assert_eq!(plus > 0, words == "readdirplus=on", "{words}: {plus} with attributes");
    }
}

#[test]
fn a_listing_asks_the_graph_for_no_entry_twice() {
    let Some(rig) = Rig::memory("readdirplus=off") else { return };
    for number in 0..500 {
        File::create_new(rig.path().join(format!("{number}-{}", "n".repeat(100)))).unwrap();
    }
    rig.recorder.take();
    assert_eq!(fs::read_dir(rig.path()).unwrap().count(), 500);
    let mut offsets: Vec<String> = rig
        .recorder
        .take()
        .into_iter()
        .filter(|seen| seen.fop == FopKind::Readdir)
        .map(|seen| seen.request.split("offset: ").nth(1).unwrap().split(',').next().unwrap().to_owned())
        .collect();
    let asked = offsets.len();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), asked, "an offset was asked for twice");
}

#[test]
fn a_mapped_file_and_its_reads_and_writes_are_one_whether_cached_or_not() {
    for words in ["direct-io=off", "direct-io=on"] {
        let Some(rig) = Rig::memory(words) else { return };
        shared_map(&rig.path().join("mapped"));
    }
}

fn shared_map(path: &Path) {
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
    let length = 3 * 4096;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(length as u64).unwrap();
    // SAFETY: a fresh mapping at an address of the kernel's choice, unmapped below; nobody shortens the file.
    let start = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        rustix::mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, &file, 0).unwrap()
    };
    // SAFETY: the mapping has `length` bytes and this is the only reference into it.
    let memory = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), length) };
    memory[4090..4100].copy_from_slice(b"0123456789");
    // SAFETY: the mapping is ours.
    unsafe { rustix::mm::msync(start, length, MsyncFlags::SYNC).unwrap() };
    let mut bytes = [0; 10];
    file.read_exact_at(&mut bytes, 4090).unwrap();
    assert_eq!(&bytes, b"0123456789");
    // SAFETY: the mapping is ours and `memory` is not used after this.
    unsafe { rustix::mm::munmap(start, length).unwrap() };
    drop(file);
    assert_eq!(fs::read(path).unwrap()[4090..4100], *b"0123456789");
}

#[test]
fn a_megabyte_written_at_once_is_one_fop_and_no_question_before_each_write() {
    for words in ["direct-io=off", "direct-io=on"] {
        let Some(rig) = Rig::memory(words) else { return };
        let file = File::create_new(rig.path().join("big")).unwrap();
        rig.recorder.take();
        // Direct I/O by the page: unaligned, a megabyte has one page more than a request.
        let room = vec![5; (1 << 20) + 4096];
        let data = &room[room.as_ptr().align_offset(4096)..][..1 << 20];
        assert_eq!(rustix::io::write(&file, data).unwrap(), data.len());
        assert_eq!(rig.recorder.count(FopKind::Write), 1, "{words}");
        rig.recorder.take();
        for _ in 0..100 {
            assert_eq!(rustix::io::write(&file, &data[..4096]).unwrap(), 4096);
        }
        let seen = rig.recorder.take();
        assert_eq!(seen.iter().filter(|seen| seen.fop == FopKind::Write).count(), 100);
        assert!(seen.len() <= 102, "{words}: {} fops for 100 writes", seen.len());
    }
}

#[test]
fn a_direct_read_is_one_fop() {
    let Some(rig) = Rig::memory("direct-io=off") else { return };
    let path = rig.path().join("x");
    fs::write(&path, [3; 8192]).unwrap();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let mut room = vec![0; 3 * 4096];
    let start = room.as_ptr().align_offset(4096);
    rig.recorder.take();
    for _ in 0..10 {
        file.read_exact_at(&mut room[start..][..8192], 0).unwrap();
    }
    let seen: Vec<FopKind> = rig.recorder.take().into_iter().map(|seen| seen.fop).collect();
    assert_eq!(seen, [FopKind::Read; 10]);
    assert_eq!(room[start..][..8192], [3; 8192]);
}

#[test]
fn a_file_without_a_name_and_controls_nobody_has_are_refused_as_linux_says() {
    let Some(rig) = Rig::memory("") else { return };
    let made = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(rig.path());
    assert_eq!(made.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    let file = File::create_new(rig.path().join("x")).unwrap();
    assert_eq!(rustix::termios::tcgetattr(&file).unwrap_err(), Errno::NOTTY);
    assert_eq!(rustix::fs::accessat(CWD, rig.path().join("x"), rustix::fs::Access::WRITE_OK, AtFlags::empty()), Ok(()));
}

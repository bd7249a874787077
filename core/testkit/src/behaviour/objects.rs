//! Attributes, extended attributes, and the space of the whole.

use brickwork_api::*;

use crate::client::{Client, entry, xattr};

super::promises! {
    setattr_sets_what_is_asked_and_nothing_else
    setattr_of_a_symlink_is_of_the_link_itself
    creation_applies_the_umask
    pipes_and_sockets_are_created_with_their_kind
    mknod_creates_an_empty_regular_file
    set_group_id_directory_hands_its_group_on
    write_that_kills_set_id_takes_the_bits_away
    open_that_empties_and_kills_set_id_takes_the_bits_away
    xattr_is_read_back_listed_and_removed
    xattr_modes_answer_eexist_and_enodata
    xattr_can_be_empty
    xattr_is_found_through_an_open_file
    xattrop_adds_to_what_is_stored
    access_asks_for_existence_and_rights
    statfs_counts_what_is_there
    forget_and_release_of_the_unknown_succeed
}

const ROOT: Gfid = Gfid::ROOT;
const CAFE: &str = "user.caf\u{e9}";

fn setattr_sets_what_is_asked_and_nothing_else(c: &Client) {
    let gfid = c.put(ROOT, "file", b"123").unwrap();
    let before = c.stat(gfid).unwrap();
    let time = Timespec { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
    let change = AttrChange { accessed: Some(SetTime::To(time)), ..AttrChange::default() };
    let after = c.setattr(gfid, change).unwrap();
    assert!(after.changed >= before.changed);
    assert_eq!(after, Attr { accessed: time, changed: after.changed, ..before });
    let modified = after.modified;
    let after = c.setattr(gfid, AttrChange { mode: Some(0o4751), ..AttrChange::default() }).unwrap();
    assert_eq!((after.mode, after.modified), (0o4751, modified));
    assert_eq!(c.stat(gfid).unwrap(), after);
}

fn setattr_of_a_symlink_is_of_the_link_itself(c: &Client) {
    let file = c.put(ROOT, "file", b"").unwrap();
    let link = c.symlink(ROOT, "link", b"file").unwrap().gfid;
    let before = c.stat(file).unwrap();
    let time = Timespec { seconds: 42, nanoseconds: 0 };
    let change = AttrChange { modified: Some(SetTime::To(time)), ..AttrChange::default() };
    assert_eq!(c.setattr(link, change).unwrap().modified, time);
    assert_eq!(c.stat(file).unwrap(), before);
}

fn creation_applies_the_umask(c: &Client) {
    let (gfid, xdata) = (Gfid::random(), Xdata::EMPTY);
    let request = MkdirReq { entry: entry(ROOT, "directory"), gfid, mode: 0o777, umask: 0o027, xdata };
    assert_eq!(c.call::<fop::Mkdir>(&request).unwrap().attr.mode, 0o750);
}

fn pipes_and_sockets_are_created_with_their_kind(c: &Client) {
    let pipe = c.mknod(ROOT, "pipe", libc::S_IFIFO | 0o640).unwrap();
    assert_eq!((pipe.kind, pipe.mode), (FileKind::Fifo, 0o640));
    let socket = c.mknod(ROOT, "socket", libc::S_IFSOCK | 0o600).unwrap();
    assert_eq!(c.lookup(ROOT, "socket").unwrap(), socket);
    assert_eq!(socket.kind, FileKind::Socket);
}

fn mknod_creates_an_empty_regular_file(c: &Client) {
    let attr = c.mknod(ROOT, "file", libc::S_IFREG | 0o600).unwrap();
    assert_eq!((attr.kind, attr.size, attr.mode), (FileKind::File, 0, 0o600));
    let file = c.open(attr.gfid, libc::O_RDWR).unwrap();
    c.write(file, 0, b"x").unwrap();
    c.release(file).unwrap();
}

fn set_group_id_directory_hands_its_group_on(c: &Client) {
    let parent = c.mkdir(ROOT, "parent").unwrap();
    let change = AttrChange { mode: Some(0o2775), ..AttrChange::default() };
    let group = c.setattr(parent, change).unwrap().gid;
    let child = c.mkdir(parent, "child").unwrap();
    let attr = c.stat(child).unwrap();
    assert_eq!((attr.mode & 0o2000, attr.gid), (0o2000, group));
    let file = c.put(parent, "file", b"").unwrap();
    assert_eq!((c.stat(file).unwrap().mode & 0o2000, c.stat(file).unwrap().gid), (0, group));
}

fn write_that_kills_set_id_takes_the_bits_away(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.setattr(file, AttrChange { mode: Some(0o6755), ..AttrChange::default() }).unwrap();
    let data = Bytes::from_static(b"x");
    c.call::<fop::Write>(&WriteReq { file, offset: 0, data, append: false, kill_set_id: true, xdata: Xdata::EMPTY })
        .unwrap();
    assert_eq!(c.stat(file).unwrap().mode, 0o755);
    c.release(file).unwrap();
}

fn open_that_empties_and_kills_set_id_takes_the_bits_away(c: &Client) {
    let gfid = c.put(ROOT, "file", b"content").unwrap();
    c.setattr(gfid, AttrChange { mode: Some(0o6755), ..AttrChange::default() }).unwrap();
    let file = OpenFile { gfid, open: c.fresh_open() };
    let flags = (libc::O_WRONLY | libc::O_TRUNC) as u32;
    c.call::<fop::Open>(&OpenReq { file, flags, kill_set_id: true, xdata: Xdata::EMPTY }).unwrap();
    let attr = c.stat(file).unwrap();
    assert_eq!((attr.size, attr.mode), (0, 0o755));
    c.release(file).unwrap();
}

fn xattr_is_read_back_listed_and_removed(c: &Client) {
    let gfid = c.mkdir(ROOT, "directory").unwrap();
    let value = [0, 1, 0xff, b'\n'];
    c.setxattr(gfid, "user.binary", &value, XattrMode::Set).unwrap();
    c.setxattr(gfid, CAFE, b"text", XattrMode::Set).unwrap();
    assert_eq!(c.getxattr(gfid, "user.binary").unwrap()[..], value);
    let listed = c.listxattr(gfid).unwrap();
    let ours: Vec<&String> = listed.iter().filter(|name| name.starts_with("user.")).collect();
    assert_eq!(ours, ["user.binary", CAFE]);
    c.removexattr(gfid, "user.binary").unwrap();
    assert_eq!(c.getxattr(gfid, "user.binary"), Err(Errno::ENODATA));
    assert_eq!(c.removexattr(gfid, "user.binary"), Err(Errno::ENODATA));
}

fn xattr_modes_answer_eexist_and_enodata(c: &Client) {
    let gfid = c.put(ROOT, "file", b"").unwrap();
    assert_eq!(c.setxattr(gfid, "user.a", b"1", XattrMode::Replace), Err(Errno::ENODATA));
    c.setxattr(gfid, "user.a", b"1", XattrMode::Create).unwrap();
    assert_eq!(c.setxattr(gfid, "user.a", b"2", XattrMode::Create), Err(Errno::EEXIST));
    c.setxattr(gfid, "user.a", b"3", XattrMode::Replace).unwrap();
    assert_eq!(c.getxattr(gfid, "user.a").unwrap()[..], *b"3");
}

fn xattr_can_be_empty(c: &Client) {
    let gfid = c.put(ROOT, "file", b"").unwrap();
    c.setxattr(gfid, "user.empty", b"", XattrMode::Set).unwrap();
    assert_eq!(c.getxattr(gfid, "user.empty"), Ok(Bytes::new()));
}

fn xattr_is_found_through_an_open_file(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.setxattr(file, "user.a", b"1", XattrMode::Set).unwrap();
    c.unlink(ROOT, "file").unwrap();
    assert_eq!(c.getxattr(file, "user.a").unwrap()[..], *b"1");
    c.release(file).unwrap();
}

fn xattrop_adds_to_what_is_stored(c: &Client) {
    let gfid = c.put(ROOT, "file", b"").unwrap();
    let values = vec![(xattr("user.counter"), Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0, 0xff]))];
    let request = XattropReq { target: gfid.into(), kind: XattropKind::Add32, values, xdata: Xdata::EMPTY };
    c.call::<fop::Xattrop>(&request).unwrap();
    let reply = c.call::<fop::Xattrop>(&request).unwrap();
    assert_eq!(reply.values[0].1[..], [0, 0, 0, 2, 0, 0, 1, 0xfe]);
    assert_eq!(c.getxattr(gfid, "user.counter").unwrap(), reply.values[0].1);
}

fn access_asks_for_existence_and_rights(c: &Client) {
    let gfid = c.put(ROOT, "file", b"").unwrap();
    for mask in [0, 4, 2, 6] {
        c.call::<fop::Access>(&AccessReq { gfid, mask, xdata: Xdata::EMPTY }).unwrap();
    }
    let missing = AccessReq { gfid: Gfid::random(), mask: 0, xdata: Xdata::EMPTY };
    assert_eq!(c.call::<fop::Access>(&missing).map(drop), Err(Errno::ESTALE));
}

fn statfs_counts_what_is_there(c: &Client) {
    let stat = c.call::<fop::Statfs>(&StatfsReq { gfid: ROOT, xdata: Xdata::EMPTY }).unwrap().stat;
    assert!(stat.blocks > 0 && stat.blocks_free <= stat.blocks && stat.blocks_available <= stat.blocks_free);
    assert!(stat.fragment_size.is_power_of_two());
    assert!(stat.name_max >= 255);
}

fn forget_and_release_of_the_unknown_succeed(c: &Client) {
    c.call::<fop::Forget>(&ForgetReq { gfids: vec![Gfid::random()], xdata: Xdata::EMPTY }).unwrap();
    let file = OpenFile { gfid: Gfid::random(), open: c.fresh_open() };
    assert_eq!(c.release(file), Ok(()));
    assert_eq!(c.releasedir(file), Ok(()));
}

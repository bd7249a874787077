//! Content: what was written is read, what was not is zeros.

use brickwork_api::*;

use crate::client::Client;

super::promises! {
    what_was_written_is_read_back
    read_past_the_end_is_empty_and_across_it_is_short
    hole_between_two_writes_reads_as_zeros
    write_of_a_mebibyte_comes_back_whole
    append_writes_at_the_end_whatever_the_offset_says
    open_with_truncation_empties_the_file
    truncate_cuts_and_grows_with_zeros
    unlinked_file_lives_until_its_last_open_is_released
    opens_of_one_file_see_each_others_writes
    same_open_id_of_two_clients_is_two_opens
    open_without_the_right_to_write_answers_ebadf_to_write
    released_open_answers_ebadf
    open_of_a_directory_for_writing_answers_eisdir
    write_changes_mtime_and_size_and_setattr_does_not_change_content
    allocation_grows_the_file_unless_it_keeps_the_size
    punched_hole_reads_as_zeros_and_keeps_the_length
    zeroed_range_reads_as_zeros
    collapse_cuts_the_range_out
    seek_finds_data_and_the_end_counts_as_a_hole
    copy_file_range_copies_and_stops_at_the_end
    flush_fsync_and_release_succeed_on_an_open_file
}

const ROOT: Gfid = Gfid::ROOT;

/// Whether the file system below cannot do it, which is allowed.
fn unsupported<T: std::fmt::Debug>(answer: &Result<T, Errno>) -> bool {
    matches!(answer, Err(Errno::EOPNOTSUPP))
}

fn what_was_written_is_read_back(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    assert_eq!(c.write(file, 0, b"hello world"), Ok(11));
    assert_eq!(c.write(file, 6, b"there"), Ok(5));
    assert_eq!(c.read(file, 0, 100).unwrap()[..], *b"hello there");
    assert_eq!(c.read(file, 6, 3).unwrap()[..], *b"the");
    c.release(file).unwrap();
    assert_eq!(c.content(file.gfid).unwrap()[..], *b"hello there");
}

fn read_past_the_end_is_empty_and_across_it_is_short(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.write(file, 0, b"12345").unwrap();
    assert_eq!(c.read(file, 3, 100).unwrap()[..], *b"45");
    assert!(c.read(file, 5, 100).unwrap().is_empty());
    assert!(c.read(file, 1 << 40, 100).unwrap().is_empty());
    c.release(file).unwrap();
}

fn hole_between_two_writes_reads_as_zeros(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.write(file, 0, b"a").unwrap();
    c.write(file, 100_000, b"b").unwrap();
    let content = c.read(file, 0, 200_000).unwrap();
    assert_eq!(content.len(), 100_001);
    assert_eq!((content[0], content[100_000]), (b'a', b'b'));
    assert!(content[1..100_000].iter().all(|byte| *byte == 0));
    assert_eq!(c.stat(file).unwrap().size, 100_001);
    c.release(file).unwrap();
}

fn write_of_a_mebibyte_comes_back_whole(c: &Client) {
    let data: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = c.create(ROOT, "file").unwrap();
    assert_eq!(c.write(file, 0, &data), Ok(1 << 20));
    assert!(c.read(file, 0, 1 << 20).unwrap() == data, "the content differs");
    assert!(c.read(file, 4095, 8194).unwrap() == data[4095..4095 + 8194], "a range across pages differs");
    c.release(file).unwrap();
}

fn append_writes_at_the_end_whatever_the_offset_says(c: &Client) {
    let gfid = c.put(ROOT, "log", b"one ").unwrap();
    let log = c.open(gfid, libc::O_WRONLY | libc::O_APPEND).unwrap();
    assert_eq!(c.append(log, 0, b"two "), Ok(4));
    assert_eq!(c.append(log, 1 << 30, b"three"), Ok(5));
    // A page of a mapping is written through the same open, and in place.
    assert_eq!(c.write(log, 0, b"ONE"), Ok(3));
    c.release(log).unwrap();
    assert_eq!(c.content(gfid).unwrap()[..], *b"ONE two three");
}

fn open_with_truncation_empties_the_file(c: &Client) {
    let gfid = c.put(ROOT, "file", b"content").unwrap();
    let file = c.open(gfid, libc::O_RDWR | libc::O_TRUNC).unwrap();
    assert_eq!(c.stat(file).unwrap().size, 0);
    c.release(file).unwrap();
}

fn truncate_cuts_and_grows_with_zeros(c: &Client) {
    let gfid = c.put(ROOT, "file", b"123456").unwrap();
    assert_eq!(c.truncate(gfid, 3).unwrap().size, 3);
    let file = c.open(gfid, libc::O_RDWR).unwrap();
    assert_eq!(c.truncate(file, 5).unwrap().size, 5);
    assert_eq!(c.read(file, 0, 10).unwrap()[..], *b"123\0\0");
    c.release(file).unwrap();
    let directory = c.mkdir(ROOT, "directory").unwrap();
    assert_eq!(c.truncate(directory, 0), Err(Errno::EISDIR));
}

fn unlinked_file_lives_until_its_last_open_is_released(c: &Client) {
    let one = c.create(ROOT, "file").unwrap();
    let two = c.open(one.gfid, libc::O_RDONLY).unwrap();
    c.write(one, 0, b"still here").unwrap();
    assert_eq!(c.unlink(ROOT, "file"), Ok(Unnamed { gfid: one.gfid, links: 0 }));
    assert_eq!(c.lookup(ROOT, "file"), Err(Errno::ENOENT));
    c.release(one).unwrap();
    assert_eq!(c.read(two, 0, 100).unwrap()[..], *b"still here");
    assert_eq!(c.stat(two).unwrap().links, 0);
    c.release(two).unwrap();
    assert_eq!(c.stat(one.gfid), Err(Errno::ESTALE));
}

fn opens_of_one_file_see_each_others_writes(c: &Client) {
    let one = c.create(ROOT, "file").unwrap();
    let two = c.open(one.gfid, libc::O_RDWR).unwrap();
    c.write(one, 0, b"from one").unwrap();
    assert_eq!(c.read(two, 0, 100).unwrap()[..], *b"from one");
    c.truncate(two, 4).unwrap();
    assert_eq!(c.read(one, 0, 100).unwrap()[..], *b"from");
    c.release(one).unwrap();
    c.release(two).unwrap();
}

fn same_open_id_of_two_clients_is_two_opens(c: &Client) {
    let mut other = Client::new(c.xlator.clone());
    other.cx = Cx { request: other.cx.request, ..c.cx.clone() };
    let (mine, yours) = (c.create(ROOT, "mine").unwrap(), other.create(ROOT, "yours").unwrap());
    let yours = if mine.open == yours.open { yours } else { other.open(yours.gfid, libc::O_RDWR).unwrap() };
    c.write(mine, 0, b"mine").unwrap();
    c.release(mine).unwrap();
    assert_eq!(other.write(yours, 0, b"yours"), Ok(5));
    other.release(yours).unwrap();
}

fn open_without_the_right_to_write_answers_ebadf_to_write(c: &Client) {
    let gfid = c.put(ROOT, "file", b"kept").unwrap();
    let file = c.open(gfid, libc::O_RDONLY).unwrap();
    assert_eq!(c.write(file, 0, b"lost"), Err(Errno::EBADF));
    c.release(file).unwrap();
    assert_eq!(c.content(gfid).unwrap()[..], *b"kept");
}

fn released_open_answers_ebadf(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.release(file).unwrap();
    assert_eq!(c.read(file, 0, 1), Err(Errno::EBADF));
    assert_eq!(c.write(file, 0, b"x"), Err(Errno::EBADF));
}

fn open_of_a_directory_for_writing_answers_eisdir(c: &Client) {
    let directory = c.mkdir(ROOT, "directory").unwrap();
    assert_eq!(c.open(directory, libc::O_RDWR), Err(Errno::EISDIR));
}

fn write_changes_mtime_and_size_and_setattr_does_not_change_content(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    let long_ago = SetTime::To(Timespec { seconds: 1_000_000, nanoseconds: 5 });
    let change = AttrChange { modified: Some(long_ago), mode: Some(0o600), ..AttrChange::default() };
    let attr = c.setattr(file, change).unwrap();
    assert_eq!((attr.modified.seconds, attr.modified.nanoseconds, attr.mode), (1_000_000, 5, 0o600));
    c.write(file, 0, b"123").unwrap();
    let attr = c.stat(file).unwrap();
    assert!(attr.modified.seconds > 1_000_000);
    assert_eq!((attr.size, attr.mode), (3, 0o600));
    c.release(file).unwrap();
}

fn allocation_grows_the_file_unless_it_keeps_the_size(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    let kept = c.fallocate(file, FallocateMode::Allocate { keep_size: true }, 0, 8192);
    if unsupported(&kept) {
        return;
    }
    kept.unwrap();
    assert_eq!(c.stat(file).unwrap().size, 0);
    assert!(c.stat(file).unwrap().blocks >= 16, "space for 8192 bytes is set aside");
    c.fallocate(file, FallocateMode::Allocate { keep_size: false }, 4096, 4096).unwrap();
    assert_eq!(c.stat(file).unwrap().size, 8192);
    assert!(c.read(file, 0, 8192).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(c.fallocate(file, FallocateMode::Allocate { keep_size: false }, 0, 0), Err(Errno::EINVAL));
    c.release(file).unwrap();
}

/// A file of three pages of `a`, `b` and `c`.
fn three_pages(c: &Client) -> OpenFile {
    let file = c.create(ROOT, "pages").unwrap();
    let content: Vec<u8> = [b'a', b'b', b'c'].into_iter().flat_map(|byte| [byte; 4096]).collect();
    c.write(file, 0, &content).unwrap();
    file
}

fn punched_hole_reads_as_zeros_and_keeps_the_length(c: &Client) {
    let file = three_pages(c);
    let punched = c.fallocate(file, FallocateMode::PunchHole, 4000, 4192);
    if !unsupported(&punched) {
        punched.unwrap();
        let content = c.read(file, 0, 1 << 16).unwrap();
        assert_eq!(content.len(), 3 * 4096);
        assert!(content[..4000].iter().all(|byte| *byte == b'a'));
        assert!(content[4000..8192].iter().all(|byte| *byte == 0));
        assert!(content[8192..].iter().all(|byte| *byte == b'c'));
        let request = DiscardReq { file, offset: 8192, length: 1 << 20, xdata: Xdata::EMPTY };
        c.call::<fop::Discard>(&request).unwrap();
        assert_eq!(c.read(file, 8192, 8192).unwrap()[..], [0; 4096]);
    }
    c.release(file).unwrap();
}

fn zeroed_range_reads_as_zeros(c: &Client) {
    let file = three_pages(c);
    let zeroed = c.fallocate(file, FallocateMode::ZeroRange { keep_size: false }, 8192, 8192);
    if !unsupported(&zeroed) {
        zeroed.unwrap();
        assert_eq!(c.stat(file).unwrap().size, 16_384);
        assert!(c.read(file, 8192, 8192).unwrap().iter().all(|byte| *byte == 0));
    }
    let request = ZerofillReq { file, offset: 0, length: 1, xdata: Xdata::EMPTY };
    let filled = c.call::<fop::Zerofill>(&request);
    if !unsupported(&filled) {
        filled.unwrap();
        assert_eq!(c.read(file, 0, 2).unwrap()[..], *b"\0a");
    }
    c.release(file).unwrap();
}

fn collapse_cuts_the_range_out(c: &Client) {
    let file = three_pages(c);
    let collapsed = c.fallocate(file, FallocateMode::CollapseRange, 4096, 4096);
    if !unsupported(&collapsed) {
        collapsed.unwrap();
        assert_eq!(c.stat(file).unwrap().size, 8192);
        assert_eq!(c.read(file, 4095, 2).unwrap()[..], *b"ac");
    }
    c.release(file).unwrap();
}

fn seek_finds_data_and_the_end_counts_as_a_hole(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.write(file, 1 << 20, b"data").unwrap();
    let end = (1 << 20) + 4;
    let data = c.seek(file, 0, SeekWhat::Data).unwrap();
    // A file system without holes may call all of it data.
    assert!(data <= 1 << 20, "data found at {data}");
    assert_eq!(c.seek(file, 1 << 20, SeekWhat::Data), Ok(1 << 20));
    assert_eq!(c.seek(file, 1 << 20, SeekWhat::Hole), Ok(end));
    assert_eq!(c.seek(file, end, SeekWhat::Data), Err(Errno::ENXIO));
    assert_eq!(c.seek(file, end, SeekWhat::Hole), Err(Errno::ENXIO));
    c.release(file).unwrap();
}

fn copy_file_range_copies_and_stops_at_the_end(c: &Client) {
    let (from, to) = (c.create(ROOT, "from").unwrap(), c.create(ROOT, "to").unwrap());
    c.write(from, 0, b"0123456789").unwrap();
    let request = CopyFileRangeReq { from, from_offset: 4, to, to_offset: 2, length: 100, xdata: Xdata::EMPTY };
    let copied = c.call::<fop::CopyFileRange>(&request);
    if !unsupported(&copied) {
        assert_eq!(copied.unwrap().copied, 6);
        assert_eq!(c.read(to, 0, 100).unwrap()[..], *b"\0\x00456789");
    }
    c.release(from).unwrap();
    c.release(to).unwrap();
}

fn flush_fsync_and_release_succeed_on_an_open_file(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    c.write(file, 0, b"x").unwrap();
    for data_only in [true, false] {
        c.call::<fop::Fsync>(&FsyncReq { file, data_only, xdata: Xdata::EMPTY }).unwrap();
    }
    c.call::<fop::Flush>(&FlushReq { file, xdata: Xdata::EMPTY }).unwrap();
    c.release(file).unwrap();
    let open = c.opendir(ROOT).unwrap();
    c.call::<fop::Fsyncdir>(&FsyncdirReq { file: open, data_only: false, xdata: Xdata::EMPTY }).unwrap();
    c.releasedir(open).unwrap();
}

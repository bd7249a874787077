//! Names come, go, and are listed.

use brickwork_api::*;

use crate::client::{Client, entry};

super::promises! {
    root_is_a_directory_that_is_found_by_its_gfid
    missing_name_answers_enoent
    gfid_that_is_not_there_answers_estale
    name_below_a_file_answers_enotdir
    created_file_is_found_under_its_name_and_its_gfid
    existing_name_answers_eexist_to_every_way_of_creating
    gfid_that_is_in_use_is_refused
    mkdir_counts_in_the_links_of_the_parent
    unlink_of_a_directory_answers_eisdir_and_rmdir_of_a_file_enotdir
    rmdir_of_a_directory_with_names_answers_enotempty
    removed_directory_takes_no_new_names
    second_name_is_the_same_object_until_the_last_is_gone
    link_to_a_directory_is_refused
    symlink_keeps_its_text_and_its_own_attributes
    name_of_255_bytes_is_kept
    every_name_is_listed_once_in_small_steps
    listing_goes_on_after_names_came_and_went
    listing_with_attributes_agrees_with_stat
    empty_directory_lists_nothing
    opendir_of_a_file_answers_enotdir
}

const ROOT: Gfid = Gfid::ROOT;

fn root_is_a_directory_that_is_found_by_its_gfid(c: &Client) {
    let target = Locate::Gfid(ROOT);
    let attr = c.call::<fop::Lookup>(&LookupReq { target, xdata: Xdata::EMPTY }).unwrap().attr;
    assert_eq!((attr.gfid, attr.kind, attr.ino()), (ROOT, FileKind::Directory, 1));
    assert_eq!(c.stat(ROOT).unwrap(), attr);
}

fn missing_name_answers_enoent(c: &Client) {
    assert_eq!(c.lookup(ROOT, "nothing"), Err(Errno::ENOENT));
    assert_eq!(c.unlink(ROOT, "nothing"), Err(Errno::ENOENT));
    assert_eq!(c.rmdir(ROOT, "nothing"), Err(Errno::ENOENT));
    let renamed = c.rename((ROOT, "nothing"), (ROOT, "other"), RenameMode::Replace);
    assert_eq!(renamed.map(drop), Err(Errno::ENOENT));
}

fn gfid_that_is_not_there_answers_estale(c: &Client) {
    let gfid = Gfid::random();
    assert_eq!(c.stat(gfid), Err(Errno::ESTALE));
    let target = Locate::Gfid(gfid);
    assert_eq!(c.call::<fop::Lookup>(&LookupReq { target, xdata: Xdata::EMPTY }), Err(Errno::ESTALE));
    assert_eq!(c.open(gfid, libc::O_RDONLY), Err(Errno::ESTALE));
    assert_eq!(c.opendir(gfid), Err(Errno::ESTALE));
    assert_eq!(c.lookup(gfid, "name"), Err(Errno::ESTALE));
}

fn name_below_a_file_answers_enotdir(c: &Client) {
    let file = c.put(ROOT, "file", b"").unwrap();
    assert_eq!(c.lookup(file, "name"), Err(Errno::ENOTDIR));
    assert_eq!(c.mkdir(file, "name"), Err(Errno::ENOTDIR));
    assert_eq!(c.create(file, "name"), Err(Errno::ENOTDIR));
    assert_eq!(c.unlink(file, "name"), Err(Errno::ENOTDIR));
}

fn created_file_is_found_under_its_name_and_its_gfid(c: &Client) {
    let file = c.create(ROOT, "file").unwrap();
    let attr = c.lookup(ROOT, "file").unwrap();
    assert_eq!((attr.gfid, attr.kind, attr.mode), (file.gfid, FileKind::File, 0o644));
    assert_eq!((attr.links, attr.size), (1, 0));
    assert_eq!(c.stat(file.gfid).unwrap(), attr);
    assert_eq!(c.stat(file).unwrap(), attr);
    c.release(file).unwrap();
}

fn existing_name_answers_eexist_to_every_way_of_creating(c: &Client) {
    let file = c.put(ROOT, "taken", b"kept").unwrap();
    let other = c.put(ROOT, "other", b"").unwrap();
    assert_eq!(c.create(ROOT, "taken"), Err(Errno::EEXIST));
    assert_eq!(c.mkdir(ROOT, "taken"), Err(Errno::EEXIST));
    assert_eq!(c.symlink(ROOT, "taken", b"x"), Err(Errno::EEXIST));
    assert_eq!(c.mknod(ROOT, "taken", libc::S_IFIFO | 0o600), Err(Errno::EEXIST));
    assert_eq!(c.link(other, ROOT, "taken"), Err(Errno::EEXIST));
    assert_eq!(c.lookup(ROOT, "taken").unwrap().gfid, file);
    assert_eq!(c.content(file).unwrap()[..], *b"kept");
    assert_eq!(c.stat(other).unwrap().links, 1);
}

fn gfid_that_is_in_use_is_refused(c: &Client) {
    let gfid = c.put(ROOT, "first", b"kept").unwrap();
    let request = MknodReq {
        entry: entry(ROOT, "second"),
        gfid,
        mode: libc::S_IFREG | 0o644,
        umask: 0,
        rdev: 0,
        xdata: Xdata::EMPTY,
    };
    assert_eq!(c.call::<fop::Mknod>(&request).map(drop), Err(Errno::EEXIST));
    assert_eq!(c.lookup(ROOT, "second"), Err(Errno::ENOENT));
    assert_eq!(c.content(gfid).unwrap()[..], *b"kept");
}

fn mkdir_counts_in_the_links_of_the_parent(c: &Client) {
    let parent = c.mkdir(ROOT, "parent").unwrap();
    assert_eq!(c.stat(parent).unwrap().links, 2);
    c.mkdir(parent, "a").unwrap();
    c.mkdir(parent, "b").unwrap();
    c.put(parent, "file", b"").unwrap();
    assert_eq!(c.stat(parent).unwrap().links, 4);
    c.rmdir(parent, "a").unwrap();
    assert_eq!(c.stat(parent).unwrap().links, 3);
}

fn unlink_of_a_directory_answers_eisdir_and_rmdir_of_a_file_enotdir(c: &Client) {
    c.mkdir(ROOT, "directory").unwrap();
    c.put(ROOT, "file", b"").unwrap();
    assert_eq!(c.unlink(ROOT, "directory"), Err(Errno::EISDIR));
    assert_eq!(c.rmdir(ROOT, "file"), Err(Errno::ENOTDIR));
    assert_eq!(c.names(ROOT).unwrap(), ["directory", "file"]);
}

fn rmdir_of_a_directory_with_names_answers_enotempty(c: &Client) {
    let directory = c.mkdir(ROOT, "directory").unwrap();
    c.put(directory, "file", b"").unwrap();
    assert_eq!(c.rmdir(ROOT, "directory"), Err(Errno::ENOTEMPTY));
    c.unlink(directory, "file").unwrap();
    assert_eq!(c.rmdir(ROOT, "directory"), Ok(Unnamed { gfid: directory, links: 0 }));
    assert_eq!(c.stat(directory), Err(Errno::ESTALE));
}

fn removed_directory_takes_no_new_names(c: &Client) {
    let directory = c.mkdir(ROOT, "directory").unwrap();
    let open = c.opendir(directory).unwrap();
    c.rmdir(ROOT, "directory").unwrap();
    let refused = c.mkdir(directory, "name").unwrap_err();
    assert!(matches!(refused, Errno::ENOENT | Errno::ESTALE), "{refused}");
    assert_eq!(c.readdir(open, 0, 4096), Ok(Vec::new()));
    c.releasedir(open).unwrap();
}

fn second_name_is_the_same_object_until_the_last_is_gone(c: &Client) {
    let directory = c.mkdir(ROOT, "directory").unwrap();
    let gfid = c.put(ROOT, "one", b"shared").unwrap();
    let linked = c.link(gfid, directory, "two").unwrap();
    assert_eq!((linked.gfid, linked.links), (gfid, 2));
    assert_eq!(c.lookup(directory, "two").unwrap(), c.lookup(ROOT, "one").unwrap());
    assert_eq!(c.unlink(ROOT, "one"), Ok(Unnamed { gfid, links: 1 }));
    assert_eq!(c.content(gfid).unwrap()[..], *b"shared");
    assert_eq!(c.unlink(directory, "two"), Ok(Unnamed { gfid, links: 0 }));
    assert_eq!(c.stat(gfid), Err(Errno::ESTALE));
}

fn link_to_a_directory_is_refused(c: &Client) {
    let directory = c.mkdir(ROOT, "directory").unwrap();
    assert_eq!(c.link(directory, ROOT, "again"), Err(Errno::EPERM));
    assert_eq!(c.names(ROOT).unwrap(), ["directory"]);
}

fn symlink_keeps_its_text_and_its_own_attributes(c: &Client) {
    let text = b"../not/there/\xff";
    let attr = c.symlink(ROOT, "link", text).unwrap();
    assert_eq!((attr.kind, attr.size), (FileKind::Symlink, text.len() as u64));
    assert_eq!(c.lookup(ROOT, "link").unwrap(), attr);
    assert_eq!(c.readlink(attr.gfid).unwrap()[..], *text);
    let file = c.put(ROOT, "file", b"").unwrap();
    assert_eq!(c.readlink(file), Err(Errno::EINVAL));
}

fn name_of_255_bytes_is_kept(c: &Client) {
    let long = "n".repeat(255);
    let gfid = c.put(ROOT, &long, b"").unwrap();
    assert_eq!(c.lookup(ROOT, &long).unwrap().gfid, gfid);
    assert_eq!(c.names(ROOT).unwrap(), [long]);
}

/// Fills a directory with `count` files and returns it with their names, sorted.
fn filled(c: &Client, count: usize) -> (Gfid, Vec<String>) {
    let directory = c.mkdir(ROOT, "filled").unwrap();
    let names: Vec<String> = (0..count).map(|number| format!("entry-{number:04}")).collect();
    for name in &names {
        c.put(directory, name, b"").unwrap();
    }
    (directory, names)
}

/// The names from `offset` on, listed in steps of about `size` bytes.
fn list_from(c: &Client, open: OpenFile, offset: u64, size: u32) -> Vec<String> {
    let entries = c.list(open, offset, size).unwrap();
    entries.iter().map(|entry| entry.name.to_string()).collect()
}

fn every_name_is_listed_once_in_small_steps(c: &Client) {
    let (directory, names) = filled(c, 100);
    let open = c.opendir(directory).unwrap();
    // Room for less than one entry: one comes all the same.
    for size in [1, 100, 1000, 1 << 20] {
        let mut listed = list_from(c, open, 0, size);
        listed.sort();
        assert_eq!(listed, names, "in steps of {size} bytes");
    }
    c.releasedir(open).unwrap();
}

fn listing_goes_on_after_names_came_and_went(c: &Client) {
    let (directory, names) = filled(c, 60);
    let open = c.opendir(directory).unwrap();
    let first = c.readdir(open, 0, 600).unwrap();
    let seen: Vec<String> = first.iter().map(|entry| entry.name.to_string()).collect();
    assert!(!seen.is_empty() && seen.len() < names.len(), "{} entries in 600 bytes", seen.len());
    let (next, last) = (first.last().unwrap().next, seen.last().unwrap());
    // The very entry the cookie belongs to goes, others come.
    c.unlink(directory, last).unwrap();
    for number in 0..20 {
        c.put(directory, &format!("later-{number}"), b"").unwrap();
    }
    let rest = list_from(c, open, next, 600);
    let mut both: Vec<&String> = seen.iter().chain(&rest).filter(|name| name.starts_with("entry-")).collect();
    both.sort();
    assert_eq!(both, names.iter().collect::<Vec<_>>(), "names that stayed are listed exactly once");
    c.releasedir(open).unwrap();
}

fn listing_with_attributes_agrees_with_stat(c: &Client) {
    c.put(ROOT, "file", b"12345").unwrap();
    c.mkdir(ROOT, "directory").unwrap();
    c.symlink(ROOT, "link", b"text").unwrap();
    let open = c.opendir(ROOT).unwrap();
    let entries = c.readdirplus(open, 0, 1 << 16).unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        let attr = c.stat(entry.gfid).unwrap();
        assert_eq!(entry.attr.as_ref(), Some(&attr), "{}", entry.name);
        assert_eq!(entry.kind, attr.kind, "{}", entry.name);
        assert_eq!(c.lookup(ROOT, &entry.name.to_string()).unwrap().gfid, entry.gfid);
    }
    c.releasedir(open).unwrap();
}

fn empty_directory_lists_nothing(c: &Client) {
    assert_eq!(c.names(ROOT), Ok(Vec::new()));
    let directory = c.mkdir(ROOT, "directory").unwrap();
    assert_eq!(c.names(directory), Ok(Vec::new()));
}

fn opendir_of_a_file_answers_enotdir(c: &Client) {
    let file = c.put(ROOT, "file", b"").unwrap();
    assert_eq!(c.opendir(file), Err(Errno::ENOTDIR));
}

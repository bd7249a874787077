//! Renames: what moves, what it replaces, what it refuses.

use brickwork_api::RenameMode::{Exchange, NoReplace, Replace};
use brickwork_api::*;

use crate::client::{Answer, Client};

super::promises! {
    rename_moves_the_object_to_the_new_name
    rename_over_a_file_takes_its_name
    rename_over_an_open_file_keeps_the_old_content_readable
    rename_to_another_name_of_the_same_file_does_nothing
    rename_of_a_directory_moves_what_is_in_it_and_the_links_of_its_parents
    rename_of_a_directory_over_an_empty_one_replaces_it
    rename_of_a_directory_over_a_full_one_answers_enotempty
    rename_refuses_to_mix_files_and_directories
    rename_of_a_directory_into_itself_answers_einval
    rename_without_replacing_answers_eexist
    exchange_swaps_names_of_any_kind
    exchange_with_nothing_answers_enoent
}

const ROOT: Gfid = Gfid::ROOT;

fn refused(answer: Answer<RenameReply>) -> Errno {
    answer.map(drop).expect_err("a rename that must be refused")
}

fn rename_moves_the_object_to_the_new_name(c: &Client) {
    let directory = c.mkdir(ROOT, "directory").unwrap();
    let gfid = c.put(ROOT, "old", b"content").unwrap();
    let reply = c.rename((ROOT, "old"), (directory, "new"), Replace).unwrap();
    assert_eq!((reply.attr.gfid, reply.attr.links, reply.replaced), (gfid, 1, None));
    assert_eq!(c.lookup(ROOT, "old"), Err(Errno::ENOENT));
    assert_eq!(c.lookup(directory, "new").unwrap().gfid, gfid);
    assert_eq!(c.content(gfid).unwrap()[..], *b"content");
}

fn rename_over_a_file_takes_its_name(c: &Client) {
    let (new, old) = (c.put(ROOT, "new", b"new").unwrap(), c.put(ROOT, "target", b"old").unwrap());
    c.link(old, ROOT, "kept").unwrap();
    let reply = c.rename((ROOT, "new"), (ROOT, "target"), Replace).unwrap();
    assert_eq!(reply.replaced, Some(Unnamed { gfid: old, links: 1 }));
    assert_eq!(c.lookup(ROOT, "target").unwrap().gfid, new);
    assert_eq!(c.content(old).unwrap()[..], *b"old");
    assert_eq!(c.names(ROOT).unwrap(), ["kept", "target"]);
}

fn rename_over_an_open_file_keeps_the_old_content_readable(c: &Client) {
    c.put(ROOT, "new", b"new").unwrap();
    let old = c.create(ROOT, "target").unwrap();
    c.write(old, 0, b"old").unwrap();
    let reply = c.rename((ROOT, "new"), (ROOT, "target"), Replace).unwrap();
    assert_eq!(reply.replaced, Some(Unnamed { gfid: old.gfid, links: 0 }));
    assert_eq!(c.read(old, 0, 10).unwrap()[..], *b"old");
    assert_eq!(c.stat(old).unwrap().links, 0);
    c.release(old).unwrap();
    assert_eq!(c.stat(old.gfid), Err(Errno::ESTALE));
}

fn rename_to_another_name_of_the_same_file_does_nothing(c: &Client) {
    let gfid = c.put(ROOT, "one", b"").unwrap();
    c.link(gfid, ROOT, "two").unwrap();
    let reply = c.rename((ROOT, "one"), (ROOT, "two"), Replace).unwrap();
    assert_eq!((reply.attr.links, reply.replaced), (2, None));
    assert_eq!(c.names(ROOT).unwrap(), ["one", "two"]);
}

fn rename_of_a_directory_moves_what_is_in_it_and_the_links_of_its_parents(c: &Client) {
    let (from, to) = (c.mkdir(ROOT, "from").unwrap(), c.mkdir(ROOT, "to").unwrap());
    let moved = c.mkdir(from, "moved").unwrap();
    let file = c.put(moved, "file", b"inside").unwrap();
    c.rename((from, "moved"), (to, "here"), Replace).unwrap();
    assert_eq!(c.lookup(to, "here").unwrap().gfid, moved);
    assert_eq!(c.lookup(moved, "file").unwrap().gfid, file);
    assert_eq!((c.stat(from).unwrap().links, c.stat(to).unwrap().links), (2, 3));
    c.rmdir(ROOT, "from").unwrap();
}

fn rename_of_a_directory_over_an_empty_one_replaces_it(c: &Client) {
    let (moved, empty) = (c.mkdir(ROOT, "moved").unwrap(), c.mkdir(ROOT, "empty").unwrap());
    c.put(moved, "file", b"").unwrap();
    let reply = c.rename((ROOT, "moved"), (ROOT, "empty"), Replace).unwrap();
    assert_eq!(reply.replaced, Some(Unnamed { gfid: empty, links: 0 }));
    assert_eq!(c.lookup(ROOT, "empty").unwrap().gfid, moved);
    assert_eq!(c.stat(empty), Err(Errno::ESTALE));
}

fn rename_of_a_directory_over_a_full_one_answers_enotempty(c: &Client) {
    let (_, full) = (c.mkdir(ROOT, "moved").unwrap(), c.mkdir(ROOT, "full").unwrap());
    c.put(full, "file", b"").unwrap();
    let errno = refused(c.rename((ROOT, "moved"), (ROOT, "full"), Replace));
    assert!(matches!(errno, Errno::ENOTEMPTY | Errno::EEXIST), "{errno}");
    assert_eq!(c.names(ROOT).unwrap(), ["full", "moved"]);
}

fn rename_refuses_to_mix_files_and_directories(c: &Client) {
    c.mkdir(ROOT, "directory").unwrap();
    c.put(ROOT, "file", b"").unwrap();
    assert_eq!(refused(c.rename((ROOT, "file"), (ROOT, "directory"), Replace)), Errno::EISDIR);
    assert_eq!(refused(c.rename((ROOT, "directory"), (ROOT, "file"), Replace)), Errno::ENOTDIR);
    assert_eq!(c.names(ROOT).unwrap(), ["directory", "file"]);
}

fn rename_of_a_directory_into_itself_answers_einval(c: &Client) {
    let outer = c.mkdir(ROOT, "outer").unwrap();
    let inner = c.mkdir(outer, "inner").unwrap();
    assert_eq!(refused(c.rename((ROOT, "outer"), (inner, "deeper"), Replace)), Errno::EINVAL);
    assert_eq!(refused(c.rename((ROOT, "outer"), (outer, "deeper"), Replace)), Errno::EINVAL);
    assert_eq!(c.lookup(ROOT, "outer").unwrap().gfid, outer);
}

fn rename_without_replacing_answers_eexist(c: &Client) {
    let file = c.put(ROOT, "file", b"").unwrap();
    c.put(ROOT, "taken", b"kept").unwrap();
    assert_eq!(refused(c.rename((ROOT, "file"), (ROOT, "taken"), NoReplace)), Errno::EEXIST);
    c.rename((ROOT, "file"), (ROOT, "free"), NoReplace).unwrap();
    assert_eq!(c.lookup(ROOT, "free").unwrap().gfid, file);
}

fn exchange_swaps_names_of_any_kind(c: &Client) {
    let parent = c.mkdir(ROOT, "parent").unwrap();
    let directory = c.mkdir(parent, "directory").unwrap();
    let file = c.put(ROOT, "file", b"").unwrap();
    let reply = c.rename((ROOT, "file"), (parent, "directory"), Exchange).unwrap();
    assert_eq!(reply.attr.gfid, file);
    assert_eq!(reply.replaced.map(|other| other.gfid), Some(directory));
    assert_eq!(c.lookup(ROOT, "file").unwrap().gfid, directory);
    assert_eq!(c.lookup(parent, "directory").unwrap().gfid, file);
    assert_eq!(c.stat(parent).unwrap().links, 2);
}

fn exchange_with_nothing_answers_enoent(c: &Client) {
    c.put(ROOT, "file", b"").unwrap();
    assert_eq!(refused(c.rename((ROOT, "file"), (ROOT, "nothing"), Exchange)), Errno::ENOENT);
    assert_eq!(c.names(ROOT).unwrap(), ["file"]);
}

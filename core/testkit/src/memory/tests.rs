//! What the memory leaf promises beyond the behaviour of every leaf.

use super::*;
use crate::Client;

#[test]
fn a_full_leaf_answers_enospc_and_space_comes_back_with_the_last_open() {
    let c = Client::new(Arc::new(MemoryLeaf::with_capacity(2 * PAGE)));
    let file = c.create(Gfid::ROOT, "file").unwrap();
    c.write(file, 0, &[1; 2 * PAGE as usize]).unwrap();
    let other = c.create(Gfid::ROOT, "other").unwrap();
    assert_eq!(c.write(other, 0, b"x"), Err(Errno::ENOSPC));
    c.write(file, 5, b"inside").unwrap();
    c.unlink(Gfid::ROOT, "file").unwrap();
    assert_eq!(c.write(other, 0, b"x"), Err(Errno::ENOSPC));
    c.release(file).unwrap();
    c.write(other, 0, b"x").unwrap();
}

#[test]
fn access_follows_the_class_the_caller_is_in() {
    let leaf = Arc::new(MemoryLeaf::new());
    let owner = Credentials { uid: 10, gid: 20, pid: 1, groups: Arc::new([]) };
    let gfid = Client::acting_as(leaf.clone(), owner).put(Gfid::ROOT, "file", b"").unwrap();
    Client::new(leaf.clone()).setattr(gfid, AttrChange { mode: Some(0o640), ..AttrChange::default() }).unwrap();
    let may = |uid, groups: &[u32], mask| {
        let credentials = Credentials { uid, gid: 99, pid: 1, groups: groups.into() };
        let request = AccessReq { gfid, mask, xdata: Xdata::EMPTY };
        Client::acting_as(leaf.clone(), credentials).call::<fop::Access>(&request).is_ok()
    };
    assert!(may(10, &[], 6) && !may(10, &[], 1));
    assert!(may(11, &[20], 4) && !may(11, &[20], 2));
    assert!(!may(12, &[], 4) && may(0, &[], 6) && !may(0, &[], 1));
}

#[test]
fn locks_are_refused_by_name() {
    let leaf = MemoryLeaf::new();
    let answer = crate::block_on(crate::samples::request(FopKind::Lk).call(&leaf, &crate::cx()));
    assert_eq!(answer.unwrap_err().errno(), Errno::EOPNOTSUPP);
}

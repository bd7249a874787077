//! Requests as the kernel writes them, byte for byte, and what must be refused.

mod common;

use brickwork_fuse::abi::*;
use brickwork_fuse::request::{Create, Fault, LockKind, Malformed, SecurityContext, SetTime, Time};
use brickwork_fuse::{Fh, InitFlags, LockOwner, NodeId, Operation, Request};
use common::{fixed, message, plain};
use zerocopy::IntoBytes;

fn decoded(bytes: &[u8]) -> Request<'_> {
    Request::decode(bytes, InitFlags::SETXATTR_EXT).expect("well formed")
}

fn fault(bytes: &[u8]) -> Fault {
    Request::decode(bytes, InitFlags::SETXATTR_EXT).expect_err("malformed").fault
}

#[test]
fn a_header_says_who_asks_for_what() {
    let bytes = plain(Opcode::Lookup, 88, &[b"file\0"]);
    let request = decoded(&bytes);
    assert_eq!((request.unique(), request.node(), request.opcode()), (88, NodeId(1), 1));
    assert_eq!((request.uid(), request.gid(), request.pid()), (1000, 100, 4242));
    assert!(matches!(request.operation(), Operation::Lookup { name: b"file" }));
}

#[test]
fn names_are_whole_and_neither_empty_nor_paths() {
    for body in [&b"file"[..], b"\0", b"", b"a/b\0", b"/\0"] {
        assert_eq!(fault(&plain(Opcode::Lookup, 2, &[body])), Fault::Name, "{}", body.escape_ascii());
    }
    assert_eq!(fault(&plain(Opcode::Lookup, 2, &[b"file\0more"])), Fault::Trailing);
    assert_eq!(fault(&plain(Opcode::Rename2, 2, &[&[0; 16], b"a\0b"])), Fault::Name);
}

#[test]
fn a_link_may_lead_to_a_path_but_not_to_nothing() {
    let bytes = plain(Opcode::SymLink, 2, &[b"name\0../to/there\0"]);
    assert!(matches!(decoded(&bytes).operation(), Operation::SymLink { name: b"name", target: b"../to/there" }));
    assert_eq!(fault(&plain(Opcode::SymLink, 2, &[b"name\0\0"])), Fault::Name);
}

#[test]
fn both_renames_are_one_operation() {
    let old = fixed(Opcode::Rename, 2, &RenameIn { newdir: 9 }, b"from\0to\0");
    assert!(matches!(
        decoded(&old).operation(),
        Operation::Rename { name: b"from", new_parent: NodeId(9), new_name: b"to", flags: 0 }
    ));
    let new = fixed(Opcode::Rename2, 2, &Rename2In { newdir: 9, flags: 2, padding: 0 }, b"from\0to\0");
    assert!(matches!(decoded(&new).operation(), Operation::Rename { flags: 2, .. }));
}

#[test]
fn setattr_says_what_is_to_be_set_and_nothing_else() {
    let arguments = SetAttrIn {
        valid: (SetAttrValid::SIZE
            | SetAttrValid::FH
            | SetAttrValid::ATIME
            | SetAttrValid::ATIME_NOW
            | SetAttrValid::MTIME
            | SetAttrValid::KILL_SUIDGID)
            .0,
        fh: 5,
        size: 100,
        mtime: (-3_i64).cast_unsigned(),
        mtimensec: 7,
        mode: 0o777,
        uid: 12,
        ..SetAttrIn::default()
    };
    let bytes = fixed(Opcode::SetAttr, 2, &arguments, &[]);
    let request = decoded(&bytes);
    let Operation::SetAttr(set) = request.operation() else { panic!("{request:?}") };
    assert_eq!((set.fh, set.size, set.mode, set.uid, set.gid), (Some(Fh(5)), Some(100), None, None, None));
    assert_eq!(set.atime, Some(SetTime::Now));
    assert_eq!(set.mtime, Some(SetTime::To(Time { seconds: -3, nanos: 7 })));
    assert!(set.kill_suidgid && set.ctime.is_none() && set.lock_owner.is_none());
}

#[test]
fn flock_is_told_from_fcntl_and_waiting_from_trying() {
    for (opcode, lk_flags, waits, flocks) in
        [(Opcode::SetLk, 0, false, false), (Opcode::SetLkW, 0, true, false), (Opcode::SetLkW, LK_FLOCK, true, true)]
    {
        let lk = FileLock { start: 3, end: i64::MAX as u64, kind: 1, pid: 77 };
        let bytes = fixed(opcode, 2, &LkIn { fh: 4, owner: 5, lk, lk_flags, padding: 0 }, &[]);
        let request = decoded(&bytes);
        let Operation::SetLk { lock, wait } = request.operation() else { panic!("{request:?}") };
        assert_eq!((*wait, lock.flock, lock.kind), (waits, flocks, LockKind::Write));
        assert_eq!((lock.fh, lock.owner, lock.start, lock.pid), (Fh(4), LockOwner(5), 3, 77));
    }
}

#[test]
fn a_lock_that_cannot_be_is_refused() {
    let lock = |start, end, kind| {
        let lk = FileLock { start, end, kind, pid: 1 };
        fixed(Opcode::SetLk, 2, &LkIn { lk, ..LkIn::default() }, &[])
    };
    for (start, end, kind) in [(0, 0, 3), (0, 0, u32::MAX), (5, 4, 0), (0, u64::MAX, 0)] {
        assert_eq!(fault(&lock(start, end, kind)), Fault::Value);
    }
    decoded(&lock(0, 0, 0));
}

#[test]
fn release_says_whether_flocks_go_and_a_flush_is_owed() {
    let arguments = ReleaseIn { fh: 3, flags: 2, release_flags: RELEASE_FLOCK_UNLOCK, lock_owner: 8 };
    let bytes = fixed(Opcode::Release, 2, &arguments, &[]);
    let request = decoded(&bytes);
    let Operation::Release(release) = request.operation() else { panic!("{request:?}") };
    assert!(release.flock_unlock && !release.flush);
    assert_eq!(release.lock_owner, LockOwner(8));
}

#[test]
fn a_write_has_the_bytes_it_states() {
    let arguments = WriteIn { fh: 3, offset: 4096, size: 5, write_flags: 2, lock_owner: 9, ..WriteIn::default() };
    let bytes = fixed(Opcode::Write, 2, &arguments, b"hello");
    let request = decoded(&bytes);
    let Operation::Write(write) = request.operation() else { panic!("{request:?}") };
    assert_eq!((&write.data[..], write.offset, write.lock_owner), (&b"hello"[..], 4096, Some(LockOwner(9))));
    assert_eq!(&write.data.to_bytes()[..], b"hello");
    assert_eq!(fault(&fixed(Opcode::Write, 2, &arguments, b"hell")), Fault::Short);
    assert_eq!(fault(&fixed(Opcode::Write, 2, &arguments, b"hello!")), Fault::Trailing);
}

#[test]
fn setxattr_has_the_layout_that_was_granted() {
    let long = SetXattrIn { size: 3, flags: 1, setxattr_flags: SETXATTR_ACL_KILL_SGID, padding: 0 };
    let bytes = fixed(Opcode::SetXattr, 2, &long, b"user.x\0abc");
    let request = decoded(&bytes);
    let Operation::SetXattr(set) = request.operation() else { panic!("{request:?}") };
    assert_eq!((set.name, set.value, set.flags, set.acl_kill_sgid), (&b"user.x"[..], &b"abc"[..], 1, true));

    let short = fixed(Opcode::SetXattr, 2, &SetXattrCompatIn { size: 3, flags: 2 }, b"user.x\0abc");
    let request = Request::decode(&short, InitFlags::empty()).unwrap();
    let Operation::SetXattr(set) = request.operation() else { panic!("{request:?}") };
    assert_eq!((set.name, set.value, set.flags, set.acl_kill_sgid), (&b"user.x"[..], &b"abc"[..], 2, false));
}

#[test]
fn batch_forget_names_as_many_nodes_as_it_counts() {
    let nodes = [ForgetOne { nodeid: 5, nlookup: 1 }, ForgetOne { nodeid: 6, nlookup: 70 }];
    let bytes = fixed(Opcode::BatchForget, 2, &BatchForgetIn { count: 2, dummy: 0 }, nodes.as_bytes());
    let request = decoded(&bytes);
    assert!(!request.is_answered());
    let Operation::BatchForget(forgets) = request.operation() else { panic!("{request:?}") };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [(NodeId(5), 1), (NodeId(6), 70)]);
    let lie = fixed(Opcode::BatchForget, 2, &BatchForgetIn { count: u32::MAX, dummy: 0 }, nodes.as_bytes());
    assert_eq!(fault(&lie), Fault::Short);
}

#[test]
fn a_file_being_made_carries_mode_umask_groups_and_contexts() {
    let arguments = CreateIn { flags: 0o102, mode: 0o100_666, umask: 0o22, open_flags: 0 };
    let mut groups =
        [ExtHeader { size: 8 + 4 + 4, kind: EXT_GROUPS }.as_bytes(), &[1, 0, 0, 0], &[27, 0, 0, 0]].concat();
    let context = [SecCtx { size: 6, padding: 0 }.as_bytes(), b"security.selinux\0", b"label\0"].concat();
    let contexts = [ExtHeader { size: 8 + context.len() as u32, kind: 1 }.as_bytes(), &context].concat();
    groups.extend(contexts);
    groups.resize(record_align(groups.len()), 0);
    let bytes = message(Opcode::Create as u32, 2, &[arguments.as_bytes(), b"new\0"], &groups);
    let request = decoded(&bytes);
    let expected = Create { name: b"new", flags: 0o102, mode: 0o100_666, umask: 0o22, kill_suidgid: false };
    assert!(matches!(request.operation(), Operation::Create(create) if *create == expected), "{request:?}");
    assert_eq!(request.extensions().groups().unwrap().collect::<Vec<_>>(), [27]);
    let context = request.extensions().security_contexts().unwrap().iter().collect::<Vec<_>>();
    assert_eq!(context, [SecurityContext { name: b"security.selinux", value: b"label\0" }]);
}

#[test]
fn extensions_that_lie_about_their_length_are_refused() {
    let with = |extensions: &[u8]| message(Opcode::MkDir as u32, 2, &[&[0; 8], b"d\0"], extensions);
    let header = |size, kind| ExtHeader { size, kind }.as_bytes().to_vec();
    for extensions in [
        header(7, EXT_GROUPS),
        header(16, EXT_GROUPS),
        header(u32::MAX, EXT_GROUPS),
        [header(16, EXT_GROUPS), vec![9, 0, 0, 0, 0, 0, 0, 0]].concat(),
        [header(16, 31), vec![0; 8]].concat(),
    ] {
        assert_eq!(fault(&with(&extensions)), Fault::Extension);
    }
    let mut longer = plain(Opcode::MkDir, 2, &[&[0; 8], b"d\0"]);
    longer[36..38].copy_from_slice(&1000_u16.to_ne_bytes());
    assert_eq!(fault(&longer), Fault::Extension);
    let unknown = with(&[header(16, 99), vec![1; 8]].concat());
    assert!(decoded(&unknown).extensions().groups().is_none());
}

#[test]
fn a_message_shorter_than_a_header_or_of_another_length_is_refused() {
    assert_eq!(fault(&[0; 39]), Fault::NoHeader { read: 39 });
    let mut bytes = plain(Opcode::StatFs, 6, &[]);
    bytes[0] = 41;
    let refused = Request::decode(&bytes, InitFlags::empty()).unwrap_err();
    let fault = Fault::Length { stated: 41, read: 40 };
    assert_eq!(refused, Malformed { unique: 6, opcode: Opcode::StatFs as u32, fault });
    assert_eq!(refused.to_string(), "StatFs 6: the header states 41 bytes, 40 were read");
}

#[test]
fn every_operation_cut_short_by_one_byte_is_refused() {
    for whole in common::corpus() {
        for end in 40..whole.len() {
            let mut cut = whole[..end].to_vec();
            cut[..4].copy_from_slice(&(end as u32).to_ne_bytes());
            // INIT has an older, shorter form; the two of virtiofs are not looked at.
            let opcode = Opcode::from_number(u32::from_ne_bytes(cut[4..8].try_into().unwrap()));
            if matches!(opcode, None | Some(Opcode::Init | Opcode::SetupMapping | Opcode::RemoveMapping)) {
                continue;
            }
            assert!(Request::decode(&cut, InitFlags::SETXATTR_EXT).is_err(), "{opcode:?} of {end} bytes");
        }
    }
}

#[test]
fn every_opcode_has_a_well_formed_message_here_and_newer_ones_are_unknown() {
    let seen: Vec<u32> = common::corpus().iter().map(|bytes| decoded(bytes).opcode()).collect();
    for &opcode in Opcode::ALL {
        assert!(seen.contains(&(opcode as u32)), "{opcode:?}");
    }
    let newer = message(5000, 2, &[b"anything"], &[]);
    assert!(matches!(decoded(&newer).operation(), Operation::Unknown { opcode: 5000 }));
}

//! A request that is sent again happens once.

use std::sync::Arc;

use brickwork_api::xdata::{REOPEN, UNCACHED};
use brickwork_api::*;
use brickwork_testkit::{Faults, MemoryLeaf};

use crate::peer::{Peer, mkdir, unlink, write};
use crate::world::{World, folder, text};

#[tokio::test]
async fn a_request_sent_again_while_it_is_under_way_is_answered_once_on_the_new_connection() {
    let faults = Arc::new(Faults::over(Arc::new(MemoryLeaf::new())));
    let gate = faults.hold(FopKind::Mkdir, 1);
    let world = World::over(faults.clone(), &[]);
    let mut first = Peer::attached(&world).await;
    let request = mkdir("once");
    first.ask::<fop::Mkdir>(3, 1, &request);
    gate.arrivals(1).await;
    first.outbox.close();
    let mut second = Peer::again(&world, &first, 2).await;
    let again = second.ask::<fop::Mkdir>(3, 1, &request);
    assert!(!second.is_answered(again).await);
    gate.open();
    assert_eq!(second.answer::<fop::Mkdir>(again).await.unwrap().attr.gfid, request.gfid);
    assert!(!second.is_answered(again).await, "it was answered twice");
    assert_eq!(faults.seen(FopKind::Mkdir), 1);
}

#[tokio::test]
async fn a_request_sent_again_after_it_is_done_is_answered_as_before() {
    let faults = Arc::new(Faults::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(faults.clone(), &[]);
    let mut first = Peer::attached(&world).await;
    let request = mkdir("once");
    let id = first.ask::<fop::Mkdir>(3, 1, &request);
    let answer = first.answer::<fop::Mkdir>(id).await.unwrap();
    let mut second = Peer::again(&world, &first, 2).await;
    let again = second.ask::<fop::Mkdir>(3, 1, &request);
    let second = second.answer::<fop::Mkdir>(again).await.unwrap();
    assert_eq!(second.attr, answer.attr);
    // It is of a moment that has passed.
    assert_eq!(second.xdata.get(&UNCACHED), Ok(Some(true)));
    assert_eq!(faults.seen(FopKind::Mkdir), 1);
}

#[tokio::test]
async fn another_fop_under_the_number_of_a_request_is_refused_with_einval() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::attached(&world).await;
    let id = peer.ask::<fop::Mkdir>(3, 1, &mkdir("once"));
    peer.answer::<fop::Mkdir>(id).await.unwrap();
    let id = peer.ask::<fop::Unlink>(3, 1, &unlink("once"));
    assert_eq!(peer.answer::<fop::Unlink>(id).await.unwrap_err().errno(), Errno::EINVAL);
}

/// Serves `leaf`, does a mkdir, leaves a file open, and is gone without a `stop`: the runtime goes with all its tasks.
fn dies_after_a_mkdir(
    folder: &Arc<tempfile::TempDir>,
    leaf: &Arc<dyn Xlator>,
    eos: &str,
) -> (Peer, MkdirReq, OpenFile, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async {
        let world = World::within(folder.clone(), leaf.clone(), &[("eos", eos)]);
        let mut peer = Peer::attached(&world).await;
        let request = mkdir("once");
        let id = peer.ask::<fop::Mkdir>(3, 1, &request);
        peer.answer::<fop::Mkdir>(id).await.unwrap();
        let file = peer.create("open", 4).await.unwrap();
        peer.write(file, 0, b"content").await.unwrap();
        let boot = world.export("boot").as_u64().unwrap();
        peer.outbox.close();
        world.until("the connection is lost", |world| world.status("connections") == 0).await;
        (peer, request, file, boot)
    });
    drop(runtime);
    result
}

fn after_the_death(eos: &str) {
    let folder = folder();
    let memory: Arc<dyn Xlator> = Arc::new(MemoryLeaf::new());
    let faults = Arc::new(Faults::over(memory));
    let leaf: Arc<dyn Xlator> = faults.clone();
    let (first, request, file, boot) = dies_after_a_mkdir(&folder, &leaf, eos);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::within(folder.clone(), leaf, &[("eos", eos)]);
        assert_eq!((world.export("boot"), world.export("eos")), ((boot + 1).into(), eos.into()));
        let mut again = Peer::again(&world, &first, 2).await;
        assert!(again.attached.as_ref().unwrap().known);
        let id = again.ask::<fop::Mkdir>(3, 1, &request);
        assert_eq!(again.answer::<fop::Mkdir>(id).await.unwrap().attr.gfid, request.gfid);
        assert_eq!(faults.seen(FopKind::Mkdir), 1);
        let reopen = OpenReq { file, flags: 2, kill_set_id: false, xdata: Xdata::EMPTY.with(&REOPEN, true) };
        again.fop::<fop::Open>(&reopen).await.unwrap();
        let read = ReadReq { file, offset: 0, size: 7, xdata: Xdata::EMPTY };
        assert_eq!(&again.fop::<fop::Read>(&read).await.unwrap().data[..], b"content");
        world.server.stop().await;
    });
}

#[test]
fn with_eos_process_the_answer_outlives_the_process() {
    after_the_death("process");
}

#[test]
fn with_eos_disk_the_answer_outlives_the_process_too() {
    after_the_death("disk");
}

#[test]
fn with_eos_memory_a_new_process_knows_nobody_and_says_so() {
    let folder = folder();
    let leaf: Arc<dyn Xlator> = Arc::new(MemoryLeaf::new());
    let (first, request, _, boot) = dies_after_a_mkdir(&folder, &leaf, "memory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::within(folder.clone(), leaf, &[("eos", "memory")]);
        assert_ne!(world.export("boot").as_u64(), Some(boot));
        let mut again = Peer::again(&world, &first, 2).await;
        assert!(!again.attached.as_ref().unwrap().known);
        let id = again.ask::<fop::Mkdir>(3, 1, &request);
        assert_eq!(again.answer::<fop::Mkdir>(id).await.unwrap_err().errno(), Errno::EEXIST);
        assert!(!world.path("journal").exists());
    });
}

#[test]
fn the_journal_is_where_journal_directory_says_in_a_folder_for_each_subvolume() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let elsewhere = folder();
        let path = elsewhere.path().join("journals");
        let world = World::of_memory(&[("eos", "process"), ("journal-directory", text(&path))]);
        assert!(path.join("leaf").is_dir());
        world.server.stop().await;
    });
}

/// A brick whose work folder cannot be asked for says what to do.
#[tokio::test]
async fn eos_process_without_a_folder_is_refused_at_the_start() {
    let leaf: Arc<dyn Xlator> = Arc::new(MemoryLeaf::new());
    let server = crate::world::prepare(&[("leaf", leaf)], &[("transport.socket.listen-port", "0")]).unwrap();
    let why = server.start().unwrap_err();
    assert!(why.contains("set `journal-directory`, or `eos memory`"), "{why}");
}

#[tokio::test]
async fn two_appends_of_one_client_that_are_sent_again_are_each_done_once() {
    let world = World::of_memory(&[]);
    let mut first = Peer::attached(&world).await;
    let file = first.create("log", 4).await.unwrap();
    let append = |data: &[u8]| WriteReq { append: true, ..write(file, 0, data) };
    for (slot, data) in [(1, b"one "), (2, b"two ")] {
        let id = first.ask::<fop::Write>(slot, 1, &append(data));
        first.answer::<fop::Write>(id).await.unwrap();
    }
    let mut second = Peer::again(&world, &first, 2).await;
    for (slot, data) in [(2, b"two "), (1, b"one ")] {
        let id = second.ask::<fop::Write>(slot, 1, &append(data));
        assert_eq!(second.answer::<fop::Write>(id).await.unwrap().written, 4);
    }
    let read = ReadReq { file, offset: 0, size: 100, xdata: Xdata::EMPTY };
    assert_eq!(&second.fop::<fop::Read>(&read).await.unwrap().data[..], b"one two ");
}

//! A brick that is killed while it holds many locks, and the next process in its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::ranges::ByteRange;
use brickwork_api::{Bytes, Errno, LkKind, LkOwner, LkType};
use brickwork_volume::{File, How, Lock, Volume};

use crate::common::brick::Brick;
use crate::common::rounds;
use crate::library::Library;
use crate::proxy::Proxy;

/// Files over which the locks are spread.
const FILES: usize = 100;
/// Owners that take turns.
const OWNERS: usize = 16;
/// Calls under way at once.
const FLIGHTS: usize = 256;
/// Within which the first grant must come.
const FIRST_GRANT: Duration = Duration::from_secs(1);

/// The lock of this number: in which file, whose, where.
fn place(number: usize) -> (usize, LkOwner, ByteRange) {
    let (file, at) = (number % FILES, (number / FILES) as u64);
    let range = ByteRange::new(at * 10, at * 10 + 5).expect("not empty");
    (file, LkOwner::from_u64((number / FILES % OWNERS) as u64 + 1), range)
}

/// Somebody else.
fn stranger() -> LkOwner {
    LkOwner::from_u64(1_000)
}

/// Does `act` for each number below `count`, many at a time, and stops at the first that fails.
async fn each<F>(count: usize, act: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..count {
        if under_way.len() == FLIGHTS {
            under_way.join_next().await.expect("some are under way").expect("it succeeds");
        }
        under_way.spawn(act(number));
    }
    while let Some(done) = under_way.join_next().await {
        done.expect("it succeeds");
    }
}

async fn open(volume: &Volume) -> Vec<Arc<File>> {
    let mut files = Vec::new();
    for number in 0..FILES {
        files.push(Arc::new(volume.open(format!("{number}"), libc::O_RDWR).await.expect("open")));
    }
    files
}

#[test]
fn a_brick_that_is_killed_with_many_locks_grants_a_free_range_within_a_second_and_gives_away_no_held_one() {
    // Nobody's lock is free for others only because this machine is slow.
    let Some(mut brick) = Brick::with("    option auth.addr.stats.allow *\n    option detach-timeout 300\n") else {
        return;
    };
    let count = rounds(10_000, 100_000);
    let library = Library::new();
    let proxy = Proxy::to(brick.address());
    let holder = library.volume(library.near(std::net::SocketAddr::from(([127, 0, 0, 1], proxy.port()))));
    let files = library.wait(async {
        for number in 0..FILES {
            holder.create(format!("{number}"), 0o600).await.expect("a file").close().await.expect("closed");
        }
        let files = open(&holder).await;
        each(count, |number| {
            let (file, owner, range) = place(number);
            let file = files[file].clone();
            async move { file.lock(&owner, Lock::exclusive(range), How::Try).await.expect("a free range") }
        })
        .await;
        files
    });

    // Its holder is not back before that is allowed: what happens until then is the brick's doing alone.
    proxy.away();
    brick.kill9();
    let started = Instant::now();
    brick.start_again();
    let ready = Instant::now();
    let other = library.volume(library.near(brick.address()));
    let free = ByteRange::new(1 << 40, 1 << 41).expect("not empty");
    let theirs = library.wait(async {
        let file = other.open("0", libc::O_RDWR).await.expect("open");
        file.lock(&stranger(), Lock::exclusive(free), How::Try).await.expect("a free range");
        let granted = Instant::now();
        eprintln!(
            "{count} locks: the new process was ready after {} ms, and the first lock was granted after {} ms",
            (ready - started).as_millis(),
            (granted - started).as_millis()
        );
        // Without optimisation reading the journal takes many times as long.
        let from = if cfg!(debug_assertions) { ready } else { started };
        assert!(granted - from < FIRST_GRANT, "the first grant came after {:?}", granted - from);
        open(&other).await
    });
    library.wait(expect_all_held(count, &theirs));
    library.wait(each(count, |number| {
        let (file, _, range) = place(number);
        let file = theirs[file].clone();
        async move {
            let refused = file.lock(&stranger(), Lock::exclusive(range), How::Try).await.expect_err("it is held");
            assert_eq!(refused.errno(), Errno::EAGAIN);
        }
    }));

    let back = Instant::now();
    proxy.back();
    library.wait(async {
        // An open file does nothing before its claims are answered.
        for file in &files {
            assert_eq!(file.write_at(0, Bytes::from_static(b"mine")).await.expect("its locks are held"), 4);
            assert_eq!(file.lost(), None);
        }
        eprintln!("{count} claims were answered `held` after {} ms", back.elapsed().as_millis());
        expect_all_held(count, &theirs).await;
        // They are its own: it can take them once more, and release them.
        each(count, |number| {
            let (file, owner, range) = place(number);
            let file = files[file].clone();
            async move {
                file.lock(&owner, Lock::exclusive(range), How::Try).await.expect("its own");
                file.unlock(&owner, LkKind::Posix, range).await.expect("its own");
            }
        })
        .await;
        let left = theirs[1].test(&stranger(), Lock::exclusive(ByteRange::ALL)).await.expect("an answer");
        assert_eq!(left, None, "nothing is left of the released ones");
    });
    assert!(brick.log().contains("locks are as they were"), "it was not told by its journal");
}

/// That each of the locks is where it was, with its whole range.
async fn expect_all_held(count: usize, files: &[Arc<File>]) {
    each(count, |number| {
        let (file, _, range) = place(number);
        let file = files[file].clone();
        async move {
            let found = file.test(&stranger(), Lock::shared(range)).await.expect("an answer").expect("it is held");
            assert_eq!((found.kind, found.start, found.end), (LkType::Write, range.start(), range.end()));
        }
    })
    .await;
}

//! Figures for the README: `cargo test --release -p brickwork-fuse --test throughput -- --ignored --nocapture`.

mod memfs;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use brickwork_fuse::{Limits, MountOptions};
use memfs::place::{Place, can_mount};
use memfs::{MemFs, Way};

const SPAN: Duration = Duration::from_millis(700);

/// Thousands of `act` per second by `threads` threads: the best of three runs, as the machine is shared.
fn rate(threads: usize, act: impl Fn(&File, u64) + Sync, open: impl Fn() -> File + Sync) -> f64 {
    (0..3).map(|_| once(threads, &act, &open)).fold(0.0, f64::max)
}

fn once(threads: usize, act: impl Fn(&File, u64) + Sync, open: impl Fn() -> File + Sync) -> f64 {
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let (file, start, mut count) = (open(), Instant::now(), 0);
                    while start.elapsed() < SPAN {
                        act(&file, count);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    counts.iter().sum::<u64>() as f64 / SPAN.as_secs_f64() / 1000.0
}

#[repr(align(4096))]
struct Aligned([u8; 1 << 20]);

fn aligned() -> Box<Aligned> {
    Box::new(Aligned([0; 1 << 20]))
}

thread_local! {
    static SPACE: std::cell::RefCell<Box<Aligned>> = std::cell::RefCell::new(aligned());
}

fn read(length: usize) -> impl Fn(&File, u64) + Sync {
    move |file, count| {
        let at = count * 7919 % ((1 << 20) / length as u64) * length as u64;
        SPACE.with_borrow_mut(|space| assert_eq!(file.read_at(&mut space.0[..length], at).unwrap(), length));
    }
}

fn write(length: usize) -> impl Fn(&File, u64) + Sync {
    move |file, _| SPACE.with_borrow(|space| assert_eq!(file.write_at(&space.0[..length], 0).unwrap(), length))
}

#[test]
#[ignore = "measures, promises nothing"]
fn figures() {
    if !can_mount() {
        return;
    }
    println!("thousands per second          x1      x4");
    for (name, way) in [("inline", Way::Inline), ("future, ready", Way::Ready), ("spawned", Way::Spawned)] {
        let place = Place::new(MemFs::by(way));
        fs::write(place.path("f"), vec![1; 1 << 20]).unwrap();
        let open = || File::options().read(true).custom_flags(libc::O_DIRECT).open(place.path("f")).unwrap();
        println!("4 KiB direct read, {name:<14} {:6.1}  {:6.1}", rate(1, read(4096), open), rate(4, read(4096), open));
    }
    let place = Place::new(MemFs::new());
    fs::write(place.path("f"), vec![1; 1 << 20]).unwrap();
    let open = || File::open(place.path("f")).unwrap();
    let stat = |file: &File, _| assert!(file.metadata().unwrap().is_file());
    println!("getattr                       {:6.1}  {:6.1}", rate(1, stat, open), rate(4, stat, open));
    for (name, copy_below) in [("kept", 0), ("copied", usize::MAX)] {
        let limits = Limits { payload_copy_below: copy_below, ..Limits::default() };
        let place = Place::with(MemFs::new(), limits, &MountOptions::default());
        fs::write(place.path("f"), vec![1; 1 << 20]).unwrap();
        let open = || File::options().write(true).custom_flags(libc::O_DIRECT).open(place.path("f")).unwrap();
        for length in [4096, 16_384, 65_536, 1 << 20] {
            let (one, four) = (rate(1, write(length), open), rate(4, write(length), open));
            println!("{:>4} KiB write, payload {name:<7}{one:6.2}  {four:6.2}", length / 1024);
        }
    }
}

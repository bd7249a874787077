//! What a fop of this leaf costs beside the bare system call on the same folder, on one thread.
//!
//! `cargo bench -p brickwork-posix --bench fops`; `BRICKWORK_BENCH_FOLDER` names the folder to do it in.
//! `BRICKWORK_BENCH_GFID2PATH=off` leaves the names of objects out of their xattrs.
//! With a name of a row as argument only that row runs, for a look at its system calls (`strace -c`).

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::time::Instant;

use brickwork_api::*;
use brickwork_testkit::client::entry;

const COUNT: usize = 3_000;

type Work<'a> = Box<dyn FnMut(usize) + 'a>;
/// A bare call in the directory of the descriptor.
type Bare = Box<dyn Fn(&std::os::fd::OwnedFd, usize)>;

fn done<T, E: std::fmt::Debug>(result: Result<T, E>) {
    result.unwrap();
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let base = std::env::var_os("BRICKWORK_BENCH_FOLDER").unwrap_or_else(|| std::env::temp_dir().into());
    let folder = tempfile::tempdir_in(base).unwrap();
    let (plain, served) = (folder.path().join("plain"), folder.path().join("served"));
    std::fs::create_dir(&plain).unwrap();
    std::fs::create_dir(&served).unwrap();
    let paths = std::env::var("BRICKWORK_BENCH_GFID2PATH").unwrap_or_else(|_| "on".to_owned());
    let brick = common::serve_with(&served, &[("gfid2path", &paths)]).unwrap();
    let parent = brick.client.mkdir(Gfid::ROOT, "folder").unwrap();
    println!("{:<16}{:>12}{:>12}{:>8}", "fop", "brick ns", "bare ns", "ratio");
    for ((name, mut ours), (_, mut bare)) in on_brick(&brick, parent).into_iter().zip(on_folder(&plain)) {
        // What later rows need is made all the same.
        let (ours, bare) = (time(&mut ours), time(&mut bare));
        if only.as_ref().is_none_or(|only| only == name) {
            println!("{name:<16}{ours:>12.0}{bare:>12.0}{:>8.2}", ours / bare);
        }
    }
}

fn time(work: &mut Work<'_>) -> f64 {
    let since = Instant::now();
    (0..COUNT).for_each(work);
    since.elapsed().as_nanos() as f64 / COUNT as f64
}

fn on_brick(brick: &common::Brick, parent: Gfid) -> Vec<(&'static str, Work<'_>)> {
    let client = &brick.client;
    let gfid = move |number: usize| client.lookup(parent, &format!("f{number}")).unwrap().gfid;
    let big = client.put(parent, "big", &vec![1; 4 << 20]).unwrap();
    let file = client.open(big, libc::O_RDWR).unwrap();
    let block = vec![2; 4096];
    let large = vec![3; 1 << 20];
    vec![
        (
            "create+release",
            Box::new(move |n| client.release(client.create(parent, &format!("f{n}")).unwrap()).unwrap()),
        ),
        ("lookup", Box::new(move |n| done(client.lookup(parent, &format!("f{n}"))))),
        ("stat by gfid", {
            let some = std::cell::OnceCell::new();
            Box::new(move |_| done(client.stat(*some.get_or_init(|| gfid(7)))))
        }),
        ("open+release", {
            let some = std::cell::OnceCell::new();
            Box::new(move |_| {
                client.release(client.open(*some.get_or_init(|| gfid(7)), libc::O_RDWR).unwrap()).unwrap()
            })
        }),
        (
            "rename",
            Box::new(move |n| {
                drop(
                    client.rename((parent, &format!("f{n}")), (parent, &format!("g{n}")), RenameMode::Replace).unwrap(),
                );
            }),
        ),
        ("unlink", Box::new(move |n| done(client.unlink(parent, &format!("g{n}"))))),
        ("mkdir", Box::new(move |n| done(client.mkdir(parent, &format!("d{n}"))))),
        ("rmdir", Box::new(move |n| done(client.rmdir(parent, &format!("d{n}"))))),
        ("symlink", Box::new(move |n| done(client.symlink(parent, &format!("s{n}"), b"text")))),
        ("read 4K", Box::new(move |n| done(client.read(file, (n % 1024) as u64 * 4096, 4096)))),
        ("read 1M", Box::new(move |n| done(client.read(file, (n % 4) as u64 * (1 << 20), 1 << 20)))),
        ("write 4K", Box::new(move |n| done(client.write(file, (n % 1024) as u64 * 4096, &block)))),
        ("write 1M", {
            let data = Bytes::from(large);
            Box::new(move |n| {
                let offset = (n % 4) as u64 * (1 << 20);
                let request = WriteReq {
                    file,
                    offset,
                    data: data.clone(),
                    append: false,
                    kill_set_id: false,
                    xdata: Xdata::EMPTY,
                };
                done(client.call::<fop::Write>(&request));
            })
        }),
        (
            "missing name",
            Box::new(move |n| {
                let target = Locate::Entry(entry(parent, &format!("missing-{n}")));
                assert!(client.call::<fop::Lookup>(&LookupReq { target, xdata: Xdata::EMPTY }).is_err());
            }),
        ),
    ]
}

fn on_folder(folder: &Path) -> Vec<(&'static str, Work<'_>)> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::FileExt;
    let dir = std::rc::Rc::new(rustix::fs::open(folder, OFlags::PATH, Mode::empty()).unwrap());
    let at = |name: &'static str, work: Bare| -> (&'static str, Work<'_>) {
        let dir = std::rc::Rc::clone(&dir);
        (name, Box::new(move |n| work(&dir, n)))
    };
    let stat =
        |dir: &std::os::fd::OwnedFd, name: String| rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let path = folder.join("big");
    std::fs::write(&path, vec![1; 4 << 20]).unwrap();
    let big = || std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let none = rustix::fs::AtFlags::empty();
    let (r4, r1, w4, w1) = (big(), big(), big(), big());
    vec![
        at("create", Box::new(move |dir, n| done(rustix::fs::openat(dir, format!("f{n}"), create, Mode::RWXU)))),
        at("lookup", Box::new(move |dir, n| done(stat(dir, format!("f{n}"))))),
        at("stat", Box::new(move |dir, _| done(stat(dir, "f7".to_owned())))),
        at("open", Box::new(|dir, _| done(rustix::fs::openat(dir, "f7", OFlags::RDWR, Mode::empty())))),
        at("rename", Box::new(|dir, n| rustix::fs::renameat(dir, format!("f{n}"), dir, format!("g{n}")).unwrap())),
        at("unlink", Box::new(move |dir, n| rustix::fs::unlinkat(dir, format!("g{n}"), none).unwrap())),
        at("mkdir", Box::new(|dir, n| rustix::fs::mkdirat(dir, format!("d{n}"), Mode::RWXU).unwrap())),
        at(
            "rmdir",
            Box::new(|dir, n| rustix::fs::unlinkat(dir, format!("d{n}"), rustix::fs::AtFlags::REMOVEDIR).unwrap()),
        ),
        at("symlink", Box::new(|dir, n| rustix::fs::symlinkat("text", dir, format!("s{n}")).unwrap())),
        ("read 4K", {
            let mut b = vec![0; 4096];
            Box::new(move |n| assert!(r4.read_at(&mut b, (n % 1024) as u64 * 4096).unwrap() > 0))
        }),
        ("read 1M", {
            let mut b = vec![0; 1 << 20];
            Box::new(move |n| assert!(r1.read_at(&mut b, (n % 4) as u64 * (1 << 20)).unwrap() > 0))
        }),
        ("write 4K", {
            let b = vec![0; 4096];
            Box::new(move |n| assert!(w4.write_at(&b, (n % 1024) as u64 * 4096).unwrap() > 0))
        }),
        ("write 1M", {
            let b = vec![0; 1 << 20];
            Box::new(move |n| assert!(w1.write_at(&b, (n % 4) as u64 * (1 << 20)).unwrap() > 0))
        }),
        at(
            "missing",
            Box::new(move |dir, n| {
                assert!(stat(dir, format!("missing-{n}")).is_err());
            }),
        ),
    ]
}

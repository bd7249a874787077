//! `brickwork locks` and `grace`, over a real brick with two mounts and programs that lock.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::world::{Done, World};

/// A program that locks what it is told to, through a mount: one process is one POSIX owner.
///
/// Lines to it: `lock START LENGTH TYPE WAIT`, `flock [OTHER FILE]`, `write`, `close`. Lines from it: `ok` or the name of the error.
const PROGRAM: &str = r#"
import errno, fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
print("open", flush=True)
for line in sys.stdin:
    verb, *words = line.split()
    try:
        if verb == "lock":
            start, length, kind, wait = int(words[0]), int(words[1]), words[2], words[3]
            kind = {"w": fcntl.F_WRLCK, "r": fcntl.F_RDLCK, "u": fcntl.F_UNLCK}[kind]
            command = fcntl.F_SETLKW if wait == "wait" else fcntl.F_SETLK
            fcntl.fcntl(file, command, struct.pack("hhqqi", kind, 0, start, length, 0))
        elif verb == "flock":
            fcntl.flock(os.open(words[0], os.O_RDWR) if words else file, fcntl.LOCK_EX)
        elif verb == "write":
            os.pwrite(file, b"x", 0)
        elif verb == "close":
            os.close(file)
        print("ok", flush=True)
    except OSError as error:
        # One number has two names.
        print(errno.errorcode[error.errno].replace("EDEADLOCK", "EDEADLK"), flush=True)
"#;

/// One such program; it ends with its test.
struct Locker {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Locker {
    #[track_caller]
    fn at(path: &Path) -> Locker {
        let mut process = Command::new("python3")
            .arg("-c")
            .arg(PROGRAM)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let answers = BufReader::new(process.stdout.take().expect("its stdout"));
        let mut locker = Locker { process, answers };
        assert_eq!(locker.hear(), "open");
        locker
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn say(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().expect("its stdin");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim().to_owned()
    }

    #[track_caller]
    fn does(&mut self, line: &str) {
        self.say(line);
        assert_eq!(self.hear(), "ok", "{line}");
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A brick with locks behind a unix socket, mounted at `mnt` and at `mnt2` by two clients.
struct Stage {
    world: World,
}

impl Stage {
    fn new() -> Option<Stage> {
        Stage::with("")
    }

    /// One that keeps its journal where it can be lost.
    fn losing_its_journal() -> Option<Stage> {
        let world = World::new()?;
        std::fs::create_dir(world.path("journal")).expect("a folder");
        let folder = world.path("journal").display().to_string();
        Some(Stage::on(world, &format!("    option journal-directory {folder}\n    option grace-timeout 10m\n")))
    }

    fn with(options: &str) -> Option<Stage> {
        World::new().map(|world| Stage::on(world, options))
    }

    /// The brick and the mounts, with `options` for features/locks.
    fn on(world: World, options: &str) -> Stage {
        world.serve_locks(options).ok();
        for (place, pid, log) in [("mnt", "pid", "log"), ("mnt2", "pid2", "log2")] {
            world.run(["mount", &world.spec("gd1"), place, "-i", place, "--pid-file", pid, "--log-file", log]).ok();
        }
        Stage { world }
    }

    fn locker(&self, mount: &str, name: &str) -> Locker {
        Locker::at(&self.world.path(mount).join(name))
    }

    fn run(&self, words: &[&str]) -> Done {
        self.world.run(words)
    }

    fn locks(&self, words: &[&str]) -> Vec<Value> {
        let words = ["locks", "list", "--json"].iter().chain(words);
        let document = self.world.run(words).json();
        assert_eq!(document["kind"], "LockList", "{document}");
        document["items"].as_array().expect("items").clone()
    }

    /// The locks once there are `count` of them in `state`.
    #[track_caller]
    fn until(&self, state: &str, count: usize) -> Vec<Value> {
        self.world.until(&format!("{count} {state}"), || {
            let found: Vec<Value> = self.locks(&[]).into_iter().filter(|lock| lock["state"] == state).collect();
            (found.len() == count).then_some(found)
        })
    }
}

fn id(lock: &Value) -> String {
    lock["id"].as_str().expect("an id").to_owned()
}

#[test]
fn locks_of_two_mounts_are_listed_with_who_holds_them_and_who_waits() {
    let Some(stage) = Stage::new() else { return };
    let (mut holder, mut waiter) = (stage.locker("mnt", "ctr"), stage.locker("mnt2", "ctr"));
    holder.does("lock 0 100 w now");
    waiter.say("lock 50 100 r wait");
    let waiting = stage.until("waiting", 1);
    let held = stage.until("held", 1);
    assert_eq!((&held[0]["path"], &held[0]["start"], &held[0]["end"]), (&"/ctr".into(), &0.into(), &99.into()));
    assert_eq!(
        (&held[0]["mode"], &held[0]["type"], &held[0]["brick"]),
        (&"write".into(), &"posix".into(), &"stats".into())
    );
    assert_eq!(held[0]["pid"], holder.pid(), "{held:?}");
    assert!(held[0]["command"].as_str().is_some_and(|command| command.starts_with("python3")), "{held:?}");
    assert_eq!(waiting[0]["blockers"][0], held[0]["id"]);
    assert_eq!(
        (&waiting[0]["start"], &waiting[0]["end"], &waiting[0]["mode"]),
        (&50.into(), &149.into(), &"read".into())
    );
    // Two mounts are two clients.
    assert_ne!(held[0]["client"], waiting[0]["client"]);
    let text = stage.run(&["locks", "list"]).ok();
    assert!(text.starts_with("ID") && text.contains("2 locks (1 held, 1 waiting)"), "{text}");
    // What selects it, and what does not.
    let count = |words: &[&str]| stage.locks(words).len();
    assert_eq!(count(&["/ctr"]), 2);
    assert_eq!(count(&[&stage.world.path("mnt/ctr").display().to_string()]), 2);
    assert_eq!(count(&[&id(&held[0])]), 1);
    assert_eq!(count(&[&format!("client:{}", held[0]["client"].as_str().expect("a client"))]), 1);
    assert_eq!(count(&[&format!("owner:{}", held[0]["owner"].as_str().expect("an owner"))]), 1);
    assert_eq!(count(&["brick:stats"]), 2);
    assert_eq!(count(&["--type", "flock"]), 0);
    assert_eq!(count(&["--stale"]), 0);
    assert_eq!(count(&["--older", "1h"]), 0);
    assert_eq!(count(&["--waiters"]), 2);
    holder.does("lock 0 100 u now");
    assert_eq!(waiter.hear(), "ok");
    assert_eq!(count(&["--waiters"]), 0);
}

#[test]
fn blockers_draws_who_waits_for_whom_and_explain_says_what_a_lock_would_meet() {
    let Some(stage) = Stage::new() else { return };
    let (mut holder, mut one, mut other) =
        (stage.locker("mnt", "ctr"), stage.locker("mnt2", "ctr"), stage.locker("mnt2", "ctr"));
    assert_eq!(stage.run(&["locks", "blockers"]).ok(), "nobody waits\n");
    holder.does("lock 0 100 w now");
    one.say("lock 50 100 w wait");
    stage.until("waiting", 1);
    // Not in the way of what is held, but behind what waits.
    other.say("lock 120 10 r wait");
    stage.until("waiting", 2);
    let text = stage.run(&["locks", "blockers"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("/ctr on stats — 2 waiting, worst "), "{text}");
    assert!(lines[1].contains("WRITE 0-99  held") && lines[1].ends_with("← without it 1 is granted at once"), "{text}");
    assert!(lines[2].starts_with("  └─ ") && lines[2].contains("WRITE 50-149  waiting"), "{text}");
    assert!(lines[3].starts_with("     └─ ") && lines[3].contains("READ 120-129  waiting"), "{text}");
    let json = stage.run(&["locks", "blockers", "--json"]).json();
    assert_eq!(json["items"][0]["blockers"][0]["waiters"][0]["waiters"][0]["lock"]["start"], 120, "{json}");
    assert_eq!(json["deadlocks"], Value::Array(Vec::new()), "{json}");
    let explained = stage.run(&["locks", "explain", "/ctr", "0-9"]).ok();
    assert!(explained.contains("fcntl, write      waits for lk:"), "{explained}");
    assert!(explained.contains("flock, exclusive  is granted at once"), "{explained}");
    let free = stage.run(&["locks", "explain", "/ctr", "1000-EOF", "--json"]).json();
    assert_eq!(free["askedNow"][0]["granted"], true, "{free}");
    stage.run(&["locks", "explain", "/nothing"]).failed(1, "error[E0412]");
}

#[test]
fn a_dropped_lock_is_fenced_before_others_get_it_and_leaves_a_receipt() {
    let Some(stage) = Stage::new() else { return };
    let (mut holder, mut waiter) = (stage.locker("mnt", "ctr"), stage.locker("mnt2", "ctr"));
    holder.does("lock 0 100 w now");
    waiter.say("lock 50 100 w wait");
    let waiting = id(&stage.until("waiting", 1)[0]);
    let held = id(&stage.until("held", 1)[0]);
    let dry = stage.run(&["locks", "drop", &held, "--dry-run"]).ok();
    assert!(dry.contains("will drop 1 lock:") && dry.contains(&format!("then    {waiting} is granted")), "{dry}");
    assert!(dry.ends_with("nothing was changed (--dry-run)\n"), "{dry}");
    // Without a word, and with the wrong one.
    stage.run(&["locks", "drop", &held]).failed(2, "will drop 1 lock:");
    let wrong = stage.world.shell(&format!("echo lk:1234 | brickwork locks drop {held}"));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert_eq!(stage.locks(&[]).len(), 2, "nothing was dropped");
    let dropped = stage.world.shell(&format!("echo {held} | brickwork locks drop {held} --reason 'web01 hangs'")).ok();
    assert!(dropped.starts_with("✓ fenced 1 open · ✓ dropped 1 lock · ✓ "), "{dropped}");
    assert!(dropped.contains(&format!("{waiting} granted")), "{dropped}");
    assert_eq!(waiter.hear(), "ok");
    // Who lost the lock acts on it no more.
    holder.say("write");
    assert_eq!(holder.hear(), "EIO");
    let receipt = dropped.split_whitespace().find(|word| word.starts_with("rc-")).expect("a receipt");
    let receipts = stage.run(&["locks", "receipts"]).ok();
    assert!(
        receipts.contains(receipt) && receipts.contains("web01 hangs") && receipts.contains("dropped"),
        "{receipts}"
    );
    // Not while somebody has it; then the free part; what was restored is not restored again.
    let refused = stage.run(&["locks", "restore", receipt]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains(": conflicts with lk:") && refused.stderr.contains("E0406"), "{refused:?}");
    let shrunk = stage.run(&["locks", "restore", receipt, "--shrink"]);
    assert!(shrunk.stdout.contains(": only 0-49;"), "{shrunk:?}");
    waiter.does("lock 50 100 u now");
    stage.run(&["locks", "restore", receipt]).ok();
    assert_eq!(stage.locks(&[])[0]["end"], 99);
    stage.run(&["locks", "restore", receipt]).failed(1, "was restored already");
    // The lock goes with the file, although nobody unlocks it.
    holder.say("close");
    holder.hear();
    stage.world.until("the restored lock has gone with its file", || stage.locks(&[]).is_empty().then_some(()));
    stage.run(&["locks", "drop", &held, "-y"]).failed(1, "error[E0403]");
}

#[test]
fn a_lock_without_a_fence_is_given_back_as_if_nothing_had_been() {
    let Some(stage) = Stage::new() else { return };
    let mut holder = stage.locker("mnt", "ctr");
    holder.does("lock 10 10 w now");
    let dropped = stage.run(&["locks", "drop", "/ctr", "-y", "--no-fence", "--json"]).json();
    assert_eq!((&dropped["kind"], &dropped["fencedOpens"]), (&"DroppedLockList".into(), &0.into()), "{dropped}");
    assert!(stage.locks(&[]).is_empty());
    let receipt = dropped["receipt"].as_str().expect("a receipt");
    let restored = stage.run(&["locks", "restore", receipt, "--json"]).json();
    assert_eq!(restored["items"][0]["outcome"], "restored", "{restored}");
    holder.does("write");
    assert_eq!(stage.until("held", 1)[0]["pid"], holder.pid());
    holder.does("lock 10 10 u now");
    assert!(stage.locks(&[]).is_empty());
}

#[test]
fn a_closed_file_gets_no_lock_back() {
    let Some(stage) = Stage::new() else { return };
    let mut holder = stage.locker("mnt", "ctr");
    holder.does("lock 0 10 w now");
    let dropped = stage.run(&["locks", "drop", "/ctr", "-y", "--no-fence", "--json"]).json();
    holder.does("close");
    let receipt = dropped["receipt"].as_str().expect("a receipt").to_owned();
    // The kernel tells of the last close after the close has returned.
    stage.world.until("the file is closed at the brick", || {
        let status = stage.run(&["brick", "status", "--json"]).json();
        let sessions = status["items"][0]["sessions"].as_array().expect("sessions").clone();
        sessions.iter().all(|session| session["opens"] == 0).then_some(())
    });
    let refused = stage.run(&["locks", "restore", &receipt]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("is gone or has closed the file"), "{refused:?}");
    assert!(stage.locks(&[]).is_empty(), "nobody could release it");
}

#[test]
fn a_request_that_waits_is_dropped_alone_and_its_program_is_told() {
    let Some(stage) = Stage::new() else { return };
    let (mut holder, mut waiter) = (stage.locker("mnt", "ctr"), stage.locker("mnt2", "ctr"));
    holder.does("lock 0 100 w now");
    waiter.say("lock 0 100 w wait");
    let waiting = id(&stage.until("waiting", 1)[0]);
    let held = id(&stage.until("held", 1)[0]);
    stage.run(&["locks", "drop", &held, "--wait-only", "-y"]).failed(1, "error[E0403]");
    let text = stage.run(&["locks", "drop", &waiting, "--wait-only", "-y"]).ok();
    assert_eq!(text, "✓ dropped 1 lock\n", "nothing to give back, so no receipt");
    assert_eq!(waiter.hear(), "EDEADLK");
    assert_eq!(stage.locks(&[]).len(), 1);
    holder.does("write");
}

#[test]
fn a_deadlock_of_flocks_is_shown_with_the_command_that_ends_it() {
    let Some(stage) = Stage::new() else { return };
    // Nobody refuses a flock for a cycle: neither the kernel nor the brick.
    let (mut one_a, mut one_b) = (stage.locker("mnt", "a"), stage.locker("mnt2", "b"));
    one_a.does("flock");
    one_b.does("flock");
    one_a.say(&format!("flock {}", stage.world.path("mnt/b").display()));
    stage.until("waiting", 1);
    one_b.say(&format!("flock {}", stage.world.path("mnt2/a").display()));
    let text = stage.world.until("a deadlock", || {
        let text = stage.run(&["locks", "blockers"]).ok();
        text.contains("DEADLOCK (2 processes, since ").then_some(text)
    });
    let next = text.lines().find_map(|line| line.trim().strip_prefix("next: brickwork ")).expect("what to do");
    let command = next.split("      (").next().expect("the command");
    let json = stage.run(&["locks", "blockers", "--json"]).json();
    assert_eq!(json["deadlocks"][0]["processes"].as_array().map(Vec::len), Some(2), "{json}");
    stage.world.shell(&format!("brickwork {command} -y")).ok();
    // The younger is told, and the other still waits for the lock that nobody took from it.
    assert_eq!(one_b.hear(), "EDEADLK");
    assert!(!stage.run(&["locks", "blockers"]).ok().contains("DEADLOCK"));
    one_b.does("close");
    assert_eq!(one_a.hear(), "ok");
}

#[test]
fn a_tool_takes_a_lock_over_through_a_mount_and_releases_it() {
    let Some(stage) = Stage::with("    option reclaim-lock on\n    option reclaim-from any\n") else { return };
    let mut holder = stage.locker("mnt", "ctr");
    holder.does("lock 0 100 w now");
    let owner = stage.until("held", 1)[0]["owner"].as_str().expect("an owner").to_owned();
    let path = stage.world.path("mnt2/ctr").display().to_string();
    let (owner, run) = (owner.as_str(), |words: &[&str]| stage.run(words));
    let wrong = run(&["locks", "reclaim", &path, "--owner", owner, "--range", "0-50"]);
    wrong.failed(1, "error[E0407]");
    assert!(wrong.stderr.contains("range-mismatch"), "{wrong:?}");
    run(&["locks", "reclaim", &path, "--owner", "ffff", "--range", "0-99"]).failed(1, "error[E0407]");
    let before = stage.until("held", 1);
    run(&["locks", "reclaim", &path, "--owner", owner, "--range", "0-99"]).ok();
    let after = stage.until("held", 1);
    assert_ne!(before[0]["client"], after[0]["client"]);
    holder.say("write");
    assert_eq!(holder.hear(), "EIO", "who lost the lock is fenced");
    run(&["locks", "release", &path, "--owner", owner]).ok();
    assert!(stage.locks(&[]).is_empty());
    run(&["locks", "release", &path, "--owner", owner]).failed(1, "error[E0403]");
    run(&["locks", "reclaim", "/etc/passwd", "--owner", owner]).failed(2, "error[E0410]");
}

#[test]
fn a_brick_without_its_journal_is_in_grace_until_its_clients_have_claimed() {
    let Some(stage) = Stage::losing_its_journal() else { return };
    assert_eq!(stage.run(&["grace", "status"]).ok(), "stats   not in grace\n");
    let mut holder = stage.locker("mnt", "ctr");
    holder.does("lock 0 100 w now");
    stage.until("held", 1);
    // The client that holds it is stopped: it cannot claim.
    stage.world.signal(rustix::process::Signal::STOP);
    let resume = Resume(&stage.world);
    stage.world.signal_brick(rustix::process::Signal::KILL);
    stage
        .world
        .until("the brick is dead", || stage.run(&["locks", "list", "-i", "brick"]).code.filter(|code| *code != 0));
    std::fs::remove_dir_all(stage.world.path("journal/journal")).expect("the journal of the locks");
    stage.world.serve_again().ok();
    // Not the stopped process: it would be waited for.
    let run = |words: &[&str]| stage.run(&[&["-i", "brick"], words].concat());
    let status = run(&["grace", "status"]);
    assert_eq!(status.code, Some(75), "{status:?}");
    assert!(status.stdout.contains("IN GRACE   reason: lock journal missing"), "{status:?}");
    let json = run(&["grace", "status", "--json"]).json();
    assert_eq!(
        (&json["items"][0]["active"], json["items"][0]["clients"].as_array().map(Vec::len)),
        (&true.into(), Some(1))
    );
    assert!(run(&["status"]).stdout.contains("is in grace for"), "status names it");
    let refused = run(&["grace", "end"]);
    refused.failed(75, "error[E0408]");
    let ended = run(&["grace", "end", "stats", "--force"]).ok();
    assert!(ended.starts_with("the grace of stats is over; these clients lose"), "{ended}");
    assert_eq!(run(&["grace", "status"]).ok(), "stats   not in grace\n");
    drop(resume);
    holder.say("write");
    assert_eq!(holder.hear(), "EIO", "its lock is lost, and it is told");
}

/// Lets the process of the first mount go on, also when the test fails: nobody could unmount it otherwise.
struct Resume<'w>(&'w World);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        self.0.signal(rustix::process::Signal::CONT);
    }
}

#[test]
fn an_instance_that_keeps_no_locks_says_where_to_ask() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let done = world.run(["locks", "list"]);
    done.failed(1, "error[E0401]: `test` keeps no locks");
    assert!(done.stderr.contains("next"), "{done:?}");
    world.run(["grace", "status"]).failed(1, "error[E0401]");
    world.umount("mnt");
}

#[test]
fn what_cannot_be_read_is_refused_before_anybody_is_asked() {
    let world = World::of(Vec::new(), env!("CARGO_BIN_EXE_brickwork").into());
    for words in [
        &["locks", "list", "lk:xyz"][..],
        &["locks", "list", "client:a", "client:b"],
        &["locks", "list", "no/path/of/a/volume"],
        &["locks", "drop"],
        &["locks", "explain", "/f", "9-0"],
        &["locks", "reclaim", "/f", "--owner", "0"],
    ] {
        let done = world.run(words);
        assert_eq!(done.code, Some(2), "{words:?}: {done:?}");
    }
    world.run(["locks", "restore", "rc-0"]).failed(1, "error[E0405]");
    assert_eq!(world.run(["locks", "receipts"]).ok(), "no receipts\n");
}

#[test]
fn the_volfile_shows_every_option_of_locks_at_its_default_and_runs_as_it_is() {
    let Some(world) = World::new() else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/volfiles/locks.vol");
    let text = std::fs::read_to_string(file).expect("the volfile");
    world.run(["volfile", "check", file]).ok();
    world.run(["volfile", "fmt", "--check", file]).ok();
    let about = world.run(["xlator", "info", "features/locks", "--json"]).json();
    let options = about["items"][0]["options"].as_array().expect("options").clone();
    assert!(options.len() > 10, "{about}");
    for option in options {
        let name = option["key"].as_str().expect("a name");
        match option["default"].as_str() {
            Some(default) => assert!(text.contains(&format!("\n    option {name} {default}\n")), "{name} {default}"),
            None => assert!(text.contains(name), "{name}"),
        }
    }
    let directory = format!("posix.directory={}", world.path("brick").display());
    let port = free_port();
    let listen = format!("server.transport.socket.listen-port={port}");
    let files = ["--background", "--pid-file", "brick.pid", "--log-file", "brick.log"];
    let serve = ["brick", "serve", file, "--xlator-option", &directory, "--xlator-option", &listen];
    world.run(serve.iter().chain(&files)).ok();
    assert_eq!(world.run(["locks", "list"]).ok(), "no locks (0 held, 0 waiting)\n");
}

/// Free now; whoever takes it before the brick does fails its test with a word of it.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}

#[test]
fn the_page_about_locks_works_as_it_stands() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/locks.md")).expect("the page");
    let here = |line: &str| {
        let folder = |name: &str| world.path(name).display().to_string();
        line.replace("/etc/brickwork/volfiles", &folder("home"))
            .replace("/srv/b1", &folder("brick"))
            .replace("/mnt/gd1-too", &folder("mnt2"))
            .replace("/mnt/gd1", &folder("mnt"))
            .replace("/run/gd1-b1.pid", &folder("brick.pid"))
            .replace("vm1:/", &format!("127.0.0.1:{port}:/"))
            .replace("remote-host vm1", "remote-host 127.0.0.1")
            .replace("24007", &port.to_string())
    };
    let (mut file, mut commands, mut lockers) = (None, 0, Vec::new());
    let list = || world.run(["locks", "list", "--json"]).json()["items"].as_array().expect("items").clone();
    for line in page.lines() {
        let named = line.strip_prefix('`').and_then(|line| line.split_once("`, ")).map(|(path, _)| path);
        if let Some(path) = named.filter(|path| path.starts_with("/etc/")) {
            std::fs::write(here(path), "").expect("write");
            file = Some(here(path));
        }
        let Some(code) = line.strip_prefix("    ") else { continue };
        let verb = code.split_whitespace().next().unwrap_or_default();
        // The programs of the page: what holds a lock, and what waits for it.
        if let Some(path) = code.strip_prefix("python3 hold.py ").map(here) {
            let mut locker = Locker::at(Path::new(&path));
            locker.does("lock 0 100 w now");
            lockers.push(locker);
        } else if let Some(path) = code.strip_prefix("python3 wait.py ").map(here) {
            let mut locker = Locker::at(Path::new(&path));
            locker.say("lock 0 100 w wait");
            lockers.push(locker);
            world.until("it waits", || list().iter().any(|lock| lock["state"] == "waiting").then_some(()));
        } else if ["brickwork", "mkdir", "kill"].contains(&verb) {
            (file, commands) = (None, commands + 1);
            let mut command = here(code);
            if let Some(receipt) = command.split_whitespace().find(|word| word.starts_with("rc-")).map(str::to_owned) {
                let receipts = world.run(["locks", "receipts", "--json"]).json();
                command = command.replace(&receipt, receipts["items"][0]["id"].as_str().expect("a receipt"));
            }
            if command.contains("OWNER") {
                let held = list().into_iter().find(|lock| lock["path"] == "/vm.img").expect("what is held");
                command = command.replace("OWNER", held["owner"].as_str().expect("an owner"));
            }
            let done = match command.strip_prefix("brickwork umount ") {
                Some(place) => {
                    world.umount(place);
                    continue;
                }
                None => world.shell(&command),
            };
            // The waiter has got what was dropped: none of it is free.
            match command.contains(" restore ") {
                true => done.failed(1, "error[E0406]"),
                false => drop(done.ok()),
            }
            if code.contains("release") {
                // Programs that have files open would be in the way of the end.
                lockers.clear();
            }
        } else {
            let path = file.as_ref().unwrap_or_else(|| panic!("neither a command nor a file: {code}"));
            let text = std::fs::read_to_string(path).expect("read") + &here(code) + "\n";
            std::fs::write(path, text).expect("write");
        }
    }
    assert!(commands >= 20, "{commands}");
    world.until("the brick has ended", || (!world.path("brick.pid").exists()).then_some(()));
}

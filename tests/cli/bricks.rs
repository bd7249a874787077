//! `brickwork brick serve` and `status`, and mounts of what it serves: two processes, a unix socket between them.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{ended, is_mounted};
use crate::world::World;

/// A world whose brick is served.
fn served() -> Option<World> {
    let world = World::new()?;
    world.serve("").ok();
    Some(world)
}

/// Mounts `gd1` by its name at `mnt`, with `more` words.
fn mount(world: &World, more: &[&str]) -> crate::world::Done {
    let spec = world.spec("gd1");
    let fixed = ["mount", &spec, "mnt", "--pid-file", "pid", "--log-file", "log"];
    world.run(fixed.iter().chain(more))
}

#[test]
fn a_volume_is_mounted_by_its_name_and_its_files_are_the_bricks() {
    let Some(world) = served() else { return };
    mount(&world, &[]).ok();
    std::fs::write(world.path("mnt/f"), "over the socket").expect("write");
    assert_eq!(std::fs::read_to_string(world.path("brick/f")).expect("the brick"), "over the socket");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let line = mounts.lines().find(|line| line.contains(world.path("mnt").to_str().expect("UTF-8"))).expect("ours");
    assert!(line.contains(&format!("fuse.brickwork {}", world.spec("gd1"))), "df shows where it is from: {line}");
    assert_eq!(world.run(["status", "gd1", "--exit-code"]).code, Some(0), "the instance is called as the volume");
    world.umount("mnt");
    assert!(world.log().contains("volfile fetched"), "{}", world.log());
}

#[test]
fn a_client_volfile_is_mounted_as_any_other() {
    let Some(world) = served() else { return };
    world.write("test.vol", &world.client_volfile(""));
    world.mount(&[]).ok();
    std::fs::write(world.path("mnt/f"), "x").expect("write");
    world.umount("mnt");
    assert!(world.path("brick/f").exists());
}

#[test]
fn mount_brickwork_mounts_a_volume_by_its_name() {
    let Some(world) = served() else { return };
    world.helper([&world.spec("gd1"), "mnt", "-o", "rw,wait=5s,log-file=log"]).ok();
    std::fs::write(world.path("mnt/f"), "x").expect("write");
    world.umount("mnt");
    let missing = world.helper([&world.spec("gd2"), "mnt"]);
    assert_eq!(missing.code, Some(32));
    let first = missing.stderr.lines().next().unwrap_or_default().to_owned();
    assert!(first.contains("no such volume `gd2` ") && first.ends_with("(it serves: gd1) [E0201]"), "{missing:?}");
}

#[test]
fn brick_status_lists_bricks_with_their_clients_and_status_what_runs() {
    let Some(world) = served() else { return };
    let socket = world.path("sock").display().to_string();
    let alone = world.run(["brick", "status"]).ok();
    assert!(alone.starts_with("BRICK") && alone.contains("stats") && alone.contains(&socket), "{alone}");
    mount(&world, &[]).ok();
    let open = File::create(world.path("mnt/f")).expect("create");
    let list = world.run(["brick", "status", "--json"]).json();
    assert_eq!(list["kind"], "BrickStatusList", "{list}");
    let brick = &list["items"][0];
    assert_eq!((&brick["name"], &brick["instance"]), (&"stats".into(), &"brick".into()), "{list}");
    assert!(brick["capacity"]["totalBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{list}");
    assert!(brick["boot"].as_u64().is_some_and(|boot| boot > 0), "{list}");
    let session = brick["sessions"].as_array().and_then(|sessions| sessions.first()).expect("a client");
    assert_eq!((&session["state"], &session["opens"]), (&"attached".into(), &1.into()), "{list}");
    let pid = std::fs::read_to_string(world.path("pid")).expect("the pid");
    assert_eq!(session["pid"].to_string(), pid.trim(), "{list}");
    drop(open);
    let text = world.run(["brick", "status", "brick"]).ok();
    assert!(text.contains("CLIENT") && text.contains("attached"), "{text}");
    let status = world.run(["status"]).ok();
    assert!(status.contains("brick   healthy   1 brick · 1 client · listening at "), "{status}");
    assert!(status.contains("BRICK  INSTANCE  STATE"), "{status}");
    world.run(["brick", "status", "gd1"]).failed(69, "`gd1` serves no bricks");
    world.umount("mnt");
}

#[test]
fn a_brick_that_is_gone_is_a_problem_with_what_it_does_and_what_to_do_and_not_when_it_is_back() {
    let Some(world) = served() else { return };
    mount(&world, &[]).ok();
    std::fs::write(world.path("mnt/f"), "before").expect("write");
    let brick = world.brick();
    world.signal_brick(Signal::KILL);
    assert!(ended(&brick));
    let status = world.until("the brick is missed", || {
        let status = world.run(["status", "gd1", "--exit-code"]);
        (status.code == Some(3)).then_some(status.stdout)
    });
    for part in ["gd1   DEGRADED", "✗ brick `b1` (", "    effect   ", "    next     ", "explain E0207"] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let all = world.run(["status"]).ok();
    assert!(!all.contains(&format!("the process behind the mount `{}`", world.path("mnt").display())), "{all}");
    let again = ["mount", "test.vol", "mnt", "--log-file", "log2", "--pid-file", "pid2"];
    world.run(again).failed(1, "error[E0122]: `gd1` is mounted at ");
    let json = world.run(["status", "gd1", "--json"]).json();
    let link = &json["items"][0]["links"][0];
    assert!(link["name"] == "b1" && link["state"] != "up" && link["reason"].is_string(), "{json}");
    world.serve("").ok();
    assert_eq!(std::fs::read_to_string(world.path("mnt/f")).expect("it waits and goes on"), "before");
    assert_eq!(world.run(["status", "gd1", "--exit-code"]).code, Some(0));
    world.umount("mnt");
}

#[test]
fn a_mount_that_waits_is_there_when_its_brick_is_and_one_that_does_not_fails_at_once() {
    let Some(world) = World::new() else { return };
    let begun = std::time::Instant::now();
    mount(&world, &[]).failed(69, "error[E0207]: no brick can be reached at unix:");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut waiting = world
        .command()
        .args(["mount", &world.spec("gd1"), "mnt", "-o", "wait=60s", "--log-file", "log", "--pid-file", "pid"])
        .spawn()
        .expect("it starts");
    world.until("it asks", || std::fs::read_to_string(world.path("log")).ok()?.contains("asked again").then_some(()));
    assert!(waiting.try_wait().expect("look").is_none() && !is_mounted(&world.path("mnt")));
    world.serve("").ok();
    assert!(waiting.wait().expect("wait").success());
    assert!(is_mounted(&world.path("mnt")));
    world.umount("mnt");
}

#[test]
fn a_mount_that_waits_too_long_says_who_is_missing() {
    let Some(world) = World::new() else { return };
    mount(&world, &["-o", "wait=700ms"]).failed(69, "error[E0207]: no brick can be reached at unix:");
    // The volfile is here, its brick is not.
    world.write("test.vol", &world.client_volfile(""));
    world.mount(&[]).failed(69, "error[E0207]: brick `b1` (");
    world.mount(&["-o", "wait=700ms"]).failed(69, "cannot be reached after 700ms");
    assert!(!is_mounted(&world.path("mnt")));
}

#[test]
fn another_server_is_asked_when_the_first_is_not_there() {
    let Some(world) = served() else { return };
    let spec = format!("unix:/nowhere/sock,{}", world.spec("gd1"));
    world.run(["mount", &spec, "mnt", "--log-file", "log", "--pid-file", "pid"]).ok();
    world.umount("mnt");
}

#[test]
fn what_a_brick_refuses_is_told_with_a_code_of_its_own() {
    let Some(world) = World::new() else { return };
    world.serve("    option auth.login.stats.allow joe\n    option auth.login.joe.password right\n").ok();
    world.write("gd1.vol", &world.client_volfile("    option username joe\n    option password wrong\n"));
    let done = mount(&world, &[]);
    done.failed(77, "error[E0204]: ");
    assert!(!done.stderr.contains("wrong") && !world.log().contains("password wrong"), "{done:?}");
    world.write("gd1.vol", &world.client_volfile("    option username joe\n    option password right\n"));
    mount(&world, &[]).ok();
    world.umount("mnt");
}

/// Writes a certificate that signed itself, and its key, and returns the words of `-o` and the options of a volfile that
/// use them and believe `trusted`.
fn certificate(world: &World, name: &str, trusted: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let own = world.write(&format!("{name}.pem"), &made.cert.pem());
    let key = world.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    let (own, key, trusted) = (own.display(), key.display(), world.path(trusted));
    let trusted = trusted.display();
    (
        format!("ssl=on,ssl-own-cert={own},ssl-private-key={key},ssl-ca-list={trusted}"),
        format!(
            "    option transport.socket.ssl-enabled on\n    option transport.socket.ssl-own-cert {own}\n    \
             option transport.socket.ssl-private-key {key}\n    option transport.socket.ssl-ca-list {trusted}\n"
        ),
    )
}

#[test]
fn a_volfile_is_fetched_over_tls_from_a_brick_that_wants_it_and_foreign_certificates_are_told() {
    let Some(world) = World::new() else { return };
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let (_, of_brick) = certificate(&world, "brick.tls", "client.tls.pem");
    let (words, of_client) = certificate(&world, "client.tls", "brick.tls.pem");
    let (foreign, _) = certificate(&world, "other.tls", "other.tls.pem");
    let tcp = |text: String| {
        let lines = text.lines().filter(|line| !line.contains("-path ")).map(|line| format!("{line}\n"));
        lines.collect::<String>().replace("transport-type unix", "transport-type tcp")
    };
    let listen = format!("    option transport.socket.listen-port {port}\n{of_brick}");
    world.write(
        "brick.vol",
        &tcp(world.brick_volfile(""))
            .replace("    subvolumes stats\nend", &format!("{listen}    subvolumes stats\nend")),
    );
    let connect = format!("    option remote-host 127.0.0.1\n    option remote-port {port}\n{of_client}end-volume");
    world.write("gd1.vol", &tcp(world.client_volfile("")).replace("end-volume", &connect));
    world
        .run(["brick", "serve", "brick.vol", "--background", "--pid-file", "brick.pid", "--log-file", "brick.log"])
        .ok();
    let spec = format!("127.0.0.1:{port}:/gd1");
    let mount =
        |options: &str| world.run(["mount", &spec, "mnt", "-o", options, "--log-file", "log", "--pid-file", "pid"]);
    mount(&foreign).failed(1, "error[E0205]: ");
    assert_eq!(mount("ro").code, Some(69), "nobody answers in the clear");
    mount("ssl=on,ssl-ca-list=/nowhere").failed(1, "error[E0205]: TLS cannot be used");
    mount(&words).ok();
    std::fs::write(world.path("mnt/f"), "x").expect("write");
    world.umount("mnt");
}

#[test]
fn what_answers_and_is_no_brick_is_told() {
    let Some(world) = World::new() else { return };
    let listener = std::os::unix::net::UnixListener::bind(world.path("sock")).expect("bind");
    let stranger = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(b"220 mail.example.org ESMTP ready, please say who you are and what you want\r\n").ok();
        let mut rest = Vec::new();
        // It may have gone at the first word.
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    });
    mount(&world, &[]).failed(1, "error[E0206]: ");
    stranger.join().expect("the stranger");
}

#[test]
fn sigterm_of_a_brick_ends_it_in_good_order_and_open_files_live_on_in_the_next() {
    let Some(world) = served() else { return };
    mount(&world, &[]).ok();
    // By a process of its own: a copy of the open file in each command that this one starts would be flushed, and that
    // waits for the brick.
    let mut writer = std::process::Command::new("sh")
        .args(["-c", "exec 7>mnt/f && echo open && read line && echo after >&7"])
        .current_dir(world.folder())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut said = [0; 5];
    std::io::Read::read_exact(writer.stdout.as_mut().expect("piped"), &mut said).expect("it opens the file");
    let brick = world.brick();
    world.signal_brick(Signal::TERM);
    assert!(ended(&brick));
    assert!(!world.path("brick.pid").exists() && !world.path("run/brick.sock").exists());
    world.serve("").ok();
    std::io::Write::write_all(&mut writer.stdin.take().expect("piped"), b"\n").expect("it reads");
    assert!(writer.wait().expect("wait").success(), "the file is open again");
    assert_eq!(std::fs::read_to_string(world.path("brick/f")).expect("read"), "after\n");
    world.umount("mnt");
}

#[test]
fn sighup_of_a_brick_changes_live_options_and_of_its_client_fetches_the_volfile_again() {
    let Some(world) = served() else { return };
    mount(&world, &[]).ok();
    let option = |instance: &str, xlator: &str, key: &str| {
        let dump = world.run(["dump", instance]).json();
        let xlators = dump["items"][0]["graph"]["xlators"].as_array().expect("xlators").clone();
        let found = xlators.iter().find(|node| node["name"] == xlator).expect("the xlator");
        found["options"][key].clone()
    };
    world.write("brick.vol", &world.brick_volfile("    option root-squash on\n"));
    world.signal_brick(Signal::HUP);
    world.until("squashed", || (option("brick", "server", "root-squash") == "on").then_some(()));
    world.write("gd1.vol", &world.client_volfile("    option reconnect-wait 7s\n"));
    world.signal(Signal::HUP);
    world.until("fetched again", || (option("gd1", "b1", "reconnect-wait") == "7s").then_some(()));
    world.umount("mnt");
}

#[test]
fn the_volfiles_of_a_brick_and_its_client_run_as_they_are() {
    let Some(world) = World::new() else { return };
    let file = |name: &str| format!("{}/volfiles/{name}", env!("CARGO_MANIFEST_DIR"));
    for name in ["brick.vol", "client.vol"] {
        world.run(["volfile", "check", &file(name)]).ok();
        world.run(["volfile", "fmt", "--check", &file(name)]).ok();
    }
    // Free now; whoever takes it before the brick does fails this test with a word of it.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let directory = format!("posix.directory={}", world.path("brick").display());
    let listen = format!("server.transport.socket.listen-port={port}");
    let files = ["--background", "--pid-file", "brick.pid", "--log-file", "brick.log"];
    let serve = ["brick", "serve", &file("brick.vol"), "--xlator-option", &directory, "--xlator-option", &listen];
    world.run(serve.iter().chain(&files)).ok();
    let connect = format!("client.remote-port={port}");
    let mount = ["mount", &file("client.vol"), "mnt", "--xlator-option", &connect];
    world.run(mount.iter().chain(&["--pid-file", "pid", "--log-file", "log"])).ok();
    std::fs::write(world.path("mnt/f"), "x").expect("it serves");
    assert!(world.path("brick/f").exists());
    world.umount("mnt");
}

#[test]
fn the_page_about_the_network_works_as_it_stands() {
    let Some(world) = World::new() else { return };
    // Free now; whoever takes it before the brick does fails this test with a word of it.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/network.md")).expect("the page");
    let here = |line: &str| {
        let folder = |name: &str| world.path(name).display().to_string();
        line.replace("/etc/brickwork/volfiles", &folder("home"))
            .replace("/srv/b1", &folder("brick"))
            .replace("/mnt/gd1", &folder("mnt"))
            .replace("/run/gd1-b1.pid", &folder("brick.pid"))
            .replace("vm1:/", &format!("127.0.0.1:{port}:/"))
            .replace("remote-host vm1", "remote-host 127.0.0.1")
            .replace("24007", &port.to_string())
    };
    // A file of the page: its path alone in a line with what it is, then its text.
    let mut file = None;
    let mut commands = 0;
    for line in page.lines() {
        if let Some(path) = line
            .strip_prefix('`')
            .and_then(|line| line.split_once("`, "))
            .map(|(path, _)| path)
            .filter(|path| path.starts_with("/etc/"))
        {
            std::fs::write(here(path), "").expect("write");
            file = Some(here(path));
        }
        let Some(code) = line.strip_prefix("    ") else { continue };
        let command = ["brickwork ", "mkdir ", "df ", "kill "].iter().any(|verb| code.starts_with(verb));
        match (&file, command) {
            (_, true) => {
                file = None;
                commands += 1;
                world.shell(&here(code)).ok();
            }
            (Some(path), false) => {
                let text = std::fs::read_to_string(path).expect("read") + &here(code) + "\n";
                std::fs::write(path, text).expect("write");
            }
            (None, false) => panic!("neither a command nor a file: {code}"),
        }
    }
    assert!(commands >= 9, "{commands}");
    world.until("the brick has ended", || (!world.path("brick.pid").exists()).then_some(()));
}

/// The words of a datagram to a service manager.
fn told(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = manager.recv(&mut bytes).expect("a datagram");
    String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
}

#[test]
fn the_service_manager_hears_ready_the_watchdog_reloads_and_the_end() {
    let Some(world) = World::new() else { return };
    let manager = UnixDatagram::bind(world.path("notify")).expect("a manager");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    world.write("brick.vol", &world.brick_volfile(""));
    let mut brick = world
        .command()
        .args(["brick", "serve", "brick.vol", "--pid-file", "brick.pid", "--log-format", "json"])
        .env("NOTIFY_SOCKET", world.path("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let ready = told(&manager);
    assert!(ready.starts_with("READY=1\nSTATUS=serving stats at "), "{ready}");
    assert!(Path::exists(&world.path("sock")), "it is ready when clients can come");
    let until = |what: &str| loop {
        let words = told(&manager);
        if words.starts_with(what) {
            return words;
        }
        assert!(words.starts_with("WATCHDOG=1\n"), "{words}");
    };
    assert!(until("WATCHDOG=1").contains("STATUS=serving stats at "));
    world.until("the pid file", || world.process_of("brick.pid"));
    world.signal_brick(Signal::HUP);
    assert!(until("RELOADING=1").contains("\nMONOTONIC_USEC="));
    until("READY=1");
    world.signal_brick(Signal::TERM);
    until("STOPPING=1");
    assert_eq!(brick.wait().expect("wait").code(), Some(0));
    let mut log = String::new();
    std::io::Read::read_to_string(&mut brick.stderr.take().expect("piped"), &mut log).expect("the log");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

//! Who may come in, on real bricks with real clients: the others are refused, told so, and in the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use brickwork_wire::message::Why;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::common::brick::{Brick, SUBVOLUME};
use crate::common::{Mounted, brickwork, can_mount};
use crate::peer::Peer;

/// What a mount that is refused says; it must not succeed.
#[track_caller]
fn refused_mount(brick: &Brick, options: &str) -> String {
    let point = brick.folder().join("refused");
    fs::create_dir_all(&point).expect("a mount point");
    let mut mount: Command = brickwork();
    mount.arg("mount").arg(brick.client(options)).arg(&point).arg("--log-file").arg(brick.folder().join("mount.log"));
    mount.env("BRICKWORK_RUNTIME_DIR", brick.folder().join("run"));
    let output = mount.output().expect("the command runs");
    if output.status.success() {
        // Before the test fails: what should not be mounted is not left behind.
        let _ = brickwork().arg("umount").arg(&point).env("BRICKWORK_RUNTIME_DIR", brick.folder().join("run")).output();
        panic!("it mounts");
    }
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// The client of `options` gets in and can work.
#[track_caller]
fn works(brick: &Brick, options: &str) {
    let Some(mount) = Mounted::client(&brick.client(options), &[]) else { return };
    fs::write(mount.path().join("f"), "content").expect("write");
    assert_eq!(fs::read_to_string(brick.directory().join("f")).expect("read"), "content");
    mount.unmount();
}

#[test]
fn a_password_that_is_wrong_or_missing_is_refused_and_the_right_one_works() {
    let options =
        format!("    option auth.login.{SUBVOLUME}.allow alice\n    option auth.login.alice.password correct-horse\n");
    let Some(brick) = Brick::with(&options).filter(|_| can_mount()) else { return };
    for login in [None, Some(("alice", "wrong")), Some(("alice", "")), Some(("bob", "correct-horse")), Some(("", ""))] {
        let position = brick.log_length();
        let refused = Peer::connect(brick.address()).choose(login).expect_err("nobody else may");
        assert_eq!(refused.why, Why::NotAllowed, "{login:?}");
        assert!(!refused.reason.contains("correct-horse"), "{refused:?}");
        brick.wait_for_log(position, "a client was refused");
        let line = brick.log_since(position);
        eprintln!("{login:?}: {line}");
        assert!(!line.contains("correct-horse"), "no password in the log");
    }
    Peer::connect(brick.address()).choose(Some(("alice", "correct-horse"))).expect("she may");
    let login = |password: &str| format!("    option username alice\n    option password {password}\n");
    works(&brick, &login("correct-horse"));
    eprintln!("{}", refused_mount(&brick, &login("wrong")));
    eprintln!("{}", refused_mount(&brick, ""));
}

#[test]
fn a_proof_of_another_connection_is_worth_nothing() {
    let options =
        format!("    option auth.login.{SUBVOLUME}.allow alice\n    option auth.login.alice.password correct-horse\n");
    let Some(brick) = Brick::with(&options) else { return };
    let mut first = Peer::connect(brick.address());
    let mut second = Peer::connect(brick.address());
    assert_ne!(first.welcome().nonce, second.welcome().nonce, "the brick throws in something new each time");
}

#[test]
fn a_foreign_address_is_refused_and_named_in_the_log() {
    for rule in ["allow 10.0.0.*", "reject 127.0.0.1", "allow 192.168.0.0/16,10.*"] {
        let Some(brick) = Brick::with(&format!("    option auth.addr.{SUBVOLUME}.{rule}\n")) else { return };
        let position = brick.log_length();
        let refused = Peer::connect(brick.address()).choose(None).expect_err("not from here");
        assert_eq!(refused.why, Why::NotAllowed, "{rule}");
        brick.wait_for_log(position, "127.0.0.1");
        if can_mount() {
            eprintln!("{rule}: {}", refused_mount(&brick, ""));
        }
    }
}

/// A CA and the files of the machines it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    /// Writes certificate and key of `name` into `folder`, and `trusted` as whom it believes; the options of TLS for
    /// them.
    fn machine(&self, folder: &Path, name: &str, trusted: &Authority) -> String {
        let key = KeyPair::generate().expect("a key");
        let certificate = named(name).signed_by(&key, &self.0).expect("a certificate");
        let write = |extension: &str, text: String| -> PathBuf {
            let path = folder.join(format!("{name}.{extension}"));
            fs::write(&path, text).expect("write");
            path
        };
        format!(
            "    option transport.socket.ssl-enabled on\n    option transport.socket.ssl-own-cert {}\n    \
             option transport.socket.ssl-private-key {}\n    option transport.socket.ssl-ca-list {}\n",
            write("pem", certificate.pem()).display(),
            write("key", key.serialize_pem()).display(),
            write("ca", trusted.0.pem()).display(),
        )
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

#[test]
fn a_foreign_certificate_is_refused_and_so_is_a_name_that_is_not_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Authority::new("our CA"), Authority::new("another CA"));
    let options = format!("{}    option auth.ssl-allow alice\n", ours.machine(folder.path(), "brick", &ours));
    let Some(brick) = Brick::with(&options).filter(|_| can_mount()) else { return };
    works(&brick, &ours.machine(folder.path(), "alice", &ours));
    for (what, client) in [
        ("of another CA", theirs.machine(folder.path(), "alice", &ours)),
        ("of another name", ours.machine(folder.path(), "mallory", &ours)),
        ("none, and no TLS", String::new()),
        ("none that the client believes", ours.machine(folder.path(), "alice", &theirs)),
    ] {
        let position = brick.log_length();
        let said = refused_mount(&brick, &client);
        brick.wait_for_log(position, "127.0.0.1");
        eprintln!("{what}: {said}\n{}", brick.log_since(position));
    }
    works(&brick, &ours.machine(folder.path(), "alice", &ours));
}

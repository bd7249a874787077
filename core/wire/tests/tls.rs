//! Who gets an encrypted connection, who does not, and what both are told.

use std::io;
use std::path::{Path, PathBuf};

use brickwork_api::options::OptionMap;
use brickwork_wire::tls::{
    AcceptOptions, ConnectOptions, Encrypted, TlsClient, TlsError, TlsOptions, TlsServer, reason,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

type Ca = CertifiedIssuer<'static, KeyPair>;
type Accepted = Result<Encrypted<DuplexStream>, TlsError>;

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ca(name: &str) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// The files of one machine.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(certificates: &str, key: &KeyPair, list: &str) -> Machine {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        std::fs::write(machine.path("pem"), certificates).unwrap();
        std::fs::write(machine.path("key"), key.serialize_pem()).unwrap();
        std::fs::write(machine.path("ca"), list).unwrap();
        machine
    }

    fn signed(params: &CertificateParams, ca: &Ca) -> Machine {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, ca).unwrap();
        Machine::new(&certificate.pem(), &key, &ca.pem())
    }

    /// One that believes `trusted` and has a certificate of `ca`.
    fn named(name: &str, ca: &Ca, trusted: &Ca) -> Machine {
        let machine = Machine::signed(&params(name, &[]), ca);
        std::fs::write(machine.path("ca"), trusted.pem()).unwrap();
        machine
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.folder.path().join(format!("glusterfs.{extension}"))
    }

    fn options(&self, more: &[(&str, &str)]) -> OptionMap {
        let mut options: OptionMap = more.iter().copied().collect();
        for (key, extension) in [("own-cert", "pem"), ("private-key", "key"), ("ca-list", "ca")] {
            let path = self.path(extension).to_str().unwrap().to_owned();
            options.insert(format!("transport.socket.ssl-{key}"), path);
        }
        options
    }

    fn server(&self, more: &[(&str, &str)]) -> Result<TlsServer, TlsError> {
        let options = self.options(more);
        TlsServer::load(&TlsOptions::parse(&options).unwrap(), &AcceptOptions::parse(&options).unwrap())
    }

    fn client(&self, more: &[(&str, &str)]) -> Result<TlsClient, TlsError> {
        client(&self.options(more))
    }
}

fn client(options: &OptionMap) -> Result<TlsClient, TlsError> {
    TlsClient::load(&TlsOptions::parse(options).unwrap(), &ConnectOptions::parse(options).unwrap())
}

/// What both ends get. The client's end is an error also when the server refuses it after its own handshake.
async fn meet(
    server: &TlsServer,
    client: &TlsClient,
    host: &str,
) -> (Accepted, Result<Encrypted<DuplexStream>, String>) {
    let (there, here) = tokio::io::duplex(64 << 10);
    let serving = async {
        let mut accepted = server.accept(there).await;
        if let Ok(peer) = &mut accepted {
            peer.stream.write_all(b"come in").await.unwrap();
            peer.stream.flush().await.unwrap();
        }
        accepted
    };
    let connecting = async {
        let mut connected = client.connect(here, host).await.map_err(|error| error.to_string())?;
        let mut word = [0; 7];
        match connected.stream.read_exact(&mut word).await {
            Ok(_) => assert_eq!(&word, b"come in"),
            Err(error) => return Err(reason(&error).unwrap_or_else(|| format!("unexplained: {error:?}"))),
        }
        Ok(connected)
    };
    tokio::join!(serving, connecting)
}

fn name<S>(encrypted: &Encrypted<S>) -> Option<&str> {
    encrypted.peer.as_ref().map(|peer| peer.as_str())
}

fn said<T>(result: Result<T, impl ToString>) -> String {
    result.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn the_right_pair_connects_and_each_knows_the_name_of_the_other() {
    let ca = ca("authority");
    let server = Machine::named("brick-1", &ca, &ca).server(&[]).unwrap();
    let client = Machine::named("client-7", &ca, &ca).client(&[]).unwrap();
    let (accepted, connected) = meet(&server, &client, "10.1.2.3").await;
    assert_eq!(name(&accepted.unwrap()), Some("client-7"));
    assert_eq!(name(&connected.unwrap()), Some("brick-1"));
}

#[tokio::test]
async fn a_client_of_a_foreign_authority_is_refused_and_told_so() {
    let (ours, foreign) = (ca("ours"), ca("foreign"));
    let server = Machine::named("brick-1", &ours, &ours).server(&[]).unwrap();
    let client = Machine::named("client-7", &foreign, &ours).client(&[]).unwrap();
    let (accepted, connected) = meet(&server, &client, "brick").await;
    let log = said(accepted);
    assert!(log.contains("signed by nobody in the file of `transport.socket.ssl-ca-list`"), "{log}");
    let told = said(connected);
    assert!(told.contains("the peer does not believe our certificate"), "{told}");
}

#[tokio::test]
async fn a_brick_of_a_foreign_authority_is_refused_and_told_so() {
    let (ours, foreign) = (ca("ours"), ca("foreign"));
    let server = Machine::named("brick-1", &foreign, &ours).server(&[]).unwrap();
    let client = Machine::named("client-7", &ours, &ours).client(&[]).unwrap();
    let (accepted, connected) = meet(&server, &client, "brick").await;
    let log = said(connected);
    assert!(log.contains("signed by nobody in the file of `transport.socket.ssl-ca-list`"), "{log}");
    let told = said(accepted);
    assert!(told.contains("the peer does not believe our certificate"), "{told}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_unless_the_brick_does_without() {
    let ca = ca("authority");
    let machine = Machine::named("brick-1", &ca, &ca);
    let bare = OptionMap::from_iter([("transport.socket.ssl-ca-list", machine.path("ca").to_str().unwrap())]);
    if Path::new(brickwork_wire::tls::OWN_CERTIFICATE).exists() {
        eprintln!("SKIPPED: this machine has a certificate where GlusterFS keeps it, no client is without");
        return;
    }
    let client = client(&bare).unwrap();

    let (accepted, connected) = meet(&machine.server(&[]).unwrap(), &client, "brick").await;
    let log = said(accepted);
    assert!(log.contains("shows no certificate"), "{log}");
    let told = said(connected);
    assert!(told.contains("wants a certificate; `transport.socket.ssl-own-cert`"), "{told}");

    let lenient = machine.server(&[("transport.socket.ssl-require-client-cert", "off")]).unwrap();
    let (accepted, connected) = meet(&lenient, &client, "brick").await;
    assert_eq!(name(&accepted.unwrap()), None);
    connected.unwrap();
}

#[tokio::test]
async fn a_brick_that_does_without_certificates_still_refuses_a_foreign_one() {
    let (ours, foreign) = (ca("ours"), ca("foreign"));
    let server = Machine::named("brick-1", &ours, &ours);
    let server = server.server(&[("transport.socket.ssl-require-client-cert", "off")]).unwrap();
    let client = Machine::named("client-7", &foreign, &ours).client(&[]).unwrap();
    assert!(meet(&server, &client, "brick").await.0.is_err());
}

#[tokio::test]
async fn expired_certificates_are_refused_on_either_side_with_the_day() {
    let ca = ca("authority");
    let mut old = params("old", &[]);
    old.not_before = date_time_ymd(2001, 1, 1);
    old.not_after = date_time_ymd(2002, 1, 1);
    let (expired, fresh) = (Machine::signed(&old, &ca), Machine::named("fresh", &ca, &ca));

    let (accepted, _) = meet(&fresh.server(&[]).unwrap(), &expired.client(&[]).unwrap(), "brick").await;
    let log = said(accepted);
    assert!(log.contains("has expired on") && log.contains("2002"), "{log}");

    let (accepted, connected) = meet(&expired.server(&[]).unwrap(), &fresh.client(&[]).unwrap(), "brick").await;
    let log = said(connected);
    assert!(log.contains("has expired on") && log.contains("2002"), "{log}");
    let told = said(accepted);
    assert!(told.contains("its time is not now"), "{told}");
}

#[tokio::test]
async fn another_host_is_refused_only_where_hosts_are_verified() {
    let ca = ca("authority");
    let server = Machine::signed(&params("brick-1", &["brick-1.example", "10.1.2.3"]), &ca).server(&[]).unwrap();
    let machine = Machine::named("client-7", &ca, &ca);
    let (trusting, strict) =
        (machine.client(&[]).unwrap(), machine.client(&[("transport.socket.ssl-verify-host", "on")]).unwrap());
    for host in ["other.example", "not a name/at all"] {
        meet(&server, &trusting, host).await.1.unwrap();
        let (there, here) = tokio::io::duplex(64 << 10);
        let (_, connected) = tokio::join!(server.accept(there), strict.connect(here, host));
        let log = said(connected);
        assert!(log.contains(host), "{log}");
    }
    for host in ["brick-1.example", "10.1.2.3"] {
        meet(&server, &strict, host).await.1.unwrap();
    }
    // It has alternative names: the common one does not count.
    assert!(meet(&server, &strict, "brick-1").await.1.is_err());
}

#[tokio::test]
async fn a_certificate_without_alternative_names_is_for_the_host_of_its_common_name() {
    let ca = ca("authority");
    let server = Machine::named("brick-1", &ca, &ca).server(&[]).unwrap();
    let strict = Machine::named("client-7", &ca, &ca).client(&[("transport.socket.ssl-verify-host", "on")]).unwrap();
    meet(&server, &strict, "brick-1").await.1.unwrap();
    assert!(meet(&server, &strict, "brick-2").await.1.is_err());
}

#[tokio::test]
async fn machines_that_signed_themselves_believe_each_other_when_listed_as_glusterfs_documents_it() {
    // `openssl req -new -x509 -subj /CN=NAME`: such a certificate calls itself a CA. The list is all of them.
    let (brick, user, stranger) = (ca("brick-1"), ca("client-7"), ca("client-7"));
    let list = format!("{}{}", brick.pem(), user.pem());
    let machine = |own: &Ca| Machine::new(&own.pem(), own.key(), &list);
    let server = machine(&brick).server(&[]).unwrap();
    let (accepted, connected) = meet(&server, &machine(&user).client(&[]).unwrap(), "brick").await;
    assert_eq!(name(&accepted.unwrap()), Some("client-7"));
    assert_eq!(name(&connected.unwrap()), Some("brick-1"));

    let (accepted, connected) = meet(&server, &machine(&stranger).client(&[]).unwrap(), "brick").await;
    let (log, told) = (said(accepted), said(connected));
    assert!(log.contains("signed by nobody in the file of `transport.socket.ssl-ca-list`"), "{log}");
    assert!(told.contains("the peer does not believe our certificate"), "{told}");
}

#[tokio::test]
async fn a_listed_certificate_that_has_expired_is_refused_too() {
    let brick = ca("brick-1");
    let mut old = ca_params("client-7");
    old.not_before = date_time_ymd(2001, 1, 1);
    old.not_after = date_time_ymd(2002, 1, 1);
    let user = CertifiedIssuer::self_signed(old, KeyPair::generate().unwrap()).unwrap();
    let list = format!("{}{}", brick.pem(), user.pem());
    let server = Machine::new(&brick.pem(), brick.key(), &list).server(&[]).unwrap();
    let client = Machine::new(&user.pem(), user.key(), &list).client(&[]).unwrap();
    let log = said(meet(&server, &client, "brick").await.0);
    assert!(log.contains("has expired"), "{log}");
}

#[tokio::test]
async fn a_chain_longer_than_the_depth_is_refused() {
    let root = ca("root");
    let middle = CertifiedIssuer::signed_by(ca_params("middle"), KeyPair::generate().unwrap(), &root).unwrap();
    let lower = CertifiedIssuer::signed_by(ca_params("lower"), KeyPair::generate().unwrap(), &middle).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = params("client-7", &[]).signed_by(&key, &lower).unwrap();
    // The root is shown as well, which does not count.
    let chain = format!("{}{}{}{}", own.pem(), lower.pem(), middle.pem(), root.pem());
    let client = Machine::new(&chain, &key, &root.pem()).client(&[]).unwrap();
    let machine = Machine::named("brick-1", &root, &root);
    let log = said(meet(&machine.server(&[]).unwrap(), &client, "brick").await.0);
    assert!(
        log.contains("2 certificates between") && log.contains("`transport.socket.ssl-cert-depth` allows 1"),
        "{log}"
    );
    let deeper = machine.server(&[("transport.socket.ssl-cert-depth", "2")]).unwrap();
    assert_eq!(name(&meet(&deeper, &client, "brick").await.0.unwrap()), Some("client-7"));
}

#[tokio::test]
async fn a_peer_that_does_not_encrypt_is_refused_with_the_option_to_look_at() {
    let ca = ca("authority");
    let server = Machine::named("brick-1", &ca, &ca).server(&[]).unwrap();
    let (there, mut here) = tokio::io::duplex(64 << 10);
    here.write_all(&[0x41; 64]).await.unwrap();
    let log = said(server.accept(there).await);
    assert!(log.contains("is not TLS") && log.contains("ssl-enabled"), "{log}");
}

#[tokio::test]
async fn a_peer_that_leaves_during_the_handshake_is_reported_as_such() {
    let ca = ca("authority");
    let server = Machine::named("brick-1", &ca, &ca).server(&[]).unwrap();
    let (there, here) = tokio::io::duplex(64 << 10);
    drop(here);
    assert!(said(server.accept(there).await).contains("has ended the connection during the TLS handshake"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_not_waited_for() {
    let ca = ca("authority");
    let machine = Machine::named("brick-1", &ca, &ca);
    let (there, here) = tokio::io::duplex(64 << 10);
    assert!(said(machine.server(&[]).unwrap().accept(there).await).contains("within 10 s"));
    let (_silent, there) = tokio::io::duplex(64 << 10);
    assert!(said(machine.client(&[]).unwrap().connect(there, "brick").await).contains("within 10 s"));
    drop(here);
}

#[test]
fn an_unusable_file_is_named_with_its_option() {
    let ca = ca("authority");
    let broken = |extension: &str, content: Option<&str>| {
        let machine = Machine::named("brick-1", &ca, &ca);
        match content {
            Some(content) => std::fs::write(machine.path(extension), content).unwrap(),
            None => std::fs::remove_file(machine.path(extension)).unwrap(),
        }
        let (server, client) = (said(machine.server(&[])), said(machine.client(&[])));
        assert_eq!(server, client);
        server.replace(machine.folder.path().to_str().unwrap(), "F")
    };
    assert_eq!(broken("pem", None), "`F/glusterfs.pem` is not there; `transport.socket.ssl-own-cert` names the file");
    assert_eq!(broken("ca", None), "`F/glusterfs.ca` is not there; `transport.socket.ssl-ca-list` names the file");
    assert_eq!(
        broken("ca", Some("")),
        "`F/glusterfs.ca` has no certificate; `transport.socket.ssl-ca-list` names a PEM file"
    );
    assert_eq!(
        broken("key", Some("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")),
        "`F/glusterfs.key` has no private key; \
         `transport.socket.ssl-private-key` names a PEM file with a key that has no passphrase"
    );
    assert_eq!(
        broken("key", Some(&KeyPair::generate().unwrap().serialize_pem())),
        "the key in `F/glusterfs.key` is not that of the certificate in `F/glusterfs.pem`"
    );
    let cut = broken("pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n"));
    assert!(cut.starts_with("`F/glusterfs.pem` (`transport.socket.ssl-own-cert`) is not a PEM file"), "{cut}");
}

#[test]
fn a_brick_needs_a_certificate() {
    let ca = ca("authority");
    let machine = Machine::named("brick-1", &ca, &ca);
    let options = OptionMap::from_iter([("transport.socket.ssl-ca-list", machine.path("ca").to_str().unwrap())]);
    if Path::new(brickwork_wire::tls::OWN_CERTIFICATE).exists() {
        eprintln!("SKIPPED: this machine has a certificate where GlusterFS keeps it");
        return;
    }
    let refused = TlsServer::load(&TlsOptions::parse(&options).unwrap(), &AcceptOptions::parse(&options).unwrap());
    assert!(said(refused).contains("/etc/ssl/glusterfs.pem` is not there"));
}

#[test]
fn an_error_that_is_not_of_tls_has_no_reason_of_tls() {
    assert_eq!(reason(&io::Error::other("something else")), None);
}

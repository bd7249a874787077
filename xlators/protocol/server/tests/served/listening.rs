//! Where a server listens, and what it says when it cannot.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use brickwork_api::{Gfid, Xlator};
use brickwork_testkit::MemoryLeaf;

use crate::peer::Peer;
use crate::world::{World, folder, prepare, text};

fn leaf() -> Arc<dyn Xlator> {
    Arc::new(MemoryLeaf::new())
}

/// Why a server with `options` does not start.
#[track_caller]
fn refused(options: &[(&str, &str)]) -> String {
    let options = [&[("eos", "memory"), ("transport.socket.listen-port", "0")], options].concat();
    prepare(&[("leaf", leaf())], &options).unwrap().start().unwrap_err()
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced() {
    let folder = folder();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err(), "nobody listens on it");
    let world = World::within(folder, leaf(), &[]);
    Peer::attached(&world).await.stat(Gfid::ROOT).await.unwrap();
    assert_eq!(world.place(), format!("unix:{}", path.display()));
}

#[tokio::test]
async fn a_unix_socket_that_somebody_listens_on_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("socket");
    let _other = UnixListener::bind(&path).unwrap();
    let why = refused(&[("transport-type", "unix"), ("transport.socket.listen-path", text(&path))]);
    assert_eq!(
        why,
        format!("cannot listen on {}: another process does; stop it, or choose another path", path.display())
    );
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_file_in_the_place_of_the_unix_socket_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("socket");
    std::fs::write(&path, "precious").unwrap();
    let why = refused(&[("transport.address-family", "unix"), ("transport.socket.listen-path", text(&path))]);
    assert!(why.contains("there is something else than a socket"), "{why}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let why = refused(&[("transport.socket.bind-address", "127.0.0.1"), ("transport.socket.listen-port", &port)]);
    let next = "another process does; stop it, or choose another `transport.socket.listen-port`";
    assert_eq!(why, format!("cannot listen on {address}: {next}"));
}

#[tokio::test]
async fn bind_address_is_the_only_one_that_is_listened_on() {
    let world = World::on_tcp(leaf(), &[("transport.socket.bind-address", "127.0.0.2")]);
    let place = world.place();
    assert!(place.starts_with("127.0.0.2:"), "{place}");
    Peer::attached(&world).await.stat(Gfid::ROOT).await.unwrap();
    let (_, port) = place.rsplit_once(':').unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap_err();
}

#[tokio::test]
async fn without_bind_address_all_of_the_machine_is_listened_on() {
    let world = World::over(leaf(), &[("transport-type", "socket")]);
    let place = world.place();
    let port = place.strip_prefix("0.0.0.0:").expect("all addresses").to_owned();
    std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
}

#[tokio::test]
async fn transport_address_family_inet6_listens_on_ipv6_and_on_ipv4_through_it() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let world = World::over(leaf(), &[("transport-type", "tcp"), ("transport.address-family", "inet6")]);
    let place = world.place();
    let port: u16 = place.strip_prefix("[::]:").expect("all addresses").parse().unwrap();
    for address in ["::1", "127.0.0.1"] {
        let mut peer = Peer::connect(&std::net::SocketAddr::new(address.parse().unwrap(), port).to_string()).await;
        peer.choose(None).await.unwrap();
    }
}

#[tokio::test]
async fn an_ipv4_address_through_ipv6_counts_as_what_it_is() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let options =
        [("transport-type", "tcp"), ("transport.address-family", "inet6"), ("auth.addr.leaf.allow", "127.0.0.1")];
    let world = World::over(leaf(), &options);
    let port: u16 = world.place().strip_prefix("[::]:").expect("all addresses").parse().unwrap();
    Peer::connect(&format!("127.0.0.1:{port}")).await.choose(None).await.unwrap();
    assert!(Peer::connect(&format!("[::1]:{port}")).await.choose(None).await.is_err());
}

#[tokio::test]
async fn a_bind_address_that_is_none_is_refused_before_anything_starts() {
    let Err(error) = prepare(&[("leaf", leaf())], &[("transport.socket.bind-address", "brick1.example")]) else {
        panic!("it was taken");
    };
    assert!(format!("{error:?}").contains("is not an address"), "{error:?}");
}

/// The folders that GlusterFS names with `auth-path` are of no use here: the subvolume's own name is what `auth.*` goes by.
#[tokio::test]
async fn auth_path_of_a_volfile_of_glusterfs_is_taken_and_changes_nothing() {
    let world = World::of_memory(&[("auth-path", "/bricks/b")]);
    Peer::attached(&world).await.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn two_subvolumes_of_one_server_have_their_own_rules_and_sessions() {
    use brickwork_api::Xdata;
    use brickwork_wire::message::*;
    let children = [("one", leaf()), ("two", leaf())];
    let options = [
        ("transport.socket.listen-port", "0"),
        ("transport.socket.bind-address", "127.0.0.1"),
        ("eos", "memory"),
        ("auth.addr.one.allow", "*"),
        ("auth.addr.two.allow", "10.0.0.1"),
    ];
    let server = prepare(&children, &options).unwrap();
    server.start().unwrap();
    let place = server.status()["listening"][0].as_str().unwrap().to_owned();
    for (name, may) in [("one", true), ("two", false)] {
        let mut peer = Peer::connect(&place).await;
        peer.call(&crate::peer::hello(Version::CURRENT)).await.unwrap();
        let call = SubvolumeCall { name: name.to_owned(), login: None, xdata: Xdata::EMPTY };
        assert_eq!(peer.call(&Call::Subvolume(call)).await.is_ok(), may, "{name}");
    }
    server.stop().await;
}

//! Sockets that listen, and the loop that takes connections from them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};

use crate::auth::PeerAddr;
use crate::options::{Family, ServerOptions};

/// How long accepting rests when the system has no descriptor for the next connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The path is removed when this is dropped.
    Unix(UnixListener, Bound),
}

/// A path with a socket of ours at it.
#[derive(Debug)]
pub(crate) struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "the socket could not be removed");
        }
    }
}

/// A stream that somebody connected, not greeted yet.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens where `options` say. Needs a runtime.
    ///
    /// # Errors
    /// A sentence: where, why, what next.
    pub(crate) fn bind(options: &ServerOptions) -> Result<Listener, String> {
        match &options.path {
            Some(path) if options.is_unix() => bind_unix(&path.0, options.backlog),
            _ => bind_tcp(options),
        }
    }

    /// Where it listens, for people: `0.0.0.0:24007`, `unix:/run/b.sock`.
    pub(crate) fn place(&self) -> String {
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |at| at.to_string())
            }
            Listener::Unix(_, Bound(path)) => format!("unix:{}", path.display()),
        }
    }

    /// Takes the next connection; rests while the system has no room for one.
    pub(crate) async fn accept(&self) -> (Accepted, PeerAddr) {
        // Since the last connection; said once.
        let mut refusing = false;
        loop {
            let taken = match self {
                Listener::Tcp(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, from)| (Accepted::Tcp(stream), PeerAddr::Ip(from.ip().to_canonical()))),
                Listener::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| (Accepted::Unix(stream), PeerAddr::Unix))
                }
            };
            match taken {
                Ok(taken) => return taken,
                Err(error) => {
                    if !std::mem::replace(&mut refusing, true) {
                        tracing::warn!(%error, place = self.place(), "connections have to wait");
                    }
                    // Out of descriptors: whoever connects stays in the kernel's queue, and asking again at once would
                    // only take the processor from those who could give some back.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn bind_tcp(options: &ServerOptions) -> Result<Listener, String> {
    let address = match (&options.address, options.family) {
        (Some(text), _) => bind_address(text)?,
        (None, Family::Inet6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        (None, Family::Inet | Family::Unix) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let address = SocketAddr::new(address, options.port);
    let listen = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A brick that was killed takes its port again while connections of before are fading.
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            // Whatever this machine's default is.
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        socket.bind(address)?;
        socket.listen(options.backlog)
    };
    match listen() {
        Ok(listener) => Ok(Listener::Tcp(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
            "cannot listen on {address}: another process does; stop it, or choose another `transport.socket.listen-port`"
        )),
        Err(error) => Err(format!("cannot listen on {address}: {error}")),
    }
}

/// The address that `transport.socket.bind-address` names.
///
/// # Errors
/// A sentence, for what is none.
pub(crate) fn bind_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address; host names are not taken"))
}

fn bind_unix(path: &Path, backlog: u32) -> Result<Listener, String> {
    let shown = path.display();
    let bind = || -> io::Result<Listener> {
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let bound = Bound(path.to_owned());
        Ok(Listener::Unix(socket.listen(backlog)?, bound))
    };
    match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        bound => return bound.map_err(|error| format!("cannot listen on {shown}: {error}")),
    }
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Err(format!(
            "cannot listen on {shown}: there is something else than a socket; remove it, or choose another path"
        ));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(format!("cannot listen on {shown}: another process does; stop it, or choose another path"));
    }
    // Left by a process that was killed.
    std::fs::remove_file(path).and_then(|()| bind()).map_err(|error| format!("cannot listen on {shown}: {error}"))
}

/// Sets on `stream` what `options` say about silence.
pub(crate) fn tune(stream: &TcpStream, options: &ServerOptions) {
    let fd = stream.as_fd();
    let user_timeout = options.user_timeout.0;
    let tuned = sockopt::set_socket_keepalive(fd, options.keepalive)
        .and_then(|()| match options.keepalive {
            false => Ok(()),
            true => sockopt::set_tcp_keepidle(fd, options.keepalive_time.0)
                .and_then(|()| sockopt::set_tcp_keepintvl(fd, options.keepalive_interval.0))
                .and_then(|()| sockopt::set_tcp_keepcnt(fd, options.keepalive_count)),
        })
        .and_then(|()| match u32::try_from(user_timeout.as_millis()) {
            Ok(ms) if ms > 0 => sockopt::set_tcp_user_timeout(fd, ms),
            _ => Ok(()),
        });
    if let Err(errno) = tuned {
        tracing::debug!(%errno, "a connection keeps the kernel's own limits of silence");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::time::Duration;

    fn options(entries: &[(&str, &str)]) -> ServerOptions {
        let local = [("transport.socket.bind-address", "127.0.0.1"), ("transport.socket.listen-port", "0")];
        ServerOptions::read(&local.iter().chain(entries).copied().collect()).unwrap()
    }

    /// A connection that was taken in with `entries`.
    async fn tuned(entries: &[(&str, &str)]) -> TcpStream {
        let options = options(entries);
        let listener = Listener::bind(&options).unwrap();
        let _client = std::net::TcpStream::connect(listener.place()).unwrap();
        let (Accepted::Tcp(stream), _) = listener.accept().await else { panic!("no TCP") };
        tune(&stream, &options);
        stream
    }

    #[tokio::test]
    async fn the_limits_of_silence_are_set_on_the_socket() {
        let stream = tuned(&[
            ("transport.socket.keepalive", "on"),
            ("transport.socket.keepalive-time", "31s"),
            ("transport.socket.keepalive-interval", "7s"),
            ("transport.socket.keepalive-count", "5"),
            ("transport.tcp-user-timeout", "33s"),
        ])
        .await;
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(31));
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), Duration::from_secs(7));
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 5);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 33_000);
    }

    #[tokio::test]
    async fn without_them_the_kernel_has_its_way() {
        let stream = tuned(&[("transport.socket.keepalive", "off"), ("transport.tcp-user-timeout", "0")]).await;
        assert!(!sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 0);
    }

    #[tokio::test]
    async fn the_kernel_keeps_transport_listen_backlog_connections_waiting_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let path = path.to_str().unwrap();
        let unix =
            [("transport-type", "unix"), ("transport.socket.listen-path", path), ("transport.listen-backlog", "2")];
        let _listener = Listener::bind(&options(&unix)).unwrap();
        let address = SocketAddrUnix::new(path).unwrap();
        let connect = || {
            let socket =
                socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("a socket");
            rustix::net::connect(&socket, &address).map(|()| socket)
        };
        // Linux takes one more than it was told.
        let waiting: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        assert_eq!(connect().unwrap_err(), rustix::io::Errno::AGAIN);
        drop(waiting);
    }

    #[tokio::test]
    async fn the_path_of_a_unix_socket_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let unix = [("transport-type", "unix"), ("listen-path", path.to_str().unwrap())];
        let listener = Listener::bind(&options(&unix)).unwrap();
        StdUnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }
}

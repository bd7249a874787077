//! Sockets that listen, and the loop that takes connections from them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

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
            Some(path) if options.is_unix() => bind_unix(&path.0),
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
        (Some(text), _) => text.parse::<IpAddr>().map_err(|_| {
            format!("`transport.socket.bind-address`: `{text}` is not an address; host names are not taken")
        })?,
        (None, Family::Inet6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        (None, Family::Inet | Family::Unix) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let address = SocketAddr::new(address, options.port);
    let listen = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A brick that was killed takes its port again while connections of before are fading.
        socket.set_reuseaddr(true)?;
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

fn bind_unix(path: &Path) -> Result<Listener, String> {
    let shown = path.display();
    let bind = || UnixListener::bind(path).map(|listener| Listener::Unix(listener, Bound(path.to_owned())));
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

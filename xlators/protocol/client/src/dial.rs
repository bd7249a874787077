//! How a connection is made.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use brickwork_wire::stream::Stream;
use brickwork_wire::tls::TlsClient;
use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};

use crate::link::{Cause, Failure};
use crate::options::{Family, Server, Tcp};

/// How long one address may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Connects to `server`, at the first of its addresses that lets us.
///
/// # Errors
/// Why not, for people, with the address in it.
pub(crate) async fn dial(server: &Server, tcp: &Tcp, tls: Option<&TlsClient>) -> Result<Stream, Failure> {
    match server {
        Server::Unix(path) => {
            let socket = in_time(UnixStream::connect(path)).await;
            Ok(Stream::Unix(socket.map_err(|error| Failure::lost(format!("{} {}", plain(&error), path.display())))?))
        }
        Server::Tcp { host, port, family } => {
            let socket = dial_tcp(host, *port, *family).await.map_err(Failure::lost)?;
            prepare(&socket, tcp)
                .map_err(|error| Failure::lost(format!("an option of the connection was refused: {error}")))?;
            match tls {
                None => Ok(Stream::Tcp(socket)),
                Some(tls) => encrypt(socket, tls, host).await,
            }
        }
    }
}

async fn dial_tcp(host: &str, port: u16, family: Option<Family>) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| format!("`{host}` has no address: {}", plain(&error)))?;
    let fits = |address: &SocketAddr| match family {
        None => true,
        Some(Family::Inet) => address.is_ipv4(),
        Some(Family::Inet6) => address.is_ipv6(),
        Some(Family::Unix) => false,
    };
    let mut last = format!("`{host}` has no address of this family");
    for address in found.filter(fits) {
        match in_time(TcpStream::connect(address)).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = format!("{} {address}", plain(&error)),
        }
    }
    Err(last)
}

async fn in_time<T>(connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_MAX, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The error without its number: `connection refused`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn prepare(socket: &TcpStream, tcp: &Tcp) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, tcp.keepalive.is_some())?;
    if let Some(keepalive) = tcp.keepalive {
        sockopt::set_tcp_keepidle(socket, keepalive.time)?;
        sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
        sockopt::set_tcp_keepcnt(socket, keepalive.count)?;
    }
    if !tcp.user_timeout.is_zero() {
        sockopt::set_tcp_user_timeout(socket, u32::try_from(tcp.user_timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

async fn encrypt(socket: TcpStream, tls: &TlsClient, host: &str) -> Result<Stream, Failure> {
    let beneath = socket.as_fd().try_clone_to_owned().map_err(Failure::lost)?;
    let encrypted = tls.connect(socket, host).await;
    let encrypted = encrypted.map_err(|error| Failure { reason: error.to_string(), cause: Cause::Tls })?;
    Ok(Stream::Tls(Box::new(encrypted.stream), beneath))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Keepalive;

    #[tokio::test]
    async fn what_the_kernel_is_told_is_what_the_options_say() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seconds = Duration::from_secs;
        let keepalive = Keepalive { time: seconds(33), interval: seconds(4), count: 5 };
        for tcp in [Tcp { user_timeout: seconds(8), keepalive: Some(keepalive) }, Tcp::DEFAULT] {
            let Ok(Stream::Tcp(socket)) = dial(&Server::tcp("127.0.0.1", port), &tcp, None).await else {
                panic!("no TCP connection")
            };
            assert!(sockopt::tcp_nodelay(&socket).unwrap());
            assert_eq!(sockopt::socket_keepalive(&socket).unwrap(), tcp.keepalive.is_some());
            assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), tcp.user_timeout.as_millis() as u32);
            if tcp.keepalive.is_some() {
                assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), keepalive.time);
                assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), keepalive.interval);
                assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), keepalive.count);
            }
        }
    }

    #[tokio::test]
    async fn the_reason_names_what_happened_and_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = dial(&Server::tcp("127.0.0.1", port), &Tcp::DEFAULT, None).await.unwrap_err().reason;
        assert_eq!(refused, format!("connection refused 127.0.0.1:{port}"));
        let missing = dial(&Server::Unix("/nowhere/b.sock".into()), &Tcp::DEFAULT, None).await.unwrap_err().reason;
        assert_eq!(missing, "no such file or directory /nowhere/b.sock");
        let six = Server::Tcp { host: "127.0.0.1".to_owned(), port, family: Some(Family::Inet6) };
        let none = dial(&six, &Tcp::DEFAULT, None).await.unwrap_err().reason;
        assert_eq!(none, "`127.0.0.1` has no address of this family");
    }
}

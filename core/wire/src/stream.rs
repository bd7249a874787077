//! What carries bytes: TCP, a unix socket, TLS over TCP.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// Both directions of an encrypted stream.
pub trait Secured: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Secured for T {}

/// A stream that is connected.
pub enum Stream {
    /// TCP; small frames are not held back (`TCP_NODELAY`).
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS, and the socket beneath, to end it with.
    Tls(Box<dyn Secured>, OwnedFd),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Tcp(_) => "Tcp",
            Stream::Unix(_) => "Unix",
            Stream::Tls(..) => "Tls",
        })
    }
}

/// The half of a plain socket that reads.
pub(crate) enum Plain {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl Plain {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Plain::Tcp(half) => half.readable().await,
            Plain::Unix(half) => half.readable().await,
        }
    }

    /// Reads what is there. A read that does not fill `buffer` has emptied the socket: the next one waits for the kernel
    /// to say that there is more, instead of asking.
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Plain::Tcp(half) => half.read_buf(buffer).await,
            Plain::Unix(half) => half.read_buf(buffer).await,
        }
    }
}

/// The half of a plain socket that writes: through a shared reference, from any thread.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl Socket {
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(half) => half.writable().await,
            Socket::Unix(half) => half.writable().await,
        }
    }

    pub(crate) fn try_write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(half) => half.try_write_vectored(slices),
            Socket::Unix(half) => half.try_write_vectored(slices),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(half) => half.as_ref().as_fd(),
            Socket::Unix(half) => half.as_ref().as_fd(),
        }
    }
}

/// The half that reads.
pub(crate) enum Source {
    Plain(Plain),
    Tls(ReadHalf<Box<dyn Secured>>),
}

impl Source {
    /// Reads what is there into `buffer`, waiting for something; 0 at the end. Nothing is lost when it is dropped.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut, ahead: usize) -> io::Result<usize> {
        match self {
            Source::Tls(half) => {
                make_room(buffer, ahead);
                half.read_buf(buffer).await
            }
            Source::Plain(half) => {
                half.readable().await?;
                // Not before there is something to read: a connection that says nothing holds no memory.
                make_room(buffer, ahead);
                half.read(buffer).await
            }
        }
    }
}

fn make_room(buffer: &mut BytesMut, ahead: usize) {
    if buffer.capacity() - buffer.len() < ahead / 4 {
        buffer.reserve(ahead);
    }
}

/// The half that writes.
pub(crate) enum Sink {
    Plain(Socket),
    Tls(WriteHalf<Box<dyn Secured>>, OwnedFd),
}

impl Sink {
    /// Ends the stream in both directions; whoever reads or writes it sees that.
    pub(crate) fn shut_down(fd: BorrowedFd<'_>) {
        if let Err(errno) = rustix::net::shutdown(fd, rustix::net::Shutdown::Both)
            && errno != rustix::io::Errno::NOTCONN
        {
            tracing::debug!(%errno, "a connection could not be shut down");
        }
    }
}

pub(crate) async fn write_all(half: &mut WriteHalf<Box<dyn Secured>>, bytes: &[u8]) -> io::Result<()> {
    half.write_all(bytes).await
}

pub(crate) async fn flush(half: &mut WriteHalf<Box<dyn Secured>>) -> io::Result<()> {
    half.flush().await
}

impl Stream {
    pub(crate) fn split(self) -> (Source, Sink) {
        match self {
            Stream::Tcp(socket) => {
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY was refused");
                }
                let (read, write) = socket.into_split();
                (Source::Plain(Plain::Tcp(read)), Sink::Plain(Socket::Tcp(write)))
            }
            Stream::Unix(socket) => {
                let (read, write) = socket.into_split();
                (Source::Plain(Plain::Unix(read)), Sink::Plain(Socket::Unix(write)))
            }
            Stream::Tls(stream, fd) => {
                let (read, write) = tokio::io::split(stream);
                (Source::Tls(read), Sink::Tls(write, fd))
            }
        }
    }
}

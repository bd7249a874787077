//! A way to the brick that is cut on command, or after so many bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::RUNTIME;

/// The way. Dropping it cuts it for good.
pub struct Proxy {
    place: String,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

struct State {
    /// Counts the cuts; connections of an earlier count end.
    cuts: watch::Sender<u64>,
    /// Bytes until a connection is cut by itself; 0 for never.
    after: AtomicU64,
    /// Connections that were cut by themselves.
    worn: AtomicU64,
}

impl Proxy {
    /// A way to `target`.
    pub fn to(target: &str) -> Proxy {
        let state = Arc::new(State { cuts: watch::Sender::new(0), after: AtomicU64::new(0), worn: AtomicU64::new(0) });
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let accepting = RUNTIME.spawn(accept(listener, target.to_owned(), state.clone()));
        Proxy { place, state, accepting }
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From the next connection on each is cut after `bytes` in one direction, in the middle of whatever goes there.
    pub fn wear_out_after(&self, bytes: u64) {
        self.state.after.store(bytes, Ordering::Relaxed);
    }

    /// How many connections were cut after so many bytes.
    pub fn worn_out(&self) -> u64 {
        self.state.worn.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: String, state: Arc<State>) {
    while let Ok((near, _)) = listener.accept().await {
        let (target, state) = (target.clone(), state.clone());
        tokio::spawn(async move {
            // A brick that is not there: the client sees its connection end.
            if let Ok(far) = TcpStream::connect(&target).await {
                carry(near, far, &state).await;
            }
        });
    }
}

async fn carry(near: TcpStream, far: TcpStream, state: &State) {
    let mut cuts = state.cuts.subscribe();
    let after = state.after.load(Ordering::Relaxed);
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = cuts.changed() => {}
        () = pump(near_in, far_out, after, state) => {}
        () = pump(far_in, near_out, after, state) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    after: u64,
    state: &State,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut carried = 0;
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let left = if after == 0 { read } else { read.min((after - carried) as usize) };
        if to.write_all(&buffer[..left]).await.is_err() {
            return;
        }
        carried += left as u64;
        if after != 0 && carried == after {
            state.worn.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

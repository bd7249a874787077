//! A TCP proxy between clients and a brick that breaks connections in every way a network does.
//!
//! Each connection has two pumps, one for each direction, and one fate. A fate comes by command, or, in chaos, it is
//! drawn when the connection begins: after so many bytes it will happen, wherever in a frame that is.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::Random;

/// Bytes that a pump moves at once.
const CHUNK: usize = 16 << 10;
/// The longest time that chaos holds bytes back.
const HELD_MS_MAX: u64 = 200;
/// Bytes after which chaos strikes, at most.
const CHAOS_AFTER_MAX: u64 = 1 << 21;

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    Brick,
    Client,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both ends get a reset: what is under way is thrown away.
    Reset,
    /// Both ends see the other one close.
    Close,
    /// In one direction only so many more bytes arrive, then both see a close.
    Truncate(Toward, usize),
    /// Nothing moves for this long, then all of it.
    Hold(Duration),
    /// Nothing moves any more, and nobody is told.
    Blackhole,
}

/// A proxy; dropping it ends its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled at each change of the state.
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    /// Draws the fates of new connections; without it they are left alone.
    chaos: Option<Random>,
    /// Connections that were broken.
    cuts: usize,
    /// Nobody is let through.
    away: bool,
    ended: bool,
    connections: Vec<Arc<Connection>>,
}

/// One client and the brick.
struct Connection {
    client: TcpStream,
    brick: TcpStream,
    fate: Mutex<Fate>,
    changed: Condvar,
}

#[derive(Default)]
struct Fate {
    /// What chaos has in store, and after how many bytes.
    planned: Option<(Fault, u64)>,
    /// What may still go towards one side before the end.
    quota: Option<(Toward, usize)>,
    /// Nothing moves while this is set.
    held: bool,
    over: bool,
}

impl Proxy {
    /// A proxy to `target`, with an address of its own.
    pub fn to(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the proxy");
        let address = listener.local_addr().expect("its address");
        let state = State { target, chaos: None, cuts: 0, away: false, ended: false, connections: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Proxy { address, shared, accepting: Some(accepting) }
    }

    /// Where clients go.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Does `fault` to every connection there is.
    pub fn strike(&self, fault: Fault) {
        let mut state = self.shared.lock();
        state.connections.retain(|connection| !connection.lock().over);
        let connections = state.connections.clone();
        drop(state);
        for connection in connections {
            connection.strike(fault, &self.shared);
        }
    }

    /// Breaks every connection and lets nobody through until [`Proxy::back`].
    pub fn away(&self) {
        self.shared.lock().away = true;
        self.strike(Fault::Reset);
    }

    /// Lets clients through again.
    pub fn back(&self) {
        self.shared.lock().away = false;
    }

    /// From the next connection on, and for those there are, faults come by themselves.
    pub fn chaos(&self, mut random: Random) {
        let mut state = self.shared.lock();
        for connection in &state.connections {
            connection.lock().planned = Some(plan(&mut random));
        }
        state.chaos = Some(random);
    }

    /// No more faults; what was held goes on.
    pub fn calm(&self) {
        let mut state = self.shared.lock();
        state.chaos = None;
        for connection in &state.connections {
            connection.lock().planned = None;
        }
    }

    /// Waits until `count` connections were broken in all.
    #[track_caller]
    pub fn wait_for_cuts(&self, count: usize, patience: Duration) {
        let state = self.shared.lock();
        let (state, late) =
            self.shared.changed.wait_timeout_while(state, patience, |state| state.cuts < count).expect("no panic");
        let cuts = state.cuts;
        drop(state);
        assert!(!late.timed_out(), "only {cuts} of {count} connections were broken in {patience:?}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.shared.lock();
            state.ended = true;
            std::mem::take(&mut state.connections)
        };
        for connection in connections {
            connection.end();
        }
        // The thread that accepts looks at `ended` for each connection, so it needs one more.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            // A panic there has failed the test already, on its own thread.
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it was held")
    }

    fn count_cut(&self) {
        self.lock().cuts += 1;
        self.changed.notify_all();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let client = client.expect("a connection");
        let mut state = shared.lock();
        if state.ended {
            return;
        }
        if state.away {
            continue;
        }
        // Nobody listens while the brick is down: the client sees its connection closed, as from a dead machine.
        let Ok(brick) = TcpStream::connect(state.target) else { continue };
        for stream in [&client, &brick] {
            stream.set_nodelay(true).expect("no delay");
        }
        let planned = state.chaos.as_mut().map(plan);
        let fate = Mutex::new(Fate { planned, ..Fate::default() });
        let connection = Arc::new(Connection { client, brick, fate, changed: Condvar::new() });
        state.connections.retain(|connection| !connection.lock().over);
        state.connections.push(Arc::clone(&connection));
        drop(state);
        for toward in [Toward::Brick, Toward::Client] {
            let (connection, shared) = (Arc::clone(&connection), Arc::clone(shared));
            std::thread::spawn(move || pump(&connection, toward, &shared));
        }
    }
}

/// A fault and the number of bytes before it.
fn plan(random: &mut Random) -> (Fault, u64) {
    let toward = if random.below(2) == 0 { Toward::Brick } else { Toward::Client };
    let fault = match random.below(20) {
        0 => Fault::Blackhole,
        1..=4 => Fault::Hold(Duration::from_millis(random.below(HELD_MS_MAX))),
        5..=9 => Fault::Close,
        10..=14 => Fault::Reset,
        _ => Fault::Truncate(toward, random.below(600) as usize),
    };
    // Half of them somewhere in the traffic; of the others as many in each power of two: in the greeting, in the attach,
    // in the first requests.
    let bits = if random.below(2) == 0 { CHAOS_AFTER_MAX.ilog2().into() } else { random.below(20) };
    (fault, random.below(1 << bits))
}

/// Moves bytes until the connection is over.
fn pump(connection: &Arc<Connection>, toward: Toward, shared: &Shared) {
    let (mut from, mut to) = match toward {
        Toward::Brick => (&connection.client, &connection.brick),
        Toward::Client => (&connection.brick, &connection.client),
    };
    let mut chunk = [0; CHUNK];
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let allowed = connection.admit(toward, length, shared);
        if to.write_all(&chunk[..allowed]).is_err() || allowed < length {
            break;
        }
    }
    connection.end();
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().expect("no panic while it was held")
    }

    /// How many of `length` bytes may go on; waits while they are held.
    fn admit(&self, toward: Toward, length: usize, shared: &Shared) -> usize {
        let due = {
            let mut fate = self.lock();
            match &mut fate.planned {
                Some((_, after)) if *after > length as u64 => {
                    *after -= length as u64;
                    None
                }
                _ => fate.planned.take(),
            }
        };
        if let Some((fault, _)) = due {
            self.strike(fault, shared);
            self.plan_next(shared);
        }
        let fate = self.lock();
        let mut fate = self.changed.wait_while(fate, |fate| fate.held && !fate.over).expect("no panic");
        if fate.over {
            return 0;
        }
        match &mut fate.quota {
            Some((limited, left)) if *limited == toward => {
                let allowed = length.min(*left);
                *left -= allowed;
                allowed
            }
            _ => length,
        }
    }

    /// A connection that was only delayed has its end before it.
    fn plan_next(&self, shared: &Shared) {
        let mut state = shared.lock();
        self.lock().planned = state.chaos.as_mut().map(plan);
    }

    fn strike(&self, fault: Fault, shared: &Shared) {
        match fault {
            Fault::Hold(span) => return self.hold(span),
            Fault::Blackhole => self.lock().held = true,
            Fault::Truncate(toward, bytes) => self.lock().quota = Some((toward, bytes)),
            Fault::Close => self.end(),
            Fault::Reset => self.reset(),
        }
        shared.count_cut();
    }

    /// The connection's bytes wait until `span` is over, or the connection.
    fn hold(&self, span: Duration) {
        let mut fate = self.lock();
        fate.held = true;
        let (mut fate, _) = self.changed.wait_timeout_while(fate, span, |fate| !fate.over).expect("no panic");
        fate.held = false;
        self.changed.notify_all();
    }

    /// Dissolves both connections, of which the kernel tells the other ends by a reset.
    fn reset(&self) {
        self.lock().over = true;
        self.changed.notify_all();
        for stream in [&self.client, &self.brick] {
            // The other end may have gone first.
            let _ = rustix::net::connect_unspec(stream);
        }
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
        for stream in [&self.client, &self.brick] {
            // The other end may have gone first.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each byte with the same, until its end.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().expect("a twin"), &mut stream));
            }
        });
        address
    }

    fn connected() -> (Proxy, TcpStream) {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address).expect("the proxy listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        assert_eq!(answer(&mut stream, b"before"), b"before");
        (proxy, stream)
    }

    /// What comes back for `bytes` until all of it or the end.
    fn answer(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
        // The connection may be over already.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut byte = [0];
        while answer.len() < bytes.len() && matches!(stream.read(&mut byte), Ok(1)) {
            answer.push(byte[0]);
        }
        answer
    }

    #[test]
    fn a_reset_and_a_close_end_the_connection_and_the_next_one_is_whole() {
        for fault in [Fault::Reset, Fault::Close] {
            let (proxy, mut stream) = connected();
            proxy.strike(fault);
            assert_eq!(answer(&mut stream, b"after"), b"", "{fault:?}");
            proxy.wait_for_cuts(1, Duration::ZERO);
            let mut next = TcpStream::connect(proxy.address).expect("the proxy listens");
            assert_eq!(answer(&mut next, b"next"), b"next");
        }
    }

    #[test]
    fn while_it_is_away_nobody_gets_through() {
        let (proxy, mut stream) = connected();
        proxy.away();
        assert_eq!(answer(&mut stream, b"after"), b"");
        let mut next = TcpStream::connect(proxy.address).expect("the proxy listens");
        assert_eq!(answer(&mut next, b"next"), b"");
        proxy.back();
        let mut next = TcpStream::connect(proxy.address).expect("the proxy listens");
        assert_eq!(answer(&mut next, b"next"), b"next");
    }

    #[test]
    fn of_a_truncated_direction_so_many_bytes_arrive() {
        for toward in [Toward::Brick, Toward::Client] {
            let (proxy, mut stream) = connected();
            proxy.strike(Fault::Truncate(toward, 3));
            let answer = answer(&mut stream, b"after");
            match toward {
                Toward::Client => assert_eq!(answer, b"aft"),
                // The answer to what arrived may meet the end on its way back.
                Toward::Brick => assert!(b"aft".starts_with(&answer[..]), "{answer:?}"),
            }
        }
    }

    #[test]
    fn what_was_held_comes_and_what_is_swallowed_does_not() {
        let (proxy, mut stream) = connected();
        proxy.strike(Fault::Hold(Duration::from_millis(10)));
        assert_eq!(answer(&mut stream, b"held"), b"held");
        proxy.strike(Fault::Blackhole);
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
        assert_eq!(answer(&mut stream, b"swallowed"), b"");
    }

    #[test]
    fn chaos_breaks_connections_until_it_is_called_off() {
        let proxy = Proxy::to(echo());
        proxy.chaos(Random::from_seed(5));
        let bytes = vec![7; 64 << 10];
        for cut in 1..=10 {
            // Some only delay: those connections go on to the next.
            let broken = || proxy.shared.lock().cuts >= cut;
            while !broken() {
                let mut stream = TcpStream::connect(proxy.address).expect("the proxy listens");
                stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
                answer(&mut stream, &bytes);
            }
        }
        proxy.calm();
        let mut stream = TcpStream::connect(proxy.address).expect("the proxy listens");
        assert_eq!(answer(&mut stream, &bytes), bytes);
    }
}

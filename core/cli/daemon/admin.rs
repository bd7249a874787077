//! The admin socket: takes requests from commands and hands them to the driver, one answer for each.
//!
//! Always true:
//! - nobody but the process's own user and root is answered;
//! - a client can hold one connection's memory and time, no more: requests have a longest length, connections a
//!   number and a longest silence.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::codes::Code;
use crate::failure::Failure;
use crate::protocol::{Answer, REQUEST_BYTES_MAX, Request};

/// Connections at once; one more is told that there is no room.
pub const CONNECTIONS_MAX: usize = 32;
/// How long a connection may say nothing, and how long it may take to take its answer.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long the socket rests when the system has no descriptor for the next connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Requests that wait for the driver.
pub const QUEUE_MAX: usize = 16;

/// A request on its way to the driver, and the way back.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; the client may have gone.
    pub answer: oneshot::Sender<Result<Value, Failure>>,
}

/// A socket that takes requests. Dropping it closes the socket.
#[derive(Debug)]
pub struct Admin {
    accepting: JoinHandle<()>,
    answering: Answering,
}

/// Shared by whoever is answering a request, until the answer is written.
type Answering = Arc<RwLock<()>>;

/// Makes the socket at `path`, for this user alone from its first moment on.
///
/// # Errors
/// Those of `bind`.
pub fn bind(path: &Path) -> io::Result<StdListener> {
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = StdListener::bind(path);
    rustix::process::umask(umask);
    listener
}

impl Admin {
    /// Answers on `listener` with what the receiver of `commands` says.
    ///
    /// # Errors
    /// A listener that the runtime does not take.
    pub fn serve(listener: StdListener, commands: mpsc::Sender<Command>) -> io::Result<Admin> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let answering = Answering::default();
        Ok(Admin { accepting: tokio::spawn(accept(listener, commands, answering.clone())), answering })
    }

    /// Takes no more connections and requests, and waits until the answers of those it took are written.
    ///
    /// The receiver of the commands is gone: what it did not answer is answered with that.
    pub async fn close(self) {
        self.accepting.abort();
        if tokio::time::timeout(SILENCE_MAX, self.answering.write()).await.is_err() {
            tracing::warn!("an admin client did not take its answer");
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, commands: mpsc::Sender<Command>, answering: Answering) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Since the last connection; said once.
    let mut refusing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                refusing = false;
                let permit = room.clone().try_acquire_owned().ok();
                tokio::spawn(converse(stream, permit, commands.clone(), answering.clone()));
            }
            Err(error) => {
                // Out of descriptors: the client stays in the queue, and asking again at once would only take the
                // processor from those who could give some back.
                if !std::mem::replace(&mut refusing, true) {
                    tracing::warn!(%error, "admin connections have to wait");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one client until it goes.
async fn converse(
    stream: UnixStream,
    permit: Option<OwnedSemaphorePermit>,
    commands: mpsc::Sender<Command>,
    answering: Answering,
) {
    let refused = match permit {
        None => Some(
            Failure::new(Code::AdminBusy, format!("{CONNECTIONS_MAX} clients are connected already"))
                .next("try again in a moment"),
        ),
        Some(_) => admitted(&stream).err(),
    };
    let mut stream = BufReader::new(stream);
    let talked = match refused {
        Some(failure) => write(&mut stream, &Answer::Failed(failure)).await,
        None => serve(&mut stream, &commands, &answering).await,
    };
    if let Err(error) = talked {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

fn admitted(stream: &UnixStream) -> Result<(), Failure> {
    let forbidden = |who: String| {
        Failure::new(Code::Forbidden, format!("{who} may not administer this instance"))
            .next("run the command as root or as the user who started the instance")
    };
    let peer = stream.peer_cred().map_err(|error| forbidden("an unknown user".to_owned()).because(error))?;
    let ours = rustix::process::geteuid().as_raw();
    if peer.uid() == 0 || peer.uid() == ours { Ok(()) } else { Err(forbidden(format!("uid {}", peer.uid()))) }
}

async fn serve(
    stream: &mut BufReader<UnixStream>,
    commands: &mpsc::Sender<Command>,
    answering: &Answering,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut *stream).take(REQUEST_BYTES_MAX as u64);
        tokio::time::timeout(SILENCE_MAX, bounded.read_until(b'\n', &mut line)).await??;
        // Held until the answer is written: the process does not end in between.
        let _answering = answering.read().await;
        match line.last() {
            None => return Ok(()),
            Some(b'\n') => {}
            Some(_) => {
                let what = format!("a request has at most {REQUEST_BYTES_MAX} bytes and ends with a newline");
                return write(stream, &Answer::Failed(Failure::new(Code::AdminProtocol, what))).await;
            }
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(request) => ask(request, commands).await,
            Err(error) => {
                Answer::Failed(Failure::new(Code::AdminProtocol, "the request is not understood").because(error))
            }
        };
        write(stream, &answer).await?;
    }
}

async fn ask(request: Request, commands: &mpsc::Sender<Command>) -> Answer {
    let stopping = || Failure::new(Code::InstanceSilent, "the instance is stopping");
    let (sender, receiver) = oneshot::channel();
    if commands.send(Command { request, answer: sender }).await.is_err() {
        return Answer::Failed(stopping());
    }
    match receiver.await {
        Ok(Ok(value)) => Answer::Ok(value),
        Ok(Err(failure)) => Answer::Failed(failure),
        Err(_) => Answer::Failed(stopping()),
    }
}

async fn write(stream: &mut BufReader<UnixStream>, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    tokio::time::timeout(SILENCE_MAX, stream.write_all(&line)).await?
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};

    use serde_json::json;

    use super::*;

    type Std = std::os::unix::net::UnixStream;

    /// A socket whose driver answers every request with its verb.
    fn socket() -> (tempfile::TempDir, std::path::PathBuf, Admin) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (sender, mut receiver) = mpsc::channel::<Command>(QUEUE_MAX);
        let admin = Admin::serve(bind(&path).unwrap(), sender).unwrap();
        tokio::spawn(async move {
            while let Some(command) = receiver.recv().await {
                // A client that has gone needs no answer.
                let _ = command.answer.send(Ok(json!(command.request)));
            }
        });
        (directory, path, admin)
    }

    async fn say(mut stream: Std, text: Vec<u8>) -> (Std, String) {
        tokio::task::spawn_blocking(move || {
            stream.write_all(&text).unwrap();
            let mut line = String::new();
            io::BufReader::new(&stream).read_line(&mut line).unwrap();
            (stream, line)
        })
        .await
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_connection_takes_many_requests_and_survives_one_that_is_not_understood() {
        let (_directory, path, _admin) = socket();
        let stream = Std::connect(&path).unwrap();
        let (stream, answer) = say(stream, b"{\"verb\":\"status\"}\n".to_vec()).await;
        assert_eq!(answer, "{\"ok\":{\"verb\":\"status\"}}\n");
        let (stream, answer) = say(stream, b"status\n".to_vec()).await;
        assert!(answer.contains("E0106"), "{answer}");
        let (_, answer) = say(stream, b"{\"verb\":\"graph\"}\n".to_vec()).await;
        assert!(answer.starts_with("{\"ok\""), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_at_the_limit_is_read_and_one_beyond_it_is_refused() {
        let (_directory, path, _admin) = socket();
        let request = b"{\"verb\":\"status\"}";
        let mut text = vec![b' '; REQUEST_BYTES_MAX - 1 - request.len()];
        text.extend_from_slice(request);
        text.push(b'\n');
        assert_eq!(text.len(), REQUEST_BYTES_MAX);
        let (_, answer) = say(Std::connect(&path).unwrap(), text.clone()).await;
        assert!(answer.starts_with("{\"ok\""), "{answer}");
        text.insert(0, b' ');
        let (_, answer) = say(Std::connect(&path).unwrap(), text).await;
        assert!(answer.contains("E0106"), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_connection_more_than_allowed_is_told_so() {
        let (_directory, path, _admin) = socket();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            // An answer shows that the connection was let in.
            held.push(say(Std::connect(&path).unwrap(), b"{\"verb\":\"status\"}\n".to_vec()).await.0);
        }
        let (_, answer) = say(Std::connect(&path).unwrap(), Vec::new()).await;
        assert!(answer.contains("E0105"), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_that_was_given_is_written_before_the_socket_is_closed() {
        for _ in 0..50 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.sock");
            let (sender, mut receiver) = mpsc::channel::<Command>(QUEUE_MAX);
            let admin = Admin::serve(bind(&path).unwrap(), sender).unwrap();
            let client = tokio::spawn(say(Std::connect(&path).unwrap(), b"{\"verb\":\"status\"}\n".to_vec()));
            let command = receiver.recv().await.unwrap();
            command.answer.send(Ok(json!("last words"))).unwrap();
            drop(receiver);
            admin.close().await;
            // Everything that was to be written is written: a runtime that ended now would lose nothing.
            let (_, answer) = client.await.unwrap();
            assert_eq!(answer, "{\"ok\":\"last words\"}\n");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_socket_is_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path, _admin) = socket();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

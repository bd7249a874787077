//! Talks to running instances, for every verb that asks or tells one something.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::args::Globals;
use crate::codes::Code;
use crate::failure::Failure;
use crate::instance::Runtime;
use crate::protocol::{ANSWER_BYTES_MAX, Answer, Request};

/// A connection to one instance.
#[derive(Debug)]
pub struct Client {
    name: String,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the instance `name`.
    ///
    /// # Errors
    /// `NoInstance`, `Forbidden`, `InstanceSilent`.
    pub fn connect(runtime: &Runtime, name: &str, timeout: Duration) -> Result<Client, Failure> {
        let path = runtime.socket(name);
        let silent = |error| Failure::new(Code::InstanceSilent, format!("`{name}` cannot be asked")).because(error);
        let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => absent(runtime, name),
            ErrorKind::PermissionDenied => {
                Failure::new(Code::Forbidden, format!("the admin socket `{}` is not for this user", path.display()))
                    .because(error)
                    .next("run the command as root or as the user who started the instance")
            }
            _ => silent(error),
        })?;
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)).map_err(silent)?;
        Ok(Client { name: name.to_owned(), stream: BufReader::new(stream) })
    }

    /// The instance's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process at the other end, as the kernel says.
    ///
    /// # Errors
    /// `System`.
    pub fn process(&self) -> Result<rustix::process::Pid, Failure> {
        let peer = rustix::net::sockopt::socket_peercred(self.stream.get_ref());
        peer.map(|peer| peer.pid).map_err(|errno| {
            Failure::new(Code::System, format!("the process of `{}` is not known", self.name)).because(errno)
        })
    }

    /// Asks `request` and returns the answer.
    ///
    /// # Errors
    /// What the instance answered; `InstanceSilent` and `AdminProtocol` when it gave no answer, or one that cannot be read.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        let name = self.name.clone();
        let silent = |error: std::io::Error| {
            let why = match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time (--timeout)".to_owned(),
                _ => error.to_string(),
            };
            Failure::new(Code::InstanceSilent, format!("`{name}` does not answer")).because(why)
        };
        let strange =
            |why: String| Failure::new(Code::AdminProtocol, format!("`{name}` gave a strange answer")).because(why);
        let mut line = serde_json::to_vec(request).expect("a request is plain data");
        line.push(b'\n');
        // An instance that has no room says so and closes at once: the answer is then there although writing failed.
        let written = self.stream.get_mut().write_all(&line);
        let mut answer = Vec::new();
        let read = self.stream.by_ref().take(ANSWER_BYTES_MAX as u64).read_until(b'\n', &mut answer);
        if !answer.ends_with(b"\n") {
            written.map_err(silent)?;
            read.map_err(silent)?;
            return Err(match answer.len() {
                0 => Failure::new(Code::InstanceSilent, format!("`{name}` closed the connection")),
                length if length == ANSWER_BYTES_MAX => strange(format!("it is longer than {ANSWER_BYTES_MAX} bytes")),
                _ => strange("it ends in the middle".to_owned()),
            });
        }
        match serde_json::from_slice(&answer).map_err(|error| strange(error.to_string()))? {
            Answer::Ok(value) => serde_json::from_value(value).map_err(|error| strange(error.to_string())),
            Answer::Failed(failure) => Err(failure),
        }
    }
}

/// The instances that the command line means: the named one, or all.
///
/// # Errors
/// `NoInstance` when there is none.
pub fn chosen(globals: &Globals, runtime: &Runtime) -> Result<Vec<String>, Failure> {
    if let Some(name) = &globals.instance {
        return Ok(vec![name.clone()]);
    }
    let names = runtime.instances()?;
    if names.is_empty() {
        return Err(no_instance(runtime));
    }
    Ok(names)
}

/// Nothing runs that could be meant.
pub fn no_instance(runtime: &Runtime) -> Failure {
    Failure::new(Code::NoInstance, "no instance is running")
        .at(runtime.directory().display())
        .next("brickwork dev, or brickwork mount VOLFILE DIR")
}

/// The one instance that the command line means; `named` is an argument of the verb that comes before `-i`.
///
/// # Errors
/// `NoInstance`, `SeveralInstances`, and those of [`Client::connect`].
pub fn the_one(globals: &Globals, named: Option<&str>) -> Result<Client, Failure> {
    let runtime = Runtime::find();
    let name = match named {
        Some(name) => name.to_owned(),
        None => match <[String; 1]>::try_from(chosen(globals, &runtime)?) {
            Ok([name]) => name,
            Err(names) => {
                return Err(Failure::new(Code::SeveralInstances, format!("{} instances are running", names.len()))
                    .at(runtime.directory().display())
                    .because(format!("each could be meant: {}", names.join(", ")))
                    .next(format!("choose one: -i {}", names[0])));
            }
        },
    };
    Client::connect(&runtime, &name, globals.timeout)
}

fn absent(runtime: &Runtime, name: &str) -> Failure {
    let running = runtime.instances().unwrap_or_default();
    Failure::new(Code::NoInstance, format!("no instance `{name}` is running")).at(runtime.directory().display()).next(
        if running.is_empty() {
            "brickwork dev, or brickwork mount VOLFILE DIR".to_owned()
        } else {
            format!("running: {}", running.join(", "))
        },
    )
}

//! A volume on other machines, as it is written: `HOST:/VOLUME`.
//!
//! Pure. The forms are those of mount.glusterfs, and more: `vm:/gd1`, `vm:24008:/gd1`, `vm:gd1`, `[::1]:24008:/gd1`,
//! `vm,vm2:/gd1`, `unix:/run/brick.sock:/gd1`.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Where bricks listen unless something else is said.
pub const PORT: u16 = 24_007;
/// Servers of one volume that are asked.
pub const SERVERS_MAX: usize = 64;

/// A process that serves bricks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Over TCP.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// Not given: whatever the default is.
        port: Option<u16>,
    },
    /// Over a unix socket on this machine.
    Unix(PathBuf),
}

/// A volume and those who can be asked for it, in the order in which they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// At least one.
    pub servers: Vec<Server>,
    /// Its name.
    pub volume: String,
}

impl Spec {
    /// Reads `SERVER[,SERVER...]:/VOLUME`, the slash may be missing.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Spec, String> {
        let (servers, volume) = split(text).ok_or("a volume is written HOST:/VOLUME")?;
        if volume.contains('/') {
            return Err(format!("`{volume}` is a folder of a volume; only a whole volume can be mounted"));
        }
        if !is_name(volume) {
            return Err(format!("`{volume}` is no name of a volume: letters, digits, `-`, `_` and `.`"));
        }
        Ok(Spec { servers: Server::list(servers, ',')?, volume: volume.to_owned() })
    }
}

impl Server {
    /// Reads several, with `separator` between them.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be read, or that there are more than [`SERVERS_MAX`].
    pub fn list(text: &str, separator: char) -> Result<Vec<Server>, String> {
        let servers: Vec<Server> = text.split(separator).map(Server::parse).collect::<Result<_, _>>()?;
        if servers.len() > SERVERS_MAX {
            return Err(format!("{} servers; at most {SERVERS_MAX} are asked", servers.len()));
        }
        Ok(servers)
    }

    /// Reads `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Server, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Server::Unix(path.into())),
                false => Err(format!("`{path}`: the path of a unix socket begins with `/`")),
            };
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| format!("`{text}` lacks its `]`"))?;
                if !is_v6(host) {
                    return Err(format!("`{host}` is no IPv6 address"));
                }
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(format!("`{after}` after `]`: only `:PORT` can stand there")),
                }
            }
            // As mount.glusterfs takes it; with a port it needs brackets.
            None if is_v6(text) => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if !is_v6(host) && !is_host(host) {
            return Err(format!("`{host}` is no name of a machine"));
        }
        let port = port.map(|port| match port.parse() {
            Ok(0) | Err(_) => Err(format!("`{port}` is no port: 1 to 65535")),
            Ok(port) => Ok(port),
        });
        Ok(Server::Tcp { host: host.to_owned(), port: port.transpose()? })
    }

    /// This server, at `port` unless it says another.
    #[must_use]
    pub fn or_port(self, port: u16) -> Server {
        match self {
            Server::Tcp { host, port: None } => Server::Tcp { host, port: Some(port) },
            server => server,
        }
    }
}

/// As it is written, without the port that everybody assumes.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Unix(path) => write!(f, "unix:{}", path.display()),
            Server::Tcp { host, port } => {
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                match port {
                    None | Some(PORT) => Ok(()),
                    Some(port) => write!(f, ":{port}"),
                }
            }
        }
    }
}

/// The servers and the volume.
fn split(text: &str) -> Option<(&str, &str)> {
    // A path of a unix socket may hold colons: what follows the last `:/` is the volume.
    text.rsplit_once(":/").filter(|(servers, _)| *servers != "unix").or_else(|| {
        let (servers, volume) = text.rsplit_once(':')?;
        // `[::1]` and `unix:/path` alone name no volume.
        (!volume.contains([']', '/'])).then_some((servers, volume))
    })
}

fn is_name(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    letters && !text.is_empty() && text.len() <= 255 && !text.starts_with(['-', '.'])
}

/// A name by RFC 1123, with the `_` that many have, or an IPv4 address.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// With or without a zone: `fe80::1%eth0`.
fn is_v6(text: &str) -> bool {
    text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: Option<u16>) -> Server {
        Server::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_form_is_read() {
        for (text, servers, volume) in [
            ("vm:/gd1", vec![tcp("vm", None)], "gd1"),
            ("vm:gd1", vec![tcp("vm", None)], "gd1"),
            ("vm:24008:/gd1", vec![tcp("vm", Some(24008))], "gd1"),
            ("vm:24008:gd1", vec![tcp("vm", Some(24008))], "gd1"),
            ("10.0.0.1:/gd1", vec![tcp("10.0.0.1", None)], "gd1"),
            ("vm.example.org.:/gd1.a-b_c", vec![tcp("vm.example.org.", None)], "gd1.a-b_c"),
            ("[::1]:/gd1", vec![tcp("::1", None)], "gd1"),
            ("[::1]:24008:/gd1", vec![tcp("::1", Some(24008))], "gd1"),
            ("[fe80::1%eth0]:gd1", vec![tcp("fe80::1%eth0", None)], "gd1"),
            ("fe80::1:/gd1", vec![tcp("fe80::1", None)], "gd1"),
            ("vm,vm2:24010,[::1]:/gd1", vec![tcp("vm", None), tcp("vm2", Some(24010)), tcp("::1", None)], "gd1"),
            ("unix:/run/a.sock:/gd1", vec![Server::Unix("/run/a.sock".into())], "gd1"),
            ("unix:/run/a:b.sock:gd1", vec![Server::Unix("/run/a:b.sock".into())], "gd1"),
            ("unix:/run/a.sock,vm:/gd1", vec![Server::Unix("/run/a.sock".into()), tcp("vm", None)], "gd1"),
        ] {
            assert_eq!(Spec::parse(text), Ok(Spec { servers, volume: volume.to_owned() }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("gd1", "HOST:/VOLUME"),
            ("/etc/brickwork/gd1.vol", "HOST:/VOLUME"),
            ("unix:/run/a.sock", "HOST:/VOLUME"),
            ("[::1]", "HOST:/VOLUME"),
            ("vm:/", "is no name of a volume"),
            ("vm:/../x", "is a folder of a volume"),
            ("vm:/gd1/sub", "`gd1/sub` is a folder of a volume"),
            ("vm:/g d", "`g d` is no name of a volume"),
            (":/gd1", "`` is no name of a machine"),
            ("./vm:/gd1", "`./vm` is no name of a machine"),
            ("vm,:/gd1", "`` is no name of a machine"),
            ("vm:0:/gd1", "`0` is no port"),
            ("vm:99999:/gd1", "`99999` is no port"),
            ("[::1:/gd1", "lacks its `]`"),
            ("[vm]:/gd1", "`vm` is no IPv6 address"),
            ("[::1]x:/gd1", "`x` after `]`"),
            ("unix:run/a.sock:/gd1", "begins with `/`"),
        ] {
            let said = Spec::parse(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
        let many = vec!["vm"; SERVERS_MAX + 1].join(",");
        assert!(Spec::parse(&format!("{many}:/gd1")).expect_err("too many").contains("at most 64"));
        assert!(Spec::parse(&format!("{}:/gd1", &many[3..])).is_ok());
    }

    #[test]
    fn a_server_is_shown_as_it_can_be_written() {
        for text in ["vm", "vm:24008", "[::1]", "[::1]:1", "unix:/run/a.sock"] {
            assert_eq!(Server::parse(text).map(|server| server.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(tcp("vm", None).or_port(PORT).to_string(), "vm");
        assert_eq!(tcp("vm", Some(1)).or_port(PORT), tcp("vm", Some(1)));
    }
}

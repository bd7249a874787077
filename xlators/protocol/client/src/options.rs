//! The options of protocol/client, in GlusterFS's names where it has them.

use std::path::PathBuf;
use std::time::Duration;

use brickwork_api::Xdata;
use brickwork_api::locks::{FAILOVER_GROUP, FAILOVER_SECRET};
use brickwork_api::options::{AbsolutePath, OptionError, OptionMap, OptionSpec, Seconds, joined, option_enum, options};
use brickwork_wire::tls::{self, ConnectOptions, TlsOptions};
pub use brickwork_wire::transport::{Family, Transport};

options! {
    /// Options of `protocol/client`. Besides them: `transport.socket.ssl-*`.
    pub struct ClientOptions {
        /// What carries bytes.
        transport_type: Transport = "transport-type" [default("tcp")],
        /// Which addresses of the host are tried. Not given: all, in the resolver's order.
        family: Option<Family> = "transport.address-family" [],
        /// The machine of the brick: a name or an address. Needed with TCP.
        host: Option<String> = "remote-host" [],
        /// The TCP port of the brick.
        port: u16 = "remote-port" [default("24007"), range(1, 65_535), aliases(&["transport.socket.remote-port"])],
        /// The path of the brick's unix socket. Needed with `transport-type unix`.
        path: Option<AbsolutePath> = "transport.socket.connect-path" [aliases(&["connect-path", "transport.unix.connect-path"])],
        /// The name of the brick among those of its process: a volume in its volfile.
        subvolume: String = "remote-subvolume" [required()],
        /// Who asks, where the brick asks for a login.
        username: Option<String> = "username" [],
        /// That user's password; it does not travel, only a proof of it.
        password: Option<String> = "password" [secret()],
        /// A brick that answers no ping for this long is taken for lost, and connected to anew. How often it is pinged
        /// follows from this and from what the brick says of its own patience.
        ping_timeout: Seconds = "ping-timeout" [default("42s"), range(1, 1_013), live()],
        /// A request that the brick has not answered after this long ends with `ETIMEDOUT`. Locks that are waited for
        /// have no limit.
        frame_timeout: Seconds = "frame-timeout" [default("1800s"), range(1, 86_400), live()],
        /// How long an unreachable brick is waited for, from the moment it was lost. Then requests end with `ENOTCONN`,
        /// at once, until it is back. 0 waits for nothing.
        reconnect_wait: Seconds = "reconnect-wait" [default("60s"), range(0, 86_400), live()],
        /// How long data may stay unacknowledged before the connection is lost; 0 leaves it to the kernel.
        user_timeout: Seconds = "transport.tcp-user-timeout" [default("0s"), range(0, 1_013)],
        /// The kernel asks a silent brick whether it is there.
        keepalive: bool = "transport.socket.keepalive" [default("on"), aliases(&["transport.keepalive"])],
        /// After how much silence.
        keepalive_time: Seconds = "transport.socket.keepalive-time" [default("20s"), range(1, 32_767)],
        /// How often then.
        keepalive_interval: Seconds = "transport.socket.keepalive-interval" [default("2s"), range(1, 32_767)],
        /// How many unanswered questions end the connection.
        keepalive_count: u32 = "transport.socket.keepalive-count" [default("9"), range(1, 127)],
        /// Tells the brick the caller's supplementary groups. Off: only user and group are told, and rights that come
        /// from other groups are not had.
        send_gids: bool = "send-gids" [default("on")],
        /// What becomes of an open file when the brick has lost a lock that was taken through it: `eio` refuses all use of
        /// it until it is closed, `ignore` goes on as if nothing had happened, but for a line in the log. What the brick
        /// itself refuses stays refused.
        on_lost_lock: OnLostLock = "on-lost-lock" [default("eio")],
        /// Names the clients that may take over each other's locks with `reclaim-lock`.
        failover_group: Option<String> = "failover-group" [],
        /// What all of that group know, and nobody else. It travels to the brick as it is: use TLS where others listen.
        failover_secret: Option<String> = "failover-secret" [secret()],
    }
}

option_enum! {
    /// What becomes of an open file whose lock is lost.
    pub enum OnLostLock {
        /// It answers `EIO` until it is closed.
        Eio = "eio",
        /// It is used on.
        Ignore = "ignore",
    }
}

/// The table of all options.
pub(crate) const SPECS: [OptionSpec; ClientOptions::SPECS.len() + tls::CONNECT_SPECS.len()] =
    joined(&[ClientOptions::SPECS, &tls::CONNECT_SPECS]);

/// Where a brick listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A machine.
    Tcp {
        /// Its name or address.
        host: String,
        /// The port.
        port: u16,
        /// Which of its addresses are tried; all when not given.
        family: Option<Family>,
    },
    /// A unix socket of this machine.
    Unix(PathBuf),
}

impl Server {
    /// The machine `host` at `port`, by any of its addresses.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Server {
        Server::Tcp { host: host.into(), port, family: None }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Server::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Server::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What the kernel is told about a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) user_timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
}

/// How a silent peer is asked whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    pub(crate) time: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
}

impl Tcp {
    /// What holds when no volfile says otherwise.
    pub(crate) const DEFAULT: Tcp = Tcp { user_timeout: Duration::ZERO, keepalive: None };
}

/// The values that a running client can be given anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) ping: Duration,
    pub(crate) frame: Duration,
    pub(crate) reconnect: Duration,
}

/// All that a volfile says, checked and put in order.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) tcp: Tcp,
    pub(crate) tls: Option<(TlsOptions, ConnectOptions)>,
    pub(crate) subvolume: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) send_gids: bool,
    pub(crate) on_lost_lock: OnLostLock,
    /// What says at an attach to which failover group this client belongs.
    pub(crate) failover: Xdata,
    pub(crate) patience: Patience,
}

impl Settings {
    /// Reads the options of a volume.
    ///
    /// # Errors
    /// Every value that is refused, and what is missing or contradicts another.
    pub(crate) fn parse(map: &OptionMap) -> Result<Settings, Vec<OptionError>> {
        let mut errors = Vec::new();
        let mut take = |refused: Vec<OptionError>| errors.extend(refused);
        let options = ClientOptions::parse(map).map_err(&mut take).ok();
        let tls = TlsOptions::parse(map).map_err(&mut take).ok();
        let connect = ConnectOptions::parse(map).map_err(&mut take).ok();
        let (Some(options), Some(tls), Some(connect)) = (options, tls, connect) else { return Err(errors) };
        let server = options.server()?;
        let tls = tls.enabled.then_some((tls, connect));
        if tls.is_some() && matches!(server, Server::Unix(_)) {
            return Err(refused(
                "transport.socket.ssl-enabled",
                "is for TCP; a unix socket does not leave the machine",
            ));
        }
        Ok(Settings {
            server,
            tcp: options.tcp(),
            tls,
            login: options.login()?,
            subvolume: options.subvolume.clone(),
            send_gids: options.send_gids,
            on_lost_lock: options.on_lost_lock,
            failover: options.failover()?,
            patience: options.patience(),
        })
    }
}

impl ClientOptions {
    fn server(&self) -> Result<Server, Vec<OptionError>> {
        let by_path = match (self.transport_type, self.family) {
            (Transport::Unix, None | Some(Family::Unix)) | (Transport::Socket, Some(Family::Unix)) => true,
            (Transport::Tcp | Transport::Socket, None | Some(Family::Inet | Family::Inet6)) => false,
            (Transport::Tcp, Some(Family::Unix)) => {
                return Err(refused("transport.address-family", "`unix` is no family of `transport-type tcp`"));
            }
            (Transport::Unix, Some(Family::Inet | Family::Inet6)) => {
                return Err(refused("transport.address-family", "`transport-type unix` has only the family `unix`"));
            }
        };
        match (by_path, &self.path, &self.host) {
            (true, Some(path), _) => Ok(Server::Unix(path.0.clone())),
            (true, None, _) => Err(refused("transport.socket.connect-path", "is required with a unix socket")),
            (false, _, Some(host)) if host.is_empty() => Err(refused("remote-host", "is empty")),
            (false, _, Some(host)) => Ok(Server::Tcp { host: host.clone(), port: self.port, family: self.family }),
            (false, _, None) => Err(refused("remote-host", "is required with TCP")),
        }
    }

    fn login(&self) -> Result<Option<(String, String)>, Vec<OptionError>> {
        match (&self.username, &self.password) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Ok(Some((user.clone(), password.clone()))),
            (Some(_), None) => Err(refused("password", "is required with `username`")),
            (None, Some(_)) => Err(refused("username", "is required with `password`")),
        }
    }

    fn failover(&self) -> Result<Xdata, Vec<OptionError>> {
        match (&self.failover_group, &self.failover_secret) {
            (None, None) => Ok(Xdata::EMPTY),
            (Some(group), _) if group.is_empty() => Err(refused("failover-group", "is empty")),
            (_, Some(secret)) if secret.is_empty() => Err(refused("failover-secret", "is empty")),
            (Some(group), Some(secret)) => {
                Ok(Xdata::EMPTY.with(&FAILOVER_GROUP, group.clone()).with(&FAILOVER_SECRET, secret.clone()))
            }
            (Some(_), None) => Err(refused("failover-secret", "is required with `failover-group`")),
            (None, Some(_)) => Err(refused("failover-group", "is required with `failover-secret`")),
        }
    }

    fn tcp(&self) -> Tcp {
        let keepalive =
            Keepalive { time: self.keepalive_time.0, interval: self.keepalive_interval.0, count: self.keepalive_count };
        Tcp { user_timeout: self.user_timeout.0, keepalive: self.keepalive.then_some(keepalive) }
    }

    fn patience(&self) -> Patience {
        Patience { ping: self.ping_timeout.0, frame: self.frame_timeout.0, reconnect: self.reconnect_wait.0 }
    }
}

fn refused(key: &str, reason: &str) -> Vec<OptionError> {
    vec![OptionError { key: key.to_owned(), reason: reason.to_owned() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let map = entries.iter().copied().chain([("remote-subvolume", "b")]).collect();
        Settings::parse(&map).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_host_is_all_that_must_be_given_beside_the_subvolume() {
        let settings = parse(&[("remote-host", "vm")]).unwrap();
        assert_eq!(settings.server, Server::tcp("vm", 24007));
        assert_eq!(settings.subvolume, "b");
        assert!(settings.send_gids && settings.tls.is_none() && settings.login.is_none());
        assert_eq!((settings.on_lost_lock, settings.failover), (OnLostLock::Eio, Xdata::EMPTY));
        let patience = Patience {
            ping: Duration::from_secs(42),
            frame: Duration::from_secs(1800),
            reconnect: Duration::from_secs(60),
        };
        assert_eq!(settings.patience, patience);
        let missing = Settings::parse(&OptionMap::from_iter([("remote-host", "vm")])).unwrap_err();
        assert_eq!(missing[0].to_string(), "option `remote-subvolume`: is required");
    }

    #[test]
    fn a_unix_socket_is_named_by_either_option_and_needs_its_path() {
        let path = ("transport.socket.connect-path", "/run/b.sock");
        for kind in [
            &[("transport-type", "unix"), path][..],
            &[("transport-type", "socket"), ("transport.address-family", "unix"), path],
        ] {
            assert_eq!(parse(kind).unwrap().server, Server::Unix("/run/b.sock".into()));
        }
        assert_eq!(
            parse(&[("transport-type", "unix"), ("remote-host", "vm")]).unwrap_err(),
            ["option `transport.socket.connect-path`: is required with a unix socket"]
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (entries, said) in [
            (&[][..], "option `remote-host`: is required with TCP"),
            (&[("remote-host", "")], "option `remote-host`: is empty"),
            (
                &[("remote-host", "vm"), ("transport.address-family", "unix")],
                "option `transport.address-family`: `unix` is no family of `transport-type tcp`",
            ),
            (
                &[("transport-type", "unix"), ("transport.address-family", "inet")],
                "option `transport.address-family`: `transport-type unix` has only the family `unix`",
            ),
            (&[("remote-host", "vm"), ("username", "anna")], "option `password`: is required with `username`"),
            (&[("remote-host", "vm"), ("password", "secret")], "option `username`: is required with `password`"),
            (
                &[("remote-host", "vm"), ("failover-group", "nfs")],
                "option `failover-secret`: is required with `failover-group`",
            ),
            (
                &[("remote-host", "vm"), ("failover-secret", "s")],
                "option `failover-group`: is required with `failover-secret`",
            ),
            (
                &[("remote-host", "vm"), ("failover-group", ""), ("failover-secret", "s")],
                "option `failover-group`: is empty",
            ),
            (
                &[("remote-host", "vm"), ("failover-group", "nfs"), ("failover-secret", "")],
                "option `failover-secret`: is empty",
            ),
            (
                &[("remote-host", "vm"), ("on-lost-lock", "no")],
                "option `on-lost-lock`: `no` is not one of `eio` `ignore`",
            ),
            (&[("remote-host", "vm"), ("ping-timeout", "0")], "option `ping-timeout`: `0` is out of range 1 to 1013"),
            (&[("remote-host", "vm"), ("remote-port", "0")], "option `remote-port`: `0` is out of range 1 to 65535"),
            (&[("transport-type", "rdma")], "option `transport-type`: `rdma` is not one of `tcp` `socket` `unix`"),
            (
                &[
                    ("transport-type", "unix"),
                    ("transport.socket.connect-path", "/run/b"),
                    ("transport.socket.ssl-enabled", "on"),
                ],
                "option `transport.socket.ssl-enabled`: is for TCP; a unix socket does not leave the machine",
            ),
        ] {
            assert_eq!(parse(entries).unwrap_err(), [said]);
        }
    }

    #[test]
    fn every_other_option_reaches_its_place() {
        let settings = parse(&[
            ("remote-host", "fe80::1"),
            ("transport.socket.remote-port", "7"),
            ("transport.address-family", "inet6"),
            ("username", "anna"),
            ("password", "secret"),
            ("ping-timeout", "5"),
            ("frame-timeout", "6"),
            ("reconnect-wait", "7"),
            ("transport.tcp-user-timeout", "8"),
            ("transport.socket.keepalive-time", "9"),
            ("transport.socket.keepalive-interval", "10"),
            ("transport.socket.keepalive-count", "11"),
            ("send-gids", "off"),
            ("on-lost-lock", "ignore"),
            ("failover-group", "nfs"),
            ("failover-secret", "s"),
            ("transport.socket.ssl-enabled", "on"),
            ("transport.socket.ssl-verify-host", "on"),
        ])
        .unwrap();
        assert_eq!(settings.server.to_string(), "[fe80::1]:7");
        assert!(matches!(settings.server, Server::Tcp { family: Some(Family::Inet6), .. }));
        assert_eq!(settings.login, Some(("anna".to_owned(), "secret".to_owned())));
        let seconds = Duration::from_secs;
        assert_eq!(settings.patience, Patience { ping: seconds(5), frame: seconds(6), reconnect: seconds(7) });
        let keepalive = Keepalive { time: seconds(9), interval: seconds(10), count: 11 };
        assert_eq!(settings.tcp, Tcp { user_timeout: seconds(8), keepalive: Some(keepalive) });
        assert_eq!(settings.on_lost_lock, OnLostLock::Ignore);
        assert_eq!(settings.failover.get(&FAILOVER_GROUP), Ok(Some("nfs".to_owned())));
        assert_eq!(settings.failover.get(&FAILOVER_SECRET), Ok(Some("s".to_owned())));
        assert!(!settings.send_gids && settings.tls.unwrap().1.verify_host);
        assert_eq!(parse(&[("remote-host", "vm"), ("transport.socket.keepalive", "off")]).unwrap().tcp.keepalive, None);
    }

    #[test]
    fn what_nobody_may_see_is_secret() {
        let secret: Vec<&str> = SPECS.iter().filter(|spec| spec.secret).map(|spec| spec.key).collect();
        assert_eq!(secret, ["password", "failover-secret"]);
    }
}

//! The options of protocol/server, in GlusterFS's names where it has them.

use brickwork_api::option_enum;
use brickwork_api::options::{AbsolutePath, OptionError, OptionMap, OptionSpec, Seconds, Size, joined, options};
use brickwork_wire::tls::ACCEPT_SPECS;

use crate::listen::bind_address;
pub use brickwork_wire::transport::{Family, Transport};

option_enum! {
    /// What the answers of operations, that must happen once, survive.
    pub enum ExactlyOnce {
        /// A lost connection.
        Memory = "memory",
        /// The death of the process too.
        Process = "process",
        /// The death of the machine too: two syncs of the disk for each such operation.
        Disk = "disk",
    }
}

impl ExactlyOnce {
    /// The word in a volfile.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            ExactlyOnce::Memory => "memory",
            ExactlyOnce::Process => "process",
            ExactlyOnce::Disk => "disk",
        }
    }
}

options! {
    /// Options of `protocol/server`. Besides them: `auth.*` and `transport.socket.ssl-*`.
    pub struct ServerOptions {
        /// What carries bytes.
        transport_type: Transport = "transport-type" [default("tcp")],
        /// Which addresses are listened on.
        family: Family = "transport.address-family" [default("inet")],
        /// The TCP port; 0 takes a free one, which `brick status` shows.
        port: u16 = "transport.socket.listen-port" [default("24007"), aliases(&["listen-port"])],
        /// The address to listen on. Not given: all of this machine.
        address: Option<String> = "transport.socket.bind-address" [aliases(&["bind-address"])],
        /// The path of the unix socket; needed with `transport-type unix`. One that nobody listens on is replaced.
        path: Option<AbsolutePath> = "transport.socket.listen-path" [aliases(&["listen-path", "transport.listen-path", "transport.unix.listen-path"])],
        /// Connections that the kernel keeps waiting.
        backlog: u32 = "transport.listen-backlog" [default("1024"), range(1, 65_535), aliases(&["transport.socket.listen-backlog"])],
        /// The kernel asks a silent peer whether it is there.
        keepalive: bool = "transport.socket.keepalive" [default("on"), aliases(&["transport.keepalive"])],
        /// After how much silence.
        keepalive_time: Seconds = "transport.socket.keepalive-time" [default("20s"), range(1, 32_767)],
        /// How often then.
        keepalive_interval: Seconds = "transport.socket.keepalive-interval" [default("2s"), range(1, 32_767)],
        /// How many unanswered questions end the connection.
        keepalive_count: u32 = "transport.socket.keepalive-count" [default("9"), range(1, 127)],
        /// How long data may stay unacknowledged before the connection is lost; 0 leaves it to the kernel.
        user_timeout: Seconds = "transport.tcp-user-timeout" [default("42s"), range(0, 1_013)],
        /// Connections at once; one more is refused.
        connections_max: u32 = "connections-max" [default("16384"), range(1, 1_000_000)],
        /// How long a peer may take to say who it is.
        handshake_timeout: Seconds = "handshake-timeout" [default("10s"), range(1, 300)],
        /// Clients with a session at once; one more is refused.
        clients_max: u32 = "clients-max" [default("4096"), range(1, 1_000_000)],
        /// Requests of one client under way at once. Waiting locks are counted apart.
        slots: u32 = "slots" [default("1024"), range(1, 65_536)],
        /// Lock calls of one client that wait at once.
        waiters_max: u32 = "waiters-max-per-client" [default("65536"), range(1, 1_048_576)],
        /// Requests of one connection under way at once; its socket is not read beyond. Waiting locks are not counted.
        outstanding: u32 = "outstanding-rpc-limit" [default("1024"), range(1, 65_536)],
        /// Bytes of requests and answers of one connection in memory at once; its socket is not read beyond.
        bytes_in_flight: Size = "bytes-in-flight-max" [default("64MB"), range(16_777_216, 17_179_869_184)],
        /// How long a client may leave answers unread while more are waiting than `bytes-in-flight-max`; then its connection is closed.
        slow_reader_timeout: Seconds = "slow-reader-timeout" [default("60s"), range(1, 3_600)],
        /// What is remembered, so that no operation happens twice, survives the connection (`memory`), the death of the
        /// process (`process`), or of the machine (`disk`).
        eos: ExactlyOnce = "eos" [default("process")],
        /// Where that is kept. Not given: in the working folder of the brick.
        journal_directory: Option<AbsolutePath> = "journal-directory" [],
        /// How long a client that went away keeps its session: its opens and the answers it did not hear. One that holds
        /// locks keeps it for longer.
        session_timeout: Seconds = "session-timeout" [default("10min"), range(10, 604_800)],
        /// How long a client that went away keeps its session for the sake of locks that nobody wants. With the session go
        /// also files that it holds open without a name.
        locked_session_timeout: Seconds = "locked-session-timeout" [default("24h"), range(10, 31_536_000)],
        /// How long the locks of a client that went away are protected against everyone. One that is connected and says
        /// nothing for so long is cut off, where there are locks.
        detach_timeout: Seconds = "detach-timeout" [default("10s"), range(1, 3_600)],
        /// How long a change waits for another client to drop what it cached; then that client is cut off.
        invalidate_timeout: Seconds = "invalidate-timeout" [default("6s"), range(1, 300)],
        /// Clients that may cache one object; more go past their caches.
        caching_clients_max: u32 = "caching-clients-max" [default("64"), range(0, 4_096)],
        /// Objects that clients may cache, in all; beyond, an old one is taken from them.
        caching_inodes_max: u32 = "caching-inodes-max" [default("1000000"), range(1_000, 100_000_000)],
        /// Root of a client acts as `anonuid` and `anongid`.
        root_squash: bool = "root-squash" [default("off"), live()],
        /// Everybody of a client acts as `anonuid` and `anongid`.
        all_squash: bool = "all-squash" [default("off"), live()],
        /// The user for those who are squashed.
        anonuid: u32 = "anonuid" [default("65534"), range(0, 4_294_967_294), live()],
        /// The group for those who are squashed.
        anongid: u32 = "anongid" [default("65534"), range(0, 4_294_967_294), live()],
        /// The groups of a user are those that this machine knows, not those that the client says.
        manage_gids: bool = "manage-gids" [default("off"), aliases(&["server.manage-gids"]), live()],
        /// How long the groups of a user are remembered with `manage-gids`.
        gid_timeout: Seconds = "gid-timeout" [default("300s"), aliases(&["server.gid-timeout"]), live()],
        /// The client volfiles that this brick hands out: `VOLUME=PATH`, several separated by commas.
        client_volfile: Option<String> = "client-volfile" [],
        /// Taken for the volfiles of GlusterFS, without effect: a subvolume is known by its name, which is this path there.
        auth_path: Option<String> = "auth-path" [],
    }
}

impl ServerOptions {
    /// Reads the options and checks what no single value shows.
    ///
    /// # Errors
    /// Every value that is refused, all at once.
    pub fn read(map: &OptionMap) -> Result<ServerOptions, Vec<OptionError>> {
        let options = ServerOptions::parse(map)?;
        if options.is_unix() && options.path.is_none() {
            let reason = "is required with `transport-type unix`".to_owned();
            return Err(vec![OptionError { key: "transport.socket.listen-path".to_owned(), reason }]);
        }
        if let Some(text) = &options.address {
            let refused = |reason| vec![OptionError { key: "transport.socket.bind-address".to_owned(), reason }];
            bind_address(text).map_err(refused)?;
        }
        Ok(options)
    }

    /// Whether a unix socket is listened on, not TCP.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.transport_type == Transport::Unix || self.family == Family::Unix
    }
}

const COUNT: usize = ServerOptions::SPECS.len() + crate::auth::SPECS.len() + ACCEPT_SPECS.len();

/// The table for the type: these options, those of [`auth`](crate::auth) and of TLS.
pub const SPECS: &[OptionSpec] = &joined::<COUNT>(&[ServerOptions::SPECS, crate::auth::SPECS, &ACCEPT_SPECS]);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<ServerOptions, Vec<OptionError>> {
        ServerOptions::read(&entries.iter().copied().collect())
    }

    #[test]
    fn without_options_it_listens_where_a_mount_asks() {
        let options = read(&[]).unwrap();
        assert_eq!((options.port, options.is_unix(), options.eos), (24007, false, ExactlyOnce::Process));
    }

    #[test]
    fn a_unix_socket_needs_a_path() {
        let errors = read(&[("transport-type", "unix")]).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "option `transport.socket.listen-path`: is required with `transport-type unix`"
        );
        assert!(read(&[("transport.address-family", "unix"), ("listen-path", "/run/b.sock")]).unwrap().is_unix());
    }
}

//! TLS for both ends of a connection, from the first byte on.
//!
//! GlusterFS's way: both ends have a certificate, each checks the other's against its CA list, and the identity of a
//! peer is the common name of its certificate. Whether the name of the host stands in the certificate is looked at only
//! where the client says so. TLS 1.2 and 1.3; nothing is resumed, so each connection shows its certificate anew.
//!
//! An error says which file or which end, what is wrong, and what to do next.

mod files;
mod name;
mod reason;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::options::{AbsolutePath, OptionSpec, joined, options};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use name::CommonName;
pub use reason::reason;

use files::Identity;
use trust::{Clients, Servers, Trust};

/// How long a handshake may take: a peer that says nothing is not waited for.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Where GlusterFS keeps the certificate of a machine.
pub const OWN_CERTIFICATE: &str = "/etc/ssl/glusterfs.pem";
/// Where GlusterFS keeps the key of a machine.
pub const PRIVATE_KEY: &str = "/etc/ssl/glusterfs.key";

options! {
    /// What both ends have.
    pub struct TlsOptions {
        /// Encrypts every connection over TCP, from the first byte. Both ends must have it on.
        enabled: bool = "transport.socket.ssl-enabled" [default("off")],
        /// The certificate of this machine, PEM, with the intermediate ones after it.
        /// Without it `/etc/ssl/glusterfs.pem`; a client that has no such file shows no certificate.
        own_certificate: Option<AbsolutePath> = "transport.socket.ssl-own-cert" [],
        /// The private key of this machine, PEM, without a passphrase. Without it `/etc/ssl/glusterfs.key`.
        private_key: Option<AbsolutePath> = "transport.socket.ssl-private-key" [],
        /// Who is believed, PEM: CAs, or the very certificates of peers that signed themselves.
        ca_list: AbsolutePath = "transport.socket.ssl-ca-list" [default("/etc/ssl/glusterfs.ca")],
        /// How many certificates beside its own, and beside those of the CA list, a peer may show.
        certificate_depth: u8 = "transport.socket.ssl-cert-depth" [default("1"), range(0, 6)],
    }
}

options! {
    /// What a brick has on top.
    pub struct AcceptOptions {
        /// Whether a client without a certificate is refused. Off: whoever shows one is still checked.
        require_client_certificate: bool = "transport.socket.ssl-require-client-cert" [default("on")],
    }
}

options! {
    /// What a client has on top.
    pub struct ConnectOptions {
        /// Whether the certificate of the brick must be for `remote-host`: by its alternative names, or where it has
        /// none by its common name.
        verify_host: bool = "transport.socket.ssl-verify-host" [default("off")],
    }
}

/// The options of TLS of a brick.
pub const ACCEPT_SPECS: [OptionSpec; 6] = joined(&[TlsOptions::SPECS, AcceptOptions::SPECS]);
/// The options of TLS of a client.
pub const CONNECT_SPECS: [OptionSpec; 6] = joined(&[TlsOptions::SPECS, ConnectOptions::SPECS]);

/// Why there is no encrypted connection, or none can be made: a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// An encrypted stream, and who is at its other end.
#[derive(Debug)]
pub struct Encrypted<S> {
    /// The stream.
    pub stream: TlsStream<S>,
    /// The common name of the peer's certificate, which was checked; `None` when it has shown none or one without a
    /// usable name.
    pub peer: Option<CommonName>,
}

impl<S> Encrypted<S> {
    fn of(stream: TlsStream<S>) -> Encrypted<S> {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = shown.and_then(CommonName::of);
        Encrypted { stream, peer }
    }
}

/// The end that is connected to.
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

impl TlsServer {
    /// Reads the certificates and the key. Blocks for the files.
    ///
    /// # Errors
    /// Which file is missing, unreadable or wrong, and what should be there.
    pub fn load(options: &TlsOptions, accept: &AcceptOptions) -> Result<TlsServer, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let trust = Trust::load(options, &provider)?;
        let identity = Identity::load(options)?;
        let clients = Clients::new(trust, &provider, accept.require_client_certificate)?;
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let versions = versions.map_err(|error| TlsError(format!("TLS: {error}")))?;
        let with_clients = versions.with_client_cert_verifier(Arc::new(clients));
        let Identity { chain, key, paths } = identity;
        let config = with_clients.with_single_cert(chain, key);
        let mut config = config.map_err(|error| paths.refused(&error))?;
        // A resumed session would be believed for a certificate that has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsServer(TlsAcceptor::from(Arc::new(config))))
    }

    /// Lets a client in over `socket`, which is connected: its certificate was checked when this returns.
    ///
    /// # Errors
    /// Why not, also when it takes longer than [`HANDSHAKE_MAX`].
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> Result<Encrypted<S>, TlsError> {
        let stream = in_time(self.0.accept(socket)).await?;
        Ok(Encrypted::of(TlsStream::Server(stream)))
    }
}

/// The end that connects.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    verify_host: bool,
}

impl TlsClient {
    /// Reads the certificates and the key. Blocks for the files.
    ///
    /// # Errors
    /// Which file is missing, unreadable or wrong, and what should be there. That the own certificate is missing where
    /// nobody named it is none: it may do without.
    pub fn load(options: &TlsOptions, connect: &ConnectOptions) -> Result<TlsClient, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let trust = Trust::load(options, &provider)?;
        let identity = Identity::load_if_there(options)?;
        let servers = Arc::new(Servers::new(trust, connect.verify_host));
        let mut config = client_config(provider, servers, identity)?;
        config.resumption = Resumption::disabled();
        // A brick has one certificate, and who listens need not learn what it is called.
        config.enable_sni = false;
        Ok(TlsClient { connector: TlsConnector::from(Arc::new(config)), verify_host: connect.verify_host })
    }

    /// Encrypts `socket`, which is connected to a brick on `host`.
    ///
    /// With TLS 1.3 the brick may still refuse our certificate afterwards: the first read then fails, and [`reason`]
    /// says why.
    ///
    /// # Errors
    /// Why not, also when it takes longer than [`HANDSHAKE_MAX`].
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        host: &str,
    ) -> Result<Encrypted<S>, TlsError> {
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) if self.verify_host => {
                return Err(TlsError(format!("`{host}` is neither a host name nor an address that a certificate has")));
            }
            // Nobody looks at it.
            Err(_) => ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0]))),
        };
        let stream = in_time(self.connector.connect(name, socket)).await?;
        Ok(Encrypted::of(TlsStream::Client(stream)))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("verify_host", &self.verify_host).finish_non_exhaustive()
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    servers: Arc<Servers>,
    identity: Option<Identity>,
) -> Result<ClientConfig, TlsError> {
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| TlsError(format!("TLS: {error}")))?;
    // "Dangerous" is what does not check a name: `Servers` checks the chain, and the name where it is told to.
    let with_servers = versions.dangerous().with_custom_certificate_verifier(servers);
    match identity {
        None => Ok(with_servers.with_no_client_auth()),
        Some(Identity { chain, key, paths }) => {
            with_servers.with_client_auth_cert(chain, key).map_err(|error| paths.refused(&error))
        }
    }
}

/// The stream that `handshake` ends with, if it does in time.
async fn in_time<T>(handshake: impl Future<Output = std::io::Result<T>>) -> Result<T, TlsError> {
    match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(TlsError(reason::of_handshake(&error))),
        Err(_) => Err(TlsError(format!(
            "the peer has not finished the TLS handshake within {} s; is `transport.socket.ssl-enabled` on there?",
            HANDSHAKE_MAX.as_secs()
        ))),
    }
}

//! Whose certificate is believed.
//!
//! Always true of a certificate that is believed: it is within its time, whoever shows it has its key, and either
//! - it stands itself in the CA list, or
//! - it chains to one that does, over no more others than `ssl-cert-depth`.
//!
//! The first is how GlusterFS is mostly set up: each machine signs itself, and the list holds all of them. Such
//! certificates call themselves CAs, which the check of chains refuses for a peer.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{TlsError, TlsOptions, files, name};

/// The CA list and what goes with it.
#[derive(Debug)]
pub(super) struct Trust {
    listed: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    depth: usize,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Reads the CA list.
    pub(super) fn load(options: &TlsOptions, provider: &CryptoProvider) -> Result<Trust, TlsError> {
        let path = &options.ca_list.0;
        let listed = files::certificates(path, "transport.socket.ssl-ca-list")?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in listed.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|error| {
                TlsError(format!("certificate {} of `{}` cannot be used: {error}", index + 1, path.display()))
            })?;
        }
        Ok(Trust {
            listed,
            roots: Arc::new(roots),
            depth: usize::from(options.certificate_depth),
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Whether `shown` stands in the list itself; an error when it does and its time is not now.
    fn lists(&self, shown: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
        if !self.listed.iter().any(|listed| listed == shown) {
            return Ok(false);
        }
        let (_, parsed) = X509Certificate::from_der(shown).map_err(|_| CertificateError::BadEncoding)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < parsed.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if seconds > parsed.validity().not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        Ok(true)
    }

    /// What both ends check of a peer that does not stand in the list itself, before its chain.
    fn check_stranger(&self, shown: &CertificateDer<'_>, between: &[CertificateDer<'_>]) -> Result<(), Error> {
        let (_, parsed) = X509Certificate::from_der(shown).map_err(|_| CertificateError::BadEncoding)?;
        // It has signed itself, or would pass for others: the check of chains would only say that this is no way to use it.
        if parsed.is_ca() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        self.check_depth(between)
    }

    /// Refuses a peer that shows more certificates between its own and the list than allowed.
    fn check_depth(&self, between: &[CertificateDer<'_>]) -> Result<(), Error> {
        let shown = between.iter().filter(|certificate| !self.listed.contains(certificate)).count();
        if shown <= self.depth {
            return Ok(());
        }
        let error = TlsError(format!(
            "it shows {shown} certificates between its own and the CA list, `transport.socket.ssl-cert-depth` allows {}",
            self.depth
        ));
        Err(CertificateError::Other(OtherError(Arc::new(error))).into())
    }
}

/// Checks clients.
#[derive(Debug)]
pub(super) struct Clients {
    trust: Trust,
    chains: Arc<dyn ClientCertVerifier>,
    required: bool,
}

impl Clients {
    pub(super) fn new(trust: Trust, provider: &Arc<CryptoProvider>, required: bool) -> Result<Clients, TlsError> {
        let chains = WebPkiClientVerifier::builder_with_provider(trust.roots.clone(), provider.clone()).build();
        let chains = chains.map_err(|error| TlsError(format!("the CA list cannot be used: {error}")))?;
        Ok(Clients { trust, chains, required })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.trust.lists(end_entity, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        self.trust.check_stranger(end_entity, intermediates)?;
        self.chains.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Checks bricks.
#[derive(Debug)]
pub(super) struct Servers {
    trust: Trust,
    verify_host: bool,
}

impl Servers {
    pub(super) fn new(trust: Trust, verify_host: bool) -> Servers {
        Servers { trust, verify_host }
    }

    fn check_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.trust.lists(end_entity, now)? {
            return Ok(());
        }
        self.trust.check_stranger(end_entity, intermediates)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let Trust { roots, algorithms, .. } = &self.trust;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms.all)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_chain(end_entity, intermediates, now)?;
        if self.verify_host && !name::is_for_by_common_name(end_entity, &host.to_str()) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

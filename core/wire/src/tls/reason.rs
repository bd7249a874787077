//! Why an encrypted connection came to nothing, in words that say what to do.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};
use x509_parser::time::ASN1Time;

/// What TLS has against the peer, or the peer against us, when that is why `error` came up.
#[must_use]
pub fn reason(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match inner {
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        Error::NoCertificatesPresented => {
            "the peer shows no certificate, and `transport.socket.ssl-require-client-cert` is on".to_owned()
        }
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => {
            "what the peer says is not TLS; is `transport.socket.ssl-enabled` on there?".to_owned()
        }
        Error::PeerIncompatible(why) => {
            format!("there is no common way to encrypt: {why:?}; TLS 1.2 and 1.3 are spoken")
        }
        other => format!("TLS: {other}"),
    })
}

/// As [`reason`], and for all else that ends a handshake.
pub(super) fn of_handshake(error: &io::Error) -> String {
    reason(error).unwrap_or_else(|| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the peer has ended the connection during the TLS handshake; is `transport.socket.ssl-enabled` on there?"
                .to_owned()
        }
        _ => format!("the connection broke during the TLS handshake: {error}"),
    })
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate of the peer is signed by nobody in the file of `transport.socket.ssl-ca-list`".to_owned()
        }
        CertificateError::Expired => "the certificate of the peer has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate of the peer has expired on {}", day(*not_after))
        }
        CertificateError::NotValidYet => {
            "the certificate of the peer is not valid yet; are the clocks right?".to_owned()
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate of the peer is not valid before {}; are the clocks right?", day(*not_before))
        }
        CertificateError::NotValidForName => "the certificate of the peer is for another host".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the certificate of the peer is not for `{}`, only for {}",
            expected.to_str(),
            if presented.is_empty() { "its common name".to_owned() } else { presented.join(", ") }
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate of the peer is not for this end of a connection (extended key usage)".to_owned()
        }
        CertificateError::Other(error) => format!("the certificate of the peer is refused: {}", error.0),
        other => format!("the certificate of the peer is refused: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "the peer does not believe our certificate: nobody in its `transport.socket.ssl-ca-list` has signed it"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "the peer refuses our certificate: its time is not now; see `transport.socket.ssl-own-cert`".to_owned()
        }
        AlertDescription::CertificateRequired => {
            "the peer wants a certificate; `transport.socket.ssl-own-cert` and `-private-key` name one".to_owned()
        }
        other => format!("the peer refuses the connection: TLS alert {other:?}"),
    }
}

/// The date and time of `when`.
fn day(when: UnixTime) -> String {
    let seconds = i64::try_from(when.as_secs()).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

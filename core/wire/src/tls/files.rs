//! The files of certificates and keys.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

use super::{OWN_CERTIFICATE, PRIVATE_KEY, TlsError, TlsOptions};

/// The certificate of this end and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) paths: Paths,
}

/// Where an identity comes from.
pub(super) struct Paths {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// Reads certificate and key.
    pub(super) fn load(options: &TlsOptions) -> Result<Identity, TlsError> {
        let paths = Paths::of(options);
        let chain = certificates(&paths.certificate, "transport.socket.ssl-own-cert")?;
        let key = private_key(&paths.key)?;
        Ok(Identity { chain, key, paths })
    }

    /// As [`Identity::load`]; none when nobody has named a file and GlusterFS's certificate is not there.
    pub(super) fn load_if_there(options: &TlsOptions) -> Result<Option<Identity>, TlsError> {
        let named = options.own_certificate.is_some() || options.private_key.is_some();
        let is_there = named || Path::new(OWN_CERTIFICATE).try_exists().unwrap_or(true);
        is_there.then(|| Identity::load(options)).transpose()
    }
}

impl Paths {
    fn of(options: &TlsOptions) -> Paths {
        let certificate = options.own_certificate.as_ref().map_or(Path::new(OWN_CERTIFICATE), |path| &path.0);
        let key = options.private_key.as_ref().map_or(Path::new(PRIVATE_KEY), |path| &path.0);
        Paths { certificate: certificate.to_owned(), key: key.to_owned() }
    }

    /// Says what `error` has against the pair.
    pub(super) fn refused(&self, error: &rustls::Error) -> TlsError {
        let Paths { certificate, key } = self;
        let (certificate, key) = (certificate.display(), key.display());
        TlsError(match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in `{key}` is not that of the certificate in `{certificate}`")
            }
            other => format!(
                "the certificate in `{certificate}` with the key in `{key}` cannot be used: {other}; \
                 RSA from 2048 bits, ECDSA P-256 or P-384 and Ed25519 can"
            ),
        })
    }
}

/// The certificates in `path`, which `option` names: at least one.
pub(super) fn certificates(path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = read.map_err(|error| unreadable(path, option, &error))?;
    if all.is_empty() {
        return Err(TlsError(format!("`{}` has no certificate; `{option}` names a PEM file", path.display())));
    }
    Ok(all)
}

/// The first private key in `path`.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const OPTION: &str = "transport.socket.ssl-private-key";
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError(format!(
            "`{}` has no private key; `{OPTION}` names a PEM file with a key that has no passphrase",
            path.display()
        )),
        other => unreadable(path, OPTION, &other),
    })?;
    match std::fs::metadata(path) {
        Ok(found) if is_open_to_others(found.permissions().mode()) => {
            warn!(path = %path.display(), "the private key is open to other users of this machine; `chmod 600` closes it");
        }
        Ok(_) => {}
        Err(error) => warn!(path = %path.display(), %error, "who can read the private key is not known"),
    }
    Ok(key)
}

/// Whether a file of `mode` can be read or changed by others than its owner and group.
fn is_open_to_others(mode: u32) -> bool {
    mode & 0o006 != 0
}

fn unreadable(path: &Path, option: &str, error: &pem::Error) -> TlsError {
    let shown = path.display();
    TlsError(match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("`{shown}` is not there; `{option}` names the file")
        }
        pem::Error::Io(error) => format!("`{shown}` (`{option}`) cannot be read: {error}"),
        other => format!("`{shown}` (`{option}`) is not a PEM file: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_open_when_anyone_can_read_or_change_it() {
        assert!(is_open_to_others(0o100_644) && is_open_to_others(0o100_602));
        assert!(!is_open_to_others(0o100_600) && !is_open_to_others(0o100_640));
    }
}

//! Who a certificate says it is for.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The common name of a certificate: the identity of the peer that has shown it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommonName(String);

impl CommonName {
    /// `name`, as it stands in an option.
    #[must_use]
    pub fn new(name: &str) -> CommonName {
        CommonName(name.to_owned())
    }

    /// The common name in `certificate`.
    ///
    /// `None` when there is none, when there are several (whom it is for would depend on who reads it), or when it is
    /// empty or has control characters.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<CommonName> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut names = certificate.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?;
        let is_usable = names.next().is_none() && !name.is_empty() && !name.chars().any(char::is_control);
        is_usable.then(|| CommonName(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `certificate`, which has no alternative names, is for `host` by its common name.
pub(super) fn is_for_by_common_name(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    matches!(parsed.subject_alternative_name(), Ok(None))
        && CommonName::of(certificate).is_some_and(|name| name.0.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn certificate(names: &[&str], alternatives: &[&str]) -> CertificateDer<'static> {
        let alternatives: Vec<String> = alternatives.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (index, name) in names.iter().enumerate() {
            // rcgen keeps one value of a type: the second goes under the type's number.
            let kind = if index == 0 { DnType::CommonName } else { DnType::CustomDnType(vec![2, 5, 4, 3]) };
            params.distinguished_name.push(kind, *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_one_common_name_is_the_identity() {
        assert_eq!(CommonName::of(&certificate(&["brick-1"], &[])), Some(CommonName::new("brick-1")));
    }

    #[test]
    fn no_name_several_or_an_unprintable_one_are_none() {
        assert_eq!(CommonName::of(&certificate(&[], &["brick-1"])), None);
        assert_eq!(CommonName::of(&certificate(&["brick-1", "root"], &[])), None);
        assert_eq!(CommonName::of(&certificate(&[""], &[])), None);
        assert_eq!(CommonName::of(&certificate(&["brick\n1"], &[])), None);
        assert_eq!(CommonName::of(&CertificateDer::from(vec![0x30, 0x80])), None);
    }

    #[test]
    fn a_common_name_counts_for_a_host_only_without_alternative_names() {
        assert!(is_for_by_common_name(&certificate(&["Brick-1"], &[]), "brick-1"));
        assert!(!is_for_by_common_name(&certificate(&["brick-2"], &[]), "brick-1"));
        assert!(!is_for_by_common_name(&certificate(&["brick-1"], &["other"]), "brick-1"));
    }
}

//! Users and their passwords, and the names of certificates.

use std::collections::BTreeMap;
use std::fmt;

use brickwork_api::options::{OptionError, OptionMap, OptionValue};

/// Names separated by commas: of users, of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names(pub(super) Vec<String>);

impl OptionValue for Names {
    const VALUES: &'static str = "names, separated by commas";

    fn parse(text: &str) -> Result<Names, String> {
        let names: Vec<String> =
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() { Err("names nobody".to_owned()) } else { Ok(Names(names)) }
    }
}

/// A password: what holds one never shows it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl OptionValue for Password {
    const VALUES: &'static str = "text";

    fn parse(text: &str) -> Result<Password, String> {
        if text.is_empty() { Err("is empty: everyone would know it".to_owned()) } else { Ok(Password(text.to_owned())) }
    }
}

impl Password {
    /// The text, to check a proof with.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// The users of a subvolume.
pub(super) type Users = BTreeMap<String, Password>;

/// Reads the passwords of `names`.
///
/// # Errors
/// A password that is none, or that is missing.
pub(super) fn users(names: &Names, options: &OptionMap) -> Result<Users, Vec<OptionError>> {
    let (mut users, mut errors) = (Users::new(), Vec::new());
    for name in &names.0 {
        let key = format!("auth.login.{name}.password");
        match options.get(&key).map(Password::parse) {
            Some(Ok(password)) => drop(users.insert(name.clone(), password)),
            Some(Err(reason)) => errors.push(OptionError { key, reason: format!("the value {reason}") }),
            None => errors.push(OptionError { key, reason: format!("is required, since user `{name}` is let in") }),
        }
    }
    if errors.is_empty() { Ok(users) } else { Err(errors) }
}

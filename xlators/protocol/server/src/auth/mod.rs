//! Who may have a subvolume: by address, by certificate, by user and password. The options are GlusterFS's.
//!
//! Pure: what it needs to know is in its arguments.
//!
//! Each of the three ways accepts, rejects, or does not care. One that rejects decides; else one must accept.
//!
//! | way | accepts | rejects | does not care |
//! | --- | --- | --- | --- |
//! | address | those in `auth.addr.S.allow` | those in `auth.addr.S.reject` | everyone else |
//! | certificate | names in `auth.login.S.ssl-allow` or `auth.ssl-allow` (`*`: all) | where there is an `ssl-allow`: everyone else, also without a certificate | where there is none |
//! | login | a user in `auth.login.S.allow` with its password | every other login | without a login, or where there is no `auth.login.S.allow` |
//!
//! So a subvolume without any of these options has nobody. All that is what GlusterFS 10.3 does when tried (it has no
//! `auth.ssl-allow` in a brick's volfile), but for one thing: a user that does not exist is rejected like a wrong
//! password, in the same words and after the same work. GlusterFS does not care about it, which tells strangers who
//! exists.

mod addresses;
mod users;

use std::fmt;
use std::net::IpAddr;

use brickwork_api::options::{OptionError, OptionMap, OptionSpec, OptionValue};
use brickwork_wire::login::{Claim, Nonces, is_proof};
use brickwork_wire::tls::CommonName;

use addresses::Addresses;
use users::{Names, Password, Users};

/// The table of the options; `*` stands for a subvolume, before `password` for a user.
pub(crate) const SPECS: &[OptionSpec] = &[
    OptionSpec::of::<Addresses>(
        "auth.addr.*.allow",
        "The addresses that may have this subvolume. A peer on a unix socket counts as `127.0.0.1` and as `::1`. \
         With `!` before it an entry takes addresses out of the list.",
    )
    .live(),
    OptionSpec::of::<Addresses>(
        "auth.addr.*.reject",
        "The addresses that may not have this subvolume, whatever else speaks for them.",
    )
    .live(),
    OptionSpec::of::<Names>(
        "auth.login.*.allow",
        "The users that may have this subvolume. Each proves its password, which does not travel.",
    )
    .live(),
    OptionSpec::of::<Password>("auth.login.*.password", "The password of this user.").secret().live(),
    OptionSpec::of::<Names>(
        "auth.login.*.ssl-allow",
        "The common names of the certificates that may have this subvolume; `*` is every certificate that the CA list \
         believes. Who shows another one, or none, may not.",
    )
    .live(),
    OptionSpec::of::<Names>("auth.ssl-allow", "As `auth.login.*.ssl-allow`, for every subvolume.").live(),
];

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerAddr {
    /// On a network.
    Ip(IpAddr),
    /// On this machine, at a unix socket.
    Unix,
}

/// Who is at the other end of a connection, as far as nobody can lie about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) addr: PeerAddr,
    /// The common name of the certificate that it has shown, which was checked.
    pub(crate) certificate: Option<CommonName>,
}

impl Peer {
    /// One that has shown no certificate.
    pub(crate) fn at(addr: PeerAddr) -> Peer {
        Peer { addr, certificate: None }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Ip(address) => address.to_canonical().fmt(f),
            PeerAddr::Unix => f.write_str("unix socket"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.certificate {
            Some(name) => write!(f, "{} (certificate `{name}`)", self.addr),
            None => self.addr.fmt(f),
        }
    }
}

/// What a peer says of itself, with its proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    /// The user.
    pub(crate) user: &'a str,
    /// The proof of its password.
    pub(crate) proof: &'a [u8; 32],
}

/// Why a peer may not have a subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the log: which rule, and what it looked at. No password.
    pub(crate) log: String,
    /// For the peer: nothing about what the rules say, nor about who exists.
    pub(crate) told: String,
}

/// The rules of one subvolume.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    subvolume: String,
    allow: Option<Addresses>,
    reject: Option<Addresses>,
    certificates: Option<Names>,
    users: Option<Users>,
}

/// What one way says.
enum Verdict {
    Accept,
    Reject(Refusal),
    /// And why it did not accept, when there is something to say.
    DoesNotCare(Option<String>),
}

impl Auth {
    /// Reads the rules of `subvolume`.
    ///
    /// # Errors
    /// All that is wrong with them; no password stands in it.
    pub(crate) fn from_options(subvolume: &str, options: &OptionMap) -> Result<Auth, Vec<OptionError>> {
        let mut errors = Vec::new();
        let encrypted = options.get("transport.socket.ssl-enabled").is_some_and(|text| bool::parse(text) == Ok(true));
        let allow = given(options, format!("auth.addr.{subvolume}.allow"), &mut errors);
        let reject = given(options, format!("auth.addr.{subvolume}.reject"), &mut errors);
        let mut certificates: Option<Names> = None;
        for key in [format!("auth.login.{subvolume}.ssl-allow"), "auth.ssl-allow".to_owned()] {
            let Some(names) = given::<Names>(options, key.clone(), &mut errors) else { continue };
            if !encrypted {
                let reason =
                    "needs `transport.socket.ssl-enabled on`: nobody shows a certificate without it".to_owned();
                errors.push(OptionError { key, reason });
            }
            certificates.get_or_insert(Names(Vec::new())).0.extend(names.0);
        }
        let names = given::<Names>(options, format!("auth.login.{subvolume}.allow"), &mut errors);
        let users =
            names.and_then(|names| users::users(&names, options).map_err(|refused| errors.extend(refused)).ok());
        let auth = Auth { subvolume: subvolume.to_owned(), allow, reject, certificates, users };
        if errors.is_empty() { Ok(auth) } else { Err(errors) }
    }

    /// Whether there is anybody who may have it: with no option that lets anyone in, there is not.
    pub(crate) fn has_anybody(&self) -> bool {
        self.allow.is_some() || self.certificates.is_some() || self.users.is_some()
    }

    /// Whether `peer` may have the subvolume without a login: by its address or its certificate.
    pub(crate) fn admits_address(&self, peer: &Peer) -> bool {
        let verdicts = [self.by_address(peer), self.by_certificate(peer)];
        !verdicts.iter().any(|verdict| matches!(verdict, Verdict::Reject(_)))
            && verdicts.iter().any(|verdict| matches!(verdict, Verdict::Accept))
    }

    /// Decides whether `peer` may have the subvolume; its `login`, if any, was proven with `nonces`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn judge(&self, peer: &Peer, login: Option<Login<'_>>, nonces: &Nonces) -> Result<(), Refusal> {
        let mut is_accepted = false;
        let mut reasons = Vec::new();
        for verdict in [self.by_address(peer), self.by_certificate(peer), self.by_login(login, nonces)] {
            match verdict {
                Verdict::Accept => is_accepted = true,
                Verdict::Reject(refusal) => return Err(refusal),
                Verdict::DoesNotCare(reason) => reasons.extend(reason),
            }
        }
        if is_accepted {
            return Ok(());
        }
        if !self.has_anybody() {
            let name = &self.subvolume;
            reasons.push(format!("no option lets anyone have `{name}`; `auth.addr.{name}.allow` is the simplest"));
        }
        Err(Refusal { log: reasons.join("; "), told: format!("this client may not have `{}`", self.subvolume) })
    }

    fn by_address(&self, peer: &Peer) -> Verdict {
        let is_in = |list: &Addresses| match peer.addr {
            PeerAddr::Ip(address) => list.has(address),
            PeerAddr::Unix => list.has_local(),
        };
        if let Some(list) = self.reject.as_ref().filter(|list| is_in(list)) {
            return Verdict::Reject(Refusal {
                log: format!("{} is in `auth.addr.{}.reject` (`{}`)", peer.addr, self.subvolume, list.text()),
                told: format!("this address may not have `{}`", self.subvolume),
            });
        }
        match &self.allow {
            Some(list) if is_in(list) => Verdict::Accept,
            Some(list) => Verdict::DoesNotCare(Some(format!(
                "{} is not in `auth.addr.{}.allow` (`{}`)",
                peer.addr,
                self.subvolume,
                list.text()
            ))),
            None => Verdict::DoesNotCare(None),
        }
    }

    fn by_certificate(&self, peer: &Peer) -> Verdict {
        let shown = peer.certificate.as_ref().map(CommonName::as_str);
        let Some(names) = &self.certificates else { return Verdict::DoesNotCare(None) };
        let is_listed = |name: &str| names.0.iter().any(|listed| listed == "*" || listed == name);
        if shown.is_some_and(is_listed) {
            return Verdict::Accept;
        }
        let subvolume = &self.subvolume;
        Verdict::Reject(match shown {
            Some(name) => Refusal {
                log: format!("certificate `{name}` is not in the `ssl-allow` of `{subvolume}`"),
                told: format!("this certificate may not have `{subvolume}`"),
            },
            None => Refusal {
                log: format!("it shows no certificate with a name, and `{subvolume}` has an `ssl-allow`"),
                told: format!("`{subvolume}` is for clients with a certificate"),
            },
        })
    }

    fn by_login(&self, login: Option<Login<'_>>, nonces: &Nonces) -> Verdict {
        let subvolume = &self.subvolume;
        let (Some(users), Some(login)) = (&self.users, login) else {
            let why = match (&self.users, login) {
                (Some(_), None) => Some(format!("it shows no login for `auth.login.{subvolume}.allow`")),
                (None, Some(_)) => Some(format!("its login counts for nothing without `auth.login.{subvolume}.allow`")),
                _ => None,
            };
            return Verdict::DoesNotCare(why);
        };
        let password = users.get(login.user);
        // The same work for a user that is not there: how long an answer takes does not tell who is.
        let text = password.map_or("", Password::text);
        let is_proven = is_proof(login.proof, text, nonces, &Claim { user: login.user, subvolume });
        let why = match password {
            Some(_) if is_proven => return Verdict::Accept,
            Some(_) => "has another password",
            None => "is not in it",
        };
        Verdict::Reject(Refusal {
            log: format!("by `auth.login.{subvolume}.allow` user `{}` {why}", for_people(login.user)),
            told: "the login is not accepted".to_owned(),
        })
    }
}

/// The value of `key`, if it is given and right.
fn given<T: OptionValue>(options: &OptionMap, key: String, errors: &mut Vec<OptionError>) -> Option<T> {
    let text = options.get(&key)?;
    T::parse(text).map_err(|reason| errors.push(OptionError { key, reason: format!("`{text}` {reason}") })).ok()
}

/// The options that name none of `subvolumes` nor a user of theirs: most likely a mistake, each as a sentence for the log.
pub(crate) fn strays(subvolumes: &[&str], options: &OptionMap) -> Vec<String> {
    let between = |key: &'_ str, spec: &OptionSpec| -> Option<String> {
        let (head, tail) = spec.key.split_once('*')?;
        spec.matches(key).then(|| key[head.len()..key.len() - tail.len()].to_owned())
    };
    let users: Vec<String> = subvolumes
        .iter()
        .filter_map(|name| Names::parse(options.get(&format!("auth.login.{name}.allow"))?).ok())
        .flat_map(|names| names.0)
        .collect();
    let mut strays = Vec::new();
    for (key, _) in options.iter() {
        let Some((spec, name)) = SPECS.iter().find_map(|spec| Some((spec, between(key, spec)?))) else { continue };
        if spec.secret {
            if !users.contains(&name) {
                strays.push(format!("`{key}` is read by nobody: user `{name}` is in no `auth.login.*.allow`"));
            }
        } else if !subvolumes.contains(&name.as_str()) {
            strays.push(format!("`{key}` is read by nobody: no subvolume is called `{name}`"));
        }
    }
    strays
}

/// A name that a stranger has sent, for a line of the log.
fn for_people(name: &str) -> String {
    const SHOWN_MAX: usize = 64;
    let mut shown: String = name.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;

//! The proof that a client knows the password of a user, without the password on the wire.
//!
//! The proof holds for one connection, one user and one subvolume: each end puts 32 fresh random bytes into it, and
//! neither can choose those of the other. It does not hide from someone who can change what travels that a login takes
//! place, and it does not bind what follows: that is the part of TLS.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What goes before everything else, so that a proof means nothing in another place.
const LABEL: &[u8] = b"brickwork login 1";

/// What both ends have thrown in: of `Welcome` and of `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces {
    /// That of the brick.
    pub server: [u8; 32],
    /// That of the client.
    pub client: [u8; 32],
}

/// Who wants to go where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The user.
    pub user: &'a str,
    /// The subvolume of the brick.
    pub subvolume: &'a str,
}

/// Proves that who makes it knows `password`: HMAC-SHA256 with the password as the key.
#[must_use]
pub fn proof(password: &str, nonces: &Nonces, claim: &Claim) -> [u8; 32] {
    mac(password, nonces, claim).finalize().into_bytes().into()
}

/// Whether `shown` proves `password`; takes as long for every wrong proof.
#[must_use]
pub fn is_proof(shown: &[u8; 32], password: &str, nonces: &Nonces, claim: &Claim) -> bool {
    mac(password, nonces, claim).verify_slice(shown).is_ok()
}

fn mac(password: &str, nonces: &Nonces, claim: &Claim) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(password.as_bytes()).expect("a key of HMAC may have any length");
    mac.update(LABEL);
    mac.update(&nonces.server);
    mac.update(&nonces.client);
    // With its length: the end of a user is never taken for the beginning of a subvolume.
    mac.update(&(claim.user.len() as u64).to_le_bytes());
    mac.update(claim.user.as_bytes());
    mac.update(claim.subvolume.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCES: Nonces = Nonces { server: [1; 32], client: [2; 32] };
    const CLAIM: Claim = Claim { user: "anna", subvolume: "/bricks/b" };

    #[test]
    fn the_right_password_is_proven_and_no_other() {
        let shown = proof("secret", &NONCES, &CLAIM);
        assert!(is_proof(&shown, "secret", &NONCES, &CLAIM));
        assert!(!is_proof(&shown, "secreT", &NONCES, &CLAIM));
        assert!(!is_proof(&shown, "", &NONCES, &CLAIM));
        assert!(!is_proof(&[0; 32], "secret", &NONCES, &CLAIM));
    }

    #[test]
    fn a_proof_holds_for_no_other_connection_user_or_subvolume() {
        let shown = proof("secret", &NONCES, &CLAIM);
        let holds = |nonces: Nonces, claim: Claim| is_proof(&shown, "secret", &nonces, &claim);
        assert!(!holds(Nonces { server: [3; 32], ..NONCES }, CLAIM));
        assert!(!holds(Nonces { client: [3; 32], ..NONCES }, CLAIM));
        assert!(!holds(Nonces { server: NONCES.client, client: NONCES.server }, CLAIM));
        assert!(!holds(NONCES, Claim { user: "bert", ..CLAIM }));
        assert!(!holds(NONCES, Claim { subvolume: "/bricks/c", ..CLAIM }));
        assert!(!holds(NONCES, Claim { user: "anna/bricks", subvolume: "/b" }));
    }

    #[test]
    fn the_proof_is_the_one_that_other_versions_make() {
        // With Python: hmac.new(b"secret", LABEL + server + client + len(user) as u64 LE + user + subvolume, "sha256").
        let hex: String = proof("secret", &NONCES, &CLAIM).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c88019017b4b19b2d292d0ee1391f33a325c22fac67079303fa718da3990ad27");
    }
}

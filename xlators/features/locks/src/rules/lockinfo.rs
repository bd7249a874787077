//! The value of `trusted.glusterfs.lockinfo`: which open of which client holds locks, as this brick vouches for it.
//!
//! A client reads it through one graph and shows it through another, so that the locks follow the open. Nobody else can make
//! one: it carries an HMAC under a key that only the volume's bricks know, and it names the client that it was given to.

use brickwork_api::{ClientId, Errno, Gfid, OpenId};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What goes before everything else, so that a code means nothing in another place.
const LABEL: &[u8] = b"brickwork lockinfo 1";
/// Bytes of the code at the end of a value.
const CODE_BYTES: usize = 32;

/// Which locks a value speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockinfo {
    /// Who was given it.
    pub client: ClientId,
    /// The object.
    pub gfid: Gfid,
    /// The open through which the locks were taken.
    pub open: OpenId,
    /// How many there were; another number when it is shown is no error, since the locks themselves decide.
    pub count: u32,
}

/// Bytes of a value: client, gfid, open, count, code.
pub const LOCKINFO_BYTES: usize = 16 + 16 + 8 + 4 + CODE_BYTES;

/// The secret of a volume under which its bricks vouch.
#[derive(Clone)]
pub struct LockinfoKey([u8; 32]);

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockinfoRefused {
    /// It is none, whoever shows it.
    Malformed,
    /// No brick of this volume has made it.
    Forged,
    /// It was given to another client.
    Foreign,
    /// It speaks of another object.
    OtherObject,
}

impl LockinfoRefused {
    /// What the caller is answered.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            LockinfoRefused::Malformed => Errno::EINVAL,
            LockinfoRefused::Forged | LockinfoRefused::Foreign | LockinfoRefused::OtherObject => Errno::EACCES,
        }
    }

    /// For logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LockinfoRefused::Malformed => "no lockinfo of ours",
            LockinfoRefused::Forged => "not made by a brick of this volume",
            LockinfoRefused::Foreign => "given to another client",
            LockinfoRefused::OtherObject => "of another object",
        }
    }
}

impl LockinfoKey {
    /// Keeps the secret.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> LockinfoKey {
        LockinfoKey(secret)
    }

    /// The value that says `info`, of [`LOCKINFO_BYTES`].
    #[must_use]
    pub fn seal(&self, info: &Lockinfo) -> Vec<u8> {
        let mut value = brickwork_codec::encode(info);
        let code = self.code(&value).finalize().into_bytes();
        value.extend_from_slice(&code);
        value
    }

    /// What `value` says, when `client` shows it for `gfid`. Takes as long for every wrong code.
    ///
    /// # Errors
    /// See [`LockinfoRefused`]; only a value with the right code tells whose it is.
    pub fn open(&self, value: &[u8], client: ClientId, gfid: Gfid) -> Result<Lockinfo, LockinfoRefused> {
        if value.len() != LOCKINFO_BYTES {
            return Err(LockinfoRefused::Malformed);
        }
        let (content, code) = value.split_at(LOCKINFO_BYTES - CODE_BYTES);
        self.code(content).verify_slice(code).map_err(|_| LockinfoRefused::Forged)?;
        let info: Lockinfo = brickwork_codec::decode(content).map_err(|_| LockinfoRefused::Malformed)?;
        if info.client != client {
            return Err(LockinfoRefused::Foreign);
        }
        if info.gfid != gfid {
            return Err(LockinfoRefused::OtherObject);
        }
        Ok(info)
    }

    fn code(&self, content: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of HMAC may have any length");
        mac.update(LABEL);
        mac.update(content);
        mac
    }
}

impl std::fmt::Debug for LockinfoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockinfoKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: ClientId = ClientId(7);
    const GFID: Gfid = Gfid::from_bytes([3; 16]);
    const INFO: Lockinfo = Lockinfo { client: CLIENT, gfid: GFID, open: OpenId(42), count: 5 };

    fn key() -> LockinfoKey {
        LockinfoKey::new([9; 32])
    }

    #[test]
    fn the_client_that_was_given_it_is_believed() {
        let value = key().seal(&INFO);
        assert_eq!(value.len(), LOCKINFO_BYTES);
        assert_eq!(key().open(&value, CLIENT, GFID), Ok(INFO));
    }

    #[test]
    fn another_client_is_refused_whatever_it_has_seen() {
        let refused = key().open(&key().seal(&INFO), ClientId(8), GFID);
        assert_eq!(refused, Err(LockinfoRefused::Foreign));
        assert_eq!(LockinfoRefused::Foreign.errno(), Errno::EACCES);
    }

    #[test]
    fn another_object_is_refused() {
        let refused = key().open(&key().seal(&INFO), CLIENT, Gfid::ROOT);
        assert_eq!(refused, Err(LockinfoRefused::OtherObject));
        assert_eq!(LockinfoRefused::OtherObject.errno(), Errno::EACCES);
    }

    #[test]
    fn a_value_of_another_volume_is_refused() {
        let other = LockinfoKey::new([8; 32]).seal(&INFO);
        assert_eq!(key().open(&other, CLIENT, GFID), Err(LockinfoRefused::Forged));
        assert_eq!(LockinfoRefused::Forged.errno(), Errno::EACCES);
    }

    #[test]
    fn each_changed_bit_is_noticed() {
        let value = key().seal(&INFO);
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open(&changed, CLIENT, GFID), Err(LockinfoRefused::Forged), "bit {bit}");
        }
    }

    #[test]
    fn what_is_too_short_too_long_or_of_glusterfs_is_malformed() {
        let value = key().seal(&INFO);
        let longer = [&value[..], &[0]].concat();
        let of_glusterfs = b"\0\0\0\x01\0\0\0\x18\0\0\0\x10<POSIX(/bricks/b2):vm\x00140156392711224\0";
        for garbage in [&[][..], &value[..value.len() - 1], &longer, of_glusterfs, &[0; 1 << 20]] {
            assert_eq!(key().open(garbage, CLIENT, GFID), Err(LockinfoRefused::Malformed));
        }
        assert_eq!(LockinfoRefused::Malformed.errno(), Errno::EINVAL);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", key()), "LockinfoKey(..)");
    }

    #[test]
    fn the_value_is_the_one_that_other_versions_make() {
        // With Python: body = client as 16 bytes LE + gfid as 16 bytes LE + open as u64 LE + count as u32 LE;
        // body + hmac.new(bytes([9] * 32), LABEL + body, "sha256").
        let hex: String = key().seal(&INFO).iter().map(|byte| format!("{byte:02x}")).collect();
        let body = "07000000000000000000000000000000030303030303030303030303030303032a0000000000000005000000";
        let code = "2632d1d309aaa4b973a19074f0ac45d2e7c920126c8164c59544ccf5a7c71581";
        assert_eq!(hex, [body, code].concat());
    }

    proptest! {
        #[test]
        fn nothing_that_was_not_sealed_opens(garbage in prop::collection::vec(any::<u8>(), 0..2 * LOCKINFO_BYTES)) {
            prop_assert!(key().open(&garbage, CLIENT, GFID).is_err());
        }
    }
}

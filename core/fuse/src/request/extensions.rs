//! The extensions at the end of MKNOD, MKDIR, SYMLINK, CREATE and TMPFILE.

use zerocopy::FromBytes;

use super::Fault;
use super::cursor::Cursor;
use crate::abi::{EXT_GROUPS, ExtHeader, MAX_NR_SECCTX, SecCtx, SuppGroups, record_align};

/// What the kernel says about the caller who makes a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions<'a> {
    groups: Option<&'a [u8]>,
    contexts: Option<SecurityContexts<'a>>,
}

impl<'a> Extensions<'a> {
    pub(super) fn decode(mut bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut extensions = Self::default();
        while !bytes.is_empty() {
            let (header, _) = ExtHeader::read_from_prefix(bytes).map_err(|_| Fault::Extension)?;
            let size = header.size as usize;
            let padded = record_align(size);
            if size < size_of::<ExtHeader>() || padded > bytes.len() {
                return Err(Fault::Extension);
            }
            let body = &bytes[size_of::<ExtHeader>()..size];
            match header.kind {
                0..=MAX_NR_SECCTX => extensions.contexts = Some(SecurityContexts::decode(body, header.kind)?),
                EXT_GROUPS => extensions.groups = Some(groups(body)?),
                // A newer kernel may say more; what it says is not needed to do what was asked.
                _ => {}
            }
            bytes = &bytes[padded..];
        }
        Ok(extensions)
    }

    /// The supplementary groups that matter here: the directory's, if the caller is in it.
    ///
    /// `None` when the kernel did not say (`CREATE_SUPP_GROUP` not granted, or no such group).
    pub fn groups(&self) -> Option<impl ExactSizeIterator<Item = u32> + use<'a>> {
        let (ids, _) = self.groups?.as_chunks::<4>();
        Some(ids.iter().map(|id| u32::from_ne_bytes(*id)))
    }

    /// The security contexts the file is to have, where `SECURITY_CTX` was granted.
    pub fn security_contexts(&self) -> Option<SecurityContexts<'a>> {
        self.contexts
    }
}

fn groups(body: &[u8]) -> Result<&[u8], Fault> {
    let (SuppGroups { nr_groups }, ids) = SuppGroups::read_from_prefix(body).map_err(|_| Fault::Extension)?;
    let length = (nr_groups as usize).checked_mul(4).ok_or(Fault::Extension)?;
    ids.get(..length).ok_or(Fault::Extension)
}

/// The security contexts of a file being made.
#[derive(Clone, Copy, Debug)]
pub struct SecurityContexts<'a>(&'a [u8]);

/// One security context: an extended attribute to set with the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SecurityContext<'a> {
    /// `security.selinux`, say.
    pub name: &'a [u8],
    /// The label.
    pub value: &'a [u8],
}

impl<'a> SecurityContexts<'a> {
    fn decode(body: &'a [u8], count: u32) -> Result<Self, Fault> {
        let mut rest = body;
        for _ in 0..count {
            (_, rest) = context(rest)?;
        }
        Ok(Self(&body[..body.len() - rest.len()]))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = SecurityContext<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (context, after) = context(rest).ok()?;
            rest = after;
            Some(context)
        })
    }
}

/// Splits one context, padding included, off `bytes`.
fn context(bytes: &[u8]) -> Result<(SecurityContext<'_>, &[u8]), Fault> {
    let mut cursor = Cursor::new(bytes);
    let SecCtx { size, .. } = cursor.fixed().map_err(|_| Fault::Extension)?;
    let name = cursor.text().map_err(|_| Fault::Extension)?;
    let value = cursor.bytes(size as usize).map_err(|_| Fault::Extension)?;
    let length = size_of::<SecCtx>() + name.len() + 1 + value.len();
    // The last one may lack its padding: the size of the whole extension leaves it out.
    let padded = record_align(length).min(bytes.len());
    Ok((SecurityContext { name, value }, &bytes[padded..]))
}

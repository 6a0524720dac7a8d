//! What stands in front of an rpm's header, and is no part of what names the package: the lead and the signature header.
//!
//! ```text
//! lead       96 bytes that only `file` still reads          ┐ the prefix
//! signature  a header: digests, sizes, perhaps a signature  ┘
//! header     what the package says of itself                ┐ the identity
//! payload    its files                                      ┘
//! ```

use super::header::{BIN, ENTRY, INTRO, MAGIC, STRING, be32, width};
use super::{LEAD, MAX_SIGNATURE};
use std::io::{self, Read, Seek, SeekFrom};
use twostage_model::{Class, Error, Hasher, Result, Sha256};

/// Tags of a signature header (`include/rpm/rpmtag.h`).
mod tag {
    /// The region that everything lies in.
    pub(super) const REGION: u32 = 62;
    /// A signature of the header by a DSA, ECDSA or EdDSA key.
    pub(super) const DSA: u32 = 267;
    /// A signature of the header by an RSA key.
    pub(super) const RSA: u32 = 268;
    /// The digest of the header.
    pub(super) const SHA256: u32 = 273;
    /// Signatures of the header in rpm 6's form: a list, in base64.
    pub(super) const OPENPGP: u32 = 278;
    /// A signature of header and payload by an RSA key, and by one of the others: PGP's and GnuPG's once.
    pub(super) const BOTH_RSA: u32 = 1002;
    pub(super) const BOTH: u32 = 1005;
    /// Those, then the ones over header and payload, and room for either.
    pub(super) const OTHERS: [u32; 6] = [OPENPGP, 999, BOTH_RSA, BOTH, 1006, 1008];
}

/// One value of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PrefixValue<'a> {
    tag: u32,
    kind: u32,
    count: u32,
    data: &'a [u8],
}

/// Signatures that are put into a prefix.
#[derive(Debug, Clone, Copy)]
pub struct Signatures<'a> {
    /// Over the header, as an OpenPGP packet.
    pub of_header: &'a [u8],
    /// Over header and payload together, for a package whose header has no digest of its payload.
    pub of_both: Option<&'a [u8]>,
    /// Whether the key is an RSA key; their signatures have tags of their own.
    pub is_rsa: bool,
}

/// Bytes of lead and signature header, padding included, from a file's first 112 bytes; nothing
/// when it is no rpm. <https://rpm-software-management.github.io/rpm/manual/format_v4.html>
pub fn length(start: &[u8]) -> Option<u64> {
    let intro = start.get(LEAD..LEAD + INTRO)?;
    if !intro.starts_with(&MAGIC) {
        return None;
    }
    let data = u64::from(be32(intro, 12));
    let length = (LEAD + INTRO) as u64 + u64::from(be32(intro, 8)) * ENTRY as u64 + data.next_multiple_of(8);
    Some(length).filter(|length| *length <= MAX_SIGNATURE)
}

/// The signatures over the header that a prefix has, as OpenPGP packets.
///
/// # Errors
/// The signature header cannot be read.
pub fn header_signatures(prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
    Ok(entries(prefix)?.iter().flat_map(over_header).collect())
}

/// The signatures over the header that are in one value of the signature header, as packets.
fn over_header(value: &PrefixValue<'_>) -> Vec<Vec<u8>> {
    match value.tag {
        tag::DSA | tag::RSA => vec![value.data.to_vec()],
        // Each string ends with a NUL, the last one too.
        tag::OPENPGP => {
            let strings = value.data.strip_suffix(b"\0").unwrap_or(value.data);
            strings.split(|byte| *byte == 0).map(super::signature::base64).collect()
        }
        _ => Vec::new(),
    }
}

/// The values of the signature header in a prefix. The package's reader has checked it, but the
/// bytes come from the disk again.
fn entries(prefix: &[u8]) -> Result<Vec<PrefixValue<'_>>> {
    let found = || -> Option<Vec<PrefixValue<'_>>> {
        let intro = prefix.get(LEAD..LEAD + INTRO).filter(|intro| intro.starts_with(&MAGIC))?;
        let (index, rest) = prefix.get(LEAD + INTRO..)?.split_at_checked((be32(intro, 8) as usize).checked_mul(ENTRY)?)?;
        let store = rest.get(..be32(intro, 12) as usize)?;
        let mut values = Vec::new();
        for raw in index.chunks_exact(ENTRY) {
            let (tag, kind, count) = (be32(raw, 0), be32(raw, 4), be32(raw, 12));
            let rest = store.get(be32(raw, 8) as usize..)?;
            let length = match kind {
                STRING | 8 | 9 => rest.iter().enumerate().filter(|(_, byte)| **byte == 0).nth((count as usize).checked_sub(1)?)?.0 + 1,
                _ => (count as usize).checked_mul(width(kind))?,
            };
            values.push(PrefixValue { tag, kind, count, data: rest.get(..length)? });
        }
        Some(values)
    };
    found().ok_or_else(|| Error::new(Class::Repository, "a stored rpm's signature header cannot be read").hint("publish the package again"))
}

/// A prefix with our signature of the header, and, where it needs one, of header and payload: lead, digests
/// and sizes as they were, earlier signatures and the room kept for them left out.
pub fn signed(prefix: &[u8], signatures: &Signatures<'_>, header_sha256: &Sha256) -> Result<Vec<u8>> {
    let mut values = entries(prefix)?;
    values.retain(|value| ![tag::REGION, tag::DSA, tag::RSA].contains(&value.tag) && !tag::OTHERS.contains(&value.tag));
    let digest = format!("{header_sha256}\0");
    if !values.iter().any(|value| value.tag == tag::SHA256) {
        values.push(PrefixValue { tag: tag::SHA256, kind: STRING, count: 1, data: digest.as_bytes() });
    }
    let (tag, both) = if signatures.is_rsa { (tag::RSA, tag::BOTH_RSA) } else { (tag::DSA, tag::BOTH) };
    for (tag, data) in [(tag, Some(signatures.of_header)), (both, signatures.of_both)] {
        values.extend(data.map(|data| PrefixValue { tag, kind: BIN, count: u32::try_from(data.len()).unwrap_or(u32::MAX), data }));
    }
    values.sort_by_key(|value| value.tag);
    let mut made = prefix[..LEAD].to_vec();
    made.extend(signature_header(&values));
    Ok(made)
}

/// An index and a store, as rpmbuild writes them: one region over all values, its trailer behind
/// them, padded to 8 bytes (`headerExport` in `lib/header.c`, `rpmWriteSignature` in `lib/signature.c`).
fn signature_header(values: &[PrefixValue<'_>]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for value in values {
        store.resize(store.len().next_multiple_of(width(value.kind)), 0);
        index.extend([value.tag, value.kind, number(store.len()), value.count]);
        store.extend_from_slice(value.data);
    }
    let covered = number((values.len() + 1) * ENTRY);
    let trailer_at = number(store.len());
    store.extend([tag::REGION, BIN, covered.wrapping_neg(), number(ENTRY)].iter().flat_map(|n| n.to_be_bytes()));
    let mut header = MAGIC.to_vec();
    let sizes = [number(values.len() + 1), number(store.len())];
    let region = [tag::REGION, BIN, trailer_at, number(ENTRY)];
    header.extend(sizes.iter().chain(&region).chain(&index).flat_map(|n| n.to_be_bytes()));
    header.extend_from_slice(&store);
    header.resize(header.len().next_multiple_of(8), 0);
    header
}

/// Hashes a stored file behind its prefix, when it is an rpm: what the pool knows it by.
pub fn identity(file: &mut (impl Read + Seek)) -> io::Result<Option<Sha256>> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take((LEAD + INTRO) as u64).read_to_end(&mut start)?;
    let Some(length) = length(&start) else { return Ok(None) };
    file.seek(SeekFrom::Start(length))?;
    let mut hasher = Hasher::default();
    io::copy(file, &mut hasher)?;
    Ok(Some(hasher.finish()))
}

/// [`identity`], and the digest of the whole file.
pub fn digests(file: &mut (impl Read + Seek)) -> io::Result<(Option<Sha256>, Sha256)> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take((LEAD + INTRO) as u64).read_to_end(&mut start)?;
    let prefix = length(&start);
    file.rewind()?;
    let (part, whole) = hashed(file, prefix.unwrap_or(0), prefix.is_some())?;
    Ok((prefix.map(|_| part), whole.unwrap_or(part)))
}

/// The digest of what follows the first `skip` bytes; and of all of it, where that is asked for.
pub fn hashed(mut input: impl Read, skip: u64, of_all: bool) -> io::Result<(Sha256, Option<Sha256>)> {
    let (mut part, mut whole) = (Hasher::default(), Hasher::default());
    let (mut buffer, mut left) = (vec![0; 256 << 10], skip);
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(read);
        part.update(bytes.get(skipped..).unwrap_or_default());
        if of_all {
            whole.update(bytes);
        }
        left -= skipped as u64;
    }
    Ok((part.finish(), of_all.then(|| whole.finish())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(of_both: Option<&'static [u8]>, is_rsa: bool) -> Signatures<'static> {
        Signatures { of_header: b"new", of_both, is_rsa }
    }

    #[test]
    fn a_prefix_keeps_its_digests_and_loses_its_signatures() {
        let sha1 = PrefixValue { tag: 269, kind: STRING, count: 1, data: b"abc\0" };
        let old = PrefixValue { tag: 1002, kind: BIN, count: 3, data: b"old" };
        let size = PrefixValue { tag: 1000, kind: 4, count: 1, data: &[0, 0, 1, 2] };
        let mut prefix = vec![7; LEAD];
        prefix.extend(signature_header(&[sha1, size, old]));
        assert_eq!(length(&prefix), Some(prefix.len() as u64));
        let digest = Sha256::of(b"header");
        let made = signed(&prefix, &ours(None, true), &digest).unwrap_or_default();
        assert_eq!(length(&made), Some(made.len() as u64));
        let values = entries(&made).unwrap_or_default();
        let text = format!("{digest}\0");
        assert_eq!(values.iter().map(|value| value.tag).collect::<Vec<_>>(), [62, 268, 269, 273, 1000]);
        assert_eq!(values[1].data, b"new");
        assert_eq!((values[2], values[4]), (sha1, size));
        assert_eq!(values[3].data, text.as_bytes());
        assert_eq!(signed(&made, &ours(None, true), &digest).ok(), Some(made.clone()), "signed twice, the same bytes");
        for (is_rsa, expected) in [(true, [62, 268, 269, 273, 1000, 1002]), (false, [62, 267, 269, 273, 1000, 1005])] {
            let both = signed(&made, &ours(Some(b"both"), is_rsa), &digest).unwrap_or_default();
            let tags = entries(&both).unwrap_or_default().iter().map(|value| value.tag).collect::<Vec<_>>();
            assert_eq!(tags, expected, "earlier ones went");
        }
    }

    #[test]
    fn a_prefix_that_is_cut_or_lies_is_refused() {
        let mut prefix = vec![7; LEAD];
        prefix.extend(signature_header(&[PrefixValue { tag: 269, kind: STRING, count: 1, data: b"abc\0" }]));
        for end in 0..prefix.len() - 4 {
            assert!(entries(&prefix[..end]).is_err(), "{end}");
        }
        for at in LEAD..LEAD + INTRO + 2 * ENTRY {
            let mut wrong = prefix.clone();
            wrong[at] = 0xff;
            let _ = (entries(&wrong), length(&wrong));
        }
    }
}

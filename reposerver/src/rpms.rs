//! Rpms as clients get them: the stored header and payload behind a signature header that may be
//! ours.
//!
//! ```text
//! lead       96 bytes that only `file` still reads          ┐ the prefix: not part of what
//! signature  a header: digests, sizes, perhaps a signature  ┘ names the package
//! header     what the package says of itself                ┐ the identity
//! payload    its files                                      ┘
//! ```
//!
//! A package that came signed is served as it came, and its key must be known (`keys/`). For one
//! that came without, a prefix with our signature is made once for every key and kept:
//!
//! ```text
//! keys/<fingerprint>.asc              the keys of those who signed packages before they came here
//! signed/<fingerprint>/ab/<identity>  a line, "<digest of the served file> <digest of the prefix> <digest
//!                                     of both>", then the prefix
//! ```
//!
//! Prefixes are derived: the same package and key give the same bytes, so one that is lost is made
//! anew. Those of earlier keys stay, for clients that still hold their metadata.

use crate::catalog::Rendered;
use crate::sign::{Key, Upstream};
use crate::{PoolPackage, Repository, RpmFile, disk, lock, pool, workers};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::rpm::Header;

/// The lead of an rpm.
const LEAD: usize = 96;
/// Magic, reserved bytes, number of entries, bytes of data.
const INTRO: usize = 16;
/// Bytes of one entry of an index.
const ENTRY: usize = 16;
/// What a header starts with.
const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
/// Bytes of a signature header: rpm's own limit (`lib/signature.c`).
const MOST_SIGNATURE: u64 = 64 << 20;

/// What mends a damaged key of somebody else.
pub(crate) const KEY_AGAIN: &str =
    "get that key again and give it to `twostage publish KEY.asc`; if nothing it signed is published, remove the file";

/// An rpm as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    /// What comes instead of the first `skip` bytes of the stored file.
    pub(crate) prefix: Bytes,
    pub(crate) skip: u64,
    /// Digest of the whole as served: yum's pkgid.
    pub(crate) sha256: Sha256,
    /// Bytes of the whole as served.
    pub(crate) size: u64,
    /// Where in it the header starts.
    pub(crate) header_start: u64,
    /// Whose signature it bears.
    pub(crate) signer: Signer,
}

/// Whose signature an rpm is served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signer {
    /// Of the repository's key with this fingerprint.
    Ours(String),
    /// Of others, with these fingerprints: of one, or of several in rpm 6's form.
    Upstream(BTreeSet<String>),
}

impl Repository {
    /// Keeps public keys of those who sign packages elsewhere, and returns their fingerprints.
    /// Clients are told of a key when a snapshot has a package that it signed.
    ///
    /// # Errors
    /// `armored` holds no good public key, or it cannot be written.
    pub fn add_key(&self, armored: &str) -> Result<Vec<String>> {
        let mut added = Vec::new();
        for key in Upstream::parse(armored)? {
            disk::write(self.scratch()?, &self.upstream_path(&key.fingerprint), key.armored()?.as_bytes())?;
            added.push(key.fingerprint);
        }
        Ok(added)
    }

    /// The armored key that [`Repository::add_key`] kept; nothing when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn upstream_key(&self, fingerprint: &str) -> Result<Option<String>> {
        if !is_fingerprint(fingerprint) {
            return Ok(None);
        }
        let Some(bytes) = disk::read(&self.upstream_path(fingerprint))? else { return Ok(None) };
        let failed = || format!("{} cannot be used", self.upstream_path(fingerprint).display());
        let text = String::from_utf8(bytes).or_fail(Class::Repository, failed)?;
        Upstream::named(&text, fingerprint).or_fail(Class::Repository, failed).map_err(|error| error.hint(KEY_AGAIN))?;
        Ok(Some(text))
    }

    /// All keys that were added, and ours, which may have signed what comes back.
    pub(crate) fn known_keys(&self, ours: Option<&Key>) -> Result<Vec<Upstream>> {
        let mut keys = ours.map_or(Ok(Vec::new()), |ours| Upstream::parse(ours.public()))?;
        let folder = self.root.join("keys");
        let failed = || format!("cannot read {}", folder.display());
        let mut paths = BTreeSet::new();
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    paths.insert(entry.or_fail(Class::System, failed)?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::system(failed(), error)),
        }
        for path in paths {
            let Some(fingerprint) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".asc")) else { continue };
            let failed = || format!("{} cannot be used", path.display());
            let text = fs::read_to_string(&path).or_fail(Class::Repository, failed);
            let named = text.and_then(|text| Upstream::named(&text, fingerprint).or_fail(Class::Repository, failed));
            keys.extend(named.map_err(|error| error.hint(KEY_AGAIN))?);
        }
        Ok(keys)
    }

    /// Whether a package can be published as far as its signature goes: none, or one that we can check.
    ///
    /// # Errors
    /// Nobody added the key that signed it, or the signature is not that key's.
    pub fn check_signature(&self, package: &PoolPackage, now: i64) -> Result<()> {
        if package.rpm.as_ref().is_some_and(|rpm| rpm.signer.is_some()) {
            let known = self.known_keys(Some(&*self.key(now)?))?;
            self.served_upstream(package, &known)?;
        }
        Ok(())
    }

    /// [`Repository::check_signature`] of a package that is still in this file. Without a key of ours, which
    /// is not made for this, ours has signed nothing.
    pub(crate) fn check_incoming(&self, file: &mut File, package: &PoolPackage) -> Result<()> {
        if package.rpm.as_ref().is_none_or(|rpm| rpm.signer.is_none()) {
            return Ok(());
        }
        let ours = self.key_at_hand();
        let known = self.known_keys(ours.as_deref())?;
        file.rewind().or_fail(Class::System, || format!("cannot read the package {}", package.id))?;
        let (prefix, header) = head_in(file, package)?;
        verified(package, &prefix, &header, &known).map(drop)
    }

    /// How a package that came signed is served, after a look at its signature.
    ///
    /// # Errors
    /// Nobody added the key that signed it, or the signature is not that key's.
    pub(crate) fn served_upstream(&self, package: &PoolPackage, keys: &[Upstream]) -> Result<Option<Served>> {
        let rpm = rpm_of(package)?;
        if rpm.signer.is_none() {
            return Ok(None);
        }
        let (prefix, header) = self.head(package)?;
        let signers = verified(package, &prefix, &header, keys)?;
        Ok(Some(as_it_came(package, rpm, signers)))
    }

    /// How a package that came without a signature is served with `key`'s. What has to be made is
    /// kept, and its path goes to `made`, for [`disk::sync_files`].
    pub(crate) fn served_signed(&self, package: &PoolPackage, key: &Key, made: &mut BTreeSet<PathBuf>) -> Result<Served> {
        if let Some(served) = self.kept_signature(package, key.fingerprint())? {
            return Ok(served);
        }
        let rpm = rpm_of(package)?;
        let failed = || format!("cannot sign {}", package.id);
        let (prefix, header) = self.head(package)?;
        let (of_header, is_rsa) = key.sign_rpm(header.as_slice(), package.date)?;
        let mut file = self.open_verified(package, &package.sha256)?;
        let from_header = SeekFrom::Start(rpm.prefix);
        // As `rpmsign --addsign` does it: rpm since 4.14 puts a digest of the payload into the header. Where there is
        // none, a signature of the header does not cover the payload, and one of both stands beside it.
        let of_both = if Header::parse(&header)?.has(twostage_package::rpm::tag::PAYLOADDIGEST) {
            None
        } else {
            file.seek(from_header).or_fail(Class::System, failed)?;
            Some(key.sign_rpm(BufReader::new(&mut file), package.date)?.0)
        };
        let prefix = signed_prefix(&prefix, &of_header, of_both.as_deref(), is_rsa, &rpm.header_sha256)?;
        file.seek(from_header).or_fail(Class::System, failed)?;
        let mut hasher = Hasher::default();
        hasher.update(&prefix);
        io::copy(&mut file, &mut hasher).or_fail(Class::System, failed)?;
        let mut kept = self.scratch()?.file()?;
        let line = kept_line(&hasher.finish(), &Sha256::of(&prefix));
        kept.write_all(line.as_bytes()).and_then(|()| kept.write_all(&prefix)).or_fail(Class::System, failed)?;
        let path = self.signed_path(key.fingerprint(), &package.sha256);
        disk::keep_for_now(kept.into_temp_path(), &path)?;
        self.just_written(&path);
        made.insert(path);
        self.kept_signature(package, key.fingerprint())?.ok_or_else(|| Error::new(Class::System, failed()))
    }

    /// Makes those signatures of ours anew that are not there whole: with the same key they are the same.
    pub(crate) fn sign_again(&self, texts: &[Arc<Rendered>], key: &Key) -> Result<()> {
        let unsure = self.unsure_signatures(texts, key.fingerprint())?;
        let made = Mutex::new(BTreeSet::new());
        let signed = workers::for_each(&unsure, |rendered| {
            let package = self.package_or_described(&rendered.sha256)?;
            let path = self.signed_path(key.fingerprint(), &package.sha256);
            if self.kept_signature(&package, key.fingerprint())?.is_some() {
                self.just_written(&path);
                return Ok(None);
            }
            let mut new = BTreeSet::new();
            self.served_signed(&package, key, &mut new)?;
            lock(&made).append(&mut new);
            Ok(Some(package))
        })?;
        disk::sync_files(&self.root, &lock(&made))?;
        signed.iter().flatten().for_each(|package| self.mend(format!("the signature of {} was made anew", package.id)));
        Ok(())
    }

    /// What [`Repository::served_signed`] kept for a key, if it is there whole.
    pub(crate) fn kept_signature(&self, package: &PoolPackage, fingerprint: &str) -> Result<Option<Served>> {
        let rpm = rpm_of(package)?;
        if !is_fingerprint(fingerprint) || rpm.signer.is_some() {
            return Ok(None);
        }
        let bytes = match disk::read(&self.signed_path(fingerprint, &package.sha256)) {
            Ok(Some(bytes)) => bytes,
            Err(error) if error.is_machine() => return Err(error),
            // One that cannot be read is made anew, as one that is not whole.
            _ => return Ok(None),
        };
        let bytes = Bytes::from(bytes);
        let Some(end) = bytes.iter().take(256).position(|byte| *byte == b'\n') else { return Ok(None) };
        let prefix = bytes.slice(end + 1..);
        let digests = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| line.split_once(' '));
        let Some(Ok(sha256)) = digests.map(|(file, _)| file.parse::<Sha256>()) else { return Ok(None) };
        if bytes[..=end] != *kept_line(&sha256, &Sha256::of(&prefix)).as_bytes() {
            return Ok(None);
        }
        let header_start = prefix.len() as u64;
        let size = header_start + package.size.saturating_sub(rpm.prefix);
        Ok(Some(Served { prefix, skip: rpm.prefix, sha256, size, header_start, signer: Signer::Ours(fingerprint.to_string()) }))
    }

    /// How a package is served that a client asks for by its digest alone, or with the fingerprint
    /// of a key of ours; nothing when it never was signed with that.
    pub(crate) fn served_rpm(&self, package: &Arc<PoolPackage>, fingerprint: Option<&str>) -> Result<Option<Served>> {
        let rpm = rpm_of(package)?;
        if rpm.signer.is_some() {
            return Ok(Some(as_it_came(package, rpm, BTreeSet::new())).filter(|_| fingerprint.is_none()));
        }
        // Whose it is needs no look at our key.
        if let Some(fingerprint) = fingerprint
            && let Some(served) = self.kept_signature(package, fingerprint)?
        {
            return Ok(Some(served));
        }
        let Some(ours) = self.signer() else { return Ok(None) };
        match fingerprint {
            Some(earlier) if earlier != ours => return Ok(None),
            Some(_) => {}
            None => {
                if let Some(served) = self.kept_signature(package, &ours)? {
                    return Ok(Some(served));
                }
            }
        }
        match self.key_at_hand().filter(|key| key.fingerprint() == ours) {
            Some(key) => self.served_signed(package, &key, &mut BTreeSet::new()).map(Some),
            None => Err(Error::new(Class::Repository, format!("the signature that {} is served with is gone", package.id))
                .hint("`twostage channel --repair`, where the signing key is, makes it anew: it will be the same")),
        }
    }

    /// The prefix and the header of a stored rpm, as they came.
    pub(crate) fn head(&self, package: &PoolPackage) -> Result<(Vec<u8>, Vec<u8>)> {
        head_in(&mut self.open_verified(package, &package.sha256)?, package)
    }

    fn upstream_path(&self, fingerprint: &str) -> PathBuf {
        self.root.join("keys").join(format!("{fingerprint}.asc"))
    }

    pub(crate) fn signed_path(&self, fingerprint: &str, identity: &Sha256) -> PathBuf {
        pool::shard(&self.signed_folder(fingerprint), identity)
    }

    /// Where the headers are that a key signed.
    pub(crate) fn signed_folder(&self, fingerprint: &str) -> PathBuf {
        self.root.join("signed").join(fingerprint)
    }
}

/// The first line of what is kept of a signed rpm. The third digest is of the line itself.
fn kept_line(file: &Sha256, prefix: &Sha256) -> String {
    let digests = format!("{file} {prefix}");
    format!("{digests} {}\n", Sha256::of(digests.as_bytes()))
}

/// The prefix and the header of an rpm, at the start of this file.
fn head_in(file: &mut File, package: &PoolPackage) -> Result<(Vec<u8>, Vec<u8>)> {
    let rpm = rpm_of(package)?;
    let mut part = |length: u64| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut *file).take(length).read_to_end(&mut bytes).or_fail(Class::System, || format!("cannot read the package {}", package.id))?;
        Ok(bytes)
    };
    let (prefix, header) = (part(rpm.prefix)?, part(rpm.header_size)?);
    if Sha256::of(&header) != rpm.header_sha256 {
        return Err(Error::new(Class::Repository, format!("the stored file of {} has another header than it came with", package.id))
            .hint("the disk or somebody changed it; publish it again"));
    }
    Ok((prefix, header))
}

/// What is kept of an rpm beside its id.
pub(crate) fn rpm_of(package: &PoolPackage) -> Result<&RpmFile> {
    package.rpm.as_ref().ok_or_else(|| Error::new(Class::Repository, format!("{} is no rpm", package.id)))
}

/// A package that bears somebody else's signature.
fn as_it_came(package: &PoolPackage, rpm: &RpmFile, signers: BTreeSet<String>) -> Served {
    Served {
        prefix: Bytes::new(),
        skip: 0,
        sha256: rpm.file_sha256,
        size: package.size,
        header_start: rpm.prefix,
        signer: Signer::Upstream(signers),
    }
}

/// Fingerprints of the keys that signed the header of a package that came signed. There is at least one, and
/// no signature over the header is anybody else's: what only claims to be signed would be served without ours.
///
/// A signature over header and payload together, as rpm made them before it had the other kind, proves
/// nothing here: rpm since 4.14 wants one of the header. Beside such a one it stays, and clients look at it themselves.
fn verified(package: &PoolPackage, prefix: &[u8], header: &[u8], keys: &[Upstream]) -> Result<BTreeSet<String>> {
    let mut signers = BTreeSet::new();
    for packet in entries(prefix)?.iter().flat_map(over_header) {
        match keys.iter().find(|key| key.verifies(&packet, header)) {
            Some(key) => signers.insert(key.fingerprint.clone()),
            None => return Err(unverified(package, &packet, keys)),
        };
    }
    if signers.is_empty() {
        return Err(Error::new(Class::Repository, format!("{} is signed, and not over its header", package.id))
            .because("its signature covers header and payload together, which rpm since 4.14 takes for no proof of the header".to_string())
            .hint("have it signed anew with a present-day rpmsign, or take the signature off with `rpmsign --delsign`"));
    }
    Ok(signers)
}

/// The signatures over the header that are in one value of the signature header, as packets.
fn over_header(value: &Value<'_>) -> Vec<Vec<u8>> {
    match value.tag {
        tag::DSA | tag::RSA => vec![value.data.to_vec()],
        // Each string ends with a NUL, the last one too.
        tag::OPENPGP => {
            let strings = value.data.strip_suffix(b"\0").unwrap_or(value.data);
            strings.split(|byte| *byte == 0).map(twostage_package::rpm::signature::base64).collect()
        }
        _ => Vec::new(),
    }
}

/// Why a signature is no known key's.
fn unverified(package: &PoolPackage, packet: &[u8], keys: &[Upstream]) -> Error {
    let add = "add the public key of whoever signed it with `twostage publish KEY.asc`; clients are then told of it";
    let error = |what: String| Error::new(Class::Repository, what);
    match twostage_package::rpm::signature::issuer(packet) {
        None => error(format!("{} is signed, and its signature names no key that can be read", package.id)).hint(add),
        Some(signer) => match keys.iter().find(|key| key.is(&signer)) {
            None => error(format!("{} is signed, with the key {signer}, which this repository does not know", package.id)).hint(add),
            Some(key) => {
                error(format!("the signature of {} is not that of the key {}", package.id, key.fingerprint)).hint("fetch the package again")
            }
        },
    }
}

/// Upper-case hex digits: of a version 4 key 40, of a version 6 key 64.
fn is_fingerprint(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

/// Bytes of lead and signature header, padding included, from a file's first 112 bytes; nothing
/// when it is no rpm. <https://rpm-software-management.github.io/rpm/manual/format_v4.html>
pub(crate) fn prefix_length(start: &[u8]) -> Option<u64> {
    let intro = start.get(LEAD..LEAD + INTRO)?;
    if !intro.starts_with(&MAGIC) {
        return None;
    }
    let data = u64::from(be32(intro, 12));
    let length = (LEAD + INTRO) as u64 + u64::from(be32(intro, 8)) * ENTRY as u64 + data.next_multiple_of(8);
    Some(length).filter(|length| *length <= MOST_SIGNATURE)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

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
struct Value<'a> {
    tag: u32,
    kind: u32,
    count: u32,
    data: &'a [u8],
}

const STRING: u32 = 6;
const BIN: u32 = 7;

/// Bytes of one number of a type, and its alignment.
fn width(kind: u32) -> usize {
    match kind {
        3 => 2,
        4 => 4,
        5 => 8,
        _ => 1,
    }
}

/// The values of the signature header in a prefix. The package's reader has checked it, but the
/// bytes come from the disk again.
fn entries(prefix: &[u8]) -> Result<Vec<Value<'_>>> {
    let found = || -> Option<Vec<Value<'_>>> {
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
            values.push(Value { tag, kind, count, data: rest.get(..length)? });
        }
        Some(values)
    };
    found().ok_or_else(|| Error::new(Class::Repository, "a stored rpm's signature header cannot be read").hint("publish the package again"))
}

/// A prefix with our signature of the header, and, where it needs one, of header and payload: lead, digests
/// and sizes as they were, earlier signatures and the room kept for them left out.
fn signed_prefix(prefix: &[u8], of_header: &[u8], of_both: Option<&[u8]>, is_rsa: bool, header_sha256: &Sha256) -> Result<Vec<u8>> {
    let mut values = entries(prefix)?;
    values.retain(|value| ![tag::REGION, tag::DSA, tag::RSA].contains(&value.tag) && !tag::OTHERS.contains(&value.tag));
    let digest = format!("{header_sha256}\0");
    if !values.iter().any(|value| value.tag == tag::SHA256) {
        values.push(Value { tag: tag::SHA256, kind: STRING, count: 1, data: digest.as_bytes() });
    }
    let (tag, both) = if is_rsa { (tag::RSA, tag::BOTH_RSA) } else { (tag::DSA, tag::BOTH) };
    for (tag, data) in [(tag, Some(of_header)), (both, of_both)] {
        values.extend(data.map(|data| Value { tag, kind: BIN, count: u32::try_from(data.len()).unwrap_or(u32::MAX), data }));
    }
    values.sort_by_key(|value| value.tag);
    let mut made = prefix[..LEAD].to_vec();
    made.extend(signature_header(&values));
    Ok(made)
}

/// An index and a store, as rpmbuild writes them: one region over all values, its trailer behind
/// them, padded to 8 bytes (`headerExport` in `lib/header.c`, `rpmWriteSignature` in `lib/signature.c`).
fn signature_header(values: &[Value<'_>]) -> Vec<u8> {
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
pub(crate) fn identity(file: &mut File) -> io::Result<Option<Sha256>> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take((LEAD + INTRO) as u64).read_to_end(&mut start)?;
    let Some(length) = prefix_length(&start) else { return Ok(None) };
    file.seek(SeekFrom::Start(length))?;
    let mut hasher = Hasher::default();
    io::copy(file, &mut hasher)?;
    Ok(Some(hasher.finish()))
}

/// The digest of the whole file.
pub(crate) fn whole(file: &mut File) -> io::Result<Sha256> {
    file.rewind()?;
    let mut hasher = Hasher::default();
    io::copy(&mut io::BufReader::with_capacity(64 << 10, file), &mut hasher)?;
    Ok(hasher.finish())
}

/// [`identity`], and the digest of the whole file.
pub(crate) fn digests(file: &mut File) -> io::Result<(Option<Sha256>, Sha256)> {
    let mut start = Vec::new();
    file.rewind()?;
    file.take((LEAD + INTRO) as u64).read_to_end(&mut start)?;
    let prefix = prefix_length(&start);
    file.rewind()?;
    let (mut whole, mut part) = (Hasher::default(), Hasher::default());
    let (mut buffer, mut left) = (vec![0; 256 << 10], prefix.unwrap_or(u64::MAX));
    loop {
        let got = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..got).unwrap_or_default();
        whole.update(bytes);
        let skip = usize::try_from(left).unwrap_or(usize::MAX).min(got);
        part.update(bytes.get(skip..).unwrap_or_default());
        left -= skip as u64;
    }
    Ok((prefix.map(|_| part.finish()), whole.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_keeps_its_digests_and_loses_its_signatures() {
        let sha1 = Value { tag: 269, kind: STRING, count: 1, data: b"abc\0" };
        let old = Value { tag: 1002, kind: BIN, count: 3, data: b"old" };
        let size = Value { tag: 1000, kind: 4, count: 1, data: &[0, 0, 1, 2] };
        let mut prefix = vec![7; LEAD];
        prefix.extend(signature_header(&[sha1, size, old]));
        assert_eq!(prefix_length(&prefix), Some(prefix.len() as u64));
        let digest = Sha256::of(b"header");
        let made = signed_prefix(&prefix, b"new", None, true, &digest).unwrap_or_default();
        assert_eq!(prefix_length(&made), Some(made.len() as u64));
        let values = entries(&made).unwrap_or_default();
        let text = format!("{digest}\0");
        assert_eq!(values.iter().map(|value| value.tag).collect::<Vec<_>>(), [62, 268, 269, 273, 1000]);
        assert_eq!(values[1].data, b"new");
        assert_eq!((values[2], values[4]), (sha1, size));
        assert_eq!(values[3].data, text.as_bytes());
        assert_eq!(signed_prefix(&made, b"new", None, true, &digest).ok(), Some(made.clone()), "signed twice, the same bytes");
        for (is_rsa, expected) in [(true, [62, 268, 269, 273, 1000, 1002]), (false, [62, 267, 269, 273, 1000, 1005])] {
            let both = signed_prefix(&made, b"new", Some(b"both"), is_rsa, &digest).unwrap_or_default();
            let tags = entries(&both).unwrap_or_default().iter().map(|value| value.tag).collect::<Vec<_>>();
            assert_eq!(tags, expected, "earlier ones went");
        }
    }

    #[test]
    fn a_prefix_that_is_cut_or_lies_is_refused() {
        let mut prefix = vec![7; LEAD];
        prefix.extend(signature_header(&[Value { tag: 269, kind: STRING, count: 1, data: b"abc\0" }]));
        for end in 0..prefix.len() - 4 {
            assert!(entries(&prefix[..end]).is_err(), "{end}");
        }
        for at in LEAD..LEAD + INTRO + 2 * ENTRY {
            let mut wrong = prefix.clone();
            wrong[at] = 0xff;
            let _ = (entries(&wrong), prefix_length(&wrong));
        }
    }
}

//! Reads one `.rpm`, hashing it as it streams by (rpm's `docs/manual/format.md`).
//!
//! ```text
//! lead               96 bytes; only its magic and its type of signature still mean something
//! signature header   sizes, digests, signatures; padded to 8 bytes
//! main header        what the package is
//! payload            a compressed cpio archive
//! ```
//!
//! A signature can be added without changing what is installed, so a package's identity is the
//! digest of main header and payload. Nothing of a package is believed before its header is checked
//! value by value; every digest that it has is compared; and the payload is unpacked once to see that it
//! has the files of the header.

use crate::archive::{self, Stop};
use crate::{Check, deb, shown};
use md5::{Digest, Md5};
use std::io::{self, BufReader, Read};
use twostage_model::{Hasher, PackageId, Result, Sha256};

pub mod header;

mod content;
mod contents;
mod cpio;
mod evr;
mod packed_files;
mod payload;
pub mod prefix;
pub mod signature;
pub mod write;

pub use content::content_digest;
pub use contents::{
    Change, Dependency, DigestAlgorithm, FILE_CONFIG, FILE_DOC, FILE_GHOST, File, Kind, SENSE_COMPARE, changelog, dependencies,
    digest_algorithm, files,
};
pub use evr::compare_evr;
pub use header::{Header, tag};
pub(crate) use packed_files::{each_file, paths};

const LEAD: usize = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// `RPMSIGTYPE_HEADERSIG`, at 78 in the lead.
const SIGNATURE_HEADER: [u8; 2] = [0, 5];
/// Bytes of a signature header; rpm takes 64 MiB. Signatures of each file, as Fedora's, are what
/// makes it large: this is room for some 70,000.
const MAX_SIGNATURE: u64 = 16 << 20;

/// Tags of the signature header (`rpmSigTag` in `include/rpm/rpmtag.h`).
mod sig {
    pub(super) const SHA1: u32 = 269;
    pub(super) const LONGSIZE: u32 = 270;
    pub(super) const LONGARCHIVESIZE: u32 = 271;
    pub(super) const SHA256: u32 = 273;
    pub(super) const SIZE: u32 = 1000;
    pub(super) const MD5: u32 = 1004;
    pub(super) const PAYLOADSIZE: u32 = 1007;

    /// The type that a tag must have and, unless 0, how many values (`xlateTags` in `lib/package.c`).
    pub(super) fn shape(tag: u32) -> Option<(u32, usize)> {
        use super::header::{BIN, INT32, INT64, STRING, STRING_ARRAY};
        Some(match tag {
            SIZE | PAYLOADSIZE | 275 | 277 => (INT32, 1),
            LONGSIZE | LONGARCHIVESIZE => (INT64, 1),
            SHA1 | SHA256 => (STRING, 1),
            274 | 276 | 278 => (STRING_ARRAY, 0),
            MD5 => (BIN, 16),
            267 | 268 | 1002 | 1005 | 1006 | 1008 => (BIN, 0),
            _ => return None,
        })
    }
}

/// One rpm as it streamed by, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rpm {
    /// Name, `[epoch:]version-release` (an epoch of 0 is left out), architecture (`src` for a
    /// source package).
    pub id: PackageId,
    /// It holds sources and a spec file: its header has no `SOURCERPM`.
    pub is_source: bool,
    /// Its identity: of main header and payload, so without lead and signature header.
    pub sha256: Sha256,
    /// Of the main header with its magic; rpm's `%{SHA256HEADER}`.
    pub header_sha256: Sha256,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes of lead, signature header and padding: where the main header begins.
    pub prefix: u64,
    /// Bytes of the main header.
    pub header_size: u64,
    /// Bytes of the uncompressed payload as the package says, 0 if it does not.
    pub archive_size: u64,
    /// MD5 of main header and payload, which a new signature header needs.
    pub md5: [u8; 16],
    /// Key id or fingerprint of an OpenPGP signature in lower-case hex. The signature is not
    /// verified.
    pub signer: Option<String>,
    /// Seconds since 1970: `BUILDTIME`, 0 if there is none.
    pub date: i64,
    /// File name of the source package, empty for a source package.
    pub source: String,
    /// The main header.
    pub header: Header,
}

/// Whether a file that starts like this wants to be an rpm.
pub fn looks_like_rpm(start: &[u8]) -> bool {
    start.starts_with(&LEAD_MAGIC)
}

/// Reads an rpm to its end and checks it. `hint` names it in messages.
///
/// The payload is unpacked as it streams by and nothing of it is kept: it must hold the files that the
/// header lists, as rpm itself would find when it installs. Memory is at most about four times the
/// headers' bytes in the file (16 MiB of signature header, 64 MiB of main header), 120 bytes for every
/// file, and what a decoder takes: 128 MiB. All digests that rpm 4 writes are compared; SHA-512 and
/// SHA-3, which rpm 6 adds to its SHA-256, are not.
///
/// # Errors
/// Class `Repository` with the reason for refusing it; class `System` if `input` cannot be read.
pub fn read(input: impl Read, hint: &str) -> Result<Rpm> {
    read_all(input).map_err(|stop| deb::stopped(stop, hint))
}

/// What an rpm says of itself, without a look at its payload: for a file that was read to its end before, and whose digest
/// (of main header and payload) and size are known since then. `md5` is zeros.
///
/// # Errors
/// As [`read`], of what is in front of the payload.
pub fn describe(mut input: impl Read, sha256: Sha256, size: u64, hint: &str) -> Result<Rpm> {
    let described = Start::read(&mut input).and_then(|Start { signature, prefix, blob, header }| {
        let (id, source) = identify(&header).map_err(Stop::Refused)?;
        Ok(Rpm {
            id,
            is_source: !header.has(tag::SOURCERPM),
            sha256,
            header_sha256: Sha256::of(&blob),
            size,
            prefix,
            header_size: blob.len() as u64,
            archive_size: archive_size(&signature, &header),
            md5: [0; 16],
            signer: signature::signer(&signature),
            date: header.number(tag::BUILDTIME).and_then(|date| i64::try_from(date).ok()).unwrap_or_default(),
            source,
            header,
        })
    });
    described.map_err(|stop| deb::stopped(stop, hint))
}

fn read_all(mut input: impl Read) -> Result<Rpm, Stop> {
    let start = Start::read(&mut input)?;
    let Start { signature, prefix, blob, header } = start;
    let (id, source) = identify(&header).map_err(Stop::Refused)?;
    let promised = Promised::new(&header).map_err(Stop::Refused)?;

    let mut hashed = Hashed { inner: input, sha256: Hasher::default(), md5: Md5::new(), promised, size: blob.len() as u64 };
    hashed.sha256.update(&blob);
    hashed.md5.update(&blob);
    let mut input = BufReader::with_capacity(128 << 10, Watched { inner: hashed, failure: None });
    let walked = payload::check(&header, &mut input);
    // To the end also when the walk ended early: the digests tell damage from what was made so.
    let rest = io::copy(&mut input, &mut io::sink());
    let Watched { inner: hashed, failure } = input.into_inner();
    if let Some(error) = failure.or(rest.err()) {
        return Err(Stop::Unreadable(error));
    }
    let Hashed { sha256, md5, promised, size, .. } = hashed;
    let rpm = Rpm {
        id,
        is_source: !header.has(tag::SOURCERPM),
        sha256: sha256.finish(),
        header_sha256: Sha256::of(&blob),
        size: prefix + size,
        prefix,
        header_size: blob.len() as u64,
        archive_size: archive_size(&signature, &header),
        md5: md5.finalize().into(),
        signer: signature::signer(&signature),
        date: header.number(tag::BUILDTIME).and_then(|date| i64::try_from(date).ok()).unwrap_or_default(),
        source,
        header,
    };
    verify(&rpm, &signature, &blob).and_then(|()| promised.verify()).and(walked).map_err(Stop::Refused)?;
    Ok(rpm)
}

/// Hashes the payload as it is read; header and payload together are the identity.
struct Hashed<R> {
    inner: R,
    sha256: Hasher,
    md5: Md5,
    promised: Promised,
    /// Bytes of header and payload.
    size: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let bytes = buffer.get(..got).unwrap_or_default();
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.promised.update(bytes);
        self.size += got as u64;
        Ok(got)
    }
}

/// Keeps the error of the input apart from those of decoders.
struct Watched<R> {
    inner: R,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let shown = io::Error::new(error.kind(), error.to_string());
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure.get_or_insert(error);
            }
            shown
        })
    }
}

/// All that is in front of the payload, checked.
struct Start {
    signature: Header,
    /// Bytes in front of the main header.
    prefix: u64,
    /// The main header as it was read.
    blob: Vec<u8>,
    header: Header,
}

impl Start {
    fn read(input: &mut impl Read) -> Result<Start, Stop> {
        let (signature, prefix) = signature_header(input)?;
        let blob = header_blob(input, header::MAX_HEADER, "its header")?;
        let check = || {
            let header = Header::parse_blob(&blob)?;
            header.check_whole()?;
            contents::check(&header)?;
            Ok(header)
        };
        let header = check().map_err(|why: String| Stop::Refused(format!("its header: {why}")))?;
        Ok(Start { signature, prefix, blob, header })
    }
}

/// Reads lead and signature header; returns the latter and the bytes of both.
fn signature_header(input: &mut impl Read) -> Result<(Header, u64), Stop> {
    let mut lead = [0; LEAD];
    let got = fill(input, &mut lead)?;
    if !looks_like_rpm(&lead) {
        return Err(Stop::Refused("it is not an rpm: the magic is missing".into()));
    }
    if got < LEAD {
        return Err(Stop::Refused("it ends inside its lead".into()));
    }
    // `rpmLeadRead` in `lib/rpmlead.c`: what is behind it must be a signature header.
    let [.., major, _, _, _] = lead.first_chunk::<8>().copied().unwrap_or_default();
    if !matches!(major, 3 | 4) {
        return Err(Stop::Refused(format!("it is of rpm's format {major}, and 3 and 4 are known")));
    }
    let [kind @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = lead.last_chunk::<18>().copied().unwrap_or_default();
    if kind != SIGNATURE_HEADER {
        return Err(Stop::Refused(format!("its lead announces a signature of type {}, and 5 is known", u16::from_be_bytes(kind))));
    }
    let blob = header_blob(input, MAX_SIGNATURE, "its signature header")?;
    let signature = Header::parse_blob(&blob).map_err(|why| Stop::Refused(format!("its signature header: {why}")))?;
    if let Some(tag) = signature.twice() {
        return Err(Stop::Refused(format!("its signature header has tag {tag} twice")));
    }
    for tag in signature.tags() {
        let has = (signature.raw(tag).map_or(0, |(kind, _)| kind), signature.count(tag));
        if sig::shape(tag).is_some_and(|(kind, count)| kind != has.0 || count != 0 && count != has.1) {
            return Err(Stop::Refused(format!("its signature header: tag {tag} has {} values of type {}", has.1, has.0)));
        }
    }
    let mut padding = [0; 7];
    let length = blob.len().next_multiple_of(8) - blob.len();
    let padding = padding.get_mut(..length).unwrap_or_default();
    if fill(input, padding)? < length {
        return Err(Stop::Refused("it ends behind its signature header".into()));
    }
    Ok((signature, (LEAD + blob.len() + length) as u64))
}

/// Reads one header with its magic. What is kept is never more than what came.
fn header_blob(input: &mut impl Read, most: u64, what: &str) -> Result<Vec<u8>, Stop> {
    let refused = |why: &str| Stop::Refused(format!("{what}: {why}"));
    let mut blob = vec![0; header::INTRO];
    if fill(input, &mut blob)? < header::INTRO {
        return Err(refused("it is cut off"));
    }
    if !blob.starts_with(&header::MAGIC) {
        return Err(refused("the magic is missing"));
    }
    let (entries, data) = header::sizes(blob.get(8..).unwrap_or_default(), most).map_err(|why| refused(&why))?;
    let rest = u64::from(entries) * 16 + u64::from(data);
    let got = input.take(rest).read_to_end(&mut blob).map_err(Stop::Unreadable)?;
    if (got as u64) < rest {
        return Err(refused(&format!("it is cut off after {got} of {rest} bytes")));
    }
    Ok(blob)
}

/// Name and source of a package.
fn identify(header: &Header) -> Check<(PackageId, String)> {
    let needed = |tag: u32, name: &str| header::strict(header, tag, name)?.ok_or_else(|| format!("its header has no tag {name}"));
    let (name, version, release) = (needed(tag::NAME, "NAME")?, needed(tag::VERSION, "VERSION")?, needed(tag::RELEASE, "RELEASE")?);
    let source = header::strict(header, tag::SOURCERPM, "SOURCERPM")?;
    let arch = if source.is_some() { needed(tag::ARCH, "ARCH")? } else { "src".to_string() };
    for part in [&version, &release] {
        if part.contains([':', '-']) {
            return Err(format!("its version or release is {}, with a colon or a dash", shown(part)));
        }
    }
    let evr = match header.number(tag::EPOCH) {
        None | Some(0) => format!("{version}-{release}"),
        Some(epoch) => format!("{epoch}:{version}-{release}"),
    };
    let id = PackageId::rpm(&name, &evr, &arch).map_err(|error| error.to_string())?;
    Ok((id, source.unwrap_or_default()))
}

fn archive_size(signature: &Header, header: &Header) -> u64 {
    let said = [sig::LONGARCHIVESIZE, sig::PAYLOADSIZE].iter().find_map(|tag| signature.number(*tag));
    said.or_else(|| header.number(tag::LONGARCHIVESIZE)).or_else(|| header.number(tag::ARCHIVESIZE)).unwrap_or_default()
}

/// Compares every digest and size that the signature header has.
fn verify(rpm: &Rpm, signature: &Header, blob: &[u8]) -> Check<()> {
    let size = rpm.size - rpm.prefix;
    for tag in [sig::SIZE, sig::LONGSIZE] {
        if let Some(said) = signature.number(tag).filter(|said| *said != size) {
            return Err(format!("header and payload have {size} bytes where the signature header says {said}"));
        }
    }
    let differs = |what: &str| Err(format!("the {what} is not the one in its signature header"));
    if signature.text(sig::SHA256).is_some_and(|said| said != rpm.header_sha256.to_string()) {
        return differs("SHA-256 of its header");
    }
    if signature.text(sig::SHA1).is_some_and(|said| said != hex(&sha1::Sha1::digest(blob))) {
        return differs("SHA-1 of its header");
    }
    if signature.binary(sig::MD5).is_some_and(|said| said != rpm.md5) {
        return differs("MD5 of its header and payload");
    }
    Ok(())
}

/// The digest of the compressed payload that the main header promises.
struct Promised {
    hasher: Box<dyn md5::digest::DynDigest>,
    said: Option<String>,
}

impl Promised {
    fn new(header: &Header) -> Check<Promised> {
        let said = header.text(tag::PAYLOADDIGEST);
        if header.has(tag::PAYLOADDIGEST) && said.is_none() {
            return Err("the digest of its payload is not text".into());
        }
        // Without a word of the algorithm it is SHA-256, the only one that rpm writes.
        let number = header.number(tag::PAYLOADDIGESTALGO).unwrap_or(8);
        let hasher = DigestAlgorithm::of(number).hasher();
        let hasher = hasher.ok_or_else(|| format!("the digest of its payload is made by algorithm {number}, which is not known"))?;
        Ok(Promised { hasher, said })
    }

    fn update(&mut self, bytes: &[u8]) {
        if self.said.is_some() {
            self.hasher.update(bytes);
        }
    }

    fn verify(self) -> Check<()> {
        let got = hex(&self.hasher.finalize());
        if self.said.is_some_and(|said| said != got) {
            return Err("the digest of its payload is not the one in its header".into());
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Stop> {
    archive::fill(input, buffer).map_err(Stop::Unreadable)
}

#[cfg(test)]
mod tests;

//! The records of the catalog's index.
//!
//! ```text
//! magic     4 bytes, to find the next record behind a damaged one
//! length    u32 of what follows the checksum
//! checksum  u32, CRC-32 of what follows
//! type      u8: 1 a package, 2 an rpm's texts for yum, 3 a package that is gone: its digest
//! body      numbers little-endian; a text has its length before it, as u16
//! ```

use crate::rpms::{Served, Signer};
use crate::{Extra, Kind, PoolPackage};
use std::collections::BTreeSet;
use twostage_model::Sha256;

/// Bytes that no UTF-8 text has.
pub(super) const MAGIC: [u8; 4] = [0xf5, b'T', b'S', 0xf6];
/// Magic, length, checksum.
const HEAD: usize = 12;
/// Bytes of a record, about.
pub(super) const USUAL: usize = 160;
/// Bytes of one body: a source package has at most some ten thousand files.
const MOST: usize = 16 << 20;

/// Where a text is in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) at: u64,
    pub(crate) length: u32,
    /// CRC-32 of the text.
    pub(crate) crc: u32,
}

impl Span {
    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.at + u64::from(self.length)
    }
}

/// What a publish has to know of each package of the pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The package's name in the pool.
    pub(crate) sha256: Sha256,
    pub(crate) kind: Kind,
    /// Bytes of the deb, the `.dsc`, or the rpm as it came.
    pub(crate) size: u64,
    /// Name, version and architecture, one behind the other, and where the first two end.
    text: Box<str>,
    ends: (u16, u16),
    /// The other files of a source, with their sizes.
    pub(crate) files: Box<[(Sha256, u64)]>,
    /// The whole [`PoolPackage`], as JSON.
    pub(super) description: Span,
    /// Its paragraph in apt's index; empty for what is in none.
    pub(crate) paragraph: Span,
    /// Its place in the catalog: packages that came together follow each other.
    pub(crate) number: usize,
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        self.text.get(..self.ends.0.into()).unwrap_or_default()
    }

    pub(crate) fn version(&self) -> &str {
        self.text.get(self.ends.0.into()..self.ends.1.into()).unwrap_or_default()
    }

    pub(crate) fn arch(&self) -> &str {
        self.text.get(self.ends.1.into()..).unwrap_or_default()
    }

    /// The name that it has in a snapshot's list.
    pub(crate) fn file_name(&self) -> String {
        crate::pool::file_name(self.kind, self.name(), self.version(), self.arch(), &self.sha256)
    }

    /// For messages, as [`twostage_model::PackageId`] is shown.
    pub(crate) fn shown(&self) -> String {
        twostage_model::PackageId { name: self.name().into(), version: self.version().into(), arch: self.arch().into() }.to_string()
    }
}

/// An rpm's texts for yum, as it is served with one signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) sha256: Sha256,
    /// Fingerprint of our key that signed it; empty for a package that came signed.
    pub(crate) key: Box<str>,
    /// Fingerprints of the others that signed it.
    pub(crate) signers: BTreeSet<String>,
    /// Its element in primary, filelists and other.
    pub(crate) texts: [Span; 3],
}

pub(super) enum Record {
    Package(Entry),
    Rendered(Rendered),
    Gone(Sha256),
}

const PACKAGE: u8 = 1;
const RENDERED: u8 = 2;
const GONE: u8 = 3;

/// The record of a package.
pub(super) fn package(package: &PoolPackage, description: Span, paragraph: Span) -> Vec<u8> {
    let files = package.files.iter().map(|file| (file.sha256, file.size));
    let texts = [&*package.id.name, &*package.id.version, &*package.id.arch];
    package_of((&package.sha256, package.kind, package.size), [description, paragraph], texts, files)
}

/// The record of a package whose texts are elsewhere now.
pub(super) fn moved(entry: &Entry, description: Span, paragraph: Span) -> Vec<u8> {
    let texts = [entry.name(), entry.version(), entry.arch()];
    package_of((&entry.sha256, entry.kind, entry.size), [description, paragraph], texts, entry.files.iter().copied())
}

fn package_of(
    (sha256, kind, size): (&Sha256, Kind, u64),
    spans: [Span; 2],
    texts: [&str; 3],
    files: impl ExactSizeIterator<Item = (Sha256, u64)>,
) -> Vec<u8> {
    let mut body = vec![PACKAGE];
    body.extend(sha256.as_bytes());
    body.push(code(kind));
    body.extend(size.to_le_bytes());
    spans.into_iter().for_each(|span| put_span(&mut body, span));
    texts.into_iter().for_each(|text| put_text(&mut body, text));
    body.extend(u32::try_from(files.len()).unwrap_or(0).to_le_bytes());
    for (digest, size) in files {
        body.extend(digest.as_bytes());
        body.extend(size.to_le_bytes());
    }
    sealed(&body)
}

/// The record of an rpm's texts.
pub(super) fn rendered(package: &PoolPackage, served: &Served, texts: [Span; 3]) -> Vec<u8> {
    let (key, signers) = match &served.signer {
        Signer::Ours(fingerprint) => (fingerprint.as_str(), &BTreeSet::new()),
        Signer::Upstream(fingerprints) => ("", fingerprints),
    };
    rendered_of(&package.sha256, texts, key, signers)
}

/// The record of texts that are elsewhere now.
pub(super) fn moved_texts(rendered: &Rendered, texts: [Span; 3]) -> Vec<u8> {
    rendered_of(&rendered.sha256, texts, &rendered.key, &rendered.signers)
}

fn rendered_of(sha256: &Sha256, texts: [Span; 3], key: &str, signers: &BTreeSet<String>) -> Vec<u8> {
    let mut body = vec![RENDERED];
    body.extend(sha256.as_bytes());
    texts.into_iter().for_each(|span| put_span(&mut body, span));
    put_text(&mut body, key);
    body.extend(u32::try_from(signers.len()).unwrap_or(0).to_le_bytes());
    signers.iter().for_each(|signer| put_text(&mut body, signer));
    sealed(&body)
}

/// The record that takes a package out.
pub(super) fn gone(sha256: &Sha256) -> Vec<u8> {
    sealed(&[&[GONE][..], sha256.as_bytes()].concat())
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut record = MAGIC.to_vec();
    record.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend(crc(body).to_le_bytes());
    record.extend(body);
    record
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn put_span(body: &mut Vec<u8>, span: Span) {
    body.extend(span.at.to_le_bytes());
    body.extend(span.length.to_le_bytes());
    body.extend(span.crc.to_le_bytes());
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
    body.extend(text.as_bytes().get(..text.len().min(u16::MAX.into())).unwrap_or_default());
}

/// The record at the start of `bytes`, and its length; nothing where there is no whole one.
pub(super) fn read(bytes: &[u8]) -> Option<(Record, usize)> {
    let head = bytes.get(..HEAD)?;
    let length = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?) as usize;
    if !head.starts_with(&MAGIC) || length > MOST {
        return None;
    }
    let body = bytes.get(HEAD..HEAD + length)?;
    if crc(body).to_le_bytes() != head.get(8..12)? {
        return None;
    }
    let mut fields = Fields(body);
    let record = match fields.number::<1>()?[0] {
        PACKAGE => Record::Package(fields.package()?),
        RENDERED => Record::Rendered(fields.rendered()?),
        GONE => Record::Gone(fields.digest()?),
        _ => return None,
    };
    Some((record, HEAD + length))
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn digest(&mut self) -> Option<Sha256> {
        self.number().map(Sha256::from_bytes)
    }

    fn size(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        self.number().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn span(&mut self) -> Option<Span> {
        let at = self.size()?;
        Some(Span { at, length: self.number().map(u32::from_le_bytes)?, crc: self.number().map(u32::from_le_bytes)? })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.number()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    fn package(&mut self) -> Option<Entry> {
        let sha256 = self.digest()?;
        let kind = kind(self.number::<1>()?[0])?;
        let size = self.size()?;
        let (description, paragraph) = (self.span()?, self.span()?);
        let (name, version, arch) = (self.text()?, self.text()?, self.text()?);
        let ends = (u16::try_from(name.len()).ok()?, u16::try_from(name.len() + version.len()).ok()?);
        let text = [name, version, arch].concat().into_boxed_str();
        let files = (0..self.count()?).map(|_| Some((self.digest()?, self.size()?))).collect::<Option<_>>()?;
        Some(Entry { sha256, kind, size, text, ends, files, description, paragraph, number: 0 })
    }

    fn rendered(&mut self) -> Option<Rendered> {
        let sha256 = self.digest()?;
        let texts = [self.span()?, self.span()?, self.span()?];
        let key = self.text()?.into();
        let signers = (0..self.count()?).map(|_| self.text().map(String::from)).collect::<Option<_>>()?;
        Some(Rendered { sha256, key, signers, texts })
    }
}

const KINDS: [Kind; 8] = [
    Kind::Deb,
    Kind::Udeb,
    Kind::Source,
    Kind::Rpm,
    Kind::SourceRpm,
    Kind::Extra(Extra::Group),
    Kind::Extra(Extra::UpdateInfo),
    Kind::Extra(Extra::Modules),
];

fn code(kind: Kind) -> u8 {
    KINDS.iter().position(|known| *known == kind).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn kind(code: u8) -> Option<Kind> {
    KINDS.get(usize::from(code)).copied()
}

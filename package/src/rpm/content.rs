//! What an `.rpm` contains, apart from when and under which version suffix it was built; the twin of
//! [`crate::content`].
//!
//! ```text
//! the suffix (.ts20260102030405.0a1b2c3d)   wherever it stands: tags, scripts, paths, contents
//! lead, signature header                    they say nothing of the content
//! build time, host, cookie, SOURCERPM       and rpm's version
//! times, inodes, order of files             hardlinks count as sets of paths
//! compression                               of the payload, and of gzipped documentation; and what
//!                                           rpmbuild then requires of rpm
//! sizes, digests, classes, colours          of files: they follow from the contents, which count
//! the rebuild's own changelog entry         the first, if it has the suffix
//! ```
//!
//! All else counts: every other tag, owners, modes, flags, capabilities, every other byte of files.

use super::contents::{FILE_GHOST, File, PLAIN, TYPE, files};
use super::header::{Header, tag};
use super::{Start, Watched, payload};
use crate::archive::Stop;
use crate::content::{Document, Form, Suffix, copy};
use crate::{Check, deb};
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use twostage_model::{Hasher, Result, Sha256};

/// Tags that a rebuild changes by itself, that follow from the contents of files, or that are
/// hashed line by line elsewhere.
const LEFT_OUT: &[u32] = &[
    tag::HEADER_IMAGE,
    tag::HEADER_SIGNATURES,
    tag::HEADER_IMMUTABLE,
    tag::LONGARCHIVESIZE,
    tag::BUILDTIME,
    tag::BUILDHOST,
    tag::SIZE,
    tag::OLDFILENAMES,
    tag::FILESIZES,
    tag::FILEMODES,
    tag::FILERDEVS,
    tag::FILEMTIMES,
    tag::FILEDIGESTS,
    tag::FILELINKTOS,
    tag::FILEFLAGS,
    tag::FILEUSERNAME,
    tag::FILEGROUPNAME,
    tag::SOURCERPM,
    tag::FILEVERIFYFLAGS,
    tag::ARCHIVESIZE,
    tag::REQUIREFLAGS,
    tag::REQUIRENAME,
    tag::REQUIREVERSION,
    tag::RPMVERSION,
    tag::CHANGELOGTIME,
    tag::CHANGELOGNAME,
    tag::CHANGELOGTEXT,
    tag::COOKIE,
    tag::FILEDEVICES,
    tag::FILEINODES,
    tag::FILELANGS,
    tag::DIRINDEXES,
    tag::BASENAMES,
    tag::DIRNAMES,
    tag::PAYLOADCOMPRESSOR,
    tag::PAYLOADFLAGS,
    tag::FILECOLORS,
    tag::FILECLASS,
    tag::CLASSDICT,
    1143, // FILEDEPENDSX
    1144, // FILEDEPENDSN
    1145, // DEPENDSDICT
    1146, // SOURCEPKGID
    tag::LONGFILESIZES,
    tag::LONGSIZE,
    tag::FILECAPS,
    tag::PAYLOADDIGEST,
    tag::PAYLOADDIGESTALGO,
    tag::PAYLOADDIGESTALT,
    5112, // PAYLOADSIZE
    5113, // PAYLOADSIZEALT
    5120, // SOURCENEVR
    5121, // PAYLOADSHA512
    5122, // PAYLOADSHA512ALT
    5123, // PAYLOADSHA3_256
    5124, // PAYLOADSHA3_256ALT
];

/// The digest of what an rpm contains, with every occurrence of `suffix` taken out. Two builds of
/// the same content under different suffixes have the same digest.
///
/// An empty `suffix` takes nothing out.
///
/// # Errors
/// As [`super::read`], but name and digests are not checked; and a payload that does not unpack to
/// the files of the header, or to more than 8 GiB.
pub fn content_digest(input: impl Read, suffix: &str) -> Result<Sha256> {
    digest(input, &Suffix::new(suffix)).map_err(|stop| deb::stopped(stop, "the package"))
}

fn digest(mut input: impl Read, suffix: &Suffix<'_>) -> Result<Sha256, Stop> {
    let Start { header, blob, .. } = Start::read(&mut input)?;
    drop(blob);
    let mut hasher = Hasher::default();
    hasher.field(b"twostage rpm content 1");
    hasher.field(tags(&header, suffix).as_bytes());
    hasher.field(requires(&header, suffix).as_bytes());
    hasher.field(changes(&header, suffix).as_bytes());

    let mut input = BufReader::with_capacity(128 << 10, Watched { inner: input, failure: None });
    let mut owned = Owned::new(&header, suffix);
    let digest = payload::walk(&header, &mut input, &mut |file, content| owned.file(file.index, content)).map(|()| owned.finish());
    if let Some(error) = input.into_inner().failure {
        return Err(Stop::Unreadable(error));
    }
    hasher.field(digest.map_err(Stop::Refused)?.as_bytes());
    Ok(hasher.finish())
}

/// Every tag but those left out.
fn tags(header: &Header, suffix: &Suffix<'_>) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.field(&[u8::from(header.has(tag::SOURCERPM))]);
    for tag in header.tags().filter(|tag| !LEFT_OUT.contains(tag)) {
        let Some((kind, bytes)) = header.raw(tag) else { continue };
        hasher.field(&tag.to_be_bytes());
        hasher.field(&kind.to_be_bytes());
        if header.strings(tag).next().is_none() {
            hasher.field(bytes);
            continue;
        }
        hasher.field(&(header.count(tag) as u64).to_be_bytes());
        header.strings(tag).for_each(|text| hasher.field(&suffix.removed(text)));
    }
    hasher.finish()
}

/// What it requires, but for the words about the payload's compression (`rpmlib(PayloadIsXz)`).
fn requires(header: &Header, suffix: &Suffix<'_>) -> Sha256 {
    let mut flags = header.each_number(tag::REQUIREFLAGS);
    let mut versions = header.strings(tag::REQUIREVERSION);
    let mut hasher = Hasher::default();
    for name in header.strings(tag::REQUIRENAME) {
        let (flags, version) = (flags.next().unwrap_or_default(), versions.next().unwrap_or_default());
        if !name.starts_with(b"rpmlib(PayloadIs") {
            hasher.field(&suffix.removed(name));
            hasher.field(&flags.to_be_bytes());
            hasher.field(&suffix.removed(version));
        }
    }
    hasher.finish()
}

/// The changelog without the rebuild's own entry.
fn changes(header: &Header, suffix: &Suffix<'_>) -> Sha256 {
    let mut dates = header.each_number(tag::CHANGELOGTIME);
    let mut texts = header.strings(tag::CHANGELOGTEXT);
    let mut hasher = Hasher::default();
    for (at, author) in header.strings(tag::CHANGELOGNAME).enumerate() {
        let (date, text) = (dates.next().unwrap_or_default(), texts.next().unwrap_or_default());
        if at > 0 || !(suffix.is_in(author) || suffix.is_in(text)) {
            hasher.field(&date.to_be_bytes());
            hasher.field(&suffix.removed(author));
            hasher.field(&suffix.removed(text));
        }
    }
    hasher.finish()
}

/// The files of a header, and what the payload says of them.
struct Owned<'s> {
    suffix: &'s Suffix<'s>,
    files: Vec<OwnedFile>,
    /// Digests of sets of paths that are one file.
    links: Vec<Sha256>,
}

struct OwnedFile {
    /// Of the path without the suffix.
    path: Sha256,
    /// Of all that the header says.
    record: Sha256,
    document: Option<Document>,
    content: Option<Sha256>,
}

impl<'s> Owned<'s> {
    fn new(header: &Header, suffix: &'s Suffix<'s>) -> Self {
        let mut verify = header.each_number(tag::FILEVERIFYFLAGS);
        let mut langs = header.strings(tag::FILELANGS);
        let (mut inodes, mut devices) = (header.each_number(tag::FILEINODES), header.each_number(tag::FILEDEVICES));
        let mut sets: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
        let mut owned: Vec<OwnedFile> = Vec::new();
        for file in files(header) {
            let path = suffix.removed(&file.path);
            let device = devices.next().unwrap_or_default();
            if let Some(inode) = inodes.next().filter(|_| file.mode & TYPE == PLAIN && file.flags & FILE_GHOST == 0) {
                sets.entry((device, inode)).or_default().push(owned.len());
            }
            owned.push(OwnedFile {
                path: Sha256::of(&path),
                record: record(&file, verify.next().unwrap_or_default(), langs.next().unwrap_or_default(), suffix),
                document: Document::of(path.strip_prefix(b"/").unwrap_or(&path)),
                content: None,
            });
        }
        let mut links = Vec::new();
        for set in sets.into_values().filter(|set| set.len() > 1) {
            let mut paths: Vec<Sha256> = set.iter().filter_map(|index| owned.get(*index)).map(|file| file.path).collect();
            paths.sort();
            let mut hasher = Hasher::default();
            paths.iter().for_each(|path| hasher.field(path.as_bytes()));
            links.push(hasher.finish());
        }
        links.sort();
        Owned { suffix, files: owned, links }
    }

    /// Takes in one file of the payload.
    fn file(&mut self, index: usize, content: &mut dyn Read) -> Check<()> {
        let Some(file) = self.files.get_mut(index) else { return Ok(()) };
        let mut out = self.suffix.remover();
        let form = match &file.document {
            None => copy(content, &mut out).map(|()| Form::AsIs),
            Some(document) => self.suffix.document(document, content, &mut out),
        };
        let form = form.map_err(|error| error.to_string())?;
        let mut hasher = Hasher::default();
        hasher.field(&[form as u8]);
        hasher.field(out.finish().as_bytes());
        file.content = Some(hasher.finish());
        Ok(())
    }

    fn finish(mut self) -> Sha256 {
        self.files.sort_by_key(|file| file.path);
        let mut hasher = Hasher::default();
        for file in self.files {
            hasher.field(file.path.as_bytes());
            hasher.field(file.record.as_bytes());
            hasher.field(file.content.as_ref().map_or(b"".as_slice(), |content| content.as_bytes()));
        }
        self.links.iter().for_each(|set| hasher.field(set.as_bytes()));
        hasher.finish()
    }
}

/// What the header says of one file and a rebuild leaves as it is.
fn record(file: &File, verify: u64, lang: &[u8], suffix: &Suffix<'_>) -> Sha256 {
    let mut hasher = Hasher::default();
    for number in [u64::from(file.mode), u64::from(file.flags), u64::from(file.device), verify] {
        hasher.field(&number.to_be_bytes());
    }
    for text in [file.user.as_bytes(), file.group.as_bytes(), file.caps.as_bytes(), lang] {
        hasher.field(text);
    }
    hasher.field(&suffix.removed(&file.link));
    hasher.finish()
}

//! What a `.deb` contains, apart from when and under which version suffix it was built.
//!
//! A component that is rebuilt to the same content keeps its earlier packages, so the digest
//! leaves out what a rebuild changes by itself:
//!
//! ```text
//! the suffix (+bts20260102030405.0a1b2c3d)   wherever it stands: fields, scripts, paths, contents
//! times, compression, order                 of both tars, and of gzipped documentation
//! md5sums                                   of the control tar: they follow from the contents
//! the rebuild's own changelog entry         usr/share/doc/*/changelog*, if its header has the suffix
//! ```
//!
//! All else counts: owners, modes, links, every other byte.

use crate::archive::{self, Entry, Kind, Visit};
use crate::{Check, deb};
use memchr::memmem::Finder;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use twostage_model::{Hasher, Result, Sha256};

/// Bytes of a changelog in which its first entry is looked for.
const MAX_FIRST_ENTRY: usize = 1 << 20;
/// Bytes that a gzipped file of the documentation may unpack to.
const MAX_DOCUMENT: u64 = 1 << 30;

/// The digest of what a `.deb` contains, with every occurrence of `suffix` taken out. Two builds
/// of the same content under different suffixes have the same digest.
///
/// An empty `suffix` takes nothing out. The field `Installed-Size` counts.
///
/// # Errors
/// As [`crate::deb::read`], but the fields of the control file are not checked.
pub fn content_digest(input: impl Read, suffix: &str) -> Result<Sha256> {
    let mut content = Content { suffix: Suffix::new(suffix), fields: Hasher::default(), members: BTreeMap::new(), entries: Vec::new() };
    archive::walk(input, &mut content).map_err(|stop| deb::stopped(stop, "the package"))?;
    let mut hasher = Hasher::default();
    hasher.field(b"twostage deb content 1");
    hasher.field(content.fields.finish().as_bytes());
    hasher.field(&(content.members.len() as u64).to_be_bytes());
    for (name, digest) in content.members {
        hasher.field(&name);
        hasher.field(digest.as_bytes());
    }
    // Stable: the same path twice keeps its order, for the last one wins when it is unpacked.
    content.entries.sort_by_key(|(path, _)| *path);
    for (path, entry) in content.entries {
        hasher.field(path.as_bytes());
        hasher.field(entry.as_bytes());
    }
    Ok(hasher.finish())
}

struct Content<'a> {
    suffix: Suffix<'a>,
    fields: Hasher,
    members: BTreeMap<Vec<u8>, Sha256>,
    /// Digests of path and entry, so that hostile paths take no more memory than short ones.
    entries: Vec<(Sha256, Sha256)>,
}

impl Visit for Content<'_> {
    fn control(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        match entry.path.as_slice() {
            b"md5sums" => {}
            b"control" => {
                for (name, value) in deb::read_control(entry, content)?.fields() {
                    self.fields.field(&self.suffix.removed(name.as_bytes()));
                    self.fields.field(&self.suffix.removed(value.as_bytes()));
                }
            }
            name => {
                let name = self.suffix.removed(name);
                let digest = self.digest(entry, |out| copy(content, out).map(|()| Form::AsIs))?;
                self.members.insert(name, digest);
            }
        }
        Ok(())
    }

    fn data(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        let path = self.suffix.removed(&entry.path);
        let digest = self.digest(entry, |out| match Document::of(&path) {
            None => copy(content, out).map(|()| Form::AsIs),
            Some(document) => self.suffix.document(&document, content, out),
        })?;
        self.entries.push((Sha256::of(&path), digest));
        Ok(())
    }
}

impl Content<'_> {
    fn digest<'s>(&'s self, entry: &Entry, content: impl FnOnce(&mut Remover<'s>) -> io::Result<Form>) -> Check<Sha256> {
        let mut out = self.suffix.remover();
        let form = content(&mut out).map_err(|error| error.to_string())?;
        let kind = match entry.kind {
            Kind::File => b"file".as_slice(),
            Kind::Dir => b"dir",
            Kind::Symlink => b"symlink",
            Kind::Hardlink => b"hardlink",
        };
        let mut hasher = Hasher::default();
        hasher.field(kind);
        hasher.field(&[form as u8]);
        for number in [u64::from(entry.mode), entry.uid, entry.gid] {
            hasher.field(&number.to_be_bytes());
        }
        hasher.field(&entry.user);
        hasher.field(&entry.group);
        hasher.field(&self.suffix.removed(&entry.link));
        hasher.field(out.finish().as_bytes());
        Ok(hasher.finish())
    }
}

/// How a content went into the digest.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    AsIs = 0,
    Unpacked = 1,
}

/// A changelog, or a file that is compared unpacked, or both.
pub(crate) struct Document {
    gzip: bool,
    changelog: bool,
}

impl Document {
    pub(crate) fn of(path: &[u8]) -> Option<Document> {
        let path = path.strip_prefix(b"usr/share/")?;
        let gzip = path.ends_with(b".gz");
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let changelog = matches!(parts.as_slice(), [b"doc", _, name] if name.starts_with(b"changelog"));
        let documentation = matches!(parts.first(), Some(&(b"doc" | b"man" | b"info")));
        (changelog || (gzip && documentation)).then_some(Document { gzip, changelog })
    }
}

/// Copies what goes by.
struct Tee<'a, W> {
    input: &'a mut dyn Read,
    copy: &'a mut W,
    failure: Option<io::Error>,
}

impl<W: Write> Read for Tee<'_, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(count) => {
                self.copy.write_all(buffer.get(..count).unwrap_or_default())?;
                Ok(count)
            }
            Err(error) => {
                let shown = io::Error::new(error.kind(), error.to_string());
                self.failure.get_or_insert(error);
                Err(shown)
            }
        }
    }
}

pub(crate) fn copy(input: &mut dyn Read, out: &mut impl Write) -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 << 10, input);
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        out.write_all(bytes)?;
        let count = bytes.len();
        input.consume(count);
    }
}

/// What is taken out of everything.
pub(crate) struct Suffix<'a> {
    finder: Option<Finder<'a>>,
}

impl<'a> Suffix<'a> {
    pub(crate) fn new(suffix: &'a str) -> Self {
        Suffix { finder: (!suffix.is_empty()).then(|| Finder::new(suffix.as_bytes())) }
    }

    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.find(bytes).is_some())
    }

    /// The bytes without the suffix.
    pub(crate) fn removed(&self, bytes: &[u8]) -> Vec<u8> {
        let Some(finder) = &self.finder else { return bytes.to_vec() };
        let mut kept = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(at) = finder.find(rest) {
            kept.extend_from_slice(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + finder.needle().len()..).unwrap_or_default();
        }
        kept.extend_from_slice(rest);
        kept
    }

    pub(crate) fn remover(&self) -> Remover<'_> {
        Remover { finder: self.finder.as_ref(), hasher: Hasher::default(), held: Vec::new() }
    }

    /// Hashes a file of the documentation into `out`: unpacked, without the rebuild's own entry.
    pub(crate) fn document<'s>(&'s self, document: &Document, content: &mut dyn Read, out: &mut Remover<'s>) -> io::Result<Form> {
        if !document.gzip {
            return self.changelog(content, out).map(|()| Form::AsIs);
        }
        // What does not unpack counts as the bytes it is: both are hashed, one is used.
        let mut raw = self.remover();
        let mut input = BufReader::new(Tee { input: content, copy: &mut raw, failure: None });
        let used = Cell::new(0);
        let mut unpacked = archive::gunzip(&mut input, &used, MAX_DOCUMENT);
        let result = if document.changelog { self.changelog(&mut unpacked, out) } else { copy(&mut unpacked, out) };
        drop(unpacked);
        copy(&mut input, &mut io::sink())?;
        if let Some(error) = input.into_inner().failure {
            return Err(error);
        }
        if result.is_ok() {
            return Ok(Form::Unpacked);
        }
        *out = raw;
        Ok(Form::AsIs)
    }

    /// Hashes a changelog (deb-changelog(5)) without its first entry, if that one's header line
    /// has the suffix.
    fn changelog(&self, content: &mut dyn Read, out: &mut Remover<'_>) -> io::Result<()> {
        let mut head = Vec::new();
        let mut input = BufReader::new(content);
        (&mut input).take(MAX_FIRST_ENTRY as u64).read_to_end(&mut head)?;
        let rest = self.first_entry(&head).and_then(|end| head.get(end..)).unwrap_or(&head);
        out.write_all(rest)?;
        copy(&mut input, out)
    }

    /// Where the entry behind the first begins, if the first one is the rebuild's own.
    fn first_entry(&self, head: &[u8]) -> Option<usize> {
        let mut end = 0;
        let mut lines = head.split_inclusive(|byte| *byte == b'\n').inspect(|line| end += line.len());
        if !self.is_in(lines.find(|line| !line.trim_ascii().is_empty())?) {
            return None;
        }
        lines.find(|line| line.starts_with(b" -- "))?;
        let next = lines.next().unwrap_or_default();
        Some(if next.trim_ascii().is_empty() { end } else { end - next.len() })
    }
}

/// Hashes what is written to it without the suffix, wherever writes cut it.
pub(crate) struct Remover<'f> {
    finder: Option<&'f Finder<'f>>,
    hasher: Hasher,
    /// The end of what was written: it may be the beginning of the suffix.
    held: Vec<u8>,
}

impl Remover<'_> {
    pub(crate) fn finish(mut self) -> Sha256 {
        self.hasher.update(&self.held);
        self.hasher.finish()
    }
}

impl Write for Remover<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(finder) = self.finder else {
            self.hasher.update(bytes);
            return Ok(bytes.len());
        };
        self.held.extend_from_slice(bytes);
        let mut rest = self.held.as_slice();
        while let Some(at) = finder.find(rest) {
            self.hasher.update(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + finder.needle().len()..).unwrap_or_default();
        }
        let keep = rest.len().min(finder.needle().len() - 1);
        let (sure, unsure) = rest.split_at(rest.len() - keep);
        self.hasher.update(sure);
        self.held = unsure.to_vec();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::testing::{CONTROL, Made, Pack, gzip};
    use crate::write::{FileEntry, write_deb};

    const A: &str = "+bts20260102030405.0a1b2c3d";
    const B: &str = "+bts20270908070605.ffeeddcc";
    const OLD: &str = "app (1.0-1) unstable; urgency=low\n\n  * First.\n\n -- A B <a@b>  Mon, 01 Jan 2024 00:00:00 +0000\n";

    fn changelog(suffix: &str) -> String {
        format!("app (1.0-1{suffix}) unstable; urgency=low\n\n  * Rebuilt.\n\n -- T <t@t>  date of {suffix}\n\n{OLD}")
    }

    fn package(suffix: &str, date: i64, change: impl FnOnce(&mut Vec<FileEntry>)) -> Result<Vec<u8>> {
        let mut control = Control::parse(CONTROL)?;
        control.set("Version", &format!("1.0-1{suffix}"));
        control.set("Depends", &format!("libapp1 (= 1.0-1{suffix})"));
        let file = |path: &str, content: Vec<u8>| FileEntry { path: path.into(), mode: 0o644, content };
        // The suffix lies across the boundary of the 64 KiB buffers.
        let mut large = vec![b'x'; (64 << 10) - 5];
        large.extend_from_slice(suffix.as_bytes());
        large.extend_from_slice(&[b'y'; 1000]);
        let mut files = vec![
            file("/usr/bin/app", large),
            file(&format!("/usr/lib/app-1.0-1{suffix}/x"), b"x".to_vec()),
            file("/usr/share/doc/app/changelog.Debian.gz", gzip(changelog(suffix).as_bytes())),
            file("/usr/share/doc/app/README.gz", gzip(format!("version 1.0-1{suffix}\n").as_bytes())),
            file("/usr/share/doc/app/broken.gz", [b"\x1f\x8b\x08 not gzip", suffix.as_bytes()].concat()),
        ];
        change(&mut files);
        write_deb(&control, &files, &[], date)
    }

    fn digest(bytes: &[u8], suffix: &str) -> Result<Sha256> {
        content_digest(bytes, suffix)
    }

    #[test]
    fn a_rebuild_of_the_same_content_is_the_same() -> Result<()> {
        let (a, b) = (package(A, 1, |_| {})?, package(B, 2_000_000, |_| {})?);
        assert_ne!(a, b);
        assert_eq!(digest(&a, A)?, digest(&b, B)?);
        assert_ne!(digest(&a, A)?, digest(&b, A)?, "another suffix is content");
        assert_ne!(digest(&a, "")?, digest(&b, "")?);
        Ok(())
    }

    #[test]
    fn compression_and_order_do_not_count() -> Result<()> {
        let plain = Made::sample().pack(Pack::None);
        for pack in [Pack::Gzip, Pack::Xz, Pack::Zstd] {
            assert_eq!(digest(&Made::sample().pack(pack), "")?, digest(&plain, "")?);
        }
        let mut turned = Made::sample();
        turned.turn_data();
        assert_eq!(digest(&turned.pack(Pack::Gzip), "")?, digest(&plain, "")?);
        Ok(())
    }

    #[test]
    fn every_other_difference_counts() -> Result<()> {
        let first = digest(&package(A, 1, |_| {})?, A)?;
        let content = |files: &mut Vec<FileEntry>, end: &str, new: Vec<u8>| {
            files.iter_mut().filter(|file| file.path.ends_with(end)).for_each(|file| file.content.clone_from(&new));
        };
        let changes: Vec<(&str, Vec<u8>)> = vec![
            ("one byte of a program", package(A, 1, |f| f[0].content[7] = b'z')?),
            ("a mode", package(A, 1, |f| f[0].mode = 0o755)?),
            ("a path", package(A, 1, |f| f[1].path.push('y'))?),
            ("a file less", package(A, 1, |f| drop(f.pop()))?),
            (
                "an old entry of the changelog",
                package(A, 1, |f| content(f, "Debian.gz", gzip(changelog(A).replace("First", "1st").as_bytes())))?,
            ),
            ("other gzipped text", package(A, 1, |f| content(f, "README.gz", gzip(b"version 1.0-2\n")))?),
            ("a gz that does not unpack", package(A, 1, |f| content(f, "broken.gz", b"\x1f\x8b\x08 not gzip!".to_vec()))?),
        ];
        for (what, package) in changes {
            assert_ne!(digest(&package, A)?, first, "{what}");
        }
        let without_own_entry = package(A, 1, |f| content(f, "Debian.gz", gzip(OLD.as_bytes())))?;
        assert_eq!(digest(&without_own_entry, A)?, first, "the own entry does not count, there or not");
        Ok(())
    }

    #[test]
    fn links_scripts_and_fields_count() -> Result<()> {
        let first = digest(&Made::sample().pack(Pack::None), "")?;
        let mut link = Made::sample();
        link.data.iter_mut().filter(|file| file.kind == Kind::Symlink).for_each(|file| file.link.push('2'));
        let mut script = Made::sample();
        script.scripts.push(("prerm", "#!/bin/sh\n".into()));
        let mut field = Made::sample();
        field.control.push_str("Homepage: https://x\n");
        for made in [link, script, field] {
            assert_ne!(digest(&made.pack(Pack::None), "")?, first);
        }
        let mut sums = Made::sample();
        sums.scripts.push(("md5sums", "whatever\n".into()));
        assert_eq!(digest(&sums.pack(Pack::None), "")?, first);
        Ok(())
    }

    /// Golden: if this changes, every component is taken for changed once.
    #[test]
    fn the_digest_never_changes() -> Result<()> {
        assert_eq!(digest(&package(A, 1, |_| {})?, A)?.to_string(), "2929ba9af617b1df8f60fee2977806fc69d961b329b783d4715b4691ba814006");
        Ok(())
    }

    #[test]
    fn the_suffix_is_found_however_writes_cut_it() -> io::Result<()> {
        let suffix = Suffix::new("abab");
        let text = b"xxababyabaabababz";
        let expected = Sha256::of(&suffix.removed(text));
        for size in 1..text.len() {
            let mut remover = suffix.remover();
            for chunk in text.chunks(size) {
                remover.write_all(chunk)?;
            }
            assert_eq!(remover.finish(), expected, "chunks of {size}");
        }
        Ok(())
    }
}

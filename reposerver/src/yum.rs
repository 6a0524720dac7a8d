//! Packages to dnf's and zypper's files. Pure: no clock, no disk, the same input gives the same bytes.
//!
//! The one module that names `createrepo_rs`, and of it only the types and the writers of primary,
//! filelists and other. What they are fed is what `createrepo_c` 0.17 takes from a header
//! (`src/parsehdr.c`), so that the result is equal, field by field, to its own; where a writer
//! says something else than it was fed, [`mend`] puts that right.
//!
//! ```text
//! repodata/repomd.xml               digests of the others; signed
//! repodata/<sha256>-primary.xml.gz  every package with its dependencies
//! repodata/<sha256>-filelists.xml.gz
//! repodata/<sha256>-other.xml.gz    changelogs
//! ```
//!
//! (`.zst` where the project file asks for that.)

use crate::apt::pool_folder;
use crate::assemble::{Outline, Packing, Piece, ZSTD_LEVEL};
use crate::catalog::{Pack, Rendered};
use crate::pool::Extra;
use crate::rpms::{Served, Signer, rpm_of};
use crate::{Kind, PoolPackage};
use bytes::Bytes;
use createrepo_rs::types::{ChangelogEntry, ChecksumType, Dependency, Package, PackageFile};
use createrepo_rs::xml::dump::{filelists::dump_filelists_xml, other::dump_other_xml, primary::dump_primary_xml};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::project::YumCompression;
use twostage_model::{Class, Error, Result, Sha256};
use twostage_package::rpm::header::readable;
use twostage_package::rpm::{Header, compare_evr, tag};

/// One file of `repodata/` that repomd.xml lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepoFile {
    /// `primary`, `filelists`, `other`, or what somebody else's file is.
    pub(crate) kind: String,
    /// Its name in `repodata/`, digest first: a client with an old repomd.xml gets its old file.
    pub(crate) name: String,
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    pub(crate) open_sha256: Sha256,
    pub(crate) open_size: u64,
}

/// What a snapshot with rpms has for dnf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Of the key that signed the packages: another key gives them other digests.
    pub(crate) fingerprint: String,
    /// Fingerprints of those whose signatures the other packages bear.
    pub(crate) keys: BTreeSet<String>,
    #[serde(default)]
    pub(crate) compression: YumCompression,
    pub(crate) files: Vec<RepoFile>,
}

/// A package's element in primary, filelists and other, as it is served.
///
/// # Errors
/// It is no rpm, or a writer fails, which it does only without memory.
pub(crate) fn render(package: &PoolPackage, header: &Header, served: &Served) -> Result<[Vec<u8>; 3]> {
    let mut described = describe(package, header, served)?;
    let files = std::mem::take(&mut described.files);
    described.files = files.iter().filter(|file| is_primary(file.path.as_bytes())).cloned().collect();
    let epoch = header.number(tag::EPOCH).unwrap_or(0);
    let mended = |written: Result<Vec<u8>, createrepo_rs::xml::error::XmlError>| {
        let written = written.map_err(|error| error.to_string()).or_fail_text(package)?;
        let mut text = Vec::with_capacity(written.len());
        mend(&mut text, &written, epoch).ok_or("the writer left no package".to_string()).or_fail_text(package)?;
        Ok(text)
    };
    let primary = mended(dump_primary_xml(std::slice::from_ref(&described), false))?;
    described.files = files;
    let filelists = mended(dump_filelists_xml(std::slice::from_ref(&described), false, false))?;
    let other = mended(dump_other_xml(std::slice::from_ref(&described), false))?;
    Ok([primary, filelists, other])
}

/// How the files are packed.
pub(crate) fn packing(compression: YumCompression) -> Packing {
    match compression {
        YumCompression::Gzip => Packing::Gzip,
        YumCompression::Zstd => Packing::Zstd(ZSTD_LEVEL),
    }
}

/// The three files of packages, by their types in repomd.xml. `texts` come in the order of the index.
pub(crate) fn outlines(texts: &[Arc<Rendered>]) -> [(&'static str, Outline); 3] {
    let common = "xmlns=\"http://linux.duke.edu/metadata/common\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\"";
    let outline = |at: usize, element: &str, space: &str| Outline {
        ends: (
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{element} {space} packages=\"{}\">\n", texts.len()),
            format!("</{element}>\n"),
        ),
        pack: Pack::YUM[at],
        pieces: texts.iter().map(|rendered| Piece { package: rendered.sha256, text: rendered.texts[at] }).collect(),
    };
    [
        ("primary", outline(0, "metadata", common)),
        ("filelists", outline(1, "filelists", "xmlns=\"http://linux.duke.edu/metadata/filelists\"")),
        ("other", outline(2, "otherdata", "xmlns=\"http://linux.duke.edu/metadata/other\"")),
    ]
}

/// What repomd.xml says of a file, whose name has its digest in front.
pub(crate) fn listed(kind: &str, name: &str, (open_sha256, open_size): (Sha256, u64), body: &[u8], sha256: Sha256) -> RepoFile {
    RepoFile { kind: kind.into(), name: format!("{sha256}-{name}"), sha256, size: body.len() as u64, open_sha256, open_size }
}

/// A file that is passed on as it is, packed as the repository's owner wants it.
///
/// # Errors
/// A compressor fails, which it does only without memory.
pub(crate) fn passed_on(extra: Extra, content: Vec<u8>, compression: YumCompression) -> Result<(RepoFile, Bytes)> {
    let (kind, name, _) = extra.names();
    let failed = || format!("cannot compress {name}");
    let plain = (Sha256::of(&content), content.len() as u64);
    let (body, end) = match compression {
        // Groups are the one thing that older clients want plain under this type.
        _ if extra == Extra::Group => (content, ""),
        YumCompression::Gzip => {
            // No name and no date in the gzip header: the same text gives the same bytes.
            let mut gzip = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::new(6));
            gzip.write_all(&content).or_fail(Class::System, failed)?;
            (gzip.finish().or_fail(Class::System, failed)?, ".gz")
        }
        YumCompression::Zstd => (zstd::encode_all(content.as_slice(), ZSTD_LEVEL).or_fail(Class::System, failed)?, ".zst"),
    };
    let sha256 = Sha256::of(&body);
    Ok((listed(kind, &format!("{name}{end}"), plain, &body, sha256), body.into()))
}

/// Renders `repomd.xml`, dated `date` (seconds since 1970): its revision and the time of each file,
/// which dnf and zypper compare with what they have. All in it are digests, numbers and words of
/// ours, so nothing needs escaping; `createrepo_rs` writes it only to a file.
pub(crate) fn repomd(listing: &Listing, date: i64) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<repomd xmlns=\"http://linux.duke.edu/metadata/repo\" \
         xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\">\n  <revision>{date}</revision>\n"
    );
    for file in &listing.files {
        let _ = write!(
            text,
            "  <data type=\"{}\">\n    <checksum type=\"sha256\">{}</checksum>\n    <open-checksum type=\"sha256\">{}</open-checksum>\n    \
             <location href=\"repodata/{}\"/>\n    <timestamp>{date}</timestamp>\n    <size>{}</size>\n    <open-size>{}</open-size>\n  </data>\n",
            file.kind, file.sha256, file.open_sha256, file.name, file.size, file.open_size
        );
    }
    text.push_str("</repomd>\n");
    text
}

/// A client file for `/etc/yum.repos.d/` or `/etc/zypp/repos.d/`. `base_url` is the server
/// (`http://host:port`), `prefix` a channel or `@<snapshot>`, `origin` the project, and `keys` the
/// fingerprints of those whose packages are in it beside ours. Packages and metadata are both
/// checked. What a snapshot says never expires; a channel is looked at each time.
pub fn repo_file<'a>(base_url: &str, prefix: &str, origin: &str, keys: impl IntoIterator<Item = &'a str>) -> String {
    let base = base_url.trim_end_matches('/');
    repo_text(&format!("{base}/{prefix}"), base, prefix, origin, keys)
}

/// The same for the folder at the URL `folder`, with the keys below the URL `base`.
pub(crate) fn repo_text<'a>(folder: &str, base: &str, prefix: &str, origin: &str, keys: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let short = prefix.strip_prefix('@').map_or(prefix, |id| id.get(..12).unwrap_or(id));
    let id: String = format!("{origin}-{short}").chars().map(plain).collect();
    let expire = if prefix.starts_with('@') { "never" } else { "1" };
    let mut text = format!(
        "[{id}]\nname={origin} {short}\nbaseurl={folder}/\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\nmetadata_expire={expire}\n\
         gpgkey={base}/key.asc\n"
    );
    for key in keys {
        // A value goes on in the next line when that begins with a blank.
        let _ = writeln!(text, "       {base}/keys/{key}.asc");
    }
    text
}

/// Where an rpm is below the prefix of a channel or snapshot, as it is served with this signer.
pub(crate) fn location(package: &PoolPackage, header: &Header, signer: &Signer) -> String {
    let (version, release) = (attribute_of(header, tag::VERSION), attribute_of(header, tag::RELEASE));
    // Without the epoch, as rpmbuild names it and dnf expects it; the folder tells epochs apart.
    let file_name = format!("{}-{version}-{release}.{}.rpm", attribute_of(header, tag::NAME), architecture(package, header));
    let folder = pool_folder(&package.sha256);
    match signer {
        Signer::Ours(fingerprint) => format!("{folder}/{fingerprint}/{file_name}"),
        Signer::Upstream(_) => format!("{folder}/{file_name}"),
    }
}

fn architecture(package: &PoolPackage, header: &Header) -> String {
    if package.kind == Kind::SourceRpm { "src".to_string() } else { attribute_of(header, tag::ARCH) }
}

/// A package as the writers take it.
fn describe(package: &PoolPackage, header: &Header, served: &Served) -> Result<Package> {
    let rpm = rpm_of(package)?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let words = |tag: u32| Some(text(header.strings(tag).next().unwrap_or_default()));
    let arch = architecture(package, header);
    let (version, release) = (attribute_of(header, tag::VERSION), attribute_of(header, tag::RELEASE));
    let name = attribute_of(header, tag::NAME);
    let location = location(package, header, &served.signer);
    let mut described = Package {
        pkgid: served.sha256.to_string(),
        name,
        arch,
        version,
        epoch: Some(0),
        release,
        location,
        checksum_type: ChecksumType::Sha256,
        size_archive: number(rpm.archive_size),
        size_installed: number(header.number(tag::LONGSIZE).or_else(|| header.number(tag::SIZE)).unwrap_or(0)),
        size_package: number(served.size),
        time_file: package.date,
        time_build: number(header.number(tag::BUILDTIME).unwrap_or(0)),
        summary: words(tag::SUMMARY),
        description: words(tag::DESCRIPTION),
        packager: words(tag::PACKAGER),
        url: words(tag::URL),
        license: words(tag::LICENSE),
        vendor: words(tag::VENDOR),
        group: words(tag::GROUP),
        buildhost: words(tag::BUILDHOST),
        sourcerpm: words(tag::SOURCERPM),
        header_start: Some(number(served.header_start)),
        header_end: Some(number(served.header_start.saturating_add(rpm.header_size))),
        files: files(header),
        changelogs: changelogs(header),
        ..Package::default()
    };
    dependencies(header, &mut described);
    Ok(described)
}

/// What XML cannot hold, and the stand-ins below, which are no characters either.
fn is_forbidden(c: char) -> bool {
    (c < ' ' && !"\t\n\r".contains(c)) || ('\u{fdd0}'..='\u{fdd2}').contains(&c) || c == '\u{fffe}' || c == '\u{ffff}'
}

/// Stand-ins for characters that a parser would change if they were written as they are, and that
/// the writers do not escape; [`mend`] puts the escapes in their place.
const STAND_INS: [(char, &str); 3] = [('\u{fdd0}', "&#13;"), ('\u{fdd1}', "&#10;"), ('\u{fdd2}', "&#9;")];

/// Text of an element: UTF-8, or else Latin-1, as createrepo_c takes it; control characters left
/// out, because one of them makes the whole file unreadable.
fn text(bytes: &[u8]) -> String {
    readable(bytes).chars().filter(|c| !is_forbidden(*c)).map(|c| if c == '\r' { '\u{fdd0}' } else { c }).collect()
}

/// The same for an attribute, where line ends and tabs would become blanks.
fn attribute(bytes: &[u8]) -> String {
    let stand_in = |c| match c {
        '\n' => '\u{fdd1}',
        '\t' => '\u{fdd2}',
        other => other,
    };
    text(bytes).chars().map(stand_in).collect()
}

fn attribute_of(header: &Header, tag: u32) -> String {
    attribute(header.strings(tag).next().unwrap_or_default())
}

/// Takes the one package out of what a writer wrote and puts right what it cannot be fed:
///
/// - it writes `epoch="0"` for a dependency without a version, where createrepo_c has nothing;
/// - it holds an epoch in 31 bits, and rpm has 32;
/// - it does not escape line ends in attributes.
///
/// Quotes and angle brackets of texts are escaped, so what is looked for is always markup.
fn mend(to: &mut Vec<u8>, written: &[u8], epoch: u64) -> Option<()> {
    let written = std::str::from_utf8(written).ok()?;
    let (start, end) = (written.find("<package ")?, written.rfind("</package>")? + "</package>".len());
    let mut body = written.get(start..end)?.replacen("<version epoch=\"0\"", &format!("<version epoch=\"{epoch}\""), 1);
    for (stand_in, escape) in STAND_INS {
        if body.contains(stand_in) {
            body = body.replace(stand_in, escape);
        }
    }
    const ENTRY: &str = "<rpm:entry name=\"";
    const EPOCH: &str = " epoch=\"0\"";
    let mut rest = body.as_str();
    while let Some(at) = rest.find(ENTRY) {
        let name = at + ENTRY.len();
        let closed = name + rest.get(name..)?.find('"')? + 1;
        to.extend_from_slice(rest.get(..closed)?.as_bytes());
        rest = rest.get(closed..)?;
        // With a version, the flags come first.
        rest = rest.strip_prefix(EPOCH).unwrap_or(rest);
    }
    to.extend_from_slice(rest.as_bytes());
    to.push(b'\n');
    Some(())
}

/// What createrepo_c puts into primary: files that dependencies often name (`cr_is_primary`).
fn is_primary(path: &[u8]) -> bool {
    path.starts_with(b"/etc/") || path == b"/usr/lib/sendmail" || path.windows(4).any(|part| part == b"bin/")
}

const S_IFMT: u64 = 0o170_000;
const S_IFDIR: u64 = 0o040_000;
/// `RPMFILE_GHOST`: belongs to the package and is not in it.
const GHOST: u64 = 1 << 6;

fn paths(header: &Header) -> impl Iterator<Item = Vec<u8>> {
    let folders: Vec<&[u8]> = header.strings(tag::DIRNAMES).collect();
    let indexes = header.numbers(tag::DIRINDEXES);
    header.strings(tag::BASENAMES).zip(indexes).map(move |(name, index)| {
        let folder = usize::try_from(index).ok().and_then(|index| folders.get(index)).copied().unwrap_or_default();
        [folder, name].concat()
    })
}

fn files(header: &Header) -> Vec<PackageFile> {
    let (modes, flags) = (header.numbers(tag::FILEMODES), header.numbers(tag::FILEFLAGS));
    let kind = |mode: u64, flags: u64| match () {
        () if mode & S_IFMT == S_IFDIR => "dir",
        () if flags & GHOST != 0 => "ghost",
        () => "",
    };
    let with_kind = |((path, mode), flags): ((Vec<u8>, u64), u64)| PackageFile {
        path: text(&path),
        file_type: kind(mode, flags).to_string(),
        ..PackageFile::default()
    };
    paths(header).zip(modes).zip(flags).map(with_kind).collect()
}

/// createrepo_c's default.
const CHANGELOGS: usize = 10;

/// The last changelogs, oldest first; of those with one date the later get a later one.
fn changelogs(header: &Header) -> Vec<ChangelogEntry> {
    let dates = header.numbers(tag::CHANGELOGTIME);
    let entries = header.strings(tag::CHANGELOGNAME).zip(header.strings(tag::CHANGELOGTEXT)).zip(dates).take(CHANGELOGS);
    let mut made: Vec<ChangelogEntry> = Vec::new();
    let mut last = 0;
    for ((author, content), date) in entries {
        let date = i64::try_from(date).unwrap_or(i64::MAX);
        let kept = author.iter().rposition(|byte| *byte != b' ').map_or(author.len().min(1), |at| at + 1);
        if date == last {
            let mut moved = date;
            for newer in made.iter_mut().rev() {
                if newer.date != moved {
                    break;
                }
                newer.date = newer.date.saturating_add(1);
                moved = moved.saturating_add(1);
            }
        }
        last = date;
        made.push(ChangelogEntry { author: attribute(&author[..kept]), date, content: text(content) });
    }
    made.reverse();
    made
}

/// Flags of a dependency (`include/rpm/rpmds.h`).
mod sense {
    pub(super) const PREREQ: u64 = 1 << 6;
    pub(super) const SCRIPT_PRE: u64 = 1 << 9;
    pub(super) const SCRIPT_POST: u64 = 1 << 10;
    /// What rpm of SUSE and Mandriva wrote before there were Recommends.
    pub(super) const MISSINGOK: u64 = 1 << 19;
    pub(super) const STRONG: u64 = 1 << 27;
}

/// One dependency as the header has it.
#[derive(Clone, Copy)]
struct Raw<'a> {
    name: &'a [u8],
    flags: u64,
    version: &'a [u8],
}

impl Raw<'_> {
    /// How versions are compared, and nothing where they are not (`cr_flag_to_str`).
    fn compared(&self) -> &'static str {
        match self.flags & 0xf {
            2 => "LT",
            4 => "GT",
            8 => "EQ",
            10 => "LE",
            12 => "GE",
            _ => "",
        }
    }

    /// Nothing when the epoch is no number: createrepo_c leaves such a dependency out.
    fn dependency(&self, pre: bool) -> Option<Dependency> {
        let flags = self.compared();
        let (epoch, rest) = match self.version.iter().position(|byte| *byte == b':') {
            Some(at) => (&self.version[..at], &self.version[at + 1..]),
            None => (&b"0"[..], self.version),
        };
        let epoch = match epoch {
            b"" => 0,
            digits if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits).ok()?.parse().unwrap_or(i32::MAX),
            _ => return None,
        };
        let (version, release) = match rest.iter().position(|byte| *byte == b'-') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &b""[..]),
        };
        let word = |bytes: &[u8]| Some(attribute(bytes)).filter(|word| !word.is_empty() && !flags.is_empty());
        Some(Dependency {
            name: attribute(self.name),
            epoch: Some(epoch).filter(|_| !flags.is_empty()),
            version: word(version),
            release: word(release),
            flags: flags.to_string(),
            pre,
        })
    }
}

fn raw(header: &Header, names: u32, flags: u32, versions: u32) -> Vec<Raw<'_>> {
    let numbers = header.numbers(flags);
    let named = header.strings(names).zip(numbers).zip(header.strings(versions));
    named.map(|((name, flags), version)| Raw { name, flags, version }).collect()
}

fn dependencies(header: &Header, package: &mut Package) {
    // rpmtag.h: RPMTAG_OLDSUGGESTSNAME and what follows.
    const OLD_SUGGESTS: [u32; 3] = [1156, 1158, 1157];
    const OLD_ENHANCES: [u32; 3] = [1159, 1161, 1160];
    let plain = |names, flags, versions| -> Vec<Dependency> {
        raw(header, names, flags, versions).iter().filter(|raw| !raw.name.is_empty()).filter_map(|raw| raw.dependency(false)).collect()
    };
    package.provides = plain(tag::PROVIDENAME, tag::PROVIDEFLAGS, tag::PROVIDEVERSION);
    package.conflicts = plain(tag::CONFLICTNAME, tag::CONFLICTFLAGS, tag::CONFLICTVERSION);
    package.obsoletes = plain(tag::OBSOLETENAME, tag::OBSOLETEFLAGS, tag::OBSOLETEVERSION);
    (package.requires, package.recommends) = requires(header);
    package.suggests = plain(tag::SUGGESTNAME, tag::SUGGESTFLAGS, tag::SUGGESTVERSION);
    package.enhances = plain(tag::ENHANCENAME, tag::ENHANCEFLAGS, tag::ENHANCEVERSION);
    package.recommends.extend(plain(tag::RECOMMENDNAME, tag::RECOMMENDFLAGS, tag::RECOMMENDVERSION));
    package.supplements = plain(tag::SUPPLEMENTNAME, tag::SUPPLEMENTFLAGS, tag::SUPPLEMENTVERSION);
    for ([names, flags, versions], strong, weak) in
        [(OLD_SUGGESTS, &mut package.recommends, &mut package.suggests), (OLD_ENHANCES, &mut package.supplements, &mut package.enhances)]
    {
        for raw in raw(header, names, flags, versions).iter().filter(|raw| !raw.name.is_empty()) {
            if raw.flags & sense::STRONG != 0 { strong.extend(raw.dependency(false)) } else { weak.extend(raw.dependency(false)) }
        }
    }
}

/// Requires, and those among them that need not be met. Left out are what rpm itself provides, what
/// the package provides or has, repeats, and of libc's versions all but the highest.
fn requires(header: &Header) -> (Vec<Dependency>, Vec<Dependency>) {
    let own: HashSet<Vec<u8>> = paths(header).collect();
    let joined = |raw: &Raw<'_>| [raw.name, raw.compared().as_bytes(), raw.version].concat();
    let provided: HashSet<Vec<u8>> = raw(header, tag::PROVIDENAME, tag::PROVIDEFLAGS, tag::PROVIDEVERSION).iter().map(joined).collect();
    let (mut needed, mut wished) = (Vec::new(), Vec::new());
    let mut seen: HashMap<&[u8], (&str, &[u8], bool)> = HashMap::new();
    let mut libc: Option<(&[u8], Dependency)> = None;
    for raw in raw(header, tag::REQUIRENAME, tag::REQUIREFLAGS, tag::REQUIREVERSION) {
        let pre = raw.flags & (sense::PREREQ | sense::SCRIPT_PRE | sense::SCRIPT_POST) != 0;
        let known = (raw.compared(), raw.version, pre);
        let has_itself = raw.name.starts_with(b"/") && is_primary(raw.name) && own.contains(raw.name);
        let is_repeat = seen.get(raw.name) == Some(&known);
        if raw.name.is_empty() || raw.name.starts_with(b"rpmlib(") || has_itself || provided.contains(&joined(&raw)) || is_repeat {
            continue;
        }
        let Some(dependency) = raw.dependency(pre) else { continue };
        if raw.flags & sense::MISSINGOK != 0 {
            wished.push(Dependency { pre: false, ..dependency });
        } else if raw.name.starts_with(b"libc.so.6") {
            if libc.as_ref().is_none_or(|(name, _)| is_higher_libc(name, raw.name)) {
                libc = Some((raw.name, dependency));
            }
        } else {
            needed.push(dependency);
            seen.insert(raw.name, known);
        }
    }
    needed.extend(libc.map(|(_, dependency)| dependency));
    (needed, wished)
}

/// Whether `libc.so.6(GLIBC_2.34)(64bit)` asks for more than the other (`cr_compare_dependency`).
fn is_higher_libc(than: &[u8], name: &[u8]) -> bool {
    /// What stands in the first parentheses, from its first digit on; what has none is lowest.
    fn version(name: &[u8]) -> (u8, String) {
        let Some(open) = name.iter().position(|byte| *byte == b'(') else { return (0, String::new()) };
        let inner = &name[open + 1..];
        let Some(close) = inner.iter().position(|byte| *byte == b')') else { return (1, String::new()) };
        match inner[..close].iter().position(u8::is_ascii_digit) {
            _ if close == 0 => (2, String::new()),
            None => (3, String::new()),
            Some(at) => (4, readable(&inner[at..close])),
        }
    }
    let ((least, before), (more, after)) = (version(than), version(name));
    more > least || (more == least && compare_evr(&before, &after) == Ordering::Less)
}

/// A writer's message as an error of ours.
trait OrFailText<T> {
    fn or_fail_text(self, package: &PoolPackage) -> Result<T>;
}

impl<T> OrFailText<T> for Result<T, String> {
    fn or_fail_text(self, package: &PoolPackage) -> Result<T> {
        self.map_err(|why| Error::new(Class::System, format!("cannot write the metadata of {}: {why}", package.id)))
    }
}

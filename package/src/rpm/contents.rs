//! What a header says of files, dependencies and changes, once their lists are known to fit.

use super::header::{Header, readable, tag};
use crate::{Check, shown};

/// Files of one package; the largest in distributions have some 100,000.
const MAX_FILES: usize = 1 << 19;
/// Bytes of all paths together: a folder's name is there once, but each of its files repeats it.
const MAX_PATHS: usize = 128 << 20;
/// Bytes of one path, as Linux' PATH_MAX.
const MAX_PATH: usize = 4096;
/// Bytes of what becomes an attribute in yum's metadata: libxml2, by which libsolv of Fedora reads those, loses
/// a file in which one has more than 10,000,000, each `&` of it counted as five.
const MAX_WORD: usize = 1 << 20;
/// Dependencies of one kind.
const MAX_DEPENDENCIES: usize = 1 << 18;
/// Entries of a changelog.
const MAX_CHANGES: usize = 1 << 16;

/// `RPMSENSE_LESS`, `RPMSENSE_GREATER`, `RPMSENSE_EQUAL`: how [`Dependency::flags`] compare.
pub const SENSE_COMPARE: u32 = 2 | 4 | 8;
/// `RPMFILE_CONFIG` of [`File::flags`].
pub const FILE_CONFIG: u32 = 1;
/// `RPMFILE_DOC` of [`File::flags`].
pub const FILE_DOC: u32 = 2;
/// `RPMFILE_GHOST` of [`File::flags`]: the package owns the path but does not bring it.
pub const FILE_GHOST: u32 = 64;

/// The type in [`File::mode`], and those of plain files and symlinks.
pub(super) const TYPE: u32 = 0o170_000;
pub(super) const PLAIN: u32 = 0o100_000;
pub(super) const SYMLINK: u32 = 0o120_000;

/// One line of `Provides:`, `Requires:` and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// A package, a file, a capability, or a rich dependency in parentheses.
    pub name: String,
    /// rpm's `RPMSENSE` bits as they are: 2 less, 4 greater, 8 equal, 64 a prerequisite and more.
    pub flags: u32,
    /// The version's epoch, if it has one.
    pub epoch: Option<String>,
    /// Empty when any version does.
    pub version: String,
    /// Empty when any release does.
    pub release: String,
}

/// The kinds of dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are rpm's own")]
pub enum Kind {
    Provides,
    Requires,
    Conflicts,
    Obsoletes,
    Recommends,
    Suggests,
    Supplements,
    Enhances,
}

impl Kind {
    /// All of them, in rpm's order.
    pub const ALL: [Kind; 8] = [
        Kind::Provides,
        Kind::Requires,
        Kind::Conflicts,
        Kind::Obsoletes,
        Kind::Recommends,
        Kind::Suggests,
        Kind::Supplements,
        Kind::Enhances,
    ];

    /// The tags of names, flags and versions.
    fn tags(self) -> (u32, u32, u32) {
        match self {
            Kind::Provides => (tag::PROVIDENAME, tag::PROVIDEFLAGS, tag::PROVIDEVERSION),
            Kind::Requires => (tag::REQUIRENAME, tag::REQUIREFLAGS, tag::REQUIREVERSION),
            Kind::Conflicts => (tag::CONFLICTNAME, tag::CONFLICTFLAGS, tag::CONFLICTVERSION),
            Kind::Obsoletes => (tag::OBSOLETENAME, tag::OBSOLETEFLAGS, tag::OBSOLETEVERSION),
            Kind::Recommends => (tag::RECOMMENDNAME, tag::RECOMMENDFLAGS, tag::RECOMMENDVERSION),
            Kind::Suggests => (tag::SUGGESTNAME, tag::SUGGESTFLAGS, tag::SUGGESTVERSION),
            Kind::Supplements => (tag::SUPPLEMENTNAME, tag::SUPPLEMENTFLAGS, tag::SUPPLEMENTVERSION),
            Kind::Enhances => (tag::ENHANCENAME, tag::ENHANCEFLAGS, tag::ENHANCEVERSION),
        }
    }
}

/// All dependencies of a kind, in the order of the header.
pub fn dependencies(header: &Header, kind: Kind) -> Vec<Dependency> {
    let (names, flags, versions) = kind.tags();
    let mut flags = header.each_number(flags);
    let mut versions = header.strings(versions);
    header
        .strings(names)
        .map(|name| {
            let flags = flags.next().and_then(|flags| u32::try_from(flags).ok()).unwrap_or_default();
            let (epoch, version, release) = split_evr(&readable(versions.next().unwrap_or_default()));
            Dependency { name: readable(name), flags, epoch, version, release }
        })
        .collect()
}

/// `[epoch:]version[-release]` as createrepo_c's `cr_str_to_evr` takes it apart: what is before a
/// colon and no number is dropped.
fn split_evr(evr: &str) -> (Option<String>, String, String) {
    let (epoch, rest) = match evr.split_once(':') {
        Some((epoch, rest)) => (Some(epoch).filter(|epoch| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit())), rest),
        None => (None, evr),
    };
    let (version, release) = rest.split_once('-').unwrap_or((rest, ""));
    (epoch.map(str::to_string), version.to_string(), release.to_string())
}

/// What the digests of files were made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are names")]
pub enum DigestAlgorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    /// A number of RFC 4880, section 9.4, that rpm does not use.
    Other(u64),
}

impl DigestAlgorithm {
    pub(crate) fn of(number: u64) -> DigestAlgorithm {
        match number {
            1 => DigestAlgorithm::Md5,
            2 => DigestAlgorithm::Sha1,
            8 => DigestAlgorithm::Sha256,
            9 => DigestAlgorithm::Sha384,
            10 => DigestAlgorithm::Sha512,
            11 => DigestAlgorithm::Sha224,
            other => DigestAlgorithm::Other(other),
        }
    }

    /// Makes such digests of what it is given; none is known of [`DigestAlgorithm::Other`].
    pub(super) fn hasher(self) -> Option<Box<dyn md5::digest::DynDigest>> {
        Some(match self {
            DigestAlgorithm::Md5 => Box::new(md5::Md5::default()),
            DigestAlgorithm::Sha1 => Box::new(sha1::Sha1::default()),
            DigestAlgorithm::Sha224 => Box::new(sha2::Sha224::default()),
            DigestAlgorithm::Sha256 => Box::new(sha2::Sha256::default()),
            DigestAlgorithm::Sha384 => Box::new(sha2::Sha384::default()),
            DigestAlgorithm::Sha512 => Box::new(sha2::Sha512::default()),
            DigestAlgorithm::Other(_) => return None,
        })
    }
}

/// How the digests of files were made; without a word of it, MD5.
pub fn digest_algorithm(header: &Header) -> DigestAlgorithm {
    DigestAlgorithm::of(header.number(tag::FILEDIGESTALGO).unwrap_or(1))
}

/// One file that a package owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute; in a source package a plain name.
    pub path: Vec<u8>,
    /// As in `st_mode`: type and permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Hex, as [`digest_algorithm`] says; empty for all but plain files that the package brings.
    pub digest: String,
    /// Where a symlink leads.
    pub link: Vec<u8>,
    /// rpm's `RPMFILE` bits: 1 config, 2 doc, 64 ghost and more.
    pub flags: u32,
    /// Owner.
    pub user: String,
    /// Group.
    pub group: String,
    /// Capabilities as `cap_to_text` writes them, or empty.
    pub caps: String,
    /// The device of a device node, as 16 bits of rpm: major in the upper 8.
    pub device: u32,
}

/// All files, in the order of the header: at most 524,288, with paths of 128 MiB together.
pub fn files(header: &Header) -> Vec<File> {
    let mut modes = header.each_number(tag::FILEMODES);
    let mut sizes = header.each_number(if header.has(tag::LONGFILESIZES) { tag::LONGFILESIZES } else { tag::FILESIZES });
    let mut mtimes = header.each_number(tag::FILEMTIMES);
    let mut digests = header.strings(tag::FILEDIGESTS);
    let mut links = header.strings(tag::FILELINKTOS);
    let mut flags = header.each_number(tag::FILEFLAGS);
    let mut users = header.strings(tag::FILEUSERNAME);
    let mut groups = header.strings(tag::FILEGROUPNAME);
    let mut caps = header.strings(tag::FILECAPS);
    let mut devices = header.each_number(tag::FILERDEVS);
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    let text = |bytes: Option<&[u8]>| readable(bytes.unwrap_or_default());
    let mut all = Vec::new();
    each_path(header, |path| {
        all.push(File {
            path: path.concat(),
            mode: small(modes.next()),
            size: sizes.next().unwrap_or_default(),
            mtime: mtimes.next().and_then(|time| i64::try_from(time).ok()).unwrap_or_default(),
            digest: text(digests.next()),
            link: links.next().unwrap_or_default().to_vec(),
            flags: small(flags.next()),
            user: text(users.next()),
            group: text(groups.next()),
            caps: text(caps.next()),
            device: small(devices.next()),
        });
        Ok(())
    })
    .unwrap_or_default();
    all
}

/// Shows folder and name of every file, in order.
pub(super) fn each_path<'h>(header: &'h Header, mut show: impl FnMut([&'h [u8]; 2]) -> Check<()>) -> Check<()> {
    if header.has(tag::OLDFILENAMES) {
        return header.strings(tag::OLDFILENAMES).try_for_each(|path| show([b"", path]));
    }
    let folders: Vec<&[u8]> = header.strings(tag::DIRNAMES).take(MAX_FILES).collect();
    let mut indexes = header.each_number(tag::DIRINDEXES);
    header.strings(tag::BASENAMES).try_for_each(|name| {
        let index = indexes.next().and_then(|index| usize::try_from(index).ok());
        let folder = index.and_then(|index| folders.get(index)).ok_or_else(|| format!("{} is in no folder of its list", shown(name)))?;
        show([folder, name])
    })
}

/// One entry of the changelog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who, and most often of which version.
    pub author: String,
    /// Seconds since 1970.
    pub date: i64,
    /// What.
    pub text: String,
}

/// The changelog, newest first as rpm keeps it.
pub fn changelog(header: &Header) -> Vec<Change> {
    let mut dates = header.each_number(tag::CHANGELOGTIME);
    let mut texts = header.strings(tag::CHANGELOGTEXT);
    header
        .strings(tag::CHANGELOGNAME)
        .map(|author| Change {
            author: readable(author),
            date: dates.next().and_then(|date| i64::try_from(date).ok()).unwrap_or_default(),
            text: readable(texts.next().unwrap_or_default()),
        })
        .collect()
}

/// Checks that lists which belong together are of one length, and that every path is one.
pub(crate) fn check(header: &Header) -> Check<()> {
    TEXTS.iter().try_for_each(|tag| of_type(header, *tag, true))?;
    NUMBERS.iter().try_for_each(|tag| of_type(header, *tag, false))?;
    for kind in Kind::ALL {
        let (names, flags, versions) = kind.tags();
        of_type(header, names, true)?;
        of_type(header, flags, false)?;
        of_type(header, versions, true)?;
        // The oldest rpms have only names.
        same_length(header, names, &[], &[flags, versions], MAX_DEPENDENCIES)?;
        of_length(header, names)?;
        of_length(header, versions)?;
    }
    of_length(header, tag::CHANGELOGNAME)?;
    same_length(header, tag::CHANGELOGNAME, &[tag::CHANGELOGTIME, tag::CHANGELOGTEXT], &[], MAX_CHANGES)?;
    check_files(header)
}

const TEXTS: &[u32] = &[
    tag::NAME,
    tag::VERSION,
    tag::RELEASE,
    tag::SUMMARY,
    tag::DESCRIPTION,
    tag::LICENSE,
    tag::ARCH,
    tag::SOURCERPM,
    tag::OLDFILENAMES,
    tag::FILEDIGESTS,
    tag::FILELINKTOS,
    tag::FILEUSERNAME,
    tag::FILEGROUPNAME,
    tag::FILECAPS,
    tag::FILELANGS,
    tag::BASENAMES,
    tag::DIRNAMES,
    tag::CHANGELOGNAME,
    tag::CHANGELOGTEXT,
    tag::PAYLOADCOMPRESSOR,
    tag::PAYLOADDIGEST,
];

const NUMBERS: &[u32] = &[
    tag::EPOCH,
    tag::BUILDTIME,
    tag::SIZE,
    tag::LONGSIZE,
    tag::FILESIZES,
    tag::LONGFILESIZES,
    tag::FILEMODES,
    tag::FILERDEVS,
    tag::FILEMTIMES,
    tag::FILEFLAGS,
    tag::FILEVERIFYFLAGS,
    tag::FILEDEVICES,
    tag::FILEINODES,
    tag::FILEDIGESTALGO,
    tag::DIRINDEXES,
    tag::CHANGELOGTIME,
    tag::PAYLOADDIGESTALGO,
];

fn of_type(header: &Header, tag: u32, text: bool) -> Check<()> {
    let good = if text { header.strings(tag).next().is_some() } else { header.each_number(tag).next().is_some() };
    if header.has(tag) && !good {
        return Err(format!("tag {tag} is of another type than rpm gives it"));
    }
    Ok(())
}

/// Checks that no string of a tag is longer than clients read.
fn of_length(header: &Header, tag: u32) -> Check<()> {
    match header.strings(tag).map(<[u8]>::len).max().unwrap_or_default() {
        length if length > MAX_WORD => Err(format!(
            "tag {tag} has a string of {length} bytes, and {MAX_WORD} are allowed: clients lose all packages of an index with more"
        )),
        _ => Ok(()),
    }
}

fn same_length(header: &Header, first: u32, needed: &[u32], others: &[u32], most: usize) -> Check<usize> {
    let count = header.count(first);
    if count > most {
        return Err(format!("tag {first} has {count} values, and {most} are allowed"));
    }
    for other in needed.iter().chain(others) {
        let length = header.count(*other);
        if length != count && (needed.contains(other) || length != 0) {
            return Err(format!("tag {other} has {length} values where tag {first} has {count}"));
        }
    }
    Ok(count)
}

fn check_files(header: &Header) -> Check<()> {
    let old = header.has(tag::OLDFILENAMES);
    if old && header.has(tag::BASENAMES) {
        return Err("it names its files twice, in tags 1027 and 1117".into());
    }
    let names = if old { tag::OLDFILENAMES } else { tag::BASENAMES };
    let sizes = if header.has(tag::LONGFILESIZES) { tag::LONGFILESIZES } else { tag::FILESIZES };
    let mut needed = vec![sizes, tag::FILEMODES, tag::FILEMTIMES, tag::FILEFLAGS, tag::FILEUSERNAME, tag::FILEGROUPNAME];
    if !old {
        needed.push(tag::DIRINDEXES);
    }
    let others = [
        tag::FILEDIGESTS,
        tag::FILELINKTOS,
        tag::FILECAPS,
        tag::FILERDEVS,
        tag::FILEDEVICES,
        tag::FILEINODES,
        tag::FILEVERIFYFLAGS,
        tag::FILELANGS,
    ];
    let count = same_length(header, names, &needed, &others, MAX_FILES)?;
    if !old && header.count(tag::DIRNAMES) > count {
        return Err(format!("it has {} folders for {count} files", header.count(tag::DIRNAMES)));
    }
    let is_source = !header.has(tag::SOURCERPM);
    let mut bytes = 0_usize;
    each_path(header, |[folder, name]| {
        let path = || shown([folder, name].concat());
        bytes = bytes.saturating_add(folder.len() + name.len());
        if folder.len() + name.len() > MAX_PATH {
            return Err(format!("its path {} is longer than {MAX_PATH} bytes", path()));
        }
        if bytes > MAX_PATHS {
            return Err(format!("its paths have more than {} MiB", MAX_PATHS >> 20));
        }
        if is_source {
            // rpm unpacks them into one folder.
            let plain = folder.is_empty() && !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
            return if plain { Ok(()) } else { Err(format!("its source file {} is not a plain name", path())) };
        }
        let dots = |part: &[u8]| part.split(|byte| *byte == b'/').any(|part| matches!(part, b"." | b".."));
        let absolute =
            if old { name.starts_with(b"/") } else { folder.starts_with(b"/") && folder.ends_with(b"/") && !name.contains(&b'/') };
        if !absolute || dots(folder) || dots(name) {
            return Err(format!("its path {} is not absolute, or has . or .. in it", path()));
        }
        Ok(())
    })
}

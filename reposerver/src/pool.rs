//! What the repository holds by digest: debs, rpms, sources, and other files.
//!
//! What a package says of itself is read once, while its bytes stream in, and kept in the [catalog](crate::catalog),
//! so that a publish never opens a package:
//!
//! ```json
//! {"kind":"deb","id":{"name":"greet","version":"1.0-1","arch":"amd64"},"size":1234,"sha256":"5f2c…",
//!  "date":1767413106,"source":"greet","control":"Package: greet\n…","files":[]}
//! ```

use crate::catalog::{Catalog, Entry};
use crate::folder::RepositoryFolder;
use crate::names::PublishedNames;
use crate::{Withdrawals, apt, disk, lock, seal, workers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::NamedTempFile;
use twostage_model::error::OrFail;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Hasher, PackageId, Result, Sha256};
use twostage_package::{control, deb, rpm, version};

/// What a member of the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Debian binary package.
    Deb,
    /// One for Debian's installer, which never is on a system.
    Udeb,
    /// A Debian source package: its `.dsc`, which names the other files.
    Source,
    /// An rpm with what it installs.
    Rpm,
    /// An rpm with sources and a spec file.
    SourceRpm,
    /// No package: something that dnf is told beside the rpms.
    Extra(Extra),
}

/// What `repomd.xml` may list beside packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extra {
    /// `comps.xml`: groups of packages.
    Group,
    /// `updateinfo.xml`: advisories.
    UpdateInfo,
    /// `modules.yaml`: module streams.
    Modules,
}

impl Extra {
    /// What a file is by its content; nothing when it is none of them.
    pub fn of(content: &[u8]) -> Option<Extra> {
        let has = |kind: &Extra| content.windows(kind.names().2.len()).any(|part| part == kind.names().2.as_bytes());
        [Extra::Group, Extra::UpdateInfo, Extra::Modules].into_iter().find(has)
    }

    /// Its type in `repomd.xml`, the usual file name, and what every such file has in it.
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Extra::Group => ("group", "comps.xml", "<comps"),
            Extra::UpdateInfo => ("updateinfo", "updateinfo.xml", "<updates"),
            Extra::Modules => ("modules", "modules.yaml", "document:"),
        }
    }
}

impl Kind {
    /// Whether it is a binary or a source rpm.
    pub fn is_rpm(self) -> bool {
        matches!(self, Kind::Rpm | Kind::SourceRpm)
    }
}

/// A package in the pool, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolPackage {
    /// Binary or source.
    pub kind: Kind,
    /// Name, version, architecture (`source` for a Debian source, `src` for a source rpm).
    pub id: PackageId,
    /// Bytes of the deb, the `.dsc`, or the rpm as it came.
    pub size: u64,
    /// The package's name in the pool: digest of the deb or the `.dsc`; of an rpm's header and
    /// payload, because its signatures come and go.
    pub sha256: Sha256,
    /// When it was made, in seconds since 1970, as its archive says; 0 where it does not say.
    pub date: i64,
    /// The name of the source package.
    pub source: String,
    /// The control paragraph; empty for an rpm, whose header stays in its file.
    pub control: String,
    /// The other files of a source; none for a deb.
    #[serde(default)]
    pub files: Vec<PoolFile>,
    /// What else is known of an rpm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpm: Option<RpmFile>,
    /// What whoever publishes it is to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The parts of an rpm's file, as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RpmFile {
    /// Bytes of lead and signature header: where the header starts.
    pub prefix: u64,
    /// Bytes of the header.
    pub header_size: u64,
    /// Digest of the header.
    pub header_sha256: Sha256,
    /// Digest of the whole file.
    pub file_sha256: Sha256,
    /// Bytes of the uncompressed payload, 0 where the package does not say.
    pub archive_size: u64,
    /// Key id or fingerprint of who signed it before it came here, in lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// A file that belongs to a source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolFile {
    /// Plain file name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Sha256,
}

impl PoolPackage {
    /// The name that it has in a snapshot's list: `greet_1.0-1_amd64.deb`, `greet_1.0-1.dsc`.
    /// An epoch stays in it, with its colon as `%3a`, because it tells versions apart.
    pub fn file_name(&self) -> String {
        file_name(self.kind, &self.id.name, &self.id.version, &self.id.arch, &self.sha256)
    }
}

/// [`PoolPackage::file_name`] of its parts.
pub(crate) fn file_name(kind: Kind, name: &str, version: &str, arch: &str, sha256: &Sha256) -> String {
    let escaped = || version.replace(':', "%3a");
    match kind {
        Kind::Deb => format!("{name}_{}_{arch}.deb", escaped()),
        Kind::Udeb => format!("{name}_{}_{arch}.udeb", escaped()),
        Kind::Source => format!("{name}_{}.dsc", escaped()),
        Kind::Rpm | Kind::SourceRpm => format!("{name}-{}.{arch}.rpm", escaped()),
        // Two states of one file are no conflict: the name tells them apart.
        Kind::Extra(extra) => format!("{}-{}", sha256.short(), extra.names().1),
    }
}

impl PoolPackage {
    /// Digest of its file as it came: of the deb, the `.dsc`, or the rpm with its signatures.
    pub fn file_digest(&self) -> &Sha256 {
        self.rpm.as_ref().map_or(&self.sha256, |rpm| &rpm.file_sha256)
    }
}

/// A file kept by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Digest of the content.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
}

/// Bytes of one [`Extra`]: those of whole distributions have some ten MiB.
pub(crate) const MOST_EXTRA: usize = 128 << 20;

/// The packages by digest, what each says of itself, and other files by digest.
pub struct Pool {
    pub(crate) root: Arc<RepositoryFolder>,
    pub(crate) withdrawals: Arc<Withdrawals>,
    pub(crate) names: Arc<PublishedNames>,
    pub(crate) catalog: Catalog,
    pub(crate) packages: Mutex<HashMap<Sha256, Arc<PoolPackage>>>,
    /// Packages that came in and are not durable yet.
    pub(crate) unsynced: Mutex<HashSet<Sha256>>,
}

impl Pool {
    pub(crate) fn new(root: &Arc<RepositoryFolder>, withdrawals: &Arc<Withdrawals>, names: &Arc<PublishedNames>) -> Pool {
        let (withdrawals, names, catalog) = (Arc::clone(withdrawals), Arc::clone(names), Catalog::new(root.path()));
        Pool { root: Arc::clone(root), withdrawals, names, catalog, packages: Mutex::default(), unsynced: Mutex::default() }
    }

    /// Makes packages durable, whoever took them in.
    pub(crate) fn sync_packages<'a>(&self, entries: impl Iterator<Item = &'a Arc<Entry>> + Clone) -> Result<()> {
        let mut files = BTreeSet::new();
        for entry in entries.clone() {
            files.insert(self.pool_path(&entry.sha256));
            files.extend(entry.files.iter().map(|(digest, _)| self.pool_path(digest)));
        }
        disk::sync_files(self.root.path(), &files)?;
        let mut unsynced = lock(&self.unsynced);
        entries.for_each(|entry| {
            unsynced.remove(&entry.sha256);
        });
        Ok(())
    }

    /// Makes durable what this process took in.
    pub(crate) fn sync_new_packages(&self, entries: &[Arc<Entry>]) -> Result<()> {
        let unsynced = lock(&self.unsynced).clone();
        self.sync_packages(entries.iter().filter(|entry| unsynced.contains(&entry.sha256)))
    }

    /// Whether the package is in the pool, whole: what a power failure cut short, or a disk changed, is not.
    ///
    /// # Errors
    /// The machine cannot say: the disk fails, or there are no file descriptors left.
    pub fn contains(&self, digest: &Sha256) -> Result<bool> {
        match self.package(digest).and_then(|package| self.verify(&package)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_unread() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// What a package in the pool says of itself.
    ///
    /// # Errors
    /// It is not there.
    pub fn package(&self, digest: &Sha256) -> Result<Arc<PoolPackage>> {
        if let Some(package) = lock(&self.packages).get(digest) {
            return Ok(Arc::clone(package));
        }
        let entry = self.catalog.get(digest)?;
        let Some(package) = entry.map(|entry| self.catalog.description(&entry)).transpose()?.flatten() else {
            self.withdrawals.check_not_withdrawn(digest)?;
            let error = Error::new(Class::Repository, format!("the repository has no package {digest}"));
            return Err(error.hint(if self.pool_path(digest).is_file() { DESCRIBE_AGAIN } else { "publish or lock it first" }));
        };
        let package = Arc::new(package);
        lock(&self.packages).insert(*digest, Arc::clone(&package));
        Ok(package)
    }

    /// [`Pool::package`] of what was in the repository whole once: where the catalog lost what it says of itself, it is
    /// read from the package once more, and kept in memory.
    pub(crate) fn package_or_described(&self, digest: &Sha256) -> Result<Arc<PoolPackage>> {
        match self.package(digest) {
            Err(error) if !error.is_unread() && disk::is_file(&self.pool_path(digest))? => {
                let package = Arc::new(self.described(digest)?);
                lock(&self.packages).insert(*digest, Arc::clone(&package));
                Ok(package)
            }
            other => other,
        }
    }

    /// The entries of packages that were in the repository whole once, each once, in no order. What the catalog
    /// lost is read from the packages once more, and written to it. Under the publishers' lock.
    pub(crate) fn entries_again<'a>(&self, members: impl Iterator<Item = &'a Sha256> + Clone) -> Result<Vec<Arc<Entry>>> {
        let known: Vec<Option<Arc<Entry>>> = self.catalog.get_all(members.clone())?.into_iter().map(|(_, entry)| entry).collect();
        if let Some(mut entries) = known.into_iter().collect::<Option<Vec<_>>>() {
            unique(&mut entries);
            return Ok(entries);
        }
        let lost = self.described_again(members.clone())?;
        if lost > 0 {
            let them = if lost == 1 { "it" } else { "them" };
            self.root.mend(format!("what the catalog says of {} was read from {them} once more", count(lost, "package")));
        }
        self.entries(members)
    }

    /// A package whose description and files are whole; a description that cannot be read is made anew. Under the
    /// publishers' lock.
    pub(crate) fn described_whole(&self, digest: &Sha256) -> Result<Arc<PoolPackage>> {
        let package = match self.package(digest) {
            Err(error) if !error.is_unread() => {
                let package = self.package_or_described(digest)?;
                self.catalog.add(self.root.scratch()?, &package, &apt::paragraph_checked(&package)?)?;
                self.root.mend(format!("what the catalog says of {} was read from it once more", package.id));
                package
            }
            other => other?,
        };
        self.verify(&package).map(|()| package)
    }

    /// What a package says of itself, as it was kept before there was a catalog.
    fn earlier_description(&self, digest: &Sha256) -> Option<PoolPackage> {
        let package: PoolPackage = seal::open(&std::fs::read(self.earlier_description_path(digest)).ok()?).ok()?;
        Some(package).filter(|package| package.sha256 == *digest)
    }

    fn earlier_description_path(&self, digest: &Sha256) -> PathBuf {
        shard(&self.root.join("meta"), digest).with_extension("json")
    }

    /// Reads those packages once more that the catalog lost, and says how many. Those that came before there was a catalog
    /// are taken over.
    pub(crate) fn described_again<'a>(&self, members: impl Iterator<Item = &'a Sha256>) -> Result<usize> {
        let known = self.catalog.get_all(members)?;
        let lost: BTreeSet<Sha256> = known.iter().filter(|(_, entry)| entry.is_none()).map(|(digest, _)| *digest).collect();
        let lost: Vec<Sha256> = lost.into_iter().collect();
        let mut again = 0;
        for some in lost.chunks(DESCRIBED_AT_ONCE) {
            let read = workers::for_each(some, |digest| {
                let earlier = self.earlier_description(digest);
                let is_earlier = earlier.is_some();
                let package = match earlier {
                    Some(package) => package,
                    None if !disk::is_file(&self.pool_path(digest))? => {
                        self.withdrawals.check_not_withdrawn(digest)?;
                        let error = Error::new(Class::Repository, format!("the repository has no package {digest}"));
                        return Err(error.hint(format!(
                            "bring the good file again with `twostage publish FILE`, or take it out of the channel: `twostage remove {digest}`"
                        )));
                    }
                    None => self.described(digest)?,
                };
                let paragraph = apt::paragraph_checked(&package)?;
                Ok((package, paragraph, is_earlier))
            })?;
            let added: Vec<(&PoolPackage, &str)> = read.iter().map(|(package, paragraph, _)| (package, paragraph.as_str())).collect();
            self.catalog.add_all(self.root.scratch()?, &added)?;
            for (package, _, is_earlier) in read {
                if is_earlier {
                    let _ = std::fs::remove_file(self.earlier_description_path(&package.sha256));
                } else {
                    again += 1;
                    lock(&self.packages).insert(package.sha256, Arc::new(package));
                }
            }
        }
        Ok(again)
    }

    /// [`Pool::describe`], for whoever needs the package.
    fn described(&self, digest: &Sha256) -> Result<PoolPackage> {
        self.describe(digest).map_err(|cause| {
            let error = Error::new(Class::Repository, format!("the repository has no package {digest}")).because(cause);
            error.hint("bring the good file again, with `twostage publish FILE` or `twostage repo`")
        })
    }

    /// Reads what a package says of itself from its file in the pool. That was read to its end, and all of it checked,
    /// when it came, so its payload is not unpacked again.
    fn describe(&self, digest: &Sha256) -> Result<PoolPackage> {
        let path = self.pool_path(digest);
        let failed = || format!("cannot read {}", path.display());
        let damaged = || Error::new(Class::Repository, format!("{} is damaged, too", path.display()));
        let hint = path.display().to_string();
        let mut start = Vec::new();
        let mut file = disk::open(&path).or_fail(Class::Repository, failed)?;
        let size = file.metadata().or_fail(Class::Repository, failed)?.len();
        (&mut file).take(ARCHIVE.len() as u64).read_to_end(&mut start).or_fail(Class::Repository, failed)?;
        file.rewind().or_fail(Class::Repository, failed)?;
        if rpm::looks_like_rpm(&start) {
            // What is as it was when it was hashed is not hashed again.
            let whole = match self.root.whole_digest(digest, &file).or_fail(Class::Repository, failed)? {
                Some(whole) => whole,
                None => {
                    let (identity, whole) = rpm::prefix::digests(&mut file).or_fail(Class::Repository, failed)?;
                    if identity != Some(*digest) {
                        return Err(damaged());
                    }
                    whole
                }
            };
            file.rewind().or_fail(Class::Repository, failed)?;
            let mut package = from_rpm(rpm::describe(io::BufReader::new(file), *digest, size, &hint)?);
            package.rpm.iter_mut().for_each(|rpm| rpm.file_sha256 = whole);
            return Ok(package);
        }
        if !self.root.is_whole(&path, *digest, size)? {
            return Err(damaged());
        }
        if start == ARCHIVE {
            return deb::describe(io::BufReader::new(file), *digest, size, &hint).map(from_deb);
        }
        let mut content = Vec::new();
        file.take(MOST_EXTRA as u64).read_to_end(&mut content).or_fail(Class::Repository, failed)?;
        let text = std::str::from_utf8(&content).or_fail(Class::Repository, failed)?;
        match control::dsc_files(text) {
            Ok(parsed) => source_package(&parsed, size, *digest),
            Err(cause) => match Extra::of(&content) {
                Some(kind) => Ok(extra_package(kind, &Blob { sha256: *digest, size })),
                None => Err(Error::new(Class::Repository, format!("{hint} is no good .dsc")).because(cause)),
            },
        }
    }

    /// Opens the bytes of a deb, a `.dsc`, a source's file, or of an rpm as it came.
    ///
    /// # Errors
    /// It is not there.
    pub fn open_package(&self, digest: &Sha256) -> Result<File> {
        match self.package(digest) {
            Ok(package) => self.open_verified(&package, digest),
            Err(_) => disk::open(&self.pool_path(digest)).or_fail(Class::Repository, || format!("the repository has no package {digest}")),
        }
    }

    /// Where the bytes of a package are, or would be.
    pub fn pool_path(&self, digest: &Sha256) -> PathBuf {
        shard(&self.root.join("pool"), digest)
    }

    /// Where the bytes of a blob are, or would be.
    pub fn blob_path(&self, digest: &Sha256) -> PathBuf {
        shard(&self.root.join("blobs"), digest)
    }

    /// Keeps any file under its digest.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn put_blob(&self, input: impl Read) -> Result<Blob> {
        let (file, blob) = self.store(input, "a blob")?;
        self.withdrawals.check_not_withdrawn(&blob.sha256)?;
        let path = self.blob_path(&blob.sha256);
        if !self.root.is_whole(&path, blob.sha256, blob.size)? {
            disk::keep(file, &path)?;
            self.root.just_written(&path);
        }
        Ok(blob)
    }

    /// Writes a temporary file and hashes it on the way.
    pub(crate) fn store(&self, mut input: impl Read, what: &str) -> Result<(NamedTempFile, Blob)> {
        let failed = || format!("cannot store {what}");
        let mut file = self.root.scratch()?.file()?;
        let (mut hasher, mut size, mut buffer) = (Hasher::default(), 0, vec![0; 128 << 10]);
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    file.write_all(&buffer[..n]).or_fail(Class::System, failed)?;
                    size += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::system(failed(), error)),
            }
        }
        Ok((file, Blob { sha256: hasher.finish(), size }))
    }

    /// The entries of packages, in the order of an index: name, version, architecture.
    ///
    /// # Errors
    /// One is not in the catalog.
    pub(crate) fn entries<'a>(&self, members: impl Iterator<Item = &'a Sha256>) -> Result<Vec<Arc<Entry>>> {
        let mut entries = Vec::new();
        for (digest, entry) in self.catalog.get_all(members)? {
            let lost = || Error::new(Class::Repository, format!("the repository has no package {digest}"));
            entries.push(
                entry.ok_or_else(|| {
                    lost().hint(if self.pool_path(&digest).is_file() { DESCRIBE_AGAIN } else { "publish or lock it first" })
                })?,
            );
        }
        sort(&mut entries);
        Ok(entries)
    }
}

/// The order of an index: name, version, architecture; each package once.
pub(crate) fn sort(entries: &mut Vec<Arc<Entry>>) {
    // Those that came together came in some order, and what is in order already is sorted quickly.
    unique(entries);
    entries.sort_by(|a, b| {
        let by_version = || match a.kind.is_rpm() {
            true => rpm::compare_evr(a.version(), b.version()),
            false => version::compare(a.version(), b.version()),
        };
        let by_name = a.name().cmp(b.name()).then_with(|| a.kind.is_rpm().cmp(&b.kind.is_rpm()));
        by_name.then_with(by_version).then_with(|| (a.arch(), a.sha256).cmp(&(b.arch(), b.sha256)))
    });
}

/// Each package once.
fn unique(entries: &mut Vec<Arc<Entry>>) {
    entries.sort_unstable_by_key(|entry| entry.number);
    entries.dedup_by_key(|entry| entry.number);
}

/// Packages whose descriptions are in memory at once.
const DESCRIBED_AT_ONCE: usize = 1024;
/// What [`rpm::looks_like_rpm`] looks at.
pub(crate) const MAGIC: u64 = 4;
/// What a deb starts with (ar(5)).
pub(crate) const ARCHIVE: &[u8] = b"!<arch>\n";
/// What mends the description of a package that is in the pool.
const DESCRIBE_AGAIN: &str = "`twostage channel --repair` reads the packages of every channel once more";

pub(crate) fn source_package(parsed: &control::Dsc, size: u64, sha256: Sha256) -> Result<PoolPackage> {
    let files = parsed.files.iter().map(|listed| PoolFile { name: listed.name.clone(), size: listed.size, sha256: listed.sha256 });
    Ok(PoolPackage {
        kind: Kind::Source,
        id: PackageId::new(&parsed.source, &parsed.version, "source")?,
        size,
        sha256,
        date: 0,
        source: parsed.source.clone(),
        control: parsed.control.to_string(),
        files: files.collect(),
        rpm: None,
        notes: Vec::new(),
    })
}

pub(crate) fn extra_package(kind: Extra, blob: &Blob) -> PoolPackage {
    let (word, name, _) = kind.names();
    PoolPackage {
        kind: Kind::Extra(kind),
        id: PackageId { name: name.into(), version: blob.sha256.short(), arch: word.into() },
        size: blob.size,
        sha256: blob.sha256,
        date: 0,
        source: String::new(),
        control: String::new(),
        files: Vec::new(),
        rpm: None,
        notes: Vec::new(),
    }
}

pub(crate) fn from_deb(deb: deb::Deb) -> PoolPackage {
    PoolPackage {
        kind: if deb.is_udeb { Kind::Udeb } else { Kind::Deb },
        id: deb.id,
        size: deb.size,
        sha256: deb.sha256,
        date: deb.date,
        source: deb.source,
        control: deb.control.to_string(),
        files: Vec::new(),
        rpm: None,
        notes: deb.notes,
    }
}

/// The digest of the file is set when it is known.
pub(crate) fn from_rpm(rpm: rpm::Rpm) -> PoolPackage {
    let file = RpmFile {
        prefix: rpm.prefix,
        header_size: rpm.header_size,
        header_sha256: rpm.header_sha256,
        file_sha256: rpm.sha256,
        archive_size: rpm.archive_size,
        signer: rpm.signer,
    };
    PoolPackage {
        kind: if rpm.is_source { Kind::SourceRpm } else { Kind::Rpm },
        id: rpm.id,
        size: rpm.size,
        sha256: rpm.sha256,
        date: rpm.date,
        source: rpm.source,
        control: String::new(),
        files: Vec::new(),
        rpm: Some(file),
        notes: Vec::new(),
    }
}

/// `<root>/ab/<digest>`: folders stay small.
pub(crate) fn shard(root: &Path, digest: &Sha256) -> PathBuf {
    let name = digest.to_string();
    root.join(&name[..2]).join(name)
}

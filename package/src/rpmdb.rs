//! rpm's database, read from any place that can hand out files by path: what is installed.
//!
//! ```text
//! usr/lib/sysimage/rpm/, var/lib/rpm/   one of them, or one a link to the other
//!   rpmdb.sqlite       Fedora 33, RHEL 9 and later: table Packages(hnum, blob)
//!   rpmdb.sqlite-wal   changes that are not in it yet; empty after a clean end
//!   Packages.db        ndb: openSUSE, SLE 15 and later
//!   Packages           Berkeley DB: RHEL 8 and earlier; refused by name
//! ```
//!
//! Each package is its header without the magic. Public keys that rpm trusts are pseudo packages
//! named `gpg-pubkey`.
//!
//! Bounds: no byte of the file is read twice; 100,000 packages, 2,000,000 files and 256 MiB of paths
//! in all; of one header 64 MiB and what [`Header::parse`] allows. The size of the file is bounded
//! by who hands it out.

use crate::dpkg::Files;
use crate::rpm::{self, DigestAlgorithm, FILE_CONFIG, FILE_GHOST, Header, header, tag};
use crate::{Check, shown};
use memchr::memmem;
use twostage_model::{Class, Error, PackageId, Result, Sha256};

mod ndb;
mod sqlite;

/// Where databases are.
pub const FOLDERS: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
/// The files of a database that [`Database::read`] asks for.
pub const NAMES: [&str; 5] = ["rpmdb.sqlite", "rpmdb.sqlite-wal", "rpmdb.sqlite-journal", "Packages.db", "Packages"];

const MAX_PACKAGES: usize = 100_000;
const MAX_FILES: usize = 2_000_000;
const MAX_PATHS: usize = 256 << 20;
/// How a key begins in the description of its pseudo package.
const KEY_START: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK";
/// So many bytes from there tell keys apart.
const KEY_BYTES: usize = 160;
/// Keys whose beginnings are compared.
const MAX_KEYS: usize = 1000;
/// `RPMTAG_FILESTATES`: what became of each file.
const FILESTATES: u32 = 1029;
/// `RPMVERIFY_FILEDIGEST` and `RPMVERIFY_LINKTO` of `FILEVERIFYFLAGS`.
const VERIFY_DIGEST: u64 = 1;
const VERIFY_LINK: u64 = 4;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// An rpm database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Its file, as it was asked for.
    pub path: String,
    /// Every package, in the order that they were installed in (ndb: of their place).
    pub packages: Vec<Package>,
    /// Keys that it trusts, in the same order.
    pub keys: Vec<Key>,
    /// The first bytes of every armored key that stands in a header.
    key_starts: Vec<Vec<u8>>,
    /// The same of keys in parts of the file that are not in use: what is left of a key after it
    /// was erased, until the database is rebuilt.
    erased_keys: Vec<Vec<u8>>,
}

/// One package of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Name, `[epoch:]version-release`, architecture.
    pub id: PackageId,
    /// Seconds since 1970.
    pub install_time: i64,
    /// How the files' digests were made.
    pub algorithm: DigestAlgorithm,
    /// What it owns, folders too.
    pub files: Vec<File>,
}

/// A file, folder or link that a package owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Without the leading slash.
    pub path: Vec<u8>,
    /// As in `st_mode`: type and permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Hex, as [`Package::algorithm`] says; empty for all but plain files.
    pub digest: String,
    /// Where a symlink leads.
    pub link: Vec<u8>,
    /// rpm's `RPMFILE` bits, such as [`FILE_CONFIG`] and [`FILE_GHOST`].
    pub flags: u32,
    /// Whether rpm itself would call other content a fault: not where another package's file took
    /// its place, nor where the spec file says `%verify(not ...)`.
    pub verified: bool,
}

/// What the content of a path has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A file with this digest.
    Content(Sha256),
    /// A file with this MD5: all that dpkg's database knows.
    Md5([u8; 16]),
    /// A symlink to this.
    Link(Vec<u8>),
}

/// A public key in the database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `gpg-pubkey-<version>-<release>`: of the key's id and the time that it was made.
    pub name: String,
    /// Whose it is, as the database says.
    pub owner: String,
}

impl File {
    /// The package owns the path, but something else makes what is there.
    pub fn is_ghost(&self) -> bool {
        self.flags & FILE_GHOST != 0
    }
}

impl Package {
    /// What has to be at a file's path. None where it may change (settings, ghosts) and where the
    /// database does not say (folders, devices, digests other than SHA-256).
    pub fn expected(&self, file: &File) -> Option<Expected> {
        if !file.verified || file.flags & (FILE_CONFIG | FILE_GHOST) != 0 {
            return None;
        }
        match file.mode & S_IFMT {
            S_IFREG if self.algorithm == DigestAlgorithm::Sha256 => file.digest.parse().ok().map(Expected::Content),
            S_IFLNK if !file.link.is_empty() => Some(Expected::Link(file.link.clone())),
            _ => None,
        }
    }
}

impl Database {
    /// Reads the database. None if there is none.
    ///
    /// # Errors
    /// A database that is malformed, of a kind that cannot be read, or whose last changes are only
    /// in the journal beside it; two databases.
    pub fn read(files: &dyn Files) -> Result<Option<Database>> {
        let mut found: Option<(String, &[u8])> = None;
        for folder in FOLDERS {
            for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
                let path = format!("{folder}/{name}");
                let Some(bytes) = files.read(&path) else { continue };
                match &found {
                    // One folder is a link to the other.
                    Some((_, first)) if std::ptr::eq(*first, bytes) => {}
                    Some((first, _)) => {
                        return Err(wrong(&path, &format!("it is a second rpm database beside {first}"))
                            .hint("remove the one that the distribution's rpm does not use"));
                    }
                    None => found = Some((path, bytes)),
                }
            }
        }
        let Some((path, bytes)) = found else { return Ok(None) };
        for ending in ["-wal", "-journal"] {
            let journal = format!("{path}{ending}");
            // A journal that was gone through may be kept with zeros at its start.
            let pending = files.read(&journal).filter(|bytes| bytes.iter().take(28).any(|byte| *byte != 0));
            if let Some(pending) = pending {
                return Err(wrong(&journal, &format!("{} bytes of changes are not in the rpm database yet", pending.len()))
                    .hint("something ended rpm before it closed its database; `rpmdb --rebuilddb` in the same RUN brings them in"));
            }
        }
        Database::parse(bytes, &path).map(Some)
    }

    /// Reads the bytes of a database; `path` names it in messages.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub fn parse(bytes: &[u8], path: &str) -> Result<Database> {
        let mut collected = Collected::default();
        let read = if bytes.is_empty() {
            // What a broken RUN leaves, or a hand that wanted to hide what is installed.
            Err("it is empty".into())
        } else if bytes.starts_with(sqlite::MAGIC) {
            collected.sqlite(bytes)
        } else if bytes.starts_with(ndb::MAGIC) {
            ndb::blobs(bytes, |blob| collected.header(blob))
        } else if is_berkeley(bytes) {
            return Err(wrong(path, "it is an rpm database in Berkeley DB, which is not read")
                .hint("take a base whose rpm writes sqlite or ndb (RHEL 9, Fedora 33, openSUSE Leap 15.3 or later)"));
        } else {
            Err("it is no rpm database of a kind that is known".into())
        };
        let live = read.map_err(|why| wrong(path, &why))?;
        let is_live = |at: usize| {
            let before = live.partition_point(|(start, _)| *start <= at);
            before.checked_sub(1).and_then(|index| live.get(index)).is_some_and(|(_, end)| at < *end)
        };
        let erased = memmem::find_iter(bytes, KEY_START).filter(|at| !is_live(*at)).take(MAX_KEYS);
        let erased_keys = erased.map(|at| key_at(bytes, at)).collect();
        let Collected { packages, keys, key_starts, .. } = collected;
        Ok(Database { path: path.into(), packages, keys, key_starts, erased_keys })
    }

    /// How many erased keys can still be read in the file, without those that `base` has in any way.
    pub fn erased_keys(&self, base: Option<&Database>) -> usize {
        let known =
            |start: &&Vec<u8>| base.is_some_and(|base| base.key_starts.iter().chain(&base.erased_keys).any(|known| same_key(known, start)));
        self.erased_keys.iter().filter(|start| !known(start)).count()
    }
}

fn wrong(path: &str, what: &str) -> Error {
    Error::new(Class::Runtime, format!("{path}: {what}"))
}

/// A hash or B-tree of Berkeley DB, of either byte order: its magic is at byte 12 of the first page.
fn is_berkeley(bytes: &[u8]) -> bool {
    let magic = bytes.get(12..16).and_then(|bytes| bytes.first_chunk::<4>().copied()).unwrap_or_default();
    [0x0006_1561_u32, 0x0005_3162].iter().any(|known| known.to_le_bytes() == magic || known.to_be_bytes() == magic)
}

fn key_at(bytes: &[u8], at: usize) -> Vec<u8> {
    bytes.get(at..bytes.len().min(at + KEY_BYTES)).unwrap_or_default().to_vec()
}

/// Whether two beginnings are of one key. The end of a page may cut either, but 80 bytes hold the
/// marker, rpm's line with its version, and the time that the key was made.
fn same_key(one: &[u8], other: &[u8]) -> bool {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    same >= 80.min(one.len()).min(other.len())
}

#[derive(Default)]
struct Collected {
    packages: Vec<Package>,
    keys: Vec<Key>,
    key_starts: Vec<Vec<u8>>,
    files: usize,
    paths: usize,
}

impl Collected {
    fn sqlite(&mut self, bytes: &[u8]) -> Check<Vec<(usize, usize)>> {
        let mut reader = sqlite::Reader::new(bytes)?;
        let found = reader.rows("Packages", |_, row| match row {
            // The number is the row's id, so that the column itself holds nothing.
            [sqlite::Value::Null | sqlite::Value::Integer(_), sqlite::Value::Blob(blob)] => self.header(blob),
            _ => Err("it is not a number and a header".into()),
        })?;
        if found { Ok(reader.live()) } else { Err("it has no table Packages".into()) }
    }

    fn header(&mut self, blob: &[u8]) -> Check<()> {
        if self.packages.len() + self.keys.len() >= MAX_PACKAGES {
            return Err(format!("it is one of more than {MAX_PACKAGES} packages"));
        }
        let room = MAX_KEYS.saturating_sub(self.key_starts.len());
        self.key_starts.extend(memmem::find_iter(blob, KEY_START).take(room).map(|at| key_at(blob, at)));
        let header = Header::parse(blob).map_err(|error| error.to_string())?;
        let text = |tag: u32, name: &str| header::strict(&header, tag, name)?.ok_or_else(|| format!("its header has no tag {name}"));
        let (name, version, release) = (text(tag::NAME, "NAME")?, text(tag::VERSION, "VERSION")?, text(tag::RELEASE, "RELEASE")?);
        if name == "gpg-pubkey" {
            let owner = header.text(tag::PACKAGER).or_else(|| header.text(tag::SUMMARY)).unwrap_or_default();
            self.keys.push(Key { name: format!("gpg-pubkey-{version}-{release}"), owner: shown(owner) });
            return Ok(());
        }
        let evr = match header.number(tag::EPOCH) {
            None | Some(0) => format!("{version}-{release}"),
            Some(epoch) => format!("{epoch}:{version}-{release}"),
        };
        let arch = text(tag::ARCH, "ARCH")?;
        let id = PackageId::rpm(&name, &evr, &arch).map_err(|error| error.to_string())?;
        let mut states = header.numbers(FILESTATES).into_iter();
        let mut verify = header.numbers(tag::FILEVERIFYFLAGS).into_iter();
        let mut files = Vec::new();
        for file in rpm::files(&header) {
            // State 0 is normal; others were replaced, left out, or are of another architecture's package.
            let normal = states.next().unwrap_or_default() == 0;
            let bits = verify.next().unwrap_or(u64::MAX);
            let wanted = if file.mode & S_IFMT == S_IFLNK { VERIFY_LINK } else { VERIFY_DIGEST };
            let path = file.path.strip_prefix(b"/").unwrap_or(&file.path).to_vec();
            self.paths += path.len();
            self.files += 1;
            if self.files > MAX_FILES || self.paths > MAX_PATHS {
                return Err(format!("all packages up to it have more than {MAX_FILES} files or {} MiB of paths", MAX_PATHS >> 20));
            }
            files.push(File {
                path,
                mode: file.mode,
                size: file.size,
                digest: file.digest,
                link: file.link,
                flags: file.flags,
                verified: normal && bits & wanted != 0,
            });
        }
        let install_time = header.number(tag::INSTALLTIME).and_then(|time| i64::try_from(time).ok()).unwrap_or_default();
        self.packages.push(Package { id, install_time, algorithm: rpm::digest_algorithm(&header), files });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Whether the files of the repository are what they were when they came.
//!
//! A file of the pool is hashed when it is first relied on, and again when its stamp (inode, size, times)
//! is another. What was found good is remembered, in memory and in `verified`: [`START`], then a record of 116 bytes
//! for each file, numbers little-endian:
//!
//! ```text
//! key       32 bytes: the digest of a file of the pool; of another file the digest of its path below the root
//! whole     32 bytes: of an rpm of the pool, which is not called by it, the digest of all of it; else zeros
//! size      u64, bytes
//! inode     u64
//! modified  i64, nanoseconds since 1970
//! changed   i64, the same
//! folder    u64, of the stamp of the file's folder when the file was looked at last; 0 where that is not known
//! looked    i64, when that was, in seconds since 1970
//! crc       u32, CRC-32 of what is in front of it
//! ```
//!
//! While the stamp of its folder is the same, no file came there, went, or was replaced since this one was looked at, so
//! that [`Verify::ChangedFolders`] does not look at it.
//!
//! That file is only a memory: without it, or on another disk, every file is hashed once more. See
//! `docs/decisions/damage.md`.

use crate::catalog::{Entry, Rendered, crc};
use crate::folder::RepositoryFolder;
use crate::{Channel, Pool, PoolPackage, Repository, Signing, disk, lock, workers};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use twostage_model::{Class, DigestMap, DigestSet, Error, Result, Sha256, date};
use twostage_package::rpm::prefix;

/// How long a file counts as verified in one process: a disk may lose a byte and no stamp changes.
const TRUSTED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the stamp of a folder counts instead of that of a file, in seconds: a file that was written to in its place
/// is found then.
const FOLDER_TRUSTED: i64 = 24 * 60 * 60;
/// How old a change of a folder is, in seconds, before its stamp is relied on: of two changes in one tick of the file
/// system's clock the second is not seen.
const FOLDER_AT_REST: i64 = 2;
/// Files that are hashed at once, at most. A second reader of one waits for the first.
const AT_ONCE: usize = 16;
/// Files that are looked at in one go, by one thread: more takes longer than starting the next.
const RUN: usize = 256;
/// Packages that one message names.
const NAMED: usize = 5;

/// What is known of the repository's files.
#[derive(Default)]
pub(crate) struct Health {
    seen: Mutex<Seen>,
    hashing: [Mutex<()>; AT_ONCE],
    mended: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Seen {
    loaded: bool,
    /// By key: see above.
    files: DigestMap<Verified>,
    /// Not yet in `verified`.
    new: Vec<Sha256>,
    /// Records that `verified` has.
    records: usize,
}

/// What `verified` starts with. A file with another start is one of an earlier version: nothing is known then.
const START: &[u8; 16] = b"twostage v3\n\0\0\0\0";
/// Bytes of a record in `verified`.
const RECORD: usize = 116;
/// Those of them that the checksum is of.
const SUMMED: usize = 112;

/// How closely a channel's packages are looked at before it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// The stamp of each file.
    EachFile,
    /// The stamp of each file whose folder has another stamp than when the file was looked at last, and of each file once a
    /// day. A file that was written to in its place meanwhile is found by the server, which hashes a file whose stamp is
    /// another before it gives it to anybody.
    ChangedFolders,
}

/// What is known of a file that was found good.
#[derive(Debug, Clone, Copy)]
struct Verified {
    stamp: Stamp,
    /// Of an rpm of the pool: the digest of all of it.
    whole: Option<Sha256>,
    /// [`Stamp::short`] of its folder when it was looked at last; 0 where that is not known.
    folder: u64,
    /// When that was, in seconds since 1970.
    looked: i64,
    at: Instant,
}

impl Verified {
    fn record(&self, key: &Sha256) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..32].copy_from_slice(key.as_bytes());
        if let Some(whole) = &self.whole {
            record[32..64].copy_from_slice(whole.as_bytes());
        }
        let Stamp { size, inode, modified, changed } = self.stamp;
        let numbers = [size, inode, modified.cast_unsigned(), changed.cast_unsigned(), self.folder, self.looked.cast_unsigned()];
        for (place, number) in record[64..SUMMED].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc(&record[..SUMMED]);
        record[SUMMED..].copy_from_slice(&sum.to_le_bytes());
        record
    }

    fn read(record: &[u8], at: Instant) -> Option<(Sha256, Verified)> {
        let (record, sum) = record.split_last_chunk::<4>()?;
        if crc(record).to_le_bytes() != *sum {
            return None;
        }
        let (key, rest) = record.split_first_chunk::<32>()?;
        let (whole, numbers) = rest.split_first_chunk::<32>()?;
        let mut numbers = numbers.chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes));
        let mut number = || numbers.next()?.ok();
        let (size, inode) = (number()?, number()?);
        let stamp = Stamp { size, inode, modified: number()?.cast_signed(), changed: number()?.cast_signed() };
        let whole = Some(Sha256::from_bytes(*whole)).filter(|_| *whole != [0; 32]);
        let (folder, looked) = (number()?, number()?.cast_signed());
        Some((Sha256::from_bytes(*key), Verified { stamp, whole, folder, looked, at }))
    }

    /// Whether it counts for a file that has this stamp now.
    fn is_of(&self, stamp: Stamp) -> bool {
        self.stamp == stamp && self.at.elapsed() < TRUSTED
    }

    /// Whether it counts for a file whose folder has this stamp now.
    fn is_below(&self, folder: u64, now: i64) -> bool {
        self.folder == folder && (0..FOLDER_TRUSTED).contains(&now.saturating_sub(self.looked))
    }
}

/// What changes when a file is written to, or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    inode: u64,
    modified: i64,
    changed: i64,
}

impl Stamp {
    fn new(size: u64, inode: u64, modified: (i64, i64), changed: (i64, i64)) -> Stamp {
        let nanoseconds = |(seconds, rest): (i64, i64)| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Stamp { size, inode, modified: nanoseconds(modified), changed: nanoseconds(changed) }
    }

    /// Of a file below an open folder, by a path; nothing where that is no file.
    fn at(folder: impl AsFd, path: &str) -> Option<Stamp> {
        let stat = rustix::fs::statat(folder, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
        let nanoseconds = |rest: u64| i64::try_from(rest).unwrap_or(0);
        is_file.then(|| {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            Stamp::new(
                size,
                stat.st_ino,
                (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
                (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            )
        })
    }

    fn of(meta: &Metadata) -> Stamp {
        Stamp::new(meta.size(), meta.ino(), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()))
    }

    /// Whether it can be relied on: of two changes in one tick of the clock the second is not seen.
    fn is_at_rest(&self, now: i64) -> bool {
        self.modified.max(self.changed) < now.saturating_sub(FOLDER_AT_REST).saturating_mul(1_000_000_000)
    }

    /// Eight bytes of its digest.
    fn short(&self) -> u64 {
        let numbers = [self.size, self.inode, self.modified.cast_unsigned(), self.changed.cast_unsigned()];
        let digest = Sha256::of(numbers.map(u64::to_le_bytes).as_flattened());
        digest.as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

/// The folders of files by digest, each opened once: a look at a file then follows no path.
struct Shards {
    root: PathBuf,
    folders: [OnceLock<Option<OwnedFd>>; 256],
    /// [`Stamp::short`] of each: nothing where it is no folder, or has changed just now. Empty where each file is looked at.
    stamps: Vec<Option<u64>>,
}

impl Shards {
    fn of(root: PathBuf, verify: Verify, now: i64) -> Shards {
        let stamp = |shard: u8| {
            let meta = fs::symlink_metadata(root.join(format!("{shard:02x}"))).ok().filter(Metadata::is_dir)?;
            Some(Stamp::of(&meta)).filter(|stamp| stamp.is_at_rest(now)).map(|stamp| stamp.short())
        };
        let stamps = match verify {
            Verify::EachFile => Vec::new(),
            Verify::ChangedFolders => (0..=u8::MAX).map(stamp).collect(),
        };
        Shards { root, folders: [const { OnceLock::new() }; 256], stamps }
    }

    /// The stamp of the folder that a file is in.
    fn folder(&self, digest: &Sha256) -> Option<u64> {
        self.stamps.get(usize::from(digest.as_bytes()[0])).copied().flatten()
    }

    /// How a file that is known is now.
    fn look(&self, digest: &Sha256, known: &Verified, now: i64) -> Look {
        let folder = self.folder(digest);
        if folder.is_some_and(|folder| known.is_below(folder, now)) {
            return Look::Settled;
        }
        match self.stamp(digest).filter(|stamp| known.is_of(*stamp)) {
            Some(_) => folder.map_or(Look::Settled, Look::Seen),
            None => Look::Unsure,
        }
    }

    /// Of a file; nothing where there is none.
    fn stamp(&self, digest: &Sha256) -> Option<Stamp> {
        let slot = &self.folders[usize::from(digest.as_bytes()[0])];
        digest.with_digits(|name| {
            let open = || {
                let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
                rustix::fs::open(self.root.join(&name[..2]), flags, rustix::fs::Mode::empty()).ok()
            };
            match slot.get_or_init(open) {
                Some(folder) => Stamp::at(folder, name),
                // Too many files are open.
                None => Stamp::at(rustix::fs::CWD, self.root.join(&name[..2]).join(name).to_str()?),
            }
        })
    }
}

/// What a look at a file says.
enum Look {
    /// It is as it was, and there is nothing to remember of that.
    Settled,
    /// It is as it was, in a folder with this stamp.
    Seen(u64),
    /// It has to be hashed.
    Unsure,
}

/// What a file is to be.
struct Wanted {
    /// Of all of it, or of what follows the first `skip` bytes.
    sha256: Sha256,
    skip: u64,
    /// Of all of it, where `skip` is not 0.
    whole: Option<Sha256>,
    size: Option<u64>,
}

impl Pool {
    /// Opens the bytes of a package, or of a source's file, of which it is known that they are what they
    /// were when they came: looked at now, or earlier and the file is the same since.
    ///
    /// # Errors
    /// They are not there, or not what they were.
    pub(crate) fn open_verified(&self, package: &PoolPackage, digest: &Sha256) -> Result<File> {
        let opened = self.root.open_checked(&self.pool_path(digest), &wanted(package, digest));
        opened.map_err(|cause| {
            let unread = cause.is_unread();
            let wrong = if unread { "cannot be read" } else { "is damaged" };
            let error = Error::new(Class::Repository, format!("the file of {} in the pool {wrong}", package.id)).because(cause);
            if unread { error } else { error.hint(bring_again(&[package])) }
        })
    }

    /// Whether every file of these packages is what it was when it came. A file whose stamp is the one that it had when
    /// it was hashed is not opened. All that are not are named.
    pub(crate) fn verify_entries(&self, entries: &[Arc<Entry>], verify: Verify) -> Result<()> {
        self.root.load_stamps();
        let (unsure, looked) = (Mutex::new(DigestSet::default()), Mutex::new(Vec::new()));
        let now = date::now();
        {
            let seen = lock(&self.root.health.seen);
            let pool = Shards::of(self.root.join("pool"), verify, now);
            workers::for_runs(entries, RUN, |entry| {
                let mut all = std::iter::once((entry.sha256, entry.size)).chain(entry.files.iter().copied());
                let good = all.all(|(digest, size)| {
                    let known = seen.files.get(&digest).filter(|known| known.stamp.size == size);
                    match known.map_or(Look::Unsure, |known| pool.look(&digest, known, now)) {
                        Look::Settled => true,
                        Look::Seen(folder) => {
                            lock(&looked).push((digest, folder));
                            true
                        }
                        Look::Unsure => false,
                    }
                });
                if !good {
                    lock(&unsure).insert(entry.sha256);
                }
                Ok(())
            })?;
        }
        self.root.remember_looks(&lock(&looked), now);
        let unsure = std::mem::take(&mut *lock(&unsure));
        let packages: Vec<Arc<PoolPackage>> = entries
            .iter()
            .filter(|entry| unsure.contains(&entry.sha256))
            .map(|entry| self.package_or_described(&entry.sha256))
            .collect::<Result<_>>()?;
        self.verify_all(&packages)
    }

    /// Whether every file of a package is what it was when it came.
    ///
    /// # Errors
    /// Which one is not.
    pub(crate) fn verify(&self, package: &PoolPackage) -> Result<()> {
        self.open_verified(package, &package.sha256)?;
        package.files.iter().try_for_each(|file| self.open_verified(package, &file.sha256).map(drop))
    }

    /// The same of many. All that are not are named.
    pub(crate) fn verify_all(&self, packages: &[Arc<PoolPackage>]) -> Result<()> {
        let mut damaged = Vec::new();
        for package in packages {
            match self.verify(package) {
                Ok(()) => {}
                Err(error) if error.is_unread() => return Err(error),
                Err(error) => damaged.push((package.as_ref(), error)),
            }
        }
        let names: Vec<&PoolPackage> = damaged.iter().map(|(package, _)| *package).collect();
        match damaged.len() {
            0 => Ok(()),
            1 => Err(damaged.remove(0).1),
            count => {
                let named = names.iter().take(NAMED).map(|package| package.id.to_string()).collect::<Vec<_>>().join(", ");
                let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
                let hint = bring_again(&names);
                let what = format!("{count} packages of the pool are damaged: {named}{more}");
                Err(Error::new(Class::Repository, what).because(damaged.remove(0).1).hint(hint))
            }
        }
    }

    /// Opens a blob of which it is known that it is what it was.
    ///
    /// # Errors
    /// It is not there, or not what it was.
    pub fn verify_blob(&self, digest: &Sha256) -> Result<()> {
        let wanted = Wanted { sha256: *digest, skip: 0, whole: None, size: None };
        self.root.open_checked(&self.blob_path(digest), &wanted).map(drop)
    }

    /// Forgets all stamps: everything is hashed again.
    pub(crate) fn forget(&self) {
        *lock(&self.root.health.seen) = Seen { loaded: true, records: usize::MAX / 2, ..Seen::default() };
        lock(&self.packages).clear();
    }

    /// Writes down what was verified since. Only a memory, so it is no error where that cannot be. Under
    /// the publishers' lock.
    pub(crate) fn remember(&self) {
        // What is not durable yet may be another after a power failure, with the same stamp.
        let mut unsynced: DigestSet = lock(&self.unsynced).iter().copied().collect();
        let others: Vec<_> = unsynced.iter().filter_map(|digest| self.package(digest).ok()).collect();
        unsynced.extend(others.iter().flat_map(|package| package.files.iter().map(|file| file.sha256)));
        let mut seen = lock(&self.root.health.seen);
        let (later, new): (Vec<_>, Vec<_>) = std::mem::take(&mut seen.new).into_iter().partition(|key| unsynced.contains(key));
        seen.new = later;
        if new.is_empty() {
            return;
        }
        let path = self.root.join("verified");
        // Twice as many records as files, a torn one, or a file of another version: time for a new file.
        let torn = |meta: Metadata| meta.len().checked_sub(START.len() as u64).is_none_or(|rest| !rest.is_multiple_of(RECORD as u64));
        let anew = fs::metadata(&path).map_or(true, torn) || seen.records.saturating_add(new.len()) > 64 + 2 * seen.files.len();
        let keys: Vec<Sha256> = if anew { seen.files.keys().copied().filter(|key| !unsynced.contains(key)).collect() } else { new };
        seen.records = if anew { keys.len() } else { seen.records + keys.len() };
        let start = if anew { START.as_slice() } else { &[] };
        let records = keys.iter().filter_map(|key| Some(seen.files.get(key)?.record(key)));
        let bytes: Vec<u8> = start.iter().copied().chain(records.flatten()).collect();
        let written = File::options().create(true).write(true).truncate(anew).append(!anew).open(&path);
        let _ = written.and_then(|mut file| file.write_all(&bytes));
    }
}

impl Signing {
    /// Those of the packages that we signed whose signature's file has another stamp than when it was last found good.
    pub(crate) fn unsure_signatures(&self, texts: &[Arc<Rendered>], key: &str, verify: Verify) -> Result<Vec<Arc<Rendered>>> {
        self.root.load_stamps();
        let (unsure, looked) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let now = date::now();
        {
            let seen = lock(&self.root.health.seen);
            let signed = Shards::of(self.signed_folder(key), verify, now);
            workers::for_runs(texts, RUN, |rendered| {
                if *rendered.key != *key {
                    return Ok(());
                }
                let name = self.root.key_of(&self.signed_path(key, &rendered.sha256));
                match seen.files.get(&name).map_or(Look::Unsure, |known| signed.look(&rendered.sha256, known, now)) {
                    Look::Settled => {}
                    Look::Seen(folder) => lock(&looked).push((name, folder)),
                    Look::Unsure => lock(&unsure).push(Arc::clone(rendered)),
                }
                Ok(())
            })?;
        }
        self.root.remember_looks(&lock(&looked), now);
        Ok(std::mem::take(&mut *lock(&unsure)))
    }
}

impl Repository {
    /// Whether a file of the pool may be passed on: not what was left by somebody who was killed, which nobody
    /// relies on.
    ///
    /// # Errors
    /// It is damaged, and something relies on it.
    pub fn is_good(&self, digest: &Sha256) -> Result<bool> {
        let package = if self.names.was_published(digest)? { self.pool.package_or_described(digest) } else { self.pool.package(digest) };
        match package {
            Ok(package) => self.pool.open_verified(&package, digest).map(|_| true),
            Err(error) if error.is_unread() => Err(error),
            Err(error) => {
                let plain = Wanted { sha256: *digest, skip: 0, whole: None, size: None };
                let good = disk::usable(self.root.open_checked(&self.pool.pool_path(digest), &plain))?.is_some();
                if !good && self.names.was_published(digest)? { Err(error) } else { Ok(good) }
            }
        }
    }

    /// Whether all that a channel is made of is there, as it came.
    ///
    /// # Errors
    /// What is not.
    pub fn verify_channel(&self, channel: &Channel) -> Result<()> {
        self.pool.verify_entries(&self.pool.entries(channel.members.values().flatten())?, Verify::EachFile)
    }
}

impl RepositoryFolder {
    /// Whether the file at the place of a digest is that.
    ///
    /// # Errors
    /// The system does not let it be read.
    pub(crate) fn is_whole(&self, path: &Path, sha256: Sha256, size: u64) -> Result<bool> {
        let wanted = Wanted { sha256, skip: 0, whole: None, size: Some(size) };
        Ok(disk::usable(self.open_checked(path, &wanted))?.is_some())
    }

    fn open_checked(&self, path: &Path, wanted: &Wanted) -> Result<File> {
        let failed = || format!("cannot read {}", path.display());
        let file = disk::open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::new(Class::Repository, format!("{} is gone", path.display())),
            _ => Error::new(Class::Repository, failed()).because(cause),
        })?;
        let look = || file.metadata().map_err(|cause| Error::new(Class::Repository, failed()).because(cause));
        let meta = look()?;
        if !meta.is_file() {
            return Err(Error::new(Class::Repository, format!("{} is no file", path.display())));
        }
        if let Some(size) = wanted.size.filter(|size| *size != meta.len()) {
            let what = format!("{} has {} bytes, and had {size} when it came", path.display(), meta.len());
            return Err(Error::new(Class::Repository, what));
        }
        let name = &self.key_of(path);
        if self.is_known(name, Stamp::of(&meta)) {
            return Ok(file);
        }
        let place = usize::from(wanted.sha256.as_bytes()[0]) % AT_ONCE;
        let _turn = lock(&self.health.hashing[place]);
        let stamp = Stamp::of(&look()?);
        if !self.is_known(name, stamp) {
            let good = wanted.is(&file).map_err(|cause| Error::new(Class::Repository, failed()).because(cause))?;
            if !good {
                return Err(Error::new(Class::Repository, format!("{} has another digest than when it came", path.display())));
            }
            self.know(name, stamp, wanted.whole);
        }
        Ok(file)
    }

    /// What a file is known by.
    fn key_of(&self, path: &Path) -> Sha256 {
        let name = path.strip_prefix(self.path()).unwrap_or(path);
        let digest = name.starts_with("pool").then(|| path.file_name()?.to_str()?.parse().ok()).flatten();
        digest.unwrap_or_else(|| Sha256::of(name.as_os_str().as_encoded_bytes()))
    }

    /// Remembers which folders files were in when they were looked at: by key, [`Stamp::short`] of the folder.
    fn remember_looks(&self, looked: &[(Sha256, u64)], now: i64) {
        let mut seen = lock(&self.health.seen);
        for (key, folder) in looked {
            if let Some(known) = seen.files.get_mut(key) {
                (known.folder, known.looked) = (*folder, now);
                seen.new.push(*key);
            }
        }
    }

    fn is_known(&self, key: &Sha256, stamp: Stamp) -> bool {
        self.load_stamps();
        lock(&self.health.seen).files.get(key).is_some_and(|known| known.is_of(stamp))
    }

    /// The digest of all of an rpm of the pool, of which only the digest of what follows the prefix is its name; nothing
    /// where it was not found good, or is another file since.
    pub(crate) fn whole_digest(&self, name: &Sha256, file: &File) -> io::Result<Option<Sha256>> {
        self.load_stamps();
        let stamp = Stamp::of(&file.metadata()?);
        Ok(lock(&self.health.seen).files.get(name).filter(|known| known.is_of(stamp)).and_then(|known| known.whole))
    }

    fn know(&self, key: &Sha256, stamp: Stamp, whole: Option<Sha256>) {
        let mut seen = lock(&self.health.seen);
        let earlier = seen.files.get(key).filter(|earlier| earlier.stamp == stamp).copied();
        let whole = whole.or_else(|| earlier.and_then(|earlier| earlier.whole));
        let (folder, looked) = earlier.map_or((0, 0), |earlier| (earlier.folder, earlier.looked));
        seen.files.insert(*key, Verified { stamp, whole, folder, looked, at: Instant::now() });
        if earlier.is_none_or(|earlier| earlier.whole != whole) {
            seen.new.push(*key);
        }
    }

    /// Remembers a file that was just written by us and hashed on the way.
    pub(crate) fn just_written(&self, path: &Path) {
        self.just_written_rpm(path, None);
    }

    /// The same of a package of the pool, which is an rpm where all of it has a digest of its own.
    pub(crate) fn just_written_rpm(&self, path: &Path, whole: Option<Sha256>) {
        if let Ok(meta) = fs::metadata(path) {
            self.load_stamps();
            self.know(&self.key_of(path), Stamp::of(&meta), whole);
        }
    }

    pub(crate) fn load_stamps(&self) {
        let mut held = lock(&self.health.seen);
        let seen = &mut *held;
        if std::mem::replace(&mut seen.loaded, true) {
            return;
        }
        // What cannot be read is not known: the files are hashed then.
        let Ok(bytes) = fs::read(self.join("verified")) else { return };
        let Some(records) = bytes.strip_prefix(START) else {
            // Of an earlier version: the next who writes down writes all anew.
            seen.records = usize::MAX / 2;
            return;
        };
        let now = Instant::now();
        seen.records = records.len() / RECORD;
        seen.files.reserve(seen.records);
        seen.files.extend(records.chunks_exact(RECORD).filter_map(|record| Verified::read(record, now)));
    }

    /// Forgets files that are gone.
    pub(crate) fn forget_files(&self, gone: &BTreeSet<Sha256>) {
        let mut seen = lock(&self.health.seen);
        let before = seen.files.len();
        seen.files.retain(|key, _| !gone.contains(key));
        if seen.files.len() < before {
            // The next who writes down writes all anew.
            seen.records = usize::MAX / 2;
            let known = seen.files.keys().next().copied();
            seen.new.extend(known);
        }
    }

    /// Notes that something was damaged and is whole again.
    pub(crate) fn mend(&self, what: String) {
        lock(&self.health.mended).push(what);
    }

    /// What was damaged and was made whole since this was asked last.
    pub fn mended(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.health.mended))
    }
}

impl Wanted {
    /// The file is at its start before and after.
    fn is(&self, mut file: &File) -> io::Result<bool> {
        let (part, whole) = prefix::hashed(file, self.skip, self.whole.is_some())?;
        file.rewind()?;
        Ok(part == self.sha256 && whole == self.whole)
    }
}

/// What a package's own file, or one of a source's others, is to be.
fn wanted(package: &PoolPackage, digest: &Sha256) -> Wanted {
    if *digest != package.sha256 {
        let size = package.files.iter().find(|file| file.sha256 == *digest).map(|file| file.size);
        return Wanted { sha256: *digest, skip: 0, whole: None, size };
    }
    let (skip, whole) = package.rpm.as_ref().map_or((0, None), |rpm| (rpm.prefix, Some(rpm.file_sha256)));
    Wanted { sha256: *digest, skip, whole, size: Some(package.size) }
}

/// How damaged packages come again.
fn bring_again(packages: &[&PoolPackage]) -> String {
    let names: Vec<String> = packages.iter().take(NAMED).map(|package| package.file_name()).collect();
    format!(
        "bring the good file again: `twostage publish {}`; `twostage repo` does it for what the project builds and locks; \
         `twostage remove` takes it out of a channel",
        names.join(" ")
    )
}

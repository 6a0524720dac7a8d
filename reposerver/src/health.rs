//! Whether the files of the repository are what they were when they came.
//!
//! A file of the pool is hashed when it is first relied on, and again when its stamp (inode, size, times)
//! is another. What was found good is remembered, in memory and in `verified`:
//!
//! ```text
//! <bytes> <inode> <modified, in ns> <changed, in ns> pool/ab/<sha256>
//! ```
//!
//! That file is only a memory: without it, or on another disk, every file is hashed once more. See
//! `docs/decisions/damage.md`.

use crate::{Channel, PoolPackage, Repository, lock};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use twostage_model::{Class, Error, Hasher, Result, Sha256};

/// How long a file counts as verified in one process: a disk may lose a byte and no stamp changes.
const TRUSTED: Duration = Duration::from_secs(24 * 60 * 60);
/// Files that are hashed at once, at most. A second reader of one waits for the first.
const AT_ONCE: usize = 16;
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
    /// By path below the repository's folder.
    files: HashMap<PathBuf, (Stamp, Instant)>,
    /// Not yet in `verified`.
    new: Vec<PathBuf>,
    /// Lines that `verified` has.
    lines: usize,
}

/// What changes when a file is written to, or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    inode: u64,
    modified: i128,
    changed: i128,
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Stamp {
            size: meta.size(),
            inode: meta.ino(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }
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

impl Repository {
    /// Opens the bytes of a package, or of a source's file, of which it is known that they are what they
    /// were when they came: looked at now, or earlier and the file is the same since.
    ///
    /// # Errors
    /// They are not there, or not what they were.
    pub(crate) fn open_verified(&self, package: &PoolPackage, digest: &Sha256) -> Result<File> {
        let opened = self.open_checked(&self.pool_path(digest), &wanted(package, digest));
        opened.map_err(|cause| {
            let machine = cause.is_machine();
            let error = Error::new(Class::Repository, format!("the file of {} in the pool is damaged", package.id)).because(cause);
            if machine { error } else { error.hint(bring_again(&[package])) }
        })
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
                Err(error) if error.is_machine() => return Err(error),
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

    /// Whether a file of the pool may be passed on: not what was left by somebody who was killed, which nobody
    /// relies on.
    ///
    /// # Errors
    /// It is damaged, and something relies on it.
    pub fn is_good(&self, digest: &Sha256) -> Result<bool> {
        match self.package(digest) {
            Ok(package) => self.open_verified(&package, digest).map(|_| true),
            Err(error) if error.is_machine() => Err(error),
            Err(error) => {
                let plain = Wanted { sha256: *digest, skip: 0, whole: None, size: None };
                let good = self.open_checked(&self.pool_path(digest), &plain).is_ok();
                if !good && self.was_published(digest)? { Err(error) } else { Ok(good) }
            }
        }
    }

    /// Whether all that a channel is made of is there, as it came.
    ///
    /// # Errors
    /// What is not.
    pub fn verify_channel(&self, channel: &Channel) -> Result<()> {
        let packages = self.sorted_packages(channel.members.values().flatten())?;
        self.verify_all(&packages)
    }

    /// Opens a blob of which it is known that it is what it was.
    ///
    /// # Errors
    /// It is not there, or not what it was.
    pub fn verify_blob(&self, digest: &Sha256) -> Result<()> {
        let wanted = Wanted { sha256: *digest, skip: 0, whole: None, size: None };
        self.open_checked(&self.blob_path(digest), &wanted).map(drop)
    }

    /// Whether the file at the place of a digest is that.
    pub(crate) fn is_whole(&self, path: &Path, sha256: Sha256, size: u64) -> bool {
        self.open_checked(path, &Wanted { sha256, skip: 0, whole: None, size: Some(size) }).is_ok()
    }

    fn open_checked(&self, path: &Path, wanted: &Wanted) -> Result<File> {
        let failed = || format!("cannot read {}", path.display());
        let file = File::open(path).map_err(|cause| match cause.kind() {
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
        let name = path.strip_prefix(&self.root).unwrap_or(path);
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
            self.know(name, stamp);
        }
        Ok(file)
    }

    fn is_known(&self, name: &Path, stamp: Stamp) -> bool {
        let mut seen = lock(&self.health.seen);
        if !seen.loaded {
            seen.loaded = true;
            self.load(&mut seen);
        }
        seen.files.get(name).is_some_and(|(known, at)| *known == stamp && at.elapsed() < TRUSTED)
    }

    fn know(&self, name: &Path, stamp: Stamp) {
        let mut seen = lock(&self.health.seen);
        let earlier = seen.files.insert(name.to_path_buf(), (stamp, Instant::now()));
        if earlier.is_none_or(|(earlier, _)| earlier != stamp) {
            seen.new.push(name.to_path_buf());
        }
    }

    /// Remembers a file that was just written by us and hashed on the way.
    pub(crate) fn just_written(&self, path: &Path) {
        if let Ok(meta) = fs::metadata(path) {
            self.know(path.strip_prefix(&self.root).unwrap_or(path), Stamp::of(&meta));
        }
    }

    fn load(&self, seen: &mut Seen) {
        // What cannot be read is not known: the files are hashed then.
        let Ok(text) = fs::read_to_string(self.root.join("verified")) else { return };
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            seen.lines += 1;
            let mut words = line.splitn(5, ' ');
            let mut number = || words.next().and_then(|word| word.parse::<i128>().ok());
            let (Some(size), Some(inode), Some(modified), Some(changed)) = (number(), number(), number(), number()) else { continue };
            let (Ok(size), Ok(inode), Some(name)) = (size.try_into(), inode.try_into(), words.next()) else { continue };
            let stamp = Stamp { size, inode, modified, changed };
            seen.files.entry(PathBuf::from(name)).and_modify(|known| known.0 = stamp).or_insert((stamp, Instant::now()));
        }
    }

    /// Forgets all stamps: everything is hashed again.
    pub(crate) fn forget(&self) {
        *lock(&self.health.seen) = Seen { loaded: true, lines: usize::MAX / 2, ..Seen::default() };
        lock(&self.packages).clear();
    }

    /// Writes down what was verified since. Only a memory, so it is no error where that cannot be. Under
    /// the publishers' lock.
    pub(crate) fn remember(&self) {
        // What is not durable yet may be another after a power failure, with the same stamp.
        let unsynced: Vec<Sha256> = lock(&self.unsynced).iter().copied().collect();
        let others = unsynced.iter().filter_map(|digest| self.package(digest).ok());
        let others: Vec<Sha256> = others.flat_map(|package| package.files.iter().map(|file| file.sha256).collect::<Vec<_>>()).collect();
        let unsynced: HashSet<String> = unsynced.iter().chain(&others).map(Sha256::to_string).collect();
        let is_durable = |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !unsynced.contains(name));
        let mut seen = lock(&self.health.seen);
        let (new, later): (Vec<_>, Vec<_>) = std::mem::take(&mut seen.new).into_iter().partition(|path| is_durable(path));
        seen.new = later;
        if new.is_empty() {
            return;
        }
        let line = |name: &Path, stamp: &Stamp| {
            format!("{} {} {} {} {}\n", stamp.size, stamp.inode, stamp.modified, stamp.changed, name.display())
        };
        let path = self.root.join("verified");
        // Twice as many lines as files: time for a new one.
        let anew = seen.lines + new.len() > 64 + 2 * seen.files.len();
        let mut text = String::new();
        if anew {
            for (name, (stamp, _)) in seen.files.iter().filter(|(name, _)| is_durable(name)) {
                text.push_str(&line(name, stamp));
            }
            seen.lines = seen.files.len();
        } else {
            for (name, (stamp, _)) in new.iter().filter_map(|name| Some((name, seen.files.get(name)?))) {
                let _ = write!(text, "{}", line(name, stamp));
            }
            seen.lines += new.len();
        }
        let written = File::options().create(true).write(true).truncate(anew).append(!anew).open(&path);
        let _ = written.and_then(|mut file| file.write_all(text.as_bytes()));
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
    fn is(&self, file: &File) -> io::Result<bool> {
        let (mut part, mut whole) = (Hasher::default(), Hasher::default());
        let (mut buffer, mut at) = (vec![0; 256 << 10], 0_u64);
        loop {
            let read = match file.read_at(&mut buffer, at) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let skip = usize::try_from(self.skip.saturating_sub(at)).unwrap_or(usize::MAX).min(read);
            part.update(&buffer[skip..read]);
            if self.whole.is_some() {
                whole.update(&buffer[..read]);
            }
            at += read as u64;
        }
        Ok(part.finish() == self.sha256 && self.whole.is_none_or(|wanted| wanted == whole.finish()))
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
        "bring the good file again: `twostage publish {}`; `twostage repo` does it for what the project builds and locks",
        names.join(" ")
    )
}

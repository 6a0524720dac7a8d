//! The disk that a container writes to is not its alone: some of it stays free.
//!
//! The kernel counts what a folder takes only where somebody has set up quotas, so the whole disk is watched: while a
//! command runs, a few times in the time that a fast one needs to fill what is to stay free ([`filled`]); while this
//! program itself writes what a command, an image or an archive made it write, every so many bytes ([`Watch`]).

use rustix::fs::{Mode, OFlags, StatVfs, fstatvfs, statvfs};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use twostage_model::shown::{count, size};
use twostage_model::{Class, Error, Result};

/// What usually stays free, as far as a twentieth of the disk is more.
const FREE: u64 = 1 << 30;
/// How long after a look at the disk the next one is; and where little more than what is to stay free is left.
const PAUSE: Duration = Duration::from_millis(100);
const SHORT_PAUSE: Duration = Duration::from_millis(10);
/// Bytes that are written between two looks, at most, and at least.
const STRIDE: u64 = 64 << 20;
const SHORT_STRIDE: u64 = 1 << 20;
/// What to do about a disk that is full.
const HINT: &str = "free some, or name a folder on a larger disk in TWOSTAGE_STORE";

/// What is to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Floor {
    bytes: u64,
    files: u64,
}

impl Floor {
    /// `wanted` bytes, or the usual, which of a disk that is almost full already is half of the rest.
    fn of(disk: &StatVfs, wanted: Option<u64>) -> Floor {
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        Floor { bytes: wanted.unwrap_or(FREE.min(size / 20).min(free(disk) / 2)), files: (disk.f_files / 100).min(disk.f_favail / 2) }
    }

    fn is_reached(self, disk: &StatVfs) -> bool {
        free(disk) < self.bytes || disk.f_favail < self.files
    }

    /// More than a fast disk takes in between two usual looks is left.
    fn is_far(self, disk: &StatVfs) -> bool {
        // (Not every file system counts files.)
        free(disk) / 4 > self.bytes && (self.files == 0 || disk.f_favail / 4 > self.files)
    }

    /// Of a small disk, much less than what is to stay free is written between two looks.
    fn stride(self) -> u64 {
        (self.bytes / 4).clamp(SHORT_STRIDE, STRIDE)
    }
}

/// Bytes of a disk that a program may take.
pub(super) fn free(disk: &StatVfs) -> u64 {
    disk.f_bavail.saturating_mul(disk.f_frsize)
}

fn why(disk: &StatVfs, name: &str) -> String {
    let (free, files) = (size(free(disk)), count(disk.f_favail, "file"));
    format!("{free} and {files} are free on the disk of {name}, and others need them")
}

/// What a full disk has stopped. `see` is what to do first, if there is something.
pub(super) fn full(class: Class, what: impl Into<String>, why: &str, see: &str) -> Error {
    Error::new(class, what).because(why).hint(format!("{see}{HINT}"))
}

fn no_room(why: &str) -> Error {
    full(Class::System, "there is no room for it on the disk", why, "")
}

/// Waits until so much of the disk is used that a command has to end; says why. Without a folder, forever.
pub(super) async fn filled(folder: Option<&Path>, wanted: Option<u64>) -> String {
    let begun = folder.and_then(|folder| Some((folder, Floor::of(&statvfs(folder).ok()?, wanted))));
    let Some((folder, floor)) = begun else { return std::future::pending().await };
    loop {
        let Ok(disk) = statvfs(folder) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if floor.is_reached(&disk) {
            return why(&disk, &folder.display().to_string());
        }
        tokio::time::sleep(if floor.is_far(&disk) { PAUSE } else { SHORT_PAUSE }).await;
    }
}

/// Looks at a disk while this program writes to it. Cheap to clone: what is written under one watch counts together.
#[derive(Debug, Clone)]
pub(crate) struct Watch(Arc<Watching>);

#[derive(Debug)]
struct Watching {
    /// None if the disk cannot be looked at.
    disk: Option<(OwnedFd, Floor)>,
    name: String,
    /// Bytes since the last look.
    unseen: AtomicU64,
    /// Why nothing more may be written.
    full: OnceLock<String>,
}

impl Watch {
    /// Of the disk that a folder is on.
    pub(crate) fn over(folder: &Path, wanted: Option<u64>) -> Watch {
        let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
        Watch::new(opened, folder.display().to_string(), wanted)
    }

    /// The same, of a folder that is open, for whoever cannot reach it by its name.
    pub(super) fn of(folder: Option<OwnedFd>, name: &Path, wanted: Option<u64>) -> Watch {
        Watch::new(folder, name.display().to_string(), wanted)
    }

    fn new(folder: Option<OwnedFd>, name: String, wanted: Option<u64>) -> Watch {
        let disk = folder.and_then(|folder| {
            let floor = Floor::of(&fstatvfs(&folder).ok()?, wanted);
            Some((folder, floor))
        });
        Watch(Arc::new(Watching { disk, name, unseen: AtomicU64::new(0), full: OnceLock::new() }))
    }

    /// Notes that so many bytes more are on the disk.
    ///
    /// # Errors
    /// That leaves too little of it free.
    pub(crate) fn took(&self, bytes: u64) -> Result<()> {
        let Watching { disk: Some((disk, floor)), name, unseen, full } = &*self.0 else { return Ok(()) };
        if full.get().is_none() {
            if unseen.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) < floor.stride() {
                return Ok(());
            }
            unseen.store(0, Ordering::Relaxed);
        }
        let now = || fstatvfs(disk).ok().filter(|now| floor.is_reached(now)).map(|now| why(&now, name));
        // Once it was full, nothing more is written, whatever others free.
        match full.get().cloned().or_else(now) {
            Some(why) => Err(no_room(full.get_or_init(|| why))),
            None => Ok(()),
        }
    }

    /// Says, where something failed because the disk was full, just that, and not what that led to. `see` is what to do first.
    pub(crate) fn explain<T>(&self, result: Result<T>, class: Class, what: &str, see: &str) -> Result<T> {
        result.map_err(|error| match self.0.full.get() {
            Some(why) => full(class, what, why, see),
            None => error,
        })
    }

    /// The same where nobody is to blame but the disk.
    pub(crate) fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.0.full.get().map_or(error, |why| no_room(why)))
    }

    /// A file that is written under this watch.
    pub(crate) fn file(&self, file: File) -> WatchedFile {
        WatchedFile { file, watch: self.clone() }
    }
}

/// A file that is written until the disk has too little room.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    file: File,
    watch: Watch,
}

impl WatchedFile {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Write for WatchedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.watch.took(n as u64).map_err(io::Error::other)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

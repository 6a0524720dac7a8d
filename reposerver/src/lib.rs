//! Packages to pool to snapshot to signed metadata to HTTP.
//!
//! ```text
//! ingest ─► pool ─► snapshot ─► channel ─► Server
//!           (bytes)  (immutable)  (pointer)   (apt, dnf)
//! ```
//!
//! A repository is one folder:
//!
//! ```text
//! pool/ab/<sha256>        the bytes of every deb, rpm and source file; an rpm's name is the digest of
//!                         its header and payload
//! catalog/                what each package says of itself and its texts in the indexes, made once; can be thrown away
//! blobs/ab/<sha256>       other files that a project keeps by digest
//! signed/<fingerprint>/   the signatures of ours that rpms are served with, by key and package
//! keys/<fingerprint>.asc  public keys of those who signed rpms before they came here
//! snapshots/<id>/         SHA256SUMS, signed.json, dists/twostage/main/..., repodata/...; never
//!                         changed, only signed.json is replaced, and repodata/ added to, when the
//!                         key or the project's name changes
//! channels/<name>.json    pointer, members by group, dates, and the channel's own signatures
//! history/<name>/         a channel's present and earlier states, each as its file in channels/ was
//! names, names.sum        every file name that a channel ever published, with its digest
//! names.again             the same, as it was when snapshots were freed last
//! pins/<id>.json          snapshots that stay, and why; each is there twice
//! withdrawn/<sha256>.json what is served no more, and why; each is there twice
//! quarantine/             what was damaged and could not be made anew, and a record of what it was
//! builds/<component>/     what was built from which inputs (`builder/src/record.rs`)
//! verified                which files of the pool were hashed, and what their stamps were then
//! key.asc                 the public key
//! key/signing.asc         the secret key, mode 0600, made on first use
//! lock                    held by whoever publishes
//! tmp/                    files being written; leftovers are swept by the next who opens
//! twostage-repository     says that the folder is a repository
//! ```
//!
//! The JSON files tell by a seal of their own when a byte of them changed.
//!
//! Everything is written to `tmp/`, synced and renamed, so that a reader, or whoever comes after a
//! crash, sees the old state or the new one, whole. Readers take no lock. Packages are synced when
//! something first relies on them, all at once: one by one a closure of a thousand takes 15 s.
//!
//! The store is synchronous; only [`http`] is not.

mod about;
pub mod apt;
mod assemble;
mod catalog;
mod changes;
mod channel;
mod claim;
mod disk;
mod extra;
pub mod foreign;
mod fsck;
mod gc;
mod health;
pub mod http;
mod incoming;
mod keys;
mod listing;
mod members;
mod names;
mod pattern;
mod pins;
mod pool;
mod repair;
mod retention;
mod rpms;
mod seal;
pub mod sign;
mod snapshot;
mod twice;
mod withdraw;
mod workers;
mod yum;

pub use about::{About, Signature};
pub use apt::sources_file;
pub use changes::{Change, Version};
pub use channel::{Channel, Earlier, Members, Published};
pub use fsck::{Checked, Found, State};
pub use gc::{GRACE, Needs, Plan, Thing, What};
pub use http::{AccessEntry, Server};
pub use listing::{Item, Listing, Scope};
pub use members::{Promotion, Selection};
pub use pattern::Pattern;
pub use pins::{Pin, Reason};
pub use pool::{Blob, Extra, Kind, PoolFile, PoolPackage, RpmFile};
pub use repair::Repaired;
pub use retention::Retention;
pub use snapshot::SnapshotInfo;
pub use twostage_model::names::FIXED_HOST;
pub use withdraw::{Withdrawal, Withdrawn};
pub use yum::repo_file;

use sign::Key;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use twostage_model::project::{Algorithm, YumCompression};
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};

/// How long a channel was written, or a withdrawal, before whoever wrote it returns: a server looks at what it has in
/// memory once a millisecond (`http/store.rs`), and a client that asks then is to see what was written.
pub(crate) const SEEN: Duration = Duration::from_millis(2);

/// What the owner of a repository decides about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The project's name: `Origin` and `Label` of the metadata, and part of the key's user id.
    pub origin: String,
    /// Where the secret key is, when not in the repository's own `key/`. Made when absent.
    pub key: Option<PathBuf>,
    /// What key is made when there is none.
    pub algorithm: Algorithm,
    /// Debian architectures that get an index even when no package has them.
    pub architectures: Vec<String>,
    /// Earlier states that a channel remembers, and can be moved back to.
    pub keep: usize,
    /// What stays beyond what is needed.
    pub retention: Retention,
    /// Days that a channel's release is good after it was signed (`Valid-Until`); nothing means for ever. A snapshot's has no end.
    pub valid_days: Option<u32>,
    /// How yum's metadata is packed.
    pub yum_compression: YumCompression,
}

impl Settings {
    /// The usual settings: own key, RSA, this machine's architecture, 16 earlier states.
    pub fn new(origin: impl Into<String>) -> Self {
        Settings {
            origin: origin.into(),
            key: None,
            algorithm: Algorithm::default(),
            architectures: vec![host_architecture().into()],
            keep: 16,
            retention: Retention::default(),
            valid_days: None,
            yum_compression: YumCompression::default(),
        }
    }
}

/// This machine's architecture as Debian names it (`dpkg --print-architecture`).
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

/// A repository in a folder. Cheap to share; every method takes `&self`.
pub struct Repository {
    root: PathBuf,
    settings: Settings,
    scratch: OnceLock<disk::Scratch>,
    key: Mutex<Option<Arc<Key>>>,
    publics: disk::Cache<(), keys::Public>,
    health: health::Health,
    catalog: catalog::Catalog,
    /// Whether this process holds the publishers' lock.
    holding: AtomicBool,
    packages: Mutex<HashMap<Sha256, Arc<PoolPackage>>>,
    /// Packages that came in and are not durable yet.
    unsynced: Mutex<HashSet<Sha256>>,
    snapshots: disk::Cache<SnapshotId, snapshot::Snapshot>,
    transients: Mutex<HashMap<SnapshotId, Arc<snapshot::Snapshot>>>,
    bodies: Mutex<snapshot::Bodies>,
    channels: disk::Cache<String, Channel>,
    /// What `names` names.
    published: disk::Cache<(), HashSet<Sha256>>,
}

impl Repository {
    /// Opens the repository in `root`, which is made when it is not there, and sweeps what killed
    /// writers left. A folder that may only be read can still be opened and served. A folder that holds anything
    /// else than a repository is not touched.
    ///
    /// # Errors
    /// The origin is not one plain line, the folder cannot be made, or it is no repository.
    pub fn open(root: &Path, settings: Settings) -> Result<Self> {
        check_origin(&settings.origin)?;
        disk::make_folder(root)?;
        claim::claim(root)?;
        let repository = Repository {
            root: root.to_path_buf(),
            settings,
            scratch: OnceLock::new(),
            key: Mutex::new(None),
            publics: disk::Cache::default(),
            health: health::Health::default(),
            catalog: catalog::Catalog::new(root),
            holding: AtomicBool::new(false),
            packages: Mutex::default(),
            unsynced: Mutex::default(),
            snapshots: disk::Cache::default(),
            transients: Mutex::default(),
            bodies: Mutex::default(),
            channels: disk::Cache::default(),
            published: disk::Cache::default(),
        };
        // A folder on a read-only medium is no error until somebody writes.
        let _ = repository.scratch();
        Ok(repository)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This process's own folder for files being written, in the same file system.
    pub(crate) fn scratch(&self) -> Result<&disk::Scratch> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        // Whoever has the publishers' lock may sweep, and would wait for itself if it took it again.
        let made = match self.holding.load(Ordering::SeqCst) {
            true => disk::Scratch::open_held(&self.root)?,
            false => disk::Scratch::open(&self.root)?,
        };
        Ok(self.scratch.get_or_init(|| made))
    }

    /// Reads what a publish to a channel will want, in a thread beside whatever comes before that. The thread has ended
    /// when what this returns is dropped. Nothing is said of what fails: who wants it will try again.
    pub fn read_ahead(self: &Arc<Self>, channel: &str) -> ReadAhead {
        let (repository, channel) = (Arc::clone(self), channel.to_string());
        let read = move || {
            repository.load_stamps();
            if let Ok(Some(channel)) = repository.channel(&channel) {
                let _ = repository.stored(&channel.snapshot);
            }
        };
        ReadAhead(std::thread::Builder::new().spawn(read).ok())
    }

    /// Takes the publishers' lock, waiting for it.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        let file = disk::publish_lock(&self.root)?;
        self.holding.store(true, Ordering::SeqCst);
        Ok(Held { repository: self, _file: file })
    }
}

/// A thread of [`Repository::read_ahead`].
#[must_use = "dropping it waits for the thread"]
pub struct ReadAhead(Option<std::thread::JoinHandle<()>>);

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// The publishers' lock, until it is dropped.
pub(crate) struct Held<'a> {
    repository: &'a Repository,
    _file: std::fs::File,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.repository.holding.store(false, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Repository").field(&self.root).finish()
    }
}

/// The origin stands in a control field, in apt's options and in a user id.
fn check_origin(origin: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "-_.+ ".contains(c);
    if origin.is_empty() || origin.len() > 100 || origin.trim() != origin || !origin.chars().all(plain) {
        return Err(Error::new(Class::Project, format!("{origin:?} cannot be a repository's origin"))
            .hint("use letters, digits, blanks and - _ . + (at most 100 characters)"));
    }
    Ok(())
}

/// A lock whose holder panicked is still good: every value behind it is replaced in one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

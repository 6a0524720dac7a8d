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
//! names, names.sum        every file name that a channel ever published, with its digest; `bookworm/<name>` in a suite
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
mod folder;
pub mod foreign;
mod fsck;
mod gc;
mod health;
pub mod http;
mod incoming;
mod ingest;
mod keys;
mod listing;
mod members;
mod names;
mod pattern;
mod pins;
mod plain;
mod pool;
mod publish;
mod render;
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
pub use channel::{Channel, Channels, Earlier, Members};
pub use fsck::{Checked, Found, State};
pub use gc::{GRACE, Needs, Plan, Thing, What};
pub use health::Verify;
pub use http::{AccessEntry, Server};
pub use keys::Signing;
pub use listing::{Item, Listing, Scope};
pub use members::{Promotion, Selection};
pub use pattern::Pattern;
pub use pins::{Pin, Pins, Reason};
pub use plain::{PlainExport, PlainSource};
pub use pool::{Blob, Extra, Kind, Pool, PoolFile, PoolPackage, RpmFile};
pub use publish::{Published, shown_suite};
pub use repair::Repaired;
pub use retention::Retention;
pub use snapshot::{SnapshotInfo, Snapshots};
pub use twostage_model::names::FIXED_HOST;
pub use withdraw::{Withdrawal, Withdrawals, Withdrawn, is_withdrawn};
pub use yum::repo_file;

use folder::RepositoryFolder;
use names::PublishedNames;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use twostage_model::project::{Algorithm, YumCompression};
use twostage_model::{Class, Error, Result, date};

/// How long a channel was written, or a withdrawal, before whoever wrote it returns: a server looks at what it has in
/// memory once a millisecond (`http/store.rs`), and a client that asks then is to see what was written.
pub(crate) const SEEN: Duration = Duration::from_millis(2);

/// What the owner of a repository decides about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The project's name: `Origin` and `Label` of the metadata, and part of the key's user id.
    pub origin: String,
    /// The suite of the channels that are made with these settings; see [`Channel::suite`].
    pub suite: Option<String>,
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
            suite: None,
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

/// A repository in a folder, as all that is made of its parts. Cheap to share; every method takes `&self`.
///
/// ```text
/// RepositoryFolder   lock, scratch space, what is known of the files
///   ├─ Withdrawals, Pins, Channels, PublishedNames     each a kind of record
///   └─ Pool          packages and what they say of themselves
///        └─ Signing  keys, and rpms as they are served
///             └─ Snapshots
/// ```
pub struct Repository {
    settings: Arc<Settings>,
    root: Arc<RepositoryFolder>,
    withdrawals: Arc<Withdrawals>,
    pins: Pins,
    channels: Arc<Channels>,
    names: Arc<PublishedNames>,
    pool: Arc<Pool>,
    signing: Arc<Signing>,
    snapshots: Snapshots,
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
        let (root, settings) = (Arc::new(RepositoryFolder::new(root)), Arc::new(settings));
        let withdrawals = Arc::new(Withdrawals::new(&root));
        let channels = Arc::new(Channels::new(&root));
        let names = Arc::new(PublishedNames::new(&root, &channels));
        let pool = Arc::new(Pool::new(&root, &withdrawals, &names));
        let signing = Arc::new(Signing::new(&root, &settings, &channels, &pool));
        let snapshots = Snapshots::new(&root, &settings, &pool, &signing);
        let pins = Pins::new(&root);
        let repository = Repository { settings, root, withdrawals, pins, channels, names, pool, signing, snapshots };
        // A folder on a read-only medium is no error until somebody writes.
        let _ = repository.root.scratch();
        Ok(repository)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The packages, and other files by digest.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The keys.
    pub fn signing(&self) -> &Signing {
        &self.signing
    }

    /// The channels, and where they point.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The snapshots on disk, and those that only this process holds.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// The snapshots that stay.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// What is served no more.
    pub fn withdrawals(&self) -> &Withdrawals {
        &self.withdrawals
    }

    /// What was damaged and was made whole since this was asked last.
    pub fn mended(&self) -> Vec<String> {
        self.root.mended()
    }

    /// Reads what a publish to a channel will want, in a thread beside whatever comes before that. The thread has ended
    /// when what this returns is dropped. Nothing is said of what fails: who wants it will try again.
    pub fn read_ahead(self: &Arc<Self>, channel: &str) -> ReadAhead {
        let (repository, channel) = (Arc::clone(self), channel.to_string());
        let read = move || {
            repository.root.load_stamps();
            if let Ok(Some(channel)) = repository.channels.get(&channel) {
                let _ = repository.snapshots.stored(&channel.snapshot);
            }
        };
        ReadAhead(std::thread::Builder::new().spawn(read).ok())
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

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Repository").field(&self.root.path()).finish()
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

//! The build stage: project → component graph → builder containers → collected packages.
//!
//! ```text
//! base ─► closure of build dependencies ─► builder image ─► container: source in, packages out
//! ```
//!
//! In the order of the flow: [`base`] gives the image that everything starts from, [`closure`]
//! asks its package manager what is needed beyond it, [`source`] reads what is built,
//! [`component`] builds one component, [`graph`] builds all of them in order, and [`collect`]
//! checks what comes out. The repository is behind [`PackageSink`], which the command implements:
//! this crate never sees it.

mod apt;
pub mod base;
mod bootstrapped;
mod ccache;
mod checkout;
pub mod claims;
pub mod closure;
pub mod collect;
pub mod component;
mod dnf;
pub mod entered;
pub mod generated;
mod git;
pub mod graph;
mod independent;
mod linked_packages;
mod log;
pub mod makers;
pub mod members;
pub mod parallel;
mod patches;
mod rebuilt;
pub mod record;
pub mod source;
pub mod taken;
pub mod tools;
mod twice;
mod unpack;
pub mod why;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use taken::KnownNames;
use twostage_beneath::Folder;
use twostage_engine::{Engine, Reach};
use twostage_model::package::PackageId;
use twostage_model::{Lock, Project, Result, Sha256, Sink, SnapshotId};

/// Who installs and builds packages, whatever user the base's containers run as.
pub const ROOT: &str = "0:0";

/// A package that the repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Name, version, architecture.
    pub id: PackageId,
    /// Digest of its bytes; of an rpm, of its header and payload.
    pub sha256: Sha256,
    /// How many bytes the digest covers.
    pub size: u64,
    /// When it was built, in seconds since 1970.
    pub date: i64,
    /// Its control fields.
    pub fields: BTreeMap<String, String>,
}

/// Where packages go and come from: the repository, as the build stage sees it.
pub trait PackageSink: Send + Sync {
    /// Checks and stores one package. One that is there already is only hashed.
    ///
    /// # Errors
    /// It is not what it claims to be; the reason is named and nothing is stored.
    fn put(&self, package: &std::path::Path) -> Result<Stored>;
    /// Checks and stores a source package: its `.dsc` and the files that it lists, all in `folder`.
    ///
    /// # Errors
    /// A file is missing or is not what the `.dsc` says.
    fn put_source(&self, folder: &std::path::Path, dsc: &str) -> Result<Sha256>;
    /// The package of that digest, if it is there.
    ///
    /// # Errors
    /// What is stored cannot be read.
    fn get(&self, digest: &Sha256) -> Result<Option<Stored>>;
    /// Keeps any bytes by digest (base images, locked source files).
    ///
    /// # Errors
    /// They cannot be written.
    fn put_blob(&self, blob: &mut dyn Read) -> Result<(Sha256, u64)>;
    /// The file that holds a blob or package, if it is there.
    fn blob(&self, digest: &Sha256) -> Option<PathBuf>;
    /// A snapshot that only this process serves, and the files that a client needs for it, by name:
    /// apt's `twostage.sources`; or `twostage.repo`, and the keys that it names (`key.asc`,
    /// `keys/<fingerprint>.asc`).
    ///
    /// # Errors
    /// A member is missing, or two members are one name-version-arch with two contents.
    fn serve(&self, members: &[Sha256]) -> Result<(SnapshotId, Vec<(String, String)>)>;
}

/// What every part of the build stage works with.
pub struct Context {
    /// What runs containers, labelled so that a later run finds what a killed one left.
    pub engine: Engine,
    /// The repository.
    pub packages: Arc<dyn PackageSink>,
    /// How containers reach the repository's server.
    pub reach: Arc<dyn Reaching>,
    /// Who is told what happens.
    pub events: Sink,
    /// The project.
    pub project: Project,
    /// The folder of the project file.
    pub folder: PathBuf,
    /// The same, to open what the project names: nothing outside of it, and neither state nor key.
    pub files: Folder,
    /// `.twostage/`: logs, fetched sources.
    pub state: PathBuf,
    /// The user's cache, which projects share, if there is one.
    pub cache: Option<PathBuf>,
    /// Names of packages that bases and their distributions have, as this machine has read them.
    pub names: KnownNames,
    /// Where records of builds are kept.
    pub records: PathBuf,
    /// The lock as it is now; stages extend it.
    pub lock: Mutex<Lock>,
    /// What tells this project from others on the same engine.
    pub id: String,
    /// Whether the container of a build that failed is kept as an image.
    pub keep_failed: bool,
    /// Whether native builds ask a compiler cache. It is no part of a key.
    pub ccache: bool,
    /// Whether each component is built twice, and has to be the same.
    pub check_reproducible: bool,
    /// Whether the lock may change: `false` under `--locked`.
    pub may_lock: bool,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// Finds out, once, how a container of an image reaches our server.
pub trait Reaching: Send + Sync {
    /// The network a container needs and the proxy address it is told.
    fn reach<'a>(&'a self, image: &'a str) -> std::pin::Pin<Box<dyn Future<Output = Result<Reach>> + Send + 'a>>;
}

impl Context {
    /// Runs something that blocks (hashing, parsing, disk) off the event loop.
    ///
    /// # Errors
    /// What `work` returns.
    pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        twostage_engine::blocking(work).await
    }

    /// The lock, for reading or changing. A panic elsewhere does not make it unreadable.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, Lock> {
        self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

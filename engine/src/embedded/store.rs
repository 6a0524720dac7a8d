//! The folder in which the embedded engine keeps everything: what is where, who may change it when, and how.
//!
//! ```text
//! images/             an OCI layout that skopeo reads and writes: oci-layout, index.json, blobs/sha256/…
//! known.json          what we last wrote into index.json (index.rs)
//! layers/<diff_id>/   tree: a layer, unpacked
//! init/<chain>/       tree: what a container finds above its image, the places that are mounted over
//! contents/<diff_id>  what is in a layer of a base (contents.rs); can be thrown away
//! steps/<key>         the layers of a step of a Dockerfile that was built
//! caches/<id>/        tree/cache: what a RUN --mount=type=cache keeps; lock
//! containers/<id>/    record.json; top/tree: its own files; work
//! incoming/<id>/      what somebody is making
//! trash/<id>/         what is being removed
//! lock                held while any of that changes
//! twostage-store      says that the folder is a store
//! ```
//!
//! Nothing in `images`, `layers` or `init` changes once it has its name. What is made is made in `incoming`, made
//! durable there, and renamed while the lock is held; what is to be removed is renamed into `trash` then. So whoever is
//! killed leaves the old state or the new one, and something in `incoming`, `containers` or `trash`, whose folder was
//! locked by it and no longer is: the next command removes that.

use super::sandbox::Watch;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use twostage_beneath::Mark;
use twostage_model::error::OrFail as _;
use twostage_model::names::UNFINISHED;
use twostage_model::{Class, Error, Result, Sha256};

/// How often a removal is tried again.
const PATIENCE: u32 = 20;
/// Places that hold what somebody is working on.
const WORKED_ON: [&str; 2] = ["incoming", "containers"];

/// How a store is told from other folders.
const MARK: Mark = Mark {
    name: "twostage-store",
    text: "Images and containers of twostage's embedded engine, which removes what nobody needs any more.\n",
    known: &["caches", "containers", "contents", "images", "incoming", "init", "layers", "lock", "steps", "trash"],
    lock: "lock",
    proof: "images/oci-layout",
};

/// Removes a folder whose files may belong to users that only a user namespace has.
pub(super) type Remover = Arc<dyn Fn(&Path) -> Result<()> + Send + Sync>;

/// The folder.
#[derive(Clone)]
pub(super) struct Store {
    root: PathBuf,
    remover: Remover,
}

/// The right to look at the store while nobody changes it, or to change it.
pub(super) struct Turn {
    _lock: File,
    changes: bool,
}

/// A folder of our own in the store, which nobody else removes while this lives.
pub(super) struct Place {
    pub path: PathBuf,
    lock: File,
}

/// What is no longer in the store, and still on the disk.
#[must_use = "it is still on the disk"]
#[derive(Default)]
pub(super) struct Trash(Vec<(PathBuf, Option<File>)>);

impl Store {
    /// Opens the store in a folder, or makes one there.
    pub fn open(root: &Path, remover: Remover) -> Result<Store> {
        let fail = || format!("cannot keep images in {}", root.display());
        let hint = "name another folder with --engine-host or TWOSTAGE_STORE";
        let mut builder = DirBuilder::new();
        // Images hold programs that run as root for whoever starts them: nobody else may look in.
        builder.recursive(true).mode(0o700).create(root).or_fail(Class::System, fail).map_err(|error| error.hint(hint))?;
        // What is removed here must be ours: the folder is not one that somebody named by mistake.
        MARK.claim(root).map_err(|error| match error.class() {
            Class::Project => Error::new(Class::Engine, error.what()).hint(format!(
                "{hint}, which is new or empty; if this one holds images, make the file {} in it",
                root.join(MARK.name).display()
            )),
            _ => error.hint(hint),
        })?;
        let made = {
            ["images/blobs/sha256", "layers", "init", "containers", "incoming", "trash", "steps", "caches", "contents"]
                .iter()
                .try_for_each(|folder| builder.create(root.join(folder)))
        };
        made.or_fail(Class::System, fail).map_err(|error| error.hint(hint))?;
        let root = root.canonicalize().or_fail(Class::System, fail)?;
        let store = Store { root, remover };
        let turn = store.change().map_err(|error| error.hint(hint))?;
        store.clear_unfinished()?;
        super::images::prepare(&store, &turn)?;
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The OCI layout.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn blob(&self, digest: &Sha256) -> PathBuf {
        self.root.join("images/blobs/sha256").join(digest.to_string())
    }

    /// What a layer is unpacked in. (A folder around its root, whose own mode may forbid to move it.)
    pub fn layer(&self, diff_id: &Sha256) -> PathBuf {
        self.root.join("layers").join(diff_id.to_string())
    }

    pub fn init(&self, chain: &Sha256) -> PathBuf {
        self.root.join("init").join(chain.to_string())
    }

    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Waits until nobody changes the store.
    pub fn look(&self) -> Result<Turn> {
        self.turn(FlockOperation::LockShared)
    }

    /// Waits until it is this thread's turn to change the store. Nothing slow is done then.
    pub fn change(&self) -> Result<Turn> {
        self.turn(FlockOperation::LockExclusive)
    }

    fn turn(&self, how: FlockOperation) -> Result<Turn> {
        let path = self.root.join("lock");
        let fail = || format!("cannot lock {}", path.display());
        let file = File::options().create(true).truncate(false).write(true).open(&path).or_fail(Class::System, fail)?;
        flock(&file, how).or_fail(Class::System, fail)?;
        Ok(Turn { _lock: file, changes: how == FlockOperation::LockExclusive })
    }

    /// A new folder, in `incoming` or `containers`.
    pub fn place(&self, turn: &Turn, folder: &str, id: &str) -> Result<Place> {
        debug_assert!(turn.changes, "somebody could sweep it before it is locked");
        let path = self.root.join(folder).join(id);
        let fail = || format!("cannot make {}", path.display());
        DirBuilder::new().mode(0o700).create(&path).or_fail(Class::System, fail)?;
        let lock = File::open(&path).or_fail(Class::System, fail)?;
        flock(&lock, FlockOperation::LockExclusive).or_fail(Class::System, fail)?;
        Ok(Place { path, lock })
    }

    /// A folder to make something in, which is removed with this value.
    pub fn workplace(&self) -> Result<Workplace> {
        let place = self.place(&self.change()?, "incoming", &unique())?;
        Ok(Workplace { store: self.clone(), place: Some(place) })
    }

    /// Looks at the disk while something is written here.
    pub fn watch(&self) -> Watch {
        Watch::over(&self.root, None)
    }

    /// Gives what was made its name, unless something has it: of one name there is one content.
    /// Whoever made it has made it durable.
    pub fn keep(&self, turn: &Turn, made: &Path, name: &Path) -> Result<()> {
        debug_assert!(turn.changes, "only whoever has the turn changes the store");
        let fail = || format!("cannot keep {}", name.display());
        if !name.exists() {
            fs::rename(made, name).or_fail(Class::System, fail)?;
            sync_folder(name)?;
        }
        Ok(())
    }

    /// Takes a folder out of the store. `lock` is its lock, if we have it.
    pub fn discard(&self, turn: &Turn, path: &Path, lock: Option<File>) -> Result<Trash> {
        debug_assert!(turn.changes, "only whoever has the turn changes the store");
        let fail = || format!("cannot remove {}", path.display());
        let target = self.root.join("trash").join(unique());
        let lock = match lock {
            Some(lock) => Some(lock),
            // Held by somebody who is not asked any more.
            None => File::open(path).ok().filter(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()),
        };
        match fs::rename(path, &target) {
            Ok(()) => Ok(Trash(vec![(target, lock)])),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Trash::default()),
            Err(cause) => Err(cause).or_fail(Class::System, fail),
        }
    }

    /// Removes what was taken out of the store. Not while the lock is held: it may be much.
    pub fn empty(&self, trash: Trash) -> Result<()> {
        let mut result = Ok(());
        for (path, _lock) in trash.0 {
            let mut removed = (self.remover)(&path);
            // What was killed a moment ago may still be writing there.
            for _ in 0..PATIENCE {
                if !path.exists() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
                removed = (self.remover)(&path);
            }
            if path.exists() {
                result = result.and(removed);
            }
        }
        result
    }

    /// Takes out of the store what was being made, run or removed by those who are no more.
    pub fn sweep(&self, turn: &Turn) -> Result<Trash> {
        let mut trash = Trash::default();
        for folder in WORKED_ON {
            for path in entries(&self.root.join(folder)) {
                if let Some(lock) = File::open(&path).ok().filter(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                    trash.extend(self.discard(turn, &path, Some(lock))?);
                }
            }
        }
        for path in entries(&self.root.join("trash")) {
            if let Some(lock) = File::open(&path).ok().filter(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                trash.0.push((path, Some(lock)));
            }
        }
        Ok(trash)
    }

    /// Removes files that were being written; only whoever has the turn writes them.
    fn clear_unfinished(&self) -> Result<()> {
        for folder in ["", "images", "images/blobs/sha256", "steps", "contents"] {
            for path in entries(&self.root.join(folder)) {
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED)) {
                    fs::remove_file(&path).or_fail(Class::System, || format!("cannot remove {}", path.display()))?;
                }
            }
        }
        Ok(())
    }
}

impl Trash {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn extend(&mut self, other: Trash) {
        self.0.extend(other.0);
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }
}

impl Place {
    /// The lock, for [`Store::discard`]; the folder stays.
    pub fn into_lock(self) -> File {
        self.lock
    }
}

/// A folder to make something in.
pub(super) struct Workplace {
    store: Store,
    place: Option<Place>,
}

impl Workplace {
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.as_ref().map(|place| place.path.join(name)).unwrap_or_default()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next command, which also says why it cannot.
        if let Some(place) = self.place.take()
            && let Ok(turn) = self.store.change()
            && let Ok(trash) = self.store.discard(&turn, &place.path.clone(), Some(place.into_lock()))
        {
            drop(turn);
            let _ = self.store.empty(trash);
        }
    }
}

/// A name that nothing else has, ever: of this process, and the moment.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let text = format!("{} {} {now}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Sha256::of(text.as_bytes()).to_string()[..16].to_string()
}

/// What is in a folder; nothing, if it cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Writes a file so that a crash leaves the old or the new one, whole.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    unfinished(path, content)?.persist(path).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
    sync_folder(path)
}

/// What is to be a file at that path, durable, under a name of its own beside it.
pub(super) fn unfinished(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile> {
    let fail = || format!("cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(UNFINISHED).permissions(everyone).tempfile_in(folder).or_fail(Class::System, fail)?;
    file.write_all(content).or_fail(Class::System, fail)?;
    file.as_file().sync_all().or_fail(Class::System, fail)?;
    Ok(file)
}

/// Makes a name in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).or_fail(Class::System, || format!("cannot sync {}", folder.display()))
}

/// Makes all that was written to the disk of a folder durable: a tree has too many files to do it one by one.
pub(super) fn sync_disk(path: &Path) -> Result<()> {
    let fail = || format!("cannot sync the disk of {}", path.display());
    let folder = File::open(path).or_fail(Class::System, fail)?;
    rustix::fs::syncfs(&folder).or_fail(Class::System, fail)
}

//! Writing so that a crash leaves the old file or the new one, whole.

use crate::{lock, workers};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::hash::Hash;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::{NamedTempFile, TempDir, TempPath};
use twostage_beneath::{Folder, FolderEntry};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result};

/// Takes the publishers' lock, waiting for it. It is released when the value is dropped, and by
/// the kernel when the process dies.
pub(crate) fn publish_lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).or_fail(Class::System, failed)?;
    file.lock().or_fail(Class::System, failed)?;
    Ok(file)
}

/// What the name of a folder of a process under `tmp/` starts with.
const SCRATCH: &str = "writer-";

/// A folder of this process under `tmp/`, with a lock that tells the sweep that we are alive.
pub(crate) struct Scratch {
    folder: PathBuf,
    _alive: File,
}

impl Scratch {
    /// Sweeps what dead processes left and makes a folder of our own. Under the publishers' lock,
    /// so that nobody sweeps a folder between its making and its locking.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let _guard = publish_lock(root)?;
        Scratch::open_held(root)
    }

    /// The same for whoever holds the lock already.
    pub(crate) fn open_held(root: &Path) -> Result<Self> {
        let tmp = root.join("tmp");
        match fs::symlink_metadata(&tmp) {
            // It could lead anywhere, and whoever follows it sweeps there.
            Ok(found) if !found.is_dir() => {
                return Err(Error::new(Class::Repository, format!("{} is not a folder but a link, or something else", tmp.display()))
                    .hint("remove it; twostage makes a folder there"));
            }
            _ => make_folder(&tmp)?,
        }
        sweep(&tmp)?;
        let failed = || format!("cannot make a folder in {}", tmp.display());
        let folder = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&tmp).or_fail(Class::System, failed)?.keep();
        let alive = File::create(folder.join("alive")).or_fail(Class::System, failed)?;
        alive.lock().or_fail(Class::System, failed)?;
        Ok(Scratch { folder, _alive: alive })
    }

    /// A new empty file. It goes away with the value unless it is kept under another name.
    pub(crate) fn file(&self) -> Result<NamedTempFile> {
        tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&self.folder)
            .or_fail(Class::System, || format!("cannot make a file in {}", self.folder.display()))
    }

    /// A new empty folder.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(&self.folder)
            .or_fail(Class::System, || format!("cannot make a folder in {}", self.folder.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is swept at the next open.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders of writers that are no more, by the names that we give them. What else is there is not ours.
fn sweep(tmp: &Path) -> Result<()> {
    let dead = |tmp: &Folder, writer: &FolderEntry| match tmp.folder(&writer.name).and_then(|writer| writer.file("alive")) {
        Ok(file) => file.try_lock().is_ok(),
        // Whose lock cannot be looked at may be alive.
        Err(cause) => !Error::system("", cause).is_unread(),
    };
    Folder::open(tmp)?.remove_scratch(SCRATCH, dead).map(drop)
}

/// What is at a path, a link followed; nothing where nothing is.
///
/// # Errors
/// The system does not say. That is never the same as nothing: what is there may be whole, and needed.
fn found(path: &Path) -> Result<Option<fs::Metadata>> {
    said(path, fs::metadata(path))
}

fn said(path: &Path, looked: io::Result<fs::Metadata>) -> Result<Option<fs::Metadata>> {
    looked.map(Some).or_else(|cause| {
        let error = Error::system(format!("cannot look at {}", path.display()), cause);
        if error.is_unread() { Err(error) } else { Ok(None) }
    })
}

/// Whether a folder is at a path.
pub(crate) fn is_folder(path: &Path) -> Result<bool> {
    Ok(found(path)?.is_some_and(|meta| meta.is_dir()))
}

/// Whether a file is at a path.
pub(crate) fn is_file(path: &Path) -> Result<bool> {
    Ok(found(path)?.is_some_and(|meta| meta.is_file()))
}

/// What has a name, itself: a link is not followed.
pub(crate) fn named(path: &Path) -> Result<Option<fs::Metadata>> {
    said(path, fs::symlink_metadata(path))
}

/// What was read, where that can be used: damage gives nothing.
///
/// # Errors
/// The system did not let it be read, so that nobody knows whether it is damaged.
pub(crate) fn usable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if error.is_unread() => Err(error),
        read => Ok(read.ok()),
    }
}

/// Makes a folder and its parents, durably.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => path.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(Error::system(format!("cannot make the folder {}", path.display()), error)),
    }
}

/// Makes the names in a folder, or the content of a file, durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).or_fail(Class::System, || format!("cannot sync {}", path.display()))
}

/// Gives a finished temporary file its name, durably, in place of what has that name.
pub(crate) fn keep(file: NamedTempFile, path: &Path) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    file.as_file().sync_all().or_fail(Class::System, failed)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    make_folder(parent)?;
    set_aside(path, file.path())?;
    file.persist(path).map_err(|error| error.error).or_fail(Class::System, failed)?;
    sync_folder(parent)
}

/// A folder that has a file's name cannot be replaced by a rename: it goes to the scratch folder that `file` is in,
/// and with that.
fn set_aside(path: &Path, file: &Path) -> Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        return Ok(());
    }
    let failed = || format!("cannot move the folder {} away", path.display());
    let aside = tempfile::tempdir_in(file.parent().unwrap_or(Path::new("."))).or_fail(Class::System, failed)?;
    fs::rename(path, aside.path().join("replaced")).or_fail(Class::System, failed)
}

/// Gives a finished temporary file its name, whole but not yet durably: [`sync_files`] comes
/// before anything relies on it.
pub(crate) fn keep_for_now(file: TempPath, path: &Path) -> Result<()> {
    make_folder(path.parent().unwrap_or(Path::new(".")))?;
    set_aside(path, &file)?;
    file.persist(path).map_err(|error| error.error).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
    Ok(())
}

/// Makes files of one file system durable, names included. One sync of the file system costs what
/// some tens of files cost.
pub(crate) fn sync_files(root: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    if files.len() > 40 {
        let failed = || format!("cannot sync {}", root.display());
        let folder = File::open(root).or_fail(Class::System, failed)?;
        return rustix::fs::syncfs(&folder).or_fail(Class::System, failed);
    }
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).chain(folders).collect();
    workers::for_each_waiting(&all, |path| sync_folder(path))
}

/// Writes a whole small file, durably, in place of what has that name.
pub(crate) fn write(scratch: &Scratch, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = scratch.file()?;
    file.write_all(bytes).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
    keep(file, path)
}

/// The names in a folder, in order; none where there is no such folder. One that is no text names nothing of ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::system(failed(), error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.or_fail(Class::System, failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Gives two folders each other's names. Where the file system cannot do that in one step, the first takes the name of the
/// second, which is away for a moment then.
pub(crate) fn exchange(made: &Path, there: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, made, here, there, rustix::fs::RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let aside = made.with_extension("replaced");
            fs::rename(there, &aside)?;
            fs::rename(made, there)?;
            fs::rename(aside, made)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a file of the repository. A link is not followed, and a pipe not waited for: nobody of us makes one there.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Reads a file that may be absent.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match open(path).and_then(|mut file| io::Read::read_to_end(&mut file, &mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::system(format!("cannot read {}", path.display()), error)),
    }
}

/// Files parsed once and again when another process has replaced them: a rename gives a path
/// another inode, and a reused inode has another change time.
pub(crate) struct Cache<K, V>(Mutex<HashMap<K, (Stamp, Arc<V>)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Cache(Mutex::default())
    }
}

type Stamp = (u64, i64, i64, u64);

/// More than anybody serves at once; beyond it the cache starts anew.
const CACHED: usize = 256;

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    /// The value in the file at `path`, or nothing when there is no such file.
    pub(crate) fn get(&self, key: &K, path: &Path, parse: impl FnOnce(&[u8]) -> Result<V>) -> Result<Option<Arc<V>>> {
        let failed = || format!("cannot read {}", path.display());
        // Stamp and bytes from one open file: both belong to one state.
        let mut file = match open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lock(&self.0).remove(key);
                return Ok(None);
            }
            Err(error) => return Err(Error::system(failed(), error)),
        };
        let meta = file.metadata().or_fail(Class::System, failed)?;
        let stamp = (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size());
        if let Some((seen, value)) = lock(&self.0).get(key)
            && *seen == stamp
        {
            return Ok(Some(Arc::clone(value)));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes).or_fail(Class::System, failed)?;
        let value = Arc::new(parse(&bytes)?);
        let mut held = lock(&self.0);
        if held.len() >= CACHED {
            held.clear();
        }
        held.insert(key.clone(), (stamp, Arc::clone(&value)));
        Ok(Some(value))
    }
}

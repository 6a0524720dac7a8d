//! The folder of an export: whose it is, and how files come into it.

use super::{PlainFile, PlainStep};
use crate::disk;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use twostage_beneath::Mark;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// `twostage-export`, at the top of each.
const MARK: Mark = Mark {
    name: "twostage-export",
    text: "This folder is an export of twostage, which replaces and removes what is in its dists/, keys/, pool/ and repodata/.\n",
    known: &[],
    lock: "",
    proof: "",
};
/// The files that nothing names any more.
const UNNAMED: &str = "twostage-export.unnamed";
/// Where files are until they are whole.
const UNFINISHED: &str = ".twostage-unfinished";
/// The folders that are an export's own.
const OURS: [&str; 4] = ["dists", "keys", "pool", "repodata"];

/// A folder that an export is written to, and nobody else's export.
pub(super) struct ExportFolder {
    /// Where it is written.
    root: PathBuf,
    /// Where it is to be, when that is elsewhere.
    to: Option<PathBuf>,
    _lock: File,
}

impl ExportFolder {
    /// Takes a folder. One that is not there is made under another name, beside it.
    pub(super) fn open(folder: &Path) -> Result<ExportFolder> {
        let failed = || format!("cannot write {}", folder.display());
        if folder.is_dir() {
            return Ok(ExportFolder { root: folder.to_path_buf(), to: None, _lock: claim(folder)? });
        }
        if fs::symlink_metadata(folder).is_ok() {
            return Err(Error::new(Class::Usage, format!("{} is there, and is no folder", folder.display())).hint("name another one"));
        }
        let name = folder.file_name().ok_or_else(|| Error::new(Class::Usage, format!("{} names no folder", folder.display())))?;
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk::make_folder(parent)?;
        let root = parent.join(format!(".{}{UNFINISHED}", name.to_string_lossy()));
        // What one that was killed left is finished, not begun again: it is known by its mark.
        disk::make_folder(&root)?;
        let lock = claim(&root)?;
        // Somebody else may have finished it while the lock was waited for.
        if folder.is_dir() || !root.is_dir() {
            return Err(Error::new(Class::System, failed()).because("another export has just written it".to_string()).hint("try again"));
        }
        Ok(ExportFolder { root, to: Some(folder.to_path_buf()), _lock: lock })
    }

    /// Gives a new folder its name.
    pub(super) fn publish(&self) -> Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        fs::rename(&self.root, to).or_fail(Class::System, || format!("cannot write {}", to.display()))?;
        disk::sync_folder(to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

/// Takes a folder for an export, and locks it.
fn claim(folder: &Path) -> Result<File> {
    MARK.claim(folder).map_err(|error| {
        let refused = error.class() == Class::Project;
        if refused { error.hint("name a folder that is not there, one that is empty, or one that an earlier export made") } else { error }
    })?;
    let path = folder.join(MARK.name);
    let lock = disk::open(&path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::new(Class::System, format!("another export is writing {}", folder.display())).hint("wait until it has ended"))
        }
        Err(fs::TryLockError::Error(cause)) => Err(Error::system(format!("cannot lock {}", path.display()), cause)),
    }
}

/// A file that is whole, and has not its name yet.
struct Staged {
    step: PlainStep,
    from: PathBuf,
    to: String,
}

/// Writes an export.
pub(super) struct ExportWriter<'a> {
    root: &'a Path,
    unfinished: PathBuf,
    staged: Vec<Staged>,
    /// Folders that are there, and are no links.
    folders: BTreeSet<PathBuf>,
    made: usize,
    bytes: u64,
    synced: bool,
}

impl<'a> ExportWriter<'a> {
    pub(super) fn new(place: &'a ExportFolder) -> Result<ExportWriter<'a>> {
        let unfinished = place.root.join(UNFINISHED);
        let failed = || format!("cannot write {}", unfinished.display());
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::system(failed(), error)),
            _ => fs::create_dir(&unfinished).or_fail(Class::System, failed)?,
        }
        Ok(ExportWriter { root: &place.root, unfinished, staged: Vec::new(), folders: BTreeSet::new(), made: 0, bytes: 0, synced: true })
    }

    /// Whether a file of this size is there.
    pub(super) fn has(&mut self, path: &str, size: u64) -> Result<bool> {
        self.make_parent(path)?;
        Ok(fs::symlink_metadata(self.root.join(path)).is_ok_and(|there| there.is_file() && there.len() == size))
    }

    /// Whether a file has these bytes.
    pub(super) fn holds(&mut self, path: &str, bytes: &[u8]) -> Result<bool> {
        Ok(self.has(path, bytes.len() as u64)? && fs::read(self.root.join(path)).is_ok_and(|there| there == bytes))
    }

    pub(super) fn stage(&mut self, file: &PlainFile, bytes: &[u8]) -> Result<()> {
        self.stage_with(file.step, &file.path, file.size, file.date, |to| to.write_all(bytes))
    }

    /// The same of a file of the pool.
    pub(super) fn stage_pool(&mut self, file: &PlainFile, head: &[u8], pool: &mut File, skip: u64) -> Result<()> {
        self.stage_with(file.step, &file.path, file.size, file.date, |to| {
            to.write_all(head)?;
            pool.seek(SeekFrom::Start(skip))?;
            io::copy(pool, to).map(drop)
        })
    }

    fn stage_with(
        &mut self,
        step: PlainStep,
        path: &str,
        size: u64,
        date: i64,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let failed = || format!("cannot write {}", self.root.join(path).display());
        let from = self.unfinished.join(self.made.to_string());
        let mut file = File::create_new(&from).or_fail(Class::System, failed)?;
        write(&mut file).or_fail(Class::System, failed)?;
        let written = file.metadata().or_fail(Class::System, failed)?.len();
        if written != size {
            return Err(Error::new(Class::System, failed()).because(format!("{written} bytes came, and not {size}")));
        }
        if let Some(date) = u64::try_from(date).ok().filter(|date| *date > 0) {
            file.set_modified(UNIX_EPOCH + Duration::from_secs(date)).or_fail(Class::System, failed)?;
        }
        self.make_parent(path)?;
        self.staged.push(Staged { step, from, to: path.to_string() });
        (self.made, self.bytes, self.synced) = (self.made + 1, self.bytes + written, false);
        Ok(())
    }

    /// Makes the folder of a path. A link in it could lead anywhere, and is refused; so is a name that leads out.
    fn make_parent(&mut self, path: &str) -> Result<()> {
        if path.split('/').any(|name| matches!(name, "" | "." | "..") || name.contains('\0')) {
            return Err(Error::new(Class::Repository, format!("{path:?} cannot be the path of a file")));
        }
        let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
        let mut folder = self.root.to_path_buf();
        for name in parent.split('/') {
            folder.push(name);
            if self.folders.contains(&folder) {
                continue;
            }
            match fs::symlink_metadata(&folder) {
                Ok(there) if there.is_dir() => {}
                Ok(_) => {
                    let what = format!("{} is not a folder but a link, or something else", folder.display());
                    return Err(Error::new(Class::Usage, what).hint("remove it; twostage makes a folder there"));
                }
                Err(_) => fs::create_dir(&folder).or_fail(Class::System, || format!("cannot make the folder {}", folder.display()))?,
            }
            self.folders.insert(folder.clone());
        }
        Ok(())
    }

    /// Gives the files of a step their names. All that was done before is on disk then.
    pub(super) fn give_names(&mut self, step: PlainStep) -> Result<()> {
        if !self.staged.iter().any(|staged| staged.step == step) {
            return Ok(());
        }
        self.sync()?;
        for staged in self.staged.iter().filter(|staged| staged.step == step) {
            let to = self.root.join(&staged.to);
            fs::rename(&staged.from, &to).or_fail(Class::System, || format!("cannot write {}", to.display()))?;
        }
        self.synced = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.synced {
            let failed = || format!("cannot sync {}", self.root.display());
            let folder = File::open(self.root).or_fail(Class::System, failed)?;
            rustix::fs::syncfs(&folder).or_fail(Class::System, failed)?;
            self.synced = true;
        }
        Ok(())
    }

    /// The files that nothing names any more, and since when. What cannot be read says nothing.
    pub(super) fn unnamed(&self) -> BTreeMap<String, i64> {
        let text = fs::read_to_string(self.root.join(UNNAMED)).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once(' ').and_then(|(at, path)| Some((path.to_string(), at.parse().ok()?)))).collect()
    }

    pub(super) fn note_unnamed(&mut self, unnamed: &BTreeMap<String, i64>) -> Result<()> {
        let text: String = unnamed.iter().map(|(path, at)| format!("{at} {path}\n")).collect();
        let counted = (self.made, self.bytes);
        self.stage_with(PlainStep::Noted, UNNAMED, text.len() as u64, 0, |to| to.write_all(text.as_bytes()))?;
        self.give_names(PlainStep::Noted)?;
        (self.made, self.bytes) = counted;
        Ok(())
    }

    /// The paths of all files that are there, of those folders that are an export's own. Links are not followed.
    pub(super) fn present(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders: Vec<String> = OURS.iter().map(ToString::to_string).collect();
        while let Some(folder) = folders.pop() {
            let path = self.root.join(&folder);
            let failed = || format!("cannot read {}", path.display());
            if !fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
                continue;
            }
            for entry in fs::read_dir(&path).or_fail(Class::System, failed)? {
                let entry = entry.or_fail(Class::System, failed)?;
                // A name that is no text is none of ours.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let below = format!("{folder}/{name}");
                match entry.file_type().or_fail(Class::System, failed)?.is_dir() {
                    true => folders.push(below),
                    false => found.push(below),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes a file, and the folders that are empty then.
    pub(super) fn remove(&mut self, path: &str) -> Result<()> {
        // Nothing goes before what replaces it is on disk.
        self.sync()?;
        let file = self.root.join(path);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system(format!("cannot remove {}", file.display()), error));
            }
            _ => {}
        }
        let mut folder = path;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if !parent.contains('/') || fs::remove_dir(self.root.join(parent)).is_err() {
                break;
            }
            folder = parent;
        }
        Ok(())
    }

    /// What was written: files and bytes.
    pub(super) fn finish(mut self) -> Result<(usize, u64)> {
        fs::remove_dir_all(&self.unfinished).or_fail(Class::System, || format!("cannot remove {}", self.unfinished.display()))?;
        self.synced = false;
        self.sync()?;
        Ok((self.made, self.bytes))
    }
}

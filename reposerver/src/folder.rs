//! The folder that a repository is in: its lock, its scratch space, and what is known of its files.

use crate::{disk, health};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use twostage_model::Result;

/// The folder that a repository is in. Each part of the repository has it, and nothing of the other parts that it does
/// not need.
pub(crate) struct RepositoryFolder {
    path: PathBuf,
    scratch: OnceLock<disk::Scratch>,
    pub(crate) health: health::Health,
    /// Whether this process holds the publishers' lock.
    holding: AtomicBool,
}

impl RepositoryFolder {
    pub(crate) fn new(path: &Path) -> RepositoryFolder {
        let path = path.to_path_buf();
        RepositoryFolder { path, scratch: OnceLock::new(), health: health::Health::default(), holding: AtomicBool::new(false) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// This process's own folder for files being written, in the same file system.
    pub(crate) fn scratch(&self) -> Result<&disk::Scratch> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        // Whoever has the publishers' lock may sweep, and would wait for itself if it took it again.
        let made = match self.holding.load(Ordering::SeqCst) {
            true => disk::Scratch::open_held(&self.path)?,
            false => disk::Scratch::open(&self.path)?,
        };
        Ok(self.scratch.get_or_init(|| made))
    }

    /// Takes the publishers' lock, waiting for it.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        // The scratch folder comes before the lock where it can be made; what is only looked at needs none.
        let _ = self.scratch();
        let file = disk::publish_lock(&self.path)?;
        self.holding.store(true, Ordering::SeqCst);
        Ok(Held { folder: self, _file: file })
    }
}

/// The publishers' lock, until it is dropped.
pub(crate) struct Held<'a> {
    folder: &'a RepositoryFolder,
    _file: File,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.folder.holding.store(false, Ordering::SeqCst);
    }
}

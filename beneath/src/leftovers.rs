//! What a killed run left: removed only where its name is one that we give, and never through a link.

use crate::{EntryKind, Folder, FolderEntry, Identity, identity, open_in, shown};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// How deep a folder may be that is removed: each level is an open file.
const MAX_DEPTH: usize = 500;
/// Characters that `tempfile` puts behind a prefix.
const RANDOM: usize = 6;

/// Whether a name is one that `tempfile` makes with this prefix: the prefix and six letters or digits.
pub fn is_scratch_name(name: &OsStr, prefix: &str) -> bool {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
    rest.is_some_and(|rest| rest.len() == RANDOM && rest.iter().all(u8::is_ascii_alphanumeric))
}

impl Folder {
    /// Removes files and folders directly in this one that `tempfile` named with `prefix`, and of these only those that
    /// `dead` agrees to. Links and everything else with such a name stay; what is mounted in a folder stays, too.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_scratch(&self, prefix: &str, dead: impl Fn(&Folder, &FolderEntry) -> bool) -> Result<usize> {
        let mut removed = 0;
        for entry in self.entries_where(|name| is_scratch_name(name, prefix))? {
            if matches!(entry.kind, EntryKind::File | EntryKind::Folder) && dead(self, &entry) {
                self.remove(&entry.name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes one name of this folder, and all that is below it: links themselves, never what they lead to. What is not
    /// there is removed already. What is mounted below it is not entered, and is the error.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        let fail = || format!("cannot remove {}", shown(&self.path().join(name)));
        if name.is_empty() || name == "." || name == ".." || name.as_bytes().contains(&b'/') {
            return Err(Error::new(Class::System, fail()).because(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let stat = rustix::fs::fstat(self).or_fail(Class::System, fail)?;
        remove_below(self, identity(&stat).0, name, 0).map_err(io::Error::from).or_fail(Class::System, fail)
    }
}

/// Removes a name of a folder on the device `device`.
fn remove_below(folder: &impl std::os::fd::AsFd, device: u64, name: &OsStr, depth: usize) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR of a folder; POSIX wants EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(other) => return Err(other),
    }
    if depth == MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let below: OwnedFd = match open_in(folder.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let found: Identity = identity(&rustix::fs::fstat(&below)?);
    if found.0 != device {
        return Err(Errno::XDEV);
    }
    let below = Arc::new(below);
    for entry in rustix::fs::Dir::read_from(&*below)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_below(&below, device, OsStr::from_bytes(name), depth + 1)?;
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// A folder that this program keeps something in, and how it is told from everybody else's.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// The name of a file at its top that says so.
    pub name: &'static str,
    /// What that file says, to people.
    pub text: &'static str,
    /// Names at the top of a folder that was made before there was that file.
    pub known: &'static [&'static str],
    /// An empty file that such a folder has, as a rule.
    pub lock: &'static str,
    /// A file that proves it, too: nobody else has one there.
    pub proof: &'static str,
}

impl Mark {
    /// Takes a folder that is there for ours, and marks it: if it is empty, marked already, or was made by us before
    /// there were marks. In any other folder nothing is changed.
    ///
    /// # Errors
    /// There is something in it that is not ours, by its name; or it cannot be read or marked.
    pub fn claim(&self, path: &Path) -> Result<()> {
        let folder = Folder::open(path)?;
        let entries = folder.entries()?;
        if entries.iter().any(|entry| entry.name == self.name && entry.kind == EntryKind::File) {
            return Ok(());
        }
        // A file system of its own has that folder when it is new.
        let entries: Vec<_> = entries.into_iter().filter(|entry| !(entry.name == "lost+found" && entry.owner == 0)).collect();
        let foreign = entries.iter().find(|entry| !self.known.iter().any(|known| entry.name == *known));
        let locked = entries.iter().any(|entry| entry.name == self.lock && entry.kind == EntryKind::File && entry.size == 0);
        let ours = foreign.is_none() && (locked || matches!(folder.kind(self.proof), Ok(Some(EntryKind::File))));
        if !entries.is_empty() && !ours {
            let what = foreign.or(entries.first()).map(|entry| shown(Path::new(&entry.name))).unwrap_or_default();
            return Err(Error::new(
                Class::Project,
                format!("{} holds `{what}`, which is not twostage's: nothing is written there", path.display()),
            ));
        }
        let fail = || format!("cannot write {}", path.join(self.name).display());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder, self.name, flags, rustix::fs::Mode::from_raw_mode(0o644)) {
            Ok(file) => {
                let mut file = std::fs::File::from(file);
                io::Write::write_all(&mut file, self.text.as_bytes()).or_fail(Class::System, fail)?;
                file.sync_all().or_fail(Class::System, fail)?;
                rustix::fs::fsync(&folder).or_fail(Class::System, fail)
            }
            // Somebody else marked it at the same time.
            Err(Errno::EXIST) => Ok(()),
            Err(cause) => Err(Error::new(Class::System, fail()).because(io::Error::from(cause))),
        }
    }
}

//! Whether a folder is what it seems: files and folders, and no link that could lead its reader elsewhere.

use crate::{Folder, open_in, shown};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// How deep a folder of ours can be.
const MAX_DEPTH: usize = 40;

impl Folder {
    /// Refuses a folder with a link, a device, a socket or a pipe anywhere below. It is then safe to be used by paths, by
    /// whoever trusts those who can change it. `enter` says of a folder, by its path from here, whether it is looked into.
    ///
    /// # Errors
    /// The first thing that is neither file nor folder, by its path; or a folder cannot be read.
    pub fn only_files_and_folders(&self, enter: &dyn Fn(&Path) -> bool) -> Result<()> {
        let handle = open_in(self.as_fd(), OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC);
        let handle = handle.or_fail(Class::System, || format!("cannot read {}", self.path().display()))?;
        self.check_below(handle, &PathBuf::new(), enter, 0)
    }

    fn check_below(&self, folder: OwnedFd, below: &Path, enter: &dyn Fn(&Path) -> bool, depth: usize) -> Result<()> {
        let fail = || format!("cannot read {}", shown(&self.path().join(below)));
        let refuse = |path: &Path, what: &str| {
            Err(Error::new(Class::Project, format!("{} is {what}, which twostage does not make there", shown(&self.path().join(path))))
                .hint("remove it; who gave you this folder may have wanted it to lead elsewhere"))
        };
        if depth > MAX_DEPTH {
            return refuse(below, "a folder in too many others");
        }
        for entry in Dir::read_from(&folder).or_fail(Class::System, fail)? {
            let entry = entry.or_fail(Class::System, fail)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = OsStr::from_bytes(name);
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                // Not every file system tells it with the name.
                kind = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(rustix::io::Errno::NOENT) => continue,
                    found => FileType::from_raw_mode(found.or_fail(Class::System, fail)?.st_mode),
                };
            }
            let path = below.join(name);
            match kind {
                FileType::RegularFile => {}
                FileType::Directory if !enter(&path) => {}
                // It comes with a file system, and is root's to look into.
                FileType::Directory if depth == 0 && name == "lost+found" => {}
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    match open_in(folder.as_fd(), name, flags) {
                        // Somebody who works on it removed it meanwhile.
                        Err(rustix::io::Errno::NOENT) => {}
                        next => self.check_below(next.or_fail(Class::System, fail)?, &path, enter, depth + 1)?,
                    }
                }
                FileType::Symlink => return refuse(&path, "a symbolic link"),
                FileType::Fifo => return refuse(&path, "a pipe"),
                FileType::Socket => return refuse(&path, "a socket"),
                _ => return refuse(&path, "a device"),
            }
        }
        Ok(())
    }
}

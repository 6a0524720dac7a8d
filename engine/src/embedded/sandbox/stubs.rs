//! Mount points that an image lacks, in a layer of their own between the image's and the one that is written, so that
//! none of them gets into the image. The folders that hold them look as the image's do.

use super::resolve;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};

/// What is needed at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    Folder,
    File,
    Link(&'static str),
}

/// What every container needs (moby, daemon/initlayer/setup_unix.go).
pub(super) fn usual() -> impl Iterator<Item = (String, Need)> {
    let folders = ["/dev/pts", "/dev/shm", "/proc", "/sys"].map(|path| (path.to_string(), Need::Folder));
    let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/console"].map(|path| (path.to_string(), Need::File));
    folders.into_iter().chain(files).chain([("/etc/mtab".to_string(), Need::Link("/proc/mounts"))])
}

/// Makes in `dir` what `tree` lacks; whether that was anything.
pub(super) fn fill(tree: Option<&OwnedFd>, dir: &OwnedFd, needs: &[(String, Need)]) -> Result<bool> {
    let mut made = Made { tree, dir, folders: BTreeMap::new(), any: false };
    for (path, need) in needs {
        made.need(path, need).or_fail(Class::Engine, || format!("cannot make the mount point {path}"))?;
    }
    made.finish().or_fail(Class::Engine, || "cannot make mount points look like the image's".into())?;
    Ok(made.any)
}

struct Made<'a> {
    tree: Option<&'a OwnedFd>,
    dir: &'a OwnedFd,
    /// Folders that are the image's: what they look like there.
    folders: BTreeMap<Vec<u8>, rustix::fs::Stat>,
    any: bool,
}

impl Made<'_> {
    fn need(&mut self, path: &str, need: &Need) -> io::Result<()> {
        let follow = !matches!(need, Need::Link(_));
        let real = match self.tree {
            Some(tree) => resolve::real(tree, path.as_bytes(), follow)?,
            // (A layer of ours has no links in its folders.)
            None => resolve::real(self.dir, path.as_bytes(), false)?,
        };
        if real.is_empty()
            || self.in_image(&real)?.is_some()
            || resolve::open_plain(self.dir, &real, OFlags::PATH | OFlags::NOFOLLOW).is_ok()
        {
            return Ok(());
        }
        let (parent, name) = resolve::split(&real);
        let mut at = 0;
        while at < parent.len() {
            at = parent[at..].iter().position(|byte| *byte == b'/').map_or(parent.len(), |next| at + next);
            match self.in_image(&parent[..at])? {
                Some(found) if FileType::from_raw_mode(found.st_mode).is_dir() => {
                    self.folders.insert(parent[..at].to_vec(), found);
                }
                // A file is in the way, and stays there; mounting will say so.
                Some(_) => return Ok(()),
                None => {}
            }
            at += 1;
        }
        let folder = resolve::make_folders(self.dir, parent, Mode::from_raw_mode(0o755))?;
        match need {
            Need::Folder => rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755))?,
            Need::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                // What is mounted on a program has its own mode.
                drop(rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o755))?);
            }
            Need::Link(target) => rustix::fs::symlinkat(*target, &folder, name)?,
        }
        self.any = true;
        Ok(())
    }

    fn in_image(&self, path: &[u8]) -> io::Result<Option<rustix::fs::Stat>> {
        let Some(tree) = self.tree else { return Ok(None) };
        match resolve::open_plain(tree, path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(at) => Ok(Some(rustix::fs::fstat(at)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The image's folders get back what they were; the deepest ones first, as each change shows in the one above.
    fn finish(&self) -> io::Result<()> {
        if let Some(tree) = self.tree {
            look_like(self.dir, b"", &rustix::fs::fstat(tree)?)?;
        }
        for (path, found) in self.folders.iter().rev() {
            look_like(self.dir, path, found)?;
        }
        Ok(())
    }
}

fn look_like(dir: &OwnedFd, path: &[u8], like: &rustix::fs::Stat) -> io::Result<()> {
    let folder = resolve::open_plain(dir, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    match rustix::fs::fchown(&folder, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid))) {
        // An owner that the namespace does not have shows as nobody, who may be none of its ids, too.
        Err(Errno::INVAL | Errno::PERM) => {}
        owned => owned?,
    }
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(like.st_mode & 0o7777))?;
    let time = rustix::fs::Timespec { tv_sec: like.st_mtime, tv_nsec: like.st_mtime_nsec.try_into().unwrap_or_default() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(&folder, ".", &times, AtFlags::empty())?;
    Ok(())
}

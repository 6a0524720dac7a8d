//! Paths that stay inside a root, whatever links are in it.

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

/// How many links a path may lead through (Linux, MAXSYMLINKS, is 40; Docker's resolver takes 255).
const MAX_LINKS: usize = 255;

/// Opens what is at a path without following any link.
pub(super) fn open_plain(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open(root, path, flags, resolve)
}

/// Opens what is at a path; links lead to where they lead for somebody whose root this is.
pub(super) fn open_in(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

fn open(root: impl AsFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Somebody renames something somewhere (openat2(2)).
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

/// The path of a descriptor, or of a name in the folder that it is of, for calls that only take paths.
pub(super) fn shown(fd: &impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Where a path leads in a root: names, with no link among them but maybe the last one, if `last` is not to be
/// followed. Names that are not there stay as they are.
pub(super) fn real(root: impl AsFd, path: &[u8], last: bool) -> io::Result<Vec<u8>> {
    let mut to_do: VecDeque<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
    let mut real: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = to_do.pop_front() {
        match &part[..] {
            b"" | b"." => continue,
            b".." => {
                real.pop();
                continue;
            }
            _ => real.push(part),
        }
        if to_do.is_empty() && !last {
            break;
        }
        let Some(target) = link(&root, &real.join(&b'/'))? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::from(Errno::LOOP));
        }
        real.pop();
        if target.first() == Some(&b'/') {
            real.clear();
        }
        for part in target.split(|byte| *byte == b'/').rev() {
            to_do.push_front(part.to_vec());
        }
    }
    Ok(real.join(&b'/'))
}

/// What the link at a path says, if there is one.
pub(super) fn link(root: impl AsFd, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let at = match open_plain(&root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(at) => at,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::readlinkat(&at, "", Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens the folder at a path that has no links in it, and makes it and the folders above it where they are missing.
pub(super) fn make_folders(root: impl AsFd, path: &[u8], mode: Mode) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_plain(&root, path, flags) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let (parent, name) = split(path);
    let folder = make_folders(root, parent, mode)?;
    match rustix::fs::mkdirat(&folder, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    open_plain(&folder, name, flags | OFlags::NOFOLLOW)
}

/// The folder of a path, and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// What is at a name in a folder, if anything.
pub(super) fn stat(folder: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<rustix::fs::Stat>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    match rustix::fs::statat(folder, name, flags) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a folder, in the order of their bytes.
pub(super) fn names(folder: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let readable = rustix::fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(readable)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a name and all below it, however deep that is: what is below is moved up before it is gone through.
pub(super) fn remove(folder: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        removed => return removed,
    }
    let opened = rustix::fs::openat(&folder, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    empty(&opened)?;
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// Removes all that is in a folder.
pub(super) fn empty(top: impl AsFd) -> rustix::io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match rustix::fs::unlinkat(&top, &name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {}
                removed => {
                    removed?;
                    continue;
                }
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = rustix::fs::openat(&top, &name, flags, Mode::empty())?;
            for below in self::names(&folder)? {
                match rustix::fs::unlinkat(&folder, &below, AtFlags::empty()) {
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    removed => {
                        removed?;
                        continue;
                    }
                }
                match rustix::fs::unlinkat(&folder, &below, AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                    removed => {
                        removed?;
                        continue;
                    }
                }
                loop {
                    moved += 1;
                    match rustix::fs::renameat_with(
                        &folder,
                        &below,
                        &top,
                        format!(".twostage-removed-{moved}"),
                        rustix::fs::RenameFlags::NOREPLACE,
                    ) {
                        Err(Errno::EXIST) => {}
                        // An overlay without `redirect_dir` moves no folder of a lower layer.
                        Err(Errno::XDEV) => break remove(&folder, &below)?,
                        renamed => break renamed?,
                    }
                }
            }
            rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

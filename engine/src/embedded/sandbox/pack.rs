//! Files become a tar: a layer that was written, or what is at a path of a tree.

use super::disk;
use super::extract::{NOTES, OPAQUE, OPAQUE_WHITEOUT, WHITEOUT, is_whiteout};
use super::gotar::{self, Head};
use super::resolve::{self, shown};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::OwnedFd;
use twostage_image::path::{from_bytes, shown as printed};
use twostage_model::error::OrFail as _;
use twostage_model::shown::size as in_words;
use twostage_model::{Class, Error, Result};

/// The deepest folder, as for images that are read (twostage-image, path.rs).
const MAX_DEPTH: usize = 1000;
/// Bytes of a file from which on it is asked whether it can fit at all.
const LARGE: u64 = 64 << 20;

/// Writes the layer in `upper`; `below` is the tree of the layers under it.
pub(super) fn layer(upper: OwnedFd, below: Option<OwnedFd>, out: &mut dyn Write) -> Result<()> {
    let mut packer = Packer { out, layer: true, below, seen: HashMap::new(), buffer: vec![0; 256 << 10] };
    packer.folder(&upper, b"", 0)?;
    packer.end()
}

/// Writes what is at a path of the tree, under its last name.
pub(super) fn subtree(tree: &OwnedFd, path: &str, out: &mut dyn Write) -> Result<()> {
    let failed = || format!("cannot read {path}");
    let follow = path.ends_with('/') || path.ends_with("/.");
    let real = resolve::real(tree, path.as_bytes(), follow).or_fail(Class::Engine, failed)?;
    let mut packer = Packer { out, layer: false, below: None, seen: HashMap::new(), buffer: vec![0; 256 << 10] };
    if real.is_empty() {
        // The root comes first, too, so that whoever reads knows what all else is in.
        let found = rustix::fs::fstat(tree).or_fail(Class::Engine, failed)?;
        let (name, mode) = (b"./".to_vec(), found.st_mode & 0o7777);
        let head = Head { name, kind: b'5', mode, uid: found.st_uid, gid: found.st_gid, mtime: found.st_mtime, ..Head::default() };
        gotar::header(&mut packer.out, &head).or_fail(Class::System, failed)?;
        packer.folder(tree, b"", 0)?;
        return packer.end();
    }
    let (parent, name) = resolve::split(&real);
    let folder = resolve::open_plain(tree, parent, OFlags::PATH | OFlags::DIRECTORY);
    let folder = folder.map_err(|error| absent(path, error))?;
    let found = resolve::stat(&folder, name).or_fail(Class::Engine, failed)?.ok_or_else(|| absent(path, Errno::NOENT))?;
    let called = path.split('/').rfind(|part| !part.is_empty() && *part != ".").unwrap_or_default();
    packer.entry(&folder, name, called.as_bytes(), &found, 0)?;
    packer.end()
}

fn absent(path: &str, error: Errno) -> Error {
    Error::new(Class::Engine, format!("the container has no {path}")).because(error).hint("see which path the command really writes to")
}

struct Packer<'a> {
    out: &'a mut dyn Write,
    /// Deletions are said as a layer says them.
    layer: bool,
    below: Option<OwnedFd>,
    /// Files of several names that were written under one of them.
    seen: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    fn end(&mut self) -> Result<()> {
        gotar::end(&mut self.out).or_fail(Class::System, || "cannot write the tar".into())
    }

    /// What is in a folder, in the order of Go's filepath.Walk.
    fn folder(&mut self, folder: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        let failed = || format!("cannot read the folder {}", text(path));
        if depth > MAX_DEPTH {
            return Err(Error::new(Class::Build, format!("{} is deeper than {MAX_DEPTH} folders", text(path)))
                .hint("no image takes that: see what makes so many folders"));
        }
        for name in resolve::names(folder).or_fail(Class::System, failed)? {
            let found = resolve::stat(folder, &name).or_fail(Class::System, failed)?;
            // A deletion in a folder that only one layer has: an overlay lists it, and says that nothing is there.
            let Some(found) = found else { continue };
            let path = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            self.entry(folder, &name, &path, &found, depth + 1)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8], found: &Stat, depth: usize) -> Result<()> {
        let failed = || format!("cannot pack {}", text(path));
        if self.layer && is_whiteout(found) {
            // What only the container had (`/etc/mtab`) is not the image's to lose.
            return if self.is_below(path).or_fail(Class::System, failed)? { self.whiteout(path) } else { Ok(()) };
        }
        if self.layer && name.starts_with(WHITEOUT) {
            // It would delete something for whoever unpacks the layer, and nothing for us.
            return Err(Error::new(
                Class::Build,
                format!("cannot pack {}: in a layer, such a name says that something is deleted", text(path)),
            )
            .hint(format!("no image can have a file whose name begins with {}: remove it, or call it otherwise", text(WHITEOUT))));
        }
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Socket {
            return Ok(());
        }
        let mut head = Head {
            name: path.to_vec(),
            mode: found.st_mode & 0o7777,
            uid: found.st_uid,
            gid: found.st_gid,
            mtime: found.st_mtime,
            xattrs: self.xattrs(folder, name, kind).or_fail(Class::System, failed)?,
            ..Head::default()
        };
        let mut data = None;
        match kind {
            FileType::Directory => {
                head.kind = b'5';
                head.name.push(b'/');
            }
            FileType::Symlink => {
                head.kind = b'2';
                head.link = rustix::fs::readlinkat(folder, name, Vec::new()).or_fail(Class::System, failed)?.into_bytes();
            }
            FileType::RegularFile => {
                head.kind = b'0';
                head.size = u64::try_from(found.st_size).or_fail(Class::System, failed)?;
            }
            FileType::Fifo => head.kind = b'6',
            FileType::CharacterDevice | FileType::BlockDevice => {
                head.kind = if kind == FileType::CharacterDevice { b'3' } else { b'4' };
                head.major = rustix::fs::major(found.st_rdev);
                head.minor = rustix::fs::minor(found.st_rdev);
            }
            _ => return Err(Error::new(Class::System, failed()).because("it is of no kind that is known")),
        }
        let several = found.st_nlink > 1 && kind != FileType::Directory;
        match self.seen.get(&(found.st_dev, found.st_ino)).filter(|_| several) {
            Some(first) => {
                head.kind = b'1';
                head.link.clone_from(first);
                head.size = 0;
            }
            None if several => {
                self.seen.insert((found.st_dev, found.st_ino), path.to_vec());
            }
            None => {}
        }
        if head.kind == b'0' && head.size > 0 {
            if self.layer {
                may_fit(folder, path, head.size)?;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            data = Some(File::from(rustix::fs::openat(folder, name, flags, Mode::empty()).or_fail(Class::System, failed)?));
        }
        gotar::header(&mut self.out, &head).or_fail(Class::System, failed)?;
        if let Some(mut data) = data {
            self.data(&mut data, head.size).or_fail(Class::System, failed)?;
        }
        if kind == FileType::Directory {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(folder, name, flags, Mode::empty()).or_fail(Class::System, failed)?;
            if self.layer && Self::hides(&below).or_fail(Class::System, failed)? {
                let mark = Head {
                    name: [path, b"/", OPAQUE_WHITEOUT].concat(),
                    kind: b'0',
                    mode: head.mode & 0o777,
                    uid: head.uid,
                    gid: head.gid,
                    ..Head::default()
                };
                gotar::header(&mut self.out, &mark).or_fail(Class::System, failed)?;
            }
            self.folder(&below, path, depth)?;
        }
        Ok(())
    }

    /// A deletion. Docker writes the owner and the time of the device that says it, which the kernel shares among many;
    /// they mean nothing, and differ from run to run, so there are none.
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (folder, name) = resolve::split(path);
        let name = [WHITEOUT, name].concat();
        let name = if folder.is_empty() { name } else { [folder, b"/", &name].concat() };
        let head = Head { name, kind: b'0', ..Head::default() };
        gotar::header(&mut self.out, &head).or_fail(Class::System, || format!("cannot pack the deletion of {}", text(path)))
    }

    /// Whether the kernel says that a folder hides one of the layers below. It says so, too, of one that hides nothing
    /// but was renamed, as a package manager does with new folders; Docker writes what the kernel says, and so do we.
    fn hides(folder: &OwnedFd) -> rustix::io::Result<bool> {
        let mut value = [0; 2];
        match rustix::fs::getxattr(shown(folder, b""), OPAQUE, &mut value[..]) {
            Ok(1) => Ok(value[0] == b'y'),
            Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_below(&self, path: &[u8]) -> rustix::io::Result<bool> {
        let Some(below) = &self.below else { return Ok(false) };
        match resolve::open_plain(below, path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Capabilities of programs, as every engine keeps them, and what users noted. Read in here, the capabilities are
    /// of version 2: the kernel leaves out whose root they are for.
    fn xattrs(&self, folder: &OwnedFd, name: &[u8], kind: FileType) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut found = BTreeMap::new();
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Ok(found);
        }
        let at = shown(folder, name);
        let length = match rustix::fs::llistxattr_query(&at[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(found),
            length => length?,
        };
        let mut list = vec![0; length];
        let length = rustix::fs::llistxattr(&at[..], &mut list[..])?;
        for key in list[..length].split(|byte| *byte == 0) {
            if key != b"security.capability" && (!key.starts_with(b"user.") || key.starts_with(NOTES)) {
                continue;
            }
            let length = rustix::fs::lgetxattr_query(&at[..], key)?;
            let mut value = vec![0; length];
            let length = rustix::fs::lgetxattr(&at[..], key, &mut value[..])?;
            value.truncate(length);
            found.insert(key.to_vec(), value);
        }
        Ok(found)
    }

    fn data(&mut self, data: &mut File, size: u64) -> std::io::Result<()> {
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = data.read(&mut self.buffer[..most])?;
            if n == 0 {
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it became shorter"));
            }
            self.out.write_all(&self.buffer[..n])?;
            left -= n as u64;
        }
        gotar::pad(&mut self.out, size)
    }
}

/// A hole costs nothing where a command makes it, and its whole size in a tar, which is written to the same disk. Whoever
/// writes that stops in time; what can never fit is not even begun.
fn may_fit(folder: &OwnedFd, path: &[u8], size: u64) -> Result<()> {
    if size < LARGE {
        return Ok(());
    }
    let free = rustix::fs::fstatvfs(folder).map_or(u64::MAX, |disk| disk::free(&disk));
    if size <= free {
        return Ok(());
    }
    let (path, size, free) = (text(path), in_words(size), in_words(free));
    Err(Error::new(Class::Build, format!("cannot pack {path}: it takes {size} in a layer, and {free} are free on the disk"))
        .hint("see what writes it: a file that is mostly holes takes its whole size in a layer; or remove it where it was made"))
}

fn text(path: &[u8]) -> String {
    printed(&from_bytes(path))
}

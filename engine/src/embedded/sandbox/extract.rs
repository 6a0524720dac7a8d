//! A tar becomes files: of a layer, in the form that overlays take, or in a tree, as Docker unpacks an upload.
//!
//! The tar may say anything. Its paths are clean before they are used, every one is opened below the root, by
//! openat2(2), and nothing is ever written through a link that is the last name of a path.

use super::disk::Watch;
use super::ids;
use super::resolve::{self, shown};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use twostage_image::path::{clean, from_bytes, shown as printed, to_bytes};
use twostage_image::{Header, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// How a layer marks what it deletes (OCI image-spec, layer.md).
pub(super) const WHITEOUT: &[u8] = b".wh.";
pub(super) const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// How an overlay of a user namespace marks a folder that hides all below (overlayfs.rst).
pub(super) const OPAQUE: &str = "user.overlay.opaque";
/// What a file takes on a disk besides its bytes, about.
const FILE: u64 = 4096;
/// What overlays note for themselves.
pub(super) const NOTES: &[u8] = b"user.overlay.";

/// What the tar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A layer, with deletions.
    Layer,
    /// Files for a tree. `replace`: a folder may take the place of something else, and the other way round.
    Tree { replace: bool },
}

/// Unpacks a tar into a root; without `owners` everything belongs to whoever unpacks. A small tar may say that a file is
/// huge, by its holes, and is believed only as far as the disk has room.
pub(super) fn extract(root: OwnedFd, tar: impl Read, form: Form, owners: bool, watch: Watch) -> Result<()> {
    let mut tar = Tarball::new(BufReader::with_capacity(256 << 10, tar));
    let mut writer = Writer { root, form, owners, watch, parent: None, folders: Vec::new(), buffer: vec![0; 256 << 10] };
    while let Some(header) = tar.next()? {
        writer.member(&header, &mut tar).map_err(|error| {
            let class = error.class();
            Error::new(class, format!("cannot unpack {}", printed(&from_bytes(&header.path)))).because(error)
        })?;
    }
    tar.finish()?;
    writer.finish()
}

struct Writer {
    root: OwnedFd,
    form: Form,
    owners: bool,
    watch: Watch,
    /// The folder of the last member, which is most often that of the next one.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Folders and their times, which would not survive what is put into them.
    folders: Vec<(Vec<u8>, i64)>,
    buffer: Vec<u8>,
}

fn system<T>(result: std::result::Result<T, Errno>, what: &str) -> Result<T> {
    result.or_fail(Class::System, || what.to_string())
}

impl Writer {
    fn member(&mut self, header: &Header, data: &mut impl Read) -> Result<()> {
        let path = to_bytes(&clean(&header.path)?);
        if path.is_empty() {
            // The root itself. An upload leaves it as it is, as Docker does.
            if header.kind == b'5' && self.form == Form::Layer {
                self.attributes(&self.duplicate()?, b"", header)?;
                self.folders.push((path, header.mtime));
            }
            return Ok(());
        }
        let (parent, name) = resolve::split(&path);
        let folder = self.folder(parent)?;
        if self.form == Form::Layer && name.starts_with(WHITEOUT) {
            return whiteout(&folder, name);
        }
        let below_is_hidden = self.make_room(&folder, name, header)?;
        self.watch.took(FILE)?;
        let mode = Mode::from_raw_mode(0o600);
        match header.kind {
            b'0' => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(system(rustix::fs::openat(&*folder, name, flags, mode), "cannot make the file")?);
                loop {
                    let n = data.read(&mut self.buffer).or_fail(Class::System, || "cannot read the tar".into())?;
                    if n == 0 {
                        break;
                    }
                    file.write_all(&self.buffer[..n]).or_fail(Class::System, || "cannot write the file".into())?;
                    self.watch.took(n as u64)?;
                }
            }
            b'5' => match rustix::fs::mkdirat(&*folder, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => self.folders.push((path.clone(), header.mtime)),
                Err(error) => return Err(Error::system("cannot make the folder", error)),
            },
            b'1' => self.hard_link(&folder, name, header)?,
            b'2' => system(rustix::fs::symlinkat(&header.link, &*folder, name), "cannot make the link")?,
            b'6' => system(rustix::fs::mknodat(&*folder, name, FileType::Fifo, mode, 0), "cannot make the pipe")?,
            b'3' | b'4' => {
                let kind = if header.kind == b'3' { FileType::CharacterDevice } else { FileType::BlockDevice };
                let number = |number: u64| u32::try_from(number).or_fail(Class::Engine, || "a device's number is absurd".into());
                let device = rustix::fs::makedev(number(header.major)?, number(header.minor)?);
                // 0/0 is how an overlay deletes, so in Docker's layers it does; it is no device.
                if device == 0 && header.kind == b'3' && self.form == Form::Layer {
                    return delete(&folder, name);
                }
                match rustix::fs::mknodat(&*folder, name, kind, mode, device) {
                    // No user namespace may make any; Docker leaves them out, too, when it has no root.
                    Err(Errno::PERM) => return Ok(()),
                    made => system(made, "cannot make the device")?,
                }
            }
            other => return Err(Error::new(Class::Engine, format!("it is of a kind that there is not: {:?}", char::from(other)))),
        }
        if below_is_hidden {
            opaque(&folder, name)?;
        }
        self.attributes(&folder, name, header)
    }

    fn duplicate(&self) -> Result<OwnedFd> {
        self.root.try_clone().or_fail(Class::System, || "cannot open the root".into())
    }

    /// Opens the folder of a member, which is made if it is missing.
    fn folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some((last, folder)) = &self.parent
            && last == path
        {
            return Ok(folder.clone());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = match resolve::open_in(&self.root, path, flags) {
            Err(Errno::NOENT) => {
                let real = resolve::real(&self.root, path, true).or_fail(Class::System, || "cannot follow its path".into())?;
                resolve::make_folders(&self.root, &real, Mode::from_raw_mode(0o755))
            }
            // A deletion, or a file, of this layer is in the way; what comes later counts.
            Err(Errno::NOTDIR) if self.form == Form::Layer => {
                return Err(Error::new(Class::Engine, "a name of its path is no folder in this layer"));
            }
            opened => opened,
        };
        let opened = Rc::new(system(opened, "cannot open its folder")?);
        self.parent = Some((path.to_vec(), opened.clone()));
        Ok(opened)
    }

    /// Removes what is in the way of a member; whether that was a deletion, below which a new folder shows nothing.
    fn make_room(&mut self, folder: &OwnedFd, name: &[u8], header: &Header) -> Result<bool> {
        let failed = "cannot see what is there";
        let Some(found) = system(resolve::stat(folder, name), failed)? else { return Ok(false) };
        let (is_folder, becomes_folder) = (FileType::from_raw_mode(found.st_mode).is_dir(), header.kind == b'5');
        if is_folder && becomes_folder {
            return Ok(false);
        }
        if self.form == (Form::Tree { replace: false }) && is_folder != becomes_folder {
            let (old, new) = if is_folder { ("a folder", "something else") } else { ("something else", "a folder") };
            return Err(Error::new(Class::Engine, format!("there is {old}, and the new one is {new}"))
                .hint("remove what is there first, or copy to another path"));
        }
        system(resolve::remove(folder, name), "cannot remove what is there")?;
        // It may have been on the way to the last member.
        self.parent = None;
        Ok(self.form == Form::Layer && becomes_folder && is_whiteout(&found))
    }

    fn hard_link(&mut self, folder: &OwnedFd, name: &[u8], header: &Header) -> Result<()> {
        let target = to_bytes(&clean(&header.link)?);
        let (parent, last) = resolve::split(&target);
        let from = system(resolve::open_in(&self.root, parent, OFlags::PATH | OFlags::DIRECTORY), "cannot open the folder of its target")?;
        match rustix::fs::linkat(&from, last, folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(Error::new(Class::Runtime, format!("it is one more name of {}", printed(&from_bytes(&target))))
                .because("there is no such file, in this layer or below")
                .hint("whoever made the layer has to write it again")),
            linked => linked.or_fail(Class::System, || format!("cannot link it to {}", printed(&from_bytes(&target)))),
        }
    }

    /// Owner, mode, attributes and time, in this order: each of the first two takes something from the next ones.
    fn attributes(&self, folder: &OwnedFd, name: &[u8], header: &Header) -> Result<()> {
        let at = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() } | AtFlags::SYMLINK_NOFOLLOW;
        if self.owners {
            let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            let (Some(uid), Some(gid)) = (id(header.uid), id(header.gid)) else { return Err(ids::unknown(header.uid, header.gid)) };
            rustix::fs::chownat(folder, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), at)
                .map_err(|error| ids::refused(error, uid, gid, "cannot give it its owner"))?;
        }
        // One more name of a file states all of this anew, as with Docker; one of a link leaves the link its time.
        let is_link = match header.kind {
            b'1' => system(resolve::stat(folder, name), "cannot see what it names")?
                .is_some_and(|found| FileType::from_raw_mode(found.st_mode).is_symlink()),
            kind => kind == b'2',
        };
        if !is_link {
            let mode = Mode::from_raw_mode(header.mode & 0o7777);
            // (It is no link, and nobody else is in this folder.)
            system(rustix::fs::chmod(bytes(&shown(folder, name)), mode), "cannot give it its mode")?;
        }
        for (key, value) in &header.xattrs {
            let wanted = key == b"security.capability"
                || key.starts_with(b"system.posix_acl_")
                || (key.starts_with(b"user.") && !key.starts_with(NOTES));
            if !wanted {
                continue;
            }
            match set_xattr(folder, name, key, value) {
                // As Docker: what this file system, or this kind of file, cannot have.
                Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(cause @ (Errno::INVAL | Errno::RANGE | Errno::TOOBIG)) => {
                    return Err(Error::new(
                        Class::Runtime,
                        format!("its attribute {} has a value that is none", printed(&from_bytes(key))),
                    )
                    .because(io::Error::from(cause))
                    .hint("whoever made the layer has to write it again; `getcap` and `getfattr` show what a file has"));
                }
                set => set.or_fail(Class::System, || format!("cannot give it the attribute {}", printed(&from_bytes(key))))?,
            }
        }
        if (header.kind == b'5' && !name.is_empty()) || (header.kind == b'1' && is_link) {
            return Ok(());
        }
        let time = Timespec { tv_sec: header.mtime, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        system(set_times(folder, name, &times), "cannot give it its time")
    }

    fn finish(self) -> Result<()> {
        for (path, mtime) in &self.folders {
            let (parent, name) = resolve::split(path);
            let folder = match resolve::open_in(&self.root, parent, OFlags::PATH | OFlags::DIRECTORY) {
                // A later member took its place.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                opened => system(opened, "cannot open a folder again")?,
            };
            let time = Timespec { tv_sec: *mtime, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            match set_times(&folder, name, &times) {
                Err(Errno::NOENT) => {}
                set => set.or_fail(Class::System, || format!("cannot give {} its time", printed(&from_bytes(path))))?,
            }
        }
        Ok(())
    }
}

fn set_times(folder: &OwnedFd, name: &[u8], times: &Timestamps) -> rustix::io::Result<()> {
    if name.is_empty() {
        return rustix::fs::utimensat(folder, ".", times, AtFlags::empty());
    }
    rustix::fs::utimensat(folder, name, times, AtFlags::SYMLINK_NOFOLLOW)
}

fn set_xattr(folder: &OwnedFd, name: &[u8], key: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    let path = shown(folder, name);
    if name.is_empty() {
        // The path of a descriptor is a link itself.
        return rustix::fs::setxattr(path, key, value, XattrFlags::empty());
    }
    rustix::fs::lsetxattr(path, key, value, XattrFlags::empty())
}

fn bytes(path: &[u8]) -> &std::path::Path {
    super::mounts::path(path)
}

/// A character device 0/0.
pub(super) fn is_whiteout(found: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(found.st_mode).is_char_device() && found.st_rdev == 0
}

fn opaque(folder: &OwnedFd, name: &[u8]) -> Result<()> {
    set_xattr(folder, name, OPAQUE.as_bytes(), b"y").map_err(|error| {
        Error::system("cannot mark a folder as one that hides all below", error)
            .hint("the file system needs extended attributes: put the store on ext4, xfs or btrfs")
    })
}

/// What a layer's `.wh.` file says.
fn whiteout(folder: &OwnedFd, name: &[u8]) -> Result<()> {
    if name == OPAQUE_WHITEOUT {
        return opaque(folder, b"");
    }
    let name = name.strip_prefix(WHITEOUT).unwrap_or(name);
    if name.starts_with(WHITEOUT) {
        // Notes of aufs, which Docker skips, too.
        return Ok(());
    }
    if matches!(name, b"" | b"." | b"..") {
        return Err(Error::new(Class::Engine, "it deletes nothing that has a name"));
    }
    // A deletion is of what is in the layers below: what this layer has at that place stays, and hides it.
    match system(resolve::stat(folder, name), "cannot see what is there")? {
        Some(found) if FileType::from_raw_mode(found.st_mode).is_dir() => opaque(folder, name),
        Some(_) => Ok(()),
        None => delete(folder, name),
    }
}

fn delete(folder: &OwnedFd, name: &[u8]) -> Result<()> {
    system(rustix::fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0), "cannot make a deletion")
}

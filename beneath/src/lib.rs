//! One opener for all that a project names: nothing outside of the project's folder is read.
//!
//! A project file, a lock, a source tree are written by others. A name in them, and a link that lies where the name
//! leads, is followed only as long as it stays below the folder:
//!
//! ```text
//! conf.txt                     a file: opened
//! conf.txt -> etc/conf         a link that stays inside: followed
//! conf.txt -> /etc/shadow      refused: it leads out
//! etc -> ..   and  etc/shadow  refused: it leads out
//! conf.txt -> .twostage/key    refused, where the folder was opened with `closing(".twostage")`
//! conf.txt, a pipe             refused: it is no file, and opening it would wait
//! ```
//!
//! The names are walked here, one by one, each looked up with `openat2(2)` in the folder that was opened before it
//! (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`). So nothing that changes in between can lead
//! out, and an error can say which link does, and where to.
//!
//! ```no_run
//! # fn main() -> twostage_model::Result<()> {
//! use std::path::Path;
//! use twostage_beneath::Folder;
//!
//! let project = Folder::open(Path::new("hello"))?.closing(".twostage")?;
//! let settings = project.read_text("conf/greet.yaml", 1 << 20)?;
//! for entry in project.folder("greet")?.entries()? {
//!     println!("{} {:?}", entry.name.display(), entry.kind);
//! }
//! # Ok(()) }
//! ```

mod leftovers;
mod named;
mod real;

pub use leftovers::{Mark, is_scratch_name};
pub use named::{read_bytes, read_text};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use twostage_model::error::OrFail as _;
use twostage_model::names::UNFINISHED;
use twostage_model::{Class, Error, Result};

/// Tells the unfinished files of this process apart, on a file system without nameless ones.
static UNFINISHED_FILES: AtomicU32 = AtomicU32::new(0);

/// Links that one name may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// What tells a file or folder from all others of the machine: device and inode.
type Identity = (u64, u64);

/// A folder, and all that is below it.
#[derive(Debug, Clone)]
pub struct Folder {
    handle: Arc<OwnedFd>,
    /// As people know it, for messages and for those who need a path.
    path: PathBuf,
    /// Below it, but not to be opened by a name.
    closed: Arc<Vec<(Identity, String)>>,
}

/// What a name of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link. Only [`Folder::entries`] gives it: everything else follows links, or refuses to.
    Link,
    /// A device, a socket or a pipe.
    Other,
}

/// One name in a folder, and what is there. No link is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name: any bytes but `/` and NUL.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Bytes of a file.
    pub size: u64,
    /// When it was last changed, in seconds since 1970.
    pub mtime: i64,
    /// Names that the file has.
    pub links: u64,
    /// The id of the user that it belongs to.
    pub owner: u32,
}

/// Where a name led.
struct Place {
    /// The folder that it is in; none for the root itself.
    parent: Option<Arc<OwnedFd>>,
    /// Its name there.
    name: OsString,
    /// Opened only to be looked at (`O_PATH`).
    handle: Arc<OwnedFd>,
    stat: Stat,
    /// From the root, without a link in it.
    real: PathBuf,
}

impl Folder {
    /// Opens a folder that the caller vouches for: the one that a person named. Links to it are followed.
    ///
    /// # Errors
    /// It is not there, it is no folder, or it may not be read.
    pub fn open(path: &Path) -> Result<Folder> {
        let fail = || format!("cannot open the folder {}", path.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty()).or_fail(Class::Project, fail)?;
        Ok(Folder { handle: Arc::new(handle), path: path.to_path_buf(), closed: Arc::default() })
    }

    /// The same folder, where no name leads into `closed` any more, nor to it: whatever the name and the links say.
    /// `closed` is a path below the folder; when nothing is there, nothing changes. It goes for folders that are opened
    /// in this one, too.
    ///
    /// # Errors
    /// What is there cannot be looked at.
    pub fn closing(mut self, closed: impl AsRef<Path>) -> Result<Folder> {
        let closed = closed.as_ref();
        let open = Folder { closed: Arc::default(), ..self.clone() };
        if let Some(place) = open.find(closed)? {
            let list = Arc::make_mut(&mut self.closed);
            list.push((identity(&place.stat), shown(closed)));
        }
        Ok(self)
    }

    /// The same for a file or folder anywhere on this machine, that a person named: whatever name it has below this one.
    ///
    /// # Errors
    /// What is there cannot be looked at.
    pub fn closing_path(mut self, closed: &Path) -> Result<Folder> {
        match rustix::fs::stat(closed) {
            Ok(stat) => Arc::make_mut(&mut self.closed).push((identity(&stat), shown(closed))),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(cause) => return Err(Error::new(Class::System, self.cannot_read(closed)).because(io::Error::from(cause))),
        }
        Ok(self)
    }

    /// The path that it was opened by, for messages, and for programs that must be told a path. What is opened by it is
    /// not checked by anybody.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is at `path`, after the links that stay inside; none if nothing is there. Never a link.
    ///
    /// # Errors
    /// It leads out of the folder or into what is closed, or it cannot be looked at.
    pub fn kind(&self, path: impl AsRef<Path>) -> Result<Option<EntryKind>> {
        Ok(self.find(path.as_ref())?.map(|place| kind_of(&place.stat)))
    }

    /// Opens a regular file to read it.
    ///
    /// # Errors
    /// There is none, it leads out of the folder or into what is closed, or it is no regular file.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let place = self.expect(path)?;
        if kind_of(&place.stat) != EntryKind::File {
            return Err(self.wrong_kind(path, &place.stat, "file"));
        }
        // (What took its place meanwhile could be a pipe, which would block, or a terminal.)
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.reopen(path, &place, flags).map(File::from)
    }

    /// Opens a folder below this one. From then on the names in it must stay below *it*.
    ///
    /// # Errors
    /// There is none, it leads out of the folder or into what is closed, or it is no folder.
    pub fn folder(&self, path: impl AsRef<Path>) -> Result<Folder> {
        let path = path.as_ref();
        let place = self.expect(path)?;
        if kind_of(&place.stat) != EntryKind::Folder {
            return Err(self.wrong_kind(path, &place.stat, "folder"));
        }
        let handle = self.reopen(path, &place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW)?;
        let path = if place.real.as_os_str().is_empty() { self.path.clone() } else { self.path.join(&place.real) };
        Ok(Folder { handle: Arc::new(handle), path, closed: Arc::clone(&self.closed) })
    }

    /// All bytes of a regular file.
    ///
    /// # Errors
    /// As [`Folder::file`]; it has more than `limit` bytes; or it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.file(path)?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).or_fail(Class::Project, || self.cannot_read(path))?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(Class::Project, format!("{} has more than {limit} bytes", self.named(path)))
                .hint("is it the file that is meant?"));
        }
        Ok(bytes)
    }

    /// The text of a regular file.
    ///
    /// # Errors
    /// As [`Folder::read`], and it is not UTF-8.
    pub fn read_text(&self, path: impl AsRef<Path>, limit: u64) -> Result<String> {
        let path = path.as_ref();
        String::from_utf8(self.read(path, limit)?)
            .or_fail(Class::Project, || format!("{} is not UTF-8", self.named(path)))
            .map_err(|error| error.hint("write it with an editor that saves UTF-8"))
    }

    /// The names in this folder, in order, each with what is there. No link is followed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn entries(&self) -> Result<Vec<FolderEntry>> {
        self.entries_where(|_| true)
    }

    /// The same, of some names only.
    fn entries_where(&self, wanted: impl Fn(&OsStr) -> bool) -> Result<Vec<FolderEntry>> {
        let fail = || format!("cannot list {}", self.path.display());
        let mut entries = Vec::new();
        for found in Dir::read_from(&*self.handle).or_fail(Class::Project, fail)? {
            let found = found.or_fail(Class::Project, fail)?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." || !wanted(name) {
                continue;
            }
            let stat = match rustix::fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Somebody removed it meanwhile.
                Err(Errno::NOENT) => continue,
                found => found.or_fail(Class::Project, || self.cannot_read(Path::new(name)))?,
            };
            entries.push(FolderEntry {
                name: name.to_os_string(),
                kind: kind_of(&stat),
                mode: stat.st_mode & 0o7777,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: stat.st_mtime,
                links: stat.st_nlink as u64,
                owner: stat.st_uid,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// What a symbolic link that is directly in this folder says.
    ///
    /// # Errors
    /// There is no link of that name.
    pub fn link(&self, name: impl AsRef<Path>) -> Result<OsString> {
        let name = name.as_ref();
        let fail = || format!("cannot read the link {}", self.named(name));
        if name.components().count() != 1 || !matches!(name.components().next(), Some(Component::Normal(_))) {
            return Err(Error::new(Class::Project, fail()).because(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let target = rustix::fs::readlinkat(&*self.handle, name, Vec::new()).or_fail(Class::Project, fail)?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Opens a folder below this one, after making it, and what is missing of those above it, with mode 0755.
    ///
    /// # Errors
    /// A part of the path leads out of the folder or into what is closed, is no folder, or cannot be made.
    pub fn make_folder(&self, path: impl AsRef<Path>) -> Result<Folder> {
        let path = path.as_ref();
        let mut above = PathBuf::new();
        for part in path.components() {
            above.push(part);
            if self.find(&above)?.is_some() {
                continue;
            }
            let fail = || format!("cannot make the folder {}", self.named(path));
            let (Component::Normal(name), Some(parent)) = (part, above.parent()) else {
                return Err(Error::new(Class::Project, fail()).because(io::Error::from(io::ErrorKind::NotFound)));
            };
            let parent = if parent.as_os_str().is_empty() { self.clone() } else { self.folder(parent)? };
            match rustix::fs::mkdirat(&*parent.handle, name, Mode::from_raw_mode(0o755)) {
                // (A link to a folder that is not there is in the way, too: the next look says so.)
                Ok(()) | Err(Errno::EXIST) => {}
                Err(cause) => return Err(Error::new(Class::System, fail()).because(io::Error::from(cause))),
            }
            rustix::fs::fsync(&*parent.handle).or_fail(Class::System, fail)?;
        }
        self.folder(path)
    }

    /// Writes a new file directly in this folder, durably: it has its name when it is whole. False if something has that
    /// name already, which stays as it is. Whoever is killed leaves nothing, but on a file system without nameless files.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_new(&self, name: &OsStr, bytes: &[u8], mode: u32) -> Result<bool> {
        let fail = || format!("cannot write {}", self.named(Path::new(name)));
        let mode = Mode::from_raw_mode(mode);
        let write = |file: OwnedFd| {
            let mut file = File::from(file);
            file.write_all(bytes).and_then(|()| file.sync_all()).map(|()| file)
        };
        let nameless = rustix::fs::openat(&*self.handle, ".", OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode);
        let linked = match nameless {
            Ok(file) => {
                let file = write(file).or_fail(Class::System, fail)?;
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                rustix::fs::linkat(rustix::fs::CWD, from, &*self.handle, name, AtFlags::SYMLINK_FOLLOW)
            }
            // A file system that has no nameless files.
            Err(_) => {
                let own = format!("{UNFINISHED}{}-{}", std::process::id(), UNFINISHED_FILES.fetch_add(1, Ordering::Relaxed));
                // (What a killed process of this number left.)
                let _ = rustix::fs::unlinkat(&*self.handle, &own, AtFlags::empty());
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&*self.handle, &own, flags, mode).or_fail(Class::System, fail)?;
                let linked = match write(file) {
                    Ok(_) => rustix::fs::linkat(&*self.handle, &own, &*self.handle, name, AtFlags::empty()),
                    Err(cause) => Err(Errno::from_io_error(&cause).unwrap_or(Errno::IO)),
                };
                let _ = rustix::fs::unlinkat(&*self.handle, &own, AtFlags::empty());
                linked
            }
        };
        match linked {
            Ok(()) => rustix::fs::fsync(&*self.handle).or_fail(Class::System, fail).map(|()| true),
            Err(Errno::EXIST) => Ok(false),
            Err(cause) => Err(Error::new(Class::System, fail()).because(io::Error::from(cause))),
        }
    }

    /// Opens a folder directly in this one that only its owner may look into; it is made if nothing is there. Neither a
    /// link nor anything else does for it.
    ///
    /// # Errors
    /// What is there is no folder; or it cannot be made, or opened.
    pub fn private_folder(&self, name: &str) -> Result<Folder> {
        let fail = || format!("cannot make the folder {}", self.named(Path::new(name)));
        match rustix::fs::mkdirat(&*self.handle, name, Mode::RWXU) {
            Ok(()) => rustix::fs::fsync(&*self.handle).or_fail(Class::System, fail)?,
            Err(Errno::EXIST) => {}
            Err(cause) => return Err(Error::new(Class::System, fail()).because(io::Error::from(cause))),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let handle = match open_in(self.as_fd(), OsStr::new(name), flags) {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::new(Class::Project, format!("{} is not a folder, but a link or a file", self.named(Path::new(name))))
                    .hint("remove it: a folder is made there; what it leads to is not touched"));
            }
            opened => opened.or_fail(Class::System, fail)?,
        };
        let stat = rustix::fs::fstat(&handle).or_fail(Class::System, fail)?;
        if stat.st_mode & 0o7777 != 0o700 {
            // (Where it belongs to somebody else, or the disk is read-only, it stays as it is.)
            let _ = rustix::fs::fchmod(&handle, Mode::RWXU);
        }
        Ok(Folder { handle: Arc::new(handle), path: self.path.join(name), closed: Arc::clone(&self.closed) })
    }

    /// What is at `path`, which must be there.
    fn expect(&self, path: &Path) -> Result<Place> {
        self.find(path)?.ok_or_else(|| {
            Error::new(Class::Project, format!("there is no {}", self.named(path)))
                .because(io::Error::from(io::ErrorKind::NotFound))
                .hint("make it, or correct the name")
        })
    }

    /// Where `path` leads: through links, as long as they stay below the folder.
    fn find(&self, path: &Path) -> Result<Option<Place>> {
        if path.as_os_str().is_empty() || path.has_root() {
            return Err(Error::new(Class::Project, format!("`{}` is not a path below {}", shown(path), self.path.display()))
                .hint("write it relative to that folder"));
        }
        let stat = rustix::fs::fstat(&*self.handle).or_fail(Class::Project, || self.cannot_read(path))?;
        let root = Place { parent: None, name: OsString::new(), handle: Arc::clone(&self.handle), stat, real: PathBuf::new() };
        let mut way = vec![root];
        // The links that were read, with what they say.
        let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
        // What is still to be walked, its end first, and which of the links says so; none: the path itself.
        let mut rest: Vec<(OsString, Option<usize>)> = parts(path).into_iter().map(|part| (part, None)).collect();
        while let Some((name, by)) = rest.pop() {
            let by = by.and_then(|by| links.get(by));
            if name == ".." {
                way.pop();
            }
            let Some(here) = way.last() else { return Err(self.leads_out(path, by)) };
            if name == ".." {
                continue;
            }
            if kind_of(&here.stat) != EntryKind::Folder {
                return Err(self.wrong_kind(&here.real, &here.stat, "folder"));
            }
            let real = here.real.join(&name);
            let handle = match look(here.handle.as_fd(), &name) {
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOSYS) => {
                    return Err(Error::new(Class::System, self.cannot_read(path))
                        .because("this kernel has no openat2")
                        .hint("use Linux 5.6 or newer"));
                }
                found => found.or_fail(Class::Project, || self.cannot_read(path))?,
            };
            let stat = rustix::fs::fstat(&handle).or_fail(Class::Project, || self.cannot_read(path))?;
            if kind_of(&stat) == EntryKind::Link {
                if links.len() == MAX_LINKS {
                    return Err(Error::new(
                        Class::Project,
                        format!("{} leads through more than {MAX_LINKS} links: they are a loop", self.named(path)),
                    )
                    .hint("name the file itself"));
                }
                let target = rustix::fs::readlinkat(&handle, "", Vec::new()).or_fail(Class::Project, || self.cannot_read(path))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                let says = (real, target);
                if says.1.has_root() {
                    return Err(self.leads_out(path, Some(&says)));
                }
                rest.extend(parts(&says.1).into_iter().map(|part| (part, Some(links.len()))));
                links.push(says);
                continue;
            }
            if let Some((_, closed)) = self.closed.iter().find(|(closed, _)| *closed == identity(&stat)) {
                let through = by.map(|(link, to)| format!(" by the link {} -> {}", shown(link), shown(to)));
                return Err(Error::new(
                    Class::Project,
                    format!("{} leads to {closed}{}, which is not for the project's files", self.named(path), through.unwrap_or_default()),
                )
                .hint("name a file that lies beside it"));
            }
            way.push(Place { parent: Some(Arc::clone(&here.handle)), name, handle: Arc::new(handle), stat, real });
        }
        Ok(way.pop())
    }

    /// Opens a place that was found, and nothing else that may have taken its name meanwhile.
    fn reopen(&self, path: &Path, place: &Place, flags: OFlags) -> Result<OwnedFd> {
        let opened = match &place.parent {
            Some(parent) => open_in(parent.as_fd(), &place.name, flags),
            None => open_in(self.handle.as_fd(), OsStr::new("."), flags),
        };
        let opened = opened.or_fail(Class::Project, || self.cannot_read(path))?;
        let stat = rustix::fs::fstat(&opened).or_fail(Class::Project, || self.cannot_read(path))?;
        if identity(&stat) != identity(&place.stat) {
            return Err(Error::new(Class::Project, self.cannot_read(path))
                .because("something else took its place meanwhile")
                .hint("run the command again when nobody changes the project"));
        }
        Ok(opened)
    }

    fn leads_out(&self, path: &Path, link: Option<&(PathBuf, PathBuf)>) -> Error {
        let out = self.path.display();
        let Some((link, target)) = link else {
            return Error::new(Class::Project, format!("`{}` leads out of {out}", shown(path)))
                .hint("move the file below that folder and name it there: nothing outside of it is read");
        };
        let (link_shown, target) = (shown(link), shown(target));
        let what = if link.as_path() == path {
            format!("`{link_shown}` is a link to `{target}`, which leads out of {out}")
        } else {
            format!("`{}` goes through `{link_shown}`, a link to `{target}`, which leads out of {out}", shown(path))
        };
        let hint = "put what the link names below that folder, and make the link a relative one: nothing outside of it is read";
        Error::new(Class::Project, what).hint(hint)
    }

    fn wrong_kind(&self, path: &Path, stat: &Stat, wanted: &str) -> Error {
        let is = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => "a file",
            FileType::Directory => "a folder",
            FileType::Fifo => "a pipe",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            _ => "something else",
        };
        Error::new(Class::Project, format!("{} is {is}, not a {wanted}", self.named(path))).hint(format!("name a {wanted}"))
    }

    fn cannot_read(&self, path: &Path) -> String {
        format!("cannot read {}", self.named(path))
    }

    fn named(&self, path: &Path) -> String {
        shown(&self.path.join(path))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The parts of a path, its end first. `.` is none.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_os_string()).rev().collect()
}

/// Opens one name of a folder to look at it: a link itself, not where it leads.
fn look(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    open_in(folder, name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW)
}

fn open_in(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0..16;
    loop {
        match rustix::fs::openat2(folder, name, flags, Mode::empty(), how) {
            Err(Errno::INTR | Errno::AGAIN) if tries.next().is_some() => {}
            opened => return opened,
        }
    }
}

fn kind_of(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Other,
    }
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// A path for a message: what would move a terminal's cursor is written out.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests;

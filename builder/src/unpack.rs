//! What was fetched becomes a folder: a tarball, or the files of a git revision.
//!
//! The names come from strangers and this runs as whoever runs us, which may be root. So nothing is unpacked by a
//! program: each name is walked part by part from the folder's own descriptor, no link is ever followed, and there
//! comes to be what a source is made of and nothing else: files (0644 or 0755), folders and symbolic links. All else
//! (devices, pipes, bits like setuid, owners, attributes) is refused or left out before there is anything on the disk.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use twostage_image::Tarball;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Bytes of all files of a source.
const MAX_BYTES: u64 = 32 << 30;
/// A tarball may always unpack to this, and beyond it to [`MAX_RATIO`] times its own size, holes included.
const FREE_BYTES: u64 = 256 << 20;
const MAX_RATIO: u64 = 2000;
/// Files, folders and links of a source. Linux has 90,000.
const MAX_ENTRIES: u64 = 1_000_000;
/// Bytes of a path or of a link's target: Linux' PATH_MAX.
const MAX_PATH: usize = 4096;
/// Bytes of a name: Linux' NAME_MAX.
const MAX_NAME: usize = 255;
/// Folders that one name is below.
const MAX_DEPTH: usize = 200;
/// The last second of the year 9999, which is the last that a version's date can be.
const LAST_SECOND: i64 = 253_402_300_799;

/// A folder that a source is written into.
pub struct Sink {
    root: OwnedFd,
    entries: u64,
    bytes: u64,
    most_bytes: u64,
    /// The folder of the last name, which is as a rule the folder of the next one.
    last: Option<(String, OwnedFd)>,
}

impl Sink {
    /// Writes into an empty folder, at most so many bytes.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(root: &Path, most_bytes: u64) -> Result<Sink> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).or_fail(Class::System, || format!("cannot open {}", root.display()))?;
        Ok(Sink { root, entries: 0, bytes: 0, most_bytes: most_bytes.min(MAX_BYTES), last: None })
    }

    /// Makes a folder, and those above it.
    ///
    /// # Errors
    /// The path is not safe, or something else has its name.
    pub fn folder(&mut self, path: &[u8]) -> Result<()> {
        let parts = self.entry(path)?;
        self.enter(path, &parts, true).map(drop)
    }

    /// Writes a file, in the place of another file or link of that name.
    ///
    /// # Errors
    /// The path is not safe, a folder has its name, there are too many bytes, or they cannot be read or written.
    pub fn file(&mut self, path: &[u8], executable: bool, mtime: i64, size: u64, content: &mut dyn Read) -> Result<()> {
        let parts = self.entry(path)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.most_bytes {
            return Err(wrong(path, &format!("with it there are more than {} MiB", self.most_bytes >> 20)));
        }
        let (folder, name) = self.place(path, &parts)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let cannot_write = || format!("cannot write {}", shown(path));
        let file = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR).or_fail(Class::System, cannot_write)?;
        let mut file = File::from(file);
        let mut buffer = vec![0; 128 << 10];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = match content.read(&mut buffer[..most]) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(wrong(path, "its content cannot be read").because(cause)),
                Ok(0) => return Err(wrong(path, "its content is cut off")),
                Ok(read) => read,
            };
            file.write_all(&buffer[..read]).or_fail(Class::System, cannot_write)?;
            left -= read as u64;
        }
        let mode = if executable { 0o755 } else { 0o644 };
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).or_fail(Class::System, cannot_write)?;
        let time = Timespec { tv_sec: mtime.clamp(0, LAST_SECOND), tv_nsec: 0 };
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time }).or_fail(Class::System, cannot_write)
    }

    /// Makes a symbolic link. Where it leads is for those who follow it, in a container.
    ///
    /// # Errors
    /// The path is not safe, a folder has its name, or the target is no path.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let parts = self.entry(path)?;
        if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) || std::str::from_utf8(target).is_err() {
            return Err(wrong(path, "it is a link to what is no path"));
        }
        let (folder, name) = self.place(path, &parts)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &folder, name)
            .or_fail(Class::System, || format!("cannot make the link {}", shown(path)))
    }

    /// Gives a file or link that is there already a second name.
    ///
    /// # Errors
    /// One of the two paths is not safe, or there is no such file.
    pub fn second_name(&mut self, path: &[u8], of: &[u8]) -> Result<()> {
        let parts = self.entry(path)?;
        let nothing = || wrong(path, &format!("it is a hard link to {}, and no file before it is called so", shown(of)));
        let of_parts = check(of)?;
        if of_parts == parts {
            return Ok(());
        }
        let (of_name, above) = of_parts.split_last().ok_or_else(nothing)?;
        let of_folder = self.enter(of, above, false).map_err(|_| nothing())?;
        let kind = rustix::fs::statat(&of_folder, *of_name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::RegularFile) => {
                let (folder, name) = self.place(path, &parts)?;
                rustix::fs::linkat(&of_folder, *of_name, &folder, name, AtFlags::empty())
                    .or_fail(Class::System, || format!("cannot make the link {}", shown(path)))
            }
            Ok(FileType::Symlink) => {
                let target = rustix::fs::readlinkat(&of_folder, *of_name, Vec::new()).map_err(|_| nothing())?;
                self.entries -= 1;
                self.link(path, target.as_bytes())
            }
            _ => Err(nothing()),
        }
    }

    /// Counts one more, and takes its path apart.
    fn entry<'a>(&mut self, path: &'a [u8]) -> Result<Vec<&'a str>> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(wrong(path, &format!("it is one too many: a source has at most {MAX_ENTRIES} files")));
        }
        check(path)
    }

    /// The folder of a name that nothing has afterwards.
    fn place<'a>(&mut self, path: &[u8], parts: &[&'a str]) -> Result<(OwnedFd, &'a str)> {
        let (name, above) = parts.split_last().ok_or_else(|| wrong(path, "it is the folder itself, and no folder"))?;
        let folder = self.enter(path, above, true)?;
        let cannot = || format!("cannot write {}", shown(path));
        match rustix::fs::statat(&folder, *name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => return Err(wrong(path, "a folder has its name")),
            // As tar: of two with one name the later one counts. It is another file, never the same one written over.
            Ok(_) => rustix::fs::unlinkat(&folder, *name, AtFlags::empty()).or_fail(Class::System, cannot)?,
            Err(cause) => return Err(Error::new(Class::System, cannot()).because(io::Error::from(cause))),
        }
        Ok((folder, name))
    }

    /// The folder of those parts, made where it is missing if `make` says so.
    fn enter(&mut self, path: &[u8], parts: &[&str], make: bool) -> Result<OwnedFd> {
        let whole = parts.join("/");
        let cannot =
            |cause: Errno| Error::new(Class::System, format!("cannot make the folder of {}", shown(path))).because(io::Error::from(cause));
        if let Some((last, folder)) = &self.last
            && *last == whole
        {
            return rustix::io::fcntl_dupfd_cloexec(folder, 0).map_err(cannot);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = rustix::fs::openat(&self.root, ".", flags, Mode::empty()).map_err(cannot)?;
        for part in parts {
            let mut opened = rustix::fs::openat(&folder, *part, flags, Mode::empty());
            if make && matches!(opened, Err(Errno::NOENT)) {
                rustix::fs::mkdirat(&folder, *part, Mode::from_raw_mode(0o755)).map_err(cannot)?;
                opened = rustix::fs::openat(&folder, *part, flags, Mode::empty());
            }
            folder = match opened {
                Ok(folder) => folder,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(wrong(path, &format!("`{}` on its way is no folder", shown(part.as_bytes()))));
                }
                Err(cause) => return Err(cannot(cause)),
            };
        }
        self.last = Some((whole, rustix::io::fcntl_dupfd_cloexec(&folder, 0).map_err(cannot)?));
        Ok(folder)
    }
}

/// The parts of a path that stays below its folder.
fn check(path: &[u8]) -> Result<Vec<&str>> {
    let text = std::str::from_utf8(path).map_err(|_| wrong(path, "its name is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(wrong(path, "its path is absolute"));
    }
    if text.len() >= MAX_PATH {
        return Err(wrong(path, "its path is too long"));
    }
    if text.contains(['\0', '\n']) {
        return Err(wrong(path, "there is a NUL or a line break in its path"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(wrong(path, "its path climbs with `..`"));
    }
    if parts.len() > MAX_DEPTH || parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(wrong(path, "its path is too deep, or a name in it too long"));
    }
    Ok(parts)
}

/// Unpacks a tarball, packed with gzip, bzip2, xz, lzma or zstd or not at all, into an empty folder.
///
/// # Errors
/// It is no good tarball, or holds what no source is made of; the folder may then have a part of it.
pub fn tarball(file: File, size: u64, into: &Path) -> Result<()> {
    let most = FREE_BYTES.saturating_add(size.saturating_mul(MAX_RATIO)).min(MAX_BYTES);
    let mut sink = Sink::new(into, most)?;
    let known = "tarballs are read that are packed with gzip, bzip2, xz, lzma, zstd or not at all";
    // (A member has some bytes more than its content.)
    let unpacked = twostage_package::unpacked_or_lzma(BufReader::with_capacity(128 << 10, file), MAX_BYTES.saturating_mul(2), |tar| {
        let mut tar = Tarball::new(BufReader::with_capacity(128 << 10, tar));
        let mut empty = true;
        while let Some(member) = tar.next().map_err(|cause| not_a_tarball(cause).hint(known))? {
            empty = false;
            match member.kind {
                b'0' => sink.file(&member.path, member.mode & 0o111 != 0, member.mtime, member.size, &mut tar)?,
                b'1' => sink.second_name(&member.path, &member.link)?,
                b'2' => sink.link(&member.path, &member.link)?,
                b'5' => sink.folder(&member.path)?,
                kind => {
                    return Err(wrong(&member.path, &format!("it is {}", kind_name(kind))).hint("sources hold files, folders and links"));
                }
            }
        }
        if empty { Err(Error::new(Class::Project, "it holds nothing").hint(known)) } else { Ok(()) }
    });
    unpacked.map_err(|cause| not_a_tarball(cause).hint(known))?
}

fn not_a_tarball(cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Error {
    Error::new(Class::Project, "it is no whole tarball").because(cause)
}

fn kind_name(kind: u8) -> String {
    match kind {
        b'3' | b'4' => "a device".into(),
        b'6' => "a pipe".into(),
        other => format!("of the tar type `{}`", shown(&[other])),
    }
}

fn wrong(path: &[u8], why: &str) -> Error {
    Error::new(Class::Project, format!("{}: {why}", shown(path)))
        .hint("pack the source anew, or name another one: it may hold files, folders and links below its top, each once")
}

/// A path for a message.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let short: String = text.chars().take(200).collect();
    format!("{}{}", short.escape_debug(), if short.len() < text.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests;

//! Where a context's files are: in a folder of this machine, or in a tar in memory. Nothing here follows a link.

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use twostage_image::path;
use twostage_image::{Entry, Kind, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

use super::context::MAX_ENTRIES;

/// What tells a file that has several names from all others.
pub type Same = (u64, u64);

/// Files, by paths without a slash at either end; the root is empty.
#[derive(Debug)]
pub enum Files {
    /// In a folder.
    Folder {
        /// For messages, and to look around.
        folder: PathBuf,
        /// To open files in it.
        root: File,
    },
    /// In a tar.
    Tar(BTreeMap<String, Member>),
}

/// A member of a tar.
#[derive(Debug)]
pub struct Member {
    entry: Entry,
    data: Bytes,
    /// Which file this is a name of.
    file: u64,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A folder.
    Folder,
    /// A symbolic link, and what it says.
    Link(String),
    /// A file, or what is none of these.
    Other,
}

/// An open file.
pub struct Data {
    /// Its bytes; none if it is no plain file.
    pub length: Option<u64>,
    from: Box<dyn ReadSeek + Send>,
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

impl Read for Data {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer)
    }
}

impl Seek for Data {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.from.seek(to)
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Files::Folder { folder, .. } => write!(f, "the context {}", folder.display()),
            Files::Tar(_) => f.write_str("the context"),
        }
    }
}

impl Files {
    /// Opens a folder.
    ///
    /// # Errors
    /// It is none.
    pub fn folder(folder: &Path) -> Result<Files> {
        let fail = || format!("cannot read the context {}", folder.display());
        let root = File::open(folder).or_fail(Class::Usage, fail)?;
        if !root.metadata().or_fail(Class::System, fail)?.is_dir() {
            return Err(
                Error::new(Class::Usage, format!("{} is no folder", folder.display())).hint("name the folder that COPY takes files from")
            );
        }
        Ok(Files::Folder { folder: folder.to_path_buf(), root })
    }

    /// No files.
    pub fn nothing() -> Files {
        Files::Tar(BTreeMap::from([(String::new(), Member::folder())]))
    }

    /// Whether there are none, of whatever kind.
    pub fn is_empty(&self) -> bool {
        matches!(self, Files::Tar(members) if members.len() <= 1)
    }

    /// Reads a tar.
    ///
    /// # Errors
    /// It is none, or holds what no folder can: more than a million files, or a file below a file.
    pub fn packed(tar: Vec<u8>) -> Result<Files> {
        let tar = Bytes::from(tar);
        let position = Cell::new(0);
        let mut tarball = Tarball::new(Counted { rest: &tar, position: &position });
        let mut members = BTreeMap::from([(String::new(), Member::folder())]);
        let mut count = 0;
        while let Some(header) = tarball.next()? {
            let name = path::clean(&header.path)?;
            let wrong = |why: &str| {
                let shown = path::shown(&name);
                Error::new(Class::Project, format!("the context holds {shown}, {why}")).hint("pack the files as they are in a folder")
            };
            count += 1;
            make_folders(&name, &mut members).map_err(|above| wrong(&format!("but {} is no folder", path::shown(&above))))?;
            if members.len() > MAX_ENTRIES {
                return Err(wrong(&format!("and with it more than {MAX_ENTRIES} files")));
            }
            let member = match header.kind {
                b'1' => {
                    let target = path::clean(&header.link)?;
                    let found = members.get(&target).filter(|member| matches!(member.entry.kind, Kind::File { .. }));
                    let found = found.ok_or_else(|| wrong("a name of a file that is not before it"))?;
                    Member { entry: found.entry.clone(), data: found.data.clone(), file: found.file }
                }
                // Which only devices and sockets are not.
                b'0' | b'2' | b'5' | b'6' => {
                    let entry = Entry { xattrs: BTreeMap::new(), ..super::files::entry(&header, &name)? };
                    let data = match entry.kind {
                        Kind::File { .. } => {
                            let start = position.get();
                            let mut data = Vec::new();
                            tarball.read_to_end(&mut data).or_fail(Class::Project, || format!("cannot read {name} in the context"))?;
                            // (What is sparse is not there as it stands.)
                            match tar.get(start..start + data.len()) {
                                Some(same) if same == data => tar.slice(start..start + data.len()),
                                _ => data.into(),
                            }
                        }
                        _ => Bytes::new(),
                    };
                    Member { entry, data, file: count }
                }
                _ => return Err(wrong("a device, which is not copied")),
            };
            if member.entry.is_dir() {
                if let Some(there) = members.get_mut(&name).filter(|there| there.entry.is_dir()) {
                    *there = member;
                    continue;
                }
            } else if let Some(there) = members.get(&name)
                && there.entry.is_dir()
            {
                return Err(wrong("but it is a folder, too"));
            }
            members.insert(name, member);
        }
        Ok(Files::Tar(members))
    }

    /// What is at a path.
    ///
    /// # Errors
    /// A link cannot be read.
    pub fn what(&self, path: &str) -> Result<Option<What>> {
        match self {
            Files::Folder { folder, .. } => {
                let at = folder.join(to_path(path));
                let Ok(found) = fs::symlink_metadata(&at) else { return Ok(None) };
                if !found.is_symlink() {
                    return Ok(Some(if found.is_dir() { What::Folder } else { What::Other }));
                }
                let target = fs::read_link(&at).or_fail(Class::System, || format!("cannot read the link {}", at.display()))?;
                Ok(Some(What::Link(path::from_bytes(target.as_os_str().as_bytes()))))
            }
            Files::Tar(members) => Ok(members.get(path).map(|member| match &member.entry.kind {
                Kind::Dir => What::Folder,
                Kind::Symlink { target } => What::Link(target.clone()),
                _ => What::Other,
            })),
        }
    }

    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Files::Folder { folder, .. } => {
                let at = folder.join(to_path(path));
                let fail = || format!("cannot list {}", at.display());
                for entry in fs::read_dir(&at).or_fail(Class::System, fail)? {
                    names.push(path::from_bytes(entry.or_fail(Class::System, fail)?.file_name().as_bytes()));
                }
            }
            Files::Tar(members) => {
                let start = if path.is_empty() { String::new() } else { format!("{path}/") };
                // Every folder is a member, so the others that are below it are not looked at twice.
                let below = members.range(start.clone()..).map_while(|(name, _)| name.strip_prefix(&start));
                names.extend(below.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_string));
            }
        }
        Ok(names)
    }

    /// A file or folder with all that an image takes over of it, its attributes not (those are this machine's), and what tells it from others if it has several names; a file's
    /// digest is none. None for a socket.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is something that no image can hold.
    pub fn entry(&self, path: &str) -> Result<Option<(Entry, Option<Same>)>> {
        let folder = match self {
            Files::Folder { folder, .. } => folder,
            Files::Tar(members) => {
                let member = members.get(path).ok_or_else(|| gone(path))?;
                let same = matches!(member.entry.kind, Kind::File { .. }).then_some((0, member.file));
                return Ok(Some((member.entry.clone(), same)));
            }
        };
        let at = folder.join(to_path(path));
        let fail = || format!("cannot read {}", at.display());
        let found = fs::symlink_metadata(&at).or_fail(Class::System, fail)?;
        let kind = found.file_type();
        let what = match () {
            () if kind.is_dir() => Kind::Dir,
            () if kind.is_file() => Kind::File { size: found.len(), sha256: Sha256::of(b"").into() },
            () if kind.is_fifo() => Kind::Fifo,
            () if kind.is_symlink() => {
                let target = fs::read_link(&at).or_fail(Class::System, fail)?;
                Kind::Symlink { target: path::from_bytes(target.as_os_str().as_bytes()) }
            }
            () if kind.is_socket() => return Ok(None),
            () => {
                return Err(Error::new(Class::Project, format!("{} is a device, which is not copied", at.display()))
                    .hint("leave it out with .dockerignore, or make it in a RUN with mknod"));
            }
        };
        let same = (kind.is_file() && found.nlink() > 1).then(|| (found.dev(), found.ino()));
        let entry = Entry { mode: found.mode() & 0o7777, mtime: found.mtime(), ..Entry::bare(what) };
        Ok(Some((entry, same)))
    }

    /// Opens a file; no link on the way is followed, whatever became of it since it was listed.
    ///
    /// # Errors
    /// It is not there any more, or cannot be read.
    pub fn open(&self, path: &str) -> Result<Data> {
        match self {
            Files::Folder { root, .. } => {
                let fail = || format!("cannot read {} of the context", path::shown(path));
                let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                // (A pipe that took a file's place would block.)
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let opened = rustix::fs::openat2(root, to_path(path), flags, Mode::empty(), how);
                let file = opened.map(File::from).or_fail(Class::System, fail)?;
                let found = file.metadata().or_fail(Class::System, fail)?;
                Ok(Data { length: found.is_file().then_some(found.len()), from: Box::new(file) })
            }
            Files::Tar(members) => {
                let member = members.get(path).ok_or_else(|| gone(path))?;
                let length = matches!(member.entry.kind, Kind::File { .. }).then_some(member.data.len() as u64);
                Ok(Data { length, from: Box::new(Cursor::new(member.data.clone())) })
            }
        }
    }
}

fn gone(path: &str) -> Error {
    Error::new(Class::Project, format!("there is no {} in the context", path::shown(path)))
}

impl Member {
    fn folder() -> Member {
        Member { entry: Entry { mode: 0o755, ..Entry::bare(Kind::Dir) }, data: Bytes::new(), file: 0 }
    }
}

/// Makes the folders above a path; what of them is something else is the error.
fn make_folders(name: &str, members: &mut BTreeMap<String, Member>) -> std::result::Result<(), String> {
    for (at, _) in name.match_indices('/') {
        let above = &name[..at];
        match members.get(above) {
            Some(member) if member.entry.is_dir() => {}
            Some(_) => return Err(above.to_string()),
            None => drop(members.insert(above.to_string(), Member::folder())),
        }
    }
    Ok(())
}

/// Tells how much was read.
struct Counted<'t> {
    rest: &'t [u8],
    position: &'t Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.read(buffer)?;
        self.position.set(self.position.get() + count);
        Ok(count)
    }
}

fn to_path(path: &str) -> PathBuf {
    if path.is_empty() { PathBuf::from(".") } else { PathBuf::from(std::ffi::OsStr::from_bytes(&path::to_bytes(path))) }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use tar::EntryType;

    fn tar(members: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            match kind {
                EntryType::Link | EntryType::Symlink => tar.append_link(&mut header, path, text),
                _ => {
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, path, text.as_bytes())
                }
            }
            .expect("into memory");
        }
        tar.into_inner().expect("into memory")
    }

    #[test]
    fn a_tar_is_the_folder_that_it_was_made_of() {
        let files = Files::packed(tar(&[
            ("a/b/one", EntryType::Regular, "hello"),
            ("a-b", EntryType::Regular, ""),
            ("a/two", EntryType::Link, "a/b/one"),
            ("to", EntryType::Symlink, "a/b"),
            ("a/", EntryType::Directory, ""),
        ]))
        .expect("a tar");
        assert_eq!(files.names("").expect("names"), ["a", "a-b", "to"]);
        assert_eq!(files.names("a").expect("names"), ["b", "two"]);
        assert_eq!(files.what("to").expect("known"), Some(What::Link("a/b".into())));
        assert_eq!((files.what("a/b").expect("known"), files.what("a/x").expect("known")), (Some(What::Folder), None));
        let (entry, same) = files.entry("a/two").expect("known").expect("a file");
        assert_eq!((entry.size(), entry.mode, same), (5, 0o640, files.entry("a/b/one").expect("known").expect("a file").1));
        assert_eq!(files.entry("a").expect("known").map(|(entry, _)| entry.mode), Some(0o640), "a folder that comes late has its mode");
        let mut text = String::new();
        files.open("a/two").expect("opened").read_to_string(&mut text).expect("text");
        assert_eq!(text, "hello");
        assert!(files.open("a/x").is_err() && files.open("a").expect("opened").length.is_none());
    }

    #[test]
    fn what_cannot_be_in_a_folder_is_refused() {
        for wrong in [
            &[("a", EntryType::Regular, ""), ("a/b", EntryType::Regular, "")][..],
            &[("to", EntryType::Symlink, "/etc"), ("to/passwd", EntryType::Regular, "")],
            &[("a/b", EntryType::Regular, ""), ("a", EntryType::Regular, "")],
            &[("two", EntryType::Link, "one")],
            &[("null", EntryType::Char, "")],
        ] {
            assert!(Files::packed(tar(wrong)).is_err(), "{wrong:?}");
        }
        assert!(Files::packed(b"no tar".repeat(200)).is_err());
    }
}

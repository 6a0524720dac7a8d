//! An image as it was read: its configuration and its layers' entries, in their order.

use std::collections::BTreeMap;
use twostage_linking::LinkageState;
use twostage_model::Sha256;

/// One image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the configuration: what engines call the image's id.
    pub id: Sha256,
    /// What the configuration says.
    pub config: Config,
    /// The configuration, byte for byte.
    pub config_json: Vec<u8>,
    /// The names that the archive gives it.
    pub tags: Vec<String>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// The part of an image's configuration that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// When it was made, as written.
    pub created: Option<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// USER.
    pub user: String,
    /// WORKDIR.
    pub working_dir: String,
    /// EXPOSE, such as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// LABEL.
    pub labels: BTreeMap<String, String>,
    /// The digests of the layers' uncompressed tars, lowest first.
    pub diff_ids: Vec<Sha256>,
    /// How it was made, oldest first.
    pub history: Vec<History>,
}

/// One step of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The instruction.
    pub created_by: String,
    /// A remark, such as `buildkit.dockerfile.v0`.
    pub comment: String,
    /// Whether the step made no layer.
    pub empty_layer: bool,
    /// When, as written.
    pub created: Option<String>,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The digest of the uncompressed tar.
    pub diff_id: Sha256,
    /// Bytes of the uncompressed tar.
    pub size: u64,
    /// What its members leave behind where it is unpacked, in the tar's order: each at its real path, through links of
    /// the layer, and of several at one path the last.
    pub entries: Vec<Entry>,
    /// What else is in the tar.
    pub ignored: Ignored,
}

/// What a layer's tar holds and nobody ever sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Members whose place a later one of the same layer took; no folders. Allowed, but waste.
    pub duplicates: Vec<Duplicate>,
    /// Folders that were stated again, as is usual.
    pub folders_again: u64,
    /// What aufs noted for itself.
    pub notes: u64,
    /// Bytes behind the tar's end, if there is one among them that is not zero.
    pub trailing: u64,
}

/// A member whose place a later one took.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// Its path as it was written.
    pub path: String,
    /// Bytes that it takes; none, where the file lives on under another name.
    pub bytes: u64,
}

/// One file, folder, link, device or deletion in a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where, through links of its layer: no slash at either end, no `.` or `..`; the root is the empty path. Bytes that are
    /// not UTF-8 are kept apart as [`crate::path::from_bytes`] says.
    pub path: String,
    /// What.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// A file's bytes, where they were asked for.
    pub content: Option<Vec<u8>>,
    /// The MD5 of a file's bytes, where it was asked for: dpkg knows no better one.
    pub md5: Option<[u8; 16]>,
    /// How a program or library is linked, where it was asked for.
    pub linkage: LinkageState,
    /// Which member of its layer's tar it is, from 0.
    pub number: u64,
    /// Its path as the tar has it, where that is another one.
    pub written: Option<Box<str>>,
}

/// What is wanted of a file, besides its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Not even that: it is hashed later, if somebody asks for it. (A file with holes is hashed.)
    Nothing,
    /// Only that.
    Digest,
    /// Its MD5, and how it is linked.
    Facts,
    /// Its bytes.
    Content,
}

/// Says of a path what is wanted.
pub type Wanted<'a> = &'a dyn Fn(&str) -> Want;

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A file; holes of sparse files count and hash as zeros.
    File {
        /// Bytes.
        size: u64,
        /// Of its bytes.
        sha256: FileDigest,
    },
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink {
        /// As written.
        target: String,
    },
    /// A second name of a file, in this layer or one below.
    Hardlink {
        /// A path like [`Entry::path`].
        target: String,
    },
    /// A character device.
    Char {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// A named pipe.
    Fifo,
    /// Deletes `path` of the layers below.
    Whiteout,
    /// Hides everything that the layers below have in the folder `path`.
    OpaqueWhiteout,
}

/// The SHA-256 of a file's bytes, if somebody asked for it. What is not known is equal to nothing, not to itself either:
/// whoever compares files must have asked.
#[derive(Debug, Clone, Copy)]
pub struct FileDigest {
    is: Option<Sha256>,
    /// Where its bytes begin in the layer's tar, which is a plain one: there they can be read later.
    at: Option<u64>,
}

impl FileDigest {
    /// A digest that is not known yet, of bytes that begin there in the tar.
    pub(crate) fn unread(at: u64) -> Self {
        FileDigest { is: None, at: Some(at) }
    }

    /// A digest that is not known yet, of a file with holes: its bytes are in the tar, but not as they are read.
    pub(crate) fn holes() -> Self {
        FileDigest { is: None, at: None }
    }

    /// The same file, whose digest is known now.
    pub(crate) fn read(self, is: Sha256) -> Self {
        FileDigest { is: Some(is), ..self }
    }

    /// The digest.
    pub fn known(&self) -> Option<Sha256> {
        self.is
    }

    /// Where its bytes begin in the layer's tar.
    pub(crate) fn at(&self) -> Option<u64> {
        self.at
    }

    /// Its first 12 digits, for people.
    pub fn short(&self) -> String {
        self.is.map_or_else(|| "unread".to_string(), |is| is.short())
    }
}

impl From<Sha256> for FileDigest {
    fn from(is: Sha256) -> Self {
        FileDigest { is: Some(is), at: None }
    }
}

impl PartialEq for FileDigest {
    fn eq(&self, other: &Self) -> bool {
        self.is.is_some() && self.is == other.is
    }
}

impl PartialEq<Sha256> for FileDigest {
    fn eq(&self, other: &Sha256) -> bool {
        self.is == Some(*other)
    }
}

impl Entry {
    /// An entry of which nothing is known but what it is: root's, as a new folder or file is made.
    pub fn bare(kind: Kind) -> Entry {
        let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        Entry {
            path: String::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
            content: None,
            md5: None,
            linkage: LinkageState::default(),
            number: 0,
            written: None,
        }
    }

    /// A file's size, else 0.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
}

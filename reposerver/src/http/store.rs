//! What the server asks of the repository on disk, beside its public methods: whether what it holds in memory is
//! still so, and files of earlier snapshots without reading those snapshots.

use super::target::Prefix;
use crate::apt::{self, Listed};
use crate::{Repository, Snapshots, Withdrawals, assemble, disk, seal, twice};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use twostage_model::{Result, Sha256, SnapshotId};

/// What changes when a file is written to, or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Stamp {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// How late it may be seen that a file that says what a channel or snapshot is was replaced, or that something was
/// withdrawn. Who replaces it returns later than that: see [`crate::SEEN`]. So a client that asks after a publish has
/// returned sees what was published.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// A file that says what a channel or snapshot is. Each change of it is a rename.
pub(crate) struct Pointer {
    path: PathBuf,
    seen: Mutex<(Instant, Option<Stamp>)>,
}

impl Pointer {
    pub(crate) fn new(path: PathBuf) -> Pointer {
        let now = Instant::now();
        let stamp = stamp(&path);
        Pointer { path, seen: Mutex::new((now, stamp)) }
    }

    /// Its stamp, not older than [`LATE`].
    pub(crate) fn stamp(&self, now: Instant) -> Option<Stamp> {
        let mut seen = crate::lock(&self.seen);
        if now.saturating_duration_since(seen.0) > LATE {
            *seen = (now, stamp(&self.path));
        }
        seen.1
    }
}

/// The stamp of a file as it is now.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta))
}

/// The part of `signed.json` that says which index files a snapshot has.
#[derive(Deserialize)]
struct Indexes {
    files: BTreeMap<String, Listed>,
}

impl Repository {
    /// The file that says what a channel or snapshot is, and its stamp as it is now; nothing where there is none, as of a
    /// snapshot that only this process holds.
    pub(crate) fn pointer(&self, prefix: &Prefix) -> Option<(PathBuf, Stamp)> {
        let path = match prefix {
            Prefix::Channel(name) => {
                twostage_model::names::check_channel_name(name).ok()?;
                self.channels.channel_path(name)
            }
            Prefix::Snapshot(id) => self.snapshots.snapshot_file(id, "signed.json"),
        };
        stamp(&path).map(|stamp| (path, stamp))
    }
}

impl Snapshots {
    /// apt's index file of this digest in a folder of a snapshot on disk.
    pub(crate) fn index_by_hash(&self, id: &SnapshotId, folder: &str, digest: &Sha256) -> Result<Option<(String, Bytes)>> {
        let Some(bytes) = disk::read(&self.snapshot_file(id, "signed.json"))? else { return Ok(None) };
        let indexes: Indexes = seal::open(&bytes)?;
        let is_it = |path: &str, found: Sha256| found == *digest && path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
        let Some((path, listed)) = indexes.files.iter().find(|(path, listed)| is_it(path, listed.sha256)) else { return Ok(None) };
        let file = |path: &str| Path::new("dists").join(apt::SUITE).join(path);
        // The text of an index is kept packed.
        let packed = apt::PACKINGS.iter().find_map(|packing| {
            let path = format!("{path}{}", packing.ending());
            indexes.files.get(&path).map(|listed| (path, listed.sha256, *packing))
        });
        let body = match packed {
            Some((packed, sha256, packing)) => {
                let body = self.snapshot_body(id, &file(&packed), &sha256)?;
                let text = body.and_then(|body| assemble::unpack(packing, &body, listed.size));
                text.filter(|text| Sha256::of(text) == *digest).map(Bytes::from)
            }
            None => self.snapshot_body(id, &file(path), digest)?,
        };
        Ok(body.map(|body| (path.clone(), body)))
    }

    /// A file of a snapshot's `repodata/` by its name, which starts with its digest; nothing for what is no such name.
    pub(crate) fn repodata_of(&self, id: &SnapshotId, name: &str) -> Result<Option<(Bytes, Sha256)>> {
        let Some(digest) = repodata_digest(name) else { return Ok(None) };
        Ok(self.snapshot_body(id, &Path::new("repodata").join(name), &digest)?.map(|body| (body, digest)))
    }

    /// What is not whole is not there: who asks has metadata of an earlier snapshot, and gets newer metadata next.
    fn snapshot_body(&self, id: &SnapshotId, file: &Path, digest: &Sha256) -> Result<Option<Bytes>> {
        let folder = self.snapshot_file(id, "");
        crate::snapshot::check_plain(&folder)?;
        let path = folder.join(file);
        Ok(disk::read(&path)?.filter(|body| Sha256::of(body) == *digest).map(Bytes::from))
    }

    fn snapshot_file(&self, id: &SnapshotId, name: &str) -> PathBuf {
        self.root.join("snapshots").join(id.to_string()).join(name)
    }
}

impl Withdrawals {
    /// Whether there is a record of a withdrawal. It is written before anything else of one, to the file that is looked for.
    pub(crate) fn has_withdrawal(&self, digest: &Sha256) -> bool {
        let [_, first] = twice::paths(&self.withdrawn_folder(), &digest.to_string());
        std::fs::symlink_metadata(first).is_ok()
    }
}

/// The digest that the name of a file of `repodata/` starts with.
pub(crate) fn repodata_digest(name: &str) -> Option<Sha256> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let (digest, rest) = name.split_once('-')?;
    digest.parse().ok().filter(|_| rest.chars().all(plain) && digest.len() == 64)
}

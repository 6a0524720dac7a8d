//! Snapshots: immutable lists of packages with the apt and yum metadata that goes with them.
//!
//! ```text
//! snapshots/<id>/SHA256SUMS          the list; its digest is the id
//! snapshots/<id>/signed.json         the index files' digests; Release and repomd.xml, signed
//! snapshots/<id>/dists/twostage/main/binary-amd64/Packages{,.gz,.zst}
//! snapshots/<id>/repodata/<sha256>-{primary,filelists,other}.xml.gz   if there are rpms
//! ```
//!
//! The signatures are in one file of their own because they are the one thing that may change: a
//! new key signs anew, and the snapshot keeps its name. With it the digests of rpms that we signed
//! change, and so yum's files; those with the earlier digests stay beside them.

use crate::apt::{self, Listed};
use crate::sign::Key;
use crate::{Kind, PoolPackage, Repository, Settings, disk, lock, yum};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Manifest, Result, Sha256, SnapshotId};
use twostage_package::rpm::Header;

/// What a snapshot is, for people and for whoever pins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub id: SnapshotId,
    /// The `Date` of its Release file, in seconds since 1970: when it was first made.
    pub date: i64,
    /// Its packages.
    pub manifest: Manifest,
}

/// `Release`, `repomd.xml` and their signatures. A channel has its own, with its own date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signed {
    /// Seconds since 1970; the `Date` of the release.
    pub(crate) date: i64,
    /// Of the key that signed.
    pub(crate) fingerprint: String,
    pub(crate) release: String,
    pub(crate) inrelease: String,
    pub(crate) release_gpg: String,
    /// Only where there are rpms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repomd: Option<Repomd>,
}

/// `repomd.xml` and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repomd {
    pub(crate) xml: String,
    pub(crate) asc: String,
}

/// What a snapshot's metadata says of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    /// apt's index files, by path below `dists/twostage/`.
    #[serde(rename = "files")]
    pub(crate) apt: BTreeMap<String, Listed>,
    /// yum's, where there are rpms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) yum: Option<yum::Listing>,
}

impl Signed {
    /// Signs a release of `files`.
    pub(crate) fn new(key: &Key, origin: &str, date: i64, files: &Files) -> Result<Self> {
        let release = apt::release(origin, date, &files.apt);
        let repomd = match files.yum.as_ref().map(|yum| yum::repomd(yum, date)) {
            Some(xml) => Some(Repomd { asc: key.detached(&xml, date)?, xml }),
            None => None,
        };
        Ok(Signed {
            date,
            fingerprint: key.fingerprint().to_string(),
            inrelease: key.clear_sign(&release, date)?,
            release_gpg: key.detached(&release, date)?,
            release,
            repomd,
        })
    }

    /// Whether signing now, with the same date, would say the same: same key, name and files.
    pub(crate) fn is_current(&self, key: &Key, settings: &Settings, files: &Files) -> bool {
        self.fingerprint == key.fingerprint()
            && files.is_current(key, settings)
            && self.release == apt::release(&settings.origin, self.date, &files.apt)
            && self.repomd.as_ref().map(|repomd| &repomd.xml) == files.yum.as_ref().map(|yum| yum::repomd(yum, self.date)).as_ref()
    }
}

impl Files {
    /// Whether the digests of rpms are those that they have with this key's signatures, and yum's files are
    /// packed as they are to be.
    fn is_current(&self, key: &Key, settings: &Settings) -> bool {
        self.yum.as_ref().is_none_or(|yum| yum.fingerprint == key.fingerprint() && yum.compression == settings.yum_compression)
    }
}

/// What `signed.json` holds.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    files: Files,
    signed: Signed,
}

/// A snapshot that can be served.
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    /// The text of `SHA256SUMS`.
    pub(crate) list: Bytes,
    /// The digests in it.
    pub(crate) members: HashSet<Sha256>,
    pub(crate) files: Files,
    pub(crate) signed: Signed,
    /// The index files' bytes, when they are on no disk.
    held: Option<Held>,
}

/// The bytes of index files.
#[derive(Default)]
struct Held {
    apt: apt::Indexes,
    yum: yum::Bodies,
}

/// Recently served index files: packages come and go, the lists of the last few snapshots are what
/// clients ask for.
#[derive(Default)]
pub(crate) struct Bodies {
    held: HashMap<Sha256, (u64, Bytes)>,
    clock: u64,
    total: usize,
}

/// Enough for some ten snapshots of 3000 packages.
const MOST_HELD: usize = 64 << 20;

impl Bodies {
    fn get(&mut self, digest: &Sha256) -> Option<Bytes> {
        self.clock += 1;
        let (used, body) = self.held.get_mut(digest)?;
        *used = self.clock;
        Some(body.clone())
    }

    fn put(&mut self, digest: Sha256, body: Bytes) {
        self.total += body.len();
        if let Some((_, earlier)) = self.held.insert(digest, (self.clock, body)) {
            self.total -= earlier.len();
        }
        while self.total > MOST_HELD && self.held.len() > 1 {
            let Some(oldest) = self.held.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| *digest) else { return };
            self.total -= self.held.remove(&oldest).map_or(0, |(_, body)| body.len());
        }
    }
}

impl Repository {
    /// Makes a snapshot of `members` that only this process holds: for builder containers, whose sets
    /// of packages nobody asks for again. `now` (seconds since 1970) is the date of its Release.
    ///
    /// # Errors
    /// A member is not in the pool, or two members are one name, version and architecture with two
    /// contents.
    pub fn transient(&self, members: &[Sha256], now: i64) -> Result<SnapshotId> {
        let packages = self.sorted_packages(members)?;
        let snapshot = self.render(&packages, now)?;
        let id = snapshot.id;
        lock(&self.transients).insert(id, Arc::new(snapshot));
        Ok(id)
    }

    /// Fingerprints of those, beside us, who signed rpms of a snapshot: clients need their keys
    /// ([`crate::repo_file`]). None for a snapshot that is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn upstream_signers(&self, id: &SnapshotId) -> Result<Vec<String>> {
        let snapshot = self.served(id)?;
        Ok(snapshot.and_then(|snapshot| snapshot.files.yum.as_ref().map(|yum| yum.keys.iter().cloned().collect())).unwrap_or_default())
    }

    /// What a snapshot on disk holds; nothing when there is none of that name.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn snapshot_info(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>> {
        let Some(snapshot) = self.stored(id)? else { return Ok(None) };
        let text =
            std::str::from_utf8(&snapshot.list).or_fail(Class::Repository, || format!("snapshot {}: the list is no text", id.short()))?;
        Ok(Some(SnapshotInfo { id: *id, date: snapshot.signed.date, manifest: text.parse()? }))
    }

    fn render(&self, packages: &[Arc<PoolPackage>], now: i64) -> Result<Snapshot> {
        let manifest = manifest(packages)?;
        let key = self.key(now)?;
        let indexes = apt::indexes(packages, &self.settings.architectures)?;
        let listed = |body: &Bytes| Listed { sha256: Sha256::of(body), size: body.len() as u64 };
        let apt = indexes.iter().map(|(path, body)| (path.clone(), listed(body))).collect();
        let (yum, bodies) = self.render_yum(packages, &key)?;
        let files = Files { apt, yum };
        let signed = Signed::new(&key, &self.settings.origin, now, &files)?;
        let held = Some(Held { apt: indexes, yum: bodies });
        let members = manifest.files().map(|(_, digest)| digest).collect();
        Ok(Snapshot { id: manifest.id(), list: manifest.to_string().into(), members, files, signed, held })
    }

    /// yum's files for the rpms among `packages`, which are signed on the way, and for what goes
    /// with them; nothing when there is none of either.
    fn render_yum(&self, packages: &[Arc<PoolPackage>], key: &Key) -> Result<(Option<yum::Listing>, yum::Bodies)> {
        let rpms: Vec<_> = packages.iter().filter(|package| package.kind.is_rpm()).collect();
        let extras = packages.iter().filter(|package| matches!(package.kind, Kind::Extra(_))).count();
        if rpms.is_empty() && extras == 0 {
            return Ok((None, yum::Bodies::new()));
        }
        let known = self.known_keys(Some(key))?;
        let unsigned: Vec<_> = rpms.into_iter().filter(|package| package.rpm.as_ref().is_some_and(|rpm| rpm.signer.is_none())).collect();
        self.sign_all(&unsigned, key)?;
        let mut renderer = yum::Renderer::default();
        for package in packages {
            if let Kind::Extra(extra) = package.kind {
                let path = self.pool_path(&package.sha256);
                renderer.add_extra(extra, fs::read(&path).or_fail(Class::Repository, || format!("cannot read {}", path.display()))?)?;
            } else if package.kind.is_rpm() {
                let served = match self.served_upstream(package, &known)? {
                    Some(served) => served,
                    None => self.served_signed(package, key, &mut BTreeSet::new())?,
                };
                let (_, header) = self.head(package)?;
                renderer.add(package, &Header::parse(&header)?, &served)?;
            }
        }
        let (listing, bodies) = renderer.finish(key.fingerprint(), self.settings.yum_compression)?;
        Ok((Some(listing), bodies))
    }

    /// The snapshot of these packages, on disk. Needs no lock: whoever comes second finds it there.
    pub(crate) fn persist(&self, packages: &[Arc<PoolPackage>], now: i64) -> Result<Arc<Snapshot>> {
        let id = manifest(packages)?.id();
        let key = self.key(now)?;
        // A folder that cannot be read is made anew, from the pool.
        if let Ok(Some(snapshot)) = self.stored(&id)
            && self
                .settings
                .architectures
                .iter()
                .all(|arch| snapshot.files.apt.contains_key(&format!("{}/binary-{arch}/Packages", apt::COMPONENT)))
        {
            if snapshot.signed.is_current(&key, &self.settings, &snapshot.files) {
                return Ok(snapshot);
            }
            let mut files = snapshot.files.clone();
            if !files.is_current(&key, &self.settings) {
                let (yum, bodies) = self.render_yum(packages, &key)?;
                for (name, body) in &bodies {
                    disk::write(self.scratch()?, &self.repodata_path(&id, name), body)?;
                }
                files.yum = yum;
            }
            let signed = Signed::new(&key, &self.settings.origin, snapshot.signed.date, &files)?;
            disk::write(self.scratch()?, &self.snapshot_folder(&id).join("signed.json"), &to_json(&Record { files, signed })?)?;
        } else {
            self.write_snapshot(&self.render(packages, now)?)?;
        }
        self.stored(&id)?.ok_or_else(|| Error::new(Class::System, format!("snapshot {} went away while it was made", id.short())))
    }

    fn write_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let failed = || format!("cannot write snapshot {}", snapshot.id.short());
        let made = self.scratch()?.folder()?;
        write_synced(&made.path().join("SHA256SUMS"), &snapshot.list)?;
        let record = Record { files: snapshot.files.clone(), signed: snapshot.signed.clone() };
        write_synced(&made.path().join("signed.json"), &to_json(&record)?)?;
        let dists = made.path().join("dists").join(apt::SUITE);
        if let Some(held) = &snapshot.held {
            for (path, body) in &held.apt {
                write_synced(&dists.join(path), body)?;
            }
            for (name, body) in &held.yum {
                write_synced(&made.path().join("repodata").join(name), body)?;
            }
        }
        disk::sync_folder(made.path())?;
        let place = self.snapshot_folder(&snapshot.id);
        let parent = self.root.join("snapshots");
        disk::make_folder(&parent)?;
        if fs::rename(made.path(), &place).is_err() {
            if self.stored(&snapshot.id).is_ok_and(|there| there.is_some_and(|s| s.files == snapshot.files)) {
                return Ok(()); // another publisher was first
            }
            // What is there is broken, or lacks an architecture: it goes aside, to be swept.
            let aside = self.scratch()?.folder()?;
            fs::rename(&place, aside.path().join("replaced")).or_fail(Class::System, failed)?;
            fs::rename(made.path(), &place).or_fail(Class::System, failed)?;
        }
        let _ = made.keep();
        disk::sync_folder(&parent)
    }

    /// A snapshot that can be served, from memory or disk.
    pub(crate) fn served(&self, id: &SnapshotId) -> Result<Option<Arc<Snapshot>>> {
        if let Some(snapshot) = lock(&self.transients).get(id) {
            return Ok(Some(Arc::clone(snapshot)));
        }
        self.stored(id)
    }

    /// A snapshot on disk.
    pub(crate) fn stored(&self, id: &SnapshotId) -> Result<Option<Arc<Snapshot>>> {
        let folder = self.snapshot_folder(id);
        self.snapshots.get(id, &folder.join("signed.json"), |bytes| {
            let failed = || format!("cannot read snapshot {}", id.short());
            let record: Record = serde_json::from_slice(bytes).or_fail(Class::Repository, failed)?;
            let list = fs::read(folder.join("SHA256SUMS")).or_fail(Class::Repository, failed)?;
            if Sha256::of(&list) != id.0 {
                return Err(Error::new(Class::Repository, format!("the list of snapshot {} has another digest", id.short()))
                    .hint("the disk or somebody changed it; publish again"));
            }
            let text = std::str::from_utf8(&list).or_fail(Class::Repository, failed)?;
            let members = text.parse::<Manifest>()?.files().map(|(_, digest)| digest).collect();
            Ok(Snapshot { id: *id, list: list.into(), members, files: record.files, signed: record.signed, held: None })
        })
    }

    /// The bytes of one of a snapshot's index files, checked.
    pub(crate) fn index(&self, snapshot: &Snapshot, path: &str, listed: &Listed) -> Result<Bytes> {
        if let Some(body) = snapshot.held.as_ref().and_then(|held| held.apt.get(path)) {
            return Ok(body.clone());
        }
        let file = self.snapshot_folder(&snapshot.id).join("dists").join(apt::SUITE).join(path);
        let body = self.body(&file, &listed.sha256)?;
        body.ok_or_else(|| Error::new(Class::Repository, format!("{} is not there", file.display())))
    }

    /// The bytes of a file of `repodata/`, checked against the digest in its name: one of the
    /// present listing, or one that an earlier key's had. Nothing when there never was one.
    pub(crate) fn repodata(&self, snapshot: &Snapshot, name: &str) -> Result<Option<(Bytes, Sha256)>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
        let Some(digest) = name.split_once('-').and_then(|(digest, _)| digest.parse::<Sha256>().ok()) else { return Ok(None) };
        if !name.chars().all(plain) {
            return Ok(None);
        }
        if let Some(held) = &snapshot.held {
            return Ok(held.yum.get(name).map(|body| (body.clone(), digest)));
        }
        Ok(self.body(&self.repodata_path(&snapshot.id, name), &digest)?.map(|body| (body, digest)))
    }

    /// The bytes of a file, from memory if it was read before.
    fn body(&self, file: &Path, digest: &Sha256) -> Result<Option<Bytes>> {
        if let Some(body) = lock(&self.bodies).get(digest) {
            return Ok(Some(body));
        }
        let Some(body) = disk::read(file)?.map(Bytes::from) else { return Ok(None) };
        if Sha256::of(&body) != *digest {
            return Err(Error::new(Class::Repository, format!("{} has another digest than its list says", file.display())));
        }
        lock(&self.bodies).put(*digest, body.clone());
        Ok(Some(body))
    }

    fn repodata_path(&self, id: &SnapshotId, name: &str) -> PathBuf {
        self.snapshot_folder(id).join("repodata").join(name)
    }

    fn snapshot_folder(&self, id: &SnapshotId) -> PathBuf {
        self.root.join("snapshots").join(id.to_string())
    }
}

/// The list that names the snapshot.
pub(crate) fn manifest(packages: &[Arc<PoolPackage>]) -> Result<Manifest> {
    let mut manifest = Manifest::default();
    packages.iter().try_for_each(|package| manifest.add(&package.file_name(), package.sha256))?;
    Ok(manifest)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).or_fail(Class::System, || "cannot write JSON".into())
}

/// Writes a file in a folder that nobody knows yet.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        disk::make_folder(parent)?;
    }
    fs::write(path, bytes).or_fail(Class::System, failed)?;
    fs::File::open(path).and_then(|file| file.sync_all()).or_fail(Class::System, failed)?;
    path.parent().map_or(Ok(()), disk::sync_folder)
}

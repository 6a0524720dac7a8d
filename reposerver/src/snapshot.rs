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
use crate::{Kind, PoolPackage, Repository, Settings, disk, lock, seal, yum};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Manifest, Result, Sha256, SnapshotId, date};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// apt's index files, by path below `dists/twostage/`.
    pub(crate) apt: BTreeMap<String, Listed>,
    /// yum's, where there are rpms.
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
#[serde(deny_unknown_fields)]
struct Record {
    files: BTreeMap<String, Listed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    yum: Option<yum::Listing>,
    signed: Signed,
}

impl Record {
    fn of(files: Files, signed: Signed) -> Record {
        Record { files: files.apt, yum: files.yum, signed }
    }
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

/// What mends a snapshot.
const REPAIR: &str = "`twostage channel --repair` makes the snapshots of every channel anew from the pool";
/// Seconds that a snapshot's release may be ahead of the clock.
pub(crate) const MOST_AHEAD: i64 = 60;

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

    /// The list of a snapshot on disk, which its name vouches for, whatever became of its other files; nothing when
    /// there is no such snapshot.
    pub(crate) fn list_of(&self, id: &SnapshotId) -> Result<Option<Manifest>> {
        let folder = self.snapshot_folder(id);
        let path = folder.join("SHA256SUMS");
        let damaged = || Error::new(Class::Repository, format!("{} is not the list that it was", path.display()));
        match disk::read(&path)? {
            Some(list) if Sha256::of(&list) == id.0 => {
                let text = String::from_utf8(list).map_err(|cause| damaged().because(cause))?;
                text.parse().map(Some)
            }
            None if fs::symlink_metadata(&folder).is_err() => Ok(None),
            _ => Err(damaged()),
        }
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
                let mut content = Vec::new();
                let mut file = self.open_verified(package, &package.sha256)?;
                file.read_to_end(&mut content).or_fail(Class::Repository, || format!("cannot read {}", package.id))?;
                renderer.add_extra(extra, content)?;
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

    /// The snapshot of these packages, on disk and whole: what of it is not is made anew, from the pool.
    /// Needs no lock: whoever comes second finds it there.
    pub(crate) fn persist(&self, packages: &[Arc<PoolPackage>], now: i64) -> Result<Arc<Snapshot>> {
        let id = manifest(packages)?.id();
        let key = self.key(now)?;
        let readable = match self.stored(&id) {
            Err(error) if error.is_machine() => return Err(error),
            other => other.ok().flatten(),
        };
        let complete = readable.clone().filter(|snapshot| {
            let listed = |arch: &String| snapshot.files.apt.contains_key(&format!("{}/binary-{arch}/Packages", apt::COMPONENT));
            self.settings.architectures.iter().all(listed)
        });
        if let Some(snapshot) = complete
            && self.damaged_in(&snapshot).is_none()
        {
            if snapshot.files.is_current(&key, &self.settings) {
                self.sign_again(packages, &key)?;
            }
            // A release from the future, made when the clock was wrong, is taken by no client.
            let from_future = snapshot.signed.date > date::now().saturating_add(MOST_AHEAD);
            if !from_future && snapshot.signed.is_current(&key, &self.settings, &snapshot.files) {
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
            let date = if from_future { now } else { snapshot.signed.date };
            let signed = Signed::new(&key, &self.settings.origin, date, &files)?;
            disk::write(self.scratch()?, &self.snapshot_folder(&id).join("signed.json"), &seal::close(&Record::of(files, signed))?)?;
        } else {
            let made = self.render(packages, now)?;
            let there = fs::symlink_metadata(self.snapshot_folder(&id)).is_ok();
            let damaged = there && readable.as_ref().is_none_or(|snapshot| self.damaged_in(snapshot).is_some());
            match readable.filter(|snapshot| snapshot.files == made.files && snapshot.signed.is_current(&key, &self.settings, &made.files))
            {
                Some(_) => self.write_indexes(&made)?,
                None => self.write_snapshot(&made)?,
            }
            if damaged {
                self.mend(format!("snapshot {} was made anew from the pool", id.short()));
            }
        }
        self.stored(&id)?.ok_or_else(|| gone(&id))
    }

    /// [`Repository::persist`] of a snapshot that was there once: where all of it is gone, that is damage, too.
    pub(crate) fn persist_again(&self, id: &SnapshotId, packages: &[Arc<PoolPackage>], now: i64) -> Result<Arc<Snapshot>> {
        let gone = self.stored(id).is_ok_and(|there| there.is_none());
        let snapshot = self.persist(packages, now)?;
        if gone {
            self.mend(format!("snapshot {} was gone, and was made anew from the pool", id.short()));
        }
        Ok(snapshot)
    }

    /// Writes those index files of a snapshot that are not whole, and nothing else.
    fn write_indexes(&self, made: &Snapshot) -> Result<()> {
        let folder = self.snapshot_folder(&made.id);
        let Some(held) = &made.held else { return Ok(()) };
        let apt = held.apt.iter().map(|(path, body)| (folder.join("dists").join(apt::SUITE).join(path), body));
        let yum = held.yum.iter().map(|(name, body)| (folder.join("repodata").join(name), body));
        for (path, body) in apt.chain(yum) {
            if fs::read(&path).ok().as_deref() != Some(&body[..]) {
                disk::write(self.scratch()?, &path, body)?;
            }
        }
        Ok(())
    }

    /// The first file of a snapshot on disk that is not what its lists say.
    pub(crate) fn damaged_in(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        let folder = self.snapshot_folder(&snapshot.id);
        let apt = snapshot.files.apt.iter().map(|(path, listed)| (folder.join("dists").join(apt::SUITE).join(path), listed.sha256));
        let yum = snapshot.files.yum.iter().flat_map(|yum| &yum.files).map(|file| (folder.join("repodata").join(&file.name), file.sha256));
        let list = std::iter::once((folder.join("SHA256SUMS"), snapshot.id.0));
        let mut all = list.chain(apt).chain(yum);
        all.find(|(path, digest)| !fs::read(path).is_ok_and(|bytes| Sha256::of(&bytes) == *digest)).map(|(path, _)| path)
    }

    fn write_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let failed = || format!("cannot write snapshot {}", snapshot.id.short());
        let made = self.scratch()?.folder()?;
        write_synced(&made.path().join("SHA256SUMS"), &snapshot.list)?;
        let record = Record::of(snapshot.files.clone(), snapshot.signed.clone());
        write_synced(&made.path().join("signed.json"), &seal::close(&record)?)?;
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
        if let Err(cause) = fs::rename(made.path(), &place) {
            if fs::symlink_metadata(&place).is_err() {
                return Err(Error::system(failed(), cause));
            }
            let same = |there: &Arc<Snapshot>| there.files == snapshot.files && self.damaged_in(there).is_none();
            if self.stored(&snapshot.id).is_ok_and(|there| there.is_some_and(|there| same(&there))) {
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
        let failed = || format!("cannot read snapshot {}", id.short());
        let mendable = |error: Error| if error.is_machine() { error } else { error.hint(REPAIR) };
        let stored = self.snapshots.get(id, &folder.join("signed.json"), |bytes| {
            let record: Record =
                seal::open(bytes).or_fail(Class::Repository, || format!("{}/signed.json cannot be used", folder.display()))?;
            let list = fs::read(folder.join("SHA256SUMS")).or_fail(Class::Repository, failed)?;
            if Sha256::of(&list) != id.0 {
                return Err(Error::new(Class::Repository, format!("the list of snapshot {} has another digest", id.short())));
            }
            let text = std::str::from_utf8(&list).or_fail(Class::Repository, failed)?;
            let members = text.parse::<Manifest>()?.files().map(|(_, digest)| digest).collect();
            let files = Files { apt: record.files, yum: record.yum };
            Ok(Snapshot { id: *id, list: list.into(), members, files, signed: record.signed, held: None })
        });
        match stored.or_fail(Class::Repository, failed).map_err(mendable)? {
            // A folder without it is no snapshot that was never made.
            None if fs::symlink_metadata(&folder).is_ok() => {
                Err(mendable(Error::new(Class::Repository, format!("{}/signed.json is gone", folder.display()))))
            }
            stored => Ok(stored),
        }
    }

    /// The bytes of one of a snapshot's index files, checked.
    pub(crate) fn index(&self, snapshot: &Snapshot, path: &str, listed: &Listed) -> Result<Bytes> {
        if let Some(body) = snapshot.held.as_ref().and_then(|held| held.apt.get(path)) {
            return Ok(body.clone());
        }
        let file = self.snapshot_folder(&snapshot.id).join("dists").join(apt::SUITE).join(path);
        let body = self.body(&file, &listed.sha256)?;
        body.ok_or_else(|| Error::new(Class::Repository, format!("{} is gone", file.display())).hint(REPAIR))
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
        let file = self.repodata_path(&snapshot.id, name);
        let body = self.body(&file, &digest)?;
        if body.is_none() && snapshot.files.yum.iter().flat_map(|yum| &yum.files).any(|listed| listed.name == name) {
            return Err(Error::new(Class::Repository, format!("{} is gone", file.display())).hint(REPAIR));
        }
        Ok(body.map(|body| (body, digest)))
    }

    /// The bytes of a file, from memory if it was read before.
    fn body(&self, file: &Path, digest: &Sha256) -> Result<Option<Bytes>> {
        if let Some(body) = lock(&self.bodies).get(digest) {
            return Ok(Some(body));
        }
        let read = disk::read(file).map_err(|error| if error.is_machine() { error } else { error.hint(REPAIR) })?;
        let Some(body) = read.map(Bytes::from) else { return Ok(None) };
        if Sha256::of(&body) != *digest {
            return Err(Error::new(Class::Repository, format!("{} has another digest than its list says", file.display())).hint(REPAIR));
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

fn gone(id: &SnapshotId) -> Error {
    Error::new(Class::System, format!("snapshot {} went away while it was made", id.short()))
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

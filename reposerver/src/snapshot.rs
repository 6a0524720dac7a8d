//! Snapshots: immutable lists of packages with the apt and yum metadata that goes with them.
//!
//! ```text
//! snapshots/<id>/SHA256SUMS          the list; its digest is the id
//! snapshots/<id>/signed.json         the index files' digests; Release and repomd.xml, signed
//! snapshots/<id>/blocks              where the blocks of the index files are, for the next snapshot
//! snapshots/<id>/dists/twostage/main/binary-amd64/Packages{.gz,.zst}   the text is unpacked for who asks for it
//! snapshots/<id>/repodata/<sha256>-{primary,filelists,other}.xml.gz   if there are rpms
//! ```
//!
//! The signatures are in one file of their own because they are the one thing that may change: a
//! new key signs anew, and the snapshot keeps its name. With it the digests of rpms that we signed
//! change, and so yum's files; those with the earlier digests stay beside them.

use crate::apt::{self, Listed};
use crate::assemble::{self, Blocks, Packing};
use crate::catalog::Entry;
use crate::folder::RepositoryFolder;
use crate::health::Verify;
use crate::sign::Key;
use crate::{Pool, Settings, Signing, disk, lock, pool, seal, workers, yum};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use twostage_model::error::OrFail;
use twostage_model::{Class, DigestSet, Error, Manifest, Result, Sha256, SnapshotId, date};

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
    /// Seconds since 1970; until when clients take the release. None of a snapshot, which is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) valid_until: Option<i64>,
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
    pub(crate) fn new(key: &Key, origin: &str, date: i64, valid_until: Option<i64>, files: &Files) -> Result<Self> {
        let release = apt::release(origin, date, valid_until, &files.apt);
        let xml = files.yum.as_ref().map(|yum| yum::repomd(yum, date));
        // A signature takes some milliseconds; two are made at once where a thread can be had.
        let sign_xml = || xml.as_ref().map(|xml| key.detached(xml, date)).transpose();
        let (signed, asc) = std::thread::scope(|scope| {
            let thread = xml.is_some().then(|| std::thread::Builder::new().spawn_scoped(scope, sign_xml).ok()).flatten();
            let signed = key.sign_release(&release, date);
            let failed = |_| Err(Error::new(Class::System, "a thread that signs failed"));
            (signed, thread.map_or_else(sign_xml, |thread| thread.join().unwrap_or_else(failed)))
        });
        let (inrelease, release_gpg) = signed?;
        let repomd = xml.zip(asc?).map(|(xml, asc)| Repomd { xml, asc });
        Ok(Signed { date, valid_until, fingerprint: key.fingerprint().to_string(), inrelease, release_gpg, release, repomd })
    }

    /// Whether signing now, with the same date, would say the same: same key, name and files.
    pub(crate) fn is_current(&self, key: &Key, settings: &Settings, files: &Files) -> bool {
        self.fingerprint == key.fingerprint()
            && files.is_current(key, settings)
            && self.release == apt::release(&settings.origin, self.date, self.valid_until, &files.apt)
            && self.repomd.as_ref().map(|repomd| &repomd.xml) == files.yum.as_ref().map(|yum| yum::repomd(yum, self.date)).as_ref()
    }
}

impl Files {
    /// Whether the digests of rpms are those that they have with this key's signatures, and yum's files are
    /// packed as they are to be.
    pub(crate) fn is_current(&self, key: &Key, settings: &Settings) -> bool {
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
    pub(crate) members: DigestSet,
    pub(crate) files: Files,
    pub(crate) signed: Signed,
    /// The index files' bytes, when they are on no disk.
    pub(crate) held: Option<HeldIndexes>,
}

/// Index files that are on no disk yet, or in memory only.
#[derive(Default)]
pub(crate) struct HeldIndexes {
    /// By path below `dists/twostage/`.
    pub(crate) apt: BTreeMap<String, IndexBody>,
    /// By name in `repodata/`.
    pub(crate) yum: BTreeMap<String, IndexBody>,
    pub(crate) blocks: Blocks,
}

/// The content of an index file.
pub(crate) enum IndexBody {
    Bytes(Bytes),
    /// What another snapshot has in this file.
    Same(PathBuf),
}

impl IndexBody {
    fn bytes(&self) -> Option<&Bytes> {
        match self {
            IndexBody::Bytes(bytes) => Some(bytes),
            IndexBody::Same(_) => None,
        }
    }
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

/// The snapshots on disk, and those that only this process holds.
pub struct Snapshots {
    pub(crate) root: Arc<RepositoryFolder>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) signing: Arc<Signing>,
    read: disk::Cache<SnapshotId, Snapshot>,
    pub(crate) transients: Mutex<HashMap<SnapshotId, Arc<Snapshot>>>,
    bodies: Mutex<Bodies>,
}

impl Snapshots {
    pub(crate) fn new(root: &Arc<RepositoryFolder>, settings: &Arc<Settings>, pool: &Arc<Pool>, signing: &Arc<Signing>) -> Snapshots {
        let (root, settings, pool, signing) = (Arc::clone(root), Arc::clone(settings), Arc::clone(pool), Arc::clone(signing));
        let (read, transients, bodies) = (disk::Cache::default(), Mutex::default(), Mutex::default());
        Snapshots { root, settings, pool, signing, read, transients, bodies }
    }

    /// Makes a snapshot of `members` that only this process holds: for builder containers, whose sets
    /// of packages nobody asks for again. `now` (seconds since 1970) is the date of its Release.
    ///
    /// # Errors
    /// A member is not in the pool, or two members are one name, version and architecture with two
    /// contents.
    pub fn transient(&self, members: &[Sha256], now: i64) -> Result<SnapshotId> {
        let entries = self.pool.entries(members.iter())?;
        let snapshot = self.render(list(&entries)?, &entries, now, None)?;
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

    /// The names of all snapshots on disk, whole or not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn ids(&self) -> Result<Vec<SnapshotId>> {
        let folder = self.root.join("snapshots");
        let failed = || format!("cannot read {}", folder.display());
        let mut ids = Vec::new();
        if disk::is_folder(&folder)? {
            for entry in fs::read_dir(&folder).or_fail(Class::System, failed)? {
                let name = entry.or_fail(Class::System, failed)?.file_name();
                ids.extend(name.to_str().and_then(|name| name.parse().ok()).map(SnapshotId));
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// What a snapshot on disk holds; nothing when there is none of that name.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn info(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>> {
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
            None if disk::named(&folder)?.is_none() => Ok(None),
            _ => Err(damaged()),
        }
    }

    /// The snapshot of these packages, on disk and whole: what of it is not is made anew, from the catalog and the pool, and
    /// what `base` has of it is taken from there.
    /// Needs no lock: whoever comes second finds it there.
    pub(crate) fn persist(&self, entries: &[Arc<Entry>], now: i64, base: Option<&Snapshot>) -> Result<Arc<Snapshot>> {
        let mut entries = entries.to_vec();
        pool::sort(&mut entries);
        let entries = entries.as_slice();
        let list = list(entries)?;
        let id = SnapshotId(Sha256::of(list.as_bytes()));
        let key = self.signing.key(now)?;
        let readable = disk::usable(self.stored(&id))?.flatten();
        let complete = readable.clone().filter(|snapshot| {
            let listed = |arch: &String| snapshot.files.apt.contains_key(&format!("{}/binary-{arch}/Packages", apt::COMPONENT));
            self.settings.architectures.iter().all(listed)
        });
        if let Some(snapshot) = complete
            && self.damaged_in(&snapshot)?.is_none()
        {
            let texts = self.yum_texts(entries, &key)?;
            if snapshot.files.is_current(&key, &self.settings) {
                self.signing.sign_again(&texts, &key, Verify::EachFile)?;
            }
            // A release from the future, made when the clock was wrong, is taken by no client.
            let from_future = snapshot.signed.date > date::now().saturating_add(MOST_AHEAD);
            if !from_future && snapshot.signed.is_current(&key, &self.settings, &snapshot.files) {
                return Ok(snapshot);
            }
            let mut files = snapshot.files.clone();
            if !files.is_current(&key, &self.settings) {
                let mut held = HeldIndexes::default();
                files.yum = self.render_yum(entries, &texts, &key, None, &mut held)?;
                for (name, body) in &held.yum {
                    self.write_body(&self.repodata_path(&id, name), body)?;
                }
            }
            let date = if from_future { now } else { snapshot.signed.date };
            let signed = Signed::new(&key, &self.settings.origin, date, None, &files)?;
            disk::write(self.root.scratch()?, &self.snapshot_folder(&id).join("signed.json"), &seal::close(&Record::of(files, signed))?)?;
        } else {
            let made = self.render(list, entries, now, base)?;
            let there = disk::named(&self.snapshot_folder(&id))?.is_some();
            let whole = readable.as_ref().map_or(Ok(false), |snapshot| self.damaged_in(snapshot).map(|damaged| damaged.is_none()))?;
            let damaged = there && !whole;
            match readable.filter(|snapshot| snapshot.files == made.files && snapshot.signed.is_current(&key, &self.settings, &made.files))
            {
                Some(_) => self.write_indexes(&made)?,
                None => self.write_snapshot(&made)?,
            }
            if damaged {
                self.root.mend(format!("snapshot {} was made anew from the pool", id.short()));
            }
        }
        self.stored(&id)?.ok_or_else(|| gone(&id))
    }

    /// Whether a snapshot on disk is all that [`Snapshots::persist`] of these packages would make.
    pub(crate) fn is_whole_and_current(&self, snapshot: &Snapshot, entries: &[Arc<Entry>], key: &Key, verify: Verify) -> Result<bool> {
        let listed = |arch: &String| snapshot.files.apt.contains_key(&format!("{}/binary-{arch}/Packages", apt::COMPONENT));
        let current = self.settings.architectures.iter().all(listed)
            && snapshot.signed.date <= date::now().saturating_add(MOST_AHEAD)
            && snapshot.signed.is_current(key, &self.settings, &snapshot.files)
            && self.damaged_in(snapshot)?.is_none();
        if current {
            self.signing.sign_again(&self.yum_texts(entries, key)?, key, verify)?;
        }
        Ok(current)
    }

    /// [`Snapshots::persist`] of a snapshot that was there once: where all of it is gone, that is damage, too.
    pub(crate) fn persist_again(&self, id: &SnapshotId, entries: &[Arc<Entry>], now: i64) -> Result<Arc<Snapshot>> {
        let gone = self.stored(id).is_ok_and(|there| there.is_none());
        let snapshot = self.persist(entries, now, None)?;
        if gone {
            self.root.mend(format!("snapshot {} was gone, and was made anew from the pool", id.short()));
        }
        Ok(snapshot)
    }

    /// Writes those index files of a snapshot that are not whole, and nothing else.
    fn write_indexes(&self, made: &Snapshot) -> Result<()> {
        let folder = self.snapshot_folder(&made.id);
        let Some(held) = &made.held else { return Ok(()) };
        for (path, listed) in self.packed_files(made) {
            let name = path.strip_prefix(&folder).unwrap_or(&path);
            let in_dists = name.strip_prefix(Path::new("dists").join(apt::SUITE)).ok().and_then(|name| held.apt.get(name.to_str()?));
            let in_repodata = name.strip_prefix("repodata").ok().and_then(|name| held.yum.get(name.to_str()?));
            if let Some(body) = in_dists.or(in_repodata)
                && !self.root.is_whole(&path, listed.sha256, listed.size)?
            {
                self.write_body(&path, body)?;
            }
        }
        disk::write(self.root.scratch()?, &folder.join("blocks"), &assemble::write_blocks(&held.blocks))
    }

    fn write_body(&self, path: &Path, body: &IndexBody) -> Result<()> {
        match body {
            IndexBody::Bytes(bytes) => disk::write(self.root.scratch()?, path, bytes),
            IndexBody::Same(other) => {
                let bytes = fs::read(other).or_fail(Class::System, || format!("cannot read {}", other.display()))?;
                disk::write(self.root.scratch()?, path, &bytes)
            }
        }
    }

    /// The files of a snapshot that are on disk, but for its list and its signatures.
    fn packed_files(&self, snapshot: &Snapshot) -> Vec<(PathBuf, Listed)> {
        let folder = self.snapshot_folder(&snapshot.id);
        // The text of an index is not kept: it is in the packed ones.
        let is_packed = |path: &&String| apt::PACKINGS.iter().any(|packing| path.ends_with(packing.ending()));
        let apt = snapshot.files.apt.iter().filter(|(path, _)| is_packed(path));
        let apt = apt.map(|(path, listed)| (folder.join("dists").join(apt::SUITE).join(path), *listed));
        let yum = snapshot.files.yum.iter().flat_map(|yum| &yum.files);
        let yum = yum.map(|file| (folder.join("repodata").join(&file.name), Listed { sha256: file.sha256, size: file.size }));
        apt.chain(yum).collect()
    }

    /// The first file of a snapshot on disk that is not what its lists say.
    ///
    /// # Errors
    /// The system does not let one be read.
    pub(crate) fn damaged_in(&self, snapshot: &Snapshot) -> Result<Option<PathBuf>> {
        let list = Listed { sha256: snapshot.id.0, size: snapshot.list.len() as u64 };
        let mut all = vec![(self.snapshot_folder(&snapshot.id).join("SHA256SUMS"), list)];
        all.extend(self.packed_files(snapshot));
        for (path, listed) in all {
            if !self.root.is_whole(&path, listed.sha256, listed.size)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn write_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let failed = || format!("cannot write snapshot {}", snapshot.id.short());
        let made = self.root.scratch()?.folder()?;
        let mut names = vec![];
        let mut write = |name: PathBuf, body: &IndexBody| -> Result<()> {
            let path = made.path().join(&name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).or_fail(Class::System, failed)?;
            }
            match body {
                IndexBody::Bytes(bytes) => fs::write(&path, bytes),
                // It is never written to again, so one file can have two names.
                IndexBody::Same(other) => fs::hard_link(other, &path).or_else(|_| fs::copy(other, &path).map(drop)),
            }
            .or_fail(Class::System, failed)?;
            names.push(name);
            Ok(())
        };
        write("SHA256SUMS".into(), &IndexBody::Bytes(snapshot.list.clone()))?;
        let record = Record::of(snapshot.files.clone(), snapshot.signed.clone());
        write("signed.json".into(), &IndexBody::Bytes(seal::close(&record)?.into()))?;
        if let Some(held) = &snapshot.held {
            let dists = Path::new("dists").join(apt::SUITE);
            held.apt.iter().try_for_each(|(path, body)| write(dists.join(path), body))?;
            held.yum.iter().try_for_each(|(name, body)| write(Path::new("repodata").join(name), body))?;
            write("blocks".into(), &IndexBody::Bytes(assemble::write_blocks(&held.blocks).into()))?;
        }
        // What was added to the catalog for it waits for the disk at the same time.
        let (catalog, tree) = workers::both(true, || self.pool.catalog.sync(), || sync_tree(made.path(), &names));
        tree?;
        catalog?;
        let place = self.snapshot_folder(&snapshot.id);
        let parent = self.root.join("snapshots");
        disk::make_folder(&parent)?;
        if let Err(cause) = fs::rename(made.path(), &place) {
            if fs::symlink_metadata(&place).is_err() {
                return Err(Error::system(failed(), cause));
            }
            if let Some(there) = disk::usable(self.stored(&snapshot.id))?.flatten()
                && there.files == snapshot.files
                && self.damaged_in(&there)?.is_none()
            {
                return Ok(()); // another publisher was first
            }
            // What is there is broken, or lacks an architecture: it goes aside, to be swept.
            let aside = self.root.scratch()?.folder()?;
            fs::rename(&place, aside.path().join("replaced")).or_fail(Class::System, failed)?;
            fs::rename(made.path(), &place).or_fail(Class::System, failed)?;
        }
        let _ = made.keep();
        names.iter().filter(|name| *name != Path::new("signed.json")).for_each(|name| self.root.just_written(&place.join(name)));
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
        let mendable = |error: Error| if error.is_unread() { error } else { error.hint(REPAIR) };
        let stored = self.read.get(id, &folder.join("signed.json"), |bytes| {
            let record: Record =
                seal::open(bytes).or_fail(Class::Repository, || format!("{}/signed.json cannot be used", folder.display()))?;
            check_plain(&folder)?;
            let list = fs::read(folder.join("SHA256SUMS")).or_fail(Class::Repository, failed)?;
            if Sha256::of(&list) != id.0 {
                return Err(Error::new(Class::Repository, format!("the list of snapshot {} has another digest", id.short())));
            }
            // Its digest says that it is the list that was written, so its lines are what they are to be.
            let lines =
                list.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line.get(..64)?).ok()?.parse::<Sha256>().ok());
            let mut members = DigestSet::default();
            members.reserve(list.len() / 96);
            members.extend(lines);
            let files = Files { apt: record.files, yum: record.yum };
            Ok(Snapshot { id: *id, list: list.into(), members, files, signed: record.signed, held: None })
        });
        match stored.or_fail(Class::Repository, failed).map_err(mendable)? {
            // A folder without it is no snapshot that was never made.
            None if disk::named(&folder)?.is_some() => {
                Err(mendable(Error::new(Class::Repository, format!("{}/signed.json is gone", folder.display()))))
            }
            stored => Ok(stored),
        }
    }

    /// The bytes of one of a snapshot's index files, checked.
    pub(crate) fn index(&self, snapshot: &Snapshot, path: &str, listed: &Listed) -> Result<Bytes> {
        if let Some(body) = snapshot.held.as_ref().and_then(|held| held.apt.get(path)?.bytes()) {
            return Ok(body.clone());
        }
        let packed = apt::PACKINGS.iter().find_map(|packing| {
            let path = format!("{path}{}", packing.ending());
            snapshot.files.apt.get(&path).map(|listed| (path, *listed, *packing))
        });
        if let Some((packed, packed_as, packing)) = packed {
            return self.unpacked(snapshot, &packed, &packed_as, packing, listed);
        }
        let file = self.snapshot_folder(&snapshot.id).join("dists").join(apt::SUITE).join(path);
        let body = self.body(&file, &listed.sha256)?;
        body.ok_or_else(|| Error::new(Class::Repository, format!("{} is gone", file.display())).hint(REPAIR))
    }

    /// The text of an index, which is kept packed.
    fn unpacked(&self, snapshot: &Snapshot, path: &str, packed_as: &Listed, packing: Packing, listed: &Listed) -> Result<Bytes> {
        if let Some(body) = lock(&self.bodies).get(&listed.sha256) {
            return Ok(body);
        }
        let body = self.index(snapshot, path, packed_as)?;
        let text = assemble::unpack(packing, &body, listed.size);
        let text = text.filter(|text| Sha256::of(text) == listed.sha256).map(Bytes::from).ok_or_else(|| {
            Error::new(Class::Repository, format!("{path} of snapshot {} has another text than its list says", snapshot.id.short()))
                .hint(REPAIR)
        })?;
        lock(&self.bodies).put(listed.sha256, text.clone());
        Ok(text)
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
            return Ok(held.yum.get(name).and_then(IndexBody::bytes).map(|body| (body.clone(), digest)));
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
        let read = disk::read(file).map_err(|error| if error.is_unread() { error } else { error.hint(REPAIR) })?;
        let Some(body) = read.map(Bytes::from) else { return Ok(None) };
        if Sha256::of(&body) != *digest {
            return Err(Error::new(Class::Repository, format!("{} has another digest than its list says", file.display())).hint(REPAIR));
        }
        lock(&self.bodies).put(*digest, body.clone());
        Ok(Some(body))
    }

    pub(crate) fn repodata_path(&self, id: &SnapshotId, name: &str) -> PathBuf {
        self.snapshot_folder(id).join("repodata").join(name)
    }

    pub(crate) fn snapshot_folder(&self, id: &SnapshotId) -> PathBuf {
        self.root.join("snapshots").join(id.to_string())
    }
}

/// Refuses a snapshot with a link in it, or anything else that we do not make there: its files are read and written by
/// their paths.
pub(crate) fn check_plain(folder: &Path) -> Result<()> {
    twostage_beneath::Folder::open(folder)?.only_files_and_folders(&|_| true)
}

/// The list that names the snapshot: the text of its [`Manifest`].
pub(crate) fn list(entries: &[Arc<Entry>]) -> Result<String> {
    let mut names: Vec<(String, &Sha256)> = entries.iter().map(|entry| (entry.file_name(), &entry.sha256)).collect();
    // (Those that are in order already are sorted quickly.)
    names.sort();
    names.dedup();
    if let Some([first, second]) = names.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        let mut manifest = Manifest::default();
        manifest.add(&first.0, *first.1).and_then(|()| manifest.add(&second.0, *second.1))?;
    }
    let mut text = String::with_capacity(names.iter().map(|(name, _)| name.len() + 67).sum());
    for (name, digest) in names {
        digest.push_to(&mut text);
        text.push_str("  ");
        text.push_str(&name);
        text.push('\n');
    }
    Ok(text)
}

fn gone(id: &SnapshotId) -> Error {
    Error::new(Class::System, format!("snapshot {} went away while it was made", id.short()))
}

/// Makes files in a folder that nobody knows yet durable, and the folders that they are in.
fn sync_tree(folder: &Path, names: &[PathBuf]) -> Result<()> {
    let parents: BTreeSet<&Path> = names.iter().flat_map(|name| name.ancestors().skip(1)).collect();
    let all: Vec<PathBuf> = names.iter().map(PathBuf::as_path).chain(parents).map(|name| folder.join(name)).collect();
    workers::for_each_waiting(&all, |path| disk::sync_folder(path))
}

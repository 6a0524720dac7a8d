//! A channel or a snapshot as plain files, for any web server or bucket.
//!
//! ```text
//! <folder>/dists/twostage/InRelease, Release, Release.gpg, main/binary-amd64/{Packages,by-hash/SHA256/…}
//! <folder>/pool/ab/<digest>/greet_1.0-1_amd64.deb
//! <folder>/repodata/repomd.xml, repomd.xml.asc, repomd.xml.key, <digest>-primary.xml.gz     if there are rpms
//! <folder>/key.asc, keys/<fingerprint>.asc
//! <folder>/main.sources, main.repo          the client files
//! <folder>/twostage-export                  says that the folder is an export
//! <folder>/twostage-export.unnamed          files that nothing names any more: seconds since 1970, a blank, the path
//! ```
//!
//! The names are those that the server answers, so the metadata and its signatures are the same bytes. Files are copies,
//! never hard links: a link would give the pool's bytes a second door, and a change of its stamp
//! (`health.rs`) would have every package hashed again.
//!
//! A folder that is not there appears whole, by a rename. One that is there changes in steps, each of them on disk before
//! the next begins: what has a digest in its name; then indexes without one; then the signed roots; then client files.

mod folder;

use crate::channel::no_channel;
use crate::health::Verify;
use crate::snapshot::{Signed, Snapshot};
use crate::{Kind, PoolPackage, Repository, apt, yum};
use bytes::Bytes;
use folder::{ExportFolder, ExportWriter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId};
use twostage_package::rpm::Header;

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub enum PlainSource<'a> {
    /// What a channel points to now, with the channel's own signatures.
    Channel(&'a str),
    /// A snapshot, which is good for ever.
    Snapshot(&'a SnapshotId),
}

/// What an export did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainExport {
    /// What was exported.
    pub snapshot: SnapshotId,
    /// Files that the folder has of it.
    pub files: usize,
    /// Files that were written.
    pub written: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that nothing names any more, and that were removed.
    pub removed: usize,
    /// Files that nothing names any more, and that are still there.
    pub left: usize,
}

/// When a file is given its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PlainStep {
    /// Its name says its content, so nobody has an earlier one.
    Named,
    /// Indexes under the names that never change, and keys.
    Fixed,
    /// What is signed, and what signs it.
    Root,
    /// What no client needs to read the rest.
    Last,
    /// What the next export wants to know.
    Noted,
}

/// The bytes of a file.
enum PlainContent {
    Bytes(Bytes),
    /// An index of apt's.
    Index(String, apt::Listed),
    /// `head`, then a file of the pool from its byte `skip` on.
    Pool {
        package: Arc<PoolPackage>,
        digest: Sha256,
        head: Bytes,
        skip: u64,
    },
}

/// A file of an export, its path with `/` below the folder.
struct PlainFile {
    step: PlainStep,
    path: String,
    content: PlainContent,
    size: u64,
    /// When it was made, in seconds since 1970.
    date: i64,
}

/// What is said of all that is exported.
struct PlainState {
    name: String,
    snapshot: Arc<Snapshot>,
    signed: Signed,
}

/// The suite's folder.
const DISTS: &str = "dists/twostage";
/// What is signed for yum.
const REPOMD: [&str; 3] = ["repomd.xml", "repomd.xml.asc", "repomd.xml.key"];

impl Repository {
    /// Writes a channel or a snapshot as plain files into a folder, which is made where it is not there, and brought up to
    /// date where an earlier export made it. `url` is the folder's address for clients.
    ///
    /// What an earlier export wrote and nothing names any more stays, and is counted. With `remove_after`, it goes when exports
    /// did not name it for so many seconds: a client may still be in the middle of an earlier state. What was withdrawn goes
    /// at once then. `now` in seconds since 1970.
    ///
    /// # Errors
    /// There is no such channel or snapshot, or it is damaged; the folder holds what no export wrote, or
    /// another export is writing there; or it cannot be written. Clients see the earlier state then.
    pub fn export_plain(
        &self,
        source: PlainSource<'_>,
        folder: &Path,
        url: &str,
        remove_after: Option<i64>,
        now: i64,
    ) -> Result<PlainExport> {
        let state = self.state_of(source)?;
        let files = self.plain_files(&state, url)?;
        let place = ExportFolder::open(folder)?;
        let mut writer = ExportWriter::new(&place)?;
        for file in &files {
            self.stage(&mut writer, &state, file)?;
        }
        for step in [PlainStep::Named, PlainStep::Fixed, PlainStep::Root] {
            writer.give_names(step)?;
        }
        let names: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        // A root of rpms that are there no more would still be one.
        let roots = REPOMD.map(|name| format!("repodata/{name}"));
        for root in roots.iter().filter(|root| !names.contains(root.as_str())) {
            writer.remove(root)?;
        }
        writer.give_names(PlainStep::Last)?;
        let withdrawn = self.withdrawals.all_withdrawn()?;
        let is_withdrawn =
            |path: &str| path.split('/').nth(2).and_then(|word| word.parse().ok()).is_some_and(|digest| withdrawn.contains(&digest));
        let (since, mut left, mut removed) = (writer.unnamed(), BTreeMap::new(), 0);
        for path in writer.present()?.into_iter().filter(|path| !names.contains(path.as_str())) {
            let at = since.get(&path).copied().filter(|at| *at <= now).unwrap_or(now);
            if remove_after.is_some_and(|after| now.saturating_sub(at) >= after || is_withdrawn(&path)) {
                writer.remove(&path)?;
                removed += 1;
            } else {
                left.insert(path, at);
            }
        }
        if left != since {
            writer.note_unnamed(&left)?;
        }
        let (written, bytes) = writer.finish()?;
        place.publish()?;
        Ok(PlainExport { snapshot: state.snapshot.id, files: files.len(), written, bytes, removed, left: left.len() })
    }

    /// One consistent state of a channel or a snapshot.
    fn state_of(&self, source: PlainSource<'_>) -> Result<PlainState> {
        let (name, id, signed) = match source {
            PlainSource::Channel(name) => {
                let channel = self.channels.get(name)?.ok_or_else(|| no_channel(name))?;
                (name.to_string(), channel.snapshot, Some(channel.signed.clone()))
            }
            PlainSource::Snapshot(id) => ("snapshot".to_string(), *id, None),
        };
        let gone = || Error::new(Class::Repository, format!("the repository has no snapshot {id}"));
        let snapshot = self.snapshots.stored(&id)?.ok_or_else(gone)?;
        let signed = signed.unwrap_or_else(|| snapshot.signed.clone());
        Ok(PlainState { name, snapshot, signed })
    }

    /// The files of a state, in order.
    fn plain_files(&self, state: &PlainState, url: &str) -> Result<Vec<PlainFile>> {
        let (snapshot, signed) = (&state.snapshot, &state.signed);
        let mut files = Vec::new();
        self.pool_files(snapshot, &mut files)?;
        for (path, listed) in &snapshot.files.apt {
            let (folder, _) = path.rsplit_once('/').unwrap_or(("", path));
            let by_hash = format!("{DISTS}/{folder}/by-hash/SHA256/{}", listed.sha256);
            for (step, to) in [(PlainStep::Named, by_hash), (PlainStep::Fixed, format!("{DISTS}/{path}"))] {
                files.push(PlainFile {
                    step,
                    path: to,
                    content: PlainContent::Index(path.clone(), *listed),
                    size: listed.size,
                    date: signed.date,
                });
            }
        }
        let mut put = |step: PlainStep, path: String, bytes: Bytes| {
            files.push(PlainFile { step, path, size: bytes.len() as u64, content: PlainContent::Bytes(bytes), date: signed.date });
        };
        let key = self.signing.public_key()?;
        put(PlainStep::Fixed, "key.asc".into(), key.clone().into());
        for file in snapshot.files.yum.iter().flat_map(|yum| &yum.files) {
            let found = self.snapshots.repodata(snapshot, &file.name)?;
            let (bytes, _) = found.ok_or_else(|| Error::new(Class::Repository, format!("repodata/{} is gone", file.name)))?;
            put(PlainStep::Named, format!("repodata/{}", file.name), bytes);
        }
        let upstream: Vec<&str> = snapshot.files.yum.iter().flat_map(|yum| yum.keys.iter().map(String::as_str)).collect();
        for fingerprint in &upstream {
            let gone = || Error::new(Class::Repository, format!("the key {fingerprint} of those who signed rpms is gone"));
            let armored = self.signing.upstream_key(fingerprint)?.ok_or_else(gone)?;
            put(PlainStep::Fixed, format!("keys/{fingerprint}.asc"), armored.into());
        }
        // What a client reads first comes last.
        put(PlainStep::Root, format!("{DISTS}/Release"), signed.release.clone().into());
        put(PlainStep::Root, format!("{DISTS}/Release.gpg"), signed.release_gpg.clone().into());
        put(PlainStep::Root, format!("{DISTS}/InRelease"), signed.inrelease.clone().into());
        if let Some(repomd) = &signed.repomd {
            for (name, text) in REPOMD.into_iter().zip([&repomd.xml, &repomd.asc, &key]).rev() {
                put(PlainStep::Root, format!("repodata/{name}"), text.clone().into());
            }
        }
        put(PlainStep::Last, "SHA256SUMS".into(), snapshot.list.clone());
        let url = url.trim_end_matches('/');
        let has_sources = snapshot.files.apt.contains_key(apt::SOURCES);
        put(PlainStep::Last, format!("{}.sources", state.name), apt::sources_text(url, has_sources, &key).into());
        if signed.repomd.is_some() {
            let text = yum::repo_text(url, url, &state.name, &self.settings.origin, upstream);
            put(PlainStep::Last, format!("{}.repo", state.name), text.into());
        }
        files.sort_by_key(|file| file.step);
        Ok(files)
    }

    /// The files of the packages of a snapshot, by the paths that its metadata names.
    fn pool_files(&self, snapshot: &Snapshot, files: &mut Vec<PlainFile>) -> Result<()> {
        for digest in self.withdrawals.all_withdrawn()?.iter().filter(|digest| snapshot.members.contains(digest)) {
            self.withdrawals.check_not_withdrawn(digest)?;
        }
        let entries = self.pool.entries_again(snapshot.members.iter())?;
        self.pool.verify_entries(&entries, Verify::EachFile)?;
        for entry in entries.iter().filter(|entry| !matches!(entry.kind, Kind::Extra(_))) {
            let package = self.pool.package_or_described(&entry.sha256)?;
            let folder = apt::pool_folder(&package.sha256);
            let mut put = |path: String, digest: Sha256, size: u64, head: Bytes, skip: u64| {
                let content = PlainContent::Pool { package: Arc::clone(&package), digest, head, skip };
                files.push(PlainFile { step: PlainStep::Named, path, content, size, date: package.date });
            };
            if package.kind.is_rpm() {
                let ours = snapshot.files.yum.as_ref().map(|yum| yum.fingerprint.as_str());
                let ours = ours.filter(|_| package.rpm.as_ref().is_some_and(|rpm| rpm.signer.is_none()));
                let unsigned = || Error::new(Class::Repository, format!("the signature that {} is served with is gone", package.id));
                let served = self.signing.served_rpm(&package, ours)?.ok_or_else(unsigned)?;
                let (_, header) = self.signing.head(&package)?;
                let path = yum::location(&package, &Header::parse(&header)?, &served.signer);
                put(path, package.sha256, served.size, served.prefix, served.skip);
                continue;
            }
            put(format!("{folder}/{}", package.file_name()), package.sha256, package.size, Bytes::new(), 0);
            for file in &package.files {
                put(format!("{folder}/{}", file.name), file.sha256, file.size, Bytes::new(), 0);
            }
        }
        Ok(())
    }

    /// Writes a file under a name that nobody knows, unless the folder has it.
    fn stage(&self, writer: &mut ExportWriter, state: &PlainState, file: &PlainFile) -> Result<()> {
        // A name that says its content was given to it when it was whole.
        if file.step == PlainStep::Named && writer.has(&file.path, file.size)? {
            return Ok(());
        }
        let bytes = match &file.content {
            PlainContent::Bytes(bytes) => bytes.clone(),
            PlainContent::Index(path, listed) => self.snapshots.index(&state.snapshot, path, listed)?,
            PlainContent::Pool { package, digest, head, skip } => {
                let mut pool = self.pool.open_verified(package, digest)?;
                return writer.stage_pool(file, head, &mut pool, *skip);
            }
        };
        if file.step != PlainStep::Named && writer.holds(&file.path, &bytes)? {
            return Ok(());
        }
        writer.stage(file, &bytes)
    }
}

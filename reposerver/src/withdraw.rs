//! Packages that must not be served any more, whatever names them: a secret, a licence.
//!
//! ```text
//! withdrawn/<digest>.json         {"sha256":"5f2c…","name":"greet_1.0-1_amd64.deb","reason":"…","date":1767413106,"seal":"…"}
//! withdrawn/again/<digest>.json   the same
//! ```
//!
//! The record comes first: from then on the bytes are refused, and asked for they are 410 Gone with the reason. Then
//! channels go on without the package, and then its bytes go. Whoever comes after a crash withdraws it again. Snapshots
//! never change, so those that had it name it for ever.

use crate::catalog::Entry;
use crate::folder::RepositoryFolder;
use crate::pins::check_reason;
use crate::sign::Key;
use crate::{Kind, Repository, disk, lock, twice};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Manifest, Result, Sha256, SnapshotId, date};

/// Why something is served no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// What the pool knew it by.
    pub sha256: Sha256,
    /// What it was called; empty for what never was here.
    pub name: String,
    /// Why.
    pub reason: String,
    /// When, in seconds since 1970.
    pub date: i64,
}

/// What a withdrawal did.
#[derive(Debug, Default)]
pub struct Withdrawal {
    /// What is withdrawn now.
    pub things: Vec<Withdrawn>,
    /// The channels that go on without it, with their snapshot.
    pub channels: Vec<(String, SnapshotId)>,
    /// Snapshots that name it for ever.
    pub snapshots: Vec<SnapshotId>,
    /// Bytes that went.
    pub bytes: u64,
    /// Channels that could not go on without it yet. What they had of it is not served.
    pub broken: Vec<Error>,
}

/// The cause of an error about something that was withdrawn, for whoever has to answer 410.
#[derive(Debug)]
pub(crate) struct Gone(Withdrawn);

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "withdrawn on {}: {}", date::release(self.0.date), self.0.reason)
    }
}

impl std::error::Error for Gone {}

/// What a client is told that asks for something withdrawn; nothing where that is not why.
pub(crate) fn gone(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(there) = cause {
        if let Some(gone) = there.downcast_ref::<Gone>() {
            return Some(gone.to_string());
        }
        cause = there.source();
    }
    None
}

/// Whether an error says that something was withdrawn.
pub fn is_withdrawn(error: &Error) -> bool {
    gone(error).is_some()
}

impl Withdrawn {
    fn shown(&self) -> String {
        if self.name.is_empty() { self.sha256.to_string() } else { self.name.clone() }
    }

    /// The error for whoever wants it.
    pub fn error(&self) -> Error {
        Error::new(Class::Repository, format!("{} was withdrawn, and is refused", self.shown()))
            .because(Gone(self.clone()))
            .hint("go on without it: publish a version that has not what it was withdrawn for; it cannot be taken back with the same bytes")
    }
}

impl Repository {
    /// What of the repository a person means: a package by its name, `NAME=VERSION`, or the digest of it or of its file, or of
    /// a source's file. A digest that nothing here has is taken as it is.
    ///
    /// # Errors
    /// No package is called so.
    pub fn to_withdraw(&self, text: &str) -> Result<Vec<(Sha256, String)>> {
        let known = self.pool.catalog.known()?;
        let named = |entry: &Arc<Entry>| (entry.sha256, entry.file_name());
        if let Ok(digest) = text.parse::<Sha256>() {
            let mut found: Vec<_> = known.iter().filter(|entry| entry.sha256 == digest).map(named).collect();
            if found.is_empty() {
                found.extend(known.iter().filter(|entry| self.is_file_of(entry, &digest)).map(named));
            }
            // A file of a source goes, and with it the sources that have it.
            let sources: Vec<_> = known.iter().filter(|entry| entry.files.iter().any(|(file, _)| *file == digest)).map(named).collect();
            if !sources.is_empty() || found.is_empty() {
                let name = sources.first().and_then(|(source, _)| {
                    let package = self.pool.package(source).ok()?;
                    package.files.iter().find(|file| file.sha256 == digest).map(|file| file.name.clone())
                });
                found.push((digest, name.unwrap_or_default()));
            }
            found.extend(sources);
            return Ok(found);
        }
        let (name, version) = text.split_once('=').map_or((text, None), |(name, version)| (name, Some(version)));
        let is_it = |entry: &&Arc<Entry>| {
            entry.name() == name && version.is_none_or(|version| entry.version() == version) && !matches!(entry.kind, Kind::Extra(_))
        };
        let found: Vec<_> = known.iter().filter(is_it).map(named).collect();
        if found.is_empty() {
            let names: BTreeSet<&str> = known.iter().map(|entry| entry.name()).collect();
            let versions: Vec<&str> = known.iter().filter(|entry| entry.name() == name).map(|entry| entry.version()).collect();
            let hint = match versions.is_empty() {
                false => format!("its versions here are {}", versions.join(", ")),
                true => twostage_model::project::near_miss(name, names.into_iter())
                    .unwrap_or_else(|| "name a package, NAME=VERSION, or a digest as SHA256SUMS of a snapshot has it".into()),
            };
            return Err(Error::new(Class::Repository, format!("the repository has no package {text}")).hint(hint));
        }
        Ok(found)
    }

    /// Whether a digest is that of a package's file as it came, or as it is served.
    fn is_file_of(&self, entry: &Entry, digest: &Sha256) -> bool {
        if !entry.kind.is_rpm() {
            return false;
        }
        let Ok(package) = self.pool.package(&entry.sha256) else { return false };
        let served =
            || self.signing.signer().ok()?.and_then(|key| self.signing.kept_signature(&package, &key).ok()?).map(|served| served.sha256);
        package.file_digest() == digest || served() == Some(*digest)
    }

    /// Withdraws what [`Repository::to_withdraw`] gave. It cannot be undone. `now` in seconds since 1970. May be run again
    /// where it broke off.
    ///
    /// # Errors
    /// `reason` is none, or it cannot be written. A channel that could not go on is no error here but in
    /// [`Withdrawal::broken`].
    pub fn withdraw(&self, things: &[(Sha256, String)], reason: &str, now: i64) -> Result<Withdrawal> {
        check_reason(reason)?;
        // (Without a key all is withdrawn but what a channel has.)
        let key = match self.signing.key(now) {
            Err(error) if error.is_unread() => return Err(error),
            key => key,
        };
        let _held = self.root.hold()?;
        let mut all: BTreeMap<Sha256, String> = things.iter().cloned().collect();
        self.add_files_of_sources(&mut all)?;
        self.withdraw_held(&all, reason, now, &key)
    }

    /// Finishes what somebody began who was stopped: what has a record of its withdrawal and is there all the same. Under the
    /// publishers' lock.
    pub(crate) fn finish_withdrawals(&self, now: i64, key: &Result<Arc<Key>>) -> Result<()> {
        let mut all = BTreeMap::new();
        for digest in self.withdrawals.all_withdrawn()? {
            if (disk::named(&self.pool.pool_path(&digest))?.is_some() || disk::named(&self.pool.blob_path(&digest))?.is_some())
                && let Some(withdrawn) = self.withdrawals.get(&digest)?
            {
                all.insert(digest, withdrawn.name);
            }
        }
        if all.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = all.iter().map(|(digest, name)| if name.is_empty() { digest.short() } else { name.clone() }).collect();
        // (Each has a record, whose reason stays.)
        let done = self.withdraw_held(&all, "withdrawn before", now, key)?;
        match done.broken.into_iter().next() {
            Some(error) => Err(error),
            None => {
                self.root.mend(format!("the withdrawal of {} was finished", names.join(", ")));
                Ok(())
            }
        }
    }

    fn withdraw_held(&self, all: &BTreeMap<Sha256, String>, reason: &str, now: i64, key: &Result<Arc<Key>>) -> Result<Withdrawal> {
        let mut done = Withdrawal::default();
        for (digest, name) in all {
            let thing = match self.withdrawals.get(digest)? {
                Some(earlier) => earlier,
                None => Withdrawn { sha256: *digest, name: name.clone(), reason: reason.to_string(), date: now },
            };
            twice::write(self.root.scratch()?, &self.withdrawals.withdrawn_folder(), &digest.to_string(), &thing)?;
            done.things.push(thing);
        }
        let gone: BTreeSet<Sha256> = all.keys().copied().collect();
        for name in self.channels.names()? {
            let moved = self.channels.channel_now(&name).and_then(|channel| match channel {
                Some(channel) if channel.members.values().flatten().any(|member| gone.contains(member)) => {
                    let key = key.as_ref().map_err(|error| Error::new(Class::Repository, error.to_string()).hint(error.hint_or_class()))?;
                    self.publish_held(&name, now, key, |_| {}).map(Some)
                }
                _ => Ok(None),
            });
            match moved {
                Ok(published) => done.channels.extend(published.map(|published| (name, published.snapshot))),
                Err(cause) if cause.is_unread() => return Err(cause),
                Err(cause) => {
                    let hint = format!("`twostage channel {name} --repair`, then withdraw it once more: {}", cause.hint_or_class());
                    let error = Error::new(Class::Repository, format!("channel {name} could not go on without it"));
                    done.broken.push(error.because(cause).hint(hint));
                }
            }
        }
        done.bytes = self.remove_bytes(&gone)?;
        // Last, and only where nothing is left to do: who withdraws it once more finds it by its name.
        if done.broken.is_empty() {
            self.pool.catalog.forget(self.root.scratch()?, &gone)?;
            self.pool.catalog.compact(self.root.scratch()?)?;
        }
        for id in self.snapshots.ids()? {
            if self.snapshots.list_of(&id).ok().flatten().is_some_and(|list| list.files().any(|(_, digest)| gone.contains(&digest))) {
                done.snapshots.push(id);
            }
        }
        self.pool.remember();
        std::thread::sleep(crate::SEEN);
        Ok(done)
    }

    /// The files of source packages go with them, but for those that another source has, too.
    fn add_files_of_sources(&self, all: &mut BTreeMap<Sha256, String>) -> Result<()> {
        let known = self.pool.catalog.known()?;
        let shared: BTreeSet<Sha256> = known
            .iter()
            .filter(|entry| !all.contains_key(&entry.sha256))
            .flat_map(|entry| entry.files.iter().map(|(file, _)| *file))
            .collect();
        let of_them: Vec<Arc<Entry>> =
            known.into_iter().filter(|entry| all.contains_key(&entry.sha256) && !entry.files.is_empty()).collect();
        for entry in of_them {
            let names: BTreeMap<Sha256, String> = self
                .pool
                .package(&entry.sha256)
                .map(|package| package.files.iter().map(|file| (file.sha256, file.name.clone())).collect())
                .unwrap_or_default();
            for (file, _) in entry.files.iter().filter(|(file, _)| !shared.contains(file)) {
                all.entry(*file).or_insert_with(|| names.get(file).cloned().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Removes all that the repository has of some bytes: in the pool, among the blobs, signatures.
    fn remove_bytes(&self, gone: &BTreeSet<Sha256>) -> Result<u64> {
        let mut bytes = 0;
        let mut folders = BTreeSet::new();
        for digest in gone {
            lock(&self.pool.packages).remove(digest);
            let signed = disk::names(&self.root.join("signed"))?;
            let signed = signed.iter().map(|fingerprint| self.signing.signed_path(fingerprint, digest));
            let quarantined = self.quarantined(digest)?;
            for path in [self.pool.pool_path(digest), self.pool.blob_path(digest)].into_iter().chain(signed).chain(quarantined) {
                if let Some(freed) = removed(&path)? {
                    bytes += freed;
                    folders.extend(path.parent().map(Path::to_path_buf));
                }
            }
        }
        folders.iter().try_for_each(|folder| disk::sync_folder(folder))?;
        Ok(bytes)
    }

    /// Which packages of a snapshot were withdrawn.
    ///
    /// # Errors
    /// It cannot be read what was withdrawn.
    pub fn withdrawn_of(&self, id: &SnapshotId) -> Result<Vec<Withdrawn>> {
        let all = self.withdrawals.all_withdrawn()?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.snapshots.list_of(id).ok().flatten().unwrap_or_default();
        self.withdrawn_among(&list, &all)
    }

    fn withdrawn_among(&self, list: &Manifest, all: &BTreeSet<Sha256>) -> Result<Vec<Withdrawn>> {
        let hit = list.files().filter(|(_, digest)| all.contains(digest));
        hit.filter_map(|(_, digest)| self.withdrawals.get(&digest).transpose()).collect()
    }

    /// What a snapshot's page says of those; nothing where none was.
    pub(crate) fn withdrawn_lines(&self, id: &SnapshotId) -> String {
        let all = self.withdrawn_of(id).unwrap_or_default();
        all.iter()
            .map(|one| format!("{} is served no more, withdrawn on {}: {}\n", one.name, date::release(one.date), one.reason))
            .collect()
    }
}

/// The records of what was withdrawn.
pub struct Withdrawals {
    root: Arc<RepositoryFolder>,
}

impl Withdrawals {
    pub(crate) fn new(root: &Arc<RepositoryFolder>) -> Withdrawals {
        Withdrawals { root: Arc::clone(root) }
    }

    /// Whether something was withdrawn, and why.
    ///
    /// # Errors
    /// That cannot be read: nothing is said to be good then.
    pub fn get(&self, digest: &Sha256) -> Result<Option<Withdrawn>> {
        let hint = |error: Error| {
            if error.is_unread() {
                error
            } else {
                error.hint("`twostage fsck --repair` makes it anew; what it was withdrawn for may be lost")
            }
        };
        let there: Option<Withdrawn> = twice::read(&self.withdrawn_folder(), &digest.to_string()).map_err(hint)?;
        match there {
            Some(other) if other.sha256 != *digest => {
                Err(hint(Error::new(Class::Repository, format!("the record of the withdrawal of {digest} is of another package"))))
            }
            there => Ok(there),
        }
    }

    /// All that was withdrawn.
    pub(crate) fn all_withdrawn(&self) -> Result<BTreeSet<Sha256>> {
        Ok(twice::names(&self.withdrawn_folder())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Refuses what was withdrawn.
    pub(crate) fn check_not_withdrawn(&self, digest: &Sha256) -> Result<()> {
        self.get(digest)?.map_or(Ok(()), |withdrawn| Err(withdrawn.error()))
    }

    pub(crate) fn withdrawn_folder(&self) -> PathBuf {
        self.root.join("withdrawn")
    }
}

/// Removes a file, and says how many bytes that freed; nothing where there is none.
pub(crate) fn removed(path: &Path) -> Result<Option<u64>> {
    let failed = || format!("cannot remove {}", path.display());
    let size = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::remove_dir_all(path).or_fail(Class::System, failed)?;
            return Ok(Some(0));
        }
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::system(failed(), error)),
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.or_fail(Class::System, failed).map(|()| Some(size)),
    }
}

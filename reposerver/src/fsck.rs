//! Looks at every file of a repository, and mends what can be made again. Nothing is trusted: no stamp, no memory.
//!
//! What is damaged and cannot be made again is moved to `quarantine/`, with a record of what it was, and is named:
//!
//! ```text
//! quarantine/<n>-<name>        the file, or the folder that took its place
//! quarantine/<n>-<name>.json   {"path":"pool/5f/5f2c…","what":"…","date":1767413106,"seal":"…"}
//! ```
//!
//! A repair looks twice. What is wrong the first time and not the second was mended; what is wrong the second time is lost.

use crate::catalog::compact;
use crate::channel::no_channel;
use crate::gc::walk;
use crate::pins::{Pin, Reason};
use crate::repair::Repaired;
use crate::sign::{Key, Upstream};
use crate::snapshot::Signed;
use crate::withdraw::Withdrawn;
use crate::{Repository, disk, rpms, seal, twice, workers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use twostage_model::error::OrFail as _;
use twostage_model::names::check_channel_name;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId};

/// What became of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was only looked at.
    Damaged,
    /// It is whole again.
    Mended,
    /// It was moved away, and nothing needs it.
    Quarantined,
    /// It stays damaged, or gone.
    Lost,
    /// The system does not let it be read. It may be whole, so it was left as it is.
    Unread,
}

/// One damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What is damaged.
    pub what: String,
    /// What became of it.
    pub state: State,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that were looked at.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What was wrong.
    pub found: Vec<Found>,
    /// How what was made anew was made: a sentence each.
    pub mended: Vec<String>,
}

impl Checked {
    /// How many are in a state.
    pub fn count(&self, state: State) -> usize {
        self.found.iter().filter(|found| found.state == state).count()
    }
}

/// One look at the repository: what is wrong, by the path or the name of what it is about.
#[derive(Default)]
struct Look {
    files: usize,
    bytes: u64,
    wrong: BTreeMap<String, Wrong>,
}

struct Wrong {
    what: String,
    hint: Option<String>,
    /// Nobody knows whether it is damaged.
    unread: bool,
    /// What has no way to be made again goes from here.
    away: Option<PathBuf>,
}

impl Look {
    fn wrong(&mut self, id: impl Into<String>, what: impl Into<String>, hint: Option<&str>, away: Option<&Path>) {
        let wrong = Wrong { what: what.into(), hint: hint.map(String::from), unread: false, away: away.map(Path::to_path_buf) };
        self.wrong.entry(id.into()).or_insert(wrong);
    }

    /// An error, or that of the machine.
    fn error(&mut self, id: impl Into<String>, error: Error, away: Option<&Path>) -> Result<()> {
        if error.is_machine() {
            return Err(error);
        }
        if error.is_unread() {
            let wrong = Wrong { what: whole_text(&error), hint: Some(error.hint_or_class().into()), unread: true, away: None };
            self.wrong.entry(id.into()).or_insert(wrong);
        } else {
            self.wrong(id, whole_text(&error), error.hint_text(), away);
        }
        Ok(())
    }

    /// The same of a question to the system: nothing where that did not answer it.
    fn answer<T>(&mut self, id: impl Into<String>, asked: Result<T>) -> Result<Option<T>> {
        match asked {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => self.error(id, error, None).map(|()| None),
        }
    }

    fn saw(&mut self, path: &Path) {
        self.files += 1;
        self.bytes += fs::symlink_metadata(path).map_or(0, |meta| meta.len());
    }
}

/// An error with all its causes.
fn whole_text(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

/// The record of what is in quarantine.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quarantined {
    path: String,
    what: String,
    date: i64,
}

/// What is said where a reason cannot be read any more.
const REASON_LOST: &str = "the reason was lost by damage";
const AGAIN: &str = "bring the good file again: `twostage publish FILE`; `twostage repo` does it for what the project builds and locks";
const MENDS: &str = "`twostage fsck --repair` mends what can be made again";
const NO_KEY: &str = "there is no key to sign with";
const FETCHED: &str = "the next `twostage repo` fetches it, or makes it, once more";

impl Repository {
    /// Looks at all of the repository, or at what one channel needs, hashing everything. With `repair`, what can be made
    /// again is, and the rest goes to `quarantine/`. `now` in seconds since 1970.
    ///
    /// # Errors
    /// There is no such channel, or the machine says no. What is damaged is no error here but in [`Checked::found`].
    pub fn fsck(&self, channel: Option<&str>, repair: bool, now: i64) -> Result<Checked> {
        channel.map_or(Ok(()), check_channel_name)?;
        self.pool.forget();
        let key = match repair {
            true if disk::named(&self.signing.key_path())?.is_some() || self.signing.signer()?.is_some() => Some(self.signing.key(now)),
            _ => None,
        };
        let _held = self.root.hold()?;
        if let Some(name) = channel
            && !self.channels.names()?.iter().any(|there| there == name)
        {
            return Err(no_channel(name));
        }
        let before = self.look(channel)?;
        let mut checked = Checked { files: before.files, bytes: before.bytes, ..Checked::default() };
        if !repair {
            let found = |wrong: Wrong| match wrong.unread {
                true => Found { what: wrong.what, state: State::Unread, hint: wrong.hint },
                false => Found { what: wrong.what, state: State::Damaged, hint: Some(MENDS.into()) },
            };
            checked.found = before.wrong.into_values().map(found).collect();
            return Ok(checked);
        }
        let mut moved = BTreeSet::new();
        let lost = self.mend_all(channel, &before, key, &mut moved, now)?;
        checked.mended = self.root.mended();
        let after = self.look(channel)?;
        // What could not be read at first and can be now was never damaged.
        for (id, wrong) in before.wrong.iter().filter(|(_, wrong)| !wrong.unread) {
            let state = match (after.wrong.contains_key(id), moved.contains(id)) {
                (true, _) => continue,
                (false, true) => State::Quarantined,
                (false, false) => State::Mended,
            };
            let hint = if state == State::Quarantined { wrong.hint.clone() } else { None };
            checked.found.push(Found { what: wrong.what.clone(), state, hint });
        }
        for wrong in after.wrong.into_values() {
            let state = if wrong.unread { State::Unread } else { State::Lost };
            checked.found.push(Found { what: wrong.what, state, hint: wrong.hint });
        }
        for error in lost {
            let state = if error.is_unread() { State::Unread } else { State::Lost };
            let known = checked.found.iter().any(|found| found.state == state && found.what.starts_with(error.what()));
            if !known {
                checked.found.push(Found { what: whole_text(&error), state, hint: Some(error.hint_or_class().to_string()) });
            }
        }
        checked.found.sort_by(|a, b| (a.state, &a.what).cmp(&(b.state, &b.what)));
        self.pool.remember();
        Ok(checked)
    }

    fn look(&self, channel: Option<&str>) -> Result<Look> {
        let mut look = Look::default();
        let (mut members, mut snapshots) = (BTreeSet::new(), BTreeSet::new());
        let names = channel.map_or_else(|| self.channels.names(), |name| Ok(vec![name.to_string()]))?;
        for name in &names {
            self.look_at_channel(name, &mut look, &mut members, &mut snapshots)?;
        }
        self.look_at_keys(&mut look)?;
        self.look_at_names(&mut look)?;
        if let Some(what) = look.answer("catalog", compact::damaged(&self.pool.catalog))?.flatten() {
            look.wrong("catalog", what, None, None);
        }
        if channel.is_none() {
            self.look_at_records(&mut look, &mut members, &mut snapshots)?;
            snapshots.extend(self.snapshots.ids()?);
            self.look_at_files("pool", &mut look)?;
            self.look_at_files("blobs", &mut look)?;
            self.look_at_signatures(&mut look)?;
            self.look_at_builds(&mut look)?;
        }
        for id in &snapshots {
            self.look_at_snapshot(id, &mut look)?;
        }
        self.look_at_members(&members, channel.is_some(), &mut look)?;
        Ok(look)
    }

    fn look_at_channel(
        &self,
        name: &str,
        look: &mut Look,
        members: &mut BTreeSet<Sha256>,
        snapshots: &mut BTreeSet<SnapshotId>,
    ) -> Result<()> {
        let id = format!("channels/{name}.json");
        look.saw(&self.channels.channel_path(name));
        let state = match self.channels.channel_now(name) {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(()),
            Err(error) => return look.error(id, error, None),
        };
        members.extend(state.members.values().flatten());
        snapshots.insert(state.snapshot);
        if !self.is_signed(&state.signed) {
            look.wrong(&id, format!("channel {name} has a signature that is not good"), None, None);
        }
        let copy = self.channels.past_path(name, state.date);
        let in_history = look.answer(self.below(&copy), disk::read(&copy))?;
        if in_history.is_some_and(|bytes| bytes.as_deref() != seal::close(&state).ok().as_deref()) {
            look.wrong(self.below(&copy), format!("channel {name} is not in its history as it is"), None, None);
        }
        let known: BTreeSet<i64> = self.channels.states(name)?.into_iter().map(|state| state.date).collect();
        for (path, date) in self.channels.past_files(name)? {
            look.saw(&path);
            if !known.contains(&date) {
                look.wrong(self.below(&path), format!("{} cannot be used", path.display()), None, Some(&path));
            }
        }
        for earlier in &state.history {
            let path = self.channels.past_path(name, earlier.date);
            if !known.contains(&earlier.date) {
                look.wrong(self.below(&path), format!("{} is gone, or cannot be used", path.display()), None, None);
            }
            snapshots.insert(earlier.snapshot);
            match self.members_of(&earlier.snapshot) {
                Ok(all) => members.extend(all),
                Err(error) => look.error(format!("snapshots/{}", earlier.snapshot), error, None)?,
            }
        }
        Ok(())
    }

    /// A path, as it is below the repository.
    fn below(&self, path: &Path) -> String {
        path.strip_prefix(self.root()).unwrap_or(path).display().to_string()
    }

    /// Whether what is signed is signed by our key; also where that is an earlier one, which nobody has any more.
    fn is_signed(&self, signed: &Signed) -> bool {
        let Some(public) = self.signing.public().ok().flatten().filter(|public| public.fingerprint == signed.fingerprint) else {
            return true;
        };
        let keys = Upstream::parse(&public.armored).unwrap_or_default();
        keys.iter().any(|key| {
            let repomd = signed.repomd.as_ref();
            key.signed(&signed.release, &signed.release_gpg, &signed.inrelease)
                && repomd.is_none_or(|repomd| key.signed_beside(&repomd.xml, &repomd.asc))
        })
    }

    fn look_at_keys(&self, look: &mut Look) -> Result<()> {
        match self.signing.public() {
            Ok(_) => {}
            Err(error) => look.error("key.asc", error, None)?,
        }
        let signed = match look.answer("key.asc", self.signing.signer())? {
            Some(signer) => signer.is_some(),
            None => return Ok(()),
        };
        let there = look.answer("key.asc", disk::named(&self.root.join("key.asc")))?;
        if signed && there.is_some_and(|there| !there.is_some_and(|meta| meta.is_file())) {
            look.wrong("key.asc", "the public key key.asc is gone", None, None);
        }
        // Not where it would be made.
        if (signed || look.answer("key", disk::named(&self.signing.key_path()))?.is_some_and(|there| there.is_some()))
            && let Err(error) = self.signing.read_or_make_key(0, true)
        {
            look.error("key", error, None)?;
        }
        for name in disk::names(&self.root.join("keys"))? {
            let path = self.root.join("keys").join(&name);
            look.saw(&path);
            let fingerprint = name.strip_suffix(".asc").unwrap_or_default();
            match self.signing.upstream_key(fingerprint) {
                Ok(Some(_)) => {}
                Ok(None) => look.wrong(format!("keys/{name}"), format!("{} is no key", path.display()), None, Some(&path)),
                Err(error) => look.error(format!("keys/{name}"), error, Some(&path))?,
            }
        }
        Ok(())
    }

    fn look_at_names(&self, look: &mut Look) -> Result<()> {
        let mut good = |id: &str, read: Result<bool>| match read {
            Err(error) if error.is_unread() => look.error(id, error, None).map(|()| true),
            other => Ok(other.unwrap_or(false)),
        };
        let (names, again) = (good("names", self.names.names_are_whole())?, good("names.again", self.names.names_again_is_whole())?);
        if !names {
            look.wrong("names", "the list of published names is not as it was written", None, None);
        }
        if !again {
            look.wrong("names.again", "the second list of published names is not as it was written", None, None);
        }
        Ok(())
    }

    /// Pins and withdrawals.
    fn look_at_records(&self, look: &mut Look, members: &mut BTreeSet<Sha256>, snapshots: &mut BTreeSet<SnapshotId>) -> Result<()> {
        for folder in [self.pins.pins_folder(), self.withdrawals.withdrawn_folder()] {
            for name in twice::names(&folder)? {
                let id = format!("{}/{name}", folder.file_name().unwrap_or_default().to_string_lossy());
                let mut read = Vec::new();
                for path in twice::paths(&folder, &name) {
                    look.saw(&path);
                    let bytes = look.answer(&id, disk::usable(disk::read(&path)))?.flatten().flatten();
                    read.push(bytes.filter(|bytes| seal::open::<serde_json::Value>(bytes).is_ok()));
                }
                if name.parse::<Sha256>().is_err() {
                    let path = &twice::paths(&folder, &name)[0];
                    look.wrong(id, format!("{} is nothing that belongs there", path.display()), None, Some(path));
                } else if read[0].is_none() || read[0] != read[1] {
                    look.wrong(id, format!("the record {} is not as it was written", folder.join(&name).display()), None, None);
                }
            }
        }
        for id in self.pins.pinned()? {
            snapshots.insert(id);
            match self.pins.pin_of(&id) {
                Ok(pin) => members.extend(pin.into_iter().flat_map(|pin| pin.members)),
                Err(error) => look.error(format!("pins/{id}"), error, None)?,
            }
        }
        for digest in self.withdrawals.all_withdrawn()? {
            if let Err(error) = self.withdrawals.get(&digest) {
                look.error(format!("withdrawn/{digest}"), error, None)?;
            }
            for path in [self.pool.pool_path(&digest), self.pool.blob_path(&digest)] {
                if look.answer(self.below(&path), disk::named(&path))?.flatten().is_some() {
                    let hint = "withdraw it once more: `twostage withdraw DIGEST --reason TEXT --yes`";
                    look.wrong(self.below(&path), format!("{} was withdrawn, and is there", path.display()), Some(hint), None);
                }
            }
        }
        Ok(())
    }

    /// Every file whose name is its digest.
    fn look_at_files(&self, name: &str, look: &mut Look) -> Result<()> {
        let root = self.root.join(name);
        let (mut files, mut odd) = (Vec::new(), Vec::new());
        for shard in disk::names(&root)? {
            let folder = root.join(&shard);
            let Some(is_folder) = look.answer(self.below(&folder), disk::is_folder(&folder))? else { continue };
            if !is_folder {
                odd.push(folder);
                continue;
            }
            for name in look.answer(self.below(&folder), disk::names(&folder))?.unwrap_or_default() {
                let path = folder.join(&name);
                let Some(found) = look.answer(self.below(&path), disk::named(&path))? else { continue };
                let is_file = found.is_some_and(|meta| meta.is_file());
                match name.parse::<Sha256>() {
                    Ok(digest) if is_file && name.starts_with(&shard) => files.push((path, digest)),
                    _ => odd.push(path),
                }
            }
        }
        for path in odd {
            look.wrong(self.below(&path), format!("{} is nothing that belongs there", path.display()), None, Some(&path));
        }
        let in_pool = name == "pool";
        let wrong = Mutex::new(Vec::new());
        workers::for_each(&files, |(path, digest)| {
            let good = if in_pool { self.pool_file_is_good(path, digest) } else { self.pool.verify_blob(digest) };
            match good {
                Err(error) if error.is_machine() => Err(error),
                Err(error) => {
                    crate::lock(&wrong).push((path.clone(), error));
                    Ok(())
                }
                Ok(()) => Ok(()),
            }
        })?;
        files.iter().for_each(|(path, _)| look.saw(path));
        for (path, error) in wrong.into_inner().unwrap_or_default() {
            let error = match error.is_unread() {
                true => error,
                false => error.hint(if in_pool { AGAIN } else { FETCHED }),
            };
            look.error(self.below(&path), error, Some(&path))?;
        }
        Ok(())
    }

    fn pool_file_is_good(&self, path: &Path, digest: &Sha256) -> Result<()> {
        if self.pool.catalog.get(digest)?.is_some()
            && let Ok(package) = self.pool.package(digest)
        {
            return self.pool.open_verified(&package, digest).map(drop);
        }
        let failed = || format!("cannot read {}", path.display());
        let mut file = disk::open(path).or_fail(Class::Repository, failed)?;
        let (identity, whole) = twostage_package::rpm::prefix::digests(&mut file).or_fail(Class::Repository, failed)?;
        match whole == *digest || identity == Some(*digest) {
            true => Ok(()),
            false => Err(Error::new(Class::Repository, format!("{} has another digest than when it came", path.display()))),
        }
    }

    fn look_at_signatures(&self, look: &mut Look) -> Result<()> {
        let root = self.root.join("signed");
        for fingerprint in disk::names(&root)? {
            for shard in disk::names(&root.join(&fingerprint))? {
                let folder = root.join(&fingerprint).join(shard);
                let Some(is_folder) = look.answer(self.below(&folder), disk::is_folder(&folder))? else { continue };
                if !is_folder {
                    look.wrong(self.below(&folder), format!("{} is no folder", folder.display()), None, Some(&folder));
                    continue;
                }
                for name in look.answer(self.below(&folder), disk::names(&folder))?.unwrap_or_default() {
                    let path = folder.join(&name);
                    look.saw(&path);
                    // Without its package nobody is served with it.
                    let Some(Ok(package)) = name.parse().ok().map(|digest| self.pool.package(&digest)) else { continue };
                    let Some(kept) = look.answer(self.below(&path), self.signing.kept_signature(&package, &fingerprint))? else { continue };
                    if kept.is_none() {
                        let what = format!("the signature of {} is not as it was made", package.id);
                        look.wrong(self.below(&path), what, None, Some(&path));
                    }
                }
            }
        }
        Ok(())
    }

    fn look_at_builds(&self, look: &mut Look) -> Result<()> {
        let root = self.root.join("builds");
        for component in disk::names(&root)? {
            let folder = root.join(&component);
            for name in look.answer(self.below(&folder), disk::usable(disk::names(&folder)))?.flatten().unwrap_or_default() {
                let path = folder.join(&name);
                look.saw(&path);
                let Some(bytes) = look.answer(self.below(&path), disk::usable(disk::read(&path)))? else { continue };
                let bytes = bytes.flatten().unwrap_or_default();
                let good = match name.strip_suffix(".json") {
                    Some(_) => serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|value| value.is_object()),
                    None => name != "current" || std::str::from_utf8(&bytes).is_ok_and(|text| text.trim().parse::<Sha256>().is_ok()),
                };
                if !good {
                    look.wrong(self.below(&path), format!("{} is no record of a build", path.display()), Some(FETCHED), Some(&path));
                }
            }
        }
        Ok(())
    }

    fn look_at_snapshot(&self, id: &SnapshotId, look: &mut Look) -> Result<()> {
        let (name, folder) = (format!("snapshots/{id}"), self.root.join("snapshots").join(id.to_string()));
        let mut others = Vec::new();
        walk(&folder, &mut |path, _| others.push(path.to_path_buf()))
            .or_else(|error| if error.is_unread() { look.error(&name, error, None) } else { Ok(()) })?;
        others.iter().for_each(|path| look.saw(path));
        let snapshot = match self.snapshots.stored(id) {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                look.wrong(name, format!("snapshot {} is gone", id.short()), None, None);
                return Ok(());
            }
            Err(error) => return look.error(name, error, Some(&folder)),
        };
        let Some(damaged) = look.answer(&name, self.snapshots.damaged_in(&snapshot))? else { return Ok(()) };
        if let Some(path) = damaged {
            look.wrong(name, format!("{} is not as it was written", path.display()), None, Some(&folder));
        } else if !self.is_signed(&snapshot.signed) {
            look.wrong(name, format!("snapshot {} has a signature that is not good", id.short()), None, Some(&folder));
        }
        for fingerprint in snapshot.files.yum.iter().flat_map(|yum| &yum.keys) {
            let path = self.root.join("keys").join(format!("{fingerprint}.asc"));
            let key = format!("keys/{fingerprint}.asc");
            if look.answer(&key, disk::is_file(&path))? == Some(false) {
                let what = format!("{}, the key of who signed packages of snapshot {}, is gone", path.display(), id.short());
                look.wrong(key, what, Some(rpms::KEY_AGAIN), None);
            }
        }
        // Those with the digests of earlier keys are named by their digest.
        for path in others.iter().filter(|path| path.parent().is_some_and(|parent| parent.ends_with("repodata"))) {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let listed = snapshot.files.yum.iter().flat_map(|yum| &yum.files).any(|listed| listed.name == file);
            let digest = file.split('-').next().and_then(|digest| digest.parse::<Sha256>().ok());
            if listed {
                continue;
            }
            let read = look.answer(self.below(path), disk::read(path))?;
            if read.is_some_and(|bytes| digest != bytes.map(|bytes| Sha256::of(&bytes))) {
                look.wrong(self.below(path), format!("{} is not as it was written", path.display()), None, Some(path));
            }
        }
        Ok(())
    }

    /// Packages that something needs, and the other files of sources.
    fn look_at_members(&self, members: &BTreeSet<Sha256>, hash: bool, look: &mut Look) -> Result<()> {
        let withdrawn = self.withdrawals.all_withdrawn()?;
        let ours = self.signing.public().ok().flatten();
        for digest in members.difference(&withdrawn) {
            if let (Some(ours), Ok(package)) = (&ours, self.pool.package(digest))
                && package.rpm.as_ref().is_some_and(|rpm| rpm.signer.is_none())
                && let path = self.signing.signed_path(&ours.fingerprint, digest)
                && look
                    .answer(self.below(&path), self.signing.kept_signature(&package, &ours.fingerprint))?
                    .is_some_and(|kept| kept.is_none())
            {
                let what = format!("the signature of {} is gone, or not as it was made", package.id);
                look.wrong(self.below(&path), what, None, None);
            }
            let files: Vec<Sha256> =
                self.pool.catalog.get(digest)?.iter().flat_map(|entry| entry.files.iter().map(|(file, _)| *file)).collect();
            for file in std::iter::once(*digest).chain(files).filter(|file| !withdrawn.contains(file)) {
                let path = self.pool.pool_path(&file);
                let Some(is_file) = look.answer(self.below(&path), disk::is_file(&path))? else { continue };
                if !is_file {
                    let named = self.pool.package(digest).map_or_else(|_| digest.to_string(), |package| package.file_name());
                    let hint = AGAIN.replace("FILE", &named);
                    look.wrong(self.below(&path), format!("{} of {named} is gone", path.display()), Some(&hint), None);
                } else if hash {
                    look.saw(&path);
                    match self.pool_file_is_good(&path, &file) {
                        Ok(()) => {}
                        Err(error) => look.error(self.below(&path), error, Some(&path))?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes anew what can be. Gives what is lost.
    fn mend_all(
        &self,
        channel: Option<&str>,
        before: &Look,
        key: Option<Result<std::sync::Arc<Key>>>,
        moved: &mut BTreeSet<String>,
        now: i64,
    ) -> Result<Vec<Error>> {
        let mut repaired = Repaired::default();
        self.mend_records(now)?;
        let key = match key {
            Some(Ok(key)) => Some(key),
            Some(Err(error)) => {
                repaired.lose(error)?;
                None
            }
            None => None,
        };
        let needed = || key.clone().ok_or_else(|| Error::new(Class::Repository, NO_KEY));
        if channel.is_none()
            && let Err(error) = self.finish_withdrawals(now, &needed())
        {
            repaired.lose(error)?;
        }
        // First what is wrong leaves: what is made anew from it would be wrong, too.
        let is_source = |id: &str| ["pool/", "blobs/", "builds/", "keys/"].iter().any(|folder| id.starts_with(folder));
        for (id, wrong) in before.wrong.iter().filter(|(id, _)| is_source(id)) {
            if let Some(path) = &wrong.away {
                self.quarantine(path, &wrong.what, now)?;
                moved.insert(id.clone());
            }
        }
        if before.wrong.contains_key("catalog") {
            self.describe_all_again()?;
        }
        for name in channel.map_or_else(|| self.channels.names(), |name| Ok(vec![name.to_string()]))? {
            self.repair_held(&name, now, needed(), &mut repaired)?;
        }
        // Why there is none is said already.
        repaired.lost.retain(|error| error.what() != NO_KEY);
        if channel.is_none() && key.is_some() {
            for id in self.snapshots.ids()?.into_iter().chain(self.pins.pinned()?).collect::<BTreeSet<_>>() {
                if before.wrong.contains_key(&format!("snapshots/{id}")) {
                    self.mend_snapshot(&id, now, moved, &mut repaired)?;
                }
            }
        }
        if let Err(error) = self.check_names(&[], None, None) {
            repaired.lose(error)?;
        }
        if disk::usable(self.names.names_again_is_whole())? != Some(true) {
            self.names.keep_names_again()?;
        }
        // What is wrong still, and nothing is made from.
        for (id, wrong) in self.look(channel)?.wrong {
            if let Some(path) = wrong.away.filter(|_| !id.starts_with("snapshots/") && !moved.contains(&id)) {
                self.quarantine(&path, &wrong.what, now)?;
                moved.insert(id);
            }
        }
        Ok(repaired.lost)
    }

    /// One that a channel has was made anew already.
    fn mend_snapshot(&self, id: &SnapshotId, now: i64, moved: &mut BTreeSet<String>, repaired: &mut Repaired) -> Result<()> {
        let whole = |id| match self.snapshots.stored(id) {
            Ok(Some(snapshot)) => Ok(self.snapshots.damaged_in(&snapshot)?.is_none() && self.is_signed(&snapshot.signed)),
            Err(error) if error.is_unread() => Err(error),
            _ => Ok(false),
        };
        if whole(id)? {
            return Ok(());
        }
        let pinned = disk::usable(self.pins.pin_of(id))?.flatten();
        let members = match &pinned {
            Some(pin) => Ok(pin.members.clone()),
            None => self.members_of(id),
        };
        let before = repaired.lost.len();
        match members {
            Ok(members) => {
                if let Err(error) = self.repair_snapshot(id, &members, now, repaired) {
                    repaired.lose(error)?;
                }
            }
            Err(error) => repaired.lose(error)?,
        }
        let folder = self.root.join("snapshots").join(id.to_string());
        let needed = pinned.is_some() || self.is_named(id)?;
        if !whole(id)? && !needed && disk::named(&folder)?.is_some() {
            // Nobody needs it, so nothing is lost with it.
            repaired.lost.truncate(before);
            self.quarantine(&folder, &format!("snapshot {id} was damaged, and nothing needs it"), now)?;
            moved.insert(format!("snapshots/{id}"));
        }
        Ok(())
    }

    /// Whether a channel is at a snapshot, or was.
    fn is_named(&self, id: &SnapshotId) -> Result<bool> {
        for name in self.channels.names()? {
            let Ok(Some(channel)) = self.channels.channel_now(&name) else { return Ok(true) };
            if channel.snapshot == *id || channel.history.iter().any(|earlier| earlier.snapshot == *id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Pins and withdrawals: from their other file, or else from their name.
    fn mend_records(&self, now: i64) -> Result<()> {
        for id in self.pins.pinned()? {
            let pin = match self.pins.pin_of(&id) {
                Ok(Some(pin)) => pin,
                Err(error) if error.is_unread() => return Err(error),
                _ => match self.members_of(&id) {
                    Ok(members) => Pin { snapshot: id, reasons: vec![Reason { text: REASON_LOST.into(), date: now }], members },
                    Err(error) if error.is_unread() => return Err(error),
                    Err(_) => continue,
                },
            };
            self.write_again(&self.pins.pins_folder(), &id.to_string(), &pin, || {
                format!("the pin of snapshot {} was made anew", id.short())
            })?;
        }
        for digest in self.withdrawals.all_withdrawn()? {
            let withdrawn = match self.withdrawals.get(&digest) {
                Ok(Some(withdrawn)) => withdrawn,
                Err(error) if error.is_unread() => return Err(error),
                _ => Withdrawn { sha256: digest, name: String::new(), reason: REASON_LOST.into(), date: now },
            };
            self.write_again(&self.withdrawals.withdrawn_folder(), &digest.to_string(), &withdrawn, || {
                format!("the record of the withdrawal of {digest} was made anew")
            })?;
        }
        Ok(())
    }

    fn write_again(&self, folder: &Path, name: &str, value: &impl Serialize, what: impl FnOnce() -> String) -> Result<()> {
        let bytes = seal::close(value)?;
        let mut same = true;
        for path in twice::paths(folder, name) {
            same &= disk::usable(disk::read(&path))?.flatten().as_ref() == Some(&bytes);
        }
        if !same {
            twice::write(self.root.scratch()?, folder, name, value)?;
            self.root.mend(what());
        }
        Ok(())
    }

    /// Makes the catalog anew, from the packages of the pool that are whole.
    fn describe_all_again(&self) -> Result<()> {
        self.pool.catalog.discard(self.root.scratch()?)?;
        crate::lock(&self.pool.packages).clear();
        let mut digests = Vec::new();
        walk(&self.root.join("pool"), &mut |path, _| {
            digests.extend(path.file_name().and_then(|name| name.to_str()?.parse::<Sha256>().ok()));
        })?;
        for digest in digests {
            match self.pool.described_again([digest].iter()) {
                Err(error) if error.is_unread() => return Err(error),
                // A source's other file is no package.
                _ => {}
            }
        }
        self.pool.catalog.sync()?;
        self.root.mend("the catalog was damaged, and is made anew from the packages".into());
        Ok(())
    }

    /// Moves what is damaged away, with a record of what it was.
    fn quarantine(&self, path: &Path, what: &str, now: i64) -> Result<()> {
        if disk::named(path)?.is_none() {
            return Ok(());
        }
        let folder = self.root.join("quarantine");
        disk::make_folder(&folder)?;
        let there = disk::names(&folder)?;
        let next = there.iter().filter_map(|name| name.split('-').next()?.parse::<u64>().ok()).max().map_or(1, |last| last + 1);
        let name = format!("{next}-{}", path.file_name().unwrap_or_default().to_string_lossy());
        let shown = self.below(path);
        let record = Quarantined { path: shown.clone(), what: what.to_string(), date: now };
        disk::write(self.root.scratch()?, &folder.join(format!("{name}.json")), &seal::close(&record)?)?;
        fs::rename(path, folder.join(&name)).or_fail(Class::System, || format!("cannot move {} to quarantine", path.display()))?;
        disk::sync_folder(path.parent().unwrap_or(self.root()))?;
        disk::sync_folder(&folder)?;
        self.root.mend(format!("{shown} was moved to quarantine/{name}"));
        Ok(())
    }

    /// What is in quarantine of a digest.
    pub(crate) fn quarantined(&self, digest: &Sha256) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("quarantine");
        let digest = digest.to_string();
        let names = disk::names(&folder)?.into_iter().filter(|name| name.split_once('-').is_some_and(|(_, rest)| rest == digest));
        Ok(names.map(|name| folder.join(name)).collect())
    }
}

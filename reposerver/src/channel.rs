//! Channels: named pointers to snapshots.
//!
//! A channel is one file, so that its pointer and its signatures change in one rename:
//!
//! ```json
//! {"snapshot":"ab12…","date":1767413106,
//!  "members":{"component:greet":["5f2c…"],"lock:hello":["77aa…"]},
//!  "history":[{"snapshot":"0a1b…","date":1767400000}],
//!  "signed":{"release":"Origin: demo\n…","inrelease":"…","release_gpg":"…",…}}
//! ```
//!
//! Its release has a date of its own that only ever grows, also when the channel moves back: apt
//! keeps what it has when it is offered something older.

use crate::snapshot::{Signed, Snapshot, manifest, to_json};
use crate::{PoolPackage, Repository, disk};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use twostage_model::date;
use twostage_model::error::OrFail;
use twostage_model::names::check_channel_name;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId};

/// What a channel is made of: a group's name (`component:greet`, `published`, `lock:hello`) to
/// its packages. The snapshot is the union.
pub type Members = BTreeMap<String, BTreeSet<Sha256>>;

/// The state of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Where it points.
    pub snapshot: SnapshotId,
    /// The `Date` of its release, in seconds since 1970.
    pub date: i64,
    /// Its packages by group.
    pub members: Members,
    /// Where it pointed before, newest first; as many as [`crate::Settings::keep`] says.
    pub history: Vec<Earlier>,
    pub(crate) signed: Signed,
}

/// An earlier state of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// Where it pointed.
    pub snapshot: SnapshotId,
    /// The date of the release that said so.
    pub date: i64,
}

/// What a publish did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where the channel points now.
    pub snapshot: SnapshotId,
    /// Where it pointed before, if it was there.
    pub previous: Option<SnapshotId>,
    /// Whether clients see anything new.
    pub changed: bool,
}

/// What `history/<channel>/<date>.json` holds.
#[derive(Serialize, Deserialize)]
struct Past {
    snapshot: SnapshotId,
    members: Members,
}

/// apt refuses a release that is more than 10 seconds in the future; dates that must grow by a
/// second with each publish may run this far ahead of the clock.
const AHEAD: i64 = 5;
/// Seconds ahead of the clock that a publish waits for. More is no burst of publishes but a clock that
/// is, or was, wrong.
const MOST_WAIT: i64 = 60;

impl Repository {
    /// The state of a channel; nothing when there is none of that name.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn channel(&self, name: &str) -> Result<Option<Arc<Channel>>> {
        if check_channel_name(name).is_err() {
            return Ok(None);
        }
        let path = self.channel_path(name);
        self.channels.get(&name.to_string(), &path, |bytes| parse(bytes, &path))
    }

    /// The same past the cache, for whoever holds the lock and will build on it.
    fn channel_now(&self, name: &str) -> Result<Option<Channel>> {
        let path = self.channel_path(name);
        disk::read(&path)?.map(|bytes| parse(&bytes, &path)).transpose()
    }

    /// The names of the channels, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn channels(&self) -> Result<Vec<String>> {
        let folder = self.root.join("channels");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let failed = || format!("cannot read {}", folder.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).or_fail(Class::System, failed)? {
            let name = entry.or_fail(Class::System, failed)?.file_name();
            names.extend(name.to_str().and_then(|n| n.strip_suffix(".json")).filter(|n| check_channel_name(n).is_ok()).map(String::from));
        }
        names.sort();
        Ok(names)
    }

    /// Changes a channel, which is made when it is not there: `change` edits its members, their
    /// union becomes a snapshot, and the channel points to it, all under the publishers' lock, so
    /// that two publishers never lose each other's change. When nothing has changed, nothing is
    /// written. `now` in seconds since 1970. The channel's date grows by at least a second each
    /// time; where that would take it more than 5 seconds ahead of the clock, this waits, up to a minute,
    /// because apt refuses a release from the future.
    ///
    /// # Errors
    /// The channel's name is not allowed; its date is further than that ahead of the clock; a member is not in the pool; one name, version and
    /// architecture has two contents, here or in anything that a channel published earlier; or
    /// it cannot be written. The channel stays as it was then.
    pub fn publish(&self, channel: &str, now: i64, change: impl FnOnce(&mut Members)) -> Result<Published> {
        check_channel_name(channel)?;
        let _span = tracing::debug_span!("publish", channel).entered();
        // Both take the lock, or long, themselves.
        let (_, key) = (self.scratch()?, self.key(now)?);
        let _guard = disk::publish_lock(&self.root)?;
        let old = self.channel_now(channel)?;
        let mut members = old.as_ref().map(|old| old.members.clone()).unwrap_or_default();
        change(&mut members);
        members.retain(|_, group| !group.is_empty());
        let current = |old: &Channel, snapshot: &Snapshot| {
            old.snapshot == snapshot.id && old.signed.is_current(&key, &self.settings, &snapshot.files)
        };
        if let Some(old) = &old
            && old.members == members
            && let Ok(Some(snapshot)) = self.stored(&old.snapshot)
            && current(old, &snapshot)
        {
            return Ok(Published { snapshot: old.snapshot, previous: Some(old.snapshot), changed: false });
        }
        let packages = self.sorted_packages(members.values().flatten())?;
        let names = self.check_names(&packages)?;
        self.sync_packages(names.iter())?;
        self.sync_new_packages(&packages)?;
        let snapshot = self.persist(&packages, now)?;
        if let Some(old) = &old
            && current(old, &snapshot)
        {
            // The same packages in other groups: nothing that a client could see.
            let regrouped = Channel { members, ..old.clone() };
            disk::write(self.scratch()?, &self.channel_path(channel), &to_json(&regrouped)?)?;
            return Ok(Published { snapshot: old.snapshot, previous: Some(old.snapshot), changed: false });
        }
        let published = self.point(channel, old.as_ref(), &snapshot, members, now)?;
        self.add_names(&lines(names.iter().map(|package| (package.file_name(), package.sha256))))?;
        Ok(published)
    }

    /// Points a channel to a snapshot that is on disk, an earlier one of its own or another's.
    /// Its groups become what they were then; a snapshot that this channel never had comes as one
    /// group, `moved`.
    ///
    /// # Errors
    /// There is no such snapshot, the channel's date is more than a minute ahead of the clock, or it
    /// cannot be written. The channel stays as it was then.
    pub fn move_channel(&self, channel: &str, id: &SnapshotId, now: i64) -> Result<Published> {
        check_channel_name(channel)?;
        let (_, key) = (self.scratch()?, self.key(now)?);
        let _guard = disk::publish_lock(&self.root)?;
        let old = self.channel_now(channel)?;
        let info = self.snapshot_info(id)?.ok_or_else(|| {
            Error::new(Class::Repository, format!("the repository has no snapshot {id}"))
                .hint(format!("`twostage channel {channel}` lists those that it can be moved to"))
        })?;
        let digests: Vec<Sha256> = info.manifest.files().map(|(_, digest)| digest).collect();
        let packages = self.sorted_packages(&digests)?;
        let snapshot = self.persist(&packages, now)?;
        if let Some(old) = &old
            && old.snapshot == *id
            && old.signed.is_current(&key, &self.settings, &snapshot.files)
        {
            return Ok(Published { snapshot: *id, previous: Some(*id), changed: false });
        }
        let names = self.check_names(&packages)?;
        let mut members = Members::from([("moved".to_string(), digests.into_iter().collect())]);
        for earlier in old.iter().flat_map(|old| &old.history).filter(|earlier| earlier.snapshot == *id) {
            if let Some(bytes) = disk::read(&self.past_path(channel, earlier.date))?
                && let Ok(past) = serde_json::from_slice::<Past>(&bytes)
                && past.snapshot == *id
            {
                members = past.members;
                break;
            }
        }
        let published = self.point(channel, old.as_ref(), &snapshot, members, now)?;
        self.add_names(&lines(names.iter().map(|package| (package.file_name(), package.sha256))))?;
        Ok(published)
    }

    /// The pointer swap: the old state's members to its history, then one rename.
    fn point(&self, channel: &str, old: Option<&Channel>, snapshot: &Snapshot, members: Members, now: i64) -> Result<Published> {
        let dated = old.map_or(now, |old| now.max(old.date.saturating_add(1)));
        let ahead = dated.saturating_sub(date::now());
        if ahead > MOST_WAIT {
            return Err(Error::new(
                Class::Repository,
                format!("channel {channel} is dated {}, which is {} s ahead of this machine's clock", date::release(dated), ahead),
            )
            .because("dates only grow, and apt refuses a release from the future".to_string())
            .hint(format!(
                "set the clock; if it is right now and was wrong at the last publish, remove {} and publish everything again",
                self.channel_path(channel).display()
            )));
        }
        if ahead > AHEAD {
            std::thread::sleep(Duration::from_secs(u64::try_from(ahead - AHEAD).unwrap_or(0)));
        }
        let keep = self.settings.keep;
        let mut history = Vec::new();
        if let Some(old) = old.filter(|_| keep > 0) {
            let past = Past { snapshot: old.snapshot, members: old.members.clone() };
            disk::write(self.scratch()?, &self.past_path(channel, old.date), &to_json(&past)?)?;
            history.push(Earlier { snapshot: old.snapshot, date: old.date });
            history.extend(old.history.iter().copied().take(keep.saturating_sub(1)));
        }
        let signed = Signed::new(&*self.key(now)?, &self.settings.origin, dated, &snapshot.files)?;
        let new = Channel { snapshot: snapshot.id, date: dated, members, history, signed };
        disk::write(self.scratch()?, &self.channel_path(channel), &to_json(&new)?)?;
        for dropped in old.iter().flat_map(|old| old.history.iter().skip(keep.saturating_sub(1))) {
            // One that stays behind takes space, nothing else.
            let _ = fs::remove_file(self.past_path(channel, dropped.date));
        }
        Ok(Published { snapshot: snapshot.id, previous: old.map(|old| old.snapshot), changed: true })
    }

    /// Refuses a name-version-architecture that a channel published with other content. Returns
    /// those that no channel published yet.
    ///
    /// `names` has a line a file, `<sha256>  <file name>`, appended *after* the pointer swap, so
    /// that a publish that fails reserves no name. What a crash kept from being appended is what
    /// some channel points to right now; that is appended here first.
    fn check_names(&self, packages: &[Arc<PoolPackage>]) -> Result<Vec<Arc<PoolPackage>>> {
        let path = self.root.join("names");
        let bytes = disk::read(&path)?.unwrap_or_default();
        // A line without its end was torn by a crash; `add_names` overwrites it.
        let text = std::str::from_utf8(whole_lines(&bytes)).or_fail(Class::Repository, || format!("{} is no text", path.display()))?;
        let mut names: HashMap<String, Sha256> = HashMap::new();
        for (digest, name) in text.lines().filter_map(|line| line.split_once("  ")) {
            names.insert(name.to_string(), digest.parse()?);
        }
        let mut lost = Vec::new();
        for channel in self.channels()? {
            let Some(channel) = self.channel(&channel)? else { continue };
            let listed = match self.snapshot_info(&channel.snapshot) {
                Ok(Some(info)) => info.manifest,
                Ok(None) => continue,
                // A damaged snapshot is mended by publishing it again, so this must not stand in the way.
                Err(_) => manifest(&self.sorted_packages(channel.members.values().flatten())?)?,
            };
            for (name, digest) in listed.files().filter(|(name, _)| !names.contains_key(*name)).collect::<Vec<_>>() {
                lost.push((name.to_string(), digest));
                names.insert(name.to_string(), digest);
            }
        }
        self.add_names(&lines(lost))?;
        let mut new = Vec::new();
        for package in packages {
            let name = package.file_name();
            match names.get(&name) {
                Some(earlier) if *earlier != package.sha256 => {
                    return Err(Error::new(
                        Class::Repository,
                        format!(
                            "{} version {} ({}) was published before with other content: then {earlier}, now {}",
                            package.id.name, package.id.version, package.id.arch, package.sha256
                        ),
                    )
                    .hint("give the changed package a new version: one name, version and architecture is one content, for ever"));
                }
                Some(_) => {}
                None => new.push(Arc::clone(package)),
            }
        }
        Ok(new)
    }

    /// Whether a channel ever published a package. One that it publishes right now may not be in `names` yet.
    pub(crate) fn was_published(&self, digest: &Sha256) -> Result<bool> {
        let digests = |bytes: &[u8]| {
            // What is no text yields no digest; the next publish says what is wrong.
            let text = String::from_utf8_lossy(whole_lines(bytes));
            Ok(text.lines().filter_map(|line| line.split_once("  ")?.0.parse().ok()).collect())
        };
        let published = self.published.get(&(), &self.root.join("names"), digests)?;
        Ok(published.is_some_and(|published: Arc<HashSet<Sha256>>| published.contains(digest)))
    }

    fn add_names(&self, lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.root.join("names");
        let failed = || format!("cannot write {}", path.display());
        let end = whole_lines(&disk::read(&path)?.unwrap_or_default()).len() as u64;
        let made = !path.exists();
        let mut file = File::options().create(true).truncate(false).write(true).open(&path).or_fail(Class::System, failed)?;
        file.set_len(end).or_fail(Class::System, failed)?;
        file.seek(SeekFrom::Start(end)).or_fail(Class::System, failed)?;
        file.write_all(lines.as_bytes()).or_fail(Class::System, failed)?;
        file.sync_all().or_fail(Class::System, failed)?;
        if made { disk::sync_folder(&self.root) } else { Ok(()) }
    }

    fn channel_path(&self, name: &str) -> PathBuf {
        self.root.join("channels").join(format!("{name}.json"))
    }

    fn past_path(&self, channel: &str, dated: i64) -> PathBuf {
        self.root.join("history").join(channel).join(format!("{dated}.json"))
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<Channel> {
    serde_json::from_slice(bytes)
        .or_fail(Class::Repository, || format!("cannot read {}", path.display()))
        .map_err(|error| error.hint("a newer twostage may have written it; twostage itself replaces it whole or not at all"))
}

fn lines(names: impl IntoIterator<Item = (String, Sha256)>) -> String {
    names.into_iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    bytes.iter().rposition(|b| *b == b'\n').map_or(&[], |at| &bytes[..=at])
}

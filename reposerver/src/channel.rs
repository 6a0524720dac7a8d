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
//! keeps what it has when it is offered something older. Each state is also a file of `history/`, the present one
//! too, so that a broken channel can be made anew.

use crate::catalog::Entry;
use crate::names::lines;
use crate::sign::Key;
use crate::snapshot::{MOST_AHEAD, Signed, Snapshot};
use crate::{Repository, disk, seal, workers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    /// Grows by one with each state, which dates need not after a clock was wrong.
    #[serde(default)]
    pub(crate) serial: u64,
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

/// What a publish did. Whatever it says was verified: the packages, the snapshot's files, the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where the channel points now.
    pub snapshot: SnapshotId,
    /// Where it pointed before, if it was there.
    pub previous: Option<SnapshotId>,
    /// Whether clients see anything new.
    pub changed: bool,
    /// What was damaged, and is whole again: a sentence each.
    pub mended: Vec<String>,
}

/// What the history says of a state of a channel.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Grows by one with each state.
    pub(crate) serial: u64,
    pub(crate) date: i64,
    pub(crate) snapshot: SnapshotId,
    pub(crate) members: Members,
}

/// What `history/<channel>/<date>.json` held before it was the whole state.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Past {
    snapshot: SnapshotId,
    members: Members,
}

/// apt refuses a release that is more than 10 seconds in the future; dates that must grow by a
/// second with each publish may run this far ahead of the clock.
const AHEAD: i64 = 5;
/// Seconds of a day.
const DAY: i64 = 86_400;

impl Channel {
    /// Until when clients take it, in seconds since 1970; nothing means for ever.
    pub fn valid_until(&self) -> Option<i64> {
        self.signed.valid_until
    }
}

impl Repository {
    /// The state of a channel; nothing when there is none of that name.
    ///
    /// # Errors
    /// It is there and cannot be read, or was there once.
    pub fn channel(&self, name: &str) -> Result<Option<Arc<Channel>>> {
        if check_channel_name(name).is_err() {
            return Ok(None);
        }
        let read = self.channels.get(&name.to_string(), &self.channel_path(name), seal::open);
        let channel = read.map_err(|cause| self.broken(name, cause))?;
        if channel.is_none() { self.check_never_there(name).map(|()| None) } else { Ok(channel) }
    }

    /// The same past the cache, for whoever holds the lock and will build on it.
    pub(crate) fn channel_now(&self, name: &str) -> Result<Option<Channel>> {
        let read = disk::read(&self.channel_path(name)).and_then(|bytes| bytes.map(|bytes| seal::open(&bytes)).transpose());
        let channel = read.map_err(|cause| self.broken(name, cause))?;
        if channel.is_none() { self.check_never_there(name).map(|()| None) } else { Ok(channel) }
    }

    /// A channel's file comes before its history, so one with a history and no file has lost that.
    fn check_never_there(&self, name: &str) -> Result<()> {
        if !self.history_folder(name).is_dir() {
            return Ok(());
        }
        let path = self.channel_path(name);
        let lost = self.broken(name, Error::new(Class::Repository, format!("{} is gone", path.display())));
        let history = self.history_folder(name);
        Err(lost.hint(format!("{}; to give the channel up, remove {}, too", repair_hint(name), history.display())))
    }

    fn broken(&self, name: &str, cause: Error) -> Error {
        let machine = cause.is_machine();
        let error = Error::new(Class::Repository, format!("channel {name}: {} cannot be used", self.channel_path(name).display()));
        let error = error.because(cause);
        if machine { error } else { error.hint(repair_hint(name)) }
    }

    /// The names of the channels, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn channels(&self) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        // One whose file is gone has a history.
        for (folder, ending) in [("channels", ".json"), ("history", "")] {
            let folder = self.root.join(folder);
            let failed = || format!("cannot read {}", folder.display());
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&folder).or_fail(Class::System, failed)? {
                let name = entry.or_fail(Class::System, failed)?.file_name();
                let name = name.to_str().and_then(|name| name.strip_suffix(ending)).filter(|name| check_channel_name(name).is_ok());
                names.extend(name.map(String::from));
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Changes a channel, which is made when it is not there: `change` edits its members, their
    /// union becomes a snapshot, and the channel points to it, all under the publishers' lock, so
    /// that two publishers never lose each other's change. When nothing has changed, nothing is
    /// written. `now` in seconds since 1970. The channel's date grows by at least a second each
    /// time; where that would take it more than 5 seconds ahead of the clock, this waits, up to a minute,
    /// because apt refuses a release from the future.
    ///
    /// What the channel consists of is looked at first, also when nothing has changed: see
    /// [`Published::mended`] for what could be made whole.
    ///
    /// # Errors
    /// The channel's name is not allowed; it is broken; its date is further than that ahead of the clock; a member is
    /// not in the pool, or damaged; one name, version and
    /// architecture has two contents, here or in anything that a channel published earlier; or
    /// it cannot be written. The channel stays as it was then.
    pub fn publish(&self, channel: &str, now: i64, change: impl FnOnce(&mut Members)) -> Result<Published> {
        check_channel_name(channel)?;
        let _span = tracing::debug_span!("publish", channel).entered();
        let key = self.key(now)?;
        // Before the lock where it can be; what is only looked at needs none.
        let _ = self.scratch();
        let _held = self.hold()?;
        self.publish_held(channel, now, &key, change)
    }

    /// [`Repository::publish`] under the lock.
    pub(crate) fn publish_held(&self, channel: &str, now: i64, key: &Key, change: impl FnOnce(&mut Members)) -> Result<Published> {
        let old = self.channel_now(channel)?;
        let mut members = old.as_ref().map(|old| old.members.clone()).unwrap_or_default();
        // What was withdrawn, by somebody who was killed then, leaves with whoever comes first.
        let withdrawn = self.all_withdrawn()?;
        members.values_mut().for_each(|group| group.retain(|digest| !withdrawn.contains(digest)));
        change(&mut members);
        members.retain(|_, group| !group.is_empty());
        let entries = self.whole_entries(members.values().flatten())?;
        let base = old.as_ref().and_then(|old| self.stored(&old.snapshot).ok().flatten());
        // Where nothing is new, and all of it is as it was, nothing has to be made.
        if let (Some(old), Some(base)) = (&old, &base)
            && entries.len() == base.members.len()
            && entries.iter().all(|entry| base.members.contains(&entry.sha256))
            && self.is_current(old, base, key, now)
            && self.is_whole_and_current(base, &entries, key)?
            && self.check_names(&[], None)?.is_empty()
        {
            if old.members != members {
                // The same packages in other groups: nothing that a client could see.
                self.write_state(channel, &Channel { members, ..old.clone() })?;
                self.add_names("")?;
            }
            return Ok(self.published(base.id, Some(old), false));
        }
        let names = self.check_names(&entries, base.as_ref().map(|base| &base.members))?;
        // Before there is a snapshot of them.
        self.sync_packages(names.iter())?;
        self.sync_new_packages(&entries)?;
        let snapshot = match old.as_ref().filter(|old| old.members == members) {
            Some(old) => self.persist_again(&old.snapshot, &entries, now)?,
            None => self.persist(&entries, next_date(old.as_ref(), now), base.as_deref())?,
        };
        self.catalog.sync()?;
        if let Some(old) = &old
            && self.is_current(old, &snapshot, key, now)
        {
            if old.members != members {
                self.write_state(channel, &Channel { members, ..old.clone() })?;
                self.add_names("")?;
            }
            return Ok(self.published(snapshot.id, Some(old), false));
        }
        let add = || self.add_names(&lines(names.iter().map(|entry| (entry.file_name(), entry.sha256))));
        self.point(channel, old.as_ref(), &snapshot, members, now, key, add)?;
        Ok(self.published(snapshot.id, old.as_ref(), true))
    }

    /// Points a channel to a snapshot that is on disk, an earlier one of its own or another's; a channel that is
    /// not there is made.
    /// Its groups become what they were then; a snapshot that this channel never had comes as one
    /// group, `moved`. What of the snapshot is damaged is made anew, from the pool.
    ///
    /// # Errors
    /// There is no such snapshot, or not all of its packages; the channel is broken, or its date is more than a
    /// minute ahead of the clock; or it cannot be written. The channel stays as it was then.
    pub fn move_channel(&self, channel: &str, id: &SnapshotId, now: i64) -> Result<Published> {
        check_channel_name(channel)?;
        let key = self.key(now)?;
        let _ = self.scratch();
        let _held = self.hold()?;
        let old = self.channel_now(channel)?;
        let then = old.as_ref().map(|old| self.then(channel, old, id)).transpose()?.flatten();
        let members = match then {
            Some(members) => members,
            None => Members::from([("moved".to_string(), self.members_of(id)?)]),
        };
        let entries = self.whole_entries(members.values().flatten())?;
        let names = self.check_names(&entries, None)?;
        let snapshot = self.persist_again(id, &entries, now)?;
        self.catalog.sync()?;
        if snapshot.id != *id {
            let what = format!("the groups that channel {channel} had in snapshot {} make another snapshot", id.short());
            return Err(Error::new(Class::Repository, what).hint(repair_hint(channel)));
        }
        if let Some(old) = &old
            && self.is_current(old, &snapshot, &key, now)
        {
            return Ok(self.published(snapshot.id, Some(old), false));
        }
        let add = || self.add_names(&lines(names.iter().map(|entry| (entry.file_name(), entry.sha256))));
        self.point(channel, old.as_ref(), &snapshot, members, now, &key, add)?;
        Ok(self.published(snapshot.id, old.as_ref(), true))
    }

    fn published(&self, snapshot: SnapshotId, old: Option<&Channel>, changed: bool) -> Published {
        self.remember();
        Published { snapshot, previous: old.map(|old| old.snapshot), changed, mended: self.mended() }
    }

    /// Whether signing a channel now would tell clients nothing new: the same files, by the same key, good for long enough.
    pub(crate) fn is_current(&self, channel: &Channel, snapshot: &Snapshot, key: &Key, now: i64) -> bool {
        channel.snapshot == snapshot.id
            && channel.date == channel.signed.date
            && self.lasts(&channel.signed, now)
            && channel.signed.is_current(key, &self.settings, &snapshot.files)
    }

    /// Until when clients take a release of a channel that is signed with this date.
    fn valid_until(&self, dated: i64) -> Option<i64> {
        self.settings.valid_days.map(|days| dated.saturating_add(i64::from(days) * DAY))
    }

    /// Whether a channel's release is good for as long as the project says, and more than half of that is left.
    fn lasts(&self, signed: &Signed, now: i64) -> bool {
        let wanted = self.valid_until(signed.date);
        let half = self.settings.valid_days.map_or(0, |days| i64::from(days) * DAY / 2);
        wanted == signed.valid_until && wanted.is_none_or(|until| until.saturating_sub(now) > half)
    }

    /// The entries of packages, each once, in no order, every one of them whole.
    pub(crate) fn whole_entries<'a>(&self, members: impl Iterator<Item = &'a Sha256> + Clone) -> Result<Vec<Arc<Entry>>> {
        for digest in self.all_withdrawn()? {
            if members.clone().any(|member| *member == digest) {
                self.check_not_withdrawn(&digest)?;
            }
        }
        let entries = self.entries_again(members)?;
        self.verify_entries(&entries)?;
        Ok(entries)
    }

    /// The groups that a channel had when it pointed to a snapshot; nothing when it never did.
    fn then(&self, channel: &str, old: &Channel, id: &SnapshotId) -> Result<Option<Members>> {
        if old.snapshot == *id {
            return Ok(Some(old.members.clone()));
        }
        let Some(earlier) = old.history.iter().find(|earlier| earlier.snapshot == *id) else { return Ok(None) };
        let path = self.past_path(channel, earlier.date);
        let failed = || format!("{} cannot be used, so the groups of then are not known", path.display());
        let mendable = |error: Error| if error.is_machine() { error } else { error.hint(repair_hint(channel)) };
        let state = match disk::read(&path).or_fail(Class::Repository, failed).map_err(mendable)? {
            Some(bytes) => past(&bytes).or_fail(Class::Repository, failed).map_err(mendable)?,
            None => return Err(mendable(Error::new(Class::Repository, format!("{} is gone", path.display())))),
        };
        Ok(Some(state.1))
    }

    /// The packages of a snapshot: as its list says, or a channel's state that pointed to it.
    pub(crate) fn members_of(&self, id: &SnapshotId) -> Result<BTreeSet<Sha256>> {
        let mut unread = None;
        match self.list_of(id) {
            Ok(Some(list)) => return Ok(list.files().map(|(_, digest)| digest).collect()),
            Ok(None) => {}
            Err(error) if error.is_machine() => return Err(error),
            Err(error) => unread = Some(error),
        }
        for channel in self.channels()? {
            if let Some(state) = self.states(&channel)?.into_iter().find(|state| state.snapshot == *id) {
                return Ok(state.members.into_values().flatten().collect());
            }
        }
        match unread {
            Some(error) => {
                Err(Error::new(Class::Repository, format!("snapshot {} is damaged, and nothing else says what is in it", id.short()))
                    .because(error)
                    .hint("take another one: `twostage channel` lists them; or restore the repository from an export"))
            }
            None => Err(Error::new(Class::Repository, format!("the repository has no snapshot {id}"))
                .hint("`twostage channel` lists the snapshots that a channel can be moved to")),
        }
    }

    /// The states of a channel that can be read, newest first.
    pub(crate) fn states(&self, channel: &str) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for (path, date) in self.past_files(channel)? {
            let read = disk::read(&path);
            if let Err(error) = &read
                && error.is_machine()
            {
                return read.map(|_| Vec::new());
            }
            if let Ok(Some(bytes)) = read
                && let Ok((snapshot, members, serial)) = past(&bytes)
            {
                states.push(State { serial, date, snapshot, members });
            }
        }
        states.sort_by_key(|state| std::cmp::Reverse((state.serial, state.date)));
        Ok(states)
    }

    /// The files of a channel's states, by date.
    pub(crate) fn past_files(&self, channel: &str) -> Result<Vec<(PathBuf, i64)>> {
        let folder = self.history_folder(channel);
        let failed = || format!("cannot read {}", folder.display());
        let mut files = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(&folder).or_fail(Class::System, failed)? {
                let path = entry.or_fail(Class::System, failed)?.path();
                let date = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
                files.extend(date.map(|date| (path, date)));
            }
        }
        files.sort();
        Ok(files)
    }

    /// The pointer swap: one rename. The old state is in the history before, the new one after it, so that the
    /// history never has what nobody was told of. `then` is done behind the swap.
    #[expect(clippy::too_many_arguments, reason = "each is another thing")]
    fn point(
        &self,
        channel: &str,
        old: Option<&Channel>,
        snapshot: &Snapshot,
        members: Members,
        now: i64,
        key: &Key,
        then: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let dated = old.map_or(now, |old| now.max(old.date.saturating_add(1)));
        let ahead = dated.saturating_sub(date::now());
        if ahead > MOST_AHEAD {
            return Err(Error::new(
                Class::Repository,
                format!("channel {channel} would be dated {}, which is {ahead} s ahead of this machine's clock", date::release(dated)),
            )
            .because("dates only grow, and apt refuses a release from the future".to_string())
            .hint(format!(
                "set the clock; if it is right now and was wrong at the last publish, `twostage channel {channel} --redate` dates the \
                 channel by the clock of now and keeps all that is in it"
            )));
        }
        if ahead > AHEAD {
            std::thread::sleep(Duration::from_secs(u64::try_from(ahead - AHEAD).unwrap_or(0)));
        }
        let new = self.next(channel, old, snapshot, members, dated, key)?;
        self.write_state_and(channel, &new, then)?;
        self.forget_past(channel, &new)
    }

    /// The state that follows `old`, with this date, written.
    pub(crate) fn write_next(
        &self,
        channel: &str,
        old: Option<&Channel>,
        snapshot: &Snapshot,
        members: Members,
        dated: i64,
        key: &Key,
    ) -> Result<()> {
        let new = self.next(channel, old, snapshot, members, dated, key)?;
        self.write_state(channel, &new)?;
        self.forget_past(channel, &new)
    }

    /// The state that follows `old`, which is in the history then.
    fn next(
        &self,
        channel: &str,
        old: Option<&Channel>,
        snapshot: &Snapshot,
        members: Members,
        mut dated: i64,
        key: &Key,
    ) -> Result<Channel> {
        let keep = self.settings.keep;
        let mut history = Vec::new();
        let ends = self.settings.valid_days.is_some() || old.is_some_and(|old| old.signed.valid_until.is_some());
        if let Some(old) = old.filter(|old| ends && old.snapshot == snapshot.id && old.members == members) {
            // A release that is only signed for longer takes the place of the one before: else every week would push a
            // state out that somebody may want to go back to.
            history.clone_from(&old.history);
            history.truncate(keep);
        } else if let Some(old) = old.filter(|_| keep > 0) {
            let (path, bytes) = (self.past_path(channel, old.date), seal::close(old)?);
            if fs::read(&path).ok().as_deref() != Some(&bytes[..]) {
                disk::write(self.scratch()?, &path, &bytes)?;
            }
            history.push(Earlier { snapshot: old.snapshot, date: old.date });
            history.extend(old.history.iter().copied().take(keep.saturating_sub(1)));
        }
        // After a clock was wrong it may be an earlier state's, whose file has that name.
        while history.iter().any(|earlier| earlier.date == dated) {
            dated = dated.saturating_add(1);
        }
        // With the date of its snapshot a channel says the same: one signature is for both.
        let until = self.valid_until(dated);
        let is_same = |signed: &&Signed| signed.date == dated && until.is_none() && signed.is_current(key, &self.settings, &snapshot.files);
        let signed = match Some(&snapshot.signed).filter(is_same) {
            Some(same) => same.clone(),
            None => Signed::new(key, &self.settings.origin, dated, until, &snapshot.files)?,
        };
        let serial = old.map_or(0, |old| old.serial.saturating_add(1));
        Ok(Channel { snapshot: snapshot.id, date: dated, members, history, serial, signed })
    }

    /// Removes the states that a channel does not remember any more.
    fn forget_past(&self, channel: &str, new: &Channel) -> Result<()> {
        let kept: BTreeSet<i64> = new.history.iter().map(|earlier| earlier.date).chain([new.date]).collect();
        for (path, _) in self.past_files(channel)?.into_iter().filter(|(_, date)| !kept.contains(date)) {
            // One that stays behind takes space, nothing else.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// A channel's file, then the copy of it that it can be made anew from.
    pub(crate) fn write_state(&self, channel: &str, state: &Channel) -> Result<()> {
        self.write_state_and(channel, state, || Ok(()))
    }

    /// [`Repository::write_state`], with something else that comes behind the channel's file.
    fn write_state_and(&self, channel: &str, state: &Channel, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let bytes = seal::close(state)?;
        disk::write(self.scratch()?, &self.channel_path(channel), &bytes)?;
        let written = Instant::now();
        let copy = || disk::write(self.scratch()?, &self.past_path(channel, state.date), &bytes);
        let (copied, done) = workers::both(true, copy, then);
        copied?;
        done?;
        std::thread::sleep(crate::SEEN.saturating_sub(written.elapsed()));
        Ok(())
    }

    pub(crate) fn channel_path(&self, name: &str) -> PathBuf {
        self.root.join("channels").join(format!("{name}.json"))
    }

    pub(crate) fn past_path(&self, channel: &str, dated: i64) -> PathBuf {
        self.history_folder(channel).join(format!("{dated}.json"))
    }

    fn history_folder(&self, channel: &str) -> PathBuf {
        self.root.join("history").join(channel)
    }
}

/// The date of the state that follows, for the snapshot that is made for it; that of now where a wrong clock has dated the
/// channel far ahead.
fn next_date(old: Option<&Channel>, now: i64) -> i64 {
    let dated = old.map_or(now, |old| now.max(old.date.saturating_add(1)));
    if dated > now.saturating_add(AHEAD) { now } else { dated }
}

/// What mends a channel.
pub(crate) fn repair_hint(channel: &str) -> String {
    format!("`twostage channel {channel} --repair` makes it anew from its history and the pool, or says what is lost")
}

/// A state in a channel's history: where it pointed, its members, its serial number.
fn past(bytes: &[u8]) -> Result<(SnapshotId, Members, u64)> {
    let state = seal::open::<Channel>(bytes).map(|state| (state.snapshot, state.members, state.serial));
    state.or_else(|error| serde_json::from_slice::<Past>(bytes).map(|past| (past.snapshot, past.members, 0)).map_err(|_| error))
}

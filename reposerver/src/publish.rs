//! A publish: what a channel is to have becomes a snapshot, and the channel points to it.

use crate::catalog::Entry;
use crate::channel::{Members, repair_hint};
use crate::health::Verify;
use crate::names::{bound, lines};
use crate::sign::Key;
use crate::snapshot::{MOST_AHEAD, Signed, Snapshot};
use crate::{Channel, Earlier, Repository, disk, seal};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use twostage_model::names::check_channel_name;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};

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

/// The state of a channel that another one will follow.
struct Following<'a> {
    channel: &'a str,
    /// Nothing where the channel is new.
    old: Option<Channel>,
    /// That of `old`, where there is one.
    suite: Option<&'a str>,
    /// How closely its packages are looked at.
    verify: Verify,
}

/// The state that a channel is to have, but for its date.
pub(crate) struct NextState<'a> {
    pub(crate) channel: &'a str,
    /// The state that it follows; nothing where the channel is new.
    pub(crate) old: Option<&'a Channel>,
    /// That of `old`, where there is one.
    pub(crate) suite: Option<&'a str>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) members: Members,
    /// Signs it.
    pub(crate) key: &'a Key,
}

impl<'a> NextState<'a> {
    /// The state that follows with the same members, signed anew.
    pub(crate) fn again(channel: &'a str, old: &'a Channel, snapshot: &'a Snapshot, key: &'a Key) -> NextState<'a> {
        NextState { channel, old: Some(old), suite: old.suite.as_deref(), snapshot, members: old.members.clone(), key }
    }
}

/// apt refuses a release that is more than 10 seconds in the future; dates that must grow by a
/// second with each publish may run this far ahead of the clock.
const AHEAD: i64 = 5;
/// Seconds of a day.
const DAY: i64 = 86_400;

impl Repository {
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
    /// The channel's name is not allowed; it is for another suite; it is broken; its date is further than that ahead of the clock; a member is
    /// not in the pool, or damaged; one name, version and
    /// architecture has two contents, here or in anything that a channel published earlier; or
    /// it cannot be written. The channel stays as it was then.
    pub fn publish(&self, channel: &str, now: i64, change: impl FnOnce(&mut Members)) -> Result<Published> {
        self.publish_verified(channel, self.settings.suite.as_deref(), Verify::EachFile, now, change)
    }

    /// [`Repository::publish`] for whoever brings some packages to a channel that has many: of those that are there, see
    /// [`Verify::ChangedFolders`].
    ///
    /// # Errors
    /// As [`Repository::publish`].
    pub fn publish_more(&self, channel: &str, now: i64, change: impl FnOnce(&mut Members)) -> Result<Published> {
        self.publish_verified(channel, self.settings.suite.as_deref(), Verify::ChangedFolders, now, change)
    }

    /// [`Repository::publish`] to a channel of this suite, whichever the project's is.
    ///
    /// # Errors
    /// As [`Repository::publish`].
    pub fn publish_for(&self, channel: &str, suite: Option<&str>, now: i64, change: impl FnOnce(&mut Members)) -> Result<Published> {
        self.publish_verified(channel, suite, Verify::EachFile, now, change)
    }

    fn publish_verified(
        &self,
        channel: &str,
        suite: Option<&str>,
        verify: Verify,
        now: i64,
        change: impl FnOnce(&mut Members),
    ) -> Result<Published> {
        check_channel_name(channel)?;
        let _span = tracing::debug_span!("publish", channel).entered();
        let _held = self.root.hold()?;
        let old = self.channels.channel_now(channel)?;
        check_suite(channel, old.as_ref(), suite)?;
        std::thread::scope(|scope| {
            // The key is read, and looked at, while the channel's packages are.
            let reading = std::thread::Builder::new().spawn_scoped(scope, || self.signing.key(now)).ok();
            let key = || reading.and_then(|thread| thread.join().ok()).unwrap_or_else(|| self.signing.key(now));
            self.publish_after(Following { channel, old, suite, verify }, now, key, change)
        })
    }

    /// [`Repository::publish`] under the lock, whatever suite the channel is for.
    pub(crate) fn publish_held(&self, channel: &str, now: i64, key: &Arc<Key>, change: impl FnOnce(&mut Members)) -> Result<Published> {
        let old = self.channels.channel_now(channel)?;
        let suite = old.as_ref().and_then(|old| old.suite.clone());
        let following = Following { channel, old, suite: suite.as_deref(), verify: Verify::EachFile };
        self.publish_after(following, now, || Ok(Arc::clone(key)), change)
    }

    /// Makes the state that follows `old`.
    fn publish_after(
        &self,
        Following { channel, old, suite, verify }: Following<'_>,
        now: i64,
        key: impl FnOnce() -> Result<Arc<Key>>,
        change: impl FnOnce(&mut Members),
    ) -> Result<Published> {
        let mut members = old.as_ref().map(|old| old.members.clone()).unwrap_or_default();
        // What was withdrawn, by somebody who was killed then, leaves with whoever comes first.
        let withdrawn = self.withdrawals.all_withdrawn()?;
        members.values_mut().for_each(|group| group.retain(|digest| !withdrawn.contains(digest)));
        change(&mut members);
        members.retain(|_, group| !group.is_empty());
        let entries = self.whole_entries(members.values().flatten(), verify)?;
        let base = old.as_ref().and_then(|old| self.snapshots.stored(&old.snapshot).ok().flatten());
        let key = &*key()?;
        // Where nothing is new, and all of it is as it was, nothing has to be made.
        if let (Some(old), Some(base)) = (&old, &base)
            && entries.len() == base.members.len()
            && entries.iter().all(|entry| base.members.contains(&entry.sha256))
            && self.is_current(old, base, key, now)
            && self.snapshots.is_whole_and_current(base, &entries, key, verify)?
            && self.check_names(&[], None, None)?.is_empty()
        {
            return self.regrouped(channel, old, members);
        }
        let names = self.check_names(&entries, base.as_ref().map(|base| &base.members), suite)?;
        // Before there is a snapshot of them.
        self.pool.sync_packages(names.iter())?;
        self.pool.sync_new_packages(&entries)?;
        let snapshot = match old.as_ref().filter(|old| old.members == members) {
            Some(old) => self.snapshots.persist_again(&old.snapshot, &entries, now)?,
            None => self.snapshots.persist(&entries, next_date(old.as_ref(), now), base.as_deref())?,
        };
        self.pool.catalog.sync()?;
        if let Some(old) = &old
            && self.is_current(old, &snapshot, key, now)
        {
            return self.regrouped(channel, old, members);
        }
        let add = || self.names.add_names(&lines(names.iter().map(|entry| (bound(suite, &entry.file_name()), entry.sha256))));
        self.point(NextState { channel, old: old.as_ref(), suite, snapshot: &snapshot, members, key }, now, add)?;
        Ok(self.published(snapshot.id, old.as_ref(), true))
    }

    /// The same packages in other groups, or in the same: nothing that a client could see.
    fn regrouped(&self, channel: &str, old: &Channel, members: Members) -> Result<Published> {
        if old.members != members {
            self.channels.write_state(channel, &Channel { members, ..old.clone() })?;
            self.names.add_names("")?;
        }
        Ok(self.published(old.snapshot, Some(old), false))
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
        let key = self.signing.key(now)?;
        let _held = self.root.hold()?;
        let old = self.channels.channel_now(channel)?;
        let suite = self.settings.suite.as_deref();
        check_suite(channel, old.as_ref(), suite)?;
        let then = old.as_ref().map(|old| self.channels.then(channel, old, id)).transpose()?.flatten();
        let members = match then {
            Some(members) => members,
            None => Members::from([("moved".to_string(), self.members_of(id)?)]),
        };
        let entries = self.whole_entries(members.values().flatten(), Verify::EachFile)?;
        let names = self.check_names(&entries, None, suite)?;
        let snapshot = self.snapshots.persist_again(id, &entries, now)?;
        self.pool.catalog.sync()?;
        if snapshot.id != *id {
            let what = format!("the groups that channel {channel} had in snapshot {} make another snapshot", id.short());
            return Err(Error::new(Class::Repository, what).hint(repair_hint(channel)));
        }
        if let Some(old) = &old
            && self.is_current(old, &snapshot, &key, now)
        {
            return Ok(self.published(snapshot.id, Some(old), false));
        }
        let add = || self.names.add_names(&lines(names.iter().map(|entry| (bound(suite, &entry.file_name()), entry.sha256))));
        self.point(NextState { channel, old: old.as_ref(), suite, snapshot: &snapshot, members, key: &key }, now, add)?;
        Ok(self.published(snapshot.id, old.as_ref(), true))
    }

    pub(crate) fn published(&self, snapshot: SnapshotId, old: Option<&Channel>, changed: bool) -> Published {
        self.pool.remember();
        Published { snapshot, previous: old.map(|old| old.snapshot), changed, mended: self.root.mended() }
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
    pub(crate) fn whole_entries<'a>(&self, members: impl Iterator<Item = &'a Sha256> + Clone, verify: Verify) -> Result<Vec<Arc<Entry>>> {
        for digest in self.withdrawals.all_withdrawn()? {
            if members.clone().any(|member| *member == digest) {
                self.withdrawals.check_not_withdrawn(&digest)?;
            }
        }
        let entries = self.pool.entries_again(members)?;
        self.pool.verify_entries(&entries, verify)?;
        Ok(entries)
    }

    /// The packages of a snapshot: as its list says, or a channel's state that pointed to it.
    pub(crate) fn members_of(&self, id: &SnapshotId) -> Result<BTreeSet<Sha256>> {
        let mut unread = None;
        match self.snapshots.list_of(id) {
            Ok(Some(list)) => return Ok(list.files().map(|(_, digest)| digest).collect()),
            Ok(None) => {}
            Err(error) if error.is_unread() => return Err(error),
            Err(error) => unread = Some(error),
        }
        for channel in self.channels.names()? {
            if let Some(state) = self.channels.states(&channel)?.into_iter().find(|state| state.snapshot == *id) {
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

    /// The pointer swap: one rename. The old state is in the history before, the new one after it, so that the
    /// history never has what nobody was told of. `then` is done behind the swap.
    pub(crate) fn point(&self, state: NextState<'_>, now: i64, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let (channel, old) = (state.channel, state.old);
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
        let new = self.next(state, dated)?;
        self.channels.write_state_and(channel, &new, then)?;
        self.channels.forget_past(channel, &new)
    }

    /// [`Repository::next`], written.
    pub(crate) fn write_next(&self, state: NextState<'_>, dated: i64) -> Result<()> {
        let channel = state.channel;
        let new = self.next(state, dated)?;
        self.channels.write_state(channel, &new)?;
        self.channels.forget_past(channel, &new)
    }

    /// The state that follows, with this date. The one before is in the history then.
    fn next(&self, state: NextState<'_>, mut dated: i64) -> Result<Channel> {
        let NextState { channel, old, suite, snapshot, members, key } = state;
        let keep = self.settings.keep;
        let mut history = Vec::new();
        let ends = self.settings.valid_days.is_some() || old.is_some_and(|old| old.signed.valid_until.is_some());
        if let Some(old) = old.filter(|old| ends && old.snapshot == snapshot.id && old.members == members) {
            // A release that is only signed for longer takes the place of the one before: else every week would push a
            // state out that somebody may want to go back to.
            history.clone_from(&old.history);
            history.truncate(keep);
        } else if let Some(old) = old.filter(|_| keep > 0) {
            let (path, bytes) = (self.channels.past_path(channel, old.date), seal::close(old)?);
            if fs::read(&path).ok().as_deref() != Some(&bytes[..]) {
                disk::write(self.root.scratch()?, &path, &bytes)?;
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
        Ok(Channel { snapshot: snapshot.id, date: dated, members, history, suite: suite.map(String::from), serial, signed })
    }
}

/// The date of the state that follows, for the snapshot that is made for it; that of now where a wrong clock has dated the
/// channel far ahead.
fn next_date(old: Option<&Channel>, now: i64) -> i64 {
    let dated = old.map_or(now, |old| now.max(old.date.saturating_add(1)));
    if dated > now.saturating_add(AHEAD) { now } else { dated }
}

/// For messages: what a channel is for.
pub fn shown_suite(suite: Option<&str>) -> String {
    suite.map_or("no suite".to_string(), |suite| format!("the suite {suite}"))
}

/// Refuses to change a channel that is for another suite than the one that is wanted.
fn check_suite(name: &str, channel: Option<&Channel>, wanted: Option<&str>) -> Result<()> {
    let Some(channel) = channel.filter(|channel| channel.suite.as_deref() != wanted) else { return Ok(()) };
    let (is, wanted) = (shown_suite(channel.suite.as_deref()), shown_suite(wanted));
    let what = format!("channel {name} is for {is}, and this project is for {wanted}");
    let hint = match &channel.suite {
        Some(suite) => format!("name another channel, or set `suite = \"{suite}\"` in [repository] of the project file"),
        None => "name another channel, or remove `suite` from [repository] of the project file".to_string(),
    };
    Err(Error::new(Class::Project, what).hint(hint))
}

//! Making whole what can be made whole: a channel from its history, a snapshot and a description from the
//! pool, the list of names from the snapshots. What cannot be is named.
//!
//! Here everything is hashed, whatever its stamp says.

use crate::channel::{Members, State, no_channel, repair_hint};
use crate::health::Verify;
use crate::publish::NextState;
use crate::sign::Key;
use crate::snapshot::{MOST_AHEAD, list};
use crate::{Channel, Earlier, Published, Repository, disk, seal, workers};
use std::collections::BTreeSet;
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::names::check_channel_name;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};

/// What a repair found.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Files that were looked at.
    pub files: usize,
    /// What was damaged, and is whole again: a sentence each.
    pub mended: Vec<String>,
    /// What is damaged and stays so, and what would mend it.
    pub lost: Vec<Error>,
}

impl Repaired {
    /// Keeps that something is lost.
    ///
    /// # Errors
    /// That of the machine: nobody knows then whether it is.
    pub(crate) fn lose(&mut self, error: Error) -> Result<()> {
        if error.is_machine() {
            return Err(error);
        }
        self.lost.push(error);
        Ok(())
    }
}

impl Repository {
    /// Looks at all that a channel consists of, now and in its history, and makes it whole where that is possible.
    /// `now` in seconds since 1970.
    ///
    /// # Errors
    /// There is no such channel, it cannot be looked at, or the machine says no. What is damaged is no error here but in
    /// [`Repaired::lost`].
    pub fn repair(&self, channel: &str, now: i64) -> Result<Repaired> {
        check_channel_name(channel)?;
        self.pool.forget();
        let mut repaired = Repaired::default();
        let key = self.signing.key(now);
        let _held = self.root.hold()?;
        let done = self.repair_held(channel, now, key, &mut repaired);
        repaired.mended.extend(self.root.mended());
        self.pool.remember();
        done.map(|()| repaired)
    }

    pub(crate) fn repair_held(&self, name: &str, now: i64, key: Result<Arc<Key>>, repaired: &mut Repaired) -> Result<()> {
        let state = match self.channels.channel_now(name) {
            Ok(Some(state)) => state,
            Ok(None) => return Err(no_channel(name)),
            Err(error) if error.is_unread() => return Err(error),
            Err(error) => match self.newest_state(name)? {
                Some(state) => {
                    self.channels.write_state(name, &state)?;
                    self.root.mend(format!("channel {name} was made anew from its history, as of {}", date::release(state.date)));
                    state
                }
                None => {
                    repaired.lost.push(self.without_history(name, error)?);
                    return Ok(());
                }
            },
        };
        let present = self.channels.past_path(name, state.date);
        let bytes = seal::close(&state)?;
        if disk::usable(disk::read(&present))?.flatten().as_ref() != Some(&bytes) {
            disk::write(self.root.scratch()?, &present, &bytes)?;
        }
        let key = match key {
            Ok(key) => key,
            Err(error) => return repaired.lose(error),
        };
        self.repair_history(name, &state, repaired)?;
        let mut ids: Vec<(SnapshotId, BTreeSet<Sha256>)> = vec![(state.snapshot, state.members.values().flatten().copied().collect())];
        for earlier in &state.history {
            match self.members_of(&earlier.snapshot) {
                Ok(members) => ids.push((earlier.snapshot, members)),
                Err(error) => repaired.lose(error)?,
            }
        }
        let mut seen = BTreeSet::new();
        for (at, (id, members)) in ids.into_iter().enumerate() {
            if !seen.insert(id) {
                continue;
            }
            match self.repair_snapshot(&id, &members, now, repaired) {
                Ok(()) if at == 0 => self.repair_pointer(name, &state, now, &key).or_else(|error| repaired.lose(error))?,
                Ok(()) => {}
                Err(error) => repaired.lose(error)?,
            }
        }
        self.check_names(&[], None, None).map_or_else(|error| repaired.lose(error), |_| Ok(()))
    }

    pub(crate) fn repair_snapshot(&self, id: &SnapshotId, members: &BTreeSet<Sha256>, now: i64, repaired: &mut Repaired) -> Result<()> {
        // Without all of its packages it can only stay as it is.
        if let Some(withdrawn) = self.withdrawals.all_withdrawn()?.iter().find(|digest| members.contains(*digest)) {
            let there = self.snapshots.stored(id)?;
            let whole =
                there.as_ref().map_or(Ok(false), |snapshot| self.snapshots.damaged_in(snapshot).map(|damaged| damaged.is_none()))?;
            let snapshot = there.filter(|_| whole);
            repaired.files += snapshot.as_ref().map_or(0, |snapshot| 2 + snapshot.files.apt.len());
            return match snapshot {
                Some(_) => Ok(()),
                None => self
                    .withdrawals
                    .check_not_withdrawn(withdrawn)
                    .or_fail(Class::Repository, || format!("snapshot {} is damaged, and cannot be made anew", id.short())),
            };
        }
        let mut packages = Vec::new();
        let before = repaired.lost.len();
        let digests: Vec<Sha256> = members.iter().copied().collect();
        for described in workers::for_each(&digests, |digest| Ok(self.pool.described_whole(digest)))? {
            match described {
                Ok(package) => {
                    repaired.files += 1 + package.files.len();
                    packages.push(package);
                }
                Err(error) if !error.is_unread() && repaired.lost.iter().any(|lost| lost.what() == error.what()) => {}
                Err(error) => repaired.lose(error)?,
            }
        }
        if packages.len() < members.len() {
            // Its packages are named; without them there is nothing to make it from.
            return if before < repaired.lost.len() { Ok(()) } else { self.snapshots.stored(id).map(drop) };
        }
        let entries = self.pool.entries(members.iter())?;
        if Sha256::of(list(&entries)?.as_bytes()) != id.0 {
            return Err(Error::new(Class::Repository, format!("the packages that are known of snapshot {} make another", id.short())));
        }
        repaired.files += 2 + self.snapshots.persist_again(id, &entries, now)?.files.apt.len();
        Ok(())
    }

    /// Signs the channel anew where what it is signed for is no more what the snapshot has.
    fn repair_pointer(&self, name: &str, state: &Channel, now: i64, key: &Key) -> Result<()> {
        let Some(snapshot) = self.snapshots.stored(&state.snapshot)? else { return Ok(()) };
        if !self.is_current(state, &snapshot, key, now) {
            let next = NextState::again(name, state, &snapshot, key);
            self.write_next(next, now.max(state.date.saturating_add(1)))?;
            self.root.mend(format!("channel {name} was signed anew"));
        }
        Ok(())
    }

    /// The states whose groups cannot be read get one group of what their snapshot has.
    fn repair_history(&self, name: &str, state: &Channel, repaired: &mut Repaired) -> Result<()> {
        let known: BTreeSet<i64> = self.channels.states(name)?.into_iter().map(|state| state.date).collect();
        repaired.files += 1 + state.history.len();
        for (at, earlier) in state.history.iter().enumerate().filter(|(_, earlier)| !known.contains(&earlier.date)) {
            let path = self.channels.past_path(name, earlier.date);
            match self.members_of(&earlier.snapshot) {
                Ok(members) => {
                    let groups = Members::from([("moved".to_string(), members)]);
                    let serial = state.serial.saturating_sub(at as u64 + 1);
                    let past = Channel {
                        snapshot: earlier.snapshot,
                        date: earlier.date,
                        members: groups,
                        history: vec![],
                        serial,
                        ..state.clone()
                    };
                    disk::write(self.root.scratch()?, &path, &seal::close(&past)?)?;
                    let when = date::release(earlier.date);
                    self.root.mend(format!("channel {name}: the state of {when} has its packages again; their groups are lost"));
                }
                Err(error) if error.is_unread() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The newest state of a channel that its history has.
    fn newest_state(&self, name: &str) -> Result<Option<Channel>> {
        let states = self.channels.states(name)?;
        let Some(State { serial, date, snapshot, members, suite }) = states.first().cloned() else { return Ok(None) };
        let read = disk::read(&self.channels.past_path(name, date))?.map(|bytes| seal::open::<Channel>(&bytes));
        if let Some(Ok(state)) = read {
            return Ok(Some(state));
        }
        // One of before, which has no signatures: those that it gets say the same as the snapshot's, until it is signed anew.
        let history = states.iter().skip(1).map(|state| Earlier { snapshot: state.snapshot, date: state.date });
        let signed = self.snapshots.stored(&snapshot).ok().flatten().map(|snapshot| snapshot.signed.clone());
        let signed = signed.ok_or_else(|| Error::new(Class::Repository, format!("snapshot {} cannot be read either", snapshot.short())))?;
        Ok(Some(Channel { snapshot, date, members, history: history.take(self.settings.keep).collect(), suite, serial, signed }))
    }

    fn without_history(&self, name: &str, cause: Error) -> Result<Error> {
        let snapshots = self.snapshots.ids()?;
        let mut dated: Vec<_> =
            snapshots.iter().filter_map(|id| Some((self.snapshots.stored(id).ok()??.signed.date, id.short()))).collect();
        dated.sort();
        let newest =
            dated.iter().rev().take(3).map(|(when, id)| format!("@{id} of {}", date::release(*when))).collect::<Vec<_>>().join(", ");
        let hint = format!(
            "remove {}, then `twostage channel {name} --to SNAPSHOT` makes it anew{}",
            self.channels.channel_path(name).display(),
            if newest.is_empty() { String::new() } else { format!("; the newest snapshots are {newest}") }
        );
        let what = format!("channel {name} cannot be made anew: its history has no state that can be read");
        Ok(Error::new(Class::Repository, what).because(cause).hint(hint))
    }

    /// Dates a channel by the clock, where a clock that was wrong has dated it ahead of that. Nothing else of it changes;
    /// clients that took the release from the future have to forget it.
    ///
    /// # Errors
    /// There is no such channel, it is broken, or cannot be written.
    pub fn redate(&self, channel: &str, now: i64) -> Result<Published> {
        check_channel_name(channel)?;
        let key = self.signing.key(now)?;
        let _held = self.root.hold()?;
        let old = self.channels.there_now(channel)?;
        let entries = self.whole_entries(old.members.values().flatten(), Verify::EachFile)?;
        let snapshot = self.snapshots.persist_again(&old.snapshot, &entries, now)?;
        let changed = old.date > now.saturating_add(MOST_AHEAD);
        if changed {
            let next = NextState::again(channel, &old, &snapshot, &key);
            self.write_next(next, now)?;
        }
        self.pool.remember();
        Ok(Published { snapshot: snapshot.id, previous: Some(old.snapshot), changed, mended: self.root.mended() })
    }

    /// Signs a channel anew where its release is good for less than half of the days that the settings say, or with another
    /// key or name than it says. What it points to stays: its indexes are read and their digests checked, and no
    /// package is, so that one that is lost ends no channel for all of its clients.
    ///
    /// Where more than the signature has to change, because the key signs rpms anew, yum's files are to be packed
    /// otherwise, or a package was withdrawn, it is published, with all that is looked at then.
    ///
    /// # Errors
    /// There is no such channel, it or its snapshot is damaged, its date is more than a minute ahead of the clock; or it cannot be
    /// written. The channel stays as it was then.
    pub fn renew(&self, channel: &str, now: i64) -> Result<Published> {
        check_channel_name(channel)?;
        let key = self.signing.key(now)?;
        let _held = self.root.hold()?;
        let old = self.channels.there_now(channel)?;
        let damaged = |cause: Error| {
            let what = format!("channel {channel} is not signed anew: its snapshot {} is damaged", old.snapshot.short());
            if cause.is_machine() { cause } else { Error::new(Class::Repository, what).because(cause).hint(repair_hint(channel)) }
        };
        let gone = || Error::new(Class::Repository, format!("snapshot {} is gone", old.snapshot.short()));
        let snapshot = self.snapshots.stored(&old.snapshot).and_then(|there| there.ok_or_else(gone)).map_err(damaged)?;
        let is_withdrawn = self.withdrawals.all_withdrawn()?.iter().any(|digest| snapshot.members.contains(digest));
        if is_withdrawn || !snapshot.files.is_current(&key, &self.settings) {
            return self.publish_held(channel, now, &key, |_| {});
        }
        if let Some(path) = self.snapshots.damaged_in(&snapshot)? {
            return Err(damaged(Error::new(Class::Repository, format!("{} is not what its list says", path.display()))));
        }
        if self.is_current(&old, &snapshot, &key, now) {
            return Ok(self.published(snapshot.id, Some(&old), false));
        }
        self.check_names(&[], None, None)?;
        let next = NextState::again(channel, &old, &snapshot, &key);
        self.point(next, now, || self.names.add_names(""))?;
        Ok(self.published(snapshot.id, Some(&old), true))
    }

    /// Signs every channel with the key that is there, or a new one, whoever signed before. Gives the key's fingerprint
    /// and the channels. May be run again where it broke off.
    ///
    /// # Errors
    /// The key cannot be read or made, a channel is broken or has damaged packages, or something cannot be written. All other
    /// channels are signed.
    pub fn rekey(&self, now: i64) -> Result<(String, Vec<String>)> {
        let key = self.signing.read_or_make_key(now, false)?;
        *crate::lock(&self.signing.key) = Some(Arc::clone(&key));
        let _held = self.root.hold()?;
        let names = self.channels.names()?;
        // One channel that is broken keeps no other from its signature.
        let mut broken = None;
        for name in &names {
            if let Err(error) =
                self.publish_held(name, now, &key, |_| {}).or_fail(Class::Repository, || format!("channel {name} is not signed"))
            {
                broken.get_or_insert(error);
            }
        }
        self.signing.keep_public(&key)?;
        broken.map_or(Ok((key.fingerprint().to_string(), names)), Err)
    }
}

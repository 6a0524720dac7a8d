//! What a channel has, changed by packages: taken out, and brought over from another channel.
//!
//! Each is a publish: a new snapshot of what the channel has then. The pool and the snapshots of before keep all that they
//! have.

use crate::changes::Change;
use crate::{Item, Kind, Members, Pattern, Published, Repository};
use std::collections::{BTreeSet, HashSet};
use twostage_model::{Class, DigestMap, DigestSet, Error, Result, Sha256, SnapshotId};

/// What is promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All groups: the other channel is this one then, and has the same snapshot.
    All,
    /// One group: what the other channel has in it goes.
    Group(String),
    /// The packages that these mean, in the groups that they are in. One without a version takes all versions, and the other
    /// channel's go; one with a version is added to those that the other channel has.
    Packages(Vec<Pattern>),
}

/// What a promotion changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The groups of the channel afterwards.
    pub members: Members,
    /// The packages that change, where they are.
    pub changes: Vec<Change>,
}

impl Repository {
    /// Takes packages out of all groups of a channel, damaged ones too, and publishes what is left. `now` in seconds since
    /// 1970.
    ///
    /// # Errors
    /// There is no such channel, or as [`Repository::publish`]: what is left has to be whole, and where it is not, the hint
    /// says what else would have to be taken out.
    pub fn remove(&self, channel: &str, packages: &BTreeSet<Sha256>, now: i64) -> Result<Published> {
        self.channel_there(channel)?;
        let published = self.publish(channel, now, |members| {
            members.values_mut().for_each(|group| group.retain(|digest| !packages.contains(digest)));
        });
        published.map_err(|error| if error.is_unread() { error } else { self.with_others_damaged(channel, packages, error) })
    }

    /// Where other packages of the channel are damaged, too, the hint names all.
    fn with_others_damaged(&self, channel: &str, taken: &BTreeSet<Sha256>, error: Error) -> Error {
        let Ok(Some(state)) = self.channels.get(channel) else { return error };
        let all: DigestSet = state.members.values().flatten().copied().collect();
        let damaged = |item: &Item| {
            let whole = self.pool.package_or_described(&item.sha256).and_then(|package| self.pool.verify(&package));
            taken.contains(&item.sha256) || whole.is_err_and(|error| !error.is_unread())
        };
        let words: Vec<String> = self.items_of(&all).unwrap_or_default().into_iter().filter(damaged).map(|item| word(&item)).collect();
        if words.len() <= taken.len() {
            return error;
        }
        error
            .hint(format!("bring the good files again, or take all out at once: `twostage remove --channel {channel} {}`", words.join(" ")))
    }

    /// What a promotion to the channel `to` of a state with these groups would make of it now. (A channel that is not there
    /// has nothing.) `place` says in messages where they are from, such as `channel testing`.
    ///
    /// # Errors
    /// A pattern or a group means nothing in `from`; `to` cannot be read; or the machine says no.
    pub fn promotion(&self, from: &Members, to: &str, what: &Selection, place: &str) -> Result<Promotion> {
        let there = self.channels.get(to)?.map(|channel| channel.members.clone()).unwrap_or_default();
        let members = self.promoted(from, &there, what, place)?;
        let changes = self.changes(&union(&there), &union(&members), false)?;
        Ok(Promotion { members, changes })
    }

    /// Promotes to a channel, which is made where there is none: the same bits, in groups of the same names. `now` in seconds
    /// since 1970.
    ///
    /// # Errors
    /// As [`Repository::promotion`] and [`Repository::publish`]; nothing is changed then.
    pub fn promote(&self, from: &Members, to: &str, what: &Selection, place: &str, now: i64) -> Result<Published> {
        // What is asked for has to make sense before a channel is made for it.
        self.promotion(from, to, what, place)?;
        let mut failed = None;
        let published = self.publish(to, now, |there| match self.promoted(from, there, what, place) {
            Ok(members) => *there = members,
            Err(error) => failed = Some(error),
        });
        failed.map_or(published, Err)
    }

    fn promoted(&self, from: &Members, to: &Members, what: &Selection, place: &str) -> Result<Members> {
        let patterns = match what {
            Selection::All => return Ok(from.clone()),
            Selection::Group(group) => {
                let members = from.get(group).ok_or_else(|| {
                    let groups: Vec<&str> = from.keys().map(String::as_str).collect();
                    let there = if groups.is_empty() { "it has none".into() } else { format!("it has {}", groups.join(", ")) };
                    Error::new(Class::Repository, format!("{place} has no group {group}")).hint(there)
                })?;
                let mut to = to.clone();
                to.insert(group.clone(), members.clone());
                return Ok(to);
            }
            Selection::Packages(patterns) => patterns,
        };
        let digests: DigestSet = from.values().chain(to.values()).flatten().copied().collect();
        let items: DigestMap<Item> = self.items_of(&digests)?.into_iter().map(|item| (item.sha256, item)).collect();
        let of = |members: &Members| -> Vec<&Item> { union(members).iter().filter_map(|digest| items.get(digest)).collect() };
        let (here, there) = (of(from), of(to));
        let mut to = to.clone();
        for pattern in patterns {
            let meant: Vec<&&Item> = here.iter().filter(|item| pattern.matches(item)).collect();
            if meant.is_empty() {
                return Err(pattern.nothing(&here, place));
            }
            // Of which the channel keeps none but what comes: all versions, or the one that is named.
            let key = |item: &Item| {
                let version =
                    if pattern.has_version() && !matches!(item.kind, Some(Kind::Extra(_))) { item.version.clone() } else { String::new() };
                (item.name.clone(), item.arch.clone(), item.kind, version)
            };
            let meant: HashSet<_> = meant.into_iter().map(|item| key(item)).collect();
            let gone: DigestSet = there.iter().filter(|item| meant.contains(&key(item))).map(|item| item.sha256).collect();
            to.values_mut().for_each(|group| group.retain(|digest| !gone.contains(digest)));
        }
        for (group, members) in from {
            let new = members.iter().filter(|digest| items.get(digest).is_some_and(|item| patterns.iter().any(|p| p.matches(item))));
            let new: Vec<Sha256> = new.copied().collect();
            if !new.is_empty() {
                to.entry(group.clone()).or_default().extend(new);
            }
        }
        Ok(to)
    }

    /// The groups of a state: those that a channel had when it pointed to the snapshot; of a snapshot that it never had, one
    /// group, `moved`.
    ///
    /// # Errors
    /// There is no such channel or snapshot, or they cannot be read.
    pub fn groups_at(&self, channel: &str, id: &SnapshotId) -> Result<Members> {
        let state = self.channel_there(channel)?;
        if state.snapshot == *id {
            return Ok(state.members.clone());
        }
        match self.channels.states(channel)?.into_iter().find(|state| state.snapshot == *id) {
            Some(state) => Ok(state.members),
            None => Ok(Members::from([("moved".to_string(), self.packages_of(id)?)])),
        }
    }

    /// The snapshot that a channel had `count` changes of its packages ago.
    ///
    /// # Errors
    /// There is no such channel, it cannot be read, or does not remember so many.
    pub fn earlier(&self, channel: &str, count: usize) -> Result<SnapshotId> {
        let state = self.channel_there(channel)?;
        // (Signing anew makes a state, too, with the same packages.)
        let mut states = vec![state.snapshot];
        states.extend(state.history.iter().map(|earlier| earlier.snapshot));
        states.dedup();
        states.get(count).copied().ok_or_else(|| {
            let there = match states.len() - 1 {
                0 => "it has only the state of now".to_string(),
                count => format!("it remembers {}", twostage_model::shown::count(count, "earlier state")),
            };
            let more =
                "`keep` in [repository] says how many; snapshots of before that are still there go by name: `twostage rollback @SNAPSHOT`";
            Error::new(
                Class::Repository,
                format!("channel {channel} cannot be taken back {}", twostage_model::shown::count(count, "state")),
            )
            .because(there)
            .hint(more)
        })
    }
}

/// All packages of groups.
fn union(members: &Members) -> BTreeSet<Sha256> {
    members.values().flatten().copied().collect()
}

/// What means just this package, in a command.
fn word(item: &Item) -> String {
    if item.version.is_empty() { item.sha256.to_string() } else { format!("{}:{}={}", item.name, item.arch, item.version) }
}

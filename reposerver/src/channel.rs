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

use crate::folder::RepositoryFolder;
use crate::snapshot::Signed;
use crate::{disk, lock, seal, workers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
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
    /// What it is for, such as `bookworm` or `el9`; it never changes. A name, version and architecture has one content within a
    /// suite. The channels without one are a suite, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
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

/// What the history says of a state of a channel.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Grows by one with each state.
    pub(crate) serial: u64,
    pub(crate) date: i64,
    pub(crate) snapshot: SnapshotId,
    pub(crate) members: Members,
    pub(crate) suite: Option<String>,
}

/// What `history/<channel>/<date>.json` held before it was the whole state.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Past {
    snapshot: SnapshotId,
    members: Members,
}

impl Channel {
    /// Until when clients take it, in seconds since 1970; nothing means for ever.
    pub fn valid_until(&self) -> Option<i64> {
        self.signed.valid_until
    }
}

/// The channels, as they are on disk, with their earlier states.
pub struct Channels {
    root: Arc<RepositoryFolder>,
    states: disk::Cache<String, Channel>,
    /// The state that was parsed last of each channel, and the digest of its file: whoever publishes reads the file twice.
    parsed: Mutex<BTreeMap<String, (Sha256, Arc<Channel>)>>,
}

impl Channels {
    pub(crate) fn new(root: &Arc<RepositoryFolder>) -> Channels {
        Channels { root: Arc::clone(root), states: disk::Cache::default(), parsed: Mutex::default() }
    }

    /// The state of a channel; nothing when there is none of that name.
    ///
    /// # Errors
    /// It is there and cannot be read, or was there once.
    pub fn get(&self, name: &str) -> Result<Option<Arc<Channel>>> {
        if check_channel_name(name).is_err() {
            return Ok(None);
        }
        let mut digest = None;
        let read = self.states.get(&name.to_string(), &self.channel_path(name), |bytes| {
            digest = Some(Sha256::of(bytes));
            seal::open(bytes)
        });
        let channel = read.map_err(|cause| self.broken(name, cause))?;
        if let Some((digest, channel)) = digest.zip(channel.as_ref()) {
            lock(&self.parsed).insert(name.to_string(), (digest, Arc::clone(channel)));
        }
        if channel.is_none() { self.check_never_there(name).map(|()| None) } else { Ok(channel) }
    }

    /// The same past the cache, for whoever holds the lock and will build on it.
    pub(crate) fn channel_now(&self, name: &str) -> Result<Option<Channel>> {
        let parsed = lock(&self.parsed).get(name).cloned();
        let parse = |bytes: Vec<u8>| match &parsed {
            Some((digest, channel)) if *digest == Sha256::of(&bytes) => Ok(Channel::clone(channel)),
            _ => seal::open(&bytes),
        };
        let read = disk::read(&self.channel_path(name)).and_then(|bytes| bytes.map(parse).transpose());
        let channel = read.map_err(|cause| self.broken(name, cause))?;
        if channel.is_none() { self.check_never_there(name).map(|()| None) } else { Ok(channel) }
    }

    /// [`Channels::channel_now`] of one that has to be there.
    pub(crate) fn there_now(&self, name: &str) -> Result<Channel> {
        self.channel_now(name)?.ok_or_else(|| no_channel(name))
    }

    /// A channel's file comes before its history, so one with a history and no file has lost that.
    fn check_never_there(&self, name: &str) -> Result<()> {
        if !disk::is_folder(&self.history_folder(name))? {
            return Ok(());
        }
        let path = self.channel_path(name);
        let lost = self.broken(name, Error::new(Class::Repository, format!("{} is gone", path.display())));
        let history = self.history_folder(name);
        Err(lost.hint(format!("{}; to give the channel up, remove {}, too", repair_hint(name), history.display())))
    }

    fn broken(&self, name: &str, cause: Error) -> Error {
        let machine = cause.is_unread();
        let error = Error::new(Class::Repository, format!("channel {name}: {} cannot be used", self.channel_path(name).display()));
        let error = error.because(cause);
        if machine { error } else { error.hint(repair_hint(name)) }
    }

    /// The names of the channels, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        // One whose file is gone has a history.
        for (folder, ending) in [("channels", ".json"), ("history", "")] {
            let folder = self.root.join(folder);
            let failed = || format!("cannot read {}", folder.display());
            if !disk::is_folder(&folder)? {
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

    /// The groups that a channel had when it pointed to a snapshot; nothing when it never did.
    pub(crate) fn then(&self, channel: &str, old: &Channel, id: &SnapshotId) -> Result<Option<Members>> {
        if old.snapshot == *id {
            return Ok(Some(old.members.clone()));
        }
        let Some(earlier) = old.history.iter().find(|earlier| earlier.snapshot == *id) else { return Ok(None) };
        let path = self.past_path(channel, earlier.date);
        let failed = || format!("{} cannot be used, so the groups of then are not known", path.display());
        let mendable = |error: Error| if error.is_unread() { error } else { error.hint(repair_hint(channel)) };
        let state = match disk::read(&path).or_fail(Class::Repository, failed).map_err(mendable)? {
            Some(bytes) => past(&bytes).or_fail(Class::Repository, failed).map_err(mendable)?,
            None => return Err(mendable(Error::new(Class::Repository, format!("{} is gone", path.display())))),
        };
        Ok(Some(state.members))
    }

    /// The states of a channel that can be read, newest first.
    pub(crate) fn states(&self, channel: &str) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for (path, date) in self.past_files(channel)? {
            let read = disk::read(&path);
            if let Err(error) = &read
                && error.is_unread()
            {
                return read.map(|_| Vec::new());
            }
            if let Ok(Some(bytes)) = read
                && let Ok(state) = past(&bytes)
            {
                states.push(State { date, ..state });
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
        if disk::is_folder(&folder)? {
            for entry in fs::read_dir(&folder).or_fail(Class::System, failed)? {
                let path = entry.or_fail(Class::System, failed)?.path();
                let date = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
                files.extend(date.map(|date| (path, date)));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Removes the states that a channel does not remember any more.
    pub(crate) fn forget_past(&self, channel: &str, new: &Channel) -> Result<()> {
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

    /// [`Channels::write_state`], with something else that comes behind the channel's file.
    pub(crate) fn write_state_and(&self, channel: &str, state: &Channel, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let bytes = seal::close(state)?;
        disk::write(self.root.scratch()?, &self.channel_path(channel), &bytes)?;
        let written = Instant::now();
        let copy = || disk::write(self.root.scratch()?, &self.past_path(channel, state.date), &bytes);
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

pub(crate) fn no_channel(name: &str) -> Error {
    Error::new(Class::Repository, format!("there is no channel {name}")).hint("`twostage channel` lists all")
}

/// What mends a channel.
pub(crate) fn repair_hint(channel: &str) -> String {
    format!("`twostage channel {channel} --repair` makes it anew from its history and the pool, or says what is lost")
}

/// A state in a channel's history; its date is in the name of its file, too.
fn past(bytes: &[u8]) -> Result<State> {
    let state = seal::open::<Channel>(bytes).map(|state| State {
        serial: state.serial,
        date: state.date,
        snapshot: state.snapshot,
        members: state.members,
        suite: state.suite,
    });
    state.or_else(|error| match serde_json::from_slice::<Past>(bytes) {
        Ok(past) => Ok(State { serial: 0, date: 0, snapshot: past.snapshot, members: past.members, suite: None }),
        Err(_) => Err(error),
    })
}

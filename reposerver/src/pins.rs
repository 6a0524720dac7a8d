//! Pins: snapshots that stay, whatever channels do.
//!
//! ```text
//! pins/<id>.json         {"snapshot":"ab12…","reasons":[{"text":"demo 1.2 is in production","date":1767413106}],
//!                         "members":["5f2c…"],"seal":"…"}
//! pins/again/<id>.json   the same: nothing else says that a snapshot was pinned
//! ```
//!
//! One record for each snapshot, with all reasons. It has the packages, too:
//! with them the snapshot is made anew from the pool when it is damaged, and nothing of it is ever freed.

use crate::folder::RepositoryFolder;
use crate::health::Verify;
use crate::{Repository, twice};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId};

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For people.
    pub text: String,
    /// When it was said, in seconds since 1970.
    pub date: i64,
}

/// A snapshot that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Which one.
    pub snapshot: SnapshotId,
    /// Why: one at least.
    pub reasons: Vec<Reason>,
    /// Its packages.
    pub(crate) members: BTreeSet<Sha256>,
}

impl Pin {
    /// All reasons, as one text.
    pub fn shown(&self) -> String {
        self.reasons.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Bytes of a reason.
pub(crate) const MOST_REASON: usize = 1000;
/// Reasons of one pin: of more the earliest are forgotten.
const MOST_REASONS: usize = 100;

/// A reason is one line for people.
///
/// # Errors
/// It is empty, too long, or has control characters.
pub(crate) fn check_reason(text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > MOST_REASON || text.chars().any(char::is_control) {
        return Err(Error::new(Class::Usage, format!("{:?} is no reason", text.chars().take(60).collect::<String>()))
            .hint(format!("write one line of at most {MOST_REASON} bytes that will tell somebody else why")));
    }
    Ok(())
}

impl Repository {
    /// Pins a snapshot. Pinned once more, it has one more reason. `now` in seconds since 1970. Gives whether that is new.
    ///
    /// # Errors
    /// There is no such snapshot, not all of it is there, `reason` is none, or it cannot be written.
    pub fn pin(&self, id: &SnapshotId, reason: &str, now: i64) -> Result<bool> {
        check_reason(reason)?;
        let _held = self.root.hold()?;
        let members = self.members_of(id)?;
        let mut pin = match self.pins.pin_of(id)? {
            Some(pin) => pin,
            None => {
                // What is pinned is to stay whole, so it has to be that.
                let entries = self.pool.entries_again(members.iter())?;
                self.pool.verify_entries(&entries, Verify::EachFile)?;
                self.snapshots.persist_again(id, &entries, now)?;
                self.pool.catalog.sync()?;
                self.pool.sync_new_packages(&entries)?;
                Pin { snapshot: *id, reasons: Vec::new(), members }
            }
        };
        if pin.reasons.iter().any(|there| there.text == reason) {
            return Ok(false);
        }
        pin.reasons.push(Reason { text: reason.to_string(), date: now });
        let many = pin.reasons.len().saturating_sub(MOST_REASONS);
        pin.reasons.drain(..many);
        self.pins.write_pin(&pin)?;
        self.pool.remember();
        Ok(true)
    }

    /// Takes a pin away. Gives what it said; nothing when there was none. Nothing is freed by this, but by the next
    /// [`Repository::free`].
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn unpin(&self, id: &SnapshotId) -> Result<Option<Pin>> {
        let _held = self.root.hold()?;
        let pin = match self.pins.pin_of(id) {
            Ok(None) => return Ok(None),
            Ok(Some(pin)) => pin,
            Err(error) if error.is_unread() => return Err(error),
            // A damaged one is taken away, too.
            Err(_) => Pin { snapshot: *id, reasons: Vec::new(), members: BTreeSet::new() },
        };
        twice::remove(&self.pins.pins_folder(), &id.to_string())?;
        Ok(Some(pin))
    }
}

/// The pins, each of a snapshot.
pub struct Pins {
    root: Arc<RepositoryFolder>,
}

impl Pins {
    pub(crate) fn new(root: &Arc<RepositoryFolder>) -> Pins {
        Pins { root: Arc::clone(root) }
    }

    /// Every pin, by snapshot.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn all(&self) -> Result<BTreeMap<SnapshotId, Pin>> {
        let mut pins = BTreeMap::new();
        for id in self.pinned()? {
            pins.extend(self.pin_of(&id)?.map(|pin| (id, pin)));
        }
        Ok(pins)
    }

    /// The snapshots that have a pin, whole or not.
    pub(crate) fn pinned(&self) -> Result<BTreeSet<SnapshotId>> {
        let names = twice::names(&self.pins_folder())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).map(SnapshotId).collect())
    }

    /// The pin of a snapshot.
    pub(crate) fn pin_of(&self, id: &SnapshotId) -> Result<Option<Pin>> {
        let mendable = |error: Error| {
            if error.is_unread() { error } else { error.hint("`twostage fsck --repair` makes the pin anew from its snapshot") }
        };
        let pin: Option<Pin> = twice::read(&self.pins_folder(), &id.to_string()).map_err(mendable)?;
        match pin {
            Some(other) if other.snapshot != *id => {
                let what = format!("the pin of snapshot {} is of snapshot {}", id.short(), other.snapshot.short());
                Err(mendable(Error::new(Class::Repository, what)))
            }
            pin => Ok(pin),
        }
    }

    pub(crate) fn write_pin(&self, pin: &Pin) -> Result<()> {
        twice::write(self.root.scratch()?, &self.pins_folder(), &pin.snapshot.to_string(), pin)
    }

    pub(crate) fn pins_folder(&self) -> PathBuf {
        self.root.join("pins")
    }
}

//! What stays although nothing needs it now: `keep` of the project file.
//!
//! | word | what it says |
//! |---|---|
//! | `snapshots` | each channel remembers so many earlier states ([`crate::Settings::keep`]) |
//! | `days` | a snapshot stays for so many days after it was made, and what is in it |
//! | `versions` | `publish` leaves the newest so many versions of each package in its group |

use crate::Repository;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twostage_model::Sha256;
use twostage_package::{rpm, version};

/// What stays beyond what is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Versions of each package that [`Repository::leave_versions`] leaves; nothing means all.
    pub versions: Option<usize>,
    /// Days that a snapshot stays after it was made.
    pub days: u32,
}

impl Repository {
    /// Takes the oldest versions of each package out of a group, so that as many stay as [`Retention::versions`] says.
    /// Those of `stay` stay, whatever their version. Gives what left.
    pub fn leave_versions(&self, group: &mut BTreeSet<Sha256>, stay: &BTreeSet<Sha256>) -> Vec<Sha256> {
        let Some(most) = self.settings.retention.versions else { return Vec::new() };
        let mut by_name = BTreeMap::<_, Vec<_>>::new();
        // What the catalog does not know is looked at by whoever publishes.
        for entry in self.pool.catalog.get_all(group.iter()).unwrap_or_default().into_iter().filter_map(|(_, entry)| entry) {
            if !matches!(entry.kind, crate::Kind::Extra(_)) {
                let kind = std::mem::discriminant(&entry.kind);
                let name = (entry.name().to_string(), entry.arch().to_string(), format!("{kind:?}"));
                by_name.entry(name).or_default().push(Arc::clone(&entry));
            }
        }
        let mut left = Vec::new();
        for (_, mut entries) in by_name {
            entries.sort_by(|a, b| match a.kind.is_rpm() {
                true => rpm::compare_evr(b.version(), a.version()),
                false => version::compare(b.version(), a.version()),
            });
            left.extend(entries.iter().skip(most).map(|entry| entry.sha256).filter(|digest| !stay.contains(digest)));
        }
        left.iter().for_each(|digest| {
            group.remove(digest);
        });
        left
    }
}

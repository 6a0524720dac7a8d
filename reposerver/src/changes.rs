//! What differs between two sets of packages, as people ask: which came, which went, which are another version.

use crate::{Item, Repository, workers};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use twostage_model::{DigestMap, DigestSet, Result, Sha256, SnapshotId};

/// A package of one name and architecture that is not the same in both. Its serialised field names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// The versions that only the first set has.
    pub from: Vec<Version>,
    /// The versions that only the second set has.
    pub to: Vec<Version>,
}

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Whole version.
    pub version: String,
    /// Bytes; 0 where they are not known.
    pub size: u64,
    /// Its files, without folders; nothing where they were not counted.
    pub files: Option<u64>,
    /// The name in the pool.
    pub sha256: Sha256,
}

/// Of debs every byte is unpacked to count their files; above this no files are counted.
const MOST_UNPACKED: u64 = 1 << 30;

impl Repository {
    /// The packages of a snapshot: as its list says, or a channel's state that pointed to it.
    ///
    /// # Errors
    /// There is no such snapshot, or nothing says what is in it.
    pub fn packages_of(&self, id: &SnapshotId) -> Result<BTreeSet<Sha256>> {
        self.members_of(id)
    }

    /// What is another in `to` than in `from`, by name and architecture. `count_files` has the files of each package
    /// counted, which reads it; of more than a GiB, and of what is damaged, they are not.
    ///
    /// # Errors
    /// The machine says no.
    pub fn changes(&self, from: &BTreeSet<Sha256>, to: &BTreeSet<Sha256>, count_files: bool) -> Result<Vec<Change>> {
        let only: DigestSet = from.symmetric_difference(to).copied().collect();
        let items = self.items_of(&only)?;
        let mut files: DigestMap<u64> = DigestMap::default();
        let debs = |item: &&Item| item.kind.is_some_and(|kind| !kind.is_rpm());
        if count_files && items.iter().filter(debs).map(|item| item.size).sum::<u64>() <= MOST_UNPACKED {
            let counted = workers::for_each(&items, |item| Ok((item.sha256, self.count_files(&item.sha256).ok().flatten())))?;
            files.extend(counted.into_iter().filter_map(|(digest, files)| Some((digest, files?))));
        }
        let mut changes: BTreeMap<(String, String, bool), Change> = BTreeMap::new();
        for item in items {
            let key = (item.name.clone(), item.arch.clone(), item.kind.is_some_and(crate::Kind::is_rpm));
            let empty = || Change { name: item.name.clone(), arch: item.arch.clone(), from: Vec::new(), to: Vec::new() };
            let change = changes.entry(key).or_insert_with(empty);
            let version = Version { version: item.version, size: item.size, files: files.get(&item.sha256).copied(), sha256: item.sha256 };
            if from.contains(&item.sha256) { change.from.push(version) } else { change.to.push(version) }
        }
        Ok(changes.into_values().collect())
    }
}

//! A snapshot is a list of packages; its name is the digest of that list.
//!
//! The list is a text that `sha256sum` writes and checks, sorted by file name, one line a file:
//!
//! ```text
//! 5f2c…e1  greet_1.0-1+bts20260102030405.0a1b2c3d_amd64.deb
//! 77aa…09  libgreet1_1.0-1+bts20260102030405.4d3c2b1a_amd64.deb
//! ```
//!
//! The id is the SHA-256 of exactly these bytes, so anyone can check it with `sha256sum`, and the
//! runtime RUN does. Signatures, dates and the compression of metadata are not in it: a rotated
//! key or a newer twostage does not rename what was published.

use crate::{Class, Error, Result, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The name of a snapshot: the digest of its [`Manifest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub Sha256);

impl SnapshotId {
    /// The first 12 hex digits: what people see.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SnapshotId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix('@').unwrap_or(text).parse().map(SnapshotId)
    }
}

/// What a snapshot holds: file name to digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(BTreeMap<String, Sha256>);

impl Manifest {
    /// Adds one file.
    ///
    /// # Errors
    /// The same file name with another digest: one name-version-arch is one content.
    pub fn add(&mut self, file_name: &str, digest: Sha256) -> Result<()> {
        if file_name.is_empty() || file_name.contains(['\n', '\\', '/', '\0']) {
            return Err(Error::new(Class::Repository, format!("{file_name:?} cannot stand in a snapshot: it is not a plain file name")));
        }
        match self.0.insert(file_name.to_string(), digest) {
            Some(earlier) if earlier != digest => Err(Error::new(
                Class::Repository,
                format!("{file_name} is there with two contents: {} and {}", earlier.short(), digest.short()),
            )
            .hint("give the changed package a new version")),
            _ => Ok(()),
        }
    }

    /// The files in order of name.
    pub fn files(&self) -> impl Iterator<Item = (&str, Sha256)> {
        self.0.iter().map(|(name, digest)| (name.as_str(), *digest))
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The snapshot's name: the digest of the text.
    pub fn id(&self) -> SnapshotId {
        SnapshotId(Sha256::of(self.to_string().as_bytes()))
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, digest)| writeln!(f, "{digest}  {name}"))
    }
}

impl FromStr for Manifest {
    type Err = Error;

    /// Takes only the exact bytes that [`fmt::Display`] writes: sorted, no repeats, no blanks.
    fn from_str(text: &str) -> Result<Self> {
        let mut manifest = Manifest::default();
        for line in text.lines() {
            let (digest, name) = line
                .split_once("  ")
                .ok_or_else(|| Error::new(Class::Repository, format!("{line:?} is not a line of a snapshot's list")))?;
            manifest.add(name, digest.parse()?)?;
        }
        if manifest.to_string() != text {
            return Err(Error::new(Class::Repository, "a snapshot's list is not in its one written form (sorted, no repeats)"));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::default();
        assert!(manifest.add("libgreet1_1.0_amd64.deb", Sha256::of(b"lib")).is_ok());
        assert!(manifest.add("greet_1.0_amd64.deb", Sha256::of(b"greet")).is_ok());
        manifest
    }

    /// Golden: if this changes, every snapshot that any user pinned changes its name.
    #[test]
    fn the_identity_of_a_snapshot_never_changes() {
        assert_eq!(
            sample().to_string(),
            "231bf89d726826891c1578a8ffe06ad898e70ecad4adb07668c2d9beca734b0c  greet_1.0_amd64.deb\n\
             76b5a357391276b282a516f54f48ef3c207f46d8192dc58c208d5183d38415f8  libgreet1_1.0_amd64.deb\n"
        );
        assert_eq!(sample().id().to_string(), "b3194a4175f11ff74296c6267a565530ae0f58c3ce25aa9b205777d3eef00dc0");
    }

    #[test]
    fn order_of_adding_does_not_matter_and_the_text_reads_back() {
        let text = sample().to_string();
        assert_eq!(text.parse::<Manifest>().ok(), Some(sample()));
        let swapped: String = text.lines().rev().map(|line| format!("{line}\n")).collect();
        assert!(swapped.parse::<Manifest>().is_err(), "an unsorted list has another digest, so it is not taken");
    }

    #[test]
    fn one_name_is_one_content() {
        let mut manifest = sample();
        let refused = manifest.add("greet_1.0_amd64.deb", Sha256::of(b"other")).map_err(|e| e.to_string());
        assert!(refused.is_err_and(|e| e.contains("greet_1.0_amd64.deb is there with two contents")));
    }
}

//! What only builders need, to be found wherever an image has it: installed, copied, or deleted again
//! in a layer above.

use crate::image::{Entry, Kind};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use twostage_model::{Format, Sha256};
use twostage_package::rpmdb::Expected;

/// Packages that builders have and no image may, with the digests of their files.
#[derive(Debug, Clone, Default)]
pub struct Leaks {
    /// Each, and whether its files are known.
    packages: BTreeMap<(Format, String), bool>,
    files: HashMap<Digest, Brought>,
}

/// How much was looked for, for the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LookedFor {
    /// Packages.
    pub packages: usize,
    /// Those of them of which only the name is known.
    pub by_name: usize,
    /// Different contents of their files.
    pub files: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Digest {
    Md5([u8; 16]),
    Sha256(Sha256),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Brought {
    package: String,
    path: String,
}

impl Leaks {
    /// Adds a package, and what it brings: each path without its slash, with what is known of its content.
    pub fn add(&mut self, format: Format, name: &str, version: &str, files: impl IntoIterator<Item = (String, Expected)>) {
        self.packages.insert((format, name.to_string()), true);
        for (path, expected) in files {
            if let Some(digest) = digest(&expected) {
                self.files.entry(digest).or_insert_with(|| Brought { package: format!("{name} {version}"), path });
            }
        }
    }

    /// Adds a package whose files are not known.
    pub fn add_name(&mut self, format: Format, name: &str) {
        self.packages.entry((format, name.to_string())).or_insert(false);
    }

    /// How much is looked for; none without any.
    pub fn looked_for(&self) -> Option<LookedFor> {
        let by_name = self.packages.values().filter(|known| !**known).count();
        let size = LookedFor { packages: self.packages.len(), by_name, files: self.files.len() };
        (!self.packages.is_empty()).then_some(size)
    }

    /// Whether some of their files are known by their SHA-256.
    pub(crate) fn have_sha256(&self) -> bool {
        self.files.keys().any(|digest| matches!(digest, Digest::Sha256(_)))
    }

    /// Whether some of their files are known by their MD5 alone.
    pub(crate) fn have_md5(&self) -> bool {
        self.files.keys().any(|digest| matches!(digest, Digest::Md5(_)))
    }

    /// Whether the package is one of them.
    pub(crate) fn has(&self, format: Format, name: &str) -> bool {
        // (Nearly every image is judged without any.)
        !self.packages.is_empty() && self.packages.contains_key(&(format, name.to_string()))
    }

    /// Takes out contents that images may well have, because packages that they may have bring them too.
    pub(crate) fn without(&self, allowed: &Allowed) -> Leaks {
        let files = self.files.iter().filter(|(digest, _)| !allowed.0.contains(digest));
        Leaks { packages: self.packages.clone(), files: files.map(|(digest, brought)| (*digest, brought.clone())).collect() }
    }

    /// Whose file this is, by its content: "package version" and the path there.
    pub(crate) fn owner_of(&self, entry: &Entry) -> Option<(&str, &str)> {
        if self.files.is_empty() {
            return None;
        }
        let brought = digests(entry).find_map(|digest| self.files.get(&digest))?;
        Some((&brought.package, &brought.path))
    }
}

/// Contents that are nobody's secret.
#[derive(Default)]
pub(crate) struct Allowed(HashSet<Digest>);

impl Allowed {
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.0.extend(digests(entry));
    }

    pub(crate) fn expected(&mut self, expected: &Expected) {
        self.0.extend(digest(expected));
    }
}

fn digest(expected: &Expected) -> Option<Digest> {
    match expected {
        Expected::Md5(md5) => Some(Digest::Md5(*md5)),
        Expected::Content(sha256) => Some(Digest::Sha256(*sha256)),
        Expected::Link(_) => None,
    }
}

/// Of a file's content; none of an empty one, which is everybody's.
fn digests(entry: &Entry) -> impl Iterator<Item = Digest> {
    let sha256 = match entry.kind {
        Kind::File { size, sha256 } if size > 0 => sha256.known(),
        _ => None,
    };
    let md5 = entry.md5.filter(|_| entry.size() > 0);
    sha256.map(Digest::Sha256).into_iter().chain(md5.map(Digest::Md5))
}

//! What was built from which inputs: the build stage's memory.
//!
//! One small file a build, named by the key of its inputs, kept with the repository, because it
//! is only worth something together with the packages it names.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use twostage_beneath::{EntryKind, Folder};
use twostage_model::error::OrFail as _;
use twostage_model::names::INCOMING;
use twostage_model::{Class, Result, Sha256};

/// One finished build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The packages: those that were built, or earlier ones of the same content.
    pub packages: Vec<Sha256>,
    /// The source packages, by the digest of their `.dsc`.
    pub sources: Vec<Sha256>,
    /// `name arch` to the digest of the content without the version suffix.
    pub content: BTreeMap<String, Sha256>,
    /// The newest date of a patch that this build or an earlier one of the component had, in seconds since 1970.
    #[serde(default)]
    pub patched: i64,
    /// Where each file went that a recipe's build installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<FilePlace>,
}

/// Where a file went that a recipe's build installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlace {
    /// Its path, without a leading slash.
    pub path: String,
    /// The package that has it; none where it is left out.
    pub package: Option<String>,
    /// The rule that says so.
    pub rule: String,
}

/// The records of one component.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// The records of `component` below `root`.
    pub fn of(root: &Path, component: &str) -> Records {
        Records { folder: root.join(component) }
    }

    /// The record of a build with these inputs. One that cannot be read counts as none: building
    /// again is always right.
    pub fn get(&self, key: &Sha256) -> Option<Record> {
        let text = fs::read(self.folder.join(format!("{key}.json"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The record of the build that was current last.
    pub fn current(&self) -> Option<Record> {
        let key = fs::read_to_string(self.folder.join("current")).ok()?;
        self.get(&key.trim().parse().ok()?)
    }

    /// Keeps the record of a finished build.
    ///
    /// # Errors
    /// The disk says no.
    pub fn put(&self, key: &Sha256, record: &Record) -> Result<()> {
        let text = serde_json::to_vec_pretty(record).or_fail(Class::System, || "cannot write a build record".into())?;
        self.write(&format!("{key}.json"), &text)
    }

    /// Makes the build of these inputs the current one. Writes nothing if it is already.
    ///
    /// # Errors
    /// The disk says no.
    pub fn make_current(&self, key: &Sha256) -> Result<()> {
        let text = format!("{key}\n");
        if fs::read_to_string(self.folder.join("current")).is_ok_and(|now| now == text) {
            return Ok(());
        }
        self.write("current", text.as_bytes())
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let failed = || format!("cannot write {}", path.display());
        fs::create_dir_all(&self.folder).or_fail(Class::System, failed)?;
        let mut file = tempfile::Builder::new().prefix(INCOMING).tempfile_in(&self.folder).or_fail(Class::System, failed)?;
        file.write_all(text).or_fail(Class::System, failed)?;
        file.as_file().sync_all().or_fail(Class::System, failed)?;
        file.persist(&path).or_fail(Class::System, failed)?;
        fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).or_fail(Class::System, failed)
    }
}

/// Removes what a killed run left half-written in the records.
///
/// # Errors
/// A leftover cannot be removed.
pub fn sweep(root: &Path) -> Result<()> {
    let Ok(records) = Folder::open(root) else { return Ok(()) };
    for component in records.entries()?.into_iter().filter(|entry| entry.kind == EntryKind::Folder) {
        records.folder(&component.name)?.remove_scratch(INCOMING, |_, entry| entry.kind == EntryKind::File)?;
    }
    Ok(())
}

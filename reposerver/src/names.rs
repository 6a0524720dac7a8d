//! The names that were ever published: one name, version and architecture is one content, for ever.
//!
//! ```text
//! names       "<sha256>  <file name>", a line each
//! names.sum   "<bytes> <sha256>": what the file had when it was last added to
//! ```
//!
//! Lines are appended *after* the pointer swap, so that a publish that fails reserves no name. What a crash
//! kept from being appended is what some channel points to right now; that is appended first by the next who
//! publishes. Where `names` is not what `names.sum` says, it is made anew from the lists of all snapshots,
//! each of which is checked by its own name.

use crate::snapshot::manifest;
use crate::{PoolPackage, Repository, disk};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Manifest, Result, Sha256, SnapshotId};

impl Repository {
    /// Refuses a name-version-architecture that a channel published with other content. Returns
    /// those that no channel published yet.
    pub(crate) fn check_names(&self, packages: &[Arc<PoolPackage>]) -> Result<Vec<Arc<PoolPackage>>> {
        let (mut present, mut all_read) = (BTreeMap::new(), true);
        for name in self.channels()? {
            // A broken channel stands in nobody's way; its names are among those of the snapshots.
            let Ok(Some(channel)) = self.channel(&name) else {
                all_read = false;
                continue;
            };
            let listed = match self.snapshot_info(&channel.snapshot) {
                Ok(Some(info)) => Some(info.manifest),
                // A damaged snapshot is mended by publishing it again, so this must not stand in the way.
                _ => self.sorted_packages(channel.members.values().flatten()).and_then(|packages| manifest(&packages)).ok(),
            };
            match listed {
                Some(listed) => present.extend(listed.files().map(|(name, digest)| (name.to_string(), digest))),
                None => all_read = false,
            }
        }
        let mut names = self.names(&present, all_read)?;
        let mut lost = Vec::new();
        for (name, digest) in present {
            if names.insert(name.clone(), digest).is_none() {
                lost.push((name, digest));
            }
        }
        self.add_names(&lines(lost))?;
        let mut new = Vec::new();
        for package in packages {
            let name = package.file_name();
            match names.get(&name) {
                Some(earlier) if *earlier != package.sha256 => {
                    return Err(Error::new(
                        Class::Repository,
                        format!(
                            "{} version {} ({}) was published before with other content: then {earlier}, now {}",
                            package.id.name, package.id.version, package.id.arch, package.sha256
                        ),
                    )
                    .hint("give the changed package a new version: one name, version and architecture is one content, for ever"));
                }
                Some(_) => {}
                None => new.push(Arc::clone(package)),
            }
        }
        Ok(new)
    }

    /// Every name with its content, made anew where that is needed. `present` is what channels point to now.
    fn names(&self, present: &BTreeMap<String, Sha256>, all_channels: bool) -> Result<HashMap<String, Sha256>> {
        let path = self.names_path();
        // A line without its end was torn by a crash; `add_names` overwrites it.
        let read = match disk::read(&path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.is_machine() => return Err(error),
            Err(_) => Vec::new(),
        };
        let parsed = parse(whole_lines(&read));
        let as_written = self.sum().is_some_and(|sum| sum.of(&read));
        let agrees = |names: &HashMap<String, Sha256>| present.iter().all(|(name, digest)| names.get(name).is_none_or(|d| d == digest));
        if all_channels
            && as_written
            && let Some(names) = &parsed
            && agrees(names)
        {
            return Ok(parsed.unwrap_or_default());
        }
        // Nothing was ever published: not even by somebody who was killed.
        if present.is_empty() && all_channels && read.is_empty() && !self.root.join("history").is_dir() {
            self.write_sum(&[])?;
            return Ok(HashMap::new());
        }
        let mut names: BTreeMap<String, Sha256> = lossy(whole_lines(&read)).collect();
        let (snapshots, unread) = self.lists()?;
        names.extend(snapshots.iter().flat_map(|list| list.files().map(|(name, digest)| (name.to_string(), digest))));
        names.extend(present.iter().map(|(name, digest)| (name.clone(), *digest)));
        let bytes = lines(names.clone()).into_bytes();
        if bytes != whole_lines(&read) {
            disk::write(self.scratch()?, &path, &bytes)?;
        }
        self.write_sum(&bytes)?;
        if parsed.is_none() || !as_written {
            let unread = if unread == 0 { String::new() } else { format!("; {unread} of them cannot be read") };
            self.mend(format!("the list of published names was made anew from {} snapshots{unread}", snapshots.len()));
        }
        Ok(names.into_iter().collect())
    }

    /// The lists of all snapshots on disk, and how many cannot be read.
    fn lists(&self) -> Result<(Vec<Manifest>, usize)> {
        let (mut lists, mut unread) = (Vec::new(), 0);
        for id in self.snapshots()? {
            let path = self.root.join("snapshots").join(id.to_string()).join("SHA256SUMS");
            let list = fs::read(&path).ok().filter(|list| Sha256::of(list) == id.0);
            match list.and_then(|list| String::from_utf8(list).ok()?.parse::<Manifest>().ok()) {
                Some(list) => lists.push(list),
                None => unread += 1,
            }
        }
        Ok((lists, unread))
    }

    /// The names of all snapshots on disk, whole or not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn snapshots(&self) -> Result<Vec<SnapshotId>> {
        let folder = self.root.join("snapshots");
        let failed = || format!("cannot read {}", folder.display());
        let mut ids = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(&folder).or_fail(Class::System, failed)? {
                let name = entry.or_fail(Class::System, failed)?.file_name();
                ids.extend(name.to_str().and_then(|name| name.parse().ok()).map(SnapshotId));
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Whether a channel ever published a package. One that it publishes right now may not be in `names` yet.
    pub(crate) fn was_published(&self, digest: &Sha256) -> Result<bool> {
        let digests = |bytes: &[u8]| Ok(lossy(whole_lines(bytes)).map(|(_, digest)| digest).collect());
        // What cannot be read names nothing; the next publish makes it anew.
        let published = self.published.get(&(), &self.names_path(), digests).ok().flatten();
        Ok(published.is_some_and(|published: Arc<HashSet<Sha256>>| published.contains(digest)))
    }

    pub(crate) fn add_names(&self, lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.names_path();
        let failed = || format!("cannot write {}", path.display());
        let mut bytes = disk::read(&path)?.unwrap_or_default();
        let end = whole_lines(&bytes).len();
        let made = !path.exists();
        let mut file = File::options().create(true).truncate(false).write(true).open(&path).or_fail(Class::System, failed)?;
        file.set_len(end as u64).or_fail(Class::System, failed)?;
        file.seek(SeekFrom::Start(end as u64)).or_fail(Class::System, failed)?;
        file.write_all(lines.as_bytes()).or_fail(Class::System, failed)?;
        file.sync_all().or_fail(Class::System, failed)?;
        if made {
            disk::sync_folder(&self.root)?;
        }
        bytes.truncate(end);
        bytes.extend_from_slice(lines.as_bytes());
        self.write_sum(&bytes)
    }

    fn names_path(&self) -> PathBuf {
        self.root.join("names")
    }

    fn sum(&self) -> Option<Sum> {
        let text = fs::read_to_string(self.root.join("names.sum")).ok()?;
        let (size, sha256) = text.trim_end().split_once(' ')?;
        Some(Sum { size: size.parse().ok()?, sha256: sha256.parse().ok()? })
    }

    fn write_sum(&self, names: &[u8]) -> Result<()> {
        let text = format!("{} {}\n", names.len(), Sha256::of(names));
        disk::write(self.scratch()?, &self.root.join("names.sum"), text.as_bytes())
    }
}

/// What `names` had when it was last added to; what comes behind was added by who then died.
struct Sum {
    size: usize,
    sha256: Sha256,
}

impl Sum {
    fn of(&self, names: &[u8]) -> bool {
        names.get(..self.size).is_some_and(|start| Sha256::of(start) == self.sha256)
    }
}

/// The names in whole lines; nothing when one is no such line.
fn parse(bytes: &[u8]) -> Option<HashMap<String, Sha256>> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines().map(|line| line.split_once("  ").and_then(|(digest, name)| Some((name.to_string(), digest.parse().ok()?)))).collect()
}

/// Those lines that can be read.
fn lossy(bytes: &[u8]) -> impl Iterator<Item = (String, Sha256)> {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.split_once("  "));
    lines.filter_map(|(digest, name)| Some((name.to_string(), digest.parse().ok()?)))
}

pub(crate) fn lines(names: impl IntoIterator<Item = (String, Sha256)>) -> String {
    names.into_iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    bytes.iter().rposition(|b| *b == b'\n').map_or(&[], |at| &bytes[..=at])
}

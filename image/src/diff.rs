//! What differs between two images: packages first, then the files that these do not explain.

mod configuration;

use crate::audit::installed::{Installed, Package};
use crate::image::{Entry, Image, Kind, Layer};
use crate::path::{self, shown};
use crate::report::Share;
use crate::tree::{Node, Tree};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use twostage_model::shown::{count, size};
use twostage_model::{Format, Result};

/// Files of one kind that a table for people names.
const SHOWN: usize = 40;

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only the later image has it.
    Added,
    /// Only the earlier image has it.
    Removed,
    /// Both have it, and it is not the same.
    Changed,
}

/// A package that differs.
#[derive(Debug, Clone, Serialize)]
pub struct PackageChange {
    /// How.
    pub change: Change,
    /// deb or rpm.
    pub format: Format,
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// Its version in the earlier image.
    pub before: Option<String>,
    /// Its version in the later image.
    pub after: Option<String>,
    /// Its files that differ, and by how many bytes they grew.
    pub files: u64,
    /// See `files`.
    pub bytes: i64,
}

/// A path that differs.
#[derive(Debug, Clone, Serialize)]
pub struct FileChange {
    /// How.
    pub change: Change,
    /// With its slash.
    pub path: String,
    /// What differs: `content`, `type`, `mode`, `owner`, `target`, `attributes`. Times do not count.
    pub what: Vec<&'static str>,
    /// Bytes in the earlier image.
    pub before: u64,
    /// Bytes in the later image.
    pub after: u64,
    /// The package that it belongs to, in the image that has it.
    pub package: Option<String>,
}

/// The difference of two images. Its serialised field names are stable.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Ids of both.
    pub images: [String; 2],
    /// Packages, by name.
    pub packages: Vec<PackageChange>,
    /// Paths, in order; those of packages that differ are there too.
    pub files: Vec<FileChange>,
    /// What the configurations say differently.
    pub config: Vec<String>,
}

impl Difference {
    /// Compares two images that were read with [`crate::wanted`].
    ///
    /// # Errors
    /// A package database cannot be read.
    pub fn of(a: &Image, b: &Image) -> Result<Difference> {
        let (before, after) = (Tree::new(&a.layers), Tree::new(&b.layers));
        let (had, has) = (Installed::read(&before)?, Installed::read(&after)?);
        let mut packages = packages(&had.packages(), &has.packages());
        let owners = [owners(&had, &before), owners(&has, &after)];
        let mut files = Vec::new();
        let paths: std::collections::BTreeSet<&str> = before.iter().chain(after.iter()).map(|(path, _)| path).collect();
        for path in paths {
            let (old, new) = (before.get(path), after.get(path));
            let (change, what) = match (old, new) {
                (None, _) => (Change::Added, Vec::new()),
                (_, None) => (Change::Removed, Vec::new()),
                (Some(old), Some(new)) => (Change::Changed, differs(old, new)),
            };
            if change == Change::Changed && what.is_empty() {
                continue;
            }
            let size = |node: Option<&Node<'_>>| node.and_then(|node| node.entry).map_or(0, Entry::size);
            let owner = if new.is_some() { owners[1].get(path) } else { owners[0].get(path) };
            files.push(FileChange {
                change,
                path: format!("/{path}"),
                what,
                before: size(old),
                after: size(new),
                package: owner.map(|name| (*name).to_string()),
            });
        }
        let numbers: HashMap<String, usize> = packages.iter().enumerate().map(|(number, package)| (package.name.clone(), number)).collect();
        for file in &files {
            if let Some(number) = file.package.as_ref().and_then(|name| numbers.get(name))
                && let Some(package) = packages.get_mut(*number)
            {
                package.files += 1;
                package.bytes += file.after.cast_signed() - file.before.cast_signed();
            }
        }
        Ok(Difference {
            images: [a.id.to_string(), b.id.to_string()],
            packages,
            files,
            config: configuration::differs(&a.config_json, &b.config_json),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.files.is_empty() && self.config.is_empty()
    }

    /// A table for people, without colours.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let differ: std::collections::BTreeSet<&str> = self.packages.iter().map(|package| package.name.as_str()).collect();
        if !self.packages.is_empty() {
            let _ = writeln!(text, "{}", count(self.packages.len() as u64, "package"));
            for package in &self.packages {
                let versions = match (&package.before, &package.after) {
                    (Some(before), Some(after)) => format!("{before} -> {after}"),
                    (Some(version), None) | (None, Some(version)) => version.clone(),
                    (None, None) => String::new(),
                };
                let sign = if package.bytes < 0 { "-" } else { "+" };
                let bytes = size(package.bytes.unsigned_abs());
                let _ = writeln!(
                    text,
                    "  {} {} {versions}  ({}, {sign}{bytes})",
                    package.change.sign(),
                    package.name,
                    count(package.files, "path")
                );
            }
        }
        let others: Vec<&FileChange> =
            self.files.iter().filter(|file| !file.package.as_deref().is_some_and(|name| differ.contains(name))).collect();
        if !others.is_empty() {
            let _ = writeln!(
                text,
                "{}{}",
                count(others.len() as u64, "path"),
                if differ.is_empty() { "" } else { " of no package that differs" }
            );
            for change in [Change::Removed, Change::Changed, Change::Added] {
                let files: Vec<&&FileChange> = others.iter().filter(|file| file.change == change).collect();
                files.iter().take(SHOWN).for_each(|file| file.write(&mut text));
                if files.len() > SHOWN {
                    let bytes = files[SHOWN..].iter().map(|file| file.before.max(file.after)).sum();
                    let _ = writeln!(text, "  {} {} more, {}", change.sign(), files.len() - SHOWN, size(bytes));
                }
            }
        }
        if !self.config.is_empty() {
            text.push_str("configuration\n");
            self.config.iter().for_each(|line| {
                // (It is JSON, in which only what a terminal takes for commands may be left.)
                let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                let _ = writeln!(text, "  ~ {line}");
            });
        }
        let mut bytes = Share::default();
        self.files.iter().for_each(|file| bytes.add(file.before.max(file.after)));
        if self.is_empty() {
            text.push_str("no difference\n");
        } else {
            let settings = if self.config.is_empty() { String::new() } else { format!(", and {}", count(self.config.len(), "setting")) };
            let _ = writeln!(text, "{} and {} differ{settings}", count(self.packages.len(), "package"), count(self.files.len(), "path"));
        }
        text
    }
}

/// Where two images that should be the same bits are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unlike {
    /// The number of the layer, from 1.
    pub layer: usize,
    /// The first path of it, with its slash; none if only the tar itself differs.
    pub path: Option<String>,
    /// What differs there, for people: times count here.
    pub what: String,
}

/// The first path, in order, of the first layer that is not the same in both images, in anything that a layer says.
pub fn first_difference(a: &Image, b: &Image) -> Option<Unlike> {
    let unlike = a.layers.iter().zip(&b.layers).enumerate().find(|(_, (a, b))| a.diff_id != b.diff_id);
    let Some((number, (one, other))) = unlike else {
        let (most, least) = (a.layers.len().max(b.layers.len()), a.layers.len().min(b.layers.len()));
        return (most > least).then(|| Unlike { layer: least + 1, path: None, what: "only one of the two has it".into() });
    };
    let by_path =
        |layer: &'_ Layer| -> BTreeMap<String, Entry> { layer.entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect() };
    let (one, other) = (by_path(one), by_path(other));
    let paths: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let found = paths.into_iter().find_map(|path| {
        let what = match (one.get(path), other.get(path)) {
            (Some(a), Some(b)) => unlike_entries(a, b)?,
            (Some(_), None) => "only the first time".into(),
            (None, _) => "only the second time".into(),
        };
        Some((format!("/{path}"), what))
    });
    let layer = number + 1;
    Some(match found {
        Some((path, what)) => Unlike { layer, path: Some(path), what },
        None => Unlike { layer, path: None, what: "the same files, in another order or with other headers".into() },
    })
}

/// What differs between two entries of one path, if something does.
fn unlike_entries(a: &Entry, b: &Entry) -> Option<String> {
    let mut what = Vec::new();
    match (&a.kind, &b.kind) {
        (Kind::File { size: x, sha256: p }, Kind::File { size: y, sha256: q }) if p != q => {
            what.push(if x == y { format!("content ({x} bytes both times)") } else { format!("content ({x} bytes, then {y})") });
        }
        (x, y) if x != y => what.push("type or target".to_string()),
        _ => {}
    }
    if a.mode != b.mode {
        what.push(format!("mode ({:04o}, then {:04o})", a.mode, b.mode));
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        what.push(format!("owner ({}:{}, then {}:{})", a.uid, a.gid, b.uid, b.gid));
    }
    if a.mtime != b.mtime {
        what.push(format!("time ({}, then {})", a.mtime, b.mtime));
    }
    if a.xattrs != b.xattrs {
        what.push("attributes".to_string());
    }
    (!what.is_empty()).then(|| what.join(", "))
}

impl Change {
    fn sign(self) -> char {
        match self {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed => '~',
        }
    }
}

impl FileChange {
    fn write(&self, text: &mut String) {
        let bytes = match self.change {
            Change::Changed if self.before != self.after => {
                format!("{} -> {}", size(self.before), size(self.after))
            }
            _ => size(self.before.max(self.after)),
        };
        let what = if self.what.is_empty() { String::new() } else { format!("  {}", self.what.join(", ")) };
        let of = self.package.as_ref().map(|name| format!("  (of {name})")).unwrap_or_default();
        let _ = writeln!(text, "  {} {}  {bytes}{what}{of}", self.change.sign(), shown(&self.path));
    }
}

/// What differs at one path. Times do not count: every build has its own.
fn differs(old: &Node<'_>, new: &Node<'_>) -> Vec<&'static str> {
    let (Some(a), Some(b)) = (old.entry, new.entry) else {
        // A folder that no layer states has no rights of its own.
        return if old.is_dir() && new.is_dir() { Vec::new() } else { vec!["type"] };
    };
    let mut what = Vec::new();
    match (&a.kind, &b.kind) {
        (Kind::File { sha256: x, .. }, Kind::File { sha256: y, .. }) if x != y => what.push("content"),
        (Kind::Symlink { target: x }, Kind::Symlink { target: y }) if x != y => what.push("target"),
        (x, y) if std::mem::discriminant(x) != std::mem::discriminant(y) => what.push("type"),
        (Kind::Char { .. } | Kind::Block { .. }, y) if a.kind != *y => what.push("device"),
        _ => {}
    }
    let link = matches!(a.kind, Kind::Symlink { .. });
    if !link && a.mode != b.mode {
        what.push("mode");
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        what.push("owner");
    }
    if a.xattrs != b.xattrs {
        what.push("attributes");
    }
    what
}

fn packages(had: &[Package<'_>], has: &[Package<'_>]) -> Vec<PackageChange> {
    let by = |packages: &[Package<'_>]| -> BTreeMap<(String, String, Format), String> {
        let key = |package: &Package<'_>| (package.name.to_string(), package.arch.to_string(), package.format);
        packages.iter().map(|package| (key(package), package.version.to_string())).collect()
    };
    let (had, has) = (by(had), by(has));
    let keys: std::collections::BTreeSet<_> = had.keys().chain(has.keys()).collect();
    let changes = keys.into_iter().filter_map(|key| {
        let (before, after) = (had.get(key).cloned(), has.get(key).cloned());
        let change = match (&before, &after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (before, after) if before != after => Change::Changed,
            _ => return None,
        };
        let (name, arch, format) = key.clone();
        Some(PackageChange { change, format, name, arch, before, after, files: 0, bytes: 0 })
    });
    changes.collect()
}

/// Which package has a path, by its real path.
fn owners<'i>(installed: &'i Installed, tree: &Tree<'_>) -> HashMap<String, &'i str> {
    let mut real = crate::audit::Canonical::new(tree);
    let mut owners = HashMap::new();
    for package in installed.packages() {
        for (file, _) in package.files() {
            owners.entry(real.path(&path::from_bytes(file))).or_insert(package.name);
        }
        for file in package.info().1 {
            owners.entry(file).or_insert(package.name);
        }
    }
    // Folders are many packages'.
    owners.retain(|path, _| !tree.get(path).is_some_and(Node::is_dir));
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::Sha256;

    fn image(number: u8, entries: Vec<Entry>) -> Image {
        let base = Layer { diff_id: Sha256::of(b"base"), size: 0, entries: Vec::new(), ignored: crate::Ignored::default() };
        let layer = Layer { diff_id: Sha256::of(&[number]), size: 0, entries, ignored: crate::Ignored::default() };
        Image {
            id: Sha256::of(b"id"),
            config: crate::Config::default(),
            config_json: Vec::new(),
            tags: Vec::new(),
            layers: vec![base, layer],
        }
    }

    fn file(path: &str, content: &[u8], mtime: i64) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File { size: content.len() as u64, sha256: Sha256::of(content).into() },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
            content: None,
            md5: None,
            number: 0,
            linkage: twostage_linking::LinkageState::default(),
            written: None,
        }
    }

    #[test]
    fn the_first_path_that_is_not_the_same_is_named_with_what_differs() {
        let of = |a: Vec<Entry>, b: Vec<Entry>| {
            let found = first_difference(&image(1, a), &image(2, b)).unwrap();
            assert_eq!(found.layer, 2);
            (found.path.unwrap_or_default(), found.what)
        };
        let (a, b) = (|| file("a", b"x", 1), || file("b", b"x", 1));
        let pair = |path: &str, what: &str| (path.to_string(), what.to_string());
        assert_eq!(of(vec![b(), a()], vec![a(), file("b", b"yy", 1)]), pair("/b", "content (1 bytes, then 2)"));
        assert_eq!(of(vec![a()], vec![file("a", b"y", 2)]), pair("/a", "content (1 bytes both times), time (1, then 2)"));
        assert_eq!(of(vec![a(), b()], vec![b()]), pair("/a", "only the first time"));
        assert_eq!(of(vec![a(), b()], vec![b(), a()]), pair("", "the same files, in another order or with other headers"));
        assert_eq!(first_difference(&image(1, Vec::new()), &image(1, Vec::new())), None);
    }
}

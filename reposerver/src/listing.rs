//! What packages there are, and where: for people, and for whoever decides what is to go or to be promoted.
//!
//! Nothing here takes a lock or writes. What is lost is listed, too, by the name that a snapshot's list has for it, so that
//! it can be named to be taken out.

use crate::catalog::{Entry, Pack};
use crate::{Channel, Kind, Pattern, PoolPackage, Repository, disk};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use twostage_model::project::near_miss;
use twostage_model::{Class, DigestMap, DigestSet, Error, Result, Sha256, SnapshotId};
use twostage_package::{rpm, version};

/// A package, and where it is. Its serialised field names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name; of one that is lost altogether the first digits of its digest.
    pub name: String,
    /// Whole version; empty where it is lost.
    pub version: String,
    /// As [`twostage_model::PackageId`] has it.
    pub arch: String,
    /// Bytes; 0 where they are not known.
    pub size: u64,
    /// The name in the pool.
    pub sha256: Sha256,
    /// What it is; nothing where that is lost.
    pub kind: Option<Kind>,
    /// Whether its file is in the pool. (Whether that is what it was, a look at it does not say.)
    pub present: bool,
    /// The channels that have it now, each with its groups there.
    pub channels: BTreeMap<String, BTreeSet<String>>,
    /// How many snapshots have it.
    pub snapshots: usize,
}

/// Packages in the order of an index, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Listing {
    /// By name, version and architecture.
    pub items: Vec<Item>,
    /// Channels and snapshots that cannot be read, so that what is said of them lacks something.
    pub problems: Vec<Error>,
}

/// Which packages are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Those that any channel has now.
    Channels,
    /// Those of one channel.
    Channel(&'a str),
    /// All that is in the pool: also what only earlier snapshots have, and what only builders use.
    Pool,
}

impl Item {
    /// One of which only the digest is known.
    pub(crate) fn unknown(sha256: Sha256) -> Item {
        let (name, none) = (sha256.short(), String::new());
        let (channels, snapshots) = (BTreeMap::new(), 0);
        Item { name, version: none.clone(), arch: none, size: 0, sha256, kind: None, present: false, channels, snapshots }
    }

    pub(crate) fn called(self, name: &str, version: &str, arch: &str) -> Item {
        Item { name: name.into(), version: version.into(), arch: arch.into(), ..self }
    }

    pub(crate) fn of_kind(self, kind: Kind, size: u64) -> Item {
        Item { kind: Some(kind), size, ..self }
    }

    fn of_entry(entry: &Entry) -> Item {
        let item = Item::unknown(entry.sha256).called(entry.name(), entry.version(), entry.arch());
        Item { size: entry.size, kind: Some(entry.kind), ..item }
    }

    /// A Debian source package that is not here yet.
    pub fn of_source(name: &str, version: &str) -> Item {
        Item::unknown(Sha256::of(b"")).called(name, version, "source").of_kind(Kind::Source, 0)
    }

    pub(crate) fn of_package(package: &PoolPackage) -> Item {
        let id = &package.id;
        let item = Item::unknown(package.sha256).called(&id.name, &id.version, &id.arch);
        Item { size: package.size, kind: Some(package.kind), ..item }
    }

    /// What the name says that a snapshot's list has for it.
    fn of_file_name(sha256: Sha256, name: &str) -> Item {
        let item = Item::unknown(sha256);
        let part = |name: &str| name.replace("%3a", ":");
        let deb = |stem: &str| {
            let mut parts = stem.splitn(3, '_').map(part);
            Some((parts.next()?, parts.next()?, parts.next().unwrap_or_else(|| "source".into())))
        };
        let rpm = |stem: &str| {
            let (rest, arch) = stem.rsplit_once('.')?;
            let (rest, release) = rest.rsplit_once('-')?;
            let (name, version) = rest.rsplit_once('-')?;
            Some((name.to_string(), part(&format!("{version}-{release}")), arch.to_string()))
        };
        let known = match name.rsplit_once('.') {
            Some((stem, "deb")) => deb(stem).map(|id| (Kind::Deb, id)),
            Some((stem, "udeb")) => deb(stem).map(|id| (Kind::Udeb, id)),
            Some((stem, "dsc")) => deb(stem).map(|id| (Kind::Source, id)),
            Some((stem, "rpm")) => rpm(stem).map(|id| (if ["src", "nosrc"].contains(&&*id.2) { Kind::SourceRpm } else { Kind::Rpm }, id)),
            _ => None,
        };
        match known {
            Some((kind, (name, version, arch))) => Item { kind: Some(kind), ..item.called(&name, &version, &arch) },
            None => item.called(name, "", ""),
        }
    }

    /// Name, version and architecture for messages.
    pub fn shown(&self) -> String {
        [&self.name, &self.version, &self.arch].map(String::as_str).join(" ").trim_end().to_string()
    }

    fn is_rpm(&self) -> bool {
        self.kind.is_some_and(Kind::is_rpm)
    }

    /// By name, version as its package manager compares it, architecture.
    pub fn order(&self, other: &Item) -> Ordering {
        let by_version = || match self.is_rpm() {
            true => rpm::compare_evr(&self.version, &other.version),
            false => version::compare(&self.version, &other.version),
        };
        let by_name = self.name.cmp(&other.name).then_with(|| self.is_rpm().cmp(&other.is_rpm()));
        by_name.then_with(by_version).then_with(|| (&self.arch, self.sha256).cmp(&(&other.arch, other.sha256)))
    }
}

impl Listing {
    /// The packages that any of the patterns means; all where there is none.
    pub fn select(&self, patterns: &[Pattern]) -> Vec<&Item> {
        let is_meant = |item: &&Item| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(item));
        self.items.iter().filter(is_meant).collect()
    }

    /// The same, where each pattern has to mean something. `place` says in messages where the packages are, such as
    /// `channel main`.
    ///
    /// # Errors
    /// A pattern means none of them; the hint names what is near.
    pub fn meant(&self, patterns: &[Pattern], place: &str) -> Result<Vec<&Item>> {
        let all: Vec<&Item> = self.items.iter().collect();
        match patterns.iter().find(|pattern| !all.iter().any(|item| pattern.matches(item))) {
            Some(pattern) => Err(pattern.nothing(&all, place)),
            None => Ok(self.select(patterns)),
        }
    }
}

impl Repository {
    /// The state of a channel that has to be there.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be read.
    pub fn channel_there(&self, name: &str) -> Result<Arc<Channel>> {
        self.channels.get(name)?.ok_or_else(|| {
            let names = self.channels.names().unwrap_or_default();
            let all = match names.is_empty() {
                true => "there is no channel yet; `twostage repo` or `twostage publish FILES` makes one".to_string(),
                false => format!("there are {}", names.join(", ")),
            };
            let near = near_miss(name, names.iter().map(String::as_str));
            Error::new(Class::Repository, format!("there is no channel {name}")).hint(near.unwrap_or(all))
        })
    }

    /// The packages of the repository, with the channels and the number of snapshots that each is in.
    ///
    /// # Errors
    /// There is no such channel, or it cannot be read; or the machine says no. Another channel or a snapshot that cannot be
    /// read is no error but one of [`Listing::problems`].
    pub fn listing(&self, scope: Scope<'_>) -> Result<Listing> {
        let mut problems = Vec::new();
        let mut places: DigestMap<BTreeMap<String, BTreeSet<String>>> = DigestMap::default();
        if let Scope::Channel(name) = scope {
            self.channel_there(name)?;
        }
        for name in self.channels.names()? {
            let channel = match self.channels.get(&name) {
                Ok(Some(channel)) => channel,
                Ok(None) => continue,
                Err(error) if error.is_unread() => return Err(error),
                Err(error) => {
                    problems.push(error);
                    continue;
                }
            };
            for (group, members) in &channel.members {
                for digest in members {
                    places.entry(*digest).or_default().entry(name.clone()).or_default().insert(group.clone());
                }
            }
        }
        let mut wanted: DigestSet = places.keys().copied().collect();
        match scope {
            Scope::Channels => {}
            Scope::Channel(name) => wanted.retain(|digest| places[digest].contains_key(name)),
            Scope::Pool => wanted.extend(self.pool.catalog.known()?.iter().map(|entry| entry.sha256)),
        }
        let mut found = self.items_of(&wanted)?;
        let mut counts: DigestMap<usize> = DigestMap::default();
        problems.extend(self.each_listed(|_, digest, _| {
            if wanted.contains(&digest) {
                *counts.entry(digest).or_default() += 1;
            }
        })?);
        for item in &mut found {
            item.channels = places.remove(&item.sha256).unwrap_or_default();
            item.snapshots = counts.get(&item.sha256).copied().unwrap_or_default();
        }
        Ok(Listing { items: found, problems })
    }

    /// What packages are called, in the order of an index; nothing of where they are. Those that the catalog does not know
    /// are read, and what cannot be is named by the snapshots' lists.
    pub(crate) fn items_of(&self, digests: &DigestSet) -> Result<Vec<Item>> {
        let (mut items, mut lost) = (Vec::with_capacity(digests.len()), DigestSet::default());
        for (digest, entry) in self.pool.catalog.get_all(digests.iter())? {
            match entry {
                Some(entry) => items.push(Item::of_entry(&entry)),
                None => match self.pool.package_or_described(&digest) {
                    Ok(package) => items.push(Item::of_package(&package)),
                    Err(error) if error.is_unread() => return Err(error),
                    Err(_) => drop(lost.insert(digest)),
                },
            }
        }
        if !lost.is_empty() {
            // (A name that cannot be found out is no reason to say nothing.)
            let _ = self.each_listed(|_, digest, name| {
                if lost.remove(&digest) {
                    items.push(Item::of_file_name(digest, name));
                }
            })?;
            items.extend(lost.into_iter().map(Item::unknown));
        }
        items.iter_mut().for_each(|item| item.present = self.pool.pool_path(&item.sha256).is_file());
        items.sort_by(Item::order);
        Ok(items)
    }

    /// Goes through the lists of all snapshots on disk: the snapshot, and each of its packages with the name that it has
    /// there. Gives what cannot be read.
    pub(crate) fn each_listed(&self, mut each: impl FnMut(&SnapshotId, Sha256, &str)) -> Result<Vec<Error>> {
        let mut problems = Vec::new();
        for id in self.snapshots.ids()? {
            let path = self.root.join("snapshots").join(id.to_string()).join("SHA256SUMS");
            let list =
                fs::read(&path).map_err(|cause| Error::new(Class::Repository, format!("cannot read {}", path.display())).because(cause));
            match list {
                Ok(list) if Sha256::of(&list) == id.0 => {
                    let lines = list.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.split_once("  "));
                    lines.for_each(|(digest, name)| drop(digest.parse().map(|digest| each(&id, digest, name))));
                }
                Err(error) if error.is_unread() => return Err(error),
                // One that somebody removed since the folder was read is none.
                Err(_) if disk::named(&self.root.join("snapshots").join(id.to_string()))?.is_none() => {}
                Err(error) => problems.push(error),
                Ok(_) => problems.push(
                    Error::new(Class::Repository, format!("{} is not the list that it was", path.display()))
                        .hint("`twostage channel --repair` makes the snapshots of every channel anew from the pool"),
                ),
            }
        }
        Ok(problems)
    }

    /// What packages say of themselves in a line, and in more of them: what the catalog has in apt's and yum's indexes. Empty
    /// for what says nothing.
    ///
    /// # Errors
    /// The machine does not let the catalog be read.
    pub fn descriptions(&self, items: &[&Item]) -> Result<Vec<(String, String)>> {
        let entries = self.pool.catalog.get_all(items.iter().map(|item| &item.sha256))?;
        let key = self.signing.signer()?.unwrap_or_default();
        let packs = self.pool.catalog.packs()?;
        let described = entries
            .into_iter()
            .map(|(digest, entry)| {
                let (entry, packs) = (entry?, packs.as_ref()?);
                let mut text = Vec::new();
                if !entry.kind.is_rpm() {
                    packs.read(Pack::Paragraphs, &[entry.paragraph], |part| text.extend_from_slice(part)).ok()?;
                    return Some(of_paragraph(&String::from_utf8_lossy(&text)));
                }
                let rendered = self.pool.catalog.rendered(&[&entry], &key).ok()?.pop().flatten();
                let Some(rendered) = rendered else {
                    let (_, header) = self.signing.head(&*self.pool.package(&digest).ok()?).ok()?;
                    let header = rpm::Header::parse(&header).ok()?;
                    let text = |tag| header.text(tag).unwrap_or_default();
                    return Some((text(rpm::tag::SUMMARY), text(rpm::tag::DESCRIPTION)));
                };
                packs.read(Pack::Primary, &rendered.texts[..1], |part| text.extend_from_slice(part)).ok()?;
                let text = String::from_utf8_lossy(&text);
                Some((element(&text, "summary"), element(&text, "description")))
            })
            .map(Option::unwrap_or_default);
        Ok(described.collect())
    }
}

/// The description in a paragraph of apt's index.
fn of_paragraph(text: &str) -> (String, String) {
    let is_it = |line: &&str| line.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("description:"));
    let mut lines = text.lines().skip_while(|line| !is_it(line));
    let first = lines.next().and_then(|line| line.get(12..)).unwrap_or_default().trim().to_string();
    let more: Vec<&str> = lines.take_while(|line| line.starts_with([' ', '\t'])).map(|line| line.trim_start().trim_end()).collect();
    (first, more.iter().map(|line| if *line == "." { "" } else { line }).collect::<Vec<_>>().join("\n"))
}

/// The text of an element in yum's primary file.
fn element(text: &str, name: &str) -> String {
    let inside = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    let inside = inside.map(|(inside, _)| inside).unwrap_or_default();
    quick_xml::escape::unescape(inside).map_or_else(|_| inside.to_string(), |text| text.into_owned()).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_package_is_called_what_a_snapshots_list_calls_it() {
        let read = |name: &str| {
            let item = Item::of_file_name(Sha256::of(b""), name);
            (item.shown(), item.kind)
        };
        for (name, shown, kind) in [
            ("greet_1%3a1.0-1_amd64.deb", "greet 1:1.0-1 amd64", Kind::Deb),
            ("di_1_all.udeb", "di 1 all", Kind::Udeb),
            ("greet_1.0-1.dsc", "greet 1.0-1 source", Kind::Source),
            ("a-b-2%3a1.0-1.el9.x86_64.rpm", "a-b 2:1.0-1.el9 x86_64", Kind::Rpm),
            ("a-1.0-1.src.rpm", "a 1.0-1 src", Kind::SourceRpm),
        ] {
            assert_eq!(read(name), (shown.to_string(), Some(kind)));
        }
        assert_eq!(read("ab12-comps.xml"), ("ab12-comps.xml".to_string(), None));
        assert_eq!(read("odd.rpm"), ("odd.rpm".to_string(), None));
    }

    #[test]
    fn descriptions_are_read_from_the_indexes() {
        let text = "Package: a\nDescription: one line\n and more\n .\n  indented\nFilename: x\n";
        assert_eq!(of_paragraph(text), ("one line".to_string(), "and more\n\nindented".to_string()));
        assert_eq!(of_paragraph("Package: a\n"), (String::new(), String::new()));
        assert_eq!(element("<a><summary>x &amp; y</summary></a>", "summary"), "x & y");
        assert_eq!(element("<a/>", "summary"), "");
    }
}

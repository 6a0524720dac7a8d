//! The names that were ever published: within a suite, one name, version and architecture is one content, for ever.
//!
//! ```text
//! names       "<sha256>  <file name>", a line each; of a channel with a suite "<sha256>  <suite>/<file name>"
//! names.again a digest of what follows, and what `names` had when snapshots were freed last
//! names.sum   "<bytes> <sha256> <sha256>": what the file had when it was last added to, and a digest of where the
//!             channels pointed then
//! ```
//!
//! Lines are appended *after* the pointer swap, so that a publish that fails reserves no name. What a crash
//! kept from being appended is what some channel points to right now, and `names.sum` has another digest then; that is
//! appended first by the next who publishes. Where `names` is not what `names.sum` says, it is made anew from the lists of all snapshots,
//! each of which is checked by its own name.

use crate::catalog::Entry;
use crate::folder::RepositoryFolder;
use crate::snapshot::list;
use crate::{Channels, Repository, disk};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, DigestSet, Error, Hasher, Manifest, Result, Sha256, SnapshotId};

impl Repository {
    /// Refuses a name-version-architecture that a channel of this suite published with other content. Returns
    /// those that none published yet. `there` are packages that a channel of it has right now.
    pub(crate) fn check_names(&self, entries: &[Arc<Entry>], there: Option<&DigestSet>, suite: Option<&str>) -> Result<Vec<Arc<Entry>>> {
        if let Some(new) = self.names.new_names(entries, there, suite)? {
            return Ok(new);
        }
        let (mut present, mut all_read) = (BTreeMap::new(), true);
        for name in self.channels.names()? {
            // A broken channel stands in nobody's way; its names are among those of the snapshots.
            let Ok(Some(channel)) = self.channels.get(&name) else {
                all_read = false;
                continue;
            };
            let listed = match self.snapshots.info(&channel.snapshot) {
                Ok(Some(info)) => Some(info.manifest),
                // A damaged snapshot is mended by publishing it again, so this must not stand in the way.
                _ => self.pool.entries(channel.members.values().flatten()).and_then(|entries| list(&entries)?.parse::<Manifest>()).ok(),
            };
            match listed {
                Some(listed) => present.extend(listed.files().map(|(name, digest)| (bound(channel.suite.as_deref(), name), digest))),
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
        self.names.add_names(&lines(lost))?;
        let mut new = Vec::new();
        for entry in entries {
            match names.get(&bound(suite, &entry.file_name())) {
                Some(earlier) if *earlier != entry.sha256 => return Err(taken(entry, earlier, suite)),
                Some(_) => {}
                None => new.push(Arc::clone(entry)),
            }
        }
        Ok(new)
    }

    /// Every name with its content, made anew where that is needed. `present` is what channels point to now.
    fn names(&self, present: &BTreeMap<String, Sha256>, all_channels: bool) -> Result<HashMap<String, Sha256>> {
        let path = self.names.names_path();
        // A line without its end was torn by a crash; `add_names` overwrites it.
        let read = match disk::read(&path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.is_unread() => return Err(error),
            Err(_) => Vec::new(),
        };
        let parsed = parse(whole_lines(&read));
        let as_written = self.names.sum().is_some_and(|sum| sum.of(&read));
        let agrees = |names: &HashMap<String, Sha256>| present.iter().all(|(name, digest)| names.get(name).is_none_or(|d| d == digest));
        if all_channels
            && as_written
            && let Some(names) = &parsed
            && agrees(names)
        {
            return Ok(parsed.unwrap_or_default());
        }
        // Nothing was ever published: not even by somebody who was killed.
        if present.is_empty() && all_channels && read.is_empty() && !disk::is_folder(&self.root.join("history"))? {
            self.names.write_sum(&[])?;
            return Ok(HashMap::new());
        }
        let mut names: BTreeMap<String, Sha256> = lossy(whole_lines(&read)).collect();
        let (snapshots, unread) = self.lists()?;
        let again = self.names.names_again()?;
        let suites = self.suites()?;
        // Of a snapshot that no channel remembers it is not known for which suite it was. What is bound already is not
        // bound for the others by it.
        let has_suites = suites.values().flatten().any(Option::is_some);
        let all = names.values().copied().chain(again.iter().map(|(_, digest)| *digest));
        let known: HashSet<Sha256> = if has_suites { all.collect() } else { HashSet::new() };
        for (id, list) in &snapshots {
            for (name, digest) in list.files() {
                match suites.get(id) {
                    Some(suites) => names.extend(suites.iter().map(|suite| (bound(suite.as_deref(), name), digest))),
                    None if known.contains(&digest) => {}
                    None => drop(names.insert(name.to_string(), digest)),
                }
            }
        }
        names.extend(again);
        names.extend(present.iter().map(|(name, digest)| (name.clone(), *digest)));
        let bytes = lines(names.clone()).into_bytes();
        if bytes != whole_lines(&read) {
            disk::write(self.root.scratch()?, &path, &bytes)?;
        }
        self.names.write_sum(&bytes)?;
        if parsed.is_none() || !as_written {
            let unread = if unread == 0 { String::new() } else { format!("; {unread} of them cannot be read") };
            self.root.mend(format!("the list of published names was made anew from {} snapshots{unread}", snapshots.len()));
        }
        Ok(names.into_iter().collect())
    }

    /// For which suites the snapshots are that channels remember.
    fn suites(&self) -> Result<BTreeMap<SnapshotId, BTreeSet<Option<String>>>> {
        let mut suites: BTreeMap<SnapshotId, BTreeSet<Option<String>>> = BTreeMap::new();
        for name in self.channels.names()? {
            if let Ok(Some(channel)) = self.channels.get(&name) {
                suites.entry(channel.snapshot).or_default().insert(channel.suite.clone());
            }
            for state in self.channels.states(&name)? {
                suites.entry(state.snapshot).or_default().insert(state.suite);
            }
        }
        Ok(suites)
    }

    /// The lists of all snapshots on disk, and how many cannot be read.
    fn lists(&self) -> Result<(Vec<(SnapshotId, Manifest)>, usize)> {
        let (mut lists, mut unread) = (Vec::new(), 0);
        for id in self.snapshots.ids()? {
            let path = self.root.join("snapshots").join(id.to_string()).join("SHA256SUMS");
            // Without one that is whole, names would be lost that nothing else has.
            let list = disk::usable(disk::read(&path))?.flatten().filter(|list| Sha256::of(list) == id.0);
            match list.and_then(|list| String::from_utf8(list).ok()?.parse::<Manifest>().ok()) {
                Some(list) => lists.push((id, list)),
                None => unread += 1,
            }
        }
        Ok((lists, unread))
    }
}

/// The list of names that channels ever published.
pub(crate) struct PublishedNames {
    root: Arc<RepositoryFolder>,
    channels: Arc<Channels>,
    /// The digests in it.
    published: disk::Cache<(), HashSet<Sha256>>,
}

impl PublishedNames {
    pub(crate) fn new(root: &Arc<RepositoryFolder>, channels: &Arc<Channels>) -> PublishedNames {
        PublishedNames { root: Arc::clone(root), channels: Arc::clone(channels), published: disk::Cache::default() }
    }

    /// [`Repository::check_names`] where nothing was lost since the last publish: only those are looked for that no channel
    /// has. Nothing where that is not known.
    fn new_names(&self, entries: &[Arc<Entry>], there: Option<&DigestSet>, suite: Option<&str>) -> Result<Option<Vec<Arc<Entry>>>> {
        let mut new: BTreeMap<String, &Arc<Entry>> = entries
            .iter()
            .filter(|entry| !there.is_some_and(|there| there.contains(&entry.sha256)))
            .map(|entry| (bound(suite, &entry.file_name()), entry))
            .collect();
        let Some(sum) = self.sum().filter(|sum| sum.pointers.is_some_and(|pointers| Some(pointers) == self.pointers())) else {
            return Ok(None);
        };
        let bytes = match disk::read(&self.names_path()) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.is_unread() => return Err(error),
            Err(_) => return Ok(None),
        };
        if bytes.len() != sum.size || !sum.of(&bytes) {
            return Ok(None);
        }
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some((digest, Ok(name))) = line.split_at_checked(NAME_AT).map(|(digest, name)| (digest, std::str::from_utf8(name))) else {
                continue;
            };
            if new.contains_key(name)
                && let Some(entry) = new.remove(name)
            {
                let earlier = std::str::from_utf8(digest).ok().and_then(|digest| digest.trim_end().parse::<Sha256>().ok());
                match earlier {
                    Some(earlier) if earlier == entry.sha256 => {}
                    Some(earlier) => return Err(taken(entry, &earlier, suite)),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(new.into_values().map(Arc::clone).collect()))
    }

    /// A digest of where the channels point; nothing where that cannot be read.
    fn pointers(&self) -> Option<Sha256> {
        let mut hasher = Hasher::default();
        for name in self.channels.names().ok()? {
            // A channel's file begins with its snapshot and its date.
            let mut start = Vec::new();
            File::open(self.channels.channel_path(&name)).ok()?.take(POINTER).read_to_end(&mut start).ok()?;
            hasher.field(name.as_bytes());
            hasher.field(&start);
        }
        Some(hasher.finish())
    }

    /// Whether a channel ever published a package. One that it publishes right now may not be in `names` yet.
    pub(crate) fn was_published(&self, digest: &Sha256) -> Result<bool> {
        let digests = |bytes: &[u8]| Ok(lossy(whole_lines(bytes)).map(|(_, digest)| digest).collect());
        // What is damaged names nothing; the next publish makes it anew.
        let published = disk::usable(self.published.get(&(), &self.names_path(), digests))?.flatten();
        Ok(published.is_some_and(|published: Arc<HashSet<Sha256>>| published.contains(digest)))
    }

    /// Adds lines, and notes where the channels point.
    pub(crate) fn add_names(&self, lines: &str) -> Result<()> {
        let path = self.names_path();
        let failed = || format!("cannot write {}", path.display());
        let mut bytes = disk::read(&path)?.unwrap_or_default();
        if lines.is_empty() {
            return self.write_sum(whole_lines(&bytes));
        }
        let end = whole_lines(&bytes).len();
        let made = !path.exists();
        let mut file = File::options().create(true).truncate(false).write(true).open(&path).or_fail(Class::System, failed)?;
        file.set_len(end as u64).or_fail(Class::System, failed)?;
        file.seek(SeekFrom::Start(end as u64)).or_fail(Class::System, failed)?;
        file.write_all(lines.as_bytes()).or_fail(Class::System, failed)?;
        file.sync_all().or_fail(Class::System, failed)?;
        if made {
            disk::sync_folder(self.root.path())?;
        }
        bytes.truncate(end);
        bytes.extend_from_slice(lines.as_bytes());
        self.write_sum(&bytes)
    }

    /// Writes all names once more: those of snapshots that are freed are in no other file.
    pub(crate) fn keep_names_again(&self) -> Result<()> {
        let names = disk::read(&self.names_path())?.unwrap_or_default();
        let mut bytes = format!("{}\n", Sha256::of(whole_lines(&names))).into_bytes();
        bytes.extend_from_slice(whole_lines(&names));
        disk::write(self.root.scratch()?, &self.names_again_path(), &bytes)
    }

    /// The names that there were when snapshots were freed last.
    fn names_again(&self) -> Result<Vec<(String, Sha256)>> {
        let bytes = disk::usable(disk::read(&self.names_again_path()))?.flatten().unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        Ok(lossy(whole_lines(bytes.get(end..).unwrap_or_default())).collect())
    }

    /// Whether `names.again` is as it was written; it is, where it was never.
    pub(crate) fn names_again_is_whole(&self) -> Result<bool> {
        let Some(bytes) = disk::read(&self.names_again_path())? else { return Ok(true) };
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(false) };
        let (digest, rest) = bytes.split_at(end + 1);
        Ok(digest == format!("{}\n", Sha256::of(rest)).as_bytes())
    }

    /// Whether `names` is what it was when it was added to last.
    pub(crate) fn names_are_whole(&self) -> Result<bool> {
        let bytes = disk::read(&self.names_path())?.unwrap_or_default();
        let nothing = bytes.is_empty() && !disk::is_folder(&self.root.join("history"))?;
        let sum = disk::read(&self.root.join("names.sum"))?.and_then(|bytes| Sum::parse(&bytes));
        Ok(nothing || sum.is_some_and(|sum| sum.of(&bytes)) && parse(whole_lines(&bytes)).is_some())
    }

    pub(crate) fn names_again_path(&self) -> PathBuf {
        self.root.join("names.again")
    }

    fn names_path(&self) -> PathBuf {
        self.root.join("names")
    }

    fn sum(&self) -> Option<Sum> {
        Sum::parse(&fs::read(self.root.join("names.sum")).ok()?)
    }

    fn write_sum(&self, names: &[u8]) -> Result<()> {
        let pointers = self.pointers().map(|digest| format!(" {digest}")).unwrap_or_default();
        let text = format!("{} {}{pointers}\n", names.len(), Sha256::of(names));
        if fs::read(self.root.join("names.sum")).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        disk::write(self.root.scratch()?, &self.root.join("names.sum"), text.as_bytes())
    }
}

/// What `names` had when it was last added to; what comes behind was added by who then died.
struct Sum {
    size: usize,
    sha256: Sha256,
    /// Where the channels pointed; not in what was written before there was this.
    pointers: Option<Sha256>,
}

/// Where the name begins in a line: behind a digest and two blanks.
const NAME_AT: usize = 66;
/// Bytes of a channel's file that have its snapshot and its date.
const POINTER: u64 = 110;

/// The name of a package's file as `names` has it: `bookworm/greet_1.0-1_amd64.deb` in a suite. No file's name has a slash.
pub(crate) fn bound(suite: Option<&str>, name: &str) -> String {
    suite.map_or_else(|| name.to_string(), |suite| format!("{suite}/{name}"))
}

fn taken(entry: &Entry, earlier: &Sha256, suite: Option<&str>) -> Error {
    let (name, version, arch) = (entry.name(), entry.version(), entry.arch());
    let place = suite.map(|suite| format!(" in the suite {suite}")).unwrap_or_default();
    let digest = entry.sha256;
    let what = format!("{name} version {version} ({arch}) was published before{place} with other content: then {earlier}, now {digest}");
    Error::new(Class::Repository, what)
        .hint("give the changed package a new version: one name, version and architecture is one content, for ever")
}

impl Sum {
    fn parse(bytes: &[u8]) -> Option<Sum> {
        let mut words = std::str::from_utf8(bytes).ok()?.split_whitespace();
        let (size, sha256) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Sum { size, sha256, pointers: words.next().and_then(|word| word.parse().ok()) })
    }

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

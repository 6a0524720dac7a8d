//! Frees what nothing needs, and says why each other thing stays.
//!
//! ```text
//! what                 needs
//! a channel            its snapshot, and those that it was at before: `snapshots` of them
//! a pin                its snapshot
//! `days`               snapshots that were made since
//! a snapshot           its packages
//! twostage.lock        packages, files of sources, bases
//! builds/NAME/current  the packages and sources of that build
//! a running build      what it serves; what came in the last day and was never published
//! a package            its other files, its signatures, its place in the catalog
//! ```
//!
//! Under the publishers' lock. What points goes first, and durably; then what it pointed to. So a gc that was killed leaves a
//! whole repository with some waste, and the next one finishes. The names that were ever published stay known.

use crate::catalog::Entry;
use crate::catalog::compact::Fill;
use crate::withdraw::removed;
use crate::{Channel, Repository, disk, lock, workers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};

/// What decides beside the repository itself.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// What others need by digest, and who: `twostage.lock`.
    pub digests: BTreeMap<Sha256, String>,
    /// The clock, in seconds since 1970.
    pub now: i64,
    /// What came so many seconds ago and was never published stays: a build may be about to publish it.
    pub grace: i64,
}

/// Seconds that what was never published stays, usually.
pub const GRACE: i64 = 24 * 60 * 60;

/// The kinds of things that are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// An earlier state of a channel.
    State,
    /// The record of a build.
    Build,
    /// A snapshot.
    Snapshot,
    /// A file of the pool.
    Package,
    /// A signature of ours.
    Signature,
    /// Another file that was kept by digest.
    Blob,
}

/// One thing, with its size and why it stays, or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thing {
    /// What it is.
    pub what: What,
    /// What it is called: a snapshot's id, a package's file name, a digest.
    pub name: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Who needs it; empty for what is freed.
    pub why: Vec<String>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    digest: Option<Sha256>,
}

/// What is freed and what stays.
#[derive(Debug, Default)]
pub struct Plan {
    /// What nothing needs, in the order in which it goes.
    pub free: Vec<Thing>,
    /// What stays, and why.
    pub stays: Vec<Thing>,
    /// Bytes of the catalog that nobody needs.
    pub catalog_waste: u64,
    /// Whether the catalog is written anew: more than half of it is waste.
    pub rewrites_catalog: bool,
    trimmed: Vec<(String, Channel)>,
}

impl Plan {
    /// Bytes that are freed.
    pub fn bytes(&self) -> u64 {
        self.free.iter().map(|thing| thing.bytes).sum::<u64>() + if self.rewrites_catalog { self.catalog_waste } else { 0 }
    }

    /// How many things of a kind are freed, and their bytes.
    pub fn freed(&self, what: What) -> (usize, u64) {
        let of = self.free.iter().filter(|thing| thing.what == what);
        (of.clone().count(), of.map(|thing| thing.bytes).sum())
    }

    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty() && !self.rewrites_catalog
    }
}

/// Who needs what, while it is found out.
#[derive(Default)]
struct Marks {
    whys: Vec<String>,
    snapshots: BTreeMap<SnapshotId, Vec<usize>>,
    digests: HashMap<Sha256, Vec<usize>>,
}

impl Marks {
    fn why(&mut self, why: String) -> usize {
        match self.whys.last() == Some(&why) {
            true => self.whys.len() - 1,
            false => {
                self.whys.push(why);
                self.whys.len() - 1
            }
        }
    }

    fn digest(&mut self, digest: Sha256, why: usize) {
        let whys = self.digests.entry(digest).or_default();
        if !whys.contains(&why) {
            whys.push(why);
        }
    }

    fn snapshot(&mut self, id: SnapshotId, members: impl IntoIterator<Item = Sha256>, why: &str) {
        let why = self.why(why.to_string());
        self.snapshots.entry(id).or_default().push(why);
        members.into_iter().for_each(|digest| self.digest(digest, why));
    }

    fn of(&self, digest: &Sha256) -> Vec<String> {
        self.digests.get(digest).map(|whys| self.texts(whys)).unwrap_or_default()
    }

    fn texts(&self, whys: &[usize]) -> Vec<String> {
        let texts: BTreeSet<&str> = whys.iter().filter_map(|why| self.whys.get(*why)).map(String::as_str).collect();
        texts.into_iter().map(String::from).collect()
    }
}

/// What of a build's record counts here.
#[derive(Deserialize)]
struct Build {
    packages: Vec<Sha256>,
    sources: Vec<Sha256>,
}

impl Repository {
    /// What [`Repository::free`] would free now.
    ///
    /// # Errors
    /// A channel, an earlier state or a pin cannot be read, so that it is not known what it needs; or the machine says no.
    pub fn waste(&self, needs: &Needs) -> Result<Plan> {
        let _held = self.root.hold()?;
        self.plan(needs)
    }

    /// Frees what nothing needs, and says what that was. May be run again where it broke off.
    ///
    /// # Errors
    /// As of [`Repository::waste`]; nothing is freed then. Or something cannot be removed.
    pub fn free(&self, needs: &Needs) -> Result<Plan> {
        let _held = self.root.hold()?;
        // The names of what goes are in a file of their own from now on.
        self.check_names(&[], None, None)?;
        let plan = self.plan(needs)?;
        let scratch = self.root.scratch()?;
        for (name, channel) in &plan.trimmed {
            self.channels.write_state(name, channel)?;
        }
        let mut folders = BTreeSet::new();
        for thing in plan.free.iter().filter(|thing| matches!(thing.what, What::State | What::Build)) {
            removed(&thing.path)?;
            folders.extend(thing.path.parent().map(Path::to_path_buf));
        }
        folders.iter().try_for_each(|folder| disk::sync_folder(folder))?;
        let snapshots: Vec<&Thing> = plan.free.iter().filter(|thing| thing.what == What::Snapshot).collect();
        if !snapshots.is_empty() {
            self.names.keep_names_again()?;
            let aside = scratch.folder()?;
            for thing in snapshots {
                // In one step: half a snapshot would be a damaged one.
                let to = aside.path().join(&thing.name);
                fs::rename(&thing.path, to).or_fail(Class::System, || format!("cannot move {} away", thing.path.display()))?;
            }
            disk::sync_folder(&self.root.join("snapshots"))?;
        }
        let packages = plan.free.iter().filter(|thing| thing.what == What::Package);
        let gone: BTreeSet<Sha256> = packages.filter_map(|thing| thing.digest).collect();
        self.pool.catalog.forget(scratch, &gone)?;
        let mut folders = BTreeSet::new();
        for thing in plan.free.iter().filter(|thing| matches!(thing.what, What::Package | What::Signature | What::Blob)) {
            removed(&thing.path)?;
            folders.extend(thing.path.parent());
        }
        // What is said to be freed is free after a power failure, too.
        workers::for_each_waiting(&folders.into_iter().collect::<Vec<_>>(), |folder| disk::sync_folder(folder))?;
        {
            let mut packages = lock(&self.pool.packages);
            gone.iter().for_each(|digest| drop(packages.remove(digest)));
        }
        if plan.rewrites_catalog {
            self.pool.catalog.compact(scratch)?;
        }
        self.root.forget_files(&gone);
        self.pool.remember();
        Ok(plan)
    }

    fn plan(&self, needs: &Needs) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut marks = Marks::default();
        self.mark_channels(&mut marks, &mut plan)?;
        for (id, pin) in self.pins.all()? {
            marks.snapshot(id, pin.members.iter().copied(), &format!("pinned: {}", pin.shown()));
        }
        self.mark_young(&mut marks, needs)?;
        for (digest, who) in &needs.digests {
            let why = marks.why(format!("needed by {who}"));
            marks.digest(*digest, why);
        }
        for snapshot in lock(&self.snapshots.transients).values() {
            let why = marks.why("a running build has it".into());
            snapshot.members.iter().for_each(|digest| marks.digest(*digest, why));
        }
        for digest in lock(&self.pool.unsynced).iter() {
            let why = marks.why("it has just come".into());
            marks.digest(*digest, why);
        }
        let builds = self.mark_builds(&mut marks, needs)?;
        let entries = self.mark_files(&mut marks)?;
        self.sweep_builds(builds, &marks, &mut plan)?;
        self.sweep_snapshots(&marks, &mut plan)?;
        self.sweep_files(&marks, &entries, needs, &mut plan)?;
        plan.free.sort_by(|a, b| (a.what, &a.name).cmp(&(b.what, &b.name)));
        plan.stays.sort_by(|a, b| (a.what, &a.name).cmp(&(b.what, &b.name)));
        let of_packages = plan.free.iter().filter(|thing| thing.what == What::Package);
        let fill: Fill = self.pool.catalog.fill(&of_packages.filter_map(|thing| thing.digest).collect())?;
        plan.catalog_waste = fill.waste();
        plan.rewrites_catalog = fill.waste() > fill.used && fill.waste() > LEAST_WASTE;
        Ok(plan)
    }

    fn mark_channels(&self, marks: &mut Marks, plan: &mut Plan) -> Result<()> {
        for name in self.channels.names()? {
            let Some(mut channel) = self.channels.channel_now(&name).map_err(unknown)? else { continue };
            marks.snapshot(channel.snapshot, channel.members.values().flatten().copied(), &format!("channel {name}"));
            let kept = channel.history.len().min(self.settings.keep);
            let forgotten = channel.history.split_off(kept);
            for earlier in &channel.history {
                let members = self.members_of(&earlier.snapshot).map_err(unknown)?;
                marks.snapshot(earlier.snapshot, members, &format!("history of channel {name}"));
            }
            let dates: BTreeSet<i64> = channel.history.iter().map(|earlier| earlier.date).chain([channel.date]).collect();
            for (path, dated) in self.channels.past_files(&name)?.into_iter().filter(|(_, dated)| !dates.contains(dated)) {
                let bytes = fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
                let shown = format!("{name}, {}", date::release(dated));
                plan.free.push(Thing { what: What::State, name: shown, bytes, why: Vec::new(), path, digest: None });
            }
            if !forgotten.is_empty() {
                plan.trimmed.push((name, channel));
            }
        }
        Ok(())
    }

    fn mark_young(&self, marks: &mut Marks, needs: &Needs) -> Result<()> {
        let days = i64::from(self.settings.retention.days);
        if days == 0 {
            return Ok(());
        }
        let why = format!("made in the last {}", twostage_model::shown::count(self.settings.retention.days, "day"));
        for id in self.snapshots.ids()? {
            // What cannot be read is too old for nobody to say.
            let made = match self.snapshots.stored(&id) {
                Ok(Some(snapshot)) => snapshot.signed.date,
                Err(error) if error.is_unread() => return Err(error),
                _ => needs.now,
            };
            if made > needs.now.saturating_sub(days * 24 * 60 * 60) {
                let members = self.members_of(&id).map_err(unknown)?;
                marks.snapshot(id, members, &why);
            }
        }
        Ok(())
    }

    /// Marks what the builds that are current need, and gives the records of the others.
    fn mark_builds(&self, marks: &mut Marks, needs: &Needs) -> Result<Vec<(String, PathBuf, Option<Build>)>> {
        let root = self.root.join("builds");
        let mut others = Vec::new();
        for component in disk::names(&root)? {
            let folder = root.join(&component);
            if !disk::is_folder(&folder)? {
                continue;
            }
            let current = disk::usable(disk::read(&folder.join("current"))).map_err(unknown)?.flatten();
            let current = current.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_string());
            for name in disk::names(&folder)? {
                let Some(key) = name.strip_suffix(".json") else { continue };
                let path = folder.join(&name);
                let read = disk::read(&path);
                if let Err(error) = &read
                    && error.is_unread()
                {
                    return Err(unknown(read.err().unwrap_or_else(|| Error::new(Class::System, "cannot read"))));
                }
                let build = read.ok().flatten().and_then(|bytes| serde_json::from_slice::<Build>(&bytes).ok());
                let why = match current.as_deref() == Some(key) {
                    true => format!("the last build of {component}"),
                    false if is_young(&path, needs) => format!("a new build of {component}"),
                    false => {
                        others.push((component.clone(), path, build));
                        continue;
                    }
                };
                let why = marks.why(why);
                build.iter().flat_map(|build| build.packages.iter().chain(&build.sources)).for_each(|digest| marks.digest(*digest, why));
            }
        }
        Ok(others)
    }

    /// Marks the other files of the packages that stay, and gives all packages that are known.
    fn mark_files(&self, marks: &mut Marks) -> Result<HashMap<Sha256, Arc<Entry>>> {
        let withdrawn = self.withdrawals.all_withdrawn()?;
        let mut there = Vec::new();
        for digest in marks.digests.keys().filter(|digest| !withdrawn.contains(*digest)) {
            if disk::is_file(&self.pool.pool_path(digest))? {
                there.push(*digest);
            }
        }
        let known: HashMap<Sha256, Arc<Entry>> = self.pool.catalog.known()?.into_iter().map(|entry| (entry.sha256, entry)).collect();
        let mut known = known;
        for digest in there {
            // What the catalog lost says itself which files it has. A source's file is no package, and has none.
            if !known.contains_key(&digest) && self.names.was_published(&digest)? {
                match self.pool.entries_again([digest].iter()) {
                    Ok(entries) => known.extend(entries.into_iter().map(|entry| (digest, entry))),
                    Err(error) => return Err(unknown(error)),
                }
            }
            let files: Vec<Sha256> = known.get(&digest).iter().flat_map(|entry| entry.files.iter().map(|(file, _)| *file)).collect();
            for why in marks.digests.get(&digest).cloned().unwrap_or_default() {
                files.iter().for_each(|file| marks.digest(*file, why));
            }
        }
        Ok(known)
    }

    /// A record of a build that is not the last one stays as long as all that it made does.
    fn sweep_builds(&self, builds: Vec<(String, PathBuf, Option<Build>)>, marks: &Marks, plan: &mut Plan) -> Result<()> {
        for (component, path, build) in builds {
            // One that cannot be read is no record.
            let mut whole = build.is_some();
            for digest in build.iter().flat_map(|build| build.packages.iter().chain(&build.sources)) {
                whole = whole && marks.digests.contains_key(digest) && disk::is_file(&self.pool.pool_path(digest))?;
            }
            let bytes = fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
            let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = format!("{component} {}", key.chars().take(12).collect::<String>());
            let why = if whole { vec!["all that it made is there".to_string()] } else { Vec::new() };
            let thing = Thing { what: What::Build, name, bytes, why, path, digest: None };
            if whole { plan.stays.push(thing) } else { plan.free.push(thing) }
        }
        Ok(())
    }

    fn sweep_snapshots(&self, marks: &Marks, plan: &mut Plan) -> Result<()> {
        // Snapshots share files: one frees what no other has.
        let (mut links, mut going) = (HashMap::<(u64, u64), u64>::new(), Vec::new());
        for id in self.snapshots.ids()? {
            let path = self.root.join("snapshots").join(id.to_string());
            let why = marks.snapshots.get(&id).map(|whys| marks.texts(whys)).unwrap_or_default();
            let mut files = Vec::new();
            walk(&path, &mut |_, meta| files.push((meta.dev(), meta.ino(), meta.nlink(), meta.len())))?;
            let thing = Thing { what: What::Snapshot, name: id.to_string(), bytes: 0, why, path, digest: None };
            if thing.why.is_empty() {
                files.iter().for_each(|(dev, inode, ..)| *links.entry((*dev, *inode)).or_default() += 1);
                going.push((thing, files));
            } else {
                plan.stays.push(Thing { bytes: files.iter().map(|(.., size)| size).sum(), ..thing });
            }
        }
        for (thing, files) in going {
            let mut bytes = 0;
            for (dev, inode, all, size) in files {
                if links.get(&(dev, inode)).is_some_and(|going| *going >= all) {
                    bytes += size;
                    links.remove(&(dev, inode));
                }
            }
            plan.free.push(Thing { bytes, ..thing });
        }
        Ok(())
    }

    fn sweep_files(&self, marks: &Marks, known: &HashMap<Sha256, Arc<Entry>>, needs: &Needs, plan: &mut Plan) -> Result<()> {
        let names: HashMap<Sha256, String> = known.iter().map(|(digest, entry)| (*digest, entry.file_name())).collect();
        let mut gone = BTreeSet::new();
        let mut folders = vec![(What::Package, self.root.join("pool")), (What::Blob, self.root.join("blobs"))];
        for fingerprint in disk::names(&self.root.join("signed"))? {
            folders.push((What::Signature, self.root.join("signed").join(fingerprint)));
        }
        for (what, folder) in folders {
            let mut found = Vec::new();
            walk(&folder, &mut |path, meta| {
                // What has another name is nothing of ours, and is the fsck's to tell.
                let digest = path.file_name().and_then(|name| name.to_str()?.parse::<Sha256>().ok());
                found.extend(digest.map(|digest| (digest, path.to_path_buf(), meta.len())));
            })?;
            for (digest, path, bytes) in found {
                let mut why = marks.of(&digest);
                if why.is_empty() && what == What::Signature && !gone.contains(&digest) && disk::is_file(&self.pool.pool_path(&digest))? {
                    why.push("its package stays".into());
                }
                if why.is_empty() && what != What::Signature && is_young(&path, needs) && !self.names.was_published(&digest)? {
                    why.push("it came in the last day, and a build may be about to publish it".into());
                }
                let name = names.get(&digest).cloned().unwrap_or_else(|| digest.to_string());
                let thing = Thing { what, name, bytes, why, path, digest: Some(digest) };
                if thing.why.is_empty() {
                    if what == What::Package {
                        gone.insert(digest);
                    }
                    plan.free.push(thing);
                } else {
                    plan.stays.push(thing);
                }
            }
        }
        Ok(())
    }
}

/// Bytes of waste that are no reason to write the catalog anew.
const LEAST_WASTE: u64 = 4096;

/// Nothing is freed while it is not known what is needed.
fn unknown(cause: Error) -> Error {
    if cause.is_unread() {
        return cause;
    }
    let hint = format!("`twostage fsck --repair` mends it, or says what is lost: {}", cause.hint_or_class());
    Error::new(Class::Repository, "nothing is freed: it is not known what is needed").because(cause).hint(hint)
}

fn is_young(path: &Path, needs: &Needs) -> bool {
    // One that cannot be looked at may be.
    let is_young = |meta: fs::Metadata| meta.mtime() > needs.now.saturating_sub(needs.grace);
    needs.grace > 0 && disk::named(path).map_or(true, |found| found.is_some_and(is_young))
}

/// Every file below a folder, which need not be there. Links are not followed.
pub(crate) fn walk(folder: &Path, found: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    let failed = || format!("cannot read {}", folder.display());
    for name in disk::names(folder)? {
        let path = folder.join(name);
        let meta = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.or_fail(Class::System, failed)?,
        };
        if meta.is_dir() {
            walk(&path, found)?;
        } else {
            found(&path, &meta);
        }
    }
    Ok(())
}

//! `twostage import-from SOURCE`: the packages that a team has, in folders or in another repository, into a channel.
//!
//! ```text
//! SOURCE ─► what there is ─► what is asked for ─► what the pool lacks ─► pool, durable ─► one publish
//!           tree, apt, yum   --name --arch --newest   by digest            a few at a time
//! ```
//!
//! A run that was ended goes on where it stopped, because what came is in the pool. The channel moves once, at the end.

mod apt;
mod place;
mod tree;
mod yum;

use crate::cli::{ImportFrom, ProjectArgs};
use crate::commands::channel::word;
use crate::commands::publish;
use crate::output::Output;
use crate::session::Session;
use place::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use twostage_beneath::read_bytes;
use twostage_builder::parallel::in_parallel;
use twostage_model::error::OrFail as _;
use twostage_model::shown::{count, size};
use twostage_model::{Class, Error, Result, Sha256};
use twostage_reposerver::foreign::{Keyring, Listed};
use twostage_reposerver::{Item, Pattern, Repository, is_withdrawn};

/// Bytes of a file of keys, at most.
const MAX_KEYS: u64 = 4 << 20;
/// Packages that one thread fetches over one connection before they are made durable, at most; and their bytes.
const RUN: usize = 32;
const RUN_BYTES: u64 = 64 << 20;

/// What there is in a source.
struct Found {
    packages: Vec<Listed>,
    from: From,
}

/// How packages come from it.
enum From {
    /// By an index.
    Index {
        place: Place,
        vouched: Vouched,
        /// Paths are as a URL has them.
        in_urls: bool,
    },
    /// As the files of a folder, each checked whole.
    Tree(tree::Tree),
}

/// Who vouches for an index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Vouched {
    /// The key with this fingerprint.
    Signed(String),
    /// A person, who named the digest of it.
    Pinned,
    /// Nobody: it is a folder of this machine.
    Nobody,
}

/// What the packages of a source are read with.
struct Reading<'a> {
    arguments: &'a ImportFrom,
    keys: Option<Keyring>,
    session: &'a Session,
    output: &'a Output,
    /// `SOURCE`, without a password.
    shown: String,
}

impl Reading<'_> {
    fn note(&self, text: impl Into<String>) {
        self.output.sink().note("import-from", text);
    }
}

pub fn run(arguments: &ImportFrom, project: &ProjectArgs, output: &Output) -> Result<()> {
    let patterns = arguments.name.iter().map(|word| word.parse::<Pattern>()).collect::<Result<Vec<_>>>()?;
    let keys = arguments.keyring.as_deref().map(|path| {
        let bytes = read_bytes(path, MAX_KEYS, Class::Usage)?;
        Keyring::parse(&bytes).or_fail(Class::Usage, || format!("{} is not taken", path.display())).map_err(|error| {
            error.hint("name a file with the public key of whoever signs the source, armored or as `gpg --export` writes it")
        })
    });
    let keys = keys.transpose()?;
    let place = Place::of(&arguments.source)?;
    let session = Session::open(project, output)?;
    let reading = Reading { arguments, keys, session: &session, output, shown: place.shown() };
    let mut found = look(&reading, place)?;
    let all = found.packages.len();
    choose(&mut found.packages, &patterns, arguments.newest.map(|newest| newest as usize))?;
    if found.packages.is_empty() {
        let hint = if all == 0 { "name another source, suite or component" } else { "--name and --arch leave none of them" };
        return Err(Error::new(Class::Repository, format!("there is nothing to import: {} has {}", reading.shown, count(all, "package")))
            .hint(hint));
    }
    if let From::Index { .. } = &found.from {
        check_names(&found.packages)?;
    }
    if arguments.dry_run {
        return tell(&reading, &found);
    }
    let taken = take(&reading, &found)?;
    finish(&reading, &found, &taken)
}

/// Finds out what kind of source it is, and what there is in it.
fn look(reading: &Reading<'_>, place: Place) -> Result<Found> {
    if !reading.arguments.suite.is_empty() {
        return apt::look(reading, place);
    }
    if let Some(repomd) = place.get(yum::REPOMD, yum::MAX_REPOMD)? {
        return yum::look(reading, place, &repomd);
    }
    match place {
        Place::Folder { folder, is_url: false } => tree::look(reading, folder),
        _ => Err(Error::new(Class::Usage, format!("{} is no yum repository: it has no {}", reading.shown, yum::REPOMD))
            .hint("of an apt repository say the suite: --suite bookworm, or --suite ./ where Packages lies beside Release")),
    }
}

/// Leaves what is asked for, each file once, in the order of an index.
fn choose(packages: &mut Vec<Listed>, patterns: &[Pattern], newest: Option<usize>) -> Result<()> {
    for pattern in patterns {
        if !packages.iter().any(|listed| pattern.matches(&listed.item)) {
            let items: Vec<&Item> = packages.iter().map(|listed| &listed.item).collect();
            return Err(pattern.nothing(&items, "the source"));
        }
    }
    packages.retain(|listed| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&listed.item)));
    packages.sort_by(|a, b| a.item.order(&b.item).then_with(|| a.path.cmp(&b.path)));
    packages.dedup_by(|a, b| a.item.sha256 == b.item.sha256 && a.item.order(&b.item).is_eq() && a.path == b.path);
    let Some(newest) = newest else { return Ok(()) };
    // From the newest on, so many versions of each stay.
    let mut versions: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    let mut kept = Vec::new();
    for listed in packages.drain(..).rev() {
        let item = &listed.item;
        let of_name = versions.entry((item.name.clone(), item.arch.clone(), format!("{:?}", item.kind))).or_default();
        if of_name.contains(&item.version) || of_name.len() < newest {
            of_name.insert(item.version.clone());
            kept.push(listed);
        }
    }
    kept.reverse();
    *packages = kept;
    Ok(())
}

/// Refuses two files for one name, version and architecture before any of them is fetched: a repository has one, for ever.
fn check_names(packages: &[Listed]) -> Result<()> {
    let name = |listed: &Listed| (listed.item.name.clone(), listed.item.version.clone(), listed.item.arch.clone(), listed.item.kind);
    for pair in packages.windows(2) {
        if let [a, b] = pair
            && a.item.sha256 != b.item.sha256
            && name(a) == name(b)
        {
            return Err(Error::new(Class::Repository, format!("the source has two packages {}", a.item.shown()))
                .because(format!("{} has the digest {}, and {} has {}", a.path, a.item.sha256, b.path, b.item.sha256))
                .hint(
                    "one name, version and architecture is one content here: import only one of them, by --suite, --component or --name",
                ));
        }
    }
    Ok(())
}

/// Says what an import would do.
fn tell(reading: &Reading<'_>, found: &Found) -> Result<()> {
    let missing = match &found.from {
        From::Index { .. } => Some(missing(&reading.session.repository, &found.packages)?.1),
        From::Tree(_) => None,
    };
    let is_missing = |at: usize| missing.as_ref().is_none_or(|missing| missing.contains(&at));
    let lines: Vec<String> = found
        .packages
        .iter()
        .enumerate()
        .map(|(at, listed)| format!("{}{}", listed.item.shown(), if is_missing(at) { "" } else { "  (in the pool)" }))
        .collect();
    let bytes: u64 = found.packages.iter().enumerate().filter(|(at, _)| is_missing(*at)).map(|(_, listed)| listed.item.size).sum();
    let fetched = missing.as_ref().map_or(found.packages.len(), BTreeSet::len);
    let text = format!(
        "{}\n{}, {} to take in ({}); nothing was changed",
        lines.join("\n"),
        count(found.packages.len(), "package"),
        fetched,
        size(bytes)
    );
    let packages: Vec<_> = found
        .packages
        .iter()
        .enumerate()
        .map(|(at, listed)| {
            let item = &listed.item;
            serde_json::json!({ "name": item.name, "version": item.version, "arch": item.arch, "size": item.size, "missing": is_missing(at) })
        })
        .collect();
    let value =
        serde_json::json!({ "event": "would-import", "source": reading.shown, "packages": packages, "missing": fetched, "bytes": bytes });
    reading.output.result(&text, &value);
    Ok(())
}

/// What came of an import.
#[derive(Default)]
struct Taken {
    /// The packages' names in the pool.
    digests: BTreeSet<Sha256>,
    fetched: usize,
    bytes: u64,
    /// Packages that were left out, and why.
    refused: Vec<(String, String)>,
}

impl Taken {
    fn add(&mut self, more: Taken) {
        self.digests.extend(more.digests);
        self.refused.extend(more.refused);
        self.fetched += more.fetched;
        self.bytes += more.bytes;
    }
}

/// The digests that the pool has already, by those of their files, and the places of what it lacks.
fn missing(repository: &Repository, packages: &[Listed]) -> Result<(BTreeSet<Sha256>, BTreeSet<usize>)> {
    let has_rpms = packages.iter().any(|listed| listed.item.kind.is_some_and(twostage_reposerver::Kind::is_rpm));
    let rpms = if has_rpms { repository.pool().rpms_by_file()? } else { Default::default() };
    let (mut there, mut lacking) = (BTreeSet::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    for (at, listed) in packages.iter().enumerate().filter(|(_, listed)| seen.insert(listed.item.sha256)) {
        let name = rpms.get(&listed.item.sha256).copied().unwrap_or(listed.item.sha256);
        if repository.pool().contains(&name)? {
            there.insert(name);
        } else {
            lacking.insert(at);
        }
    }
    Ok((there, lacking))
}

/// Takes in what the pool lacks.
fn take(reading: &Reading<'_>, found: &Found) -> Result<Taken> {
    let repository = &reading.session.repository;
    let (place, vouched, in_urls) = match &found.from {
        From::Tree(tree) => return tree::take(reading, tree, &found.packages),
        From::Index { place, vouched, in_urls } => (place, vouched, *in_urls),
    };
    if let (Some(keys), true) = (&reading.keys, in_urls) {
        // Clients are told of them where they signed rpms.
        for key in keys.armored()? {
            repository.signing().add_key(&key)?;
        }
    }
    let (there, lacking) = missing(repository, &found.packages)?;
    let mut all = Taken { digests: there, ..Taken::default() };
    let mut wanted = Vec::new();
    for at in lacking {
        let listed = &found.packages[at];
        match repository.withdrawals().get(&listed.item.sha256)? {
            Some(withdrawn) => all.refused.push((listed.item.shown(), withdrawn.error().to_string())),
            None => wanted.push(listed),
        }
    }
    let bytes: u64 = wanted.iter().map(|listed| listed.item.size).sum();
    let run = runs(&wanted);
    let done = AtomicUsize::new(0);
    if !wanted.is_empty() {
        let there = found.packages.len() - wanted.len();
        reading.note(format!(
            "{} to take in ({}); {there} of {} are there",
            count(wanted.len(), "package"),
            size(bytes),
            found.packages.len()
        ));
    }
    let is_vouched = matches!(vouched, Vouched::Signed(_));
    let results = in_parallel(&run, |run| {
        let mut taken = Taken::default();
        let read = place.files(run, in_urls, |listed, input| {
            match repository.ingest_listed(input, &listed.item, is_vouched)? {
                Ok(package) => {
                    package.notes.iter().for_each(|note| reading.note(format!("{}: {note}", package.file_name())));
                    taken.digests.insert(package.sha256);
                    taken.fetched += 1;
                    taken.bytes += listed.item.size;
                }
                Err(error) if reading.may_skip(&error) => taken.refused.push((listed.item.shown(), whole(&error))),
                Err(error) => return Err(error),
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            reading.output.sink().log("import-from", &format!("{done} of {}: {}", wanted.len(), listed.item.shown()));
            Ok(())
        });
        // What came stays, also where something after it failed.
        let synced = repository.pool().sync_incoming();
        read.and(synced).map(|()| taken)
    });
    results.map_err(|error| stopped(reading, error))?.into_iter().for_each(|taken| all.add(taken));
    Ok(all)
}

impl Reading<'_> {
    /// Whether a package that is refused is left out. What was withdrawn is, always: somebody decided that. Of an rpm it is known
    /// only when it is read, because the index has the digest of its file.
    fn may_skip(&self, error: &Error) -> bool {
        is_withdrawn(error) || (self.arguments.skip_refused && error.class() == Class::Repository)
    }
}

/// An error in one line.
fn whole(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

fn stopped(reading: &Reading<'_>, error: Error) -> Error {
    let class = error.class();
    let hint = error.hint_text().map(String::from);
    let stopped = Error::new(class, format!("{} is not imported", reading.shown)).because(error);
    match hint {
        Some(hint) => stopped.hint(hint),
        None if class == Class::Repository => {
            stopped.hint("what came so far is kept; --skip-refused imports the rest without this package, --name only what is named")
        }
        None => stopped.hint("what came so far is kept: run the same command again"),
    }
}

/// Packages in runs of some number and some bytes.
fn runs<'l>(wanted: &[&'l Listed]) -> Vec<Vec<&'l Listed>> {
    let mut all: Vec<Vec<&Listed>> = Vec::new();
    let mut bytes = 0;
    for listed in wanted {
        match all.last_mut() {
            Some(run) if run.len() < RUN && bytes < RUN_BYTES => run.push(listed),
            _ => {
                all.push(vec![listed]);
                bytes = 0;
            }
        }
        bytes += listed.item.size;
    }
    all
}

/// Publishes what is there now, and says so.
fn finish(reading: &Reading<'_>, found: &Found, taken: &Taken) -> Result<()> {
    let session = reading.session;
    for (name, why) in &taken.refused {
        reading.note(format!("{name} is left out: {why}"));
    }
    let channel = reading.arguments.channel.as_ref().unwrap_or(&session.project.repository.channel);
    let published = session.repository.publish(channel, session.now, |members| {
        members.entry(publish::GROUP.to_string()).or_default().extend(&taken.digests);
    })?;
    let signed = match &found.from {
        From::Index { vouched: Vouched::Signed(key), .. } => Some(key.clone()),
        _ => None,
    };
    let mut text = format!("{} of {}", count(taken.digests.len(), "package"), reading.shown);
    if let Some(key) = &signed {
        text.push_str(&format!(", signed by {key}"));
    }
    text.push_str(&format!("; {} taken in ({})", taken.fetched, size(taken.bytes)));
    if !taken.refused.is_empty() {
        text.push_str(&format!("; {} left out", taken.refused.len()));
    }
    text.push_str(&format!("\nchannel {channel}  @{}  {}", published.snapshot.short(), word(&published, "published", reading.output)));
    let refused: Vec<_> = taken.refused.iter().map(|(name, why)| serde_json::json!({ "package": name, "why": why })).collect();
    let value = serde_json::json!({
        "event": "imported-from", "source": reading.shown, "signed_by": signed, "packages": taken.digests.len(), "fetched": taken.fetched,
        "bytes": taken.bytes, "refused": refused, "channel": channel, "snapshot": published.snapshot, "changed": published.changed,
        "mended": published.mended,
    });
    reading.output.result(&text, &value);
    Ok(())
}

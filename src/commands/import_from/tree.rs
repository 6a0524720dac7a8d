//! A folder of packages, whatever its folders mean: those of aptly's pool are digests, those of reprepro's are names.
//!
//! ```text
//! pool/main/g/greet/greet_1.0-1_amd64.deb        reprepro
//! pool/3f/5a/0c…_greet_1.0-1_amd64.deb           aptly: the name of a file is behind a part of its digest
//! ```
//!
//! The files of a source package lie anywhere in it. Links are not followed.

use super::place::outside;
use super::{Found, From, Reading, Taken, whole};
use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::path::Path;
use twostage_beneath::{EntryKind, Folder};
use twostage_builder::parallel::in_parallel;
use twostage_model::error::OrFail as _;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::control::dsc_files;
use twostage_reposerver::foreign::Listed;
use twostage_reposerver::{Item, Kind, Repository};

/// Folders in each other.
const MAX_DEPTH: usize = 32;
/// Files and folders.
const MAX_ENTRIES: usize = 2_000_000;
/// Bytes of a `.dsc`.
const MAX_DSC: u64 = 1 << 20;
/// Packages that are taken in before they are made durable.
const RUN: usize = 64;

/// What there is in a folder and below it.
pub struct Tree {
    folder: Folder,
    /// Files that may belong to a source package: by size, their paths.
    parts: HashMap<u64, Vec<String>>,
}

/// Looks for packages.
///
/// # Errors
/// The folder cannot be read, or has none.
pub fn look(reading: &Reading<'_>, folder: Folder) -> Result<Found> {
    let mut walk = Walk::default();
    walk.go(&folder, "", MAX_DEPTH)?;
    if walk.links > 0 {
        reading.note(format!("{} in {} are not followed: name the folder that they lead to", count(walk.links, "link"), reading.shown));
    }
    if folder.kind("dists").ok().flatten() == Some(EntryKind::Folder) {
        reading.note(format!(
            "{} is an apt repository: this takes the packages of all its suites; --suite NAME takes those of one",
            reading.shown
        ));
    }
    let peeked = in_parallel(&walk.packages, |path| {
        let open = || folder.file(path).map_err(|cause| outside(path, cause));
        let item = match path.ends_with(".dsc") {
            true => {
                let mut text = String::new();
                open()?.take(MAX_DSC).read_to_string(&mut text).or_fail(Class::Repository, || format!("cannot read {path}"))?;
                dsc_files(&text).map(|dsc| Item::of_source(&dsc.source, &dsc.version))
            }
            false => Repository::peek(&mut open()?, Path::new(path)),
        };
        match item {
            Ok(item) => Ok(Ok(Listed { item, path: path.clone() })),
            Err(error) if reading.may_skip(&error) => Ok(Err((path.clone(), whole(&error)))),
            Err(error) => Err(Error::new(error.class(), format!("{path} is not imported")).because(error).hint(SKIP)),
        }
    })?;
    let mut packages = Vec::new();
    for one in peeked {
        match one {
            Ok(listed) if listed.item.kind == Some(Kind::Source) || reading.is_wanted(&listed.item.arch) => packages.push(listed),
            Ok(_) => {}
            Err((path, why)) => reading.note(format!("{path} is left out: {why}")),
        }
    }
    Ok(Found { packages, from: From::Tree(Tree { folder, parts: walk.parts }) })
}

const SKIP: &str = "what came so far is kept; --skip-refused imports the rest without it";

#[derive(Default)]
struct Walk {
    packages: Vec<String>,
    parts: HashMap<u64, Vec<String>>,
    links: usize,
    entries: usize,
}

impl Walk {
    fn go(&mut self, folder: &Folder, path: &str, depth: usize) -> Result<()> {
        let fail = |cause| outside(if path.is_empty() { "the folder" } else { path }, cause);
        for entry in folder.entries().map_err(fail)? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES || depth == 0 {
                let why = if depth == 0 { "its folders are too deep in each other" } else { "it has too many files" };
                return Err(Error::new(Class::Repository, format!("{} cannot be looked through: {why}", folder.path().display()))
                    .hint("name a folder that is nearer to the packages"));
            }
            // (No package of anybody has another name.)
            let Some(name) = entry.name.to_str() else { continue };
            let below = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
            match entry.kind {
                EntryKind::Folder => {
                    let inner = folder.folder(name).map_err(|cause| outside(&below, cause))?;
                    self.go(&inner, &below, depth - 1)?;
                }
                EntryKind::Link => self.links += 1,
                EntryKind::File if [".deb", ".udeb", ".ddeb", ".rpm", ".dsc"].iter().any(|ending| name.ends_with(ending)) => {
                    self.packages.push(below);
                }
                EntryKind::File if name.contains(".tar") || name.ends_with(".asc") || name.contains(".diff") => {
                    self.parts.entry(entry.size).or_default().push(below);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes in the packages, each checked whole.
///
/// # Errors
/// One is no package that every client can install, or cannot be read.
pub fn take(reading: &Reading<'_>, tree: &Tree, packages: &[Listed]) -> Result<Taken> {
    let repository = &reading.session.repository;
    if let Some(keys) = &reading.keys {
        for key in keys.armored()? {
            repository.signing().add_key(&key)?;
        }
    }
    let runs: Vec<&[Listed]> = packages.chunks(RUN).collect();
    let mut all = Taken::default();
    let known = reading.known()?;
    for run in runs {
        let results = in_parallel(run, |listed| match one(reading, tree, listed) {
            Ok(package) => Ok(Ok(package)),
            Err(error) if reading.may_skip(&error) => Ok(Err((listed.path.clone(), whole(&error)))),
            Err(error) => Err(Error::new(error.class(), format!("{} is not imported", listed.path)).because(error).hint(SKIP)),
        });
        // What came stays, also where something after it failed.
        repository.pool().sync_incoming()?;
        for result in results? {
            match result {
                Ok(package) => {
                    package.notes.iter().for_each(|note| reading.note(format!("{}: {note}", package.file_name())));
                    if all.digests.insert(package.sha256) && !known.contains(&package.sha256) {
                        all.fetched += 1;
                        all.bytes += package.size;
                    }
                }
                Err(refused) => all.refused.push(refused),
            }
        }
        reading.output.sink().log("import-from", &format!("{} of {}", all.digests.len() + all.refused.len(), packages.len()));
    }
    Ok(all)
}

impl Reading<'_> {
    /// What the pool has before anything is taken in.
    fn known(&self) -> Result<BTreeSet<Sha256>> {
        let listing = self.session.repository.listing(twostage_reposerver::Scope::Pool)?;
        Ok(listing.items.into_iter().filter(|item| item.present).map(|item| item.sha256).collect())
    }
}

fn one(reading: &Reading<'_>, tree: &Tree, listed: &Listed) -> Result<std::sync::Arc<twostage_reposerver::PoolPackage>> {
    let repository = &reading.session.repository;
    let open = |path: &str| tree.folder.file(path).map_err(|cause| outside(path, cause));
    if listed.item.kind != Some(Kind::Source) {
        return repository.ingest_opened(open(&listed.path)?, Path::new(&listed.path));
    }
    let mut text = Vec::new();
    open(&listed.path)?.take(MAX_DSC + 1).read_to_end(&mut text).or_fail(Class::Repository, || format!("cannot read {}", listed.path))?;
    let listed_files = dsc_files(&String::from_utf8_lossy(&text))?.files;
    repository.pool().ingest_source_from(&text, &listed.path, |name| {
        let missing = || {
            Error::new(Class::Repository, format!("{name} is nowhere in the source"))
                .hint("name the folder that has all of the source package")
        };
        let file = listed_files.iter().find(|file| file.name == name).ok_or_else(missing)?;
        let of_size = tree.parts.get(&file.size).map(Vec::as_slice).unwrap_or_default();
        let is_it = |path: &&String| {
            let last = path.rsplit('/').next().unwrap_or_default();
            last == name || last.strip_suffix(name).is_some_and(|before| before.ends_with('_'))
        };
        let mut candidates: Vec<&String> = of_size.iter().filter(is_it).collect();
        // Two versions may have files of one name and size.
        if candidates.len() > 1 {
            candidates.retain(|path| open(path).is_ok_and(|file_there| has_digest(file_there, &file.sha256)));
        }
        let path = candidates.first().ok_or_else(missing)?;
        Ok(Box::new(open(path)?))
    })
}

fn has_digest(mut file: std::fs::File, digest: &Sha256) -> bool {
    let mut hasher = Hasher::default();
    std::io::copy(&mut file, &mut hasher).is_ok() && hasher.finish() == *digest
}

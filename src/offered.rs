//! What `publish` was given, as the files that it names.
//!
//! ```text
//! greet_1.0_all.deb        itself; also .udeb, .ddeb, .rpm, .dsc, comps.xml, updateinfo.xml, modules.yaml
//! greet_1.0_amd64.changes  the packages and the .dsc that it lists, which lie beside it
//! a folder                 the packages, .dsc and .changes files in it and below, no link followed
//! KEY.asc                  the key of somebody who signed rpms; only where it is named by itself
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::control::{DscFile, changes_files};

/// A `.changes` is a page of text, as a `.dsc` is.
const MOST_CHANGES: u64 = 1 << 20;
/// Folders in each other, of those that are looked into.
const MOST_FOLDERS: usize = 16;
/// Files in a folder and below it.
const MOST_FILES: usize = 100_000;

/// What is to be published.
#[derive(Debug, Default)]
pub struct Offered {
    /// Keys of those who signed rpms.
    pub keys: Vec<PathBuf>,
    /// In the order of the arguments, each once.
    pub files: Vec<OfferedFile>,
    places: HashMap<PathBuf, usize>,
}

/// A file that is to be published.
#[derive(Debug)]
pub struct OfferedFile {
    pub path: PathBuf,
    /// The `.changes` files that name it, and the digest that they say it has.
    promised: Vec<(PathBuf, Sha256)>,
}

impl OfferedFile {
    /// Whether it is the file that `.changes` files say it is.
    ///
    /// # Errors
    /// It is another.
    pub fn check(&self, digest: &Sha256) -> Result<()> {
        match self.promised.iter().find(|(_, promised)| promised != digest) {
            None => Ok(()),
            Some((changes, promised)) => Err(other_file(&self.path, changes, promised, digest)),
        }
    }
}

fn other_file(path: &Path, changes: &Path, promised: &Sha256, digest: &Sha256) -> Error {
    let what = format!("{} has the digest {digest}, and {} says {promised}", path.display(), changes.display());
    Error::new(Class::Repository, what).hint("fetch or build the upload again")
}

impl Offered {
    /// Finds what the arguments name. A `.changes` is checked against all that it lists.
    ///
    /// # Errors
    /// Something cannot be read, a folder has nothing to publish, or a `.changes` lists what is not beside it.
    pub fn find(arguments: &[PathBuf]) -> Result<Offered> {
        let mut offered = Offered::default();
        for path in arguments {
            if path.is_dir() {
                offered.folder(path)?;
            } else if ending(path) == "asc" {
                offered.keys.push(path.clone());
            } else {
                offered.file(path)?;
            }
        }
        Ok(offered)
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        if ending(path) == "changes" { self.changes(path) } else { self.add(path, None) }
    }

    /// Adds a file, or what is promised of one that is there already.
    fn add(&mut self, path: &Path, promised: Option<(PathBuf, Sha256)>) -> Result<()> {
        let failed = || format!("cannot read {}", path.display());
        let place = path.canonicalize().or_fail(Class::Repository, failed)?;
        // Whoever opens a pipe waits.
        if !place.is_file() {
            return Err(Error::new(Class::Repository, format!("{} is no file", path.display())).hint("name a file, or a folder of them"));
        }
        let index = *self.places.entry(place).or_insert(self.files.len());
        if index == self.files.len() {
            self.files.push(OfferedFile { path: path.to_path_buf(), promised: Vec::new() });
        }
        self.files[index].promised.extend(promised);
        Ok(())
    }

    fn folder(&mut self, folder: &Path) -> Result<()> {
        let mut found = BTreeSet::new();
        walk(folder, MOST_FOLDERS, &mut found)?;
        if found.is_empty() {
            return Err(Error::new(Class::Repository, format!("there is nothing to publish in {}", folder.display()))
                .hint("it needs .deb, .udeb, .rpm, .dsc or .changes files; name keys and files like comps.xml by themselves"));
        }
        found.iter().try_for_each(|path| self.file(path))
    }

    fn changes(&mut self, changes: &Path) -> Result<()> {
        let failed = || format!("cannot read {}", changes.display());
        let mut text = String::new();
        let opened = File::open(changes).or_fail(Class::Repository, failed)?;
        opened.take(MOST_CHANGES + 1).read_to_string(&mut text).or_fail(Class::Repository, failed)?;
        if text.len() as u64 > MOST_CHANGES {
            return Err(Error::new(Class::Repository, format!("{} has more than {MOST_CHANGES} bytes", changes.display())));
        }
        let listed = changes_files(&text).or_fail(Class::Repository, || format!("{} is not published", changes.display()))?;
        let folder = changes.parent().map(Path::to_path_buf).unwrap_or_default();
        for file in listed {
            let path = folder.join(&file.name);
            let whole = fs::metadata(&path).is_ok_and(|there| there.is_file() && there.len() == file.size);
            if !whole {
                let what =
                    format!("{} lists {} with {} bytes, and there is no such file beside it", changes.display(), file.name, file.size);
                return Err(Error::new(Class::Repository, what).hint("publish the .changes from the folder with all of its files"));
            }
            if is_package(&path) {
                self.add(&path, Some((changes.to_path_buf(), file.sha256)))?;
            } else {
                check_other(&path, changes, &file)?;
            }
        }
        Ok(())
    }
}

/// A file that an upload has and a repository has not: `.buildinfo`, logs. (The parts of a source package are taken
/// with its `.dsc`.)
fn check_other(path: &Path, changes: &Path, file: &DscFile) -> Result<()> {
    let failed = || format!("cannot read {}", path.display());
    let mut hasher = Hasher::default();
    io::copy(&mut File::open(path).or_fail(Class::Repository, failed)?, &mut hasher).or_fail(Class::Repository, failed)?;
    let digest = hasher.finish();
    if digest == file.sha256 { Ok(()) } else { Err(other_file(path, changes, &file.sha256, &digest)) }
}

fn walk(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let failed = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).or_fail(Class::Repository, failed)? {
        let entry = entry.or_fail(Class::Repository, failed)?;
        let kind = entry.file_type().or_fail(Class::Repository, failed)?;
        let path = entry.path();
        if kind.is_dir() {
            if depth == 0 {
                return Err(Error::new(Class::Repository, format!("{} is too deep to be looked into", path.display())));
            }
            walk(&path, depth - 1, found)?;
        } else if kind.is_file() && (is_package(&path) || ending(&path) == "changes") {
            found.insert(path);
        }
        if found.len() > MOST_FILES {
            return Err(Error::new(Class::Repository, format!("{} has more than {MOST_FILES} packages", folder.display())));
        }
    }
    Ok(())
}

fn is_package(path: &Path) -> bool {
    matches!(ending(path), "deb" | "udeb" | "ddeb" | "rpm" | "dsc")
}

/// Behind the last dot.
pub fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

//! Names of packages that a base and its distribution have, as this machine has read them itself.
//!
//! A lock comes with its project, and few people read a change to it. So a name that the lock calls free is compared with
//! two lists in the user's cache, where no project writes:
//!
//! ```text
//! $XDG_CACHE_HOME/twostage/names/<digest of the base>-installed      of the base's own package database
//! $XDG_CACHE_HOME/twostage/names/<digest of the base>-distribution   of the distribution's index, as it was here last
//!
//!     twostage names 1 3      how many names follow
//!     bash
//!     jq
//!     zlib1g
//! ```
//!
//! All of these files may be removed.

use crate::base::BaseImage;
use crate::{Context, ROOT, members};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tar::EntryType;
use twostage_engine::{Container, Network, Run};
use twostage_model::names::INCOMING;
use twostage_model::{Class, Error, Format, Result, Sha256};
use twostage_package::{dpkg, rpmdb};

/// Bytes of a list. Debian has 65,000 packages, which takes 1.2 MB.
const MAX_BYTES: u64 = 32 << 20;
/// Bytes of a package database.
const MAX_DATABASE: u64 = 256 << 20;
/// Lists that are kept. Those that were written longest ago go.
const MOST: usize = 64;
/// How old the list of a distribution may be before it is read again where its index is fetched anyway.
const FRESH: Duration = Duration::from_secs(86_400);
/// What the first line of a list starts with. The number of names follows.
const HEAD: &str = "twostage names 1 ";
/// Bytes of a name.
const MAX_NAME: usize = 255;

/// Where a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    /// The base's own package database. It is the same for as long as there is a base of that digest.
    Installed,
    /// The index of its distribution.
    Distribution,
}

type Names = Arc<BTreeSet<String>>;

/// The lists that this machine has.
#[derive(Debug)]
pub struct KnownNames {
    folder: Option<PathBuf>,
    read: Mutex<BTreeMap<(Sha256, List), Names>>,
}

impl KnownNames {
    /// The lists in the user's cache. Without a cache they are kept for this run only.
    pub fn in_cache(cache: Option<PathBuf>) -> KnownNames {
        KnownNames { folder: cache.map(|cache| cache.join("names")), read: Mutex::default() }
    }

    fn path(&self, base: &Sha256, list: List) -> Option<PathBuf> {
        let list = match list {
            List::Installed => "installed",
            List::Distribution => "distribution",
        };
        Some(self.folder.as_ref()?.join(format!("{base}-{list}")))
    }

    /// The names of a list, if this machine has it. A damaged list is none.
    pub(crate) fn get(&self, base: &Sha256, list: List) -> Option<Names> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = read.get(&(*base, list)) {
            return Some(Arc::clone(names));
        }
        let mut text = String::new();
        let file = File::open(self.path(base, list)?).ok()?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).ok()?;
        let names = Arc::new(parse(&text)?);
        read.insert((*base, list), Arc::clone(&names));
        Some(names)
    }

    /// Whether the distribution's list should be read where its index is fetched anyway.
    pub(crate) fn wants_index(&self, base: &Sha256) -> bool {
        if self.get(base, List::Distribution).is_none() {
            return true;
        }
        let Some(path) = self.path(base, List::Distribution) else { return false };
        let age = fs::metadata(path).and_then(|about| about.modified()).map(|time| time.elapsed().unwrap_or(FRESH));
        age.is_ok_and(|age| age >= FRESH)
    }

    /// Keeps a list. If the cache cannot be written, it is kept for this run only.
    pub(crate) fn put(&self, base: &Sha256, list: List, names: BTreeSet<String>) -> Names {
        let names = Arc::new(names);
        let _ = self.write(base, list, &names);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert((*base, list), Arc::clone(&names));
        names
    }

    fn write(&self, base: &Sha256, list: List, names: &BTreeSet<String>) -> io::Result<()> {
        let (Some(folder), Some(path)) = (&self.folder, self.path(base, list)) else { return Ok(()) };
        let mut text = format!("{HEAD}{}\n", names.len());
        names.iter().for_each(|name| text.extend([name, "\n"]));
        if text.len() as u64 > MAX_BYTES {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(INCOMING).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()?;
        self.forget();
        Ok(())
    }

    /// Removes the oldest of more than [`MOST`] files, what a killed run left among them.
    fn forget(&self) {
        let entries = self.folder.iter().flat_map(fs::read_dir).flatten().flatten();
        let mut files: Vec<(SystemTime, PathBuf)> =
            entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        files.sort();
        for (_, path) in files.iter().take(files.len().saturating_sub(MOST)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn parse(text: &str) -> Option<BTreeSet<String>> {
    let (head, rest) = text.split_once('\n')?;
    let count: usize = head.strip_prefix(HEAD)?.parse().ok()?;
    let names: BTreeSet<String> = rest.split_terminator('\n').map(String::from).collect();
    (rest.ends_with('\n') && names.len() == count).then_some(names)
}

/// Whether a word can be a name of a package at all.
pub(crate) fn is_name(word: &str) -> bool {
    !word.is_empty() && word.len() <= MAX_NAME && word.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The names of the packages that a base has installed, by its own package database. No mirror is asked and nothing of
/// the base runs, except where its database is one that only its own rpm can read.
///
/// # Errors
/// The engine does not answer, or neither this program nor the base can read the database.
pub(crate) async fn installed(context: &Arc<Context>, base: &BaseImage) -> Result<Names> {
    if let Some(names) = context.names.get(&base.digest, List::Installed) {
        return Ok(names);
    }
    let format = context.project.format;
    let container = context.engine.create(&base.reference).await?;
    let copied = Database::copy(format, &container).await;
    container.remove().await?;
    let copied = copied?;
    let read = Context::blocking(move || copied.names(format)).await;
    let names = match (read, format) {
        (Ok(names), _) if !names.is_empty() => names,
        (_, Format::Rpm) => rpm_says(context, base).await?,
        (read, Format::Deb) => read?,
    };
    if names.is_empty() {
        // A base without a package manager: there is nothing to keep.
        return Ok(Arc::default());
    }
    Ok(context.names.put(&base.digest, List::Installed, names))
}

/// Asks the base's own rpm, in a container without a network.
async fn rpm_says(context: &Arc<Context>, base: &BaseImage) -> Result<BTreeSet<String>> {
    let cmd = ["rpm", "-qa", "--qf", "%{NAME}\n"].map(String::from);
    let mut names = BTreeSet::new();
    let run = Run { network: Network::None, user: Some(ROOT), ..Run::new(&base.reference, &cmd) };
    let container = context
        .engine
        .run(run, &mut |line| {
            names.extend(Some(line.trim_end()).filter(|name| is_name(name)).map(String::from));
        })
        .await?;
    let status = container.exit_code;
    container.remove().await?;
    if status != 0 {
        return Err(Error::new(Class::Project, format!("rpm cannot say what is installed in {}: it ended with {status}", base.reference))
            .hint("is the base's rpm database whole? `rpm -qa` in a container of it tells"));
    }
    Ok(names)
}

/// The files of a package database, copied out of a container that never started.
#[derive(Default)]
struct Database(BTreeMap<String, Vec<u8>>);

impl dpkg::Files for Database {
    fn read(&self, path: &str) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let below = |path: &String| path.strip_prefix(folder)?.strip_prefix('/').filter(|name| !name.contains('/')).map(String::from);
        self.0.keys().filter_map(below).collect()
    }
}

impl Database {
    async fn copy(format: Format, container: &Container) -> Result<Database> {
        let mut wanted: Vec<String> = Vec::new();
        match format {
            Format::Deb => wanted.extend(["var/lib/dpkg/status", "var/lib/dpkg/status.d"].map(String::from)),
            Format::Rpm => {
                for folder in rpmdb::FOLDERS {
                    // (One of them may be a link to the other: that is one database and not two.)
                    if container.find(&format!("/{folder}")).await?.is_some_and(|found| found.link.is_none()) {
                        wanted.extend(rpmdb::NAMES.map(|name| format!("{folder}/{name}")));
                    }
                }
            }
        }
        let mut files = BTreeMap::new();
        for path in wanted {
            let at = format!("/{path}");
            if container.find(&at).await?.is_none_or(|found| found.link.is_some()) {
                continue;
            }
            let stream = container.copy_out(&at).await?;
            files = Context::blocking(move || copied(stream, &path, files)).await?;
        }
        Ok(Database(files))
    }

    fn names(&self, format: Format) -> Result<BTreeSet<String>> {
        let names: Vec<String> = match format {
            Format::Deb => {
                let database = dpkg::Database::read(self)?.unwrap_or_default();
                database.installed().map(|package| package.name.clone()).collect()
            }
            Format::Rpm => {
                let database = rpmdb::Database::read(self)?.unwrap_or_default();
                database.packages.into_iter().map(|package| package.id.name).collect()
            }
        };
        Ok(names.into_iter().filter(|name| is_name(name)).collect())
    }
}

/// Adds what a tar stream of `path` has: one file, or a folder of files.
fn copied(stream: impl Read, path: &str, mut files: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, Vec<u8>>> {
    let fail = |cause| Error::new(Class::Engine, format!("cannot read /{path} of the base")).because(cause);
    let mut left = MAX_DATABASE.saturating_sub(files.values().map(|file| file.len() as u64).sum());
    members::for_each(stream, fail, |member| {
        if member.kind != EntryType::Regular {
            return Ok(());
        }
        let Some(rest) = left.checked_sub(member.size) else {
            return Err(Error::new(Class::Project, format!("the package database of the base has more than {} MiB", MAX_DATABASE >> 20))
                .hint("take a base with fewer packages"));
        };
        left = rest;
        // The stream's top is the file or the folder itself; some engines leave the folder away.
        let below = member.path.trim_start_matches("./").split_once('/').map(|(_, below)| below.to_string());
        let name = below.map_or_else(|| path.to_string(), |below| format!("{path}/{below}"));
        let mut bytes = Vec::new();
        member.content.read_to_end(&mut bytes).map_err(fail)?;
        files.insert(name, bytes);
        Ok(())
    })?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    #[test]
    fn a_list_is_there_in_the_next_run() {
        let cache = tempfile::tempdir().expect("a folder");
        let (base, other) = (Sha256::of(b"base"), Sha256::of(b"other"));
        let open = || KnownNames::in_cache(Some(cache.path().into()));
        assert!(open().get(&base, List::Distribution).is_none() && open().wants_index(&base));
        open().put(&base, List::Distribution, set(&["jq", "bash"]));
        let names = open();
        assert_eq!(names.get(&base, List::Distribution).as_deref(), Some(&set(&["bash", "jq"])));
        assert!(names.get(&base, List::Installed).is_none() && names.get(&other, List::Distribution).is_none());
        assert!(!names.wants_index(&base), "it is of today");
        let path = names.path(&base, List::Distribution).expect("a path");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "twostage names 1 2\nbash\njq\n");
        let old = SystemTime::now() - FRESH - Duration::from_secs(60);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(old)).expect("it is dated back");
        assert!(open().wants_index(&base) && open().get(&base, List::Distribution).is_some(), "it counts until there is a new one");
        let nowhere = KnownNames::in_cache(None);
        nowhere.put(&base, List::Installed, set(&["jq"]));
        assert!(nowhere.get(&base, List::Installed).is_some(), "this run has it");
    }

    #[test]
    fn a_damaged_list_is_none() {
        let cache = tempfile::tempdir().expect("a folder");
        let base = Sha256::of(b"base");
        let names = || KnownNames::in_cache(Some(cache.path().into()));
        names().put(&base, List::Installed, set(&["bash", "jq"]));
        let path = names().path(&base, List::Installed).expect("a path");
        for text in
            ["", "\n", "twostage names 1 2\nbash\nj", "twostage names 1 2\nbash\n", "twostage names 1 2\nbash\nbash\n", "bash\njq\n"]
        {
            fs::write(&path, text).expect("written");
            assert!(names().get(&base, List::Installed).is_none(), "{text:?}");
        }
        fs::write(&path, b"twostage names 1 1\n\xff\n").expect("written");
        assert!(names().get(&base, List::Installed).is_none());
    }

    #[test]
    fn only_the_newest_lists_are_kept() {
        let cache = tempfile::tempdir().expect("a folder");
        let names = KnownNames::in_cache(Some(cache.path().into()));
        for base in 0..MOST + 5 {
            names.put(&Sha256::of(base.to_string().as_bytes()), List::Installed, set(&["bash"]));
        }
        assert_eq!(fs::read_dir(cache.path().join("names")).expect("a folder").count(), MOST);
    }

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = crate::source::header(0);
            header.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).expect("append");
        }
        tar.into_inner().expect("finish")
    }

    #[test]
    fn what_dpkg_calls_installed_is_read_from_a_copy_of_its_database() {
        let package = |name: &str, status: &str| format!("Package: {name}\nStatus: {status}\nVersion: 1\nArchitecture: amd64\n\n");
        let status = package("bash", "install ok installed") + &package("gone", "deinstall ok config-files");
        let mut files = copied(&tar(&[("status", &status)])[..], "var/lib/dpkg/status", BTreeMap::new()).expect("a file");
        let single = "Package: tzdata\nVersion: 1\nArchitecture: all\n";
        for (folder, name) in [("status.d/", "status.d/tzdata"), ("./status.d/", "./status.d/netbase")] {
            let stream = tar(&[(folder, ""), (name, &single.replace("tzdata", name.rsplit('/').next().unwrap_or_default()))]);
            files = copied(&stream[..], "var/lib/dpkg/status.d", files).expect("a folder");
        }
        assert_eq!(Database(files).names(Format::Deb).expect("a database"), set(&["bash", "netbase", "tzdata"]));
        assert_eq!(Database::default().names(Format::Deb).expect("none"), set(&[]));
        assert_eq!(Database::default().names(Format::Rpm).expect("none"), set(&[]));
    }

    #[test]
    fn a_database_that_never_ends_is_refused() {
        let mut header = crate::source::header(0);
        header.set_entry_type(EntryType::Regular);
        header.set_size(MAX_DATABASE + 1);
        header.set_path("status").expect("a short name");
        header.set_cksum();
        let refused = copied(io::Read::chain(&header.as_bytes()[..], io::repeat(0)), "var/lib/dpkg/status", BTreeMap::new());
        assert_eq!(refused.expect_err("too large").to_string(), "the package database of the base has more than 256 MiB");
    }
}

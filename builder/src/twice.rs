//! A component built twice: whether its packages are the same, byte for byte, although the second build runs under other
//! conditions.
//!
//! ```text
//!               first            again
//! folder        /build/src       /build/again/src (a tree with debian/)
//! host name     builder          elsewhere
//! time zone     UTC              14 hours ahead of it, so that the day may be another one
//! locale        C.UTF-8          POSIX
//! umask         022              002 (rpmbuild has its own)
//! jobs          all processors   1
//! ```
//!
//! Both builds have the same user and the same clock, and neither asks a compiler cache.

use crate::Context;
use crate::bootstrapped::digest_of;
use crate::collect::{Collected, collected_folder};
use crate::component::{ComponentBuild, build_once};
use crate::log::Log;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::packed_files::each_file;

/// The folder of the state with packages that were not the same: `<component>/first` and `<component>/again`.
const DIFFERENT: &str = "different";

/// Builds a component once more, and gives back what the first build left where it left the same.
///
/// # Errors
/// Class `Build`: the second build fails, or it leaves something else; both packages are kept then, and the first file that
/// differs is named.
pub(crate) async fn build_again(build: ComponentBuild<'_>, first: Collected, log: &mut Log) -> Result<Collected> {
    let (context, name) = (build.context, build.component.name.value.clone());
    context.events.started(&name, "building it once more");
    let folder = collected_folder(context)?;
    let again = build_once(build.again(), folder.path(), log).await.map_err(|cause| {
        let hint = cause.hint_text().unwrap_or_default().to_string();
        Error::new(Class::Build, format!("{name}: its second build failed, and the first did not")).because(cause).hint(hint)
    })?;
    let kept = context.state.join(DIFFERENT).join(&name);
    Context::blocking(move || {
        let _folder = folder;
        check_same(&name, &kept, &first, &again.0).map(|()| first)
    })
    .await
}

/// Compares what two builds of a component left. What differs is copied to `kept`.
fn check_same(name: &str, kept: &Path, first: &Collected, again: &Collected) -> Result<()> {
    if kept.exists() {
        fs::remove_dir_all(kept).or_fail(Class::System, || format!("cannot remove {}", kept.display()))?;
    }
    let (first, again) = (files(first)?, files(again)?);
    let refused = |what: String| Error::new(Class::Build, format!("{name} is not the same when it is built again: {what}"));
    // What says it best comes first: packages, then sources, then the files that have their digests.
    let rank = |name: &String| (!is_package(Path::new(name)), name.ends_with(".dsc"));
    let all: BTreeSet<_> = first.keys().chain(again.keys()).map(|name| (rank(name), name)).collect();
    for (_, file) in all {
        let (a, b) = match (first.get(file), again.get(file)) {
            (Some(a), Some(b)) => (a, b),
            (Some(_), None) => return Err(refused(format!("{file} is there only the first time"))),
            _ => return Err(refused(format!("{file} is there only the second time"))),
        };
        if digest(a)? == digest(b)? {
            continue;
        }
        let what = match is_package(a) {
            true => format!("{file}: {}", difference(a, b)?),
            false => format!("{file} differs"),
        };
        let (a, b) = (keep(kept, "first", file, a)?, keep(kept, "again", file, b)?);
        return Err(refused(what).hint(format!(
            "`diffoscope {} {}` shows how; the usual causes are times, random names, the order of a folder, and what several jobs do at once",
            a.display(),
            b.display()
        )));
    }
    Ok(())
}

/// The files that a build left, by name.
fn files(collected: &Collected) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let Some(folder) = collected.packages.iter().chain(&collected.sources).find_map(|path| path.parent()) else { return Ok(files) };
    let failed = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).or_fail(Class::System, failed)? {
        let entry = entry.or_fail(Class::System, failed)?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
    }
    Ok(files)
}

fn digest(path: &Path) -> Result<Sha256> {
    File::open(path).and_then(|mut file| digest_of(&mut file)).or_fail(Class::System, || format!("cannot read {}", path.display()))
}

fn is_package(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["deb", "udeb", "ddeb", "rpm"].iter().any(|package| ending == *package))
}

/// What is in a file of a package: a link, or bytes.
type Content = (Option<String>, Sha256);

/// The first file that differs between two packages; where none does, what else it must be.
fn difference(a: &Path, b: &Path) -> Result<String> {
    let (a, b) = (contents(a)?, contents(b)?);
    let all: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differs = all.into_iter().find(|path| a.get(*path) != b.get(*path));
    Ok(match differs {
        Some(path) if !b.contains_key(path) => format!("/{path} is there only the first time"),
        Some(path) if !a.contains_key(path) => format!("/{path} is there only the second time"),
        Some(path) => format!("/{path} differs"),
        None => "its files are the same, and its control data, scripts, modes or times differ".to_string(),
    })
}

fn contents(package: &Path) -> Result<BTreeMap<String, Content>> {
    let mut files = BTreeMap::new();
    let hint = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let input = File::open(package).or_fail(Class::System, || format!("cannot read {}", package.display()))?;
    each_file(io::BufReader::new(input), &hint, &mut |file, content| {
        let mut hasher = Hasher::default();
        io::copy(content, &mut hasher).map_err(|cause| cause.to_string())?;
        files.insert(file.path, (file.link, hasher.finish()));
        Ok(())
    })?;
    Ok(files)
}

fn keep(folder: &Path, turn: &str, name: &str, file: &Path) -> Result<PathBuf> {
    let folder = folder.join(turn);
    let path = folder.join(name);
    let failed = || format!("cannot write {}", path.display());
    fs::create_dir_all(&folder).or_fail(Class::System, failed)?;
    fs::copy(file, &path).or_fail(Class::System, failed)?;
    Ok(path)
}

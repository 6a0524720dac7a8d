//! Small records that nothing else could make anew, so each is there twice:
//!
//! ```text
//! <folder>/<name>.json
//! <folder>/again/<name>.json   the same bytes, written first and removed last
//! ```
//!
//! While one of the two is whole, the record is there.

use crate::disk::{self, Scratch};
use crate::seal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// The two files of a record: the second is the copy.
pub(crate) fn paths(folder: &Path, name: &str) -> [PathBuf; 2] {
    let file = format!("{name}.json");
    [folder.join(&file), folder.join("again").join(file)]
}

/// The names of the records, whole or not.
pub(crate) fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let all = disk::names(folder)?.into_iter().chain(disk::names(&folder.join("again"))?);
    Ok(all.filter_map(|name| name.strip_suffix(".json").map(String::from)).collect())
}

/// A record; nothing where it is not there.
///
/// # Errors
/// It is there, and neither of its files is whole.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    let mut broken = None;
    for path in paths(folder, name) {
        match read_one(&path) {
            Ok(Some(value)) => return Ok(Some(value)),
            Ok(None) => {}
            Err(error) if error.is_unread() => return Err(error),
            Err(error) => broken = Some(error),
        }
    }
    broken.map_or(Ok(None), Err)
}

/// One of the two files.
pub(crate) fn read_one<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let failed = || Error::new(Class::Repository, format!("{} cannot be used", path.display()));
    let read = disk::read(path).map_err(|cause| failed().because(cause))?;
    read.map(|bytes| seal::open(&bytes).map_err(|cause| failed().because(cause))).transpose()
}

/// Writes a record, durably.
pub(crate) fn write(scratch: &Scratch, folder: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let bytes = seal::close(value)?;
    let [first, again] = paths(folder, name);
    disk::write(scratch, &again, &bytes)?;
    disk::write(scratch, &first, &bytes)
}

/// Removes a record, durably.
pub(crate) fn remove(folder: &Path, name: &str) -> Result<()> {
    for path in paths(folder, name) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // What has its place and is no file.
            Err(_) if path.is_dir() => fs::remove_dir_all(&path),
            other => other,
        }
        .or_fail(Class::System, || format!("cannot remove {}", path.display()))?;
        disk::sync_folder(path.parent().unwrap_or(folder))?;
    }
    Ok(())
}

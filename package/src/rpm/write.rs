//! Writes small packages of plain files: same input, same bytes.

use crate::write::FileEntry;
use twostage_model::{Class, Error, Result};

/// What a generated package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRpm {
    /// Package name.
    pub name: String,
    /// Version, without epoch and release.
    pub version: String,
    /// Release.
    pub release: String,
    /// Architecture, most often `noarch`.
    pub arch: String,
    /// One line.
    pub summary: String,
    /// SPDX expression.
    pub license: String,
    /// Some lines.
    pub description: String,
    /// What it needs: `name`, or `name >= version` with one of `<`, `<=`, `=`, `>=`, `>`.
    pub requires: Vec<String>,
}

/// Writes an rpm of files that belong to root:root. `date` (seconds since 1970) is every time in it.
///
/// # Errors
/// Class `Repository`: a name, path or requirement that the reader would refuse.
pub fn write_rpm(control: &NewRpm, files: &[FileEntry], date: i64) -> Result<Vec<u8>> {
    let _ = (files, date);
    Err(Error::new(Class::Repository, format!("{} cannot be written yet", control.name)))
}

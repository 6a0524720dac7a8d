//! Writes small packages of plain files: same input, same bytes.
//!
//! The payload is not compressed, so that a compressor's next release does not change the bytes.
//! Every rpm reads that: zlib, which it uses when nothing else is said, passes it through.

use crate::write::{FileEntry, plain};
use crate::{Check, shown};
use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder};
use std::collections::BTreeMap;
use twostage_model::{Class, Error, PackageId, Result};

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
    /// Names that it provides besides its own.
    pub provides: Vec<String>,
}

/// Writes an rpm of files that belong to root:root; it owns none of their folders. `date` (seconds
/// since 1970) is every time in it.
///
/// # Errors
/// Class `Repository`: a name or requirement is not valid, a path is not plain or there twice, or a
/// date or mode does not fit its field.
pub fn write_rpm(control: &NewRpm, files: &[FileEntry], date: i64) -> Result<Vec<u8>> {
    let written = write(control, files, date).and_then(|bytes| {
        // What we would refuse from others we do not publish.
        super::read(bytes.as_slice(), &control.name).map_err(|error| error.to_string())?;
        Ok(bytes)
    });
    written.map_err(|why| Error::new(Class::Repository, format!("{} cannot be written: {why}", control.name)))
}

fn write(control: &NewRpm, files: &[FileEntry], date: i64) -> Check<Vec<u8>> {
    let date = u32::try_from(date).map_err(|_| format!("the date {date} does not fit into an rpm"))?;
    let evr = format!("{}-{}", control.version, control.release);
    PackageId::rpm(&control.name, &evr, &control.arch).map_err(|error| error.to_string())?;
    if control.summary.contains('\n') {
        return Err(format!("its summary {} has more than one line", shown(&control.summary)));
    }
    let mut sorted = BTreeMap::new();
    for file in files {
        plain(&file.path)?;
        let mode = u16::try_from(file.mode).ok().filter(|mode| *mode <= 0o7777);
        let mode = mode.ok_or_else(|| format!("{}: the mode {:o} has more than permission bits", file.path, file.mode))?;
        if sorted.insert(file.path.as_str(), (mode, &file.content)).is_some() {
            return Err(format!("{} is there twice", file.path));
        }
    }
    let mut builder = PackageBuilder::new(&control.name, &control.version, &control.license, &control.arch, &control.summary);
    // The room for a signature is the crate's: a signature is set into a header of its own anyhow.
    let config = BuildConfig::v4().compression(CompressionType::None).source_date(date).reserved_space(None);
    builder.using_config(config).release(&control.release).description(&control.description).build_host("twostage.invalid");
    for line in &control.requires {
        builder.requires(requirement(line)?);
    }
    for name in &control.provides {
        PackageId::rpm(name, &evr, &control.arch).map_err(|error| error.to_string())?;
        builder.provides(Dependency::any(name.as_str()));
    }
    for (path, (mode, content)) in sorted {
        let options = FileOptions::new(path).permissions(mode).user("root").group("root");
        builder.with_file_contents(content.as_slice(), options).map_err(|error| error.to_string())?;
    }
    let package = builder.build().map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    package.write(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// `name` or `name operator version`.
fn requirement(line: &str) -> Check<Dependency> {
    let bad = || format!("it requires {}, which is not `name` or `name >= version`", shown(line));
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        // Rich dependencies need spaces, and a feature of rpm's that is declared.
        [name] if word(name) && !name.starts_with('(') => Ok(Dependency::any(*name)),
        [name, operator, version] if word(name) && word(version) && !name.starts_with('(') => match *operator {
            "<" => Ok(Dependency::less(*name, *version)),
            "<=" => Ok(Dependency::less_eq(*name, *version)),
            "=" => Ok(Dependency::eq(*name, *version)),
            ">=" => Ok(Dependency::greater_eq(*name, *version)),
            ">" => Ok(Dependency::greater(*name, *version)),
            _ => Err(bad()),
        },
        _ => Err(bad()),
    }
}

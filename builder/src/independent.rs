//! Which packages of a build's closure can be in its builder image: those that need none of the project's own.
//!
//! ```text
//! closure of app      python3, libc6, python3-yaml ─► libyaml-0-2, which the component libyaml makes
//! builder image       python3, libc6
//! with the build      python3-yaml, libyaml-0-2
//! ```
//!
//! A builder image is one for each set of the distribution's packages, so that a rebuilt library makes no other one.
//! What depends on that library, over however many packages, is installed with it, before each build.

use crate::tools::dependencies;
use crate::{PackageSink, Stored};
use std::collections::BTreeSet;
use std::fs::File;
use twostage_model::error::OrFail as _;
use twostage_model::lock::LockedPackage;
use twostage_model::{Class, Error, Format, Result, Sha256};
use twostage_package::rpm;

/// The packages of a closure that need none of `own`, in their order. One that could do without, because it names an
/// alternative, is left out, too: what is left out is installed all the same.
///
/// # Errors
/// A package of the closure is not in the repository, or an own rpm cannot be read.
pub(crate) fn independent<'a>(
    packages: &dyn PackageSink,
    format: Format,
    closure: &'a [LockedPackage],
    own: &[Stored],
) -> Result<Vec<&'a LockedPackage>> {
    if own.is_empty() {
        return Ok(closure.iter().collect());
    }
    let mut members = Vec::new();
    for locked in closure {
        let stored = packages.get(&locked.sha256)?;
        members.push(stored.ok_or_else(|| Error::new(Class::Repository, format!("{} is not in the repository", locked.id)))?);
    }
    let mut given: BTreeSet<String> = own.iter().flat_map(|package| names(format, package)).collect();
    if format == Format::Rpm && members.iter().any(|member| needs(format, member).any(|name| name.starts_with('/'))) {
        for package in own {
            given.extend(paths(packages, &package.sha256)?);
        }
    }
    let mut left: Vec<(&LockedPackage, &Stored)> = closure.iter().zip(&members).collect();
    loop {
        let (bound, free): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, member)| needs(format, member).any(|name| given.contains(name)));
        left = free;
        if bound.is_empty() {
            return Ok(left.into_iter().map(|(locked, _)| locked).collect());
        }
        given.extend(bound.iter().flat_map(|(_, member)| names(format, member)));
    }
}

/// What a package is found by: its name, and what it provides.
fn names(format: Format, package: &Stored) -> Vec<String> {
    let (separator, bare_name) = dependencies(format);
    let provided = package.fields.get("Provides").into_iter().flat_map(|provides| provides.split(separator));
    let provided = provided.map(|clause| bare_name(clause.trim()).to_string());
    provided.chain([package.id.name.clone()]).filter(|name| !name.is_empty()).collect()
}

/// The names in what a package needs, those of alternatives too.
fn needs(format: Format, package: &Stored) -> impl Iterator<Item = &str> {
    let (separator, bare_name) = dependencies(format);
    let fields: &[&str] = match format {
        Format::Deb => &["Pre-Depends", "Depends"],
        Format::Rpm => &["Requires"],
    };
    let clauses = fields.iter().filter_map(|field| package.fields.get(*field)).flat_map(move |clauses| clauses.split(separator));
    clauses.flat_map(move |clause| {
        // Of `(a >= 1 or b)` each word, as if all of them were names.
        let is_rich = format == Format::Rpm && clause.trim().starts_with('(');
        let words = clause.split(move |c: char| if is_rich { c.is_whitespace() || "()".contains(c) } else { c == '|' });
        words.map(move |word| bare_name(word.trim()))
    })
}

/// The paths of an rpm's files, which others may ask for instead of a name.
fn paths(packages: &dyn PackageSink, digest: &Sha256) -> Result<Vec<String>> {
    let failed = || format!("cannot read the package {digest}");
    let path = packages.blob(digest).ok_or_else(|| Error::new(Class::Repository, failed()))?;
    let file = File::open(path).or_fail(Class::Repository, failed)?;
    let header = rpm::describe(std::io::BufReader::new(file), *digest, 0, "rpm").or_fail(Class::Repository, failed)?.header;
    Ok(rpm::files(&header).into_iter().filter_map(|file| String::from_utf8(file.path).ok()).collect())
}

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

use crate::tools::{names, needs};
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
    let mut given: BTreeSet<String> = own.iter().flat_map(|package| names(format, package)).map(String::from).collect();
    if format == Format::Rpm && members.iter().any(|member| needs(format, member).any(|name| name.starts_with('/'))) {
        for package in own {
            given.extend(paths(packages, &package.sha256)?);
        }
    }
    let free = free_of(format, &members, given);
    Ok(closure.iter().zip(free).filter(|(_, is_free)| *is_free).map(|(locked, _)| locked).collect())
}

/// Of each package whether it needs, over however many others, nothing that is given.
fn free_of(format: Format, members: &[Stored], mut given: BTreeSet<String>) -> Vec<bool> {
    let mut free = vec![true; members.len()];
    loop {
        let bound: Vec<usize> =
            (0..members.len()).filter(|at| free[*at] && needs(format, &members[*at]).any(|name| given.contains(name))).collect();
        if bound.is_empty() {
            return free;
        }
        for at in bound {
            free[at] = false;
            given.extend(names(format, &members[at]).map(String::from));
        }
    }
}

/// The paths of an rpm's files, which others may ask for instead of a name.
fn paths(packages: &dyn PackageSink, digest: &Sha256) -> Result<Vec<String>> {
    let failed = || format!("cannot read the package {digest}");
    let path = packages.blob(digest).ok_or_else(|| Error::new(Class::Repository, failed()))?;
    let file = File::open(path).or_fail(Class::Repository, failed)?;
    let header = rpm::describe(std::io::BufReader::new(file), *digest, 0, "rpm").or_fail(Class::Repository, failed)?.header;
    Ok(rpm::files(&header).into_iter().filter_map(|file| String::from_utf8(file.path).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::tests::own;
    use std::collections::BTreeMap;

    fn free(format: Format, members: &[Stored], given: &[&str]) -> Vec<String> {
        let free = free_of(format, members, given.iter().map(|name| (*name).to_string()).collect());
        members.iter().zip(free).filter(|(_, free)| *free).map(|(member, _)| member.id.name.clone()).collect()
    }

    #[test]
    fn what_needs_a_package_of_ours_waits_for_it_and_so_does_what_needs_that() {
        let members = [
            own("python3", "libc6 (>= 2.36), mime-support | mailcap"),
            own("python3-yaml", "python3 (>= 3.11~), libyaml-0-2:amd64 (>= 0.2.2)"),
            own("yamllint", "python3-yaml (>= 3), python3:any"),
            own("reader", "libjson1 | libyaml-0-2"),
        ];
        assert_eq!(free(Format::Deb, &members, &["libyaml-0-2"]), ["python3"]);
        assert_eq!(free(Format::Deb, &members, &["libyaml"]), ["python3", "python3-yaml", "yamllint", "reader"]);
    }

    #[test]
    fn a_circle_through_ours_and_the_distributions_waits_as_a_whole() {
        let mut icons = own("icons", "icon-cache");
        icons.fields.insert("Provides".into(), "icon-theme (= 1)".into());
        let members = [icons, own("viewer", "icon-theme"), own("other", "viewer-data"), own("viewer-data", "")];
        assert_eq!(free(Format::Deb, &members, &["icon-cache", "libgtk"]), ["other", "viewer-data"]);
    }

    #[test]
    fn rpms_wait_by_name_by_what_is_provided_and_by_path() {
        let rpm = |name: &str, requires: &str, provides: &str| {
            let fields = [("Requires", requires), ("Provides", provides)].map(|(field, value)| (field.to_string(), value.to_string()));
            Stored { fields: BTreeMap::from(fields), ..own(name, "") }
        };
        let members = [
            rpm("yaml", "libyaml-0.so.2()(64bit)\n/bin/sh", "python3dist(pyyaml) = 6"),
            rpm("lint", "(python3dist(pyyaml) >= 5 or python3dist(ruamel))", "lint = 1"),
            rpm("tool", "/usr/bin/ours", "tool = 1"),
            rpm("alone", "/bin/sh\nlibc.so.6()(64bit)", "alone = 1"),
        ];
        assert_eq!(free(Format::Rpm, &members, &["libyaml-0.so.2()(64bit)", "/usr/bin/ours"]), ["alone"]);
    }
}

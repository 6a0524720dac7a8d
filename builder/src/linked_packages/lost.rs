//! Which symbols a rebuilt library lacks that the distribution's has.
//!
//! ```text
//! own package libx-1 ── /usr/lib/libx.so.1 ──┐
//! the lock's libx-1, in the pool ────────────┼─► by SONAME ─► lost_symbols
//! else the base's libx.so.1 ─────────────────┘
//! ```
//!
//! That a library loses symbols may be what somebody wants; so it is told, and nothing is refused.

use super::{DATA_FOLDERS, LibraryOrigin, MAX_TOLD, PackageRoot, RootNode, is_public, last, open};
use crate::PackageSink;
use crate::tools::compare;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twostage_image::path::shown;
use twostage_linking::{Linkage, LinkageState, lost_symbols};
use twostage_model::event::Event;
use twostage_model::lock::{Lock, LockedPackage};
use twostage_model::{Format, Result};

/// Libraries of one component that are told; more say no more.
const MAX_LIBRARIES: usize = 32;

/// The distribution's packages that have the name of an own one, the newest of each: by that name.
pub(super) struct Originals(BTreeMap<String, LockedPackage>);

impl Originals {
    /// What the lock has: another component's build, or an image, needs it, or did before the project took the name.
    pub fn of(root: &PackageRoot, lock: &Lock, format: Format) -> Originals {
        let mut originals = Originals(BTreeMap::new());
        let own: BTreeSet<&str> = root.own_files().filter_map(|(_, origin, _)| own_name(origin)).collect();
        for package in lock.packages().into_values().filter(|package| own.contains(package.id.name.as_str())) {
            let before = originals.0.get(&package.id.name);
            if before.is_none_or(|before| compare(format, &before.id.version, &package.id.version).is_lt()) {
                originals.0.insert(package.id.name.clone(), package.clone());
            }
        }
        originals
    }
}

/// The name of an own package, as its file has it.
fn own_name(origin: &LibraryOrigin) -> Option<&str> {
    let LibraryOrigin::Own(file) = origin else { return None };
    match file.strip_suffix(".rpm") {
        // name-version-release.arch
        Some(rest) => rest.rsplitn(3, '-').nth(2),
        None => file.split('_').next(),
    }
}

/// What is told of an own package's libraries, for each that lost symbols.
///
/// # Errors
/// Class `Repository`: a package of the distribution does not unpack.
pub(super) fn lost_symbols_of(component: &str, sink: &dyn PackageSink, root: &PackageRoot, originals: &Originals) -> Result<Vec<Event>> {
    let mut opened: BTreeMap<&str, PackageRoot> = BTreeMap::new();
    let mut told = Vec::new();
    for (path, origin, rebuilt) in root.own_files() {
        let (Some(name), Some(soname)) = (own_name(origin), &rebuilt.soname) else { continue };
        if !is_public(path) || DATA_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let mut original = None;
        if let Some(package) = originals.0.get(name).filter(|package| sink.blob(&package.sha256).is_some()) {
            let id = package.id.to_string();
            if !opened.contains_key(name) {
                let mut packed = PackageRoot::default();
                let origin = LibraryOrigin::Closure(id.clone());
                let file = open(sink, &origin, &package.sha256)?;
                packed.add_package(origin, file, &|path| last(path).contains(".so"))?;
                opened.insert(name, packed);
            }
            original = opened.get(name).and_then(|packed| library(packed, soname, rebuilt)).map(|library| (id, library));
        }
        let Some((whose, original)) = original.or_else(|| Some(("the base".into(), library(root, soname, rebuilt)?))) else { continue };
        let symbols = lost_symbols(original, rebuilt);
        if !symbols.is_empty() && told.len() < MAX_LIBRARIES {
            told.push(Event::SymbolsLost {
                subject: component.into(),
                package: match origin {
                    LibraryOrigin::Own(file) => shown(file),
                    _ => name.into(),
                },
                library: shown(&format!("/{path}")),
                original: whose,
                count: symbols.len(),
                symbols: symbols.iter().take(MAX_TOLD).map(|symbol| shown(&symbol.to_string())).collect(),
            });
        }
    }
    Ok(told)
}

/// The library of a name, and for the same machine, that is no own one.
fn library<'a>(root: &'a PackageRoot, soname: &str, rebuilt: &Linkage) -> Option<&'a Arc<Linkage>> {
    let paths = root.names.get(soname)?.iter().filter(|path| is_public(path));
    paths.filter_map(|path| root.files.get(path)).flatten().find_map(|(origin, node)| match (origin, node) {
        (LibraryOrigin::Base | LibraryOrigin::Closure(_), RootNode::File(LinkageState::Is(linkage)))
            if linkage.soname.as_deref() == Some(soname) && linkage.machine == rebuilt.machine =>
        {
            Some(linkage)
        }
        _ => None,
    })
}

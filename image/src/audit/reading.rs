//! An image, read for its audit: each tar once, and of the files in it only those hashed that something is said of.
//!
//! ```text
//! base: remembered, or walked ─┐
//! layers above: walked ────────┴─► what do packages say of files? ─► those files are hashed ─► Image
//! ```

use super::linking::Links;
use super::{Base, Known, NOT_YET, States, find_base, looked_into, report, wanted};
use crate::hashing::{Alike, Names, Wish};
use crate::image::{Entry, Image, Kind, Want};
use crate::path::{from_bytes, name};
use crate::report::Report;
use crate::store::Store;
use std::collections::{HashMap, HashSet};
use twostage_model::{Format, Result};
use twostage_package::rpmdb::Expected;

/// Reads an image and audits it, with what the project file accounts for. The report is the same as
/// [`super::audit_with`] of an image that was read with [`wanted`]. What the store remembers of the base's layers is taken.
///
/// # Errors
/// As [`Store::read`] and [`super::audit_with`].
pub fn audit_store(store: &Store, base: Base, known: &Known) -> Result<(Image, Report)> {
    let base = find_base(&store.config, base)?;
    let plain = |path: &str| if looked_into(path) { Want::Content } else { Want::Nothing };
    let mut image = store.read_as(&plain, &wanted, base)?;
    let states = States::of(&image, base)?;
    hash(store, &mut image, base, known, &Said::of(&states))?;
    let links = Links::read(store, &mut image, base)?;
    let report = report(&image, base, known, &states, links)?;
    Ok((image, report))
}

/// Hashes the files that the audit compares with something.
fn hash(store: &Store, image: &mut Image, base: usize, known: &Known, said: &Said) -> Result<()> {
    let alike = Alike::of(&image.layers, base);
    let linked = linked(image, base, said);
    let leaks = &known.leaks;
    let wish = |layer: usize, entry: &Entry| {
        let is_above = layer >= base;
        let own = said.of_name(name(&entry.path));
        let named = match &linked {
            Some(linked) => linked.get(&(layer, entry.number)).copied().unwrap_or_default(),
            None => Wish { sha256: true, md5: true },
        };
        let sha256 = is_above && (own.sha256 || leaks.have_sha256() || entry.size() == NOT_YET.len() as u64);
        let md5 = is_above && (own.md5 || leaks.have_md5());
        Wish { sha256: sha256 || named.sha256 || alike.has(entry), md5: md5 || named.md5 }
    };
    store.hash(&mut image.layers, &wish)?;
    // What only builders need is above the base; but perhaps the base has it, too.
    let above = image.layers.iter().skip(base).flat_map(|layer| &layer.entries);
    let sizes: HashSet<u64> = above.filter(|entry| leaks.owner_of(entry).is_some()).map(Entry::size).collect();
    store.hash(&mut image.layers, &|layer, entry| {
        let is_asked = layer < base && sizes.contains(&entry.size());
        Wish { sha256: is_asked && leaks.have_sha256(), md5: is_asked && leaks.have_md5() }
    })
}

/// Layer and number of each file that names above the base lead to, and what is said of it under such a name. None where
/// there are too many.
fn linked(image: &Image, base: usize, said: &Said) -> Option<HashMap<(usize, u64), Wish>> {
    let mut names = Names::of(&image.layers);
    let mut wishes: HashMap<*const Entry, Wish> = HashMap::new();
    for link in image.layers.iter().skip(base).flat_map(|layer| &layer.entries) {
        let Kind::Hardlink { target } = &link.kind else { continue };
        let of_name = said.of_name(name(&link.path));
        for file in names.files(target)? {
            let wish = wishes.entry(std::ptr::from_ref(file)).or_default();
            *wish = Wish { sha256: wish.sha256 || of_name.sha256 || file.size() == NOT_YET.len() as u64, md5: wish.md5 || of_name.md5 };
        }
    }
    let all = image.layers.iter().enumerate().flat_map(|(number, layer)| layer.entries.iter().map(move |entry| (number, entry)));
    let place = |(layer, entry): (usize, &Entry)| Some(((layer, entry.number), *wishes.get(&std::ptr::from_ref(entry))?));
    Some(all.filter_map(place).collect())
}

/// The last names of the files of which installed packages say what is in them. (Folders may be links, but not names.)
#[derive(Default)]
struct Said {
    sha256: HashSet<String>,
    md5: HashSet<String>,
}

impl Said {
    fn of(states: &States) -> Said {
        let mut said = Said::default();
        let (installed, _) = states.now();
        for package in installed.packages() {
            for (file, expected) in package.files() {
                let names = match expected {
                    Some(Expected::Content(_)) => &mut said.sha256,
                    Some(Expected::Md5(_)) => &mut said.md5,
                    Some(Expected::Link(_)) | None => continue,
                };
                let mut add = |path: &[u8]| {
                    names.insert(name(&from_bytes(path)).to_string());
                };
                add(file);
                if package.format == Format::Deb {
                    installed.dpkg.diversions.iter().filter(|diversion| diversion.from == *file).for_each(|diversion| add(&diversion.to));
                }
            }
        }
        said
    }

    fn of_name(&self, name: &str) -> Wish {
        Wish { sha256: self.sha256.contains(name), md5: self.md5.contains(name) }
    }
}

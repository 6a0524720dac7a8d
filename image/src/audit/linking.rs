//! Whether the programs and libraries above the base find what they need.
//!
//! A program that the base has is judged, too, where a layer above it changes a library that the base has.

use crate::image::{Entry, Image, Kind};
use crate::path::{self, name};
use crate::store::Store;
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use twostage_linking::{LibraryRoot, LibrarySearch, LinkCheckResult, LinkFault, LinkageState, Machine, check, configured};
use twostage_model::Result;

/// The variable with folders in which every program of the image looks for libraries.
const VARIABLE: &str = "LD_LIBRARY_PATH=";
/// An image whose libraries need one another in a longer chain is not read any further.
const MAX_ROUNDS: usize = 200;

/// Whether the linker's configuration is in a file.
pub(super) fn is_configuration(path: &str) -> bool {
    path == "etc/ld.so.conf" || (path.starts_with("etc/") && path.ends_with(".conf") && path.contains("ld.so.conf.d/"))
}

/// What an audit knows of linking.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Programs and libraries that were judged.
    pub judged: usize,
    /// What is missing.
    pub faults: Vec<LinkFault>,
}

impl Links {
    /// Of an image that was read with [`super::wanted`].
    pub fn of(image: &Image, base: usize) -> Links {
        match look(image, base, true) {
            Looked::Done(links) => links,
            Looked::Read(_) => Links::default(),
        }
    }

    /// Of an image whose plain layers can be read again: only what is needed is read.
    pub fn read(store: &Store, image: &mut Image, base: usize) -> Result<Links> {
        for _ in 0..MAX_ROUNDS {
            match look(image, base, false) {
                Looked::Done(links) => return Ok(links),
                Looked::Read(files) => store.read_linkage(&mut image.layers, &|layer, number| files.contains(&(layer, number)))?,
            }
        }
        Ok(Links::of(image, base))
    }
}

enum Looked {
    Done(Links),
    /// Layers and numbers of files that must be read first.
    Read(HashSet<(usize, u64)>),
}

fn look(image: &Image, base: usize, is_all_read: bool) -> Looked {
    let tree = Tree::new(&image.layers);
    let base_tree = Tree::new(&image.layers[..base]);
    let changes_libraries = image.layers[base..]
        .iter()
        .flat_map(|layer| &layer.entries)
        .any(|entry| !entry.is_dir() && is_library(&entry.path) && base_tree.get(&entry.path).is_some_and(|there| !there.is_dir()));
    let wanted = |path: &str| changes_libraries || tree.get(path).is_some_and(|node| node.layer >= base);
    let mut links = match judge(image, &tree, is_all_read, &wanted) {
        Looked::Done(links) => links,
        read => return read,
    };
    // What the base lacked before is nothing that a layer above it did.
    if links.faults.iter().any(|fault| base_tree.get(&fault.file).is_some()) {
        match judge(image, &base_tree, is_all_read, &|_| true) {
            Looked::Done(before) => {
                links.faults.retain(|fault| !before.faults.iter().any(|there| there.file == fault.file && there.lacks == fault.lacks))
            }
            read => return read,
        }
    }
    Looked::Done(links)
}

/// Whether a path is one where the linker may find a library.
fn is_library(path: &str) -> bool {
    name(path).contains(".so") && !path.starts_with("etc/")
}

/// Judges the files of a tree that are wanted.
fn judge(image: &Image, tree: &Tree<'_>, is_all_read: bool, wanted: &dyn Fn(&str) -> bool) -> Looked {
    let root = ImageRoot::new(tree, is_all_read);
    let files: BTreeSet<String> = root.files.iter().filter(|path| wanted(path)).map(ToString::to_string).collect();
    let read = |path: &str| {
        let content = tree.resolve(path)?.1.entry?.content.as_deref()?;
        Some(String::from_utf8_lossy(content).into_owned())
    };
    let names = |folder: &str| tree.names(&tree.canonical(folder)).into_iter().map(String::from).collect();
    let variable = image.config.env.iter().find_map(|variable| variable.strip_prefix(VARIABLE));
    let search = LibrarySearch {
        environment: variable.into_iter().flat_map(|folders| folders.split(':')).map(String::from).collect(),
        configured: configured(&read, &names),
        machine: Machine::of(&image.config.architecture),
    };
    match check(&root, &search, &files) {
        LinkCheckResult::Faults(faults) => {
            let judged = files.iter().filter(|path| matches!(root.look(path), LinkageState::Is(_))).count();
            Looked::Done(Links { judged, faults })
        }
        LinkCheckResult::Read(paths) => {
            Looked::Read(paths.iter().filter_map(|path| tree.get(path)).filter_map(|node| Some((node.home, node.entry?.number))).collect())
        }
    }
}

/// The files of an image, for the check.
struct ImageRoot<'t, 'i> {
    tree: &'t Tree<'i>,
    /// Every file, whichever of its names stands first.
    files: Vec<&'i str>,
    /// Libraries by their names.
    libraries: BTreeMap<&'i str, Vec<&'i str>>,
    is_all_read: bool,
}

impl<'t, 'i> ImageRoot<'t, 'i> {
    fn new(tree: &'t Tree<'i>, is_all_read: bool) -> Self {
        let (mut files, mut libraries) = (Vec::new(), BTreeMap::new());
        for (path, node) in tree.iter() {
            if is_file(node.entry) {
                files.push(path);
            }
            if !node.is_dir() && is_library(path) {
                libraries.entry(name(path)).or_insert_with(Vec::new).push(path);
            }
        }
        ImageRoot { tree, files, libraries, is_all_read }
    }
}

fn is_file(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| matches!(entry.kind, Kind::File { .. }))
}

impl LibraryRoot for ImageRoot<'_, '_> {
    fn real(&self, path: &str) -> Option<String> {
        self.tree.resolve(path).filter(|(_, node)| is_file(node.entry)).map(|(real, _)| real)
    }

    fn look(&self, real: &str) -> LinkageState {
        match self.tree.get(real).and_then(|node| node.entry) {
            Some(entry) if entry.linkage == LinkageState::Unread && self.is_all_read => LinkageState::Nothing,
            Some(entry) => entry.linkage.clone(),
            None => LinkageState::Nothing,
        }
    }

    fn files(&self) -> Vec<String> {
        self.files.iter().map(ToString::to_string).collect()
    }

    fn named(&self, name: &str) -> Vec<String> {
        self.libraries.get(path::name(name)).into_iter().flatten().map(ToString::to_string).collect()
    }
}

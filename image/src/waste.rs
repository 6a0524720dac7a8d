//! What an image ships and nobody can see: files that a layer above deletes or replaces.

use crate::image::{Entry, Kind, Layer};
use crate::report::Share;
use crate::tree::Tree;
use serde::Serialize;
use std::collections::HashSet;

/// Hidden files that a report names.
const LARGEST: usize = 10;

/// Why a file cannot be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A layer above deletes it, or a folder that it is in.
    Deleted,
    /// A layer above has other content at its path.
    Replaced,
    /// A layer above has the same content at its path once more, as `chmod -R` and `chown -R` do.
    Repeated,
    /// The layer's own tar has another member of its path after it.
    Twice,
}

impl Why {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Why::Deleted => "deleted later",
            Why::Replaced => "replaced later",
            Why::Repeated => "written again with the same content",
            Why::Twice => "twice in one layer",
        }
    }
}

/// One file that cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// With its slash.
    pub path: String,
    /// The number of its layer, from 1.
    pub layer: usize,
    /// Its bytes.
    pub bytes: u64,
    /// Why.
    pub why: Why,
}

/// What is shipped for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Waste {
    /// Files and bytes, by why they cannot be seen; none without any.
    pub by: Vec<(Why, Share)>,
    /// The same by layer, for all layers of the image.
    pub by_layer: Vec<Share>,
    /// The largest files, largest first.
    pub largest: Vec<Unseen>,
}

impl Waste {
    /// Looks through layers from number `from` on (from 0).
    pub fn of(layers: &[Layer], from: usize) -> Waste {
        Waste::and_files(layers, from).0
    }

    /// [`Waste::of`], and every file of it.
    pub(crate) fn and_files(layers: &[Layer], from: usize) -> (Waste, Vec<Unseen>) {
        let tree = Tree::new(layers);
        let seen: HashSet<*const Entry> = tree.iter().filter_map(|(_, node)| node.entry).map(std::ptr::from_ref).collect();
        let mut waste = Waste { by_layer: vec![Share::default(); layers.len()], ..Waste::default() };
        let mut all = Vec::new();
        for (number, layer) in layers.iter().enumerate().skip(from) {
            for entry in &layer.entries {
                let Kind::File { size, sha256 } = entry.kind else { continue };
                if seen.contains(&std::ptr::from_ref(entry)) {
                    continue;
                }
                let why = match tree.get(&entry.path).and_then(|node| node.entry).map(|entry| &entry.kind) {
                    None => Why::Deleted,
                    Some(Kind::File { sha256: now, .. }) if *now == sha256 => Why::Repeated,
                    Some(_) => Why::Replaced,
                };
                all.push(Unseen { path: format!("/{}", entry.path), layer: number + 1, bytes: size, why });
            }
            let twice = layer.ignored.duplicates.iter();
            all.extend(twice.map(|one| Unseen { path: format!("/{}", one.path), layer: number + 1, bytes: one.bytes, why: Why::Twice }));
        }
        for file in &all {
            waste.by_layer[file.layer - 1].add(file.bytes);
        }
        for why in [Why::Deleted, Why::Replaced, Why::Repeated, Why::Twice] {
            let mut share = Share::default();
            all.iter().filter(|file| file.why == why).for_each(|file| share.add(file.bytes));
            if share.files > 0 {
                waste.by.push((why, share));
            }
        }
        all.sort_by(|a, b| (b.bytes, &a.path, a.layer).cmp(&(a.bytes, &b.path, b.layer)));
        waste.largest = all.iter().filter(|file| file.bytes > 0).take(LARGEST).cloned().collect();
        (waste, all)
    }

    /// All of it.
    pub fn total(&self) -> Share {
        self.by.iter().map(|(_, share)| *share).sum()
    }
}

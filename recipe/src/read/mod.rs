//! What the files of a build system say, read without running anything.

pub(crate) mod autotools;
pub(crate) mod cmake;
pub(crate) mod meson;

use crate::detect::SourceTexts;
use std::collections::BTreeSet;
use twostage_model::project::{BuildNeed, NeedKind};

/// Files of a build system that are read of one tree, at most, and bytes of all of them.
const MAX_FILES: usize = 2000;
const MAX_BYTES: usize = 16 << 20;

/// The files of a build system in a tree: that of its top, and those of the folders that it leads to. Each is read once.
pub(crate) struct BuildFiles<'a> {
    tree: &'a dyn SourceTexts,
    name: &'static str,
    left: Vec<String>,
    seen: BTreeSet<String>,
    bytes: usize,
}

impl<'a> BuildFiles<'a> {
    /// The files of that name, from the top on.
    pub(crate) fn of(tree: &'a dyn SourceTexts, name: &'static str) -> BuildFiles<'a> {
        BuildFiles { tree, name, left: vec![String::new()], seen: BTreeSet::new(), bytes: 0 }
    }

    /// Takes a folder that a file in `folder` names.
    pub(crate) fn lead_to(&mut self, folder: &str, below: &str) {
        self.left.push(format!("{folder}{}/", below.trim_end_matches('/')));
    }

    /// The next file: its folder, empty or with a slash behind it, and its text.
    pub(crate) fn next(&mut self) -> Option<(String, String)> {
        while let Some(folder) = self.left.pop() {
            let path = format!("{folder}{}", self.name);
            if self.seen.len() >= MAX_FILES || self.bytes >= MAX_BYTES {
                return None;
            }
            if self.seen.insert(path.clone())
                && let Some(text) = self.tree.text(&path)
            {
                self.bytes += text.len();
                return Some((folder, text));
            }
        }
        None
    }
}

/// What the files of a build system say.
#[derive(Debug, Default)]
pub(crate) struct SourceFacts {
    pub(crate) version: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) licence: Option<String>,
    pub(crate) homepage: Option<String>,
    pub(crate) needs: BTreeSet<BuildNeed>,
}

impl SourceFacts {
    /// Takes a need. What is no name (a variable, an option) is none.
    pub(crate) fn need(&mut self, kind: NeedKind, name: &str) {
        self.needs.extend(BuildNeed::new(kind, name));
    }
}

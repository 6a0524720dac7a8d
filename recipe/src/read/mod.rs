//! What the files of a build system say, read without running anything.

pub(crate) mod autotools;
pub(crate) mod cmake;
pub(crate) mod meson;

use std::collections::BTreeSet;
use twostage_model::project::{BuildNeed, NeedKind};

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

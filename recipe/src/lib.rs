//! Recipes: packages from a source tree that has no packaging.
//!
//! ```text
//! source tree ─► detect: build system, version, licence, needs
//!                   │ (the builder container configures, builds and installs it)
//! installed files ─► split: each file into one part, by a rule that has a name ─► debian: packages and their packaging
//! ```
//!
//! This crate knows neither container nor engine: it reads texts and lists of files, and gives texts and lists of files.

pub mod debian;
mod detect;
mod meson_plan;
mod read;
mod rules;
mod split;

pub use detect::{Detected, SourceTexts, detect};
pub use meson_plan::tags;
pub use split::{ComponentPart, FileContent, InstalledFile, InstalledKind, Placed, Unplaced, content_of_text, split, without_triplet};

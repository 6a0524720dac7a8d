//! Container images as data: read from archives and layouts, seen as one tree, audited against
//! the package database inside them. Sync; knows no engine.
//!
//! ```text
//! archive or layout ─► Image (layers of entries) ─► Tree (merged view) ─► audit ─► Report
//! ```
//!
//! Everything read is hostile until its digests are checked: sizes, depths and counts are bounded
//! by [`Limits`], no path leaves the image, and nothing is ever written to disk.

mod ahead;
pub mod archive;
pub mod audit;
mod config;
pub mod delta;
pub mod diff;
mod documents;
mod eager;
pub mod flatten;
mod gzip;
mod hashing;
pub mod image;
mod layer;
mod layout;
pub mod leaks;
pub mod limits;
mod linked;
pub mod oci;
mod pack;
mod page;
pub mod path;
pub mod plan;
mod remember;
mod report;
pub mod rules;
mod settle;
pub mod store;
mod tarball;
pub mod tree;
pub mod waste;
mod write;

pub use archive::read_archive;
pub use audit::{Base, Known, audit, audit_with, wanted};
pub use config::{architecture, manifest_of};
pub use delta::Delta;
pub use image::{Config, Duplicate, Entry, FileDigest, History, Ignored, Image, Kind, Layer, Want};
pub use leaks::Leaks;
pub use limits::Limits;
pub use pack::{TarWriter, pax_record};
pub use report::{LayerReport, LinkingReport, Note, Report, Residue, Unlinked};
pub use store::{Compression, Remember, Remembered, Store};
pub use tarball::{Header, Tarball};
pub use tree::Tree;
pub use waste::Waste;
pub use write::{NewImage, Written, persist};

use std::io::{BufRead, Write};
use twostage_model::{Class, Error, Result, Sha256};

/// Copies a layer's tar, decompressed, to `out`, and checks that it is one. Gives its digest and its bytes.
///
/// # Errors
/// It is no tar that a layer can be, or nothing can be written.
pub fn copy_layer(input: impl BufRead + Send, out: &mut (dyn Write + Send)) -> Result<(Sha256, u64)> {
    layer::copy_layer(input, out, &mut limits::Budget::new(&Limits::default()))
}

/// What is in a stream that may be packed with gzip or zstd.
///
/// # Errors
/// Its beginning cannot be read.
pub fn unpacked<'a>(input: impl BufRead + Send + 'a) -> Result<Box<dyn std::io::Read + Send + 'a>> {
    layer::plain(input)
}

/// Whether a stream that begins so is packed with gzip or zstd.
pub fn is_packed(head: &[u8]) -> bool {
    matches!(layer::sniff(head), layer::Sniffed::Gzip | layer::Sniffed::Zstd)
}

/// An image that is not what it claims to be.
fn broken(what: impl Into<String>) -> Error {
    Error::new(Class::Runtime, what).hint("it is cut off, changed, or was not made as it should be: save, copy or pull it again")
}

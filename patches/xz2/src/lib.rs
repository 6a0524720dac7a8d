//! Stands in for the crate `xz2`, of which `liblzma` is the continuation with the same names.
//!
//! createrepo_rs and the rpm crate under it ask for `xz2`, whose liblzma is 5.2. Cargo takes one crate that links
//! liblzma and no second, and ours reads packages with 5.8, in two thirds of the time. docs/decisions/xz.md

pub use liblzma::{bufread, read, stream, write};

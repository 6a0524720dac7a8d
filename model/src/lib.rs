//! The words of twostage as types, in the order of the flow.
//!
//! ```text
//! project ─► lock ─► package ─► snapshot
//! ```
//!
//! No tokio and no I/O here: texts come in, values or an [`Error`] go out, so that every rule can
//! be tested without a file. The words themselves are explained in `ARCHITECTURE.md`.

pub mod address;
pub mod date;
pub mod digest;
pub mod error;
pub mod event;
pub mod lock;
pub mod names;
pub mod package;
pub mod project;
pub mod shown;
pub mod snapshot;
pub mod url;

pub use digest::{DigestMap, DigestSet, HashWrite, Hasher, Sha256, chain_id};
pub use error::{Class, Error, Result};
pub use event::{Event, Sink};
pub use lock::Lock;
pub use package::{Format, PackageId};
pub use project::Project;
pub use snapshot::{Manifest, SnapshotId};

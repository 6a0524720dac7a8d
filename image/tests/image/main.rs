//! Images made in code: every form of archive, the tree, the audit, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archives;
mod audits;
mod flattens;
mod hostile;
mod leaks;
mod linking;
mod mutants;
mod plans;
mod rpms;
mod settled;
mod support;
mod trees;

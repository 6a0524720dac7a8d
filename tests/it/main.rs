//! Whole-command tests, judged by the real thing: dockerd, apt, dpkg, gpgv.
//!
//! Each file is a chapter. `support.rs` has what they share: a project in a folder of its own, a
//! command that is run and shown when it fails, and the counts that `make test` prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod apt;
mod attached;
mod bases;
mod browser;
mod ccache;
mod checks;
mod claims;
mod cli;
mod clients;
mod compile;
mod compressed;
mod confined;
mod damage;
mod differential;
mod embedded;
mod engines;
mod entered;
mod errors;
mod failures;
mod faults;
mod gc;
mod generated;
mod hello;
mod hostile;
mod images;
mod import_from;
mod kept;
mod kills;
mod layouts;
mod mutants;
mod mutations;
mod naive;
mod newer;
mod odd_debs;
mod odd_rpms;
mod offline;
mod on;
mod one_pass;
mod oracle;
mod packages;
mod places;
mod plain;
mod real_images;
mod recipes;
mod registry;
mod reproducible;
mod rpm_clients;
mod rpm_mutations;
mod rpm_outdated;
mod rpm_recipes;
mod serving;
mod suites;
mod support;
mod valid_until;
mod words;

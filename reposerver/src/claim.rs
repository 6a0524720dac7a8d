//! Which folders are repositories: those that say so, and nobody else's.
//!
//! A repository's leftovers are removed when it is opened, so a folder is taken for one only if it is new or empty, has
//! the mark, or has lost it, or was made before there were marks: with only the names of a repository at its top.

use std::path::Path;
use twostage_beneath::Mark;
use twostage_model::{Class, Result};

/// `twostage-repository`, at the top of each.
const MARK: Mark = Mark {
    name: "twostage-repository",
    text: "This folder is a repository of twostage, which removes unfinished files in its tmp/.\n",
    known: &[
        "blobs",
        "builds",
        "catalog",
        "channels",
        "history",
        "key",
        "key.asc",
        "keys",
        "lock",
        "meta",
        "names",
        "names.again",
        "names.sum",
        "pins",
        "pool",
        "quarantine",
        "signed",
        "snapshots",
        "tmp",
        "verified",
        "withdrawn",
    ],
    lock: "lock",
    proof: "key/signing.asc",
};

/// Takes the folder for a repository, and marks it.
///
/// # Errors
/// It holds what twostage has not made, or it cannot be read.
pub(crate) fn claim(root: &Path) -> Result<()> {
    match MARK.claim(root) {
        Err(error) if error.class() == Class::Project => Err(error.hint(format!(
            "name a folder that is new or empty, with `path` in [repository] or with --repository; if this one is a repository, make the \
             file {} in it",
            root.join(MARK.name).display()
        ))),
        // A folder on a read-only medium is no error until somebody writes.
        Err(_) | Ok(()) => Ok(()),
    }
}

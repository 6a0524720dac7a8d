//! The times in a layer's tar, where those that its files have would be others each time.

use crate::execute::layered::Times;
use crate::execute::member;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use twostage_image::{Kind, TarWriter, Tarball, path};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};

/// Copies a layer's tar. A time that does not count becomes that of the same folder in the layers below, whose trees
/// are `lowers`, the lowest first; else what `times` says.
pub(super) fn rewritten(tar: impl Read, out: impl Write, times: Times, lowers: &[PathBuf]) -> Result<()> {
    let fail = || "cannot pack the container's files".to_string();
    let mut tarball = Tarball::new(tar);
    let mut out = TarWriter::new(out);
    while let Some(header) = tarball.next()? {
        let name = path::clean(&header.path)?;
        let mut entry = member(&header, &name)?;
        if entry.mtime >= times.since {
            let below = if entry.is_dir() { lowers.iter().rev().find_map(|tree| time_of(tree, &name)) } else { None };
            entry.mtime = below.filter(|time| *time < times.since).unwrap_or(times.becomes);
        }
        match &entry.kind {
            Kind::Hardlink { target } => out.hard_link(&name, target, &entry).or_fail(Class::System, fail)?,
            _ => out.entry(&name, &entry, &mut tarball).or_fail(Class::System, fail)?,
        }
    }
    out.finish().and_then(|mut out| out.flush()).or_fail(Class::System, fail)
}

/// The time of a folder in a tree, no link followed.
fn time_of(tree: &Path, name: &str) -> Option<i64> {
    let name = if name.is_empty() { b".".to_vec() } else { path::to_bytes(name) };
    let root = File::open(tree).ok()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = rustix::fs::openat2(&root, OsStr::from_bytes(&name), flags, Mode::empty(), how).ok()?;
    Some(File::from(found).metadata().ok()?.mtime())
}

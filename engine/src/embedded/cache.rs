//! What builds of Dockerfiles keep: which layer a step has made, and the folders of `RUN --mount=type=cache`.
//!
//! A step that nobody has asked for in a week is forgotten, and its layers go if no image has them. The folders stay.

use super::Inner;
use super::sandbox::{Root, Upper};
use super::store::{self, Store, Turn};
use crate::dockerfile::mount::{Owner, Sharing};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result, Sha256};

/// How long a step is known that nobody asks for.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

fn path(store: &Store, key: &Sha256) -> PathBuf {
    store.root().join("steps").join(key.to_string())
}

fn read(path: &Path) -> Option<Vec<Sha256>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The highest layer that is kept under a key, if all of them are there. It is asked for now.
pub(super) fn find(store: &Store, _turn: &Turn, key: &Sha256) -> Result<Option<Sha256>> {
    let path = path(store, key);
    let Some(layers) = read(&path).filter(|layers| layers.iter().all(|layer| store.blob(layer).exists())) else { return Ok(None) };
    asked_for(&path)?;
    Ok(layers.last().copied())
}

/// Notes that a step was asked for now: by our clock, as the disk may have another one.
fn asked_for(path: &Path) -> Result<()> {
    let asked = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    asked.or_fail(Class::System, || format!("cannot write {}", path.display()))
}

/// Keeps layers under a key.
pub(super) fn keep(store: &Store, _turn: &Turn, key: &Sha256, layers: &[Sha256]) -> Result<()> {
    let json = serde_json::to_vec(layers).or_fail(Class::System, || "cannot write JSON".into())?;
    let path = path(store, key);
    store::write(&path, &json)?;
    asked_for(&path)
}

/// The layers of all steps that are still known; the others are forgotten.
pub(super) fn kept(store: &Store) -> Vec<Vec<Sha256>> {
    let mut kept = Vec::new();
    for path in store::entries(&store.root().join("steps")) {
        let old = fs::metadata(&path).and_then(|found| found.modified()).is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT));
        match read(&path).filter(|_| !old) {
            Some(layers) => kept.push(layers),
            // What cannot be removed is forgotten by the next one.
            None => drop(fs::remove_file(&path)),
        }
    }
    kept
}

/// Forgets every step. Gives how many there were.
pub(super) fn forget(store: &Store, _turn: &Turn) -> Result<usize> {
    let steps = store::entries(&store.root().join("steps"));
    for path in &steps {
        fs::remove_file(path).or_fail(Class::System, || format!("cannot remove {}", path.display()))?;
    }
    Ok(steps.len())
}

/// The folder of a cache, and what keeps others from it for as long as that is held.
pub(super) fn folder(inner: &Inner, id: &str, sharing: Sharing, owner: Owner) -> Result<(PathBuf, File)> {
    let caches = inner.store.root().join("caches");
    let name = Sha256::of(id.as_bytes()).to_string();
    let fail = || format!("cannot use the cache {id:?}");
    for number in 0_u32.. {
        let path = caches.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
        DirBuilder::new().mode(0o700).recursive(true).create(&path).or_fail(Class::System, fail)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).or_fail(Class::System, fail)?;
        make(inner, &path, owner)?;
        let taken = match sharing {
            Sharing::Shared => flock(&lock, FlockOperation::LockShared),
            Sharing::Locked => flock(&lock, FlockOperation::LockExclusive),
            Sharing::Private => match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => continue,
                taken => taken,
            },
        };
        taken.or_fail(Class::System, fail)?;
        return Ok((path.join("tree/cache"), lock));
    }
    Err(twostage_model::Error::new(Class::System, fail()))
}

/// Makes the folder, with an owner that only containers have, unless it is there.
fn make(inner: &Inner, path: &Path, owner: Owner) -> Result<()> {
    let made = path.join("made");
    if made.exists() {
        return Ok(());
    }
    let fail = || format!("cannot make {}", path.display());
    // One makes it, the others wait.
    let turn = File::open(path).or_fail(Class::System, fail)?;
    flock(&turn, FlockOperation::LockExclusive).or_fail(Class::System, fail)?;
    if made.exists() {
        return Ok(());
    }
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(owner.mode);
    header.set_uid(owner.uid.into());
    header.set_gid(owner.gid.into());
    header.set_size(0);
    tar.append_data(&mut header, "cache/", std::io::empty()).or_fail(Class::System, fail)?;
    let tar = tar.into_inner().or_fail(Class::System, fail)?;
    let upper = Upper { dir: path.join("tree"), work: path.join("work") };
    inner.sandbox.put(&Root { upper: Some(upper), ..Root::default() }, &tar[..], true)?;
    File::create(made).map(drop).or_fail(Class::System, fail)
}

//! What the store holds, and what can go: `twostage images`, `rm` and `prune`.

use super::store::{self, Store, Trash};
use super::{Session, about, cache, collect, contents, images, shown, used};
use crate::ImageInfo;
use crate::keeping::Freed;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use twostage_model::{Class, Error, Result, Sha256};

impl Session {
    /// Every image, those without a name too.
    pub(crate) async fn every_image(&self) -> Result<Vec<ImageInfo>> {
        self.with(|inner| images::all(&inner.store, &inner.store.look()?)?.iter().map(images::info).collect()).await
    }

    /// What of the store cannot be read, in sentences.
    pub(crate) async fn problems(&self) -> Result<Vec<String>> {
        self.with(|inner| images::problems(&inner.store, &inner.store.look()?)).await
    }

    /// Removes an image's name, and with the last one the image.
    pub(crate) async fn take_out(&self, reference: &str) -> Result<Freed> {
        let name = reference.to_string();
        let removed = self.with(move |inner| remove(&inner.store, &name)).await;
        let freed = removed.map_err(|error| about(format!("cannot remove image {reference}"), error))?;
        if freed.names.is_empty() && freed.images.is_empty() {
            return Err(Error::new(Class::Engine, format!("there is no image {reference}")).hint("see what there is: twostage images"));
        }
        Ok(freed)
    }

    /// Removes images without a name, and what nothing needs; with `all`, what builds keep to be faster, too.
    pub(crate) async fn prune(&self, all: bool) -> Result<Freed> {
        let pruned = self.with(move |inner| prune(&inner.store, all)).await;
        pruned.map_err(|error| about("cannot clear up the store".into(), error))
    }
}

/// Removes a name or an image. One that is not there is fine: nothing is freed then.
pub(super) fn remove(store: &Store, name: &str) -> Result<Freed> {
    freeing(store, |turn| {
        let removed = images::remove(store, turn, name)?;
        Ok((Freed { names: removed.names, images: removed.images.iter().map(shown).collect(), ..Freed::default() }, Trash::default()))
    })
}

fn prune(store: &Store, all: bool) -> Result<Freed> {
    freeing(store, |turn| {
        let removed = images::remove_nameless(store, turn)?;
        let mut freed = Freed { images: removed.images.iter().map(shown).collect(), ..Freed::default() };
        let mut trash = Trash::default();
        if all {
            freed.steps = cache::forget(store, turn)?;
            freed.bytes = contents::forget(store);
            for path in store::entries(&store.root().join("caches")) {
                // One that a build is using is left to it.
                let lock = File::open(path.join("lock")).ok();
                if lock.as_ref().is_none_or(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                    trash.extend(store.discard(turn, &path, None)?);
                    freed.caches += 1;
                }
            }
        }
        Ok((freed, trash))
    })
}

/// Runs `work`, which takes something out of the store, then takes out what nothing needs any more, and counts that.
fn freeing(store: &Store, work: impl FnOnce(&store::Turn) -> Result<(Freed, Trash)>) -> Result<Freed> {
    let (mut freed, trash) = {
        let turn = store.change()?;
        let before = match used(store) {
            Some(used) => images::needed(store, &turn, &used)?.blobs(),
            None => BTreeSet::new(),
        };
        let blobs = store.images().join("blobs/sha256");
        let had = bytes(&blobs);
        let (mut freed, mut trash) = work(&turn)?;
        trash.extend(collect(store, &turn, &before)?);
        let has = bytes(&blobs);
        freed.bytes += had.saturating_sub(has) + trash.paths().map(bytes).sum::<u64>();
        freed.waiting = waiting(store, &turn)?;
        (freed, trash)
    };
    store.empty(trash)?;
    freed.names.sort();
    Ok(freed)
}

/// Bytes of blobs that nothing needs and that are left for a while.
fn waiting(store: &Store, turn: &store::Turn) -> Result<u64> {
    let Some(used) = used(store) else { return Ok(0) };
    let needed = images::needed(store, turn, &used)?.blobs();
    let is_needed = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.and_then(|name| name.parse::<Sha256>().ok()).is_some_and(|digest| needed.contains(&digest))
    };
    let left = store::entries(&store.images().join("blobs/sha256")).into_iter().filter(|path| !is_needed(path));
    Ok(left.map(|path| bytes(&path)).sum())
}

/// What a file or a folder takes on the disk, each file once. What cannot be looked into counts nothing.
fn bytes(path: &Path) -> u64 {
    let (mut all, mut seen) = (0, BTreeSet::new());
    let mut todo = vec![path.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            todo.extend(store::entries(&path));
        } else if seen.insert((found.dev(), found.ino())) {
            all += found.blocks() * 512;
        }
    }
    all
}

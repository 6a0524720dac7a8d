//! What the store holds, and what can go: `twostage images`, `rm` and `prune`.

use super::store::{self, Store, Trash};
use super::{Session, about, cache, collect, containers, contents, images, shown, used};
use crate::ImageInfo;
use crate::keeping::{Freed, PruneDecision, PruneOptions, PrunePlan};
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

    /// What [`Session::prune`] would remove.
    pub(crate) async fn prune_plan(&self, options: PruneOptions) -> Result<PrunePlan> {
        self.with(move |inner| plan(&inner.store, &inner.store.look()?, options)).await
    }

    /// Removes what has no name, or was made by a build and is old, and what nothing needs.
    pub(crate) async fn prune(&self, options: PruneOptions) -> Result<Freed> {
        let pruned = self.with(move |inner| prune(&inner.store, options)).await;
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

/// How the names of images begin that builds make for themselves, and make again when they are not there.
const MADE: [&str; 4] = ["twostage-builder:", "twostage-entered:", "twostage-component:", "twostage-base:"];

/// What a prune means for each image.
pub(super) fn plan(store: &Store, turn: &store::Turn, options: PruneOptions) -> Result<PrunePlan> {
    let used = containers::used(store);
    let all = images::all(store, turn)?;
    let judged: Vec<(bool, String)> = all.iter().map(|image| judged(store, image, used.as_deref(), options)).collect();
    let mut plan = PrunePlan::default();
    let staying = all.iter().zip(&judged).filter(|(_, (goes, _))| !goes);
    let mut counted: BTreeSet<Sha256> = staying.flat_map(|(image, _)| image.diff_ids.iter().copied()).collect();
    counted.extend(super::used(store).unwrap_or_default().into_iter().flatten());
    for (image, (goes, why)) in all.iter().zip(judged) {
        let own = image.diff_ids.iter().filter(|layer| counted.insert(**layer));
        let own: u64 = own.map(|layer| bytes(&store.blob(layer)) + bytes(&store.root().join("layers").join(layer.to_string()))).sum();
        plan.bytes += own;
        let name = if image.names.is_empty() { shown(&image.id) } else { image.names.join(" ") };
        plan.images.push(PruneDecision { image: name, goes, why, bytes: own, id: image.id, named: !image.names.is_empty() });
    }
    if options.all {
        plan.steps = store::entries(&store.root().join("steps")).len();
        let caches = store::entries(&store.root().join("caches"));
        (plan.caches, plan.bytes) = (caches.len(), plan.bytes + caches.iter().map(|path| bytes(path)).sum::<u64>());
    }
    plan.images.sort_by(|a, b| (!a.goes, &a.image).cmp(&(!b.goes, &b.image)));
    Ok(plan)
}

/// Whether an image goes, and why it does or not.
fn judged(store: &Store, image: &images::Stored, used: Option<&[Vec<Sha256>]>, options: PruneOptions) -> (bool, String) {
    if image.names.is_empty() {
        return (true, "it has no name".into());
    }
    match used {
        None => return (false, "what a container uses cannot be read".into()),
        Some(used) if used.iter().any(|layers| layers.starts_with(&image.diff_ids)) => return (false, "a container uses it".into()),
        Some(_) => {}
    }
    if let Some(name) = image.names.iter().find(|name| !MADE.iter().any(|made| name.starts_with(made))) {
        return (false, format!("no build made {name} for itself"));
    }
    let day = 24 * 3600;
    // (A time that is to come is that of another clock: it was used just now.)
    let age = images::last_used(store, image).map(|time| options.now.duration_since(time).unwrap_or_default());
    match age {
        None => (false, "its files cannot be read".into()),
        Some(age) if age >= options.older => (true, format!("no build asked for it for {} days", age.as_secs() / day)),
        Some(age) => (false, format!("a build asked for it {} days ago", age.as_secs() / day)),
    }
}

pub(super) fn prune(store: &Store, options: PruneOptions) -> Result<Freed> {
    freeing(store, |turn| {
        let mut freed = Freed::default();
        for decision in plan(store, turn, options)?.images.iter().filter(|decision| decision.goes && decision.named) {
            let removed = images::remove(store, turn, &shown(&decision.id))?;
            freed.names.extend(removed.names);
            freed.images.extend(removed.images.iter().map(shown));
        }
        freed.images.extend(images::remove_nameless(store, turn)?.images.iter().map(shown));
        let mut trash = Trash::default();
        if options.all {
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

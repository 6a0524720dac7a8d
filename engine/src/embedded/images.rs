//! The images of the store: an OCI layout whose layers are plain tars, so that a blob's digest is its diff id.
//!
//! One descriptor in `index.json` for each name; an image that has lost its names, or never had one, is there without.
//! An image that another program wrote there, with packed layers as a rule, becomes one of ours when the store is opened
//! ([`adopt`]): so `skopeo copy docker://debian:bookworm oci:STORE/images:debian:bookworm` is a pull.

use super::contents;
use super::index::{self, Index as There};
use super::pulled;
use super::sandbox::{Watch, WatchedFile};
use super::store::{self, Store, Trash, Turn, Workplace};
use crate::dockerfile::config::ImageConfig;
use crate::reference::Reference;
use crate::{ImageInfo, Location};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use twostage_image::oci::{CONFIG, Descriptor, Index, LAYER, LAYOUT, MANIFEST, Manifest};
use twostage_image::{NewImage, Written};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256, chain_id};

/// When every image is made that says no other time: the same files make the same image.
pub(super) const EPOCH: &str = "1970-01-01T00:00:00Z";

/// How long a blob is left alone that nothing needs: nobody copies an image for longer.
const YOUNG: Duration = Duration::from_secs(24 * 3600);
/// The largest manifest or index.
const MAX_DOCUMENT: u64 = 16 << 20;

/// An image of the store.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The digest of its configuration.
    pub id: Sha256,
    /// Digests of its layers, lowest first.
    pub diff_ids: Vec<Sha256>,
    pub names: Vec<String>,
    pub config_json: Vec<u8>,
    manifest: Sha256,
    size: u64,
}

/// A layer that is to be an image's: its digest and where it was written, if it is new.
pub(super) struct NewLayer {
    pub diff_id: Sha256,
    pub file: Option<PathBuf>,
}

/// What makes an image of the store a layout, if it is not one yet.
pub(super) fn prepare(store: &Store, _turn: &Turn) -> Result<()> {
    for (name, bytes) in [("index.json", json(&Index::of(Vec::new()))?.as_slice()), ("oci-layout", LAYOUT)] {
        let path = store.images().join(name);
        if !path.exists() {
            store::write(&path, bytes)?;
        }
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).or_fail(Class::System, || "cannot write JSON".into())
}

/// A small blob, which must hash to its name.
fn read_blob(store: &Store, digest: &Sha256) -> Result<Vec<u8>> {
    let path = store.blob(digest);
    let bytes = index::small(&path, MAX_DOCUMENT).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
    if Sha256::of(&bytes) != *digest {
        return Err(Error::new(Class::Engine, format!("{} is not what its name says", path.display()))
            .hint("remove the image that it belongs to and load it again"));
    }
    Ok(bytes)
}

fn manifest_of(store: &Store, digest: &Sha256) -> Result<Manifest> {
    let fail = || format!("the manifest {} of {} is none", digest.short(), store.images().display());
    serde_json::from_slice(&read_blob(store, digest)?).or_fail(Class::Engine, fail)
}

fn stored(store: &Store, digest: Sha256, names: Vec<String>) -> Result<Stored> {
    let manifest = manifest_of(store, &digest)?;
    let id: Sha256 = manifest.config.digest.parse()?;
    let config_json = read_blob(store, &id)?;
    let config = config(&config_json)?;
    let diff_ids = config.rootfs.diff_ids.iter().map(|digest| digest.parse()).collect::<Result<Vec<Sha256>>>()?;
    let blobs = manifest.layers.iter().map(|layer| layer.digest.parse()).collect::<Result<Vec<Sha256>>>()?;
    if blobs != diff_ids {
        return Err(Error::new(Class::Engine, format!("the layers of image {} are compressed, or others than it says", id.short()))
            .hint("another program wrote it into this store, and it cannot be read: write it again, with `skopeo copy`"));
    }
    Ok(Stored { id, diff_ids, names, config_json, manifest: digest, size: manifest.layers.iter().map(|layer| layer.size).sum() })
}

/// A configuration, whatever it has for images that start from it.
pub(super) fn config(json: &[u8]) -> Result<ImageConfig> {
    let read: Result<ImageConfig> = serde_json::from_slice(json).or_fail(Class::Engine, || "the image's configuration is not one".into());
    read.map_err(|error| error.hint("it is not what OCI and docker say of such a file: whoever wrote the image has to write it again"))
}

/// Refuses a configuration that could not be read later, or names other layers than there are.
fn check_config(json: &[u8], layers: &[Sha256]) -> Result<()> {
    if json.len() as u64 > MAX_DOCUMENT {
        return Err(Error::new(Class::Engine, format!("the image's configuration has more than {MAX_DOCUMENT} bytes"))
            .hint("give it shorter labels, variables and history lines"));
    }
    let named = config(json)?.rootfs.diff_ids.iter().map(|digest| digest.parse()).collect::<Result<Vec<Sha256>>>();
    let named = named.map_err(|cause| cause.hint("whoever wrote the image has to write it again"))?;
    match named == layers {
        true => Ok(()),
        false => Err(Error::new(Class::Engine, format!("the image's configuration names {} layers, and others than it has", named.len()))
            .hint("whoever wrote the image has to write it again")),
    }
}

/// Makes what other programs wrote into the layout images of the store. What cannot be one stays as it is, and whoever
/// asks for it is told why; what that is is told, in sentences.
pub(super) fn adopt(store: &Store) -> Result<Vec<String>> {
    let mut foreign: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut is_odd = false;
    let index = There::read(store, &store.look()?)?;
    if index.foreign {
        // What was lost of ours is in it again, for whoever reads the file itself.
        let turn = store.change()?;
        let index = There::read(store, &turn)?;
        let images = index.images.clone();
        index.write(store, &turn, images)?;
    }
    is_odd |= !index.odd().is_empty();
    for descriptor in index.images {
        let ours = descriptor.digest.parse().is_ok_and(|digest| stored(store, digest, Vec::new()).is_ok());
        is_odd |= !ours;
        if let Some(name) = descriptor.name().filter(|name| !ours || new_name(name).is_ok_and(|whole| whole != *name)) {
            foreign.entry(descriptor.digest.clone()).or_default().push(name.to_string());
        }
    }
    for (digest, names) in foreign {
        let whole: Vec<String> = names.iter().filter_map(|name| new_name(name).ok()).collect();
        let Some(Ok(image)) = names.first().map(|name| twostage_image::Store::open(&store.images(), Some(name))) else { continue };
        let place = store.workplace()?;
        let mut copied = BTreeMap::new();
        if whole.is_empty() || copy_layers(store, &place, &image, &image.config.diff_ids, &mut copied).is_err() {
            continue;
        }
        let turn = store.change()?;
        let new = put(store, &turn, &image.config_json, &new_layers(&image.config.diff_ids, &mut copied), &whole)?;
        // Only then: an image that is there twice is better than none.
        let index = There::read(store, &turn)?;
        let mut manifests = index.images.clone();
        let ours = format!("sha256:{}", new.manifest);
        manifests.retain(|other| other.digest == ours || other.digest != digest);
        // Names that no name of an image is written as.
        manifests
            .retain(|other| other.name().is_none_or(|name| whole.iter().any(|new| new == name) || !names.iter().any(|old| old == name)));
        index.write(store, &turn, manifests)?;
    }
    if is_odd { problems(store, &store.look()?) } else { Ok(Vec::new()) }
}

/// What of the store cannot be read, in sentences: it is passed over, and everything else works.
pub(super) fn problems(store: &Store, turn: &Turn) -> Result<Vec<String>> {
    let index = There::read(store, turn)?;
    let mut problems = index.odd();
    let mut seen = BTreeSet::new();
    for image in index.images.iter().filter(|image| seen.insert(image.digest.clone())) {
        let whole = image.digest.parse().and_then(|digest| stored(store, digest, Vec::new())).and_then(|image| {
            image.diff_ids.iter().try_for_each(|layer| {
                let blob = store.blob(layer);
                fs::metadata(&blob).map(drop).or_fail(Class::Engine, || format!("cannot read {}", blob.display()))
            })
        });
        if let Err(error) = whole {
            let told: Vec<String> = std::iter::once(error.to_string()).chain(error.causes()).collect();
            problems.push(format!("{}: {}", image.name().unwrap_or(&image.digest), told.join(": ")));
        }
    }
    Ok(problems)
}

/// Every image, each once, with its names in order; without what other programs wrote that cannot be one.
pub(super) fn all(store: &Store, turn: &Turn) -> Result<Vec<Stored>> {
    let mut images: BTreeMap<Sha256, Vec<String>> = BTreeMap::new();
    for descriptor in There::read(store, turn)?.images {
        images.entry(descriptor.digest.parse()?).or_default().extend(descriptor.name().map(str::to_string));
    }
    Ok(images.into_iter().filter_map(|(digest, names)| stored(store, digest, names).ok()).collect())
}

/// The image of a name or an id, which is used now.
pub(super) fn find(store: &Store, turn: &Turn, text: &str) -> Result<Option<Stored>> {
    let found = find_unused(store, turn, text)?;
    if let Some(image) = &found {
        // (Only its age counts, and what cannot be said of it makes it older.)
        let _ = File::open(store.blob(&image.manifest)).and_then(|file| file.set_modified(SystemTime::now()));
    }
    Ok(found)
}

/// [`find`], for who removes it.
fn find_unused(store: &Store, turn: &Turn, text: &str) -> Result<Option<Stored>> {
    let manifests = There::read(store, turn)?.images;
    let of = |digest: &str| -> Result<Option<Stored>> {
        let names = manifests.iter().filter(|other| other.digest == digest).filter_map(|other| other.name().map(str::to_string));
        stored(store, digest.parse()?, names.collect()).map(Some).map_err(|error| {
            Error::new(Class::Engine, format!("the image {text} cannot be read"))
                .because(error)
                .hint(format!("bring it again, or take its name out of the store: twostage rm {text}"))
        })
    };
    let by_id =
        |hex: &str| -> Result<Option<Stored>> {
            let hex = hex.to_ascii_lowercase();
            let mut found: Vec<Stored> = Vec::new();
            for image in all(store, turn)? {
                if [&image.id, &image.manifest].iter().any(|digest| digest.to_string().starts_with(&hex)) {
                    found.push(image);
                }
            }
            match found.len() {
                0 | 1 => Ok(found.pop()),
                several => Err(Error::new(Class::Engine, format!("{text} is the beginning of the ids of {several} images"))
                    .hint("write more of the id")),
            }
        };
    if let Some(hex) = Reference::check(text)?.strip_prefix("sha256:") {
        return by_id(hex);
    }
    let reference = Reference::parse(text)?;
    if let Some(digest) = &reference.digest {
        let hex = digest.trim_start_matches("sha256:");
        let pinned = hex.parse().ok().and_then(|digest| pulled::pinned_name(text, &digest).ok());
        return match manifests.iter().find(|descriptor| descriptor.name().is_some() && descriptor.name() == pinned.as_deref()) {
            Some(descriptor) => of(&descriptor.digest),
            None => by_id(hex),
        };
    }
    let name = whole_name(&reference);
    match manifests.iter().find(|descriptor| descriptor.name() == Some(&name)) {
        Some(descriptor) => of(&descriptor.digest),
        None if text.len() >= 12 && text.bytes().all(|b| b.is_ascii_hexdigit()) => by_id(text),
        None => Ok(None),
    }
}

/// [`find`], for what must be there.
pub(super) fn get(store: &Store, turn: &Turn, text: &str) -> Result<Stored> {
    find(store, turn, text)?.ok_or_else(|| {
        Error::new(Class::Engine, format!("there is no image {text}"))
            .hint(format!("the embedded engine has what was made with it, and what is brought: {}", copy_hint(store, text)))
    })
}

/// Where an image is.
pub(super) fn location(store: &Store, turn: &Turn, text: &str) -> Result<Location> {
    let image = get(store, turn, text)?;
    Ok(Location { layout: store.images(), manifest: image.manifest, id: image.id, layers: image.diff_ids })
}

/// How an image comes here from elsewhere.
pub(super) fn copy_hint(store: &Store, name: &str) -> String {
    let name = new_name(name).unwrap_or_else(|_| "NAME:TAG".into());
    format!(
        "`skopeo copy docker://{name} oci:{}:{name}`, or from a file, `skopeo copy docker-archive:FILE oci:…`",
        store.images().display()
    )
}

/// A name as it is kept and shown: as Docker shows it, without what it completes a name with.
fn whole_name(reference: &Reference) -> String {
    let name = reference.repository.as_str();
    let name = ["docker.io/", "index.docker.io/"].iter().find_map(|host| name.strip_prefix(host)).unwrap_or(name);
    let name = name.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(name);
    format!("{name}:{}", reference.tag.as_deref().unwrap_or("latest"))
}

/// The name that an image is to get.
pub(super) fn new_name(text: &str) -> Result<String> {
    let reference = Reference::parse(text)?;
    reference.writable_tag()?;
    Ok(whole_name(&reference))
}

/// An image that was added: the digests of its configuration, which is its id, and of its manifest.
pub(super) struct Put {
    pub id: Sha256,
    manifest: Sha256,
}

/// Adds an image, whose new layers were made durable, and gives it names.
pub(super) fn put(store: &Store, turn: &Turn, config: &[u8], layers: &[NewLayer], names: &[String]) -> Result<Put> {
    check_config(config, &layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>())?;
    let mut descriptors = Vec::new();
    for layer in layers {
        let blob = store.blob(&layer.diff_id);
        if let Some(file) = &layer.file {
            store.keep(turn, file, &blob)?;
        }
        let size = fs::metadata(&blob).map_err(|cause| {
            Error::new(Class::Engine, format!("the layer {} was removed meanwhile", layer.diff_id.short()))
                .because(cause)
                .hint("somebody removed the image that it was in; load that again")
        })?;
        descriptors.push(Descriptor::new(LAYER, &layer.diff_id, size.len()));
    }
    let id = put_blob(store, config)?;
    let manifest = json(&Manifest::of(Descriptor::new(CONFIG, &id, config.len() as u64), descriptors))?;
    let digest = put_blob(store, &manifest)?;
    give_names(store, turn, &Descriptor::new(MANIFEST, &digest, manifest.len() as u64), names)?;
    Ok(Put { id, manifest: digest })
}

/// Adds an image whose layers are all there.
pub(super) fn put_known(store: &Store, turn: &Turn, config: &ImageConfig, layers: &[Sha256], names: &[String]) -> Result<Sha256> {
    let layers: Vec<NewLayer> = layers.iter().map(|diff_id| NewLayer { diff_id: *diff_id, file: None }).collect();
    put(store, turn, &config.to_json()?, &layers, names).map(|put| put.id)
}

fn put_blob(store: &Store, bytes: &[u8]) -> Result<Sha256> {
    let digest = Sha256::of(bytes);
    let path = store.blob(&digest);
    if !path.exists() {
        store::write(&path, bytes)?;
    }
    Ok(digest)
}

/// Names go from the images that had them; one that has none left stays, without.
fn give_names(store: &Store, turn: &Turn, image: &Descriptor, names: &[String]) -> Result<()> {
    let index = There::read(store, turn)?;
    let before = index.images.clone();
    let mut after: Vec<Descriptor> =
        before.iter().filter(|other| other.name().is_none_or(|name| !names.iter().any(|new| new == name))).cloned().collect();
    after.extend(names.iter().map(|name| image.named(Some(name))));
    for other in before.iter().chain([image]) {
        if !after.iter().any(|left| left.digest == other.digest) {
            after.push(other.named(None));
        }
    }
    let named: BTreeSet<String> = after.iter().filter(|other| other.name().is_some()).map(|other| other.digest.clone()).collect();
    after.retain(|other| other.name().is_some() || !named.contains(&other.digest));
    after.sort_by(|a, b| (a.name(), &a.digest).cmp(&(b.name(), &b.digest)));
    index.write(store, turn, after)
}

/// Gives an image one more name.
pub(super) fn tag(store: &Store, turn: &Turn, image: &str, name: &str) -> Result<()> {
    let found = get(store, turn, image)?;
    let all = There::read(store, turn)?.images;
    let digest = format!("sha256:{}", found.manifest);
    let descriptor = all.iter().find(|other| other.digest == digest).map(|other| other.named(None));
    let descriptor = descriptor.ok_or_else(|| Error::new(Class::Engine, format!("there is no image {image}")))?;
    give_names(store, turn, &descriptor, &[new_name(name)?])
}

/// When an image was last asked for by somebody, or made: the time of its manifest, which every look for it sets.
pub(super) fn last_used(store: &Store, image: &Stored) -> Option<SystemTime> {
    fs::metadata(store.blob(&image.manifest)).and_then(|found| found.modified()).ok()
}

/// What a removal took away: names, and images with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub names: Vec<String>,
    pub images: Vec<Sha256>,
}

/// Removes a name; with the last one, or by its id, the image. One that is not there is fine.
pub(super) fn remove(store: &Store, turn: &Turn, text: &str) -> Result<Removed> {
    let index = There::read(store, turn)?;
    let mut manifests = index.images.clone();
    let name = Reference::parse(text).ok().filter(|name| name.digest.is_none()).map(|reference| whole_name(&reference));
    let by_name = name.filter(|name| manifests.iter().any(|other| other.name() == Some(name)));
    // (By its name it is found though it cannot be read. What another program named may be no name of ours.)
    let exact = by_name.or_else(|| manifests.iter().find(|other| other.name() == Some(text)).map(|_| text.to_string()));
    let (digest, id) = match manifests.iter().find(|other| exact.is_some() && other.name() == exact.as_deref()) {
        Some(named) => {
            let id = named.digest.parse().and_then(|digest| stored(store, digest, Vec::new())).map(|image| image.id);
            (named.digest.clone(), id.ok())
        }
        None => match find_unused(store, turn, text)? {
            Some(found) => (format!("sha256:{}", found.manifest), Some(found.id)),
            None => return Ok(Removed::default()),
        },
    };
    manifests.retain(|other| other.digest != digest || exact.as_deref().is_some_and(|name| other.name() != Some(name)));
    // A digest that a registry knew it by is no name that keeps it.
    let is_name = |other: &Descriptor| other.name().is_none_or(|name| pulled::by_digest(name).is_none());
    if !manifests.iter().any(|other| other.digest == digest && is_name(other)) {
        manifests.retain(|other| other.digest != digest);
    }
    let left: BTreeSet<&str> = manifests.iter().filter(|other| other.digest == digest).filter_map(Descriptor::name).collect();
    let names = index.images.iter().filter(|other| other.digest == digest).filter_map(Descriptor::name);
    let removed = Removed {
        names: names.filter(|name| !left.contains(name)).map(str::to_string).collect(),
        images: if manifests.iter().any(|other| other.digest == digest) { Vec::new() } else { id.into_iter().collect() },
    };
    index.write(store, turn, manifests)?;
    Ok(removed)
}

/// Removes every image that has no name.
pub(super) fn remove_nameless(store: &Store, turn: &Turn) -> Result<Removed> {
    let index = There::read(store, turn)?;
    let is_named = |other: &Descriptor| other.name().is_some();
    let (kept, gone): (Vec<Descriptor>, Vec<Descriptor>) = index.images.iter().cloned().partition(is_named);
    if gone.is_empty() {
        return Ok(Removed::default());
    }
    let ids = gone.iter().filter_map(|other| stored(store, other.digest.parse().ok()?, Vec::new()).ok()).map(|image| image.id);
    let removed = Removed { names: Vec::new(), images: ids.collect() };
    index.write(store, turn, kept)?;
    Ok(removed)
}

/// What images and containers need.
#[derive(Default)]
pub(super) struct Needed {
    blobs: BTreeSet<Sha256>,
    layers: BTreeSet<Sha256>,
    chains: BTreeSet<Sha256>,
    /// Every image could be read. Else nobody knows what those need that could not.
    complete: bool,
}

/// Finds that out. `used` are the layers of each container.
pub(super) fn needed(store: &Store, turn: &Turn, used: &[Vec<Sha256>]) -> Result<Needed> {
    let index = There::read(store, turn)?;
    let mut needed = Needed { complete: index.broken.is_none(), blobs: index.odd_digests(), ..Needed::default() };
    let mut stacks = used.to_vec();
    let mut todo: Vec<Sha256> = index.images.iter().filter_map(|image| image.digest.parse().ok()).collect();
    todo.extend(needed.blobs.iter().copied());
    let mut seen = BTreeSet::new();
    while let Some(digest) = todo.pop() {
        if !seen.insert(digest) {
            continue;
        }
        needed.blobs.insert(digest);
        // An image of ours; or what another program wrote here: a manifest with packed layers, or an index of several.
        let document = index::small(&store.blob(&digest), MAX_DOCUMENT).ok().filter(|bytes| Sha256::of(bytes) == digest);
        let Some(document) = document.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok()) else {
            needed.complete = false;
            continue;
        };
        let mut found = BTreeSet::new();
        index::digests(&document, &mut found);
        needed.blobs.extend(found);
        let mut below = BTreeSet::new();
        document.get("manifests").into_iter().for_each(|list| index::digests(list, &mut below));
        // (Of an index for several machines only some may have been copied.)
        todo.extend(below.into_iter().filter(|digest| store.blob(digest).exists()));
        stacks.extend(stored(store, digest, Vec::new()).ok().map(|image| image.diff_ids));
    }
    for stack in stacks {
        needed.blobs.extend(&stack);
        needed.chains.insert(chain(&stack));
        needed.layers.extend(stack);
    }
    Ok(needed)
}

/// Takes out of the store what neither an image nor a container needs. Blobs that somebody needed `before` go at once;
/// others once they are old: another program may have written them for an image that it is about to name.
pub(super) fn collect(store: &Store, turn: &Turn, used: &[Vec<Sha256>], before: &BTreeSet<Sha256>, now: SystemTime) -> Result<Trash> {
    let needed = needed(store, turn, used)?;
    let mut trash = Trash::default();
    for (folder, kept) in [("layers", &needed.layers), ("init", &needed.chains)] {
        for path in store::entries(&store.root().join(folder)) {
            if !is_kept(&path, kept) {
                trash.extend(store.discard(turn, &path, None)?);
            }
        }
    }
    for path in store::entries(&contents::folder(store)) {
        if !is_kept(&path, &needed.layers) {
            // (Where it stays, nobody is wronged: it has a bound.)
            let _ = fs::remove_file(&path);
        }
    }
    for path in store::entries(&store.images().join("blobs/sha256")) {
        let goes = is_kept(&path, before) || (needed.complete && is_old(&path, now));
        if goes && !is_kept(&path, &needed.blobs) {
            fs::remove_file(&path).or_fail(Class::System, || format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(trash)
}

/// Whether a blob has been there for so long that whoever wrote it has named it, or never will.
fn is_old(path: &std::path::Path, now: SystemTime) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    // A copy may keep the time of what it is a copy of, but not that of its own name.
    let named = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(found.ctime()).unwrap_or(0));
    let written = found.modified().map_or(named, |time| time.max(named));
    now.duration_since(written).is_ok_and(|age| age > YOUNG)
}

impl Needed {
    /// The blobs.
    pub fn blobs(self) -> BTreeSet<Sha256> {
        self.blobs
    }
}

fn is_kept(path: &std::path::Path, kept: &BTreeSet<Sha256>) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.and_then(|name| name.parse::<Sha256>().ok()).is_some_and(|digest| kept.contains(&digest))
}

/// The chain id of a stack of layers; of none, that of nothing.
pub(super) fn chain(diff_ids: &[Sha256]) -> Sha256 {
    chain_id(diff_ids).unwrap_or_else(|| Sha256::of(b""))
}

/// Makes an image of one layer from a tar.
pub(super) fn import(store: &Store, tar: impl Read + Send, name: &str, config: impl FnOnce(&Sha256) -> Result<Vec<u8>>) -> Result<Sha256> {
    let place = store.workplace()?;
    let (file, watch) = (place.path("layer"), store.watch());
    let mut out = new_file(&file, &watch)?;
    let copied = twostage_image::copy_layer(BufReader::with_capacity(128 << 10, tar), &mut out);
    let copied = copied.map_err(|cause| cause.hint("give it a root file system as a tar, plain or packed with gzip or zstd"));
    let (diff_id, _) = watch.told(copied.and_then(|copied| finish(out, &file).map(|()| copied)))?;
    let config = config(&diff_id)?;
    put(store, &store.change()?, &config, &[NewLayer { diff_id, file: Some(file) }], &[new_name(name)?]).map(|put| put.id)
}

/// Opens an image, each file of it, so that it stays whatever is removed meanwhile.
pub(super) fn open(store: &Store, reference: &str) -> Result<twostage_image::Store> {
    let turn = store.look()?;
    let image = get(store, &turn, reference)?;
    let name = name_in(&image, reference);
    let open = |digest: &Sha256| {
        let file = File::open(store.blob(digest)).or_fail(Class::System, || format!("cannot open image {reference}"))?;
        Ok((*digest, file))
    };
    let layers = image.diff_ids.iter().map(open).collect::<Result<Vec<_>>>()?;
    drop(turn);
    let opened = twostage_image::Store::of_files(image.config_json, name.into_iter().collect(), layers)?;
    Ok(opened.remembering(contents::of(store)))
}

/// The name that an image was asked for by, if it is one of its own.
fn name_in(image: &Stored, reference: &str) -> Option<String> {
    Reference::parse(reference).ok().map(|reference| whole_name(&reference)).filter(|name| image.names.contains(name))
}

/// Adds an image that is made of layers of another one and a new one.
pub(super) fn write(store: &Store, new: &NewImage<'_>) -> Result<Written> {
    let place = store.workplace()?;
    let mut copied = BTreeMap::new();
    let mut diff_ids = new.store.config.diff_ids[..new.kept].to_vec();
    copy_layers(store, &place, new.store, &diff_ids, &mut copied)?;
    let mut layer = None;
    if let Some(delta) = new.delta {
        let (file, watch) = (place.path("layer"), store.watch());
        let written = delta.write(new.store, new_file(&file, &watch)?);
        let (diff_id, size) = watch.told(written.and_then(|(out, diff_id, size)| finish(out, &file).map(|()| (diff_id, size))))?;
        copied.insert(diff_id, file);
        diff_ids.push(diff_id);
        layer = Some((diff_id, size));
    }
    let config = (new.config)(layer.map(|(diff_id, _)| diff_id))?;
    let names: Vec<String> = new.name.iter().map(|name| new_name(name)).collect::<Result<_>>()?;
    let put = put(store, &store.change()?, &config, &new_layers(&diff_ids, &mut copied), &names)?;
    Ok(Written { id: put.id, manifest: Some(put.manifest), layer })
}

/// Takes in the images of an archive; gives their names, and the ids of those without.
pub(super) fn load(store: &Store, mut archive: impl Read) -> Result<Vec<String>> {
    let place = store.workplace()?;
    let path = place.path("archive");
    let file = File::create_new(&path).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
    let watch = store.watch();
    let mut spool = watch.file(file);
    watch.told(io::copy(&mut archive, &mut spool).or_fail(Class::System, || "cannot read the archive".into()))?;
    drop(spool);
    let images = twostage_image::Store::open_all(&path, &|diff_id| store.blob(diff_id).exists())?;
    // All are looked at before the first is taken in.
    images.iter().try_for_each(|image| check_config(&image.config_json, &image.config.diff_ids))?;
    let mut copied = BTreeMap::new();
    for image in &images {
        copy_layers(store, &place, image, &image.config.diff_ids, &mut copied)?;
    }
    let turn = store.change()?;
    let mut loaded = Vec::new();
    for image in &images {
        let mut names = Vec::new();
        for tag in &image.tags {
            // (In a layout a name may be whatever somebody writes there.)
            names.extend(new_name(tag).ok());
        }
        let id = put(store, &turn, &image.config_json, &new_layers(&image.config.diff_ids, &mut copied), &names)?.id;
        if names.is_empty() {
            names.push(format!("sha256:{id}"));
        }
        loaded.extend(names);
    }
    Ok(loaded)
}

/// Copies those of an image's layers that are wanted, and that the store does not have, into a workplace, and makes them
/// durable there.
pub(super) fn copy_layers(
    store: &Store,
    place: &Workplace,
    image: &twostage_image::Store,
    wanted: &[Sha256],
    copied: &mut BTreeMap<Sha256, PathBuf>,
) -> Result<()> {
    let watch = store.watch();
    let mut open: Vec<(File, PathBuf)> = Vec::new();
    let copying = image.copy_layers(&mut |diff_id| {
        if !wanted.contains(diff_id) || copied.contains_key(diff_id) || store.blob(diff_id).exists() {
            return Ok(None);
        }
        let file = place.path(&diff_id.to_string());
        copied.insert(*diff_id, file.clone());
        let out = new_file(&file, &watch)?;
        open.push((out.get_ref().file().try_clone().or_fail(Class::System, || format!("cannot write {}", file.display()))?, file));
        Ok(Some(Box::new(out)))
    });
    watch.told(copying)?;
    open.into_iter().try_for_each(|(file, path)| file.sync_all().or_fail(Class::System, || format!("cannot write {}", path.display())))
}

/// The layers of an image of which some were copied.
pub(super) fn new_layers(diff_ids: &[Sha256], copied: &mut BTreeMap<Sha256, PathBuf>) -> Vec<NewLayer> {
    diff_ids.iter().map(|diff_id| NewLayer { diff_id: *diff_id, file: copied.remove(diff_id) }).collect()
}

/// What an archive of an image is made of, each file open, so that a removal takes nothing away.
pub(super) struct Saving {
    members: Vec<(String, u64, Box<dyn Read + Send>)>,
}

/// Opens an image to be written as an archive: what `docker save` writes, with an OCI layout beside it over the same
/// blobs.
pub(super) fn save(store: &Store, reference: &str) -> Result<Saving> {
    let turn = store.look()?;
    let image = get(store, &turn, reference)?;
    let name = name_in(&image, reference);
    let mut members: Vec<(String, u64, Box<dyn Read + Send>)> = Vec::new();
    let in_memory = |name: &str, bytes: Vec<u8>| -> (String, u64, Box<dyn Read + Send>) {
        (name.into(), bytes.len() as u64, Box::new(io::Cursor::new(bytes)))
    };
    let manifest = read_blob(store, &image.manifest)?;
    let descriptor = Descriptor::new(MANIFEST, &image.manifest, manifest.len() as u64).named(name.as_deref());
    let index = Index::of(vec![descriptor]);
    let path = |digest: &Sha256| format!("blobs/sha256/{digest}");
    let docker = serde_json::json!([{
        "Config": path(&image.id), "RepoTags": name.iter().collect::<Vec<_>>(),
        "Layers": image.diff_ids.iter().map(path).collect::<Vec<_>>(),
    }]);
    members.push(in_memory("oci-layout", LAYOUT.to_vec()));
    members.push(in_memory("index.json", json(&index)?));
    members.push(in_memory("manifest.json", json(&docker)?));
    members.push(in_memory(&path(&image.manifest), manifest));
    members.push(in_memory(&path(&image.id), image.config_json));
    for diff_id in image.diff_ids.iter().collect::<BTreeSet<_>>() {
        let blob = store.blob(diff_id);
        let fail = || format!("cannot read {}", blob.display());
        let file = File::open(&blob).or_fail(Class::System, fail)?;
        let size = file.metadata().or_fail(Class::System, fail)?.len();
        members.push((path(diff_id), size, Box::new(file)));
    }
    Ok(Saving { members })
}

impl Saving {
    /// Writes the archive.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for (name, size, content) in self.members {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content.take(size))?;
        }
        archive.into_inner()?.flush()
    }
}

/// A file of a workplace, which ends where the disk has too little room: a few bytes may become very many here, as packed
/// layers do, and the holes of files.
pub(super) fn new_file(path: &std::path::Path, watch: &Watch) -> Result<BufWriter<WatchedFile>> {
    let file = File::create_new(path).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
    Ok(BufWriter::with_capacity(256 << 10, watch.file(file)))
}

/// Makes a file of a workplace durable.
pub(super) fn finish(out: BufWriter<WatchedFile>, path: &std::path::Path) -> Result<()> {
    let fail = || format!("cannot write {}", path.display());
    let out = out.into_inner().map_err(io::IntoInnerError::into_error).or_fail(Class::System, fail)?;
    out.file().sync_all().or_fail(Class::System, fail)
}

/// What the store's images tell of themselves.
pub(super) fn info(image: &Stored) -> Result<ImageInfo> {
    let config = config(&image.config_json)?;
    let run = config.config;
    Ok(ImageInfo {
        id: format!("sha256:{}", image.id),
        diff_ids: image.diff_ids.clone(),
        labels: run.labels,
        architecture: crate::debian_architecture(&config.architecture, config.variant.as_deref()),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        repo_digests: image.names.iter().filter_map(|name| pulled::by_digest(name)).collect(),
        tags: image.names.iter().filter(|name| pulled::by_digest(name).is_none()).cloned().collect(),
        env: run.env,
        entrypoint: run.entrypoint,
        cmd: run.cmd,
        user: run.user,
        workdir: run.working_dir,
    })
}

//! The JSON files of an archive or a layout, which say what of it the image is.

use crate::config::{self, Descriptor, DockerManifest, OciDocument};
use crate::image::{Config, Layer};
use crate::limits::Limits;
use crate::{broken, path};
use std::collections::{BTreeMap, BTreeSet};
use twostage_model::{Result, Sha256};

/// Where such files are.
pub trait Documents {
    /// Whether there is such a file.
    fn has(&self, name: &str) -> bool;
    /// A file that holds JSON; the digest in its name, if there is one, is checked.
    fn json(&self, name: &str) -> Result<Vec<u8>>;
    /// The name of the file that holds a blob, which has the size that is claimed.
    fn blob(&self, descriptor: &Descriptor) -> Result<String>;
}

/// What an image is made of: names of files.
#[derive(Debug)]
pub struct Found {
    pub config: String,
    /// Lowest first.
    pub layers: Vec<String>,
    pub tags: Vec<String>,
}

/// Every image there is, each once with all its names. Of several under one name it is that for this machine.
pub fn all(documents: &impl Documents, most: usize) -> Result<Vec<Found>> {
    let mut images = Images { found: Vec::new(), numbers: BTreeMap::new(), most };
    if documents.has("manifest.json") {
        let manifests: Vec<DockerManifest> = config::parse(&documents.json("manifest.json")?, "manifest.json")?;
        for manifest in &manifests {
            images.add(found(manifest)?)?;
        }
        return images.done("manifest.json");
    }
    if !documents.has("index.json") {
        return Err(no_archive());
    }
    let document: OciDocument = config::parse(&documents.json("index.json")?, "index.json")?;
    if document.config.is_some() {
        return Ok(vec![image_of(documents, document)?]);
    }
    let mut names: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut named: Vec<Vec<Descriptor>> = Vec::new();
    for manifest in document.manifests {
        let number = *names.entry(manifest.tag()).or_insert(named.len());
        if number == named.len() {
            named.push(Vec::new());
        }
        named[number].push(manifest);
    }
    // An image may have a hundred thousand names: it is read for the first of them.
    let mut read: BTreeMap<String, usize> = BTreeMap::new();
    for manifests in named {
        let chosen = config::choose(&manifests, "index.json")?;
        let blob = documents.blob(chosen)?;
        if let Some(number) = read.get(&blob) {
            images.found[*number].tags.extend(chosen.tag());
        } else {
            let document = OciDocument { manifests, config: None, layers: Vec::new() };
            read.insert(blob, images.add(image_of(documents, document)?)?);
        }
    }
    images.done("index.json")
}

/// Images that differ, up to a bound on how many.
struct Images {
    found: Vec<Found>,
    /// Which one has this configuration and these layers.
    numbers: BTreeMap<(String, Vec<String>), usize>,
    most: usize,
}

impl Images {
    /// Gives its number. One that is there already gets more names.
    fn add(&mut self, found: Found) -> Result<usize> {
        let number = *self.numbers.entry((found.config.clone(), found.layers.clone())).or_insert(self.found.len());
        match self.found.get_mut(number) {
            Some(there) => there.tags.extend(found.tags),
            None if number >= self.most => {
                return Err(broken(format!("it holds more than {} images", self.most)).hint("save them into several archives"));
            }
            None => self.found.push(found),
        }
        Ok(number)
    }

    /// All of them; there is at least one.
    fn done(mut self, name: &str) -> Result<Vec<Found>> {
        if self.found.is_empty() {
            return Err(broken(format!("{name} names no image")).hint("save the image again: what wrote this archive found none"));
        }
        for found in &mut self.found {
            let mut seen = BTreeSet::new();
            found.tags.retain(|tag| seen.insert(tag.clone()));
        }
        Ok(self.found)
    }
}

fn found(manifest: &DockerManifest) -> Result<Found> {
    Ok(Found {
        config: path::clean(manifest.config.as_bytes())?,
        layers: manifest.layers.iter().map(|layer| path::clean(layer.as_bytes())).collect::<Result<_>>()?,
        tags: manifest.repo_tags.clone(),
    })
}

fn no_archive() -> twostage_model::Error {
    broken("there is neither a manifest.json nor an index.json in it: it is no image archive, or its end is missing")
        .hint("give it what `docker save` or `skopeo copy … oci-archive:` wrote")
}

/// Finds the image: the only one, that for this machine, or the one called `wanted`.
pub fn find(documents: &impl Documents, wanted: Option<&str>) -> Result<Found> {
    if documents.has("manifest.json") {
        let manifests: Vec<DockerManifest> = config::parse(&documents.json("manifest.json")?, "manifest.json")?;
        let is_wanted = |manifest: &DockerManifest| wanted.is_none_or(|wanted| manifest.repo_tags.iter().any(|tag| means(tag, wanted)));
        let all: Vec<&String> = manifests.iter().flat_map(|manifest| &manifest.repo_tags).collect();
        let fitting: Vec<&DockerManifest> = manifests.iter().filter(|manifest| is_wanted(manifest)).collect();
        return match (&fitting[..], wanted) {
            ([manifest], _) => found(manifest),
            ([], Some(wanted)) => Err(broken(format!("no image in it is called {wanted}")).hint(named(&all))),
            _ => Err(broken(format!("the archive holds {} images", fitting.len())).hint(named(&all))),
        };
    }
    if !documents.has("index.json") {
        return Err(no_archive());
    }
    let mut document: OciDocument = config::parse(&documents.json("index.json")?, "index.json")?;
    if let Some(wanted) = wanted {
        let all: Vec<String> = document.manifests.iter().filter_map(Descriptor::tag).collect();
        document.manifests.retain(|manifest| manifest.tag().is_some_and(|tag| means(&tag, wanted)));
        if document.manifests.is_empty() {
            return Err(broken(format!("no image in it is called {wanted}")).hint(named(&all.iter().collect::<Vec<_>>())));
        }
    }
    image_of(documents, document)
}

/// The image that is meant of an index.
fn image_of(documents: &impl Documents, mut document: OciDocument) -> Result<Found> {
    let mut tags = Vec::new();
    let mut name = "index.json".to_string();
    for _ in 0..8 {
        if let Some(config) = &document.config {
            let layers = document.layers.iter().map(|layer| documents.blob(layer)).collect::<Result<Vec<_>>>()?;
            return Ok(Found { config: documents.blob(config)?, layers, tags });
        }
        let chosen = config::choose(&document.manifests, &name)?;
        tags.extend(chosen.tag());
        name = documents.blob(chosen)?;
        document = config::parse(&documents.json(&name)?, &name)?;
    }
    Err(broken("its indexes name each other without end"))
}

/// Whether a name in an archive is what somebody asks for: the whole of it, or only its tag.
fn means(tag: &str, wanted: &str) -> bool {
    let whole =
        |name: &str| if name.rsplit('/').next().is_some_and(|last| last.contains(':')) { name.into() } else { format!("{name}:latest") };
    tag == wanted || whole(tag) == whole(wanted) || (!wanted.contains(['/', ':']) && tag.rsplit(':').next() == Some(wanted))
}

fn named(tags: &[&String]) -> String {
    match tags {
        [] => "its images have no names; save one image into an archive of its own".into(),
        tags => {
            let shown: Vec<String> = tags.iter().take(20).map(|tag| path::shown(tag)).collect();
            format!("name one of them after the path (`docker-archive:FILE:NAME`, `oci:DIR:NAME`): {}", shown.join(", "))
        }
    }
}

/// The configuration, which must name as many layers as the manifest.
pub fn config(json: &[u8], name: &str, layers: usize, limits: &Limits) -> Result<Config> {
    let config = config::config(json, name)?;
    if layers > limits.layers {
        return Err(broken(format!("the image has {layers} layers, more than {}", limits.layers)));
    }
    if layers != config.diff_ids.len() {
        return Err(broken(format!("the image has {layers} layers, but its configuration names {}", config.diff_ids.len())));
    }
    Ok(config)
}

/// Refuses a layer whose tar is not the one that the configuration names.
pub fn same_tar(number: usize, name: &str, layer: &Layer, diff_id: &Sha256) -> Result<()> {
    same_digest(number, name, &layer.diff_id, diff_id)
}

/// [`same_tar`], by the digest that a layer's tar has.
pub fn same_digest(number: usize, name: &str, is: &Sha256, diff_id: &Sha256) -> Result<()> {
    if is == diff_id {
        return Ok(());
    }
    let number = number + 1;
    Err(broken(format!("layer {number} ({name}) is not the one that the image has"))
        .because(format!("its tar hashes to {is}, but the configuration says {diff_id}"))
        .hint("a part of it was changed, or belongs to another image: get or save the image again"))
}

/// Refuses a blob that is longer or shorter than is claimed.
pub fn same_size(name: &str, size: u64, descriptor: &Descriptor) -> Result<()> {
    match descriptor.size {
        Some(claimed) if claimed != size => Err(broken(format!("{name} has {size} bytes, not the {claimed} that are claimed"))),
        _ => Ok(()),
    }
}

/// Where a blob is.
pub fn blob_name(digest: &Sha256) -> String {
    format!("blobs/sha256/{digest}")
}

/// The file that a name means, through links. `look` says of a name: there is nothing, it is a file,
/// or it is a link to another name.
pub fn follow<'a>(name: &'a str, look: impl Fn(&str) -> Option<Result<(), &'a str>>) -> Result<String> {
    let mut at = name;
    for _ in 0..8 {
        match look(at) {
            Some(Ok(())) => return Ok(at.to_string()),
            Some(Err(target)) => at = target,
            None => return Err(broken(format!("{} is missing from the archive", path::shown(name)))),
        }
    }
    Err(broken(format!("{} is a link without end", path::shown(name))))
}

//! Archives of images, read in one pass.
//!
//! ```text
//! docker save until 24        docker save since 25, skopeo        OCI archive
//! <id>/layer.tar              blobs/sha256/<digest>               blobs/sha256/<digest>
//! <id>.json                   manifest.json, index.json           index.json
//! manifest.json               oci-layout                          oci-layout
//! ```
//!
//! What a blob is gets said only at the archive's end, so each is taken for what its first bytes
//! say, walked while it streams by, and judged when a manifest names it.

use crate::config::{self, Descriptor};
use crate::documents::{self, Documents};
use crate::image::{Image, Layer, Wanted};
use crate::layer::{HashRead, Sniffed, read_layer, sniff};
use crate::limits::{Budget, Limits};
use crate::tarball::Tarball;
use crate::{broken, path};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result, Sha256};

/// Files of an archive, blobs included. An image has a few hundred.
const MAX_MEMBERS: usize = 100_000;

/// Reads an image from a docker archive or an OCI archive. `keep` says which files' contents are
/// wanted.
///
/// # Errors
/// Anything that is not what it claims to be, named; nothing of such an image is returned.
pub fn read_archive(input: impl Read + Send, keep: Wanted<'_>) -> Result<Image> {
    read_archive_within(input, keep, &Limits::default())
}

/// [`read_archive`] with other bounds.
///
/// # Errors
/// As [`read_archive`].
pub fn read_archive_within(input: impl Read + Send, keep: Wanted<'_>, limits: &Limits) -> Result<Image> {
    let mut budget = Budget::new(limits);
    let mut tarball = Tarball::new(BufReader::with_capacity(256 << 10, input));
    let mut members = BTreeMap::new();
    while let Some(header) = tarball.next()? {
        let name = path::clean(&header.path)?;
        let member = match header.kind {
            b'0' => Member::Blob(read_blob(&mut tarball, &name, header.size, keep, &mut budget)?),
            b'1' => Member::Link(path::clean(&header.link)?),
            b'2' => Member::Link(beside(&name, &header.link)?),
            _ => continue,
        };
        if members.len() >= MAX_MEMBERS {
            return Err(broken(format!("the archive has more than {MAX_MEMBERS} files")));
        }
        budget.entry(name.len() as u64)?;
        members.insert(name, member);
    }
    Assembly { members, budget }.image()
}

/// A file of the archive.
enum Member {
    /// Its bytes.
    Blob(Blob),
    /// Another name of the file at this path.
    Link(String),
}

/// A blob as its first bytes told it.
struct Blob {
    /// None for what failed to be a layer: nothing is ever made of it.
    digest: Option<Sha256>,
    size: u64,
    is: Is,
}

/// What a blob was read as.
enum Is {
    Json(Vec<u8>),
    /// A layer, or why it is none: an archive may hold blobs that no manifest names.
    Layer(Result<Box<Layer>>),
    Other,
}

/// Reads one blob to its end, and checks the digest that its name claims.
fn read_blob(input: impl Read + Send, name: &str, size: u64, keep: Wanted<'_>, budget: &mut Budget<'_>) -> Result<Blob> {
    let fail = || format!("cannot read {name} from the archive");
    // A short read must not hide the magic of a tar, which stands at byte 257.
    let mut input = input;
    let mut head = Vec::new();
    (&mut input).take(512).read_to_end(&mut head).or_fail(Class::Runtime, fail)?;
    let sniffed = sniff(&head);
    let whole = io::Cursor::new(head).chain(&mut input);
    let layer_by_name = name.ends_with("layer.tar") || name.starts_with("blobs/");
    let (is, digest, size) = match sniffed {
        Sniffed::Json => {
            budget.json(name, size)?;
            let mut json = Vec::new();
            whole.take(size).read_to_end(&mut json).or_fail(Class::Runtime, fail)?;
            let (digest, size) = (Sha256::of(&json), json.len() as u64);
            (Is::Json(json), Some(digest), size)
        }
        Sniffed::Gzip | Sniffed::Zstd => {
            let mut raw = BufReader::with_capacity(128 << 10, HashRead::new(whole, u64::MAX));
            let layer = read_layer(&mut raw as &mut (dyn BufRead + Send), keep, budget);
            io::copy(&mut raw, &mut io::sink()).or_fail(Class::Runtime, fail)?;
            let (digest, size) = raw.into_inner().finish();
            (Is::Layer(layer.map(Box::new)), Some(digest), size)
        }
        Sniffed::Other if !layer_by_name => (Is::Other, None, size),
        // A plain tar's digest is the layer's own, so that it is hashed once.
        Sniffed::Tar | Sniffed::Other => {
            let layer = read_layer(BufReader::with_capacity(128 << 10, whole), keep, budget);
            let (digest, size) = layer.as_ref().map_or((None, size), |layer| (Some(layer.diff_id), layer.size));
            (Is::Layer(layer.map(Box::new)), digest, size)
        }
    };
    io::copy(&mut input, &mut io::sink()).or_fail(Class::Runtime, fail)?;
    let stem = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"));
    if let Some(claimed) = stem.and_then(|stem| stem.parse::<Sha256>().ok())
        && let Some(digest) = digest
        && claimed != digest
    {
        return Err(broken(format!("{name}: its bytes hash to {digest}, not to its name")));
    }
    Ok(Blob { digest, size, is })
}

/// The path that a symbolic link beside `name` means, inside the archive.
pub(crate) fn beside(name: &str, target: &[u8]) -> Result<String> {
    let mut parts: Vec<&[u8]> = path::parent(name).split('/').map(str::as_bytes).collect();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none_or(<[u8]>::is_empty) {
                    return Err(broken(format!("{name}: the link leads out of the archive")));
                }
            }
            part => parts.push(part),
        }
    }
    path::clean(&parts.join(&b'/'))
}

/// All files of an archive, from which the one image is put together.
struct Assembly<'a> {
    members: BTreeMap<String, Member>,
    budget: Budget<'a>,
}

impl Assembly<'_> {
    fn image(mut self) -> Result<Image> {
        let found = documents::find(&self, None)?;
        self.finish(&found.config, &found.layers, found.tags)
    }

    fn finish(&mut self, config_name: &str, layer_names: &[String], tags: Vec<String>) -> Result<Image> {
        let config_json = self.json(config_name)?;
        let config = documents::config(&config_json, config_name, layer_names.len(), self.budget.limits)?;
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        let names = layer_names.iter().map(|name| self.follow(name)).collect::<Result<Vec<_>>>()?;
        names.iter().for_each(|name| *uses.entry(name.clone()).or_default() += 1);
        let mut layers = Vec::with_capacity(names.len());
        for (number, (name, diff_id)) in names.iter().zip(&config.diff_ids).enumerate() {
            let layer = self.layer(
                name,
                uses.get_mut(name).map_or(0, |left| {
                    *left -= 1;
                    *left
                }),
            )?;
            documents::same_tar(number, name, &layer, diff_id)?;
            layers.push(layer);
        }
        Ok(Image { id: Sha256::of(&config_json), config, config_json, tags, layers })
    }

    /// The layer's only copy, or a clone if it is needed again.
    fn layer(&mut self, name: &str, needed_again: usize) -> Result<Layer> {
        if needed_again > 0
            && let Some(Member::Blob(Blob { is: Is::Layer(Ok(layer)), .. })) = self.members.get(name)
        {
            return self.budget.again(layer);
        }
        match self.members.remove(name) {
            Some(Member::Blob(Blob { is: Is::Layer(layer), .. })) => {
                layer.map(|layer| *layer).map_err(|e| Error::new(e.class(), format!("cannot read the layer {name}")).because(e))
            }
            _ => Err(broken(format!("{name} is named as a layer, but it is none"))),
        }
    }

    /// The member that a name means, through links.
    fn follow(&self, name: &str) -> Result<String> {
        documents::follow(name, |at| match self.members.get(at)? {
            Member::Blob(_) => Some(Ok(())),
            Member::Link(target) => Some(Err(target)),
        })
    }
}

impl Documents for Assembly<'_> {
    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn json(&self, name: &str) -> Result<Vec<u8>> {
        match self.members.get(&self.follow(name)?) {
            Some(Member::Blob(Blob { is: Is::Json(json), .. })) => Ok(json.clone()),
            _ => Err(broken(format!("{name} is no JSON"))),
        }
    }

    /// Its digest was checked when it was read, where its name claims one.
    fn blob(&self, descriptor: &Descriptor) -> Result<String> {
        let digest = config::digest(&descriptor.digest)?;
        let name = self.follow(&documents::blob_name(&digest))?;
        if let Some(Member::Blob(blob)) = self.members.get(&name) {
            documents::same_size(&name, blob.size, descriptor)?;
            if let Some(other) = blob.digest.filter(|other| *other != digest) {
                return Err(broken(format!("{name}: its bytes hash to {other}, not to {digest}")));
            }
        }
        Ok(name)
    }
}

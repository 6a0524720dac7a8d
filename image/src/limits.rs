//! How much of a hostile image is read before it is refused.

use crate::broken;
use crate::image::{Entry, Kind, Layer};
use twostage_model::Result;

/// Images of one archive or layout, where all of them are opened: a machine's whole store has a few thousand.
const MAX_IMAGES: usize = 10_000;

/// Bounds on one image. The defaults fit any image that a machine of today can run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Uncompressed bytes of one layer, holes of sparse files included.
    pub layer_bytes: u64,
    /// Layers.
    pub layers: usize,
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of all paths, link targets and attributes.
    pub name_bytes: u64,
    /// Bytes of one file whose content is kept.
    pub kept_file: u64,
    /// Bytes of all contents kept.
    pub kept_total: u64,
    /// Bytes of one manifest, index or configuration; of all that are read when a place is opened, eight times as many.
    pub json_bytes: u64,
    /// Images of one archive or layout, where all of them are opened. One with several names is one.
    pub images: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            layer_bytes: 64 << 30,
            layers: 512,
            entries: 2_000_000,
            name_bytes: 512 << 20,
            // An rpm database of a whole desktop has some 150 MiB.
            kept_file: 256 << 20,
            kept_total: 1 << 30,
            json_bytes: 16 << 20,
            images: MAX_IMAGES,
        }
    }
}

/// What of the limits is used up: over all layers of an image, or over all that is read to open a place.
pub(crate) struct Budget<'a> {
    pub limits: &'a Limits,
    entries: u64,
    name_bytes: u64,
    kept: u64,
    json: u64,
}

impl<'a> Budget<'a> {
    pub fn new(limits: &'a Limits) -> Self {
        Budget { limits, entries: 0, name_bytes: 0, kept: 0, json: 0 }
    }

    pub fn entry(&mut self, name_bytes: u64) -> Result<()> {
        self.entries += 1;
        self.name_bytes = self.name_bytes.saturating_add(name_bytes);
        if self.entries > self.limits.entries {
            return Err(broken(format!("the image has more than {} entries", self.limits.entries)));
        }
        if self.name_bytes > self.limits.name_bytes {
            return Err(broken(format!("the names in the image take more than {} bytes", self.limits.name_bytes)));
        }
        Ok(())
    }

    pub fn keep(&mut self, path: &str, size: u64) -> Result<()> {
        self.kept = self.kept.saturating_add(size);
        if size > self.limits.kept_file || self.kept > self.limits.kept_total {
            return Err(broken(format!("{path}: {size} bytes are too many to look into")));
        }
        Ok(())
    }

    /// Counts a layer that stands in an image once more, and gives it. What is counted is all that a copy holds, as when
    /// the layer was read: else a small layer that is named often takes more memory than any machine has. (It is not
    /// shared, as an entry of a tree is known by where it is in memory: one file of two layers would be two names of one.)
    pub fn again(&mut self, layer: &Layer) -> Result<Layer> {
        self.count(layer)?;
        Ok(layer.clone())
    }

    /// Counts a layer that is there.
    pub fn count(&mut self, layer: &Layer) -> Result<()> {
        for entry in &layer.entries {
            self.entry(name_bytes(entry))?;
            self.keep(&entry.path, entry.content.as_ref().map_or(0, Vec::len) as u64)?;
        }
        Ok(())
    }

    pub fn json(&mut self, name: &str, size: u64) -> Result<()> {
        self.json = self.json.saturating_add(size);
        if size > self.limits.json_bytes {
            return Err(broken(format!("{name}: {size} bytes are too many for a manifest or a configuration")));
        }
        if self.json > self.limits.json_bytes.saturating_mul(8) {
            return Err(broken(format!("{name}: with it the manifests and configurations have {} bytes, which are too many", self.json))
                .hint("save fewer images into one archive"));
        }
        Ok(())
    }
}

/// Bytes of what is kept of a member besides its content: path, link target and attributes.
fn name_bytes(entry: &Entry) -> u64 {
    let link = match &entry.kind {
        Kind::Symlink { target } | Kind::Hardlink { target } => target.len(),
        _ => 0,
    };
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    (entry.path.len() + entry.written.as_ref().map_or(0, |path| path.len()) + link + xattrs) as u64
}

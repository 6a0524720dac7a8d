//! Images that a run makes: what a stage starts from where its base cannot be used as it is, and the one in the end.

use super::Job;
use super::ready::Ready;
use crate::blocking;
use crate::dockerfile::At;
use crate::dockerfile::config::{History, ImageConfig};
use crate::{Kind, pipe};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use twostage_image::{Compression, Image as Read, NewImage, Written, flatten};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256, date};

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration: what engines call its id.
    pub id: Sha256,
    /// Its own layer; none if nothing changed.
    pub layer: Option<Sha256>,
    /// Layers of its base.
    pub kept: usize,
    /// Bytes of the files in its own layer.
    pub bytes: u64,
}

impl Job<'_> {
    /// An image without anything, for `FROM scratch` and for files that are mounted.
    pub(super) async fn empty(&self, at: &At, name: String) -> Result<String> {
        let config = serde_json::json!({
            "architecture": self.plan.options.target.architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": [] }]);
        let mut archive = tar::Builder::new(Vec::new());
        for (path, json) in [("config.json", config.to_string()), ("manifest.json", manifest.to_string())] {
            let mut header = tar::Header::new_ustar();
            header.set_size(json.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, json.as_bytes()).or_fail(Class::System, || "cannot describe an empty image".into())?;
        }
        let bytes = archive.into_inner().or_fail(Class::System, || "cannot describe an empty image".into())?;
        let (mut writer, stream) = pipe();
        let writing = blocking(move || {
            let written = writer.write_all(&bytes).and_then(|()| writer.finish());
            written.or_fail(Class::Engine, || "cannot hand the image to the engine".into())
        });
        let (written, loaded) = tokio::join!(writing, self.engine.load(stream));
        loaded.map_err(|error| super::named(at, error))?;
        written?;
        Ok(name)
    }

    /// The base without its volumes: an engine would put empty ones over what is in them, and what a RUN or COPY
    /// writes there would be in no layer.
    pub(super) async fn without_volumes(&self, ready: &Ready<'_>, image: &str) -> Result<String> {
        let name = self.start_name(ready.index);
        let opened = self.engine.open(image).await?;
        let mut config: serde_json::Value =
            serde_json::from_slice(&opened.store.config_json).or_fail(Class::Runtime, || "the base's configuration is no JSON".into())?;
        if let Some(config) = config.get_mut("config").and_then(serde_json::Value::as_object_mut) {
            config.remove("Volumes");
        }
        let config = serde_json::to_vec(&config).or_fail(Class::System, || "cannot write JSON".into())?;
        let with_kept = self.engine.kind() == Kind::Podman;
        let made = self.engine.write(Some(name.clone()), with_kept, move |write| {
            let config = move |_| Ok(config.clone());
            let kept = opened.store.layers();
            write(&mut NewImage { store: &opened.store, kept, delta: None, compression: Compression::None, name: None, config: &config })
        });
        made.await.map_err(|error| super::named(ready.at, error))?;
        Ok(name)
    }

    /// The image of a stage that is committed: the base's layers and one of its own.
    pub(super) async fn image(&self, target: &Ready<'_>, name: Option<String>) -> Result<Image> {
        let opened = self.engine.open(&self.temporary(target.index)).await?;
        let (epoch, now, root) = (self.epoch, self.now, target.root.clone());
        let config = target.state.image.clone();
        let with_kept = self.engine.kind() == Kind::Podman;
        let (image, written, bytes) = self
            .engine
            .write(name, with_kept, move |write| {
                let mut image = opened.store.read_to_flatten()?;
                if image.layers.len() < root.layers.len() {
                    return Err(Error::new(Class::Engine, "the engine's image of the stage has fewer layers than its base"));
                }
                if let Some(epoch) = epoch {
                    for entry in image.layers[root.layers.len()..].iter_mut().flat_map(|layer| &mut layer.entries) {
                        entry.mtime = entry.mtime.min(epoch);
                    }
                }
                let flat = flatten::flatten(&image, root.layers.len())?;
                let config = |layer| finish(&config, &image, &root, layer, epoch.unwrap_or(now));
                let mut new = NewImage {
                    store: &opened.store,
                    kept: root.layers.len(),
                    delta: flat.delta.as_ref(),
                    compression: Compression::None,
                    name: None,
                    config: &config,
                };
                let written: Written = write(&mut new)?;
                Ok((root.layers.len(), written, flat.delta.as_ref().map_or(0, twostage_image::Delta::file_bytes)))
            })
            .await?;
        Ok(Image { id: written.id, layer: written.layer.map(|(digest, _)| digest), kept: image, bytes })
    }
}

/// The configuration: the base's history, then the file's, in which only the last step that can have made a layer has
/// the one there is.
fn finish(config: &ImageConfig, read: &Read, root: &super::ready::Root, layer: Option<Sha256>, time: i64) -> Result<Vec<u8>> {
    let time = date::rfc3339(time);
    let below = ImageConfig::from_json(&read.config_json)?;
    let mut config = config.clone();
    let last = config.history.iter().rposition(|step| !step.empty_layer);
    for (number, step) in config.history.iter_mut().enumerate() {
        step.empty_layer = layer.is_none() || Some(number) != last;
        step.created = Some(time.clone());
    }
    let mut history: Vec<History> = below.history.into_iter().take(root.history).collect();
    history.append(&mut config.history);
    config.history = history;
    config.created = Some(time);
    config.rootfs.diff_ids =
        read.config.diff_ids.iter().take(root.layers.len()).chain(layer.as_ref()).map(|digest| format!("sha256:{digest}")).collect();
    config.to_json()
}

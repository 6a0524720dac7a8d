//! The documents of an OCI layout whose blobs are all our own (OCI image-spec, image-layout.md, image-index.md, manifest.md).
//! What others wrote is read with more patience, in `config.rs`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use twostage_model::Sha256;

/// The annotation that says what an image in a layout is called (annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of a layer that is a plain tar.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// What is in the file `oci-layout`.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What OCI says of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// `sha256:…`
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What others say of it, which is kept.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// Of a blob of which nothing else is said.
    pub fn new(media_type: &str, digest: &Sha256, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest: format!("sha256:{digest}"),
            size,
            annotations: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// What the image is called.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    /// The same with this name, and nothing else that is said of it.
    #[must_use]
    pub fn named(&self, name: Option<&str>) -> Descriptor {
        let annotations = name.map(|name| (REF_NAME.to_string(), name.to_string())).into_iter().collect();
        Descriptor { annotations, ..self.clone() }
    }
}

/// What images there are.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    media_type: Option<String>,
    /// One for each name.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// Of these images.
    pub fn of(manifests: Vec<Descriptor>) -> Index {
        Index { schema_version: 2, media_type: Some(INDEX.into()), manifests }
    }
}

/// What an image is made of.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    media_type: Option<String>,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Of these blobs.
    pub fn of(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest { schema_version: 2, media_type: Some(MANIFEST.into()), config, layers }
    }
}

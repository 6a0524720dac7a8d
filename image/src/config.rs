//! The JSON of images: configurations, manifests, indexes; of docker archives and of OCI.

use crate::broken;
use crate::image::{Config, History};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use twostage_model::error::OrFail;
use twostage_model::{Class, Result, Sha256};

/// Go writes `null` for what is empty.
fn nullable<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "nullable")]
    architecture: String,
    #[serde(default, deserialize_with = "nullable")]
    os: String,
    created: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    config: RawRun,
    #[serde(default, deserialize_with = "nullable")]
    rootfs: RawRootfs,
    #[serde(default, deserialize_with = "nullable")]
    history: Vec<RawHistory>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct RawRootfs {
    #[serde(default, deserialize_with = "nullable")]
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct RawHistory {
    #[serde(default, deserialize_with = "nullable")]
    created_by: String,
    #[serde(default, deserialize_with = "nullable")]
    comment: String,
    #[serde(default, deserialize_with = "nullable")]
    empty_layer: bool,
    created: Option<String>,
}

/// Reads JSON; `name` is the file's, for the error.
pub fn parse<T: DeserializeOwned>(json: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(json).or_fail(Class::Runtime, || format!("{name} is not what such a file of an image holds"))
}

/// Reads an image's configuration.
pub fn config(json: &[u8], name: &str) -> Result<Config> {
    let raw: RawConfig = parse(json, name)?;
    let diff_ids = raw.rootfs.diff_ids.iter().map(|id| digest(id)).collect::<Result<_>>()?;
    let history = raw.history.into_iter().map(|h| History {
        created_by: h.created_by,
        comment: h.comment,
        empty_layer: h.empty_layer,
        created: h.created,
    });
    Ok(Config {
        architecture: raw.architecture,
        os: raw.os,
        created: raw.created,
        env: raw.config.env,
        cmd: raw.config.cmd,
        entrypoint: raw.config.entrypoint,
        user: raw.config.user,
        working_dir: raw.config.working_dir,
        exposed_ports: raw.config.exposed_ports.into_keys().collect(),
        labels: raw.config.labels,
        diff_ids,
        history: history.collect(),
    })
}

/// One image of a docker archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerManifest {
    pub config: String,
    #[serde(default, deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<String>,
}

/// Those of an index's entries that name a blob: one that does not hides none of the others.
fn descriptors<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Descriptor>, D::Error> {
    let all: Vec<serde_json::Value> = nullable(from)?;
    Ok(all.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

/// An OCI index or manifest: each has its own of the lists.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OciDocument {
    #[serde(default, deserialize_with = "descriptors")]
    pub manifests: Vec<Descriptor>,
    pub config: Option<Descriptor>,
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
}

/// What OCI says of a blob.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub digest: String,
    pub size: Option<u64>,
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, PartialEq, Eq)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
}

impl Descriptor {
    /// The name that the archive gives this image.
    pub fn tag(&self) -> Option<String> {
        let named = |key: &str| self.annotations.get(key).cloned();
        named("io.containerd.image.name").or_else(|| named(crate::oci::REF_NAME))
    }

    /// Provenance that BuildKit keeps beside an image, which is no image.
    fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
    }
}

/// The digest of a blob. Only SHA-256 is taken.
pub fn digest(text: &str) -> Result<Sha256> {
    let shown: String = text.chars().take(100).collect();
    match text.strip_prefix("sha256:").map(str::parse) {
        Some(Ok(digest)) => Ok(digest),
        _ => Err(broken(format!("{shown:?} is no sha256 digest of a blob"))),
    }
}

/// This machine's architecture, as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The manifest that is meant of an index, as in a layout; none if the bytes are not an index but a manifest
/// themselves. `name` is for messages.
///
/// # Errors
/// It is neither, or none of the index is meant.
pub fn manifest_of(bytes: &[u8], name: &str) -> Result<Option<Sha256>> {
    let document: OciDocument = parse(bytes, name)?;
    match document.config {
        Some(_) => Ok(None),
        None => digest(&choose(&document.manifests, name)?.digest).map(Some),
    }
}

/// The image of an index that is meant: the only one, else the one for this machine.
pub fn choose<'a>(manifests: &'a [Descriptor], name: &str) -> Result<&'a Descriptor> {
    let images: Vec<&Descriptor> = manifests.iter().filter(|m| !m.is_attestation()).collect();
    let ours: Vec<&Descriptor> = images
        .iter()
        .copied()
        .filter(|m| m.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture()))
        .collect();
    match (&images[..], &ours[..]) {
        ([only], _) | (_, [only]) => Ok(only),
        ([], _) => Err(broken(format!("{name} names no image"))),
        (_, []) => Err(broken(format!("{name} names {} images, none for linux/{}", images.len(), architecture()))),
        _ => Err(broken(format!("{name} names {} images", images.len())).hint("save one image into an archive of its own")),
    }
}

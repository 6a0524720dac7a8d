//! Images in registries (OCI distribution-spec): pulled into a layout of their own, pushed from one, so that
//! all else reads and writes files. Credentials are those that docker and podman have.

pub use oci_client::RegistryOperation;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use twostage_engine::{Fetch, Fetched, Pending};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

mod credentials;

/// Bytes of a manifest: registries take no larger one (distribution-spec, "Pushing Manifests").
const MAX_MANIFEST: usize = 4 << 20;
/// How long a registry may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
const INDEXES: [&str; 2] = [twostage_image::oci::INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] = [twostage_image::oci::MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"];

/// The parts of a manifest that say what blobs it has.
#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    digest: String,
    size: u64,
}

/// What pulls images for an engine that reaches no registry itself.
#[derive(Debug)]
pub struct Fetcher;

impl Fetch for Fetcher {
    fn fetch<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Fetched>> {
        Box::pin(async move { Remote::open(reference, RegistryOperation::Pull).await?.pull().await })
    }
}

/// One image of a registry.
pub struct Remote {
    client: Client,
    reference: Reference,
}

impl Remote {
    /// An image by its name without `docker://`, with the credentials that this user has for its registry.
    pub async fn open(name: &str, operation: RegistryOperation) -> Result<Remote> {
        let reference: Reference = name
            .parse()
            .or_fail(Class::Usage, || format!("{name:?} names no image of a registry"))
            .map_err(|error| error.hint("write it as docker://HOST/NAME[:TAG]"))?;
        let registry = reference.resolve_registry().to_string();
        let credentials = credentials::of(&registry, reference.repository()).await?;
        // (An error means that somebody else installed one.)
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            // As Docker has it: a registry on this machine needs no certificate.
            protocol: if is_loopback(&registry) { ClientProtocol::Http } else { ClientProtocol::Https },
            read_timeout: Some(PATIENCE),
            connect_timeout: Some(PATIENCE),
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).or_fail(Class::System, || format!("cannot talk to {registry}"))?;
        let remote = Remote { client, reference };
        remote.client.auth(&remote.reference, &credentials, operation).await.map_err(|error| remote.failed("log in to", error))?;
        Ok(remote)
    }

    /// Pulls the image for this machine into a layout in a temporary folder. Every blob has the length and the
    /// digest that the manifest says, and that has its own.
    pub async fn pull(&self) -> Result<Fetched> {
        let fail = || format!("cannot keep {} in a temporary folder", self.reference);
        let folder = tempfile::Builder::new().prefix("twostage-image-").tempdir().or_fail(Class::System, fail)?;
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).or_fail(Class::System, fail)?;
        let (mut bytes, mut digest) = self.manifest(&self.reference).await?;
        let named = digest;
        if let Some(chosen) = twostage_image::manifest_of(&bytes, &self.reference.to_string())? {
            (bytes, digest) = self.manifest(&self.reference.clone_with_digest(format!("sha256:{chosen}"))).await?;
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).or_fail(Class::Runtime, || format!("the manifest of {} cannot be read", self.reference))?;
        let mut there = BTreeSet::new();
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if there.insert(&blob.digest) {
                self.pull_blob(blob, &blobs).await?;
            }
        }
        let index = serde_json::json!({
            "schemaVersion": 2, "manifests": [{ "mediaType": MANIFESTS[0], "digest": format!("sha256:{digest}"), "size": bytes.len() }],
        });
        std::fs::write(blobs.join(digest.to_string()), &bytes).or_fail(Class::System, fail)?;
        std::fs::write(folder.path().join("index.json"), index.to_string()).or_fail(Class::System, fail)?;
        std::fs::write(folder.path().join("oci-layout"), twostage_image::oci::LAYOUT).or_fail(Class::System, fail)?;
        Ok(Fetched { layout: folder, digest: named })
    }

    async fn manifest(&self, reference: &Reference) -> Result<(Vec<u8>, Sha256)> {
        let accepted: Vec<&str> = INDEXES.into_iter().chain(MANIFESTS).collect();
        let (bytes, _) = self
            .client
            .pull_manifest_raw(reference, &RegistryAuth::Anonymous, &accepted)
            .await
            .map_err(|error| self.failed("pull", error))?;
        if bytes.len() > MAX_MANIFEST {
            return Err(Error::new(
                Class::Runtime,
                format!("the manifest of {reference} has {} bytes, and 4 MiB are allowed", bytes.len()),
            ));
        }
        let digest = Sha256::of(&bytes);
        match reference.digest() {
            Some(wanted) if wanted != format!("sha256:{digest}") => {
                Err(Error::new(Class::Runtime, format!("what the registry gives as {reference} has the digest sha256:{digest}")))
            }
            _ => Ok((bytes.to_vec(), digest)),
        }
    }

    async fn pull_blob(&self, blob: &Blob, folder: &Path) -> Result<()> {
        let wrong =
            || Error::new(Class::Runtime, format!("{:?} in the manifest of {} is no digest that is known", blob.digest, self.reference));
        let digest: Sha256 = blob.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok()).ok_or_else(wrong)?;
        let descriptor = OciDescriptor { digest: blob.digest.clone(), ..OciDescriptor::default() };
        let fail = || format!("cannot keep {} of {}", blob.digest, self.reference);
        let mut file = tokio::fs::File::create(folder.join(digest.to_string())).await.or_fail(Class::System, fail)?;
        let mut stream =
            self.client.pull_blob_stream(&self.reference, &descriptor).await.map_err(|error| self.failed("pull", error))?.stream;
        let mut left = blob.size;
        while let Some(chunk) = futures_util::StreamExt::next(&mut stream).await {
            // (The stream ends with an error when the digest is another.)
            let chunk = chunk.or_fail(Class::Runtime, || format!("cannot pull {} of {}", blob.digest, self.reference))?;
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                Error::new(
                    Class::Runtime,
                    format!("{} of {} has more than the {} bytes of its manifest", blob.digest, self.reference, blob.size),
                )
            })?;
            file.write_all(&chunk).await.or_fail(Class::System, fail)?;
        }
        if left > 0 {
            return Err(Error::new(Class::Runtime, format!("{} of {} ends {left} bytes early", blob.digest, self.reference)));
        }
        file.flush().await.or_fail(Class::System, fail)
    }

    /// Pushes the one image of a layout: its blobs, those of them that the registry has not, and then its manifest,
    /// byte for byte, so that every digest stays.
    pub async fn push(&self, layout: &Path, manifest: &Sha256) -> Result<()> {
        let blobs = layout.join("blobs/sha256");
        let path = |digest: &str| blobs.join(digest.trim_start_matches("sha256:"));
        let fail = |path: PathBuf| move || format!("cannot read {}", path.display());
        let at = path(&manifest.to_string());
        let bytes = std::fs::read(&at).or_fail(Class::System, fail(at))?;
        let parsed: Manifest = serde_json::from_slice(&bytes).or_fail(Class::System, || "our own manifest cannot be read".into())?;
        for blob in parsed.layers.iter().chain([&parsed.config]) {
            if self.client.blob_exists(&self.reference, &blob.digest).await.map_err(|error| self.failed("push", error))? {
                continue;
            }
            let at = path(&blob.digest);
            let file = tokio::fs::File::open(&at).await.or_fail(Class::System, fail(at.clone()))?;
            let chunks = futures_util::stream::try_unfold(file, |mut file| async move {
                let mut chunk = vec![0; 256 << 10];
                let n = tokio::io::AsyncReadExt::read(&mut file, &mut chunk).await?;
                chunk.truncate(n);
                Ok((n > 0).then(|| (bytes::Bytes::from(chunk), file)))
            });
            self.client
                .push_blob_stream(&self.reference, chunks, &blob.digest, Some(blob.size))
                .await
                .map_err(|error| self.failed("push", error))?;
        }
        let kind = http::HeaderValue::from_static(MANIFESTS[0]);
        self.client.push_manifest_raw(&self.reference, bytes, kind).await.map_err(|error| self.failed("push", error))?;
        Ok(())
    }

    /// An error of the registry. Addresses are left out: those of uploads and of blobs elsewhere let in whoever has them.
    fn failed(&self, verb: &str, error: OciDistributionError) -> Error {
        let mut refused = false;
        let why = match error {
            OciDistributionError::UnauthorizedError { .. } => {
                refused = true;
                "the registry wants to know who asks".to_string()
            }
            OciDistributionError::AuthenticationFailure(_) => {
                refused = true;
                "the registry does not take the login".to_string()
            }
            OciDistributionError::RequestError(error) => {
                refused = error.status().is_some_and(|status| matches!(status.as_u16(), 401 | 403));
                let error = error.without_url();
                let all = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
            }
            OciDistributionError::RegistryError { envelope, .. } => envelope.to_string(),
            OciDistributionError::ServerError { code, message, .. } => format!("the registry answers {code}: {message}"),
            other => other.to_string(),
        };
        let told = Error::new(Class::Runtime, format!("cannot {verb} {}", self.reference)).because(Error::new(Class::Runtime, why));
        if refused {
            told.hint(format!("log in first: docker login {0}, podman login {0} or skopeo login {0}", self.reference.registry()))
        } else {
            told.hint("is the registry there, and the name right?")
        }
    }
}

/// Whether a registry is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host =
        registry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(registry, |(host, _)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_registries_are_spoken_to_without_a_certificate() {
        for (registry, loopback) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("127.8.0.1:80", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
            ("registry.example", false),
        ] {
            assert_eq!(is_loopback(registry), loopback, "{registry}");
        }
    }
}

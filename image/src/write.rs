//! Images, written: some layers of an image that is there, and at most one new one on top.
//!
//! ```text
//! oci-layout  index.json  manifest.json  blobs/sha256/<digest>…
//! ```
//!
//! An archive holds these files twice described, for OCI's readers and for `docker load`, which knows
//! only `manifest.json`; so Docker, Podman and skopeo all take it. What an engine is given directly is
//! the short form without blobs of layers that it has.

use crate::config::OciDocument;
use crate::delta::Delta;
use crate::eager::Eager;
use crate::oci::{LAYOUT, REF_NAME};
use crate::store::{Compression, Store};
use crate::{ahead, broken, config, gzip, layout};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, ImageManifestBuilder, MediaType};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::Path;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, HashWrite, Result, Sha256};

/// An image that is to be written.
pub struct NewImage<'a> {
    /// Where its lower layers come from, and the bytes of the new one.
    pub store: &'a Store,
    /// How many layers of `store` it has, from the lowest.
    pub kept: usize,
    /// What its own layer holds; none if there is nothing to hold.
    pub delta: Option<&'a Delta<'a>>,
    /// How its own layer is packed.
    pub compression: Compression,
    /// What it is called.
    pub name: Option<String>,
    /// Its configuration, for the digest of the new layer's tar.
    pub config: &'a dyn Fn(Option<Sha256>) -> Result<Vec<u8>>,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// The digest of the configuration: what engines call the image's id.
    pub id: Sha256,
    /// The digest of the manifest: what registries call the image. None for what an engine was given,
    /// which makes its own.
    pub manifest: Option<Sha256>,
    /// The digest of the new layer's tar, and its bytes.
    pub layer: Option<(Sha256, u64)>,
}

/// A blob that is there.
struct Blob {
    digest: Sha256,
    size: u64,
}

/// What was written to, and the blob that is there then.
fn written<W: Write>(out: HashWrite<W>) -> (W, Blob) {
    let (out, digest, size) = out.finish();
    (out, Blob { digest, size })
}

impl NewImage<'_> {
    /// Writes an archive that Docker, Podman and skopeo read. A file of that name is replaced when all
    /// is written.
    ///
    /// # Errors
    /// The image cannot be read, or the archive written; then there is none.
    pub fn write_archive(&self, path: &Path) -> Result<Written> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fail = || format!("cannot write {}", path.display());
        let temporary = tempfile::Builder::new().prefix(".twostage-").tempfile_in(folder).or_fail(Class::System, fail)?;
        let mut archive = Archive { out: BufWriter::with_capacity(256 << 10, Eager::new(temporary)), seen: Vec::new() };
        let (written, documents) = self.blobs(&mut archive)?;
        let index = index_of(documents.manifest).or_fail(Class::System, fail)?;
        for (name, bytes) in [("oci-layout", LAYOUT.to_vec()), ("index.json", json(&index)?), ("manifest.json", json(&documents.docker)?)] {
            archive.file(name, &bytes).or_fail(Class::System, fail)?;
        }
        archive.out.write_all(&[0; 1024]).or_fail(Class::System, fail)?;
        let out = archive.out.into_inner().map_err(io::IntoInnerError::into_error).or_fail(Class::System, fail)?;
        persist(out.finish().or_fail(Class::System, fail)?, path)?;
        Ok(written)
    }

    /// Writes the image into an OCI layout: a new folder, or one more image in one that is there. One
    /// of the same name is replaced.
    ///
    /// # Errors
    /// The folder holds something else, or links where a layout has files and folders; the image cannot be read, or the
    /// layout not written.
    pub fn write_layout(&self, folder: &Path) -> Result<Written> {
        let fail = || format!("cannot write the layout {}", folder.display());
        layout::without_links(folder).map_err(|cause| Error::new(cause.class(), fail()).because(cause))?;
        let index_path = folder.join("index.json");
        let mut index = match layout::index(folder)? {
            Some(bytes) => {
                // What cannot be read is not written over.
                let _: OciDocument = config::parse(&bytes, "index.json")?;
                serde_json::from_slice::<ImageIndex>(&bytes).or_fail(Class::Runtime, || format!("{} is no index", index_path.display()))?
            }
            None if fs::read_dir(folder).is_ok_and(|mut names| names.next().is_some()) => {
                return Err(broken(format!("{} is neither empty nor an OCI layout", folder.display())).hint("name a folder of its own"));
            }
            None => ImageIndexBuilder::default()
                .schema_version(2_u32)
                .media_type(MediaType::ImageIndex)
                .manifests(Vec::new())
                .build()
                .or_fail(Class::System, fail)?,
        };
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).or_fail(Class::System, fail)?;
        let (written, documents) = self.blobs(&mut Layout { blobs: &blobs })?;
        let mut manifests: Vec<Descriptor> = index.manifests().clone();
        let name = |descriptor: &Descriptor| descriptor.annotations().as_ref().and_then(|all| all.get(REF_NAME).cloned());
        manifests.retain(|other| name(other) != name(&documents.manifest));
        manifests.push(documents.manifest);
        index.set_manifests(manifests);
        for (path, bytes) in [(folder.join("oci-layout"), LAYOUT.to_vec()), (index_path, json(&index)?)] {
            let mut temporary = tempfile::Builder::new().prefix(".twostage-").tempfile_in(folder).or_fail(Class::System, fail)?;
            temporary.write_all(&bytes).or_fail(Class::System, fail)?;
            persist(temporary, &path)?;
        }
        Ok(written)
    }

    /// Writes what `docker load` takes, in one pass, without the layers below if the engine has them.
    ///
    /// # Errors
    /// The image cannot be read, or the engine's end is closed.
    pub fn load(&self, out: impl Write + Send, with_kept: bool) -> Result<Written> {
        let fail = || "cannot hand the image to the engine".to_string();
        let mut out = out;
        let mut names = Vec::new();
        for number in 0..self.kept {
            let name = format!("{number}/layer.tar");
            if with_kept {
                let (mut blob, size, _) = self.store.blob(number)?;
                header(&name, size).and_then(|header| out.write_all(header.as_bytes())).or_fail(Class::System, fail)?;
                io::copy(&mut blob, &mut out).and_then(|_| out.write_all(padding(size))).or_fail(Class::System, fail)?;
            }
            names.push(name);
        }
        let mut layer = None;
        if let Some(delta) = self.delta {
            let (name, size) = (format!("{}/layer.tar", self.kept), delta.length()?);
            header(&name, size).and_then(|header| out.write_all(header.as_bytes())).or_fail(Class::System, fail)?;
            let (back, digest, length) = delta.write(self.store, out)?;
            out = back;
            if length != size {
                return Err(broken(format!("the layer has {length} bytes, not the {size} that were announced")));
            }
            layer = Some((digest, length));
            names.push(name);
        }
        let config = (self.config)(layer.map(|(digest, _)| digest))?;
        let id = Sha256::of(&config);
        let docker = docker_manifest(&format!("{id}.json"), self.name.as_deref(), &names);
        for (name, bytes) in [(format!("{id}.json"), &config), ("manifest.json".to_string(), &json(&docker)?)] {
            member(&mut out, &name, bytes).or_fail(Class::System, fail)?;
        }
        out.write_all(&[0; 1024]).and_then(|()| out.flush()).or_fail(Class::System, fail)?;
        Ok(Written { id, manifest: None, layer })
    }

    /// Writes all blobs, the manifest the last.
    fn blobs(&self, place: &mut dyn Place) -> Result<(Written, Documents)> {
        let mut layers = Vec::new();
        for number in 0..self.kept {
            let (mut blob, _, compression) = self.store.blob(number)?;
            layers.push((place.add(&mut |out| copy(&mut blob, out))?, compression));
        }
        let mut layer = None;
        if let Some(delta) = self.delta {
            let blob = place.add(&mut |out| {
                // (A plain tar is its own blob, so that it is hashed once.)
                if self.compression == Compression::None {
                    let (_, digest, size) = delta.write(self.store, out)?;
                    layer = Some((digest, size));
                    return Ok(Blob { digest, size });
                }
                let mut out = HashWrite::new(out);
                layer = Some(compressed(delta, self.store, self.compression, &mut out)?);
                Ok(written(out).1)
            })?;
            layers.push((blob, self.compression));
        }
        let config = (self.config)(layer.map(|(digest, _)| digest))?;
        let config_blob = place.bytes(&config)?;
        let descriptors =
            layers.iter().map(|(blob, compression)| descriptor(media_type(*compression), blob)).collect::<Result<Vec<_>>>()?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, &config_blob)?)
            .layers(descriptors)
            .build()
            .or_fail(Class::System, || "cannot describe the image".into())?;
        let manifest_blob = place.bytes(&json(&manifest)?)?;
        let mut manifest = descriptor(MediaType::ImageManifest, &manifest_blob)?;
        if let Some(name) = &self.name {
            // (One annotation: the order of several would not be the same each time.)
            manifest.set_annotations(Some(HashMap::from([(REF_NAME.to_string(), name.clone())])));
        }
        let names: Vec<String> = layers.iter().map(|(blob, _)| format!("blobs/sha256/{}", blob.digest)).collect();
        let docker = docker_manifest(&format!("blobs/sha256/{}", config_blob.digest), self.name.as_deref(), &names);
        Ok((Written { id: config_blob.digest, manifest: Some(manifest_blob.digest), layer }, Documents { manifest, docker }))
    }
}

/// What names the blobs.
struct Documents {
    manifest: Descriptor,
    docker: serde_json::Value,
}

/// `manifest.json` of `docker save`. Docker takes only whole names, `name:tag`.
fn docker_manifest(config: &str, name: Option<&str>, layers: &[String]) -> serde_json::Value {
    let tags: Vec<&str> = name.into_iter().filter(|name| name.contains(':')).collect();
    serde_json::json!([{ "Config": config, "RepoTags": tags, "Layers": layers }])
}

fn index_of(manifest: Descriptor) -> Result<ImageIndex, oci_spec::OciSpecError> {
    ImageIndexBuilder::default().schema_version(2_u32).media_type(MediaType::ImageIndex).manifests(vec![manifest]).build()
}

fn media_type(compression: Compression) -> MediaType {
    match compression {
        Compression::None => MediaType::ImageLayer,
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    }
}

fn descriptor(media_type: MediaType, blob: &Blob) -> Result<Descriptor> {
    let digest: oci_spec::image::Digest =
        format!("sha256:{}", blob.digest).parse().or_fail(Class::System, || "cannot describe a blob".into())?;
    Ok(Descriptor::new(media_type, blob.size, digest))
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).or_fail(Class::System, || "cannot write JSON".into())
}

/// Writes the layer through its compression. Gives digest and length of its tar. The same tar gives the
/// same bytes: a fixed level, no time in the header.
fn compressed(delta: &Delta<'_>, store: &Store, compression: Compression, out: &mut (dyn Write + Send)) -> Result<(Sha256, u64)> {
    let fail = || "cannot write the layer".to_string();
    match compression {
        Compression::None => delta.write(store, out).map(|(_, digest, size)| (digest, size)),
        Compression::Gzip => gzip::writing(out, |encoder| {
            let (encoder, digest, size) = delta.write(store, encoder)?;
            encoder.finish().or_fail(Class::System, fail)?;
            Ok((digest, size))
        }),
        Compression::Zstd => {
            let encoder = zstd::Encoder::new(out, 3).or_fail(Class::System, fail)?;
            let (encoder, digest, size) = delta.write(store, encoder)?;
            encoder.finish().or_fail(Class::System, fail)?;
            Ok((digest, size))
        }
    }
}

/// Copies a blob as it is: one thread reads, another hashes, a third one writes.
fn copy(blob: &mut (impl Read + Send), out: &mut (dyn Write + Send)) -> Result<Blob> {
    let fail = || "cannot copy a layer".to_string();
    let written = ahead::writing(out, |out| {
        ahead::reading(blob, |blob| {
            loop {
                let there = blob.fill_buf()?;
                let length = there.len();
                if length == 0 {
                    return Ok(());
                }
                out.write_all(there)?;
                blob.consume(length);
            }
        })
    });
    let ((), _, digest, size) = written.or_fail(Class::System, fail)?;
    Ok(Blob { digest, size })
}

/// Writes a blob's bytes, and says what they are.
type Fill<'a> = &'a mut dyn FnMut(&mut (dyn Write + Send)) -> Result<Blob>;

/// Where blobs go.
trait Place {
    /// Adds a blob, which is named by what is written.
    fn add(&mut self, fill: Fill<'_>) -> Result<Blob>;

    /// Adds a blob of these bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<Blob> {
        let blob = || Blob { digest: Sha256::of(bytes), size: bytes.len() as u64 };
        self.add(&mut |out| out.write_all(bytes).map(|()| blob()).or_fail(Class::System, || "cannot write a blob".into()))
    }
}

struct Layout<'a> {
    blobs: &'a Path,
}

impl Place for Layout<'_> {
    fn add(&mut self, fill: Fill<'_>) -> Result<Blob> {
        let fail = || format!("cannot write a blob into {}", self.blobs.display());
        let temporary = tempfile::Builder::new().prefix(".twostage-").tempfile_in(self.blobs).or_fail(Class::System, fail)?;
        let mut out = BufWriter::with_capacity(256 << 10, Eager::new(temporary));
        let blob = fill(&mut out)?;
        let out = out.into_inner().map_err(io::IntoInnerError::into_error).or_fail(Class::System, fail)?;
        persist(out.finish().or_fail(Class::System, fail)?, &self.blobs.join(blob.digest.to_string()))?;
        Ok(blob)
    }
}

/// A tar whose members get their names when they are written.
struct Archive {
    out: BufWriter<Eager>,
    seen: Vec<Sha256>,
}

impl Archive {
    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        member(&mut self.out, name, bytes)
    }
}

impl Place for Archive {
    fn add(&mut self, fill: Fill<'_>) -> Result<Blob> {
        let fail = || "cannot write the archive".to_string();
        let start = self.out.stream_position().or_fail(Class::System, fail)?;
        self.out.write_all(&[0; 512]).or_fail(Class::System, fail)?;
        let blob = fill(&mut self.out)?;
        let patched = || -> io::Result<()> {
            let end = if self.seen.contains(&blob.digest) {
                self.out.flush()?;
                self.out.get_ref().as_file().set_len(start)?;
                start
            } else {
                self.out.write_all(padding(blob.size))?;
                let end = self.out.stream_position()?;
                self.out.seek(SeekFrom::Start(start))?;
                self.out.write_all(header(&format!("blobs/sha256/{}", blob.digest), blob.size)?.as_bytes())?;
                end
            };
            self.out.seek(SeekFrom::Start(end)).map(|_| ())
        };
        let mut patched = patched;
        patched().or_fail(Class::System, fail)?;
        self.seen.push(blob.digest);
        Ok(blob)
    }
}

fn member(out: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let size = bytes.len() as u64;
    out.write_all(header(name, size)?.as_bytes())?;
    out.write_all(bytes)?;
    out.write_all(padding(size))
}

fn header(name: &str, size: u64) -> io::Result<tar::Header> {
    // (GNU, whose sizes have no bound that matters.)
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

fn padding(size: u64) -> &'static [u8] {
    &[0; 512][..((512 - size % 512) % 512) as usize]
}

/// Gives a finished temporary file its name, durably, for everybody to read. What is there and is neither file nor folder
/// (`/dev/null`, `/dev/stdout`, a pipe) stays what it is: the bytes go into it.
///
/// # Errors
/// It cannot be written.
pub fn persist(mut temporary: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    let fail = || format!("cannot write {}", path.display());
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        temporary.as_file_mut().rewind().or_fail(Class::System, fail)?;
        let mut there = File::options().write(true).open(path).or_fail(Class::System, fail)?;
        std::io::copy(temporary.as_file_mut(), &mut there).or_fail(Class::System, fail)?;
        return there.flush().or_fail(Class::System, fail);
    }
    temporary.as_file().sync_all().or_fail(Class::System, fail)?;
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(everyone).or_fail(Class::System, fail)?;
    temporary.persist(path).map_err(|error| error.error).or_fail(Class::System, fail)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).or_fail(Class::System, fail)
}

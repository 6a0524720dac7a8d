//! An image in a file or a folder, which can be read as often as needed: an archive of `docker save`,
//! an OCI archive, or an OCI layout.
//!
//! Opening reads only what says where things are. Nothing that a blob says of itself is believed until
//! it was read to its end and its digest compared.

use crate::archive::beside;
use crate::config::{self, Descriptor};
use crate::documents::{self, Documents};
use crate::hashing::{Alike, Wish};
use crate::image::{Config, Image, Layer, Want, Wanted};
use crate::layer::{self, Sniffed, read_layer, sniff};
use crate::limits::{Budget, Limits};
use crate::tarball::Tarball;
use crate::{ahead, broken, gzip, layout, path, remember};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result, Sha256};

/// Files of an archive, blobs included. An image has a few hundred.
const MAX_MEMBERS: usize = 100_000;
/// Bytes of one sample of a layer.
const SAMPLE: u64 = 1 << 20;

/// An image that is there to be read again.
#[derive(Debug)]
pub struct Store {
    /// Shared by all images that are opened in it.
    place: Arc<Place>,
    /// Its configuration, byte for byte.
    pub config_json: Vec<u8>,
    /// What that says.
    pub config: Config,
    /// The names that its place gives it.
    pub tags: Vec<String>,
    layers: Vec<String>,
    limits: Limits,
    remembered: Option<Remembered>,
}

/// Where what is in layers is kept, by the digest of the layer's tar.
#[derive(Clone)]
pub struct Remembered(pub Arc<dyn Remember>);

/// Keeps what is in a layer, so that it need not be read again. It may lose and refuse anything.
pub trait Remember: Send + Sync {
    /// What was kept of the layer, which may be damaged.
    fn get(&self, diff_id: &Sha256) -> Option<Vec<u8>>;
    /// Keeps it.
    fn put(&self, diff_id: &Sha256, bytes: &[u8]);
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembered")
    }
}

/// How a blob is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Says of a layer, by the digest of its tar, where it is copied to; none is for one that is not wanted.
pub type CopyTo<'a> = &'a mut dyn FnMut(&Sha256) -> Result<Option<Box<dyn Write + Send>>>;

/// Where the files are.
#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Files(BTreeMap<String, Arc<File>>),
    Archive { file: Arc<File>, members: BTreeMap<String, Member> },
}

/// A file of an archive.
#[derive(Debug)]
enum Member {
    /// Its bytes: offset and length.
    Bytes(u64, u64),
    /// Another name of the file at this path.
    Link(String),
}

/// Part of a file, or all of it, that is read without moving anybody else's place in it.
pub struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Part {
    /// The bytes from `at` on, of which there are so many.
    pub(crate) fn within(&self, at: u64, length: u64) -> Option<Part> {
        let at = self.at.checked_add(at)?;
        let end = at.checked_add(length).filter(|end| *end <= self.end)?;
        Some(Part { file: self.file.clone(), at, end })
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        if n == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is cut off"));
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Store {
    /// Opens a file (an archive) or a folder (an OCI layout). `wanted` is the image's name in it, for a
    /// place with several.
    ///
    /// # Errors
    /// What is there is no image, holds several, or says of itself what cannot be.
    pub fn open(path: &Path, wanted: Option<&str>) -> Result<Store> {
        Store::open_within(path, wanted, Limits::default())
    }

    /// [`Store::open`] with other bounds.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_within(path: &Path, wanted: Option<&str>, limits: Limits) -> Result<Store> {
        let context = |e: Error| Error::new(e.class(), format!("cannot read the image in {}", path.display())).because(e);
        let find = || {
            let files = Files::at(path, &limits)?;
            let found = documents::find(&files, wanted)?;
            Store::of(&files, found, &|_| false)
        };
        find().map_err(context)
    }

    /// Opens every image of an archive or a layout, each once with all its names. A layer that `known` knows by the digest
    /// of its tar may be missing, as in what [`crate::NewImage::load`] writes for an engine that has it.
    ///
    /// # Errors
    /// What is there holds no image, or says of itself what cannot be.
    pub fn open_all(path: &Path, known: &dyn Fn(&Sha256) -> bool) -> Result<Vec<Store>> {
        Store::open_all_within(path, known, &Limits::default())
    }

    /// [`Store::open_all`] with other bounds.
    ///
    /// # Errors
    /// As [`Store::open_all`].
    pub fn open_all_within(path: &Path, known: &dyn Fn(&Sha256) -> bool, limits: &Limits) -> Result<Vec<Store>> {
        let context = |e: Error| Error::new(e.class(), format!("cannot read the images in {}", path.display())).because(e);
        let find = || -> Result<Vec<Store>> {
            let files = Files::at(path, limits)?;
            documents::all(&files, limits.images)?.into_iter().map(|found| Store::of(&files, found, known)).collect()
        };
        find().map_err(context)
    }

    /// Whether a file is an archive of images, and not the tar of a root file system, or something else.
    pub fn is_archive(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        let mut tarball = Tarball::new(BufReader::with_capacity(64 << 10, file));
        while let Ok(Some(header)) = tarball.next_in_file() {
            if path::clean(&header.path).is_ok_and(|name| matches!(name.as_str(), "manifest.json" | "index.json")) {
                return true;
            }
        }
        false
    }

    fn of(files: &Files<'_>, found: documents::Found, known: &dyn Fn(&Sha256) -> bool) -> Result<Store> {
        let limits = files.budget.borrow().limits;
        let config_json = files.json(&found.config)?;
        let config = documents::config(&config_json, &found.config, found.layers.len(), limits)?;
        let layer = |(name, diff_id): (&String, &Sha256)| {
            let followed = match files.place.follow(name) {
                Err(_) if known(diff_id) => String::new(),
                followed => followed?,
            };
            // A short name may be a link to a long one, and every image may have it in each layer.
            files.budget.borrow_mut().entry(followed.len() as u64)?;
            Ok(followed)
        };
        let layers = found.layers.iter().zip(&config.diff_ids).map(layer).collect::<Result<_>>()?;
        Ok(Store { config_json, config, tags: found.tags, layers, place: files.place.clone(), limits: limits.clone(), remembered: None })
    }

    /// An image whose layers are these files, lowest first, each a tar, plain or packed. They are open, so that whoever
    /// removes their names takes nothing away.
    ///
    /// # Errors
    /// The configuration is none, or names other layers.
    pub fn of_files(config_json: Vec<u8>, tags: Vec<String>, layers: Vec<(Sha256, File)>) -> Result<Store> {
        let limits = Limits::default();
        let config = documents::config(&config_json, "the configuration", layers.len(), &limits)?;
        let names = layers.iter().map(|(digest, _)| documents::blob_name(digest)).collect();
        let files = layers.into_iter().map(|(digest, file)| (documents::blob_name(&digest), Arc::new(file))).collect();
        let place = Arc::new(Place::Files(files));
        Ok(Store { config_json, config, tags, layers: names, place, limits, remembered: None })
    }

    /// The same image, of whose lower layers `remembered` may know what is in them.
    #[must_use]
    pub fn remembering(self, remembered: Remembered) -> Store {
        Store { remembered: Some(remembered), ..self }
    }

    /// Copies the tars of layers, decompressed, to where `place` says. What is copied is checked as [`Store::read`] checks it.
    ///
    /// # Errors
    /// A layer is missing, or anything of it is not what it claims to be: then nothing that was written is of use.
    pub fn copy_layers(&self, place: CopyTo<'_>) -> Result<()> {
        let mut budget = Budget::new(&self.limits);
        for (number, (name, diff_id)) in self.layers.iter().zip(&self.config.diff_ids).enumerate() {
            let Some(mut out) = place(diff_id)? else { continue };
            let context = |e: Error| Error::new(e.class(), format!("cannot read the layer {name}")).because(e);
            let (blob, ..) = self.blob(number)?;
            let copied = layer::copy_layer(BufReader::with_capacity(128 << 10, blob), &mut *out, &mut budget);
            let (is, _) = copied.map_err(context)?;
            out.flush().or_fail(Class::System, || format!("cannot copy the layer {name}"))?;
            documents::same_digest(number, name, &is, diff_id)?;
        }
        Ok(())
    }

    /// The digest of its configuration: what engines call the image's id.
    pub fn id(&self) -> Sha256 {
        Sha256::of(&self.config_json)
    }

    /// How many layers it has.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// A layer's blob as it is stored, its length, and how it is packed; its bytes are not verified.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn blob(&self, layer: usize) -> Result<(Part, u64, Compression)> {
        let part = self.place.part(self.name(layer)?)?;
        let mut head = [0; 4];
        let most = part.end.saturating_sub(part.at).min(4) as usize;
        part.file.read_exact_at(&mut head[..most], part.at).or_fail(Class::Runtime, || "cannot read a layer".into())?;
        let compression = match sniff(&head[..most]) {
            Sniffed::Gzip => Compression::Gzip,
            Sniffed::Zstd => Compression::Zstd,
            _ => Compression::None,
        };
        let length = part.end - part.at;
        Ok((part, length, compression))
    }

    /// Bytes of a layer on the wire: those of its blob, if that is compressed, else about what gzip makes of
    /// it, by a sample of one part in eight.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn wire(&self, layer: usize) -> Result<u64> {
        let (mut blob, length, compression) = self.blob(layer)?;
        if compression != Compression::None {
            return Ok(length);
        }
        let fail = || "cannot read a layer".to_string();
        let (mut sampled, mut packed) = (0, 0);
        let mut packer = gzip::Packer::default();
        let mut sample = Vec::new();
        while sampled < length {
            sample.clear();
            (&mut blob).take(SAMPLE).read_to_end(&mut sample).or_fail(Class::Runtime, fail)?;
            packed += packer.length(&sample).or_fail(Class::Runtime, fail)?;
            sampled += sample.len() as u64;
            blob.at = (blob.at + 7 * SAMPLE).min(blob.end);
            if blob.at == blob.end {
                break;
            }
        }
        Ok(if sampled == 0 { 0 } else { (u128::from(length) * u128::from(packed) / u128::from(sampled)) as u64 })
    }

    /// A layer's tar, decompressed.
    pub(crate) fn tar(&self, number: usize) -> Result<Box<dyn Read + Send>> {
        layer::plain(BufReader::with_capacity(128 << 10, self.blob(number)?.0))
    }

    fn name(&self, layer: usize) -> Result<&str> {
        self.layers.get(layer).map(String::as_str).ok_or_else(|| broken(format!("the image has no layer {}", layer + 1)))
    }

    /// Reads all of it. `keep` says which files' contents are wanted.
    ///
    /// # Errors
    /// Anything that is not what it claims to be, named; nothing of such an image is returned.
    pub fn read(&self, keep: Wanted<'_>) -> Result<Image> {
        self.read_as(keep, keep, 0)
    }

    /// [`Store::read`], which hashes of the files in plain layers only those that may be the same in two layers.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_to_flatten(&self) -> Result<Image> {
        let mut image = self.read_as(&|_| Want::Nothing, &|_| Want::Digest, 0)?;
        let alike = Alike::of(&image.layers, image.layers.len());
        self.hash(&mut image.layers, &|_, entry| Wish { sha256: alike.has(entry), md5: false })?;
        Ok(image)
    }

    /// [`Store::read`], where plain layers can be asked for other things than packed ones, of which nothing can be read later.
    /// Of the layers below `remembered` what is known of them is taken.
    pub(crate) fn read_as(&self, plain: Wanted<'_>, packed: Wanted<'_>, remembered: usize) -> Result<Image> {
        let mut budget = Budget::new(&self.limits);
        let mut layers: Vec<Layer> = Vec::with_capacity(self.layers.len());
        for (number, (name, diff_id)) in self.layers.iter().zip(&self.config.diff_ids).enumerate() {
            let layer = match self.layers[..number].iter().position(|earlier| earlier == name) {
                Some(earlier) => budget.again(&layers[earlier])?,
                None => self
                    .recall(number, plain, packed, remembered, &mut budget)
                    .map_err(|e| Error::new(e.class(), format!("cannot read the layer {name}")).because(e))?,
            };
            documents::same_tar(number, name, &layer, diff_id)?;
            layers.push(layer);
        }
        Ok(Image { id: self.id(), config: self.config.clone(), config_json: self.config_json.clone(), tags: self.tags.clone(), layers })
    }

    /// A layer out of what is remembered, if it is to be, else read.
    fn recall(&self, number: usize, plain: Wanted<'_>, packed: Wanted<'_>, remembered: usize, budget: &mut Budget<'_>) -> Result<Layer> {
        let Some(Remembered(memory)) = self.remembered.as_ref().filter(|_| number < remembered) else {
            return self.read_layer(number, plain, packed, budget);
        };
        let (_, length, compression) = self.blob(number)?;
        let diff_id = &self.config.diff_ids[number];
        if compression == Compression::None
            && let Some(layer) = memory.get(diff_id).and_then(|bytes| remember::layer(&bytes, diff_id, length))
        {
            budget.count(&layer)?;
            return Ok(layer);
        }
        let layer = self.read_layer(number, plain, packed, budget)?;
        if compression == Compression::None && layer.diff_id == *diff_id {
            memory.put(diff_id, &remember::bytes(&layer));
        }
        Ok(layer)
    }

    fn read_layer(&self, number: usize, plain: Wanted<'_>, packed: Wanted<'_>, budget: &mut Budget<'_>) -> Result<Layer> {
        let (blob, _, compression) = self.blob(number)?;
        let keep = if compression == Compression::None { plain } else { packed };
        if compression == Compression::None {
            let layer = read_layer(BufReader::with_capacity(128 << 10, blob), keep, budget)?;
            self.check_digest(number, layer.diff_id)?;
            return Ok(layer);
        }
        // One thread reads and hashes the blob, another decompresses and hashes the tar, this one the files.
        let (layer, digest, _) = ahead::hashing(blob, u64::MAX, |raw| -> Result<Layer> {
            let mut raw = BufReader::with_capacity(128 << 10, raw);
            let layer = read_layer(&mut raw, keep, budget)?;
            io::copy(&mut raw, &mut io::sink()).or_fail(Class::Runtime, || "cannot read its end".into())?;
            Ok(layer)
        });
        let layer = layer?;
        self.check_digest(number, digest)?;
        Ok(layer)
    }

    fn check_digest(&self, layer: usize, digest: Sha256) -> Result<()> {
        check_digest(self.name(layer)?, digest)
    }
}

/// Refuses bytes that are not what the file's name claims them to be.
fn check_digest(name: &str, digest: Sha256) -> Result<()> {
    let claimed = name.strip_prefix("blobs/sha256/").and_then(|hex| hex.parse::<Sha256>().ok());
    match claimed {
        Some(claimed) if claimed != digest => Err(broken(format!("{name}: its bytes hash to {digest}, not to its name"))),
        _ => Ok(()),
    }
}

/// Where an archive's files are in it.
fn index(path: &Path, budget: &mut Budget<'_>) -> Result<Place> {
    let file = File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
    let all = file.metadata().or_fail(Class::System, || format!("cannot read {}", path.display()))?.len();
    let mut tarball = Tarball::new(BufReader::with_capacity(64 << 10, file));
    let mut members = BTreeMap::new();
    while let Some(header) = tarball.next_in_file()? {
        let name = path::clean(&header.path)?;
        let member = match header.kind {
            b'0' => match tarball.whole()? {
                Some((offset, length)) if offset + length <= all => Member::Bytes(offset, length),
                Some(_) => return Err(broken(format!("{}: the archive is cut off inside it", path::shown(&name)))),
                None => return Err(broken(format!("{}: a file of an image's archive is not sparse", path::shown(&name)))),
            },
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
    Ok(Place::Archive { file: Arc::new(tarball.into_inner().into_inner()), members })
}

impl Place {
    fn has(&self, name: &str) -> bool {
        match self {
            Place::Archive { members, .. } => members.contains_key(name),
            Place::Folder(folder) => layout::is_file(folder, name),
            Place::Files(files) => files.contains_key(name),
        }
    }

    fn follow(&self, name: &str) -> Result<String> {
        documents::follow(name, |at| match self {
            Place::Archive { members, .. } => match members.get(at)? {
                Member::Bytes(..) => Some(Ok(())),
                Member::Link(target) => Some(Err(target)),
            },
            Place::Folder(_) | Place::Files(_) => self.has(at).then_some(Ok(())),
        })
    }

    fn part(&self, name: &str) -> Result<Part> {
        let name = self.follow(name)?;
        let whole = |file: Arc<File>| {
            let end = file.metadata().or_fail(Class::System, || format!("cannot read {name}"))?.len();
            Ok(Part { file, at: 0, end })
        };
        match self {
            Place::Archive { file, members } => match members.get(&name) {
                Some(Member::Bytes(offset, length)) => Ok(Part { file: file.clone(), at: *offset, end: offset + length }),
                _ => Err(broken(format!("{} is missing from the archive", path::shown(&name)))),
            },
            Place::Folder(folder) => {
                let path = folder.join(&name);
                let fail = || format!("cannot read {}", path.display());
                whole(Arc::new(File::open(&path).or_fail(Class::System, fail)?))
            }
            Place::Files(files) => match files.get(&name) {
                Some(file) => whole(file.clone()),
                None => Err(broken(format!("{name} is missing"))),
            },
        }
    }
}

/// The files of a place, within bounds on all that is read of it to open its images.
struct Files<'a> {
    place: Arc<Place>,
    budget: RefCell<Budget<'a>>,
}

impl<'a> Files<'a> {
    fn at(path: &Path, limits: &'a Limits) -> Result<Files<'a>> {
        let mut budget = Budget::new(limits);
        let place = if path.is_dir() {
            layout::without_links(path)?;
            Place::Folder(path.to_path_buf())
        } else {
            index(path, &mut budget)?
        };
        Ok(Files { place: Arc::new(place), budget: RefCell::new(budget) })
    }
}

impl Documents for Files<'_> {
    fn has(&self, name: &str) -> bool {
        self.place.has(name)
    }

    fn json(&self, name: &str) -> Result<Vec<u8>> {
        let part = self.place.part(name)?;
        let size = part.end - part.at;
        self.budget.borrow_mut().json(name, size)?;
        let mut json = Vec::new();
        part.take(size).read_to_end(&mut json).or_fail(Class::Runtime, || format!("cannot read {name}"))?;
        check_digest(name, Sha256::of(&json))?;
        Ok(json)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<String> {
        let name = documents::blob_name(&config::digest(&descriptor.digest)?);
        let part = self.place.part(&name)?;
        documents::same_size(&name, part.end - part.at, descriptor)?;
        Ok(name)
    }
}

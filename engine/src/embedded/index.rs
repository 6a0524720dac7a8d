//! `index.json` of the store: which images there are, and under which names.
//!
//! Other programs write that file, too: `skopeo copy … oci:STORE/images:NAME` reads it when it begins, and when it ends
//! writes it as a whole, without a lock and without looking at it again. So what we wrote in between would be lost. Beside
//! the layout, where nobody else writes, `known.json` has what we know:
//!
//! ```text
//! index.json    ours, or somebody's who had read an earlier one      known.json    what we wrote last, and what no longer is
//!          └──────────────► merged: their images, and ours that they do not name ◄──────────────┘
//! ```
//!
//! An entry that cannot be read, or whose manifest is not there, stops nobody else: it is left as it is, and told
//! ([`Index::odd`], `images::problems`).

use super::store::{self, Store, Turn};
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use twostage_image::oci::{Descriptor, Index as Document};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

/// How often a file that somebody is writing is read again, and when.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// How many names that images no longer have are remembered.
const REMEMBERED: usize = 1000;
/// The largest index that is read: of some ten thousand images.
const MOST: u64 = 64 << 20;

/// What there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// Each with a digest that can be one.
    pub images: Vec<Descriptor>,
    /// Entries that cannot be read, as they are.
    odd: Vec<Value>,
    /// The file as it was read.
    bytes: Vec<u8>,
    /// Why the file itself could not be read, if so: then `images` are what we wrote last.
    pub broken: Option<String>,
    /// Somebody else wrote it last.
    pub foreign: bool,
}

/// What we wrote last.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// Of the bytes of `index.json`.
    written: String,
    images: Vec<Descriptor>,
    /// Names and digests that were in it, and are no more.
    gone: Vec<(Option<String>, String)>,
}

type Pair = (Option<String>, String);

fn pair(descriptor: &Descriptor) -> Pair {
    (descriptor.name().map(str::to_string), descriptor.digest.clone())
}

fn path(store: &Store) -> PathBuf {
    store.images().join("index.json")
}

fn known_path(store: &Store) -> PathBuf {
    store.root().join("known.json")
}

impl Index {
    /// What there is now.
    ///
    /// # Errors
    /// `index.json` cannot be read, and nothing is known of what was in it.
    pub fn read(store: &Store, _turn: &Turn) -> Result<Index> {
        let path = path(store);
        let fail = || format!("cannot read {}", path.display());
        let known = read_known(store);
        let mut error = None;
        for _ in 0..TRIES {
            let bytes = match fs::metadata(&path) {
                Ok(found) if found.len() > MOST => return Err(Error::new(Class::Engine, fail()).because("it is larger than any index")),
                _ => fs::read(&path).or_fail(Class::System, fail)?,
            };
            match parse(&bytes) {
                Ok((images, odd)) => {
                    let foreign = known.as_ref().is_some_and(|known| known.written != Sha256::of(&bytes).to_string());
                    let images = match &known {
                        Some(known) if foreign => merged(images, known, |digest| is_there(store, digest)),
                        _ => images,
                    };
                    return Ok(Index { images, odd, bytes, broken: None, foreign });
                }
                Err(cause) => error = Some((cause, bytes)),
            }
            // Whoever writes it empties it first.
            std::thread::sleep(PAUSE);
        }
        let (cause, bytes) = error.unwrap_or_default();
        match known {
            Some(known) => {
                let images = known.images.into_iter().filter(|image| is_there(store, &image.digest)).collect();
                Ok(Index { images, odd: Vec::new(), bytes, broken: Some(cause), foreign: true })
            }
            None => Err(Error::new(Class::Engine, fail())
                .because(cause)
                .hint(format!("nothing says what was in it: move {} away, and bring the images again", store.images().display()))),
        }
    }

    /// What cannot be read of it, in sentences.
    pub fn odd(&self) -> Vec<String> {
        let broken = self.broken.iter().map(|cause| format!("index.json is broken ({cause}), and what was known of it is used"));
        let shown = |value: &Value| value.to_string().chars().take(200).collect::<String>();
        broken
            .chain(self.odd.iter().map(|entry| format!("an entry of index.json names no image, and is left there: {}", shown(entry))))
            .collect()
    }

    /// Every digest that an entry names that cannot be read.
    pub fn odd_digests(&self) -> BTreeSet<Sha256> {
        let mut found = BTreeSet::new();
        self.odd.iter().for_each(|entry| digests(entry, &mut found));
        found
    }

    /// Writes `images` in the place of those that were read, and keeps what others wrote since.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(self, store: &Store, _turn: &Turn, images: Vec<Descriptor>) -> Result<()> {
        let Index { images: before, mut odd, bytes: mut there, .. } = self;
        let path = path(store);
        let fail = || format!("cannot write {}", path.display());
        let mut gone = read_known(store).map(|known| known.gone).unwrap_or_default();
        gone.extend(before.iter().map(pair));
        let mut after = images;
        for _ in 0..TRIES {
            let pairs: BTreeSet<Pair> = after.iter().map(pair).collect();
            let mut seen = BTreeSet::new();
            gone = gone.into_iter().rev().filter(|pair| !pairs.contains(pair) && seen.insert(pair.clone())).take(REMEMBERED).collect();
            gone.reverse();
            let bytes = json(&after, &odd)?;
            let known = Known { written: Sha256::of(&bytes).to_string(), images: after.clone(), gone: gone.clone() };
            store::write(&known_path(store), &serde_json::to_vec(&known).or_fail(Class::System, fail)?)?;
            // What is there is not written over, but taken in exchange: so it is seen if it was written meanwhile.
            let Some(taken) = exchange(store, &bytes)?.filter(|taken| *taken != there) else { return Ok(()) };
            let Ok((theirs, others)) = parse(&taken) else { return Ok(()) };
            after = merged(theirs, &known, |digest| is_there(store, digest));
            (odd, there) = (others, bytes);
        }
        Err(Error::new(Class::System, fail()).because("others write it all the time"))
    }
}

/// Puts a new `index.json` in its place. Gives what was there, and has been written to its end.
fn exchange(store: &Store, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let path = path(store);
    let fail = || format!("cannot write {}", path.display());
    let new = store::unfinished(&path, bytes)?;
    match rustix::fs::renameat_with(CWD, new.path(), CWD, &path, RenameFlags::EXCHANGE) {
        Ok(()) => {
            store::sync_folder(&path)?;
            for _ in 0..TRIES {
                let old = fs::read(new.path()).or_fail(Class::System, fail)?;
                if parse(&old).is_ok() {
                    return Ok(Some(old));
                }
                // It is being written, or it was broken.
                std::thread::sleep(PAUSE);
            }
            Ok(None)
        }
        // There is none, or the file system cannot do it.
        Err(_) => {
            new.persist(&path).map_err(|error| error.error).or_fail(Class::System, fail)?;
            store::sync_folder(&path)?;
            Ok(None)
        }
    }
}

/// The images of an index, and entries that are none.
fn parse(bytes: &[u8]) -> std::result::Result<(Vec<Descriptor>, Vec<Value>), String> {
    let mut whole: serde_json::Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    // Go writes `null` for no entries.
    let entries: Option<Vec<Value>> = match whole.remove("manifests") {
        Some(entries) => serde_json::from_value(entries).map_err(|error| error.to_string())?,
        None => None,
    };
    let (mut images, mut odd) = (Vec::new(), Vec::new());
    for entry in entries.unwrap_or_default() {
        match serde_json::from_value::<Descriptor>(entry.clone()) {
            Ok(descriptor) if descriptor.digest.parse::<Sha256>().is_ok() && descriptor.digest.starts_with("sha256:") => {
                images.push(descriptor)
            }
            _ => odd.push(entry),
        }
    }
    Ok((images, odd))
}

fn json(images: &[Descriptor], odd: &[Value]) -> Result<Vec<u8>> {
    let fail = || "cannot write JSON".to_string();
    let mut document = serde_json::to_value(Document::of(images.to_vec())).or_fail(Class::System, fail)?;
    if odd.is_empty() {
        return serde_json::to_vec(&Document::of(images.to_vec())).or_fail(Class::System, fail);
    }
    if let Some(entries) = document.get_mut("manifests").and_then(Value::as_array_mut) {
        entries.extend(odd.iter().cloned());
    }
    serde_json::to_vec(&document).or_fail(Class::System, fail)
}

/// Theirs, and ours that they do not name. What they name that we had taken away is somebody's who had not seen that,
/// unless it is all that they changed.
fn merged(theirs: Vec<Descriptor>, known: &Known, is_there: impl Fn(&str) -> bool) -> Vec<Descriptor> {
    let ours: BTreeSet<Pair> = known.images.iter().map(pair).collect();
    let gone: BTreeSet<&Pair> = known.gone.iter().collect();
    let brought = theirs.iter().map(pair).any(|pair| !ours.contains(&pair) && !gone.contains(&pair));
    let mut all: Vec<Descriptor> = theirs.into_iter().filter(|image| !(brought && gone.contains(&pair(image)))).collect();
    for image in &known.images {
        let named = |other: &Descriptor| match image.name() {
            Some(name) => other.name() == Some(name),
            None => other.digest == image.digest,
        };
        // Whoever removes an image removes its manifest.
        if !all.iter().any(named) && is_there(&image.digest) {
            all.push(image.clone());
        }
    }
    all
}

fn is_there(store: &Store, digest: &str) -> bool {
    digest.parse().is_ok_and(|digest| store.blob(&digest).exists())
}

fn read_known(store: &Store) -> Option<Known> {
    serde_json::from_slice(&fs::read(known_path(store)).ok()?).ok()
}

/// All digests in a document.
pub(super) fn digests(value: &Value, found: &mut BTreeSet<Sha256>) {
    match value {
        Value::String(text) => found.extend(text.strip_prefix("sha256:").and_then(|hex| hex.parse::<Sha256>().ok())),
        Value::Array(list) => list.iter().for_each(|value| digests(value, found)),
        Value::Object(map) => map.values().for_each(|value| digests(value, found)),
        _ => {}
    }
}

/// The bytes of a file that may be gone.
pub(super) fn small(path: &std::path::Path, most: u64) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.len() {
        length if length > most => Err(io::Error::other("it is too long for a document")),
        _ => fs::read(path),
    }
}

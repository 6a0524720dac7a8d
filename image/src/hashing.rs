//! Digests of files that were left out when their layers were read, for whoever comes to need them.
//!
//! ```text
//! layers read, plain tars ─► which files are compared? ─► only those, out of the tar again, by all cores
//! ```

use crate::image::{Entry, Kind, Layer};
use crate::store::{Compression, Part, Store};
use crate::{broken, path};
use md5::Digest as _;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Hasher, Result, Sha256};

/// More cores than this wait for the disk.
const MAX_WORKERS: usize = 8;
/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;
/// How many names of names are looked at, at least.
const MIN_STEPS: usize = 100_000;

/// What is to be known of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub sha256: bool,
    pub md5: bool,
}

/// What was wished for.
type Known = (Option<Sha256>, Option<[u8; 16]>);

/// A file that is to be hashed.
struct Job {
    layer: usize,
    entry: usize,
    at: u64,
    size: u64,
    wish: Wish,
}

impl Store {
    /// The blobs of plain layers. One layer that stands in the image twice is read from its own blob each time.
    pub(crate) fn plain_blobs(&self) -> Result<Vec<Option<Part>>> {
        let plain = |(blob, _, packed)| (packed == Compression::None).then_some(blob);
        (0..self.layers()).map(|layer| Ok(plain(self.blob(layer)?))).collect()
    }

    /// Hashes what `wish` wants of files of plain layers and is not known yet. Files that are looked into have no MD5.
    pub(crate) fn hash(&self, layers: &mut [Layer], wish: &dyn Fn(usize, &Entry) -> Wish) -> Result<()> {
        let mut jobs = Vec::new();
        for (layer, there) in layers.iter().enumerate() {
            for (entry, file) in there.entries.iter().enumerate() {
                let Kind::File { size, sha256 } = &file.kind else { continue };
                let Some(at) = sha256.at().filter(|_| file.content.is_none()) else { continue };
                let wish = wish(layer, file);
                let wish = Wish { sha256: wish.sha256 && sha256.known().is_none(), md5: wish.md5 && file.md5.is_none() };
                if wish.sha256 || wish.md5 {
                    jobs.push(Job { layer, entry, at, size: *size, wish });
                }
            }
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let blobs = self.plain_blobs()?;
        jobs.retain(|job| blobs[job.layer].is_some());
        jobs.sort_by_key(|job| (job.layer, job.at));
        let all: u64 = jobs.iter().map(|job| job.size).sum();
        let done = on_all_cores(&jobs, all < 4 * BUFFER as u64, &|job, buffer| {
            buffer.resize(BUFFER, 0);
            blobs[job.layer].as_ref().and_then(|blob| blob.within(job.at, job.size)).map(|part| hash(part, job.wish, buffer))
        });
        for (job, known) in done {
            let entry = &mut layers[job.layer].entries[job.entry];
            let fail = || format!("{}: cannot read it again", path::shown(&entry.path));
            let (sha256, md5) = known.ok_or_else(|| broken(fail()))?.or_fail(Class::Runtime, fail)?;
            if let (Kind::File { sha256: digest, .. }, Some(sha256)) = (&mut entry.kind, sha256) {
                *digest = digest.read(sha256);
            }
            entry.md5 = md5.or(entry.md5);
        }
        Ok(())
    }
}

/// Does jobs on all cores, or in this thread if they are small. Each worker has a buffer of its own.
pub(crate) fn on_all_cores<'j, J: Sync, T: Send>(
    jobs: &'j [J],
    are_small: bool,
    work: &(dyn Fn(&J, &mut Vec<u8>) -> T + Sync),
) -> Vec<(&'j J, T)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs.len())));
    let worker = || {
        let mut buffer = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let made = work(job, &mut buffer);
            if let Ok(mut done) = done.lock() {
                done.push((job, made));
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS).min(jobs.len());
    if workers < 2 || are_small {
        worker();
    } else {
        thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
    }
    done.into_inner().unwrap_or_default()
}

fn hash(mut part: Part, wish: Wish, buffer: &mut [u8]) -> io::Result<Known> {
    let mut sha256 = wish.sha256.then(Hasher::default);
    let mut md5 = wish.md5.then(md5::Md5::default);
    loop {
        let n = match part.read(buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(cause),
        };
        if let Some(hasher) = &mut sha256 {
            hasher.update(&buffer[..n]);
        }
        if let Some(md5) = &mut md5 {
            md5.update(&buffer[..n]);
        }
    }
    Ok((sha256.map(Hasher::finish), md5.map(|md5| md5.finalize().into())))
}

/// The sizes of files that may be the same as another one that they are compared with: one in another layer, or in the same
/// one from layer `alone` on. Files of different sizes differ, whatever is in them.
pub(crate) struct Alike(Option<HashSet<u64>>);

impl Alike {
    pub fn of(layers: &[Layer], alone: usize) -> Alike {
        let mut names = Names::of(layers);
        // Each size, and the first layer that has a file of it.
        let mut first: HashMap<u64, usize> = HashMap::new();
        let mut alike = HashSet::new();
        let mut seen = |layer: usize, size: u64| {
            if first.get(&size).is_some_and(|earlier| *earlier != layer || layer >= alone) {
                alike.insert(size);
            }
            first.entry(size).or_insert(layer);
        };
        for (number, layer) in layers.iter().enumerate() {
            for entry in &layer.entries {
                match &entry.kind {
                    Kind::File { size, .. } => seen(number, *size),
                    // A name of a file is that file once more, in this layer.
                    Kind::Hardlink { target } => match names.files(target) {
                        Some(files) => files.into_iter().for_each(|file| seen(number, file.size())),
                        None => return Alike(None),
                    },
                    _ => {}
                }
            }
        }
        Alike(Some(alike))
    }

    /// Whether it is one of those files.
    pub fn has(&self, entry: &Entry) -> bool {
        self.0.as_ref().is_none_or(|sizes| sizes.contains(&entry.size()))
    }
}

/// What is at the paths of all layers, for whoever follows hard links.
pub(crate) struct Names<'a> {
    at: HashMap<&'a str, Vec<&'a Entry>>,
    /// How many more are looked at: a hostile image may have very many names of very many files.
    left: usize,
}

impl<'a> Names<'a> {
    pub fn of(layers: &'a [Layer]) -> Names<'a> {
        let all = || layers.iter().flat_map(|layer| &layer.entries);
        let mut names = Names { at: HashMap::new(), left: MIN_STEPS };
        if all().any(|entry| matches!(entry.kind, Kind::Hardlink { .. })) {
            for entry in all().filter(|entry| matches!(entry.kind, Kind::File { .. } | Kind::Hardlink { .. })) {
                names.at.entry(&entry.path).or_default().push(entry);
                names.left += 4;
            }
        }
        names
    }

    /// All files that a name may lead to, in whichever layer. None where there are too many.
    pub fn files(&mut self, target: &str) -> Option<Vec<&'a Entry>> {
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        let mut todo: Vec<&'a Entry> = self.at.get(target).into_iter().flatten().copied().collect();
        while let Some(entry) = todo.pop() {
            self.left = self.left.checked_sub(1)?;
            match &entry.kind {
                Kind::Hardlink { target } if seen.insert(target.as_str()) => {
                    let there = self.at.get(target.as_str()).map_or(&[][..], Vec::as_slice);
                    self.left = self.left.checked_sub(there.len())?;
                    todo.extend(there);
                }
                Kind::Hardlink { .. } => {}
                _ => files.push(entry),
            }
        }
        Some(files)
    }
}

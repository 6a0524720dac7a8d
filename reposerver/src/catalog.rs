//! What is known of the pool's packages, in a few files that are read in one go.
//!
//! What a package says of itself is read once, when it comes in, and kept with the texts that apt's and yum's
//! indexes have of it, so that a publish opens no package and parses no JSON:
//!
//! ```text
//! catalog/index         a record for each package, and for each rpm's texts for yum: see [`record`]
//! catalog/descriptions  what each package says of itself, as JSON
//! catalog/paragraphs    its paragraph in apt's index
//! catalog/primary       its element in yum's files
//! catalog/filelists
//! catalog/other
//! ```
//!
//! All of them only grow, under the index' lock, until more than half is waste: then they are written anew ([`compact`]). A text is written before the record that names it, each with a
//! checksum; what a crash left behind the last whole record is overwritten. Each starts with the number of its
//! generation, so that files of two catalogs are never mixed. The whole can be thrown away and is made again
//! from the pool.

pub(crate) mod compact;
mod record;

pub(crate) use record::{Entry, Rendered, Span, crc};

use crate::rpms::Served;
use crate::{PoolPackage, disk, lock, seal};
use record::Record;
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use twostage_model::error::OrFail;
use twostage_model::{Class, DigestMap, Error, Result, Sha256};

/// The files of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pack {
    Descriptions,
    Paragraphs,
    Primary,
    Filelists,
    Other,
}

impl Pack {
    const ALL: [Pack; 5] = [Pack::Descriptions, Pack::Paragraphs, Pack::Primary, Pack::Filelists, Pack::Other];
    /// Those of yum, in the order of [`Rendered::texts`].
    pub(crate) const YUM: [Pack; 3] = [Pack::Primary, Pack::Filelists, Pack::Other];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Pack::Descriptions => "descriptions",
            Pack::Paragraphs => "paragraphs",
            Pack::Primary => "primary",
            Pack::Filelists => "filelists",
            Pack::Other => "other",
        }
    }
}

/// What each file starts with; the 1 is the version of the format and of what is rendered.
const START: &[u8; 12] = b"twostage c1\n";
/// [`START`], then the generation.
const HEAD: u64 = 20;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// The catalog of one repository.
pub(crate) struct Catalog {
    folder: PathBuf,
    state: Mutex<Option<State>>,
    syncing: Mutex<()>,
}

struct State {
    index: File,
    identity: (u64, u64),
    /// Why it may only be read, as the system's number.
    read_only: Option<i32>,
    /// Where the last whole record ends.
    end: u64,
    /// Something was added, here or by another process, since it was made durable.
    unsynced: bool,
    packs: Arc<Packs>,
    /// Packages that were added, those that came again too.
    records: usize,
    entries: DigestMap<Arc<Entry>>,
    rendered: DigestMap<Vec<Arc<Rendered>>>,
}

/// A record to add, with its texts.
struct New<'a> {
    texts: Vec<(Pack, Cow<'a, [u8]>)>,
    record: Box<Written<'a>>,
}

/// The bytes of a record, from where its texts are.
type Written<'a> = dyn Fn(&[Span]) -> Vec<u8> + 'a;

/// The open files of one generation.
pub(crate) struct Packs {
    files: [File; 5],
    /// A text was not what it was when it was written.
    damaged: AtomicBool,
}

impl Catalog {
    pub(crate) fn new(root: &Path) -> Catalog {
        Catalog { folder: root.join("catalog"), state: Mutex::new(None), syncing: Mutex::default() }
    }

    /// What is known of a package, also of one that another process just took in.
    ///
    /// # Errors
    /// The machine does not let it be read.
    pub(crate) fn get(&self, digest: &Sha256) -> Result<Option<Arc<Entry>>> {
        let mut state = lock(&self.state);
        if let Some(found) = state.as_ref().and_then(|state| state.entries.get(digest)) {
            return Ok(Some(Arc::clone(found)));
        }
        self.refresh(&mut state)?;
        Ok(state.as_ref().and_then(|state| state.entries.get(digest)).cloned())
    }

    /// The same for many, in their order, with nothing for what is not known.
    ///
    /// # Errors
    /// The machine does not let it be read.
    pub(crate) fn get_all<'a>(&self, digests: impl Iterator<Item = &'a Sha256>) -> Result<Vec<(Sha256, Option<Arc<Entry>>)>> {
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        let known = |digest: &Sha256| state.as_ref().and_then(|state| state.entries.get(digest)).cloned();
        Ok(digests.map(|digest| (*digest, known(digest))).collect())
    }

    /// The texts for yum of packages as they are served with this key's signature, or as they came.
    ///
    /// # Errors
    /// The machine does not let them be read.
    pub(crate) fn rendered(&self, entries: &[&Arc<Entry>], key: &str) -> Result<Vec<Option<Arc<Rendered>>>> {
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        let find = |entry: &&Arc<Entry>| {
            let found = state.as_ref()?.rendered.get(&entry.sha256)?;
            found.iter().find(|rendered| rendered.key.is_empty() || *rendered.key == *key).cloned()
        };
        Ok(entries.iter().map(find).collect())
    }

    /// What a package says of itself; nothing where that is damaged.
    ///
    /// # Errors
    /// The machine does not let it be read.
    pub(crate) fn description(&self, entry: &Entry) -> Result<Option<PoolPackage>> {
        let mut text = Vec::new();
        let Some(packs) = self.packs()? else { return Ok(None) };
        match packs.read(Pack::Descriptions, &[entry.description], |part| text.extend_from_slice(part)) {
            Err(error) if error.is_unread() => Err(error),
            Err(_) => Ok(None),
            Ok(()) => Ok(seal::open::<PoolPackage>(&text).ok().filter(|package| package.sha256 == entry.sha256)),
        }
    }

    /// The files to read texts from; nothing where there is no catalog.
    ///
    /// # Errors
    /// The machine does not let them be read.
    pub(crate) fn packs(&self) -> Result<Option<Arc<Packs>>> {
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        Ok(state.as_ref().map(|state| Arc::clone(&state.packs)))
    }

    /// The same, made where there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn packs_made(&self, scratch: &disk::Scratch) -> Result<Arc<Packs>> {
        match self.packs()? {
            Some(packs) => Ok(packs),
            None => self.make(scratch).and_then(|()| self.packs()?.ok_or_else(|| self.unwritable())),
        }
    }

    /// Adds a package with its paragraph for apt.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn add(&self, scratch: &disk::Scratch, package: &PoolPackage, paragraph: &str) -> Result<Arc<Entry>> {
        self.add_all(scratch, &[(package, paragraph)])?;
        let state = lock(&self.state);
        state.as_ref().and_then(|state| state.entries.get(&package.sha256)).cloned().ok_or_else(|| self.unwritable())
    }

    /// Adds packages with their paragraphs for apt.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn add_all(&self, scratch: &disk::Scratch, packages: &[(&PoolPackage, &str)]) -> Result<()> {
        let mut news = Vec::with_capacity(packages.len());
        for (package, paragraph) in packages {
            let description = seal::close(*package)?;
            news.push(New {
                texts: vec![(Pack::Descriptions, Cow::Owned(description)), (Pack::Paragraphs, Cow::Borrowed(paragraph.as_bytes()))],
                record: Box::new(|spans| match spans {
                    [description, paragraph] => record::package(package, *description, *paragraph),
                    _ => Vec::new(),
                }),
            });
        }
        self.append(&mut lock(&self.state), scratch, &news)
    }

    /// Adds the texts for yum of packages as they are served: primary, filelists, other.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn add_rendered(
        &self,
        scratch: &disk::Scratch,
        all: &[(&PoolPackage, &Served, &[Vec<u8>; 3])],
    ) -> Result<Vec<Arc<Rendered>>> {
        let mut news = Vec::with_capacity(all.len());
        for (package, served, texts) in all {
            news.push(New {
                texts: Pack::YUM.into_iter().zip(texts.iter().map(|text| Cow::Borrowed(text.as_slice()))).collect(),
                record: Box::new(|spans| spans.try_into().map_or_else(|_| Vec::new(), |spans| record::rendered(package, served, spans))),
            });
        }
        let mut state = lock(&self.state);
        self.append(&mut state, scratch, &news)?;
        let last = |package: &PoolPackage| state.as_ref()?.rendered.get(&package.sha256)?.last().cloned();
        all.iter().map(|(package, ..)| last(package).ok_or_else(|| self.unwritable())).collect()
    }

    fn append(&self, slot: &mut Option<State>, scratch: &disk::Scratch, news: &[New<'_>]) -> Result<()> {
        let failed = || format!("cannot write to {}", self.folder.display());
        // Somebody may throw the catalog away between the look at it and its lock.
        for _ in 0..16 {
            self.refresh(slot)?;
            if slot.is_none() {
                self.make(scratch)?;
                continue;
            }
            let Some(state) = slot.as_mut() else { continue };
            if let Some(code) = state.read_only {
                return Err(Error::system(failed(), io::Error::from_raw_os_error(code)));
            }
            state.index.lock().or_fail(Class::System, failed)?;
            let done = self.append_locked(state, news);
            let unlocked = state.index.unlock();
            match done {
                Ok(true) => return unlocked.or_fail(Class::System, failed),
                Ok(false) => *slot = None,
                Err(error) => return Err(Error::system(failed(), error)),
            }
        }
        Err(self.unwritable())
    }

    /// Nothing is done where the file that is locked is the catalog's no more.
    fn append_locked(&self, state: &mut State, news: &[New<'_>]) -> io::Result<bool> {
        if identity(&self.folder.join("index")).is_none_or(|found| found != state.identity) {
            return Ok(false);
        }
        state.read_on()?;
        // Behind whatever is there: what no record names is nobody's.
        let mut ends = [0; Pack::ALL.len()];
        for (end, file) in ends.iter_mut().zip(&state.packs.files) {
            *end = file.metadata()?.len().max(HEAD);
        }
        let (starts, mut texts, mut bytes) = (ends, [const { Vec::new() }; Pack::ALL.len()], Vec::new());
        for new in news {
            let mut spans = Vec::with_capacity(new.texts.len());
            for (pack, text) in &new.texts {
                let (end, all) = (&mut ends[*pack as usize], &mut texts[*pack as usize]);
                spans.push(Span { at: *end, length: u32::try_from(text.len()).map_err(io::Error::other)?, crc: record::crc(text) });
                *end += text.len() as u64;
                all.extend_from_slice(text);
            }
            bytes.extend((new.record)(&spans));
        }
        for ((file, text), start) in state.packs.files.iter().zip(&texts).zip(starts).filter(|((_, text), _)| !text.is_empty()) {
            file.write_all_at(text, start)?;
        }
        if state.index.metadata()?.len() > state.end {
            state.index.set_len(state.end)?;
        }
        state.unsynced = true;
        state.index.write_all_at(&bytes, state.end)?;
        state.take(&bytes);
        Ok(true)
    }

    /// Makes what was added durable.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn sync(&self) -> Result<()> {
        // Who comes second waits until what the first one found is durable.
        let _turn = lock(&self.syncing);
        let mut files = Vec::new();
        {
            let mut state = lock(&self.state);
            let Some(state) = state.as_mut().filter(|state| state.unsynced) else { return Ok(()) };
            state.unsynced = false;
            let failed = || format!("cannot sync {}", self.folder.display());
            for file in state.packs.files.iter().chain([&state.index]) {
                files.push(file.try_clone().or_fail(Class::System, failed)?);
            }
        }
        let synced = crate::workers::for_each_waiting(&files, |file| {
            file.sync_data().or_fail(Class::System, || format!("cannot sync {}", self.folder.display()))
        });
        if synced.is_err() {
            lock(&self.state).iter_mut().for_each(|state| state.unsynced = true);
        }
        synced
    }

    /// Throws the catalog away, for it to be made again.
    ///
    /// # Errors
    /// It cannot be moved away.
    pub(crate) fn discard(&self, scratch: &disk::Scratch) -> Result<()> {
        let mut state = lock(&self.state);
        *state = None;
        let aside = scratch.folder()?;
        match fs::rename(&self.folder, aside.path().join("catalog")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(format!("cannot move {} away", self.folder.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Whether a text was found damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        lock(&self.state).as_ref().is_some_and(|state| state.packs.damaged.load(Ordering::Relaxed))
    }

    /// An empty catalog, where there is none that can be used.
    fn make(&self, scratch: &disk::Scratch) -> Result<()> {
        let failed = || format!("cannot make {}", self.folder.display());
        let made = scratch.folder()?;
        let head = head_of_new();
        for name in ["index"].into_iter().chain(Pack::ALL.map(Pack::name)) {
            let mut file = File::create(made.path().join(name)).or_fail(Class::System, failed)?;
            file.write_all(&head).and_then(|()| file.sync_all()).or_fail(Class::System, failed)?;
        }
        disk::sync_folder(made.path())?;
        let parent = self.folder.parent().unwrap_or(Path::new("."));
        if let Err(cause) = fs::rename(made.path(), &self.folder) {
            // One that somebody else just made stays; what cannot be used goes aside, to be swept.
            if State::open(&self.folder).or_fail(Class::System, failed)?.is_some() {
                return Ok(());
            }
            if fs::symlink_metadata(&self.folder).is_err() {
                return Err(Error::system(failed(), cause));
            }
            let aside = scratch.folder()?;
            fs::rename(&self.folder, aside.path().join("catalog")).or_fail(Class::System, failed)?;
            fs::rename(made.path(), &self.folder).or_fail(Class::System, failed)?;
        }
        let _ = made.keep();
        disk::sync_folder(parent)
    }

    /// Reads what is new.
    fn refresh(&self, slot: &mut Option<State>) -> Result<()> {
        if let Some(state) = slot
            && identity(&self.folder.join("index")).is_some_and(|found| found == state.identity)
            && state.read_on().is_ok()
        {
            return Ok(());
        }
        *slot = State::open(&self.folder).or_fail(Class::System, || format!("cannot read {}", self.folder.display()))?;
        Ok(())
    }

    fn unwritable(&self) -> Error {
        Error::new(Class::System, format!("cannot write to {}", self.folder.display()))
            .because("it went away while it was written to".to_string())
    }
}

/// How the files of a new generation start.
fn head_of_new() -> [u8; HEAD as usize] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let generation = u64::try_from(now.as_nanos()).unwrap_or_default() ^ u64::from(std::process::id()).rotate_left(40);
    let mut head = [0; HEAD as usize];
    head[..START.len()].copy_from_slice(START);
    head[START.len()..].copy_from_slice(&generation.to_le_bytes());
    head
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl State {
    /// The catalog in a folder; nothing where there is none, or one that cannot be used.
    ///
    /// # Errors
    /// The machine does not let it be read: nothing is wrong with the catalog then.
    fn open(folder: &Path) -> io::Result<Option<State>> {
        let (mut generation, mut read_only) = (None, None);
        let mut open = |name: &str| -> io::Result<Option<File>> {
            let path = folder.join(name);
            let opened = File::options().read(true).write(true).open(&path).or_else(|error| match error.kind() {
                // What may only be read is read.
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    read_only = error.raw_os_error();
                    File::open(&path)
                }
                _ => Err(error),
            });
            let file = match opened {
                Ok(file) => file,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let mut head = [0; HEAD as usize];
            let whole = read_at(&file, &mut head, 0)? == head.len();
            let same = whole && *generation.get_or_insert(head) == head;
            Ok((same && head.starts_with(START)).then_some(file))
        };
        let Some(index) = open("index")? else { return Ok(None) };
        let mut packs = Vec::new();
        for pack in Pack::ALL {
            let Some(file) = open(pack.name())? else { return Ok(None) };
            packs.push(file);
        }
        let Ok(files) = packs.try_into() else { return Ok(None) };
        let meta = index.metadata()?;
        let mut state = State {
            identity: (meta.dev(), meta.ino()),
            index,
            read_only,
            end: HEAD,
            unsynced: true,
            packs: Arc::new(Packs { files, damaged: AtomicBool::new(false) }),
            records: 0,
            entries: DigestMap::default(),
            rendered: DigestMap::default(),
        };
        state.read_on()?;
        Ok(Some(state))
    }

    /// Reads the records that were added since.
    fn read_on(&mut self) -> io::Result<()> {
        let length = self.index.metadata()?.len();
        if length <= self.end {
            // Cut off behind our back: another catalog than the one that we know.
            return if length < self.end { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) };
        }
        let mut bytes = vec![0; usize::try_from(length - self.end).map_err(io::Error::other)?];
        let got = read_at(&self.index, &mut bytes, self.end)?;
        bytes.truncate(got);
        self.unsynced = true;
        self.take(&bytes);
        Ok(())
    }

    /// Takes records over. Of damaged ones the next whole one is looked for; what is behind the last is being written, or
    /// was torn by a crash.
    fn take(&mut self, bytes: &[u8]) {
        self.entries.reserve(bytes.len() / record::USUAL);
        let (mut at, mut end) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some((record, length)) = record::read(rest) {
                match record {
                    Record::Package(mut entry) => {
                        entry.number = self.records;
                        self.records += 1;
                        self.entries.insert(entry.sha256, Arc::new(entry));
                    }
                    Record::Rendered(rendered) => {
                        let all = self.rendered.entry(rendered.sha256).or_default();
                        all.retain(|earlier| earlier.key != rendered.key);
                        all.push(Arc::new(rendered));
                    }
                    Record::Gone(digest) => {
                        self.entries.remove(&digest);
                        self.rendered.remove(&digest);
                    }
                }
                at += length;
                end = at;
            } else {
                let next = rest.get(1..).and_then(|rest| rest.windows(record::MAGIC.len()).position(|part| part == record::MAGIC));
                let Some(next) = next else { break };
                at += 1 + next;
            }
        }
        self.end += end as u64;
    }
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

impl Packs {
    /// Gives texts to `sink`, one by one. Texts that follow each other in the file are read together.
    ///
    /// # Errors
    /// One is not what it was when it was written.
    pub(crate) fn read(&self, pack: Pack, spans: &[Span], mut sink: impl FnMut(&[u8])) -> Result<()> {
        let file = &self.files[pack as usize];
        let damaged = || {
            self.damaged.store(true, Ordering::Relaxed);
            Error::new(Class::Repository, format!("the catalog's {} are damaged", pack.name()))
        };
        let mut buffer = Vec::new();
        let mut rest = spans;
        while let Some(first) = rest.first() {
            let (mut count, mut end) = (1, first.end());
            while let Some(next) = rest.get(count).filter(|next| next.at == end && next.end() - first.at <= CHUNK as u64) {
                end = next.end();
                count += 1;
            }
            let (run, others) = rest.split_at(count);
            rest = others;
            let length = usize::try_from(end - first.at).map_err(|_| damaged())?;
            // A record that lies about its length is no reason to take all memory.
            if length > CHUNK && file.metadata().map_or(0, |meta| meta.len()) < end {
                return Err(damaged());
            }
            buffer.resize(length, 0);
            match read_at(file, &mut buffer, first.at) {
                Ok(got) if got == length => {}
                Ok(_) => return Err(damaged()),
                Err(error) => return Err(Error::system(format!("cannot read the catalog's {}", pack.name()), error)),
            }
            let mut texts = buffer.as_slice();
            for span in run {
                let Some((text, others)) = texts.split_at_checked(span.length as usize) else { return Err(damaged()) };
                if record::crc(text) != span.crc {
                    return Err(damaged());
                }
                sink(text);
                texts = others;
            }
        }
        Ok(())
    }
}

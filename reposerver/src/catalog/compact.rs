//! Taking packages out of the catalog, and writing it anew without what nobody needs.

use super::record::{self, Record, Span};
use super::{Catalog, HEAD, New, Pack, Packs, State, identity};
use crate::{disk, lock};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

/// Bytes that are read and written at once.
const BUFFER: usize = 1 << 20;

/// What the catalog's files are filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Bytes of the files.
    pub(crate) all: u64,
    /// Bytes of texts that a package has.
    pub(crate) used: u64,
}

impl Fill {
    /// Bytes that nobody needs.
    pub(crate) fn waste(self) -> u64 {
        self.all.saturating_sub(self.used)
    }
}

impl Catalog {
    /// Every package that the catalog knows.
    ///
    /// # Errors
    /// The machine does not let it be read.
    pub(crate) fn known(&self) -> Result<Vec<Arc<super::Entry>>> {
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        let mut known: Vec<_> = state.iter().flat_map(|state| state.entries.values().cloned()).collect();
        known.sort_by_key(|entry| entry.number);
        Ok(known)
    }

    /// Takes packages out: a record says that each is gone. Durable when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn forget(&self, scratch: &disk::Scratch, gone: &BTreeSet<Sha256>) -> Result<()> {
        let known: Vec<Sha256> = {
            let mut state = lock(&self.state);
            self.refresh(&mut state)?;
            let known = |digest: &&Sha256| {
                state.as_ref().is_some_and(|state| state.entries.contains_key(*digest) || state.rendered.contains_key(*digest))
            };
            gone.iter().filter(known).copied().collect()
        };
        if known.is_empty() {
            return Ok(());
        }
        let records: Vec<u8> = known.iter().flat_map(record::gone).collect();
        self.append(&mut lock(&self.state), scratch, &[New { texts: Vec::new(), record: Box::new(|_| records.clone()) }])?;
        self.sync()
    }

    /// How much of the files is needed, if the packages `gone` are not.
    ///
    /// # Errors
    /// The machine does not let it be read.
    pub(crate) fn fill(&self, gone: &BTreeSet<Sha256>) -> Result<Fill> {
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        let Some(state) = state.as_ref() else { return Ok(Fill::default()) };
        let size = |file: &File| file.metadata().map_or(0, |meta| meta.len());
        let all = state.packs.files.iter().map(size).sum::<u64>() + size(&state.index);
        let live = state.entries.values().filter(|entry| !gone.contains(&entry.sha256));
        let texts = live.map(|entry| {
            let rendered = state.rendered.get(&entry.sha256).into_iter().flatten();
            let spans = [entry.description, entry.paragraph].into_iter().chain(rendered.clone().flat_map(|rendered| rendered.texts));
            // The records themselves, about.
            let records = 200 + rendered.count() as u64 * 150 + entry.files.len() as u64 * 40;
            spans.map(|span| u64::from(span.length)).sum::<u64>() + records
        });
        Ok(Fill { used: (texts.sum::<u64>() + 6 * HEAD).min(all), all })
    }

    /// Writes the catalog anew, with what the packages that it knows need. Others that write to it wait. A crash leaves
    /// the old one or the new one. One with a damaged text is left as it is: it says so when it is read.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn compact(&self, scratch: &disk::Scratch) -> Result<()> {
        let failed = || format!("cannot make {} anew", self.folder.display());
        let mut slot = lock(&self.state);
        self.refresh(&mut slot)?;
        let Some(state) = slot.as_mut() else { return Ok(()) };
        state.index.lock().or_fail(Class::System, failed)?;
        let done = self.compact_locked(state, scratch);
        // The lock goes with the file; who waited for it sees that the index is another.
        *slot = None;
        done
    }

    fn compact_locked(&self, state: &mut State, scratch: &disk::Scratch) -> Result<()> {
        let failed = || format!("cannot make {} anew", self.folder.display());
        if identity(&self.folder.join("index")).is_none_or(|found| found != state.identity) {
            // Somebody else has just made it anew.
            return Ok(());
        }
        state.read_on().or_fail(Class::System, failed)?;
        let made = scratch.folder()?;
        match write_anew(state, made.path()) {
            Err(error) if error.class() == Class::System => return Err(error),
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        disk::sync_folder(made.path())?;
        disk::exchange(made.path(), &self.folder).or_fail(Class::System, failed)?;
        disk::sync_folder(self.folder.parent().unwrap_or(Path::new(".")))
    }
}

fn write_anew(state: &State, folder: &Path) -> Result<()> {
    let failed = || format!("cannot write in {}", folder.display());
    let head = super::head_of_new();
    let mut writers = Vec::new();
    for name in Pack::ALL.map(Pack::name) {
        let file = File::create(folder.join(name)).or_fail(Class::System, failed)?;
        let mut writer = Writer { output: BufWriter::with_capacity(BUFFER, file), at: 0 };
        writer.put(&head).or_fail(Class::System, failed)?;
        writers.push(writer);
    }
    let mut index =
        Writer { output: BufWriter::with_capacity(BUFFER, File::create(folder.join("index")).or_fail(Class::System, failed)?), at: 0 };
    index.put(&head).or_fail(Class::System, failed)?;
    let mut entries: Vec<_> = state.entries.values().collect();
    entries.sort_by_key(|entry| entry.number);
    for entry in entries {
        let mut copy = |pack: Pack, span: Span| copied(&state.packs, pack, span, &mut writers);
        let spans = (copy(Pack::Descriptions, entry.description)?, copy(Pack::Paragraphs, entry.paragraph)?);
        index.put(&record::moved(entry, spans.0, spans.1)).or_fail(Class::System, failed)?;
        for rendered in state.rendered.get(&entry.sha256).into_iter().flatten() {
            let mut texts = rendered.texts;
            for (pack, span) in Pack::YUM.into_iter().zip(&mut texts) {
                *span = copied(&state.packs, pack, *span, &mut writers)?;
            }
            index.put(&record::moved_texts(rendered, texts)).or_fail(Class::System, failed)?;
        }
    }
    for writer in writers.into_iter().chain([index]) {
        let file = writer.output.into_inner().map_err(std::io::IntoInnerError::into_error).or_fail(Class::System, failed)?;
        file.sync_all().or_fail(Class::System, failed)?;
    }
    Ok(())
}

fn copied(packs: &Packs, pack: Pack, span: Span, writers: &mut [Writer]) -> Result<Span> {
    let lost = || Error::new(Class::System, format!("there is no pack of {}", pack.name()));
    let writer = writers.get_mut(pack as usize).ok_or_else(lost)?;
    let at = writer.at;
    let mut wrote = Ok(());
    packs.read(pack, &[span], |text| wrote = writer.put(text))?;
    wrote.or_fail(Class::System, || format!("cannot write the catalog's {}", pack.name()))?;
    Ok(Span { at, ..span })
}

struct Writer {
    output: BufWriter<File>,
    at: u64,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}

/// What of the catalog's records and texts is damaged; nothing where all of it is whole.
///
/// # Errors
/// The system does not let it be read.
pub(crate) fn damaged(catalog: &Catalog) -> Result<Option<String>> {
    let folder = &catalog.folder;
    match disk::named(folder)? {
        None => return Ok(None),
        Some(found) if found.is_dir() => {}
        Some(_) => return Ok(Some(format!("{} is no folder", folder.display()))),
    }
    let state = match State::open(folder).or_fail(Class::Repository, || format!("cannot read {}", folder.display())) {
        Err(error) if error.is_unread() => return Err(error),
        Ok(Some(state)) => state,
        _ => return Ok(Some(format!("{} cannot be used", folder.display()))),
    };
    let Some(bytes) = disk::read(&folder.join("index"))? else {
        return Ok(Some(format!("{} is gone", folder.join("index").display())));
    };
    let mut at = HEAD as usize;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match record::read(rest) {
            Some((Record::Package(_) | Record::Rendered(_) | Record::Gone(_), length)) => at += length,
            None => return Ok(Some(format!("{} is damaged at byte {at}", folder.join("index").display()))),
        }
    }
    let mut spans: [Vec<Span>; 5] = Default::default();
    for entry in state.entries.values() {
        spans[Pack::Descriptions as usize].push(entry.description);
        spans[Pack::Paragraphs as usize].push(entry.paragraph);
    }
    for rendered in state.rendered.values().flatten() {
        for (pack, span) in Pack::YUM.into_iter().zip(rendered.texts) {
            spans[pack as usize].push(span);
        }
    }
    for pack in Pack::ALL {
        let spans = &mut spans[pack as usize];
        spans.sort_by_key(|span| span.at);
        match state.packs.read(pack, spans, |_| ()) {
            Err(error) if error.is_unread() => return Err(error),
            Err(error) => return Ok(Some(error.to_string())),
            Ok(()) => {}
        }
    }
    Ok(None)
}

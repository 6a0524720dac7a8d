//! How the programs and libraries of an image are linked, for whoever comes to need it.

use crate::hashing::on_all_cores;
use crate::image::{Kind, Layer};
use crate::store::Store;
use crate::{broken, path};
use std::io::Read as _;
use std::sync::Arc;
use twostage_linking::{Linkage, LinkageState, MAGIC, MAX_FILE};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};

/// A file that streams by, kept if it begins as programs and libraries do.
#[derive(Default)]
pub(crate) struct ProgramBytes {
    bytes: Vec<u8>,
    is_other: bool,
}

impl ProgramBytes {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.is_other {
            return;
        }
        let missing = MAGIC.len().saturating_sub(self.bytes.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(missing);
        self.bytes.extend_from_slice(head);
        if !MAGIC.starts_with(&self.bytes[..self.bytes.len().min(MAGIC.len())]) || (self.bytes.len() + rest.len()) as u64 > MAX_FILE {
            *self = ProgramBytes { bytes: Vec::new(), is_other: true };
            return;
        }
        self.bytes.extend_from_slice(rest);
    }

    pub fn look(&self) -> LinkageState {
        look(&self.bytes)
    }
}

fn look(bytes: &[u8]) -> LinkageState {
    Linkage::read(bytes).map_or(LinkageState::Nothing, |linkage| LinkageState::Is(Arc::new(linkage)))
}

/// A file that is to be looked into.
struct LinkageJob {
    layer: usize,
    entry: usize,
    at: u64,
    size: u64,
}

impl Store {
    /// Reads how files of plain layers are linked: those whose layer and number `wanted` takes. What cannot be read
    /// again, is linked in no way.
    pub(crate) fn read_linkage(&self, layers: &mut [Layer], wanted: &dyn Fn(usize, u64) -> bool) -> Result<()> {
        let mut jobs = Vec::new();
        for (layer, there) in layers.iter_mut().enumerate() {
            for (entry, file) in there.entries.iter_mut().enumerate() {
                let Kind::File { size, sha256 } = &file.kind else { continue };
                if file.linkage != LinkageState::Unread || !wanted(layer, file.number) {
                    continue;
                }
                file.linkage = LinkageState::Nothing;
                if let Some(at) = sha256.at().filter(|_| file.content.is_none() && *size <= MAX_FILE) {
                    jobs.push(LinkageJob { layer, entry, at, size: *size });
                }
            }
        }
        let blobs = self.plain_blobs()?;
        jobs.retain(|job| blobs[job.layer].is_some());
        jobs.sort_by_key(|job| (job.layer, job.at));
        let done = on_all_cores(&jobs, jobs.len() < 8, &|job, buffer| {
            let mut part = blobs[job.layer].as_ref().and_then(|blob| blob.within(job.at, job.size))?;
            buffer.clear();
            let head = (&mut part).take(MAGIC.len() as u64).read_to_end(buffer);
            let rest = head.and_then(|_| if buffer == MAGIC { part.read_to_end(buffer) } else { Ok(0) });
            Some(rest.map(|_| look(buffer)))
        });
        for (job, looked) in done {
            let entry = &mut layers[job.layer].entries[job.entry];
            let fail = || format!("{}: cannot read it again", path::shown(&entry.path));
            entry.linkage = looked.ok_or_else(|| broken(fail()))?.or_fail(Class::Runtime, fail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_only_if_it_begins_as_a_program() {
        for cut in 0..=6 {
            let mut program = ProgramBytes::default();
            let whole = b"\x7fELFab";
            program.push(&whole[..cut]);
            program.push(&whole[cut..]);
            assert_eq!(program.bytes, whole, "cut at {cut}");
            let mut other = ProgramBytes::default();
            let whole = b"\x7fELGab";
            other.push(&whole[..cut]);
            other.push(&whole[cut..]);
            assert!(other.is_other && other.bytes.is_empty(), "cut at {cut}");
        }
    }
}

//! What was asked for lately, as it is sent: its headers, its digest, its bytes or the place of its file.
//!
//! It is good for as long as the file that says what its channel or snapshot is stays the same, which is looked at for
//! each request: a `stat` costs less than a microsecond, and a client that asks after a publish has returned sees what was
//! published. So a request for what is here reads no file and takes no other thread.

use super::answer::Resource;
use super::body::Body;
use super::store::{Pointer, Stamp};
use crate::{Repository, disk};
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use twostage_model::{Sha256, date};

/// How long something is kept: as the stamps of packages, it is looked at anew now and then.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// More than these, and all is forgotten.
const MOST: usize = 8192;
/// More bytes than these in memory, and all is forgotten. (They are shared with the repository's own memory of index files.)
const MOST_BYTES: usize = 64 << 20;
/// Bytes of a target that is kept.
const MOST_TARGET: usize = 512;

/// What a request was answered with.
pub(crate) struct Found {
    /// Headers that every answer has.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// With its quotation marks.
    pub(crate) etag: String,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
    pub(crate) length: u64,
    kept: Option<Kept>,
    /// Nothing for what never changes.
    pointer: Option<Pointer>,
    since: Instant,
}

/// A body that can be had again.
pub(crate) enum Kept {
    Memory(Bytes),
    /// `head` and a file from its byte `skip` on.
    File {
        head: Bytes,
        path: PathBuf,
        stamp: Stamp,
        skip: u64,
        /// What it may be withdrawn by.
        digests: Vec<Sha256>,
    },
}

impl Found {
    pub(crate) fn new(resource: &Resource, kept: Option<Kept>, pointer: Option<Pointer>) -> Found {
        let etag = format!("\"{}\"", resource.tag);
        let caching = if resource.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static(resource.kind)),
            (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        headers.extend(HeaderValue::from_str(&etag).map(|value| (header::ETAG, value)));
        let modified = resource.modified.map(date::http);
        headers.extend(modified.and_then(|date| HeaderValue::from_str(&date).ok()).map(|value| (header::LAST_MODIFIED, value)));
        Found { headers, etag, modified: resource.modified, length: resource.body.remaining(), kept, pointer, since: Instant::now() }
    }

    /// The body once more.
    ///
    /// # Errors
    /// Its file is not what it was, or may not be served any more, or there are no file descriptors left.
    pub(crate) fn body(&self, repository: &Repository) -> io::Result<Body> {
        match &self.kept {
            Some(Kept::Memory(bytes)) => Ok(Body::whole(bytes.clone())),
            Some(Kept::File { head, path, stamp, skip, digests }) => {
                let file = disk::open(path)?;
                if Stamp::of(&file.metadata()?) != *stamp || digests.iter().any(|digest| repository.has_withdrawal(digest)) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(Body::joined(head.clone(), file, *skip, self.length))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn bytes(&self) -> usize {
        match &self.kept {
            Some(Kept::Memory(bytes) | Kept::File { head: bytes, .. }) => bytes.len() + 512,
            None => 0,
        }
    }
}

/// What is kept, by target.
#[derive(Default)]
pub(crate) struct Hot(RwLock<Table>);

#[derive(Default)]
struct Table {
    found: HashMap<Box<str>, Arc<Found>>,
    bytes: usize,
}

impl Hot {
    /// What `target` was answered with, if it is still so.
    pub(crate) fn get(&self, target: &str) -> Option<Arc<Found>> {
        let found = Arc::clone(self.0.read().unwrap_or_else(PoisonError::into_inner).found.get(target)?);
        match &found.pointer {
            Some(pointer) if !pointer.is_same() => {
                self.0.write().unwrap_or_else(PoisonError::into_inner).forget(pointer);
                None
            }
            Some(_) if found.since.elapsed() > KEPT => None,
            _ => Some(found),
        }
    }

    /// Keeps what can be kept; `forever` what nothing points to.
    pub(crate) fn put(&self, target: &str, found: &Arc<Found>, forever: bool) {
        if found.kept.is_none() || (found.pointer.is_none() && !forever) || target.len() > MOST_TARGET || target.contains(['?', '#']) {
            return;
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.found.len() >= MOST || table.bytes + found.bytes() > MOST_BYTES {
            table.found.retain(|_, found| found.pointer.is_none());
            table.bytes = 0;
        }
        table.bytes += found.bytes();
        if let Some(earlier) = table.found.insert(target.into(), Arc::clone(found)) {
            table.bytes = table.bytes.saturating_sub(earlier.bytes());
        }
    }
}

impl Table {
    /// Forgets all that was found by a pointer as it was then.
    fn forget(&mut self, pointer: &Pointer) {
        let is_old = |found: &Found| found.pointer.as_ref().is_some_and(|other| other == pointer);
        let mut freed = 0;
        self.found.retain(|_, found| {
            let old = is_old(found);
            freed += if old { found.bytes() } else { 0 };
            !old
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }
}

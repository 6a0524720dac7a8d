//! What was asked for lately, as it is sent: its headers, its digest, its bytes or the place of its file.
//!
//! It is good for as long as the file that says what its channel or snapshot is stays the same, which is looked at again
//! after a millisecond: a client that asks after a publish has returned sees what was published. So a request for what is
//! here reads no file and takes no other thread.

use super::answer::Resource;
use super::body::{self, Body};
use super::store::{LATE, Pointer, Stamp, stamp};
use crate::{Repository, disk};
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use twostage_model::{Sha256, date};

/// How long something is kept: as the stamps of packages, it is looked at anew now and then.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// More than these, and all is forgotten.
const MOST: usize = 8192;
/// More bytes than these in memory, and all is forgotten. (They are shared with the repository's own memory of index files.)
const MOST_BYTES: usize = 64 << 20;
/// Files that stay open for the next request, and for how long after the last.
const MOST_OPEN: usize = 64;
const OPEN: Duration = Duration::from_secs(2);
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
    /// The signature that goes with it, or the file that it signs, in the same state of its channel.
    pub(crate) other: Option<Arc<Found>>,
    kept: Option<Kept>,
    /// The file that says what its channel or snapshot is, as it was; nothing for what never changes.
    pointer: Option<(PathBuf, Stamp)>,
    since: Instant,
    open: Mutex<Option<Open>>,
}

/// An open file.
struct Open {
    file: Arc<File>,
    /// When it was found to be the one that may be served.
    checked: Instant,
    /// Whether it was in the page cache then, if it is small.
    cached: bool,
    _one: One,
}

/// One of [`MOST_OPEN`].
struct One;

static NOW_OPEN: AtomicUsize = AtomicUsize::new(0);

impl One {
    fn take() -> Option<One> {
        let one = One;
        (NOW_OPEN.fetch_add(1, Relaxed) < MOST_OPEN).then_some(one)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        NOW_OPEN.fetch_sub(1, Relaxed);
    }
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
    pub(crate) fn new(resource: &Resource, kept: Option<Kept>, pointer: Option<(PathBuf, Stamp)>) -> Found {
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
        let (modified, length) = (resource.modified, resource.body.remaining());
        Found { headers, etag, modified, length, other: None, kept, pointer, since: Instant::now(), open: Mutex::default() }
    }

    /// The body once more.
    ///
    /// # Errors
    /// Its file is not what it was, or may not be served any more, or there are no file descriptors left.
    pub(crate) fn body(&self, repository: &Repository, now: Instant) -> io::Result<Body> {
        match &self.kept {
            Some(Kept::Memory(bytes)) => Ok(Body::whole(bytes.clone())),
            Some(Kept::File { head, path, stamp: was, skip, digests }) => {
                let body = |file, cached| Body::joined(head.clone(), file, *skip, self.length).cached(cached);
                let mut open = crate::lock(&self.open);
                if let Some(open) = &*open
                    && now.saturating_duration_since(open.checked) <= LATE
                {
                    return Ok(body(Arc::clone(&open.file), open.cached));
                }
                let file = match open.take().filter(|_| stamp(path) == Some(*was)) {
                    Some(open) => open.file,
                    None => Arc::new(disk::open(path)?),
                };
                if Stamp::of(&file.metadata()?) != *was || digests.iter().any(|digest| repository.withdrawals.has_withdrawal(digest)) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let cached =
                    self.length <= body::PART as u64 && body::is_cached(&file, *skip, self.length.saturating_sub(head.len() as u64))?;
                *open = One::take().map(|one| Open { file: Arc::clone(&file), checked: now, cached, _one: one });
                Ok(body(file, cached))
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
    found: HashMap<Box<str>, Entry>,
    pointers: HashMap<PathBuf, Arc<Pointer>>,
    bytes: usize,
}

struct Entry {
    found: Arc<Found>,
    pointer: Option<Arc<Pointer>>,
}

impl Hot {
    /// What `target` was answered with, if it is still so.
    pub(crate) fn get(&self, target: &str, now: Instant) -> Option<Arc<Found>> {
        let old = {
            let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let entry = table.found.get(target)?;
            let found = Arc::clone(&entry.found);
            match (&entry.pointer, &found.pointer) {
                (Some(pointer), Some((_, was))) if pointer.stamp(now) != Some(*was) => found,
                (Some(_), _) if now.saturating_duration_since(found.since) > KEPT => return None,
                _ => return Some(found),
            }
        };
        if let Some(was) = &old.pointer {
            self.0.write().unwrap_or_else(PoisonError::into_inner).forget(was);
        }
        None
    }

    /// Keeps what can be kept; `forever` what nothing points to.
    pub(crate) fn put(&self, target: &str, found: &Arc<Found>, forever: bool) {
        if found.kept.is_none() || (found.pointer.is_none() && !forever) || target.len() > MOST_TARGET || target.contains(['?', '#']) {
            return;
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.found.len() >= MOST || table.bytes + found.bytes() > MOST_BYTES {
            table.found.retain(|_, entry| entry.pointer.is_none());
            table.pointers.clear();
            table.bytes = 0;
        }
        let pointer = found.pointer.as_ref().map(|(path, _)| match table.pointers.get(path) {
            Some(pointer) => Arc::clone(pointer),
            None => {
                let pointer = Arc::new(Pointer::new(path.clone()));
                table.pointers.insert(path.clone(), Arc::clone(&pointer));
                pointer
            }
        });
        table.bytes += found.bytes();
        if let Some(earlier) = table.found.insert(target.into(), Entry { found: Arc::clone(found), pointer }) {
            table.bytes = table.bytes.saturating_sub(earlier.found.bytes());
        }
    }

    /// Closes files that nobody asked for lately.
    pub(crate) fn close_files(&self) {
        if NOW_OPEN.load(Relaxed) == 0 {
            return;
        }
        for entry in self.0.read().unwrap_or_else(PoisonError::into_inner).found.values() {
            let mut open = crate::lock(&entry.found.open);
            if open.as_ref().is_some_and(|open| open.checked.elapsed() > OPEN) {
                *open = None;
            }
        }
    }
}

impl Table {
    /// Forgets all that was found by a pointer as it was then.
    fn forget(&mut self, was: &(PathBuf, Stamp)) {
        let mut freed = 0;
        self.found.retain(|_, entry| {
            let old = entry.found.pointer.as_ref() == Some(was);
            freed += if old { entry.found.bytes() } else { 0 };
            !old
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }
}

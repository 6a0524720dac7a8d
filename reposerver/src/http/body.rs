//! Bodies in frames of 64 KiB, from memory or by pread: however slow a reader is and however large
//! the file, a connection holds one frame.

use super::log::{AccessEntry, Log};
use super::stream::Answered;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::task::JoinHandle;

const FRAME: u64 = 64 << 10;

/// The body of a response.
pub(crate) struct Body {
    from: From,
    sent: u64,
    over: Option<Over>,
}

/// What is to be told when the response is over.
struct Over {
    answered: Arc<Answered>,
    start: Instant,
    log: Log,
    entry: Option<AccessEntry>,
}

enum From {
    Memory(Bytes),
    /// `head`, then the file from `skip` on; `next` and `end` count from the start of `head`.
    File {
        head: Bytes,
        file: Arc<File>,
        skip: u64,
        next: u64,
        end: u64,
        reading: Option<JoinHandle<io::Result<Bytes>>>,
    },
}

impl Body {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Body::whole(Bytes::new())
    }

    /// Bytes in memory, shared with whoever else serves them.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Body { from: From::Memory(bytes.into()), sent: 0, over: None }
    }

    /// The first `length` bytes of a file.
    pub(crate) fn file(file: File, length: u64) -> Self {
        Body::joined(Bytes::new(), file, 0, length)
    }

    /// `head` and then a file from its byte `skip` on: `length` bytes of both together.
    pub(crate) fn joined(head: Bytes, file: File, skip: u64, length: u64) -> Self {
        let from = From::File { head, file: Arc::new(file), skip, next: 0, end: length, reading: None };
        Body { from, sent: 0, over: None }
    }

    /// Bytes that are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        match &self.from {
            From::Memory(bytes) => bytes.len() as u64,
            From::File { next, end, .. } => end - next,
        }
    }

    /// Only the bytes `first` to `last`, both included; they must be within the body.
    pub(crate) fn part(mut self, first: u64, last: u64) -> Self {
        match &mut self.from {
            From::Memory(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                *bytes = bytes.slice(at(first)..at(last + 1));
            }
            From::File { next, end, .. } => (*next, *end) = (first, (last + 1).min(*end)),
        }
        self
    }

    /// Tells `answered` when the response is over, and writes `entry` into `log`: with the time since `start`.
    pub(crate) fn when_over(&mut self, answered: Arc<Answered>, start: Instant, log: Log, entry: Option<AccessEntry>) {
        self.over = Some(Over { answered, start, log, entry });
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = match &mut self.from {
            From::Memory(bytes) => {
                let length = bytes.len().min(FRAME as usize);
                bytes.split_to(length)
            }
            From::File { next, end, .. } if *next >= *end => Bytes::new(),
            From::File { head, next, end, .. } if *next < head.len() as u64 => {
                let from = usize::try_from(*next).unwrap_or(usize::MAX);
                let to = usize::try_from((*next + FRAME).min(*end)).unwrap_or(usize::MAX).min(head.len());
                *next = to as u64;
                head.slice(from..to)
            }
            From::File { head, file, skip, next, end, reading } => {
                let running = reading.get_or_insert_with(|| {
                    let at = *next - head.len() as u64 + *skip;
                    let (file, length) = (Arc::clone(file), (*end - *next).min(FRAME));
                    tokio::task::spawn_blocking(move || {
                        let mut buffer = vec![0; length as usize];
                        file.read_exact_at(&mut buffer, at)?;
                        Ok(buffer.into())
                    })
                });
                let read = ready!(Pin::new(running).poll(context));
                *reading = None;
                match read.map_err(io::Error::other).and_then(|read| read) {
                    Ok(bytes) => {
                        *next += bytes.len() as u64;
                        bytes
                    }
                    // Breaks the connection: a length was promised that cannot be kept.
                    Err(error) => {
                        if let Some(entry) = self.over.as_mut().and_then(|over| over.entry.as_mut()) {
                            entry.problem = Some(format!("the file ended, or could not be read, in the middle: {error}"));
                        }
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        };
        self.sent += frame.len() as u64;
        Poll::Ready(if frame.is_empty() { None } else { Some(Ok(Frame::data(frame))) })
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(Over { answered, start, log, entry }) = self.over.take() {
            answered.set(true);
            if let Some(mut entry) = entry {
                (entry.sent, entry.time) = (self.sent, start.elapsed());
                log.write(&entry);
            }
        }
    }
}

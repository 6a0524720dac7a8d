//! Bodies, from memory or from a file.
//!
//! A file's bytes never come into this process: hyper gets a piece that only says how many there are, and the stream
//! sends them from the page cache to the socket. So a slow reader of a large file costs no buffer. What is not in the
//! page cache is read into it by another thread first, so that a slow disk holds up nobody else.

use super::exchange::Exchange;
use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Bytes from memory that hyper gets at once; they are not copied.
const FRAME: usize = 256 << 10;
/// Bytes of a file that hyper gets at once, and that are looked for in the page cache, or read into it.
pub(crate) const PART: usize = 1 << 20;
/// Bytes that are read at once by the thread that waits for the disk.
const READ: usize = 128 << 10;

/// What hyper takes for the bytes of a file: memory that nobody writes or reads, so that the system gives none for it.
static STAND_IN: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; PART]);

/// Whether these bytes stand for bytes of a file.
pub(crate) fn stands_for_file(bytes: &[u8]) -> bool {
    std::ptr::eq(bytes.as_ptr(), STAND_IN.as_ptr())
}

/// What hyper gets of a body.
pub(crate) enum Piece {
    Memory(Bytes),
    /// So many bytes of the part that the [`Exchange`] has. The stream sends that part where hyper writes [`STAND_IN`],
    /// and breaks the connection where hyper writes anything else.
    File(usize),
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Piece::Memory(bytes) => bytes.len(),
            Piece::File(length) => *length,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Piece::Memory(bytes) => bytes,
            Piece::File(length) => &STAND_IN[..(*length).min(PART)],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Memory(bytes) => bytes.advance(count),
            Piece::File(length) => *length = length.saturating_sub(count),
        }
    }
}

/// The body of a response.
pub(crate) struct Body {
    from: From,
    /// Bytes from memory that hyper got.
    sent: u64,
    exchange: Option<Arc<Exchange>>,
}

enum From {
    Memory(Bytes),
    File(Box<FileBody>),
}

/// `head`, then `file` from its byte `skip` on; `next` and `end` count from the start of `head`.
struct FileBody {
    head: Bytes,
    file: Arc<File>,
    skip: u64,
    next: u64,
    end: u64,
    /// Up to where it is in the page cache.
    cached: u64,
    reading: Option<JoinHandle<io::Result<()>>>,
}

impl Body {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Body::whole(Bytes::new())
    }

    /// Bytes in memory, shared with whoever else serves them.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Body { from: From::Memory(bytes.into()), sent: 0, exchange: None }
    }

    /// `head` and then a file from its byte `skip` on: `length` bytes of both together.
    pub(crate) fn joined(head: Bytes, file: Arc<File>, skip: u64, length: u64) -> Self {
        let body = FileBody { head, file, skip, next: 0, end: length, cached: 0, reading: None };
        Body { from: From::File(Box::new(body)), sent: 0, exchange: None }
    }

    /// Takes a whole file for one that is in the page cache.
    pub(crate) fn cached(mut self, cached: bool) -> Self {
        if let From::File(file) = &mut self.from
            && cached
        {
            file.cached = file.end;
        }
        self
    }

    /// Bytes that are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        match &self.from {
            From::Memory(bytes) => bytes.len() as u64,
            From::File(file) => file.end.saturating_sub(file.next),
        }
    }

    /// Only the bytes `first` to `last`, both included; they must be within the body.
    pub(crate) fn part(mut self, first: u64, last: u64) -> Self {
        match &mut self.from {
            From::Memory(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                *bytes = bytes.slice(at(first)..at(last + 1));
            }
            From::File(file) => (file.next, file.end) = (first, (last + 1).min(file.end)),
        }
        self
    }

    /// Tells `exchange` what becomes of it.
    pub(crate) fn told_to(mut self, exchange: &Arc<Exchange>) -> Self {
        self.exchange = Some(Arc::clone(exchange));
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let this = &mut *self;
        let bytes = match &mut this.from {
            From::Memory(bytes) => {
                let length = bytes.len().min(FRAME);
                bytes.split_to(length)
            }
            From::File(file) if file.next >= file.end => Bytes::new(),
            From::File(file) if file.next < file.head.len() as u64 => file.next_of_head(),
            From::File(file) => {
                // (Without an exchange there is no stream that could send it.)
                let Some(exchange) = &this.exchange else { return Poll::Ready(Some(Err(io::ErrorKind::NotConnected.into()))) };
                return match ready!(file.poll_part(exchange, context)) {
                    Ok(length) => Poll::Ready(Some(Ok(Frame::data(Piece::File(length))))),
                    // Breaks the connection: a length was promised that cannot be kept.
                    Err(why) => {
                        exchange.fail(why.to_string());
                        Poll::Ready(Some(Err(why)))
                    }
                };
            }
        };
        this.sent += bytes.len() as u64;
        Poll::Ready(if bytes.is_empty() { None } else { Some(Ok(Frame::data(Piece::Memory(bytes)))) })
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
        if let Some(exchange) = &self.exchange {
            exchange.whole(self.sent);
        }
    }
}

impl FileBody {
    fn next_of_head(&mut self) -> Bytes {
        let from = usize::try_from(self.next).unwrap_or(usize::MAX).min(self.head.len());
        let most = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let to = from.saturating_add(most.min(FRAME)).min(self.head.len());
        self.next += (to - from) as u64;
        self.head.slice(from..to)
    }

    /// Gives the exchange the next part, which is in the page cache then; its length.
    fn poll_part(&mut self, exchange: &Exchange, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let at = self.next - self.head.len() as u64 + self.skip;
        let length = (self.end - self.next).min(PART as u64);
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context));
            self.reading = None;
            read.map_err(io::Error::other)??;
            self.cached = self.next + length;
        } else if self.next >= self.cached {
            if is_cached(&self.file, at, length)? {
                self.cached = self.next + length;
            } else {
                let file = Arc::clone(&self.file);
                self.reading = Some(tokio::task::spawn_blocking(move || read_ahead(&file, at, length)));
                return self.poll_part(exchange, context);
            }
        }
        let length = usize::try_from(length.min(self.cached - self.next)).unwrap_or(PART);
        exchange.give(&self.file, at, length);
        self.next += length as u64;
        Poll::Ready(Ok(length))
    }
}

/// A length was promised that cannot be kept.
pub(crate) fn ended(why: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ended, or could not be read, in the middle: {why}"))
}

fn read_ahead(file: &File, at: u64, length: u64) -> io::Result<()> {
    let mut piece = vec![0; READ];
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done).unwrap_or(READ).min(READ);
        file.read_exact_at(&mut piece[..wanted], at + done).map_err(ended)?;
        done += wanted as u64;
    }
    Ok(())
}

/// Whether the first and the last byte of a part of a file can be read without the disk. (The kernel reads ahead in pieces
/// that are larger than what is between them is likely to lack.)
pub(crate) fn is_cached(file: &File, at: u64, length: u64) -> io::Result<bool> {
    let mut byte = [0];
    for at in [at, at + length.saturating_sub(1)] {
        match preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) {
            Ok(1..) => {}
            Ok(0) => return Err(ended(io::ErrorKind::UnexpectedEof.into())),
            // Some file systems do not know how to say it.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => return Ok(false),
            Err(why) => return Err(ended(why.into())),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_head_and_a_file_is_what_lies_there() {
        let body = Body::whole(&b"0123456789"[..]).part(2, 4);
        assert_eq!(body.remaining(), 3);
        let file = tempfile::tempfile().expect("a file");
        let body = Body::joined(Bytes::from_static(b"head"), Arc::new(file), 2, 10).part(1, 5);
        let From::File(mut body) = body.taken_apart() else { panic!("a file") };
        assert_eq!((body.next_of_head(), body.next, body.end), (Bytes::from_static(b"ead"), 4, 6));
    }

    #[test]
    fn a_file_that_is_shorter_than_promised_is_no_file_that_is_cached() {
        let file = tempfile::tempfile().expect("a file");
        assert!(file.set_len(10).is_ok());
        assert!(is_cached(&file, 0, 11).is_err() && read_ahead(&file, 0, 11).is_err());
        assert!(read_ahead(&file, 0, 10).is_ok());
    }

    #[test]
    fn what_stands_for_a_file_is_not_taken_for_anything_else() {
        let piece = Piece::File(10);
        assert!(stands_for_file(piece.chunk()) && piece.remaining() == 10);
        assert!(!stands_for_file(&[0; 10]) && !stands_for_file(&piece.chunk()[1..]));
    }

    impl Body {
        fn taken_apart(mut self) -> From {
            std::mem::replace(&mut self.from, From::Memory(Bytes::new()))
        }
    }
}

//! A second thread beside the one that walks a tar: it reads ahead, decompresses and hashes, or
//! hashes and writes behind. Both ends share a few buffers, so memory is bounded and both cores work.

use crate::layer::HashRead;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use twostage_model::{Hasher, Sha256};

/// Bytes of one buffer, and how many there are.
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 8;

/// What another thread reads.
pub struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

/// [`reading`] that also gives digest and number of the bytes that were read: all of them, if `work` read
/// to the end. More than `limit` are an error.
pub fn hashing<T>(input: impl Read + Send, limit: u64, work: impl FnOnce(&mut Ahead) -> T) -> (T, Sha256, u64) {
    let mut input = HashRead::new(input, limit);
    let made = reading(&mut input, work);
    let (digest, count) = input.finish();
    (made, digest, count)
}

/// Reads `input` in a thread while `work` takes what comes out of it. Gives what `work` made.
pub fn reading<T>(mut input: impl Read + Send, work: impl FnOnce(&mut Ahead) -> T) -> T {
    let (send_full, full) = sync_channel(CHUNKS);
    let (empty, take_empty) = sync_channel::<Vec<u8>>(CHUNKS + 1);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            loop {
                let mut buffer = take_empty.try_recv().unwrap_or_else(|_: TryRecvError| vec![0; CHUNK]);
                buffer.resize(CHUNK, 0);
                let chunk = match fill(&mut input, &mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        buffer.truncate(n);
                        Ok(buffer)
                    }
                    Err(cause) => Err(cause),
                };
                let failed = chunk.is_err();
                // Whoever walks the tar may have given up.
                if send_full.send(chunk).is_err() || failed {
                    break;
                }
            }
        });
        let made = {
            let mut ahead = Ahead { full, empty, current: Vec::new(), at: 0 };
            work(&mut ahead)
        };
        // (A thread that panicked gave less than there is, which `work` has seen; no input makes it.)
        let _ = reader.join();
        made
    })
}

/// As much as there is, up to the whole buffer.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let Ok(next) = self.full.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.current, next?);
            self.at = 0;
            let _ = self.empty.try_send(used);
        }
        let n = out.len().min(self.current.len() - self.at);
        out[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// What another thread writes.
pub struct Behind {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    current: Vec<u8>,
}

/// Writes to `out` in a thread what `work` writes, and hashes it. Gives what `work` made, and digest
/// and number of the bytes.
pub fn writing<T, W: Write + Send>(out: W, work: impl FnOnce(&mut Behind) -> io::Result<T>) -> io::Result<(T, W, Sha256, u64)> {
    let (full, take_full) = sync_channel::<Vec<u8>>(CHUNKS);
    let (send_empty, empty) = sync_channel(CHUNKS + 1);
    thread::scope(|scope| {
        let writer = scope.spawn(move || -> io::Result<(W, Sha256, u64)> {
            let (mut out, mut hasher, mut count) = (out, Hasher::default(), 0);
            for buffer in take_full {
                hasher.update(&buffer);
                count += buffer.len() as u64;
                out.write_all(&buffer)?;
                let _ = send_empty.try_send(buffer);
            }
            Ok((out, hasher.finish(), count))
        });
        let made = {
            let mut behind = Behind { full, empty, current: Vec::with_capacity(CHUNK) };
            work(&mut behind).and_then(|made| behind.flush().map(|()| made))
        };
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread ended")));
        // The writer's own error says more than that it is gone.
        let (out, digest, count) = written?;
        Ok((made?, out, digest, count))
    })
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.current.len());
        self.current.extend_from_slice(&bytes[..n]);
        if self.current.len() == CHUNK {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let mut next = self.empty.try_recv().unwrap_or_default();
        next.clear();
        let full = std::mem::replace(&mut self.current, next);
        self.full.send(full).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the writing thread ended"))
    }
}

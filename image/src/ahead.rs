//! A second thread beside the one that walks a tar: it reads ahead, decompresses and hashes, or
//! hashes and writes behind. Both ends share a few buffers, so memory is bounded and both cores work.

use crate::layer::HashRead;
use std::io::{self, BufRead, Read, Write};
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
        let there = self.fill_buf()?;
        let n = out.len().min(there.len());
        out[..n].copy_from_slice(&there[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            let Ok(next) = self.full.recv() else { return Ok(&[]) };
            let used = std::mem::replace(&mut self.current, next?);
            self.at = 0;
            let _ = self.empty.try_send(used);
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, bytes: usize) {
        self.at = self.current.len().min(self.at + bytes);
    }
}

/// What another thread writes.
pub struct Behind {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    current: Vec<u8>,
}

/// Writes to `out` in a thread what `work` writes, and hashes it in another one. Gives what `work` made, and digest
/// and number of the bytes.
pub fn writing<T, W: Write + Send>(out: W, work: impl FnOnce(&mut Behind) -> io::Result<T>) -> io::Result<(T, W, Sha256, u64)> {
    let (full, take_full) = sync_channel::<Vec<u8>>(CHUNKS);
    let (hashed, take_hashed) = sync_channel::<Vec<u8>>(CHUNKS);
    let (send_empty, empty) = sync_channel(2 * CHUNKS + 1);
    thread::scope(|scope| {
        let hasher = scope.spawn(move || {
            let (mut hasher, mut count) = (Hasher::default(), 0);
            for buffer in take_full {
                hasher.update(&buffer);
                count += buffer.len() as u64;
                // (Where writing failed, nobody asks for the digest.)
                if hashed.send(buffer).is_err() {
                    break;
                }
            }
            (hasher.finish(), count)
        });
        let writer = scope.spawn(move || -> io::Result<W> {
            let mut out = out;
            for buffer in take_hashed {
                out.write_all(&buffer)?;
                let _ = send_empty.try_send(buffer);
            }
            Ok(out)
        });
        let made = {
            let mut behind = Behind { full, empty, current: Vec::with_capacity(CHUNK) };
            work(&mut behind).and_then(|made| behind.flush().map(|()| made))
        };
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread ended")));
        // The writer's own error says more than that it is gone.
        let out = written?;
        let (digest, count) = hasher.join().map_err(|_| io::Error::other("the hashing thread ended"))?;
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

//! Gzip by all cores.
//!
//! ```text
//! tar ─► blocks ─► one gzip member each, by whichever core is free ─► in their order
//! ```
//!
//! A gzip file is a series of members (RFC 1952, 2.2), and readers of layers take them one after another.
//! Where a block ends depends on the bytes alone, so that the number of cores changes nothing in what is
//! written.

use libdeflater::{CompressionLvl, Compressor};
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use twostage_model::error::OrFail;
use twostage_model::{Class, Result};

/// Bytes of a block: large enough that it costs nothing in size to begin each anew.
const BLOCK: usize = 1 << 20;
/// More cores than this wait for the one that walks the tar.
const MAX_WORKERS: usize = 16;

/// A block, and where its member goes.
struct Job {
    block: Vec<u8>,
    to: SyncSender<io::Result<Vec<u8>>>,
}

/// What packs whatever is written to it.
pub struct Gzip {
    block: Vec<u8>,
    jobs: SyncSender<Job>,
    members: SyncSender<Receiver<io::Result<Vec<u8>>>>,
}

/// Writes to `out` the packed form of what `work` writes. `work` must call [`Gzip::finish`].
pub fn writing<T>(out: &mut (dyn Write + Send), work: impl FnOnce(Gzip) -> Result<T>) -> Result<T> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let (jobs, take_job) = sync_channel::<Job>(workers);
    let take_job = &Mutex::new(take_job);
    let (members, in_order) = sync_channel::<Receiver<io::Result<Vec<u8>>>>(2 * workers);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(move || {
                let mut compressor = Compressor::new(CompressionLvl::default());
                // The lock is held while waiting: one waits for the next job, the others for their turn.
                while let Some(job) = take_job.lock().ok().and_then(|next| next.recv().ok()) {
                    // Nobody wants it any more where writing has failed.
                    let _ = job.to.send(member(&mut compressor, &job.block));
                }
            });
        }
        let writer = scope.spawn(move || -> io::Result<()> {
            for member in in_order {
                out.write_all(&member.recv().map_err(|_| gone())??)?;
            }
            Ok(())
        });
        let made = work(Gzip { block: Vec::with_capacity(BLOCK), jobs, members });
        // The writer's own error says more than that it is gone.
        writer.join().unwrap_or_else(|_| Err(gone())).or_fail(Class::System, || "cannot write the layer".into())?;
        made
    })
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "a thread that packs ended")
}

/// A block as a gzip member, without a time or a name.
pub fn member(compressor: &mut Compressor, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = vec![0; compressor.gzip_compress_bound(block.len())];
    let length = compressor.gzip_compress(block, &mut packed).map_err(io::Error::other)?;
    packed.truncate(length);
    Ok(packed)
}

impl Gzip {
    fn next(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (to, member) = sync_channel(1);
        self.jobs.send(Job { block, to }).map_err(|_| gone())?;
        self.members.send(member).map_err(|_| gone())
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<()> {
        if self.block.is_empty() { Ok(()) } else { self.next() }
    }
}

impl Write for Gzip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        if self.block.len() == BLOCK {
            self.next()?;
        }
        Ok(n)
    }

    /// Does nothing: a block ends where it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// `pieces` says how it is written.
    fn packed(bytes: &[u8], pieces: usize) -> Vec<u8> {
        let mut out = Vec::new();
        writing(&mut out, |mut gzip| {
            for piece in bytes.chunks(pieces) {
                gzip.write_all(piece).or_fail(Class::System, || "write".into())?;
            }
            gzip.finish().or_fail(Class::System, || "finish".into())
        })
        .unwrap_or_else(|error| panic!("{error}"));
        out
    }

    #[test]
    fn blocks_come_out_in_their_order_however_they_were_written() {
        let bytes: Vec<u8> = (0..3 * BLOCK as u32 / 4 + 17).flat_map(u32::to_le_bytes).collect();
        for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, bytes.len()] {
            let whole = packed(&bytes[..length], usize::MAX);
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(&whole[..]).read_to_end(&mut back).unwrap_or_else(|error| panic!("{error}"));
            assert!(back == bytes[..length], "{length} bytes come back");
            assert!(whole == packed(&bytes[..length], 4099), "{length} bytes in pieces give the same file");
        }
    }

    /// A disk that is full.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_end_that_takes_no_more_is_named() {
        let failed = writing(&mut Full, |mut gzip| {
            let block = vec![7; 64 * BLOCK];
            gzip.write_all(&block).or_fail(Class::System, || "cannot write the layer".into())
        });
        let said = format!("{:?}", failed.err());
        assert!(said.contains("StorageFull"), "{said}");
    }
}

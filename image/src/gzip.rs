//! Gzip by all cores, in one member.
//!
//! ```text
//! tar ─► blocks ─► deflated each, up to a byte, by whichever core is free ─► in their order ─► one gzip member
//! ```
//!
//! A gzip file may be a series of members (RFC 1952, 2.2), but some readers take only the first: Python's tarfile on a
//! stream is one. So every block is deflated for itself, ends with a flush to a whole byte (RFC 1951, 3.2.4: a stored block
//! of no bytes), and only the whole has a header, a last block and a checksum. Matches reach back into the block before.
//! Where a block ends depends on the bytes alone, so that the number of cores changes nothing in what is written.

use flate2::{Compress, Compression, Crc, FlushCompress};
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use twostage_model::error::OrFail;
use twostage_model::{Class, Result};

/// Bytes of a block: large enough that it costs nothing in size to flush after each.
const BLOCK: usize = 1 << 20;
/// How far a match reaches back (RFC 1951).
const WINDOW: usize = 32 << 10;
/// More cores than this wait for the one that walks the tar.
const MAX_WORKERS: usize = 16;
/// The header (RFC 1952, 2.3): deflate, no flags, no time, no level, a system that is not known.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The last block of a deflate stream: of no bytes, with the fixed code.
const LAST: [u8; 2] = [0x03, 0x00];

/// A block with what stands before it, and where its packed form goes.
struct Job {
    block: Vec<u8>,
    before: Vec<u8>,
    to: SyncSender<io::Result<Packed>>,
}

/// A block that is packed, and the checksum of what it was.
struct Packed {
    bytes: Vec<u8>,
    sum: Crc,
}

/// What packs whatever is written to it.
pub struct Gzip {
    block: Vec<u8>,
    before: Vec<u8>,
    jobs: SyncSender<Job>,
    packed: SyncSender<Receiver<io::Result<Packed>>>,
}

/// Writes to `out` the packed form of what `work` writes. `work` must call [`Gzip::finish`].
pub fn writing<T>(out: &mut (dyn Write + Send), work: impl FnOnce(Gzip) -> Result<T>) -> Result<T> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    writing_with(workers, out, work)
}

fn writing_with<T>(workers: usize, out: &mut (dyn Write + Send), work: impl FnOnce(Gzip) -> Result<T>) -> Result<T> {
    let (jobs, take_job) = sync_channel::<Job>(workers);
    let take_job = &Mutex::new(take_job);
    let (packed, in_order) = sync_channel::<Receiver<io::Result<Packed>>>(2 * workers);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(move || {
                let mut packer = Packer::default();
                // The lock is held while waiting: one waits for the next job, the others for their turn.
                while let Some(job) = take_job.lock().ok().and_then(|next| next.recv().ok()) {
                    // Nobody wants it any more where writing has failed.
                    let _ = job.to.send(packer.pack(&job.block, &job.before));
                }
            });
        }
        let writer = scope.spawn(move || -> io::Result<()> {
            let mut sum = Crc::new();
            out.write_all(&HEADER)?;
            for packed in in_order {
                let packed = packed.recv().map_err(|_| gone())??;
                out.write_all(&packed.bytes)?;
                sum.combine(&packed.sum);
            }
            out.write_all(&LAST)?;
            out.write_all(&sum.sum().to_le_bytes())?;
            out.write_all(&sum.amount().to_le_bytes())
        });
        let made = work(Gzip { block: Vec::with_capacity(BLOCK), before: Vec::new(), jobs, packed });
        // The writer's own error says more than that it is gone.
        writer.join().unwrap_or_else(|_| Err(gone())).or_fail(Class::System, || "cannot write the layer".into())?;
        made
    })
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "a thread that packs ended")
}

/// Packs blocks, one after another.
pub struct Packer(Compress);

impl Default for Packer {
    fn default() -> Self {
        Packer(Compress::new(Compression::default(), false))
    }
}

impl Packer {
    /// How many bytes a block takes.
    pub fn length(&mut self, block: &[u8]) -> io::Result<u64> {
        self.pack(block, &[]).map(|packed| packed.bytes.len() as u64)
    }

    /// Deflates a block up to a whole byte. `before` is the end of what stands before it.
    fn pack(&mut self, block: &[u8], before: &[u8]) -> io::Result<Packed> {
        self.0.reset();
        if !before.is_empty() {
            self.0.set_dictionary(before).map_err(io::Error::other)?;
        }
        let mut bytes = Vec::with_capacity(block.len() / 2 + 1024);
        loop {
            let taken = usize::try_from(self.0.total_in()).map_err(io::Error::other)?;
            let rest = block.get(taken..).unwrap_or_default();
            self.0.compress_vec(rest, &mut bytes, FlushCompress::Sync).map_err(io::Error::other)?;
            // (Only where there is room left is the flush complete.)
            if self.0.total_in() == block.len() as u64 && bytes.len() < bytes.capacity() {
                break;
            }
            bytes.reserve(block.len() / 4 + 1024);
        }
        let mut sum = Crc::new();
        sum.update(block);
        Ok(Packed { bytes, sum })
    }
}

impl Gzip {
    fn next(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let before = block[block.len().saturating_sub(WINDOW)..].to_vec();
        let before = std::mem::replace(&mut self.before, before);
        let (to, packed) = sync_channel(1);
        self.jobs.send(Job { block, before, to }).map_err(|_| gone())?;
        self.packed.send(packed).map_err(|_| gone())
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

    /// `pieces` says how it is written, `workers` by how many.
    fn packed(bytes: &[u8], pieces: usize, workers: usize) -> Vec<u8> {
        let mut out = Vec::new();
        writing_with(workers, &mut out, |mut gzip| {
            for piece in bytes.chunks(pieces) {
                gzip.write_all(piece).or_fail(Class::System, || "write".into())?;
            }
            gzip.finish().or_fail(Class::System, || "finish".into())
        })
        .unwrap_or_else(|error| panic!("{error}"));
        out
    }

    /// Numbers, which pack well, and the same once more, which do not.
    fn bytes() -> Vec<u8> {
        let mut state = 1_u64;
        let noise = (0..BLOCK / 8).flat_map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state ^ (state >> 31)).to_le_bytes()
        });
        (0..3 * BLOCK as u32 / 4 + 17).flat_map(u32::to_le_bytes).chain(noise).collect()
    }

    #[test]
    fn one_member_comes_out_whatever_the_pieces_and_however_many_pack_it() {
        let bytes = bytes();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, bytes.len()] {
            let whole = packed(&bytes[..length], usize::MAX, 1);
            let mut back = Vec::new();
            // It reads one member, and nothing may stand behind it.
            let mut decoder = flate2::bufread::GzDecoder::new(&whole[..]);
            decoder.read_to_end(&mut back).unwrap_or_else(|error| panic!("{error}"));
            assert!(back == bytes[..length], "{length} bytes come back");
            assert!(decoder.into_inner().is_empty(), "{length} bytes are one member");
            for (pieces, workers) in [(4099, 1), (usize::MAX, 2), (70_001, 5), (usize::MAX, 16)] {
                assert!(whole == packed(&bytes[..length], pieces, workers), "{length} bytes by {workers} give the same file");
            }
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

//! Decoders of xz and of its forerunner lzma, by liblzma: dpkg and rpm read packages with the same code.
//!
//! What it keeps is bounded: a dictionary below a limit of the caller's, and sums over all blocks of a stream,
//! however many there are.

use crate::Check;
use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream, TELL_UNSUPPORTED_CHECK};
use std::io::{self, BufRead, Read};

/// Unpacks what it reads.
pub(crate) struct Xz<B> {
    input: B,
    stream: Stream,
    /// Bytes of memory that the decoder may take.
    memory: u64,
    has_ended: bool,
}

impl<B: BufRead> Xz<B> {
    /// Of xz streams, one or several in a row with zeros between them. Nothing else may follow.
    pub(crate) fn streams(input: B, memory: u64) -> Check<Self> {
        // Without that flag a sum of an unknown kind would not be looked at, and all bytes taken for good.
        Xz::of(input, memory, Stream::new_stream_decoder(memory, CONCATENATED | TELL_UNSUPPORTED_CHECK))
    }

    /// Of one lzma stream. What follows it is not read.
    pub(crate) fn lzma(input: B, memory: u64) -> Check<Self> {
        Xz::of(input, memory, Stream::new_lzma_decoder(memory))
    }

    fn of(input: B, memory: u64, stream: Result<Stream, Error>) -> Check<Self> {
        let stream = stream.map_err(|error| error.to_string())?;
        Ok(Xz { input, stream, memory, has_ended: false })
    }

    fn refused(&self, error: &Error) -> io::Error {
        let (kind, why) = match error {
            Error::MemLimit => (io::ErrorKind::OutOfMemory, format!("it needs more than {} MiB of memory", self.memory >> 20)),
            Error::Mem => (io::ErrorKind::OutOfMemory, "there is not enough memory for it".into()),
            Error::Format => (io::ErrorKind::InvalidData, "its start is not that of such a stream".into()),
            Error::Options => (io::ErrorKind::Unsupported, "it is packed in a way that is not known".into()),
            Error::UnsupportedCheck => (io::ErrorKind::Unsupported, "its checksum is of a kind that is not known".into()),
            Error::Data => (io::ErrorKind::InvalidData, "its bytes are damaged, or others follow them".into()),
            other => (io::ErrorKind::Other, other.to_string()),
        };
        io::Error::new(kind, why)
    }
}

impl<B: BufRead> Read for Xz<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.has_ended && !buffer.is_empty() {
            let packed = self.input.fill_buf()?;
            let is_last = packed.is_empty();
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let result = self.stream.process(packed, buffer, if is_last { Action::Finish } else { Action::Run });
            let taken = usize::try_from(self.stream.total_in() - taken).unwrap_or_default();
            let made = usize::try_from(self.stream.total_out() - made).unwrap_or_default();
            self.input.consume(taken);
            match result {
                Ok(Status::StreamEnd) => self.has_ended = true,
                Ok(_) if made == 0 && is_last => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off")),
                // It never does nothing with something to do; if it did, this would never end.
                Ok(_) if made == 0 && taken == 0 => return Err(self.refused(&Error::Data)),
                Ok(_) => {}
                Err(error) => return Err(self.refused(&error)),
            }
            if made > 0 {
                return Ok(made);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lzma, xz};

    const MIB: u32 = 1 << 20;
    const MEMORY: u64 = 128 << 20;

    /// What there is in `packed`, read by small and large buffers, or why it cannot be read.
    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
        let by = |size: usize| {
            let input = io::BufReader::with_capacity(size, packed);
            let mut decoder: Box<dyn Read> = match packed {
                [0x5d, ..] => Box::new(Xz::lzma(input, MEMORY)?),
                _ => Box::new(Xz::streams(input, MEMORY)?),
            };
            let (mut plain, mut buffer) = (Vec::new(), vec![0; size]);
            loop {
                match decoder.read(&mut buffer).map_err(|error| error.to_string())? {
                    0 => return Ok(plain),
                    count => plain.extend_from_slice(&buffer[..count]),
                }
            }
        };
        let read = by(64 << 10);
        for size in [1, 7, 4096] {
            assert_eq!(by(size), read, "{size}");
        }
        read
    }

    fn refusal(packed: &[u8]) -> String {
        unpacked(packed).expect_err("it is refused")
    }

    fn text() -> Vec<u8> {
        (0..5000).flat_map(|i| format!("line {i}\n").into_bytes()).collect()
    }

    #[test]
    fn whole_streams_are_read() {
        let (text, one, none) = (text(), xz(&text(), MIB), xz(b"", MIB));
        for (packed, times) in [
            (one.clone(), 1),
            ([&one[..], &one].concat(), 2),
            ([&none[..], &one, &[0; 8], &none, &one, &[0; 4]].concat(), 2),
            (none.clone(), 0),
            (lzma(&text), 1),
            ([&lzma(&text)[..], b"more"].concat(), 1),
        ] {
            assert_eq!(unpacked(&packed).map(|plain| plain == text.repeat(times)), Ok(true));
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let (one, old) = (xz(&text(), MIB), lzma(&text()));
        for packed in [&one, &old] {
            for end in (0..packed.len()).step_by(97).chain(packed.len() - 20..packed.len()) {
                assert_eq!(refusal(&packed[..end]), "it is cut off", "{end} of {}", packed.len());
            }
        }
        let others = "its bytes are damaged, or others follow them";
        for (behind, why) in [
            (b"rubbish behind it".as_slice(), others),
            (b"x", "it is cut off"),
            (b"\0", others),
            (b"\0\0\0\0x", "it is cut off"),
            (b"\0\0\0\0rubbish behind it", others),
            (&one[..one.len() / 2], "it is cut off"),
        ] {
            assert_eq!(refusal(&[&one, behind].concat()), why, "{behind:?}");
        }
        assert_eq!(refusal(b"not packed at all"), "its start is not that of such a stream");
        for at in 0..one.len() {
            let mut flipped = one.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(refusal(&flipped).starts_with("it"), "byte {at}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        for dictionary in [MIB, 64 * MIB, 96 * MIB] {
            assert_eq!(unpacked(&xz(b"x", dictionary)), Ok(b"x".to_vec()), "{dictionary}");
        }
        for dictionary in [128 * MIB, 256 * MIB, 1536 * MIB] {
            assert_eq!(refusal(&xz(b"x", dictionary)), "it needs more than 128 MiB of memory", "{dictionary}");
        }
        for (dictionary, taken) in [(MIB, true), (64 * MIB, true), (256 * MIB, false), (1536 * MIB, false), (u32::MAX, false)] {
            let mut packed = lzma(b"x");
            packed[1..5].copy_from_slice(&dictionary.to_le_bytes());
            assert_eq!(unpacked(&packed).is_ok(), taken, "{dictionary}");
            assert!(taken || refusal(&packed) == "it needs more than 128 MiB of memory");
        }
    }

    /// Of 16 kinds of sums four are in use. One that nobody can check would say nothing.
    #[test]
    fn a_sum_of_an_unknown_kind_is_refused() {
        let mut packed = xz(b"x", MIB);
        packed[7] = 2;
        let mut sum = flate2::Crc::new();
        sum.update(&packed[6..8]);
        packed[8..12].copy_from_slice(&sum.sum().to_le_bytes());
        assert_eq!(refusal(&packed), "its checksum is of a kind that is not known");
    }
}

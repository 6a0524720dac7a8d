//! rpm's own database of packages, as openSUSE has it (`lib/backend/ndb/rpmpkg.c`). All numbers are
//! of 32 bits, little endian.
//!
//! ```text
//! header   RpmP, version 0, generation, pages of slots, next number; 32 bytes
//! slots    Slot, number of the package, first block, blocks; pages of 4096 bytes in all
//! blocks   of 16 bytes: BlbS, number, time, length, the header, zeros, Adler-32, length, BlbE
//! ```

use crate::Check;

/// What every database starts with.
pub(super) const MAGIC: &[u8] = b"RpmP";
const PAGE: usize = 4096;
const SLOT: usize = 16;
const BLOCK: usize = 16;
const HEAD: usize = 16;
const TAIL: usize = 12;

/// Shows the header of every package in order of place, no byte twice, and tells where they are:
/// first byte and the one behind the last.
pub(super) fn blobs(bytes: &[u8], mut show: impl FnMut(&[u8]) -> Check<()>) -> Check<Vec<(usize, usize)>> {
    if !bytes.starts_with(MAGIC) || bytes.len() < PAGE {
        return Err("it is not a database of rpm's".into());
    }
    let version = le(bytes, 4);
    if version != 0 {
        return Err(format!("it is of version {version}, and 0 is known"));
    }
    let end = (le(bytes, 12) as usize).saturating_mul(PAGE);
    let slots = bytes.get(2 * SLOT..end).ok_or("its slots do not fit")?;
    let mut places = Vec::new();
    for slot in slots.chunks_exact(SLOT) {
        if !slot.starts_with(b"Slot") {
            return Err("its slots are damaged".into());
        }
        let (number, first, count) = (le(slot, 4), le(slot, 8) as usize, le(slot, 12) as usize);
        if first != 0 {
            places.push((first.saturating_mul(BLOCK), count.saturating_mul(BLOCK), number));
        }
    }
    places.sort_unstable();
    let mut behind = end;
    let mut live = Vec::new();
    for (start, length, number) in places {
        if start < behind {
            return Err(format!("package {number}: it begins inside another"));
        }
        behind = start.saturating_add(length);
        let blocks = bytes.get(start..behind).ok_or_else(|| format!("package {number}: it is cut off"))?;
        let blob = blob(blocks, number).ok_or_else(|| format!("package {number}: it is damaged"))?;
        show(blob).map_err(|why| format!("package {number}: {why}"))?;
        live.push((start, behind));
    }
    Ok(live)
}

fn blob(blocks: &[u8], number: u32) -> Option<&[u8]> {
    let length = le(blocks, 12) as usize;
    let tail = blocks.len().checked_sub(TAIL)?;
    let whole = HEAD.checked_add(length)?.checked_add(TAIL)?.next_multiple_of(BLOCK) == blocks.len();
    let framed = blocks.starts_with(b"BlbS") && blocks.ends_with(b"BlbE");
    let same = le(blocks, 4) == number && le(blocks, tail + 4) as usize == length;
    let sum = le(blocks, tail) == adler32(&blocks[..tail]);
    (whole && framed && same && sum).then(|| blocks.get(HEAD..HEAD + length)).flatten()
}

fn le(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// RFC 1950, section 8.2.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    // The longest piece whose sums stay below 2^32.
    for piece in bytes.chunks(5552) {
        for byte in piece {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65521;
        b %= 65521;
    }
    b << 16 | a
}

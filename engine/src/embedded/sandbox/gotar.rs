//! The bytes of a tar as Go's archive/tar writes them when it is told to write PAX, which is what Docker does: layers
//! that are the same have the same digests.

use std::collections::BTreeMap;
use std::io::{self, Write};
use twostage_image::pax_record;

const BLOCK: usize = 512;

/// What stands in a member's header.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    /// Of ustar: `0` for a file.
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: i64,
    pub major: u32,
    pub minor: u32,
    /// Names without their prefix.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Writes a member's header; its data, padded with [`pad`], comes next.
pub(super) fn header(mut out: impl Write, head: &Head) -> io::Result<()> {
    let records = records(head);
    if !records.is_empty() {
        let mut block = [0; BLOCK];
        // Go's path.Join(dir, "PaxHeaders.0", file).
        let (folder, file) = super::resolve::split(&head.name);
        let parts = [folder, b"PaxHeaders.0", file].into_iter().filter(|part| !part.is_empty());
        let mut name = ascii(&parts.collect::<Vec<_>>().join(&b'/'));
        name.truncate(100);
        while name.last() == Some(&b'/') {
            name.pop();
        }
        put_text(&mut block[..100], &name);
        for field in [100..108, 108..116, 116..124, 136..148] {
            put_number(&mut block[field], 0);
        }
        put_number(&mut block[124..136], records.len() as u64);
        block[156] = b'x';
        out.write_all(&sealed(block))?;
        out.write_all(&records)?;
        pad(&mut out, records.len() as u64)?;
    }
    let mut block = [0; BLOCK];
    put_text(&mut block[..100], &ascii(&head.name));
    put_number(&mut block[100..108], head.mode.into());
    put_number(&mut block[108..116], head.uid.into());
    put_number(&mut block[116..124], head.gid.into());
    put_number(&mut block[124..136], head.size);
    put_number(&mut block[136..148], u64::try_from(head.mtime).unwrap_or(0));
    block[156] = head.kind;
    put_text(&mut block[157..257], &ascii(&head.link));
    put_number(&mut block[329..337], head.major.into());
    put_number(&mut block[337..345], head.minor.into());
    out.write_all(&sealed(block))
}

/// Fills up the last block of `size` bytes.
pub(super) fn pad(mut out: impl Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    out.write_all(&[0; BLOCK][..(BLOCK - over) % BLOCK])
}

/// Ends the tar.
pub(super) fn end(mut out: impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

fn sealed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put_number(&mut block[148..155], sum);
    block
}

/// What the header has no room for (POSIX.1-2008, pax), in the order of the keys.
fn records(head: &Head) -> Vec<u8> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (key, text) in [("path", &head.name), ("linkpath", &head.link)] {
        if text.len() > 100 || !text.is_ascii() {
            records.insert(key.into(), text.clone());
        }
    }
    for (key, number, digits) in [("uid", u64::from(head.uid), 7), ("gid", head.gid.into(), 7), ("size", head.size, 11)] {
        if !fits(number, digits) {
            records.insert(key.into(), number.to_string().into());
        }
    }
    if u64::try_from(head.mtime).map_or(true, |mtime| !fits(mtime, 11)) {
        records.insert(b"mtime".to_vec(), head.mtime.to_string().into());
    }
    for (name, value) in &head.xattrs {
        records.insert([b"SCHILY.xattr.", &name[..]].concat(), value.clone());
    }
    records.into_iter().flat_map(|(key, value)| pax_record(&key, &value)).collect()
}

fn fits(number: u64, digits: u32) -> bool {
    number < 1 << (3 * digits)
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| byte.is_ascii() && *byte != 0).collect()
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    // A name that is cut after a slash would be a folder's.
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let end = field.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        if let Some(byte) = field.get_mut(end) {
            *byte = 0;
        }
    }
}

/// Octal digits and a NUL; zero if it does not fit.
fn put_number(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let number = if fits(number, u32::try_from(width).unwrap_or(0)) { number } else { 0 };
    field[..width].copy_from_slice(format!("{number:0width$o}").as_bytes());
    field[width] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(head: &Head) -> Vec<u8> {
        let mut out = Vec::new();
        header(&mut out, head).expect("memory takes all");
        out
    }

    #[test]
    fn a_short_header_is_one_block() {
        let head = Head { name: b"etc/".to_vec(), kind: b'5', mode: 0o755, mtime: 1_700_000_000, ..Head::default() };
        let out = written(&head);
        assert_eq!(out.len(), 512);
        assert_eq!(&out[..5], b"etc/\0");
        assert_eq!(&out[100..108], b"0000755\0");
        assert_eq!(&out[136..148], b"14524770400\0");
        assert_eq!(&out[257..265], b"ustar\x0000");
        assert_eq!(&out[329..345], b"0000000\x000000000\0");
        assert_eq!(out[155], b' ');
    }

    #[test]
    fn what_does_not_fit_is_a_record() {
        let name = [&b"a/"[..], &[0xff; 3], &[b'x'; 120]].concat();
        let head = Head { name: name.clone(), kind: b'0', uid: 3_000_000, mtime: -1, ..Head::default() };
        let out = written(&head);
        assert_eq!(out.len(), 1536);
        assert!(out.starts_with(b"a/PaxHeaders.0/xxx"));
        let records = &out[512..1024];
        assert!(records.windows(name.len()).any(|window| window == name));
        assert!(records.windows(11).any(|window| window == b"uid=3000000"));
        assert!(records.windows(8).any(|window| window == b"mtime=-1"));
    }
}

//! The archive in a payload: cpio's `newc` (070701), with checksums (070702), and rpm's stripped form
//! (07070X) for files above 4 GiB, which has only an index into the header (`lib/cpio.c` of rpm).

use crate::{Check, shown};
use std::fmt;
use std::io::{self, BufRead, Read};

/// Bytes of a name, as Linux' PATH_MAX, with `.` before and NUL behind.
const MAX_NAME: u64 = 4096 + 2;
const TRAILER: &[u8] = b"TRAILER!!!";

/// What is in front of one file's bytes.
pub(super) struct Entry {
    pub(super) name: Name,
    /// As in `st_mode`, and bytes; a stripped entry leaves both to the header.
    pub(super) about: Option<(u32, u64)>,
}

pub(super) enum Name {
    Path(Vec<u8>),
    /// Of the header's list of files.
    Index(usize),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Path(path) => f.write_str(&shown(path)),
            Name::Index(index) => write!(f, "file {index}"),
        }
    }
}

/// Reads up to the bytes of the next file; none at the end of the archive.
pub(super) fn next(input: &mut impl BufRead) -> Check<Option<Entry>> {
    let magic = bytes(input, 6)?;
    if magic == b"07070X" {
        let index = hex(&bytes(input, 8)?)?;
        pad(input, 14)?;
        return Ok(Some(Entry { name: Name::Index(index as usize), about: None }));
    }
    if !matches!(magic.as_slice(), b"070701" | b"070702") {
        return Err(format!("{} is where a file begins, and not the magic of cpio", shown(magic)));
    }
    // inode, mode, owner, group, links, time, size, four of devices, length of name, sum
    let fields = bytes(input, 13 * 8)?;
    let field = |at: usize| hex(fields.get(at * 8..at * 8 + 8).unwrap_or_default());
    (0..13).try_for_each(|at| field(at).map(|_| ()))?;
    let (mode, size, length) = (field(1)?, field(6)?, field(11)?);
    if !(2..=MAX_NAME).contains(&length) {
        return Err(format!("a name in it has {length} bytes"));
    }
    let name = bytes(input, length)?;
    let name = name.strip_suffix(b"\0").filter(|name| !name.contains(&0)).ok_or("a name in it does not end with its NUL")?;
    pad(input, 110 + length)?;
    if name == TRAILER {
        return Ok(None);
    }
    Ok(Some(Entry { name: Name::Path(name.to_vec()), about: Some((mode as u32, size)) }))
}

/// Skips to the next multiple of four behind `size` bytes.
pub(super) fn pad(input: &mut impl Read, size: u64) -> Check<()> {
    bytes(input, size.next_multiple_of(4) - size).map(|_| ())
}

fn bytes(input: &mut impl Read, count: u64) -> Check<Vec<u8>> {
    let mut bytes = Vec::new();
    let read: io::Result<usize> = input.take(count).read_to_end(&mut bytes);
    match read.map_err(|error| error.to_string())? as u64 {
        got if got == count => Ok(bytes),
        _ => Err("it ends before its trailer".to_string()),
    }
}

fn hex(digits: &[u8]) -> Check<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    number.ok_or_else(|| format!("{} is where a number belongs", shown(digits)))
}

//! A layer's tar, written member by member: ustar, with PAX records for what does not fit into it,
//! as Docker, Podman and umoci write it.
//!
//! The same members give the same bytes: there are no times of its own, no names of users, and the
//! records stand in the order of their keys.

use crate::image::{Entry, Kind};
use crate::path::{join, name, parent, to_bytes};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

const BLOCK: u64 = 512;
/// Bytes of a tar's end.
pub const END: u64 = 2 * BLOCK;
/// What octal fields of 8 and 12 characters hold.
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// Writes members one after another.
pub struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
}

/// What stands in a member's header.
struct Member<'a> {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: tar::EntryType,
    size: u64,
    entry: &'a Entry,
    device: Option<(u64, u64)>,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        TarWriter { out, buffer: vec![0; 256 << 10] }
    }

    /// Writes an entry under a path, a file with what `data` holds, which must be as long as the
    /// entry says.
    ///
    /// # Errors
    /// It cannot be written, or the data not read.
    pub fn entry(&mut self, path: &str, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let member = Member::new(path, entry);
        self.header(&member)?;
        self.data(data, member.size)
    }

    /// [`TarWriter::entry`] of data that is in memory already, piece by piece.
    ///
    /// # Errors
    /// It cannot be written, or the data not read.
    pub(crate) fn file(&mut self, path: &str, entry: &Entry, data: &mut impl BufRead) -> io::Result<()> {
        let member = Member::new(path, entry);
        self.header(&member)?;
        let mut left = member.size;
        while left > 0 {
            let there = data.fill_buf()?;
            let n = there.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if n == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file is shorter than its header says"));
            }
            self.out.write_all(&there[..n])?;
            data.consume(n);
            left -= n as u64;
        }
        self.out.write_all(&[0; BLOCK as usize][..padding(member.size)])
    }

    /// Writes `path` as one more name of the file at `target`, which stands before it.
    ///
    /// # Errors
    /// It cannot be written, or the data not read.
    pub fn hard_link(&mut self, path: &str, target: &str, entry: &Entry) -> io::Result<()> {
        self.header(&Member::link(path, target, entry))
    }

    /// Writes the deletion of a path of the layers below.
    ///
    /// # Errors
    /// It cannot be written, or the data not read.
    pub fn whiteout(&mut self, path: &str) -> io::Result<()> {
        self.header(&Member::new(&whiteout_name(path), &Entry::bare(Kind::Whiteout)))
    }

    /// Ends the tar.
    ///
    /// # Errors
    /// The end cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; END as usize])?;
        Ok(self.out)
    }

    fn data(&mut self, data: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = data.read(&mut self.buffer[..most])?;
            if n == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file is shorter than its header says"));
            }
            self.out.write_all(&self.buffer[..n])?;
            left -= n as u64;
        }
        self.out.write_all(&[0; BLOCK as usize][..padding(size)])
    }

    fn header(&mut self, member: &Member<'_>) -> io::Result<()> {
        let records = member.records();
        if !records.is_empty() {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::XHeader);
            put(&mut header.as_old_mut().name, b"././@PaxHeader");
            header.set_size(records.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            self.out.write_all(header.as_bytes())?;
            self.out.write_all(&records)?;
            self.out.write_all(&[0; BLOCK as usize][..padding(records.len() as u64)])?;
        }
        self.out.write_all(member.header()?.as_bytes())
    }
}

fn whiteout_name(path: &str) -> String {
    join(parent(path), &format!(".wh.{}", name(path)))
}

/// Bytes that [`TarWriter::entry`] writes.
pub fn length(path: &str, entry: &Entry) -> u64 {
    let member = Member::new(path, entry);
    member.header_length() + member.size + padding(member.size) as u64
}

/// Bytes that [`TarWriter::hard_link`] writes.
pub fn link_length(path: &str, target: &str, entry: &Entry) -> u64 {
    Member::link(path, target, entry).header_length()
}

/// Bytes that [`TarWriter::whiteout`] writes.
pub fn whiteout_length(path: &str) -> u64 {
    Member::new(&whiteout_name(path), &Entry::bare(Kind::Whiteout)).header_length()
}

impl<'a> Member<'a> {
    fn link(path: &str, target: &str, entry: &'a Entry) -> Member<'a> {
        Member { path: to_bytes(path), link: to_bytes(target), kind: tar::EntryType::Link, size: 0, entry, device: None }
    }

    /// Bytes of header and records.
    fn header_length(&self) -> u64 {
        match self.records().len() as u64 {
            0 => BLOCK,
            records => 2 * BLOCK + records + padding(records) as u64,
        }
    }

    fn new(path: &str, entry: &'a Entry) -> Member<'a> {
        let (kind, size, link, device) = match &entry.kind {
            Kind::File { size, .. } => (tar::EntryType::Regular, *size, Vec::new(), None),
            Kind::Dir => (tar::EntryType::Directory, 0, Vec::new(), None),
            Kind::Symlink { target } => (tar::EntryType::Symlink, 0, to_bytes(target), None),
            Kind::Char { major, minor } => (tar::EntryType::Char, 0, Vec::new(), Some((*major, *minor))),
            Kind::Block { major, minor } => (tar::EntryType::Block, 0, Vec::new(), Some((*major, *minor))),
            Kind::Fifo => (tar::EntryType::Fifo, 0, Vec::new(), None),
            Kind::Hardlink { target } => (tar::EntryType::Link, 0, to_bytes(target), None),
            Kind::Whiteout | Kind::OpaqueWhiteout => (tar::EntryType::Regular, 0, Vec::new(), None),
        };
        let mut path = to_bytes(path);
        if entry.is_dir() {
            path = if path.is_empty() { b"./".to_vec() } else { [&path[..], b"/"].concat() };
        }
        Member { path, link, kind, size, entry, device }
    }

    /// PAX records (POSIX.1-2008, pax, "pax Extended Header"): what the header has no room for.
    fn records(&self) -> Vec<u8> {
        let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut put = |key: &[u8], value: Vec<u8>| records.insert(key.to_vec(), value);
        if !fits(&self.path) {
            put(b"path", self.path.clone());
        }
        if !fits(&self.link) {
            put(b"linkpath", self.link.clone());
        }
        if self.size > MAX_SIZE {
            put(b"size", self.size.to_string().into());
        }
        if self.entry.uid > MAX_ID {
            put(b"uid", self.entry.uid.to_string().into());
        }
        if self.entry.gid > MAX_ID {
            put(b"gid", self.entry.gid.to_string().into());
        }
        if u64::try_from(self.entry.mtime).map_or(true, |mtime| mtime > MAX_SIZE) {
            put(b"mtime", self.entry.mtime.to_string().into());
        }
        // Of one more name, too: whoever unpacks it gives the file a new owner, which takes its capabilities away.
        for (name, value) in &self.entry.xattrs {
            put(&[b"SCHILY.xattr.", &to_bytes(name)[..]].concat(), value.clone());
        }
        records.into_iter().flat_map(|(key, value)| pax_record(&key, &value)).collect()
    }

    fn header(&self) -> io::Result<tar::Header> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(self.kind);
        // (The crate's own setters refuse names that only a PAX record can say.)
        put(&mut header.as_old_mut().name, &self.path);
        put(&mut header.as_old_mut().linkname, &self.link);
        header.set_size(if self.size > MAX_SIZE { 0 } else { self.size });
        header.set_mode(self.entry.mode);
        header.set_uid(if self.entry.uid > MAX_ID { 0 } else { self.entry.uid });
        header.set_gid(if self.entry.gid > MAX_ID { 0 } else { self.entry.gid });
        header.set_mtime(u64::try_from(self.entry.mtime).ok().filter(|mtime| *mtime <= MAX_SIZE).unwrap_or(0));
        if let Some((major, minor)) = self.device {
            let number = |n: u64| u32::try_from(n).map_err(|_| io::Error::other("a device's number is absurd"));
            header.set_device_major(number(major)?)?;
            header.set_device_minor(number(minor)?)?;
        }
        header.set_cksum();
        Ok(header)
    }
}

/// Whether a name fits into the header as every reader takes it.
fn fits(name: &[u8]) -> bool {
    name.len() <= 100 && name.is_ascii()
}

fn put(field: &mut [u8; 100], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

fn padding(size: u64) -> usize {
    ((BLOCK - size % BLOCK) % BLOCK) as usize
}

/// A record of a pax header (POSIX.1-2008, pax): `<length> <key>=<value>\n`, where the length counts itself.
pub fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        assert_eq!(pax_record(b"a", b"b"), b"6 a=b\n");
        assert_eq!(pax_record(b"path", &[b'x'; 89]).len(), 98);
        for n in 0..2000 {
            let written = pax_record(b"k", &vec![b'x'; n]);
            let stated: usize = String::from_utf8_lossy(written.split(|b| *b == b' ').next().unwrap_or_default()).parse().unwrap_or(0);
            assert_eq!(stated, written.len());
        }
    }
}

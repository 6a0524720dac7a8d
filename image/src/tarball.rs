//! A tar, read member by member from a stream: ustar, GNU (long names, sparse) and PAX.
//!
//! Written here because nothing may be taken on trust: extension records are read into memory,
//! so their sizes are bounded before they are read, which readers meant for honest input leave out.
//!
//! ```text
//! 512 bytes header │ data, padded to 512 │ header │ … │ 1024 bytes of zeros │ anything
//! ```
//!
//! Where readers of tars differ, this one does as Go's, which all engines have: global PAX records say nothing, and what
//! stands behind the end is not looked at.

use crate::broken;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use twostage_model::error::OrFail;
use twostage_model::{Class, Result};

const BLOCK: usize = 512;
/// Bytes of a GNU long name or a PAX record list. Attributes may be 64 KiB each.
const MAX_EXTENSION: u64 = 1 << 20;
/// Parts of a sparse file.
const MAX_SEGMENTS: usize = 65_536;
/// What a hole is read as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// One member's header, its extensions applied.
#[derive(Debug, Default, Clone)]
pub struct Header {
    /// Where, as written.
    pub path: Vec<u8>,
    /// What a link names, as written.
    pub link: Vec<u8>,
    /// The tar type, `0` for all plain files.
    pub kind: u8,
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Of a device.
    pub major: u64,
    /// Of a device.
    pub minor: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads members one after another; itself the [`Read`] of the current member's data.
pub struct Tarball<R> {
    inner: R,
    /// Stored bytes of the current member not read yet, and the padding after them.
    stored: u64,
    padding: u64,
    /// Where data and holes of the current member are, next one last: (is data, length).
    map: Vec<(bool, u64)>,
    member: u64,
    /// Bytes of `inner` that are behind it.
    at: u64,
}

impl<R: Read> Tarball<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Tarball { inner, stored: 0, padding: 0, map: Vec::new(), member: 0, at: 0 }
    }

    /// The next member, after skipping what is left of this one.
    ///
    /// # Errors
    /// It is not what a tar's member is, or cannot be read.
    #[expect(clippy::should_implement_trait, reason = "a member is read before the next one, and may be wrong")]
    pub fn next(&mut self) -> Result<Option<Header>> {
        let (mut long_path, mut long_link, mut records) = (None, None, Records::new());
        loop {
            self.skip_rest()?;
            let Some(block) = self.block()? else {
                return if long_path.is_some() || long_link.is_some() || !records.is_empty() {
                    Err(broken("the tar ends after an extension header, before its member"))
                } else {
                    Ok(None)
                };
            };
            self.member += 1;
            let mut header = self.header(&block)?;
            let size = header.size;
            match header.kind {
                b'L' => long_path = Some(cut_at_nul(self.extension(size)?)),
                b'K' => long_link = Some(cut_at_nul(self.extension(size)?)),
                b'x' => records = self.pax(size)?,
                b'g' => drop(self.pax(size)?),
                _ => {
                    if let Some(path) = long_path {
                        header.path = path;
                    }
                    if let Some(link) = long_link {
                        header.link = link;
                    }
                    self.begin(&block, &mut header, &records)?;
                    return Ok(Some(header));
                }
            }
        }
    }

    /// Reads to the very end. Gives how many bytes stand behind the tar's own end, if they are not all zeros: nobody
    /// looks at them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn finish(mut self) -> Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        let (mut all, mut zeros) = (0, true);
        loop {
            match self.inner.read(&mut buffer).or_fail(Class::Runtime, || "cannot read the end of the tar".into())? {
                0 => return Ok(if zeros { 0 } else { all }),
                n => {
                    all += n as u64;
                    zeros &= buffer[..n].iter().all(|b| *b == 0);
                }
            }
        }
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Where this member's data begins in the tar, of which nothing was read yet. None for one with holes.
    pub(crate) fn begins(&self) -> Option<u64> {
        match &self.map[..] {
            [] | [(true, _)] => Some(self.at),
            _ => None,
        }
    }

    fn wrong(&self, what: &str) -> twostage_model::Error {
        broken(format!("member {} of the tar: {what}", self.member))
    }

    /// A header block, or none at the end: two blocks of zeros, or one that is the last, or nothing.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        match self.next_block()? {
            Some(zeros) if zeros == [0; BLOCK] => match self.next_block()? {
                None => Ok(None),
                Some(zeros) if zeros == [0; BLOCK] => Ok(None),
                Some(_) => Err(broken("the tar has a block of zeros in its middle")),
            },
            block => Ok(block),
        }
    }

    fn next_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(broken("the tar is cut off inside a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(broken("cannot read the tar").because(e)),
            }
        }
        self.at += BLOCK as u64;
        Ok(Some(block))
    }

    fn header(&mut self, block: &[u8; BLOCK]) -> Result<Header> {
        let sum = |signed: bool| -> i64 {
            let byte = |b: u8| if signed { i64::from(b as i8) } else { i64::from(b) };
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { byte(*b) }).sum()
        };
        let stated = number(&block[148..156]).ok_or_else(|| self.wrong("the checksum is no number"))?;
        if stated != sum(false) && stated != sum(true) {
            return Err(self.wrong("the header's checksum is wrong"));
        }
        let field = |range: std::ops::Range<usize>, what: &str| {
            number(&block[range]).ok_or_else(|| self.wrong(&format!("{what} is no number or an absurd one")))
        };
        let positive =
            |range, what: &str| field(range, what).and_then(|n| u64::try_from(n).map_err(|_| self.wrong(&format!("{what} is below zero"))));
        let mut path = cut_at_nul(block[..100].to_vec());
        let posix = &block[257..263] == b"ustar\0";
        if posix && block[345] != 0 {
            let mut whole = cut_at_nul(block[345..500].to_vec());
            whole.push(b'/');
            whole.append(&mut path);
            path = whole;
        }
        let mut kind = block[156];
        if kind == 0 || kind == b'7' {
            kind = if kind == 0 && path.ends_with(b"/") { b'5' } else { b'0' };
        }
        let device = &block[257..262] == b"ustar" && (kind == b'3' || kind == b'4');
        let header = Header {
            link: cut_at_nul(block[157..257].to_vec()),
            size: positive(124..136, "the size")?,
            mode: (field(100..108, "the mode")? & 0o7777) as u32,
            uid: positive(108..116, "the owner")?,
            gid: positive(116..124, "the group")?,
            mtime: field(136..148, "the time")?,
            major: if device { positive(329..337, "the device")? } else { 0 },
            minor: if device { positive(337..345, "the device")? } else { 0 },
            xattrs: BTreeMap::new(),
            path,
            kind,
        };
        self.set_stored(header.size)?;
        Ok(header)
    }

    fn set_stored(&mut self, size: u64) -> Result<()> {
        if size > 1 << 60 {
            return Err(self.wrong("the size is absurd"));
        }
        self.stored = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(())
    }

    /// The whole data of an extension member.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(self.wrong(&format!("{size} bytes are too many for a name or attributes")));
        }
        let mut data = vec![0; size as usize];
        self.stored(&mut data)?;
        Ok(data)
    }

    fn stored(&mut self, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        if length > self.stored {
            return Err(self.wrong("its data ends too early"));
        }
        self.inner.read_exact(buffer).or_fail(Class::Runtime, || format!("member {} of the tar: its data is cut off", self.member))?;
        self.stored -= length;
        self.at += length;
        Ok(())
    }

    fn pax(&mut self, size: u64) -> Result<Records> {
        let data = self.extension(size)?;
        let mut records = Records::new();
        let mut rest = &data[..];
        let (mut sparse_offsets, mut legacy) = (Vec::new(), false);
        while !rest.is_empty() && rest[0] != 0 {
            let bad = || self.wrong("a PAX record is malformed");
            let blank = rest.iter().take(20).position(|b| *b == b' ').ok_or_else(bad)?;
            let length = std::str::from_utf8(&rest[..blank]).ok().and_then(|n| n.parse::<usize>().ok()).ok_or_else(bad)?;
            if length <= blank + 1 || length > rest.len() || rest[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &rest[blank + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            // Sparse format 0.0 repeats two keys; they are joined into the map of format 0.1.
            if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                legacy = true;
                sparse_offsets.push(value.to_vec());
            } else {
                records.insert(key.to_vec(), value.to_vec());
            }
            rest = &rest[length..];
        }
        if legacy {
            records.insert(b"GNU.sparse.map".to_vec(), sparse_offsets.join(&b','));
        }
        Ok(records)
    }

    /// Applies the PAX records and finds where the data is.
    fn begin(&mut self, block: &[u8; BLOCK], header: &mut Header, records: &Records) -> Result<()> {
        for (key, value) in records {
            let number = || {
                let text = std::str::from_utf8(value).ok().map(|t| t.split('.').next().unwrap_or(t));
                text.and_then(|t| t.parse::<i64>().ok()).ok_or_else(|| self.wrong("a PAX number is none"))
            };
            let positive = || number().and_then(|n| u64::try_from(n).map_err(|_| self.wrong("a PAX number is below zero")));
            match &key[..] {
                // An empty value takes a record back.
                _ if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") => {}
                b"path" => header.path.clone_from(value),
                b"linkpath" => header.link.clone_from(value),
                b"size" => header.size = positive()?,
                b"uid" => header.uid = positive()?,
                b"gid" => header.gid = positive()?,
                b"mtime" => header.mtime = number()?,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        header.xattrs.insert(name.to_vec(), value.clone());
                    }
                }
            }
        }
        if !matches!(header.kind, b'0' | b'S') {
            header.size = 0;
        }
        self.set_stored(header.size)?;
        self.map = vec![(true, header.size)];
        let text = |key: &str| records.get(key.as_bytes()).and_then(|v| std::str::from_utf8(v).ok());
        let real = text("GNU.sparse.realsize").or_else(|| text("GNU.sparse.size"));
        if let Some(name) = records.get(&b"GNU.sparse.name"[..]) {
            header.path.clone_from(name);
        }
        let segments = if header.kind == b'S' {
            header.size =
                number(&block[483..495]).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| self.wrong("its real size is none"))?;
            header.kind = b'0';
            self.gnu_map(block)?
        } else if text("GNU.sparse.major") == Some("1") {
            self.pax_map()?
        } else if let Some(map) = text("GNU.sparse.map") {
            let numbers: Option<Vec<u64>> = map.split(',').map(|n| n.parse().ok()).collect();
            let numbers = numbers
                .filter(|n| n.len() % 2 == 0 && n.len() / 2 <= MAX_SEGMENTS)
                .ok_or_else(|| self.wrong("its sparse map is malformed"))?;
            numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
        } else {
            return Ok(());
        };
        if let Some(real) = real {
            header.size = real.parse().map_err(|_| self.wrong("its real size is no number"))?;
        }
        self.set_map(&segments, header.size)
    }

    /// The old GNU map: four pairs in the header, 21 in each block that follows.
    fn gnu_map(&mut self, block: &[u8; BLOCK]) -> Result<Vec<(u64, u64)>> {
        let mut segments = Vec::new();
        let mut take = |pairs: &[u8]| {
            for pair in pairs.chunks_exact(24).filter(|pair| pair[0] != 0) {
                let both =
                    number(&pair[..12]).and_then(|n| u64::try_from(n).ok()).zip(number(&pair[12..]).and_then(|n| u64::try_from(n).ok()));
                match both {
                    Some(both) if segments.len() < MAX_SEGMENTS => segments.push(both),
                    _ => return false,
                }
            }
            true
        };
        let mut good = take(&block[386..482]);
        let mut more = block[482] != 0;
        while good && more {
            // These blocks stand before the data and are not counted in its size.
            let mut next = [0; BLOCK];
            self.inner.read_exact(&mut next).or_fail(Class::Runtime, || "the tar is cut off inside a sparse map".into())?;
            self.at += BLOCK as u64;
            good = take(&next[..504]);
            more = next[504] != 0;
        }
        if good { Ok(segments) } else { Err(self.wrong("its sparse map is malformed")) }
    }

    /// The map of PAX sparse 1.0: decimal lines at the head of the data, padded to a block.
    fn pax_map(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut numbers = Vec::new();
        let mut wanted = 1;
        let mut current: Option<u64> = None;
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            self.stored(&mut block)?;
            for byte in block {
                match byte {
                    b'0'..=b'9' => {
                        let next = current.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0')));
                        current = Some(next.ok_or_else(|| self.wrong("its sparse map is malformed"))?);
                    }
                    b'\n' => {
                        let number = current.take().ok_or_else(|| self.wrong("its sparse map is malformed"))?;
                        if numbers.is_empty() {
                            let pairs = usize::try_from(number).ok().filter(|n| *n <= MAX_SEGMENTS);
                            wanted = 1 + 2 * pairs.ok_or_else(|| self.wrong("its sparse map is too long"))?;
                        }
                        numbers.push(number);
                        if numbers.len() == wanted {
                            break;
                        }
                    }
                    _ => return Err(self.wrong("its sparse map is malformed")),
                }
            }
        }
        Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn set_map(&mut self, segments: &[(u64, u64)], size: u64) -> Result<()> {
        let bad = || self.wrong("its sparse map does not fit its size");
        let mut map = Vec::with_capacity(2 * segments.len() + 1);
        let (mut at, mut data) = (0_u64, 0_u64);
        for (offset, length) in segments {
            let hole = offset.checked_sub(at).ok_or_else(bad)?;
            at = offset.checked_add(*length).filter(|end| *end <= size).ok_or_else(bad)?;
            data += length;
            map.extend([(false, hole), (true, *length)]);
        }
        if data != self.stored {
            return Err(bad());
        }
        map.push((false, size - at));
        map.reverse();
        self.map = map;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<()> {
        let left = self.stored + self.padding;
        if left > 0 {
            let gone =
                io::copy(&mut (&mut self.inner).take(left), &mut io::sink()).or_fail(Class::Runtime, || "cannot read the tar".into())?;
            self.at += gone;
            // A last member's padding may be missing; its data may not.
            if gone < self.stored {
                return Err(self.wrong("its data is cut off"));
            }
        }
        (self.stored, self.padding) = (0, 0);
        self.map.clear();
        Ok(())
    }
}

impl Tarball<BufReader<File>> {
    /// [`Tarball::next`], which leaves out what is left of this member instead of reading it.
    ///
    /// # Errors
    /// As [`Tarball::next`].
    pub fn next_in_file(&mut self) -> Result<Option<Header>> {
        let left = i64::try_from(self.stored + self.padding).map_err(|_| self.wrong("its size is absurd"))?;
        // The last byte is read, so that data that is cut off is found.
        if left > 1 {
            self.inner.seek_relative(left - 1).or_fail(Class::Runtime, || "cannot read the tar".into())?;
            let gone = (left - 1).cast_unsigned();
            let data = self.stored.min(gone);
            self.stored -= data;
            self.padding -= gone - data;
            self.at += gone;
        }
        self.next()
    }

    /// Offset and length of this member's data in the file, of which nothing was read yet. None for one
    /// with holes.
    ///
    /// # Errors
    /// The file cannot tell where it is.
    pub fn whole(&mut self) -> Result<Option<(u64, u64)>> {
        let at = self.inner.stream_position().or_fail(Class::Runtime, || "cannot read the tar".into())?;
        Ok(match &self.map[..] {
            [] => Some((at, 0)),
            [(true, length)] => Some((at, *length)),
            _ => None,
        })
    }
}

impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.map.last().is_some_and(|(_, length)| *length == 0) {
            self.map.pop();
        }
        let Some((is_data, length)) = self.map.last_mut() else { return Ok(0) };
        let most = usize::try_from(*length).unwrap_or(usize::MAX).min(buffer.len());
        let n = if *is_data {
            let n = self.inner.read(&mut buffer[..most])?;
            if n == 0 && most > 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the data of a tar member is cut off"));
            }
            self.stored = self.stored.saturating_sub(n as u64);
            self.at += n as u64;
            n
        } else {
            buffer[..most].fill(0);
            most
        };
        *length -= n as u64;
        Ok(n)
    }
}

/// The current member's data without a copy of it.
impl<R: BufRead> BufRead for Tarball<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.map.last().is_some_and(|(_, length)| *length == 0) {
            self.map.pop();
        }
        let Some((is_data, length)) = self.map.last() else { return Ok(&[]) };
        let most = usize::try_from(*length).unwrap_or(usize::MAX);
        if !is_data {
            return Ok(&ZEROS[..most.min(ZEROS.len())]);
        }
        let there = self.inner.fill_buf()?;
        if there.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the data of a tar member is cut off"));
        }
        Ok(&there[..most.min(there.len())])
    }

    fn consume(&mut self, bytes: usize) {
        let Some((is_data, length)) = self.map.last_mut() else { return };
        let bytes = (bytes as u64).min(*length);
        *length -= bytes;
        if *is_data {
            self.stored = self.stored.saturating_sub(bytes);
            self.at += bytes;
            self.inner.consume(bytes as usize);
        }
    }
}

fn cut_at_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// A number of a header: octal, or base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { i128::from(field[0] | 0x80) - 256 } else { i128::from(field[0] & 0x7f) };
        let mut value = first;
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        }
        return i64::try_from(value).ok();
    }
    let text = field.split(|b| *b == 0).next()?;
    let text = std::str::from_utf8(text).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

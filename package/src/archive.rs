//! The containers a .deb is made of, read once from front to back: deb(5), ar(5), tar(5).
//!
//! ```text
//! !<arch>\n
//! debian-binary   ar header, "2.0\n", and lines that nobody reads
//! control.tar.xz  ./control, ./md5sums, ./postinst …     none, .gz, .xz or .zst
//! data.tar.xz     ./usr/bin/hello …                      those, .bz2 or .lzma
//! …               members that nobody reads
//! ```
//!
//! Tar is read as dpkg reads it: v7, ustar and GNU long names; no pax headers. What dpkg or apt of
//! Debian 12 refuses is refused here: `tests/it/odd_debs.rs` asks them, case by case.

use crate::xz::Xz;
use crate::{Check, shown};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, Read};
use twostage_model::{Hasher, Sha256};

/// Bytes that `control.tar` may unpack to.
const MAX_CONTROL: u64 = 32 << 20;
/// Bytes that `data.tar`, or an rpm's payload, may unpack to.
pub(crate) const MAX_DATA: u64 = 8 << 30;
/// A member may always unpack to this, however small it is: an image of a disk, or a log of zeros, is an
/// honest content, and unpacking a GiB takes some seconds. Beyond it a member may unpack to [`MAX_RATIO`]
/// times what was read of it. Deflate cannot do more than 1032; xz and zstd can make 8 GiB of zeros from
/// a megabyte.
const FREE_BYTES: u64 = 1 << 30;
const MAX_RATIO: u64 = 2000;
/// Bytes that a decoder of xz or lzma may take: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// zstd's window as a power of two: 128 MiB, the default limit of `zstd -d` and dpkg.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Entries of one tar.
const MAX_ENTRIES: u64 = 2_000_000;
/// Bytes of a path or link target with the NUL at its end: Linux' PATH_MAX.
const MAX_PATH: u64 = 4096;
/// Bytes of a path: dpkg unpacks `x` as `/x.dpkg-new` first, and that, with its NUL, is to fit.
const MAX_ENTRY_PATH: usize = MAX_PATH as usize - "/.dpkg-new".len() - 1;
/// Bytes of one part of a path: NAME_MAX less the same ending.
const MAX_PART: usize = 255 - ".dpkg-new".len();
/// Bytes of the name of a file in `control.tar`: dpkg's `MAXCONTROLFILENAME`.
const MAX_CONTROL_NAME: usize = 100;
const INPUT_BUFFER: usize = 128 << 10;
const TAR_BUFFER: usize = 64 << 10;

pub(crate) const BLOCK: usize = 512;

/// What kind of thing a tar entry makes. Devices, fifos and sockets are refused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Hardlink,
}

/// One entry of a tar, its path checked and without `./` before, `//` and `/./` in it, and `/` behind;
/// the root is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    /// The path as dpkg's list of files has it: only what it starts with is taken off ([`listed_path`]).
    pub(crate) listed: Vec<u8>,
    /// It is spelled as `path` here, with `./` before it or without.
    pub(crate) is_plain: bool,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) user: Vec<u8>,
    pub(crate) group: Vec<u8>,
    /// Where a symlink or hardlink leads.
    pub(crate) link: Vec<u8>,
    /// Where a hardlink leads, as dpkg looks it up.
    pub(crate) listed_link: Vec<u8>,
    /// Bytes of a file; 0 for all else.
    pub(crate) size: u64,
}

/// Who is told of the entries. What it leaves of a content is skipped.
pub(crate) trait Visit {
    /// A file of `control.tar`.
    fn control(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()>;
    /// An entry of `data.tar`.
    fn data(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()>;
    /// Whether the walk goes on behind `control.tar`.
    fn wants_data(&self) -> bool {
        true
    }
    /// Whether it goes on in `control.tar`, for one that wants no data.
    fn wants_more_control(&self) -> bool {
        true
    }
}

/// What is known of the whole after its last byte.
pub(crate) struct Facts {
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    /// Seconds since 1970 in the header of `debian-binary`.
    pub(crate) date: i64,
    pub(crate) orphans: Orphans,
}

/// Entries whose folder is no entry before them: dpkg unpacks them only where it is there already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Orphans {
    pub(crate) count: u64,
    /// The first of them.
    pub(crate) first: Vec<u8>,
}

/// Why a walk ended early.
pub(crate) enum Stop {
    /// The bytes are not a good deb.
    Refused(String),
    /// The bytes could not be read.
    Unreadable(io::Error),
}

/// Reads a deb to its end, hashing every byte, and shows the entries to `visitor`. For one that wants no data it is read
/// to the end of the control archive, and not hashed: the digest is one of no bytes then.
pub(crate) fn walk(input: impl Read, visitor: &mut dyn Visit) -> Result<Facts, Stop> {
    let hasher = visitor.wants_data().then(Hasher::default);
    let hashing = Hashing { inner: input, hasher, size: 0, failure: None };
    let mut input = BufReader::with_capacity(INPUT_BUFFER, hashing);
    let read = members(&mut input, visitor);
    let hashing = input.into_inner();
    match (read, hashing.failure) {
        (_, Some(error)) => Err(Stop::Unreadable(error)),
        (Err(why), None) => Err(Stop::Refused(why)),
        (Ok((date, orphans)), None) => Ok(Facts { sha256: hashing.hasher.unwrap_or_default().finish(), size: hashing.size, date, orphans }),
    }
}

/// Hashes what is read, and keeps the error of the input apart from those of decoders.
struct Hashing<R> {
    inner: R,
    hasher: Option<Hasher>,
    size: u64,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.hasher.iter_mut().for_each(|hasher| hasher.update(buffer.get(..count).unwrap_or_default()));
                self.size += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let shown = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                Err(shown)
            }
        }
    }
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
    /// Of data and rpms; dpkg does not read it in `control.tar`.
    Bzip2,
    /// What was before xz; the same goes for it.
    Lzma,
}

impl Compression {
    fn of(member: &str, stem: &str) -> Check<Compression> {
        match member.strip_prefix(stem) {
            Some("") => Ok(Compression::None),
            Some(".gz") => Ok(Compression::Gzip),
            Some(".xz") => Ok(Compression::Xz),
            Some(".zst") => Ok(Compression::Zstd),
            Some(".bz2") if stem == DATA => Ok(Compression::Bzip2),
            Some(".lzma") if stem == DATA => Ok(Compression::Lzma),
            Some(ending @ (".bz2" | ".lzma")) => {
                Err(format!("{member} is compressed with {ending}, which dpkg reads in data.tar only; use xz, zst or gz"))
            }
            _ => Err(format!("the member {} is where {stem} belongs", shown(member))),
        }
    }
}

const CONTROL: &str = "control.tar";
const DATA: &str = "data.tar";

/// Walks the ar members; returns the date.
fn members(input: &mut impl BufRead, visitor: &mut dyn Visit) -> Check<(i64, Orphans)> {
    let mut magic = [0; 8];
    let got = fill(input, &mut magic).map_err(|error| format!("cannot be read: {error}"))?;
    if got != magic.len() || &magic != b"!<arch>\n" {
        return Err("it is not a deb: the ar magic is missing".into());
    }
    let first = ar_header(input)?.ok_or("it is an empty ar archive")?;
    if first.name != "debian-binary" {
        return Err(format!("its first member is {} and not debian-binary", shown(&first.name)));
    }
    let mut member = Member { inner: input, left: first.size };
    let mut version = Vec::new();
    (&mut member).take(64).read_to_end(&mut version).map_err(|error| format!("debian-binary: {error}"))?;
    // deb(5): what is behind the first line is for later versions, and ignored.
    let (line, end) = version.iter().position(|byte| *byte == b'\n').map_or((&version[..], None), |end| (&version[..end], Some(end)));
    let minor = line.strip_prefix(b"2.").filter(|minor| !minor.is_empty() && minor.iter().all(u8::is_ascii_digit));
    if minor.is_none() || end.is_none() {
        return Err(format!("its format version is {} and not 2.x on a line of its own", shown(line)));
    }
    member.skip().map_err(|error| format!("debian-binary: {error}"))?;
    pad(input, first.size)?;

    let mut orphans = Orphans::default();
    let mut expected = [CONTROL, DATA].into_iter();
    let mut awaited = expected.next();
    while let Some(header) = ar_header(input)? {
        let mut member = Member { inner: input, left: header.size };
        // deb(5): members whose name starts with an underscore are for others, and so are all behind data.tar.
        if let Some(stem) = awaited.filter(|_| !header.name.starts_with('_')) {
            let compression = Compression::of(&header.name, stem)?;
            let read = if stem == CONTROL {
                control_member(&mut member, compression, visitor)
            } else {
                data_member(&mut member, compression, visitor).map(|found| orphans = found)
            };
            read.map_err(|why| format!("{}: {why}", header.name))?;
            if !visitor.wants_data() {
                return Ok((first.date, orphans));
            }
            if member.left > 0 {
                return Err(format!("{}: {} bytes behind the end of the tar", header.name, member.left));
            }
            awaited = expected.next();
        }
        member.skip().map_err(|error| format!("{}: {error}", shown(&header.name)))?;
        pad(input, header.size)?;
    }
    match awaited {
        None => Ok((first.date, orphans)),
        Some(stem) => Err(format!("it ends without {stem}")),
    }
}

struct ArHeader {
    name: String,
    size: u64,
    date: i64,
}

/// The next ar header, or none at the end of the input.
fn ar_header(input: &mut impl BufRead) -> Check<Option<ArHeader>> {
    let mut header = [0; 60];
    match fill(input, &mut header).map_err(|error| format!("cannot be read: {error}"))? {
        0 => return Ok(None),
        60 => {}
        _ => return Err("it ends inside an ar header, or rubbish is behind its last member".into()),
    }
    let text = std::str::from_utf8(&header).ok().filter(|text| text.is_ascii()).ok_or("an ar header is not text")?;
    let column = |from: usize, to: usize| text.get(from..to).unwrap_or_default().trim_end_matches(' ');
    if text.get(58..) != Some("`\n") {
        return Err("an ar header does not end as one: a member's size is wrong, or rubbish is behind the last member".into());
    }
    let name = column(0, 16);
    // GNU ar ends names with a slash; dpkg takes that.
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        return Err(format!("the ar member name {} is not valid", shown(name)));
    }
    let number = |field: &str, from: usize, to: usize, radix: u32| {
        // dpkg and apt take blanks for 0.
        let text = Some(column(from, to)).filter(|text| !text.is_empty()).unwrap_or("0");
        let digits = text.chars().all(|c| c.is_digit(radix));
        let value = if digits { i64::from_str_radix(text, radix).ok() } else { None };
        value.ok_or_else(|| format!("{name}: the {field} in its ar header is {} and not a number", shown(text)))
    };
    let date = number("date", 16, 28, 10)?;
    number("owner", 28, 34, 10)?;
    number("group", 34, 40, 10)?;
    number("mode", 40, 48, 8)?;
    let size = number("size", 48, 58, 10)?.unsigned_abs();
    Ok(Some(ArHeader { name: name.to_string(), size, date }))
}

/// Members start at even offsets. Nobody looks at the byte between.
fn pad(input: &mut impl BufRead, size: u64) -> Check<()> {
    let mut byte = [0];
    if size % 2 == 1 && !fill(input, &mut byte).is_ok_and(|got| got == 1) {
        return Err("the byte that pads an ar member of odd size is missing".into());
    }
    Ok(())
}

/// Reads until `buffer` is full or the input ends; returns how much.
pub(crate) fn fill(input: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// The next `left` bytes; the input's end before that is an error.
struct Member<'a, B: ?Sized> {
    inner: &'a mut B,
    left: u64,
}

impl<B: BufRead + ?Sized> Member<'_, B> {
    fn skip(&mut self) -> io::Result<()> {
        while self.left > 0 {
            let count = self.fill_buf()?.len();
            self.consume(count);
        }
        Ok(())
    }
}

impl<B: BufRead + ?Sized> BufRead for Member<'_, B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut off: {} more bytes are promised", self.left)));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.get(..most).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        self.inner.consume(count);
    }
}

impl<B: BufRead + ?Sized> Read for Member<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

fn read_buffered(input: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = input.fill_buf()?;
    let count = available.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) {
        to.copy_from_slice(from);
    }
    input.consume(count);
    Ok(count)
}

/// Tells through `used` how much was taken.
struct Counted<'a, B> {
    inner: B,
    used: &'a Cell<u64>,
}

impl<B: BufRead> BufRead for Counted<'_, B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, count: usize) {
        self.used.set(self.used.get() + count as u64);
        self.inner.consume(count);
    }
}

impl<B: BufRead> Read for Counted<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// Bounds what a decoder makes, and never asks it again after an error.
pub(crate) struct Guard<'a, D> {
    decoder: D,
    made: u64,
    limit: u64,
    used: &'a Cell<u64>,
    dead: bool,
}

impl<D: Read> Read for Guard<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.dead {
            return Err(io::Error::other("the stream has failed before"));
        }
        let result = self.decoder.read(buffer);
        if let Ok(count) = &result {
            self.made += *count as u64;
            if self.made > self.limit {
                self.dead = true;
                return Err(io::Error::other(format!("unpacks to more than {} MiB", self.limit >> 20)));
            }
            if self.made > FREE_BYTES.saturating_add(self.used.get().saturating_mul(MAX_RATIO)) {
                self.dead = true;
                return Err(io::Error::other(format!("unpacks to more than {MAX_RATIO} times its size")));
            }
        }
        self.dead = result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        // A decoder's own words (`dist overflow`) are for whoever knows the format.
        result.map_err(|error| io::Error::new(error.kind(), format!("it does not unpack: {error}")))
    }
}

/// A bounded gzip decoder, for compressed files inside a package.
pub(crate) fn gunzip<'a, B: BufRead + 'a>(input: B, used: &'a Cell<u64>, limit: u64) -> impl Read + 'a {
    Guard { decoder: MultiGzDecoder::new(Counted { inner: input, used }), made: 0, limit, used, dead: false }
}

/// A bounded decoder of a whole archive; an archive may hold several compressed streams in a row.
pub(crate) fn unpack<'a, B: BufRead + 'a>(input: B, used: &'a Cell<u64>, compression: Compression, limit: u64) -> Check<impl Read + 'a> {
    let counted = Counted { inner: input, used };
    // dpkg takes several compressed streams in a row (pigz, pzstd, pixz make them), so these do;
    // unlike dpkg they refuse anything else behind a stream.
    let decoder: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(counted),
        Compression::Gzip => Box::new(MultiGzDecoder::new(counted)),
        Compression::Xz => Box::new(Xz::streams(counted, XZ_MEMORY)?),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(counted)),
        Compression::Lzma => Box::new(Xz::lzma(counted, XZ_MEMORY)?),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(counted).map_err(|error| error.to_string())?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|error| error.to_string())?;
            Box::new(decoder)
        }
    };
    Ok(Guard { decoder, made: 0, limit, used, dead: false })
}

/// Hands what is in a file to `read`, whichever way it is packed: with gzip, bzip2, xz or zstd, as its first bytes say,
/// else as it is. What it unpacks to is bounded by `limit`, and beyond 1 GiB by 2000 times what was read of it;
/// `read` then gets an error, as for bytes that do not unpack.
///
/// # Errors
/// The first bytes cannot be read, or no decoder could be made.
pub fn unpacked<T>(mut input: impl BufRead, limit: u64, read: impl FnOnce(&mut dyn Read) -> T) -> io::Result<T> {
    let compression = match input.fill_buf()? {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    };
    unpacked_from(compression, input, limit, read)
}

/// As [`unpacked`], and with lzma, which has no magic number: its streams begin with the properties that all
/// programs write, and with the size of a dictionary that is a power of two.
///
/// # Errors
/// As [`unpacked`].
pub fn unpacked_or_lzma<T>(mut input: impl BufRead, limit: u64, read: impl FnOnce(&mut dyn Read) -> T) -> io::Result<T> {
    match input.fill_buf()? {
        [0x5d, 0, 0, ..] => unpacked_from(Compression::Lzma, input, limit, read),
        _ => unpacked(input, limit, read),
    }
}

fn unpacked_from<T>(compression: Compression, input: impl BufRead, limit: u64, read: impl FnOnce(&mut dyn Read) -> T) -> io::Result<T> {
    let used = Cell::new(0);
    let mut plain = unpack(input, &used, compression, limit).map_err(io::Error::other)?;
    Ok(read(&mut plain))
}

/// Reads `control.tar` and all that follows it in its member.
fn control_member(member: &mut Member<'_, impl BufRead>, compression: Compression, visitor: &mut dyn Visit) -> Check<()> {
    let used = Cell::new(0);
    let guard = unpack(member, &used, compression, MAX_CONTROL)?;
    let (mut names, mut enough) = (BTreeSet::new(), false);
    let read = tar_entries(&mut BufReader::with_capacity(TAR_BUFFER, guard), &mut |entry: &Entry, content: &mut dyn Read| {
        match entry.kind {
            Kind::Dir if entry.path.is_empty() => return Ok(()),
            Kind::File if !entry.path.contains(&b'/') => {}
            _ => return Err("is not a plain file".into()),
        }
        if !entry.is_plain {
            return Err("is spelled in a way that apt does not find".into());
        }
        if entry.path.len() > MAX_CONTROL_NAME {
            return Err(format!("has a name of {} bytes, and dpkg takes {MAX_CONTROL_NAME}", entry.path.len()));
        }
        if names.len() >= 1000 || !names.insert(entry.path.clone()) {
            return Err("is there twice, or there are too many files".into());
        }
        visitor.control(entry, content)?;
        enough = !visitor.wants_data() && !visitor.wants_more_control();
        if enough { Err("the rest is not wanted".into()) } else { Ok(()) }
    });
    if !enough {
        read?;
    }
    if names.contains(b"control".as_slice()) { Ok(()) } else { Err("there is no control file in it".into()) }
}

/// Reads `data.tar` and all that follows it in its member.
fn data_member(member: &mut Member<'_, impl BufRead>, compression: Compression, visitor: &mut dyn Visit) -> Check<Orphans> {
    let used = Cell::new(0);
    let guard = unpack(member, &used, compression, MAX_DATA)?;
    let mut places = Places::default();
    tar_entries(&mut BufReader::with_capacity(TAR_BUFFER, guard), &mut |entry, content| {
        places.take(entry)?;
        visitor.data(entry, content)
    })?;
    Ok(places.orphans)
}

/// What was unpacked so far. Kept are hashes: two million paths would be too much memory.
#[derive(Default)]
struct Places {
    /// By the hash of its path, each entry's [`Places::value`].
    seen: HashMap<u64, u64>,
    orphans: Orphans,
}

impl Places {
    fn hash(path: &[u8]) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(path)
    }

    /// How dpkg spells a path, and whether it is a folder.
    fn value(listed: &[u8], is_folder: bool) -> u64 {
        Places::hash(listed) & !1 | u64::from(is_folder)
    }

    /// Refuses what dpkg cannot unpack after what it has unpacked.
    fn take(&mut self, entry: &Entry) -> Check<()> {
        if entry.kind == Kind::Hardlink {
            // dpkg makes a hardlink when it comes to it, so what it leads to must have been before it.
            let target = || shown(&entry.link);
            match self.seen.get(&Places::hash(&entry.link)) {
                None => return Err(format!("is a hardlink to {}, which is not before it", target())),
                Some(seen) if *seen & 1 == 1 => return Err(format!("is a hardlink to {}, which is a folder", target())),
                Some(seen) if *seen != Places::value(&entry.listed_link, false) => {
                    return Err(format!("is a hardlink to {}, which is spelled otherwise where it is", target()));
                }
                Some(_) => {}
            }
        }
        if entry.path.is_empty() {
            return Ok(());
        }
        let folder = entry.path.iter().rposition(|byte| *byte == b'/').and_then(|at| entry.path.get(..at)).unwrap_or_default();
        match self.seen.get(&Places::hash(folder)) {
            _ if folder.is_empty() => {}
            None => {
                if self.orphans.count == 0 {
                    self.orphans.first.clone_from(&entry.path);
                }
                self.orphans.count += 1;
            }
            Some(seen) if *seen & 1 == 0 => return Err(format!("is in {}, which is no folder in this package", shown(folder))),
            Some(_) => {}
        }
        let is_folder = entry.kind == Kind::Dir;
        let value = Places::value(&entry.listed, is_folder);
        match self.seen.insert(Places::hash(&entry.path), value) {
            Some(seen) if seen & 1 != value & 1 => Err("is there twice, and one of them is a folder".into()),
            Some(seen) if !is_folder && seen != value => Err("is there twice, spelled in two ways".into()),
            _ => Ok(()),
        }
    }
}

type OnEntry<'a> = dyn FnMut(&Entry, &mut dyn Read) -> Check<()> + 'a;

/// Reads a tar to the end of its stream: after the block of zeros there may be only zeros.
fn tar_entries(tar: &mut dyn BufRead, on_entry: &mut OnEntry<'_>) -> Check<()> {
    let mut long_path: Option<Vec<u8>> = None;
    let mut long_link: Option<Vec<u8>> = None;
    let mut count = 0;
    loop {
        let mut block = [0; BLOCK];
        if fill(tar, &mut block).map_err(|error| error.to_string())? != BLOCK {
            return Err("the tar is cut off: it has no end".into());
        }
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        count += 1;
        if count > MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} entries"));
        }
        let header = TarHeader::read(&block)?;
        let mut content = Member { inner: &mut *tar, left: header.size };
        match header.kind {
            b'L' | b'K' => {
                if header.size > MAX_PATH {
                    return Err(format!("a path of {} bytes", header.size));
                }
                let mut text = Vec::new();
                (&mut content).take(MAX_PATH).read_to_end(&mut text).map_err(|error| error.to_string())?;
                let text = text.strip_suffix(b"\0").unwrap_or(&text).to_vec();
                let slot = if header.kind == b'L' { &mut long_path } else { &mut long_link };
                if slot.replace(text).is_some() {
                    return Err("two long names for one entry".into());
                }
            }
            kind => {
                let entry = header.entry(kind, long_path.take(), long_link.take())?;
                on_entry(&entry, &mut content).map_err(|why| format!("{}: {why}", shown(&entry.path)))?;
            }
        }
        content.skip().map_err(|error| error.to_string())?;
        let odd = header.size % BLOCK as u64;
        Member { inner: &mut *tar, left: if odd == 0 { 0 } else { BLOCK as u64 - odd } }.skip().map_err(|error| error.to_string())?;
    }
    if long_path.is_some() || long_link.is_some() {
        return Err("a long name without an entry".into());
    }
    loop {
        let rest = tar.fill_buf().map_err(|error| error.to_string())?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err("there are more bytes behind the end of the tar".into());
        }
        let count = rest.len();
        tar.consume(count);
    }
}

/// One header block, its checksum verified.
struct TarHeader {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    user: Vec<u8>,
    group: Vec<u8>,
    size: u64,
}

impl TarHeader {
    fn read(block: &[u8; BLOCK]) -> Check<TarHeader> {
        let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();
        let text = |from: usize, length: usize| field(from, length).split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let wrong = |what: &str| format!("the {what} in a tar header is not a number");
        let number = |what: &str, from: usize, length: usize| tar_number(field(from, length)).ok_or_else(|| wrong(what));
        // apt reads base 256 in sizes and owners only, so a mode or time in it is unreadable there.
        let octal = |what: &str, from: usize, length: usize| tar_octal(field(from, length)).ok_or_else(|| wrong(what));
        let sum: u64 = block.iter().enumerate().map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u64::from(*byte) }).sum();
        if number("checksum", 148, 8)? != sum {
            return Err("the checksum of a tar header is wrong".into());
        }
        let mut path = text(0, 100);
        let ustar = field(257, 6) == b"ustar\0";
        if ustar && block.get(345).is_some_and(|byte| *byte != 0) {
            path = [text(345, 155), path].join(&b'/');
        }
        let names = field(257, 5) == b"ustar";
        octal("time", 136, 12)?;
        Ok(TarHeader {
            path,
            link: text(157, 100),
            kind: block.get(156).copied().unwrap_or_default(),
            mode: u32::try_from(octal("mode", 100, 8)? & 0o7777).unwrap_or_default(),
            uid: number("owner", 108, 8)?,
            gid: number("group", 116, 8)?,
            user: if names { text(265, 32) } else { Vec::new() },
            group: if names { text(297, 32) } else { Vec::new() },
            size: number("size", 124, 12)?,
        })
    }

    fn entry(&self, kind: u8, long_path: Option<Vec<u8>>, long_link: Option<Vec<u8>>) -> Check<Entry> {
        let raw = long_path.unwrap_or_else(|| self.path.clone());
        // Before there was a type for folders, the slash told.
        let kind = if matches!(kind, b'0' | 0) && raw.ends_with(b"/") { b'5' } else { kind };
        let wrong = |why: &str| format!("{} {why}", shown(&raw));
        let kind = match kind {
            b'0' | 0 => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Dir,
            b'3' | b'4' => return Err(wrong("is a device")),
            b'6' => return Err(wrong("is a fifo")),
            b'x' | b'g' => return Err(wrong("has a pax header, which dpkg does not read")),
            other => return Err(wrong(&format!("is of the tar type {}, which dpkg does not read", shown([other])))),
        };
        let path = safe_path(&raw, kind == Kind::Dir).map_err(|why| wrong(&why))?;
        if path.is_empty() && kind != Kind::Dir {
            return Err(wrong("is the root but not a folder"));
        }
        if self.size > 0 && kind != Kind::File {
            return Err(wrong("has a content but is not a file"));
        }
        let target = long_link.unwrap_or_else(|| self.link.clone());
        let link_as_it_is = target.clone();
        let link = match kind {
            Kind::File | Kind::Dir => Vec::new(),
            // A symlink may lead anywhere; it is resolved where it is installed.
            Kind::Symlink if target.is_empty() || target.contains(&0) => return Err(wrong("is a symlink to nothing")),
            Kind::Symlink if target.len() as u64 >= MAX_PATH => return Err(wrong("is a symlink to too long a path")),
            Kind::Symlink => target,
            Kind::Hardlink => {
                safe_path(&target, false).map_err(|why| wrong(&format!("is a hardlink to {}, which {why}", shown(&target))))?
            }
        };
        let listed_link = if kind == Kind::Hardlink { listed_path(&link_as_it_is).to_vec() } else { Vec::new() };
        Ok(Entry {
            is_plain: raw.strip_prefix(b"./").unwrap_or(&raw) == path,
            path,
            listed: listed_path(&raw).to_vec(),
            listed_link,
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            user: self.user.clone(),
            group: self.group.clone(),
            link,
            size: self.size,
        })
    }
}

/// Octal, or GNU's base 256.
fn tar_number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        return rest.iter().try_fold(0u64, |value, byte| Some(value.checked_mul(256)? + u64::from(*byte)));
    }
    tar_octal(field)
}

/// Octal with blanks before and a blank or NUL behind. No digit is 0, but only with a NUL there:
/// dpkg also takes blanks alone, GNU tar, by which `dpkg-deb -x` unpacks, does not.
fn tar_octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_start_matches(' ').trim_end_matches([' ', '\0']);
    if text.is_empty() {
        return field.contains(&0).then_some(0);
    }
    text.bytes().all(|b| (b'0'..=b'7').contains(&b)).then(|| u64::from_str_radix(text, 8).ok()).flatten()
}

/// A path as dpkg's list of files has it (`path_skip_slash_dotslash`, `path_trim_slash_slashdot`): without
/// `/` and `./` before it and behind it.
fn listed_path(mut raw: &[u8]) -> &[u8] {
    while let Some(rest) = raw.strip_prefix(b"./").or_else(|| raw.strip_prefix(b"/")) {
        raw = rest;
    }
    while let Some(rest) = raw.strip_suffix(b"/.").or_else(|| raw.strip_suffix(b"/")) {
        raw = rest;
    }
    if raw == b"." { b"" } else { raw }
}

/// The path as the file system understands it: `.//usr/x`, `./usr//x`, `././usr/x`, `/usr/x` and `usr/./x` are one
/// place. `..` is refused, as GNU tar refuses it, by which `dpkg-deb -x` unpacks.
fn safe_path(raw: &[u8], folder: bool) -> Check<Vec<u8>> {
    if raw.is_empty() {
        return Err("is an empty path".into());
    }
    if raw.contains(&0) || raw.contains(&b'\n') {
        return Err("has a NUL or a line break in its path".into());
    }
    if !folder && (raw.ends_with(b"/") || raw.ends_with(b"/.")) {
        return Err("ends as a folder does, and is none".into());
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b".." => return Err("climbs out with ..".into()),
            b"" | b"." => {}
            part if part.len() > MAX_PART => {
                return Err(format!("has a part of {} bytes in its path, and dpkg unpacks {MAX_PART}", part.len()));
            }
            part => {
                path.extend((!path.is_empty()).then_some(b'/'));
                path.extend_from_slice(part);
            }
        }
    }
    if path.len().max(listed_path(raw).len()) > MAX_ENTRY_PATH {
        return Err("is too long a path".into());
    }
    Ok(path)
}

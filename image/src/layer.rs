//! One layer: a tar, plain or compressed, walked as it streams by.

use crate::image::{Entry, FileDigest, Ignored, Kind, Layer, Want, Wanted};
use crate::limits::Budget;
use crate::linked::ProgramBytes;
use crate::settle::{self, Settled};
use crate::tarball::{Header, Tarball};
use crate::{ahead, broken, path};
use md5::Digest as _;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use twostage_linking::LinkageState;
use twostage_model::error::OrFail;
use twostage_model::{Class, Hasher, Result, Sha256};

/// How a layer marks what it deletes.
pub(crate) const WHITEOUT: &str = ".wh.";
/// What aufs keeps for itself, besides its mark of an opaque folder.
const BOOKKEEPING: &str = ".wh..wh.";
/// The mark of a folder that hides what the layers below have in it.
const OPAQUE: &str = ".wh..wh..opq";

/// Hashes and counts what is read through it.
pub struct HashRead<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
    limit: u64,
}

impl<R: Read> HashRead<R> {
    pub fn new(inner: R, limit: u64) -> Self {
        HashRead { inner, hasher: Hasher::default(), count: 0, limit }
    }

    pub fn finish(self) -> (Sha256, u64) {
        (self.hasher.finish(), self.count)
    }
}

impl<R: Read> Read for HashRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.count += n as u64;
        if self.count > self.limit {
            return Err(io::Error::other(format!("it holds more than {} bytes", self.limit)));
        }
        Ok(n)
    }
}

/// What the first bytes of a blob say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    Gzip,
    Zstd,
    Json,
    Tar,
    Other,
}

pub fn sniff(head: &[u8]) -> Sniffed {
    match head {
        [0x1f, 0x8b, ..] => Sniffed::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Sniffed::Zstd,
        _ if head.len() >= 262 && &head[257..262] == b"ustar" => Sniffed::Tar,
        _ if head.len() >= 512 && head[..512].iter().all(|b| *b == 0) => Sniffed::Tar,
        _ if head.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'[')) => Sniffed::Json,
        _ => Sniffed::Other,
    }
}

/// The tar in a blob, decompressed.
pub fn plain<'a>(mut input: impl BufRead + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let head = input.fill_buf().or_fail(Class::Runtime, || "cannot read a layer".into())?;
    Ok(match sniff(head) {
        Sniffed::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Sniffed::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input).or_fail(Class::Runtime, || "cannot read a zstd layer".into())?;
            // The window that a hostile frame may ask for.
            decoder.window_log_max(27).or_fail(Class::Runtime, || "cannot read a zstd layer".into())?;
            Box::new(decoder)
        }
        _ => Box::new(input),
    })
}

/// Reads a layer. `input` is not read to its end where decompression ends earlier.
pub fn read_layer(input: impl BufRead + Send, keep: Wanted<'_>, budget: &mut Budget<'_>) -> Result<Layer> {
    let limit = budget.limits.layer_bytes;
    let (members, diff_id, size) = ahead::hashing(plain(input)?, limit, |data| members(data, keep, budget));
    let Members { entries, notes, trailing } = members?;
    let Settled { entries, duplicates, folders_again } = settle::settle(entries)?;
    Ok(Layer { diff_id, size, entries, ignored: Ignored { duplicates, folders_again, notes, trailing } })
}

/// Copies the tar of a layer, decompressed, to `out`, and checks it as [`read_layer`] does. Gives its digest and
/// its bytes.
pub fn copy_layer(input: impl BufRead + Send, out: &mut (dyn Write + Send), budget: &mut Budget<'_>) -> Result<(Sha256, u64)> {
    let mut tar = BufReader::with_capacity(128 << 10, Tee { input: plain(input)?, out });
    let head = tar.fill_buf().or_fail(Class::Runtime, || "cannot read a layer".into())?;
    if matches!(sniff(head), Sniffed::Gzip | Sniffed::Zstd) {
        return Err(broken("the layer is compressed twice"));
    }
    let layer = read_layer(tar, &|_| Want::Digest, budget)?;
    Ok((layer.diff_id, layer.size))
}

/// Writes what is read through it.
struct Tee<R, W> {
    input: R,
    out: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.out.write_all(&buffer[..n]).map_err(|error| io::Error::new(error.kind(), format!("cannot keep a copy of it: {error}")))?;
        Ok(n)
    }
}

/// What is in a tar.
struct Members {
    entries: Vec<Entry>,
    notes: u64,
    trailing: u64,
}

/// All members of a tar, which is read to its very end.
fn members(data: &mut ahead::Ahead, keep: Wanted<'_>, budget: &mut Budget<'_>) -> Result<Members> {
    let mut tarball = Tarball::new(data);
    let (mut entries, mut notes) = (Vec::new(), 0);
    let mut holes = budget.limits.layer_bytes;
    let mut number = 0;
    while let Some(header) = tarball.next()? {
        if header.size > holes {
            return Err(broken(format!("{}: {} bytes are absurd", path::shown(&path::from_bytes(&header.path)), header.size)));
        }
        // Sparse files take no bytes in the tar, so that their sizes are counted on their own.
        holes -= header.size;
        let names = header.path.len() + header.link.len() + header.xattrs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        budget.entry(names as u64)?;
        match entry(header, &mut tarball, keep, budget)? {
            Some(entry) => entries.push(Entry { number, ..entry }),
            None => notes += 1,
        }
        number += 1;
    }
    Ok(Members { entries, notes, trailing: tarball.finish()? })
}

/// The entry of a member; none for the bookkeeping of aufs, which no engine applies.
fn entry(header: Header, data: &mut Tarball<&mut ahead::Ahead>, keep: Wanted<'_>, budget: &mut Budget<'_>) -> Result<Option<Entry>> {
    let Header { kind, size, mode, uid, gid, mtime, major, minor, .. } = header;
    let mut path = path::clean(&header.path)?;
    let mut xattrs = BTreeMap::new();
    for (name, value) in header.xattrs {
        xattrs.insert(path::from_bytes(&name), value);
    }
    let (mut content, mut checksum, mut linkage) = (None, None, LinkageState::default());
    let (folder, name) = (path::parent(&path), path::name(&path));
    // (What aufs kept in a folder at the root is in that folder: hard links may lead there.)
    let below = match folder.split_once('/') {
        _ if !folder.starts_with(BOOKKEEPING) || folder.starts_with(OPAQUE) => folder,
        Some((_, below)) => below,
        None => "",
    };
    // A name that begins so is a deletion (OCI image-spec, layer.md, "Whiteouts"), whatever the tar says that it is: a layer
    // that states such a folder would delete something.
    if let Some(inner) = below.split('/').find(|name| name.starts_with(WHITEOUT)) {
        return Err(broken(format!("{}: nothing can be in the folder {:?}", path::shown(&path), path::shown(inner)))
            .because(format!("a name that begins with {WHITEOUT} stands for a deletion"))
            .hint("call the folder something else where the image is made"));
    }
    let kind = if name == OPAQUE {
        path = folder.to_string();
        Kind::OpaqueWhiteout
    } else if name.starts_with(BOOKKEEPING) {
        return Ok(None);
    } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        if matches!(hidden, "" | "." | "..") {
            return Err(broken(format!("the whiteout {:?} names nothing that can be deleted", path::shown(&path))));
        }
        path = path::join(folder, hidden);
        Kind::Whiteout
    } else {
        match kind {
            b'0' => {
                let want = keep(&path);
                let mut md5 = (want == Want::Facts).then(md5::Md5::default);
                let mut program = ProgramBytes::default();
                if want == Want::Content {
                    budget.keep(&path, size)?;
                    content = Some(Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(1 << 20)));
                }
                let begins = data.begins();
                // (What is empty is known, and read again nowhere.)
                let mut hasher = (want != Want::Nothing || begins.is_none() || size == 0).then(Hasher::default);
                loop {
                    let bytes = data.fill_buf().or_fail(Class::Runtime, || format!("{}: cannot read it", path::shown(&path)))?;
                    let n = bytes.len();
                    if n == 0 {
                        break;
                    }
                    if let Some(hasher) = &mut hasher {
                        hasher.update(bytes);
                    }
                    if let Some(md5) = &mut md5 {
                        md5.update(bytes);
                    }
                    if want == Want::Facts {
                        program.push(bytes);
                    }
                    if let Some(content) = &mut content {
                        content.extend_from_slice(bytes);
                    }
                    data.consume(n);
                }
                if want == Want::Facts {
                    linkage = program.look();
                }
                checksum = md5.map(|md5| md5.finalize().into());
                let sha256 = match (hasher, begins) {
                    (Some(hasher), begins) => begins.map_or_else(FileDigest::holes, FileDigest::unread).read(hasher.finish()),
                    (None, begins) => FileDigest::unread(begins.unwrap_or_default()),
                };
                Kind::File { size, sha256 }
            }
            b'1' => Kind::Hardlink { target: path::clean(&header.link)? },
            b'2' if header.link.len() > 4096 => {
                return Err(broken(format!("{}: the link's target is longer than 4096 bytes", path::shown(&path))));
            }
            b'2' => Kind::Symlink { target: path::from_bytes(&header.link) },
            b'3' => Kind::Char { major, minor },
            b'4' => Kind::Block { major, minor },
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                return Err(broken(format!("{}: the tar type {:?} is none that a layer has", path::shown(&path), char::from(other))));
            }
        }
    };
    if path.is_empty() && !matches!(kind, Kind::Dir | Kind::OpaqueWhiteout) {
        return Err(broken("a member without a name is no folder"));
    }
    Ok(Some(Entry { path, kind, mode, uid, gid, mtime, xattrs, content, md5: checksum, linkage, number: 0, written: None }))
}

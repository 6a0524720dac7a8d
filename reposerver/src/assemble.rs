//! Index files, put together from the catalog's texts. What is not new is copied.
//!
//! An index is cut into blocks of some sixty packages, at places that depend on the packages alone, and each block is
//! compressed by itself. A snapshot remembers its blocks, by the digest of what is in them:
//!
//! ```text
//! packages   a b c d | e f | g h i        cut behind a package whose digest ends with six zero bits
//! the next   a b c d | e f x | g h i      one more package: one block is new
//! gzip       header, deflate of each block up to a sync flush, an empty last block, CRC-32, size: one member
//! zstd       a frame for each block
//! ```
//!
//! So the same packages give the same bytes, whatever was there before.

use crate::catalog::{Pack, Packs, Span};
use crate::workers;
use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Hasher, Result, Sha256};

/// A package's text in an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) package: Sha256,
    pub(crate) text: Span,
}

/// What an index consists of.
pub(crate) struct Outline {
    /// The text in front of all packages, and the one behind them.
    pub(crate) ends: (String, String),
    pub(crate) pack: Pack,
    pub(crate) pieces: Vec<Piece>,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    /// With this level.
    Zstd(i32),
}

impl Packing {
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Packing::Gzip => ".gz",
            Packing::Zstd(_) => ".zst",
        }
    }
}

/// A block of an index: the digest of what is in it, and its bytes in each of the packed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    key: Sha256,
    lengths: Vec<u32>,
}

/// The blocks of a snapshot's indexes, by a name for each.
pub(crate) type Blocks = BTreeMap<String, Vec<Block>>;

/// An index that is there already.
pub(crate) struct Base<'a> {
    pub(crate) blocks: &'a [Block],
    /// The packed files, in the order of the packings; read only where a block of them is wanted.
    pub(crate) read: Box<dyn Fn(usize) -> Option<Bytes> + Sync + 'a>,
}

/// A finished index.
pub(crate) enum Made {
    /// It is what the base is.
    Same,
    New {
        /// Digest and size of the text.
        plain: (Sha256, u64),
        /// The packed files, in the order of the packings, with their digests.
        packed: Vec<(Bytes, Sha256)>,
        blocks: Vec<Block>,
    },
}

/// What a package's digest ends with, at the end of a block, in these bits.
const CUT: u8 = 0x3f;
/// Bytes of text behind which a block ends anyway.
const MOST_TEXT: u64 = 1 << 20;
const GZIP_LEVEL: u32 = 6;
/// Indexes are 2 % larger than with 9, and made in half the time.
pub(crate) const ZSTD_LEVEL: i32 = 6;
/// No name, no date, no flags; an unknown system (RFC 1952).
const GZIP_START: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty block of fixed codes that says it is the last (RFC 1951).
const GZIP_LAST: [u8; 2] = [3, 0];
/// Blocks of an index that is worth a second thread.
const MANY: usize = 8;

/// What a block holds.
enum Content<'a> {
    Text(&'a str),
    Pieces(&'a [Piece]),
}

impl Outline {
    fn contents(&self) -> Vec<Content<'_>> {
        let mut contents = Vec::new();
        let mut rest = self.pieces.as_slice();
        if !self.ends.0.is_empty() {
            contents.push(Content::Text(&self.ends.0));
        }
        while !rest.is_empty() {
            let mut size = 0;
            let is_last = |piece: &Piece| {
                size += u64::from(piece.text.length);
                piece.package.as_bytes()[31] & CUT == 0 || size > MOST_TEXT
            };
            let length = rest.iter().position(is_last).map_or(rest.len(), |at| at + 1);
            let (block, others) = rest.split_at(length);
            contents.push(Content::Pieces(block));
            rest = others;
        }
        if !self.ends.1.is_empty() || contents.is_empty() {
            contents.push(Content::Text(&self.ends.1));
        }
        contents
    }

    fn each_text(&self, content: &Content<'_>, packs: &Packs, mut sink: impl FnMut(&[u8])) -> Result<()> {
        match content {
            Content::Text(text) => {
                sink(text.as_bytes());
                Ok(())
            }
            Content::Pieces(pieces) => {
                let spans: Vec<Span> = pieces.iter().map(|piece| piece.text).collect();
                packs.read(self.pack, &spans, sink)
            }
        }
    }
}

fn key(content: &Content<'_>) -> Sha256 {
    let mut hasher = Hasher::default();
    // What was packed otherwise is packed again.
    hasher.update(&[GZIP_LEVEL.to_le_bytes(), ZSTD_LEVEL.to_le_bytes()].concat());
    match content {
        Content::Text(text) => {
            hasher.update(b"text");
            hasher.update(text.as_bytes());
        }
        Content::Pieces(pieces) => {
            hasher.update(b"packages");
            for piece in *pieces {
                hasher.update(piece.package.as_bytes());
                hasher.update(&piece.text.crc.to_le_bytes());
                hasher.update(&piece.text.length.to_le_bytes());
            }
        }
    }
    hasher.finish()
}

/// Makes an index, and takes from `base` what is in it.
///
/// # Errors
/// A text of the catalog is damaged, or there is no memory.
pub(crate) fn assemble(outline: &Outline, packs: &Arc<Packs>, packings: &[Packing], base: Option<&Base<'_>>) -> Result<Made> {
    let contents = outline.contents();
    let keys: Vec<Sha256> = contents.iter().map(key).collect();
    if base.is_some_and(|base| base.blocks.iter().map(|block| &block.key).eq(&keys)) {
        return Ok(Made::Same);
    }
    let bodies: Option<Vec<Bytes>> = base.and_then(|base| (0..packings.len()).map(|at| (base.read)(at)).collect());
    let there = base.zip(bodies.as_deref()).map(|(base, bodies)| places(base.blocks, packings, bodies)).unwrap_or_default();
    let new: Vec<usize> = (0..keys.len()).filter(|at| !there.contains_key(&keys[*at])).collect();
    // Each block in each packing is work of its own: one package more makes one block new, which has several packings.
    let work: Vec<(usize, Packing)> = new.iter().flat_map(|at| packings.iter().map(|packing| (*at, *packing))).collect();
    let compressed = workers::for_each(&work, |(at, packing)| {
        let mut text = Vec::new();
        outline.each_text(&contents[*at], packs, |part| text.extend_from_slice(part))?;
        compress(*packing, &text).map(Bytes::from)
    })?;
    let mut fresh: HashMap<usize, Vec<Bytes>> = HashMap::with_capacity(new.len());
    for ((at, _), part) in work.into_iter().zip(compressed) {
        fresh.entry(at).or_default().push(part);
    }
    let packed: Vec<Vec<Bytes>> =
        keys.iter().enumerate().map(|(at, key)| fresh.remove(&at).or_else(|| there.get(key).cloned()).unwrap_or_default()).collect();
    let length = |part: &Bytes| u32::try_from(part.len()).unwrap_or(u32::MAX);
    let blocks = keys.iter().zip(&packed).map(|(key, parts)| Block { key: *key, lengths: parts.iter().map(length).collect() }).collect();
    // The text is read once more, to be hashed, while what is packed is put together; its checksum is the end of the gzip
    // file.
    let hash = || {
        let (mut hasher, mut crc, mut size) = (Hasher::default(), Crc::new(), 0_u64);
        for content in &contents {
            outline.each_text(content, packs, |part| {
                hasher.update(part);
                crc.update(part);
                size += part.len() as u64;
            })?;
        }
        Ok((hasher.finish(), size, crc))
    };
    let put_together = || {
        packings.iter().enumerate().map(|(at, packing)| {
            let parts = packed.iter().filter_map(|parts| parts.get(at));
            let mut body = Vec::with_capacity(parts.clone().map(Bytes::len).sum::<usize>() + 32);
            if *packing == Packing::Gzip {
                body.extend(GZIP_START);
            }
            parts.for_each(|part| body.extend_from_slice(part));
            let mut hasher = Hasher::default();
            hasher.update(&body);
            (body, hasher)
        })
    };
    let (hashed, bodies) = workers::both(contents.len() >= MANY, hash, || put_together().collect::<Vec<_>>());
    let (plain, size, crc) = hashed?;
    let packed = packings.iter().zip(bodies).map(|(packing, (mut body, mut hasher))| {
        if *packing == Packing::Gzip {
            let end = body.len();
            body.extend(GZIP_LAST);
            body.extend(crc.sum().to_le_bytes());
            body.extend(crc.amount().to_le_bytes());
            hasher.update(&body[end..]);
        }
        (Bytes::from(body), hasher.finish())
    });
    Ok(Made::New { plain: (plain, size), packed: packed.collect(), blocks })
}

/// Where each block is in packed files.
fn places(blocks: &[Block], packings: &[Packing], bodies: &[Bytes]) -> HashMap<Sha256, Vec<Bytes>> {
    let mut at: Vec<usize> = packings.iter().map(|packing| if *packing == Packing::Gzip { GZIP_START.len() } else { 0 }).collect();
    let mut places = HashMap::with_capacity(blocks.len());
    for block in blocks {
        let mut parts = Vec::with_capacity(bodies.len());
        for ((at, length), body) in at.iter_mut().zip(&block.lengths).zip(bodies) {
            let end = at.saturating_add(*length as usize);
            if end <= body.len() {
                parts.push(body.slice(*at..end));
            }
            *at = end;
        }
        if parts.len() == packings.len() {
            places.insert(block.key, parts);
        }
    }
    places
}

fn compress(packing: Packing, text: &[u8]) -> Result<Vec<u8>> {
    match packing {
        Packing::Zstd(level) => zstd::bulk::compress(text, level).or_fail(Class::System, || "cannot compress an index".into()),
        Packing::Gzip => deflate(text).ok_or_else(|| Error::new(Class::System, "cannot compress an index")),
    }
}

/// Blocks of deflate that end at a byte, and refer to nothing in front of them.
fn deflate(text: &[u8]) -> Option<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(GZIP_LEVEL), false);
    let mut body = Vec::with_capacity(text.len() / 3 + 64);
    loop {
        let rest = text.get(usize::try_from(compress.total_in()).ok()?..)?;
        let status = compress.compress_vec(rest, &mut body, FlushCompress::Sync).ok()?;
        let is_done = compress.total_in() == text.len() as u64 && body.len() < body.capacity();
        match status {
            Status::StreamEnd => return None,
            _ if is_done => return Some(body),
            _ => body.reserve(body.capacity().max(64)),
        }
    }
}

/// What `snapshots/<id>/blocks` starts with.
const START: &[u8; 12] = b"twostage b1\n";

/// The bytes of `snapshots/<id>/blocks`: for each index its name, how many packed files it has, and its blocks; a checksum
/// behind all.
pub(crate) fn write_blocks(blocks: &Blocks) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = START.to_vec();
    for (name, blocks) in blocks {
        let packed = blocks.first().map_or(0, |block| block.lengths.len());
        [name.len(), packed, blocks.len()].into_iter().for_each(|length| bytes.extend(number(length)));
        bytes.extend(name.as_bytes());
        for block in blocks {
            bytes.extend(block.key.as_bytes());
            block.lengths.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
        }
    }
    let mut crc = Crc::new();
    crc.update(&bytes);
    bytes.extend(crc.sum().to_le_bytes());
    bytes
}

/// The blocks in such bytes; nothing where they are damaged.
pub(crate) fn read_blocks(bytes: &[u8]) -> Option<Blocks> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    let mut crc = Crc::new();
    crc.update(body);
    if crc.sum().to_le_bytes() != *sum {
        return None;
    }
    let mut rest = body.strip_prefix(START)?;
    let mut take = |length: usize| {
        let (taken, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(taken)
    };
    let mut all = Blocks::new();
    while let Some(length) = take(4) {
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
        let (length, packed, count) = (number(length)?, number(take(4)?)?, number(take(4)?)?);
        let name = std::str::from_utf8(take(length as usize)?).ok()?.to_string();
        let mut blocks = Vec::new();
        for _ in 0..count {
            let key = Sha256::from_bytes(take(32)?.try_into().ok()?);
            let lengths = (0..packed).map(|_| number(take(4)?)).collect::<Option<_>>()?;
            blocks.push(Block { key, lengths });
        }
        all.insert(name, blocks);
    }
    Some(all)
}

/// Those indexes of a snapshot that another one has, too.
pub(crate) fn keep_same(all: &mut Blocks, name: &str, base: &Blocks) {
    if let Some(blocks) = base.get(name) {
        all.insert(name.to_string(), blocks.clone());
    }
}

/// The text in a packed file, which has `size` bytes; nothing where it has not.
pub(crate) fn unpack(packing: Packing, body: &[u8], size: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let most = size.checked_add(1)?;
    match packing {
        Packing::Gzip => flate2::read::MultiGzDecoder::new(body).take(most).read_to_end(&mut text).ok()?,
        Packing::Zstd(_) => zstd::stream::read::Decoder::new(body).ok()?.take(most).read_to_end(&mut text).ok()?,
    };
    (text.len() as u64 == size).then_some(text)
}

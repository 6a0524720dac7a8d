//! What is in a layer, as a file that can be thrown away: so that the layers of a base are walked once.
//!
//! ```text
//! "twostage layer 2\n" │ diff_id │ size │ notes, trailing, folders again │ duplicates │ entries │ SHA-256 of all before
//! ```
//!
//! Numbers are LEB128, texts and bytes have their length before them. A file that is cut off, changed, of another version or
//! of another layer is as none. What of digests is not known stays so: the layer's tar has the bytes. How files are linked
//! is not in it, for the same reason.

use crate::image::{Duplicate, Entry, FileDigest, Ignored, Kind, Layer};
use std::collections::BTreeMap;
use twostage_linking::LinkageState;
use twostage_model::Sha256;

/// The format. Any change in what a layer is read as is a new one.
const MAGIC: &[u8] = b"twostage layer 2\n";
/// Bytes of a digest.
const DIGEST: usize = 32;

/// The file of a layer.
pub(crate) fn bytes(layer: &Layer) -> Vec<u8> {
    let mut out = Out(MAGIC.to_vec());
    out.0.extend_from_slice(layer.diff_id.as_bytes());
    let Ignored { duplicates, folders_again, notes, trailing } = &layer.ignored;
    [layer.size, *notes, *trailing, *folders_again, duplicates.len() as u64].into_iter().for_each(|number| out.number(number));
    for Duplicate { path, bytes } in duplicates {
        out.bytes(path.as_bytes());
        out.number(*bytes);
    }
    out.number(layer.entries.len() as u64);
    layer.entries.iter().for_each(|entry| out.entry(entry));
    let sum = Sha256::of(&out.0);
    out.0.extend_from_slice(sum.as_bytes());
    out.0
}

/// The layer of a file; none, if it is not that layer's, whose tar has `size` bytes.
pub(crate) fn layer(bytes: &[u8], diff_id: &Sha256, size: u64) -> Option<Layer> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::of(body).as_bytes() != sum {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?.strip_prefix(diff_id.as_bytes())?;
    let mut rest = In(rest);
    let (is, notes, trailing, folders_again, count) = (rest.number()?, rest.number()?, rest.number()?, rest.number()?, rest.number()?);
    let mut duplicates = Vec::new();
    for _ in 0..count {
        duplicates.push(Duplicate { path: rest.text()?, bytes: rest.number()? });
    }
    let count = rest.number()?;
    // (Each takes more than ten bytes.)
    let mut entries = Vec::with_capacity(usize::try_from(count).ok()?.min(body.len() / 10));
    for _ in 0..count {
        entries.push(rest.entry()?);
    }
    let whole = rest.0.is_empty() && is == size;
    whole.then_some(Layer { diff_id: *diff_id, size, entries, ignored: Ignored { duplicates, folders_again, notes, trailing } })
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn perhaps(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.0.push(1);
                self.bytes(bytes);
            }
            None => self.0.push(0),
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let Entry { path, kind, mode, uid, gid, mtime, xattrs, content, md5, number, written, linkage: _ } = entry;
        self.bytes(path.as_bytes());
        let what = match kind {
            Kind::File { .. } => b'0',
            Kind::Hardlink { .. } => b'1',
            Kind::Symlink { .. } => b'2',
            Kind::Char { .. } => b'3',
            Kind::Block { .. } => b'4',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
            Kind::Whiteout => b'w',
            Kind::OpaqueWhiteout => b'o',
        };
        self.0.push(what);
        match kind {
            Kind::File { size, sha256 } => {
                self.number(*size);
                self.perhaps(sha256.known().as_ref().map(|digest| &digest.as_bytes()[..]));
                // (0 is no place of data: a header stands there.)
                self.number(sha256.at().unwrap_or(0));
            }
            Kind::Hardlink { target } | Kind::Symlink { target } => self.bytes(target.as_bytes()),
            Kind::Char { major, minor } | Kind::Block { major, minor } => {
                [*major, *minor].into_iter().for_each(|number| self.number(number))
            }
            Kind::Dir | Kind::Fifo | Kind::Whiteout | Kind::OpaqueWhiteout => {}
        }
        [u64::from(*mode), *uid, *gid, mtime.cast_unsigned(), *number, xattrs.len() as u64]
            .into_iter()
            .for_each(|number| self.number(number));
        for (name, value) in xattrs {
            self.bytes(name.as_bytes());
            self.bytes(value);
        }
        self.perhaps(content.as_deref());
        self.perhaps(md5.as_ref().map(|md5| &md5[..]));
        self.perhaps(written.as_ref().map(|path| path.as_bytes()));
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// The outer none is a file that is none.
    fn perhaps(&mut self) -> Option<Option<&'a [u8]>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.bytes().map(Some),
            _ => None,
        }
    }

    fn entry(&mut self) -> Option<Entry> {
        let path = self.text()?;
        let kind = match self.byte()? {
            b'0' => {
                let size = self.number()?;
                let is = match self.perhaps()? {
                    Some(digest) => Some(Sha256::from_bytes(digest.try_into().ok()?)),
                    None => None,
                };
                let digest = match self.number()? {
                    0 => FileDigest::holes(),
                    at => FileDigest::unread(at),
                };
                Kind::File { size, sha256: is.map_or(digest, |is| digest.read(is)) }
            }
            b'1' => Kind::Hardlink { target: self.text()? },
            b'2' => Kind::Symlink { target: self.text()? },
            b'3' => Kind::Char { major: self.number()?, minor: self.number()? },
            b'4' => Kind::Block { major: self.number()?, minor: self.number()? },
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            b'w' => Kind::Whiteout,
            b'o' => Kind::OpaqueWhiteout,
            _ => return None,
        };
        let mode = u32::try_from(self.number()?).ok()?;
        let (uid, gid, mtime, number, count) =
            (self.number()?, self.number()?, self.number()?.cast_signed(), self.number()?, self.number()?);
        let mut xattrs = BTreeMap::new();
        for _ in 0..count {
            xattrs.insert(self.text()?, self.bytes()?.to_vec());
        }
        let content = self.perhaps()?.map(<[u8]>::to_vec);
        let md5 = match self.perhaps()? {
            Some(md5) => Some(md5.try_into().ok()?),
            None => None,
        };
        let written = match self.perhaps()? {
            Some(path) => Some(String::from_utf8(path.to_vec()).ok()?.into_boxed_str()),
            None => None,
        };
        Some(Entry { path, kind, mode, uid, gid, mtime, xattrs, content, md5, number, written, linkage: LinkageState::Unread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Layer {
        let entry = |path: &str, kind: Kind| Entry { path: path.into(), ..Entry::bare(kind) };
        let text = |target: &str| target.to_string();
        let digest = Sha256::of(b"known");
        let mut entries = vec![
            entry("a", Kind::File { size: 5, sha256: digest.into() }),
            entry("b", Kind::File { size: 5, sha256: FileDigest::unread(512).read(digest) }),
            entry("c", Kind::File { size: u64::MAX, sha256: FileDigest::unread(1 << 40) }),
            entry("d", Kind::Hardlink { target: text("a") }),
            entry("e", Kind::Symlink { target: text("../\u{e4}") }),
            entry("f", Kind::Char { major: 1, minor: 300 }),
            entry("g", Kind::Block { major: 8, minor: 0 }),
            entry("", Kind::Dir),
            entry("h", Kind::Fifo),
            entry("i", Kind::Whiteout),
            entry("j", Kind::OpaqueWhiteout),
        ];
        entries[0].content = Some(b"known".to_vec());
        entries[1].md5 = Some([7; 16]);
        entries[2] = Entry { mtime: -1, mode: 0o4755, uid: 1 << 40, gid: 3, number: 77, ..entries[2].clone() };
        entries[3].written = Some("x/d".into());
        entries[4].xattrs = BTreeMap::from([("user.a".into(), vec![0, 255]), ("user.b".into(), Vec::new())]);
        let duplicates = vec![Duplicate { path: "twice".into(), bytes: 9 }];
        Layer {
            diff_id: Sha256::of(b"tar"),
            size: 10_240,
            entries,
            ignored: Ignored { duplicates, folders_again: 1, notes: 2, trailing: 3 },
        }
    }

    #[test]
    fn a_layer_comes_back_as_it_was() {
        let there = example();
        let back = layer(&bytes(&there), &there.diff_id, there.size).expect("a layer");
        assert_eq!(format!("{there:?}"), format!("{back:?}"));
    }

    #[test]
    fn what_is_damaged_or_of_another_layer_is_none() {
        let there = example();
        let good = bytes(&there);
        assert!(layer(&good, &Sha256::of(b"another"), there.size).is_none());
        assert!(layer(&good, &there.diff_id, there.size + 1).is_none());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert!(layer(&bad, &there.diff_id, there.size).is_none(), "byte {at}");
            assert!(layer(&good[..at], &there.diff_id, there.size).is_none(), "cut off at {at}");
        }
    }

    #[test]
    fn a_checksum_that_is_right_makes_no_layer_of_what_is_none() {
        let there = example();
        let good = bytes(&there);
        let body = &good[..good.len() - DIGEST];
        for at in MAGIC.len() + DIGEST..body.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = body.to_vec();
                bad[at] = value;
                bad.extend_from_slice(Sha256::of(&bad).as_bytes());
                // (It may be another layer, but nothing panics, and no number is believed.)
                let _ = layer(&bad, &there.diff_id, there.size);
            }
        }
    }
}

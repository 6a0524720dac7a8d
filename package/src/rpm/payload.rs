//! The payload, unpacked once as rpm would unpack it: what it brings is what the header lists.
//!
//! ```text
//! compressed  by gzip, xz, zstd, bzip2, lzma, or not at all
//! cpio        an entry for every file of the header but ghosts, in any order
//! content     of plain files the bytes, of hardlinked ones with the last alone; of symlinks the target
//! trailer     and then nothing but zeros
//! ```
//!
//! The rules are those of `iterReadArchiveNext` and `rpmfiArchiveReadToFilePsm` in rpm's `lib/rpmfi.c`.
//! Stricter: nothing is there twice, and types and targets are also what the header says, because
//! `rpm2cpio` goes by the archive and rpm by the header.

use super::contents::{FILE_GHOST, PLAIN, SYMLINK, TYPE, digest_algorithm, each_path};
use super::cpio;
use super::header::{Header, tag};
use crate::archive::{self, Compression};
use crate::{Check, shown};
use md5::digest::DynDigest;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use twostage_model::Sha256;

/// One file that the header lists.
pub(super) struct Listed<'h> {
    /// Its place in the list.
    pub(super) index: usize,
    mode: u32,
    /// Bytes.
    size: u64,
    digest: &'h [u8],
    link: &'h [u8],
    is_ghost: bool,
    /// A plain file whose bytes are with another of its hardlinks.
    is_elsewhere: bool,
    /// It was in the payload.
    found: bool,
}

/// Checks that the payload is whole and that its files are those of the header, byte by byte where the
/// header has their digests.
///
/// Where it has none, it must have one of the whole payload: whoever checks only the header, as the RUN
/// does, then still gets no other bytes.
pub(super) fn check(header: &Header, input: &mut impl BufRead) -> Check<()> {
    let algorithm = header.number(tag::FILEDIGESTALGO).unwrap_or_default();
    let mut hasher = digest_algorithm(header).hasher();
    let has_whole = header.has(tag::PAYLOADDIGEST);
    walk(header, input, &mut |file, content| {
        let kind = file.mode & TYPE;
        if file.is_ghost || file.is_elsewhere {
            return Ok(());
        }
        if kind == SYMLINK {
            let mut target = Vec::new();
            content.take(file.link.len() as u64 + 1).read_to_end(&mut target).map_err(|error| error.to_string())?;
            return if target == file.link { Ok(()) } else { Err(format!("leads to {} and not where the header says", shown(target))) };
        }
        match (kind == PLAIN, file.digest.is_empty(), &mut hasher) {
            (false, ..) => Ok(()),
            (true, true, _) if has_whole || file.size == 0 => Ok(()),
            (true, true, _) => Err("has no digest in the header, nor has the payload".into()),
            (true, false, None) => Err(format!("has a digest by algorithm {algorithm}, which is not known")),
            (true, false, Some(hasher)) => {
                let digest = digest_of(content, &mut **hasher)?;
                let same = file.digest.eq_ignore_ascii_case(digest.as_bytes());
                if same { Ok(()) } else { Err("has other bytes than by its digest in the header".into()) }
            }
        }
    })
}

fn digest_of(content: &mut dyn Read, hasher: &mut dyn DynDigest) -> Check<String> {
    let mut buffer = [0; 16 << 10];
    loop {
        match archive::fill(content, &mut buffer).map_err(|error| error.to_string())? {
            0 => return Ok(super::hex(&hasher.finalize_reset())),
            got => hasher.update(buffer.get(..got).unwrap_or_default()),
        }
    }
}

/// Unpacks the payload and shows `on_file` each file and its content, of which it may leave some.
pub(super) fn walk<'h>(
    header: &'h Header,
    input: &mut impl BufRead,
    on_file: &mut dyn FnMut(&Listed<'h>, &mut dyn Read) -> Check<()>,
) -> Check<()> {
    let walked = list(header).and_then(|(mut files, by_path)| {
        let used = Cell::new(0);
        let compression = compression(header, input)?;
        let unpacked = archive::unpack(&mut *input, &used, compression, archive::MAX_DATA)?;
        let mut unpacked = BufReader::with_capacity(64 << 10, unpacked);
        let is_source = !header.has(tag::SOURCERPM);
        while let Some(entry) = cpio::next(&mut unpacked)? {
            let index = match &entry.name {
                cpio::Name::Path(path) => by_path.get(&Sha256::of(&owned_path(path, is_source))).copied(),
                cpio::Name::Index(index) => Some(*index),
            };
            let file = index.and_then(|index| files.get_mut(index));
            let file = file.ok_or_else(|| format!("{} is not among the files of its header", entry.name))?;
            take(file, &entry, &mut unpacked, on_file).map_err(|why| format!("{} {why}", entry.name))?;
        }
        if let Some(missing) = files.iter().find(|file| !file.found && !file.is_ghost) {
            return Err(format!("{} is not in it", shown(path(header, missing.index))));
        }
        // The decoder has its sums behind the trailer.
        zeros(&mut unpacked)
    });
    let more = |input: &mut dyn BufRead| input.fill_buf().map(|rest| !rest.is_empty()).map_err(|error| error.to_string());
    walked
        .and_then(|()| if more(input)? { Err("more bytes follow its end".into()) } else { Ok(()) })
        .map_err(|why| format!("its payload: {why}"))
}

/// Shows one file.
fn take<'h>(
    file: &mut Listed<'h>,
    entry: &cpio::Entry,
    input: &mut impl BufRead,
    on_file: &mut dyn FnMut(&Listed<'h>, &mut dyn Read) -> Check<()>,
) -> Check<()> {
    if std::mem::replace(&mut file.found, true) {
        return Err("is there twice".into());
    }
    let kind = file.mode & TYPE;
    // What rpm takes a stripped entry to bring (`iterReadArchiveNext`).
    let listed = if matches!(kind, PLAIN | SYMLINK) && !file.is_elsewhere { file.size } else { 0 };
    let (mode, size) = entry.about.unwrap_or((file.mode, listed));
    if mode & TYPE != kind {
        return Err(format!("is of type {:o} where the header says {:o}", mode & TYPE, kind));
    }
    if size != listed && kind != SYMLINK && !file.is_ghost {
        return Err(format!("has {size} bytes where the header says {listed}"));
    }
    let mut content = input.take(size);
    let judged = on_file(file, &mut content);
    let rest = io::copy(&mut content, &mut io::sink());
    if rest.is_ok() && content.limit() > 0 {
        return Err("is cut off".into());
    }
    judged.and(rest.map(drop).map_err(|error| error.to_string()))?;
    cpio::pad(input, size)
}

/// The files of the header, and their indexes by the digests of their paths.
fn list(header: &Header) -> Check<(Vec<Listed<'_>>, HashMap<Sha256, usize>)> {
    let mut modes = header.each_number(tag::FILEMODES);
    let mut sizes = header.each_number(if header.has(tag::LONGFILESIZES) { tag::LONGFILESIZES } else { tag::FILESIZES });
    let mut flags = header.each_number(tag::FILEFLAGS);
    let mut digests = header.strings(tag::FILEDIGESTS);
    let mut links = header.strings(tag::FILELINKTOS);
    let mut inodes = header.each_number(tag::FILEDEVICES).zip(header.each_number(tag::FILEINODES));
    let (mut by_path, mut last) = (HashMap::new(), HashMap::new());
    let mut files: Vec<Listed<'_>> = Vec::new();
    each_path(header, |path| {
        let index = files.len();
        let path = path.concat();
        if by_path.insert(Sha256::of(&path), index).is_some() {
            return Err(format!("the header has {} twice", shown(path)));
        }
        let mode = modes.next().and_then(|mode| u32::try_from(mode).ok()).unwrap_or_default();
        let is_ghost = flags.next().unwrap_or_default() & u64::from(FILE_GHOST) != 0;
        if let Some(inode) = inodes.next().filter(|_| mode & TYPE == PLAIN && !is_ghost) {
            // Of hardlinks the last one brings the bytes (`rpmfiArchiveHasContent`).
            if let Some(before) = last.insert(inode, index).and_then(|before: usize| files.get_mut(before)) {
                before.is_elsewhere = true;
            }
        }
        files.push(Listed {
            index,
            mode,
            size: sizes.next().unwrap_or_default(),
            digest: digests.next().unwrap_or_default(),
            link: links.next().unwrap_or_default(),
            is_ghost,
            is_elsewhere: false,
            found: false,
        });
        Ok(())
    })?;
    Ok((files, by_path))
}

fn path(header: &Header, index: usize) -> Vec<u8> {
    let (mut at, mut found) = (0, Vec::new());
    // It went through the same list before.
    let _ = each_path(header, |path| {
        if at == index {
            found = path.concat();
        }
        at += 1;
        Ok(())
    });
    found
}

/// The path in the header: rpm writes `./usr/bin/x` into the payload, others `/usr/bin/x` or
/// `usr/bin/x`; of a source package it is the bare name.
fn owned_path(path: &[u8], is_source: bool) -> Vec<u8> {
    let bare = path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")).unwrap_or(path);
    if is_source { bare.to_vec() } else { [b"/", bare].concat() }
}

fn zeros(input: &mut impl BufRead) -> Check<()> {
    loop {
        let rest = input.fill_buf().map_err(|error| error.to_string())?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err("more bytes follow its trailer".into());
        }
        let count = rest.len();
        input.consume(count);
    }
}

/// How the payload is packed.
fn compression(header: &Header, input: &mut impl BufRead) -> Check<Compression> {
    let said = header.text(tag::PAYLOADCOMPRESSOR);
    Ok(match said.as_deref() {
        // rpm reads both through zlib, which passes on what is not gzip.
        None | Some("gzip") => {
            let start = input.fill_buf().map_err(|error| error.to_string())?;
            if start.starts_with(&[0x1f]) { Compression::Gzip } else { Compression::None }
        }
        Some("none" | "identity") => Compression::None,
        Some("xz") => Compression::Xz,
        Some("zstd") => Compression::Zstd,
        Some("bzip2") => Compression::Bzip2,
        Some("lzma") => Compression::Lzma,
        Some(other) => return Err(format!("it is packed by {}, which is not known", shown(other))),
    })
}

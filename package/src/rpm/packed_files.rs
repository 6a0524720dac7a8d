//! The files of an rpm, one after the other.

use super::contents::{FILE_GHOST, PLAIN, SYMLINK, TYPE, each_path, files};
use super::header::tag;
use super::{Start, Watched, payload};
use crate::Check;
use crate::archive::Stop;
use crate::packed_files::PackedFile;
use std::collections::BTreeMap;
use std::io::{BufReader, Read};

/// The paths of all files.
pub(crate) fn paths(input: &mut impl Read) -> Result<Vec<Vec<u8>>, Stop> {
    let header = Start::read(input)?.header;
    let mut paths = Vec::new();
    let read = each_path(&header, |path| {
        paths.push(path.concat());
        Ok(())
    });
    read.map(|()| paths).map_err(Stop::Refused)
}

/// As [`crate::packed_files::each_file`].
pub(crate) fn each_file(input: &mut impl Read, each: &mut dyn FnMut(PackedFile, &mut dyn Read) -> Check<()>) -> Result<(), Stop> {
    let Start { header, blob, .. } = Start::read(input)?;
    drop(blob);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let listed = files(&header);
    // Of hardlinks the last one brings the bytes.
    let mut inodes = header.each_number(tag::FILEDEVICES).zip(header.each_number(tag::FILEINODES));
    let (mut bearers, mut ids) = (BTreeMap::new(), Vec::new());
    for (index, file) in listed.iter().enumerate() {
        let id = inodes.next().filter(|_| file.mode & TYPE == PLAIN && file.flags & FILE_GHOST == 0);
        ids.push(id);
        if let Some(id) = id {
            bearers.insert(id, index);
        }
    }
    let bearer = |index: usize| ids.get(index).copied().flatten().and_then(|id| bearers.get(&id)).filter(|at| **at != index);
    let mut input = BufReader::with_capacity(128 << 10, Watched { inner: input, failure: None });
    let walked = payload::walk(&header, &mut input, &mut |at, content| {
        let Some(file) = listed.get(at.index).filter(|file| file.flags & FILE_GHOST == 0) else { return Ok(()) };
        let link = match file.mode & TYPE {
            PLAIN => bearer(at.index).and_then(|index| listed.get(*index)).map(|other| text(&other.path)),
            SYMLINK => Some(text(&file.link)),
            _ => return Ok(()),
        };
        each(PackedFile { path: text(&file.path).trim_start_matches('/').to_string(), size: file.size, link }, content)
    });
    match input.into_inner().failure {
        Some(error) => Err(Stop::Unreadable(error)),
        None => walked.map_err(Stop::Refused),
    }
}

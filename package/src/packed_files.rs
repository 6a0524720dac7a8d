//! The files of a package, one after the other, and the names by which others find its libraries, for whoever looks into
//! packages before they are installed.
//!
//! ```text
//! deb   data.tar            files, links          control.tar   shlibs (deb-shlibs(5)), md5sums
//! rpm   payload             files                 header        all paths, links
//! ```

use crate::archive::{self, Entry, Kind, Stop, Visit};
use crate::{Check, deb, rpm};
use std::collections::BTreeSet;
use std::io::Read;
use twostage_model::Result;

/// Bytes of a list in a control archive.
const MAX_LIST: u64 = 64 << 20;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    /// Without a slash at either end.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Where a link leads; what is the same file as another one is a link to it here.
    pub link: Option<String>,
}

/// Shows each file and link of a package, a deb or an rpm, and its content. What `each` leaves of a content is skipped.
///
/// # Errors
/// Class `Repository` if it does not unpack, or with what `each` says; class `System` if `input` cannot be read.
pub fn each_file(input: impl Read, hint: &str, each: &mut dyn FnMut(PackedFile, &mut dyn Read) -> Check<()>) -> Result<()> {
    let walked = opened(input).and_then(|(is_rpm, mut input)| match is_rpm {
        true => rpm::each_file(&mut input, each),
        false => archive::walk(input, &mut PackedFileVisit(each)).map(drop),
    });
    walked.map_err(|stop| deb::stopped(stop, hint))
}

/// The names of a package's libraries, as far as it says them without being unpacked: too many rather than too few.
/// Of a file `libx.so.1.2` these are `libx.so.1.2`, `libx.so.1` and `libx.so`.
///
/// # Errors
/// As [`each_file`], of what is in front of the payload.
pub fn library_names(input: impl Read, hint: &str) -> Result<BTreeSet<String>> {
    let read = opened(input).and_then(|(is_rpm, mut input)| match is_rpm {
        true => {
            let mut names = BTreeSet::new();
            for path in rpm::paths(&mut input)? {
                add_names(&mut names, &path);
            }
            Ok(names)
        }
        false => {
            let mut visitor = LibraryNameVisit::default();
            archive::walk(input, &mut visitor).map(|_| visitor.0)
        }
    });
    read.map_err(|stop| deb::stopped(stop, hint))
}

/// Whether it is an rpm, and all of it.
fn opened<R: Read>(mut input: R) -> std::result::Result<(bool, impl Read), Stop> {
    let mut start = Vec::new();
    (&mut input).take(4).read_to_end(&mut start).map_err(Stop::Unreadable)?;
    let is_rpm = rpm::looks_like_rpm(&start);
    Ok((is_rpm, std::io::Cursor::new(start).chain(input)))
}

/// The names of the library at a path, if it has one's name.
fn add_names(names: &mut BTreeSet<String>, path: &[u8]) {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Ok(name) = std::str::from_utf8(name) else { return };
    let Some((before, after)) = name.split_once(".so") else { return };
    let mut short = format!("{before}.so");
    names.insert(short.clone());
    for part in after.strip_prefix('.').into_iter().flat_map(|versions| versions.split('.')).take(8) {
        short = format!("{short}.{part}");
        names.insert(short.clone());
    }
    names.insert(name.to_string());
}

struct PackedFileVisit<'a>(&'a mut dyn FnMut(PackedFile, &mut dyn Read) -> Check<()>);

impl Visit for PackedFileVisit<'_> {
    fn control(&mut self, _: &Entry, _: &mut dyn Read) -> Check<()> {
        Ok(())
    }

    fn data(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let link = match entry.kind {
            Kind::Dir => return Ok(()),
            Kind::File => None,
            Kind::Symlink => Some(text(&entry.link)),
            Kind::Hardlink => Some(format!("/{}", text(&entry.link).trim_start_matches("./"))),
        };
        (self.0)(PackedFile { path: text(&entry.path), size: entry.size, link }, content)
    }
}

#[derive(Default)]
struct LibraryNameVisit(BTreeSet<String>);

impl Visit for LibraryNameVisit {
    fn control(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        let is_shlibs = entry.path == b"shlibs";
        if !is_shlibs && entry.path != b"md5sums" {
            return Ok(());
        }
        let mut list = Vec::new();
        content.take(MAX_LIST).read_to_end(&mut list).map_err(|error| error.to_string())?;
        for line in list.split(|byte| *byte == b'\n') {
            if !is_shlibs {
                add_names(&mut self.0, line);
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let mut words = line.split_whitespace().filter(|word| !word.ends_with(':'));
            if let (Some(library), Some(version)) = (words.next(), words.next()) {
                // `libx.so.1` and `libx-1.so` are written alike.
                self.0.extend([format!("{library}.so.{version}"), format!("{library}-{version}.so")]);
            }
        }
        Ok(())
    }

    fn data(&mut self, _: &Entry, _: &mut dyn Read) -> Check<()> {
        Ok(())
    }

    fn wants_data(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::rpm::write::{NewRpm, write_rpm};
    use crate::testing::CONTROL;
    use crate::write::{FileEntry, write_deb};

    fn packages() -> Vec<Vec<u8>> {
        let file = |path: &str, content: &str| FileEntry { path: path.into(), mode: 0o644, content: content.into() };
        let files = [file("/usr/bin/app", "program"), file("/usr/lib/libx.so.1.2", "library")];
        let rpm = NewRpm {
            name: "app".into(),
            version: "1".into(),
            release: "1".into(),
            arch: "noarch".into(),
            summary: "app".into(),
            license: "MIT".into(),
            description: "app".into(),
            requires: Vec::new(),
            provides: Vec::new(),
        };
        let deb = write_deb(&Control::parse(CONTROL).expect("it is one"), &files, &[], 0).expect("a deb");
        vec![deb, write_rpm(&rpm, &files, 0).expect("an rpm")]
    }

    #[test]
    fn the_files_of_both_kinds_are_shown_alike() {
        for package in packages() {
            let mut seen = Vec::new();
            each_file(package.as_slice(), "app", &mut |file, content| {
                let mut text = String::new();
                content.read_to_string(&mut text).map_err(|error| error.to_string())?;
                seen.push((file.path, file.size, file.link, text));
                Ok(())
            })
            .expect("it unpacks");
            let file = |path: &str, text: &str| (path.to_string(), 7, None, text.to_string());
            assert_eq!(seen, [file("usr/bin/app", "program"), file("usr/lib/libx.so.1.2", "library")]);
            assert!(each_file(&package[..package.len() - 600], "app", &mut |_, _| Ok(())).is_err(), "it is cut off");
        }
    }

    #[test]
    fn what_a_package_says_of_its_libraries_is_known_without_unpacking_it() {
        for package in packages() {
            let names = library_names(package.as_slice(), "app").expect("it can be read");
            assert!(!names.iter().any(|name| name == "app"), "{names:?}");
        }
        let mut names = BTreeSet::new();
        add_names(&mut names, b"d41d  usr/lib/libx.so.1.2");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["libx.so", "libx.so.1", "libx.so.1.2"]);
    }
}

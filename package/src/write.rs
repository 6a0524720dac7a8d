//! Writes small packages: same input, same bytes, on every machine and with every version of the
//! libraries below us.
//!
//! ```text
//! debian-binary   "2.0\n"
//! control.tar.gz  ./ ./conffiles ./control ./md5sums
//! data.tar.gz     ./ ./etc/ ./etc/app.conf …   root:root, GNU tar, sorted by path
//! ```
//!
//! The gzip members hold *stored* blocks: a compressor's output may change with its next release,
//! and these bytes are a package's identity. Every dpkg since 1999 reads them.

use crate::archive::{BLOCK, Kind};
use crate::control::Control;
use crate::{Check, shown};
use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};
use twostage_model::{Class, Error, Result};

/// The largest time that eleven octal digits of a tar header hold.
const MAX_DATE: i64 = 0o77_777_777_777;

/// One file of a package to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute, without `.`, `..` and doubled slashes.
    pub path: String,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Writes a `.deb` of files that belong to root:root; their folders are entries of mode 0755.
///
/// `control` is written as it is given, `conffiles` are paths of `files`, `date` (seconds since
/// 1970) is every mtime.
///
/// # Errors
/// Class `Repository`: `control` would be refused by [`crate::deb::read`], a path is not plain or
/// there twice or below another file, a conffile is not among the files, or a date or mode does
/// not fit its field.
pub fn write_deb(control: &Control, files: &[FileEntry], conffiles: &[String], date: i64) -> Result<Vec<u8>> {
    write(control, files, conffiles, date).map_err(|why| {
        let name = control.get("Package").unwrap_or("a package without a name");
        Error::new(Class::Repository, format!("{name} cannot be written: {why}"))
    })
}

fn write(control: &Control, files: &[FileEntry], conffiles: &[String], date: i64) -> Check<Vec<u8>> {
    crate::deb::check(control)?;
    // `set` and `parse` both keep stanzas well formed, so this only guards against our own errors.
    Control::parse(&control.to_string()).map_err(|error| error.to_string())?;
    if !(0..=MAX_DATE).contains(&date) {
        return Err(format!("the date {date} does not fit into a tar header"));
    }
    let mut contents = BTreeMap::new();
    for file in files {
        let path = plain(&file.path)?;
        if file.mode > 0o7777 {
            return Err(format!("{}: the mode {:o} has more than permission bits", file.path, file.mode));
        }
        if contents.insert(path, file).is_some() {
            return Err(format!("{} is there twice", file.path));
        }
    }
    let mut folders = BTreeSet::new();
    for path in contents.keys() {
        for (end, _) in path.match_indices('/') {
            let folder = path.get(..end).unwrap_or_default();
            if contents.contains_key(folder) {
                return Err(format!("/{folder} is a file, and /{path} is below it"));
            }
            folders.insert(folder);
        }
    }
    let listed: BTreeSet<&str> = conffiles.iter().map(String::as_str).collect();
    if let Some(path) = listed.iter().find(|path| !plain(path).is_ok_and(|path| contents.contains_key(path))) {
        return Err(format!("the conffile {} is not one of its files", shown(path)));
    }

    let mut data = Tar::new(date);
    let paths: BTreeSet<&str> = folders.iter().chain(contents.keys()).copied().collect();
    let mut md5sums = String::new();
    for path in paths {
        match contents.get(path) {
            None => data.add(&TarEntry { path: &format!("./{path}/"), kind: Kind::Dir, mode: 0o755, link: "", content: &[] }),
            Some(file) => {
                data.add(&TarEntry { path: &format!("./{path}"), kind: Kind::File, mode: file.mode, link: "", content: &file.content });
                // dpkg keeps the sums of conffiles itself, so debhelper leaves them out too.
                if !listed.contains(file.path.as_str()) {
                    let digest: String = Md5::digest(&file.content).iter().map(|byte| format!("{byte:02x}")).collect();
                    md5sums.push_str(&format!("{digest}  {path}\n"));
                }
            }
        }
    }
    let conffiles: String = listed.iter().map(|path| format!("{path}\n")).collect();
    let mut members = Tar::new(date);
    for (name, text) in [("conffiles", conffiles), ("control", control.to_string()), ("md5sums", md5sums)] {
        if !text.is_empty() {
            members.add(&TarEntry { path: &format!("./{name}"), kind: Kind::File, mode: 0o644, link: "", content: text.as_bytes() });
        }
    }
    ar(
        &[("debian-binary", b"2.0\n"), ("control.tar.gz", &gzip_stored(&members.finish())), ("data.tar.gz", &gzip_stored(&data.finish()))],
        date,
    )
}

/// An absolute path without its slash.
pub(crate) fn plain(path: &str) -> Check<&str> {
    let rest = path.strip_prefix('/').ok_or_else(|| format!("{} is not an absolute path", shown(path)))?;
    let good = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    if rest.len() > 4000 || !rest.split('/').all(good) {
        return Err(format!("{} is not a plain path", shown(path)));
    }
    Ok(rest)
}

/// One entry of a [`Tar`], owned by root:root.
pub(crate) struct TarEntry<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) link: &'a str,
    pub(crate) content: &'a [u8],
}

/// Writes a GNU tar, which starts with its root folder, as dpkg-deb's do.
pub(crate) struct Tar {
    bytes: Vec<u8>,
    date: i64,
}

impl Tar {
    pub(crate) fn new(date: i64) -> Tar {
        let mut tar = Tar { bytes: Vec::new(), date };
        tar.add(&TarEntry { path: "./", kind: Kind::Dir, mode: 0o755, link: "", content: &[] });
        tar
    }

    pub(crate) fn add(&mut self, entry: &TarEntry<'_>) {
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::Hardlink => b'1',
            Kind::Symlink => b'2',
            Kind::Dir => b'5',
        };
        for (kind, name) in [(b'K', entry.link), (b'L', entry.path)] {
            if name.len() > 100 {
                let content = [name.as_bytes(), b"\0"].concat();
                self.raw(kind, b"././@LongLink", b"", 0o644, 0, &content);
            }
        }
        self.raw(kind, entry.path.as_bytes(), entry.link.as_bytes(), entry.mode, self.date, entry.content);
    }

    pub(crate) fn raw(&mut self, kind: u8, path: &[u8], link: &[u8], mode: u32, date: i64, content: &[u8]) {
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, most: usize, bytes: &[u8]| {
            for (to, from) in header.iter_mut().skip(at).zip(bytes.iter().take(most)) {
                *to = *from;
            }
        };
        put(0, 100, path);
        put(100, 8, format!("{mode:07o}\0").as_bytes());
        put(108, 8, b"0000000\0");
        put(116, 8, b"0000000\0");
        put(124, 12, format!("{:011o}\0", content.len()).as_bytes());
        put(136, 12, format!("{date:011o}\0").as_bytes());
        put(148, 8, b"        ");
        put(156, 1, &[kind]);
        put(157, 100, link);
        put(257, 8, b"ustar  \0");
        put(265, 32, b"root");
        put(297, 32, b"root");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        for (to, from) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = from;
        }
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The bytes, padded to GNU tar's record of 20 blocks.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() + 2 * BLOCK).next_multiple_of(20 * BLOCK);
        self.bytes.resize(length, 0);
        self.bytes
    }
}

/// An ar archive (ar(5), the common format) of root's files.
pub(crate) fn ar(members: &[(&str, &[u8])], date: i64) -> Check<Vec<u8>> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len().to_string();
        if size.len() > 10 {
            return Err(format!("{name} has {size} bytes, more than an ar header can say"));
        }
        bytes.extend_from_slice(format!("{name:<16}{date:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 100_644).as_bytes());
        bytes.extend_from_slice(content);
        bytes.extend((content.len() % 2 == 1).then_some(b'\n'));
    }
    Ok(bytes)
}

/// A gzip member (RFC 1952) of stored deflate blocks (RFC 1951, 3.2.4), without name and time.
pub(crate) fn gzip_stored(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    if content.is_empty() {
        bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    let mut blocks = content.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        bytes.push(u8::from(blocks.peek().is_none()));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(block);
    }
    let mut crc = flate2::Crc::new();
    crc.update(content);
    bytes.extend_from_slice(&crc.sum().to_le_bytes());
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb;
    use crate::testing::{self, CONTROL};
    use std::process::Command;
    use twostage_model::Sha256;

    fn sample() -> Result<Vec<u8>> {
        let file = |path: &str, mode, content: &str| FileEntry { path: path.into(), mode, content: content.into() };
        let long = format!("/opt/{}/{}", "d".repeat(90), "f".repeat(90));
        let files = [file("/usr/bin/app", 0o755, "#!/bin/sh\n"), file("/etc/app.conf", 0o640, "a=1\n"), file(&long, 0o644, "x")];
        write_deb(&Control::parse(CONTROL)?, &files, &["/etc/app.conf".into()], 1_767_322_985)
    }

    /// Golden: if this changes, every generated package changes its identity.
    #[test]
    fn the_bytes_never_change() -> Result<()> {
        assert_eq!(Sha256::of(&sample()?).to_string(), "3b25dd3620962036cdc1441037c202edcd92f481a0652c5a87305fa002fd74d4");
        assert_eq!(sample()?, sample()?);
        Ok(())
    }

    #[test]
    fn our_reader_takes_it() -> Result<()> {
        let bytes = sample()?;
        let deb = deb::read(bytes.as_slice(), "sample.deb")?;
        assert_eq!(deb.control.to_string(), CONTROL);
        assert_eq!((deb.size, deb.date), (bytes.len() as u64, 1_767_322_985));
        assert_eq!(deb.sha256, Sha256::of(&bytes));
        assert_eq!((deb.id.deb_file_name().as_str(), deb.source.as_str()), ("app-config_1.0-1_all.deb", "app"));
        Ok(())
    }

    #[test]
    fn dpkg_takes_it() -> Result<()> {
        let Ok(folder) = testing::Folder::new("write") else { panic!("no temporary folder") };
        let path = folder.write("sample.deb", &sample()?);
        let run = |arguments: &[&str]| Command::new("dpkg-deb").args(arguments).arg(&path).env("TZ", "UTC").output();
        let Ok(listed) = run(&["-c"]) else {
            testing::skipped("there is no dpkg-deb here");
            return Ok(());
        };
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let first: Vec<&str> = text.lines().take(3).collect();
        assert_eq!(
            first,
            [
                "drwxr-xr-x root/root         0 2026-01-02 03:03 ./",
                "drwxr-xr-x root/root         0 2026-01-02 03:03 ./etc/",
                "-rw-r----- root/root         4 2026-01-02 03:03 ./etc/app.conf",
            ]
        );
        assert!(text.contains(&format!("./opt/{}/{}\n", "d".repeat(90), "f".repeat(90))), "{text}");
        let info = run(&["-I"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        assert!(info.contains("Package: app-config") && info.contains("conffiles"), "{info}");
        Ok(())
    }

    #[test]
    fn what_cannot_be_a_package_is_refused() -> Result<()> {
        let control = Control::parse(CONTROL)?;
        let file = |path: &str, mode| FileEntry { path: path.into(), mode, content: Vec::new() };
        for (files, conffiles, date, expected) in [
            (vec![file("etc/x", 0o644)], vec![], 0, "not an absolute path"),
            (vec![file("/etc/../x", 0o644)], vec![], 0, "not a plain path"),
            (vec![file("/etc/x/", 0o644)], vec![], 0, "not a plain path"),
            (vec![file("/x", 0o644), file("/x", 0o644)], vec![], 0, "there twice"),
            (vec![file("/x", 0o644), file("/x/y", 0o644)], vec![], 0, "/x is a file"),
            (vec![file("/x", 0o100_644)], vec![], 0, "more than permission bits"),
            (vec![file("/x", 0o644)], vec!["/y".to_string()], 0, "not one of its files"),
            (vec![], vec![], -1, "does not fit"),
        ] {
            let error = write_deb(&control, &files, &conffiles, date).map(|_| ()).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.contains(expected)), "{expected}: {error:?}");
        }
        assert!(write_deb(&Control::default(), &[], &[], 0).is_err());
        Ok(())
    }
}

//! The tar that COPY, ADD and WORKDIR put into a container: what is copied, under the names and owners that it gets.

use super::context::{Context, MAX_ENTRIES, Source};
use super::fetch::Fetched;
use super::origin::Data;
use super::pattern::Select;
use crate::PipeWriter;
use crate::dockerfile::Chmod;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::sync::Arc;
use twostage_image::path::{self, join};
use twostage_image::{Entry, Header, Kind, TarWriter, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};
use twostage_package::unpacked;

/// Bytes that one archive or folder may hold, at most.
pub(super) const MAX_BYTES: u64 = 64 << 30;
const BUFFER: usize = 128 << 10;

/// A tar on its way to the engine.
pub type Out = TarWriter<PipeWriter>;

/// Whose the copied files become, and what else is said of them.
#[derive(Debug, Clone)]
pub struct How {
    /// Owner and group; none: as they are, those of the context root's.
    pub owner: Option<(u64, u64)>,
    /// What becomes of the mode of all that is copied.
    pub chmod: Option<Arc<Chmod>>,
    /// The time of what is made here.
    pub now: i64,
    /// The time of all that is copied; none: as it is.
    pub mtime: Option<i64>,
}

impl How {
    fn apply(&self, entry: &mut Entry) {
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        match (&entry.kind, &self.chmod) {
            (Kind::Symlink { .. }, _) => entry.mode = 0o777,
            (kind, Some(chmod)) => entry.mode = chmod.applied(entry.mode, *kind == Kind::Dir),
            (_, None) => {}
        }
    }
}

/// What is copied of a source, and to where.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Where it goes; of a folder, what is in it.
    pub target: String,
    /// What becomes of it.
    pub how: How,
    /// How the target was made, where it was made for this.
    pub made: Option<How>,
    /// What of it.
    pub select: Arc<Select>,
    /// Where, in what is selected from, the source itself is; empty where it is all of that.
    pub within: String,
}

/// The engine's end is closed, or a file ended early.
fn failed() -> String {
    "cannot hand files to the engine".into()
}

fn file(size: u64) -> Kind {
    // The writer of a tar has no use for the digest.
    Kind::File { size, sha256: Sha256::of(b"").into() }
}

/// Folders that are made on the way.
pub fn folders(out: &mut TarWriter<impl Write>, missing: &[String], how: &How) -> Result<()> {
    for folder in missing {
        let mut entry = Entry { mtime: how.now, ..Entry::bare(Kind::Dir) };
        How { chmod: None, ..how.clone() }.apply(&mut entry);
        out.entry(folder.trim_matches('/'), &entry, &mut io::empty()).or_fail(Class::Engine, failed)?;
    }
    Ok(())
}

/// A document of a COPY.
pub fn document(out: &mut TarWriter<impl Write>, target: &str, text: &str, how: &How) -> Result<()> {
    let mut entry = Entry { mtime: how.now, ..Entry::bare(file(text.len() as u64)) };
    how.apply(&mut entry);
    out.entry(target, &entry, &mut text.as_bytes()).or_fail(Class::Engine, failed)
}

/// What was fetched. Its time is 1970 where no server says one, as Docker has it.
pub fn fetched(out: &mut TarWriter<impl Write>, target: &str, fetched: &Fetched, how: &How) -> Result<()> {
    let mut entry = Entry { mode: 0o600, mtime: fetched.modified.unwrap_or(0), ..Entry::bare(file(fetched.size)) };
    how.apply(&mut entry);
    out.entry(target, &entry, &mut fetched.read()).or_fail(Class::Engine, failed)
}

/// A folder that was made for what is in another has that one's time, not its rights.
fn made_for(out: &mut TarWriter<impl Write>, copied: &Copied, mtime: i64) -> Result<()> {
    let Some(how) = &copied.made else { return Ok(()) };
    folders(out, std::slice::from_ref(&copied.target), &How { now: mtime, ..how.clone() })
}

/// A file of the context, or what is in a folder of it.
pub fn from_context(out: &mut TarWriter<impl Write>, context: &Context, source: &Source, copied: &Copied) -> Result<()> {
    let how = How { owner: copied.how.owner.or(Some((0, 0))), ..copied.how.clone() };
    for listed in context.list(source, &copied.select)? {
        let mut entry = listed.entry;
        // The folder itself is there, or was made with rights of its own.
        if listed.below.is_empty() && entry.is_dir() {
            made_for(out, copied, entry.mtime)?;
            continue;
        }
        how.apply(&mut entry);
        let to = join(&copied.target, &listed.below);
        if let Some(first) = &listed.same_as {
            out.hard_link(&to, &join(&copied.target, first), &entry).or_fail(Class::Engine, failed)?;
            continue;
        }
        match entry.kind {
            Kind::File { .. } => {
                let real = join(&source.path, &listed.below);
                let changed = || format!("{} changed while it was copied", path::shown(&real));
                let mut data = context.file(&real)?;
                if data.length != Some(entry.size()) {
                    return Err(Error::new(Class::System, changed()).hint("leave the context alone while this runs"));
                }
                out.entry(&to, &entry, &mut data).or_fail(Class::Engine, failed)?;
            }
            _ => out.entry(&to, &entry, &mut io::empty()).or_fail(Class::Engine, failed)?,
        }
    }
    Ok(())
}

/// Of files with several names whose first one is not selected, by that, the first name that is: it gets the data.
pub type Renamed = BTreeMap<String, String>;

/// What the engine copied out of a container, member by member, with paths below the source.
struct Members<R> {
    tarball: Tarball<R>,
    top: Option<String>,
}

impl<R: Read> Members<R> {
    fn new(tar: R) -> Self {
        Members { tarball: Tarball::new(tar), top: None }
    }

    fn next(&mut self) -> Result<Option<(Header, String)>> {
        let Some(header) = self.tarball.next()? else {
            return match self.top {
                Some(_) => Ok(None),
                None => Err(Error::new(Class::Engine, "the engine gave no files")),
            };
        };
        let name = path::clean(&header.path)?;
        let below = self.below(&name)?;
        Ok(Some((header, below)))
    }

    fn below(&mut self, name: &str) -> Result<String> {
        let top = self.top.get_or_insert_with(|| name.to_string());
        match name.strip_prefix(top.as_str()).map(|rest| (rest, rest.strip_prefix('/'))) {
            Some(("", _)) => Ok(String::new()),
            Some((_, Some(rest))) => Ok(rest.to_string()),
            Some((rest, None)) if top.is_empty() => Ok(rest.to_string()),
            _ => Err(Error::new(Class::Engine, format!("the engine gave {} instead of {top}", path::shown(name)))),
        }
    }
}

/// What has to be known before [`from_container`] can select.
pub fn renamed(tar: impl Read, copied: &Copied) -> Result<Renamed> {
    let mut members = Members::new(tar);
    let mut renamed = Renamed::new();
    let taken = |below: &str| copied.select.takes(&join(&copied.within, below));
    while let Some((header, below)) = members.next()? {
        if header.kind == b'1' && taken(&below) {
            let first = members.below(&path::clean(&header.link)?)?;
            if !taken(&first) {
                renamed.entry(first).or_insert(below);
            }
        }
        if renamed.len() > MAX_ENTRIES {
            return Err(Error::new(Class::Project, format!("it holds more than {MAX_ENTRIES} files")).hint("copy less of it"));
        }
    }
    Ok(renamed)
}

/// What the engine copied out of a container: a file, or a folder and what is in it.
pub fn from_container(out: &mut TarWriter<impl Write>, tar: impl Read, folder: bool, copied: &Copied, renamed: &Renamed) -> Result<()> {
    let mut members = Members::new(tar);
    let mut bounds = Bounds::default();
    // Folders that are not selected, each in the one before, and are there for what is in them that is. (What is in a folder
    // follows it, as every engine walks.)
    let mut waiting: Vec<(String, Entry)> = Vec::new();
    let is_in = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    while let Some((header, place)) = members.next()? {
        if place.is_empty() && folder && copied.within.is_empty() {
            made_for(out, copied, header.mtime)?;
            continue;
        }
        bounds.add(&header)?;
        let mut entry = entry(&header, &place)?;
        copied.how.apply(&mut entry);
        let mut within = join(&copied.within, &place);
        while waiting.last().is_some_and(|(folder, _)| !is_in(&within, folder)) {
            waiting.pop();
        }
        // (A source that is no folder is what is asked for, as in BuildKit.)
        let taken = copied.within.is_empty() && place.is_empty() || copied.select.takes(&within);
        if !taken {
            match renamed.get(&place) {
                Some(other) => within = join(&copied.within, other),
                None if entry.is_dir() => {
                    waiting.push((within, entry));
                    continue;
                }
                None => continue,
            }
        }
        let above = waiting.iter().take_while(|(folder, _)| is_in(&within, folder)).count();
        for (path, entry) in waiting.drain(..above) {
            out.entry(&join(&copied.target, &path), &entry, &mut io::empty()).or_fail(Class::Engine, failed)?;
        }
        let to = join(&copied.target, &within);
        if header.kind == b'1' {
            let first = members.below(&path::clean(&header.link)?)?;
            let first = renamed.get(&first).unwrap_or(&first);
            if *first != place {
                out.hard_link(&to, &join(&copied.target, &join(&copied.within, first)), &entry).or_fail(Class::Engine, failed)?;
            }
            continue;
        }
        out.entry(&to, &entry, &mut members.tarball).or_fail(Class::Engine, failed)?;
    }
    members.tarball.finish().map(|_| ())
}

/// The members of an archive, unpacked below a folder. Their names cannot lead elsewhere, not through links of the
/// archive either.
pub fn from_archive(out: &mut TarWriter<impl Write>, file: Data, target: &str, how: &How) -> Result<()> {
    unpacked(BufReader::with_capacity(BUFFER, file), MAX_BYTES, |tar| members(out, tar, target, how)).or_fail(Class::System, unread)?
}

fn members(out: &mut TarWriter<impl Write>, tar: &mut dyn Read, target: &str, how: &How) -> Result<()> {
    let mut tarball = Tarball::new(tar);
    let mut links = BTreeSet::new();
    let mut bounds = Bounds::default();
    while let Some(header) = tarball.next()? {
        let name = path::clean(&header.path)?;
        bounds.add(&header)?;
        // What an archive says of its own root is not taken over.
        if name.is_empty() {
            continue;
        }
        check_folders(&name, &links)?;
        // --chown and --chmod are not for what an archive holds.
        let mut entry = entry(&header, &name)?;
        How { chmod: None, owner: None, ..how.clone() }.apply(&mut entry);
        let to = join(target, &name);
        links.remove(&name);
        if let Kind::Hardlink { target: link } = &entry.kind {
            check_folders(link, &links)?;
            let link = join(target, link);
            out.hard_link(&to, &link, &entry).or_fail(Class::Engine, failed)?;
            continue;
        }
        if matches!(entry.kind, Kind::Symlink { .. }) {
            links.insert(name.clone());
        }
        out.entry(&to, &entry, &mut tarball).or_fail(Class::Engine, failed)?;
    }
    Ok(())
}

fn check_folders(name: &str, links: &BTreeSet<String>) -> Result<()> {
    let through = name.match_indices('/').map(|(at, _)| &name[..at]).find(|folder| links.contains(*folder));
    match through {
        None => Ok(()),
        Some(link) => {
            Err(Error::new(Class::Project, format!("the archive holds {} below {}, which is a link", path::shown(name), path::shown(link)))
                .hint("pack the files where they are, or unpack the archive in a RUN"))
        }
    }
}

/// What is counted of hostile input.
#[derive(Default)]
struct Bounds {
    entries: usize,
    bytes: u64,
}

impl Bounds {
    fn add(&mut self, header: &Header) -> Result<()> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(header.size);
        if self.entries > MAX_ENTRIES || self.bytes > MAX_BYTES {
            return Err(
                Error::new(Class::Project, format!("it holds more than {MAX_ENTRIES} files or {MAX_BYTES} bytes")).hint("copy less of it")
            );
        }
        Ok(())
    }
}

pub fn entry(header: &Header, name: &str) -> Result<Entry> {
    let kind = match header.kind {
        b'0' => file(header.size),
        b'1' => Kind::Hardlink { target: path::clean(&header.link)? },
        b'2' => Kind::Symlink { target: path::from_bytes(&header.link) },
        b'3' => Kind::Char { major: header.major, minor: header.minor },
        b'4' => Kind::Block { major: header.major, minor: header.minor },
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        _ => return Err(Error::new(Class::Project, format!("{} is of a kind that no image holds", path::shown(name)))),
    };
    let xattrs = header.xattrs.iter().map(|(name, value)| (path::from_bytes(name), value.clone())).collect();
    let (mode, mtime) = (header.mode & 0o7777, header.mtime);
    Ok(Entry { mode, uid: header.uid, gid: header.gid, mtime, xattrs, ..Entry::bare(kind) })
}

/// Whether a file, of which nothing was read yet, is a tar, plain or compressed with gzip, bzip2, xz or zstd.
pub fn is_archive(file: &mut Data) -> Result<bool> {
    if file.length.is_none() {
        return Ok(false);
    }
    let found = unpacked(BufReader::with_capacity(BUFFER, &mut *file), MAX_BYTES, |tar| Tarball::new(tar).next());
    file.rewind().or_fail(Class::System, unread)?;
    Ok(matches!(found.or_fail(Class::System, unread)?, Ok(Some(_))))
}

fn unread() -> String {
    "cannot read it".into()
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Names of members, and after `=` what each is a link to, or holds.
    fn listed(tar: Vec<u8>) -> Vec<String> {
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().expect("a tar").map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").display().to_string();
            let link = entry.link_name().expect("a link").map(|link| link.display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            format!("{}={}", name.trim_end_matches('/'), link.unwrap_or(text))
        });
        entries.collect()
    }

    #[test]
    fn what_is_selected_of_a_container_has_its_folders_and_its_data_under_the_first_name_that_is_taken() {
        let mut tar = tar::Builder::new(Vec::new());
        let members = [("s/", "5"), ("s/a.txt", "0x"), ("s/b/", "5"), ("s/b/c/", "5"), ("s/b/c/f", "1s/a.txt"), ("s/b/z.txt", "0z")];
        for (name, what) in members.into_iter().chain([("s/d/", "5"), ("s/d/e/", "5"), ("s/g", "1s/a.txt")]) {
            let (kind, rest) = what.split_at(1);
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind.as_bytes()[0]));
            header.set_mode(0o750);
            if kind == "1" {
                tar.append_link(&mut header, name, rest).expect("into memory");
            } else {
                header.set_size(rest.len() as u64);
                tar.append_data(&mut header, name, rest.as_bytes()).expect("into memory");
            }
        }
        let tar = tar.into_inner().expect("into memory");
        let how = How { owner: None, chmod: None, now: 0, mtime: None };
        let selected = |only: &str, without: &[&str]| {
            let without: Vec<String> = without.iter().map(|text| (*text).to_string()).collect();
            let select = Arc::new(Select::new(only, &without).expect("patterns"));
            let copied = Copied { target: "t".into(), how: how.clone(), made: None, select, within: String::new() };
            let renamed = renamed(&tar[..], &copied).expect("read");
            let mut out = TarWriter::new(Vec::new());
            from_container(&mut out, &tar[..], true, &copied, &renamed).expect("copied");
            listed(out.finish().expect("into memory"))
        };
        assert_eq!(selected("b/c/f", &[]), ["t/b/c/f=x", "t/b=", "t/b/c="], "the data comes where its first name stands");
        assert_eq!(selected("", &["**/*.txt"]), ["t/b/c/f=x", "t/b=", "t/b/c=", "t/d=", "t/d/e=", "t/g=t/b/c/f"]);
        assert_eq!(selected("", &["b", "d/e"]), ["t/a.txt=x", "t/d=", "t/g=t/a.txt"]);
        assert_eq!(selected("**/e", &[]), ["t/d=", "t/d/e="]);
        assert_eq!(selected("none/*", &[]), Vec::<String>::new());
    }
}

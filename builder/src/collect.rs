//! What comes out of a builder container, checked before any of it is believed.
//!
//! The engine gives a folder of the container as a tar stream. Whoever controls the container
//! controls that stream, so: only regular files directly in the folder, only names of packages,
//! only so many, only so large. Everything else is refused by name.

use crate::{Context, members};
use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use twostage_model::error::OrFail as _;
use twostage_model::names::COLLECTED;
use twostage_model::{Class, Error, Result};

/// Files that one component may leave.
pub const MOST_FILES: usize = 2_000;
/// Bytes that one component may leave, all files together.
pub const MOST_BYTES: u64 = 16 << 30;

/// What a builder left.
#[derive(Debug, Default)]
pub struct Collected {
    /// Binary packages.
    pub packages: Vec<PathBuf>,
    /// Descriptions of source packages; the files that they list are beside them.
    pub sources: Vec<PathBuf>,
}

/// A folder in the state for what a container leaves. It goes with its value.
///
/// # Errors
/// It cannot be made.
pub(crate) fn collected_folder(context: &Context) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix(COLLECTED).tempdir_in(&context.state);
    made.or_fail(Class::System, || format!("cannot write in {}", context.state.display()))
}

/// Copies the packages in a tar stream of a folder into `into`, which must be empty.
///
/// # Errors
/// Class `Build`: an entry that does not belong there, by name and reason; too many or too large.
pub fn collect(stream: impl Read, into: &Path) -> Result<Collected> {
    let mut collected = Collected::default();
    let (mut files, mut bytes) = (0, 0u64);
    let mut first = true;
    let unreadable = || "the builder's package folder cannot be read".to_string();
    let wrong = |cause| Error::new(Class::Build, unreadable()).because(cause);
    members::for_each(stream, wrong, |member| {
        let shown = member.path;
        let refuse = |why: &str| {
            Err(Error::new(Class::Build, format!("the builder left {shown:?} in its package folder: {why}"))
                .hint("leave only .deb or .rpm files, and .dsc files with what they list, in that folder"))
        };
        let top = std::mem::take(&mut first);
        let parts: Vec<&str> = shown.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if shown.starts_with('/') || parts.contains(&"..") {
            return refuse("its path leaves the folder");
        }
        match member.kind {
            tar::EntryType::Directory if top => return Ok(()),
            tar::EntryType::Directory => return refuse("it is a folder"),
            tar::EntryType::Regular => {}
            tar::EntryType::Symlink | tar::EntryType::Link => return refuse("it is a link"),
            tar::EntryType::Char | tar::EntryType::Block => return refuse("it is a device"),
            _ => return refuse("it is not a regular file"),
        }
        // The stream's top is the folder itself (`out/x.deb`); some engines leave it away.
        let name = match parts.as_slice() {
            [name] | [_, name] => (*name).to_string(),
            _ => return refuse("it is not directly in the folder"),
        };
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-~%:".contains(&b)) || name.starts_with(['.', '-']) {
            return refuse("it is not a name of a package");
        }
        files += 1;
        bytes = bytes.saturating_add(member.size);
        if files > MOST_FILES || bytes > MOST_BYTES {
            return refuse("it is one too many: at most 2000 files of 16 GiB together are taken");
        }
        let path = into.join(&name);
        let mut file =
            fs::File::create_new(&path).or_fail(Class::Build, || format!("the builder left {name:?} twice, or it cannot be written"))?;
        std::io::copy(member.content, &mut file).or_fail(Class::Build, unreadable)?;
        file.flush().or_fail(Class::System, || format!("cannot write {}", path.display()))?;
        match name.rsplit('.').next() {
            Some("deb" | "ddeb" | "udeb") => collected.packages.push(path),
            Some("rpm") if name.ends_with(".src.rpm") || name.ends_with(".nosrc.rpm") => collected.sources.push(path),
            Some("rpm") => collected.packages.push(path),
            Some("dsc") => collected.sources.push(path),
            _ => {}
        }
        Ok(())
    })?;
    collected.packages.sort();
    collected.sources.sort();
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entry<'a> = (&'a str, tar::EntryType, &'a str);

    /// A tar as a hostile builder would send it: names go into the header unchecked.
    fn stream(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = crate::source::header(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let size = if *kind == tar::EntryType::Regular { content.len() } else { 0 };
            header.set_size(size as u64);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name(content).expect("a short target");
            }
            header.set_cksum();
            tar.append(&header, &content.as_bytes()[..size]).expect("append");
        }
        tar.into_inner().expect("finish")
    }

    fn refusal(entry: Entry<'_>) -> String {
        let into = tempfile::tempdir().expect("a folder");
        let result = collect(&stream(&[("out/", tar::EntryType::Directory, ""), entry])[..], into.path());
        let left = fs::read_dir(into.path()).expect("it is there").count();
        match result {
            Ok(_) => "taken".into(),
            Err(error) => format!("{error} ({left} left)"),
        }
    }

    #[test]
    fn packages_are_taken() {
        let into = tempfile::tempdir().expect("a folder");
        let entries = [
            ("out/", tar::EntryType::Directory, ""),
            ("out/greet_1.0_amd64.deb", tar::EntryType::Regular, "deb"),
            ("out/greet_1.0.dsc", tar::EntryType::Regular, "dsc"),
            ("out/greet_1.0.tar.xz", tar::EntryType::Regular, "tar"),
        ];
        let collected = collect(&stream(&entries)[..], into.path()).expect("all are right");
        assert_eq!(collected.packages, [into.path().join("greet_1.0_amd64.deb")]);
        assert_eq!(collected.sources, [into.path().join("greet_1.0.dsc")]);
    }

    #[test]
    fn what_a_hostile_builder_sends_is_refused_by_name() {
        use tar::EntryType as T;
        for (entry, why) in [
            (("../../etc/passwd", T::Regular, "x"), "\"../../etc/passwd\" in its package folder: its path leaves the folder"),
            (("out/../../etc/passwd", T::Regular, "x"), "its path leaves the folder"),
            (("/etc/passwd", T::Regular, "x"), "\"/etc/passwd\" in its package folder: its path leaves the folder"),
            (("out/a.deb", T::Symlink, "/etc/shadow"), "\"out/a.deb\" in its package folder: it is a link"),
            (("out/a.deb", T::Block, ""), "it is a device"),
            (("out/a.deb", T::Char, ""), "it is a device"),
            (("out/a.deb", T::Fifo, ""), "it is not a regular file"),
            (("out/sub/", T::Directory, ""), "it is a folder"),
            (("out/sub/a.deb", T::Regular, "x"), "it is not directly in the folder"),
            (("out/a b.deb", T::Regular, "x"), "it is not a name of a package"),
            (("out/.hidden", T::Regular, "x"), "it is not a name of a package"),
        ] {
            let refusal = refusal(entry);
            assert!(refusal.contains(why) && refusal.ends_with("(0 left)"), "{entry:?}: {refusal}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_an_error() {
        let whole = stream(&[("out/", tar::EntryType::Directory, ""), ("out/a.deb", tar::EntryType::Regular, "0123456789")]);
        let into = tempfile::tempdir().expect("a folder");
        assert!(collect(&whole[..1024 + 3], into.path()).is_err());
    }
}

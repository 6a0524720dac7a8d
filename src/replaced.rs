//! What a command may write over: a file of the kind that it writes, an empty one, a device, a pipe. All else that is
//! there has another purpose, and a slip of the hand (`twostage export twostage.toml`) must not end it.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;
use twostage_image::{Store, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What `export` writes.
    Export,
    /// An archive of images.
    Images,
    /// A page.
    Page,
}

impl Kind {
    fn is_at(self, path: &Path, file: File) -> bool {
        match self {
            Kind::Export => {
                // (A repository that has nothing yet makes an empty one.)
                let Ok(first) = Tarball::new(BufReader::new(file)).next() else { return false };
                let Some(first) = first else { return true };
                let name = String::from_utf8_lossy(&first.path);
                crate::commands::export::FOLDERS.iter().any(|folder| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
            }
            Kind::Images => Store::is_archive(path),
            Kind::Page => {
                let mut head = String::new();
                let read = file.take(15).read_to_string(&mut head);
                read.is_ok() && head.eq_ignore_ascii_case("<!doctype html>")
            }
        }
    }

    fn called(self) -> &'static str {
        match self {
            Kind::Export => "an export",
            Kind::Images => "an archive of images",
            Kind::Page => "a page",
        }
    }
}

/// Refuses to write over a file of another kind, or over a folder.
///
/// # Errors
/// Class `Usage`: there is one.
pub fn check(path: &Path, kind: Kind) -> Result<()> {
    let Ok(found) = std::fs::metadata(path) else { return Ok(()) };
    let refused = |what: &str| {
        Err(Error::new(Class::Usage, format!("{} is {what}, and is not written over", path.display()))
            .hint("name another file, or remove that one"))
    };
    if found.is_dir() {
        return refused("a folder");
    }
    if !found.is_file() || found.len() == 0 {
        return Ok(());
    }
    let file = File::open(path).or_fail(Class::System, || format!("cannot look at {}", path.display()))?;
    match kind.is_at(path, file) {
        true => Ok(()),
        false => refused(&format!("there, and not {}", kind.called())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_kind_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let tar = |name: &str, member: &str| {
            let mut tar = tar::Builder::new(File::create(path(name)).expect("a file"));
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            tar.append_data(&mut header, member, &b"[]"[..]).expect("packed");
            tar.finish().expect("packed");
        };
        tar("export.tar", "pool/00/x");
        tar("images.tar", "manifest.json");
        tar("source.tar", "hello-1.0/configure");
        let zeros = "\0".repeat(1024);
        for (name, text) in [
            ("page.html", "<!DOCTYPE html>\n"),
            ("twostage.toml", "[project]\n"),
            ("empty", ""),
            ("zeros.tar", zeros.as_str()),
            ("short", "<!d"),
        ] {
            std::fs::write(path(name), text).expect("written");
        }
        let all = [Kind::Export, Kind::Images, Kind::Page];
        let taken = |name: &str| all.into_iter().filter(|kind| check(&path(name), *kind).is_ok()).collect::<Vec<_>>();
        assert_eq!(taken("export.tar"), [Kind::Export]);
        assert_eq!(taken("images.tar"), [Kind::Images]);
        assert_eq!(taken("zeros.tar"), [Kind::Export], "an export of nothing");
        assert_eq!(taken("page.html"), [Kind::Page]);
        assert_eq!((taken("empty"), taken("none")), (all.to_vec(), all.to_vec()));
        for name in ["source.tar", "twostage.toml", "short", ""] {
            assert_eq!(taken(name), [], "{name}");
        }
        assert!(check(Path::new("/dev/null"), Kind::Export).is_ok());
        let refused = check(&path("twostage.toml"), Kind::Export).expect_err("it is the project's");
        assert!(refused.to_string().ends_with("twostage.toml is there, and not an export, and is not written over"), "{refused}");
    }
}

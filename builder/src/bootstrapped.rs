//! Bootstrapped bases in the user's cache: what one project made today, another one takes.
//!
//! `$XDG_CACHE_HOME/twostage/bases/<key>-<sha256>.tar`, where the key covers all that decides the tar: release, mirrors, day
//! and our own options. Whatever is here may be removed.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use twostage_model::names::INCOMING;
use twostage_model::{HashWrite, Hasher, Sha256};

/// Bases that are kept: each has some 100 MB.
const MOST: usize = 2;

/// The place of one base.
pub(crate) struct Kept {
    folder: PathBuf,
    key: Sha256,
}

impl Kept {
    /// The place of the base that all of this decides.
    pub(crate) fn at(cache: &Path, decides: &[&str]) -> Kept {
        let mut hasher = Hasher::default();
        decides.iter().for_each(|word| hasher.field(word.as_bytes()));
        Kept { folder: cache.join("bases"), key: hasher.finish() }
    }

    /// The tar, if it is here and is what it was when it was kept.
    pub(crate) fn find(&self) -> Option<File> {
        let prefix = format!("{}-", self.key);
        for entry in fs::read_dir(&self.folder).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(digest) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tar")) else { continue };
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Ok(mut file) = File::open(entry.path())
                && digest_of(&mut file).is_ok_and(|found| found.to_string() == digest)
            {
                let _ = file.set_modified(SystemTime::now());
                return Some(file);
            }
        }
        None
    }

    /// Makes the tar by `make`, and keeps what it writes. That it can't be kept (a full disk) is no failure.
    pub(crate) fn make<E>(&self, out: &mut dyn Write, make: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<(), E> {
        let kept = fs::create_dir_all(&self.folder).and_then(|()| tempfile::Builder::new().prefix(INCOMING).tempfile_in(&self.folder));
        let mut both = Both { out, kept: kept.ok().map(HashWrite::new) };
        make(&mut both)?;
        if let Some(kept) = both.kept {
            let (file, digest, _) = kept.finish();
            let name = self.folder.join(format!("{}-{digest}.tar", self.key));
            let _ = file.as_file().sync_all().and_then(|()| file.persist(name).map_err(|error| error.error).map(|_| ()));
            self.forget();
        }
        Ok(())
    }

    /// Removes the oldest of more than [`MOST`], and what a killed run left a day ago.
    fn forget(&self) {
        let aged = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.folder).into_iter().flatten().flatten().filter_map(aged).collect();
        files.sort();
        let unfinished = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(INCOMING));
        let (left, whole): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, path)| unfinished(path));
        let day = std::time::Duration::from_secs(86_400);
        let old = left.into_iter().filter(|(when, _)| when.elapsed().is_ok_and(|age| age > day));
        let surplus = whole.len().saturating_sub(MOST);
        for (_, path) in old.chain(whole.into_iter().take(surplus)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The digest of what follows in a file, which is at its start then.
pub(crate) fn digest_of(file: &mut File) -> io::Result<Sha256> {
    let mut hasher = Hasher::default();
    io::copy(&mut Read::by_ref(file), &mut hasher)?;
    file.rewind()?;
    Ok(hasher.finish())
}

/// Writes to the one, and to the other as long as that goes.
struct Both<'a> {
    out: &'a mut dyn Write,
    kept: Option<HashWrite<tempfile::NamedTempFile>>,
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        if self.kept.as_mut().is_some_and(|kept| kept.write_all(&bytes[..count]).is_err()) {
            self.kept = None;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(kept: &Kept, text: &str) {
        let mut out = Vec::new();
        kept.make(&mut out, |out| out.write_all(text.as_bytes())).expect("it is made");
        assert_eq!(out, text.as_bytes());
    }

    #[test]
    fn what_was_made_is_found_whole_or_not_at_all() {
        let cache = tempfile::tempdir().expect("a folder");
        let kept = Kept::at(cache.path(), &["bookworm", "day 1"]);
        assert!(kept.find().is_none());
        make(&kept, "a root");
        let mut text = String::new();
        kept.find().expect("it is there").read_to_string(&mut text).expect("it can be read");
        assert_eq!(text, "a root");
        assert!(Kept::at(cache.path(), &["bookworm", "day 2"]).find().is_none(), "another day");
        let file = fs::read_dir(cache.path().join("bases")).expect("a folder").flatten().next().expect("a file").path();
        fs::write(file, "a r00t").expect("it can be damaged");
        assert!(kept.find().is_none(), "damaged");
    }

    #[test]
    fn only_the_newest_are_kept() {
        let cache = tempfile::tempdir().expect("a folder");
        for day in ["1", "2", "3", "4"] {
            make(&Kept::at(cache.path(), &[day]), day);
        }
        assert_eq!(fs::read_dir(cache.path().join("bases")).expect("a folder").count(), MOST);
        assert!(Kept::at(cache.path(), &["4"]).find().is_some());
    }

    #[test]
    fn what_failed_is_not_kept() {
        let cache = tempfile::tempdir().expect("a folder");
        let kept = Kept::at(cache.path(), &["x"]);
        let failed: io::Result<()> = kept.make(&mut Vec::new(), |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("the mirror went away"))
        });
        assert!(failed.is_err() && kept.find().is_none());
        assert_eq!(fs::read_dir(cache.path().join("bases")).expect("a folder").count(), 0, "nothing is left");
    }
}

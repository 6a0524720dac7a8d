//! Which image a Dockerfile was compiled to, by a digest of all that it is made of: a file for each in the user's cache.
//!
//! `$XDG_CACHE_HOME/twostage/compile/<key>`, else below `~/.cache`: `{"id":"…","layer":"…","kept":1,"bytes":42}`. Not in
//! the engine, since the image's configuration is to be the one that docker would write. Whatever is here may be removed.

use crate::session::write_atomically;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use twostage_beneath::is_scratch_name;
use twostage_engine::execute::Image;
use twostage_model::error::OrFail as _;
use twostage_model::names::UNFINISHED;
use twostage_model::{Class, Result, Sha256};

/// Images that are remembered, at most; of more, those that nobody asked for longest are forgotten.
const MOST: usize = 1000;
/// Bytes of one, at most.
const MAX_BYTES: u64 = 4096;

/// The folder of compiled Dockerfiles, if this user has one.
pub fn folder() -> Option<PathBuf> {
    cache().map(|cache| cache.join("compile"))
}

/// The folder of all that this user's projects share, if this user has one.
pub fn cache() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("twostage"))
}

/// What a key gave. What cannot be read is not known.
pub fn find(folder: &Path, key: &Sha256) -> Option<Image> {
    let path = folder.join(key.to_string());
    if fs::metadata(&path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let image = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    // (Only its age counts, so it matters little if this fails.)
    let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
    Some(image)
}

/// Remembers what a key gave.
///
/// # Errors
/// It cannot be written.
pub fn keep(folder: &Path, key: &Sha256, image: &Image) -> Result<()> {
    let text = serde_json::to_vec(image).or_fail(Class::System, || "cannot write what was made".into())?;
    write_atomically(&folder.join(key.to_string()), &text)?;
    forget(folder, MOST);
    Ok(())
}

/// Forgets the oldest of more than `most`. (Another run may do the same at the same time.)
fn forget(folder: &Path, most: usize) {
    let ours = |name: &OsStr| is_scratch_name(name, UNFINISHED) || name.to_string_lossy().parse::<Sha256>().is_ok();
    let files = fs::read_dir(folder).into_iter().flatten().flatten().filter(|file| ours(&file.file_name()));
    let mut files: Vec<(SystemTime, PathBuf)> =
        files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path()))).collect();
    files.sort();
    for (_, path) in files.iter().take(files.len().saturating_sub(most)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_nobody_asked_for_longest_is_forgotten_first() {
        let folder = tempfile::tempdir().unwrap();
        let image = |text: &str| Image { id: Sha256::of(text.as_bytes()), layer: None, kept: 1, bytes: 7 };
        let keys = ["a", "b", "c"].map(|name| Sha256::of(name.as_bytes()));
        for (age, key) in keys.iter().enumerate() {
            keep(folder.path(), key, &image("x")).unwrap();
            let old = SystemTime::now() - Duration::from_secs(1000 - age as u64);
            File::open(folder.path().join(key.to_string())).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(find(folder.path(), &keys[0]), Some(image("x")));
        forget(folder.path(), 2);
        let known = keys.map(|key| find(folder.path(), &key).is_some());
        assert_eq!(known, [true, false, true]);
        fs::write(folder.path().join(keys[0].to_string()), "{").unwrap();
        assert_eq!(find(folder.path(), &keys[0]), None);
    }
}

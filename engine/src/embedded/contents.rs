//! What is in the layers of bases, kept beside them, so that an audit of an image need not read its base again.
//!
//! A cache: each file has a checksum of its own, what is damaged is read again out of the layer, and all of it can be thrown
//! away. It has a bound, too.

use super::index::small;
use super::store::{self, Store};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use twostage_image::{Remember, Remembered};
use twostage_model::Sha256;

/// Bytes of the largest file that is kept: the database of a large base is in it.
const MOST: u64 = 64 << 20;
/// Bytes of all files, and how many there are at most. Those that were used longest ago go.
const ALL: u64 = 256 << 20;
const FILES: usize = 64;

/// The folder of them.
struct Contents(PathBuf);

/// Of a store's layers.
pub(super) fn of(store: &Store) -> Remembered {
    Remembered(Arc::new(Contents(folder(store))))
}

pub(super) fn folder(store: &Store) -> PathBuf {
    store.root().join("contents")
}

/// Removes all of them. Gives how many bytes that were.
pub(super) fn forget(store: &Store) -> u64 {
    let files = store::entries(&folder(store));
    files.iter().map(|path| fs::metadata(path).map_or(0, |found| found.len()) * u64::from(fs::remove_file(path).is_ok())).sum()
}

impl Remember for Contents {
    fn get(&self, diff_id: &Sha256) -> Option<Vec<u8>> {
        let path = self.0.join(diff_id.to_string());
        let bytes = small(&path, MOST).ok()?;
        // It was used now. (What cannot be said of it is not asked again.)
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes)
    }

    fn put(&self, diff_id: &Sha256, bytes: &[u8]) {
        // What cannot be kept is read again next time.
        if bytes.len() as u64 <= MOST && store::write(&self.0.join(diff_id.to_string()), bytes).is_ok() {
            bound(&self.0, ALL, FILES);
        }
    }
}

/// Removes what was used longest ago, until what is left is within bounds.
fn bound(folder: &Path, all: u64, files: usize) {
    let mut there: Vec<(SystemTime, u64, PathBuf)> = store::entries(folder)
        .into_iter()
        .filter_map(|path| {
            let found = fs::metadata(&path).ok()?;
            Some((found.modified().ok()?, found.len(), path))
        })
        .collect();
    there.sort();
    let (mut bytes, mut count) = (there.iter().map(|(_, length, _)| length).sum::<u64>(), there.len());
    for (_, length, path) in there {
        if bytes <= all && count <= files {
            break;
        }
        if fs::remove_file(&path).is_ok() {
            (bytes, count) = (bytes - length, count - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = Contents(folder.path().to_path_buf());
        let digests: Vec<Sha256> = (0..4_u8).map(|n| Sha256::of(&[n])).collect();
        for (age, digest) in digests.iter().enumerate() {
            there.put(digest, &[7; 1000]);
            let file = File::open(folder.path().join(digest.to_string())).expect("a file");
            file.set_modified(SystemTime::now() - Duration::from_secs(1000 - age as u64)).expect("a time");
        }
        assert_eq!(there.get(&digests[0]).map(|bytes| bytes.len()), Some(1000), "it is used now");
        bound(folder.path(), u64::MAX, 3);
        assert!(there.get(&digests[1]).is_none(), "nobody used it for longest");
        bound(folder.path(), 1000, 3);
        let left = digests.iter().filter(|digest| there.get(digest).is_some()).count();
        assert_eq!(left, 1);
        there.put(&digests[3], &vec![0; MOST as usize + 1]);
        assert!(there.get(&digests[3]).is_none_or(|bytes| bytes.len() == 1000), "what is too large is not kept");
    }
}

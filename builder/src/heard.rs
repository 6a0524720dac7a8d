//! What this machine has heard itself about the names of packages, by base.
//!
//! A lock comes with its project, and a change to it is read by few. So what it says of a name counts only where nobody
//! else answers. What the base and its distribution have answered here is kept in the user's cache, which no project
//! writes:
//!
//! ```text
//! $XDG_CACHE_HOME/twostage/names/<digest of the base>
//!     free NAME      neither the base nor its distribution has it
//!     taken NAME     one of them has it
//!     absent NAME    the base has it not; its distribution did not answer
//!     silent TIME    when the distribution did not answer last, in seconds since 1970
//! ```
//!
//! Whatever is here may be removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use twostage_model::Sha256;
use twostage_model::names::INCOMING;

/// Bytes of a file.
const MAX_BYTES: u64 = 4 << 20;
/// How long an answer counts. A distribution may get a package of a name that was free.
const COUNTS: Duration = Duration::from_secs(7 * 86_400);
/// How long a distribution that did not answer is not asked again about names that the lock knows, in seconds.
const PATIENCE: i64 = 86_400;

/// What was said of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Neither the base nor its distribution has it.
    Free,
    /// The base or its distribution has it.
    Taken,
    /// The base has it not. Its distribution did not answer.
    Absent,
}

const WORDS: [(Word, &str); 3] = [(Word::Free, "free"), (Word::Taken, "taken"), (Word::Absent, "absent")];

/// What was heard on one base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OfBase {
    pub(crate) names: BTreeMap<String, Word>,
    silent: i64,
}

impl OfBase {
    /// Whether the base and its distribution have both spoken of a name.
    pub(crate) fn is_settled(&self, name: &str) -> bool {
        matches!(self.names.get(name), Some(Word::Free | Word::Taken))
    }

    /// Whether the distribution was asked in vain not long ago.
    pub(crate) fn is_silent(&self, now: i64) -> bool {
        (0..PATIENCE).contains(&now.saturating_sub(self.silent))
    }

    fn parse(text: &str) -> OfBase {
        let mut heard = OfBase::default();
        for line in text.lines() {
            let Some((word, rest)) = line.split_once(' ') else { continue };
            if let Some((word, _)) = WORDS.iter().find(|(_, written)| *written == word) {
                heard.names.insert(rest.to_string(), *word);
            } else if word == "silent" {
                heard.silent = rest.parse().unwrap_or(0);
            }
        }
        heard
    }

    fn written(&self) -> String {
        let word = |word: &Word| WORDS.iter().find(|(known, _)| known == word).map_or("", |(_, written)| written);
        let mut text: String = self.names.iter().map(|(name, heard)| format!("{} {name}\n", word(heard))).collect();
        if self.silent != 0 {
            text.push_str(&format!("silent {}\n", self.silent));
        }
        text
    }
}

/// What this machine has heard.
#[derive(Debug)]
pub struct Heard {
    folder: Option<PathBuf>,
    bases: Mutex<BTreeMap<Sha256, OfBase>>,
}

impl Heard {
    /// What is kept in the user's cache, if there is one; else what this run hears.
    pub fn of(cache: Option<&Path>) -> Heard {
        Heard { folder: cache.map(|cache| cache.join("names")), bases: Mutex::default() }
    }

    fn bases(&self) -> MutexGuard<'_, BTreeMap<Sha256, OfBase>> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was heard on a base.
    pub(crate) fn on(&self, base: &Sha256) -> OfBase {
        self.bases().entry(*base).or_insert_with(|| self.read(base).unwrap_or_default()).clone()
    }

    fn read(&self, base: &Sha256) -> Option<OfBase> {
        let file = File::open(self.folder.as_ref()?.join(base.to_string())).ok()?;
        let about = file.metadata().ok()?;
        // (A clock that was set back makes it younger than now.)
        if !about.is_file() || about.modified().ok()?.elapsed().is_ok_and(|age| age > COUNTS) {
            return None;
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(OfBase::parse(&text))
    }

    /// Adds what was said of names on a base. That the distribution did not answer takes nothing back.
    pub(crate) fn add(&self, base: &Sha256, words: impl IntoIterator<Item = (String, Word)>, silent: Option<i64>) {
        let mut heard = self.on(base);
        for (name, word) in words {
            if word != Word::Absent || !heard.is_settled(&name) {
                heard.names.insert(name, word);
            }
        }
        heard.silent = silent.unwrap_or(0);
        self.write(base, &heard);
        self.bases().insert(*base, heard);
    }

    /// (What cannot be kept is asked again.)
    fn write(&self, base: &Sha256, heard: &OfBase) {
        let Some(folder) = &self.folder else { return };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new().prefix(INCOMING).tempfile_in(folder)?;
            file.write_all(heard.written().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(folder.join(base.to_string())).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        };
        let _ = write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[(&str, Word)]) -> Vec<(String, Word)> {
        words.iter().map(|(name, word)| ((*name).to_string(), *word)).collect()
    }

    #[test]
    fn what_was_heard_is_there_in_the_next_run() {
        let cache = tempfile::tempdir().expect("a folder");
        let (base, other) = (Sha256::of(b"base"), Sha256::of(b"other"));
        Heard::of(Some(cache.path())).add(&base, words(&[("jq", Word::Taken), ("greet", Word::Free), ("x", Word::Absent)]), Some(1000));
        let heard = Heard::of(Some(cache.path()));
        let of = heard.on(&base);
        assert!(of.is_settled("jq") && of.is_settled("greet") && !of.is_settled("x") && !of.is_settled("y"));
        assert_eq!((of.is_silent(1001), of.is_silent(1000 + PATIENCE), of.is_silent(0)), (true, false, false));
        assert_eq!(heard.on(&other), OfBase::default());
        // Silence takes nothing back, and an answer ends it.
        heard.add(&base, words(&[("jq", Word::Absent), ("x", Word::Free)]), None);
        let of = Heard::of(Some(cache.path())).on(&base);
        assert_eq!(of.names, BTreeMap::from_iter(words(&[("jq", Word::Taken), ("greet", Word::Free), ("x", Word::Free)])));
        assert!(!of.is_silent(1001));
    }

    #[test]
    fn what_is_old_or_cannot_be_read_was_not_heard() {
        let cache = tempfile::tempdir().expect("a folder");
        let base = Sha256::of(b"base");
        Heard::of(Some(cache.path())).add(&base, words(&[("jq", Word::Free)]), None);
        let path = cache.path().join("names").join(base.to_string());
        let old = std::time::SystemTime::now() - COUNTS - Duration::from_secs(60);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(old)).expect("it is dated back");
        assert_eq!(Heard::of(Some(cache.path())).on(&base), OfBase::default());
        for text in [&b"\xff\xfe"[..], b"free", b"open jq\n", b""] {
            fs::write(&path, text).expect("written");
            assert_eq!(Heard::of(Some(cache.path())).on(&base), OfBase::default(), "{text:?}");
        }
        let nowhere = Heard::of(None);
        nowhere.add(&base, words(&[("jq", Word::Taken)]), None);
        assert!(nowhere.on(&base).is_settled("jq"), "this run has heard it");
    }
}

//! Which packages are meant: `NAME[:ARCH][=VERSION]`, or a digest.
//!
//! ```text
//! greet            every version and architecture of greet
//! greet=1.0-1      that version
//! greet:amd64      that architecture
//! 'lib*=1:*'       * and ? stand for any characters, in each part
//! 5f2c…            64 digits: the package with this digest, also one whose name is lost
//! ```

use crate::Item;
use std::str::FromStr;
use twostage_model::names::fits;
use twostage_model::project::near_miss;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result, Sha256};

/// One word that says which packages are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    name: String,
    arch: Option<String>,
    version: Option<String>,
    digest: Option<Sha256>,
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pattern> {
        let (id, version) = text.split_once('=').map_or((text, None), |(id, version)| (id, Some(version)));
        let (name, arch) = id.split_once(':').map_or((id, None), |(name, arch)| (name, Some(arch)));
        if [Some(name), arch, version].contains(&Some("")) {
            return Err(Error::new(Class::Usage, format!("{text:?} names no package"))
                .hint("write NAME, NAME=VERSION or NAME:ARCH=VERSION; * and ? stand for any characters"));
        }
        let owned = |part: Option<&str>| part.map(String::from);
        Ok(Pattern { text: text.into(), name: name.into(), arch: owned(arch), version: owned(version), digest: text.parse().ok() })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether it means this package.
    pub fn matches(&self, item: &Item) -> bool {
        if let Some(digest) = self.digest {
            return item.sha256 == digest;
        }
        let part = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| fits(pattern, text));
        fits(&self.name, &item.name) && part(&self.arch, &item.arch) && part(&self.version, &item.version)
    }

    /// Whether it says which version is meant.
    pub fn has_version(&self) -> bool {
        self.version.is_some() || self.digest.is_some()
    }

    /// The error for a pattern that means none of these packages: what is near it. `place` is where they are, such as
    /// `channel main`.
    pub fn nothing(&self, items: &[&Item], place: &str) -> Error {
        let error = Error::new(Class::Repository, format!("{place} has no package {self}"));
        let named: Vec<&&Item> = items.iter().filter(|item| fits(&self.name, &item.name)).collect();
        if self.digest.is_none() && !named.is_empty() {
            let there: Vec<String> = named.iter().take(NAMED).map(|item| item.shown()).collect();
            let more = if named.len() > NAMED { format!(" and {} more", named.len() - NAMED) } else { String::new() };
            return error.hint(format!("it has {}{more}", there.join(", ")));
        }
        if items.is_empty() {
            return error.hint(format!("{place} has no packages at all"));
        }
        let mut names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if let Some(near) = near_miss(&self.name, names.iter().copied()) {
            return error.hint(near);
        }
        let word = self.name.trim_matches(['*', '?']);
        let like: Vec<&str> = names.iter().copied().filter(|name| !word.is_empty() && name.contains(word)).take(NAMED).collect();
        match like.as_slice() {
            [] => error.hint(format!("`twostage list` shows what there is: {place} has {}", count(items.len(), "package"))),
            like => error.hint(format!("names like it: {}", like.join(", "))),
        }
    }
}

/// Packages that one message names.
const NAMED: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_name_architecture_and_version() {
        let item = |name: &str, version: &str, arch: &str| Item::unknown(Sha256::of(name.as_bytes())).called(name, version, arch);
        let greet = item("greet", "1:1.0-1", "amd64");
        for word in ["greet", "greet=1:1.0-1", "greet:amd64", "greet:amd64=1:1.0-1", "g*=1:*", &Sha256::of(b"greet").to_string()] {
            assert!(word.parse::<Pattern>().expect("a pattern").matches(&greet), "{word}");
        }
        for word in ["gree", "greet=1.0-1", "greet:arm64", "*:all", &Sha256::of(b"other").to_string()] {
            assert!(!word.parse::<Pattern>().expect("a pattern").matches(&greet), "{word}");
        }
        for word in ["", "=1", "greet=", ":amd64", "greet:=1"] {
            assert_eq!(word.parse::<Pattern>().expect_err("no pattern").class(), Class::Usage, "{word}");
        }
        let hint = |word: &str| {
            let other = item("libgreet1", "2", "all");
            let error = word.parse::<Pattern>().expect("a pattern").nothing(&[&greet, &other], "channel main");
            error.hint_or_class().to_string()
        };
        assert_eq!(hint("gret"), "write `greet`");
        assert_eq!(hint("greet=2"), "it has greet 1:1.0-1 amd64");
        assert_eq!(hint("gre"), "names like it: greet, libgreet1");
        assert_eq!(hint("zzzzzzzz"), "`twostage list` shows what there is: channel main has 2 packages");
    }
}

//! Repositories of others, as their indexes describe them. What is read here was written by anybody: nothing is kept that
//! an index chooses the size of, and no name leads out of its repository.
//!
//! ```text
//! apt   InRelease, Release ─► dists/SUITE/COMPONENT/binary-ARCH/Packages.xz ─► packages
//! yum   repodata/repomd.xml ─► primary.xml.gz ─► packages; comps, updateinfo, modules
//! ```
//!
//! All of it is text to values: whoever calls fetches the files, and compares their digests.

pub mod apt;
pub mod yum;

pub use crate::sign::Keyring;

use crate::Item;

/// Packages that an import may list: an index of yum's, or all that it reads of apt's.
const MOST_PACKAGES: usize = 2_000_000;
/// Bytes of a path in a repository.
const MOST_PATH: usize = 4096;

/// A package as an index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, version, architecture and size. The digest is that of its file, also of an rpm.
    pub item: Item,
    /// Where its file is, below the repository's root: never a path that leads out of it.
    pub path: String,
}

/// A file that an index names, with what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Where it is, below the folder of the index.
    pub path: String,
    /// Bytes, where the index says it.
    pub size: Option<u64>,
    /// Digest of them.
    pub sha256: twostage_model::Sha256,
}

/// A path that an index names, without empty and `.` parts.
///
/// # Errors
/// Why it is none below the repository: it is absolute, leads up, names another server, or is no text for a path.
pub(crate) fn safe_path(path: &str) -> Result<String, String> {
    let shown: String = path.chars().take(120).collect();
    let refused = |why: &str| Err(format!("it names the file {shown:?}, {why}"));
    if path.len() > MOST_PATH || path.chars().any(|c| c.is_control() || c == '\\') {
        return refused("which is no path");
    }
    if path.starts_with('/') {
        return refused("which is not below the repository: it is an absolute path");
    }
    if path.contains("://") {
        return refused("which is on another server");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.as_slice() {
        [] => refused("which is no file"),
        parts if parts.contains(&"..") => refused("which leads out of the repository"),
        parts => Ok(parts.join("/")),
    }
}

/// A word of an index that is shown and compared: a name, a version, an architecture.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 400 && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        for (path, plain) in [("pool/a.deb", "pool/a.deb"), ("./a.deb", "a.deb"), ("a//b/./c..deb", "a/b/c..deb")] {
            assert_eq!(safe_path(path).as_deref(), Ok(plain));
        }
        for path in
            ["", ".", "./", "..", "../../etc/passwd", "pool/../../x", "/etc/passwd", "http://h/x", "a\\..\\b", "a\nb", &"a/".repeat(3000)]
        {
            assert!(safe_path(path).is_err(), "{path:?}");
        }
    }
}

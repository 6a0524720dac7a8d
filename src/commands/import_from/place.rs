//! Where a source is: a folder, which no name of an index leads out of, or a web server.

use crate::fetch::{Remote, Wanted, encoded};
use std::io::Read;
use std::path::{Path, PathBuf};
use twostage_beneath::Folder;
use twostage_model::error::OrFail as _;
use twostage_model::url::{Place as UrlPlace, shown, tarball_place};
use twostage_model::{Class, Error, Result};
use twostage_reposerver::foreign::{Listed, ListedFile};

/// Bytes of an index as it is packed, at most: Debian's largest has some 10 MB.
const MAX_INDEX: u64 = 512 << 20;

/// A source.
pub enum Place {
    Folder {
        folder: Folder,
        /// It was named by a URL, as a repository and not as a folder of files.
        is_url: bool,
    },
    Remote(Remote, String),
}

impl Place {
    /// The place that a person named: a path, or an http, https or file URL.
    ///
    /// # Errors
    /// It is neither, or there is no such folder.
    pub fn of(source: &str) -> Result<Place> {
        let open = |path: &Path, is_url| {
            if !path.is_dir() {
                let error = Error::new(Class::Usage, format!("there is no folder {}", path.display()));
                return Err(error.hint("name a folder of packages, or the http, https or file URL of a repository"));
            }
            Ok(Place::Folder { folder: Folder::open(path).map_err(|cause| outside(source, cause))?, is_url })
        };
        if !source.contains("://") {
            return open(&PathBuf::from(source), false);
        }
        match tarball_place(source) {
            Ok(UrlPlace::Local(path)) => open(Path::new(path), true),
            Ok(UrlPlace::Remote) if source.contains(['?', '#']) => {
                Err(Error::new(Class::Usage, format!("{} names more than a folder", shown(source)))
                    .hint("leave out what begins with ? or #"))
            }
            Ok(UrlPlace::Remote) => Ok(Place::Remote(Remote::new(source), shown(source))),
            Err(why) => Err(Error::new(Class::Usage, format!("the source {why}")).hint("name a folder, or an http, https or file URL")),
        }
    }

    /// For messages.
    pub fn shown(&self) -> String {
        match self {
            Place::Folder { folder, .. } => folder.path().display().to_string(),
            Place::Remote(_, shown) => shown.clone(),
        }
    }

    /// Whether somebody has to vouch for what it says: anything that was named by a URL.
    pub fn needs_key(&self) -> bool {
        !matches!(self, Place::Folder { is_url: false, .. })
    }

    /// A file of at most `most` bytes; nothing where there is none.
    ///
    /// # Errors
    /// It cannot be read, leads out of the source, or is larger.
    pub fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Place::Remote(remote, _) => remote.get(&encoded(path, false), most),
            Place::Folder { folder, .. } => {
                let open = || folder.kind(path)?.map(|_| folder.file(path)).transpose();
                let Some(file) = open().map_err(|cause| outside(path, cause))? else { return Ok(None) };
                let mut bytes = Vec::new();
                file.take(most.saturating_add(1)).read_to_end(&mut bytes).or_fail(Class::Repository, || format!("cannot read {path}"))?;
                match bytes.len() as u64 > most {
                    false => Ok(Some(bytes)),
                    true => Err(Error::new(Class::Repository, format!("{path} of the source has more than {most} bytes"))
                        .hint("it is another file than the index says, or none of a repository; have the repository made anew")),
                }
            }
        }
    }

    /// A file that an index names, which has to be there, with that digest.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is another.
    pub fn index(&self, folder: &str, file: &ListedFile) -> Result<Vec<u8>> {
        let path = if folder.is_empty() { file.path.clone() } else { format!("{folder}/{}", file.path) };
        let again = "a mirror that is being updated gives this: run the same command again";
        if file.size.is_some_and(|size| size > MAX_INDEX) {
            return Err(Error::new(Class::Repository, format!("the index {path} is not read: it has more than {} MiB", MAX_INDEX >> 20)));
        }
        let most = file.size.unwrap_or(MAX_INDEX);
        let missing = || Error::new(Class::Repository, format!("the index {path} is not there")).hint(again);
        let bytes = self.get(&path, most)?.ok_or_else(missing)?;
        let digest = twostage_model::Sha256::of(&bytes);
        if digest != file.sha256 {
            let error = Error::new(Class::Repository, format!("the index {path} is not the one that is vouched for"));
            return Err(error.because(format!("it has the digest {digest}, and should have {}", file.sha256)).hint(again));
        }
        Ok(bytes)
    }

    /// Hands each package to `take`, in order. `in_urls`: their paths are written as URLs have them.
    ///
    /// # Errors
    /// One cannot be read, leads out of the source; or what `take` says.
    pub fn files(&self, listed: &[&Listed], in_urls: bool, mut take: impl FnMut(&Listed, &mut dyn Read) -> Result<()>) -> Result<()> {
        match self {
            Place::Remote(remote, _) => {
                let wanted: Vec<Wanted> =
                    listed.iter().map(|one| Wanted { path: encoded(&one.path, in_urls), size: one.item.size }).collect();
                remote.files(&wanted, |at, body| take(listed[at], body))
            }
            Place::Folder { folder, .. } => listed.iter().try_for_each(|one| {
                let mut file = folder.file(&one.path).map_err(|cause| outside(&one.path, cause))?;
                take(one, &mut file)
            }),
        }
    }
}

/// What a folder of a source says is no fault of the project.
pub fn outside(what: &str, cause: Error) -> Error {
    let class = if cause.class() == Class::Project { Class::Repository } else { cause.class() };
    Error::new(class, format!("cannot read {what} of the source"))
        .because(cause)
        .hint("only files of the source itself are read, and no link leads out of it")
}

/// Unpacks an index and hands it to `read`.
///
/// # Errors
/// It cannot be unpacked, and what `read` says.
pub fn unpacked(packed: &[u8], what: &str, read: impl FnOnce(&mut dyn Read) -> Result<()>) -> Result<()> {
    /// Bytes of an index as it is unpacked.
    const MOST: u64 = 4 << 30;
    let failed = || format!("the index {what} cannot be unpacked");
    twostage_package::unpacked(packed, MOST, read).or_fail(Class::Repository, failed)?
}

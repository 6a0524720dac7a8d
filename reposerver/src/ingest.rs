//! Packages on their way into the pool: written once, and verified while they stream by.

use crate::pool::{Extra, MAGIC, MOST_EXTRA, extra_package, from_deb, from_rpm, source_package};
use crate::{Pool, PoolPackage, Repository, apt, disk, extra, lock};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use tempfile::NamedTempFile;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Hasher, Result};
use twostage_package::{control, deb, rpm};

/// A `.dsc` is a page of text; more is no `.dsc`.
const MOST_DSC: u64 = 1 << 20;

impl Repository {
    /// [`Pool::ingest`] of a file. One that the pool has is hashed, which is quick, and not
    /// unpacked again. Of an rpm that came signed the signature is looked at before anything is kept: the
    /// first to come with this header and payload stays, and a bad signature is not to be that.
    ///
    /// # Errors
    /// As [`Pool::ingest`] and [`crate::Signing::check_signature`], and the file cannot be read.
    pub fn ingest_file(&self, path: &Path) -> Result<Arc<PoolPackage>> {
        self.pool.ingest_path(path, |file, package| self.signing.check_incoming(file, package))
    }

    /// [`Repository::ingest_file`] of a file that is open. `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Repository::ingest_file`].
    pub fn ingest_opened(&self, file: File, path: &Path) -> Result<Arc<PoolPackage>> {
        self.pool.ingest_open(file, path, |file, package| self.signing.check_incoming(file, package))
    }
}

impl Pool {
    /// Takes in a deb or an rpm, told apart by their first bytes, while it streams by: verified as
    /// a whole, stored once, its description kept. The same package again is no error and costs a
    /// read; of an rpm that comes with two signatures the first stays. `hint` is what messages call
    /// it.
    ///
    /// # Errors
    /// It is not what it claims to be (the package crate says why), or cannot be written; nothing
    /// is changed then.
    pub fn ingest(&self, input: impl Read, hint: &str) -> Result<Arc<PoolPackage>> {
        let (file, package) = self.receive(input, hint)?;
        self.admit(file, package)
    }

    /// Writes a package to a temporary file and verifies it on the way.
    fn receive(&self, mut input: impl Read, hint: &str) -> Result<(NamedTempFile, PoolPackage)> {
        let failed = || format!("cannot store {hint}");
        let mut start = Vec::new();
        (&mut input).take(MAGIC).read_to_end(&mut start).or_fail(Class::System, failed)?;
        let is_rpm = rpm::looks_like_rpm(&start);
        let mut file = self.root.scratch()?.file()?;
        let hasher = is_rpm.then(Hasher::default);
        let mut tee = Tee { input: io::Cursor::new(start).chain(input), output: file.as_file_mut(), hasher, failed: None };
        let read = if is_rpm { rpm::read(&mut tee, hint).map(from_rpm) } else { deb::read(&mut tee, hint).map(from_deb) };
        // A full disk is not the package's fault, although its reader noticed it first.
        if let Some(error) = tee.failed {
            return Err(Error::system(failed(), error));
        }
        let mut package = read?;
        if let (Some(rpm), Some(hasher)) = (&mut package.rpm, tee.hasher) {
            rpm.file_sha256 = hasher.finish();
        }
        let written = file.as_file().metadata().or_fail(Class::System, failed)?.len();
        if written != package.size {
            return Err(Error::new(Class::Repository, format!("{hint}: {} bytes follow the package", written.abs_diff(package.size))));
        }
        Ok((file, package))
    }

    /// The same of what a builder or the distribution's package manager left, or an export holds: whoever signed it, that
    /// is looked at when it is published.
    ///
    /// # Errors
    /// As [`Pool::ingest`], and the file cannot be read.
    pub fn ingest_unpublished(&self, path: &Path) -> Result<Arc<PoolPackage>> {
        self.ingest_path(path, |_, _| Ok(()))
    }

    fn ingest_path(&self, path: &Path, check: impl FnOnce(&mut File, &PoolPackage) -> Result<()>) -> Result<Arc<PoolPackage>> {
        let file = File::open(path).or_fail(Class::Repository, || format!("cannot read {}", path.display()))?;
        self.ingest_open(file, path, check)
    }

    fn ingest_open(
        &self,
        mut file: File,
        path: &Path,
        check: impl FnOnce(&mut File, &PoolPackage) -> Result<()>,
    ) -> Result<Arc<PoolPackage>> {
        let failed = || format!("cannot read {}", path.display());
        let digest = match rpm::prefix::identity(&mut file).or_fail(Class::Repository, failed)? {
            Some(digest) => digest,
            None => {
                file.rewind().or_fail(Class::Repository, failed)?;
                let mut hasher = Hasher::default();
                io::copy(&mut file, &mut hasher).or_fail(Class::Repository, failed)?;
                hasher.finish()
            }
        };
        if self.contains(&digest)? {
            return self.package(&digest);
        }
        file.rewind().or_fail(Class::Repository, failed)?;
        let (mut file, package) = self.receive(file, &path.file_name().unwrap_or_default().to_string_lossy())?;
        check(file.as_file_mut(), &package)?;
        self.admit(file, package)
    }

    /// Takes in a source package: `dsc` and, from the same folder, the files that it names, each
    /// checked against `Checksums-Sha256`.
    ///
    /// # Errors
    /// The `.dsc` cannot be read, or a file is missing or another; nothing is published then.
    pub fn ingest_source(&self, dsc: &Path) -> Result<Arc<PoolPackage>> {
        let failed = |path: &Path| format!("cannot read {}", path.display());
        let mut text = Vec::new();
        let opened = File::open(dsc).or_fail(Class::System, || failed(dsc))?;
        opened.take(MOST_DSC + 1).read_to_end(&mut text).or_fail(Class::System, || failed(dsc))?;
        let folder = dsc.parent().map(Path::to_path_buf).unwrap_or_default();
        let name = dsc.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        self.ingest_source_from(&text, &name, |name| {
            let path = folder.join(name);
            let file = File::open(&path).or_fail(Class::Repository, || failed(&path))?;
            Ok(Box::new(file))
        })
    }

    /// [`Pool::ingest_source`] with the files from anywhere: `open` gets a plain file name.
    ///
    /// # Errors
    /// As [`Pool::ingest_source`], and those of `open`.
    pub fn ingest_source_from<'a>(
        &self,
        dsc: &[u8],
        hint: &str,
        mut open: impl FnMut(&str) -> Result<Box<dyn Read + 'a>>,
    ) -> Result<Arc<PoolPackage>> {
        let size = dsc.len() as u64;
        if size > MOST_DSC {
            return Err(Error::new(Class::Repository, format!("{hint} is no .dsc: it has more than {MOST_DSC} bytes")));
        }
        let text = std::str::from_utf8(dsc).or_fail(Class::Repository, || format!("{hint} is not UTF-8"))?;
        let parsed = control::dsc_files(text).or_fail(Class::Repository, || format!("{hint} is no good .dsc"))?;
        // Kept when all of them are there and are what they are to be.
        let mut incoming = Vec::new();
        for listed in &parsed.files {
            check_plain_name(&listed.name, hint)?;
            self.withdrawals.check_not_withdrawn(&listed.sha256)?;
            if !self.root.is_whole(&self.pool_path(&listed.sha256), listed.sha256, listed.size)? {
                let stored = self.store(open(&listed.name)?.take(listed.size.saturating_add(1)), &listed.name)?;
                if stored.1.sha256 != listed.sha256 || stored.1.size != listed.size {
                    return Err(Error::new(
                        Class::Repository,
                        format!(
                            "{hint}: {} is not the file that it names ({} bytes, {}; it has {} bytes, {})",
                            listed.name, listed.size, listed.sha256, stored.1.size, stored.1.sha256
                        ),
                    )
                    .hint("fetch or build the source package again"));
                }
                // A source may have more files than a process may hold open.
                incoming.push((stored.0.into_temp_path(), self.pool_path(&listed.sha256)));
            }
        }
        let (file, blob) = self.store(dsc, hint)?;
        for (file, path) in incoming {
            disk::keep_for_now(file, &path)?;
            self.root.just_written(&path);
        }
        self.admit(file, source_package(&parsed, size, blob.sha256)?)
    }

    /// Takes in what `repomd.xml` lists beside packages. It is a member of channels and snapshots
    /// as packages are, at most one of each kind, and passed on as it is.
    ///
    /// # Errors
    /// It is not what `kind` says, clients could not read it, or it cannot be written.
    pub fn ingest_extra(&self, kind: Extra, content: &[u8]) -> Result<Arc<PoolPackage>> {
        let name = kind.names().1;
        let refused = |why: &str| Error::new(Class::Repository, format!("this is no {name}: {why}"));
        if content.len() > MOST_EXTRA {
            return Err(refused(&format!("it has more than {} MiB", MOST_EXTRA >> 20)));
        }
        let text = std::str::from_utf8(content).map_err(|_| refused("it is not UTF-8"))?;
        if text.chars().any(|c| c.is_ascii_control() && !"\t\n\r".contains(c)) {
            return Err(refused("it has control characters"));
        }
        extra::check(kind, text)
            .map_err(|why| refused(&why).hint("a client that cannot read it loses the whole repository; make it anew"))?;
        let (file, blob) = self.store(content, name)?;
        self.admit(file, extra_package(kind, &blob))
    }

    /// Bytes first, then the description: a description vouches for the bytes.
    pub(crate) fn admit(&self, file: NamedTempFile, package: PoolPackage) -> Result<Arc<PoolPackage>> {
        let digest = package.sha256;
        self.withdrawals.check_not_withdrawn(&digest)?;
        if self.contains(&digest)? {
            return self.package(&digest);
        }
        let paragraph = apt::paragraph_checked(&package)?;
        // What a power failure cut short was relied on by nobody yet, nor is what was freed since.
        let known = self.catalog.get(&digest)?.is_some() || self.pool_path(&digest).exists();
        let damaged = known && self.names.was_published(&digest)?;
        lock(&self.unsynced).insert(digest);
        disk::keep_for_now(file.into_temp_path(), &self.pool_path(&digest))?;
        self.root.just_written_rpm(&self.pool_path(&digest), package.rpm.as_ref().map(|rpm| rpm.file_sha256));
        self.catalog.add(self.root.scratch()?, &package, &paragraph)?;
        if damaged {
            self.root.mend(format!("{} was damaged in the pool, and is whole again", package.id));
        }
        let package = Arc::new(package);
        lock(&self.packages).insert(digest, Arc::clone(&package));
        Ok(package)
    }
}

/// A `.dsc` comes from outside; its file names must not lead out of its folder.
fn check_plain_name(name: &str, hint: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._~:%".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 255 || !name.chars().all(plain) {
        return Err(Error::new(Class::Repository, format!("{hint} names {name:?}, which is no plain file name")));
    }
    Ok(())
}

/// Writes what is read, so that the bytes are read once.
struct Tee<'a, R> {
    input: R,
    output: &'a mut File,
    hasher: Option<Hasher>,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        if let Err(error) = self.output.write_all(&buffer[..n]) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(n)
    }
}

//! Packages that an index lists, with the digest of the file, come in by that digest.
//!
//! | who vouches for the digest | what is done with the file |
//! |---|---|
//! | an index that is signed | hashed, compared, and what stands in front of its payload is read |
//! | nobody | hashed, compared, and checked whole, as every other package |
//!
//! What a signed index lists was installed by its own clients as it is, and its signer is trusted with more than a payload
//! that can be unpacked. See `docs/decisions/import-from.md`.

use crate::pool::{ARCHIVE, Blob, from_deb, from_rpm};
use crate::{Item, Pool, PoolPackage, Repository, lock};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek as _};
use std::path::Path;
use std::sync::Arc;
use tempfile::NamedTempFile;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};
use twostage_package::{deb, rpm};

impl Repository {
    /// Takes in a package whose file has to be the one that an index lists: of that many bytes, with that digest. No more than
    /// that is read. `is_vouched` says that the index is signed by a key that is trusted. The inner error is the package's
    /// own: it is the file that is listed, and is refused.
    ///
    /// # Errors
    /// It is another file, or it cannot be written. The inner one: it is no package that every client can install, or another than
    /// the index calls it; the key that signed it is not known; or it was withdrawn. Nothing is changed then.
    pub fn ingest_listed(&self, input: impl Read, listed: &Item, is_vouched: bool) -> Result<Result<Arc<PoolPackage>>> {
        let hint = listed.shown();
        let (file, blob) = self.pool.store(input.take(listed.size.saturating_add(1)), &hint)?;
        if blob.size != listed.size || blob.sha256 != listed.sha256 {
            let is = match blob.size > listed.size {
                true => format!("it has more than {} bytes", listed.size),
                false => format!("it has {} bytes and the digest {}", blob.size, blob.sha256),
            };
            return Err(Error::new(Class::Repository, format!("{hint} is not the file that the index lists"))
                .because(format!("{is}; the index says {} bytes and {}", listed.size, listed.sha256))
                .hint("a mirror that is being updated gives this: run the same command again; what came is kept"));
        }
        match self.admit_listed(file, &blob, listed, is_vouched) {
            Err(error) if error.class() != Class::Repository => Err(error),
            admitted => Ok(admitted),
        }
    }

    fn admit_listed(&self, mut file: NamedTempFile, blob: &Blob, listed: &Item, is_vouched: bool) -> Result<Arc<PoolPackage>> {
        let hint = listed.shown();
        file.as_file_mut().rewind().or_fail(Class::System, || format!("cannot read {hint}"))?;
        let package = match is_vouched {
            true => described(file.as_file_mut(), blob, &hint)?,
            false => checked(file.as_file_mut(), blob, &hint)?,
        };
        if listed.name != package.id.name || listed.version != package.id.version {
            return Err(Error::new(Class::Repository, format!("{hint} is {} in truth", package.id))
                .because("the index lists it by another name or version than its own".to_string())
                .hint("have the index made anew; a folder of the packages themselves can be named as the source instead"));
        }
        self.signing.check_incoming(file.as_file_mut(), &package)?;
        self.pool.admit(file, package)
    }

    /// What a package says of itself, from its file, without a look at its payload: for whoever chooses among many. Its digest
    /// is not made.
    ///
    /// # Errors
    /// It cannot be read, or is no package.
    pub fn peek(file: &mut File, name: &Path) -> Result<Item> {
        let failed = || format!("cannot read {}", name.display());
        let size = file.metadata().or_fail(Class::Repository, failed)?.len();
        let hint = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (unknown, mut start) = (Sha256::of(b""), Vec::new());
        file.take(ARCHIVE.len() as u64).read_to_end(&mut start).or_fail(Class::Repository, failed)?;
        file.rewind().or_fail(Class::Repository, failed)?;
        let package = match rpm::looks_like_rpm(&start) {
            true => from_rpm(rpm::describe(BufReader::new(&mut *file), unknown, size, &hint)?),
            false => from_deb(deb::describe(BufReader::new(&mut *file), unknown, size, &hint)?),
        };
        file.rewind().or_fail(Class::Repository, failed)?;
        Ok(Item::of_package(&package))
    }
}

impl Pool {
    /// Makes durable what this process took in so far.
    ///
    /// # Errors
    /// It cannot be.
    pub fn sync_incoming(&self) -> Result<()> {
        let unsynced = lock(&self.unsynced).clone();
        if unsynced.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = self.catalog.get_all(unsynced.iter())?.into_iter().filter_map(|(_, entry)| entry).collect();
        self.sync_packages(entries.iter())?;
        self.catalog.sync()
    }

    /// The rpms of the pool, by the digests of their files as they came: their names there are other digests.
    ///
    /// # Errors
    /// The machine does not let them be read.
    pub fn rpms_by_file(&self) -> Result<HashMap<Sha256, Sha256>> {
        let mut found = HashMap::new();
        for entry in self.catalog.known()?.iter().filter(|entry| entry.kind.is_rpm()) {
            if let Some(package) = self.catalog.description(entry)? {
                found.insert(*package.file_digest(), package.sha256);
            }
        }
        Ok(found)
    }
}

/// A package that is vouched for by its digest.
fn described(file: &mut File, blob: &Blob, hint: &str) -> Result<PoolPackage> {
    let failed = || format!("cannot read {hint}");
    let identity = rpm::prefix::identity(file).or_fail(Class::System, failed)?;
    file.rewind().or_fail(Class::System, failed)?;
    match identity {
        Some(identity) => {
            let mut package = from_rpm(rpm::describe(BufReader::new(file), identity, blob.size, hint)?);
            package.rpm.iter_mut().for_each(|rpm| rpm.file_sha256 = blob.sha256);
            Ok(package)
        }
        None => deb::describe(BufReader::new(file), blob.sha256, blob.size, hint).map(from_deb),
    }
}

/// A package that nobody vouches for.
fn checked(file: &mut File, blob: &Blob, hint: &str) -> Result<PoolPackage> {
    let failed = || format!("cannot read {hint}");
    let mut start = Vec::new();
    (&mut *file).take(ARCHIVE.len() as u64).read_to_end(&mut start).or_fail(Class::System, failed)?;
    file.rewind().or_fail(Class::System, failed)?;
    let mut package = match rpm::looks_like_rpm(&start) {
        true => from_rpm(rpm::read(BufReader::new(file), hint)?),
        false => from_deb(deb::read(BufReader::new(file), hint)?),
    };
    package.rpm.iter_mut().for_each(|rpm| rpm.file_sha256 = blob.sha256);
    match package.size == blob.size {
        true => Ok(package),
        false => Err(Error::new(Class::Repository, format!("{hint}: {} bytes follow the package", blob.size.abs_diff(package.size)))),
    }
}

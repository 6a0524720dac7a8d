//! Rpms as clients get them: the stored header and payload behind a signature header that may be
//! ours.
//!
//! ```text
//! lead       96 bytes that only `file` still reads          ┐ the prefix: not part of what
//! signature  a header: digests, sizes, perhaps a signature  ┘ names the package
//! header     what the package says of itself                ┐ the identity
//! payload    its files                                      ┘
//! ```
//!
//! A package that came signed is served as it came, and its key must be known (`keys/`). For one
//! that came without, a prefix with our signature is made once for every key and kept:
//!
//! ```text
//! keys/<fingerprint>.asc              the keys of those who signed packages before they came here
//! signed/<fingerprint>/ab/<identity>  a line, "<digest of the served file> <digest of the prefix> <digest
//!                                     of both>", then the prefix
//! ```
//!
//! Prefixes are derived: the same package and key give the same bytes, so one that is lost is made
//! anew. Those of earlier keys stay, for clients that still hold their metadata.

use crate::catalog::Rendered;
use crate::health::Verify;
use crate::sign::{Key, Upstream};
use crate::{PoolPackage, RpmFile, Signing, disk, lock, pool, workers};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::rpm::{Header, prefix};

/// What mends a damaged key of somebody else.
pub(crate) const KEY_AGAIN: &str =
    "get that key again and give it to `twostage publish KEY.asc`; if nothing it signed is published, remove the file";

/// An rpm as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    /// What comes instead of the first `skip` bytes of the stored file.
    pub(crate) prefix: Bytes,
    pub(crate) skip: u64,
    /// Digest of the whole as served: yum's pkgid.
    pub(crate) sha256: Sha256,
    /// Bytes of the whole as served.
    pub(crate) size: u64,
    /// Where in it the header starts.
    pub(crate) header_start: u64,
    /// Whose signature it bears.
    pub(crate) signer: Signer,
}

/// Whose signature an rpm is served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signer {
    /// Of the repository's key with this fingerprint.
    Ours(String),
    /// Of others, with these fingerprints: of one, or of several in rpm 6's form.
    Upstream(BTreeSet<String>),
}

impl Signing {
    /// Keeps public keys of those who sign packages elsewhere, and returns their fingerprints.
    /// Clients are told of a key when a snapshot has a package that it signed.
    ///
    /// # Errors
    /// `armored` holds no good public key, or it cannot be written.
    pub fn add_key(&self, armored: &str) -> Result<Vec<String>> {
        let mut added = Vec::new();
        for key in Upstream::parse(armored)? {
            disk::write(self.root.scratch()?, &self.upstream_path(&key.fingerprint), key.armored()?.as_bytes())?;
            added.push(key.fingerprint);
        }
        Ok(added)
    }

    /// The armored key that [`Signing::add_key`] kept; nothing when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn upstream_key(&self, fingerprint: &str) -> Result<Option<String>> {
        if !is_fingerprint(fingerprint) {
            return Ok(None);
        }
        let Some(bytes) = disk::read(&self.upstream_path(fingerprint))? else { return Ok(None) };
        let failed = || format!("{} cannot be used", self.upstream_path(fingerprint).display());
        let text = String::from_utf8(bytes).or_fail(Class::Repository, failed)?;
        Upstream::named(&text, fingerprint).or_fail(Class::Repository, failed).map_err(|error| error.hint(KEY_AGAIN))?;
        Ok(Some(text))
    }

    /// All keys that were added, and ours, which may have signed what comes back.
    pub(crate) fn known_keys(&self, ours: Option<&Key>) -> Result<Vec<Upstream>> {
        let mut keys = ours.map_or(Ok(Vec::new()), |ours| Upstream::parse(ours.public()))?;
        let folder = self.root.join("keys");
        let failed = || format!("cannot read {}", folder.display());
        let mut paths = BTreeSet::new();
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    paths.insert(entry.or_fail(Class::System, failed)?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::system(failed(), error)),
        }
        for path in paths {
            let Some(fingerprint) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".asc")) else { continue };
            let failed = || format!("{} cannot be used", path.display());
            let text = fs::read_to_string(&path).or_fail(Class::Repository, failed);
            let named = text.and_then(|text| Upstream::named(&text, fingerprint).or_fail(Class::Repository, failed));
            keys.extend(named.map_err(|error| error.hint(KEY_AGAIN))?);
        }
        Ok(keys)
    }

    /// Whether a package can be published as far as its signature goes: none, or one that we can check.
    ///
    /// # Errors
    /// Nobody added the key that signed it, or the signature is not that key's.
    pub fn check_signature(&self, package: &PoolPackage, now: i64) -> Result<()> {
        if package.rpm.as_ref().is_some_and(|rpm| rpm.signer.is_some()) {
            let known = self.known_keys(Some(&*self.key(now)?))?;
            self.served_upstream(package, &known)?;
        }
        Ok(())
    }

    /// [`Signing::check_signature`] of a package that is still in this file. Without a key of ours, which
    /// is not made for this, ours has signed nothing.
    pub(crate) fn check_incoming(&self, file: &mut File, package: &PoolPackage) -> Result<()> {
        if package.rpm.as_ref().is_none_or(|rpm| rpm.signer.is_none()) {
            return Ok(());
        }
        let ours = self.key_at_hand();
        let known = self.known_keys(ours.as_deref())?;
        file.rewind().or_fail(Class::System, || format!("cannot read the package {}", package.id))?;
        let (prefix, header) = head_in(file, package)?;
        verified(package, &prefix, &header, &known).map(drop)
    }

    /// How a package that came signed is served, after a look at its signature.
    ///
    /// # Errors
    /// Nobody added the key that signed it, or the signature is not that key's.
    pub(crate) fn served_upstream(&self, package: &PoolPackage, keys: &[Upstream]) -> Result<Option<Served>> {
        let rpm = rpm_of(package)?;
        if rpm.signer.is_none() {
            return Ok(None);
        }
        let (prefix, header) = self.head(package)?;
        let signers = verified(package, &prefix, &header, keys)?;
        Ok(Some(as_it_came(package, rpm, signers)))
    }

    /// How a package that came without a signature is served with `key`'s. What has to be made is
    /// kept, and its path goes to `made`, for [`disk::sync_files`].
    pub(crate) fn served_signed(&self, package: &PoolPackage, key: &Key, made: &mut BTreeSet<PathBuf>) -> Result<Served> {
        if let Some(served) = self.kept_signature(package, key.fingerprint())? {
            return Ok(served);
        }
        let rpm = rpm_of(package)?;
        let failed = || format!("cannot sign {}", package.id);
        let (prefix, header) = self.head(package)?;
        let (of_header, is_rsa) = key.sign_rpm(header.as_slice(), package.date)?;
        let mut file = self.pool.open_verified(package, &package.sha256)?;
        let from_header = SeekFrom::Start(rpm.prefix);
        // As `rpmsign --addsign` does it: rpm since 4.14 puts a digest of the payload into the header. Where there is
        // none, a signature of the header does not cover the payload, and one of both stands beside it.
        let of_both = if Header::parse(&header)?.has(twostage_package::rpm::tag::PAYLOADDIGEST) {
            None
        } else {
            file.seek(from_header).or_fail(Class::System, failed)?;
            Some(key.sign_rpm(BufReader::new(&mut file), package.date)?.0)
        };
        let prefix = prefix::signed(
            &prefix,
            &prefix::Signatures { of_header: &of_header, of_both: of_both.as_deref(), is_rsa },
            &rpm.header_sha256,
        )?;
        file.seek(from_header).or_fail(Class::System, failed)?;
        let mut hasher = Hasher::default();
        hasher.update(&prefix);
        io::copy(&mut file, &mut hasher).or_fail(Class::System, failed)?;
        let mut kept = self.root.scratch()?.file()?;
        let line = kept_line(&hasher.finish(), &Sha256::of(&prefix));
        kept.write_all(line.as_bytes()).and_then(|()| kept.write_all(&prefix)).or_fail(Class::System, failed)?;
        let path = self.signed_path(key.fingerprint(), &package.sha256);
        disk::keep_for_now(kept.into_temp_path(), &path)?;
        self.root.just_written(&path);
        made.insert(path);
        self.kept_signature(package, key.fingerprint())?.ok_or_else(|| Error::new(Class::System, failed()))
    }

    /// Makes those signatures of ours anew that are not there whole: with the same key they are the same.
    pub(crate) fn sign_again(&self, texts: &[Arc<Rendered>], key: &Key, verify: Verify) -> Result<()> {
        let unsure = self.unsure_signatures(texts, key.fingerprint(), verify)?;
        let made = Mutex::new(BTreeSet::new());
        let signed = workers::for_each(&unsure, |rendered| {
            let package = self.pool.package_or_described(&rendered.sha256)?;
            let path = self.signed_path(key.fingerprint(), &package.sha256);
            if self.kept_signature(&package, key.fingerprint())?.is_some() {
                self.root.just_written(&path);
                return Ok(None);
            }
            let mut new = BTreeSet::new();
            self.served_signed(&package, key, &mut new)?;
            lock(&made).append(&mut new);
            Ok(Some(package))
        })?;
        disk::sync_files(self.root.path(), &lock(&made))?;
        signed.iter().flatten().for_each(|package| self.root.mend(format!("the signature of {} was made anew", package.id)));
        Ok(())
    }

    /// What [`Signing::served_signed`] kept for a key, if it is there whole.
    pub(crate) fn kept_signature(&self, package: &PoolPackage, fingerprint: &str) -> Result<Option<Served>> {
        let rpm = rpm_of(package)?;
        if !is_fingerprint(fingerprint) || rpm.signer.is_some() {
            return Ok(None);
        }
        let bytes = match disk::read(&self.signed_path(fingerprint, &package.sha256)) {
            Ok(Some(bytes)) => bytes,
            Err(error) if error.is_unread() => return Err(error),
            // One that cannot be read is made anew, as one that is not whole.
            _ => return Ok(None),
        };
        let bytes = Bytes::from(bytes);
        let Some(end) = bytes.iter().take(256).position(|byte| *byte == b'\n') else { return Ok(None) };
        let prefix = bytes.slice(end + 1..);
        let digests = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| line.split_once(' '));
        let Some(Ok(sha256)) = digests.map(|(file, _)| file.parse::<Sha256>()) else { return Ok(None) };
        if bytes[..=end] != *kept_line(&sha256, &Sha256::of(&prefix)).as_bytes() {
            return Ok(None);
        }
        let header_start = prefix.len() as u64;
        let size = header_start + package.size.saturating_sub(rpm.prefix);
        Ok(Some(Served { prefix, skip: rpm.prefix, sha256, size, header_start, signer: Signer::Ours(fingerprint.to_string()) }))
    }

    /// How a package is served that a client asks for by its digest alone, or with the fingerprint
    /// of a key of ours; nothing when it never was signed with that.
    pub(crate) fn served_rpm(&self, package: &Arc<PoolPackage>, fingerprint: Option<&str>) -> Result<Option<Served>> {
        let rpm = rpm_of(package)?;
        if rpm.signer.is_some() {
            return Ok(Some(as_it_came(package, rpm, BTreeSet::new())).filter(|_| fingerprint.is_none()));
        }
        // Whose it is needs no look at our key.
        if let Some(fingerprint) = fingerprint
            && let Some(served) = self.kept_signature(package, fingerprint)?
        {
            return Ok(Some(served));
        }
        let Some(ours) = self.signer()? else { return Ok(None) };
        match fingerprint {
            Some(earlier) if earlier != ours => return Ok(None),
            Some(_) => {}
            None => {
                if let Some(served) = self.kept_signature(package, &ours)? {
                    return Ok(Some(served));
                }
            }
        }
        match self.key_at_hand().filter(|key| key.fingerprint() == ours) {
            Some(key) => self.served_signed(package, &key, &mut BTreeSet::new()).map(Some),
            None => Err(Error::new(Class::Repository, format!("the signature that {} is served with is gone", package.id))
                .hint("`twostage channel --repair`, where the signing key is, makes it anew: it will be the same")),
        }
    }

    /// The prefix and the header of a stored rpm, as they came.
    pub(crate) fn head(&self, package: &PoolPackage) -> Result<(Vec<u8>, Vec<u8>)> {
        head_in(&mut self.pool.open_verified(package, &package.sha256)?, package)
    }

    fn upstream_path(&self, fingerprint: &str) -> PathBuf {
        self.root.join("keys").join(format!("{fingerprint}.asc"))
    }

    pub(crate) fn signed_path(&self, fingerprint: &str, identity: &Sha256) -> PathBuf {
        pool::shard(&self.signed_folder(fingerprint), identity)
    }

    /// Where the headers are that a key signed.
    pub(crate) fn signed_folder(&self, fingerprint: &str) -> PathBuf {
        self.root.join("signed").join(fingerprint)
    }
}

/// The first line of what is kept of a signed rpm. The third digest is of the line itself.
fn kept_line(file: &Sha256, prefix: &Sha256) -> String {
    let digests = format!("{file} {prefix}");
    format!("{digests} {}\n", Sha256::of(digests.as_bytes()))
}

/// The prefix and the header of an rpm, at the start of this file.
fn head_in(file: &mut File, package: &PoolPackage) -> Result<(Vec<u8>, Vec<u8>)> {
    let rpm = rpm_of(package)?;
    let mut part = |length: u64| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut *file).take(length).read_to_end(&mut bytes).or_fail(Class::System, || format!("cannot read the package {}", package.id))?;
        Ok(bytes)
    };
    let (prefix, header) = (part(rpm.prefix)?, part(rpm.header_size)?);
    if Sha256::of(&header) != rpm.header_sha256 {
        return Err(Error::new(Class::Repository, format!("the stored file of {} has another header than it came with", package.id))
            .hint("the disk or somebody changed it; publish it again"));
    }
    Ok((prefix, header))
}

/// What is kept of an rpm beside its id.
pub(crate) fn rpm_of(package: &PoolPackage) -> Result<&RpmFile> {
    package.rpm.as_ref().ok_or_else(|| Error::new(Class::Repository, format!("{} is no rpm", package.id)))
}

/// A package that bears somebody else's signature.
fn as_it_came(package: &PoolPackage, rpm: &RpmFile, signers: BTreeSet<String>) -> Served {
    Served {
        prefix: Bytes::new(),
        skip: 0,
        sha256: rpm.file_sha256,
        size: package.size,
        header_start: rpm.prefix,
        signer: Signer::Upstream(signers),
    }
}

/// Fingerprints of the keys that signed the header of a package that came signed. There is at least one, and
/// no signature over the header is anybody else's: what only claims to be signed would be served without ours.
///
/// A signature over header and payload together, as rpm made them before it had the other kind, proves
/// nothing here: rpm since 4.14 wants one of the header. Beside such a one it stays, and clients look at it themselves.
fn verified(package: &PoolPackage, prefix: &[u8], header: &[u8], keys: &[Upstream]) -> Result<BTreeSet<String>> {
    let mut signers = BTreeSet::new();
    for packet in prefix::header_signatures(prefix)? {
        match keys.iter().find(|key| key.verifies(&packet, header)) {
            Some(key) => signers.insert(key.fingerprint.clone()),
            None => return Err(unverified(package, &packet, keys)),
        };
    }
    if signers.is_empty() {
        return Err(Error::new(Class::Repository, format!("{} is signed, and not over its header", package.id))
            .because("its signature covers header and payload together, which rpm since 4.14 takes for no proof of the header".to_string())
            .hint("have it signed anew with a present-day rpmsign, or take the signature off with `rpmsign --delsign`"));
    }
    Ok(signers)
}

/// Why a signature is no known key's.
fn unverified(package: &PoolPackage, packet: &[u8], keys: &[Upstream]) -> Error {
    let add = "add the public key of whoever signed it with `twostage publish KEY.asc`; clients are then told of it";
    let error = |what: String| Error::new(Class::Repository, what);
    match twostage_package::rpm::signature::issuer(packet) {
        None => error(format!("{} is signed, and its signature names no key that can be read", package.id)).hint(add),
        Some(signer) => match keys.iter().find(|key| key.is(&signer)) {
            None => error(format!("{} is signed, with the key {signer}, which this repository does not know", package.id)).hint(add),
            Some(key) => {
                error(format!("the signature of {} is not that of the key {}", package.id, key.fingerprint)).hint("fetch the package again")
            }
        },
    }
}

/// Upper-case hex digits: of a version 4 key 40, of a version 6 key 64.
fn is_fingerprint(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

//! Which key is the repository's.
//!
//! The secret one is in `key/signing.asc`, or where the project says, and only who publishes needs it. The
//! public one is in `key.asc`: who serves reads that and nothing else. It also says whose signatures clients
//! trust, so that a key that is lost or exchanged is noticed before anything is signed with another.

use crate::folder::RepositoryFolder;
use crate::sign::{Key, Upstream};
use crate::{Channels, Pool, Settings, disk, lock, sign};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use twostage_model::{Class, Error, Result};

/// The repository's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Public {
    pub(crate) armored: String,
    pub(crate) fingerprint: String,
}

/// The repository's keys, those of others who signed rpms, and rpms as they are served with either's signature.
pub struct Signing {
    pub(crate) root: Arc<RepositoryFolder>,
    settings: Arc<Settings>,
    channels: Arc<Channels>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: Mutex<Option<Arc<Key>>>,
    publics: disk::Cache<(), Public>,
}

impl Signing {
    pub(crate) fn new(root: &Arc<RepositoryFolder>, settings: &Arc<Settings>, channels: &Arc<Channels>, pool: &Arc<Pool>) -> Signing {
        let (root, settings, channels, pool) = (Arc::clone(root), Arc::clone(settings), Arc::clone(channels), Arc::clone(pool));
        Signing { root, settings, channels, pool, key: Mutex::default(), publics: disk::Cache::default() }
    }

    /// The signing key. It is made now, dated `now` (seconds since 1970), only where nothing was ever signed.
    ///
    /// # Errors
    /// It cannot be read or made, others may read its file, it is gone, or it is not the one that the
    /// repository's channels are signed with.
    pub fn key(&self, now: i64) -> Result<Arc<Key>> {
        if let Some(key) = &*lock(&self.key) {
            return Ok(Arc::clone(key));
        }
        let key = self.read_or_make_key(now, true)?;
        self.keep_public(&key)?;
        *lock(&self.key) = Some(Arc::clone(&key));
        Ok(key)
    }

    /// The secret key where it is at hand, as it is with whoever serves from the machine that publishes. Never
    /// made for this.
    pub(crate) fn key_at_hand(&self) -> Option<Arc<Key>> {
        let held = lock(&self.key).clone();
        held.or_else(|| Key::load(&self.key_path()).ok().flatten().map(Arc::new))
    }

    /// `fits`: whether it has to be the key that signed before.
    pub(crate) fn read_or_make_key(&self, now: i64, fits: bool) -> Result<Arc<Key>> {
        let path = self.key_path();
        let signer = if fits { self.signer()? } else { None };
        let Some(key) = Key::load(&path)? else {
            return match signer {
                Some(signer) => Err(self.does_not_fit(&signer, &format!("and {} is not there", path.display()))),
                None => {
                    let user = format!("{} package repository", self.settings.origin);
                    Ok(Arc::new(Key::load_or_make(&path, &user, self.settings.algorithm, now)?))
                }
            };
        };
        match signer.filter(|signer| signer != key.fingerprint()) {
            Some(signer) => Err(self.does_not_fit(&signer, &format!("and {} is the key {}", path.display(), key.fingerprint()))),
            None => Ok(Arc::new(key)),
        }
    }

    fn does_not_fit(&self, signer: &str, rest: &str) -> Error {
        Error::new(Class::Repository, format!("the repository is signed with the key {signer}, {rest}")).hint(format!(
            "restore that key to {}; if it is lost, `twostage channel --rekey` signs every channel with another, and every client has \
             to be given the new public key",
            self.key_path().display()
        ))
    }

    /// The fingerprint of the key that signed what is here; nothing where nothing was signed yet.
    ///
    /// # Errors
    /// The system does not let it be read. (What is damaged says nothing.)
    pub(crate) fn signer(&self) -> Result<Option<String>> {
        if let Some(public) = disk::usable(self.public_file())?.flatten() {
            return Ok(Some(public.fingerprint.clone()));
        }
        for name in self.channels.names()? {
            if let Some(channel) = disk::usable(self.channels.get(&name))?.flatten() {
                return Ok(Some(channel.signed.fingerprint.clone()));
            }
        }
        Ok(None)
    }

    /// Writes the public key where servers look for it, if it is not there.
    pub(crate) fn keep_public(&self, key: &Key) -> Result<()> {
        let there = self.public_file();
        if let Err(error) = &there
            && error.is_unread()
        {
            return there.map(drop);
        }
        if there.as_ref().is_ok_and(|there| there.as_ref().is_some_and(|there| there.armored == key.public())) {
            return Ok(());
        }
        match self.root.scratch().and_then(|scratch| disk::write(scratch, &self.public_path(), key.public().as_bytes())) {
            Ok(()) if matches!(there, Ok(None)) && self.channels.names().unwrap_or_default().is_empty() => Ok(()),
            Ok(()) => {
                self.root.mend(format!("{} was made anew from the signing key", self.public_path().display()));
                Ok(())
            }
            // What is only read needs no key of its own: the secret one says the same.
            Err(error) if there.is_ok() && error.class() == Class::System => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The armored public key that clients are given.
    ///
    /// # Errors
    /// It is not there, or not whole.
    pub fn public_key(&self) -> Result<String> {
        self.public()?.map(|public| public.armored.clone()).ok_or_else(|| {
            Error::new(Class::Repository, "the repository has no key yet").hint("the first `twostage repo` or `twostage publish` makes one")
        })
    }

    /// The public key; nothing where nothing was signed yet.
    pub(crate) fn public(&self) -> Result<Option<Arc<Public>>> {
        let damaged = |why: Error| {
            let hint = format!(
                "restore {}, or run `twostage channel --repair` where the signing key is: it makes the file anew",
                self.public_path().display()
            );
            if why.is_unread() { why } else { why.hint(hint) }
        };
        if let Some(public) = self.public_file().map_err(damaged)? {
            return Ok(Some(public));
        }
        // A repository of before, or one whose publisher was killed just then.
        if let Some(key) = self.key_at_hand()
            && self.signer()?.is_none_or(|signer| signer == key.fingerprint())
        {
            return Ok(Some(Arc::new(Public { armored: key.public().into(), fingerprint: key.fingerprint().into() })));
        }
        match self.signer()? {
            Some(_) => Err(damaged(Error::new(Class::Repository, format!("the public key {} is gone", self.public_path().display())))),
            None => Ok(None),
        }
    }

    fn public_file(&self) -> Result<Option<Arc<Public>>> {
        let path = self.public_path();
        self.publics.get(&(), &path, |bytes| {
            let wrong = || Error::new(Class::Repository, format!("{} is not the public key that was written there", path.display()));
            let armored = std::str::from_utf8(bytes).map_err(|cause| wrong().because(cause))?;
            let keys = Upstream::parse(armored).map_err(|cause| wrong().because(cause))?;
            let fingerprint = keys.first().map(|key| key.fingerprint.clone()).ok_or_else(wrong)?;
            Ok(Public { armored: armored.into(), fingerprint })
        })
    }

    fn public_path(&self) -> PathBuf {
        self.root.join("key.asc")
    }

    /// Where the secret key is, or will be.
    pub fn key_path(&self) -> PathBuf {
        self.settings.key.clone().unwrap_or_else(|| self.root.join("key/signing.asc"))
    }
}

impl Upstream {
    /// A key by the name of its file, which is its fingerprint.
    ///
    /// # Errors
    /// The file holds something else.
    pub(crate) fn named(armored: &str, fingerprint: &str) -> Result<Vec<Upstream>> {
        let keys = sign::Upstream::parse(armored)?;
        if keys.iter().any(|key| key.fingerprint != fingerprint) {
            return Err(Error::new(Class::Repository, "it is another key than its name says"));
        }
        Ok(keys)
    }
}

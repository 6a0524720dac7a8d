//! The signing key, and the signatures that apt, dnf and rpm want.
//!
//! A version 4 OpenPGP key with one user id, that certifies and signs itself; no subkeys, no end.
//! RSA, because every apt and every rpm that is still in use takes it; SHA-256 or better, which is
//! what sequoia's policy (apt of Debian trixie checks with `sqv`) asks of new signatures.
//! Who computes the signatures: docs/decisions/signing.md.

pub use keyring::Keyring;

use crate::disk;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, Deserializable, DetachedSignature, KeyType, SignedKeyDetails, SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::line_writer::LineBreak;
use pgp::normalize_lines::NormalizedReader;
use pgp::packet::{
    Features, KeyFlags, PacketTrait, PubKeyInner, PublicKey, SecretKey, SecretSubkey, Signature, SignatureConfig, SignatureType, Subpacket,
    SubpacketData, UserId,
};
use pgp::types::{KeyDetails, KeyVersion, Password, SecretParams, SignedUser, SigningKey, Timestamp};
use ring::rsa::KeyPair;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use twostage_beneath::{Folder, read_text};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result};

pub use twostage_model::project::Algorithm;

/// A key that can sign.
pub struct Key {
    secret: SignedSecretKey,
    signer: Signer,
    /// The signer for `ring`, where that takes it.
    pair: Option<KeyPair>,
    public: String,
    fingerprint: String,
}

/// Which of the certificate's keys signs: GnuPG's usual keys sign with the primary key, a careful
/// team's keep that offline and sign with a subkey.
enum Signer {
    Primary,
    Subkey(usize),
}

/// Bytes that are held in memory to be signed. What is longer is hashed as it streams by.
const MAX_HELD: u64 = 4 << 20;

/// Bytes of the file of a key, at most.
const MAX_KEY: u64 = 1 << 20;

/// What a key has to be, and what to do where it is not.
const USABLE: &str = "it must be an armored OpenPGP secret key without a passphrase; if it was one, restore it from a copy, or move it \
                      away and see `twostage channel --rekey`";

impl Key {
    /// Makes a key for `user`, dated `created` (seconds since 1970).
    ///
    /// # Errors
    /// The OpenPGP library refuses, for instance a user id that is not valid.
    pub fn make(user: &str, algorithm: Algorithm, created: i64) -> Result<Self> {
        let kind = match algorithm {
            Algorithm::Rsa4096 => KeyType::Rsa(4096),
            Algorithm::Rsa3072 => KeyType::Rsa(3072),
            Algorithm::Ed25519 => KeyType::Ed25519Legacy,
        };
        let secret = make(user, kind, created).or_fail(Class::Repository, || format!("cannot make a signing key for {user:?}"))?;
        Key::of(secret)
    }

    /// Reads an armored secret key.
    ///
    /// # Errors
    /// It is not one, it has a passphrase, or nothing in it may sign.
    pub fn parse(armored: &str) -> Result<Self> {
        let (secret, _) = SignedSecretKey::from_string(armored).or_fail(Class::Repository, || "this is no armored secret key".into())?;
        Key::bound(secret)
    }

    fn bound(secret: SignedSecretKey) -> Result<Self> {
        secret.verify_bindings().or_fail(Class::Repository, || "the key's own signatures are not good".into())?;
        Key::of(secret)
    }

    /// Reads the key in `path`, or makes one there, with mode 0600, when the file is absent.
    ///
    /// # Errors
    /// The file cannot be read or made, is no usable key, or others may read it.
    pub fn load_or_make(path: &Path, user: &str, algorithm: Algorithm, created: i64) -> Result<Self> {
        if let Some(key) = Key::load(path)? {
            return Ok(key);
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = || format!("cannot write the signing key {}", path.display());
        if !disk::is_folder(folder)? {
            disk::make_folder(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).or_fail(Class::System, failed)?;
        }
        let key = Key::make(user, algorithm, created)?;
        // Not by way of the repository's tmp/: the key may be in another file system, and in a folder of others.
        let name = path.file_name().ok_or_else(|| Error::new(Class::Repository, failed()))?;
        if Folder::open(folder)?.put_new(name, key.secret()?.as_bytes(), 0o600)? {
            return Ok(key);
        }
        // Two processes made a key at once; the first one's is the repository's.
        Key::load(path)?.ok_or_else(|| Error::new(Class::System, format!("{} came and went", path.display())))
    }

    pub(crate) fn load(path: &Path) -> Result<Option<Self>> {
        let failed = || format!("cannot read the signing key {}", path.display());
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::system(failed(), error)),
        };
        if !meta.is_file() {
            return Err(Error::new(Class::Repository, format!("{} is no file", path.display())).hint(USABLE));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(Error::new(
                Class::Repository,
                format!("others may read the signing key {} (mode {:04o})", path.display(), meta.mode() & 0o7777),
            )
            .hint(format!("chmod 600 {}; if others may have read it, make a new key", path.display())));
        }
        let text =
            read_text(path, MAX_KEY, Class::Repository).map_err(|error| if error.is_unread() { error } else { error.hint(USABLE) })?;
        Key::parse(&text)
            .and_then(Key::tried)
            .map(Some)
            .map_err(|error| Error::new(Class::Repository, failed()).because(error).hint(USABLE))
    }

    /// A key whose signatures are good. A byte that changed in the secret part would be noticed by clients only.
    ///
    /// Of an RSA key all parts were compared with each other when they were read: the primes with the
    /// modulus, the exponents with the primes. And `ring` checks every signature that it makes.
    fn tried(self) -> Result<Self> {
        if self.pair.is_some() {
            return Ok(self);
        }
        let bad = || Error::new(Class::Repository, "what it signs does not verify: its secret part is damaged");
        let (signature, _) = self.sign_rpm(b"a trial".as_slice(), 0)?;
        let mut public = Upstream::parse(&self.public)?;
        match public.pop().filter(|public| public.verifies(&signature, b"a trial")) {
            Some(_) => Ok(self),
            None => Err(bad()),
        }
    }

    fn of(secret: SignedSecretKey) -> Result<Self> {
        let may_sign = |signatures: &[pgp::packet::Signature]| signatures.iter().any(|s| s.key_flags().sign());
        let signer = if secret.details.users.iter().any(|user| may_sign(&user.signatures)) || may_sign(&secret.details.direct_signatures) {
            Signer::Primary
        } else {
            secret.secret_subkeys.iter().position(|subkey| may_sign(&subkey.signatures)).map(Signer::Subkey).ok_or_else(|| {
                Error::new(Class::Repository, "no part of this key may sign").hint("give it a signing key, or let twostage make its own")
            })?
        };
        let (public, params) = match signer {
            Signer::Primary => (secret.primary_key.public_params(), secret.primary_key.secret_params()),
            Signer::Subkey(i) => (secret.secret_subkeys[i].key.public_params(), secret.secret_subkeys[i].key.secret_params()),
        };
        if !matches!(params, SecretParams::Plain(_)) {
            return Err(
                Error::new(Class::Repository, "the signing key has a passphrase").hint("export it without one; keep the file at mode 0600")
            );
        }
        let pair = rsa::pair(public, params);
        let failed = || "cannot write the public key".to_string();
        let public = secret.to_public_key().to_armored_string(ArmorOptions::default()).or_fail(Class::Repository, failed)?;
        let fingerprint = format!("{:X}", secret.primary_key.fingerprint());
        Ok(Key { secret, signer, pair, public, fingerprint })
    }

    /// The armored public key.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The fingerprint, in upper-case hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The armored secret key.
    ///
    /// # Errors
    /// The OpenPGP library cannot write it.
    fn secret(&self) -> Result<String> {
        self.secret.to_armored_string(ArmorOptions::default()).or_fail(Class::Repository, || "cannot write the secret key".into())
    }

    /// `InRelease`: the text and its signature in one (RFC 9580 section 7), dated `now`.
    ///
    /// # Errors
    /// A line ends in a blank: GnuPG leaves those out when it checks, so the signature would be bad.
    pub fn clear_sign(&self, text: &str, now: i64) -> Result<String> {
        // The line end before the signature is not part of the signed text; apt wants one there.
        let text = text.trim_end_matches('\n');
        in_the_clear(text)?;
        let signature = self.signature(SignatureType::Text, text.as_bytes(), now);
        signature.and_then(|signature| cleartext(text, &signature)).or_fail(Class::Repository, || "cannot sign the release".into())
    }

    /// `Release.gpg`: the armored signature of the text, dated `now`.
    ///
    /// # Errors
    /// The OpenPGP library cannot sign.
    pub fn detached(&self, text: &str, now: i64) -> Result<String> {
        let signature = self.signature(SignatureType::Binary, text.as_bytes(), now);
        signature.and_then(armored).or_fail(Class::Repository, || "cannot sign the release".into())
    }

    /// `InRelease` and `Release.gpg` of one text, dated `now`, by one signature.
    ///
    /// It is a signature of text, which is the same in the clear and detached. In the clear the line end before the
    /// signature is not signed, so `InRelease` has one more than the text: an empty line.
    ///
    /// # Errors
    /// As [`Key::clear_sign`].
    pub fn sign_release(&self, text: &str, now: i64) -> Result<(String, String)> {
        in_the_clear(text)?;
        let both = |signature: Signature| Ok((cleartext(text, &signature)?, armored(signature)?));
        self.signature(SignatureType::Text, text.as_bytes(), now)
            .and_then(both)
            .or_fail(Class::Repository, || "cannot sign the release".into())
    }

    /// The signature of an rpm's header, or of header and payload, as rpm stores it: the packet, and whether it
    /// is RSA's, which has tags of its own. Dated `made` (seconds since 1970), or as the key if that is
    /// newer: nothing else changes it, so the same package and key give the same bytes.
    ///
    /// # Errors
    /// `input` cannot be read, or the OpenPGP library cannot sign.
    pub(crate) fn sign_rpm(&self, input: impl Read, made: i64) -> Result<(Vec<u8>, bool)> {
        let signature = self.signature(SignatureType::Binary, input, made);
        let packet = signature.and_then(|signature| pgp::ser::Serialize::to_bytes(&DetachedSignature::new(signature)));
        let is_rsa = self.with_signer(|key| key.algorithm() == PublicKeyAlgorithm::RSA);
        Ok((packet.or_fail(Class::Repository, || "cannot sign the package".into())?, is_rsa))
    }

    fn signature(&self, kind: SignatureType, mut input: impl Read, now: i64) -> pgp::errors::Result<Signature> {
        let config = self.with_signer(|key| config(&Box::new(key), kind, now))?;
        let mut held = Vec::new();
        if let Some(pair) = self.pair.as_ref().filter(|_| rsa::takes(&config)) {
            (&mut input).take(MAX_HELD + 1).read_to_end(&mut held)?;
            if held.len() as u64 <= MAX_HELD {
                if kind == SignatureType::Text {
                    let mut lines = Vec::new();
                    NormalizedReader::new(held.as_slice(), LineBreak::Crlf).read_to_end(&mut lines)?;
                    held = lines;
                }
                return rsa::sign(pair, config, held);
            }
        }
        self.with_signer(|key| config.sign(&Box::new(key), &Password::empty(), held.as_slice().chain(input)))
    }

    fn with_signer<T>(&self, sign: impl FnOnce(&dyn SigningKey) -> T) -> T {
        match self.signer {
            Signer::Primary => sign(&self.secret.primary_key as &dyn SigningKey),
            Signer::Subkey(i) => sign(&self.secret.secret_subkeys[i].key as &SecretSubkey as &dyn SigningKey),
        }
    }
}

/// What a block of public keys begins with.
const PUBLIC_KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Somebody else's key, which signed packages before they came here.
pub(crate) struct Upstream {
    key: SignedPublicKey,
    /// Of the primary key, in upper-case hex digits.
    pub(crate) fingerprint: String,
}

impl Upstream {
    /// Reads armored public keys, one or several, in one block or several.
    ///
    /// # Errors
    /// There is none, or a key's own signatures are not good.
    pub(crate) fn parse(armored: &str) -> Result<Vec<Upstream>> {
        let failed = || "this is no armored public key".to_string();
        let mut parsed = Vec::new();
        // The library reads one block, and files of keys are often several, one behind the other.
        let starts: Vec<usize> = armored.match_indices(PUBLIC_KEY).map(|(at, _)| at).skip(1).chain([armored.len()]).collect();
        let mut start = 0;
        for end in starts {
            let (keys, _) = SignedPublicKey::from_string_many(&armored[start..end]).or_fail(Class::Repository, failed)?;
            for key in keys {
                parsed.push(Upstream::bound(key.or_fail(Class::Repository, failed)?)?);
            }
            start = end;
        }
        if parsed.is_empty() {
            return Err(Error::new(Class::Repository, failed()));
        }
        Ok(parsed)
    }

    /// A key whose own signatures are good. What others certify of it (Debian's keys have such) says nothing here, and cannot be
    /// checked without their keys: it is left out.
    fn bound(mut key: SignedPublicKey) -> Result<Upstream> {
        let (id, fingerprint) = (key.primary_key.legacy_key_id(), key.primary_key.fingerprint());
        let is_own = |signature: &Signature| {
            signature.issuer_key_id().iter().any(|issuer| **issuer == id)
                || signature.issuer_fingerprint().iter().any(|issuer| **issuer == fingerprint)
        };
        let details = &mut key.details;
        details.users.iter_mut().for_each(|user| user.signatures.retain(is_own));
        details.users.retain(|user| !user.signatures.is_empty());
        details.user_attributes.iter_mut().for_each(|attribute| attribute.signatures.retain(is_own));
        details.user_attributes.retain(|attribute| !attribute.signatures.is_empty());
        details.direct_signatures.retain(is_own);
        key.verify_bindings().or_fail(Class::Repository, || "the key's own signatures are not good".into())?;
        let fingerprint = format!("{:X}", key.fingerprint());
        Ok(Upstream { key, fingerprint })
    }

    /// The armored key.
    pub(crate) fn armored(&self) -> Result<String> {
        self.key.to_armored_string(ArmorOptions::default()).or_fail(Class::Repository, || "cannot write a public key".into())
    }

    /// Whether `signer`, a key id or fingerprint in hex digits, is this key or one of its subkeys.
    pub(crate) fn is(&self, signer: &str) -> bool {
        let signer = signer.to_ascii_uppercase();
        let ends = |fingerprint: String| signer.len() >= 16 && fingerprint.ends_with(&signer);
        ends(self.fingerprint.clone()) || self.key.public_subkeys.iter().any(|subkey| ends(format!("{:X}", subkey.fingerprint())))
    }

    /// Whether an armored signature is this key's over `text`, and the text with a signature in it is the same text, signed
    /// by this key: `Release.gpg` and `InRelease`.
    pub(crate) fn signed(&self, text: &str, armored: &str, in_clear: &str) -> bool {
        let packet = || DetachedSignature::from_string(armored).and_then(|(signature, _)| pgp::ser::Serialize::to_bytes(&signature));
        let message = || CleartextSignedMessage::from_string(in_clear).ok().map(|(message, _)| message);
        packet().is_ok_and(|packet| self.verifies(&packet, text.as_bytes()))
            && message().is_some_and(|message| {
                let by_subkey = || self.key.public_subkeys.iter().any(|subkey| message.verify(&subkey.key).is_ok());
                message.text().trim_end() == text.trim_end() && (message.verify(&self.key).is_ok() || by_subkey())
            })
    }

    /// Whether an armored signature is this key's over `text`: `repomd.xml.asc`.
    pub(crate) fn signed_beside(&self, text: &str, armored: &str) -> bool {
        let packet = DetachedSignature::from_string(armored).and_then(|(signature, _)| pgp::ser::Serialize::to_bytes(&signature));
        packet.is_ok_and(|packet| self.verifies(&packet, text.as_bytes()))
    }

    /// Whether a signature, a bare packet, is this key's over `bytes`.
    pub(crate) fn verifies(&self, signature: &[u8], bytes: &[u8]) -> bool {
        let Ok(signature) = DetachedSignature::from_bytes(signature) else { return false };
        signature.verify(&self.key, bytes).is_ok()
            || self.key.public_subkeys.iter().any(|subkey| signature.verify(&subkey.key, bytes).is_ok())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.fingerprint)
    }
}

/// OpenPGP has 32 bits for a date.
fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
}

/// Refuses a text that cannot be signed in the clear.
fn in_the_clear(text: &str) -> Result<()> {
    match text.lines().any(|line| line.ends_with([' ', '\t', '\r'])) {
        true => Err(Error::new(Class::Repository, "a text with blanks at the end of a line cannot be signed in the clear")),
        false => Ok(()),
    }
}

fn cleartext(text: &str, signature: &Signature) -> pgp::errors::Result<String> {
    CleartextSignedMessage::new_many(text, |_| Ok(vec![signature.clone()]))?.to_armored_string(ArmorOptions::default())
}

fn armored(signature: Signature) -> pgp::errors::Result<String> {
    DetachedSignature::new(signature).to_armored_string(ArmorOptions::default())
}

/// A signature never is older than its key, or checkers refuse it; a `now` from
/// `SOURCE_DATE_EPOCH` may be.
fn config(key: &impl SigningKey, kind: SignatureType, now: i64) -> pgp::errors::Result<SignatureConfig> {
    let hash = match key.hash_alg() {
        HashAlgorithm::Sha256 => HashAlgorithm::Sha512,
        other => other,
    };
    let dated = timestamp(now.max(i64::from(key.created_at().as_secs())));
    let mut config = SignatureConfig::v4(kind, key.algorithm(), hash);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(dated))?,
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
    ];
    config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
    Ok(config)
}

/// The library's own builder dates the certificate by the clock; ours is dated as asked.
fn make(user: &str, kind: KeyType, created: i64) -> pgp::errors::Result<SignedSecretKey> {
    let (public, secret) = kind.generate(rand::thread_rng())?;
    let public = PublicKey::from_inner(PubKeyInner::new(KeyVersion::V4, kind.to_alg(), timestamp(created), None, public)?)?;
    let key = SecretKey::new(public.clone(), secret)?;
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(true);
    let mut features = Features::default();
    features.set_seipd_v1(true);
    let mut config = config(&key, SignatureType::CertPositive, created)?;
    config.hashed_subpackets.extend([
        Subpacket::regular(SubpacketData::KeyFlags(flags))?,
        Subpacket::regular(SubpacketData::Features(features))?,
        Subpacket::regular(SubpacketData::IsPrimary(true))?,
    ]);
    let user = UserId::from_str(Default::default(), user)?;
    let certified = config.sign_certification(&key, &public, &Password::empty(), user.tag(), &user)?;
    let details = SignedKeyDetails::new(vec![], vec![], vec![SignedUser::new(user, vec![certified])], vec![]);
    Ok(SignedSecretKey::new(key, details, vec![], vec![]))
}

mod keyring;
mod rsa;
#[cfg(test)]
mod tests;

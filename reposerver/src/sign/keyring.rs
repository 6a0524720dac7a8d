//! Keys that people trust to sign somebody else's repository, and the check of what those signed.
//!
//! ```text
//! InRelease       the text and its signatures in one; only what stands between its lines is signed
//! Release.gpg     signatures of Release, armored or bare, one or several
//! repomd.xml.asc  the same of repomd.xml
//! ```

use super::Upstream;
use pgp::armor::Dearmor;
use pgp::composed::{CleartextSignedMessage, Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType};
use pgp::types::KeyDetails as _;
use std::io::{self, Read as _};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, date};

/// Bytes of signatures, at most: a Release of Debian's has some 3 kB.
const MOST_SIGNATURES: u64 = 1 << 20;
/// What armor begins with.
const ARMOR: &[u8] = b"-----BEGIN PGP ";

/// Public keys, each of which may sign.
pub struct Keyring(Vec<Upstream>);

impl Keyring {
    /// Reads public keys, armored or as `gpg --export` writes them, one or several.
    ///
    /// # Errors
    /// There is none, or a key's own signatures are not good.
    pub fn parse(bytes: &[u8]) -> Result<Keyring> {
        let failed = || "this is no public key".to_string();
        let trimmed = bytes.trim_ascii_start();
        if trimmed.starts_with(ARMOR) {
            let text = std::str::from_utf8(trimmed).or_fail(Class::Repository, failed)?;
            return Upstream::parse(text).map(|keys| Keyring(merged(keys)));
        }
        let mut keys = Vec::new();
        for key in SignedPublicKey::from_bytes_many(bytes).or_fail(Class::Repository, failed)? {
            keys.push(Upstream::bound(key.or_fail(Class::Repository, failed)?)?);
        }
        if keys.is_empty() { Err(Error::new(Class::Repository, failed())) } else { Ok(Keyring(merged(keys))) }
    }

    /// Each key, armored.
    ///
    /// # Errors
    /// The OpenPGP library cannot write it.
    pub fn armored(&self) -> Result<Vec<String>> {
        self.0.iter().map(Upstream::armored).collect()
    }

    /// The fingerprints, in upper-case hex digits.
    pub fn fingerprints(&self) -> Vec<&str> {
        self.0.iter().map(|key| key.fingerprint.as_str()).collect()
    }

    /// The text that is signed in an `InRelease`, and the fingerprint of the key that signed it. `now` in seconds since 1970.
    ///
    /// # Errors
    /// It is no clear-signed text, or none of these keys signed it.
    pub fn in_clear(&self, text: &str, now: i64) -> Result<(String, String)> {
        let (message, _) =
            CleartextSignedMessage::from_string(text).or_fail(Class::Repository, || "it is no text with a signature in it".into())?;
        // Exactly what was signed, and not what stands before or behind it.
        let signed = message.signed_text();
        let fingerprint = self.signer(message.signatures(), signed.as_bytes(), now)?;
        Ok((signed.replace("\r\n", "\n"), fingerprint))
    }

    /// The fingerprint of the key that signed `content`, by the signatures that stand beside it.
    ///
    /// # Errors
    /// `signatures` holds none, or none of these keys'.
    pub fn beside(&self, content: &[u8], signatures: &[u8], now: i64) -> Result<String> {
        let failed = || "its signature cannot be read".to_string();
        let trimmed = signatures.trim_ascii_start();
        let mut bare = Vec::new();
        if trimmed.starts_with(ARMOR) {
            Dearmor::new(io::BufReader::new(trimmed)).take(MOST_SIGNATURES).read_to_end(&mut bare).or_fail(Class::Repository, failed)?;
        } else {
            bare.extend_from_slice(signatures);
        }
        let packets = PacketParser::new(io::Cursor::new(bare)).take(100);
        let found: Vec<Signature> = packets
            .filter_map(|packet| match packet {
                Ok(Packet::Signature(signature)) => Some(signature),
                _ => None,
            })
            .collect();
        self.signer(&found, content, now)
    }

    fn signer(&self, signatures: &[Signature], content: &[u8], now: i64) -> Result<String> {
        let refused = |why: String| Error::new(Class::Repository, why);
        if signatures.is_empty() {
            return Err(refused("there is no signature in it that can be read".into()));
        }
        let mut why = None;
        for signature in signatures {
            let made = |key| Upstream::maker(key, signature, content).map(|maker| (key, maker));
            let Some((key, maker)) = self.0.iter().find_map(made) else { continue };
            match is_good(signature, now).and_then(|()| key.is_usable(maker, now)) {
                Ok(()) => return Ok(key.fingerprint.clone()),
                Err(reason) => why = Some(format!("the signature by the key {} is not taken: {reason}", key.fingerprint)),
            }
        }
        Err(refused(why.unwrap_or_else(|| {
            let known = self.fingerprints().join(", ");
            let by: Vec<String> =
                signatures.iter().flat_map(|signature| signature.issuer_key_id()).map(|id| format!("{id}").to_uppercase()).collect();
            let by = if by.is_empty() { "a key that it does not name".into() } else { by.join(", ") };
            format!("it is signed by {by}, or was changed; trusted is {known}")
        })))
    }
}

/// Keys, each of them once: what its owner says of one that stands there more than once is put together. Some files have a key
/// as it was, and then as it is.
fn merged(keys: Vec<Upstream>) -> Vec<Upstream> {
    let mut all: Vec<Upstream> = Vec::new();
    for key in keys {
        match all.iter_mut().find(|there| there.fingerprint == key.fingerprint) {
            Some(there) => there.add(key),
            None => all.push(key),
        }
    }
    all
}

fn add_new<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// Which of a key's parts made a signature.
#[derive(Clone, Copy)]
enum Maker<'k> {
    Primary,
    Subkey(&'k SignedPublicSubKey),
}

impl Upstream {
    /// Adds what another copy of the same key says.
    fn add(&mut self, other: Upstream) {
        let (here, there) = (&mut self.key.details, other.key.details);
        add_new(&mut here.revocation_signatures, there.revocation_signatures);
        add_new(&mut here.direct_signatures, there.direct_signatures);
        add_new(&mut here.user_attributes, there.user_attributes);
        for user in there.users {
            match here.users.iter_mut().find(|known| known.id == user.id) {
                Some(known) => add_new(&mut known.signatures, user.signatures),
                None => here.users.push(user),
            }
        }
        for subkey in other.key.public_subkeys {
            match self.key.public_subkeys.iter_mut().find(|known| known.key == subkey.key) {
                Some(known) => add_new(&mut known.signatures, subkey.signatures),
                None => self.key.public_subkeys.push(subkey),
            }
        }
    }

    /// Which of its parts made a signature of these bytes, if one did.
    fn maker(&self, signature: &Signature, content: &[u8]) -> Option<Maker<'_>> {
        if signature.verify(&self.key, content).is_ok() {
            return Some(Maker::Primary);
        }
        self.key.public_subkeys.iter().find(|subkey| signature.verify(&subkey.key, content).is_ok()).map(Maker::Subkey)
    }

    /// Refuses a key that its owner has taken back, or whose time is over; and such a subkey, or one that is for something else.
    fn is_usable(&self, maker: Maker<'_>, now: i64) -> std::result::Result<(), String> {
        let details = &self.key.details;
        if !details.revocation_signatures.is_empty() {
            return Err("its owner has revoked the key".into());
        }
        // What takes a user id back says nothing of how long the key is good.
        let certifies = |signature: &&Signature| {
            let (persona, generic) = (SignatureType::CertPersona, SignatureType::CertGeneric);
            let (casual, positive) = (SignatureType::CertCasual, SignatureType::CertPositive);
            signature.typ().is_some_and(|kind| [persona, generic, casual, positive].contains(&kind))
        };
        let of_users = details.users.iter().flat_map(|user| &user.signatures).filter(certifies);
        let direct = details.direct_signatures.iter().filter(|signature| signature.typ() == Some(SignatureType::Key));
        let born = self.key.primary_key.created_at().as_secs();
        if let Some(end) = newest(of_users.chain(direct)).and_then(|signature| end(born, signature)).filter(|end| *end < now) {
            return Err(format!("the key was good until {}", date::release(end)));
        }
        match maker {
            Maker::Primary => Ok(()),
            Maker::Subkey(subkey) => self.is_usable_subkey(subkey, now),
        }
    }

    /// The library calls a revocation by the primary key a good signature, and compares no times.
    fn is_usable_subkey(&self, subkey: &SignedPublicSubKey, now: i64) -> std::result::Result<(), String> {
        let name = format!("{:X}", subkey.key.fingerprint());
        // The same subkey may stand there twice.
        let same = self.key.public_subkeys.iter().filter(|other| other.key.fingerprint() == subkey.key.fingerprint());
        let all: Vec<&Signature> = same.flat_map(|subkey| &subkey.signatures).collect();
        if all.iter().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
            return Err(format!("its owner has revoked the subkey {name}"));
        }
        let bindings = all.into_iter().filter(|signature| signature.typ() == Some(SignatureType::SubkeyBinding));
        let Some(binding) = newest(bindings).filter(|binding| binding.key_flags().sign()) else {
            return Err(format!("its subkey {name} is not for signatures"));
        };
        match end(subkey.key.created_at().as_secs(), binding).filter(|end| *end < now) {
            Some(end) => Err(format!("its subkey {name} was good until {}", date::release(end))),
            None => Ok(()),
        }
    }
}

/// The newest of these signatures; one without a date is none.
fn newest<'k>(signatures: impl Iterator<Item = &'k Signature>) -> Option<&'k Signature> {
    let dated = signatures.filter_map(|signature| Some((signature.created()?.as_secs(), signature)));
    dated.max_by_key(|(made, _)| *made).map(|(_, signature)| signature)
}

/// Until when a key is good that was made at `born`, as a signature on it says; nothing where it has no end. In seconds since 1970.
fn end(born: u32, signature: &Signature) -> Option<i64> {
    let lasts = signature.key_expiration_time().map(|lasts| i64::from(lasts.as_secs())).filter(|lasts| *lasts > 0);
    lasts.map(|lasts| i64::from(born) + lasts)
}

/// Refuses what proves nothing: hashes that can be forged, signatures of something else, and those whose time is over.
fn is_good(signature: &Signature, now: i64) -> std::result::Result<(), String> {
    let strong = [
        HashAlgorithm::Sha224,
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha384,
        HashAlgorithm::Sha512,
        HashAlgorithm::Sha3_256,
        HashAlgorithm::Sha3_512,
    ];
    match signature.hash_alg() {
        Some(hash) if strong.contains(&hash) => {}
        Some(hash) => return Err(format!("it is made over a {hash}, which can be forged")),
        None => return Err("it does not say what it is made over".into()),
    }
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err("it is no signature of a text".into());
    }
    let made = signature.created().map(|made| i64::from(made.as_secs()));
    let lasts = signature.signature_expiration_time().map(|lasts| i64::from(lasts.as_secs())).filter(|lasts| *lasts > 0);
    match (made, lasts) {
        (Some(made), Some(lasts)) if made + lasts < now => Err(format!("it was good until {}", date::release(made + lasts))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

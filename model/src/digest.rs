//! SHA-256 digests and the one way they are written: 64 lower-case hex digits.

use crate::{Class, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasherDefault;
use std::str::FromStr;

/// A SHA-256 digest. Written as 64 lower-case hex digits, without a prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The first 12 hex digits: what people see.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }

    /// A digest from its raw 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Sha256(bytes)
    }

    /// Writes its digits to the end of a text.
    pub fn push_to(&self, text: &mut String) {
        self.with_digits(|digits| text.push_str(digits));
    }

    /// Gives its digits to a function, in no memory of their own.
    pub fn with_digits<R>(&self, take: impl FnOnce(&str) -> R) -> R {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        take(std::str::from_utf8(&digits).unwrap_or_default())
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_digits(|digits| f.write_str(digits))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = Error;

    /// Takes exactly 64 lower-case hex digits; `sha256:` before them is allowed, as engines write it.
    fn from_str(text: &str) -> Result<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let wrong = || Error::new(Class::Repository, format!("{text:?} is not a SHA-256 digest (64 lower-case hex digits)"));
        if hex.len() != 64 {
            return Err(wrong());
        }
        let (mut bytes, mut all) = ([0; 32], 0);
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            all |= high | low;
            *byte = high << 4 | low & 15;
        }
        if all & NO_DIGIT != 0 { Err(wrong()) } else { Ok(Sha256(bytes)) }
    }
}

/// What a byte is as a lower-case hex digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};
/// No digit: a bit that no digit has.
const NO_DIGIT: u8 = 0x80;

impl Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.with_digits(|digits| serializer.serialize_str(digits))
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

/// Takes a text without a copy of it: a channel's file has one for each package.
struct Digits;

impl serde::de::Visitor<'_> for Digits {
    type Value = Sha256;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SHA-256 digest (64 lower-case hex digits)")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Sha256, E> {
        text.parse().map_err(E::custom)
    }
}

/// A map by digest. A digest is hashed already: its first eight bytes tell as much as a hash of it would.
pub type DigestMap<V> = HashMap<Sha256, V, BuildHasherDefault<FirstBytes>>;
/// A set of digests.
pub type DigestSet = HashSet<Sha256, BuildHasherDefault<FirstBytes>>;

/// The hasher of [`DigestMap`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstBytes(u64);

impl std::hash::Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Hashes while bytes go by. Also a [`std::io::Write`] so that `io::copy` can feed it.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a field with its length before it, so that no two lists of fields hash alike.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hashes and counts what is written through it.
pub struct HashWrite<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: std::io::Write> HashWrite<W> {
    /// Writes on to `out`.
    pub fn new(out: W) -> Self {
        HashWrite { out, hasher: Hasher::default(), size: 0 }
    }

    /// What it wrote to, the digest of all bytes, and how many they were.
    pub fn finish(self) -> (W, Sha256, u64) {
        (self.out, self.hasher.finish(), self.size)
    }
}

impl<W: std::io::Write> std::io::Write for HashWrite<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The chain id of a stack of layers (OCI image-spec, config.md, "Layer ChainID"); of none there is none.
pub fn chain_id(diff_ids: &[Sha256]) -> Option<Sha256> {
    let (first, rest) = diff_ids.split_first()?;
    Some(rest.iter().fold(*first, |chain, layer| Sha256::of(format!("sha256:{chain} sha256:{layer}").as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_one_way_only() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sha256::of(b"").to_string(), empty);
        assert_eq!(format!("sha256:{empty}").parse::<Sha256>().ok(), Some(Sha256::of(b"")));
        assert!(empty.to_uppercase().parse::<Sha256>().is_err());
        assert!("e3b0".parse::<Sha256>().is_err());
    }

    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let hash = |fields: &[&str]| {
            let mut hasher = Hasher::default();
            fields.iter().for_each(|field| hasher.field(field.as_bytes()));
            hasher.finish()
        };
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }

    #[test]
    fn a_chain_id_is_what_the_image_specification_says() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        assert_eq!(chain_id(&[a]), Some(a));
        assert_eq!(chain_id(&[a, b]), Some(Sha256::of(format!("sha256:{a} sha256:{b}").as_bytes())));
        assert_eq!(chain_id(&[]), None);
    }
}

//! RSA signatures by `ring`, three times as fast as those of the OpenPGP library and in constant time.
//!
//! `ring` takes no digest: it hashes the message itself. What a version 4 signature hashes is
//! (RFC 9580 section 5.2.4):
//!
//! ```text
//! the data                                   text: with CR LF at its line ends
//! 04 type algorithm hash length subpackets   the start of the signature packet
//! 04 ff length                               of the line above, in four bytes
//! ```
//!
//! PKCS#1 v1.5 signatures have no random part, so these are the bytes that the OpenPGP library makes.

use num_bigint_dig::BigUint;
use pgp::crypto::hash::HashAlgorithm;
use pgp::errors::{Error, Result};
use pgp::packet::{Signature, SignatureConfig, SignatureVersionSpecific};
use pgp::ser::Serialize as _;
use pgp::types::{Mpi, PlainSecretParams, PublicParams, SecretParams, SignatureBytes};
use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use ring::{digest, rand, signature};
use zeroize::Zeroizing;

/// Version, type, two algorithms, and the length of the hashed subpackets.
const HEAD: usize = 6;

/// The key for `ring`; nothing where it is no RSA key, has a passphrase, or is one that `ring` does not
/// take: other than 2048 to 4096 bits, not a multiple of 1024 bits, an exponent below 65537, inconsistent.
pub(super) fn pair(public: &PublicParams, secret: &SecretParams) -> Option<KeyPair> {
    let (PublicParams::RSA(public), SecretParams::Plain(PlainSecretParams::RSA(secret))) = (public, secret) else { return None };
    let public = public.to_bytes().ok()?;
    let (n, rest) = number(&public)?;
    let (e, _) = number(rest)?;
    let (d, p, q, u) = secret.to_bytes();
    let [d, p, q, u] = [d, p, q, u].map(Zeroizing::new);
    let exponent = Zeroizing::new(BigUint::from_bytes_be(&d));
    let reduced = |prime: &[u8]| {
        let prime = Zeroizing::new(BigUint::from_bytes_be(prime));
        (prime.bits() > 1).then(|| Zeroizing::new((&*exponent % &Zeroizing::new(&*prime - 1u32) as &BigUint).to_bytes_be()))
    };
    let (of_p, of_q) = (reduced(&p)?, reduced(&q)?);
    // OpenPGP keeps the inverse of p modulo q, others that of q modulo p: the primes change places.
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d: d.as_slice(),
        p: q.as_slice(),
        q: p.as_slice(),
        dP: of_q.as_slice(),
        dQ: of_p.as_slice(),
        qInv: u.as_slice(),
    };
    KeyPair::from_components(&components).ok()
}

/// A number of OpenPGP (RFC 9580 section 3.2), and what is behind it.
fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bits, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*bits)).div_ceil(8))
}

/// Whether [`sign`] can make this signature.
pub(super) fn takes(config: &SignatureConfig) -> bool {
    config.hash_alg == HashAlgorithm::Sha512 && config.version_specific == SignatureVersionSpecific::V4
}

/// Signs `data`, which a signature of text wants with CR LF at its line ends.
///
/// # Errors
/// [`takes`] says no, or the result did not verify: `ring` checks each of its own.
pub(super) fn sign(pair: &KeyPair, config: SignatureConfig, mut data: Vec<u8>) -> Result<Signature> {
    if !takes(&config) {
        return Err(Error::from("a signature of this kind is not made here".to_string()));
    }
    let head = head(&config)?;
    data.extend_from_slice(&head);
    data.extend_from_slice(&config.trailer(head.len())?);
    let hash = digest::digest(&digest::SHA512, &data);
    let mut made = vec![0; pair.public().modulus_len()];
    pair.sign(&signature::RSA_PKCS1_SHA512, &rand::SystemRandom::new(), &data, &mut made)
        .map_err(|_| Error::from("what was signed does not verify: the key or the processor is damaged".to_string()))?;
    let start = hash.as_ref().first_chunk::<2>().copied().unwrap_or_default();
    Signature::from_config(config, start, SignatureBytes::Mpis(vec![Mpi::from_slice(&made)]))
}

/// The start of the packet, up to the end of its hashed subpackets.
fn head(config: &SignatureConfig) -> Result<Vec<u8>> {
    let mut packet = Signature::from_config(config.clone(), [0; 2], SignatureBytes::Mpis(Vec::new()))?.to_bytes()?;
    let length = packet.get(4..HEAD).map_or(0, |length| length.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)));
    packet.truncate(HEAD + length);
    Ok(packet)
}

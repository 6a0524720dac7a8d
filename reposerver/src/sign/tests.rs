use super::*;
use pgp::ser::Serialize as _;
use std::sync::LazyLock;

const NOW: i64 = 1_700_000_001;

/// Made once: the primes of an RSA key take their time.
static LARGE: LazyLock<Key> = LazyLock::new(|| key(KeyType::Rsa(4096)));
static MEDIUM: LazyLock<Key> = LazyLock::new(|| key(KeyType::Rsa(3072)));

fn key(kind: KeyType) -> Key {
    Key::of(make("demo package repository", kind, 1_700_000_000).expect("a key")).expect("it signs")
}

/// The same key, for the OpenPGP library alone.
fn without_ring(key: &Key) -> Key {
    let mut key = Key::parse(&key.secret().expect("it is written")).expect("it is read");
    key.pair = None;
    key
}

fn texts() -> Vec<String> {
    let lines: String = (0..2000).map(|i| format!(" {i:064x} {i} main/binary-amd64/Packages\n")).collect();
    [
        "",
        "\n",
        "one",
        "one\n",
        "one\n\n\n",
        "- a dash\nFrom\n",
        "a\rb\n",
        "a\n\rb\n",
        "\u{e4}\u{20ac}\n",
        &format!("Origin: demo\nSHA256:\n{lines}"),
    ]
    .map(String::from)
    .to_vec()
}

#[test]
fn signatures_of_both_libraries_are_the_same_bytes() {
    let small = key(KeyType::Rsa(2048));
    for fast in [&*LARGE, &*MEDIUM, &small] {
        assert!(fast.pair.is_some());
        let slow = without_ring(fast);
        for text in texts() {
            assert_eq!(fast.clear_sign(&text, NOW).expect("signed"), slow.clear_sign(&text, NOW).expect("signed"), "{text:?}");
            assert_eq!(fast.detached(&text, NOW).expect("signed"), slow.detached(&text, NOW).expect("signed"), "{text:?}");
            assert_eq!(fast.sign_release(&text, NOW).expect("signed"), slow.sign_release(&text, NOW).expect("signed"), "{text:?}");
            assert_eq!(fast.sign_rpm(text.as_bytes(), 5).expect("signed"), slow.sign_rpm(text.as_bytes(), 5).expect("signed"), "{text:?}");
        }
    }
}

#[test]
fn what_is_too_long_for_memory_is_signed_as_it_streams_by() {
    let slow = without_ring(&MEDIUM);
    for length in [MAX_HELD - 1, MAX_HELD, MAX_HELD + 1, MAX_HELD + 70_000] {
        let input = || io::repeat(b'x').take(length);
        assert_eq!(MEDIUM.sign_rpm(input(), NOW).expect("signed"), slow.sign_rpm(input(), NOW).expect("signed"), "{length}");
    }
}

#[test]
fn an_input_that_cannot_be_read_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let error = MEDIUM.sign_rpm(b"some".as_slice().chain(Broken), NOW).expect_err("nothing is signed");
    assert!(error.causes().iter().any(|cause| cause.to_string().contains("the disk is gone")), "{error:?}");
}

#[test]
fn keys_that_ring_does_not_take_sign_by_the_other_library() {
    for kind in [KeyType::Rsa(1024), KeyType::Ed25519Legacy] {
        let key = key(kind);
        assert!(key.pair.is_none());
        let public = Upstream::parse(key.public()).expect("a public key");
        let (packet, _) = key.sign_rpm(b"header".as_slice(), NOW).expect("signed");
        assert!(public[0].verifies(&packet, b"header"));
        assert!(key.tried().is_ok());
    }
}

/// One bit of each byte of the secret part; with the checksum as it was, and with one that fits, which leaves it to
/// the numbers themselves to show the damage. What is taken all the same is a number that can be computed from the
/// others and is not read, the inverse of a prime: then the key is the same.
#[test]
fn a_flipped_bit_in_the_secret_part_is_noticed() {
    for key in [&*MEDIUM, &key(KeyType::Ed25519Legacy)] {
        let signed = key.sign_rpm(b"header".as_slice(), NOW).expect("signed");
        let good = key.secret.to_bytes().expect("bytes");
        let primary = &key.secret.primary_key;
        let end = primary.write_len_with_header();
        let start = end - primary.write_len() + primary.public_key().write_len();
        // Behind one byte that says "no passphrase", before two bytes of checksum.
        let sum = |bytes: &[u8]| bytes[start + 1..end - 2].iter().fold(0u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
        assert_eq!((good[start], sum(&good).to_be_bytes().as_slice()), (0, &good[end - 2..end]));
        let read = |bytes: &[u8]| {
            let secret = SignedSecretKey::from_bytes(bytes).map_err(|error| Error::new(Class::Repository, error.to_string()))?;
            Key::bound(secret).and_then(Key::tried)
        };
        assert!(read(&good).is_ok());
        let mut taken = 0;
        for at in start..end {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            for fits in [false, true] {
                if fits {
                    let fitting = sum(&bytes).to_be_bytes();
                    bytes[end - 2..end].copy_from_slice(&fitting);
                }
                if let Ok(read) = read(&bytes) {
                    let again = read.sign_rpm(b"header".as_slice(), NOW).expect("signed");
                    assert_eq!(again, signed, "byte {at} of {start}..{end}, {fits}");
                    taken += usize::from(bytes != good);
                }
            }
        }
        // (Of its length in bits, two bytes, some changes leave the length in bytes.)
        let inverse = if key.pair.is_some() { 3072 / 16 + 2 } else { 0 };
        assert!(taken <= inverse, "{taken}");
    }
}

#[test]
fn a_result_that_does_not_verify_is_not_handed_out() {
    let (public, secret) = (LARGE.secret.primary_key.public_params(), MEDIUM.secret.primary_key.secret_params());
    assert!(rsa::pair(public, secret).is_none(), "numbers of two keys");
    let config = SignatureConfig::v4(SignatureType::Binary, PublicKeyAlgorithm::RSA, HashAlgorithm::Sha256);
    assert!(!rsa::takes(&config));
    assert!(rsa::sign(LARGE.pair.as_ref().expect("a pair"), config, Vec::new()).is_err());
}

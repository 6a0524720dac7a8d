//! Keys by GnuPG, and what their owners say of them later.

use super::*;
use crate::sign::{armored, config};
use pgp::composed::SignedSecretKey;
use pgp::types::Password;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// When the keys are made.
const MADE: i64 = 1_700_000_000;
const DAY: i64 = 86_400;
const CONTENT: &[u8] = b"Suite: stable\n";

/// A home of GnuPG's, with one key in it.
struct Owner {
    home: tempfile::TempDir,
    fingerprint: String,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "all"]).output();
    }
}

impl Owner {
    /// `lasts` is how long the primary key is good.
    fn make(lasts: &str) -> Owner {
        let home = tempfile::tempdir().expect("a folder");
        let mut owner = Owner { home, fingerprint: String::new() };
        owner.gpg(MADE, "", &["--quick-generate-key", "owner", "ed25519", "cert,sign", lasts]);
        let listed = String::from_utf8(owner.gpg(MADE, "", &["--with-colons", "--list-keys"])).expect("a text");
        let line = listed.lines().find_map(|line| line.strip_prefix("fpr:")).expect("a fingerprint");
        owner.fingerprint = line.trim_matches(':').to_string();
        owner
    }

    /// What gpg says, at that time; `told` is on its standard input.
    fn gpg(&self, now: i64, told: &str, words: &[&str]) -> Vec<u8> {
        let mut gpg = Command::new("gpg");
        gpg.env("GNUPGHOME", self.home.path()).args(["--no-tty", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        gpg.args(["--faked-system-time", &format!("{now}!")]).args(if told.is_empty() {
            ["--batch"].as_slice()
        } else {
            &["--command-fd=0"]
        });
        let mut gpg = gpg.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gpg is there");
        gpg.stdin.take().expect("a pipe").write_all(told.as_bytes()).expect("it listens");
        let done = gpg.wait_with_output().expect("it ends");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    fn subkey(&self, kind: &str, usage: &str, lasts: &str) {
        self.gpg(MADE, "", &["--quick-add-key", &self.fingerprint, kind, usage, lasts]);
    }

    fn public(&self) -> Keyring {
        Keyring::parse(&self.gpg(MADE, "", &["--export"])).expect("public keys")
    }

    /// A signature by the subkey of this number, or by the primary key. (gpg signs with no subkey that is for something else.)
    fn sign(&self, subkey: Option<usize>, now: i64) -> Vec<u8> {
        let secret = self.gpg(MADE, "", &["--export-secret-keys"]);
        let secret = SignedSecretKey::from_bytes(secret.as_slice()).expect("a secret key");
        let none = Password::empty();
        let signature = match subkey {
            None => config(&secret.primary_key, SignatureType::Binary, now).and_then(|c| c.sign(&secret.primary_key, &none, CONTENT)),
            Some(at) => {
                let key = &secret.secret_subkeys[at].key;
                config(key, SignatureType::Binary, now).and_then(|config| config.sign(key, &none, CONTENT))
            }
        };
        signature.and_then(armored).expect("a signature").into_bytes()
    }

    /// Nothing where the signature is taken, or why it is not.
    fn refusal(&self, signature: &[u8], now: i64) -> Option<String> {
        self.public().beside(CONTENT, signature, now).map_err(|error| error.to_string()).map(|by| assert_eq!(by, self.fingerprint)).err()
    }

    fn refuses(&self, signature: &[u8], now: i64, why: &str) {
        let said = self.refusal(signature, now).expect("it is refused");
        assert!(said.contains(why), "{why}: {said}");
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file");
}

#[test]
fn a_subkey_signs_until_its_owner_or_its_time_ends_that() {
    let owner = Owner::make("never");
    owner.subkey("ed25519", "sign", "30d");
    let signature = owner.sign(Some(0), MADE + DAY);
    assert_eq!(owner.refusal(&signature, MADE + 29 * DAY), None);
    assert_eq!(owner.refusal(&owner.sign(None, MADE + DAY), MADE + 99 * DAY), None);
    owner.refuses(&signature, MADE + 31 * DAY, "was good until Thu, 14 Dec 2023");

    // What counts is the newest of what its owner says.
    owner.gpg(MADE + 2 * DAY, "key 1\nexpire\n90d\nsave\n", &["--edit-key", &owner.fingerprint]);
    assert_eq!(owner.refusal(&signature, MADE + 31 * DAY), None);
    owner.refuses(&signature, MADE + 93 * DAY, "was good until");

    owner.gpg(MADE + 3 * DAY, "key 1\nrevkey\ny\n0\n\ny\nsave\n", &["--edit-key", &owner.fingerprint]);
    owner.refuses(&signature, MADE + 4 * DAY, "has revoked the subkey");
    assert_eq!(owner.refusal(&owner.sign(None, MADE + DAY), MADE + 4 * DAY), None, "the primary key is as good as it was");
}

#[test]
fn a_subkey_that_is_not_for_signatures_makes_none() {
    let owner = Owner::make("never");
    owner.subkey("rsa2048", "encr", "never");
    owner.refuses(&owner.sign(Some(0), MADE + DAY), MADE + 2 * DAY, "is not for signatures");
}

#[test]
fn a_revoked_primary_key_takes_its_subkeys_with_it() {
    let owner = Owner::make("never");
    owner.subkey("ed25519", "sign", "never");
    let both = [owner.sign(None, MADE + DAY), owner.sign(Some(0), MADE + DAY)];
    let kept = owner.home.path().join(format!("openpgp-revocs.d/{}.rev", owner.fingerprint));
    let text = std::fs::read_to_string(&kept).expect("gpg makes one beforehand").replace(":-----BEGIN", "-----BEGIN");
    write(&kept, text.as_bytes());
    for signature in &both {
        assert_eq!(owner.refusal(signature, MADE + 2 * DAY), None);
    }
    owner.gpg(MADE + DAY, "", &["--import", &kept.display().to_string()]);
    for signature in &both {
        owner.refuses(signature, MADE + 2 * DAY, "has revoked the key");
    }
}

/// A user id is taken back after the key was made: that is the newest signature, and has no end in it.
#[test]
fn a_user_id_that_is_taken_back_makes_no_key_good_for_ever() {
    let owner = Owner::make("60d");
    owner.subkey("ed25519", "sign", "never");
    owner.gpg(MADE + DAY, "", &["--quick-add-uid", &owner.fingerprint, "another"]);
    owner.gpg(MADE + 2 * DAY, "", &["--quick-revoke-uid", &owner.fingerprint, "another"]);
    for subkey in [None, Some(0)] {
        let signature = owner.sign(subkey, MADE + 3 * DAY);
        assert_eq!(owner.refusal(&signature, MADE + 59 * DAY), None);
        owner.refuses(&signature, MADE + 61 * DAY, "the key was good until");
    }
    owner.gpg(MADE + 4 * DAY, "", &["--quick-set-expire", &owner.fingerprint, "90d"]);
    assert_eq!(owner.refusal(&owner.sign(None, MADE + 5 * DAY), MADE + 61 * DAY), None, "its owner says that it is good for longer");
}

/// As a keyring has it that was appended to: the key as it was, and as it is.
#[test]
fn a_key_that_stands_there_twice_is_one_key() {
    let owner = Owner::make("30d");
    owner.subkey("ed25519", "sign", "30d");
    let signatures = [owner.sign(None, MADE + DAY), owner.sign(Some(0), MADE + DAY)];
    let exported = |armor: &[&str]| owner.gpg(MADE, "", &[armor, &["--export"]].concat());
    let old = [exported(&[]), exported(&["--armor"])];
    owner.gpg(MADE + 2 * DAY, "", &["--quick-set-expire", &owner.fingerprint, "90d"]);
    owner.gpg(MADE + 2 * DAY, "", &["--quick-set-expire", &owner.fingerprint, "90d", "*"]);
    owner.gpg(MADE + 3 * DAY, "", &["--quick-add-uid", &owner.fingerprint, "another"]);
    let new = [exported(&[]), exported(&["--armor"])];
    for (old, new) in old.iter().zip(&new) {
        for parts in [[old, new], [new, old], [new, new]] {
            let keyring = Keyring::parse(&parts.map(Vec::as_slice).concat()).expect("public keys");
            assert_eq!(keyring.fingerprints(), [owner.fingerprint.as_str()]);
            for signature in &signatures {
                let taken = keyring.beside(CONTENT, signature, MADE + 60 * DAY);
                assert!(taken.is_ok(), "the newest of what its owner says counts: {taken:?}");
                assert!(keyring.beside(CONTENT, signature, MADE + 99 * DAY).is_err());
            }
            // What is handed on is one key, which GnuPG reads.
            let [one] = &keyring.armored().expect("a key")[..] else { panic!("one key") };
            let other = tempfile::tempdir().expect("a folder");
            let file = other.path().join("key.asc");
            write(&file, one.as_bytes());
            let shown =
                Command::new("gpg").env("GNUPGHOME", other.path()).args(["--batch", "--with-colons", "--show-keys"]).arg(&file).output();
            let shown = String::from_utf8(shown.expect("gpg is there").stdout).expect("a text");
            let of_kind = |kind: &str| shown.lines().filter(|line| line.starts_with(kind)).count();
            assert_eq!((of_kind("pub:"), of_kind("uid:"), of_kind("sub:")), (1, 2, 1), "{shown}");
        }
    }
}

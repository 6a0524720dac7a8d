//! GnuPG judges our signatures.

use crate::common::{self, gpgv};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use twostage_reposerver::sign::{Algorithm, Key};

const TEXT: &str = "Origin: demo\n- a line with a dash\nSHA256:\n 00 1 main/binary-amd64/Packages\n";

fn gpgv_takes_both(key: &Key, now: i64) {
    let dir = TempDir::new().unwrap();
    let (inrelease, release, gpg) = (dir.path().join("InRelease"), dir.path().join("Release"), dir.path().join("Release.gpg"));
    let clear = key.clear_sign(TEXT, now).unwrap();
    fs::write(&inrelease, &clear).unwrap();
    fs::write(&release, TEXT).unwrap();
    fs::write(&gpg, key.detached(TEXT, now).unwrap()).unwrap();
    let good = || {
        for args in [vec![inrelease.as_path()], vec![gpg.as_path(), release.as_path()]] {
            let (ok, text) = gpgv(key.public(), dir.path(), &args);
            assert!(ok && text.contains("Good signature from \"demo package repository\""), "{text}");
        }
    };
    good();
    let (clear_of_both, detached_of_both) = key.sign_release(TEXT, now).unwrap();
    assert_eq!(clear_of_both.split("-----BEGIN PGP SIGNATURE-----").last(), detached_of_both.split("-----BEGIN PGP SIGNATURE-----").last());
    fs::write(&inrelease, &clear_of_both).unwrap();
    fs::write(&gpg, detached_of_both).unwrap();
    good();
    fs::write(&release, TEXT.replace("demo", "dema")).unwrap();
    assert!(!gpgv(key.public(), dir.path(), &[&gpg, &release]).0);
    for at in [clear.find("demo").unwrap(), clear.find(" 00 ").unwrap() + 1, clear.len() - 60] {
        let mut bytes = clear.clone().into_bytes();
        bytes[at] ^= 1;
        fs::write(&inrelease, bytes).unwrap();
        assert!(!gpgv(key.public(), dir.path(), &[&inrelease]).0, "byte {at} flipped");
    }
}

#[test]
fn gpgv_takes_ed25519_signatures_and_refuses_a_flipped_byte() {
    gpgv_takes_both(&Key::make("demo package repository", Algorithm::Ed25519, 1_700_000_000).unwrap(), 1_700_000_001);
}

#[test]
fn gpgv_takes_rsa_signatures_and_refuses_a_flipped_byte() {
    let start = std::time::Instant::now();
    let key = Key::make("demo package repository", Algorithm::Rsa4096, 1_700_000_000).unwrap();
    println!("RSA4096 made in {:?}", start.elapsed());
    gpgv_takes_both(&key, 1_700_000_001);
}

#[test]
fn a_signature_is_never_older_than_its_key() {
    gpgv_takes_both(&Key::make("demo package repository", Algorithm::Ed25519, 1_700_000_000).unwrap(), 5);
}

#[test]
fn a_key_is_made_once_and_nobody_else_may_read_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key/signing.asc");
    let load = || Key::load_or_make(&path, "demo package repository", Algorithm::Ed25519, 1_700_000_000);
    let made = load().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let read = load().unwrap();
    assert_eq!((made.fingerprint(), made.public()), (read.fingerprint(), read.public()));
    gpgv_takes_both(&read, 1_700_000_001);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = load().unwrap_err();
    assert!(refused.what().contains("0640") && refused.hint_text().unwrap().contains("chmod 600"), "{refused}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "nonsense").unwrap();
    assert!(load().is_err(), "a file that is there is never replaced");
}

#[test]
fn processes_that_start_at_once_agree_on_one_key() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key/signing.asc");
    let keys: Vec<String> = std::thread::scope(|scope| {
        let make = || Key::load_or_make(&path, "demo package repository", Algorithm::Ed25519, 1).unwrap().fingerprint().to_string();
        (0..4).map(|_| scope.spawn(make)).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn a_key_that_gnupg_made_signs_too_with_its_signing_subkey() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |args: &[&str]| {
        let base = ["--batch", "--pinentry-mode", "loopback", "--passphrase", ""];
        common::run(std::process::Command::new("gpg").args(base).args(args).env("GNUPGHOME", dir.path()))
    };
    gpg(&["--quick-generate-key", "demo package repository", "rsa2048", "cert", "never"]);
    let fingerprint = gpg(&["--with-colons", "--list-keys"]).lines().find_map(|l| l.strip_prefix("fpr:::::::::")).unwrap().replace(':', "");
    gpg(&["--quick-add-key", &fingerprint, "rsa2048", "sign", "never"]);
    let key = Key::parse(&gpg(&["--armor", "--export-secret-keys"])).unwrap();
    assert_eq!(key.fingerprint(), fingerprint);
    gpgv_takes_both(&key, common::now());
}

#[test]
fn blanks_at_line_ends_are_not_signed_in_the_clear() {
    let key = Key::make("demo package repository", Algorithm::Ed25519, 1).unwrap();
    assert!(key.clear_sign("Origin: \n", 2).is_err());
}

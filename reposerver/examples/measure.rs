//! Numbers for people: `cargo run -p twostage-reposerver --release --example measure [FOLDER]`.
//! Given a folder, it also leaves a key of each kind with its signatures there, for checkers that
//! the tests do not have (`sqv`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/server/common.rs"]
mod common;

use common::{deb, now, publish, settings};
use std::time::Instant;
use twostage_reposerver::sign::{Algorithm, Key};
use twostage_reposerver::{Repository, Settings};

fn main() {
    let algorithms = [Algorithm::Rsa4096, Algorithm::Rsa3072, Algorithm::Ed25519];
    algorithms.into_iter().for_each(signing);
    for algorithm in algorithms {
        let mut times: Vec<_> =
            (0..11).map(|_| timed(|| Key::make("demo package repository", algorithm, 1_700_000_000).unwrap())).collect();
        times.sort();
        println!("{algorithm:?} made: fastest {:?}, median {:?}, slowest {:?}", times[0], times[5], times[10]);
    }
    publishing_a_thousand_packages();
    if let Some(folder) = std::env::args().nth(1) {
        samples(&folder);
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> std::time::Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The fastest and the median of 51: what another process takes meanwhile does not count.
fn signing(algorithm: Algorithm) {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("signing.asc");
    let load = || Key::load_or_make(&path, "demo package repository", algorithm, 1_700_000_000).unwrap();
    let key = load();
    let text = "Origin: demo\nSuite: twostage\n";
    let one = |what: &str, work: &dyn Fn()| {
        let mut times: Vec<_> = (0..51).map(|_| timed(work)).collect();
        times.sort();
        println!("{algorithm:?} {what}: fastest {:?}, median {:?}", times[0], times[25]);
    };
    one("a key read", &|| drop(load()));
    one("Release.gpg", &|| drop(key.detached(text, 1_700_000_000).unwrap()));
    one("InRelease and Release.gpg", &|| drop(key.sign_release(text, 1_700_000_000).unwrap()));
}

fn publishing_a_thousand_packages() {
    // Not /tmp, which may be memory: syncing is part of the cost.
    let dir = tempfile::TempDir::new_in("/var/tmp").unwrap();
    let open = || Repository::open(&dir.path().join("repo"), Settings { algorithm: Algorithm::Rsa4096, ..settings() }).unwrap();
    let repo = open();
    repo.signing().key(now()).unwrap();
    let debs: Vec<_> = (0..1001).map(|i| deb(&format!("package{i}"), "1.0-1", "amd64", "Depends: libc6 (>= 2.36)\n", "content")).collect();
    let start = Instant::now();
    let packages: Vec<_> = debs.iter().map(|bytes| repo.pool().ingest(&bytes[..], "x").unwrap()).collect();
    println!("ingest of {} small debs: {:?}", packages.len(), start.elapsed());
    let all: Vec<_> = packages.iter().map(|p| &**p).collect();
    for (what, members) in [("publish of 1000", &all[..1000]), ("one more", &all[..]), ("nothing new", &all[..])] {
        println!("{what}: {:?}", timed(|| publish(&repo, "main", "g", members, 1_700_000_000).unwrap()));
    }
    let again = open();
    println!("one less, from a new process: {:?}", timed(|| publish(&again, "main", "g", &all[..1000], 1_700_000_000).unwrap()));
}

fn samples(folder: &str) {
    for (name, algorithm) in [("rsa", Algorithm::Rsa4096), ("ed25519", Algorithm::Ed25519)] {
        let key = Key::make("demo package repository", algorithm, now()).unwrap();
        let write = |end: &str, text: &str| std::fs::write(format!("{folder}/{name}.{end}"), text).unwrap();
        let text = "Origin: demo\nSuite: twostage\n";
        write("asc", key.public());
        write("Release", text);
        let (inrelease, release_gpg) = key.sign_release(text, now()).unwrap();
        write("InRelease", &inrelease);
        write("Release.gpg", &release_gpg);
    }
}

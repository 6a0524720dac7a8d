//! A publisher killed at any point leaves the old state or the new one, whole.

use crate::common::{self, Served, Shop, now, publish, settings};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use twostage_model::Sha256;
use twostage_reposerver::Repository;

const FOLDER: &str = "TWOSTAGE_TEST_PUBLISH_IN";

/// The victim: takes in packages and publishes ever other sets of them, until it is killed. It
/// does nothing unless the test below starts it.
#[test]
fn publish_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let repo = Repository::open(folder.as_ref(), settings()).unwrap();
    let debs: Vec<_> = fs::read_dir(repo.root().join("../debs")).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    let end = Instant::now() + Duration::from_secs(20);
    let mut seed = u64::from(std::process::id());
    while Instant::now() < end {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let chosen = usize::try_from(seed >> 33).unwrap() % debs.len();
        let package = repo.pool().ingest(&debs[chosen][..], "x").unwrap();
        repo.publish("main", 1_700_000_000, |members| {
            let group = members.entry("some".to_string()).or_default();
            if !group.remove(&package.sha256) {
                group.insert(package.sha256);
            }
        })
        .unwrap();
    }
}

#[test]
fn a_publisher_killed_at_any_point_leaves_the_old_state_or_the_new_one_whole() {
    let shop = Shop::new();
    let first = shop.add("first", "1", "x");
    publish(&shop.repo, "main", "first", &[&first], 1_600_000_000).unwrap();
    fs::create_dir(shop.dir.path().join("debs")).unwrap();
    for i in 0..12 {
        fs::write(shop.dir.path().join(format!("debs/{i}")), common::deb(&format!("pkg{i}"), "1", "all", "", "x")).unwrap();
    }
    let served = Served::new(&shop.repo);
    let mut seed = u64::from(std::process::id());
    let mut dates = BTreeSet::new();
    // 20 of them, and more where the machine has so much else to do that few came as far as to publish.
    for round in 0.. {
        if round >= 20 && dates.len() > 3 {
            break;
        }
        assert!(round < 200, "the victims did publish: {dates:?}");
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::publish_until_killed"])
            .env(FOLDER, shop.repo.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(5 + (seed >> 33) % (100 + 10 * round)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let release = served.get("/main/dists/twostage/Release", &[]).text();
        let files: Vec<Vec<&str>> = release.lines().filter(|l| l.starts_with(' ')).map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(files.len(), 3);
        for file in files {
            let got = served.get(&format!("/main/dists/twostage/{}", file[2]), &[]);
            assert_eq!((got.digest().to_string().as_str(), got.body.len().to_string().as_str()), (file[0], file[1]));
        }
        let packages = served.get("/main/dists/twostage/main/binary-amd64/Packages", &[]).text();
        for line in packages.lines().filter_map(|line| line.strip_prefix("Filename: ")) {
            let got = served.get(&format!("/main/{line}"), &[]);
            assert!(line.contains(&Sha256::of(&got.body).to_string()), "{line}");
        }
        dates.insert(shop.again().channels().get("main").unwrap().unwrap().date);
    }
    // The next publisher finishes, and nothing of the dead is left.
    let next = Arc::new(shop.again());
    let left = fs::read_dir(shop.repo.root().join("tmp")).unwrap().count();
    assert_eq!(left, 2, "the folders of the two living");
    let more = next.pool().ingest(&common::deb("more", "1", "all", "", "x")[..], "more").unwrap();
    assert!(publish(&next, "main", "more", &[&more], now()).unwrap().changed);
    served.stop();
}

//! Thousands of debs that are wrong in some way, given to `publish`.

use crate::apt::{Apt, Shop};
use crate::mutants::{self, Id};
use crate::support::{Serving, Used, root, step, tool, uses};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// A package is refused with its file and the reason, and then nothing in the repository has
/// changed; or it is published, and then real apt and dpkg read it. (`tests/tools/mutate_debs.py`
/// says what the mutants are.)
#[test]
fn a_mutated_package_is_refused_with_its_reason_or_readable_to_apt() {
    uses(Used::Apt);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mutants = mutants::make("mutate_debs.py", folder.path(), 2000 / step(4), "1");
    let parts = mutants::publish_each(&mutants);
    let wrong: String = parts.iter().map(|(shop, part)| judge(shop, &part.taken)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// Real apt fetches, real dpkg unpacks, and apt-ftparchive says the same of every survivor.
/// Gives what does not hold.
fn judge(shop: &Shop, accepted: &[(PathBuf, Id)]) -> String {
    let serving = Serving::of(shop.path());
    let architectures: BTreeSet<String> =
        accepted.iter().map(|(_, id)| id.arch.clone()).filter(|arch| arch != "all").chain(["amd64".to_string()]).collect();
    let mut architectures: Vec<String> = architectures.into_iter().collect();
    architectures.sort_by_key(|arch| arch != "amd64");
    let apt = Apt::new(&serving.address, &architectures);
    let updated = apt.run("apt-get", &["update"]).ok();
    assert!(!updated.err.contains("W:") && !updated.err.contains("E:"), "{}", updated.err);
    let mut wanted = vec!["download".to_string()];
    wanted.extend(accepted.iter().map(|(_, id)| {
        let arch = if id.arch == "all" { String::new() } else { format!(":{}", id.arch) };
        format!("{}{arch}={}", id.name, id.version)
    }));
    apt.run("apt-get", &wanted.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let survivors = shop.path().join("survivors");
    fs::create_dir(&survivors).expect("a folder");
    let mut wrong = String::new();
    for (path, id) in accepted {
        let file = format!("{}_{}_{}.deb", id.name, id.version.replace(':', "%3a"), id.arch);
        let got = apt.path("got").join(&file);
        if fs::read(&got).ok() != fs::read(path).ok() {
            wrong += &format!("{}: apt-get download gives another file as {file}\n", path.display());
            continue;
        }
        let root = tempfile::tempdir_in(shop.path()).expect("a folder");
        for arguments in [vec!["-x"], vec!["-e"]] {
            let at = root.path().join(arguments[0]);
            let done = tool("dpkg-deb", &[arguments[0], &got.to_string_lossy(), &at.to_string_lossy()]);
            if done.status != 0 {
                wrong += &format!("{}: dpkg-deb {}: {}\n", path.display(), arguments[0], done.err);
            }
        }
        if id.arch == "all" || id.arch == "amd64" {
            fs::hard_link(path, survivors.join(&file)).expect("a link");
        }
    }
    let ours = shop.path().join("Packages");
    fs::write(&ours, serving.get("/main/dists/twostage/main/binary-amd64/Packages")).expect("a file");
    let compare = root().join("tests/tools/compare_packages.py").display().to_string();
    let judged = tool("python3", &[&compare, &ours.to_string_lossy(), &survivors.to_string_lossy()]);
    eprintln!("{} survivors fetched by apt for {architectures:?} and unpacked by dpkg", accepted.len());
    wrong + judged.err.trim()
}

#[test]
fn one_bad_package_among_good_ones_publishes_none() {
    mutants::one_bad_among_good_ones("mutate_debs.py", "deb");
}

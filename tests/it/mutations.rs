//! Thousands of debs that are wrong in some way, given to `publish`.

use crate::apt::{Apt, Shop};
use crate::support::{Serving, Used, root, run, tool, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

const MUTANTS: usize = 2000;
const SEED: &str = "1";

/// A package is refused with its file and the reason, and then nothing in the repository has
/// changed; or it is published, and then real apt and dpkg read it. (`tests/tools/mutate_debs.py`
/// says what the mutants are.)
#[test]
fn a_mutated_package_is_refused_with_its_reason_or_readable_to_apt() {
    uses(Used::Apt);
    let shop = Shop::new("mutants");
    let folder = shop.path().join("mutants");
    let maker = root().join("tests/tools/mutate_debs.py").display().to_string();
    tool("python3", &[&maker, &folder.to_string_lossy(), &MUTANTS.to_string(), SEED]).ok();
    let mut mutants: Vec<PathBuf> = fs::read_dir(&folder).expect("the mutants").map(|entry| entry.expect("an entry").path()).collect();
    mutants.sort();
    assert_eq!(mutants.len(), MUTANTS);

    let started = Instant::now();
    let mut accepted: Vec<(PathBuf, Id)> = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut wrong = String::new();
    let mut before = tree(shop.path());
    for path in &mutants {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let kind = name.trim_end_matches(".deb").split('-').nth(1).expect("a kind").to_string();
        let done = run(&mut shop.command(&["publish", &path.to_string_lossy()]));
        let after = tree(shop.path());
        let counts = kinds.entry(kind.clone()).or_default();
        let left: Vec<&String> = after.keys().filter(|file| file.contains("/tmp/") || file.contains("incoming")).collect();
        if !left.is_empty() {
            wrong += &format!("{name}: left {left:?}\n");
        }
        match done.status {
            0 => {
                counts.0 += 1;
                let words: Vec<&str> = done.out.lines().next().unwrap_or_default().split(' ').collect();
                let [package, version, arch] = words.as_slice() else { panic!("{name}: {}", done.out) };
                accepted.push((path.clone(), Id { name: (*package).into(), version: (*version).into(), arch: (*arch).into() }));
            }
            5 => {
                counts.1 += 1;
                let reason = done.err.lines().filter_map(|line| line.trim().strip_prefix("because: ")).next_back().unwrap_or_default();
                if !done.err.contains(&format!("{name} is not published")) || reason.len() < 10 {
                    wrong += &format!("{name}: refused without file or reason: {}\n", done.err);
                }
                *reasons.entry(shape(reason)).or_default() += 1;
                let changed = differences(&before, &after);
                if !changed.is_empty() {
                    wrong += &format!("{name}: refused ({reason}), but {changed:?} changed\n");
                }
                if kind == "untouched" {
                    wrong += &format!("{name}: a good package is refused: {}\n", done.err);
                }
            }
            status => wrong += &format!("{name}: ended with {status}: {}\n", done.err),
        }
        if done.err.contains("panicked") {
            wrong += &format!("{name}: {}\n", done.err);
        }
        before = after;
    }
    let published = started.elapsed();
    eprintln!("{MUTANTS} mutants in {:.0} s; taken and refused by kind: {kinds:?}", published.as_secs_f64());
    let mut reasons: Vec<(usize, String)> = reasons.into_iter().map(|(reason, count)| (count, reason)).collect();
    reasons.sort_by(|a, b| b.cmp(a));
    eprintln!("{} different reasons, the first: {:#?}", reasons.len(), &reasons[..reasons.len().min(12)]);
    assert!(wrong.is_empty(), "{wrong}");
    assert!(accepted.len() > MUTANTS / 50 && reasons.len() > 30, "{} were taken, {} reasons", accepted.len(), reasons.len());
    judge(&shop, &accepted);
}

/// Real apt fetches, real dpkg unpacks, and apt-ftparchive says the same of every survivor.
fn judge(shop: &Shop, accepted: &[(PathBuf, Id)]) {
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
    assert!(wrong.is_empty() && judged.status == 0, "{wrong}{}", judged.err);
}

/// All or nothing: a bad package among good ones publishes none of them, whatever its place.
#[test]
fn one_bad_package_among_good_ones_publishes_none() {
    let shop = Shop::new("among");
    let folder = shop.path().join("mutants");
    let maker = root().join("tests/tools/mutate_debs.py").display().to_string();
    tool("python3", &[&maker, &folder.to_string_lossy(), "400", "all or nothing"]).ok();
    let mut good: Vec<PathBuf> = fs::read_dir(&folder).expect("the mutants").map(|entry| entry.expect("an entry").path()).collect();
    good.retain(|path| path.to_string_lossy().ends_with("-untouched.deb"));
    good.sort();
    assert!(good.len() >= 4, "{good:?}");
    let bad = shop.path().join("bad.deb");
    fs::write(&bad, &fs::read(&good[0]).expect("a package")[..500]).expect("a file");
    let (first, rest) = good.split_at(1);
    run(shop.command(&["publish"]).args(first)).ok();
    let channel = shop.path().join(".twostage/repository/channels/main.json");
    let before = (fs::read(&channel).expect("the channel"), snapshots(shop.path()));
    for place in 0..=rest.len() {
        let mut files = rest.to_vec();
        files.insert(place, bad.clone());
        run(shop.command(&["publish"]).args(&files)).fails_with(5).says("bad.deb is not published");
        assert_eq!((fs::read(&channel).expect("the channel"), snapshots(shop.path())), before, "the bad one at place {place}");
    }
    run(shop.command(&["publish"]).args(rest)).ok();
    assert_ne!(fs::read(&channel).expect("the channel"), before.0);
}

fn snapshots(project: &Path) -> usize {
    fs::read_dir(project.join(".twostage/repository/snapshots")).expect("the snapshots").count()
}

/// Name, version, architecture.
struct Id {
    name: String,
    version: String,
    arch: String,
}

/// A reason without what differs from package to package.
fn shape(reason: &str) -> String {
    let text = reason.split_once(" is refused: ").map_or(reason, |(_, why)| why);
    text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(60).collect()
}

type Tree = BTreeMap<String, (u64, Option<SystemTime>)>;

/// Everything in the project's state: size, and for files when they were last written.
fn tree(project: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![project.join(".twostage")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.expect("an entry");
            let about = entry.metadata().expect("a file");
            let name = entry.path().to_string_lossy().into_owned();
            if about.is_dir() {
                folders.push(entry.path());
                found.insert(name, (0, None));
            } else {
                found.insert(name, (about.len(), about.modified().ok()));
            }
        }
    }
    found
}

fn differences<'a>(before: &'a Tree, after: &'a Tree) -> Vec<&'a String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    // The first call of all makes the folders and the lock file, also when it refuses.
    if before.is_empty() { Vec::new() } else { names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect() }
}

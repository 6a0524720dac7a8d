//! Thousands of debs that are wrong in some way, given to `publish`.

use crate::apt::{Apt, Shop};
use crate::support::{Serving, Used, root, run, tool, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

const MUTANTS: usize = 2000;
const SEED: &str = "1";
const SHOPS: usize = 4;

/// A package is refused with its file and the reason, and then nothing in the repository has
/// changed; or it is published, and then real apt and dpkg read it. (`tests/tools/mutate_debs.py`
/// says what the mutants are.)
#[test]
fn a_mutated_package_is_refused_with_its_reason_or_readable_to_apt() {
    uses(Used::Apt);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let maker = root().join("tests/tools/mutate_debs.py").display().to_string();
    tool("python3", &[&maker, &folder.path().to_string_lossy(), &MUTANTS.to_string(), SEED]).ok();
    let mut mutants: Vec<PathBuf> =
        fs::read_dir(folder.path()).expect("the mutants").map(|entry| entry.expect("an entry").path()).collect();
    mutants.sort();
    assert_eq!(mutants.len(), MUTANTS);

    // Several repositories at the same time: most of a publish is waiting for the disk.
    let started = Instant::now();
    let parts: Vec<(Shop, Outcome)> = std::thread::scope(|scope| {
        let threads: Vec<_> = mutants
            .chunks(MUTANTS / SHOPS)
            .map(|part| {
                scope.spawn(move || {
                    let shop = Shop::new("mutants");
                    let outcome = publish_each(&shop, part);
                    (shop, outcome)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut all = Outcome::default();
    for (_, part) in &parts {
        all.wrong += &part.wrong;
        part.kinds.iter().for_each(|(kind, (taken, refused))| {
            let counts = all.kinds.entry(kind.clone()).or_default();
            *counts = (counts.0 + taken, counts.1 + refused);
        });
        part.reasons.iter().for_each(|(reason, count)| *all.reasons.entry(reason.clone()).or_default() += count);
    }
    let taken: usize = all.kinds.values().map(|(taken, _)| taken).sum();
    let mut reasons: Vec<(usize, String)> = all.reasons.into_iter().map(|(reason, count)| (count, reason)).collect();
    reasons.sort_by(|a, b| b.cmp(a));
    eprintln!("{MUTANTS} mutants in {seconds:.0} s: {taken} taken; (taken, refused) by kind: {:?}", all.kinds);
    eprintln!("{} different reasons, most often: {:?}", reasons.len(), &reasons[..reasons.len().min(8)]);
    assert!(all.wrong.is_empty(), "{}", all.wrong);
    assert!(taken > MUTANTS / 50 && reasons.len() > 30, "{taken} were taken, {} reasons", reasons.len());
    let wrong: String = parts.iter().map(|(shop, part)| judge(shop, &part.taken)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// What became of mutants.
#[derive(Default)]
struct Outcome {
    taken: Vec<(PathBuf, Id)>,
    /// How many were taken and refused, by kind.
    kinds: BTreeMap<String, (usize, usize)>,
    reasons: BTreeMap<String, usize>,
    /// What must not be.
    wrong: String,
}

fn publish_each(shop: &Shop, mutants: &[PathBuf]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut complain = String::new();
    for (number, path) in mutants.iter().enumerate() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let kind = name.trim_end_matches(".deb").split('-').nth(1).expect("a kind").to_string();
        // Everything is looked at now and then, the channel and leftovers each time.
        let look = |shop: &Shop| if number % 20 == 10 { tree(shop.path(), "") } else { tree(shop.path(), "channels") };
        let before = look(shop);
        let done = run(&mut shop.command(&["publish", &path.to_string_lossy()]));
        let counts = outcome.kinds.entry(kind.clone()).or_default();
        match done.status {
            0 => {
                counts.0 += 1;
                let words: Vec<&str> = done.out.lines().next().unwrap_or_default().split(' ').collect();
                let [package, version, arch] = words.as_slice() else { panic!("{name}: {}", done.out) };
                outcome.taken.push((path.clone(), Id { name: (*package).into(), version: (*version).into(), arch: (*arch).into() }));
            }
            5 => {
                counts.1 += 1;
                let reason = done.err.lines().filter_map(|line| line.trim().strip_prefix("because: ")).next_back().unwrap_or_default();
                if !done.err.contains(&format!("{name} is not published")) || reason.len() < 10 {
                    complain += &format!("{name}: refused without file or reason: {}\n", done.err);
                }
                *outcome.reasons.entry(shape(reason)).or_default() += 1;
                let after = look(shop);
                let changed = differences(&before, &after);
                // The very first call makes the folders, also when it refuses.
                if !changed.is_empty() && number > 0 {
                    complain += &format!("{name}: refused ({reason}), but {changed:?} changed\n");
                }
                if kind == "untouched" {
                    complain += &format!("{name}: a good package is refused: {}\n", done.err);
                }
            }
            status => complain += &format!("{name}: ended with {status}: {}\n", done.err),
        }
        if done.err.contains("panicked") {
            complain += &format!("{name}: {}\n", done.err);
        }
        let left = tree(shop.path(), "tmp");
        if left.len() > 1 {
            complain += &format!("{name}: left {:?}\n", left.keys());
        }
    }
    outcome.wrong = complain;
    outcome
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

/// Everything in the repository, or in one folder of it: size, and for files when they were last
/// written.
fn tree(project: &Path, below: &str) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![project.join(".twostage/repository").join(below)];
    while let Some(folder) = folders.pop() {
        found.insert(folder.to_string_lossy().into_owned(), (0, None));
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.expect("an entry");
            let about = entry.metadata().expect("a file");
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().to_string_lossy().into_owned(), (about.len(), about.modified().ok()));
            }
        }
    }
    found
}

fn differences<'a>(before: &'a Tree, after: &'a Tree) -> Vec<&'a String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect()
}

//! Thousands of packages that are wrong in some way, given to `publish` one by one: what is the same
//! for debs and rpms.

use crate::apt::Shop;
use crate::support::{root, run, tool};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

/// Several repositories at the same time: most of a publish is waiting for the disk.
const SHOPS: usize = 8;

/// Address space that a publish of one package may have, in bytes: what the whole command maps, its
/// threads' stacks among it. (One that wants more is ended, which is neither of the good ends.)
const ADDRESS_SPACE: u64 = 256 << 20;

/// Name, version, architecture.
pub struct Id {
    pub name: String,
    pub version: String,
    pub arch: String,
}

/// What became of mutants.
#[derive(Default)]
pub struct Outcome {
    pub taken: Vec<(PathBuf, Id)>,
    /// How many were taken and refused, by kind.
    kinds: BTreeMap<String, (usize, usize)>,
    reasons: BTreeMap<String, usize>,
    /// What must not be.
    wrong: String,
}

/// Mutants by one of `tests/tools/mutate_*.py`, the same ones for the same seed, in their order.
pub fn make(tool_name: &str, folder: &Path, count: usize, seed: &str) -> Vec<PathBuf> {
    let maker = root().join("tests/tools").join(tool_name).display().to_string();
    tool("python3", &[&maker, &folder.to_string_lossy(), &count.to_string(), seed]).ok();
    let mut mutants: Vec<PathBuf> = fs::read_dir(folder).expect("the mutants").map(|entry| entry.expect("an entry").path()).collect();
    mutants.sort();
    assert_eq!(mutants.len(), count);
    mutants
}

/// Gives each to `publish`. Every one must be refused with its file and its reason, and nothing of
/// the repository may have changed then; or it is published. Returns the repositories with what was.
pub fn publish_each(mutants: &[PathBuf]) -> Vec<(Shop, Outcome)> {
    let started = Instant::now();
    let parts: Vec<(Shop, Outcome)> = std::thread::scope(|scope| {
        let threads: Vec<_> = mutants
            .chunks(mutants.len().div_ceil(SHOPS))
            .map(|part| {
                scope.spawn(move || {
                    let shop = Shop::new("mutants");
                    let outcome = publish_in(&shop, part);
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
    eprintln!("{} mutants in {seconds:.0} s: {taken} taken; (taken, refused) by kind: {:?}", mutants.len(), all.kinds);
    eprintln!("{} different reasons, most often: {:?}", reasons.len(), &reasons[..reasons.len().min(8)]);
    assert!(all.wrong.is_empty(), "{}", all.wrong);
    assert!(taken > mutants.len() / 50 && reasons.len() > 30, "{taken} were taken, {} reasons", reasons.len());
    parts
}

/// The command, with a bound on its memory.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("prlimit");
    bounded.arg(format!("--as={ADDRESS_SPACE}")).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded
}

fn publish_in(shop: &Shop, mutants: &[PathBuf]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut complain = String::new();
    for (number, path) in mutants.iter().enumerate() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let kind = name.split(['-', '.']).nth(1).expect("a kind").to_string();
        // Everything is looked at now and then; the channel, the packages and leftovers each time.
        let parts: &[&str] = if number % 20 == 10 { &[""] } else { &["channels", "pool", "catalog", "signed"] };
        let look = |shop: &Shop| parts.iter().flat_map(|part| tree(shop.path(), part)).collect::<Tree>();
        let before = look(shop);
        let done = run(&mut bounded(&shop.command(&["publish", &path.to_string_lossy()])));
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

/// All or nothing: a bad package among good ones publishes none of them, whatever its place.
pub fn one_bad_among_good_ones(maker: &str, ending: &str) {
    let shop = Shop::new("among");
    let mut good = make(maker, &shop.path().join("mutants"), 400, "all or nothing");
    good.retain(|path| path.to_string_lossy().ends_with(&format!("-untouched.{ending}")));
    assert!(good.len() >= 4, "{good:?}");
    let bad = shop.path().join(format!("bad.{ending}"));
    fs::write(&bad, &fs::read(&good[0]).expect("a package")[..500]).expect("a file");
    let (first, rest) = good.split_at(1);
    run(shop.command(&["publish"]).args(first)).ok();
    let repository = shop.path().join(".twostage/repository");
    let channel = || fs::read(repository.join("channels/main.json")).expect("the channel");
    let snapshots = || fs::read_dir(repository.join("snapshots")).expect("the snapshots").count();
    let before = (channel(), snapshots());
    for place in 0..=rest.len() {
        let mut files = rest.to_vec();
        files.insert(place, bad.clone());
        run(shop.command(&["publish"]).args(&files)).fails_with(5).says(&format!("bad.{ending} is not published"));
        assert_eq!((channel(), snapshots()), before, "the bad one at place {place}");
    }
    run(shop.command(&["publish"]).args(rest)).ok();
    assert_ne!(channel(), before.0);
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

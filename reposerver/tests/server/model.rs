//! Random sequences of what people do to a repository, against a simple model of it: after each `gc` exactly what a
//! channel, its history or a pin needs is there, and at the end every pinned snapshot is served whole, to real apt too.
//!
//! The seed is printed; `TWOSTAGE_SEED` repeats a run.

use crate::common::{self, Apt, Served, deb, settings};
use crate::damage::walk;
use crate::yum::plain;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use twostage_model::{Sha256, SnapshotId};
use twostage_reposerver::{Needs, Repository, Settings, State as Ended};

/// Earlier states that a channel remembers here.
const KEEP: usize = 3;
const CHANNELS: [&str; 3] = ["main", "testing", "stable"];

#[derive(Default, Clone, PartialEq, Debug)]
struct State {
    members: BTreeSet<Sha256>,
    snapshot: Option<SnapshotId>,
    /// Newest first.
    history: Vec<SnapshotId>,
}

/// What the repository is to be.
#[derive(Default)]
struct Model {
    channels: BTreeMap<&'static str, State>,
    pins: BTreeSet<SnapshotId>,
    /// What was in each snapshot that there ever was.
    snapshots: BTreeMap<SnapshotId, BTreeSet<Sha256>>,
    withdrawn: BTreeSet<Sha256>,
}

impl Model {
    fn points(&mut self, channel: &'static str, snapshot: SnapshotId, members: BTreeSet<Sha256>) {
        self.snapshots.insert(snapshot, members.clone());
        let state = self.channels.entry(channel).or_default();
        if let Some(old) = state.snapshot.filter(|old| *old != snapshot) {
            state.history.insert(0, old);
            state.history.truncate(KEEP);
        }
        (state.snapshot, state.members) = (Some(snapshot), members);
    }

    fn needed(&self) -> BTreeSet<SnapshotId> {
        let of_channels = self.channels.values().flat_map(|state| state.snapshot.iter().chain(&state.history));
        of_channels.chain(&self.pins).copied().collect()
    }

    fn needed_packages(&self) -> BTreeSet<Sha256> {
        self.needed().iter().flat_map(|id| &self.snapshots[id]).filter(|digest| !self.withdrawn.contains(*digest)).copied().collect()
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }
}

fn open(root: &Path) -> Repository {
    Repository::open(root, Settings { keep: KEEP, ..settings() }).unwrap()
}

/// The files below a folder whose names are digests.
fn digests(folder: &Path) -> BTreeSet<Sha256> {
    let shards = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten());
    files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect()
}

fn goods() -> Vec<(String, Vec<u8>)> {
    let mut goods = Vec::new();
    for name in ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"] {
        goods.extend(["1.0", "1.1", "2.0"].map(|version| (format!("{name}_{version}"), deb(name, version, "all", "", version))));
    }
    goods.extend(["1.0", "1.1"].map(|version| (format!("owl-{version}"), plain("owl", version, version))));
    goods.extend(["1.0", "1.1"].map(|version| (format!("rat-{version}"), plain("rat", version, version))));
    goods
}

#[test]
fn gc_frees_what_nothing_needs_and_nothing_else() {
    let all = common::long();
    if !all {
        common::count("short");
    }
    let steps: u32 = if all { 10_000 } else { 300 };
    let seed = std::env::var("TWOSTAGE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ common::now().cast_unsigned());
    println!("model: seed {seed}");
    let mut dice = Dice(seed);
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    common::run(std::process::Command::new("chmod").arg("755").arg(dir.path()));
    let root = dir.path().join("repo");
    let goods = goods();
    let mut repo = open(&root);
    let mut model = Model::default();
    let mut done = BTreeMap::<&str, usize>::new();
    let mut freed = 0;
    for step in 0..steps {
        // (Dates only grow, and are far behind the clock, so nobody waits.)
        let now = 1_500_000_000 + i64::from(step) * 20;
        let channel = CHANNELS[dice.below(CHANNELS.len())];
        let case = format!("seed {seed}, step {step}");
        let what = match dice.below(100) {
            0..35 => {
                let mut taken = BTreeSet::new();
                for _ in 0..=dice.below(3) {
                    let (name, bytes) = &goods[dice.below(goods.len())];
                    match repo.pool().ingest(&bytes[..], name) {
                        Ok(package) => {
                            assert!(!model.withdrawn.contains(&package.sha256), "{case}: {name} was withdrawn");
                            taken.insert(package.sha256);
                        }
                        Err(error) => assert!(error.to_string().contains("withdrawn") && !model.withdrawn.is_empty(), "{case}: {error}"),
                    }
                }
                let group = if dice.below(2) == 0 { "published" } else { "component:x" };
                let published = repo.publish(channel, now, |members| members.entry(group.into()).or_default().extend(&taken)).unwrap();
                let mut members = model.channels.get(channel).map(|state| state.members.clone()).unwrap_or_default();
                members.extend(taken);
                model.points(channel, published.snapshot, members);
                "publish"
            }
            35..50 => {
                let there: Vec<Sha256> = model.channels.get(channel).iter().flat_map(|state| &state.members).copied().collect();
                let Some(going) = dice.of(&there) else { continue };
                let published = repo.publish(channel, now, |members| {
                    members.values_mut().for_each(|group| _ = group.remove(&going));
                });
                let members = there.into_iter().filter(|digest| *digest != going).collect();
                model.points(channel, published.unwrap().snapshot, members);
                "remove"
            }
            50..62 => {
                // From another channel, back, or to what is only pinned.
                let there: Vec<SnapshotId> = repo.snapshots().ids().unwrap();
                let Some(id) = dice.of(&there) else { continue };
                let members = model.snapshots[&id].clone();
                match repo.move_channel(channel, &id, now) {
                    Ok(_) => {
                        assert!(members.is_disjoint(&model.withdrawn), "{case}: it has what was withdrawn");
                        model.points(channel, id, members);
                    }
                    Err(error) => {
                        let why = format!("{error} {:?}", error.causes());
                        assert!(!members.is_disjoint(&model.withdrawn) && why.contains("withdrawn"), "{case}: {why}");
                    }
                }
                "move"
            }
            62..69 => {
                let Some(id) = dice.of(&repo.snapshots().ids().unwrap()) else { continue };
                match repo.pin(&id, &case, now) {
                    Ok(_) => _ = model.pins.insert(id),
                    Err(error) => assert!(!model.snapshots[&id].is_disjoint(&model.withdrawn), "{case}: {error}"),
                }
                "pin"
            }
            69..75 => {
                let Some(id) = dice.of(&model.pins.iter().copied().collect::<Vec<_>>()) else { continue };
                assert!(repo.unpin(&id).unwrap().is_some(), "{case}");
                model.pins.remove(&id);
                "unpin"
            }
            75..76 if model.withdrawn.len() < 8 => {
                let Some(digest) = dice.of(&digests(&root.join("pool")).into_iter().collect::<Vec<_>>()) else { continue };
                let withdrawal = repo.withdraw(&repo.to_withdraw(&digest.to_string()).unwrap(), "a secret", now).unwrap();
                assert!(withdrawal.broken.is_empty(), "{case}: {:?}", withdrawal.broken);
                model.withdrawn.insert(digest);
                let moved: BTreeMap<String, SnapshotId> = withdrawal.channels.into_iter().collect();
                for channel in CHANNELS {
                    let Some(state) = model.channels.get(channel).filter(|state| state.members.contains(&digest)) else { continue };
                    let members = state.members.iter().filter(|member| **member != digest).copied().collect();
                    model.points(channel, moved[channel], members);
                }
                "withdraw"
            }
            75..92 => {
                let needs = Needs { now, ..Needs::default() };
                let said = repo.waste(&needs).unwrap();
                let plan = repo.free(&needs).unwrap();
                assert_eq!((said.free.len(), said.bytes()), (plan.free.len(), plan.bytes()), "{case}: what it said");
                freed += plan.free.len();
                let there: BTreeSet<SnapshotId> = repo.snapshots().ids().unwrap().into_iter().collect();
                assert_eq!(there, model.needed(), "{case}: snapshots");
                assert_eq!(digests(&root.join("pool")), model.needed_packages(), "{case}: packages");
                assert!(plan.stays.iter().all(|thing| !thing.why.is_empty()), "{case}: each has a reason");
                assert!(repo.waste(&needs).unwrap().free.is_empty(), "{case}: once is enough");
                "gc"
            }
            _ => {
                drop(repo);
                repo = open(&root);
                "crash"
            }
        };
        *done.entry(what).or_default() += 1;
        for (name, state) in &model.channels {
            let there = repo.channels().get(name).unwrap().unwrap();
            let members: BTreeSet<Sha256> = there.members.values().flatten().copied().collect();
            let history = there.history.iter().map(|earlier| earlier.snapshot).collect();
            assert_eq!(State { members, snapshot: Some(there.snapshot), history }, *state, "{case}: {name} after {what}");
        }
        if step % 50 == 0 {
            let checked = repo.fsck(None, false, now).unwrap();
            assert!(checked.found.is_empty(), "{case}: {:?}", checked.found);
        }
    }
    for state in model.channels.values() {
        let last = state.snapshot.filter(|id| model.snapshots[id].is_disjoint(&model.withdrawn));
        if let Some(id) = last {
            repo.pin(&id, "the end", common::now()).unwrap();
            model.pins.insert(id);
        }
    }
    drop(repo);
    served_whole(&root, &model, seed, all);
    common::tell(&format!("model: seed {seed}, {steps} steps {done:?}, {freed} things freed, {} pins at the end", model.pins.len()));
    assert!(freed > 0);
}

/// Every pinned snapshot through the server, and some of them through apt.
fn served_whole(root: &Path, model: &Model, seed: u64, all: bool) {
    let repo = Arc::new(open(root));
    let served = Served::new(&repo);
    let mut installed = 0;
    for id in &model.pins {
        let gone: BTreeSet<Sha256> = model.snapshots[id].intersection(&model.withdrawn).copied().collect();
        for digest in &gone {
            let text = digest.to_string();
            let answer = served.get(&format!("/@{id}/pool/{}/{text}/x.deb", &text[..2]), &[]);
            assert_eq!(answer.status, 410, "seed {seed}: @{id} {digest}");
            assert!(answer.text().contains("a secret"), "{}", answer.text());
            assert!(served.get(&format!("/@{id}/"), &[]).text().contains("is served no more"));
        }
        if !gone.is_empty() {
            continue;
        }
        walk(&served, &format!("/@{id}")).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let names: BTreeSet<String> = model.snapshots[id]
            .iter()
            .map(|digest| repo.pool().package(digest).unwrap())
            .filter(|p| p.rpm.is_none())
            .map(|p| p.id.name.clone())
            .collect();
        if !names.is_empty() && (all || installed < 2) {
            installed += 1;
            let apt = Apt::new(&served.get(&format!("/@{id}.sources"), &[]).text());
            apt.get(&["update"]);
            let mut words = vec!["install", "-d", "-y"];
            words.extend(names.iter().map(String::as_str));
            apt.get(&words);
        }
    }
    served.stop();
}

const FOLDER: &str = "TWOSTAGE_TEST_FREE_IN";

/// The victim: publishes, takes out, pins, lets go and frees, until it is killed. It does nothing unless the test below
/// starts it.
#[test]
fn free_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let repo = open(folder.as_ref());
    let goods: Vec<_> = fs::read_dir(repo.root().join("../goods")).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let mut dice = Dice(u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for step in 0..10_000 {
        let now = 1_500_000_000 + step;
        let channel = CHANNELS[dice.below(2)];
        let package = repo.pool().ingest(&goods[dice.below(goods.len())][..], "x").unwrap();
        let published = repo.publish(channel, now, |members| {
            let group = members.entry("some".to_string()).or_default();
            if !group.remove(&package.sha256) {
                group.insert(package.sha256);
            }
        });
        let id = published.unwrap().snapshot;
        if dice.below(6) == 0 {
            repo.pin(&id, "a victim", now).unwrap();
        }
        if let Some(id) = dice.of(&repo.pins().all().unwrap().into_keys().collect::<Vec<_>>()).filter(|_| dice.below(8) == 0) {
            repo.unpin(&id).unwrap();
        }
        if dice.below(3) == 0 {
            repo.free(&Needs { now, ..Needs::default() }).unwrap();
        }
    }
}

#[test]
fn a_gc_killed_at_any_point_leaves_a_whole_repository_and_the_next_one_finishes() {
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let root = dir.path().join("repo");
    fs::create_dir(dir.path().join("goods")).unwrap();
    for (name, bytes) in goods().into_iter().step_by(2) {
        fs::write(dir.path().join("goods").join(name), bytes).unwrap();
    }
    drop(open(&root));
    let mut dice = Dice(u64::from(std::process::id()));
    let (kills, mut freed) = (if common::long() { 100 } else { 12 }, 0);
    for kill in 0..kills {
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "model::free_until_killed"])
            .env(FOLDER, &root)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(u64::try_from(30 + dice.below(400)).unwrap()));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let repo = open(&root);
        let needs = Needs { now: 1_500_000_000, ..Needs::default() };
        freed += repo.free(&needs).unwrap().free.len();
        assert!(repo.waste(&needs).unwrap().is_empty(), "kill {kill}");
        let checked = repo.fsck(None, true, common::now()).unwrap();
        assert_eq!(checked.count(Ended::Lost), 0, "kill {kill}: {checked:?}");
        let repo = Arc::new(repo);
        let served = Served::new(&repo);
        let pins = repo.pins().all().unwrap().into_keys().map(|id| format!("/@{id}"));
        for site in repo.channels().names().unwrap().iter().map(|name| format!("/{name}")).chain(pins) {
            walk(&served, &site).unwrap_or_else(|why| panic!("kill {kill}: {why}"));
        }
        served.stop();
    }
    common::tell(&format!("gc: {kills} kills, {freed} things left to free"));
}

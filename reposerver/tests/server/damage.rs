//! Every file of a repository in turn is removed, emptied, cut, changed by a bit, and replaced by a folder. The
//! server then answers as before or not at all, and for the other channel as before; no command says a success that
//! is none; and what the error names makes it whole, or says what is lost.

use crate::common::{self, Served, Shop, now, publish, settings};
use crate::yum::{hrefs, plain, unzipped, upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use twostage_model::{Result, Sha256, SnapshotId};
use twostage_reposerver::{GRACE, Needs, Published, Repository, State};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Removed,
    Emptied,
    Cut,
    Flipped,
    Folder,
}

const ALL: [Damage; 5] = [Damage::Removed, Damage::Emptied, Damage::Cut, Damage::Flipped, Damage::Folder];

impl Damage {
    fn done_to(self, path: &Path, at: usize) {
        let bytes = fs::read(path).unwrap();
        match self {
            Damage::Removed => fs::remove_file(path).unwrap(),
            Damage::Emptied => fs::write(path, b"").unwrap(),
            Damage::Cut => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
            Damage::Flipped => {
                let mut bytes = bytes;
                let place = at % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << (at % 8);
                }
                fs::write(path, bytes).unwrap();
            }
            // What nobody can read, root neither.
            Damage::Folder => {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
                fs::write(path.join("in-it"), "x").unwrap();
            }
        }
    }
}

/// A repository with debs, a source, rpms with our signature and another's, two channels and their histories.
struct Whole {
    shop: Shop,
    /// By the name that a snapshot calls them.
    packages: BTreeMap<String, PathBuf>,
    upstream: String,
    first: SnapshotId,
    /// What the server answers, by target.
    answers: BTreeMap<String, Vec<u8>>,
    /// Digests and snapshots to the channel that they belong to.
    owners: BTreeMap<String, &'static str>,
}

fn whole() -> Whole {
    let shop = Shop::new();
    let goods = shop.dir.path().join("goods");
    fs::create_dir(&goods).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(goods.join(name), bytes).unwrap();
        goods.join(name)
    };
    let one = put("one.deb", &common::deb("one", "1.0", "all", "", "one"));
    let two = put("two.deb", &common::deb("one", "1.1", "amd64", "", "two"));
    let (tar, diff) = (b"a tarball".to_vec(), b"a diff".to_vec());
    put("one_1.0.orig.tar.xz", &tar);
    put("one_1.0-1.debian.tar.xz", &diff);
    let dsc = format!(
        "Format: 3.0 (quilt)\nSource: one\nBinary: one\nArchitecture: any\nVersion: 1.0-1\nMaintainer: T <t@example.invalid>\n\
         Checksums-Sha256:\n {} {} one_1.0.orig.tar.xz\n {} {} one_1.0-1.debian.tar.xz\n",
        Sha256::of(&tar),
        tar.len(),
        Sha256::of(&diff),
        diff.len()
    );
    let dsc = put("one_1.0-1.dsc", dsc.as_bytes());
    let ours = put("ours.rpm", &plain("ours", "1.0", "ours"));
    let later = put("later.rpm", &plain("ours", "1.1", "later"));
    let key = upstream(&shop, "upstream.asc");
    let mut signed = rpm::Package::parse(&mut &plain("theirs", "1.0", "theirs")[..]).unwrap();
    let secret = fs::read_to_string(shop.dir.path().join("upstream.asc")).unwrap();
    signed.sign(rpm::signature::pgp::Signer::from_asc(&secret).unwrap()).unwrap();
    let mut bytes = Vec::new();
    signed.write(&mut bytes).unwrap();
    let theirs = put("theirs.rpm", &bytes);
    let mut packages = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let mut take = |path: PathBuf, owner: &'static str| {
        let package = take(&shop.repo, &path);
        packages.insert(package.file_name(), path);
        owners.insert(package.sha256.to_string(), owner);
        owners.extend(package.files.iter().map(|file| (file.sha256.to_string(), owner)));
        package
    };
    let (one, two, source) = (take(one, "main"), take(two, "main"), take(dsc, "main"));
    let (ours, later, theirs) = (take(ours, "testing"), take(later, "testing"), take(theirs, "testing"));
    let first = publish(&shop.repo, "main", "component:one", &[&one], now()).unwrap().snapshot;
    let states = [
        publish(&shop.repo, "main", "component:one", &[&one, &two, &source], now()).unwrap().snapshot,
        publish(&shop.repo, "testing", "component:ours", &[&ours], now()).unwrap().snapshot,
        publish(&shop.repo, "testing", "component:ours", &[&ours, &later, &theirs], now()).unwrap().snapshot,
    ];
    owners.insert(first.to_string(), "main");
    for (id, owner) in states.iter().zip(["main", "testing", "testing"]) {
        owners.insert(id.to_string(), owner);
    }
    shop.repo.pin(&first, "in production", now()).unwrap();
    shop.repo.withdraw(&[(Sha256::of(b"never here"), String::new())], "a secret", now()).unwrap();
    shop.repo.pool().put_blob(&b"a blob"[..]).unwrap();
    // Somebody frees a snapshot, so that its names are in a file of their own.
    let alone = shop.add("alone", "1.0", "alone");
    common::publish(&shop.repo, "gone", "x", &[&alone], now()).unwrap();
    for path in ["channels/gone.json", "history/gone"] {
        let path = shop.repo.root().join(path);
        fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
    }
    shop.repo.publish("main", now(), |_| {}).unwrap();
    shop.repo.free(&Needs { now: now(), grace: GRACE, ..Needs::default() }).unwrap();
    let served = Served::new(&shop.repo);
    let mut answers = BTreeMap::new();
    for site in ["/main".to_string(), "/testing".into(), format!("/@{first}")] {
        let walked = walk(&served, &site).unwrap_or_else(|why| panic!("{why}"));
        answers.extend(walked);
    }
    for page in ["/key.asc", "/main.sources", "/testing.repo"] {
        answers.insert(page.into(), without_address(&served, served.get(page, &[]).body));
    }
    served.stop();
    Whole { packages, upstream: key.public().to_string(), first, answers, owners, shop }
}

fn take(repo: &Repository, path: &Path) -> Arc<twostage_reposerver::PoolPackage> {
    let is_source = path.extension().is_some_and(|ending| ending == "dsc");
    if is_source { repo.pool().ingest_source(path).unwrap() } else { repo.ingest_file(path).unwrap() }
}

/// Client files name the server.
fn without_address(served: &Served, body: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(body) {
        Ok(text) => text.replace(&served.at.to_string(), "server").into_bytes(),
        Err(bytes) => bytes.into_bytes(),
    }
}

/// All that a client could fetch from a site, every digest checked.
pub(crate) fn walk(served: &Served, site: &str) -> std::result::Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    let mut get = |path: &str| {
        let answer = served.get(&format!("{site}/{path}"), &[]);
        if answer.status != 200 {
            return Err(format!("{site}/{path}: {}", answer.status));
        }
        found.insert(format!("{site}/{path}"), answer.body.clone());
        Ok(answer.body)
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    get("SHA256SUMS")?;
    let release = text(get("dists/twostage/Release")?);
    assert!(text(get("dists/twostage/InRelease")?).contains(release.trim_end()), "{site}: the signed release is the release");
    get("dists/twostage/Release.gpg")?;
    let mut stanzas = String::new();
    for line in release.lines().filter(|line| line.starts_with(' ')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let body = get(&format!("dists/twostage/{}", words[2]))?;
        assert_eq!(Sha256::of(&body).to_string(), words[0], "{site}: {}", words[2]);
        if words[2].ends_with("Packages") || words[2].ends_with("Sources") {
            stanzas.push_str(&text(body));
        }
    }
    let mut folder = "";
    for line in stanzas.lines() {
        if let Some(file) = line.strip_prefix("Filename: ") {
            let body = get(file)?;
            assert!(file.contains(&Sha256::of(&body).to_string()), "{site}: {file}");
        } else if let Some(place) = line.strip_prefix("Directory: ") {
            folder = place;
        } else if let [digest, _, name] = line.split_whitespace().collect::<Vec<_>>()[..]
            && digest.parse::<Sha256>().is_ok()
            && line.starts_with(' ')
            && !folder.is_empty()
        {
            let body = get(&format!("{folder}/{name}"))?;
            assert_eq!(Sha256::of(&body).to_string(), digest, "{site}: {name}");
        }
    }
    let Ok(repomd) = get("repodata/repomd.xml") else { return Ok(found) };
    get("repodata/repomd.xml.asc")?;
    for file in text(repomd).split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_string()) {
        let body = get(&file)?;
        assert!(file.contains(&Sha256::of(&body).to_string()), "{site}: {file}");
        if file.contains("-primary.") {
            let primary = unzipped(&body);
            for href in hrefs(&primary) {
                let package = get(&href)?;
                assert!(primary.contains(&format!("pkgid=\"YES\">{}<", Sha256::of(&package))), "{site}: {href}");
            }
        }
    }
    Ok(found)
}

/// How a damage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// What was damaged does not matter for this.
    Harmless,
    /// The command made it whole, and said so.
    Mended,
    /// The command that the error names did.
    ByCommand,
}

impl Whole {
    /// A copy of the repository, with one file of it damaged.
    fn damaged(&self, file: &str, damage: Damage, at: usize) -> TempDir {
        // Where there is memory for it: nothing here is about a disk, and hundreds of copies wait for one.
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        common::run(Command::new("cp").args(["-a"]).arg(self.shop.repo.root()).arg(dir.path().join("repo")));
        damage.done_to(&dir.path().join("repo").join(file), at);
        dir
    }

    fn owner(&self, file: &str) -> Option<&'static str> {
        let stem = file.strip_suffix(".json").unwrap_or(file);
        let words = || stem.split('/').rev();
        let by_name = words().find_map(|word| ["main", "testing"].into_iter().find(|name| *name == word));
        let by_digest = words().find_map(|word| self.owners.get(word).copied());
        by_digest.or(by_name).or(file.starts_with("keys/").then_some("testing"))
    }

    /// The server never answers what is wrong, and for the other channel as ever.
    fn check_served(&self, root: &Path, file: &str, case: &str) {
        let served = Served::new(&Arc::new(open(root)));
        let owner = self.owner(file);
        for (target, good) in &self.answers {
            let answer = served.get(target, &[]);
            let of = target.strip_prefix('/').and_then(|rest| rest.split(['/', '.']).next()).unwrap();
            let of = if of.starts_with('@') { "main" } else { of };
            if answer.status == 200 {
                assert!(without_address(&served, answer.body) == *good, "{case}: {target} is answered otherwise than before");
            } else {
                let about_key = file == "key.asc" && ["/key.asc", "/main.sources", "/testing.repo"].contains(&&target[..]);
                assert!(owner == Some(of) || about_key, "{case}: {target} is {}", answer.status);
                assert!([404, 500].contains(&answer.status), "{case}: {target} is {}", answer.status);
            }
        }
        let page = served.get("/", &[]);
        assert_eq!(page.status, 200, "{case}");
        let other = if owner == Some("main") { "testing" } else { "main" };
        assert!(page.text().contains(&format!("<h2>{other}</h2>\n<p>")), "{case}: {}", page.text());
        let problems = served.log.lock().unwrap().iter().filter(|entry| entry.status == 500 && entry.problem.is_none()).count();
        assert_eq!(problems, 0, "{case}: the log says why");
        served.stop();
    }

    /// Does what the hint says, as a person would.
    fn follow(&self, root: &Path, file: &str, hint: &str, case: &str) {
        let repo = open(root);
        let restore = || {
            let path = root.join(file);
            let _ = fs::remove_dir_all(&path);
            common::run(Command::new("cp").arg("-a").arg(self.shop.repo.root().join(file)).arg(&path));
        };
        if hint.contains("of another kind") && root.join(file).is_dir() {
            fs::rename(root.join(file), root.join("../away")).unwrap();
        } else if hint.contains("restore that key") && case.len().is_multiple_of(2) {
            repo.rekey(now()).unwrap_or_else(|error| panic!("{case}: {error}"));
        } else if hint.contains("restore") && hint.contains("--rekey") {
            restore();
        } else if hint.contains("publish KEY.asc") {
            repo.signing().add_key(&self.upstream).unwrap();
        } else if hint.contains("bring the good file again") {
            let named: Vec<&PathBuf> = self.packages.iter().filter(|(name, _)| hint.contains(*name)).map(|(_, path)| path).collect();
            let all: Vec<&PathBuf> = self.packages.values().collect();
            for path in if named.is_empty() { all } else { named } {
                take(&repo, path);
            }
        } else if hint.contains("--repair") {
            let one = repo.channels().names().unwrap().into_iter().find(|name| hint.contains(&format!("channel {name} --repair")));
            let names = one.map_or_else(|| repo.channels().names().unwrap(), |name| vec![name]);
            for name in names {
                let repaired = repo.repair(&name, now()).unwrap_or_else(|error| panic!("{case}: {error}"));
                for lost in repaired.lost {
                    assert!(lost.hint_or_class() != hint, "{case}: {lost:?} sends in a circle");
                    self.follow(root, file, lost.hint_or_class(), case);
                }
            }
        } else {
            panic!("{case}: the hint names nothing that could be done: {hint}");
        }
    }

    /// Does what a command does until it succeeds, each time following the hint. What then is served is whole.
    fn until_done(&self, root: &Path, file: &str, channel: &str, case: &str, command: impl Fn(&Repository) -> Result<Published>) -> End {
        let mut end = End::Harmless;
        for _ in 0..5 {
            match command(&open(root)) {
                Ok(done) => {
                    let served = Served::new(&Arc::new(open(root)));
                    walk(&served, &format!("/{channel}")).unwrap_or_else(|why| panic!("{case}: said to be done, and {why}"));
                    served.stop();
                    return end.max(if done.mended.is_empty() { End::Harmless } else { End::Mended });
                }
                Err(error) => {
                    end = End::ByCommand;
                    let hint = error.hint_or_class().to_string();
                    self.follow(root, file, &hint, &format!("{case}: {error} ({:?})", error.causes()));
                }
            }
        }
        panic!("{case}: what the errors say does not mend it");
    }
}

fn open(root: &Path) -> Repository {
    match Repository::open(root, settings()) {
        // What has the name of the mark and is none is nobody's to remove but the owner's.
        Err(error) if error.hint_text().is_some_and(|hint| hint.contains("make the file")) => {
            let mark = root.join("twostage-repository");
            assert!(mark.is_dir(), "{error}");
            fs::remove_dir_all(&mark).unwrap();
            fs::write(&mark, "").unwrap();
            Repository::open(root, settings()).unwrap()
        }
        opened => opened.unwrap(),
    }
}

fn files(root: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(below).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(root, &entry.path(), found);
        } else {
            found.insert(entry.path().strip_prefix(root).unwrap().display().to_string());
        }
    }
}

/// How many cases there are to the next that is tried: one for `make test-all`.
fn step(short: usize) -> usize {
    if common::long() {
        return 1;
    }
    common::count("short");
    short
}

/// Every file of a repository.
fn every_file(whole: &Whole) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    files(whole.shop.repo.root(), whole.shop.repo.root(), &mut all);
    all.retain(|file| !file.starts_with("tmp/"));
    all
}

#[test]
fn every_damage_to_every_file_is_noticed_and_mended_or_named() {
    let whole = whole();
    let all = every_file(&whole);
    let mut ends: BTreeMap<End, usize> = BTreeMap::new();
    let cases: Vec<(&String, Damage)> = all.iter().flat_map(|file| ALL.map(|damage| (file, damage))).collect();
    let mut tried = 0;
    // (7 and 5 have no common factor: each damage comes in its turn.)
    for (at, (file, damage)) in cases.iter().enumerate().step_by(step(7)) {
        tried += 1;
        let case = format!("{file} {damage:?}");
        let dir = whole.damaged(file, *damage, 1 + at * 131);
        let root = dir.path().join("repo");
        whole.check_served(&root, file, &case);
        let channel = whole.owner(file).unwrap_or("main");
        let end = whole.until_done(&root, file, channel, &case, |repo| repo.publish(channel, now(), |_| {}));
        *ends.entry(end).or_default() += 1;
        // An earlier snapshot is only claimed to be whole when something moves there.
        if channel == "main" {
            let moved = whole.until_done(&root, file, channel, &case, |repo| repo.move_channel("main", &whole.first, now()));
            assert!(moved <= End::ByCommand);
            let groups = open(&root).channels().get("main").unwrap().unwrap().members.clone();
            let known = groups.contains_key("component:one");
            assert!(known || file.starts_with("history/"), "{case}: groups are only lost with their own file: {groups:?}");
        }
        // And then all of it is whole.
        for name in ["main", "testing"] {
            let repaired = open(&root).repair(name, now()).unwrap_or_else(|error| panic!("{case}: {error}"));
            for lost in &repaired.lost {
                whole.follow(&root, file, lost.hint_or_class(), &format!("{case}: {lost}"));
            }
            let repaired = open(&root).repair(name, now()).unwrap();
            assert!(repaired.lost.is_empty() && repaired.mended.is_empty(), "{case}: {repaired:?}");
        }
    }
    let told = |end| ends.get(&end).copied().unwrap_or(0);
    common::tell(&format!(
        "damage: {} files, {tried} of {} cases: {} harmless, {} mended at once, {} by the command that the error names",
        all.len(),
        cases.len(),
        told(End::Harmless),
        told(End::Mended),
        told(End::ByCommand)
    ));
    assert!(all.len() > 40, "{all:?}");
}

/// Files that only remember what is found out again.
fn is_memory(file: &str) -> bool {
    ["verified", "lock", "twostage-repository"].contains(&file) || file.ends_with("/blocks")
}

#[test]
fn fsck_makes_every_damage_whole_or_names_the_loss() {
    let whole = whole();
    let all = every_file(&whole);
    let cases: Vec<(&String, Damage)> = all.iter().flat_map(|file| ALL.map(|damage| (file, damage))).collect();
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tried = 0;
    for (at, (file, damage)) in cases.iter().enumerate().step_by(step(7)) {
        tried += 1;
        let case = format!("{file} {damage:?}");
        let dir = whole.damaged(file, *damage, 1 + at * 131);
        let root = dir.path().join("repo");
        let fsck = |repair| {
            for _ in 0..3 {
                match open(&root).fsck(None, repair, now()) {
                    Ok(checked) => return checked,
                    Err(error) => whole.follow(&root, file, error.hint_or_class(), &format!("{case}: {error}")),
                }
            }
            panic!("{case}: it cannot be looked at");
        };
        let looked = fsck(false);
        assert!(looked.found.iter().all(|found| found.state == State::Damaged), "{case}: {looked:?}");
        // A record of which there are two is nothing that anybody misses; it is noticed all the same.
        assert!(!looked.found.is_empty() || is_memory(file) || *damage == Damage::Removed && may_be_gone(file), "{case}: not noticed");
        let repaired = fsck(true);
        let lost: Vec<_> = repaired.found.iter().filter(|found| found.state == State::Lost).collect();
        let end = if !lost.is_empty() {
            "lost, and named"
        } else if repaired.count(State::Quarantined) > 0 {
            "moved away"
        } else if repaired.found.is_empty() {
            "harmless"
        } else {
            "mended"
        };
        *ends.entry(end).or_default() += 1;
        for found in lost {
            let hint = found.hint.clone().unwrap_or_else(|| panic!("{case}: {found:?} says nothing that would help"));
            whole.follow(&root, file, &hint, &format!("{case}: {}", found.what));
        }
        let again = fsck(true);
        assert_eq!(again.count(State::Lost), 0, "{case}: {again:?}");
        let last = fsck(false);
        assert!(last.found.is_empty(), "{case}: {last:?}");
        let served = Served::new(&Arc::new(open(&root)));
        for (target, good) in &whole.answers {
            let answer = served.get(target, &[]);
            let is_signed = ["Release", "repomd", "key.asc", ".sources", ".repo"].iter().any(|word| target.contains(word));
            let is_same = answer.status == 200 && (is_signed || without_address(&served, answer.body) == *good);
            assert!(is_same || file.starts_with("key"), "{case}: {target} is {}", answer.status);
        }
        for site in ["/main".to_string(), "/testing".into(), format!("/@{}", whole.first)] {
            walk(&served, &site).unwrap_or_else(|why| panic!("{case}: {why}"));
        }
        served.stop();
        assert_eq!(open(&root).pins().all().unwrap().len(), 1, "{case}: the pin");
        assert!(open(&root).withdrawals().get(&Sha256::of(b"never here")).unwrap().is_some(), "{case}: the withdrawal");
    }
    common::tell(&format!("fsck: {} files, {tried} of {} cases: {ends:?}", all.len(), cases.len()));
}

/// What nobody needs any more where it is gone: a blob is fetched again, the catalog is made again.
fn may_be_gone(file: &str) -> bool {
    ["blobs/", "names.again"].iter().any(|start| file.starts_with(start))
}

/// Of thousands of packages a publish that brings one looks at folders; the server looks at each file that it gives away.
#[test]
fn whoever_brings_a_package_looks_at_folders_that_changed_and_the_server_at_files() {
    let shop = Shop::new();
    let packages: Vec<_> = (0..3).map(|i| shop.add(&format!("package{i}"), "1", "x")).collect();
    shop.publish("main", "g", &packages.iter().map(|package| &**package).collect::<Vec<_>>()).unwrap();
    let name = packages[0].sha256.to_string();
    let path = shop.repo.root().join(format!("pool/{}/{name}", &name[..2]));
    let whole = fs::read(&path).unwrap();
    let more = || shop.again().publish_more("main", now(), |_| {});
    let settled = || {
        // A folder that changed just now is not relied on.
        std::thread::sleep(std::time::Duration::from_millis(3100));
        assert!(!more().unwrap().changed);
    };
    settled();

    // What comes or goes is seen, under whatever name it came.
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    assert!(more().unwrap_err().to_string().contains("in the pool is damaged"));
    fs::rename(&elsewhere, &path).unwrap();
    settled();
    fs::write(&elsewhere, [&whole[..whole.len() - 1], b"?"].concat()).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    assert!(more().unwrap_err().to_string().contains("in the pool is damaged"));
    fs::write(&path, &whole).unwrap();
    settled();
    // So is a folder that is gone, or is none.
    let folder = path.parent().unwrap().to_path_buf();
    let aside = shop.dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    assert!(more().unwrap_err().to_string().contains("in the pool is damaged"));
    fs::write(&folder, "no folder").unwrap();
    assert!(more().unwrap_err().to_string().contains("in the pool"));
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    settled();

    // A bit that changed in its place is not: but no client gets it, and who looks at each file says so.
    fs::write(&path, [&whole[..whole.len() - 1], b"?"].concat()).unwrap();
    assert!(!more().unwrap().changed);
    let served = Served::new(&Arc::new(shop.again()));
    let index = served.get("/main/dists/twostage/main/binary-amd64/Packages", &[]).text();
    let file = index.lines().filter_map(|line| line.strip_prefix("Filename: ")).find(|file| file.contains("package0")).unwrap();
    let answer = served.get(&format!("/main/{file}"), &[]);
    assert!(answer.status >= 500, "{}", answer.status);
    served.stop();
    let members = shop.again().channels().get("main").unwrap().unwrap().members.clone();
    assert!(shop.again().publish("main", now(), |all| *all = members).unwrap_err().to_string().contains("in the pool is damaged"));
}

/// A folder has packages of several channels. What one channel's publish saw there says nothing of those of another.
#[test]
fn a_folder_that_one_channel_was_looked_at_for_is_looked_at_again_for_another() {
    let shop = Shop::new();
    let ingest = |i: usize| shop.repo.pool().ingest(&plain(&format!("package{i}"), "1", "x")[..], "x").unwrap();
    let packages: Vec<_> = (0..60).map(ingest).collect();
    let shard = |package: &twostage_reposerver::PoolPackage| package.sha256.to_string()[..2].to_string();
    let pairs = packages.iter().enumerate().flat_map(|(at, one)| packages[at + 1..].iter().map(move |two| (one, two)));
    let (one, two) = pairs.into_iter().find(|(one, two)| shard(one) == shard(two)).expect("two packages of one folder");
    shop.publish("main", "g", &[one]).unwrap();
    shop.publish("other", "g", &[two]).unwrap();
    let more = |channel: &str| shop.again().publish_more(channel, now(), |_| {});
    // A folder that changed just now is not relied on.
    let rest = || std::thread::sleep(std::time::Duration::from_millis(3100));
    rest();
    more("main").unwrap();
    more("other").unwrap();

    let name = one.sha256.to_string();
    let signed = fs::read_dir(shop.repo.root().join("signed")).unwrap().next().unwrap().unwrap().path();
    for folder in [signed, shop.repo.root().join("pool")] {
        let path = folder.join(&name[..2]).join(&name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let changed = path.with_extension("changed");
        fs::write(&changed, bytes).unwrap();
        fs::rename(&changed, &path).unwrap();
        rest();
        assert!(!more("other").unwrap().changed, "{}", folder.display());
        let seen = more("main").map_or_else(|error| error.to_string(), |done| done.mended.join("; "));
        assert!(seen.contains("signature of") || seen.contains("in the pool is damaged"), "{}: {seen:?}", path.display());
    }
}

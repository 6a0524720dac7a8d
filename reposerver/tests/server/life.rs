//! The everyday life of packages: listed, taken out, promoted, and more than one version at once.

use crate::common::{Apt, Dnf, Served, Shop, has, now, publish};
use crate::yum::plain;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use twostage_model::{Class, Sha256};
use twostage_reposerver::sign::Algorithm;
use twostage_reposerver::{Members, Pattern, PoolPackage, Repository, Scope, Selection, Settings, Signature};

fn shown(repo: &Repository, scope: Scope<'_>) -> Vec<String> {
    let listing = repo.listing(scope).unwrap();
    assert!(listing.problems.is_empty(), "{:?}", listing.problems);
    let places = |item: &twostage_reposerver::Item| item.channels.keys().cloned().collect::<Vec<_>>().join(",");
    listing.items.iter().map(|item| format!("{} [{}] {}", item.shown(), places(item), item.snapshots)).collect()
}

fn patterns(words: &[&str]) -> Vec<Pattern> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

/// The digests that words mean in a channel.
fn meant(repo: &Repository, channel: &str, words: &[&str]) -> BTreeSet<Sha256> {
    let listing = repo.listing(Scope::Channel(channel)).unwrap();
    listing.meant(&patterns(words), "it").unwrap().iter().map(|item| item.sha256).collect()
}

fn groups(repo: &Repository, channel: &str) -> Vec<String> {
    let channel = repo.channels().get(channel).unwrap().unwrap();
    let name = |digest: &Sha256| {
        let id = &repo.pool().package(digest).unwrap().id;
        format!("{} {}", id.name, id.version)
    };
    let group = |(group, members): (&String, &BTreeSet<Sha256>)| {
        let mut names: Vec<String> = members.iter().map(name).collect();
        names.sort();
        format!("{group}: {}", names.join(", "))
    };
    channel.members.iter().map(group).collect()
}

#[test]
fn packages_are_listed_with_where_they_are() {
    let shop = Shop::new();
    let (old, new, other) = (shop.add("greet", "1.0", "a"), shop.add("greet", "1:0.5", "b"), shop.add("other", "1", "c"));
    let in_pool_only = shop.add("unused", "1", "d");
    assert_eq!(shown(&shop.repo, Scope::Channels), Vec::<String>::new());
    shop.publish("main", "published", &[&old]).unwrap();
    shop.publish("main", "published", &[&old, &new]).unwrap();
    shop.publish("testing", "component:other", &[&other, &new]).unwrap();
    let expected = ["greet 1.0 all [main] 2", "greet 1:0.5 all [main,testing] 2", "other 1 all [testing] 1"];
    assert_eq!(shown(&shop.repo, Scope::Channels), expected);
    assert_eq!(shown(&shop.repo, Scope::Channel("testing")), expected[1..]);
    assert_eq!(shown(&shop.repo, Scope::Pool).last().unwrap(), "unused 1 all [] 0");
    let near = shop.repo.listing(Scope::Channel("tsting")).unwrap_err();
    assert_eq!((near.class(), near.hint_or_class()), (Class::Repository, "write `testing`"));

    let listing = shop.repo.listing(Scope::Pool).unwrap();
    let about = |digest: &Sha256| shop.repo.about(listing.items.iter().find(|item| item.sha256 == *digest).unwrap()).unwrap();
    let greet = about(&new.sha256);
    assert_eq!((greet.files, greet.problem, greet.signature), (Some(1), None, Signature::Index));
    assert_eq!(greet.in_snapshots.len(), 2);
    assert!(greet.fields.iter().any(|(name, value)| name == "Version" && value == "1:0.5"), "{:?}", greet.fields);
    assert_eq!(greet.item.channels["testing"], BTreeSet::from(["component:other".to_string()]));
    assert!(about(&in_pool_only.sha256).in_snapshots.is_empty());
    let id = shop.repo.channels().get("testing").unwrap().unwrap().snapshot;
    shop.repo.pin(&id, "demo 1.2 is in production", now()).unwrap();
    assert_eq!(about(&new.sha256).pinned, [(id, "demo 1.2 is in production".to_string())].into());
    assert!(about(&old.sha256).pinned.is_empty());
    let said = shop.repo.descriptions(&listing.items.iter().collect::<Vec<_>>()).unwrap();
    assert!(said.iter().all(|(first, more)| first == "a test" && more == "of several lines\n\nand a gap"), "{said:?}");

    // Without its catalog, and for who may only read, it is the same.
    fs::remove_dir_all(shop.repo.root().join("catalog")).unwrap();
    assert_eq!(shown(&shop.again(), Scope::Channels), expected);
}

#[test]
fn an_rpm_is_shown_with_its_header_and_who_signs_it() {
    let shop = Shop::new();
    let rpm = shop.repo.pool().ingest(&plain("greet", "1.0", "x")[..], "greet.rpm").unwrap();
    for published in [false, true] {
        if published {
            shop.publish("main", "g", &[&rpm]).unwrap();
        }
        let listing = shop.repo.listing(Scope::Pool).unwrap();
        let item = &listing.items[0];
        assert_eq!(shop.repo.descriptions(&[item]).unwrap(), [("a test".to_string(), "a test\nof two lines".to_string())]);
        let about = shop.repo.about(item).unwrap();
        assert_eq!((about.files, about.problem), (Some(1), None));
        assert!(matches!(about.signature, Signature::Ours { ref fingerprint } if fingerprint.is_some() == published));
        let field = |name: &str| about.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
        assert_eq!(field("License"), Some("MIT"));
        assert!(field("Provides").unwrap().contains("greet = 1.0-1"), "{:?}", about.fields);
    }
}

#[test]
fn what_is_taken_out_leaves_the_channel_and_nothing_else() {
    let shop = Shop::new();
    let (greet, other) = (shop.add("greet", "1.0", "a"), shop.add("other", "1", "b"));
    let both = shop.publish("main", "published", &[&greet, &other]).unwrap().snapshot;
    publish(&shop.repo, "main", "component:greet", &[&greet], now()).unwrap();
    let removed = shop.repo.remove("main", &meant(&shop.repo, "main", &["greet"]), now()).unwrap();
    assert!(removed.changed && removed.previous == Some(both));
    assert_eq!(groups(&shop.repo, "main"), ["published: other 1"], "from every group");
    let again = shop.repo.remove("main", &BTreeSet::from([greet.sha256]), now()).unwrap();
    assert!(!again.changed);
    let served = Served::new(&shop.repo);
    let index = "dists/twostage/main/binary-amd64/Packages";
    assert!(!served.get(&format!("/main/{index}"), &[]).text().contains("Package: greet"));
    assert!(served.get(&format!("/@{both}/{index}"), &[]).text().contains("Package: greet"), "earlier snapshots stay");
    assert!(shop.repo.pool().contains(&greet.sha256).unwrap());
    // The last one, too: an empty channel is one.
    shop.repo.remove("main", &BTreeSet::from([other.sha256]), now()).unwrap();
    let apt = Apt::new(&served.get("/main.sources", &[]).text());
    apt.get(&["update"]);
    let nowhere = shop.repo.remove("mian", &BTreeSet::new(), now()).unwrap_err();
    assert_eq!(nowhere.hint_or_class(), "write `main`");
    assert!(shop.repo.channels().get("mian").unwrap().is_none());
}

#[test]
fn what_is_lost_can_be_taken_out_and_blocks_nothing_then() {
    for all_of_it in [false, true] {
        let shop = Shop::new();
        let all = [shop.add("greet", "1.0", "a"), shop.add("lost", "2:1.0-1", "b"), shop.add("lost2", "1", "c")];
        let members: Vec<&PoolPackage> = all.iter().map(AsRef::as_ref).collect();
        let first = shop.publish("main", "g", &members).unwrap().snapshot;
        for lost in &all[1..] {
            fs::remove_file(shop.repo.pool().pool_path(&lost.sha256)).unwrap();
        }
        if all_of_it {
            fs::remove_dir_all(shop.repo.root().join("catalog")).unwrap();
        }
        let repo = shop.again();
        let new = repo.pool().ingest(&crate::common::deb("new", "1", "all", "", "n")[..], "new").unwrap();
        let blocked = repo.publish("main", now(), |members| drop(members.insert("n".into(), BTreeSet::from([new.sha256]))));
        assert_eq!(blocked.unwrap_err().class(), Class::Repository);

        let listing = repo.listing(Scope::Channel("main")).unwrap();
        let there: Vec<(String, bool)> = listing.items.iter().map(|item| (item.shown(), item.present)).collect();
        let expected = [("greet 1.0 all", true), ("lost 2:1.0-1 all", false), ("lost2 1 all", false)];
        assert_eq!(there, expected.map(|(shown, present)| (shown.to_string(), present)));
        let lost = listing.items.iter().find(|item| item.name == "lost").unwrap();
        assert!(repo.about(lost).unwrap().problem.is_some());

        let one = repo.remove("main", &meant(&repo, "main", &["lost"]), now()).unwrap_err();
        let hint = "take all out at once: `twostage remove --channel main lost:all=2:1.0-1 lost2:all=1`";
        assert!(one.hint_or_class().contains(hint), "{}", one.hint_or_class());
        assert_eq!(repo.channels().get("main").unwrap().unwrap().snapshot, first);
        repo.remove("main", &meant(&repo, "main", &["lost*"]), now()).unwrap();
        publish(&repo, "main", "n", &[&new], now()).unwrap();
        assert_eq!(groups(&repo, "main"), ["g: greet 1.0", "n: new 1"]);
    }
}

fn members(repo: &Repository, channel: &str) -> Members {
    repo.channels().get(channel).unwrap().unwrap().members.clone()
}

#[test]
fn packages_are_promoted_by_name_group_or_all_at_once() {
    let shop = Shop::new();
    let repo = &shop.repo;
    let (one, two, three) = (shop.add("greet", "1.0", "1"), shop.add("greet", "2.0", "2"), shop.add("greet", "3.0", "3"));
    let (other, mine) = (shop.add("other", "1", "o"), shop.add("mine", "1", "m"));
    shop.publish("main", "component:greet", &[&one]).unwrap();
    shop.publish("main", "published", &[&mine]).unwrap();
    shop.publish("testing", "component:greet", &[&two]).unwrap();
    shop.publish("testing", "published", &[&other]).unwrap();
    let promote = |what: &Selection| repo.promote(&members(repo, "testing"), "main", what, "channel testing", now());
    let packages = |words: &[&str]| Selection::Packages(patterns(words));

    // Without a version: the channel has of it what the other has.
    let plan = repo.promotion(&members(repo, "testing"), "main", &packages(&["greet"]), "channel testing").unwrap();
    assert_eq!(groups(repo, "main"), ["component:greet: greet 1.0", "published: mine 1"], "a plan changes nothing");
    let [change] = &plan.changes[..] else { panic!("{:?}", plan.changes) };
    assert_eq!((change.from[0].version.as_str(), change.to[0].version.as_str()), ("1.0", "2.0"));
    promote(&packages(&["greet"])).unwrap();
    assert_eq!(groups(repo, "main"), ["component:greet: greet 2.0", "published: mine 1"]);
    assert_eq!(members(repo, "main"), plan.members);
    assert!(!promote(&packages(&["greet"])).unwrap().changed);

    // With one: beside those that are there.
    publish(repo, "testing", "component:greet", &[&three], now()).unwrap();
    promote(&packages(&["greet=3*", "oth*"])).unwrap();
    assert_eq!(groups(repo, "main"), ["component:greet: greet 2.0, greet 3.0", "published: mine 1, other 1"]);
    promote(&Selection::Group("component:greet".into())).unwrap();
    assert_eq!(groups(repo, "main"), ["component:greet: greet 3.0", "published: mine 1, other 1"]);

    // All: one snapshot for both.
    promote(&Selection::All).unwrap();
    assert_eq!(repo.channels().get("main").unwrap().unwrap().snapshot, repo.channels().get("testing").unwrap().unwrap().snapshot);
    assert_eq!(members(repo, "main"), members(repo, "testing"));
    repo.promote(&members(repo, "testing"), "stable", &Selection::All, "channel testing", now()).unwrap();
    assert_eq!(groups(repo, "stable"), groups(repo, "main"));

    for (what, said, hint) in [
        (packages(&["gret"]), "channel testing has no package gret", "write `greet`"),
        (packages(&["greet=9"]), "channel testing has no package greet=9", "it has greet 3.0 all"),
        (Selection::Group("greet".into()), "channel testing has no group greet", "it has component:greet, published"),
    ] {
        let error = repo.promote(&members(repo, "testing"), "new", &what, "channel testing", now()).unwrap_err();
        assert_eq!((error.what(), error.hint_or_class()), (said, hint));
        assert!(repo.channels().get("new").unwrap().is_none());
    }
}

#[test]
fn two_contents_of_one_name_are_not_promoted() {
    let shop = Shop::new();
    let (here, there) = (shop.add("greet", "1.0", "here"), shop.add("greet", "1.0", "there"));
    shop.publish("main", "published", &[&here]).unwrap();
    let from = Members::from([("other".to_string(), BTreeSet::from([there.sha256]))]);
    for what in [
        Selection::All,
        Selection::Group("other".into()),
        Selection::Packages(patterns(&["greet"])),
        Selection::Packages(patterns(&["greet=1.0"])),
    ] {
        let error = shop.repo.promote(&from, "main", &what, "it", now()).unwrap_err();
        assert!(error.what().contains("with other content"), "{error}");
        assert_eq!(groups(&shop.repo, "main"), ["published: greet 1.0"]);
    }
}

#[test]
fn a_channel_goes_back_by_states_of_its_packages() {
    let shop = Shop::new();
    let repo = &shop.repo;
    let all = ["1.0", "2.0", "3.0"].map(|version| shop.add("greet", version, version));
    let ids: Vec<_> = all.iter().map(|greet| shop.publish("main", "g", &[greet]).unwrap().snapshot).collect();
    assert_eq!((repo.earlier("main", 1).unwrap(), repo.earlier("main", 2).unwrap()), (ids[1], ids[0]));
    let error = repo.earlier("main", 3).unwrap_err();
    assert!(error.causes()[0].contains("it remembers 2 earlier states"), "{error} {:?}", error.causes());
    let changes = repo.changes(&repo.packages_of(&ids[2]).unwrap(), &repo.packages_of(&ids[0]).unwrap(), true).unwrap();
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.from[0].version.as_str(), change.to[0].version.as_str()), ("3.0", "1.0"));
    assert_eq!((change.from[0].files, change.to[0].files), (Some(1), Some(1)));
    repo.move_channel("main", &repo.earlier("main", 2).unwrap(), now()).unwrap();
    assert_eq!(groups(repo, "main"), ["g: greet 1.0"]);
    assert_eq!(repo.earlier("main", 1).unwrap(), ids[2], "going back can be taken back");
    // Signing anew is no other state of its packages.
    let key = repo.root().join("key");
    fs::rename(&key, repo.root().join("tmp/kept")).unwrap();
    let again = shop.again();
    again.rekey(now()).unwrap();
    assert_eq!(again.earlier("main", 1).unwrap(), ids[2]);
    assert_eq!(again.groups_at("main", &ids[1]).unwrap(), Members::from([("g".to_string(), BTreeSet::from([all[1].sha256]))]));
}

#[test]
fn apt_has_every_version_of_a_package_at_once() {
    let shop = Shop::new();
    let all = ["1.0", "1.5", "2.0"].map(|version| shop.add("greet", version, version));
    shop.publish("main", "published", &all.each_ref().map(AsRef::as_ref)).unwrap();
    let served = Served::new(&shop.repo);
    let apt = Apt::new(&served.get("/main.sources", &[]).text());
    apt.get(&["update"]);
    let installed = |words: &[&str]| {
        let text = apt.get(&[&["install", "-s"], words].concat());
        text.lines().find_map(|line| line.strip_prefix("Inst greet (")?.split(' ').next()).unwrap().to_string()
    };
    assert_eq!(installed(&["greet"]), "2.0");
    assert_eq!(installed(&["-t", "twostage", "greet"]), "2.0");
    for greet in &all {
        assert_eq!(installed(&[&format!("greet={}", greet.id.version)]), greet.id.version);
        apt.get(&["install", "-d", "-y", "--allow-downgrades", &format!("greet={}", greet.id.version)]);
        assert!(apt.path(&format!("cache/archives/greet_{}_all.deb", greet.id.version)).is_file());
    }
    // The newest goes: the one before is the newest then.
    shop.repo.remove("main", &meant(&shop.repo, "main", &["greet=2.0"]), now()).unwrap();
    apt.get(&["update"]);
    assert_eq!(installed(&["greet"]), "1.5");
}

#[test]
fn dnf_has_every_version_of_a_package_at_once() {
    if !has(&["dnf"]) {
        return;
    }
    let shop = Shop::new();
    let settings = Settings { algorithm: Algorithm::Rsa3072, architectures: vec!["amd64".into()], ..Settings::new("demo") };
    let repo = Arc::new(Repository::open(&shop.dir.path().join("rpm"), settings).unwrap());
    let all = ["1.0", "1.5", "2.0"].map(|version| repo.pool().ingest(&plain("greet", version, version)[..], "greet.rpm").unwrap());
    publish(&repo, "main", "published", &all.each_ref().map(AsRef::as_ref), now()).unwrap();
    let served = Served::new(&repo);
    let dnf = Dnf::new(&served.get("/main.repo", &[]).text());
    let (good, said) = dnf.run(&["repoquery", "--available", "--qf", "seen:%{name}-%{evr}\n", "greet"]);
    assert!(good && ["1.0", "1.5", "2.0"].iter().all(|version| said.contains(&format!("seen:greet-{version}-1"))), "{said}");
    for version in ["1.0", "2.0"] {
        let got = format!("--downloaddir={}", dnf.path("got").display());
        let (good, said) = dnf.run(&["install", "--downloadonly", &got, &format!("greet-{version}")]);
        assert!(good && dnf.path(&format!("got/greet-{version}-1.noarch.rpm")).is_file(), "{said}");
    }
}

//! The store: what is kept, what is refused, and what a crash leaves.

use crate::common::{Shop, deb, now, publish, settings, snapshot};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use twostage_model::{Class, Sha256};
use twostage_reposerver::{Kind, Repository};

/// Every file below a folder, with its bytes.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder).unwrap().display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_deb_is_stored_once_under_its_digest_and_describes_itself_after_a_reopen() {
    let shop = Shop::new();
    let bytes = deb("greet", "1:1.0-1", "amd64", "Depends: libc6\n", "hello");
    let package = shop.repo.pool().ingest(&bytes[..], "greet.deb").unwrap();
    assert_eq!((package.sha256, package.size, package.kind), (Sha256::of(&bytes), bytes.len() as u64, Kind::Deb));
    assert_eq!(package.file_name(), "greet_1%3a1.0-1_amd64.deb");
    let before = tree(&shop.repo.root().join("pool"));
    assert_eq!(shop.repo.pool().ingest(&bytes[..], "again").unwrap(), package);
    assert_eq!(tree(&shop.repo.root().join("pool")), before);
    let again = shop.again();
    assert!(again.pool().contains(&package.sha256).unwrap());
    assert_eq!(again.pool().package(&package.sha256).unwrap(), package);
    let mut read = Vec::new();
    again.pool().open_package(&package.sha256).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn what_is_no_package_is_refused_and_leaves_nothing() {
    let shop = Shop::new();
    let mut bytes = deb("greet", "1.0", "all", "", "hello");
    bytes.truncate(bytes.len() - 200);
    for wrong in [&b"not a package"[..], &bytes[..], &b""[..]] {
        assert_eq!(shop.repo.pool().ingest(wrong, "wrong.deb").unwrap_err().class(), Class::Repository);
    }
    assert!(!shop.repo.root().join("pool").exists() && !shop.repo.root().join("meta").exists());
    let missing = publish(&shop.repo, "main", "g", &[], now()).is_ok()
        && snapshot(&shop.repo, &[Sha256::of(b"nowhere")], now()).is_err_and(|e| e.what().contains("no package"));
    assert!(missing);
}

#[test]
fn any_file_can_be_kept_by_digest() {
    let shop = Shop::new();
    let blob = shop.repo.pool().put_blob(&b"a base image"[..]).unwrap();
    assert_eq!((blob.sha256, blob.size), (Sha256::of(b"a base image"), 12));
    assert_eq!(shop.repo.pool().put_blob(&b"a base image"[..]).unwrap(), blob);
    let mut text = String::new();
    fs::File::open(shop.again().pool().blob_path(&blob.sha256)).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "a base image");
    assert!(!shop.repo.pool().blob_path(&Sha256::of(b"other")).exists());
}

#[test]
fn a_snapshot_is_named_by_its_list_and_made_once() {
    let shop = Shop::new();
    let (a, b) = (shop.add("aa", "1", "x"), shop.add("bb", "1", "x"));
    let id = snapshot(&shop.repo, &[a.sha256, b.sha256], 1_700_000_000).unwrap();
    let list = fs::read_to_string(shop.repo.root().join(format!("snapshots/{id}/SHA256SUMS"))).unwrap();
    assert_eq!(list, format!("{}  aa_1_all.deb\n{}  bb_1_all.deb\n", a.sha256, b.sha256));
    assert_eq!(Sha256::of(list.as_bytes()), id.0);
    let before = tree(&shop.repo.root().join("snapshots"));
    assert_eq!(snapshot(&shop.repo, &[b.sha256, a.sha256, a.sha256], 1_750_000_000).unwrap(), id, "order and time are not in the name");
    assert_eq!(tree(&shop.repo.root().join("snapshots")), before);
    let info = shop.again().snapshots().info(&id).unwrap().unwrap();
    assert_eq!((info.date, info.manifest.len()), (1_700_000_000, 2));
    let transient = shop.repo.snapshots().transient(&[a.sha256], now()).unwrap();
    assert!(!shop.repo.root().join(format!("snapshots/{transient}")).exists());
}

#[test]
fn the_same_packages_give_the_same_bytes_in_every_repository() {
    let files = |shop: &Shop| {
        let members = [shop.add("aa", "1", "x").sha256, shop.add("aa", "1:0.5", "x").sha256, shop.add("bb", "1", "y").sha256];
        let id = snapshot(&shop.repo, &members, 1_700_000_000).unwrap();
        let dists = tree(&shop.repo.root().join(format!("snapshots/{id}/dists")));
        (id, dists)
    };
    assert_eq!(files(&Shop::new()), files(&Shop::new()));
}

#[test]
fn one_name_version_and_architecture_is_one_content_for_ever() {
    let shop = Shop::new();
    let (one, other) = (shop.add("greet", "1.0", "one"), shop.add("greet", "1.0", "other"));
    let within = shop.publish("main", "g", &[&one, &other]).unwrap_err();
    assert!(within.to_string().contains("two contents"), "{within}");
    assert!(shop.repo.channels().get("main").unwrap().is_none(), "nothing is half published");
    shop.publish("main", "g", &[&one]).unwrap();
    let next = shop.add("greet", "1.1", "next");
    shop.publish("main", "g", &[&next]).unwrap();
    // Also in another channel, another process, and when the first is long gone from its channel.
    let refused = publish(&shop.again(), "testing", "g", &[&other], now()).unwrap_err();
    assert_eq!(refused.class(), Class::Repository);
    let (first, second) = (one.sha256.to_string(), other.sha256.to_string());
    assert!(refused.what().contains(&first) && refused.what().contains(&second), "{refused}");
    assert!(refused.hint_text().unwrap().contains("new version"));
    assert!(shop.repo.channels().get("testing").unwrap().is_none());
    shop.publish("main", "g", &[&one]).unwrap();
}

#[test]
fn a_name_is_not_forgotten_when_the_publisher_died_before_writing_it_down() {
    let shop = Shop::new();
    let (one, other) = (shop.add("greet", "1.0", "one"), shop.add("greet", "1.0", "other"));
    shop.publish("main", "g", &[&one]).unwrap();
    let names = shop.repo.root().join("names");
    let whole = fs::read(&names).unwrap();
    for left in [&b""[..], &whole[..20], &whole[..whole.len() - 1]] {
        fs::write(&names, left).unwrap();
        let repo = shop.again();
        assert!(publish(&repo, "main", "h", &[&other], now()).is_err());
        assert_eq!(fs::read(&names).unwrap(), whole, "the index is mended from the channel");
    }
}

#[test]
fn publishing_the_same_again_changes_nothing() {
    let shop = Shop::new();
    let (a, b) = (shop.add("aa", "1", "x"), shop.add("bb", "1", "x"));
    assert!(shop.publish("main", "component:a", &[&a, &b]).unwrap().changed);
    let before = tree(shop.repo.root());
    let again = shop.publish("main", "component:a", &[&b, &a]).unwrap();
    assert!(!again.changed && again.previous == Some(again.snapshot));
    assert_eq!(tree(shop.repo.root()), before);
    // The same union in other groups: clients see no change, the owner does.
    let signed = fs::read_to_string(shop.repo.root().join("channels/main.json")).unwrap();
    assert!(!shop.publish("main", "component:b", &[&b]).unwrap().changed);
    let channel = shop.repo.channels().get("main").unwrap().unwrap();
    assert_eq!(channel.members.keys().collect::<Vec<_>>(), ["component:a", "component:b"]);
    let date = channel.date;
    assert!(signed.contains(&format!("\"date\":{date},")));
}

#[test]
fn a_channel_that_moves_back_gets_a_newer_date_and_its_groups_again() {
    let shop = Shop::new();
    let (old, new) = (shop.add("greet", "1.0", "old"), shop.add("greet", "2.0", "new"));
    let first = publish(&shop.repo, "main", "component:greet", &[&old], 1_700_000_000).unwrap();
    publish(&shop.repo, "main", "component:greet", &[&new], 1_700_000_000).unwrap();
    let before = shop.repo.channels().get("main").unwrap().unwrap();
    assert_eq!(before.date, 1_700_000_001, "dates only grow, whatever the clock says");
    let moved = shop.repo.move_channel("main", &first.snapshot, 1_600_000_000).unwrap();
    assert!(moved.changed && moved.snapshot == first.snapshot && moved.previous == Some(before.snapshot));
    let after = shop.repo.channels().get("main").unwrap().unwrap();
    assert_eq!((after.date, after.history.len()), (1_700_000_002, 2));
    assert_eq!(after.members["component:greet"].iter().collect::<Vec<_>>(), [&old.sha256]);
    assert!(!shop.repo.move_channel("main", &first.snapshot, 1_750_000_000).unwrap().changed);
    let other = shop.repo.move_channel("stable", &first.snapshot, 1_750_000_000).unwrap();
    assert_eq!(other.previous, None);
    assert_eq!(shop.repo.channels().names().unwrap(), ["main", "stable"]);
    let nowhere = shop.repo.move_channel("main", &twostage_model::SnapshotId(Sha256::of(b"?")), now());
    assert!(nowhere.unwrap_err().what().contains("no snapshot"));
}

#[test]
fn a_channel_from_the_future_is_not_published() {
    let shop = Shop::new();
    let (one, two) = (shop.add("greet", "1.0", "one"), shop.add("greet", "2.0", "two"));
    let ahead = publish(&shop.repo, "main", "g", &[&one], now() + 3600).unwrap_err();
    assert!(ahead.what().contains("ahead of this machine's clock"), "{ahead}");
    assert!(shop.repo.channels().get("main").unwrap().is_none());
    // As it is after publishes under a clock that was wrong.
    let zero = shop.publish("main", "g", &[&one]).unwrap();
    let first = shop.publish("main", "g", &[&one, &two]).unwrap();
    let year = 365 * 86_400;
    ahead_by(shop.repo.root(), "main", year);
    let three = shop.add("greet", "3.0", "three");
    let ahead = shop.publish("main", "g", &[&three]).unwrap_err();
    assert!(ahead.what().contains("ahead of this machine's clock"), "{ahead}");
    assert!(ahead.hint_text().unwrap().contains("twostage channel main --redate"), "{ahead}");
    assert!(shop.repo.move_channel("main", &zero.snapshot, now()).is_err());
    let before = shop.again().channels().get("main").unwrap().unwrap();
    assert_eq!(before.snapshot, first.snapshot, "it stays as it was");
    // The way out loses nothing: members by group, and every earlier state.
    let redated = shop.again().redate("main", now()).unwrap();
    assert!(redated.changed && redated.snapshot == first.snapshot);
    let after = shop.again().channels().get("main").unwrap().unwrap();
    assert!(after.date <= now() + 1 && after.members == before.members, "{after:?}");
    assert_eq!(after.history.len(), before.history.len() + 1);
    assert!(!shop.again().redate("main", now()).unwrap().changed, "once is enough");
    assert!(shop.again().publish("main", now(), |all| drop(all.insert("h".into(), [three.sha256].into()))).unwrap().changed);
    let back = shop.again().move_channel("main", &zero.snapshot, now()).unwrap();
    assert!(back.changed && back.snapshot == zero.snapshot);
    let groups = shop.again().channels().get("main").unwrap().unwrap().members.clone();
    assert_eq!(groups, std::collections::BTreeMap::from([("g".to_string(), [one.sha256].into())]), "the groups of then");
    // What is rebuilt is the newest state, not the one with the greatest date.
    fs::remove_file(shop.repo.root().join("channels/main.json")).unwrap();
    let repo = shop.again();
    assert!(repo.repair("main", now()).unwrap().lost.is_empty());
    assert_eq!(repo.channels().get("main").unwrap().unwrap().snapshot, zero.snapshot);
}

/// Dates a channel, and its snapshot, as a publish under a wrong clock would have.
fn ahead_by(root: &Path, channel: &str, seconds: i64) {
    let unsealed = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        format!("{}}}", text.rsplit_once(",\"seal\":").unwrap().0)
    };
    let file = root.join(format!("channels/{channel}.json"));
    let text = unsealed(&file);
    let date: i64 = text.split_once("\"date\":").unwrap().1.split_once(',').unwrap().0.parse().unwrap();
    let shifted = text.replace(&format!("\"date\":{date},"), &format!("\"date\":{},", date + seconds));
    fs::write(&file, &shifted).unwrap();
    let history = root.join(format!("history/{channel}"));
    fs::remove_file(history.join(format!("{date}.json"))).unwrap();
    fs::write(history.join(format!("{}.json", date + seconds)), &shifted).unwrap();
}

#[test]
fn publishers_at_once_all_succeed_and_none_is_lost() {
    let shop = Shop::new();
    let packages: Vec<_> = (0..6).map(|i| shop.add(&format!("pkg{i}"), "1", "x")).collect();
    std::thread::scope(|scope| {
        for (i, package) in packages.iter().enumerate() {
            // Its own handle each, as other processes have.
            let repo = Repository::open(shop.repo.root(), settings()).unwrap();
            scope.spawn(move || publish(&repo, "main", &format!("component:{i}"), &[package], 1_700_000_000).unwrap());
        }
    });
    let channel = shop.repo.channels().get("main").unwrap().unwrap();
    assert_eq!(channel.members.len(), 6);
    assert_eq!(channel.history.len(), 5);
    assert_eq!(shop.again().snapshots().info(&channel.snapshot).unwrap().unwrap().manifest.len(), 6);
}

#[test]
fn what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not() {
    let shop = Shop::new();
    let package = shop.add("greet", "1", "x");
    let tmp = shop.repo.root().join("tmp");
    for dead in ["writer-deadAA", "writer-deadBB"] {
        fs::create_dir_all(tmp.join(dead).join("half/dists")).unwrap();
        fs::write(tmp.join(dead).join("half/dists/Packages"), "half").unwrap();
    }
    fs::write(tmp.join("writer-deadAA/alive"), "").unwrap();
    let other = shop.again();
    let left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left.len(), 2, "the two living writers' folders: {left:?}");
    publish(&other, "main", "g", &[&package], now()).unwrap();
    drop(other);
    shop.publish("testing", "g", &[&package]).unwrap();
}

#[test]
fn only_our_own_names_are_swept_and_no_link_is_followed() {
    let shop = Shop::new();
    let (tmp, theirs) = (shop.repo.root().join("tmp"), shop.dir.path().join("theirs"));
    fs::create_dir_all(theirs.join("writer-AbCdEf")).unwrap();
    fs::create_dir_all(tmp.join("writer-notours")).unwrap();
    for file in [theirs.join("thesis.txt"), theirs.join("writer-AbCdEf/thesis.txt"), tmp.join("thesis.txt"), tmp.join("writer-notours/x")] {
        fs::write(file, "three years of work").unwrap();
    }
    std::os::unix::fs::symlink(&theirs, tmp.join("writer-linkAA")).unwrap();
    let before = tree(&theirs);
    drop(shop.again());
    assert_eq!(tree(&theirs), before, "what a link leads to");
    assert!(tmp.join("thesis.txt").exists() && tmp.join("writer-notours/x").exists() && tmp.join("writer-linkAA").is_symlink());
    // A tmp that is itself a link: nothing is written or removed where it leads.
    let root = shop.repo.root().to_path_buf();
    drop(shop.repo);
    fs::rename(&tmp, root.join("names-it-had")).unwrap();
    std::os::unix::fs::symlink(&theirs, &tmp).unwrap();
    let repo = Repository::open(&root, settings()).unwrap();
    let refused = repo.pool().ingest(&deb("greet", "1", "all", "", "x")[..], "greet").unwrap_err();
    assert!(refused.to_string().contains("tmp is not a folder but a link"), "{refused}");
    assert_eq!(tree(&theirs), before);
}

/// Who gave us the repository could have put it there: it would be read from elsewhere, and written to there.
#[test]
fn a_snapshot_with_a_link_in_it_is_not_used_and_made_anew() {
    let shop = Shop::new();
    let id = shop.publish("main", "g", &[&shop.add("greet", "1.0", "x")]).unwrap().snapshot;
    let (snapshot, theirs) = (shop.repo.root().join(format!("snapshots/{id}")), shop.dir.path().join("theirs"));
    fs::rename(snapshot.join("dists"), &theirs).unwrap();
    std::os::unix::fs::symlink(&theirs, snapshot.join("dists")).unwrap();
    // An index is missing where the link leads, so that a repair would write it there.
    let index = "twostage/main/binary-amd64/Packages.gz";
    fs::remove_file(theirs.join(index)).unwrap();
    let before = tree(&theirs);
    let served = crate::common::Served::new(&Arc::new(shop.again()));
    for path in ["main", &format!("@{id}")] {
        assert_eq!(served.get(&format!("/{path}/dists/{}", index.replace("gz", "zst")), &[]).status, 500, "{path}");
    }
    let again = shop.again();
    assert!(again.publish("main", now(), |_| {}).unwrap().mended.iter().any(|line| line.contains(&id.short())));
    assert_eq!(tree(&theirs), before, "where the link leads");
    assert!(snapshot.join("dists").join(index).is_file() && !snapshot.join("dists").is_symlink());
    let earlier = shop.publish("main", "g", &[&shop.add("greet", "2.0", "y")]).unwrap().previous;
    assert_eq!(earlier, Some(id));
}

#[test]
fn a_folder_with_anything_else_in_it_is_no_repository() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, files: &[&str]| {
        for file in files {
            let path = dir.path().join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "three years of work").unwrap();
        }
        dir.path().join(name)
    };
    for (name, files) in [
        ("theirs", &["tmp/thesis.txt"][..]),
        ("tmp-of-ours", &["tmp/writer-AbCdEf/thesis.txt"]),
        ("home", &["thesis.txt", "tmp/writer-AbCdEf/thesis.txt"]),
        ("looks-alike", &["lock", "pool/x", "tmp/writer-AbCdEf/x", "thesis.txt"]),
    ] {
        let (folder, before) = (make(name, files), tree(&dir.path().join(name)));
        let refused = Repository::open(&folder, settings()).unwrap_err();
        assert!(refused.to_string().contains("which is not twostage's: nothing is written there"), "{name}: {refused}");
        assert!(refused.hint_text().unwrap().contains("--repository"));
        assert_eq!(tree(&folder), before, "{name}");
    }
    // One that an earlier twostage made has no mark, and gets one; one with a mark may hold more.
    let older = make("older", &["names", "channels/x", "builds/x"]);
    fs::write(older.join("lock"), "").unwrap();
    drop(Repository::open(&older, settings()).unwrap());
    make("older", &["README"]);
    drop(Repository::open(&older, settings()).unwrap());
    assert!(older.join("twostage-repository").is_file());
}

#[test]
fn a_snapshot_that_is_not_whole_is_made_again() {
    let shop = Shop::new();
    let package = shop.add("greet", "1", "x");
    let id = snapshot(&shop.repo, &[package.sha256], now()).unwrap();
    let folder = shop.repo.root().join(format!("snapshots/{id}"));
    for broken in ["signed.json", "SHA256SUMS"] {
        fs::remove_file(folder.join(broken)).unwrap();
        let repo = shop.again();
        assert_eq!(snapshot(&repo, &[package.sha256], now()).unwrap(), id);
        assert_eq!(repo.snapshots().info(&id).unwrap().unwrap().manifest.len(), 1);
    }
}

#[test]
fn a_new_key_signs_anew_and_renames_nothing() {
    let shop = Shop::new();
    let package = shop.add("greet", "1", "x");
    let first = shop.publish("main", "g", &[&package]).unwrap();
    let old = shop.repo.signing().public_key().unwrap();
    fs::remove_file(shop.repo.root().join("key/signing.asc")).unwrap();
    // A key that is gone is not made by itself: clients would trust nothing any more.
    let gone = publish(&shop.again(), "main", "g", &[&package], now()).unwrap_err();
    assert!(gone.what().contains("is not there") && gone.hint_text().unwrap().contains("--rekey"), "{gone}");
    assert!(!shop.repo.root().join("key/signing.asc").exists());
    assert_eq!(shop.again().signing().public_key().unwrap(), old, "whoever serves needs no secret key");
    let repo = shop.again();
    let (fingerprint, channels) = repo.rekey(now()).unwrap();
    assert_eq!(channels, ["main"]);
    assert_ne!(repo.signing().public_key().unwrap(), old);
    let second = shop.again().channels().get("main").unwrap().unwrap();
    assert!(second.snapshot == first.snapshot && shop.again().signing().key(now()).unwrap().fingerprint() == fingerprint);
    assert!(!publish(&repo, "main", "g", &[&package], now()).unwrap().changed);
}

#[test]
fn a_package_that_a_power_failure_cut_short_is_taken_in_again() {
    let shop = Shop::new();
    let bytes = deb("greet", "1", "all", "", "x");
    let package = shop.repo.pool().ingest(&bytes[..], "greet").unwrap();
    let name = package.sha256.to_string();
    let pool = format!("pool/{}/{name}", &name[..2]);
    for file in [pool.as_str(), "catalog/index", "catalog/descriptions"] {
        let path = shop.repo.root().join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let repo = shop.again();
        assert!(!repo.pool().contains(&package.sha256).unwrap(), "{file}");
        repo.pool().ingest(&bytes[..], "greet").unwrap();
        assert!(shop.again().pool().contains(&package.sha256).unwrap(), "{file}");
        assert_eq!(shop.again().pool().package(&package.sha256).unwrap(), package, "{file}");
        assert!(file != pool || fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn a_catalog_that_is_gone_or_damaged_is_made_again_and_says_the_same() {
    let shop = Shop::new();
    let packages: Vec<_> = (0..80).map(|i| shop.add(&format!("package{i}"), "1", "x")).collect();
    let first = shop.publish("main", "g", &packages.iter().map(|package| &**package).collect::<Vec<_>>()).unwrap().snapshot;
    let files = |shop: &Shop, id| tree(&shop.repo.root().join(format!("snapshots/{id}/dists")));
    let catalog = shop.repo.root().join("catalog");
    // One after the other, and each after a snapshot that has all but one.
    for (number, file) in ["paragraphs", "index", "descriptions", ""].into_iter().enumerate() {
        let more = shop.add("zz", &number.to_string(), "x");
        publish(&shop.again(), "main", "g", &packages.iter().map(|package| &**package).collect::<Vec<_>>(), now()).unwrap();
        let path = catalog.join(file);
        if file.is_empty() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 4;
            fs::write(&path, bytes).unwrap();
        }
        let repo = shop.again();
        let mut members = repo.channels().get("main").unwrap().unwrap().members.clone();
        members.entry("g".into()).or_default().insert(more.sha256);
        let _ = fs::remove_file(shop.repo.root().join(format!("snapshots/{first}/blocks")));
        let done = repo.publish("main", now(), |all| *all = members).unwrap();
        // A description is read by who asks for it, not by a publish.
        assert_eq!(done.mended.is_empty(), file == "descriptions", "{file}: {:?}", done.mended);
        let elsewhere = Shop::new();
        let same: Vec<_> = (0..80)
            .map(|i| elsewhere.add(&format!("package{i}"), "1", "x"))
            .chain([elsewhere.add("zz", &number.to_string(), "x")])
            .collect();
        let expected = elsewhere.publish("main", "g", &same.iter().map(|package| &**package).collect::<Vec<_>>()).unwrap().snapshot;
        assert_eq!(done.snapshot, expected);
        assert!(files(&shop, done.snapshot) == files(&elsewhere, expected), "{file}: the same packages are the same bytes");
        let repaired = repo.repair("main", now()).unwrap();
        assert!(repaired.lost.is_empty(), "{file}: {:?}", repaired.lost);
        for package in &packages {
            assert_eq!(shop.again().pool().package(&package.sha256).unwrap(), *package);
        }
    }
}

#[test]
fn a_source_package_comes_with_its_files_or_not_at_all() {
    let shop = Shop::new();
    let dir = shop.dir.path().join("src");
    fs::create_dir_all(&dir).unwrap();
    let (tar, diff) = (b"a tarball".to_vec(), b"a diff".to_vec());
    let dsc = format!(
        "Format: 3.0 (quilt)\nSource: greet\nBinary: greet\nArchitecture: any\nVersion: 1.0-1\nMaintainer: T <t@example.invalid>\n\
         Checksums-Sha256:\n {} {} greet_1.0.orig.tar.xz\n {} {} greet_1.0-1.debian.tar.xz\nFiles:\n",
        Sha256::of(&tar),
        tar.len(),
        Sha256::of(&diff),
        diff.len()
    )
    .replace("Files:\n", "");
    let path = dir.join("greet_1.0-1.dsc");
    fs::write(&path, &dsc).unwrap();
    fs::write(dir.join("greet_1.0.orig.tar.xz"), &tar).unwrap();
    assert!(shop.repo.pool().ingest_source(&path).unwrap_err().what().contains("greet_1.0-1.debian.tar.xz"));
    fs::write(dir.join("greet_1.0-1.debian.tar.xz"), b"a lie!").unwrap();
    assert!(shop.repo.pool().ingest_source(&path).unwrap_err().what().contains("is not the file"));
    assert!(!shop.repo.root().join("pool").exists() && !shop.repo.root().join("meta").exists(), "the good one of them is not kept either");
    fs::write(dir.join("greet_1.0-1.debian.tar.xz"), &diff).unwrap();
    let source = shop.repo.pool().ingest_source(&path).unwrap();
    assert_eq!((source.kind, source.id.arch.as_str(), source.files.len()), (Kind::Source, "source", 2));
    assert!(shop.repo.pool().pool_path(&Sha256::of(&diff)).is_file());
    let climbing = dsc.replace("greet_1.0.orig", "../greet_1.0.orig");
    let refused = shop.repo.pool().ingest_source_from(climbing.as_bytes(), "x.dsc", |_| panic!("never opened"));
    assert!(refused.is_err());
}

#[test]
fn a_repository_refuses_an_origin_that_would_break_its_metadata() {
    let shop = Shop::new();
    for origin in ["", "a\nb", " a", "a: <b>"] {
        let wrong = twostage_reposerver::Settings { origin: origin.into(), ..settings() };
        assert_eq!(Repository::open(shop.repo.root(), wrong).unwrap_err().class(), Class::Project);
    }
    let _: Arc<Repository> = Arc::clone(&shop.repo);
}

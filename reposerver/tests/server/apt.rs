//! Real apt judges the repository, in folders of its own.

use crate::common::{Apt, Served, Shop, deb, gpgv, now, publish, run, snapshot};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use twostage_reposerver::FIXED_HOST;

fn two_packages(shop: &Shop) {
    let lib = shop.repo.pool().ingest(&deb("libgreet1", "1:1.0+bts1~a-1", "amd64", "Multi-Arch: same\n", "lib")[..], "lib").unwrap();
    let greet = shop.repo.pool().ingest(&deb("greet", "1.0-1", "all", "Depends: libgreet1 (>= 1:1.0)\n", "greet")[..], "greet").unwrap();
    publish(&shop.repo, "main", "g", &[&lib, &greet], now()).unwrap();
}

#[test]
fn apt_installs_from_a_channels_client_file() {
    let shop = Shop::new();
    two_packages(&shop);
    let served = Served::new(&shop.repo);
    let apt = Apt::new(&served.get("/main.sources", &[]).text());
    apt.get(&["update"]);
    let text = apt.get(&["install", "-s", "greet"]);
    assert!(text.contains("Inst libgreet1 (1:1.0+bts1~a-1 demo:twostage [amd64])"), "{text}");
    apt.get(&["install", "-d", "-y", "greet"]);
    assert!(apt.path("cache/archives/libgreet1_1%3a1.0+bts1~a-1_amd64.deb").is_file());
    apt.get(&["download", "greet"]);
    assert!(apt.path("got/greet_1.0-1_all.deb").is_file());
    let log = served.log.lock().unwrap();
    assert!(log.iter().any(|e| e.target.contains("/by-hash/SHA256/")), "apt asks by hash");
    assert!(log.iter().all(|e| e.status < 400), "{log:?}");
}

/// `InRelease` with an empty line before its signature, and `Release.gpg` with the same signature: apt takes each alone.
#[test]
fn apt_takes_one_signature_for_both_files() {
    let shop = Shop::new();
    two_packages(&shop);
    let served = Served::new(&shop.repo);
    let key = shop.repo.signing().key(now()).unwrap();
    let release = served.get("/main/dists/twostage/Release", &[]).text();
    let (inrelease, release_gpg) = key.sign_release(&release, now()).unwrap();
    let tree = tempfile::TempDir::new().unwrap();
    let dist = tree.path().join("dists/twostage");
    for name in release.lines().filter(|line| line.starts_with(' ')).filter_map(|line| line.split_whitespace().nth(2)) {
        fs::create_dir_all(dist.join(name).parent().unwrap()).unwrap();
        fs::write(dist.join(name), served.get(&format!("/main/dists/twostage/{name}"), &[]).body).unwrap();
    }
    fs::write(tree.path().join("key.asc"), key.public()).unwrap();
    let sources = format!(
        "Types: deb\nURIs: file:{tree}\nSuites: twostage\nComponents: main\nArchitectures: amd64\nSigned-By: {tree}/key.asc\n",
        tree = tree.path().display()
    );
    let files = [("InRelease", &inrelease), ("Release", &release), ("Release.gpg", &release_gpg)];
    for wanted in [&files[..], &files[..1], &files[1..]] {
        files.iter().for_each(|(name, _)| drop(fs::remove_file(dist.join(name))));
        wanted.iter().for_each(|(name, text)| fs::write(dist.join(name), text).unwrap());
        let apt = Apt::new(&sources);
        apt.get(&["update"]);
        let text = apt.get(&["install", "-s", "greet"]);
        assert!(text.contains("Inst greet (1.0-1 demo:twostage [all])"), "{text}");
        fs::write(dist.join(wanted[0].0), wanted[0].1.replace("demo", "dema")).unwrap();
        Apt::new(&sources).fails(&["update"]);
    }
}

#[test]
fn apt_reaches_a_snapshot_under_the_fixed_host_through_http_proxy() {
    let shop = Shop::new();
    two_packages(&shop);
    let id = shop.repo.channels().get("main").unwrap().unwrap().snapshot;
    let only_held = {
        let extra = shop.add("extra", "1", "x");
        shop.repo.snapshots().transient(&[extra.sha256], now()).unwrap()
    };
    let served = Served::new(&shop.repo);
    for (id, package) in [(id, "greet"), (only_held, "extra")] {
        let mut apt = Apt::new(&served.ask("GET", &format!("http://{FIXED_HOST}/@{id}.sources"), &[]).text());
        apt.proxy = Some(format!("http://{}", served.at));
        apt.get(&["update"]);
        apt.get(&["install", "-d", "-y", package]);
        apt.proxy = None;
        apt.fails(&["update"]);
    }
    let another = Served::new(&std::sync::Arc::new(shop.again()));
    assert_eq!(another.get(&format!("/@{only_held}.sources"), &[]).status, 404, "only the process that made it holds it");
}

#[test]
fn apt_refuses_a_flipped_byte_in_anything_that_it_fetches() {
    let shop = Shop::new();
    two_packages(&shop);
    let served = Served::new(&shop.repo);
    let root = shop.repo.root().to_path_buf();
    let sources = served.get("/main.sources", &[]).text();
    let flip = |path: &std::path::Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    // The signed text, as the channel's file holds it: the server itself does not pass it on.
    let file = root.join("channels/main.json");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replace("Label: demo", "Label: dema")).unwrap();
    let text = Apt::new(&sources).fails(&["update"]);
    assert!(text.contains("500  Internal Server Error"), "{text}");
    fs::write(&file, &whole).unwrap();
    // A package in the pool: nor that.
    let channel = shop.repo.channels().get("main").unwrap().unwrap();
    let package = channel.members["g"].iter().find(|d| shop.repo.pool().package(d).unwrap().id.name == "greet").unwrap();
    let pool = shop.repo.pool().pool_path(package);
    flip(&pool, 300);
    let apt = Apt::new(&sources);
    apt.get(&["update"]);
    let text = apt.fails(&["install", "-d", "-y", "greet"]);
    assert!(text.contains("500  Internal Server Error"), "{text}");
    flip(&pool, 300);
    // An index file on disk: nor that.
    let shop2 = shop.again();
    let folder = root.join(format!("snapshots/{}/dists/twostage/main/binary-amd64", channel.snapshot));
    let indexes = ["Packages.gz", "Packages.zst"].map(|name| folder.join(name));
    indexes.iter().for_each(|index| flip(index, 30));
    let fresh = Served::new(&std::sync::Arc::new(shop2));
    Apt::new(&fresh.get("/main.sources", &[]).text()).fails(&["update"]);
    indexes.iter().for_each(|index| flip(index, 30));
    let other = Shop::new();
    other.publish("main", "g", &[&other.add("x1", "1", "x")]).unwrap();
    let wrong_key =
        twostage_reposerver::sources_file(&format!("http://{}", served.at), "main", false, &other.repo.signing().public_key().unwrap());
    let text = Apt::new(&wrong_key).fails(&["update"]);
    assert!(text.contains("NO_PUBKEY"), "{text}");
    Apt::new(&sources).get(&["update"]);
}

#[test]
fn apt_follows_a_channel_forward_and_back() {
    let shop = Shop::new();
    let (old, new) = (shop.add("greet", "1.0", "old"), shop.add("greet", "2.0", "new"));
    let first = publish(&shop.repo, "main", "component:greet", &[&old], now() - 100).unwrap();
    let served = Served::new(&shop.repo);
    let apt = Apt::new(&served.get("/main.sources", &[]).text());
    let version = || apt.get(&["install", "-s", "greet"]).lines().find(|l| l.starts_with("Inst greet")).unwrap().to_string();
    apt.get(&["update"]);
    assert!(version().contains("(1.0 "));
    publish(&shop.repo, "main", "component:greet", &[&new], now() - 100).unwrap();
    apt.get(&["update"]);
    assert!(version().contains("(2.0 "));
    shop.repo.move_channel("main", &first.snapshot, now() - 100).unwrap();
    apt.get(&["update"]);
    assert!(version().contains("(1.0 "), "{}", version());
    let again = apt.get(&["update"]);
    assert!(again.contains("Hit:"), "{again}");
}

#[test]
fn apt_fetches_sources() {
    let shop = Shop::new();
    let dir = shop.dir.path().join("src");
    let tree = dir.join("greet-1.0");
    fs::create_dir_all(tree.join("debian/source")).unwrap();
    fs::write(tree.join("hello"), "hello").unwrap();
    fs::write(tree.join("debian/source/format"), "3.0 (native)\n").unwrap();
    fs::write(
        tree.join("debian/control"),
        "Source: greet\nMaintainer: T <t@example.invalid>\nSection: misc\nPriority: optional\nStandards-Version: 4.6.2\n\n\
         Package: greet\nArchitecture: all\nDescription: x\n",
    )
    .unwrap();
    fs::write(
        tree.join("debian/changelog"),
        "greet (1.0) unstable; urgency=low\n\n  * x\n\n -- T <t@example.invalid>  Tue, 14 Nov 2023 22:13:20 +0000\n",
    )
    .unwrap();
    run(Command::new("dpkg-source").args(["-b", "greet-1.0"]).current_dir(&dir));
    let source = shop.repo.pool().ingest_source(&dir.join("greet_1.0.dsc")).unwrap();
    let bin = shop.add("greet", "1.0", "x");
    shop.publish("main", "g", &[&source, &bin]).unwrap();
    let served = Served::new(&shop.repo);
    let apt = Apt::new(&served.get("/main.sources", &[]).text().replace("Types: deb", "Types: deb deb-src"));
    apt.get(&["update"]);
    apt.get(&["source", "--download-only", "greet"]);
    for name in ["greet_1.0.dsc", "greet_1.0.tar.xz"] {
        assert_eq!(fs::read(apt.path("got").join(name)).unwrap(), fs::read(dir.join(name)).unwrap());
    }
}

#[test]
fn gpgv_takes_what_the_server_sends() {
    let shop = Shop::new();
    two_packages(&shop);
    let served = Served::new(&shop.repo);
    let key = served.get("/key.asc", &[]).text();
    let id = shop.repo.channels().get("main").unwrap().unwrap().snapshot;
    for prefix in ["main".to_string(), format!("@{id}")] {
        let path = |name: &str| shop.dir.path().join(name);
        for name in ["InRelease", "Release", "Release.gpg"] {
            fs::write(path(name), served.get(&format!("/{prefix}/dists/twostage/{name}"), &[]).body).unwrap();
        }
        assert!(gpgv(&key, shop.dir.path(), &[&path("InRelease")]).0);
        assert!(gpgv(&key, shop.dir.path(), &[&path("Release.gpg"), &path("Release")]).0);
    }
}

/// The oracle for a paragraph of Packages: apt-ftparchive, field by field. What it may add are
/// hashes that we leave out; `Filename` is where each keeps its pool.
#[test]
fn packages_says_what_apt_ftparchive_says() {
    let shop = Shop::new();
    let folder = shop.dir.path().join("flat");
    fs::create_dir_all(&folder).unwrap();
    let mut members = Vec::new();
    for (name, version, arch, fields) in [
        ("plain", "1.0", "all", ""),
        ("epoch", "2:1.0~rc1-1", "amd64", "Section: libs\nPriority: optional\nInstalled-Size: 12\n"),
        (
            "many",
            "1.0",
            "amd64",
            "Multi-Arch: same\nDepends: a (>= 1),\n b | c,\n d\nProvides: x (= 1)\nHomepage: http://example.invalid\nBuilt-Using: gcc (= 1)\nSource: other (0.9)\nEssential: no\n",
        ),
    ] {
        let bytes = deb(name, version, arch, fields, "x");
        let package = shop.repo.pool().ingest(&bytes[..], name).unwrap();
        symlink(shop.repo.pool().pool_path(&package.sha256), folder.join(package.file_name())).unwrap();
        members.push(package.sha256);
    }
    let id = snapshot(&shop.repo, &members, now()).unwrap();
    let ours = Served::new(&shop.repo).get(&format!("/@{id}/dists/twostage/main/binary-amd64/Packages"), &[]).text();
    let theirs = run(Command::new("apt-ftparchive").args(["packages", "."]).current_dir(&folder));
    assert_eq!(paragraphs(&ours), paragraphs(&theirs));
}

fn paragraphs(text: &str) -> Vec<Vec<(String, String)>> {
    let mut all: Vec<Vec<(String, String)>> = text
        .split("\n\n")
        .filter(|p| !p.trim().is_empty())
        .map(|paragraph| {
            let mut fields: Vec<(String, String)> = Vec::new();
            for line in paragraph.lines() {
                match (line.starts_with(' '), fields.last_mut()) {
                    (true, Some(last)) => last.1 += &format!("\n{}", line.trim_end()),
                    _ => fields.extend(line.split_once(':').map(|(k, v)| (k.to_string(), v.trim().to_string()))),
                }
            }
            fields.retain(|(name, _)| !["Filename", "MD5sum", "SHA1", "SHA512"].contains(&name.as_str()));
            fields.sort();
            fields
        })
        .collect();
    all.sort();
    all
}

//! Our metadata beside createrepo_c's, and our repository before real dnf and rpm.
//!
//! These need `rpmbuild`, `createrepo_c`, `dnf`, `zypper` and `rpm` of this machine; where one is missing they say
//! so and are counted as skipped.

use crate::common::{self, Dnf, Served, Shop, count, has, now, run, tool, try_run};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use twostage_model::project::YumCompression;
use twostage_reposerver::sign::Algorithm;
use twostage_reposerver::{Extra, PoolPackage, Repository, Settings};

/// A shop with an RSA key, which every rpm takes.
fn shop() -> Shop {
    let shop = Shop::new();
    let settings = Settings { algorithm: Algorithm::Rsa3072, architectures: vec!["amd64".into()], ..Settings::new("demo") };
    let repo = Arc::new(Repository::open(&shop.dir.path().join("rpm"), settings).unwrap());
    Shop { dir: shop.dir, repo }
}

fn ingest(shop: &Shop, folder: &Path) -> Vec<Arc<PoolPackage>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut taken = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "rpm")) {
        match shop.repo.ingest_file(path) {
            Ok(package) => taken.push(package),
            Err(error) => panic!("refused: {}: {error} {:?}", path.display(), error.causes()),
        }
    }
    taken
}

fn get(served: &Served, path: &str) -> Vec<u8> {
    let answer = served.get(path, &[]);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.body
}

fn unzipped(body: &[u8]) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(body), &mut text).unwrap();
    text
}

fn values<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Packages of the distribution whose contents are packed as rpms.
const REAL: usize = 160;

/// What rpmbuild can make of a matrix of specs, 1,100 packages of one spec, and what is in real packages.
#[test]
fn metadata_is_createrepo_cs_field_by_field() {
    if !has(&["rpmbuild", "rpm", "createrepo_c", "python3", "dpkg-deb", "zstd"]) {
        return;
    }
    count("createrepo_c");
    // (The whole-command tests compare the same ones with apt-ftparchive.)
    let real = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-packages");
    let fetched = Command::new(tool("real_packages.py")).arg(&real).arg("330").output().unwrap();
    if fetched.status.code() == Some(77) {
        println!("not tested: the distribution's mirror cannot be reached: {}", String::from_utf8_lossy(&fetched.stderr));
        return count("skipped");
    }
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let shop = shop();
    let rpms = shop.dir.path().join("rpms");
    let mut make = Command::new(tool("make_rpms.py"));
    make.arg(&rpms).args(["--many", "1100", "--debs"]).arg(real.join("debs")).arg(REAL.to_string());
    println!("{} rpms made", run(&mut make).trim());
    let packages = ingest(&shop, &rpms);
    assert!(packages.len() > 1100 + REAL, "{}", packages.len());
    let members: Vec<&PoolPackage> = packages.iter().map(AsRef::as_ref).collect();
    shop.publish("main", "g", &members).unwrap();

    let theirs = shop.dir.path().join("theirs");
    let served = Served::new(&shop.repo);
    let gzip = fetch_metadata(&served, &shop.dir.path().join("gzip"));
    let primary = gzip.iter().find(|path| path.to_string_lossy().ends_with("-primary.xml.gz")).unwrap();
    fetch_packages(&served, &unzipped(&fs::read(primary).unwrap()), &theirs);
    served.stop();
    println!("{}", run(Command::new("createrepo_c").args(["--no-database", "--workers", "2"]).arg(&theirs)));

    // The same snapshot, packed in the other way.
    let settings = Settings { yum_compression: YumCompression::Zstd, ..shop.repo.settings().clone() };
    let repo = Arc::new(Repository::open(shop.repo.root(), settings).unwrap());
    common::publish(&repo, "main", "g", &members, now()).unwrap();
    let served = Served::new(&repo);
    let zstd = fetch_metadata(&served, &shop.dir.path().join("zstd"));
    assert!(zstd.len() == 3 && zstd.iter().all(|path| path.to_string_lossy().ends_with(".xml.zst")), "{zstd:?}");
    served.stop();
    for ours in ["gzip", "zstd"] {
        let ours = shop.dir.path().join(ours);
        let (equal, said) =
            try_run(Command::new(tool("compare_yum.py")).arg(&ours).arg(theirs.join("repodata")).args(["--extra", "control"]));
        println!("{said}");
        assert!(equal, "{}: {said}", ours.display());
    }
}

/// Writes repomd.xml and what it lists into a folder. Gives the paths of the latter.
fn fetch_metadata(served: &Served, folder: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    let repomd = String::from_utf8(get(served, "/main/repodata/repomd.xml")).unwrap();
    fs::write(folder.join("repomd.xml"), &repomd).unwrap();
    let fetch = |href: &str| {
        let path = folder.join(href.rsplit('/').next().unwrap());
        fs::write(&path, get(served, &format!("/main/{href}"))).unwrap();
        path
    };
    values(&repomd, "<location href=\"").into_iter().map(fetch).collect()
}

/// Writes the packages that this primary names into a folder, for createrepo_c: under the names and with the
/// times that rpm finds in their headers, so that it takes neither from us.
fn fetch_packages(served: &Served, primary: &str, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut fetched = Vec::new();
    for (number, href) in values(primary, "<location href=\"").into_iter().enumerate() {
        let path = folder.join(format!("{number}.rpm"));
        fs::write(&path, get(served, &format!("/main/{href}"))).unwrap();
        fetched.push(path);
    }
    let format = "%{BUILDTIME} %{NAME}-%{VERSION}-%{RELEASE}.%|SOURCERPM?{%{ARCH}}:{src}|.rpm\n";
    let said = run(Command::new("rpm").args(["-qp", "--nosignature", "--nodigest", "--qf", format]).args(&fetched));
    let mut times = HashSet::new();
    for (path, line) in fetched.iter().zip(said.lines()) {
        let (time, name) = line.split_once(' ').unwrap();
        let named = folder.join(name);
        assert!(!named.exists(), "two are called {name}");
        fs::rename(path, &named).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(time.parse().unwrap());
        fs::File::options().write(true).open(&named).unwrap().set_modified(modified).unwrap();
        times.insert(time.to_string());
    }
    assert!(times.len() > 10, "packages of different times: {times:?}");
}

/// Two packages for dnf, one of them for each architecture.
fn small(folder: &Path) {
    run(Command::new(tool("make_rpms.py")).arg(folder));
}

#[test]
fn real_dnf_and_rpm_take_what_we_sign_and_refuse_what_was_changed() {
    if !has(&["dnf", "rpm", "rpmkeys", "rpmbuild"]) {
        return;
    }
    let shop = shop();
    let rpms = shop.dir.path().join("rpms");
    small(&rpms);
    let packages = ingest(&shop, &rpms);
    let members: Vec<&PoolPackage> = packages.iter().map(AsRef::as_ref).collect();
    let id = shop.publish("main", "g", &members).unwrap().snapshot;
    let served = Served::new(&shop.repo);
    for site in ["main".to_string(), format!("@{id}")] {
        let dnf = Dnf::new(&served.get(&format!("/{site}.repo"), &[]).text());
        let (good, said) = dnf.run(&["makecache"]);
        assert!(good, "{said}");
        let (good, said) = dnf.run(&["repoquery", "--available", "--qf", "%{name} %{evr} %{arch}"]);
        assert!(good && said.contains("relations 7:1.0-1 x86_64"), "{said}");
        let (good, said) = dnf.run(&["install", "--setopt=tsflags=noscripts,test", "empty", "kinds", "utf8"]);
        assert!(good, "{said}");
        let got = format!("--downloaddir={}", dnf.path("got").display());
        let (good, said) = dnf.run(&["install", "--downloadonly", &got, "empty", "versions", "packed-w3zstdio"]);
        assert!(good, "{said}");

        // rpm itself, with our key in a database of its own.
        let db = dnf.path("db");
        let key = dnf.path("key.asc");
        fs::write(&key, shop.repo.signing().public_key().unwrap()).unwrap();
        run(Command::new("rpmkeys").arg("--dbpath").arg(&db).arg("--import").arg(&key));
        let mut checked = 0;
        for entry in fs::read_dir(dnf.path("got")).unwrap() {
            let path = entry.unwrap().path();
            let said = run(Command::new("rpmkeys").arg("--dbpath").arg(&db).arg("-Kv").arg(&path));
            assert!(said.contains("Header V4 RSA/SHA512 Signature") && said.contains(": OK") && !said.contains("NOT"), "{said}");
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() - 20;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(!try_run(Command::new("rpmkeys").arg("--dbpath").arg(&db).arg("-K").arg(&path)).0);
            checked += 1;
        }
        assert_eq!(checked, 3);
    }

    // A channel that moves, and moves back: each time dnf sees what it has now.
    let (members, client) = (&packages, served.get("/main.repo", &[]).text());
    let dnf = Dnf::new(&client);
    let count = |dnf: &Dnf| {
        let (good, said) = dnf.run(&["repoquery", "--available", "--qf", "seen:%{name}"]);
        assert!(good, "{said}");
        said.matches("seen:").count()
    };
    let all = count(&dnf);
    let fewer: Vec<&PoolPackage> = members.iter().filter(|package| package.id.name != "kinds").map(AsRef::as_ref).collect();
    shop.publish("main", "g", &fewer).unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(count(&dnf), all - 1);
    shop.repo.move_channel("main", &id, now()).unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(count(&dnf), all);

    // Metadata that another key signed.
    let client = served.get("/main.repo", &[]).text();
    let other = shop_of_another_key();
    let foreign = Served::new(&other.repo);
    let theirs = format!("gpgkey=http://{}", foreign.at);
    let dnf = Dnf::new(&client.replace(&format!("gpgkey=http://{}", served.at), &theirs));
    let (good, said) = dnf.run(&["makecache"]);
    assert!(!good && said.contains("GPG"), "{said}");
    foreign.stop();

    // A byte of the payload, changed on the disk: the server itself does not pass it on.
    let empty = packages.iter().find(|package| package.id.name == "kinds" && package.id.arch == "noarch").unwrap();
    let path = shop.repo.pool().pool_path(&empty.sha256);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let (good, said) = Dnf::new(&client).run(&["install", "--setopt=tsflags=noscripts,test", "kinds"]);
    assert!(!good && said.contains("500"), "{said}");
    served.stop();
}

#[test]
fn real_zypper_takes_what_we_sign_and_refuses_what_was_changed() {
    if !has(&["zypper", "rpmbuild"]) {
        return;
    }
    count("zypper");
    let shop = shop();
    let rpms = shop.dir.path().join("rpms");
    small(&rpms);
    let packages = ingest(&shop, &rpms);
    let members: Vec<&PoolPackage> = packages.iter().map(AsRef::as_ref).collect();
    shop.publish("main", "g", &members).unwrap();
    let served = Served::new(&shop.repo);
    let root = shop.dir.path().join("zypper");
    let client = served.get("/main.repo", &[]).text();
    let zypper = |args: &[&str]| zypper(&root, &client, args);
    let (good, said) = zypper(&["refresh"]);
    assert!(good && !said.contains("unsigned"), "{said}");
    let (good, said) = zypper(&["search", "-s", "relations"]);
    assert!(good && said.contains("7:1.0-1"), "{said}");
    let (good, said) = zypper(&["install", "--download-only", "empty", "utf8", "versions"]);
    assert!(good, "{said}");
    let changed = packages.iter().find(|package| package.id.name == "kinds" && package.id.arch == "noarch").unwrap();
    let path = shop.repo.pool().pool_path(&changed.sha256);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let (good, said) = zypper(&["install", "--download-only", "kinds"]);
    assert!(!good && said.contains("500"), "{said}");
    served.stop();
}

/// The form is not part of what a snapshot is: asked for another, the same one is packed anew.
#[test]
fn metadata_is_packed_as_the_owner_wants_it_and_dnf_and_zypper_read_both() {
    if !has(&["dnf", "zypper", "rpmbuild"]) {
        return;
    }
    let made = Shop::new();
    let rpms = made.dir.path().join("rpms");
    small(&rpms);
    let mut snapshots = HashSet::new();
    for (compression, ending) in [(YumCompression::Gzip, ".xml.gz"), (YumCompression::Zstd, ".xml.zst"), (YumCompression::Gzip, ".xml.gz")]
    {
        let settings = Settings { yum_compression: compression, architectures: vec!["amd64".into()], ..Settings::new("demo") };
        let repo = Arc::new(Repository::open(&made.dir.path().join("forms"), settings).unwrap());
        let packages: Vec<_> = fs::read_dir(&rpms).unwrap().map(|entry| repo.ingest_file(&entry.unwrap().path()).unwrap()).collect();
        let members: Vec<&PoolPackage> = packages.iter().map(AsRef::as_ref).collect();
        let published = common::publish(&repo, "main", "g", &members, now()).unwrap();
        snapshots.insert(published.snapshot);
        assert_eq!(snapshots.len(), 1);
        let served = Served::new(&repo);
        let repomd = String::from_utf8(get(&served, "/main/repodata/repomd.xml")).unwrap();
        let names = values(&repomd, "<location href=\"");
        assert!(names.len() == 3 && names.iter().all(|name| name.ends_with(ending)), "{names:?}");
        let client = served.get("/main.repo", &[]).text();
        let (good, said) = Dnf::new(&client).run(&["repoquery", "--available", "--qf", "%{name} %{evr} %{arch}"]);
        assert!(good && said.contains("relations 7:1.0-1 x86_64"), "{said}");
        let root = made.dir.path().join("zypper");
        let _ = fs::remove_dir_all(&root);
        let (good, said) = zypper(&root, &client, &["refresh"]);
        assert!(good, "{said}");
        let (good, said) = zypper(&root, &client, &["search", "-s", "relations"]);
        assert!(good && said.contains("7:1.0-1"), "{said}");
        served.stop();
    }
}

/// Real zypper in a folder of its own, with one client file.
fn zypper(root: &Path, client: &str, args: &[&str]) -> (bool, String) {
    fs::create_dir_all(root.join("etc/zypp/repos.d")).unwrap();
    fs::write(root.join("etc/zypp/repos.d/demo.repo"), client).unwrap();
    let mut command = Command::new("zypper");
    command.arg("--root").arg(root).args(["--non-interactive", "--gpg-auto-import-keys"]).args(args).env("HOME", root);
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    try_run(&mut command)
}

const COMPS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps>
  <group>
    <id>odd-ones</id>
    <name>Odd ones</name>
    <description>Packages with something odd</description>
    <default>true</default>
    <uservisible>true</uservisible>
    <packagelist>
      <packagereq type="mandatory">versions</packagereq>
      <packagereq type="optional">kinds</packagereq>
    </packagelist>
  </group>
</comps>
"#;

const UPDATEINFO: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<updates>
  <update from="security@example.invalid" status="final" type="security" version="1">
    <id>DEMO-2026:0001</id>
    <title>versions is no candidate any more</title>
    <severity>Important</severity>
    <issued date="2026-01-02 03:04:05"/>
    <updated date="2026-01-02 03:04:05"/>
    <description>It was odd.</description>
    <references>
      <reference href="https://example.invalid/CVE-2026-0001" id="CVE-2026-0001" title="CVE-2026-0001" type="cve"/>
    </references>
    <pkglist>
      <collection short="demo">
        <name>Demo</name>
        <package name="versions" version="1.0" release="1" epoch="4000000" arch="noarch" src="versions-1.0-1.src.rpm">
          <filename>versions-1.0-1.noarch.rpm</filename>
        </package>
      </collection>
    </pkglist>
  </update>
</updates>
"#;

/// What `publish` passes on as it is, dnf understands, in both of the metadata's forms.
#[test]
fn real_dnf_lists_the_groups_and_advisories_that_were_published() {
    if !has(&["dnf", "rpmbuild"]) {
        return;
    }
    let made = shop();
    let rpms = made.dir.path().join("rpms");
    small(&rpms);
    for compression in [YumCompression::Gzip, YumCompression::Zstd] {
        let settings = Settings { yum_compression: compression, ..made.repo.settings().clone() };
        let repo = Arc::new(Repository::open(made.repo.root(), settings).unwrap());
        let shop = Shop { dir: tempfile::TempDir::new().unwrap(), repo };
        let mut packages = ingest(&shop, &rpms);
        packages.push(shop.repo.pool().ingest_extra(Extra::Group, COMPS.as_bytes()).unwrap());
        packages.push(shop.repo.pool().ingest_extra(Extra::UpdateInfo, UPDATEINFO.as_bytes()).unwrap());
        let members: Vec<&PoolPackage> = packages.iter().map(AsRef::as_ref).collect();
        shop.publish("main", "g", &members).unwrap();
        let served = Served::new(&shop.repo);
        let dnf = Dnf::new(&served.get("/main.repo", &[]).text());
        for (arguments, lines) in [
            (&["group", "list", "--available"][..], &["Available Groups:", "Odd ones"][..]),
            (
                &["group", "info", "odd-ones"],
                &[
                    "Group: Odd ones",
                    "Description: Packages with something odd",
                    "Mandatory Packages:",
                    "versions",
                    "Optional Packages:",
                    "kinds",
                ],
            ),
            // Advisories are of what is installed.
            (&["install", "--setopt=tsflags=noscripts", "versions-1.0~rc1"], &["Complete!"]),
            (&["updateinfo", "list"], &["DEMO-2026:0001 Important/Sec. versions-4000000:1.0-1.noarch"]),
            (&["updateinfo", "info"], &["Update ID: DEMO-2026:0001", "CVEs: CVE-2026-0001", "Description: It was odd."]),
        ] {
            let (good, said) = dnf.run(arguments);
            let said_lines: Vec<&str> = said.lines().map(str::trim).collect();
            assert!(good && lines.iter().all(|line| said_lines.contains(line)), "{arguments:?}: {said}");
        }
        served.stop();
    }
}

fn shop_of_another_key() -> Shop {
    let other = shop();
    other.repo.snapshots().transient(&[], now()).unwrap();
    other
}

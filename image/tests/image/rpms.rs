//! The audit over an rpm distribution made in code, with databases that the real rpm writes.

use crate::support::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use twostage_image::{Base, Image, Known, Report, audit, read_archive, wanted};
use twostage_model::Format;
use twostage_package::rpmdb::Database;

const DATABASE: &str = "usr/lib/sysimage/rpm/rpmdb.sqlite";

/// What rpm wrote after each step.
struct Made {
    base: Vec<u8>,
    hello: Vec<u8>,
    key: Vec<u8>,
    key_erased: Vec<u8>,
    rebuilt: Vec<u8>,
    _folder: tempfile::TempDir,
}

static MADE: LazyLock<Made> = LazyLock::new(make);

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; `apt-get install -y --no-install-recommends rpm gpg` brings it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Builds a package of `files` (path, content, directive), without compression and scripts.
fn build(folder: &Path, name: &str, version: &str, files: &[(&str, &str, &str)]) -> PathBuf {
    let mut spec = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: a test\nLicense: MIT\nBuildArch: noarch\n%description\na test\n%install\n"
    );
    let mut list = "%files\n".to_string();
    for (path, content, directive) in files {
        spec += &format!("mkdir -p %{{buildroot}}$(dirname {path})\n");
        spec += &match (*directive, content.strip_prefix("-> ")) {
            ("%ghost", _) => String::new(),
            (_, Some(target)) => format!("ln -s {target} %{{buildroot}}{path}\n"),
            _ => format!("printf '%s' '{content}' >%{{buildroot}}{path}\n"),
        };
        list += &format!("{directive} {path}\n");
    }
    fs::write(folder.join("a.spec"), spec + &list).unwrap();
    let define = |name: &str, value: &str| format!("{name} {}/{value}", folder.display());
    let (top, none) = (define("_topdir", "top"), define("_dbpath", "none"));
    let spec = folder.join("a.spec");
    tool("rpmbuild", &["-bb", "--quiet", "--define", &top, "--define", &none, spec.to_str().unwrap()]);
    folder.join(format!("top/RPMS/noarch/{name}-{version}-1.noarch.rpm"))
}

fn make() -> Made {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let path = folder.join("db");
    let database = path.to_str().unwrap();
    let rpm = |arguments: &[&str]| tool("rpm", &[&["--dbpath", database], arguments].concat());
    let install = |package: &Path| {
        rpm(&["-i", "--justdb", "--nodeps", "--nosignature", "--force-debian", package.to_str().unwrap()]);
        let wal = path.join("rpmdb.sqlite-wal");
        assert_eq!(fs::metadata(&wal).map_or(0, |wal| wal.len()), 0, "rpm leaves nothing in the log");
        fs::read(path.join("rpmdb.sqlite")).unwrap()
    };
    rpm(&["--initdb"]);
    install(&build(folder, "setup", "2.14", &[("/etc/passwd", "root:x:0:0::/root:/bin/sh\n", "%config(noreplace)")]));
    let base = install(&build(folder, "glibc", "2.38", &[("/usr/bin/ldd", "ldd\n", ""), ("/usr/bin/old", "-> ldd", "")]));
    let hello = install(&build(
        folder,
        "hello",
        "1.0",
        &[
            ("/usr/bin/hello", "hi\n", ""),
            ("/usr/bin/hi", "-> hello", ""),
            ("/etc/hello.conf", "as shipped\n", "%config(noreplace)"),
            ("/usr/share/hello.dat", "data\n", "%verify(not md5 filedigest)"),
            ("/var/lib/hello/index", "", "%ghost"),
            ("/var/log/hello.log", "", "%ghost"),
        ],
    ));
    let home = folder.join("gpg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| tool("gpg", &[&["--homedir", home.to_str().unwrap(), "--batch", "--quiet"], arguments].concat());
    gpg(&["--passphrase", "", "--quick-generate-key", "A Team <team@example.com>", "rsa2048", "sign", "never"]);
    let armor = gpg(&["--armor", "--export"]);
    fs::write(folder.join("key.asc"), armor).unwrap();
    rpm(&["--import", folder.join("key.asc").to_str().unwrap()]);
    let read = || fs::read(path.join("rpmdb.sqlite")).unwrap();
    let key = read();
    rpm(&["-e", "--nodeps", "--force-debian", "gpg-pubkey"]);
    let key_erased = read();
    rpm(&["--rebuilddb"]);
    Made { base, hello, key, key_erased, rebuilt: read(), _folder: temporary }
}

fn base() -> Tar {
    Tar::new()
        .dir("etc")
        .dir("usr/bin")
        .dir("var/log")
        .dir("run")
        .symlink("var/lib/rpm", "../../usr/lib/sysimage/rpm")
        .file(DATABASE, &MADE.base)
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("usr/bin/ldd", "ldd\n")
        .symlink("usr/bin/old", "ldd")
}

/// A layer that installs `hello` properly, to which a test adds what it is about.
fn hello(database: &[u8]) -> Tar {
    Tar::new()
        .file(DATABASE, database)
        .file("usr/bin/hello", "hi\n")
        .symlink("usr/bin/hi", "hello")
        .file("etc/hello.conf", "as its script made it\n")
        .file("usr/share/hello.dat", "changed, and nobody minds\n")
}

fn image(layers: &[Vec<u8>]) -> Image {
    read_archive(&docker_old(layers)[..], &wanted).unwrap_or_else(|e| panic!("{e} {:?}", e.causes()))
}

fn report(top: Tar) -> Report {
    audited(&docker_old(&[base().done(), top.done()]), Base::Layers(1), &Known::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Path to rule.
fn residue(top: Tar) -> BTreeMap<String, &'static str> {
    report(top).residue().map(|r| (r.at.clone(), r.rule)).collect()
}

fn pairs(expected: &[(&str, &'static str)]) -> BTreeMap<String, &'static str> {
    expected.iter().map(|(path, rule)| (path.to_string(), *rule)).collect()
}

#[test]
fn the_databases_that_rpm_writes_are_read() {
    let database = Database::parse(&MADE.hello, DATABASE).unwrap();
    let names: Vec<String> = database.packages.iter().map(|package| package.id.to_string()).collect();
    assert_eq!(names, ["setup 2.14-1 noarch", "glibc 2.38-1 noarch", "hello 1.0-1 noarch"]);
    let paths: Vec<String> = database.packages[2].files.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect();
    let expected = ["etc/hello.conf", "usr/bin/hello", "usr/bin/hi", "usr/share/hello.dat", "var/lib/hello/index", "var/log/hello.log"];
    assert_eq!(paths, expected);
    assert!(database.packages.iter().all(|package| package.install_time > 1_700_000_000));
    for (bytes, keys, erased) in [(&MADE.hello, 0, 0), (&MADE.key, 1, 0), (&MADE.key_erased, 0, 1), (&MADE.rebuilt, 0, 0)] {
        let database = Database::parse(bytes, DATABASE).unwrap();
        assert_eq!((database.packages.len(), database.keys.len(), database.erased_keys(None)), (3, keys, erased));
    }
}

#[test]
fn a_layer_that_installs_an_rpm_is_clean_and_accounted_for() {
    let report = report(hello(&MADE.hello));
    assert!(report.is_clean(), "{}", report.to_text());
    let layer = &report.layers[0];
    assert_eq!(layer.formats, [Format::Rpm]);
    let hello = &layer.packages[0];
    assert_eq!((hello.name.as_str(), hello.version.as_str(), hello.format, hello.share.files), ("hello", "1.0-1", Format::Rpm, 4));
    assert_eq!((report.packages_installed, report.packages_added), (3, 1));
    assert_eq!(layer.generated.iter().map(|rule| rule.rule).collect::<Vec<_>>(), ["rpm-database"]);
}

#[test]
fn content_that_the_package_did_not_bring_is_named() {
    let layer = |tar: Tar| tar.file(DATABASE, &MADE.hello).file("etc/hello.conf", "x").file("usr/share/hello.dat", "x");
    let changed = layer(Tar::new()).file("usr/bin/hello", "patched\n").symlink("usr/bin/hi", "/tmp/x");
    assert_eq!(residue(changed), pairs(&[("/usr/bin/hello", "package-file-changed"), ("/usr/bin/hi", "package-file-changed")]));
    let of_base = hello(&MADE.hello).file("usr/bin/ldd", "patched\n").file("etc/passwd", "root\napp\n");
    assert_eq!(residue(of_base), pairs(&[("/usr/bin/ldd", "base-file-changed")]));
    let linked = layer(Tar::new()).file("usr/bin/hello", "hi\n").hardlink("usr/bin/hi", "usr/bin/hello");
    assert_eq!(residue(linked), pairs(&[("/usr/bin/hi", "package-file-changed")]));
}

#[test]
fn a_ghost_is_its_packages_but_a_log_stays_a_log() {
    let report = report(hello(&MADE.hello).dir("var/lib/hello").file("var/lib/hello/index", "x").file("var/log/hello.log", "x"));
    let rules: Vec<&str> = report.layers[0].generated.iter().map(|rule| rule.rule).collect();
    assert_eq!(rules, ["rpm-database", "rpm-ghost"]);
    let found: Vec<(&str, &str)> = report.residue().map(|r| (r.at.as_str(), r.rule)).collect();
    assert_eq!(found, [("/var/lib/hello", "unaccounted"), ("/var/log/hello.log", "log")]);
}

/// As packages do with `/usr/lib/sysusers.d` where no other has that folder in its list.
#[test]
fn a_folder_that_rpm_made_for_a_file_is_its_packages_with_a_note() {
    // (Of the base is `usr/bin`; `usr/share` is in no list.)
    let report = report(hello(&MADE.hello).dir("usr/share"));
    assert!(report.is_clean(), "{}", report.to_text());
    let layer = &report.layers[0];
    assert_eq!((layer.packages[0].share.files, layer.packages[0].share.folders), (4, 1));
    let notes: Vec<String> = layer.notes.iter().map(|note| format!("{}: {}", note.at, note.note)).collect();
    assert_eq!(notes, ["/usr/share: no package lists it; rpm made it for /usr/share/hello.dat of hello 1.0-1"]);
    assert!(report.to_text().contains("  note: /usr/share: no package lists it"), "{}", report.to_text());
    // Not as rpm makes one, or for nothing that rpm brought.
    let other = |top: Tar| residue(hello(&MADE.hello).dir("usr/share/empty")).len() + residue(top).len();
    assert_eq!(other(hello(&MADE.hello).raw(b'5', b"usr/share/", b"", b"")), 2, "0644 is nobody's");
    assert_eq!(
        residue(Tar::new().file(DATABASE, &MADE.hello).dir("usr/share")),
        pairs(&[("/usr/share", "unaccounted")]),
        "its file is not there"
    );
}

#[test]
fn a_key_in_the_database_is_named_and_so_is_what_is_left_of_it() {
    let reasons = |database: &[u8]| -> Vec<String> {
        let report = report(hello(database));
        report.residue().map(|r| format!("{} {} {}", r.at, r.rule, r.reason)).collect()
    };
    let found = reasons(&MADE.key);
    assert!(
        found[0].starts_with("/usr/lib/sysimage/rpm/rpmdb.sqlite rpm-database-key the rpm database holds a key: gpg-pubkey-"),
        "{found:?}"
    );
    assert!(found[0].contains("A Team <team@example.com>") && found.len() == 1, "{found:?}");
    let found = reasons(&MADE.key_erased);
    assert!(found.len() == 1 && found[0].contains("the bytes of a key that was erased"), "{found:?}");
    assert!(reasons(&MADE.rebuilt).is_empty());
    // A key that came and went is in the layer that brought it.
    let layers = [base().done(), hello(&MADE.key).done(), Tar::new().file(DATABASE, &MADE.rebuilt).done()];
    let report = audited(&docker_old(&layers), Base::Layers(1), &Known::default()).unwrap();
    let found: Vec<_> = report.residue().map(|r| (r.layer, r.rule)).collect();
    assert_eq!(found, [(Some(2), "rpm-database-key")]);
    // The base's own keys are the base's.
    let base = base().file(DATABASE, &MADE.key).done();
    assert!(audit(&image(&[base, hello(&MADE.key).done()]), Base::Layers(1)).unwrap().is_clean());
}

#[test]
fn every_kind_of_rpm_residue_is_named() {
    let expected = [
        ("/etc/dnf/dnf.conf", "dnf-settings"),
        ("/etc/pki/rpm-gpg/RPM-GPG-KEY-twostage", "rpm-key"),
        ("/etc/hello.conf.rpmnew", "rpm-leftover"),
        ("/etc/yum.repos.d/twostage.repo", "dnf-source"),
        ("/etc/zypp/repos.d/twostage.repo", "dnf-source"),
        ("/root/hello-1.0-1.noarch.rpm", "package-payload"),
        ("/usr/bin/hello;65f1c2d3", "rpm-leftover"),
        ("/usr/lib/sysimage/libdnf5/transaction_history.sqlite", "dnf-history"),
        ("/usr/lib/sysimage/rpm/.rpm.lock", "rpm-database-journal"),
        ("/usr/lib/sysimage/rpm/__db.001", "rpm-database-journal"),
        ("/usr/lib/sysimage/rpm/rpmdb.sqlite-shm", "rpm-database-journal"),
        ("/usr/lib/sysimage/rpm/rpmdb.sqlite-wal", "rpm-database-journal"),
        ("/var/cache/dnf/x/repodata/repomd.xml", "dnf-cache"),
        ("/var/cache/libdnf5/x/solv", "dnf-cache"),
        ("/var/cache/yum/x", "dnf-cache"),
        ("/var/cache/zypp/solv/x", "dnf-cache"),
        ("/var/lib/dnf/history.sqlite", "dnf-history"),
        ("/var/lib/dnf/history.sqlite-wal", "dnf-history"),
        ("/var/lib/rpm-state/x", "rpm-state"),
        ("/var/lib/zypp/AnonymousUniqueId", "zypp-identity"),
        ("/var/log/dnf.log", "log"),
        ("/var/log/hawkey.log", "log"),
        ("/var/log/zypp/history", "log"),
        ("/var/log/zypper.log", "log"),
    ];
    let top = expected.iter().fold(hello(&MADE.hello), |tar, (path, _)| {
        // A log with content would be an error: see below.
        tar.file(path.trim_start_matches('/'), if path.ends_with("rpmdb.sqlite-wal") { "" } else { "x" })
    });
    assert_eq!(residue(top), pairs(&expected));
}

#[test]
fn what_rpm_packages_generate_is_told_from_what_merely_looks_like_it() {
    let generated = hello(&MADE.hello)
        .file("etc/ld.so.cache", "x")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
        .symlink("etc/alternatives/greet", "/usr/bin/hello")
        .symlink("usr/bin/greet", "/etc/alternatives/greet");
    let unknown = [("/etc/alternatives/greet", "unaccounted"), ("/usr/bin/greet", "unaccounted")];
    assert_eq!(residue(generated), pairs(&unknown), "no group of alternatives says so");
    let state = "auto\n/usr/bin/greet\ngreet-man\n/usr/share/man/greet.1\n\n/usr/bin/hello\n10\n/usr/share/man/hello.1\n";
    let with = |tar: Tar| tar.file("var/lib/alternatives/greet", state).symlink("etc/alternatives/greet", "/usr/bin/hello");
    // The state itself needs the package that keeps it.
    assert_eq!(residue(with(hello(&MADE.hello))), pairs(&[("/var/lib/alternatives/greet", "unaccounted")]));
    let without = [("/usr/lib/sysimage/libdnf5/packages.toml", "unaccounted"), ("/etc/pki/ca-trust/extracted/pem/x.pem", "unaccounted")];
    let top = without.iter().fold(hello(&MADE.hello), |tar, (path, _)| tar.file(path.trim_start_matches('/'), "x"));
    assert_eq!(residue(top), pairs(&without));
}

#[test]
fn a_log_with_changes_in_it_is_an_error_and_so_is_a_second_database() {
    let refused = |top: Tar| audit(&image(&[base().done(), top.done()]), Base::Layers(1)).unwrap_err().to_string();
    let error = refused(hello(&MADE.hello).file("usr/lib/sysimage/rpm/rpmdb.sqlite-wal", "pending"));
    assert_eq!(error, "usr/lib/sysimage/rpm/rpmdb.sqlite-wal: 7 bytes of changes are not in the rpm database yet");
    let error = refused(hello(&MADE.hello).file("var/lib/rpm/rpmdb.sqlite", &MADE.base));
    assert!(error.contains("a second rpm database"), "{error}");
    let error = refused(hello(b"SQLite format 3\0 and nothing else"));
    assert!(error.starts_with("usr/lib/sysimage/rpm/rpmdb.sqlite: "), "{error}");
}

/// The stand-in for an rpm distribution: Debian, with rpm as the package manager of the layer.
#[test]
fn both_databases_in_one_image_count_as_owners() {
    let status = "Package: rpm\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4.18\n";
    let with_dpkg = base().file("var/lib/dpkg/status", status).file("var/lib/dpkg/info/rpm.list", "/.\n/usr/bin/rpm\n/usr/lib/rpm/x\n");
    let top = hello(&MADE.hello).file("usr/lib/rpm/x", "left out of the base\n");
    let report = audit(&image(&[with_dpkg.done(), top.done()]), Base::Layers(1)).unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
    let packages: Vec<_> = report.layers[0].packages.iter().map(|p| (p.name.as_str(), p.format)).collect();
    assert_eq!(packages, [("hello", Format::Rpm), ("rpm", Format::Deb)]);
    assert_eq!((report.layers[0].formats.as_slice(), report.packages_installed, report.packages_added), (&[Format::Rpm][..], 4, 1));
}

#[test]
fn a_package_that_came_and_went_is_named() {
    let layers = [base().done(), hello(&MADE.hello).done(), Tar::new().file(DATABASE, &MADE.base).done()];
    let report = audit(&image(&layers), Base::Layers(1)).unwrap();
    let found: Vec<String> = report.residue().map(|r| format!("{:?} {} {} {}", r.layer, r.at, r.rule, r.reason)).collect();
    assert!(found[1].starts_with("Some(2) /usr/bin/hello package-gone belongs to hello, which is no longer"), "{found:?}");
    assert_eq!(found.len(), 4, "{found:?}");
}

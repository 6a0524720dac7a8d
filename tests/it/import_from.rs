//! `import-from`: repositories that the programs of others made, by reprepro, aptly, apt-ftparchive and createrepo_c, from folders and
//! over HTTP; then read from ours by real apt and dnf. And what a hostile server or index may try.

use crate::apt::{Apt, Shop};
use crate::support::{Done, Helper, Serving, Used, run, skipped, tool, uses, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use twostage_model::Sha256;

const USAGE: i32 = 2;
const REPOSITORY: i32 = 5;

/// A key of somebody else, in a home of gpg.
struct Signer(PathBuf);

impl Signer {
    /// The owner of the repositories.
    fn owner() -> &'static Signer {
        static OWNER: OnceLock<Signer> = OnceLock::new();
        OWNER.get_or_init(|| Signer::make("owner"))
    }

    fn make(name: &str) -> Signer {
        // (A socket's path has at most 107 bytes, and gpg's agent has one.)
        let home = tempfile::tempdir().expect("a folder").keep();
        let signer = Signer(home);
        signer.gpg(&["--quick-generate-key", name, "rsa2048", "sign", "never"]);
        fs::write(signer.0.join("key.asc"), signer.gpg(&["--armor", "--export"]).out).expect("a file");
        signer.gpg(&["--output", &signer.path("key.gpg"), "--export"]);
        signer
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn gpg(&self, words: &[&str]) -> Done {
        run(Command::new("gpg").env("GNUPGHOME", &self.0).args(["--batch", "--yes", "--quiet", "--passphrase", ""]).args(words)).ok()
    }

    fn fingerprint(&self) -> String {
        let listed = self.gpg(&["--with-colons", "--list-keys"]).out;
        listed.lines().find_map(|line| line.strip_prefix("fpr:")).expect("a fingerprint").trim_matches(':').to_string()
    }
}

/// A deb of some bytes, by dpkg-deb.
pub fn deb(folder: &Path, name: &str, version: &str, arch: &str) -> PathBuf {
    let tree = folder.join(format!("tree-{name}-{arch}"));
    fs::create_dir_all(tree.join("DEBIAN")).expect("a folder");
    fs::create_dir_all(tree.join("usr/share").join(name)).expect("a folder");
    fs::write(tree.join("usr/share").join(name).join("content"), format!("{name} {version} {arch}\n").repeat(500)).expect("a file");
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {arch}\nSection: misc\nPriority: optional\nMaintainer: T <t@example.invalid>\n\
         Description: a test\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).expect("a file");
    let file = folder.join(format!("{name}_{}_{arch}.deb", version.replace(':', "%3a")));
    tool("dpkg-deb", &["--root-owner-group", "--build", &tree.to_string_lossy(), &file.to_string_lossy()]).ok();
    fs::remove_dir_all(tree).expect("a folder");
    file
}

/// The debs of these tests: two versions, two architectures, an epoch.
fn debs(folder: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(folder).expect("a folder");
    let all = [
        ("greet-one", "1.0-1", "amd64"),
        ("greet-one", "1.1-1", "amd64"),
        ("greet-two", "2:1.0+x~1", "all"),
        ("greet-three", "3", "arm64"),
    ];
    all.iter().map(|(name, version, arch)| deb(folder, name, version, arch)).collect()
}

const ALL: [&str; 4] = ["greet-one 1.0-1 amd64", "greet-one 1.1-1 amd64", "greet-three 3 arm64", "greet-two 2:1.0+x~1 all"];

/// Whether a program is here; else the test is counted as skipped.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|folder| folder.join(program).is_file()));
    if !found {
        skipped(&format!("there is no {program}"));
    }
    found
}

/// A folder as dists/ and pool/, indexed by apt-ftparchive and signed.
fn archive(folder: &Path, signer: &Signer, more: &str) {
    debs(&folder.join("pool/main/g"));
    index(folder, signer, more);
}

/// Writes indexes and Release of an archive anew.
fn index(folder: &Path, signer: &Signer, more: &str) {
    for arch in ["amd64", "arm64"] {
        let indexes = folder.join("dists/stable/main").join(format!("binary-{arch}"));
        fs::create_dir_all(&indexes).expect("a folder");
        let done = run(Command::new("apt-ftparchive").args(["--arch", arch, "packages", "pool"]).current_dir(folder)).ok();
        fs::write(indexes.join("Packages"), done.out).expect("a file");
    }
    release(folder, signer, more);
}

fn release(folder: &Path, signer: &Signer, more: &str) {
    for arch in ["amd64", "arm64"] {
        let packages = folder.join("dists/stable/main").join(format!("binary-{arch}/Packages"));
        tool("xz", &["--keep", "--force", &packages.to_string_lossy()]).ok();
    }
    let dist = folder.join("dists/stable");
    for name in ["Release", "InRelease", "Release.gpg"] {
        let _ = fs::remove_file(dist.join(name));
    }
    let option = |name: &str, value: &str| format!("APT::FTPArchive::Release::{name}={value}");
    let mut ftparchive = Command::new("apt-ftparchive");
    for (name, value) in [("Suite", "stable"), ("Codename", "demo"), ("Components", "main"), ("Architectures", "amd64 arm64")] {
        ftparchive.args(["-o", &option(name, value)]);
    }
    let text = run(ftparchive.args(["release", "dists/stable"]).current_dir(folder)).ok().out;
    fs::write(dist.join("Release"), text.replacen('\n', &format!("\n{more}"), 1)).expect("a file");
    sign(&dist, signer);
}

fn sign(dist: &Path, signer: &Signer) {
    let at = |name: &str| dist.join(name).display().to_string();
    signer.gpg(&["--digest-algo", "SHA512", "--clear-sign", "--output", &at("InRelease"), &at("Release")]);
    signer.gpg(&["--digest-algo", "SHA512", "--armor", "--detach-sign", "--output", &at("Release.gpg"), &at("Release")]);
}

fn import(shop: &Shop, words: &[&str]) -> Done {
    run(shop.command(&["import-from"]).args(words))
}

/// What is in the channel.
fn listed(shop: &Shop) -> Vec<String> {
    let done = run(&mut shop.command(&["--json", "list"])).ok();
    let value: serde_json::Value = serde_json::from_str(done.last_line()).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let packages = value["packages"].as_array().expect("a list").iter();
    packages.map(|one| format!("{} {} {}", text(&one["name"]), text(&one["version"]), text(&one["arch"]))).collect()
}

/// How many files the pool has.
fn pooled(shop: &Shop) -> usize {
    let folders = fs::read_dir(shop.path().join(".twostage/repository/pool")).into_iter().flatten().flatten();
    folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).map(Iterator::count).sum()
}

/// Real apt reads the channel, and downloads each package as it was.
fn read_by_apt(shop: &Shop, originals: &Path) {
    uses(Used::Apt);
    let serving = Serving::of(shop.path());
    let apt = Apt::new(&serving.address, &["amd64".into(), "arm64".into()]);
    apt.run("apt-get", &["update"]).ok();
    let words: Vec<String> = listed(shop)
        .iter()
        .map(|line| {
            let [name, version, arch] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            if arch == "arm64" { format!("{name}:arm64={version}") } else { format!("{name}={version}") }
        })
        .collect();
    for word in &words {
        apt.run("apt-get", &["download", word]).ok();
    }
    let digests = |folder: &Path| -> BTreeSet<Sha256> {
        let files = fs::read_dir(folder).expect("a folder").flatten().filter(|entry| entry.path().is_file());
        files.map(|entry| Sha256::of(&fs::read(entry.path()).expect("a file"))).collect()
    };
    let got = digests(&apt.path("got"));
    assert_eq!(got.len(), words.len());
    assert!(got.is_subset(&digests(originals)), "every byte is as it was");
}

#[test]
fn a_folder_of_debs_is_imported_and_read_by_apt() {
    let shop = Shop::new("from-folder");
    let folder = tempfile::tempdir().expect("a folder");
    let originals = folder.path().join("a/b/c");
    debs(&originals);
    let source = folder.path().to_string_lossy().into_owned();
    std::os::unix::fs::symlink("/etc", folder.path().join("out")).expect("a link");
    let dry = import(&shop, &[&source, "--dry-run"]).ok().ends_with("nothing was changed").says("1 link");
    assert!(dry.out.contains("greet-two 2:1.0+x~1 all\n"), "{}", dry.out);
    assert_eq!(listed(&shop), [""; 0]);
    import(&shop, &[&source, "--name", "greet-one", "--newest", "1", "--channel", "testing"]).ok().ends_with("published");
    assert_eq!(listed(&shop), ["greet-one 1.1-1 amd64"]);
    import(&shop, &[&source, "--arch", "arm64"]).ok().ends_with("published");
    let done = import(&shop, &["--json", &source]).ok();
    let value: serde_json::Value = serde_json::from_str(done.last_line()).expect("JSON");
    assert_eq!((&value["packages"], &value["fetched"]), (&serde_json::json!(4), &serde_json::json!(1)), "the rest was there: {value}");
    assert_eq!(listed(&shop), ALL);
    import(&shop, &[&source]).ok().ends_with("unchanged");
    read_by_apt(&shop, &originals);

    import(&shop, &["nowhere"]).fails_with(USAGE).says("there is no folder nowhere");
    import(&shop, &[&source, "--name", "gret-one"]).fails_with(REPOSITORY).says("the source has no package gret-one").says("greet-one");
    // One that is refused ends it, unless it may be left out.
    fs::write(folder.path().join("bad.deb"), "no package").expect("a file");
    import(&shop, &[&source]).fails_with(REPOSITORY).says("bad.deb is not imported").says("--skip-refused");
    import(&shop, &[&source, "--skip-refused"]).ok().says("bad.deb is left out");
}

#[test]
fn what_reprepro_made_is_imported_and_read_by_apt() {
    if !has("reprepro") {
        return;
    }
    let (shop, owner) = (Shop::new("from-reprepro"), Signer::owner());
    let folder = tempfile::tempdir().expect("a folder");
    let originals = folder.path().join("debs");
    let files = debs(&originals);
    let base = folder.path().join("repository");
    fs::create_dir_all(base.join("conf")).expect("a folder");
    let distribution = |codename: &str, suite: &str| {
        format!("Codename: {codename}\nSuite: {suite}\nArchitectures: amd64 arm64\nComponents: main\nSignWith: {}\n\n", owner.fingerprint())
    };
    fs::write(base.join("conf/distributions"), distribution("demo", "stable") + &distribution("other", "testing")).expect("a file");
    let reprepro = |words: &[&str]| run(Command::new("reprepro").env("GNUPGHOME", &owner.0).arg("-b").arg(&base).args(words)).ok();
    // (It keeps one version in each suite.)
    for (suite, file) in [("demo", 1), ("demo", 2), ("demo", 3), ("other", 0)] {
        reprepro(&["includedeb", suite, &files[file].to_string_lossy()]);
    }
    // The suites are links to the codenames.
    reprepro(&["createsymlinks"]);
    let (source, key) = (base.to_string_lossy().into_owned(), owner.path("key.asc"));

    // One suite, by its signed index.
    let done = import(&shop, &[&format!("file://{source}"), "--suite", "stable", "--keyring", &key]).ok().ends_with("published");
    assert!(done.out.contains(&format!("signed by {}", owner.fingerprint())), "{}", done.out);
    assert_eq!(listed(&shop), ALL[1..]);
    // All that is in its pool, as files.
    import(&shop, &[&format!("{source}/pool")]).ok().ends_with("published");
    assert_eq!(listed(&shop), ALL);
    import(&shop, &[&source]).ok().says("is an apt repository").ends_with("unchanged");
    import(&shop, &[&source, "--suite", "stable", "--suite", "testing"]).ok().ends_with("unchanged");
    read_by_apt(&shop, &originals);
    let _ = run(Command::new("gpgconf").env("GNUPGHOME", &owner.0).args(["--kill", "all"]));
}

#[test]
fn what_aptly_made_is_imported_and_read_by_apt() {
    if !has("aptly") {
        return;
    }
    let shop = Shop::new("from-aptly");
    let folder = tempfile::tempdir().expect("a folder");
    let (originals, root) = (folder.path().join("debs"), folder.path().join("aptly"));
    debs(&originals);
    source_package(&originals);
    let configuration = folder.path().join("aptly.conf");
    fs::write(&configuration, serde_json::json!({ "rootDir": root, "gpgDisableSign": true, "gpgDisableVerify": true }).to_string())
        .expect("a file");
    let aptly = |words: &[&str]| run(Command::new("aptly").arg(format!("-config={}", configuration.display())).args(words)).ok();
    aptly(&["repo", "create", "-distribution=demo", "-component=main", "demo"]);
    aptly(&["repo", "add", "demo", &originals.to_string_lossy()]);
    aptly(&["publish", "repo", "-skip-signing", "demo"]);
    // Its pool, whose folders are digests.
    import(&shop, &[&root.join("pool").to_string_lossy()]).ok().ends_with("published");
    let mut all: Vec<String> = ALL.iter().map(ToString::to_string).collect();
    all.push("greet-source 1.0 source".into());
    all.sort();
    assert_eq!(listed(&shop), all);
    // What it published, by its index, which nobody signed.
    let published = Shop::new("from-aptly-published");
    import(&published, &[&root.join("public").to_string_lossy(), "--suite", "demo"]).ok().ends_with("published");
    assert_eq!(listed(&published), ALL);
    read_by_apt(&published, &originals);
}

/// A source package of two files, by hand.
fn source_package(folder: &Path) {
    let tree = folder.join("greet-source-1.0");
    fs::create_dir_all(&tree).expect("a folder");
    fs::write(tree.join("content"), "a source\n").expect("a file");
    let tar = folder.join("greet-source_1.0.tar.xz");
    run(Command::new("tar").args(["-cJf"]).arg(&tar).args(["-C", &folder.to_string_lossy(), "greet-source-1.0"])).ok();
    fs::remove_dir_all(tree).expect("a folder");
    let bytes = fs::read(&tar).expect("a file");
    let digest = |program: &str| tool(program, &[&tar.to_string_lossy()]).ok().out.split(' ').next().unwrap_or_default().to_string();
    let line = |program: &str| format!(" {} {} greet-source_1.0.tar.xz\n", digest(program), bytes.len());
    let dsc = format!(
        "Format: 3.0 (native)\nSource: greet-source\nBinary: greet-source\nArchitecture: all\nVersion: 1.0\nMaintainer: T <t@example.invalid>\n\
         Checksums-Sha1:\n{}Checksums-Sha256:\n{}Files:\n{}",
        line("sha1sum"),
        line("sha256sum"),
        line("md5sum")
    );
    fs::write(folder.join("greet-source_1.0.dsc"), dsc).expect("a file");
}

/// A web server of a folder, with faults: see the script.
fn server(folder: &Path) -> Helper {
    let script = crate::support::root().join("tests/tools/faulty_repository.py");
    Helper::start(Command::new("python3").arg(script).arg(folder))
}

/// Packages that were asked for so far.
fn asked(server: &Helper) -> Vec<String> {
    let text = String::from_utf8(crate::support::http_get(&server.line, "/asked")).expect("text");
    text.lines().filter(|line| line.ends_with(".deb") || line.ends_with(".rpm")).map(String::from).collect()
}

#[test]
fn an_apt_repository_on_a_server_is_imported_by_its_signature_only() {
    let owner = Signer::owner();
    let folder = tempfile::tempdir().expect("a folder");
    archive(folder.path(), owner, "");
    let server = server(folder.path());
    let url = |how: &str| format!("http://{}/{how}", server.line);
    let (key, plain) = (owner.path("key.gpg"), url("plain"));

    let shop = Shop::new("from-server");
    let suite = ["--suite", "stable"];
    let words = |source: &str, more: &[&str]| [&[source], &suite[..], more].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    let import = |source: &str, more: &[&str]| run(shop.command(&["import-from"]).args(words(source, more)));
    import(&plain, &["--dry-run", "--keyring", &key]).ok().ends_with("nothing was changed");
    assert_eq!(asked(&server), [""; 0], "no package was fetched");
    let digest = Sha256::of(&fs::read(folder.path().join("dists/stable/Release")).expect("a file")).to_string();
    import(&plain, &[]).fails_with(USAGE).says("who vouches for").says("--keyring FILE").says(&format!("--unsigned {digest}"));
    import(&plain, &["--keyring", &key, "--component", "man"]).fails_with(USAGE).says("has no component man").says("main");
    import(&plain, &["--keyring", &key, "--arch", "arm64"]).ok().ends_with("published");
    assert_eq!(listed(&shop), [ALL[2], ALL[3]]);
    import(&plain, &["--keyring", &key]).ok().says("2 packages to take in").ends_with("published");
    import(&plain, &["--keyring", &key]).ok().ends_with("unchanged");
    assert_eq!(asked(&server).len(), 4, "each came once: {:?}", asked(&server));
    assert_eq!(listed(&shop), ALL);
    read_by_apt(&shop, &folder.path().join("pool/main/g"));

    // The signature beside it, and the digest that a person says.
    fs::rename(folder.path().join("dists/stable/InRelease"), folder.path().join("aside")).expect("a file");
    import(&plain, &["--keyring", &key]).ok().ends_with("unchanged");
    import(&plain, &["--unsigned", &digest]).ok().ends_with("unchanged");
    import(&plain, &["--unsigned", &Sha256::of(b"").to_string()]).fails_with(REPOSITORY).says(&format!("it has the digest {digest}"));
    // Another key, another signature, none, and one over something else.
    let stranger = Signer::make("stranger");
    import(&plain, &["--keyring", &stranger.path("key.asc")])
        .fails_with(REPOSITORY)
        .says("nobody who is trusted signed")
        .says("trusted is");
    fs::rename(folder.path().join("dists/stable/Release.gpg"), folder.path().join("gpg")).expect("a file");
    import(&plain, &["--keyring", &key]).fails_with(REPOSITORY).says("neither InRelease nor Release.gpg");
    sign(&folder.path().join("dists/stable"), &stranger);
    import(&plain, &["--keyring", &key]).fails_with(REPOSITORY).says("nobody who is trusted signed");
    let good = fs::read_to_string(folder.path().join("aside")).expect("a file");
    for (from, to) in [("Suite: stable", "Suite: stablE"), ("-----BEGIN PGP SIGNED", "Suite: evil\n-----BEGIN PGP SIGNED")] {
        fs::write(folder.path().join("dists/stable/InRelease"), good.replacen(from, to, 1)).expect("a file");
        import(&plain, &["--keyring", &key]).fails_with(REPOSITORY).says("nobody who is trusted signed");
    }
    // An old state that its owner wants nobody to use any more.
    index(folder.path(), owner, "Valid-Until: Sat, 03 Jan 2026 04:05:06 UTC\n");
    import(&plain, &["--keyring", &key]).fails_with(REPOSITORY).says("was good until Sat, 03 Jan 2026");
    let _ = run(Command::new("gpgconf").env("GNUPGHOME", &stranger.0).args(["--kill", "all"]));
}

#[test]
fn a_server_that_fails_or_lies_is_found_out() {
    let owner = Signer::owner();
    let folder = tempfile::tempdir().expect("a folder");
    archive(folder.path(), owner, "");
    let server = server(folder.path());
    let key = owner.path("key.asc");
    let import = |shop: &Shop, how: &str| import(shop, &[&format!("http://{}/{how}", server.line), "--suite", "stable", "--keyring", &key]);
    for how in ["cut", "busy", "moved"] {
        let shop = Shop::new("from-failing");
        import(&shop, how).ok().ends_with("published");
        assert_eq!(listed(&shop), ALL, "{how}");
    }
    let shop = Shop::new("from-lying");
    import(&shop, "long").fails_with(REPOSITORY).says("it has more than");
    import(&shop, "metadata").fails_with(REPOSITORY).says("is not followed").says("nearer to this machine");
    import(&shop, "out").fails_with(REPOSITORY).says("is no address of a web server");
    import(&shop, "loop").fails_with(REPOSITORY).says("there are more than 10 of them");
    import(&shop, "plain/nowhere").fails_with(REPOSITORY).says("has no dists/stable/InRelease");

    // A package that is another than the signed index says, of the same size.
    let path = folder.path().join("pool/main/g/greet-one_1.1-1_amd64.deb");
    let mut bytes = fs::read(&path).expect("a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("a file");
    import(&shop, "plain").fails_with(REPOSITORY).says("greet-one 1.1-1 amd64 is not the file that the index lists");
    fs::remove_file(&path).expect("a file");
    import(&shop, "plain").fails_with(REPOSITORY).says("greet-one_1.1-1_amd64.deb is not there");
    assert_eq!(listed(&shop), [""; 0], "nothing was published");
}

#[test]
fn an_index_that_lies_is_refused() {
    let owner = Signer::owner();
    let folder = tempfile::tempdir().expect("a folder");
    archive(folder.path(), owner, "");
    let (source, key) = (format!("file://{}", folder.path().display()), owner.path("key.asc"));
    let shop = Shop::new("from-hostile");
    let import = || import(&shop, &[&source, "--suite", "stable", "--arch", "amd64", "--keyring", &key]);
    let packages = folder.path().join("dists/stable/main/binary-amd64/Packages");
    let good = fs::read_to_string(&packages).expect("a file");
    let set = |text: &str| {
        fs::write(&packages, text).expect("a file");
        release(folder.path(), owner, "");
    };
    let without = |field: &str| good.lines().filter(|line| !line.starts_with(field)).map(|line| format!("{line}\n")).collect::<String>();
    let one = "pool/main/g/greet-one_1.0-1_amd64.deb";
    for (text, why) in [
        (good.replace(one, "../../../../etc/passwd"), "leads out of the repository"),
        (good.replace(one, "/etc/passwd"), "absolute path"),
        (good.replace(one, "http://127.0.0.1/x.deb"), "on another server"),
        (without("SHA256:"), "has no SHA256: MD5 and SHA-1 can be forged"),
        (good.replace("Version: 1.0-1", "Version: 9.9-9"), "the index lists it by another name or version"),
        (good.replace("Size: ", "Size: 1"), "is not the file that the index lists"),
    ] {
        set(&text);
        import().fails_with(REPOSITORY).says(why);
    }
    // A link in the repository that leads out of it.
    set(&good);
    let link = folder.path().join(one);
    fs::rename(&link, folder.path().join("outside.deb")).expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", &link).expect("a link");
    import().fails_with(REPOSITORY).says("no link leads out of it");
    fs::remove_file(&link).expect("a file");
    fs::rename(folder.path().join("outside.deb"), &link).expect("a file");
    // An index that is another than the Release says, and one that unpacks to more than anybody has.
    let packed = packages.with_extension("xz");
    tool("sh", &["-c", &format!("head -c 100000000 /dev/zero | xz -0 > {}", packed.display())]).ok();
    import().fails_with(REPOSITORY).says("binary-amd64/Packages.xz of the source has more than");
    let dist = folder.path().join("dists/stable");
    let text = fs::read_to_string(dist.join("Release")).expect("a file");
    let bytes = fs::read(&packed).expect("a file");
    let bomb = format!(" {} {} main/binary-amd64/Packages.xz", Sha256::of(&bytes), bytes.len());
    let (mut is_sha256, mut lines) = (false, String::new());
    for line in text.lines() {
        is_sha256 = if line.starts_with(' ') { is_sha256 } else { line == "SHA256:" };
        lines += &format!("{}\n", if is_sha256 && line.ends_with("amd64/Packages.xz") { bomb.as_str() } else { line });
    }
    fs::write(dist.join("Release"), lines).expect("a file");
    sign(&dist, owner);
    import().fails_with(REPOSITORY).says("a paragraph of 1 MiB, which no client reads");
    // Digests that can be forged.
    let weak: String = text.replace("SHA256:", "X-Weak-1:").replace("SHA512:", "X-Weak-2:");
    fs::write(dist.join("Release"), weak).expect("a file");
    sign(&dist, owner);
    import().fails_with(REPOSITORY).says("it has no SHA-256 of its files, and only SHA1 and MD5Sum of them");
    assert_eq!(listed(&shop), [""; 0]);
}

#[test]
fn a_killed_import_goes_on_where_it_stopped() {
    let owner = Signer::owner();
    let folder = tempfile::tempdir().expect("a folder");
    archive(folder.path(), owner, "");
    let server = server(folder.path());
    let (shop, key) = (Shop::new("from-killed"), owner.path("key.asc"));
    let words = |how: &str| [format!("http://{}/{how}", server.line), "--suite".into(), "stable".into(), "--keyring".into(), key.clone()];
    let mut child =
        shop.command(&["import-from"]).args(words("hang3")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    wait_until("the server was asked for the fourth package", || asked(&server).len() == 4);
    // (One is fetched while the one before it is taken in.)
    wait_until("three packages are in the pool", || pooled(&shop) == 3);
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    let before = asked(&server).len();
    import(&shop, &words("plain").iter().map(String::as_str).collect::<Vec<_>>()).ok().says("1 package to take in").ends_with("published");
    assert_eq!(asked(&server).len() - before, 1, "{:?}", asked(&server));
    assert_eq!(listed(&shop), ALL);
    run(&mut shop.command(&["fsck"])).ok();
}

/// An rpm by rpmbuild.
pub fn rpm(folder: &Path, name: &str, version: &str) -> PathBuf {
    let spec = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: a test\nLicense: MIT\nBuildArch: noarch\n%description\nA test.\n\
         %install\nmkdir -p %{{buildroot}}/usr/share/{name}\necho '{version}' > %{{buildroot}}/usr/share/{name}/content\n%files\n/usr/share/{name}\n"
    );
    fs::create_dir_all(folder).expect("a folder");
    let top = tempfile::tempdir().expect("a folder");
    fs::write(top.path().join("demo.spec"), spec).expect("a file");
    let define = |name: &str, value: &Path| ["--define".to_string(), format!("{name} {}", value.display())];
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.arg("-bb").args(define("_topdir", top.path())).args(define("_rpmdir", folder));
    run(rpmbuild.args(["--define", "_rpmfilename %%{NAME}-%%{VERSION}.rpm"]).arg(top.path().join("demo.spec"))).ok();
    folder.join(format!("{name}-{version}.rpm"))
}

#[test]
fn what_createrepo_c_made_is_imported_and_read_by_dnf() {
    if ["createrepo_c", "rpmbuild"].iter().any(|program| !has(program)) {
        return;
    }
    let owner = Signer::owner();
    let folder = tempfile::tempdir().expect("a folder");
    let packages = folder.path().join("Packages/g");
    for (name, version) in [("greet-one", "1.0"), ("greet-one", "1.1"), ("greet-two+x", "1.0~1")] {
        rpm(&packages, name, version);
    }
    tool("createrepo_c", &["--quiet", &folder.path().to_string_lossy()]).ok();
    let repomd = folder.path().join("repodata/repomd.xml");
    let all = ["greet-one 1.0-1 noarch", "greet-one 1.1-1 noarch", "greet-two+x 1.0~1-1 noarch"];

    // From the folder: nobody has to vouch for it.
    let shop = Shop::new("from-createrepo");
    import(&shop, &[&folder.path().to_string_lossy(), "--newest", "1"]).ok().ends_with("published");
    assert_eq!(listed(&shop), all[1..]);
    // From the server: unsigned, pinned, signed.
    let server = server(folder.path());
    let (plain, key) = (format!("http://{}/plain", server.line), owner.path("key.asc"));
    let digest = Sha256::of(&fs::read(&repomd).expect("a file")).to_string();
    import(&shop, &[&plain]).fails_with(USAGE).says("who vouches for").says(&format!("--unsigned {digest}"));
    import(&shop, &[&plain, "--keyring", &key]).fails_with(REPOSITORY).says("there is no repodata/repomd.xml.asc").says(&digest);
    import(&shop, &[&plain, "--unsigned", &digest]).ok().says("1 package to take in").ends_with("published");
    assert_eq!(listed(&shop), all);
    owner.gpg(&["--armor", "--detach-sign", &repomd.to_string_lossy()]);
    import(&shop, &[&plain, "--keyring", &key]).ok().ends_with("unchanged");
    assert_eq!(asked(&server).len(), 1, "{:?}", asked(&server));
    let signed = Shop::new("from-createrepo-signed");
    import(&signed, &[&format!("http://{}/moved", server.line), "--keyring", &key, "--name", "greet-t*"]).ok().ends_with("published");
    assert_eq!(listed(&signed), all[2..]);
    // What was withdrawn is left out, also an rpm, of which the index has another digest than the pool.
    let without = Shop::new("from-createrepo-withdrawn");
    import(&without, &[&plain, "--keyring", &key]).ok().ends_with("published");
    run(&mut without.command(&["withdraw", "greet-two+x", "--reason", "a licence", "--yes"])).ok();
    for source in [&[plain.as_str(), "--keyring", &key][..], &[&folder.path().to_string_lossy()]] {
        import(&without, source).ok().says("is left out").says("was withdrawn").ends_with("unchanged");
        assert_eq!(listed(&without), all[..2]);
    }
    fs::write(&repomd, fs::read_to_string(&repomd).expect("a file").replace("<revision>", "<revision>1")).expect("a file");
    import(&shop, &[&plain, "--keyring", &key]).fails_with(REPOSITORY).says("nobody who is trusted signed repodata/repomd.xml");
    read_by_dnf(&shop, &all);
}

fn read_by_dnf(shop: &Shop, all: &[&str]) {
    if has("dnf") {
        let serving = Serving::of(shop.path());
        dnf_lists(&serving.get("/main.repo"), all);
    }
}

/// Real dnf of this machine, in folders of its own, lists what a client file leads to. Returns its command line.
pub fn dnf_lists(client_file: &[u8], all: &[&str]) -> (tempfile::TempDir, Command) {
    uses(Used::Dnf);
    let home = tempfile::tempdir().expect("a folder");
    for name in ["repos", "root", "cache", "log", "persist", "got"] {
        fs::create_dir_all(home.path().join(name)).expect("a folder");
    }
    fs::write(home.path().join("repos/main.repo"), client_file).expect("a file");
    fs::write(home.path().join("dnf.conf"), "[main]\n").expect("a file");
    let at = |name: &str| home.path().join(name).display().to_string();
    let mut dnf = Command::new("dnf");
    dnf.args(["--quiet", "--assumeyes", "--releasever=1", "--installroot", &at("root"), "--config", &at("dnf.conf")]);
    for (option, folder) in [("reposdir", "repos"), ("cachedir", "cache"), ("logdir", "log"), ("persistdir", "persist")] {
        dnf.arg(format!("--setopt={option}={}", at(folder)));
    }
    let mut listing = Command::new("dnf");
    listing.args(dnf.get_args());
    let done = run(listing.args(["list", "--showduplicates", "--available"])).ok();
    for package in all {
        let [name, version, arch] = package.split(' ').collect::<Vec<_>>()[..] else { panic!("{package}") };
        let line = |line: &str| line.split_whitespace().take(2).eq([format!("{name}.{arch}").as_str(), version]);
        assert!(done.out.lines().any(line), "{package}: {}", done.out);
    }
    (home, dnf)
}

/// Debian's keys are certified by its people, whose keys nobody has here.
#[test]
fn a_key_that_others_certified_is_taken() {
    let (signer, other) = (Signer::make("certified"), Signer::make("other"));
    for name in ["key.asc", "key.gpg"] {
        let home = tempfile::tempdir().expect("a folder");
        let gpg =
            |words: &[&str]| run(Command::new("gpg").env("GNUPGHOME", home.path()).args(["--batch", "--yes", "--quiet"]).args(words)).ok();
        let secret = home.path().join("secret").display().to_string();
        run(Command::new("gpg").env("GNUPGHOME", &other.0).args(["--batch", "--yes", "--output", &secret, "--export-secret-keys"])).ok();
        gpg(&["--import", &secret]);
        gpg(&["--import", &signer.path("key.asc")]);
        gpg(&["--default-key", &other.fingerprint(), "--quick-sign-key", &signer.fingerprint()]);
        let armor: &[&str] = if name == "key.asc" { &["--armor"] } else { &[] };
        gpg(&[armor, &["--output", &signer.path(name), "--export", &signer.fingerprint()]].concat());
        let _ = run(Command::new("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"]));
    }
    let folder = tempfile::tempdir().expect("a folder");
    archive(folder.path(), &signer, "");
    let source = format!("file://{}", folder.path().display());
    for name in ["key.asc", "key.gpg"] {
        let shop = Shop::new("from-certified");
        import(&shop, &[&source, "--suite", "stable", "--keyring", &signer.path(name), "-n"]).ok().ends_with("nothing was changed");
    }
    for home in [&signer.0, &other.0] {
        let _ = run(Command::new("gpgconf").env("GNUPGHOME", home).args(["--kill", "all"]));
    }
}

/// Every signature by a key of today, and none by what can be forged.
#[test]
fn a_signature_over_sha1_is_none() {
    let owner = Signer::owner();
    let folder = tempfile::tempdir().expect("a folder");
    archive(folder.path(), owner, "");
    let at = |name: &str| folder.path().join("dists/stable").join(name).display().to_string();
    let sha1 = ["--digest-algo", "SHA1", "--allow-weak-digest-algos"];
    owner.gpg(&[&sha1[..], &["--clear-sign", "--output", &at("InRelease"), &at("Release")]].concat());
    let shop = Shop::new("from-sha1");
    let source = format!("file://{}", folder.path().display());
    import(&shop, &[&source, "--suite", "stable", "--keyring", &owner.path("key.asc")])
        .fails_with(REPOSITORY)
        .says("nobody who is trusted signed");
}

//! `export --plain`: a channel as plain files, served by Python's web server, read by real apt and dnf.

use crate::apt::{Apt, Shop};
use crate::import_from::{deb, dnf_lists, has, rpm};
use crate::support::{Done, Helper, Used, run, tool, uses};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const USAGE: i32 = 2;

/// A web server that knows nothing of packages, and the folder that it serves, which is not there yet.
struct Web {
    _server: Helper,
    address: String,
    folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl Web {
    fn new() -> Web {
        let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let folder = parent.path().join("www");
        let mut python = Command::new("python3");
        python.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(&folder);
        let server = Helper::start(python.stderr(std::process::Stdio::null()));
        let port = server.line.split_whitespace().skip_while(|word| *word != "port").nth(1).expect("a port");
        let address = format!("127.0.0.1:{port}");
        Web { _server: server, address, folder, _parent: parent }
    }

    fn export(&self, shop: &Shop, more: &[&str]) -> Done {
        let (folder, url) = (self.folder.display().to_string(), format!("http://{}", self.address));
        run(shop.command(&["export", "--plain", &folder, "--url", &url]).args(more))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).expect("a file")
    }

    fn files(&self) -> BTreeSet<String> {
        let found = tool("find", &[&self.folder.to_string_lossy(), "-type", "f", "-printf", "%P\\n"]).ok().out;
        found.lines().map(String::from).collect()
    }
}

fn publish(shop: &Shop, file: &Path) {
    run(&mut shop.command(&["publish", &file.to_string_lossy()])).ok();
}

fn quiet(done: Done) -> Done {
    let done = done.ok();
    for line in done.err.lines().chain(done.out.lines()) {
        assert!(!line.starts_with("W:") && !line.starts_with("E:"), "{line}\n{}{}", done.out, done.err);
    }
    done
}

#[test]
fn apt_and_dnf_install_from_plain_files() {
    uses(Used::Apt);
    let (shop, web, made) = (Shop::new("plain"), Web::new(), tempfile::tempdir().expect("a folder"));
    for (name, version) in [("greet-one", "1.0-1"), ("greet-two", "2:1.0+x~1")] {
        publish(&shop, &deb(made.path(), name, version, "all"));
    }
    let with_rpms = has("rpmbuild") && has("dnf");
    if with_rpms {
        publish(&shop, &rpm(made.path(), "greet-three", "1.0"));
    }
    let told = web.export(&shop, &[]).ok();
    assert!(told.out.contains(" files written ("), "{}", told.out);

    let apt = Apt::new(&web.address, &["amd64".into()]);
    quiet(apt.run("apt-get", &["update"]));
    quiet(apt.run("apt-get", &["download", "greet-one", "greet-two"]));
    let got =
        |name: &str| fs::read_dir(apt.path("got")).expect("a folder").any(|e| e.expect("one").file_name().to_string_lossy().contains(name));
    assert!(got("greet-one") && got("greet-two"));
    if with_rpms {
        let (home, dnf) = dnf_lists(&web.read("main.repo"), &["greet-three 1.0-1 noarch"]);
        let mut install = Command::new("dnf");
        run(install.args(dnf.get_args()).args(["install", "greet-three"])).ok();
        let content = home.path().join("root/usr/share/greet-three/content");
        assert_eq!(fs::read_to_string(content).expect("it is installed"), "1.0\n");
    }

    // Every file that apt's index names is there with its digest, without by-hash and packings, too.
    let packages = String::from_utf8(web.read("dists/twostage/main/binary-amd64/Packages")).expect("text");
    let names: Vec<&str> = packages.lines().filter_map(|line| line.strip_prefix("Filename: ")).collect();
    assert_eq!(names.len(), 2, "{packages}");
    for name in names {
        let digest = twostage_model::Sha256::of(&web.read(name)).to_string();
        assert!(packages.contains(&format!("\nSHA256: {digest}\n")) && name.contains(&digest), "{name}");
    }

    // Nothing new: nothing is written. Nobody sees what is not whole.
    let before = web.files();
    assert!(web.export(&shop, &["--remove-after", "60"]).ok().out.contains("nothing to write"), "the second time");
    assert_eq!(web.files(), before);
    assert!(before.iter().all(|name| !name.contains("unfinished")), "{before:?}");
    run(&mut shop.command(&["fsck"])).ok();
}

#[test]
fn a_client_that_reads_while_an_export_is_brought_up_to_date_never_fails() {
    uses(Used::Apt);
    let (shop, web, made) = (Shop::new("plain-live"), Web::new(), tempfile::tempdir().expect("a folder"));
    publish(&shop, &deb(made.path(), "greet-one", "1.0-1", "all"));
    web.export(&shop, &[]).ok();
    let (ended, clients) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let apt = Apt::new(&web.address, &["amd64".into()]);
                quiet(apt.run("apt-get", &["update"]));
                quiet(apt.run("apt-get", &["download", "greet-one"]));
                clients.fetch_add(1, Ordering::SeqCst);
            }
        });
        for version in 2..8 {
            publish(&shop, &deb(made.path(), "greet-one", &format!("{version}.0-1"), "all"));
            web.export(&shop, &["--remove-after", "60"]).ok();
        }
        let least = clients.load(Ordering::SeqCst) + 1;
        while !reader.is_finished() && clients.load(Ordering::SeqCst) <= least {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        ended.store(true, Ordering::SeqCst);
        reader.join().expect("no client failed");
    });
}

#[test]
fn what_nothing_names_any_more_goes_when_it_is_asked_for() {
    let (shop, web, made) = (Shop::new("plain-remove"), Web::new(), tempfile::tempdir().expect("a folder"));
    let debs = ["one", "two", "three"].map(|name| deb(made.path(), &format!("greet-{name}"), "1.0-1", "all"));
    debs.iter().for_each(|file| publish(&shop, file));
    web.export(&shop, &[]).ok();
    let pool = || web.files().into_iter().filter(|name| name.ends_with(".deb")).count();
    let by_hash = || web.files().into_iter().filter(|name| name.contains("/by-hash/")).count();
    let of_one = by_hash();

    // Without the flag all stays, and that is told. With it, what a client may be in the middle of stays.
    run(&mut shop.command(&["remove", "greet-one"])).ok();
    web.export(&shop, &[]).ok().says("files of earlier exports are still there");
    assert_eq!((pool(), by_hash()), (3, 2 * of_one));
    web.export(&shop, &["--remove-after", "60"]).ok();
    assert_eq!((pool(), by_hash()), (3, 2 * of_one));
    // An hour later.
    let noted = web.folder.join("twostage-export.unnamed");
    let text = String::from_utf8(web.read("twostage-export.unnamed")).expect("text");
    let hour_ago = |line: &str| line.split_once(' ').map(|(at, path)| format!("{} {path}\n", at.parse::<i64>().expect("a number") - 3600));
    fs::write(&noted, text.lines().filter_map(hour_ago).collect::<String>()).expect("a file");
    run(&mut shop.command(&["remove", "greet-two"])).ok();
    assert!(web.export(&shop, &["--remove-after", "60"]).ok().out.contains(" removed"));
    assert_eq!((pool(), by_hash()), (2, 2 * of_one), "what the last export named is there");

    // What was withdrawn does not stay for anybody.
    run(&mut shop.command(&["withdraw", "greet-two", "--reason", "a licence", "--yes"])).ok();
    web.export(&shop, &["--remove-after", "60"]).ok();
    assert_eq!((pool(), by_hash()), (1, 2 * of_one));
    web.export(&shop, &["--remove-after", "0"]).ok();
    assert_eq!((pool(), by_hash()), (1, of_one));

    // What is not an export's own is left alone; a link is not followed.
    fs::write(web.folder.join("index.html"), "<!doctype html>").expect("a file");
    let elsewhere = made.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    fs::write(elsewhere.join("theirs"), "").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, web.folder.join("pool/link")).expect("a link");
    web.export(&shop, &["--remove-after", "0"]).ok();
    assert!(web.files().contains("index.html") && elsewhere.join("theirs").exists() && !web.folder.join("pool/link").exists());
    fs::rename(web.folder.join("dists"), made.path().join("dists")).expect("moved");
    std::os::unix::fs::symlink(made.path().join("dists"), web.folder.join("dists")).expect("a link");
    web.export(&shop, &[]).fails_with(USAGE).says("is not a folder but a link");
}

#[test]
fn a_folder_of_somebody_else_is_not_written_to() {
    let (shop, web, made) = (Shop::new("plain-foreign"), Web::new(), tempfile::tempdir().expect("a folder"));
    publish(&shop, &deb(made.path(), "greet-one", "1.0-1", "all"));
    let folder = web.folder.display().to_string();
    run(&mut shop.command(&["export", "--plain", &folder])).fails_with(USAGE).says("--url");
    run(&mut shop.command(&["export", "--plain", &folder, "--url", "http://u:p@a.example/"])).fails_with(USAGE).says("everybody reads it");
    run(&mut shop.command(&["export", "--url", "http://a.example/", "x.tar"])).fails_with(USAGE);
    web.export(&shop, &["--channel", "other"]).fails_with(5).says("there is no channel other");
    assert!(!web.folder.exists(), "nothing was begun");

    fs::create_dir(&web.folder).expect("a folder");
    fs::write(web.folder.join("index.html"), "").expect("a file");
    web.export(&shop, &[]).fails_with(3).says("index.html").says("name a folder that is not there");
    assert_eq!(web.files().len(), 1);
    let repository = shop.path().join(".twostage/repository").display().to_string();
    run(&mut shop.command(&["export", "--plain", &repository, "--url", "http://a.example/"])).fails_with(3);

    // An empty one is as good as none, and so is one whose export was ended. A snapshot goes, too.
    fs::remove_file(web.folder.join("index.html")).expect("a file");
    web.export(&shop, &[]).ok();
    fs::create_dir(web.folder.join(".twostage-unfinished")).expect("a folder");
    fs::write(web.folder.join(".twostage-unfinished/0"), "half").expect("a file");
    let snapshot = String::from_utf8(run(&mut shop.command(&["channel"])).ok().out.into_bytes()).expect("text");
    let snapshot = snapshot.split_whitespace().find(|word| word.starts_with('@')).expect("a snapshot").to_string();
    web.export(&shop, &["--channel", &snapshot]).ok();
    assert!(web.folder.join("snapshot.sources").exists() && !web.folder.join(".twostage-unfinished").exists());
}

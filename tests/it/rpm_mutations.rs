//! Thousands of rpms that are wrong in some way, given to `publish`.

use crate::apt::Shop;
use crate::mutants;
use crate::support::{Done, Serving, Used, http_get, run, step, tool, uses};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A package is refused with its file and the reason, and then nothing in the repository has
/// changed; or it is published, and then real dnf lists it and real rpm reads it and takes our
/// signature. (`tests/tools/mutate_rpms.py` says what the mutants are.)
#[test]
fn a_mutated_rpm_is_refused_with_its_reason_or_readable_to_dnf() {
    uses(Used::Dnf);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mutants = mutants::make("mutate_rpms.py", folder.path(), 2000 / step(4), "1");
    let parts = mutants::publish_each(&mutants);
    let survivors: Vec<&PathBuf> = parts.iter().flat_map(|(_, part)| part.taken.iter().map(|(path, _)| path)).collect();
    let ids: BTreeSet<String> =
        parts.iter().flat_map(|(_, part)| &part.taken).map(|(_, id)| format!("{} {} {}", id.name, id.version, id.arch)).collect();
    assert_eq!(ids.len(), survivors.len(), "two survivors have one name");

    // All in one repository, which one dnf reads.
    let shop = Shop::new("survivors");
    run(shop.command(&["publish"]).args(&survivors)).ok();
    let serving = Serving::of(shop.path());
    let dnf = Dnf::new(&serving.address);
    dnf.run(&["makecache"]).ok();
    let format = "%{name} %{evr} %{arch}";
    let listed = dnf.run(&["--quiet", "repoquery", "--available", "--showduplicates", "--qf", format]).ok().out;
    let listed: BTreeSet<String> = listed.lines().map(str::to_string).collect();
    // It lists only what this machine could install, and sources when it is asked for them.
    let installable = |id: &&String| ["noarch", "x86_64", "i686"].iter().any(|arch| id.ends_with(&format!(" {arch}")));
    let missing: Vec<&String> = ids.iter().filter(installable).filter(|id| !listed.contains(*id)).collect();
    assert!(missing.is_empty(), "dnf does not list {missing:?}");
    let unknown: Vec<&String> = listed.iter().filter(|id| !ids.contains(*id)).collect();
    assert!(unknown.is_empty(), "dnf lists {unknown:?}, which nobody published");

    // Each list is XML of as many packages. (dnf itself reads the last one of these never.)
    for kind in ["primary", "filelists", "other"] {
        let file = shop.path().join(kind);
        fs::write(&file, metadata(&serving, kind)).expect("a file");
        let script = "import sys, xml.etree.ElementTree as E; print(len(E.parse(sys.argv[1]).getroot()))";
        let count = tool("python3", &["-c", script, &file.to_string_lossy()]).ok().out;
        assert_eq!(count.trim(), ids.len().to_string(), "{kind}");
    }
    let primary = metadata(&serving, "primary");
    let hrefs: Vec<&str> = primary.split("<location href=\"").skip(1).map(|rest| rest.split('"').next().expect("an end")).collect();
    assert_eq!(hrefs.len(), ids.len());
    let key = shop.path().join("key.asc");
    fs::write(&key, serving.get("/key.asc")).expect("a file");
    let database = shop.path().join("rpm");
    tool("rpmkeys", &["--dbpath", &database.to_string_lossy(), "--import", &key.to_string_lossy()]).ok();
    let mut wrong = String::new();
    for href in &hrefs {
        let got = shop.path().join("got.rpm");
        fs::write(&got, serving.get(&format!("/main/{}", href.replace("&amp;", "&")))).expect("a file");
        for command in [["rpmkeys", "-K"], ["rpm", "-qpl"]] {
            let done = tool(command[0], &["--dbpath", &database.to_string_lossy(), command[1], &got.to_string_lossy()]);
            if done.status != 0 {
                write!(wrong, "{href}: {}: {}{}", command.join(" "), done.out, done.err).expect("text");
            }
        }
    }
    eprintln!("dnf lists {} of {} survivors, rpm takes all", listed.len(), ids.len());
    assert!(wrong.is_empty(), "{wrong}");
}

/// One of the metadata's lists, unpacked.
pub fn metadata(serving: &Serving, kind: &str) -> String {
    let repomd = String::from_utf8(serving.get("/main/repodata/repomd.xml")).expect("text");
    let href = repomd.split("href=\"").find(|rest| rest.contains(&format!("-{kind}.xml.gz"))).expect("the list");
    let href = href.split('"').next().expect("an end");
    let folder = tempfile::tempdir().expect("a folder");
    let packed = folder.path().join("packed");
    fs::write(&packed, serving.get(&format!("/main/{href}"))).expect("a file");
    run(Command::new("gzip").arg("-dc").stdin(fs::File::open(&packed).expect("the file"))).ok().out
}

/// Real dnf that knows one client file and nothing of this machine.
struct Dnf(tempfile::TempDir);

impl Dnf {
    fn new(server: &str) -> Dnf {
        let dnf = Dnf(tempfile::tempdir().expect("a folder"));
        for folder in ["repos", "root", "vars", "log"] {
            fs::create_dir(dnf.path(folder)).expect("a folder");
        }
        fs::write(dnf.path("dnf.conf"), "[main]\n").expect("a file");
        fs::write(dnf.path("repos/main.repo"), http_get(server, "/main.repo")).expect("a file");
        dnf
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new("dnf");
        let at = |folder: &str| self.path(folder).display().to_string();
        command.args(["--assumeyes", "--releasever=1", "--forcearch=x86_64", "--installroot", &at("root"), "-c", &at("dnf.conf")]);
        for (option, folder) in
            [("reposdir", "repos"), ("cachedir", "cache"), ("logdir", "log"), ("persistdir", "persist"), ("varsdir", "vars")]
        {
            command.arg(format!("--setopt={option}={}", at(folder)));
        }
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        run(command.args(arguments).env("HOME", self.0.path()).env("LC_ALL", "C"))
    }
}

#[test]
fn one_bad_rpm_among_good_ones_publishes_none() {
    mutants::one_bad_among_good_ones("mutate_rpms.py", "rpm");
}

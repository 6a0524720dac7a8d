//! More than 300 debs with one oddity each: what dpkg, apt and we say of each of them, and what becomes of a channel
//! that has all that we take.

use crate::apt::{Apt, Shop};
use crate::support::{Serving, Used, root, run, tool, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use twostage_model::Error;
use twostage_reposerver::{Repository, Settings};

/// The table of meant disagreements.
const TABLE: &str = "docs/odd-packages.md";

/// What is said of one deb. A judge says `takes`, `warns` or `refuses`.
#[derive(Debug)]
struct Judged {
    what: String,
    dpkg: String,
    apt: String,
    ours: &'static str,
    /// The reason of whoever refuses it or warns.
    why: String,
}

impl Judged {
    /// Whether all three take it, or none does.
    fn agreed(&self) -> bool {
        let refuses = [self.dpkg.as_str(), &self.apt, self.ours].map(|verdict| verdict == "refuses");
        let warns = [self.dpkg.as_str(), &self.apt, self.ours].contains(&"warns");
        refuses.iter().all(|refused| *refused) || !refuses.contains(&true) && !warns
    }

    fn verdicts(&self) -> String {
        format!("{} | {} | {} | {}", self.what, self.dpkg, self.apt, self.ours)
    }
}

/// The debs, and what the generator calls them.
fn generated(folder: &Path) -> BTreeMap<String, String> {
    let script = root().join("tests/tools/odd_debs.py");
    let said = tool("python3", &[&script.to_string_lossy(), &folder.to_string_lossy()]).ok().out;
    said.lines().filter_map(|line| line.split_once('\t')).map(|(case, what)| (case.to_string(), what.to_string())).collect()
}

/// All that an error says.
fn sentence(error: &Error) -> String {
    std::iter::once(error.what().to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

#[test]
fn each_odd_deb_is_judged_by_dpkg_apt_and_us_and_every_disagreement_is_in_the_table() {
    uses(Used::Apt);
    let folder = tempfile::Builder::new().prefix("odd-debs").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let debs = folder.path().join("debs");
    let cases = generated(&debs);
    assert!(cases.len() >= 130, "{} cases", cases.len());

    let judge = root().join("tests/tools/judge_debs.py");
    let judged = tool("python3", &[&judge.to_string_lossy(), &debs.to_string_lossy()]).ok().out;
    let repository = Repository::open(&folder.path().join("repository"), Settings::new("odd")).expect("a repository");
    let mut all = BTreeMap::new();
    for line in judged.lines() {
        let [case, dpkg, apt, dpkg_why, apt_why] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let (ours, our_why) = match repository.ingest_file(&debs.join(format!("{case}.deb"))) {
            Ok(package) if package.notes.is_empty() => ("takes", String::new()),
            Ok(package) => ("warns", package.notes.join("; ")),
            Err(error) => ("refuses", sentence(&error)),
        };
        let why = [("dpkg", dpkg_why), ("apt", apt_why), ("twostage", &our_why)];
        let why = why.iter().filter(|(_, why)| !why.is_empty()).map(|(who, why)| format!("{who}: {why}")).collect::<Vec<_>>().join("; ");
        all.insert(case.to_string(), Judged { what: cases[case].clone(), dpkg: dpkg.into(), apt: apt.into(), ours, why });
    }
    assert_eq!(all.len(), cases.len(), "every deb is judged");

    // A client's refusal is ours, and what makes a client warn is at least told to whoever publishes it.
    let mut wrong = Vec::new();
    for (case, judged) in &all {
        let clients = [judged.dpkg.as_str(), &judged.apt];
        let folder_only = judged.ours == "warns" && judged.dpkg == "refuses" && judged.why.contains("has no entry for the folder");
        let is_kept_out = judged.ours == "refuses";
        if clients.contains(&"refuses") && !is_kept_out && !folder_only {
            wrong.push(format!("{case} is published: {judged:?}"));
        }
        if judged.apt == "warns" && !is_kept_out || judged.dpkg == "warns" && judged.ours == "takes" {
            wrong.push(format!("{case} makes clients warn: {judged:?}"));
        }
    }
    assert!(wrong.is_empty() || std::env::var_os("TWOSTAGE_ODD_TABLE").is_some(), "{}", wrong.join("\n"));

    let table = fs::read_to_string(root().join(TABLE)).unwrap_or_default();
    let rows: BTreeMap<&str, Vec<&str>> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
        .map(|(case, rest)| (case, rest.split(" | ").collect()))
        .collect();
    for (case, judged) in all.iter().filter(|(_, judged)| !judged.agreed()) {
        let good =
            rows.get(case.as_str()).is_some_and(|row| row.len() == 5 && row[..4].join(" | ") == judged.verdicts() && !row[4].is_empty());
        if !good {
            wrong.push(format!("| `{case}` | {} | {} |", judged.verdicts(), judged.why.replace('|', "\\|")));
        }
    }
    let agreed =
        rows.keys().filter(|case| all.get(**case).is_none_or(Judged::agreed)).map(|case| format!("no disagreement any more: {case}"));
    wrong.extend(agreed);
    assert!(wrong.is_empty(), "{TABLE} is to have these rows:\n{}", wrong.join("\n"));
    let counts = ["takes", "warns", "refuses"].map(|verdict| all.values().filter(|judged| judged.ours == verdict).count());
    eprintln!(
        "{} debs: {} taken, {} with a note, {} refused; {} disagreements, each in the table",
        all.len(),
        counts[0],
        counts[1],
        counts[2],
        rows.len()
    );

    // All that were taken, in one channel, by the folder that they are in.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).expect("a folder");
    for (case, _) in all.iter().filter(|(_, judged)| judged.ours != "refuses") {
        fs::hard_link(debs.join(format!("{case}.deb")), taken.join(format!("{case}.deb"))).expect("a link");
    }
    let shop = Shop::new("odd");
    let published = run(shop.command(&["publish"]).arg(&taken)).ok().out;
    let names: BTreeSet<String> =
        published.lines().filter_map(|line| line.strip_suffix(" all")?.split_once(' ')).map(|(name, _)| name.into()).collect();
    assert_eq!(published.lines().count(), counts[0] + counts[1] + 1, "each package, and the channel: {published}");
    clients_read(&shop, names);
}

/// Updates without a word, knows all packages but the installer's, and fetches each of them.
fn clients_read(shop: &Shop, mut names: BTreeSet<String>) {
    assert!(names.remove("odd-type-udeb"));
    let serving = Serving::of(shop.path());
    let apt = Apt::new(&serving.address, &["amd64".into()]);
    assert_eq!(apt.run("apt-get", &["update"]).ok().err, "", "apt has nothing to say");
    let known = apt.run("apt-cache", &["pkgnames"]).ok();
    assert_eq!(known.err, "");
    assert_eq!(known.out.lines().map(String::from).collect::<BTreeSet<_>>(), names);
    let mut arguments = vec!["download"];
    arguments.extend(names.iter().map(String::as_str));
    assert_eq!(apt.run("apt-get", &arguments).ok().err, "");
    assert_eq!(fs::read_dir(apt.path("got")).expect("a folder").count(), names.len());
}

/// apt takes the largest stanza that we take, and one more KiB in any other package's is no loss to it.
#[test]
fn the_limit_of_a_stanza_is_apts() {
    uses(Used::Apt);
    let shop = Shop::new("stanza");
    let folder = shop.path().join("packages");
    let deb = |name: &str, description: usize| {
        let tree = folder.join(name);
        fs::create_dir_all(tree.join("DEBIAN")).expect("a folder");
        let fixed = format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: x\n");
        let line = format!(" {}\n", "x".repeat(78));
        let text = format!("{fixed}{}", line.repeat((description - fixed.len()) / line.len()));
        fs::write(tree.join("DEBIAN/control"), text).expect("a file");
        let file = folder.join(format!("{name}.deb"));
        tool("dpkg-deb", &["--root-owner-group", "--build", &tree.to_string_lossy(), &file.to_string_lossy()]).ok();
        file
    };
    let limit = twostage_package::deb::MAX_STANZA;
    let (small, largest, larger) = (deb("small", 500), deb("largest", limit), deb("larger", limit + 100));
    run(shop.command(&["publish"]).args([&small, &largest])).ok();
    let refused = run(shop.command(&["publish"]).arg(&larger)).fails_with(5);
    refused.says("larger.deb is refused").says("apt reads paragraphs below 1 MiB");
    let serving = Serving::of(shop.path());
    let apt = Apt::new(&serving.address, &["amd64".into()]);
    assert_eq!(apt.run("apt-get", &["update"]).ok().err, "");
    assert_eq!(apt.run("apt-cache", &["pkgnames"]).ok().out.lines().count(), 2);
}

/// Beside `main/debian-installer`, which apt reads when it is asked to.
#[test]
fn the_installers_packages_are_where_the_installer_looks() {
    uses(Used::Apt);
    let shop = Shop::new("udeb");
    let debs = shop.path().join("debs");
    generated(&debs);
    run(shop.command(&["publish"]).args([debs.join("type-udeb.deb"), debs.join("plain.deb")])).ok();
    let serving = Serving::of(shop.path());
    let index =
        |folder: &str| String::from_utf8(serving.get(&format!("/main/dists/twostage/main/{folder}binary-amd64/Packages"))).expect("text");
    let (plain, installer) = (index(""), index("debian-installer/"));
    assert!(plain.contains("Package: odd-plain\n") && !plain.contains("udeb"), "{plain}");
    assert!(installer.contains("Package: odd-type-udeb\n") && installer.contains("_1.0-1_all.udeb\n"), "{installer}");
    let apt = Apt::new(&serving.address, &["amd64".into()]);
    let sources = apt.path("sources/main.sources");
    let text = fs::read_to_string(&sources).expect("a client file");
    assert_eq!(apt.run("apt-get", &["update"]).ok().err, "");
    assert_eq!(apt.run("apt-cache", &["pkgnames"]).ok().out, "odd-plain\n");
    fs::write(&sources, text.replace("Components: main\n", "Components: main main/debian-installer\n")).expect("a file");
    assert_eq!(apt.run("apt-get", &["update"]).ok().err, "");
    apt.run("apt-get", &["download", "odd-type-udeb"]).ok();
    assert!(serving.fetched().iter().any(|target| target.ends_with("/odd-type-udeb_1.0-1_all.udeb")));
    assert!(serving.fetched().iter().any(|target| target.contains("/debian-installer/binary-amd64/by-hash/SHA256/")), "by hash, too");
}

/// A source package with its `.changes`, as dpkg-buildpackage leaves them.
struct Upload(tempfile::TempDir);

impl Upload {
    fn new() -> Upload {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let tree = folder.path().join("greet-1.0");
        let file = |name: &str, text: &str| {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        file("content", "hello\n");
        file("debian/source/format", "3.0 (native)\n");
        file(
            "debian/changelog",
            "greet (1.0) bookworm; urgency=medium\n\n  * First.\n\n -- T <t@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n",
        );
        file(
            "debian/control",
            "Source: greet\nSection: misc\nPriority: optional\nMaintainer: T <t@example.org>\nStandards-Version: 4.6.2\nRules-Requires-Root: no\n\n\
             Package: greet\nArchitecture: all\nDescription: one file\n Made for a test.\n",
        );
        file(
            "debian/rules",
            "#!/usr/bin/make -f\nclean build build-arch build-indep binary-arch:\nbinary: binary-indep\nbinary-indep:\n\
             \tmkdir -p debian/tmp/DEBIAN debian/tmp/usr/share/greet\n\tcp content debian/tmp/usr/share/greet/content\n\
             \tdpkg-gencontrol\n\tdpkg-deb --root-owner-group --build debian/tmp ..\n",
        );
        fs::set_permissions(tree.join("debian/rules"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        run(std::process::Command::new("dpkg-buildpackage").args(["-us", "-uc", "-d"]).current_dir(&tree)).ok();
        fs::remove_dir_all(tree).expect("the tree goes");
        Upload(folder)
    }

    fn file(&self, ending: &str) -> PathBuf {
        let found = fs::read_dir(self.0.path()).expect("a folder").flatten().map(|entry| entry.path());
        found.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).unwrap_or_else(|| panic!("no {ending}"))
    }
}

#[test]
fn a_changes_or_a_folder_publishes_what_it_names_and_apt_gets_the_sources() {
    uses(Used::Apt);
    let upload = Upload::new();
    for argument in [upload.file(".changes"), upload.0.path().to_path_buf()] {
        let shop = Shop::new("upload");
        let done = run(shop.command(&["publish"]).arg(&argument)).ok();
        assert!(done.out.contains("greet 1.0 all\n") && done.out.contains("greet 1.0 source\n"), "{}", done.out);
        assert_eq!(done.out.lines().count(), 3, "each once, although folder and .changes both name it: {}", done.out);
        let serving = Serving::of(shop.path());
        let client_file = String::from_utf8(serving.get("/main.sources")).expect("text");
        assert!(client_file.starts_with("Types: deb deb-src\n"), "{client_file}");
        let apt = Apt::new(&serving.address, &["amd64".into()]);
        assert_eq!(apt.run("apt-get", &["update"]).ok().err, "");
        apt.run("apt-get", &["source", "--download-only", "greet"]).ok();
        assert!(apt.path("got/greet_1.0.dsc").is_file() && apt.path("got/greet_1.0.tar.xz").is_file());
    }
}

#[test]
fn an_upload_that_is_not_what_it_says_publishes_nothing() {
    let good = Upload::new();
    let shop = Shop::new("hostile-upload");
    let publish = |path: &Path| run(shop.command(&["publish"]).arg(path));
    type Edit<'a> = &'a dyn Fn(String) -> String;
    let cases: [(&str, &str, &str, Edit<'_>); 6] = [
        ("a changed package", ".deb", "has the digest", &|text| text),
        ("a changed record of the build", ".buildinfo", "has the digest", &|text| text),
        ("a file that is not there", ".tar.xz", "there is no such file beside it", &|text| text),
        ("a path", ".changes", "is not a plain file name", &|text| text.replace(" greet_1.0.dsc", " ../greet_1.0.dsc")),
        ("an absolute path", ".changes", "is not a plain file name", &|text| text.replace(" greet_1.0.dsc", " /etc/passwd")),
        ("no list of digests", ".changes", "has no field Checksums-Sha256", &|text| text.replace("Checksums-Sha256:", "X-Odd:")),
    ];
    for (what, ending, reason, change) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        tool("cp", &["-a", &format!("{}/.", good.0.path().display()), &folder.path().to_string_lossy()]).ok();
        let here = Upload(folder);
        let file = here.file(ending);
        match ending {
            ".tar.xz" => fs::remove_file(&file).expect("it goes"),
            ".changes" => fs::write(&file, change(fs::read_to_string(&file).expect("text"))).expect("a file"),
            // As long as it was, and for a package as good as it was.
            ".deb" => {
                let mut bytes = fs::read(&file).expect("a file");
                let date = bytes.iter().skip(24).position(|byte| *byte == b' ').expect("a blank") + 23;
                bytes[date] = if bytes[date] == b'1' { b'2' } else { b'1' };
                fs::write(&file, bytes).expect("a file");
            }
            _ => {
                let mut bytes = fs::read(&file).expect("a file");
                bytes[0] ^= 1;
                fs::write(&file, bytes).expect("a file");
            }
        }
        for argument in [here.file(".changes"), here.0.path().to_path_buf()] {
            let refused = publish(&argument).fails_with(5);
            assert!(refused.err.contains(reason), "{what}: {}", refused.err);
            assert!(!shop.path().join(".twostage/repository/channels/main.json").exists(), "{what}: nothing is published");
        }
    }
    let empty = tempfile::tempdir().expect("a folder");
    publish(empty.path()).fails_with(5).says("there is nothing to publish in");
    std::os::unix::fs::symlink(good.0.path(), empty.path().join("elsewhere")).expect("a link");
    publish(empty.path()).fails_with(5).says("there is nothing to publish in");
}

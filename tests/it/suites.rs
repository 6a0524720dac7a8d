//! Several suites in one repository: two projects publish one name and version with two contents, and real apt finds both.

use crate::apt::{Apt, Shop};
use crate::import_from::{deb, dnf_lists, has, rpm};
use crate::support::{Done, Serving, Used, run, uses};
use std::fs;
use std::path::Path;
use std::process::Command;

const PROJECT: i32 = 3;
const REPOSITORY: i32 = 5;

/// Projects with one repository, that of the first.
struct Team {
    bookworm: Shop,
    trixie: Shop,
}

impl Team {
    fn new(test: &str) -> Team {
        let team = Team { bookworm: Shop::new(test), trixie: Shop::new(test) };
        for (shop, suite) in [(&team.bookworm, "bookworm"), (&team.trixie, "trixie")] {
            let project = shop.path().join("twostage.toml");
            let text = fs::read_to_string(&project).expect("a project file");
            fs::write(&project, format!("{text}[repository]\nchannel = \"{suite}\"\nsuite = \"{suite}\"\n")).expect("a project file");
        }
        team
    }

    fn run(&self, shop: &Shop, words: &[&str]) -> Done {
        let repository = self.bookworm.path().join(".twostage/repository");
        run(shop.command(words).arg("--repository").arg(repository))
    }

    fn publish(&self, shop: &Shop, file: &Path) -> Done {
        self.run(shop, &["publish", &file.to_string_lossy()])
    }
}

/// A deb whose content depends on where it was built.
fn built(folder: &Path, on: &str, version: &str) -> std::path::PathBuf {
    let folder = folder.join(on);
    fs::create_dir_all(&folder).expect("a folder");
    let file = deb(&folder, "greet", version, "all");
    // dpkg-deb dates its members by the clock; another compression is another content on any day.
    let tree = folder.join("tree");
    let (file, tree) = (file.display().to_string(), tree.display().to_string());
    run(Command::new("dpkg-deb").args(["-R", &file, &tree])).ok();
    fs::write(format!("{tree}/usr/share/greet/built-on"), on).expect("a file");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build", &tree, &file])).ok();
    fs::remove_dir_all(&tree).expect("a folder");
    file.into()
}

#[test]
fn one_name_and_version_has_one_content_in_each_suite() {
    uses(Used::Apt);
    let (team, made) = (Team::new("suites"), tempfile::tempdir().expect("a folder"));
    let (old, new) = (built(made.path(), "bookworm", "1.0-1"), built(made.path(), "trixie", "1.0-1"));
    team.publish(&team.bookworm, &old).ok();
    team.publish(&team.trixie, &new).ok();

    // Within a suite nothing has changed: in any of its channels.
    team.publish(&team.bookworm, &new).fails_with(REPOSITORY).says("was published before in the suite bookworm with other content");
    let testing = ["publish", &new.to_string_lossy(), "--channel", "bookworm-testing"];
    team.run(&team.bookworm, &testing).fails_with(REPOSITORY).says("in the suite bookworm");
    // A channel is for one suite.
    let wrong = ["publish", &new.to_string_lossy(), "--channel", "bookworm"];
    team.run(&team.trixie, &wrong)
        .fails_with(PROJECT)
        .says("channel bookworm is for the suite bookworm")
        .says("set `suite = \"bookworm\"`");
    assert!(team.run(&team.trixie, &["channel", "trixie"]).ok().out.contains("of the suite trixie"));

    // Real apt finds each, by URLs that never change.
    let serving = Serving::of(team.bookworm.path());
    let read = |channel: &str| {
        let apt = Apt::of(&serving.get(&format!("/{channel}.sources")), &["amd64".into()]);
        apt.run("apt-get", &["update"]).ok();
        apt.run("apt-get", &["download", "greet"]).ok();
        fs::read(apt.path("got/greet_1.0-1_all.deb")).expect("it is downloaded")
    };
    assert!(read("bookworm") == fs::read(&old).expect("a file") && read("trixie") == fs::read(&new).expect("a file"));

    // A list of names that is lost is made anew for each suite; fsck, gc and the next publish agree.
    let repository = team.bookworm.path().join(".twostage/repository");
    for lost in ["names", "names.sum"] {
        fs::remove_file(repository.join(lost)).expect("a file");
        let next = built(made.path(), "trixie", if lost == "names" { "1.1-1" } else { "1.2-1" });
        team.publish(&team.trixie, &next).ok();
        team.publish(&team.bookworm, &new).fails_with(REPOSITORY).says("in the suite bookworm");
        team.run(&team.bookworm, &["fsck"]).ok();
    }
    team.run(&team.bookworm, &["gc", "--yes"]).ok();
    let again = built(made.path(), "elsewhere", "1.0-1");
    team.publish(&team.trixie, &again).fails_with(REPOSITORY).says("in the suite trixie");
    fs::remove_file(repository.join("channels/trixie.json")).expect("a file");
    team.run(&team.bookworm, &["channel", "trixie", "--repair"]).ok();
    team.publish(&team.trixie, &again).fails_with(REPOSITORY).says("in the suite trixie");
}

#[test]
fn an_export_takes_each_channel_to_its_suite() {
    uses(Used::Apt);
    let (team, made) = (Team::new("suites-export"), tempfile::tempdir().expect("a folder"));
    for (shop, suite) in [(&team.bookworm, "bookworm"), (&team.trixie, "trixie")] {
        team.publish(shop, &built(made.path(), suite, "1.0-1")).ok();
    }
    let archive = made.path().join("all.tar");
    team.run(&team.bookworm, &["export", &archive.to_string_lossy()]).ok();

    // A project of no suite takes them in: the archive says which is for which.
    let elsewhere = Shop::new("suites-import");
    run(&mut elsewhere.command(&["import", &archive.to_string_lossy()])).ok();
    for suite in ["bookworm", "trixie"] {
        assert!(run(&mut elsewhere.command(&["channel", suite])).ok().out.contains(&format!("of the suite {suite}")), "{suite}");
    }
    let another = built(made.path(), "elsewhere", "1.0-1");
    run(&mut elsewhere.command(&["publish", &another.to_string_lossy()])).ok();

    // A channel of that name that is for another suite stays as it is.
    let taken = Shop::new("suites-taken");
    run(&mut taken.command(&["publish", &another.to_string_lossy(), "--channel", "trixie"])).ok();
    run(&mut taken.command(&["import", &archive.to_string_lossy()]))
        .fails_with(REPOSITORY)
        .says("channel trixie is for the suite trixie in")
        .says("and for no suite here");
}

#[test]
fn rpms_and_channels_without_a_suite_are_as_they_were() {
    let (team, made) = (Team::new("suites-rpm"), tempfile::tempdir().expect("a folder"));
    let plain = Shop::new("suites-none");
    let deb = built(made.path(), "nowhere", "1.0-1");
    team.publish(&plain, &deb).ok();
    team.publish(&team.bookworm, &built(made.path(), "bookworm", "1.0-1")).ok();
    team.publish(&plain, &built(made.path(), "again", "1.0-1")).fails_with(REPOSITORY).says("was published before with other content");
    team.run(&plain, &["publish", &deb.to_string_lossy(), "--channel", "bookworm"])
        .fails_with(PROJECT)
        .says("this project is for no suite");
    let listed = team.run(&plain, &["channel", "main"]).ok().out;
    assert!(!listed.contains("suite"), "{listed}");
    if !has("rpmbuild") || !has("dnf") {
        return;
    }
    for (shop, suite) in [(&team.bookworm, "bookworm"), (&team.trixie, "trixie")] {
        team.publish(shop, &rpm(&made.path().join(suite), "greet", "2.0")).ok();
    }
    let serving = Serving::of(team.bookworm.path());
    for suite in ["bookworm", "trixie"] {
        dnf_lists(&serving.get(&format!("/{suite}.repo")), &["greet 2.0-1 noarch"]);
    }
}

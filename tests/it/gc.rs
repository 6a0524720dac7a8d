//! What stays in a repository, what goes, and what must go: by the commands that people have.

use crate::failures::package;
use crate::support::{Done, Family, Project, Serving, tool};
use std::fs;

const VERDICT: i32 = 1;
const USAGE: i32 = 2;
const REPOSITORY: i32 = 5;

/// Whether the result says something.
fn shows(done: &Done, text: &str) {
    assert!(done.out.contains(text), "{text:?} is not in\n{}", done.out);
}

/// Where the deb of a version is.
fn file(project: &Project, version: &str) -> String {
    project.join(&format!("greet-demo-{version}.deb")).to_string_lossy().into_owned()
}

/// A project that has published three versions of a deb, one after the other, and remembers one earlier snapshot.
fn three_versions(test: &str, keep: &str) -> (Project, Vec<String>) {
    let project = Project::example(Family::Deb, test);
    project.edit("twostage.toml", |text| format!("{text}\n[repository]\nkeep = {keep}\n"));
    let versions = ["1.0", "1.1", "1.2"].map(|version| {
        fs::rename(package(Family::Deb, &project, "greet-demo", version, version), file(&project, version)).expect("a file");
        project.run(&["publish", &file(&project, version)]).ok();
        project.snapshot()
    });
    (project, versions.to_vec())
}

#[test]
fn gc_says_what_goes_and_why_the_rest_stays() {
    let (project, ids) = three_versions("gc", "{ snapshots = 1, versions = 1 }");
    let (first, second, third) = (&ids[0], &ids[1], &ids[2]);
    project.run(&["pin", &format!("@{}", &first[..12]), "--reason", "in production"]).ok().ends_with("pinned");
    shows(&project.run(&["pin"]).ok(), "in production");
    let why = project.run(&["gc", "--why"]).ok();
    for (id, reason) in [(first, "pinned: in production"), (second, "history of channel main"), (third, "channel main")] {
        assert!(why.out.lines().any(|line| line.contains(&id[..12]) && line.contains(reason)), "{}", why.out);
    }
    shows(&why, "nothing to free");
    shows(&project.run(&["unpin", &first[..12]]).ok(), "in production");
    let said = project.run(&["gc"]).ok();
    for text in [&format!("waste  snapshot @{}", &first[..12]), "package file greet-demo_1.0_all.deb", "--yes"] {
        shows(&said, text);
    }
    assert!(project.join(&format!(".twostage/repository/snapshots/{first}")).exists(), "it was only said");
    let freed = project.run(&["gc", "--yes", "--json"]).ok();
    assert!(freed.out.contains("\"event\":\"freed\"") && freed.out.contains(first), "{}", freed.out);
    assert!(!project.join(&format!(".twostage/repository/snapshots/{first}")).exists());
    shows(&project.run(&["gc", "--yes"]).ok(), "nothing to free");
    project.run(&["fsck"]).ok().ends_with("whole");
    // The name stays known: other content under it is refused, and the same is taken.
    let other = package(Family::Deb, &project, "greet-demo", "1.0", "other");
    project.run(&["publish", &other]).fails_with(REPOSITORY).says("published before with other content");
    project.run(&["publish", &file(&project, "1.0")]).ok().ends_with("published");
    project.run(&["channel", "main", "--to", &second[..12]]).ok().ends_with("moved");
}

#[test]
fn an_export_pins_what_it_holds() {
    let (project, ids) = three_versions("gc-export", "16");
    project.run(&["export", &project.join("out.tar").to_string_lossy()]).ok().says("stays: channel main was exported to out.tar");
    shows(&project.run(&["pin"]).ok(), &ids[2][..12]);
}

#[test]
fn what_is_withdrawn_is_gone_and_says_why() {
    let (project, ids) = three_versions("withdraw", "16");
    let server = Serving::of(project.path());
    let packages = String::from_utf8(server.get(&format!("/@{}/dists/twostage/main/binary-amd64/Packages", ids[1]))).expect("text");
    let place = packages.lines().filter_map(|line| line.strip_prefix("Filename: ")).find(|line| line.contains("1.1")).expect("a package");
    let words = ["withdraw", "greet-demo=1.1", "--reason", "a key was in it"];
    project.run(&words).fails_with(USAGE).says("--yes");
    project.run(&["withdraw", "greet-dem", "--reason", "x", "--yes"]).fails_with(REPOSITORY).says("greet-demo");
    let done = project.run(&[&words[..], &["--yes"]].concat()).ok();
    for text in ["withdrawn: greet-demo_1.1_all.deb", "goes on without", "had it, and says so"] {
        shows(&done, text);
    }
    let url = format!("http://{}/@{}/{place}", server.address, ids[1]);
    let answer = tool("curl", &["--silent", "--noproxy", "*", "--write-out", "HTTP %{http_code} .", &url]).ok().out;
    assert!(answer.contains("HTTP 410 .") && answer.contains("a key was in it"), "{answer}");
    assert!(String::from_utf8_lossy(&server.get(&format!("/@{}/", ids[1]))).contains("is served no more"));
    shows(&project.run(&["channel"]).ok(), "greet-demo_1.1_all.deb was withdrawn: a key was in it");
    project.run(&["channel", "main", "--to", &ids[1][..12]]).fails_with(REPOSITORY).says("a key was in it");
    project.run(&["publish", &file(&project, "1.1")]).fails_with(REPOSITORY).says("a key was in it");
    project.run(&["fsck"]).ok().ends_with("whole");
}

#[test]
fn fsck_finds_mends_and_names() {
    let (project, ids) = three_versions("fsck", "16");
    let sums = project.join(&format!(".twostage/repository/snapshots/{}/SHA256SUMS", ids[2]));
    fs::write(&sums, "").expect("a file");
    shows(&project.run(&["fsck"]).fails_with(VERDICT).says("fsck --repair"), "1 damaged");
    shows(&project.run(&["fsck", "--repair"]).ok(), "1 mended");
    project.run(&["fsck", "main"]).ok().ends_with("whole");
    let shards = fs::read_dir(project.join(".twostage/repository/pool")).expect("a folder").next().expect("one").expect("one");
    let damaged = fs::read_dir(shards.path()).expect("a folder").next().expect("one").expect("one").path();
    fs::write(&damaged, "not it").expect("a file");
    let lost = project.run(&["fsck", "--repair"]).fails_with(REPOSITORY).says("lost").says("twostage publish greet-demo_");
    lost.says("quarantine/1-");
    let again = ["1.0", "1.1", "1.2"].map(|version| file(&project, version));
    let words: Vec<&str> = ["publish"].into_iter().chain(again.iter().map(String::as_str)).collect();
    project.run(&words).ok();
    project.run(&["fsck"]).ok().ends_with("whole");
}

//! The five kinds of base, all of the same root file system: the same digest, the same image.

use crate::support::{Project, Used, docker, run, tool, twostage, uses};
use std::process::Command;

#[test]
fn every_kind_of_base_is_the_same_base() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("bases");
    let lock = project.read("twostage.lock");
    let digest = lock.lines().find_map(|line| line.strip_prefix("digest = ")).expect("a locked base").trim_matches('"').to_string();
    let reference = format!("twostage-base:{}", &digest[..12]);
    project.run(&["runtime"]).ok();
    let first = project.diff_ids();
    assert_eq!(first[0], format!("sha256:{digest}"), "the digest of a base of one layer is that layer's");

    let path = |name: &str| project.join(name).to_string_lossy().into_owned();
    let blob = format!(".twostage/repository/blobs/{}/{digest}", &digest[..2]);
    tool("cp", &[&path(&blob), &path("rootfs.tar")]).ok();
    run(Command::new("gzip").args(["-1", "--keep", &path("rootfs.tar")])).ok();
    docker(&["save", "--output", &path("archive.tar"), &reference]).ok();
    run(Command::new("python3").args([
        &*crate::support::root().join("tests/tools/oci_layout.py").to_string_lossy(),
        &path("archive.tar"),
        &path("layout"),
    ]))
    .ok();

    let original = project.read("twostage.toml");
    for base in [
        "rootfs = \"rootfs.tar\"",
        "rootfs = \"rootfs.tar.gz\"",
        "archive = \"archive.tar\"",
        "layout = \"layout\"",
        &format!("image = \"{reference}\""),
    ] {
        project.write("twostage.toml", &original.replace("bootstrap = \"host\"", base));
        let outcomes = Project::outcomes(&project.run(&["--json", "repo"]).ok());
        assert!(outcomes.values().all(|outcome| outcome == "unchanged"), "{base}: {outcomes:?}");
        project.run(&["runtime"]).ok();
        assert_eq!(project.diff_ids(), first, "{base}");
    }
}

#[test]
fn a_bootstrapped_base_is_without_documentation_and_leaves_later_packages_whole() {
    uses(Used::Engine);
    let project = Project::built_hello("slim");
    let inside = |script: &str| docker(&["run", "--rm", "--network=none", &project.base(), "sh", "-c", script]).ok().out;
    let documents = inside("find /usr/share/doc /usr/share/man /usr/share/locale -type f");
    let (copyright, others): (Vec<&str>, Vec<&str>) = documents.lines().partition(|path| path.ends_with("/copyright"));
    assert_eq!(others, [""; 0], "documentation and translations");
    assert!(copyright.contains(&"/usr/share/doc/libc6/copyright"), "what the licences ask for is there");
    // `usrmerge`, which apt would choose, needs all of perl. (What others only recommend is known to dpkg too.)
    let perl = inside("dpkg-query --show --showformat '${db:Status-Status}' perl 2> /dev/null || :");
    assert!(matches!(&*perl, "" | "not-installed"), "perl is {perl}");
    assert_eq!(inside("cat /etc/dpkg/dpkg.cfg.d/* 2> /dev/null || :"), "", "what is installed later is installed whole");
}

#[test]
fn a_registry_that_does_not_answer_is_said_and_not_swallowed() {
    uses(Used::Engine);
    let folder = tempfile::tempdir().expect("a folder");
    // Nothing listens there.
    let image = "127.0.0.1:9/twostage-test/kept:1";
    let make = |content: &str| {
        std::fs::write(folder.path().join("content"), content).expect("a file");
        let tar = folder.path().join("base.tar").to_string_lossy().into_owned();
        tool("tar", &["-cf", &tar, "-C", &folder.path().to_string_lossy(), "content"]).ok();
        docker(&["import", &tar, image]).ok();
    };
    let project = format!("[project]\nname = \"demo\"\n[base]\nimage = \"{image}\"\n");
    std::fs::write(folder.path().join("twostage.toml"), project).expect("a project file");
    let run = |verb: &str| run(twostage().arg("--project").arg(folder.path()).arg(verb));

    make("first");
    run("update").ok().says("base: note: the engine's own 127.0.0.1:9/twostage-test/kept:1 is kept").says("cannot pull");
    make("second");
    run("lock").fails_with(3).says("is not the base that is locked").says("cannot pull").says("twostage update");
    docker(&["image", "rm", "--force", image]).ok();
}

//! The five kinds of base, all of the same root file system: the same digest, the same image.

use crate::support::{Project, Used, docker, run, tool, uses};
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
        project.write("twostage.toml", &original.replace("bootstrap = \"debian:bookworm\"", base));
        let outcomes = Project::outcomes(&project.run(&["--json", "repo"]).ok());
        assert!(outcomes.values().all(|outcome| outcome == "unchanged"), "{base}: {outcomes:?}");
        project.run(&["runtime"]).ok();
        assert_eq!(project.diff_ids(), first, "{base}");
    }
}

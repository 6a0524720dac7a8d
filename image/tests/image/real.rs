//! A real engine and a real apt: what a naive RUN leaves is named, and nothing else is.
//!
//! Runs with `TWOSTAGE_ENGINE=1` and a base image that has apt in `TWOSTAGE_TEST_BASE`.

use std::io::Write;
use std::process::{Command, Stdio};
use twostage_image::{Base, audit, read_archive, wanted};

const NAME: &str = "imgtest-naive-run";

fn build(base: &str, packages: &str) -> twostage_image::Image {
    let dockerfile = format!("FROM {base}\nRUN apt-get update && apt-get install -y --no-install-recommends {packages}\n");
    let mut docker = Command::new("docker");
    docker.args(["build", "--network=host", "-t", NAME, "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut docker = docker.spawn().unwrap();
    docker.stdin.take().unwrap().write_all(dockerfile.as_bytes()).unwrap();
    assert!(docker.wait().unwrap().success());
    let mut save = Command::new("docker").args(["save", NAME]).stdout(Stdio::piped()).spawn().unwrap();
    let image = read_archive(save.stdout.take().unwrap(), &wanted).unwrap_or_else(|e| panic!("{e} {:?}", e.causes()));
    assert!(save.wait().unwrap().success());
    Command::new("docker").args(["rmi", NAME]).output().unwrap();
    image
}

#[test]
fn residue_of_a_naive_run_is_all_true() {
    if std::env::var_os("TWOSTAGE_ENGINE").is_none() {
        eprintln!("skipped: TWOSTAGE_ENGINE is not set");
        return;
    }
    let base = std::env::var("TWOSTAGE_TEST_BASE").unwrap_or_else(|_| "imgtest-base".into());
    for packages in [
        "hello libglib2.0-0 dbus fontconfig shared-mime-info python3-minimal ca-certificates",
        "libgtk-3-0 librsvg2-common adwaita-icon-theme dconf-gsettings-backend",
    ] {
        let image = build(&base, packages);
        let report = audit(&image, Base::Layers(image.layers.len() - 1)).unwrap();
        let found: std::collections::BTreeSet<&str> = report.residue().map(|r| r.rule).collect();
        for expected in ["package-lists", "package-payload", "apt-cache", "log", "ldconfig-cache", "machine-id", "package-database-backup"]
        {
            assert!(found.contains(expected), "{expected} is not among {found:?}");
        }
        let surprises: Vec<_> = report.residue().filter(|r| matches!(r.rule, "unaccounted" | "base-file-changed" | "whiteout")).collect();
        assert!(surprises.is_empty(), "{surprises:#?}");
    }
}

//! What others' images leave behind: the audit names it, and nothing that packages really need.

use crate::support::{Project, Used, docker, run, twostage, uses};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// An image made the usual way from the project's base, and what `twostage audit` says of it.
fn audit_naive(project: &Project, packages: &str) -> Vec<serde_json::Value> {
    let base = project.base();
    let dockerfile = format!("FROM {base}\nRUN apt-get update && apt-get install -y --no-install-recommends {packages}\n");
    let mut build = Command::new("docker");
    build.args(["build", "--network=host", "--tag", &project.image, "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut build = build.spawn().expect("docker runs");
    build.stdin.take().expect("a pipe").write_all(dockerfile.as_bytes()).expect("docker reads it");
    assert!(build.wait().expect("docker ends").success());

    let done = run(twostage().args(["--json", "audit", "--base-layers", "1", &project.image])).fails_with(1);
    docker(&["image", "rm", &project.image]).ok();
    let report: serde_json::Value = serde_json::from_str(done.out.lines().next().unwrap_or_default()).expect("a report in JSON");
    report["layers"].as_array().expect("layers").iter().flat_map(|layer| layer["residue"].as_array().cloned().unwrap_or_default()).collect()
}

#[test]
fn the_residue_of_a_naive_run_is_named_and_nothing_else_is() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("naive");
    for packages in [
        "hello libglib2.0-0 dbus fontconfig shared-mime-info python3-minimal ca-certificates",
        "libgtk-3-0 librsvg2-common adwaita-icon-theme dconf-gsettings-backend",
    ] {
        let residue = audit_naive(&project, packages);
        let found: BTreeSet<&str> = residue.iter().filter_map(|residue| residue["rule"].as_str()).collect();
        for expected in ["package-lists", "package-payload", "apt-cache", "log", "ldconfig-cache", "machine-id", "package-database-backup"]
        {
            assert!(found.contains(expected), "{expected} is not among {found:?}");
        }
        let unclear = |rule: &str| matches!(rule, "unaccounted" | "base-file-changed" | "package-file-changed" | "whiteout");
        let surprises: Vec<_> = residue.iter().filter(|residue| residue["rule"].as_str().is_some_and(unclear)).collect();
        assert!(surprises.is_empty(), "{surprises:#?}");
    }
}

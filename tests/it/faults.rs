//! The system says no to a command, or it is killed, or the power is cut, at each of its calls on the repository
//! (`tests/tools/faults.py`): the repository is then in the old state or in the new one.

use crate::failures::package;
use crate::support::{Family, Project, long, root, run, step, tell};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Tries a command in copies of a project.
fn faults(kind: &str, project: &Project, step: usize, words: &[&str]) {
    let mut command = Command::new(root().join("tests/tools/faults.py"));
    command.args([kind, env!("CARGO_BIN_EXE_twostage")]).arg(project.path()).arg(step.to_string()).args(words);
    let done = run(command.env("NO_COLOR", "1").process_group(0).stdin(Stdio::null())).ok();
    tell(done.last_line());
}

fn a_publish(kind: &str, step: usize) {
    let project = Project::example(Family::Deb, &format!("faults-{kind}"));
    let packages =
        |version: &str| [Family::Deb, Family::Rpm].map(|family| package(family, &project, &format!("faults{version}"), version, "x"));
    let (first, next) = (packages("1"), packages("2"));
    project.run(&["publish", &first[0], &first[1]]).ok();
    faults(kind, &project, step, &["publish", &next[0], &next[1]]);
}

#[test]
fn a_publish_to_which_the_system_says_no_leaves_the_old_state_or_the_new_one() {
    a_publish("inject", step(29));
}

#[test]
fn a_publish_cut_off_by_a_power_failure_leaves_the_old_state_or_the_new_one() {
    a_publish("cut", step(31));
}

/// A project that has published a deb and an rpm, each in three versions, one after the other, and a deb that stays.
fn published(test: &str, keep: &str) -> Project {
    let project = Project::example(Family::Deb, test);
    project.edit("twostage.toml", |text| format!("{text}\n[repository]\nkeep = {keep}\n"));
    let other = package(Family::Deb, &project, "faults-other", "1.0", "other");
    for version in ["1.0", "1.1", "1.2"] {
        let files = [Family::Deb, Family::Rpm].map(|family| package(family, &project, "faults-demo", version, version));
        project.run(&["publish", &files[0], &files[1], &other]).ok();
    }
    project
}

/// The same, damaged in several ways that can be mended.
fn damaged() -> Project {
    let project = published("faults-fsck", "16");
    project.run(&["pin", "main", "--reason", "in production"]).ok();
    let repository = project.join(".twostage/repository");
    let snapshot = project.snapshot();
    fs::write(repository.join(format!("snapshots/{snapshot}/SHA256SUMS")), "").expect("a file");
    fs::write(repository.join(format!("pins/{snapshot}.json")), "{").expect("a file");
    for lost in ["channels/main.json", "names"] {
        fs::remove_file(repository.join(lost)).expect("a file");
    }
    fs::remove_dir_all(repository.join("catalog")).expect("a folder");
    project
}

/// Tries a command both ways, in the long form only: at how many calls it can be stopped is another number each time.
fn change(project: impl FnOnce() -> Project, words: &[&str]) {
    if !long() {
        return;
    }
    let project = &project();
    faults("inject", project, 1, words);
    faults("cut", project, 1, words);
}

#[test]
fn a_gc_that_is_stopped_anywhere_leaves_all_that_is_needed() {
    change(|| published("faults-gc", "{ snapshots = 1, versions = 1 }"), &["gc", "--yes"]);
}

#[test]
fn a_repair_that_is_stopped_anywhere_loses_nothing() {
    change(damaged, &["fsck", "--repair"]);
}

#[test]
fn a_remove_that_is_stopped_anywhere_leaves_the_old_state_or_the_new_one() {
    change(|| published("faults-remove", "16"), &["remove", "faults-demo=1.0*"]);
}

#[test]
fn a_promote_that_is_stopped_anywhere_leaves_the_old_state_or_the_new_one() {
    change(|| published("faults-promote", "16"), &["promote", "main", "testing"]);
}

#[test]
fn a_rollback_that_is_stopped_anywhere_leaves_the_old_state_or_the_new_one() {
    change(|| published("faults-rollback", "16"), &["rollback"]);
}

#[test]
fn a_withdrawal_that_is_stopped_anywhere_is_finished_by_the_next_one() {
    change(|| published("faults-withdraw", "16"), &["withdraw", "faults-demo", "--reason", "a key was in it", "--yes"]);
}

#[test]
fn a_pin_that_is_stopped_anywhere_leaves_the_old_state_or_the_new_one() {
    change(|| published("faults-pin", "16"), &["pin", "main", "--reason", "in production"]);
}

//! The system says no to a command, or it is killed, or the power is cut, at each of its calls on the repository
//! (`tests/tools/faults.py`): the repository is then in the old state or in the new one.

use crate::failures::package;
use crate::support::{Done, Family, Project, long, root, run, step, tell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tries a command in copies of a project.
fn faults(kind: &str, project: &Project, step: usize, words: &[&str]) -> Done {
    let mut command = Command::new(root().join("tests/tools/faults.py"));
    command.args([kind, env!("CARGO_BIN_EXE_twostage")]).arg(project.path()).arg(step.to_string()).args(words);
    if long() {
        // It takes long: what it finds is seen at once.
        command.stderr(Stdio::inherit());
    }
    let done = run(command.env("NO_COLOR", "1").process_group(0).stdin(Stdio::null()));
    tell(done.last_line());
    done
}

fn a_publish(kind: &str, step: usize) {
    let project = Project::example(Family::Deb, &format!("faults-{kind}"));
    let packages =
        |version: &str| [Family::Deb, Family::Rpm].map(|family| package(family, &project, &format!("faults{version}"), version, "x"));
    let (first, next) = (packages("1"), packages("2"));
    project.run(&["publish", &first[0], &first[1]]).ok();
    faults(kind, &project, step, &["publish", &next[0], &next[1]]).ok();
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
    let both = ["inject", "cut"].map(|kind| faults(kind, project, 1, words));
    both.into_iter().for_each(|done| drop(done.ok()));
}

/// The files below a folder, as they are.
fn files_below(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a kind").is_dir() {
            true => files_below(&entry.path(), found),
            false => drop(found.insert(entry.path(), fs::read(entry.path()).expect("a file"))),
        }
    }
}

#[test]
fn what_the_system_does_not_let_be_read_is_never_taken_for_damage() {
    let project = published("faults-unread", "16");
    project.run(&["pin", "main", "--reason", "in production"]).ok();
    project.run(&["fsck", "--repair"]).ok();
    let repository = project.join(".twostage/repository");
    let mut all = BTreeMap::new();
    files_below(&repository, &mut all);
    // A memory, and locks.
    all.retain(|path, _| !["verified", "lock"].iter().any(|name| path.ends_with(name)) && !path.starts_with(repository.join("tmp")));
    assert!(all.len() > 20, "{}", all.len());
    let (mut cases, mut unread) = (0, 0);
    for (number, (path, _)) in all.iter().enumerate().filter(|(number, _)| number % step(4) == 0) {
        for call in [["openat", "statx"], ["statx", "openat"]][number % 2].into_iter().take(if long() { 2 } else { 1 }) {
            for words in [&["fsck", "--repair"][..], &["gc", "--yes"]] {
                let mut command = Command::new("strace");
                command.args([
                    "-f",
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    &format!("trace={call}"),
                    "-e",
                    &format!("inject={call}:error=EACCES"),
                ]);
                command.arg("-P").arg(path).arg(env!("CARGO_BIN_EXE_twostage")).arg("--project").arg(project.path()).args(words);
                let done = run(command.env("NO_COLOR", "1"));
                let what = format!("{words:?} with EACCES at {call} of {}:\n{}{}", path.display(), done.out, done.err);
                assert!(!done.out.contains("damaged") && !done.out.contains("lost") && !done.out.contains("quarantine"), "{what}");
                let mut after = BTreeMap::new();
                files_below(&repository, &mut after);
                let changed: Vec<_> = all.iter().filter(|(path, bytes)| after.get(*path) != Some(bytes)).map(|(path, _)| path).collect();
                assert!(changed.is_empty(), "{changed:?} changed: {what}");
                let checked = project.run(&["fsck"]);
                assert!(checked.status == 0, "{}{}\n{what}", checked.out, checked.err);
                cases += 1;
                unread += u32::from(done.status != 0);
            }
        }
    }
    assert!(unread > cases / 4, "{unread} of {cases}");
    tell(&format!("{cases} commands that may not read a file, {unread} of which say so"));
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

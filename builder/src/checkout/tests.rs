use super::{Checkout, Command, Path, PathBuf, fs};
use std::os::unix::fs::PermissionsExt as _;

fn committed(folder: &Path, what: &str) -> Option<i64> {
    let scratch = tempfile::tempdir().expect("a folder");
    let found = super::committed(folder, what, scratch.path());
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0, "something is left");
    found
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false", "-c", "protocol.file.allow=always"];
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(who).args(arguments).env("GIT_CONFIG_GLOBAL", "/nowhere/config").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn commit(folder: &Path, time: i64) {
    git(folder, &["add", "--all"]);
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]);
    command.args(["commit", "--quiet", "--message", "x"]).env("GIT_CONFIG_GLOBAL", "/nowhere/config");
    let date = format!("@{time} +0000");
    let done = command.env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date).output().expect("git runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A checkout with two folders, the first committed at 1,600,000,000, the second a thousand seconds later.
fn checkout() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a folder");
    let top = place.path().join("top");
    fs::create_dir_all(top.join("a/sub")).expect("folders");
    git(&top, &["init", "--quiet", "--initial-branch=main"]);
    fs::write(top.join("a/sub/x.c"), "int x;\n").expect("a file");
    fs::write(top.join("a/y.c"), "int y;\n").expect("a file");
    fs::write(top.join(".gitignore"), "*.o\n").expect("a file");
    commit(&top, 1_600_000_000);
    fs::create_dir(top.join("b")).expect("a folder");
    fs::write(top.join("b/z.c"), "int z;\n").expect("a file");
    commit(&top, 1_600_001_000);
    (place, top)
}

const FIRST: Option<i64> = Some(1_600_000_000);
const SECOND: Option<i64> = Some(1_600_001_000);

#[test]
fn a_folder_is_as_old_as_the_last_commit_that_touched_it() {
    let (_place, top) = checkout();
    assert_eq!(committed(&top.join("a"), "."), FIRST);
    assert_eq!(committed(&top.join("b"), "."), SECOND);
    assert_eq!(committed(&top, "."), SECOND);
    assert_eq!(committed(&top.join("a"), "y.c"), FIRST);
    // What is ignored or elsewhere does not count; and a file that was only touched is as committed.
    fs::write(top.join("a/y.o"), "object").expect("a file");
    fs::write(top.join("b/new"), "").expect("a file");
    fs::write(top.join("a/y.c"), "int y;\n").expect("a file");
    assert_eq!(committed(&top.join("a"), "."), FIRST);
    assert_eq!(committed(&top.join("b"), "."), None, "a new file");
    git(&top, &["pack-refs", "--all"]);
    git(&top, &["gc", "--quiet"]);
    assert_eq!(committed(&top.join("a"), "."), FIRST, "packed");
    git(&top, &["checkout", "--quiet", "--detach"]);
    assert_eq!(committed(&top.join("a"), "."), FIRST, "detached");
    git(&top, &["update-index", "--split-index"]);
    assert_eq!(committed(&top.join("a"), "."), FIRST, "an index of two files");
    git(&top, &["update-index", "--index-version", "4", "--no-split-index"]);
    assert_eq!(committed(&top.join("a"), "."), FIRST, "an index of version 4");
    fs::write(top.join("a/y.c"), "int z;\n").expect("a file");
    assert_eq!(committed(&top.join("a"), "."), None, "changed");
    git(&top, &["add", "--all"]);
    assert_eq!(committed(&top.join("a"), "."), None, "staged");
    git(&top, &["reset", "--quiet", "--hard"]);
    assert_eq!(committed(&top.join("a"), "."), FIRST);
    fs::remove_file(top.join("a/y.c")).expect("it goes");
    assert_eq!(committed(&top.join("a"), "."), None, "removed");
    let outside = tempfile::tempdir().expect("a folder");
    assert_eq!(committed(outside.path(), "."), None, "no checkout");
}

#[test]
fn a_name_is_a_name_and_no_pattern_of_gits() {
    let (_place, top) = checkout();
    for name in ["*", ":(top)b", ":!x", "-x", "y.?"] {
        fs::write(top.join("a").join(name), "1").expect("a file");
    }
    commit(&top, 1_600_002_000);
    for name in ["*", ":(top)b", ":!x", "-x", "y.?"] {
        assert_eq!(committed(&top.join("a"), name), Some(1_600_002_000), "{name}");
    }
    assert_eq!(committed(&top.join("a"), "y.c"), FIRST);
}

#[test]
fn worktrees_shared_and_shallow_clones_and_sha256_are_checkouts_too() {
    let (place, top) = checkout();
    git(&top, &["worktree", "add", "--quiet", "../tree", "--detach"]);
    assert_eq!(committed(&place.path().join("tree/a"), "."), FIRST);
    fs::write(place.path().join("tree/a/y.c"), "changed").expect("a file");
    assert_eq!(committed(&place.path().join("tree/a"), "."), None);
    assert_eq!(committed(&top.join("a"), "."), FIRST, "the other one is not changed");
    git(place.path(), &["clone", "--quiet", "--shared", "top", "shared"]);
    assert_eq!(committed(&place.path().join("shared/a"), "."), FIRST);
    let url = format!("file://{}", top.display());
    git(place.path(), &["clone", "--quiet", "--depth", "1", &url, "shallow"]);
    assert_eq!(committed(&place.path().join("shallow/a"), "."), SECOND, "as git says of one that has no more");
    let other = place.path().join("sha256");
    fs::create_dir(&other).expect("a folder");
    git(&other, &["init", "--quiet", "--object-format=sha256"]);
    fs::write(other.join("x"), "x").expect("a file");
    commit(&other, 1_600_003_000);
    assert_eq!(committed(&other, "."), Some(1_600_003_000));
    // Line ends as the checkout has them set.
    git(&top, &["config", "core.autocrlf", "true"]);
    fs::remove_file(top.join("a/y.c")).expect("it goes");
    git(&top, &["checkout", "--quiet", "--", "a/y.c"]);
    assert_eq!(fs::read_to_string(top.join("a/y.c")).expect("it is there"), "int y;\r\n");
    assert_eq!(committed(&top.join("a"), "."), FIRST);
}

#[test]
fn a_submodule_is_asked_for_its_own_changes() {
    let (place, top) = checkout();
    let outer = place.path().join("outer");
    fs::create_dir(&outer).expect("a folder");
    git(&outer, &["init", "--quiet", "--initial-branch=main"]);
    git(&outer, &["submodule", "--quiet", "add", &format!("file://{}", top.display()), "inner"]);
    fs::write(outer.join("x"), "x").expect("a file");
    commit(&outer, 1_600_005_000);
    assert_eq!(committed(&outer, "."), Some(1_600_005_000));
    assert_eq!(committed(&outer.join("inner/a"), "."), FIRST, "the project may be in one");
    fs::write(outer.join("inner/new"), "x").expect("a file");
    assert_eq!(committed(&outer, "."), None, "a new file in it");
    fs::remove_file(outer.join("inner/new")).expect("it goes");
    fs::write(outer.join("inner/a/y.c"), "changed").expect("a file");
    assert_eq!(committed(&outer, "."), None, "a changed file in it");
    git(&outer.join("inner"), &["checkout", "--quiet", "--", "."]);
    assert_eq!(committed(&outer, "."), Some(1_600_005_000));
    git(&outer.join("inner"), &["checkout", "--quiet", "--detach", "HEAD~1"]);
    assert_eq!(committed(&outer, "."), None, "another commit of it");
    git(&outer, &["add", "--all"]);
    assert_eq!(committed(&outer, "."), None, "which is staged");
}

/// Each setting and file that makes git run a program, in one checkout: none of them runs here, and with each of them
/// git itself says that the trap works.
#[test]
fn nothing_that_a_checkout_names_is_run() {
    let (place, top) = checkout();
    let ran = place.path().join("ran");
    let trap = place.path().join("trap");
    fs::write(&trap, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat 2> /dev/null || :\n", ran.display())).expect("a script");
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).expect("chmod");
    let trap = trap.display().to_string();
    fs::write(top.join(".gitattributes"), "* filter=evil diff=evil merge=evil\n").expect("a file");
    fs::write(top.join("a/y.c"), "int w;\n").expect("a file");
    commit(&top, 1_600_002_000);
    for setting in [
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.textconv",
        "diff.evil.command",
        "diff.external",
        "merge.evil.driver",
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.gitProxy",
        "core.askPass",
        "core.alternateRefsCommand",
        "gpg.program",
        "gpg.ssh.program",
        "credential.helper",
        "uploadpack.packObjectsHook",
        "sequence.editor",
        "pager.status",
        "pager.log",
        "alias.status",
        "trace2.eventTarget",
    ] {
        git(&top, &["config", setting, &trap]);
    }
    for (setting, value) in [
        ("log.showSignature", "true"),
        ("core.hooksPath", "hooks"),
        ("status.submoduleSummary", "true"),
        ("submodule.recurse", "true"),
        ("include.path", "../more"),
        ("extensions.partialClone", "evil"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", &format!("ext::{trap}")),
        ("core.worktree", "/"),
    ] {
        git(&top, &["config", setting, value]);
    }
    for hooks in [".git/hooks", "hooks"] {
        fs::create_dir_all(top.join(hooks)).expect("a folder");
        for hook in ["post-index-change", "fsmonitor-watchman", "reference-transaction", "pre-commit", "post-checkout", "query-watchman"] {
            fs::copy(&trap, top.join(hooks).join(hook)).expect("a hook");
        }
    }
    // The clock of a file is enough to make git look at it, through its filter.
    fs::write(top.join("a/y.c"), "int w;\n").expect("a file");
    let _ = fs::remove_file(&ran);
    git(&top, &["config", "--unset", "core.worktree"]);
    let _ = Command::new("git").arg("-C").arg(&top).args(["status", "--porcelain"]).output();
    assert!(ran.exists(), "the trap does not work");
    fs::remove_file(&ran).expect("it goes");
    git(&top, &["config", "core.worktree", "/"]);
    fs::remove_file(&ran).ok();
    fs::write(top.join("a/y.c"), "int w;\n").expect("a file");
    committed(&top.join("a"), ".");
    committed(&top, ".");
    committed(&top.join("a"), "y.c");
    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap_or_default());
    assert_eq!(committed(&top.join("a"), "."), Some(1_600_002_000), "and the answer is right");
    assert!(!ran.exists());
}

#[test]
fn a_git_file_that_names_the_repository_of_others_is_not_believed() {
    let (place, top) = checkout();
    let project = place.path().join("project");
    fs::create_dir(&project).expect("a folder");
    for text in [format!("gitdir: {}\n", top.join(".git").display()), "gitdir: ../top/.git\n".to_string()] {
        fs::write(project.join(".git"), text).expect("a file");
        assert_eq!(Checkout::at(&project).map(|_| ()), None);
        assert_eq!(committed(&project, "."), None);
    }
    fs::remove_file(project.join(".git")).expect("it goes");
    std::os::unix::fs::symlink(top.join(".git"), project.join(".git")).expect("a link");
    assert_eq!(committed(&project, "."), None);
    // Nor does a pipe in the place of a file make us wait.
    for name in ["HEAD", "index", "config", "packed-refs", "info/exclude"] {
        let (_place, top) = checkout();
        let path = top.join(".git").join(name);
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().is_ok_and(|status| status.success()));
        committed(&top, ".");
    }
}

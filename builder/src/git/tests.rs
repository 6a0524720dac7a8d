use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn git(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]);
    for name in LOCAL {
        command.env_remove(name);
    }
    command.args(arguments).env("GIT_COMMITTER_DATE", "@1600000000 +0000").env("GIT_CONFIG_GLOBAL", "/nowhere/config");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("git runs");
    child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("git runs");
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_string()
}

/// A project with a repository in it, and a folder beside it that is not the project's.
fn project() -> (tempfile::TempDir, PathBuf, String) {
    let place = tempfile::tempdir().expect("a folder");
    let repository = place.path().join("project/vendor");
    fs::create_dir_all(repository.join("debian")).expect("folders");
    fs::create_dir_all(place.path().join("sources")).expect("a folder");
    git(&repository, &["init", "--quiet", "--initial-branch=main"], "");
    fs::write(repository.join("debian/rules"), "make\n").expect("a file");
    fs::set_permissions(repository.join("debian/rules"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(repository.join("-x"), "dash\n").expect("a file");
    std::os::unix::fs::symlink("../../../../etc/passwd", repository.join("link")).expect("a link");
    git(&repository, &["add", "--all"], "");
    git(&repository, &["commit", "--quiet", "--message", "one"], "");
    let revision = git(&repository, &["rev-parse", "HEAD"], "");
    (place, repository, revision)
}

fn fetched(place: &Path, url: &str, revision: &str) -> std::result::Result<PathBuf, String> {
    let folder = place.join("sources").join(format!("git-{revision}"));
    let said = |error: Error| std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ");
    fetch(&Folder::open(&place.join("project")).expect("a folder"), url, revision, &folder).map(|()| folder).map_err(said)
}

#[test]
fn a_revision_is_its_committed_bytes_as_old_as_its_commit() {
    let (place, repository, revision) = project();
    for url in [repository.display().to_string(), format!("file://{}", repository.display()), "vendor".to_string()] {
        let folder = fetched(place.path(), &url, &revision).expect("fetched");
        let rules = folder.join("debian/rules").metadata().expect("it is there");
        assert_eq!((rules.permissions().mode() & 0o777, std::os::unix::fs::MetadataExt::mtime(&rules)), (0o755, 1_600_000_000));
        assert_eq!(fs::read_to_string(folder.join("-x")).expect("a file"), "dash\n");
        assert_eq!(fs::read_link(folder.join("link")).expect("a link"), Path::new("../../../../etc/passwd"));
        assert!(!folder.join(".git").exists());
        fs::remove_dir_all(folder).expect("it goes");
    }
    assert_eq!(fs::read_dir(place.path().join("sources")).expect("a folder").count(), 0, "nothing temporary is left");
    let mode = place.path().join("new/sources/x");
    drop(beside(&mode).expect("a folder"));
    let mode = place.path().join("new/sources").metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "what strangers wrote is for nobody else on this machine");
}

#[test]
fn attributes_of_a_revision_and_settings_of_the_user_run_nothing() {
    let (place, repository, _) = project();
    let ran = place.path().join("ran");
    let trap = place.path().join("trap");
    fs::write(&trap, format!("#!/bin/sh\necho x >> {}\ncat\n", ran.display())).expect("a script");
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir(place.path().join("hooks")).expect("a folder");
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        fs::copy(&trap, place.path().join("hooks").join(hook)).expect("a hook");
    }
    fs::write(repository.join(".gitattributes"), "* filter=user text eol=crlf ident\n").expect("a file");
    fs::write(repository.join(".lfsconfig"), "[lfs]\n\turl = http://127.0.0.1:9/\n").expect("a file");
    git(&repository, &["add", "--all"], "");
    git(&repository, &["commit", "--quiet", "--message", "two"], "");
    let revision = git(&repository, &["rev-parse", "HEAD"], "");
    // What the repository says itself, and what a user's own configuration may say.
    let trap = trap.display().to_string();
    for (setting, value) in [
        ("filter.user.smudge", trap.as_str()),
        ("uploadpack.packObjectsHook", &trap),
        ("core.fsmonitor", &trap),
        ("core.alternateRefsCommand", &trap),
    ] {
        git(&repository, &["config", setting, value], "");
    }
    let config = format!(
        "[filter \"user\"]\n\tsmudge = {trap}\n\tclean = {trap}\n\tprocess = {trap}\n[core]\n\thooksPath = {}\n\tfsmonitor = {trap}\n[log]\n\tshowSignature = true\n[gpg]\n\tprogram = {trap}\n[init]\n\ttemplateDir = {}\n",
        place.path().join("hooks").display(),
        place.path().display()
    );
    fs::write(place.path().join("gitconfig"), config).expect("a file");
    // (Variables of a process are for all of its threads, so the one that has them is another process.)
    if std::env::var_os("TWOSTAGE_TEST_FETCH").is_none() {
        let own = std::env::current_exe().expect("this test");
        let name = "git::tests::attributes_of_a_revision_and_settings_of_the_user_run_nothing";
        let done = Command::new(own)
            .args(["--exact", name])
            .env("TWOSTAGE_TEST_FETCH", "1")
            .env("GIT_CONFIG_GLOBAL", place.path().join("gitconfig"))
            .env("GIT_DIR", place.path().join("nowhere"))
            .env("GIT_INDEX_FILE", place.path().join("nowhere"))
            .output()
            .expect("it runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let folder = fetched(place.path(), "vendor", &revision).expect("fetched");
    assert!(!ran.exists());
    assert_eq!(fs::read_to_string(folder.join("debian/rules")).expect("a file"), "make\n");
}

#[test]
fn what_lies_outside_of_the_project_is_not_fetched() {
    let (place, repository, revision) = project();
    let elsewhere = place.path().join("elsewhere");
    git(place.path(), &["clone", "--quiet", "--bare", &repository.display().to_string(), "elsewhere"], "");
    for url in [
        elsewhere.display().to_string(),
        format!("file://{}", elsewhere.display()),
        "../elsewhere".into(),
        "/".into(),
        "file:///etc".into(),
    ] {
        let said = fetched(place.path(), &url, &revision).expect_err("outside");
        assert!(said.contains("below the project") || said.contains("leads out"), "{url}: {said}");
    }
    // Nor by a link, a file that names it, or objects that are taken from it.
    let inside = place.path().join("project/inside");
    std::os::unix::fs::symlink(&elsewhere, &inside).expect("a link");
    assert!(fetched(place.path(), "inside", &revision).is_err_and(|said| said.contains("leads out")));
    fs::remove_file(&inside).expect("it goes");
    fs::create_dir(&inside).expect("a folder");
    fs::write(inside.join(".git"), format!("gitdir: {}\n", elsewhere.display())).expect("a file");
    assert!(fetched(place.path(), "inside", &revision).is_err_and(|said| said.contains("objects are elsewhere")));
    fs::remove_dir_all(&inside).expect("it goes");
    git(place.path(), &["clone", "--quiet", "--bare", "--shared", &elsewhere.display().to_string(), "project/inside"], "");
    assert!(fetched(place.path(), "inside", &revision).is_err_and(|said| said.contains("objects/info/alternates")));
    fs::remove_file(inside.join("objects/info/alternates")).expect("it goes");
    fs::remove_dir_all(inside.join("objects/pack")).expect("it goes");
    std::os::unix::fs::symlink(elsewhere.join("objects"), inside.join("objects/pack")).expect("a link");
    assert!(fetched(place.path(), "inside", &revision).is_err_and(|said| said.contains("neither file nor folder")));
    for url in ["ext::touch /x", "--upload-pack=touch /x", "fd::3"] {
        assert!(fetched(place.path(), url, &revision).is_err(), "{url}");
    }
}

/// Trees that no git makes, but that any program can write.
#[test]
fn names_in_a_revision_lead_nowhere_else() {
    let (place, repository, _) = project();
    let blob = git(&repository, &["hash-object", "-w", "--stdin"], "evil");
    let up = git(&repository, &["hash-object", "-w", "--stdin"], "..");
    let tree = |records: &[(&str, &str, &str)]| {
        let mut bytes = Vec::new();
        for (mode, name, id) in records {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend((0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("hex")));
        }
        fs::write(place.path().join("tree"), bytes).expect("a file");
        let file = place.path().join("tree").display().to_string();
        git(&repository, &["hash-object", "-w", "-t", "tree", "--literally", &file], "")
    };
    let commit = |tree: &str| {
        let commit = git(&repository, &["commit-tree", tree, "-m", "x"], "");
        git(&repository, &["update-ref", "refs/heads/evil", &commit], "");
        commit
    };
    let below = tree(&[("100644", "x", &blob)]);
    for (records, why) in [
        (vec![("100644", "../x", blob.as_str())], "climbs"),
        (vec![("40000", "..", below.as_str())], "climbs"),
        (vec![("100644", "/etc/x", &blob)], "absolute"),
        (vec![("100644", "a\nb", &blob)], "line break"),
        (vec![("120000", "a", &up), ("40000", "a", &below)], "on its way is no folder"),
        (vec![("120000", "a", &up), ("100644", "a/x", &blob)], "on its way is no folder"),
        (vec![("40000", "a", &below), ("120000", "a", &up)], "a folder has its name"),
    ] {
        let revision = commit(&tree(&records));
        match fetched(place.path(), "vendor", &revision) {
            Ok(folder) => panic!("{records:?}: taken as {folder:?}"),
            // Git itself may refuse to give it, too.
            Err(said) => assert!(said.contains(why) || said.contains("git"), "{records:?}: {said}"),
        }
    }
    let folder = fetched(place.path(), "vendor", &commit(&tree(&[("160000", "module", &"1".repeat(40))]))).expect("a submodule");
    assert_eq!(fs::read_dir(folder.join("module")).expect("an empty folder").count(), 0);
    assert!(fetched(place.path(), "vendor", &"2".repeat(40)).is_err());
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 3, "project, sources and the tree of this test");
}

//! What a person types, and what they read.

use crate::support::{give_key, root, run, tool, twostage};
use std::path::Path;
use std::process::Command;

#[test]
fn init_writes_a_project_that_reads_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("My Project");
    run(twostage().arg("init").arg(&path)).ok();
    let text = std::fs::read_to_string(path.join("twostage.toml")).expect("a project file");
    assert!(text.contains("name = \"my-project\"") && text.contains("[runtime.my-project]"), "{text}");
    assert!(std::fs::read_to_string(path.join("Makefile")).expect("a Makefile").contains("$(TWOSTAGE) runtime"));
    run(twostage().arg("init").arg(&path)).fails_with(2).says("is there already").says("hint:");
}

#[test]
fn make_runtime_builds_first_what_was_never_published() {
    let folder = tempfile::tempdir().expect("a folder");
    run(twostage().arg("init").arg(folder.path())).ok();
    let make = || tool("make", &["--silent", "--directory", &folder.path().to_string_lossy(), "TWOSTAGE=echo", "runtime"]).ok().out;
    assert_eq!(make(), "repo\nruntime\n");
    let channels = folder.path().join(".twostage/repository/channels");
    std::fs::create_dir_all(&channels).expect("a folder");
    std::fs::write(channels.join("main.json"), "").expect("a channel");
    assert_eq!(make(), "runtime\n");
}

#[test]
fn a_mistake_in_the_project_file_names_line_and_edit() {
    let folder = tempfile::tempdir().expect("a folder");
    let project =
        "[project]\nname = \"demo\"\n[base]\nbootstrap = \"debian:bookworm\"\n[[component]]\nname = \"greet\"\nsource = \"gret\"\n";
    std::fs::create_dir(folder.path().join("greet")).expect("a folder");
    std::fs::write(folder.path().join("twostage.toml"), project).expect("a project file");
    run(twostage().arg("--project").arg(folder.path()).arg("repo"))
        .fails_with(3)
        .says("error: twostage.toml:7: there is no folder `gret`")
        .says("hint: write `greet`");
    std::fs::write(folder.path().join("twostage.toml"), project.replace("source", "sorce")).expect("a project file");
    let json = run(twostage().arg("--json").arg("--project").arg(folder.path()).arg("repo")).fails_with(3).out;
    let error: serde_json::Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(error["class"], "project");
    assert_eq!(error["message"], "twostage.toml:7: unknown key `sorce`");
    assert_eq!(error["hint"], "write `source`");
}

#[test]
fn an_engine_that_does_not_answer_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    run(twostage().arg("init").arg(folder.path().join("demo"))).ok();
    run(twostage().arg("--project").arg(folder.path().join("demo")).args(["repo", "--engine-host", "unix:///nonexistent/docker.sock"]))
        .fails_with(6)
        .says("/nonexistent/docker.sock")
        .says("hint:");
}

#[test]
fn completions_are_written_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(twostage().args(["completions", shell])).ok().out.contains("runtime"), "{shell}");
    }
}

#[test]
fn a_key_in_a_folder_of_the_team_is_made_without_touching_what_else_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let project = "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n[repository]\nkey = \"keys/team.asc\"\n";
    std::fs::write(folder.path().join("twostage.toml"), project).expect("a project file");
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).expect("a folder");
    // It looks like something of ours that is not whole; nothing proves it.
    for name in [".twostage-incoming-key-AbCdEf", ".twostage-incoming-AbCdEf", "of-others"] {
        std::fs::write(keys.join(name), "three years of work").expect("a file");
        std::fs::write(folder.path().join(name), "three years of work").expect("a file");
    }
    for _ in 0..2 {
        run(twostage().arg("--project").arg(folder.path()).arg("export").arg(folder.path().join("export.tar"))).ok();
    }
    let list = |folder: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(list(&keys), [".twostage-incoming-AbCdEf", ".twostage-incoming-key-AbCdEf", "of-others", "team.asc"]);
    let beside =
        [".twostage", ".twostage-incoming-AbCdEf", ".twostage-incoming-key-AbCdEf", "export.tar", "keys", "of-others", "twostage.toml"];
    assert_eq!(list(folder.path()), beside);
}

/// An empty package, by dpkg-deb itself.
fn deb(folder: &Path, version: &str) -> String {
    let (tree, file) = (folder.join("tree"), folder.join("demo.deb").to_string_lossy().into_owned());
    std::fs::create_dir_all(tree.join("DEBIAN")).expect("a folder");
    let control = format!("Package: demo\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: a test\n");
    std::fs::write(tree.join("DEBIAN/control"), control).expect("a file");
    tool("dpkg-deb", &["--root-owner-group", "--build", &tree.to_string_lossy(), &file]).ok();
    file
}

#[test]
fn an_import_keeps_what_was_published_on_this_machine() {
    let machines = ["1", "2"].map(|version| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("twostage.toml"), "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n").expect("a file");
        give_key(folder.path());
        run(twostage().arg("--project").arg(folder.path()).args(["publish", &deb(folder.path(), version)])).ok();
        folder
    });
    let archive = machines[0].path().join("export.tar");
    run(twostage().arg("--project").arg(machines[0].path()).arg("export").arg(&archive)).ok();
    run(twostage().arg("--project").arg(machines[1].path()).arg("import").arg(&archive)).ok();
    let listed = run(twostage().arg("--project").arg(machines[1].path()).arg("channel")).ok().out;
    assert!(listed.starts_with("main  @") && listed.contains("  2 packages  "), "{listed}");
}

#[test]
fn channels_are_listed_and_one_is_moved_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("twostage.toml"), "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n").expect("a project file");
    give_key(folder.path());
    let twostage = |arguments: &[&str]| run(twostage().arg("--project").arg(folder.path()).args(arguments));
    let says = |arguments: &[&str], text: &str| assert!(twostage(arguments).ok().out.contains(text), "{arguments:?}: {text}");
    says(&["channel"], "no channel yet");
    for version in ["1", "2"] {
        twostage(&["publish", &deb(folder.path(), version)]).ok();
    }
    let listed = || {
        let text = twostage(&["--json", "channel", "main"]).ok().out;
        let value: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        let states = value["channels"][0]["states"].as_array().expect("its states").clone();
        states
            .iter()
            .map(|state| (state["snapshot"].as_str().unwrap_or_default().to_string(), state["packages"].as_i64(), state["date"].as_i64()))
            .collect::<Vec<_>>()
    };
    let before = listed();
    let [(new, Some(2), date), (old, Some(1), _)] = before.as_slice() else { panic!("two states: {before:?}") };
    says(&["channel"], &format!("main  @{}  2 packages  ", &new[..12]));

    says(&["channel", "main", "--to", &format!("@{}", &old[..12])], &format!("channel main  @{}  moved", &old[..12]));
    let after = listed();
    assert!(after[0].0 == *old && after[0].2 > *date && after[1].0 == *new, "the older one, with a newer date: {after:?}");
    says(&["channel", "main", "--to", old], "unchanged");

    twostage(&["channel", "main", "--to", "xyz"]).fails_with(5).says("the repository has no snapshot xyz").says("hint:");
    let made = twostage(&["channel", "mian", "--to", old]).ok().says("mian is new; these were there before: main");
    assert!(made.out.contains(&format!("channel mian  @{}  made", &old[..12])), "{}", made.out);
    twostage(&["channel", "mina"]).fails_with(5).says("there is no channel mina").says("hint: write `mian`");
    twostage(&["channel", "--to", old]).fails_with(2);
}

/// (Each case with nothing missing but the engine, so that nothing is installed or started.)
#[test]
fn set_up_takes_the_engine_that_is_there_and_names_the_one_that_was_asked_for() {
    let folder = tempfile::Builder::new().prefix("setup-").tempdir().expect("a folder");
    let socket = folder.path().join("podman.sock");
    let _engine = std::os::unix::net::UnixListener::bind(&socket).expect("a socket that answers");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("chmod");
    // (Its text, for nobody may be barred from this folder.)
    let script = std::fs::read_to_string(root().join("scripts/setup.sh")).expect("the script");
    let setup = |settings: &[(&str, String)]| {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &script, "setup.sh", "engine"]);
        for name in ["TWOSTAGE_ENGINE", "DOCKER_HOST", "CONTAINER_HOST", "XDG_RUNTIME_DIR"] {
            nobody.env_remove(name);
        }
        run(nobody.envs(settings.iter().map(|(name, value)| (*name, value))))
    };
    let there = format!("unix://{}", socket.display());
    let nowhere = format!("unix://{}/nothing.sock", folder.path().display());
    let podman = || ("TWOSTAGE_ENGINE", "podman".to_string());

    assert_eq!(setup(&[podman(), ("CONTAINER_HOST", there.clone())]).ok().err, "", "a Podman is enough for Podman");
    assert_eq!(setup(&[("CONTAINER_HOST", there.clone())]).ok().err, "", "and where no engine is asked for");
    let refused = setup(&[podman(), ("CONTAINER_HOST", nowhere.clone())]).fails_with(1);
    assert!(!refused.err.contains("docker"), "Docker was not asked for: {}", refused.err);
    refused.says(&format!("podman system service --time=0 {nowhere} &"));
    assert_eq!(setup(&[("TWOSTAGE_ENGINE", "embedded".into())]).ok().err, "", "without a daemon nothing is started");
    setup(&[("TWOSTAGE_ENGINE", "nothing".into())]).fails_with(2).says("write docker, podman or embedded");
}

/// A slip of the hand does not end the project.
#[test]
fn what_is_written_takes_the_place_of_its_own_kind_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let text = "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n";
    std::fs::write(path("twostage.toml"), text).expect("a project file");
    crate::support::give_key(folder.path());
    let export = |to: &str| run(twostage().arg("--project").arg(folder.path()).args(["export", to]));
    for name in ["twostage.toml", ""] {
        export(&path(name)).fails_with(2).says("is not written over").says("name another file, or remove that one");
    }
    assert_eq!(std::fs::read_to_string(path("twostage.toml")).expect("it is there"), text);
    std::fs::write(path("empty.tar"), "").expect("written");
    for _ in 0..2 {
        export(&path("empty.tar")).ok();
    }
    let page = |to: &str| run(twostage().args(["audit", &format!("docker-archive:{}", path("empty.tar")), "--html", to]));
    page(&path("twostage.toml")).fails_with(2).says("is there, and not a page");
    // What `import` is given by mistake is named for what it is not.
    let import = |from: &str| run(twostage().arg("--project").arg(folder.path()).args(["import", from]));
    std::fs::write(path("foo.deb"), b"!<arch>\ndebian-binary   1342943816  0     0     100644  4         `\n2.0\n\xff\xfe\x1b[2J")
        .expect("written");
    let refused = import(&path("foo.deb")).fails_with(5).says("it is no tar").says("`twostage publish`");
    assert!(refused.err.is_ascii() && !refused.err.contains("!<arch>"), "{}", refused.err);
    for nothing in ["/dev/null", "/dev/zero"] {
        import(nothing).fails_with(5).says("there is nothing in it");
    }
    // A key that is none is no fault of the machine's.
    let key = path("key.asc");
    std::fs::write(&key, b"\xff\xfe\x00").expect("written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
    let serve = run(twostage().arg("--project").arg(folder.path()).args(["--key", &key, "export", &path("other.tar")]));
    serve.fails_with(5).says("is no text").says("an armored OpenPGP secret key");
    run(twostage().arg("--project").arg(folder.path()).args(["publish", &key])).fails_with(5).says("is no text");
}

//! What goes wrong ends with its reason, a hint, and nothing tagged.

use crate::support::{Done, Helper, Project, Serving, Used, docker, root, run, tool, uses};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Exit statuses by class of error.
const VERDICT: i32 = 1;
const PROJECT: i32 = 3;
const BUILD: i32 = 4;
const REPOSITORY: i32 = 5;
const RUNTIME: i32 = 7;

/// The id of an image, if the engine has one of that name.
fn id_of(name: &str) -> Option<String> {
    let found = docker(&["image", "inspect", "--format", "{{.Id}}", name]);
    (found.status == 0).then(|| found.out.trim().to_string())
}

/// What the docker client is told besides the Dockerfile: the server as `http_proxy`.
fn plain_build(dockerfile: &Path, proxy: &str, tag: &str) -> Done {
    let proxy = format!("http_proxy=http://{proxy}");
    let text = fs::File::open(dockerfile).expect("the Dockerfile");
    let arguments = ["build", "--force-rm", "--no-cache", "--network=host", "--build-arg", &proxy, "--tag", tag, "-"];
    let mut done = run(Command::new("docker").args(arguments).stdin(text));
    // The classic client writes a step's stderr to its own stdout.
    done.err.push_str(&done.out);
    done
}

/// A deb of one file, by dpkg-deb itself.
fn deb(project: &Project, name: &str, version: &str, content: &str) -> String {
    let folder = project.join(&format!("deb-{name}"));
    fs::create_dir_all(folder.join("DEBIAN")).expect("a folder");
    fs::create_dir_all(folder.join("usr/share").join(name)).expect("a folder");
    fs::write(folder.join("usr/share").join(name).join("content"), content).expect("a file");
    let control =
        format!("Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: a test\n");
    fs::write(folder.join("DEBIAN/control"), control).expect("a file");
    let file = project.join(&format!("{name}.deb")).to_string_lossy().into_owned();
    tool("dpkg-deb", &["--root-owner-group", "--build", &folder.to_string_lossy(), &file]).ok();
    file
}

#[test]
fn a_server_that_is_stopped_or_not_ours_fails_the_runtime_build() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::quick("stopped", "stopped-demo");
    project.run(&["repo"]).ok();
    let dockerfile = project.run(&["runtime", "--dockerfile"]).ok().out;
    let dockerfile = Path::new(dockerfile.trim());
    let tag = format!("{}-plain", project.image);

    // One snapshot, signed by two keys: the same repository in two projects.
    let other = Project::quick("stopped-other", "stopped-demo");
    tool("cp", &["-a", &project.join("stopped-demo").to_string_lossy(), &other.path().to_string_lossy()]).ok();
    project.run(&["export", &project.join("export.tar").to_string_lossy()]).ok();
    other.run(&["import", &project.join("export.tar").to_string_lossy()]).ok();
    assert_eq!(project.snapshot(), other.snapshot(), "a snapshot is named by its packages");
    // A third has the same names and versions, but lacks the package that is asked for; a fourth
    // has other bytes under the same name and version.
    let lacking = Project::hello("stopped-lacking");
    let altered = Project::hello("stopped-altered");
    let version = fs::read_to_string(dockerfile).expect("the Dockerfile");
    let version = version.split("stopped-demo=").nth(1).and_then(|rest| rest.split([';', ' ']).next()).expect("its version").to_string();
    lacking.run(&["publish", &deb(&lacking, "another", "1", "x")]).ok();
    altered.run(&["publish", &deb(&altered, "stopped-demo", &version, "other content")]).ok();

    let ours = Serving::of(project.path());
    let theirs = Serving::of(other.path());
    let without = Serving::of(lacking.path());
    let different = Serving::of(altered.path());
    let script = root().join("tests/tools/faulty_server.py");
    let faulty = |sources: &Serving, rest: &Serving, snapshot: &str| {
        Helper::start(Command::new("python3").arg(&script).args([&sources.address, &rest.address, &project.snapshot(), snapshot]))
    };
    let same = project.snapshot();
    let key_of_another = faulty(&theirs, &ours, &same);
    let signed_by_another = faulty(&ours, &theirs, &same);
    let missing = faulty(&without, &without, &lacking.snapshot());
    let swapped = faulty(&different, &different, &altered.snapshot());
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").to_string()
    };
    let at = |helper: &Helper| format!("127.0.0.1:{}", helper.line);

    let cases: [(&str, String, &[&str]); 5] = [
        ("a stopped server", closed, &["Connection refused", "twostage: the snapshot's server does not answer: is http_proxy"]),
        ("the key of another", at(&key_of_another), &["NO_PUBKEY", "is not signed"]),
        ("signed by another", at(&signed_by_another), &["NO_PUBKEY", "is not signed"]),
        ("a missing package", at(&missing), &["Unable to locate package stopped-demo"]),
        ("other bytes of the same name", at(&swapped), &["twostage: these are not the 1 packages that were locked for"]),
    ];
    for (what, address, reasons) in &cases {
        let mut done = plain_build(dockerfile, address, &tag);
        assert_ne!(done.status, 0, "{what}: it fails");
        for reason in *reasons {
            done = done.says(reason);
        }
        assert_eq!(id_of(&tag), None, "{what}: nothing is tagged");
    }

    // An image that has the name from a good build keeps it.
    plain_build(dockerfile, &ours.address, &tag).ok();
    let good = id_of(&tag).expect("the good image");
    for (what, address, _) in &cases {
        assert_ne!(plain_build(dockerfile, address, &tag).status, 0, "{what}: it fails");
        assert_eq!(id_of(&tag).as_deref(), Some(good.as_str()), "{what}: the earlier image keeps the name");
    }
    docker(&["image", "rm", "--force", &tag]).ok();
}

#[test]
fn a_package_that_nobody_has_or_that_is_virtual_is_named() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::quick("missing", "missing-demo");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let good = id_of(&project.image);
    let before = project.snapshot();
    let packages = |names: &str| {
        project.edit("twostage.toml", |text| {
            let (components, _) = text.split_once("[runtime.").expect("an image");
            format!("{components}[runtime.{}]\npackages = [{names}]\n", project.image)
        });
    };

    // Named in the project file, but `repo` has not run since.
    packages(r#""missing-demo", "no-such-package""#);
    project.run(&["runtime"]).fails_with(RUNTIME).says("no-such-package").says("hint: run `twostage repo` first");
    // And `repo` finds that nobody has it.
    project.run(&["repo"]).fails_with(PROJECT).says("Unable to locate package no-such-package").says("hint:");
    project.run(&["repo", "--locked"]).fails_with(PROJECT).says("the lock does not hold for runtime:").says("run `twostage lock`");
    // Many packages provide the one; only one the other, and the base has it already.
    packages(r#""missing-demo", "mail-transport-agent""#);
    project
        .run(&["repo"])
        .fails_with(PROJECT)
        .says("mail-transport-agent is a virtual package")
        .says("postfix")
        .says("exim4-daemon-light")
        .says("hint:");
    packages(r#""missing-demo", "perlapi-5.36.0""#);
    let done = project.run(&["repo"]).fails_with(PROJECT);
    done.says("perlapi-5.36.0 is a virtual package; apt would install perl-base for it").says("hint: name perl-base");

    assert_eq!(project.snapshot(), before, "the channel has not moved");
    assert_eq!(id_of(&project.image), good, "the earlier image keeps its name");
}

#[test]
fn a_base_that_has_a_newer_version_of_a_named_package_is_refused() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::quick("newer", "newer-demo");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let good = id_of(&project.image);
    let base = project.read(".twostage/images/twostage-test-newer/Dockerfile");
    let base = base.lines().find_map(|line| line.strip_prefix("FROM ")).expect("a base").to_string();
    deb(&project, "newer-demo", "9.9", "from elsewhere");
    project.write("Dockerfile", &format!("FROM {base}\nCOPY newer-demo.deb /\nRUN dpkg -i /newer-demo.deb && rm /newer-demo.deb\n"));
    let newer = "twostage-test-newer-base";
    docker(&["build", "--tag", newer, &project.path().to_string_lossy()]).ok();
    project.edit("twostage.toml", |text| format!("{text}base = {{ image = \"{newer}\" }}\n"));
    project.run(&["repo"]).fails_with(PROJECT).says("newer-demo 9.9").says("is newer").says("hint:");
    project.run(&["runtime"]).fails_with(RUNTIME).says("hint: run `twostage repo` first");
    assert_eq!(id_of(&project.image), good, "the earlier image keeps its name");
    docker(&["image", "rm", "--force", newer]).ok();
}

#[test]
fn our_own_package_wins_over_a_newer_one_of_the_distribution() {
    uses(Used::Engine);
    uses(Used::Apt);
    // Debian's is 2.10.
    let project = Project::quick("wins", "hello");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let shown = docker(&["run", "--rm", &project.image, "dpkg-query", "--show", "hello"]).ok().out;
    assert!(shown.starts_with("hello\t1.0+ts"), "{shown}");
    assert_eq!(docker(&["run", "--rm", &project.image, "cat", "/usr/share/hello/content"]).ok().out, "first\n");
    let good = id_of(&project.image);

    // Asked for by another component that our version does not satisfy, it is refused, not replaced.
    project.add_quick("wins-demo");
    project.edit("wins-demo/debian/control", |text| text.replace("Architecture: all", "Architecture: all\nDepends: hello (>= 2.0)"));
    project.edit("twostage.toml", |text| text.replace("packages = [\"hello\"]", "packages = [\"wins-demo\"]"));
    if std::env::var_os("KEEP").is_some() {
        eprintln!("{}", project.run(&["-v", "repo"]).err);
    }
    project
        .run(&["repo"])
        .fails_with(PROJECT)
        .says("wins-demo : Depends: hello (>= 2.0), and the project's own hello is 1.0+ts")
        .says("hint: no other hello is taken");
    project.run(&["runtime"]).fails_with(RUNTIME).says("hint: run `twostage repo` first");
    assert_eq!(id_of(&project.image), good, "the earlier image keeps its name");
}

#[test]
fn an_image_with_residue_or_a_failing_check_is_removed() {
    uses(Used::Engine);
    let project = Project::quick("residue", "residue-demo");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let good = id_of(&project.image).expect("the good image");
    let images =
        || docker(&["images", "--no-trunc", "--quiet", "--filter", &format!("label=twostage.snapshot={}", project.snapshot())]).ok().out;
    let toml = project.read("twostage.toml");

    project.write("twostage.toml", &format!("{toml}check = [\"sh\", \"-c\", \"echo I am not well; exit 3\"]\n"));
    let done = project.run(&["runtime", "--no-cache"]).fails_with(VERDICT);
    done.says("its check `sh -c echo I am not well; exit 3` failed (exit status 3)").says("I am not well").says("hint:");
    assert_eq!(id_of(&project.image).as_deref(), Some(good.as_str()), "the earlier image keeps its name");
    assert_eq!(images().trim(), good, "the rejected image is gone");
    project.write("twostage.toml", &format!("{toml}check = [\"no-such-program\"]\n"));
    project.run(&["runtime"]).fails_with(VERDICT).says("no-such-program").says("hint:");
    assert_eq!(images().trim(), good, "the rejected image is gone");
    project.write("twostage.toml", &toml);

    let postinst = "#!/bin/sh\nset -e\nmkdir -p /var/lib/foo\necho x > /var/lib/foo/stray\necho ls > /root/.bash_history\n";
    project.write("residue-demo/debian/postinst", postinst);
    project.run(&["repo"]).ok();
    let done = project.run(&["runtime"]).fails_with(VERDICT);
    done.says("nothing is tagged").says("/var/lib/foo/stray").says("/root/.bash_history").says("hint:");
    assert_eq!(id_of(&project.image).as_deref(), Some(good.as_str()), "the earlier image keeps its name");
    assert_eq!(images(), "", "the rejected image is gone");

    // The same for a name that no image has yet.
    let never = format!("{}-never", project.image);
    project.edit("twostage.toml", |text| text.replace(&format!("[runtime.{}]", project.image), &format!("[runtime.{never}]")));
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).fails_with(VERDICT).says("/var/lib/foo/stray");
    assert_eq!(id_of(&never), None, "nothing is tagged");
    assert_eq!(images(), "", "the rejected image is gone");
}

#[test]
fn what_a_hostile_builder_leaves_is_refused_by_name() {
    uses(Used::Engine);
    let project = Project::quick("hostile", "hostile-demo");
    project.run(&["repo"]).ok();
    let before = project.snapshot();
    let passwd = fs::read("/etc/passwd").expect("this machine's");

    // An engine that sends what no honest one would.
    let script = root().join("tests/tools/hostile_engine.py");
    for (kind, reason) in [
        ("escape", r#"the builder left "../../etc/passwd" in its package folder: its path leaves the folder"#),
        ("absolute", r#"the builder left "/etc/passwd" in its package folder: its path leaves the folder"#),
        ("link", r#"the builder left "out/shadow_1_all.deb" in its package folder: it is a link"#),
        ("device", r#"the builder left "out/null_1_all.deb" in its package folder: it is a device"#),
        ("cut", "hostile-demo: what it left is not taken"),
    ] {
        let socket = project.join(&format!("{kind}.sock")).to_string_lossy().into_owned();
        let _engine = Helper::start(Command::new("python3").arg(&script).args([&socket, kind]));
        project.write("hostile-demo/content", kind);
        let host = format!("unix://{socket}");
        project.run(&["repo", "--engine-host", &host]).fails_with(BUILD).says(reason).says("hint:");
        fs::remove_file(&socket).expect("its socket");
    }

    // A team's own builder image, on the real engine.
    let base = project.run(&["runtime", "--dockerfile"]).ok().out;
    let base = fs::read_to_string(base.trim()).expect("the Dockerfile");
    let base = base.lines().find_map(|line| line.strip_prefix("FROM ")).expect("a base").to_string();
    project.edit("twostage.toml", |text| {
        let team = "[[component]]\nname = \"team\"\nsource = \"team\"\ndockerfile = \"Dockerfile\"\npackages = \"/packages\"\n\n[runtime.";
        text.replacen("[runtime.", team, 1)
    });
    fs::create_dir(project.join("team")).expect("a folder");
    for (script, reason) in [
        (
            "mkdir /packages; ln -s /etc/shadow /packages/shadow_1_all.deb",
            r#""packages/shadow_1_all.deb" in its package folder: it is a link"#,
        ),
        ("mkdir /packages; mknod /packages/null_1_all.deb c 1 3", r#""packages/null_1_all.deb" in its package folder: it is a device"#),
        (
            "mkdir /packages; mkfifo /packages/pipe_1_all.deb",
            r#""packages/pipe_1_all.deb" in its package folder: it is not a regular file"#,
        ),
        ("mkdir -p /packages/deep_1_all.deb", r#""packages/deep_1_all.deb/" in its package folder: it is a folder"#),
        ("mkdir /packages; touch '/packages/a b;c.deb'", r#""packages/a b;c.deb" in its package folder: it is not a name of a package"#),
        (
            "mkdir /packages; touch \"$(printf '/packages/a\\nb.deb')\"",
            r#""packages/a\nb.deb" in its package folder: it is not a name of a package"#,
        ),
        ("mkdir /packages; touch /packages/.hidden.deb", r#""packages/.hidden.deb" in its package folder: it is not a name of a package"#),
        ("ln -s /etc /packages", r#"in its package folder: it is a link"#),
        ("true", "what it left in /packages is not taken"),
        ("mkdir /packages", "team: the build left no package"),
        ("mkdir /packages; cp /etc/passwd /packages/passwd_1_all.deb", "passwd_1_all.deb"),
    ] {
        project.write("team/Dockerfile", &format!("FROM {base}\nRUN {script}\n"));
        project.run(&["repo"]).fails_with(BUILD).says(reason).says("hint:");
    }
    assert_eq!(fs::read("/etc/passwd").expect("this machine's"), passwd);
    assert_eq!(project.snapshot(), before, "the channel has not moved");
    let left: Vec<_> = fs::read_dir(project.join(".twostage")).expect("the state").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("collected-")), "{left:?}");
    let _ = docker(&["image", "rm", "--force", "twostage-component:hello-team"]);
}

#[test]
fn a_package_of_the_same_name_and_version_with_other_content_is_not_published() {
    let project = Project::hello("twice");
    let file = deb(&project, "twice-demo", "1.0", "first");
    project.run(&["publish", &file]).ok();
    let before = project.snapshot();
    let other = deb(&project, "twice-demo", "1.0", "second");
    let more = deb(&project, "twice-more", "1.0", "more");
    project
        .run(&["publish", &more, &other])
        .fails_with(REPOSITORY)
        .says("twice-demo")
        .says("was published before with other content")
        .says("hint: give the changed package a new version");
    assert_eq!(project.snapshot(), before, "nothing is half-published");
    deb(&project, "twice-demo", "1.0", "first");
}

/// mmdebstrap hangs up on its whole process group when it cannot write: that must not be ours.
#[test]
fn a_bootstrap_that_fails_is_an_error_and_ends_nobody_else() {
    uses(Used::Engine);
    let project = Project::hello("base-fails");
    fs::create_dir(project.join("bin")).expect("a folder");
    // (Not HUP: whoever runs the tests may ignore that one, and then all below do.)
    project.write("bin/mmdebstrap", "#!/bin/sh\necho 'E: the disk is full' >&2\nkill -KILL 0\n");
    tool("chmod", &["755", &project.join("bin/mmdebstrap").to_string_lossy()]).ok();
    let path = format!("{}:{}", project.join("bin").display(), std::env::var("PATH").expect("a path"));
    let done = run(project.command(&["repo"]).env("PATH", path).process_group(0));
    done.fails_with(8).says("mmdebstrap failed").says("the disk is full");
}

//! The five kinds of base, all of the same root file system: the same digest, the same image.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Used, docker, run, tool, twostage, uses};
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

/// The configuration of the project's image, as `docker inspect` or the embedded engine's store has it.
fn config(on: On, image: &str) -> serde_json::Value {
    let archive = tempfile::NamedTempFile::new().expect("a file");
    on.save(image, archive.path());
    let script = "import json,sys,tarfile\nt=tarfile.open(sys.argv[1])\nm=json.load(t.extractfile('manifest.json'))[0]\n\
                  print(json.dumps(json.load(t.extractfile(m['Config']))['config']))";
    let text = tool("python3", &["-c", script, &archive.path().to_string_lossy()]).ok().out;
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_base_with_a_user_can_be_a_base_and_the_image_is_what_the_project_says() {
    uses(Used::Engine);
    let on = EMBEDDED;
    let project = Project::quick_on(on, Family::Deb, "settings", "settings-demo");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let base = project.read(&format!(".twostage/images/{}/Dockerfile", project.image));
    let base = base.lines().find_map(|line| line.strip_prefix("FROM ")).expect("a base").to_string();
    let folder = project.join("with-user");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("Dockerfile"), format!("FROM {base}\nUSER 4242\n")).expect("a file");
    let with_user = format!("{}-base", project.image);
    on.build(&folder, &with_user).ok();

    // Both stages on it: packages are built and installed as root, and the image keeps its base's user.
    project.edit("twostage.toml", |text| text.replacen("bootstrap = \"host\"", &format!("image = \"{with_user}\""), 1));
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    assert_eq!(config(on, &project.image)["User"], "4242");
    assert_eq!(on.run(&project.image, &["id", "-u"]), "4242\n");

    let settings = "user = { name = \"app\", uid = 1234 }\nworkdir = \"/usr/share/settings-demo\"\nvolumes = [\"/srv/data\"]\n\
                    stop_signal = \"SIGQUIT\"\nhealthcheck = { cmd = [\"true\", \"a b\"], interval = \"1m30s\", retries = 3 }\n";
    project.edit("twostage.toml", |text| format!("{text}{settings}"));
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let found = config(on, &project.image);
    let second = 1_000_000_000u64;
    assert_eq!(found["User"], "1234:1234", "Kubernetes can tell that from root");
    assert_eq!(found["WorkingDir"], "/usr/share/settings-demo");
    assert_eq!(found["Volumes"], serde_json::json!({ "/srv/data": {} }));
    assert_eq!(found["StopSignal"], "SIGQUIT");
    assert_eq!(found["Healthcheck"], serde_json::json!({ "Test": ["CMD", "true", "a b"], "Interval": 90 * second, "Retries": 3 }));
    assert_eq!(on.run(&project.image, &["sh", "-c", "id -un; id -gn; pwd"]), "app\napp\n/usr/share/settings-demo\n");

    // A folder that no package has would be a layer of its own; a user that is somebody else is no user of that number.
    project.edit("twostage.toml", |text| text.replace("/usr/share/settings-demo", "/srv/none"));
    project.run(&["runtime"]).fails_with(7).says("workdir /srv/none is no folder of this image");
    project
        .edit("twostage.toml", |text| text.replace("/srv/none", "/").replace("name = \"app\", uid = 1234", "name = \"games\", uid = 1234"));
    project.run(&["repo"]).fails_with(3).says("`/` in `workdir` is not an absolute folder");
    project.edit("twostage.toml", |text| text.replace("workdir = \"/\"\n", ""));
    project.run(&["runtime"]).fails_with(7).says("user games has the ids 5:60; the project file says 1234");
    on.remove(&with_user);
}

#[test]
fn an_image_above_another_one_of_the_project_is_made_after_it_and_the_lock_follows() {
    uses(Used::Engine);
    uses(Used::Apt);
    let on = EMBEDDED;
    let project = Project::quick_on(on, Family::Deb, "above", "low-demo");
    project.add_quick("high-demo");
    let (low, high) = (project.image.clone(), format!("{}-high", project.image));
    project.edit("twostage.toml", |text| format!("{text}\n[runtime.{high}]\npackages = [\"high-demo\"]\nbase = {{ image = \"{low}\" }}\n"));
    project.run(&["repo"]).ok();
    // The one that was named needs the other one, which is made first.
    project.run(&["runtime", &high]).ok();
    let contents = ["sh", "-c", "cat /usr/share/low-demo/content /usr/share/high-demo/content"];
    assert_eq!(on.run(&high, &contents), "first\nfirst\n");
    let (below, above) = (on.diff_ids(&low), on.diff_ids(&high));
    assert_eq!(above[..below.len()], below, "its layers are below");
    assert_eq!(above.len(), below.len() + 1, "one layer each");
    let lock = project.read("twostage.lock");
    assert!(!lock.contains(&format!("name = \"image {low}")), "what the project makes is not locked: {lock}");
    assert!(lock.contains(&format!("\"above {low} ")), "{lock}");

    // What is below changes: what is above follows.
    project.write("low-demo/content", "second\n");
    project.run(&["repo"]).ok();
    let outcomes = Project::outcomes(&project.run(&["--json", "runtime"]).ok());
    assert_eq!((&*outcomes[&low], &*outcomes[&high]), ("done", "done"));
    assert_eq!(on.run(&high, &contents), "second\nfirst\n");
    let outcomes = Project::outcomes(&project.run(&["--json", "runtime"]).ok());
    assert_eq!((&*outcomes[&low], &*outcomes[&high]), ("unchanged", "unchanged"));
}

#[test]
fn runtime_follows_a_channel_that_was_moved_back() {
    uses(Used::Engine);
    let on = EMBEDDED;
    let project = Project::quick_on(on, Family::Deb, "moved-back", "moved-demo");
    project.run(&["repo"]).ok();
    let first = project.snapshot();
    project.write("moved-demo/content", "second\n");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let content = ["cat", "/usr/share/moved-demo/content"];
    assert_eq!(on.run(&project.image, &content), "second\n");
    project.run(&["channel", "main", "--to", &first]).ok();
    project.run(&["runtime"]).ok();
    assert_eq!(on.run(&project.image, &content), "first\n");
    assert_eq!(on.label(&project.image, "twostage.snapshot"), first);
}

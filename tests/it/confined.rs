//! A project file is data: what it names lies below its folder, and what is not twostage's is not touched.

use crate::support::{Done, give_key, run, tool, twostage};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

const PROJECT: i32 = 3;
const REPOSITORY: i32 = 5;

/// A project's folder and, beside it, what is none of the project's.
struct Place {
    whole: tempfile::TempDir,
}

impl Place {
    fn new(settings: &str) -> Place {
        let place = Place { whole: tempfile::tempdir().expect("a folder") };
        for folder in ["project/greet/debian", "project/conf", "outside/tmp/writer-AbCdEf", "outside/layout/blobs/sha256"] {
            fs::create_dir_all(place.whole.path().join(folder)).expect("a folder");
        }
        for file in ["outside/tmp/thesis.txt", "outside/tmp/writer-AbCdEf/thesis.txt", "outside/secret", "outside/layout/index.json"] {
            fs::write(place.whole.path().join(file), "three years of work").expect("a file");
        }
        fs::write(place.at("greet/debian/control"), "Source: greet\n").expect("a file");
        fs::write(place.at("conf/greet"), "hello\n").expect("a file");
        place.write(settings);
        place
    }

    fn write(&self, settings: &str) {
        let base = if settings.contains("[base]") { "" } else { "[base]\nimage = \"debian\"\n" };
        fs::write(self.at("twostage.toml"), format!("[project]\nname = \"demo\"\n{base}{settings}")).expect("a project file");
    }

    fn at(&self, name: &str) -> PathBuf {
        self.whole.path().join("project").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.whole.path().join("outside")
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.at(name)).expect("a link");
    }

    fn run(&self, arguments: &[&str]) -> Done {
        run(twostage().arg("--project").arg(self.at("")).args(arguments))
    }
}

/// Every file below a folder, with its bytes; links as what they say.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            found.insert(path.clone(), "a folder".into());
            found.extend(tree(&path));
        } else if kind.is_symlink() {
            found.insert(path.clone(), fs::read_link(&path).expect("a link").display().to_string());
        } else {
            found.insert(path.clone(), fs::read_to_string(&path).unwrap_or_default());
        }
    }
    found
}

#[test]
fn files_of_the_host_are_not_the_projects_by_whatever_link_it_names_them() {
    let place = Place::new("");
    place.link("file", "../outside/secret");
    place.link("absolute", "/etc/shadow");
    place.link("folder", "../outside");
    place.link("chain", "conf/more");
    place.link("conf/more", "../file");
    place.link("layout", "../outside/layout");
    place.link("control", "greet-out/debian/control");
    fs::create_dir_all(place.at("component/debian")).expect("a folder");
    place.link("component/debian/control", "../../../outside/secret");
    fs::create_dir_all(place.at("with-dockerfile")).expect("a folder");
    place.link("with-dockerfile/Dockerfile", "../absolute");
    let component = |rest: &str| format!("[[component]]\nname = \"greet\"\nsource = {rest}\n");
    let image = |rest: &str| format!("[runtime.demo]\npackages = [\"greet\"]\n{rest}\n");
    let base = |rest: &str| format!("[base]\n{rest}\n");
    for (settings, line, names) in [
        (image("files = { \"/etc/x\" = \"file\" }"), 7, "`file` is a link to `../outside/secret`"),
        (image("files = { \"/etc/x\" = \"absolute\" }"), 7, "`absolute` is a link to `/etc/shadow`"),
        (
            image("files = { \"/etc/x\" = { source = \"folder/secret\" } }"),
            7,
            "`folder/secret` goes through `folder`, a link to `../outside`",
        ),
        (image("files = { \"/etc/x\" = \"chain\" }"), 7, "`chain` goes through `file`, a link to `../outside/secret`"),
        (base("archive = \"file\""), 3, "`file` is a link"),
        (base("rootfs = \"folder/secret\""), 3, "`folder/secret` goes through"),
        (base("layout = \"layout\""), 3, "`layout` is a link"),
        (image("base = { rootfs = \"file\" }"), 7, "`file` is a link"),
        (component("\"folder\""), 7, "`folder` is a link"),
        (component("\"component\""), 7, "`component/debian/control` is a link"),
        (component("\"greet\"\npatches = [\"file\"]"), 8, "`file` is a link"),
        (
            component("\"with-dockerfile\"\ndockerfile = \"Dockerfile\"\npackages = \"/p\""),
            7,
            "goes through `absolute`, a link to `/etc/shadow`",
        ),
        ("[repository]\npath = \"folder/repository\"\n".into(), 6, "`folder/repository` goes through `folder`"),
        ("[repository]\nkey = \"file\"\n".into(), 6, "`file` is a link"),
    ] {
        place.write(&settings);
        let before = tree(&place.outside());
        for command in [&["channel"][..], &["export", "/dev/null"], &["repo"], &["runtime", "--dockerfile"], &["lock"]] {
            let refused = place.run(command).fails_with(PROJECT).says(names).says("leads out of").says("hint: ");
            assert!(refused.err.contains(&format!("twostage.toml:{line}: ")), "line {line}: {}", refused.err);
        }
        assert_eq!(tree(&place.outside()), before, "{settings}");
    }
    // Links that stay inside are what they are on every other machine, too.
    place.link("inside", "conf/greet");
    place.write(&image("files = { \"/etc/x\" = \"inside\" }"));
    place.run(&["channel"]).ok();
}

#[test]
fn neither_state_nor_key_is_published_by_whatever_name() {
    let place = Place::new("");
    give_key(&place.at(""));
    fs::create_dir(place.at("keys")).expect("a folder");
    tool("cp", &["-a", &place.at(".twostage/repository/key/signing.asc").to_string_lossy(), &place.at("keys/team.asc").to_string_lossy()])
        .ok();
    place.link("to-key", ".twostage/repository/key/signing.asc");
    place.link("to-state", ".twostage");
    place.link("to-team", "keys/team.asc");
    place.link("to-repository", "repo/key/signing.asc");
    let repository = "[repository]\npath = \"repo\"\nkey = \"keys/team.asc\"\n";
    place.write(repository);
    place.run(&["export", "/dev/null"]).ok();
    let null = fs::metadata("/dev/null").expect("it is there");
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&null.file_type()), "what is a device stays one");
    fs::create_dir_all(place.at("repo/key")).expect("a folder");
    fs::copy(place.at("keys/team.asc"), place.at("repo/key/signing.asc")).expect("a key");
    for file in ["to-key", "to-state/repository/key/signing.asc", "to-team", "to-repository", "repo/key/signing.asc", "./keys/team.asc"] {
        place.write(&format!("{repository}[runtime.demo]\npackages = [\"greet\"]\nfiles = {{ \"/etc/x\" = \"{file}\" }}\n"));
        let refused = place.run(&["repo"]).fails_with(PROJECT);
        let why = ["which is not for the project's files", "is a file of the project", "holds `repo/key/signing.asc`"];
        assert!(why.iter().any(|why| refused.err.contains(why)), "{file}: {}", refused.err);
    }
}

#[test]
fn opening_a_project_removes_nothing_that_it_has_not_made() {
    let place = Place::new("");
    // Folders of the project's own that are no repository, and one that leads out.
    for folder in ["data/tmp/writer-AbCdEf", "linked", "marked/tmp"] {
        fs::create_dir_all(place.at(folder)).expect("a folder");
    }
    fs::write(place.at("data/tmp/writer-AbCdEf/thesis.txt"), "three years of work").expect("a file");
    place.link("linked/tmp", "../../outside");
    // Whoever made this one knows what a repository looks like.
    for file in ["marked/lock", "marked/twostage-repository", "marked/tmp/thesis.txt"] {
        fs::write(place.at(file), "three years of work").expect("a file");
    }
    place.link("marked/tmp/writer-AbCdEf", "../../../outside");
    let outside = place.outside().display().to_string();
    let commands = [
        &["channel"][..],
        &["channel", "main"],
        &["serve", "--listen", "127.0.0.1:0"],
        &["publish", "no-such-file.deb"],
        &["export", "/dev/null"],
    ];
    for path in ["../outside", ".", "", "/", outside.as_str(), "..", "data", "data/tmp", "linked", "marked"] {
        place.write(&format!("[repository]\npath = \"{path}\"\n"));
        let _ = fs::remove_dir_all(place.at(".twostage"));
        let before = tree(place.whole.path());
        for command in commands {
            let refused = place.run(command);
            assert!([PROJECT, REPOSITORY].contains(&refused.status), "{path} {command:?}: {}", refused.err);
            let _ = fs::remove_dir_all(place.at(".twostage"));
            assert_eq!(tree(place.whole.path()), before, "{path} {command:?}");
        }
    }
    // Nor does one that a person names, if it is something else.
    place.write("");
    let before = tree(&place.outside());
    place.run(&["channel", "--repository", &outside]).fails_with(PROJECT).says("which is not twostage's: nothing is written there");
    assert_eq!(tree(&place.outside()), before);
}

#[test]
fn a_person_may_keep_repository_and_key_elsewhere_and_the_project_may_not() {
    let place = Place::new("[repository]\nkey = \"/etc/ssl/private/x\"\n");
    let elsewhere = place.whole.path().join("elsewhere");
    let (repository, key) = (elsewhere.join("repo").display().to_string(), elsewhere.join("key.asc").display().to_string());
    place
        .run(&["channel"])
        .fails_with(PROJECT)
        .says("twostage.toml:6: `/etc/ssl/private/x` is not a path below")
        .says("--key")
        .says("TWOSTAGE_KEY");
    place.write("");
    give_key(&place.at(""));
    fs::create_dir(&elsewhere).expect("a folder");
    tool("cp", &["-a", &place.at(".twostage/repository/key/signing.asc").to_string_lossy(), &key]).ok();
    fs::remove_dir_all(place.at(".twostage")).expect("removed");
    place.run(&["export", "/dev/null", "--repository", &repository, "--key", &key]).ok();
    assert!(Path::new(&repository).join("twostage-repository").is_file());
    assert!(!Path::new(&repository).join("key").exists() && !place.at(".twostage/repository").exists());
    let mut by_variables = twostage();
    by_variables.env("TWOSTAGE_REPOSITORY", &repository).env("TWOSTAGE_KEY", &key);
    run(by_variables.arg("--project").arg(place.at("")).arg("channel")).ok();
    assert!(!place.at(".twostage/repository").exists());
}

#[test]
fn the_state_is_a_real_folder_that_only_its_owner_looks_into() {
    let place = Place::new("");
    place.run(&["channel"]).ok();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o7777;
    assert_eq!(mode(&place.at(".twostage")), 0o700);
    tool("chmod", &["755", &place.at(".twostage").to_string_lossy()]).ok();
    place.run(&["channel"]).ok();
    assert_eq!(mode(&place.at(".twostage")), 0o700, "one that an earlier twostage made, too");
    // Whoever packed the project could have put anything in there.
    let outside = place.outside();
    for (name, target) in [
        (".twostage", "../outside"),
        (".twostage/logs", "../../outside"),
        (".twostage/logs/greet.log", "../../../outside/secret"),
        (".twostage/images", "/etc"),
        (".twostage/images/demo/Dockerfile", "../../../../outside/secret"),
        (".twostage/sources", "../../outside"),
        (".twostage/repository", "../../outside"),
        (".twostage/repository/tmp", "../../../outside/tmp"),
        (".twostage/repository/pool/ab", "../../../../outside"),
        (".twostage/repository/channels/main.json", "../../../../outside/secret"),
        (".twostage/turn", "../../outside/secret"),
        (".twostage/id", "/etc/hostname"),
    ] {
        fs::remove_dir_all(place.at(".twostage")).expect("removed");
        fs::create_dir_all(place.at(name).parent().expect("a folder")).expect("a folder");
        place.link(name, target);
        let before = tree(&outside);
        for command in
            [&["channel"][..], &["repo"], &["runtime"], &["publish", "x.deb"], &["export", "/dev/null"], &["load"], &["audit", "oci:x"]]
        {
            let refused = place.run(command).says("hint: ");
            assert!(refused.status != 0 && refused.err.contains(name), "{name} {command:?}: {}", refused.err);
            assert!(refused.err.contains("link"), "{name} {command:?}: {}", refused.err);
        }
        assert_eq!(tree(&outside), before, "{name}");
        if name == ".twostage" {
            fs::remove_file(place.at(name)).expect("removed");
            fs::create_dir(place.at(name)).expect("a folder");
        }
    }
}

#[test]
fn the_project_file_and_the_lock_are_files_of_the_folder() {
    let place = Place::new("");
    let text = fs::read_to_string(place.at("twostage.toml")).expect("the project file");
    fs::write(place.outside().join("twostage.toml"), &text).expect("a file");
    fs::write(place.outside().join("twostage.lock"), "version = 1\n").expect("a file");
    let before = tree(&place.outside());
    fs::remove_file(place.at("twostage.toml")).expect("removed");
    place.link("twostage.toml", "../outside/twostage.toml");
    place.run(&["channel"]).fails_with(PROJECT).says("`twostage.toml` is a link to `../outside/twostage.toml`, which leads out of");
    fs::remove_file(place.at("twostage.toml")).expect("removed");
    assert!(tool("mkfifo", &[&place.at("twostage.toml").to_string_lossy()]).status == 0);
    place.run(&["channel"]).fails_with(PROJECT).says("there is no project file");
    fs::remove_file(place.at("twostage.toml")).expect("removed");
    fs::write(place.at("production.toml"), text.replace("image = \"debian\"", "bootstrap = \"host\"")).expect("a file");
    place.link("twostage.toml", "production.toml");
    place.run(&["channel"]).ok();
    for target in ["../outside/twostage.lock", "/etc/shadow"] {
        place.link("twostage.lock", target);
        place.run(&["channel"]).fails_with(PROJECT).says(&format!("`twostage.lock` is a link to `{target}`, which leads out of"));
        fs::remove_file(place.at("twostage.lock")).expect("removed");
    }
    assert!(tool("mkfifo", &[&place.at("twostage.lock").to_string_lossy()]).status == 0);
    place.run(&["channel"]).fails_with(PROJECT).says("twostage.lock is a pipe, not a file");
    assert_eq!(tree(&place.outside()), before);
}

#[test]
fn init_brings_no_file_of_the_host_into_the_folder() {
    let place = Place::new("");
    fs::remove_file(place.at("twostage.toml")).expect("removed");
    place.link(".gitignore", "../outside/secret");
    place.run(&["init"]).fails_with(PROJECT).says("`.gitignore` is a link to `../outside/secret`, which leads out of");
    assert!(!place.at("twostage.toml").exists(), "nothing is half-done");
    // What is there already is not written through, either.
    fs::remove_file(place.at(".gitignore")).expect("removed");
    place.link("Makefile", "../outside/Makefile");
    place.run(&["init"]).ok();
    assert!(!place.outside().join("Makefile").exists());
}

#[test]
fn a_key_that_a_person_keeps_in_the_folder_is_not_the_projects_either() {
    let place = Place::new("[runtime.demo]\npackages = [\"greet\"]\nfiles = { \"/etc/x\" = \"keys/mine.asc\" }\n");
    give_key(&place.at(""));
    fs::create_dir(place.at("keys")).expect("a folder");
    let key = place.at("keys/mine.asc").display().to_string();
    tool("cp", &["-a", &place.at(".twostage/repository/key/signing.asc").to_string_lossy(), &key]).ok();
    let refused = place.run(&["export", "/dev/null", "--key", &key]).fails_with(PROJECT);
    assert!(refused.err.contains("twostage.toml:7: ") && refused.err.contains("is not for the project's files"), "{}", refused.err);
}

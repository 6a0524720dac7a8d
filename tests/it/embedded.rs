//! The commands that make the embedded engine useful by itself: run, load, push, doctor, and the layout in the project.

use crate::engines::Other;
use crate::on::{EMBEDDED, On};
use crate::registry::Registry;
use crate::support::{Done, Family, Project, Used, docker, image_name, root, run, tool, twostage, uses};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A store of its own, and images in it that are made of a shell and coreutils.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new(test: &str) -> Place {
        Place { folder: tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder") }
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whatever the command is, it works with this store and without a daemon.
    pub fn of(&self, mut command: Command) -> Command {
        command.env("TWOSTAGE_STORE", self.join("store")).env("TWOSTAGE_ENGINE", "embedded");
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.of(twostage());
        // (Nothing there is a project, unless a test says so.)
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments))
    }

    /// Makes an image; gives its id.
    pub fn image(&self, name: &str, steps: &str) -> String {
        let context = self.join("context");
        fs::create_dir_all(&context).expect("a folder");
        let script = root().join("tests/tools/small_base.sh");
        if !context.join("base.tar").exists() {
            run(Command::new(script).args(["--tar", &context.join("base.tar").to_string_lossy()])).ok();
        }
        fs::write(context.join("Dockerfile"), format!("FROM scratch\nADD base.tar /\nENV PATH=/bin:/usr/bin\n{steps}")).expect("a file");
        self.run(&["compile", "--tag", name, "context"]).ok().last_line().to_string()
    }

    /// What is left of containers.
    pub fn left(&self) -> Vec<PathBuf> {
        let in_folder = |name: &str| fs::read_dir(self.join("store").join(name)).expect("the store").flatten().map(|entry| entry.path());
        ["containers", "incoming", "trash"].into_iter().flat_map(in_folder).collect()
    }
}

/// Id and layers, as docker tells them.
fn inspected(image: &str) -> (String, Vec<String>) {
    let out = docker(&["image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", image]).ok().out;
    let (id, layers) = out.trim().split_once(' ').expect("two words");
    (id.to_string(), serde_json::from_str(layers).expect("docker writes JSON"))
}

/// The last line of standard output that is an object.
fn result(done: &Done) -> Value {
    done.out.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back().expect("a result")
}

#[test]
fn a_command_may_be_given_less_time_than_any_and_a_daemon_is_not_asked_for_that() {
    let place = Place::new("limited");
    place.image("app", "CMD [\"sleep\", \"60\"]\n");
    let began = std::time::Instant::now();
    place.run(&["run", "--time-limit", "1s", "app"]).fails_with(4).says("sleep did not end within 1 seconds and was ended").says("hint:");
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    place.run(&["run", "--time-limit", "1m", "--memory", "1G", "app", "sh", "-c", "exit 0"]).ok();
    place.run(&["run", "--memory", "much", "app"]).fails_with(2).says("4G");
    let docker = twostage().args(["flatten", "--engine", "docker", "--memory", "1G", "app"]).output().expect("it runs");
    assert_eq!(docker.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&docker.stderr).contains("limits its containers itself"), "{docker:?}");
}

/// The commands of the README, with nothing that says which engine is meant.
#[test]
fn where_no_daemon_listens_this_is_the_engine_and_where_one_does_it_is_not() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::quick_on(EMBEDDED, Family::Deb, "no-daemon", "no-daemon-demo");
    // In a mount namespace of its own, where the sockets of this machine's daemons are none.
    let script = "for socket in /run/docker.sock /run/podman/podman.sock; do \
        test ! -e $socket || mount --bind /dev/null $socket || exit 99; done; exec \"$@\"";
    let alone = |arguments: &[&str]| {
        let command = project.command(arguments);
        let mut apart = Command::new("unshare");
        apart.args(["--mount", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
        apart.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for name in ["TWOSTAGE_ENGINE", "DOCKER_HOST", "CONTAINER_HOST", "XDG_RUNTIME_DIR"] {
            apart.env_remove(name);
        }
        run(&mut apart)
    };
    alone(&["repo"]).ok();
    let built = alone(&["runtime"]).ok();
    let id = EMBEDDED.id_of(&project.image).expect("it is in the store");
    assert!(built.last_line().contains(&id["sha256:".len()..][..12]), "{}", built.out);
    assert_eq!(On::Docker.id_of(&project.image), None, "nobody else has it");
    // Docker listens outside, and is asked.
    let mut beside = project.command(&["runtime"]);
    run(beside.env_remove("TWOSTAGE_ENGINE")).ok();
    assert!(On::Docker.id_of(&project.image).is_some(), "Docker has it now");
    docker(&["image", "rm", "--force", &project.image]).ok();
}

#[test]
fn an_image_runs_without_a_daemon_as_docker_would_run_it_and_nothing_is_kept() {
    let place = Place::new("run");
    place.image(
        "app",
        "ENV WORD=image\nUSER app\nWORKDIR /tmp\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"echo $WORD; echo oops >&2; id -u; pwd; exit 7\"]\n",
    );
    let own = place.run(&["--quiet", "run", "app"]).fails_with(7);
    assert_eq!((own.out.as_str(), own.err.as_str()), ("image\n1000\n/tmp\n", "oops\n"), "the two outputs stay apart");
    // Words behind the image are its command; what they look like does not count.
    assert_eq!(place.run(&["run", "-e", "WORD=mine", "app", "echo $WORD; touch /tmp/x"]).ok().out, "mine\n");
    let command = place.command(&["run", "-e", "WORD", "-u", "root", "-w", "/data", "app", "echo $WORD $(id -u) $(pwd); ls /tmp"]);
    let mut command = command;
    assert_eq!(run(command.env("WORD", "outside")).ok().out, "outside 0 /data\n", "nothing of the run before is there");
    assert_eq!(place.run(&["run", "--rm", "--entrypoint", "head", "app", "-c", "3", "/data/old"]).ok().out, "old");
    // Bytes are passed on as they are, and a signal's status is a shell's.
    let bytes = place.command(&["run", "app", "printf 'a\\377\\rb'; sh -c 'kill -9 $$'; exit $?"]).output().expect("it runs");
    assert_eq!((bytes.stdout.as_slice(), bytes.status.code()), (&b"a\xff\rb"[..], Some(137)));
    // The network is there only for who asks.
    let links = |network: &[&str]| place.run(&[&["run"], network, &["app", "cat /proc/net/dev"]].concat()).ok().out.lines().count();
    assert_eq!(links(&[]), 3);
    let here = || fs::read_to_string("/proc/net/dev").expect("this machine's").lines().count();
    // (Docker's containers come and go.)
    let steady = (0..100).find_map(|_| Some((here(), links(&["--network", "host"]))).filter(|(before, _)| *before == here()));
    let (here, host) = steady.expect("the same interfaces before and after");
    assert_eq!(host, here);
    assert_eq!(place.left(), Vec::<PathBuf>::new());

    place.run(&["run", "ap"]).fails_with(6).says("the embedded engine has no image ap").says("write `app`");
    place.run(&["run", "--entrypoint", "nothing", "app"]).fails_with(127).says("cannot start nothing").says("a program that the image has");
    place.run(&["run", "-e", "=x", "app"]).fails_with(2).says("has no name");
    place.image("silent", "");
    place.run(&["run", "silent"]).fails_with(2).says("says no command").says("twostage run silent COMMAND");
}

#[test]
fn docker_runs_an_image_the_same_way_and_gets_it_bit_for_bit() {
    uses(Used::Engine);
    let place = Place::new("load");
    let name = image_name("load");
    let id = place.image(&name, "ENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"echo out; echo err >&2; exit 3\"]\n");
    let loaded = place.run(&["--json", "load", &name, "--into", "docker"]).ok();
    let told = result(&loaded);
    assert_eq!((told["event"].as_str(), told["id"].as_str()), (Some("loaded"), id.strip_prefix("sha256:")));
    let (there, layers) = inspected(&name);
    assert_eq!(there, id);
    let config = fs::read(place.join("store/images/blobs/sha256").join(&id[7..])).expect("the configuration");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(serde_json::to_value(&layers).ok().as_ref(), Some(&config["rootfs"]["diff_ids"]));
    for engine in ["embedded", "docker"] {
        let ran = run(place.of(twostage()).args(["--quiet", "run", "--engine", engine, &name])).fails_with(3);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"), "by {engine}");
    }
    let containers = docker(&["ps", "--all", "--quiet", "--filter", &format!("ancestor={name}")]).ok().out;
    assert_eq!(containers, "", "no container is left in docker");
    docker(&["image", "rm", "--force", &name]).ok();

    // Podman, too, where that listens.
    let podman = Other::podman();
    let host = podman.service.line.as_str();
    place.run(&["load", &name, "--into", "podman", "--engine-host", host]).ok();
    let in_podman = |arguments: &[&str]| tool("podman", &[&["--remote", "--url", host][..], arguments].concat());
    let there = in_podman(&["image", "inspect", "--format", "sha256:{{.Id}} {{json .RootFS.Layers}}", &name]).ok().out;
    let (there, in_layers) = there.trim().split_once(' ').expect("two words");
    assert_eq!((there, serde_json::from_str(in_layers).ok()), (id.as_str(), Some(layers)));
    in_podman(&["image", "rm", "--force", &name]).ok();

    // Whatever is no image of ours says so.
    place.run(&["load", &name.replace("load", "laod")]).fails_with(6).says(&format!("write `{name}`"));
    place.run(&["load"]).fails_with(2).says("there is no project here").says("twostage load NAME");
    place.run(&["load", &format!("docker-daemon:{name}")]).fails_with(6).says("has no image");
    let nowhere = place.run(&["load", &name, "--engine-host", "unix:///nowhere.sock"]).fails_with(6);
    assert!(nowhere.err.contains("neither Docker nor Podman") && nowhere.err.contains("/nowhere.sock"), "{}", nowhere.err);
}

#[test]
fn a_pushed_image_has_the_digests_that_it_had_and_is_a_base_for_the_embedded_engine() {
    let place = Place::new("push");
    let id = place.image("app", "RUN echo pushed > /pushed\nCMD [\"cat\", \"/pushed\"]\n");
    place.run(&["push", "app", "oci:somewhere"]).fails_with(2).says("in no registry").says("docker://HOST/NAME:TAG");
    place.run(&["push", "ap", "docker://127.0.0.1:1/app"]).fails_with(6).says("write `app`");
    let registry = Registry::start(None);
    let remote = format!("{}/team/app:1", registry.address);
    let pushed = result(&place.run(&["--json", "push", "app", &format!("docker://{remote}")]).ok());
    let manifest = format!("sha256:{}", pushed["manifest"].as_str().expect("a digest"));
    let skopeo =
        |more: &[&str]| tool("skopeo", &[&["inspect", "--tls-verify=false"], more, &[&format!("docker://{remote}")]].concat()).ok().out;
    let there: Value = serde_json::from_str(&skopeo(&["--raw"])).expect("JSON");
    assert_eq!(there["config"]["digest"].as_str(), Some(id.as_str()), "the registry has the same configuration");
    assert_eq!(serde_json::from_str::<Value>(&skopeo(&[])).expect("JSON")["Digest"].as_str(), Some(manifest.as_str()));
    let kept = fs::read(place.join("store/images/blobs/sha256").join(&manifest[7..])).expect("the store has that manifest");
    assert_eq!(skopeo(&["--raw"]).as_bytes(), kept, "byte for byte");

    // Another store pulls it, by its name and by its digest, once.
    let other = Place::new("pull");
    fs::create_dir(other.join("context")).expect("a folder");
    let by_digest = format!("{}/team/app@{manifest}", registry.address);
    for from in [&remote, &by_digest] {
        fs::write(other.join("context/Dockerfile"), format!("FROM {from}\nRUN echo more >> /pushed\n")).expect("a file");
        other.run(&["compile", "--tag", "more", "context"]).ok();
        assert_eq!(other.run(&["run", "more"]).ok().out, "pushed\nmore\n", "from {from}");
    }
    assert_eq!(other.run(&["run", &by_digest]).ok().out, "pushed\n", "an image is known by the digest of its registry");
    drop(registry);
    other.run(&["compile", "--tag", "more", "context"]).ok();
    fs::write(other.join("context/Dockerfile"), format!("FROM {}2\n", remote)).expect("a file");
    other.run(&["compile", "context"]).fails_with(7).says(&format!("cannot pull {remote}2")).says("is the registry there");
}

#[test]
fn doctor_tries_what_there_is_and_says_what_to_do() {
    let place = Place::new("doctor");
    let nowhere = |command: &mut Command| {
        for name in ["DOCKER_HOST", "CONTAINER_HOST"] {
            command.env(name, format!("unix://{}", place.join("no.sock").display()));
        }
        run(command)
    };
    let told = nowhere(&mut place.command(&["doctor"])).ok();
    assert!(told.out.contains("embedded  works") && told.out.contains("docker    does not work"), "{}", told.out);
    assert!(told.out.contains("limits            ") && told.out.contains("network           "), "{}", told.out);
    assert!(told.out.contains("overlay           ok") && told.out.contains("DOCKER_HOST"), "{}", told.out);
    assert!(!place.join("store").exists(), "nothing is made by looking");
    assert_eq!(fs::read_dir(place.folder.path()).expect("the folder").count(), 0, "and nothing is left");
    let report = result(&nowhere(&mut place.command(&["--json", "doctor"])).ok());
    let engine = |kind: &str| report["engines"].as_array().expect("engines").iter().find(|engine| engine["kind"] == kind).expect("it");
    assert_eq!((engine("embedded")["works"].as_bool(), engine("podman")["works"].as_bool()), (Some(true), Some(false)));
    assert!(engine("docker")["todo"].as_str().is_some_and(|todo| !todo.is_empty()), "{report}");

    // Where nothing works that is an error, after all that is known.
    let nothing = nowhere(place.command(&["doctor"]).env("TWOSTAGE_STORE", "/proc/nowhere")).fails_with(6);
    assert!(nothing.out.contains("no engine can be used"), "{}", nothing.out);
    let nothing = nothing.says("no engine works on this machine").says("embedded: name a folder of yours in TWOSTAGE_STORE");
    assert!(nothing.err.contains("docker: "), "{}", nothing.err);
}

/// The blobs of a project's layout.
fn blobs(project: &Project) -> Vec<PathBuf> {
    let folder = project.join(".twostage/images/blobs/sha256");
    fs::read_dir(folder).expect("blobs").flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_runtime_image_is_a_layout_in_the_project_that_skopeo_reads_and_load_takes() {
    uses(Used::Engine);
    uses(Used::Apt);
    let place = Place::new("layout");
    let project = Project::built_hello("layout");
    let embedded = |arguments: &[&str]| run(&mut place.of(project.command(arguments)));
    embedded(&["load"]).fails_with(7).says("was not built by the embedded engine").says("runtime");
    let id = result(&embedded(&["--json", "runtime"]).ok())["digest"].as_str().expect("an id").to_string();
    let layout = format!("oci:{}:{}", project.join(".twostage/images").display(), project.image);
    let raw: Value = serde_json::from_str(&tool("skopeo", &["inspect", "--raw", &layout]).ok().out).expect("JSON");
    assert_eq!(raw["config"]["digest"].as_str(), Some(id.as_str()));
    assert!(blobs(&project).iter().all(|blob| fs::metadata(blob).expect("a blob").nlink() > 1), "the store and the project share files");

    // All that the project has goes to docker, by load and by skopeo, and is the same there.
    let loaded = embedded(&["load"]).ok();
    assert!(loaded.out.starts_with(&format!("{}:latest  {}", project.image, &id[..19])), "{}", loaded.out);
    let (there, layers) = inspected(&project.image);
    assert_eq!(there, id);
    docker(&["image", "rm", "--force", &project.image]).ok();
    tool("skopeo", &["copy", "--quiet", &layout, &format!("docker-daemon:{}:latest", project.image)]).ok();
    assert_eq!(inspected(&project.image).1, layers);
    let greeting = docker(&["run", "--rm", "--network=none", &project.image]).ok().out;
    assert_eq!(embedded(&["run", &project.image]).ok().out, greeting);

    // What was removed by hand comes again; another image takes the place of the first.
    fs::remove_file(&blobs(&project)[0]).expect("a blob");
    assert!(embedded(&["runtime"]).ok().err.contains("unchanged"));
    assert_eq!(blobs(&project).len(), raw["layers"].as_array().expect("layers").len() + 2);
    project.edit("twostage.toml", |text| text.replace("LANG = ", "A = \"b\", LANG = "));
    let other = result(&embedded(&["--json", "runtime"]).ok())["digest"].as_str().expect("an id").to_string();
    assert_ne!(other, id);
    assert!(!blobs(&project).iter().any(|blob| blob.ends_with(&id[7..])), "what only the earlier image had is gone");
    assert!(blobs(&project).iter().any(|blob| blob.ends_with(&other[7..])));
    // A name that is almost the image's.
    let almost = project.image.replace("layout", "layuot");
    embedded(&["load", &almost]).fails_with(6).says(&format!("write `{}`", project.image));
    // What docker builds by that name is in docker; the layout has no other image by it.
    project.run(&["runtime", "--engine", "docker"]).ok();
    assert_eq!(blobs(&project), Vec::<PathBuf>::new());
}

#[test]
fn an_image_that_is_not_the_same_twice_is_not_tagged_and_its_first_file_is_named() {
    uses(Used::Engine);
    uses(Used::Apt);
    let place = Place::new("twice");
    let project = Project::quick("twice", "tiny");
    project.run(&["repo"]).ok();
    let embedded = |arguments: &[&str]| run(&mut place.of(project.command(arguments)));
    let done = embedded(&["runtime", "--check-reproducible"]).ok();
    assert!(done.last_line().ends_with("reproducible: two builds, the same layers"), "{}", done.out);
    assert!(done.err.contains("built twice with the same layers"), "{}", done.err);
    let names = |store: &Path| fs::read_to_string(store.join("images/index.json")).expect("the index");
    assert!(!names(&place.join("store")).contains("unexamined"), "the second build's name is gone");
    project.run(&["runtime", "--check-reproducible", "--engine", "docker"]).ok();
    let unexamined = docker(&["images", "--format", "{{.Tag}}", "twostage-unexamined"]).ok().out;
    assert!(!unexamined.contains(&project.id()), "{unexamined}");
    docker(&["image", "rm", "--force", &project.image]).ok();

    project.write("tiny/debian/postinst", "#!/bin/sh\ndate +%N > /var/lib/dpkg/cmethopt\n");
    project.run(&["repo"]).ok();
    for engine in ["embedded", "docker"] {
        let refused = embedded(&["runtime", "--check-reproducible", "--engine", engine]).fails_with(1);
        let refused = refused.says("built twice, it is not the same image; nothing is tagged").says("/var/lib/dpkg/cmethopt differs first");
        assert!(refused.err.contains("content ("), "{}", refused.err);
    }
    assert_ne!(docker(&["image", "inspect", &project.image]).status, 0, "nothing is tagged");
    assert!(!names(&place.join("store")).contains("unexamined"));
}

#[test]
fn a_project_whose_base_is_in_a_registry_pulls_it_once_without_a_daemon_and_pins_its_digest() {
    uses(Used::Engine);
    uses(Used::Apt);
    let place = Place::new("base");
    let project = Project::quick("remote", "tiny");
    project.run(&["repo"]).ok();
    let embedded = |arguments: &[&str]| run(&mut place.of(project.command(arguments)));
    let registry = Registry::start(None);
    let base = format!("{}/base:1", registry.address);
    embedded(&["push", &format!("docker-daemon:{}", project.base()), &format!("docker://{base}")]).ok();
    project.edit("twostage.toml", |text| {
        let line = text.lines().find(|line| line.starts_with("bootstrap = ")).expect("the base").to_string();
        text.replace(&line, &format!("image = \"{base}\""))
    });
    // Pulled and pinned, by the digest that the registry knows; then it is there, and nobody asks the registry.
    embedded(&["repo"]).ok().says(&format!("pulling {base}"));
    let pull = project.read("twostage.lock").lines().find_map(|line| line.strip_prefix("pull = ").map(String::from)).expect("a digest");
    assert!(pull.starts_with(&format!("\"{}/base@sha256:", registry.address)), "{pull}");
    drop(registry);
    embedded(&["runtime"]).ok();
    let dockerfile = project.read(&format!(".twostage/images/{}/Dockerfile", project.image));
    assert!(dockerfile.contains(&format!("FROM {}", pull.trim_matches('"'))), "any other engine takes the same base: {dockerfile}");
}

//! A locked project on a machine that reaches no mirror.
//!
//! The other machine is a network namespace with nothing but loopback in it, with an engine of its
//! own, whose storage is another kind of file system: folders there list in another order.

use crate::support::{Done, Family, Project, Used, docker, root, run, skipped, tool, uses};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A network namespace, removed with its value.
struct Namespace(String);

impl Namespace {
    /// `Err` says why this machine gives none.
    fn new(test: &str) -> Result<Namespace, String> {
        let name = format!("twostage-test-{test}-{}", std::process::id());
        let ip = |arguments: &[&str]| {
            let done = Command::new("ip").args(arguments).output().map_err(|cause| format!("cannot run ip: {cause}"))?;
            if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).trim().to_string()) }
        };
        ip(&["netns", "add", &name])?;
        let namespace = Namespace(name);
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A command in it. (`ip netns exec` would hide the host's /sys, and dockerd needs its cgroups.)
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.0)).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// A dockerd in a namespace, with all of its own in one folder of memory.
struct SecondEngine {
    daemon: Child,
    folder: tempfile::TempDir,
}

impl SecondEngine {
    fn start(namespace: &Namespace) -> SecondEngine {
        // A socket's path has at most 107 bytes, so not in cargo's folder.
        let folder = tempfile::Builder::new().prefix("twostage-engine").tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        tool("mount", &["-t", "tmpfs", "-o", "size=4g", "tmpfs", &path("")]).ok();
        let log = std::fs::File::create(path("log")).expect("a log");
        let mut command = namespace.command("dockerd");
        command.args(["--bridge=none", "--iptables=false", "--data-root", &path("data"), "--exec-root", &path("exec")]);
        command.args(["-p", &path("pid"), "-H", &format!("unix://{}", path("socket"))]);
        let daemon = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("dockerd starts");
        let engine = SecondEngine { daemon, folder };
        let start = Instant::now();
        while engine.docker(&["version"]).status != 0 {
            let log = || std::fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "the second dockerd does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }

    fn docker(&self, arguments: &[&str]) -> Done {
        run(Command::new("docker").env("DOCKER_HOST", self.host()).args(arguments))
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        // It is dockerd itself: nsenter became it.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).output();
        let _ = self.daemon.wait();
        let _ = Command::new("umount").arg("--recursive").arg(self.folder.path()).output();
    }
}

/// Where this host's apt finds its distribution.
fn mirror() -> String {
    let out = tool("apt-get", &["indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"]).ok().out;
    out.lines().find(|line| line.contains("debian")).expect("a mirror of Debian").to_string()
}

fn curl(mut command: Command, url: &str) -> Done {
    run(command.args(["--silent", "--show-error", "--location", "--max-time", "20", "--output", "/dev/null", url]))
}

fn events<'a>(done: &'a Done, kind: &'a str) -> impl Iterator<Item = serde_json::Value> + 'a {
    let parsed = done.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    parsed.filter(move |event| event["event"] == kind)
}

#[test]
fn a_locked_project_becomes_the_same_image_where_no_mirror_is() {
    // What fontconfig and the MIME database write depends on whole folders.
    where_no_mirror_is(Family::Deb, "offline", "\"greet\", \"fontconfig\", \"shared-mime-info\"", &["importing it"]);
}

#[test]
fn a_locked_project_of_rpms_becomes_the_same_image_where_no_mirror_is() {
    // Its two bases are files of the project.
    let steps = ["reading rootfs builder.tar", "importing it", "reading rootfs base.tar", "importing it"];
    where_no_mirror_is(Family::Rpm, "offline-rpm", "\"greet\", \"jq\"", &steps);
}

/// `expected`: what it takes to get the bases there.
fn where_no_mirror_is(family: Family, test: &str, packages: &str, expected: &[&str]) {
    let namespace = match Namespace::new(test) {
        Ok(namespace) => namespace,
        Err(why) => return skipped(&format!("no network namespace can be made: {why}")),
    };
    uses(Used::Engine);
    family.uses();
    let mirror = mirror();
    curl(Command::new("curl"), &mirror).ok();
    let refused = curl(namespace.command("curl"), &mirror);
    assert!(matches!(refused.status, 5..=7), "{mirror} is not to be reached: {} {}", refused.status, refused.err);

    // Here, with a mirror.
    let here = Project::built(family, test);
    here.edit("twostage.toml", |text| text.replace("packages = [\"greet\"]", &format!("packages = [{packages}]")));
    here.run(&["repo"]).ok();
    here.run(&["runtime"]).ok();
    let archive = here.join("export.tar");
    here.run(&["export", &archive.to_string_lossy()]).ok();

    // There, without. Only the version-controlled files and the archive go over.
    let there = here.elsewhere();
    let engine = SecondEngine::start(&namespace);
    // (Nor does that machine have anything in its cache.)
    let cache = tempfile::tempdir().expect("a folder");
    let command = |arguments: &[&str]| {
        let mut command = namespace.command(env!("CARGO_BIN_EXE_twostage"));
        command
            .env("XDG_CACHE_HOME", cache.path())
            .env("DOCKER_HOST", engine.host())
            .env("NO_COLOR", "1")
            .arg("--project")
            .arg(there.path())
            .args(arguments);
        run(&mut command)
    };
    command(&["import", &archive.to_string_lossy()]).ok();
    let lock = there.read("twostage.lock");
    let repo = command(&["--json", "repo", "--locked"]).ok();
    let outcomes = Project::outcomes(&repo);
    assert!(outcomes.len() == 2 && outcomes.values().all(|outcome| outcome == "unchanged"), "{outcomes:?}");
    let steps: Vec<String> = events(&repo, "started").map(|event| format!("{} {}", event["subject"], event["step"])).collect();
    let expected: Vec<String> = expected.iter().map(|step| format!("\"base\" \"{step}\"")).collect();
    assert_eq!(steps, expected, "nothing is built and nothing asked");
    let containers =
        engine.docker(&["events", "--since", "0", "--until", &now(), "--filter", "type=container", "--filter", "event=start"]).ok().out;
    assert_eq!(containers, "", "no container is started for that");
    assert_eq!(there.read("twostage.lock"), lock);

    command(&["runtime"]).ok();
    let format = ["inspect", "--format", "{{json .RootFS.Layers}}", &here.image];
    let layers = [docker(&format).ok().out, engine.docker(&format).ok().out];
    if layers[0] != layers[1] {
        let saved = [here.join("here.tar"), here.join("there.tar")].map(|path| path.to_string_lossy().into_owned());
        docker(&["save", "--output", &saved[0], &here.image]).ok();
        engine.docker(&["save", "--output", &saved[1], &here.image]).ok();
        tool("python3", &[&root().join("tests/tools/diff_layers.py").to_string_lossy(), &saved[0], &saved[1]]).ok();
    }
    assert_eq!(layers[0], layers[1], "the same layers on both engines");
    let backing = engine.docker(&["info", "--format", "{{.DriverStatus}}"]).ok().out;
    assert!(backing.contains("tmpfs"), "another file system: {backing}");

    // A component that has changed is built there, too: what it is built with is in the export. (By the engine that needs
    // no daemon, with a store that has nothing yet.)
    let alone = |arguments: &[&str]| {
        let mut command = namespace.command(env!("CARGO_BIN_EXE_twostage"));
        command
            .env("XDG_CACHE_HOME", there.join("cache"))
            .env("TWOSTAGE_ENGINE", "embedded")
            .env("TWOSTAGE_STORE", there.join("store"))
            .env("NO_COLOR", "1");
        run(command.arg("--project").arg(there.path()).args(arguments))
    };
    there.edit("greet/greet.c", |text| text.replace("stranger", "visitor"));
    let outcomes = Project::outcomes(&alone(&["--json", "repo", "--locked"]).ok());
    let words = |name: &str| outcomes.get(name).map(String::as_str);
    assert_eq!((words("greet"), words("libgreet")), (Some("done"), Some("unchanged")), "{outcomes:?}");
    alone(&["runtime"]).ok();
    assert_eq!(there.read("twostage.lock"), lock);

    // The first engine has another key and another snapshot's server: nothing of it is in the layers.
    let (one, two) = (public_key(here.path()), public_key(there.path()));
    assert_ne!(one, two, "each machine signs with a key of its own");
}

fn now() -> String {
    tool("date", &["+%s.%N"]).ok().out.trim().to_string()
}

fn public_key(project: &Path) -> Vec<u8> {
    let key: PathBuf = project.join(".twostage/repository/key/signing.asc");
    std::fs::read(key).expect("the key")
}

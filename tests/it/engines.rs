//! Other engines than this machine's Docker: its Podman, and the two of Debian 13.

use crate::on::EMBEDDED;
use crate::support::{Family, Helper, Project, Used, docker, long, root, run, tool, uses};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// An engine of its own, which ends with its value.
pub struct Other {
    kind: &'static str,
    /// Its line is the address of its socket.
    pub service: Helper,
    // Last, as the service clears its own part of it away.
    folder: tempfile::TempDir,
}

impl Other {
    /// This machine's.
    pub fn podman() -> Other {
        Other::start("podman", |folder| {
            let mut command = Command::new(root().join("tests/tools/podman_service.sh"));
            command.arg(folder);
            command
        })
    }

    /// Docker 26 or Podman 5, as Debian 13 has them.
    pub fn of_trixie(kind: &'static str) -> Other {
        Other::start(kind, |folder| {
            let mut command = Command::new(root().join("tests/tools/trixie_engine.sh"));
            command.arg(kind).arg(folder).arg(env!("CARGO_TARGET_TMPDIR"));
            command
        })
    }

    /// `script` is given the folder that the engine has for itself.
    fn start(kind: &'static str, script: impl FnOnce(&Path) -> Command) -> Other {
        // A socket's path has at most 107 bytes, so not in cargo's folder.
        let folder = tempfile::Builder::new().prefix("twostage-engine").tempdir().expect("a folder");
        let service = Helper::start(script(&folder.path().join("service")).stdin(Stdio::piped()));
        assert!(service.line.starts_with("unix://"), "the engine did not start");
        Other { kind, service, folder }
    }

    fn run(&self, project: &Project, arguments: &[&str]) -> crate::support::Done {
        let host = if self.kind == "podman" { "CONTAINER_HOST" } else { "DOCKER_HOST" };
        let mut command = project.command(arguments);
        command.env_remove("DOCKER_HOST").env_remove("CONTAINER_HOST");
        run(command.args(["--engine", self.kind]).env(host, &self.service.line))
    }

    fn get(&self, target: &str, into: &Path) {
        let socket = self.service.line.trim_start_matches("unix://");
        let options = ["--silent", "--show-error", "--fail", "--unix-socket", socket, "--output", &into.to_string_lossy()];
        tool("curl", &[&options[..], &[&format!("http://d/v1.40{target}")]].concat()).ok();
    }

    fn version(&self) -> String {
        let file = self.folder.path().join("version");
        self.get("/version", &file);
        let version: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("its answer")).expect("JSON");
        version["Version"].as_str().expect("a version").to_string()
    }

    /// The project's image, as an archive.
    fn saved(&self, project: &Project) -> PathBuf {
        let path = project.join("other.tar");
        self.get(&format!("/images/{}/get", project.image), &path);
        path
    }

    /// Makes the image through both engines: nothing is other in it than what docs/decisions/podman.md
    /// says. (The base carries over: the locked tar is imported as it is.)
    fn makes_the_image_that_docker_makes(&self, project: &Project) {
        let said = self.run(project, &["-v", "runtime"]).ok();
        assert!(said.err.contains("running its check") && said.err.contains("audited clean"), "it was audited and checked: {}", said.err);
        let other = self.saved(project);

        project.run(&["runtime"]).ok();
        let saved = project.join("docker.tar");
        docker(&["save", "--output", &saved.to_string_lossy(), &project.image]).ok();
        let differ = root().join("tests/tools/diff_layers.py").to_string_lossy().into_owned();
        let differences = tool("python3", &[&differ, &saved.to_string_lossy(), &other.to_string_lossy(), "--meaning"]);
        // Podman's RUN leaves, empty, the files that it mounts over where the base has none.
        let mounted = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run"];
        let left = if self.kind == "podman" { mounted.map(|path| format!("{path}: only in the second\n")).concat() } else { "\n".into() };
        assert_eq!(differences.out, left);
    }
}

impl Other {
    /// The embedded engine's layers are this one's, to the last byte, and so are their diff_ids.
    fn writes_what_is_written_without_a_daemon(&self, project: &Project) {
        let mut alone = project.command(&["runtime"]);
        EMBEDDED.choose(&mut alone);
        run(&mut alone).ok();
        let saved = project.join("alone.tar");
        EMBEDDED.save(&project.image, &saved);
        let differ = root().join("tests/tools/diff_layers.py").to_string_lossy().into_owned();
        let differences = tool("python3", &[&differ, &saved.to_string_lossy(), &self.saved(project).to_string_lossy()]).out;
        assert!(differences.starts_with("the same layer sha256:"), "{differences}");
    }
}

/// Takes out of the lock what a component needs, so that it is asked for again.
fn forget_closure(project: &Project, component: &str) {
    project.edit("twostage.lock", |lock| {
        let closures = lock.split("\n[[closure]]\n").filter(|closure| !closure.starts_with(&format!("of = \"build:{component}\"")));
        closures.collect::<Vec<_>>().join("\n[[closure]]\n")
    });
}

/// Every package that the lock has, in its order.
fn locked_packages(project: &Project) -> Vec<String> {
    project.read("twostage.lock").lines().filter(|line| line.starts_with("  \"")).map(str::to_string).collect()
}

fn builds_through_podman(family: Family, test: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::built(family, test);
    let podman = Other::podman();
    // Its closure, its builder image and its build are Podman's; what comes out of that is what came out of Docker's.
    let locked = locked_packages(&project);
    forget_closure(&project, "greet");
    assert_ne!(locked_packages(&project), locked);
    project.edit("greet/greet.c", |text| text + "/* A word more. */\n");
    let repo = podman.run(&project, &["--json", "repo"]).ok();
    let outcomes: BTreeMap<String, String> =
        [("libgreet", "unchanged"), ("greet", "same")].map(|(name, outcome)| (name.to_string(), outcome.to_string())).into();
    assert_eq!(Project::outcomes(&repo), outcomes, "{}", repo.err);
    assert_eq!(locked_packages(&project), locked, "through both engines the package manager gives the same answer");
    podman.makes_the_image_that_docker_makes(&project);
    assert!(podman.folder.path().join("service/root").is_dir(), "nothing of it is elsewhere");
}

#[test]
fn podman_builds_the_same_debs_and_makes_the_same_files_of_them() {
    builds_through_podman(Family::Deb, "podman");
}

#[test]
fn podman_builds_the_same_rpms_and_makes_the_same_files_of_them() {
    builds_through_podman(Family::Rpm, "podman-rpm");
}

#[test]
fn docker_of_debian_13_makes_the_same_files() {
    engine_of_trixie("docker", "26.");
}

#[test]
fn podman_of_debian_13_makes_the_same_files() {
    if long() {
        engine_of_trixie("podman", "5.");
    }
}

/// Both examples, already built, through one engine. (That of rpms where it may take long.)
fn engine_of_trixie(kind: &'static str, version: &str) {
    uses(Used::Engine);
    let families: &[Family] = if long() { &[Family::Deb, Family::Rpm] } else { &[Family::Deb] };
    let projects: Vec<Project> = families
        .iter()
        .map(|family| {
            family.uses();
            Project::built(*family, &format!("trixie-{kind}-{family:?}").to_lowercase())
        })
        .collect();
    let bridge = Path::new("/sys/class/net/docker0");
    let had_bridge = bridge.exists();
    let start = Instant::now();
    let engine = Other::of_trixie(kind);
    let started = start.elapsed();
    assert!(engine.version().starts_with(version), "{kind} {}", engine.version());
    assert_eq!(bridge.exists(), had_bridge, "this machine's Docker keeps its bridge");
    projects.iter().for_each(|project| engine.makes_the_image_that_docker_makes(project));
    if kind == "docker" {
        projects.iter().for_each(|project| engine.writes_what_is_written_without_a_daemon(project));
    }
    eprintln!(
        "{kind} {}: {:.0} s, {:.0} s of it until it answered",
        engine.version(),
        start.elapsed().as_secs_f64(),
        started.as_secs_f64()
    );
}

#[test]
fn an_engine_of_another_kind_than_asked_for_is_refused() {
    uses(Used::Engine);
    let project = Project::hello("kind");
    let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "/var/run/docker.sock".into());
    run(&mut project.command(&["lock", "--engine", "podman", "--engine-host", &socket]))
        .fails_with(6)
        .says("is not podman")
        .says("it says that it is docker");
    let nowhere = "unix:///nonexistent/podman.sock";
    run(project.command(&["lock", "--engine", "podman"]).env("CONTAINER_HOST", nowhere))
        .fails_with(6)
        .says("/nonexistent/podman.sock")
        .says("podman system service --time=0");
}

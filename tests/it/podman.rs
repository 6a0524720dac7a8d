//! Podman instead of Docker.

use crate::support::{Family, Helper, Project, Used, docker, root, run, tool, uses};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Podman of its own, which ends with its value.
struct Podman {
    service: Helper,
    // Last, as the service clears its own part of it away.
    folder: tempfile::TempDir,
}

impl Podman {
    fn start() -> Podman {
        let folder = tempfile::Builder::new().prefix("podman").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut command = Command::new(root().join("tests/tools/podman_service.sh"));
        let service = Helper::start(command.arg(folder.path().join("service")).stdin(Stdio::piped()));
        assert!(service.line.starts_with("unix://"), "Podman's service did not start");
        Podman { service, folder }
    }

    fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(arguments);
        command.args(["--engine", "podman"]).env("CONTAINER_HOST", &self.service.line).env_remove("DOCKER_HOST");
        command
    }

    /// The project's image, as an archive.
    fn saved(&self, project: &Project) -> PathBuf {
        let path = project.join("podman.tar");
        let socket = self.service.line.trim_start_matches("unix://");
        let url = format!("http://d/v1.40/images/{}/get", project.image);
        tool("curl", &["--silent", "--show-error", "--fail", "--unix-socket", socket, "--output", &path.to_string_lossy(), &url]).ok();
        path
    }
}

/// The base carries over: Podman imports the locked tar as it is. Its RUN leaves, empty, the files
/// that it mounts over where the base has none; nothing else differs from Docker's but how owners and
/// new folders are written (docs/decisions/podman.md).
fn runs_through_podman(family: Family, test: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::built(family, test);
    let podman = Podman::start();
    let repo = run(&mut podman.command(&project, &["--json", "repo", "--locked"])).ok();
    let outcomes = Project::outcomes(&repo);
    assert!(outcomes.len() == 2 && outcomes.values().all(|outcome| outcome == "unchanged"), "{outcomes:?}");
    let said = run(&mut podman.command(&project, &["-v", "runtime"])).ok();
    assert!(said.err.contains("Hello, world!"), "its check ran: {}", said.err);
    assert!(podman.folder.path().join("service/root").is_dir(), "nothing of it is elsewhere");

    project.run(&["runtime"]).ok();
    let saved = project.join("docker.tar");
    docker(&["save", "--output", &saved.to_string_lossy(), &project.image]).ok();
    let other = podman.saved(&project);
    let differ = root().join("tests/tools/diff_layers.py").to_string_lossy().into_owned();
    let differences = tool("python3", &[&differ, &saved.to_string_lossy(), &other.to_string_lossy(), "--meaning"]);
    let podmans = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run"];
    let only = podmans.map(|path| format!("{path}: only in the second\n")).concat();
    assert_eq!(differences.out, only);
}

#[test]
fn podman_makes_the_same_files_of_debs() {
    runs_through_podman(Family::Deb, "podman");
}

#[test]
fn podman_makes_the_same_files_of_rpms() {
    runs_through_podman(Family::Rpm, "podman-rpm");
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

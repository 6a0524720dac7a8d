//! Podman instead of Docker.

use crate::support::{Helper, Project, Used, root, run, uses};
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
}

/// The base carries over: Podman imports the locked tar as it is. Its RUN, however, puts the files
/// that it mounts on into the layer where the base has none, and the audit lets no such image pass.
#[test]
fn podman_takes_the_locked_base_and_what_its_run_leaves_is_named() {
    uses(Used::Engine);
    let project = Project::built_hello("podman");
    let podman = Podman::start();
    let repo = run(&mut podman.command(&project, &["--json", "repo", "--locked"])).ok();
    let outcomes = Project::outcomes(&repo);
    assert!(outcomes.len() == 2 && outcomes.values().all(|outcome| outcome == "unchanged"), "{outcomes:?}");
    run(&mut podman.command(&project, &["runtime"]))
        .fails_with(1)
        .says("residue: 3 entries")
        .says("/etc/hostname: the engine's own")
        .says("/etc/hosts: the engine's own")
        .says("/etc/resolv.conf: the engine's own");
    assert!(podman.folder.path().join("service/root").is_dir(), "nothing of it is elsewhere");
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

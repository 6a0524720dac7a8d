//! Where an engine listens: what was asked for, what the environment says, the usual places.

use crate::Kind;
use std::path::{Path, PathBuf};
use twostage_model::{Class, Error, Result};

const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

impl Address {
    fn parse(host: &str) -> Result<Address> {
        let (scheme, rest) = host.split_once("://").unwrap_or(("unix", host));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
            "tcp" | "http" if !rest.trim_end_matches('/').is_empty() => Ok(Address::Tcp(rest.trim_end_matches('/').to_string())),
            "ssh" | "https" => Err(Error::new(Class::Engine, format!("cannot reach an engine at {host}: {scheme} is not supported")).hint(
                "forward its socket first: `ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST`, then DOCKER_HOST=unix:///tmp/docker.sock",
            )),
            _ => Err(Error::new(Class::Engine, format!("{host:?} is no engine's address"))
                .hint("write it as unix:///path/to/docker.sock or tcp://host:port (in DOCKER_HOST and CONTAINER_HOST too)")),
        }
    }
}

/// Where to look, in this order. `host` is what the user named; `variable` reads the environment.
/// What is named, by the user or by a variable, has no second place.
pub(super) fn places(kind: Option<Kind>, host: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Address>> {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(host) = host {
        return Ok(vec![Address::parse(host)?]);
    }
    let docker = variable("DOCKER_HOST").filter(|_| kind != Some(Kind::Podman));
    if let Some(host) = docker {
        return Ok(vec![Address::parse(&host)?]);
    }
    let mut places = Vec::new();
    if kind != Some(Kind::Podman) {
        places.push(Address::Unix(DOCKER_SOCKET.into()));
    }
    if kind != Some(Kind::Docker) {
        match variable("CONTAINER_HOST") {
            Some(host) => places.push(Address::parse(&host)?),
            None => {
                let own = variable("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("podman/podman.sock"));
                places.extend(own.into_iter().chain([PODMAN_SOCKET.into()]).map(Address::Unix));
            }
        }
    }
    Ok(places)
}

/// Whether the environment names an engine: then no other is meant.
pub(crate) fn is_named() -> bool {
    ["DOCKER_HOST", "CONTAINER_HOST"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// What to do where nobody answers. `path` is a socket; `error` what a connection to it gave.
pub(super) fn socket_hint(kind: Option<Kind>, error: &std::io::Error, path: &Path) -> String {
    let rootless = std::env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("docker.sock"));
    if let Some(rootless) = rootless.filter(|rootless| rootless != path && rootless.exists() && kind != Some(Kind::Podman)) {
        return format!("a rootless engine is there: set DOCKER_HOST=unix://{}", rootless.display());
    }
    let kind = kind.unwrap_or(if path.ends_with("podman.sock") { Kind::Podman } else { Kind::Docker });
    let program = if kind == Kind::Podman { "podman" } else { "dockerd" };
    hint_for(kind, error.kind(), installed(program), path)
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|folders| std::env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).exists()))
}

fn hint_for(kind: Kind, error: std::io::ErrorKind, installed: bool, path: &Path) -> String {
    match (kind, error) {
        (Kind::Docker | Kind::Embedded, std::io::ErrorKind::PermissionDenied) => {
            "add yourself to the group docker (`sudo usermod -aG docker $USER`, then log in again) or use sudo".into()
        }
        (Kind::Docker | Kind::Embedded, _) if installed => {
            "start Docker: `systemctl start docker` (without systemd: `dockerd &`); DOCKER_HOST can name another socket".into()
        }
        (Kind::Docker | Kind::Embedded, _) => {
            "install Docker: `apt-get install docker.io`; DOCKER_HOST can name the socket of another engine".into()
        }
        (Kind::Podman, std::io::ErrorKind::PermissionDenied) => {
            "that is another user's Podman: start your own with `podman system service --time=0 &`, or use sudo".into()
        }
        (Kind::Podman, _) => {
            let install = if installed { "" } else { "install Podman, `apt-get install podman`, and " };
            format!(
                "{install}start its service: `podman system service --time=0 unix://{} &`; CONTAINER_HOST can name another socket",
                path.display()
            )
        }
    }
}

/// One error of all the places where no engine was found.
pub(super) fn nowhere(mut errors: Vec<(Address, Error)>) -> Error {
    if errors.len() == 1
        && let Some((_, only)) = errors.pop()
    {
        return only;
    }
    let addresses: Vec<String> = errors.iter().map(|(address, _)| address.to_string()).collect();
    let reasons: Vec<String> = errors.iter().map(|(address, error)| format!("{address}: {}", error.causes().join(": "))).collect();
    let mut hints: Vec<&str> = errors.iter().filter_map(|(_, error)| error.hint_text()).collect();
    // Two sockets of one engine need it once: the last is the one that everybody has.
    if let [first, .., last] = hints.as_slice() {
        hints = vec![first, last];
    }
    Error::new(Class::Engine, format!("cannot reach a container engine at {}", addresses.join(" or ")))
        .because(reasons.join("\n"))
        .hint(hints.join("; or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn find(kind: Option<Kind>, host: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        places(kind, host, variable).expect("addresses").iter().map(Address::to_string).collect()
    }

    #[test]
    fn an_address_is_explicit_or_from_the_environment_or_the_usual_socket() {
        let docker = ("DOCKER_HOST", "unix:///run/a.sock");
        assert_eq!(find(None, None, &[]), ["/var/run/docker.sock", "/run/podman/podman.sock"]);
        assert_eq!(find(None, None, &[("DOCKER_HOST", "")]), ["/var/run/docker.sock", "/run/podman/podman.sock"]);
        assert_eq!(find(None, None, &[docker]), ["/run/a.sock"]);
        assert_eq!(find(None, Some("/run/b.sock"), &[docker]), ["/run/b.sock"]);
        assert_eq!(find(None, Some("tcp://10.0.0.1:2375/"), &[]), ["tcp://10.0.0.1:2375"]);
        let ssh = Address::parse("ssh://host").expect_err("no ssh");
        assert!(ssh.hint_text().is_some_and(|hint| hint.contains("ssh -NL")));
        assert!(Address::parse("docker.sock").is_err());
    }

    #[test]
    fn whoever_wishes_for_one_kind_is_led_to_no_other() {
        let everything = [("DOCKER_HOST", "/run/a.sock"), ("CONTAINER_HOST", "unix:///run/p.sock"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(find(Some(Kind::Docker), None, &everything), ["/run/a.sock"]);
        assert_eq!(find(Some(Kind::Docker), None, &everything[1..]), ["/var/run/docker.sock"]);
        assert_eq!(find(Some(Kind::Podman), None, &everything), ["/run/p.sock"]);
        assert_eq!(find(Some(Kind::Podman), None, &everything[2..]), ["/run/user/7/podman/podman.sock", "/run/podman/podman.sock"]);
        assert_eq!(find(Some(Kind::Podman), Some("/run/c.sock"), &everything), ["/run/c.sock"]);
        let both = ["/var/run/docker.sock", "/run/user/7/podman/podman.sock", "/run/podman/podman.sock"];
        assert_eq!(find(None, None, &everything[2..]), both);
    }

    #[test]
    fn the_hint_fits_the_reason() {
        let hint = |kind, error, installed| hint_for(kind, error, installed, Path::new("/run/x.sock"));
        assert!(hint(Kind::Docker, ErrorKind::PermissionDenied, true).contains("group docker"));
        assert!(hint(Kind::Docker, ErrorKind::ConnectionRefused, true).contains("systemctl start docker"));
        assert!(hint(Kind::Docker, ErrorKind::NotFound, false).contains("apt-get install docker.io"));
        assert!(hint(Kind::Podman, ErrorKind::NotFound, true).contains("`podman system service --time=0 unix:///run/x.sock &`"));
        assert!(hint(Kind::Podman, ErrorKind::NotFound, false).contains("apt-get install podman"));
    }

    #[test]
    fn where_no_engine_is_found_every_place_is_named() {
        let error = |what: &str| Error::new(Class::Engine, what).because("no such file".to_string()).hint(format!("start {what}"));
        let places = [("/a", "docker"), ("/b", "podman of one user"), ("/c", "podman")];
        let errors = places.map(|(path, what)| (Address::Unix(path.into()), error(what)));
        let told = nowhere(Vec::from(errors));
        assert_eq!(told.to_string(), "cannot reach a container engine at /a or /b or /c");
        assert_eq!(told.causes(), ["/a: no such file\n/b: no such file\n/c: no such file"]);
        assert_eq!(told.hint_text(), Some("start docker; or start podman"));
    }
}

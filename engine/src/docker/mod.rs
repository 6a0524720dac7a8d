//! Docker's HTTP API through bollard.
//!
//! ```text
//! mod.rs         where the engine is, the connection, what it says of itself
//! images.rs      inspect, pull, import, load, save, tag, remove
//! build.rs       the classic builder
//! containers.rs  run, copy out, commit, remove, sweep
//! fault.rs       what the API's errors mean
//! ```
//!
//! bollard drops the version prefix of its URLs, so a daemon answers with its newest API; what is
//! used here is the same from Docker 20.10 on.

mod build;
mod containers;
mod fault;
mod images;

pub use containers::Container;

use bollard::Docker as Api;
use bollard::models::SystemVersion;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use twostage_model::{Class, Error, Result};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How long the first question may take.
const GREETING: u64 = 10;
/// How long a question may take that an engine answers from what it knows.
const QUICK: u64 = 120;
/// Imports, commits and builds answer when they are done; only the user knows what is too long.
const PATIENT: u64 = 7 * 24 * 3600;

/// One connection. Each request is a socket of its own, so nothing has to be closed.
#[derive(Clone)]
pub(crate) struct Session {
    inner: Arc<Inner>,
    /// Every container gets these.
    labels: Arc<BTreeMap<String, String>>,
}

struct Inner {
    quick: Api,
    patient: Api,
    name: String,
    architecture: String,
    removals: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.inner.name)
    }
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
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
    fn find(explicit: Option<&str>, docker_host: Option<String>) -> Result<Address> {
        let docker_host = docker_host.filter(|host| !host.is_empty());
        let host = explicit.or(docker_host.as_deref()).unwrap_or(DEFAULT_SOCKET);
        let (scheme, rest) = host.split_once("://").unwrap_or(("unix", host));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
            "tcp" | "http" if !rest.trim_end_matches('/').is_empty() => Ok(Address::Tcp(rest.trim_end_matches('/').to_string())),
            "ssh" | "https" => Err(Error::new(Class::Engine, format!("cannot reach an engine at {host}: {scheme} is not supported")).hint(
                "forward its socket first: `ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST`, then DOCKER_HOST=unix:///tmp/docker.sock",
            )),
            _ => Err(Error::new(Class::Engine, format!("{host:?} is no engine's address"))
                .hint("write it as unix:///path/to/docker.sock or tcp://host:port (in DOCKER_HOST too)")),
        }
    }
}

impl Session {
    pub(crate) async fn connect(host: Option<&str>) -> Result<Session> {
        let address = Address::find(host, std::env::var("DOCKER_HOST").ok())?;
        let what = || format!("cannot reach a container engine at {address}");
        let connected = match &address {
            Address::Unix(path) => {
                // Our own connection first: its error says which of the three usual reasons it is.
                tokio::net::UnixStream::connect(path)
                    .await
                    .map_err(|error| Error::new(Class::Engine, what()).hint(socket_hint(&error, path)).because(error))?;
                Api::connect_with_unix(&path.to_string_lossy(), GREETING, bollard::API_DEFAULT_VERSION)
            }
            Address::Tcp(authority) => Api::connect_with_http(authority, GREETING, bollard::API_DEFAULT_VERSION),
        };
        let greet = async { connected?.negotiate_version().await };
        let api = greet.await.map_err(|error| {
            fault::fault(what(), error).hint(format!("see that a Docker daemon listens at {address}; DOCKER_HOST can name another"))
        })?;
        let version = api.version().await.map_err(|error| fault::fault(what(), error))?;
        let inner = Inner {
            quick: api.clone().with_timeout(Duration::from_secs(QUICK)),
            patient: api.with_timeout(Duration::from_secs(PATIENT)),
            name: name(&version),
            architecture: debian_architecture(version.arch.as_deref().unwrap_or_default(), None),
            removals: Mutex::default(),
        };
        Ok(Session { inner: Arc::new(inner), labels: Arc::default() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.inner.architecture
    }

    pub(crate) fn labelled(&self, labels: BTreeMap<String, String>) -> Session {
        Session { inner: Arc::clone(&self.inner), labels: Arc::new(labels) }
    }

    fn quick(&self) -> &Api {
        &self.inner.quick
    }

    fn patient(&self) -> &Api {
        &self.inner.patient
    }

    /// Removes a container in the background. Without a runtime nothing can be done; `sweep` finds
    /// the container at the next start.
    fn remove_later(&self, id: String) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.clone();
            let removal = async move {
                // Nobody is left who could be told.
                let _ = session.remove_container(&id).await;
            };
            self.inner.removals.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(removal, &runtime);
        }
    }

    pub(crate) async fn settle(&self) {
        loop {
            let mut removals = std::mem::take(&mut *self.inner.removals.lock().unwrap_or_else(PoisonError::into_inner));
            if removals.is_empty() {
                return;
            }
            while removals.join_next().await.is_some() {}
        }
    }
}

fn name(version: &SystemVersion) -> String {
    let number = version.version.as_deref().unwrap_or("of unknown version");
    format!("docker {}", number.split('+').next().unwrap_or(number))
}

/// Debian's name of what Go and OCI call an architecture.
fn debian_architecture(name: &str, variant: Option<&str>) -> String {
    match (name, variant) {
        ("386", _) => "i386",
        ("arm", Some("v5" | "v6")) => "armel",
        ("arm", _) => "armhf",
        ("ppc64le", _) => "ppc64el",
        ("mipsle", _) => "mipsel",
        ("mips64le", _) => "mips64el",
        (same, _) => same,
    }
    .to_string()
}

fn socket_hint(error: &std::io::Error, path: &Path) -> String {
    let rootless = std::env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("docker.sock"));
    if let Some(rootless) = rootless.filter(|rootless| rootless != path && rootless.exists()) {
        return format!("a rootless engine is there: set DOCKER_HOST=unix://{}", rootless.display());
    }
    let installed = std::env::var_os("PATH")
        .is_some_and(|folders| std::env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|folder| folder.join("dockerd").exists()));
    hint_for(error.kind(), installed).to_string()
}

fn hint_for(kind: std::io::ErrorKind, installed: bool) -> &'static str {
    match kind {
        std::io::ErrorKind::PermissionDenied => {
            "add yourself to the group docker (`sudo usermod -aG docker $USER`, then log in again) or use sudo"
        }
        _ if installed => "start Docker: `systemctl start docker` (without systemd: `dockerd &`); DOCKER_HOST can name another socket",
        _ => "install Docker: `apt-get install docker.io`; DOCKER_HOST can name the socket of another engine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn an_address_is_explicit_or_from_the_environment_or_the_usual_socket() {
        let find = |explicit, variable: Option<&str>| Address::find(explicit, variable.map(str::to_string));
        let unix = |path: &str| Some(Address::Unix(path.into()));
        assert_eq!(find(None, None).ok(), unix("/var/run/docker.sock"));
        assert_eq!(find(None, Some("")).ok(), unix("/var/run/docker.sock"));
        assert_eq!(find(None, Some("unix:///run/a.sock")).ok(), unix("/run/a.sock"));
        assert_eq!(find(Some("/run/b.sock"), Some("unix:///run/a.sock")).ok(), unix("/run/b.sock"));
        assert_eq!(find(Some("tcp://10.0.0.1:2375/"), None).ok(), Some(Address::Tcp("10.0.0.1:2375".into())));
        let ssh = find(Some("ssh://host"), None).expect_err("no ssh");
        assert!(ssh.hint_text().is_some_and(|hint| hint.contains("ssh -NL")));
        assert!(find(Some("docker.sock"), None).is_err());
    }

    #[test]
    fn the_hint_fits_the_reason() {
        assert!(hint_for(ErrorKind::PermissionDenied, true).contains("group docker"));
        assert!(hint_for(ErrorKind::ConnectionRefused, true).contains("systemctl start docker"));
        assert!(hint_for(ErrorKind::NotFound, false).contains("apt-get install docker.io"));
    }

    #[test]
    fn architectures_have_their_debian_names() {
        assert_eq!(debian_architecture("amd64", None), "amd64");
        assert_eq!(debian_architecture("arm64", Some("v8")), "arm64");
        assert_eq!(debian_architecture("arm", Some("v7")), "armhf");
        assert_eq!(debian_architecture("ppc64le", None), "ppc64el");
    }
}

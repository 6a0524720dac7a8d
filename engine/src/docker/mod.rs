//! Docker's HTTP API through bollard, as Docker and Podman speak it.
//!
//! ```text
//! mod.rs         the connection, what the engine says of itself
//! address.rs     where an engine listens
//! dialect.rs     what Podman does otherwise, all of it
//! images.rs      inspect, pull, import, load, save, tag, remove
//! build.rs       the classic builder
//! containers.rs  run, copy out, commit, remove, sweep
//! stage.rs       a container that files are put into and commands run in, one after another
//! fault.rs       what the API's errors mean
//! ```
//!
//! bollard drops the version prefix of its URLs, so a daemon answers with its newest API; what is
//! used here is the same from Docker 20.10 on.

mod address;
mod build;
mod containers;
mod dialect;
mod fault;
pub(crate) use fault::shorten;
mod images;
mod stage;
mod until;

pub(crate) use address::is_named;
pub(crate) use containers::Container;

use crate::Kind;
use crate::background::Background;
use address::Address;
use bollard::Docker as Api;
use bollard::models::SystemVersion;
use dialect::Dialect;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use twostage_model::{Class, Error, Result};

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
    dialect: Dialect,
    name: String,
    address: String,
    architecture: String,
    removals: Background,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.inner.name)
    }
}

impl Session {
    pub(crate) async fn connect(kind: Option<Kind>, host: Option<&str>) -> Result<Session> {
        let mut errors = Vec::new();
        for address in address::places(kind, host, |name| std::env::var(name).ok())? {
            match Session::connect_at(kind, &address).await {
                Ok(session) => return Ok(session),
                Err(error) => errors.push((address, error)),
            }
        }
        Err(address::nowhere(errors))
    }

    async fn connect_at(kind: Option<Kind>, address: &Address) -> Result<Session> {
        let what = || format!("cannot reach a container engine at {address}");
        let connected = match address {
            Address::Unix(path) => {
                // Our own connection first: its error says which of the three usual reasons it is.
                tokio::net::UnixStream::connect(path)
                    .await
                    .map_err(|error| Error::new(Class::Engine, what()).hint(address::socket_hint(kind, &error, path)).because(error))?;
                Api::connect_with_unix(&path.to_string_lossy(), GREETING, bollard::API_DEFAULT_VERSION)
            }
            Address::Tcp(authority) => Api::connect_with_http(authority, GREETING, bollard::API_DEFAULT_VERSION),
        };
        let greet = async { connected?.negotiate_version().await };
        let api = greet.await.map_err(|error| {
            fault::fault(what(), error)
                .hint(format!("see that a Docker daemon, or Podman's service, listens at {address}; --engine-host, DOCKER_HOST or CONTAINER_HOST can name another"))
        })?;
        let version = api.version().await.map_err(|error| fault::fault(what(), error))?;
        let dialect = Dialect::of(&version);
        let name = name(dialect.kind(), &version);
        if let Some(kind) = kind.filter(|kind| *kind != dialect.kind()) {
            return Err(Error::new(Class::Engine, format!("the engine at {address} is not {kind}"))
                .because(format!("it says that it is {name}"))
                .hint("leave --engine away to work with it, or name another address with --engine-host"));
        }
        let inner = Inner {
            quick: api.clone().with_timeout(Duration::from_secs(QUICK)),
            patient: api.with_timeout(Duration::from_secs(PATIENT)),
            dialect,
            name,
            address: address.to_string(),
            architecture: debian_architecture(version.arch.as_deref().unwrap_or_default(), None),
            removals: Background::default(),
        };
        Ok(Session { inner: Arc::new(inner), labels: Arc::default() })
    }

    pub(crate) fn kind(&self) -> crate::Kind {
        self.dialect().kind()
    }

    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn address(&self) -> &str {
        &self.inner.address
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.inner.architecture
    }

    pub(crate) fn labelled(&self, labels: BTreeMap<String, String>) -> Session {
        Session { inner: Arc::clone(&self.inner), labels: Arc::new(labels) }
    }

    fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    fn quick(&self) -> &Api {
        &self.inner.quick
    }

    fn patient(&self) -> &Api {
        &self.inner.patient
    }

    /// Removes a container in the background. Where that cannot be done, `sweep` finds the container at the next start.
    fn remove_later(&self, id: String) {
        let session = self.clone();
        self.inner.removals.spawn(async move {
            // Nobody is left who could be told.
            let _ = session.remove_container(&id).await;
        });
    }

    pub(crate) async fn settle(&self) {
        self.inner.removals.settle().await;
    }
}

fn name(kind: Kind, version: &SystemVersion) -> String {
    let number = version.version.as_deref().unwrap_or("of unknown version");
    format!("{kind} {}", number.split('+').next().unwrap_or(number))
}

/// Debian's name of what Go and OCI call an architecture.
pub(crate) fn debian_architecture(name: &str, variant: Option<&str>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_their_debian_names() {
        assert_eq!(debian_architecture("amd64", None), "amd64");
        assert_eq!(debian_architecture("arm64", Some("v8")), "arm64");
        assert_eq!(debian_architecture("arm", Some("v7")), "armhf");
        assert_eq!(debian_architecture("ppc64le", None), "ppc64el");
    }
}

//! How a container reaches a server on this machine: tried, never guessed.
//!
//! ```text
//! host network    http://127.0.0.1:PORT     the server stays on loopback
//! bridge network  http://GATEWAY:PORT       the server must also listen on the bridge's gateway
//! embedded        http://127.0.0.1:PORT     a door of the container's own network leads to the server
//! ```
//!
//! Each way is tried with a real container that fetches a page through `http_proxy`, as the
//! runtime RUN will.

use crate::{Engine, Kind, Network, Run};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use twostage_model::{Class, Error, Result};

/// How long one try may take, the container's start included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The network that the container must be on.
    pub network: Network,
    /// What `http_proxy` must be: `http://127.0.0.1:PORT`.
    pub proxy: String,
}

/// What to try.
#[derive(Debug, Clone)]
pub struct Probe<'a> {
    /// The image whose container asks.
    pub image: &'a str,
    /// The command that asks the server through `http_proxy` and exits 0 if it answered;
    /// [`fetch`] makes one.
    pub command: &'a [String],
    /// The server's port on this machine's 127.0.0.1.
    pub port: u16,
    /// Which networks, in this order (the embedded engine has one way only); usually [`Probe::NETWORKS`].
    pub networks: &'a [Network],
    /// Labels of the containers, for [`Engine::sweep`].
    pub labels: &'a BTreeMap<String, String>,
}

impl Probe<'_> {
    /// The networks by preference: on the host's network the server need not leave loopback.
    pub const NETWORKS: &'static [Network] = &[Network::Host, Network::Bridge];
}

/// A command that fetches `url` with whatever the base has: apt, curl, wget, python or bash.
pub fn fetch(url: &str) -> Vec<String> {
    let script = r#"
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
has() { command -v "$1" >/dev/null 2>&1; }
if [ -x /usr/lib/apt/apt-helper ] && [ -x /usr/lib/apt/methods/http ]; then
    /usr/lib/apt/apt-helper -o APT::Sandbox::User=root -o Acquire::Retries=0 -o Acquire::http::Timeout=5 download-file "$1" "$out"
elif has curl; then curl -fsS -m 5 -o "$out" "$1"
elif has wget; then wget -q -T 5 -O "$out" "$1"
elif has python3; then python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5).read()' "$1"
elif has bash; then bash -c '
    proxy=${http_proxy#http://}
    exec 3<>"/dev/tcp/${proxy%:*}/${proxy##*:}" || exit 1
    host=${1#http://}
    printf "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$1" "${host%%/*}" >&3
    read -r -t 5 status <&3
    echo "answer: $status"
    case $status in HTTP/1.?" 200"*) exit 0 ;; esac
    exit 1' fetch "$1"
else echo "the base has none of apt, curl, wget, python3 and bash to ask with"; exit 127
fi"#;
    ["/bin/sh", "-c", script, "fetch", url].map(str::to_string).to_vec()
}

impl Engine {
    /// Finds out how a container reaches the server at `probe.port`. `listen` is called at most
    /// once, if the host's network does not do: it adds a listener on that address and gives its
    /// port.
    ///
    /// # Errors
    /// No way works: what was tried, why each failed, and what to do.
    pub async fn probe_reach<F>(&self, probe: Probe<'_>, listen: impl FnOnce(IpAddr) -> F + Send) -> Result<Reach>
    where
        F: Future<Output = Result<u16>> + Send,
    {
        let mut listen = Some(listen);
        let mut reasons = Vec::new();
        let embedded = self.kind() == Kind::Embedded;
        let networks = if embedded { &[Network::Bridge] } else { probe.networks };
        for &network in networks {
            let server = match network {
                Network::Bridge if embedded => {
                    self.open_door(probe.port);
                    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, probe.port)))
                }
                Network::Host => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, probe.port))),
                Network::Bridge => match (self.gateway().await, listen.take()) {
                    (Ok(Some(gateway)), Some(listen)) => match listen(gateway).await {
                        Ok(port) => Ok(SocketAddr::new(gateway, port)),
                        Err(error) => Err(format!("the server cannot listen on the bridge's gateway {gateway}: {}", one_line(&error))),
                    },
                    (Ok(_), _) => Err("the engine has no bridge network with a gateway".to_string()),
                    (Err(error), _) => Err(one_line(&error)),
                },
                Network::None => Err("a container on it reaches nothing".to_string()),
            };
            let reason = match server {
                Ok(server) => {
                    let proxy = format!("http://{server}");
                    match self.try_reach(&probe, network, &proxy).await {
                        Ok(()) => return Ok(Reach { network, proxy }),
                        Err(reason) => format!("{proxy}: {reason}"),
                    }
                }
                Err(reason) => reason,
            };
            reasons.push(format!("{network} network: {reason}"));
        }
        let hint = if embedded {
            "see `twostage doctor`: something on this machine refuses connections to 127.0.0.1, such as a firewall; or name another engine with --engine"
        } else {
            "the engine must run on this machine (DOCKER_HOST says where it is) and allow host networking, \
             or the firewall must let containers reach this machine over the bridge (docker0)"
        };
        Err(Error::new(Class::Engine, format!("a container of {} cannot reach the repository's server on this machine", probe.image))
            .because(reasons.join("; "))
            .hint(hint))
    }

    async fn try_reach(&self, probe: &Probe<'_>, network: Network, proxy: &str) -> Result<(), String> {
        let env = [("http_proxy", proxy), ("no_proxy", ""), ("NO_PROXY", "")].map(|(name, value)| (name.to_string(), value.to_string()));
        let run = Run {
            env: &env,
            user: Some("0"),
            network,
            labels: probe.labels,
            timeout: Some(PATIENCE),
            ..Run::new(probe.image, probe.command)
        };
        let mut last = [String::new(), String::new()];
        let mut on_line = |line: &str| {
            if !line.trim().is_empty() {
                last.swap(0, 1);
                last[1] = line.trim().to_string();
            }
        };
        let container = self.run(run, &mut on_line).await.map_err(|error| one_line(&error))?;
        let status = container.exit_code;
        container.remove().await.map_err(|error| one_line(&error))?;
        match status {
            0 => Ok(()),
            status => Err(format!("the container's request failed (exit status {status}): {}", last.join(" / ").trim_start_matches(" / "))),
        }
    }
}

fn one_line(error: &Error) -> String {
    std::iter::once(error.what().to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

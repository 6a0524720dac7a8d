//! Options that say which engine, and what its containers may.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::time::Duration;
use twostage_engine::{Engine, Kind, Network};
use twostage_model::Result;

#[derive(Args, Default)]
pub struct EngineArgs {
    /// What runs the containers (default: Docker if it answers, else Podman, else this program itself)
    #[arg(long = "engine", value_name = "KIND", env = "TWOSTAGE_ENGINE")]
    pub kind: Option<EngineKind>,
    /// Where it listens, such as unix:///var/run/docker.sock (default: DOCKER_HOST or
    /// CONTAINER_HOST, or the usual sockets); of `embedded`, the folder of its images
    /// (default: TWOSTAGE_STORE, or /var/lib/twostage, or ~/.local/share/twostage)
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmptyStringValueParser::new())]
    pub engine_host: Option<String>,
    /// Memory that a container of the embedded engine may have, such as 4G or 512M (default: nine tenths of
    /// the machine's)
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub memory: Option<u64>,
    /// Time that a command in a container of the embedded engine may take, such as 90m or 2h (default: any)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_limit: Option<Duration>,
}

/// A number and what it counts, where that is said.
fn counted<'t>(text: &'t str, units: &[(&'t str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|value| *value > 0)
}

/// Less memory than this no program has that a container is started with; docker has the same bound.
const LEAST_MEMORY: u64 = 6 << 20;

/// Bytes, with K, M, G or T for powers of 1024, as docker's `--memory` takes them.
fn size(text: &str) -> std::result::Result<u64, String> {
    let bytes = counted(text, &[("", 1), ("b", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)])
        .ok_or_else(|| "write a number of bytes, or one with K, M or G: 4G".to_string())?;
    if bytes < LEAST_MEMORY {
        let meant = if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("; perhaps {text}G is meant") } else { String::new() };
        return Err(format!("{bytes} bytes are too little: nothing runs in less than 6M{meant}"));
    }
    Ok(bytes)
}

/// A number of days, or one with h or d; an hour at least: what a command uses now was asked for when it began.
pub(super) fn age(text: &str) -> std::result::Result<Duration, String> {
    let hour = 3600;
    let seconds = counted(text, &[("", 24 * hour), ("h", hour), ("d", 24 * hour)]).filter(|seconds| *seconds >= hour);
    seconds.map(Duration::from_secs).ok_or_else(|| "write a number of days, or of hours, at least one: 30d, 12h".to_string())
}

/// Seconds, or a number with s, m or h.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    counted(text, &[("", 1), ("s", 1), ("m", 60), ("h", 3600)])
        .map(Duration::from_secs)
        .ok_or_else(|| "write a number of seconds, or one with m or h: 90m".to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    Docker,
    Podman,
    /// No daemon: containers are processes of this program
    Embedded,
}

impl EngineArgs {
    /// The same, and where no engine is asked for, the one that needs no daemon.
    pub fn or_embedded(&self) -> EngineArgs {
        self.preferring(self.kind.or(Some(EngineKind::Embedded)))
    }

    /// The same, but the engine that a name says, if it says one.
    pub fn preferring(&self, kind: Option<EngineKind>) -> EngineArgs {
        EngineArgs { kind: kind.or(self.kind), engine_host: self.engine_host.clone(), memory: self.memory, time_limit: self.time_limit }
    }

    /// Connects to the engine that is asked for. What reaches registries for it is given to it.
    pub async fn connect(&self) -> Result<Engine> {
        let kind = self.kind.map(|kind| match kind {
            EngineKind::Docker => Kind::Docker,
            EngineKind::Podman => Kind::Podman,
            EngineKind::Embedded => Kind::Embedded,
        });
        let engine = Engine::connect(kind, self.engine_host.as_deref()).await?.limited(self.memory, self.time_limit)?;
        Ok(engine.fetching(std::sync::Arc::new(crate::registry::Fetcher)))
    }
}

/// An engine that is a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Daemon {
    Docker,
    Podman,
}

/// Where images are kept without a daemon.
#[derive(Args)]
pub struct StoreArgs {
    /// The folder of the images (default: TWOSTAGE_STORE, or /var/lib/twostage, or ~/.local/share/twostage)
    #[arg(long = "engine-host", value_name = "FOLDER", value_parser = NonEmptyStringValueParser::new())]
    pub folder: Option<String>,
}

impl StoreArgs {
    /// The embedded engine, which has that folder.
    pub async fn connect(&self) -> Result<Engine> {
        Engine::connect(Some(Kind::Embedded), self.folder.as_deref()).await
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkKind {
    /// The engine's own network
    Bridge,
    /// That of the machine that the engine runs on
    Host,
    /// Nothing
    None,
}

impl From<NetworkKind> for Network {
    fn from(kind: NetworkKind) -> Network {
        match kind {
            NetworkKind::Bridge => Network::Bridge,
            NetworkKind::Host => Network::Host,
            NetworkKind::None => Network::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_docker_and_systemd_take_them() {
        assert_eq!((size("4G"), size("512m"), size("7000000")), (Ok(4 << 30), Ok(512 << 20), Ok(7_000_000)));
        for (little, meant) in
            [("4", "perhaps 4G is meant"), ("70000", "70000 bytes are too little"), ("5M", "less than 6M"), ("100k", "less than 6M")]
        {
            assert!(size(little).is_err_and(|why| why.contains(meant)), "{little}");
        }
        assert_eq!((duration("90m"), duration("45")), (Ok(Duration::from_secs(5400)), Ok(Duration::from_secs(45))));
        for wrong in ["", "G", "0", "-1", "4.5G", "4 G", "99999999999999999999", "18446744073709551615T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(duration("1d").is_err_and(|why| why.contains("90m")));
    }
}

//! What the values of instructions mean: paths, URLs, ports, signals, health checks.

use super::config::{Health, go_character, go_duration, go_quoted};
use super::state::Source;
use super::{At, Command, Healthcheck};
use std::net::IpAddr;
use twostage_model::{Result, Sha256, names};

/// A path or, for ADD, a URL; repositories of Git are refused. `parents`: the folders of a path are kept, from `/./` on.
pub(super) fn source(at: &At, add: bool, parents: bool, word: String) -> Result<Source> {
    let url = word.starts_with("http://") || word.starts_with("https://");
    let path = word.split('#').next().unwrap_or_default();
    let git = word.starts_with("git://") || word.starts_with("ssh://") || word.starts_with("git@") || url && path.ends_with(".git");
    match (add, git, url) {
        (_, true, _) => Err(at.error(format!("{word} is a repository of Git"), "clone it in a RUN, or into the context")),
        (true, _, true) => Ok(Source::Url(word)),
        (false, _, true) => Err(at.error(format!("{word} is a URL"), "use ADD")),
        _ if parents => {
            let (root, only) = word.split_once("/./").unwrap_or(("", &word));
            Ok(Source::Parents { root: join("/", root), only: join("/", only).trim_start_matches('/').to_owned() })
        }
        _ => Ok(Source::Path(join("/", &word))),
    }
}

/// `--checksum` of ADD, for its only source.
pub(super) fn checksum(at: &At, text: &str, sources: &[Source]) -> Result<Sha256> {
    let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    let digest =
        digest.ok_or_else(|| at.error(format!("--checksum={text} is no digest"), "write sha256: and the 64 digits of sha256sum"))?;
    match sources {
        [Source::Url(_)] => Ok(digest),
        _ => Err(at.error("--checksum is for one URL", "write an ADD for each, and leave it away where a file is not fetched")),
    }
}

/// The name of the file that a URL gives: the last part of its path, if it has one.
pub(crate) fn url_name(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut name, mut rest) = (Vec::new(), path.as_bytes());
    while let [byte, after @ ..] = rest {
        let meant = match after {
            [high, low, ..] if *byte == b'%' => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        name.push(meant.unwrap_or(*byte));
        rest = if meant.is_some() { &after[2..] } else { after };
    }
    let name = String::from_utf8(name).ok()?;
    let name = name.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..") && !name.contains('\0')).then(|| name.to_owned())
}

/// Joins and cleans as Go's `path.Join("/", start, path)` does, except that an absolute path needs no start. The
/// result is absolute and has no `.`, `..` or `/` at its end.
pub(crate) fn join(start: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { start };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `system.NormalizeWorkdir`.
pub(super) fn workdir(current: &str, path: &str) -> String {
    match path {
        _ if path.starts_with('/') => path.to_owned(),
        "" if current.starts_with('/') => current.to_owned(),
        _ => join(&format!("/{current}"), path),
    }
}

pub(super) fn health(check: &Healthcheck) -> Health {
    match check {
        Healthcheck::None => Health { test: vec!["NONE".into()], ..Health::default() },
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                Command::Shell(text) => vec!["CMD-SHELL".into(), text.clone()],
                Command::Exec(words) => std::iter::once("CMD".into()).chain(words.iter().cloned()).collect(),
            };
            Health {
                test,
                interval: *interval,
                timeout: *timeout,
                start_period: *start_period,
                start_interval: *start_interval,
                retries: i64::from(*retries),
            }
        }
    }
}

/// `fmt.Sprintf("HEALTHCHECK %q", …)`; Go prints the number of retries as a character.
pub(super) fn health_line(health: &Health) -> String {
    let times =
        [health.interval, health.timeout, health.start_period, health.start_interval].map(|time| format!("\"{}\"", go_duration(time)));
    let retries = u32::try_from(health.retries).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    format!("HEALTHCHECK &{{{} {} {}}}", go_quoted(&health.test), times.join(" "), go_character(retries))
}

/// `[ip:][host:]port[/protocol]`, the port perhaps a range, as `nat.ParsePortSpecs` reads it. The host's side
/// means nothing in an image.
pub(super) fn ports(spec: &str) -> std::result::Result<Vec<String>, String> {
    let wrong = || format!("{spec:?} is not a port");
    let (front, container) = spec.rsplit_once(':').map_or((None, spec), |(front, container)| (Some(front), container));
    let (ports, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => return Err(format!("there is no protocol {other:?}")),
    };
    let (start, end) = range(ports).ok_or_else(wrong)?;
    if let Some(front) = front {
        let (ip, host) = front.rsplit_once(':').map_or((None, front), |(ip, host)| (Some(ip), host));
        let ip = ip.filter(|ip| !ip.is_empty()).map(|ip| ip.trim_start_matches('[').trim_end_matches(']'));
        if ip.is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
            return Err(wrong());
        }
        let fits = |(host_start, host_end)| start == end || end - start == host_end - host_start;
        if !host.is_empty() && !range(host).is_some_and(fits) {
            return Err(wrong());
        }
    }
    Ok((start..=end).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (number(start)?, number(end)?);
    (start <= end).then_some((start, end))
}

/// `signal.ParseSignal`: a number that is not 0, or a name of Linux with or without SIG.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number > 0;
    }
    let name = text.to_uppercase();
    names::is_signal(name.strip_prefix("SIG").unwrap_or(&name))
}

//! `-p [ADDRESS:][PORT:]PORT`: ports of this machine that lead into a container, as docker writes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use twostage_model::{Class, Error, Result};

/// A port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// Where this machine listens; port 0 is any free one.
    pub at: SocketAddr,
    /// The container's port.
    pub port: u16,
}

impl std::str::FromStr for PublishedPort {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<PublishedPort, String> {
        let ports = match text.split_once('/') {
            Some((ports, "tcp")) => ports,
            Some((_, "udp" | "sctp")) => return Err("only TCP can be published yet".into()),
            Some(_) => return Err("write [ADDRESS:][PORT:]PORT[/tcp], such as 8080:80".into()),
            None => text,
        };
        let number = |text: &str| match text.parse::<u16>() {
            _ if text.contains('-') => Err("ranges of ports cannot be published yet: name each port".to_string()),
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("{text:?} is no port: write [ADDRESS:][PORT:]PORT, such as 8080:80")),
        };
        let (before, port) = ports.rsplit_once(':').map_or((None, ports), |(before, port)| (Some(before), port));
        let port = number(port)?;
        let address = |text: &str| -> std::result::Result<IpAddr, String> {
            let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            plain.parse().map_err(|_| format!("{text:?} is no address of this machine: write 127.0.0.1:8080:80"))
        };
        let (at, here) = match before.map(|before| before.rsplit_once(':').filter(|_| !before.ends_with(']')).ok_or(before)) {
            None => (Ipv4Addr::LOCALHOST.into(), port),
            Some(Ok((at, ""))) => (address(at)?, 0),
            Some(Ok((at, here))) => (address(at)?, number(here)?),
            Some(Err(here)) => (Ipv4Addr::LOCALHOST.into(), number(here)?),
        };
        Ok(PublishedPort { at: SocketAddr::new(at, here), port })
    }
}

/// Listens where ports are published.
///
/// # Errors
/// Something else listens there, or this user may not.
pub fn listen(published: &[PublishedPort]) -> Result<Vec<(TcpListener, u16)>> {
    let listen = |one: &PublishedPort| {
        let bound = TcpListener::bind(one.at).map(|listener| (listener, one.port));
        bound.map_err(|cause| {
            let hint = match cause.kind() {
                std::io::ErrorKind::PermissionDenied => "ports below 1024 are root's: publish another one, such as 8080:80",
                std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address; `ip address` lists those that it has",
                _ => "publish another port; ADDRESS::PORT takes a free one",
            };
            Error::new(Class::Usage, format!("cannot publish {} at {}", one.port, one.at)).because(cause).hint(hint)
        })
    };
    published.iter().map(listen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_docker_takes_them() {
        let of = |text: &str| text.parse::<PublishedPort>().map(|one| format!("{} {}", one.at, one.port));
        for (text, said) in [
            ("8080", "127.0.0.1:8080 8080"),
            ("8080:80", "127.0.0.1:8080 80"),
            ("8080:80/tcp", "127.0.0.1:8080 80"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080 80"),
            ("127.0.0.1::80", "127.0.0.1:0 80"),
            ("[::1]:8080:80", "[::1]:8080 80"),
            ("[::1]::80", "[::1]:0 80"),
        ] {
            assert_eq!(of(text), Ok(said.to_string()), "{text}");
        }
        for (text, why) in [
            ("53/udp", "only TCP"),
            ("8000-8010", "ranges"),
            ("8000-8010:80", "ranges"),
            ("", "no port"),
            ("0", "no port"),
            ("80:", "no port"),
            ("http", "no port"),
            ("70000:80", "no port"),
            ("localhost:8080:80", "no address"),
            ("[::1]:80", "no port"),
            ("80/tcpx", "write"),
        ] {
            assert!(of(text).is_err_and(|said| said.contains(why)), "{text}: {:?}", of(text));
        }
    }
}

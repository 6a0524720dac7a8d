//! What a request asks for. Pure: a request's head in, a target or a refusal out.

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri, Version};
use std::net::{Ipv6Addr, SocketAddr};
use twostage_model::SnapshotId;
use twostage_model::names::FIXED_HOST;

/// Bytes that a target may have: what RFC 9112 section 3 asks of every server, and a little more.
const MAX_TARGET: usize = 8192;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The server as the client names it: `http://host:port`.
    pub(crate) base: String,
    pub(crate) page: Page,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    Index,
    Health,
    /// Numbers about the server, for Prometheus.
    Metrics,
    Key,
    /// The client file of a channel or snapshot, for apt.
    Sources(Prefix),
    /// The same for dnf and zypper.
    Repo(Prefix),
    /// A key of somebody who signed packages before they came here: `<fingerprint>.asc`.
    Upstream(String),
    /// A path below a channel or snapshot, in decoded segments.
    Below(Prefix, Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prefix {
    Channel(String),
    Snapshot(SnapshotId),
}

/// Why a request is not answered, for whoever sent it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

fn refuse<T>(status: StatusCode, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, text: text.into() })
}

/// Reads the request line and `Host`. `local` is the address that the client reached us on.
pub(crate) fn parse(request: &Parts, local: SocketAddr) -> Result<Target, Refusal> {
    let (uri, host) = (&request.uri, host(request.version, &request.headers)?);
    if length(uri) > MAX_TARGET {
        return refuse(StatusCode::URI_TOO_LONG, format!("a target has at most {MAX_TARGET} bytes\n"));
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
    }
    // (Of an absolute target, its own host counts: RFC 9112 section 3.2.2.)
    let base = match uri.authority() {
        Some(authority) => {
            if !is_ours(authority.as_str(), local) || uri.scheme_str() != Some("http") {
                let text = format!("this is no proxy: it answers for http://{FIXED_HOST}/ and its own address only\n");
                return refuse(StatusCode::FORBIDDEN, text);
            }
            format!("http://{authority}")
        }
        None => host.map_or_else(|| format!("http://{local}"), |host| format!("http://{host}")),
    };
    let segments = segments(uri.path())?;
    let page = match segments.split_first() {
        None => return refuse(StatusCode::BAD_REQUEST, "the target is not a path\n"),
        Some((first, [])) => match first.as_str() {
            "" => Page::Index,
            "healthz" => Page::Health,
            "key.asc" => Page::Key,
            "metrics" => Page::Metrics,
            name => match (name.strip_suffix(".sources"), name.strip_suffix(".repo")) {
                (Some(name), _) => Page::Sources(prefix(name)?),
                (None, Some(name)) => Page::Repo(prefix(name)?),
                (None, None) => Page::Below(prefix(name)?, Vec::new()),
            },
        },
        Some((first, [name])) if first == "keys" => Page::Upstream(name.clone()),
        Some((first, rest)) => Page::Below(prefix(first)?, rest.to_vec()),
    };
    Ok(Target { base, page })
}

fn prefix(name: &str) -> Result<Prefix, Refusal> {
    match name.strip_prefix('@') {
        Some(id) => match id.parse() {
            Ok(id) => Ok(Prefix::Snapshot(id)),
            Err(_) => refuse(StatusCode::NOT_FOUND, "a snapshot's name is @ and 64 lower-case hex digits\n"),
        },
        None => Ok(Prefix::Channel(name.to_string())),
    }
}

/// Whether an absolute target names this server.
fn is_ours(authority: &str, local: SocketAddr) -> bool {
    let fixed = authority.strip_suffix(":80").unwrap_or(authority);
    fixed.eq_ignore_ascii_case(FIXED_HOST) || authority.parse() == Ok(local) || (local.port() == 80 && authority.parse() == Ok(local.ip()))
}

fn length(uri: &Uri) -> usize {
    uri.authority().map_or(0, |authority| authority.as_str().len()) + uri.path_and_query().map_or(0, |path| path.as_str().len())
}

/// The one `Host`, which HTTP/1.1 asks for (RFC 9112 section 3.2) and earlier clients leave out. Two would let somebody
/// in between see another one than we do.
pub(crate) fn host(version: Version, headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version >= Version::HTTP_11 => refuse(StatusCode::BAD_REQUEST, "there is no Host header\n"),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => refuse(StatusCode::BAD_REQUEST, "there are two Host headers\n"),
        (Some(host), None) => match host.to_str().ok().filter(|host| is_host(host)) {
            Some(host) => Ok(Some(host)),
            None => refuse(StatusCode::BAD_REQUEST, "the Host header is not a host\n"),
        },
    }
}

/// A host, with a port or not, as it may stand in a client file: nothing that could end its line or field.
fn is_host(text: &str) -> bool {
    let (is_name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            (!name.is_empty() && name.len() <= 255 && name.bytes().all(allowed), port)
        }
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// The decoded segments of a path. Dots that climb, empty segments and control characters never
/// get further than here.
fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let Some(path) = path.strip_prefix('/') else { return refuse(StatusCode::BAD_REQUEST, "the target is not a path\n") };
    let parts: Vec<&str> = path.split('/').collect();
    let mut segments = Vec::with_capacity(parts.len());
    for (i, part) in parts.iter().enumerate() {
        let Some(decoded) = decode(part) else { return refuse(StatusCode::BAD_REQUEST, "the path is not well encoded\n") };
        if decoded == "." || decoded == ".." || decoded.contains(|c: char| c.is_control() || c == '/' || c == '\\') {
            return refuse(StatusCode::BAD_REQUEST, "the path has a segment that is not allowed\n");
        }
        // `/main/` is `/main`; an empty segment anywhere else is no name.
        if decoded.is_empty() && parts.len() > 1 {
            if i > 0 && i + 1 == parts.len() {
                break;
            }
            return refuse(StatusCode::NOT_FOUND, "there is no such file here\n");
        }
        segments.push(decoded);
    }
    Ok(segments)
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:8080";

    /// The status 0 is for what is no request at all.
    fn ask(version: Version, target: &str, hosts: &[&str]) -> Result<Target, u16> {
        let request = hosts.iter().fold(hyper::Request::builder().version(version).uri(target), |r, host| r.header("host", *host));
        let (Ok(request), Ok(local)) = (request.body(()), LOCAL.parse()) else { return Err(0) };
        parse(&request.into_parts().0, local).map_err(|refusal| refusal.status.as_u16())
    }

    fn get(target: &str) -> Result<Target, u16> {
        ask(Version::HTTP_11, target, &["localhost"])
    }

    #[test]
    fn a_path_never_climbs_and_never_hides_a_separator() {
        for (path, status) in [
            ("/main/../key", 400),
            ("/main/%2e%2e/key", 400),
            ("/main/%2E/key", 400),
            ("/main/a%2fb", 400),
            ("/main/a%5cb", 400),
            ("/main/a%00b", 400),
            ("/main/a%0ab", 400),
            ("/main/%zz", 400),
            ("/main/%f", 400),
            ("/main/%ff", 400),
            ("/main//dists", 404),
            ("//etc", 404),
            ("/@12/dists", 404),
        ] {
            assert_eq!(get(path), Err(status), "{path}");
        }
        let page = get("/main/pool/a%2bb~c").map(|target| target.page);
        assert_eq!(page, Ok(Page::Below(Prefix::Channel("main".into()), vec!["pool".into(), "a+b~c".into()])));
    }

    #[test]
    fn absolute_targets_are_answered_for_ourselves_only() {
        for ours in [format!("http://{FIXED_HOST}/healthz"), format!("http://{FIXED_HOST}:80/healthz"), format!("http://{LOCAL}/healthz")] {
            assert_eq!(get(&ours).map(|t| t.page), Ok(Page::Health), "{ours}");
        }
        for other in [
            "http://mirror.example/",
            "http://127.0.0.1:22/",
            "http://127.0.0.1/",
            "https://repository.twostage.invalid/",
            "http://x@127.0.0.1:8080/",
        ] {
            assert_eq!(get(other), Err(403), "{other}");
        }
        assert_eq!(get(&format!("http://{FIXED_HOST}/main.sources")).map(|t| t.base), Ok(format!("http://{FIXED_HOST}")));
    }

    #[test]
    fn a_request_has_one_host_and_that_is_one() {
        for host in ["a", "packages.example:8080", "a_b-c.d", "192.0.2.1:80", "[::1]", "[2001:db8::1]:8080"] {
            assert_eq!(ask(Version::HTTP_11, "/", &[host]).map(|t| t.base), Ok(format!("http://{host}")));
        }
        let long = "a".repeat(256);
        for wrong in
            ["", "a b", "a/b", "me@a", "a:b", "a:1:2", "a:", "a:65536", "a:+1", "[::1", "::1", "[a]", "[::1]a", "a\"", "a,b", "ä", &long]
        {
            assert_eq!(ask(Version::HTTP_11, "/", &[wrong]), Err(400), "{wrong}");
        }
        for hosts in [&["a", "a"][..], &["a", "b"]] {
            assert_eq!(ask(Version::HTTP_11, "/", hosts), Err(400));
            assert_eq!(ask(Version::HTTP_10, "/", hosts), Err(400));
        }
        // Also where the target names a host.
        assert_eq!(ask(Version::HTTP_11, &format!("http://{FIXED_HOST}/"), &[]), Err(400));
        assert_eq!(ask(Version::HTTP_11, "/", &[]), Err(400));
        assert_eq!(ask(Version::HTTP_10, "/", &[]).map(|t| t.base), Ok(format!("http://{LOCAL}")));
    }

    #[test]
    fn a_target_has_an_end() {
        assert!(get(&format!("/{}", "a".repeat(8191))).is_ok());
        for long in
            [format!("/{}", "a".repeat(8192)), format!("/?{}", "a".repeat(9000)), format!("http://{FIXED_HOST}/{}", "a".repeat(8180))]
        {
            assert_eq!(get(&long), Err(414));
        }
    }
}

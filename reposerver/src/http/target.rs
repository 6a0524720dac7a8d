//! What a request asks for. Pure: a request's head in, a target or a refusal out.

use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode, Uri};
use std::net::SocketAddr;
use twostage_model::SnapshotId;
use twostage_model::date;
use twostage_model::names::FIXED_HOST;

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
pub(crate) fn parse(method: &Method, uri: &Uri, headers: &HeaderMap, local: SocketAddr) -> Result<Target, Refusal> {
    if method != Method::GET && method != Method::HEAD {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
    }
    let base = match uri.authority() {
        Some(authority) => {
            if !is_ours(authority.as_str(), local) || uri.scheme_str() != Some("http") {
                let text = format!("this is no proxy: it answers for http://{FIXED_HOST}/ and its own address only\n");
                return refuse(StatusCode::FORBIDDEN, text);
            }
            format!("http://{authority}")
        }
        None => match headers.get(header::HOST) {
            Some(host) => match host.to_str().ok().filter(|host| is_host(host)) {
                Some(host) => format!("http://{host}"),
                None => return refuse(StatusCode::BAD_REQUEST, "the Host header is not a host\n"),
            },
            None => format!("http://{local}"),
        },
    };
    let segments = segments(uri.path())?;
    let page = match segments.split_first() {
        None => return refuse(StatusCode::BAD_REQUEST, "the target is not a path\n"),
        Some((first, [])) => match first.as_str() {
            "" => Page::Index,
            "healthz" => Page::Health,
            "key.asc" => Page::Key,
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

/// A host and port as they may stand in a client file: nothing that could end its line or field.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.len() <= 255 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
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

/// Whether the client's copy is good. `If-None-Match` beats `If-Modified-Since` (RFC 9110 section 13.2.2).
pub(crate) fn not_modified(headers: &HeaderMap, etag: &str, modified: Option<i64>) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let tags = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        return tags.map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    }
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| date::parse_http(value.to_str().ok()?));
    matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
}

/// What part of a body is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Range {
    Whole,
    /// First and last byte, both included.
    Part(u64, u64),
    /// Nothing of it is within the body.
    Beyond,
}

/// Reads `Range`. Several ranges, another unit, or what cannot be read give the whole, which RFC
/// 9110 section 14.2 allows; so does an `If-Range` that names another state of the file.
pub(crate) fn range(headers: &HeaderMap, etag: &str, modified: Option<i64>, length: u64) -> Range {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(spec) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Range::Whole };
    if headers.contains_key(header::IF_RANGE) {
        let same = text(header::IF_RANGE).is_some_and(|sent| sent == etag || (modified.is_some() && date::parse_http(sent) == modified));
        if !same {
            return Range::Whole;
        }
    }
    let number = |text: &str| if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse::<u64>().ok() };
    let Some((first, last)) = spec.split_once('-') else { return Range::Whole };
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => Range::Beyond,
            Some(_) if length == 0 => Range::Beyond,
            Some(n) => Range::Part(length.saturating_sub(n), length - 1),
            None => Range::Whole,
        },
        (first, last) => match (number(first), number(last), last) {
            (Some(first), _, "") | (Some(first), Some(_), _) if first >= length => Range::Beyond,
            (Some(first), None, "") => Range::Part(first, length - 1),
            (Some(first), Some(last), _) if first <= last => Range::Part(first, last.min(length - 1)),
            _ => Range::Whole,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const LOCAL: &str = "127.0.0.1:8080";

    fn get(target: &str) -> Result<Target, u16> {
        let (Ok(uri), Ok(local)) = (target.parse::<Uri>(), LOCAL.parse()) else { return Err(0) };
        parse(&Method::GET, &uri, &HeaderMap::new(), local).map_err(|refusal| refusal.status.as_u16())
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
    fn ranges_are_read_as_the_rfc_says() {
        let ask = |text: &str, length| {
            let mut headers = HeaderMap::new();
            headers.extend(HeaderValue::from_str(text).map(|value| (header::RANGE, value)));
            range(&headers, "\"t\"", None, length)
        };
        assert_eq!(ask("bytes=0-0", 10), Range::Part(0, 0));
        assert_eq!(ask("bytes=5-", 10), Range::Part(5, 9));
        assert_eq!(ask("bytes=5-99", 10), Range::Part(5, 9));
        assert_eq!(ask("bytes=-3", 10), Range::Part(7, 9));
        assert_eq!(ask("bytes=-99", 10), Range::Part(0, 9));
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(ask(beyond, 10), Range::Beyond, "{beyond}");
        }
        for whole in
            ["bytes=5-3", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=+1-2", "bytes=0-99999999999999999999"]
        {
            assert_eq!(ask(whole, 10), Range::Whole, "{whole}");
        }
        assert_eq!(ask("bytes=0-", 0), Range::Beyond);
    }
}

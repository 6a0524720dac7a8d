//! What the server says of its requests. A client chooses the words of a request, and whoever reads the log has a
//! terminal: what it chose is shown short, in printable characters of ASCII, and without what may be a secret.

use hyper::StatusCode;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// What log lines of requests are filed under.
const TARGET: &str = "twostage::http";
/// Bytes of a word of a client that are shown.
const SHOWN: usize = 512;

/// One answered request, or one that was none.
#[derive(Debug, Clone)]
pub struct AccessEntry {
    /// Who asked.
    pub peer: SocketAddr,
    /// `GET`, `HEAD`, …; `-` if what came was no request of HTTP.
    pub method: String,
    /// The target, a path or an absolute URL: with neither query nor password, in printable characters and at most a few
    /// hundred of them; `-` if what came was no request of HTTP.
    pub target: String,
    /// The `User-Agent`, empty without one; shown like the target.
    pub agent: String,
    /// The status.
    pub status: u16,
    /// What went wrong, for the operator (it may name paths); the client is told less.
    pub problem: Option<String>,
    /// Bytes of the body that went to the connection; less than the length when it broke.
    pub sent: u64,
    /// From the head of the request to the last byte.
    pub time: Duration,
}

/// Called for each request when its response is over.
pub type Access = Arc<dyn Fn(&AccessEntry) + Send + Sync>;

/// An entry, in words that are shown as they are.
pub(crate) struct Line<'a> {
    pub(crate) peer: SocketAddr,
    pub(crate) peer_shown: &'a str,
    pub(crate) method: Cow<'a, str>,
    pub(crate) target: Cow<'a, str>,
    pub(crate) agent: Cow<'a, str>,
    pub(crate) status: u16,
    pub(crate) problem: Option<&'a str>,
    pub(crate) sent: u64,
    pub(crate) time: Duration,
}

impl Line<'_> {
    fn entry(&self) -> AccessEntry {
        AccessEntry {
            peer: self.peer,
            method: self.method.to_string(),
            target: self.target.to_string(),
            agent: self.agent.to_string(),
            status: self.status,
            problem: self.problem.map(String::from),
            sent: self.sent,
            time: self.time,
        }
    }
}

/// Where entries go: to whoever asked for them, else to the log.
#[derive(Clone)]
pub(crate) struct Log(pub(crate) Option<Access>);

impl Log {
    /// Whether anybody reads of requests that went well.
    pub(crate) fn is_read(&self) -> bool {
        self.0.is_some() || tracing::enabled!(target: TARGET, Level::INFO)
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        if let Some(access) = &self.0 {
            access(&line.entry());
            return;
        }
        let Line { peer_shown: peer, status, sent, .. } = line;
        let (method, uri, agent) = (&*line.method, &*line.target, &*line.agent);
        let millis = u64::try_from(line.time.as_millis()).unwrap_or(u64::MAX);
        match line.problem {
            Some(problem) => {
                tracing::error!(target: TARGET, %peer, method, uri, status, sent, millis, agent, problem = printable(problem), "request failed")
            }
            None => tracing::info!(target: TARGET, %peer, method, uri, status, sent, millis, agent, "request"),
        }
    }

    /// Says why a connection broke off. What is no request of HTTP is an entry.
    pub(crate) fn broken(&self, peer: SocketAddr, error: &hyper::Error) {
        if error.is_parse() {
            let status = match error.to_string() {
                text if text.contains("URI") && error.is_parse_too_large() => StatusCode::URI_TOO_LONG,
                _ if error.is_parse_too_large() => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            let problem = format!("malformed request: {}", sentence(error));
            let (status, problem, time) = (status.as_u16(), Some(&*problem), Duration::ZERO);
            let peer_shown = &peer.to_string();
            self.write(&Line {
                peer,
                peer_shown,
                method: "-".into(),
                target: "-".into(),
                agent: "".into(),
                status,
                problem,
                sent: 0,
                time,
            });
        } else {
            tracing::debug!(target: TARGET, %peer, why = sentence(error), "connection ended early");
        }
    }
}

/// An error with its causes.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    shown(&causes.collect::<Vec<_>>().join(": ")).into_owned()
}

/// What went wrong, in our own words, without what could move a cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A target without its query and without a user's name and password.
pub(crate) fn shown_target(target: &str) -> Cow<'_, str> {
    // A path without a query has neither.
    if target.starts_with('/') && !target.contains(['?', '#']) {
        return shown(target);
    }
    shown(&twostage_model::url::shown(target)).into_owned().into()
}

/// [`shown`] of bytes that need not be text.
pub(crate) fn shown_bytes(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => shown(text),
        Err(_) => shown(&String::from_utf8_lossy(bytes)).into_owned().into(),
    }
}

/// Words of a stranger, in printable ASCII: nothing in them ends a line, or is obeyed by a terminal. (What writes a line
/// of the log puts them into quotation marks, and escapes those that are in them.)
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len().min(SHOWN));
    for (at, c) in text.char_indices() {
        match c {
            _ if at >= SHOWN => {
                let _ = write!(shown, "… ({} bytes)", text.len());
                break;
            }
            // (The last is our own, for what is left out.)
            ' '..='~' | '…' => shown.push(c),
            _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| _ = write!(shown, "%{byte:02X}")),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_stranger_are_harmless_and_short() {
        assert_eq!(shown("Debian APT-HTTP/1.3 (2.6.1)"), "Debian APT-HTTP/1.3 (2.6.1)");
        assert_eq!(shown("a\r\nb\x1b[2J\"c\\"), "a%0D%0Ab%1B[2J\"c\\");
        assert_eq!(shown("\u{202e}ä\u{2028}\u{7f}"), "%E2%80%AE%C3%A4%E2%80%A8%7F");
        let words = "\x07".repeat(100_000);
        let long = shown(&words);
        assert!(long.len() < 4 * SHOWN && long.ends_with("… (100000 bytes)"), "{}", long.len());
    }

    #[test]
    fn a_target_is_shown_without_what_may_be_secret() {
        assert_eq!(shown_target("/main.sources?token=secret"), "/main.sources?…");
        assert_eq!(shown_target("http://me:secret@h/x?y#z"), "http://…@h/x?…");
        assert_eq!(shown_target("/main/pool/a%2bb"), "/main/pool/a%2bb");
    }
}

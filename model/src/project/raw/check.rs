//! `check` of `[runtime.<image>]`: a command that must succeed, or a server that must answer.

use super::running::milliseconds;
use super::text::shown;
use super::{CheckTable, CheckValue, Reader};
use crate::Result;
use crate::project::{At, Until};
use serde_spanned::Spanned;
use std::time::Duration;

/// How long a server has where the project file does not say.
const USUAL: Duration = Duration::from_secs(20);
/// How long one may have.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
/// Bytes of an address, at most.
const MAX_ADDRESS: usize = 2000;

impl Reader<'_> {
    /// The command, and what it must answer if it is a server. A server without a command is what the image itself runs.
    pub(super) fn check(&self, raw: Option<Spanned<CheckValue>>) -> Result<(Vec<String>, Option<Until>)> {
        let Some(raw) = raw else { return Ok((Vec::new(), None)) };
        let At { line, value } = self.at(raw);
        match value {
            CheckValue::Words(words) => Ok((self.command("check", words, true)?, None)),
            CheckValue::Table(table) => {
                let CheckTable { run, until, timeout } = *table;
                let run = self.command("run", run, true)?;
                let Some(until) = until else {
                    return Err(self
                        .error(line, "the `check` has no `until`: the address that must answer")
                        .hint("add until = \"http://127.0.0.1:8080/\", or write the command alone: check = [\"…\"]"));
                };
                Ok((run, Some(self.until(until, timeout)?)))
            }
        }
    }

    fn until(&self, address: Spanned<String>, timeout: Option<Spanned<String>>) -> Result<Until> {
        let At { line, value: address } = self.at(address);
        let (port, path) = parts(&address).map_err(|why| {
            self.error(line, format!("`{}` is no address of a server in the image: {why}", shown(&address)))
                .hint("write it like \"http://127.0.0.1:8080/\" or \"tcp://127.0.0.1:5432\"")
        })?;
        let timeout = match timeout.map(|timeout| self.at(timeout)) {
            None => USUAL,
            Some(At { line, value }) => {
                milliseconds(&value).map(Duration::from_millis).filter(|time| (SHORTEST..=LONGEST).contains(time)).ok_or_else(|| {
                    self.error(line, format!("`{}` is not a time that a check may take", shown(&value)))
                        .hint("write one from \"1s\" to \"10m\", such as \"20s\"")
                })?
            }
        };
        Ok(Until { address, port, path, timeout })
    }
}

/// The port of an address, and what is asked for there; or why it is none. A container's own loopback is all that it names.
fn parts(address: &str) -> Result<(u16, Option<String>), &'static str> {
    if address.len() > MAX_ADDRESS {
        return Err("it is too long");
    }
    if !address.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has a character that no URL has");
    }
    let (scheme, rest) = address.split_once("://").ok_or("it has no scheme")?;
    let is_http = match scheme {
        "http" => true,
        "tcp" => false,
        "https" => return Err("https cannot be asked there: no certificate is for a loopback address; tcp:// tries the port"),
        _ => return Err("only http and tcp are asked"),
    };
    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
    if !["127.0.0.1", "localhost"].contains(&host) {
        return Err("only the container itself is asked: 127.0.0.1 or localhost");
    }
    let port = match port {
        None if is_http => 80,
        None => return Err("it has no port"),
        Some(text) => {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0 && port.to_string() == text);
            port.ok_or("its port is not a number from 1 to 65535")?
        }
    };
    match path.chars().next() {
        _ if path.contains('#') => Err("a part after # is never sent to a server"),
        None if is_http => Ok((port, Some("/".into()))),
        None => Ok((port, None)),
        Some(_) if !is_http => Err("nothing follows the port of tcp://"),
        Some('/') => Ok((port, Some(path.into()))),
        Some(_) => Ok((port, Some(format!("/{path}")))),
    }
}

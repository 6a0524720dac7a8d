//! What ADD names by a URL: the program `curl` fetches it, each URL once for a run, into a file without a name.
//!
//! It reads no configuration and no passwords of the user's; what proxies the environment and the build name, it uses.
//!
//! A Dockerfile is a stranger's: its URLs lead to no address that is this machine's own (`address.rs`). So names are looked
//! up here, `curl` is told the addresses that were checked, and each redirect is a request of its own.

use super::address::Destinations;
use crate::blocking;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use twostage_model::address;
use twostage_model::error::OrFail as _;
use twostage_model::url::{CURL_ARGUMENTS, curl_config, shown};
use twostage_model::{Class, Error, HashWrite, Result, Sha256, date};

/// Bytes of a file, at most; as of what an archive holds.
const MAX_BYTES: u64 = super::files::MAX_BYTES;
/// Bytes of what a server says before the file, at most; all redirects together.
const MAX_HEAD: u64 = 1 << 20;

/// Redirects that are followed; as `curl` is told where it follows them.
const MAX_REDIRECTS: u32 = 10;
/// What a line begins with in which `curl` tells where a URL leads.
const MOVED: &str = "twostage-moved ";
const ELSEWHERE: &str = "put the file into the context, or serve it where containers reach it; a build on the network `host` reaches all";

/// What a server said.
enum Answer {
    File(Fetched),
    /// It is at another URL.
    Moved(String),
}

/// What was fetched so far.
#[derive(Default)]
pub struct Remote {
    /// Set for `curl`, besides what this program's environment says.
    proxies: Vec<(String, String)>,
    destinations: Destinations,
    files: Mutex<BTreeMap<String, Arc<Fetched>>>,
}

/// A file that was fetched.
#[derive(Debug)]
pub struct Fetched {
    file: File,
    /// Its bytes.
    pub size: u64,
    /// Their digest.
    pub sha256: Sha256,
    /// When it was last changed, if the server says that.
    pub modified: Option<i64>,
}

impl Remote {
    /// `proxies` are those of the build.
    pub fn through(proxies: Vec<(String, String)>, destinations: Destinations) -> Remote {
        Remote { proxies, destinations, files: Mutex::default() }
    }

    /// The file that a URL names, which has to have that digest.
    ///
    /// # Errors
    /// It cannot be fetched, is too large, or is another.
    pub async fn get(&self, url: &str, checksum: Option<&Sha256>) -> Result<Arc<Fetched>> {
        // (One after another, so that nothing is fetched twice.)
        let mut files = self.files.lock().await;
        let file = match files.get(url) {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(self.fetch(url).await?);
                files.insert(url.to_owned(), Arc::clone(&file));
                file
            }
        };
        match checksum {
            Some(wanted) if *wanted != file.sha256 => {
                let what = format!("{} has not the digest that --checksum says", shown(url));
                Err(Error::new(Class::Project, what)
                    .because(format!("it is sha256:{}, and the file says sha256:{wanted}", file.sha256))
                    .hint("if the new content is right, write its digest into the Dockerfile"))
            }
            _ => Ok(file),
        }
    }

    async fn fetch(&self, url: &str) -> Result<Fetched> {
        let failed = || Error::new(Class::Project, format!("cannot fetch {}", shown(url)));
        let mut at = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let checked = match self.destinations {
                Destinations::Everything => None,
                Destinations::World { .. } => Some(self.checked(&at).await.map_err(|why| {
                    let why = if at == url { why } else { format!("it leads to {}: {why}", shown(&at)) };
                    failed().because(why).hint(ELSEWHERE)
                })?),
            };
            match self.ask(&at, url, checked.as_deref()).await? {
                Answer::File(file) => return Ok(file),
                Answer::Moved(to) => at = address::with_user(&at, &to),
            }
        }
        Err(failed().because(format!("Maximum ({MAX_REDIRECTS}) redirects followed")).hint("correct the URL"))
    }

    /// Looks up where a URL leads, and gives what `curl` is told of it: that name has these addresses. An error is why it
    /// is not asked.
    async fn checked(&self, url: &str) -> std::result::Result<String, String> {
        let Some(host) = address::host(url) else {
            let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
            return Err(match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" => "its host is written in a way that programs read differently".into(),
                other => format!("Protocol \"{other}\" is not fetched"),
            });
        };
        let (name, port) = (host.name, host.port);
        let addresses: Vec<IpAddr> = match tokio::net::lookup_host((name, port)).await {
            Ok(found) => found.map(|socket| socket.ip()).collect(),
            // It is the proxy that knows it, and curl must not ask anew.
            Err(_) if self.has_proxy() => vec![address::NOWHERE],
            Err(error) => return Err(format!("Could not resolve host: {name} ({error})")),
        };
        if let Some((refused, what)) = addresses.iter().find_map(|one| Some((one, self.destinations.refusal(*one, port)?))) {
            let place = if refused.to_string() == name { name.to_owned() } else { format!("{name} ({refused})") };
            return Err(format!("{place} is {what}, which no URL of a Dockerfile may lead to"));
        }
        let addresses = addresses.iter().map(|one| if one.is_ipv6() { format!("[{one}]") } else { one.to_string() });
        Ok(format!("{name}:{port}:{}", addresses.collect::<Vec<_>>().join(",")))
    }

    /// Whether `curl` may be told of a proxy.
    fn has_proxy(&self) -> bool {
        let own = std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.is_empty()));
        let given = self.proxies.iter().map(|(name, value)| (name.clone(), value.is_empty()));
        own.chain(given).any(|(name, empty)| !empty && ["http_proxy", "https_proxy", "all_proxy"].contains(&&*name.to_ascii_lowercase()))
    }

    /// Asks for one URL; `named` is the one that the Dockerfile names. Redirects are followed unless `checked` says
    /// which addresses its host has.
    async fn ask(&self, url: &str, named: &str, checked: Option<&str>) -> Result<Answer> {
        let what = || format!("cannot fetch {}", shown(named));
        let head = tempfile::Builder::new().prefix("twostage-head-").tempfile().or_fail(Class::System, what)?;
        let mut curl = Command::new("curl");
        curl.args(CURL_ARGUMENTS)
            .arg("--dump-header")
            .arg(head.path())
            .envs(self.proxies.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut curl = curl.spawn().map_err(|cause| {
            let missing = cause.kind() == io::ErrorKind::NotFound;
            let error = Error::new(Class::System, format!("{}: cannot run curl", what())).because(cause);
            if missing { error.hint("install it: apt-get install curl") } else { error }
        })?;
        if let Some(mut stdin) = curl.stdin.take() {
            // Where it has ended already it says why.
            let mut config = curl_config(url, "http,https", MAX_BYTES);
            if let Some(checked) = checked {
                // (The last of several words counts.)
                let _ = write!(config, "no-location\nresolve = \"{checked}\"\nwrite-out = \"%{{stderr}}\\n{MOVED}%{{redirect_url}}\\n\"\n");
            }
            let _ = stdin.write_all(config.as_bytes()).await;
        }
        // It writes to us, not to a file, so that it ends with us, however we end.
        let Some(stdout) = curl.stdout.take() else { return Err(Error::new(Class::System, what())) };
        let stdout = stdout.into_owned_fd().map(File::from).or_fail(Class::System, what)?;
        let unwritten = what();
        let writing = blocking(move || {
            let mut out = HashWrite::new(tempfile::tempfile().or_fail(Class::System, || unwritten.clone())?);
            io::copy(&mut stdout.take(MAX_BYTES + 1), &mut out).or_fail(Class::System, || unwritten)?;
            Ok(out.finish())
        });
        let (written, done) = tokio::join!(writing, curl.wait_with_output());
        let ((file, sha256, size), done) = (written?, done.or_fail(Class::System, what)?);
        // (63 is "Maximum file size exceeded."; older ones know only the length that a server says beforehand.)
        if size > MAX_BYTES || done.status.code() == Some(63) {
            return Err(Error::new(Class::Project, what())
                .because(format!("it has more than {MAX_BYTES} bytes"))
                .hint("fetch it in a RUN, with a program of the image"));
        }
        let said = String::from_utf8_lossy(&done.stderr);
        let (told, said): (Vec<&str>, Vec<&str>) = said.trim().lines().partition(|line| line.starts_with(MOVED));
        if !done.status.success() {
            let last: Vec<&str> = said.into_iter().rev().filter(|line| !line.is_empty()).take(3).collect();
            let said = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            let said = if said.is_empty() { done.status.to_string() } else { said };
            return Err(Error::new(Class::Project, what())
                .because(said)
                .hint("correct the URL; what is only reached through a proxy needs http_proxy or https_proxy"));
        }
        if let Some(to) = told.last().and_then(|line| line.strip_prefix(MOVED)).filter(|to| !to.is_empty()) {
            return Ok(Answer::Moved(to.to_owned()));
        }
        let mut told = Vec::new();
        File::open(head.path()).and_then(|head| head.take(MAX_HEAD).read_to_end(&mut told)).or_fail(Class::System, what)?;
        Ok(Answer::File(Fetched { file, size, sha256, modified: modified(&String::from_utf8_lossy(&told)) }))
    }
}

impl Fetched {
    /// Its bytes, from the start.
    pub fn read(&self) -> impl Read {
        Reading { file: &self.file, at: 0 }
    }
}

/// A file from its start, whoever reads it besides.
struct Reading<'f> {
    file: &'f File,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// What the last of several answers says of the file's time.
fn modified(head: &str) -> Option<i64> {
    let mut found = None;
    for line in head.lines() {
        if line.starts_with("HTTP/") {
            found = None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("last-modified")
        {
            found = date::parse_http(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_last_answer() {
        let redirected = "HTTP/1.1 302 Found\r\nLast-Modified: Sun, 13 Sep 2020 12:26:40 GMT\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nlast-modified: Fri, 14 Jul 2017 02:40:00 GMT\r\n\r\n";
        assert_eq!(modified(&format!("{redirected}{answer}")), Some(1_500_000_000));
        assert_eq!(modified(&format!("{answer}HTTP/1.1 200 OK\r\n\r\n")), None);
        assert_eq!(modified("HTTP/1.1 200 OK\r\nLast-Modified: yesterday\r\n"), None);
    }
}

//! What ADD names by a URL: the program `curl` fetches it, each URL once for a run, into a file without a name.
//!
//! It reads no configuration and no passwords of the user's; what proxies the environment and the build name, it uses.

use crate::blocking;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use twostage_model::error::OrFail as _;
use twostage_model::url::{CURL_ARGUMENTS, curl_config, shown};
use twostage_model::{Class, Error, HashWrite, Result, Sha256, date};

/// Bytes of a file, at most; as of what an archive holds.
const MAX_BYTES: u64 = super::files::MAX_BYTES;
/// Bytes of what a server says before the file, at most; all redirects together.
const MAX_HEAD: u64 = 1 << 20;

/// What was fetched so far.
#[derive(Default)]
pub struct Remote {
    /// Set for `curl`, besides what this program's environment says.
    proxies: Vec<(String, String)>,
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
    pub fn through(proxies: Vec<(String, String)>) -> Remote {
        Remote { proxies, files: Mutex::default() }
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
        let what = || format!("cannot fetch {}", shown(url));
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
            let _ = stdin.write_all(curl_config(url, "http,https", MAX_BYTES).as_bytes()).await;
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
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let last: Vec<&str> = said.trim().lines().rev().take(3).collect();
            let said = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            let said = if said.is_empty() { done.status.to_string() } else { said };
            return Err(Error::new(Class::Project, what())
                .because(said)
                .hint("correct the URL; what is only reached through a proxy needs http_proxy or https_proxy"));
        }
        let mut told = Vec::new();
        File::open(head.path()).and_then(|head| head.take(MAX_HEAD).read_to_end(&mut told)).or_fail(Class::System, what)?;
        Ok(Fetched { file, size, sha256, modified: modified(&String::from_utf8_lossy(&told)) })
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

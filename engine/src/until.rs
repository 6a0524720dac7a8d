//! A server in a container that is asked until it answers.
//!
//! ```text
//! embedded   sockets that were made in the container's network ─► 127.0.0.1:PORT there
//! daemons    a process of its own in the container, by /bin/bash ─► 127.0.0.1:PORT there
//! ```
//!
//! So nothing of this machine listens for it, and the container needs no network.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use twostage_model::Result;

/// After a try without an answer.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one try may take.
pub(crate) const ONE_TRY: Duration = Duration::from_secs(5);
/// How long a server has for its end after SIGTERM, before it is killed.
const GRACE: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read, at most, and how long the rest may take: a server that is left in the middle of its
/// answer may complain.
const MAX_ANSWER: u64 = 64 << 10;
const REST: Duration = Duration::from_secs(1);
/// Bytes of its first line, at most.
const MAX_LINE: u64 = 4096;
/// `SIGTERM`.
pub(crate) const TERMINATE: i32 = 15;

/// What a server in a container must answer.
#[derive(Debug, Clone, Copy)]
pub struct ServerTrial<'a> {
    /// Its port, on the container's 127.0.0.1.
    pub port: u16,
    /// What is asked for by HTTP, `/`: the answer must have a status of 2xx or 3xx, and no redirect is followed. None:
    /// a connection is enough.
    pub path: Option<&'a str>,
    /// How long it has, from its start.
    pub timeout: Duration,
}

/// How a try of a server went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It answered.
    Answered {
        /// This long after its start.
        after: Duration,
        /// It was then told to end by SIGTERM, did not, and was killed.
        killed: bool,
    },
    /// It ended before it answered, with this exit status.
    Ended(i64),
    /// It did not answer in time; what the last try came to.
    Silent(String),
}

/// What one try came to: nothing, or why it is no answer.
pub(crate) type TryResult = std::result::Result<(), String>;

impl ServerTrial<'_> {
    /// The whole request.
    pub(crate) fn request(&self) -> Option<String> {
        let path = self.path?;
        let port = self.port;
        Some(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: twostage\r\nAccept: */*\r\nConnection: close\r\n\r\n"))
    }

    /// Asks by `ask` while `running` gives the exit status of the server when it ends; `end` sends it SIGTERM.
    ///
    /// # Errors
    /// That of `running`.
    pub(crate) async fn watch<A: Future<Output = TryResult>>(
        &self,
        running: impl Future<Output = Result<i64>>,
        ask: impl Fn() -> A,
        end: impl Future<Output = ()>,
    ) -> Result<Tried> {
        let start = Instant::now();
        let mut last = "it was not asked yet".to_string();
        let asking = async {
            loop {
                match timeout(ONE_TRY, ask()).await {
                    Ok(Ok(())) => return,
                    Ok(Err(why)) => last = why,
                    Err(_) => last = format!("no answer within {} seconds", ONE_TRY.as_secs()),
                }
                sleep(PAUSE).await;
            }
        };
        let mut running = pin!(running);
        let answered = tokio::select! {
            // What has ended has not answered, whoever else listens there.
            biased;
            ended = &mut running => return Ok(Tried::Ended(ended?)),
            answered = timeout(self.timeout, asking) => answered.is_ok(),
        };
        if !answered {
            return Ok(Tried::Silent(last));
        }
        let after = start.elapsed();
        let ending = async {
            end.await;
            // How it ends is its own affair.
            let _ = running.await;
        };
        let killed = timeout(GRACE, ending).await.is_err();
        Ok(Tried::Answered { after, killed })
    }
}

/// Asks over a connection, which is enough where there is no request.
pub(crate) async fn asked(connection: io::Result<TcpStream>, request: Option<&str>) -> TryResult {
    exchange(connection, request).await.unwrap_or_else(|error| Err(error.to_string()))
}

async fn exchange(connection: io::Result<TcpStream>, request: Option<&str>) -> io::Result<TryResult> {
    let mut stream = connection?;
    let Some(request) = request else { return Ok(Ok(())) };
    // (One that answers without listening may be gone already.)
    let written = stream.write_all(request.as_bytes()).await;
    let mut answer = BufReader::new(stream);
    let mut line = Vec::new();
    let read = (&mut answer).take(MAX_LINE).read_until(b'\n', &mut line).await;
    if line.is_empty() {
        written.and(read.map(drop))?;
    }
    // (Whatever becomes of the rest.)
    let _ = timeout(REST, tokio::io::copy(&mut answer.take(MAX_ANSWER), &mut tokio::io::sink())).await;
    Ok(judged(&line))
}

/// Judges the first line of an answer.
pub(crate) fn judged(line: &[u8]) -> TryResult {
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| std::str::from_utf8(status).ok());
    let status = status.and_then(|status| status.parse::<u16>().ok()).filter(|status| (100..1000).contains(status));
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("it answers with status {status}")),
        None if line.is_empty() => Err("it closes the connection without an answer".into()),
        None => Err("what it answers is no HTTP".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_of_success_is_an_answer() {
        for good in ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 204", "HTTP/1.1 302 Found", "HTTP/1.1 399"] {
            assert_eq!(judged(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("HTTP/1.1 404 Not Found", "status 404"),
            ("HTTP/1.1 503", "status 503"),
            ("HTTP/1.1 100 Continue", "status 100"),
            ("", "without an answer"),
            ("HTTP/2 200", "no HTTP"),
            ("HTTP/1.1 +20", "no HTTP"),
            ("HTTP/1.1 2", "no HTTP"),
            ("HTTP/1.1 \u{fc}00", "no HTTP"),
            ("SSH-2.0-x", "no HTTP"),
        ] {
            assert!(judged(bad.as_bytes()).is_err_and(|said| said.contains(why)), "{bad}: {:?}", judged(bad.as_bytes()));
        }
    }

    #[tokio::test]
    async fn a_server_that_says_too_much_or_nothing_is_heard_to_an_end() {
        let served = async |said: Vec<u8>, request: Option<&'static str>| {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let at = server.local_addr().expect("its address");
            let serving = tokio::spawn(async move {
                let (mut client, _) = server.accept().await.expect("a client");
                let mut heard = vec![0; 1000];
                let length = if request.is_some() { client.read(&mut heard).await.expect("a request") } else { 0 };
                // Whoever asks may have heard enough.
                let _ = client.write_all(&said).await;
                heard.truncate(length);
                String::from_utf8(heard).expect("text")
            });
            let asked = asked(TcpStream::connect(at).await, request).await;
            (asked, serving.await.expect("no panic"))
        };
        let until = ServerTrial { port: 8080, path: Some("/a?b"), timeout: Duration::from_secs(1) };
        let request = until.request().expect("a request");
        assert!(request.starts_with("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n") && request.ends_with("\r\n\r\n"), "{request}");
        let (ok, heard) = served(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(), Some("GET / HTTP/1.1\r\n\r\n")).await;
        assert_eq!((ok, heard.as_str()), (Ok(()), "GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(served(Vec::new(), None).await, (Ok(()), String::new()));
        let endless = [b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 1 << 20]].concat();
        assert_eq!(served(endless, Some("x")).await.0, Ok(()));
        assert_eq!(served(vec![b'x'; 1 << 20], Some("x")).await.0, Err("what it answers is no HTTP".into()));
        assert!(served(Vec::new(), Some("x")).await.0.is_err_and(|why| why.contains("without an answer")));
        let refused = asked(Err(io::ErrorKind::ConnectionRefused.into()), Some("x")).await;
        assert!(refused.is_err_and(|why| why.contains("connection refused")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_asked_until_it_answers_ends_or_has_no_more_time() {
        let until = ServerTrial { port: 1, path: None, timeout: Duration::from_secs(20) };
        let tries = std::cell::Cell::new(0);
        let third = || {
            tries.set(tries.get() + 1);
            std::future::ready(if tries.get() < 3 { Err("refused".to_string()) } else { Ok(()) })
        };
        let obedient = tokio::sync::Notify::new();
        let running = async {
            obedient.notified().await;
            Ok(143)
        };
        let tried = until.watch(running, third, async { obedient.notify_one() }).await;
        assert_eq!(tried.ok(), Some(Tried::Answered { after: 2 * PAUSE, killed: false }));
        let tried = until.watch(std::future::pending(), || std::future::ready(Ok(())), std::future::ready(())).await;
        assert_eq!(tried.ok(), Some(Tried::Answered { after: Duration::ZERO, killed: true }));
        let ending = async {
            sleep(Duration::from_secs(2)).await;
            Ok(3)
        };
        let tried = until.watch(ending, || std::future::ready(Err("refused".into())), std::future::ready(())).await;
        assert_eq!(tried.ok(), Some(Tried::Ended(3)));
        let tried = until.watch(std::future::pending(), std::future::pending, std::future::ready(())).await;
        assert_eq!(tried.ok(), Some(Tried::Silent("no answer within 5 seconds".into())));
    }
}

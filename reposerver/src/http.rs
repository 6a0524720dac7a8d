//! The server: apt's and dnf's files over HTTP/1.1.
//!
//! ```text
//! GET /                        what is here, for people
//! GET /healthz  /key.asc       alive; the public key
//! GET /metrics                 numbers about the server, for Prometheus
//! GET /keys/<fingerprint>.asc  the key of somebody who signed rpms elsewhere
//! GET /main.sources            a client file for the channel main, the key in it
//! GET /main.repo               ... for dnf and zypper
//! GET /@<id>.sources           ... for one snapshot, and so /@<id>.repo
//! GET /main/…  /@<id>/…        dists/twostage/…, repodata/…, SHA256SUMS, pool/ab/<sha256>/<any name>,
//!                              pool/ab/<identity>/<fingerprint>/<any name> for an rpm with our signature
//! ```
//!
//! A client behind `http_proxy` sends absolute targets; they are answered for [`crate::FIXED_HOST`] and
//! for the address that it reached us on, and for nothing else: this is no open proxy.

mod answer;
mod body;
mod conditions;
mod connection;
mod crowd;
mod exchange;
mod hot;
mod log;
mod meters;
mod pairs;
mod store;
mod stream;
mod target;

pub use crowd::Limits;
pub use log::{Access, AccessEntry};

use crate::Repository;
use answer::metrics;
use body::Body;
use crowd::Crowd;
use hot::{Found, Hot};
use log::Log;
use meters::Meters;
use pairs::Pairs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use target::{Page, Target};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result};

/// How long connections may take to finish their response at a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of requests that are not whole yet, of all connections together.
const MOST_UNREAD: usize = 64 << 20;
/// Requests for which the repository is asked at once.
const FINDING: usize = 64;
/// How often a request is tried again where there are no file descriptors left, and after what time.
const AGAIN: (usize, Duration) = (10, Duration::from_millis(20));
/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 4096;

/// A running server. Dropping it closes its listeners; [`Server::stop`] also waits for what runs.
pub struct Server {
    state: Arc<State>,
    addresses: Mutex<Vec<SocketAddr>>,
    listeners: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

struct State {
    repository: Arc<Repository>,
    log: Log,
    crowd: Arc<Crowd>,
    hot: Hot,
    pairs: Pairs,
    meters: Meters,
    /// Bytes of heads that are not whole yet.
    unread: AtomicUsize,
    finding: Semaphore,
    /// By target: who asks for what somebody else just asked for waits for the answer to that.
    turns: [tokio::sync::Mutex<()>; FINDING],
}

impl Server {
    /// Listens on each of `listen` (port 0 takes a free one) and serves until stopped. Requests are told to `access`, or
    /// without that to the log (`tracing`): what went well at `info`, what did not at `error`. Must be called in a tokio
    /// runtime.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn start(repository: Arc<Repository>, listen: &[SocketAddr], access: Option<Access>) -> Result<Server> {
        Server::limited(repository, listen, access, Limits::default()).await
    }

    /// The same, with limits of its own.
    ///
    /// # Errors
    /// As of [`Server::start`].
    pub async fn limited(repository: Arc<Repository>, listen: &[SocketAddr], access: Option<Access>, limits: Limits) -> Result<Server> {
        let state = Arc::new(State {
            repository,
            log: Log(access),
            crowd: Crowd::new(limits),
            hot: Hot::default(),
            pairs: Pairs::default(),
            meters: Meters::default(),
            unread: AtomicUsize::new(0),
            finding: Semaphore::new(FINDING),
            turns: [const { tokio::sync::Mutex::const_new(()) }; FINDING],
        });
        state.hot.put("/healthz", &Arc::new(answer::health()), true);
        let server = Server { state, addresses: Mutex::default(), listeners: Mutex::default(), stop: watch::Sender::new(false) };
        let (state, mut stop) = (Arc::clone(&server.state), server.stop.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = state.crowd.watch() => {}
                () = state.close_files() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        for address in listen {
            server.add_listener(*address).await?;
        }
        Ok(server)
    }

    /// Listens on one more address and returns it with its real port.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub async fn add_listener(&self, address: SocketAddr) -> Result<SocketAddr> {
        let failed = || format!("cannot listen on {address}");
        let listener = match bind(address) {
            Ok(listener) => listener,
            Err(cause) => {
                let hint = listen_hint(cause.kind());
                return Err(Error::new(Class::System, failed()).because(cause).hint(hint));
            }
        };
        let address = listener.local_addr().or_fail(Class::System, failed)?;
        crate::lock(&self.addresses).push(address);
        let (state, stop) = (Arc::clone(&self.state), self.stop.subscribe());
        crate::lock(&self.listeners).spawn(accept(listener, state, stop));
        Ok(address)
    }

    /// The addresses it listens on, with their real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        crate::lock(&self.addresses).clone()
    }

    /// Accepts nothing more, lets running responses finish (10 seconds at most), then returns.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let mut listeners = std::mem::take(&mut *crate::lock(&self.listeners));
        while listeners.join_next().await.is_some() {}
        // Whoever still reads then is cut off when the runtime ends.
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.state.crowd.close()).await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.addresses()).finish()
    }
}

fn listen_hint(why: std::io::ErrorKind) -> &'static str {
    match why {
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; `ip address` lists those that it has, 0.0.0.0 is all of them"
        }
        std::io::ErrorKind::PermissionDenied => "only root may listen on ports below 1024; choose another one",
        _ => "choose another port, or 0 for a free one",
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut refused = false;
    loop {
        let next = async {
            state.crowd.room().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                refused = false;
                state.meters.accepted.fetch_add(1, Ordering::Relaxed);
                let stream = Arc::new(stream);
                let place = state.crowd.enter(peer.ip(), Some(Arc::clone(&stream)));
                tokio::spawn(connection::serve(stream, peer, place, Arc::clone(&state)));
            }
            // Out of file descriptors, or a client that was gone already: neither ends the server.
            Err(why) => {
                if is_out_of_files(&why) {
                    state.crowd.make_room();
                }
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!(%why, "cannot accept a connection");
                }
                tokio::time::sleep(AGAIN.1).await;
            }
        }
    }
}

fn is_out_of_files(why: &std::io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| why.raw_os_error() == Some(errno.raw_os_error()))
}

impl State {
    /// Closes files that nobody asks for any more; again and again.
    async fn close_files(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.hot.close_files();
        }
    }

    /// Finds what answers `target`, whose spelling is `name`, off the async threads: it may read files.
    async fn find(&self, name: &str, target: Target) -> Result<Option<(Arc<Found>, Body)>> {
        match &target.page {
            Page::Metrics => return Ok(Some(metrics(self.meters.text(self.crowd.count())))),
            // Many packages can be hashed at once.
            Page::Below(_, path) if path.first().is_some_and(|first| first == "pool") => return self.ask(name, target).await,
            _ => {}
        }
        let place = name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % FINDING;
        let _turn = self.turns[place].lock().await;
        let now = Instant::now();
        if let Some(found) = self.hot.get(name, now)
            && let Ok(body) = found.body(&self.repository, now)
        {
            return Ok(Some((found, body)));
        }
        self.ask(name, target).await
    }

    async fn ask(&self, name: &str, target: Target) -> Result<Option<(Arc<Found>, Body)>> {
        let stopping = || "the server is stopping, or failed".to_string();
        let _turn = self.finding.acquire().await.or_fail(Class::System, stopping)?;
        let target = Arc::new(target);
        let mut tries = AGAIN.0;
        loop {
            let (repository, target) = (Arc::clone(&self.repository), Arc::clone(&target));
            let found = tokio::task::spawn_blocking(move || answer::find(&repository, &target)).await.or_fail(Class::System, stopping)?;
            let out_of_files = || std::fs::File::open("/dev/null").is_err_and(|why| is_out_of_files(&why));
            if found.is_err() && tries > 0 && out_of_files() {
                tries -= 1;
                self.crowd.make_room();
                tokio::time::sleep(AGAIN.1).await;
                continue;
            }
            let Some((found, body)) = found? else { return Ok(None) };
            let found = Arc::new(found);
            self.hot.put(name, &found, false);
            return Ok(Some((found, body)));
        }
    }
}

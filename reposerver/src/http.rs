//! The server: apt's and dnf's files over HTTP/1.1.
//!
//! ```text
//! GET /                        what is here, for people
//! GET /healthz  /key.asc       alive; the public key
//! GET /keys/<fingerprint>.asc  the key of somebody who signed rpms elsewhere
//! GET /main.sources            a client file for the channel main, the key in it
//! GET /main.repo               ... for dnf and zypper
//! GET /@<id>.sources           ... for one snapshot, and so /@<id>.repo
//! GET /main/…  /@<id>/…        dists/twostage/…, repodata/…, SHA256SUMS, pool/ab/<sha256>/<any name>,
//!                              pool/ab/<identity>/<fingerprint>/<any name> for an rpm with our signature
//! ```
//!
//! A client behind `http_proxy` sends absolute targets; they are answered for [`FIXED_HOST`] and
//! for the address that it reached us on, and for nothing else: this is no open proxy.

mod answer;
mod body;
mod patience;
mod target;

use crate::Repository;
use answer::Resource;
use body::Body;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use target::Target;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use twostage_model::error::OrFail;
use twostage_model::{Class, Result};

/// Connections at once; more wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
/// How long a client may take to send the head of a request, or keep an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its response.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long connections may take to finish their response at a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One answered request.
#[derive(Debug, Clone)]
pub struct AccessEntry {
    /// Who asked.
    pub peer: SocketAddr,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The target as it was sent, a path or an absolute URL.
    pub target: String,
    /// The `User-Agent`, empty without one.
    pub agent: String,
    /// The status.
    pub status: u16,
    /// What went wrong here, for the operator (it may name paths); the client is told less.
    pub problem: Option<String>,
    /// Bytes of the body that went to the connection; less than the length when it broke.
    pub sent: u64,
}

/// Called for each request when its response is over.
pub type Access = Arc<dyn Fn(&AccessEntry) + Send + Sync>;

/// A running server. Dropping it closes its listeners; [`Server::stop`] also waits for what runs.
pub struct Server {
    state: Arc<State>,
    addresses: Mutex<Vec<SocketAddr>>,
    listeners: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

struct State {
    repository: Arc<Repository>,
    access: Option<Access>,
    slots: Arc<Semaphore>,
    graceful: Mutex<Option<GracefulShutdown>>,
}

impl Server {
    /// Listens on each of `listen` (port 0 takes a free one) and serves until stopped. Must be
    /// called in a tokio runtime.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn start(repository: Arc<Repository>, listen: &[SocketAddr], access: Option<Access>) -> Result<Server> {
        let state = State {
            repository,
            access,
            slots: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            graceful: Mutex::new(Some(GracefulShutdown::new())),
        };
        let server =
            Server { state: Arc::new(state), addresses: Mutex::default(), listeners: Mutex::default(), stop: watch::Sender::new(false) };
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
        let listener = TcpListener::bind(address)
            .await
            .or_fail(Class::System, failed)
            .map_err(|error| error.hint("choose another port, or 0 for a free one"))?;
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
        let graceful = crate::lock(&self.state.graceful).take();
        if let Some(graceful) = graceful {
            // Whoever still reads then is cut off when the runtime ends.
            let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.addresses()).finish()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    loop {
        let next = async {
            let slot = Arc::clone(&state.slots).acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Some((slot, Ok((stream, peer)))) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    serve(stream, peer, state).await;
                    drop(slot);
                });
            }
            // Out of file descriptors, or a client that was gone already: neither ends the server.
            Some((_, Err(_))) => tokio::time::sleep(Duration::from_millis(50)).await,
            None => return,
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, state: Arc<State>) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let service = {
        let state = Arc::clone(&state);
        service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(respond(request, local, peer, &state).await) }
        })
    };
    // Never pipeline_flush(true): hyper then collects bodies in memory for slow readers.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 << 10)
        .max_headers(64)
        .serve_connection(TokioIo::new(patience::Patient::new(stream, STALL_TIMEOUT)), service);
    let watched = crate::lock(&state.graceful).as_ref().map(|graceful| graceful.watcher());
    // An error here is the client's: it broke off, or sent what is no HTTP and was told so.
    let _ = match watched {
        Some(watcher) => watcher.watch(connection).await,
        None => return,
    };
}

async fn respond(request: Request<hyper::body::Incoming>, local: SocketAddr, peer: SocketAddr, state: &Arc<State>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let mut wrong = None;
    let mut response = match target::parse(&parts.method, &parts.uri, &parts.headers, local) {
        Err(refusal) => problem(refusal.status, &refusal.text),
        Ok(target) => match find(target, state).await {
            Ok(Some(resource)) => dress(resource, &parts.method, &parts.headers),
            Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such file here\n"),
            Err(error) => {
                wrong = Some(std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": "));
                problem(StatusCode::INTERNAL_SERVER_ERROR, "the repository cannot be read; its log says why\n")
            }
        },
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("twostage"));
    if parts.method == Method::HEAD {
        // hyper sends the length of the body that a GET would have had, and no body.
        let length = hyper::body::Body::size_hint(response.body()).exact().unwrap_or(0);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *response.body_mut() = Body::empty();
    }
    if let Some(access) = &state.access {
        let agent = parts.headers.get(header::USER_AGENT).map(|a| String::from_utf8_lossy(a.as_bytes()).into_owned()).unwrap_or_default();
        let (method, target) = (parts.method.to_string(), parts.uri.to_string());
        let entry = AccessEntry { peer, method, target, agent, status: response.status().as_u16(), problem: wrong, sent: 0 };
        response.body_mut().log_to(Arc::clone(access), entry);
    }
    response
}

/// Finds the resource off the async threads: it may read a file.
async fn find(target: Target, state: &Arc<State>) -> Result<Option<Resource>> {
    let repository = Arc::clone(&state.repository);
    let found = tokio::task::spawn_blocking(move || answer::find(&repository, &target)).await;
    found.or_fail(Class::System, || "the server is stopping, or failed".into())?
}

/// Conditional and range requests (RFC 9110 sections 13 and 14).
fn dress(resource: Resource, method: &Method, headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let etag = format!("\"{}\"", resource.tag);
    {
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(resource.kind));
        let caching = if resource.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        out.extend(HeaderValue::from_str(&etag).map(|value| (header::ETAG, value)));
        let modified = resource.modified.map(twostage_model::date::http);
        out.extend(modified.and_then(|date| HeaderValue::from_str(&date).ok()).map(|value| (header::LAST_MODIFIED, value)));
    }
    if target::not_modified(headers, &etag, resource.modified) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let length = resource.body.remaining();
    let range = if method == Method::GET { target::range(headers, &etag, resource.modified, length) } else { target::Range::Whole };
    match range {
        target::Range::Whole => *response.body_mut() = resource.body,
        target::Range::Part(first, last) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let shown = HeaderValue::from_str(&format!("bytes {first}-{last}/{length}"));
            response.headers_mut().extend(shown.map(|value| (header::CONTENT_RANGE, value)));
            *response.body_mut() = resource.body.part(first, last);
        }
        target::Range::Beyond => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let shown = HeaderValue::from_str(&format!("bytes */{length}"));
            response.headers_mut().extend(shown.map(|value| (header::CONTENT_RANGE, value)));
        }
    }
    response
}

fn problem(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::whole(text.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

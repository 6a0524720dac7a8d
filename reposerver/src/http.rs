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
mod conditions;
mod crowd;
mod log;
mod stream;
mod target;

pub use crowd::Limits;
pub use log::{Access, AccessEntry};

use crate::Repository;
use answer::Resource;
use body::Body;
use conditions::Range;
use crowd::{Crowd, Place};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use log::Log;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stream::{Answered, Stream};
use target::Target;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result};

/// How long connections may take to finish their response at a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that the head of a request may have.
const MAX_HEAD: usize = 64 << 10;
/// Bytes of a response that wait in the kernel unsent: few, so that it is soon seen how much a reader takes.
const UNSENT: u32 = 128 << 10;

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
        let state = State { repository, log: Log(access), crowd: Crowd::new(limits) };
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
        let listener = match TcpListener::bind(address).await {
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
                let place = Arc::new(state.crowd.enter(peer.ip()));
                tokio::spawn(serve(stream, peer, Arc::clone(&state), place));
            }
            // Out of file descriptors, or a client that was gone already: neither ends the server.
            Err(why) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!(%why, "cannot accept a connection");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, state: Arc<State>, place: Arc<Place>) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    if !place.turn().await {
        return;
    }
    let limits = *state.crowd.limits();
    let answered = Arc::new(Answered::default());
    let service = {
        let (state, place, answered) = (Arc::clone(&state), Arc::clone(&place), Arc::clone(&answered));
        service_fn(move |request| {
            let (state, answered) = (Arc::clone(&state), Arc::clone(&answered));
            answered.set(false);
            place.busy();
            async move { Ok::<_, Infallible>(respond(request, local, peer, &state, answered).await) }
        })
    };
    let mut stream = TokioIo::new(Stream::new(stream, limits, Some((Arc::clone(&place), answered))));
    // Never pipeline_flush(true): hyper then collects bodies in memory for slow readers.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .max_headers(64)
        .serve_connection(&mut stream, service);
    let result = tokio::select! {
        result = connection => result,
        () = place.has_to_leave() => return,
    };
    match result {
        Ok(()) => {}
        Err(error) => {
            state.log.broken(peer, &error);
            if !error.is_parse() {
                return;
            }
        }
    }
    tokio::select! {
        () = stream.into_inner().linger() => {},
        () = place.has_to_leave() => {},
    }
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    local: SocketAddr,
    peer: SocketAddr,
    state: &Arc<State>,
    answered: Arc<Answered>,
) -> Response<Body> {
    let start = Instant::now();
    let (parts, _) = request.into_parts();
    let mut wrong = None;
    let mut response = match target::parse(&parts, local) {
        Err(refusal) => problem(refusal.status, &refusal.text),
        Ok(target) => match find(target, state).await {
            Ok(Some(resource)) => dress(resource, &parts.method, &parts.headers),
            Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such file here\n"),
            Err(error) => match crate::withdraw::gone(&error) {
                Some(why) => problem(StatusCode::GONE, &format!("{why}\n")),
                None => {
                    wrong = Some(std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": "));
                    problem(StatusCode::INTERNAL_SERVER_ERROR, "the repository cannot be read; the server's log says why\n")
                }
            },
        },
    };
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => _ = response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
        // Where one end of a connection reads requests otherwise than the other, it is better ended.
        StatusCode::BAD_REQUEST => _ = response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close")),
        _ => {}
    }
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("twostage"));
    if parts.method == Method::HEAD && response.status() != StatusCode::NOT_MODIFIED {
        // hyper sends the length of the body that a GET would have had, and no body.
        let length = hyper::body::Body::size_hint(response.body()).exact().unwrap_or(0);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *response.body_mut() = Body::empty();
    }
    let entry = (wrong.is_some() || state.log.is_read()).then(|| AccessEntry {
        peer,
        method: log::shown(parts.method.as_str()),
        target: log::shown_target(&parts.uri.to_string()),
        agent: parts
            .headers
            .get(header::USER_AGENT)
            .map(|agent| log::shown(&String::from_utf8_lossy(agent.as_bytes())))
            .unwrap_or_default(),
        status: response.status().as_u16(),
        problem: wrong,
        sent: 0,
        time: Duration::ZERO,
    });
    response.body_mut().when_over(answered, start, state.log.clone(), entry);
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
    match conditions::precondition(headers, &etag, resource.modified) {
        Some(StatusCode::PRECONDITION_FAILED) => {
            return problem(StatusCode::PRECONDITION_FAILED, "the file is not the one that is asked for\n");
        }
        Some(status) => {
            *response.status_mut() = status;
            return response;
        }
        None => {}
    }
    let length = resource.body.remaining();
    match conditions::range(method, headers, &etag, resource.modified, length) {
        Range::Whole => *response.body_mut() = resource.body,
        Range::Part(first, last) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let shown = HeaderValue::from_str(&format!("bytes {first}-{last}/{length}"));
            response.headers_mut().extend(shown.map(|value| (header::CONTENT_RANGE, value)));
            *response.body_mut() = resource.body.part(first, last);
        }
        Range::Beyond => {
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

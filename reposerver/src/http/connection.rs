//! One connection: hyper reads its requests; they are answered from memory at once, or after the repository was asked.

use super::State;
use super::body::Body;
use super::conditions::{self, Range};
use super::crowd::{Place, Turn};
use super::exchange::{Exchange, Response as Sent};
use super::hot::Found;
use super::pairs::Asker;
use super::stream::Stream;
use super::target;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::net::TcpStream;

/// Bytes that the head of a request may have.
const MAX_HEAD: usize = 64 << 10;
/// Headers that a request may have. (hyper takes 100 without being asked to; another number costs it two arrays on the
/// heap for each request.)
const MAX_HEADERS: usize = 64;

/// Answers what comes over a new connection until it ends.
pub(crate) async fn serve(socket: Arc<TcpStream>, peer: SocketAddr, place: Place, state: Arc<State>) {
    let Ok(local) = socket.local_addr() else { return };
    let exchange = Exchange::new(state, place, peer, local);
    let mut stream = Stream::new(socket, Arc::clone(&exchange));
    // Never pipeline_flush(true): hyper then copies bodies into one buffer, and a file's bytes are not in them.
    // The time for a head is kept by `Crowd::watch`, without a timer for each request.
    let result = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .writev(true)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(&mut stream, Answering(Arc::clone(&exchange)))
        .await;
    exchange.end();
    if let Err(error) = result {
        exchange.state.log.broken(peer, &error);
        if !error.is_parse() {
            return;
        }
    }
    stream.linger().await;
}

/// What hyper asks for the response to a request.
struct Answering(Arc<Exchange>);

/// The connection has to end without a response.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection had to leave for others")
    }
}

impl std::error::Error for Ended {}

/// A response, at once or later.
enum Answer {
    Now(Option<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Result<Response<Body>, Ended>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response<Body>, Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Answer::Now(response) => Poll::Ready(response.take().ok_or(Ended)),
            Answer::Later(later) => later.as_mut().poll(context),
        }
    }
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Body>;
    type Error = Ended;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let start = Instant::now();
        let exchange = &self.0;
        // No request that is answered here has a body: hyper reads past a short one, or ends the connection.
        let (mut parts, _) = request.into_parts();
        let turn = if exchange.head() { None } else { Some(exchange.place.busy()) };
        if turn == Some(Turn::Now)
            && let Some((found, body)) = kept(exchange, &parts, start)
        {
            exchange.state.meters.kept();
            let response = dress(&found, body, &mut parts);
            return Answer::Now(Some(sent(exchange, start, parts, response, None)));
        }
        Answer::Later(Box::pin(later(Arc::clone(exchange), start, parts, turn)))
    }
}

/// What is in memory of what a request asks for.
fn kept(exchange: &Exchange, parts: &Parts, now: Instant) -> Option<(Arc<Found>, Body)> {
    let is_plain = (parts.method == Method::GET || parts.method == Method::HEAD) && parts.uri.authority().is_none();
    let path = parts.uri.path_and_query().filter(|_| is_plain && parts.headers.len() <= MAX_HEADERS)?;
    // A request that will be refused is given nothing, and takes nothing from one that follows it.
    target::host(parts.version, &parts.headers).ok()?;
    let next = next_of(exchange, parts, path.as_str(), now);
    let found = match &next {
        Some(next) => Arc::clone(next),
        None => exchange.state.hot.get(path.as_str(), now)?,
    };
    let body = found.body(&exchange.state.repository, now).ok()?;
    if next.is_none() {
        gave(exchange, parts, path.as_str(), &found, now);
    }
    Some((found, body))
}

/// The file or the signature that goes with what a client was just given: see [`super::pairs`].
fn next_of(exchange: &Exchange, parts: &Parts, target: &str, now: Instant) -> Option<Arc<Found>> {
    (parts.method == Method::GET).then(|| exchange.state.pairs.next(asker(exchange, parts), target, now)).flatten()
}

/// Who sent a request.
fn asker<'a>(exchange: &'a Exchange, parts: &'a Parts) -> Asker<'a> {
    let agent = parts.headers.get(header::USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
    Asker { connection: &exchange.pairs, address: exchange.peer.ip(), agent }
}

fn gave(exchange: &Exchange, parts: &Parts, target: &str, found: &Arc<Found>, now: Instant) {
    if parts.method == Method::GET && found.other.is_some() {
        exchange.state.pairs.gave(asker(exchange, parts), target, found, now);
    }
}

/// The response to a request that has to wait for its turn, or for the repository.
async fn later(exchange: Arc<Exchange>, start: Instant, mut parts: Parts, turn: Option<Turn>) -> Result<Response<Body>, Ended> {
    let turn = match turn {
        Some(turn) => turn,
        None => {
            exchange.is_over().await;
            exchange.place.busy()
        }
    };
    let here = match turn {
        Turn::Now => true,
        Turn::Later => exchange.place.turn().await,
        Turn::Never => false,
    };
    if !here {
        return Err(Ended);
    }
    let mut wrong = None;
    let response = match target::parse(&parts, exchange.local) {
        _ if parts.headers.len() > MAX_HEADERS => {
            problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many headers\n", &mut parts)
        }
        Err(refusal) => problem(refusal.status, &refusal.text, &mut parts),
        Ok(target) => {
            let name = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_string();
            let next = next_of(&exchange, &parts, &name, start);
            let next = next.and_then(|found| found.body(&exchange.state.repository, start).ok().map(|body| (found, body)));
            let is_next = next.is_some();
            let found = match next {
                Some(next) => Ok(Some(next)),
                None => exchange.state.find(&name, target).await,
            };
            match found {
                Ok(Some((found, body))) => {
                    if !is_next {
                        gave(&exchange, &parts, &name, &found, start);
                    }
                    dress(&found, body, &mut parts)
                }
                Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such file here\n", &mut parts),
                Err(error) => match crate::withdraw::gone(&error) {
                    Some(why) => problem(StatusCode::GONE, &format!("{why}\n"), &mut parts),
                    None => {
                        wrong = Some(std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": "));
                        let text = "the repository cannot be read; the server's log says why\n";
                        problem(StatusCode::INTERNAL_SERVER_ERROR, text, &mut parts)
                    }
                },
            }
        }
    };
    Ok(sent(&exchange, start, parts, response, wrong))
}

/// A response whose headers are to have their place in those of the request, so that nothing is allocated.
struct Dressed {
    status: StatusCode,
    agent: Option<HeaderValue>,
    headers: HeaderMap,
    body: Body,
}

/// Takes the headers of a request, for those of its response.
fn undress(parts: &mut Parts) -> (HeaderMap, Option<HeaderValue>) {
    let mut headers = std::mem::take(&mut parts.headers);
    let agent = headers.remove(header::USER_AGENT);
    headers.clear();
    (headers, agent)
}

/// Conditional and range requests (RFC 9110 sections 13 and 14).
fn dress(found: &Found, mut body: Body, parts: &mut Parts) -> Dressed {
    let (mut condition, mut range) = (None, Range::Whole);
    if conditions::are_in(&parts.headers) {
        condition = conditions::precondition(&parts.headers, &found.etag, found.modified);
        if condition == Some(StatusCode::PRECONDITION_FAILED) {
            return problem(StatusCode::PRECONDITION_FAILED, "the file is not the one that is asked for\n", parts);
        }
        range = conditions::range(&parts.method, &parts.headers, &found.etag, found.modified, found.length);
    }
    let (mut headers, agent) = undress(parts);
    headers.extend(found.headers.iter().map(|(name, value)| (Some(name.clone()), value.clone())));
    let mut status = condition.unwrap_or(StatusCode::OK);
    let length = found.length;
    let mut part = |text: String| headers.extend(HeaderValue::from_str(&text).map(|value| (header::CONTENT_RANGE, value)));
    match (condition, range) {
        (Some(_), _) => body = Body::empty(),
        (None, Range::Whole) => {}
        (None, Range::Part(first, last)) => {
            status = StatusCode::PARTIAL_CONTENT;
            part(format!("bytes {first}-{last}/{length}"));
            body = body.part(first, last);
        }
        (None, Range::Beyond) => {
            status = StatusCode::RANGE_NOT_SATISFIABLE;
            part(format!("bytes */{length}"));
            body = Body::empty();
        }
    }
    Dressed { status, agent, headers, body }
}

/// Says in a sentence why there is nothing else to send.
fn problem(status: StatusCode, text: &str, parts: &mut Parts) -> Dressed {
    let (mut headers, agent) = undress(parts);
    let mut set = |name: HeaderName, value: &'static str| _ = headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(header::CACHE_CONTROL, "no-store");
    match status {
        StatusCode::METHOD_NOT_ALLOWED => set(header::ALLOW, "GET, HEAD"),
        // Where one end of a connection reads requests otherwise than the other, it is better ended.
        StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => set(header::CONNECTION, "close"),
        _ => {}
    }
    Dressed { status, agent, headers, body: Body::whole(text.to_string()) }
}

/// The response as hyper gets it, of which the exchange knows from now on.
fn sent(exchange: &Arc<Exchange>, start: Instant, parts: Parts, response: Dressed, problem: Option<String>) -> Response<Body> {
    let Dressed { status, agent, mut headers, mut body } = response;
    headers.insert(header::SERVER, HeaderValue::from_static("twostage"));
    if parts.method == Method::HEAD && status != StatusCode::NOT_MODIFIED {
        // hyper sends the length of the body that a GET would have had, and no body.
        headers.insert(header::CONTENT_LENGTH, body.remaining().into());
        body = Body::empty();
    }
    exchange.answer(Sent { start, method: parts.method, uri: parts.uri, agent, status, problem, sent: 0, whole: false });
    let mut response = Response::new(body.told_to(exchange));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

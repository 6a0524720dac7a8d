//! What the service, the body and the stream of one connection tell one another about the request that is being answered.
//!
//! hyper drops a body when it has all of it, which is before the socket has it. So a response is over when the stream was
//! flushed after that: then it is counted and logged, and the connection is idle.

use super::State;
use super::crowd::Place;
use super::log::{self, Line};
use super::pairs::OfConnection;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Uri};
use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Instant;

/// Bytes of a head that may wait for the rest of it whatever others keep.
const FREE: usize = 1 << 10;

/// One connection.
pub(crate) struct Exchange {
    pub(crate) state: Arc<State>,
    pub(crate) place: Place,
    pub(crate) peer: SocketAddr,
    /// As the log has it.
    peer_shown: String,
    /// The address that the client reached us on.
    pub(crate) local: SocketAddr,
    pub(crate) pairs: OfConnection,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    response: Option<Response>,
    /// What hyper has of a file and the socket has not.
    part: Option<Part>,
    /// Bytes of a head that is not whole yet.
    unread: usize,
    /// Who waits for the response to be over.
    waits: Option<Waker>,
}

/// A request, and the response that is on its way.
pub(crate) struct Response {
    pub(crate) start: Instant,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) agent: Option<HeaderValue>,
    pub(crate) status: StatusCode,
    /// What went wrong, for the operator.
    pub(crate) problem: Option<String>,
    /// Bytes of the body that hyper has from memory, and that the socket has of a file.
    pub(crate) sent: u64,
    /// hyper has all of it.
    pub(crate) whole: bool,
}

/// Whose bytes hyper writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Its own, to what is no request.
    Own,
    /// A response of ours, all of which it has.
    Response,
    /// One with a part of a file, which it has not.
    Part,
}

/// A part of a file.
pub(crate) struct Part {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    pub(crate) left: usize,
}

impl Exchange {
    pub(crate) fn new(state: Arc<State>, place: Place, peer: SocketAddr, local: SocketAddr) -> Arc<Exchange> {
        Arc::new(Exchange {
            state,
            place,
            peer,
            peer_shown: peer.to_string(),
            local,
            pairs: OfConnection::default(),
            now: Mutex::default(),
        })
    }

    /// Bytes of a head came. False: all connections together keep too many that are not whole.
    pub(crate) fn read(&self, bytes: usize) -> bool {
        let mut now = crate::lock(&self.now);
        let more = (now.unread + bytes).saturating_sub(FREE).min(bytes);
        now.unread += bytes;
        more == 0 || self.state.unread.fetch_add(more, Relaxed) + more <= super::MOST_UNREAD
    }

    /// The head is whole. Whether the response to the one before it is still on its way.
    pub(crate) fn head(&self) -> bool {
        let mut now = crate::lock(&self.now);
        let unread = std::mem::take(&mut now.unread);
        if unread > FREE {
            self.state.unread.fetch_sub(unread - FREE, Relaxed);
        }
        now.response.is_some()
    }

    /// hyper gets a response.
    pub(crate) fn answer(&self, response: Response) {
        crate::lock(&self.now).response = Some(response);
    }

    /// Whose bytes hyper writes.
    pub(crate) fn writes(&self) -> Writes {
        let now = crate::lock(&self.now);
        match (&now.response, &now.part) {
            (None, _) => Writes::Own,
            (Some(_), None) => Writes::Response,
            (Some(_), Some(_)) => Writes::Part,
        }
    }

    /// Waits until the response that is on its way is over. (hyper can read the next request before that, where the one
    /// before it had a body.)
    pub(crate) async fn is_over(&self) {
        std::future::poll_fn(|context| {
            let mut now = crate::lock(&self.now);
            if now.response.is_none() {
                return Poll::Ready(());
            }
            now.waits = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// hyper gets a part of a file.
    pub(crate) fn give(&self, file: &Arc<File>, at: u64, length: usize) {
        let mut now = crate::lock(&self.now);
        match &mut now.part {
            Some(part) if Arc::ptr_eq(&part.file, file) && part.at + part.left as u64 == at => part.left += length,
            // (Never in place of another one: hyper gets no other file before it has written this one.)
            Some(_) => {}
            None => now.part = Some(Part { file: Arc::clone(file), at, left: length }),
        }
    }

    /// Lets `send` send of the part of a file, and counts what it sent.
    pub(crate) fn with_part(&self, send: impl FnOnce(Option<&Part>) -> std::io::Result<usize>) -> std::io::Result<usize> {
        let mut now = crate::lock(&self.now);
        let sent = send(now.part.as_ref())?;
        if let Some(part) = &mut now.part {
            part.left = part.left.saturating_sub(sent);
            part.at += sent as u64;
            if part.left == 0 {
                now.part = None;
            }
        }
        if let Some(response) = &mut now.response {
            response.sent += sent as u64;
        }
        Ok(sent)
    }

    /// hyper has all of the body, or breaks it off: `sent` bytes of it from memory.
    pub(crate) fn whole(&self, sent: u64) {
        if let Some(response) = &mut crate::lock(&self.now).response {
            response.sent += sent;
            response.whole = true;
        }
    }

    /// The response cannot be what its head promises.
    pub(crate) fn fail(&self, why: String) {
        if let Some(response) = &mut crate::lock(&self.now).response {
            response.problem = Some(why);
        }
    }

    /// The socket has all that hyper has.
    pub(crate) fn flushed(&self) {
        let (over, waits) = {
            let mut now = crate::lock(&self.now);
            if !now.response.as_ref().is_some_and(|response| response.whole) {
                return;
            }
            (now.response.take(), now.waits.take())
        };
        if let Some(response) = over {
            let end = Instant::now();
            self.over(&response, end);
            self.place.idle(end);
            waits.into_iter().for_each(Waker::wake);
        }
    }

    /// The connection is at its end: what is still on its way does not arrive.
    pub(crate) fn end(&self) {
        self.head();
        let broken = crate::lock(&self.now).response.take();
        if let Some(response) = broken {
            self.over(&response, Instant::now());
        }
    }

    fn over(&self, response: &Response, end: Instant) {
        let Response { start, method, uri, agent, status, problem, sent, .. } = response;
        self.state.meters.answered(*status, *sent);
        if problem.is_none() && !self.state.log.is_read() {
            return;
        }
        let whole;
        let target = match (uri.authority(), uri.path_and_query()) {
            (None, Some(path)) => path.as_str(),
            _ => {
                whole = uri.to_string();
                &whole
            }
        };
        self.state.log.write(&Line {
            peer: self.peer,
            peer_shown: &self.peer_shown,
            method: log::shown(method.as_str()),
            target: log::shown_target(target),
            agent: agent.as_ref().map(|agent| log::shown_bytes(agent.as_bytes())).unwrap_or_default(),
            status: status.as_u16(),
            problem: problem.as_deref(),
            sent: *sent,
            time: end.saturating_duration_since(*start),
        });
    }
}

//! Connections to what listens in a container, without a port of this machine.

use std::io;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// Who wants a connection, and to which port.
pub(super) type InwardRequest = (u16, oneshot::Sender<io::Result<TcpStream>>);

/// Gives connections to a container's own 127.0.0.1, for as long as a command runs there that has this.
#[derive(Debug)]
pub struct Inward {
    ask: mpsc::UnboundedSender<InwardRequest>,
    askers: Mutex<Option<mpsc::UnboundedReceiver<InwardRequest>>>,
}

impl Default for Inward {
    fn default() -> Inward {
        let (ask, askers) = mpsc::unbounded_channel();
        Inward { ask, askers: Mutex::new(Some(askers)) }
    }
}

impl Inward {
    /// A connection; it waits for the container to start.
    ///
    /// # Errors
    /// Nothing listens there, or the container has ended.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let (reply, answer) = oneshot::channel();
        let ended = || io::Error::other("the container has ended");
        self.ask.send((port, reply)).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Who asks, for the first command that has this.
    pub(in super::super) fn askers(&self) -> Option<InwardRequests> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner).take().map(InwardRequests)
    }
}

/// Those who ask.
pub(in super::super) struct InwardRequests(pub(super) mpsc::UnboundedReceiver<InwardRequest>);

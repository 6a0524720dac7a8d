//! What the server counts of itself, as Prometheus reads it.

use hyper::StatusCode;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers since the start.
#[derive(Default)]
pub(crate) struct Meters {
    /// Responses by the first digit of their status.
    answered: [AtomicU64; 6],
    kept: AtomicU64,
    sent: AtomicU64,
    stalled: AtomicU64,
    pub(crate) accepted: AtomicU64,
}

impl Meters {
    /// A response is over, of which so many bytes of the body were sent.
    pub(crate) fn answered(&self, status: StatusCode, sent: u64) {
        if let Some(number) = self.answered.get(usize::from(status.as_u16() / 100)) {
            number.fetch_add(1, Relaxed);
        }
        self.sent.fetch_add(sent, Relaxed);
    }

    /// A request was answered from memory.
    pub(crate) fn kept(&self) {
        self.kept.fetch_add(1, Relaxed);
    }

    /// A reader was given up.
    pub(crate) fn stalled(&self) {
        self.stalled.fetch_add(1, Relaxed);
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self, connections: usize) -> String {
        let mut text = String::new();
        let mut number = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            let _ = write!(text, "# HELP twostage_{name} {help}\n# TYPE twostage_{name} {kind}\n");
            for (label, value) in values {
                let _ = writeln!(text, "twostage_{name}{label} {value}");
            }
        };
        let alone = |value: &AtomicU64| [(String::new(), value.load(Relaxed))];
        let by_status: Vec<_> = (2..6).map(|class| (format!("{{status=\"{class}xx\"}}"), self.answered[class].load(Relaxed))).collect();
        number("http_responses_total", "counter", "Responses, by their status.", &by_status);
        number("http_kept_total", "counter", "Requests that were answered from memory.", &alone(&self.kept));
        number("http_sent_bytes_total", "counter", "Bytes of bodies that were sent.", &alone(&self.sent));
        number("http_stalled_total", "counter", "Readers that were given up because they took too little.", &alone(&self.stalled));
        number("http_connections_total", "counter", "Connections that were accepted.", &alone(&self.accepted));
        number("http_connections", "gauge", "Connections that are open.", &[(String::new(), connections as u64)]);
        text
    }
}

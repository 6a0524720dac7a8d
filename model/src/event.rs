//! What the stages tell while they work. Libraries emit events; the command renders them as
//! progress lines, plain lines or `--json`, from the same stream.

use serde::Serialize;
use std::sync::Arc;

/// One thing that happened. Serialised as one JSON object a line under `--json`, told apart by
/// its `event` field.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step of a subject started. `subject` is a component, an image or `base`.
    Started {
        /// Component, image, or `base`.
        subject: String,
        /// What is being done, a verb and its object: `building`, `resolving build dependencies`.
        step: String,
    },
    /// One line of output from inside a step (a build log line).
    Log {
        /// Component, image, or `base`.
        subject: String,
        /// The line, without its end.
        line: String,
    },
    /// A subject is done.
    Finished {
        /// Component, image, or `base`.
        subject: String,
        /// How it ended.
        outcome: Outcome,
        /// More, for people: versions, counts.
        detail: String,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// Something a person should know although nothing failed.
    Note {
        /// What it is about.
        subject: String,
        /// The sentence.
        message: String,
    },
    /// A library that a component built lacks symbols that the distribution's of that name gives. Nothing failed.
    SymbolsLost {
        /// The component.
        subject: String,
        /// The file of the package that brings the library.
        package: String,
        /// The library's path, absolute.
        library: String,
        /// Whose library has them: the distribution's package, with version and architecture, or `the base`.
        original: String,
        /// How many they are.
        count: usize,
        /// The first of them, in order of their names: `x_new`, `x_new@X_1`.
        symbols: Vec<String>,
    },
}

/// How a subject ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Work was done.
    Done,
    /// Nothing had to be done: the inputs have not changed.
    Unchanged,
    /// Rebuilt, to the same content as before; the earlier result is kept.
    Same,
    /// It failed; the error follows.
    Failed,
}

/// Where events go. Cheap to clone; called from any thread.
#[derive(Clone)]
pub struct Sink(Arc<dyn Fn(Event) + Send + Sync>);

impl Sink {
    /// Sends every event to `receive`.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Sink(Arc::new(receive))
    }

    /// Drops every event.
    pub fn silent() -> Self {
        Sink::new(|_| ())
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }

    /// Says that a step started.
    pub fn started(&self, subject: &str, step: &str) {
        self.send(Event::Started { subject: subject.into(), step: step.into() });
    }

    /// Says something that a person should know.
    pub fn note(&self, subject: &str, message: impl Into<String>) {
        self.send(Event::Note { subject: subject.into(), message: message.into() });
    }

    /// Passes on a line from inside a step.
    pub fn log(&self, subject: &str, line: &str) {
        self.send(Event::Log { subject: subject.into(), line: line.into() });
    }

    /// Says that a subject is done, since `start`.
    pub fn finished(&self, subject: &str, outcome: Outcome, detail: impl Into<String>, start: std::time::Instant) {
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.send(Event::Finished { subject: subject.into(), outcome, detail: detail.into(), millis });
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

//! The log: what the server answered, and where time goes. Lines on standard error, apart from the events of a command.

mod requests;

use crate::output::Output;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};
use twostage_model::{Class, Error, Result};

/// The variable that says what is logged: a level, or levels of parts of this program.
pub const VARIABLE: &str = "TWOSTAGE_LOG";
/// What every target of ours begins with. Nothing else is logged: what other crates say of a request has headers in it,
/// and logins in those.
const OURS: &str = "twostage";

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Starts the log, at `level` unless the variable says otherwise. Lines go to standard error through `output`.
///
/// # Errors
/// The variable holds neither a level nor parts of this program with levels.
pub fn start(level: LevelFilter, format: LogFormat, output: &Output) -> Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => filter(&text)?,
        _ => Targets::new().with_target(OURS, level),
    };
    let layer = fmt::layer()
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(Lines(Arc::clone(WAITING.get_or_init(|| Waiting::new(output)))));
    let layer = match format {
        LogFormat::Text => layer.event_format(requests::Format(fmt::format().with_ansi(false))).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    // (There is one already only where a test runs two commands in a process.)
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(())
}

/// `debug`, or `twostage_engine=debug,twostage::http=info`.
fn filter(text: &str) -> Result<Targets> {
    let wrong = |why: String| {
        Error::new(Class::Usage, format!("{VARIABLE} is `{text}`: {why}")).hint(format!(
            "write a level (error, warn, info, debug, trace, off), or levels of parts of this program: {VARIABLE}=twostage_engine=debug,twostage::http=info"
        ))
    };
    let given: Targets = text.trim().parse().map_err(|cause| wrong(format!("{cause}")))?;
    let mut filter = Targets::new();
    if let Some(level) = given.default_level() {
        filter = filter.with_target(OURS, level);
    }
    for (target, level) in &given {
        if !target.starts_with(OURS) {
            return Err(wrong(format!("`{target}` is no part of this program")));
        }
        filter = filter.with_target(target, level);
    }
    Ok(filter)
}

/// What lines of requests are filed under: there can be very many.
const REQUESTS: &str = "twostage::http";
/// How long a line may wait for others.
const WAIT: Duration = Duration::from_millis(100);
/// Bytes that wait for others at most.
const MOST: usize = 64 << 10;

/// Lines of requests wait for others, so that a server does not write once for each. What went wrong does not wait, nor
/// do lines of anything else, and they take along what is before them.
struct Waiting {
    output: Output,
    lines: Mutex<Held>,
    /// Said when there is a line, and none was before.
    some: Condvar,
}

#[derive(Default)]
struct Held {
    text: String,
    /// Whether a thread writes it now and then.
    has_writer: bool,
}

/// The lines of this process.
static WAITING: OnceLock<Arc<Waiting>> = OnceLock::new();

/// Writes what waits: before the process ends.
pub fn flush() {
    if let Some(waiting) = WAITING.get() {
        waiting.write(&mut waiting.held());
    }
}

impl Waiting {
    fn new(output: &Output) -> Arc<Waiting> {
        Arc::new(Waiting { output: output.clone(), lines: Mutex::default(), some: Condvar::new() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever writes holds the lines, so that their order is that of the events.
    fn write(&self, held: &mut Held) {
        if !held.text.is_empty() {
            self.output.log_line(held.text.trim_end_matches('\n'));
            held.text.clear();
        }
    }

    fn add(self: &Arc<Self>, line: &str, at_once: bool) {
        let mut held = self.held();
        let first = held.text.is_empty();
        held.text.push_str(line.trim_end_matches('\n'));
        held.text.push('\n');
        if at_once || held.text.len() >= MOST {
            self.write(&mut held);
        } else if first {
            if !held.has_writer {
                let waiting = Arc::clone(self);
                let writer = std::thread::Builder::new().name("log".into());
                held.has_writer = writer.spawn(move || waiting.write_now_and_then()).is_ok();
            }
            match held.has_writer {
                true => self.some.notify_one(),
                // Where there can be no other thread, nothing waits.
                false => self.write(&mut held),
            }
        }
    }

    fn write_now_and_then(&self) {
        loop {
            let mut held = self.held();
            while held.text.is_empty() {
                held = self.some.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            drop(held);
            std::thread::sleep(WAIT);
            self.write(&mut self.held());
        }
    }
}

/// Gives each line to the output as a whole, so that it stands on a line of its own on a terminal, too.
struct Lines(Arc<Waiting>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { waiting: &self.0, at_once: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { waiting: &self.0, at_once: *meta.level() <= Level::WARN || meta.target() != REQUESTS }
    }
}

struct Line<'a> {
    waiting: &'a Arc<Waiting>,
    at_once: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(line) => self.waiting.add(line, self.at_once),
            Err(_) => self.waiting.add(&String::from_utf8_lossy(bytes), self.at_once),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_program_is_in_its_log() {
        let parse = |text: &str| filter(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let all = parse("debug");
        assert!(all.would_enable("twostage_engine::docker", &Level::DEBUG) && !all.would_enable("twostage_engine", &Level::TRACE));
        assert!(!all.would_enable("hyper", &Level::ERROR) && !all.would_enable("oci_client", &Level::ERROR));
        let some = parse(" twostage_engine=debug,twostage::http=info,error ");
        assert!(some.would_enable("twostage_engine", &Level::DEBUG) && some.would_enable("twostage::http", &Level::INFO));
        assert!(!some.would_enable("twostage_builder", &Level::INFO) && some.would_enable("twostage_builder", &Level::ERROR));
        assert!(!parse("off").would_enable("twostage_engine", &Level::ERROR));
        for wrong in ["loud", "oci_client=trace", "twostage=loud", "debug,hyper=info"] {
            assert!(filter(wrong).is_err_and(|error| error.class() == Class::Usage), "{wrong}");
        }
    }
}

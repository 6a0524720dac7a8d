//! The log: what the server answered, and where time goes. Lines on standard error, apart from the events of a command.

use crate::output::Output;
use std::io::{self, Write};
use tracing::level_filters::LevelFilter;
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
    let layer = fmt::layer().with_ansi(false).with_span_events(FmtSpan::CLOSE).with_writer(Lines(output.clone()));
    let layer = match format {
        LogFormat::Text => layer.boxed(),
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

/// Gives each line to the output as a whole, so that it stands on a line of its own on a terminal, too.
struct Lines(Output);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

struct Line<'a>(&'a Output);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.log_line(String::from_utf8_lossy(bytes).trim_end_matches('\n'));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

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

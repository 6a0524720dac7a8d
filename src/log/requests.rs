//! How a line of a request that went well is written: in the same words as all lines, but without what a format for
//! everything costs, which is as much as the rest of an answer from memory.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format of all other lines, and ours.
pub(super) struct Format<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Format<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        if meta.target() != super::REQUESTS || *meta.level() != Level::INFO || context.event_scope().is_some() {
            return self.0.format_event(context, writer, event);
        }
        timestamp(&mut writer)?;
        writer.write_str("  INFO ")?;
        writer.write_str(super::REQUESTS)?;
        writer.write_char(':')?;
        let mut fields = Fields { writer: &mut writer, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writer.write_char('\n')
    }
}

thread_local! {
    /// The second, and its date up to that.
    static DATE: RefCell<(i64, String)> = const { RefCell::new((-1, String::new())) };
}

/// `2026-01-03T04:05:06.123456Z`.
fn timestamp(writer: &mut Writer<'_>) -> fmt::Result {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = i64::try_from(now.as_secs()).unwrap_or(0);
    DATE.with_borrow_mut(|(of, date)| {
        if *of != second {
            *date = twostage_model::date::rfc3339(second);
            *of = second;
        }
        writer.write_str(date.trim_end_matches('Z'))
    })?;
    writer.write_char('.')?;
    number(writer, now.subsec_micros().into(), 6)?;
    writer.write_char('Z')
}

/// A number with zeros before it, to have `least` digits.
fn number(writer: &mut Writer<'_>, mut rest: u64, least: usize) -> fmt::Result {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while rest > 0 || digits.len() - at < least {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    writer.write_str(std::str::from_utf8(&digits[at..]).unwrap_or_default())
}

struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let name = if field.name() == "message" { "" } else { field.name() };
        let all = || {
            self.writer.write_char(' ')?;
            self.writer.write_str(name)?;
            if !name.is_empty() {
                self.writer.write_char('=')?;
            }
            value(self.writer)
        };
        if self.result.is_ok() {
            self.result = all();
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        self.write(field, |writer| {
            if is_plain {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            } else {
                write!(writer, "{value:?}")
            }
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |writer| number(writer, value, 1));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |writer| write!(writer, "{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Layer as _, fmt::format};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_is_written_in_the_words_of_the_general_format() {
        let (ours, general) = (Lines::default(), Lines::default());
        let (out, other) = (ours.clone(), general.clone());
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || out.clone());
        let plain = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || other.clone());
        let both = tracing_subscriber::registry().with(layer.event_format(Format(format().with_ansi(false))).boxed()).with(plain);
        tracing::subscriber::with_default(both, || {
            for agent in ["", "apt", "a \"b\" \\c", "…", "\u{9b}"] {
                tracing::info!(target: "twostage::http", peer = %"[::1]:80", method = "GET", uri = "/a?…", status = 200_u16, sent = u64::MAX, millis = 0_u64, agent, "request");
                tracing::error!(target: "twostage::http", peer = %"[::1]:80", agent, problem = "x", "request failed");
                tracing::info!(target: "twostage::other", agent, "something else");
            }
        });
        let text = |lines: &Lines| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (ours, general) = (text(&ours), text(&general));
        let rest = |text: &str| text.lines().map(|line| line.get(27..).unwrap_or_default().to_string()).collect::<Vec<_>>();
        assert_eq!(rest(&ours), rest(&general));
        assert_eq!(ours.lines().count(), 15);
        let is_date =
            |line: &str| line.len() > 27 && line.as_bytes()[10] == b'T' && line.as_bytes()[19] == b'.' && line.as_bytes()[26] == b'Z';
        assert!(ours.lines().all(is_date), "{ours}");
    }
}

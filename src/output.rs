//! What people and programs see: one stream of events, three renderers.
//!
//! On a terminal finished lines stay and one status line shows what is running; elsewhere every
//! step is a plain line; with `--json` every event is an object. Results go to standard output,
//! everything else to standard error.

use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use twostage_model::event::Outcome;
use twostage_model::{Error, Event, Sink};

/// Where everything that is said goes. Cheap to clone.
#[derive(Clone)]
pub struct Output(Arc<Inner>);

struct Inner {
    json: bool,
    quiet: bool,
    verbose: bool,
    terminal: bool,
    colour: bool,
    result_colour: bool,
    running: Mutex<Running>,
    /// Why standard output took no more.
    refused: Mutex<Option<std::io::Error>>,
}

/// What the status line of a terminal shows.
#[derive(Default)]
struct Running {
    /// Subject to what is being done.
    steps: BTreeMap<String, String>,
    /// The last line that a builder or a package manager said.
    said: String,
    drawn: Option<Instant>,
}

/// The status line is drawn again for what a builder says at most this often.
const REDRAW: Duration = Duration::from_millis(100);

/// The colours that mean something here.
#[derive(Clone, Copy)]
enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
    Bold,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    Good,
    /// It works with less.
    Poor,
    Bad,
}

impl Output {
    pub fn new(json: bool, quiet: bool, verbose: bool) -> Output {
        let may_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Output(Arc::new(Inner {
            json,
            quiet,
            verbose,
            terminal: terminal && !json,
            colour: terminal && may_colour,
            result_colour: std::io::stdout().is_terminal() && may_colour,
            running: Mutex::default(),
            refused: Mutex::default(),
        }))
    }

    /// Where libraries send their events.
    pub fn sink(&self) -> Sink {
        let output = self.clone();
        Sink::new(move |event| output.event(&event))
    }

    fn event(&self, event: &Event) {
        if self.0.json {
            self.json_line(event);
            return;
        }
        if self.0.quiet {
            return;
        }
        let mut running = self.0.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Started { subject, step } => {
                running.steps.insert(subject.clone(), printable(step));
                running.said.clear();
                if !self.0.terminal {
                    self.line(&format!("{subject}: {}", printable(step)));
                }
            }
            Event::Log { subject, line } if self.0.verbose => {
                let text = format!("{} {}", self.paint(Colour::Dim, &format!("{subject} |")), printable(line));
                self.line(&text);
            }
            Event::Log { line, .. } => {
                if !self.0.terminal || running.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
                    return;
                }
                running.said = printable(line);
            }
            Event::Finished { subject, outcome, detail, millis } => {
                running.steps.remove(subject);
                running.said.clear();
                let seconds = Duration::from_millis(*millis).as_secs_f64();
                let (colour, word) = match outcome {
                    Outcome::Done => (Colour::Green, "done"),
                    Outcome::Unchanged => (Colour::Dim, "unchanged"),
                    Outcome::Same => (Colour::Green, "same content, earlier packages kept"),
                    Outcome::Failed => (Colour::Red, "failed"),
                };
                let detail = if *outcome == Outcome::Failed { "" } else { detail.as_str() };
                let time =
                    if seconds >= 0.05 { format!(" {}", self.paint(Colour::Dim, &format!("({seconds:.1} s)"))) } else { String::new() };
                let text = format!(
                    "{}: {}{}{detail}{time}",
                    self.paint(Colour::Bold, subject),
                    self.paint(colour, word),
                    if detail.is_empty() { "" } else { ", " }
                );
                self.line(&text);
            }
            Event::Note { subject, message } => self.note(subject, message),
            Event::SymbolsLost { subject, package, library, original, count, symbols } => {
                let more = if *count > symbols.len() { format!(" and {} more", count - symbols.len()) } else { String::new() };
                let what = if *count == 1 { "a symbol".into() } else { format!("{count} symbols") };
                let names = symbols.join(", ");
                self.note(subject, &format!("{package}: {library} lacks {what} that it has in {original}: {names}{more}"));
            }
        }
        self.status(&mut running);
    }

    fn note(&self, subject: &str, message: &str) {
        let text = format!("{}: {} {}", self.paint(Colour::Bold, subject), self.paint(Colour::Yellow, "note:"), printable(message));
        self.line(&text);
    }

    /// A line that stays, above the status line.
    fn line(&self, text: &str) {
        let clear = if self.0.terminal { "\r\x1b[2K" } else { "" };
        // Standard error that is gone is no reason to end a build. (One write, so that lines of two do not mix.)
        let _ = std::io::stderr().write_all(format!("{clear}{text}\n").as_bytes());
    }

    /// A line of the log.
    pub fn log_line(&self, text: &str) {
        self.line(text);
    }

    fn status(&self, running: &mut Running) {
        if !self.0.terminal {
            return;
        }
        let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        let width = if columns == 0 { 80 } else { columns };
        let mut text = running.steps.iter().map(|(subject, step)| format!("{subject}: {step}")).collect::<Vec<_>>().join("  ·  ");
        if !text.is_empty() && !running.said.is_empty() {
            text = format!("{text}  |  {}", running.said.trim());
        }
        running.drawn = Some(Instant::now());
        let shown: String = text.chars().take(width - 1).collect();
        let _ = write!(std::io::stderr(), "\r\x1b[2K{}", self.paint(Colour::Dim, &shown));
        let _ = std::io::stderr().flush();
    }

    /// Takes the status line away, before the program ends or prints a result.
    pub fn close(&self) {
        if self.0.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
            let _ = std::io::stderr().flush();
        }
    }

    /// A command's result: a text for people, a value for programs.
    pub fn result(&self, text: &str, value: &impl Serialize) {
        self.close();
        if self.0.json {
            self.json_line(value);
        } else {
            self.print_out(text.as_bytes());
        }
    }

    /// Bytes to standard output, as they are and a line end. A reader that has gone away (`| head`) is no error.
    pub fn print_out(&self, bytes: &[u8]) {
        self.try_print(bytes).unwrap_or_else(|error| self.refused(error));
    }

    fn try_print(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
    }

    /// Notes that standard output took no more.
    pub fn refused(&self, error: std::io::Error) {
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            self.0.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Whether all that was said to standard output got there: a result that nobody got is no success.
    ///
    /// # Errors
    /// Standard output took no more.
    pub fn written(&self) -> twostage_model::Result<()> {
        let refused = self.0.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        refused.map_or(Ok(()), |cause| Err(Error::system("cannot write to standard output; what was to be done is done", cause)))
    }

    /// A report with its last line, the verdict, painted by whether it is good.
    pub fn with_verdict(&self, report: &str, good: bool) -> String {
        let report = report.trim_end();
        let (body, verdict) = report.rsplit_once('\n').unwrap_or(("", report));
        let colour = if good { Colour::Green } else { Colour::Red };
        format!("{body}\n{}", if self.0.result_colour { ansi(colour, verdict) } else { verdict.to_string() })
    }

    /// A word of a result, painted by what it says: good, poor or bad.
    pub fn mark(&self, word: &str, mark: Mark) -> String {
        let colour = match mark {
            Mark::Good => Colour::Green,
            Mark::Poor => Colour::Yellow,
            Mark::Bad => Colour::Red,
        };
        if self.0.result_colour { ansi(colour, word) } else { word.to_string() }
    }

    fn json_line(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(value) {
            self.print_out(line.as_bytes());
        }
    }

    /// Prints an error and gives the exit status of its class.
    pub fn error(&self, error: &Error) -> ExitCode {
        let causes = error.causes();
        let told = self.0.json && {
            let value = serde_json::json!({
                "event": "error",
                "class": error.class().code(),
                "message": error.what(),
                "causes": causes,
                "hint": error.hint_or_class(),
            });
            self.try_print(value.to_string().as_bytes()).is_ok()
        };
        // Where standard output takes no more, too.
        if !told {
            let mut text = format!("{} {}", self.paint(Colour::Red, "error:"), printable(error.what()));
            for cause in causes {
                text.push_str(&format!("\n  because: {}", printable(&cause).replace('\n', "\n           ")));
            }
            text.push_str(&format!("\n  {} {}", self.paint(Colour::Green, "hint:"), printable(error.hint_or_class())));
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        ExitCode::from(error.class().exit_status())
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.0.colour { ansi(colour, text) } else { text.to_string() }
    }
}

/// What clap says: a usage error, or what `--help` and `--version` ask for.
pub fn usage(said: &clap::Error) -> ExitCode {
    let asked = !said.use_stderr();
    match said.print().and_then(|()| std::io::stdout().flush()) {
        Err(error) if asked && error.kind() != std::io::ErrorKind::BrokenPipe => {
            Output::new(false, false, false).error(&Error::system("cannot write to standard output", error))
        }
        _ if asked => ExitCode::SUCCESS,
        _ => ExitCode::from(twostage_model::Class::Usage.exit_status()),
    }
}

fn ansi(colour: Colour, text: &str) -> String {
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Dim => "2",
        Colour::Bold => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What a container or a package says, without what could move the cursor or rename the window.
pub fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2Jb\x07\r\tc"), "a[2Jb\tc");
    }
}

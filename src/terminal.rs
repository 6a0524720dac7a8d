//! The terminal, standard input and signals of whoever runs `twostage run -it`, for the command in the container.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;
use twostage_engine::{Attached, Size, Told};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// So many requests to end in a row end it, whatever the command does with them: as docker has it.
const INSIST: u32 = 3;

/// What the command is given, and who tells it of signals. Dropping it gives the terminal back as it was.
pub struct Terminal {
    pub attached: Attached,
    tell: UnboundedSender<Told>,
    resized: bool,
    _raw: Option<Raw>,
}

/// A terminal that passes on every key.
struct Raw(Termios);

impl Drop for Raw {
    fn drop(&mut self) {
        // What is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

impl Terminal {
    /// `input`: the command reads what this program does. `terminal`: it has a terminal, which shows on this one.
    ///
    /// # Errors
    /// Both are asked for, and this program's input is no terminal; or it cannot be used.
    pub fn open(input: bool, terminal: bool) -> Result<Terminal> {
        let failed = || "cannot use this terminal".to_string();
        let here = io::stdin().is_terminal();
        if input && terminal && !here {
            return Err(Error::new(Class::Usage, "-t needs a terminal, and the standard input is not one")
                .hint("leave -t away: -i reads it as it is"));
        }
        let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let raw = if input && terminal {
            let before = tcgetattr(io::stdin()).or_fail(Class::System, failed)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &raw).or_fail(Class::System, failed)?;
            Some(Raw(before))
        } else {
            None
        };
        let reading = if input { Some(read().or_fail(Class::System, failed)?) } else { None };
        let (attached, tell) = Attached::new(reading, terminal.then_some(size));
        Ok(Terminal { attached, tell, resized: terminal, _raw: raw })
    }

    /// Passes signals on, until somebody insists that it ends.
    pub fn signals(&self) -> impl Future<Output = Error> + Send + 'static {
        pass_on(self.tell.clone(), self.resized)
    }
}

/// What this program reads, as a pipe: the command gets neither a terminal of ours nor a file.
fn read() -> io::Result<File> {
    let (reader, mut writer) = io::pipe()?;
    std::thread::Builder::new().spawn(move || {
        let mut buffer = [0; 16 << 10];
        let mut stdin = io::stdin().lock();
        // Whoever reads no more has ended.
        while let Ok(n @ 1..) = stdin.read(&mut buffer) {
            if writer.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })?;
    Ok(File::from(OwnedFd::from(reader)))
}

async fn pass_on(tell: UnboundedSender<Told>, resized: bool) -> Error {
    let listen = |kind| signal(kind).ok();
    let mut interrupt = listen(SignalKind::interrupt());
    let mut terminate = listen(SignalKind::terminate());
    let mut others = [SignalKind::hangup(), SignalKind::quit(), SignalKind::user_defined1(), SignalKind::user_defined2()]
        .map(|kind| (kind, listen(kind)));
    let mut resize = if resized { listen(SignalKind::window_change()) } else { None };
    let [hangup, quit, first, second] = &mut others;
    let mut insisted = 0;
    loop {
        let kind = tokio::select! {
            () = next(&mut interrupt) => SignalKind::interrupt(),
            () = next(&mut terminate) => SignalKind::terminate(),
            () = next(&mut hangup.1) => hangup.0,
            () = next(&mut quit.1) => quit.0,
            () = next(&mut first.1) => first.0,
            () = next(&mut second.1) => second.0,
            () = next(&mut resize) => {
                if let Ok(size) = tcgetwinsize(io::stdout()) {
                    let size: Size = (size.ws_row, size.ws_col);
                    let _ = tell.send(Told::Size(size));
                }
                continue;
            }
        };
        if kind == SignalKind::interrupt() || kind == SignalKind::terminate() {
            insisted += 1;
            if insisted == INSIST {
                return Error::new(Class::System, "the command did not end at three signals, and was ended")
                    .hint("as docker has it, a first process that handles no signal ignores SIGTERM and SIGINT");
            }
        }
        // A command that has ended needs none.
        let _ = tell.send(Told::Signal(kind.as_raw_value()));
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

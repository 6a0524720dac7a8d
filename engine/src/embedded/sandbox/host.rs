//! The outer side: starts the inner one, maps its ids, and ends it when nobody waits any more.

use super::ids::Ids;
use super::limits::{Limits, Places};
use super::network::{Connected, Go, Opened, Wanted, Ways};
use super::program;
use super::wire::{self, Order, Reply};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// What `argv[0]` of the inner side is.
pub(super) const MARKER: &str = "twostage-sandbox";
/// How long the inner side has for ending what it runs, before it is killed itself.
const GRACE: Duration = Duration::from_secs(5);

/// Whom to start, and with which ids.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub ids: Ids,
    pub places: Places,
    pub program: Option<PathBuf>,
    pub ways: Ways,
}

/// What a command asks for besides files.
#[derive(Default)]
pub(super) struct Asked {
    /// A network of its own, and who gets the sockets of that.
    pub network: Option<(Wanted, oneshot::Sender<Opened>)>,
    /// A terminal, and who gets the other end.
    pub terminal: Option<oneshot::Sender<OwnedFd>>,
    /// What it reads.
    pub input: Option<OwnedFd>,
}

/// Tells a command signals, as soon as there is one.
#[derive(Clone)]
pub(super) struct Teller {
    control: Arc<UnixStream>,
    started: Arc<AtomicBool>,
}

impl Teller {
    pub(super) async fn signal(&self, number: i32) {
        while !self.started.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One that has ended hears nothing.
        let _ = u8::try_from(number).map(|number| (&*self.control).write_all(&[number]));
    }
}

/// An inner side that runs. Dropping it ends it, and waits for that.
pub(super) struct Running {
    control: Arc<UnixStream>,
    started: Arc<AtomicBool>,
    process: OwnedFd,
    ended: mpsc::Receiver<()>,
}

impl Host {
    /// Starts the inner side; `done` is called with its last word, and which limit it reached, from another thread.
    pub(super) fn start(
        &self,
        order: &Order,
        limits: Option<Limits>,
        asked: Asked,
        stdout: Stdio,
        stderr: Stdio,
        done: impl FnOnce(Result<Reply>, Option<String>) + Send + 'static,
    ) -> Result<Running> {
        let failed = || "cannot start a sandbox".to_string();
        let mapped = order.mapped;
        let order = wire::frame(order).or_fail(Class::System, || "cannot tell a sandbox what to do".into())?;
        let program = self.program.clone().map_or_else(program::own, Ok)?;
        let (control, theirs) = UnixStream::pair().or_fail(Class::System, failed)?;
        let (ready, started) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (ids, ours) = (mapped.then(|| self.ids.clone()), control.try_clone().or_fail(Class::System, failed)?);
        let ways = self.ways.clone();
        let has_started = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_started);
        let places = self.places.clone();
        // The kernel ends the inner side with the thread that started it: this one waits for it.
        let waiting = move || {
            let child = spawn(&program, theirs, stdout, stderr);
            let mut child = match child {
                Ok((child, process)) => {
                    // Whoever asked may be gone already; the socket's end says so below.
                    let _ = ready.send(Ok(process));
                    child
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            // It has started nothing yet: it waits for its order.
            let group = limits.map(|limits| places.group(limits));
            if let Some(group) = &group {
                group.take(child.id());
            }
            let connected = Connected::default();
            let mut talk = Talk { control: &ours, ids, asked, ways, connected, started: &begun, program: &program, pid: child.id() };
            let said = talk.converse(&order);
            let connected = talk.connected;
            // What has nothing more to say ends.
            let _ = ours.shutdown(Shutdown::Both);
            let status = child.wait();
            let said = match (said, status) {
                (Ok(Some(reply)), _) => Ok(reply),
                (Ok(None), Ok(status)) => Err(Error::new(Class::Engine, "a sandbox ended without a word").because(match status.signal() {
                    Some(signal) => format!("it was killed by signal {signal}"),
                    None => format!("it ended with status {}", status.code().unwrap_or_default()),
                })),
                (Ok(None), Err(error)) => Err(Error::system("lost sight of a sandbox", error)),
                (Err(error), _) => Err(error),
            };
            let reached = group.as_ref().and_then(|group| group.reached());
            drop(group);
            let said = match said {
                Ok(Reply::Failed(fault)) => Err(connected.explain(fault.into())),
                said => said,
            };
            done(said, reached);
            drop(end);
        };
        thread::Builder::new().name("sandbox".into()).spawn(waiting).or_fail(Class::System, failed)?;
        let process = started.recv().or_fail(Class::System, failed)?.or_fail(Class::System, failed)?;
        Ok(Running { control: Arc::new(control), started: has_started, process, ended })
    }

    /// Runs the inner side to its end, in this thread.
    pub(super) fn call(&self, order: &Order, stdout: Stdio, meanwhile: impl FnOnce() -> Result<()>) -> Result<Reply> {
        let (say, heard) = mpsc::channel();
        let running = self.start(order, None, Asked::default(), stdout, Stdio::inherit(), move |reply, _| {
            let _ = say.send(reply);
        })?;
        meanwhile()?;
        let reply = heard.recv().or_fail(Class::Engine, || "lost sight of a sandbox".into())?;
        drop(running);
        reply
    }
}

fn spawn(program: &Path, control: UnixStream, stdout: Stdio, stderr: Stdio) -> io::Result<(Child, OwnedFd)> {
    let mut command = Command::new(program);
    command.arg0(MARKER).arg("outer").env_clear().stdin(OwnedFd::from(control)).stdout(stdout).stderr(stderr);
    if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    Ok((child, process))
}

/// The outer side's part of what the two say to each other.
struct Talk<'a> {
    control: &'a UnixStream,
    /// Whose maps are to be written.
    ids: Option<Ids>,
    asked: Asked,
    ways: Ways,
    connected: Connected,
    started: &'a AtomicBool,
    program: &'a Path,
    pid: u32,
}

impl Talk<'_> {
    fn converse(&mut self, order: &[u8]) -> Result<Option<Reply>> {
        let failed = || "cannot talk to a sandbox".to_string();
        let control = self.control;
        let input: Vec<_> = self.asked.input.iter().map(OwnedFd::as_fd).collect();
        if wire::send_frame(control, order, &input).is_err() {
            // It ended; its status says more.
            return Ok(None);
        }
        self.asked.input = None;
        loop {
            let mut carried = Vec::new();
            let reply = wire::receive_with(control, &mut carried).or_fail(Class::Engine, failed)?;
            match reply {
                Some(Reply::Unshared) => {
                    if !self.unshared()? {
                        return Ok(None);
                    }
                }
                // (Whoever asked may have gone already.)
                Some(Reply::Opened(own)) => {
                    let Some((wanted, opened)) = self.asked.network.take() else { continue };
                    let sockets = Opened::new(&wanted, own, carried).ok_or_else(|| Error::new(Class::Engine, failed()))?;
                    let _ = opened.send(sockets);
                }
                Some(Reply::Terminal) => {
                    if let (Some(asked), Some(terminal)) = (self.asked.terminal.take(), carried.pop()) {
                        let _ = asked.send(terminal);
                    }
                }
                Some(Reply::Started) => {
                    self.asked.terminal = None;
                    self.started.store(true, Ordering::Release);
                }
                reply => return Ok(reply),
            }
        }
    }

    /// Does the outer side's part of the namespaces; whether the inner side is still there.
    fn unshared(&mut self) -> Result<bool> {
        if let Some(ids) = &self.ids {
            ids.write(self.pid)?;
        }
        let mut go = Go::default();
        if self.asked.network.as_ref().is_some_and(|(wanted, _)| wanted.out) {
            (go, self.connected) = self.ways.connect(self.pid, self.program)?;
        }
        Ok(wire::send(self.control, &go).is_ok())
    }
}

impl Running {
    /// Who tells the command signals.
    pub(super) fn teller(&self) -> Teller {
        Teller { control: Arc::clone(&self.control), started: Arc::clone(&self.started) }
    }

    /// Ends all that runs in it, and waits for that.
    fn end(&self) {
        // The end of the socket is what the container's first process ends at, and the kernel everything else with it.
        let _ = self.control.shutdown(Shutdown::Both);
        if let Err(mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(GRACE) {
            let _ = rustix::process::pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
            let _ = self.ended.recv_timeout(GRACE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

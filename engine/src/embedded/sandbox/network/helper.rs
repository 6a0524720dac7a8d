//! A network for containers of users who may change nothing of the machine's: a program that makes connections for
//! them, as this user (pasta of `passt`, or `slirp4netns`).
//!
//! It is the child of another run of this program, the keeper, which ends it when its own standard input does: so it
//! ends with whoever started it, however that ends.

use super::super::host::MARKER;
use super::nat::{self, INSIDE};
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The keeper's role, as [`super::super::enter::enter`] is told it.
pub(in super::super) const KEEPER: &str = "keeper";
/// More of what it says is not read.
const SAID: u64 = 4096;

/// A program that can do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    pub name: &'static str,
    path: PathBuf,
}

/// One that runs. Dropping it ends it.
pub(super) struct Helping {
    keeper: Child,
    /// The keeper's standard input.
    life: Option<PipeWriter>,
    said: PipeReader,
    /// Where it tells that it needs nothing more of the process that it connects, if it can tell that.
    ready: Option<PipeReader>,
    name: &'static str,
}

impl Helper {
    /// The better one of those that are there.
    pub(super) fn find() -> Option<Helper> {
        let device = rustix::fs::access("/dev/net/tun", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok();
        ["pasta", "slirp4netns"].into_iter().filter(|_| device).find_map(|name| Some(Helper { name, path: nat::program(name)? }))
    }

    /// What it is told: nothing that listens on this machine is reached through it, and nothing here listens for it.
    fn arguments(&self, process: u32, root: bool) -> Vec<OsString> {
        let mut words: Vec<&str> = match self.name {
            "pasta" => vec![
                "--foreground",
                "--quiet",
                "--config-net",
                "--ns-ifname",
                INSIDE,
                "--no-map-gw",
                "--no-dhcp",
                "--no-dhcpv6",
                "--no-ra",
                "--tcp-ports",
                "none",
                "--udp-ports",
                "none",
                "--tcp-ns",
                "none",
                "--udp-ns",
                "none",
            ],
            // (Its standard input is no input: see `start`.)
            _ => vec!["--configure", "--ready-fd=0", "--mtu=65520", "--disable-host-loopback", "--disable-dns", "--enable-sandbox"],
        };
        // Else it becomes nobody, who may not enter what root made.
        if self.name == "pasta" && root {
            words.extend(["--runas", "0"]);
        }
        let process = process.to_string();
        words.push(&process);
        if self.name != "pasta" {
            words.push(INSIDE);
        }
        words.into_iter().map(OsString::from).collect()
    }

    /// Starts it for the network of a process; `program` is this one. [`Helping::is_ready`] must be asked before that
    /// process hides its namespaces.
    pub(super) fn start(&self, program: &Path, process: u32) -> io::Result<Helping> {
        let (theirs, life) = io::pipe()?;
        let (said, stderr) = io::pipe()?;
        // What nobody reads is lost, and does not stop the helper.
        rustix::io::ioctl_fionbio(&stderr, true)?;
        let (told, ready) = if self.name == "pasta" {
            (Stdio::null(), None)
        } else {
            let (ready, told) = io::pipe()?;
            (told.into(), Some(ready))
        };
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new(program);
        std::os::unix::process::CommandExt::arg0(&mut command, MARKER);
        command.arg(KEEPER).arg(&self.path).args(self.arguments(process, root));
        command.env_clear().stdin(theirs).stdout(told).stderr(stderr).current_dir("/");
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Ok(Helping { keeper: command.spawn()?, life: Some(life), said, ready, name: self.name })
    }
}

impl Helping {
    /// Waits until the process that it connects may hide its namespaces; false if it ended, or took longer than that.
    ///
    /// slirp4netns sets the address and the route first, and only then enters the user namespace for its own sandbox,
    /// by its path below `/proc`. So a route is no sign that it is ready. Pasta opens all namespaces at the start.
    pub(super) fn is_ready(&mut self, patience: Duration) -> bool {
        let Some(mut ready) = self.ready.take() else { return true };
        let (tell, told) = mpsc::channel();
        // It ends with the helper, at the latest.
        let listening = std::thread::Builder::new().spawn(move || {
            let _ = tell.send(matches!(ready.read(&mut [0; 1]), Ok(1)));
        });
        listening.is_ok() && told.recv_timeout(patience).unwrap_or(false)
    }

    /// What it said, after it has been ended.
    pub(super) fn end(mut self) -> String {
        self.stop();
        let mut said = Vec::new();
        let _ = (&mut self.said).take(SAID).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().filter(|line| !line.contains("to syslog") && !line.trim().is_empty()).collect();
        format!("{}: {}", self.name, lines.last().unwrap_or(&"it said nothing"))
    }

    fn stop(&mut self) {
        drop(self.life.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for Helping {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The keeper: runs a program until its own standard input ends.
pub(in super::super) fn keep(mut words: impl Iterator<Item = OsString>) -> i32 {
    let Some(program) = words.next() else { return 2 };
    // The standard input of the program is where it tells that it is ready: safe Rust passes on no other descriptor.
    let ready = rustix::stdio::stdout().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from);
    let started = Command::new(program).args(words).env_clear().stdin(ready).stdout(Stdio::null()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{error}");
            return 2;
        }
    };
    let process = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let process = process.and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok());
    let watching = std::thread::Builder::new().spawn(move || {
        // Nothing is ever said.
        let _ = io::stdin().read(&mut [0; 1]);
        if let Some(process) = process {
            let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
        }
    });
    if watching.is_err() {
        let _ = child.kill();
    }
    child.wait().ok().and_then(|status| status.code()).unwrap_or(1)
}

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
            _ => vec!["--configure", "--mtu=65520", "--disable-host-loopback", "--disable-dns", "--enable-sandbox"],
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

    /// Starts it for the network of a process; `program` is this one. It is ready when that network has a way out.
    pub(super) fn start(&self, program: &Path, process: u32) -> io::Result<Helping> {
        let (theirs, life) = io::pipe()?;
        let (said, stderr) = io::pipe()?;
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new(program);
        std::os::unix::process::CommandExt::arg0(&mut command, MARKER);
        command.arg(KEEPER).arg(&self.path).args(self.arguments(process, root));
        command.env_clear().stdin(theirs).stdout(Stdio::null()).stderr(stderr).current_dir("/");
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Ok(Helping { keeper: command.spawn()?, life: Some(life), said, name: self.name })
    }
}

impl Helping {
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
    let started = Command::new(program).args(words).env_clear().stdin(Stdio::null()).spawn();
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

//! The process between a container and whoever it belongs to: the first one of a namespace of processes in which the
//! container's own is. When it ends, the kernel ends all of the container, whatever that has done to itself. The
//! command is so the first process of its own namespace, as Docker has it, and sees none of ours.

use super::enter::{control, die_with_parent};
use super::host::MARKER;
use super::network;
use super::wire::{self, Reply};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Command;
use std::sync::mpsc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};

/// Its role, as [`super::enter::enter`] is told it: with the numbers of the descriptors of what is to be run, of a socket on
/// which sockets of the network are asked for, and of what the command reads.
pub(super) const GUARD: &str = "guard";
/// What stands for a descriptor that there is none of.
pub(super) const NONE: &str = "-";

/// Starts the container's first process, and waits for it.
pub(super) fn guard(order: i32, asked: Option<i32>, input: Option<i32>) -> i32 {
    let Ok(control) = control() else { return 2 };
    let reply = run(&control, order, asked, input).unwrap_or_else(|error| Reply::Failed((&error).into()));
    // Nobody listens any more, if this fails.
    i32::from(wire::send(&control, &reply).is_err())
}

fn run(control: &UnixStream, order: i32, asked: Option<i32>, input: Option<i32>) -> Result<Reply> {
    let failed = || "cannot start the first process of a container".to_string();
    die_with_parent(control)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).or_fail(Class::Engine, failed)?;
    // A process that has made a namespace of processes for its children makes no threads any more.
    if let Some(asked) = asked {
        let asked = UnixStream::from(taken(asked)?);
        std::thread::Builder::new().spawn(move || network::give_sockets(&asked)).or_fail(Class::Engine, failed)?;
    }
    let (started, first) = mpsc::channel();
    watch(control, first)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).or_fail(Class::Engine, failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(MARKER).arg("inner").arg(order.to_string()).args(input.map(|input| input.to_string()));
    let mut child = command.spawn().or_fail(Class::Engine, failed)?;
    // Whoever writes to the command learns when that reads no more.
    for number in [Some(order), input].into_iter().flatten() {
        nix::unistd::close(number).or_fail(Class::Engine, failed)?;
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
        let _ = started.send(process);
    }
    let status = child.wait().or_fail(Class::Engine, failed)?;
    // It has said what there is to say, unless somebody killed it.
    Ok(Reply::Exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
}

/// Ends the container when nobody waits for it any more; passes signals on until then, each a byte.
fn watch(control: &UnixStream, first: mpsc::Receiver<OwnedFd>) -> Result<()> {
    let failed = || "cannot watch over a container".to_string();
    let mut control = control.try_clone().or_fail(Class::Engine, failed)?;
    let watching = move || {
        let mut signal = [0];
        while let Ok(1) = control.read(&mut signal) {
            let Some(signal) = Signal::from_named_raw(signal[0].into()) else { continue };
            if let Ok(process) = first.recv() {
                let _ = pidfd_send_signal(&process, signal);
            }
        }
        std::process::exit(137)
    };
    std::thread::Builder::new().spawn(watching).map(drop).or_fail(Class::Engine, failed)
}

/// A descriptor that this process was started with, as one that nothing that is executed gets.
pub(super) fn taken(number: i32) -> Result<OwnedFd> {
    let failed = || format!("lost the descriptor {number}");
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).or_fail(Class::Engine, failed)?;
    let taken = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).or_fail(Class::Engine, failed)?;
    nix::unistd::close(number).or_fail(Class::Engine, failed)?;
    Ok(taken)
}

/// The same descriptor, for a process that is started.
pub(super) fn for_others(descriptor: &OwnedFd) -> Result<i32> {
    let failed = || "cannot pass on a descriptor".to_string();
    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).or_fail(Class::Engine, failed)?;
    Ok(descriptor.as_raw_fd())
}

//! What the two sides of the sandbox say to each other, over a socket that is the standard input of the inner side:
//! frames of JSON, each after its length as four bytes.
//!
//! ```text
//! outside                          inside
//! Order ─────────────────────────►
//!       ◄───────────────────────── Unshared      where the outside writes the maps of ids, or connects the network
//! Go    ─────────────────────────►
//!       ◄───────────────────────── Opened        of a network of the container's own, with its sockets
//!       ◄───────────────────────── Terminal      of a command that has one, with its other end
//!       ◄───────────────────────── Started       of a command; from here on each byte is a signal for it
//! 15    ─────────────────────────►
//!       ◄───────────────────────── Done, Exit, Refused, Found or Failed
//! ```

use super::network::Wanted;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use twostage_model::{Class, Error};

/// The longest frame: an order with its environment, scripts and secrets.
const LIMIT: usize = 64 << 20;
/// The most descriptors that come with a frame.
const DESCRIPTORS: usize = 64;

/// What is to be done inside.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The folder that most paths are in. It is entered while the process may still do so.
    pub base: PathBuf,
    /// Containers have one user id only, and files no owners.
    pub single: bool,
    /// Somebody outside writes the maps of ids.
    pub mapped: bool,
    /// Bytes that stay free on the disk that is written to; none means the usual.
    pub free: Option<u64>,
    pub task: Task<PathBuf>,
}

/// What it is, with paths, or with the numbers of the descriptors that were opened for them.
#[derive(Serialize, Deserialize)]
pub(super) enum Task<P> {
    Run(Box<Run<P>>),
    Unpack(P),
    Pack(Layers<P>),
    Put { root: Layers<P>, replace: bool },
    Find { root: Layers<P>, path: String },
    CopyOut { root: Layers<P>, path: String },
    Init { root: Layers<P>, dir: P },
    Empty(P),
}

/// Layers of a root.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(super) struct Layers<P> {
    /// Lowest first.
    pub lowers: Vec<P>,
    pub upper: Option<(P, P)>,
}

/// A command and all that it is to see.
#[derive(Serialize, Deserialize)]
pub(super) struct Run<P> {
    pub root: Layers<P>,
    pub cmd: Vec<String>,
    pub env: Vec<(String, String)>,
    pub user: String,
    pub workdir: String,
    pub hostname: String,
    /// It has a terminal of so many rows and columns.
    pub terminal: Option<(u16, u16)>,
    /// Its own network; none means the machine's.
    pub network: Option<Wanted>,
    pub script: Option<(String, String)>,
    pub mounts: Vec<Attach<P>>,
    pub single: bool,
    pub resolv: Vec<u8>,
    pub hosts: Vec<u8>,
}

/// One more mount.
#[derive(Serialize, Deserialize)]
pub(super) enum Attach<P> {
    Path { source: P, target: String, read_only: bool },
    Tree { source: Layers<P>, path: String, target: String, read_only: bool },
    Tmpfs { target: String, size: Option<u64> },
    Socket { source: P, target: String, mode: u32, uid: u32, gid: u32 },
    Secret { bytes: Vec<u8>, target: String, mode: u32, uid: u32, gid: u32 },
}

/// What the inside answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    Unshared,
    /// The address that the container has in its network.
    Opened(Option<IpAddr>),
    /// The other end of the container's terminal comes with this.
    Terminal,
    /// The first process is about to become the command.
    Started,
    Done,
    Exit(i32),
    /// The command cannot be started: Docker's sentence and status, and what mends it.
    Refused {
        why: String,
        hint: String,
        code: i32,
    },
    Found(Option<(bool, Option<String>)>),
    Failed(Fault),
}

/// An error on its way.
#[derive(Serialize, Deserialize)]
pub(super) struct Fault {
    class: String,
    what: String,
    because: Vec<String>,
    hint: Option<String>,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Fault {
        Fault {
            class: error.class().code().into(),
            what: error.what().into(),
            because: error.causes(),
            hint: error.hint_text().map(str::to_string),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let classes = [Class::Verdict, Class::Usage, Class::Project, Class::Build, Class::Repository, Class::Engine, Class::Runtime];
        let class = classes.into_iter().find(|class| class.code() == fault.class).unwrap_or(Class::System);
        let mut error = Error::new(class, fault.what);
        if !fault.because.is_empty() {
            error = error.because(fault.because.join(": "));
        }
        match fault.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

pub(super) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

/// The bytes of a message.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length as usize <= LIMIT);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a message is longer than 64 MiB"))?;
    Ok([&length.to_le_bytes()[..], &json].concat())
}

/// Sends a message with descriptors.
pub(super) fn send_with(to: &UnixStream, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_frame(to, &frame(message)?, descriptors)
}

/// Sends a frame with descriptors.
pub(super) fn send_frame(mut to: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message has too many descriptors"));
    }
    let sent = rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    to.write_all(&bytes[sent..])
}

/// The next frame, and the descriptors that come with it.
pub(super) fn receive_with<T: DeserializeOwned>(from: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<Option<T>> {
    receive(Carrying { from, descriptors })
}

/// A socket that is read with what it carries.
struct Carrying<'a> {
    from: &'a UnixStream,
    descriptors: &'a mut Vec<OwnedFd>,
}

impl Read for Carrying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let read = rustix::net::recvmsg(self.from, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                self.descriptors.extend(given);
            }
        }
        if read.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message lost its descriptors"));
        }
        Ok(read.bytes)
    }
}

/// The next frame; none when the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than 64 MiB"));
    }
    let mut json = Vec::new();
    from.take(length as u64).read_to_end(&mut json)?;
    if json.len() < length {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&json)?))
}

//! A container's network as its inner side makes it, with all rights in it and none outside.

use super::super::wire::{self, Reply};
use super::nat::{INSIDE, PREFIX};
use super::{NAMES, netlink};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use twostage_model::address::hidden;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// How long whoever connects a network has for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
/// The error of a network that was not connected in time.
pub(super) const NO_WAY: &str = "the network of a container was not connected";

/// What a container's network is to have.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in super::super) struct Wanted {
    /// It has a way out.
    pub out: bool,
    /// Ports of the machine's 127.0.0.1 that are reached in it.
    pub doors: Vec<u16>,
    /// Names are asked for at [`NAMES`].
    pub names: bool,
    /// Somebody outside connects to it.
    pub ports: bool,
}

/// What the outer side has done for it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Go {
    /// The container's address and the machine's, which is the gateway.
    pub line: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Somebody else gives it an address and a route, soon: [`wait`].
    pub wait: bool,
}

/// Makes it, and hands out the sockets that are wanted. Gives the socket on which somebody outside asks for more of
/// them, if that is wanted.
pub(in super::super) fn prepare(control: &UnixStream, wanted: &Wanted, go: &Go) -> Result<Option<OwnedFd>> {
    let failed = || "cannot make a network of the container's own".to_string();
    netlink::up(1).or_fail(Class::Engine, failed)?;
    as_docker();
    let mut own = None;
    if let Some((inside, outside)) = go.line {
        let connect = || {
            let index = netlink::index(INSIDE)?;
            // The rules of the machine are for IPv4.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE}/disable_ipv6"), "1");
            netlink::address(index, inside, PREFIX)?;
            netlink::up(index)?;
            netlink::default_route(outside)
        };
        connect().or_fail(Class::Engine, failed)?;
        own = Some(inside.into());
    } else if go.wait {
        own = address();
    }
    if wanted.out {
        for (network, bits) in hidden() {
            let hidden = netlink::unreachable(network, bits);
            // A kernel without IPv6 reaches none of it.
            if network.is_ipv4() {
                hidden.or_fail(Class::Engine, failed)?;
            }
        }
    }
    hand_out(control, wanted, own).or_fail(Class::Engine, failed)
}

/// Waits until somebody has connected this network.
pub(in super::super) fn wait() -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !leads_out() {
        if Instant::now() > end {
            return Err(Error::new(Class::Engine, NO_WAY));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// As Docker sets them: every user may listen on every port, and ping.
fn as_docker() {
    let ids = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    let last = ids.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
        (first + count).checked_sub(1)
    });
    let last = last.max().unwrap_or_default().min(i32::MAX as u64);
    // Where /proc/sys cannot be written, the engine's own settings stay.
    let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", format!("0 {last}"));
}

/// Whether some route of this network leads out of it.
pub(super) fn leads_out() -> bool {
    let four = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let six = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let four = four.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(7) == Some("00000000"));
    // Network, bits, source, bits, gateway, …, interface; the kernel's own dead end is one of `lo`.
    four || six.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1) == Some(&"00") && words.get(3) == Some(&"00") && words.last().is_some_and(|interface| *interface != "lo")
    })
}

/// The address that connections from here have: nothing is sent to find out.
fn address() -> Option<IpAddr> {
    let ask = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // (Documentation's own networks.)
    ask("0.0.0.0:0", "192.0.2.1:9").or_else(|| ask("[::]:0", "[2001:db8::1]:9"))
}

fn hand_out(control: &UnixStream, wanted: &Wanted, own: Option<IpAddr>) -> io::Result<Option<OwnedFd>> {
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for port in &wanted.doors {
        sockets.push(TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?.into());
    }
    if wanted.names {
        let at = SocketAddr::from((NAMES, 53));
        sockets.push(UdpSocket::bind(at)?.into());
        sockets.push(TcpListener::bind(at)?.into());
    }
    let mut asked = None;
    if wanted.ports {
        let (ours, theirs) = UnixStream::pair()?;
        asked = Some(ours.into());
        sockets.push(theirs.into());
    }
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(OwnedFd::as_fd).collect();
    wire::send_with(control, &Reply::Opened(own), &sockets).map(|()| asked)
}

/// Gives whoever asks a socket of this network, which is not connected yet.
pub(in super::super) fn give_sockets(asked: &UnixStream) {
    while let Ok(Some(())) = wire::receive::<()>(asked) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let made = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None);
        let Ok(made) = made else { return };
        if wire::send_with(asked, &(), &[made.as_fd()]).is_err() {
            return;
        }
    }
}

//! Interfaces, addresses and routes, asked of the kernel itself (rtnetlink(7)): a machine may have no `ip`.
//!
//! ```text
//! nlmsghdr   length u32, kind u16, flags u16, sequence u32, port u32
//! a struct   of the kind: ifinfomsg, ifaddrmsg, rtmsg
//! attributes length u16, kind u16, value, zeros up to four bytes; a value may be attributes
//! ```

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// `VETH_INFO_PEER` (Linux, veth.h): the other end, an ifinfomsg with attributes of its own.
const PEER: u16 = 1;
const HEADER: usize = 16;

/// A request that is being written.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: i32) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).unwrap_or_default();
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEADER, 0);
        Request(bytes)
    }

    /// struct ifinfomsg; index 0 is an interface that is made, or one that is named.
    fn interface(mut self, index: u32, up: bool) -> Request {
        let up = u32::from(up);
        self.0.extend([0; 4]);
        self.0.extend(index.to_ne_bytes());
        // The flags, of which IFF_UP is the first bit, and which of them change.
        self.0.extend(up.to_ne_bytes());
        self.0.extend(up.to_ne_bytes());
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn name(self, name: &str) -> Request {
        self.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())
    }

    fn nest(self, kind: u16, inner: impl FnOnce(Request) -> Request) -> Request {
        let value = inner(Request(Vec::new())).0;
        self.attribute(kind, &value)
    }

    /// Sends it to the kernel and waits for what that says.
    fn ask(mut self) -> io::Result<()> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        // No protocol is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        send(&socket, &self.0, SendFlags::empty())?;
        let mut answer = [0_u8; 8192];
        let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        // NLMSG_ERROR, which also says that there is none: the negative number of it comes first.
        let error = answer.get(HEADER..HEADER + 4).filter(|_| length >= HEADER + 4).and_then(|error| error.try_into().ok());
        match error.map_or(-1, i32::from_ne_bytes) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// Makes a pair of interfaces that are each other's ends: `name` here, `peer` in the network of a process.
pub(super) fn pair(name: &str, peer: &str, process: u32, mtu: u32) -> io::Result<()> {
    let mtu = mtu.to_ne_bytes();
    let there = |request: Request| {
        let request = request.interface(0, false).name(peer).attribute(libc::IFLA_MTU, &mtu);
        request.attribute(libc::IFLA_NET_NS_PID, &process.to_ne_bytes())
    };
    let request = Request::new(libc::RTM_NEWLINK, NEW).interface(0, false).name(name).attribute(libc::IFLA_MTU, &mtu);
    let about =
        |request: Request| request.attribute(libc::IFLA_INFO_KIND, b"veth").nest(libc::IFLA_INFO_DATA, |request| request.nest(PEER, there));
    request.nest(libc::IFLA_LINKINFO, about).ask()
}

/// The number of an interface in the network of this thread.
pub(super) fn index(name: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

/// Brings an interface up.
pub(super) fn up(index: u32) -> io::Result<()> {
    Request::new(libc::RTM_NEWLINK, 0).interface(index, true).ask()
}

/// Removes an interface, and its other end.
pub(super) fn remove(index: u32) -> io::Result<()> {
    Request::new(libc::RTM_DELLINK, 0).interface(index, false).ask()
}

/// Gives an interface an address.
pub(super) fn address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWADDR, NEW);
    // struct ifaddrmsg: family, length of the prefix, flags, scope, interface.
    request.0.extend([family(address.into()), prefix, 0, 0]);
    request.0.extend(index.to_ne_bytes());
    request.attribute(libc::IFA_LOCAL, &address.octets()).attribute(libc::IFA_ADDRESS, &address.octets()).ask()
}

/// Sends what no other route takes to a gateway.
pub(super) fn default_route(gateway: Ipv4Addr) -> io::Result<()> {
    route(gateway.into(), 0, libc::RTN_UNICAST).attribute(libc::RTA_GATEWAY, &gateway.octets()).ask()
}

/// Makes addresses unreachable.
pub(super) fn unreachable(network: IpAddr, prefix: u8) -> io::Result<()> {
    let octets = match network {
        IpAddr::V4(network) => network.octets().to_vec(),
        IpAddr::V6(network) => network.octets().to_vec(),
    };
    match route(network, prefix, libc::RTN_UNREACHABLE).attribute(libc::RTA_DST, &octets).ask() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, kind, flags.
fn route(of: IpAddr, prefix: u8, kind: u8) -> Request {
    let mut request = Request::new(libc::RTM_NEWROUTE, NEW);
    request.0.extend([family(of), prefix, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, kind]);
    request.0.extend([0; 4]);
    request
}

fn family(of: IpAddr) -> u8 {
    let family = if of.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}

/// Whether this process may make pairs: one is asked for whose other end would be nobody's. The kernel looks at the
/// rights, and for what makes pairs, before it looks for that process.
pub(super) fn tried() -> io::Result<()> {
    match pair("twostage-tried", "eth0", u32::MAX >> 1, 1500) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        made => made,
    }
}

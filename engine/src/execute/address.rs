//! Where what ADD names by a URL may be: not on this machine's own addresses, nor where a cloud tells its machines their
//! keys. A Dockerfile is a stranger's, and what listens there is for this machine only.

use std::net::{IpAddr, Ipv4Addr};
use twostage_model::address;

/// What a build's URLs may lead to.
#[derive(Debug, Clone)]
pub enum Destinations {
    /// Everything, as a RUN on the machine's network reaches it.
    Everything,
    /// Everything but this machine itself and what only it may ask; of its 127.0.0.1 these ports, as containers do.
    World {
        /// Ports.
        doors: Vec<u16>,
    },
}

impl Default for Destinations {
    fn default() -> Destinations {
        Destinations::World { doors: Vec::new() }
    }
}

impl Destinations {
    /// Why an address is not asked, if it is not.
    pub fn refusal(&self, address: IpAddr, port: u16) -> Option<&'static str> {
        match self {
            Destinations::Everything => None,
            Destinations::World { doors } if address == IpAddr::V4(Ipv4Addr::LOCALHOST) && doors.contains(&port) => None,
            Destinations::World { .. } => own(address),
        }
    }
}

/// What an address is, if it is this machine's own, or one at which only it is answered.
fn own(address: IpAddr) -> Option<&'static str> {
    let address = address::plain(address);
    if address::is_hidden(address) {
        return Some("the machine's link, or its cloud's metadata service");
    }
    let (loopback, link) = match address {
        // 0.0.0.0 is this machine, too.
        IpAddr::V4(four) => (four.is_loopback() || four.octets()[0] == 0, four.is_multicast() || four.is_broadcast()),
        IpAddr::V6(six) => (six.is_loopback() || six.is_unspecified(), six.is_multicast() || six.segments()[0] & 0xffc0 == 0xfe80),
    };
    if loopback {
        Some("this machine itself")
    } else if link {
        Some("the machine's link")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn this_machine_and_its_cloud_are_refused_however_they_are_written() {
        let world = Destinations::World { doors: vec![8080] };
        for refused in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            let address: IpAddr = refused.parse().expect("an address");
            assert!(world.refusal(address, 80).is_some(), "{refused}");
            assert!(Destinations::Everything.refusal(address, 80).is_none(), "{refused}");
        }
        for taken in [
            "192.0.2.1",
            "10.0.0.1",
            "100.100.100.201",
            "168.63.129.17",
            "169.253.255.255",
            "2001:db8::1",
            "fd00:ec2::255",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(world.refusal(taken.parse().expect("an address"), 80), None, "{taken}");
        }
        let here = Ipv4Addr::LOCALHOST.into();
        assert!(world.refusal(here, 8080).is_none() && world.refusal(here, 8081).is_some());
        assert!(world.refusal(Ipv6Addr::LOCALHOST.into(), 8080).is_some());
    }
}

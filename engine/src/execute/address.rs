//! Where what ADD names by a URL may be: not on this machine's own addresses, nor where a cloud tells its machines their
//! keys. A Dockerfile is a stranger's, and what listens there is for this machine only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// The host of a URL of http or https.
#[derive(Debug, PartialEq, Eq)]
pub struct Host<'u> {
    /// Its name or address, without brackets.
    pub name: &'u str,
    pub port: u16,
    /// User and password, with the `@`.
    pub user: &'u str,
}

/// Takes the host out of a URL; none where `curl` might read another one than we do, so that what is checked is what is
/// asked.
pub fn host(url: &str) -> Option<Host<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let usual = match () {
        () if scheme.eq_ignore_ascii_case("http") => 80,
        () if scheme.eq_ignore_ascii_case("https") => 443,
        () => return None,
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let strange = |c: char| c == '\\' || !c.is_ascii_graphic();
    if user.matches('@').count() > 1 || user.contains(strange) {
        return None;
    }
    let (name, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            name.parse::<Ipv6Addr>().ok()?;
            (name, if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => {
            let (name, port) = place.split_once(':').unwrap_or((place, ""));
            let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if name.is_empty() || !name.bytes().all(usual) || name.starts_with(['-', '.']) || name.ends_with('.') {
                return None;
            }
            (name, port)
        }
    };
    let port = match port {
        "" => usual,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some(Host { name, port, user })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_host_of_a_url_is_read_as_curl_reads_it_or_not_at_all() {
        let of = |url| host(url).map(|host| (host.name, host.port, host.user));
        assert_eq!(of("http://h/x"), Some(("h", 80, "")));
        assert_eq!(of("HTTPS://me:a%40b@h.example?x@y"), Some(("h.example", 443, "me:a%40b@")));
        assert_eq!(of("http://[::1]:8080#x"), Some(("::1", 8080, "")));
        assert_eq!(of("http://127.1:/"), Some(("127.1", 80, "")));
        for strange in [
            "ftp://h/",
            "file:///etc/passwd",
            "h/x",
            "http://",
            "http:///x",
            "http://a@b@h/",
            "http://h\\@x/",
            "http://h x/",
            "http://%31/",
            "http://h./",
            "http://-x/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[fe80::1%25eth0]/",
            "http://h:x/",
            "http://h:+80/",
            "http://h:70000/",
            "http://h:80:80/",
            "http://\u{ff11}/",
        ] {
            assert_eq!(of(strange), None, "{strange}");
        }
    }
}

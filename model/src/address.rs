//! Addresses that nothing from outside may lead to, where a cloud tells its machines their keys; and hosts of URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks, as an address and the bits of it that count: what a cloud tells its machines, keys included.
pub fn hidden() -> impl Iterator<Item = (IpAddr, u8)> {
    let four = [([169, 254, 0, 0], 16), ([169, 254, 169, 254], 32), ([168, 63, 129, 16], 32), ([100, 100, 100, 200], 32)];
    let six = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    four.into_iter().map(|(octets, bits)| (Ipv4Addr::from(octets).into(), bits)).chain([(six.into(), 128)])
}

/// Whether an address is in one of the [`hidden`] networks. (One that stands for another: see [`plain`].)
pub fn is_hidden(address: IpAddr) -> bool {
    hidden().any(|(network, bits)| within(address, network, bits))
}

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291), or behind the usual prefix of NAT64 (RFC 6052). Any
/// other address is itself.
pub fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let nat64 = six.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let last = six.octets();
    let four = six.to_ipv4_mapped().or_else(|| nat64.then(|| Ipv4Addr::new(last[12], last[13], last[14], last[15])));
    four.map_or(address, IpAddr::V4)
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let shift = |width: u32| width.saturating_sub(bits.into());
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0,
        _ => false,
    }
}

/// An address that leads nowhere (RFC 6666).
pub const NOWHERE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1));

/// The host of a URL of http or https.
#[derive(Debug, PartialEq, Eq)]
pub struct UrlHost<'u> {
    /// Its name or address, without brackets.
    pub name: &'u str,
    /// As the URL says, or the usual one of its scheme.
    pub port: u16,
    /// User and password, with the `@`.
    pub user: &'u str,
}

/// Takes the host out of a URL; none where `curl` might read another one than we do, so that what is checked is what is
/// asked.
pub fn host(url: &str) -> Option<UrlHost<'_>> {
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
    Some(UrlHost { name, port, user })
}

/// The URL that another one leads to, with the user and password of that, if it is the same server's.
pub fn with_user(from: &str, to: &str) -> String {
    let (Some(before), Some(after)) = (host(from), host(to)) else { return to.to_string() };
    let scheme = |url: &str| url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let same = before.name.eq_ignore_ascii_case(after.name) && before.port == after.port && scheme(from) == scheme(to);
    match to.split_once("://") {
        Some((scheme, rest)) if same && after.user.is_empty() => format!("{scheme}://{}{rest}", before.user),
        _ => to.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_password_goes_to_the_server_that_it_is_for_only() {
        let of = with_user;
        assert_eq!(of("http://me:x@h/a", "http://H:80/b"), "http://me:x@H:80/b");
        assert_eq!(of("http://me:x@h/a", "http://you@h/b"), "http://you@h/b");
        for other in ["https://h/b", "http://h:81/b", "http://i/b", "file:///b"] {
            assert_eq!(of("http://me:x@h/a", other), other);
        }
        assert_eq!(with_user("http://me:x@h/a", "http://H:80/b"), "http://me:x@H:80/b");
        assert_eq!(with_user("http://me:x@h/a", "http://you@h/b?c@d"), "http://you@h/b?c@d");
        assert_eq!(with_user("http://h/a@b", "http://h/b"), "http://h/b");
        for other in ["https://h/b", "http://h:81/b", "http://i/b", "file:///b"] {
            assert_eq!(with_user("http://me:x@h/a", other), other);
        }
    }
}

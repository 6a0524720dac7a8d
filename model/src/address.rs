//! Addresses that nothing from outside may lead to: where a cloud tells its machines their keys.

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

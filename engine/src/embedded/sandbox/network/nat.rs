//! A network for root's containers: a pair of interfaces for each, and rules that give what comes from them the
//! machine's own address.
//!
//! ```text
//! twostage7 (10.209.0.29) ◄──► eth0 (10.209.0.30) in the container
//! ```
//!
//! The name of an interface is its claim on four addresses: the kernel gives it once, and takes it back with the
//! container's network. The rules are the machine's: two chains of our own, each entered from one rule. Whoever uses
//! them holds a lock; the last one removes them, and the next one those of a program that was killed.

use super::netlink;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use twostage_model::address::hidden;

/// What our interfaces are called, before a number.
const NAME: &str = "twostage";
/// What the container's end is called, as Docker calls it.
pub(super) const INSIDE: &str = "eth0";
/// The first two bytes of the addresses of containers: the first pair that no route of this machine has.
const POOLS: [[u8; 2]; 5] = [[10, 209], [172, 30], [10, 131], [172, 27], [10, 77]];
/// Groups of four addresses in a pool.
const SUBNETS: u32 = 1 << 14;
/// The most that an Ethernet frame carries; a tunnel on the way out may take less.
const MTU: u32 = 1500;

/// What of the machine makes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firewall {
    /// `iptables-restore`, of either kind: what Docker uses.
    Iptables,
    /// `nft`, where nothing else filters what is forwarded.
    Nft,
}

/// The machine's rules, for as long as this process may use them.
#[derive(Debug)]
pub(super) struct Nat {
    lock: File,
    firewall: Firewall,
    pool: [u8; 2],
    mtu: u32,
}

/// An address in a container, and the machine's at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub inside: Ipv4Addr,
    pub outside: Ipv4Addr,
}

/// The bits of the networks of [`Line`].
pub(super) const PREFIX: u8 = 30;

/// A route of `/proc/net/route`: interface, network, mask, and the gateway's flag is of no interest.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    network: u32,
    mask: u32,
}

/// The kernel's list of IPv4 routes: words in a line, addresses as the machine has them in memory.
fn routes(table: &str) -> Vec<Route> {
    let number = |word: Option<&&str>| word.and_then(|word| u32::from_str_radix(word, 16).ok()).map(u32::from_be);
    let read = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        Some(Route { interface: words.first()?.to_string(), network: number(words.get(1))?, mask: number(words.get(7))? })
    };
    table.lines().skip(1).filter_map(read).collect()
}

/// The interface that leads out of this machine, if one does.
pub(super) fn uplink() -> Option<String> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes(&table).into_iter().find(|route| route.mask == 0).map(|route| route.interface)
}

/// The first pool that no route overlaps but our own.
fn free(routes: &[Route]) -> Option<[u8; 2]> {
    POOLS.into_iter().find(|[a, b]| {
        let pool = u32::from_be_bytes([*a, *b, 0, 0]);
        let overlaps = |route: &&Route| {
            let common = route.mask & 0xffff_0000;
            route.mask != 0 && !route.interface.starts_with(NAME) && route.network & common == pool & common
        };
        !routes.iter().any(|route| overlaps(&route))
    })
}

impl Nat {
    /// Makes the machine ready, unless it is.
    ///
    /// # Errors
    /// Why it cannot be, in words.
    pub(super) fn open() -> Result<Nat, String> {
        let uplink = uplink().ok_or("this machine has no IPv4 route that leads out of it")?;
        let firewall = match (program("iptables-restore"), program("nft")) {
            (Some(_), _) => Firewall::Iptables,
            (None, Some(_)) => Firewall::Nft,
            (None, None) => return Err("there is neither iptables nor nft".into()),
        };
        let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let network = fs::metadata("/proc/self/ns/net").map_err(told("/proc/self/ns/net"))?.ino();
        let path = format!("/run/twostage-network-{network}");
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = File::options();
        let options = options.create(true).truncate(false).read(true).write(true).mode(0o600).custom_flags(flags);
        let lock = options.open(&path).map_err(|error| format!("{path}: {error}"))?;
        let mtu = fs::read_to_string(format!("/sys/class/net/{uplink}/mtu")).ok().and_then(|mtu| mtu.trim().parse().ok());
        let mut nat = Nat { lock, firewall, pool: POOLS[0], mtu: mtu.unwrap_or(MTU).min(MTU) };
        // The rules are made by whoever is alone, and used by everybody else. Where the last user has removed them
        // meanwhile, somebody is alone again.
        for _ in 0..100 {
            if flock(&nat.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                nat.install()?;
                flock(&nat.lock, FlockOperation::LockShared).map_err(|error| format!("{path}: {error}"))?;
                forward(&uplink);
                return Ok(nat);
            }
            flock(&nat.lock, FlockOperation::LockShared).map_err(|error| format!("{path}: {error}"))?;
            let mut text = Vec::new();
            nat.lock.rewind().and_then(|()| nat.lock.read_to_end(&mut text)).map_err(told("cannot read the lock"))?;
            if let Ok(pool) = <[u8; 2]>::try_from(&text[..])
                && nat.installed()
            {
                nat.pool = pool;
                forward(&uplink);
                return Ok(nat);
            }
            flock(&nat.lock, FlockOperation::Unlock).map_err(|error| format!("{path}: {error}"))?;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Err(format!("{path}: its holders have made no rules"))
    }

    fn install(&mut self) -> Result<(), String> {
        let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
        self.pool = free(&routes(&table)).ok_or("this machine uses all networks that containers could have")?;
        // What a killed program left, if one did.
        let _ = self.change(&without(self.firewall));
        self.change(&with(self.firewall, self.pool))?;
        let keep = self.lock.set_len(0).and_then(|()| self.lock.rewind()).and_then(|()| self.lock.write_all(&self.pool));
        keep.map_err(|error| format!("cannot write the lock: {error}"))
    }

    fn installed(&self) -> bool {
        let mut command = match self.firewall {
            Firewall::Iptables => {
                let mut command = tool("iptables");
                command.args(["-w", "-C", "FORWARD", "-j", "TWOSTAGE-FORWARD"]);
                command
            }
            Firewall::Nft => {
                let mut command = tool("nft");
                command.args(["list", "table", "ip", NAME]);
                command
            }
        };
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Hands a script to whatever makes the rules: all of it happens, or nothing.
    fn change(&self, script: &str) -> Result<(), String> {
        let (name, arguments) = match self.firewall {
            Firewall::Iptables => ("iptables-restore", &["--noflush", "-w"][..]),
            Firewall::Nft => ("nft", &["-f", "-"][..]),
        };
        let failed = |error: io::Error| format!("{name}: {error}");
        let mut command = tool(name);
        let mut child =
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // Whoever reads no more says why.
            let _ = input.write_all(script.as_bytes());
        }
        let ended = child.wait_with_output().map_err(failed)?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(format!("{name}: {}", said.lines().next().unwrap_or("failed").trim()))
    }

    /// Gives the network of a process a line to this machine. The container's end is not up yet.
    pub(super) fn connect(&self, process: u32) -> io::Result<Line> {
        for subnet in 0..SUBNETS {
            let name = format!("{NAME}{subnet}");
            match netlink::pair(&name, INSIDE, process, self.mtu) {
                // Another container's.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    let made = self.bring_up(&name, subnet);
                    if made.is_err() {
                        let _ = netlink::index(&name).and_then(netlink::remove);
                    }
                    return made;
                }
            }
        }
        Err(io::Error::other("all addresses for containers are in use"))
    }

    fn bring_up(&self, name: &str, subnet: u32) -> io::Result<Line> {
        let [a, b] = self.pool;
        let first = u32::from_be_bytes([a, b, 0, 0]) + 4 * subnet;
        let line = Line { outside: Ipv4Addr::from(first + 1), inside: Ipv4Addr::from(first + 2) };
        let set = |path: String, value: &str| fs::write(path, value);
        // No way around the rules, which are for IPv4; and only what comes from the container's address.
        let _ = set(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let _ = set(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "1");
        let _ = set(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"), "1");
        let index = netlink::index(name)?;
        netlink::address(index, line.outside, PREFIX)?;
        netlink::up(index)?;
        Ok(line)
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        // The last one; what cannot be removed now the next one removes.
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = self.change(&without(self.firewall));
        }
    }
}

/// Whether this machine passes on what comes from elsewhere.
pub(super) fn forwards() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

/// Lets the machine pass on what comes back from outside. Where it passes on everything, nothing changes.
fn forward(uplink: &str) {
    if !forwards() {
        let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{uplink}/forwarding"), "1");
    }
}

/// The rules. Containers do not reach each other, nor what a cloud tells its machines; what they did not ask for does
/// not reach them.
fn with(firewall: Firewall, [a, b]: [u8; 2]) -> String {
    let pool = format!("{a}.{b}.0.0/16");
    let hidden: Vec<String> =
        hidden().filter(|(network, _)| network.is_ipv4()).map(|(network, bits)| format!("{network}/{bits}")).collect();
    match firewall {
        Firewall::Iptables => {
            let hidden: String = hidden.iter().map(|network| format!("-A TWOSTAGE-FORWARD -i {NAME}+ -d {network} -j REJECT\n")).collect();
            format!(
                "*filter\n:TWOSTAGE-FORWARD - [0:0]\n\
                 -A TWOSTAGE-FORWARD -i {NAME}+ -o {NAME}+ -j DROP\n{hidden}\
                 -A TWOSTAGE-FORWARD -i {NAME}+ -s {pool} -j ACCEPT\n\
                 -A TWOSTAGE-FORWARD -i {NAME}+ -j DROP\n\
                 -A TWOSTAGE-FORWARD -o {NAME}+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A TWOSTAGE-FORWARD -o {NAME}+ -j DROP\n\
                 -I FORWARD -j TWOSTAGE-FORWARD\nCOMMIT\n\
                 *nat\n:TWOSTAGE-NAT - [0:0]\n\
                 -A TWOSTAGE-NAT -s {pool} ! -o {NAME}+ -j MASQUERADE\n\
                 -I POSTROUTING -j TWOSTAGE-NAT\nCOMMIT\n"
            )
        }
        Firewall::Nft => format!(
            "table ip {NAME} {{\n\
             chain forward {{ type filter hook forward priority -10; policy accept;\n\
             iifname \"{NAME}*\" oifname \"{NAME}*\" drop\n\
             iifname \"{NAME}*\" ip daddr {{ {} }} reject\n\
             iifname \"{NAME}*\" ip saddr != {pool} drop\n\
             oifname \"{NAME}*\" ct state != {{ established, related }} drop\n}}\n\
             chain postrouting {{ type nat hook postrouting priority 100; policy accept;\n\
             ip saddr {pool} oifname != \"{NAME}*\" masquerade\n}}\n}}\n",
            hidden.join(", ")
        ),
    }
}

/// What takes the rules away again; an error where there are none.
fn without(firewall: Firewall) -> String {
    match firewall {
        Firewall::Iptables => "*filter\n-D FORWARD -j TWOSTAGE-FORWARD\n-F TWOSTAGE-FORWARD\n-X TWOSTAGE-FORWARD\nCOMMIT\n\
             *nat\n-D POSTROUTING -j TWOSTAGE-NAT\n-F TWOSTAGE-NAT\n-X TWOSTAGE-NAT\nCOMMIT\n"
            .into(),
        Firewall::Nft => format!("delete table ip {NAME}\n"),
    }
}

/// Where a program of the machine's administrator is.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from)).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(program(name).unwrap_or_else(|| Path::new("/usr/sbin").join(name)));
    command.env_clear().stdin(Stdio::null()).current_dir("/");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        tun0\t0000D10A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        twostage3\t0C001EAC\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn containers_get_addresses_that_no_route_of_the_machine_has() {
        let routes = routes(TABLE);
        assert_eq!(routes[1], Route { interface: "tun0".into(), network: 0x0ad1_0000, mask: 0xffff_0000 });
        assert_eq!(free(&routes), Some([172, 30]), "10.209 is the tunnel's, and 172.30 only ours");
        assert_eq!(free(&[]), Some([10, 209]));
        let all = |network: u32, mask| Route { interface: "vpn".into(), network, mask };
        assert_eq!(free(&[all(0x0a00_0000, 0xff00_0000), all(0xac10_0000, 0xfff0_0000)]), None, "a network that has them all");
        assert_eq!(free(&[all(0x0ad1_0701, 0xffff_ffff)]), Some([172, 30]), "one address is enough");
    }
}

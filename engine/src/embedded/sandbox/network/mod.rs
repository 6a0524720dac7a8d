//! The network of a container: its own, with a way out, names, and doors.
//!
//! ```text
//! mod.rs      which way out this machine has, and what takes it for one container
//! nat.rs      as root: a pair of interfaces, netlink.rs, and rules of the firewall
//! helper.rs   else: pasta or slirp4netns, ended with us
//! within.rs   the inner side: interfaces, routes, sysctls, and the sockets that it hands out
//! serve.rs    the outer side: what answers on those sockets
//! inward.rs   connections to what listens inside
//! ```
//!
//! A door is a port of this machine's 127.0.0.1 that containers reach at the same address. The socket that listens is
//! made inside, in the container's network, and handed to this program, which accepts on it: no address of the machine
//! is reached, and nothing else than that port. Names are asked for in the same way, so that name servers at 127.0.0.53
//! answer, too.

mod helper;
mod inward;
mod nat;
mod netlink;
mod serve;
mod within;

pub(super) use helper::{KEEPER, keep};
pub use inward::Inward;
pub(super) use serve::{LAST_WORDS, Opened, end_of, serve};
pub(super) use within::{Go, Wanted, give_sockets, prepare, wait};

use helper::{Helper, Helping};
use nat::Nat;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// What a machine without a way out of a network of one's own costs.
const SHARED: &str = "containers share this machine's network: what listens on its 127.0.0.1 is reached in them, and they cannot listen on \
    ports below 1024; `apt-get install passt` mends it";
/// Where a container's names are asked for: Docker's place.
pub(super) const NAMES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// How containers get out.
#[derive(Debug, Clone)]
enum Way {
    Nat(Arc<Nat>),
    Helper(Helper),
    /// There is nothing outside.
    Nowhere,
    /// Not at all, unless they share the machine's network.
    Shared,
}

/// The way out, found when it is first asked for, and kept as long as somebody has this.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways(Arc<Mutex<Option<(Way, String)>>>);

impl Ways {
    /// Whether containers can have a network of their own.
    pub(super) fn own(&self) -> bool {
        !matches!(self.way().0, Way::Shared)
    }

    /// What it is, in a sentence.
    pub(super) fn told(&self) -> String {
        self.way().1
    }

    /// What is lost here, if something is.
    pub(super) fn cost(&self) -> Option<&'static str> {
        (!self.own()).then_some(SHARED)
    }

    fn way(&self) -> (Way, String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(find).clone()
    }

    /// Connects the network of a process; `program` is this one.
    pub(super) fn connect(&self, process: u32, program: &Path) -> Result<(Go, Connected)> {
        let failed = || "cannot connect the network of a container".to_string();
        match self.way().0 {
            Way::Nat(nat) => {
                let line = nat.connect(process).or_fail(Class::Engine, failed)?;
                Ok((Go { line: Some((line.inside, line.outside)), wait: false }, Connected::default()))
            }
            Way::Helper(helper) => {
                let mut helping = helper.start(program, process).or_fail(Class::Engine, failed)?;
                let ready = helping.is_ready(within::PATIENCE);
                let connected = Connected(Some(helping));
                if !ready {
                    return Err(connected.explain(Error::new(Class::Engine, within::NO_WAY)));
                }
                Ok((Go { line: None, wait: true }, connected))
            }
            Way::Nowhere | Way::Shared => Ok((Go::default(), Connected::default())),
        }
    }
}

/// What runs for one container's network.
#[derive(Default)]
pub(super) struct Connected(Option<Helping>);

impl Connected {
    /// The error of a container, with what whoever connected its network said.
    pub(super) fn explain(self, error: Error) -> Error {
        match self.0 {
            Some(helping) if error.what() == within::NO_WAY => {
                let said = helping.end();
                Error::new(error.class(), error.what()).because(said).hint(
                    "`twostage doctor` tells how containers get a network here; `--network none`, or `host`, where that is offered, needs no such program",
                )
            }
            _ => error,
        }
    }
}

/// Root changes the machine's firewall where that passes on packets already, and else only if nobody else does it.
fn find() -> (Way, String) {
    let root = rustix::process::geteuid().is_root();
    let helper = Helper::find();
    let by_helper = |helper: Helper| {
        let told = format!("one for each container, connected by {} as this user", helper.name);
        (Way::Helper(helper), told)
    };
    if !within::leads_out() {
        return (Way::Nowhere, "one for each container; there is nothing outside: this machine has no route that leads out of it".into());
    }
    let mut why = "only root may connect them".to_string();
    if root {
        let passed_on = nat::forwards();
        match helper {
            Some(helper) if !passed_on => return by_helper(helper),
            _ => {}
        }
        match Nat::open().and_then(|nat| nat.tried().map(|()| nat)) {
            Ok(nat) => {
                let more =
                    if passed_on { "" } else { "; for that, this machine passes on what comes from its own interfaces (forwarding)" };
                return (Way::Nat(Arc::new(nat)), format!("one for each container, by a pair of interfaces and NAT{more}"));
            }
            Err(reason) => why = reason,
        }
    }
    match helper {
        Some(helper) => by_helper(helper),
        None => (Way::Shared, format!("this machine's: there is neither pasta nor slirp4netns, and {why}")),
    }
}

fn refused(what: &str, error: io::Error) -> String {
    format!("{what}: {error}")
}

impl Nat {
    /// Whether interfaces can be made.
    fn tried(&self) -> std::result::Result<(), String> {
        netlink::tried().map_err(|error| refused("no interface can be made", error))
    }
}

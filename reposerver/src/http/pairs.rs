//! A file and its detached signature, which a client fetches one after the other.
//!
//! ```text
//! GET /main/repodata/repomd.xml       the state of before
//!                                     a publish
//! GET /main/repodata/repomd.xml.asc   the signature of the state of now, which fits no more
//! ```
//!
//! dnf fetches the file first, zypper the signature, and both take the second for a forgery. apt has one signed file,
//! `InRelease`, and needs none of this. So whoever was given one of the two gets the other one of the same state, once and
//! soon. The client is known by its connection. dnf has a new one for each file, so a signature is also found by address and
//! program: of several that wait there, the one that waits for longest. One that nobody came for soon is passed over: dnf
//! looks at some files only to see whether they are new. A file is not found by the program, because an address may be that
//! of many, and who asks for the file is to see what is new.

use super::hot::Found;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a client may take from one to the other.
const LONG: Duration = Duration::from_secs(20);
/// How long a client usually takes, at most: who fetched a file longer ago did not want its signature.
const SOON: Duration = Duration::from_secs(2);
/// Programs that are remembered, at most; and signatures that may wait for one, and programs of one connection.
const MOST: usize = 4096;
const MOST_WAITING: usize = 16;
/// Bytes of what a program calls itself that tell it apart.
const MOST_AGENT: usize = 128;

/// How targets of files with a detached signature end, and what that of the signature has more.
const ENDINGS: [(&str, &str); 2] = [("/repodata/repomd.xml", ".asc"), ("/Release", ".gpg")];

/// What goes with a target: the signature of a file, the file of a signature.
pub(crate) fn other(target: &str) -> Option<String> {
    ENDINGS.iter().find_map(|(file, more)| match target.strip_suffix(more) {
        Some(signed) if signed.ends_with(file) => Some(signed.to_string()),
        _ => target.ends_with(file).then(|| format!("{target}{more}")),
    })
}

fn is_signature(target: &str) -> bool {
    ENDINGS.iter().any(|(_, more)| target.ends_with(more))
}

/// What the programs of one connection may ask for next: behind a proxy it is the connection of many. It ends with the
/// connection, whose address is another client's soon after.
#[derive(Default)]
pub(crate) struct OfConnection(Mutex<HashMap<Box<[u8]>, Next>>);

/// Who asks: on a connection, from an address, and what the program there calls itself.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) connection: &'a OfConnection,
    pub(crate) address: IpAddr,
    pub(crate) agent: &'a [u8],
}

impl Asker<'_> {
    fn agent(&self) -> Box<[u8]> {
        self.agent.get(..MOST_AGENT).unwrap_or(self.agent).into()
    }

    fn may_ask(&self, next: Next) {
        let mut here = crate::lock(&self.connection.0);
        if here.len() >= MOST_WAITING {
            here.clear();
        }
        here.insert(self.agent(), next);
    }
}

/// A program elsewhere: its address, and what it calls itself.
type ClientProgram = (IpAddr, Box<[u8]>);

/// The signatures that programs may ask for next, the earliest first.
#[derive(Default)]
pub(crate) struct Pairs(Mutex<HashMap<ClientProgram, VecDeque<Next>>>);

#[derive(Clone)]
struct Next {
    since: Instant,
    target: Box<str>,
    found: Arc<Found>,
    /// What the client was given.
    given: Arc<Found>,
}

impl Pairs {
    /// A client is given what is at `target`.
    pub(crate) fn gave(&self, asker: Asker<'_>, target: &str, given: &Arc<Found>, now: Instant) {
        let Some((found, target)) = given.other.as_ref().zip(other(target)) else { return };
        let next = Next { since: now, target: target.into(), found: Arc::clone(found), given: Arc::clone(given) };
        if is_signature(&next.target) {
            let mut all = crate::lock(&self.0);
            if all.len() >= MOST {
                all.retain(|_, waiting| waiting.back().is_some_and(|next| now.saturating_duration_since(next.since) < LONG));
            }
            if all.len() >= MOST {
                all.clear();
            }
            let waiting = all.entry((asker.address, asker.agent())).or_default();
            while waiting.len() >= MOST_WAITING {
                waiting.pop_front();
            }
            waiting.push_back(next.clone());
        }
        asker.may_ask(next);
    }

    /// What goes with that which a client was given, if that is what it asks for.
    pub(crate) fn next(&self, asker: Asker<'_>, target: &str, now: Instant) -> Option<Arc<Found>> {
        let other = other(target)?;
        let is_it = |next: &Next| *next.target == *target && now.saturating_duration_since(next.since) < LONG;
        let here = crate::lock(&asker.connection.0).remove(&asker.agent()).filter(is_it);
        if !is_signature(target) {
            return here.map(|next| next.found);
        }
        let there = self.take_waiting((asker.address, asker.agent()), here.as_ref(), is_it, now);
        if here.is_some() {
            return here.map(|next| next.found);
        }
        // It may have been another one's there: the file that follows on this connection is of that state, too.
        let Next { found, given, .. } = there?;
        asker.may_ask(Next { since: now, target: other.into(), found: given, given: Arc::clone(&found) });
        Some(found)
    }

    /// Takes a signature out of those that wait for a program: that of what its connection was given, else the earliest.
    fn take_waiting(&self, program: ClientProgram, here: Option<&Next>, is_it: impl Fn(&Next) -> bool, now: Instant) -> Option<Next> {
        let mut all = crate::lock(&self.0);
        let waiting = all.get_mut(&program)?;
        waiting.retain(is_it);
        let taken = match here {
            Some(here) => {
                let at = waiting.iter().position(|next| Arc::ptr_eq(&next.given, &here.given));
                at.and_then(|at| waiting.remove(at))
            }
            None => {
                // Nobody comes any more for those before it.
                let soon = waiting.iter().position(|next| now.saturating_duration_since(next.since) < SOON);
                soon.or(waiting.len().checked_sub(1)).and_then(|at| waiting.drain(..=at).next_back())
            }
        };
        if waiting.is_empty() {
            all.remove(&program);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_signature_go_together() {
        assert_eq!(other("/main/repodata/repomd.xml").as_deref(), Some("/main/repodata/repomd.xml.asc"));
        assert_eq!(other("/main/repodata/repomd.xml.asc").as_deref(), Some("/main/repodata/repomd.xml"));
        assert_eq!(other("/main/dists/twostage/Release.gpg").as_deref(), Some("/main/dists/twostage/Release"));
        for alone in ["/main/dists/twostage/InRelease", "/key.asc", "/main/repodata/repomd.xml.key", "/x.gpg", ""] {
            assert_eq!(other(alone), None, "{alone}");
        }
    }
}

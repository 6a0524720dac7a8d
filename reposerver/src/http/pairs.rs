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
//! soon. The client is known by its connection. dnf has a new one for each file, so a signature is also found by the
//! address; a file is not, because an address may be that of many, and who asks for the file is to see what is new.

use super::hot::Found;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a client may take from one to the other.
const LONG: Duration = Duration::from_secs(20);
/// Clients that are remembered, at most.
const MOST: usize = 4096;

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

/// What clients may ask for next.
#[derive(Default)]
pub(crate) struct Pairs(Mutex<HashMap<(IpAddr, Option<u16>), Next>>);

#[derive(Clone)]
struct Next {
    since: Instant,
    target: Box<str>,
    found: Arc<Found>,
    /// What the client was given.
    given: Arc<Found>,
    /// How many of that address were given it, and did not ask for this yet.
    left: u32,
}

impl Pairs {
    /// A client is given what is at `target`.
    pub(crate) fn gave(&self, peer: SocketAddr, target: &str, given: &Arc<Found>, now: Instant) {
        let Some((found, target)) = given.other.as_ref().zip(other(target)) else { return };
        let next = Next { since: now, target: target.into(), found: Arc::clone(found), given: Arc::clone(given), left: 1 };
        let mut all = crate::lock(&self.0);
        if all.len() >= MOST {
            all.retain(|_, next| now.saturating_duration_since(next.since) < LONG);
        }
        if all.len() >= MOST {
            all.clear();
        }
        if is_signature(&next.target) {
            let of_address = all.entry((peer.ip(), None)).or_insert_with(|| Next { left: 0, ..next.clone() });
            let same = Arc::ptr_eq(&of_address.given, given);
            *of_address = Next { left: if same { of_address.left.saturating_add(1) } else { 1 }, ..next.clone() };
        }
        all.insert((peer.ip(), Some(peer.port())), next);
    }

    /// What goes with that which a client was given, if that is what it asks for.
    pub(crate) fn next(&self, peer: SocketAddr, target: &str, now: Instant) -> Option<Arc<Found>> {
        let other = other(target)?;
        let mut all = crate::lock(&self.0);
        let connection = (peer.ip(), Some(peer.port()));
        let is_it = |next: &Next| *next.target == *target && now.saturating_duration_since(next.since) < LONG;
        if let Some(next) = all.remove(&connection).filter(is_it) {
            if let Some(of_address) = all.get_mut(&(peer.ip(), None)).filter(|of_address| Arc::ptr_eq(&of_address.given, &next.given)) {
                of_address.left = of_address.left.saturating_sub(1);
            }
            return Some(next.found);
        }
        let next = all.get_mut(&(peer.ip(), None)).filter(|next| is_signature(target) && next.left > 0 && is_it(next))?;
        next.left -= 1;
        // It may have been somebody else's at that address: the file that follows on this connection is of that state, too.
        let (found, given) = (Arc::clone(&next.found), Arc::clone(&next.given));
        let next = Next { since: now, target: other.into(), found: given, given: Arc::clone(&found), left: 1 };
        all.insert(connection, next);
        Some(found)
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

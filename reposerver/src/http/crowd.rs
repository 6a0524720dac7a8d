//! Who is connected, and who has to leave or wait where there are too many.
//!
//! A connection is *idle* until the head of a request is there, and again when its response is on its way; what is
//! idle can be closed, and a good client just connects again. So nobody who only holds connections keeps others out:
//! where all places are taken, the address with the most connections loses the one that is idle for the longest time.
//! One address is served on half of the places at most; its other connections wait, and are the first to leave.

use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What clients may take of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. Where all of them are being answered, more wait to be accepted.
    pub connections: usize,
    /// Connections on which one address (of IPv6: one network of 64 bits) is answered at once.
    pub for_one: usize,
    /// How long a client may take to send the head of a request, or keep an idle connection.
    pub head: Duration,
    /// How long a client may take nothing of its response.
    pub stall: Duration,
    /// Bytes of its response that a client has to take a second, on an average of [`Limits::stall`].
    pub rate: u64,
}

impl Default for Limits {
    /// For 1,024 connections, or as many as this process may have files open for.
    fn default() -> Self {
        /// Files that are open for something else.
        const OTHERS: u64 = 64;
        // A connection has one file open for itself, and one that it sends.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX).clamp(16, 1024);
        Limits { connections, for_one: connections / 2, head: Duration::from_secs(30), stall: Duration::from_secs(60), rate: 1024 }
    }
}

/// All connections of a server.
pub(crate) struct Crowd {
    limits: Limits,
    table: Mutex<Table>,
    /// Said when somebody left, or became idle.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// Those who are not about to leave.
    present: usize,
    /// No more come, and who becomes idle has to leave.
    closing: bool,
    members: HashMap<u64, Member>,
    origins: HashMap<IpAddr, Count>,
}

/// Connections of one origin.
#[derive(Default, Clone, Copy)]
struct Count {
    waiting: usize,
    served: usize,
}

struct Member {
    origin: IpAddr,
    standing: Standing,
    since: Instant,
    /// Said when its standing was changed by somebody else.
    told: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// For a place, until another connection of its origin leaves.
    Waiting,
    Idle,
    Busy,
    /// It is asked to, and counts no more.
    Leaving,
}

impl Crowd {
    pub(crate) fn new(limits: Limits) -> Arc<Crowd> {
        Arc::new(Crowd { limits, table: Mutex::default(), changed: Notify::new() })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Asks all to leave, who is being answered as soon as that is done, and waits until they have.
    pub(crate) async fn close(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let mut table = crate::lock(&self.table);
                table.closing = true;
                let idle: Vec<u64> = table.members.iter().filter(|(_, member)| member.can_leave()).map(|(id, _)| *id).collect();
                idle.into_iter().for_each(|id| table.ask_to_leave(id));
                if table.members.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Waits until one more can come: a place is free, or somebody can be asked to leave.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let table = crate::lock(&self.table);
                if table.present < self.limits.connections || table.members.values().any(Member::can_leave) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// One more. It has a place once [`Place::turn`] says so.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let origin = origin(address);
        let told = Arc::new(Notify::new());
        let mut table = crate::lock(&self.table);
        if table.present >= self.limits.connections {
            table.make_room();
        }
        let served = |table: &Table| table.origins.get(&origin).map_or(0, |count| count.served);
        if served(&table) >= self.limits.for_one {
            table.longest_idle(origin).into_iter().for_each(|id| table.ask_to_leave(id));
        }
        let standing = if served(&table) < self.limits.for_one { Standing::Idle } else { Standing::Waiting };
        let id = table.next;
        table.next += 1;
        table.count(origin, standing, 1);
        table.members.insert(id, Member { origin, standing, since: Instant::now(), told: Arc::clone(&told) });
        Place { crowd: Arc::clone(self), id, told }
    }
}

impl Member {
    fn can_leave(&self) -> bool {
        matches!(self.standing, Standing::Waiting | Standing::Idle)
    }
}

impl Table {
    /// Asks one to leave: of the origin with the most connections who has one to spare, one that waits, else the one that
    /// is idle for the longest time.
    fn make_room(&mut self) {
        let spare = self.members.iter().filter(|(_, member)| member.can_leave());
        let victim = spare.min_by_key(|(id, member)| {
            let all = self.origins.get(&member.origin).map_or(0, |count| count.waiting + count.served);
            (std::cmp::Reverse(all), member.standing != Standing::Waiting, member.since, **id)
        });
        if let Some(id) = victim.map(|(id, _)| *id) {
            self.ask_to_leave(id);
        }
    }

    fn longest_idle(&self, origin: IpAddr) -> Option<u64> {
        let idle = self.members.iter().filter(|(_, member)| member.origin == origin && member.standing == Standing::Idle);
        idle.min_by_key(|(id, member)| (member.since, **id)).map(|(id, _)| *id)
    }

    fn ask_to_leave(&mut self, id: u64) {
        self.stand(id, Standing::Leaving).into_iter().for_each(|told| told.notify_one());
    }

    /// Changes the standing of one who is there and not leaving.
    fn stand(&mut self, id: u64, standing: Standing) -> Option<Arc<Notify>> {
        let member = self.members.get_mut(&id).filter(|member| member.standing != Standing::Leaving)?;
        let (origin, before) = (member.origin, std::mem::replace(&mut member.standing, standing));
        member.since = Instant::now();
        let told = Arc::clone(&member.told);
        self.count(origin, before, -1);
        self.count(origin, standing, 1);
        Some(told)
    }

    fn count(&mut self, origin: IpAddr, standing: Standing, change: isize) {
        let count = self.origins.entry(origin).or_default();
        match standing {
            Standing::Waiting => count.waiting = count.waiting.saturating_add_signed(change),
            Standing::Idle | Standing::Busy => count.served = count.served.saturating_add_signed(change),
            Standing::Leaving => return,
        }
        self.present = self.present.saturating_add_signed(change);
        if count.waiting + count.served == 0 {
            self.origins.remove(&origin);
        }
    }

    /// Gives the places that are free to those who wait for the longest time. `idle` is one that can be had, too.
    fn next_turn(&mut self, origin: IpAddr, limits: &Limits, idle: Option<u64>) {
        let count = self.origins.get(&origin).copied().unwrap_or_default();
        if count.waiting == 0 {
            return;
        }
        if count.served >= limits.for_one {
            match idle {
                Some(id) => self.ask_to_leave(id),
                None => return,
            }
        }
        let waiting = self.members.iter().filter(|(_, member)| member.origin == origin && member.standing == Standing::Waiting);
        if let Some(id) = waiting.min_by_key(|(id, member)| (member.since, **id)).map(|(id, _)| *id) {
            self.stand(id, Standing::Idle).into_iter().for_each(|told| told.notify_one());
        }
    }
}

/// One connection among all. Dropping it makes place for another.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    told: Arc<Notify>,
}

impl Place {
    fn standing(&self) -> Standing {
        crate::lock(&self.crowd.table).members.get(&self.id).map_or(Standing::Leaving, |member| member.standing)
    }

    /// Waits for its turn. False: it has to leave.
    pub(crate) async fn turn(&self) -> bool {
        loop {
            match self.standing() {
                Standing::Waiting => self.told.notified().await,
                Standing::Leaving => return false,
                Standing::Idle | Standing::Busy => return true,
            }
        }
    }

    /// Waits until it has to leave, for others.
    pub(crate) async fn has_to_leave(&self) {
        while self.standing() != Standing::Leaving {
            self.told.notified().await;
        }
    }

    /// A request is being answered: until [`Place::idle`], nobody asks it to leave.
    pub(crate) fn busy(&self) {
        crate::lock(&self.crowd.table).stand(self.id, Standing::Busy);
    }

    /// Its response is on its way.
    pub(crate) fn idle(&self) {
        {
            let mut table = crate::lock(&self.crowd.table);
            table.stand(self.id, Standing::Idle);
            if table.closing {
                table.ask_to_leave(self.id);
            }
            if let Some(origin) = table.members.get(&self.id).map(|member| member.origin) {
                table.next_turn(origin, &self.crowd.limits, Some(self.id));
            }
        }
        self.crowd.changed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut table = crate::lock(&self.crowd.table);
            if let Some(member) = table.members.remove(&self.id) {
                table.count(member.origin, member.standing, -1);
                table.next_turn(member.origin, &self.crowd.limits, None);
            }
        }
        self.crowd.changed.notify_waiters();
    }
}

/// Whom connections are counted for: of IPv6 a network of 64 bits, because whoever has one address of it has all.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn crowd(connections: usize, for_one: usize) -> Arc<Crowd> {
        Crowd::new(Limits { connections, for_one, ..Limits::default() })
    }

    fn standings(places: &[Place]) -> Vec<Standing> {
        places.iter().map(Place::standing).collect()
    }

    #[test]
    fn the_one_who_is_idle_for_the_longest_time_leaves_for_the_next() {
        use Standing::{Busy, Idle, Leaving};
        let crowd = crowd(4, 4);
        let held: Vec<Place> = (0..4).map(|_| crowd.enter(A)).collect();
        held[0].busy();
        let other = crowd.enter(B);
        assert_eq!(standings(&held), [Busy, Leaving, Idle, Idle]);
        // A has three, B one; and of A the next who came.
        let another = crowd.enter(A);
        assert_eq!((standings(&held), other.standing(), another.standing()), (vec![Busy, Leaving, Leaving, Idle], Idle, Idle));
        held[0].idle();
        drop(other);
        let (b, c) = (crowd.enter(B), crowd.enter(B));
        assert_eq!((standings(&held), b.standing(), c.standing()), (vec![Idle, Leaving, Leaving, Leaving], Idle, Idle));
        assert_eq!(crate::lock(&crowd.table).present, 4);
        drop((held, another, b, c));
        assert!(crate::lock(&crowd.table).origins.is_empty() && crate::lock(&crowd.table).members.is_empty());
    }

    #[test]
    fn one_address_waits_for_itself_and_others_do_not() {
        use Standing::{Busy, Idle, Leaving, Waiting};
        let crowd = crowd(8, 2);
        let held: Vec<Place> = (0..2).map(|_| crowd.enter(A)).collect();
        held.iter().for_each(Place::busy);
        let waiting: Vec<Place> = (0..6).map(|_| crowd.enter(A)).collect();
        assert!(waiting.iter().all(|place| place.standing() == Waiting));
        // Full: the first that waits leaves for somebody else.
        let other = crowd.enter(B);
        assert_eq!((other.standing(), standings(&waiting)), (Idle, vec![Leaving, Waiting, Waiting, Waiting, Waiting, Waiting]));
        // Who has been answered makes place for one that waits.
        held[0].idle();
        assert_eq!((standings(&held), standings(&waiting)[..3].to_vec()), (vec![Leaving, Busy], vec![Leaving, Idle, Waiting]));
        waiting[1].busy();
        drop(held);
        assert_eq!(standings(&waiting), [Leaving, Busy, Idle, Waiting, Waiting, Waiting]);
        // Idle for a moment only, but the newcomer is of the same address.
        let newest = crowd.enter(A);
        assert_eq!((standings(&waiting)[2], newest.standing()), (Leaving, Idle));
    }

    #[test]
    fn a_full_house_of_busy_ones_has_room_when_one_is_idle() -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let crowd = crowd(2, 1);
            let (a, b) = (crowd.enter(A), crowd.enter(B));
            a.busy();
            b.busy();
            let waits = tokio::time::timeout(Duration::from_millis(20), crowd.room()).await;
            assert!(waits.is_err());
            let room = tokio::spawn({
                let crowd = Arc::clone(&crowd);
                async move { crowd.room().await }
            });
            tokio::task::yield_now().await;
            a.idle();
            room.await.map_err(std::io::Error::other)?;
            assert!(a.turn().await);
            let c = crowd.enter(B);
            assert!(!a.turn().await && c.standing() == Standing::Waiting);
            a.has_to_leave().await;
            Ok(())
        })
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_that_of_ipv4() {
        let parse = |text: &str| text.parse().map(origin);
        assert_eq!(parse("2001:db8::1:2:3:4"), parse("2001:db8::ffff"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), Ok(A));
    }
}

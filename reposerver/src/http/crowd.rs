//! Who is connected, and who has to leave or wait where there are too many.
//!
//! A connection is *idle* until the head of a request is there, and again when its response is on its way; what is
//! idle can be closed, and a good client just connects again. So nobody who only holds connections keeps others out:
//! where there is no room, the address with the most connections loses those that are idle for the longest time.
//! Requests of one address are answered on half of the places at most; its other requests wait, and their connections
//! are the first to leave.
//!
//! A request changes two atomic numbers and takes no lock. The lock is for those who come, leave or are asked to.

use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

/// What clients may take of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. Where all of them are being answered, more wait to be accepted.
    pub connections: usize,
    /// Requests of one address (of IPv6: one network of 64 bits) that are answered at once.
    pub for_one: usize,
    /// How long a client may take to send the head of a request, or keep an idle connection.
    pub head: Duration,
    /// How long a client may take nothing of its response.
    pub stall: Duration,
    /// Bytes of its response that a client has to take a second, on an average of [`Limits::stall`].
    pub rate: u64,
}

impl Default for Limits {
    /// For 16,384 connections, or as many as this process may have files open for.
    fn default() -> Self {
        /// Files that are open for something else.
        const OTHERS: u64 = 64;
        // A connection has one file open for itself, and one of five has another that it sends.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files.saturating_sub(OTHERS) / 5).unwrap_or(usize::MAX).saturating_mul(4).clamp(16, 16 << 10);
        Limits { connections, for_one: connections / 2, head: Duration::from_secs(30), stall: Duration::from_secs(60), rate: 1024 }
    }
}

/// How many of all connections are asked to leave at once where there is no room, as a divisor: to look for them takes
/// longer the more there are.
const OF_ALL: usize = 256;

/// All connections of a server.
pub(crate) struct Crowd {
    limits: Limits,
    start: Instant,
    table: Mutex<Table>,
    /// Somebody waits for room, or no more come: who becomes idle has to say so.
    told_of_idle: AtomicBool,
    closing: AtomicBool,
    /// Said when somebody left, or became idle.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// Those who are not about to leave.
    present: usize,
    members: HashMap<u64, Arc<Member>>,
    origins: HashMap<IpAddr, Arc<Origin>>,
}

/// Connections of one origin.
struct Origin {
    address: IpAddr,
    /// Those who are not about to leave.
    present: AtomicUsize,
    /// Requests that can be answered now.
    turns: Semaphore,
}

struct Member {
    origin: Arc<Origin>,
    standing: AtomicU8,
    /// Microseconds since the crowd's start.
    since: AtomicU64,
    /// Said when it has to leave, where it does not look at its stream.
    told: Notify,
    stream: Option<Arc<TcpStream>>,
}

/// What a connection does, as [`Member::standing`] has it.
mod standing {
    /// For its origin's turn, with a request.
    pub(super) const WAITING: u8 = 0;
    pub(super) const IDLE: u8 = 1;
    pub(super) const BUSY: u8 = 2;
    /// It is asked to leave, and counts no more.
    pub(super) const LEAVING: u8 = 3;
}
use standing::{BUSY, IDLE, LEAVING, WAITING};

impl Crowd {
    pub(crate) fn new(limits: Limits) -> Arc<Crowd> {
        Arc::new(Crowd {
            limits,
            start: Instant::now(),
            table: Mutex::default(),
            told_of_idle: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// Asks all to leave, who is being answered as soon as that is done, and waits until they have.
    pub(crate) async fn close(&self) {
        self.closing.store(true, SeqCst);
        self.told_of_idle.store(true, SeqCst);
        loop {
            let changed = self.changed.notified();
            {
                let mut table = crate::lock(&self.table);
                table.ask_all(|_| true);
                if table.members.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Asks those to leave who are idle for too long; again and again.
    pub(crate) async fn watch(&self) {
        let pause = (self.limits.head / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            tokio::time::sleep(pause).await;
            let before = self.now().saturating_sub(u64::try_from(self.limits.head.as_micros()).unwrap_or(u64::MAX));
            crate::lock(&self.table).ask_all(|member| member.standing.load(SeqCst) == IDLE && member.since.load(SeqCst) < before);
        }
    }

    /// Waits until one more can come: there is room, or somebody can be asked to leave.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let table = crate::lock(&self.table);
                if table.present < self.limits.connections {
                    return;
                }
                // Before the look at who is idle: who becomes idle after it sees this.
                self.told_of_idle.store(true, SeqCst);
                if table.members.values().any(|member| member.can_leave()) {
                    self.told_of_idle.store(self.closing.load(SeqCst), SeqCst);
                    return;
                }
            }
            changed.await;
        }
    }

    /// Asks somebody to leave because there is no room for something else, such as another open file.
    pub(crate) fn make_room(&self) {
        crate::lock(&self.table).make_room(&self.limits);
    }

    /// Connections that are there, and those who are about to leave.
    pub(crate) fn count(&self) -> usize {
        crate::lock(&self.table).members.len()
    }

    /// One more, whose stream ends when it has to leave while it is idle.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, stream: Option<Arc<TcpStream>>) -> Place {
        let address = origin(address);
        let mut table = crate::lock(&self.table);
        if table.present >= self.limits.connections {
            table.make_room(&self.limits);
        }
        let new = || Arc::new(Origin { address, present: AtomicUsize::new(0), turns: Semaphore::new(self.limits.for_one) });
        let origin = Arc::clone(table.origins.entry(address).or_insert_with(new));
        origin.present.fetch_add(1, SeqCst);
        table.present += 1;
        let (standing, since) = (AtomicU8::new(IDLE), AtomicU64::new(self.now()));
        let member = Arc::new(Member { origin, standing, since, told: Notify::new(), stream });
        let id = table.next;
        table.next += 1;
        table.members.insert(id, Arc::clone(&member));
        Place { crowd: Arc::clone(self), id, member }
    }
}

impl Member {
    fn can_leave(&self) -> bool {
        matches!(self.standing.load(SeqCst), WAITING | IDLE)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.standing.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

impl Table {
    /// Asks some to leave: of the origin with the most connections who has any to spare, those that wait, then those that
    /// are idle for the longest time.
    fn make_room(&mut self, limits: &Limits) {
        let all = self.members.iter().filter(|(_, member)| member.can_leave());
        let mut spare: Vec<_> = all
            .map(|(id, member)| {
                let idle = member.standing.load(SeqCst) != WAITING;
                (std::cmp::Reverse(member.origin.present.load(SeqCst)), idle, member.since.load(SeqCst), *id)
            })
            .collect();
        let some = (limits.connections / OF_ALL).max(1);
        if spare.len() > some {
            spare.select_nth_unstable(some - 1);
        }
        for (_, _, _, id) in spare.into_iter().take(some) {
            if let Some(member) = self.members.get(&id).map(Arc::clone) {
                self.ask(&member);
            }
        }
    }

    fn ask_all(&mut self, which: impl Fn(&Member) -> bool) {
        let asked: Vec<Arc<Member>> = self.members.values().filter(|member| member.can_leave() && which(member)).map(Arc::clone).collect();
        asked.iter().for_each(|member| self.ask(member));
    }

    /// Asks one to leave who is not being answered.
    fn ask(&mut self, member: &Arc<Member>) {
        if !(member.change(IDLE, LEAVING) || member.change(WAITING, LEAVING)) {
            return;
        }
        self.gone(&member.origin);
        member.told.notify_one();
        if let Some(stream) = &member.stream {
            // What is on its way to the client still gets there.
            let _ = socket2::SockRef::from(&**stream).shutdown(Shutdown::Both);
        }
    }

    fn gone(&mut self, origin: &Origin) {
        self.present = self.present.saturating_sub(1);
        if origin.present.fetch_sub(1, SeqCst) == 1 {
            self.origins.remove(&origin.address);
        }
    }
}

/// Whether a request is answered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    /// After others of its origin: see [`Place::turn`].
    Later,
    /// Never: the connection has to leave.
    Never,
}

/// One connection among all. Dropping it makes room for another.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    member: Arc<Member>,
}

impl Place {
    /// A request is there. While it is answered, until [`Place::idle`], nobody asks the connection to leave.
    pub(crate) fn busy(&self) -> Turn {
        let Ok(turn) = self.member.origin.turns.try_acquire() else { return Turn::Later };
        if !self.member.change(IDLE, BUSY) {
            return Turn::Never;
        }
        turn.forget();
        Turn::Now
    }

    /// Waits until it is the origin's turn. False: it has to leave.
    pub(crate) async fn turn(&self) -> bool {
        self.member.since.store(self.crowd.now(), SeqCst);
        if !self.member.change(IDLE, WAITING) {
            return false;
        }
        self.tell();
        let turn = tokio::select! {
            turn = self.member.origin.turns.acquire() => turn,
            () = self.member.told.notified() => return false,
        };
        match turn {
            Ok(turn) if self.member.change(WAITING, BUSY) => turn.forget(),
            _ => return false,
        }
        true
    }

    /// The response is on its way.
    pub(crate) fn idle(&self, now: Instant) {
        self.member.since.store(self.crowd.at(now), SeqCst);
        if self.member.change(BUSY, IDLE) {
            self.member.origin.turns.add_permits(1);
        }
        self.tell();
    }

    /// Tells who waits for room that there is somebody who can leave.
    fn tell(&self) {
        if self.crowd.told_of_idle.load(SeqCst) {
            self.crowd.changed.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut table = crate::lock(&self.crowd.table);
            table.members.remove(&self.id);
            match self.member.standing.swap(LEAVING, SeqCst) {
                LEAVING => {}
                BUSY => {
                    self.member.origin.turns.add_permits(1);
                    table.gone(&self.member.origin);
                }
                _ => table.gone(&self.member.origin),
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

    fn standings(places: &[Place]) -> Vec<u8> {
        places.iter().map(standing_of).collect()
    }

    fn standing_of(place: &Place) -> u8 {
        place.member.standing.load(SeqCst)
    }

    fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    }

    #[test]
    fn the_one_who_is_idle_for_the_longest_time_leaves_for_the_next() {
        let crowd = crowd(4, 4);
        let held: Vec<Place> = (0..4).map(|_| crowd.enter(A, None)).collect();
        assert_eq!(held[0].busy(), Turn::Now);
        let other = crowd.enter(B, None);
        assert_eq!(standings(&held), [BUSY, LEAVING, IDLE, IDLE]);
        // A has three, B one; and of A the next who came.
        let another = crowd.enter(A, None);
        assert_eq!((standings(&held), standing_of(&other), standing_of(&another)), (vec![BUSY, LEAVING, LEAVING, IDLE], IDLE, IDLE));
        assert_eq!(held[1].busy(), Turn::Never);
        held[0].idle(Instant::now());
        drop(other);
        let (b, c) = (crowd.enter(B, None), crowd.enter(B, None));
        assert_eq!((standings(&held), standing_of(&b), standing_of(&c)), (vec![IDLE, LEAVING, LEAVING, LEAVING], IDLE, IDLE));
        assert_eq!(crate::lock(&crowd.table).present, 4);
        drop((held, another, b, c));
        let table = crate::lock(&crowd.table);
        assert!(table.origins.is_empty() && table.members.is_empty() && table.present == 0);
    }

    #[test]
    fn one_address_waits_for_itself_and_others_do_not() -> std::io::Result<()> {
        runtime()?.block_on(async {
            let crowd = crowd(6, 2);
            let held: Vec<Place> = (0..2).map(|_| crowd.enter(A, None)).collect();
            assert!(held.iter().all(|place| place.busy() == Turn::Now));
            let mut waiting = Vec::new();
            for _ in 0..4 {
                let place = Arc::new(crowd.enter(A, None));
                assert_eq!(place.busy(), Turn::Later);
                let waits = Arc::clone(&place);
                waiting.push((place, tokio::spawn(async move { waits.turn().await })));
                tokio::task::yield_now().await;
            }
            // Full: the first that waits leaves for somebody else, who is answered at once.
            let other = crowd.enter(B, None);
            assert_eq!((other.busy(), standing_of(&waiting[0].0)), (Turn::Now, LEAVING));
            let (_, first) = waiting.remove(0);
            assert!(!first.await?);
            // Who has been answered makes place for one that waits.
            held[0].idle(Instant::now());
            let (second, answered) = waiting.remove(0);
            assert!(answered.await?);
            assert_eq!((standing_of(&second), standing_of(&waiting[0].0), held[0].busy()), (BUSY, WAITING, Turn::Later));
            // And so does who goes in the middle.
            drop(second);
            let (third, answered) = waiting.remove(0);
            assert!(answered.await?);
            assert_eq!((standing_of(&third), held[0].busy()), (BUSY, Turn::Later));
            Ok(())
        })
    }

    #[test]
    fn a_full_house_of_busy_ones_has_room_when_one_is_idle() -> std::io::Result<()> {
        runtime()?.block_on(async {
            let crowd = crowd(2, 1);
            let (a, b) = (crowd.enter(A, None), crowd.enter(B, None));
            assert_eq!((a.busy(), b.busy()), (Turn::Now, Turn::Now));
            let waits = tokio::time::timeout(Duration::from_millis(20), crowd.room()).await;
            assert!(waits.is_err());
            let room = tokio::spawn({
                let crowd = Arc::clone(&crowd);
                async move { crowd.room().await }
            });
            tokio::task::yield_now().await;
            a.idle(Instant::now());
            room.await.map_err(std::io::Error::other)?;
            let c = crowd.enter(B, None);
            assert_eq!((standing_of(&a), a.busy(), c.busy()), (LEAVING, Turn::Never, Turn::Later));
            Ok(())
        })
    }

    #[test]
    fn who_is_idle_for_too_long_leaves_and_who_is_answered_does_not() -> std::io::Result<()> {
        runtime()?.block_on(async {
            let crowd = Crowd::new(Limits { head: Duration::from_millis(50), ..Limits::default() });
            let (idle, busy) = (crowd.enter(A, None), crowd.enter(A, None));
            assert_eq!(busy.busy(), Turn::Now);
            let _ = tokio::time::timeout(Duration::from_millis(200), crowd.watch()).await;
            assert_eq!((standing_of(&idle), standing_of(&busy)), (LEAVING, BUSY));
            Ok(())
        })
    }

    #[test]
    fn all_leave_at_a_close_the_busy_ones_when_they_are_done() -> std::io::Result<()> {
        runtime()?.block_on(async {
            let crowd = crowd(4, 4);
            let (idle, busy) = (crowd.enter(A, None), crowd.enter(A, None));
            assert_eq!(busy.busy(), Turn::Now);
            let close = tokio::spawn({
                let crowd = Arc::clone(&crowd);
                async move { crowd.close().await }
            });
            tokio::task::yield_now().await;
            assert_eq!((standing_of(&idle), standing_of(&busy)), (LEAVING, BUSY));
            drop(idle);
            tokio::task::yield_now().await;
            busy.idle(Instant::now());
            assert!(!close.is_finished());
            drop(busy);
            close.await.map_err(std::io::Error::other)
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

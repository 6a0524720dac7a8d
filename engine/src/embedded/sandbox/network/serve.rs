//! What answers on the sockets of a container's network, in this program, for as long as the container runs.

use super::super::wire;
use super::inward::InwardRequests;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections of one port, or questions for names, of one container at a time.
const MOST: usize = 512;
/// Descriptors of this process that connections leave to everything else that it does.
const OTHERS: u64 = 256;
/// How long a name server has for its answer before the next one is asked.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a connection for names may last.
const TALK: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long what a container said last may take to be passed on, after it has ended.
pub(in super::super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// After an accept that failed, as when no descriptors are left.
const PAUSE: Duration = Duration::from_millis(50);
/// A packet over UDP is not longer.
const PACKET: usize = 65_535;

/// The sockets that a container's network handed out.
#[derive(Debug)]
pub(in super::super) struct Opened {
    /// With the port of this machine that each leads to.
    doors: Vec<(u16, std::net::TcpListener)>,
    names: Option<(std::net::UdpSocket, std::net::TcpListener)>,
    /// Gives sockets of that network.
    sockets: Option<UnixStream>,
    address: IpAddr,
}

/// Ports of this machine that lead into a container, each with the container's.
type Ports = Vec<(std::net::TcpListener, u16)>;

impl Opened {
    /// Takes them in the order in which [`super::prepare`] makes them.
    pub(in super::super) fn new(wanted: &super::Wanted, own: Option<IpAddr>, sockets: Vec<OwnedFd>) -> Option<Opened> {
        let mut sockets = sockets.into_iter();
        let mut doors = Vec::new();
        for port in &wanted.doors {
            doors.push((*port, sockets.next()?.into()));
        }
        let names = if wanted.names { Some((sockets.next()?.into(), sockets.next()?.into())) } else { None };
        let given = if wanted.ports { Some(sockets.next()?.into()) } else { None };
        let address = own.filter(IpAddr::is_ipv4).unwrap_or(Ipv4Addr::LOCALHOST.into());
        Some(Opened { doors, names, sockets: given, address })
    }
}

/// Whether the container has ended.
pub(in super::super) type Ended = watch::Receiver<bool>;

/// Which end of a connection is the container's.
#[derive(Clone, Copy)]
enum Inside {
    /// The one that was accepted.
    Accepted,
    /// The one that was made for it.
    Made,
}

/// Waits until the container has ended.
pub(in super::super) async fn end_of(mut ended: Ended) {
    // (Who would say so may have gone.)
    let _ = ended.wait_for(|ended| *ended).await;
}

/// Answers until the container has ended, and what that has said is passed on.
///
/// # Errors
/// A socket cannot be used.
pub(in super::super) async fn serve(
    opened: Opened,
    ports: Ports,
    inward: Option<InwardRequests>,
    resolv: &[u8],
    ended: Ended,
) -> io::Result<()> {
    let mut all = JoinSet::new();
    let listeners = opened.doors.len() + if opened.names.is_some() { 2 } else { 0 } + ports.len();
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = share(open, listeners);
    for (port, listener) in opened.doors {
        let listener = listening(listener)?;
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        all.spawn(accept(listener, share, ended.clone(), move |stream, ended| {
            forward(stream, async move { connected(TcpStream::connect(here)).await }, Inside::Accepted, ended)
        }));
    }
    if let Some((udp, tcp)) = opened.names {
        udp.set_nonblocking(true)?;
        let servers: Arc<[SocketAddr]> = servers(&String::from_utf8_lossy(resolv)).into();
        let (udp, tcp) = (UdpSocket::from_std(udp)?, listening(tcp)?);
        let answering = packets(udp, share, Arc::clone(&servers));
        let until = end_of(ended.clone());
        all.spawn(async move {
            tokio::select! {
                () = answering => {}
                () = until => {}
            }
        });
        all.spawn(accept(tcp, share, ended.clone(), move |stream, ended| {
            let servers = Arc::clone(&servers);
            async move {
                let _ = timeout(TALK, forward(stream, first(servers), Inside::Accepted, ended)).await;
            }
        }));
    }
    if let Some(sockets) = opened.sockets {
        let sockets = Arc::new(Mutex::new(sockets));
        if let Some(askers) = inward {
            let (answering, until) = (answer(askers, Arc::clone(&sockets)), end_of(ended.clone()));
            all.spawn(async move {
                tokio::select! {
                    () = answering => {}
                    () = until => {}
                }
            });
        }
        for (listener, port) in ports {
            let (sockets, to) = (Arc::clone(&sockets), SocketAddr::new(opened.address, port));
            all.spawn(accept(listening(listener)?, share, ended.clone(), move |stream, ended| {
                forward(stream, within(Arc::clone(&sockets), to), Inside::Made, ended)
            }));
        }
    }
    while all.join_next().await.is_some() {}
    end_of(ended).await;
    Ok(())
}

/// Connections that each of so many sockets may have at a time, where this process may have so many files open: each
/// takes two, and one socket that has many must leave the others theirs.
fn share(open: u64, listeners: usize) -> usize {
    let all = open.saturating_sub(OTHERS) / 2;
    let each = all / u64::try_from(listeners.max(1)).unwrap_or(u64::MAX);
    usize::try_from(each).unwrap_or(MOST).clamp(1, MOST)
}

fn listening(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Takes connections until the container has ended, and waits for those that there are. Drops all of them when it is
/// dropped itself.
async fn accept<F>(listener: TcpListener, most: usize, ended: Ended, serve: impl Fn(TcpStream, Ended) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(most));
    let mut open = JoinSet::new();
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let serving = serve(stream, ended.clone());
                    open.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            while open.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        () = end_of(ended.clone()) => {}
    }
    while open.join_next().await.is_some() {}
}

/// Copies both ways until both have ended; after the container has, only what that has said. A connection that leads
/// nowhere is reset, as one that was refused.
async fn forward(mut here: TcpStream, there: impl Future<Output = io::Result<TcpStream>>, inside: Inside, ended: Ended) {
    let _ = here.set_nodelay(true);
    let made = tokio::select! {
        made = there => made,
        () = end_of(ended.clone()) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut there) = made else {
        let _ = here.set_zero_linger();
        return;
    };
    let _ = there.set_nodelay(true);
    let ((from_here, to_here), (from_there, to_there)) = (here.split(), there.split());
    let (up, down) = (pass_on(from_here, to_there), pass_on(from_there, to_here));
    let end = end_of(ended);
    // What fails one way ends the other one, too.
    let _ = match inside {
        Inside::Accepted => tokio::try_join!(up, unless(end, down)),
        Inside::Made => tokio::try_join!(down, unless(end, up)),
    };
}

/// Copies one way, and passes on its end.
async fn pass_on(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

async fn unless(end: impl Future<Output = ()>, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::select! {
        done = work => done,
        () = end => Ok(()),
    }
}

async fn connected(stream: impl Future<Output = io::Result<TcpStream>>) -> io::Result<TcpStream> {
    timeout(CONNECT, stream).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A connection that is made in the container's network.
async fn within(sockets: Arc<Mutex<UnixStream>>, to: SocketAddr) -> io::Result<TcpStream> {
    let given = tokio::task::spawn_blocking(move || {
        let sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(&*sockets, &())?;
        let mut given = Vec::new();
        wire::receive_with::<()>(&sockets, &mut given)?;
        given.pop().ok_or_else(|| io::Error::other("the container has ended"))
    });
    let socket = given.await??;
    connected(TcpSocket::from_std_stream(socket.into()).connect(to)).await
}

/// Gives those who ask their connections, one after the other.
async fn answer(mut askers: InwardRequests, sockets: Arc<Mutex<UnixStream>>) {
    while let Some((port, reply)) = askers.0.recv().await {
        // Whoever had no more patience has gone.
        if !reply.is_closed() {
            let _ = reply.send(within(Arc::clone(&sockets), SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await);
        }
    }
}

/// The name servers of a resolv.conf, as resolver(5) reads it: three at most.
fn servers(resolv: &str) -> Vec<SocketAddr> {
    let named = resolv.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, 53))
    });
    named.take(3).collect()
}

/// A connection to the first name server that takes one.
async fn first(servers: Arc<[SocketAddr]>) -> io::Result<TcpStream> {
    for server in servers.iter() {
        if let Ok(Ok(stream)) = timeout(ANSWER, TcpStream::connect(server)).await {
            return Ok(stream);
        }
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}

async fn packets(socket: UdpSocket, most: usize, servers: Arc<[SocketAddr]>) {
    let socket = Arc::new(socket);
    let slots = Arc::new(Semaphore::new(most));
    let mut open = JoinSet::new();
    let mut buffer = vec![0; PACKET];
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                let (question, socket, servers) = (buffer[..length].to_vec(), Arc::clone(&socket), Arc::clone(&servers));
                open.spawn(async move {
                    for server in servers.iter() {
                        if let Ok(Ok(answer)) = timeout(ANSWER, ask(*server, &question)).await {
                            let _ = socket.send_to(&answer, peer).await;
                            break;
                        }
                    }
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        while open.try_join_next().is_some() {}
    }
}

async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; PACKET];
    let length = socket.recv(&mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_its_share_of_what_this_process_may_open() {
        for (open, listeners, each) in
            [(1024, 1, 384), (1024, 3, 128), (1024, 20, 19), (20_000, 3, 512), (u64::MAX, 1, 512), (100, 5, 1), (1024, 0, 384)]
        {
            assert_eq!(share(open, listeners), each, "{open} {listeners}");
        }
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch example\nnameserver 127.0.0.53\n  nameserver  ::1 \nnameserver fe80::1%eth0\noptions x\n";
        assert_eq!(servers(text).iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.53:53", "[::1]:53"]);
    }
}

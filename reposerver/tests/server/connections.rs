//! Many connections, slow ones and idle ones: none of them makes the next client wait.

use crate::common::{Served, Shop, publish};
use crate::http::{large_deb, open};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use twostage_model::Sha256;
use twostage_reposerver::http::Limits;

/// More than the sockets of both ends hold.
const LARGE: usize = 32 << 20;

/// A connection from one of the many addresses of loopback, and a port that the system chooses.
pub fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    connect_from_port(&format!("{from}:0"), to)
}

/// A connection from an address and port, which may have been those of a connection that ended just now.
pub fn connect_from_port(from: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = from.parse().unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    // Little waits unread at a client that reads nothing.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// A served package of [`LARGE`] bytes, and the head of a request for it.
fn large(limits: Limits) -> (Shop, Served, Vec<u8>, Sha256) {
    let shop = Shop::new();
    let package = shop.repo.pool().ingest(&large_deb(LARGE)[..], "large").unwrap();
    publish(&shop.repo, "main", "g", &[&package], 1_700_000_000).unwrap();
    let digest = package.sha256.to_string();
    let head = format!("GET /main/pool/{}/{digest}/large_1.0_all.deb HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &digest[..2]);
    let served = Served::limited(&shop.repo, limits);
    (shop, served, head.into_bytes(), package.sha256)
}

/// Starts downloads that read nothing but the first byte.
fn stuck(served: &Served, from: &str, head: &[u8], number: usize) -> Vec<TcpStream> {
    let mut streams: Vec<TcpStream> = (0..number).map(|_| connect_from(from, served.at)).collect();
    for stream in &mut streams {
        stream.write_all(head).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    streams
}

/// Whether the server has closed, or does within a while.
fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    !matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn idle_connections_are_closed_for_the_next_client() {
    let (shop, served, _, _) = open();
    served.stop();
    let served = Served::limited(&shop.repo, Limits { connections: 40, for_one: 20, ..Limits::default() });
    // (Who has to wait for an idle one waits half a minute.)
    let soon = Duration::from_secs(15);
    // Silent ones, some that have said half of a request, some that were answered once.
    let mut held: Vec<TcpStream> = (0..200).map(|_| connect_from("127.0.0.1", served.at)).collect();
    for (n, stream) in held.iter_mut().enumerate() {
        let _ = match n % 3 {
            0 => Ok(()),
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nHo"),
            _ => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
    }
    served.answers_within("127.0.0.2", soon);
    served.answers_within("127.0.0.1", soon);
    assert!(is_closed(&mut held[0], soon), "the one that was idle for the longest time");
    assert!(!is_closed(&mut held[198], Duration::from_millis(50)), "the last of them are still there");
    // From many addresses.
    let more: Vec<TcpStream> = (3..100).map(|n| connect_from(&format!("127.0.0.{n}"), served.at)).collect();
    served.answers_within("127.0.0.2", soon);
    drop((held, more));
    served.stop();
}

/// A client that holds thousands of connections takes nothing from the next one, not even from itself.
#[test]
fn thousands_of_idle_connections_of_one_address_stay_and_nobody_waits() {
    let (_shop, served, _, _) = open();
    let mut held: Vec<TcpStream> = (0..3000).map(|_| connect_from("127.0.0.1", served.at)).collect();
    for stream in &mut held {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut said = [0; 15];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 200 OK");
    }
    served.answers_within("127.0.0.1", Duration::from_secs(10));
    served.answers_within("127.0.0.2", Duration::from_secs(10));
    served.stop();
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let (shop, served, _, _) = open();
    served.stop();
    let served = Served::limited(&shop.repo, Limits { head: Duration::from_millis(300), ..Limits::default() });
    let start = Instant::now();
    for begun in [&b""[..], b"GET /", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\n"] {
        let mut stream = served.connect();
        stream.write_all(begun).unwrap();
        // It drips.
        let mut dripping = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            while dripping.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert_eq!(said.is_empty(), begun.len() < 10, "{}", String::from_utf8_lossy(&said));
    }
    assert!(start.elapsed() < Duration::from_secs(15));
    served.stop();
}

#[test]
fn an_address_that_downloads_on_all_its_places_waits_for_itself() {
    let (_shop, served, head, digest) = large(Limits { connections: 8, for_one: 3, ..Limits::default() });
    // (Who has to wait for a reader who takes nothing waits a minute.)
    let soon = Duration::from_secs(30);
    let mut held = stuck(&served, "127.0.0.1", &head, 3);
    // Those wait; the others do not, although all places are taken.
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| connect_from("127.0.0.1", served.at)).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "it waits");
    }
    served.answers_within("127.0.0.2", soon);
    served.answers_within("127.0.0.3", soon);
    // Nothing that runs was cut off, and what ends makes place for those who are still there.
    let mut first = Vec::new();
    held[0].read_to_end(&mut first).unwrap();
    let body = first.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(Sha256::of(&first[body..]), digest);
    let answered = waiting.iter_mut().filter_map(|stream| {
        let mut said = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.read_to_string(&mut said).ok().filter(|_| said.ends_with("ok\n"))
    });
    assert!(answered.count() >= 3, "two left for other addresses");
    drop((held, waiting));
    served.stop();
}

#[test]
fn a_reader_who_takes_too_little_is_given_up_and_one_that_takes_enough_is_not() {
    let limits = Limits { stall: Duration::from_secs(1), rate: 1 << 20, connections: 3, for_one: 3, ..Limits::default() };
    let (_shop, served, head, digest) = large(limits);
    let start = Instant::now();
    let mut held = stuck(&served, "127.0.0.1", &head, 2);
    // It takes a byte now and then.
    let mut slow = stuck(&served, "127.0.0.1", &head, 1);
    let dripping = std::thread::spawn(move || {
        while start.elapsed() < Duration::from_secs(3) && matches!(slow[0].read(&mut [0]), Ok(1)) {
            std::thread::sleep(Duration::from_millis(100));
        }
        slow
    });
    let log = std::sync::Arc::clone(&served.log);
    let over = || log.lock().unwrap().iter().filter(|entry| entry.sent < LARGE as u64 && entry.target.contains("large")).count();
    while over() < 3 && start.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(over(), 3, "all three are given up");
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    let mut slow = dripping.join().unwrap();
    // What the sockets held is all that they get.
    for stream in held.iter_mut().chain(&mut slow) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < LARGE);
    }
    // At eight megabytes a second, in pieces with pauses, it comes.
    let mut good = served.connect();
    good.write_all(&head).unwrap();
    let mut got = Vec::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match good.read(&mut piece).unwrap() {
            0 => break,
            n => got.extend_from_slice(&piece[..n]),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let body = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(Sha256::of(&got[body..]), digest);
    served.stop();
}

#[test]
fn a_file_that_ends_in_the_middle_is_a_problem_in_the_log() {
    let (shop, served, head, digest) = large(Limits::default());
    let mut stream = stuck(&served, "127.0.0.1", &head, 1).remove(0);
    let file = std::fs::File::options().write(true).open(shop.repo.pool().pool_path(&digest)).unwrap();
    file.set_len(1 << 20).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < LARGE);
    let log = std::sync::Arc::clone(&served.log);
    served.stop();
    let log = log.lock().unwrap();
    assert!(log[0].problem.as_deref().is_some_and(|problem| problem.contains("in the middle")), "{:?}", log[0]);
}

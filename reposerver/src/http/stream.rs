//! The stream of a connection, between hyper and the socket: it sends parts of files where hyper writes what stands for
//! them, gives up on a reader who takes too little, and holds back what hyper says itself until that is logged.

use super::body::{ended, stands_for_file};
use super::crowd::Limits;
use super::exchange::{Exchange, Part, Writes};
use hyper::rt::ReadBufCursor;
use rustix::io::Errno;
use std::cell::RefCell;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long a client may take to read the last response and close, before we do.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of a response that wait in the kernel unsent: few, so that it is soon seen how much a reader takes.
const UNSENT: u32 = 128 << 10;
/// The same for a reader who takes much: few would be a wake-up for each of them.
const UNSENT_FAST: u32 = 4 << 20;
/// Bytes that such a reader takes within [`PROOF`].
const FAST: usize = 1 << 20;
/// Who takes nothing for as long is no such reader any more.
const PROOF: Duration = Duration::from_secs(1);
/// Bytes that are sent before others have their turn.
const BURST: usize = 2 << 20;
/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// Bytes that hyper may say itself.
const MOST_HELD: usize = 4 << 10;
/// `MSG_MORE`: what is sent waits for what follows it.
const MORE: i32 = 0x8000;
/// `MSG_NOSIGNAL`: a reader who has gone is an error, and no signal.
const NO_SIGNAL: i32 = 0x4000;

/// What `sendfile` says where a file system does not know how to.
const COPIED: [Option<i32>; 3] =
    [Some(Errno::INVAL.raw_os_error()), Some(Errno::NOSYS.raw_os_error()), Some(Errno::OPNOTSUPP.raw_os_error())];

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

pub(crate) struct Stream {
    socket: Arc<TcpStream>,
    exchange: Arc<Exchange>,
    patience: Patience,
    /// Since when a write waits, and until when it may.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Bytes that were sent since others had their turn.
    burst: usize,
    /// The client sends no more.
    ended: bool,
    /// What hyper said itself, of what is no request.
    held: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(socket: Arc<TcpStream>, exchange: Arc<Exchange>) -> Stream {
        let _ = socket.set_nodelay(true);
        set_unsent(&socket, UNSENT);
        let patience = Patience::new(exchange.state.crowd.limits());
        Stream { socket, exchange, patience, waiting: None, burst: 0, ended: false, held: Vec::new() }
    }

    /// Sends what hyper said itself, ends our side, and waits a moment for the client to end its own: what it still sends
    /// would else make its system throw away our last response unread (RFC 9112 section 9.6).
    pub(crate) async fn linger(self) {
        let end = async {
            let mut held = &self.held[..];
            while !held.is_empty() {
                match self.socket.try_write(held) {
                    Ok(sent) => held = &held[sent..],
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.socket.writable().await?,
                    Err(why) => return Err(why),
                }
            }
            socket2::SockRef::from(&*self.socket).shutdown(Shutdown::Write)?;
            if self.ended {
                return io::Result::Ok(());
            }
            loop {
                // (What is there while it waits would be part of every connection.)
                let read = {
                    let mut unread = [0; 4096];
                    self.socket.try_read(&mut unread)
                };
                match read {
                    Ok(0) => return Ok(()),
                    Ok(_) => tokio::task::consume_budget().await,
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.socket.readable().await?,
                    Err(why) => return Err(why),
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, end).await;
    }

    /// Sends some of `slices` without waiting.
    fn send(&self, slices: &[IoSlice<'_>], writes: Writes) -> io::Result<usize> {
        let socket = socket2::SockRef::from(&*self.socket);
        let at = slices.iter().position(|slice| stands_for_file(slice)).unwrap_or(slices.len());
        let (before, files) = slices.split_at(at);
        if files.is_empty() {
            // Bytes that are none of the file's, where those of the file should be, never leave.
            if writes == Writes::Part {
                return Err(io::Error::other("a part of a file is not where it should be"));
            }
            return try_send(&self.socket, length_of(before), || socket.send_vectored_with_flags(before, NO_SIGNAL));
        }
        let mut sent = 0;
        if !before.is_empty() {
            sent = try_send(&self.socket, length_of(before), || socket.send_vectored_with_flags(before, NO_SIGNAL | MORE))?;
            if sent < length_of(before) {
                return Ok(sent);
            }
        }
        let wanted: usize = files.iter().take_while(|slice| stands_for_file(slice)).map(|slice| slice.len()).sum();
        match self.exchange.with_part(|part| self.send_part(part, wanted)) {
            Ok(of_file) => Ok(sent + of_file),
            Err(_) if sent > 0 => Ok(sent),
            Err(why) => Err(why),
        }
    }

    /// Sends of a file, from the page cache to the socket.
    fn send_part(&self, part: Option<&Part>, wanted: usize) -> io::Result<usize> {
        let Some(part) = part.filter(|part| part.left >= wanted) else {
            return Err(io::Error::other("there is no part of a file to send"));
        };
        let mut offset = part.at;
        let sent = try_send(&self.socket, wanted, || Ok(rustix::fs::sendfile(&*self.socket, &part.file, Some(&mut offset), wanted)?));
        match sent {
            Ok(0) => Err(ended(io::ErrorKind::UnexpectedEof.into())),
            // Some file systems do not know how to.
            Err(why) if COPIED.contains(&why.raw_os_error()) => copy_part(&self.socket, part, wanted),
            sent => sent,
        }
    }

    /// The reader took so many bytes.
    fn took(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.patience.took(bytes, waited);
        if let Some(unsent) = self.patience.pace(bytes, waited) {
            set_unsent(&self.socket, unsent);
        }
        self.burst += bytes;
    }

    /// Waits for the reader to take something.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.burst = 0;
        let left = self.patience.left();
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(timer.as_mut().poll(context));
        self.exchange.state.meters.stalled();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Sends a part of a file through a buffer. What the socket does not take is read once more.
fn copy_part(socket: &TcpStream, part: &Part, wanted: usize) -> io::Result<usize> {
    BUFFER.with_borrow_mut(|bytes| {
        let wanted = wanted.min(bytes.len());
        let read = part.file.read_at(&mut bytes[..wanted], part.at).map_err(ended)?;
        if read == 0 {
            return Err(ended(io::ErrorKind::UnexpectedEof.into()));
        }
        try_send(socket, read, || socket2::SockRef::from(socket).send_with_flags(&bytes[..read], NO_SIGNAL))
    })
}

/// Lets `send` send of `wanted` bytes, without waiting.
fn try_send(socket: &TcpStream, wanted: usize, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let mut sent = 0;
    let result = socket.try_io(Interest::WRITABLE, || {
        sent = send()?;
        // It takes no more now. Said so, it is not asked for that before it takes something again.
        if sent > 0 && sent < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if sent > 0 { Ok(sent) } else { result.map(|()| 0) }
}

fn length_of(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// Sets how many bytes of a response may wait in the kernel unsent.
fn set_unsent(socket: &TcpStream, bytes: u32) {
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(bytes);
}

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            let read = BUFFER.with_borrow_mut(|bytes| {
                let bytes = &mut bytes[..buffer.remaining().min(READ)];
                let read = read(&self.socket, bytes)?;
                buffer.put_slice(&bytes[..read]);
                io::Result::Ok(read)
            });
            match read {
                Ok(read) => {
                    self.ended |= read == 0;
                    let fits = self.exchange.read(read);
                    return Poll::Ready(if fits { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) });
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }
}

/// Reads what there is, without waiting.
fn read(socket: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    let result = socket.try_io(Interest::READABLE, || {
        read = rustix::io::read(socket, &mut *bytes)?;
        // There is no more now. Said so, it is not asked for once more before something comes.
        if read > 0 && read < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if read > 0 { Ok(read) } else { result.map(|()| 0) }
}

impl hyper::rt::Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let writes = self.exchange.writes();
        if writes == Writes::Own {
            let length = length_of(slices);
            if self.held.len() + length > MOST_HELD {
                return Poll::Ready(Err(io::Error::other("bytes of no response")));
            }
            slices.iter().for_each(|slice| self.held.extend_from_slice(slice));
            return Poll::Ready(Ok(length));
        }
        if self.burst >= BURST {
            self.burst = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match self.socket.poll_write_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return self.wait(context),
            }
            match self.send(slices, writes) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Ok(sent) => {
                    self.took(sent);
                    return Poll::Ready(Ok(sent));
                }
                Err(why) => {
                    if why.kind() == io::ErrorKind::UnexpectedEof {
                        self.exchange.fail(why.to_string());
                    }
                    return Poll::Ready(Err(why));
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.exchange.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            // (What is ended already is no error.)
            let _ = socket2::SockRef::from(&*self.socket).shutdown(Shutdown::Write);
        }
        Poll::Ready(Ok(()))
    }
}

/// How long the writes of a connection may still wait. What is taken adds to it, so that a reader has time for
/// [`Limits::stall`] at most, and on an average for [`Limits::rate`].
pub(crate) struct Patience {
    left: Duration,
    most: Duration,
    rate: u64,
    /// Since when so many bytes were taken.
    counted: (Instant, usize),
    fast: bool,
}

impl Patience {
    pub(crate) fn new(limits: &Limits) -> Patience {
        Patience { left: limits.stall, most: limits.stall, rate: limits.rate.max(1), counted: (Instant::now(), 0), fast: false }
    }

    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// After a time of waiting, so many bytes were taken: how many may wait unsent now, if that changes.
    pub(crate) fn pace(&mut self, bytes: usize, waited: Duration) -> Option<u32> {
        if self.fast {
            self.fast = waited < PROOF;
            self.counted = (Instant::now(), 0);
            return (!self.fast).then_some(UNSENT);
        }
        self.counted.1 += bytes;
        if self.counted.1 < FAST {
            return None;
        }
        self.fast = self.counted.0.elapsed() < PROOF;
        self.counted = (Instant::now(), 0);
        self.fast.then_some(UNSENT_FAST)
    }

    /// After a time of waiting, so many bytes were taken.
    pub(crate) fn took(&mut self, bytes: usize, waited: Duration) {
        if waited.is_zero() && self.left == self.most {
            return;
        }
        let earned = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / self.rate);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader takes `size` bytes of `all` after each `pause`: when it is given up, if it is.
    fn given_up(size: usize, pause: Duration, all: usize) -> Option<Duration> {
        let mut patience = Patience::new(&Limits { stall: Duration::from_secs(60), rate: 100, ..Limits::default() });
        let (mut time, mut taken) = (Duration::ZERO, 0);
        while taken < all {
            if pause > patience.left() {
                return Some(time + patience.left());
            }
            (time, taken) = (time + pause, taken + size);
            patience.took(size, pause);
        }
        None
    }

    #[test]
    fn a_reader_who_takes_little_is_given_up_and_a_slow_one_is_not() {
        let second = Duration::from_secs(1);
        // 128 bytes a second, and the same in larger pieces.
        for (size, pause) in [(128, second), (1024, 8 * second)] {
            assert_eq!(given_up(size, pause, 100_000), None, "{size} bytes each {pause:?}");
        }
        // Nothing; a byte each 50 seconds; 64 bytes a second.
        for (size, pause, after) in [(1, 10_000 * second, 60), (1, 50 * second, 61), (64, second, 190)] {
            let time = given_up(size, pause, 100_000);
            assert!(time.is_some_and(|time| time <= after * second), "{size} bytes each {pause:?}: given up after {time:?}");
        }
    }

    #[test]
    fn only_a_reader_who_takes_much_has_much_waiting() {
        let mut patience = Patience::new(&Limits::default());
        assert_eq!(patience.pace(FAST / 2, Duration::ZERO), None);
        assert_eq!(patience.pace(FAST / 2, Duration::ZERO), Some(UNSENT_FAST));
        assert_eq!(patience.pace(FAST, PROOF / 2), None);
        assert_eq!(patience.pace(1, 2 * PROOF), Some(UNSENT));
        // A megabyte in two seconds is not much.
        patience.counted.0 = Instant::now() - 2 * PROOF;
        assert_eq!(patience.pace(FAST, Duration::ZERO), None);
    }

    #[test]
    fn a_part_of_a_file_is_sent_through_a_buffer_where_it_has_to_be() -> io::Result<()> {
        use std::io::{Read as _, Write as _};
        let mut file = tempfile::tempfile()?;
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let mut far = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (near, _) = listener.accept()?;
        near.set_nonblocking(true)?;
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).map(|_| got)
        });
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let near = TcpStream::from_std(near)?;
            let mut part = Part { file: Arc::new(file), at: 5, left: 99_995 };
            while part.left > 0 {
                near.writable().await?;
                match copy_part(&near, &part, part.left) {
                    Ok(sent) => (part.at, part.left) = (part.at + sent as u64, part.left - sent),
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                    Err(why) => return Err(why),
                }
            }
            let beyond = copy_part(&near, &part, 1);
            assert_eq!(beyond.map_err(|why| why.kind()), Err(io::ErrorKind::UnexpectedEof));
            Ok(())
        })?;
        assert!(reading.join().is_ok_and(|got| got.is_ok_and(|got| got == bytes[5..])));
        Ok(())
    }
}

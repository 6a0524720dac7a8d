//! The stream of a connection: it gives up on a reader who takes too little, and knows when a response is on its way.

use super::crowd::{Limits, Place};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client may take to read the last response and close, before we do.
const LINGER: Duration = Duration::from_secs(2);

/// Whether the connection's present response has been given to the stream as a whole.
#[derive(Default)]
pub(crate) struct Answered(AtomicBool);

impl Answered {
    pub(crate) fn set(&self, answered: bool) {
        self.0.store(answered, Ordering::Release);
    }
}

pub(crate) struct Stream<S> {
    stream: S,
    limits: Limits,
    /// How long writes may wait. What is taken adds to it, so that a reader has time for [`Limits::stall`] at most, and on
    /// an average for [`Limits::rate`].
    credit: Duration,
    /// Since when a write waits, and until when it may.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// The client sends no more.
    ended: bool,
    place: Option<(Arc<Place>, Arc<Answered>)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// A stream whose writes wait for as long as `limits` allow; `place` becomes idle with each flush of what is
    /// answered.
    pub(crate) fn new(stream: S, limits: Limits, place: Option<(Arc<Place>, Arc<Answered>)>) -> Self {
        Stream { stream, limits, credit: limits.stall, waiting: None, ended: false, place }
    }

    /// Ends our side, and waits a moment for the client to end its own: what it still sends would else make its system
    /// throw away our last response unread (RFC 9112 section 9.6).
    pub(crate) async fn linger(mut self) {
        if self.ended {
            return;
        }
        let end = async {
            self.stream.shutdown().await?;
            let mut unread = vec![0; 16 << 10];
            while self.stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, end).await;
    }

    fn writing<T>(
        &mut self,
        context: &mut Context<'_>,
        taken: impl FnOnce(&T) -> usize,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let result = write(Pin::new(&mut self.stream), context);
        if let Poll::Ready(result) = result {
            let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
            let taken = result.as_ref().map_or(0, taken) as u64;
            let earned = Duration::from_micros(taken.saturating_mul(1_000_000) / self.limits.rate.max(1));
            self.credit = self.credit.saturating_sub(waited).saturating_add(earned).min(self.limits.stall);
            return Poll::Ready(result);
        }
        let now = Instant::now();
        let (_, timer) = self.waiting.get_or_insert_with(|| (now, Box::pin(tokio::time::sleep_until(now + self.credit))));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.ended |= matches!(read, Poll::Ready(Ok(()))) && room > 0 && buffer.filled().len() == before;
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writing(context, |taken| *taken, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writing(context, |taken| *taken, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.writing(context, |()| 0, |stream, context| stream.poll_flush(context));
        if let (Poll::Ready(Ok(())), Some((place, answered))) = (&flushed, &self.place)
            && answered.0.swap(false, Ordering::AcqRel)
        {
            place.idle();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing(context, |()| 0, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `size` bytes of `all` every `pause`; the reader's end, and what the writer came to and when.
    fn read_slowly(size: usize, pause: Duration, all: usize) -> io::Result<(io::Result<()>, Duration)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(1024);
            let limits = Limits { stall: Duration::from_secs(60), rate: 100, ..Limits::default() };
            let mut near = Stream::new(near, limits, None);
            let reader = tokio::spawn(async move {
                let mut bytes = vec![0; size];
                while far.read_exact(&mut bytes).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            });
            let start = Instant::now();
            let written = near.write_all(&vec![0; all]).await;
            reader.abort();
            Ok((written, start.elapsed()))
        })
    }

    #[test]
    fn a_reader_who_takes_little_is_given_up_and_a_slow_one_is_not() -> io::Result<()> {
        let second = Duration::from_secs(1);
        // 128 bytes a second, and the same in larger pieces.
        for (size, pause) in [(128, second), (1024, 8 * second)] {
            assert!(read_slowly(size, pause, 100_000)?.0.is_ok(), "{size} bytes each {pause:?}");
        }
        // Nothing; a byte each 50 seconds; 64 bytes a second.
        for (size, pause, after) in [(1, 10_000 * second, 60), (1, 50 * second, 61), (64, second, 190)] {
            let (written, time) = read_slowly(size, pause, 100_000)?;
            assert_eq!(written.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut), "{size} bytes each {pause:?}");
            assert!(time <= after * second, "{size} bytes each {pause:?}: given up after {time:?}");
        }
        Ok(())
    }
}

//! Bridges between the engine's asynchronous streams and synchronous readers and writers, both
//! through a bounded channel, so that neither side holds more than a few pieces in memory.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use twostage_model::{Class, Error, Result};

const PIECES: usize = 16;
const PIECE: usize = 64 * 1024;

enum Piece {
    Bytes(Bytes),
    Failed(io::Error),
    /// The end, said out loud: a channel that closes without it lost its other side.
    End,
}

/// A tar stream of the engine as a synchronous reader. It ends only after the archive's own end
/// mark; a stream that stops earlier is an error. Reading blocks: use `spawn_blocking`.
pub struct TarReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for TarReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Err(error),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine's stream was lost before its end")),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Hands a stream to synchronous work in a blocking thread, piece by piece. Whoever does not wait for the work any
/// more ends the stream, in an error.
pub(crate) async fn feed<T: Send + 'static>(
    mut source: ByteStream,
    work: impl FnOnce(TarReader) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, pieces) = mpsc::channel(PIECES);
    let mut working = tokio::task::spawn_blocking(move || work(TarReader { pieces, current: Bytes::new(), ended: false }));
    let feeding = async move {
        loop {
            let (piece, last) = match source.next().await {
                Some(Ok(bytes)) => (Piece::Bytes(bytes), false),
                Some(Err(error)) => (Piece::Failed(error), true),
                None => (Piece::End, true),
            };
            // The work may have failed; then it says why.
            if sender.send(piece).await.is_err() || last {
                return;
            }
        }
    };
    let stopped = |error| Error::new(Class::System, "the work was stopped").because(error);
    tokio::select! {
        done = &mut working => done.map_err(stopped)?,
        () = feeding => working.await.map_err(stopped)?,
    }
}

impl std::fmt::Debug for TarReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TarReader")
    }
}

/// Waits for the first bytes, so that a refusal is an error here and now, and reads on in a task
/// of its own. Dropping the reader ends the task and with it the engine's work.
pub(crate) async fn read_tar<E>(
    mut source: impl Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin + 'static,
) -> std::result::Result<TarReader, E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let first = source.next().await.transpose()?.unwrap_or_default();
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut tail = Tail::default();
        tail.push(&first);
        let mut last = first.clone();
        if !first.is_empty() && sender.send(Piece::Bytes(first)).await.is_err() {
            return;
        }
        let end = loop {
            // An idle engine would otherwise keep a dropped reader's request open.
            let next = tokio::select! {
                next = source.next() => next,
                () = sender.closed() => return,
            };
            match next {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    tail.push(&bytes);
                    last = bytes.clone();
                    if sender.send(Piece::Bytes(bytes)).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => break Piece::Failed(io::Error::other(error)),
                None if tail.is_end_of_archive() => break Piece::End,
                None => break Piece::Failed(cut_short(&last)),
            }
        };
        // The reader may be gone by now; then nobody wants to know.
        let _ = sender.send(end).await;
    });
    Ok(TarReader { pieces, current: Bytes::new(), ended: false })
}

/// Bytes of the two blocks of zeros that a tar ends with (POSIX, pax Interchange Format).
const END_OF_ARCHIVE: usize = 1024;

/// What the end of a tar is known by.
#[derive(Default)]
struct Tail {
    length: u64,
    zeros: usize,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        // No more of it counts, and archives are large.
        let end = &bytes[bytes.len().saturating_sub(END_OF_ARCHIVE)..];
        self.zeros = match end.iter().rposition(|byte| *byte != 0) {
            Some(last) => end.len() - last - 1,
            None => (self.zeros + end.len()).min(END_OF_ARCHIVE),
        };
    }

    fn is_end_of_archive(&self) -> bool {
        self.length.is_multiple_of(512) && self.zeros == END_OF_ARCHIVE
    }
}

/// Docker ends an archive that it cannot finish with a piece of JSON in the stream itself.
fn cut_short(last: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(&last[last.len().saturating_sub(2048)..]).into_owned();
    let said = ["{\"errorDetail\"", "{\"message\""].iter().find_map(|mark| text.rfind(mark)).map(|start| text[start..].trim());
    let what = "the engine's archive stops before its end";
    io::Error::new(io::ErrorKind::UnexpectedEof, said.map_or(what.to_string(), |said| format!("{what}: {said}")))
}

/// An archive on its way to the engine, piece by piece.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A file that is read from its start, whatever was read of it.
pub(crate) fn from_start(file: &File) -> io::Result<File> {
    let mut file = file.try_clone()?;
    file.seek(io::SeekFrom::Start(0))?;
    Ok(file)
}

/// The bytes of a file, as [`crate::Engine::import`] and [`crate::Engine::load`] take them.
pub fn file_stream(file: tokio::fs::File) -> ByteStream {
    let pieces = stream::unfold(Some(file), |state| async move {
        let mut file = state?;
        let mut buffer = BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut buffer).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(buffer.freeze()), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Box::pin(pieces)
}

/// A synchronous writer whose bytes come out as a stream, for an archive that is made while the
/// engine reads it. Write in `spawn_blocking`.
pub fn pipe() -> (PipeWriter, ByteStream) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let pieces = stream::unfold(Some(receiver), |state| async move {
        let mut receiver = state?;
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::Failed(error)) => Some((Err(error), None)),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive was not finished")), None)),
        }
    });
    (PipeWriter { pieces: sender, buffer: BytesMut::new() }, Box::pin(pieces))
}

/// The writing end of [`pipe`]. Without [`PipeWriter::finish`] the stream ends in an error.
pub struct PipeWriter {
    pieces: mpsc::Sender<Piece>,
    buffer: BytesMut,
}

impl PipeWriter {
    /// Says that all was written.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Piece::End)
    }

    /// Says why there is no more; then the stream ends in that error.
    pub(crate) fn fail(self, error: io::Error) {
        // (The reader may be gone.)
        let _ = self.send(Piece::Failed(error));
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        self.pieces.blocking_send(piece).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine stopped reading"))
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.split() {
            empty if empty.is_empty() => Ok(()),
            full => self.send(Piece::Bytes(full.freeze())),
        }
    }
}

impl std::fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PipeWriter")
    }
}

/// Keeps the first error of a stream that is handed to the engine: the engine only says that the
/// request broke off.
#[derive(Clone, Default)]
pub(crate) struct FirstError(Arc<Mutex<Option<String>>>);

impl FirstError {
    pub(crate) fn watch(
        &self,
        source: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let kept = self.clone();
        source.inspect(move |item| {
            if let Err(error) = item {
                kept.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
            }
        })
    }

    pub(crate) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: Vec<io::Result<Bytes>>) -> io::Result<usize> {
        let mut reader = read_tar(stream::iter(chunks)).await?;
        tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new())).await.expect("the reader does not panic")
    }

    #[tokio::test]
    async fn an_archive_ends_with_its_own_mark_or_in_an_error() {
        let archive = || [vec![7; 512], vec![0; 1024]].concat();
        let whole: Vec<_> = archive().chunks(100).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        assert_eq!(read(whole).await.expect("a whole archive"), 1536);

        let short = read(vec![Ok(Bytes::from(vec![7; 512])), Ok(Bytes::from(vec![0; 512]))]).await;
        assert!(short.is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof));
        let empty = read(vec![]).await;
        assert!(empty.is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof));

        let message = Bytes::from_static(b"{\"errorDetail\":{\"message\":\"disk\"},\"error\":\"disk\"}\r\n");
        let said = read(vec![Ok(archive().into()), Ok(message)]).await.expect_err("JSON is no archive");
        assert!(said.to_string().contains("\"disk\""), "{said}");
    }

    #[tokio::test]
    async fn a_writer_that_is_dropped_half_way_is_an_error_at_the_reader() {
        let (mut writer, stream) = pipe();
        let writing = tokio::task::spawn_blocking(move || writer.write_all(&vec![1; 3 * PIECE]));
        let items: Vec<_> = stream.collect().await;
        assert!(writing.await.is_ok_and(|written| written.is_ok()));
        assert!(items.last().is_some_and(Result::is_err));

        let (mut writer, stream) = pipe();
        let writing = tokio::task::spawn_blocking(move || writer.write_all(b"all").and_then(|()| writer.finish()));
        let items: Vec<_> = stream.map(|item| item.expect("no error")).collect().await;
        assert!(writing.await.is_ok_and(|written| written.is_ok()));
        assert_eq!(items, ["all"]);
    }
}

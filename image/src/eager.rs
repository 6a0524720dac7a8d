//! A file whose bytes are brought to the disk while more are written: so that the sync at its end, without which it may be
//! lost, has little left to wait for.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use tempfile::NamedTempFile;

/// Bytes after which the disk is asked.
const STEP: u64 = 32 << 20;

/// The file.
pub struct Eager {
    file: NamedTempFile,
    since: u64,
    disk: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl Eager {
    pub fn new(file: NamedTempFile) -> Eager {
        Eager { file, since: 0, disk: None }
    }

    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// The file, and what the disk said meanwhile: an error of it is told only once.
    pub fn finish(mut self) -> io::Result<NamedTempFile> {
        if let Some((ask, disk)) = self.disk.take() {
            drop(ask);
            disk.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs ended")))?;
        }
        Ok(self.file)
    }

    fn ask(&mut self) -> io::Result<()> {
        if self.disk.is_none() {
            let file = self.file.as_file().try_clone()?;
            let (ask, asked) = sync_channel::<()>(1);
            self.disk = Some((ask, std::thread::spawn(move || asked.into_iter().try_for_each(|()| file.sync_data()))));
        }
        if let Some((ask, _)) = &self.disk {
            // Where it is busy, it comes to these bytes later; where it failed, the end says so.
            let _ = ask.try_send(());
        }
        Ok(())
    }
}

impl Write for Eager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.since += n as u64;
        if self.since >= STEP {
            self.since = 0;
            self.ask()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Eager {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

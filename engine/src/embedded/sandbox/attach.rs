//! What goes between somebody who is attached and a command that runs: input, its terminal, signals.

use super::host::Teller;
use crate::attached::{Size, Told};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::sync::oneshot;

/// Sets the size of a terminal.
pub(super) fn resize(terminal: impl AsFd, (rows, columns): Size) -> io::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// Carries everything until it is dropped; gives the error that ends it. What the command writes on its terminal goes to
/// `out`, which ends with that.
pub(super) async fn carry(
    terminal: oneshot::Receiver<OwnedFd>,
    input: Option<OwnedFd>,
    told: Option<UnboundedReceiver<Told>>,
    teller: Teller,
    out: Sender<Vec<u8>>,
) -> io::Error {
    match carried(terminal, input, told, teller, out).await {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

async fn carried(
    terminal: oneshot::Receiver<OwnedFd>,
    input: Option<OwnedFd>,
    told: Option<UnboundedReceiver<Told>>,
    teller: Teller,
    out: Sender<Vec<u8>>,
) -> io::Result<()> {
    // Where none is asked for, nobody sends one.
    let terminal = terminal.await.ok().map(|terminal| Arc::new(File::from(terminal)));
    if let Some(terminal) = &terminal {
        show(Arc::clone(terminal), out)?;
        if let Some(input) = input {
            type_in(Arc::clone(terminal), File::from(input))?;
        }
    } else {
        drop(out);
    }
    let Some(mut told) = told else { return Ok(()) };
    while let Some(told) = told.recv().await {
        match (told, &terminal) {
            (Told::Signal(number), _) => teller.signal(number).await,
            (Told::Size(size), Some(terminal)) => resize(terminal, size)?,
            (Told::Size(_), None) => {}
        }
    }
    Ok(())
}

/// Gives what a command writes on its terminal, until nothing has that open any more: reading is an error then.
fn show(terminal: Arc<File>, out: Sender<Vec<u8>>) -> io::Result<()> {
    let showing = move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = (&*terminal).read(&mut buffer) {
            if out.blocking_send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("terminal".into()).spawn(showing).map(drop)
}

/// Types what is read, until that or the terminal ends.
fn type_in(terminal: Arc<File>, mut input: File) -> io::Result<()> {
    let typing = move || io::copy(&mut input, &mut &*terminal);
    thread::Builder::new().name("typing".into()).spawn(typing).map(drop)
}

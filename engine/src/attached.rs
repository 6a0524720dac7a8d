//! Somebody who sits before a command: what it reads, its terminal, and what it is told while it runs.

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The rows and columns of a terminal.
pub type Size = (u16, u16);

/// What a command is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A signal for its first process, by its number.
    Signal(i32),
    /// Its terminal has another size now.
    Size(Size),
}

/// What a command has that somebody is attached to. Only for the embedded engine.
#[derive(Debug, Default)]
pub struct Attached {
    /// What it reads: the end of a pipe; else nothing.
    pub input: Option<File>,
    /// It has a terminal of this size, and both its outputs are that.
    pub terminal: Option<Size>,
    told: Mutex<Option<UnboundedReceiver<Told>>>,
}

impl Attached {
    /// Somebody, and who tells the command something from now on.
    pub fn new(input: Option<File>, terminal: Option<Size>) -> (Attached, UnboundedSender<Told>) {
        let (tell, told) = unbounded_channel();
        (Attached { input, terminal, told: Mutex::new(Some(told)) }, tell)
    }

    /// What the command is told, for the first who asks.
    pub(crate) fn told(&self) -> Option<UnboundedReceiver<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

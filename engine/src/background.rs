//! Work that a session does in the background, and waits for before the program ends.

use std::sync::{Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// What goes on. Without a runtime nothing can be done, and nothing is.
#[derive(Default)]
pub(crate) struct Background(Mutex<JoinSet<()>>);

impl Background {
    fn begin(&self, begin: impl FnOnce(&mut JoinSet<()>, &Handle)) {
        if let Ok(runtime) = Handle::try_current() {
            begin(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), &runtime);
        }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.begin(|all, runtime| drop(all.spawn_on(work, runtime)));
    }

    /// For what waits for files.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.begin(|all, runtime| drop(all.spawn_blocking_on(work, runtime)));
    }

    /// Waits for all of it, and for what begins meanwhile.
    pub(crate) async fn settle(&self) {
        loop {
            let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            if all.is_empty() {
                return;
            }
            while all.join_next().await.is_some() {}
        }
    }
}

//! Work on all processors.

use crate::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use twostage_model::{Class, Error, Result};

/// Does `work` for each item, on as many threads as there are processors, and returns the results in the items' order.
/// Where no thread can be had, this one does it alone.
///
/// # Errors
/// The first failure in that order; what is not begun by then is left out.
pub(crate) fn for_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let result = work(item);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            lock(&results).push((at, result));
        }
    };
    let whole = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        run();
        let panicked = others.into_iter().map(|thread| thread.join()).filter(Result::is_err).count();
        panicked == 0
    });
    if !whole {
        return Err(Error::new(Class::System, "a thread of the repository failed"));
    }
    let mut results = std::mem::take(&mut *lock(&results));
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// [`for_each`] over runs of items, for work that takes less than a thread's hand-over costs.
pub(crate) fn for_runs<T: Sync>(items: &[T], length: usize, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let runs: Vec<&[T]> = items.chunks(length.max(1)).collect();
    for_each(&runs, |run| run.iter().try_for_each(&work)).map(drop)
}

/// Does two things, at the same time where that is worth it and a second thread can be had.
pub(crate) fn both<A: Send, B>(worth_it: bool, first: impl Fn() -> A + Sync, second: impl FnOnce() -> B) -> (A, B) {
    if !worth_it {
        return (first(), second());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, &first).ok();
        let other = second();
        // One that panicked is done again, here, and says so.
        let one = thread.and_then(|thread| thread.join().ok()).unwrap_or_else(&first);
        (one, other)
    })
}

/// [`for_runs`] for what waits for a disk: the waits of many are one.
pub(crate) fn for_each_waiting<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Ok(())));
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(item);
            let mut results = lock(&results);
            if results.is_ok() {
                *results = result;
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..items.len().min(MOST_WAITING)).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        run();
        others.into_iter().for_each(|thread| drop(thread.join()));
    });
    std::mem::replace(&mut *lock(&results), Ok(()))
}

/// Threads that wait for a disk at once.
const MOST_WAITING: usize = 8;

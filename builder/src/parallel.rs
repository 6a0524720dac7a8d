//! The same blocking work on many things, on every core.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use twostage_model::Result;

/// Gives `work`'s results in the order of `items`. Reading a package decompresses all of it, so
/// this is what a publish of many waits for.
///
/// # Errors
/// The error of the first item, in order, that has one; later items may not have been tried.
pub fn in_parallel<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<T>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<T>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let work_on = || {
        while let Some((index, item)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            let result = work(item);
            if result.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        // This thread works, too; where there can be no others, alone.
        for _ in 1..workers {
            let _ = std::thread::Builder::new().spawn_scoped(scope, work_on);
        }
        work_on();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::{Class, Error};

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(in_parallel(&items, |item| Ok(item * 2)).unwrap(), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(in_parallel(&[] as &[u32], |item| Ok(*item)).unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn one_error_ends_the_work() {
        let items: Vec<u32> = (0..1000).collect();
        let result = in_parallel(&items, |item| if *item == 7 { Err(Error::new(Class::System, "seven")) } else { Ok(()) });
        assert_eq!(result.map_err(|error| error.to_string()), Err("seven".to_string()));
    }
}

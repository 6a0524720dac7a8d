//! Where this process may start no more threads, that is an error like any other.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// EAGAIN, what clone(2) says at a limit.
const AGAIN: i32 = 11;

/// What runs the asynchronous parts.
///
/// # Errors
/// The machine says no.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().or_fail(Class::System, || "cannot start".into())
}

/// Does `work`. The standard library and tokio start threads by functions that panic where there can be none; such a
/// panic becomes an error, every other one stays what it is.
///
/// # Errors
/// Those of `work`, and that.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let usual = take_hook();
    set_hook(Box::new(move |panic| {
        if !is_of_threads(panic.payload()) {
            usual(panic);
        }
    }));
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) if is_of_threads(payload.as_ref()) => {
            Err(Error::system("this process may start no more threads", std::io::Error::from_raw_os_error(AGAIN)))
        }
        Err(payload) => resume_unwind(payload),
    }
}

/// `std::thread::spawn` and tokio's `spawn_blocking`.
fn is_of_threads(payload: &(dyn Any + Send)) -> bool {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.is_some_and(|text| text.starts_with("failed to spawn thread") || text.starts_with("OS can't spawn worker thread"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_threads_becomes_an_error() {
        let error = guarded::<()>(|| std::panic::panic_any("failed to spawn thread: Os { code: 11 }".to_string()));
        assert!(error.is_err_and(|error| error.hint_or_class().contains("ulimit -u")));
        assert!(std::panic::catch_unwind(|| guarded::<()>(|| std::panic::panic_any("something else"))).is_err());
    }
}

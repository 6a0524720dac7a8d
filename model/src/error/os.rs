//! What the operating system said no with, and what to do about it.
//!
//! Numbers are Linux's (`asm-generic/errno-base.h`, `errno.h`); they are the same on every
//! architecture that this program is built for.

use std::error::Error;
use std::io;

/// One answer of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    code: i32,
    /// Whether it is the machine's state, whatever was read or written: a full disk is no fault of a
    /// package that could not be stored.
    pub(super) machine: bool,
    /// What to do.
    pub(super) hint: &'static str,
}

const fn machine(code: i32, hint: &'static str) -> Fault {
    Fault { code, machine: true, hint }
}

const fn path(code: i32, hint: &'static str) -> Fault {
    Fault { code, machine: false, hint }
}

const FORBIDDEN: &str = "this user may not do that: `ls -ld` shows owner and mode of the path; run it as the owner, or change them";
const KIND: &str = "something of another kind has that name: move it away";

static FAULTS: [Fault; 28] = [
    path(1, FORBIDDEN),
    path(2, "it is not there: look whether the path is right"),
    machine(5, "the disk, or what it is attached by, failed: `dmesg` says more; restore what it lost from a backup or an export"),
    machine(11, "a limit of processes and threads is reached: end some, or raise it (`ulimit -u`, or pids.max of the control group)"),
    machine(12, "there is no memory left: end something, or raise the limit (`ulimit -v`, or memory.max of the control group)"),
    path(13, FORBIDDEN),
    path(16, "something else uses it: end that, and run the command again"),
    path(17, KIND),
    path(18, "the two are on different file systems: choose a place on the same one"),
    path(20, KIND),
    path(21, KIND),
    machine(23, "this machine has too many files open: end something, or raise fs.file-max (`sysctl fs.file-max`)"),
    machine(24, "this process may not open more files: raise the limit (`ulimit -n 4096`)"),
    path(26, "it is a program that runs: end that first"),
    machine(27, "the file is larger than the limit (`ulimit -f`) or the file system allows: raise it, or choose another disk"),
    machine(28, "the disk is full: make room (`df -h` and `df -i` show where), then run the command again"),
    machine(30, "the file system is read-only: mount it writable (`dmesg` says if an error made it so), or choose another place"),
    path(31, "the file has as many links as the file system allows: copy it"),
    path(36, "the name is too long: choose a shorter path"),
    path(39, KIND),
    path(40, "links lead in a circle there: `ls -l` shows them"),
    path(98, "another program listens there: choose another port, or 0 for a free one"),
    path(99, "this machine does not have that address: `ip address` lists those that it has"),
    path(101, "the network cannot be reached: is this machine connected?"),
    path(104, "the other side broke off: run the command again"),
    path(110, "the other side does not answer: run the command again"),
    path(111, "nothing listens there: is it started, and is the address right?"),
    machine(122, "your quota on that disk is used up: make room (`quota` shows it), or have it raised"),
];

/// Answers that say what is at a path, or that nothing is there (ENOENT, ENXIO, EEXIST, ENOTDIR, EISDIR, ENAMETOOLONG,
/// ENOTEMPTY, ELOOP). After any other nobody knows.
const SAYS_WHAT_IS_THERE: [i32; 8] = [2, 6, 17, 20, 21, 36, 39, 40];

/// Whether the operating system refused an answer, so that nobody knows what is at a path.
fn refused(error: &io::Error) -> bool {
    let inner = || error.get_ref().is_some_and(|inner| refused_anywhere(inner as &(dyn Error + 'static)));
    error.raw_os_error().map_or_else(inner, |code| !SAYS_WHAT_IS_THERE.contains(&code))
}

/// The same of an error and its causes.
pub(super) fn refused_anywhere(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let of_rustix = || error.downcast_ref::<rustix::io::Errno>().map(|errno| io::Error::from(*errno));
        if error.downcast_ref::<io::Error>().is_some_and(refused) || of_rustix().is_some_and(|error| refused(&error)) {
            return true;
        }
        // (Our own texts name files and what is in them, which is for others to write.)
        if !error.is::<crate::Error>() && number(&error.to_string()).is_some_and(|code| !SAYS_WHAT_IS_THERE.contains(&code)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The first answer of the operating system among an error and its causes.
pub(super) fn fault(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        let found = error.downcast_ref::<io::Error>().and_then(of_io);
        let found = found.or_else(|| error.downcast_ref::<rustix::io::Errno>().and_then(|errno| of_code(errno.raw_os_error())));
        // (Our own texts name files and what is in them, which is for others to write.)
        let found = found.or_else(|| of_text(&error.to_string()).filter(|_| !error.is::<crate::Error>()));
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}

fn of_io(error: &io::Error) -> Option<Fault> {
    if let Some(code) = error.raw_os_error() {
        return of_code(code);
    }
    // What a library wraps is not among the `source`s of its wrapper.
    let inner = error.get_ref().and_then(|inner| fault(inner as &(dyn Error + 'static)));
    inner.or_else(|| match error.kind() {
        io::ErrorKind::NotFound => of_code(2),
        io::ErrorKind::PermissionDenied => of_code(13),
        io::ErrorKind::OutOfMemory => of_code(12),
        io::ErrorKind::StorageFull => of_code(28),
        io::ErrorKind::QuotaExceeded => of_code(122),
        io::ErrorKind::ReadOnlyFilesystem => of_code(30),
        io::ErrorKind::FileTooLarge => of_code(27),
        _ => None,
    })
}

/// Libraries put an error into their own and keep the text alone; the standard library writes the number into it.
fn of_text(text: &str) -> Option<Fault> {
    of_code(number(text)?)
}

fn number(text: &str) -> Option<i32> {
    let (number, _) = text.rsplit_once("(os error ")?.1.split_once(')')?;
    number.parse().ok()
}

fn of_code(code: i32) -> Option<Fault> {
    FAULTS.iter().find(|fault| fault.code == code).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_said_is_found_below_wrappers() {
        let full = || io::Error::from_raw_os_error(28);
        assert_eq!(fault(&full()).map(|fault| fault.code), Some(28));
        assert_eq!(fault(&io::Error::other(full())).map(|fault| fault.code), Some(28));
        assert_eq!(fault(&io::Error::from(io::ErrorKind::StorageFull)).map(|fault| fault.code), Some(28));
        assert_eq!(fault(&io::Error::other(format!("{} at path \"/x\"", full()))).map(|fault| fault.code), Some(28));
        assert_eq!(fault(&rustix::io::Errno::DQUOT).map(|fault| fault.code), Some(122));
        assert_eq!(fault(&io::Error::other("no number")).map(|fault| fault.code), None);
    }

    #[test]
    fn only_an_answer_that_says_what_is_there_is_no_refusal() {
        for (code, refuses) in [(2, false), (20, false), (40, false), (1, true), (5, true), (12, true), (13, true), (116, true)] {
            let error = || io::Error::from_raw_os_error(code);
            assert_eq!(refused(&error()), refuses, "{code}");
            assert_eq!(refused_anywhere(&io::Error::other(error())), refuses, "{code}");
            assert_eq!(refused_anywhere(&io::Error::other(error().to_string())), refuses, "{code}");
        }
        assert!(!refused(&io::Error::from(io::ErrorKind::InvalidData)));
    }

    #[test]
    fn the_table_is_in_order_and_each_number_is_in_it_once() {
        assert!(FAULTS.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}

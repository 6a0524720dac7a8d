//! One error type for every crate: what could not be done, to what, why, and what to do.
//!
//! The command prints it as
//!
//! ```text
//! error: greet: the build failed (exit status 2)
//!   because: ...
//!   hint: the whole log is in .twostage/logs/greet.log
//! ```

mod os;

use std::fmt;

/// The kind of thing that went wrong. Each kind has a stable exit status and a stable code for
/// `--json`, so that scripts can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// An audit found residue, or a check that the user asked for said no.
    Verdict,
    /// The command line is wrong.
    Usage,
    /// The project file, the lock, or a file that they name is wrong.
    Project,
    /// A component could not be built.
    Build,
    /// A package or the repository is not what it claims to be.
    Repository,
    /// The engine could not be reached or refused.
    Engine,
    /// The runtime image could not be made.
    Runtime,
    /// The machine said no: disk, permission, network.
    System,
}

impl Class {
    /// The exit status of the command for this class.
    pub fn exit_status(self) -> u8 {
        match self {
            Class::Verdict => 1,
            Class::Usage => 2,
            Class::Project => 3,
            Class::Build => 4,
            Class::Repository => 5,
            Class::Engine => 6,
            Class::Runtime => 7,
            Class::System => 8,
        }
    }

    /// What to do about an error of this class when nothing closer is known.
    pub fn hint(self) -> &'static str {
        match self {
            Class::Verdict => "what it found is named above; mend that and run the command again",
            Class::Usage => "`twostage --help` shows what can be said",
            Class::Project => "mend what is named above, or name something else in its place in twostage.toml",
            Class::Build => "`-v` shows all that the builder says; its log is in .twostage/logs",
            Class::Repository => "if the file came from elsewhere, get it again; if it is the repository's, restore it from an export",
            Class::Engine => "`twostage doctor` says which engines work on this machine, and what to do where one does not",
            Class::Runtime => "`-v` shows all that the RUN says; `twostage runtime --dockerfile` writes what is run",
            Class::System => "mend what this machine said above, and run the command again; `-vv` shows more",
        }
    }

    /// The stable word for this class in `--json` output.
    pub fn code(self) -> &'static str {
        match self {
            Class::Verdict => "verdict",
            Class::Usage => "usage",
            Class::Project => "project",
            Class::Build => "build",
            Class::Repository => "repository",
            Class::Engine => "engine",
            Class::Runtime => "runtime",
            Class::System => "system",
        }
    }
}

/// What could not be done, to what, why, and what to do about it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    class: Class,
    what: String,
    hint: Option<String>,
    because: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// `what` is a sentence without a full stop that names the thing: `pool: cannot write x`.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Error(Box::new(Inner { class, what: what.into(), hint: None, because: None }))
    }

    /// A machine error about a path or a resource.
    pub fn system(what: impl Into<String>, because: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::new(Class::System, what).because(because)
    }

    /// Adds the cause. Where that is the machine's state, such as a full disk, the error is of class
    /// [`Class::System`]: a package that could not be stored for it is no bad package.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Self {
        let cause = cause.into();
        let of_input = matches!(self.0.class, Class::Repository | Class::Project | Class::Usage);
        if of_input && os::fault(&*cause as &(dyn std::error::Error + 'static)).is_some_and(|fault| fault.machine) {
            self.0.class = Class::System;
        }
        self.0.because = Some(cause);
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The class, which decides the exit status.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// The sentence that says what could not be done, without cause and hint.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// What the user can do: where the machine's state is the cause, what mends that; else this
    /// error's own hint, the nearest among its causes, what mends what the operating system said, or
    /// what goes for its class.
    pub fn hint_or_class(&self) -> &str {
        let fault = self.0.because.as_deref().and_then(|cause| os::fault(cause as &(dyn std::error::Error + 'static)));
        let machine = fault.filter(|fault| fault.machine && self.is_machine()).map(|fault| fault.hint);
        machine.or_else(|| self.hint_text()).or(fault.map(|fault| fault.hint)).unwrap_or_else(|| self.class().hint())
    }

    /// Whether the machine's state is the cause (a full disk, no memory, a disk that fails), and not what was
    /// read or asked for.
    pub fn is_machine(&self) -> bool {
        let fault = self.0.because.as_deref().and_then(|cause| os::fault(cause as &(dyn std::error::Error + 'static)));
        self.0.class == Class::System && fault.is_some_and(|fault| fault.machine)
    }

    /// Whether the operating system refused an answer (no permission, a disk that fails, no memory). What was asked for may
    /// be whole then: this is never damage.
    pub fn is_unread(&self) -> bool {
        self.0.because.as_deref().is_some_and(|cause| os::refused_anywhere(cause as &(dyn std::error::Error + 'static)))
    }

    /// This error's own hint, else the nearest hint among its causes.
    pub fn hint_text(&self) -> Option<&str> {
        if let Some(hint) = &self.0.hint {
            return Some(hint);
        }
        let cause: &(dyn std::error::Error + 'static) = self.0.because.as_deref()?;
        cause.downcast_ref::<Error>().and_then(Error::hint_text)
    }

    /// The causes, outermost first, each without its own causes.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.because.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Gives a plain error its sentence: `fs::read(p).or_fail(Class::System, || format!("cannot read {p}"))`.
pub trait OrFail<T> {
    /// Turns the error into an [`Error`] of `class` that says `what` and keeps the cause.
    ///
    /// # Errors
    /// The error that was there, with its sentence.
    fn or_fail(self, class: Class, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E> OrFail<T> for std::result::Result<T, E>
where
    E: Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
{
    fn or_fail(self, class: Class, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(class, what()).because(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_deep_in_the_causes_is_still_shown() {
        let inner = Error::new(Class::Engine, "no socket").hint("start docker");
        let outer = Error::new(Class::Runtime, "cannot build the image").because(inner);
        assert_eq!(outer.hint_text(), Some("start docker"));
        assert_eq!(outer.causes(), ["no socket"]);
        assert_eq!(outer.class().exit_status(), 7);
    }

    #[test]
    fn a_full_disk_is_the_machines_fault_whoever_met_it() {
        let full = std::io::Error::from_raw_os_error(28);
        let inner = Error::new(Class::Repository, "cannot store a.deb").because(full).hint("get it again");
        let outer = Error::new(Class::Repository, "a.deb is not published").because(inner);
        assert_eq!((outer.class(), outer.is_machine()), (Class::System, true));
        assert!(outer.hint_or_class().starts_with("the disk is full"), "{}", outer.hint_or_class());
        let missing = Error::new(Class::Repository, "cannot read a.deb").because(std::io::Error::from_raw_os_error(2));
        assert_eq!((missing.class(), missing.is_machine()), (Class::Repository, false));
        assert!(missing.hint_or_class().starts_with("it is not there"));
    }
}

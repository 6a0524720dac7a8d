//! A container, whichever engine it is in.

use crate::stream::{ByteStream, TarReader};
use crate::{Exec, Found, Pending, docker, embedded};
use twostage_model::Result;

/// A container that has ended, or never started. Dropping it removes it in the background;
/// [`Container::remove`] also waits and says whether that worked.
#[derive(Debug)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// What the command ended with; 0 if it never started.
    pub exit_code: i64,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    within: Within,
}

/// Why a command was never started, as the cause of an error: a program that is not there, an unknown user, no working
/// directory.
#[derive(Debug)]
pub struct Refusal {
    /// Docker's sentence.
    pub why: String,
    /// The status that `docker run` ends with.
    pub status: u8,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The one among an error's causes.
    pub fn of(error: &twostage_model::Error) -> Option<&Refusal> {
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            if let Some(refusal) = cause.downcast_ref() {
                return Some(refusal);
            }
            next = cause.source();
        }
        None
    }
}

#[derive(Debug)]
enum Within {
    Docker(docker::Container),
    Embedded(embedded::Container),
}

impl From<docker::Container> for Container {
    fn from(container: docker::Container) -> Self {
        let (id, exit_code, oom_killed) = (container.id.clone(), container.exit_code, container.oom_killed);
        Container { id, exit_code, oom_killed, within: Within::Docker(container) }
    }
}

impl From<embedded::Container> for Container {
    fn from(container: embedded::Container) -> Self {
        // (What was killed for want of memory is said in its last line.)
        Container { id: container.id.clone(), exit_code: container.exit_code, oom_killed: false, within: Within::Embedded(container) }
    }
}

/// Asks whichever container it is.
macro_rules! ask {
    ($container:expr, $inner:ident => $question:expr) => {
        match &$container.within {
            Within::Docker($inner) => Box::pin($question),
            Within::Embedded($inner) => Box::pin($question),
        }
    };
}

impl Container {
    /// The container, if it is one of the embedded engine.
    pub(crate) fn embedded(&self) -> Option<&embedded::Container> {
        match &self.within {
            Within::Embedded(container) => Some(container),
            Within::Docker(_) => None,
        }
    }

    /// Copies a file or folder out, as a tar stream: a folder `/a/b` gives entries `b/…`.
    ///
    /// # Errors
    /// There is no such path in the container.
    pub fn copy_out<'a>(&'a self, path: &'a str) -> Pending<'a, Result<TarReader>> {
        ask!(self, container => container.copy_out(path))
    }

    /// Makes an image of the container's files and gives its id. `changes` are Dockerfile
    /// instructions; without them the image gets the command and environment of the run. It never gets
    /// the base's entrypoint, and no label of the run says anything in it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn commit<'a>(&'a self, reference: &'a str, changes: &'a [String]) -> Pending<'a, Result<String>> {
        ask!(self, container => container.commit(reference, changes))
    }

    /// What is at a path; the links of its folders are followed within the container, the last one is not.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn find<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Option<Found>>> {
        ask!(self, container => container.find(path))
    }

    /// Unpacks a tar into the container's root. `replace`: a folder may take the place of something else, and the
    /// other way round; else that is an error.
    ///
    /// # Errors
    /// The engine refuses, or the stream itself fails.
    pub fn put(&self, tar: ByteStream, replace: bool) -> Pending<'_, Result<()>> {
        ask!(self, container => container.put(tar, replace))
    }

    /// Runs a command as a process of its own, in a container of [`crate::Engine::hold`], to its end; gives its exit
    /// status. Then whatever it left running is ended too. The command sees new `/dev`, `/proc` and `/dev/shm`.
    ///
    /// # Errors
    /// The engine cannot start the container or the command.
    pub fn exec<'a>(&'a self, exec: Exec<'a>, on_line: &'a mut (dyn FnMut(&str) + Send)) -> Pending<'a, Result<i64>> {
        ask!(self, container => container.exec(exec, on_line))
    }

    /// Removes the container and its volumes.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn remove(self) -> Pending<'static, Result<()>> {
        match self.within {
            Within::Docker(container) => Box::pin(container.remove()),
            Within::Embedded(container) => Box::pin(container.remove()),
        }
    }
}

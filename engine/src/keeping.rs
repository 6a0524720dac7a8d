//! The images that the embedded engine keeps: what there is, and what can go. Docker and Podman have commands of their own.

use crate::{Engine, ImageInfo, Pending, Within};
use serde::Serialize;
use std::time::{Duration, SystemTime};
use twostage_model::{Class, Error, Result, Sha256};

/// What was taken out of the store. Its serialised field names are stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Names that were removed.
    pub names: Vec<String>,
    /// Ids of images that are gone.
    pub images: Vec<String>,
    /// Steps of Dockerfiles that were forgotten, and are run again by the next build.
    pub steps: usize,
    /// Folders of `RUN --mount=type=cache` that were removed.
    pub caches: usize,
    /// Bytes that are free on the disk.
    pub bytes: u64,
    /// Bytes that nothing needs and that are left until they are a day old: another program may be writing an image.
    pub waiting: u64,
}

/// What of the store is to go.
#[derive(Debug, Clone, Copy)]
pub struct PruneOptions {
    /// Now.
    pub now: SystemTime,
    /// What builds made goes when nobody asked for it for so long.
    pub older: Duration,
    /// What builds keep to be faster goes, too: steps of Dockerfiles, folders of `RUN --mount=type=cache`.
    pub all: bool,
}

/// What a prune means for an image. Its serialised field names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneDecision {
    /// Its names, or its id.
    pub image: String,
    /// Whether it goes.
    pub goes: bool,
    /// Why it goes or stays.
    pub why: String,
    /// Bytes on the disk of those of its layers that no other image before it in the list has, and nothing that stays.
    pub bytes: u64,
    #[serde(skip)]
    pub(crate) id: Sha256,
    #[serde(skip)]
    pub(crate) named: bool,
}

/// What a prune would do. Its serialised field names are stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// Every image that can be read.
    pub images: Vec<PruneDecision>,
    /// Steps of Dockerfiles that would be forgotten.
    pub steps: usize,
    /// Folders of `RUN --mount=type=cache` that would be removed.
    pub caches: usize,
    /// Bytes that would be free at least.
    pub bytes: u64,
}

impl Engine {
    /// Every image of the store, those without a name too.
    ///
    /// # Errors
    /// The store cannot be read, or the engine is a daemon.
    pub fn every_image(&self) -> Pending<'_, Result<Vec<ImageInfo>>> {
        match &self.0 {
            Within::Embedded(session) => Box::pin(session.every_image()),
            Within::Docker(_) => self.no_store(),
        }
    }

    /// What of the store could not be read when it was opened, in sentences.
    pub fn passed_over(&self) -> Vec<String> {
        match &self.0 {
            Within::Embedded(session) => session.passed_over().to_vec(),
            Within::Docker(_) => Vec::new(),
        }
    }

    /// What of the store cannot be read, in sentences; nothing of a daemon's.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub fn problems(&self) -> Pending<'_, Result<Vec<String>>> {
        match &self.0 {
            Within::Embedded(session) => Box::pin(session.problems()),
            Within::Docker(_) => Box::pin(std::future::ready(Ok(Vec::new()))),
        }
    }

    /// Removes a name, and with the last one, or by its id, the image. One that cannot be read goes by its name.
    ///
    /// # Errors
    /// There is no such image, or the engine is a daemon.
    pub fn take_out<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Freed>> {
        match &self.0 {
            Within::Embedded(session) => Box::pin(session.take_out(reference)),
            Within::Docker(_) => self.no_store(),
        }
    }

    /// What [`Engine::prune`] would remove, and why the rest stays.
    ///
    /// # Errors
    /// The store cannot be read, or the engine is a daemon.
    pub fn prune_plan(&self, options: PruneOptions) -> Pending<'_, Result<PrunePlan>> {
        match &self.0 {
            Within::Embedded(session) => Box::pin(session.prune_plan(options)),
            Within::Docker(_) => self.no_store(),
        }
    }

    /// Removes images without a name, those that builds made and nobody asked for of late, and what nothing needs; with
    /// `all`, what builds keep to be faster, too. Nothing goes that a container uses.
    ///
    /// # Errors
    /// Something cannot be removed, or the engine is a daemon.
    pub fn prune(&self, options: PruneOptions) -> Pending<'_, Result<Freed>> {
        match &self.0 {
            Within::Embedded(session) => Box::pin(session.prune(options)),
            Within::Docker(_) => self.no_store(),
        }
    }

    fn no_store<T: Send + 'static>(&self) -> Pending<'_, Result<T>> {
        let program = self.kind().to_string();
        let error = Error::new(Class::Usage, format!("the images of {program} are its own"))
            .hint(format!("use {program} itself: `{program} image ls`, `{program} image rm`; builder images of a month ago go with `{program} image prune --all --filter label=twostage.builder=true --filter until=720h`"));
        Box::pin(std::future::ready(Err(error)))
    }
}

//! A Dockerfile executed, without the engine's own builder: in one pass into one layer above its base ([`Job`]), or into a
//! layer for each step (`layered.rs`, which is how [`crate::Engine::build`] works where an engine has no builder).
//!
//! ```text
//! Dockerfile ─► ready.rs: every step of every needed stage, before anything is done
//!                  │
//!  context.rs ─────┼─► stage.rs: a container, and what steps do to it ─┬─► commit ─► image.rs: its difference from the base, one layer
//!  origin.rs       │      files.rs: the tars that are put into it      └─► layered.rs: its changes so far, a layer with a key
//!  pattern.rs      │      spot.rs:  where paths lead in it
//!  fetch.rs        │      (address.rs: what URLs may lead to)
//! ```
//!
//! Nothing runs in a container but RUN: files are put into it while it is stopped, so no command can move a path
//! under them.

mod address;
mod context;
mod fetch;
mod files;
mod image;
mod known;
pub(crate) mod layered;
mod mounted;
mod origin;
mod pattern;
pub mod ready;
mod spot;
mod stage;

use crate::dockerfile::state::RunStep;
use crate::dockerfile::{At, Base, Mount, Origin, Plan, Step};
use crate::{Attach, Container, Engine, Hold, LastLines, Network};
use mounted::{Given, Mounted};
use ready::{Ready, Root};
use stage::{From, Sees, Stage};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use twostage_model::{Class, Error, Result, Sha256, Sink};

pub use address::Destinations;
pub use context::Context;
pub use fetch::Remote;
pub(crate) use files::entry as member;
pub use image::Image;

/// What images that a run needs for itself are called, with a tag of its own.
pub const TEMPORARY: &str = "twostage-compile";
/// Lines of a failed command that its error shows.
const LAST_LINES: usize = 20;
/// The name of the machine that a RUN sees: BuildKit's, so that what writes it down writes the same each time.
const HOSTNAME: &str = "buildkitsandbox";

/// A Dockerfile that is being compiled.
pub struct Job<'f> {
    /// What runs the containers; every container that it makes should have a label of the run.
    pub engine: Engine,
    /// The file.
    pub plan: &'f Plan<'f>,
    /// Where COPY takes files from.
    pub context: Arc<Context>,
    /// Other folders that it may take files from, by their names.
    pub folders: BTreeMap<String, Arc<Context>>,
    /// Images that were put into the engine for this run only.
    pub images: Vec<String>,
    /// What ADD names by a URL.
    pub remote: Remote,
    /// What every RUN can reach.
    pub network: Network,
    /// The files of secrets, by their names.
    pub secrets: BTreeMap<String, PathBuf>,
    /// The sockets of SSH agents, by their names.
    pub agents: BTreeMap<String, PathBuf>,
    /// What tells this run's leftovers from others'.
    pub id: String,
    /// Who is told what happens.
    pub events: Sink,
    /// What the events are about.
    pub subject: String,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// The time, in seconds since 1970.
    pub now: i64,
}

/// The containers of a run.
#[derive(Default)]
struct Containers {
    stages: BTreeMap<usize, Stage>,
    images: BTreeMap<String, Container>,
}

impl Job<'_> {
    /// Executes the stages and makes the image of the last one.
    ///
    /// # Errors
    /// A step cannot be done, with its line; then the containers are being removed.
    pub async fn build(&self, stages: &[Ready<'_>], name: Option<String>) -> Result<Image> {
        let mut containers = Containers::default();
        for ready in stages {
            let image = self.start(ready).await?;
            let hold = Hold { image: &image, hostname: Some(HOSTNAME), network: self.network };
            let container = self.engine.hold(hold).await.map_err(|error| named(ready.at, error))?;
            let stage = Stage { container };
            for (located, step) in &ready.steps {
                self.step(&mut containers, &stage, &located.at, &located.source, step).await?;
            }
            let last = stages.last().is_some_and(|last| last.index == ready.index);
            let is_wanted = stages.iter().any(|other| other.starts_from(ready.index));
            if last || is_wanted {
                let name = self.temporary(ready.index);
                stage.container.commit(&name, &[]).await.map_err(|error| named(ready.at, error))?;
            }
            containers.stages.insert(ready.index, stage);
        }
        let Some(target) = stages.last() else {
            return Err(Error::new(Class::Project, "the Dockerfile has no stage"));
        };
        // They are removed while the image is made; whoever settles the engine waits for that.
        drop(containers);
        self.events.started(&self.subject, "making one layer of it");
        self.image(target, name).await
    }

    async fn step(&self, containers: &mut Containers, stage: &Stage, at: &At, source: &str, step: &Step) -> Result<()> {
        if *step == Step::Configuration {
            return Ok(());
        }
        let shown: String = source.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.events.started(&self.subject, &format!("line {}: {shown}", at.line));
        let origin = match step {
            Step::Copy(copy) => &copy.origin,
            _ => &Origin::Scratch,
        };
        if let Origin::Image(image) = origin
            && !containers.images.contains_key(image)
        {
            let container = self.engine.create(image).await.map_err(|error| named(at, error))?;
            containers.images.insert(image.clone(), container);
        }
        let from = match origin {
            Origin::Context | Origin::Folder(_) => self.folder(origin).map_or(From::Nothing, From::Context),
            Origin::Stage(index) => containers.stages.get(index).map_or(From::Nothing, |stage| From::Container(&stage.container)),
            Origin::Image(image) => containers.images.get(image).map_or(From::Nothing, From::Container),
            Origin::Scratch => From::Nothing,
        };
        let now = self.epoch.unwrap_or(self.now);
        match step {
            Step::Configuration => Ok(()),
            Step::Workdir { path, user } => stage.folder(path, user, now).await.map_err(|error| named(at, error)),
            Step::Copy(copy) => stage.copy(copy, from, &self.remote, now).await.map_err(|error| named(at, error)),
            Step::Run(run) => self.run(stage, at, run, now).await,
        }
    }

    /// The folder of this machine that files come from, if they do.
    fn folder(&self, origin: &Origin) -> Option<&Arc<Context>> {
        match origin {
            Origin::Context => Some(&self.context),
            Origin::Folder(name) => self.folders.get(name),
            Origin::Stage(_) | Origin::Image(_) | Origin::Scratch => None,
        }
    }

    /// What a mount shows: files of a container that is there only for it, so that what is written there is dropped.
    async fn mounted(&self, at: &At, mount: &Mount) -> Result<Mounted> {
        let Some((origin, source)) = mounted::origin(mount) else {
            return Mounted::given(mount, Given { secrets: &self.secrets, agents: &self.agents }).await;
        };
        let name = match origin {
            Origin::Stage(index) => self.temporary(*index),
            Origin::Image(name) => name.clone(),
            Origin::Context | Origin::Folder(_) | Origin::Scratch => self.empty(at, self.start_name(self.plan.stages.len())).await?,
        };
        let container = self.engine.create(&name).await?;
        match self.folder(origin) {
            Some(context) => Mounted::context(container, context, source).await,
            None => Mounted::files(container, source).await,
        }
    }

    async fn run(&self, stage: &Stage, at: &At, run: &RunStep, now: i64) -> Result<()> {
        let mut mounted = Vec::new();
        for mount in &run.mounts {
            mounted.push(self.mounted(at, mount).await.map_err(|error| named(at, error))?);
        }
        let mounts: Vec<Attach<'_>> = run.mounts.iter().zip(&mounted).filter_map(|(mount, mounted)| mounted.attach(mount)).collect();
        let network = known::network(run, self.network);
        let secrets: Vec<_> = run.mounts.iter().zip(&mounted).filter_map(|(mount, mounted)| mounted.variable(mount)).collect();
        let sees = Sees { mounts: &mounts, secrets: &secrets, network: (network != self.network).then_some(network) };
        let mut last = LastLines::default();
        let mut on_line = |line: &str| {
            last.push(line);
            self.events.log(&self.subject, line);
        };
        let code = stage.run(run, sees, now, &mut on_line).await.map_err(|error| {
            let error = named(at, error);
            let hint =
                "a stage with RUN needs /bin/sh in its base, or from a COPY before the first RUN; the command itself must be there, too";
            if error.hint_text().is_some() { error } else { error.hint(hint) }
        })?;
        if code != 0 {
            let said = last.text(LAST_LINES);
            let failed = Error::new(Class::Build, format!("Dockerfile {at}: the command ended with {code}"));
            let hint = run_hint(code, &said);
            let failed = if said.is_empty() { failed } else { failed.because(said) };
            return Err(failed.hint(hint));
        }
        Ok(())
    }

    /// The image that a stage's container is made of.
    async fn start(&self, ready: &Ready<'_>) -> Result<String> {
        match (&ready.base, &ready.root) {
            (Base::Stage(index), _) => Ok(self.temporary(*index)),
            (_, Root { image: None, .. }) => self.empty(ready.at, self.start_name(ready.index)).await,
            (_, Root { image: Some(image), volumes: true, .. }) => self.without_volumes(ready, image).await,
            (_, Root { image: Some(image), .. }) => Ok(image.clone()),
        }
    }

    /// What the commit of a stage is called.
    fn temporary(&self, stage: usize) -> String {
        format!("{TEMPORARY}:{}-{stage}", self.id)
    }

    /// What a stage's own start is called, where its base cannot be used as it is.
    fn start_name(&self, stage: usize) -> String {
        format!("{TEMPORARY}:{}-{stage}-start", self.id)
    }

    /// Removes the images that a run, this one or one that was killed, needed for itself.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn clear(&self) -> Result<()> {
        // A later stage may start from an earlier one.
        for stage in (0..=self.plan.stages.len()).rev() {
            for name in [self.temporary(stage), self.start_name(stage)] {
                self.forget(&name).await?;
            }
        }
        for name in &self.images {
            self.forget(name).await?;
        }
        Ok(())
    }

    async fn forget(&self, image: &str) -> Result<()> {
        match self.engine.image(image).await? {
            Some(_) => self.engine.remove_image(image).await,
            None => Ok(()),
        }
    }
}

/// What tells the leftovers of runs of one Dockerfile on this machine from all others.
pub fn id(dockerfile: &std::path::Path) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Sha256::of(format!("{} {}", host.trim(), dockerfile.display()).as_bytes()).short()
}

/// An error with the line that it is about.
fn named(at: &At, error: Error) -> Error {
    let named = Error::new(error.class(), format!("Dockerfile {at}: {}", error.what()));
    let causes = error.causes();
    let named = if causes.is_empty() { named } else { named.because(causes.join(": ")) };
    match error.hint_text() {
        Some(hint) => named.hint(hint),
        None => named,
    }
}

/// What to do about a command that ended with a status. A shell, or whoever starts programs, says with 127 that one is not
/// there and with 126 that it cannot be run.
fn run_hint(code: i64, said: &str) -> &'static str {
    match code {
        126 | 127 if said.contains("exec") && said.contains("/bin/sh") => {
            "the image has no shell: write RUN [\"/PROGRAM\", \"ARGUMENT\"], start from a base that has one, or COPY one in"
        }
        125 | 126 if said.contains("unable to find user") => {
            "make the user in a RUN before, or correct its USER: a number has to be below 2147483648"
        }
        127 if said.contains("chdir to cwd") => "make the folder in a RUN before, or correct its WORKDIR",
        126 | 127 => "a program that it names is not in the image, or cannot be run there: correct the name, or install it in a RUN before",
        _ => "`-v` shows all that the command says; nothing was left in the engine",
    }
}

#[cfg(test)]
mod tests {
    use super::run_hint;

    #[test]
    fn a_program_that_is_not_there_is_another_mistake_than_one_that_fails() {
        let runc = "unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory";
        assert!(run_hint(127, runc).contains("no shell") && run_hint(126, runc).contains("no shell"));
        assert!(run_hint(127, "/bin/sh: 1: gcc: not found").contains("install it"));
        for status in [125, 126] {
            assert!(run_hint(status, "unable to find user 4294967295: no matching entries in passwd file").contains("USER"));
        }
        assert!(run_hint(127, "chdir to cwd (\"/proc/x\") failed: no such file or directory").contains("WORKDIR"));
        assert!(run_hint(42, "the reason").contains("-v"));
    }
}

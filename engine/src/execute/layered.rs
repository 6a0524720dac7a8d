//! A Dockerfile built as Docker builds it: each step that can change files is a layer, and one whose result is known is
//! not done again.
//!
//! ```text
//! tar ─► Context ─► Dockerfile ─► plan ─► steps of each needed stage
//!                                           │ key ─► known: its layer
//!                                           └──────► else: a container over the layers so far, the step, freeze ─► its layer
//! ```
//!
//! The key of a step is a digest of the layers below, of the step as it is planned, and of what it takes in. What
//! differs from Docker's builders:
//!
//! - Times that a build would choose are those of the layers below, else `SOURCE_DATE_EPOCH` or 1970, so that the same
//!   input gives the same image. Those that a RUN leaves are as they are without `SOURCE_DATE_EPOCH`.
//! - A mount of another stage or image counts by the layers there, not by what is in it.
//! - Stages are built one after another, and only those that are needed (the classic builder builds all).
//! - A `.dockerignore` in the tar counts; Docker's client reads it, and its API does not.

use super::context::Context;
use super::fetch::Remote;
use super::known;
use super::mounted::{self, Given, Mounted};
use super::ready::{self, Ready};
use super::stage::{self, From, Sees, Stage, Wanted};
use super::{HOSTNAME, LAST_LINES};
use crate::dockerfile::config::{History, ImageConfig};
use crate::dockerfile::state::{CopyStep, RunStep};
use crate::dockerfile::{At, Base, Dockerfile, MAX_BYTES, Mount, Options, Origin, Plan, Step, values};
use crate::reference::Reference;
use crate::{Attach, Build, Container, Engine, LastLines, Network, Pending, blocking};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use twostage_model::event::Event;
use twostage_model::{Class, Error, Result, Sha256, Sink, date};

/// Part of every key: what is kept under keys of another meaning is not found.
const VERSION: u32 = 1;
/// The build argument that is also the time of the image (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Bytes of a command line or step that an error shows, about.
const SHOWN: usize = 120;

/// Which times of a layer's files are none that the same input would give again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// These, and all later ones.
    pub since: i64,
    /// What they become, where the layers below have no such folder.
    pub becomes: i64,
}

/// What an engine offers whose images are built here.
pub(crate) trait Layers: Send + Sync {
    /// The engine.
    fn engine(&self) -> Engine;
    /// A container over these layers, in which nothing runs.
    fn begin<'a>(&'a self, layers: &'a [Sha256], hostname: &'a str, network: Network) -> Pending<'a, Result<Container>>;
    /// Makes what has changed in a container since it began, or was frozen, a layer, an empty one if nothing has. The
    /// container goes on above it.
    fn freeze<'a>(&'a self, container: &'a Container, times: Option<Times>) -> Pending<'a, Result<Sha256>>;
    /// The highest of the layers that were kept under a key.
    fn cached<'a>(&'a self, key: &'a Sha256) -> Pending<'a, Result<Option<Sha256>>>;
    /// Keeps layers, lowest first, under a key.
    fn keep<'a>(&'a self, key: &'a Sha256, layers: &'a [Sha256]) -> Pending<'a, Result<()>>;
    /// The history of an image.
    fn history<'a>(&'a self, image: &'a str) -> Pending<'a, Result<Vec<History>>>;
    /// Makes an image; its layers are in its configuration. Gives its id.
    fn image<'a>(&'a self, config: &'a ImageConfig, tag: Option<&'a str>) -> Pending<'a, Result<String>>;
}

/// Builds a Dockerfile and gives the image's id; `on_line` gets a log like the classic builder's.
///
/// # Errors
/// As [`Engine::build`].
pub(crate) async fn build(layers: &dyn Layers, build: Build<'_>, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<String> {
    let name = match build.tag {
        Some(tag) => {
            let reference = Reference::parse(tag)?;
            Some(format!("{}:{}", reference.repository, reference.writable_tag()?))
        }
        None => None,
    };
    let subject = name.as_deref().unwrap_or(build.dockerfile).to_string();
    let refused = |error: Error| about(&format!("cannot build {subject}"), error);

    let path = values::join("/", build.dockerfile);
    let (tar, within) = (build.context, path.clone());
    let (context, text) = blocking(move || {
        let context = Context::packed(tar, &within)?;
        let text = context.bytes(&within, MAX_BYTES as u64)?;
        Ok((context, text))
    })
    .await
    .map_err(refused)?;
    let text = text.ok_or_else(|| {
        refused(
            Error::new(Class::Project, format!("there is no {} in its context", build.dockerfile))
                .hint("name the Dockerfile that is there"),
        )
    })?;
    let file = Dockerfile::parse(&text).map_err(refused)?;
    let engine = layers.engine();
    let platform = ready::platform(&engine);
    let options = Options { build_args: build.build_args.clone(), target: platform.clone(), build: platform, ..Options::default() };
    let plan = file.plan(options).map_err(refused)?;
    for warning in file.warnings.iter().chain(&plan.unused_arguments()) {
        let place = if warning.line == 0 { String::new() } else { format!("Dockerfile line {}: ", warning.line) };
        on_line(&format!("[Warning] {place}{}", warning.what));
    }
    let target = plan.stages.len().saturating_sub(1);
    let notes = Arc::new(Mutex::new(Vec::new()));
    let prepared = ready::prepare(&engine, &plan, target, &told(&notes), &|at, step| ready::check(at, step, build.network)).await;
    for note in std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner)) {
        on_line(&note);
    }
    let stages = prepared.map_err(refused)?;

    let remote = Remote::through(plan.options.proxies(), engine.destinations(build.network));
    let building = Building {
        layers,
        engine,
        context: Arc::new(context),
        remote,
        network: build.network,
        no_cache: build.no_cache,
        given: Given { secrets: build.secrets, agents: build.agents },
        epoch: epoch(build.build_args).map_err(refused)?,
        started: date::now(),
        subject: &subject,
        total: stages.iter().map(|ready| 1 + ready.steps.len()).sum(),
    };
    let below = building.stages(&plan, &stages, on_line).await?;
    let target = stages.into_iter().next_back().ok_or_else(|| refused(Error::new(Class::Project, "the Dockerfile has no stage")))?;
    let id = building.image(target, &below, build.labels, name.as_deref()).await.map_err(refused)?;
    on_line(&format!("Successfully built {}", short(&id)));
    if let Some(name) = &name {
        on_line(&format!("Successfully tagged {name}"));
    }
    Ok(id)
}

/// A sink that keeps what is said.
fn told(notes: &Arc<Mutex<Vec<String>>>) -> Sink {
    let notes = Arc::clone(notes);
    Sink::new(move |event| {
        let said = match event {
            Event::Note { message, .. } => format!("[Warning] {message}"),
            Event::Log { line, .. } => line,
            _ => return,
        };
        notes.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    })
}

fn epoch(build_args: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let parse = |text: &String| {
        text.parse().ok().filter(|time| *time >= 0).ok_or_else(|| {
            Error::new(Class::Usage, format!("the build argument {EPOCH}={text} is no time")).hint("write seconds since 1970")
        })
    };
    build_args.get(EPOCH).filter(|text| !text.is_empty()).map(parse).transpose()
}

struct Building<'b> {
    layers: &'b dyn Layers,
    engine: Engine,
    context: Arc<Context>,
    remote: Remote,
    network: Network,
    no_cache: bool,
    given: Given<'b>,
    epoch: Option<i64>,
    started: i64,
    subject: &'b str,
    total: usize,
}

/// A stage so far.
struct Growing {
    layers: Vec<Sha256>,
    /// A container over these layers, once one was needed.
    open: Option<Stage>,
}

/// What became of a step.
enum Outcome {
    /// It changes no files.
    Nothing,
    /// Its layer was there.
    Cached,
    /// Its layer was made.
    Made,
    /// Its command failed.
    Failed { code: i64, last: String },
}

/// The layers of each stage that is built.
type Stages = BTreeMap<usize, Vec<Sha256>>;

impl Building<'_> {
    /// Builds the stages; gives the layers of the last one.
    async fn stages(&self, plan: &Plan<'_>, stages: &[Ready<'_>], on_line: &mut (dyn FnMut(&str) + Send)) -> Result<Vec<Sha256>> {
        let mut built = Stages::new();
        let mut number = 0;
        let mut highest = Vec::new();
        for ready in stages {
            number += 1;
            on_line(&format!("Step {number}/{} : {}", self.total, from_line(plan, ready)));
            let layers = match &ready.base {
                Base::Stage(base) => built.get(base).cloned().unwrap_or_default(),
                Base::Image(_) | Base::Scratch => ready.root.layers.clone(),
            };
            on_line(&shown(&layers));
            let mut growing = Growing { layers, open: None };
            for (located, step) in &ready.steps {
                number += 1;
                let source: String = located.source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                on_line(&format!("Step {number}/{} : {source}", self.total));
                let step_name = || format!("{number}/{}, {}", self.total, crate::docker::shorten(&source, SHOWN));
                match self.step(&mut growing, &built, step, on_line).await {
                    Ok(Outcome::Nothing | Outcome::Made) => {}
                    Ok(Outcome::Cached) => on_line(" ---> Using cache"),
                    Ok(Outcome::Failed { code, last }) => return Err(self.failed(&step_name(), step, code, &last)),
                    Err(error) => return Err(self.stopped(&step_name(), &located.at, error)),
                }
                on_line(&shown(&growing.layers));
            }
            highest.clone_from(&growing.layers);
            built.insert(ready.index, growing.layers);
        }
        Ok(highest)
    }

    /// A step that could not be done: what is wrong in the file or its context fails the build, as a command does.
    fn stopped(&self, step_name: &str, at: &At, error: Error) -> Error {
        let class = if error.class() == Class::Project { Class::Build } else { error.class() };
        let told = Error::new(class, format!("the build of {} failed at step {step_name}", self.subject));
        let causes = std::iter::once(format!("Dockerfile {at}: {}", error.what())).chain(error.causes()).collect::<Vec<_>>();
        let told = told.because(causes.join(": "));
        match error.hint_text() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }

    /// In the words of the classic builder.
    fn failed(&self, step_name: &str, step: &Step, code: i64, last: &str) -> Error {
        let command = match step {
            Step::Run(run) => crate::docker::shorten(&run.argv.join(" "), SHOWN),
            _ => String::new(),
        };
        let message = format!("The command '{command}' returned a non-zero code: {code}");
        let message = if last.is_empty() { message } else { format!("{message}\n{last}") };
        Error::new(Class::Build, format!("the build of {} failed at step {step_name} (exit status {code})", self.subject)).because(message)
    }

    async fn step(&self, growing: &mut Growing, built: &Stages, step: &Step, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<Outcome> {
        match step {
            Step::Configuration => Ok(Outcome::Nothing),
            Step::Workdir { path, user } => {
                let key = self.key(growing, known::workdir(path, user));
                if self.found(growing, &key).await? {
                    return Ok(Outcome::Cached);
                }
                self.open(growing).await?.folder(path, user, self.now()).await?;
                self.freeze(growing, &[key], self.times()).await
            }
            Step::Copy(copy) => self.copy(growing, built, copy).await,
            Step::Run(run) => self.run(growing, built, run, on_line).await,
        }
    }

    async fn copy(&self, growing: &mut Growing, built: &Stages, copy: &CopyStep) -> Result<Outcome> {
        let planned = known::copy(copy);
        let mut keys = Vec::new();
        let container = match self.tree(built, &copy.origin).await? {
            None => None,
            // Where the layers there are the same, their files need not be read.
            Some(tree) => {
                let key = self.key(growing, json!([planned, tree]));
                if self.found(growing, &key).await? {
                    return Ok(Outcome::Cached);
                }
                keys.push(key);
                Some(self.begin(&tree).await?)
            }
        };
        let from = match (&container, &copy.origin) {
            (Some(container), _) => From::Container(container),
            (None, Origin::Scratch) => From::Nothing,
            (None, _) => From::Context(&self.context),
        };
        let content = stage::content(Wanted::of(copy), from, &self.remote).await?;
        let key = self.key(growing, json!([planned, content]));
        let found = self.found(growing, &key).await?;
        keys.push(key);
        if found {
            for key in &keys {
                self.layers.keep(key, &growing.layers).await?;
            }
            return Ok(Outcome::Cached);
        }
        self.open(growing).await?.copy(copy, from, &self.remote, self.now()).await?;
        self.freeze(growing, &keys, self.times()).await
    }

    async fn run(&self, growing: &mut Growing, built: &Stages, run: &RunStep, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<Outcome> {
        let network = known::network(run, self.network);
        let mut mounts = Vec::new();
        for mount in &run.mounts {
            let from = match mounted::origin(mount) {
                Some((Origin::Context, source)) => mounted::content(&self.context, source).await?,
                Some((origin, _)) => json!(self.tree(built, origin).await?),
                None => Value::Null,
            };
            mounts.push(known::mount(mount, &from));
        }
        // On a network of one's own a step makes what it made on the machine's: stores of before have it under that name.
        let keyed = if network == Network::Bridge { Network::Host } else { network };
        let key = self.key(growing, known::run(run, keyed, &mounts));
        if self.found(growing, &key).await? {
            return Ok(Outcome::Cached);
        }
        let mut mounted = Vec::new();
        for mount in &run.mounts {
            mounted.push(self.mounted(built, mount).await?);
        }
        let attached: Vec<Attach<'_>> = run.mounts.iter().zip(&mounted).filter_map(|(mount, mounted)| mounted.attach(mount)).collect();
        let mut last = LastLines::default();
        let mut each = |line: &str| {
            last.push(line);
            on_line(line);
        };
        let secrets: Vec<_> = run.mounts.iter().zip(&mounted).filter_map(|(mount, mounted)| mounted.variable(mount)).collect();
        let sees = Sees { mounts: &attached, secrets: &secrets, network: (network != self.network).then_some(network) };
        let code = self.open(growing).await?.run(run, sees, self.now(), &mut each).await?;
        if code != 0 {
            return Ok(Outcome::Failed { code, last: last.text(LAST_LINES) });
        }
        let times = self.epoch.map(|epoch| Times { since: epoch, becomes: epoch });
        self.freeze(growing, &[key], times).await
    }

    /// What a mount shows, ready to be mounted.
    async fn mounted(&self, built: &Stages, mount: &Mount) -> Result<Mounted> {
        match mounted::origin(mount) {
            Some((Origin::Context, source)) => Mounted::context(self.begin(&[]).await?, &self.context, source).await,
            Some((origin, source)) => {
                let tree = self.tree(built, origin).await?.unwrap_or_default();
                Mounted::files(self.begin(&tree).await?, source).await
            }
            None => Mounted::given(mount, self.given).await,
        }
    }

    /// The layers of a stage or image that files come from; none if they come from elsewhere.
    async fn tree(&self, built: &Stages, origin: &Origin) -> Result<Option<Vec<Sha256>>> {
        match origin {
            Origin::Stage(stage) => Ok(Some(built.get(stage).cloned().unwrap_or_default())),
            Origin::Image(name) => {
                let gone = || Error::new(Class::Engine, format!("the image {name} was removed meanwhile")).hint("try again");
                self.engine.image(name).await?.map(|image| Some(image.diff_ids)).ok_or_else(gone)
            }
            Origin::Context | Origin::Folder(_) | Origin::Scratch => Ok(None),
        }
    }

    fn key(&self, growing: &Growing, step: Value) -> Sha256 {
        Sha256::of(json!([VERSION, growing.layers, self.epoch, step]).to_string().as_bytes())
    }

    /// Goes on above the layer of a key, if there is one.
    async fn found(&self, growing: &mut Growing, key: &Sha256) -> Result<bool> {
        if self.no_cache {
            return Ok(false);
        }
        let Some(layer) = self.layers.cached(key).await? else { return Ok(false) };
        growing.layers.push(layer);
        growing.open = None;
        Ok(true)
    }

    async fn begin(&self, layers: &[Sha256]) -> Result<Container> {
        self.layers.begin(layers, HOSTNAME, self.network).await
    }

    async fn open<'g>(&self, growing: &'g mut Growing) -> Result<&'g Stage> {
        let stage = match growing.open.take() {
            Some(stage) => stage,
            None => Stage { container: self.begin(&growing.layers).await? },
        };
        Ok(growing.open.insert(stage))
    }

    async fn freeze(&self, growing: &mut Growing, keys: &[Sha256], times: Option<Times>) -> Result<Outcome> {
        if let Some(stage) = &growing.open {
            growing.layers.push(self.layers.freeze(&stage.container, times).await?);
            for key in keys {
                self.layers.keep(key, &growing.layers).await?;
            }
        }
        Ok(Outcome::Made)
    }

    /// The time of what is made here.
    fn now(&self) -> i64 {
        self.epoch.unwrap_or(0)
    }

    /// For a step that runs nothing.
    fn times(&self) -> Option<Times> {
        Some(Times { since: self.epoch.unwrap_or(self.started), becomes: self.now() })
    }

    async fn image(&self, target: Ready<'_>, layers: &[Sha256], labels: &BTreeMap<String, String>, tag: Option<&str>) -> Result<String> {
        let time = date::rfc3339(self.now());
        let mut config = target.state.image;
        let mut history = match &target.root.image {
            Some(image) => self.layers.history(image).await?,
            None => Vec::new(),
        };
        history.extend(config.history.into_iter().map(|step| History { created: Some(time.clone()), ..step }));
        config.history = history;
        config.created = Some(time);
        config.config.labels.extend(labels.clone());
        config.rootfs.diff_ids = layers.iter().map(|layer| format!("sha256:{layer}")).collect();
        self.layers.image(&config, tag).await
    }
}

/// The FROM of a stage, as it can be told from what was parsed.
fn from_line(plan: &Plan<'_>, ready: &Ready<'_>) -> String {
    let Some(planned) = plan.stages.get(ready.index) else { return String::new() };
    let platform = planned.stage.platform.as_ref().map_or(String::new(), |platform| format!("--platform={platform} "));
    let name = planned.stage.name.as_ref().map_or(String::new(), |name| format!(" AS {name}"));
    format!("FROM {platform}{}{name}", planned.stage.base)
}

/// The classic builder shows the image that a step made; here there is a layer.
fn shown(layers: &[Sha256]) -> String {
    layers.last().map_or_else(|| " --->".to_string(), |layer| format!(" ---> {}", layer.short()))
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

/// An error with what it was about.
fn about(what: &str, error: Error) -> Error {
    let causes = error.causes();
    let told = Error::new(error.class(), format!("{what}: {}", error.what()));
    let told = if causes.is_empty() { told } else { told.because(causes.join(": ")) };
    match error.hint_text() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

//! What runs containers: run, build, copy out, load, save.
//!
//! ```text
//! Engine::connect ─► image / pull / import / load      images come in
//!                 ─► build, run, create ─► Container   work is done
//!                 ─► Container::copy_out, save         results leave as tar streams
//! ```
//!
//! Callers see an [`Engine`] and never an engine's API: everything that knows Docker's is in
//! `docker/`, and what works without one in `embedded/`. Tar streams leave as plain [`std::io::Read`], so that the strict readers of
//! packages and layers stay synchronous; read them in `tokio::task::spawn_blocking`.

mod attached;
mod background;
mod container;
mod docker;
pub mod dockerfile;
mod embedded;
pub mod execute;
mod images;
mod keeping;
mod lines;
pub mod reach;
mod reference;
mod stream;
mod until;

pub use attached::{Attached, Size, Told};
pub use container::{Container, Refusal};
#[doc(hidden)]
pub use embedded::sandbox;
pub use images::{Saved, SavedAt, Write};
pub use keeping::{Freed, PruneDecision, PruneOptions, PrunePlan};
use lines::BothLines;
pub use lines::{LastLines, Piece};
pub use reach::{Probe, Reach};
pub use reference::Reference;
pub use stream::{ByteStream, PipeWriter, TarReader, file_stream, pipe};
pub use until::{ServerTrial, Tried};

use docker::debian_architecture;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tracing::{Instrument as _, debug_span};
use twostage_model::{Class, Error, Result, Sha256, Sink};

/// Work that is not done yet. Boxed, so that it is compiled here, once, and not again in every
/// crate that awaits it: an engine's client is most of what there is to compile.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs something that blocks (hashing, parsing, disk) off the event loop.
///
/// # Errors
/// What `work` returns, or that its thread ended early.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(cause) => Err(twostage_model::Error::new(twostage_model::Class::System, "a worker thread ended early").because(cause)),
    }
}

/// A connection to what runs containers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(Within);

/// What an engine is.
#[derive(Clone, Debug)]
enum Within {
    Docker(docker::Session),
    Embedded(embedded::Session),
}

/// Asks whichever engine it is.
macro_rules! ask {
    ($engine:expr, $session:ident => $question:expr) => {
        match &$engine.0 {
            Within::Docker($session) => Box::pin($question),
            Within::Embedded($session) => Box::pin($question),
        }
    };
}

/// Takes the place of this program where it was started to set up a container. Call it first in `main`, before there
/// are threads.
pub fn enter_sandbox() {
    embedded::sandbox::enter();
}

/// The folder that the embedded engine keeps its images in, where nobody names another; it may not be there yet.
///
/// # Errors
/// The environment names none, and says of no folder of this user.
pub fn store_folder() -> Result<PathBuf> {
    embedded::usual_place()
}

/// Brings images from registries, for an engine that reaches none itself.
pub trait Fetch: fmt::Debug + Send + Sync {
    /// The image of that name for this machine.
    ///
    /// # Errors
    /// No registry answers, or it has no such image, or not the one that its digest says.
    fn fetch<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Fetched>>;
}

/// What [`Fetch::fetch`] brought.
#[derive(Debug)]
pub struct Fetched {
    /// An OCI layout of one image.
    pub layout: tempfile::TempDir,
    /// What the registry calls it: the digest of its manifest, or of the index that lists it.
    pub digest: Sha256,
}

/// Where an engine that keeps its images as files has one: in an OCI layout, which others may read and nobody but the
/// engine may write.
#[derive(Debug, Clone)]
pub struct Location {
    /// The layout.
    pub layout: PathBuf,
    /// The digest of the image's manifest, a blob of it.
    pub manifest: Sha256,
    /// The digest of the image's configuration, its id.
    pub id: Sha256,
    /// Digests of its layers, plain tars, lowest first.
    pub layers: Vec<Sha256>,
}

/// What engines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `dockerd`.
    Docker,
    /// `podman system service`.
    Podman,
    /// This program itself.
    Embedded,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
            Kind::Embedded => "embedded",
        })
    }
}

/// An image as its engine describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The engine's id, `sha256:…`: the digest of the image's config.
    pub id: String,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Sha256>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Debian's name of the architecture: `amd64`, `arm64`, `armhf`.
    pub architecture: String,
    /// Bytes of all layers, uncompressed, as the engine counts them.
    pub size: i64,
    /// `name@sha256:…` as registries know it; empty for an image that no registry gave.
    pub repo_digests: Vec<String>,
    /// `name:tag`, all of them.
    pub tags: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// The user, empty for root.
    pub user: String,
    /// The working directory, empty for `/`.
    pub workdir: String,
}

/// What a container can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The network of the machine that the engine runs on.
    Host,
    /// The engine's own network. A container of the embedded engine has one for itself.
    Bridge,
    /// Nothing.
    None,
}

impl Network {
    /// The engine's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Network::Host => "host",
            Network::Bridge => "bridge",
            Network::None => "none",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

static NO_WORDS: BTreeMap<String, String> = BTreeMap::new();
static NO_FILES: BTreeMap<String, PathBuf> = BTreeMap::new();

/// A build of a Dockerfile.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// The build context, a tar. It holds the Dockerfile.
    pub context: Vec<u8>,
    /// Path of the Dockerfile in the context.
    pub dockerfile: &'a str,
    /// The tag that the image gets when every step succeeded.
    pub tag: Option<&'a str>,
    /// Build arguments. `http_proxy` and its kin need no `ARG` and leave no trace in the image.
    pub build_args: &'a BTreeMap<String, String>,
    /// What the RUN steps can reach.
    pub network: Network,
    /// Takes no step from the engine's cache.
    pub no_cache: bool,
    /// Labels that the image gets.
    pub labels: &'a BTreeMap<String, String>,
    /// Files that a `RUN --mount=type=secret` sees, by its id. The builders of Docker and Podman have no such mounts.
    pub secrets: &'a BTreeMap<String, PathBuf>,
    /// Sockets of SSH agents that a `RUN --mount=type=ssh` may use, by its id, which is `default` where it has none.
    pub agents: &'a BTreeMap<String, PathBuf>,
}

impl<'a> Build<'a> {
    /// A build without arguments, tag or labels, on the bridge network.
    pub fn new(context: Vec<u8>, dockerfile: &'a str) -> Self {
        Build {
            context,
            dockerfile,
            tag: None,
            build_args: &NO_WORDS,
            network: Network::Bridge,
            no_cache: false,
            labels: &NO_WORDS,
            secrets: &NO_FILES,
            agents: &NO_FILES,
        }
    }
}

/// A command in a container of an image. The image's entrypoint is not used.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Image reference or id.
    pub image: &'a str,
    /// Program and arguments.
    pub cmd: &'a [String],
    /// Environment, over the image's.
    pub env: &'a [(String, String)],
    /// Host name; none means the engine's choice. On the host's network it counts too.
    pub hostname: Option<&'a str>,
    /// `name`, `uid` or `uid:gid`; none means the image's.
    pub user: Option<&'a str>,
    /// Working directory; none means the image's.
    pub workdir: Option<&'a str>,
    /// What it can reach.
    pub network: Network,
    /// Labels of the container, for [`Engine::sweep`], besides those of [`Engine::labelled`].
    pub labels: &'a BTreeMap<String, String>,
    /// A tar that is unpacked into the container before it starts, from its start.
    pub input: Option<&'a File>,
    /// Sockets of this machine, each with the port of the container that its connections lead to. Only for the embedded
    /// engine, and where the container has a network of its own.
    pub ports: &'a [(std::net::TcpListener, u16)],
    /// What else it sees. Only for the embedded engine.
    pub mounts: &'a [Attach<'a>],
    /// Somebody who is attached to it. Only for the embedded engine.
    pub attached: Option<&'a Attached>,
    /// After this long the container is killed and the run fails.
    pub timeout: Option<Duration>,
}

impl<'a> Run<'a> {
    /// A run as the image's user, on the bridge network, without a time limit.
    pub fn new(image: &'a str, cmd: &'a [String]) -> Self {
        Run {
            image,
            cmd,
            env: &[],
            hostname: None,
            user: None,
            workdir: None,
            network: Network::Bridge,
            labels: &NO_WORDS,
            input: None,
            ports: &[],
            mounts: &[],
            attached: None,
            timeout: None,
        }
    }
}

/// A container that is there for a stage of a Dockerfile; nothing runs in it but what [`Container::exec`] runs.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    /// Image reference or id.
    pub image: &'a str,
    /// Host name; none means the engine's choice.
    pub hostname: Option<&'a str>,
    /// What its commands can reach.
    pub network: Network,
}

/// A command in a container of [`Engine::hold`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Exec<'a> {
    /// Program and arguments.
    pub cmd: &'a [String],
    /// Environment, over the image's.
    pub env: &'a [(String, String)],
    /// `name`, `uid` or `uid:gid`; empty means root.
    pub user: &'a str,
    /// Working directory, which must be there; empty means `/`.
    pub workdir: &'a str,
    /// Path and text of a program that only this command sees, in `/dev/pipes`.
    pub script: Option<(&'a str, &'a str)>,
    /// What else only this command sees, mounted in this order. Docker and Podman can add none to a container.
    pub mounts: &'a [Attach<'a>],
    /// What it can reach, where that is not what its container can. Docker and Podman cannot do that.
    pub network: Option<Network>,
    /// As [`Run::ports`].
    pub ports: &'a [(std::net::TcpListener, u16)],
    /// As [`Run::attached`].
    pub attached: Option<&'a Attached>,
}

/// Something that only one command sees, and that is in no layer.
#[derive(Debug, Clone, Copy)]
pub enum Attach<'a> {
    /// Files of another container, in which nothing runs.
    Files {
        /// The container.
        of: &'a Container,
        /// Absolute there, links followed.
        path: &'a str,
        /// Absolute.
        target: &'a str,
        /// They cannot be written.
        read_only: bool,
    },
    /// A file or folder of this machine.
    Machine {
        /// The file or folder.
        source: &'a Path,
        /// Absolute.
        target: &'a str,
        /// It cannot be written.
        read_only: bool,
    },
    /// A folder of the engine that stays from one command to the next.
    Cache {
        /// Which one.
        id: &'a str,
        /// What two commands do that want it at the same time.
        sharing: dockerfile::mount::Sharing,
        /// Absolute.
        target: &'a str,
        /// It cannot be written.
        read_only: bool,
        /// Mode and owner of a new one.
        owner: dockerfile::mount::Owner,
    },
    /// Memory.
    Tmpfs {
        /// Absolute.
        target: &'a str,
        /// Bytes at most; nothing means the engine's limit.
        size: Option<u64>,
    },
    /// A file that is nowhere but in memory.
    Secret {
        /// What is in it.
        bytes: &'a [u8],
        /// Absolute.
        target: &'a str,
        /// Its mode and owner.
        owner: dockerfile::mount::Owner,
    },
    /// A socket behind which an SSH agent lists its keys and signs; it does nothing else.
    Agent {
        /// The agent's own socket.
        agent: &'a std::path::Path,
        /// Absolute.
        target: &'a str,
        /// Its mode and owner.
        owner: dockerfile::mount::Owner,
    },
}

/// What is at a path of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// It is a folder.
    pub folder: bool,
    /// It is a symbolic link, and leads here: an absolute path within the container.
    pub link: Option<String>,
}

impl Engine {
    /// Connects to `host` (`unix:///path`, a path, or `tcp://host:port`), else to where `kind`
    /// listens: Docker at `DOCKER_HOST` or `/var/run/docker.sock`, Podman at `CONTAINER_HOST` or the
    /// `podman.sock` of the user or of the machine. Without a `kind` Docker is looked for first, and where neither
    /// answers, and nothing names an address, the embedded engine is it. `host` is then the folder of its images, else
    /// `TWOSTAGE_STORE`, `/var/lib/twostage` for root and `~/.local/share/twostage` for others.
    ///
    /// # Errors
    /// Nothing answers there, with every address that was tried and what to do; or the engine at
    /// `host` is of another kind.
    pub fn connect(kind: Option<Kind>, host: Option<&str>) -> Pending<'_, Result<Engine>> {
        Box::pin(async move {
            if kind == Some(Kind::Embedded) {
                return Engine::embedded(host.map(Path::new), None).await;
            }
            let unreachable = match docker::Session::connect(kind, host).await {
                Ok(session) => return Ok(Engine(Within::Docker(session))),
                Err(error) if kind.is_some() || host.is_some() || docker::is_named() => return Err(error),
                Err(error) => error,
            };
            let embedded = async {
                let session = embedded::Session::open(None, None).await?;
                session.try_out().await.map(|()| Engine(Within::Embedded(session)))
            };
            embedded.await.map_err(|error| {
                let reasons: Vec<String> =
                    [&unreachable, &error].into_iter().flat_map(|error| std::iter::once(error.to_string()).chain(error.causes())).collect();
                let hints: Vec<&str> = [&unreachable, &error].into_iter().filter_map(|error| error.hint_text()).collect();
                Error::new(Class::Engine, "there is no container engine, and the embedded one cannot work here")
                    .because(reasons.join("\n"))
                    .hint(hints.join("; or "))
            })
        })
    }

    /// [`Engine::connect`] to a daemon only: Docker, or Podman, or whichever of them answers.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub fn daemon(kind: Option<Kind>, host: Option<&str>) -> Pending<'_, Result<Engine>> {
        Box::pin(async move { docker::Session::connect(kind, host).await.map(|session| Engine(Within::Docker(session))) })
    }

    /// The embedded engine with its images in `folder`, else where they usually are. `program` sets up its containers:
    /// one whose `main` calls [`enter_sandbox`] first; else it is the one that runs.
    ///
    /// # Errors
    /// The machine allows it no containers, or nothing can be written in the folder.
    pub fn embedded(folder: Option<&Path>, program: Option<PathBuf>) -> Pending<'_, Result<Engine>> {
        Box::pin(async move { embedded::Session::open(folder, program).await.map(|session| Engine(Within::Embedded(session))) })
    }

    /// The same engine, but every container that it makes has these labels, for [`Engine::sweep`].
    #[must_use]
    pub fn labelled(&self, labels: BTreeMap<String, String>) -> Engine {
        Engine(match &self.0 {
            Within::Docker(session) => Within::Docker(session.labelled(labels)),
            Within::Embedded(session) => Within::Embedded(session.labelled(labels)),
        })
    }

    /// The same engine, whose containers have so many bytes of memory at most, and each of whose commands so much time.
    ///
    /// # Errors
    /// It is a daemon, which limits its containers itself (class `Usage`).
    pub fn limited(&self, memory: Option<u64>, time: Option<Duration>) -> Result<Engine> {
        match &self.0 {
            _ if memory.is_none() && time.is_none() => Ok(self.clone()),
            Within::Docker(_) => Err(Error::new(Class::Usage, format!("{} limits its containers itself", self.name()))
                .hint("limits are for the engine that needs no daemon: --engine embedded")),
            Within::Embedded(session) => Ok(Engine(Within::Embedded(session.limited(memory, time)))),
        }
    }

    /// The same engine, which pulls images with this where it reaches no registry itself.
    #[must_use]
    pub fn fetching(&self, fetch: std::sync::Arc<dyn Fetch>) -> Engine {
        match &self.0 {
            Within::Docker(_) => self.clone(),
            Within::Embedded(session) => Engine(Within::Embedded(session.fetching(fetch))),
        }
    }

    /// Where the engine is: what it listens at, or the folder of its images.
    pub fn address(&self) -> String {
        match &self.0 {
            Within::Docker(session) => session.address().to_string(),
            Within::Embedded(session) => session.root().display().to_string(),
        }
    }

    /// Where the engine has an image; none of an engine that keeps its images to itself.
    ///
    /// # Errors
    /// The engine keeps images as files, and has no such image.
    pub fn location<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Option<Location>>> {
        match &self.0 {
            Within::Docker(_) => Box::pin(std::future::ready(Ok(None))),
            Within::Embedded(session) => Box::pin(async move { session.location(reference).await.map(Some) }),
        }
    }

    /// Name and version for people: `docker 20.10.24`, `podman 4.3.1`, `embedded`.
    pub fn name(&self) -> String {
        match &self.0 {
            Within::Docker(session) => session.name().to_string(),
            Within::Embedded(session) => session.name().to_string(),
        }
    }

    /// What the engine cannot do on this machine, in a sentence, if people should know.
    pub fn cost(&self) -> Option<&'static str> {
        match &self.0 {
            Within::Docker(_) => None,
            Within::Embedded(session) => session.cost(),
        }
    }

    /// What of a command the engine cannot limit on this machine, in a sentence, if there is something. It is tried.
    pub fn unlimited(&self) -> Option<&'static str> {
        match &self.0 {
            Within::Docker(_) => None,
            Within::Embedded(session) => session.unlimited(),
        }
    }

    /// What network containers on the engine's own have, and what that costs here, if something, in sentences; none for an
    /// engine that has a bridge. It is found out, which may take a moment.
    pub fn network(&self) -> Pending<'_, Option<(String, Option<&'static str>)>> {
        match &self.0 {
            Within::Docker(_) => Box::pin(std::future::ready(None)),
            Within::Embedded(session) => Box::pin(async { Some(session.network().await) }),
        }
    }

    /// Lets containers on the embedded engine's own network reach a port of this machine's 127.0.0.1, at that address, from
    /// now on. Containers of a daemon reach what their networks do.
    pub fn open_door(&self, port: u16) {
        if let Within::Embedded(session) = &self.0 {
            session.open_door(port);
        }
    }

    /// What the URLs of a Dockerfile's ADD may lead to, where its RUNs have this network: the same, as far as it is this
    /// machine's own.
    pub fn destinations(&self, network: Network) -> execute::Destinations {
        match (&self.0, network) {
            (_, Network::Host) => execute::Destinations::Everything,
            (Within::Docker(_), _) => execute::Destinations::default(),
            (Within::Embedded(session), _) => execute::Destinations::World { doors: session.doors() },
        }
    }

    /// Which ids containers have on this machine, in a sentence, where the engine is on this machine.
    pub fn ids(&self) -> Option<String> {
        match &self.0 {
            Within::Docker(_) => None,
            Within::Embedded(session) => Some(session.ids()),
        }
    }

    /// Debian's name of the architecture that the engine runs: `amd64`.
    pub fn architecture(&self) -> &str {
        match &self.0 {
            Within::Docker(session) => session.architecture(),
            Within::Embedded(session) => session.architecture(),
        }
    }

    /// The image of that name or id, if the engine has it.
    ///
    /// # Errors
    /// The engine does not answer, or `reference` cannot be a reference.
    pub fn image<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Option<ImageInfo>>> {
        ask!(self, session => session.image(reference))
    }

    /// Every image that has a name.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn images(&self) -> Pending<'_, Result<Vec<ImageInfo>>> {
        ask!(self, session => session.images())
    }

    /// The remark (`comment`) of the newest step in an image's history; none if there is no such image.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn remark<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Option<String>>> {
        ask!(self, session => session.remark(reference))
    }

    /// What the engine is.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Within::Docker(session) => session.kind(),
            Within::Embedded(_) => Kind::Embedded,
        }
    }

    /// Fetches an image from its registry; progress goes to `sink` as log lines of `subject`.
    ///
    /// # Errors
    /// No registry answers, or it has no such image.
    pub fn pull<'a>(&'a self, reference: &'a str, sink: &'a Sink, subject: &'a str) -> Pending<'a, Result<()>> {
        match &self.0 {
            Within::Docker(session) => Box::pin(session.pull(reference, sink, subject).instrument(debug_span!("pull", reference))),
            Within::Embedded(session) => Box::pin(session.pull(reference, sink, subject).instrument(debug_span!("pull", reference))),
        }
    }

    /// Makes an image of one layer from the tar of a root file system ([`file_stream`], [`pipe`])
    /// and names it `reference`; `changes` are Dockerfile instructions. Gives the image's id.
    ///
    /// # Errors
    /// `changes` are more than one and the engine is Podman, the engine refuses the tar, or the stream itself fails, in which case no image is made.
    pub fn import<'a>(&'a self, tar: ByteStream, reference: &'a str, changes: &'a [String]) -> Pending<'a, Result<String>> {
        ask!(self, session => session.import(tar, reference, changes))
    }

    /// Takes in an image archive; gives the names (or, for images without a name, the ids) in it.
    ///
    /// # Errors
    /// The engine refuses the archive, or the stream itself fails.
    pub fn load<'a>(&'a self, archive: ByteStream) -> Pending<'a, Result<Vec<String>>> {
        ask!(self, session => session.load(archive))
    }

    /// The image as an archive (docker-archive, and an OCI layout too from newer engines). A
    /// stream that is cut short ends in an `io::Error`, never in a silent end.
    ///
    /// # Errors
    /// The engine has no such image.
    pub fn save<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<TarReader>> {
        ask!(self, session => session.save(reference))
    }

    /// Builds a Dockerfile, with the classic builder of Docker, Podman's, or our own, and gives the image's id. `on_line`
    /// gets each line of the log. Dropping the future cancels the build in the engine too.
    ///
    /// # Errors
    /// Class `Build` when a step failed, with the step, its exit status and what the engine said;
    /// nothing is tagged then.
    pub fn build<'a>(&'a self, build: Build<'a>, on_line: &'a mut (dyn FnMut(&str) + Send)) -> Pending<'a, Result<String>> {
        let span = debug_span!("build", tag = build.tag);
        ask!(self, session => session.build(build, on_line).instrument(span))
    }

    /// Runs a command to its end; `on_line` gets each line that it writes. A command that fails is
    /// no error here: see [`Container::exit_code`]. Dropping the future removes the container.
    ///
    /// # Errors
    /// The container could not be made or started, or its time was up (class `Build`).
    pub fn run<'a>(&'a self, run: Run<'a>, on_line: &'a mut (dyn FnMut(&str) + Send)) -> Pending<'a, Result<Container>> {
        Box::pin(async move {
            let mut lines = BothLines::new(on_line);
            let ended = self.run_raw(run, &mut |piece| lines.push(piece)).await;
            lines.finish();
            ended
        })
    }

    /// [`Engine::run`] for whoever passes on what the command writes: its bytes as they come, the two outputs apart.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_raw<'a>(&'a self, run: Run<'a>, on_piece: &'a mut (dyn FnMut(Piece<'_>) + Send)) -> Pending<'a, Result<Container>> {
        // (What it is given may be secret: the words and the environment are not logged.)
        let span = debug_span!("run", image = run.image);
        match &self.0 {
            Within::Docker(session) => Box::pin(async move { session.run(run, on_piece).instrument(span).await.map(Container::from) }),
            Within::Embedded(session) => Box::pin(async move { session.run(run, on_piece).instrument(span).await.map(Container::from) }),
        }
    }

    /// Runs a server until it answers; then it is told to end, and killed if it does not. `on_line` gets each line that it
    /// writes. `run` has no network, ports, mounts or time limit of its own. Dropping the future removes the container.
    ///
    /// # Errors
    /// The container could not be made or started.
    pub fn try_server<'a>(
        &'a self,
        run: Run<'a>,
        until: ServerTrial<'a>,
        on_line: &'a mut (dyn FnMut(&str) + Send),
    ) -> Pending<'a, Result<Tried>> {
        let span = debug_span!("try", image = run.image);
        let run = Run { network: Network::None, ..run };
        Box::pin(async move {
            let mut lines = BothLines::new(on_line);
            let mut on_piece = |piece: Piece<'_>| lines.push(piece);
            let tried = match &self.0 {
                Within::Docker(session) => session.try_server(run, until, &mut on_piece).instrument(span).await,
                Within::Embedded(session) => session.try_server(run, until, &mut on_piece).instrument(span).await,
            };
            lines.finish();
            tried
        })
    }

    /// A container that is never started, to copy files out of an image.
    ///
    /// # Errors
    /// The engine has no such image.
    pub fn create<'a>(&'a self, image: &'a str) -> Pending<'a, Result<Container>> {
        match &self.0 {
            Within::Docker(session) => Box::pin(async move { session.create(image).await.map(Container::from) }),
            Within::Embedded(session) => Box::pin(async move { session.create(image).await.map(Container::from) }),
        }
    }

    /// A container that files are put into and commands run in, one after another ([`Container::put`],
    /// [`Container::exec`]).
    ///
    /// # Errors
    /// The engine has no such image.
    pub fn hold<'a>(&'a self, hold: Hold<'a>) -> Pending<'a, Result<Container>> {
        let span = debug_span!("start", image = hold.image);
        match &self.0 {
            Within::Docker(session) => Box::pin(async move { session.hold(hold).instrument(span).await.map(Container::from) }),
            Within::Embedded(session) => Box::pin(async move { session.hold(hold).instrument(span).await.map(Container::from) }),
        }
    }

    /// The configuration of an image, if the engine has it, without the history, of which it tells only how many
    /// steps there are; and without what no engine's interface tells (`StopTimeout`).
    ///
    /// # Errors
    /// The engine does not answer, or nothing can start from that image.
    pub fn config<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Option<(dockerfile::ImageConfig, usize)>>> {
        ask!(self, session => session.config(reference))
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    /// The engine has no such image, or `reference` is no name.
    pub fn tag<'a>(&'a self, image_id: &'a str, reference: &'a str) -> Pending<'a, Result<()>> {
        ask!(self, session => session.tag(image_id, reference))
    }

    /// Removes an image with all its names. One that is not there is fine.
    ///
    /// # Errors
    /// A container, or another image, uses it.
    pub fn remove_image<'a>(&'a self, id: &'a str) -> Pending<'a, Result<()>> {
        ask!(self, session => session.remove_image(id))
    }

    /// Removes every container, running ones too, that has this label (`key=value`): what a killed
    /// run left. Gives how many there were.
    ///
    /// # Errors
    /// The engine does not answer or refuses.
    pub fn sweep<'a>(&'a self, label: &'a str) -> Pending<'a, Result<usize>> {
        ask!(self, session => session.sweep(label))
    }

    /// Waits for the removals that dropped [`Container`]s began. Call it before the program ends.
    pub fn settle(&self) -> Pending<'_, ()> {
        ask!(self, session => session.settle())
    }

    /// The address at which containers on the bridge network see the engine's machine.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn gateway(&self) -> Pending<'_, Result<Option<IpAddr>>> {
        match &self.0 {
            Within::Docker(session) => Box::pin(session.gateway()),
            // Its containers have a network each.
            Within::Embedded(_) => Box::pin(std::future::ready(Ok(None))),
        }
    }
}

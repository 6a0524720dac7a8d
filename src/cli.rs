//! The command line: what can be said, and the help that teaches it.

use crate::images::{Place, SYNTAX};
use crate::log::LogFormat;
use crate::ports::PublishedPort;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use twostage_engine::{Engine, Kind, Network};
use twostage_model::Result;

/// Build packages in one stage, install only them in the next: a repository server for clean
/// two-stage image builds.
#[derive(Parser)]
#[command(name = "twostage", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "The usual way:\n  twostage init             write a commented project file and a Makefile\n  \
    twostage repo             build what changed, publish one signed snapshot\n  \
    twostage runtime          install it into an image with one RUN, and audit the result\n\n\
    Exit status: 0 done, 1 an audit or check said no, 2 wrong usage, 3 wrong project or lock,\n\
    4 a build failed, 5 a package or the repository is wrong, 6 the engine, 7 a runtime image\n\
    could not be made, 8 this machine said no.")]
pub struct Cli {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Write one JSON object a line: events while working, the result at the end
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only what went wrong, and the result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show what builders and package managers say, too; twice, also log where time goes (TWOSTAGE_LOG says of what)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How the log is written, to standard error
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the project is, and what of it is elsewhere. Only a person says that something is outside of its folder:
/// the project file cannot.
#[derive(Args)]
pub struct ProjectArgs {
    /// The project file, or the folder that it is in
    #[arg(id = "project", short = 'p', long = "project", global = true, default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// The folder of its repository, wherever it is (default: `path` of the project file)
    #[arg(long, global = true, value_name = "DIR", env = "TWOSTAGE_REPOSITORY", hide_env_values = true)]
    pub repository: Option<PathBuf>,
    /// The file of its signing key, wherever it is (default: `key` of the project file, or one in the repository)
    #[arg(long, global = true, value_name = "FILE", env = "TWOSTAGE_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
}

impl Cli {
    /// What is logged unless `TWOSTAGE_LOG` says otherwise: what went wrong; of a server also its requests.
    pub fn log_level(&self) -> LevelFilter {
        match (&self.command, self.verbose) {
            (_, 2..) => LevelFilter::DEBUG,
            (Command::Serve(_), _) if !self.quiet => LevelFilter::INFO,
            _ => LevelFilter::ERROR,
        }
    }
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, and clap takes no box")]
pub enum Command {
    /// Write a commented twostage.toml and a Makefile into an empty folder
    Init(Init),
    /// Pin the base and what the project takes from the distribution, in twostage.lock
    Lock(Lock),
    /// Say what the distribution has newer than the lock, security first
    Outdated(Outdated),
    /// Move the lock to what the distribution has now
    Update(Update),
    /// Build the components that changed and publish one snapshot of everything
    Repo(Repo),
    /// Add packages that someone else built to the channel
    Publish(Publish),
    /// List the channels and their snapshots, or move a channel to another snapshot
    Channel(Channel),
    /// Serve the repository over HTTP; what it answers is logged to standard error
    Serve(Serve),
    /// Build the runtime images from the channel's snapshot, and audit them
    Runtime(Runtime),
    /// Try an image: run its command, without a daemon, and keep nothing of it
    Run(Box<Run>),
    /// Give images that were built without a daemon to Docker or Podman
    Load(Load),
    /// Push an image to a registry
    Push(Push),
    /// List the images that are kept here without a daemon
    Images(Images),
    /// Take names, or images, out of those that are kept here without a daemon
    #[command(visible_alias = "rmi")]
    Rm(Rm),
    /// Give an image that is kept here without a daemon one more name
    Tag(Tag),
    /// Remove images without a name and what nothing needs, and say what that freed
    Prune(Prune),
    /// Take images of an archive or a layout into those that are kept here without a daemon
    ImportImage(ImportImage),
    /// Account for every file of an image's layers above its base
    Audit(Audit),
    /// Execute a Dockerfile in one pass, into one layer above its base
    Compile(Compile),
    /// Make the layers above an image's parent one layer
    Flatten(Flatten),
    /// Say what differs between two images: packages, then files
    Diff(Diff),
    /// Say what images cost together, and how they would cost less
    Plan(Plan),
    /// Write all that another machine needs to rebuild the images into one archive
    Export(Export),
    /// Take in what `export` wrote: packages are checked, what it says of builds and channels is believed
    Import(Import),
    /// Say which engines work on this machine, and what to do where one does not
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// What `push --help` says besides.
const PUSHED: &str = "Layers go as they are, so the registry calls the image by the digest that it has here. Those of the embedded\n\
    engine are not packed.\n\n  \
    twostage push hello docker://registry.example/team/hello:1\n  \
    twostage push docker-daemon:app:1 docker://localhost:5000/app:1";

#[derive(Args)]
pub struct Init {
    /// The folder to write into (default: the one of --project)
    pub folder: Option<PathBuf>,
}

#[derive(Args, Default)]
pub struct EngineArgs {
    /// What runs the containers (default: Docker if it answers, else Podman, else this program itself)
    #[arg(long = "engine", value_name = "KIND", env = "TWOSTAGE_ENGINE")]
    pub kind: Option<EngineKind>,
    /// Where it listens, such as unix:///var/run/docker.sock (default: DOCKER_HOST or
    /// CONTAINER_HOST, or the usual sockets); of `embedded`, the folder of its images
    /// (default: TWOSTAGE_STORE, or /var/lib/twostage, or ~/.local/share/twostage)
    #[arg(long, value_name = "ADDRESS")]
    pub engine_host: Option<String>,
    /// Memory that a container of the embedded engine may have, such as 4G or 512M (default: nine tenths of
    /// the machine's)
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub memory: Option<u64>,
    /// Time that a command in a container of the embedded engine may take, such as 90m or 2h (default: any)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_limit: Option<Duration>,
}

/// A number and what it counts, where that is said.
fn counted<'t>(text: &'t str, units: &[(&'t str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|value| *value > 0)
}

/// Less memory than this no program has that a container is started with; docker has the same bound.
const LEAST_MEMORY: u64 = 6 << 20;

/// Bytes, with K, M, G or T for powers of 1024, as docker's `--memory` takes them.
fn size(text: &str) -> std::result::Result<u64, String> {
    let bytes = counted(text, &[("", 1), ("b", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)])
        .ok_or_else(|| "write a number of bytes, or one with K, M or G: 4G".to_string())?;
    if bytes < LEAST_MEMORY {
        let meant = if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("; perhaps {text}G is meant") } else { String::new() };
        return Err(format!("{bytes} bytes are too little: nothing runs in less than 6M{meant}"));
    }
    Ok(bytes)
}

/// Seconds, or a number with s, m or h.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    counted(text, &[("", 1), ("s", 1), ("m", 60), ("h", 3600)])
        .map(Duration::from_secs)
        .ok_or_else(|| "write a number of seconds, or one with m or h: 90m".to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    Docker,
    Podman,
    /// No daemon: containers are processes of this program
    Embedded,
}

impl EngineArgs {
    /// The same, and where no engine is asked for, the one that needs no daemon.
    pub fn or_embedded(&self) -> EngineArgs {
        self.preferring(self.kind.or(Some(EngineKind::Embedded)))
    }

    /// The same, but the engine that a name says, if it says one.
    pub fn preferring(&self, kind: Option<EngineKind>) -> EngineArgs {
        EngineArgs { kind: kind.or(self.kind), engine_host: self.engine_host.clone(), memory: self.memory, time_limit: self.time_limit }
    }

    /// Connects to the engine that is asked for. What reaches registries for it is given to it.
    pub async fn connect(&self) -> Result<Engine> {
        let kind = self.kind.map(|kind| match kind {
            EngineKind::Docker => Kind::Docker,
            EngineKind::Podman => Kind::Podman,
            EngineKind::Embedded => Kind::Embedded,
        });
        let engine = Engine::connect(kind, self.engine_host.as_deref()).await?.limited(self.memory, self.time_limit)?;
        Ok(engine.fetching(std::sync::Arc::new(crate::registry::Fetcher)))
    }
}

#[derive(Args)]
pub struct Lock {
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
pub struct Outdated {
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
pub struct Update {
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
pub struct Repo {
    /// Fail instead of changing twostage.lock
    #[arg(long)]
    pub locked: bool,
    /// How many components to build at the same time
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
pub struct Publish {
    /// .deb, .udeb and .rpm files, .dsc and .changes files with what they list beside them, and folders of all these;
    /// also comps.xml, updateinfo.xml, modules.yaml, and keys (.asc) of those who signed rpms
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The channel (default: the project's)
    #[arg(long)]
    pub channel: Option<String>,
}

#[derive(Args)]
#[command(after_help = "A channel is made by the first `repo` or `publish` to it, or from a snapshot:\n  \
    twostage channel stable --to 4d0f2b     what is tested, as a channel of its own\n  \
    twostage channel stable --to 19a3       later: the next one, or back")]
pub struct Channel {
    /// The channel (default: list all)
    #[arg(value_name = "CHANNEL")]
    pub name: Option<String>,
    /// Move it to this snapshot, an earlier one of its own or another channel's: clients see it as
    /// something new, until the next `repo` or `publish`. The first digits of its name are enough. A channel that is
    /// not there is made
    #[arg(long, value_name = "SNAPSHOT", requires = "name")]
    pub to: Option<String>,
    /// Hash all that it consists of (without CHANNEL: all of them), and make anew what is damaged, from its history and
    /// the pool. What is lost is named (exit status 5)
    #[arg(long, conflicts_with = "to")]
    pub repair: bool,
    /// Date it by the clock, where a clock that was wrong has dated it ahead of that. Clients that took it then
    /// have to forget it
    #[arg(long, requires = "name", conflicts_with_all = ["to", "repair"])]
    pub redate: bool,
    /// Sign every channel with the key that is there, or a new one where there is none. Clients have to be given
    /// the new public key
    #[arg(long, conflicts_with_all = ["name", "to", "repair", "redate"])]
    pub rekey: bool,
}

#[derive(Args)]
pub struct Serve {
    /// Address and port (default: `listen` of the project file)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
}

#[derive(Args)]
#[command(after_help = "With the embedded engine the images are also files of the project: `skopeo copy oci:.twostage/images:NAME …`,\n\
    `twostage load` and `twostage push` take them from there; `twostage run NAME` tries one.")]
pub struct Runtime {
    /// The images to build (default: all of the project)
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Only write the Dockerfiles, and say where
    #[arg(long)]
    pub dockerfile: bool,
    /// Build even if nothing changed, without the engine's cache
    #[arg(long)]
    pub no_cache: bool,
    /// Build each image twice, without the engine's cache, and compare: one whose layers differ is not tagged, and the
    /// first file that differs is named (exit status 1)
    #[arg(long, conflicts_with = "dockerfile")]
    pub check_reproducible: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
#[command(override_usage = "twostage run [OPTIONS] IMAGE [COMMAND]...")]
#[command(after_help = "It runs as the image says: its entrypoint and command, user, folder and environment; as with docker, words\n\
    behind IMAGE take the place of its command. What it writes is passed on as it comes, its standard input is\n\
    empty without -i, and nothing of the container is kept. The exit status is the command's; where twostage cannot run it, 6\n\
    and the reason.\n\n  \
    twostage run hello                          what the image does\n  \
    twostage run -p 8080:80 web                 a server at http://127.0.0.1:8080, which itself reaches nothing\n  \
    twostage run -it --entrypoint sh hello      a shell in it\n  \
    twostage run hello --version                its entrypoint, with this argument\n  \
    twostage run --entrypoint ls hello -l /     another program in it\n  \
    twostage run --network host web             a server that this machine's browser reaches\n  \
    twostage run -v \"$PWD\":/src:ro hello        with a folder of this machine\n\n\
    Its command is the first process, as with docker, and gets the signals that this program gets; three of SIGINT or\n\
    SIGTERM end it. Files of -v belong to who owns them here: root's container has other ids, for which they are nobody's;\n\
    a user's container has that user for root. Not there yet: containers that stay (-d, --name), volumes with names,\n\
    ranges and UDP in -p.")]
pub struct Run {
    /// A variable for the command; only a name takes it from the environment
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// What it can reach. Nothing, unless you say so: what is tried is not trusted yet. On `bridge` it has a network of its
    /// own with a way out, and reaches nothing that listens on this machine's 127.0.0.1; `host` is this machine's network
    #[arg(long, value_enum, value_name = "NETWORK", default_value = "none")]
    pub network: NetworkKind,
    /// Who runs it: NAME or UID, with :GROUP or not (default: as the image says)
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// The folder that it runs in (default: as the image says)
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Pass on the standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// A port of this machine, at 127.0.0.1 unless ADDRESS is said, that leads to one of the container's; of one number, to
    /// the same
    #[arg(short = 'p', long = "publish", value_name = "[ADDRESS:][PORT:]PORT")]
    pub publish: Vec<PublishedPort>,
    /// A file or folder of this machine that it sees; `ro` for read-only
    #[arg(short = 'v', long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    pub volumes: Vec<Volume>,
    /// What the container's machine is called
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Another program than the image's entrypoint; "" for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Nothing of the container is kept, with or without this: docker needs to be told
    #[arg(long)]
    pub rm: bool,
    // As elsewhere, but for their short forms, which are docker's here.
    /// The project file, or the folder that it is in
    #[arg(id = "project", long = "project", default_value = ".", value_name = "PATH")]
    pub _project: PathBuf,
    /// Show what builders and package managers say, too
    #[arg(id = "verbose", long = "verbose", action = clap::ArgAction::Count)]
    pub _verbose: u8,
    #[command(flatten)]
    pub not_yet: NotYet,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The image, by a name or an id that the engine knows; all behind it is the command to run instead of the image's
    // (One list, so that what looks like an option of ours behind the image is none.)
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true)]
    pub words: Vec<String>,
}

/// Options of docker's that are refused, with what to do instead.
#[derive(Args)]
pub struct NotYet {
    #[arg(short, long, hide = true)]
    detach: bool,
    #[arg(long, hide = true)]
    init: bool,
    #[arg(long, hide = true)]
    privileged: bool,
    #[arg(long, hide = true)]
    read_only: bool,
    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,
    #[arg(long, hide = true)]
    name: Option<String>,
    #[arg(long, hide = true)]
    env_file: Option<String>,
    #[arg(long, hide = true)]
    mount: Option<String>,
    #[arg(long, hide = true)]
    tmpfs: Option<String>,
    #[arg(long, hide = true)]
    cap_add: Option<String>,
    #[arg(long, hide = true)]
    cap_drop: Option<String>,
    #[arg(long, hide = true)]
    device: Option<String>,
    #[arg(long, hide = true)]
    restart: Option<String>,
    #[arg(long, hide = true)]
    platform: Option<String>,
    #[arg(long, hide = true)]
    add_host: Option<String>,
}

impl NotYet {
    /// The first one that is given, and what to do instead.
    pub fn first(&self) -> Option<(&'static str, &'static str)> {
        let kept = "nothing of a container is kept, so it ends with this program; `twostage load` gives the image to Docker or Podman";
        let given = |option: &Option<String>| option.is_some();
        let all = [
            (self.detach, "--detach", kept),
            (given(&self.name), "--name", kept),
            (given(&self.restart), "--restart", kept),
            (self.init, "--init", "the command is the first process; start it by a program that reaps, such as tini, in the image"),
            (self.privileged, "--privileged", "containers have the rights of Docker's usual ones"),
            (given(&self.cap_add), "--cap-add", "containers have the rights of Docker's usual ones"),
            (given(&self.cap_drop), "--cap-drop", "containers have the rights of Docker's usual ones; --user takes them away"),
            (given(&self.device), "--device", "containers see no devices of the machine"),
            (self.read_only, "--read-only", "nothing that is written is kept"),
            (self.publish_all, "--publish-all", "name each port: -p 8080:80"),
            (given(&self.env_file), "--env-file", "name each variable: -e NAME=VALUE"),
            (given(&self.mount), "--mount", "files and folders of this machine: -v HOST:CONTAINER[:ro]"),
            (given(&self.tmpfs), "--tmpfs", "what is written is not kept anywhere"),
            (given(&self.platform), "--platform", "an image of another architecture is run as it is, where this machine can"),
            (given(&self.add_host), "--add-host", "names are this machine's: /etc/hosts counts"),
        ];
        all.into_iter().find(|(given, ..)| *given).map(|(_, option, instead)| (option, instead))
    }
}

/// A file or folder of this machine in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

impl std::str::FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Volume, String> {
        let form = "write HOST:CONTAINER or HOST:CONTAINER:ro, both absolute";
        let (source, rest) =
            text.split_once(':').ok_or("volumes without a place on this machine are not there yet: write HOST:CONTAINER")?;
        let (target, options) = rest.split_once(':').unwrap_or((rest, ""));
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                // What SELinux is to do, and who sees mounts: nothing here.
                "rw" | "z" | "Z" | "rprivate" | "private" => {}
                other => return Err(format!("{other} is no option of -v that is there: {form}")),
            }
        }
        if !source.starts_with('/') {
            let instead = "write the path from / on, such as \"$PWD\":/src";
            return Err(if source.starts_with('.') { instead.into() } else { format!("volumes with names are not there yet: {instead}") });
        }
        if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
            return Err(form.into());
        }
        Ok(Volume { source: source.into(), target: target.into(), read_only })
    }
}

impl Run {
    /// The image.
    pub fn image(&self) -> &str {
        self.words.first().map(String::as_str).unwrap_or_default()
    }

    /// What is to be run in it; nothing means the image's own.
    pub fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

#[derive(Args)]
#[command(after_help = "Without IMAGE: those of the project. A bare name is an image of the project, else one of the embedded engine;\n\
    the id of the image and the digests of its layers are the same there as here.\n\n  \
    twostage load                         all that `twostage runtime --engine embedded` built\n  \
    twostage load hello --into podman     one of them, into Podman")]
pub struct Load {
    /// The images (default: those of the project)
    #[arg(value_name = "IMAGE")]
    pub images: Vec<Place>,
    /// Who gets them (default: Docker if it answers, else Podman)
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub into: Option<Daemon>,
    /// Where that listens, such as unix:///var/run/docker.sock (default: DOCKER_HOST or CONTAINER_HOST, or the usual sockets)
    #[arg(long, value_name = "ADDRESS")]
    pub engine_host: Option<String>,
}

/// An engine that is a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Daemon {
    Docker,
    Podman,
}

#[derive(Args)]
#[command(after_help = PUSHED)]
pub struct Push {
    /// The image. A bare name is an image of the project that was built without a daemon, else one of the engine
    pub image: Place,
    /// docker://HOST/NAME[:TAG], with the login of docker, podman or skopeo
    #[arg(value_name = "DESTINATION")]
    pub to: Place,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Where images are kept without a daemon.
#[derive(Args)]
pub struct StoreArgs {
    /// The folder of the images (default: TWOSTAGE_STORE, or /var/lib/twostage, or ~/.local/share/twostage)
    #[arg(long = "engine-host", value_name = "FOLDER")]
    pub folder: Option<String>,
}

impl StoreArgs {
    /// The embedded engine, which has that folder.
    pub async fn connect(&self) -> Result<Engine> {
        Engine::connect(Some(Kind::Embedded), self.folder.as_deref()).await
    }
}

#[derive(Args)]
#[command(
    after_help = "One line for each name. Layers that several images have are on the disk once; SIZE is that of all layers of an image,\n\
    unpacked. What cannot be read is named and passed over."
)]
pub struct Images {
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
#[command(after_help = "A name goes; the image with its last name, or by its id. An image that cannot be read goes by its name.")]
pub struct Rm {
    /// The images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
pub struct Tag {
    /// The image, by name or id
    pub image: String,
    /// The new name. If another image has it, it is this one's then
    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
#[command(
    after_help = "Blobs that nothing needs and that are younger than a day stay: another program, such as skopeo, may be writing an image."
)]
pub struct Prune {
    /// Also forget the steps of Dockerfiles that were built, and the folders of RUN --mount=type=cache: the next builds
    /// do everything again
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
#[command(
    after_help = "FILE is what `docker save`, `podman save` or `skopeo copy … oci-archive:` wrote, plain or packed with gzip or zstd; the\n\
    folder of an OCI layout; or - for standard input. With NAME it may also be the tar of a root file system, as with\n\
    `docker import`.\n\n  \
    twostage import-image saved.tar\n  \
    docker save app:1 | twostage import-image -\n  \
    twostage import-image rootfs.tar.gz base:1"
)]
pub struct ImportImage {
    /// The archive, or the folder
    pub file: PathBuf,
    /// What the one image in it is called (default: as it is called there)
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
#[command(after_help = SYNTAX)]
pub struct Audit {
    /// The image
    pub image: Place,
    /// Where the base ends: the number of its layers (default: as the image's label says)
    #[arg(long, value_name = "LAYERS")]
    pub base_layers: Option<usize>,
    /// Also write a page with a map of each layer, which needs nothing else to be looked at
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
#[command(after_help = "What a later RUN deletes is in no layer, so an installer can be copied in, run and removed:\n  \
    FROM debian:bookworm\n  \
    COPY big-installer /tmp/\n  \
    RUN /tmp/big-installer && rm /tmp/big-installer\n\n\
    Each RUN is a process of its own, as the user and in the folder that USER and WORKDIR say; when it ends, all that it\n\
    started ends. What is not supported is an error that names the line: RUN --security, with Docker and Podman\n\
    also RUN --mount and --network, ADD of repositories, ONBUILD of the base, other platforms. URLs of an ADD are fetched by the program curl.\n\n\
    Where nothing changed since a run before (bases, steps, files, what ADD fetches), its image is the result. What a RUN\n\
    downloads is not looked at: --no-cache does everything again.\n\n\
    With SOURCE_DATE_EPOCH, or --source-date-epoch, nothing in the layer is newer than that, so the same input gives the same image.")]
pub struct Compile {
    /// The folder that COPY and ADD take files from; its .dockerignore counts. `-`: the Dockerfile, or a tar that it is in,
    /// comes from standard input
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The Dockerfile (default: Dockerfile in DIR); `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What the image is called (default: nothing; the id is the last line that is printed)
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Option<String>,
    /// A value for an ARG; only a name takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<String>,
    /// The stage whose image is made, by name or number (default: the last)
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// What the RUNs can reach
    #[arg(long, value_enum, value_name = "NETWORK", default_value = "bridge")]
    pub network: NetworkKind,
    /// A file for `RUN --mount=type=secret`, which is in no layer: id=NAME,src=FILE
    #[arg(long = "secret", value_name = "id=NAME,src=FILE")]
    pub secrets: Vec<String>,
    /// An SSH agent for `RUN --mount=type=ssh`, which can list its keys and sign: default (that of SSH_AUTH_SOCK), or
    /// NAME=SOCKET
    #[arg(long = "ssh", value_name = "default|NAME=SOCKET")]
    pub ssh: Vec<String>,
    /// What a name in FROM, COPY --from or a mount stands for: NAME=DIR, NAME=docker-image://IMAGE, or
    /// NAME=oci-layout://DIR[:TAG]
    #[arg(long = "build-context", value_name = "NAME=WHERE")]
    pub contexts: Vec<String>,
    /// Do everything again, even if nothing changed that is known: a RUN may download something newer
    #[arg(long)]
    pub no_cache: bool,
    /// Nothing in the layer, nor the image itself, is newer than this, in seconds since 1970
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub source_date_epoch: Option<i64>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkKind {
    /// The engine's own network
    Bridge,
    /// That of the machine that the engine runs on
    Host,
    /// Nothing
    None,
}

impl From<NetworkKind> for Network {
    fn from(kind: NetworkKind) -> Network {
        match kind {
            NetworkKind::Bridge => Network::Bridge,
            NetworkKind::Host => Network::Host,
            NetworkKind::None => Network::None,
        }
    }
}

#[derive(Args)]
#[command(after_help = SYNTAX)]
pub struct Flatten {
    /// The image
    pub image: Place,
    /// Where the flat image goes (default: NAME_flatten:TAG beside the image, FILE_flatten.tar, FOLDER_flatten)
    #[arg(short, long, value_name = "IMAGE")]
    pub to: Option<Place>,
    /// The image whose layers stay below (default: the nearest ancestor that has a name in the
    /// engine, else what the image's label or history tells)
    #[arg(long, value_name = "IMAGE", conflicts_with = "all")]
    pub onto: Option<Place>,
    /// Make all layers one, with no parent
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
#[command(after_help = SYNTAX)]
pub struct Diff {
    /// The earlier image
    pub a: Place,
    /// The later image
    pub b: Place,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
#[command(after_help = SYNTAX)]
pub struct Plan {
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<Place>,
    /// The most layers that an image may have
    #[arg(long, value_name = "LAYERS", default_value_t = 10)]
    pub budget: usize,
    /// Also draw it: a page that needs nothing else to be looked at
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Args)]
pub struct Export {
    /// The archive to write
    pub archive: PathBuf,
}

#[derive(Args)]
pub struct Import {
    /// The archive that `export` wrote
    pub archive: PathBuf,
}

#[derive(Args)]
#[command(
    after_help = "It asks Docker and Podman, and makes a container of the embedded engine in a temporary folder beside its images.\n\
    Nothing is changed. Exit status: 0 if at least one engine works, else 6. With --json: one object."
)]
pub struct Doctor {}

#[derive(Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_written_as_docker_takes_them() {
        let of = |text: &str| text.parse::<Volume>().map(|volume| (volume.source.display().to_string(), volume.target, volume.read_only));
        let volume = |source: &str, target: &str, read_only| Ok((source.to_string(), target.to_string(), read_only));
        assert_eq!(of("/a:/b"), volume("/a", "/b", false));
        assert_eq!(of("/a b:/b:ro,z"), volume("/a b", "/b", true));
        for (wrong, why) in [
            ("/a", "not there yet"),
            ("data:/b", "volumes with names"),
            ("./a:/b", "from / on"),
            ("/a:b", "absolute"),
            ("/a:/b/../c", "absolute"),
            ("/a:/b:rx", "no option"),
        ] {
            assert!(of(wrong).is_err_and(|said| said.contains(why)), "{wrong}: {:?}", of(wrong));
        }
    }

    #[test]
    fn what_docker_has_and_this_has_not_is_named_with_what_to_do() {
        let of = |words: &[&str]| match Cli::try_parse_from([&["twostage", "run"], words, &["app", "-d"]].concat()).map(|cli| cli.command) {
            Ok(Command::Run(run)) => run.not_yet.first().map(|(option, _)| option),
            other => unreachable!("{:?}", other.err()),
        };
        assert_eq!(of(&[]), None, "what stands behind the image is the command's");
        for (words, option) in
            [(&["-d"][..], "--detach"), (&["--name", "x"], "--name"), (&["--init"], "--init"), (&["--mount", "x"], "--mount")]
        {
            assert_eq!(of(words), Some(option));
        }
        let cli = Cli::parse_from(["twostage", "-v", "--project", "there", "run", "-p", "80", "-v", "/a:/b", "-it", "app"]);
        assert!(cli.verbose == 1 && cli.project.path.ends_with("there"));
    }

    #[test]
    fn limits_are_written_as_docker_and_systemd_take_them() {
        assert_eq!((size("4G"), size("512m"), size("7000000")), (Ok(4 << 30), Ok(512 << 20), Ok(7_000_000)));
        for (little, meant) in
            [("4", "perhaps 4G is meant"), ("70000", "70000 bytes are too little"), ("5M", "less than 6M"), ("100k", "less than 6M")]
        {
            assert!(size(little).is_err_and(|why| why.contains(meant)), "{little}");
        }
        assert_eq!((duration("90m"), duration("45")), (Ok(Duration::from_secs(5400)), Ok(Duration::from_secs(45))));
        for wrong in ["", "G", "0", "-1", "4.5G", "4 G", "99999999999999999999", "18446744073709551615T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(duration("1d").is_err_and(|why| why.contains("90m")));
    }
}

//! The command line: what can be said, and the help that teaches it.

use crate::images::{Place, SYNTAX};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
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
    /// The project file, or the folder that it is in
    #[arg(short, long, global = true, default_value = ".", value_name = "PATH")]
    pub project: PathBuf,
    /// Write one JSON object a line: events while working, the result at the end
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only what went wrong, and the result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show what builders and package managers say, too
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
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
    /// Serve the repository over HTTP
    Serve(Serve),
    /// Build the runtime images from the channel's snapshot, and audit them
    Runtime(Runtime),
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
    /// Print a completion script for a shell
    Completions(Completions),
}

#[derive(Args)]
pub struct Init {
    /// The folder to write into (default: the one of --project)
    pub folder: Option<PathBuf>,
}

#[derive(Args)]
pub struct EngineArgs {
    /// What runs the containers (default: Docker if it answers, else Podman, else this program itself)
    #[arg(long = "engine", value_name = "KIND", env = "TWOSTAGE_ENGINE")]
    pub kind: Option<EngineKind>,
    /// Where it listens, such as unix:///var/run/docker.sock (default: DOCKER_HOST or
    /// CONTAINER_HOST, or the usual sockets); of `embedded`, the folder of its images
    /// (default: TWOSTAGE_STORE, or /var/lib/twostage, or ~/.local/share/twostage)
    #[arg(long, value_name = "ADDRESS")]
    pub engine_host: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    Docker,
    Podman,
    /// No daemon: containers are processes of this program
    Embedded,
}

impl EngineArgs {
    /// Connects to the engine that is asked for.
    pub async fn connect(&self) -> Result<Engine> {
        let kind = self.kind.map(|kind| match kind {
            EngineKind::Docker => Kind::Docker,
            EngineKind::Podman => Kind::Podman,
            EngineKind::Embedded => Kind::Embedded,
        });
        Engine::connect(kind, self.engine_host.as_deref()).await
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
    /// .deb and .rpm files, .dsc files with what they list beside them; also comps.xml, updateinfo.xml,
    /// modules.yaml, and keys (.asc) of those who signed rpms
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The channel (default: the project's)
    #[arg(long)]
    pub channel: Option<String>,
}

#[derive(Args)]
pub struct Channel {
    /// The channel (default: list all)
    #[arg(value_name = "CHANNEL")]
    pub name: Option<String>,
    /// Move it to this snapshot, an earlier one of its own or another channel's: clients see it as
    /// something new, until the next `repo` or `publish`. The first digits of its name are enough
    #[arg(long, value_name = "SNAPSHOT", requires = "name")]
    pub to: Option<String>,
}

#[derive(Args)]
pub struct Serve {
    /// Address and port (default: `listen` of the project file)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
}

#[derive(Args)]
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
    #[command(flatten)]
    pub engine: EngineArgs,
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
    started ends. What is not supported is an error that names the line: RUN --mount, --network and --security,\n\
    ADD of URLs and of repositories, ONBUILD of the base, other platforms.\n\n\
    With SOURCE_DATE_EPOCH, or --source-date-epoch, nothing in the layer is newer than that, so the same input gives the same image.")]
pub struct Compile {
    /// The folder that COPY and ADD take files from; its .dockerignore counts
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The Dockerfile (default: Dockerfile in DIR)
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
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

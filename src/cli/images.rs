//! The commands of images, wherever they are.

use super::engine::{Daemon, EngineArgs, NetworkKind, StoreArgs, age};
use crate::images::{Place, SYNTAX};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::path::PathBuf;
use std::time::Duration;

/// What `push --help` says besides.
const PUSHED: &str = "Layers go as they are, so the registry calls the image by the digest that it has here. Those of the embedded\n\
    engine are not packed.\n\n  \
    twostage push hello docker://registry.example/team/hello:1\n  \
    twostage push docker-daemon:app:1 docker://localhost:5000/app:1";

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
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmptyStringValueParser::new())]
    pub engine_host: Option<String>,
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
    #[arg(value_name = "IMAGE", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub images: Vec<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
pub struct Tag {
    /// The image, by name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub image: String,
    /// The new name. If another image has it, it is this one's then
    #[arg(value_name = "NAME[:TAG]", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Args)]
#[command(after_help = "What goes: images without a name; and those that builds make for themselves (twostage-base, twostage-builder,\n\
    twostage-entered, twostage-component), when no build asked for them for so long. The next build that needs one makes it\n\
    again. Images that you named stay, and what a container uses. Blobs that nothing needs and that are younger than a day\n\
    stay, too: another program, such as skopeo, may be writing an image.")]
pub struct Prune {
    /// Free it; without this it is only said
    #[arg(long)]
    pub yes: bool,
    /// Say why each image stays
    #[arg(long)]
    pub why: bool,
    /// For how long no build asked for what goes: 30d, 12h
    #[arg(long, value_name = "TIME", value_parser = age, default_value = "30d")]
    pub older: Duration,
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
    #[arg(value_name = "NAME[:TAG]", value_parser = NonEmptyStringValueParser::new())]
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
    #[arg(short, long, value_name = "NAME[:TAG]", value_parser = NonEmptyStringValueParser::new())]
    pub tag: Option<String>,
    /// A value for an ARG; only a name takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<String>,
    /// The stage whose image is made, by name or number (default: the last)
    #[arg(long, value_name = "STAGE", value_parser = NonEmptyStringValueParser::new())]
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
#[command(after_help = format!("{SYNTAX}\n\n\
    @DIGITS is a snapshot of the repository; a word that is the name of a channel is that channel, not an image. Of these the\n\
    packages are compared: versions, sizes, number of files.\n  \
    twostage diff main testing        what a promotion would bring\n  \
    twostage diff @4d0f2b main        what has changed since then\n  \
    twostage diff app:1 app:2         two images"))]
pub struct Diff {
    /// The earlier image, channel or @SNAPSHOT
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub a: String,
    /// The later one
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub b: String,
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

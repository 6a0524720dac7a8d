//! The commands of a project, from its folder to its images.

use super::engine::{EngineArgs, NetworkKind};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::path::PathBuf;
use twostage_model::Sha256;

#[derive(Args)]
pub struct Init {
    /// The folder to write into (default: the one of --project)
    pub folder: Option<PathBuf>,
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

/// How components are built.
#[derive(Args)]
pub struct BuildOptions {
    /// Fail instead of changing twostage.lock
    #[arg(long)]
    pub locked: bool,
    /// How many components to build at the same time
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Keep the container of a build that fails: `twostage shell COMPONENT` enters it
    #[arg(long)]
    pub keep_failed: bool,
    /// Ask a compiler cache, kept for each component: it changes no package, only how long a build takes
    #[arg(long, env = "TWOSTAGE_CCACHE", value_parser = clap::builder::FalseyValueParser::new())]
    pub ccache: bool,
    /// Build each component twice, the second time with another folder, host name, time zone, locale, umask and number of
    /// jobs: one that is not the same, byte for byte, is refused, and the first file that differs is named (exit status 4)
    #[arg(long)]
    pub check_reproducible: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

impl BuildOptions {
    /// How many components are built at the same time.
    pub fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(cores)
    }
}

/// How many builds this machine has cores for.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[derive(Args)]
pub struct Repo {
    #[command(flatten)]
    pub building: BuildOptions,
}

#[derive(Args)]
#[command(after_help = "What is built is in the repository, and in no channel: the next `repo` publishes it without building it again.")]
pub struct BuildOnly {
    /// The components; what they need is built, too
    #[arg(value_name = "COMPONENT", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub components: Vec<String>,
    #[command(flatten)]
    pub building: BuildOptions,
}

#[derive(Args)]
#[command(
    after_help = "What is printed can be pasted into twostage.toml, and changed there. Behind it stand the packages of the last build, if\n\
    there was one. Which need is fulfilled by which package of the distribution is in twostage.lock.\n\n  \
    twostage recipe calc\n  \
    twostage recipe calc --why /usr/lib/x86_64-linux-gnu/libcalc.so"
)]
pub struct ShowRecipe {
    /// The component
    #[arg(value_name = "COMPONENT", value_parser = NonEmptyStringValueParser::new())]
    pub component: String,
    /// Say which rule put this file of the last build into which package
    #[arg(long, value_name = "PATH", value_parser = NonEmptyStringValueParser::new())]
    pub why: Option<String>,
}

#[derive(Args)]
#[command(override_usage = "twostage shell [OPTIONS] COMPONENT [COMMAND]...")]
#[command(
    after_help = "It is the container in which a build with --keep-failed stopped, or, where none is kept, one with the source and\n\
    all that the build needs, in which nothing is built yet. The variables are those of the build. Nothing that is changed\n\
    there is kept: what mends the build belongs into the source.\n\n  \
    twostage build gtk --keep-failed\n  \
    twostage shell gtk                             a shell where it stopped\n  \
    twostage shell gtk tail config.log             a command instead of a shell"
)]
pub struct Shell {
    /// Begin with the source as it is now, although a container is kept
    #[arg(long)]
    pub anew: bool,
    /// What it can reach
    #[arg(long, value_enum, value_name = "NETWORK", default_value = "none")]
    pub network: NetworkKind,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The component; all behind it is a command
    // (One list, so that what looks like an option of ours behind the component is none.)
    #[arg(value_name = "COMPONENT", required = true, num_args = 1.., trailing_var_arg = true)]
    pub words: Vec<String>,
}

impl Shell {
    /// The component.
    pub fn component(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What is run there; nothing for a shell.
    pub fn command(&self) -> &[String] {
        let command = self.words.get(1..).unwrap_or_default();
        command.strip_prefix(&["--".to_string()]).unwrap_or(command)
    }
}

#[derive(Args)]
pub struct Publish {
    /// .deb, .udeb and .rpm files, .dsc and .changes files with what they list beside them, and folders of all these;
    /// also comps.xml, updateinfo.xml, modules.yaml, and keys (.asc) of those who signed rpms
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The channel (default: the project's)
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
}

#[derive(Args)]
#[command(after_help = "A channel is made by the first `repo` or `publish` to it, or from a snapshot:\n  \
    twostage channel stable --to 4d0f2b     what is tested, as a channel of its own\n  \
    twostage channel stable --to 19a3       later: the next one, or back")]
pub struct Channel {
    /// The channel (default: list all)
    #[arg(value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// Move it to this snapshot, an earlier one of its own or another channel's: clients see it as
    /// something new, until the next `repo` or `publish`. The first digits of its name are enough. A channel that is
    /// not there is made
    #[arg(long, value_name = "SNAPSHOT", requires = "name", value_parser = NonEmptyStringValueParser::new())]
    pub to: Option<String>,
    /// Hash all that it consists of (without CHANNEL: all of them), and make anew what is damaged, from its history and
    /// the pool. What is lost is named (exit status 5)
    #[arg(long, conflicts_with = "to")]
    pub repair: bool,
    /// Date it by the clock, where a clock that was wrong has dated it ahead of that. Clients that took it then
    /// have to forget it
    #[arg(long, requires = "name", conflicts_with_all = ["to", "repair"])]
    pub redate: bool,
    /// Sign it anew (without CHANNEL: all of them) where less than half of `valid_days` is left. For a timer, once a day
    #[arg(long, conflicts_with_all = ["to", "repair", "redate"])]
    pub renew: bool,
    /// Sign every channel with the key that is there, or a new one where there is none. Clients have to be given
    /// the new public key
    #[arg(long, conflicts_with_all = ["name", "to", "repair", "redate", "renew"])]
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
    #[arg(value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
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
#[command(after_help = "--plain writes what the server would answer for a channel, with the same signatures. A folder that is not there\n\
    appears whole. One of an earlier export is brought up to date in an order in which clients can read all the time:\n\
    packages first, what is signed last. It is done again after each publish, and after `channel --renew`.\n\n  \
    twostage export all.tar                                              for another machine that builds\n  \
    twostage export --plain /srv/www/debs --url https://example.org/debs    for clients of a web server")]
pub struct Export {
    /// The archive to write
    #[arg(required_unless_present = "plain", conflicts_with = "plain")]
    pub archive: Option<PathBuf>,
    /// Write a channel as plain files into this folder, for any web server or bucket
    #[arg(long, value_name = "FOLDER", requires = "url")]
    pub plain: Option<PathBuf>,
    /// The address of that folder for clients: it stands in the client files (.sources, .repo)
    #[arg(long, requires = "plain", conflicts_with = "archive", value_parser = NonEmptyStringValueParser::new())]
    pub url: Option<String>,
    /// The channel, or a snapshot as @SNAPSHOT (default: the project's channel)
    #[arg(long, requires = "plain", conflicts_with = "archive", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// Remove the files that exports have not named for so many minutes, and what was withdrawn. (60 gives clients
    /// that read an earlier state time to end)
    #[arg(long, value_name = "MINUTES", requires = "plain", conflicts_with = "archive")]
    pub remove_after: Option<u32>,
}

#[derive(Args)]
pub struct Import {
    /// The archive that `export` wrote
    pub archive: PathBuf,
}

#[derive(Args)]
#[command(after_help = "SOURCE is a folder of packages, of any depth: also aptly's pool and reprepro's; a folder or a URL with a yum\n\
    repository; or, with --suite, an apt repository. Packages come by digest: what the repository has is not fetched\n\
    again, and a run that was ended goes on where it stopped. The channel moves once, at the end; what it has stays.\n\n\
    Of a URL somebody has to vouch: the key that signs it (--keyring), or, where nobody signs it, you (--unsigned).\n\n  \
    twostage import-from ~/.aptly/pool\n  \
    twostage import-from https://deb.example.org/debian --suite stable --component main --arch amd64 --keyring example.asc\n  \
    twostage import-from https://rpm.example.org/el9 --keyring example.asc --name 'greet*' --newest 2\n  \
    twostage import-from https://rpm.example.org/el9 --dry-run")]
pub struct ImportFrom {
    /// A folder, or an http, https or file URL
    #[arg(value_name = "SOURCE", value_parser = NonEmptyStringValueParser::new())]
    pub source: String,
    /// The public key that signs the source's Release or repomd.xml, armored or not; also that of its rpms
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    /// Take a Release or repomd.xml that nobody signs, if it has this digest. Every package is then checked whole
    #[arg(long, value_name = "SHA256")]
    pub unsigned: Option<Sha256>,
    /// A suite of an apt repository, as a sources.list names it; `./` where Packages lies beside Release. May be repeated
    #[arg(long, value_name = "SUITE", value_parser = NonEmptyStringValueParser::new())]
    pub suite: Vec<String>,
    /// Only this component of the suite (default: all). May be repeated
    #[arg(long, value_name = "COMPONENT", requires = "suite", value_parser = NonEmptyStringValueParser::new())]
    pub component: Vec<String>,
    /// Only packages of this architecture, and those for all (default: every architecture). May be repeated
    #[arg(long, value_name = "ARCH", value_parser = NonEmptyStringValueParser::new())]
    pub arch: Vec<String>,
    /// Only these packages: NAME, NAME=VERSION, NAME:ARCH, with * and ? for any characters. May be repeated
    #[arg(long, value_name = "PATTERN", value_parser = NonEmptyStringValueParser::new())]
    pub name: Vec<String>,
    /// Only the newest N versions of each package (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub newest: Option<u32>,
    /// The channel (default: the project's)
    #[arg(long, value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// Leave out packages that are refused, and name them, instead of ending at the first
    #[arg(long)]
    pub skip_refused: bool,
    /// Say what would be imported, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

//! The command line: what can be said, and the help that teaches it.

mod engine;
mod images;
mod life;
mod packages;
mod project;
mod run;

pub use engine::{Daemon, EngineArgs, EngineKind};
pub use images::{Audit, Compile, Diff, Flatten, Images, ImportImage, Load, Plan, Prune, Push, Rm, Tag};
pub use life::{Fsck, Gc, Pin, Unpin, Withdraw};
pub use packages::{List, Promote, Remove, Rollback, Search, Show, Why};
pub use project::{
    BuildOnly, BuildOptions, Channel, Export, Import, ImportFrom, Init, Lock, Outdated, Publish, Repo, Runtime, Serve, Shell, ShowRecipe,
    Update, cores,
};
pub use run::{Run, Volume};

use crate::log::LogFormat;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;

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
    /// Build some components and what they need, without publishing
    Build(BuildOnly),
    /// Show what a recipe found in a component's tree, and where the files of its last build went
    Recipe(ShowRecipe),
    /// Enter the container in which a component is built, or in which its build failed
    Shell(Shell),
    /// Add packages that someone else built to the channel
    Publish(Publish),
    /// List the channels and their snapshots, or move a channel to another snapshot
    Channel(Channel),
    /// List the packages of the channels: versions, sizes, where they are
    List(List),
    /// Find packages by words of their names and descriptions
    Search(Search),
    /// Say who needs a package: the chain from one that an image or a build asks for
    Why(Why),
    /// Show all that is known of a package
    Show(Show),
    /// Take packages out of a channel; the pool and earlier snapshots keep them
    Remove(Remove),
    /// Bring packages of one channel into another, the same bits
    Promote(Promote),
    /// Take a channel back to a state of before, and say which packages change
    Rollback(Rollback),
    /// Let a snapshot stay, whatever its channels do; without one, list those that stay
    Pin(Pin),
    /// Let a pinned snapshot go
    Unpin(Unpin),
    /// Say what nothing needs of the repository, and free it
    Gc(Gc),
    /// Take what must not be served any more out of the repository, for ever
    Withdraw(Withdraw),
    /// Look at every file of the repository, and mend what can be made again
    Fsck(Fsck),
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
    /// Account for every file of an image's layers above its base, and find what its programs lack
    Audit(Audit),
    /// Execute a Dockerfile in one pass, into one layer above its base
    Compile(Compile),
    /// Make the layers above an image's parent one layer
    Flatten(Flatten),
    /// Say what differs between two images, or between two channels or snapshots
    Diff(Diff),
    /// Say what images cost together, and how they would cost less
    Plan(Plan),
    /// Write all that another machine needs to rebuild the images into one archive
    Export(Export),
    /// Take in what `export` wrote: packages are checked, what it says of builds and channels is believed
    Import(Import),
    /// Bring packages of folders, or of another apt or yum repository, into a channel
    ImportFrom(Box<ImportFrom>),
    /// Say which engines work on this machine, and what to do where one does not
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
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
}

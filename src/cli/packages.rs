//! The commands of a repository's packages: what there is, what goes, what comes over from another channel.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// How packages are written.
const PACKAGES: &str = "A package is NAME, NAME=VERSION, NAME:ARCH or NAME:ARCH=VERSION, with * and ? for any characters (quote them from the\n\
    shell); or the whole digest that `twostage show` tells.";

#[derive(Args)]
#[command(after_help = format!("{PACKAGES}\n\n  \
    twostage list                         what the channels have now\n  \
    twostage list 'lib*' --channel main   of one channel, by name\n  \
    twostage list --all                   all of the pool: earlier versions, and what only builders use"))]
pub struct List {
    /// The packages (default: all)
    #[arg(value_name = "PATTERN", value_parser = NonEmptyStringValueParser::new())]
    pub patterns: Vec<String>,
    /// Only of this channel
    #[arg(long, value_name = "CHANNEL", conflicts_with = "all", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// All of the pool, also what is in no channel now
    #[arg(long)]
    pub all: bool,
}

#[derive(Args)]
#[command(after_help = "A package is found that has all the words in its name or its description, in capitals or not.\n\n  \
    twostage search yaml parser")]
pub struct Search {
    /// The words
    #[arg(value_name = "WORD", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub words: Vec<String>,
    /// All of the pool, also what is in no channel now
    #[arg(long)]
    pub all: bool,
}

#[derive(Args)]
#[command(
    after_help = "Each closure of twostage.lock that has the package is told: `runtime:IMAGE`, `build:COMPONENT`. What an image must not\n\
    have, its table forbids: forbid = [\"libx11-*\", \"systemd\"].\n\n  twostage why libpam-systemd"
)]
pub struct Why {
    /// The package's name
    #[arg(value_name = "PACKAGE", value_parser = NonEmptyStringValueParser::new())]
    pub package: String,
}

#[derive(Args)]
#[command(after_help = format!("{PACKAGES}\nWhat is in a channel is shown; where none has it, what the pool has.\n\n  \
    twostage show greet=1.0-1"))]
pub struct Show {
    /// The package
    #[arg(value_name = "PACKAGE[=VERSION]", value_parser = NonEmptyStringValueParser::new())]
    pub package: String,
}

#[derive(Args)]
#[command(after_help = format!("{PACKAGES} Without a version: all versions.\n\n\
    A new snapshot without them is published. The pool keeps the files, and earlier snapshots what they have, so\n\
    `twostage rollback` takes it back. What is damaged or lost can be taken out, too.\n\n  \
    twostage remove greet=2.0-1 --dry-run     what would go\n  \
    twostage remove greet=2.0-1               clients see the version before"))]
pub struct Remove {
    /// The packages
    #[arg(value_name = "NAME[=VERSION]", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub packages: Vec<String>,
    /// The channel (default: the project's)
    #[arg(long, value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// Say what would go, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Args)]
#[command(after_help = format!("{PACKAGES}\n\n\
    Nothing is built or copied: both channels have the same bits. Of a NAME without a version, TO has afterwards what FROM has,\n\
    and its other versions go; NAME=VERSION is added beside them. Without names and --component, TO becomes what FROM is, with\n\
    the same snapshot. Packages keep their groups. A channel that is not there is made.\n\n  \
    twostage promote testing main --dry-run        what clients of main would get\n  \
    twostage promote testing main                  all that was tested\n  \
    twostage promote testing main greet            only this package\n  \
    twostage promote testing main --component hello\n  \
    twostage promote testing main --snapshot @4d0f what testing was then"))]
pub struct Promote {
    /// The channel that has the packages
    #[arg(value_name = "FROM", value_parser = NonEmptyStringValueParser::new())]
    pub from: String,
    /// The channel that gets them
    #[arg(value_name = "TO", value_parser = NonEmptyStringValueParser::new())]
    pub to: String,
    /// The packages (default: all)
    #[arg(value_name = "NAME[=VERSION]", value_parser = NonEmptyStringValueParser::new())]
    pub packages: Vec<String>,
    /// What one component of the project built (or another group, by its whole name)
    #[arg(long, value_name = "COMPONENT", conflicts_with = "packages", value_parser = NonEmptyStringValueParser::new())]
    pub component: Option<String>,
    /// FROM as it was in this snapshot; the first digits of its name are enough
    #[arg(long, value_name = "SNAPSHOT", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot: Option<String>,
    /// Say what would change, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Args)]
#[command(override_usage = "twostage rollback [OPTIONS] [CHANNEL] [N|@SNAPSHOT]")]
#[command(
    after_help = "The channel is signed anew with a newer date, so that clients follow. It stays so until the next `repo` or `publish`. It is\n\
    a state as others are: a second rollback takes the first one back, `rollback 2` goes further.\n\n  \
    twostage rollback                 the project's channel, to the state before\n  \
    twostage rollback testing 2       two changes ago\n  \
    twostage rollback main @4d0f2b    to a snapshot, as `twostage channel main --to 4d0f2b` does"
)]
pub struct Rollback {
    /// The channel (default: the project's), and how many changes of its packages it goes back (default: 1), or the snapshot
    #[arg(value_name = "CHANNEL|N|@SNAPSHOT", num_args = 0..=2, value_parser = NonEmptyStringValueParser::new())]
    pub words: Vec<String>,
    /// Say what would change, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

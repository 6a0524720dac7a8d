//! What stays in the repository, what goes, and whether it is whole.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::path::PathBuf;

#[derive(Args)]
#[command(
    after_help = "An image that `push` or `load` gives away pins the snapshot that it was installed from, and `export` those of all\n\
    channels. `twostage gc --why` says what a pin keeps."
)]
pub struct Pin {
    /// The snapshot, or the channel whose snapshot of now is meant (default: list the pins). The first digits are enough
    #[arg(value_name = "@SNAPSHOT", requires = "reason", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot: Option<String>,
    /// Why it stays: one line
    #[arg(long, value_name = "TEXT", requires = "snapshot", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
}

#[derive(Args)]
pub struct Unpin {
    /// The snapshot. The first digits of its name are enough
    #[arg(value_name = "@SNAPSHOT", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot: String,
}

#[derive(Args)]
#[command(
    after_help = "Nothing goes that a channel, its history, a pin, `keep`, twostage.lock or the last build of a component needs, nor what\n\
    came in the last day and was never published. What a gone package was called stays known: one name, version and\n\
    architecture is one content, for ever. See docs/decisions/retention.md."
)]
pub struct Gc {
    /// Free it; without this it is only said
    #[arg(long)]
    pub yes: bool,
    /// Say why each thing stays
    #[arg(long)]
    pub why: bool,
    /// The lock of another project that has the same repository: what it names stays, too
    #[arg(long = "lock", value_name = "FILE")]
    pub locks: Vec<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Its bytes go, and are refused if they come again. Every channel goes on without it. Who asks for it gets 410 Gone with\n\
    the reason. Snapshots never change: those that had it stay, and say so. Copies elsewhere (images, caches, clients,\n\
    exports) are not reached. Exit status: 5 where a channel could not go on without it."
)]
pub struct Withdraw {
    /// A package: all of its versions, or one; or a digest, as a snapshot's SHA256SUMS has it, or of a source's file
    #[arg(value_name = "PACKAGE[=VERSION]|DIGEST", value_parser = NonEmptyStringValueParser::new())]
    pub what: String,
    /// Why: one line, for everybody who asks for it
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: String,
    /// Do it; it cannot be undone. Without this it is only said
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args)]
#[command(
    after_help = "Every file is hashed, whatever was found earlier. Exit status: 0 all is whole, or was mended; 1 something is damaged, and\n\
    --repair was not said; 5 something is lost."
)]
pub struct Fsck {
    /// Only what this channel needs (default: the whole repository)
    #[arg(value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// Make anew what can be, and move the rest to quarantine/ with a record of what it was
    #[arg(long)]
    pub repair: bool,
}

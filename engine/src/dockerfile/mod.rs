//! A Dockerfile, read without an engine: text in, stages with resolved instructions out.
//!
//! ```text
//! bytes ─► Dockerfile::parse ─► Dockerfile (stages of typed instructions, variables not expanded)
//!                              │
//! build arguments, platform ─► plan ─► Plan (what each FROM, COPY --from and mount names)
//!                                        │
//! a base's configuration ─► State::begin ─► State::apply(instruction) ─► Step (what an engine has to do)
//!                                            └─► State::image (the configuration, with history)
//! ```
//!
//! The rules are those of BuildKit's Dockerfile front end, `frontend/dockerfile` in moby/buildkit, named below by
//! its packages: `parser` (lines), `instructions` (what a line says), `shell` (variables), `dockerfile2llb` (what
//! it does to an image). What is not supported is an error that names line, instruction and the edit that mends it;
//! nothing is ignored in silence. Input is hostile: everything that grows is bounded by a constant below.

mod chmod;
pub mod config;
pub mod expand;
mod flags;
mod glob;
mod lines;
pub mod mount;
mod parse;
pub mod plan;
pub mod state;
#[cfg(test)]
mod tests;
pub(crate) mod values;

pub use chmod::{Change, Chmod};
pub use config::ImageConfig;
pub use flags::{MountField, MountKey, MountSpec};
pub use mount::Mount;
pub use plan::{Base, NamedContext, Options, Origin, Plan, Platform, familiar};
pub use state::{State, Step};

use std::fmt;
use twostage_model::{Class, Error, Result};

/// Bytes of a Dockerfile, at most.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of one line as it stands in the file, at most: `bufio.MaxScanTokenSize` of BuildKit's reader.
pub const MAX_LINE: usize = 64 * 1024 - 1;
/// Instructions in a Dockerfile, at most.
pub const MAX_INSTRUCTIONS: usize = 10_000;
/// Stages in a Dockerfile, at most.
pub const MAX_STAGES: usize = 256;
/// Heredocs of one instruction, at most.
pub const MAX_HEREDOCS: usize = 64;
/// Bytes that the variables of one instruction may expand to, at most.
pub const MAX_EXPANDED: usize = 4 << 20;
/// Bytes of all history lines of an image, at most.
pub const MAX_HISTORY: usize = 32 << 20;
/// Variables of a stage, at most.
pub const MAX_VARIABLES: usize = 4096;

/// A Dockerfile, parsed. Variables are not expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character, `\` or, after `# escape=`, a backtick.
    pub escape: char,
    /// The value of `# syntax=`.
    pub syntax: Option<String>,
    /// The ARGs before the first FROM.
    pub global_args: Vec<(At, Vec<Arg>)>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// What Docker warns about too.
    pub warnings: Vec<Warning>,
}

/// Something that works but should be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line, counted from 1.
    pub line: usize,
    /// A sentence without a full stop.
    pub what: String,
}

/// `FROM` and all up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Where the FROM is.
    pub at: At,
    /// What it starts from, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// The name after AS, in lower case.
    pub name: Option<String>,
    /// What follows the FROM.
    pub instructions: Vec<Located>,
}

/// An instruction and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its first line and name.
    pub at: At,
    /// Its last line, heredocs included.
    pub last_line: usize,
    /// The text of the instruction, continuations joined, without heredocs.
    pub source: String,
    /// What it says.
    pub instruction: Instruction,
}

/// A place in a Dockerfile: the line, counted from 1, and the instruction there in capitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The line.
    pub line: usize,
    /// The instruction.
    pub instruction: String,
}

impl At {
    /// An error of the instruction there: `what` is wrong, and `hint` mends it.
    pub fn error(&self, what: impl fmt::Display, hint: impl Into<String>) -> Error {
        wrong(self.line, format!("{}: {what}", self.instruction), hint)
    }
}

/// An error of a line. What the file says is hostile to terminals too, and may be long.
pub(crate) fn wrong(line: usize, what: impl fmt::Display, hint: impl Into<String>) -> Error {
    let shown = |text: String| -> String {
        let long = text.chars().nth(400).is_some();
        let short = text.chars().take(400).map(|c| if c.is_control() { '\u{fffd}' } else { c });
        short.chain(long.then_some('…')).collect()
    };
    Error::new(Class::Project, shown(format!("Dockerfile line {line}: {what}"))).hint(shown(hint.into()))
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.instruction)
    }
}

/// An instruction of a stage. What it holds is as written: [`State::apply`] expands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// RUN
    Run(Run),
    /// COPY
    Copy(Transfer),
    /// ADD
    Add(Transfer),
    /// ENV, in order
    Env(Vec<Pair>),
    /// ARG, in order
    Arg(Vec<Arg>),
    /// WORKDIR
    Workdir(String),
    /// USER
    User(String),
    /// SHELL
    Shell(Vec<String>),
    /// CMD
    Cmd(Command),
    /// ENTRYPOINT
    Entrypoint(Command),
    /// EXPOSE, sorted as BuildKit does
    Expose(Vec<String>),
    /// LABEL, in order
    Label(Vec<Pair>),
    /// VOLUME
    Volume(Vec<String>),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// STOPSIGNAL
    StopSignal(String),
    /// MAINTAINER
    Maintainer(String),
}

/// The two forms of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `RUN make`: a text for the SHELL.
    Shell(String),
    /// `RUN ["make"]`: program and arguments.
    Exec(Vec<String>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// The documents that the command names, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountSpec>,
    /// `--network`.
    pub network: RunNetwork,
}

/// What a RUN may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunNetwork {
    /// What the whole build may reach.
    #[default]
    Default,
    /// Nothing.
    None,
    /// The network of the machine.
    Host,
}

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Paths, or for ADD URLs.
    pub sources: Vec<String>,
    /// Documents that become files of their name; they come after the sources.
    pub documents: Vec<Heredoc>,
    /// Where to.
    pub destination: String,
    /// `--from` of COPY.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--checksum` of ADD.
    pub checksum: Option<String>,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// `--parents` of COPY: what is copied keeps the folders that it is in.
    pub parents: bool,
}

/// `<<NAME` and the lines up to `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, without quotes.
    pub name: String,
    /// The lines as they stand in the file, each with its end.
    pub content: String,
    /// Nothing of the delimiter was quoted, so COPY and ADD expand variables.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines do not count.
    pub chomp: bool,
}

impl Heredoc {
    /// The content, without leading tabs if `<<-` asked for that (`parser.ChompHeredocContent`).
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A name, and perhaps what it is when no build argument says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The name.
    pub name: String,
    /// The default.
    pub default: Option<String>,
}

/// HEALTHCHECK. Times are nanoseconds, and nothing means what the base, or the engine, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: whatever the base checks is not checked.
    None,
    /// `CMD`.
    Cmd {
        /// The command.
        command: Command,
        /// `--interval`
        interval: i64,
        /// `--timeout`
        timeout: i64,
        /// `--start-period`
        start_period: i64,
        /// `--start-interval`
        start_interval: i64,
        /// `--retries`
        retries: i32,
    },
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// Lines are joined and split as BuildKit's `parser` does it, and read as its `instructions` does.
    ///
    /// # Errors
    /// The file is too large, not UTF-8, has no FROM, or says something that is wrong or not supported; the error
    /// names line and instruction and the edit that mends it.
    pub fn parse(bytes: &[u8]) -> Result<Dockerfile> {
        let read = lines::read(bytes)?;
        let mut file =
            Dockerfile { escape: read.escape, syntax: read.syntax, global_args: Vec::new(), stages: Vec::new(), warnings: read.warnings };
        for line in read.lines {
            let (at, statement) = parse::statement(&line, file.escape)?;
            let count = file.stages.len();
            match (statement, file.stages.last_mut()) {
                (parse::Statement::From { .. }, _) if count == MAX_STAGES => {
                    return Err(at.error(format!("there are more than {MAX_STAGES} stages"), "split the file in two"));
                }
                (parse::Statement::From { base, platform, name }, _) => {
                    file.stages.push(Stage { at, base, platform, name, instructions: Vec::new() });
                }
                (parse::Statement::Instruction(Instruction::Arg(args)), None) => file.global_args.push((at, args)),
                (parse::Statement::Instruction(_), None) => {
                    return Err(at.error("it stands before the first FROM", "start with FROM; only ARG may stand before it"));
                }
                (parse::Statement::Instruction(instruction), Some(stage)) => {
                    stage.instructions.push(Located { at, last_line: line.last, source: line.text, instruction });
                }
            }
        }
        if file.stages.is_empty() {
            return Err(Error::new(Class::Project, "the Dockerfile has no FROM").hint("name a base, or `FROM scratch`, in its first line"));
        }
        Ok(file)
    }

    /// The stage of that name, upper or lower case; the last one if several have it.
    pub fn stage(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&name))
    }
}

//! From a logical line to a typed instruction. BuildKit's `parser` (how each instruction is split into words) and
//! `instructions` (what the words mean).

use super::flags::{self, Flags};
use super::lines::{self, Line};
use super::{Arg, At, Command, Healthcheck, Instruction, Pair, Run, RunNetwork, Transfer};
use twostage_model::Result;

/// What one logical line says.
pub(super) enum Statement {
    From { base: String, platform: Option<String>, name: Option<String> },
    Instruction(Instruction),
}

const KNOWN: [&str; 17] = [
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "WORKDIR",
    "USER",
    "SHELL",
    "CMD",
    "ENTRYPOINT",
    "EXPOSE",
    "LABEL",
    "VOLUME",
    "HEALTHCHECK",
    "STOPSIGNAL",
    "MAINTAINER",
];

/// The spaces that separate words where no quotes are known: `[\t\v\f\r ]+`.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

fn split_once(text: &str) -> (&str, Option<&str>) {
    match text.split_once(is_space) {
        Some((first, rest)) => (first, Some(rest.trim_start_matches(is_space))),
        None => (text, None),
    }
}

fn spaced(text: &str) -> Vec<String> {
    text.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Reads one logical line.
pub(super) fn statement(line: &Line, escape: char) -> Result<(At, Statement)> {
    let (name, rest) = split_once(&line.text);
    let instruction: String = name.to_ascii_uppercase().chars().take(32).collect();
    let at = At { line: line.first, instruction };
    if !KNOWN.contains(&at.instruction.as_str()) {
        return Err(unknown(&at));
    }
    let (flags, rest) = flags::split(rest.unwrap_or_default());
    let rest = rest.trim();
    let mut request = Request { at: &at, flags: Flags::new(&at, flags), rest, escape, line };
    let statement = match at.instruction.as_str() {
        "FROM" => request.from()?,
        _ => Statement::Instruction(request.instruction()?),
    };
    request.flags.finish()?;
    Ok((at, statement))
}

fn unknown(at: &At) -> twostage_model::Error {
    let name = at.instruction.as_str();
    match name {
        "ONBUILD" => at.error("it is not supported", "write the instruction into the Dockerfiles that use this image"),
        _ => match KNOWN.iter().find(|known| near(name, known)) {
            Some(known) => at.error("there is no such instruction", format!("did you mean {known}?")),
            None if at.line > 1 => {
                at.error("there is no such instruction", "if it belongs to the line before, end that line with the escape character")
            }
            None => at.error("there is no such instruction", format!("what there is: {}", KNOWN.join(", "))),
        },
    }
}

/// One letter is missing, too many, another one, or two stand in the wrong order.
fn near(word: &str, known: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (word.chars().collect(), known.chars().collect());
    let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(start..).unwrap_or_default(), b.get(start..).unwrap_or_default());
    match (a, b) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, more @ ..], b) if more == b => true,
        (a, [_, more @ ..]) if more == a => true,
        ([a1, a2, a @ ..], [b1, b2, b @ ..]) => a1 == b2 && a2 == b1 && a == b,
        _ => false,
    }
}

struct Request<'a> {
    at: &'a At,
    flags: Flags<'a>,
    rest: &'a str,
    escape: char,
    line: &'a Line,
}

impl Request<'_> {
    fn instruction(&mut self) -> Result<Instruction> {
        let text = || self.rest.to_owned();
        Ok(match self.at.instruction.as_str() {
            "RUN" => self.run()?,
            "COPY" => {
                // (An empty one is none, as in BuildKit.)
                let from = self.flags.one("from")?.filter(|from| !from.is_empty());
                Instruction::Copy(self.transfer(from, None)?)
            }
            "ADD" => {
                let checksum = self.flags.one("checksum")?;
                Instruction::Add(self.transfer(None, checksum)?)
            }
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "ARG" => Instruction::Arg(self.args()?),
            "WORKDIR" => self.needed("a folder", "/srv").map(|()| Instruction::Workdir(text()))?,
            "USER" => self.needed("a user", "nobody").map(|()| Instruction::User(text()))?,
            "MAINTAINER" => self.needed("a name", "somebody@example.org").map(|()| Instruction::Maintainer(text()))?,
            "STOPSIGNAL" => self.needed("a signal", "SIGTERM").map(|()| Instruction::StopSignal(text()))?,
            "SHELL" => match self.command()? {
                Command::Exec(words) if !words.is_empty() => Instruction::Shell(words),
                _ => return Err(self.at.error("it has to be a list", "write it as SHELL [\"/bin/bash\", \"-c\"]")),
            },
            "CMD" => Instruction::Cmd(self.command()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command()?),
            "EXPOSE" => {
                self.needed("a port", "80/tcp")?;
                let mut ports = spaced(self.rest);
                ports.sort();
                Instruction::Expose(ports)
            }
            "VOLUME" => self.volume()?,
            _ => Instruction::Healthcheck(self.healthcheck()?),
        })
    }

    fn needed(&self, what: &str, example: &str) -> Result<()> {
        if self.rest.is_empty() {
            return Err(self.at.error(format!("it names no {}", what.trim_start_matches("a ")), self.example(example)));
        }
        Ok(())
    }

    fn example(&self, example: &str) -> String {
        format!("write for example {} {example}", self.at.instruction)
    }

    /// `FROM [--platform=P] IMAGE [AS NAME]` (`parseFrom`).
    fn from(&mut self) -> Result<Statement> {
        let platform = self.flags.one("platform")?;
        let words = spaced(self.rest);
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some(name.to_lowercase())),
            _ => return Err(self.at.error("it takes IMAGE or IMAGE AS NAME", self.example("debian:12-slim AS build"))),
        };
        if let Some(name) = &name {
            let first = name.starts_with(|c: char| c.is_ascii_lowercase());
            if !first || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')) {
                let hint = "start it with a letter; then letters, digits and - _ . may follow";
                return Err(self.at.error(format!("a stage cannot be named {name:?}"), hint));
            }
        }
        Ok(Statement::From { base: base.clone(), platform, name })
    }

    fn run(&mut self) -> Result<Instruction> {
        let mounts = self.flags.all("mount")?.iter().map(|text| flags::mount(self.at, text)).collect::<Result<_>>()?;
        let network = match self.flags.one("network")?.as_deref() {
            None | Some("default") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(other) => return Err(self.at.error(format!("there is no network {other:?}"), "use default, none or host")),
        };
        let command = self.command()?;
        match &command {
            Command::Exec(words) if words.is_empty() => Err(self.at.error("the list is empty", self.example("[\"/bin/true\"]"))),
            Command::Exec(_) if !self.line.heredocs.is_empty() => {
                Err(self.at.error("a list cannot have a heredoc", "write the command without [ ]"))
            }
            _ => Ok(Instruction::Run(Run { command, heredocs: self.line.heredocs.clone(), mounts, network })),
        }
    }

    /// A JSON list of strings, or a text (`parseMaybeJSON`).
    fn command(&self) -> Result<Command> {
        Ok(self.list(self.rest)?.map_or_else(|| Command::Shell(self.rest.to_owned()), Command::Exec))
    }

    /// The JSON list, nothing if the text is none, an error if it is one of other things than strings.
    fn list(&self, text: &str) -> Result<Option<Vec<String>>> {
        if !text.starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
        let strings = values.into_iter().map(|value| match value {
            serde_json::Value::String(text) => Ok(text),
            other => Err(self.at.error(format!("{other} in the list is not a string"), format!("put it in quotes: \"{other}\""))),
        });
        let strings = strings.collect::<Result<Vec<_>>>()?;
        match strings.iter().find(|text| text.contains('\0')) {
            Some(_) => Err(self.at.error("there is a zero byte in the list", "remove it")),
            None => Ok(Some(strings)),
        }
    }

    fn transfer(&mut self, from: Option<String>, checksum: Option<String>) -> Result<Transfer> {
        let (chown, chmod) = (self.flags.one("chown")?, self.flags.one("chmod")?);
        let exclude = self.flags.all("exclude")?;
        let parents = self.at.instruction == "COPY" && self.flags.said("parents")?;
        if let Some(from) = &from
            && from.contains(['$', '\'', '"', '\\'])
        {
            let hint = "define a stage with `FROM ${NAME} AS alias` at the top and name that";
            return Err(self.at.error(format!("--from={from} cannot hold variables"), hint));
        }
        let mut words = self.list(self.rest)?.unwrap_or_else(|| spaced(self.rest));
        let (Some(destination), false) = (words.pop(), words.is_empty()) else {
            return Err(self.at.error("it needs a source and a destination", self.example("app /usr/bin/app")));
        };
        if lines::heredoc(&destination).is_some() {
            return Err(self.at.error("a heredoc cannot be the destination", "name the file that the document becomes"));
        }
        let (sources, documents) = (Vec::new(), Vec::new());
        let mut transfer = Transfer { sources, documents, destination, from, chown, chmod, checksum, exclude, parents };
        for word in words {
            let Some(document) = lines::heredoc(&word) else {
                transfer.sources.push(word);
                continue;
            };
            let Some(found) = self.line.heredocs.iter().rev().find(|found| found.name == document.name) else {
                return Err(self
                    .at
                    .error(format!("the heredoc {:?} has no lines", document.name), "write it without [ ] and quotes around it"));
            };
            transfer.documents.push(found.clone());
        }
        for document in &transfer.documents {
            if document.name.contains('/') || matches!(document.name.as_str(), "." | "..") {
                let hint = "use a name without /, and give the folder in the destination";
                return Err(self.at.error(format!("the heredoc {:?} cannot be a file name", document.name), hint));
            }
        }
        Ok(transfer)
    }

    /// `NAME=value …`, or the old `NAME value` (`parseNameVal`).
    fn pairs(&self) -> Result<Vec<Pair>> {
        let words = quoted_words(self.rest, self.escape);
        let Some(first) = words.first() else { return Err(self.at.error("it sets nothing", self.example("NAME=value"))) };
        if !first.contains('=') {
            let (name, value) = split_once(self.rest);
            let Some(value) = value else { return Err(self.at.error(format!("{name} has no value"), self.example("NAME=value"))) };
            return Ok(vec![Pair { name: name.to_owned(), value: value.to_owned() }]);
        }
        let pair = |word: &String| match word.split_once('=') {
            Some(("", _)) => Err(self.at.error(format!("{word} has no name"), self.example("NAME=value"))),
            Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned() }),
            None => Err(self.at.error(format!("{word} has no ="), "put quotes around a value with spaces: NAME=\"a b\"")),
        };
        words.iter().map(pair).collect()
    }

    /// `NAME`, `NAME=default`, several of them (`parseArg`).
    fn args(&self) -> Result<Vec<Arg>> {
        let words = quoted_words(self.rest, self.escape);
        if words.is_empty() {
            return Err(self.at.error("it declares nothing", self.example("NAME=default")));
        }
        let arg = |word: String| match word.split_once('=') {
            Some(("", _)) => Err(self.at.error(format!("{word} has no name"), self.example("NAME=default"))),
            Some((name, value)) => Ok(Arg { name: name.to_owned(), default: Some(value.to_owned()) }),
            None => Ok(Arg { name: word, default: None }),
        };
        words.into_iter().map(arg).collect()
    }

    fn volume(&self) -> Result<Instruction> {
        let volumes = self.list(self.rest)?.unwrap_or_else(|| spaced(self.rest));
        let volumes: Vec<String> = volumes.iter().map(|volume| volume.trim().to_owned()).collect();
        if volumes.is_empty() || volumes.iter().any(String::is_empty) {
            return Err(self.at.error("it names no folder", self.example("/var/lib/data")));
        }
        Ok(Instruction::Volume(volumes))
    }

    fn healthcheck(&mut self) -> Result<Healthcheck> {
        let [interval, timeout, start_period, start_interval] =
            ["interval", "timeout", "start-period", "start-interval"].map(|flag| self.time(flag));
        let (interval, timeout, start_period, start_interval) = (interval?, timeout?, start_period?, start_interval?);
        let retries = match self.flags.one("retries")? {
            None => 0,
            Some(text) if text.is_empty() => 0,
            Some(text) => match text.parse::<i32>() {
                Ok(retries) if retries >= 0 => retries,
                _ => return Err(self.at.error(format!("--retries cannot be {text:?}"), "write a number, 0 or more")),
            },
        };
        let (kind, behind) = self.rest.split_once(char::is_whitespace).unwrap_or((self.rest, ""));
        let behind = behind.trim_start();
        match kind.to_uppercase().as_str() {
            "NONE" if behind.is_empty() => Ok(Healthcheck::None),
            "NONE" => Err(self.at.error("NONE takes nothing", format!("remove {behind:?}, or write CMD"))),
            "CMD" => {
                let command = self.list(behind)?.map_or_else(|| Command::Shell(behind.to_owned()), Command::Exec);
                if matches!(&command, Command::Exec(words) if words.is_empty()) || behind.is_empty() {
                    return Err(self.at.error("there is no command after CMD", self.example("CMD curl -f http://localhost/")));
                }
                Ok(Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries })
            }
            _ => Err(self.at.error(format!("it cannot start with {kind:?}"), "write HEALTHCHECK CMD …, or HEALTHCHECK NONE")),
        }
    }

    /// A time of at least a millisecond, or 0 for what is inherited (`parseOptInterval`).
    fn time(&mut self, flag: &str) -> Result<i64> {
        let Some(text) = self.flags.one(flag)?.filter(|text| !text.is_empty()) else { return Ok(0) };
        match flags::duration(&text) {
            Some(time) if time == 0 || time >= 1_000_000 => Ok(time),
            Some(_) => Err(self.at.error(format!("--{flag}={text} is too short"), "write 1ms or more")),
            None => Err(self.at.error(format!("--{flag}={text} is not a time"), "write for example 30s or 1m30s")),
        }
    }
}

/// Words at spaces, but not in quotes; quotes and escapes stay (`parseWords`).
fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        match quote {
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // At the very end it escapes nothing and is dropped.
            let Some(next) = chars.next() else { break };
            word.push(c);
            word.push(next);
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

//! From bytes to logical lines: directives, comments, continuations, heredocs. BuildKit's `parser.Parse`.
//!
//! ```text
//! # escape=`            a directive: only at the top, before any other line
//! RUN one `             continued
//!     # a comment       dropped, also in the middle of a continuation
//!                       an empty line there is dropped too, with a warning
//!     two               ─► RUN one     two
//! COPY <<EOF /x         the lines up to EOF are its document
//! hello
//! EOF
//! ```

use super::expand::{Env, Lexer};
use super::{At, Heredoc, MAX_BYTES, MAX_HEREDOCS, MAX_INSTRUCTIONS, MAX_LINE, Warning, wrong};
use twostage_model::{Class, Error, Result};

/// What `read` found.
pub(super) struct Read {
    pub escape: char,
    pub syntax: Option<String>,
    pub lines: Vec<Line>,
    pub warnings: Vec<Warning>,
}

/// A logical line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its first and last line in the file, from 1.
    pub first: usize,
    pub last: usize,
    /// Continuations joined, spaces at both ends removed; never empty.
    pub text: String,
    pub heredocs: Vec<Heredoc>,
}

/// Splits a Dockerfile into logical lines.
pub(super) fn read(bytes: &[u8]) -> Result<Read> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(Class::Project, format!("the Dockerfile has more than {MAX_BYTES} bytes"))
            .hint("move what is long into files of the context and COPY them"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|cause| {
        let line = bytes.iter().take(cause.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        wrong(line, "it is not UTF-8", "save the file as UTF-8")
    })?;
    let mut source = Source { rest: text.split_inclusive('\n'), number: 0 };
    let mut read = Read { escape: '\\', syntax: None, lines: Vec::new(), warnings: Vec::new() };
    let mut directives = Directives { done: false, seen: Vec::new() };
    while let Some(raw) = source.next()? {
        let first = source.number;
        let start = trim_end_of_line(raw).trim_start();
        directives.look(start, first, &mut read)?;
        if start.is_empty() || start.starts_with('#') {
            continue;
        }
        let (mut text, mut more) = continued(start, read.escape);
        while more {
            let Some(raw) = source.next()? else { break };
            let part = trim_end_of_line(raw);
            let bare = part.trim_start();
            if bare.starts_with('#') {
                continue;
            }
            if bare.is_empty() {
                read.warnings.push(Warning { line: source.number, what: "an empty line continues nothing; remove it".into() });
                continue;
            }
            let (part, goes_on) = continued(part, read.escape);
            text += &part;
            more = goes_on;
        }
        let text = text.trim().to_owned();
        if text.is_empty() {
            return Err(wrong(first, "the line is continued and nothing follows", "remove it"));
        }
        if read.lines.len() == MAX_INSTRUCTIONS {
            return Err(wrong(first, format!("there are more than {MAX_INSTRUCTIONS} instructions"), "split the file in two"));
        }
        let heredocs = documents(&text, first, &mut source)?;
        read.lines.push(Line { first, last: source.number, text, heredocs });
    }
    Ok(read)
}

struct Source<'t> {
    rest: std::str::SplitInclusive<'t, char>,
    number: usize,
}

impl<'t> Source<'t> {
    fn next(&mut self) -> Result<Option<&'t str>> {
        let Some(line) = self.rest.next() else { return Ok(None) };
        self.number += 1;
        if line.len() > MAX_LINE {
            return Err(wrong(self.number, format!("the line has more than {MAX_LINE} bytes"), "break it with the escape character"));
        }
        if line.contains('\0') {
            return Err(wrong(self.number, "there is a zero byte", "remove it"));
        }
        Ok(Some(line))
    }
}

fn trim_end_of_line(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// The line without its continuation, and whether it had one: the escape character at the end, perhaps with spaces
/// behind it, unless another one stands before it (`lineContinuationRegex`).
fn continued(line: &str, escape: char) -> (String, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before.to_owned(), true),
        _ => (line.to_owned(), false),
    }
}

/// `# name=value` at the top (`parser.DirectiveParser`).
struct Directives {
    done: bool,
    seen: Vec<String>,
}

impl Directives {
    fn look(&mut self, line: &str, number: usize, read: &mut Read) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let Some((name, value)) = directive(line) else {
            self.done = true;
            return Ok(());
        };
        if self.seen.contains(&name) {
            return Err(wrong(number, format!("the directive {name} is there twice"), "keep one of them"));
        }
        match (name.as_str(), value) {
            ("escape", "\\" | "`") => read.escape = if value == "`" { '`' } else { '\\' },
            ("escape", _) => {
                return Err(wrong(number, format!("escape cannot be {value:?}"), "`# escape=\\` or `# escape=` and a backtick"));
            }
            ("syntax", _) if is_dockers(value) => read.syntax = Some(value.to_owned()),
            ("syntax", _) => {
                let hint = "remove the line; the syntax here is that of docker/dockerfile";
                return Err(wrong(number, format!("the front end {value:?} is not run here"), hint));
            }
            // Which lint rules are checked: nothing here lints.
            ("check", _) => {}
            _ => {
                self.done = true;
                return Ok(());
            }
        }
        self.seen.push(name);
        Ok(())
    }
}

/// `docker/dockerfile:1` and its kin, which say what is read here anyway.
fn is_dockers(syntax: &str) -> bool {
    let image = syntax.split_whitespace().next().unwrap_or_default();
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = image.split(['@', ':']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim());
    let letters = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    (letters && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// Reads the documents that a RUN, COPY or ADD names (`parser.heredocsFromLine`).
fn documents(text: &str, first: usize, source: &mut Source<'_>) -> Result<Vec<Heredoc>> {
    let name = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !text.contains("<<") || !matches!(name.as_str(), "RUN" | "COPY" | "ADD") {
        return Ok(Vec::new());
    }
    let at = At { line: first, instruction: name };
    let env = Env::default();
    // A line that the lexer cannot split has no heredoc: the shell of a RUN may well read it.
    let words = Lexer::raw(&env).words(text).unwrap_or_default();
    let mut documents = Vec::new();
    for word in words {
        let Some(mut document) = heredoc(&word) else { continue };
        if documents.len() == MAX_HEREDOCS {
            return Err(at.error(format!("there are more than {MAX_HEREDOCS} heredocs"), "split the instruction"));
        }
        loop {
            let Some(line) = source.next()? else {
                let hint = format!("end the document with a line that is only {}", document.name);
                return Err(at.error(format!("the heredoc {:?} does not end", document.name), hint));
            };
            let end = trim_end_of_line(line);
            if (if document.chomp { end.trim_start_matches('\t') } else { end }) == document.name {
                break;
            }
            document.content += line;
        }
        documents.push(document);
    }
    Ok(documents)
}

/// A word that is `<<NAME`, `<<-NAME`, `3<<NAME`, the name perhaps quoted (`parser.ParseHeredoc`). Its content is
/// empty still.
pub(super) fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let env = Env::default();
    let mut plain = Lexer::raw(&env);
    (plain.raw_quotes, plain.raw_escapes) = (false, false);
    let mut quoted = Lexer::raw(&env);
    quoted.raw_escapes = false;
    let (plain, quoted) = (plain.words(rest).ok()?, quoted.words(rest).ok()?);
    let ([name], [raw]) = (plain.as_slice(), quoted.as_slice()) else { return None };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Heredoc { name: name.clone(), content: String::new(), expand: quotes(name) == quotes(raw), chomp })
}

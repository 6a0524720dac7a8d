//! Variables in words, as BuildKit's `shell` package expands them, and the variables themselves.
//!
//! ```text
//! $A ${A}            the value, or nothing
//! ${A-w} ${A:-w}     w if A is not set; with the colon also if it is empty
//! ${A+w} ${A:+w}     w if A is set; with the colon only if it is not empty
//! ${A?w} ${A:?w}     an error that says w
//! ${A#p} ${A##p}     without the shortest, or longest, beginning that is like the pattern p
//! ${A%p} ${A%%p}     without such an end
//! ${A/p/w} ${A//p/w} with w for the first, or for all, that is like p
//! \$ '$A'            no variable
//! "$A"               the value, never split
//! ```
//!
//! Which instructions are expanded is decided in `state.rs`: all but the commands of RUN, CMD, ENTRYPOINT and
//! HEALTHCHECK and the words of SHELL.

use super::glob::Glob;
use super::{At, MAX_EXPANDED};
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;
use twostage_model::Error;

/// How deep `${A:-${B:-…}}` may go.
const MAX_DEPTH: usize = 32;

/// Variables, in the order in which they were last set (`llb.EnvList`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    values: BTreeMap<String, (u64, String)>,
    next: u64,
}

impl Env {
    /// The value, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    /// Sets it, whatever it was; it is the last one now.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), (self.next, value.into()));
        self.next += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of them, in order.
    pub fn list(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.values.iter().collect();
        all.sort_by_key(|(_, (when, _))| *when);
        all.into_iter().map(|(name, (_, value))| (name.clone(), value.clone())).collect()
    }
}

/// Why a word cannot be expanded, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// The edit that mends it.
    pub hint: &'static str,
}

impl Problem {
    /// An error of the instruction that the word is in.
    pub(super) fn at(self, at: &At) -> Error {
        at.error(self.what, self.hint)
    }
}

fn problem<T>(what: impl Into<String>, hint: &'static str) -> Result<T, Problem> {
    Err(Problem { what: what.into(), hint })
}

/// Expands the words of one instruction (`shell.Lex`).
#[derive(Debug)]
pub struct Lexer<'e> {
    env: &'e Env,
    escape: char,
    /// Quotes mean something.
    pub(super) quotes: bool,
    /// Quotes stay in the result.
    pub(super) raw_quotes: bool,
    /// Escape characters stay in the result.
    pub(super) raw_escapes: bool,
    /// A variable that is not set stays as it is.
    pub(super) keep_unset: bool,
    /// Bytes that may still be made.
    left: usize,
}

impl<'e> Lexer<'e> {
    /// For words: quotes and escapes are taken away.
    pub fn new(env: &'e Env, escape: char) -> Self {
        Lexer { env, escape, quotes: true, raw_quotes: false, raw_escapes: false, keep_unset: false, left: MAX_EXPANDED }
    }

    /// For documents: quotes are text, and `\` escapes whatever `# escape=` says.
    pub fn document(env: &'e Env) -> Self {
        Lexer { quotes: false, ..Lexer::new(env, '\\') }
    }

    /// For finding heredocs: splits and changes nothing.
    pub(super) fn raw(env: &'e Env) -> Self {
        Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new(env, '\\') }
    }

    /// The word, expanded; spaces in it stay.
    ///
    /// # Errors
    /// A quote or brace is not closed, the form of a variable is not known, `${A?}` says so, or it becomes too much.
    pub fn word(&mut self, word: &str) -> Result<String, Problem> {
        Ok(self.process(word)?.0)
    }

    /// The word, expanded and split at spaces that are not quoted.
    ///
    /// # Errors
    /// As [`Lexer::word`].
    pub fn words(&mut self, word: &str) -> Result<Vec<String>, Problem> {
        Ok(self.process(word)?.1)
    }

    fn process(&mut self, word: &str) -> Result<(String, Vec<String>), Problem> {
        self.until(&mut word.chars().peekable(), None, 0)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Problem> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => problem(format!("its variables expand to more than {MAX_EXPANDED} bytes"), "shorten their values"),
        }
    }

    /// All up to `stop`, or to the end (`processStopOn`).
    fn until(&mut self, rest: &mut Peekable<Chars<'_>>, stop: Option<char>, depth: usize) -> Result<(String, Vec<String>), Problem> {
        if depth > MAX_DEPTH {
            return problem(format!("variables stand in each other more than {MAX_DEPTH} deep"), "use an ARG for a part of it");
        }
        let (mut text, mut words) = (String::new(), Words::default());
        while let Some(&c) = rest.peek() {
            if Some(c) == stop {
                rest.next();
                return Ok((text, words.finish()));
            }
            if c == '$' {
                let value = self.dollar(rest, depth)?;
                self.spend(value.len())?;
                text += &value;
                value.chars().for_each(|c| words.add(c));
            } else if self.quotes && matches!(c, '\'' | '"') {
                let value = if c == '"' { self.double(rest, depth)? } else { self.single(rest)? };
                text += &value;
                words.add_quoted(&value);
            } else {
                rest.next();
                if c == self.escape {
                    if self.raw_escapes {
                        words.add_raw(c);
                        text.push(c);
                    }
                    let Some(next) = rest.next() else { break };
                    words.add_raw(next);
                    text.push(next);
                } else {
                    words.add(c);
                    text.push(c);
                }
            }
        }
        match stop {
            Some(_) => problem("a ${ is not closed", "write the } that is missing, or \\$ for a dollar sign"),
            None => Ok((text, words.finish())),
        }
    }

    fn single(&mut self, rest: &mut Peekable<Chars<'_>>) -> Result<String, Problem> {
        let mut text = String::new();
        rest.next();
        if self.raw_quotes {
            text.push('\'');
        }
        for c in rest.by_ref() {
            if c == '\'' {
                if self.raw_quotes {
                    text.push(c);
                }
                return Ok(text);
            }
            text.push(c);
        }
        problem("a ' is not closed", "write the ' that is missing, or \\' for an apostrophe")
    }

    fn double(&mut self, rest: &mut Peekable<Chars<'_>>, depth: usize) -> Result<String, Problem> {
        let mut text = String::new();
        rest.next();
        if self.raw_quotes {
            text.push('"');
        }
        while let Some(&c) = rest.peek() {
            if c == '$' {
                let value = self.dollar(rest, depth)?;
                self.spend(value.len())?;
                text += &value;
                continue;
            }
            rest.next();
            if c == '"' {
                if self.raw_quotes {
                    text.push(c);
                }
                return Ok(text);
            }
            if c != self.escape {
                text.push(c);
                continue;
            }
            if self.raw_escapes {
                text.push(c);
            }
            // Only these can be escaped in here; before anything else the escape character is one of the text.
            match rest.peek() {
                None => {}
                Some(&next) if next == '"' || next == '$' || next == self.escape => {
                    rest.next();
                    text.push(next);
                }
                Some(_) => text.push(c),
            }
        }
        problem("a \" is not closed", "write the \" that is missing, or \\\" for a quotation mark")
    }

    fn dollar(&mut self, rest: &mut Peekable<Chars<'_>>, depth: usize) -> Result<String, Problem> {
        rest.next();
        if rest.peek() != Some(&'{') {
            let name = name(rest);
            return Ok(match self.env.get(&name) {
                _ if name.is_empty() => "$".to_owned(),
                None if self.keep_unset => format!("${name}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        rest.next();
        if matches!(rest.peek(), Some('{' | '}' | ':')) {
            return problem("a variable has no name", "name it: ${NAME}, or write \\$ for a dollar sign");
        }
        let name = name(rest);
        let value = self.env.get(&name);
        let Some(sign) = rest.next() else { return problem("a ${ is not closed", "write the } that is missing") };
        if sign == '}' {
            return Ok(match value {
                None if self.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        let colon = sign == ':';
        let sign = if colon { rest.next() } else { Some(sign) };
        if let (false, Some(sign @ ('#' | '%' | '/'))) = (colon, sign) {
            return self.pattern(rest, &name, sign, depth);
        }
        let Some(sign @ ('-' | '+' | '?')) = sign else {
            let colon = if colon { ":" } else { "" };
            let sign = sign.map(String::from).unwrap_or_default();
            return problem(
                format!("the form ${{{name}{colon}{sign}…}} is not known"),
                "use ${A}, or one of - + ? :- :+ :? # ## % %% / // after the name",
            );
        };
        let (word, _) = self.until(rest, Some('}'), depth + 1)?;
        let missing = value.is_none_or(|value| colon && value.is_empty());
        match (sign, value) {
            (_, None) if self.keep_unset => Ok(format!("${{{name}{}{sign}{word}}}", if colon { ":" } else { "" })),
            ('-', _) if missing => Ok(word),
            ('+', _) => Ok(if missing { String::new() } else { word }),
            ('?', _) if missing => {
                let state = if value.is_none() { "not set" } else { "empty" };
                let why = if word.is_empty() { String::new() } else { format!(": {word}") };
                problem(format!("{name} is {state}{why}"), "give it with --build-arg, or a default with ARG")
            }
            (_, value) => Ok(value.unwrap_or_default().to_owned()),
        }
    }

    /// What follows the name in `${A#p}` and its kin.
    fn pattern(&mut self, rest: &mut Peekable<Chars<'_>>, name: &str, sign: char, depth: usize) -> Result<String, Problem> {
        let twice = rest.next_if_eq(&sign).is_some();
        // An escape says that a character of the pattern is only that.
        let raw = std::mem::replace(&mut self.raw_escapes, true);
        let word = self.until(rest, Some(if sign == '/' { '/' } else { '}' }), depth + 1);
        self.raw_escapes = raw;
        let word = word?.0;
        let by = if sign == '/' { self.until(rest, Some('}'), depth + 1)?.0 } else { String::new() };
        let Some(value) = self.env.get(name) else {
            let signs: String = std::iter::repeat_n(sign, if twice { 2 } else { 1 }).collect();
            let by = if sign == '/' { format!("/{by}") } else { by };
            return Ok(if self.keep_unset { format!("${{{name}{signs}{word}{by}}}") } else { String::new() });
        };
        let glob = Glob::parse(&word)?;
        match sign {
            '#' => glob.without_start(value, twice),
            '%' => glob.without_end(value, twice),
            _ => {
                self.spend(value.len().saturating_mul(by.len()))?;
                glob.replaced(value, &by, twice)
            }
        }
    }
}

/// Letters, digits and `_`; or only digits; or one special parameter of the shell (`processName`).
fn name(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    match rest.peek() {
        Some(c) if c.is_numeric() => {
            while let Some(c) = rest.next_if(|c| c.is_numeric()) {
                name.push(c);
            }
        }
        Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(rest.next()),
        _ => {
            while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                name.push(c);
            }
        }
    }
    name
}

#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
}

impl Words {
    fn add(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn add_raw(&mut self, c: char) {
        self.word.push(c);
    }

    fn add_quoted(&mut self, text: &str) {
        self.word += text;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        let mut env = Env::default();
        for (name, value) in [
            ("PWD", "/home"),
            ("SHELL", "bash"),
            ("KOREAN", "한국어"),
            ("NULL", ""),
            ("LIST", "a b"),
            ("1", "one"),
            ("PATHS", "/usr/lib/x.tar.gz"),
        ] {
            env.set(name, value);
        }
        env
    }

    /// Each line: the word, and what BuildKit makes of it; `error` is an error.
    #[test]
    fn words_are_expanded_as_dockers_shell_lexer_does() {
        let cases = [
            ("hello", "hello"),
            ("he'll'o", "hello"),
            ("he\"ll\"o", "hello"),
            ("he'llo", "error"),
            ("he\"llo", "error"),
            (r"he\'llo", "he'llo"),
            (r"he\\'llo", "error"),
            (r#""he\"llo""#, "he\"llo"),
            (r#""hel\lo""#, r"hel\lo"),
            (r"hel\lo", "hello"),
            (r"hello\", "hello"),
            ("'hel\\lo'", r"hel\lo"),
            ("$PWD", "/home"),
            ("'$PWD'", "$PWD"),
            ("\"$PWD\"", "/home"),
            (r#""\$PWD""#, "$PWD"),
            (r"\$PWD", "$PWD"),
            (r"\\$PWD", r"\/home"),
            ("$PWD$", "/home$"),
            ("$.", "$."),
            ("$1x", "onex"),
            ("$9", ""),
            ("$NONE|x", "|x"),
            ("he$PWDx", "he"),
            ("he${PWD}x", "he/homex"),
            ("${PWD", "error"),
            ("${}", "error"),
            ("${{x}}", "error"),
            ("${:-x}", "error"),
            ("${PWD=x}", "error"),
            ("${PWD:=x}", "error"),
            ("${PWD#/}", "home"),
            ("${PWD#home}", "/home"),
            ("${PWD:#/}", "error"),
            ("${PWD#*o}", "me"),
            ("${PATHS#*/}", "usr/lib/x.tar.gz"),
            ("${PATHS##*/}", "x.tar.gz"),
            ("${PATHS%.*}", "/usr/lib/x.tar"),
            ("${PATHS%%.*}", "/usr/lib/x"),
            ("${PATHS%%?z}", "/usr/lib/x.tar."),
            ("${PATHS/usr/opt}", "/opt/lib/x.tar.gz"),
            ("${PATHS/\\//:}", ":usr/lib/x.tar.gz"),
            ("${PATHS//\\//:}", ":usr:lib:x.tar.gz"),
            ("${PATHS//[a-z]/}", "/usr/lib/x.tar.gz"),
            ("${PATHS//?r/<$SHELL>}", "/u<bash>/lib/x.t<bash>.gz"),
            ("${PATHS//*/x}", "x"),
            ("${NULL//*/x}", "x"),
            ("${NONE#x}|${NONE/a/b}", "|"),
            ("${PWD#\\h}", "error"),
            ("${PWD/a", "error"),
            ("${PWD/a/b", "error"),
            ("${PWD:}", "error"),
            ("${NONE-w}", "w"),
            ("${NULL-w}", ""),
            ("${PWD-w}", "/home"),
            ("${NONE:-w}", "w"),
            ("${NULL:-w}", "w"),
            ("${PWD:-w}", "/home"),
            ("${NONE:-}", ""),
            ("${NONE+w}", ""),
            ("${NULL+w}", "w"),
            ("${NONE:+w}", ""),
            ("${NULL:+w}", ""),
            ("${PWD:+w}", "w"),
            ("${NONE:-${PWD}}", "/home"),
            ("${NONE:-${NULL:-$SHELL}}", "bash"),
            ("${NONE:-'a}b'}", "a}b"),
            (r"${NONE:-a\}b}", "a}b"),
            ("${NONE:-a b}", "a b"),
            ("${PWD?w}", "/home"),
            ("${NULL?w}", ""),
            ("${NULL:?w}", "error"),
            ("${NONE?w}", "error"),
            ("$KOREAN", "한국어"),
            ("안녕${KOREAN}", "안녕한국어"),
            ("'a b' c", "a b c"),
        ];
        let env = env();
        for (word, expected) in cases {
            let found = Lexer::new(&env, '\\').word(word);
            assert_eq!(found.as_deref().unwrap_or("error"), expected, "{word}: {found:?}");
        }
        assert_eq!(Lexer::new(&env, '`').word(r"C:\$SHELL`$x"), Ok(r"C:\bash$x".to_owned()));
        assert_eq!(Lexer::new(&env, '\\').word("${NONE:?give it}").expect_err("not set").what, "NONE is not set: give it");
    }

    #[test]
    fn words_are_split_after_expansion_and_quotes_hold_them_together() {
        let env = env();
        let cases: [(&str, &[&str]); 7] = [
            ("hello there", &["hello", "there"]),
            ("  a\tb ", &["a", "b"]),
            ("$LIST", &["a", "b"]),
            ("x$LIST", &["xa", "b"]),
            ("\"$LIST\"", &["a b"]),
            (r"a\ b", &["a b"]),
            ("$NULL", &[]),
        ];
        for (word, expected) in cases {
            assert_eq!(
                Lexer::new(&env, '\\').words(word).as_deref(),
                Ok(expected.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().as_slice())
            );
        }
    }

    #[test]
    fn quotes_in_a_document_are_text() {
        let env = env();
        let text = "it's \"$SHELL\" '$SHELL' \\$SHELL ${NONE:-'x'}\n";
        assert_eq!(Lexer::document(&env).word(text), Ok("it's \"bash\" 'bash' $SHELL 'x'\n".to_owned()));
    }

    #[test]
    fn what_expands_without_end_is_refused() {
        let mut env = Env::default();
        env.set("A", "x".repeat(1 << 20));
        assert!(Lexer::new(&env, '\\').word("$A$A$A").is_ok());
        assert!(Lexer::new(&env, '\\').word("$A$A$A$A$A").is_err());
        assert!(Lexer::new(&env, '\\').word(&"${B:-".repeat(100_000)).is_err());
        assert!(Lexer::new(&env, '\\').word(&format!("{}x{}", "${B:-".repeat(30), "}".repeat(30))).is_ok());
    }
}

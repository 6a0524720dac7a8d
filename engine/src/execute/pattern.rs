//! Patterns of paths: those of `.dockerignore` (moby's `patternmatcher`) and those of COPY and ADD (Go's `path.Match`).

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`: one character, no slash.
    Any,
    /// `*`: characters, no slash.
    Star,
    /// `**/`: folders, or none.
    Folders,
    /// `**` at the end: anything.
    All,
    /// `[a-z]`, `[^a-z]`.
    Class { not: bool, ranges: Vec<(char, char)> },
}

/// A pattern that paths are compared with, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern. `deep`: `**` stands for folders.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, deep: bool) -> Result<Pattern, &'static str> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if deep && chars.peek() == Some(&'*') => {
                    chars.next();
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    if chars.peek().is_none() { Token::All } else { Token::Folders }
                }
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::Literal(chars.next().ok_or("it ends with a backslash")?),
                '[' => {
                    let not = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    let mut one = || match chars.next() {
                        Some('\\') => chars.next().ok_or("its [ is not closed"),
                        Some(c) => Ok(c),
                        None => Err("its [ is not closed"),
                    };
                    let mut next = one()?;
                    loop {
                        if next == ']' {
                            if ranges.is_empty() {
                                return Err("its [] holds nothing");
                            }
                            break;
                        }
                        let low = next;
                        next = one()?;
                        if next != '-' {
                            ranges.push((low, low));
                            continue;
                        }
                        let high = one()?;
                        if high == ']' || high < low {
                            return Err("a range in its [] has no end");
                        }
                        ranges.push((low, high));
                        next = one()?;
                    }
                    Token::Class { not, ranges }
                }
                c => Token::Literal(c),
            });
        }
        Ok(Pattern(tokens))
    }

    /// Whether this is the whole path. The time is that of pattern times path, whatever is in them.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        // Which ends of the path's beginning the tokens so far can reach.
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            let mut next = vec![false; path.len() + 1];
            for at in 0..=path.len() {
                let here = reached[at];
                let step = |matches: bool| here && matches;
                match (token, path.get(at)) {
                    (Token::Star, c) => {
                        next[at] |= here;
                        if next[at] && c.is_some_and(|c| *c != '/') {
                            next[at + 1] = true;
                        }
                    }
                    (Token::All, _) => next[at] = here || at > 0 && next[at - 1],
                    (Token::Folders, c) => {
                        next[at] |= here;
                        // From anywhere before, up to behind any slash.
                        if c == Some(&'/') && reached[..=at].contains(&true) {
                            next[at + 1] = true;
                        }
                    }
                    (_, None) => {}
                    (Token::Literal(wanted), Some(c)) => next[at + 1] |= step(wanted == c),
                    (Token::Any, Some(c)) => next[at + 1] |= step(*c != '/'),
                    (Token::Class { not, ranges }, Some(c)) => {
                        let within = ranges.iter().any(|(low, high)| (low..=high).contains(&c));
                        next[at + 1] |= step(*c != '/' && within != *not);
                    }
                }
            }
            reached = next;
        }
        reached[path.len()]
    }
}

/// Whether a path of COPY or ADD is a pattern.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// What `.dockerignore` says.
#[derive(Debug, Default)]
pub struct Ignore {
    /// In order: whether it takes something in again, and what.
    rules: Vec<(bool, Pattern)>,
}

/// Rules of a `.dockerignore`, at most.
const MAX_RULES: usize = 10_000;

impl Ignore {
    /// Reads a `.dockerignore`.
    ///
    /// # Errors
    /// The line, counted from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Ignore, (usize, String)> {
        let mut rules = Vec::new();
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            if !line.starts_with('#') && !line.trim().is_empty() {
                add(line, &mut rules).map_err(|why| (number + 1, why))?;
            }
        }
        Ok(Ignore { rules })
    }

    /// What `--exclude` says, in order.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn of(patterns: &[String]) -> Result<Ignore, String> {
        let mut rules = Vec::new();
        patterns.iter().try_for_each(|pattern| add(pattern, &mut rules))?;
        Ok(Ignore { rules })
    }

    /// Whether a path of the context, without a slash at its start, is left out (`MatchesOrParentMatches`).
    pub fn leaves_out(&self, path: &str) -> bool {
        let mut out = false;
        for (again, pattern) in &self.rules {
            if *again != out {
                continue;
            }
            if matches_here_or_above(pattern, path) {
                out = !again;
            }
        }
        out
    }

    /// Whether something in a folder that is left out may be taken in again.
    pub fn takes_in_again(&self) -> bool {
        self.rules.iter().any(|(again, _)| *again)
    }
}

/// Reads one rule.
fn add(line: &str, rules: &mut Vec<(bool, Pattern)>) -> Result<(), String> {
    let line = line.trim();
    let (again, rest) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
    let clean = clean(rest);
    if clean.is_empty() && again && rest.is_empty() {
        return Err("`!` names nothing".into());
    }
    if clean.is_empty() {
        // Docker takes `.` and `/` for nothing, too.
        return Ok(());
    }
    let pattern = Pattern::parse(&clean, true).map_err(|why| format!("{rest} is not a pattern: {why}"))?;
    rules.push((again, pattern));
    if rules.len() > MAX_RULES {
        return Err(format!("there are more than {MAX_RULES} patterns"));
    }
    Ok(())
}

/// What of a folder is copied: what `COPY --parents` names, without what `--exclude` names. Paths are below the folder.
#[derive(Debug, Default)]
pub struct Select {
    /// What is named, and the names that it begins with, which are no patterns.
    only: Option<(Pattern, Vec<String>)>,
    without: Ignore,
}

impl Select {
    /// Reads both; `only` is a path or pattern, empty for all.
    ///
    /// # Errors
    /// One of them is no pattern.
    pub fn new(only: &str, without: &[String]) -> Result<Select, String> {
        let without = Ignore::of(without)?;
        if only.is_empty() {
            return Ok(Select { only: None, without });
        }
        let pattern = Pattern::parse(only, true).map_err(|why| format!("{only} is not a pattern: {why}"))?;
        let fixed = only.split('/').take_while(|part| !is_pattern(part)).map(str::to_string).collect();
        Ok(Select { only: Some((pattern, fixed)), without })
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.only.is_none() && self.without.rules.is_empty()
    }

    /// Whether what is at a path is copied: it, or a folder that it is in, is named.
    pub fn takes(&self, below: &str) -> bool {
        self.only.as_ref().is_none_or(|(pattern, _)| matches_here_or_above(pattern, below)) && !self.without.leaves_out(below)
    }

    /// Whether something in a folder may be copied that is not copied itself.
    pub fn looks_into(&self, folder: &str) -> bool {
        let on_the_way = |(pattern, fixed): &(Pattern, Vec<String>)| {
            folder.split('/').zip(fixed).all(|(part, fixed)| part == fixed) || matches_here_or_above(pattern, folder)
        };
        self.only.as_ref().is_none_or(on_the_way) && (!self.without.leaves_out(folder) || self.without.takes_in_again())
    }
}

fn matches_here_or_above(pattern: &Pattern, path: &str) -> bool {
    let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
    pattern.matches(path) || folders.any(|folder| pattern.matches(folder))
}

/// `filepath.Clean`, without the slash at the start. Other than in an image, a relative path that leads out stays one: it
/// matches nothing.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::expect_used, reason = "a test fails by panicking")]
    fn patterns_match_as_gos_do() {
        let matches = |pattern: &str, path: &str| Pattern::parse(pattern, true).expect("a pattern").matches(path);
        for (pattern, yes, no) in [
            ("*.go", "a.go", "b/a.go"),
            ("**/*.go", "x/y/a.go", "a.goo"),
            ("**/*.go", "a.go", "a.go/b"),
            ("a/**", "a/b/c", "b/a"),
            ("a/**/c", "a/c", "ac"),
            ("a/**/c", "a/x/y/c", "a/x/yc"),
            ("**", "anything/at/all", "\0never\0"),
            ("a?c", "abc", "a/c"),
            ("[a-c]x", "bx", "dx"),
            ("[^a-c]x", "dx", "bx"),
            ("a\\*", "a*", "ab"),
            ("\u{fc}*", "\u{fc}ml", "uml"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(pattern == "**" || !matches(pattern, no), "{pattern} {no}");
        }
        for wrong in ["[", "[]", "[a", "[a-", "[b-a]", "a\\"] {
            assert!(Pattern::parse(wrong, true).is_err(), "{wrong}");
        }
        // What would take forever by trial and error.
        assert!(!matches(&"*a".repeat(50), &"a".repeat(40)));
    }

    #[test]
    #[allow(clippy::expect_used, reason = "a test fails by panicking")]
    fn later_rules_of_a_dockerignore_win_and_folders_count_for_what_is_in_them() {
        let ignore = Ignore::parse("# comment\n\n/out/\n**/*.tmp\n!keep.tmp\n!out/kept\n  docs/./x/../y \n").expect("rules");
        let out = |path: &str| ignore.leaves_out(path);
        assert!(out("out") && out("out/a/b") && out("a.tmp") && out("x/y.tmp") && out("docs/y"));
        assert!(!out("keep.tmp") && !out("out/kept") && !out("out/kept/more") && !out("docs/x") && !out("other"));
        assert_eq!(Ignore::parse("a\n[").expect_err("refused").0, 2);
        assert_eq!(Ignore::parse("!").expect_err("refused").0, 1);
    }

    #[test]
    #[allow(clippy::expect_used, reason = "a test fails by panicking")]
    fn a_selection_is_what_is_named_without_what_is_excluded() {
        let select = |only: &str, without: &[&str]| {
            Select::new(only, &without.iter().map(|text| (*text).to_string()).collect::<Vec<_>>()).expect("patterns")
        };
        assert!(select("", &[]).is_everything() && select("", &[]).takes("x") && select("", &[]).looks_into("x"));
        let one = select("x/a.txt", &[]);
        assert!(one.takes("x/a.txt") && !one.takes("x") && !one.takes("x/b.txt") && one.looks_into("x") && !one.looks_into("y"));
        let deep = select("c/**/e", &[]);
        assert!(
            deep.takes("c/d/e") && deep.takes("c/d/e/below") && !deep.takes("c/d/f") && deep.looks_into("c/d") && !deep.looks_into("d")
        );
        let without = select("", &["*.txt", "!b.txt", "out"]);
        assert!(!without.takes("a.txt") && without.takes("b.txt") && without.takes("x/a.txt") && !without.takes("out/x"));
        assert!(!select("", &["out"]).looks_into("out") && without.looks_into("out"));
        assert!(Select::new("[", &[]).is_err() && Select::new("", &["[".into()]).is_err());
    }
}

//! Patterns of `${A#…}` and its kin, as BuildKit reads them: `*` is anything, `?` one character, neither a new line.

use super::expand::Problem;

/// Steps that one search may take, about.
const MAX_STEPS: usize = 1 << 26;

#[derive(Debug, Clone, Copy)]
enum Piece {
    Char(char),
    One,
    Many,
}

/// What is looked for in a variable's value.
#[derive(Debug)]
pub(super) struct Glob(Vec<Piece>);

impl Glob {
    /// Reads a pattern in which escapes are still there.
    pub fn parse(text: &str) -> Result<Glob, Problem> {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            pieces.push(match c {
                '*' => Piece::Many,
                '?' => Piece::One,
                '\\' => match rest.next() {
                    Some(next @ ('*' | '?' | '\\' | '}' | '/')) => Piece::Char(next),
                    next => {
                        let what = format!("\\{} in a pattern means nothing", next.map(String::from).unwrap_or_default());
                        return Err(Problem { what, hint: "only * ? \\ } and / can be escaped there" });
                    }
                },
                c => Piece::Char(c),
            });
        }
        Ok(Glob(pieces))
    }

    /// The value without the shortest, or longest, beginning that is like this.
    pub fn without_start(&self, value: &str, longest: bool) -> Result<String, Problem> {
        let value: Vec<char> = value.chars().collect();
        self.bound(value.len())?;
        Ok(value[self.end(&value, longest).unwrap_or(0)..].iter().collect())
    }

    /// The value without the shortest, or longest, end that is like this.
    pub fn without_end(mut self, value: &str, longest: bool) -> Result<String, Problem> {
        let value: Vec<char> = value.chars().rev().collect();
        self.bound(value.len())?;
        self.0.reverse();
        Ok(value[self.end(&value, longest).unwrap_or(0)..].iter().rev().collect())
    }

    /// The value with something else for the first, or for all, that is like this.
    pub fn replaced(&self, value: &str, by: &str, all: bool) -> Result<String, Problem> {
        let value: Vec<char> = value.chars().collect();
        self.bound(value.len().saturating_mul(value.len()))?;
        let (mut text, mut at, mut before, mut done) = (String::new(), 0, None, false);
        while at <= value.len() {
            let found = if done { None } else { self.end(&value[at..], true).map(|length| at + length) };
            // (Nothing, right behind what was replaced, is not replaced again.)
            let found = found.filter(|end| *end > at || before != Some(at));
            if let Some(end) = found {
                text += by;
                done = !all;
                before = Some(end);
                if end > at {
                    at = end;
                    continue;
                }
            }
            text.extend(value.get(at));
            at += 1;
        }
        Ok(text)
    }

    fn bound(&self, places: usize) -> Result<(), Problem> {
        if places.saturating_mul(self.0.len() + 1) > MAX_STEPS {
            return Err(Problem { what: "a value is too long to look for a pattern in it".into(), hint: "do that in a RUN" });
        }
        Ok(())
    }

    /// Where the shortest, or longest, beginning ends.
    fn end(&self, value: &[char], longest: bool) -> Option<usize> {
        let mut reached = vec![false; value.len() + 1];
        reached[0] = true;
        for piece in &self.0 {
            let mut next = vec![false; value.len() + 1];
            for at in 0..=value.len() {
                let here = value.get(at);
                match piece {
                    Piece::Many => {
                        next[at] |= reached[at];
                        if next[at] && here.is_some_and(|c| *c != '\n') {
                            next[at + 1] = true;
                        }
                    }
                    Piece::One if reached[at] && here.is_some_and(|c| *c != '\n') => next[at + 1] = true,
                    Piece::Char(wanted) if reached[at] && here == Some(wanted) => next[at + 1] = true,
                    _ => {}
                }
            }
            reached = next;
            if !reached.contains(&true) {
                return None;
            }
        }
        if longest { reached.iter().rposition(|end| *end) } else { reached.iter().position(|end| *end) }
    }
}

//! Log bytes into lines: bounded, and text whatever the program wrote.

use std::collections::VecDeque;

/// Longer lines are given in pieces of this size.
const LIMIT: usize = 8 * 1024;

/// Holds the line that has not ended yet.
#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes bytes and gives every line that is complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], on_line: &mut (dyn FnMut(&str) + Send)) {
        while !bytes.is_empty() {
            let room = LIMIT - self.0.len();
            match bytes.iter().take(room).position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.0.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.emit(self.0.len(), on_line);
                }
                None => {
                    let taken = room.min(bytes.len());
                    self.0.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if self.0.len() == LIMIT {
                        self.emit(whole_characters(&self.0), on_line);
                    }
                }
            }
        }
    }

    /// Gives what is left at the end of the stream.
    pub(crate) fn finish(&mut self, on_line: &mut (dyn FnMut(&str) + Send)) {
        if !self.0.is_empty() {
            self.emit(self.0.len(), on_line);
        }
    }

    fn emit(&mut self, length: usize, on_line: &mut (dyn FnMut(&str) + Send)) {
        let text = String::from_utf8_lossy(&self.0[..length]);
        // A progress meter overwrites its line; what a terminal would show in the end is kept.
        let shown = text.trim_end_matches('\r');
        on_line(shown.rsplit('\r').next().unwrap_or(shown));
        self.0.drain(..length);
    }
}

/// The length without a UTF-8 character that is cut at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    match bytes[tail..].iter().rposition(|byte| *byte >= 0xC0) {
        Some(start) if std::str::from_utf8(&bytes[tail + start..]).is_err() => tail + start,
        _ => bytes.len(),
    }
}

/// A piece of what a command writes, as it comes: neither a line nor text.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// Of its standard output.
    Out(&'a [u8]),
    /// Of its standard error.
    Err(&'a [u8]),
}

/// The pieces of both outputs into lines.
pub(crate) struct BothLines<'l> {
    lines: [Lines; 2],
    on_line: &'l mut (dyn FnMut(&str) + Send),
}

impl<'l> BothLines<'l> {
    pub(crate) fn new(on_line: &'l mut (dyn FnMut(&str) + Send)) -> Self {
        BothLines { lines: [Lines::default(), Lines::default()], on_line }
    }

    /// Takes a piece and gives every line that is complete.
    pub(crate) fn push(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Out(bytes) => self.lines[0].push(bytes, self.on_line),
            Piece::Err(bytes) => self.lines[1].push(bytes, self.on_line),
        }
    }

    /// Gives what is left of both.
    pub(crate) fn finish(mut self) {
        self.lines.iter_mut().for_each(|lines| lines.finish(self.on_line));
    }
}

/// Lines that are kept of an output, at most.
const KEPT: usize = 40;

/// The last lines of an output: what an error shows of it.
#[derive(Debug, Default)]
pub struct LastLines(VecDeque<String>);

impl LastLines {
    /// Adds a line; the oldest beyond 40 is forgotten.
    pub fn push(&mut self, line: &str) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line.trim_end().to_string());
    }

    /// The last lines as one text.
    pub fn text(&self, count: usize) -> String {
        let skip = self.0.len().saturating_sub(count);
        self.0.iter().skip(skip).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Those of the kept lines that `telling` picks, as one text.
    pub fn those(&self, telling: impl Fn(&str) -> bool) -> String {
        self.0.iter().filter(|line| telling(line)).cloned().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut on_line = |line: &str| seen.push(line.to_string());
        let mut lines = Lines::default();
        chunks.iter().for_each(|chunk| lines.push(chunk, &mut on_line));
        lines.finish(&mut on_line);
        seen
    }

    #[test]
    fn chunks_do_not_show_in_lines() {
        assert_eq!(lines(&[b"one\ntw", b"o\n\nthree"]), ["one", "two", "", "three"]);
        assert_eq!(lines(&[b"windows\r\n", b" 10%\r 50%\r100%\n"]), ["windows", "100%"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_split_between_characters_and_bad_bytes_become_marks() {
        let seen = lines(&["ü".repeat(6000).as_bytes(), b"\n"]);
        assert_eq!(seen.iter().map(String::len).collect::<Vec<_>>(), [8192, 3808]);
        let seen = lines(&[format!("x{}", "ü".repeat(6000)).as_bytes()]);
        assert_eq!(seen.concat(), format!("x{}", "ü".repeat(6000)));
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
        assert_eq!(lines(&[&[0xC0; 20_000]]).concat().chars().count(), 20_000);
    }
}

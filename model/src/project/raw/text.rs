//! Rules for names and paths that several tables share.

use super::Reader;
use crate::Result;
use crate::project::{At, STATE, parts};

/// Bytes of a path, at most (Linux's PATH_MAX).
const MAX_PATH: usize = 4095;
/// Bytes of a part of a path, at most (Linux's NAME_MAX).
const MAX_PART: usize = 255;
/// Bytes of a value that a process gets, at most: Linux passes on four times as many in one word.
const MAX_LINE: usize = 32 << 10;

/// Folders of a root that are the kernel's: what an image has there, no container sees.
pub(super) const KERNELS: [&str; 3] = ["proc", "sys", "dev"];

/// A value for a message: one line, and not all of a long one.
pub(super) fn shown(value: &str) -> String {
    value.chars().take(100).flat_map(char::escape_debug).collect()
}

/// The parts of an absolute path of an image that is written in one way: none is empty, `.` or `..`. `/` has none.
pub(super) fn absolute(path: &str) -> Option<Vec<&str>> {
    let below = path.strip_prefix('/')?;
    if path.len() > MAX_PATH || path.chars().any(char::is_control) {
        return None;
    }
    if below.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&str> = below.split('/').collect();
    (!parts.iter().any(|part| matches!(*part, "" | "." | "..") || part.len() > MAX_PART)).then_some(parts)
}

impl Reader<'_> {
    pub(super) fn check_name(&self, of: &str, name: &At<String>) -> Result<()> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let ends =
            |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        if name.value.len() >= 2 && name.value.len() <= 100 && ends(&name.value) && name.value.chars().all(fine) {
            return Ok(());
        }
        Err(self
            .error(name.line, format!("`{}` is not a name for {of}", shown(&name.value)))
            .hint("use two or more lower-case letters, digits, dots and dashes"))
    }

    /// A path of a file of the project: one below its folder that is not twostage's own. What it leads to by links is
    /// looked at when it is opened.
    pub(super) fn check_relative(&self, path: &At<String>) -> Result<()> {
        self.check_below(path).map_err(|error| error.hint("move it there and write the path relative to the project file"))?;
        if parts(&path.value).first() == Some(&STATE) {
            return Err(self
                .error(path.line, format!("`{}` is in {}, which is twostage's own", path.value, STATE))
                .hint("copy it out of there, and name the copy"));
        }
        Ok(())
    }

    /// A path below the project's folder: absolute ones and `..` would not exist on another machine.
    pub(super) fn check_below(&self, path: &At<String>) -> Result<()> {
        let fine = !path.value.is_empty() && !path.value.starts_with('/') && !path.value.split('/').any(|part| part == "..");
        if !fine || path.value.chars().any(char::is_control) || path.value.len() > MAX_PATH {
            return Err(self.error(path.line, format!("`{}` is not a path below the project file's folder", shown(&path.value))));
        }
        Ok(())
    }

    /// A value that has to fit one line of a Dockerfile.
    pub(super) fn check_line(&self, value: &At<String>) -> Result<()> {
        if let Some(why) = match &value.value {
            text if text.chars().any(char::is_control) => Some("has a control character"),
            text if text.len() > MAX_LINE => Some("is too long for a value"),
            _ => None,
        } {
            return Err(self.error(value.line, format!("`{}` {why}", shown(&value.value))).hint("put longer texts into a file"));
        }
        Ok(())
    }
}

//! `[runtime.<image>]`: how an image runs.

use super::text::{KERNELS, absolute, shown};
use super::{HealthCheckTable, Port, Reader, UserValue};
use crate::Result;
use crate::names::is_signal;
use crate::project::{At, HealthCheck, User};
use serde_spanned::Spanned;

/// Words of a command, at most.
const MAX_WORDS: usize = 1000;
/// Tries of a health check, at most: docker counts them in 32 bits.
const MAX_RETRIES: u32 = i32::MAX as u32;

impl Reader<'_> {
    pub(super) fn user(&self, raw: Spanned<UserValue>) -> Result<User> {
        let At { line, value } = self.at(raw);
        let (name, uid, says_uid) = match value {
            UserValue::Table(table) => (table.name, table.uid, true),
            UserValue::Name(name) if name == "root" => (name, 0, false),
            UserValue::Name(name) => {
                let uid = name.parse().ok();
                (name, uid.unwrap_or(1000), uid.is_some())
            }
        };
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.chars().all(fine) {
            return Err(self
                .error(line, format!("`{}` is not a user name", shown(&name)))
                .hint("use lower-case letters, digits, `_` and `-`"));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) && name != uid.to_string() {
            return Err(self.error(line, format!("user `{name}` is neither a name nor a uid")).hint("a name starts with a letter"));
        }
        // chown(2) takes it for "as it is", setuid(2) refuses it.
        if uid == u32::MAX {
            return Err(self.error(line, format!("{uid} is no uid: the kernel has it for none")).hint("write a smaller one, such as 1000"));
        }
        if (name == "root" || name == "0") != (uid == 0) {
            let what = format!("user `{name}` with uid {uid}: root is uid 0, and nobody else is");
            return Err(self.error(line, what).hint("write another uid, or another name"));
        }
        Ok(User { name, uid, says_uid })
    }

    /// An absolute folder of the image, as WORKDIR and VOLUME take it.
    pub(super) fn image_folder(&self, key: &str, raw: Spanned<String>) -> Result<At<String>> {
        let path = self.at(raw);
        let fine = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
        let parts = absolute(&path.value).filter(|_| path.value.chars().all(fine)).unwrap_or_default();
        match parts.first() {
            Some(first) if KERNELS.contains(first) => Err(self
                .error(path.line, format!("`{}` in `{key}` is not a folder of the image: /{first} is the kernel's", path.value))
                .hint("name a folder that the image's programs have for themselves")),
            Some(_) => Ok(path),
            None => Err(self
                .error(path.line, format!("`{}` in `{key}` is not an absolute folder of the image", shown(&path.value)))
                .hint("write it like \"/srv/app\", of letters, digits and / . _ - + @")),
        }
    }

    pub(super) fn volumes(&self, raw: Vec<Spanned<String>>) -> Result<Vec<String>> {
        let volumes = raw.into_iter().map(|path| self.image_folder("volumes", path)).collect::<Result<Vec<_>>>()?;
        self.check_once("volumes", &volumes)?;
        Ok(volumes.into_iter().map(|path| path.value).collect())
    }

    /// The words of a command; where it is a whole one, the first is a program.
    pub(super) fn command(&self, key: &str, raw: Vec<Spanned<String>>, whole: bool) -> Result<Vec<String>> {
        let words: Vec<At<String>> = raw.into_iter().map(|word| self.at(word)).collect();
        words.iter().try_for_each(|word| self.check_line(word))?;
        if let Some(first) = words.first().filter(|first| whole && first.value.trim().is_empty()) {
            return Err(self
                .error(first.line, format!("the program in `{key}` has no name"))
                .hint("write the program first, and then its arguments"));
        }
        if let Some(first) = words.first().filter(|_| words.len() > MAX_WORDS) {
            return Err(self
                .error(first.line, format!("`{key}` has {} words, and {MAX_WORDS} are allowed", words.len()))
                .hint("put the command into a script"));
        }
        Ok(words.into_iter().map(|word| word.value).collect())
    }

    pub(super) fn healthcheck(&self, raw: Spanned<HealthCheckTable>) -> Result<HealthCheck> {
        let At { line, value: table } = self.at(raw);
        let cmd = self.command("healthcheck", table.cmd, true)?;
        if cmd.is_empty() {
            return Err(self
                .error(line, "`healthcheck` has no command")
                .hint("write it like { cmd = [\"curl\", \"-f\", \"http://127.0.0.1\"] }"));
        }
        let mut options = Vec::new();
        for (option, value) in [("interval", table.interval), ("timeout", table.timeout), ("start-period", table.start_period)] {
            let Some(value) = value else { continue };
            if milliseconds(&value).is_none() {
                return Err(self
                    .error(line, format!("`{}` is not a time for the healthcheck's {option}", shown(&value)))
                    .hint("write it like \"30s\", \"1m30s\" or \"2h\""));
            }
            options.push((option, value));
        }
        if let Some(retries) = table.retries.filter(|retries| !(1..=MAX_RETRIES).contains(retries)) {
            return Err(self.error(line, format!("a health check cannot have {retries} retries")).hint("write 1 or more, such as 3"));
        }
        options.extend(table.retries.map(|retries| ("retries", retries.to_string())));
        Ok(HealthCheck { cmd, options })
    }

    pub(super) fn stop_signal(&self, raw: Spanned<String>) -> Result<String> {
        let At { line, value } = self.at(raw);
        let named = value.strip_prefix("SIG").is_some_and(is_signal);
        let numbered = || value.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number) && number.to_string() == value);
        if !named && !numbered() {
            return Err(self
                .error(line, format!("`{}` is not a signal", shown(&value)))
                .hint("write it like \"SIGQUIT\", \"SIGRTMIN+3\" or \"3\""));
        }
        Ok(value)
    }

    pub(super) fn ports(&self, raw: Vec<Spanned<Port>>) -> Result<Vec<String>> {
        let ports = raw.into_iter().map(|port| self.port(port)).collect::<Result<Vec<_>>>()?;
        self.check_once("expose", &ports)?;
        Ok(ports.into_iter().map(|port| port.value).collect())
    }

    fn port(&self, raw: Spanned<Port>) -> Result<At<String>> {
        let At { line, value: Port(port) } = self.at(raw);
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let fine = number.parse::<u16>().is_ok_and(|parsed| parsed > 0 && parsed.to_string() == number);
        match fine && ["tcp", "udp", "sctp"].contains(&protocol) {
            true => Ok(At { line, value: port }),
            false => Err(self.error(line, format!("`{}` is not a port", shown(&port))).hint("write 8080 or \"8080/udp\"")),
        }
    }
}

/// The longest time in a Dockerfile: docker counts nanoseconds in 63 bits.
const MAX_MILLISECONDS: u64 = i64::MAX as u64 / 1_000_000;

/// A time as Dockerfiles write it: numbers with units, `1m30s`, the largest first, and not none at all.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let (mut rest, mut next, mut sum) = (text, 0, 0u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let place = units.iter().position(|(unit, _)| *unit == &rest[digits..unit_end])?;
        if digits == 0 || digits > 9 || place < next {
            return None;
        }
        sum += rest[..digits].parse::<u64>().ok()? * units[place].1;
        (rest, next) = (&rest[unit_end..], place + 1);
    }
    (1..=MAX_MILLISECONDS).contains(&sum).then_some(sum)
}

//! What stands between an instruction's name and its arguments: `--flag=value`. BuildKit's `extractBuilderFlags`,
//! `BFlags`, `parseMount`; Go's durations.

use super::At;
use twostage_model::Result;

/// The flags at the start of `rest`, and what is behind them. Quotes and `\` in a flag work as in a shell.
pub(super) fn split(rest: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = rest.trim_start();
    while rest.starts_with("--") {
        let (mut flag, mut quote, mut end) = (String::new(), None, rest.len());
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match quote {
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                None if matches!(c, '\'' | '"') => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ if c == '\\' => flag.extend(chars.next().map(|(_, c)| c)),
                _ => flag.push(c),
            }
        }
        rest = rest.get(end..).unwrap_or_default().trim_start();
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

/// The flags of an instruction, taken one by one; [`Flags::finish`] refuses what nobody took.
pub(super) struct Flags<'a> {
    at: &'a At,
    flags: Vec<(String, Option<String>)>,
}

impl<'a> Flags<'a> {
    pub fn new(at: &'a At, flags: Vec<String>) -> Self {
        let split = |flag: String| {
            let flag = flag.trim_start_matches("--");
            flag.split_once('=').map_or_else(|| (flag.to_owned(), None), |(name, value)| (name.to_owned(), Some(value.to_owned())))
        };
        Flags { at, flags: flags.into_iter().map(split).collect() }
    }

    /// Every value of a flag that may be there more than once.
    pub fn all(&mut self, name: &str) -> Result<Vec<String>> {
        let (these, others) = std::mem::take(&mut self.flags).into_iter().partition(|(flag, _)| flag == name);
        self.flags = others;
        let these: Vec<(String, Option<String>)> = these;
        these
            .into_iter()
            .map(|(flag, value)| value.ok_or_else(|| self.at.error(format!("--{flag} has no value"), format!("write --{flag}=VALUE"))))
            .collect()
    }

    /// The value of a flag that may be there once.
    pub fn one(&mut self, name: &str) -> Result<Option<String>> {
        let mut all = self.all(name)?;
        if all.len() > 1 {
            return Err(self.at.error(format!("--{name} is there twice"), "keep one of them"));
        }
        Ok(all.pop())
    }

    /// Whether a flag is there that is only said, or said to be true or false.
    pub fn said(&mut self, name: &str) -> Result<bool> {
        let (these, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flags).into_iter().partition(|(flag, _)| flag == name);
        self.flags = others;
        match these.as_slice() {
            [] => Ok(false),
            [(_, None)] => Ok(true),
            [(_, Some(value))] if value == "true" || value == "false" => Ok(value == "true"),
            [(_, Some(value))] => Err(self.at.error(format!("--{name} cannot be {value:?}"), format!("write only --{name}"))),
            _ => Err(self.at.error(format!("--{name} is there twice"), "keep one of them")),
        }
    }

    pub fn finish(self) -> Result<()> {
        let Some((name, _)) = self.flags.first() else { return Ok(()) };
        let hint = match (self.at.instruction.as_str(), name.as_str()) {
            (_, "link") => "remove it; the files are the same, unless the destination is behind a symbolic link",
            ("RUN", "security") => "remove it; every RUN here has the rights of `sandbox`",
            ("COPY", "checksum") => "only ADD, which fetches, checks",
            ("ADD", "from") => "use COPY --from",
            ("RUN", _) => "RUN knows --mount and --network",
            ("ADD", "parents") => "only COPY knows it",
            ("COPY", _) => "COPY knows --from, --chown, --chmod, --exclude and --parents",
            ("ADD", _) => "ADD knows --chown, --chmod, --checksum and --exclude",
            ("FROM", _) => "FROM knows --platform",
            ("HEALTHCHECK", _) => "HEALTHCHECK knows --interval, --timeout, --start-period, --start-interval and --retries",
            _ => "remove it; this instruction has no flags",
        };
        Err(self.at.error(format!("the flag --{name} is not known"), hint))
    }
}

/// `--mount` as it stands there: keys are known, values not expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// The fields, in order.
    pub fields: Vec<MountField>,
}

/// One field of a mount: `target=/x`, or `ro`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// What it sets.
    pub key: MountKey,
    /// What it is set to; only `ro`, `rw` and `required` may have none.
    pub value: Option<String>,
}

/// What can be said of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKey {
    /// `type`
    Type,
    /// `from`
    From,
    /// `source`, `src`
    Source,
    /// `target`, `dst`, `destination`
    Target,
    /// `readonly`, `ro`
    ReadOnly,
    /// `readwrite`, `rw`
    ReadWrite,
    /// `required`
    Required,
    /// `size`
    Size,
    /// `id`
    Id,
    /// `sharing`
    Sharing,
    /// `mode`
    Mode,
    /// `uid`
    Uid,
    /// `gid`
    Gid,
    /// `env`
    Env,
}

impl MountSpec {
    /// The value of the last field with that key.
    pub fn get(&self, key: MountKey) -> Option<&str> {
        self.fields.iter().rev().find(|field| field.key == key)?.value.as_deref()
    }
}

/// Reads one `--mount` (`instructions.parseMount`, its first half).
pub(super) fn mount(at: &At, text: &str) -> Result<MountSpec> {
    let mut spec = MountSpec { fields: Vec::new() };
    for field in csv(text).ok_or_else(|| at.error(format!("--mount={text} is not closed"), "write the \" that is missing"))? {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name.to_lowercase(), Some(value.to_owned())),
            None => (field.to_lowercase(), None),
        };
        let key = match name.as_str() {
            "type" => MountKey::Type,
            "from" => MountKey::From,
            "source" | "src" => MountKey::Source,
            "target" | "dst" | "destination" => MountKey::Target,
            "readonly" | "ro" => MountKey::ReadOnly,
            "readwrite" | "rw" => MountKey::ReadWrite,
            "required" => MountKey::Required,
            "size" => MountKey::Size,
            "id" => MountKey::Id,
            "sharing" => MountKey::Sharing,
            "mode" => MountKey::Mode,
            "uid" => MountKey::Uid,
            "gid" => MountKey::Gid,
            "env" => MountKey::Env,
            _ => {
                let hint = "a mount knows type, from, source, target, ro, rw, id, sharing, required, size, mode, uid, gid and env";
                return Err(at.error(format!("the mount field {name:?} is not known"), hint));
            }
        };
        match (key, &value) {
            (MountKey::ReadOnly | MountKey::ReadWrite | MountKey::Required, None) | (_, Some(_)) => {}
            (_, None) => return Err(at.error(format!("the mount field {name} has no value"), format!("write {name}=VALUE"))),
        }
        if key == MountKey::From && value.as_deref().is_some_and(|value| value.contains('$')) {
            let hint = "define a stage with `FROM ${NAME} AS alias` at the top and name that";
            return Err(at.error("from= of a mount cannot hold variables", hint));
        }
        spec.fields.push(MountField { key, value });
    }
    match spec.get(MountKey::Type).map(str::to_lowercase).as_deref() {
        None | Some("bind" | "cache" | "tmpfs" | "secret" | "ssh") => Ok(spec),
        Some(kind) if kind.contains('$') => Ok(spec),
        Some(kind) => Err(unknown_type(at, kind)),
    }
}

pub(super) fn unknown_type(at: &At, kind: &str) -> twostage_model::Error {
    at.error(format!("the mount type {kind:?} is not supported"), "use bind, cache, tmpfs, secret or ssh")
}

/// One line of comma-separated values, as `encoding/csv` reads it; nothing if a quote is not closed or stands amid
/// a field.
fn csv(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let Some(mut quoted) = text.strip_prefix('"') else {
            let (field, next) = text.split_once(',').map_or((text, None), |(field, next)| (field, Some(next)));
            if field.contains('"') {
                return None;
            }
            fields.push(field.to_owned());
            rest = next;
            continue;
        };
        let mut field = String::new();
        loop {
            let (part, behind) = quoted.split_once('"')?;
            field += part;
            if let Some(again) = behind.strip_prefix('"') {
                field.push('"');
                quoted = again;
            } else if behind.is_empty() {
                rest = None;
                break;
            } else {
                rest = Some(behind.strip_prefix(',')?);
                break;
            }
        }
        fields.push(field);
    }
    Some(fields)
}

/// Nanoseconds of a Go duration: `1h30m`, `1.5s`, `500ms`, `0` (`time.ParseDuration`).
pub(super) fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + part.len() == 0 || whole.len() > 18 || part.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut scale = 1;
        let mut fraction: i128 = 0;
        for digit in part.bytes().take(12) {
            fraction = fraction * 10 + i128::from(digit - b'0');
            scale *= 10;
        }
        total += whole * unit + fraction * unit / scale;
        if total > i128::from(i64::MAX) {
            return None;
        }
        rest = behind;
    }
    i64::try_from(total * sign).ok()
}

/// Bytes of `64m`, `1.5GB`, `512KiB` (`units.RAMInBytes`: everything is a power of 1024).
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.contains('i') => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * 1024_f64.powi(power);
    (0.0..=1_152_921_504_606_846_976.0).contains(&bytes).then_some(bytes as u64)
}

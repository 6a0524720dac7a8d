//! The configuration of an image: the JSON that BuildKit writes, `application/vnd.oci.image.config.v1+json` with
//! Docker's additions, read from a base and written for an image.
//!
//! Fields that neither knows are dropped, as BuildKit drops them. `docker-image-spec` is the source of the names and
//! of their order.

use super::plan::Platform;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result};

/// What `PATH` is when no base says so.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a configuration that is read, at most.
pub const MAX_CONFIG: usize = 8 << 20;
/// The comment of every history line.
pub const COMMENT: &str = "buildkit.dockerfile.v0";

/// Go writes `null` for what is empty.
fn nullable<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// An image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Of which processors.
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    /// Who made it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// How it is run.
    #[serde(deserialize_with = "nullable")]
    pub config: RunConfig,
    /// When it was made; whoever writes the image says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// One entry for each instruction, and each of the base.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Of which operating system.
    #[serde(deserialize_with = "nullable")]
    pub os: String,
    /// The version of that system; only Windows has one.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The layers; whoever writes the image adds its own.
    #[serde(deserialize_with = "nullable")]
    pub rootfs: Rootfs,
    /// Which one of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// How an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// USER
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// EXPOSE: `80/tcp`
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// ENV, in the order of first appearance: `NAME=value`
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// ENTRYPOINT
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// CMD
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// VOLUME
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Nothing>,
    /// WORKDIR
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// LABEL
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// STOPSIGNAL
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// BuildKit sets it with CMD; only Windows looks at it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// HEALTHCHECK
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// What a base wants done in images that start from it; only read, to be refused.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Seconds between the signal and the kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// SHELL
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// HEALTHCHECK; times are nanoseconds, 0 is what is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `NONE`; `CMD` and words; `CMD-SHELL` and a text.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// `--interval`
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// `--timeout`
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// `--start-period`
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// `--start-interval`
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// `--retries`
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// The layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<String>,
}

fn layers() -> String {
    "layers".into()
}

impl Default for Rootfs {
    fn default() -> Self {
        Rootfs { kind: layers(), diff_ids: Vec::new() }
    }
}

/// One line of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What made it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads the configuration of a base.
    ///
    /// # Errors
    /// It is no configuration, larger than [`MAX_CONFIG`], or has ONBUILD instructions, which are not run here.
    pub fn from_json(bytes: &[u8]) -> Result<ImageConfig> {
        if bytes.len() > MAX_CONFIG {
            return Err(Error::new(Class::Runtime, format!("the base's configuration has more than {MAX_CONFIG} bytes"))
                .hint("name another base in FROM"));
        }
        let map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(bytes).or_fail(Class::Runtime, || "the base's configuration is no JSON object".into())?;
        let image: ImageConfig =
            serde_json::from_value(map.into()).or_fail(Class::Runtime, || "the base's configuration is not one".into())?;
        if let Some(first) = image.config.on_build.first() {
            let short: String = first.chars().take(200).collect();
            return Err(Error::new(Class::Runtime, format!("the base has instructions for images that start from it (ONBUILD {short})"))
                .hint("write them into this Dockerfile, and name in FROM what that base starts from"));
        }
        Ok(image)
    }

    /// What `FROM scratch` starts from (`emptyImage`).
    pub fn scratch(platform: &Platform) -> ImageConfig {
        let config = RunConfig { working_dir: "/".into(), ..RunConfig::default() };
        ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config,
            ..ImageConfig::default()
        }
    }

    /// The JSON, its keys in BuildKit's order: sorted outside, those of `config` as Go's structs have them.
    ///
    /// # Errors
    /// None that is known; serialisation says whether it failed.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).or_fail(Class::Runtime, || "cannot write the image's configuration".into())
    }
}

impl RunConfig {
    /// Sets a variable where it stands, or at the end (`addEnv`).
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        match self.env.iter_mut().find(|entry| split_env(entry).0 == name) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }

    /// The command in the shell form: SHELL, and the text as one word (`withShell`).
    pub fn with_shell(&self, text: &str) -> Vec<String> {
        let mut words = if self.shell.is_empty() { vec!["/bin/sh".into(), "-c".into()] } else { self.shell.clone() };
        words.push(text.to_owned());
        words
    }
}

pub(super) fn split_env(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

/// A list as Go's `%v` prints it: `[a b]`.
pub(super) fn go_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(super) fn go_quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| go_quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `strconv.Quote`.
fn go_quote(text: &str) -> String {
    format!("\"{}\"", text.chars().map(|c| go_escape(c, '"')).collect::<String>())
}

/// `strconv.QuoteRune`.
pub(super) fn go_character(c: char) -> String {
    format!("'{}'", go_escape(c, '\''))
}

fn go_escape(c: char, quote: char) -> String {
    let code = u32::from(c);
    match c {
        '\x07' => "\\a".into(),
        '\x08' => "\\b".into(),
        '\x0c' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\x0b' => "\\v".into(),
        '\\' => "\\\\".into(),
        _ if c == quote => format!("\\{c}"),
        '\0'..'\x20' | '\x7f' => format!("\\x{code:02x}"),
        '\u{80}'..='\u{ffff}' if c.is_control() || c.is_whitespace() || c == '\u{feff}' => format!("\\u{code:04x}"),
        _ => c.into(),
    }
}

/// Nanoseconds as Go's `Duration` prints them: `1m30s`, `1.5s`, `500ms`, `0s`.
pub(super) fn go_duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let part = |number: u64, unit: u64, name: &str| {
        let fraction = format!("{:0width$}", number % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if unit == 1 || fraction.is_empty() { String::new() } else { format!(".{fraction}") };
        format!("{}{dot}{name}", number / unit)
    };
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => part(total, 1, "ns"),
        1_000..1_000_000 => part(total, 1_000, "µs"),
        1_000_000..1_000_000_000 => part(total, 1_000_000, "ms"),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = part(total % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    if nanoseconds < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_of_the_old_builder_is_read_and_written_as_buildkit_does() {
        let base = br#"{"architecture":"amd64","config":{"Hostname":"x","AttachStdin":false,"Env":["PATH=/bin"],"Cmd":["bash"],
            "Image":"sha256:1","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},
            "container":"c","container_config":{},"created":"2024-01-01T00:00:00Z","docker_version":"20.10",
            "history":[{"created":"2024-01-01T00:00:00Z","created_by":"/bin/sh -c #(nop) ADD file:1 in / "}],
            "os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:2"]}}"#;
        let image = ImageConfig::from_json(base).expect("a base");
        assert_eq!(
            String::from_utf8(image.to_json().expect("json")).expect("text"),
            r#"{"architecture":"amd64","config":{"Env":["PATH=/bin"],"Cmd":["bash"]},"created":"2024-01-01T00:00:00Z","#.to_owned()
                + r#""history":[{"created":"2024-01-01T00:00:00Z","created_by":"/bin/sh -c #(nop) ADD file:1 in / "}],"#
                + r#""os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:2"]}}"#
        );
    }

    #[test]
    fn a_base_with_onbuild_is_refused_and_not_used_without_it() {
        let error = ImageConfig::from_json(br#"{"config":{"OnBuild":["COPY . /app"]}}"#).expect_err("refused");
        assert!(error.what().contains("ONBUILD COPY . /app"), "{error}");
        assert!(error.hint_text().is_some());
        assert!(ImageConfig::from_json(b"[]").is_err());
    }

    #[test]
    fn words_and_times_are_printed_as_go_prints_them() {
        assert_eq!(go_quoted(&["a b".into(), "q\"\\\n\x01é\u{a0}".into()]), r#"["a b" "q\"\\\n\x01é\u00a0"]"#);
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_050_000_000, "1.05s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }
}

//! The project file's keys as serde sees them. The modules below translate them, table by table, into the domain types,
//! and refuse what has no meaning there.

mod base;
mod check;
mod component;
mod image;
mod repository;
mod running;
mod text;

use super::{Algorithm, At, BuildSettings, Project, Release, YumCompression, error_at, near_miss};
use crate::{Format, Result};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_spanned::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Bytes of a project file, at most.
const MAX_BYTES: usize = 4 << 20;
/// Components, images, and entries of a list, at most.
const MAX_ENTRIES: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    project: ProjectTable,
    base: Spanned<BaseTable>,
    #[serde(default)]
    build: BuildTable,
    #[serde(default)]
    component: Vec<ComponentTable>,
    #[serde(default)]
    repository: RepositoryTable,
    #[serde(default)]
    runtime: BTreeMap<Spanned<String>, RuntimeTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectTable {
    name: Spanned<String>,
    format: Option<Spanned<Format>>,
    #[serde(default)]
    architectures: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseTable {
    image: Option<String>,
    bootstrap: Option<Spanned<String>>,
    layout: Option<Spanned<String>>,
    archive: Option<Spanned<String>>,
    rootfs: Option<Spanned<String>>,
    #[serde(default)]
    mirrors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentTable {
    name: Spanned<String>,
    source: Spanned<SourceValue>,
    #[serde(default)]
    patches: Vec<Spanned<String>>,
    #[serde(default)]
    needs: Vec<Spanned<String>>,
    #[serde(default)]
    replaces: Vec<Spanned<String>>,
    #[serde(default)]
    unlinked: Vec<Spanned<String>>,
    dockerfile: Option<Spanned<String>>,
    packages: Option<Spanned<String>>,
    recipe: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    #[serde(default)]
    build: Vec<Spanned<String>>,
    options: Option<Spanned<Vec<Spanned<String>>>>,
    profiles: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    env: BTreeMap<Spanned<String>, String>,
    parallel: Option<Spanned<u32>>,
}

/// `[build]`: what holds for every native component that does not say it itself.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BuildTable {
    options: Option<Spanned<Vec<Spanned<String>>>>,
    profiles: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    env: BTreeMap<Spanned<String>, String>,
    parallel: Option<Spanned<u32>>,
}

/// A folder as a plain string, everything else as a table.
enum SourceValue {
    Folder(String),
    Table(Box<SourceTable>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    folder: Option<String>,
    url: Option<String>,
    sha256: Option<Spanned<String>>,
    git: Option<String>,
    revision: Option<Spanned<String>>,
    distribution: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RepositoryTable {
    path: Option<Spanned<String>>,
    channel: Option<Spanned<String>>,
    suite: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    keep: Option<Spanned<KeepValue>>,
    valid_days: Option<Spanned<u32>>,
    #[serde(default)]
    yum_compression: YumCompression,
    #[serde(default)]
    key_type: Algorithm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeTable {
    base: Option<Spanned<BaseTable>>,
    packages: Vec<Spanned<String>>,
    user: Option<Spanned<UserValue>>,
    #[serde(default)]
    env: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    entrypoint: Vec<Spanned<String>>,
    #[serde(default)]
    cmd: Vec<Spanned<String>>,
    #[serde(default)]
    expose: Vec<Spanned<Port>>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    files: BTreeMap<Spanned<String>, Spanned<FileValue>>,
    #[serde(default)]
    slim: bool,
    #[serde(default)]
    provides: Vec<Spanned<String>>,
    #[serde(default)]
    forbid: Vec<Spanned<String>>,
    #[serde(default)]
    unlinked: Vec<Spanned<String>>,
    #[serde(default)]
    locales: Vec<Spanned<String>>,
    workdir: Option<Spanned<String>>,
    #[serde(default)]
    volumes: Vec<Spanned<String>>,
    healthcheck: Option<Spanned<HealthCheckTable>>,
    stop_signal: Option<Spanned<String>>,
    check: Option<Spanned<CheckValue>>,
}

/// A command, or a server and the address that must answer.
enum CheckValue {
    Words(Vec<Spanned<String>>),
    Table(Box<CheckTable>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckTable {
    #[serde(default)]
    run: Vec<Spanned<String>>,
    until: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthCheckTable {
    cmd: Vec<Spanned<String>>,
    interval: Option<String>,
    timeout: Option<String>,
    start_period: Option<String>,
    retries: Option<u32>,
}

enum UserValue {
    Name(String),
    Table(Box<UserTable>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserTable {
    name: String,
    uid: u32,
}

struct Port(String);

enum FileValue {
    Source(String),
    Table(Box<FileTable>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    source: String,
    mode: Option<String>,
}

/// A number of earlier states, or what stays in words.
#[derive(Default)]
struct KeepValue {
    versions: Option<usize>,
    days: Option<u32>,
    snapshots: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepTable {
    versions: Option<usize>,
    days: Option<u32>,
    snapshots: Option<usize>,
}

/// A value that may be written as a plain string or as a table. (serde's `untagged` would lose
/// the line and the reason of a mistake inside the table.)
macro_rules! string_or_table {
    ($type:ident, $string:ident, $table:ident, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct V;
                impl<'de> Visitor<'de> for V {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        Ok($type::$string(text.to_string()))
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        $table::deserialize(MapAccessDeserializer::new(map)).map(|table| $type::Table(Box::new(table)))
                    }
                }
                deserializer.deserialize_any(V)
            }
        }
    };
}

string_or_table!(SourceValue, Folder, SourceTable, "a folder, or a table such as { distribution = \"hello\" }");
string_or_table!(UserValue, Name, UserTable, "a user name, or a table such as { name = \"app\", uid = 1000 }");
string_or_table!(FileValue, Source, FileTable, "a file, or a table such as { source = \"run.sh\", mode = \"0755\" }");

impl<'de> Deserialize<'de> for CheckValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = CheckValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence, or a table such as { until = \"http://127.0.0.1:8080/\" }")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<CheckValue, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(CheckValue::Words)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CheckValue, A::Error> {
                CheckTable::deserialize(MapAccessDeserializer::new(map)).map(|table| CheckValue::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for KeepValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = KeepValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of snapshots, or a table such as { versions = 3, days = 90, snapshots = 16 }")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<KeepValue, E> {
                let snapshots = usize::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
                Ok(KeepValue { snapshots: Some(snapshots), ..KeepValue::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeepValue, A::Error> {
                let KeepTable { versions, days, snapshots } = KeepTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(KeepValue { versions, days, snapshots })
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Port;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 8080 or \"8080/udp\"")
            }
            fn visit_i64<E: de::Error>(self, port: i64) -> Result<Port, E> {
                Ok(Port(port.to_string()))
            }
            fn visit_str<E: de::Error>(self, port: &str) -> Result<Port, E> {
                Ok(Port(port.to_string()))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Knows the text, to turn byte offsets into lines.
struct Reader<'a> {
    /// Where each line ends.
    line_ends: Vec<usize>,
    file: &'a str,
    format: Format,
    host: &'a dyn Fn() -> Result<Release>,
}

pub(super) fn parse(text: &str, file: &str, host: &dyn Fn() -> Result<Release>) -> Result<Project> {
    if text.len() > MAX_BYTES {
        return Err(error_at(file, 1, format!("the file has {} bytes, and {MAX_BYTES} are allowed", text.len()))
            .hint("a project file names files; their content is not in it"));
    }
    let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect();
    let reader = Reader { line_ends, file, format: Format::Deb, host };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| reader.toml_error(&error))?;
    let raw = File::deserialize(deserializer.into_deserializer()).map_err(|error| reader.toml_error(&error))?;
    let format = raw.project.format.as_ref().map_or(Format::Deb, |format| *format.get_ref());
    Reader { format, ..reader }.project(raw)
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }

    fn at<T>(&self, spanned: Spanned<T>) -> At<T> {
        At { line: self.line(spanned.span().start), value: spanned.into_inner() }
    }

    fn error(&self, line: usize, what: impl fmt::Display) -> crate::Error {
        error_at(self.file, line, what)
    }

    /// toml's own message, with the line, and the near miss for a key that it does not know.
    fn toml_error(&self, error: &toml::de::Error) -> crate::Error {
        let line = error.span().map_or(1, |span| self.line(span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        if let Some(rest) = message.strip_prefix("unknown field `") {
            let word = rest.split('`').next().unwrap_or_default();
            let known = quoted.iter().skip(1).copied();
            let hint = near_miss(word, known.clone())
                .unwrap_or_else(|| format!("remove it; the keys here are {}", known.collect::<Vec<_>>().join(", ")));
            return self.error(line, format!("unknown key `{word}`")).hint(hint);
        }
        if message.starts_with("missing field") {
            let word = quoted.first().copied().unwrap_or_default();
            return self.error(line, format!("the key `{word}` is missing")).hint(match word {
                "project" => "add a [project] table with a name".to_string(),
                "base" => "add a [base] table, such as bootstrap = \"debian:bookworm\"".to_string(),
                _ => format!("add `{word} = …` to this table"),
            });
        }
        let hint = if message.contains("expected a number of snapshots") {
            "write how many earlier snapshots a channel keeps, or say it in words: { versions = 3, days = 90, snapshots = 16 }"
        } else if message.contains("expected a sequence") {
            "write a list: [\"…\"]"
        } else if message.contains("expected a string") {
            "write it in quotes: \"…\""
        } else if message.contains("expected a boolean") {
            "write true or false, without quotes"
        } else if message.starts_with("unknown variant") {
            let known: Vec<String> = quoted.iter().skip(1).map(|word| format!("\"{word}\"")).collect();
            let known = match known.split_last() {
                Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
                _ => known.concat(),
            };
            return self.error(line, message.clone()).hint(format!("write {known}"));
        } else if message == "duplicate key" {
            "remove one of the two"
        } else if message.contains("recursion") || message.contains("recurse") {
            "write it flat: tables are at most three deep here"
        } else if message.contains("expected a map") {
            "write a table: { name = value }"
        } else if message.contains("expected u32") || message.contains("expected usize") {
            "write a number, without quotes"
        } else {
            "see the commented project file that `twostage init` writes"
        };
        self.error(line, message).hint(hint)
    }

    fn project(&self, raw: File) -> Result<Project> {
        let name = self.at(raw.project.name);
        self.check_name("a project", &name)?;
        let architectures: Vec<At<String>> = raw.project.architectures.into_iter().map(|arch| self.at(arch)).collect();
        self.check_architectures(&architectures)?;
        for (what, many) in [("components", raw.component.len()), ("images", raw.runtime.len())] {
            if many > MAX_ENTRIES {
                return Err(self
                    .error(1, format!("the project has {many} {what}, and {MAX_ENTRIES} are allowed"))
                    .hint("split the project"));
            }
        }
        let build = self.build_settings(raw.build, &BuildSettings::default())?;
        Ok(Project {
            file: self.file.to_string(),
            name: name.value,
            format: self.format,
            architectures: architectures.into_iter().map(|arch| arch.value).collect(),
            base: self.base(raw.base)?,
            components: raw.component.into_iter().map(|component| self.component(component, &build)).collect::<Result<_>>()?,
            repository: self.repository(raw.repository)?,
            images: raw
                .runtime
                .into_iter()
                .map(|(name, image)| {
                    let name = self.at(name);
                    Ok((name.value.clone(), self.image(name, image)?))
                })
                .collect::<Result<_>>()?,
        })
    }

    fn check_architectures(&self, architectures: &[At<String>]) -> Result<()> {
        self.check_once("architectures", architectures)?;
        for arch in architectures {
            self.format
                .check_name("xx", Some(&arch.value))
                .map_err(|cause| self.error(arch.line, cause).hint("write architectures as dpkg or rpm names them"))?;
            // These say that a package is for any architecture, or is a source.
            if ["all", "any", "noarch", "source", "src", "nosrc"].contains(&arch.value.as_str()) {
                return Err(self
                    .error(arch.line, format!("`{}` is not the architecture of a machine", arch.value))
                    .hint(format!("write it like \"{}\"", self.format.architecture("amd64"))));
            }
        }
        Ok(())
    }

    /// A list whose entries differ.
    fn check_once(&self, key: &str, list: &[At<String>]) -> Result<()> {
        if list.len() > MAX_ENTRIES {
            let line = list.first().map_or(1, |first| first.line);
            return Err(self.error(line, format!("`{key}` has {} entries, and {MAX_ENTRIES} are allowed", list.len())).hint("shorten it"));
        }
        let mut seen = BTreeSet::new();
        match list.iter().find(|entry| !seen.insert(&entry.value)) {
            None => Ok(()),
            Some(twice) => {
                Err(self.error(twice.line, format!("`{}` is twice in `{key}`", twice.value.escape_debug())).hint("remove one of the two"))
            }
        }
    }
}

//! The project file's keys as serde sees them, and their translation into the domain types.

use super::{
    At, Base, Component, ImageFile, Project, Recipe, Release, RepositorySettings, RuntimeImage, Source, User, YumCompression, error_at,
    near_miss,
};
use crate::names::check_channel_name;
use crate::{Format, Result, url};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, de::value::MapAccessDeserializer};
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of a path, at most (Linux's PATH_MAX).
const MAX_PATH: usize = 4095;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    project: ProjectTable,
    base: Spanned<BaseTable>,
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
    dockerfile: Option<Spanned<String>>,
    packages: Option<Spanned<String>>,
    #[serde(default)]
    options: Vec<Spanned<String>>,
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
    key: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    keep: Option<usize>,
    #[serde(default)]
    yum_compression: YumCompression,
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
    entrypoint: Vec<String>,
    #[serde(default)]
    cmd: Vec<String>,
    #[serde(default)]
    expose: Vec<Spanned<Port>>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    files: BTreeMap<Spanned<String>, Spanned<FileValue>>,
    #[serde(default)]
    slim: bool,
    #[serde(default)]
    check: Vec<String>,
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
    text: &'a str,
    file: &'a str,
    format: Format,
    host: &'a dyn Fn() -> Result<Release>,
}

pub(super) fn parse(text: &str, file: &str, host: &dyn Fn() -> Result<Release>) -> Result<Project> {
    let reader = Reader { text, file, format: Format::Deb, host };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| reader.toml_error(&error))?;
    let raw = File::deserialize(deserializer.into_deserializer()).map_err(|error| reader.toml_error(&error))?;
    let format = raw.project.format.as_ref().map_or(Format::Deb, |format| *format.get_ref());
    Reader { format, ..reader }.project(raw)
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
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
        let hint = if message.contains("expected a sequence") {
            "write a list: [\"…\"]"
        } else if message.contains("expected a string") {
            "write it in quotes: \"…\""
        } else if message.contains("expected a boolean") {
            "write true or false, without quotes"
        } else if message.starts_with("unknown variant") {
            "write \"deb\" or \"rpm\""
        } else {
            "see the commented project file that `twostage init` writes"
        };
        self.error(line, message).hint(hint)
    }

    fn project(&self, raw: File) -> Result<Project> {
        let name = self.at(raw.project.name);
        self.check_name("project", &name)?;
        let architectures: Vec<At<String>> = raw.project.architectures.into_iter().map(|arch| self.at(arch)).collect();
        for arch in &architectures {
            self.format.check_name("xx", Some(&arch.value)).map_err(|cause| self.error(arch.line, cause))?;
        }
        Ok(Project {
            file: self.file.to_string(),
            name: name.value,
            format: self.format,
            architectures: architectures.into_iter().map(|arch| arch.value).collect(),
            base: self.base(raw.base)?,
            components: raw.component.into_iter().map(|component| self.component(component)).collect::<Result<_>>()?,
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

    fn base(&self, raw: Spanned<BaseTable>) -> Result<At<Base>> {
        let At { line, value: raw } = self.at(raw);
        let mut bases = Vec::new();
        bases.extend(raw.image.map(Base::Image));
        let layout = (raw.layout, Base::Layout as fn(String) -> Base);
        for (path, kind) in [layout, (raw.archive, Base::Archive), (raw.rootfs, Base::Rootfs)] {
            if let Some(path) = path.map(|path| self.at(path)) {
                self.check_relative(&path)?;
                bases.push(kind(path.value));
            }
        }
        let bootstrapped = raw.bootstrap.is_some();
        if let Some(bootstrap) = raw.bootstrap {
            let bootstrap = self.at(bootstrap);
            if self.format == Format::Rpm {
                return Err(self
                    .error(bootstrap.line, "`bootstrap` makes bases of deb packages, and this project makes rpms")
                    .hint("name a base of an rpm distribution with image, archive, layout or rootfs"));
            }
            let of_host = bootstrap.value == "host";
            let release = if of_host { (self.host)() } else { bootstrap.value.parse() };
            let release = release.map_err(|cause| self.error(bootstrap.line, &cause).hint(cause.hint_or_class()))?;
            bases.push(Base::Bootstrap { release, of_host, mirrors: raw.mirrors.clone() });
        }
        // What it says is the base's sources.list, which is in every image.
        if let Some(mirror) = raw.mirrors.iter().find(|mirror| mirror.split_whitespace().any(url::has_password)) {
            let shown: Vec<String> = mirror.split_whitespace().map(url::shown).collect();
            return Err(self
                .error(line, format!("the mirror `{}` has a password in it, which would be in every image", shown.join(" ")))
                .hint("name a mirror that needs none, such as a cache on your own network that knows the password"));
        }
        if !raw.mirrors.is_empty() && !bootstrapped {
            return Err(self
                .error(line, "`mirrors` goes with `bootstrap` only")
                .hint("remove `mirrors`: an image brings its own apt sources"));
        }
        match (bases.pop(), bases.is_empty()) {
            (Some(base), true) => Ok(At { line, value: base }),
            _ => Err(self
                .error(line, "a base needs exactly one of image, bootstrap, layout, archive, rootfs")
                .hint("write one of them, such as bootstrap = \"debian:bookworm\"")),
        }
    }

    fn component(&self, raw: ComponentTable) -> Result<Component> {
        let name = self.at(raw.name);
        self.check_name("component", &name)?;
        let recipe = match (raw.dockerfile, raw.packages) {
            (None, None) => Recipe::Native,
            (Some(dockerfile), Some(packages)) => {
                let (dockerfile, packages) = (self.at(dockerfile), self.at(packages));
                self.check_relative(&dockerfile)?;
                if !packages.value.starts_with('/') || packages.value.split('/').any(|part| part == "..") {
                    return Err(self
                        .error(packages.line, format!("`packages = \"{}\"` is not an absolute folder of the builder image", packages.value))
                        .hint("write it with a leading slash, such as \"/packages\""));
                }
                Recipe::Dockerfile { dockerfile: dockerfile.value, packages: packages.value }
            }
            (Some(dockerfile), None) => {
                return Err(self
                    .error(self.line(dockerfile.span().start), "`dockerfile` needs `packages`, the folder that it leaves its packages in")
                    .hint("add packages = \"/packages\""));
            }
            (None, Some(packages)) => {
                return Err(self
                    .error(self.line(packages.span().start), "`packages` in a component goes with `dockerfile` only")
                    .hint("remove it, or add dockerfile = \"Dockerfile\""));
            }
        };
        let source = self.source(raw.source)?;
        if let (Recipe::Dockerfile { .. }, Source::Distribution { .. }) = (&recipe, &source.value) {
            return Err(self
                .error(source.line, "a distribution's source package is built natively, not with a Dockerfile")
                .hint("remove `dockerfile` and `packages`"));
        }
        let patches: Vec<At<String>> = raw.patches.into_iter().map(|patch| self.at(patch)).collect();
        patches.iter().try_for_each(|patch| self.check_relative(patch))?;
        let options: Vec<At<String>> = raw.options.into_iter().map(|option| self.at(option)).collect();
        if let Some(option) = options.iter().find(|o| o.value.is_empty() || !o.value.chars().all(|c| c.is_ascii_graphic())) {
            return Err(self
                .error(option.line, format!("{:?} is not a build option", option.value))
                .hint("write one word, such as \"nocheck\""));
        }
        if let (Recipe::Dockerfile { .. }, Some((key, first))) =
            (&recipe, patches.first().map(|patch| ("patches", patch)).or(options.first().map(|option| ("options", option))))
        {
            return Err(self
                .error(first.line, format!("`{key}` is for native builds; component `{}` has a Dockerfile", name.value))
                .hint(format!("remove `{key}`, and let the Dockerfile do that")));
        }
        Ok(Component {
            name,
            source,
            patches,
            needs: raw.needs.into_iter().map(|need| self.at(need)).collect(),
            recipe,
            options: options.into_iter().map(|option| option.value).collect(),
        })
    }

    fn source(&self, raw: Spanned<SourceValue>) -> Result<At<Source>> {
        let At { line, value } = self.at(raw);
        let table = match value {
            SourceValue::Folder(folder) => {
                let folder = At { line, value: folder };
                self.check_relative(&folder)?;
                return Ok(At { line, value: Source::Folder(folder.value) });
            }
            SourceValue::Table(table) => table,
        };
        let value = match *table {
            SourceTable { folder: Some(folder), url: None, sha256: None, git: None, revision: None, distribution: None, version: None } => {
                self.check_relative(&At { line, value: folder.clone() })?;
                Source::Folder(folder)
            }
            SourceTable {
                url: Some(url),
                sha256: Some(sha256),
                folder: None,
                git: None,
                revision: None,
                distribution: None,
                version: None,
            } => {
                let sha256 = self.at(sha256);
                if !["http://", "https://", "file://"].iter().any(|scheme| url.starts_with(scheme)) {
                    return Err(self.error(line, format!("`{}` is not an http, https or file URL", url::shown(&url))));
                }
                let digest = sha256.value.parse().map_err(|cause| self.error(sha256.line, cause).hint("write what `sha256sum` prints"))?;
                Source::Tarball { url, sha256: digest }
            }
            SourceTable {
                git: Some(url),
                revision: Some(revision),
                folder: None,
                url: None,
                sha256: None,
                distribution: None,
                version: None,
            } => {
                let revision = self.at(revision);
                if revision.value.len() != 40 || !revision.value.chars().all(|c| c.is_ascii_hexdigit()) {
                    return Err(self
                        .error(revision.line, format!("revision `{}` is not a full commit id", revision.value))
                        .hint("write the 40 hex digits that `git rev-parse` prints: a branch or tag can move"));
                }
                if url.starts_with('-') {
                    return Err(self.error(line, format!("`{}` is not a git URL", url::shown(&url))));
                }
                // Git passes its URL on as an argument, which is for all of the machine to see.
                if url::has_password(&url) {
                    return Err(self
                        .error(line, format!("`{}` has a password in it", url::shown(&url)))
                        .hint("write the URL without it: git asks its credential helper (`git help credentials`)"));
                }
                Source::Git { url, revision: revision.value }
            }
            SourceTable { distribution: Some(name), version, folder: None, url: None, sha256: None, git: None, revision: None } => {
                let name = self.at(name);
                let version = version.map(|version| self.at(version));
                match &version {
                    Some(version) => self.format.id(&name.value, &version.value, self.format.source_arch()).map(|_| ()),
                    None => self.format.check_name(&name.value, None),
                }
                .map_err(|cause| self.error(name.line, cause))?;
                Source::Distribution { name: name.value, version: version.map(|version| version.value) }
            }
            _ => {
                return Err(self
                    .error(line, "this source is not one of the four kinds")
                    .hint("write \"folder\", { url = …, sha256 = … }, { git = …, revision = … } or { distribution = … }"));
            }
        };
        Ok(At { line, value })
    }

    fn repository(&self, raw: RepositoryTable) -> Result<RepositorySettings> {
        let channel = raw.channel.map_or(At { line: 1, value: "main".to_string() }, |channel| self.at(channel));
        check_channel_name(&channel.value).map_err(|cause| self.error(channel.line, &cause).hint(cause.hint_or_class()))?;
        let listen = raw.listen.map_or(At { line: 1, value: "127.0.0.1:8417".to_string() }, |listen| self.at(listen));
        if listen.value.parse::<std::net::SocketAddr>().is_err() {
            return Err(self
                .error(listen.line, format!("`{}` is not an address and port", listen.value))
                .hint("write it like \"127.0.0.1:8417\""));
        }
        Ok(RepositorySettings {
            path: self.own_place(raw.path)?.unwrap_or_else(|| At { line: 1, value: ".twostage/repository".into() }),
            channel: channel.value,
            key: self.own_place(raw.key)?,
            listen: listen.value,
            keep: raw.keep.unwrap_or(16),
            yum_compression: raw.yum_compression,
        })
    }

    fn image(&self, name: At<String>, raw: RuntimeTable) -> Result<RuntimeImage> {
        self.check_name("image", &name)?;
        // Its folder in `.twostage/images` lies beside them.
        if ["blobs", "index.json", "oci-layout"].contains(&name.value.as_str()) {
            return Err(self
                .error(name.line, format!("`{}` is not a name for an image: OCI layouts use it", name.value))
                .hint("rename it"));
        }
        let packages: Vec<At<String>> = raw.packages.into_iter().map(|package| self.at(package)).collect();
        if packages.is_empty() {
            return Err(self
                .error(name.line, format!("image `{}` installs no package", name.value))
                .hint("name at least one in `packages`"));
        }
        for package in &packages {
            self.format.check_name(&package.value, None).map_err(|cause| {
                self.error(package.line, cause).hint("write the bare name: versions come from the channel and the lock")
            })?;
        }
        let mut env = BTreeMap::new();
        for (key, value) in raw.env {
            let (key, value) = (self.at(key), self.at(value));
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if key.value.is_empty() || key.value.starts_with(|c: char| c.is_ascii_digit()) || !key.value.chars().all(fine) {
                return Err(self.error(key.line, format!("`{}` is not a name of an environment variable", key.value)));
            }
            self.check_line(&value)?;
            env.insert(key.value, value.value);
        }
        let mut labels = BTreeMap::new();
        for (key, value) in raw.labels {
            let (key, value) = (self.at(key), self.at(value));
            if key.value.is_empty() || !key.value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
                return Err(self.error(key.line, format!("`{}` is not a label name", key.value)));
            }
            if key.value.starts_with("twostage.") {
                return Err(self.error(key.line, format!("label `{}` is twostage's own", key.value)).hint("choose another prefix"));
            }
            self.check_line(&value)?;
            labels.insert(key.value, value.value);
        }
        for word in raw.entrypoint.iter().chain(&raw.cmd).chain(&raw.check) {
            self.check_line(&At { line: name.line, value: word.clone() })?;
        }
        Ok(RuntimeImage {
            base: raw.base.map(|base| self.base(base)).transpose()?,
            packages,
            user: raw.user.map(|user| self.user(user)).transpose()?,
            env,
            entrypoint: raw.entrypoint,
            cmd: raw.cmd,
            expose: raw.expose.into_iter().map(|port| self.port(port)).collect::<Result<_>>()?,
            labels,
            files: raw.files.into_iter().map(|(path, file)| self.file(path, file)).collect::<Result<_>>()?,
            slim: raw.slim,
            check: raw.check,
            name,
        })
    }

    fn user(&self, raw: Spanned<UserValue>) -> Result<User> {
        let At { line, value } = self.at(raw);
        let (name, uid) = match value {
            UserValue::Table(table) => (table.name, table.uid),
            UserValue::Name(name) => {
                let uid = name.parse().ok();
                (name, uid.unwrap_or(1000))
            }
        };
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.chars().all(fine) {
            return Err(self.error(line, format!("`{name}` is not a user name")).hint("use lower-case letters, digits, `_` and `-`"));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) && name.parse() != Ok(uid) {
            return Err(self.error(line, format!("user `{name}` is neither a name nor a uid")).hint("a name starts with a letter"));
        }
        Ok(User { name, uid })
    }

    fn port(&self, raw: Spanned<Port>) -> Result<String> {
        let At { line, value: Port(port) } = self.at(raw);
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        if number.parse::<u16>().is_ok_and(|number| number > 0) && ["tcp", "udp", "sctp"].contains(&protocol) {
            return Ok(port);
        }
        Err(self.error(line, format!("`{port}` is not a port")).hint("write 8080 or \"8080/udp\""))
    }

    fn file(&self, path: Spanned<String>, file: Spanned<FileValue>) -> Result<(String, ImageFile)> {
        let (path, file) = (self.at(path), self.at(file));
        let parts: Vec<&str> = path.value.split('/').skip(1).collect();
        if !path.value.starts_with('/')
            || parts.iter().any(|part| part.is_empty() || *part == "." || *part == "..")
            || path.value.chars().any(char::is_control)
        {
            return Err(self
                .error(path.line, format!("`{}` is not an absolute path of the image", path.value))
                .hint("write it like \"/etc/greet.conf\""));
        }
        let (source, mode) = match file.value {
            FileValue::Source(source) => (source, None),
            FileValue::Table(table) => (table.source, table.mode),
        };
        let mode = match mode {
            None => 0o644,
            Some(text) => u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
                self.error(file.line, format!("`{text}` is not a file mode")).hint("write octal digits in quotes, such as \"0755\"")
            })?,
        };
        let source = At { line: file.line, value: source };
        self.check_relative(&source)?;
        Ok((path.value, ImageFile { source, mode }))
    }

    fn check_name(&self, of: &str, name: &At<String>) -> Result<()> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let ends =
            |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        if name.value.len() >= 2 && name.value.len() <= 100 && ends(&name.value) && name.value.chars().all(fine) {
            return Ok(());
        }
        Err(self
            .error(name.line, format!("`{}` is not a name for a {of}", name.value))
            .hint("use two or more lower-case letters, digits, dots and dashes"))
    }

    /// A path of a file of the project: one below its folder that is not twostage's own. What it leads to by links is
    /// looked at when it is opened.
    fn check_relative(&self, path: &At<String>) -> Result<()> {
        self.check_below(path).map_err(|error| error.hint("move it there and write the path relative to the project file"))?;
        if super::parts(&path.value).first() == Some(&super::STATE) {
            return Err(self
                .error(path.line, format!("`{}` is in {}, which is twostage's own", path.value, super::STATE))
                .hint("copy it out of there, and name the copy"));
        }
        Ok(())
    }

    /// Where the project keeps its repository or its key.
    fn own_place(&self, path: Option<Spanned<String>>) -> Result<Option<At<String>>> {
        let Some(path) = path.map(|path| self.at(path)) else { return Ok(None) };
        self.check_below(&path).map_err(|error| {
            error.hint(
                "write it relative to the project file; one elsewhere is named with --repository and --key, or in the environment \
                        by TWOSTAGE_REPOSITORY and TWOSTAGE_KEY",
            )
        })?;
        Ok(Some(path))
    }

    /// A path below the project's folder: absolute ones and `..` would not exist on another machine.
    fn check_below(&self, path: &At<String>) -> Result<()> {
        let fine = !path.value.is_empty() && !path.value.starts_with('/') && !path.value.split('/').any(|part| part == "..");
        if !fine || path.value.chars().any(char::is_control) || path.value.len() > MAX_PATH {
            let shown: String = path.value.chars().take(100).flat_map(char::escape_debug).collect();
            return Err(self.error(path.line, format!("`{shown}` is not a path below the project file's folder")));
        }
        Ok(())
    }

    /// A value that has to fit one line of a Dockerfile.
    fn check_line(&self, value: &At<String>) -> Result<()> {
        if value.value.chars().any(char::is_control) {
            return Err(self.error(value.line, format!("{:?} has a control character", value.value)).hint("put longer texts into a file"));
        }
        Ok(())
    }
}

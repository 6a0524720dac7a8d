//! The project file, `twostage.toml`: what the two stages are, nothing about this machine.
//!
//! Reading happens in two steps: `raw` mirrors the file's keys for serde, then this module checks
//! what serde cannot (names, references, cycles). Every complaint names file, line and the edit
//! that mends it.

mod build_need;
mod mirror;
mod raw;
mod release;

pub use build_need::{BuildNeed, NeedKind};
pub use mirror::Mirror;
pub use release::Release;

use crate::{Class, Error, Format, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A value and the line of the project file that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// Line of the project file, counted from 1.
    pub line: usize,
    /// The value.
    pub value: T,
}

/// One `twostage.toml`.
#[derive(Debug, Clone)]
pub struct Project {
    /// The file's name as people know it, for messages.
    pub file: String,
    /// `[project] name`: also the Origin of the repository.
    pub name: String,
    /// `[project] format`.
    pub format: Format,
    /// `[project] architectures`; empty means the engine's own.
    pub architectures: Vec<String>,
    /// `[base]`: the distribution both stages start from.
    pub base: At<Base>,
    /// `[[component]]`, in the file's order; `needs` has no cycle.
    pub components: Vec<Component>,
    /// `[repository]`.
    pub repository: RepositorySettings,
    /// `[runtime.<image>]`.
    pub images: BTreeMap<String, RuntimeImage>,
}

/// The distribution that a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A reference that the engine has or can pull.
    Image(String),
    /// Made from the distribution's own mirror.
    Bootstrap {
        /// Which one: `debian:bookworm`.
        release: Release,
        /// The project file says `host`: what is there is the release of the machine that locked it.
        of_host: bool,
        /// apt's sources to use; empty means those of this host's apt.
        mirrors: Vec<Mirror>,
    },
    /// An OCI layout folder.
    Layout(String),
    /// A docker or OCI archive.
    Archive(String),
    /// A tar of a root file system.
    Rootfs(String),
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Base::Image(reference) => write!(f, "image {reference}"),
            Base::Bootstrap { release, .. } => write!(f, "bootstrap {release}"),
            Base::Layout(path) => write!(f, "layout {path}"),
            Base::Archive(path) => write!(f, "archive {path}"),
            Base::Rootfs(path) => write!(f, "rootfs {path}"),
        }
    }
}

/// One source tree that the build stage turns into packages.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name, unique in the project.
    pub name: At<String>,
    /// Where the source comes from.
    pub source: At<Source>,
    /// Patches, applied in this order with `-p1`.
    pub patches: Vec<At<String>>,
    /// Components whose packages this one is built against.
    pub needs: Vec<At<String>>,
    /// Package names that are somebody else's (the base's, the distribution's, another component's) and that this
    /// component's packages take.
    pub replaces: Vec<At<String>>,
    /// Patterns of paths, absolute, whose programs and libraries may lack what they need.
    pub unlinked: Vec<String>,
    /// How it is built.
    pub recipe: Recipe,
    /// With what a native build is run: `[build]`, and what the component says instead.
    pub build: BuildSettings,
}

/// With what a native build is run. All of it is part of the component's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// Words of `DEB_BUILD_OPTIONS`, such as `nocheck`; options of rpmbuild.
    pub options: Vec<String>,
    /// Build profiles of Debian, such as `nodoc` (<https://wiki.debian.org/BuildProfileSpec>).
    pub profiles: Vec<String>,
    /// Variables of the build's environment.
    pub env: BTreeMap<String, String>,
    /// Jobs at once; none means as many as there are cores.
    pub parallel: Option<u32>,
}

/// Where a component's source comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder, relative to the project file.
    Folder(String),
    /// A tarball, fetched once and checked.
    Tarball {
        /// `http`, `https` or `file` URL.
        url: String,
        /// What its bytes must hash to.
        sha256: crate::Sha256,
    },
    /// A git repository at one revision.
    Git {
        /// Anything that `git fetch` takes.
        url: String,
        /// A full commit id.
        revision: String,
    },
    /// The distribution's own source package.
    Distribution {
        /// Source package name.
        name: String,
        /// Exact version; none means the newest, which the lock then pins.
        version: Option<String>,
    },
}

/// How a component is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// The tree has `debian/`.
    Native,
    /// The team's own builder Dockerfile.
    Dockerfile {
        /// The Dockerfile, relative to the source folder.
        dockerfile: String,
        /// The folder in the built image that holds the packages.
        packages: String,
    },
    /// The tree has no packaging: it is made of what its build system says and installs.
    Generated(Generated),
}

/// How packaging is made for a tree that has none. All of it is part of the component's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Where `recipe` stands.
    pub line: usize,
    /// The build system; none means the one that the tree has.
    pub system: Option<BuildSystem>,
    /// The version, where the build system does not say it or is not to be asked.
    pub version: Option<String>,
    /// Options of the build system's configuration.
    pub options: Vec<String>,
    /// What the build needs besides what the build system asks for.
    pub build: Vec<BuildNeed>,
}

/// What configures, builds and installs a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildSystem {
    /// `meson.build`.
    Meson,
    /// `CMakeLists.txt`.
    Cmake,
    /// `configure`, or `configure.ac` that makes it.
    Autotools,
    /// A `Makefile` alone.
    Make,
}

impl BuildSystem {
    /// All of them, in the order in which a tree is asked.
    pub const ALL: [BuildSystem; 4] = [BuildSystem::Meson, BuildSystem::Cmake, BuildSystem::Autotools, BuildSystem::Make];

    /// Its word in a project file.
    pub fn word(self) -> &'static str {
        match self {
            BuildSystem::Meson => "meson",
            BuildSystem::Cmake => "cmake",
            BuildSystem::Autotools => "autotools",
            BuildSystem::Make => "make",
        }
    }
}

/// `[repository]`: where packages are kept and how they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Folder, relative to the project file.
    pub path: At<String>,
    /// The channel that `twostage repo` moves.
    pub channel: String,
    /// What the channels that this project makes are for, such as `bookworm`; within one, a name and version has one content.
    pub suite: Option<String>,
    /// Signing key file, relative to the project file; none means one inside the repository.
    pub key: Option<At<String>>,
    /// Address that `twostage serve` listens on.
    pub listen: String,
    /// How many earlier states a channel remembers.
    pub keep: usize,
    /// How many versions of each package `publish` leaves in a channel; nothing means all.
    pub keep_versions: Option<usize>,
    /// For how many days a snapshot stays after it was made, whether anything needs it or not.
    pub keep_days: u32,
    /// For how many days clients may use a channel's release after it was signed; nothing means for ever.
    pub valid_days: Option<u32>,
    /// How yum's metadata is packed.
    pub yum_compression: YumCompression,
    /// The kind of signing key that is made where there is none.
    pub key_type: Algorithm,
}

/// How yum's metadata is packed. A repository has one form: `repomd.xml` has one record of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum YumCompression {
    /// What every client reads.
    #[default]
    Gzip,
    /// As Fedora's own since 40: smaller, for dnf and zypper whose libsolv knows it.
    Zstd,
}

/// A kind of signing key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// RSA with 3072 bits, as GnuPG makes it: every client takes it.
    #[default]
    Rsa3072,
    /// RSA with 4096 bits: every client takes it; a signature takes two and a half times as long.
    Rsa4096,
    /// Ed25519 (the version 4 spelling that GnuPG reads): fast and short. apt takes it; rpm does from 4.16 on, where it was
    /// built with libgcrypt, OpenSSL or Sequoia.
    Ed25519,
}

/// `[runtime.<image>]`: one image.
#[derive(Debug, Clone)]
pub struct RuntimeImage {
    /// Its name, which is also the tag it gets.
    pub name: At<String>,
    /// Base, when it is not the project's.
    pub base: Option<At<Base>>,
    /// Packages to install.
    pub packages: Vec<At<String>>,
    /// The user it runs as.
    pub user: Option<User>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// ENTRYPOINT in exec form.
    pub entrypoint: Vec<String>,
    /// CMD in exec form.
    pub cmd: Vec<String>,
    /// Ports, `8080` or `8080/udp`.
    pub expose: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Files of the `<image>-config` package: absolute path in the image to its source.
    pub files: BTreeMap<String, ImageFile>,
    /// Leaves out documentation and translations of what is installed.
    pub slim: bool,
    /// Names of virtual packages that the `<image>-config` package provides: they count as installed.
    pub provides: Vec<At<String>>,
    /// Names of packages that must not be installed above the base; `*` and `?` stand for any characters.
    pub forbid: Vec<At<String>>,
    /// Patterns of absolute paths of programs and libraries that may lack libraries and symbols.
    pub unlinked: Vec<String>,
    /// Languages whose translations `slim` keeps, as gettext names them: `de`, `pt_BR`.
    pub locales: Vec<String>,
    /// WORKDIR: an absolute folder that a package has.
    pub workdir: Option<String>,
    /// VOLUME: absolute folders.
    pub volumes: Vec<String>,
    /// HEALTHCHECK.
    pub healthcheck: Option<HealthCheck>,
    /// STOPSIGNAL: `SIGQUIT`, or its number.
    pub stop_signal: Option<String>,
    /// A command that must succeed in a container of the image before it is tagged.
    pub check: Vec<String>,
    /// The `check` is a server, and this is what it must answer; without words it is what the image itself runs.
    pub until: Option<Until>,
}

/// An address in a container of an image that must answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// As it is written: `http://127.0.0.1:8080/`.
    pub address: String,
    /// Its port, on the container's loopback address.
    pub port: u16,
    /// What is asked for by HTTP, `/`; none where a connection is enough.
    pub path: Option<String>,
    /// How long it has, from 1 second to 10 minutes.
    pub timeout: Duration,
}

impl RuntimeImage {
    /// Whether there is a `<image>-config` package.
    pub fn has_config(&self) -> bool {
        !self.files.is_empty() || !self.provides.is_empty()
    }
}

/// The user an image runs as. It is made when the packages have not made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name, or a number.
    pub name: String,
    /// Its uid, and its group's gid.
    pub uid: u32,
    /// Whether the project file says the uid. Then the image's user is `uid:gid`, which Kubernetes can tell from root
    /// (`runAsNonRoot`).
    pub says_uid: bool,
}

/// How an engine finds out whether a container does its work (Dockerfile reference, HEALTHCHECK).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The command, in exec form.
    pub cmd: Vec<String>,
    /// `--interval`, `--timeout`, `--start-period`, as `30s` or `1m30s`; `--retries`.
    pub options: Vec<(&'static str, String)>,
}

/// A file of the generated config package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Relative to the project file.
    pub source: At<String>,
    /// Permission bits.
    pub mode: u32,
}

/// What a path named in the project file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// A folder.
    Folder,
    /// A regular file.
    File,
}

impl Project {
    /// Reads the text of a project file; `file` is its name for messages, `host` is asked for what
    /// `bootstrap = "host"` means.
    ///
    /// # Errors
    /// Class `Project`, with file, line and the edit that mends it.
    pub fn parse(text: &str, file: &str, host: &dyn Fn() -> Result<Release>) -> Result<Project> {
        let project = raw::parse(text, file, host)?;
        project.check_components()?;
        project.check_images()?;
        project.check_repository()?;
        Ok(project)
    }

    /// An error about one line of the project file.
    pub fn error_at(&self, line: usize, what: impl std::fmt::Display) -> Error {
        error_at(&self.file, line, what)
    }

    /// The same for an error of what the line names: its sentence and its hint.
    pub fn refused(&self, line: usize, cause: &Error) -> Error {
        let causes: Vec<String> = std::iter::once(cause.to_string()).chain(cause.causes()).collect();
        self.error_at(line, causes.join(": ")).hint(cause.hint_or_class())
    }

    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name.value == name)
    }

    /// The distribution that an image starts from: its own base, else the project's. Of an image above another one of the
    /// project it is that one's.
    pub fn base_of<'a>(&'a self, image: &'a RuntimeImage) -> &'a At<Base> {
        let lowest = self.with_parents(image).first().copied().unwrap_or(image);
        lowest.base.as_ref().unwrap_or(&self.base)
    }

    /// The image of this project that is the base of an image.
    pub fn parent(&self, image: &RuntimeImage) -> Option<&RuntimeImage> {
        match &image.base.as_ref()?.value {
            Base::Image(name) => self.images.get(name.strip_suffix(":latest").unwrap_or(name)),
            _ => None,
        }
    }

    /// The image and those of the project that it is above, the lowest first.
    pub fn with_parents<'a>(&'a self, image: &'a RuntimeImage) -> Vec<&'a RuntimeImage> {
        let mut chain = vec![image];
        while let Some(parent) = chain.last().and_then(|image| self.parent(image)) {
            // (A circle is refused when the file is read.)
            if chain.iter().any(|image| image.name.value == parent.name.value) {
                break;
            }
            chain.push(parent);
        }
        chain.reverse();
        chain
    }

    /// Every image, each after the one that it is above.
    pub fn images_in_order(&self) -> Vec<&RuntimeImage> {
        let mut order: Vec<&RuntimeImage> = Vec::new();
        for image in self.images.values().flat_map(|image| self.with_parents(image)) {
            if order.iter().all(|known| known.name.value != image.name.value) {
                order.push(image);
            }
        }
        order
    }

    /// Every file and folder that the project's tables name and that is there before anything is built; the key and the
    /// repository are not.
    pub fn paths(&self) -> Vec<(At<String>, Expect)> {
        let mut paths = Vec::new();
        let at = |line: usize, path: &str| At { line, value: path.to_string() };
        for base in std::iter::once(&self.base).chain(self.images.values().filter_map(|image| image.base.as_ref())) {
            match &base.value {
                Base::Layout(path) => paths.push((at(base.line, path), Expect::Folder)),
                Base::Archive(path) | Base::Rootfs(path) => paths.push((at(base.line, path), Expect::File)),
                Base::Image(_) | Base::Bootstrap { .. } => {}
            }
        }
        for component in &self.components {
            if let Source::Folder(folder) = &component.source.value {
                paths.push((at(component.source.line, folder), Expect::Folder));
                match &component.recipe {
                    // A spec file has any name: the build stage looks for it.
                    Recipe::Native if self.format == Format::Rpm => {}
                    Recipe::Generated(_) => paths.push((at(component.source.line, folder), Expect::Folder)),
                    Recipe::Native => paths.push((at(component.source.line, &format!("{folder}/debian/control")), Expect::File)),
                    Recipe::Dockerfile { dockerfile, .. } => {
                        paths.push((at(component.source.line, &format!("{folder}/{dockerfile}")), Expect::File));
                    }
                }
            }
            paths.extend(component.patches.iter().map(|patch| (patch.clone(), Expect::File)));
        }
        for image in self.images.values() {
            paths.extend(image.files.values().map(|file| (file.source.clone(), Expect::File)));
        }
        paths
    }

    /// The repository has a folder to itself, and neither it nor the key is a part of what is built or published.
    fn check_repository(&self) -> Result<()> {
        let settings = &self.repository;
        let path = parts(&settings.path.value);
        let refuse = |at: &At<String>, key: &str, why: &str, hint: &str| {
            Err(self.error_at(at.line, format!("`{key} = \"{}\"` {why}", at.value)).hint(hint))
        };
        let elsewhere = "name a folder that is for the repository alone, such as \".twostage/repository\"";
        match path.as_slice() {
            [] => return refuse(&settings.path, "path", "is the project's own folder", elsewhere),
            [STATE, rest @ ..] if rest.first() != Some(&"repository") => {
                return refuse(&settings.path, "path", "is in twostage's own folder", elsewhere);
            }
            _ => {}
        }
        let mut files: Vec<At<String>> = self.paths().into_iter().map(|(path, _)| path).collect();
        files.extend([self.file.as_str(), "twostage.lock"].map(|name| At { line: 1, value: name.to_string() }));
        if let Some(file) = files.iter().find(|file| parts(&file.value).starts_with(&path)) {
            return refuse(&settings.path, "path", &format!("holds `{}`, which is the project's", file.value), elsewhere);
        }
        for (key, at) in [("path", Some(&settings.path)), ("key", settings.key.as_ref())] {
            let Some(at) = at else { continue };
            let named = parts(&at.value);
            if let Some(part) = named.iter().find(|part| VERSION_CONTROL.contains(part)) {
                return refuse(at, key, &format!("is in {part}, which is version control's"), "name a place that is twostage's alone");
            }
            for component in &self.components {
                let Source::Folder(folder) = &component.source.value else { continue };
                // (No source has the state in it, whatever its folder.)
                if named.strip_prefix(parts(folder).as_slice()).is_some_and(|rest| !rest.contains(&STATE)) {
                    let why = format!("is in the source of component `{}`: builders would get it", component.name.value);
                    return refuse(at, key, &why, "name a place outside of every source, such as one in \".twostage/repository\"");
                }
            }
        }
        if let Some(key) = &settings.key {
            let named = parts(&key.value);
            if named.is_empty() || key.value.ends_with('/') {
                return refuse(key, "key", "is a folder", "name a file, such as \"keys/signing.asc\"");
            }
            if let Some(file) = files.iter().find(|file| parts(&file.value) == named) {
                return refuse(key, "key", &format!("is a file of the project: line {} names it", file.line), "name another file");
            }
        }
        Ok(())
    }

    fn check_images(&self) -> Result<()> {
        for image in self.images.values() {
            let chain = self.with_parents(image);
            if chain.first().is_some_and(|lowest| self.parent(lowest).is_some()) {
                let names: Vec<String> = chain.iter().rev().map(|image| format!("`{}`", image.name.value)).collect();
                let line = image.base.as_ref().map_or(image.name.line, |base| base.line);
                return Err(self
                    .error_at(line, format!("images are the bases of each other in a circle: {}", names.join(" is above ")))
                    .hint("give one of them a base that is no image of this project"));
            }
        }
        Ok(())
    }

    fn check_components(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for component in &self.components {
            let name = &component.name;
            if !seen.insert(&name.value) {
                return Err(self.error_at(name.line, format!("component `{}` is there twice", name.value)).hint("rename one of the two"));
            }
            for need in &component.needs {
                if self.component(&need.value).is_none() {
                    let names = self.components.iter().map(|c| c.name.value.as_str());
                    return Err(self
                        .error_at(need.line, format!("component `{}` needs `{}`, which is no component", name.value, need.value))
                        .hint(near_miss(&need.value, names).unwrap_or_else(|| format!("add a [[component]] named `{}`", need.value))));
                }
            }
        }
        // Those whose needs are all settled go first, until none is left: what is left is in a circle, or needs one.
        let mut settled: BTreeSet<&str> = BTreeSet::new();
        let mut left: Vec<&Component> = self.components.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|component| {
                let ready = component.needs.iter().all(|need| settled.contains(need.value.as_str()));
                if ready {
                    settled.insert(&component.name.value);
                }
                !ready
            });
            if left.len() == before {
                return Err(self.circle(&settled, left[0]));
            }
        }
        Ok(())
    }

    /// The error about a circle that a component is in, or needs.
    fn circle(&self, settled: &BTreeSet<&str>, from: &Component) -> Error {
        let mut path: Vec<&Component> = vec![from];
        loop {
            let last = path[path.len() - 1];
            let need = last.needs.iter().find(|need| !settled.contains(need.value.as_str()));
            let next = need.and_then(|need| Some((need, self.component(&need.value)?)));
            // (Each that is not settled needs another one that is not.)
            let Some((need, next)) = next else { return self.error_at(from.name.line, "components need each other in a circle") };
            if let Some(start) = path.iter().position(|earlier| earlier.name.value == next.name.value) {
                let circle: Vec<String> =
                    path[start..].iter().chain([&next]).map(|component| format!("`{}`", component.name.value)).collect();
                return self
                    .error_at(need.line, format!("components need each other in a circle: {}", circle.join(" needs ")))
                    .hint(format!("remove `{}` from the `needs` of `{}`", need.value, last.name.value));
            }
            path.push(next);
        }
    }
}

/// The folder beside the project file that is twostage's own.
pub const STATE: &str = ".twostage";
/// Folders that version control keeps for itself. They are in no source.
pub const VERSION_CONTROL: [&str; 4] = [".git", ".hg", ".svn", ".bzr"];

/// The parts of a path below the project's folder. (It has no `..`.)
fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

/// An error about one line of a file of the user's.
pub fn error_at(file: &str, line: usize, what: impl std::fmt::Display) -> Error {
    Error::new(Class::Project, format!("{file}:{line}: {what}"))
}

/// Whether this is the version of a source, as its authors may write it and every packaging takes it: without epoch and
/// revision (deb-version(7)).
pub fn is_upstream_version(version: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+~".contains(&byte);
    version.len() <= 100 && version.bytes().next().is_some_and(|first| first.is_ascii_digit()) && version.bytes().all(plain)
}

/// `write `needs`` for the candidate nearest to `word`, if one is near enough to be meant.
pub fn near_miss<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .map(|(_, candidate)| format!("write `{candidate}`"))
}

/// That the project file has no component, or image, of a name that somebody asked for; the hint has one near it, or all.
pub fn no_such<'a>(file: &str, kind: &str, name: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let names: Vec<&str> = names.collect();
    let hint = near_miss(name, names.iter().copied()).unwrap_or_else(|| format!("its {kind}s are: {}", names.join(", ")));
    Error::new(Class::Usage, format!("{file} names no {kind} {name}")).hint(hint)
}

#[cfg(test)]
mod tests;

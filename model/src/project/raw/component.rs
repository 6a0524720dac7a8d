//! `[[component]]`.

use super::text::{KERNELS, absolute, shown};
use super::{BuildTable, ComponentTable, Reader, SourceTable, SourceValue};
use crate::project::{At, BuildNeed, BuildSettings, BuildSystem, Component, Generated, Recipe, Source, is_upstream_version, near_miss};
use crate::{Format, Result, url};
use serde_spanned::Spanned;

impl Reader<'_> {
    pub(super) fn component(&self, mut raw: ComponentTable, defaults: &BuildSettings) -> Result<Component> {
        let name = self.at(raw.name.clone());
        self.check_name("a component", &name)?;
        let generated = self.generated(&mut raw, &name)?;
        let recipe = match (raw.dockerfile, raw.packages) {
            (None, None) => generated.map_or(Recipe::Native, Recipe::Generated),
            (Some(_), _) | (_, Some(_)) if generated.is_some() => {
                return Err(self
                    .error(name.line, format!("component `{}` has a `recipe`, and a Dockerfile too", name.value))
                    .hint("remove `recipe`, or `dockerfile` and `packages`"));
            }
            (Some(dockerfile), Some(packages)) => {
                let (dockerfile, packages) = (self.at(dockerfile), self.at(packages));
                self.check_relative(&dockerfile)?;
                let below = absolute(&packages.value).filter(|below| !below.is_empty());
                if below.is_none_or(|below| KERNELS.contains(&below[0])) {
                    return Err(self
                        .error(
                            packages.line,
                            format!("`packages = \"{}\"` is not an absolute folder of the builder image", shown(&packages.value)),
                        )
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
        if let (Recipe::Generated(_), Source::Distribution { .. }) = (&recipe, &source.value) {
            return Err(self
                .error(source.line, "a distribution's source package has packaging, which its build uses")
                .hint("remove `recipe`, or name the tree of its authors as the source"));
        }
        let patches: Vec<At<String>> = raw.patches.into_iter().map(|patch| self.at(patch)).collect();
        patches.iter().try_for_each(|patch| self.check_relative(patch))?;
        self.check_once("patches", &patches)?;
        let said = [
            patches.first().map(|patch| ("patches", patch.line)),
            raw.options.as_ref().map(|options| ("options", self.line(options.span().start))),
            raw.profiles.as_ref().map(|profiles| ("profiles", self.line(profiles.span().start))),
            raw.env.keys().next().map(|name| ("env", self.line(name.span().start))),
            raw.parallel.as_ref().map(|number| ("parallel", self.line(number.span().start))),
        ];
        if let (Recipe::Dockerfile { .. }, Some((key, line))) = (&recipe, said.into_iter().flatten().next()) {
            return Err(self
                .error(line, format!("`{key}` is for native builds; component `{}` has a Dockerfile", name.value))
                .hint(format!("remove `{key}`, and let the Dockerfile do that")));
        }
        let build = BuildTable { options: raw.options, profiles: raw.profiles, env: raw.env, parallel: raw.parallel };
        let build = self.build_settings(build, defaults)?;
        let replaces: Vec<At<String>> = raw.replaces.into_iter().map(|name| self.at(name)).collect();
        for name in &replaces {
            self.format
                .check_name(&name.value, None)
                .map_err(|cause| self.error(name.line, cause).hint("`replaces` takes bare names of packages, such as [\"libsystemd0\"]"))?;
        }
        self.check_once("replaces", &replaces)?;
        let needs: Vec<At<String>> = raw.needs.into_iter().map(|need| self.at(need)).collect();
        self.check_once("needs", &needs)?;
        let unlinked = self.unlinked(raw.unlinked)?;
        Ok(Component { name, source, patches, needs, replaces, unlinked, recipe, build })
    }

    /// What a component says of packaging that is to be made for it. It takes `options` out of the table: they are the
    /// build system's.
    fn generated(&self, raw: &mut ComponentTable, name: &At<String>) -> Result<Option<Generated>> {
        let Some(word) = raw.recipe.take().map(|word| self.at(word)) else {
            let said = [
                raw.version.as_ref().map(|version| ("version", self.line(version.span().start))),
                raw.build.first().map(|need| ("build", self.line(need.span().start))),
            ];
            return match said.into_iter().flatten().next() {
                Some((key, line)) => Err(self
                    .error(line, format!("`{key}` goes with `recipe`, which component `{}` has not", name.value))
                    .hint(format!("add recipe = \"auto\" where its tree has no packaging, or remove `{key}`"))),
                None => Ok(None),
            };
        };
        if self.format == Format::Rpm {
            return Err(self
                .error(word.line, "recipes make debs; there is none for rpms yet")
                .hint("give the source a spec file, or build it with `dockerfile` and `packages`"));
        }
        let system = match word.value.as_str() {
            "auto" => None,
            text => {
                let known = BuildSystem::ALL.into_iter().find(|system| system.word() == text);
                let words = || std::iter::once("auto").chain(BuildSystem::ALL.map(BuildSystem::word));
                Some(known.ok_or_else(|| {
                    let hint =
                        near_miss(text, words()).unwrap_or_else(|| format!("write one of {}", words().collect::<Vec<_>>().join(", ")));
                    self.error(word.line, format!("`{}` is no recipe", shown(text))).hint(hint)
                })?)
            }
        };
        let version = raw.version.take().map(|version| self.at(version));
        if let Some(version) = version.as_ref().filter(|version| !is_upstream_version(&version.value)) {
            return Err(self
                .error(version.line, format!("`{}` is not a version of a source", shown(&version.value)))
                .hint("write it without epoch and revision, such as \"1.2.3\""));
        }
        let mut build = Vec::new();
        for need in std::mem::take(&mut raw.build).into_iter().map(|need| self.at(need)) {
            let parsed = need.value.parse::<BuildNeed>().map_err(|why| {
                self.error(need.line, format!("`{}` is nothing that a build can need: {why}", shown(&need.value)))
                    .hint("write \"pc:glib-2.0\", \"cmd:bison\", \"header:zlib.h\", \"cmake:Qt5Widgets\" or the name of a package")
            })?;
            build.push(parsed);
        }
        let options = raw.options.take().map(|options| options.into_inner().into_iter().map(|option| self.at(option)).collect());
        let options: Vec<At<String>> = options.unwrap_or_default();
        if let Some(option) = options.iter().find(|option| !is_word(&option.value)) {
            return Err(self
                .error(option.line, format!("`{}` is not an option of a build system", shown(&option.value)))
                .hint("write one word, such as \"-Dtests=false\""));
        }
        let options = options.into_iter().map(|option| option.value).collect();
        Ok(Some(Generated { line: word.line, system, version: version.map(|version| version.value), options, build }))
    }

    /// What a table says, and for the rest what holds anyway. A list takes the place of a list; variables are added.
    pub(super) fn build_settings(&self, raw: BuildTable, defaults: &BuildSettings) -> Result<BuildSettings> {
        let mut settings = defaults.clone();
        if let Some(options) = raw.options {
            let options: Vec<At<String>> = options.into_inner().into_iter().map(|option| self.at(option)).collect();
            if let Some(option) = options.iter().find(|option| !is_word(&option.value)) {
                return Err(self
                    .error(option.line, format!("{:?} is not a build option", option.value.chars().take(100).collect::<String>()))
                    .hint("write one word, such as \"nocheck\""));
            }
            settings.options = options.into_iter().map(|option| option.value).collect();
        }
        if let Some(profiles) = raw.profiles {
            let At { line, value } = self.at(profiles);
            if self.format == Format::Rpm && !value.is_empty() {
                return Err(self
                    .error(line, "rpm has no build profiles")
                    .hint("say it with rpmbuild's own words, such as options = [\"--without\", \"docs\"]"));
            }
            let profiles: Vec<At<String>> = value.into_iter().map(|profile| self.at(profile)).collect();
            if let Some(profile) = profiles.iter().find(|profile| !is_profile(&profile.value)) {
                return Err(self
                    .error(profile.line, format!("`{}` is not a build profile", shown(&profile.value)))
                    .hint("write one word, such as \"nodoc\""));
            }
            self.check_once("profiles", &profiles)?;
            settings.profiles = profiles.into_iter().map(|profile| profile.value).collect();
        }
        for (name, value) in raw.env {
            let name = self.at(name);
            if !is_variable(&name.value) {
                return Err(self
                    .error(name.line, format!("`{}` is not the name of a variable", shown(&name.value)))
                    .hint("write letters, digits and _, such as DEB_CFLAGS_APPEND"));
            }
            if OURS.contains(&name.value.as_str()) || name.value.starts_with("TWOSTAGE_") {
                return Err(self
                    .error(name.line, format!("`{}` is set by twostage in every build", name.value))
                    .hint("use `options`, `profiles` or `parallel` where one of them means it, else remove it"));
            }
            if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
                return Err(self
                    .error(name.line, format!("the value of `{}` is not one line of at most {MAX_VALUE} bytes", name.value))
                    .hint("write what is longer into a file of the source"));
            }
            settings.env.insert(name.value, value);
        }
        if let Some(parallel) = raw.parallel {
            let At { line, value } = self.at(parallel);
            if !(1..=MAX_JOBS).contains(&value) {
                return Err(self.error(line, format!("a build cannot have {value} jobs at once")).hint("write 1 or more, such as 4"));
            }
            settings.parallel = Some(value);
        }
        Ok(settings)
    }

    pub(super) fn source(&self, raw: Spanned<SourceValue>) -> Result<At<Source>> {
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
                if let Err(why) = url::tarball_place(&url) {
                    return Err(self
                        .error(line, format!("`{}` {why}", shown_url(&url)))
                        .hint("write it like \"https://…/greet-1.0.tar.gz\""));
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
                let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                if revision.value.len() != 40 || !revision.value.chars().all(is_digit) {
                    return Err(self
                        .error(revision.line, format!("revision `{}` is not a full commit id", shown(&revision.value)))
                        .hint("write the 40 lower-case hex digits that `git rev-parse` prints: a branch or tag can move"));
                }
                if let Err(why) = url::git_place(&url) {
                    return Err(self.error(line, format!("`{}` {why}", shown_url(&url))).hint("write it like \"https://…/greet.git\""));
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
                .map_err(|cause| {
                    self.error(name.line, cause).hint("write the name of a source package, and where it is wanted an exact version of it")
                })?;
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
}

/// A URL for a message: one line, without a password.
fn shown_url(url: &str) -> String {
    url::shown(url).escape_debug().to_string()
}

/// Bytes of a variable's value, at most.
const MAX_VALUE: usize = 4096;
/// Jobs at once of one build, at most.
const MAX_JOBS: u32 = 1024;
/// Variables that every build has from us, or that would change how its container is set up and its packages are named.
const OURS: [&str; 12] = [
    "APT_CONFIG",
    "BUILD_KEY",
    "DEB_BUILD_OPTIONS",
    "DEB_BUILD_PROFILES",
    "HOME",
    "LC_ALL",
    "PATH",
    "RPM_BUILD_NCPUS",
    "RPM_BUILD_OPTIONS",
    "SOURCE_DATE_EPOCH",
    "TZ",
    "VERSION_KEY",
];

/// A name of a variable that every shell takes.
fn is_variable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 200 && name.bytes().all(plain) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// A word of `DEB_BUILD_PROFILES`, such as `nodoc` or `pkg.glib2.0.nosysprof`.
fn is_profile(profile: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".+-".contains(&byte);
    profile.len() <= 200 && profile.bytes().all(plain) && profile.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// A word of `DEB_BUILD_OPTIONS`, or an option of rpmbuild.
fn is_word(option: &str) -> bool {
    !option.is_empty() && option.len() <= 1000 && option.chars().all(|c| c.is_ascii_graphic())
}

//! `[[component]]`.

use super::text::{KERNELS, absolute, shown};
use super::{ComponentTable, Reader, SourceTable, SourceValue};
use crate::project::{At, Component, Recipe, Source};
use crate::{Result, url};
use serde_spanned::Spanned;

impl Reader<'_> {
    pub(super) fn component(&self, raw: ComponentTable) -> Result<Component> {
        let name = self.at(raw.name);
        self.check_name("a component", &name)?;
        let recipe = match (raw.dockerfile, raw.packages) {
            (None, None) => Recipe::Native,
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
        let patches: Vec<At<String>> = raw.patches.into_iter().map(|patch| self.at(patch)).collect();
        patches.iter().try_for_each(|patch| self.check_relative(patch))?;
        self.check_once("patches", &patches)?;
        let options: Vec<At<String>> = raw.options.into_iter().map(|option| self.at(option)).collect();
        if let Some(option) = options.iter().find(|o| !is_word(&o.value)) {
            return Err(self
                .error(option.line, format!("{:?} is not a build option", option.value.chars().take(100).collect::<String>()))
                .hint("write one word, such as \"nocheck\""));
        }
        if let (Recipe::Dockerfile { .. }, Some((key, first))) =
            (&recipe, patches.first().map(|patch| ("patches", patch)).or(options.first().map(|option| ("options", option))))
        {
            return Err(self
                .error(first.line, format!("`{key}` is for native builds; component `{}` has a Dockerfile", name.value))
                .hint(format!("remove `{key}`, and let the Dockerfile do that")));
        }
        let replaces: Vec<At<String>> = raw.replaces.into_iter().map(|name| self.at(name)).collect();
        for name in &replaces {
            self.format
                .check_name(&name.value, None)
                .map_err(|cause| self.error(name.line, cause).hint("`replaces` takes bare names of packages, such as [\"libsystemd0\"]"))?;
        }
        self.check_once("replaces", &replaces)?;
        let needs: Vec<At<String>> = raw.needs.into_iter().map(|need| self.at(need)).collect();
        self.check_once("needs", &needs)?;
        Ok(Component { name, source, patches, needs, replaces, recipe, options: options.into_iter().map(|option| option.value).collect() })
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

/// A word of `DEB_BUILD_OPTIONS`, or an option of rpmbuild.
fn is_word(option: &str) -> bool {
    !option.is_empty() && option.len() <= 1000 && option.chars().all(|c| c.is_ascii_graphic())
}

//! `[runtime.<image>]`: what is in an image.

use super::text::{KERNELS, absolute, shown};
use super::{FileValue, Reader, RuntimeTable};
use crate::project::{At, ImageFile, RuntimeImage};
use crate::{Format, Result};
use serde_spanned::Spanned;
use std::collections::BTreeMap;

/// Folders that the RUN of an image leaves as the base has them.
const PASSING: [&str; 3] = ["/run", "/tmp", "/var/tmp"];
/// Where package managers keep what they know of an image.
const DATABASES: [&str; 4] = ["/var/lib/dpkg", "/var/lib/apt", "/var/lib/rpm", "/usr/lib/sysimage/rpm"];

impl Reader<'_> {
    pub(super) fn image(&self, name: At<String>, raw: RuntimeTable) -> Result<RuntimeImage> {
        self.check_name("an image", &name)?;
        // Its folder in `.twostage/images` lies beside them.
        if ["blobs", "index.json", "oci-layout"].contains(&name.value.as_str()) {
            return Err(self
                .error(name.line, format!("`{}` is not a name for an image: OCI layouts use it", name.value))
                .hint("rename it"));
        }
        // It is also what an engine calls the image (distribution/reference: `path-component`, and no id).
        let id = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if ["..", ".-", "-."].iter().any(|two| name.value.contains(two)) || id(&name.value) {
            return Err(self
                .error(name.line, format!("`{}` is not a name that an engine gives an image", name.value))
                .hint("write letters and digits with one dot, or dashes, between them"));
        }
        let packages: Vec<At<String>> = raw.packages.into_iter().map(|package| self.at(package)).collect();
        if packages.is_empty() {
            return Err(self
                .error(name.line, format!("image `{}` installs no package", name.value))
                .hint("name at least one in `packages`"));
        }
        for package in &packages {
            if self.format == Format::Deb && package.value.ends_with('-') {
                return Err(self
                    .error(package.line, format!("apt would remove `{}`", package.value.trim_end_matches('-')))
                    .hint("write the bare name of a package to install"));
            }
            self.format.check_name(&package.value, None).map_err(|cause| {
                self.error(package.line, cause).hint("write the bare name: versions come from the channel and the lock")
            })?;
        }
        let mut env = BTreeMap::new();
        for (key, value) in raw.env {
            let (key, value) = (self.at(key), self.at(value));
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if key.value.is_empty() || key.value.starts_with(|c: char| c.is_ascii_digit()) || !key.value.chars().all(fine) {
                return Err(self
                    .error(key.line, format!("`{}` is not a name of an environment variable", shown(&key.value)))
                    .hint("write letters, digits and `_`, and no digit first"));
            }
            self.check_line(&value)?;
            env.insert(key.value, value.value);
        }
        let mut labels = BTreeMap::new();
        for (key, value) in raw.labels {
            let (key, value) = (self.at(key), self.at(value));
            // One that begins with a dash would be a flag of LABEL.
            let starts = key.value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            if !starts || !key.value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
                return Err(self
                    .error(key.line, format!("`{}` is not a label name", shown(&key.value)))
                    .hint("write letters, digits and . _ - /, and a letter or digit first"));
            }
            if key.value.starts_with("twostage.") {
                return Err(self.error(key.line, format!("label `{}` is twostage's own", key.value)).hint("choose another prefix"));
            }
            self.check_line(&value)?;
            labels.insert(key.value, value.value);
        }
        let entrypoint = self.command("entrypoint", raw.entrypoint, true)?;
        let cmd = self.command("cmd", raw.cmd, entrypoint.is_empty())?;
        let (check, until) = self.check(raw.check)?;
        let files = raw.files.into_iter().map(|(path, file)| self.file(path, file)).collect::<Result<Vec<_>>>()?;
        self.check_files(&files)?;
        let provides = self.provided(&name.value, &packages, raw.provides)?;
        Ok(RuntimeImage {
            base: raw.base.map(|base| self.base(base)).transpose()?,
            packages,
            user: raw.user.map(|user| self.user(user)).transpose()?,
            env,
            entrypoint,
            cmd,
            expose: self.ports(raw.expose)?,
            labels,
            files: files.into_iter().map(|(path, file)| (path.value, file)).collect(),
            slim: raw.slim,
            provides,
            forbid: self.forbidden(raw.forbid)?,
            unlinked: self.unlinked(raw.unlinked)?,
            locales: self.locales(raw.locales, raw.slim)?,
            workdir: raw.workdir.map(|path| self.image_folder("workdir", path)).transpose()?.map(|path| path.value),
            volumes: self.volumes(raw.volumes)?,
            healthcheck: raw.healthcheck.map(|check| self.healthcheck(check)).transpose()?,
            stop_signal: raw.stop_signal.map(|signal| self.stop_signal(signal)).transpose()?,
            check,
            until,
            name,
        })
    }

    /// Names that are nobody's in the image: what is installed there is not provided besides.
    fn provided(&self, image: &str, packages: &[At<String>], raw: Vec<Spanned<String>>) -> Result<Vec<At<String>>> {
        let names: Vec<At<String>> = raw.into_iter().map(|name| self.at(name)).collect();
        for name in &names {
            self.format.check_name(&name.value, None).map_err(|cause| {
                self.error(name.line, cause).hint("write the bare name of a virtual package, such as \"mail-transport-agent\"")
            })?;
            if packages.iter().any(|package| package.value == name.value) || name.value == format!("{image}-config") {
                return Err(self
                    .error(name.line, format!("`{}` is installed, and `provides` is for what is not", name.value))
                    .hint("remove it from `packages` or from `provides`"));
            }
        }
        self.check_once("provides", &names)?;
        Ok(names)
    }

    /// Patterns of packages' names.
    fn forbidden(&self, raw: Vec<Spanned<String>>) -> Result<Vec<At<String>>> {
        let patterns: Vec<At<String>> = raw.into_iter().map(|pattern| self.at(pattern)).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._*?".contains(c);
        if let Some(pattern) = patterns.iter().find(|pattern| pattern.value.is_empty() || !pattern.value.chars().all(plain)) {
            return Err(self
                .error(pattern.line, format!("`{}` is not a name of packages", shown(&pattern.value)))
                .hint("write a name, such as \"systemd\" or \"libx11-*\""));
        }
        self.check_once("forbid", &patterns)?;
        Ok(patterns)
    }

    /// Patterns of absolute paths.
    pub(super) fn unlinked(&self, raw: Vec<Spanned<String>>) -> Result<Vec<String>> {
        let patterns: Vec<At<String>> = raw.into_iter().map(|pattern| self.at(pattern)).collect();
        for pattern in &patterns {
            if absolute(&pattern.value).is_none_or(|parts| parts.is_empty()) {
                return Err(self
                    .error(pattern.line, format!("`{}` is not an absolute path", shown(&pattern.value)))
                    .hint("write it like \"/usr/lib/app/plugins/*.so\""));
            }
        }
        self.check_once("unlinked", &patterns)?;
        Ok(patterns.into_iter().map(|pattern| pattern.value).collect())
    }

    /// Languages by gettext's names: `de`, `pt_BR`, `sr@latin`.
    pub(super) fn locales(&self, raw: Vec<Spanned<String>>, slim: bool) -> Result<Vec<String>> {
        let mut locales = Vec::new();
        for locale in raw {
            let At { line, value } = self.at(locale);
            if !is_locale(&value) {
                return Err(self
                    .error(line, format!("`{}` is not a language", shown(&value)))
                    .hint("write it as gettext does, such as \"de\" or \"pt_BR\""));
            }
            if !slim {
                return Err(self
                    .error(line, "`locales` says which translations `slim` keeps, and this image is not slim")
                    .hint("add slim = true, or remove `locales`: without `slim` every translation stays"));
            }
            locales.push(value);
        }
        Ok(locales)
    }

    fn file(&self, path: Spanned<String>, file: Spanned<FileValue>) -> Result<(At<String>, ImageFile)> {
        let (path, file) = (self.at(path), self.at(file));
        let parts = absolute(&path.value).unwrap_or_default();
        let Some(first) = parts.first() else {
            return Err(self
                .error(path.line, format!("`{}` is not an absolute path of the image", shown(&path.value)))
                .hint("write it like \"/etc/greet.conf\""));
        };
        let in_folder =
            |folder: &&&str| path.value == **folder || path.value.strip_prefix(**folder).is_some_and(|rest| rest.starts_with('/'));
        let why = match (PASSING.iter().find(in_folder), DATABASES.iter().find(in_folder)) {
            _ if KERNELS.contains(first) => Some(format!("/{first} is the kernel's: no container sees what an image has there")),
            (Some(folder), _) => Some(format!("nothing stays in {folder} of an image")),
            (_, Some(folder)) => Some(format!("{folder} is the package manager's")),
            _ => None,
        };
        if let Some(why) = why {
            return Err(self
                .error(path.line, format!("`{}` cannot be a file of an image: {why}", shown(&path.value)))
                .hint("choose another place for it"));
        }
        let (source, mode) = match file.value {
            FileValue::Source(source) => (source, None),
            FileValue::Table(table) => (table.source, table.mode),
        };
        let mode = match mode {
            None => 0o644,
            Some(text) => octal(&text).ok_or_else(|| {
                self.error(file.line, format!("`{}` is not a file mode", shown(&text)))
                    .hint("write octal digits in quotes, such as \"0755\"")
            })?,
        };
        let source = At { line: file.line, value: source };
        self.check_relative(&source)?;
        Ok((path, ImageFile { source, mode }))
    }

    /// No file is the folder of another one.
    fn check_files(&self, files: &[(At<String>, ImageFile)]) -> Result<()> {
        let paths: BTreeMap<&str, usize> = files.iter().map(|(path, _)| (path.value.as_str(), path.line)).collect();
        for (path, _) in files {
            let above = path.value.match_indices('/').skip(1).find_map(|(end, _)| paths.get_key_value(&path.value[..end]));
            if let Some((above, line)) = above {
                return Err(self
                    .error(path.line, format!("`{}` is below `{}`, which line {line} makes a file", shown(&path.value), shown(above)))
                    .hint("move one of the two"));
            }
        }
        Ok(())
    }
}

/// Permission bits, as `chmod` takes them in octal digits.
fn octal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o7777)
}

/// `ll`, `ll_CC`, `ll@variant`, `ll_CC@variant` (gettext, "Locale Names").
fn is_locale(text: &str) -> bool {
    let (rest, variant) = text.split_once('@').map_or((text, None), |(rest, variant)| (rest, Some(variant)));
    let (language, territory) = rest.split_once('_').map_or((rest, None), |(language, territory)| (language, Some(territory)));
    let is = |word: &str, least: usize, most: usize, fine: fn(&u8) -> bool| {
        (least..=most).contains(&word.len()) && word.bytes().all(|b| fine(&b))
    };
    is(language, 2, 3, u8::is_ascii_lowercase)
        && territory.is_none_or(|word| is(word, 2, 3, |b| b.is_ascii_uppercase() || b.is_ascii_digit()))
        && variant.is_none_or(|word| is(word, 1, 16, u8::is_ascii_alphanumeric))
}

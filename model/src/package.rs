//! What names a package.

use crate::{Class, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The package formats that twostage knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Debian binary packages, read by apt.
    Deb,
    /// RPM packages, read by dnf and zypper.
    Rpm,
}

impl Format {
    /// The id of a package of this format.
    ///
    /// # Errors
    /// Names the field that breaks the format's rules.
    pub fn id(self, name: &str, version: &str, arch: &str) -> Result<PackageId> {
        match self {
            Format::Deb => PackageId::new(name, version, arch),
            Format::Rpm => PackageId::rpm(name, version, arch),
        }
    }

    /// Checks a bare name, and an architecture if one is given.
    ///
    /// # Errors
    /// Names the field that breaks the format's rules.
    pub fn check_name(self, name: &str, arch: Option<&str>) -> Result<()> {
        let (version, any) = match self {
            Format::Deb => ("0", "all"),
            Format::Rpm => ("0-0", "noarch"),
        };
        self.id(name, version, arch.unwrap_or(any)).map(|_| ())
    }

    /// The format's name of a Debian architecture.
    pub fn architecture(self, debian: &str) -> &str {
        match (self, debian) {
            (Format::Deb, same) => same,
            (Format::Rpm, "amd64") => "x86_64",
            (Format::Rpm, "arm64") => "aarch64",
            (Format::Rpm, "armhf") => "armv7hl",
            (Format::Rpm, "i386") => "i686",
            (Format::Rpm, "ppc64el") => "ppc64le",
            (Format::Rpm, same) => same,
        }
    }

    /// What stands for the architecture of a source package.
    pub fn source_arch(self) -> &'static str {
        match self {
            Format::Deb => "source",
            Format::Rpm => "src",
        }
    }
}

/// Name, version and architecture: within one repository they mean one content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageId {
    /// Package name.
    pub name: String,
    /// Whole version, with epoch and revision.
    pub version: String,
    /// Architecture as the format writes it (`amd64`, `all`, `source`).
    pub arch: String,
}

impl PackageId {
    /// Takes the three names after checking them against Debian policy (sections 5.6.1, 5.6.7,
    /// 5.6.8 and 5.6.12), so that they are safe in file names, URLs and shell words.
    ///
    /// # Errors
    /// Names the field that breaks the rule.
    pub fn new(name: &str, version: &str, arch: &str) -> Result<Self> {
        check("package name", name, 2, 200, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))?;
        check("version", version, 1, 200, |c| c.is_ascii_alphanumeric() || ".+-~:".contains(c))?;
        check("architecture", arch, 2, 40, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let upstream = rest.rsplit_once('-').map_or(rest, |(upstream, _)| upstream);
        // dpkg holds it in an int, and refuses what is more.
        let is_number = epoch.bytes().all(|b| b.is_ascii_digit()) && epoch.parse::<i32>().is_ok();
        if !is_number || rest.contains(':') {
            return Err(bad("version", version, "its epoch is not a number"));
        }
        if !upstream.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(bad("version", version, "it does not start with a digit"));
        }
        if rest.ends_with('-') {
            return Err(bad("version", version, "its revision is empty"));
        }
        Ok(PackageId { name: name.into(), version: version.into(), arch: arch.into() })
    }

    /// The same for an rpm, checked against the rules of rpmbuild (`build/parsePreamble.c`): a version is
    /// `[epoch:]version-release`, an architecture `x86_64`, `noarch` or, for a source package, `src`.
    ///
    /// # Errors
    /// Names the field that breaks the rule.
    pub fn rpm(name: &str, version: &str, arch: &str) -> Result<Self> {
        check("package name", name, 1, 200, |c| c.is_ascii_alphanumeric() || "+-._".contains(c))?;
        check("architecture", arch, 2, 40, |c| c.is_ascii_alphanumeric() || c == '_')?;
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        if epoch.is_empty() || epoch.parse::<u32>().is_err() || !epoch.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("version", version, "its epoch is not a number"));
        }
        let (upstream, release) =
            rest.rsplit_once('-').ok_or_else(|| bad("version", version, "it has no release: write version-release"))?;
        for part in [upstream, release] {
            check("version", part, 1, 150, |c| c.is_ascii_alphanumeric() || "._+~^".contains(c))?;
        }
        Ok(PackageId { name: name.into(), version: version.into(), arch: arch.into() })
    }

    /// The file name that rpmbuild gives, but with the epoch (its colon as `%3a`), because it tells
    /// versions apart.
    pub fn rpm_file_name(&self) -> String {
        format!("{}-{}.{}.rpm", self.name, self.version.replace(':', "%3a"), self.arch)
    }

    /// The file name that `dpkg-deb` and apt's archive cache use: the epoch's colon as `%3a`.
    pub fn deb_file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.arch)
    }

    /// The same for a package of Debian's installer.
    pub fn udeb_file_name(&self) -> String {
        format!("{}_{}_{}.udeb", self.name, self.version.replace(':', "%3a"), self.arch)
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.version, self.arch)
    }
}

fn bad(field: &str, value: &str, why: &str) -> Error {
    let shown: String = value.chars().take(80).collect();
    Error::new(Class::Repository, format!("{field} {shown:?} is not valid: {why}"))
}

fn check(field: &str, value: &str, least: usize, most: usize, allowed: impl Fn(char) -> bool) -> Result<()> {
    if value.len() < least || value.len() > most {
        return Err(bad(field, value, &format!("it has {} characters, {least} to {most} are allowed", value.len())));
    }
    if let Some(c) = value.chars().find(|c| !allowed(*c)) {
        return Err(bad(field, value, &format!("the character {c:?} is not allowed")));
    }
    if !value.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(bad(field, value, "it does not start with a letter or digit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_ids_are_taken() {
        for (name, version, arch) in
            [("libc6", "2.36-9+deb12u14", "amd64"), ("g++", "4:12.2.0-3", "amd64"), ("tzdata", "2025b-0+deb12u2", "all")]
        {
            assert!(PackageId::new(name, version, arch).is_ok(), "{name} {version}");
        }
        let gpp = PackageId::new("g++", "4:12.2.0-3", "amd64").map(|id| id.deb_file_name());
        assert_eq!(gpp.ok().as_deref(), Some("g++_4%3a12.2.0-3_amd64.deb"));
    }

    #[test]
    fn an_epoch_is_what_dpkg_holds_in_an_int() {
        for (version, is_one) in [("2147483647:1", true), ("000000000001:1", true), ("2147483648:1", false), ("+1:1", false), (":1", false)]
        {
            assert_eq!(PackageId::new("ok", version, "all").is_ok(), is_one, "{version}");
        }
    }

    #[test]
    fn real_ids_of_rpms_are_taken() {
        for (name, version, arch) in
            [("glibc", "2.38-7.fc39", "x86_64"), ("perl-Git", "0:2.43.0-1.fc39", "noarch"), ("R", "4.3.2~rc1^git1-1", "src")]
        {
            assert!(PackageId::rpm(name, version, arch).is_ok(), "{name} {version}");
        }
        let git = PackageId::rpm("perl-Git", "1:2.43.0-1.fc39", "noarch").map(|id| id.rpm_file_name());
        assert_eq!(git.ok().as_deref(), Some("perl-Git-1%3a2.43.0-1.fc39.noarch.rpm"));
    }

    #[test]
    fn names_of_rpms_that_could_leave_a_folder_or_a_shell_word_are_refused() {
        for (name, version, arch) in [
            ("../etc", "1-1", "noarch"),
            (".hidden", "1-1", "noarch"),
            ("a b", "1-1", "noarch"),
            ("ok", "1", "noarch"),
            ("ok", "-1", "noarch"),
            ("ok", "1-", "noarch"),
            ("ok", "1/2-1", "noarch"),
            ("ok", "$(x)-1", "noarch"),
            ("ok", "a:1-1", "noarch"),
            ("ok", "-1:1-1", "noarch"),
            ("ok", "1-1\n", "noarch"),
            ("ok", "1-1", "../x"),
        ] {
            assert!(PackageId::rpm(name, version, arch).is_err(), "{name:?} {version:?} {arch:?}");
        }
    }

    #[test]
    fn names_that_could_leave_a_folder_or_a_shell_word_are_refused() {
        for (name, version, arch) in [
            ("../etc", "1", "all"),
            ("a b", "1", "all"),
            ("x", "1", "all"),
            ("ok", "1/2", "all"),
            ("ok", "$(x)", "all"),
            ("ok", "1:2:3", "all"),
            ("ok", "1-", "all"),
            ("ok", "", "all"),
            ("ok", "1", "../x"),
            ("ok", "1\n", "all"),
        ] {
            assert!(PackageId::new(name, version, arch).is_err(), "{name:?} {version:?} {arch:?}");
        }
    }
}

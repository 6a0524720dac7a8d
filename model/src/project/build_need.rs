//! What a build needs, by what is in a file system and not by the name of a package: names differ between distributions.

use std::fmt;
use std::str::FromStr;

/// Bytes of a need, at most.
const MAX_NEED: usize = 200;

/// One thing that a build needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildNeed {
    /// Of what kind it is.
    pub kind: NeedKind,
    /// `glib-2.0`, `bison`, `zlib.h`, `debhelper`.
    pub name: String,
}

/// Kinds of what a build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeedKind {
    /// `pc:glib-2.0`: what pkg-config finds by that name.
    PkgConfig,
    /// `cmd:bison`: a program in PATH.
    Command,
    /// `header:zlib.h`: a file below the compiler's folders of headers.
    Header,
    /// `cmake:Qt5Widgets`: what CMake's `find_package` finds by that name.
    CmakePackage,
    /// A package of the distribution, by its name.
    Package,
}

impl NeedKind {
    const PREFIXES: [(&'static str, NeedKind); 4] =
        [("pc", NeedKind::PkgConfig), ("cmd", NeedKind::Command), ("header", NeedKind::Header), ("cmake", NeedKind::CmakePackage)];

    /// The word in front of the colon; none for a package.
    pub fn prefix(self) -> Option<&'static str> {
        NeedKind::PREFIXES.iter().find(|(_, kind)| *kind == self).map(|(prefix, _)| *prefix)
    }
}

impl BuildNeed {
    /// A need of that kind and name, if the name is one.
    pub fn new(kind: NeedKind, name: &str) -> Option<BuildNeed> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c) || (c == '/' && kind == NeedKind::Header);
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let is_name =
            name.len() <= MAX_NEED && starts && name.chars().all(plain) && !name.split('/').any(|part| part == ".." || part.is_empty());
        is_name.then(|| BuildNeed { kind, name: name.to_string() })
    }
}

impl FromStr for BuildNeed {
    type Err = String;

    fn from_str(text: &str) -> Result<BuildNeed, String> {
        let (kind, name) = match text.split_once(':') {
            None => (NeedKind::Package, text),
            Some((prefix, name)) => {
                let known = NeedKind::PREFIXES.iter().find(|(known, _)| *known == prefix);
                let (_, kind) = known.ok_or_else(|| format!("`{prefix}:` is none of pc:, cmd:, header: and cmake:"))?;
                (*kind, name)
            }
        };
        BuildNeed::new(kind, name).ok_or_else(|| "the name has other characters than letters, digits and +-._".to_string())
    }
}

impl fmt::Display for BuildNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.prefix() {
            Some(prefix) => write!(f, "{prefix}:{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_written_as_it_is_read() {
        for text in ["pc:glib-2.0", "cmd:wayland-scanner", "header:X11/Xlib.h", "cmake:Qt5Widgets", "libfoo-dev"] {
            assert_eq!(text.parse::<BuildNeed>().expect("a need").to_string(), text);
        }
    }

    #[test]
    fn a_need_that_could_be_an_option_or_lead_elsewhere_is_refused() {
        for text in
            ["", "pc:", "pc:-x", "--setup", "cmd:a b", "header:../x", "header:/etc/x", "header:a//b", "lib:x", "a\nb", "pc:a/b", "cmd:$(x)"]
        {
            assert!(text.parse::<BuildNeed>().is_err(), "{text:?}");
        }
    }
}

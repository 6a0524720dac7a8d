//! One release of a distribution, as a bootstrap is told of it: `debian:bookworm`.

use crate::{Class, Error, Result};
use std::fmt;
use std::str::FromStr;

/// A distribution that a base can be bootstrapped from, and the codename of a release of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `debian` or `ubuntu`.
    pub distribution: String,
    /// The codename.
    pub codename: String,
}

impl FromStr for Release {
    type Err = Error;

    fn from_str(text: &str) -> Result<Release> {
        let parts = text.split_once(':').filter(|(distribution, codename)| {
            matches!(*distribution, "debian" | "ubuntu")
                && codename.starts_with(|c: char| c.is_ascii_lowercase())
                && codename.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        });
        let (distribution, codename) = parts.ok_or_else(|| {
            Error::new(Class::Project, format!("`{text}` cannot be bootstrapped"))
                .hint("write distribution and codename, such as \"debian:bookworm\" or \"ubuntu:noble\", or \"host\"")
        })?;
        Ok(Release { distribution: distribution.into(), codename: codename.into() })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.distribution, self.codename)
    }
}

impl Release {
    /// The release that a machine says it is, by the text of its `/etc/os-release` (os-release(5)).
    ///
    /// # Errors
    /// It is neither Debian nor Ubuntu themselves, or a release without a codename (Debian's unstable).
    pub fn of_machine(os_release: &str) -> Result<Release> {
        let field = |key: &str| {
            let value = os_release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
            Some(value.trim_matches(['"', '\'']).to_string()).filter(|value| !value.is_empty())
        };
        let shown = field("PRETTY_NAME").or(field("ID")).unwrap_or_else(|| "an unknown system".into());
        let text = format!("{}:{}", field("ID").unwrap_or_default(), field("VERSION_CODENAME").unwrap_or_default());
        text.parse().map_err(|_| {
            Error::new(Class::Project, format!("this machine is {shown}, which cannot be bootstrapped"))
                .hint("name a release and its mirrors in [base], such as bootstrap = \"debian:bookworm\" with mirrors = [\"deb http://… bookworm main\"]; or a ready base with image, archive, layout or rootfs")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_what_its_os_release_says() {
        let of = |text: &str| Release::of_machine(text).map(|release| release.to_string()).map_err(|error| error.to_string());
        let ubuntu = "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\n\
                      ID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n";
        assert_eq!(of(ubuntu), Ok("ubuntu:noble".into()));
        assert_eq!(of("NAME='Debian GNU/Linux'\nVERSION_CODENAME='bookworm'\nID='debian'\n"), Ok("debian:bookworm".into()));
        let refused = |name: &str| Err(format!("this machine is {name}, which cannot be bootstrapped"));
        // Its codename is no release of Ubuntu's, though it is made from one.
        let mint =
            "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\nPRETTY_NAME=\"Linux Mint 22\"\n";
        assert_eq!(of(mint), refused("Linux Mint 22"));
        assert_eq!(of("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux forky/sid\"\n"), refused("Debian GNU/Linux forky/sid"));
        assert_eq!(of("ID=fedora\nVERSION_CODENAME=\"\"\n"), refused("fedora"));
        assert_eq!(of(""), refused("an unknown system"));
    }
}

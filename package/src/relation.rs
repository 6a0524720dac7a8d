//! The grammar of relation fields, as strict as the stricter of dpkg and apt.
//!
//! One stanza that apt cannot parse makes its whole index unreadable for every client, so this is
//! checked before a package is taken. Debian policy 7.1, the binary package's half of it:
//!
//! ```text
//! relations   = alternatives { "," alternatives }
//! alternatives = relation { "|" relation }        only in Depends, Pre-Depends, Recommends,
//!                                                 Suggests, Enhances
//! relation    = name [":" arch] [ "(" operator version ")" ]
//! ```
//!
//! Architecture lists `[amd64]` and build profiles `<!nocheck>` belong to source packages; dpkg
//! and apt take neither in a binary one.

use crate::{Check, shown};
use twostage_model::PackageId;

/// Relation fields, and whether they may hold alternatives (dpkg refuses `|` in the others).
pub(crate) const FIELDS: [(&str, bool); 9] = [
    ("Depends", true),
    ("Pre-Depends", true),
    ("Recommends", true),
    ("Suggests", true),
    ("Enhances", true),
    ("Conflicts", false),
    ("Breaks", false),
    ("Replaces", false),
    ("Provides", false),
];

/// Checks the value of one relation field.
pub(crate) fn check(value: &str, alternatives: bool) -> Check<()> {
    for clause in value.split(',') {
        if !alternatives && clause.contains('|') {
            return Err(format!("alternatives are not allowed in it: {}", shown(clause.trim())));
        }
        for relation in clause.split('|') {
            check_one(relation.trim()).map_err(|why| format!("{} in it {why}", shown(relation.trim())))?;
        }
    }
    Ok(())
}

fn check_one(relation: &str) -> Check<()> {
    let end = relation.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(relation.len());
    let (qualified, rest) = relation.split_at(end);
    let (name, arch) = qualified.split_once(':').map_or((qualified, None), |(name, arch)| (name, Some(arch)));
    let word = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 200
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if name.is_empty() {
        return Err("has no package name".into());
    }
    if !word(name, "+-._") {
        return Err("does not start with a package name".into());
    }
    if arch.is_some_and(|arch| !word(arch, "-")) {
        return Err("has an architecture after its colon that is none".into());
    }
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(());
    }
    let Some(inner) = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else {
        return Err("has more after the package name than one version in parentheses".into());
    };
    let inner = inner.trim();
    let end = inner.find(|c| !"<>=".contains(c)).unwrap_or(inner.len());
    let (operator, version) = inner.split_at(end);
    if !matches!(operator, "<<" | "<=" | "=" | ">=" | ">>" | "<" | ">") {
        return Err(format!("has {} where one of << <= = >= >> belongs", shown(operator)));
    }
    PackageId::new("any", version.trim(), "all").map(|_| ()).map_err(|error| format!("is refused: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_and_dpkg_read_is_taken() {
        for value in [
            "libc6 (>= 2.36)",
            "a, b:any | c:amd64 (<< 1:2.0-1~), d(=1)",
            "a\n , b\n , c",
            "a ( >= 1 )",
            "default-mta | mail-transport-agent",
            "A_b",
        ] {
            assert_eq!(check(value, true), Ok(()), "{value}");
        }
        assert_eq!(check("python3-x, y (= 1.0)", false), Ok(()));
    }

    /// Each of these is refused by dpkg 1.21 (`dpkg-deb --build`) too.
    #[test]
    fn what_one_of_them_cannot_read_is_refused() {
        for value in [
            "",
            "a,",
            "a, , b",
            "| a",
            "a |",
            "a b",
            "a [amd64]",
            "a <!x>",
            "a (1.0",
            "a 1.0)",
            "a (== 1)",
            "a (=> 1)",
            "a (>= )",
            "a (>= x)",
            "a (>= 1_2)",
            "a (>= 1 2)",
            "a (= 1)b",
            "-a",
            "a:",
            "a: any",
            "a :any",
            "a:x_y",
            "${shlibs:Depends}",
            "ä",
        ] {
            assert!(check(value, true).is_err(), "{value:?}");
        }
        assert!(check("a | b", false).is_err());
    }
}

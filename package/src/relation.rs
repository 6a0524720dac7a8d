//! The grammar of relation fields, as strict as the stricter of dpkg and apt.
//!
//! One stanza that apt cannot parse makes its whole index unreadable for every client, and of one
//! that it only warns of it warns every client, so this is checked before a package is taken. Debian policy 7.1, the binary package's half of it:
//!
//! ```text
//! relations   = alternatives { "," alternatives }
//! alternatives = relation { "|" relation }        only in Depends, Pre-Depends, Recommends,
//!                                                 Suggests, Enhances
//! relation    = name [":" arch] [ "(" operator version ")" ]
//! ```
//!
//! Only `=` may stand in `Provides`. The operators `<` and `>` are from before there were `<=` and `>=`,
//! and mean those: dpkg warns of them when it installs the package, and so does who publishes it.
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

/// Checks the value of one relation field. Gives the first relation that dpkg warns of.
pub(crate) fn check<'v>(name: &str, value: &'v str, alternatives: bool) -> Check<Option<&'v str>> {
    if value.starts_with('\n') {
        return Err("its first line is empty, which dpkg takes for a missing package name".into());
    }
    let mut old = None;
    for clause in value.split(',') {
        if !alternatives && clause.contains('|') {
            return Err(format!("alternatives are not allowed in it: {}", shown(clause.trim())));
        }
        for relation in clause.split('|').map(str::trim) {
            let operator = check_one(relation).map_err(|why| format!("{} in it {why}", shown(relation)))?;
            if name == "Provides" && !matches!(operator, None | Some("=")) {
                return Err(format!("{} in it has another operator than =, and every client warns of that", shown(relation)));
            }
            if matches!(operator, Some("<" | ">")) {
                old.get_or_insert(relation);
            }
        }
    }
    Ok(old)
}

/// Gives its operator, if it has one.
fn check_one(relation: &str) -> Check<Option<&str>> {
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
        return Ok(None);
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
    PackageId::new("any", version.trim(), "all").map(|_| Some(operator)).map_err(|error| format!("is refused: {error}"))
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
            assert_eq!(check("Depends", value, true), Ok(None), "{value}");
        }
        assert_eq!(check("Provides", "python3-x, y (= 1.0)", false), Ok(None));
    }

    #[test]
    fn the_first_relation_that_dpkg_warns_of_is_told() {
        assert_eq!(check("Depends", "a (<= 1), b | c(< 2), d (> 1)", true), Ok(Some("c(< 2)")));
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
            "\n a",
            "a\x1b[1m",
            "a\u{a0}(>= 1)b",
        ] {
            assert!(check("Depends", value, true).is_err(), "{value:?}");
        }
        assert!(check("Conflicts", "a | b", false).is_err());
        for operator in [">=", "<=", "<<", ">>", "<", ">"] {
            assert!(check("Provides", &format!("a (= 1), b ({operator} 1)"), false).is_err(), "{operator}");
            assert!(check("Conflicts", &format!("b ({operator} 1)"), false).is_ok(), "{operator}");
        }
    }
}

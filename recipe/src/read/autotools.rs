//! `configure.ac`: the macros that tell what is made and what is needed, as they are written; of a tree that has only
//! `configure`, what that says of itself.
//!
//! Sources: autoconf(1)'s manual, chapters 4 and 5; pkg.m4.

use super::SourceFacts;
use crate::detect::SourceTexts;
use std::collections::BTreeMap;
use twostage_model::project::NeedKind;

/// Calls of one macro that are read, at most, and characters of one call.
const MAX_CALLS: usize = 10_000;
const MAX_CALL: usize = 20_000;

/// Macros that run a program, and the program.
const MACROS: [(&str, &str); 12] = [
    ("LT_INIT", "libtoolize"),
    ("AC_PROG_LIBTOOL", "libtoolize"),
    ("AM_PROG_LIBTOOL", "libtoolize"),
    ("AM_GNU_GETTEXT", "autopoint"),
    ("IT_PROG_INTLTOOL", "intltoolize"),
    ("GTK_DOC_CHECK", "gtkdocize"),
    ("AC_PROG_YACC", "bison"),
    ("AC_PROG_LEX", "flex"),
    ("AM_PROG_LEX", "flex"),
    ("AM_PROG_VALAC", "valac"),
    ("AM_PATH_PYTHON", "python3"),
    ("AM_INIT_AUTOMAKE", "automake"),
];

/// Reads the tree's `configure.ac`, or what it has in its place.
pub(crate) fn read(tree: &dyn SourceTexts, top: &[String]) -> SourceFacts {
    let mut said = SourceFacts::default();
    let source = ["configure.ac", "configure.in"].into_iter().find_map(|path| tree.text(path));
    if let Some(text) = &source {
        let text: String = text.lines().map(|line| without_comment(line).to_string() + "\n").collect();
        if let Some(arguments) = macro_arguments(&text, "AC_INIT").next() {
            said.version = arguments.get(1).map(|version| defined(&text, version)).filter(|version| is_plain(version));
            said.homepage = arguments.get(4).cloned();
        }
        said.need(NeedKind::Command, "autoconf");
        for (name, program) in MACROS {
            if text.contains(name) {
                said.need(NeedKind::Command, program);
            }
        }
        if text.contains("AM_GNU_GETTEXT") || text.contains("IT_PROG_INTLTOOL") {
            said.need(NeedKind::Command, "msgfmt");
        }
        if text.contains("PKG_") {
            said.need(NeedKind::Command, "pkg-config");
        }
        // Macros of the archive that the tree does not bring itself.
        if text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word.starts_with("AX_"))
            && !top.iter().any(|name| name == "m4")
        {
            said.need(NeedKind::Package, "autoconf-archive");
        }
        for arguments in macro_arguments(&text, "PKG_CHECK_MODULES") {
            // (With a fourth argument it says itself what is done without them.)
            if let (Some(modules), None) = (arguments.get(1), arguments.get(3)) {
                let names = modules
                    .split_whitespace()
                    .filter(|word| !word.starts_with(['<', '>', '=']) && !word.starts_with(|c: char| c.is_ascii_digit()));
                names.for_each(|name| said.need(NeedKind::PkgConfig, name));
            }
        }
    }
    let configure = || tree.text("configure").unwrap_or_default();
    if said.version.is_none() {
        let value = |line: &str| line.strip_prefix("PACKAGE_VERSION=").map(|value| value.trim_matches(['\'', '"']).to_string());
        said.version = configure().lines().find_map(value).filter(|version| is_plain(version));
    }
    said
}

/// A version with the words that `m4_define` gives a value.
fn defined(text: &str, version: &str) -> String {
    let values: BTreeMap<String, String> = ["m4_define", "define"]
        .into_iter()
        .flat_map(|name| macro_arguments(text, name))
        .filter_map(|arguments| Some((arguments.first()?.clone(), arguments.get(1)?.clone())))
        .collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut result = String::new();
    let mut rest = version;
    while let Some(first) = rest.chars().next() {
        let end = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        result.push_str(values.get(&rest[..end]).map_or(&rest[..end], String::as_str));
        rest = &rest[end..];
    }
    result
}

fn is_plain(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains(['(', '$', '[', '`', ' '])
}

fn without_comment(line: &str) -> &str {
    let line = line.split_once("dnl ").map_or(line, |(before, _)| before);
    if line.trim_start().starts_with('#') || line.trim() == "dnl" { "" } else { line }
}

/// The arguments of each call of a macro, without the brackets around them.
fn macro_arguments<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = Vec<String>> + 'a {
    text.match_indices(name).take(MAX_CALLS).filter_map(move |(at, _)| {
        let inside = text[at + name.len()..].strip_prefix('(')?;
        let (mut arguments, mut argument, mut brackets, mut parentheses) = (Vec::new(), String::new(), 0usize, 0usize);
        for c in inside.chars().take(MAX_CALL) {
            match c {
                '[' => brackets += 1,
                ']' => brackets = brackets.saturating_sub(1),
                ')' if brackets == 0 && parentheses == 0 => {
                    arguments.push(argument.trim().to_string());
                    return Some(arguments);
                }
                ',' if brackets == 0 && parentheses == 0 => arguments.push(std::mem::take(&mut argument).trim().to_string()),
                c => {
                    match c {
                        '(' => parentheses += 1,
                        ')' => parentheses = parentheses.saturating_sub(1),
                        _ => {}
                    }
                    argument.push(c);
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::Texts;

    #[test]
    fn configure_ac_tells_the_version_and_what_is_needed() {
        let text = "# AC_INIT([no], [9])\nAC_INIT([calc], [2.1], [bugs@example.invalid], [calc], [https://example.invalid/])\nAM_INIT_AUTOMAKE\nLT_INIT\n\
                    dnl PKG_CHECK_MODULES([NO], [no])\nPKG_CHECK_MODULES([GLIB], [glib-2.0 >= 2.50 gio-2.0])\nPKG_CHECK_MODULES(X, x11, [have=yes], [have=no])\nAX_PTHREAD\n";
        let tree = Texts::of(&[("configure.ac", text)]);
        let said = read(&tree, &["configure.ac".to_string()]);
        assert_eq!((said.version.as_deref(), said.homepage.as_deref()), (Some("2.1"), Some("https://example.invalid/")));
        let needs: Vec<String> = said.needs.iter().map(ToString::to_string).collect();
        assert_eq!(
            needs,
            ["pc:gio-2.0", "pc:glib-2.0", "cmd:autoconf", "cmd:automake", "cmd:libtoolize", "cmd:pkg-config", "autoconf-archive"]
        );
    }

    #[test]
    fn a_version_that_is_computed_is_taken_from_configure() {
        let tree = Texts::of(&[
            ("configure.ac", "AC_INIT([x], m4_esyscmd([git describe]))"),
            ("configure", "#! /bin/sh\nPACKAGE_VERSION='3.4'\n"),
        ]);
        assert_eq!(read(&tree, &[]).version.as_deref(), Some("3.4"));
        assert_eq!(read(&Texts::of(&[("configure", "#!/bin/sh\n")]), &[]).version, None);
        let tree = Texts::of(&[("configure.ac", "m4_define([X_MAJOR], 1)\nm4_define([X_MINOR], [8])\nAC_INIT([x], [X_MAJOR.X_MINOR])")]);
        assert_eq!(read(&tree, &[]).version.as_deref(), Some("1.8"));
    }

    #[test]
    fn a_file_that_is_no_autoconf_ends_nowhere_else() {
        for text in ["AC_INIT(", "AC_INIT([x", "AC_INIT(]]],]]])", "PKG_CHECK_MODULES(", "AC_INIT(é, [é", ""] {
            assert_eq!(read(&Texts::of(&[("configure.ac", text)]), &[]).version, None, "{text}");
        }
    }
}

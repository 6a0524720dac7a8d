//! `meson.build`: the calls of `project`, `dependency`, `find_program` and `subdir`, as they are written.
//!
//! Nothing is evaluated. What stands in a branch is taken, whatever its condition is; a need that the distribution does not
//! have is left out later, and meson itself says when it cannot do without. Source of the language:
//! <https://mesonbuild.com/Syntax.html>.

use super::{BuildFiles, SourceFacts};
use crate::detect::SourceTexts;
use std::collections::BTreeMap;
use twostage_model::project::NeedKind;

/// Tokens of a file that are read, at most, and those of one call.
const MAX_TOKENS: usize = 200_000;
const MAX_CALL: usize = 1000;

/// Dependencies that the compiler or the C library has, or that meson finds by other means.
const BUILTIN: [&str; 14] =
    ["", "threads", "dl", "intl", "iconv", "openmp", "mpi", "m", "appleframeworks", "python", "curses", "libgcrypt", "coarray", "netcdf"];
/// What methods of meson's modules run.
const METHODS: [(&str, &str); 10] = [
    ("compile_resources", "glib-compile-resources"),
    ("compile_schemas", "glib-compile-schemas"),
    ("mkenums", "glib-mkenums"),
    ("mkenums_simple", "glib-mkenums"),
    ("genmarshal", "glib-genmarshal"),
    ("gdbus_codegen", "gdbus-codegen"),
    ("generate_gir", "g-ir-scanner"),
    ("generate_vapi", "vapigen"),
    ("gettext", "msgfmt"),
    ("merge_file", "msgfmt"),
];
/// Languages that have a compiler besides gcc and g++.
const LANGUAGES: [(&str, &str); 5] =
    [("vala", "valac"), ("rust", "rustc"), ("fortran", "gfortran"), ("cython", "cython3"), ("nasm", "nasm")];

/// Reads the tree's `meson.build` and those of its folders. `options` are those of the configuration, such as
/// `-Dtests=false`.
pub(crate) fn read(tree: &dyn SourceTexts, options: &[String]) -> SourceFacts {
    let mut said = SourceFacts::default();
    said.need(NeedKind::Command, "meson");
    said.need(NeedKind::Command, "pkg-config");
    let features = Features::of(tree, options);
    let mut files = BuildFiles::of(tree, "meson.build");
    while let Some((folder, text)) = files.next() {
        for call in calls(&tokens(&text)) {
            take(&mut said, tree, &folder, &features, &call);
            if let ("subdir", Some(below)) = (call.name.as_str(), call.text(0)) {
                files.lead_to(&folder, below);
            }
        }
    }
    said
}

fn take(said: &mut SourceFacts, tree: &dyn SourceTexts, folder: &str, features: &Features, call: &Call) {
    match call.name.as_str() {
        "project" if folder.is_empty() => {
            said.version = call.named.get("version").and_then(|value| version(tree, value));
            let licences = call.named.get("license").map(|value| texts(value)).unwrap_or_default();
            said.licence = (!licences.is_empty()).then(|| licences.join(" AND "));
            for language in call.values.iter().skip(1).flat_map(|value| texts(value)) {
                if let Some((_, compiler)) = LANGUAGES.iter().find(|(known, _)| *known == language) {
                    said.need(NeedKind::Command, compiler);
                }
            }
        }
        "dependency" if features.requires(call) => match call.text(0) {
            Some("boost") => said.need(NeedKind::Header, "boost/version.hpp"),
            Some("python3") => said.need(NeedKind::PkgConfig, "python3"),
            Some(name) if !BUILTIN.contains(&name) => said.need(NeedKind::PkgConfig, name),
            _ => {}
        },
        "find_program" if features.requires(call) => {
            let is_here = |name: &str| name.contains('/') || tree.text(&format!("{folder}{name}")).is_some();
            if let Some(name) = call.text(0).filter(|name| !is_here(name)) {
                said.need(NeedKind::Command, name);
            }
        }
        method => {
            if let Some((_, program)) = METHODS.iter().find(|(known, _)| Some(*known) == method.strip_prefix('.')) {
                said.need(NeedKind::Command, program);
            }
        }
    }
}

/// `'1.2'`, `['1.2']`, or `files('VERSION')`: then the first line of that file.
fn version(tree: &dyn SourceTexts, value: &[MesonToken]) -> Option<String> {
    let first = texts(value).into_iter().next()?;
    match value.first() {
        Some(MesonToken::Word(word)) if word == "files" => tree.text(first)?.lines().next().map(|line| line.trim().to_string()),
        Some(MesonToken::Text(_) | MesonToken::Sign('[')) => Some(first.to_string()),
        _ => None,
    }
}

/// What the options say of features: `-Dname=value`, else what `meson.options` says.
struct Features(BTreeMap<String, String>);

impl Features {
    fn of(tree: &dyn SourceTexts, options: &[String]) -> Features {
        let mut values = BTreeMap::new();
        let text = ["meson.options", "meson_options.txt"].into_iter().find_map(|path| tree.text(path)).unwrap_or_default();
        for call in calls(&tokens(&text)).iter().filter(|call| call.name == "option") {
            let value = call.named.get("value").map(|value| value.iter().map(MesonToken::shown).collect::<String>());
            if let Some(name) = call.text(0) {
                values.insert(name.to_string(), value.unwrap_or_else(|| "auto".into()));
            }
        }
        for option in options {
            if let Some((name, value)) = option.strip_prefix("-D").and_then(|option| option.split_once('=')) {
                values.insert(name.to_string(), value.to_string());
            }
        }
        Features(values)
    }

    /// Whether a call's `required` says that it cannot do without. (A feature that is `auto` is switched off in our builds.)
    fn requires(&self, call: &Call) -> bool {
        match call.named.get("required").map(Vec::as_slice) {
            None => true,
            Some([MesonToken::Word(word)]) => word != "false",
            Some([MesonToken::Word(word), MesonToken::Sign('('), MesonToken::Text(name), MesonToken::Sign(')')])
                if word == "get_option" =>
            {
                matches!(self.0.get(name.as_str()).map(String::as_str), Some("enabled" | "true"))
            }
            Some(_) => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum MesonToken {
    Word(String),
    Text(String),
    Sign(char),
}

impl MesonToken {
    fn shown(&self) -> String {
        match self {
            MesonToken::Word(text) | MesonToken::Text(text) => text.clone(),
            MesonToken::Sign(sign) => sign.to_string(),
        }
    }
}

fn texts(tokens: &[MesonToken]) -> Vec<&str> {
    tokens.iter().filter_map(|token| if let MesonToken::Text(text) = token { Some(text.as_str()) } else { None }).collect()
}

fn tokens(text: &str) -> Vec<MesonToken> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if tokens.len() >= MAX_TOKENS {
            break;
        }
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '\'' => {
                let (text, length) = quoted(rest);
                tokens.push(MesonToken::Text(text));
                length
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                tokens.push(MesonToken::Word(rest[..end].to_string()));
                end
            }
            c if c.is_whitespace() => c.len_utf8(),
            c => {
                tokens.push(MesonToken::Sign(c));
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// The text of a string that begins here, and how long it is with its quotes.
fn quoted(rest: &str) -> (String, usize) {
    if let Some(inside) = rest.strip_prefix("'''") {
        let end = inside.find("'''");
        return (inside[..end.unwrap_or(inside.len())].to_string(), end.map_or(rest.len(), |end| end + 6));
    }
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return (text, at + 1),
            '\\' => text.extend(chars.next().map(|(_, c)| c)),
            c => text.push(c),
        }
    }
    (text, rest.len())
}

/// A call of a function, or of a method: then its name begins with a dot.
struct Call {
    name: String,
    values: Vec<Vec<MesonToken>>,
    named: BTreeMap<String, Vec<MesonToken>>,
}

impl Call {
    /// A value that is one string.
    fn text(&self, number: usize) -> Option<&str> {
        match self.values.get(number).map(Vec::as_slice) {
            Some([MesonToken::Text(text)]) => Some(text),
            _ => None,
        }
    }
}

fn calls(tokens: &[MesonToken]) -> Vec<Call> {
    let mut calls = Vec::new();
    for (at, window) in tokens.windows(2).enumerate() {
        let [MesonToken::Word(name), MesonToken::Sign('(')] = window else { continue };
        let is_method = at > 0 && tokens.get(at - 1) == Some(&MesonToken::Sign('.'));
        let mut call = Call { name: if is_method { format!(".{name}") } else { name.clone() }, values: Vec::new(), named: BTreeMap::new() };
        let (mut depth, mut value, mut key) = (0usize, Vec::new(), None);
        for token in tokens[at + 1..].iter().take(MAX_CALL) {
            match token {
                MesonToken::Sign('(' | '[' | '{') => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                MesonToken::Sign(')' | ']' | '}') => depth -= 1,
                MesonToken::Sign(':') if depth == 1 && matches!(value.as_slice(), [MesonToken::Word(_)]) => {
                    key = value.pop().map(|token| token.shown());
                    continue;
                }
                _ => {}
            }
            if depth == 0 || (depth == 1 && *token == MesonToken::Sign(',')) {
                let value = std::mem::take(&mut value);
                match key.take() {
                    Some(key) => drop(call.named.insert(key, value)),
                    None if value.is_empty() => {}
                    None => call.values.push(value),
                }
                if depth == 0 {
                    break;
                }
                continue;
            }
            value.push(token.clone());
        }
        calls.push(call);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::Texts;

    fn needs(said: &SourceFacts) -> Vec<String> {
        said.needs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_project_tells_its_version_licence_and_needs() {
        let tree = Texts::of(&[
            (
                "meson.build",
                "# project('no', version: '9')\nproject('calc', ['c', 'vala'],\n  version : '1.2.3', license: ['MIT', 'LGPL-2.1-or-later'],\n  default_options: ['warning_level=2'])\n\
                 glib = dependency('glib-2.0', version: '>= 2.58')\nm = meson.get_compiler('c').find_library('m', required : false)\n\
                 x = dependency('x11', required: false)\nt = dependency('threads')\nsubdir('src')\nprog = find_program('bison')\n\
                 script = find_program('gen.py')\n",
            ),
            ("gen.py", "#!/usr/bin/python3\n"),
            (
                "src/meson.build",
                "gnome = import('gnome')\ngnome.compile_resources('r', 'r.xml')\ndependency('it\\'s')\ndep = dependency(name)\n",
            ),
        ]);
        let said = read(&tree, &[]);
        assert_eq!(said.version.as_deref(), Some("1.2.3"));
        assert_eq!(said.licence.as_deref(), Some("MIT AND LGPL-2.1-or-later"));
        assert_eq!(needs(&said), ["pc:glib-2.0", "cmd:bison", "cmd:glib-compile-resources", "cmd:meson", "cmd:pkg-config", "cmd:valac"]);
    }

    #[test]
    fn a_feature_needs_something_only_where_it_is_switched_on() {
        let build = "project('x', 'c', version: files('VERSION'))\ndependency('a', required: get_option('a'))\ndependency('b', required: get_option('b'))\n\
                     dependency('c', required: get_option('c'))\n";
        let options =
            "option('a', type: 'feature', value: 'auto')\noption('b', type: 'feature')\noption('c', type: 'feature', value : 'enabled')\n";
        let tree = Texts::of(&[("meson.build", build), ("meson.options", options), ("VERSION", "0.7\n")]);
        let said = |options: &[&str]| read(&tree, &options.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(said(&[]).version.as_deref(), Some("0.7"));
        assert_eq!(needs(&said(&[]))[..1], ["pc:c"]);
        assert_eq!(needs(&said(&["-Da=enabled", "-Dc=disabled"]))[..1], ["pc:a"]);
    }

    #[test]
    fn a_file_that_is_no_meson_ends_nowhere_else() {
        for text in ["project(", "project('x'", "'''", "'\\", "))))", "project('x', version: )", "dependency([[[", "é('é', é: 'é')", "#"]
        {
            let tree = Texts::of(&[("meson.build", text)]);
            assert_eq!(read(&tree, &[]).version, None, "{text}");
        }
    }

    #[test]
    fn folders_that_name_each_other_are_read_once() {
        let tree = Texts::of(&[
            ("meson.build", "subdir('a')"),
            ("a/meson.build", "subdir('../a')\nsubdir('b')"),
            ("a/b/meson.build", "dependency('z')"),
        ]);
        assert_eq!(needs(&read(&tree, &[]))[..1], ["pc:z"]);
    }
}

//! `CMakeLists.txt`: the commands `project`, `set`, `find_package`, `pkg_check_modules` and `add_subdirectory`, as they are
//! written.
//!
//! Nothing is evaluated but variables that are set to plain words before. Source of the language: cmake-language(7).

use super::{BuildFiles, SourceFacts};
use crate::detect::SourceTexts;
use std::collections::BTreeMap;
use twostage_model::project::NeedKind;

/// Commands of a file that are read, at most.
const MAX_COMMANDS: usize = 100_000;
/// Bytes of a variable's value. What is longer is no version and no name.
const MAX_VALUE: usize = 1000;

/// Packages that CMake finds by modules of its own, by the names that pkg-config has for them. A name that is empty: the
/// compiler or CMake has it.
const MODULES: [(&str, &str); 26] = [
    ("ALSA", "alsa"),
    ("BZip2", "bzip2"),
    ("CURL", "libcurl"),
    ("Doxygen", ""),
    ("EXPAT", "expat"),
    ("Fontconfig", "fontconfig"),
    ("Freetype", "freetype2"),
    ("GTest", "gtest"),
    ("Git", ""),
    ("GnuTLS", "gnutls"),
    ("ICU", "icu-uc"),
    ("JPEG", "libjpeg"),
    ("LibLZMA", "liblzma"),
    ("LibXml2", "libxml-2.0"),
    ("OpenMP", ""),
    ("OpenSSL", "openssl"),
    ("PNG", "libpng"),
    ("Perl", ""),
    ("PkgConfig", ""),
    ("Python", ""),
    ("Python3", ""),
    ("SQLite3", "sqlite3"),
    ("TIFF", "libtiff-4"),
    ("Threads", ""),
    ("X11", "x11"),
    ("ZLIB", "zlib"),
];
/// Words of `pkg_check_modules` that are no modules.
const WORDS: [&str; 7] = ["REQUIRED", "QUIET", "IMPORTED_TARGET", "GLOBAL", "NO_CMAKE_PATH", "NO_CMAKE_ENVIRONMENT_PATH", "STATIC_TARGET"];

/// Reads the tree's `CMakeLists.txt` and those of its folders.
pub(crate) fn read(tree: &dyn SourceTexts) -> SourceFacts {
    let mut said = SourceFacts::default();
    said.need(NeedKind::Command, "cmake");
    let (mut variables, mut project_name) = (BTreeMap::new(), String::new());
    let mut files = BuildFiles::of(tree, "CMakeLists.txt");
    while let Some((folder, text)) = files.next() {
        for (name, arguments) in commands(&text) {
            let arguments: Vec<String> = arguments.iter().map(|argument| expanded(argument, &variables)).collect();
            match (name.as_str(), arguments.as_slice()) {
                ("set", [variable, value, rest @ ..]) if rest.first().is_none_or(|word| word == "CACHE") && value.len() <= MAX_VALUE => {
                    variables.insert(variable.clone(), value.clone());
                }
                ("project", [name, rest @ ..]) if folder.is_empty() => {
                    project_name.clone_from(name);
                    project(&mut said, rest, &mut variables);
                }
                ("find_package", [name, rest @ ..]) if rest.iter().any(|word| word == "REQUIRED") => package(&mut said, name),
                ("pkg_check_modules" | "pkg_search_module", [_, rest @ ..]) => {
                    said.need(NeedKind::Command, "pkg-config");
                    if rest.iter().any(|word| word == "REQUIRED") {
                        let modules = rest.iter().filter(|word| !WORDS.contains(&word.as_str()));
                        modules.for_each(|module| said.need(NeedKind::PkgConfig, module.split(['<', '>', '=']).next().unwrap_or_default()));
                    }
                }
                ("add_subdirectory", [below, ..]) => files.lead_to(&folder, below),
                _ => {}
            }
        }
    }
    // Before CMake 3.0 `project` had no version: projects had variables of these names, and many have them still.
    if said.version.is_none() {
        let name = project_name.to_uppercase();
        let names = ["PROJECT_VERSION".to_string(), format!("{name}_VERSION"), format!("{name}_VERSION_STRING"), "VERSION".to_string()];
        said.version = names.iter().find_map(|name| variables.get(name).cloned());
    }
    said
}

fn project(said: &mut SourceFacts, rest: &[String], variables: &mut BTreeMap<String, String>) {
    let after = |word: &str| rest.iter().skip_while(|known| *known != word).nth(1).cloned();
    said.version = after("VERSION").filter(|version| !version.is_empty());
    said.summary = after("DESCRIPTION");
    said.homepage = after("HOMEPAGE_URL");
    if let Some(version) = &said.version {
        variables.insert("PROJECT_VERSION".into(), version.clone());
    }
}

fn package(said: &mut SourceFacts, name: &str) {
    match MODULES.iter().find(|(module, _)| *module == name) {
        Some((_, "")) => {}
        Some((_, module)) => said.need(NeedKind::PkgConfig, module),
        None => said.need(NeedKind::CmakePackage, name),
    }
}

/// An argument with its `${VARIABLE}`s, where they are known. One that is not known leaves nothing, as in CMake.
fn expanded(argument: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut rest = argument;
    while let Some((before, inside)) = rest.split_once("${") {
        text.push_str(before);
        let (name, behind) = inside.split_once('}').unwrap_or((inside, ""));
        text.push_str(variables.get(name).map_or("", String::as_str));
        rest = behind;
        if text.len() > MAX_VALUE {
            break;
        }
    }
    text + rest
}

/// The commands of a file, their names in lower case, with their arguments.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    let text = without_comments(text);
    let mut rest = text.as_str();
    while let Some((before, inside)) = rest.split_once('(') {
        let name = before.trim_end().rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
        let (arguments, behind) = arguments(inside);
        commands.push((name.to_ascii_lowercase(), arguments));
        rest = behind;
        if commands.len() >= MAX_COMMANDS {
            break;
        }
    }
    commands
}

fn without_comments(text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let mut in_string = false;
        let end = line.char_indices().find(|(_, c)| {
            in_string ^= *c == '"';
            *c == '#' && !in_string
        });
        result.push_str(&line[..end.map_or(line.len(), |(at, _)| at)]);
        result.push('\n');
    }
    result
}

/// The arguments up to the parenthesis that ends them, and what is behind it.
fn arguments(text: &str) -> (Vec<String>, &str) {
    let (mut arguments, mut word, mut depth, mut in_string) = (Vec::new(), String::new(), 0usize, false);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => word.extend(chars.next().map(|(_, c)| c)),
            '"' => {
                in_string = !in_string;
                if !in_string {
                    arguments.push(std::mem::take(&mut word));
                }
            }
            c if in_string => word.push(c),
            ')' if depth == 0 => {
                arguments.extend(Some(word).filter(|word| !word.is_empty()));
                return (arguments, &text[at + 1..]);
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c.is_whitespace() || c == ';' => arguments.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            c => word.push(c),
        }
    }
    (arguments, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::Texts;

    #[test]
    fn a_project_tells_its_version_summary_and_needs() {
        let tree = Texts::of(&[
            (
                "CMakeLists.txt",
                "cmake_minimum_required(VERSION 3.10) # project(no VERSION 9)\nset(MAJOR 1)\nset(MINOR 4)\n\
                 PROJECT(calc VERSION ${MAJOR}.${MINOR}.0\n  DESCRIPTION \"A (small) calculator # really\" HOMEPAGE_URL \"https://example.invalid/\" LANGUAGES C)\n\
                 find_package(ZLIB REQUIRED)\nfind_package(Threads REQUIRED)\nfind_package(Qt5Widgets 5.12 REQUIRED)\nfind_package(Maybe)\n\
                 find_package(PkgConfig REQUIRED)\npkg_check_modules(GLIB REQUIRED IMPORTED_TARGET glib-2.0>=2.50 gio-2.0)\npkg_check_modules(OPT opt)\n\
                 add_subdirectory(src)\n",
            ),
            ("src/CMakeLists.txt", "find_package(OpenSSL 1.1 REQUIRED)\nproject(inner VERSION 7)\n"),
        ]);
        let said = read(&tree);
        assert_eq!((said.version.as_deref(), said.summary.as_deref()), (Some("1.4.0"), Some("A (small) calculator # really")));
        assert_eq!(said.homepage.as_deref(), Some("https://example.invalid/"));
        let needs: Vec<String> = said.needs.iter().map(ToString::to_string).collect();
        assert_eq!(needs, ["pc:gio-2.0", "pc:glib-2.0", "pc:openssl", "pc:zlib", "cmd:cmake", "cmd:pkg-config", "cmake:Qt5Widgets"]);
    }

    #[test]
    fn a_version_that_is_only_in_variables_is_found_by_its_usual_names() {
        for (text, expected) in [
            ("project(cJSON C)\nset(A 1)\nset(B 7)\nset(PROJECT_VERSION \"${A}.${B}\")", Some("1.7")),
            ("project (yaml C)\nset (YAML_VERSION_STRING \"0.2.5\" CACHE STRING \"x\")", Some("0.2.5")),
            ("project(x)\nset(LIST 1 2 3)", None),
        ] {
            assert_eq!(read(&Texts::of(&[("CMakeLists.txt", text)])).version.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_no_cmake_ends_nowhere_else() {
        for text in ["project(", "project(x VERSION", "\"", "((((", "))))", "project(x VERSION ${", "set(a ${a}${a})", "é(é \"é", "\\"] {
            assert_eq!(read(&Texts::of(&[("CMakeLists.txt", text)])).version, None, "{text}");
        }
    }
}

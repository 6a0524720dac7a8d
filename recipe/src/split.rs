//! Each installed file into one part of its component, by a rule that has a name.

use crate::rules::{Goes, RuleContent, SPLIT, SplitRule};
use std::collections::{BTreeMap, BTreeSet};
use twostage_image::rules::matches;

/// One file, link or empty folder that a build system installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// Its path, without a leading slash.
    pub path: String,
    /// What it is.
    pub kind: InstalledKind,
    /// Bytes of its content.
    pub size: u64,
}

/// What an installed name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstalledKind {
    /// A regular file.
    File(FileContent),
    /// A symbolic link to there.
    Link(String),
    /// A folder without anything in it.
    EmptyFolder,
}

/// What is in a file, as far as its place depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// An ELF file, with the SONAME that it has, if it is a library.
    Elf(Option<String>),
    /// A script, with the program that runs it, as its first line names it.
    Script(String),
    /// A file of pkg-config, with the names in its `Requires` and `Requires.private`.
    PkgConfig(BTreeSet<String>),
    /// Anything else.
    Other,
}

/// What a file is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComponentPart {
    /// A shared library, by its SONAME, and what belongs to it.
    Library(String),
    /// What others are built with.
    Development,
    /// Programs, and what they need to run.
    Program,
    /// What does not depend on the architecture.
    Data,
    /// What people read.
    Documentation,
    /// What gives libraries to interpreted languages, by its name: `Foo-1.0`.
    Typelib(String),
    /// Tests that are run where the component is installed.
    Tests,
}

/// A file and the part that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its path, without a leading slash.
    pub path: String,
    /// Nothing, where it is left out.
    pub part: Option<ComponentPart>,
    /// The rule that says so.
    pub rule: &'static str,
}

/// A file that no rule knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced(pub String);

/// What a text is: by its name, and its first bytes. An ELF file is no text; its reader is in `linking`.
pub fn content_of_text(path: &str, text: &str) -> FileContent {
    if path.ends_with(".pc") && path.contains("/pkgconfig/") {
        return FileContent::PkgConfig(required_modules(text));
    }
    match text.strip_prefix("#!").and_then(|rest| rest.lines().next()) {
        Some(line) => FileContent::Script(interpreter(line)),
        None => FileContent::Other,
    }
}

/// `/usr/bin/python3` of ` /usr/bin/python3 -E`, `python3` of ` /usr/bin/env python3`.
fn interpreter(line: &str) -> String {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("/usr/bin/env" | "/bin/env") => words.find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or("env").to_string(),
        program => program.unwrap_or_default().to_string(),
    }
}

/// The names in `Requires:` and `Requires.private:` (pc(5)), without those that are variables.
fn required_modules(text: &str) -> BTreeSet<String> {
    let lists =
        text.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| matches!(key.trim(), "Requires" | "Requires.private"));
    let words = lists.flat_map(|(_, list)| list.split(|c: char| c.is_whitespace() || c == ','));
    let is_name = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
    };
    words.filter(is_name).map(String::from).collect()
}

/// Puts each file into its part. `tags` has what meson says of files, by absolute path.
///
/// # Errors
/// The files that no rule knows.
pub fn split(files: &[InstalledFile], tags: &BTreeMap<String, String>) -> Result<Vec<Placed>, Vec<Unplaced>> {
    let libraries = Libraries::of(files);
    let (mut placed, mut unplaced) = (Vec::new(), Vec::new());
    for file in files {
        let key = without_triplet(&file.path);
        let tag = tags.get(&format!("/{}", file.path)).map(String::as_str);
        let fits = |rule: &&SplitRule| {
            rule.tag.is_none_or(|wanted| tag == Some(wanted))
                && rule.paths.iter().any(|pattern| matches(pattern, &key))
                && libraries.fit(rule.content, file, &key)
        };
        match SPLIT.iter().find(fits) {
            Some(rule) => placed.push(Placed { path: file.path.clone(), part: libraries.part(rule.goes, file, &key), rule: rule.name }),
            None => unplaced.push(Unplaced(file.path.clone())),
        }
    }
    if unplaced.is_empty() { Ok(placed) } else { Err(unplaced) }
}

/// A path without the folder of an architecture: `usr/lib/libx.so` of `usr/lib/x86_64-linux-gnu/libx.so`.
pub fn without_triplet(path: &str) -> String {
    for folder in ["usr/lib/", "lib/", "usr/include/"] {
        if let Some((first, rest)) = path.strip_prefix(folder).and_then(|rest| rest.split_once('/'))
            && first.split('-').count() >= 3
            && first.contains("-linux-")
        {
            return format!("{folder}{rest}");
        }
    }
    path.to_string()
}

/// The shared libraries in the folders of the linker's: each name that leads to one, with its SONAME.
struct Libraries(BTreeMap<String, String>);

impl Libraries {
    fn of(files: &[InstalledFile]) -> Libraries {
        let mut names = BTreeMap::new();
        for file in files {
            if let InstalledKind::File(FileContent::Elf(Some(soname))) = &file.kind
                && is_in_linkers_folder(&file.path)
                && is_versioned(soname)
            {
                names.insert(file.path.clone(), soname.clone());
            }
        }
        // Links to links are followed as far as they lead, once each.
        let links: Vec<(&str, String)> = files
            .iter()
            .filter_map(|file| match &file.kind {
                InstalledKind::Link(target) if is_in_linkers_folder(&file.path) => Some((file.path.as_str(), beside(&file.path, target)?)),
                _ => None,
            })
            .collect();
        for _ in 0..3 {
            for (path, target) in &links {
                if let Some(soname) = names.get(target).cloned() {
                    names.entry(path.to_string()).or_insert(soname);
                }
            }
        }
        Libraries(names)
    }

    fn fit(&self, content: RuleContent, file: &InstalledFile, key: &str) -> bool {
        let is_link = key.ends_with(".so");
        match content {
            RuleContent::Any => true,
            RuleContent::SharedLibrary => self.0.get(&file.path).is_some_and(|soname| !is_link || key.ends_with(&format!("/{soname}"))),
            RuleContent::LibraryLink => is_link && self.0.contains_key(&file.path),
            RuleContent::ConfigScript => matches!(file.kind, InstalledKind::File(FileContent::Script(_))),
        }
    }

    fn part(&self, goes: Goes, file: &InstalledFile, key: &str) -> Option<ComponentPart> {
        Some(match goes {
            Goes::LeftOut => return None,
            Goes::Library => ComponentPart::Library(self.0.get(&file.path)?.clone()),
            Goes::BesideLibrary => self.first().map_or(ComponentPart::Program, ComponentPart::Library),
            Goes::Development => ComponentPart::Development,
            Goes::Program => ComponentPart::Program,
            Goes::Data => ComponentPart::Data,
            Goes::Documentation => ComponentPart::Documentation,
            Goes::Tests => ComponentPart::Tests,
            Goes::Typelib => match key.rsplit('/').next().and_then(|name| name.strip_suffix(".typelib")) {
                Some(name) => ComponentPart::Typelib(name.to_string()),
                None => ComponentPart::Development,
            },
        })
    }

    /// The library that private files lie beside: the one with the shortest name, which as a rule the others are named after.
    fn first(&self) -> Option<String> {
        self.0.values().min_by_key(|soname| (soname.len(), soname.as_str())).cloned()
    }
}

/// Where the dynamic linker looks without being told.
fn is_in_linkers_folder(path: &str) -> bool {
    let key = without_triplet(path);
    key.strip_prefix("usr/lib/")
        .or_else(|| key.strip_prefix("lib/"))
        .or_else(|| key.strip_prefix("usr/lib64/"))
        .is_some_and(|name| !name.contains('/'))
}

/// A SONAME that tells one interface from the next: `libx.so.1`, `libx-1.2.so`.
fn is_versioned(soname: &str) -> bool {
    match soname.split_once(".so") {
        Some((_, version)) if version.starts_with('.') => version.len() > 1,
        Some((stem, "")) => stem.rsplit_once('-').is_some_and(|(_, end)| end.starts_with(|c: char| c.is_ascii_digit())),
        _ => false,
    }
}

/// Where a link leads that names something in its own folder.
fn beside(path: &str, target: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    (!target.contains('/')).then(|| format!("{folder}/{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "usr/lib/x86_64-linux-gnu";

    fn file(path: &str, content: FileContent) -> InstalledFile {
        InstalledFile { path: path.into(), kind: InstalledKind::File(content), size: 1 }
    }

    fn elf(path: &str, soname: Option<&str>) -> InstalledFile {
        file(path, FileContent::Elf(soname.map(String::from)))
    }

    fn link(path: &str, target: &str) -> InstalledFile {
        InstalledFile { path: path.into(), kind: InstalledKind::Link(target.into()), size: 0 }
    }

    fn parts(files: &[InstalledFile]) -> Vec<String> {
        let placed = split(files, &BTreeMap::new()).expect("each has a place");
        placed.iter().map(|file| format!("{} {:?} {}", file.path.rsplit('/').next().expect("a name"), file.part, file.rule)).collect()
    }

    #[test]
    fn a_library_its_names_and_its_plugins_go_where_policies_say() {
        let files = [
            elf(&format!("{LIB}/libx.so.1.2"), Some("libx.so.1")),
            link(&format!("{LIB}/libx.so.1"), "libx.so.1.2"),
            link(&format!("{LIB}/libx.so"), "libx.so.1"),
            file(&format!("{LIB}/libx.a"), FileContent::Other),
            file(&format!("{LIB}/libx.la"), FileContent::Other),
            elf(&format!("{LIB}/x/plugin.so"), Some("plugin.so")),
            file("usr/include/x.h", FileContent::Other),
            elf("usr/bin/x", None),
            file("usr/share/locale/de/LC_MESSAGES/x.mo", FileContent::Other),
            file("usr/share/man/man3/x.3", FileContent::Other),
            file("usr/share/man/man1/x.1", FileContent::Other),
            file(&format!("{LIB}/girepository-1.0/X-1.0.typelib"), FileContent::Other),
        ];
        assert_eq!(
            parts(&files),
            [
                "libx.so.1.2 Some(Library(\"libx.so.1\")) shared-library",
                "libx.so.1 Some(Library(\"libx.so.1\")) shared-library",
                "libx.so Some(Development) library-link",
                "libx.a Some(Development) static-library",
                "libx.la None libtool-archive",
                "plugin.so Some(Library(\"libx.so.1\")) beside-the-library",
                "x.h Some(Development) development-path",
                "x Some(Program) program-path",
                "x.mo Some(Data) data-path",
                "x.3 Some(Development) development-path",
                "x.1 Some(Program) program-path",
                "X-1.0.typelib Some(Typelib(\"X-1.0\")) typelib-path",
            ]
        );
    }

    #[test]
    fn a_library_that_no_linker_finds_or_that_has_no_version_is_private() {
        let files = [
            elf(&format!("{LIB}/app/libprivate.so.1"), Some("libprivate.so.1")),
            elf(&format!("{LIB}/libplain.so"), Some("libplain.so")),
            elf("usr/bin/app", None),
        ];
        assert_eq!(
            parts(&files),
            [
                "libprivate.so.1 Some(Program) beside-the-library",
                "libplain.so Some(Program) beside-the-library",
                "app Some(Program) program-path"
            ]
        );
        // A library whose release is in its name is one with a version.
        let released = [elf(&format!("{LIB}/libx-1.2.so"), Some("libx-1.2.so")), link(&format!("{LIB}/libx.so"), "libx-1.2.so")];
        assert_eq!(parts(&released)[0], "libx-1.2.so Some(Library(\"libx-1.2.so\")) shared-library");
        assert_eq!(parts(&released)[1], "libx.so Some(Development) library-link");
    }

    #[test]
    fn what_meson_says_of_a_file_counts_before_its_path() {
        let files = [file("usr/share/x/test.dat", FileContent::Other), file("usr/share/x/x.dat", FileContent::Other)];
        let tags = BTreeMap::from([("/usr/share/x/test.dat".to_string(), "tests".to_string())]);
        let placed = split(&files, &tags).expect("both have a place");
        assert_eq!((placed[0].part.clone(), placed[0].rule), (Some(ComponentPart::Tests), "meson-tests"));
        assert_eq!((placed[1].part.clone(), placed[1].rule), (Some(ComponentPart::Data), "data-path"));
    }

    #[test]
    fn files_that_no_rule_knows_are_named() {
        let files = [file("usr/local/bin/x", FileContent::Other), file("opt/x/x", FileContent::Other), elf("usr/bin/y", None)];
        assert_eq!(split(&files, &BTreeMap::new()), Err(vec![Unplaced("usr/local/bin/x".into()), Unplaced("opt/x/x".into())]));
    }

    #[test]
    fn a_text_tells_its_interpreter_or_the_modules_that_it_requires() {
        for (text, expected) in [
            ("#!/usr/bin/python3 -E\n", "/usr/bin/python3"),
            ("#! /bin/sh\n", "/bin/sh"),
            ("#!/usr/bin/env -S FOO=1 perl -w\n", "perl"),
            ("#!\n", ""),
        ] {
            assert_eq!(content_of_text("usr/bin/x", text), FileContent::Script(expected.into()), "{text:?}");
        }
        let text = "prefix=/usr\nRequires: glib-2.0 >= 2.50, gio-2.0\nRequires.private: zlib ${other}\nLibs: -lx\n";
        let modules = ["gio-2.0", "glib-2.0", "zlib"].map(String::from).into();
        assert_eq!(content_of_text(&format!("{LIB}/pkgconfig/x.pc"), text), FileContent::PkgConfig(modules));
        assert_eq!(content_of_text("usr/share/x", "text"), FileContent::Other);
    }
}

//! What a source tree is built with, and what its build system says of it.

use crate::read::{SourceFacts, autotools, cmake, meson};
use std::collections::BTreeSet;
use twostage_model::project::{BuildNeed, BuildSystem, Generated, NeedKind, is_upstream_version};
use twostage_model::{Class, Error, Result};

/// The files of a source tree.
pub trait SourceTexts {
    /// The text of a file, by its path in the tree; nothing where there is no such file, or it is no text.
    fn text(&self, path: &str) -> Option<String>;
    /// The names of what is at the tree's top.
    fn top(&self) -> Vec<String>;
}

/// What was found out of a tree, with what the project file says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// What configures, builds and installs it.
    pub system: BuildSystem,
    /// Its version.
    pub version: String,
    /// One line about it.
    pub summary: Option<String>,
    /// The licence, as the build system says it: as a rule an SPDX expression.
    pub licence: Option<String>,
    /// Where it is at home.
    pub homepage: Option<String>,
    /// The files at its top that have the licence's text.
    pub licence_files: Vec<String>,
    /// What the build system asks for. What the distribution does not have is left out.
    pub wanted: BTreeSet<BuildNeed>,
    /// What the project file asks for.
    pub required: BTreeSet<BuildNeed>,
}

/// Files that have the text of a licence.
const LICENCES: [&str; 5] = ["COPYING", "LICENSE", "LICENCE", "COPYRIGHT", "NOTICE"];
/// Files that a tree has that is built with `make` alone.
const MAKEFILES: [&str; 3] = ["GNUmakefile", "makefile", "Makefile"];

/// Finds out how a tree is built. `name` is the component's, for messages.
///
/// # Errors
/// Class `Project`: no build system that is known, or none that says a version; the hint has the line to write.
pub fn detect(name: &str, tree: &dyn SourceTexts, recipe: &Generated) -> Result<Detected> {
    let top = tree.top();
    let system = recipe.system.or_else(|| BuildSystem::ALL.into_iter().find(|system| has(*system, &top))).ok_or_else(|| {
        let files = "meson.build, CMakeLists.txt, configure.ac, configure or Makefile";
        Error::new(Class::Project, format!("component `{name}` has no build system that a recipe knows"))
            .because(format!("at its top there is none of {files}"))
            .hint(
                "name the folder that has one as its `source`, give it packaging, or say how it is built with `dockerfile` and `packages`",
            )
    })?;
    if !has(system, &top) {
        let word = system.word();
        return Err(Error::new(
            Class::Project,
            format!("component `{name}` is not built with {word}: its tree has none of {word}'s files"),
        )
        .hint("write recipe = \"auto\", and what is there is taken"));
    }
    let said = match system {
        BuildSystem::Meson => meson::read(tree, &recipe.options),
        BuildSystem::Cmake => cmake::read(tree),
        BuildSystem::Autotools => autotools::read(tree, &top),
        BuildSystem::Make => SourceFacts::default(),
    };
    let version = match (&recipe.version, &said.version) {
        (Some(version), _) => version.clone(),
        (None, Some(version)) => upstream_version(version).ok_or_else(|| {
            let what = format!("component `{name}`: its build system says the version {version:?}, which no package can have");
            Error::new(Class::Project, what).hint("say it in the project file, such as version = \"1.0\"")
        })?,
        (None, None) => {
            return Err(Error::new(Class::Project, format!("component `{name}`: its build system ({}) says no version", system.word()))
                .hint("say it in the project file, such as version = \"1.0\""));
        }
    };
    let mut licence_files: Vec<String> = top.into_iter().filter(|name| is_licence(name)).collect();
    licence_files.sort();
    let (mut wanted, mut required) = (said.needs, BTreeSet::new());
    // What the build system itself is must be there.
    required.extend(wanted.iter().filter(|need| need.kind == NeedKind::Command && need.name == system.word()).cloned());
    required.extend(recipe.build.iter().cloned());
    wanted.retain(|need| !required.contains(need));
    let line = |text: String| text.lines().next().map(|line| line.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
    Ok(Detected {
        system,
        version,
        summary: said.summary.and_then(line),
        licence: said.licence.and_then(line),
        homepage: said.homepage.filter(|url| url.starts_with("https://") || url.starts_with("http://")).and_then(line),
        licence_files,
        wanted,
        required,
    })
}

fn has(system: BuildSystem, top: &[String]) -> bool {
    let has = |name: &str| top.iter().any(|known| known == name);
    match system {
        BuildSystem::Meson => has("meson.build"),
        BuildSystem::Cmake => has("CMakeLists.txt"),
        BuildSystem::Autotools => ["configure", "configure.ac", "configure.in"].into_iter().any(has),
        BuildSystem::Make => MAKEFILES.into_iter().any(has),
    }
}

fn is_licence(name: &str) -> bool {
    let (stem, _) = name.split_once(['.', '-']).unwrap_or((name, ""));
    LICENCES.contains(&stem.to_ascii_uppercase().as_str())
}

/// A version as every packaging takes it: `v1.2` is 1.2, and `1.0-rc1` sorts below 1.0.
fn upstream_version(said: &str) -> Option<String> {
    let said = said.trim();
    let said = said.strip_prefix('v').unwrap_or(said);
    let version: String = said.chars().map(|c| if "-_".contains(c) { '~' } else { c }).collect();
    is_upstream_version(&version).then_some(version)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A tree in memory.
    pub(crate) struct Texts(BTreeMap<String, String>);

    impl Texts {
        pub(crate) fn of(files: &[(&str, &str)]) -> Texts {
            Texts(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect())
        }
    }

    impl SourceTexts for Texts {
        fn text(&self, path: &str) -> Option<String> {
            self.0.get(path).cloned()
        }

        fn top(&self) -> Vec<String> {
            let tops: BTreeSet<&str> = self.0.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
            tops.into_iter().map(String::from).collect()
        }
    }

    fn recipe(system: Option<BuildSystem>, version: Option<&str>) -> Generated {
        Generated { line: 1, system, version: version.map(String::from), options: Vec::new(), build: Vec::new() }
    }

    #[test]
    fn the_build_system_is_the_one_that_the_tree_has() {
        for (files, expected) in [
            (&[("meson.build", "project('x', 'c', version: '1')"), ("Makefile", "")][..], BuildSystem::Meson),
            (&[("CMakeLists.txt", "project(x VERSION 1)"), ("Makefile", "")], BuildSystem::Cmake),
            (&[("configure.ac", "AC_INIT([x], [1])"), ("Makefile.am", "")], BuildSystem::Autotools),
        ] {
            assert_eq!(detect("x", &Texts::of(files), &recipe(None, None)).expect("it has one").system, expected);
        }
        let makefile = Texts::of(&[("Makefile", "all:\n")]);
        let error = detect("x", &makefile, &recipe(None, None)).expect_err("no version");
        assert_eq!(error.to_string(), "component `x`: its build system (make) says no version");
        assert_eq!(detect("x", &makefile, &recipe(None, Some("1.0"))).expect("said").version, "1.0");
        let error = detect("x", &makefile, &recipe(Some(BuildSystem::Meson), None)).expect_err("no meson");
        assert_eq!(error.to_string(), "component `x` is not built with meson: its tree has none of meson's files");
        let error = detect("x", &Texts::of(&[("src/meson.build", "")]), &recipe(None, None)).expect_err("none");
        assert_eq!(error.to_string(), "component `x` has no build system that a recipe knows");
    }

    #[test]
    fn a_version_is_one_that_every_packaging_takes() {
        for (said, expected) in [
            ("1.2.3", Some("1.2.3")),
            ("v1.2", Some("1.2")),
            ("1.0-rc1", Some("1.0~rc1")),
            ("2_0", Some("2~0")),
            ("git", None),
            ("1:2", None),
            ("", None),
            ("1 2", None),
        ] {
            assert_eq!(upstream_version(said).as_deref(), expected, "{said}");
        }
    }

    /// (Without bounds it does not end.)
    #[test]
    fn files_that_are_made_to_be_read_for_ever_are_read_to_their_bounds() {
        let many = |text: &str| text.repeat((2 << 20) / text.len());
        for (path, text) in [
            ("meson.build", many("dependency(")),
            ("meson.build", many("[")),
            ("CMakeLists.txt", many("set(a ${a}${a}b)")),
            ("CMakeLists.txt", many("f()")),
            ("CMakeLists.txt", "\"".to_string() + &many("#")),
            ("configure.ac", many("AC_INIT(")),
            ("configure.ac", many("m4_define([a],[b])")),
        ] {
            let shown: String = text.chars().take(20).collect();
            let result = detect("x", &Texts::of(&[(path, &text)]), &recipe(None, None));
            assert!(result.is_err(), "{path} {shown}");
        }
    }

    #[test]
    fn the_licence_is_where_people_look_for_it() {
        let files = [
            ("meson.build", "project('x', 'c', version: '1', license: 'MIT')"),
            ("COPYING", ""),
            ("LICENSE.md", ""),
            ("licence-gpl", ""),
            ("copyist.c", ""),
        ];
        let detected = detect("x", &Texts::of(&files), &recipe(None, None)).expect("it has all");
        assert_eq!(detected.licence_files, ["COPYING", "LICENSE.md", "licence-gpl"]);
        assert_eq!(detected.licence.as_deref(), Some("MIT"));
    }
}

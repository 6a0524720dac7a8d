//! Debian packages out of the parts of a component: their names, what stands in `debian/control`, and who depends on whom.
//!
//! Sources: Debian Policy 8 (shared libraries) and 5.6 (fields of control files), dpkg-shlibdeps(1), deb-substvars(5).

use crate::detect::Detected;
use crate::split::{ComponentPart, FileContent, InstalledFile, InstalledKind, Placed, without_triplet};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of data above which they are a package of their own, for all architectures.
const WORTH_A_PACKAGE: u64 = 200_000;
/// Programs that every Debian has: who is run by one of them need not say so.
const ESSENTIAL: [&str; 6] = ["/bin/sh", "/usr/bin/sh", "sh", "/bin/bash", "/usr/bin/bash", "bash"];

/// A binary package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebianPackage {
    /// Its name.
    pub name: String,
    /// What it has, without leading slashes.
    pub files: Vec<String>,
    /// Whether it is the same on every architecture.
    pub is_for_all: bool,
    /// Whether one of each architecture can be installed beside the others.
    pub is_multiarch: bool,
    section: &'static str,
    /// What is said of it behind the component's summary.
    role: &'static str,
    /// Clauses of `Depends`.
    depends: Vec<String>,
    /// Modules of pkg-config that those need who build with it.
    pub modules: BTreeSet<String>,
    /// Programs that run its scripts.
    pub interpreters: BTreeSet<String>,
}

/// The packages of a component, by name. `name` is the component's; `placed` is what [`crate::split()`] says of `files`.
pub fn packages(name: &str, files: &[InstalledFile], placed: &[Placed]) -> Vec<DebianPackage> {
    let by_path: BTreeMap<&str, &InstalledFile> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut parts: BTreeMap<&ComponentPart, Vec<&InstalledFile>> = BTreeMap::new();
    for file in placed {
        if let (Some(part), Some(installed)) = (&file.part, by_path.get(file.path.as_str())) {
            parts.entry(part).or_default().push(installed);
        }
    }
    let names = DebianNames::of(name, &parts);
    let mut packages: BTreeMap<String, DebianPackage> = BTreeMap::new();
    for (part, files) in &parts {
        let (package, section, role) = names.of_part(part);
        let package =
            packages.entry(package.clone()).or_insert_with(|| DebianPackage { name: package, section, role, ..DebianPackage::default() });
        for file in files {
            package.files.push(file.path.clone());
            match &file.kind {
                InstalledKind::File(FileContent::PkgConfig(modules)) => package.modules.extend(modules.iter().cloned()),
                InstalledKind::File(FileContent::Script(program)) if !ESSENTIAL.contains(&program.as_str()) => {
                    package.interpreters.insert(program.clone());
                }
                _ => {}
            }
        }
    }
    for package in packages.values_mut() {
        package.files.sort();
        let is_elf =
            |path: &String| matches!(by_path.get(path.as_str()).map(|file| &file.kind), Some(InstalledKind::File(FileContent::Elf(_))));
        package.is_for_all = !package.files.iter().any(|path| is_elf(path) || is_in_triplet(path));
    }
    let libraries: Vec<String> = names.libraries.values().cloned().collect();
    for part in parts.keys() {
        let (package, _, _) = names.of_part(part);
        let Some(package) = packages.get_mut(&package) else { continue };
        if matches!(part, ComponentPart::Development) {
            package.depends.extend(libraries.iter().map(|library| format!("{library} (= ${{binary:Version}})")));
            package.depends.extend(names.typelibs.values().map(|typelib| format!("{typelib} (= ${{binary:Version}})")));
        }
        if matches!(part, ComponentPart::Library(_)) {
            package.is_multiarch = package.files.iter().all(|path| is_in_triplet(path));
        }
        if matches!(part, ComponentPart::Library(_) | ComponentPart::Program)
            && parts.contains_key(&ComponentPart::Data)
            && package.name != names.data
        {
            package.depends.push(format!("{} (= ${{source:Version}})", names.data));
        }
    }
    for package in packages.values_mut() {
        let own = package.name.clone();
        package.depends.sort();
        package.depends.dedup();
        package.depends.retain(|clause| clause.split(' ').next() != Some(own.as_str()));
    }
    packages.into_values().collect()
}

fn is_in_triplet(path: &str) -> bool {
    without_triplet(path) != path
}

/// What the packages of a component are called.
struct DebianNames {
    /// Of each SONAME.
    libraries: BTreeMap<String, String>,
    typelibs: BTreeMap<String, String>,
    development: String,
    program: String,
    data: String,
    documentation: String,
    tests: String,
}

impl DebianNames {
    fn of(name: &str, parts: &BTreeMap<&ComponentPart, Vec<&InstalledFile>>) -> DebianNames {
        let name = plain(name);
        let stem = name.strip_prefix("lib").filter(|stem| !stem.is_empty()).unwrap_or(&name);
        let mut libraries = BTreeMap::new();
        let mut typelibs = BTreeMap::new();
        for part in parts.keys() {
            match part {
                ComponentPart::Library(soname) => drop(libraries.insert(soname.clone(), library_name(soname))),
                ComponentPart::Typelib(typelib) => drop(typelibs.insert(typelib.clone(), plain(&format!("gir1.2-{typelib}")))),
                _ => {}
            }
        }
        let is_taken = libraries.values().any(|library| *library == name);
        let program = if (name.starts_with("lib") && !libraries.is_empty()) || is_taken { format!("{name}-bin") } else { name.clone() };
        let data_size: u64 = parts.get(&ComponentPart::Data).into_iter().flatten().map(|file| file.size).sum();
        let has_program = parts.contains_key(&ComponentPart::Program);
        // (Two versions of a library can be there at once, so that it has no file whose path is the same in both.)
        let data = match libraries.is_empty() {
            true if !has_program || data_size <= WORTH_A_PACKAGE => program.clone(),
            _ => format!("{name}-common"),
        };
        DebianNames {
            libraries,
            typelibs,
            development: format!("lib{stem}-dev"),
            program,
            data,
            documentation: format!("{name}-doc"),
            tests: format!("{name}-tests"),
        }
    }

    /// The package of a part, its section, and what it is.
    fn of_part(&self, part: &ComponentPart) -> (String, &'static str, &'static str) {
        match part {
            ComponentPart::Library(soname) => (self.libraries.get(soname).cloned().unwrap_or_default(), "libs", "shared library"),
            ComponentPart::Typelib(name) => (self.typelibs.get(name).cloned().unwrap_or_default(), "introspection", "introspection data"),
            ComponentPart::Development => (self.development.clone(), "libdevel", "development files"),
            ComponentPart::Program => (self.program.clone(), "misc", "programs"),
            ComponentPart::Data => (self.data.clone(), "misc", "common files"),
            ComponentPart::Documentation => (self.documentation.clone(), "doc", "documentation"),
            ComponentPart::Tests => (self.tests.clone(), "misc", "installed tests"),
        }
    }
}

/// A name as Debian takes it: lower case, and no underscore.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The package of a shared library (Debian Policy 8.1): `libx1` of `libx.so.1`, `libx2-0` of `libx2.so.0`, `libx-1.2` of
/// `libx-1.2.so`.
fn library_name(soname: &str) -> String {
    let name = match soname.split_once(".so.") {
        Some((stem, version)) if stem.ends_with(|c: char| c.is_ascii_digit()) => format!("{stem}-{version}"),
        Some((stem, version)) => format!("{stem}{version}"),
        None => soname.strip_suffix(".so").unwrap_or(soname).to_string(),
    };
    plain(&name)
}

/// The text of `debian/control`. `build_depends` are clauses, `source` is the component's name.
pub fn control(source: &str, detected: &Detected, build_depends: &[String], packages: &[DebianPackage]) -> String {
    let summary = detected.summary.clone().unwrap_or_else(|| source.to_string());
    let mut text = format!(
        "Source: {}\nSection: misc\nPriority: optional\nMaintainer: twostage <builder@twostage.invalid>\nBuild-Depends: {}\n\
         Standards-Version: 4.6.2\nRules-Requires-Root: no\n",
        plain(source),
        build_depends.join(", ")
    );
    if let Some(homepage) = &detected.homepage {
        text.push_str(&format!("Homepage: {homepage}\n"));
    }
    for package in packages {
        let mut depends = package.depends.clone();
        if !package.is_for_all {
            depends.push("${shlibs:Depends}".into());
        }
        depends.extend(["${misc:Depends}".to_string(), "${twostage:Depends}".to_string()]);
        let architecture = if package.is_for_all { "all" } else { "any" };
        text.push_str(&format!("\nPackage: {}\nArchitecture: {architecture}\nSection: {}\n", package.name, package.section));
        if package.is_multiarch {
            text.push_str("Multi-Arch: same\nPre-Depends: ${misc:Pre-Depends}\n");
        }
        text.push_str(&format!("Depends: {}\nDescription: {summary} ({})\n", depends.join(", "), package.role));
        text.push_str(&format!(" This package has the {} of {source}. Its contents were divided by twostage.\n", package.role));
    }
    text
}

/// The text of `debian/copyright`: what is said of the licence, and the licence's own text (copyright-format 1.0).
pub fn copyright(source: &str, detected: &Detected, licences: &[String]) -> String {
    let mut text = format!("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: {source}\n");
    if let Some(homepage) = &detected.homepage {
        text.push_str(&format!("Source: {homepage}\n"));
    }
    let is_statement = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("copyright") && (line.contains("(c)") || line.contains('©') || line.chars().any(|c| c.is_ascii_digit()))
    };
    let holders: BTreeSet<&str> = licences.iter().flat_map(|text| text.lines()).map(str::trim).filter(is_statement).take(50).collect();
    let holders: Vec<&str> = if holders.is_empty() { vec!["the authors of the source"] } else { holders.into_iter().collect() };
    text.push_str(&format!("\nFiles: *\nCopyright: {}\n", holders.join("\n           ")));
    text.push_str(&format!("License: {}\n", detected.licence.as_deref().unwrap_or("unknown-licence")));
    for licence in licences {
        for line in licence.lines() {
            let line: String = line.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
            text.push_str(&if line.trim().is_empty() { " .\n".to_string() } else { format!(" {}\n", line.trim_end()) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::split;
    use twostage_model::project::BuildSystem;

    const LIB: &str = "usr/lib/x86_64-linux-gnu";

    fn file(path: &str, content: FileContent) -> InstalledFile {
        InstalledFile { path: path.into(), kind: InstalledKind::File(content), size: 1000 }
    }

    fn made(name: &str, files: &[InstalledFile]) -> Vec<DebianPackage> {
        packages(name, files, &split(files, &BTreeMap::new()).expect("each has a place"))
    }

    fn detected() -> Detected {
        Detected {
            system: BuildSystem::Meson,
            version: "1.0".into(),
            summary: None,
            licence: Some("MIT".into()),
            homepage: None,
            licence_files: Vec::new(),
            wanted: BTreeSet::new(),
            required: BTreeSet::new(),
        }
    }

    fn library() -> Vec<InstalledFile> {
        let modules = FileContent::PkgConfig(["zlib".to_string()].into());
        vec![
            file(&format!("{LIB}/libcalc.so.1"), FileContent::Elf(Some("libcalc.so.1".into()))),
            file(&format!("{LIB}/pkgconfig/calc.pc"), modules),
            file("usr/include/calc.h", FileContent::Other),
            file("usr/bin/calc", FileContent::Elf(None)),
            file("usr/bin/calc-gui", FileContent::Script("/usr/bin/python3".into())),
            file("usr/share/calc/units", FileContent::Other),
        ]
    }

    #[test]
    fn a_library_with_a_program_and_data_is_four_packages_by_debians_names() {
        let packages = made("calc", &library());
        let shown: Vec<String> =
            packages.iter().map(|p| format!("{} {} {:?}", p.name, if p.is_for_all { "all" } else { "any" }, p.files)).collect();
        assert_eq!(
            shown,
            [
                "calc any [\"usr/bin/calc\", \"usr/bin/calc-gui\"]",
                "calc-common all [\"usr/share/calc/units\"]",
                &format!("libcalc-dev any [\"usr/include/calc.h\", \"{LIB}/pkgconfig/calc.pc\"]"),
                &format!("libcalc1 any [\"{LIB}/libcalc.so.1\"]"),
            ]
        );
        let control = control("calc", &detected(), &["debhelper-compat (= 13)".into()], &packages);
        assert!(
            control.contains("Depends: libcalc1 (= ${binary:Version}), ${shlibs:Depends}, ${misc:Depends}, ${twostage:Depends}\n"),
            "{control}"
        );
        assert!(
            control.contains("Package: libcalc1\nArchitecture: any\nSection: libs\nMulti-Arch: same\nPre-Depends: ${misc:Pre-Depends}\n"),
            "{control}"
        );
        assert_eq!(packages[0].interpreters, BTreeSet::from(["/usr/bin/python3".to_string()]));
        assert_eq!(packages[2].modules, BTreeSet::from(["zlib".to_string()]));
    }

    #[test]
    fn data_of_a_library_are_a_package_of_their_own_because_two_versions_of_it_can_be_there() {
        let mut files = library();
        files.retain(|file| !file.path.starts_with("usr/bin"));
        let packages = made("libcalc", &files);
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["libcalc-common", "libcalc-dev", "libcalc1"]);
        assert!(packages[0].is_for_all);
        assert_eq!(packages[2].depends, ["libcalc-common (= ${source:Version})"]);
    }

    #[test]
    fn a_package_is_called_what_debian_would_call_it() {
        for (soname, name) in [
            ("libcairo.so.2", "libcairo2"),
            ("libpango-1.0.so.0", "libpango-1.0-0"),
            ("libxml2.so.2", "libxml2-2"),
            ("libicuuc.so.72", "libicuuc72"),
            ("libFoo_Bar.so.1", "libfoo-bar1"),
            ("libbfd-2.40.so", "libbfd-2.40"),
        ] {
            assert_eq!(library_name(soname), name);
        }
        // Of a library `libcalc` the programs are not called as libraries are.
        let names: Vec<String> = made("libcalc", &library()).into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["libcalc-bin", "libcalc-common", "libcalc-dev", "libcalc1"]);
    }

    #[test]
    fn a_copyright_file_has_the_holders_and_the_text() {
        let text = copyright("calc", &detected(), &["MIT License\n\nCopyright (c) 2020 A. Author\n\x07Do what you like.\n".to_string()]);
        assert!(text.ends_with("Files: *\nCopyright: Copyright (c) 2020 A. Author\nLicense: MIT\n MIT License\n .\n Copyright (c) 2020 A. Author\n Do what you like.\n"), "{text}");
    }
}

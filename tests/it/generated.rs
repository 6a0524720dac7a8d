//! Recipes: packages from trees that have no packaging.

use crate::on::EMBEDDED;
use crate::support::{Family, Project, Used, tool, uses};
use std::collections::BTreeMap;
use std::fs;

/// A project with a library that meson builds, and a program above it that has a Makefile alone.
fn project(test: &str) -> Project {
    let project = Project::built_on(EMBEDDED, Family::Deb, test);
    ["calq", "sums", "ts-macros"].iter().for_each(|folder| fs::create_dir(project.join(folder)).expect("a folder"));
    for (path, text) in [
        (
            "calq/meson.build",
            "project('calq', 'c', version: '1.2.3', license: 'MIT')\nzlib = dependency('zlib')\n\
             lib = library('calq', 'calq.c', version: '1.2.3', dependencies: zlib, install: true)\ninstall_headers('calq.h')\n\
             test('adds', executable('adds', 'adds.c', link_with: lib))\ninstall_data('units', install_dir: get_option('datadir') / 'calq')\n\
             import('pkgconfig').generate(lib, description: 'Adds numbers', requires: 'zlib')\n",
        ),
        ("calq/calq.h", "int calq_add(int a, int b);\n"),
        ("calq/calq.c", "#include <zlib.h>\n#include \"calq.h\"\nint calq_add(int a, int b) { return a + b + (zlibVersion() == 0); }\n"),
        ("calq/adds.c", "#include \"calq.h\"\nint main(void) { return calq_add(40, 2) != 42; }\n"),
        ("calq/units", "kg\n"),
        ("calq/LICENSE", "MIT License\n\nCopyright (c) 2024 The Calq Authors\n"),
        (
            "sums/Makefile",
            "sums: sums.c\n\t$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< `pkg-config --cflags --libs calq`\ninstall: sums\n\
             \tinstall -D sums $(DESTDIR)$(PREFIX)/bin/sums\n\tinstall -D sums-report $(DESTDIR)$(PREFIX)/bin/sums-report\n",
        ),
        ("sums/sums.c", "#include <calq.h>\n#include <stdio.h>\nint main(void) { printf(\"sum %d\\n\", calq_add(40, 2)); return 0; }\n"),
        // A macro of autoconf's archive, which is a package of its own.
        (
            "ts-macros/configure.ac",
            "AC_INIT([macros], [3.1])\nAM_INIT_AUTOMAKE([foreign])\nAC_PROG_CC\n\
             AX_CHECK_COMPILE_FLAG([-Wall], [], [AC_MSG_ERROR([there is no -Wall])])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
        ),
        ("ts-macros/Makefile.am", "bin_PROGRAMS = ts-macros\nts_macros_SOURCES = macros.c\n"),
        ("ts-macros/macros.c", "int main(void) { return 0; }\n"),
        ("sums/sums-report", "#!/usr/bin/perl -w\nprint \"report\\n\";\n"),
    ] {
        project.write(path, text);
    }
    project.edit("twostage.toml", |text| {
        let (before, _) = text.split_once("[[component]]").expect("a component");
        format!(
            "{before}[[component]]\nname = \"calq\"\nsource = \"calq\"\nrecipe = \"auto\"\n\n\
             [[component]]\nname = \"sums\"\nsource = \"sums\"\nrecipe = \"make\"\nversion = \"0.4\"\nbuild = [\"pc:calq\", \"cmd:pkg-config\"]\n\
             needs = [\"calq\"]\n\n\
             [[component]]\nname = \"ts-macros\"\nsource = \"ts-macros\"\nrecipe = \"auto\"\n\n[runtime.{}]\npackages = [\"sums\"]\ncheck = [\"sums\"]\n",
            project.image
        )
    });
    project
}

/// The control fields of each package that the channel has, by name.
fn packages(project: &Project) -> BTreeMap<String, BTreeMap<String, String>> {
    let index = format!(".twostage/repository/snapshots/{}/dists/twostage/main/binary-amd64/Packages.gz", project.snapshot());
    let text = tool("zcat", &[&project.join(&index).to_string_lossy()]).ok().out;
    let stanza =
        |stanza: &str| stanza.lines().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let stanzas = text.split("\n\n").map(stanza).filter(|fields: &BTreeMap<String, String>| fields.contains_key("Package"));
    stanzas.map(|fields| (fields["Package"].clone(), fields)).collect()
}

#[test]
fn trees_without_packaging_become_packages_by_debians_rules_and_an_image() {
    uses(Used::Apt);
    let project = project("recipe");
    let found = project.run(&["recipe", "calq"]).ok().out;
    assert!(
        found.contains("recipe = \"meson\"\nversion = \"1.2.3\"\nbuild = [\"cmd:meson\", \"pc:zlib\", \"cmd:pkg-config\"]\n# licence: MIT"),
        "{found}"
    );

    project.run(&["repo"]).ok();
    let packages = packages(&project);
    let ours: Vec<&str> = packages.keys().map(String::as_str).filter(|name| name.contains("calq") || name.contains("sums")).collect();
    assert_eq!(ours, ["calq-common", "libcalq-dev", "libcalq1", "libcalq1-dbgsym", "sums", "sums-dbgsym"]);
    let field = |package: &str, field: &str| packages[package].get(field).cloned().unwrap_or_default();
    let version = field("libcalq1", "Version");
    assert!(version.starts_with("1.2.3-1+bts"), "{version}");
    // Debian's own generators tell what a program needs, and the files of pkg-config what a -dev package needs.
    let depends = field("libcalq1", "Depends");
    assert!(depends.starts_with(&format!("calq-common (= {version}), ")) && depends.contains("zlib1g (>= "), "{depends}");
    assert_eq!(field("libcalq-dev", "Depends"), format!("libcalq1 (= {version}), zlib1g-dev"));
    assert_eq!(field("calq-common", "Architecture"), "all");
    assert_eq!(field("libcalq1", "Multi-Arch"), "same");
    assert!(field("sums", "Depends").ends_with("libcalq1 (>= 1.2.3), perl"), "{}", field("sums", "Depends"));

    assert!(field("ts-macros", "Version").starts_with("3.1-1+bts"), "{}", field("ts-macros", "Version"));

    let why = project.run(&["recipe", "calq", "--why", "/usr/include/calq.h"]).ok().out;
    assert_eq!(why, "/usr/include/calq.h is in libcalq-dev by the rule meson-devel\n");
    project.run(&["recipe", "calq", "--why", "/include/calq.h"]).fails_with(2).says("hint: it installed /usr/include/calq.h");

    let done = project.run(&["runtime"]).ok();
    assert!(done.err.contains("check: sum 42") && done.err.contains("audited clean"), "{}", done.err);

    // The same inputs are not built again, and give the same bytes elsewhere.
    project.run(&["repo"]).ok().says("calq: unchanged");
}

#[test]
fn a_tree_that_no_recipe_can_make_packages_of_is_refused_by_name() {
    uses(Used::Apt);
    let project = project("recipe-refused");
    // The program alone: neither a library nor lists of files are asked for.
    project.edit("twostage.toml", |text| {
        let (before, rest) = text.split_once("[[component]]\nname = \"calq\"").expect("the library");
        let (_, rest) = rest.split_once("[[component]]").expect("the program");
        let (program, rest) = rest.split_once("[[component]]").expect("the macros");
        let (_, image) = rest.split_once("[runtime.").expect("the image");
        format!("{before}[[component]]{program}[runtime.{image}")
            .replace("build = [\"pc:calq\", \"cmd:pkg-config\"]\nneeds = [\"calq\"]\n", "")
    });
    project.edit("sums/Makefile", |text| text.replace(" `pkg-config --cflags --libs calq`", ""));
    project.write("sums/sums.c", "int main(void) { return 0; }\n");
    project.edit("sums/Makefile", |text| text.replace("$(DESTDIR)$(PREFIX)/bin/sums-report", "$(DESTDIR)/opt/sums/report"));
    project
        .run(&["repo"])
        .fails_with(4)
        .says("no rule says which package has /opt/sums/report")
        .says("is the build system told another prefix?");

    project.edit("sums/Makefile", |text| text.replace("$(DESTDIR)/opt/sums/report", "-m 4755 $(DESTDIR)$(PREFIX)/bin/sums-report"));
    project.run(&["repo"]).fails_with(4).says("it installs /usr/bin/sums-report, which runs with the rights of another user");

    project.edit("twostage.toml", |text| text.replace("version = \"0.4\"\n", "version = \"0.4\"\nbuild = [\"pc:nobody-has-this\"]\n"));
    project.run(&["repo"]).fails_with(3).says("build:sums: no package of the distribution has what pc:nobody-has-this asks for");

    project.edit("twostage.toml", |text| text.replace("version = \"0.4\"\n", ""));
    project.run(&["repo"]).fails_with(3).says("component `sums`: its build system (make) says no version").says("version = \"1.0\"");
    assert!(project.run(&["list"]).out.lines().all(|line| !line.contains("sums")), "nothing of it is published");
}

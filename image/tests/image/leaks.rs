//! What only builders need, wherever it is: installed, copied, deleted again.

use crate::support::*;
use md5::{Digest as _, Md5};
use std::collections::BTreeMap;
use twostage_image::{Base, Known, Leaks, Report, audit_with, read_archive, wanted};
use twostage_model::{Format, Sha256};
use twostage_package::rpmdb::Expected;

fn stanza(name: &str) -> String {
    format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n")
}

fn md5(content: &str) -> Expected {
    Expected::Md5(Md5::digest(content).into())
}

/// gcc's compiler, a text that a package brings which images may have, one that the base has, and an empty file.
fn leaks() -> Leaks {
    let mut leaks = Leaks::default();
    let files = [("usr/bin/gcc", "compiler"), ("usr/share/gcc/GPL", "licence"), ("usr/share/gcc/base", "of the base"), ("usr/share/e", "")];
    leaks.add(Format::Deb, "gcc", "12", files.map(|(path, content)| (path.to_string(), md5(content))));
    let rpm = [("usr/bin/cc".to_string(), Expected::Content(Sha256::of(b"another compiler")))];
    leaks.add(Format::Rpm, "cc", "9-1", rpm);
    leaks
}

fn report(above: &[Tar]) -> Report {
    let base =
        Tar::new().dir("var/lib/dpkg/info").dir("usr/bin").file("var/lib/dpkg/status", stanza("dpkg")).file("etc/text", "of the base");
    let layers: Vec<Vec<u8>> = std::iter::once(base.done()).chain(above.iter().map(Tar::bytes)).collect();
    audited(&docker_old(&layers), Base::Layers(1), &Known { leaks: leaks(), ..Known::default() }).unwrap_or_else(|e| panic!("{e}"))
}

/// Layer and path to the reason, of what the gate names.
fn leaked(report: &Report) -> BTreeMap<(usize, &str), &str> {
    let leaked = report.residue().filter(|residue| residue.rule == "build-dependency");
    leaked.map(|residue| ((residue.layer.unwrap_or(0), residue.at.as_str()), residue.reason.as_str())).collect()
}

/// A layer that installs packages, of which `files` are.
fn install(packages: &[&str], files: &[(&str, &str, &str)]) -> Tar {
    let mut tar = Tar::new().file("var/lib/dpkg/status", packages.iter().map(|name| stanza(name)).collect::<String>());
    for package in packages {
        let own = || files.iter().filter(|(of, ..)| of == package);
        let list: String = own().map(|(_, path, _)| format!("/{path}\n")).collect();
        let sums: String = own()
            .map(|(_, path, content)| {
                let hex: String = Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{hex}  {path}\n")
            })
            .collect();
        tar = tar.file(&format!("var/lib/dpkg/info/{package}.list"), list).file(&format!("var/lib/dpkg/info/{package}.md5sums"), sums);
    }
    files.iter().fold(tar, |tar, (_, path, content)| tar.file(path, content))
}

#[test]
fn an_image_without_any_says_how_much_was_looked_for() {
    // The licence is hello's too, the text is the base's, and an empty file is everybody's.
    let hello = [("hello", "usr/bin/hello", "hello"), ("hello", "usr/share/hello/GPL", "licence"), ("hello", "usr/share/e2", "")];
    let report = report(&[install(&["dpkg", "hello"], &hello).file("etc/mine", "of the base")]);
    assert_eq!(leaked(&report), BTreeMap::new());
    let text = report.to_text();
    assert!(text.contains("build dependencies: nothing of 2 packages with 5 files that only builders need\n"), "{text}");
}

#[test]
fn one_whose_files_nobody_knows_is_looked_for_by_its_name_and_that_is_said() {
    let mut known = Known { leaks: leaks(), ..Known::default() };
    known.leaks.add_name(Format::Deb, "make");
    let base = Tar::new().dir("usr/bin").file("var/lib/dpkg/status", stanza("dpkg"));
    let above = install(&["dpkg", "make"], &[("make", "usr/bin/make", "made")]);
    let image = read_archive(&docker_old(&[base.done(), above.bytes()])[..], &wanted).unwrap();
    let report = audit_with(&image, Base::Layers(1), &known).unwrap();
    assert_eq!(leaked(&report), [((2, "/usr/bin/make"), "belongs to make 1, which only a builder needs")].into());
    let said = "build dependencies: 1 file of 3 packages with 5 files that only builders need; of 1 package only the name was looked for";
    assert!(report.to_text().contains(said), "{}", report.to_text());
}

#[test]
fn an_installed_one_is_named_file_by_file() {
    let report =
        report(&[install(&["dpkg", "gcc"], &[("gcc", "usr/bin/gcc", "compiler"), ("gcc", "usr/share/gcc/doc", "of this version")])]);
    let belongs = "belongs to gcc 1, which only a builder needs";
    assert_eq!(leaked(&report), [((2, "/usr/bin/gcc"), belongs), ((2, "/usr/share/gcc/doc"), belongs)].into());
    assert!(report.to_text().contains("build dependencies: 2 files of 2 packages"), "{}", report.to_text());
}

#[test]
fn a_file_is_known_by_its_content_wherever_it_lies_and_whatever_deletes_it() {
    let copied = Tar::new().file("opt/tool", "compiler").file("usr/bin/gcc", "compiler").file("opt/other", "another compiler");
    let report = report(&[copied, Tar::new().file("opt/.wh.tool", "").file("usr/bin/.wh.gcc", "")]);
    let expected = [
        ((2, "/opt/other"), "has the content of /usr/bin/cc of cc 9-1, which only a builder needs"),
        ((2, "/opt/tool"), "has the content of /usr/bin/gcc of gcc 12, which only a builder needs"),
        ((2, "/usr/bin/gcc"), "is a file of gcc 12, which only a builder needs"),
    ];
    assert_eq!(leaked(&report), expected.into());
}

#[test]
fn one_that_is_installed_used_and_purged_is_in_the_lower_layer_still() {
    let gcc = [("gcc", "usr/bin/gcc", "compiler"), ("gcc", "usr/lib/gcc/cc1", "of this version")];
    let purged = install(&["dpkg"], &[]).file("usr/bin/.wh.gcc", "").file("usr/lib/gcc/.wh.cc1", "");
    let report = report(&[install(&["dpkg", "gcc"], &gcc), Tar::new().file("opt/app", "app"), purged]);
    let expected = [
        ((2, "/usr/bin/gcc"), "is a file of gcc 12, which only a builder needs"),
        ((2, "/usr/lib/gcc/cc1"), "belonged to gcc, which only a builder needs"),
        ((2, "/var/lib/dpkg/info/gcc.list"), "belonged to gcc, which only a builder needs"),
        ((2, "/var/lib/dpkg/info/gcc.md5sums"), "belonged to gcc, which only a builder needs"),
    ];
    assert_eq!(leaked(&report), expected.into());
}

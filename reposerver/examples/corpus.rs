//! Makes packages for measurements: `corpus debs|rpms NUMBER FOLDER [FIRST]`.
//!
//! They are small, so that what is measured is the work for a package and not for its bytes: 12 files, 7 dependencies, and
//! in rpms 8 entries of a changelog. The same numbers give the same packages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use rpm::{BuildConfig, Dependency, FileOptions, PackageBuilder};
use std::fs;
use std::path::Path;
use twostage_package::control::Control;
use twostage_package::write::{FileEntry, write_deb};

const DATE: u32 = 1_700_000_000;
const FILES: usize = 12;
const NEEDS: usize = 7;
const CHANGES: u32 = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count, folder, first @ ..] = &arguments[..] else {
        eprintln!("usage: corpus debs|rpms NUMBER FOLDER [FIRST]");
        std::process::exit(2);
    };
    let first: usize = first.first().map_or(0, |first| first.parse().expect("a number"));
    fs::create_dir_all(folder).unwrap();
    for number in first..first + count.parse::<usize>().expect("a number") {
        let name = format!("package{number:06}");
        let (file, bytes) = if kind == "debs" {
            (format!("{name}_1.0-1_amd64.deb"), deb(&name, number))
        } else {
            (format!("{name}-1.0-1.x86_64.rpm"), rpm(&name, number))
        };
        fs::write(Path::new(folder).join(file), bytes).unwrap();
    }
}

fn needs(number: usize) -> impl Iterator<Item = String> {
    (1..=NEEDS).map(move |at| format!("package{:06}", number.saturating_sub(at * at)))
}

fn deb(name: &str, number: usize) -> Vec<u8> {
    let needs: Vec<String> = needs(number).collect();
    let control = format!(
        "Package: {name}\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: Test <test@example.invalid>\nInstalled-Size: 48\nDepends: {}\n\
         Section: libs\nPriority: optional\nHomepage: https://example.invalid/{name}\nDescription: a package for measurements, number {number}\n \
         It has twelve files and depends on seven others.\n .\n Nobody ever installs it.\n",
        needs.join(", ")
    );
    let file = |at: usize| FileEntry {
        path: format!("/usr/share/{name}/file{at:02}"),
        mode: 0o644,
        content: format!("{name} {at}\n").repeat(9).into_bytes(),
    };
    let files: Vec<FileEntry> = (0..FILES).map(file).collect();
    write_deb(&Control::parse(&control).unwrap(), &files, &[], DATE.into()).unwrap()
}

fn rpm(name: &str, number: usize) -> Vec<u8> {
    let mut builder = PackageBuilder::new(name, "1.0", "MIT", "x86_64", &format!("a package for measurements, number {number}"));
    builder
        .using_config(BuildConfig::v4().compression(rpm::CompressionType::Gzip).source_date(DATE).reserved_space(None))
        .release("1")
        .description("It has twelve files and depends on seven others.\n\nNobody ever installs it.");
    for at in 0..FILES {
        let content = format!("{name} {at}\n").repeat(9);
        builder.with_file_contents(content, FileOptions::new(format!("/usr/share/{name}/file{at:02}"))).unwrap();
    }
    for need in needs(number) {
        builder.requires(Dependency::greater_eq(need, "1.0"));
    }
    for at in 0..CHANGES {
        builder.add_changelog_entry("Test <test@example.invalid> - 1.0-1", format!("- change number {at} of {name}"), DATE - at * 86_400);
    }
    let mut bytes = Vec::new();
    builder.build().unwrap().write(&mut bytes).unwrap();
    bytes
}

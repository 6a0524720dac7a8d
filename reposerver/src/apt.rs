//! Packages to apt's files. Pure: no clock, no disk, the same input gives the same bytes.
//!
//! The rules are those of <https://wiki.debian.org/DebianRepository/Format>; a paragraph of
//! `Packages` is the package's own control paragraph with what `apt-ftparchive packages` adds,
//! less the hashes that nobody should trust. Packages for Debian's installer have indexes of their own, below
//! `main/debian-installer`, which apt on a system does not read:
//!
//! ```text
//! Package: greet
//! Version: 1.0-1
//! …
//! Filename: pool/5f/5f2c…e1/greet_1.0-1_amd64.deb
//! Size: 1234
//! SHA256: 5f2c…e1
//! ```

use crate::assemble::{Outline, Packing, Piece, ZSTD_LEVEL};
use crate::catalog::{Entry, Pack};
use crate::{Kind, PoolPackage, date};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use twostage_model::{Class, Error, Result, Sha256};
use twostage_package::deb::MAX_PARAGRAPH;

/// The one suite of a repository.
pub const SUITE: &str = "twostage";
/// The one component of the suite.
pub const COMPONENT: &str = "main";

/// Where packages for Debian's installer are.
const INSTALLER: &str = "main/debian-installer";
/// The index of sources.
pub(crate) const SOURCES: &str = "main/source/Sources";

/// What a Release file says of an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Digest of the content.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
}

/// The paragraph of a package, as its index has it. Empty for what is in none.
fn paragraph(package: &PoolPackage) -> String {
    let mut text = String::new();
    match package.kind {
        Kind::Deb | Kind::Udeb => binary_paragraph(&mut text, package),
        Kind::Source => source_paragraph(&mut text, package),
        Kind::Rpm | Kind::SourceRpm | Kind::Extra(_) => {}
    }
    text
}

/// The paragraph of a package that an index can hold.
///
/// # Errors
/// It has more than 1 MiB, and would make its index unreadable.
pub(crate) fn paragraph_checked(package: &PoolPackage) -> Result<String> {
    let text = paragraph(package);
    let size = text.len();
    if size < MAX_PARAGRAPH {
        return Ok(text);
    }
    let what = format!(
        "{} is refused: its paragraph in the index would be {size} bytes long; apt reads paragraphs below 1 MiB ({MAX_PARAGRAPH} bytes), \
         and loses all packages of an index that has a longer one",
        package.file_name()
    );
    Err(Error::new(Class::Repository, what).hint("shorten its longest field: usually Description, or the list of files"))
}

/// How each index is packed, beside its text.
pub(crate) const PACKINGS: [Packing; 2] = [Packing::Gzip, Packing::Zstd(ZSTD_LEVEL)];

/// The index files, by path below `dists/twostage/`. `entries` come sorted (name, version, architecture); every one of
/// `architectures` gets an index, and so does every other that a package has. Packages for `all`
/// are in each of them.
pub(crate) fn outlines(entries: &[Arc<Entry>], architectures: &[String]) -> BTreeMap<String, Outline> {
    let of_kind = |kind: Kind| entries.iter().filter(move |entry| entry.kind == kind);
    let outline = |entries: &mut dyn Iterator<Item = &Arc<Entry>>| Outline {
        ends: (String::new(), String::new()),
        pack: Pack::Paragraphs,
        pieces: entries.map(|entry| Piece { package: entry.sha256, text: entry.paragraph }).collect(),
    };
    let mut wanted: BTreeSet<&str> = architectures.iter().map(String::as_str).collect();
    let binaries = of_kind(Kind::Deb).chain(of_kind(Kind::Udeb));
    wanted.extend(binaries.map(|entry| entry.arch()).filter(|arch| *arch != "all"));
    let mut files = BTreeMap::new();
    for (kind, folder) in [(Kind::Deb, COMPONENT), (Kind::Udeb, INSTALLER)] {
        for arch in wanted.iter().filter(|_| kind == Kind::Deb || of_kind(kind).next().is_some()) {
            let mut with_arch = of_kind(kind).filter(|entry| entry.arch() == *arch || entry.arch() == "all");
            files.insert(format!("{folder}/binary-{arch}/Packages"), outline(&mut with_arch));
        }
    }
    if of_kind(Kind::Source).next().is_some() {
        files.insert(SOURCES.to_string(), outline(&mut of_kind(Kind::Source)));
    }
    files
}

/// Where a package's bytes are, below the prefix of a channel or snapshot.
pub fn pool_folder(digest: &Sha256) -> String {
    let name = digest.to_string();
    format!("pool/{}/{name}", &name[..2])
}

/// Fields that the repository states itself; a package that brings them is not believed.
const OURS: [&str; 7] = ["filename", "size", "md5sum", "sha1", "sha256", "sha512", "status"];
/// Fields of a `.dsc` that `Sources` spells in its own way. Only SHA-256 is passed on.
const OURS_SOURCE: [&str; 6] = ["source", "directory", "files", "checksums-sha1", "checksums-sha256", "checksums-sha512"];

fn binary_paragraph(text: &mut String, package: &PoolPackage) {
    copy_fields(text, &package.control, &OURS);
    let (folder, name) = (pool_folder(&package.sha256), package.file_name());
    let _ = write!(text, "Filename: {folder}/{name}\nSize: {}\nSHA256: {}\n\n", package.size, package.sha256);
}

fn source_paragraph(text: &mut String, package: &PoolPackage) {
    let _ = writeln!(text, "Package: {}", package.id.name);
    copy_fields(text, &package.control, &OURS_SOURCE);
    let _ = write!(text, "Directory: {}\nChecksums-Sha256:\n", pool_folder(&package.sha256));
    let _ = writeln!(text, " {} {} {}", package.sha256, package.size, package.file_name());
    for file in &package.files {
        let _ = writeln!(text, " {} {} {}", file.sha256, file.size, file.name);
    }
    text.push('\n');
}

/// Copies a paragraph without the fields named (in lower case) and their continuation lines.
fn copy_fields(text: &mut String, control: &str, without: &[&str]) {
    let mut skipping = false;
    for line in control.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap_or_default().trim_end().to_ascii_lowercase();
            skipping = without.contains(&name.as_str());
        }
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
    }
}

/// Renders `Release`. `origin` is the project, `date` in seconds since 1970; clients take it until `valid_until`, or for ever.
pub fn release(origin: &str, date: i64, valid_until: Option<i64>, files: &BTreeMap<String, Listed>) -> String {
    let prefix = format!("{COMPONENT}/binary-");
    let architectures: Vec<&str> =
        files.keys().filter_map(|path| path.strip_prefix(&prefix)?.strip_suffix("/Packages")).filter(|arch| !arch.contains('/')).collect();
    let mut text = String::new();
    let _ = write!(
        text,
        "Origin: {origin}\nLabel: {origin}\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {}\n{}Acquire-By-Hash: yes\nArchitectures: {}\n\
         Components: {COMPONENT}\nDescription: packages of {origin}\nSHA256:\n",
        date::release(date),
        valid_until.map(|until| format!("Valid-Until: {}\n", date::release(until))).unwrap_or_default(),
        architectures.join(" "),
    );
    for (path, file) in files {
        let _ = writeln!(text, " {} {:>12} {path}", file.sha256, file.size);
    }
    text
}

/// A client file in deb822 form, ready for `/etc/apt/sources.list.d/`, with the key in it.
/// `base_url` is the server (`http://host:port`), `prefix` a channel or `@<snapshot>`. `has_sources` says whether that
/// has an index of sources: `deb-src` without one is an error to apt.
pub fn sources_file(base_url: &str, prefix: &str, has_sources: bool, public_key: &str) -> String {
    sources_text(&format!("{}/{prefix}", base_url.trim_end_matches('/')), has_sources, public_key)
}

/// The same for the folder at this URL.
pub(crate) fn sources_text(url: &str, has_sources: bool, public_key: &str) -> String {
    let types = if has_sources { "deb deb-src" } else { "deb" };
    let mut text = format!("Types: {types}\nURIs: {url}/\nSuites: {SUITE}\nComponents: {COMPONENT}\nSigned-By:\n");
    // In deb822 an empty line ends the paragraph; a dot stands for one.
    for line in public_key.trim_end().lines() {
        let _ = writeln!(text, " {}", if line.trim().is_empty() { "." } else { line.trim_end() });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::{Made, assemble, unpack};
    use crate::catalog::Catalog;
    use crate::disk;
    use twostage_model::PackageId;
    use twostage_model::error::OrFail as _;

    fn package(kind: Kind, name: &str, arch: &str, control: &str) -> Arc<PoolPackage> {
        Arc::new(PoolPackage {
            kind,
            id: PackageId { name: name.into(), version: "1:1.0-1".into(), arch: arch.into() },
            size: 4,
            sha256: Sha256::of(name.as_bytes()),
            date: 0,
            source: name.into(),
            control: control.into(),
            files: vec![],
            rpm: None,
            notes: vec![],
        })
    }

    /// The index files of packages, made as a publish makes them.
    fn indexes(packages: &[Arc<PoolPackage>], architectures: &[String]) -> Result<BTreeMap<String, Vec<u8>>> {
        let dir = tempfile::TempDir::new().or_fail(Class::System, || "no folder".into())?;
        let (scratch, catalog) = (disk::Scratch::open(dir.path())?, Catalog::new(dir.path()));
        let add = |package: &Arc<PoolPackage>| catalog.add(&scratch, package, &paragraph_checked(package)?);
        let entries: Vec<Arc<Entry>> = packages.iter().map(add).collect::<Result<_>>()?;
        let packs = catalog.packs_made(&scratch)?;
        let mut files = BTreeMap::new();
        for (path, outline) in outlines(&entries, architectures) {
            let Made::New { plain, packed, .. } = assemble(&outline, &packs, &PACKINGS, None)? else { continue };
            for (packing, (body, _)) in PACKINGS.iter().zip(packed) {
                let text = unpack(*packing, &body, plain.1).filter(|text| Sha256::of(text) == plain.0);
                files.insert(path.clone(), text.ok_or_else(|| Error::new(Class::System, "it does not unpack to its text"))?);
                files.insert(format!("{path}{}", packing.ending()), body.to_vec());
            }
        }
        Ok(files)
    }

    #[test]
    fn a_package_cannot_state_its_own_place_or_digest() {
        let control = "Package: liar\nVersion: 1:1.0-1\nArchitecture: all\nsha256: 00\nFILENAME: pool/evil\n continued\nSize : 1\nDescription: a\n b\n";
        let files = indexes(&[package(Kind::Deb, "liar", "all", control)], &["amd64".into()]).unwrap_or_default();
        let text = String::from_utf8_lossy(&files["main/binary-amd64/Packages"]).into_owned();
        let digest = Sha256::of(b"liar").to_string();
        assert_eq!(
            text,
            format!(
                "Package: liar\nVersion: 1:1.0-1\nArchitecture: all\nDescription: a\n b\n\
                 Filename: pool/{}/{digest}/liar_1%3a1.0-1_all.deb\nSize: 4\nSHA256: {digest}\n\n",
                &digest[..2]
            )
        );
    }

    #[test]
    fn packages_of_the_installer_are_in_indexes_of_their_own() {
        let packages = [
            package(Kind::Deb, "aa", "all", "Package: aa\n"),
            package(Kind::Udeb, "bb", "arm64", "Package: bb\n"),
            package(Kind::Udeb, "cc", "all", "Package: cc\n"),
        ];
        let files = indexes(&packages, &["amd64".into()]).unwrap_or_default();
        let text = |path: &str| String::from_utf8_lossy(&files[path]).into_owned();
        assert!(!text("main/binary-arm64/Packages").contains("bb"));
        let ours = text("main/debian-installer/binary-arm64/Packages");
        assert!(ours.contains("/bb_1%3a1.0-1_arm64.udeb\n") && ours.contains("Package: cc") && !ours.contains("aa"), "{ours}");
        assert!(text("main/debian-installer/binary-amd64/Packages").starts_with("Package: cc\n"));
        let listed: BTreeMap<_, _> = files.keys().map(|path| (path.clone(), Listed { sha256: Sha256::of(b""), size: 0 })).collect();
        assert!(release("demo", 0, None, &listed).contains("\nArchitectures: amd64 arm64\n"));
        assert_eq!(indexes(&packages[..1], &["amd64".into()]).unwrap_or_default().len(), 3, "none where there are none");
    }

    #[test]
    fn a_paragraph_that_apt_cannot_hold_is_refused_with_the_limit() {
        let deb = |size: usize| package(Kind::Deb, "aa", "all", &format!("Package: aa\nX: {}\n", "x".repeat(size)));
        assert!(paragraph_checked(&deb(MAX_PARAGRAPH - 1000)).is_ok());
        let refused = paragraph_checked(&deb(MAX_PARAGRAPH)).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|text| text.contains("apt reads paragraphs below 1 MiB (1048576 bytes)")));
        let mut source = (*package(Kind::Source, "cc", "source", "Source: cc\n")).clone();
        let file = crate::PoolFile { name: "f".repeat(200), size: 1, sha256: Sha256::of(b"f") };
        source.files = vec![file; 4000];
        assert!(paragraph_checked(&source).is_err(), "a list of files is in it, too");
    }

    #[test]
    fn an_architecture_is_listed_when_a_package_or_the_host_has_it() {
        let packages = [
            package(Kind::Deb, "aa", "all", "Package: aa\n"),
            package(Kind::Deb, "bb", "arm64", "Package: bb\n"),
            package(Kind::Source, "cc", "source", "Source: cc\n"),
        ];
        let files = indexes(&packages, &["amd64".into()]).unwrap_or_default();
        let listed: BTreeMap<_, _> =
            files.iter().map(|(path, body)| (path.clone(), Listed { sha256: Sha256::of(body), size: body.len() as u64 })).collect();
        let text = release("demo", 1_767_413_106, None, &listed);
        assert!(text.contains("\nArchitectures: amd64 arm64\n"), "{text}");
        assert!(text.contains("\nDate: Sat, 03 Jan 2026 04:05:06 UTC\n"), "{text}");
        assert_eq!(files.len(), 9, "two architectures and the sources, three files each");
        assert!(!text.lines().any(|line| line.ends_with(' ')), "cleartext signatures do not cover blanks at line ends");
        assert!(String::from_utf8_lossy(&files["main/binary-amd64/Packages"]).starts_with("Package: aa\n"));
        assert_eq!(files, indexes(&packages, &["amd64".into()]).unwrap_or_default(), "rendered twice, the same bytes");
        assert_eq!(text, release("demo", 1_767_413_106, None, &listed));
        let ends = release("demo", 1_767_413_106, Some(1_767_413_107), &listed);
        assert_eq!(ends, text.replace("04:05:06 UTC\n", "04:05:06 UTC\nValid-Until: Sat, 03 Jan 2026 04:05:07 UTC\n"));
    }

    #[test]
    fn a_client_file_carries_the_key_without_empty_lines() {
        let key = "-----BEGIN-----\n\nAAAA\n-----END-----\n";
        let text = sources_file("http://127.0.0.1:80/", "main", false, key);
        assert_eq!(sources_file("http://127.0.0.1:80/", "main", true, key), text.replace("Types: deb\n", "Types: deb deb-src\n"));
        assert_eq!(
            text,
            "Types: deb\nURIs: http://127.0.0.1:80/main/\nSuites: twostage\nComponents: main\nSigned-By:\n \
             -----BEGIN-----\n .\n AAAA\n -----END-----\n"
        );
    }
}

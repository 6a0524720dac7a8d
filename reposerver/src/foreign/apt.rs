//! An apt repository's `Release` and `Packages`.
//!
//! ```text
//! Suite: stable                              Package: greet
//! Components: main contrib                   Version: 1.0-1
//! Valid-Until: Sat, 03 Jan 2026 04:05:06 UTC Architecture: amd64
//! SHA256:                                    Filename: pool/main/g/greet/greet_1.0-1_amd64.deb
//!  5f2c… 1234 main/binary-amd64/Packages.xz  Size: 1234
//!                                            SHA256: 77aa…
//! ```

use super::{Listed, ListedFile, MOST_PACKAGES, is_word, safe_path};
use crate::{Item, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read};
use twostage_model::error::OrFail as _;
use twostage_model::project::near_miss;
use twostage_model::{Class, Error, Result, Sha256, date};
use twostage_package::control::Control;
use twostage_package::deb::MAX_PARAGRAPH;

/// How an index may be packed, the one that is taken first in front.
const ENDINGS: [&str; 5] = [".xz", ".zst", ".gz", ".bz2", ""];
/// Pairs of a component and an architecture that are read of one suite: Debian's have some 50.
const MOST_PAIRS: usize = 1000;

/// What a `Release` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Suite`, `stable` for instance; empty where it has none.
    pub suite: String,
    /// `Codename`, `bookworm` for instance; empty where it has none.
    pub codename: String,
    /// Its components, in its order.
    pub components: Vec<String>,
    /// Its architectures, in its order.
    pub architectures: Vec<String>,
    /// Until when clients may use it, in seconds since 1970.
    pub valid_until: Option<i64>,
    files: BTreeMap<String, (u64, Sha256)>,
}

impl Release {
    /// Reads one.
    ///
    /// # Errors
    /// It is no such text, or has no SHA-256 of its files: MD5 and SHA-1 can be forged.
    pub fn parse(text: &str) -> Result<Release> {
        let refused = |why: String| Error::new(Class::Repository, format!("its Release is not taken: {why}"));
        let control = Control::parse(text).map_err(|cause| refused("it is no list of fields".into()).because(cause))?;
        let list = control.get("SHA256").ok_or_else(|| {
            let others: Vec<&str> = ["SHA512", "SHA1", "MD5Sum"].into_iter().filter(|name| control.get(name).is_some()).collect();
            let has = if others.is_empty() { "no digests".into() } else { format!("only {} of them", others.join(" and ")) };
            refused(format!("it has no SHA-256 of its files, and {has}"))
                .hint("have it made by a program of today; a folder of its packages can be named as the source instead")
        })?;
        let mut files = BTreeMap::new();
        for line in list.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [digest, size, path] = words.as_slice() else { return Err(refused(format!("the line {line:?} of SHA256 is none"))) };
            let (Ok(digest), Ok(size)) = (digest.parse(), size.parse()) else {
                return Err(refused(format!("the line {line:?} of SHA256 is none")));
            };
            // What leads out is nobody's index.
            if safe_path(path).is_ok_and(|plain| plain == path.trim_start_matches("./")) {
                files.insert(path.trim_start_matches("./").to_string(), (size, digest));
            }
        }
        let words = |name: &str| control.get(name).unwrap_or_default().split_ascii_whitespace().map(String::from).collect::<Vec<_>>();
        let word = |name: &str| control.get(name).unwrap_or_default().to_string();
        let valid_until = match control.get("Valid-Until") {
            None => None,
            Some(text) => Some(date::parse_http(text).ok_or_else(|| refused(format!("its Valid-Until is {text:?}, which is no date")))?),
        };
        let components = words("Components");
        if let Some(bad) = components.iter().find(|component| safe_path(component).is_err()) {
            return Err(refused(format!("{bad:?} is no component")));
        }
        Ok(Release {
            suite: word("Suite"),
            codename: word("Codename"),
            components,
            architectures: words("Architectures"),
            valid_until,
            files,
        })
    }

    /// The indexes of these components and architectures, each in the form that is smallest to fetch; of all where none is named.
    ///
    /// # Errors
    /// It has no such component or architecture, no index, or more pairs of both than are read.
    pub fn indexes(&self, components: &[String], architectures: &[String]) -> Result<Vec<ListedFile>> {
        self.check(components, &self.components, "component")?;
        // (`all` is in the indexes of the others, and in some repositories has one besides.)
        let named: Vec<String> = architectures.iter().filter(|name| *name != "all").cloned().collect();
        self.check(&named, &self.architectures, "architecture")?;
        // However often one stands there, it is read once.
        let components = once(if components.is_empty() { &self.components } else { components });
        let mut wanted = once(if named.is_empty() { &self.architectures } else { &named });
        if !wanted.contains(&"all") {
            wanted.push("all");
        }
        let pairs = components.len().saturating_mul(wanted.len());
        if pairs > MOST_PAIRS {
            let why = format!("its Release names {pairs} pairs of a component and an architecture, and at most {MOST_PAIRS} are read");
            return Err(Error::new(Class::Repository, why).hint("name those that you want with --component and --arch"));
        }
        let stems = components.iter().flat_map(|component| wanted.iter().map(move |arch| format!("{component}/binary-{arch}/Packages")));
        let indexes: Vec<ListedFile> = stems.filter_map(|stem| self.index(&stem)).collect();
        if indexes.is_empty() {
            let there: Vec<&str> = self.files.keys().filter(|path| path.contains("Packages")).map(String::as_str).take(5).collect();
            let there = if there.is_empty() { "it lists no Packages at all".into() } else { format!("it lists {}", there.join(", ")) };
            return Err(Error::new(Class::Repository, "its Release names no index of packages")
                .because(there)
                .hint("a repository whose Packages lie beside its Release is named by a suite with a slash at its end: `--suite ./`"));
        }
        Ok(indexes)
    }

    /// The index of a flat repository, whose `Packages` lies beside its `Release`.
    ///
    /// # Errors
    /// It lists none.
    pub fn flat_index(&self) -> Result<ListedFile> {
        self.index("Packages").ok_or_else(|| {
            Error::new(Class::Repository, "its Release names no Packages beside it").hint("name a suite without a slash at its end")
        })
    }

    fn index(&self, stem: &str) -> Option<ListedFile> {
        let (path, (size, sha256)) = ENDINGS.iter().find_map(|ending| self.files.get_key_value(&format!("{stem}{ending}")))?;
        Some(ListedFile { path: path.clone(), size: Some(*size), sha256: *sha256 })
    }

    fn check(&self, asked: &[String], there: &[String], what: &str) -> Result<()> {
        // An old or a hand-made one may not say what it has.
        let Some(missing) = asked.iter().find(|name| !there.is_empty() && !there.contains(name)) else { return Ok(()) };
        let hint = near_miss(missing, there.iter().map(String::as_str)).unwrap_or_else(|| format!("it has {}", there.join(", ")));
        Err(Error::new(Class::Usage, format!("the suite {} has no {what} {missing}", self.name())).hint(hint))
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        if self.codename.is_empty() { &self.suite } else { &self.codename }
    }
}

/// Names in the order in which they stand there, each once.
fn once(names: &[String]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    names.iter().map(String::as_str).filter(|name| seen.insert(*name)).collect()
}

/// Reads `Packages`, unpacked, and hands on each package. `count` is how many were read before, and becomes how many are read then:
/// the most that are read are those of all indexes together.
///
/// # Errors
/// It cannot be read or unpacked, a paragraph is none, has no SHA-256, or names a file that is not below the repository; there are
/// too many; and what `each` says.
pub fn packages(input: &mut dyn Read, count: &mut usize, mut each: impl FnMut(Listed) -> Result<()>) -> Result<()> {
    let mut input = BufReader::with_capacity(256 << 10, input);
    let (mut paragraph, mut number) = (Vec::new(), 0);
    loop {
        let from = paragraph.len();
        let room = (MAX_PARAGRAPH - from) as u64;
        let read = input.by_ref().take(room).read_until(b'\n', &mut paragraph).or_fail(Class::Repository, unreadable)?;
        let line = paragraph.get(from..).unwrap_or_default();
        let ends = read == 0 || line.iter().all(u8::is_ascii_whitespace);
        if paragraph.len() >= MAX_PARAGRAPH {
            return Err(refused(number, "a paragraph of 1 MiB, which no client reads"));
        }
        number += 1;
        if !ends {
            continue;
        }
        if !paragraph.iter().all(u8::is_ascii_whitespace) {
            *count += 1;
            if *count > MOST_PACKAGES {
                return Err(refused(number, "more packages than anybody has"));
            }
            each(listed(&paragraph).map_err(|why| refused(number, &why))?)?;
        }
        paragraph.clear();
        if read == 0 {
            return Ok(());
        }
    }
}

fn unreadable() -> String {
    "an index of packages cannot be read".to_string()
}

fn refused(number: usize, why: &str) -> Error {
    Error::new(Class::Repository, format!("an index of packages is not taken: the paragraph that ends with line {number} is wrong"))
        .because(why.to_string())
        .hint("have the index made anew; a folder of the packages themselves can be named as the source instead")
}

/// The fields of a paragraph that say which file is meant.
fn listed(paragraph: &[u8]) -> Result<Listed, String> {
    const FIELDS: [&str; 7] = ["Package", "Version", "Architecture", "Filename", "Size", "SHA256", "Package-Type"];
    let mut found: [Option<&str>; 7] = [None; 7];
    for line in paragraph.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t")) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let Some(place) = FIELDS.iter().position(|field| field.as_bytes().eq_ignore_ascii_case(name)) else { continue };
        let value = std::str::from_utf8(&value[1..]).map_err(|_| format!("its field {} is not UTF-8", FIELDS[place]))?.trim();
        if found[place].replace(value).is_some() {
            return Err(format!("it has the field {} twice", FIELDS[place]));
        }
    }
    let field = |place: usize| found[place].ok_or_else(|| format!("it has no field {}", FIELDS[place]));
    let word =
        |place: usize| field(place).and_then(|text| if is_word(text) { Ok(text) } else { Err(format!("its {} is none", FIELDS[place])) });
    let (name, version, arch) = (word(0)?, word(1)?, word(2)?);
    let path = safe_path(field(3)?)?;
    let size: u64 = field(4)?.parse().map_err(|_| "its Size is no number".to_string())?;
    let sha256: Sha256 = match found[5] {
        Some(digest) => digest.parse().map_err(|error: Error| error.to_string())?,
        None => return Err(format!("{name} has no SHA256: MD5 and SHA-1 can be forged")),
    };
    let is_udeb = found[6] == Some("udeb") || path.ends_with(".udeb");
    let item = Item::unknown(sha256).called(name, version, arch).of_kind(if is_udeb { Kind::Udeb } else { Kind::Deb }, size);
    Ok(Listed { item, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(more: &str) -> Result<Release> {
        Release::parse(&format!(
            "Suite: stable\nCodename: bookworm\nComponents: main contrib\nArchitectures: amd64 arm64\n{more}SHA256:\n \
             {DIGEST} 10 main/binary-amd64/Packages\n {DIGEST} 5 main/binary-amd64/Packages.xz\n {DIGEST} 6 main/binary-amd64/Packages.gz\n \
             {DIGEST} 7 contrib/binary-arm64/Packages.gz\n {DIGEST} 9 ../../etc/passwd\n {DIGEST} 8 Packages.gz\n"
        ))
    }

    fn paths(files: Result<Vec<ListedFile>>) -> Vec<String> {
        files.map(|files| files.into_iter().map(|file| file.path).collect()).unwrap_or_else(|error| vec![error.to_string()])
    }

    #[test]
    fn the_indexes_that_are_asked_for_are_found() {
        let found = release("").expect("a Release");
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(paths(found.indexes(&[], &[])), ["main/binary-amd64/Packages.xz", "contrib/binary-arm64/Packages.gz"]);
        assert_eq!(paths(found.indexes(&owned(&["contrib"]), &[])), ["contrib/binary-arm64/Packages.gz"]);
        assert_eq!(paths(found.indexes(&[], &owned(&["amd64", "all"]))), ["main/binary-amd64/Packages.xz"]);
        assert_eq!(paths(found.indexes(&owned(&["man"]), &[])), ["the suite bookworm has no component man"]);
        assert_eq!(paths(found.indexes(&[], &owned(&["riscv64"]))), ["the suite bookworm has no architecture riscv64"]);
        assert_eq!(found.flat_index().map(|file| (file.path, file.size)).ok(), Some(("Packages.gz".into(), Some(8))));
        assert!(!found.files.keys().any(|path| path.contains("etc")), "no index is outside");
    }

    #[test]
    fn an_index_is_read_once_however_often_it_is_named() {
        let of = |components: &str, architectures: &str| {
            Release::parse(&format!(
                "Suite: x\nComponents: {components}\nArchitectures: {architectures}\nSHA256:\n {DIGEST} 1 main/binary-amd64/Packages\n \
                 {DIGEST} 1 main/binary-all/Packages\n"
            ))
            .expect("a Release")
        };
        let found = of("main main main", "amd64 all amd64 all");
        let both = ["main/binary-amd64/Packages", "main/binary-all/Packages"];
        assert_eq!(paths(found.indexes(&[], &[])), both);
        let twice = |word: &str| vec![word.to_string(); 2];
        assert_eq!(paths(found.indexes(&twice("main"), &twice("amd64"))), both);

        let many = |count: usize| (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(" ");
        let error = of(&format!("main {}", many(500)), "amd64").indexes(&[], &[]).unwrap_err();
        assert_eq!(error.to_string(), "its Release names 1002 pairs of a component and an architecture, and at most 1000 are read");
        assert_eq!(paths(of(&format!("main {}", many(499)), "amd64").indexes(&[], &[])), both);
        assert_eq!(paths(of(&format!("main {}", many(5000)), "amd64").indexes(&["main".into()], &[])), both);
    }

    #[test]
    fn packages_are_counted_over_all_indexes() {
        let text = paragraph(&format!("Filename: a.deb\nSize: 1\nSHA256: {DIGEST}\n"));
        let mut count = MOST_PACKAGES - 1;
        assert!(packages(&mut text.as_bytes(), &mut count, |_| Ok(())).is_ok());
        let error = packages(&mut text.as_bytes(), &mut count, |_| Ok(())).unwrap_err();
        assert_eq!(error.causes(), ["more packages than anybody has"]);
    }

    #[test]
    fn digests_that_can_be_forged_are_none() {
        let weak = format!("Suite: x\nMD5Sum:\n {DIGEST} 1 main/binary-amd64/Packages\nSHA1:\n x 1 y\n");
        assert!(
            Release::parse(&weak).unwrap_err().to_string().ends_with("it has no SHA-256 of its files, and only SHA1 and MD5Sum of them")
        );
        for (text, why) in [
            ("SHA256:\n x 1 y\n", "is none"),
            ("SHA256:\n x\n", "is none"),
            ("", "no SHA-256"),
            ("x\n", "no list of fields"),
            ("Valid-Until: soon\nSHA256:\n", "no date"),
            ("Components: ../../x\nSHA256:\n", "is no component"),
        ] {
            let error = Release::parse(&format!("Suite: x\n{text}")).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!(
            release("Valid-Until: Sat, 03 Jan 2026 04:05:06 UTC\n").map(|release| release.valid_until).ok(),
            Some(Some(1_767_413_106))
        );
    }

    fn read(text: &str) -> Result<Vec<Listed>, String> {
        let mut all = Vec::new();
        let done = packages(&mut text.as_bytes(), &mut 0, |listed| {
            all.push(listed);
            Ok(())
        });
        done.map(|()| all).map_err(|error| std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join("; "))
    }

    fn paragraph(more: &str) -> String {
        format!("Package: greet\nVersion: 1:1.0-1\nArchitecture: all\nDescription: x\n Filename: no\n{more}")
    }

    #[test]
    fn packages_are_read_one_by_one() {
        let whole = paragraph(&format!("Filename: ./pool/g/greet.deb\nSize: 12\nSHA256: {DIGEST}\n"));
        let all = read(&format!("\n{whole}\n\n{whole}Package-Type: udeb\n")).expect("two packages");
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].path.as_str(), all[0].item.size, all[0].item.version.as_str()), ("pool/g/greet.deb", 12, "1:1.0-1"));
        assert_eq!(all.iter().map(|listed| listed.item.kind).collect::<Vec<_>>(), [Some(Kind::Deb), Some(Kind::Udeb)]);
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read(whole.trim_end()).map(|all| all.len()), Ok(1), "the last line may have no end");
    }

    #[test]
    fn hostile_paragraphs_are_refused() {
        let digest = format!("SHA256: {DIGEST}\n");
        for (more, why) in [
            (format!("Filename: ../../etc/passwd\nSize: 1\n{digest}"), "leads out of the repository"),
            (format!("Filename: /etc/passwd\nSize: 1\n{digest}"), "absolute"),
            (format!("Filename: http://other/x.deb\nSize: 1\n{digest}"), "another server"),
            (format!("Filename: a\nFilename: b\nSize: 1\n{digest}"), "twice"),
            (format!("Filename: a\nSize: -1\n{digest}"), "no number"),
            ("Filename: a\nSize: 1\nMD5sum: 0\n".into(), "has no SHA256: MD5 and SHA-1 can be forged"),
            ("Filename: a\nSize: 1\nSHA256: 00\n".into(), "\"00\""),
            (format!("Size: 1\n{digest}"), "no field Filename"),
            (format!("Filename: {}\nSize: 1\n{digest}", "a".repeat(1 << 20)), "1 MiB"),
        ] {
            let said = read(&paragraph(&more)).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(read(&format!("Package: a b\nVersion: 1\nArchitecture: all\nFilename: a\nSize: 1\n{digest}")).is_err());
    }
}

//! A yum repository's `repomd.xml` and `primary.xml`.
//!
//! ```text
//! <repomd><data type="primary">                     <package type="rpm">
//!   <checksum type="sha256">5f2c…</checksum>          <name>greet</name><arch>x86_64</arch>
//!   <location href="repodata/5f2c…-primary.xml.gz"/>  <version epoch="0" ver="1.0" rel="1"/>
//!   <size>1234</size>                                 <checksum type="sha256" pkgid="YES">77aa…</checksum>
//! </data>…</repomd>                                   <size package="1234"/><location href="greet-1.0-1.x86_64.rpm"/>
//! ```

use super::{Listed, ListedFile, MOST_PACKAGES, is_word, safe_path};
use crate::{Extra, Item, Kind};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::Read;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

/// Bytes of one package in `primary.xml`: of a kernel's development files they are some 200,000.
const MOST_PACKAGE: usize = 16 << 20;
/// Elements in each other: there are five.
const MOST_DEPTH: usize = 50;
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// What `repomd.xml` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repomd {
    /// The list of packages.
    pub primary: ListedFile,
    /// What clients are told beside the packages.
    pub extras: Vec<(Extra, ListedFile)>,
}

impl Repomd {
    /// Reads one.
    ///
    /// # Errors
    /// It is no such text, names no list of packages, or has no SHA-256 of it.
    pub fn parse(text: &str) -> Result<Repomd> {
        let refused = |why: String| Error::new(Class::Repository, format!("its repomd.xml is not taken: {why}"));
        let (mut primary, mut extras) = (None, Vec::new());
        let (mut kind, mut data) = (String::new(), Fields::default());
        walk(text, |step| {
            match step {
                Step::Start(["repomd", "data"], element) => {
                    (kind, data) = (attribute(element, "type")?.unwrap_or_default(), Fields::default());
                }
                Step::Start(["repomd", "data", "checksum"], element) => data.checksum = attribute(element, "type")?,
                Step::Start(["repomd", "data", "location"], element) => data.locate(element)?,
                Step::Text(["repomd", "data", "checksum"], text) => data.digest.push_str(text),
                Step::Text(["repomd", "data", "size"], text) => data.size.push_str(text),
                Step::End(["repomd", "data"]) => match kind.as_str() {
                    "primary" => primary = Some(data.file()?),
                    "group" => extras.push((Extra::Group, data.file()?)),
                    "updateinfo" => extras.push((Extra::UpdateInfo, data.file()?)),
                    "modules" => extras.push((Extra::Modules, data.file()?)),
                    // (Databases, file lists, other forms of the same: nothing that is needed here.)
                    _ => {}
                },
                _ => {}
            }
            Ok(())
        })
        .map_err(refused)?;
        let primary = primary.ok_or_else(|| refused("it names no list of packages".into()))?;
        Ok(Repomd { primary, extras })
    }
}

/// Reads `primary.xml`, unpacked, and hands on each package.
///
/// # Errors
/// It cannot be read or unpacked, is no such text, a package has no SHA-256, or its file is not below the repository; and what
/// `each` says.
pub fn packages(input: &mut dyn Read, mut each: impl FnMut(Listed) -> Result<()>) -> Result<()> {
    const END: &[u8] = b"</package>";
    let refused = |why: String| {
        Error::new(Class::Repository, "a list of packages (primary.xml) is not taken")
            .because(why)
            .hint("have it made anew by createrepo_c; a folder of the packages themselves can be named as the source instead")
    };
    let too_large = || refused(format!("a package of it has more than {} MiB", MOST_PACKAGE >> 20));
    let (mut held, mut from, mut looked, mut count) = (Vec::new(), 0, 0, 0);
    loop {
        let rest = held.get(looked..).unwrap_or_default();
        if let Some(at) = find(rest, END) {
            let end = looked + at + END.len();
            if end - from > MOST_PACKAGE {
                return Err(too_large());
            }
            let text = std::str::from_utf8(held.get(from..end).unwrap_or_default()).map_err(|_| refused("it is not UTF-8".into()))?;
            let start = text.find("<package").ok_or_else(|| refused("a package has an end and no start".into()))?;
            count += 1;
            if count > MOST_PACKAGES {
                return Err(refused("it has more packages than anybody has".into()));
            }
            if let Some(listed) = listed(text.get(start..).unwrap_or_default()).map_err(refused)? {
                each(listed)?;
            }
            (from, looked) = (end, end);
            continue;
        }
        if held.len() - from > MOST_PACKAGE {
            return Err(too_large());
        }
        held.drain(..from);
        (looked, from) = (held.len().saturating_sub(END.len()), 0);
        let got = input
            .take(CHUNK as u64)
            .read_to_end(&mut held)
            .or_fail(Class::Repository, || "a list of packages (primary.xml) cannot be read".to_string())?;
        if got == 0 {
            return match find(&held, b"</metadata>").is_some() || (count == 0 && find(&held, b"<metadata").is_some()) {
                true => Ok(()),
                false => Err(refused("it is cut off".into())),
            };
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        if bytes.get(from + at..)?.starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// What is said of one file.
#[derive(Default)]
struct Fields {
    checksum: Option<String>,
    digest: String,
    size: String,
    path: Option<String>,
}

impl Fields {
    fn locate(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        if let Some(base) = attribute(element, "xml:base")?.filter(|base| !base.is_empty()) {
            return Err(format!("a file of it is elsewhere, at {:?}: import from there", base.chars().take(120).collect::<String>()));
        }
        self.path = attribute(element, "href")?;
        Ok(())
    }

    fn sha256(&self) -> Result<Sha256, String> {
        match self.checksum.as_deref() {
            Some("sha256") => self.digest.trim().parse().map_err(|error: Error| error.to_string()),
            other => Err(format!(
                "its digests are {}, and SHA-256 is needed: `createrepo_c --checksum sha256` makes it",
                other.unwrap_or("none")
            )),
        }
    }

    fn file(&self) -> Result<ListedFile, String> {
        let size = match self.size.trim() {
            "" => None,
            size => Some(size.parse().map_err(|_| "a size of it is no number".to_string())?),
        };
        Ok(ListedFile { path: safe_path(self.path.as_deref().unwrap_or_default())?, size, sha256: self.sha256()? })
    }
}

/// One `<package>`; nothing where it is of a kind that is no rpm.
fn listed(text: &str) -> Result<Option<Listed>, String> {
    let (mut name, mut arch, mut kind, mut evr) = (String::new(), String::new(), None, None);
    let mut fields = Fields::default();
    walk(text, |step| {
        match step {
            Step::Start(["package"], element) => kind = attribute(element, "type")?,
            Step::Start(["package", "version"], element) => {
                let [epoch, version, release] = ["epoch", "ver", "rel"].map(|name| attribute(element, name));
                let (version, release) = (version?.unwrap_or_default(), release?.unwrap_or_default());
                evr = Some(match epoch?.as_deref() {
                    None | Some("" | "0") => format!("{version}-{release}"),
                    Some(epoch) => format!("{epoch}:{version}-{release}"),
                });
            }
            Step::Start(["package", "checksum"], element) => fields.checksum = attribute(element, "type")?,
            Step::Start(["package", "size"], element) => fields.size = attribute(element, "package")?.unwrap_or_default(),
            Step::Start(["package", "location"], element) => fields.locate(element)?,
            Step::Text(["package", "name"], text) => name.push_str(text),
            Step::Text(["package", "arch"], text) => arch.push_str(text),
            Step::Text(["package", "checksum"], text) => fields.digest.push_str(text),
            _ => {}
        }
        Ok(())
    })?;
    if kind.as_deref() != Some("rpm") {
        return Ok(None);
    }
    let shown = |why: String| format!("{}: {why}", if is_word(&name) { &name } else { "a package" });
    let evr = evr.unwrap_or_default();
    if !is_word(&name) || !is_word(&arch) || !is_word(&evr) {
        return Err(shown("its name, version or architecture is none".into()));
    }
    let file = fields.file().map_err(shown)?;
    let size = file.size.ok_or_else(|| shown("it has no size".into()))?;
    let kind = if ["src", "nosrc"].contains(&arch.as_str()) { Kind::SourceRpm } else { Kind::Rpm };
    Ok(Some(Listed { item: Item::unknown(file.sha256).called(&name, &evr, &arch).of_kind(kind, size), path: file.path }))
}

/// What there is on the way through a text, with the names of the elements that it is in.
enum Step<'a, 'e> {
    Start(&'a [&'a str], &'a BytesStart<'e>),
    Text(&'a [&'a str], &'a str),
    End(&'a [&'a str]),
}

/// Goes through a text of a known, small size.
fn walk(text: &str, mut each: impl FnMut(Step<'_, '_>) -> Result<(), String>) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let mut names: Vec<String> = Vec::new();
    loop {
        let wrong = |error: &dyn std::fmt::Display| format!("it is not well-formed: {error}");
        let event = reader.read_event().map_err(|error| wrong(&error))?;
        let is_empty = matches!(event, Event::Empty(_));
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                names.push(String::from_utf8_lossy(element.name().as_ref()).into_owned());
                if names.len() > MOST_DEPTH {
                    return Err(format!("more than {MOST_DEPTH} elements are in each other"));
                }
                let path: Vec<&str> = names.iter().map(String::as_str).collect();
                each(Step::Start(&path, element))?;
                if is_empty {
                    each(Step::End(&path))?;
                    names.pop();
                }
            }
            Event::End(_) => {
                let path: Vec<&str> = names.iter().map(String::as_str).collect();
                each(Step::End(&path))?;
                names.pop();
            }
            Event::Text(words) => {
                let plain = words.unescape().map_err(|error| wrong(&error))?;
                let path: Vec<&str> = names.iter().map(String::as_str).collect();
                each(Step::Text(&path, &plain))?;
            }
            Event::DocType(_) => return Err("it has a document type, and could name entities in it".into()),
            Event::Eof if names.is_empty() => return Ok(()),
            Event::Eof => return Err("it is cut off".into()),
            _ => {}
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| format!("it is not well-formed: {error}"))?;
        if attribute.key.as_ref() == name.as_bytes() {
            return attribute.unescape_value().map(|value| Some(value.into_owned())).map_err(|error| error.to_string());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn data(kind: &str, checksum: &str, href: &str) -> String {
        format!(
            "<data type=\"{kind}\"><checksum type=\"{checksum}\">{DIGEST}</checksum><open-checksum type=\"md5\">x</open-checksum>\
             <location href=\"{href}\"/><timestamp>1</timestamp><size>12</size><open-size>99</open-size></data>\n"
        )
    }

    fn repomd(data: &str) -> Result<Repomd> {
        Repomd::parse(&format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\n<revision>1</revision>\n{data}</repomd>\n"
        ))
    }

    #[test]
    fn what_is_needed_of_a_repomd_is_read() {
        let all = [
            data("primary", "sha256", "repodata/a-primary.xml.gz"),
            data("primary_db", "sha", "/odd"),
            data("updateinfo", "sha256", "repodata/u.xml.xz"),
            data("group", "sha256", "repodata/comps.xml"),
        ];
        let found = repomd(&all.concat()).expect("a repomd.xml");
        assert_eq!((found.primary.path.as_str(), found.primary.size), ("repodata/a-primary.xml.gz", Some(12)));
        assert_eq!(found.extras.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Extra::UpdateInfo, Extra::Group]);
        for (bad, why) in [
            (String::new(), "names no list of packages"),
            (data("primary", "sha", "a"), "its digests are sha, and SHA-256 is needed"),
            (data("primary", "md5", "a"), "its digests are md5, and SHA-256 is needed"),
            (data("primary", "sha256", "../../etc/passwd"), "leads out"),
            (data("primary", "sha256", "http://h/x"), "another server"),
            (data("primary", "sha256", "a").replace("href", "xml:base=\"http://other/\" href"), "elsewhere, at \"http://other/\""),
            ("<a>".repeat(100), "in each other"),
            ("<data".into(), "cut off"),
        ] {
            let said = repomd(&bad).unwrap_err().to_string();
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(Repomd::parse("<!DOCTYPE x [<!ENTITY a 'b'>]><repomd/>").is_err());
    }

    fn package(more: &str) -> String {
        format!(
            "<package type=\"rpm\"><name>greet</name><arch>x86_64</arch><version epoch=\"1\" ver=\"1.0\" rel=\"2\"/>\
             <checksum type=\"sha256\" pkgid=\"YES\">{DIGEST}</checksum><summary>a &lt; b</summary><size package=\"12\" installed=\"9\"/>{more}\
             <format><rpm:provides><rpm:entry name=\"name\"/></rpm:provides><file>/x</file></format></package>\n"
        )
    }

    fn read(packages: &str, step: usize) -> Result<Vec<Listed>, String> {
        /// A reader that gives a few bytes at once.
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let most = self.1.min(buffer.len());
                self.0.read(&mut buffer[..most])
            }
        }
        let text = format!("<?xml version=\"1.0\"?>\n<metadata packages=\"2\">\n{packages}</metadata>\n");
        let mut all = Vec::new();
        let done = super::packages(&mut Slow(text.as_bytes(), step), |listed| {
            all.push(listed);
            Ok(())
        });
        done.map(|()| all).map_err(|error| error.causes().join("; "))
    }

    #[test]
    fn packages_are_read_one_by_one() {
        let location = "<location href=\"Packages/g/greet.rpm\"/>";
        let source = package(location).replace("x86_64", "src").replace("epoch=\"1\"", "epoch=\"0\"");
        let text = [package(location), source, package(location).replace("type=\"rpm\"", "type=\"other\"")].concat();
        for step in [7, 100, 1 << 20] {
            let all = read(&text, step).expect("packages");
            let shown: Vec<String> =
                all.iter().map(|listed| format!("{} {:?} {}", listed.item.shown(), listed.item.kind, listed.path)).collect();
            assert_eq!(
                shown,
                ["greet 1:1.0-2 x86_64 Some(Rpm) Packages/g/greet.rpm", "greet 1.0-2 src Some(SourceRpm) Packages/g/greet.rpm"]
            );
        }
        assert_eq!(read("", 100), Ok(Vec::new()));
    }

    #[test]
    fn hostile_packages_are_refused() {
        for (more, why) in [
            ("<location href=\"../../etc/passwd\"/>", "leads out"),
            ("<location href=\"/etc/passwd\"/>", "absolute"),
            ("<location href=\"file:///etc/passwd\"/>", "another server"),
            ("<location xml:base=\"http://127.0.0.1/\" href=\"x\"/>", "elsewhere"),
            ("", "no file"),
        ] {
            let said = read(&package(more), 100).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        let location = "<location href=\"x\"/>";
        for (from, to, why) in [
            ("\"sha256\"", "\"sha\"", "SHA-256 is needed"),
            ("package=\"12\"", "package=\"x\"", "no number"),
            ("package=\"12\" ", "", "no size"),
            ("greet", "gr eet", "is none"),
            ("&lt;", "&odd;", "well-formed"),
        ] {
            let said = read(&package(location).replace(from, to), 100).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(read(&package(&"x".repeat(MOST_PACKAGE + 1)), 1 << 20).unwrap_err().contains("MiB"));
        let cut = format!("<metadata>{}", package(location));
        assert_eq!(super::packages(&mut cut.as_bytes(), |_| Ok(())).unwrap_err().causes(), ["it is cut off"]);
    }
}

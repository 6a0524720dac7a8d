//! The lock, `twostage.lock`: what the project takes from the distribution, exactly.
//!
//! One line a package, so that a change reads well in a review:
//!
//! ```toml
//! version = 1
//!
//! [[base]]
//! name = "bootstrap debian:bookworm"
//! digest = "9f2c…"
//!
//! [[closure]]
//! of = "runtime:hello"
//! base = "9f2c…"
//! asked = ["libxml2", "own hello"]
//! own = ["hello"]
//! packages = [
//!   "libicu72 72.1-3 amd64 9376456 51a1… Debian:12.14/oldstable",
//! ]
//!
//! [[names]]
//! base = "9f2c…"
//! free = ["hello"]
//! taken = ["libsystemd0"]
//! ```
//!
//! The project's own packages are not in it: a snapshot is their record.

use crate::names::is_reference;
use crate::{Class, Error, PackageId, Result, Sha256};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

/// Bytes of a lock: one of 100,000 packages has 20 MB.
const MAX_BYTES: usize = 64 << 20;
/// Bytes of a name or an origin in it.
const MAX_TEXT: usize = 4096;
/// Bytes of a package or of a file of a source: sums of them stay in 64 bits.
const MAX_SIZE: u64 = 1 << 40;

/// The whole lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Base as the project file names it (`bootstrap debian:bookworm`) to what it is.
    pub bases: BTreeMap<String, LockedBase>,
    /// What a closure is of (`build:greet`, `runtime:hello`) to its packages.
    pub closures: BTreeMap<String, Closure>,
    /// Component name to the distribution's source package that it is built from.
    pub sources: BTreeMap<String, LockedSource>,
    /// By the digest of a base: which names that the project's packages claim are taken there, by a package of the base or
    /// of its distribution. A name that was never asked for is missing.
    pub names: BTreeMap<Sha256, BTreeMap<String, bool>>,
}

/// One base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedBase {
    /// The chain id of its layers (OCI image-spec, config.md: "Layer ChainID"); for a single layer
    /// that is the digest of its tar.
    pub digest: Sha256,
    /// What an engine can pull it by, if it came from a registry: `debian@sha256:…`.
    pub pull: Option<String>,
    /// Whether the project file leaves the release to the machine (`bootstrap = "host"`): on every
    /// other machine it is then this one.
    pub of_host: bool,
}

/// Packages of the distribution that something needs beyond its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// The base it was found on.
    pub base: Sha256,
    /// What was asked of the package manager. When this changes, the closure is stale.
    pub asked: Vec<String>,
    /// Names of the project's own packages in the answer. Their versions are the channel's affair.
    pub own: Vec<String>,
    /// The distribution's packages in the answer, in order of name.
    pub packages: Vec<LockedPackage>,
}

/// One package of a closure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedPackage {
    /// Name, version, architecture.
    pub id: PackageId,
    /// How many bytes the digest covers.
    pub size: u64,
    /// Digest of its bytes; of an rpm, of its header and payload, which a signature does not change.
    pub sha256: Sha256,
    /// Where the package manager found it: `Debian:12.14/oldstable`.
    pub origin: String,
}

/// The distribution's source package of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedSource {
    /// Source package name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Its files; one of them is the `.dsc`.
    pub files: BTreeMap<String, (u64, Sha256)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    base: Vec<BaseTable>,
    #[serde(default)]
    closure: Vec<ClosureTable>,
    #[serde(default)]
    source: Vec<SourceTable>,
    #[serde(default)]
    names: Vec<NamesTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesTable {
    base: Sha256,
    #[serde(default)]
    free: Vec<String>,
    #[serde(default)]
    taken: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseTable {
    name: String,
    digest: Sha256,
    pull: Option<String>,
    #[serde(default)]
    of_host: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClosureTable {
    of: String,
    base: Sha256,
    asked: Vec<String>,
    #[serde(default)]
    own: Vec<String>,
    packages: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    of: String,
    name: String,
    version: String,
    files: Vec<String>,
}

impl Lock {
    /// Reads the text of a lock; `file` is its name for messages.
    ///
    /// # Errors
    /// Class `Project`: not a lock, or one of a newer twostage.
    pub fn parse(text: &str, file: &str) -> Result<Lock> {
        let wrong = |what: String| {
            Error::new(Class::Project, format!("{file}: {what}"))
                .hint("take the lock from version control again, or delete it and run `twostage lock`")
        };
        if text.len() > MAX_BYTES {
            return Err(wrong(format!("it has more than {MAX_BYTES} bytes")));
        }
        let raw: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            wrong(format!("line {line}: {}", error.message()))
        })?;
        if raw.version != 1 {
            return Err(Error::new(Class::Project, format!("{file}: it has version {}, this twostage reads version 1", raw.version))
                .hint("use the twostage that wrote it, or a newer one"));
        }
        // What is in it is a word for engines and package managers later, and a line for people.
        let text = |what: &str, text: &str| match text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
            true => Ok(()),
            false => Err(wrong(format!("{:?} is no {what}", text.chars().take(80).collect::<String>()))),
        };
        // Of two that a merge left, or an attacker wrote, people read the first and programs take the last.
        let twice = |what: &str, of: &str| wrong(format!("{what} {of:?} is there twice"));
        let mut lock = Lock::default();
        for base in raw.base {
            text("name of a base", &base.name)?;
            if let Some(pull) = base.pull.as_ref().filter(|pull| !is_pinned(pull)) {
                return Err(wrong(format!("{pull:?} does not name an image by its digest")));
            }
            let locked = LockedBase { digest: base.digest, pull: base.pull, of_host: base.of_host };
            if lock.bases.insert(base.name.clone(), locked).is_some() {
                return Err(twice("the base", &base.name));
            }
        }
        for closure in raw.closure {
            text("name of a closure", &closure.of)?;
            closure.asked.iter().try_for_each(|asked| text("thing to ask for", asked))?;
            for own in &closure.own {
                any_id(own, "0-0", "noarch").map_err(|cause| wrong("a name in `own` of a closure is none".into()).because(cause))?;
            }
            let packages = closure
                .packages
                .iter()
                .map(|line| parse_package(line).ok_or_else(|| wrong(format!("{line:?} is not a locked package"))))
                .collect::<Result<Vec<_>>>()?;
            let mut ids = BTreeSet::new();
            if let Some(again) = packages.iter().find(|package| !ids.insert((&package.id.name, &package.id.version, &package.id.arch))) {
                return Err(twice("the package", &again.id.to_string()));
            }
            let locked = Closure { base: closure.base, asked: closure.asked, own: closure.own, packages };
            if lock.closures.insert(closure.of.clone(), locked).is_some() {
                return Err(twice("the closure", &closure.of));
            }
        }
        for source in raw.source {
            text("name of a source", &source.of)?;
            any_id(&source.name, &source.version, "source")
                .map_err(|cause| wrong("what a [[source]] names is none".into()).because(cause))?;
            let mut files = BTreeMap::new();
            for line in &source.files {
                let (name, file) = parse_file(line).ok_or_else(|| wrong(format!("{line:?} is not a file of a locked source")))?;
                if files.insert(name.clone(), file).is_some() {
                    return Err(twice("the file", &name));
                }
            }
            let locked = LockedSource { name: source.name, version: source.version, files };
            if lock.sources.insert(source.of.clone(), locked).is_some() {
                return Err(twice("the source of", &source.of));
            }
        }
        for table in raw.names {
            for name in table.free.iter().chain(&table.taken) {
                any_id(name, "0", "all").map_err(|cause| wrong("a name in [[names]] is none".into()).because(cause))?;
            }
            if lock.names.contains_key(&table.base) {
                return Err(twice("the table of names for the base", &table.base.to_string()));
            }
            let names = lock.names.entry(table.base).or_default();
            for (name, taken) in table.free.into_iter().map(|name| (name, false)).chain(table.taken.into_iter().map(|name| (name, true))) {
                if names.insert(name.clone(), taken).is_some() {
                    return Err(twice("the name", &name));
                }
            }
        }
        Ok(lock)
    }

    /// Every locked package by digest, once.
    pub fn packages(&self) -> BTreeMap<Sha256, &LockedPackage> {
        self.closures.values().flat_map(|closure| &closure.packages).map(|package| (package.sha256, package)).collect()
    }
}

/// A lock does not say which format its packages have; what it names is safe in either.
fn any_id(name: &str, version: &str, arch: &str) -> Result<PackageId> {
    PackageId::new(name, version, arch).or_else(|error| PackageId::rpm(name, version, arch).map_err(|_| error))
}

fn parse_package(line: &str) -> Option<LockedPackage> {
    let mut words = line.splitn(6, ' ');
    let (name, version, arch) = (words.next()?, words.next()?, words.next()?);
    Some(LockedPackage {
        id: any_id(name, version, arch).ok()?,
        size: words.next().and_then(parse_size)?,
        sha256: words.next()?.parse().ok()?,
        origin: words.next().filter(|origin| origin.len() <= MAX_TEXT && !origin.chars().any(char::is_control))?.to_string(),
    })
}

/// A size as it is written here: digits, and no other way to write the same.
fn parse_size(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|size| *size <= MAX_SIZE && size.to_string() == text)
}

/// `debian@sha256:…`: what an engine pulls by this name cannot be another image.
fn is_pinned(reference: &str) -> bool {
    let digest = reference.split_once("@sha256:").map(|(_, digest)| digest);
    is_reference(reference) && digest.is_some_and(|digest| digest.parse::<Sha256>().is_ok())
}

fn parse_file(line: &str) -> Option<(String, (u64, Sha256))> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let size = parse_size(words.next()?)?;
    let digest = words.next()?.parse().ok()?;
    // As the builder container's own files are checked (`collect`).
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._+-~%:".contains(&b);
    let plain = !name.is_empty() && name.len() <= 255 && !name.starts_with(['.', '-']) && name.bytes().all(fine) && words.next().is_none();
    plain.then(|| (name.to_string(), (size, digest)))
}

/// A TOML basic string. The values here have no control characters, but a lock is read by people
/// and merged by tools, so nothing is left to chance.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl fmt::Display for LockedPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.id, self.size, self.sha256, self.origin)
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `twostage lock`; commit it. What this project takes from the distribution, exactly.\nversion = 1")?;
        for (name, base) in &self.bases {
            write!(f, "\n[[base]]\nname = {}\ndigest = \"{}\"\n", quoted(name), base.digest)?;
            if let Some(pull) = &base.pull {
                writeln!(f, "pull = {}", quoted(pull))?;
            }
            if base.of_host {
                writeln!(f, "of_host = true")?;
            }
        }
        for (of, source) in &self.sources {
            let (of, name, version) = (quoted(of), quoted(&source.name), quoted(&source.version));
            write!(f, "\n[[source]]\nof = {of}\nname = {name}\nversion = {version}\nfiles = [\n")?;
            for (file, (size, digest)) in &source.files {
                writeln!(f, "  {},", quoted(&format!("{file} {size} {digest}")))?;
            }
            writeln!(f, "]")?;
        }
        let list = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
        for (of, closure) in &self.closures {
            write!(f, "\n[[closure]]\nof = {}\nbase = \"{}\"\nasked = [{}]\n", quoted(of), closure.base, list(&closure.asked))?;
            write!(f, "own = [{}]\npackages = [\n", list(&closure.own))?;
            for package in &closure.packages {
                writeln!(f, "  {},", quoted(&package.to_string()))?;
            }
            writeln!(f, "]")?;
        }
        for (base, names) in &self.names {
            let of = |taken| names.iter().filter(|(_, is)| **is == taken).map(|(name, _)| name.clone()).collect::<Vec<_>>();
            writeln!(f, "\n[[names]]\nbase = \"{base}\"\nfree = [{}]\ntaken = [{}]", list(&of(false)), list(&of(true)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let digest = Sha256::of(b"x");
        let mut lock = Lock::default();
        lock.bases.insert("bootstrap debian:bookworm".into(), LockedBase { digest, pull: None, of_host: true });
        lock.bases.insert("image debian:12".into(), LockedBase { digest, pull: Some(format!("debian@sha256:{digest}")), of_host: false });
        let id = PackageId { name: "libicu72".into(), version: "72.1-3".into(), arch: "amd64".into() };
        let package = LockedPackage { id, size: 7, sha256: digest, origin: "Debian:12.14/oldstable, Other:1/x".into() };
        let asked = vec!["libxml2 (>= 2.9) | \"odd\\".to_string()];
        lock.closures.insert("runtime:hello".into(), Closure { base: digest, asked, own: vec!["hello".into()], packages: vec![package] });
        let files = BTreeMap::from([("hello_2.10-3.dsc".to_string(), (9, digest))]);
        lock.sources.insert("hello".into(), LockedSource { name: "hello".into(), version: "2.10-3".into(), files });
        lock.names.insert(digest, BTreeMap::from([("hello".into(), false), ("libsystemd0".into(), true)]));
        lock
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let text = sample().to_string();
        assert_eq!(Lock::parse(&text, "twostage.lock").map_err(|e| e.to_string()), Ok(sample()), "{text}");
    }

    /// Golden: the identity of a lock entry is name, version, architecture, size, digest, origin.
    #[test]
    fn the_line_of_a_locked_package_never_changes() {
        let digest = Sha256::of(b"x");
        assert!(
            sample().to_string().contains(&format!("  \"libicu72 72.1-3 amd64 7 {digest} Debian:12.14/oldstable, Other:1/x\",\n")),
            "{}",
            sample()
        );
    }

    #[test]
    fn a_lock_that_was_merged_badly_is_refused_with_a_way_out() {
        let text = sample().to_string().replace("[[closure]]", "<<<<<<< HEAD\n[[closure]]");
        let refused = Lock::parse(&text, "twostage.lock").map_err(|e| (e.to_string(), e.hint_text().map(str::to_string)));
        let (what, hint) = refused.expect_err("conflict markers are no TOML");
        assert!(what.starts_with("twostage.lock: line "), "{what}");
        assert!(hint.is_some_and(|hint| hint.contains("twostage lock")));
        let text = sample().to_string().replace("libicu72 72.1-3", "../icu 72.1-3");
        assert!(Lock::parse(&text, "twostage.lock").is_err());
        assert!(Lock::parse("version = 2\n", "twostage.lock").is_err_and(|e| e.to_string().contains("version 2")));
    }

    /// A lock comes with its project, and may be as bad as that.
    #[test]
    fn a_lock_that_names_options_or_other_lines_is_refused() {
        let digest = Sha256::of(b"x");
        let package = "libicu72 72.1-3 amd64 7";
        let origin = "Debian:12.14/oldstable, Other:1/x\",";
        let control = [r"\n", r"\u0000", r"\u001B", r"\u0085", r"\r"].map(|c| ("Debian:12.14".to_string(), format!("{c}Debian:12.14")));
        let changes = [
            ("libicu72 72", "-oDir::Etc=x 72"),
            ("libicu72 72", "--root=x 72"),
            ("libicu72 72", "lib$(id) 72"),
            ("libicu72 72", "lib;id 72"),
            (package, "libicu72 -o72.1-3 amd64 7"),
            (package, "libicu72 72.1-3=x amd64 7"),
            (package, "libicu72 72.1-3 -amd64 7"),
            (package, "libicu72 72.1-3 amd64 -7"),
            (origin, "Debian\"], x = [\""),
            ("name = \"hello\"", "name = \"--compile\""),
            ("version = \"2.10-3\"", "version = \"2.10-3 --compile\""),
            ("hello_2.10-3.dsc 9", "-x.dsc 9"),
            ("hello_2.10-3.dsc 9", "../x.dsc 9"),
            ("hello_2.10-3.dsc 9", "x\\ny.dsc 9"),
            ("hello_2.10-3.dsc 9", "$(id).dsc 9"),
            ("hello_2.10-3.dsc 9", "x'y.dsc 9"),
            ("of = \"hello\"", "of = \"hello\\n\""),
            ("of = \"runtime:hello\"", "of = \"runtime:hello\\u0007\""),
            ("name = \"image debian:12\"", "name = \"image debian:12\\nRUN x\""),
            ("pull = \"debian@", "pull = \"--privileged debian@"),
            ("pull = \"debian@", "pull = \"debian\\nRUN touch /x@"),
            ("pull = \"debian@sha256:", "pull = \"debian:12@"),
            ("own = [\"hello\"]", "own = [\"--hello\"]"),
            ("own = [\"hello\"]", "own = [\"hello=1\"]"),
            ("asked = [", "asked = [\"x\\u001B[2J\", "),
            ("libicu72 72.1-3 amd64 7", "libicu72 72.1-3 amd64 +7"),
            ("libicu72 72.1-3 amd64 7", "libicu72 72.1-3 amd64 007"),
            ("libicu72 72.1-3 amd64 7", "libicu72 72.1-3 amd64 18446744073709551615"),
            ("hello_2.10-3.dsc 9", "hello_2.10-3.dsc 1099511627777"),
        ];
        let changes = changes.iter().map(|(from, to)| ((*from).to_string(), (*to).to_string())).chain(control);
        for (from, to) in changes {
            let text = sample().to_string();
            assert!(text.contains(&from), "{from}: {text}");
            let refused = Lock::parse(&text.replace(&from, &to), "twostage.lock").map_err(|error| error.to_string());
            assert!(
                refused.as_ref().is_err_and(|what| what.starts_with("twostage.lock: ") && !what.contains('\u{1b}')),
                "{to}: {refused:?}"
            );
        }
        // Nothing is there twice: the second would be what counts.
        let table = |from: &str, to: &str| {
            let text = sample().to_string();
            let start = text.find(from).expect("it is there");
            text[start..].find(to).map_or(text[start..].to_string(), |end| text[start..start + end].to_string())
        };
        let package = table("  \"libicu72", "]\n");
        let file = table("  \"hello_2.10-3.dsc", "]\n");
        for (what, text) in [
            ("the base", format!("{}{}", sample(), table("[[base]]", "[[source]]"))),
            ("the source of", format!("{}\n{}", sample(), table("[[source]]", "[[closure]]"))),
            ("the closure", format!("{}\n{}", sample(), table("[[closure]]", "[[names]]"))),
            ("the table of names", format!("{}\n{}", sample(), table("[[names]]", "no such"))),
            ("the name", sample().to_string().replace("free = [", "free = [\"libsystemd0\", ")),
            ("the package", sample().to_string().replace(&package, &package.repeat(2))),
            ("the file", sample().to_string().replace(&file, &file.repeat(2))),
        ] {
            let refused = Lock::parse(&text, "twostage.lock").map_err(|error| error.to_string()).expect_err(what);
            assert!(refused.starts_with(&format!("twostage.lock: {what}")) && refused.ends_with("is there twice"), "{refused}");
        }
        let unpinned = sample().to_string().replace(&format!("@sha256:{digest}"), ":12");
        assert!(Lock::parse(&unpinned, "twostage.lock").is_err_and(|error| error.to_string().contains("by its digest")));
    }
}

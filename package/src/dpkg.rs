//! dpkg's database, read from any place that can hand out files by path: an image's layers, a
//! folder, a test's map.
//!
//! ```text
//! var/lib/dpkg/status                  stanzas: what is installed
//! var/lib/dpkg/status.d/<pkg>          the same, one file a package, in images without dpkg
//! var/lib/dpkg/info/<pkg>[:arch].list  its paths, one a line: "/.", "/usr", "/usr/bin/x"
//! var/lib/dpkg/info/….md5sums          "<md5>  usr/bin/x"
//! var/lib/dpkg/info/….conffiles        "/etc/x"
//! var/lib/dpkg/info/….triggers         "interest-noawait /usr/share/x"
//! var/lib/dpkg/alternatives/<name>     status, master link, slaves, blank, choices
//! var/lib/dpkg/diversions              three lines each: from, to, package (":" for local)
//! ```
//!
//! Paths are bytes without the leading slash, exactly as dpkg wrote them.

use std::collections::BTreeMap;
use twostage_model::{Class, Error, Result};

/// Lines of one file, and stanzas of one database, that are still believed.
const MAX_LINES: usize = 2_000_000;
const MAX_PACKAGES: usize = 200_000;
const ROOT: &str = "var/lib/dpkg";

/// Where the database's files are. Paths have no leading slash.
pub trait Files {
    /// The bytes of a file, or none if there is no such file.
    fn read(&self, path: &str) -> Option<&[u8]>;
    /// The names in a folder, in any order; none if there is no such folder.
    fn names(&self, folder: &str) -> Vec<String>;
}

/// A dpkg database.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// Every package that has files, in the order of the status file.
    pub packages: Vec<Package>,
    /// By name.
    pub alternatives: Vec<Alternative>,
    /// In the file's order.
    pub diversions: Vec<Diversion>,
}

/// One package of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub arch: String,
    /// `install ok installed`.
    pub status: String,
    /// `name` or `name:arch`: what its files in `info/` are called.
    pub info_name: String,
    /// The endings of its files in `info/`: `list`, `postinst`, `templates`.
    pub info: Vec<String>,
    /// Its paths, folders too.
    pub files: Vec<Vec<u8>>,
    /// MD5 of files, as 32 hex digits.
    pub md5sums: BTreeMap<Vec<u8>, String>,
    /// Files that users may edit, with the MD5 they were installed with.
    pub conffiles: BTreeMap<Vec<u8>, String>,
    /// The lines of its triggers file.
    pub triggers: Vec<String>,
}

/// One group of alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alternative {
    /// Its name: `/etc/alternatives/<name>`.
    pub name: String,
    /// The links that it makes: name in `etc/alternatives` and path, the master's first.
    pub links: Vec<(String, Vec<u8>)>,
    /// What the master link can lead to.
    pub choices: Vec<Vec<u8>>,
}

/// One diversion: `by` is the package that has `from` for itself; other packages' file is at `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The name that packages have it under.
    pub from: Vec<u8>,
    /// Where it is.
    pub to: Vec<u8>,
    /// The package that diverts, or none for a local one.
    pub by: Option<String>,
}

impl Package {
    /// Whether dpkg calls it installed, not just configured once or half there.
    pub fn is_installed(&self) -> bool {
        self.status.ends_with(" installed")
    }

    /// The maintainer scripts it has.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.info.iter().map(String::as_str).filter(|ending| matches!(*ending, "preinst" | "postinst" | "prerm" | "postrm" | "config"))
    }
}

impl Database {
    /// Reads the database. None if there is none.
    ///
    /// # Errors
    /// A file that is malformed beyond what dpkg takes, with its name and line.
    pub fn read(files: &dyn Files) -> Result<Option<Database>> {
        let mut packages = Vec::new();
        let status = format!("{ROOT}/status");
        let bytes = files.read(&status);
        if let Some(bytes) = bytes {
            stanzas(bytes, &status, &mut packages)?;
        }
        let mut single: Vec<String> = files.names(&format!("{ROOT}/status.d"));
        single.sort();
        for name in &single {
            let path = format!("{ROOT}/status.d/{name}");
            if let Some(sums) = name.strip_suffix(".md5sums") {
                if let Some(package) = packages.iter_mut().find(|p: &&mut Package| p.info_name == sums || p.name == sums) {
                    package.md5sums = md5sums(files.read(&path).unwrap_or_default(), &path)?;
                    package.files = with_folders(package.md5sums.keys());
                }
            } else if let Some(bytes) = files.read(&path) {
                let before = packages.len();
                stanzas(bytes, &path, &mut packages)?;
                packages[before..].iter_mut().for_each(|package| {
                    package.info_name.clone_from(name);
                    if package.status.is_empty() {
                        package.status = "install ok installed".into();
                    }
                });
            }
        }
        if bytes.is_none() && single.is_empty() {
            return Ok(None);
        }
        packages.retain(|package| !package.status.ends_with(" not-installed"));
        info(files, &mut packages)?;
        let mut alternatives = Vec::new();
        let mut names = files.names(&format!("{ROOT}/alternatives"));
        names.sort();
        for name in names {
            let path = format!("{ROOT}/alternatives/{name}");
            if let Some(bytes) = files.read(&path) {
                alternatives.push(alternative(&name, bytes, &path)?);
            }
        }
        let path = format!("{ROOT}/diversions");
        let diversions = diversions(files.read(&path).unwrap_or_default(), &path)?;
        Ok(Some(Database { packages, alternatives, diversions }))
    }

    /// The packages that are installed.
    pub fn installed(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_installed())
    }
}

/// Reads what `info/` says of the packages.
fn info(files: &dyn Files, packages: &mut [Package]) -> Result<()> {
    let mut endings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in files.names(&format!("{ROOT}/info")) {
        // Package names have dots too (`python3.11-minimal.list`), endings have none.
        if let Some((package, ending)) = name.rsplit_once('.') {
            endings.entry(package.to_string()).or_default().push(ending.to_string());
        }
    }
    for package in packages {
        let qualified = format!("{}:{}", package.name, package.arch);
        let name = [qualified, package.name.clone()].into_iter().find(|name| endings.contains_key(name));
        let Some(name) = name else { continue };
        let mut found = endings.remove(&name).unwrap_or_default();
        found.sort();
        let path = |ending: &str| format!("{ROOT}/info/{name}.{ending}");
        let file = |ending: &str| files.read(&path(ending)).unwrap_or_default();
        package.files = list(file("list"), &path("list"))?;
        package.md5sums = md5sums(file("md5sums"), &path("md5sums"))?;
        for line in list(file("conffiles"), &path("conffiles"))? {
            package.conffiles.entry(line).or_default();
        }
        package.triggers = lines(file("triggers"), &path("triggers"))?
            .map(|(_, line)| String::from_utf8_lossy(line).trim().to_string())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        package.info = found;
        package.info_name = name;
    }
    Ok(())
}

fn wrong(file: &str, line: usize, what: &str) -> Error {
    Error::new(Class::Runtime, format!("{file}:{line}: {what}"))
}

/// Lines with their numbers from 1.
fn lines<'a>(bytes: &'a [u8], file: &str) -> Result<impl Iterator<Item = (usize, &'a [u8])> + use<'a>> {
    if bytes.iter().filter(|b| **b == b'\n').count() > MAX_LINES {
        return Err(wrong(file, MAX_LINES, "too many lines to be a file of dpkg's"));
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let count = if bytes.is_empty() { 0 } else { usize::MAX };
    Ok(bytes.split(|b| *b == b'\n').take(count).enumerate().map(|(i, line)| (i + 1, line)))
}

/// The stanzas of a status file.
fn stanzas(bytes: &[u8], file: &str, packages: &mut Vec<Package>) -> Result<()> {
    let mut stanza: Option<(usize, Package)> = None;
    let mut field = String::new();
    let finish = |stanza: &mut Option<(usize, Package)>, packages: &mut Vec<Package>| -> Result<()> {
        let Some((line, mut package)) = stanza.take() else { return Ok(()) };
        if package.name.is_empty() {
            return Err(wrong(file, line, "a stanza without a Package field"));
        }
        if packages.len() >= MAX_PACKAGES {
            return Err(wrong(file, line, "too many packages"));
        }
        package.info_name.clone_from(&package.name);
        packages.push(package);
        Ok(())
    };
    for (number, line) in lines(bytes, file)? {
        if line.iter().all(u8::is_ascii_whitespace) {
            finish(&mut stanza, packages)?;
            continue;
        }
        let package = &mut stanza.get_or_insert_with(|| (number, Package::default())).1;
        let text = String::from_utf8_lossy(line);
        if line[0] == b' ' || line[0] == b'\t' {
            if field.is_empty() {
                return Err(wrong(file, number, "a continuation line without a field before it"));
            }
            // "/etc/x <md5> [obsolete]"
            if field == "conffiles" {
                let mut words: Vec<&[u8]> = line.split(|b| *b == b' ').filter(|w| !w.is_empty()).collect();
                words.retain(|word| !matches!(*word, b"obsolete" | b"remove-on-upgrade"));
                if let [path @ .., md5] = &words[..]
                    && !path.is_empty()
                {
                    let path = path.join(&b' ');
                    package.conffiles.insert(path.strip_prefix(b"/").unwrap_or(&path).to_vec(), String::from_utf8_lossy(md5).into_owned());
                }
            }
            continue;
        }
        let Some((name, value)) = text.split_once(':') else {
            return Err(wrong(file, number, "a line that is neither a field nor a continuation of one"));
        };
        field = name.trim().to_ascii_lowercase();
        let value = value.trim();
        match field.as_str() {
            "package" => {
                let good = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
                if value.is_empty() || !value.bytes().all(good) {
                    return Err(wrong(file, number, "this is no package name"));
                }
                package.name = value.to_string();
            }
            "version" => package.version = value.to_string(),
            "architecture" => package.arch = value.to_string(),
            "status" => package.status = value.split_whitespace().collect::<Vec<_>>().join(" "),
            _ => {}
        }
    }
    finish(&mut stanza, packages)
}

/// The paths of a `.list` or `.conffiles`. The root is left out.
fn list(bytes: &[u8], file: &str) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for (number, line) in lines(bytes, file)? {
        let line = line.strip_prefix(b"remove-on-upgrade ").unwrap_or(line);
        match line.strip_prefix(b"/") {
            Some(b"." | b"") => {}
            Some(path) => paths.push(path.strip_suffix(b"/").unwrap_or(path).to_vec()),
            None if line.is_empty() => {}
            None => return Err(wrong(file, number, "a path that does not begin with a slash")),
        }
    }
    Ok(paths)
}

/// The 16 bytes of 32 hex digits; nothing if it is something else.
pub fn md5(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Reads a file of MD5 sums: path without its slash to 32 hex digits.
pub(crate) fn md5sums(bytes: &[u8], file: &str) -> Result<BTreeMap<Vec<u8>, String>> {
    let mut sums = BTreeMap::new();
    for (number, line) in lines(bytes, file)? {
        if line.is_empty() {
            continue;
        }
        let sum = line.get(..32).and_then(|sum| std::str::from_utf8(sum).ok()).filter(|sum| sum.bytes().all(|b| b.is_ascii_hexdigit()));
        let path = line.get(33..).map(|rest| rest.strip_prefix(b" ").or(rest.strip_prefix(b"*")).unwrap_or(rest));
        match (sum, path) {
            (Some(sum), Some(path)) if !path.is_empty() => {
                let path = path.strip_prefix(b"./").or(path.strip_prefix(b"/")).unwrap_or(path);
                sums.insert(path.to_vec(), sum.to_ascii_lowercase());
            }
            _ => return Err(wrong(file, number, "not an MD5 sum and a path")),
        }
    }
    Ok(sums)
}

/// Paths and all their folders.
fn with_folders<'a>(paths: impl Iterator<Item = &'a Vec<u8>>) -> Vec<Vec<u8>> {
    let mut all = std::collections::BTreeSet::new();
    for path in paths {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        all.extend(ends.filter(|end| *end > 0).map(|end| path[..end].to_vec()));
    }
    all.into_iter().collect()
}

fn alternative(name: &str, bytes: &[u8], file: &str) -> Result<Alternative> {
    let mut lines = lines(bytes, file)?;
    let mut next = |what: &str| lines.next().ok_or_else(|| wrong(file, 1, &format!("it ends before {what}")));
    let strip = |path: &[u8]| path.strip_prefix(b"/").unwrap_or(path).to_vec();
    let (number, mode) = next("its mode")?;
    if !matches!(mode, b"auto" | b"manual") {
        return Err(wrong(file, number, "neither auto nor manual"));
    }
    let mut links = vec![(name.to_string(), strip(next("its link")?.1))];
    loop {
        let (_, slave) = next("its choices")?;
        if slave.is_empty() {
            break;
        }
        links.push((String::from_utf8_lossy(slave).into_owned(), strip(next("a slave's link")?.1)));
    }
    let mut choices = Vec::new();
    while let Ok((number, choice)) = next("") {
        if choice.is_empty() {
            break;
        }
        choices.push(strip(choice));
        let (_, priority) = next("a priority")?;
        if std::str::from_utf8(priority).ok().and_then(|p| p.trim().parse::<i64>().ok()).is_none() {
            return Err(wrong(file, number + 1, "the priority is no number"));
        }
        for _ in 1..links.len() {
            // The last blank lines may be missing.
            if next("").is_err() {
                break;
            }
        }
    }
    Ok(Alternative { name: name.to_string(), links, choices })
}

fn diversions(bytes: &[u8], file: &str) -> Result<Vec<Diversion>> {
    let mut diversions = Vec::new();
    let mut lines = lines(bytes, file)?;
    while let Some((number, from)) = lines.next() {
        let (Some((_, to)), Some((_, by))) = (lines.next(), lines.next()) else {
            return Err(wrong(file, number, "a diversion of fewer than three lines"));
        };
        let strip = |path: &[u8]| path.strip_prefix(b"/").unwrap_or(path).to_vec();
        let by = (by != b":").then(|| String::from_utf8_lossy(by).into_owned());
        diversions.push(Diversion { from: strip(from), to: strip(to), by });
    }
    Ok(diversions)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(Vec<(&'static str, &'static str)>);

    impl Files for Map {
        fn read(&self, path: &str) -> Option<&[u8]> {
            self.0.iter().find(|(name, _)| *name == path).map(|(_, text)| text.as_bytes())
        }
        fn names(&self, folder: &str) -> Vec<String> {
            let below = |(path, _): &(&'static str, _)| path.strip_prefix(folder)?.strip_prefix('/').map(str::to_string);
            self.0.iter().filter_map(below).filter(|name| !name.contains('/')).collect()
        }
    }

    const STATUS: &str = "Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n\
        Description: greets\n and goes\nConffiles:\n /etc/hello 0123456789abcdef0123456789abcdef\n \
        /etc/old 0123456789abcdef0123456789abcdef obsolete\n\n\
        Package: libx1\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 3\n";

    #[test]
    fn a_database_is_read() -> Result<()> {
        let files = Map(vec![
            ("var/lib/dpkg/status", STATUS),
            ("var/lib/dpkg/info/hello.list", "/.\n/etc\n/etc/hello\n/usr/bin/hello\n"),
            ("var/lib/dpkg/info/hello.postinst", "#!/bin/sh\n"),
            ("var/lib/dpkg/info/hello.md5sums", "0123456789abcdef0123456789abcdef  usr/bin/hello\n"),
            ("var/lib/dpkg/info/libx1:amd64.list", "/.\n/lib/libx.so.1\n"),
            ("var/lib/dpkg/info/libx1:amd64.triggers", "# made by debhelper\nactivate-noawait ldconfig\n"),
            ("var/lib/dpkg/alternatives/awk", "auto\n/usr/bin/awk\nawk.1.gz\n/usr/share/man/awk.1.gz\n\n/usr/bin/mawk\n5\n\n\n"),
            ("var/lib/dpkg/diversions", "/usr/bin/a\n/usr/bin/a.real\nhello\n/lib/b\n/lib/b.usr-is-merged\n:\n"),
        ]);
        let database = Database::read(&files)?.unwrap_or_default();
        let names: Vec<&str> = database.installed().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["hello", "libx1"]);
        let hello = &database.packages[0];
        assert_eq!(hello.files, [b"etc".to_vec(), b"etc/hello".to_vec(), b"usr/bin/hello".to_vec()]);
        assert_eq!(hello.scripts().collect::<Vec<_>>(), ["postinst"]);
        assert_eq!(hello.md5sums.len(), 1);
        assert_eq!(hello.conffiles.keys().collect::<Vec<_>>(), [&b"etc/hello".to_vec(), &b"etc/old".to_vec()]);
        assert_eq!(database.packages[1].triggers, ["activate-noawait ldconfig"]);
        assert_eq!(database.packages[1].info_name, "libx1:amd64");
        let awk = &database.alternatives[0];
        assert_eq!(awk.links, [("awk".into(), b"usr/bin/awk".to_vec()), ("awk.1.gz".into(), b"usr/share/man/awk.1.gz".to_vec())]);
        assert_eq!(awk.choices, [b"usr/bin/mawk".to_vec()]);
        assert_eq!(database.diversions[0].by.as_deref(), Some("hello"));
        assert_eq!(database.diversions[1].by, None);
        Ok(())
    }

    #[test]
    fn a_package_without_dpkg_is_read_from_status_d() -> Result<()> {
        let files = Map(vec![
            ("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nArchitecture: amd64\n"),
            ("var/lib/dpkg/status.d/base.md5sums", "0123456789abcdef0123456789abcdef  usr/lib/os-release\n"),
        ]);
        let database = Database::read(&files)?.unwrap_or_default();
        assert_eq!(database.installed().next().map(|p| p.files.len()), Some(3));
        assert!(Database::read(&Map(vec![]))?.is_none());
        Ok(())
    }

    #[test]
    fn errors_name_file_and_line() {
        for (path, text, expected) in [
            ("var/lib/dpkg/status", "Package: a\nnonsense\n", "var/lib/dpkg/status:2: a line that is neither"),
            ("var/lib/dpkg/status", "Version: 1\n", "var/lib/dpkg/status:1: a stanza without"),
            ("var/lib/dpkg/status", " x\n", "var/lib/dpkg/status:1: a continuation"),
            ("var/lib/dpkg/status", "Package: ../x\n", "var/lib/dpkg/status:1: this is no package name"),
            ("var/lib/dpkg/diversions", "/a\n/b\n", "var/lib/dpkg/diversions:1: a diversion of fewer"),
            ("var/lib/dpkg/alternatives/x", "auto\n/usr/bin/x\n\n/y\nhigh\n", "var/lib/dpkg/alternatives/x:5: the priority"),
            ("var/lib/dpkg/alternatives/x", "off\n", "var/lib/dpkg/alternatives/x:1: neither auto"),
        ] {
            let files = Map(vec![(path, text), ("var/lib/dpkg/status", "")]);
            let error = Database::read(&files).map(|_| ()).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.starts_with(expected)), "{error:?}");
        }
    }
}

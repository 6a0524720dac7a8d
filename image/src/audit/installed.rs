//! What is installed in a tree, whichever database says so: dpkg's, rpm's, or both.

use crate::broken;
use crate::image::{Entry, Kind, Layer};
use crate::path::{from_bytes, to_bytes};
use crate::report::Residue;
use crate::tree::{Node, Tree};
use twostage_model::{Format, Result};
use twostage_package::dpkg::{self, Files};
use twostage_package::rpmdb::{self, Expected};

/// Where alternatives of rpm distributions are kept: Fedora's and SUSE's tools both begin a file
/// like dpkg's, with mode, link, and pairs of a follower's name and link up to a blank line.
const RPM_ALTERNATIVES: &str = "var/lib/alternatives";

/// Both databases of one tree.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    pub dpkg: dpkg::Database,
    pub rpm: Option<rpmdb::Database>,
    /// Name in `etc/alternatives` and path, of rpm distributions' groups.
    pub rpm_links: Vec<(String, Vec<u8>)>,
}

/// One installed package.
#[derive(Debug, Clone, Copy)]
pub struct Package<'d> {
    pub format: Format,
    pub name: &'d str,
    pub version: &'d str,
    pub arch: &'d str,
    source: Source<'d>,
}

#[derive(Debug, Clone, Copy)]
enum Source<'d> {
    Deb(&'d dpkg::Package),
    Rpm(&'d rpmdb::Package),
}

impl<'d> Package<'d> {
    /// Two packages with the same are one, in perhaps different versions.
    pub fn identity(&self) -> (Format, &'d str, &'d str) {
        (self.format, self.name, self.arch)
    }

    /// What it brings: path, and what has to be there if the database says so.
    pub fn files(&self) -> Vec<(&'d [u8], Option<Expected>)> {
        match self.source {
            Source::Deb(package) => {
                let md5 = |path: &Vec<u8>| package.conffiles.get(path).or_else(|| package.md5sums.get(path)).and_then(|md5| dpkg::md5(md5));
                let paths = package.files.iter().chain(package.conffiles.keys());
                paths.map(|path| (path.as_slice(), md5(path).map(Expected::Md5))).collect()
            }
            Source::Rpm(package) => {
                let brought = package.files.iter().filter(|file| !file.is_ghost());
                brought.map(|file| (file.path.as_slice(), package.expected(file))).collect()
            }
        }
    }

    /// Paths that it owns but does not bring.
    pub fn ghosts(&self) -> impl Iterator<Item = &'d [u8]> + use<'d> {
        let files = match self.source {
            Source::Deb(_) => &[][..],
            Source::Rpm(package) => &package.files,
        };
        files.iter().filter(|file| file.is_ghost()).map(|file| file.path.as_slice())
    }

    /// What its files in dpkg's `info/` are called, and their paths.
    pub fn info(&self) -> (Option<&'d str>, Vec<String>) {
        match self.source {
            Source::Deb(package) => {
                let path = |ending: &String| format!("var/lib/dpkg/info/{}.{ending}", package.info_name);
                (Some(&package.info_name), package.info.iter().map(path).collect())
            }
            Source::Rpm(_) => (None, Vec::new()),
        }
    }
}

impl Installed {
    /// Reads both databases.
    pub fn read(tree: &Tree<'_>) -> Result<Installed> {
        let files = InTree(tree);
        let status = ["var/lib/dpkg/status".to_string()].into_iter();
        let paths = rpmdb::FOLDERS.iter().flat_map(|folder| rpmdb::NAMES.iter().map(move |name| format!("{folder}/{name}")));
        for path in status.chain(paths) {
            if let Some((path, Node { entry: Some(entry), .. })) = tree.resolve(&path)
                && matches!(entry.kind, Kind::File { .. })
                && entry.content.is_none()
            {
                return Err(broken(format!("/{path} was not kept while the image was read (this is a fault of the caller's)")));
            }
        }
        let mut rpm_links = Vec::new();
        for name in files.names(RPM_ALTERNATIVES) {
            let text = files.read(&format!("{RPM_ALTERNATIVES}/{name}")).unwrap_or_default();
            let mut lines = text.split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.is_empty());
            let strip = |path: &[u8]| path.strip_prefix(b"/").map(<[u8]>::to_vec);
            if let Some(link) = lines.next().and_then(strip) {
                rpm_links.push((name, link));
            }
            while let (Some(name), Some(link)) = (lines.next(), lines.next().and_then(strip)) {
                rpm_links.push((from_bytes(name), link));
            }
        }
        Ok(Installed { dpkg: dpkg::Database::read(&files)?.unwrap_or_default(), rpm: rpmdb::Database::read(&files)?, rpm_links })
    }

    /// Every package that is installed.
    pub fn packages(&self) -> Vec<Package<'_>> {
        let debs = self.dpkg.installed().map(|deb| Package {
            format: Format::Deb,
            name: &deb.name,
            version: &deb.version,
            arch: &deb.arch,
            source: Source::Deb(deb),
        });
        let rpms = self.rpm.iter().flat_map(|rpm| &rpm.packages).map(|rpm| Package {
            format: Format::Rpm,
            name: &rpm.id.name,
            version: &rpm.id.version,
            arch: &rpm.id.arch,
            source: Source::Rpm(rpm),
        });
        debs.chain(rpms).collect()
    }

    /// Keys in the rpm database, and what is left of erased ones, that were not there before.
    pub fn keys(&self, before: &Installed, layer: usize) -> Vec<Residue> {
        let Some(rpm) = &self.rpm else { return Vec::new() };
        let before = before.rpm.as_ref();
        let say = |reason: String| Residue {
            layer: Some(layer),
            at: format!("/{}", rpm.path),
            kind: "file",
            bytes: 0,
            rule: "rpm-database-key",
            reason,
        };
        let new = rpm.keys.iter().filter(|key| !before.is_some_and(|before| before.keys.contains(key)));
        let mut found: Vec<Residue> = new.map(|key| say(format!("the rpm database holds a key: {} of {}", key.name, key.owner))).collect();
        if rpm.erased_keys(before) > 0 {
            found.push(say("the rpm database holds the bytes of a key that was erased, until `rpmdb --rebuilddb`".into()));
        }
        found
    }
}

/// Whose database a layer writes or deletes.
pub fn changed(layer: &Layer) -> Vec<Format> {
    let any = |test: &dyn Fn(&str) -> bool| layer.entries.iter().any(|entry| !entry.is_dir() && test(&entry.path));
    let deb = any(&|path| path.starts_with("var/lib/dpkg/status") || path.starts_with("var/lib/dpkg/info/"));
    let rpm = any(&|path| {
        let name = rpmdb::FOLDERS.iter().find_map(|folder| path.strip_prefix(folder)?.strip_prefix('/'));
        name.is_some_and(|name| rpmdb::NAMES.contains(&name)) || path.starts_with(RPM_ALTERNATIVES)
    });
    [(deb, Format::Deb), (rpm, Format::Rpm)].into_iter().filter(|(changed, _)| *changed).map(|(_, format)| format).collect()
}

/// Whether an entry is what one of the packages that own its path says. Without a word of it, yes.
pub fn as_expected(expected: &[Expected], entry: &Entry) -> bool {
    expected.is_empty()
        || expected.iter().any(|expected| match (expected, &entry.kind) {
            (Expected::Content(digest), Kind::File { sha256, .. }) => sha256 == digest,
            // (What is looked into has no checksum, so that there is nothing to say. What was not read at all is not as expected.)
            (Expected::Md5(expected), Kind::File { sha256, .. }) => match entry.md5 {
                Some(md5) => md5 == *expected,
                None => sha256.known().is_some(),
            },
            (Expected::Link(link), Kind::Symlink { target }) => to_bytes(target) == *link,
            _ => false,
        })
}

/// Whether the audit looks into this file of an rpm distribution.
pub fn wanted(path: &str) -> bool {
    let below = |folder: &&str| path.strip_prefix(*folder).and_then(|rest| rest.strip_prefix('/'));
    rpmdb::FOLDERS.iter().find_map(below).is_some_and(|name| rpmdb::NAMES.contains(&name))
        || below(&RPM_ALTERNATIVES).is_some_and(|name| !name.contains('/'))
}

struct InTree<'t, 'a>(&'t Tree<'a>);

impl Files for InTree<'_, '_> {
    fn read(&self, path: &str) -> Option<&[u8]> {
        self.0.resolve(path)?.1.entry?.content.as_deref()
    }
    fn names(&self, folder: &str) -> Vec<String> {
        let real = self.0.resolve(folder).map(|(path, _)| path);
        real.map(|path| self.0.names(&path).into_iter().map(str::to_string).collect()).unwrap_or_default()
    }
}

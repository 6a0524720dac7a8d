//! The two families of package tools, deb's and rpm's, as the build stage uses them: their scripts,
//! how they name a package, what they are asked and what they answer.

use crate::patches::Patch;
use crate::{Stored, apt, dnf};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use twostage_model::error::OrFail as _;
use twostage_model::lock::LockedPackage;
use twostage_model::{Class, Format, PackageId, Result, Sha256};
use twostage_package::rpm;

/// Name and version of what was chosen, to where it comes from.
pub(crate) type Chosen = BTreeMap<(String, String), String>;

/// What a family's scripts are, and where they look for what we give them.
pub(crate) struct Tools {
    /// What people know it as.
    pub(crate) manager: &'static str,
    prelude: &'static str,
    pub(crate) ccache: &'static str,
    pub(crate) closure: &'static str,
    pub(crate) fetch: &'static str,
    pub(crate) fetch_source: &'static str,
    pub(crate) install: &'static str,
    pub(crate) names: &'static str,
    pub(crate) native: &'static str,
    /// Builds and installs a tree that has no packaging, and packs what was installed; nothing where no recipe is known.
    pub(crate) generated: Option<[&'static str; 2]>,
    pub(crate) upgrades: &'static str,
    /// Where the build dependencies go, and the words that ask for them.
    pub(crate) question_file: &'static str,
    pub(crate) question: [&'static str; 2],
    /// Where it looks for the digests of what need not be downloaded, `SHA256:…`, one a line, in order.
    pub(crate) known_file: Option<&'static str>,
    /// The variable that takes a component's `options`.
    pub(crate) options: &'static str,
}

const DEB: Tools = Tools {
    manager: "apt",
    prelude: include_str!("../scripts/deb/prelude.sh"),
    ccache: include_str!("../scripts/deb/ccache.sh"),
    closure: include_str!("../scripts/deb/closure.sh"),
    fetch: include_str!("../scripts/deb/fetch.sh"),
    fetch_source: include_str!("../scripts/deb/fetch-source.sh"),
    install: include_str!("../scripts/deb/install.sh"),
    names: include_str!("../scripts/deb/names.sh"),
    native: concat!(
        include_str!("../scripts/environment.sh"),
        include_str!("../scripts/ccache.sh"),
        include_str!("../scripts/patches.sh"),
        include_str!("../scripts/deb/building.sh"),
        include_str!("../scripts/deb/native.sh")
    ),
    generated: Some([
        concat!(
            include_str!("../scripts/environment.sh"),
            include_str!("../scripts/ccache.sh"),
            include_str!("../scripts/patches.sh"),
            include_str!("../scripts/deb/building.sh"),
            include_str!("../scripts/deb/recipe-install.sh")
        ),
        concat!(include_str!("../scripts/deb/building.sh"), include_str!("../scripts/deb/recipe-pack.sh")),
    ]),
    upgrades: include_str!("../scripts/deb/upgrades.sh"),
    question_file: "var/cache/twostage/control/debian/control",
    question: ["build-dep", "/var/cache/twostage/control"],
    known_file: Some("var/cache/twostage/known"),
    options: "DEB_BUILD_OPTIONS",
};

const RPM: Tools = Tools {
    manager: "dnf or zypper",
    prelude: concat!(
        include_str!("../scripts/rpm/dnf.sh"),
        include_str!("../scripts/rpm/zypper.sh"),
        include_str!("../scripts/rpm/prelude.sh")
    ),
    ccache: include_str!("../scripts/rpm/ccache.sh"),
    closure: include_str!("../scripts/rpm/closure.sh"),
    fetch: include_str!("../scripts/rpm/fetch.sh"),
    fetch_source: include_str!("../scripts/rpm/fetch-source.sh"),
    install: include_str!("../scripts/rpm/install.sh"),
    names: include_str!("../scripts/rpm/names.sh"),
    native: concat!(
        include_str!("../scripts/environment.sh"),
        include_str!("../scripts/ccache.sh"),
        include_str!("../scripts/patches.sh"),
        include_str!("../scripts/rpm/native.sh")
    ),
    generated: None,
    upgrades: include_str!("../scripts/rpm/upgrades.sh"),
    question_file: "var/cache/twostage/control/twostage.spec",
    question: ["build-dep", "/var/cache/twostage/control/twostage.spec"],
    known_file: None,
    options: "RPM_BUILD_OPTIONS",
};

impl Tools {
    pub(crate) fn of(format: Format) -> &'static Tools {
        match format {
            Format::Deb => &DEB,
            Format::Rpm => &RPM,
        }
    }

    /// The command that runs one of the scripts with arguments.
    pub(crate) fn command(&self, script: &str, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
        let script = format!("{}{script}", self.prelude);
        ["sh".to_string(), "-c".to_string(), script, "twostage".to_string()].into_iter().chain(arguments).collect()
    }
}

/// A package as its manager takes it on the command line, in exactly this version.
pub fn exact(format: Format, name: &str, version: &str) -> String {
    match format {
        Format::Deb => format!("{name}={version}"),
        Format::Rpm => format!("{name}-{version}"),
    }
}

/// The same of a locked package, with its architecture.
pub(crate) fn exact_locked(format: Format, package: &LockedPackage) -> String {
    let id = &package.id;
    match format {
        Format::Deb if id.arch == "all" => exact(format, &id.name, &id.version),
        Format::Deb => exact(format, &format!("{}:{}", id.name, id.arch), &id.version),
        Format::Rpm => format!("{}.{}", exact(format, &id.name, &id.version), id.arch),
    }
}

/// Which of two versions is newer.
pub fn compare(format: Format, a: &str, b: &str) -> Ordering {
    match format {
        Format::Deb => twostage_package::version::compare(a, b),
        Format::Rpm => twostage_package::rpm::compare_evr(a, b),
    }
}

/// Whether a package of that name holds debug symbols, which are published and never installed.
pub fn is_symbols(format: Format, name: &str) -> bool {
    match format {
        Format::Deb => name.ends_with("-dbgsym"),
        Format::Rpm => name.ends_with("-debuginfo") || name.ends_with("-debugsource"),
    }
}

/// Whether a package of that name is what others are built against.
pub(crate) fn is_development(format: Format, name: &str) -> bool {
    match format {
        Format::Deb => name.ends_with("-dev"),
        Format::Rpm => name.ends_with("-devel"),
    }
}

/// The names of the packages that a source makes, as its `debian/control`, `.dsc` or spec file says them.
pub(crate) fn made(format: Format, control: &str) -> BTreeSet<String> {
    let names = match format {
        Format::Deb => apt::made(control),
        Format::Rpm => dnf::made(control),
    };
    names.into_iter().filter(|name| format.check_name(name, None).is_ok()).collect()
}

/// What a build needs by the words of its `debian/control` or spec file, and the text that asks the
/// package manager for it.
///
/// # Errors
/// The text cannot be read.
pub(crate) fn build_question(format: Format, control: &str) -> Result<(Vec<String>, String)> {
    match format {
        Format::Deb => apt::build_question(control),
        Format::Rpm => Ok(dnf::build_question(control)),
    }
}

/// The id of a source package (a `.dsc` or a source rpm), and the files that it lists, with their
/// digests.
///
/// # Errors
/// It cannot be read.
pub(crate) fn source_package(format: Format, path: &Path) -> Result<(PackageId, Listed)> {
    match format {
        Format::Deb => {
            let text = twostage_beneath::read_text(path, MAX_DSC, Class::Repository)?;
            let dsc = twostage_package::control::dsc_files(&text)?;
            let files = dsc.files.into_iter().map(|file| (file.name, Some(file.sha256))).collect();
            Ok((PackageId::new(&dsc.source, &dsc.version, format.source_arch())?, files))
        }
        Format::Rpm => Ok((open_rpm(path)?.id, Vec::new())),
    }
}

/// Bytes of a `.dsc`, at most.
const MAX_DSC: u64 = 1 << 20;

type Listed = Vec<(String, Option<Sha256>)>;

fn open_rpm(path: &Path) -> Result<rpm::Rpm> {
    let file = fs::File::open(path).or_fail(Class::Repository, || format!("cannot read {}", path.display()))?;
    rpm::read(file, &path.file_name().unwrap_or_default().to_string_lossy())
}

/// What a source package says that its build needs: the text of the `.dsc`, or a spec file that
/// asks for what the source rpm requires.
///
/// # Errors
/// It cannot be read.
pub(crate) fn source_control(format: Format, path: &Path) -> Result<String> {
    match format {
        Format::Deb => {
            let text = twostage_beneath::read_text(path, MAX_DSC, Class::Repository)?;
            Ok(twostage_package::control::dsc_files(&text)?.control.to_string())
        }
        Format::Rpm => {
            let mut spec = "Name: source\nVersion: 0\nRelease: 0\nSummary: source\nLicense: any\n".to_string();
            for need in rpm::dependencies(&open_rpm(path)?.header, rpm::Kind::Requires) {
                let clause = clause(&need);
                if !need.name.starts_with("rpmlib(") && !clause.contains(['%', '\n']) {
                    spec.push_str(&format!("BuildRequires: {clause}\n"));
                }
            }
            Ok(spec + "%description\n")
        }
    }
}

/// Whether a path in a patch is that of a source rpm's spec file, which lies in no folder.
pub(crate) fn is_spec(path: &str) -> bool {
    path.ends_with(".spec") && !path.contains('/')
}

/// What [`source_control`] gives for a source rpm, with the lines that patches add to its spec file or take away. (Only rpm
/// can read the spec file itself, and that in the builder container.)
pub(crate) fn patched_needs(spec: String, patches: &[Patch]) -> String {
    let clauses = |line: &str| {
        let value = line.split_once(':').filter(|(tag, _)| tag.trim().eq_ignore_ascii_case("BuildRequires")).map(|(_, value)| value);
        value.map(dnf::clauses).unwrap_or_default()
    };
    let mut lines: Vec<String> = spec.lines().map(String::from).collect();
    for patch in patches {
        let gone: BTreeSet<String> = patch.lines(is_spec, '-').flat_map(clauses).collect();
        let new: BTreeSet<String> = patch.lines(is_spec, '+').flat_map(clauses).filter(|clause| !clause.contains('%')).collect();
        lines.retain(|line| !clauses(line).iter().any(|clause| gone.contains(clause) && !new.contains(clause)));
        let there: BTreeSet<String> = lines.iter().flat_map(|line| clauses(line)).collect();
        let end = lines.iter().position(|line| line == "%description").unwrap_or(lines.len());
        lines.splice(end..end, new.difference(&there).map(|clause| format!("BuildRequires: {clause}")));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// `libgreet >= 1:1.0-1`, as a spec file writes it.
pub fn clause(need: &rpm::Dependency) -> String {
    let operator: String = [(0x2, '<'), (0x4, '>'), (0x8, '=')].iter().filter(|(bit, _)| need.flags & bit != 0).map(|(_, c)| *c).collect();
    if operator.is_empty() || need.version.is_empty() {
        return need.name.clone();
    }
    let epoch = need.epoch.as_deref().filter(|epoch| *epoch != "0").map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let release = if need.release.is_empty() { String::new() } else { format!("-{}", need.release) };
    format!("{} {operator} {epoch}{}{release}", need.name, need.version)
}

/// What a package contains, without what a rebuild changes by itself.
///
/// # Errors
/// It cannot be read.
pub(crate) fn content_digest(path: &Path, package: fs::File, suffix: &str) -> Result<Sha256> {
    if path.extension().is_some_and(|extension| extension == "rpm") {
        rpm::content_digest(package, suffix)
    } else {
        twostage_package::content::content_digest(package, suffix)
    }
}

/// What a closure answers; while it is the same, the closure holds: the dependencies that the
/// project's own packages cannot fulfil themselves, found by following `roots` through `own`, and
/// the names of those own packages.
pub fn external(format: Format, roots: &[String], own: &[Stored]) -> Vec<String> {
    let (separator, bare_name) = dependencies(format);
    let alternatives = |clause: &str| clause.split('|').map(str::to_string).collect::<Vec<_>>();
    let mut by_name: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for package in own {
        for name in names(format, package) {
            by_name.entry(name).or_default().push(package);
        }
    }
    let mut left: Vec<String> = roots.to_vec();
    let (mut seen, mut outside) = (BTreeSet::new(), BTreeSet::new());
    while let Some(clauses) = left.pop() {
        for clause in clauses.split(separator).map(str::trim).filter(|clause| !clause.is_empty()) {
            let ours: Vec<&Stored> =
                alternatives(clause).iter().filter_map(|name| by_name.get(bare_name(name))).flatten().copied().collect();
            if ours.is_empty() {
                outside.insert(clause.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            for package in ours {
                if seen.insert(package.sha256) {
                    outside.insert(format!("own {}", package.id.name));
                    left.extend(need_fields(format).iter().filter_map(|field| package.fields.get(*field).cloned()));
                }
            }
        }
    }
    outside.into_iter().collect()
}

/// How a list of dependencies is separated, and what takes the name out of one of them.
fn dependencies(format: Format) -> (char, fn(&str) -> &str) {
    match format {
        Format::Deb => (',', apt::bare_name),
        // One a line: some have commas in them.
        Format::Rpm => ('\n', dnf::bare_name),
    }
}

/// The fields of a package that say what it needs to be used.
fn need_fields(format: Format) -> &'static [&'static str] {
    match format {
        Format::Deb => &["Pre-Depends", "Depends"],
        Format::Rpm => &["Requires"],
    }
}

/// What a package is found by: its name, and what it provides.
pub(crate) fn names(format: Format, package: &Stored) -> impl Iterator<Item = &str> {
    let (separator, bare_name) = dependencies(format);
    let provided = package.fields.get("Provides").into_iter().flat_map(move |provides| provides.split(separator));
    let provided = provided.map(move |clause| bare_name(clause.trim()));
    std::iter::once(package.id.name.as_str()).chain(provided).filter(|name| !name.is_empty())
}

/// The names in what a package needs, those of alternatives too.
pub(crate) fn needs(format: Format, package: &Stored) -> impl Iterator<Item = &str> {
    need_fields(format).iter().filter_map(|field| package.fields.get(*field)).flat_map(move |clauses| clause_names(format, clauses))
}

/// The names in a list of clauses, those of alternatives too.
pub(crate) fn clause_names(format: Format, clauses: &str) -> impl Iterator<Item = &str> {
    let (separator, bare_name) = dependencies(format);
    clauses.split(separator).flat_map(move |clause| {
        // Of `(a >= 1 or b)` each word, as if all of them were names.
        let is_rich = format == Format::Rpm && clause.trim().starts_with('(');
        let words = clause.split(move |c: char| if is_rich { c.is_whitespace() } else { c == '|' });
        words.map(move |word| if is_rich { without_brackets(word) } else { bare_name(word.trim()) })
    })
}

/// `python3dist(x)` of `((python3dist(x)`, and of `python3dist(x))`.
fn without_brackets(word: &str) -> &str {
    let mut word = word.trim_start_matches('(');
    while word.matches(')').count() > word.matches('(').count()
        && let Some(shorter) = word.strip_suffix(')')
    {
        word = shorter;
    }
    word
}

/// The names of those packages that provide `name` without being called so.
pub fn providers<'a>(format: Format, name: &str, own: &'a [Stored]) -> Vec<&'a str> {
    let (separator, bare_name) = dependencies(format);
    let provides = |package: &&Stored| {
        let provided = package.fields.get("Provides").map_or("", String::as_str).split(separator);
        package.id.name != name && provided.map(str::trim).any(|provided| bare_name(provided) == name)
    };
    own.iter().filter(provides).map(|package| package.id.name.as_str()).collect()
}

/// What is told when the base has a newer version of a package than the one that was chosen, and what
/// to do.
pub(crate) fn newer_in_base(of: &str, name: &str, before: &str, asked: &str, own: &[Stored]) -> (String, String) {
    let what = format!("{of}: the base has {name} {before}, which is newer than {asked}");
    let hint = if own.iter().any(|package| package.id.name == name) {
        format!("give {name} a version above {before}, or take a base without it")
    } else {
        "take a base without it, or run `twostage update`".into()
    };
    (what, hint)
}

/// What the package manager says while it finds a closure.
pub(crate) enum Answer {
    Apt(apt::Simulation),
    Dnf(dnf::Transaction),
}

impl Answer {
    pub(crate) fn of(format: Format) -> Answer {
        match format {
            Format::Deb => Answer::Apt(apt::Simulation::default()),
            Format::Rpm => Answer::Dnf(dnf::Transaction::default()),
        }
    }

    pub(crate) fn line(&mut self, line: &str) {
        match self {
            Answer::Apt(answer) => answer.line(line),
            Answer::Dnf(answer) => answer.line(line),
        }
    }

    pub(crate) fn chosen(&self) -> &Chosen {
        match self {
            Answer::Apt(answer) => &answer.chosen,
            Answer::Dnf(answer) => &answer.chosen,
        }
    }

    /// The packages that it did not download, of those that it was told are here.
    pub(crate) fn known(&self) -> BTreeSet<Sha256> {
        match self {
            Answer::Apt(answer) => answer.known.clone(),
            Answer::Dnf(_) => BTreeSet::new(),
        }
    }

    /// Why it gave up, where we know more than it says, and what to do.
    pub(crate) fn explain(&self, of: &str, own: &[Stored]) -> Option<(String, String)> {
        match self {
            Answer::Apt(answer) => answer.explain(of, own),
            Answer::Dnf(answer) => answer.explain(of, own),
        }
    }

    /// What is wrong with an answer that was given, and what to do.
    pub(crate) fn objection(&self, of: &str, own: &[Stored], installs: bool) -> Option<(String, String)> {
        match self {
            Answer::Apt(answer) => answer.substituted.as_ref().filter(|_| installs).map(|(asked, taken)| {
                let what = format!("{of}: {asked} is a virtual package; apt would install {taken} for it");
                (what, format!("name {taken}, or whichever provider is meant"))
            }),
            Answer::Dnf(answer) => answer.objection(of, own),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn own(name: &str, depends: &str) -> Stored {
        Stored {
            id: PackageId { name: name.into(), version: "1".into(), arch: "amd64".into() },
            sha256: Sha256::of(name.as_bytes()),
            size: 1,
            date: 0,
            fields: BTreeMap::from([("Depends".to_string(), depends.to_string())]),
        }
    }

    #[test]
    fn a_closure_is_asked_for_what_the_project_does_not_make_itself() {
        let packages = [own("greet", "libgreet1 (>= 1.0), libxml2 (>= 2.7.4)"), own("libgreet1", "libc6 (>= 2.34)"), own("other", "perl")];
        assert_eq!(
            external(Format::Deb, &["greet".into(), "bash | dash".into()], &packages),
            ["bash | dash", "libc6 (>= 2.34)", "libxml2 (>= 2.7.4)", "own greet", "own libgreet1"]
        );
    }

    #[test]
    fn a_closure_of_rpms_is_asked_the_same() {
        let mut lib = own("libgreet", "");
        lib.fields = BTreeMap::from([
            ("Provides".to_string(), "libgreet = 1-1\nlibgreet.so.1()(64bit)".to_string()),
            ("Requires".to_string(), "libc.so.6()(64bit)\n(a or b, c)".to_string()),
        ]);
        let mut greet = own("greet", "");
        greet.fields = BTreeMap::from([("Requires".to_string(), "libgreet.so.1()(64bit)\n/bin/sh".to_string())]);
        assert_eq!(
            external(Format::Rpm, &["greet".into(), "make >= 4".into()], &[lib, greet]),
            ["(a or b, c)", "/bin/sh", "libc.so.6()(64bit)", "make >= 4", "own greet", "own libgreet"]
        );
    }

    #[test]
    fn what_a_patch_of_a_spec_file_adds_is_needed_and_what_it_takes_away_is_not() {
        let spec = "Name: source\nBuildRequires: gtk3-devel\nBuildRequires: gcc >= 12\n%description\n";
        let patch = "--- a/x.spec\n+++ b/x.spec\n@@ -1,2 +1,3 @@\n-BuildRequires: gtk3-devel, meson\n+BuildRequires: meson\n+BuildRequires:  cairo-devel\n Name: x\n\
                     --- a/doc/y.spec\n+++ b/doc/y.spec\n@@ -1 +1 @@\n-BuildRequires: gcc >= 12\n+BuildRequires: clang\n";
        let patch = Patch::new("000-x.patch".into(), "x.patch".into(), patch.as_bytes().to_vec());
        let expected = "Name: source\nBuildRequires: gcc >= 12\nBuildRequires: cairo-devel\nBuildRequires: meson\n%description\n";
        assert_eq!(patched_needs(spec.into(), &[patch]), expected);
    }
}

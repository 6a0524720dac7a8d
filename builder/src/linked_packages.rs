//! Whether what a component's packages bring finds the libraries, versions and symbols that it needs, before any of them
//! is stored.
//!
//! ```text
//! own packages ── unpacked ──────────────┐
//! needs, closure ── names of libraries   │     a root in which a package's file hides
//!        └─ those that are needed ───────┼───► the same file of one that is listed before ─► twostage_linking::check
//! base ── its folders of libraries ──────┘
//! ```
//!
//! It is the check of an image, over as much of one as the build knows. What only whoever loads a plugin can know is not
//! judged here: the audit of an image does it.

use crate::base::BaseImage;
use crate::collect::Collected;
use crate::{Context, PackageSink, Stored, members};
use lost::{Originals, lost_symbols_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_engine::execute::ready::platform;
use twostage_image::path::shown;
use twostage_image::rules::matches;
use twostage_linking::{
    Lack, LibraryRoot, LibrarySearch, LinkCheckResult, LinkFault, Linkage, LinkageState, MAGIC, MAX_FILE, Machine, check,
};
use twostage_model::error::OrFail as _;
use twostage_model::lock::Closure;
use twostage_model::project::Component;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result, Sha256};
use twostage_package::packed_files::{PackedFile, each_file, library_names};
use twostage_recipe::without_triplet;

/// Folders of the base in which libraries are looked for.
const BASE_FOLDERS: [&str; 7] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt"];
/// Folders whose files are nobody's programs: documentation, examples, data of tests.
const DATA_FOLDERS: [&str; 3] = ["usr/share/", "usr/src/", "usr/lib/debug/"];
/// Links that lead from one to the next.
const MAX_LINKS: usize = 40;
/// Faults, and symbols of one, that are told.
const MAX_TOLD: usize = 8;

/// What the check of a component's packages is told.
pub(crate) struct PackageLinks<'a> {
    pub component: &'a Component,
    pub needs: &'a [Stored],
    /// None where a Dockerfile says what the build has: then nobody knows all libraries that there were.
    pub closure: Option<&'a Closure>,
    pub base: &'a BaseImage,
}

/// Checks what a build left, and tells which symbols a library lacks that the distribution's has. Packages of debug symbols and
/// for Debian's installer are not looked into.
///
/// # Errors
/// Class `Build`: a file needs what neither these packages, those of `needs` and of the closure nor the base have.
pub(crate) async fn check_packages(context: &Arc<Context>, links: PackageLinks<'_>, collected: &Collected) -> Result<()> {
    let own: Vec<PathBuf> = collected.packages.iter().filter(|path| is_judged(&file_name(path))).cloned().collect();
    let mut root = Context::blocking(move || {
        let mut root = PackageRoot::default();
        for path in &own {
            let file = File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            match root.add_package(LibraryOrigin::Own(file_name(path)), file, &|_| true) {
                // What is wrong with it is told when it is stored.
                Err(cause) if cause.class() == Class::Repository => {}
                added => added?,
            }
        }
        Ok(root)
    })
    .await?;
    if root.own_files().next().is_none() {
        return Ok(());
    }
    let base = base_libraries(context, links.base).await?;
    let mut others: Vec<(LibraryOrigin, Sha256)> =
        links.needs.iter().map(|package| (LibraryOrigin::Needs(package.id.to_string()), package.sha256)).collect();
    others.extend(
        links
            .closure
            .iter()
            .flat_map(|closure| &closure.packages)
            .map(|locked| (LibraryOrigin::Closure(locked.id.to_string()), locked.sha256)),
    );
    let (sink, machine) = (Arc::clone(&context.packages), Machine::of(&platform(&context.engine).architecture));
    let is_whole = links.closure.is_some();
    root.unlinked.clone_from(&links.component.unlinked);
    let component = links.component.name.value.clone();
    let originals = Originals::of(&root, &context.lock(), context.project.format);
    let lost = Context::blocking(move || {
        let mut root = root;
        root.add_base(&base);
        judge(&component, sink.as_ref(), &mut root, others, machine, is_whole)?;
        lost_symbols_of(&component, sink.as_ref(), &root, &originals)
    })
    .await?;
    lost.into_iter().for_each(|event| context.events.send(event));
    Ok(())
}

/// Judges the own packages of a root, to which libraries of others are added as they are needed.
fn judge(
    component: &str,
    sink: &dyn PackageSink,
    root: &mut PackageRoot,
    others: Vec<(LibraryOrigin, Sha256)>,
    machine: Option<Machine>,
    is_whole: bool,
) -> Result<()> {
    let mut others = OtherPackages::index(sink, others)?;
    others.open_needed(sink, root)?;
    let mut faults = root.faults(machine, is_whole);
    if faults.iter().any(|fault| !fault.plugin.is_empty() && matches!(fault.lacks, Lack::Symbols(_))) {
        // What a library leaves to whoever loads it may be in any of them.
        others.open_all(sink, root)?;
        faults = root.faults(machine, is_whole);
    }
    told(component, root, &faults)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether the files of a package are there to be used on a system.
fn is_judged(file: &str) -> bool {
    let is_debug = ["-dbgsym_", "-debuginfo-", "-debugsource-", "-dbg_"].iter().any(|word| file.contains(word));
    !is_debug && (file.ends_with(".deb") || file.ends_with(".rpm"))
}

/// Who brings a file. Whoever stands behind hides what one before has at the same path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum LibraryOrigin {
    Base,
    Closure(String),
    Needs(String),
    /// The name of the package's file.
    Own(String),
}

#[derive(Debug, Clone)]
enum RootNode {
    File(LinkageState),
    Link(String),
}

/// The files that are known, by their paths, `/lib` being `/usr/lib`.
#[derive(Debug, Default)]
struct PackageRoot {
    files: BTreeMap<String, BTreeMap<LibraryOrigin, RootNode>>,
    /// Paths by the last name of each, and by the name that the library at it wants to have.
    names: BTreeMap<String, BTreeSet<String>>,
    /// Packages of a component may have the same path where one is installed instead of the other: whose files are seen.
    seen: Option<LibraryOrigin>,
    /// Patterns of paths of files that may lack what they need.
    unlinked: Vec<String>,
}

/// A path as all distributions have it since `/lib` is a link to `/usr/lib`.
fn canonical(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    if ["lib", "lib64", "bin", "sbin"].contains(&top) { format!("usr/{path}") } else { path.to_string() }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl PackageRoot {
    fn add(&mut self, origin: &LibraryOrigin, path: &str, node: RootNode) {
        let path = canonical(path);
        if let RootNode::File(LinkageState::Is(linkage)) = &node
            && let Some(soname) = &linkage.soname
        {
            self.names.entry(soname.clone()).or_default().insert(path.clone());
        }
        self.names.entry(last(&path).to_string()).or_default().insert(path.clone());
        self.files.entry(path).or_default().insert(origin.clone(), node);
    }

    /// Adds the programs, libraries and links of a package, or only those with a path that is wanted.
    fn add_package(&mut self, origin: LibraryOrigin, package: File, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        let hint = match &origin {
            LibraryOrigin::Own(name) | LibraryOrigin::Needs(name) | LibraryOrigin::Closure(name) => name.clone(),
            LibraryOrigin::Base => String::new(),
        };
        each_file(package, &hint, &mut |PackedFile { path, size, link }, content| {
            if !wanted(&path) {
                return Ok(());
            }
            if let Some(node) = node(size, link, content).map_err(|error| error.to_string())? {
                self.add(&origin, &path, node);
            }
            Ok(())
        })
    }

    fn add_base(&mut self, base: &BaseLibraries) {
        for (path, node) in &base.0 {
            self.add(&LibraryOrigin::Base, path, node.clone());
        }
    }

    fn node(&self, path: &str) -> Option<&RootNode> {
        let there = self.files.get(path)?;
        let seen = self.seen.as_ref().and_then(|seen| there.get(seen));
        seen.or_else(|| there.values().next_back())
    }

    /// Programs and libraries of the component's own packages, and which package each is of.
    fn own_files(&self) -> impl Iterator<Item = (&String, &LibraryOrigin, &Arc<Linkage>)> {
        self.files.iter().flat_map(|(path, there)| {
            there.iter().filter_map(move |(origin, node)| match (origin, node) {
                (LibraryOrigin::Own(_), RootNode::File(LinkageState::Is(linkage))) => Some((path, origin, linkage)),
                _ => None,
            })
        })
    }

    /// Names of libraries that packages ask for, but for those that own packages bring. What the base has by that name may be
    /// another one than the packages of others have.
    fn asked(&self) -> BTreeSet<String> {
        let mut asked = BTreeSet::new();
        for (origin, node) in self.files.values().flatten() {
            if let (true, RootNode::File(LinkageState::Is(linkage))) = (*origin != LibraryOrigin::Base, node) {
                asked.extend(linkage.needed.iter().chain(&linkage.interpreter).map(|name| last(name).to_string()));
            }
        }
        asked.retain(|name| !self.names.get(name).into_iter().flatten().any(|path| !self.packages_with(path).is_empty()));
        asked
    }

    /// What own files lack, each with the package that has the file.
    fn faults(&mut self, machine: Option<Machine>, is_whole: bool) -> Vec<LinkFault> {
        let search = LibrarySearch { machine, ..LibrarySearch::default() };
        let mut by_package: BTreeMap<LibraryOrigin, BTreeSet<String>> = BTreeMap::new();
        for (path, origin, linkage) in self.own_files() {
            let is_here = machine.is_none_or(|machine| machine == linkage.machine);
            if is_here && !DATA_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                by_package.entry(origin.clone()).or_default().insert(path.clone());
            }
        }
        let mut all = Vec::new();
        for (package, files) in by_package {
            self.seen = Some(package);
            if let LinkCheckResult::Faults(faults) = check(self, &search, &files) {
                all.extend(faults.into_iter().filter(|fault| files.contains(&fault.file) && self.is_told(fault, is_whole)));
            }
        }
        self.seen = None;
        all.sort();
        all.dedup();
        all
    }

    /// Whether a fault is one whatever else is installed.
    fn is_told(&self, fault: &LinkFault, is_whole: bool) -> bool {
        let is_pattern = |pattern: &String| matches(&canonical(pattern.trim_start_matches('/')), &fault.file);
        if self.unlinked.iter().any(is_pattern) {
            return false;
        }
        match &fault.lacks {
            Lack::Interpreter(_) => is_whole,
            // Where it is, a script or the linker's configuration may lead.
            Lack::Library { elsewhere, .. } => is_whole && elsewhere.is_none(),
            Lack::Version { .. } => true,
            Lack::Symbols(_) => fault.plugin.is_empty() || is_public(&fault.file),
        }
    }

    /// The own packages that have a file.
    fn packages_with(&self, file: &str) -> Vec<&str> {
        let there = self.files.get(file).into_iter().flat_map(BTreeMap::keys);
        there.filter_map(|origin| if let LibraryOrigin::Own(name) = origin { Some(name.as_str()) } else { None }).collect()
    }
}

/// Whether a library is where programs look for libraries. All others are plugins: a program has what they leave open.
fn is_public(path: &str) -> bool {
    let path = without_triplet(path);
    matches!(path.split('/').collect::<Vec<_>>().as_slice(), ["usr", "lib" | "lib64", _])
}

/// What a file is, if whoever looks for libraries may come upon it.
fn node(size: u64, link: Option<String>, content: &mut dyn Read) -> std::io::Result<Option<RootNode>> {
    if let Some(link) = link {
        return Ok(Some(RootNode::Link(link)));
    }
    let mut bytes = Vec::new();
    (&mut *content).take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
    if bytes != MAGIC || size > MAX_FILE {
        return Ok(None);
    }
    content.take(MAX_FILE).read_to_end(&mut bytes)?;
    let state = Linkage::read(&bytes).map_or(LinkageState::Nothing, |linkage| LinkageState::Is(Arc::new(linkage)));
    Ok(Some(RootNode::File(state)))
}

impl LibraryRoot for PackageRoot {
    fn real(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = canonical(path).split('/').rev().map(String::from).collect();
        let (mut real, mut links): (Vec<String>, usize) = (Vec::new(), 0);
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    real.pop();
                    continue;
                }
                _ => real.push(part),
            }
            if real.len() == 1 {
                real = canonical(&real[0]).split('/').map(String::from).collect();
            }
            if let Some(RootNode::Link(target)) = self.node(&real.join("/")) {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                real.pop();
                if target.starts_with('/') {
                    real.clear();
                }
                left.extend(target.split('/').rev().map(String::from));
            }
        }
        let real = real.join("/");
        matches!(self.node(&real), Some(RootNode::File(_))).then_some(real)
    }

    fn look(&self, real: &str) -> LinkageState {
        match self.node(real) {
            Some(RootNode::File(state)) => state.clone(),
            _ => LinkageState::Nothing,
        }
    }

    fn files(&self) -> Vec<String> {
        self.files.keys().filter(|path| matches!(self.node(path), Some(RootNode::File(_)))).cloned().collect()
    }

    fn named(&self, name: &str) -> Vec<String> {
        self.names.get(last(name)).into_iter().flatten().cloned().collect()
    }
}

/// Packages of others, of which only those are unpacked that have a library that somebody needs.
struct OtherPackages {
    packages: Vec<(LibraryOrigin, Sha256, bool)>,
    /// Which of them have a library of a name.
    by_name: BTreeMap<String, Vec<usize>>,
}

fn open(sink: &dyn PackageSink, origin: &LibraryOrigin, digest: &Sha256) -> Result<File> {
    let (LibraryOrigin::Needs(name) | LibraryOrigin::Closure(name) | LibraryOrigin::Own(name)) = origin else {
        return Err(Error::new(Class::Repository, "the base is no package"));
    };
    let path = sink.blob(digest).ok_or_else(|| Error::new(Class::Repository, format!("{name} is not in the repository")))?;
    File::open(path).or_fail(Class::Repository, || format!("cannot read {name}"))
}

impl OtherPackages {
    fn index(sink: &dyn PackageSink, packages: Vec<(LibraryOrigin, Sha256)>) -> Result<OtherPackages> {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, (origin, digest)) in packages.iter().enumerate() {
            for name in library_names(open(sink, origin, digest)?, &digest.to_string())? {
                by_name.entry(name).or_default().push(at);
            }
        }
        Ok(OtherPackages { packages: packages.into_iter().map(|(origin, digest)| (origin, digest, false)).collect(), by_name })
    }

    /// Adds the libraries that are needed, and those that these need.
    fn open_needed(&mut self, sink: &dyn PackageSink, root: &mut PackageRoot) -> Result<()> {
        let mut asked = BTreeSet::new();
        loop {
            let new: BTreeSet<String> = root.asked().difference(&asked).cloned().collect();
            if new.is_empty() {
                return Ok(());
            }
            let wanted: BTreeSet<usize> = new.iter().filter_map(|name| self.by_name.get(name)).flatten().copied().collect();
            for at in wanted {
                self.open(sink, root, at)?;
            }
            asked.extend(new);
        }
    }

    fn open_all(&mut self, sink: &dyn PackageSink, root: &mut PackageRoot) -> Result<()> {
        let with_libraries: BTreeSet<usize> = self.by_name.values().flatten().copied().collect();
        with_libraries.into_iter().try_for_each(|at| self.open(sink, root, at))
    }

    fn open(&mut self, sink: &dyn PackageSink, root: &mut PackageRoot, at: usize) -> Result<()> {
        let Some((origin, digest, is_open)) = self.packages.get_mut(at) else { return Ok(()) };
        if std::mem::replace(is_open, true) {
            return Ok(());
        }
        root.add_package(origin.clone(), open(sink, origin, digest)?, &|path| last(path).contains(".so"))
    }
}

/// The libraries of a base.
#[derive(Debug, Default)]
struct BaseLibraries(Vec<(String, RootNode)>);

/// The libraries of a base: of one that many components are built on, they are read once.
async fn base_libraries(context: &Arc<Context>, base: &BaseImage) -> Result<Arc<BaseLibraries>> {
    static READ: tokio::sync::Mutex<Option<(Sha256, Arc<BaseLibraries>)>> = tokio::sync::Mutex::const_new(None);
    let mut read = READ.lock().await;
    if let Some((digest, libraries)) = read.as_ref()
        && *digest == base.digest
    {
        return Ok(Arc::clone(libraries));
    }
    let container = context.engine.create(&base.reference).await?;
    let copied = copy_base(&container).await;
    container.remove().await?;
    let libraries = Arc::new(copied?);
    *read = Some((base.digest, Arc::clone(&libraries)));
    Ok(libraries)
}

async fn copy_base(container: &twostage_engine::Container) -> Result<BaseLibraries> {
    let mut libraries = BaseLibraries::default();
    for folder in BASE_FOLDERS {
        if container.find(folder).await?.is_none_or(|found| found.link.is_some()) {
            continue;
        }
        let stream = container.copy_out(folder).await?;
        libraries = Context::blocking(move || {
            read_base(stream, folder, &mut libraries)?;
            Ok(libraries)
        })
        .await?;
    }
    Ok(libraries)
}

/// Reads a folder of the base from its tar, whose paths begin with the folder's last name.
fn read_base(stream: impl Read, folder: &str, libraries: &mut BaseLibraries) -> Result<()> {
    let above = folder.rsplit_once('/').map_or("", |(above, _)| above).trim_start_matches('/');
    let wrong = |cause| Error::new(Class::Engine, format!("cannot read {folder} of the base")).because(cause);
    members::for_each(stream, wrong, |member| {
        let path = format!("{above}/{}", member.path.trim_start_matches("./").trim_end_matches('/'));
        let path = path.trim_start_matches('/');
        if !last(path).contains(".so") {
            return Ok(());
        }
        let link = match member.kind {
            tar::EntryType::Regular => None,
            tar::EntryType::Symlink => member.link.clone(),
            tar::EntryType::Link => member.link.as_ref().map(|link| format!("/{above}/{link}")),
            _ => return Ok(()),
        };
        if let Some(node) = node(member.size, link, member.content).map_err(wrong)? {
            libraries.0.push((path.to_string(), node));
        }
        Ok(())
    })
}

/// The error for faults; none where there is none.
fn told(component: &str, root: &PackageRoot, faults: &[LinkFault]) -> Result<()> {
    let Some(first) = faults.first() else { return Ok(()) };
    let mut lines: Vec<String> = faults.iter().take(MAX_TOLD).map(|fault| line(root, fault)).collect();
    if faults.len() > MAX_TOLD {
        lines.push(format!("and {} more", faults.len() - MAX_TOLD));
    }
    let what = match lines.as_slice() {
        [only] => format!("{component}: {only}"),
        _ => format!("{component}: {} cannot be linked: {}", count(faults.len(), "file"), lines.join("; ")),
    };
    let allowed = format!("; or let it be with unlinked = [\"/{}\"] in the component", first.file);
    Err(Error::new(Class::Build, what).hint(shown(&(hint(first) + &allowed))))
}

fn line(root: &PackageRoot, fault: &LinkFault) -> String {
    let nobody = "neither the component's packages, those that it needs, its build dependencies nor the base have";
    let lacks = match &fault.lacks {
        Lack::Interpreter(path) => format!("the dynamic linker {path}, which {nobody}"),
        Lack::Library { name, .. } => format!("{name}, which {nobody}"),
        Lack::Version { library, version } => format!("version {version} of {library}, which the {library} that is there does not have"),
        Lack::Symbols(symbols) => {
            let mut shown = symbols.iter().take(MAX_TOLD).cloned().collect::<Vec<_>>().join(", ");
            if symbols.len() > MAX_TOLD {
                shown = format!("{shown} and {} more", symbols.len() - MAX_TOLD);
            }
            format!(
                "{}, which none of its libraries has",
                if symbols.len() == 1 { format!("the symbol {shown}") } else { format!("the symbols {shown}") }
            )
        }
    };
    shown(&format!("{}: /{} needs {lacks}", root.packages_with(&fault.file).join(", "), fault.file))
}

fn hint(fault: &LinkFault) -> String {
    match &fault.lacks {
        Lack::Interpreter(_) => "build it for the base's C library".to_string(),
        Lack::Library { name, .. } => format!(
            "let one of the component's packages bring {name}, or name what has it: the distribution's package in the build \
             dependencies, the project's component in `needs`"
        ),
        Lack::Version { library, .. } => format!(
            "it was linked with another build of {library} than the one that would be installed: is the component that makes it in `needs`, \
             or does the source bring a built file?"
        ),
        Lack::Symbols(_) => {
            "link it with the library that has them (-Wl,--no-undefined finds it when it is built), or see which feature of that library is switched off"
                .to_string()
        }
    }
}

mod lost;
#[cfg(test)]
mod tests;

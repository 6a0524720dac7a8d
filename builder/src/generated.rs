//! A component without packaging: it is built and installed in one container, divided here, and packed in another.
//!
//! ```text
//! tree ─► detected ─► closure ─► [container: configure, build, test, install] ─► installed files
//!         installed files ─► split ─► packages ─► [container: debhelper's last steps] ─► .deb
//! ```

use crate::collect::{Collected, collected_folder};
use crate::component::{ComponentBuild, ended_well, environment, image_of, offer_needs, packages_of, read_patches, run_logged};
use crate::log::{Log, Phase};
use crate::patches::{self, Patch};
use crate::record::FilePlace;
use crate::source::{Made, NodeKind, Packing, Tree, add_file, folder_here, packing};
use crate::tools::{Tools, exact, exact_locked};
use crate::unpack::Sink;
use crate::{Context, Stored, ccache};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use twostage_beneath::Folder;
use twostage_image::Tarball;
use twostage_linking::Linkage;
use twostage_model::error::OrFail as _;
use twostage_model::lock::Closure;
use twostage_model::project::{BuildNeed, Component, Generated, NeedKind, Recipe};
use twostage_model::shown::count;
use twostage_model::{Class, Error, Format, Project, Result};
use twostage_recipe::debian::{self, DebianPackage};
use twostage_recipe::{
    Detected, FileContent, InstalledFile, InstalledKind, Placed, SourceTexts, content_of_text, detect, split, tags, without_triplet,
};

/// Counts up when the way we divide and pack changes, so that old results no longer stand for new ones.
const RULES: &str = "1";
/// Bytes of what a build system installs, at most.
const MOST_INSTALLED: u64 = 16 << 30;
/// Bytes of a text that is read for what it says: a script's first line, a file of pkg-config, meson's plan.
const MOST_TEXT: u64 = 16 << 20;
/// Bytes of the text of a licence.
const MOST_LICENCE: usize = 256 << 10;
/// Files with the text of a licence, at most.
const MOST_LICENCES: usize = 20;
/// Bytes of a file of a build system, at most.
const MOST_BUILD_FILE: usize = 2 << 20;
/// What debhelper needs of itself, as a clause of build dependencies.
const DEBHELPER: &str = "debhelper-compat (= 13)";

/// The source tree as the patches leave it.
struct Patched<'a> {
    tree: &'a Tree,
    patches: &'a [Patch],
}

impl SourceTexts for Patched<'_> {
    fn text(&self, path: &str) -> Option<String> {
        let path = normal(path)?;
        let text = self.tree.text(&path).ok().filter(|text| text.len() <= MOST_BUILD_FILE);
        match self.patches.iter().any(|patch| patch.touches(|touched| touched == path)) {
            true => patches::applied(self.patches, &path, text.unwrap_or_default()).ok(),
            false => text,
        }
    }

    fn top(&self) -> Vec<String> {
        self.tree.nodes().iter().map(|node| node.path.clone()).filter(|path| !path.contains('/')).collect()
    }
}

/// A path without `.` and `..`; nothing where it leaves the tree.
fn normal(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What is found out of a component's tree.
pub(crate) fn detected(name: &str, tree: &Tree, patches: &[Patch], recipe: &Generated) -> Result<Detected> {
    detect(name, &Patched { tree, patches }, recipe)
}

/// What is found out of the tree of a component of a project, if that is here. Nothing is fetched or built.
///
/// # Errors
/// It has packaging or a Dockerfile, its tree is not here, or as [`detect`].
pub fn found(files: &Folder, state: &Path, project: &Project, component: &Component) -> Result<Detected> {
    let name = component.name.value.as_str();
    let Recipe::Generated(recipe) = &component.recipe else {
        return Err(project
            .error_at(component.name.line, format!("component `{name}` has no recipe"))
            .hint("write recipe = \"auto\" where its tree has no packaging"));
    };
    let patches = read_patches(files, project, component)?;
    let folder = folder_here(files, state, &component.source.value)?.ok_or_else(|| {
        Error::new(Class::Project, format!("the source of component `{name}` is not here")).hint("`twostage lock` fetches it")
    })?;
    let tree = Tree::read(folder, Made::Elsewhere)?;
    detected(name, &tree, &patches, recipe).map_err(|cause| project.refused(recipe.line, &cause))
}

/// What of a recipe is part of the component's key, besides source and closure.
pub(crate) fn key(recipe: &Generated, field: &mut impl FnMut(&str, &[u8])) {
    field("how", b"recipe");
    field("rules", RULES.as_bytes());
    field("system", recipe.system.map_or("auto", |system| system.word()).as_bytes());
    if let Some(version) = &recipe.version {
        field("version", version.as_bytes());
    }
    for option in &recipe.options {
        field("option", option.as_bytes());
    }
    for need in &recipe.build {
        field("build", need.to_string().as_bytes());
    }
}

/// What its build needs: a `debian/control` that asks for packages, and the lines that ask for files of the distribution's
/// packages. What a component makes that it `needs` is asked for by its package.
pub(crate) fn question(context: &Context, detected: &Detected, needs: &[Stored]) -> Result<(String, Vec<String>)> {
    let mut clauses = BTreeSet::from([DEBHELPER.to_string()]);
    let mut by_file = BTreeSet::new();
    let own = Own::of(context, needs)?;
    let all = detected.required.iter().map(|need| ("required", need)).chain(detected.wanted.iter().map(|need| ("wanted", need)));
    for (how, need) in all {
        match (own.package(need), need.kind.prefix()) {
            (Some(package), _) => drop(clauses.insert(package.to_string())),
            (None, Some(kind)) => drop(by_file.insert(format!("{how} {kind} {}", need.name))),
            (None, None) if how == "required" => drop(clauses.insert(need.name.clone())),
            (None, None) => drop(by_file.insert(format!("{how} package {}", need.name))),
        }
    }
    let clauses: Vec<String> = clauses.into_iter().collect();
    Ok((asking_for(&clauses), by_file.into_iter().collect()))
}

/// A `debian/control` of which apt reads what is needed, and nothing else.
fn asking_for(clauses: &[String]) -> String {
    format!("Source: source\nBuild-Depends: {}\n\nPackage: source\nArchitecture: any\n", clauses.join(", "))
}

/// The files of the project's own packages that fulfil needs.
struct Own(BTreeMap<BuildNeed, String>);

impl Own {
    fn of(context: &Context, needs: &[Stored]) -> Result<Own> {
        let mut own = BTreeMap::new();
        for package in needs {
            own.insert(BuildNeed { kind: NeedKind::Package, name: package.id.name.clone() }, package.id.name.clone());
            let Some(path) = context.packages.blob(&package.sha256) else { continue };
            let file = fs::File::open(&path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            for (path, _) in twostage_package::deb::md5sums(file, &package.id.name)? {
                let path = String::from_utf8_lossy(&path).into_owned();
                own.extend(fulfils(path.trim_start_matches(['.', '/'])).map(|need| (need, package.id.name.clone())));
            }
        }
        Ok(Own(own))
    }

    fn package(&self, need: &BuildNeed) -> Option<&str> {
        self.0.get(need).map(String::as_str)
    }
}

/// The need that a file of a package fulfils by being there.
fn fulfils(path: &str) -> Option<BuildNeed> {
    let (folder, name) = path.rsplit_once('/')?;
    if let Some(module) = name.strip_suffix(".pc").filter(|_| folder.ends_with("/pkgconfig")) {
        return BuildNeed::new(NeedKind::PkgConfig, module);
    }
    if let Some(config) = name.strip_suffix("Config.cmake").or_else(|| name.strip_suffix("-config.cmake")) {
        return BuildNeed::new(NeedKind::CmakePackage, config);
    }
    match folder {
        "usr/bin" | "usr/sbin" | "bin" | "sbin" => BuildNeed::new(NeedKind::Command, name),
        _ => {
            let path = without_triplet(path);
            BuildNeed::new(NeedKind::Header, path.strip_prefix("usr/include/")?)
        }
    }
}

/// Builds a component by its recipe. Gives its packages, and where each file went.
pub(crate) async fn build(
    build: ComponentBuild<'_>,
    recipe: &Generated,
    folder: &Path,
    log: &mut Log,
) -> Result<(Collected, Vec<FilePlace>)> {
    let (context, name) = (build.context, build.component.name.value.as_str());
    let (tree, detected, closure) = build.generated()?;
    let [install_script, pack_script] = Tools::of(context.project.format)
        .generated
        .ok_or_else(|| Error::new(Class::Project, format!("{name}: no recipe makes packages of this format")))?;
    let image = image_of(build, closure, log).await?;
    let place = collected_folder(context)?;

    log.begin(Phase::Unpack);
    context.events.started(name, &format!("building with {}", detected.system.word()));
    let mut input = packing(context)?;
    tree.pack(&mut input, "build/src", build.date)?;
    for patch in build.patches() {
        add_file(&mut input, &format!("build/patches/{}", patch.name), 0o644, build.date, &patch.content)?;
    }
    offer(build, closure, &mut input)?;
    ccache::give(context, name, build.base, closure, &mut input, log).await?;
    let mut env = environment(build);
    env.push(("RECIPE_SYSTEM".to_string(), detected.system.word().to_string()));
    let tools = Tools::of(context.project.format);
    let cmd = tools.command(install_script, recipe.options.iter().cloned());
    let installed = run_logged(context, name, &image, &cmd, &env, input, log).await?;
    ccache::keep(context, name, &installed).await;
    let installed = ended_well(context, name, installed, log).await?;
    let stream = installed.copy_out("/build/out").await?;
    let into = place.path().to_path_buf();
    let unpacked = Context::blocking(move || unpack(stream, &into)).await;
    installed.remove().await?;
    unpacked.map_err(|cause| log.not_taken(format!("{name}: what it installed is not taken"), cause))?;

    let installed = InstalledTree {
        name: name.to_string(),
        place: place.path().to_path_buf(),
        detected: detected.clone(),
        licences: licences(&Patched { tree, patches: build.patches() }, detected),
        // By name, so that whoever reads the packaging knows with which packages of the project it was built.
        needs: closure.asked.iter().filter_map(|asked| asked.strip_prefix("own ")).map(String::from).collect(),
    };
    let divided = Context::blocking(move || installed.divide()).await;
    let divided = divided.map_err(|cause| log.not_taken(format!("{name}: what it installed cannot be divided into packages"), cause))?;
    context.events.started(name, &format!("packing {}", count(divided.packages.len(), "package")));
    let mut input = packing(context)?;
    divided.pack(&mut input, build.date)?;
    offer(build, closure, &mut input)?;
    env.push(("RECIPE_VERSION".to_string(), detected.version.clone()));
    let packed = run_logged(context, name, &image, &tools.command(pack_script, []), &env, input, log).await?;
    let packed = ended_well(context, name, packed, log).await?;
    Ok((packages_of(name, packed, folder, log).await?, divided.places))
}

/// The texts of the licences of a tree.
fn licences(source: &Patched<'_>, detected: &Detected) -> Vec<String> {
    let texts = detected.licence_files.iter().take(MOST_LICENCES).filter_map(|path| source.text(path));
    texts.map(|text| text.chars().take(MOST_LICENCE).collect()).collect()
}

/// Packs the way to the packages that are installed with the build, and a `debian/control` that asks for exactly them.
fn offer(build: ComponentBuild<'_>, closure: &Closure, input: &mut Packing) -> Result<()> {
    offer_needs(build, closure, input)?;
    let own = build.needs.iter().filter(|package| closure.own.contains(&package.id.name));
    let own = own.map(|package| exact(Format::Deb, &package.id.name, &package.id.version));
    let clauses: Vec<String> =
        own.chain(closure.packages.iter().map(|package| exact_locked(Format::Deb, package))).map(|name| clause(&name)).collect();
    add_file(input, "build/control/debian/control", 0o644, 0, asking_for(&clauses).as_bytes())
}

/// `libx1 (= 1-1)` of `libx1:amd64=1-1`.
fn clause(exact: &str) -> String {
    let (name, version) = exact.split_once('=').unwrap_or((exact, ""));
    format!("{} (= {version})", name.split(':').next().unwrap_or(name))
}

/// Writes what a container has installed into a folder: files, folders and links below it, and nothing else.
fn unpack(stream: impl Read, into: &Path) -> Result<()> {
    let mut sink = Sink::new(into, MOST_INSTALLED)?;
    let unreadable = || "what the build installed cannot be read".to_string();
    let mut tar = Tarball::new(BufReader::with_capacity(128 << 10, stream));
    while let Some(member) = tar.next().or_fail(Class::Build, unreadable)? {
        // The stream's top is the folder itself; some engines leave it away.
        let path = without_top(&member.path);
        let refused = |what: &str, hint: &str| {
            let shown = String::from_utf8_lossy(path.strip_prefix(b"tree/").unwrap_or(path)).escape_debug().to_string();
            Err(Error::new(Class::Build, format!("it installs /{shown}, {what}")).hint(hint.to_string()))
        };
        if path.is_empty() {
            continue;
        }
        match member.kind {
            b'0' if member.mode & 0o6000 != 0 => {
                return refused(
                    "which runs with the rights of another user (setuid or setgid)",
                    "a recipe makes no such package: take the bit away, or give the source packaging that says so",
                );
            }
            b'0' => sink.file(path, member.mode & 0o111 != 0, member.mtime, member.size, &mut tar)?,
            b'1' => sink.second_name(path, without_top(&member.link))?,
            b'2' => sink.link(path, &member.link)?,
            b'5' => sink.folder(path)?,
            _ => return refused("which is neither file, folder nor link", "packages have no devices, sockets and pipes"),
        }
    }
    // Only at its very end does an engine's stream tell whether it is whole.
    tar.finish().or_fail(Class::Build, unreadable).map(drop)
}

fn without_top(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_prefix(b"out/").unwrap_or(path);
    if matches!(path, b"out" | b".") { b"" } else { path }
}

/// What a build installed, and what is known of its source.
struct InstalledTree {
    /// The component's.
    name: String,
    /// The folder with the installed tree, and what the build system says of it.
    place: PathBuf,
    detected: Detected,
    licences: Vec<String>,
    /// The project's own packages that it was built with.
    needs: Vec<String>,
}

/// What was installed, divided into packages.
struct Divided {
    installed: Tree,
    packages: Vec<DebianPackage>,
    places: Vec<FilePlace>,
    control: String,
    copyright: String,
}

impl InstalledTree {
    fn divide(self) -> Result<Divided> {
        let name = self.name.as_str();
        let place = Folder::open(&self.place)?;
        let installed = Tree::read(place.folder("tree")?, Made::Elsewhere)?;
        let files = files(&installed)?;
        let text = |name: &str| place.read_text(name, MOST_TEXT).unwrap_or_default();
        let placed = split(&files, &tags(&text("plan.json"), &text("installed.json"))).map_err(|unplaced| {
            let shown: Vec<String> = unplaced.iter().take(5).map(|file| format!("/{}", file.0)).collect();
            let more = if unplaced.len() > shown.len() { format!(" and {} more", unplaced.len() - shown.len()) } else { String::new() };
            Error::new(Class::Build, format!("{name}: no rule says which package has {}{more}", shown.join(", ")))
                .hint("packages have files below /usr and /etc: is the build system told another prefix?")
        })?;
        let packages = debian::packages(name, &files, &placed);
        if packages.is_empty() {
            return Err(Error::new(Class::Build, format!("{name}: its build system installs nothing"))
                .hint("is something to be switched on with `options`? A Makefile has to know DESTDIR and PREFIX"));
        }
        if let Some(package) = packages.iter().find(|package| Format::Deb.check_name(&package.name, None).is_err()) {
            let what = format!("{name}: a package would be called {:?}, which is no name of a package", package.name);
            return Err(Error::new(Class::Build, what).hint("give the component, or the library, another name"));
        }
        let owners: BTreeMap<&str, &str> =
            packages.iter().flat_map(|package| package.files.iter().map(|file| (file.as_str(), package.name.as_str()))).collect();
        let place_of = |file: Placed| FilePlace {
            package: owners.get(file.path.as_str()).map(ToString::to_string),
            rule: file.rule.to_string(),
            path: file.path,
        };
        let places = placed.into_iter().map(place_of).collect();
        let build_depends: Vec<String> = std::iter::once(DEBHELPER.to_string()).chain(self.needs).collect();
        Ok(Divided {
            control: debian::control(name, &self.detected, &build_depends, &packages),
            copyright: debian::copyright(name, &self.detected, &self.licences),
            installed,
            packages,
            places,
        })
    }
}

impl Divided {
    /// Packs the folders of all packages, as debhelper wants them.
    fn pack(&self, input: &mut Packing, date: i64) -> Result<()> {
        let owners = self.places.iter().filter_map(|file| Some((file.path.as_str(), file.package.as_deref()?)));
        let owners: BTreeMap<&str, &str> = owners.collect();
        self.installed.pack_as(input, date, |path| owners.get(path).map(|package| format!("build/src/debian/{package}/{path}")))?;
        add_file(input, "build/src/debian/control", 0o644, date, self.control.as_bytes())?;
        add_file(input, "build/src/debian/copyright", 0o644, date, self.copyright.as_bytes())?;
        let mut asks = String::new();
        for package in &self.packages {
            let programs = package.interpreters.iter().map(|program| ("run", program));
            for (kind, what) in programs.chain(package.modules.iter().map(|module| ("module", module))) {
                // (A line has three words.)
                if !what.is_empty() && !what.contains(char::is_whitespace) && !what.starts_with('-') {
                    asks.push_str(&format!("{} {kind} {what}\n", package.name));
                }
            }
        }
        add_file(input, "build/asks", 0o644, date, asks.as_bytes())
    }
}

/// The files of an installed tree, with what decides where they belong.
fn files(tree: &Tree) -> Result<Vec<InstalledFile>> {
    let nodes = tree.nodes();
    let mut files = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let (kind, size) = match &node.kind {
            NodeKind::Link { target } => (InstalledKind::Link(target.clone()), 0),
            NodeKind::File { .. } => {
                let file = tree.open(&node.path)?;
                let size = file.metadata().or_fail(Class::System, || format!("cannot read /{}", node.path))?.len();
                (InstalledKind::File(content(&node.path, file, size)?), size)
            }
            NodeKind::Folder => {
                let below = format!("{}/", node.path);
                if nodes[at + 1..].iter().take_while(|other| other.path.starts_with(&node.path)).any(|other| other.path.starts_with(&below))
                {
                    continue;
                }
                (InstalledKind::EmptyFolder, 0)
            }
        };
        files.push(InstalledFile { path: node.path.clone(), kind, size });
    }
    Ok(files)
}

fn content(path: &str, file: fs::File, size: u64) -> Result<FileContent> {
    let mut file = file.take(twostage_linking::MAX_FILE);
    let cannot = || format!("cannot read /{path}");
    let mut bytes = Vec::new();
    (&mut file).take(4096).read_to_end(&mut bytes).or_fail(Class::System, cannot)?;
    if bytes.starts_with(twostage_linking::MAGIC) {
        if size > twostage_linking::MAX_FILE {
            return Ok(FileContent::Elf(None));
        }
        file.read_to_end(&mut bytes).or_fail(Class::System, cannot)?;
        return Ok(FileContent::Elf(Linkage::read(&bytes).and_then(|linkage| linkage.soname)));
    }
    if path.ends_with(".pc") {
        file.take(MOST_TEXT).read_to_end(&mut bytes).or_fail(Class::System, cannot)?;
    }
    Ok(content_of_text(path, &String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_our_own_packages_fulfils_a_need() {
        for (path, need) in [
            ("usr/lib/x86_64-linux-gnu/pkgconfig/greet.pc", Some("pc:greet")),
            ("usr/bin/greet-gen", Some("cmd:greet-gen")),
            ("usr/include/greet/greet.h", Some("header:greet/greet.h")),
            ("usr/include/x86_64-linux-gnu/greet.h", Some("header:greet.h")),
            ("usr/lib/x86_64-linux-gnu/cmake/Greet/GreetConfig.cmake", Some("cmake:Greet")),
            ("usr/share/doc/greet/copyright", None),
            ("greet", None),
        ] {
            assert_eq!(fulfils(path).map(|need| need.to_string()).as_deref(), need, "{path}");
        }
    }

    fn tar(entries: &[(&str, u8, u32, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, mode, content) in entries {
            let mut header = crate::source::header(0);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_mode(*mode);
            header.set_size(if *kind == b'0' { content.len() as u64 } else { 0 });
            if *kind == b'2' {
                header.set_link_name(content).expect("a short target");
            }
            header.set_cksum();
            let content = if *kind == b'0' { content.as_bytes() } else { b"" };
            tar.append(&header, content).expect("into memory");
        }
        tar.into_inner().expect("in memory")
    }

    #[test]
    fn what_a_hostile_build_installs_is_refused_by_name() {
        for (entry, why) in [
            (
                ("out/tree/usr/bin/su", b'0', 0o4755, "x"),
                "it installs /usr/bin/su, which runs with the rights of another user (setuid or setgid)",
            ),
            (("out/tree/dev/null", b'3', 0o666, ""), "it installs /dev/null, which is neither file, folder nor link"),
            (("out/../../x", b'0', 0o644, "x"), "its path climbs with `..`"),
            (("/etc/passwd", b'0', 0o644, "x"), "its path is absolute"),
        ] {
            let into = tempfile::tempdir().expect("a folder");
            let error = unpack(&tar(&[("out/", b'5', 0o755, ""), entry])[..], into.path()).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
        let into = tempfile::tempdir().expect("a folder");
        let whole = tar(&[("out/", b'5', 0o755, ""), ("out/tree/", b'5', 0o755, ""), ("out/tree/x", b'2', 0o777, "/etc/shadow")]);
        unpack(&whole[..], into.path()).expect("a link is one, whatever it names");
        let tree =
            Tree::read(Folder::open(into.path()).expect("a folder").folder("tree").expect("it is there"), Made::Elsewhere).expect("a tree");
        assert_eq!(files(&tree).expect("read").len(), 1);
    }
}

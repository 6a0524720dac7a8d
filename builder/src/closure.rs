//! Closures: what a component's build, or an image, needs of the distribution beyond its base.
//!
//! apt itself finds them, in a container of the base, and downloads them; we keep the answer in
//! the lock and the packages in the pool. From then on nobody asks a mirror.

use crate::base::BaseImage;
use crate::collect::{Collected, collect};
use crate::parallel::in_parallel;
use crate::source::add_file;
use crate::{Context, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twostage_engine::{Pending, Run};
use twostage_model::error::OrFail as _;
use twostage_model::lock::{Closure, LockedPackage, LockedSource};
use twostage_model::{Class, Error, Result, Sha256};
use twostage_package::version::compare;

/// What a closure is found for.
#[derive(Debug, Clone)]
pub enum Question {
    /// Build dependencies, as a `debian/control` or `.dsc` says them.
    Build {
        /// The stanza's text.
        control: String,
    },
    /// Packages to install; `name=version` for the project's own.
    Install(Vec<String>),
}

/// How a closure is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As locked; if something new is needed, all that can stay stays.
    Keep,
    /// As the distribution's mirror is now.
    Newest,
}

/// What a closure answers; while it is the same, the closure holds: the dependencies that the
/// project's own packages cannot fulfil themselves, found by following `roots` through `own`, and
/// the names of those own packages.
pub fn external(roots: &[String], own: &[Stored]) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for package in own {
        by_name.entry(&package.id.name).or_default().push(package);
        for provided in package.fields.get("Provides").into_iter().flat_map(|provides| provides.split(',')) {
            by_name.entry(bare_name(provided)).or_default().push(package);
        }
    }
    let mut left: Vec<String> = roots.to_vec();
    let (mut seen, mut outside) = (BTreeSet::new(), BTreeSet::new());
    while let Some(clauses) = left.pop() {
        for clause in clauses.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
            let ours: Vec<&Stored> = clause.split('|').filter_map(|name| by_name.get(bare_name(name))).flatten().copied().collect();
            if ours.is_empty() {
                outside.insert(clause.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            for package in ours {
                if seen.insert(package.sha256) {
                    outside.insert(format!("own {}", package.id.name));
                    left.extend(["Pre-Depends", "Depends"].iter().filter_map(|field| package.fields.get(*field).cloned()));
                }
            }
        }
    }
    outside.into_iter().collect()
}

/// `libc6` of `libc6:any (>= 2.36) [amd64] <!nocheck>`.
fn bare_name(clause: &str) -> &str {
    let clause = clause.trim();
    let end = clause.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(clause.len());
    &clause[..end]
}

/// The closure named `of`: the locked one while it holds, else a new one, which is then locked.
///
/// # Errors
/// apt cannot satisfy it (its own words are in the cause), or the lock may not change.
pub fn closure<'a>(
    context: &'a Arc<Context>,
    of: &'a str,
    base: &'a BaseImage,
    question: &'a Question,
    asked: Vec<String>,
    own: &'a [Stored],
    freshness: Freshness,
) -> Pending<'a, Result<Closure>> {
    Box::pin(closure_now(context, of, base, question, asked, own, freshness))
}

async fn closure_now(
    context: &Arc<Context>,
    of: &str,
    base: &BaseImage,
    question: &Question,
    asked: Vec<String>,
    own: &[Stored],
    freshness: Freshness,
) -> Result<Closure> {
    let locked = context.lock().closures.get(of).cloned();
    if let Some(locked) = locked.as_ref().filter(|c| c.base == base.digest && c.asked == asked && freshness == Freshness::Keep) {
        fetch_missing(context, of, base, &locked.packages).await?;
        return Ok(locked.clone());
    }
    if !context.may_lock {
        return Err(Error::new(Class::Project, format!("the lock does not hold for {of}: what it needs has changed"))
            .hint("run `twostage lock` and commit twostage.lock"));
    }
    context.events.started(subject(of), "asking apt for what it needs");
    let earlier = match (&locked, freshness) {
        (Some(locked), Freshness::Keep) if locked.base == base.digest => locked.packages.as_slice(),
        _ => &[],
    };
    let (packages, own) = solve(context, of, base, question, own, earlier).await?;
    let closure = Closure { base: base.digest, asked, own, packages };
    context.lock().closures.insert(of.to_string(), closure.clone());
    Ok(closure)
}

/// `greet` of `build:greet`.
fn subject(of: &str) -> &str {
    of.split_once(':').map_or(of, |(_, subject)| subject)
}

async fn solve(
    context: &Arc<Context>,
    of: &str,
    base: &BaseImage,
    question: &Question,
    own: &[Stored],
    earlier: &[LockedPackage],
) -> Result<(Vec<LockedPackage>, Vec<String>)> {
    let mut input = tar::Builder::new(Vec::new());
    let mut offered: Vec<Sha256> = own.iter().map(|package| package.sha256).collect();
    for package in earlier {
        if context.packages.get(&package.sha256)?.is_some() {
            offered.push(package.sha256);
        }
    }
    if !offered.is_empty() {
        let (_, sources) = context.packages.serve(&offered)?;
        add_file(&mut input, "var/cache/twostage/sources/twostage.sources", 0o644, 0, sources.as_bytes())?;
    }
    let arguments: Vec<String> = match question {
        Question::Build { control } => {
            add_file(&mut input, "var/cache/twostage/control/debian/control", 0o644, 0, control.as_bytes())?;
            vec!["build-dep".into(), "/var/cache/twostage/control".into()]
        }
        Question::Install(packages) => std::iter::once("install".to_string()).chain(packages.iter().cloned()).collect(),
    };
    let mut simulation = Simulation::default();
    let (_folder, collected) = fetch(context, of, base, include_str!("../scripts/closure.sh"), &arguments, input, &mut |line| {
        simulation.line(line);
    })
    .await
    .map_err(|cause| match simulation.explain(of, own) {
        Some((what, hint)) => Error::new(Class::Project, what).because(cause).hint(hint),
        None => cause,
    })?;
    let stored = store(context, collected).await?;
    if let (Question::Install(_), Some((asked, taken))) = (question, simulation.substituted) {
        return Err(Error::new(Class::Project, format!("{of}: {asked} is a virtual package; apt would install {taken} for it"))
            .hint(format!("name {taken}, or whichever provider is meant")));
    }
    let own_digests: BTreeSet<Sha256> = own.iter().map(|package| package.sha256).collect();
    let mut packages: Vec<LockedPackage> = stored
        .into_iter()
        .filter(|package| !own_digests.contains(&package.sha256))
        .map(|package| {
            let found = simulation.origins.get(&(package.id.name.clone(), package.id.version.clone()));
            let before = earlier.iter().find(|earlier| earlier.sha256 == package.sha256).map(|earlier| &earlier.origin);
            let origin = before.or(found).cloned().unwrap_or_else(|| "unknown".into());
            LockedPackage { id: package.id, size: package.size, sha256: package.sha256, origin }
        })
        .collect();
    packages.sort();
    let is_own = |(name, version): &(String, String)| own.iter().any(|p| p.id.name == *name && p.id.version == *version);
    let (chosen, expected): (BTreeSet<_>, BTreeSet<_>) = simulation.origins.keys().cloned().partition(is_own);
    let found: BTreeSet<_> = packages.iter().map(|p| (p.id.name.clone(), p.id.version.clone())).collect();
    if expected != found {
        let differing: Vec<String> = expected.symmetric_difference(&found).map(|(name, version)| format!("{name} {version}")).collect();
        return Err(Error::new(Class::Project, format!("{of}: apt said one thing and downloaded another: {}", differing.join(", "))));
    }
    Ok((packages, chosen.into_iter().map(|(name, _)| name).collect()))
}

/// What `apt-get --simulate` says: `Inst name [old] (version origin[, origin] [arch])`.
#[derive(Debug, Default)]
struct Simulation {
    inside: bool,
    origins: BTreeMap<(String, String), String>,
    /// The virtual package that was asked for, and the one that apt took for it.
    substituted: Option<(String, String)>,
    /// A virtual package that apt takes nothing for, and those that provide it.
    provided: Option<(String, Vec<String>)>,
    /// Name, version in the base, and the older version that was asked for.
    downgraded: Vec<(String, String, String)>,
    /// `greet : Depends: libgreet1 (>= 2)`.
    unmet: Vec<String>,
}

impl Simulation {
    fn line(&mut self, line: &str) {
        match line.trim_end() {
            "twostage: simulation begins" => self.inside = true,
            "twostage: simulation ends" => self.inside = false,
            line if self.inside => {
                if let Some((taken, asked)) = line.strip_prefix("Note, selecting '").and_then(|rest| rest.split_once("' instead of '")) {
                    self.substituted = Some((asked.trim_end_matches('\'').to_string(), taken.to_string()));
                }
                if let Some((name, version, origin)) = parse_inst(line) {
                    self.origins.insert((name.to_string(), version.to_string()), origin.to_string());
                    let before = line.split_once(" [").and_then(|(_, rest)| rest.split_once("] (")).map(|(before, _)| before);
                    if let Some(before) = before.filter(|before| compare(before, version).is_gt()) {
                        self.downgraded.push((name.to_string(), before.to_string(), version.to_string()));
                    }
                }
                if let Some(name) = line.strip_prefix("Package ").and_then(|rest| rest.strip_suffix(" is a virtual package provided by:")) {
                    self.provided = Some((name.to_string(), Vec::new()));
                } else if let (Some((_, providers)), Some(provider)) = (&mut self.provided, line.strip_prefix("  ")) {
                    providers.extend(provider.split_whitespace().next().map(String::from));
                }
                if line.contains("epends: ") && line.starts_with(' ') {
                    self.unmet.push(line.trim().to_string());
                }
            }
            _ => {}
        }
    }

    /// Why apt gave up, where we know more than it says, and what to do.
    fn explain(&self, of: &str, own: &[Stored]) -> Option<(String, String)> {
        if let Some((name, providers)) = &self.provided {
            let what = format!("{of}: {name} is a virtual package; these provide it: {}", providers.join(", "));
            return Some((what, "name the one that is meant".into()));
        }
        if let Some((name, before, asked)) = self.downgraded.first() {
            let what = format!("{of}: the base has {name} {before}, which is newer than {asked}");
            let hint = if own.iter().any(|package| package.id.name == *name) {
                format!("give {name} a version above {before}, or take a base without it")
            } else {
                "take a base without it, or run `twostage update`".into()
            };
            return Some((what, hint));
        }
        let depends = |line: &str| line.split_once("epends: ").map(|(_, clause)| bare_name(clause).to_string());
        let ours = self.unmet.iter().filter_map(|line| Some((line, depends(line)?)));
        ours.filter_map(|(line, name)| Some((line, own.iter().find(|package| package.id.name == name)?))).next().map(|(line, package)| {
            let name = &package.id.name;
            let what = format!("{of}: {line}, and the project's own {name} is {}", package.id.version);
            let hint = format!(
                "no other {name} is taken, the distribution's least of all: give ours a version that fits, or its package another name"
            );
            (what, hint)
        })
    }
}

fn parse_inst(line: &str) -> Option<(&str, &str, &str)> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(' ')?;
    let (_, rest) = rest.split_once('(')?;
    let (version, rest) = rest.split_once(' ')?;
    let (origin, _) = rest.split_once(" [").unwrap_or((rest.trim_end_matches([')', ' ']), ""));
    // A foreign architecture is written behind the name: `libc6:i386`.
    Some((name.split(':').next().unwrap_or(name), version, origin))
}

/// Runs one of the scripts that leave files in `/var/cache/twostage/out`.
async fn fetch(
    context: &Arc<Context>,
    of: &str,
    base: &BaseImage,
    script: &str,
    arguments: &[String],
    input: tar::Builder<Vec<u8>>,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<(tempfile::TempDir, Collected)> {
    let reach = context.reach.reach(&base.reference).await?;
    let input = input.into_inner().or_fail(Class::System, || "cannot pack a builder's input".into())?;
    let mut cmd: Vec<String> =
        vec!["sh".into(), "-c".into(), format!("{}{script}", include_str!("../scripts/prelude.sh")), "twostage".into()];
    cmd.extend(arguments.iter().cloned());
    let mut last = LastLines::default();
    let container = context
        .engine
        .run(
            Run {
                env: &[("TWOSTAGE_PROXY".into(), reach.proxy.clone())],
                network: reach.network,
                input: Some(input),
                ..Run::new(&base.reference, &cmd)
            },
            &mut |line| {
                last.push(line);
                context.events.log(subject(of), line);
                on_line(line);
            },
        )
        .await?;
    if container.exit_code != 0 {
        container.remove().await?;
        return Err(Error::new(Class::Project, format!("{of}: apt cannot give what it needs on {}", base.reference))
            .because(last.errors())
            .hint("if the distribution has it, is it in the base's apt sources? If a component makes it, is that component in `needs`?"));
    }
    let folder = tempfile::Builder::new()
        .prefix("collected-")
        .tempdir_in(&context.state)
        .or_fail(Class::System, || format!("cannot write in {}", context.state.display()))?;
    let stream = container.copy_out("/var/cache/twostage/out").await?;
    let into = folder.path().to_path_buf();
    let collected = Context::blocking(move || collect(stream, &into)).await?;
    container.remove().await?;
    Ok((folder, collected))
}

async fn store(context: &Arc<Context>, collected: Collected) -> Result<Vec<Stored>> {
    let packages = context.packages.clone();
    Context::blocking(move || {
        in_parallel(&collected.packages, |path| {
            let mut file = std::fs::File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            packages.put(&mut file, &path.file_name().unwrap_or_default().to_string_lossy())
        })
    })
    .await
}

/// A package of a base that the distribution has newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Package name.
    pub name: String,
    /// The base's version.
    pub installed: String,
    /// The distribution's version.
    pub newest: String,
    /// Where that comes from.
    pub origin: String,
}

/// What apt would upgrade in the base.
///
/// # Errors
/// Its mirror does not answer.
pub fn upgrades<'a>(context: &'a Arc<Context>, base: &'a BaseImage) -> Pending<'a, Result<Vec<Upgrade>>> {
    Box::pin(upgrades_now(context, base))
}

async fn upgrades_now(context: &Arc<Context>, base: &BaseImage) -> Result<Vec<Upgrade>> {
    let mut found = Vec::new();
    let script = "apt-get update\napt-get --simulate dist-upgrade\n";
    fetch(context, "base", base, script, &[], tar::Builder::new(Vec::new()), &mut |line| {
        if let Some((name, newest, origin)) = parse_inst(line.trim_end()) {
            let installed = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(version, _)| version);
            let of = |text: &str| text.to_string();
            found.push(Upgrade { name: of(name), installed: of(installed), newest: of(newest), origin: of(origin) });
        }
    })
    .await?;
    Ok(found)
}

/// Downloads the locked packages that the pool does not have, and checks that they are the same.
///
/// # Errors
/// The mirror no longer has one, or has other bytes under its name.
pub async fn fetch_missing(context: &Arc<Context>, of: &str, base: &BaseImage, packages: &[LockedPackage]) -> Result<()> {
    let mut missing = Vec::new();
    for package in packages {
        if context.packages.get(&package.sha256)?.is_none() {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    context.events.started(subject(of), &format!("fetching {} locked packages", missing.len()));
    let arguments: Vec<String> = missing.iter().map(|package| versioned(package)).collect();
    let gone = |cause: Error| {
        Error::new(Class::Project, format!("{of}: the base's mirror does not give all locked packages"))
            .because(cause)
            .hint("copy the repository from a machine that has them, or move on with `twostage update`")
    };
    let (_folder, collected) =
        fetch(context, of, base, include_str!("../scripts/fetch.sh"), &arguments, tar::Builder::new(Vec::new()), &mut |_| ())
            .await
            .map_err(gone)?;
    let stored = store(context, collected).await?;
    let got: BTreeSet<Sha256> = stored.iter().map(|package| package.sha256).collect();
    match missing.iter().find(|package| !got.contains(&package.sha256)) {
        None => Ok(()),
        Some(package) => Err(gone(Error::new(Class::Project, format!("{} is not what was locked", package.id)))),
    }
}

/// `name:arch=version`, as apt takes it on its command line.
pub fn versioned(package: &LockedPackage) -> String {
    let arch = if package.id.arch == "all" { String::new() } else { format!(":{}", package.id.arch) };
    format!("{}{arch}={}", package.id.name, package.id.version)
}

/// The distribution's source package of a component: the locked one, else the newest, which is
/// then locked. Its files are blobs afterwards.
///
/// # Errors
/// The mirror does not have it, or its files are not what its `.dsc` says.
pub async fn locked_source(
    context: &Arc<Context>,
    component: &str,
    base: &BaseImage,
    name: &str,
    version: Option<&str>,
    freshness: Freshness,
) -> Result<LockedSource> {
    let locked = context.lock().sources.get(component).cloned();
    let stale = || {
        Error::new(Class::Project, format!("the lock does not hold for the source of {component}"))
            .hint("run `twostage lock` and commit twostage.lock")
    };
    if locked.is_none() && !context.may_lock {
        return Err(stale());
    }
    if let Some(locked) = &locked {
        let asked_for = locked.name == name && version.is_none_or(|version| version == locked.version);
        let here = locked.files.values().all(|(_, digest)| context.packages.blob(digest).is_some());
        if asked_for && here && freshness == Freshness::Keep {
            return Ok(locked.clone());
        }
        if !asked_for && !context.may_lock {
            return Err(stale());
        }
    }
    let wanted = match (&locked, version) {
        (_, Some(version)) => format!("{name}={version}"),
        (Some(locked), None) if locked.name == name && freshness == Freshness::Keep => format!("{name}={}", locked.version),
        _ => name.to_string(),
    };
    context.events.started(component, &format!("fetching source package {wanted}"));
    let (folder, collected) = fetch(
        context,
        &format!("source:{component}"),
        base,
        include_str!("../scripts/fetch-source.sh"),
        &[wanted],
        tar::Builder::new(Vec::new()),
        &mut |_| (),
    )
    .await?;
    let [dsc_path] = collected.sources.as_slice() else {
        return Err(Error::new(Class::Project, format!("{component}: the mirror gave {} .dsc files", collected.sources.len())));
    };
    let text = std::fs::read_to_string(dsc_path).or_fail(Class::Project, || format!("{component}: its .dsc is no text"))?;
    let dsc = twostage_package::control::dsc_files(&text)?;
    let mut source = LockedSource { name: dsc.source.clone(), version: dsc.version.clone(), files: BTreeMap::new() };
    let dsc_name = dsc_path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = std::iter::once((dsc_name, None)).chain(dsc.files.iter().map(|file| (file.name.clone(), Some(file.sha256))));
    for (file_name, expected) in names {
        let path = folder.path().join(&file_name);
        let mut file =
            std::fs::File::open(&path).or_fail(Class::Project, || format!("{component}: {file_name} did not come with the source"))?;
        let (digest, size) = context.packages.put_blob(&mut file)?;
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::new(Class::Project, format!("{component}: {file_name} is not what its .dsc says")));
        }
        source.files.insert(file_name, (size, digest));
    }
    match locked {
        Some(locked) if freshness == Freshness::Keep && locked.version == source.version && locked != source => {
            Err(Error::new(Class::Project, format!("{component}: source {name} {} is not what was locked", source.version))
                .hint("run `twostage update` if the change is right"))
        }
        _ => {
            context.lock().sources.insert(component.to_string(), source.clone());
            Ok(source)
        }
    }
}

/// The last lines of an output, and among them those that say what went wrong.
#[derive(Debug, Default)]
pub struct LastLines(std::collections::VecDeque<String>);

impl LastLines {
    /// Adds a line; the oldest beyond 40 is forgotten.
    pub fn push(&mut self, line: &str) {
        if self.0.len() == 40 {
            self.0.pop_front();
        }
        self.0.push_back(line.trim_end().to_string());
    }

    /// The last lines as one text.
    pub fn text(&self, count: usize) -> String {
        let skip = self.0.len().saturating_sub(count);
        self.0.iter().skip(skip).cloned().collect::<Vec<_>>().join("\n")
    }

    /// What our own RUN and apt said went wrong; empty if neither said anything.
    pub fn reason(&self) -> String {
        let telling = |line: &&String| ["twostage: ", "E: ", "dpkg: error"].iter().any(|start| line.starts_with(start));
        self.0.iter().filter(telling).cloned().collect::<Vec<_>>().join("\n")
    }

    /// apt's own error lines, with what it explains before them; else the last lines.
    pub fn errors(&self) -> String {
        let telling: Vec<String> =
            self.0.iter().filter(|l| l.starts_with("E: ") || l.starts_with("Err:") || l.contains("Depends:")).cloned().collect();
        if telling.is_empty() { self.text(8) } else { telling.join("\n") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::PackageId;

    fn own(name: &str, depends: &str) -> Stored {
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
            external(&["greet".into(), "bash | dash".into()], &packages),
            ["bash | dash", "libc6 (>= 2.34)", "libxml2 (>= 2.7.4)", "own greet", "own libgreet1"]
        );
    }

    #[test]
    fn what_apt_says_before_it_gives_up_is_explained() {
        let explain = |lines: &str, own: &[Stored]| {
            let mut simulation = Simulation::default();
            "twostage: simulation begins\n".lines().chain(lines.lines()).for_each(|line| simulation.line(line));
            simulation.explain("runtime:demo", own).map(|(what, _)| what).unwrap_or_default()
        };
        let ours = [own("greet", "")];
        let said = "Package mta is a virtual package provided by:\n  postfix 3.7\n  exim4 4.96 (= 4)\nYou should explicitly select one to install.\n";
        assert_eq!(explain(said, &[]), "runtime:demo: mta is a virtual package; these provide it: postfix, exim4");
        let said = "Inst greet [9.9] (1.0 demo:twostage [all])\n";
        assert_eq!(explain(said, &ours), "runtime:demo: the base has greet 9.9, which is newer than 1.0");
        assert_eq!(explain("Inst greet [0.9] (1.0 demo:twostage [all])\n", &ours), "");
        let said = " app : Depends: greet (>= 2.0)\n app : Depends: other\n";
        assert_eq!(explain(said, &ours), "runtime:demo: app : Depends: greet (>= 2.0), and the project's own greet is 1");
        assert_eq!(explain(" app : Depends: other\n", &ours), "");
    }

    #[test]
    fn apts_simulation_tells_version_and_origin() {
        assert_eq!(
            parse_inst("Inst libicu72 (72.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])"),
            Some(("libicu72", "72.1-3+deb12u1", "Debian:12.15/oldstable, Debian-Security:12/oldstable-security"))
        );
        assert_eq!(
            parse_inst("Inst libc6 [2.36-9] (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []"),
            Some(("libc6", "2.36-9+deb12u14", "Debian:12.15/oldstable"))
        );
        assert_eq!(parse_inst("Conf libc6 (2.36-9 Debian:12.15/oldstable [amd64])"), None);
        assert_eq!(parse_inst("Inst libc6"), None);
    }
}

//! Closures: what a component's build, or an image, needs of the distribution beyond its base.
//!
//! The distribution's own package manager finds them, in a container of the base, and downloads
//! them; we keep the answer in the lock and the packages in the pool. From then on nobody asks a
//! mirror.

use crate::base::BaseImage;
use crate::claims::{self, Answers};
use crate::collect::{Collected, collect, collected_folder};
use crate::parallel::in_parallel;
use crate::source::{Packing, add_file, packed, packing};
use crate::tools::{Answer, Tools, exact, exact_locked, source_package};
use crate::{Context, ROOT, Stored, apt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tracing::Instrument as _;
use twostage_engine::{LastLines, Pending, Run};
use twostage_model::lock::{Closure, LockedPackage, LockedSource};
use twostage_model::{Class, Error, Format, Result, Sha256};

/// What a closure is found for.
#[derive(Debug, Clone)]
pub enum Question {
    /// Build dependencies: a `debian/control` or a spec file.
    Build {
        /// The text that asks for them.
        control: String,
        /// Debian's build profiles, which leave some of them out.
        profiles: Vec<String>,
        /// What is asked for by the files that packages have, one a line: `required pc glib-2.0`, `wanted cmd bison`.
        by_file: Vec<String>,
    },
    /// Packages to install.
    Install {
        /// Their names; the project's own in their [`crate::tools::exact`] version.
        packages: Vec<String>,
        /// What an image that this is installed above has taken: it stays as it is.
        above: Vec<LockedPackage>,
        /// What stands for packages that are installed with them and made later: what they provide is there.
        assumed: Vec<Stored>,
    },
}

/// How a closure is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As locked; if something new is needed, all that can stay stays.
    Keep,
    /// As the distribution's mirror is now.
    Newest,
}

/// The closure named `of`: the locked one while it holds, else a new one, which is then locked.
///
/// # Errors
/// The package manager cannot satisfy it (its own words are in the cause), or the lock may not change.
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
    let manager = Tools::of(context.project.format).manager;
    context.events.started(subject(of), &format!("asking {manager} for what it needs"));
    let mut earlier = match question {
        Question::Install { above, .. } => above.clone(),
        Question::Build { .. } => Vec::new(),
    };
    if let Some(locked) = locked.filter(|locked| locked.base == base.digest && freshness == Freshness::Keep) {
        let others =
            |package: &LockedPackage| earlier.iter().all(|known| (&known.id.name, &known.id.arch) != (&package.id.name, &package.id.arch));
        // What the project makes now is not the distribution's any more, however new that is.
        let ours = |package: &LockedPackage| own.iter().any(|own| own.id.name == package.id.name);
        let others: Vec<LockedPackage> = locked.packages.into_iter().filter(|package| others(package) && !ours(package)).collect();
        earlier.extend(others);
    }
    let (packages, own) = solve(context, of, base, question, own, &earlier).await?;
    let closure = Closure { base: base.digest, asked, own, packages };
    context.lock().closures.insert(of.to_string(), closure.clone());
    Ok(closure)
}

/// Where the script of a closure finds the build profiles.
const PROFILES: &str = "var/cache/twostage/profiles";
/// And what is asked for by files.
const BY_FILE: &str = "var/cache/twostage/by-file";

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
    let mut input = packing(context)?;
    let assumed = match question {
        Question::Install { assumed, .. } => assumed.as_slice(),
        Question::Build { .. } => &[],
    };
    let pooled = pooled(context, own.iter().chain(assumed))?;
    let mut offered: Vec<Sha256> = own.iter().chain(assumed).map(|package| package.sha256).collect();
    offered.extend(earlier.iter().map(|package| package.sha256).filter(|digest| pooled.contains_key(digest)));
    let tools = Tools::of(context.project.format);
    if !offered.is_empty() {
        offer(context, &mut input, &offered)?;
    }
    if let Some(file) = tools.known_file {
        let lines: String = pooled.keys().map(|digest| format!("SHA256:{digest}\n")).collect();
        add_file(&mut input, file, 0o644, 0, lines.as_bytes())?;
    }
    let arguments: Vec<String> = match question {
        Question::Build { control, profiles, by_file } => {
            add_file(&mut input, tools.question_file, 0o644, 0, control.as_bytes())?;
            if !by_file.is_empty() {
                add_file(&mut input, BY_FILE, 0o644, 0, by_file.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
            }
            if !profiles.is_empty() {
                add_file(&mut input, PROFILES, 0o644, 0, profiles.join(" ").as_bytes())?;
            }
            tools.question.map(String::from).to_vec()
        }
        Question::Install { packages, .. } => {
            let assumed = assumed.iter().map(|package| exact(context.project.format, &package.id.name, &package.id.version));
            std::iter::once("install".to_string()).chain(packages.iter().cloned()).chain(assumed).collect()
        }
    };
    // The lists of the distribution are there: whose names the project's packages have is asked in the same breath.
    let mut names = Answers::to(claims::unanswered(context.project.format, &context.lock(), &base.digest, own));
    names.add_question(context, base, &mut input)?;
    let mut answer = Answer::of(context.project.format);
    let told = |(what, hint): (String, String)| Error::new(Class::Project, what).hint(hint);
    let span = tracing::debug_span!("solve", of);
    let (_folder, collected) = fetch(context, of, base, tools.closure, arguments, input, &mut |line| {
        answer.line(line);
        names.line(line);
    })
    .instrument(span)
    .await
    .map_err(|cause| match answer.explain(of, own) {
        Some(reason) => told(reason).because(cause),
        None => cause,
    })?;
    names.keep(context, &base.digest);
    let mut stored = store(context, collected).await?;
    stored.extend(answer.known().iter().filter_map(|digest| pooled.get(digest)).cloned());
    if let Some(reason) = answer.objection(of, own, matches!(question, Question::Install { .. })) {
        return Err(told(reason));
    }
    let own_digests: BTreeSet<Sha256> = own.iter().chain(assumed).map(|package| package.sha256).collect();
    let mut packages: Vec<LockedPackage> = stored
        .into_iter()
        .filter(|package| !own_digests.contains(&package.sha256))
        .map(|package| {
            let found = answer.chosen().get(&(package.id.name.clone(), package.id.version.clone()));
            let before = earlier.iter().find(|earlier| earlier.sha256 == package.sha256).map(|earlier| &earlier.origin);
            let origin = before.or(found).cloned().unwrap_or_else(|| "unknown".into());
            LockedPackage { id: package.id, size: package.size, sha256: package.sha256, origin }
        })
        .collect();
    packages.sort();
    let is_own = |(name, version): &(String, String)| own.iter().chain(assumed).any(|p| p.id.name == *name && p.id.version == *version);
    let (chosen, expected): (BTreeSet<_>, BTreeSet<_>) = answer.chosen().keys().cloned().partition(is_own);
    let found: BTreeSet<_> = packages.iter().map(|p| (p.id.name.clone(), p.id.version.clone())).collect();
    if expected != found {
        let differing: Vec<String> = expected.symmetric_difference(&found).map(|(name, version)| format!("{name} {version}")).collect();
        return Err(Error::new(
            Class::Project,
            format!("{of}: {} said one thing and downloaded another: {}", tools.manager, differing.join(", ")),
        )
        .hint("run the command again: the mirror may have changed while it was asked"));
    }
    let is_assumed = |name: &String| assumed.iter().any(|package| package.id.name == *name);
    Ok((packages, chosen.into_iter().map(|(name, _)| name).filter(|name| !is_assumed(name)).collect()))
}

/// What is in the pool already of all that the lock names, and the project's own, by digest: no package manager has to
/// download it.
fn pooled<'a>(context: &Context, own: impl Iterator<Item = &'a Stored>) -> Result<BTreeMap<Sha256, Stored>> {
    let mut pooled: BTreeMap<Sha256, Stored> = own.map(|package| (package.sha256, package.clone())).collect();
    let locked: Vec<Sha256> = context.lock().packages().into_keys().collect();
    for digest in locked {
        if let Some(package) = context.packages.get(&digest)? {
            pooled.insert(digest, package);
        }
    }
    Ok(pooled)
}

/// Packs the client files of a snapshot of these packages, for a container to install them from.
///
/// # Errors
/// The repository cannot serve them.
pub(crate) fn offer(context: &Context, input: &mut Packing, members: &[Sha256]) -> Result<()> {
    let (_, files) = context.packages.serve(members)?;
    files.iter().try_for_each(|(name, text)| add_file(input, &format!("var/cache/twostage/sources/{name}"), 0o644, 0, text.as_bytes()))
}

/// Runs one of the scripts that leave files in `/var/cache/twostage/out`.
async fn fetch(
    context: &Arc<Context>,
    of: &str,
    base: &BaseImage,
    script: &str,
    arguments: impl IntoIterator<Item = String>,
    input: Packing,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<(tempfile::TempDir, Collected)> {
    let reach = context.reach.reach(&base.reference).await?;
    let input = packed(input)?;
    let tools = Tools::of(context.project.format);
    let cmd = tools.command(script, arguments);
    let mut last = LastLines::default();
    let container = context
        .engine
        .run(
            Run {
                env: &[("TWOSTAGE_PROXY".into(), reach.proxy.clone())],
                network: reach.network,
                input: Some(&input),
                user: Some(ROOT),
                ..Run::new(&base.reference, &cmd)
            },
            &mut |line| {
                // (What was not downloaded, and what the distribution has, is for us, and many lines.)
                if !line.starts_with(apt::KNOWN) && !line.starts_with(claims::INDEX) {
                    last.push(line);
                    context.events.log(subject(of), line);
                }
                on_line(line);
            },
        )
        .await?;
    if container.exit_code != 0 {
        container.remove().await?;
        return Err(Error::new(Class::Project, format!("{of}: {} cannot give what it needs on {}", tools.manager, base.reference))
            .because(errors(&last))
            .hint("if the distribution has it, is it in what the base's package manager asks? If a component makes it, is that component in `needs`?"));
    }
    let folder = collected_folder(context)?;
    let stream = container.copy_out("/var/cache/twostage/out").await?;
    let into = folder.path().to_path_buf();
    let collected = Context::blocking(move || collect(stream, &into)).await?;
    container.remove().await?;
    Ok((folder, collected))
}

async fn store(context: &Arc<Context>, collected: Collected) -> Result<Vec<Stored>> {
    let packages = context.packages.clone();
    Context::blocking(move || in_parallel(&collected.packages, |path| packages.put(path))).await
}

/// Asks the base and its distribution which of the names they have.
///
/// # Errors
/// Its mirror does not answer.
pub(crate) async fn ask_names(context: &Arc<Context>, base: &BaseImage, names: &mut Answers) -> Result<()> {
    let mut input = packing(context)?;
    names.add_question(context, base, &mut input)?;
    let script = Tools::of(context.project.format).names;
    fetch(context, "names", base, script, [], input, &mut |line| names.line(line)).await.map(|_| ())
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

/// What the distribution has newer than a base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newer {
    /// What the package manager would upgrade in the base.
    pub upgrades: Vec<Upgrade>,
    /// Names and versions that advisories (yum's updateinfo) give as mending a fault of security. apt
    /// has none: there the origin tells.
    pub security: Vec<(String, String)>,
}

impl Newer {
    /// Takes a line of apt's simulation, or of our script around dnf and zypper.
    fn line(&mut self, format: Format, line: &str) {
        let of = |name: &str, installed: &str, newest: &str, origin: &str| Upgrade {
            name: name.to_string(),
            installed: installed.to_string(),
            newest: newest.to_string(),
            origin: origin.to_string(),
        };
        if format == Format::Deb {
            if let Some((name, newest, origin)) = apt::parse_inst(line) {
                let installed = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(version, _)| version);
                self.upgrades.push(of(name, installed, newest, origin));
            }
            return;
        }
        let Some(words) = line.strip_prefix("twostage: ") else { return };
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["upgrade", name, installed, newest, origin] => self.upgrades.push(of(name, installed, newest, origin)),
            ["security", name, version] => self.security.push((name.to_string(), version.to_string())),
            _ => (),
        }
    }
}

/// What the distribution has newer than the base, and what it says of security.
///
/// # Errors
/// Its mirror does not answer.
pub fn newer<'a>(context: &'a Arc<Context>, base: &'a BaseImage) -> Pending<'a, Result<Newer>> {
    Box::pin(newer_now(context, base))
}

async fn newer_now(context: &Arc<Context>, base: &BaseImage) -> Result<Newer> {
    let mut found = Newer::default();
    let format = context.project.format;
    let script = Tools::of(format).upgrades;
    let input = packing(context)?;
    fetch(context, "base", base, script, [], input, &mut |line| found.line(format, line.trim_end())).await?;
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
    let format = context.project.format;
    let arguments: Vec<String> = missing.iter().map(|package| exact_locked(format, package)).collect();
    let gone = |cause: Error| {
        Error::new(Class::Project, format!("{of}: the base's mirror does not give all locked packages"))
            .because(cause)
            .hint("copy the repository from a machine that has them, or move on with `twostage update`")
    };
    let mut input = packing(context)?;
    // (As in `solve`: the lists are there. What the lock says is compared with them.)
    let mut names = Answers::default();
    names.add_question(context, base, &mut input)?;
    let (_folder, collected) =
        fetch(context, of, base, Tools::of(format).fetch, arguments, input, &mut |line| names.line(line)).await.map_err(gone)?;
    names.keep(context, &base.digest);
    let stored = store(context, collected).await?;
    let got: BTreeSet<Sha256> = stored.iter().map(|package| package.sha256).collect();
    match missing.iter().find(|package| !got.contains(&package.sha256)) {
        None => Ok(()),
        Some(package) => Err(gone(Error::new(Class::Project, format!("{} is not what was locked", package.id)))),
    }
}

/// The distribution's source package of a component: the locked one, else the newest, which is
/// then locked. Its files are blobs afterwards.
///
/// # Errors
/// The mirror does not have it, or its files are not what it says of them.
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
    let format = context.project.format;
    let wanted = match (&locked, version) {
        (_, Some(version)) => exact(format, name, version),
        (Some(locked), None) if locked.name == name && freshness == Freshness::Keep => exact(format, name, &locked.version),
        _ => name.to_string(),
    };
    context.events.started(component, &format!("fetching source package {wanted}"));
    let (folder, collected) =
        fetch(context, &format!("source:{component}"), base, Tools::of(format).fetch_source, [wanted], packing(context)?, &mut |_| ())
            .await?;
    let broken = |what: String| {
        Error::new(Class::Project, what).hint("the mirror's source package is not whole: ask it again later, or name another `version`")
    };
    let [described] = collected.sources.as_slice() else {
        return Err(broken(format!("{component}: the mirror gave {} source packages", collected.sources.len())));
    };
    let (id, listed) =
        source_package(format, described).map_err(|cause| broken(format!("{component}: its source cannot be read")).because(cause))?;
    let mut source = LockedSource { name: id.name, version: id.version, files: BTreeMap::new() };
    let own_name = described.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (file_name, expected) in std::iter::once((own_name, None)).chain(listed) {
        let path = folder.path().join(&file_name);
        let mut file = std::fs::File::open(&path)
            .map_err(|cause| broken(format!("{component}: {file_name} did not come with the source")).because(cause))?;
        let (digest, size) = context.packages.put_blob(&mut file)?;
        if expected.is_some_and(|expected| expected != digest) {
            return Err(broken(format!("{component}: {file_name} is not what its source package says")));
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

/// Whether apt, dnf or zypper says in this line what went wrong.
fn tells(line: &str) -> bool {
    let starts = ["E: ", "Err:", "Error: ", "error: ", "No match for argument", " Problem", "No provider of", "Problem: "];
    starts.iter().any(|start| line.starts_with(start)) || ["Depends:", "nothing provides"].iter().any(|word| line.contains(word))
}

/// What our own RUN and apt said went wrong; empty if neither said anything.
pub fn reason(last: &LastLines) -> String {
    last.those(|line| ["twostage: ", "E: ", "dpkg: error", "Error: ", "error: "].iter().any(|start| line.starts_with(start)))
}

/// The package manager's own error lines, with what it explains before them; else the last lines.
fn errors(last: &LastLines) -> String {
    let telling = last.those(tells);
    if telling.is_empty() { last.text(8) } else { telling }
}

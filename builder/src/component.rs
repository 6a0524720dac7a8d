//! One component: its key, its builder image, its container, and what comes out.

use crate::base::{BaseImage, ensure};
use crate::closure::{self, Freshness, Question, closure};
use crate::collect::{Collected, collect, collected_folder};
use crate::independent::independent;
use crate::linked_packages::{PackageLinks, check_packages};
use crate::log::{Log, Phase};
use crate::makers::Makers;
use crate::patches::{self, CONTROL, Patch};
use crate::record::{FilePlace, Record, Records};
use crate::source::{Packing, Tree, add_file, file_date, folder_of, packed, packing};
use crate::tools::{self, Tools, exact_locked};
use crate::{Context, ROOT, Stored, ccache, entered, generated, rebuilt, twice};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;
use twostage_beneath::Folder;
use twostage_engine::{Build, Pending, Run};
use twostage_model::error::OrFail as _;
use twostage_model::event::Outcome;
use twostage_model::lock::{Closure, LockedPackage, LockedSource};
use twostage_model::project::{Component, Recipe, Source};
use twostage_model::shown::count;
use twostage_model::{Class, Error, Format, Hasher, Project, Result, Sha256};
use twostage_recipe::Detected;

/// Counts up when the way we build changes so that old results no longer stand for new ones.
const RECIPE: &str = "2";
/// The variable that tells the scripts that this is the second build.
const AGAIN: &str = "BUILD_AGAIN";
/// Bytes of a patch, at most.
const MAX_PATCH: u64 = 64 << 20;

/// A component's packages, built now or earlier.
#[derive(Debug, Clone)]
pub struct Built {
    /// Binary packages.
    pub packages: Vec<Stored>,
    /// Source packages, by the digest of their `.dsc` or of the source rpm.
    pub sources: Vec<Sha256>,
    /// How it went.
    pub outcome: Outcome,
}

/// What a component is built from, read but not yet built.
struct Inputs {
    /// The tree on disk; none for the distribution's own source package.
    tree: Option<Tree>,
    locked_source: Option<LockedSource>,
    patches: Vec<Patch>,
    /// What its build asks for; none for one by a Dockerfile.
    asks: Option<Asks>,
    closure: Option<Closure>,
    key: Sha256,
}

/// What says what a build needs.
enum Asks {
    /// `debian/control`, the `.dsc` or the spec file, as the patches leave it.
    Packaging(String),
    /// The build system.
    Recipe(Detected),
}

/// One build of a component: all that decides it.
#[derive(Clone, Copy)]
pub(crate) struct ComponentBuild<'a> {
    pub(crate) context: &'a Arc<Context>,
    pub(crate) component: &'a Component,
    /// The packages of all components that it needs.
    pub(crate) needs: &'a [Stored],
    pub(crate) base: &'a BaseImage,
    inputs: &'a Inputs,
    /// Of what it makes.
    pub(crate) date: i64,
    /// Whether this is the second build, which is to make the same.
    pub(crate) again: bool,
}

impl ComponentBuild<'_> {
    /// Its tree, what its build system says, and what it needs: of a build by a recipe.
    pub(crate) fn generated(&self) -> Result<(&Tree, &Detected, &Closure)> {
        match (&self.inputs.tree, &self.inputs.asks, &self.inputs.closure) {
            (Some(tree), Some(Asks::Recipe(detected)), Some(closure)) => Ok((tree, detected, closure)),
            _ => Err(Error::new(Class::Build, format!("{}: its tree is unknown", self.component.name.value))),
        }
    }

    /// The second build of the same.
    pub(crate) fn again(self) -> Self {
        ComponentBuild { again: true, ..self }
    }

    /// Its patches, in order.
    pub(crate) fn patches(&self) -> &[Patch] {
        &self.inputs.patches
    }
}

/// Builds a component if its inputs are new. `needs` are the packages of all components that it
/// needs, theirs included; `makers` says what each component makes.
///
/// # Errors
/// Class `Build`, with the last lines of the log and where the rest is; class `Project` for what it is not built against.
pub async fn build(context: &Arc<Context>, component: &Component, needs: &[Stored], makers: &Makers) -> Result<Built> {
    build_now(context, component, needs, makers).instrument(tracing::debug_span!("component", name = component.name.value)).await
}

async fn build_now(context: &Arc<Context>, component: &Component, needs: &[Stored], makers: &Makers) -> Result<Built> {
    let start = Instant::now();
    let name = component.name.value.as_str();
    let base = ensure(context, &context.project.base.value, false).await?;
    let inputs = read_inputs(context, component, needs, &base).await?;
    if let Some(closure) = &inputs.closure {
        makers.check(&context.project, component, closure)?;
    }
    let records = Records::of(&context.records, name);
    // (A second build by a Dockerfile would come out of the engine's cache.)
    let twice = context.check_reproducible && !matches!(component.recipe, Recipe::Dockerfile { .. });
    let earlier = earlier(context, &records, &inputs.key)?;
    if let (Some(built), false) = (&earlier, twice) {
        records.make_current(&inputs.key)?;
        entered::forget(context, &entered::failed(context, name)).await?;
        context.events.finished(name, Outcome::Unchanged, describe(&built.packages), start);
        return Ok(built.clone());
    }

    let folder = collected_folder(context)?;
    let mut log = Log::create(context, name, start)?;
    let before = records.current();
    let (date, patched) = dates(context, component, &inputs, before.as_ref());
    let build = ComponentBuild { context, component, needs, base: &base, inputs: &inputs, date, again: false };
    let (collected, places) = build_once(build, folder.path(), &mut log).await?;
    if collected.packages.is_empty() {
        return Err(log.failure(name, "the build left no package"));
    }
    let collected = if twice { twice::build_again(build, collected, &mut log).await? } else { collected };
    if let Some(built) = earlier {
        records.make_current(&inputs.key)?;
        entered::forget(context, &entered::failed(context, name)).await?;
        context.events.finished(name, Outcome::Unchanged, format!("{}, the same when it is built again", describe(&built.packages)), start);
        return Ok(built);
    }

    log.begin(Phase::Collect);
    let links = PackageLinks { component, needs, closure: inputs.closure.as_ref(), base: &base };
    check_packages(context, links, &collected).await?;
    context.events.started(name, "publishing its packages");
    let (sink, format, key) = (context.packages.clone(), context.project.format, inputs.key);
    let stored_build = Context::blocking(move || store(sink.as_ref(), &collected, format, &key)).await;
    let (packages, sources, content) = stored_build.map_err(|cause| match cause.class() {
        // What is wrong with a package is its builder's affair; a full disk is not.
        Class::Repository => log.not_taken(format!("{name}: what it left is not taken"), cause),
        _ => cause,
    })?;
    let mut record = Record { packages: packages.iter().map(|p| p.sha256).collect(), sources, content, patched, places };
    let mut built = Built { packages, sources: record.sources.clone(), outcome: Outcome::Done };
    // The same content as before, but for its version: then before is what everybody keeps.
    if let Some(current) = records.current().filter(|current| current.content == record.content)
        && let Some(kept) = stored(context, &current)?
    {
        record = current;
        built = Built { outcome: Outcome::Same, ..kept };
    }
    records.put(&inputs.key, &record)?;
    records.make_current(&inputs.key)?;
    entered::forget(context, &entered::failed(context, name)).await?;
    let said = if twice { ", built twice and the same" } else { "" };
    context.events.finished(name, built.outcome, format!("{}{said}: {}", describe(&built.packages), log.summary()), start);
    Ok(built)
}

/// Runs a component's build. Gives what it left, and where a recipe put each file.
pub(crate) async fn build_once(build: ComponentBuild<'_>, folder: &Path, log: &mut Log) -> Result<(Collected, Vec<FilePlace>)> {
    match &build.component.recipe {
        Recipe::Native => build_native(build, folder, log).await.map(|collected| (collected, Vec::new())),
        Recipe::Generated(recipe) => generated::build(build, recipe, folder, log).await,
        Recipe::Dockerfile { dockerfile, packages } => {
            build_dockerfile(build, dockerfile, packages, folder, log).await.map(|collected| (collected, Vec::new()))
        }
    }
}

/// The date of what a build makes, and that of the newest patch that its source ever had.
fn dates(context: &Context, component: &Component, inputs: &Inputs, before: Option<&Record>) -> (i64, i64) {
    let patch = component.patches.iter().map(|patch| file_date(&context.files, &patch.value, &context.state)).max();
    let date = rebuilt::date(inputs.tree.as_ref().map(|tree| tree.date(&context.state)), patch, before);
    (date, before.map_or(0, |record| record.patched).max(patch.unwrap_or(0)))
}

/// Makes the container of a component's build, up to where the build begins. Gives the image of it.
///
/// # Errors
/// It is built by its own Dockerfile; or as [`build`]. Where that is a step before the build, the container is kept as the
/// one in which the build failed.
pub async fn prepare(context: &Arc<Context>, component: &Component, needs: &[Stored]) -> Result<String> {
    let name = component.name.value.as_str();
    if component.recipe != Recipe::Native {
        let (how, hint) = match component.recipe {
            Recipe::Generated(_) => ("a recipe", "`twostage build` with --keep-failed keeps the container in which its build fails"),
            _ => ("its own Dockerfile", "`twostage compile` builds one, and so does the engine"),
        };
        let what = format!("component `{name}` is built by {how}, and has no build to begin");
        return Err(context.project.error_at(component.name.line, what).hint(hint));
    }
    let base = ensure(context, &context.project.base.value, false).await?;
    let inputs = read_inputs(context, component, needs, &base).await?;
    let mut log = Log::create(context, name, Instant::now())?;
    let (date, _) = dates(context, component, &inputs, Records::of(&context.records, name).current().as_ref());
    let build = ComponentBuild { context, component, needs, base: &base, inputs: &inputs, date, again: false };
    let container = run_native(build, true, &mut log).await?;
    let is_made = container.exit_code == 0;
    let image = if is_made { entered::prepared(context, name) } else { entered::failed(context, name) };
    entered::keep(&container, &image).await?;
    container.remove().await?;
    if is_made { Ok(image) } else { Err(log.failure(name, "its build cannot begin")) }
}

/// Finds and locks what a component's build needs, without building it.
///
/// # Errors
/// As [`closure`] and [`Makers::check`].
pub fn lock<'a>(
    context: &'a Arc<Context>,
    component: &'a Component,
    needs: &'a [Stored],
    makers: &'a Makers,
    freshness: Freshness,
) -> Pending<'a, Result<()>> {
    Box::pin(lock_now(context, component, needs, makers, freshness))
}

async fn lock_now(context: &Arc<Context>, component: &Component, needs: &[Stored], makers: &Makers, freshness: Freshness) -> Result<()> {
    let base = ensure(context, &context.project.base.value, false).await?;
    let name = component.name.value.as_str();
    if let Source::Distribution { name: source, version } = &component.source.value {
        closure::locked_source(context, name, &base, source, version.as_deref(), freshness).await?;
    }
    if !matches!(component.recipe, Recipe::Dockerfile { .. }) {
        let (_, _, asks) = read_source(context, component, &base, &read_patches(&context.files, &context.project, component)?).await?;
        if let Some(asks) = asks {
            let closure = build_closure(context, component, &base, &asks, needs, freshness).await?;
            makers.check(&context.project, component, &closure)?;
        }
    }
    Ok(())
}

async fn build_closure(
    context: &Arc<Context>,
    component: &Component,
    base: &BaseImage,
    asks: &Asks,
    needs: &[Stored],
    freshness: Freshness,
) -> Result<Closure> {
    let (format, name) = (context.project.format, &component.name.value);
    let (control, by_file) = match asks {
        Asks::Packaging(control) => (control.clone(), Vec::new()),
        Asks::Recipe(detected) => generated::question(context, detected, needs)?,
    };
    let (mut roots, question) =
        tools::build_question(format, &control).or_fail(Class::Project, || format!("{name}: what its build needs cannot be read"))?;
    roots.extend(by_file.iter().cloned());
    let profiles = component.build.profiles.clone();
    if !profiles.is_empty() {
        roots.push(format!("profiles {}", profiles.join(" ")));
    }
    let asked = tools::external(format, &roots, needs);
    let question = Question::Build { control: question, profiles, by_file };
    closure(context, &format!("build:{name}"), base, &question, asked, needs, freshness).await
}

async fn read_source(
    context: &Arc<Context>,
    component: &Component,
    base: &BaseImage,
    patches: &[Patch],
) -> Result<(Option<Tree>, Option<LockedSource>, Option<Asks>)> {
    let name = component.name.value.as_str();
    if let Source::Distribution { name: source, version } = &component.source.value {
        let locked = closure::locked_source(context, name, base, source, version.as_deref(), Freshness::Keep).await?;
        let described = locked.files.iter().find(|(file, _)| file.ends_with(".dsc") || file.ends_with(".src.rpm"));
        let described = described.and_then(|(_, (_, digest))| context.packages.blob(digest));
        let described = described
            .ok_or_else(|| Error::new(Class::Repository, format!("{name}: the source package that is locked is not in the repository")))?;
        let control = match context.project.format {
            Format::Deb if patches.iter().any(|patch| patch.touches(|path| path == CONTROL)) => {
                let blob = |(file, (_, digest)): (&String, &(u64, Sha256))| Some((file.clone(), context.packages.blob(digest)?));
                let text = patches::source_package_control(&locked.files.iter().filter_map(blob).collect())?;
                patches::applied(patches, CONTROL, text)?
            }
            Format::Deb => tools::source_control(Format::Deb, &described)?,
            Format::Rpm => tools::patched_needs(tools::source_control(Format::Rpm, &described)?, patches),
        };
        return Ok((None, Some(locked), Some(Asks::Packaging(control))));
    }
    let (fetching, source) = (context.clone(), component.source.value.clone());
    let subject = name.to_string();
    let tree = Context::blocking(move || {
        let found = folder_of(&fetching, &subject, &source)?;
        let (root, made) = found.ok_or_else(|| Error::new(Class::Project, format!("{subject}: it has no folder")))?;
        Tree::read(root, made)
    })
    .await?;
    let asks = match &component.recipe {
        Recipe::Native => {
            let (path, what) = match context.project.format {
                Format::Deb => (Ok("debian/control"), "no debian/control"),
                Format::Rpm => (tree.spec(), "no spec file"),
            };
            let read = path.and_then(|path| Ok((path.to_string(), tree.text(path)?)));
            let (path, text) = read.map_err(|cause| {
                let error = context.project.error_at(component.source.line, format!("component `{name}` has {what}"));
                error.because(cause).hint(match context.project.format {
                    Format::Deb => "write recipe = \"auto\" and it is made of what the build system says; or add it; or use `dockerfile` and `packages`",
                    Format::Rpm => "add it to its source, or say how it is built with `dockerfile` and `packages`",
                })
            })?;
            Some(Asks::Packaging(patches::applied(patches, &path, text)?))
        }
        Recipe::Generated(recipe) => {
            let detected = generated::detected(name, &tree, patches, recipe);
            Some(Asks::Recipe(detected.map_err(|cause| context.project.refused(recipe.line, &cause))?))
        }
        Recipe::Dockerfile { .. } => None,
    };
    Ok((Some(tree), None, asks))
}

pub(crate) fn read_patches(files: &Folder, project: &Project, component: &Component) -> Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for patch in &component.patches {
        let content = files.read(&patch.value, MAX_PATCH).map_err(|cause| project.refused(patch.line, &cause))?;
        patches.push(Patch::new(patch_name(patches.len(), &patch.value), patch.value.clone(), content));
    }
    Ok(patches)
}

async fn read_inputs(context: &Arc<Context>, component: &Component, needs: &[Stored], base: &BaseImage) -> Result<Inputs> {
    let patches = read_patches(&context.files, &context.project, component)?;
    let (tree, locked_source, asks) = read_source(context, component, base, &patches).await?;
    let closure = match &asks {
        Some(asks) => Some(build_closure(context, component, base, asks, needs, Freshness::Keep).await?),
        None => None,
    };

    let mut hasher = Hasher::default();
    let mut field = |name: &str, value: &[u8]| {
        hasher.field(name.as_bytes());
        hasher.field(value);
    };
    field("recipe", RECIPE.as_bytes());
    field("architecture", context.engine.architecture().as_bytes());
    match &component.recipe {
        Recipe::Native => field("how", b"native"),
        Recipe::Generated(recipe) => generated::key(recipe, &mut field),
        Recipe::Dockerfile { dockerfile, packages } => {
            field("dockerfile", dockerfile.as_bytes());
            field("packages", packages.as_bytes());
        }
    }
    field("options", component.build.options.join(" ").as_bytes());
    // (What is not said makes no other key than before there was this.)
    for profile in &component.build.profiles {
        field("profile", profile.as_bytes());
    }
    for (variable, value) in &component.build.env {
        field("variable", variable.as_bytes());
        field("value", value.as_bytes());
    }
    if let Some(parallel) = component.build.parallel {
        field("parallel", &parallel.to_le_bytes());
    }
    field("base", base.digest.as_bytes());
    let (tree, source) = match tree {
        Some(tree) => Context::blocking(move || tree.digest().map(|digest| (Some(tree), Some(digest)))).await?,
        None => (None, None),
    };
    if let Some(digest) = source {
        field("source", digest.as_bytes());
    }
    for (file, (_, digest)) in locked_source.iter().flat_map(|source| &source.files) {
        field(file, digest.as_bytes());
    }
    for patch in &patches {
        field(&patch.name, &patch.content);
    }
    for package in closure.iter().flat_map(|closure| &closure.packages) {
        field("build dependency", package.sha256.as_bytes());
    }
    let mut needed: Vec<Sha256> = needs.iter().map(|package| package.sha256).collect();
    needed.sort_unstable();
    for digest in needed {
        field("needs", digest.as_bytes());
    }
    Ok(Inputs { tree, locked_source, patches, asks, closure, key: hasher.finish() })
}

/// What a patch is called in the builder container, where its name gets into a line of a series file and of a spec file.
fn patch_name(number: usize, path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._+~-".contains(c) { c } else { '_' };
    format!("{number:03}-{}", file.chars().map(plain).collect::<String>())
}

fn earlier(context: &Context, records: &Records, key: &Sha256) -> Result<Option<Built>> {
    match records.get(key) {
        Some(record) => stored(context, &record),
        None => Ok(None),
    }
}

/// The build that a record tells of, if the repository still has all of its packages and sources.
///
/// # Errors
/// What is stored cannot be read.
pub fn stored(context: &Context, record: &Record) -> Result<Option<Built>> {
    let packages: Option<Vec<Stored>> =
        record.packages.iter().map(|digest| context.packages.get(digest).transpose()).collect::<Option<Result<Vec<_>>>>().transpose()?;
    for source in &record.sources {
        if context.packages.get(source)?.is_none() {
            return Ok(None);
        }
    }
    Ok(packages.map(|packages| Built { packages, sources: record.sources.clone(), outcome: Outcome::Unchanged }))
}

fn describe(packages: &[Stored]) -> String {
    let versions: std::collections::BTreeSet<&str> = packages.iter().map(|package| package.id.version.as_str()).collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    format!("{} {}", count(packages.len(), "package"), versions.join(", "))
}

type StoredBuild = (Vec<Stored>, Vec<Sha256>, BTreeMap<String, Sha256>);

fn store(sink: &dyn crate::PackageSink, collected: &Collected, format: Format, key: &Sha256) -> Result<StoredBuild> {
    let packages = collected.packages.iter().map(|path| sink.put(path)).collect::<Result<Vec<_>>>()?;
    // (A source may give some of its packages versions of their own.)
    let suffix = packages.iter().find_map(|package| rebuilt::suffix(format, &package.id.version, key)).unwrap_or_default();
    let mut content = BTreeMap::new();
    for (path, package) in collected.packages.iter().zip(&packages) {
        // The text of the sources, for debuggers: as little a reason to build others again as a `.dsc`.
        if !package.id.name.ends_with("-debugsource") {
            let file = fs::File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            let digest = tools::content_digest(path, file, suffix)?;
            content.insert(format!("{} {}", package.id.name, package.id.arch), digest);
        }
    }
    let mut sources = Vec::new();
    for path in &collected.sources {
        let folder = path.parent().unwrap_or(Path::new("."));
        sources.push(sink.put_source(folder, &path.file_name().unwrap_or_default().to_string_lossy())?);
    }
    Ok((packages, sources, content))
}

/// The image with those of a component's build dependencies that need nothing of the project's own: one for each set of
/// them, kept by the engine.
async fn builder_image(context: &Arc<Context>, name: &str, base: &BaseImage, packages: &[&LockedPackage], log: &mut Log) -> Result<String> {
    let mut hasher = Hasher::default();
    hasher.field(RECIPE.as_bytes());
    hasher.field(base.digest.as_bytes());
    for package in packages {
        hasher.field(package.sha256.as_bytes());
    }
    let reference = format!("twostage-builder:{}", hasher.finish().short());
    // Two components with the same set must not both make it.
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one_at_a_time = MAKING.lock().await;
    if context.engine.image(&reference).await?.is_some() {
        return Ok(reference);
    }
    context.events.started(name, &format!("making a builder image of {}", count(packages.len(), "package")));
    let members: Vec<Sha256> = packages.iter().map(|package| package.sha256).collect();
    let tools = Tools::of(context.project.format);
    let mut input = packing(context)?;
    closure::offer(context, &mut input, &members)?;
    let cmd = tools.command(tools.install, packages.iter().map(|package| exact_locked(context.project.format, package)));
    let container = run_logged(context, name, &base.reference, &cmd, &[], input, log).await?;
    if container.exit_code != 0 {
        container.remove().await?;
        return Err(log.failure(name, "its build dependencies cannot be installed"));
    }
    container.commit(&reference, &["LABEL twostage.builder=true".to_string()]).await?;
    container.remove().await?;
    Ok(reference)
}

/// Runs a container whose output goes to the component's log.
pub(crate) async fn run_logged(
    context: &Arc<Context>,
    name: &str,
    image: &str,
    cmd: &[String],
    env: &[(String, String)],
    input: Packing,
    log: &mut Log,
) -> Result<twostage_engine::Container> {
    let reach = context.reach.reach(image).await?;
    let mut env = env.to_vec();
    env.push(("TWOSTAGE_PROXY".into(), reach.proxy.clone()));
    let input = packed(input)?;
    let hostname = if env.iter().any(|(name, _)| name == AGAIN) { "elsewhere" } else { "builder" };
    let run =
        Run { env: &env, network: reach.network, input: Some(&input), hostname: Some(hostname), user: Some(ROOT), ..Run::new(image, cmd) };
    context
        .engine
        .run(run, &mut |line| {
            log.line(line);
            context.events.log(name, line);
        })
        .await
}

async fn build_native(build: ComponentBuild<'_>, folder: &Path, log: &mut Log) -> Result<Collected> {
    let (context, name) = (build.context, build.component.name.value.as_str());
    let container = run_native(build, false, log).await?;
    // Of a build that failed, too: the next one has less to do.
    ccache::keep(context, name, &container).await;
    let container = ended_well(context, name, container, log).await?;
    packages_of(name, container, folder, log).await
}

/// The container of a build that ended well.
///
/// # Errors
/// Class `Build`: it did not; the container is kept if that is wanted.
pub(crate) async fn ended_well(
    context: &Context,
    name: &str,
    container: twostage_engine::Container,
    log: &Log,
) -> Result<twostage_engine::Container> {
    if container.exit_code == 0 {
        return Ok(container);
    }
    let memory = if container.oom_killed { ": it ran out of memory" } else { "" };
    let failure = log.failure(name, &format!("the build failed (exit status {}{memory})", container.exit_code));
    Err(entered::keep_failed(context, name, container, failure).await)
}

/// Takes the packages out of the container of a build, which goes.
pub(crate) async fn packages_of(name: &str, container: twostage_engine::Container, folder: &Path, log: &mut Log) -> Result<Collected> {
    log.begin(Phase::Collect);
    let stream = container.copy_out("/build/out").await?;
    let into = folder.to_path_buf();
    let collected = Context::blocking(move || collect(stream, &into)).await;
    container.remove().await?;
    collected.map_err(|cause| log.not_taken(format!("{name}: what it left is not taken"), cause))
}

/// Runs the build in its container, or only what comes before it.
async fn run_native(build: ComponentBuild<'_>, only_prepare: bool, log: &mut Log) -> Result<twostage_engine::Container> {
    let ComponentBuild { context, component, base, inputs, date, .. } = build;
    let name = component.name.value.as_str();
    let closure = inputs.closure.as_ref().ok_or_else(|| Error::new(Class::Build, format!("{name}: its build dependencies are unknown")))?;
    let image = image_of(build, closure, log).await?;
    log.begin(Phase::Unpack);
    context.events.started(name, if only_prepare { "preparing its build" } else { "building" });
    let tools = Tools::of(context.project.format);
    let mut input = packing(context)?;
    if let Some(tree) = &inputs.tree {
        tree.pack(&mut input, "build/src", date)?;
    }
    for (file, (size, digest)) in inputs.locked_source.iter().flat_map(|source| &source.files) {
        let path = context
            .packages
            .blob(digest)
            .ok_or_else(|| Error::new(Class::Repository, format!("{name}: {file} is not in the repository")))?;
        let content = fs::File::open(&path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
        let mut header = crate::source::header(date);
        header.set_mode(0o644);
        header.set_size(*size);
        input.append_data(&mut header, format!("build/source/{file}"), content).or_fail(Class::System, || format!("cannot pack {file}"))?;
    }
    let is_distributions = inputs.locked_source.is_some();
    for patch in &inputs.patches {
        let (packaging, source) = patch.split(|path| match context.project.format {
            Format::Deb => path.starts_with("debian/"),
            Format::Rpm => is_distributions && tools::is_spec(path),
        });
        for (folder, content) in [("packaging", packaging), ("patches", source)] {
            if let Some(content) = content {
                add_file(&mut input, &format!("build/{folder}/{}", patch.name), 0o644, date, &content)?;
            }
        }
    }
    offer_needs(build, closure, &mut input)?;
    let mut env = environment(build);
    if only_prepare {
        env.push(("ONLY_PREPARE".to_string(), "1".to_string()));
    }
    if !only_prepare {
        ccache::give(context, name, base, closure, &mut input, log).await?;
    }
    let cmd = tools.command(tools.native, []);
    run_logged(context, name, &image, &cmd, &env, input, log).await
}

/// The builder image of a component's build.
pub(crate) async fn image_of(build: ComponentBuild<'_>, closure: &Closure, log: &mut Log) -> Result<String> {
    let ComponentBuild { context, component, needs, base, .. } = build;
    let in_image = independent(context.packages.as_ref(), context.project.format, &closure.packages, needs)?;
    builder_image(context, &component.name.value, base, &in_image, log).await
}

/// Packs the way to what is installed with the build: the project's own packages, and what needs those.
pub(crate) fn offer_needs(build: ComponentBuild<'_>, closure: &Closure, input: &mut Packing) -> Result<()> {
    if build.needs.is_empty() {
        return Ok(());
    }
    let needs = build.needs.iter().map(|package| package.sha256);
    let members: Vec<Sha256> = needs.chain(closure.packages.iter().map(|package| package.sha256)).collect();
    closure::offer(build.context, input, &members)?;
    add_file(input, "build/needs", 0o644, 0, b"")
}

/// The variables of a build's script.
pub(crate) fn environment(build: ComponentBuild<'_>) -> Vec<(String, String)> {
    let ComponentBuild { context, component, inputs, date, .. } = build;
    let tools = Tools::of(context.project.format);
    let settings = &component.build;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if build.again { Some(1) } else { settings.parallel };
    let jobs = jobs.map_or_else(|| cores.to_string(), |jobs| jobs.to_string());
    let mut options = settings.options.clone();
    if context.project.format == Format::Deb {
        // As sbuild does it: what is not made or run has an option of the same name.
        let both = ["nocheck", "nodoc"].map(String::from).into_iter().filter(|word| settings.profiles.contains(word));
        options.extend(both.filter(|word| !settings.options.contains(word)));
        options.push(format!("parallel={jobs}"));
    }
    let mut env = rebuilt::environment(context.project.format, &inputs.key);
    env.extend([
        ("SOURCE_DATE_EPOCH".to_string(), date.to_string()),
        ("BUILD_KEY".to_string(), inputs.key.short()),
        (tools.options.to_string(), options.join(" ")),
        ("RPM_BUILD_NCPUS".to_string(), jobs),
        ("BUILD_VARIABLES".to_string(), settings.env.keys().map(String::as_str).collect::<Vec<_>>().join(" ")),
    ]);
    env.extend(settings.env.iter().map(|(name, value)| (format!("BUILD_VARIABLE_{name}"), value.clone())));
    if !settings.profiles.is_empty() {
        env.push(("DEB_BUILD_PROFILES".to_string(), settings.profiles.join(" ")));
    }
    if build.again {
        env.push((AGAIN.to_string(), "1".to_string()));
    }
    env
}

/// The Broadway way: the team's own builder Dockerfile, run as it is.
async fn build_dockerfile(build: ComponentBuild<'_>, dockerfile: &str, packages: &str, folder: &Path, log: &mut Log) -> Result<Collected> {
    let ComponentBuild { context, component, needs, base, inputs, .. } = build;
    let name = component.name.value.as_str();
    context.events.started(name, "building its Dockerfile");
    log.begin(Phase::Build);
    let mut tar = tar::Builder::new(Vec::new());
    if let Some(tree) = &inputs.tree {
        // The engine's cache compares files with their times, so these are all the same.
        tree.pack(&mut tar, ".", 0)?;
    }
    let reach = context.reach.reach(&base.reference).await?;
    let members: Vec<Sha256> = needs.iter().map(|package| package.sha256).collect();
    let mut build_args = BTreeMap::from([("TWOSTAGE_BASE".to_string(), base.reference.clone())]);
    if !members.is_empty() {
        let (snapshot, _) = context.packages.serve(&members)?;
        build_args.insert("TWOSTAGE_SNAPSHOT".to_string(), snapshot.to_string());
    }
    // Predefined in every Dockerfile, outside history and cache, and used by nothing else today:
    // the way to our server for `Acquire::http::Proxy::repository.twostage.invalid`.
    build_args.insert("ftp_proxy".to_string(), reach.proxy.clone());
    let tag = format!("twostage-component:{}-{name}", context.project.name);
    let tar = tar.into_inner().or_fail(Class::System, || "cannot pack a builder's input".into())?;
    let build = Build { tag: Some(&tag), build_args: &build_args, network: reach.network, ..Build::new(tar, dockerfile) };
    let result = context
        .engine
        .build(build, &mut |line| {
            log.line(line);
            context.events.log(name, line);
        })
        .await;
    // By its id: a project of the same name may give the tag to another image meanwhile.
    let id = result.map_err(|cause| if cause.class() == Class::Engine { cause } else { log.failure(name, &cause.to_string()) })?;
    log.begin(Phase::Collect);
    let container = context.engine.create(&id).await?;
    let into = folder.to_path_buf();
    let collected = match container.copy_out(packages).await {
        Ok(stream) => Context::blocking(move || collect(stream, &into)).await,
        Err(cause) => Err(cause),
    };
    container.remove().await?;
    collected.map_err(|cause| log.not_taken(format!("{name}: what it left in {packages} is not taken"), cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_patch_is_one_plain_word() {
        assert_eq!(patch_name(0, "patches/fix-1.0+b~2.patch"), "000-fix-1.0+b~2.patch");
        assert_eq!(patch_name(12, "a b\n$(id);&\\`\"'#.patch"), "012-a_b___id________.patch");
        assert_eq!(patch_name(1, "-x"), "001--x");
    }
}

//! One component: its key, its builder image, its container, and what comes out.

use crate::base::{BaseImage, ensure};
use crate::closure::{self, Freshness, LastLines, Question, closure, external, versioned};
use crate::collect::{Collected, collect};
use crate::record::{Record, Records};
use crate::source::{Tree, add_file, file_date, folder_of};
use crate::{Context, Stored};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use twostage_engine::{Build, Pending, Run};
use twostage_model::error::OrFail as _;
use twostage_model::event::Outcome;
use twostage_model::lock::{Closure, LockedSource};
use twostage_model::project::{Component, Recipe, Source};
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::control::Control;

/// Counts up when the way we build changes so that old results no longer stand for new ones.
const RECIPE: &str = "1";

/// A component's packages, built now or earlier.
#[derive(Debug, Clone)]
pub struct Built {
    /// Binary packages.
    pub packages: Vec<Stored>,
    /// Source packages, by the digest of their `.dsc`.
    pub sources: Vec<Sha256>,
    /// How it went.
    pub outcome: Outcome,
}

/// What a component is built from, read but not yet built.
struct Inputs {
    /// The tree on disk; none for the distribution's own source package.
    tree: Option<Tree>,
    locked_source: Option<LockedSource>,
    patches: Vec<(String, Vec<u8>)>,
    /// `debian/control` or the `.dsc`, for native builds.
    control: Option<String>,
    closure: Option<Closure>,
    key: Sha256,
}

/// Builds a component if its inputs are new. `needs` are the packages of all components that it
/// needs, theirs included.
///
/// # Errors
/// Class `Build`, with the last lines of the log and where the rest is.
pub async fn build(context: &Arc<Context>, component: &Component, needs: &[Stored]) -> Result<Built> {
    let start = Instant::now();
    let name = component.name.value.as_str();
    let base = ensure(context, &context.project.base.value, false).await?;
    let inputs = read_inputs(context, component, needs, &base).await?;
    let records = Records::of(&context.records, name);
    if let Some(built) = earlier(context, &records, &inputs.key)? {
        records.make_current(&inputs.key)?;
        context.events.finished(name, Outcome::Unchanged, describe(&built.packages), start);
        return Ok(built);
    }

    let folder = tempfile::Builder::new()
        .prefix("collected-")
        .tempdir_in(&context.state)
        .or_fail(Class::System, || format!("cannot write in {}", context.state.display()))?;
    let mut log = Log::create(context, name)?;
    let patched = component.patches.iter().map(|patch| file_date(&context.folder.join(&patch.value)));
    let date = inputs.tree.as_ref().map(Tree::date).into_iter().chain(patched).fold(0, i64::max);
    let suffix = version_suffix(date, &inputs.key);
    let collected = match &component.recipe {
        Recipe::Native => build_native(context, component, needs, &base, &inputs, &suffix, date, folder.path(), &mut log).await?,
        Recipe::Dockerfile { dockerfile, packages } => {
            build_dockerfile(context, component, needs, &base, &inputs, dockerfile, packages, folder.path(), &mut log).await?
        }
    };
    if collected.packages.is_empty() {
        return Err(log.failure(name, "the build left no package"));
    }

    context.events.started(name, "publishing its packages");
    let sink = context.packages.clone();
    let stored_build = Context::blocking(move || store(sink.as_ref(), &collected, &suffix)).await;
    let (packages, sources, content) = stored_build.map_err(|cause| match cause.class() {
        // What is wrong with a package is its builder's affair; a full disk is not.
        Class::Repository => log.not_taken(format!("{name}: what it left is not taken"), cause),
        _ => cause,
    })?;
    let mut record = Record { packages: packages.iter().map(|p| p.sha256).collect(), sources, content };
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
    context.events.finished(name, built.outcome, describe(&built.packages), start);
    Ok(built)
}

/// Finds and locks what a component's build needs, without building it.
///
/// # Errors
/// As [`closure`].
pub fn lock<'a>(context: &'a Arc<Context>, component: &'a Component, needs: &'a [Stored], freshness: Freshness) -> Pending<'a, Result<()>> {
    Box::pin(lock_now(context, component, needs, freshness))
}

async fn lock_now(context: &Arc<Context>, component: &Component, needs: &[Stored], freshness: Freshness) -> Result<()> {
    let base = ensure(context, &context.project.base.value, false).await?;
    let name = component.name.value.as_str();
    if let Source::Distribution { name: source, version } = &component.source.value {
        closure::locked_source(context, name, &base, source, version.as_deref(), freshness).await?;
    }
    if component.recipe == Recipe::Native {
        let (_, _, control) = read_source(context, component, &base).await?;
        if let Some(control) = control {
            build_closure(context, name, &base, &control, needs, freshness).await?;
        }
    }
    Ok(())
}

async fn build_closure(
    context: &Arc<Context>,
    name: &str,
    base: &BaseImage,
    control: &str,
    needs: &[Stored],
    freshness: Freshness,
) -> Result<Closure> {
    let stanza = source_stanza(control).or_fail(Class::Project, || format!("{name}: its debian/control cannot be read"))?;
    let mut roots = vec!["build-essential".to_string()];
    let fields =
        ["Build-Depends", "Build-Depends-Arch", "Build-Depends-Indep", "Build-Conflicts", "Build-Conflicts-Arch", "Build-Conflicts-Indep"];
    for field in fields {
        roots.extend(stanza.get(field).map(|clauses| clauses.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    let asked = external(&roots, needs);
    let question = Question::Build { control: control_for_apt(&stanza) };
    closure(context, &format!("build:{name}"), base, &question, asked, needs, freshness).await
}

/// The first stanza of a `debian/control`, which may have comments, or of a `.dsc`.
fn source_stanza(control: &str) -> Result<Control> {
    let lines: String = control.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let first = lines.trim_start().split("\n\n").next().unwrap_or_default();
    Control::parse(&format!("{}\n", first.trim_end()))
}

/// A `debian/control` with only what `apt-get build-dep` reads of it.
fn control_for_apt(stanza: &Control) -> String {
    let mut text = format!("Source: {}\n", stanza.get("Source").unwrap_or("unnamed"));
    for (field, value) in stanza.fields() {
        if field.starts_with("Build-") {
            text.push_str(&format!("{field}: {}\n", value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    text.push_str("\nPackage: unnamed\nArchitecture: any\n");
    text
}

async fn read_source(
    context: &Arc<Context>,
    component: &Component,
    base: &BaseImage,
) -> Result<(Option<Tree>, Option<LockedSource>, Option<String>)> {
    let name = component.name.value.as_str();
    if let Source::Distribution { name: source, version } = &component.source.value {
        let locked = closure::locked_source(context, name, base, source, version.as_deref(), Freshness::Keep).await?;
        let dsc = locked.files.iter().find(|(file, _)| file.ends_with(".dsc")).and_then(|(_, (_, digest))| context.packages.blob(digest));
        let dsc = dsc.ok_or_else(|| Error::new(Class::Repository, format!("{name}: the .dsc of its source is not in the repository")))?;
        let text = fs::read_to_string(&dsc).or_fail(Class::Repository, || format!("cannot read {}", dsc.display()))?;
        let control = twostage_package::control::dsc_files(&text)?.control.to_string();
        return Ok((None, Some(locked), Some(control)));
    }
    let (fetching, source) = (context.clone(), component.source.value.clone());
    let subject = name.to_string();
    let (tree, root) = Context::blocking(move || {
        let root = folder_of(&fetching, &subject, &source)?.unwrap_or_default();
        Ok((Tree::read(&root)?, root))
    })
    .await?;
    let control = match component.recipe {
        Recipe::Native => {
            let path = root.join("debian/control");
            let text = fs::read_to_string(&path).map_err(|cause| {
                let error = context.project.error_at(component.source.line, format!("component `{name}` has no debian/control"));
                error.because(cause).hint("add debian/ to its source, or say how it is built with `dockerfile` and `packages`")
            })?;
            Some(text)
        }
        Recipe::Dockerfile { .. } => None,
    };
    Ok((Some(tree), None, control))
}

async fn read_inputs(context: &Arc<Context>, component: &Component, needs: &[Stored], base: &BaseImage) -> Result<Inputs> {
    let name = component.name.value.as_str();
    let (tree, locked_source, control) = read_source(context, component, base).await?;
    let mut patches = Vec::new();
    for patch in &component.patches {
        let path = context.folder.join(&patch.value);
        let content = fs::read(&path)
            .map_err(|cause| context.project.error_at(patch.line, format!("patch `{}` cannot be read", patch.value)).because(cause))?;
        let file = Path::new(&patch.value).file_name().unwrap_or_default().to_string_lossy().into_owned();
        patches.push((format!("{:03}-{file}", patches.len()), content));
    }
    let closure = match &control {
        Some(control) => Some(build_closure(context, name, base, control, needs, Freshness::Keep).await?),
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
        Recipe::Dockerfile { dockerfile, packages } => {
            field("dockerfile", dockerfile.as_bytes());
            field("packages", packages.as_bytes());
        }
    }
    field("options", component.options.join(" ").as_bytes());
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
    for (file, content) in &patches {
        field(file, content);
    }
    for package in closure.iter().flat_map(|closure| &closure.packages) {
        field("build dependency", package.sha256.as_bytes());
    }
    let mut needed: Vec<Sha256> = needs.iter().map(|package| package.sha256).collect();
    needed.sort_unstable();
    for digest in needed {
        field("needs", digest.as_bytes());
    }
    Ok(Inputs { tree, locked_source, patches, control, closure, key: hasher.finish() })
}

/// `+ts20260102030405.0a1b2c3d`: the date of the source first, so that a newer source is a newer
/// version; then the key of the inputs, so that other inputs are another version.
fn version_suffix(date: i64, key: &Sha256) -> String {
    format!("+ts{}.{}", twostage_model::date::compact(date), &key.to_string()[..8])
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
    format!("{} package{} {}", packages.len(), if packages.len() == 1 { "" } else { "s" }, versions.join(", "))
}

type StoredBuild = (Vec<Stored>, Vec<Sha256>, BTreeMap<String, Sha256>);

fn store(sink: &dyn crate::PackageSink, collected: &Collected, suffix: &str) -> Result<StoredBuild> {
    let mut packages = Vec::new();
    let mut content = BTreeMap::new();
    for path in &collected.packages {
        let open = || fs::File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()));
        let package = sink.put(&mut open()?, &path.file_name().unwrap_or_default().to_string_lossy())?;
        let digest = twostage_package::content::content_digest(open()?, suffix)?;
        content.insert(format!("{} {}", package.id.name, package.id.arch), digest);
        packages.push(package);
    }
    let mut sources = Vec::new();
    for path in &collected.sources {
        let folder = path.parent().unwrap_or(Path::new("."));
        sources.push(sink.put_source(folder, &path.file_name().unwrap_or_default().to_string_lossy())?);
    }
    Ok((packages, sources, content))
}

/// The image with a component's build dependencies: one for each set of them, kept by the engine.
async fn builder_image(context: &Arc<Context>, name: &str, base: &BaseImage, closure: &Closure, log: &mut Log) -> Result<String> {
    let mut hasher = Hasher::default();
    hasher.field(RECIPE.as_bytes());
    hasher.field(base.digest.as_bytes());
    for package in &closure.packages {
        hasher.field(package.sha256.as_bytes());
    }
    let reference = format!("twostage-builder:{}", hasher.finish().short());
    // Two components with the same set must not both make it.
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one_at_a_time = MAKING.lock().await;
    if context.engine.image(&reference).await?.is_some() {
        return Ok(reference);
    }
    context.events.started(name, &format!("making a builder image of {} packages", closure.packages.len()));
    let members: Vec<Sha256> = closure.packages.iter().map(|package| package.sha256).collect();
    let (_, sources) = context.packages.serve(&members)?;
    let mut input = tar::Builder::new(Vec::new());
    add_file(&mut input, "var/cache/twostage/sources/twostage.sources", 0o644, 0, sources.as_bytes())?;
    let script = concat!(include_str!("../scripts/prelude.sh"), include_str!("../scripts/install.sh"));
    let mut cmd: Vec<String> = ["sh", "-c", script, "twostage"].map(String::from).to_vec();
    cmd.extend(closure.packages.iter().map(versioned));
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
async fn run_logged(
    context: &Arc<Context>,
    name: &str,
    image: &str,
    cmd: &[String],
    env: &[(String, String)],
    input: tar::Builder<Vec<u8>>,
    log: &mut Log,
) -> Result<twostage_engine::Container> {
    let reach = context.reach.reach(image).await?;
    let mut env = env.to_vec();
    env.push(("TWOSTAGE_PROXY".into(), reach.proxy.clone()));
    let input = input.into_inner().or_fail(Class::System, || "cannot pack a builder's input".into())?;
    let run = Run { env: &env, network: reach.network, input: Some(input), hostname: Some("builder"), ..Run::new(image, cmd) };
    context
        .engine
        .run(run, &mut |line| {
            log.line(line);
            context.events.log(name, line);
        })
        .await
}

#[allow(clippy::too_many_arguments, reason = "everything that decides one build, once")]
async fn build_native(
    context: &Arc<Context>,
    component: &Component,
    needs: &[Stored],
    base: &BaseImage,
    inputs: &Inputs,
    suffix: &str,
    date: i64,
    folder: &Path,
    log: &mut Log,
) -> Result<Collected> {
    let name = component.name.value.as_str();
    let closure = inputs.closure.as_ref().filter(|_| inputs.control.is_some());
    let closure = closure.ok_or_else(|| Error::new(Class::Build, format!("{name}: its build dependencies are unknown")))?;
    let image = builder_image(context, name, base, closure, log).await?;

    context.events.started(name, "building");
    let mut input = tar::Builder::new(Vec::new());
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
    for (file, content) in &inputs.patches {
        add_file(&mut input, &format!("build/patches/{file}"), 0o644, date, content)?;
    }
    if !needs.is_empty() {
        let members: Vec<Sha256> =
            needs.iter().map(|package| package.sha256).chain(closure.packages.iter().map(|package| package.sha256)).collect();
        let (_, sources) = context.packages.serve(&members)?;
        add_file(&mut input, "var/cache/twostage/sources/twostage.sources", 0o644, 0, sources.as_bytes())?;
        add_file(&mut input, "build/needs", 0o644, 0, b"")?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = component.options.clone();
    options.push(format!("parallel={cores}"));
    let env = [
        ("VERSION_SUFFIX".to_string(), suffix.to_string()),
        ("SOURCE_DATE_EPOCH".to_string(), date.to_string()),
        ("BUILD_KEY".to_string(), inputs.key.short()),
        ("DEB_BUILD_OPTIONS".to_string(), options.join(" ")),
    ];
    let script = concat!(include_str!("../scripts/prelude.sh"), include_str!("../scripts/native.sh"));
    let cmd: Vec<String> = ["sh", "-c", script, "twostage"].map(String::from).to_vec();
    let container = run_logged(context, name, &image, &cmd, &env, input, log).await?;
    if container.exit_code != 0 {
        let (status, killed) = (container.exit_code, container.oom_killed);
        container.remove().await?;
        let memory = if killed { ": it ran out of memory" } else { "" };
        return Err(log.failure(name, &format!("the build failed (exit status {status}{memory})")));
    }
    let stream = container.copy_out("/build/out").await?;
    let into = folder.to_path_buf();
    let collected = Context::blocking(move || collect(stream, &into)).await;
    container.remove().await?;
    collected.map_err(|cause| log.not_taken(format!("{name}: what it left is not taken"), cause))
}

/// The Broadway way: the team's own builder Dockerfile, run as it is.
#[allow(clippy::too_many_arguments, reason = "everything that decides one build, once")]
async fn build_dockerfile(
    context: &Arc<Context>,
    component: &Component,
    needs: &[Stored],
    base: &BaseImage,
    inputs: &Inputs,
    dockerfile: &str,
    packages: &str,
    folder: &Path,
    log: &mut Log,
) -> Result<Collected> {
    let name = component.name.value.as_str();
    context.events.started(name, "building its Dockerfile");
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
    let container = context.engine.create(&id).await?;
    let into = folder.to_path_buf();
    let collected = match container.copy_out(packages).await {
        Ok(stream) => Context::blocking(move || collect(stream, &into)).await,
        Err(cause) => Err(cause),
    };
    container.remove().await?;
    collected.map_err(|cause| log.not_taken(format!("{name}: what it left in {packages} is not taken"), cause))
}

/// A component's log: a file for whoever wants all of it, the last lines for the error.
struct Log {
    shown: PathBuf,
    file: fs::File,
    last: LastLines,
}

impl Log {
    fn create(context: &Context, name: &str) -> Result<Log> {
        let folder = context.state.join("logs");
        let path = folder.join(format!("{name}.log"));
        fs::create_dir_all(&folder).or_fail(Class::System, || format!("cannot make {}", folder.display()))?;
        let file = fs::File::create(&path).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
        let shown = path.strip_prefix(&context.folder).unwrap_or(&path).to_path_buf();
        Ok(Log { shown, file, last: LastLines::default() })
    }

    fn line(&mut self, line: &str) {
        // A full disk must not end the build that a larger one could still finish.
        let _ = writeln!(self.file, "{line}");
        self.last.push(line);
    }

    fn failure(&self, name: &str, what: &str) -> Error {
        Error::new(Class::Build, format!("{name}: {what}")).because(self.last.text(20)).hint(self.hint())
    }

    fn not_taken(&self, what: String, cause: Error) -> Error {
        let hint = cause.hint_text().map_or_else(|| self.hint(), String::from);
        Error::new(Class::Build, what).because(cause).hint(hint)
    }

    fn hint(&self) -> String {
        format!("the whole log is in {}", self.shown.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: name-version-arch means one content only while this stays as it is.
    #[test]
    fn the_suffix_of_a_rebuilt_version_never_changes() {
        let key = Sha256::of(b"inputs");
        assert_eq!(version_suffix(1_767_323_045, &key), format!("+ts20260102030405.{}", &key.to_string()[..8]));
    }

    #[test]
    fn a_newer_source_is_a_newer_version_and_below_the_next_revision() {
        use std::cmp::Ordering;
        use twostage_package::version::compare;
        let key = Sha256::of(b"inputs");
        let (older, newer) = (format!("1.0-1{}", version_suffix(1, &key)), format!("1.0-1{}", version_suffix(2, &key)));
        for (a, b) in [("1.0-1", older.as_str()), (older.as_str(), newer.as_str()), (newer.as_str(), "1.0-1.1"), (newer.as_str(), "1.0-2")]
        {
            assert_eq!(compare(a, b), Ordering::Less, "{a} < {b}");
        }
    }

    #[test]
    fn control_files_with_comments_and_more_stanzas_give_their_build_dependencies() {
        let text = "# who\nSource: greet\nBuild-Depends: debhelper-compat (= 13),\n# why\n               libgreet-dev\n\nPackage: greet\nArchitecture: any\n";
        let stanza = source_stanza(text).expect("it is right");
        let for_apt = control_for_apt(&stanza);
        assert!(for_apt.contains("Build-Depends: debhelper-compat (= 13), libgreet-dev\n"), "{for_apt}");
    }
}

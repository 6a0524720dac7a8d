//! `twostage runtime`: snapshot → Dockerfile → one RUN → image → audit → tag.

use crate::check::check;
use crate::cli::{ProjectArgs, Runtime};
use crate::commands::audit::audit_engine_image;
use crate::commands::repo::{REPLACING, asked, check_forbidden, closure_name, config_name, not_published, own_packages};
use crate::layout::Layout;
use crate::leaks;
use crate::output::Output;
use crate::session::{Session, WorkOptions, stored, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use twostage_builder::base::BaseImage;
use twostage_builder::component::Built;
use twostage_builder::{Context, Stored};
use twostage_engine::{Build, Kind};
use twostage_image::diff::{Unlike, first_difference};
use twostage_image::path::shown;
use twostage_image::{Known, Want, read_archive};
use twostage_model::error::OrFail as _;
use twostage_model::event::Outcome;
use twostage_model::project::{RuntimeImage, Until, no_such};
use twostage_model::shown::size;
use twostage_model::{Class, Error, Lock, Result, Sha256, SnapshotId};
use twostage_reposerver::Channel;
use twostage_runtime_templates as templates;

/// What the last successful build of an image was made of.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Made {
    dockerfile: Sha256,
    check: Vec<String>,
    #[serde(default)]
    unlinked: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Until>,
    image: String,
    above_base: u64,
}

impl Made {
    /// Whether it was examined by what the project file says now.
    fn is_examined_as(&self, image: &RuntimeImage) -> bool {
        self.check == image.check && self.until == image.until && self.unlinked == image.unlinked
    }
}

/// What an image is installed from, worked out before any container starts.
struct Plan {
    snapshot: SnapshotId,
    base: BaseImage,
    dockerfile: String,
}

pub async fn run(arguments: &Runtime, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let images = chosen(&session, &arguments.images)?;
    let context = session.context(&arguments.engine, WorkOptions::default()).await?;
    let mut result = Ok(());
    for image in images {
        result = make(&session, &context, image, arguments, output).await;
        if result.is_err() {
            break;
        }
    }
    context.engine.settle().await;
    result
}

fn chosen<'a>(session: &'a Session, names: &[String]) -> Result<Vec<&'a RuntimeImage>> {
    let images = &session.project.images;
    if images.is_empty() {
        return Err(Error::new(Class::Project, format!("{} names no image", session.project.file)).hint("add a [runtime.NAME] table"));
    }
    if names.is_empty() {
        return Ok(session.project.images_in_order());
    }
    let named: Vec<&RuntimeImage> = names
        .iter()
        .map(|name| {
            let names = || images.keys().map(String::as_str);
            images.get(name).ok_or_else(|| no_such(&session.project.file, "image", name, names()))
        })
        .collect::<Result<_>>()?;
    // An image is made after those that it is above.
    let needed: Vec<&RuntimeImage> = named.into_iter().flat_map(|image| session.project.with_parents(image)).collect();
    let order = session.project.images_in_order().into_iter();
    Ok(order.filter(|image| needed.iter().any(|needed| needed.name.value == image.name.value)).collect())
}

async fn make(session: &Session, context: &Arc<Context>, image: &RuntimeImage, arguments: &Runtime, output: &Output) -> Result<()> {
    let start = Instant::now();
    let name = image.name.value.as_str();
    let plan = plan(session, context, image).await?;
    let folder = session.state.join("images").join(name);
    let dockerfile_path = folder.join("Dockerfile");
    write_atomically(&dockerfile_path, plan.dockerfile.as_bytes())?;
    if arguments.dockerfile {
        output.result(&dockerfile_path.display().to_string(), &serde_json::json!({ "event": "dockerfile", "path": dockerfile_path }));
        return Ok(());
    }

    let made_path = folder.join("made.json");
    let digest = Sha256::of(plan.dockerfile.as_bytes());
    let no_cache = arguments.no_cache || arguments.check_reproducible;
    if !no_cache {
        let made: Option<Made> = std::fs::read(&made_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(made) = made.filter(|made| made.dockerfile == digest && made.is_examined_as(image))
            && context.engine.image(name).await?.is_some_and(|found| found.id == made.image)
        {
            keep(session, context, name).await?;
            context.events.finished(name, Outcome::Unchanged, "", start);
            say(output, name, &made, &plan.snapshot, false);
            return Ok(());
        }
    }

    context.events.started(name, "installing its packages");
    // Until it is examined the image has a name that nobody asks for. The engine gives it when the last step is done,
    // so that the next run finds what a killed one left.
    let unexamined = format!("twostage-unexamined:{}-{}", session.id()?, Sha256::of(name.as_bytes()).short());
    let left = context.engine.image(&unexamined).await?;
    let again = format!("{unexamined}-again");
    context.engine.remove_image(&again).await?;
    let id = build(context, name, &plan, &unexamined, no_cache).await?;
    // What it left was in the engine's cache for this build. Where that made another image, it goes.
    if let Some(left) = left.filter(|left| left.id != id)
        && context.engine.image(&left.id).await?.is_some_and(|image| image.tags.is_empty())
    {
        discard(context, name, &left.id).await;
    }
    let examined = async {
        let above_base = examine(session, context, image, &id).await?;
        if arguments.check_reproducible {
            build_again(context, name, &plan, &again, &id).await?;
        }
        Ok(above_base)
    };
    let made = match examined.await {
        Ok(above_base) => Made {
            dockerfile: digest,
            check: image.check.clone(),
            until: image.until.clone(),
            unlinked: image.unlinked.clone(),
            image: id,
            above_base,
        },
        Err(error) => {
            discard(context, name, &unexamined).await;
            return Err(error);
        }
    };
    context.engine.tag(&made.image, name).await?;
    context.engine.remove_image(&unexamined).await?;
    let text = serde_json::to_vec_pretty(&made).or_fail(Class::System, || "cannot write what was made".into())?;
    write_atomically(&made_path, &text)?;
    keep(session, context, name).await?;
    let done = if arguments.check_reproducible { "audited clean, built twice with the same layers" } else { "audited clean" };
    context.events.finished(name, Outcome::Done, done, start);
    say(output, name, &made, &plan.snapshot, arguments.check_reproducible);
    Ok(())
}

/// Keeps an image of the embedded engine in the project, too: as an OCI layout, for `load`, `push` and skopeo. One that
/// another engine made takes an earlier one of that name out of it.
async fn keep(session: &Session, context: &Arc<Context>, name: &str) -> Result<()> {
    let location = context.engine.location(name).await?;
    let names: Vec<String> = session.project.images.keys().cloned().collect();
    let (layout, name) = (Layout::of(&session.state), name.to_string());
    Context::blocking(move || match location {
        Some(image) => layout.take(&name, &image, &names.iter().map(String::as_str).collect::<Vec<_>>()),
        None => layout.forget(&name),
    })
    .await
}

/// Takes a name from an image, which goes with its last one, or removes an image that has none. (What is rejected
/// may, out of the engine's cache, be the very image that an earlier run made and named; that one stays.)
async fn discard(context: &Arc<Context>, name: &str, rejected: &str) {
    if let Err(cause) = context.engine.remove_image(rejected).await {
        context.events.note(name, format!("the image {rejected} is left in the engine: {cause}"));
    }
}

/// The last line: image, digest, snapshot, size above the base.
fn say(output: &Output, name: &str, made: &Made, snapshot: &SnapshotId, reproducible: bool) {
    let id = made.image.strip_prefix("sha256:").unwrap_or(&made.image);
    let twice = if reproducible { "  reproducible: two builds, the same layers" } else { "" };
    let text = format!(
        "{name}  sha256:{}  snapshot @{}  {} above the base{twice}",
        &id[..id.len().min(12)],
        snapshot.short(),
        size(made.above_base)
    );
    let mut value = serde_json::json!({
        "event": "image", "name": name, "digest": made.image, "snapshot": snapshot, "bytes_above_base": made.above_base,
    });
    if reproducible {
        value["reproducible"] = true.into();
    }
    output.result(&text, &value);
}

async fn plan(session: &Session, context: &Arc<Context>, image: &RuntimeImage) -> Result<Plan> {
    let name = image.name.value.as_str();
    let channel_name = &session.project.repository.channel;
    let channel = session
        .repository
        .channels()
        .get(channel_name)?
        .ok_or_else(|| Error::new(Class::Runtime, format!("channel {channel_name} is empty")).hint("run `twostage repo` first"))?;
    let base = twostage_builder::base::ensure(context, &session.project.base_of(image).value, false).await?;
    let closure = context.lock().closures.get(&closure_name(name)).cloned();
    let closure = closure.filter(|closure| closure.base == base.digest).ok_or_else(|| {
        Error::new(Class::Runtime, format!("{name}: the lock does not say what it installs")).hint("run `twostage repo` first")
    })?;

    let published = published(session, &channel)?;
    let own = own_packages(session, &published)?;
    // With a channel that was moved back goes another lock.
    let moved = channel.history.iter().any(|earlier| earlier.snapshot == channel.snapshot);
    let hint = if moved {
        format!(
            "channel {channel_name} was moved back to @{}: take the twostage.lock of that time from version control, or publish what was built last with `twostage repo`",
            channel.snapshot.short()
        )
    } else {
        "run `twostage repo` first".to_string()
    };
    let now_asked = asked(session, context, image, &own);
    if closure.asked != now_asked {
        let differs = |of: &[String], other: &[String]| of.iter().find(|word| !other.contains(word)).cloned();
        let what = match (differs(&now_asked, &closure.asked), differs(&closure.asked, &now_asked)) {
            (Some(new), _) => format!("it does not know {new}"),
            (None, gone) => format!("it still has {}", gone.unwrap_or_default()),
        };
        return Err(Error::new(Class::Runtime, format!("{name}: the lock is not for what the image needs now: {what}")).hint(hint));
    }
    check_forbidden(session, image, &closure, &own)?;
    let mut own: BTreeMap<String, Stored> = own.into_iter().map(|p| (p.id.name.clone(), p)).collect();
    for digest in channel.members.get(&format!("config:{name}")).into_iter().flatten() {
        let package = stored(&session.repository, session.repository.pool().package(digest)?.as_ref())?;
        own.insert(package.id.name.clone(), package);
    }
    let mut wanted: Vec<String> = image.packages.iter().map(|package| package.value.clone()).collect();
    let mut own_names = closure.own.clone();
    // What an image of the project that this one is above has installed is there.
    let parent = session.project.parent(image);
    let below = parent.and_then(|parent| context.lock().closures.get(&closure_name(&parent.name.value)).cloned());
    let taken: BTreeSet<Sha256> = below.iter().flat_map(|closure| &closure.packages).map(|package| package.sha256).collect();
    own_names.retain(|name| below.iter().all(|closure| !closure.own.contains(name)));
    let base = match parent {
        Some(parent) => twostage_builder::base::made(context, &parent.name.value).await?,
        None => base,
    };
    if image.has_config() {
        wanted.push(config_name(name));
        own_names.push(config_name(name));
    }

    // Everything that will be installed over the base.
    let mut digests = Vec::new();
    for own_name in &own_names {
        digests.push(own.get(own_name).ok_or_else(|| not_published(own_name, channel_name).hint(&hint))?.sha256);
    }
    digests.extend(closure.packages.iter().map(|package| package.sha256).filter(|digest| !taken.contains(digest)));
    let members: std::collections::BTreeSet<Sha256> = channel.members.values().flatten().copied().collect();
    let (mut files, mut date) = (BTreeMap::new(), 0);
    for digest in &digests {
        let package = session.repository.pool().package(digest)?;
        if !members.contains(digest) {
            return Err(not_published(&package.file_name(), channel_name).hint(&hint));
        }
        date = date.max(package.date);
        match &package.rpm {
            Some(rpm) => files.insert(format!("{}-{}.{}", package.id.name, package.id.version, package.id.arch), rpm.header_sha256),
            None => files.insert(package.file_name(), *digest),
        };
    }
    let mut packages = Vec::new();
    for package in &wanted {
        let version = own_names.contains(package).then(|| own.get(package).map(|p| p.id.version.clone())).flatten();
        let others = closure.packages.iter().filter(|p| !taken.contains(&p.sha256));
        let version = version.or_else(|| others.clone().find(|p| p.id.name == *package).map(|p| p.id.version.clone()));
        match version {
            Some(version) => packages.push((package.clone(), version)),
            None => context.events.note(name, format!("{package} is part of the base already")),
        }
    }
    let replacing = channel.members.get(REPLACING).cloned().unwrap_or_default();
    let mut replaces = BTreeSet::new();
    for digest in digests.iter().filter(|digest| replacing.contains(digest)) {
        replaces.insert(session.repository.pool().package(digest)?.id.name.clone());
    }
    let dockerfile = templates::render(&templates::Runtime {
        format: session.project.format,
        image,
        project_file: &session.project.file,
        from: &base.reference,
        base_user: &base.user,
        base_layer: base.top,
        snapshot: channel.snapshot,
        packages: &packages,
        closure: &files,
        replaces: &replaces.into_iter().collect::<Vec<_>>(),
        signers: &session.repository.snapshots().upstream_signers(&channel.snapshot)?,
        date,
    });
    Ok(Plan { snapshot: channel.snapshot, base, dockerfile })
}

/// The packages of each component as the channel has them, wherever it was moved to.
pub fn published(session: &Session, channel: &Channel) -> Result<BTreeMap<String, Built>> {
    let mut published = BTreeMap::new();
    for component in &session.project.components {
        let Some(members) = channel.members.get(&format!("component:{}", component.name.value)) else { continue };
        let mut built = Built { packages: Vec::new(), sources: Vec::new(), outcome: Outcome::Unchanged };
        for digest in members {
            let package = session.repository.pool().package(digest)?;
            match package.kind {
                twostage_reposerver::Kind::Deb | twostage_reposerver::Kind::Udeb | twostage_reposerver::Kind::Rpm => {
                    built.packages.push(stored(&session.repository, &package)?)
                }
                _ => built.sources.push(*digest),
            }
        }
        published.insert(component.name.value.clone(), built);
    }
    twostage_builder::claims::settle(&session.project, published)
}

async fn build(context: &Arc<Context>, name: &str, plan: &Plan, tag: &str, no_cache: bool) -> Result<String> {
    let reach = context.reach.reach(&plan.base.reference).await?;
    let mut tar = twostage_builder::source::archive();
    twostage_builder::source::add_file(&mut tar, "Dockerfile", 0o644, 0, plan.dockerfile.as_bytes())?;
    let tar = tar.into_inner().or_fail(Class::System, || "cannot pack the Dockerfile".into())?;
    let args = BTreeMap::from([("http_proxy".to_string(), reach.proxy.clone())]);
    let build = Build { build_args: &args, network: reach.network, no_cache, tag: Some(tag), ..Build::new(tar, "Dockerfile") };
    let mut last = twostage_engine::LastLines::default();
    let result = context
        .engine
        .build(build, &mut |line| {
            last.push(line);
            context.events.log(name, line);
        })
        .await;
    result.map_err(|cause| {
        if cause.class() == Class::Engine {
            return cause;
        }
        let reason = twostage_builder::closure::reason(&last);
        let error = Error::new(Class::Runtime, format!("{name}: the runtime RUN failed; nothing is tagged"));
        let hint = cause.hint_text().map(str::to_string);
        let error = if reason.is_empty() { error.because(cause) } else { error.because(reason) };
        error.hint(hint.unwrap_or_else(|| "`-v` shows all that it said".into()))
    })
}

/// Builds an image once more, under a name that goes with it, and compares it with the first.
async fn build_again(context: &Arc<Context>, name: &str, plan: &Plan, again: &str, first: &str) -> Result<()> {
    context.events.started(name, "building it again, to compare");
    let second = build(context, name, plan, again, true).await?;
    let compared = compare(context, name, first, &second).await;
    discard(context, name, again).await;
    compared
}

/// Layers are what is promised to be equal; of the configuration the engine that is this program promises it, too.
async fn compare(context: &Arc<Context>, name: &str, first: &str, second: &str) -> Result<()> {
    let engine = &context.engine;
    let layers = async |id: &str| -> Result<Vec<Sha256>> { Ok(engine.image(id).await?.map(|image| image.diff_ids).unwrap_or_default()) };
    let differ = |what: String| {
        Error::new(Class::Verdict, format!("{name}: built twice, it is not the same image; nothing is tagged"))
            .because(what)
            .hint("what a package's script writes, such as the time, a random number or a path: mend the script, or remove the file in it")
    };
    if layers(first).await? == layers(second).await? {
        let same = first == second || engine.kind() != Kind::Embedded;
        return if same { Ok(()) } else { Err(differ("the layers are the same, the configurations are not".into())) };
    }
    let (one, other) = (engine.save(first).await?, engine.save(second).await?);
    let found = Context::blocking(move || {
        let wanted = |_: &str| Want::Digest;
        Ok(first_difference(&read_archive(one, &wanted)?, &read_archive(other, &wanted)?))
    });
    Err(differ(match found.await? {
        Some(Unlike { layer, path: Some(path), what }) => format!("{} differs first, in layer {layer}: {what}", shown(&path)),
        Some(Unlike { layer, path: None, what }) => format!("layer {layer}: {what}"),
        None => "the engine gives other digests for the same layers".into(),
    }))
}

/// The names of the project's packages that an image installs.
pub fn own_names(lock: &Lock, image: &str) -> BTreeSet<String> {
    let own = lock.closures.get(&closure_name(image)).map(|closure| closure.own.clone()).unwrap_or_default();
    own.into_iter().chain([config_name(image)]).collect()
}

/// Audits a built image and runs its check. Gives the bytes above the base.
async fn examine(session: &Session, context: &Arc<Context>, image: &RuntimeImage, id: &str) -> Result<u64> {
    let name = image.name.value.as_str();
    context.events.started(name, "auditing");
    // What the project file itself puts into the config is no residue.
    let (env, labels) = (image.env.keys().cloned().collect(), image.labels.keys().cloned().collect());
    let own = own_names(&context.lock(), name);
    let known = Known { env, labels, leaks: leaks::of(session, Some(name))?, own, unlinked: image.unlinked.clone() };
    let report = audit_engine_image(&context.engine, id, twostage_image::Base::Label, known).await?;
    if !report.is_clean() {
        let (what, hint) = match report.linking.faults.first() {
            Some(first) if report.residue().next().is_none() => (
                "a program or library lacks what it needs",
                format!(
                    "name the package that has it in `packages`, or rebuild what needs it; unlinked = [\"{}\"] in [runtime.{name}] lets it be",
                    first.at
                ),
            ),
            _ => ("the audit found residue", "a package's script leaves it: let the package own the file, or the script remove it".into()),
        };
        return Err(Error::new(Class::Verdict, format!("{name}: {what}; nothing is tagged")).because(report.to_text()).hint(hint));
    }
    check(context, image, id).await?;
    Ok(report.layers.iter().map(|layer| layer.file_bytes).sum())
}

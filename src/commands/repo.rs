//! `twostage repo`: build what changed, lock what the images install, publish one snapshot.

use crate::cli::{ProjectArgs, Repo};
use crate::commands::channel::word;
use crate::commands::publish;
use crate::output::Output;
use crate::session::{Session, stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twostage_builder::closure::{Freshness, Question, closure};
use twostage_builder::component::Built;
use twostage_builder::{Context, Stored, claims, tools, why};
use twostage_model::error::OrFail as _;
use twostage_model::lock::Closure;
use twostage_model::names::fits;
use twostage_model::project::RuntimeImage;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Format, Project, Result, Sha256};
use twostage_package::control::Control;
use twostage_package::rpm::write::{NewRpm, write_rpm};
use twostage_package::write::{FileEntry, write_deb};
use twostage_reposerver::Kind;

/// The date of generated config packages: they come from the project file, which has none.
/// (1980-01-01, the first that every archive format can write.)
const CONFIG_DATE: i64 = 315_532_800;

pub async fn run(arguments: &Repo, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let context = session.building(&arguments.building).await?;
    let result = session.locking(&context, work(&session, &context, arguments.building.jobs(), output)).await;
    context.engine.settle().await;
    result
}

async fn work(session: &Session, context: &Arc<Context>, jobs: usize, output: &Output) -> Result<()> {
    // Found once, before components that start at the same time could each make one.
    for base in session.bases() {
        twostage_builder::base::ensure(context, &base, false).await?;
    }
    let built = claims::settle(&session.project, session.build(context, jobs, None).await?)?;
    let configs = lock_images(session, context, &built, Freshness::Keep).await?;
    let replacing = check_claims(session, context, &built).await?;

    let lock = context.lock().clone();
    let mut groups: BTreeMap<String, BTreeSet<Sha256>> = BTreeMap::new();
    for (name, component) in &built {
        let members = component.packages.iter().map(|package| package.sha256).chain(component.sources.iter().copied());
        groups.insert(format!("component:{name}"), members.collect());
    }
    for image in session.project.images.keys() {
        let of = closure_name(image);
        let members = lock.closures.get(&of).into_iter().flat_map(|closure| &closure.packages).map(|package| package.sha256);
        groups.insert(of, members.collect());
    }
    for (image, config) in &configs {
        groups.insert(format!("config:{image}"), BTreeSet::from([config.sha256]));
    }
    if !replacing.is_empty() {
        groups.insert(REPLACING.to_string(), replacing);
    }
    let channel = &session.project.repository.channel;
    let published = session.repository.publish(channel, session.now, |members| {
        // What others published stays; all else is what this project says now.
        members.retain(|group, _| group == publish::GROUP);
        members.extend(groups);
    })?;
    let info = session.repository.snapshots().info(&published.snapshot)?;
    let packages = info.map_or(0, |info| info.manifest.len());
    let text = format!(
        "channel {channel}  @{}  {}  {}",
        published.snapshot.short(),
        count(packages, "package"),
        word(&published, "published", output)
    );
    let value = serde_json::json!({
        "event": "published", "channel": channel, "snapshot": published.snapshot, "changed": published.changed, "packages": packages,
        "mended": published.mended,
    });
    output.result(&text, &value);
    Ok(())
}

/// The channel's group of those packages that take the place of the base's or the distribution's.
pub const REPLACING: &str = "replaces";

/// Checks whose names the packages of components have, on every base that an image is made of. Gives those that take the
/// place of the distribution's.
pub async fn check_claims(session: &Session, context: &Arc<Context>, built: &BTreeMap<String, Built>) -> Result<BTreeSet<Sha256>> {
    let project = &session.project;
    for image in project.images.values().filter(|image| image.has_config()) {
        let config = config_name(&image.name.value);
        let maker = built.iter().find(|(_, built)| built.packages.iter().any(|package| package.id.name == config));
        if let Some(component) = maker.and_then(|(name, _)| project.component(name)) {
            let what = format!(
                "component `{}` leaves {config}, the package of the files and `provides` of image `{}`",
                component.name.value, image.name.value
            );
            return Err(project.error_at(component.name.line, what).hint("rename the package, or the image"));
        }
    }
    let mut named: Vec<&twostage_model::project::Base> = project.images.values().map(|image| &project.base_of(image).value).collect();
    if named.is_empty() {
        named.push(&project.base.value);
    }
    let mut bases: Vec<twostage_builder::base::BaseImage> = Vec::new();
    for base in named {
        let base = twostage_builder::base::ensure(context, base, false).await?;
        if bases.iter().all(|known| known.digest != base.digest) {
            bases.push(base);
        }
    }
    claims::check(context, &bases, built).await
}

/// The name of an image's closure in the lock, and of its group in the channel.
pub fn closure_name(image: &str) -> String {
    format!("runtime:{image}")
}

/// Locks what every image takes from the distribution, and makes the config packages of those
/// that have files. Gives the config packages by image.
pub async fn lock_images(
    session: &Session,
    context: &Arc<Context>,
    built: &BTreeMap<String, Built>,
    freshness: Freshness,
) -> Result<BTreeMap<String, Stored>> {
    let own = own_packages(session, built)?;
    let mut configs = BTreeMap::new();
    for image in session.project.images_in_order() {
        let base = twostage_builder::base::ensure(context, &session.project.base_of(image).value, false).await?;
        let names = wanted(&session.project, image);
        let format = session.project.format;
        let asked = asked(session, context, image, &own);
        let exact = |name: &String| own.iter().find(|p| p.id.name == *name).map(|p| tools::exact(format, name, &p.id.version));
        let words = names.iter().map(|name| exact(name).unwrap_or_else(|| name.clone()));
        let above =
            session.project.parent(image).and_then(|parent| context.lock().closures.get(&closure_name(&parent.name.value)).cloned());
        let above = above.map(|closure| closure.packages).unwrap_or_default();
        let mut assumed = Vec::new();
        for image in session.project.with_parents(image).into_iter().filter(|image| !image.provides.is_empty()) {
            assumed.push(stand_in(session, image)?);
        }
        let question = Question::Install { packages: words.collect(), above, assumed };
        let closure = closure(context, &closure_name(&image.name.value), &base, &question, asked, &own, freshness).await?;
        check_forbidden(session, image, &closure, &own)?;
        // What only a package of ours provides is no question to the package manager, so it says nothing.
        let installed = |name: &String| closure.own.contains(name) || closure.packages.iter().any(|package| package.id.name == *name);
        for package in image.packages.iter().filter(|package| !installed(&package.value)) {
            let providers = tools::providers(format, &package.value, &own);
            if !providers.is_empty() {
                let what = format!("{} is a virtual package; these of the project provide it: {}", package.value, providers.join(", "));
                return Err(session.project.error_at(package.line, what).hint("name the one that is meant"));
            }
        }
        if image.has_config() {
            let replaced = closure.own.iter().cloned().chain(closure.packages.iter().map(|package| package.id.name.clone())).collect();
            configs.insert(image.name.value.clone(), config_package(session, image, replaced)?);
        }
    }
    Ok(configs)
}

/// Refuses a closure with a package that the image forbids, and says who needs it.
pub fn check_forbidden(session: &Session, image: &RuntimeImage, closure: &Closure, own: &[Stored]) -> Result<()> {
    let names = closure.own.iter().chain(closure.packages.iter().map(|package| &package.id.name));
    let forbidden = |name: &String| image.forbid.iter().find(|pattern| fits(&pattern.value, name));
    let Some((name, pattern)) = names.filter_map(|name| Some((name, forbidden(name)?))).next() else { return Ok(()) };
    let members = members(session, closure, own)?;
    let chain = why::chain(session.project.format, &members, &wanted(&session.project, image), name).unwrap_or_default();
    let what = format!("image {} would have {name}, which `forbid = [\"{}\"]` keeps out", image.name.value, pattern.value);
    let hint = match chain.len() {
        0 | 1 => "take it out of `packages`, or `forbid`".to_string(),
        _ => "rebuild one of them without what it needs there, name a package that provides it instead, or take it out of `forbid`"
            .to_string(),
    };
    Err(session.project.error_at(pattern.line, what).because(why::sentence(&chain)).hint(hint))
}

/// The packages of a closure: the distribution's, and those of the project.
pub fn members(session: &Session, closure: &Closure, own: &[Stored]) -> Result<Vec<Stored>> {
    let mut members: Vec<Stored> = own.iter().filter(|package| closure.own.contains(&package.id.name)).cloned().collect();
    for package in &closure.packages {
        members.push(stored(&session.repository, session.repository.pool().package(&package.sha256)?.as_ref())?);
    }
    Ok(members)
}

/// What an image's closure answers: as long as it is this, the lock holds.
pub fn asked(session: &Session, context: &Context, image: &RuntimeImage, own: &[Stored]) -> Vec<String> {
    let mut asked = tools::external(session.project.format, &wanted(&session.project, image), own);
    // What the image that it is above has taken from the distribution is a part of the question.
    if let Some(parent) = session.project.parent(image) {
        let closure = context.lock().closures.get(&closure_name(&parent.name.value)).cloned();
        let packages = closure.map(|closure| closure.packages).unwrap_or_default();
        let list: String = packages.iter().map(|package| format!("{package}\n")).collect();
        asked.push(format!("above {} {}", parent.name.value, Sha256::of(list.as_bytes()).short()));
    }
    let provided: BTreeSet<&str> =
        session.project.with_parents(image).into_iter().flat_map(|image| &image.provides).map(|name| name.value.as_str()).collect();
    asked.extend(provided.into_iter().map(|name| format!("provided {name}")));
    asked
}

/// The packages that an image asks for, with those of the images that it is above.
pub fn wanted(project: &Project, image: &RuntimeImage) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for package in project.with_parents(image).iter().flat_map(|image| &image.packages) {
        if !names.contains(&package.value) {
            names.push(package.value.clone());
        }
    }
    names
}

/// The packages that an image can take from the project: its components', and what others
/// published to the channel; the newest of each name, without debug symbols.
pub fn own_packages(session: &Session, built: &BTreeMap<String, Built>) -> Result<Vec<Stored>> {
    let format = session.project.format;
    let kind = match format {
        Format::Deb => Kind::Deb,
        Format::Rpm => Kind::Rpm,
    };
    let mut newest: BTreeMap<String, Stored> = BTreeMap::new();
    let mut offer = |package: Stored| {
        let older = newest.get(&package.id.name).is_none_or(|known| tools::compare(format, &known.id.version, &package.id.version).is_lt());
        let is_udeb = package.fields.get("Package-Type").is_some_and(|kind| kind == "udeb");
        if older && !is_udeb && !tools::is_symbols(format, &package.id.name) {
            newest.insert(package.id.name.clone(), package);
        }
    };
    if let Some(channel) = session.repository.channels().get(&session.project.repository.channel)? {
        for digest in channel.members.get(publish::GROUP).into_iter().flatten() {
            let package = session.repository.pool().package(digest)?;
            if package.kind == kind {
                offer(stored(&session.repository, &package)?);
            }
        }
    }
    built.values().flat_map(|component| &component.packages).cloned().for_each(offer);
    Ok(newest.into_values().collect())
}

/// Bytes of a file of an image's `files`, at most: larger ones are for a component to package.
const MAX_FILE: u64 = 256 << 20;

/// The name of an image's config package.
pub fn config_name(image: &str) -> String {
    format!("{image}-config")
}

/// `<image>-config`: the image's `files` as a package, so that they need no layer of their own and
/// the package database knows them; and what the image `provides`. Its version is the digest of its content.
fn config_package(session: &Session, image: &RuntimeImage, replaced: BTreeSet<String>) -> Result<Stored> {
    let mut files = Vec::new();
    let mut conffiles = Vec::new();
    for (path, file) in &image.files {
        let content =
            session.files.read(&file.source.value, MAX_FILE).map_err(|cause| session.project.refused(file.source.line, &cause))?;
        if path.starts_with("/etc/") {
            conffiles.push(path.clone());
        }
        files.push(FileEntry { path: path.clone(), mode: file.mode, content });
    }
    // (Without files it takes nobody's place.)
    let replaced = if files.is_empty() { BTreeSet::new() } else { replaced };
    write_config(session, image, &files, &conffiles, &replaced)
}

/// The same without files: what it provides has to be known before it is known what its files replace.
fn stand_in(session: &Session, image: &RuntimeImage) -> Result<Stored> {
    write_config(session, image, &[], &[], &BTreeSet::new())
}

fn write_config(
    session: &Session,
    image: &RuntimeImage,
    files: &[FileEntry],
    conffiles: &[String],
    replaced: &BTreeSet<String>,
) -> Result<Stored> {
    let name = config_name(&image.name.value);
    let write = |version: &str| match session.project.format {
        Format::Deb => config_deb(session, image, version, files, conffiles, replaced),
        Format::Rpm => config_rpm(session, image, version, files),
    };
    let version = format!("1+{}", Sha256::of(&write("0")?).short());
    let bytes = write(&version)?;
    let package = session.repository.pool().ingest(&bytes[..], &name).or_fail(Class::Repository, || format!("{name} is not taken"))?;
    stored(&session.repository, &package)
}

fn config_deb(
    session: &Session,
    image: &RuntimeImage,
    version: &str,
    files: &[FileEntry],
    conffiles: &[String],
    replaced: &BTreeSet<String>,
) -> Result<Vec<u8>> {
    let mut control = Control::parse(&format!(
        "Package: {1}\nVersion: {version}\nArchitecture: all\nMaintainer: {0} <{0}@twostage.invalid>\nSection: misc\nPriority: optional\n\
         Description: files of the image {2}\n Written by twostage from the project file.\n",
        session.project.name,
        config_name(&image.name.value),
        image.name.value
    ))?;
    let provides: Vec<&str> = image.provides.iter().map(|name| name.value.as_str()).collect();
    if !provides.is_empty() {
        control.set("Provides", &provides.join(", "));
    }
    // The project's word counts: its file takes the place of a package's own.
    if !replaced.is_empty() {
        control.set("Replaces", &replaced.iter().cloned().collect::<Vec<_>>().join(", "));
    }
    write_deb(&control, files, conffiles, CONFIG_DATE)
}

fn config_rpm(session: &Session, image: &RuntimeImage, version: &str, files: &[FileEntry]) -> Result<Vec<u8>> {
    let new = NewRpm {
        name: config_name(&image.name.value),
        version: version.to_string(),
        release: "1".into(),
        arch: "noarch".into(),
        summary: format!("files of the image {}", image.name.value),
        license: "unspecified".into(),
        description: format!("Written by twostage from the project file of {}.", session.project.name),
        requires: Vec::new(),
        provides: image.provides.iter().map(|name| name.value.clone()).collect(),
    };
    write_rpm(&new, files, CONFIG_DATE)
}

/// The error for a package that an image needs and the channel does not have.
pub fn not_published(name: &str, channel: &str) -> Error {
    Error::new(Class::Runtime, format!("channel {channel} has no package {name}")).hint("run `twostage repo` first")
}

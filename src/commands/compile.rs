//! `twostage compile DIR`: a Dockerfile in one pass, into one layer above its base.

mod arguments;

use crate::cli::Compile;
use crate::images::whole_name;
use crate::output::Output;
use crate::remembered;
use crate::session::{lock, sweep_containers, tell_cost, tell_network};
use arguments::{Contexts, Sources, agents, build_arguments, secrets};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use twostage_builder::Context;
use twostage_engine::dockerfile::{Dockerfile, Options, Plan, Warning};
use twostage_engine::execute::{Image, Job, Remote, TEMPORARY, id, ready};
use twostage_engine::{Engine, Reference};
use twostage_model::event::Outcome;
use twostage_model::shown::size;
use twostage_model::{Class, Error, Result, Sha256, date};

/// The label of a run's containers.
const LABEL: &str = "twostage.compile";

/// What was done. Its serialised field names are stable.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    /// None if no name was asked for.
    image: Option<String>,
    id: Sha256,
    base_layers: usize,
    /// None if nothing changed.
    layer: Option<Sha256>,
    /// Bytes of the files in it.
    bytes: u64,
}

pub async fn run(arguments: &Compile, output: &Output) -> Result<()> {
    let events = output.sink();
    let start = Instant::now();
    let (folder, file) = (arguments.folder.clone(), arguments.file.clone());
    let Sources { text, context, path, file } = Context::blocking(move || Sources::read(&folder, file.as_deref())).await?;
    let parsed = Dockerfile::parse(&text)?;
    let context = Arc::new(context);
    let name = arguments.tag.as_deref().map(whole_name);
    if let Some(name) = &name {
        let wrong = || Error::new(Class::Usage, format!("{name} is no name that an image can be given")).hint("write NAME or NAME:TAG");
        Reference::parse(name).map_err(|cause| wrong().because(cause))?;
        if name.contains('@') {
            return Err(wrong());
        }
    }
    let subject = name.clone().unwrap_or_else(|| "compile".into());

    let id = id(&path);
    let label = (LABEL.to_string(), id.clone());
    let engine = arguments.engine.connect().await?.labelled(BTreeMap::from([label.clone()]));
    tell_cost(&engine, &events);
    let platform = ready::platform(&engine);
    let contexts = Contexts::read(&arguments.contexts, &format!("{TEMPORARY}:{id}"))?;
    let (build_args, named) = (build_arguments(&arguments.build_args)?, contexts.named);
    let options = Options { build_args, target: platform.clone(), build: platform, contexts: named };
    let plan = parsed.plan(options)?;
    let target = target(&plan, arguments.target.as_deref())?;
    for Warning { line, what } in parsed.warnings.iter().chain(&plan.unused_arguments()) {
        let place = if *line == 0 { String::new() } else { format!("Dockerfile line {line}: ") };
        events.note(&subject, format!("{place}{what}"));
    }
    if let Some(syntax) = &parsed.syntax {
        events.note(&subject, format!("Dockerfile: the front end {syntax} of `# syntax=` is not fetched; this one reads the file"));
    }

    // One run a Dockerfile, so that whatever else has this run's label was left by one that was killed.
    lock(&file, &path, || events.note(&subject, "another twostage compiles this Dockerfile; waiting"))?;
    sweep_containers(&engine, &label, &events).await?;
    let destinations = engine.destinations(arguments.network.into());
    let job = Job {
        engine,
        plan: &plan,
        context,
        remote: Remote::through(plan.options.proxies(), destinations),
        network: arguments.network.into(),
        secrets: secrets(&arguments.secrets)?,
        agents: agents(&arguments.ssh)?,
        folders: contexts.folders,
        images: contexts.layouts.iter().map(|(image, _)| image.clone()).collect(),
        id,
        events: events.clone(),
        subject: subject.clone(),
        epoch: arguments.source_date_epoch,
        now: date::now(),
    };
    job.clear().await?;
    let work = async {
        Contexts::load(&contexts.layouts, &job.engine).await?;
        let stages = ready::ready(&job.engine, &plan, target, job.network, &events).await?;
        let key = job.key(&stages).await?;
        let folder = remembered::folder();
        if let Some(folder) = folder.as_ref().filter(|_| !arguments.no_cache)
            && let Some(image) = remembered::find(folder, &key)
            && known(&job.engine, &image, name.as_deref()).await?
        {
            return Ok((image, Outcome::Unchanged));
        }
        if job.network == twostage_engine::Network::Bridge {
            tell_network(&job.engine, &events).await;
        }
        let image = job.build(&stages, name.clone()).await?;
        // A file that was changed meanwhile may be in the image as it was then, or as it is now.
        if let Some(folder) = folder
            && job.key(&stages).await.is_ok_and(|same| same == key)
            && let Err(error) = remembered::keep(&folder, &key, &image)
        {
            events.note(&subject, format!("the next run does all of this again: {error}"));
        }
        Ok((image, Outcome::Done))
    };
    let made = tokio::select! {
        made = work => made,
        stopped = interrupted() => Err(stopped),
    };
    // Whatever became of it, nothing of it stays but the image.
    job.engine.settle().await;
    let cleared = job.clear().await;
    let (image, outcome) = made?;
    cleared?;
    events.finished(&subject, outcome, "", start);
    let done = Done { event: "compiled", image: name, id: image.id, base_layers: image.kept, layer: image.layer, bytes: image.bytes };
    output.result(&to_text(&done, &image), &done);
    Ok(())
}

/// Whether the engine still has an image; then it gets the name.
async fn known(engine: &Engine, image: &Image, name: Option<&str>) -> Result<bool> {
    let id = format!("sha256:{}", image.id);
    if engine.image(&id).await?.is_none() {
        return Ok(false);
    }
    if let Some(name) = name {
        engine.tag(&id, name).await?;
    }
    Ok(true)
}

/// The id is the last line, for scripts.
fn to_text(done: &Done, image: &Image) -> String {
    let layers = if done.layer.is_some() { "1 layer" } else { "no layer" };
    let summary = format!("{layers} above the base's {}, {} of files", image.kept, size(done.bytes));
    match &done.image {
        Some(name) => format!("{name}  {summary}\nsha256:{}", done.id),
        None => format!("{summary}\nsha256:{}", done.id),
    }
}

/// The stage that is asked for, by name or number; else the last.
fn target(plan: &Plan<'_>, wanted: Option<&str>) -> Result<usize> {
    let Some(wanted) = wanted else { return Ok(plan.stages.len().saturating_sub(1)) };
    let number = || wanted.parse().ok().filter(|number| *number < plan.stages.len());
    plan.file.stage(wanted).or_else(number).ok_or_else(|| {
        let names: Vec<&str> = plan.stages.iter().filter_map(|planned| planned.stage.name.as_deref()).collect();
        let hint = if names.is_empty() {
            "no stage has a name; write `FROM … AS NAME`".into()
        } else {
            format!("there is {}", names.join(", "))
        };
        Error::new(Class::Usage, format!("the Dockerfile has no stage {wanted}")).hint(hint)
    })
}

/// Waits for Ctrl-C, or the wish to end.
pub async fn interrupted() -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    let stopped = |what: &str| Error::new(Class::System, format!("stopped by {what}")).hint("nothing was left in the engine; run it again");
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => stopped("Ctrl-C"),
        _ = terminate.recv() => stopped("a signal"),
    }
}

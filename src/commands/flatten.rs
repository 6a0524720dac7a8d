//! `twostage flatten IMAGE`: the layers above its parent become one.

use crate::cli::Flatten;
use crate::images::{Opened, Place, whole_name};
use crate::output::Output;
use serde::Serialize;
use std::path::{Path, PathBuf};
use twostage_engine::{Engine, ImageInfo, Kind};
use twostage_image::flatten::{self, Parent};
use twostage_image::{Compression, NewImage, Waste};
use twostage_model::shown::{count, size};
use twostage_model::{Class, Error, Result, Sha256};

/// What was done. Its serialised field names are stable.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    image: String,
    /// The image that was flattened: the digest of its configuration.
    from: Sha256,
    parent: String,
    parent_layers: usize,
    layers_before: usize,
    bytes_before: u64,
    /// None if nothing is above the parent.
    layer: Option<Sha256>,
    bytes_after: u64,
    id: Sha256,
    manifest: Option<Sha256>,
    hidden: Waste,
}

pub async fn run(arguments: &Flatten, output: &Output) -> Result<()> {
    let events = output.sink();
    let shown = arguments.image.to_string();
    let engine = arguments.image.engine(&arguments.engine).await?;
    let destination = arguments.to.clone().map_or_else(|| default_destination(&arguments.image), Ok)?;
    if destination == arguments.image {
        return Err(Error::new(Class::Usage, format!("{shown} cannot be written over itself")).hint("give the flat image another name"));
    }
    let target = destination.engine(&arguments.engine).await?;

    // What an engine knows of an image is quick to ask; its layers are not quick to read.
    let known = match (&engine, &arguments.image) {
        (Some(engine), Place::Engine(_, name)) => Some(found(engine, name).await?),
        _ => None,
    };
    let opened = match &known {
        Some(_) => None,
        None => Some(arguments.image.open(None).await?),
    };
    let diff_ids = match (&known, &opened) {
        (Some(known), _) => known.diff_ids.clone(),
        (None, Some(opened)) => opened.store.config.diff_ids.clone(),
        (None, None) => Vec::new(),
    };
    let mut parent = match &arguments.onto {
        Some(place) => Some(named_parent(place, arguments, &diff_ids).await?),
        None if arguments.all => Some(Parent { layers: 0, named: "none: --all".into() }),
        None => None,
    };
    let images = match &engine {
        Some(engine) => engine.images().await?,
        None => Vec::new(),
    };
    if parent.is_none() {
        parent = nearest_tagged(&images, &diff_ids);
    }
    if let (Some(parent), Some(known)) = (&parent, &known) {
        say_what_is_shared(&images, known, parent.layers, &events, &shown);
        // The same image flattened onto the same parent is in the engine already.
        if let (Place::Engine(_, name), Some(target)) = (&destination, &target)
            && let Some(there) = target.image(name).await?
            && there.diff_ids.len() == parent.layers + 1
            && there.diff_ids.starts_with(&diff_ids[..parent.layers])
            && target.remark(name).await?.as_deref() == Some(&flatten::remark(diff_ids.len() - parent.layers, &known.id.parse()?))
        {
            let text = format!("{}  {}  flat already, from the same image onto the same parent", whole_name(name), short(&there.id));
            let value = serde_json::json!({ "event": "flattened", "image": name, "id": there.id, "unchanged": true });
            output.result(&text, &value);
            return Ok(());
        }
    }
    events.started(&shown, "reading it");
    let opened = match opened {
        Some(opened) => opened,
        None => arguments.image.open(engine.as_ref()).await?,
    };
    let parent = parent.or_else(|| flatten::told(&opened.store.config)).ok_or_else(|| {
        Error::new(Class::Usage, format!("{shown}: nothing tells where its parent ends"))
            .hint("name the parent with --onto IMAGE, or flatten everything with --all")
    })?;
    events.note(&shown, format!("its parent has {} of its {} ({})", parent.layers, count(diff_ids.len(), "layer"), parent.named));
    let same_engine = matches!((&engine, &target), (Some(a), Some(b)) if a.kind() == b.kind());
    let sink = destination.sink(target.as_ref(), same_engine)?;
    let image = destination.to_string();
    let done = sink.write(move |write| flatten(&opened, &parent, image, write)).await?;
    output.result(&to_text(&done), &done);
    Ok(())
}

fn flatten(opened: &Opened, parent: &Parent, image: String, write: twostage_engine::Write<'_>) -> Result<Done> {
    let whole = opened.store.read_to_flatten()?;
    let flat = flatten::flatten(&whole, parent.layers)?;
    // As the layers were packed that it replaces.
    let compression = if parent.layers < opened.store.layers() { opened.store.blob(parent.layers)?.2 } else { Compression::None };
    let config = |diff_id| flat.config(diff_id);
    let mut new =
        NewImage { store: &opened.store, kept: parent.layers, delta: flat.delta.as_ref(), compression, name: None, config: &config };
    let written = write(&mut new)?;
    Ok(Done {
        event: "flattened",
        image,
        from: whole.id,
        parent: parent.named.clone(),
        parent_layers: parent.layers,
        layers_before: whole.layers.len() - parent.layers,
        bytes_before: flat.bytes_before,
        layer: written.layer.map(|(digest, _)| digest),
        bytes_after: flat.delta.as_ref().map_or(0, twostage_image::Delta::file_bytes),
        id: written.id,
        manifest: written.manifest,
        hidden: flat.hidden,
    })
}

fn to_text(done: &Done) -> String {
    let hidden = done.hidden.total();
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line(format!("parent  {}: {}", count(done.parent_layers, "layer"), done.parent));
    line(format!("before  {} above it, {} of files", count(done.layers_before, "layer"), size(done.bytes_before)));
    let layers = if done.layer.is_some() { "1 layer" } else { "no layer" };
    line(format!("after   {layers}, {} of files", size(done.bytes_after)));
    if hidden.files > 0 {
        line(format!("hidden  {} in {} that nobody could see", size(hidden.bytes), count(hidden.files, "file")));
        for (why, share) in &done.hidden.by {
            line(format!("  {:>9}  {:>6} files  {}", size(share.bytes), share.files, why.word()));
        }
    }
    if !done.hidden.largest.is_empty() {
        line("  the largest of them".into());
        for file in &done.hidden.largest {
            line(format!(
                "  {:>9}  layer {}  {}  ({})",
                size(file.bytes),
                file.layer,
                twostage_image::path::shown(&file.path),
                file.why.word()
            ));
        }
    }
    let manifest = done.manifest.map(|digest| format!("  manifest sha256:{}", digest.short())).unwrap_or_default();
    line(format!("{}  sha256:{}{manifest}  {} above the parent", done.image, done.id.short(), size(done.bytes_after)));
    text.trim_end().to_string()
}

async fn found(engine: &Engine, name: &str) -> Result<ImageInfo> {
    engine.image(name).await?.ok_or_else(|| {
        let hint = match engine.kind() {
            Kind::Docker => "`docker images` lists what it has; a file is written as ./FILE",
            Kind::Podman => "`podman images` lists what it has; a file is written as ./FILE",
            Kind::Embedded => "the embedded engine has what was made with it; a file is written as ./FILE",
        };
        Error::new(Class::Engine, format!("the engine has no image {name}")).hint(hint)
    })
}

/// The image that --onto names: the layers of any image, wherever it is.
async fn named_parent(place: &Place, arguments: &Flatten, diff_ids: &[Sha256]) -> Result<Parent> {
    let of = match (place, place.engine(&arguments.engine).await?) {
        (Place::Engine(_, name), Some(engine)) => found(&engine, name).await?.diff_ids,
        (place, _) => place.open(None).await?.store.config.diff_ids,
    };
    flatten::onto(diff_ids, &of, &place.to_string())
}

/// The image with a name that has most of the lowest layers, but not all.
fn nearest_tagged(images: &[ImageInfo], diff_ids: &[Sha256]) -> Option<Parent> {
    let ancestors = images.iter().filter(|image| image.diff_ids.len() < diff_ids.len() && diff_ids.starts_with(&image.diff_ids));
    let nearest = ancestors.filter(|image| !image.diff_ids.is_empty()).max_by_key(|image| image.diff_ids.len())?;
    let name = nearest.tags.first()?;
    Some(Parent { layers: nearest.diff_ids.len(), named: format!("{name}, its nearest ancestor with a name") })
}

/// Layers that other images share are stored once; in a flat image they are stored again. Whoever
/// flattens owes that sum before.
fn say_what_is_shared(images: &[ImageInfo], image: &ImageInfo, parent: usize, events: &twostage_model::Sink, shown: &str) {
    let shared = |other: &ImageInfo| image.diff_ids.iter().zip(&other.diff_ids).take_while(|(a, b)| a == b).count();
    let others: Vec<usize> = images.iter().filter(|other| other.id != image.id).map(shared).filter(|shared| *shared > parent).collect();
    if let Some(most) = others.iter().max() {
        let (count, layers) = (others.len(), most - parent);
        events.note(
            shown,
            format!("{count} other images share up to {layers} of the layers that become one; in a flat image they are stored once more"),
        );
    }
}

/// Beside the image, under dflatten's name.
fn default_destination(image: &Place) -> Result<Place> {
    let beside = |path: &Path, ending: &str| -> Result<PathBuf> {
        let stem = path.file_stem().filter(|_| path.file_name().is_some()).ok_or_else(|| {
            Error::new(Class::Usage, format!("{} has no name that the flat image's could be made of", path.display()))
                .hint("name it with --to")
        })?;
        let mut name = if ending.is_empty() { path.file_name().unwrap_or(stem).to_os_string() } else { stem.to_os_string() };
        name.push("_flatten");
        name.push(ending);
        Ok(path.with_file_name(name))
    };
    Ok(match image {
        Place::Engine(kind, name) => {
            let whole = whole_name(name);
            let (name, tag) = whole.rsplit_once(':').unwrap_or((&whole, "latest"));
            // An id or a digest is no name for what is not that image.
            if whole.contains('@') || name == "sha256" {
                return Err(Error::new(Class::Usage, format!("{whole} is no name that the flat image's could be made of"))
                    .hint("name it with --to"));
            }
            Place::Engine(*kind, format!("{name}_flatten:{tag}"))
        }
        Place::Registry(name) => {
            return Err(Error::new(Class::Usage, format!("where the flat image of docker://{name} goes is not guessed"))
                .hint("name it with --to, which may be a registry too"));
        }
        Place::Archive(path, name) => Place::Archive(beside(path, ".tar")?, name.clone()),
        Place::Layout(path, name) => Place::Layout(beside(path, "")?, name.clone()),
    })
}

fn short(id: &str) -> String {
    id.chars().take(19).collect()
}

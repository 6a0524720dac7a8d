//! `twostage load [IMAGE…]`: gives images to Docker or Podman, as they are.

use crate::cli::{Daemon, EngineArgs, Load, ProjectArgs};
use crate::commands::pin;
use crate::images::{Sink, whole_name};
use crate::output::Output;
use crate::source::Source;
use serde::Serialize;
use std::time::Instant;
use twostage_engine::{Engine, Kind, Write};
use twostage_image::{Compression, NewImage, Store, Written};
use twostage_model::event::Outcome;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result, Sha256};

/// What was done. Its serialised field names are stable.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    /// None if the image has none.
    image: Option<String>,
    id: Sha256,
    layers: usize,
    engine: String,
}

pub async fn run(arguments: &Load, of: &ProjectArgs, output: &Output) -> Result<()> {
    let project = of.path.as_path();
    let from = EngineArgs::default();
    let mut sources = Vec::new();
    for place in &arguments.images {
        sources.push(Source::of(place, project, &from).await?);
    }
    if sources.is_empty() {
        sources = Source::all(project)?;
    }
    let engine = daemon(arguments).await?;
    for source in sources {
        let shown = source.place.to_string();
        if source.engine.as_ref().is_some_and(|from| from.kind() == engine.kind()) {
            return Err(
                Error::new(Class::Usage, format!("{shown} is in {} already", engine.name())).hint("name another engine with --into")
            );
        }
        let done = load(&source, &engine, of, output).await?;
        let name = done.image.as_deref().unwrap_or("an image without a name");
        let layers = count(done.layers, "layer");
        let text = format!("{name}  sha256:{}  {layers}, in {}", done.id.short(), done.engine);
        output.result(&text, &done);
    }
    Ok(())
}

async fn load(source: &Source, engine: &Engine, of: &ProjectArgs, output: &Output) -> Result<Done> {
    let (start, events) = (Instant::now(), output.sink());
    let shown = source.place.to_string();
    events.started(&shown, &format!("giving it to {}", engine.name()));
    let opened = source.open().await?;
    let name = source.name.clone().or_else(|| opened.store.tags.first().cloned()).filter(|name| !name.starts_with("sha256:"));
    let name = name.as_deref().map(whole_name);
    let (id, layers) = (opened.store.id(), opened.store.config.diff_ids.clone());
    let labels = opened.store.config.labels.clone();
    let sink = Sink::Engine { engine: engine.clone(), name: name.clone(), with_kept: true };
    sink.write(move |write| as_it_is(&opened.store, write)).await?;
    // What the engine says that it has, and not only what it was given.
    let reference = format!("sha256:{id}");
    let there = engine.image(&reference).await?.filter(|there| there.diff_ids == layers);
    let there = there.ok_or_else(|| {
        Error::new(Class::Engine, format!("{} took {shown}, but has no image {reference} with its layers", engine.name()))
            .hint("it made another image of it; let `skopeo copy` bring the image from its layout instead")
    })?;
    pin::shipped(&labels, &format!("{shown} was given to {}", engine.name()), of, output);
    events.finished(&shown, Outcome::Done, "", start);
    Ok(Done { event: "loaded", image: name, id, layers: there.diff_ids.len(), engine: engine.name() })
}

/// The whole image, no layer of it new.
pub fn as_it_is(store: &Store, write: Write<'_>) -> Result<Written> {
    let config = |_| Ok(store.config_json.clone());
    write(&mut NewImage { store, kept: store.layers(), delta: None, compression: Compression::None, name: None, config: &config })
}

/// Docker or Podman, whichever is asked for or answers.
async fn daemon(arguments: &Load) -> Result<Engine> {
    let kind = arguments.into.map(|into| match into {
        Daemon::Docker => Kind::Docker,
        Daemon::Podman => Kind::Podman,
    });
    Engine::daemon(kind, arguments.engine_host.as_deref()).await.map_err(|cause| {
        let hint = format!(
            "{}; without either of them skopeo copies the project's images, `skopeo copy oci:.twostage/images:NAME …`, \
             and `twostage run NAME` runs them",
            cause.hint_or_class()
        );
        Error::new(Class::Engine, "there is neither Docker nor Podman to load into").because(cause).hint(hint)
    })
}

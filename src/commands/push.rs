//! `twostage push IMAGE docker://…`: to a registry, every digest as it is.

use crate::cli::{ProjectArgs, Push};
use crate::commands::load::as_it_is;
use crate::commands::pin;
use crate::images::{Place, Sink, push_layout};
use crate::layout::Layout;
use crate::output::Output;
use crate::source::Source;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use twostage_model::event::Outcome;
use twostage_model::{Class, Error, Result, Sha256};

/// What was done. Its serialised field names are stable.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    image: String,
    to: String,
    id: Sha256,
    /// What the registry calls it.
    manifest: Option<Sha256>,
}

pub async fn run(arguments: &Push, of: &ProjectArgs, output: &Output) -> Result<()> {
    let project = of.path.as_path();
    let Place::Registry(to) = &arguments.to else {
        return Err(Error::new(Class::Usage, format!("{} is in no registry", arguments.to)).hint(format!(
            "write docker://HOST/NAME:TAG, such as docker://registry.example/team/{}; into a file or a layout copies `skopeo copy`",
            arguments.image
        )));
    };
    let (start, events) = (Instant::now(), output.sink());
    let source = Source::of(&arguments.image, project, &arguments.engine).await?;
    let shown = source.place.to_string();
    events.started(&shown, &format!("pushing it to docker://{to}"));
    let (id, manifest) = match whole(&source, project).await? {
        // Its manifest is there: it goes as it is, and nothing is copied first.
        Some((layout, id, manifest)) => {
            let labels = source.open().await?.store.config.labels.clone();
            push_layout(to, &layout, &manifest).await?;
            pin::shipped(&labels, &format!("{shown} was pushed to docker://{to}"), of, output);
            (id, Some(manifest))
        }
        None => {
            let opened = source.open().await?;
            let labels = opened.store.config.labels.clone();
            let written = Sink::Registry(to.clone()).write(move |write| as_it_is(&opened.store, write)).await?;
            pin::shipped(&labels, &format!("{shown} was pushed to docker://{to}"), of, output);
            (written.id, written.manifest)
        }
    };
    events.finished(&shown, Outcome::Done, "", start);
    let as_manifest = manifest.map(|manifest| format!("  manifest sha256:{}", manifest.short())).unwrap_or_default();
    let text = format!("docker://{to}  sha256:{}{as_manifest}", id.short());
    output.result(&text, &Done { event: "pushed", image: arguments.image.to_string(), to: format!("docker://{to}"), id, manifest });
    Ok(())
}

/// The layout that an image is in, its id and its manifest, if it is one of ours.
async fn whole(source: &Source, project: &Path) -> Result<Option<(std::path::PathBuf, Sha256, Sha256)>> {
    match (&source.place, &source.engine) {
        (Place::Engine(_, name), Some(engine)) => {
            Ok(engine.location(name).await?.map(|location| (location.layout, location.id, location.manifest)))
        }
        (Place::Layout(folder, Some(name)), _) => {
            let ours = crate::session::project_of(project).ok().map(|(_, folder)| Layout::of(&folder.join(".twostage")));
            let Some(ours) = ours.filter(|ours| ours.folder() == folder) else { return Ok(None) };
            let Some(manifest) = ours.images()?.remove(name) else { return Ok(None) };
            Ok(Some((folder.clone(), source.open().await?.store.id(), manifest)))
        }
        _ => Ok(None),
    }
}

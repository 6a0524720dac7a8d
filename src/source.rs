//! Which image is meant by a name that may be the project's, or one that the embedded engine has.

use crate::cli::{EngineArgs, EngineKind};
use crate::images::{Opened, Place};
use crate::layout::Layout;
use crate::session::{is_project, project_of};
use std::path::Path;
use twostage_engine::{Engine, Kind};
use twostage_model::project::near_miss;
use twostage_model::{Class, Error, Result};

/// An image that goes somewhere else.
pub struct Source {
    /// Where it is.
    pub place: Place,
    /// The engine that it is in, if it is in one.
    pub engine: Option<Engine>,
    /// The name that it has, which may be the one that it gets.
    pub name: Option<String>,
}

impl Source {
    /// Opens it, to be read as often as needed.
    ///
    /// # Errors
    /// It is not there any more, or not what it claims to be.
    pub async fn open(&self) -> Result<Opened> {
        self.place.open(self.engine.as_ref()).await
    }

    /// The image that is meant. A bare name is an image of the project, if it is the name of one; else one of the
    /// engine that `from` says, which is the embedded one where it says nothing.
    ///
    /// # Errors
    /// There is no such image, with what there is that is almost called so.
    pub async fn of(place: &Place, project: &Path, from: &EngineArgs) -> Result<Source> {
        let Place::Engine(kind, name) = place else {
            let name = match place {
                Place::Archive(_, name) | Place::Layout(_, name) => name.clone(),
                Place::Registry(name) => Some(name.clone()),
                Place::Engine(..) => None,
            };
            return Ok(Source { place: place.clone(), engine: None, name });
        };
        let (layout, names) = of_project(project)?;
        if kind.is_none() && from.kind.is_none_or(|kind| kind == EngineKind::Embedded) && names.contains(name) {
            return in_layout(&layout, name);
        }
        let from = from.or_embedded().preferring(*kind);
        let engine = from.connect().await?;
        if engine.image(name).await?.is_none() {
            return Err(unknown(&engine, name, &names).await);
        }
        Ok(Source { place: Place::Engine(from.kind, name.clone()), engine: Some(engine), name: Some(name.clone()) })
    }

    /// Every image of the project.
    ///
    /// # Errors
    /// There is no project, it has no image, or one was not built yet.
    pub fn all(project: &Path) -> Result<Vec<Source>> {
        let parsed = project_of(project).map_err(|error| {
            Error::new(Class::Usage, "which image? None is named, and there is no project here")
                .because(error)
                .hint("name an image, such as `twostage load NAME`, or the project's folder with --project")
        })?;
        let (layout, names) = of_project(project)?;
        if names.is_empty() {
            return Err(Error::new(Class::Project, format!("{} names no image", parsed.0.file)).hint("add a [runtime.NAME] table"));
        }
        names.iter().map(|name| in_layout(&layout, name)).collect()
    }
}

/// The project's layout, and the names of its images; none where there is no project.
fn of_project(project: &Path) -> Result<(Layout, Vec<String>)> {
    if !is_project(project) {
        return Ok((Layout::of(Path::new(".twostage")), Vec::new()));
    }
    let (parsed, folder) = project_of(project)?;
    Ok((Layout::of(&folder.join(".twostage")), parsed.images.keys().cloned().collect()))
}

fn in_layout(layout: &Layout, name: &str) -> Result<Source> {
    if !layout.images()?.contains_key(name) {
        return Err(Error::new(
            Class::Runtime,
            format!("{name} is not in {}: it was not built by the embedded engine", layout.folder().display()),
        )
        .hint(format!("run `twostage runtime {name} --engine embedded` first; an image that Docker or Podman built is in there already")));
    }
    let place = Place::Layout(layout.folder().to_path_buf(), Some(name.to_string()));
    Ok(Source { place, engine: None, name: Some(name.to_string()) })
}

/// The error for a name that no image has. `others` are names that would do, too.
pub async fn unknown(engine: &Engine, name: &str, others: &[String]) -> Error {
    // What cannot be listed is not what went wrong.
    let tags: Vec<String> = engine.images().await.unwrap_or_default().into_iter().flat_map(|image| image.tags).collect();
    let bare = tags.iter().filter_map(|tag| tag.strip_suffix(":latest"));
    let known: Vec<&str> = others.iter().map(String::as_str).chain(bare).chain(tags.iter().map(String::as_str)).collect();
    let listed = || match known.as_slice() {
        [] => "it has none yet: `twostage runtime` and `twostage compile` make images".to_string(),
        known => format!("there is {}", known.iter().take(10).copied().collect::<Vec<_>>().join(", ")),
    };
    let hint = near_miss(name, known.iter().copied()).unwrap_or_else(listed);
    Error::new(Class::Engine, format!("{} has no image {name}", called(engine))).hint(hint)
}

/// The engine, in a sentence.
fn called(engine: &Engine) -> String {
    match engine.kind() {
        Kind::Embedded => "the embedded engine".into(),
        Kind::Docker | Kind::Podman => engine.name(),
    }
}

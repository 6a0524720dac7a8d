//! Images, wherever they are: one syntax for every command, skopeo's transports.

use crate::cli::{EngineArgs, EngineKind};
use crate::registry::{RegistryOperation, Remote};
use crate::replaced;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tempfile::TempDir;
use twostage_builder::Context;
use twostage_engine::{Engine, SavedAt, Write};
use twostage_image::Store;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

/// What `--help` says of an image.
pub const SYNTAX: &str = "An IMAGE is\n  \
    NAME[:TAG]                    an image of the engine, or an archive or layout at that path\n  \
    docker-daemon:NAME[:TAG]      an image of Docker's engine\n  \
    containers-storage:NAME[:TAG] an image of Podman's engine\n  \
    docker-archive:FILE[:NAME]    an archive that `docker save` wrote\n  \
    oci-archive:FILE[:NAME]       an archive of an OCI layout\n  \
    oci:FOLDER[:NAME]             an OCI layout\n  \
    docker://HOST/NAME[:TAG]      an image in a registry, with the login of docker, podman or skopeo";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In an engine: of this kind, or whichever answers.
    Engine(Option<EngineKind>, String),
    /// In an archive, under a name if there are several.
    Archive(PathBuf, Option<String>),
    /// In an OCI layout.
    Layout(PathBuf, Option<String>),
    /// In a registry.
    Registry(String),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Place> {
        // skopeo's rule: the path ends at the first colon.
        let file = |rest: &str| {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name.to_string())));
            match (path, name.as_deref()) {
                ("", _) | (_, Some("")) => Err(unknown(text)),
                _ => Ok((PathBuf::from(path), name)),
            }
        };
        let engine = |kind, name: &str| match name {
            "" => Err(unknown(text)),
            name => Ok(Place::Engine(kind, name.to_string())),
        };
        match text.split_once(':') {
            Some(("docker", rest)) if rest.starts_with("//") => match rest.trim_start_matches('/') {
                "" => Err(unknown(text)),
                name => Ok(Place::Registry(name.to_string())),
            },
            Some(("docker-daemon", name)) => engine(Some(EngineKind::Docker), name),
            Some(("containers-storage", name)) => engine(Some(EngineKind::Podman), name),
            Some(("docker-archive" | "oci-archive", rest)) => file(rest).map(|(path, name)| Place::Archive(path, name)),
            Some(("oci", rest)) if !rest.is_empty() && !looks_like_tag(rest) => file(rest).map(|(path, name)| Place::Layout(path, name)),
            _ => {
                let path = Path::new(text);
                // A folder of the image's name is no image, unless it is a layout or written as a path.
                let written = text.starts_with(['.', '/']);
                match () {
                    () if path.join("index.json").is_file() || (written && path.is_dir()) => Ok(Place::Layout(path.into(), None)),
                    () if path.is_file() || written => Ok(Place::Archive(path.into(), None)),
                    () => engine(None, text),
                }
            }
        }
    }
}

/// `oci:latest` may be an image called oci; as skopeo does, it is taken for a folder unless there is none.
fn looks_like_tag(rest: &str) -> bool {
    !rest.contains(['/', ':', '.']) && !Path::new(rest).exists()
}

fn unknown(text: &str) -> Error {
    Error::new(Class::Usage, format!("{text:?} names no image"))
        .hint("write it as NAME:TAG, docker-archive:FILE, oci-archive:FILE or oci:FOLDER:NAME")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |name: &Option<String>| name.as_ref().map(|name| format!(":{name}")).unwrap_or_default();
        match self {
            Place::Engine(_, name) => f.write_str(name),
            Place::Archive(path, name) | Place::Layout(path, name) => write!(f, "{}{}", path.display(), of(name)),
            Place::Registry(name) => write!(f, "docker://{name}"),
        }
    }
}

/// An image that can be read again and again.
pub struct Opened {
    pub store: Store,
    /// Where an image from elsewhere was written to; it goes with this value.
    _spool: Spool,
}

/// A copy of an image that can be read only once, or not from here.
enum Spool {
    None,
    /// Of an engine's.
    Engine(#[expect(dead_code, reason = "it is removed when this is dropped")] SavedAt),
    /// Of a registry's: a layout.
    Folder(#[expect(dead_code, reason = "it is removed when this is dropped")] TempDir),
}

impl Place {
    /// The engine that the image is in, if it is in one.
    pub async fn engine(&self, arguments: &EngineArgs) -> Result<Option<Engine>> {
        let Place::Engine(kind, _) = self else { return Ok(None) };
        let arguments = arguments.preferring(*kind);
        arguments.connect().await.map(Some)
    }

    /// Opens the image. One of an engine or a registry is copied into a temporary place first.
    pub async fn open(&self, engine: Option<&Engine>) -> Result<Opened> {
        let (path, name, spool) = match (self, engine) {
            (Place::Engine(_, name), Some(engine)) => {
                let saved = engine.open(name).await?;
                return Ok(Opened { store: saved.store, _spool: Spool::Engine(saved.place) });
            }
            (Place::Registry(name), _) => {
                let folder = pull(name).await?;
                (folder.path().to_path_buf(), None, Spool::Folder(folder))
            }
            (Place::Archive(path, name) | Place::Layout(path, name), _) => (path.clone(), name.clone(), Spool::None),
            (Place::Engine(_, name), None) => return Err(Error::new(Class::Engine, format!("there is no engine to take {name} from"))),
        };
        let store = Context::blocking(move || Store::open(&path, name.as_deref())).await?;
        Ok(Opened { store, _spool: spool })
    }

    /// Where an image is written to. `same_engine`: its lower layers are in that engine already.
    pub fn sink(&self, engine: Option<&Engine>, same_engine: bool) -> Result<Sink> {
        match (self, engine) {
            (Place::Archive(path, name), _) => {
                replaced::check(path, replaced::Kind::Images)?;
                Ok(Sink::Archive(path.clone(), name.clone()))
            }
            (Place::Layout(path, name), _) => Ok(Sink::Layout(path.clone(), name.clone())),
            (Place::Registry(name), _) => Ok(Sink::Registry(name.clone())),
            (Place::Engine(_, name), Some(engine)) => {
                // Docker looks for a layer among its own before it reads the archive's; Podman does not.
                let with_kept = !same_engine || engine.kind() == twostage_engine::Kind::Podman;
                Ok(Sink::Engine { engine: engine.clone(), name: Some(whole_name(name)), with_kept })
            }
            (Place::Engine(_, name), None) => Err(Error::new(Class::Engine, format!("there is no engine to write {name} to"))),
        }
    }
}

/// Where an image is written to. One in an engine may have no name, but its id.
pub enum Sink {
    Archive(PathBuf, Option<String>),
    Layout(PathBuf, Option<String>),
    Engine { engine: Engine, name: Option<String>, with_kept: bool },
    Registry(String),
}

impl Sink {
    /// Runs `make`, which makes an image and hands it to what it is given.
    pub async fn write<T: Send + 'static>(self, make: impl FnOnce(Write<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        match self {
            Sink::Archive(path, name) => {
                Context::blocking(move || {
                    make(&mut |new| {
                        new.name.clone_from(&name);
                        new.write_archive(&path)
                    })
                })
                .await
            }
            Sink::Layout(path, name) => {
                Context::blocking(move || {
                    make(&mut |new| {
                        new.name.clone_from(&name);
                        new.write_layout(&path)
                    })
                })
                .await
            }
            Sink::Registry(name) => {
                let fail = || "cannot make a temporary folder".to_string();
                let folder = tempfile::Builder::new().prefix("twostage-image-").tempdir().or_fail(Class::System, fail)?;
                let path = folder.path().to_path_buf();
                let mut manifest = None;
                let (made, manifest) = Context::blocking(move || {
                    let made = make(&mut |new| {
                        let written = new.write_layout(&path)?;
                        manifest = written.manifest;
                        Ok(written)
                    })?;
                    Ok((made, manifest))
                })
                .await?;
                let manifest = manifest.ok_or_else(|| Error::new(Class::System, "there is no image to push"))?;
                push_layout(&name, folder.path(), &manifest).await?;
                Ok(made)
            }
            Sink::Engine { engine, name, with_kept } => engine.write(name, with_kept, make).await,
        }
    }
}

/// `name:latest` where no tag is given.
pub fn whole_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_string() } else { format!("{name}:latest") }
}

async fn pull(name: &str) -> Result<TempDir> {
    Ok(Remote::open(name, RegistryOperation::Pull).await?.pull().await?.layout)
}

/// Pushes one image of a layout, byte for byte.
///
/// # Errors
/// The registry does not take it.
pub async fn push_layout(name: &str, layout: &Path, manifest: &Sha256) -> Result<()> {
    Remote::open(name, RegistryOperation::Push).await?.push(layout, manifest).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skopeos_transports_are_understood() {
        let place = |text: &str| text.parse::<Place>().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(place("app:1"), Place::Engine(None, "app:1".into()));
        assert_eq!(place("localhost:5000/app"), Place::Engine(None, "localhost:5000/app".into()));
        assert_eq!(place("docker-daemon:app:1"), Place::Engine(Some(EngineKind::Docker), "app:1".into()));
        assert_eq!(place("containers-storage:app"), Place::Engine(Some(EngineKind::Podman), "app".into()));
        assert_eq!(place("docker-archive:a.tar"), Place::Archive("a.tar".into(), None));
        assert_eq!(place("docker-archive:a.tar:app:1"), Place::Archive("a.tar".into(), Some("app:1".into())));
        assert_eq!(place("oci-archive:/x/a.tar:1"), Place::Archive("/x/a.tar".into(), Some("1".into())));
        assert_eq!(place("oci:./layout:1"), Place::Layout("./layout".into(), Some("1".into())));
        assert_eq!(place("docker://localhost:5000/a/b:1"), Place::Registry("localhost:5000/a/b:1".into()));
        assert_eq!(place("docker:1"), Place::Engine(None, "docker:1".into()));
        assert_eq!(place("./a.tar"), Place::Archive("./a.tar".into(), None));
        for wrong in ["docker-archive:", "oci-archive::x", "docker-daemon:", "docker-archive:x:", "docker://", ""] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?} was taken");
        }
        assert_eq!([whole_name("a"), whole_name("h:1/a"), whole_name("a:2")], ["a:latest", "h:1/a:latest", "a:2"]);
    }
}

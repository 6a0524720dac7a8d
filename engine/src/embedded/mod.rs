//! An engine without a daemon: images in a folder of their own, containers as processes of this program.
//!
//! ```text
//! store.rs       the folder: what is where, who may change it when, what a killed run left
//! images.rs      the images in it: find, import, load, save, tag, remove; index.rs: the file that names them;
//!                pulled.rs: those of a registry; prune.rs: what they take, and what can go
//! containers.rs  run, hold, copy out, commit, remove, sweep
//! changes.rs     Dockerfile instructions that change a configuration
//! build.rs       a Dockerfile; cache.rs: steps whose layers are known, and folders that RUNs keep; times.rs: those of a layer
//! sandbox/       what runs: namespaces, overlay, and all that touches files of images
//! ```
//!
//! The same input makes the same image, so no clock is asked. All that waits for files runs in blocking threads.

mod agent;
mod build;
mod cache;
mod changes;
mod containers;
mod contents;
mod images;
mod index;
#[cfg(test)]
mod index_tests;
pub(crate) mod prune;
mod pulled;
pub mod sandbox;
mod store;
#[cfg(test)]
mod store_tests;
mod times;

pub(crate) use containers::Container;

use crate::background::Background;
use crate::dockerfile::config::{History, ImageConfig};
use crate::stream::{ByteStream, TarReader, feed, pipe, read_tar};
use crate::{Fetch, ImageInfo, Location, Saved, SavedAt, Write, blocking, debian_architecture};
use sandbox::{Limits, Sandbox};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use store::{Store, Trash, Turn};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256, Sink};

/// The store of the machine's administrator.
const OF_ROOT: &str = "/var/lib/twostage";
/// Names the store.
const VARIABLE: &str = "TWOSTAGE_STORE";

/// A store that is open. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session {
    inner: Arc<Inner>,
    /// Every container gets these.
    labels: Arc<BTreeMap<String, String>>,
    /// What reaches registries for it.
    fetch: Option<Arc<dyn Fetch>>,
    /// Memory that a container may have, and time that a command may take, where others than usual are asked for.
    memory: Option<u64>,
    time: Option<Duration>,
}

struct Inner {
    store: Store,
    sandbox: Sandbox,
    architecture: String,
    /// What of the store could not be read when it was opened.
    passed_over: Vec<String>,
    removals: Background,
    /// Ports of this machine's 127.0.0.1 that containers reach.
    doors: Mutex<BTreeSet<u16>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "embedded {}", self.inner.store.root().display())
    }
}

impl Session {
    /// Opens the store in `folder`, else where it usually is. `program` is this program, where it is another one than
    /// that which runs.
    pub(crate) async fn open(folder: Option<&Path>, program: Option<PathBuf>) -> Result<Session> {
        let root = folder.map_or_else(usual_place, |folder| Ok(folder.to_path_buf()))?;
        let (inner, trash) = blocking(move || {
            let sandbox = Sandbox::new()?;
            let sandbox = match program {
                Some(program) => sandbox.with_program(program),
                None => sandbox,
            };
            let remover = sandbox.clone();
            let store = Store::open(&root, Arc::new(move |path: &Path| remover.remove(path)))?;
            let trash = {
                let turn = store.change()?;
                let mut trash = store.sweep(&turn)?;
                trash.extend(collect(&store, &turn, &BTreeSet::new())?);
                trash
            };
            let passed_over = images::adopt(&store)?;
            let (name, variant) = platform();
            let architecture = debian_architecture(name, variant);
            Ok((Inner { store, sandbox, architecture, passed_over, removals: Background::default(), doors: Mutex::default() }, trash))
        })
        .await?;
        let session = Session { inner: Arc::new(inner), labels: Arc::default(), fetch: None, memory: None, time: None };
        session.empty_later(trash);
        Ok(session)
    }

    /// Makes one sandbox, for only then it is seen whether the machine lets that be done.
    pub(crate) async fn try_out(&self) -> Result<()> {
        self.with(|inner| inner.sandbox.init_layer(&[], &inner.store.workplace()?.path("tried"))).await
    }

    pub(crate) fn name(&self) -> &'static str {
        "embedded"
    }

    /// What this machine makes the engine do without, if anything.
    pub(crate) fn cost(&self) -> Option<&'static str> {
        self.inner.sandbox.cost()
    }

    pub(crate) fn unlimited(&self) -> Option<&'static str> {
        self.inner.sandbox.unlimited()
    }

    pub(crate) async fn network(&self) -> (String, Option<&'static str>) {
        let told = self.with(|inner| Ok((inner.sandbox.network(), inner.sandbox.network_cost()))).await;
        told.unwrap_or_else(|error| (error.to_string(), None))
    }

    /// From now on containers with a way out reach this port of the machine's 127.0.0.1, too.
    pub(crate) fn open_door(&self, port: u16) {
        self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
    }

    /// Ports of this machine's 127.0.0.1 that containers with a way out reach.
    pub(crate) fn doors(&self) -> Vec<u16> {
        self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(crate) fn ids(&self) -> String {
        self.inner.sandbox.ids()
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.inner.architecture
    }

    pub(crate) fn passed_over(&self) -> &[String] {
        &self.inner.passed_over
    }

    pub(crate) fn labelled(&self, labels: BTreeMap<String, String>) -> Session {
        Session { labels: Arc::new(labels), ..self.clone() }
    }

    pub(crate) fn limited(&self, memory: Option<u64>, time: Option<Duration>) -> Session {
        Session { memory, time, ..self.clone() }
    }

    /// What commands are run with.
    fn sandbox(&self) -> Sandbox {
        let sandbox = self.inner.sandbox.clone();
        let usual = sandbox.limits();
        sandbox.with_limits(Limits { memory: self.memory.or(usual.memory), ..usual })
    }

    pub(crate) fn fetching(&self, fetch: Arc<dyn Fetch>) -> Session {
        Session { fetch: Some(fetch), ..self.clone() }
    }

    pub(crate) fn root(&self) -> &Path {
        self.inner.store.root()
    }

    pub(crate) async fn location(&self, reference: &str) -> Result<Location> {
        let name = reference.to_string();
        self.with(move |inner| images::location(&inner.store, &inner.store.look()?, &name)).await
    }

    /// Work with the store, in a thread that may wait for files.
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }

    pub(crate) async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        let name = reference.to_string();
        self.with(move |inner| images::find(&inner.store, &inner.store.look()?, &name)?.as_ref().map(images::info).transpose()).await
    }

    pub(crate) async fn images(&self) -> Result<Vec<ImageInfo>> {
        self.with(|inner| {
            let all = images::all(&inner.store, &inner.store.look()?)?;
            let infos: Vec<ImageInfo> = all.iter().map(images::info).collect::<Result<_>>()?;
            Ok(infos.into_iter().filter(|image| !image.tags.is_empty()).collect())
        })
        .await
    }

    pub(crate) async fn remark(&self, reference: &str) -> Result<Option<String>> {
        let name = reference.to_string();
        self.with(move |inner| {
            let Some(found) = images::find(&inner.store, &inner.store.look()?, &name)? else { return Ok(None) };
            Ok(Some(images::config(&found.config_json)?.history.pop().unwrap_or_default().comment))
        })
        .await
    }

    /// The configuration without times, history, of which only the length is told, and layers.
    pub(crate) async fn config(&self, reference: &str) -> Result<Option<(ImageConfig, usize)>> {
        let name = reference.to_string();
        self.with(move |inner| {
            let Some(found) = images::find(&inner.store, &inner.store.look()?, &name)? else { return Ok(None) };
            let read = ImageConfig::from_json(&found.config_json).map_err(|error| {
                let hint = error.hint_or_class().to_string();
                Error::new(error.class(), format!("cannot start from {name}")).because(error).hint(hint)
            })?;
            let steps = read.history.len();
            Ok(Some((ImageConfig { created: None, history: Vec::new(), rootfs: Default::default(), ..read }, steps)))
        })
        .await
    }

    pub(crate) async fn pull(&self, reference: &str, sink: &Sink, subject: &str) -> Result<()> {
        // (One by its digest gets no name but that.)
        let name = match images::new_name(reference) {
            Ok(name) => Some(name),
            Err(_) if reference.contains('@') => None,
            Err(error) => return Err(error),
        };
        let what = format!("cannot pull {reference}");
        let Some(fetch) = &self.fetch else {
            let hint = format!(
                "bring it: {}. A base needs no registry: in the project file write `bootstrap = \"debian:bookworm\"` under [base] instead of `image`",
                images::copy_hint(&self.inner.store, reference)
            );
            return Err(Error::new(Class::Engine, format!("{what}: the embedded engine reaches no registry")).hint(hint));
        };
        let fetched = fetch.fetch(reference).await.map_err(|error| {
            let hint = error.hint_or_class().to_string();
            about(what.clone(), error).hint(hint)
        })?;
        sink.log(subject, &format!("{reference} is sha256:{}", fetched.digest));
        let pinned = pulled::pinned_name(reference, &fetched.digest)?;
        let names: Vec<String> = name.into_iter().chain([pinned]).collect();
        let taken = self.with(move |inner| pulled::take_in(&inner.store, fetched.layout.path(), &names));
        taken.await.map_err(|error| about(what, error))
    }

    pub(crate) async fn import(&self, tar: ByteStream, reference: &str, changes: &[String]) -> Result<String> {
        let what = format!("cannot import a root file system as {reference}");
        images::new_name(reference)?;
        let (architecture, variant) = platform();
        let config = ImageConfig {
            architecture: architecture.into(),
            variant: variant.map(String::from),
            os: "linux".into(),
            created: Some(images::EPOCH.into()),
            history: vec![History { created: Some(images::EPOCH.into()), comment: "Imported from -".into(), ..History::default() }],
            ..ImageConfig::default()
        };
        let mut config = changes::apply(&config, changes)?;
        let (store, name) = (self.inner.store.clone(), reference.to_string());
        let imported = feed(tar, move |tar| {
            images::import(&store, tar, &name, move |diff_id| {
                config.rootfs.diff_ids = vec![format!("sha256:{diff_id}")];
                config.to_json()
            })
        });
        Ok(format!("sha256:{}", imported.await.map_err(|error| about(what, error))?))
    }

    pub(crate) async fn load(&self, archive: ByteStream) -> Result<Vec<String>> {
        let store = self.inner.store.clone();
        let loaded = feed(archive, move |archive| images::load(&store, archive)).await;
        loaded.map_err(|error| about("cannot load an image archive".into(), error))
    }

    pub(crate) async fn save(&self, reference: &str) -> Result<TarReader> {
        let name = reference.to_string();
        let what = format!("cannot save image {reference}");
        let saving = self.with(move |inner| images::save(&inner.store, &name)).await.map_err(|error| about(what.clone(), error))?;
        stream(what, move |out| saving.write(out).or_fail(Class::System, || "cannot read the image".into())).await
    }

    pub(crate) async fn open_image(&self, reference: &str) -> Result<Saved> {
        let name = reference.to_string();
        let opened = self.with(move |inner| images::open(&inner.store, &name)).await;
        let store = opened.map_err(|error| about(format!("cannot open image {reference}"), error))?;
        // (Its files are open: nothing is to be removed.)
        Ok(Saved { store, place: SavedAt::new(()) })
    }

    /// Runs `make`, which makes one image and hands it to what it is given.
    pub(crate) async fn write_image<T: Send + 'static>(
        &self,
        name: Option<String>,
        make: impl FnOnce(Write<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.with(move |inner| {
            make(&mut |new| {
                new.name.clone_from(&name);
                images::write(&inner.store, new)
            })
        })
        .await
    }

    pub(crate) async fn tag(&self, image_id: &str, reference: &str) -> Result<()> {
        let (image, name) = (image_id.to_string(), reference.to_string());
        let what = format!("cannot tag {image_id} as {reference}");
        self.with(move |inner| images::tag(&inner.store, &inner.store.change()?, &image, &name)).await.map_err(|error| about(what, error))
    }

    pub(crate) async fn remove_image(&self, reference: &str) -> Result<()> {
        let name = reference.to_string();
        let removed = self.with(move |inner| prune::remove(&inner.store, &name).map(drop));
        removed.await.map_err(|error| about(format!("cannot remove image {reference}"), error))
    }

    /// Work in the background, which [`Session::settle`] waits for. What cannot be done the next command does.
    fn later(&self, work: impl FnOnce(&Inner) + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        self.inner.removals.spawn_blocking(move || work(&inner));
    }

    fn empty_later(&self, trash: Trash) {
        if !trash.is_empty() {
            self.later(move |inner| {
                // Nobody is left who could be told; the next command tries it again.
                let _ = inner.store.empty(trash);
            });
        }
    }

    pub(crate) async fn settle(&self) {
        self.inner.removals.settle().await;
    }
}

/// The layers of containers, and of steps that are known; none, if what a container uses is not known.
fn used(store: &Store) -> Option<Vec<Vec<Sha256>>> {
    let mut used = containers::used(store)?;
    used.extend(cache::kept(store));
    Some(used)
}

/// Takes out of the store what nothing needs; of the blobs, those that somebody needed `before`, and old ones.
fn collect(store: &Store, turn: &Turn, before: &BTreeSet<Sha256>) -> Result<Trash> {
    match used(store) {
        Some(used) => images::collect(store, turn, &used, before, SystemTime::now()),
        // What a container uses is not known: nothing is taken away from it.
        None => Ok(Trash::default()),
    }
}

/// Where the store of this process is, there already or not.
pub(crate) fn usual_place() -> Result<PathBuf> {
    place(rustix::process::geteuid().is_root(), |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Where the store is that nobody names.
fn place(is_root: bool, variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    if let Some(named) = variable(VARIABLE) {
        return Ok(named.into());
    }
    if is_root {
        return Ok(OF_ROOT.into());
    }
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".local/share"));
    data.or_else(home).map(|folder| folder.join("twostage")).ok_or_else(|| {
        Error::new(Class::Engine, "the embedded engine has no folder to keep images in: neither HOME nor XDG_DATA_HOME is set")
            .hint(format!("name one with --engine-host or {VARIABLE}"))
    })
}

/// This machine's architecture and variant, as images name them.
fn platform() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "arm" => ("arm", Some("v7")),
        _ => (twostage_image::architecture(), None),
    }
}

/// An error within a larger one, whose hint it keeps.
fn about(what: String, cause: Error) -> Error {
    Error::new(cause.class(), what).because(cause)
}

/// A tar as it is written, by a thread that waits for files. What fails before the first byte is an error here; what
/// fails later is one of the reader.
async fn stream(what: String, write: impl FnOnce(&mut dyn std::io::Write) -> Result<()> + Send + 'static) -> Result<TarReader> {
    let (mut writer, stream) = pipe();
    let writing = tokio::task::spawn_blocking(move || match write(&mut writer) {
        Ok(()) => writer.finish().or_fail(Class::System, || "nobody reads it".into()),
        Err(error) => {
            let told: Vec<String> = std::iter::once(error.to_string()).chain(error.causes()).collect();
            writer.fail(std::io::Error::other(told.join(": ")));
            Err(error)
        }
    });
    match (read_tar(stream).await, what) {
        (Ok(reader), _) => Ok(reader),
        (Err(cause), what) => Err(match writing.await {
            Ok(Err(error)) => about(what, error),
            _ => Error::new(Class::System, what).because(cause),
        }),
    }
}

/// The digest in an id, `sha256:…`.
fn shown(id: &Sha256) -> String {
    format!("sha256:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_where_it_is_named_or_where_its_user_keeps_data() {
        let at = |root, variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            place(root, variable).map(|path| path.display().to_string()).ok()
        };
        assert_eq!(at(true, &[("HOME", "/root")]).as_deref(), Some("/var/lib/twostage"));
        assert_eq!(at(false, &[("HOME", "/home/a")]).as_deref(), Some("/home/a/.local/share/twostage"));
        assert_eq!(at(false, &[("HOME", "/home/a"), ("XDG_DATA_HOME", "/d")]).as_deref(), Some("/d/twostage"));
        assert_eq!(at(true, &[("TWOSTAGE_STORE", "/s")]).as_deref(), Some("/s"));
        assert_eq!(at(false, &[]), None);
    }
}

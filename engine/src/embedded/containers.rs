//! Containers: run, hold, copy out, commit, remove, sweep.
//!
//! A container is a folder of the store, locked by whoever made it for as long as it is theirs. Nothing runs in it but
//! while [`Session::run`] or [`Container::exec`] waits.

use super::agent::Forward;
use super::sandbox::{Ended, Inward, Job, Mount, Root, Upper};
use super::store::{self, Place, Store};
use super::{Inner, Session, about, blocking, cache, changes, collect, images, shown, stream, times};
use crate::dockerfile::config::{DEFAULT_PATH, History, ImageConfig};
use crate::execute::layered::Times;
use crate::lines::{BothLines, Piece};
use crate::stream::{ByteStream, TarReader, feed, from_start};
use crate::until::{TERMINATE, asked};
use crate::{Attach, Attached, Exec, Found, Hold, Network, Refusal, Run, ServerTrial, Told, Tried};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, HashWrite, Result, Sha256};

/// What a container's machine is called, where nobody says: always the same, for some programs write it down.
const HOSTNAME: &str = "twostage";
/// How often a run looks whether somebody wants its container removed.
const ASK: Duration = Duration::from_millis(100);
/// How long a run may take to end when its container is to be removed.
const LAST_MOMENT: Duration = Duration::from_secs(30);

/// What others must know of a container.
#[derive(Serialize, Deserialize)]
struct Record {
    /// None for layers of which there is no image.
    image: Option<Sha256>,
    /// What it stands on, lowest first.
    layers: Vec<Sha256>,
    labels: BTreeMap<String, String>,
}

/// A container, which is removed in the background when this is dropped.
pub(crate) struct Container {
    pub id: String,
    pub exit_code: i64,
    session: Session,
    path: PathBuf,
    place: Option<Place>,
    /// What it stands on: those of its image, and what was committed of it.
    layers: Mutex<Vec<Sha256>>,
    /// The image's, but for what it runs; and what was run here, and how. A commit keeps that.
    config: Box<ImageConfig>,
    hostname: String,
    network: Network,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

/// The layers of each container; none if that of one is not known.
pub(super) fn used(store: &Store) -> Option<Vec<Vec<Sha256>>> {
    let paths = store::entries(&store.containers());
    paths.iter().filter(|path| path.exists()).map(|path| read_record(path).map(|record| record.layers)).collect()
}

fn layers_of(path: &Path) -> BTreeSet<Sha256> {
    read_record(path).map(|record| record.layers.into_iter().collect()).unwrap_or_default()
}

fn read_record(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path.join("record.json")).ok()?).ok()
}

fn write_record(path: &Path, record: &Record) -> Result<()> {
    let json = serde_json::to_vec(record).or_fail(Class::System, || "cannot write JSON".into())?;
    store::write(&path.join("record.json"), &json)
}

impl Session {
    pub(crate) async fn run(&self, mut run: Run<'_>, on_piece: &mut (dyn FnMut(Piece<'_>) + Send)) -> Result<Container> {
        let mut container = self.prepare(&mut run).await?;
        let (user, workdir) = (container.config.config.user.clone(), container.config.config.working_dir.clone());
        let exec = Exec {
            cmd: run.cmd,
            env: &[],
            user: &user,
            workdir: &workdir,
            ports: run.ports,
            mounts: run.mounts,
            attached: run.attached,
            ..Exec::default()
        };
        let running = container.command(exec, None, on_piece);
        let ended = match run.timeout {
            None => running.await,
            // Whoever waits no longer ends it.
            Some(limit) => tokio::time::timeout(limit, running).await.unwrap_or_else(|_| {
                let program = run.cmd.first().map_or("", String::as_str);
                Err(Error::new(Class::Build, format!("{program} did not end within {limit:?} and was killed"))
                    .hint("see its last lines for what it waited for"))
            }),
        };
        container.exit_code = started(&run, ended?)?;
        Ok(container)
    }

    /// Runs a server until it answers, and ends it.
    pub(crate) async fn try_server(
        &self,
        mut run: Run<'_>,
        until: ServerTrial<'_>,
        on_piece: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<Tried> {
        let container = self.prepare(&mut run).await?;
        let (user, workdir) = (container.config.config.user.clone(), container.config.config.working_dir.clone());
        let (attached, tell) = Attached::new(None, None);
        let exec = Exec { cmd: run.cmd, user: &user, workdir: &workdir, attached: Some(&attached), ..Exec::default() };
        let (inward, request) = (Inward::default(), until.request());
        let running = async { started(&run, container.command(exec, Some(&inward), on_piece).await?) };
        let ask = || async { asked(inward.connect(until.port).await, request.as_deref()).await };
        let end = async {
            // One that has ended hears nothing.
            let _ = tell.send(Told::Signal(TERMINATE));
        };
        let tried = until.watch(running, ask, end).await;
        container.remove().await?;
        tried
    }

    /// A container that is ready for a run's command.
    async fn prepare(&self, run: &mut Run<'_>) -> Result<Container> {
        if run.cmd.is_empty() {
            return Err(Error::new(Class::Engine, format!("cannot run a container of {}: no command is given", run.image)));
        }
        let mut container = self.make(run.image, run.labels, run.hostname, run.network).await?;
        if let Some(input) = run.input.take() {
            let what = format!("cannot copy files into a container of {}", run.image);
            let input = from_start(input).or_fail(Class::System, || what.clone())?;
            let put = container.with_root(move |inner, root| inner.sandbox.put(root, input, true)).await;
            put.map_err(|error| about(what, error))?;
        }
        let config = &mut container.config.config;
        run.env.iter().for_each(|(name, value)| config.set_env(name, value));
        config.cmd = run.cmd.to_vec();
        config.user = run.user.map_or(std::mem::take(&mut config.user), str::to_string);
        config.working_dir = run.workdir.map_or(std::mem::take(&mut config.working_dir), str::to_string);
        Ok(container)
    }

    /// A container in which nothing runs.
    pub(crate) async fn create(&self, image: &str) -> Result<Container> {
        self.make(image, &BTreeMap::new(), None, Network::None).await
    }

    pub(crate) async fn hold(&self, hold: Hold<'_>) -> Result<Container> {
        self.make(hold.image, &BTreeMap::new(), hold.hostname, hold.network).await
    }

    async fn make(&self, image: &str, labels: &BTreeMap<String, String>, hostname: Option<&str>, network: Network) -> Result<Container> {
        let mut all = (*self.labels).clone();
        all.extend(labels.clone());
        let (session, name, hostname) = (self.clone(), image.to_string(), hostname.unwrap_or(HOSTNAME).to_string());
        let making = blocking(move || {
            let store = &session.inner.store;
            let turn = store.change()?;
            let image = images::get(store, &turn, &name)?;
            let mut config = images::config(&image.config_json)?;
            config.config.cmd.clear();
            config.config.entrypoint.clear();
            let record = Record { image: Some(image.id), layers: image.diff_ids, labels: all };
            session.stand(turn, record, config, hostname, network)
        });
        making.await.map_err(|error| about(format!("cannot make a container of {image}"), error))
    }

    /// A container over layers that may be no image's.
    pub(super) async fn over(&self, layers: &[Sha256], hostname: &str, network: Network) -> Result<Container> {
        let (session, hostname) = (self.clone(), hostname.to_string());
        let record = Record { image: None, layers: layers.to_vec(), labels: (*self.labels).clone() };
        let making = blocking(move || {
            let turn = session.inner.store.change()?;
            session.stand(turn, record, ImageConfig::default(), hostname, network)
        });
        making.await.map_err(|error| about("cannot make a container over layers".into(), error))
    }

    fn stand(&self, turn: store::Turn, record: Record, config: ImageConfig, hostname: String, network: Network) -> Result<Container> {
        let id = store::unique();
        let place = self.inner.store.place(&turn, "containers", &id)?;
        let layers = record.layers.clone();
        let container = Container {
            id,
            exit_code: 0,
            path: place.path.clone(),
            place: Some(place),
            config: Box::new(config),
            layers: Mutex::new(layers.clone()),
            hostname,
            network,
            session: self.clone(),
        };
        write_record(&container.path, &record)?;
        drop(turn);
        let fail = || format!("cannot write in {}", container.path.display());
        File::create(container.path.join("running")).or_fail(Class::System, fail)?;
        let lowers = unpack(&self.inner, &layers)?;
        own_files(&container.path, lowers.last().map(PathBuf::as_path))?;
        Ok(container)
    }

    /// Removes every container with that label, whoever has it.
    pub(crate) async fn sweep(&self, label: &str) -> Result<usize> {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        let (key, value) = (key.to_string(), value.to_string());
        self.with(move |inner| {
            let store = &inner.store;
            let labelled =
                |path: &PathBuf| read_record(path).is_some_and(|record| record.labels.get(&key).is_some_and(|found| *found == value));
            let mut count = 0;
            for path in store::entries(&store.containers()).into_iter().filter(labelled) {
                // (Whoever had it may remove it first.)
                count += 1;
                stop(&path);
                let trash = {
                    let turn = store.change()?;
                    let had = layers_of(&path);
                    let mut trash = store.discard(&turn, &path, None)?;
                    trash.extend(collect(store, &turn, &had)?);
                    trash
                };
                store.empty(trash)?;
            }
            Ok(count)
        })
        .await
    }
}

/// The exit status of a run's command, if it was started.
fn started(run: &Run<'_>, ended: Ended) -> Result<i64> {
    let Some((why, hint)) = ended.refusal else { return Ok(ended.code) };
    let refusal = Refusal { why, status: u8::try_from(ended.code).unwrap_or(u8::MAX) };
    let program = run.cmd.first().map_or("", String::as_str);
    Err(Error::new(Class::Engine, format!("cannot start {program} in a container of {}", run.image)).because(refusal).hint(hint))
}

/// Asks whoever runs something in a container to end it, and waits for that.
fn stop(path: &Path) {
    // What cannot be asked for, or never happens, is not waited for without end.
    let _ = File::create(path.join("stop"));
    let Ok(running) = File::open(path.join("running")) else { return };
    let end = Instant::now() + LAST_MOMENT;
    while Instant::now() < end && flock(&running, FlockOperation::NonBlockingLockExclusive).is_err() {
        std::thread::sleep(ASK);
    }
}

/// The layers' trees, lowest first; those that are not there are unpacked.
fn unpack(inner: &Inner, layers: &[Sha256]) -> Result<Vec<PathBuf>> {
    let mut trees: Vec<PathBuf> = Vec::new();
    for diff_id in layers {
        let below = trees.last().cloned();
        let tree = unpack_one(inner, diff_id, below.as_deref())?;
        // An overlay takes no layer twice. What is in the lower one is hidden by the same in the higher one.
        trees.retain(|other| *other != tree);
        trees.push(tree);
    }
    Ok(trees)
}

fn unpack_one(inner: &Inner, diff_id: &Sha256, below: Option<&Path>) -> Result<PathBuf> {
    let store = &inner.store;
    let (target, blob) = (store.layer(diff_id), store.blob(diff_id));
    let tree = target.join("tree");
    if target.exists() {
        return Ok(tree);
    }
    let fail = || format!("cannot unpack the layer {}", diff_id.short());
    // One does it, the others wait.
    let file = File::open(&blob).or_fail(Class::System, fail)?;
    flock(&file, FlockOperation::LockExclusive).or_fail(Class::System, fail)?;
    if target.exists() {
        return Ok(tree);
    }
    let place = store.workplace()?;
    let made = place.path("layer");
    DirBuilder::new().mode(0o700).create(&made).or_fail(Class::System, fail)?;
    root_folder(&made.join("tree"), below)?;
    inner.sandbox.unpack(io::BufReader::with_capacity(256 << 10, &file), &made.join("tree")).map_err(|error| about(fail(), error))?;
    store::sync_disk(&made)?;
    store.keep(&store.change()?, &made, &target)?;
    Ok(tree)
}

/// What a container finds above its layers.
fn init(inner: &Inner, layers: &[Sha256], lowers: &[PathBuf]) -> Result<PathBuf> {
    let store = &inner.store;
    let target = store.init(&images::chain(layers));
    if !target.exists() {
        let place = store.workplace()?;
        let made = place.path("init");
        DirBuilder::new().mode(0o700).create(&made).or_fail(Class::System, || format!("cannot make {}", made.display()))?;
        root_folder(&made.join("tree"), lowers.last().map(PathBuf::as_path))?;
        inner.sandbox.init_layer(lowers, &made.join("tree"))?;
        store::sync_disk(&made)?;
        store.keep(&store.change()?, &made, &target)?;
    }
    Ok(target.join("tree"))
}

/// The root of a layer: the highest one's mode is what everybody sees.
fn root_folder(path: &Path, below: Option<&Path>) -> Result<()> {
    let fail = || format!("cannot make {}", path.display());
    let mode = match below {
        Some(below) => fs::metadata(below).or_fail(Class::System, fail)?.permissions().mode() & 0o7777,
        None => 0o755,
    };
    fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode))).or_fail(Class::System, fail)
}

/// Room for a container's own files.
fn own_files(path: &Path, below: Option<&Path>) -> Result<()> {
    let fail = || format!("cannot write in {}", path.display());
    for folder in ["top", "work"] {
        DirBuilder::new().mode(0o700).create(path.join(folder)).or_fail(Class::System, fail)?;
    }
    root_folder(&path.join("top/tree"), below)
}

impl Container {
    fn layers(&self) -> Vec<Sha256> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Work with what the container's files are made of, in a thread that may wait for files.
    async fn with_root<T: Send + 'static>(&self, work: impl FnOnce(&Inner, &Root) -> Result<T> + Send + 'static) -> Result<T> {
        let (path, layers) = (self.path.clone(), self.layers());
        self.session.with(move |inner| work(inner, &root(inner, &path, &layers)?)).await
    }

    pub(crate) async fn copy_out(&self, path: &str) -> Result<TarReader> {
        let what = format!("cannot copy {path} out of the container");
        let (inner, own, layers, path) = (self.session.inner.clone(), self.path.clone(), self.layers(), path.to_string());
        stream(what, move |out| {
            // (What a container finds above its layers is none of its files.)
            let root = Root { init: None, ..root(&inner, &own, &layers)? };
            let mut tar = inner.sandbox.copy_out(&root, &path)?;
            io::copy(&mut tar, out).map(drop).or_fail(Class::Engine, || format!("cannot read {path}"))
        })
        .await
    }

    pub(crate) async fn find(&self, path: &str) -> Result<Option<Found>> {
        let what = format!("cannot look for {path} in the container");
        let path = path.to_string();
        self.with_root(move |inner, root| inner.sandbox.find(root, &path)).await.map_err(|error| about(what, error))
    }

    pub(crate) async fn put(&self, tar: ByteStream, replace: bool) -> Result<()> {
        let (inner, path, layers) = (self.session.inner.clone(), self.path.clone(), self.layers());
        let put = feed(tar, move |tar| inner.sandbox.put(&root(&inner, &path, &layers)?, tar, replace)).await;
        put.map_err(|error| about("cannot put files into the container".into(), error))
    }

    pub(crate) async fn exec(&self, exec: Exec<'_>, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<i64> {
        let mut lines = BothLines::new(on_line);
        let ended = self.command(exec, None, &mut |piece| lines.push(piece)).await;
        if let Ok(Ended { refusal: Some((why, _)), .. }) = &ended {
            lines.push(Piece::Err(why.as_bytes()));
        }
        lines.finish();
        ended.map(|ended| ended.code)
    }

    /// What is to be mounted, and what is held until nobody uses it any more.
    async fn mounts(&self, attached: &[Attach<'_>]) -> Result<(Vec<Mount>, (Vec<File>, Vec<Forward>))> {
        let (mut mounts, mut held, mut agents) = (Vec::new(), Vec::new(), Vec::new());
        for attach in attached {
            mounts.push(match *attach {
                Attach::Files { of, path, target, read_only } => {
                    let Some(of) = of.embedded() else {
                        return Err(Error::new(Class::Engine, format!("cannot mount {target}: its files are in another engine")));
                    };
                    let root = of.with_root(|_, root| Ok(root.clone())).await?;
                    // What a container finds above its layers is none of theirs.
                    let init = if root.lowers.is_empty() { root.init.clone() } else { None };
                    Mount::Tree { source: Root { init, ..root }, path: path.into(), target: target.into(), read_only }
                }
                Attach::Machine { source, target, read_only } => Mount::Bind { source: source.into(), target: target.into(), read_only },
                Attach::Cache { id, sharing, target, read_only, owner } => {
                    let id = id.to_string();
                    let (source, lock) = self.session.with(move |inner| cache::folder(inner, &id, sharing, owner)).await?;
                    held.push(lock);
                    Mount::Bind { source, target: target.into(), read_only }
                }
                Attach::Agent { agent, target, owner } => {
                    let forward = Forward::new(agent).await?;
                    let source = forward.path();
                    agents.push(forward);
                    Mount::Socket { source, target: target.into(), mode: owner.mode, uid: owner.uid, gid: owner.gid }
                }
                Attach::Tmpfs { target, size } => Mount::Tmpfs { target: target.into(), size },
                Attach::Secret { bytes, target, owner } => {
                    Mount::Secret { bytes: bytes.to_vec(), target: target.into(), mode: owner.mode, uid: owner.uid, gid: owner.gid }
                }
            });
        }
        Ok((mounts, (held, agents)))
    }

    /// Runs a command to its end, and ends whatever it left running.
    async fn command(&self, exec: Exec<'_>, inward: Option<&Inward>, on_piece: &mut (dyn FnMut(Piece<'_>) + Send)) -> Result<Ended> {
        let Some(program) = exec.cmd.first() else {
            return Err(Error::new(Class::Engine, "cannot run a command: there is none"));
        };
        let what = || format!("cannot run {program} in the container");
        let running = File::open(self.path.join("running")).or_fail(Class::System, what)?;
        flock(&running, FlockOperation::NonBlockingLockExclusive).or_fail(Class::System, what)?;
        let root = self.with_root(|_, root| Ok(root.clone())).await?;
        let mut run = self.config.config.clone();
        exec.env.iter().for_each(|(name, value)| run.set_env(name, value));
        for (name, value) in [("PATH", DEFAULT_PATH), ("HOSTNAME", &self.hostname)] {
            if !run.env.iter().any(|entry| entry.split_once('=').is_some_and(|(set, _)| set == name)) {
                run.env.push(format!("{name}={value}"));
            }
        }
        let env: Vec<(String, String)> =
            run.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, ""))).map(|(n, v)| (n.into(), v.into())).collect();
        let (mounts, _held) = self.mounts(exec.mounts).await.map_err(|error| about(what(), error))?;
        let job = Job {
            root: &root,
            cmd: exec.cmd,
            env: &env,
            user: exec.user,
            workdir: exec.workdir,
            hostname: Some(&self.hostname),
            network: exec.network.unwrap_or(self.network),
            doors: &self.session.doors(),
            ports: exec.ports,
            inward,
            attached: exec.attached,
            script: exec.script,
            mounts: &mounts,
            timeout: self.session.time,
        };
        let sandbox = self.session.sandbox();
        let stop = self.path.join("stop");
        let stopped = async {
            while !stop.exists() && self.path.exists() {
                tokio::time::sleep(ASK).await;
            }
        };
        tokio::select! {
            ended = sandbox.run_raw(job, on_piece) => ended.map_err(|error| match error.class() {
                Class::Build => error,
                _ => about(what(), error),
            }),
            () = stopped => Err(Error::new(Class::Engine, format!("the container of {program} was removed before it had ended"))
                .hint("leave the engine's containers alone while this runs, and try again")),
        }
    }

    /// Makes an image of the container's files: they become a layer, and the container goes on above it.
    pub(crate) async fn commit(&self, reference: &str, changes: &[String]) -> Result<String> {
        let name = images::new_name(reference)?;
        let what = format!("cannot commit the container as {reference}");
        let created_by = self.config.config.cmd.join(" ");
        let mut config = changes::apply(&self.config, changes)?;
        config.created = Some(images::EPOCH.into());
        config.history.push(History { created: config.created.clone(), created_by, ..History::default() });
        self.freeze(None).await.map_err(|error| about(what.clone(), error))?;
        let layers = self.layers();
        config.rootfs.diff_ids = layers.iter().map(shown).collect();
        let put = self.session.with(move |inner| images::put_known(&inner.store, &inner.store.change()?, &config, &layers, &[name]));
        Ok(shown(&put.await.map_err(|error| about(what, error))?))
    }

    /// Makes what has changed a layer, perhaps an empty one; the container goes on above it. `times` are what the tar
    /// has instead of others.
    pub(super) async fn freeze(&self, times: Option<Times>) -> Result<Sha256> {
        let (path, layers) = (self.path.clone(), self.layers());
        let frozen = self.with_root(move |inner, root| {
            let store = &inner.store;
            let place = store.workplace()?;
            let file = place.path("layer");
            let packing = tracing::debug_span!("pack").entered();
            let diff_id = pack(inner, root, times, &file)?;
            drop(packing);
            store::sync_disk(&path)?;
            let record = read_record(&path).ok_or_else(|| Error::new(Class::Engine, "the container was removed meanwhile"))?;
            let layers: Vec<Sha256> = layers.into_iter().chain([diff_id]).collect();
            let turn = store.change()?;
            // The record first: what it names is not taken away.
            write_record(&path, &Record { layers: layers.clone(), ..record })?;
            store.keep(&turn, &file, &store.blob(&diff_id))?;
            let top = store.layer(&diff_id);
            // (Other times are only in the tar.)
            if times.is_none() {
                store.keep(&turn, &path.join("top"), &top)?;
            }
            let mut trash = store.discard(&turn, &path.join("work"), None)?;
            // If there was such a layer already.
            trash.extend(store.discard(&turn, &path.join("top"), None)?);
            drop(turn);
            store.empty(trash)?;
            let lowers = unpack(inner, &layers)?;
            own_files(&path, lowers.last().map(PathBuf::as_path))?;
            Ok((diff_id, layers))
        });
        let (diff_id, layers) = frozen.await?;
        *self.layers.lock().unwrap_or_else(PoisonError::into_inner) = layers;
        Ok(diff_id)
    }

    pub(crate) async fn remove(mut self) -> Result<()> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let what = format!("cannot remove container {}", self.id);
        self.session.with(move |inner| remove(inner, place)).await.map_err(|error| about(what, error))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.session.later(move |inner| {
                // Nobody is left who could be told; the next command tries it again.
                let _ = remove(inner, place);
            });
        }
    }
}

fn remove(inner: &Inner, place: Place) -> Result<()> {
    let trash = {
        let turn = inner.store.change()?;
        let path = place.path.clone();
        let had = layers_of(&path);
        let mut trash = inner.store.discard(&turn, &path, Some(place.into_lock()))?;
        trash.extend(collect(&inner.store, &turn, &had)?);
        trash
    };
    inner.store.empty(trash)
}

/// Writes what has changed as the tar of a layer; gives its digest.
fn pack(inner: &Inner, root: &Root, times: Option<Times>, file: &Path) -> Result<Sha256> {
    let watch = inner.store.watch();
    let mut packed = inner.sandbox.pack(root)?;
    let mut hashing = HashWrite::new(images::new_file(file, &watch)?);
    let written = match times {
        Some(times) => times::rewritten(&mut packed, &mut hashing, times, &root.lowers),
        None => io::copy(&mut packed, &mut hashing).map(drop).or_fail(Class::System, || "cannot pack the container's files".into()),
    };
    let (out, diff_id, _) = hashing.finish();
    // What the sandbox says of the files says more than that their tar has no end.
    let written = written.map_err(|error| packed.failure().unwrap_or(error)).and_then(|()| images::finish(out, file));
    // Nothing runs any more, but a command is to blame for what there is.
    watch.explain(written, Class::Build, "what its commands left fills the disk", "see what they leave, holes of files count, too; or ")?;
    Ok(diff_id)
}

fn root(inner: &Inner, path: &Path, layers: &[Sha256]) -> Result<Root> {
    let lowers = unpack(inner, layers)?;
    let init = Some(init(inner, layers, &lowers)?);
    Ok(Root { lowers, init, upper: Some(Upper { dir: path.join("top/tree"), work: path.join("work") }) })
}

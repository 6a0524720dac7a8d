//! What every command of a project works with: the project, its lock, its repository, and, where
//! containers are needed, the engine with the repository's server beside it.

use crate::cli::EngineArgs;
use crate::output::Output;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::sync::OnceCell;
use twostage_builder::record::Records;
use twostage_builder::{Context, PackageSink, Reaching, Stored, graph, tools};
use twostage_engine::{Engine, Probe, Reach, reach};
use twostage_model::error::OrFail as _;
use twostage_model::names::FIXED_HOST;
use twostage_model::project::{Base, Expect, Release};
use twostage_model::{Class, Error, Format, Lock, Project, Result, Sha256, Sink, SnapshotId};
use twostage_package::control::Control;
use twostage_package::rpm;
use twostage_reposerver::{PoolPackage, Repository, Settings, repo_file, sources_file};

/// The name of a project file.
pub const PROJECT_FILE: &str = "twostage.toml";
/// The name of a lock, beside the project file.
pub const LOCK_FILE: &str = "twostage.lock";

/// A project that is being worked on.
pub struct Session {
    pub project: Project,
    /// The folder of the project file.
    pub folder: PathBuf,
    /// `.twostage/` in it.
    pub state: PathBuf,
    pub repository: Arc<Repository>,
    pub now: i64,
    output: Output,
    /// Held while this process may change the state.
    _exclusive: Option<File>,
}

impl Session {
    /// Opens a project to change its state: one process at a time.
    pub fn open(path: &Path, output: &Output) -> Result<Session> {
        Session::new(path, output, true)
    }

    /// Opens a project to look at it or serve it.
    pub fn open_shared(path: &Path, output: &Output) -> Result<Session> {
        Session::new(path, output, false)
    }

    fn new(path: &Path, output: &Output, exclusive: bool) -> Result<Session> {
        let (project, folder) = project_of(path)?;
        check_paths(&project, &folder)?;
        let state = folder.join(".twostage");
        fs::create_dir_all(&state).or_fail(Class::System, || format!("cannot make {}", state.display()))?;
        let lock = exclusive.then(|| take_turn(&state, output)).transpose()?;
        if exclusive {
            sweep(&folder, &state)?;
            twostage_builder::base::sweep(&folder);
        }
        let mut settings = Settings::new(project.name.clone());
        settings.key = project.repository.key.as_ref().map(|key| folder.join(key));
        settings.keep = project.repository.keep;
        settings.yum_compression = project.repository.yum_compression;
        if !project.architectures.is_empty() {
            settings.architectures.clone_from(&project.architectures);
        }
        let repository = Arc::new(Repository::open(&folder.join(&project.repository.path), settings)?);
        if exclusive {
            twostage_builder::record::sweep(&repository.root().join("builds"))?;
            twostage_reposerver::sign::sweep(&repository.key_path())?;
        }
        Ok(Session { project, folder, state, repository, now: twostage_model::date::now(), output: output.clone(), _exclusive: lock })
    }

    /// Reads the lock; an empty one if there is none yet.
    pub fn read_lock(&self) -> Result<Lock> {
        read_lock(&self.folder)
    }

    /// Writes the lock if it differs from the file. Says so.
    pub fn write_lock(&self, lock: &Lock) -> Result<()> {
        let path = self.folder.join(LOCK_FILE);
        let text = lock.to_string();
        if fs::read_to_string(&path).is_ok_and(|before| before == text) {
            return Ok(());
        }
        write_atomically(&path, text.as_bytes())?;
        self.output.sink().note("lock", format!("wrote {LOCK_FILE}; commit it"));
        Ok(())
    }

    /// Connects to the engine and starts the repository's server beside it, on loopback.
    pub async fn context(&self, engine: &EngineArgs, may_lock: bool) -> Result<Arc<Context>> {
        let label = ("twostage.project".to_string(), self.id()?);
        let engine = engine.connect().await?.labelled(BTreeMap::from([label.clone()]));
        tell_cost(&engine, &self.output.sink());
        let (here, wanted) = (self.project.format.architecture(engine.architecture()), &self.project.architectures);
        if !wanted.is_empty() && !wanted.iter().any(|arch| arch == here) {
            return Err(Error::new(Class::Project, format!("the engine runs {here}, the project is for {}", wanted.join(", ")))
                .hint(format!("add \"{here}\" to `architectures`, or name an engine of another kind with --engine-host")));
        }
        // Nobody else can be running: this process holds the project's turn.
        sweep_containers(&engine, &label, &self.output.sink()).await?;
        let reach =
            LocalServer { engine: engine.clone(), repository: self.repository.clone(), server: OnceCell::new(), reach: OnceCell::new() };
        Ok(Arc::new(Context {
            engine,
            packages: Arc::new(Publisher { repository: self.repository.clone(), format: self.project.format, now: self.now }),
            reach: Arc::new(reach),
            events: self.output.sink(),
            project: self.project.clone(),
            folder: self.folder.clone(),
            state: self.state.clone(),
            records: self.repository.root().join("builds"),
            lock: Mutex::new(self.read_lock()?),
            may_lock,
            now: self.now,
        }))
    }

    /// What tells this project's containers from those of others on the same engine. Kept in its
    /// state, because the same path may be another folder for another user of the engine.
    pub fn id(&self) -> Result<String> {
        let path = self.state.join("id");
        if let Ok(id) = fs::read_to_string(&path)
            && id.trim().len() == 12
        {
            return Ok(id.trim().to_string());
        }
        let here = format!("{} {} {}", self.folder.display(), std::process::id(), self.now);
        let id = Sha256::of(here.as_bytes()).short();
        write_atomically(&path, format!("{id}\n").as_bytes())?;
        Ok(id)
    }

    /// The packages of every component as they were last built; components that never were are
    /// missing.
    pub fn built(&self, context: &Context) -> Result<BTreeMap<String, twostage_builder::component::Built>> {
        let mut built = BTreeMap::new();
        for component in &self.project.components {
            let name = &component.name.value;
            if let Some(record) = Records::of(&context.records, name).current()
                && let Some(earlier) = twostage_builder::component::stored(context, &record)?
            {
                built.insert(name.clone(), earlier);
            }
        }
        Ok(built)
    }

    /// Every base that the project names, once.
    pub fn bases(&self) -> Vec<Base> {
        let mut bases = vec![self.project.base.value.clone()];
        for base in self.project.images.values().filter_map(|image| image.base.as_ref()) {
            if !bases.contains(&base.value) {
                bases.push(base.value.clone());
            }
        }
        bases
    }

    /// The project's components, each after those that it needs.
    pub fn in_order(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        while order.len() < self.project.components.len() {
            let before = order.len();
            for component in &self.project.components {
                let name = &component.name.value;
                if !order.contains(name) && component.needs.iter().all(|need| order.contains(&need.value)) {
                    order.push(name.clone());
                }
            }
            if order.len() == before {
                break; // The project file has no cycle, so this is never reached.
            }
        }
        order
    }

    /// What a component's build may use of the project's own packages.
    pub fn packages_needed(&self, name: &str, built: &BTreeMap<String, twostage_builder::component::Built>) -> Vec<Stored> {
        graph::packages_needed(&self.project, name, built)
    }
}

/// The project file and its folder, from what `--project` says.
pub fn locate(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let file = if path.is_dir() { path.join(PROJECT_FILE) } else { path.to_path_buf() };
    if !file.is_file() {
        return Err(Error::new(Class::Project, format!("there is no project file {}", file.display()))
            .hint("`twostage init` writes one; `--project DIR` names another folder"));
    }
    let file = file.canonicalize().or_fail(Class::Project, || format!("cannot find {}", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok((file, folder))
}

/// Whether there is a project where `--project` says.
pub fn is_project(path: &Path) -> bool {
    locate(path).is_ok()
}

/// The project file that `--project` says, as it is written, and its folder: for who only wants to know its names.
pub fn project_of(path: &Path) -> Result<(Project, PathBuf)> {
    let (file, folder) = locate(path)?;
    let text = fs::read_to_string(&file).or_fail(Class::Project, || format!("cannot read {}", file.display()))?;
    let project = Project::parse(&text, &file.file_name().unwrap_or_default().to_string_lossy(), &|| release(&folder))?;
    Ok((project, folder))
}

fn read_lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(LOCK_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Lock::parse(&text, LOCK_FILE),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Lock::default()),
        Err(cause) => Err(Error::new(Class::Project, format!("cannot read {}", path.display())).because(cause)),
    }
}

/// What `bootstrap = "host"` means: the release that is locked, so that a project stays what it is on a
/// machine of another one; before there is a lock, this machine's.
fn release(folder: &Path) -> Result<Release> {
    let lock = read_lock(folder)?;
    match lock.bases.iter().find_map(|(name, base)| name.strip_prefix("bootstrap ").filter(|_| base.of_host)) {
        Some(locked) => locked.parse(),
        None => twostage_builder::base::host_release(),
    }
}

fn check_paths(project: &Project, folder: &Path) -> Result<()> {
    for (path, expect) in project.paths() {
        let full = folder.join(&path.value);
        let (there, what) = match expect {
            Expect::Folder => (full.is_dir(), "folder"),
            Expect::File => (full.is_file(), "file"),
        };
        if !there {
            let siblings: Vec<String> = full
                .parent()
                .and_then(|parent| fs::read_dir(parent).ok())
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hint = twostage_model::project::near_miss(&name, siblings.iter().map(String::as_str))
                .filter(|_| !full.exists())
                .unwrap_or_else(|| format!("make the {what}, or correct the path in this line"));
            return Err(project.error_at(path.line, format!("there is no {what} `{}`", path.value)).hint(hint));
        }
    }
    Ok(())
}

/// Waits until no other process works on this project.
fn take_turn(state: &Path, output: &Output) -> Result<File> {
    let path = state.join("turn");
    let failed = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).or_fail(Class::System, failed)?;
    lock(&file, &path, || output.sink().note("project", "another twostage works on it; waiting"))?;
    Ok(file)
}

/// Locks a file for this process, until it is closed. Says so where that means waiting.
pub fn lock(file: &File, path: &Path, say: impl FnOnce()) -> Result<()> {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        say();
        flock(file, FlockOperation::LockExclusive).or_fail(Class::System, || format!("cannot lock {}", path.display()))?;
    }
    Ok(())
}

/// Removes the containers with a label that a killed run left: nobody else with that label is running. Says so.
pub async fn sweep_containers(engine: &Engine, label: &(String, String), events: &Sink) -> Result<()> {
    let left = engine.sweep(&format!("{}={}", label.0, label.1)).await?;
    if left > 0 {
        events.note("engine", format!("removed {left} containers that an interrupted run left"));
    }
    Ok(())
}

/// Says what the engine cannot do on this machine, if that is something.
pub fn tell_cost(engine: &Engine, events: &Sink) {
    if let Some(cost) = engine.cost() {
        events.note("engine", cost);
    }
    tell_odd(&engine.passed_over(), events);
}

/// Names what is passed over of the images that are kept here.
pub fn tell_odd(problems: &[String], events: &Sink) {
    for problem in problems {
        events.note("images", &format!("passed over: {problem}"));
    }
    if problems.iter().any(|problem| !problem.contains("index.json")) {
        events.note("images", "`twostage rm NAME` takes such an image out of the store");
    }
}

/// What a file or folder that is being written is called, until it is whole.
pub const UNFINISHED: &str = ".twostage-incoming-";

/// Removes what a killed run left half-done beside the project file and in the state folder.
fn sweep(project: &Path, state: &Path) -> Result<()> {
    let mut folders = vec![project.to_path_buf(), state.to_path_buf(), state.join("sources")];
    folders.extend([state.join("images"), state.join("images/blobs/sha256")]);
    folders.extend(fs::read_dir(state.join("images")).into_iter().flatten().flatten().map(|image| image.path()));
    for folder in folders {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = folder.starts_with(state) && (name.starts_with("collected-") || name.starts_with("incoming-"));
            if ours || name.starts_with(UNFINISHED) {
                let path = entry.path();
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.or_fail(Class::System, || format!("cannot remove {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Writes a file so that a crash leaves the old or the new one, whole.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).or_fail(Class::System, failed)?;
    let mut builder = tempfile::Builder::new();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file = builder.prefix(UNFINISHED).permissions(mode).tempfile_in(folder).or_fail(Class::System, failed)?;
    file.write_all(content).or_fail(Class::System, failed)?;
    file.as_file().sync_all().or_fail(Class::System, failed)?;
    file.persist(path).or_fail(Class::System, failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).or_fail(Class::System, failed)
}

/// The repository as the build stage sees it.
struct Publisher {
    repository: Arc<Repository>,
    format: Format,
    now: i64,
}

/// A pool package as the build stage knows it: with its control fields, or an rpm's `Provides` and
/// `Requires`, one a line.
pub fn stored(repository: &Repository, package: &PoolPackage) -> Result<Stored> {
    let fields = match &package.rpm {
        Some(_) => {
            let header = rpm_header(repository, package)?;
            let list = |kind| {
                let clauses = rpm::dependencies(&header, kind).into_iter().filter(|need| !need.name.starts_with("rpmlib("));
                clauses.map(|need| tools::clause(&need)).collect::<Vec<_>>().join("\n")
            };
            let lists = [("Provides", list(rpm::Kind::Provides)), ("Requires", list(rpm::Kind::Requires))];
            lists.into_iter().map(|(name, list)| (name.to_string(), list)).collect()
        }
        None => Control::parse(&package.control)
            .map(|control| control.fields().map(|(name, value)| (name.to_string(), value.to_string())).collect())
            .unwrap_or_default(),
    };
    // Of an rpm, like the digest, without the signature: ours is larger than the mirror's.
    let size = package.size - package.rpm.as_ref().map_or(0, |file| file.prefix);
    Ok(Stored { id: package.id.clone(), sha256: package.sha256, size, date: package.date, fields })
}

/// The main header of an rpm in the pool.
pub fn rpm_header(repository: &Repository, package: &PoolPackage) -> Result<rpm::Header> {
    let failed = || format!("cannot read {}", package.id);
    let (prefix, size) = package.rpm.as_ref().map_or((0, 0), |file| (file.prefix, file.header_size));
    let mut opened = repository.open_package(&package.sha256)?;
    opened.seek(SeekFrom::Start(prefix)).or_fail(Class::System, failed)?;
    let mut header = Vec::new();
    opened.take(size).read_to_end(&mut header).or_fail(Class::System, failed)?;
    rpm::Header::parse(&header).or_fail(Class::Repository, failed)
}

impl PackageSink for Publisher {
    fn put(&self, package: &Path) -> Result<Stored> {
        stored(&self.repository, self.repository.ingest_unpublished(package)?.as_ref())
    }

    fn put_source(&self, folder: &Path, dsc: &str) -> Result<Sha256> {
        let path = folder.join(dsc);
        let source = if dsc.ends_with(".rpm") { self.repository.ingest_file(&path) } else { self.repository.ingest_source(&path) };
        Ok(source?.sha256)
    }

    fn get(&self, digest: &Sha256) -> Result<Option<Stored>> {
        if !self.repository.contains(digest) {
            return Ok(None);
        }
        stored(&self.repository, self.repository.package(digest)?.as_ref()).map(Some)
    }

    fn put_blob(&self, blob: &mut dyn Read) -> Result<(Sha256, u64)> {
        let blob = self.repository.put_blob(blob)?;
        Ok((blob.sha256, blob.size))
    }

    fn blob(&self, digest: &Sha256) -> Option<PathBuf> {
        [self.repository.blob_path(digest), self.repository.pool_path(digest)].into_iter().find(|path| path.is_file())
    }

    fn serve(&self, members: &[Sha256]) -> Result<(SnapshotId, Vec<(String, String)>)> {
        let id = self.repository.transient(members, self.now)?;
        let (base, prefix) = (format!("http://{FIXED_HOST}"), format!("@{id}"));
        let key = self.repository.public_key()?;
        let files = match self.format {
            Format::Deb => vec![("twostage.sources".to_string(), sources_file(&base, &prefix, &key))],
            Format::Rpm => {
                let signers = self.repository.upstream_signers(&id)?;
                let repo = repo_file(&base, &prefix, &self.repository.settings().origin, signers.iter().map(String::as_str));
                let mut files = vec![("twostage.repo".to_string(), repo), ("key.asc".to_string(), key)];
                for signer in signers {
                    files.extend(self.repository.upstream_key(&signer)?.map(|key| (format!("keys/{signer}.asc"), key)));
                }
                files
            }
        };
        Ok((id, files))
    }
}

/// The server that containers are told of: started when the first one needs it, on loopback, and
/// on the bridge's gateway only if nothing else works.
struct LocalServer {
    engine: Engine,
    repository: Arc<Repository>,
    server: OnceCell<twostage_reposerver::Server>,
    reach: OnceCell<Reach>,
}

impl LocalServer {
    async fn find(&self, image: &str) -> Result<Reach> {
        let server = self
            .server
            .get_or_try_init(|| {
                let listen = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
                let repository = self.repository.clone();
                async move { twostage_reposerver::Server::start(repository, &listen, None).await }
            })
            .await?;
        let port = server.addresses().first().map_or(0, SocketAddr::port);
        let command = reach::fetch(&format!("http://{FIXED_HOST}/healthz"));
        let probe = Probe { image, command: &command, port, networks: Probe::NETWORKS, labels: &BTreeMap::new() };
        let listen = |address: IpAddr| async move { Ok(server.add_listener(SocketAddr::new(address, 0)).await?.port()) };
        self.engine.probe_reach(probe, listen).await
    }
}

impl Reaching for LocalServer {
    fn reach<'a>(&'a self, image: &'a str) -> Pin<Box<dyn Future<Output = Result<Reach>> + Send + 'a>> {
        Box::pin(async move { self.reach.get_or_try_init(|| self.find(image)).await.cloned() })
    }
}

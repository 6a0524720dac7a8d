//! What every command of a project works with: the project, its lock, its repository, and, where
//! containers are needed, the engine with the repository's server beside it.

use crate::cli::{BuildOptions, EngineArgs, ProjectArgs};
use crate::output::Output;
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;
use twostage_beneath::{EntryKind, Folder, FolderEntry};
use twostage_builder::makers::Makers;
use twostage_builder::record::Records;
use twostage_builder::taken::KnownNames;
use twostage_builder::{Context, PackageSink, Reaching, Stored, graph, tools};
use twostage_engine::{Engine, Probe, Reach, reach};
use twostage_image::persist;
use twostage_model::error::OrFail as _;
use twostage_model::names::{COLLECTED, FIXED_HOST, INCOMING, UNFINISHED};
use twostage_model::project::{Base, Expect, Release, STATE};
use twostage_model::{Class, Error, Format, Lock, Project, Result, Sha256, Sink, SnapshotId};
use twostage_package::control::Control;
use twostage_package::rpm;
use twostage_reposerver::{PoolPackage, Repository, Retention, Settings, repo_file, sources_file};

/// The name of a project file.
pub const PROJECT_FILE: &str = "twostage.toml";
/// The name of a lock, beside the project file.
pub const LOCK_FILE: &str = "twostage.lock";

/// Bytes of a project file or a lock, at most.
const MAX_TEXT: u64 = 64 << 20;

/// What work on a project may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkOptions {
    /// It may change the lock.
    pub lock: bool,
    /// It keeps the containers of builds that fail.
    pub keep_failed: bool,
    /// Native builds ask a compiler cache.
    pub ccache: bool,
    /// Components are built twice.
    pub check_reproducible: bool,
}

/// A project that is being worked on.
pub struct Session {
    pub project: Project,
    /// The folder of the project file.
    pub folder: PathBuf,
    /// The same, to open what the project names.
    pub files: Folder,
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
    pub fn open(project: &ProjectArgs, output: &Output) -> Result<Session> {
        Session::new(project, output, true)
    }

    /// Opens a project to look at it or serve it.
    pub fn open_shared(project: &ProjectArgs, output: &Output) -> Result<Session> {
        Session::new(project, output, false)
    }

    fn new(arguments: &ProjectArgs, output: &Output, exclusive: bool) -> Result<Session> {
        let (project, whole) = open_project(&arguments.path)?;
        let folder = whole.path().to_path_buf();
        let kept = whole.private_folder(STATE)?;
        let mut files = open_to_project(&project, whole.clone())?;
        for named in [&arguments.repository, &arguments.key].into_iter().flatten() {
            files = files.closing_path(named)?;
        }
        check_paths(&project, &files)?;
        let state = kept.path().to_path_buf();
        let lock = exclusive.then(|| take_turn(&state, output)).transpose()?;
        if exclusive {
            sweep(&kept)?;
            twostage_builder::base::sweep(&folder);
        }
        let mut settings = Settings::new(project.name.clone());
        settings.key = key_place(&project, arguments, &whole)?;
        settings.keep = project.repository.keep;
        settings.suite.clone_from(&project.repository.suite);
        settings.retention = Retention { versions: project.repository.keep_versions, days: project.repository.keep_days };
        settings.valid_days = project.repository.valid_days;
        settings.yum_compression = project.repository.yum_compression;
        settings.algorithm = project.repository.key_type;
        if !project.architectures.is_empty() {
            settings.architectures.clone_from(&project.architectures);
        }
        let repository = Arc::new(Repository::open(&repository_place(&project, arguments, &whole)?, settings)?);
        // Only now is there surely something to close, wherever a person has it.
        let files = files.closing_path(repository.root())?.closing_path(&repository.signing().key_path())?;
        if exclusive {
            twostage_builder::record::sweep(&repository.root().join("builds"))?;
        }
        let now = twostage_model::date::now();
        Ok(Session { project, folder, files, state, repository, now, output: output.clone(), _exclusive: lock })
    }

    /// Reads the lock; an empty one if there is none yet.
    pub fn read_lock(&self) -> Result<Lock> {
        read_lock(&self.files)
    }

    /// Writes the lock if it differs from the file. Says so.
    pub fn write_lock(&self, lock: &Lock) -> Result<()> {
        let text = lock.to_string();
        if self.files.read_text(LOCK_FILE, MAX_TEXT).is_ok_and(|before| before == text) {
            return Ok(());
        }
        let path = self.folder.join(LOCK_FILE);
        write_into(self.unfinished(&path)?, &path, text.as_bytes())?;
        self.output.sink().note("lock", format!("wrote {LOCK_FILE}; commit it"));
        Ok(())
    }

    /// Does work that may extend the lock, and writes that: what was locked stays locked, also when a later step failed. A
    /// failure that has learnt nothing leaves no file.
    pub async fn locking<T>(&self, context: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        let before = context.lock().clone();
        let result = work.await;
        let lock = context.lock().clone();
        if context.may_lock && (result.is_ok() || lock != before) {
            self.write_lock(&lock)?;
        }
        result
    }

    /// A file that becomes `path` when it is whole. Until then it is in the state, where leftovers are swept, and not among
    /// the files of others; where that is another disk, beside `path`.
    pub fn unfinished(&self, path: &Path) -> Result<NamedTempFile> {
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let disk = |folder: &Path| fs::metadata(folder).map(|found| std::os::unix::fs::MetadataExt::dev(&found));
        let same = matches!((disk(beside), disk(&self.state)), (Ok(one), Ok(other)) if one == other);
        unfinished_in(if same { &self.state } else { beside }).or_fail(Class::System, || format!("cannot write {}", path.display()))
    }

    /// Connects to the engine and starts the repository's server beside it, on loopback.
    pub async fn context(&self, engine: &EngineArgs, allowed: WorkOptions) -> Result<Arc<Context>> {
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
        let reach = LocalServer {
            engine: engine.clone(),
            repository: self.repository.clone(),
            server: OnceCell::new(),
            reach: OnceCell::new(),
            events: self.output.sink(),
        };
        Ok(Arc::new(Context {
            engine,
            packages: Arc::new(Publisher { repository: self.repository.clone(), format: self.project.format, now: self.now }),
            reach: Arc::new(reach),
            events: self.output.sink(),
            project: self.project.clone(),
            folder: self.folder.clone(),
            files: self.files.clone(),
            state: self.state.clone(),
            names: KnownNames::in_cache(crate::remembered::cache()),
            cache: crate::remembered::cache(),
            records: self.repository.root().join("builds"),
            lock: Mutex::new(self.read_lock()?),
            id: self.id()?,
            keep_failed: allowed.keep_failed,
            // What a cache gives back says nothing of what a compiler makes.
            ccache: allowed.ccache && !allowed.check_reproducible,
            check_reproducible: allowed.check_reproducible,
            may_lock: allowed.lock,
            now: self.now,
        }))
    }

    /// [`Session::context`] to build components.
    pub async fn building(&self, how: &BuildOptions) -> Result<Arc<Context>> {
        let allowed =
            WorkOptions { lock: !how.locked, keep_failed: how.keep_failed, ccache: how.ccache, check_reproducible: how.check_reproducible };
        self.context(&how.engine, allowed).await
    }

    /// What tells this project's containers from those of others on the same engine. Kept in its
    /// state, because the same path may be another folder for another user of the engine.
    pub fn id(&self) -> Result<String> {
        let path = self.state.join("id");
        let here = self.folder.display().to_string();
        // A copy of the folder is another project, and so is one that somebody gave us with an id in it.
        if let Ok(text) = fs::read_to_string(&path)
            && let Some((id, of)) = text.strip_suffix('\n').and_then(|text| text.split_once('\n'))
            && of == here
            && id.len() == 12
            && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Ok(id.to_string());
        }
        let id = Sha256::of(format!("{here} {} {}", std::process::id(), self.now).as_bytes()).short();
        write_atomically(&path, format!("{id}\n{here}\n").as_bytes())?;
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
        twostage_builder::claims::settle(&self.project, built)
    }

    /// Builds what is new of all components, or of those that are wanted and what they need. Gives their packages.
    pub async fn build(
        &self,
        context: &Arc<Context>,
        jobs: usize,
        wanted: Option<&BTreeSet<&str>>,
    ) -> Result<BTreeMap<String, twostage_builder::component::Built>> {
        let makers = Makers::known(context).await?;
        graph::build(context, jobs, wanted, makers).await
    }

    /// Every base that the project names, once.
    pub fn bases(&self) -> Vec<Base> {
        let mut bases = vec![self.project.base.value.clone()];
        for base in self.project.images.values().map(|image| self.project.base_of(image)) {
            if !bases.contains(&base.value) {
                bases.push(base.value.clone());
            }
        }
        bases
    }

    /// The project's components, each after those that it needs.
    pub fn in_order(&self) -> Vec<String> {
        let (mut order, mut known) = (Vec::new(), BTreeSet::new());
        let mut left: Vec<_> = self.project.components.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|component| {
                let ready = component.needs.iter().all(|need| known.contains(&need.value));
                if ready {
                    known.insert(&component.name.value);
                    order.push(component.name.value.clone());
                }
                !ready
            });
            if left.len() == before {
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

/// The folder of the project, which a person named, and the name of the project file in it.
fn locate(path: &Path) -> Result<(Folder, OsString)> {
    let (folder, name) = match path.file_name() {
        _ if path.is_dir() => (path, OsStr::new(PROJECT_FILE)),
        Some(name) => (path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")), name),
        None => (path, OsStr::new(PROJECT_FILE)),
    };
    let hint = "`twostage init` writes one; `--project DIR` names another folder";
    let none = || Error::new(Class::Project, format!("there is no project file {}", folder.join(name).display())).hint(hint);
    let folder = match folder.canonicalize() {
        Err(cause) if matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Err(none()),
        found => found.or_fail(Class::Project, || format!("cannot look at {}", folder.display()))?,
    };
    let folder = Folder::open(&folder)?;
    match folder.kind(name)? {
        Some(EntryKind::File) => Ok((folder, name.to_os_string())),
        _ => Err(none()),
    }
}

/// Whether there is a project where `--project` says.
pub fn is_project(path: &Path) -> bool {
    locate(path).is_ok()
}

/// The project file that `--project` says, as it is written, and its folder: for who only wants to know its names.
pub fn project_of(path: &Path) -> Result<(Project, PathBuf)> {
    let (project, folder) = open_project(path)?;
    Ok((project, folder.path().to_path_buf()))
}

/// The project, and its folder. What twostage keeps in there is as twostage makes it.
fn open_project(path: &Path) -> Result<(Project, Folder)> {
    let (folder, file) = locate(path)?;
    check_state(&folder)?;
    let text = folder.read_text(&file, MAX_TEXT)?;
    let project = Project::parse(&text, &file.to_string_lossy(), &|| release(&folder))?;
    Ok((project, folder))
}

/// Refuses a state with a link in it: all that is kept there is read, written and removed by its path. Whoever gave us
/// the project could have put one there. (Of a source that was fetched, links are a part.)
fn check_state(folder: &Folder) -> Result<()> {
    if folder.entries()?.iter().all(|entry| entry.name != STATE) {
        return Ok(());
    }
    let entered = |path: &Path| path.parent() != Some(Path::new("sources")) && path.strip_prefix("repository").map_or(true, is_entered);
    folder.private_folder(STATE)?.only_files_and_folders(&entered)
}

/// Whether a folder of a repository is looked into: not those of files by digest, nor the snapshots. There may be very
/// many. No file by digest is opened through a link, and a snapshot is looked into when it is read.
fn is_entered(path: &Path) -> bool {
    let depth = path.components().count();
    let is_shard = path.starts_with("pool") && depth == 2 || path.starts_with("signed") && depth == 3;
    !(is_shard || path.starts_with("snapshots") && depth == 2)
}

/// The folder as the project may use it: its state, repository and key are not among what it can name.
fn open_to_project(project: &Project, folder: Folder) -> Result<Folder> {
    let mut folder = folder.closing(STATE)?;
    // (What is in the state is closed with it.)
    let own = [Some(&project.repository.path), project.repository.key.as_ref()];
    for closed in own.into_iter().flatten().filter(|closed| !in_state(&closed.value)) {
        folder = folder.closing(&closed.value).map_err(|error| project.refused(closed.line, &error))?;
    }
    Ok(folder)
}

fn in_state(path: &str) -> bool {
    path.split('/').find(|part| !part.is_empty() && *part != ".") == Some(STATE)
}

/// Where the repository is: as the command line says, else where the project file says, which is below its folder.
fn repository_place(project: &Project, arguments: &ProjectArgs, folder: &Folder) -> Result<PathBuf> {
    if let Some(named) = &arguments.repository {
        return std::path::absolute(named).or_fail(Class::Usage, || format!("cannot use {}", named.display()));
    }
    let path = &project.repository.path;
    let refused = |error: Error| match error.class() {
        Class::Project => project.refused(path.line, &error),
        _ => error,
    };
    let place = folder.make_folder(&path.value).map_err(refused)?;
    if !in_state(&path.value) {
        place.only_files_and_folders(&is_entered).map_err(refused)?;
    }
    Ok(place.path().to_path_buf())
}

/// Where the key is, or will be made: the same. None: in the repository.
fn key_place(project: &Project, arguments: &ProjectArgs, folder: &Folder) -> Result<Option<PathBuf>> {
    if let Some(named) = &arguments.key {
        return std::path::absolute(named).map(Some).or_fail(Class::Usage, || format!("cannot use {}", named.display()));
    }
    let Some(key) = &project.repository.key else { return Ok(None) };
    let refused = |error: Error| project.refused(key.line, &error);
    let path = Path::new(&key.value);
    let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.kind(path).map_err(refused)? {
        Some(EntryKind::File) => drop(folder.file(path).map_err(refused)?),
        Some(_) => return Err(project.error_at(key.line, format!("`{}` is no file", key.value)).hint("name a file for the key")),
        None => drop(folder.make_folder(above).map_err(refused)?),
    }
    Ok(Some(folder.path().join(path)))
}

fn read_lock(folder: &Folder) -> Result<Lock> {
    match folder.kind(LOCK_FILE)? {
        None => Ok(Lock::default()),
        Some(_) => Lock::parse(&folder.read_text(LOCK_FILE, MAX_TEXT)?, LOCK_FILE),
    }
}

/// What `bootstrap = "host"` means: the release that is locked, so that a project stays what it is on a
/// machine of another one; before there is a lock, this machine's.
fn release(folder: &Folder) -> Result<Release> {
    let lock = read_lock(folder)?;
    match lock.bases.iter().find_map(|(name, base)| name.strip_prefix("bootstrap ").filter(|_| base.of_host)) {
        Some(locked) => locked.parse(),
        None => twostage_builder::base::host_release(),
    }
}

/// Looks at all that the project names, before anything is done: it is there, it is what it must be, and no link leads out.
fn check_paths(project: &Project, folder: &Folder) -> Result<()> {
    for (path, expect) in project.paths() {
        let found = folder.kind(&path.value).map_err(|error| project.refused(path.line, &error))?;
        let (there, what) = match expect {
            Expect::Folder => (found == Some(EntryKind::Folder), "folder"),
            Expect::File => (found == Some(EntryKind::File), "file"),
        };
        if !there {
            let full = Path::new(&path.value);
            let above = full.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let siblings = folder.folder(above).and_then(|above| above.entries()).unwrap_or_default();
            let siblings: Vec<String> = siblings.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
            let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hint = twostage_model::project::near_miss(&name, siblings.iter().map(String::as_str))
                .filter(|_| found.is_none())
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
        events.note("engine", format!("removed {} that an interrupted run left", twostage_model::shown::count(left, "container")));
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
        events.note("images", format!("passed over: {problem}"));
    }
    if problems.iter().any(|problem| !problem.contains("index.json")) {
        events.note("images", "`twostage rm NAME` takes such an image out of the store");
    }
}

/// Says what containers lack on this machine that has no network for them, if it has none. It is found out.
pub async fn tell_network(engine: &Engine, events: &Sink) {
    if let Some((_, Some(cost))) = engine.network().await {
        events.note("engine", cost);
    }
}

/// Removes what a killed run left half-done in the state folder, by the names that we give it. Nowhere else: what is
/// beside the project file is the team's, whatever it is called.
fn sweep(state: &Folder) -> Result<()> {
    let all = |_: &Folder, _: &FolderEntry| true;
    for prefix in [UNFINISHED, COLLECTED, INCOMING] {
        state.remove_scratch(prefix, all)?;
    }
    let below = |path: &Path| (state.kind(path).ok().flatten() == Some(EntryKind::Folder)).then(|| state.folder(path)).transpose();
    if let Some(sources) = below(Path::new("sources"))? {
        sources.remove_scratch(INCOMING, all)?;
    }
    if let Some(images) = below(Path::new("images"))? {
        images.remove_scratch(UNFINISHED, all)?;
        for image in images.entries()?.iter().filter(|entry| entry.kind == EntryKind::Folder) {
            images.folder(&image.name)?.remove_scratch(UNFINISHED, all)?;
        }
    }
    if let Some(blobs) = below(Path::new("images/blobs/sha256"))? {
        blobs.remove_scratch(UNFINISHED, all)?;
    }
    Ok(())
}

/// Writes a file so that a crash leaves the old or the new one, whole.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).or_fail(Class::System, failed)?;
    write_into(unfinished_in(folder).or_fail(Class::System, failed)?, path, content)
}

fn unfinished_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    tempfile::Builder::new().prefix(UNFINISHED).permissions(mode).tempfile_in(folder)
}

/// Gives a file its content and its name, durably.
fn write_into(mut file: NamedTempFile, path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    file.write_all(content).or_fail(Class::System, failed)?;
    persist(file, path)
}

/// The repository as the build stage sees it.
struct Publisher {
    repository: Arc<Repository>,
    format: Format,
    now: i64,
}

/// A pool package as the build stage knows it: with its control fields, or an rpm's `Provides`,
/// `Requires` and `Obsoletes`, one a line.
pub fn stored(repository: &Repository, package: &PoolPackage) -> Result<Stored> {
    let fields = match &package.rpm {
        Some(_) => {
            let header = rpm_header(repository, package)?;
            let list = |kind| {
                let clauses = rpm::dependencies(&header, kind).into_iter().filter(|need| !need.name.starts_with("rpmlib("));
                clauses.map(|need| tools::clause(&need)).collect::<Vec<_>>().join("\n")
            };
            let lists = [
                ("Provides", list(rpm::Kind::Provides)),
                ("Requires", list(rpm::Kind::Requires)),
                ("Obsoletes", list(rpm::Kind::Obsoletes)),
            ];
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
    let mut opened = repository.pool().open_package(&package.sha256)?;
    opened.seek(SeekFrom::Start(prefix)).or_fail(Class::System, failed)?;
    let mut header = Vec::new();
    opened.take(size).read_to_end(&mut header).or_fail(Class::System, failed)?;
    rpm::Header::parse(&header).or_fail(Class::Repository, failed)
}

impl PackageSink for Publisher {
    fn put(&self, package: &Path) -> Result<Stored> {
        stored(&self.repository, self.repository.pool().ingest_unpublished(package)?.as_ref())
    }

    fn put_source(&self, folder: &Path, dsc: &str) -> Result<Sha256> {
        let path = folder.join(dsc);
        let source = if dsc.ends_with(".rpm") { self.repository.ingest_file(&path) } else { self.repository.pool().ingest_source(&path) };
        Ok(source?.sha256)
    }

    fn get(&self, digest: &Sha256) -> Result<Option<Stored>> {
        if !self.repository.pool().contains(digest)? {
            return Ok(None);
        }
        stored(&self.repository, self.repository.pool().package(digest)?.as_ref()).map(Some)
    }

    fn put_blob(&self, blob: &mut dyn Read) -> Result<(Sha256, u64)> {
        let blob = self.repository.pool().put_blob(blob)?;
        Ok((blob.sha256, blob.size))
    }

    fn blob(&self, digest: &Sha256) -> Option<PathBuf> {
        // What a disk changed is not there: it is fetched or made again.
        if self.repository.pool().verify_blob(digest).is_ok() {
            return Some(self.repository.pool().blob_path(digest));
        }
        self.repository.pool().contains(digest).is_ok_and(|whole| whole).then(|| self.repository.pool().pool_path(digest))
    }

    fn serve(&self, members: &[Sha256]) -> Result<(SnapshotId, Vec<(String, String)>)> {
        let id = self.repository.snapshots().transient(members, self.now)?;
        let (base, prefix) = (format!("http://{FIXED_HOST}"), format!("@{id}"));
        let key = self.repository.signing().public_key()?;
        let files = match self.format {
            Format::Deb => vec![("twostage.sources".to_string(), sources_file(&base, &prefix, false, &key))],
            Format::Rpm => {
                let signers = self.repository.snapshots().upstream_signers(&id)?;
                let repo = repo_file(&base, &prefix, &self.repository.settings().origin, signers.iter().map(String::as_str));
                let mut files = vec![("twostage.repo".to_string(), repo), ("key.asc".to_string(), key)];
                for signer in signers {
                    files.extend(self.repository.signing().upstream_key(&signer)?.map(|key| (format!("keys/{signer}.asc"), key)));
                }
                files
            }
        };
        Ok((id, files))
    }
}

/// The server that containers are told of: started when the first one needs it, on loopback, which the embedded
/// engine's containers reach through a door; and on a bridge's gateway only if nothing else works.
struct LocalServer {
    engine: Engine,
    repository: Arc<Repository>,
    server: OnceCell<twostage_reposerver::Server>,
    reach: OnceCell<Reach>,
    events: Sink,
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
        tell_network(&self.engine, &self.events).await;
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

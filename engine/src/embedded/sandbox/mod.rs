//! What runs commands, and touches the files of layers, without a daemon: namespaces, an overlay of the layers, and
//! this program, which is run again inside.
//!
//! ```text
//! host.rs     the outer side: starts the inner one, maps its ids (ids.rs), limits it (limits.rs, disk.rs), talks to it (wire.rs), ends it
//! enter.rs    the inner side: namespaces, then one of
//!   guard.rs    ends a container with whoever it belongs to, and starts
//!   inside.rs   pid 1 of the container: mounts.rs, stubs.rs, user.rs, seccomp.rs; it becomes the command
//!   extract.rs  a tar becomes files          pack.rs, gotar.rs  files become a tar
//! network/    the network of a container: what connects it, and what answers in it
//!   resolve.rs  paths that stay inside a root
//! ```
//!
//! Safe Rust has no `fork`, so every step is another `exec` of this program (program.rs): [`enter`] must be the first
//! thing in `main`. Files of layers belong to ids that only the user namespace of a container has, so whatever reads or
//! writes them runs in one. Nothing inside follows a link out of a root: paths go through openat2(2).

mod attach;
mod disk;
mod enter;
mod extract;
mod gotar;
mod guard;
mod host;
mod ids;
mod inside;
mod limits;
mod mounts;
mod network;
mod pack;
mod program;
mod resolve;
mod seccomp;
mod stubs;
mod user;
mod wire;

pub(super) use disk::{Watch, WatchedFile};
pub use enter::enter;
pub use limits::Limits;
pub use network::Inward;

use crate::lines::{BothLines, Piece};
use crate::{Attached, Found, Network};
use host::{Asked, Host, Running};
use network::{Wanted, Ways};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::Receiver;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};
use wire::{Attach, Layers, Order, Reply, Task};

const UNLIMITED: &str = "the processes and the memory of a build are not limited: this user may use no control group";

/// What containers are made with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    host: Host,
    limits: Limits,
}

/// The layers of a file tree, unpacked with [`Sandbox::unpack`].
#[derive(Debug, Clone, Default)]
pub struct Root {
    /// Lowest first.
    pub lowers: Vec<PathBuf>,
    /// What [`Sandbox::init_layer`] made of these layers. It is never packed.
    pub init: Option<PathBuf>,
    /// What is written goes here; without it the tree is only read.
    pub upper: Option<Upper>,
}

/// A layer that is written.
#[derive(Debug, Clone)]
pub struct Upper {
    /// The layer.
    pub dir: PathBuf,
    /// A folder on the same file system for the kernel's use, which nothing else is in.
    pub work: PathBuf,
}

/// A command and what it is to see.
#[derive(Debug)]
pub struct Job<'a> {
    /// Its files.
    pub root: &'a Root,
    /// Program and arguments.
    pub cmd: &'a [String],
    /// The whole environment. `PATH`, `HOME` and `HOSTNAME` are added where they are missing, as Docker does.
    pub env: &'a [(String, String)],
    /// `name` or `uid`, with `:group` or `:gid` after it or not; empty means root.
    pub user: &'a str,
    /// Working directory, which must be there; empty means `/`.
    pub workdir: &'a str,
    /// Host name; none means `localhost`.
    pub hostname: Option<&'a str>,
    /// What it can reach. `Bridge` is a network of its own with a way out, where this machine has one, else the machine's.
    pub network: Network,
    /// Ports of this machine's 127.0.0.1 that it reaches at the same address, on a network of its own with a way out.
    pub doors: &'a [u16],
    /// Sockets of this machine, each with the port of the container that its connections lead to.
    pub ports: &'a [(std::net::TcpListener, u16)],
    /// Who is given connections to its 127.0.0.1, on a network of its own.
    pub inward: Option<&'a Inward>,
    /// Somebody who is attached to it.
    pub attached: Option<&'a Attached>,
    /// Path below `/dev` and text of a program that only this command sees.
    pub script: Option<(&'a str, &'a str)>,
    /// What else is mounted, in this order.
    pub mounts: &'a [Mount],
    /// After this long everything is killed and the run fails.
    pub timeout: Option<Duration>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// As a shell says it, or `docker run`.
    pub code: i64,
    /// Why it was never started, as Docker says it, and what mends that.
    pub refusal: Option<(String, String)>,
}

/// Something mounted for one command. A mount point that is missing is made, and is not in the layer afterwards.
#[derive(Debug, Clone)]
pub enum Mount {
    /// A file or folder of this machine ([`Sandbox::folder`] makes one that containers can write to).
    Bind {
        /// What is mounted.
        source: PathBuf,
        /// Where.
        target: String,
        /// It cannot be written.
        read_only: bool,
    },
    /// A path of another file tree.
    Tree {
        /// The tree.
        source: Root,
        /// The path in it; `/` for all of it.
        path: String,
        /// Where.
        target: String,
        /// It cannot be written. What is written to a tree without an upper layer is an error anyway.
        read_only: bool,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// Where.
        target: String,
        /// The most bytes that it holds.
        size: Option<u64>,
    },
    /// A socket that this process made and listens to.
    Socket {
        /// The socket.
        source: PathBuf,
        /// Where.
        target: String,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A file that is nowhere but in memory.
    Secret {
        /// What is in it.
        bytes: Vec<u8>,
        /// Where.
        target: String,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl Sandbox {
    /// What this process may make containers with.
    ///
    /// # Errors
    /// The machine does not say which ids this process has. Whether it lets user namespaces be made is only seen when
    /// one is: every call may fail with that, and says what to allow.
    pub fn new() -> Result<Sandbox> {
        let host = Host { ids: ids::Ids::find()?, places: limits::Places::find(), program: None, ways: Ways::default() };
        Ok(Sandbox { host, limits: Limits::usual() })
    }

    /// The same, but `program` is run inside instead of a copy of this one. Its `main` must begin with [`enter`].
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Sandbox {
        self.host.program = Some(program);
        self
    }

    /// The same, with other limits for each command than the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Sandbox {
        self.limits = limits;
        self
    }

    /// The limits of each command.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What of a command this process cannot limit on this machine, as one sentence, if there is something. It is tried.
    pub fn unlimited(&self) -> Option<&'static str> {
        match self.host.places.tried() {
            (true, true) => None,
            (true, false) => Some("the memory of a build is not limited: there is no control group with `memory` that this user may use"),
            (false, true) => Some("the processes of a build are not limited: there is no control group with `pids` that this user may use"),
            (false, false) => Some(UNLIMITED),
        }
    }

    /// What network containers have, in a sentence. Where nobody has asked before, it is found out.
    pub fn network(&self) -> String {
        self.host.ways.told()
    }

    /// What this machine's lack of a network for containers costs, as one sentence, if it lacks one.
    pub fn network_cost(&self) -> Option<&'static str> {
        self.host.ways.cost()
    }

    /// What the ids of containers are on this machine, in a sentence.
    pub fn ids(&self) -> String {
        self.host.ids.told()
    }

    /// What the ids that there are do not suffice for, as one sentence, if there is something.
    pub fn cost(&self) -> Option<&'static str> {
        self.host.ids.cost()
    }

    /// Runs a command to its end, and ends whatever it left running; gives the exit status as a shell would: 127 for a
    /// program that is not there, 126 for one that cannot be run, 128 and more for one that a signal ended; and 125, as
    /// `docker run`, where the user or the working directory is none. Dropping the future ends everything.
    ///
    /// # Errors
    /// The container could not be made; its time was up, or it filled the disk (class `Build`).
    pub async fn run(&self, job: Job<'_>, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<i64> {
        let mut lines = BothLines::new(on_line);
        let ended = self.run_raw(job, &mut |piece| lines.push(piece)).await;
        if let Ok(Ended { refusal: Some((why, _)), .. }) = &ended {
            lines.push(Piece::Err(why.as_bytes()));
        }
        lines.finish();
        ended.map(|ended| ended.code)
    }

    /// The same, with what the command writes as it comes. What [`Sandbox::run`] gives as a line where the command was
    /// never started is in the result only.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub async fn run_raw(&self, job: Job<'_>, on_piece: &mut (dyn FnMut(Piece<'_>) + Send)) -> Result<Ended> {
        let name = job.cmd.first().cloned().unwrap_or_default();
        let failed = || format!("cannot run {name} in a container");
        let wanted = self.wanted(&job).await?;
        let order = self.order_for_run(&job, wanted.clone())?;
        let mut ports = Vec::new();
        for (listener, port) in job.ports {
            ports.push((listener.try_clone().or_fail(Class::System, failed)?, *port));
        }
        let inward = job.inward.and_then(Inward::askers);
        let (stdout, out) = io::pipe().or_fail(Class::System, failed)?;
        let (stderr, err) = io::pipe().or_fail(Class::System, failed)?;
        if let Some((uid, gid)) = self.host.ids.root() {
            // Opened by their names in /dev, they are files with an owner.
            for pipe in [&out, &err] {
                std::os::unix::fs::fchown(pipe, Some(uid), Some(gid)).or_fail(Class::System, failed)?;
            }
        }
        let (say, heard) = tokio::sync::oneshot::channel();
        let (give, opened) = tokio::sync::oneshot::channel();
        let (give_terminal, terminal) = tokio::sync::oneshot::channel();
        let attached = job.attached;
        let has_terminal = attached.is_some_and(|attached| attached.terminal.is_some());
        let input = match attached.and_then(|attached| attached.input.as_ref()) {
            Some(input) => Some(OwnedFd::from(input.try_clone().or_fail(Class::System, failed)?)),
            None => None,
        };
        // What is typed goes to the terminal.
        let (typed, input) = if has_terminal { (input, None) } else { (None, input) };
        let asked = Asked { network: wanted.map(|wanted| (wanted, give)), terminal: has_terminal.then_some(give_terminal), input };
        let (host, limits) = (self.host.clone(), self.limits);
        let start = move || {
            host.start(&order, Some(limits), asked, out.into(), err.into(), move |reply, reached| {
                // Nobody waits for it any more.
                let _ = say.send((reply, reached));
            })
        };
        // It waits for a process to start, so it is kept away from the threads that must not wait.
        let running = tokio::task::spawn_blocking(start).await.or_fail(Class::System, failed)??;
        let open = |pipe: PipeReader| pipe::Receiver::from_owned_fd(OwnedFd::from(pipe)).or_fail(Class::System, failed);
        let mut pipes = [open(stdout)?, open(stderr)?];
        let (show, shown) = tokio::sync::mpsc::channel(16);
        let carrying = attach::carry(terminal, typed, attached.and_then(Attached::told), running.teller(), show);
        let all = async {
            let mut unended = false;
            let mut seen = |piece: Piece<'_>| {
                if let Piece::Err(bytes) = piece {
                    unended = bytes.last().map_or(unended, |last| *last != b'\n');
                }
                on_piece(piece);
            };
            read_pieces(&mut pipes, shown, &mut seen).await.or_fail(Class::System, failed)?;
            let (reply, reached) = heard.await.or_fail(Class::Engine, || format!("lost sight of {name}"))?;
            // The end of what it says, where whoever looks for a reason looks.
            if let Some(reached) = reached.filter(|_| !matches!(reply, Ok(Reply::Exit(0)))) {
                on_piece(Piece::Err(format!("{}{reached}\n", if unended { "\n" } else { "" }).as_bytes()));
            }
            reply
        };
        // On its sockets somebody answers as long as it runs.
        let (tell_end, is_over) = tokio::sync::watch::channel(false);
        let serving = async {
            match opened.await {
                Ok(opened) => network::serve(opened, ports, inward, &mounts::resolv(), is_over).await,
                Err(_) => {
                    network::end_of(is_over).await;
                    Ok(())
                }
            }
        };
        let mut serving = std::pin::pin!(serving);
        let upper = job.root.upper.as_ref().map(|upper| upper.dir.as_path());
        let ended = tokio::select! {
            ended = all => Ok(ended),
            limit = out_of(job.timeout) => Err(
                Error::new(Class::Build, format!("{name} did not end within {} seconds and was ended", limit.as_secs()))
                    .hint("give it more time, or see what it waits for"),
            ),
            error = carrying => Err(Error::new(Class::System, format!("cannot talk to {name}")).because(error)),
            Err(error) = &mut serving => Err(Error::new(Class::System, "cannot serve the network of a container").because(error)),
            why = disk::filled(upper, self.limits.free) => {
                Err(disk::full(Class::Build, format!("{name} filled the disk and was ended"), &why, "see what it writes; or "))
            }
        };
        if matches!(ended, Ok(Ok(Reply::Exit(_)))) {
            // What it said last may still be on its way to who asked it.
            let _ = tell_end.send(true);
            let _ = tokio::time::timeout(network::LAST_WORDS, serving).await;
        }
        end(running);
        match ended?? {
            Reply::Exit(code) => Ok(Ended { code: code.into(), refusal: None }),
            Reply::Refused { why, hint, code } => Ok(Ended { code: code.into(), refusal: Some((why, hint)) }),
            _ => Err(Error::new(Class::Engine, format!("lost sight of {name}"))),
        }
    }

    /// What network a command gets; none means the machine's.
    async fn wanted(&self, job: &Job<'_>) -> Result<Option<Wanted>> {
        let ports = !job.ports.is_empty() || job.inward.is_some();
        let own = match job.network {
            Network::None => return Ok(Some(Wanted { ports, ..Wanted::default() })),
            Network::Host => false,
            Network::Bridge => {
                let ways = self.host.ways.clone();
                let own = tokio::task::spawn_blocking(move || ways.own());
                own.await.or_fail(Class::System, || "cannot tell what network containers have".into())?
            }
        };
        if !own && ports {
            return Err(Error::new(Class::Engine, "cannot publish ports of a container that shares this machine's network")
                .hint("what it listens on is this machine's; with `--network none` only what is published is reached"));
        }
        Ok(own.then(|| Wanted { out: true, doors: job.doors.to_vec(), names: true, ports }))
    }

    fn order_for_run(&self, job: &Job<'_>, network: Option<Wanted>) -> Result<Order> {
        if job.cmd.is_empty() {
            return Err(Error::new(Class::Engine, "cannot run a command: there is none"));
        }
        let mut paths = job.root.paths();
        let mut mounts = Vec::new();
        for mount in job.mounts {
            mounts.push(match mount {
                Mount::Bind { source, target, read_only } => {
                    Attach::Path { source: absolute(source)?, target: target.clone(), read_only: *read_only }
                }
                Mount::Tree { source, path, target, read_only } => {
                    paths.extend(source.paths());
                    Attach::Tree { source: self.layers(source)?, path: path.clone(), target: target.clone(), read_only: *read_only }
                }
                Mount::Tmpfs { target, size } => Attach::Tmpfs { target: target.clone(), size: *size },
                Mount::Socket { source, target, mode, uid, gid } => {
                    // (Only who has an owner in containers can be given another one there.)
                    if let Some((uid, gid)) = self.host.ids.root() {
                        let failed = || format!("cannot give the socket at {target} to containers");
                        std::os::unix::fs::lchown(source, Some(uid), Some(gid)).or_fail(Class::System, failed)?;
                    }
                    Attach::Socket { source: absolute(source)?, target: target.clone(), mode: *mode, uid: *uid, gid: *gid }
                }
                Mount::Secret { bytes, target, mode, uid, gid } => {
                    Attach::Secret { bytes: bytes.clone(), target: target.clone(), mode: *mode, uid: *uid, gid: *gid }
                }
            });
        }
        let hostname = job.hostname.filter(|name| !name.is_empty()).unwrap_or("localhost").to_string();
        let alone = job.network == Network::None;
        let run = wire::Run {
            root: self.layers(job.root)?,
            cmd: job.cmd.to_vec(),
            env: job.env.to_vec(),
            user: job.user.to_string(),
            workdir: job.workdir.to_string(),
            hosts: mounts::hosts(&hostname, alone),
            resolv: match &network {
                Some(network) if network.names => mounts::resolv_by(network::NAMES, &mounts::resolv()),
                _ => mounts::resolv(),
            },
            hostname,
            terminal: job.attached.and_then(|attached| attached.terminal),
            network,
            script: job.script.map(|(path, text)| (path.to_string(), text.to_string())),
            mounts,
            single: self.host.ids == ids::Ids::Single,
        };
        self.order(&paths, Task::Run(Box::new(run)))
    }

    /// Unpacks the tar of a layer into a folder, which is made if it is missing, in the form that [`Root`] takes:
    /// deletions are character devices 0/0, folders that hide all below have `user.overlay.opaque`
    /// (Linux, overlayfs.rst). Device files are left out: no user namespace may make them.
    ///
    /// # Errors
    /// The tar is broken, or names what cannot be made; or too little of the disk would stay free.
    pub fn unpack(&self, tar: impl Read + Send, layer: &Path) -> Result<()> {
        self.folder(layer)?;
        self.feed(&[layer], Task::Unpack(absolute(layer)?), tar)
    }

    /// The upper layer as the tar of a layer, as Docker 26 writes it. Reading it blocks.
    ///
    /// # Errors
    /// The sandbox cannot be started. What goes wrong later is an error of the reader, never a silent end.
    pub fn pack(&self, root: &Root) -> Result<Drawn> {
        if root.upper.is_none() {
            return Err(Error::new(Class::Engine, "cannot pack a layer: this tree has none to write to"));
        }
        // Whatever the init layer has is none of the image's.
        let image = Root { init: None, ..root.clone() };
        self.draw(&root.paths(), Task::Pack(self.layers(&image)?))
    }

    /// Unpacks a tar into the tree, as Docker does with one that is uploaded to `/` of a container. `replace`: a folder
    /// may take the place of something else, and the other way round; else that is an error.
    ///
    /// # Errors
    /// The tar is broken, the source fails, the tree has something else there, or too little of the disk would stay free.
    pub fn put(&self, root: &Root, tar: impl Read + Send, replace: bool) -> Result<()> {
        self.feed(&root.paths(), Task::Put { root: self.layers(root)?, replace }, tar)
    }

    /// What is at a path of the tree; the links of its folders are followed within the tree, the last one is not.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn find(&self, root: &Root, path: &str) -> Result<Option<Found>> {
        let order = self.order(&root.paths(), Task::Find { root: self.layers(root)?, path: path.to_string() })?;
        match self.host.call(&order, Stdio::null(), || Ok(()))? {
            Reply::Found(found) => Ok(found.map(|(folder, link)| Found { folder, link })),
            _ => Err(unexpected()),
        }
    }

    /// What is at a path of the tree, as a tar whose names begin with the last one of the path, as Docker gives it.
    /// Reading it blocks.
    ///
    /// # Errors
    /// The sandbox cannot be started. A path that is not there is an error of the reader.
    pub fn copy_out(&self, root: &Root, path: &str) -> Result<Drawn> {
        self.draw(&root.paths(), Task::CopyOut { root: self.layers(root)?, path: path.to_string() })
    }

    /// Removes a folder and all in it, whoever owns that. One that is not there is removed already.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, dir: &Path) -> Result<()> {
        let gone = |removed: io::Result<()>| match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        let failed = || format!("cannot remove {}", dir.display());
        // A link is not followed; the machine's root needs no namespace for what it owns.
        let kind = match std::fs::symlink_metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.or_fail(Class::System, failed)?,
        };
        if !kind.is_dir() {
            return gone(std::fs::remove_file(dir)).or_fail(Class::System, failed);
        }
        if gone(std::fs::remove_dir_all(dir)).is_ok() {
            return Ok(());
        }
        let order = self.order(&[dir], Task::Empty(absolute(dir)?))?;
        self.host.call(&order, Stdio::null(), || Ok(())).and_then(done)?;
        gone(std::fs::remove_dir(dir)).or_fail(Class::System, failed)
    }

    /// Fills a folder, which is made if it is missing, with what containers find above their image's layers: mount
    /// points and the few files that Docker's init layer has (moby, initlayer/setup_unix.go), as far as these layers
    /// do not have them.
    ///
    /// # Errors
    /// The layers cannot be read or the folder not be written.
    pub fn init_layer(&self, lowers: &[PathBuf], dir: &Path) -> Result<()> {
        self.folder(dir)?;
        let root = Root { lowers: lowers.to_vec(), ..Root::default() };
        let paths: Vec<&Path> = root.paths().into_iter().chain([dir]).collect();
        let order = self.order(&paths, Task::Init { root: self.layers(&root)?, dir: absolute(dir)? })?;
        self.host.call(&order, Stdio::null(), || Ok(())).and_then(done)
    }

    /// Makes a folder, if it is missing, and gives it to the root of containers, if it is ours.
    ///
    /// # Errors
    /// It cannot be made or given away.
    pub fn folder(&self, path: &Path) -> Result<()> {
        let failed = || format!("cannot prepare {}", path.display());
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.or_fail(Class::System, failed)?,
        }
        let Some((uid, gid)) = self.host.ids.root() else { return Ok(()) };
        let found = rustix::fs::lstat(path).or_fail(Class::System, failed)?;
        if found.st_uid == rustix::process::geteuid().as_raw() && found.st_uid != uid {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).or_fail(Class::System, failed)?;
        }
        Ok(())
    }

    fn layers(&self, root: &Root) -> Result<Layers<PathBuf>> {
        // An overlay takes no folder twice. What is in a layer hides all that the same layer put, or deleted, further down.
        let mut lowers: Vec<PathBuf> = Vec::new();
        for path in root.lowers.iter().chain(&root.init) {
            let path = absolute(path)?;
            lowers.retain(|below| *below != path);
            lowers.push(path);
        }
        let upper = match &root.upper {
            Some(upper) => {
                self.folder(&upper.dir)?;
                self.folder(&upper.work)?;
                Some((absolute(&upper.dir)?, absolute(&upper.work)?))
            }
            None => None,
        };
        Ok(Layers { lowers, upper })
    }

    fn order(&self, paths: &[&Path], task: Task<PathBuf>) -> Result<Order> {
        let mut base: Option<PathBuf> = None;
        for path in paths {
            let path = absolute(path)?;
            base = Some(match base {
                Some(base) => base.components().zip(path.components()).take_while(|(a, b)| a == b).map(|(part, _)| part).collect(),
                None => path,
            });
        }
        let single = self.host.ids == ids::Ids::Single;
        Ok(Order { base: base.unwrap_or_else(|| "/".into()), single, mapped: !single, free: self.limits.free, task })
    }

    /// Runs a task that reads a tar.
    fn feed(&self, paths: &[&Path], task: Task<PathBuf>, mut tar: impl Read + Send) -> Result<()> {
        let (theirs, mut ours) = io::pipe().or_fail(Class::System, || "cannot make a pipe".into())?;
        let order = self.order(paths, task)?;
        let give = move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let n = match tar.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read.or_fail(Class::System, || "cannot read what is to be unpacked".into())?,
                };
                // Whoever takes no more says itself why.
                if n == 0 || ours.write_all(&buffer[..n]).is_err() {
                    return Ok(());
                }
            }
        };
        self.host.call(&order, theirs.into(), give).and_then(done)
    }

    /// Runs a task that writes a tar.
    fn draw(&self, paths: &[&Path], task: Task<PathBuf>) -> Result<Drawn> {
        let (ours, theirs) = io::pipe().or_fail(Class::System, || "cannot make a pipe".into())?;
        let (say, heard) = mpsc::channel();
        let order = self.order(paths, task)?;
        let running = self.host.start(&order, None, Asked::default(), theirs.into(), Stdio::inherit(), move |reply, _| {
            let _ = say.send(reply.and_then(done));
        })?;
        Ok(Drawn { tar: ours, heard, end: None, failure: None, _running: running })
    }
}

impl Root {
    fn paths(&self) -> Vec<&Path> {
        let upper = self.upper.iter().flat_map(|upper| [&upper.dir, &upper.work]);
        self.lowers.iter().chain(&self.init).chain(upper).map(PathBuf::as_path).collect()
    }
}

/// A tar that a sandbox writes.
pub struct Drawn {
    tar: PipeReader,
    heard: mpsc::Receiver<Result<()>>,
    /// What the inner side said at last, once that is known.
    end: Option<Result<(), String>>,
    /// The same, if it failed, until somebody asks for it.
    failure: Option<Error>,
    _running: Running,
}

impl std::fmt::Debug for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Drawn")
    }
}

impl Drawn {
    /// Why reading failed, as the sandbox said it: an error of a reader has neither class nor hint.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

impl Read for Drawn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.tar.read(buffer)? {
            0 if !buffer.is_empty() => {
                let end = self.end.get_or_insert_with(|| {
                    let said = self.heard.recv().unwrap_or_else(|_| Err(Error::new(Class::Engine, "lost sight of a sandbox")));
                    said.map_err(|error| {
                        let text = [vec![error.to_string()], error.causes()].concat().join(": ");
                        self.failure = Some(error);
                        text
                    })
                });
                end.clone().map(|()| 0).map_err(io::Error::other)
            }
            n => Ok(n),
        }
    }
}

fn done(reply: Reply) -> Result<()> {
    match reply {
        Reply::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::new(Class::Engine, "a sandbox answered something else than it was asked")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).or_fail(Class::System, || format!("cannot tell where {} is", path.display()))
}

/// Ends what runs, which may take a moment, where waiting is allowed.
/// Waits until a time is over; without one, forever.
async fn out_of(time: Option<Duration>) -> Duration {
    match time {
        Some(time) => {
            tokio::time::sleep(time).await;
            time
        }
        None => std::future::pending().await,
    }
}

fn end(running: Running) {
    drop(running);
}

/// Gives what both outputs, and a terminal, are written until all end.
async fn read_pieces(
    pipes: &mut [pipe::Receiver; 2],
    mut terminal: Receiver<Vec<u8>>,
    on_piece: &mut (dyn FnMut(Piece<'_>) + Send),
) -> io::Result<()> {
    let mut buffers = [vec![0; 16 << 10], vec![0; 16 << 10]];
    let mut open = [true, true, true];
    let [out, err] = pipes;
    let [out_buffer, err_buffer] = &mut buffers;
    while open != [false; 3] {
        let (which, n) = tokio::select! {
            shown = terminal.recv(), if open[2] => {
                match shown {
                    Some(bytes) => on_piece(Piece::Out(&bytes)),
                    None => open[2] = false,
                }
                continue;
            }
            n = out.read(out_buffer), if open[0] => (0, n?),
            n = err.read(err_buffer), if open[1] => (1, n?),
        };
        on_piece(if which == 0 { Piece::Out(&out_buffer[..n]) } else { Piece::Err(&err_buffer[..n]) });
        open[which] = n > 0;
    }
    Ok(())
}

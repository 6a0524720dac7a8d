//! The inner side of a sandbox: this program, run again.

use super::disk::Watch;
use super::guard::{self, GUARD};
use super::host::MARKER;
use super::network::{self, Go};
use super::wire::{self, Attach, Layers, Order, Reply, Run, Task};
use super::{extract, inside, mounts, pack, resolve, stubs};
use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Plays the inner side of a sandbox and ends the process, if that is what this process was started for; else does
/// nothing. The first thing in `main`, before any thread is made or descriptor opened: whatever starts containers runs
/// its own program again for them.
pub fn enter() {
    let mut args = std::env::args_os();
    if args.next().is_none_or(|name| name != MARKER) {
        return;
    }
    let role = args.next().unwrap_or_default();
    if role == network::KEEPER {
        std::process::exit(close_others().map_or(2, |()| network::keep(args)));
    }
    // Descriptors that it was given.
    let mut numbers = args.map(|number| number.to_str()?.parse::<i32>().ok());
    let mut number = || numbers.next().flatten();
    std::process::exit(match (role.to_str(), number()) {
        (Some("outer"), None) => outer(),
        (Some("inner"), Some(order)) => inside::inner(order, number()),
        (Some(GUARD), Some(order)) => guard::guard(order, number(), number()),
        _ => 2,
    })
}

/// Ends this process with its parent thread, also after the kernel forgot that because our ids changed (prctl(2)).
pub(super) fn die_with_parent(control: &UnixStream) -> Result<()> {
    let failed = || "cannot tie a sandbox to its program".to_string();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).or_fail(Class::Engine, failed)?;
    // The parent may have gone before that.
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    match rustix::net::recv(control, &mut [0_u8; 1][..], flags) {
        Ok((_, 0)) => Err(Error::new(Class::Engine, "the program that a sandbox belongs to has gone")),
        _ => Ok(()),
    }
}

/// The other end of what this process was started with.
pub(super) fn control() -> Result<UnixStream> {
    let stdin = rustix::stdio::stdin().try_clone_to_owned();
    stdin.map(UnixStream::from).or_fail(Class::Engine, || "a sandbox was started by hand".into())
}

fn outer() -> i32 {
    if close_others().is_err() {
        return 2;
    }
    let Ok(control) = control() else { return 2 };
    let reply = obey(&control).unwrap_or_else(|error| Reply::Failed((&error).into()));
    // Nobody listens any more, if this fails.
    i32::from(wire::send(&control, &reply).is_err())
}

/// Closes what whoever started this program left open to it: through a folder that is open, a container would be outside.
fn close_others() -> std::io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in open.into_iter().filter(|number| *number > 2) {
        // (The list's own is closed already.)
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

fn obey(control: &UnixStream) -> Result<Reply> {
    let failed = || "cannot start a sandbox".to_string();
    die_with_parent(control)?;
    rustix::process::setsid().or_fail(Class::Engine, failed)?;
    rustix::process::umask(Mode::empty());
    let mut carried = Vec::new();
    let order: Option<Order> = wire::receive_with(control, &mut carried).or_fail(Class::Engine, failed)?;
    let order = order.ok_or_else(|| Error::new(Class::Engine, failed()))?;
    // From here on, what is on the way to it may be closed to us.
    rustix::process::chdir(&order.base).or_fail(Class::System, || format!("cannot enter {}", order.base.display()))?;
    let go = namespaces(&order, control)?;
    let places = Places { base: &order.base };
    // As yet with the rights of the user outside, which the files of the store belong to.
    let task = places.task(order.task)?;
    become_root(order.single)?;
    die_with_parent(control)?;
    let asked = match &task {
        Task::Run(run) => run.network.as_ref().map(|wanted| network::prepare(control, wanted, &go)).transpose()?.flatten(),
        _ => None,
    };
    let owners = !order.single;
    match task {
        Task::Run(run) => spawn_guard(&run, asked, carried.pop()),
        Task::Unpack(layer) => {
            let layer = place(layer)?;
            let tar = File::from(rustix::stdio::stdout().try_clone_to_owned().or_fail(Class::Engine, failed)?);
            let watch = Watch::of(layer.try_clone().ok(), &order.base, order.free);
            extract::extract(layer, tar, extract::Form::Layer, owners, watch).map(|()| Reply::Done)
        }
        Task::Put { root, replace } => {
            let tree = mounts::tree(&root)?;
            let tar = File::from(rustix::stdio::stdout().try_clone_to_owned().or_fail(Class::Engine, failed)?);
            // (An overlay's disk is that of the layer which is written.)
            let watch = Watch::of(tree.try_clone().ok(), &order.base, order.free);
            extract::extract(tree, tar, extract::Form::Tree { replace }, owners, watch).map(|()| Reply::Done)
        }
        Task::Pack(root) => {
            let below = if root.lowers.is_empty() { None } else { Some(mounts::tree(&Layers { upper: None, ..root.clone() })?) };
            let Some((upper, _)) = root.upper else { return Err(Error::new(Class::Engine, "a tree without a layer cannot be packed")) };
            write_tar(|out| pack::layer(place(upper)?, below, out))
        }
        Task::CopyOut { root, path } => {
            let tree = mounts::tree(&root)?;
            write_tar(|out| pack::subtree(&tree, &path, out))
        }
        Task::Find { root, path } => find(&mounts::tree(&root)?, &path).map(Reply::Found),
        Task::Init { root, dir } => {
            let tree = if root.lowers.is_empty() { None } else { Some(mounts::tree(&root)?) };
            let dir = place(dir)?;
            let needs: Vec<_> = stubs::usual().collect();
            stubs::fill(tree.as_ref(), &dir, &needs).map(|_| Reply::Done)
        }
        Task::Empty(dir) => {
            resolve::empty(place(dir)?).or_fail(Class::System, || "cannot remove the files of a container".into())?;
            Ok(Reply::Done)
        }
    }
}

/// Makes the namespaces and waits for the maps of ids, and for what connects its network.
fn namespaces(order: &Order, control: &UnixStream) -> Result<Go> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let mut own = false;
    if let Task::Run(run) = &order.task {
        own = run.network.is_some();
        flags |= CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
        if own {
            flags |= CloneFlags::CLONE_NEWNET;
        }
    }
    nix::sched::unshare(flags)
        .map_err(|error| Error::new(Class::Engine, "this machine lets this user make no user namespace").because(error).hint(refused()))?;
    if !order.mapped {
        let maps = [("setgroups", "deny".to_string()), ("uid_map", format!("0 {uid} 1\n")), ("gid_map", format!("0 {gid} 1\n"))];
        for (file, text) in maps {
            let written = fs::write(format!("/proc/self/{file}"), text);
            written.map_err(|error| Error::new(Class::Engine, format!("cannot write /proc/self/{file}")).because(error).hint(refused()))?;
        }
    }
    if order.mapped || own {
        let failed = || "cannot talk to the program that a sandbox belongs to".to_string();
        // Whoever connects the network must be able to open this process's namespaces.
        let open = |behavior| rustix::process::set_dumpable_behavior(behavior).or_fail(Class::Engine, failed);
        if own {
            open(DumpableBehavior::Dumpable)?;
        }
        wire::send(control, &Reply::Unshared).or_fail(Class::Engine, failed)?;
        let go: Option<Go> = wire::receive(control).or_fail(Class::Engine, failed)?;
        let go = go.ok_or_else(|| Error::new(Class::Engine, failed()))?;
        if go.wait {
            network::wait()?;
        }
        open(DumpableBehavior::NotDumpable)?;
        return Ok(go);
    }
    Ok(Go::default())
}

/// What may forbid user namespaces, as far as it can be seen.
pub(super) fn refused() -> String {
    let says = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let allow = |name: &str, value: &str| format!("an administrator allows it with `sysctl -w {name}={value}`");
    if says("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        allow("kernel.unprivileged_userns_clone", "1")
    } else if says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        allow("kernel.apparmor_restrict_unprivileged_userns", "0")
    } else if says("/proc/sys/user/max_user_namespaces", "0") {
        allow("user.max_user_namespaces", "10000")
    } else {
        "in a container, it must be started with `--privileged`, or `--security-opt seccomp=unconfined`; or use another engine".into()
    }
}

/// From the user outside to root inside, who is nobody outside.
fn become_root(single: bool) -> Result<()> {
    let failed = || "cannot become root of a user namespace".to_string();
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).or_fail(Class::Engine, failed)?;
    if !single {
        rustix::thread::set_thread_groups(&[]).or_fail(Class::Engine, failed)?;
    }
    rustix::thread::set_thread_res_uid(uid, uid, uid).or_fail(Class::Engine, failed)
}

fn write_tar(write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>) -> Result<Reply> {
    let failed = || "cannot write a tar".to_string();
    let out = rustix::stdio::stdout().try_clone_to_owned().or_fail(Class::Engine, failed)?;
    let mut out = BufWriter::with_capacity(256 << 10, File::from(out));
    write(&mut out)?;
    out.flush().or_fail(Class::System, failed)?;
    Ok(Reply::Done)
}

fn find(tree: &OwnedFd, path: &str) -> Result<Option<(bool, Option<String>)>> {
    let failed = || format!("cannot look for {path}");
    let follow = path.ends_with('/') || path.ends_with("/.");
    let real = resolve::real(tree, path.as_bytes(), follow).or_fail(Class::Engine, failed)?;
    let at = match resolve::open_plain(tree, &real, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        at => at.or_fail(Class::Engine, failed)?,
    };
    let found = rustix::fs::fstat(&at).or_fail(Class::Engine, failed)?;
    let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
    if !kind.is_symlink() {
        return Ok(Some((kind.is_dir(), None)));
    }
    let target = resolve::real(tree, &real, true).or_fail(Class::Engine, failed)?;
    let target = String::from_utf8(target).or_fail(Class::Engine, || format!("{path} leads to a name that is not UTF-8"))?;
    Ok(Some((false, Some(format!("/{target}")))))
}

struct Places<'a> {
    base: &'a Path,
}

impl Places<'_> {
    /// Opens a place for good, and for what this process executes, too.
    fn open(&self, path: &Path) -> Result<i32> {
        let near = path.strip_prefix(self.base).unwrap_or(path);
        let near = if near.as_os_str().is_empty() { Path::new(".") } else { near };
        let opened =
            rustix::fs::open(near, OFlags::PATH, Mode::empty()).or_fail(Class::System, || format!("cannot open {}", path.display()))?;
        Ok(std::os::fd::IntoRawFd::into_raw_fd(opened))
    }

    fn layers(&self, layers: Layers<PathBuf>) -> Result<Layers<i32>> {
        let upper = match layers.upper {
            Some((dir, work)) => Some((self.open(&dir)?, self.open(&work)?)),
            None => None,
        };
        Ok(Layers { lowers: layers.lowers.iter().map(|path| self.open(path)).collect::<Result<_>>()?, upper })
    }

    /// The task with descriptors instead of paths.
    fn task(&self, task: Task<PathBuf>) -> Result<Task<i32>> {
        Ok(match task {
            Task::Run(run) => Task::Run(Box::new(self.run(*run)?)),
            Task::Unpack(layer) => Task::Unpack(self.open(&layer)?),
            Task::Pack(root) => Task::Pack(self.layers(root)?),
            Task::Put { root, replace } => Task::Put { root: self.layers(root)?, replace },
            Task::Find { root, path } => Task::Find { root: self.layers(root)?, path },
            Task::CopyOut { root, path } => Task::CopyOut { root: self.layers(root)?, path },
            Task::Init { root, dir } => Task::Init { root: self.layers(root)?, dir: self.open(&dir)? },
            Task::Empty(dir) => Task::Empty(self.open(&dir)?),
        })
    }

    fn run(&self, run: Run<PathBuf>) -> Result<Run<i32>> {
        let mut mounts = Vec::new();
        for mount in run.mounts {
            mounts.push(match mount {
                Attach::Path { source, target, read_only } => Attach::Path { source: self.open(&source)?, target, read_only },
                Attach::Tree { source, path, target, read_only } => Attach::Tree { source: self.layers(source)?, path, target, read_only },
                Attach::Tmpfs { target, size } => Attach::Tmpfs { target, size },
                Attach::Socket { source, target, mode, uid, gid } => Attach::Socket { source: self.open(&source)?, target, mode, uid, gid },
                Attach::Secret { bytes, target, mode, uid, gid } => Attach::Secret { bytes, target, mode, uid, gid },
            });
        }
        Ok(Run {
            root: self.layers(run.root)?,
            mounts,
            cmd: run.cmd,
            env: run.env,
            user: run.user,
            workdir: run.workdir,
            hostname: run.hostname,
            terminal: run.terminal,
            network: run.network,
            script: run.script,
            single: run.single,
            resolv: run.resolv,
            hosts: run.hosts,
        })
    }
}

/// A descriptor of [`Places::open`], as one that nothing that is executed gets.
pub(super) fn place(number: i32) -> Result<OwnedFd> {
    let failed = || format!("lost the descriptor {number}");
    let opened = rustix::fs::open(format!("/proc/self/fd/{number}"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let opened = opened.or_fail(Class::Engine, failed)?;
    nix::unistd::close(number).or_fail(Class::Engine, failed)?;
    Ok(opened)
}

/// Starts the first process of the new pid namespace, and waits for it.
fn spawn_guard(run: &Run<i32>, asked: Option<OwnedFd>, input: Option<OwnedFd>) -> Result<Reply> {
    let failed = || "cannot start the first process of a container".to_string();
    let memory = rustix::fs::memfd_create("order", rustix::fs::MemfdFlags::empty()).or_fail(Class::Engine, failed)?;
    let mut order = File::from(memory);
    serde_json::to_writer(&mut order, run).or_fail(Class::Engine, failed)?;
    order.rewind().or_fail(Class::Engine, failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(MARKER).arg(GUARD).arg(order.as_raw_fd().to_string());
    for descriptor in [&asked, &input] {
        command.arg(match descriptor {
            Some(descriptor) => guard::for_others(descriptor)?.to_string(),
            None => guard::NONE.to_string(),
        });
    }
    let mut child = command.spawn().or_fail(Class::Engine, failed)?;
    drop((order, asked, input));
    let status = child.wait().or_fail(Class::Engine, failed)?;
    // It has said what there is to say, unless somebody killed it.
    Ok(Reply::Exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
}

/// The order of [`spawn_guard`].
pub(super) fn order(number: i32) -> Result<Run<i32>> {
    let failed = || "cannot read what is to be run".to_string();
    let mut json = Vec::new();
    let mut file = File::open(format!("/proc/self/fd/{number}")).or_fail(Class::Engine, failed)?;
    file.read_to_end(&mut json).or_fail(Class::Engine, failed)?;
    nix::unistd::close(number).or_fail(Class::Engine, failed)?;
    serde_json::from_slice(&json).or_fail(Class::Engine, failed)
}

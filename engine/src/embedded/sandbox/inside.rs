//! The first process of a container: puts its files together, gives up its rights, and becomes the command. When that
//! ends, the kernel ends the rest.

use super::enter::{control, die_with_parent, order, place};
use super::ids;
use super::mounts::{self, Opened, bind, ensure};
use super::resolve::{self, shown};
use super::seccomp;
use super::stubs::{self, Need};
use super::user::{self, User};
use super::wire::{self, Attach, Reply, Run};
use super::{attach, guard};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// As Docker's (moby, oci/caps/defaults.go).
const CAPABILITIES: [CapabilitySet; 14] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FSETID,
    CapabilitySet::FOWNER,
    CapabilitySet::MKNOD,
    CapabilitySet::NET_RAW,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::SETFCAP,
    CapabilitySet::SETPCAP,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::SYS_CHROOT,
    CapabilitySet::KILL,
    CapabilitySet::AUDIT_WRITE,
];
/// As Docker's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const OPEN_FILES: u64 = 1 << 20;
/// The status of a container that was never started, of `docker run`.
const UNSTARTED: i32 = 125;
/// What `apt` is told where there is one user only: not to become another one, as it looks whether it did. Whoever sets
/// `APT_CONFIG` says it himself; the RUN of `runtime-templates` takes it from this path.
const APT: (&str, &str) = ("/dev/twostage-apt.conf", "APT::Sandbox::User \"root\";\n");

/// The first process; `number` is the descriptor of its order.
pub(super) fn inner(number: i32, input: Option<i32>) -> i32 {
    let Ok(control) = control() else { return 2 };
    start(&control, number, input).unwrap_or_else(|error| {
        // Nobody listens any more, if this fails.
        let _ = wire::send(&control, &Reply::Failed((&error).into()));
        1
    })
}

/// Becomes the command, unless there is none: then it gives the status.
fn start(control: &UnixStream, number: i32, input: Option<i32>) -> Result<i32> {
    die_with_parent(control)?;
    let input = input.map(guard::taken).transpose()?;
    let run = order(number)?;
    let formats = Formats::of_this_machine();
    assemble(&run)?;
    let user = match user::find(&run.user, &user::read("/etc/passwd"), &user::read("/etc/group")) {
        Ok(user) => user,
        Err((why, hint)) => return Ok(refuse(control, &why, hint, UNSTARTED)),
    };
    let terminal = run.terminal.map(|size| terminal(control, size, &user)).transpose()?;
    settle(&run)?;
    give_up(&run, &user)?;
    die_with_parent(control)?;
    let workdir = if run.workdir.is_empty() { "/" } else { &run.workdir };
    if let Err(error) = rustix::process::chdir(workdir) {
        let why = format!("chdir to cwd ({workdir:?}) failed: {}", words(&error.into()));
        let (hint, code) = match error {
            rustix::io::Errno::ACCESS => ("choose a folder that this user may enter, or another user", 126),
            rustix::io::Errno::NOENT => ("choose a folder that the image has", 127),
            _ => ("choose a folder of the image", UNSTARTED),
        };
        return Ok(refuse(control, &why, hint, code));
    }
    let env = environment(&run, &user);
    let program = match program(&run.cmd[0], env.get("PATH").map_or("", String::as_str)) {
        Ok(program) => program,
        Err((why, code)) => return Ok(refuse(control, &why, program_hint(code), code)),
    };
    if formats.refuse(&program) {
        return Ok(refuse(
            control,
            &format!("exec {}: exec format error", program.display()),
            "it is a program for another machine than this one, or a script without `#!` in its first line",
            126,
        ));
    }
    let mut command = Command::new(&program);
    command.arg0(&run.cmd[0]).args(&run.cmd[1..]).env_clear().envs(&env).stdin(input.map_or_else(Stdio::null, Stdio::from));
    if let Some(terminal) = &terminal {
        sit_before(terminal, &mut command)?;
    }
    wire::send(control, &Reply::Started).or_fail(Class::Engine, || "cannot talk to the program that a sandbox belongs to".into())?;
    let error = command.exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    // The program is there, so it is what runs it that is not: an interpreter, or a loader of libraries.
    let hint = if code == 127 {
        "what its first line, or the program itself, names to run it with is not in the image"
    } else {
        program_hint(code)
    };
    Ok(refuse(control, &format!("exec {}: {}", program.display(), words(&error)), hint, code))
}

/// Makes a terminal of the container's own, which is the user's; hands out its other end.
fn terminal(control: &UnixStream, size: (u16, u16), user: &User) -> Result<OwnedFd> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let failed = || "cannot make a terminal for a container".to_string();
    let ours =
        rustix::fs::open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).or_fail(Class::Engine, failed)?;
    unlockpt(&ours).or_fail(Class::Engine, failed)?;
    let theirs = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).or_fail(Class::Engine, failed)?;
    attach::resize(&theirs, size).or_fail(Class::Engine, failed)?;
    // A namespace of one id has nobody to give it to.
    let _ = rustix::fs::fchown(&theirs, Some(Uid::from_raw(user.uid)), None);
    wire::send_with(control, &Reply::Terminal, &[ours.as_fd()]).or_fail(Class::Engine, failed)?;
    Ok(theirs)
}

/// Makes a terminal the command's: what it reads and writes, and where its signals come from.
fn sit_before(terminal: &OwnedFd, command: &mut Command) -> Result<()> {
    let failed = || "cannot give a terminal to a command".to_string();
    rustix::process::setsid().or_fail(Class::Engine, failed)?;
    rustix::process::ioctl_tiocsctty(terminal).or_fail(Class::Engine, failed)?;
    let copy = || terminal.try_clone().map(Stdio::from).or_fail(Class::Engine, failed);
    command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
    Ok(())
}

/// Says why there is no command, and what mends it; gives the status.
fn refuse(control: &UnixStream, why: &str, hint: &str, code: i32) -> i32 {
    // Nobody listens any more, if this fails.
    let _ = wire::send(control, &Reply::Refused { why: why.into(), hint: hint.into(), code });
    code
}

/// What mends a command whose program is not there (127), or may not be run.
fn program_hint(code: i32) -> &'static str {
    if code == 127 {
        "name a program that the image has: by its path, or one in a folder of $PATH"
    } else {
        "it must be a file that this user may execute: `chmod +x` in the Dockerfile makes it one"
    }
}

/// An error as people say it, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Mounts everything and makes it the root.
fn assemble(run: &Run<i32>) -> Result<()> {
    let failed = || "cannot make the files of a container".to_string();
    let layers = Opened::new(&run.root)?;
    let mut sources = Vec::new();
    for mount in &run.mounts {
        sources.push(match mount {
            Attach::Path { source, .. } | Attach::Socket { source, .. } => Source::Place(place(*source)?),
            Attach::Tree { source, .. } => Source::Tree(Opened::new(source)?),
            Attach::Tmpfs { .. } | Attach::Secret { .. } => Source::Nothing,
        });
    }
    let stage = mounts::stage()?;
    // Where the sources are known, so is what their mount points are.
    let mut made = Vec::new();
    for (at, (mount, source)) in run.mounts.iter().zip(sources).enumerate() {
        made.push(prepare(&stage, at, mount, source, run.single)?);
    }
    let over = mount_points(run, &made, &layers, &stage)?;
    let root = mounts::overlay(&stage, "root", &layers, over.as_ref())?;
    mounts::system(&root, run.network.is_some(), run.single)?;
    // Before anything is mounted that somebody chose.
    mounts::mask(&root)?;
    let files = mounts::room(&stage, "files")?;
    for (name, bytes) in [("resolv.conf", &run.resolv[..]), ("hosts", &run.hosts), ("hostname", format!("{}\n", run.hostname).as_bytes())] {
        let source = write(&files, name, bytes, 0o644)?;
        let path = format!("/etc/{name}");
        bind(&source, &ensure(&root, &path, false)?, &path)?;
    }
    if let Some((path, text)) = &run.script {
        let Some(name) = path.strip_prefix("/dev/") else {
            return Err(Error::new(Class::Engine, format!("cannot write the script {path}: scripts are below /dev")));
        };
        let dev = resolve::open_in(&root, b"dev", OFlags::PATH | OFlags::DIRECTORY).or_fail(Class::Engine, failed)?;
        let (folder, name) = resolve::split(name.as_bytes());
        let folder = resolve::make_folders(&dev, folder, Mode::from_raw_mode(0o755)).or_fail(Class::Engine, failed)?;
        write(&folder, &String::from_utf8_lossy(name), text.as_bytes(), 0o755)?;
    }
    if run.single {
        let dev = resolve::open_in(&root, b"dev", OFlags::PATH | OFlags::DIRECTORY).or_fail(Class::Engine, failed)?;
        write(&dev, APT.0.trim_start_matches("/dev/"), APT.1.as_bytes(), 0o644)?;
    }
    for (mount, made) in run.mounts.iter().zip(&made) {
        attach(&root, mount, made)?;
    }
    rustix::process::fchdir(&root).or_fail(Class::Engine, failed)?;
    rustix::process::pivot_root(".", ".").or_fail(Class::Engine, failed)?;
    unmount(".", UnmountFlags::DETACH).or_fail(Class::Engine, failed)?;
    rustix::process::chdir("/").or_fail(Class::Engine, failed)
}

enum Source {
    Place(OwnedFd),
    Tree(Opened),
    Nothing,
}

/// A source that can be mounted, and what kind of mount point it takes.
struct Prepared {
    source: Option<OwnedFd>,
    folder: bool,
}

fn prepare(stage: &OwnedFd, at: usize, mount: &Attach<i32>, source: Source, single: bool) -> Result<Prepared> {
    let kind = |source: OwnedFd, what: &str| {
        let found = rustix::fs::fstat(&source).or_fail(Class::Engine, || format!("cannot look at {what}"))?;
        Ok(Prepared { folder: FileType::from_raw_mode(found.st_mode).is_dir(), source: Some(source) })
    };
    match (mount, source) {
        (Attach::Path { target, .. }, Source::Place(place)) => kind(place, &format!("what is to be mounted at {target}")),
        (Attach::Tree { path, target, .. }, Source::Tree(layers)) => {
            let root = mounts::overlay(stage, &format!("tree-{at}"), &layers, None)?;
            let source = resolve::open_in(&root, path.trim_start_matches('/').as_bytes(), OFlags::PATH);
            kind(source.or_fail(Class::Build, || format!("cannot mount {path} at {target}"))?, path)
        }
        (Attach::Socket { target, mode, uid, gid, .. }, Source::Place(place)) => {
            let failed = || format!("cannot mount the socket at {target}");
            let owner = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
            if !single {
                let given = rustix::fs::chownat(&place, "", owner.0, owner.1, rustix::fs::AtFlags::EMPTY_PATH);
                given.map_err(|error| {
                    Error::new(Class::Build, failed()).because(ids::refused(error, *uid, *gid, "cannot give it its owner"))
                })?;
            }
            let mode = Mode::from_raw_mode(*mode);
            rustix::fs::chmod(mounts::path(&shown(&place, b"")), mode).or_fail(Class::Engine, failed)?;
            Ok(Prepared { source: Some(place), folder: false })
        }
        (Attach::Secret { bytes, target, mode, uid, gid }, _) => {
            let files = mounts::room(stage, "secrets")?;
            let name = at.to_string();
            let source = write(&files, &name, bytes, *mode)?;
            let owner = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
            let given = rustix::fs::chownat(&files, &name, owner.0, owner.1, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            // (A namespace of one id has nobody to give it to.)
            if let Err(error) = given
                && !single
            {
                let refused = ids::refused(error, *uid, *gid, "cannot give it its owner");
                return Err(Error::new(Class::Build, format!("cannot mount the secret at {target}")).because(refused));
            }
            Ok(Prepared { source: Some(source), folder: false })
        }
        _ => Ok(Prepared { source: None, folder: true }),
    }
}

/// The layer of mount points that the image lacks, if it lacks any.
fn mount_points(run: &Run<i32>, made: &[Prepared], layers: &Opened, stage: &OwnedFd) -> Result<Option<OwnedFd>> {
    let targets = run.mounts.iter().zip(made).map(|(mount, made)| {
        let target = match mount {
            Attach::Path { target, .. }
            | Attach::Tree { target, .. }
            | Attach::Tmpfs { target, .. }
            | Attach::Socket { target, .. }
            | Attach::Secret { target, .. } => target,
        };
        (target.clone(), if made.folder { Need::Folder } else { Need::File })
    });
    let needs: Vec<_> = stubs::usual().chain(targets).collect();
    let view = mounts::view(stage, "view", layers)?;
    let points = mounts::room(stage, "points")?;
    let any = stubs::fill(Some(&view), &points, &needs)?;
    // The upper layer must not be looked at while it is written.
    drop(view);
    unmount(shown(stage, b"view"), UnmountFlags::DETACH).or_fail(Class::Engine, || "cannot make mount points".into())?;
    Ok(any.then_some(points))
}

fn attach(root: &OwnedFd, mount_: &Attach<i32>, made: &Prepared) -> Result<()> {
    let (Attach::Path { target, .. }
    | Attach::Tree { target, .. }
    | Attach::Tmpfs { target, .. }
    | Attach::Socket { target, .. }
    | Attach::Secret { target, .. }) = mount_;
    mounts::may_be_covered(root, target)?;
    match (mount_, &made.source) {
        (Attach::Path { target, read_only, .. } | Attach::Tree { target, read_only, .. }, Some(source)) => {
            bind(source, &ensure(root, target, made.folder)?, target)?;
            if *read_only {
                // Looked for again, as it is hidden by what is mounted there now.
                let failed = || format!("cannot make {target} read-only");
                let at = resolve::open_in(root, target.trim_start_matches('/').as_bytes(), OFlags::PATH).or_fail(Class::Engine, failed)?;
                mounts::read_only(mounts::path(&shown(&at, b""))).or_fail(Class::Engine, failed)?;
                mounts::read_only_below(&at, target)?;
            }
            Ok(())
        }
        (Attach::Secret { target, .. } | Attach::Socket { target, .. }, Some(source)) => {
            bind(source, &ensure(root, target, false)?, target)
        }
        (Attach::Tmpfs { target, size }, _) => {
            let at = ensure(root, target, true)?;
            let failed = || format!("cannot mount memory at {target}");
            let options = size.map_or_else(|| "mode=1777".to_string(), |size| format!("mode=1777,size={size}"));
            let options = std::ffi::CString::new(options).or_fail(Class::Engine, failed)?;
            mount("tmpfs", shown(&at, b""), "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &options[..]).or_fail(Class::Engine, failed)
        }
        (_, None) => Ok(()),
    }
}

fn write(folder: &OwnedFd, name: &str, bytes: &[u8], mode: u32) -> Result<OwnedFd> {
    let failed = || format!("cannot write {name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode)).or_fail(Class::Engine, failed)?;
    let mut file = File::from(file);
    file.write_all(bytes).or_fail(Class::Engine, failed)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).or_fail(Class::Engine, failed)?;
    resolve::open_plain(folder, name.as_bytes(), OFlags::PATH).or_fail(Class::Engine, failed)
}

/// What a process has besides files and rights.
fn settle(run: &Run<i32>) -> Result<()> {
    rustix::system::sethostname(run.hostname.as_bytes()).or_fail(Class::Engine, || format!("cannot name a container {}", run.hostname))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // As Docker's, or what this user may have.
    let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(OPEN_FILES);
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Nofile, limit).or_fail(Class::Engine, || "cannot limit a container's open files".into())
}

/// Becomes the command's user, with no more rights than a container of Docker's has.
fn give_up(run: &Run<i32>, user: &User) -> Result<()> {
    let failed = || "cannot give up rights for a container".to_string();
    let become_user = |error| {
        let refused = ids::refused(error, user.uid, user.gid, failed());
        Error::new(Class::Build, format!("cannot run a command as user {}", user.uid)).because(refused)
    };
    if run.single && (user.uid, user.gid) != (0, 0) {
        be_called(user)?;
    }
    let kept = CAPABILITIES.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        let known = rustix::thread::capability_is_in_bounding_set(one);
        if known == Ok(true) && !kept.contains(one) {
            rustix::thread::remove_capability_from_bounding_set(one).or_fail(Class::Engine, failed)?;
        }
    }
    if !run.single {
        let gid = Gid::from_raw(user.gid);
        let mut groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        rustix::thread::set_thread_groups(&groups).map_err(become_user)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(become_user)?;
    }
    if run.network.is_none() {
        own_sockets()?;
    }
    // Still with the right to be confined without more ado.
    seccomp::confine(run.single)?;
    if user.uid != 0 {
        let uid = Uid::from_raw(user.uid);
        for output in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
            // As runc does, for whoever opens /dev/stdout. What does not change its owner can still be written to.
            let _ = rustix::fs::fchown(output, Some(uid), None);
        }
        if run.single {
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            return rustix::thread::set_capabilities(None, sets).or_fail(Class::Engine, failed);
        }
        return rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(become_user);
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).or_fail(Class::Engine, failed)
}

/// Gives the only user another number, in one more user namespace: all files look like that user's then, and are root's
/// in the layer. (It comes with all rights anew, so it is entered before any are given up.)
fn be_called(user: &User) -> Result<()> {
    let failed = || format!("cannot run a command as user {}", user.uid);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).or_fail(Class::Engine, failed)?;
    let maps = [("setgroups", "deny".to_string()), ("uid_map", format!("{} 0 1\n", user.uid)), ("gid_map", format!("{} 0 1\n", user.gid))];
    maps.iter().try_for_each(|(file, text)| fs::write(format!("/proc/self/{file}"), text)).or_fail(Class::Engine, failed)
}

/// On the machine's network, sockets that have a name and no path would be the machine's, too, and programs there take a
/// user's word: only those of the container are left. Kernels before 6.12 cannot tell them apart.
fn own_sockets() -> Result<()> {
    use landlock::{RulesetAttr as _, Scope};
    let ruleset = landlock::Ruleset::default().scope(Scope::AbstractUnixSocket).and_then(landlock::Ruleset::create);
    let restricted = ruleset.and_then(landlock::RulesetCreated::restrict_self);
    restricted.map(drop).or_fail(Class::Engine, || "cannot keep a container away from the machine's sockets".into())
}

fn environment(run: &Run<i32>, user: &User) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = run.env.iter().cloned().collect();
    let mut usual = vec![("PATH", PATH), ("HOME", &user.home), ("HOSTNAME", &run.hostname)];
    if run.single {
        usual.push(("APT_CONFIG", APT.0));
    }
    for (name, value) in usual {
        env.entry(name.into()).or_insert_with(|| value.into());
    }
    env
}

/// What this machine runs. The C library hands to a shell what the kernel refuses; Docker says that it is refused.
struct Formats {
    /// The machine that our own program is for (elf(5), `e_machine`).
    machine: Option<[u8; 2]>,
    /// Somebody has told the kernel who runs other formats (binfmt_misc).
    others: bool,
}

impl Formats {
    fn of_this_machine() -> Formats {
        let mut told = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
        let others = told.any(|entry| entry.file_name() != "register" && entry.file_name() != "status");
        Formats { machine: head(Path::new("/proc/self/exe")).and_then(|head| head.get(18..20)?.try_into().ok()), others }
    }

    /// Whether the kernel will refuse a program. What cannot be read it is asked to run.
    fn refuse(&self, program: &Path) -> bool {
        let Some(head) = head(program) else { return false };
        if head.starts_with(b"#!") || self.others {
            return false;
        }
        !head.starts_with(b"\x7fELF") || self.machine.is_some_and(|machine| head.get(18..20) != Some(&machine))
    }
}

/// The first bytes of a file.
fn head(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(20).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Where a program is, found as Go's LookPath finds it, which Docker uses; else its sentence, and a shell's status.
fn program(name: &str, path: &str) -> std::result::Result<PathBuf, (String, i32)> {
    let runs = |path: &Path| match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(_) => rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(Into::into),
        Err(error) => Err(error),
    };
    if name.contains('/') {
        let code = |error: &io::Error| if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        return runs(Path::new(name)).map(|()| name.into()).map_err(|error| (format!("exec: {name:?}: {}", words(&error)), code(&error)));
    }
    let mut folders = path.split(':').filter(|folder| folder.starts_with('/')).map(|folder| Path::new(folder).join(name));
    folders
        .find(|path| !name.is_empty() && runs(path).is_ok())
        .ok_or_else(|| (format!("exec: {name:?}: executable file not found in $PATH"), 127))
}

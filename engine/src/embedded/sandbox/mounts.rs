//! What is mounted where: the layers, and what every container finds in `/dev`, `/proc`, `/sys` and `/etc`.

use super::enter::{place, refused};
use super::resolve::{self, shown};
use super::wire::Layers;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount};
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Folders that every machine has; one of them is covered, in our own mount namespace, by what is put together.
const STAGES: [&str; 5] = ["/tmp", "/mnt", "/run", "/var", "/etc"];
/// What the kernel takes as the options of a mount: a page, with the end of the text.
const MAX_OPTIONS: usize = 4095;

/// As Docker's default (moby, oci/defaults.go).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Our own folder in memory, out of the way of whatever is mounted.
pub(super) fn stage() -> Result<OwnedFd> {
    let failed = || "cannot mount anything in a user namespace".to_string();
    let changed = mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
    changed.map_err(|error| Error::new(Class::Engine, failed()).because(error).hint(refused()))?;
    let mut last = Errno::NOENT;
    for stage in STAGES {
        match mount("tmpfs", stage, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755") {
            Ok(()) => return rustix::fs::open(stage, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).or_fail(Class::Engine, failed),
            Err(error) => last = error,
        }
    }
    Err(Error::new(Class::Engine, failed()).because(last).hint(refused()))
}

/// A new folder in the stage.
pub(super) fn room(stage: impl AsFd, name: &str) -> Result<OwnedFd> {
    resolve::make_folders(stage, name.as_bytes(), Mode::from_raw_mode(0o755)).or_fail(Class::Engine, || format!("cannot make {name}"))
}

/// Mounts layers for a task that only looks at them or writes files.
pub(super) fn tree(layers: &Layers<i32>) -> Result<OwnedFd> {
    let stage = stage()?;
    overlay(&stage, "tree", &Opened::new(layers)?, None)
}

/// Layers whose descriptors are ours.
pub(super) struct Opened {
    lowers: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
}

impl Opened {
    pub(super) fn new(layers: &Layers<i32>) -> Result<Opened> {
        let upper = match layers.upper {
            Some((dir, work)) => Some((place(dir)?, place(work)?)),
            None => None,
        };
        Ok(Opened { lowers: layers.lowers.iter().map(|number| place(*number)).collect::<Result<_>>()?, upper })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.upper.is_some()
    }
}

/// Mounts layers in the stage, with `over` above the lower ones; gives the root.
pub(super) fn overlay(stage: impl AsFd, name: &str, layers: &Opened, over: Option<&OwnedFd>) -> Result<OwnedFd> {
    overlay_of(stage, name, layers, over, layers.is_writable())
}

/// Mounts layers as they are, the upper one too, but only to be looked at.
pub(super) fn view(stage: impl AsFd, name: &str, layers: &Opened) -> Result<OwnedFd> {
    overlay_of(stage, name, layers, None, false)
}

fn overlay_of(stage: impl AsFd, name: &str, layers: &Opened, over: Option<&OwnedFd>, writable: bool) -> Result<OwnedFd> {
    let target = room(&stage, name)?;
    // An overlay that nothing can be written to takes two layers at least.
    let nothing = room(&stage, &format!("{name}-empty"))?;
    let mut lowers: Vec<&OwnedFd> = Vec::new();
    if !writable {
        lowers.extend(layers.upper.iter().map(|(dir, _)| dir));
    }
    lowers.extend(over);
    lowers.extend(layers.lowers.iter().rev());
    while lowers.is_empty() || (!writable && lowers.len() < 2) {
        lowers.push(&nothing);
    }
    let lowers: Vec<Vec<u8>> = lowers.iter().map(|lower| shown(lower, b"")).collect();
    // (`redirect_dir=off` may mean that redirects of others are followed, which does not go with `userxattr`.)
    let mut options = b"userxattr,redirect_dir=nofollow,metacopy=off,index=off,lowerdir=".to_vec();
    options.extend(lowers.join(&b':'));
    if let Some((dir, work)) = layers.upper.as_ref().filter(|_| writable) {
        // A mount that asked for no `fsync` leaves a mark that forbids the next one (overlayfs.rst, volatile mount).
        match resolve::open_plain(work, b"work", OFlags::PATH | OFlags::DIRECTORY) {
            Ok(inner) => match resolve::remove(&inner, b"incompat") {
                Err(error) if error != Errno::NOENT => return Err(Error::system("cannot prepare an overlay", error)),
                _ => {}
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::system("cannot prepare an overlay", error)),
        }
        options.extend([b",upperdir=", &shown(dir, b"")[..], b",workdir=", &shown(work, b"")].concat());
    }
    let mut mounted = Err(Errno::INVAL);
    if writable {
        // Whoever wants to keep the layer writes it to the disk when it is done; nobody wants half of it.
        mounted = mount_overlay(&target, &[&options[..], b",volatile"].concat());
    }
    if mounted == Err(Errno::INVAL) {
        mounted = mount_overlay(&target, &options);
    }
    mounted.map_err(|error| {
        let error_text = if options.len() > MAX_OPTIONS { format!("{} layers are too many", lowers.len()) } else { error.to_string() };
        Error::new(Class::Engine, "cannot mount the layers of an image in a user namespace")
            .because(error_text)
            .hint("it takes Linux 5.11 and a file system with extended attributes, such as ext4, xfs or btrfs: put the store on one")
    })?;
    resolve::open_plain(stage, name.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
        .or_fail(Class::Engine, || "cannot enter an overlay".into())
}

fn mount_overlay(target: &OwnedFd, options: &[u8]) -> rustix::io::Result<()> {
    if options.len() > MAX_OPTIONS {
        return Err(Errno::TOOBIG);
    }
    let options = CString::new(options).map_err(|_| Errno::ILSEQ)?;
    mount("overlay", shown(target, b""), "overlay", MountFlags::empty(), &options[..])
}

/// What is at a path of the root, made if it is missing: a folder, or an empty file.
pub(super) fn ensure(root: &OwnedFd, path: &str, folder: bool) -> Result<OwnedFd> {
    let failed = || format!("cannot make the mount point {path}");
    let real = resolve::real(root, path.as_bytes(), true).or_fail(Class::Engine, failed)?;
    match resolve::open_plain(root, &real, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => {}
        found => {
            let found = found.or_fail(Class::Engine, failed)?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).or_fail(Class::Engine, failed)?.st_mode);
            if kind.is_dir() != folder {
                let (is, wanted) = if folder { ("no folder", "one") } else { ("a folder", "a file") };
                return Err(Error::new(Class::Build, format!("cannot mount at {path}: it is {is}, and what is mounted is {wanted}"))
                    .hint("give the mount another target"));
            }
            return Ok(found);
        }
    }
    let (parent, name) = resolve::split(&real);
    let parent = resolve::make_folders(root, parent, Mode::from_raw_mode(0o755)).or_fail(Class::Engine, failed)?;
    if folder {
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).or_fail(Class::Engine, failed)?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).or_fail(Class::Engine, failed)?;
    }
    resolve::open_plain(&parent, name, OFlags::PATH | OFlags::NOFOLLOW).or_fail(Class::Engine, failed)
}

/// Mounts one place at another.
pub(super) fn bind(source: impl AsFd, target: &OwnedFd, what: &str) -> Result<()> {
    mount_bind_recursive(shown(&source, b""), shown(target, b"")).or_fail(Class::Engine, || format!("cannot mount {what}"))
}

/// `/dev`, `/proc` and `/sys` of a container (OCI runtime-spec, config-linux.md, and Docker's defaults).
pub(super) fn system(root: &OwnedFd, own_network: bool, single: bool) -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in ["/proc", "/sys", "/dev"] {
        let real = resolve::real(root, path.as_bytes(), true).or_fail(Class::Engine, || format!("cannot look at {path}"))?;
        // Else what is hidden there could be found elsewhere (CVE-2019-19921).
        if real != path.as_bytes()[1..] {
            return Err(Error::new(Class::Build, format!("cannot make a container of an image whose {path} is a link"))
                .hint("remove the link from the image"));
        }
    }
    let proc = ensure(root, "/proc", true)?;
    mount("proc", shown(&proc, b""), "proc", safe, None).map_err(|error| {
        Error::new(Class::Engine, "cannot mount /proc for a container")
            .because(error)
            .hint("in a container, the engine must be started with `--security-opt systempaths=unconfined`, or `--privileged`")
    })?;
    dev(root, single)?;
    let sys = ensure(root, "/sys", true)?;
    let own = own_network && mount("sysfs", shown(&sys, b""), "sysfs", safe | MountFlags::RDONLY, None).is_ok();
    if !own {
        // A new one belongs to whom the network belongs to.
        mount_bind_recursive("/sys", shown(&sys, b"")).or_fail(Class::Engine, || "cannot mount /sys for a container".into())?;
    }
    Ok(())
}

fn dev(root: &OwnedFd, single: bool) -> Result<()> {
    let failed = || "cannot make /dev for a container".to_string();
    let at = ensure(root, "/dev", true)?;
    let flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
    mount("tmpfs", shown(&at, b""), "tmpfs", flags, c"mode=755,size=65536k").or_fail(Class::Engine, failed)?;
    // What is mounted at the place is only seen by whoever comes there anew.
    let dev = resolve::open_in(root, b"dev", OFlags::PATH | OFlags::DIRECTORY).or_fail(Class::Engine, failed)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let target = ensure(&dev, name, false)?;
        mount_bind_recursive(format!("/dev/{name}"), shown(&target, b"")).or_fail(Class::Engine, || format!("cannot mount /dev/{name}"))?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        rustix::fs::symlinkat(target, &dev, name).or_fail(Class::Engine, failed)?;
    }
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let pts = ensure(&dev, "pts", true)?;
    // Group 5 is `tty` everywhere; a namespace of one id has none.
    let options = if single { c"newinstance,ptmxmode=0666,mode=0620" } else { c"newinstance,ptmxmode=0666,mode=0620,gid=5" };
    mount("devpts", shown(&pts, b""), "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options).or_fail(Class::Engine, failed)?;
    let shm = ensure(&dev, "shm", true)?;
    mount("shm", shown(&shm, b""), "tmpfs", safe, c"mode=1777,size=65536k").or_fail(Class::Engine, failed)?;
    let queue = ensure(&dev, "mqueue", true)?;
    mount("mqueue", shown(&queue, b""), "mqueue", safe, None).or_fail(Class::Engine, failed)
}

/// Hides and protects what Docker does, when nothing else is mounted in the root yet.
pub(super) fn mask(root: &OwnedFd) -> Result<()> {
    let failed = |path: &str| format!("cannot hide {path} from a container");
    cover_mounts_of_sys(root)?;
    for path in MASKED {
        if let Some(at) = at(root, path)? {
            cover(&at, path)?;
        }
    }
    for path in READ_ONLY.into_iter().chain(["/sys"]) {
        let Some(place) = at(root, path)? else { continue };
        if path != "/sys" {
            bind(&place, &place, path)?;
        }
        // Looked for again, as it is hidden by what is mounted there now.
        let place = at(root, path)?.unwrap_or(place);
        read_only(self::path(&shown(&place, b""))).or_fail(Class::Engine, || failed(path))?;
    }
    Ok(())
}

/// What is at a path with no link in it, if it is there.
fn at(root: &OwnedFd, path: &str) -> Result<Option<OwnedFd>> {
    match resolve::open_plain(root, path.trim_start_matches('/').as_bytes(), OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => found.map(Some).or_fail(Class::Engine, || format!("cannot hide {path} from a container")),
    }
}

/// Whether something may be mounted there: never over what shows the kernel, or over everything.
pub(super) fn may_be_covered(root: &OwnedFd, path: &str) -> Result<()> {
    let real = resolve::real(root, path.as_bytes(), true).or_fail(Class::Engine, || format!("cannot mount at {path}"))?;
    match real.split(|byte| *byte == b'/').next() {
        Some(b"" | b"proc" | b"sys") => {
            Err(Error::new(Class::Build, format!("cannot mount at {path}: /proc, /sys and / are the engine's"))
                .hint("give the mount another target"))
        }
        _ => Ok(()),
    }
}

fn cover(at: &OwnedFd, path: &str) -> Result<()> {
    let failed = || format!("cannot hide {path} from a container");
    let kind = FileType::from_raw_mode(rustix::fs::fstat(at).or_fail(Class::Engine, failed)?.st_mode);
    let covered = if kind.is_dir() {
        let safe = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", shown(at, b""), "tmpfs", safe, c"mode=755,size=0")
    } else {
        // (The machine's: nothing is entered yet.)
        mount_bind_recursive("/dev/null", shown(at, b""))
    };
    covered.or_fail(Class::Engine, failed)
}

/// What else the machine has mounted below /sys is not the container's: control groups, debugging, firmware.
fn cover_mounts_of_sys(root: &OwnedFd) -> Result<()> {
    let failed = || "cannot see what is mounted in /sys".to_string();
    let sys = at(root, "/sys")?.ok_or_else(|| Error::new(Class::Engine, failed()))?;
    let below = mounts_below(&sys).or_fail(Class::Engine, failed)?;
    let mut covered: Vec<&[u8]> = Vec::new();
    for (_, point) in &below {
        if !covered.iter().any(|above| point.starts_with(&[above, &b"/"[..]].concat())) {
            let place = resolve::open_plain(&sys, point, OFlags::PATH | OFlags::NOFOLLOW).or_fail(Class::Engine, failed)?;
            cover(&place, "what is mounted in /sys")?;
            covered.push(point);
        }
    }
    Ok(())
}

/// The mounts below a place, with their numbers and their paths from there, in the order in which they were made
/// (proc_pid_mountinfo(5)).
fn mounts_below(place: &OwnedFd) -> std::io::Result<Vec<(u64, Vec<u8>)>> {
    let above = [&fs::read_link(path(&shown(place, b"")))?.into_os_string().into_encoded_bytes()[..], b"/"].concat();
    let table = fs::read("/proc/self/mountinfo")?;
    let mut below = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ');
        let number = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        let (Some(number), Some(point)) = (number, words.nth(3).map(plain)) else { continue };
        if let Some(point) = point.strip_prefix(&above[..]) {
            below.push((number, point.to_vec()));
        }
    }
    Ok(below)
}

/// A word of the kernel's table as it is: blanks and backslashes are three octal digits there.
fn plain(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

/// Makes all mounts below a place read-only, as Docker does. mount_setattr(2) does it at once, but safe Rust has no way
/// to call it; nobody else mounts anything in this namespace meanwhile.
pub(super) fn read_only_below(place: &OwnedFd, target: &str) -> Result<()> {
    for (number, point) in mounts_below(place).or_fail(Class::Engine, || format!("cannot see what is mounted below {target}"))? {
        let failed = || format!("cannot make {target}/{} read-only", String::from_utf8_lossy(&point));
        let at = match resolve::open_plain(place, &point, OFlags::PATH | OFlags::NOFOLLOW) {
            // Something is mounted above it, so that nobody gets there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            at => at.or_fail(Class::Engine, failed)?,
        };
        // The same, where there is something else at its path now.
        if mount_of(&at).or_fail(Class::Engine, failed)? == Some(number) {
            read_only(path(&shown(&at, b""))).or_fail(Class::Engine, failed)?;
        }
    }
    Ok(())
}

/// The number of the mount that a descriptor is on.
fn mount_of(at: &OwnedFd) -> std::io::Result<Option<u64>> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", at.as_raw_fd()))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}

/// Makes one mount read-only, and keeps what it is else: a user namespace may take nothing away from it.
pub(super) fn read_only(path: impl AsRef<Path>) -> rustix::io::Result<()> {
    let path = path.as_ref();
    let found = rustix::fs::statvfs(path)?;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    let kept = [
        (rustix::fs::StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (rustix::fs::StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (rustix::fs::StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (rustix::fs::StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (rustix::fs::StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    for (has, keep) in kept {
        if found.f_flag.contains(has) {
            flags |= keep;
        }
    }
    mount_remount(path, flags, c"")
}

/// The machine's name servers, as a container on its network sees them.
pub(super) fn resolv() -> Vec<u8> {
    fs::read("/etc/resolv.conf").unwrap_or_default()
}

/// The same for a container that asks for names at `server`: what else it says is kept.
pub(super) fn resolv_by(server: std::net::Ipv4Addr, machine: &[u8]) -> Vec<u8> {
    let mut own = format!("nameserver {server}\n").into_bytes();
    for line in machine.split_inclusive(|byte| *byte == b'\n') {
        if !line.trim_ascii_start().starts_with(b"nameserver") {
            own.extend(line);
        }
    }
    own
}

/// `/etc/hosts` of a container: the machine's on its network, as Docker does, and always the container's own name.
pub(super) fn hosts(hostname: &str, alone: bool) -> Vec<u8> {
    const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    let machine = if alone { None } else { fs::read("/etc/hosts").ok() };
    let mut hosts = machine.filter(|hosts| !hosts.is_empty()).unwrap_or_else(|| LOCAL.into());
    let known = hosts.split(|byte| byte.is_ascii_whitespace()).any(|word| word == hostname.as_bytes());
    if !known {
        if hosts.last() != Some(&b'\n') {
            hosts.push(b'\n');
        }
        hosts.extend(format!("127.0.1.1\t{hostname}\n").into_bytes());
    }
    hosts
}

/// A path of bytes.
pub(super) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_mount_point_with_blanks_is_read_as_it_is() {
        assert_eq!(super::plain(br"/a\040b\134040\x\12"), br"/a b\040\x\12");
    }
}

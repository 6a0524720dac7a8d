//! How much of the machine a container may have: a control group for each, where the kernel lets this user make one.
//!
//! ```text
//! version 1    pids and memory are two trees: a group below ours in each
//! version 2    one tree: a group in the nearest one above us that gives its members limits, as ours may not do that
//!              while it has processes
//! ```
//!
//! A group is locked by the program that made it for as long as that lives. The next run ends what is left in those that
//! nobody has locked, and removes them: a killed program leaves a group at most, and only until then.

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the folders of our groups are called, before a number.
const NAME: &str = "twostage-";
/// As podman's and docker's services have it: builds never need it, and a fork bomb ends there.
const PROCESSES: u64 = 32_768;
/// How often the removal of a group is tried, and how long after another: what was killed may take a moment to end.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// What all of a container may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads, with the three of the sandbox itself.
    pub processes: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes that stay free on the disk of the layer that is written; none means the usual: 1 GiB, a twentieth of the
    /// disk, or half of what is free, whichever is least.
    pub free: Option<u64>,
}

impl Default for Limits {
    /// 32768 processes, all memory of the machine, and what is usual of the disk.
    fn default() -> Limits {
        Limits { processes: Some(PROCESSES), memory: None, free: None }
    }
}

impl Limits {
    /// What a command may have where nobody says anything else: nine tenths of the machine's memory, so that it is the
    /// command that is ended when there is none left, and not what else runs there.
    pub fn usual() -> Limits {
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).map(|bytes| bytes / 10 * 9);
        Limits { memory, ..Limits::default() }
    }
}

/// The memory of the machine, as proc(5) has it in `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A group in which we may make others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Above {
    folder: PathBuf,
    /// It is of version 2.
    unified: bool,
    processes: bool,
    memory: bool,
}

/// Where groups can be made.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Vec<Above>);

impl Places {
    /// What the kernel offers to this process; nothing, if nothing can be found out.
    pub(super) fn find() -> Places {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let controllers = |folder: &Path| fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        let mut found = candidates(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"), controllers);
        found.retain(|above| {
            // Whoever moves a process must have the right to do so in the group above both places.
            let may = |path: &Path| access(path, Access::WRITE_OK).is_ok();
            may(&above.folder) && may(&above.folder.join("cgroup.procs"))
        });
        Places(chosen(found))
    }

    /// Whether processes, and memory, can be limited: tried.
    pub(super) fn tried(&self) -> (bool, bool) {
        let group = self.group(Limits { memory: Some(1 << 40), ..Limits::default() });
        let any = |which: fn(&Above) -> bool| group.parts.iter().any(|part| which(&part.like));
        (any(|like| like.processes), any(|like| like.memory))
    }

    /// A new group with these limits; where something cannot be limited, it is not.
    pub(super) fn group(&self, limits: Limits) -> Group {
        let parts = self.0.iter().filter_map(|above| {
            sweep(&above.folder);
            // Somebody else's sweep may come between the making of a group and its lock.
            (0..5).find_map(|_| Part::new(above, limits).ok())
        });
        Group { parts: parts.collect(), limits }
    }
}

/// The groups that would do, of version 2 the nearest first. `controllers` says what a group gives to its members.
fn candidates(groups: &str, mounts: &str, controllers: impl Fn(&Path) -> String) -> Vec<Above> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let has = |list: &str, name: &str| list.split([',', ' ', '\n']).any(|word| word == name);
        if names.is_empty() {
            let Some((own, top)) = folder(mounts, "cgroup2", "", path) else { continue };
            found.extend(own.ancestors().take_while(|folder| folder.starts_with(&top)).map(|folder| {
                let given = controllers(folder);
                Above { folder: folder.into(), unified: true, processes: has(&given, "pids"), memory: has(&given, "memory") }
            }));
            continue;
        }
        for name in ["pids", "memory"].into_iter().filter(|name| has(names, name)) {
            if let Some((own, _)) = folder(mounts, "cgroup", name, path) {
                found.push(Above { folder: own, unified: false, processes: name == "pids", memory: name == "memory" });
            }
        }
    }
    found.retain(|above| above.processes || above.memory);
    found
}

/// Without all groups of version 2 but one, as a process is in one: the nearest that limits everything, else the nearest.
fn chosen(mut found: Vec<Above>) -> Vec<Above> {
    let both = found.iter().position(|above| above.unified && above.processes && above.memory);
    let best = both.or_else(|| found.iter().position(|above| above.unified)).map(|best| found.swap_remove(best));
    found.retain(|above| !above.unified);
    found.extend(best);
    found
}

/// Where a group is mounted (proc(5), mountinfo), and the mount.
fn folder(mounts: &str, kind: &str, controller: &str, group: &str) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let (is, options) = (system.next()?, system.nth(1)?);
        let wanted = is == kind && (controller.is_empty() || options.split(',').any(|option| option == controller));
        let below = Path::new(group).strip_prefix(root).ok().filter(|_| wanted)?;
        Some((Path::new(point).join(below), point.into()))
    })
}

/// The group of one container. It is removed, with whatever still runs in it, when this is dropped.
pub(super) struct Group {
    parts: Vec<Part>,
    limits: Limits,
}

struct Part {
    folder: PathBuf,
    like: Above,
    _lock: File,
}

impl Part {
    fn new(above: &Above, limits: Limits) -> io::Result<Part> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{NAME}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = above.folder.join(name);
        fs::create_dir(&folder)?;
        let made = Part::limited(&folder, above, limits);
        if made.is_err() {
            let _ = fs::remove_dir(&folder);
        }
        made
    }

    fn limited(folder: &Path, above: &Above, limits: Limits) -> io::Result<Part> {
        let lock = File::open(folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let set = |file: &str, value: u64| fs::write(folder.join(file), value.to_string());
        if let Some(most) = limits.processes.filter(|_| above.processes) {
            set("pids.max", most)?;
        }
        if let Some(most) = limits.memory.filter(|_| above.memory) {
            // (Without swap accounting there is none of the second file.)
            if above.unified {
                set("memory.max", most)?;
                let _ = set("memory.swap.max", 0);
            } else {
                set("memory.limit_in_bytes", most)?;
                let _ = set("memory.memsw.limit_in_bytes", most);
            }
        }
        Ok(Part { folder: folder.into(), like: above.clone(), _lock: lock })
    }

    /// The number after a word in one of the group's files.
    fn count(&self, file: &str, word: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }
}

impl Group {
    /// Puts a process, and what it starts from now on, into the group. Where the kernel refuses that, nothing is limited.
    pub(super) fn take(&self, pid: u32) {
        for part in &self.parts {
            let _ = fs::write(part.folder.join("cgroup.procs"), pid.to_string());
        }
    }

    /// Which limit was reached until now, as a sentence.
    pub(super) fn reached(&self) -> Option<String> {
        let any = |which: fn(&Part) -> bool| self.parts.iter().any(which);
        if any(|part| part.like.processes && part.count("pids.events", "max") > 0) {
            let most = self.limits.processes.unwrap_or_default();
            return Some(format!("twostage: the command asked for more than the {most} processes that it may have at once"));
        }
        let killed = |part: &Part| {
            part.like.memory && part.count(if part.like.unified { "memory.events" } else { "memory.oom_control" }, "oom_kill") > 0
        };
        any(killed).then(|| match self.limits.memory {
            Some(most) => {
                format!("twostage: the command needed more than the {} MiB of memory that it may have, and was killed", most >> 20)
            }
            None => "twostage: the machine ran out of memory, and the command was killed".to_string(),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for part in &self.parts {
            // What cannot be removed now is removed by the next run.
            remove(&part.folder);
        }
    }
}

/// Removes the groups of programs that are no more.
fn sweep(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME)
            && let Ok(lock) = File::open(entry.path())
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(&entry.path());
        }
    }
}

/// Removes a group whose lock we have, and ends what is left in it. A group with a process in it cannot be removed.
fn remove(folder: &Path) {
    for _ in 0..TRIES {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ => return,
        }
        end_all(folder);
        std::thread::sleep(PAUSE);
    }
}

fn end_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let members = || fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for number in members().lines() {
        let process = number.parse().ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // The number may have gone to somebody else before the process was opened, and to nobody else since.
        if let Some(process) = process
            && members().lines().any(|member| member == number)
        {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(folder: &str, unified: bool, processes: bool, memory: bool) -> Above {
        Above { folder: folder.into(), unified, processes, memory }
    }

    #[test]
    fn the_memory_of_the_machine_is_what_proc_says() {
        assert_eq!(total("MemTotal:       24599428 kB\nMemFree: 1 kB\n"), Some(24_599_428 * 1024));
        assert_eq!((total("MemFree: 1 kB\n"), total("MemTotal: x kB\n"), total("MemTotal: 99999999999999999999 kB\n")), (None, None, None));
        assert!(Limits::usual().memory.is_some_and(|bytes| bytes > 1 << 28), "{:?}", Limits::usual());
    }

    #[test]
    fn the_two_trees_of_version_1_are_found() {
        let groups = "9:name=systemd:/\n8:pids:/a\n4:memory:/docker/x/y\n2:cpu,cpuacct:/\n0::/\n";
        let mounts = "25 24 0:22 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n\
            26 24 0:23 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            27 24 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = candidates(groups, mounts, |_| String::new());
        let wanted = [above("/sys/fs/cgroup/pids/a", false, true, false), above("/sys/fs/cgroup/memory/y", false, false, true)];
        assert_eq!(found, wanted);
        assert_eq!(candidates("8:pids:/elsewhere\n", "26 24 0:23 /docker/x /m rw - cgroup cgroup rw,pids\n", |_| String::new()), []);
    }

    #[test]
    fn of_version_2_the_nearest_that_gives_limits_is_first() {
        let mounts = "27 24 0:24 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let given = |folder: &Path| match folder.to_str() {
            Some("/sys/fs/cgroup") => "cpuset cpu io memory pids\n".to_string(),
            Some("/sys/fs/cgroup/user") => "memory pids\n".to_string(),
            Some("/sys/fs/cgroup/user/app") => "pids\n".to_string(),
            _ => String::new(),
        };
        let wanted = [
            above("/sys/fs/cgroup/user/app", true, true, false),
            above("/sys/fs/cgroup/user", true, true, true),
            above("/sys/fs/cgroup", true, true, true),
        ];
        let found = candidates("0::/user/app/x.scope\n", mounts, given);
        assert_eq!(found, wanted);
        assert_eq!(chosen(found), wanted[1..2]);
        assert_eq!(candidates("", mounts, given), []);
        assert_eq!(candidates("0::/\n", "", given), []);
    }
}

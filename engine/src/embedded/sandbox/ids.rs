//! Which ids of the machine the ids of containers are.
//!
//! ```text
//! who runs it              container 0           container 1…
//! root                     start                 start + 1…        root's range in /etc/subuid, or 2,000,000,000…
//! a user with a range      the user              start…            /etc/subuid, through newuidmap, as Podman does
//! any other user           the user              none
//! ```
//!
//! Root gets a range, too, so that what a container's root breaks out with is nobody.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Where root's containers have their ids, unless /etc/subuid says otherwise. systemd's list of ids calls
/// 1879048192…2147483647 unused (UIDS-GIDS.md), and this is the middle of it.
const START: u32 = 2_000_000_000;
const COUNT: u32 = 1 << 27;

/// What a machine without ranges costs.
const COST: &str = "this user has no range of ids in /etc/subuid and /etc/subgid (or `newuidmap` is missing), so all files of \
    an image that is made here belong to root, and programs that change the user cannot; \
    an administrator mends it with `apt-get install uidmap` and `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME`";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u32,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ids {
    /// We may write the maps.
    Own {
        uids: Range,
        gids: Range,
    },
    /// `newuidmap` and `newgidmap` write them.
    Helped {
        uids: Range,
        gids: Range,
    },
    Single,
}

impl Ids {
    /// What this process may use.
    pub(super) fn find() -> Result<Ids> {
        let uid = rustix::process::geteuid().as_raw();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let name = name_of(&read("/etc/passwd"), uid);
        let (subuid, subgid) = (read("/etc/subuid"), read("/etc/subgid"));
        let listed = range_of(&subuid, name.as_deref(), uid).zip(range_of(&subgid, name.as_deref(), uid));
        if uid == 0 {
            let held = fs::read_to_string("/proc/self/uid_map").or_fail(Class::System, || "cannot read /proc/self/uid_map".into())?;
            let usual = Range { start: START, count: COUNT };
            return Ok(match listed.filter(|(uids, gids)| holds(&held, *uids) && holds(&read("/proc/self/gid_map"), *gids)) {
                Some((uids, gids)) => Ids::Own { uids, gids },
                None if holds(&held, usual) => Ids::Own { uids: usual, gids: usual },
                // Root of a container: what it has is all that there is.
                None => match first(&held).zip(first(&read("/proc/self/gid_map"))) {
                    Some((uids, gids)) if uids.count > 1 && gids.count > 1 => Ids::Own { uids, gids },
                    _ => Ids::Single,
                },
            });
        }
        let helpers = ["newuidmap", "newgidmap"].iter().all(|helper| in_path(helper));
        Ok(match listed.filter(|_| helpers) {
            Some((uids, gids)) => Ids::Helped { uids, gids },
            None => Ids::Single,
        })
    }

    /// What a container's ids are here, for people.
    pub(super) fn told(&self) -> String {
        match self {
            Ids::Own { uids, .. } => format!("{} ids from {}, of which the first is root in containers", uids.count, uids.start),
            Ids::Helped { uids, .. } => format!("this user, who is root in containers, and {} ids from {}", uids.count, uids.start),
            Ids::Single => "only this user, who is root in containers".into(),
        }
    }

    pub(super) fn cost(&self) -> Option<&'static str> {
        (*self == Ids::Single).then_some(COST)
    }

    /// The ids of the machine that a container's root is, where they are others than our own.
    pub(super) fn root(&self) -> Option<(u32, u32)> {
        match self {
            Ids::Own { uids, gids } => Some((uids.start, gids.start)),
            Ids::Helped { .. } | Ids::Single => None,
        }
    }

    /// Writes the maps of a process that has just made its user namespace.
    pub(super) fn write(&self, pid: u32) -> Result<()> {
        match self {
            Ids::Own { uids, gids } => {
                for (file, range) in [("uid_map", uids), ("gid_map", gids)] {
                    let path = format!("/proc/{pid}/{file}");
                    fs::write(&path, format!("0 {} {}\n", range.start, range.count)).or_fail(Class::Engine, || {
                        format!("cannot give a container the ids {} and {} after it", range.start, range.count - 1)
                    })?;
                }
                Ok(())
            }
            Ids::Helped { uids, gids } => {
                helper("newuidmap", pid, rustix::process::getuid().as_raw(), *uids)?;
                helper("newgidmap", pid, rustix::process::getgid().as_raw(), *gids)
            }
            Ids::Single => Ok(()),
        }
    }
}

fn helper(program: &str, pid: u32, own: u32, range: Range) -> Result<()> {
    let numbers = [pid, 0, own, 1, 1, range.start, range.count].map(|number| number.to_string());
    let out = Command::new(program).args(numbers).stdin(Stdio::null()).output();
    let out = out.or_fail(Class::Engine, || format!("cannot run {program}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(Error::new(Class::Engine, format!("cannot give a container the ids {} and {} after it", range.start, range.count - 1))
        .because(String::from_utf8_lossy(&out.stderr).trim().to_string())
        .hint(format!("is {program} set-user-ID root, and is the range in /etc/subuid and /etc/subgid?")))
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder: std::path::PathBuf| is_program(&folder.join(program))))
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

/// The name of a user in /etc/passwd.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2).is_some_and(|field| *field == uid.to_string())).map(|fields| fields[0].to_string())
}

/// A user's first range (subuid(5)): `name:start:count`, or a number for the name.
fn range_of(file: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    file.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [who, start, count] = fields[..] else { return None };
        let range = Range { start: start.trim().parse().ok()?, count: count.trim().parse().ok()? };
        let mine = Some(who) == name || who == uid.to_string();
        (mine && range.count > 0 && range.start.checked_add(range.count).is_some()).then_some(range)
    })
}

/// The extents of a map of ids: first id here, and how many.
fn extents(map: &str) -> impl Iterator<Item = Range> {
    map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let start = fields.next()?.parse().ok()?;
        Some(Range { start, count: fields.nth(1)?.parse().ok()? })
    })
}

fn holds(map: &str, range: Range) -> bool {
    let end = |range: Range| u64::from(range.start) + u64::from(range.count);
    extents(map).any(|extent| extent.start <= range.start && end(range) <= end(extent))
}

fn first(map: &str) -> Option<Range> {
    extents(map).find(|extent| extent.start == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let file = "bad\nann:100000:65536\n1001:300000:10\nbob:1:0\nroot:4294967295:10\n";
        assert_eq!(range_of(file, Some("ann"), 7), Some(Range { start: 100_000, count: 65_536 }));
        assert_eq!(range_of(file, None, 1001), Some(Range { start: 300_000, count: 10 }));
        assert_eq!(range_of(file, Some("bob"), 8), None);
        assert_eq!(range_of(file, Some("root"), 0), None);
        assert_eq!(name_of("root:x:0:0::/root:/bin/sh\nann:x:7:7::/:/bin/sh\n", 7).as_deref(), Some("ann"));
    }

    #[test]
    fn a_range_must_be_within_what_there_is() {
        let all = "         0          0 4294967295\n";
        assert!(holds(all, Range { start: START, count: COUNT }));
        assert!(!holds("0 100000 65536\n", Range { start: START, count: COUNT }));
        assert_eq!(first("0 100000 65536\n"), Some(Range { start: 0, count: 65_536 }));
    }
}

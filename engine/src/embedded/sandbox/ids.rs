//! Which ids of the machine the ids of containers are.
//!
//! ```text
//! who runs it              container 0           container 1…
//! root                     start                 start + 1…        root's ranges in /etc/subuid, or the usual ones, below
//! a user with ranges       the user              start…            /etc/subuid, through newuidmap, as Podman does
//! any other user           the user              none
//!
//! the usual ones           container                      machine
//!                          0 … 2,294,967,294              2,000,000,000 … 4,294,967,294
//!                          4,174,015,487 … 4,294,967,294  1,879,048,192 … 1,999,999,999
//! ```
//!
//! Root gets ranges, too, so that what a container's root breaks out with is nobody. The usual ones begin where systemd's
//! list of ids (UIDS-GIDS.md) says that nobody is, and take all that follows: OpenShift gives each of its projects ids
//! from 1,000,000,000 on, and old systems call 4,294,967,294 `nfsnobody`. What is between them has no id here, as that
//! would have to be an id which somebody of the machine may have.

use rustix::io::Errno;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Root's ids where /etc/subuid says nothing. The first extent keeps its start: what is in stores belongs to these ids.
const USUAL: [Extent; 2] = [
    Extent { inside: 0, start: 2_000_000_000, count: u32::MAX - 2_000_000_000 },
    Extent { inside: u32::MAX - 120_951_808, start: 1_879_048_192, count: 120_951_808 },
];
/// Of the first extent this much has to be there.
const LEAST: u32 = 1 << 27;
/// A map is at most a page (user_namespaces(7)): 120 lines, however long their numbers are.
const MAX_EXTENTS: usize = 120;

/// What a machine without ranges costs.
const COST: &str = "this user has no range of ids in /etc/subuid and /etc/subgid (or `newuidmap` is missing), so all files of \
    an image that is made here belong to root, and programs that change the user cannot; \
    an administrator mends it with `apt-get install uidmap` and `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME`";

/// Ids of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u32,
    pub count: u32,
}

/// Ids of containers, and what they are on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first one in containers.
    pub inside: u32,
    /// The first one on the machine.
    pub start: u32,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ids {
    /// We may write the maps.
    Own {
        uids: Vec<Extent>,
        gids: Vec<Extent>,
    },
    /// `newuidmap` and `newgidmap` write them; root is the user.
    Helped {
        uids: Vec<Extent>,
        gids: Vec<Extent>,
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
        let listed = [ranges_of(&subuid, name.as_deref(), uid), ranges_of(&subgid, name.as_deref(), uid)];
        if uid == 0 {
            let held = fs::read_to_string("/proc/self/uid_map").or_fail(Class::System, || "cannot read /proc/self/uid_map".into())?;
            let held = [held, read("/proc/self/gid_map")];
            let has = |(ranges, held): (&Vec<Range>, &String)| !ranges.is_empty() && ranges.iter().all(|range| holds(held, *range));
            let given = if listed.iter().zip(&held).all(has) {
                let [uids, gids] = &listed;
                Some((in_a_row(0, uids), in_a_row(0, gids)))
            } else {
                let [uids, gids] = &held;
                of_root(uids).zip(of_root(gids))
            };
            return Ok(given.map_or(Ids::Single, |(uids, gids)| Ids::Own { uids, gids }));
        }
        let helpers = ["newuidmap", "newgidmap"].iter().all(|helper| in_path(helper));
        Ok(match listed {
            [uids, gids] if helpers && !uids.is_empty() && !gids.is_empty() => {
                Ids::Helped { uids: in_a_row(1, &uids), gids: in_a_row(1, &gids) }
            }
            _ => Ids::Single,
        })
    }

    /// What a container's ids are here, for people.
    pub(super) fn told(&self) -> String {
        let counted = |extents: &[Extent]| extents.iter().map(|extent| u64::from(extent.count)).sum::<u64>();
        let from = |extents: &[Extent]| extents.first().map_or(0, |extent| extent.start);
        match self {
            Ids::Own { uids, .. } => format!("{} ids from {}, of which the first is root in containers", counted(uids), from(uids)),
            Ids::Helped { uids, .. } => format!("this user, who is root in containers, and {} ids from {}", counted(uids), from(uids)),
            Ids::Single => "only this user, who is root in containers".into(),
        }
    }

    pub(super) fn cost(&self) -> Option<&'static str> {
        (*self == Ids::Single).then_some(COST)
    }

    /// The ids of the machine that a container's root is, where they are others than our own.
    pub(super) fn root(&self) -> Option<(u32, u32)> {
        match self {
            Ids::Own { uids, gids } => uids.first().zip(gids.first()).map(|(uids, gids)| (uids.start, gids.start)),
            Ids::Helped { .. } | Ids::Single => None,
        }
    }

    /// Writes the maps of a process that has just made its user namespace.
    pub(super) fn write(&self, pid: u32) -> Result<()> {
        match self {
            Ids::Own { uids, gids } => {
                for (file, extents) in [("uid_map", uids), ("gid_map", gids)] {
                    fs::write(format!("/proc/{pid}/{file}"), map(extents)).or_fail(Class::Engine, || given(extents))?;
                }
                Ok(())
            }
            Ids::Helped { uids, gids } => {
                helper("newuidmap", pid, rustix::process::getuid().as_raw(), uids)?;
                helper("newgidmap", pid, rustix::process::getgid().as_raw(), gids)
            }
            Ids::Single => Ok(()),
        }
    }
}

/// An owner that this machine's containers have no id for.
pub(super) fn unknown(uid: u64, gid: u64) -> Error {
    let what = format!("user {uid} and group {gid} are no ids of a container here");
    if uid.max(gid) >= u32::MAX.into() {
        return Error::new(Class::Engine, what).hint("the kernel knows no such id: name one below 4294967295");
    }
    Error::new(Class::Engine, what).hint("`twostage doctor` says how many there are; more of them are given in /etc/subuid and /etc/subgid")
}

/// A refusal to change an owner: `INVAL` is how the kernel says that there is no such id.
pub(super) fn refused(error: Errno, uid: u32, gid: u32, what: impl Into<String>) -> Error {
    match error {
        Errno::INVAL => unknown(uid.into(), gid.into()),
        error => Error::system(what.into(), error),
    }
}

/// What root gives to containers where nothing is listed for it: the usual ranges, as far as this machine has them, or, as
/// root of a container, which has what it has, all of that.
fn of_root(held: &str) -> Option<Vec<Extent>> {
    let usual = USUAL.iter().filter_map(|usual| {
        let end = |start: u32, count: u32| u64::from(start) + u64::from(count);
        let around =
            extents(held).find(|extent| extent.start <= usual.start && u64::from(usual.start) < end(extent.start, extent.count))?;
        let last = end(around.start, around.count).min(end(usual.start, usual.count));
        Some(Extent { count: u32::try_from(last - u64::from(usual.start)).ok()?, ..*usual })
    });
    let usual: Vec<Extent> = usual.collect();
    if usual.first().is_some_and(|first| first.inside == 0 && first.count >= LEAST) {
        return Some(usual);
    }
    let mut all: Vec<Range> = extents(held).take(MAX_EXTENTS).collect();
    all.sort_by_key(|range| range.start);
    let many = all.first().is_some_and(|first| first.start == 0 && first.count > 1);
    many.then(|| all.iter().map(|range| Extent { inside: range.start, start: range.start, count: range.count }).collect())
}

/// Ranges one behind the other, the first one at the id `first` of containers.
fn in_a_row(first: u32, ranges: &[Range]) -> Vec<Extent> {
    let mut inside = first;
    let mut extents = Vec::new();
    // (One is the user's own.)
    for range in ranges.iter().take(MAX_EXTENTS - 1) {
        let count = range.count.min(u32::MAX - inside);
        if count > 0 {
            extents.push(Extent { inside, start: range.start, count });
            inside += count;
        }
    }
    extents
}

fn map(extents: &[Extent]) -> String {
    extents.iter().map(|extent| format!("{} {} {}\n", extent.inside, extent.start, extent.count)).collect()
}

fn given(extents: &[Extent]) -> String {
    let ranges: Vec<String> =
        extents.iter().map(|extent| format!("{} and {} after it", extent.start, extent.count.saturating_sub(1))).collect();
    format!("cannot give a container the ids {}", ranges.join(", "))
}

fn helper(program: &str, pid: u32, own: u32, extents: &[Extent]) -> Result<()> {
    let root = Extent { inside: 0, start: own, count: 1 };
    let numbers = std::iter::once(&root).chain(extents).flat_map(|extent| [extent.inside, extent.start, extent.count]);
    let out =
        Command::new(program).args(std::iter::once(pid).chain(numbers).map(|number| number.to_string())).stdin(Stdio::null()).output();
    let out = out.or_fail(Class::Engine, || format!("cannot run {program}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(Error::new(Class::Engine, given(extents))
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

/// A user's ranges (subuid(5)), in order: `name:start:count`, or a number for the name. One that holds ids of an earlier
/// one is left out: the kernel takes no id twice.
fn ranges_of(file: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for line in file.lines() {
        let fields: Vec<_> = line.split(':').collect();
        let [who, start, count] = fields[..] else { continue };
        let (Ok(start), Ok(count)) = (start.trim().parse::<u32>(), count.trim().parse::<u32>()) else { continue };
        let mine = Some(who) == name || who == uid.to_string();
        let Some(end) = start.checked_add(count).filter(|_| mine && count > 0) else { continue };
        if !ranges.iter().any(|other| other.start < end && start < other.start + other.count) {
            ranges.push(Range { start, count });
        }
    }
    ranges
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

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let file = "bad\nann:100000:65536\n1001:300000:10\nbob:1:0\nroot:4294967295:10\nann:165000:9\nann:500000:1000\n";
        let ann = [Range { start: 100_000, count: 65_536 }, Range { start: 500_000, count: 1000 }];
        assert_eq!(ranges_of(file, Some("ann"), 7), ann, "and what overlaps is left out");
        assert_eq!(ranges_of(file, None, 1001), [Range { start: 300_000, count: 10 }]);
        assert_eq!((ranges_of(file, Some("bob"), 8), ranges_of(file, Some("root"), 0)), (vec![], vec![]));
        assert_eq!(name_of("root:x:0:0::/root:/bin/sh\nann:x:7:7::/:/bin/sh\n", 7).as_deref(), Some("ann"));
        assert_eq!(map(&in_a_row(1, &ann)), "1 100000 65536\n65537 500000 1000\n");
    }

    #[test]
    fn root_gives_the_usual_ranges_as_far_as_there_are_such_ids() {
        let all = "         0          0 4294967295\n";
        assert_eq!(of_root(all), Some(USUAL.to_vec()));
        // No id of the machine is given twice, and none that somebody may have.
        assert!(USUAL.iter().all(|one| one.start >= 1_879_048_192));
        assert_eq!(u64::from(USUAL[1].start) + u64::from(USUAL[1].count), u64::from(USUAL[0].start));
        assert_eq!(u64::from(USUAL[1].inside) + u64::from(USUAL[1].count), u64::from(u32::MAX));
        let some = of_root("0 0 2500000000\n").expect("ids");
        assert_eq!(some, [Extent { count: 500_000_000, ..USUAL[0] }, USUAL[1]]);
    }

    #[test]
    fn root_of_a_container_gives_all_that_it_has() {
        let extents = of_root("100000 900000 10\n0 100000 65536\n").expect("ids");
        assert_eq!(map(&extents), "0 0 65536\n100000 100000 10\n");
        assert_eq!((of_root("0 1000 1\n"), of_root("")), (None, None));
    }
}

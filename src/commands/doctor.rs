//! `twostage doctor`: which engines work on this machine, and what to do where one does not.
//!
//! What can be tried is tried: a container of the embedded engine is made and run, in a folder of its own on the disk
//! that its images are on. What the kernel says of itself only explains that.

use crate::output::{Mark, Output};
use crate::session::{is_project, project_of};
use serde::Serialize;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use twostage_engine::{Engine, Exec, Hold, Kind, LastLines, Network, file_stream};
use twostage_model::error::OrFail as _;
use twostage_model::shown::{count, size};
use twostage_model::{Class, Error, Result};

/// Less than this on a disk is said: a base, a builder and an image take about as much.
const LITTLE: u64 = 2_000_000_000;
/// What the container of the trial is made of.
const TRIED: &str = "twostage-doctor:tried";

/// What was found. Its serialised field names are stable.
#[derive(Serialize)]
struct Report {
    event: &'static str,
    /// At least one engine does.
    works: bool,
    engines: Vec<EngineReport>,
    /// What is none of an engine's.
    machine: Vec<Check>,
}

#[derive(Serialize)]
struct EngineReport {
    kind: String,
    works: bool,
    /// Name and version, if it answers.
    version: Option<String>,
    /// Where it listens, or keeps its images.
    address: Option<String>,
    problem: Option<String>,
    /// The one thing to do.
    todo: Option<String>,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: Mark,
    found: String,
    todo: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, state: Mark::Good, found: found.into(), todo: None }
    }

    fn other(name: &'static str, state: Mark, found: impl Into<String>, todo: impl Into<String>) -> Check {
        Check { name, state, found: found.into(), todo: Some(todo.into()) }
    }
}

pub async fn run(project: &Path, output: &Output) -> Result<()> {
    output.sink().started("doctor", "asking the engines");
    let (docker, podman, embedded) = tokio::join!(daemon(Kind::Docker), daemon(Kind::Podman), embedded());
    let engines = vec![docker, podman, embedded];
    let report = Report { event: "doctor", works: engines.iter().any(|engine| engine.works), engines, machine: machine(project) };
    output.result(&to_text(&report, output), &report);
    if report.works {
        return Ok(());
    }
    let todo: Vec<String> =
        report.engines.iter().filter_map(|engine| Some(format!("{}: {}", engine.kind, engine.todo.as_ref()?))).collect();
    Err(Error::new(Class::Engine, "no engine works on this machine").hint(format!("do one of these:\n  {}", todo.join("\n  "))))
}

fn to_text(report: &Report, output: &Output) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(words.trim_end());
        text.push('\n');
    };
    let check = |check: &Check| {
        let (word, mark) = match check.state {
            Mark::Good => ("ok  ", Mark::Good),
            Mark::Poor => ("less", Mark::Poor),
            Mark::Bad => ("no  ", Mark::Bad),
        };
        let todo = check.todo.as_ref().map(|todo| format!("\n                         do: {todo}")).unwrap_or_default();
        format!("  {:<16}  {}  {}{todo}", check.name, output.mark(word, mark), check.found)
    };
    for engine in &report.engines {
        let (word, mark) = if engine.works { ("works", Mark::Good) } else { ("does not work", Mark::Bad) };
        let version = engine.version.as_deref().unwrap_or(&engine.kind);
        let keeps = if engine.kind == "embedded" { "images in " } else { "" };
        let at = engine.address.as_ref().map(|address| format!(", {keeps}{address}")).unwrap_or_default();
        line(format!(
            "{:<8}  {}  {}",
            engine.kind,
            output.mark(word, mark),
            if engine.works { format!("{version}{at}") } else { String::new() }
        ));
        if let Some(problem) = &engine.problem {
            line(format!("  {}", problem.replace('\n', "\n  ")));
        }
        if let Some(todo) = &engine.todo {
            line(format!("  do: {todo}"));
        }
        engine.checks.iter().for_each(|found| line(check(found)));
    }
    line("machine".into());
    report.machine.iter().for_each(|found| line(check(found)));
    let working: Vec<&str> = report.engines.iter().filter(|engine| engine.works).map(|engine| engine.kind.as_str()).collect();
    let verdict = match working.first() {
        Some(first) => format!("{} can be used; {first} is, unless --engine says otherwise", working.join(", ")),
        None => "no engine can be used".into(),
    };
    text.push('\n');
    text.push_str(&verdict);
    output.with_verdict(&text, report.works)
}

/// What went wrong, from the general to the particular.
fn told(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join("\n")
}

async fn daemon(kind: Kind) -> EngineReport {
    let blank =
        EngineReport { kind: kind.to_string(), works: false, version: None, address: None, problem: None, todo: None, checks: Vec::new() };
    match Engine::daemon(Some(kind), None).await {
        Ok(engine) => EngineReport { works: true, version: Some(engine.name()), address: Some(engine.address()), ..blank },
        Err(error) => EngineReport { problem: Some(told(&error)), todo: Some(error.hint_or_class().to_string()), ..blank },
    }
}

async fn embedded() -> EngineReport {
    let mut report = EngineReport {
        kind: Kind::Embedded.to_string(),
        works: false,
        version: Some(format!("twostage {}", env!("CARGO_PKG_VERSION"))),
        address: None,
        problem: None,
        todo: None,
        checks: namespaces(rustix::process::geteuid().is_root(), |path| fs::read_to_string(path).ok()),
    };
    let store = match twostage_engine::store_folder() {
        Ok(store) => store,
        Err(error) => {
            (report.problem, report.todo) = (Some(told(&error)), Some(error.hint_or_class().to_string()));
            return report;
        }
    };
    report.address = Some(store.display().to_string());
    let there = existing(&store);
    match tried(&there, &mut report.checks).await {
        Ok(()) => report.works = true,
        Err(error) => (report.problem, report.todo) = (Some(told(&error)), Some(error.hint_or_class().to_string())),
    }
    report.checks.push(disk("store", &there, "free some, or name a folder on another disk in TWOSTAGE_STORE"));
    report.checks.extend(images(&store).await);
    report
}

/// Whether every image of the store can be read. Where there is no store, none is made.
async fn images(store: &Path) -> Vec<Check> {
    const NAME: &str = "images";
    if !store.join("images/index.json").exists() {
        return Vec::new();
    }
    let asked = async {
        let engine = Engine::embedded(Some(store), None).await?;
        let (problems, images) = (engine.problems().await?, engine.every_image().await?.len());
        engine.settle().await;
        Ok::<_, Error>((problems, images))
    };
    match asked.await {
        Ok((problems, images)) if problems.is_empty() => {
            vec![Check::good(NAME, format!("{}, and all can be read", count(images, "image")))]
        }
        Ok((problems, _)) => problems
            .into_iter()
            .map(|problem| {
                let todo = if problem.contains("index.json") {
                    "nothing, if another program needs it; else take it out of that file"
                } else {
                    "bring it again, or take its name out: twostage rm NAME"
                };
                Check::other(NAME, Mark::Poor, format!("passed over: {problem}"), todo)
            })
            .collect(),
        Err(error) => vec![Check::other(NAME, Mark::Bad, told(&error).replace('\n', ": "), error.hint_or_class())],
    }
}

/// Makes a container over a layer, in a store of its own, and runs something in it that is not there: a shell's 127
/// says that all before that worked.
async fn tried(beside: &Path, checks: &mut Vec<Check>) -> Result<()> {
    let fail = || format!("cannot write in {}", beside.display());
    let folder = tempfile::Builder::new().prefix(".twostage-doctor-").tempdir_in(beside);
    let folder = folder.or_fail(Class::System, fail).map_err(|error| error.hint("name a folder of yours in TWOSTAGE_STORE"))?;
    let engine = Engine::embedded(Some(folder.path()), None).await?;
    let ids = engine.ids().unwrap_or_default();
    checks.push(match engine.cost() {
        None => Check::good("ids", ids),
        Some(cost) => Check::other("ids", Mark::Poor, ids, cost),
    });
    checks.push(match engine.unlimited() {
        None => Check::good("limits", "processes and memory, by a control group for each command"),
        Some(what) => Check::other(
            "limits",
            Mark::Poor,
            what,
            "run twostage in a control group of the user's own: systemd-run --user --scope twostage …",
        ),
    });
    let layer = small_layer().or_fail(Class::System, fail)?;
    engine.import(file_stream(tokio::fs::File::from_std(layer)), TRIED, &[]).await?;
    let container = engine.hold(Hold { image: TRIED, hostname: None, network: Network::None }).await?;
    let command = ["/nothing".to_string()];
    let mut result = Ok(());
    for network in [Network::None, Network::Bridge] {
        let mut last = LastLines::default();
        let exec = Exec { cmd: &command, network: Some(network), ..Exec::default() };
        let ended = container.exec(exec, &mut |line| last.push(line)).await;
        let (name, what, cost) = match network {
            Network::None => ("overlay", format!("a container over a layer was made and run, on {}", file_system(beside)), None),
            Network::Host | Network::Bridge => {
                let (what, cost) = engine.network().await.unwrap_or_default();
                ("network", what, cost)
            }
        };
        match ended {
            Ok(127) => checks.push(match cost {
                None => Check::good(name, what),
                Some(cost) => Check::other(name, Mark::Poor, what, cost),
            }),
            ended => {
                let error = match ended {
                    Ok(status) => Error::new(Class::Engine, format!("a container ended with {status}")).because(last.text(5)),
                    Err(error) => error,
                };
                checks.push(Check::other(name, Mark::Bad, told(&error).replace('\n', ": "), error.hint_or_class()));
                result = result.and(Err(error));
            }
        }
    }
    // What it left could else not be removed by everybody.
    container.remove().await?;
    engine.remove_image(TRIED).await?;
    engine.settle().await;
    result
}

/// A tar of one folder.
fn small_layer() -> std::io::Result<fs::File> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    let mut tar = tar::Builder::new(tempfile::tempfile()?);
    tar.append_data(&mut header, "etc", std::io::empty())?;
    let mut file = tar.into_inner()?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

/// What the kernel says of user namespaces.
fn namespaces(root: bool, read: impl Fn(&str) -> Option<String>) -> Vec<Check> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let mut checks = Vec::new();
    let name = "user namespaces";
    let most = number("/proc/sys/user/max_user_namespaces");
    let allowed = |path: &str| number(path);
    let debian = allowed("/proc/sys/kernel/unprivileged_userns_clone");
    let apparmor = allowed("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    checks.push(match (most, debian, apparmor) {
        (None, ..) => Check::other(name, Mark::Bad, "this kernel has none", "run a kernel with CONFIG_USER_NS"),
        (Some(0), ..) => {
            Check::other(name, Mark::Bad, "/proc/sys/user/max_user_namespaces is 0", "as root: sysctl -w user.max_user_namespaces=28633")
        }
        (_, Some(0), _) if !root => Check::other(
            name,
            Mark::Bad,
            "/proc/sys/kernel/unprivileged_userns_clone is 0: only root may make them",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (_, _, Some(restricted)) if restricted > 0 && !root => Check::other(
            name,
            Mark::Poor,
            "AppArmor restricts them to programs that it knows (kernel.apparmor_restrict_unprivileged_userns)",
            "if the embedded engine does not work: an AppArmor profile for twostage with `userns,`, or as root: \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (Some(most), ..) => Check::good(name, format!("up to {most}{}", if root { ", and this is root" } else { "" })),
    });
    if !root {
        let missing: Vec<&str> = ["newuidmap", "newgidmap"].into_iter().filter(|program| in_path(program).is_none()).collect();
        checks.push(match missing.as_slice() {
            [] => Check::good("newuidmap", "newuidmap and newgidmap are there"),
            missing => Check::other("newuidmap", Mark::Poor, format!("there is no {}", missing.join(", nor ")), "apt-get install uidmap"),
        });
    }
    checks
}

/// What is none of an engine's.
fn machine(project: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    if is_project(project)
        && let Ok((_, folder)) = project_of(project)
    {
        checks.push(disk("project", &folder, "free some, or move the project to another disk"));
    }
    checks.push(match in_path("mmdebstrap") {
        Some(path) => Check::good("mmdebstrap", format!("{}, for bases that are made by `bootstrap`", path.display())),
        None => Check::other("mmdebstrap", Mark::Poor, "not there: no base can be made by `bootstrap`", "apt-get install mmdebstrap"),
    });
    checks
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The folder itself, or the nearest above it that is there.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn disk(name: &'static str, path: &Path, todo: &str) -> Check {
    let what = format!("{} on {}", path.display(), file_system(path));
    match rustix::fs::statvfs(path) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{what}, {} free", size(free));
            if free < LITTLE { Check::other(name, Mark::Poor, found, todo) } else { Check::good(name, found) }
        }
        Err(cause) => Check::other(name, Mark::Bad, format!("{what}: {cause}"), todo),
    }
}

/// What the file system is called that a path is on.
fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    file_system_of(&mounts, &path).unwrap_or_else(|| "an unknown file system".into())
}

/// The type of the mount that a path is below, of those in a mountinfo (proc(5)).
fn file_system_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((PathBuf::from(point), after.split(' ').next()?.to_string()))
    });
    // (Of two at one place the later one is seen.)
    mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_nearest_mount_above_it() {
        let mounts = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n2 1 8:2 / /var/lib rw - xfs /dev/sdb rw\n\
                      3 1 0:4 / /with\\040space rw shared:3 master:1 - tmpfs tmpfs rw\n4 1 0:5 / /var/lib rw - btrfs /dev/sdc rw\n";
        let on = |path: &str| file_system_of(mounts, Path::new(path)).unwrap_or_default();
        assert_eq!([on("/home"), on("/var/lib/twostage"), on("/var/library"), on("/with space/x")], ["ext4", "btrfs", "ext4", "tmpfs"]);
    }

    #[test]
    fn what_forbids_user_namespaces_is_named_with_what_allows_them() {
        let of = |root: bool, files: &[(&str, &str)]| {
            let read = |path: &str| files.iter().find(|(end, _)| path.ends_with(end)).map(|(_, text)| format!("{text}\n"));
            let check = namespaces(root, read).remove(0);
            (check.state, check.todo.unwrap_or_default())
        };
        assert_eq!(of(false, &[("max_user_namespaces", "100")]), (Mark::Good, String::new()));
        assert_eq!(of(false, &[]).0, Mark::Bad);
        assert!(of(true, &[("max_user_namespaces", "0")]).1.contains("user.max_user_namespaces"));
        let debian = [("max_user_namespaces", "100"), ("unprivileged_userns_clone", "0")];
        assert!(of(false, &debian).1.contains("unprivileged_userns_clone=1"));
        assert_eq!(of(true, &debian).0, Mark::Good, "root may make them all the same");
        let ubuntu = [("max_user_namespaces", "100"), ("apparmor_restrict_unprivileged_userns", "1")];
        assert_eq!((of(false, &ubuntu).0, of(true, &ubuntu).0), (Mark::Poor, Mark::Good));
    }
}

//! Killed at any point, a run leaves the old state or the new one, and the next run finishes.

use crate::support::{Project, Serving, Used, docker, http_get, run, uses};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use twostage_model::Sha256;

/// Kills of a running command that each has to survive, and how often that is tried: a delay may
/// turn out longer than the run.
const KILLS: u32 = 20;
const ROUNDS: u32 = 45;

/// The same points in every run of the test.
struct Dice(u64);

impl Dice {
    /// A part of `whole`: anywhere in it, or, every other time, in its last third, where things
    /// get their names.
    fn part_of(&mut self, whole: Duration, round: u32) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = f64::from(u32::try_from(self.0 >> 33).unwrap_or_default()) / f64::from(1_u32 << 31);
        whole.mul_f64(if round.is_multiple_of(2) { part } else { (2.0 + part) / 3.0 })
    }
}

/// Starts the command as a process group of its own and kills that after `delay`. Whether it was
/// still running then.
fn killed(mut command: Command, delay: Duration) -> bool {
    let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    std::thread::sleep(delay);
    let running = child.try_wait().expect("our child").is_none();
    if running {
        // Not reaped yet, so the number is still this group's.
        run(Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())])).ok();
    }
    child.wait().expect("our child");
    running
}

/// What real apt gets from the channel: signatures, indexes and the bytes of every package
/// checked. Name to version and digest.
fn read_channel(server: &Serving) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["sources.d", "parts", "lists/partial", "cache/archives/partial", "got"] {
        fs::create_dir_all(folder.path().join(name)).expect("a folder");
    }
    fs::write(folder.path().join("status"), "").expect("a file");
    fs::write(folder.path().join("sources.d/main.sources"), http_get(&server.address, "/main.sources")).expect("a file");
    let config = format!(
        "Dir::Etc::parts \"{0}\"; Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"{1}\"; Dir::Etc::preferencesparts \"{0}\";\n\
         Dir::Etc::trustedparts \"{0}\"; Dir::State::lists \"{2}\"; Dir::State::status \"{3}\"; Dir::Cache \"{4}\";\n\
         APT::Update::Error-Mode \"any\"; APT::Sandbox::User \"root\"; Acquire::Retries \"0\"; Acquire::Languages \"none\";\n",
        path("parts"),
        path("sources.d"),
        path("lists"),
        path("status"),
        path("cache"),
    );
    fs::write(folder.path().join("apt.conf"), config).expect("a file");
    let apt = |program: &str, arguments: &[String]| {
        let mut command = Command::new(program);
        command.args(arguments).env("APT_CONFIG", path("apt.conf")).env("LC_ALL", "C").current_dir(path("got"));
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        run(&mut command).ok().out
    };
    apt("apt-get", &["update".into()]);
    let available = apt("apt-cache", &["dumpavail".into()]);
    let field = |stanza: &str, name: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string()).unwrap_or_default()
    };
    let packages: BTreeMap<String, String> = available
        .split("\n\n")
        .filter(|stanza| !stanza.trim().is_empty())
        .map(|stanza| (field(stanza, "Package:"), format!("{} {}", field(stanza, "Version:"), field(stanza, "SHA256:"))))
        .collect();
    assert!(!packages.is_empty(), "the channel has packages");
    let mut download = vec!["download".to_string()];
    download.extend(packages.iter().map(|(name, version)| format!("{name}={}", version.split(' ').next().unwrap_or_default())));
    apt("apt-get", &download);
    assert_eq!(fs::read_dir(path("got")).expect("a folder").count(), packages.len(), "every package came");
    packages
}

/// Files and folders that only exist while something is being written. `living` scratch folders
/// of the repository belong to servers that run.
fn check_no_temporary_file(project: &Project, living: usize) {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if ["incoming", "collected-", ".tmp", "writer-", "unnamed"].iter().any(|word| name.contains(word)) {
                found.push(entry.path().display().to_string());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(project.path(), &mut found);
    assert_eq!(found.iter().filter(|name| !name.contains("/tmp/writer-")).count(), 0, "temporary files are left: {found:?}");
    assert_eq!(found.len(), living, "scratch folders of the dead are left: {found:?}");
}

/// Containers of this project: ours by their label, those of the engine's builder by the
/// snapshots that their command names.
fn containers(project: &Project, snapshots: &[String]) -> Vec<String> {
    let label = Sha256::of(project.path().canonicalize().expect("a folder").as_os_str().as_encoded_bytes()).short();
    let all = docker(&["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Label \"twostage.project\"}} {{.Command}}"]).ok().out;
    let ours = |line: &&str| line.contains(&format!(" {label} ")) || snapshots.iter().any(|snapshot| line.contains(snapshot));
    all.lines().filter(ours).map(String::from).collect()
}

fn check_no_container(project: &Project, snapshots: &[String]) {
    // The engine notices by itself, within moments, that whoever asked for a build is gone.
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let left = containers(project, snapshots);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "containers are left: {left:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn repo_killed_at_any_point_leaves_the_old_snapshot_or_the_new_one() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::quick("kill-repo", "kill-repo-demo");
    project.run(&["repo"]).ok();
    let server = Serving::of(project.path());
    let touch = |round: u32| project.write("kill-repo-demo/content", &format!("round {round}\n"));
    let finish = || {
        let start = Instant::now();
        project.run(&["repo"]).ok();
        start.elapsed()
    };
    touch(0);
    let mut whole = finish();
    let mut old = read_channel(&server);
    let mut dice = Dice(2);
    let (mut alive, mut new_seen) = (0, 0);
    for round in 1..=ROUNDS {
        if alive == KILLS {
            break;
        }
        touch(round);
        let delay = dice.part_of(whole, round);
        let was_running = killed(project.command(&["repo"]), delay);
        let seen = read_channel(&server);
        let took = finish();
        // What a kill left undone is less than a whole run.
        whole = if was_running && seen == old { took } else { whole };
        let new = read_channel(&server);
        assert_ne!(old, new, "round {round}: the component was built");
        assert!(seen == old || seen == new, "round {round}, killed after {delay:?}: neither the old snapshot nor the new one\n{seen:?}");
        alive += u32::from(was_running);
        new_seen += u32::from(was_running && seen == new);
        check_no_temporary_file(&project, 1);
        check_no_container(&project, &[]);
        old = new;
    }
    eprintln!("{alive} killed while running, over {whole:?}; {new_seen} had published already");
    assert_eq!(alive, KILLS, "too few were still running");
}

#[test]
fn runtime_killed_at_any_point_leaves_the_earlier_image_and_no_container() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::quick("kill-runtime", "kill-runtime-demo");
    project.run(&["repo"]).ok();
    let server = Serving::of(project.path());
    let channel = read_channel(&server);
    let toml = project.read("twostage.toml");
    let mark = "org.example.kill-runtime";
    // Another label is another Dockerfile, so that something has to be made.
    let touch = |round: u32| project.write("twostage.toml", &format!("{toml}labels = {{ \"{mark}\" = \"{round}\" }}\n"));
    let id_of = || docker(&["image", "inspect", "--format", "{{.Id}}", &project.image]).ok().out.trim().to_string();
    let finish = |more: &[&str]| {
        let start = Instant::now();
        project.run(&[&["runtime"], more].concat()).ok();
        (start.elapsed(), id_of())
    };
    touch(0);
    let (mut whole, mut old) = finish(&["--no-cache"]);
    let layers = project.diff_ids();
    let snapshots = [project.snapshot()];
    let mut named = vec![old.clone()];
    let mut dice = Dice(8);
    let (mut alive, mut new_seen) = (0, 0);
    for round in 1..=ROUNDS {
        if alive == KILLS {
            break;
        }
        touch(round);
        let delay = dice.part_of(whole, round);
        let was_running = killed(project.command(&["runtime", "--no-cache"]), delay);
        let seen = id_of();
        assert_eq!(project.diff_ids(), layers, "round {round}: the name is an image that is whole");
        assert_eq!(read_channel(&server), channel, "round {round}: the channel is as it was");
        check_no_container(&project, &snapshots);
        // Sometimes all anew, mostly what the engine's cache allows.
        let anew = round.is_multiple_of(5);
        let (took, new) = finish(if anew { &["--no-cache"] } else { &[] });
        whole = if anew { took } else { whole };
        assert!(seen == old || seen == new || anew, "round {round}, killed after {delay:?}");
        let label = docker(&["image", "inspect", "--format", &format!("{{{{index .Config.Labels {mark:?}}}}}"), &new]).ok().out;
        assert_eq!(label.trim(), round.to_string(), "the next run finished");
        assert_eq!(project.diff_ids(), layers, "round {round}: and made the same layers");
        alive += u32::from(was_running);
        new_seen += u32::from(was_running && seen != old);
        named.extend([seen, new.clone()]);
        check_no_temporary_file(&project, 1);
        check_no_container(&project, &snapshots);
        old = new;
    }
    eprintln!("{alive} killed while running, over {whole:?}; {new_seen} had named their image already");
    assert_eq!(alive, KILLS, "too few were still running");
    assert_eq!(docker(&["run", "--rm", &project.image, "cat", "/usr/share/kill-runtime-demo/content"]).ok().out, "first\n");
    // Every image was named at its time; those that lost the name to the next are the user's.
    let made = docker(&["images", "--no-trunc", "--quiet", "--filter", &format!("label={mark}")]).ok().out;
    let strays: Vec<&str> = made.lines().filter(|id| !named.iter().any(|name| name == id)).collect();
    let _ = run(Command::new("docker").args(["image", "rm", "--force"]).args(made.lines()));
    assert_eq!(strays, Vec::<&str>::new(), "images that a killed run built are left");
}

//! Killed at any point, a run leaves the old state or the new one, and the next run finishes.

use crate::clients::Container;
use crate::on::On;
use crate::rpm_mutations::metadata;
use crate::support::{Family, Project, Serving, Used, docker, http_get, long, run, uses, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use twostage_model::Sha256;

/// How often a delay is tried at most: one may turn out longer than the run.
const ROUNDS: u32 = 45;

/// How many kills of a running command it has to survive: `KILLS`, or few.
const KILLS: u32 = 20;
fn kills() -> u32 {
    if long() { KILLS } else { 6 }
}

/// The same points in every run of the test.
struct Dice(u64);

impl Dice {
    /// A part of `whole`, from none to all of it.
    fn part_of(&mut self, whole: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        whole.mul_f64(f64::from(u32::try_from(self.0 >> 33).unwrap_or_default()) / f64::from(1_u32 << 31))
    }
}

/// A command that runs as a process group of its own.
struct Running(Child);

impl Running {
    /// Starts it, and waits for the line that tells of `step`, if one is named.
    fn start(mut command: Command, step: Option<&str>) -> Running {
        let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        if let Some(step) = step {
            lines.find(|line| line.ends_with(step)).unwrap_or_else(|| panic!("it never said {step:?}"));
        }
        std::thread::spawn(move || lines.count());
        Running(child)
    }

    /// Kills the whole group; of the engine that needs no daemon only the command, since whatever that has started is
    /// to end with it. Whether it was still running.
    fn kill(mut self, on: On) -> bool {
        let running = self.0.try_wait().expect("our child").is_none();
        let started = descendants(self.0.id());
        if running {
            // Not reaped yet, so the number is still this group's.
            let group = if on == On::Docker { "-" } else { "" };
            run(Command::new("kill").args(["-KILL", "--", &format!("{group}{}", self.0.id())])).ok();
        }
        self.0.wait().expect("our child");
        wait_until("what the command started has ended with it", || started.iter().all(|process| !process.lives()));
        running
    }
}

/// A process; numbers come again, but not with the same time of start.
#[derive(Clone, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    start: String,
}

impl Process {
    /// What proc(5) says of it: the name ends at the last parenthesis; state, parent, and as the 20th field the start follow.
    fn of(id: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        // (A zombie has ended.)
        (*fields.first()? != "Z").then_some(())?;
        Some(Process { id, parent: fields.get(1)?.parse().ok()?, start: (*fields.get(19)?).to_string() })
    }

    fn lives(&self) -> bool {
        Process::of(self.id).is_some_and(|now| now.start == self.start)
    }
}

/// All that a process has started, and that these have.
fn descendants(of: u32) -> Vec<Process> {
    let ids = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let all: Vec<Process> = ids.filter_map(Process::of).collect();
    let (mut found, mut parents) = (Vec::new(), vec![of]);
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|process| process.parent == parent);
        for child in children {
            parents.push(child.id);
            found.push(child.clone());
        }
    }
    found
}

/// Kills the command after `delay`, counted from `step`. Whether it was still running then.
fn killed(on: On, command: Command, step: Option<&str>, delay: Duration) -> bool {
    let running = Running::start(command, step);
    std::thread::sleep(delay);
    running.kill(on)
}

/// Kills the command as soon as something is so. Whether it was still running then.
fn killed_when(on: On, command: Command, so: impl Fn() -> bool) -> bool {
    let mut running = Running::start(command, None);
    while !so() && running.0.try_wait().expect("our child").is_none() {
        std::thread::yield_now();
    }
    running.kill(on)
}

/// A real client of the channel, which knows nothing of it but its client file.
enum Client {
    Apt,
    /// In a container of the project's base.
    Dnf(Container),
}

impl Client {
    fn of(family: Family, project: &Project) -> Client {
        match family {
            Family::Deb => Client::Apt,
            Family::Rpm => Client::Dnf(Container::of_image(&project.base(), &[])),
        }
    }

    /// What it gets from the channel: signatures, indexes and the bytes of every package checked.
    /// Each package's name to what tells its content.
    fn read(&self, server: &Serving) -> BTreeMap<String, String> {
        let packages = match self {
            Client::Apt => read_by_apt(server),
            Client::Dnf(container) => read_by_dnf(container, server),
        };
        assert!(!packages.is_empty(), "the channel has packages");
        packages
    }
}

/// What the metadata says that a client would read now.
fn listed(family: Family, server: &Serving) -> BTreeMap<String, String> {
    let after = |text: &str, mark: &str, end: char| {
        let value = text.split_once(mark).and_then(|(_, rest)| rest.split_once(end));
        value.unwrap_or_else(|| panic!("no {mark} in {text}")).0.trim().to_string()
    };
    match family {
        Family::Deb => {
            let packages = String::from_utf8(server.get("/main/dists/twostage/main/binary-amd64/Packages")).expect("text");
            let stanzas = packages.split_terminator("\n\n").map(|stanza| format!("\n{stanza}\n"));
            let field = |stanza: &str, name: &str| after(stanza, &format!("\n{name}: "), '\n');
            stanzas.map(|s| (field(&s, "Package"), format!("{} {}", field(&s, "Version"), field(&s, "SHA256")))).collect()
        }
        Family::Rpm => {
            let xml = metadata(server, "primary");
            let file = |package: &str| after(package, "<location href=\"", '"').rsplit('/').next().map(String::from);
            // (dnf downloads no sources unless it is asked to.)
            let packages = xml.split("<package ").skip(1).filter(|package| !package.contains("<arch>src</arch>"));
            packages.map(|p| (file(p).expect("a name"), after(p, "pkgid=\"YES\">", '<'))).collect()
        }
    }
}

/// Everything that dnf lists, as it downloads it. (`rpm -K` says whether the signatures are ours.)
fn read_by_dnf(container: &Container, server: &Serving) -> BTreeMap<String, String> {
    let script = "set -eu
        export HOME=$(mktemp -d)
        cd $HOME
        mkdir repos got keys
        printf '%%_keyring fs\\n%%_keyringpath %s/keys\\n' $HOME > .rpmmacros
        get() { python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' http://$1; }
        get $1/main.repo > repos/main.repo
        for key in $(grep -o 'http://[^ ]*[.]asc' repos/main.repo); do get ${key#http://} > key; rpm --import key; done
        dnf --quiet --assumeyes --setopt=reposdir=$HOME/repos --setopt=cachedir=$HOME/cache --setopt=logdir=$HOME/log \\
            --setopt=persistdir=$HOME/persist download --destdir got '*' >&2
        rpm -K got/* >&2
        sha256sum got/*
        rm -r $HOME";
    let done = container.exec(&["sh", "-c", script, "sh", &server.address]).ok();
    let parts = |line: &str| line.split_once("  got/").map(|(digest, name)| (name.to_string(), digest.to_string()));
    done.out.lines().filter_map(parts).collect()
}

fn read_by_apt(server: &Serving) -> BTreeMap<String, String> {
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

/// What tells that a container is of a project.
enum Of<'a> {
    /// Ours have a label.
    Project(&'a Project),
    /// Those of the engine's own builder have a command that names the snapshot.
    Snapshot(&'a str),
}

impl Of<'_> {
    /// The containers that the engine has, running or not, one a line.
    fn containers(&self) -> Vec<String> {
        let list = |more: &[&str]| docker(&[&["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Command}}"], more].concat()).ok().out;
        let (all, word) = match self {
            Of::Project(project) => (list(&["--filter", &format!("label=twostage.project={}", project.id())]), ""),
            Of::Snapshot(snapshot) => (list(&[]), *snapshot),
        };
        all.lines().filter(|line| line.contains(word)).map(String::from).collect()
    }
}

/// Waits until no container is left. (Docker notices by itself, within moments, that whoever asked for a build is gone.)
/// Of the other engine, whose next command takes away what a killed one left, nothing half is left either.
fn check_none(on: On, of: &[Of<'_>]) {
    let left = || match on {
        On::Docker => of.iter().flat_map(Of::containers).collect(),
        On::Embedded(_) => half_done(on),
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !left().is_empty() {
        assert!(Instant::now() < end, "containers are left: {:?}", left());
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// What is in a store only while somebody is at work.
fn half_done(on: On) -> Vec<String> {
    let names = |folder: &str| fs::read_dir(on.store().join(folder)).into_iter().flatten().flatten();
    ["containers", "incoming", "trash"].into_iter().flat_map(names).map(|entry| entry.path().display().to_string()).collect()
}

/// Shows that the containers of a running command are found: else no check would mean anything.
fn check_found(on: On, of: &[Of<'_>], command: impl Fn() -> Command) {
    for of in of {
        let end = Instant::now() + Duration::from_secs(180);
        // On a machine with much to do, a look may take longer than the container is there.
        while !is_found(on, of, Running::start(command(), None)) {
            assert!(Instant::now() < end, "waited in vain: a running command has a container");
        }
    }
}

/// Whether a container was seen while this command ran. It is killed then.
fn is_found(on: On, of: &Of<'_>, mut running: Running) -> bool {
    while running.0.try_wait().expect("our child").is_none() {
        let found = match on {
            On::Docker => !of.containers().is_empty(),
            On::Embedded(_) => !half_done(on).is_empty() && descendants(running.0.id()).len() > 2,
        };
        if found {
            return running.kill(on);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn repo_killed_at_any_point_leaves_the_old_snapshot_or_the_new_one() {
    repo_killed(On::Docker, Family::Deb, "kill-repo");
}

#[test]
fn repo_of_rpms_killed_at_any_point_leaves_the_old_snapshot_or_the_new_one() {
    repo_killed(On::Docker, Family::Rpm, "kill-repo-rpm");
}

#[test]
fn repo_without_a_daemon_killed_at_any_point_leaves_the_old_snapshot_or_the_new_one() {
    repo_killed(On::Embedded("kill-repo"), Family::Deb, "kill-repo-alone");
}

#[test]
fn repo_of_rpms_without_a_daemon_killed_at_any_point_leaves_the_old_snapshot_or_the_new_one() {
    if long() {
        repo_killed(On::Embedded("kill-repo-rpm"), Family::Rpm, "kill-repo-rpm-alone");
    }
}

fn repo_killed(on: On, family: Family, test: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::quick_on(on, family, test, "kill-repo-demo");
    project.run(&["repo"]).ok();
    let server = Serving::of(project.path());
    let client = Client::of(family, &project);
    let touch = |round: u32| project.write("kill-repo-demo/content", &format!("round {round}\n"));
    let finish = || {
        let start = Instant::now();
        project.run(&["repo"]).ok();
        start.elapsed()
    };
    touch(0);
    let mut whole = finish();
    let (kills, mut dice) = (kills(), Dice(2));
    touch(ROUNDS + 1);
    check_found(on, &[Of::Project(&project)], || project.command(&["repo"]));
    finish();
    check_none(on, &[Of::Project(&project)]);
    let mut old = client.read(&server);
    assert_eq!(old, listed(family, &server), "a client gets what the metadata lists");
    let (mut alive, mut new_seen) = (0, 0);
    for round in 1..=ROUNDS {
        if alive >= kills && new_seen > 0 {
            break;
        }
        touch(round);
        // Most anywhere; every third where the channel moves.
        let step = round.is_multiple_of(3).then_some("publishing its packages");
        let delay = dice.part_of(if step.is_some() { whole / 3 } else { whole });
        // And every fifth as soon as it has moved.
        let (command, before) = (project.command(&["repo"]), project.snapshot());
        let was_running = match round.is_multiple_of(5) {
            true => killed_when(on, command, || project.snapshot() != before),
            false => killed(on, command, step, delay),
        };
        let seen = client.read(&server);
        finish();
        let new = listed(family, &server);
        assert_ne!(old, new, "round {round}: the component was built");
        assert!(seen == old || seen == new, "round {round}, killed after {delay:?}: neither the old snapshot nor the new one\n{seen:?}");
        alive += u32::from(was_running);
        new_seen += u32::from(was_running && seen == new);
        whole = if was_running { whole } else { whole.mul_f64(0.9) };
        check_no_temporary_file(&project, 1);
        check_none(on, &[Of::Project(&project)]);
        old = new;
    }
    assert_eq!(old, client.read(&server), "a client gets what the metadata lists");
    eprintln!("{alive} killed while running, over {whole:?}; {new_seen} had published already");
    assert!(alive >= kills, "too few were still running");
    assert!((1..alive).contains(&new_seen), "of {alive} kills {new_seen} came after the channel had moved");
}

#[test]
fn runtime_killed_at_any_point_leaves_the_earlier_image_and_no_container() {
    runtime_killed(On::Docker, Family::Deb, "kill-runtime");
}

#[test]
fn runtime_of_rpms_killed_at_any_point_leaves_the_earlier_image_and_no_container() {
    runtime_killed(On::Docker, Family::Rpm, "kill-runtime-rpm");
}

#[test]
fn runtime_of_rpms_without_a_daemon_killed_at_any_point_leaves_the_earlier_image_and_no_container() {
    // (Its client, dnf, takes long to read the channel after every kill.)
    if long() {
        runtime_killed(On::Embedded("kill-runtime-rpm"), Family::Rpm, "kill-runtime-rpm-alone");
    }
}

#[test]
fn runtime_without_a_daemon_killed_at_any_point_leaves_the_earlier_image_and_no_container() {
    runtime_killed(On::Embedded("kill-runtime"), Family::Deb, "kill-runtime-alone");
}

fn runtime_killed(on: On, family: Family, test: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::quick_on(on, family, test, "kill-runtime-demo");
    project.run(&["repo"]).ok();
    let server = Serving::of(project.path());
    let client = Client::of(family, &project);
    let channel = client.read(&server);
    assert_eq!(channel, listed(family, &server), "a client gets what the metadata lists");
    let toml = project.read("twostage.toml");
    let mark = &format!("org.example.{}", project.image);
    // Another label is another Dockerfile, so that something has to be made.
    let touch = |round: u32| project.write("twostage.toml", &format!("{toml}labels = {{ \"{mark}\" = \"{round}\" }}\n"));
    let id_of = || on.id_of(&project.image).expect("the image");
    let finish = |more: &[&str]| {
        let start = Instant::now();
        project.run(&[&["runtime"], more].concat()).ok();
        (start.elapsed(), id_of())
    };
    touch(0);
    let (mut whole, first) = finish(&["--no-cache"]);
    let layers = project.diff_ids();
    let snapshot = project.snapshot();
    touch(ROUNDS + 1);
    let containers = [Of::Project(&project), Of::Snapshot(&snapshot)];
    check_found(on, &containers, || project.command(&["runtime", "--no-cache"]));
    let (_, mut old) = finish(&[]);
    let mut named = vec![first, old.clone()];
    // (Each kill costs a build.)
    let (kills, mut dice) = (if long() { KILLS } else { 4 }, Dice(8));
    // (A client takes long to read all of it. Images are made from the channel, and nothing is written to it.)
    let read = || if kills == KILLS { client.read(&server) } else { listed(family, &server) };
    let (mut alive, mut new_seen) = (0, 0);
    for round in 1..=ROUNDS {
        if alive == kills {
            break;
        }
        touch(round);
        // Most anywhere; every third between the image and its name.
        let step = round.is_multiple_of(3).then_some("auditing");
        let delay = dice.part_of(if step.is_some() { whole / 3 } else { whole });
        let was_running = killed(on, project.command(&["runtime", "--no-cache"]), step, delay);
        let seen = id_of();
        assert_eq!(project.diff_ids(), layers, "round {round}: the name is an image that is whole");
        assert_eq!(read(), channel, "round {round}: the channel is as it was");
        // Sometimes all anew, mostly what the engine's cache allows.
        let anew = round.is_multiple_of(5);
        let (_, new) = finish(if anew { &["--no-cache"] } else { &[] });
        assert!(seen == old || seen == new || anew, "round {round}, killed after {delay:?}");
        assert_eq!(on.label(&project.image, mark), round.to_string(), "the next run finished");
        assert_eq!(project.diff_ids(), layers, "round {round}: and made the same layers");
        alive += u32::from(was_running);
        new_seen += u32::from(was_running && seen != old);
        whole = if was_running { whole } else { whole.mul_f64(0.9) };
        named.extend([seen, new.clone()]);
        check_no_temporary_file(&project, 1);
        check_none(on, &containers);
        old = new;
    }
    assert_eq!(client.read(&server), channel, "the channel is as it was");
    eprintln!("{alive} killed while running, over {whole:?}; {new_seen} had named their image already");
    assert_eq!(alive, kills, "too few were still running");
    assert_eq!(on.run(&project.image, &["cat", "/usr/share/kill-runtime-demo/content"]), "first\n");
    if on != On::Docker {
        return;
    }
    // Every image had the name at its time, and those that lost it to the next are the user's. A
    // killed build's steps are the engine's cache; only a whole image (its last step is the label
    // of the snapshot) is ours to remove. (Docker gives a name only while somebody listens: a kill during the last
    // step leaves an image without one, which a build without the cache does not find again.)
    let made = |more: &[&str]| {
        let filter = format!("label={mark}");
        docker(&[&["images", "--no-trunc", "--quiet", "--filter", &filter], more].concat()).ok().out
    };
    let whole_images = made(&["--filter", &format!("label=twostage.snapshot={snapshot}")]);
    let strays = whole_images.lines().filter(|id| !named.iter().any(|name| name == id)).count();
    let all = made(&[]);
    eprintln!("{strays} whole images without a name, {} steps in the engine's cache", all.lines().count() - whole_images.lines().count());
    let _ = run(Command::new("docker").args(["image", "rm", "--force"]).args(all.lines()));
    assert!(strays <= 1, "{strays} images that killed runs built are left");
    let unexamined = docker(&["images", "--format", "{{.Tag}}", "twostage-unexamined"]).ok().out;
    assert!(!unexamined.contains(&project.id()), "a name of an image that was not examined is left:\n{unexamined}");
}

#[test]
fn a_bootstrap_that_is_killed_leaves_nothing_to_the_next_run() {
    uses(Used::Engine);
    let project = Project::hello("kill-base");
    let scratch = || -> Vec<PathBuf> {
        let folder = Sha256::of(project.path().canonicalize().expect("a folder").as_os_str().as_encoded_bytes()).short();
        let paths = fs::read_dir(std::env::temp_dir()).expect("a folder").flatten().map(|entry| entry.path());
        paths.filter(|path| path.to_string_lossy().contains(&folder)).collect()
    };
    // (Another test may have made the same base today. What it leaves in a cache goes after a day.)
    let cache = tempfile::tempdir().expect("a folder");
    let mut command = project.command(&["repo"]);
    command.env("XDG_CACHE_HOME", cache.path());
    let bootstrap = Running::start(command, Some("making bootstrap debian:bookworm"));
    let unpacked = |root: fs::DirEntry| root.path().join("etc").is_dir();
    wait_until("mmdebstrap is at work", || {
        scratch().iter().filter_map(|folder| fs::read_dir(folder).ok()).any(|roots| roots.flatten().any(unpacked))
    });
    assert!(bootstrap.kill(On::Docker), "it was at work");
    assert_eq!(scratch().len(), 1, "what it had begun is there");
    check_none(On::Docker, &[Of::Project(&project)]);
    // What a run that died while it wrote would leave: nothing of it may stay.
    for name in [".twostage-incoming-AbCdE1", "images/hello/.twostage-incoming-AbCdE1", "incoming-AbCdE1", "collected-AbCdE1"] {
        let name = &format!(".twostage/{name}");
        fs::create_dir_all(project.join(name).parent().expect("a folder")).expect("a folder");
        project.write(name, "half");
    }
    // Any command that works on the project sweeps; this one needs nothing else.
    project.run(&["publish", "no-such-file.deb"]).fails_with(5);
    assert_eq!(scratch(), Vec::<PathBuf>::new());
    check_no_temporary_file(&project, 0);
}

//! The embedded engine against Docker 26 with BuildKit: each Dockerfile of `tests/dockerfiles`, built layer by layer and
//! compiled into one layer, gives the files and the configuration that Docker makes of it.

use crate::engines::Other;
use crate::support::{Done, Helper, Used, long, root, run, tool, twostage, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use twostage_engine::{Build, Engine, Network, file_stream};
use twostage_model::{Error, date};

/// Where a difference is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Built layer by layer.
    Layers,
    /// Compiled into one layer.
    Compile,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Way::Layers => "layers",
            Way::Compile => "compile",
        }
    }
}

/// Differences that are meant: in which cases and ways, what the line about it is like (`*` is anything), and why.
/// `docs/decisions/compile.md` has them, too.
struct Meant {
    cases: &'static [&'static str],
    ways: &'static [Way],
    line: &'static str,
    why: &'static str,
}

const BOTH: &[Way] = &[Way::Layers, Way::Compile];
const LAYERS: &[Way] = &[Way::Layers];
const COMPILE: &[Way] = &[Way::Compile];

const fn meant(cases: &'static [&'static str], ways: &'static [Way], line: &'static str, why: &'static str) -> Meant {
    Meant { cases, ways, line, why }
}

const ARGUMENTS: &str = "the history has the value that was given, not the default, as later BuildKits have it";
const FOLDERS: &str = "a folder that is there keeps its time, as it keeps its rights, when another is copied into it";
const LINKED: &str = "in one container hard links stay links; between layers overlayfs breaks them";
const ATTRIBUTES: &str = "Docker loses attributes `user.*` where it writes a layer; whoever set them wants them";
const DEVICES: &str = "the engine's user namespace may make no devices";
const MOUNTED: &str = "what something is mounted over is made in no layer";
const GLOBALS: &str = "a global ARG without a value leaves a predefined one as it is, as later BuildKits have it";
const CHMOD: &str = "Docker 26 passes over what it cannot read in --chmod; later BuildKits read it";
const LIKE_RUN: &str = "a RUN sees what a command of `docker run` sees";

const MEANT: &[Meant] = &[
    meant(&["05", "06", "98", "118", "120", "149", "159"], LAYERS, "history *: docker ('ARG *", ARGUMENTS),
    meant(
        &["07", "09", "10", "16", "49", "50", "52", "53", "70", "88", "99", "107", "117", "143", "158"],
        BOTH,
        "/*: time: docker 1?????????, ours *",
        FOLDERS,
    ),
    meant(&["53"], LAYERS, "layer 3: /data: only docker has it: dir *", FOLDERS),
    meant(&["14"], COMPILE, "/*/hard: owner: docker 0:0, ours 1000:1001", LINKED),
    meant(&["34"], COMPILE, "/?: text: docker b'x\\n', ours b'changed\\n'", LINKED),
    meant(&["34"], COMPILE, "/data/third: mode: docker 0o644, ours 0o600", LINKED),
    meant(&["35"], COMPILE, "/s/again: owner: docker 3:4, ours 70000:80000", LINKED),
    meant(&["14", "34", "35"], COMPILE, "/*: also called: docker *", LINKED),
    meant(&["17", "18", "36"], BOTH, "*: user.note: docker None, ours 'kept?'", ATTRIBUTES),
    meant(&["17", "18", "36"], BOTH, "*/null: only docker has it: char *", DEVICES),
    meant(&["18"], LAYERS, "layer 2: /m/.wh.null: only ours has it: ", DEVICES),
    meant(&["43"], LAYERS, "layer 5: /etc: only docker has it: dir *", MOUNTED),
    meant(&["46"], BOTH, "*/???: only docker has it: dir 0o755 0:0", MOUNTED),
    meant(&["46"], BOTH, "*/proc: only docker has it: dir 0o755 0:0", MOUNTED),
    meant(&["120"], BOTH, "/after: text: docker b'linux/amd64  *, ours b'linux/amd64 linux *", GLOBALS),
    meant(&["120"], LAYERS, "layer 2: /after: text: docker b'linux/amd64  *, ours b'linux/amd64 linux *", GLOBALS),
    meant(&["120"], LAYERS, "history 5: docker ('RUN |8 * TARGETOS= *, ours ('RUN |8 * TARGETOS=linux *", GLOBALS),
    meant(&["157"], BOTH, "*: mode: docker *, ours *", CHMOD),
    meant(&["157"], LAYERS, "history 4: docker ('COPY --chmod=$M *", CHMOD),
    meant(&["89"], BOTH, "*/env: text: docker *, ours *HOSTNAME=buildkitsandbox*", LIKE_RUN),
    meant(&["89"], BOTH, "*/list: text: docker *, ours *nmtab*", LIKE_RUN),
];

/// Cases that were wrong once, and are looked at each time.
const ALWAYS: &[&str] = &["66", "97", "98", "99", "100", "101", "104", "107"];

impl Meant {
    fn is(&self, case: &str, way: Way, line: &str) -> bool {
        self.ways.contains(&way) && self.cases.iter().any(|number| case.starts_with(number)) && like(self.line.as_bytes(), line.as_bytes())
    }
}

/// `*` is anything, `?` one byte.
fn like(pattern: &[u8], line: &[u8]) -> bool {
    match (pattern.split_first(), line.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => like(rest, line),
        (Some((b'*', rest)), Some((_, shorter))) => like(rest, line) || like(pattern, shorter),
        (Some((one, rest)), Some((first, shorter))) => (*one == b'?' || one == first) && like(rest, shorter),
        _ => false,
    }
}

/// A file of `tests/dockerfiles`, and what the comments at its head say.
struct Case {
    name: String,
    text: String,
    build: Vec<String>,
    /// Who refuses it, and what they say: `ours`, `both` and `compile`.
    refused: BTreeMap<String, String>,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for entry in fs::read_dir(root().join("tests/dockerfiles")).expect("the cases").flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_suffix(".Dockerfile") else { continue };
            let text = fs::read_to_string(entry.path()).expect("a case");
            let mut case = Case { name: name.to_string(), build: Vec::new(), refused: BTreeMap::new(), text: text.clone() };
            for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
                if let Some(build) = line.strip_prefix("build: ") {
                    // (`\ ` is a space within a word.)
                    let words = build.replace("\\ ", "\u{1f}");
                    case.build = words.split(' ').map(|word| word.replace('\u{1f}', " ")).collect();
                } else if let Some((who, why)) = line.split_once(" refuse: ").or_else(|| line.split_once(" refuses: ")) {
                    case.refused.insert(who.to_string(), why.to_string());
                }
            }
            cases.push(case);
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    /// What its RUNs reach: where ADD fetches from this machine, that is the machine's.
    fn network(&self) -> (Network, &'static str) {
        if self.text.contains("@server") { (Network::Host, "host") } else { (Network::None, "none") }
    }

    /// The context, with the Dockerfile in it; `server` is where it fetches from.
    fn fill(&self, folder: &Path, shared: &Path, server: &str) {
        tool("cp", &["-a", &shared.join(".").to_string_lossy(), &folder.to_string_lossy()]).ok();
        fs::write(folder.join("Dockerfile"), self.text.replace("@server", server)).expect("a file");
        let prepare = root().join("tests/dockerfiles").join(format!("{}.sh", self.name));
        if prepare.exists() {
            run(Command::new("sh").arg("-e").arg(prepare).current_dir(folder)).ok();
        }
        run(Command::new("touch").args(["-d", "@1500000000", "Dockerfile", "."]).current_dir(folder)).ok();
    }

    /// What follows `option`.
    fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        self.build.windows(2).filter(move |pair| pair[0] == option).map(|pair| pair[1].as_str())
    }

    fn refused(&self, who: &[&str]) -> Option<&str> {
        who.iter().find_map(|who| self.refused.get(*who)).map(String::as_str)
    }
}

/// What a run has.
struct Place {
    folder: tempfile::TempDir,
    docker: Other,
    server: Helper,
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    since: i64,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("differential").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let docker = Other::of_trixie("docker");
        fs::create_dir(at("context")).expect("a folder");
        run(Command::new(root().join("tests/dockerfiles/context.sh")).arg(at("context"))).ok();
        run(Command::new(root().join("tests/tools/small_base.sh")).arg("base").env("DOCKER_HOST", &docker.service.line)).ok();
        let archive = at("base.tar");
        run(Command::new("docker").args(["save", "--output"]).arg(&archive).arg("base").env("DOCKER_HOST", &docker.service.line)).ok();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let engine = runtime.block_on(async {
            let program = env!("CARGO_BIN_EXE_twostage").into();
            let engine = Engine::embedded(Some(&at("store")), Some(program)).await.unwrap_or_else(|error| panic!("{}", told(&error)));
            let stream = file_stream(tokio::fs::File::open(&archive).await.expect("the base"));
            engine.load(stream).await.unwrap_or_else(|error| panic!("{}", told(&error)));
            engine
        });
        let since = date::now() - 60;
        let server = Helper::start(&mut Command::new(root().join("tests/tools/url_server.py")));
        Place { folder, docker, server, engine, runtime, since }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn docker(&self) -> Command {
        // (The client that knows BuildKit without its plugin.)
        let old = Path::new("/usr/bin/docker");
        let mut command = Command::new(if old.exists() { old } else { Path::new("docker") });
        command.env("DOCKER_HOST", &self.docker.service.line).env("DOCKER_BUILDKIT", "1").env("BUILDKIT_PROGRESS", "plain");
        command
    }

    /// What Docker makes of a case, as an archive; none if it refuses.
    fn theirs(&self, case: &Case, context: &Path) -> Result<PathBuf, String> {
        let name = format!("docker-{}", case.name);
        let mut build = self.docker();
        build.args(["build", "--network", "none", "--no-cache", "--tag", &name]).args(&case.build).arg(context).current_dir(context);
        let done = run(&mut build);
        if done.status != 0 {
            return Err(done.err);
        }
        let archive = self.at(&format!("{name}.tar"));
        run(self.docker().args(["save", "--output"]).arg(&archive).arg(&name)).ok();
        Ok(archive)
    }

    fn layered(&self, case: &Case, context: &Path) -> Result<PathBuf, String> {
        let tar = Command::new("tar").args(["--xattrs", "--xattrs-include=*", "--sort=name", "-C"]).arg(context).args(["-c", "."]).output();
        let tar = tar.expect("tar").stdout;
        let build_args: BTreeMap<String, String> =
            case.values("--build-arg").filter_map(|word| word.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect();
        let secrets = case.values("--secret").filter_map(|word| {
            let (id, file) = word.strip_prefix("id=")?.split_once(",src=")?;
            Some((id.to_string(), context.join(file)))
        });
        let secrets: BTreeMap<String, PathBuf> = secrets.collect();
        let build = Build { build_args: &build_args, network: case.network().0, secrets: &secrets, ..Build::new(tar, "Dockerfile") };
        self.runtime.block_on(async {
            let mut log = Vec::new();
            let built = self.engine.build(build, &mut |line| log.push(line.to_string())).await;
            let id = built.map_err(|error| format!("{}\n{}", log.join("\n"), told(&error)))?;
            Ok(self.saved(&id, &format!("layers-{}.tar", case.name)).await)
        })
    }

    fn compiled(&self, case: &Case, context: &Path) -> Result<PathBuf, String> {
        let name = format!("compiled-{}", case.name);
        let mut command = twostage();
        command
            .args(["compile", "--engine", "embedded", "--network", case.network().1, "--tag", &name, "--engine-host"])
            .arg(self.at("store"));
        for option in ["--build-arg", "--target"] {
            command.args(case.values(option).flat_map(|word| [option, word]));
        }
        command.args(case.values("--secret").flat_map(|word| ["--secret", word])).current_dir(context);
        let Done { status, err, .. } = run(command.arg(context));
        if status != 0 {
            return Err(err);
        }
        Ok(self.runtime.block_on(self.saved(&name, &format!("{name}.tar"))))
    }

    async fn saved(&self, image: &str, file: &str) -> PathBuf {
        let mut archive = self.engine.save(image).await.unwrap_or_else(|error| panic!("{image}: {}", told(&error)));
        let path = self.at(file);
        let to = path.clone();
        let copied = move || std::io::copy(&mut archive, &mut fs::File::create(to).expect("a file")).expect("saved");
        tokio::task::spawn_blocking(copied).await.expect("no panic");
        path
    }

    /// What differs, a line each.
    fn differences(&self, theirs: &Path, ours: &[(Way, PathBuf)]) -> Vec<(Way, String)> {
        let mut judge = Command::new("python3");
        judge.arg(root().join("tests/tools/compare_images.py")).arg(self.since.to_string()).arg(theirs);
        let done = run(judge.args(ours.iter().map(|(way, path)| format!("{}={}", way.word(), path.display())))).ok();
        let line = |line: &str| {
            let (word, line) = line.split_once(' ').expect("a way");
            let way = [Way::Layers, Way::Compile].into_iter().find(|way| way.word() == word);
            (way.expect("one that was asked for"), line.to_string())
        };
        done.out.lines().map(line).collect()
    }

    /// All that is wrong with a case.
    fn wrong(&self, case: &Case) -> Vec<(Way, String)> {
        let folder = self.at(&case.name);
        fs::create_dir(&folder).expect("a folder");
        case.fill(&folder, &self.at("context"), &self.server.line);
        let theirs = self.theirs(case, &folder);
        let (mut wrong, mut made) = (Vec::new(), Vec::new());
        // (The engine's own builder makes the last stage.)
        let last = case.values("--target").next().is_none();
        for way in [Way::Layers, Way::Compile].into_iter().filter(|way| last || *way == Way::Compile) {
            let ours = match way {
                Way::Layers => self.layered(case, &folder),
                Way::Compile => self.compiled(case, &folder),
            };
            let refused = case.refused(&["both", "ours", way.word()]);
            match (&theirs, ours, refused) {
                (_, Err(said), Some(why)) if said.contains(why) => {}
                (_, Err(said), Some(why)) => wrong.push((way, format!("it does not say {why:?}: {said}"))),
                (_, Ok(_), Some(_)) => wrong.push((way, "it is not refused".into())),
                (_, Err(said), None) => wrong.push((way, format!("it fails: {said}"))),
                (Err(_), Ok(_), None) => {}
                (Ok(_), Ok(ours), None) => made.push((way, ours)),
            }
        }
        if let (Ok(theirs), false) = (&theirs, made.is_empty()) {
            wrong.extend(self.differences(theirs, &made));
        }
        made.iter().for_each(|(_, archive)| fs::remove_file(archive).expect("a file"));
        match (theirs, case.refused.contains_key("both")) {
            (Ok(_), true) => wrong.push((Way::Layers, "docker does not refuse it".into())),
            (Err(said), false) if !case.refused.contains_key("ours") => wrong.push((Way::Layers, format!("docker fails: {said}"))),
            (Ok(archive), false) => fs::remove_file(archive).expect("a file"),
            _ => {}
        }
        wrong
    }
}

fn told(error: &Error) -> String {
    format!("{error}\n  because: {}\n  hint: {}", error.causes().join(": "), error.hint_text().unwrap_or("none"))
}

#[test]
fn the_embedded_engine_makes_of_each_dockerfile_what_docker_26_makes_of_it() {
    uses(Used::Engine);
    let start = Instant::now();
    let place = Place::new();
    let mut cases = Case::all();
    let count = cases.len();
    match std::env::var("TWOSTAGE_TEST_CASES") {
        // While working on one: only those that have this in their name.
        Ok(wanted) => cases.retain(|case| wanted.split(',').any(|part| case.name.contains(part))),
        Err(_) if long() => (),
        // Every sixth, and those.
        Err(_) => {
            let mut number = 0;
            cases.retain(|case| {
                number += 1;
                number % 6 == 1 || ALWAYS.iter().any(|always| case.name.starts_with(always))
            });
        }
    }
    let started = start.elapsed();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let wrong = place.wrong(case);
                    found.lock().expect("no panic").insert(case.name.clone(), wrong);
                }
            });
        }
    });
    let mut seen = BTreeSet::new();
    let mut said = String::new();
    for (name, wrong) in found.into_inner().expect("no panic") {
        for (way, line) in wrong {
            let all: Vec<usize> = (0..MEANT.len()).filter(|number| MEANT[*number].is(&name, way, &line)).collect();
            if all.is_empty() {
                said += &format!("{name} {way:?}: {line}\n");
            }
            seen.extend(all);
        }
    }
    eprintln!(
        "{} Dockerfiles: {:.0} s, {:.0} s of it until the engines were there",
        cases.len(),
        start.elapsed().as_secs_f64(),
        started.as_secs_f64()
    );
    assert!(said.is_empty(), "what is not meant to differ:\n{said}");
    if cases.len() == count {
        let stale = MEANT.iter().enumerate().filter(|(number, _)| !seen.contains(number));
        let stale: Vec<String> = stale.map(|(_, meant)| format!("{:?} {}: {}", meant.cases, meant.line, meant.why)).collect();
        assert!(stale.is_empty(), "these do not differ any more:\n{}", stale.join("\n"));
    }
}

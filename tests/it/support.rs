//! What the chapters share.

use crate::on::On;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What a test has used, for the counts that `make test` prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Used {
    Engine,
    Apt,
    Dnf,
    Zypper,
}

/// Counts a test that uses the real thing. Call it once a test and kind.
pub fn uses(what: Used) {
    count(match what {
        Used::Engine => "engine",
        Used::Apt => "apt",
        Used::Dnf => "dnf",
        Used::Zypper => "zypper",
    });
}

/// Counts a test that cannot be run here. In CI `make test` fails then.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    count("skipped");
}

/// A line for the end of what `make test` prints.
pub fn tell(line: &str) {
    println!("{line}");
    count(&format!("said {line}"));
}

fn count(word: &str) {
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS") {
        let mut file = fs::File::options().append(true).create(true).open(path).expect("the counts can be written");
        writeln!(file, "{word}").expect("the counts can be written");
    }
}

/// What a command did.
pub struct Done {
    pub status: i32,
    pub out: String,
    pub err: String,
    shown: String,
}

impl Done {
    /// The last line of standard output.
    pub fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    /// Fails the test, readably, unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Done {
        assert!(self.status == 0, "{} ended with {}\n--- stdout\n{}--- stderr\n{}", self.shown, self.status, self.out, self.err);
        self
    }

    /// Fails the test unless the command failed with this status.
    #[track_caller]
    pub fn fails_with(self, status: i32) -> Done {
        assert!(
            self.status == status,
            "{} ended with {}, not {status}\n--- stdout\n{}--- stderr\n{}",
            self.shown,
            self.status,
            self.out,
            self.err
        );
        self
    }

    /// Fails the test unless standard output ends so.
    #[track_caller]
    pub fn ends_with(self, text: &str) -> Done {
        assert!(
            self.out.trim_end().ends_with(text),
            "{} does not end with {text:?}\n--- stdout\n{}--- stderr\n{}",
            self.shown,
            self.out,
            self.err
        );
        self
    }

    /// Fails the test unless standard error holds this.
    #[track_caller]
    pub fn says(self, text: &str) -> Done {
        assert!(self.err.contains(text), "{} does not say {text:?}\n--- stderr\n{}", self.shown, self.err);
        self
    }
}

/// Whether the tests that take long are asked for, too: `make test-all`.
pub fn long() -> bool {
    let long = std::env::var("TWOSTAGE_TESTS").is_ok_and(|which| which == "all");
    if !long {
        count("short");
    }
    long
}

/// How many steps there are from one of many like cases to the next that is tried: one for `make test-all`.
pub fn step(short: usize) -> usize {
    if long() { 1 } else { short }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Done {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|cause| panic!("cannot run {shown}: {cause}"));
    let done = Done {
        status: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
        shown,
    };
    crate::errors::keep(&done);
    done
}

/// Runs a tool with arguments.
pub fn tool(program: &str, arguments: &[&str]) -> Done {
    run(Command::new(program).args(arguments))
}

/// The docker client that is installed with the engine.
pub fn docker(arguments: &[&str]) -> Done {
    tool("docker", arguments)
}

/// An image's tree as text, as `docker export` gives it.
pub fn exported_tree(image: &str) -> String {
    tool("python3", &[&root().join("tests/tools/export_tree.py").to_string_lossy(), image]).ok().out
}

/// This repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What an image of a test is called: an engine has one list of names, and two copies of this
/// repository may be tested on it at once.
pub fn image_name(test: &str) -> String {
    let checkout = twostage_model::Sha256::of(env!("CARGO_MANIFEST_DIR").as_bytes()).short();
    format!("twostage-test-{}-{test}", &checkout[..6])
}

/// Waits until something is so. It has a minute, which is far more than it should take.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The user's cache of all commands of this run.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-{}-cache", std::process::id()))
}

/// The command under test.
pub fn twostage() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twostage"));
    // (What an earlier run of the tests compiled is not this one's.)
    let cache = cache();
    command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", cache).env_remove("SOURCE_DATE_EPOCH").env_remove("TWOSTAGE_LOG");
    command
}

/// The two examples, which are the same program: as debs and as rpms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Deb,
    Rpm,
}

impl Family {
    fn example(self) -> &'static str {
        match self {
            Family::Deb => "hello",
            Family::Rpm => "hello-rpm",
        }
    }

    /// The package manager that its tests use.
    pub fn uses(self) {
        uses(match self {
            Family::Deb => Used::Apt,
            Family::Rpm => Used::Dnf,
        });
    }
}

/// The folder of `base.tar` and `builder.tar`, the stand-in for an rpm distribution. Made once.
pub fn rpm_bases() -> &'static Path {
    static BASES: OnceLock<PathBuf> = OnceLock::new();
    BASES.get_or_init(|| {
        let script = root().join("examples/hello-rpm/base.sh");
        let text = fs::read(&script).expect("the script");
        let digest = twostage_model::Sha256::of(&text).short();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rpm-bases-{digest}"));
        fs::create_dir_all(&folder).expect("a folder");
        run(Command::new(script).arg(&folder)).ok();
        folder
    })
}

/// Gives a project the key that all tests share, since to make one takes seconds. (Where a test is about two, it removes
/// this one.)
pub fn give_key(project: &Path) {
    static KEY: OnceLock<PathBuf> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-{}-key", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("twostage.toml"), "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n").expect("a file");
        run(twostage().arg("--project").arg(&folder).arg("export").arg(folder.join("export.tar"))).ok();
        folder.join(".twostage/repository/key")
    });
    let repository = project.join(".twostage/repository");
    fs::create_dir_all(&repository).expect("a folder");
    tool("cp", &["-a", &key.to_string_lossy(), &repository.to_string_lossy()]).ok();
}

/// A project in a folder of its own. Its images are removed when it goes.
pub struct Project {
    folder: tempfile::TempDir,
    family: Family,
    /// What runs its containers.
    pub on: On,
    /// The name of its image, different in every test, because an engine has one list of names.
    pub image: String,
}

impl Project {
    /// A copy of `examples/hello`, nothing built.
    pub fn hello(test: &str) -> Project {
        Project::example(Family::Deb, test)
    }

    /// A copy of one of the examples, nothing built.
    pub fn example(family: Family, test: &str) -> Project {
        Project::example_on(On::Docker, family, test)
    }

    fn example_on(on: On, family: Family, test: &str) -> Project {
        Project::copy_of(family.example(), on, family, test)
    }

    /// A copy of `examples/broadway`, without a daemon. Nothing is built, unless the variable names a folder of an earlier build.
    pub fn broadway(test: &str) -> Project {
        let project = Project::copy_of("broadway", crate::on::EMBEDDED, Family::Deb, test);
        if let Some(built) = std::env::var_os("TWOSTAGE_TEST_BROADWAY").map(PathBuf::from) {
            let lock = fs::read_to_string(built.join("twostage.lock")).expect("its lock");
            project.write("twostage.lock", &lock.replace("runtime:broadway", &format!("runtime:{}", project.image)));
            fs::remove_dir_all(project.join(".twostage/repository")).expect("it is replaced");
            let from = built.join(".twostage/repository").to_string_lossy().into_owned();
            tool("cp", &["-a", &from, &project.join(".twostage").to_string_lossy()]).ok();
        }
        project
    }

    fn copy_of(example: &str, on: On, family: Family, test: &str) -> Project {
        let folder = tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let project = Project { folder, family, on, image: image_name(test) };
        let runtime = [format!("[runtime.{example}]"), format!("[runtime.{}]", project.image)];
        let example = root().join("examples").join(example);
        for entry in fs::read_dir(example).expect("the example").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != ".twostage" && name != "twostage.lock" && !name.ends_with(".tar") {
                tool("cp", &["-a", &entry.path().to_string_lossy(), &project.path().to_string_lossy()]).ok();
            }
        }
        if family == Family::Rpm {
            for tar in ["base.tar", "builder.tar"] {
                fs::hard_link(rpm_bases().join(tar), project.join(tar)).expect("a link");
            }
        }
        project.edit("twostage.toml", |text| text.replace(&runtime[0], &runtime[1]));
        give_key(project.path());
        project
    }

    /// A copy of `examples/hello` with everything built already.
    pub fn built_hello(test: &str) -> Project {
        Project::built(Family::Deb, test)
    }

    /// A copy of an example with everything built already: the repository of a build that all tests share,
    /// copied. (`import` would verify every package again, which takes seconds; a test of its own does that.)
    pub fn built(family: Family, test: &str) -> Project {
        Project::built_on(On::Docker, family, test)
    }

    pub fn built_on(on: On, family: Family, test: &str) -> Project {
        let shared = shared_build(family);
        let project = Project::example_on(on, family, test);
        let lock = fs::read_to_string(shared.join("twostage.lock")).expect("the shared lock");
        project.write("twostage.lock", &lock.replace("runtime:twostage-test-shared", &format!("runtime:{}", project.image)));
        fs::create_dir_all(project.join(".twostage/repository")).expect("a folder");
        for entry in fs::read_dir(shared.join(".twostage/repository")).expect("the shared repository").flatten() {
            // The bases of rpms are files of the project; others, which nobody writes to again, are large.
            let (is_blobs, from) = (entry.file_name() == "blobs", entry.path());
            if !is_blobs || family == Family::Deb {
                let into = project.join(".twostage/repository");
                tool("cp", &[if is_blobs { "-al" } else { "-a" }, &from.to_string_lossy(), &into.to_string_lossy()]).ok();
            }
        }
        project.run(&["repo"]).ok();
        project
    }

    /// The same project in a folder of its own, as another machine has it: what is under version
    /// control, with other times, and nothing built.
    pub fn elsewhere(&self) -> Project {
        let folder = tempfile::Builder::new().prefix("elsewhere").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        for entry in fs::read_dir(self.path()).expect("the project").flatten().filter(|entry| entry.file_name() != ".twostage") {
            // (A base is large, and its time does not count.)
            let how = if entry.path().extension().is_some_and(|ending| ending == "tar") { "-rl" } else { "-r" };
            tool("cp", &[how, &entry.path().to_string_lossy(), &folder.path().to_string_lossy()]).ok();
        }
        Project { folder, family: self.family, on: self.on, image: self.image.clone() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.join(name), text).expect("the project can be written");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap_or_else(|cause| panic!("cannot read {name}: {cause}"))
    }

    pub fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        self.write(name, &change(self.read(name)));
    }

    /// The command, for this project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = twostage();
        self.on.choose(&mut command);
        command.arg("--project").arg(self.path()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments))
    }

    /// What the engine calls the project's locked base.
    pub fn base(&self) -> String {
        let lock = self.read("twostage.lock");
        let digest = lock.lines().find_map(|line| line.strip_prefix("digest = ")).expect("a locked base");
        format!("twostage-base:{}", &digest.trim_matches('"')[..12])
    }

    /// What its containers are labelled with, as `twostage.project`.
    pub fn id(&self) -> String {
        self.read(".twostage/id").lines().next().expect("an id").to_string()
    }

    /// The digests of the image's layers.
    pub fn diff_ids(&self) -> Vec<String> {
        self.on.diff_ids(&self.image)
    }

    /// What each component's last line said in a run of `repo`: built, unchanged, same.
    pub fn outcomes(done: &Done) -> BTreeMap<String, String> {
        done.out
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|event| event["event"] == "finished")
            .filter_map(|event| Some((event["subject"].as_str()?.to_string(), event["outcome"].as_str()?.to_string())))
            .collect()
    }
}

/// A component whose build takes 2 seconds: a package of one file, made without debhelper. Its
/// `Build-Depends` are those of `libgreet`, so it has a builder image and a closure already.
impl Project {
    /// `examples/hello`, built, with one component more and an image of only that one's package.
    pub fn quick(test: &str, component: &str) -> Project {
        Project::quick_on(On::Docker, Family::Deb, test, component)
    }

    /// The same of any example, on any engine.
    pub fn quick_on(on: On, family: Family, test: &str, component: &str) -> Project {
        let project = Project::built_on(on, family, test);
        project.add_quick(component);
        project.edit("twostage.toml", |text| {
            let (components, image) = text.split_once("[runtime.").expect("an image");
            let base = image.lines().find(|line| line.starts_with("base = ")).unwrap_or_default();
            format!("{components}[runtime.{}]\n{base}\npackages = [\"{component}\"]\n", project.image)
        });
        // The image takes nothing of the distribution; no mirror need be asked for that.
        project.edit("twostage.lock", |lock| {
            let (others, image) = lock.split_once("\n[[closure]]\nof = \"runtime:").expect("the image's closure");
            let base = image.lines().find(|line| line.starts_with("base = ")).expect("its base");
            let of = format!("of = \"runtime:{}\"\n{base}", project.image);
            let names = image.split_once("\n[[names]]\n").map_or(String::new(), |(_, names)| format!("\n[[names]]\n{names}"));
            format!("{others}\n[[closure]]\n{of}\nasked = [\"own {component}\"]\nown = [\"{component}\"]\npackages = [\n]\n{names}")
        });
        project
    }

    /// Adds one such component. Whether the distribution has a package of that name need not be asked: no lock may call
    /// a taken name free, but nobody takes names as ours are.
    pub fn add_quick(&self, component: &str) {
        self.lock_calls_free(component);
        self.add_unasked(component);
    }

    /// The lock says that neither a base nor its distribution has a package of that name.
    pub fn lock_calls_free(&self, name: &str) {
        self.edit("twostage.lock", |lock| lock.replace("\nfree = [", &format!("\nfree = [\"{name}\", ")));
    }

    /// The same as [`Project::add_quick`], where the lock does not say whose the name is.
    pub fn add_unasked(&self, component: &str) {
        match self.family {
            Family::Deb => self.add_quick_deb(component),
            Family::Rpm => self.add_quick_rpm(component),
        }
        self.edit("twostage.toml", |text| {
            text.replacen("[runtime.", &format!("[[component]]\nname = \"{component}\"\nsource = \"{component}\"\n\n[runtime."), 1)
        });
    }

    /// A closure of the lock, as text.
    fn locked(&self, of: &str) -> String {
        let lock = self.read("twostage.lock");
        let closure = lock.split("\n[[closure]]\n").find(|closure| closure.starts_with(&format!("of = \"{of}\"")));
        closure.expect("its closure").trim_end().to_string()
    }

    fn add_to_lock(&self, closure: &str) {
        self.edit("twostage.lock", |lock| lock.replacen("\n[[closure]]\n", &format!("\n[[closure]]\n{closure}\n\n[[closure]]\n"), 1));
    }

    fn add_quick_rpm(&self, component: &str) {
        fs::create_dir_all(self.join(component)).expect("the project can be written");
        self.write(&format!("{component}/content"), "first\n");
        self.write(
            &format!("{component}/{component}.spec"),
            &format!(
                "Name: {component}\nVersion: 1.0\nRelease: 1\nSummary: One file\nLicense: MIT\nBuildArch: noarch\nSource0: content\n\n\
                 %description\nMade for a test.\n\n%install\ninstall -D -m 644 %{{SOURCE0}} %{{buildroot}}/usr/share/{component}/content\n\n\
                 %files\n/usr/share/{component}\n\n%changelog\n* Thu Jan 01 2026 Hello Team <team@hello.example> - 1.0-1\n- First.\n"
            ),
        );
        let base = self.locked("build:libgreet");
        let base = base.lines().find(|line| line.starts_with("base = ")).expect("its base");
        self.add_to_lock(&format!("of = \"build:{component}\"\n{base}\nasked = [\"rpm-build\"]\nown = []\npackages = [\n]"));
    }

    fn add_quick_deb(&self, component: &str) {
        fs::create_dir_all(self.join(component).join("debian/source")).expect("the project can be written");
        let file = |name: &str, text: &str| self.write(&format!("{component}/{name}"), text);
        file("content", "first\n");
        file("debian/source/format", "3.0 (native)\n");
        file(
            "debian/changelog",
            &format!(
                "{component} (1.0) bookworm; urgency=medium\n\n  * First.\n\n -- Hello Team <team@hello.example>  Thu, 01 Jan 2026 00:00:00 +0000\n"
            ),
        );
        file(
            "debian/control",
            &format!(
                "Source: {component}\nSection: misc\nPriority: optional\nMaintainer: Hello Team <team@hello.example>\n\
                 Build-Depends: debhelper-compat (= 13)\nStandards-Version: 4.6.2\nRules-Requires-Root: no\n\n\
                 Package: {component}\nArchitecture: all\nDescription: one file\n Made for a test.\n"
            ),
        );
        file(
            "debian/rules",
            &format!(
                "#!/usr/bin/make -f\nclean build build-arch build-indep binary-arch:\nbinary: binary-indep\nbinary-indep:\n\
                 \tmkdir -p debian/tmp/DEBIAN debian/tmp/usr/share/{component}\n\
                 \tcp content debian/tmp/usr/share/{component}/content\n\
                 \tif [ -e debian/postinst ]; then install -m 755 debian/postinst debian/tmp/DEBIAN/postinst; fi\n\
                 \tdpkg-gencontrol\n\tdpkg-deb --root-owner-group --build debian/tmp ..\n"
            ),
        );
        fs::set_permissions(self.join(component).join("debian/rules"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a mode");
        // The lock's answer for libgreet, which asked the same.
        self.add_to_lock(&self.locked("build:libgreet").replace("build:libgreet", &format!("build:{component}")));
    }

    /// The channel's snapshot.
    pub fn snapshot(&self) -> String {
        let channel: serde_json::Value =
            serde_json::from_str(&self.read(".twostage/repository/channels/main.json")).expect("twostage writes JSON");
        channel["snapshot"].as_str().expect("a snapshot").to_string()
    }
}

/// A process that says one line when it is ready. It ends with its value.
pub struct Helper {
    child: std::process::Child,
    /// What it said.
    pub line: String,
}

impl Helper {
    pub fn start(command: &mut Command) -> Helper {
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("it says that it is ready");
        // Whatever it says later has somewhere to go.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Helper { child, line: line.trim().to_string() }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.on.remove(&self.image);
    }
}

/// An example, built once for all tests, which read it or copy it.
pub fn shared_build(family: Family) -> &'static Path {
    static DEB: OnceLock<PathBuf> = OnceLock::new();
    static RPM: OnceLock<PathBuf> = OnceLock::new();
    let (shared, kept) = match family {
        Family::Deb => (&DEB, "TWOSTAGE_TEST_SHARED"),
        Family::Rpm => (&RPM, "TWOSTAGE_TEST_SHARED_RPM"),
    };
    shared.get_or_init(|| {
        // While working on a test: the folder of an earlier run's shared build.
        if let Some(folder) = std::env::var_os(kept) {
            return folder.into();
        }
        forget_earlier_builds();
        let project = Project::example(family, &format!("shared-{}-", std::process::id()));
        project.edit("twostage.toml", |text| text.replace(&project.image, "twostage-test-shared"));
        project.run(&["repo"]).ok();
        let path = project.path().to_path_buf();
        // Needed until the last test ends; the next run of the tests removes it.
        std::mem::forget(project);
        path
    })
}

/// Removes the shared builds of test runs that have ended.
fn forget_earlier_builds() {
    for entry in fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.strip_prefix("shared-").and_then(|rest| rest.split('-').next()).unwrap_or_default();
        if !run.is_empty() && !Path::new("/proc").join(run).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// `twostage serve` of a project, on a port of its own, with its access log.
pub struct Serving {
    child: Child,
    /// `127.0.0.1:port`
    pub address: String,
    log: Arc<Mutex<Vec<serde_json::Value>>>,
}

/// What no client of packages asks for.
const HEALTH: &str = "/healthz";

impl Serving {
    pub fn of(project: &Path) -> Serving {
        let mut command = twostage();
        command.arg("--project").arg(project).args(["--json", "--log-format", "json", "serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
        let logged = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = lines.next().expect("it says where").expect("text");
        let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
        let address = first["address"].as_str().expect("an address").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in logged.map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{line}: {cause}"));
                seen.lock().expect("the log").push(line);
            }
        });
        Serving { child, address, log }
    }

    /// Each target that was asked for and sent so far, once, in order.
    pub fn fetched(&self) -> Vec<String> {
        // The log's line follows the last byte that the client has read; so a request of our own is made
        // until its line is all that is new.
        let log = || self.log.lock().expect("the log").clone();
        let mut before = log().len();
        loop {
            self.get(HEALTH);
            wait_until("the server logs our request", || log()[before..].iter().any(|line| line["uri"] == HEALTH));
            let now = log().len();
            if now == before + 1 {
                break;
            }
            before = now;
        }
        let mut targets: Vec<String> = Vec::new();
        for line in &log() {
            if let (Some("GET"), Some(target), Some(200)) = (line["method"].as_str(), line["uri"].as_str(), line["status"].as_u64())
                && target != HEALTH
                && !targets.iter().any(|known| known == target)
            {
                targets.push(target.to_string());
            }
        }
        targets
    }

    pub fn get(&self, target: &str) -> Vec<u8> {
        http_get(&self.address, target)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer that must be a good one.
pub fn http_get(address: &str, target: &str) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(address).expect("the server answers");
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    assert!(answer.starts_with(b"HTTP/1.0 200 ") || answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..head]));
    answer.split_off(head + 4)
}

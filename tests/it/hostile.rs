//! A project with every value of every key as bad as it can be (`tests/hostile`) is opened by every command under
//! strace: nothing outside of it is looked at, nothing but the state and the lock is written, and no word of it stands
//! in front of `--` in what is run.
//!
//! Of a process of a container nothing is asked once it has its own root: what it sees from then on is the container's.

use crate::support::{give_key, long, root, step, tool};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// Every command that opens a project. `{HOME}` is a folder that is the user's.
const COMMANDS: [&[&str]; 38] = [
    &["channel"],
    &["repo"],
    &["runtime"],
    &["lock"],
    &["publish", "{HOME}/none.deb"],
    &["export", "{HOME}/export.tar"],
    &["runtime", "--dockerfile"],
    &["repo", "--locked"],
    &["serve"],
    &["update"],
    &["outdated"],
    &["import", "{HOME}/none.tar"],
    &["import-from", "{HOME}/none"],
    &["audit", "oci:{HOME}/none"],
    &["load"],
    &["push", "demo", "docker://127.0.0.1:9/x"],
    &["doctor"],
    &["init"],
    &["channel", "main"],
    &["run", "demo"],
    &["list", "--all"],
    &["search", "demo"],
    &["show", "demo"],
    &["why", "demo"],
    &["build", "demo"],
    &["recipe", "recipe"],
    &["shell", "demo", "true"],
    &["remove", "demo"],
    &["promote", "main", "testing"],
    &["rollback"],
    &["diff", "main", "@0"],
    &["pin"],
    &["unpin", "@00"],
    &["gc", "--why"],
    &["gc", "--yes"],
    &["withdraw", "demo", "--reason", "x", "--yes"],
    &["fsck"],
    &["fsck", "--repair"],
];
/// Commands that do not open one: they take an image, a Dockerfile, or nothing.
const OTHERS: [&str; 9] = ["flatten", "compile", "plan", "completions", "images", "rm", "tag", "prune", "import-image"];

/// What every program of this machine reads, and apt, which knows its mirrors.
const OF_SYSTEM: [&str; 14] = [
    "/usr/",
    "/lib/",
    "/lib64/",
    "/bin/",
    "/sbin/",
    "/proc/",
    "/sys/",
    "/dev/",
    "/etc/ssl/",
    "/etc/ld.so.",
    "/etc/apt/",
    "/etc/dpkg/",
    "/var/lib/apt/",
    "/var/lib/dpkg/",
];
/// Which containers' networks there are (docs/decisions/network.md): two bytes of ours.
const NETWORKS: &str = "/run/twostage-network-";
/// Files of the machine's configuration.
const CONFIGURATION: [&str; 16] = [
    "passwd",
    "group",
    "nsswitch.conf",
    "subuid",
    "subgid",
    "os-release",
    "resolv.conf",
    "hosts",
    "hostname",
    "host.conf",
    "gai.conf",
    "localtime",
    "locale.alias",
    "gitconfig",
    "ca-certificates.conf",
    "protocols",
];

/// One way to spoil a file: what stands at a place of it becomes a word.
struct Variant {
    file: &'static str,
    at: Range<usize>,
    word: String,
}

/// Where a text has values: all that is in quotes, and all numbers and booleans.
fn values(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let bytes = line.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            if bytes[at] == b'"' {
                at += 1 + line[at + 1..].find('"').expect("an end of the value") + 1;
                found.push(offset + start..offset + at);
            } else if bytes[at].is_ascii_alphanumeric() || bytes[at] == b'-' || bytes[at] == b'_' {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || b"-_.".contains(&bytes[at])) {
                    at += 1;
                }
                if bytes[start].is_ascii_digit() || ["true", "false"].contains(&&line[start..at]) {
                    found.push(offset + start..offset + at);
                }
            } else {
                at += 1;
            }
        }
        offset += line.len();
    }
    found
}

/// The folders of one run.
struct Ground {
    whole: tempfile::TempDir,
    words: Vec<String>,
}

impl Ground {
    fn new() -> Ground {
        let whole = tempfile::tempdir().expect("a folder");
        for folder in ["outside", "home", "tmp", "store", "traces"] {
            fs::create_dir(whole.path().join(folder)).expect("a folder");
        }
        fs::write(whole.path().join("outside/secret"), "the host's").expect("a file");
        // A copy, so that a build during a long run does not change what is tried.
        fs::copy(env!("CARGO_BIN_EXE_twostage"), whole.path().join("twostage")).expect("the program");
        let source = root().join("tests/hostile/project");
        tool("cp", &["-r", &source.to_string_lossy(), &whole.path().join("template").to_string_lossy()]).ok();
        let template = whole.path().join("template");
        let small = root().join("tests/tools/small_base.sh");
        tool(&small.to_string_lossy(), &["--tar", &template.join("base.tar").to_string_lossy()]).ok();
        symlink("../outside", template.join("to-outside")).expect("a link");
        symlink("../outside/secret", template.join("to-file")).expect("a link");
        tool("mkfifo", &[&template.join("pipe").to_string_lossy()]).ok();
        give_key(&template);
        let key = template.join(".twostage/repository/key/signing.asc");
        fs::create_dir(template.join("keys")).expect("a folder");
        tool("cp", &["-a", &key.to_string_lossy(), &template.join("keys/team.asc").to_string_lossy()]).ok();
        let words = fs::read_to_string(root().join("tests/hostile/words")).expect("the words");
        let out = whole.path().join("outside").display().to_string();
        let words = words.lines().map(|word| word.replace("{OUT}", &out)).collect();
        Ground { whole, words }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.whole.path().join(name)
    }

    /// Every value of both files as every word.
    fn variants(&self) -> Vec<Variant> {
        let mut variants = Vec::new();
        for file in ["twostage.toml", "twostage.lock"] {
            let text = fs::read_to_string(self.at("template").join(file)).expect("the template");
            for at in values(&text) {
                variants.extend(self.words.iter().map(|word| Variant { file, at: at.clone(), word: word.clone() }));
            }
        }
        variants
    }

    /// The project with one value spoiled, in a folder of its own.
    fn project(&self, number: usize, variant: Option<&Variant>) -> PathBuf {
        let project = self.at(&format!("p{number}"));
        tool("cp", &["-a", "--reflink=auto", &self.at("template").to_string_lossy(), &project.to_string_lossy()]).ok();
        if let Some(variant) = variant {
            let path = project.join(variant.file);
            let mut text = fs::read_to_string(&path).expect("the file");
            text.replace_range(variant.at.clone(), &format!("\"{}\"", variant.word.replace('"', "\\\"")));
            fs::write(path, text).expect("the file");
        }
        project
    }

    /// Opens a project by a command of ours; gives what was done that must not be.
    fn opened(&self, project: &Path, arguments: &[&str], whole_project: bool) -> Vec<String> {
        self.traced(project, &self.at("twostage").to_string_lossy(), arguments, whole_project)
    }

    /// Runs a program in a project under strace; gives what it did that it must not.
    fn traced(&self, project: &Path, program: &str, arguments: &[&str], whole_project: bool) -> Vec<String> {
        let name = project.file_name().expect("a name").to_string_lossy().into_owned();
        let traces = self.at("traces").join(&name);
        let _ = fs::remove_dir_all(&traces);
        fs::create_dir(&traces).expect("a folder");
        let home = self.at("home");
        let seconds = if arguments[0] == "serve" || arguments.contains(&"sleep 30") { "1" } else { "60" };
        let mut command = Command::new("strace");
        command
            .args(["-ff", "-y", "-qq", "-s", "4096", "--seccomp-bpf", "--pidns-translation"])
            .args(["-e", "trace=%file,clone,clone3,fork,vfork,execve,fchdir,unshare", "-e", "signal=none", "-o"])
            .arg(traces.join("t"))
            .args(["timeout", "--kill-after=5", seconds, program])
            .args(arguments.iter().map(|word| word.replace("{HOME}", &home.to_string_lossy())))
            .current_dir(project)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("TMPDIR", self.at("tmp"))
            .env("TWOSTAGE_ENGINE", "embedded")
            .env("TWOSTAGE_STORE", self.at("store"))
            .stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|cause| panic!("cannot run strace ({cause}); install it: apt-get install strace"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut judge = Judge { ground: self, project, whole_project, traces: BTreeMap::new(), wrong: Vec::new(), lines: 0 };
        for trace in fs::read_dir(&traces).expect("the traces").flatten() {
            let process = trace.file_name().to_string_lossy().trim_start_matches("t.").to_string();
            judge.traces.insert(process, String::from_utf8_lossy(&fs::read(trace.path()).expect("a trace")).into_owned());
        }
        let children: BTreeSet<String> = judge.traces.values().flat_map(|text| text.lines().filter_map(child)).collect();
        let first: Vec<String> = judge.traces.keys().filter(|process| !children.contains(*process)).cloned().collect();
        for process in first {
            judge.process(&process, View { inside: false, own_mounts: false, cwd: project.to_path_buf() });
        }
        assert!(judge.lines > 20, "strace saw nothing: {said}");
        if output.status.code() == Some(137) || (output.status.code() == Some(124) && arguments[0] != "serve") {
            judge.wrong.push("it did not end".into());
        }
        if said.contains('\u{1b}') || said.contains("panicked") {
            judge.wrong.push(format!("it said {said:?}"));
        }
        let outside: Vec<_> = fs::read_dir(self.at("outside")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        if outside != ["secret"] {
            judge.wrong.push(format!("there is {outside:?} outside"));
        }
        judge.wrong
    }
}

/// The process that a line says was started, as strace numbers it.
fn child(line: &str) -> Option<String> {
    let call = line.split('(').next()?;
    if !["clone", "clone3", "fork", "vfork"].contains(&call) {
        return None;
    }
    let ended = line.rsplit_once(") = ")?.1;
    let number = match ended.split_once("/* ") {
        Some((_, translated)) => translated.split(' ').next()?,
        None => ended.split(' ').next()?,
    };
    number.parse::<u32>().ok().map(|number| number.to_string())
}

/// Reads the traces of one run.
struct Judge<'a> {
    ground: &'a Ground,
    project: &'a Path,
    /// The project says itself where in its folder repository and key are made.
    whole_project: bool,
    traces: BTreeMap<String, String>,
    wrong: Vec<String>,
    lines: usize,
}

/// What a process has to do with this machine's files.
#[derive(Clone)]
struct View {
    /// It has the root of a container.
    inside: bool,
    /// What it mounts is seen by nobody else: what it writes into /tmp then is in memory of its own.
    own_mounts: bool,
    /// Where paths start.
    cwd: PathBuf,
}

impl Judge<'_> {
    fn process(&mut self, process: &str, mut view: View) {
        let Some(text) = self.traces.remove(process) else { return };
        for line in text.lines() {
            if !view.inside {
                self.lines += 1;
                if let Some(why) = self.judge(line, &view) {
                    self.wrong.push(format!("{why}: {line}"));
                }
            }
            if line.contains(") ") && line.ends_with(" = 0") {
                let call = line.split('(').next().unwrap_or_default();
                view.inside |= ["pivot_root", "chroot"].contains(&call);
                view.own_mounts |= call == "unshare" && line.contains("CLONE_NEWNS");
                match call {
                    "chdir" => view.cwd = paths(line, &view.cwd).into_iter().next().unwrap_or_default(),
                    "fchdir" => view.cwd = PathBuf::from(line.split(['<', '>']).nth(1).unwrap_or_default()),
                    _ => {}
                }
            }
            if let Some(child) = child(line) {
                let own_mounts = view.own_mounts || line.contains("CLONE_NEWNS");
                self.process(&child, View { own_mounts, ..view.clone() });
            }
        }
    }

    fn judge(&self, line: &str, view: &View) -> Option<&'static str> {
        let (call, rest) = line.split_once('(')?;
        let (arguments, ended) = rest.rsplit_once(" = ")?;
        let failed = ended.starts_with("-1");
        if call == "execve" {
            let words = strings(arguments);
            let before: Vec<&String> = words.iter().take_while(|word| *word != "--").collect();
            let foreign = before.iter().any(|word| self.is_of_the_project(word));
            return foreign.then_some("a word of the project is in front of --");
        }
        let paths = paths(arguments, &view.cwd);
        // Of a link only its place counts here, not what it says.
        let looked_at = match call {
            "readlink" | "readlinkat" => &paths[..paths.len().min(1)],
            "symlink" | "symlinkat" => &paths[paths.len().min(1)..],
            _ => &paths,
        };
        // (What a look leads to by a link is not in the trace.)
        let follows = ["stat", "access", "faccessat", "faccessat2", "newfstatat", "statx"].contains(&call) && !line.contains("NOFOLLOW");
        let outside = |path: &Path| path.starts_with(self.ground.at("outside"));
        if looked_at.iter().any(|path| outside(path) || (follows && fs::canonicalize(path).is_ok_and(|path| outside(&path)))) {
            return Some("something outside is looked at");
        }
        if failed {
            return None;
        }
        if call.starts_with("open") {
            let opened = ended.split_once('<').and_then(|(_, path)| path.strip_suffix('>')).unwrap_or_default();
            let opened = Path::new(opened.trim_end_matches("(deleted)").trim_end());
            let written = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| arguments.contains(flag));
            return match () {
                () if opened.starts_with(self.ground.at("outside")) => Some("something outside is opened"),
                () if arguments.contains("O_PATH") => None,
                () if written && !self.may_write(opened, view) => Some("something outside of the state is opened to be written"),
                () if !self.may_read(opened, view) => Some("something outside is read"),
                () => None,
            };
        }
        const CHANGES: [&str; 22] = [
            "chmod",
            "chown",
            "fchmodat",
            "fchmodat2",
            "fchownat",
            "futimesat",
            "lchown",
            "link",
            "linkat",
            "lsetxattr",
            "mkdir",
            "mkdirat",
            "mknod",
            "mknodat",
            "rename",
            "renameat",
            "renameat2",
            "rmdir",
            "symlink",
            "symlinkat",
            "truncate",
            "setxattr",
        ];
        let changed = CHANGES.contains(&call) || call.starts_with("unlink") || call.starts_with("utime");
        let made = match call {
            // The first is where the content comes from, or what a link says.
            "link" | "linkat" | "symlink" | "symlinkat" => &paths[paths.len().min(1)..],
            _ => &paths,
        };
        (changed && !made.iter().all(|path| self.may_write(path, view))).then_some("something outside of the state is changed")
    }

    /// All hostile words have one of these in them; nothing else has.
    fn is_of_the_project(&self, word: &str) -> bool {
        word.contains("hostile") || word.contains(&*self.ground.at("outside").to_string_lossy()) || word.contains("to-outside")
    }

    fn is_ours(&self, path: &Path) -> bool {
        ["home", "tmp", "store"].iter().any(|folder| path.starts_with(self.ground.at(folder)))
    }

    fn may_read(&self, path: &Path, view: &View) -> bool {
        let text = path.to_string_lossy();
        path.starts_with(self.project)
            || (view.own_mounts && (text == "/" || path.starts_with("/tmp")))
            || self.is_ours(path)
            || !text.starts_with('/')
            || text.starts_with(NETWORKS)
            || OF_SYSTEM.iter().any(|folder| text.starts_with(folder) || *folder == format!("{text}/"))
            || text.strip_prefix("/etc/").is_some_and(|file| CONFIGURATION.contains(&file))
            || path == self.ground.at("twostage")
            || self.project.starts_with(path)
    }

    fn may_write(&self, path: &Path, view: &View) -> bool {
        let text = path.to_string_lossy();
        let in_view = view.own_mounts && path.starts_with("/tmp") && !path.starts_with(self.ground.whole.path());
        path.starts_with(self.project.join(".twostage"))
            || path == self.project.join("twostage.lock")
            || in_view
            || (self.whole_project && path.starts_with(self.project))
            || self.is_ours(path)
            || ["/dev/null", "/dev/tty", "/dev/fuse"].contains(&&*text)
            || text.starts_with("/proc/")
            || text.starts_with("/sys/fs/cgroup/")
            || text.starts_with(NETWORKS)
            || !text.starts_with('/')
    }
}

/// The strings of a line, unescaped as far as paths need it.
fn strings(arguments: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = arguments.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        let mut text = String::new();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => text.extend(chars.next()),
                c => text.push(c),
            }
        }
        found.push(text);
    }
    found
}

/// The paths that a call names, whole: each string with the folder in front of it, if it has one.
fn paths(arguments: &str, cwd: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = arguments;
    while let Some(start) = rest.find('"') {
        let before = rest[..start].trim_end_matches(", ");
        let folder = before.strip_suffix('>').and_then(|before| before.rsplit_once('<')).map(|(_, folder)| Path::new(folder));
        let text = strings(&rest[start..]).into_iter().next().unwrap_or_default();
        found.push(normal(&folder.unwrap_or(cwd).join(text)));
        let after = &rest[start + 1..];
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    found
}

fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}

#[test]
fn a_hostile_project_reaches_nothing_outside_by_any_command() {
    assert!(tool("strace", &["--version"]).status == 0);
    let ground = Ground::new();
    let variants = ground.variants();
    let whole = long();
    // The valid project goes as far as each command can; then each value as each word, with some commands in turn. Four are
    // enough for each command to meet each value and each word.
    let stride = step(13);
    let count = if whole { 4 } else { 1 };
    let mut cases: Vec<(Option<&Variant>, &[&str])> = COMMANDS.iter().map(|command| (None, *command)).collect();
    let (mut words, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (number, variant) in variants.iter().enumerate().filter(|(number, _)| (number + number / 17) % stride == 0) {
        // (There may be twice as many commands as words: the value moves the commands on, or a word would meet the same ones each time.)
        let first = count * (number / stride) + number / ground.words.len();
        let commands = COMMANDS.iter().cycle().skip(first % COMMANDS.len()).take(count);
        for command in commands {
            words.insert((*command, &variant.word));
            places.insert((*command, variant.file, variant.at.start));
            cases.push((Some(variant), *command));
        }
    }
    if whole {
        assert_eq!(words.len(), COMMANDS.len() * ground.words.len(), "each command meets each word");
        assert_eq!(places.len() * ground.words.len(), COMMANDS.len() * variants.len(), "each command meets each value");
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((variant, command)) = cases.get(number) else { return };
                    let project = ground.project(number, *variant);
                    let line = variant.map_or(0, |variant| {
                        let text = fs::read_to_string(ground.at("template").join(variant.file)).expect("the template");
                        text[..variant.at.start].lines().count()
                    });
                    let key = variant.is_some_and(|variant| {
                        let text = fs::read_to_string(ground.at("template").join(variant.file)).expect("the template");
                        ["path = ", "key = "].iter().any(|key| text[..variant.at.start].ends_with(key))
                    });
                    let wrong = ground.opened(&project, command, key);
                    if !wrong.is_empty() {
                        let what =
                            variant.map_or("as it is".to_string(), |variant| format!("{}:{line} = {:?}", variant.file, variant.word));
                        let fault = format!("{command:?}, {what}\n  {}", wrong.join("\n  "));
                        // At once: the long form takes the better part of an hour.
                        eprintln!("run {number} of {}: {fault}", cases.len());
                        found.lock().expect("the list").push(fault);
                    }
                    let _ = fs::remove_dir_all(&project);
                    if number % 250 == 249 {
                        eprintln!("run {} of {}", number + 1, cases.len());
                    }
                }
            });
        }
    });
    let found = found.into_inner().expect("the list");
    println!(
        "{} values with {} words, {} runs of {} commands, {} with each of the words, {} with each of the values",
        variants.len() / ground.words.len(),
        ground.words.len(),
        cases.len(),
        COMMANDS.len(),
        words.len(),
        places.len()
    );
    assert!(found.is_empty(), "{} of {} runs:\n{}", found.len(), cases.len(), found.join("\n"));
}

/// A judge that sees nothing would be content with everything.
#[test]
fn the_judge_of_the_hostile_project_sees_what_must_not_be() {
    let ground = Ground::new();
    let project = ground.project(0, None);
    let outside = ground.at("outside").display().to_string();
    for (script, why) in [
        ("cat ../outside/secret", "something outside is looked at"),
        ("cat to-file", "something outside is opened"),
        ("test -e to-outside/secret", "something outside is looked at"),
        ("cd to-outside; cat secret", "something outside is looked at"),
        ("cat /etc/shadow", "something outside is read"),
        ("echo > here", "something outside of the state is opened to be written"),
        ("(cd conf; mkdir here)", "something outside of the state is changed"),
        ("chmod 600 conf/greet", "something outside of the state is changed"),
        ("mv conf .twostage/conf", "something outside of the state is changed"),
        ("(env true --ho''stile)", "a word of the project is in front of --"),
        ("sleep 30", "it did not end"),
    ] {
        let wrong = ground.traced(&project, "sh", &["-c", script, "serve"][..if script == "sleep 30" { 2 } else { 3 }], false);
        assert!(wrong.iter().any(|line| line.starts_with(why)), "{script}: {wrong:?}");
    }
    for script in [
        "cat greet/debian/control",
        "mkdir .twostage/here; cd .twostage; echo > here/x; mv here there; rm -r there",
        "env true -- --ho''stile",
        "readlink to-file",
    ] {
        assert_eq!(ground.traced(&project, "sh", &["-c", script], false), Vec::<String>::new(), "{script} in {outside}");
    }
}

/// Whoever adds a key or a command adds it here, too.
#[test]
fn the_hostile_project_has_every_key_and_every_command_is_tried() {
    let fields = |file: &str| {
        let text = fs::read_to_string(root().join(file)).expect("the source");
        let mut fields = BTreeSet::new();
        for table in text.split("#[derive(Deserialize").skip(1).filter_map(|table| table.split_once(" {\n")?.1.split_once("\n}")) {
            for line in table.0.lines().map(str::trim).filter(|line| !line.starts_with("#[") && !line.starts_with("//")) {
                fields.extend(line.split_once(": ").map(|(name, _)| name.trim_start_matches("pub ").to_string()));
            }
        }
        fields
    };
    for (file, source, least) in [("twostage.toml", "model/src/project/raw.rs", 40), ("twostage.lock", "model/src/lock.rs", 12)] {
        let text = fs::read_to_string(root().join("tests/hostile/project").join(file)).expect("the project");
        let fields = fields(source);
        assert!(fields.len() >= least, "{fields:?}");
        let missing: Vec<&String> =
            fields.iter().filter(|name| !text.contains(&format!("{name} = ")) && !text.contains(&format!("[{name}"))).collect();
        assert!(missing.is_empty(), "tests/hostile/project/{file} does not use the keys {missing:?}: add each with a value");
    }
    let help = tool(env!("CARGO_BIN_EXE_twostage"), &["--help"]).ok().out;
    let listed = help.split("Commands:\n").nth(1).expect("a list").lines().take_while(|line| !line.trim().is_empty());
    let listed: BTreeSet<&str> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let known: BTreeSet<&str> = COMMANDS.iter().map(|command| command[0]).chain(OTHERS).collect();
    let missing: Vec<&&str> = listed.difference(&known).collect();
    assert!(
        listed.len() > 15 && missing.is_empty(),
        "commands that no hostile project is opened by: {missing:?}; add them to COMMANDS or OTHERS"
    );
}

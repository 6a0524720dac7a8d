//! What docker-compile.pl, the first of its kind, promised of a Dockerfile in one pass, and where it failed: each a test of
//! `compile`, on the engine that needs no daemon.

use crate::engines::Other;
use crate::on::On;
use crate::support::{Done, Helper, Used, docker, image_name, root, run, tool, twostage, uses};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use twostage_image::{Entry, Image, Store, Want};

const ENGINE: On = On::Embedded("one-pass");

/// A shell and coreutils, made once for all tests here.
fn base() -> &'static str {
    static BASE: OnceLock<()> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let at = |name: &str| folder.path().join(name);
        run(Command::new(root().join("tests/tools/small_base.sh")).arg("--tar").arg(at("base.tar"))).ok();
        let text = "FROM scratch\nADD base.tar /\nENV PATH=/bin:/usr/bin BASE=yes\nCMD [\"echo\", \"of the base\"]\nENTRYPOINT [\"env\"]\n\
                    CMD [\"echo\", \"of the base\"]\n";
        fs::write(at("Dockerfile"), text).expect("a file");
        let mut command = twostage();
        ENGINE.choose(&mut command);
        run(command.args(["compile", "--tag", "base"]).arg(folder.path())).ok();
    });
    "base"
}

/// A context with a Dockerfile, and the image that is made of it.
struct Case {
    folder: tempfile::TempDir,
    image: String,
}

impl Case {
    fn new(test: &str, dockerfile: &str) -> Case {
        base();
        let folder = tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let case = Case { folder, image: test.to_string() };
        case.file("context/Dockerfile", dockerfile);
        case
    }

    fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = twostage();
        ENGINE.choose(&mut command);
        command.args(["compile", "--network", "none", "--tag", &self.image]).args(more).arg(self.join("context"));
        command
    }

    fn compile(&self, more: &[&str]) -> Done {
        run(&mut self.command(more))
    }

    /// Another Dockerfile of the same context.
    fn compiles(&self, dockerfile: &str) -> Made {
        self.file("context/Dockerfile", dockerfile);
        self.compile(&[]).ok();
        self.made()
    }

    fn refused(&self, dockerfile: &str) -> Done {
        self.file("context/Dockerfile", dockerfile);
        self.compile(&[])
    }

    fn made(&self) -> Made {
        let name = format!("{}:latest", self.image);
        let store = Store::open(&ENGINE.store().join("images"), Some(&name)).expect("an image");
        Made(store.read(&|_| Want::Content).expect("an image"))
    }
}

/// An image that was made.
struct Made(Image);

impl Made {
    /// A file or folder above the base.
    fn entry(&self, path: &str) -> Option<&Entry> {
        self.0.layers.iter().skip(1).flat_map(|layer| &layer.entries).find(|entry| entry.path == path)
    }

    fn text(&self, path: &str) -> &str {
        let entry = self.entry(path).unwrap_or_else(|| panic!("there is no {path}"));
        std::str::from_utf8(entry.content.as_ref().unwrap_or_else(|| panic!("{path} is no file"))).expect("text")
    }

    /// Mode, owner, group, time.
    fn rights(&self, path: &str) -> (u32, u64, u64, i64) {
        let entry = self.entry(path).unwrap_or_else(|| panic!("there is no {path}"));
        (entry.mode, entry.uid, entry.gid, entry.mtime)
    }
}

/// What ADD fetches from.
fn server() -> Helper {
    Helper::start(&mut Command::new(root().join("tests/tools/url_server.py")))
}

/// What a server was asked for.
fn asked(server: &Helper) -> Vec<String> {
    let told = crate::support::http_get(&server.line, "/asked");
    String::from_utf8(told).expect("text").lines().map(String::from).collect()
}

#[test]
fn what_a_url_names_is_fetched_once_and_never_unpacked() {
    let server = server();
    let at = format!("http://{}", server.line);
    let case = Case::new("url", "");
    let made = case.compiles(&format!(
        "FROM base AS first\nADD {at}/dated /one\nFROM base\nCOPY --from=first /one /copied\nADD {at}/dated {at}/undated /several/\n\
         ADD --chown=app:web --chmod=0750 {at}/moved /made/below/\nADD {at}/packed.tar.gz /\nRUN cat /made/below/moved > /seen\n"
    ));
    let file = |path: &str| (made.rights(path), made.text(path).to_string());
    assert_eq!(file("copied"), ((0o600, 0, 0, 1_500_000_000), "dated\n".into()));
    assert_eq!(file("several/undated"), ((0o600, 0, 0, 0), "undated\n".into()), "as Docker has it");
    assert_eq!(file("made/below/moved"), ((0o750, 1000, 1001, 1_500_000_000), "dated\n".into()), "the time is that of what it leads to");
    assert_eq!(made.text("seen"), "dated\n");
    assert!(made.entry("member").is_none() && made.entry("packed.tar.gz").is_some());
    assert_eq!(asked(&server), ["/dated", "/undated", "/moved", "/dated", "/packed.tar.gz"]);
    // Nothing of it is newer than what a build is to be as old as.
    case.compile(&["--source-date-epoch", "1000000000"]).ok();
    assert_eq!(case.made().rights("copied").3, 1_000_000_000);
}

#[test]
fn a_fetched_file_that_is_too_large_another_or_not_there_is_an_error_with_its_line() {
    let server = server();
    let at = format!("http://{}", server.line);
    let case = Case::new("unfetched", "");
    let refused = |add: &str| case.refused(&format!("FROM base\nRUN true\nADD {add}\n")).fails_with(3).says("line 3: ADD: ");
    refused(&format!("{at}/nothing /x")).says(&format!("cannot fetch {at}/nothing")).says("404").says("hint:");
    refused(&format!("{at}/large /x")).says("it has more than 68719476736 bytes").says("hint: fetch it in a RUN");
    refused(&format!("{at}/short /x")).says("cannot fetch");
    refused(&format!("{at}/out /x")).says("Protocol \"file\"");
    refused(&format!("{at}/loop /x")).says("Maximum (10) redirects");
    refused(&format!("{at}/ /x/")).says("names no file, and /x/ is a folder");
    refused(&format!("{at}/ /tmp")).says("names no file, and /tmp is a folder");
    refused(&format!("{at}/x.git /x")).says("is a repository of Git").says("hint: clone it");
    refused(&format!("{at}/dated {at}/undated /x")).says("several files cannot become /x");
    let wrong = "0".repeat(64);
    let right = tool("sh", &["-c", "echo dated | sha256sum"]).out[..64].to_string();
    refused(&format!("--checksum=sha256:{wrong} {at}/dated /x"))
        .says("has not the digest that --checksum says")
        .says(&format!("it is sha256:{right}, and the file says sha256:{wrong}"));
    assert!(case.compiles(&format!("FROM base\nADD --checksum=sha256:{right} {at}/dated /x\n")).entry("x").is_some());
}

#[test]
fn curl_gets_the_proxies_of_the_build_and_no_passwords_but_the_urls_own_which_nobody_else_sees() {
    let server = server();
    let case = Case::new("curl", &format!("FROM base\nADD http://{}/private /x\n", server.line));
    // What the user keeps for curl is not used.
    case.file("home/.curlrc", "user = me:secret\n");
    case.file("home/.netrc", "default login me password secret\n");
    run(case.command(&[]).env("HOME", case.join("home"))).fails_with(3).says("401");
    // A curl that writes down its arguments.
    let arguments = case.join("arguments");
    let real = tool("sh", &["-c", "command -v curl"]).ok().out;
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}\nexec {} \"$@\"\n", arguments.display(), real.trim());
    fs::set_permissions(case.file("bin/curl", &text), fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", case.join("bin").display(), std::env::var("PATH").expect("a PATH"));
    let url = format!("http://me:secret@{}", server.line);
    case.file("context/Dockerfile", "FROM base\nARG URL\nADD $URL/private /x\n");
    let given = format!("URL={url}");
    run(case.command(&["--build-arg", &given]).env("PATH", &path)).ok();
    assert_eq!(case.made().text("x"), "private\n");
    let told = fs::read_to_string(&arguments).expect("the arguments");
    assert!(told.starts_with("--disable\n") && !told.contains("secret") && !told.contains(&server.line), "{told}");
    case.file("context/Dockerfile", "FROM base\nARG URL\nADD $URL/nothing /x\n");
    let failed = run(&mut case.command(&["--build-arg", &given])).fails_with(3).says(&format!("http://…@{}/nothing", server.line));
    assert!(!failed.err.contains("secret"), "{}", failed.err);

    // Where there is no way but a proxy.
    let away = "FROM base\nADD http://elsewhere.invalid/y /y\n";
    case.file("context/Dockerfile", away);
    let proxy = format!("http_proxy=http://{}", server.line);
    case.compile(&["--build-arg", &proxy]).ok();
    assert_eq!(case.made().text("y"), "through a proxy: http://elsewhere.invalid/y\n");
    run(case.command(&[]).env("http_proxy", format!("http://{}", server.line))).ok();
    run(case.command(&[]).env_remove("http_proxy")).fails_with(3).says("cannot fetch http://elsewhere.invalid/y").says("http_proxy");

    let nowhere = run(case.command(&[]).env("PATH", case.join("home")));
    nowhere.fails_with(8).says("cannot fetch http://elsewhere.invalid/y: cannot run curl").says("hint: install it: apt-get install curl");
}

/// The id that a run printed, and whether it said that nothing changed.
fn told(done: &Done) -> (String, bool) {
    (done.last_line().to_string(), done.err.contains(": unchanged"))
}

#[test]
fn a_second_run_with_nothing_changed_does_nothing_and_says_so() {
    let case = Case::new("again", "FROM base\nCOPY file /f\nRUN cat /proc/sys/kernel/random/uuid > /uuid\nCMD [\"cat\", \"/uuid\"]\n");
    case.file("context/file", "1");
    let first = case.compile(&[]).ok();
    let (id, unchanged) = told(&first);
    assert!(id.starts_with("sha256:") && !unchanged && first.err.contains("line 3: RUN"), "{}", first.err);
    let second = case.compile(&[]).ok();
    assert_eq!((told(&second), second.out == first.out), ((id.clone(), true), true));
    assert!(!second.err.contains("line "), "no step is done: {}", second.err);
    // Times do not count; another name is given to the same image.
    tool("touch", &["-d", "@1000000000", &case.join("context/file").to_string_lossy()]).ok();
    let other = Case { folder: case.folder, image: "again-too".into() };
    assert_eq!(told(&other.compile(&[]).ok()), (id.clone(), true));
    assert_eq!(ENGINE.id_of("again-too"), ENGINE.id_of("again"));
    assert_eq!(ENGINE.run("again-too", &[]), ENGINE.run("again", &[]));
    // What a RUN downloads is not looked at, unless somebody asks for it.
    let (fresh, unchanged) = told(&other.compile(&["--no-cache"]).ok());
    assert!(fresh != id && !unchanged);
    assert_eq!(told(&other.compile(&[]).ok()), (fresh, true));
    let named = fs::read_to_string(ENGINE.store().join("images/index.json")).expect("the index");
    assert!(!named.contains("twostage-compile"), "no image of a run is left: {named}");
}

#[test]
fn a_change_of_anything_that_goes_in_makes_the_image_again() {
    let server = server();
    let text = format!(
        "ARG BASE=base\nFROM $BASE AS first\nARG WORD=one\nRUN echo $WORD > /word\nFROM base\nCOPY --from=first /word /word\nCOPY --from=second-base /data/old /old\n\
         ADD http://{}/dated /fetched\nCOPY folder /folder\nLABEL a=b\n",
        server.line
    );
    let made_of = |steps: &str| {
        let base = Case::new("second-base", &format!("FROM base\n{steps}"));
        base.compile(&[]).ok();
    };
    made_of("LABEL second=yes\n");
    let case = Case::new("changes", &text);
    case.file("context/folder/file", "1");
    let again = |what: &str, more: &[&str]| {
        assert!(!told(&case.compile(more).ok()).1, "{what}");
        assert!(told(&case.compile(more).ok()).1, "{what}, the second time");
    };
    again("all of it", &[]);
    again("an argument", &["--build-arg", "WORD=two"]);
    again("a base by argument", &["--build-arg", "BASE=second-base"]);
    again("the time", &["--source-date-epoch", "1700000000"]);
    case.file("context/folder/file", "2");
    again("a file", &[]);
    tool("chmod", &["+x", &case.join("context/folder/file").to_string_lossy()]).ok();
    again("its rights", &[]);
    case.file("context/Dockerfile", &text.replace("a=b", "a=c"));
    again("the configuration", &[]);
    made_of("RUN echo new > /data/old\n");
    again("an image that is copied from", &[]);
    // What is a base by a name is the image that has it now.
    case.file("context/Dockerfile", &text.replace("BASE=base", "BASE=second-base"));
    again("a base", &[]);
    made_of("ENV MORE=yes\n");
    again("what a base is", &[]);
    case.file("context/Dockerfile", &text.replace("/dated", "/undated"));
    again("what is fetched", &[]);
    case.file("context/Dockerfile", &text.replace("/dated", "/changing"));
    case.compile(&[]).ok();
    assert!(!told(&case.compile(&[]).ok()).1, "it is another each time");
    // Whoever says the digest asks no server in vain.
    let digest = tool("sh", &["-c", "echo dated | sha256sum"]).out[..64].to_string();
    case.file("context/Dockerfile", &text.replace("ADD ", &format!("ADD --checksum=sha256:{digest} ")));
    case.compile(&[]).ok();
    let before = asked(&server).len();
    assert!(told(&case.compile(&[]).ok()).1);
    assert_eq!(asked(&server).len(), before);
    // The network, too.
    let mut command = twostage();
    ENGINE.choose(&mut command);
    let other = run(command.args(["compile", "--network", "host"]).arg(case.join("context"))).ok();
    assert!(!told(&other).1);
}

#[test]
fn what_is_remembered_may_be_gone_or_wrong_and_is_made_again() {
    let case = Case::new("remembered", "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /uuid\n");
    let cache = case.join("cache");
    let compile = || run(case.command(&[]).env("XDG_CACHE_HOME", &cache)).ok();
    let (first, _) = told(&compile());
    let folder = cache.join("twostage/compile");
    let files: Vec<PathBuf> = fs::read_dir(&folder).expect("the cache").flatten().map(|file| file.path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let text = fs::read_to_string(file).expect("what is remembered");
    assert!(text.contains(first.trim_start_matches("sha256:")), "{text}");
    // An image that the engine does not have any more; no image at all; nothing.
    let gone = text.replace(first.trim_start_matches("sha256:"), &"0".repeat(64));
    let mut ids = vec![first];
    for wrong in [gone.as_str(), "{\"id\":", ""] {
        fs::write(file, wrong).expect("a file");
        let (id, unchanged) = told(&compile());
        assert!(!unchanged && !ids.contains(&id), "{wrong}");
        ids.push(id);
        assert!(told(&compile()).1);
    }
    // Where nothing can be remembered, everything is done each time.
    let nowhere = run(case.command(&[]).env("XDG_CACHE_HOME", "/proc/nowhere")).ok();
    assert!(!told(&nowhere).1 && nowhere.err.contains("note: the next run does all of this again"), "{}", nowhere.err);
    let nobody = run(case.command(&[]).env_remove("XDG_CACHE_HOME").env_remove("HOME")).ok();
    assert!(!told(&nobody).1);
}

#[test]
fn docker_and_podman_are_not_asked_to_do_it_again_either() {
    uses(Used::Engine);
    let podman = Other::podman();
    let case = Case::new("engines", "FROM scratch\nCOPY Dockerfile /\n");
    let name = image_name("one-pass");
    for more in [&["--engine", "docker"][..], &["--engine", "podman", "--engine-host", &podman.service.line]] {
        let compile = || told(&run(twostage().args(["compile", "--tag", &name]).args(more).arg(case.join("context"))).ok());
        let (id, unchanged) = compile();
        assert!(!unchanged, "{more:?}");
        assert_eq!(compile(), (id, true), "{more:?}");
    }
    docker(&["image", "rm", "--force", &name]).ok();
}

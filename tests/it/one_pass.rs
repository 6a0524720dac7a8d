//! What docker-compile.pl, the first of its kind, promised of a Dockerfile in one pass, and where it failed: each a test of
//! `compile`, on the engine that needs no daemon.

use crate::engines::Other;
use crate::on::On;
use crate::support::{Done, Helper, Used, docker, image_name, root, run, tool, twostage, uses, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use twostage_image::{Entry, Image, Store, Want};

pub const ENGINE: On = On::Embedded("one-pass");

/// A shell and coreutils, made once for all tests here.
fn base() -> &'static str {
    static BASE: OnceLock<()> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let at = |name: &str| folder.path().join(name);
        run(Command::new(root().join("tests/tools/small_base.sh")).arg("--tar").arg(at("base.tar"))).ok();
        let text = "FROM scratch\nADD base.tar /\nENV PATH=/bin:/usr/bin BASE=yes\nENTRYPOINT [\"env\"]\nCMD [\"cat\", \"/data/old\"]\n";
        fs::write(at("Dockerfile"), text).expect("a file");
        ENGINE.twostage(&["compile", "--tag", "base", &folder.path().to_string_lossy()]).ok();
    });
    "base"
}

/// A context with a Dockerfile, and the image that is made of it.
pub struct Case {
    folder: tempfile::TempDir,
    pub image: String,
    network: &'static str,
}

impl Case {
    pub fn new(test: &str, dockerfile: &str) -> Case {
        base();
        let folder = tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let case = Case { folder, image: test.to_string(), network: "none" };
        case.file("context/Dockerfile", dockerfile);
        case
    }

    /// The same on this machine's network, whose 127.0.0.1 an ADD reaches, too.
    fn on_host(self) -> Case {
        Case { network: "host", ..self }
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = twostage();
        ENGINE.choose(&mut command);
        command.args(["compile", "--network", self.network, "--tag", &self.image]).args(more).arg(self.join("context"));
        command
    }

    pub fn compile(&self, more: &[&str]) -> Done {
        run(&mut self.command(more))
    }

    /// Another Dockerfile of the same context.
    pub fn compiles(&self, dockerfile: &str) -> Made {
        self.file("context/Dockerfile", dockerfile);
        self.compile(&[]).ok();
        self.made()
    }

    pub fn refused(&self, dockerfile: &str) -> Done {
        self.file("context/Dockerfile", dockerfile);
        self.compile(&[])
    }

    /// Each step is refused, with what it says, before the one above it is done, and nothing gets the name.
    fn refuses_before_anything(&self, steps: &[(&str, &str)]) {
        for (step, why) in steps {
            let refused = self.refused(&format!("FROM base\nRUN echo started\n{step}\n")).fails_with(3).says(why).says("hint:");
            assert!(!refused.err.contains("line 2"), "{}", refused.err);
        }
        assert_eq!(ENGINE.id_of(&self.image), None, "nothing has the name");
    }

    pub fn made(&self) -> Made {
        let name = format!("{}:latest", self.image);
        let store = Store::open(&ENGINE.store().join("images"), Some(&name)).expect("an image");
        Made(store.read(&|_| Want::Content).expect("an image"))
    }
}

/// An image that was made.
pub struct Made(Image);

impl Made {
    /// A file or folder above the base.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.0.layers.iter().skip(1).flat_map(|layer| &layer.entries).find(|entry| entry.path == path)
    }

    /// All that is above the base, in any order.
    pub fn paths(&self) -> Vec<String> {
        self.0.layers.iter().skip(1).flat_map(|layer| &layer.entries).map(|entry| entry.path.clone()).collect()
    }

    pub fn text(&self, path: &str) -> &str {
        let entry = self.entry(path).unwrap_or_else(|| panic!("there is no {path}"));
        std::str::from_utf8(entry.content.as_ref().unwrap_or_else(|| panic!("{path} is no file"))).expect("text")
    }

    pub fn all(&self) -> Value {
        serde_json::from_slice(&self.0.config_json).expect("JSON")
    }

    pub fn config(&self) -> Value {
        self.all()["config"].take()
    }

    /// Mode, owner, group, time.
    pub fn rights(&self, path: &str) -> (u32, u64, u64, i64) {
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

// What it promised.

#[test]
fn all_steps_become_one_layer_and_the_id_is_the_last_line() {
    let case = Case::new(
        "one-layer",
        "FROM base\nCOPY installer /tmp/\nRUN head -c 3 /tmp/installer > /installed\nENV A=b\nRUN rm /tmp/installer\n",
    );
    case.file("context/installer", &"big".repeat(100_000));
    let done = case.compile(&[]).ok();
    let made = case.made();
    assert_eq!(made.0.layers.len(), 2, "the base's and one");
    assert_eq!(made.text("installed"), "big");
    assert!(made.entry("tmp/installer").is_none() && made.0.layers[1].size < 10_000, "{} bytes", made.0.layers[1].size);
    assert_eq!(done.out.lines().count(), 2, "{}", done.out);
    assert_eq!(Some(done.last_line()), ENGINE.id_of("one-layer").as_deref());
}

/// (That an image of a registry is pulled once is in `embedded.rs`.)
#[test]
fn from_takes_an_image_that_is_there_and_pulls_one_that_is_not() {
    let case = Case::new("from", "");
    let made = case.compiles("FROM base\nLABEL above=yes\n");
    assert_eq!(made.0.layers.len(), 1, "where no file changes there is no layer");
    case.refused("FROM 127.0.0.1:1/nowhere:1\n").fails_with(7).says("line 1: FROM: ").says("127.0.0.1:1/nowhere:1").says("hint:");
    case.refused("").fails_with(3).says("has no FROM");
}

#[test]
fn the_bases_command_and_entrypoint_stay_until_the_file_says_others() {
    let case = Case::new("carried", "");
    let words = |made: &Made| (made.config()["Entrypoint"].clone(), made.config()["Cmd"].clone());
    let made = case.compiles("FROM base\nRUN true\n");
    assert_eq!(words(&made), (json!(["env"]), json!(["cat", "/data/old"])));
    assert_eq!(ENGINE.run("carried", &[]), "old\n");
    let made = case.compiles("FROM base\nCMD [\"cat\", \"/data/gone\"]\n");
    assert_eq!(words(&made), (json!(["env"]), json!(["cat", "/data/gone"])));
    let made = case.compiles("FROM base\nENTRYPOINT [\"cat\"]\n");
    assert_eq!(words(&made), (json!(["cat"]), Value::Null), "the base's command was for its own entrypoint");
}

#[test]
fn lines_continue_comments_do_not_count_and_instructions_are_in_any_case() {
    let case = Case::new("lines", "");
    let made = case.compiles(
        "# a comment\n\nfrom base\nRun echo one > /1 && \\\n  # within\n\n  echo two > /2\n   eNv A=1 \\\n B=2\nrun echo \"$A # $B\" > /3\nMaintainer somebody\n",
    );
    assert_eq!([made.text("1"), made.text("2"), made.text("3")], ["one\n", "two\n", "1 # 2\n"]);
    assert_eq!(made.all()["author"], "somebody");
}

#[test]
fn a_destination_with_a_slash_at_its_end_is_a_folder_and_another_is_the_file() {
    let case = Case::new("slashes", "");
    case.file("context/one", "1");
    case.file("context/two", "2");
    let made =
        case.compiles("FROM base\nCOPY one /file\nADD one /new/folder/\nCOPY one two /both/\nCOPY one /tmp\nWORKDIR /here\nADD t* ./\n");
    let texts = ["file", "new/folder/one", "both/one", "both/two", "tmp/one", "here/two"].map(|path| made.text(path));
    assert_eq!(texts, ["1", "1", "1", "2", "1", "2"]);
    case.refused("FROM base\nCOPY one two /both\n").fails_with(3).says("line 2: COPY: several files cannot become /both");
    case.refused("FROM base\nADD one two /both\n").fails_with(3).says("line 2: ADD: ").says("hint: end it with a slash");
}

#[test]
fn of_a_folder_what_is_in_it_is_copied() {
    let case = Case::new("folders", "");
    case.file("context/folder/below/deep", "deep");
    case.file("context/folder/top", "top");
    let made = case.compiles("FROM base\nADD folder /added\nCOPY folder/ /copied/\nCOPY folder /tmp\n");
    for place in ["added", "copied", "tmp"] {
        assert_eq!([made.text(&format!("{place}/below/deep")), made.text(&format!("{place}/top"))], ["deep", "top"], "{place}");
        assert!(made.entry(&format!("{place}/folder")).is_none());
    }
    case.refused("FROM base\nCOPY folder /data/old\n").fails_with(3).says("line 2: COPY: /data/old in the image is no folder");
}

#[test]
fn an_archive_is_unpacked_by_add_and_not_by_copy() {
    let case = Case::new("archives", "");
    case.file("context/member", "packed");
    let context = case.join("context");
    for (name, how) in [("a.tar", "-cf"), ("a.tar.gz", "-czf"), ("a.tar.bz2", "-cjf"), ("a.tar.xz", "-cJf")] {
        run(Command::new("tar").args([how, name, "member"]).current_dir(&context)).ok();
    }
    case.file("context/not.tar", "no archive");
    let made = case.compiles(
        "FROM base\nADD a.tar /tar\nADD a.tar.gz /gz/\nADD a.tar.bz2 /bz2\nADD a.tar.xz /xz\nCOPY a.tar.gz /as-it-is/\nADD not.tar /as-it-is/\n",
    );
    assert_eq!(["tar", "gz", "bz2", "xz"].map(|place| made.text(&format!("{place}/member"))), ["packed"; 4]);
    assert!(made.entry("as-it-is/a.tar.gz").is_some() && made.entry("as-it-is/member").is_none());
    assert_eq!(made.text("as-it-is/not.tar"), "no archive");
}

#[test]
fn what_is_not_there_is_an_error_with_its_line_before_anything_is_done() {
    Case::new("missing", "").refuses_before_anything(&[
        ("COPY nothing /x", "line 3: COPY: there is no nothing in the context"),
        ("ADD nothing.tar.gz /x/", "line 3: ADD: there is no nothing.tar.gz in the context"),
        ("COPY none/*thing /x/", "line 3: COPY: there is no none in the context"),
        ("COPY ../outside /x", "line 3: COPY: there is no outside in the context"),
    ]);
}

#[test]
fn env_is_what_later_runs_see_and_what_the_image_says() {
    let case = Case::new("env", "");
    let made = case.compiles("FROM base\nRUN echo \"$A\" > /before\nENV A=one B=\"$BASE or no\"\nENV OLD form of it\nRUN echo \"$A $B $OLD\" > /after\nCMD echo $A\n");
    assert_eq!((made.text("before"), made.text("after")), ("\n", "one yes or no form of it\n"));
    assert_eq!(made.config()["Env"], json!(["PATH=/bin:/usr/bin", "BASE=yes", "A=one", "B=yes or no", "OLD=form of it"]));
    assert_eq!(ENGINE.run("env", &["sh", "-c", "echo $OLD"]), "form of it\n");
}

#[test]
fn cmd_and_entrypoint_stay_lists_or_get_a_shell() {
    let case = Case::new("commands", "");
    let made = case.compiles("FROM base\nENTRYPOINT [\"sh\", \"-c\", \"echo $0 $1\"]\nCMD [\"a b\", \"$BASE\"]\n");
    assert_eq!((&made.config()["Entrypoint"], &made.config()["Cmd"]), (&json!(["sh", "-c", "echo $0 $1"]), &json!(["a b", "$BASE"])));
    assert_eq!(ENGINE.run("commands", &[]), "a b $BASE\n");
    let made = case.compiles("FROM base\nENTRYPOINT []\nCMD echo \"$BASE\"\n");
    assert_eq!(made.config()["Cmd"], json!(["/bin/sh", "-c", "echo \"$BASE\""]));
    assert_eq!(ENGINE.run("commands", &[]), "yes\n");
    let made = case.compiles("FROM base\nENTRYPOINT exec echo $BASE\n");
    assert_eq!(made.config()["Entrypoint"], json!(["/bin/sh", "-c", "exec echo $BASE"]));
}

#[test]
fn maintainer_workdir_user_and_expose_are_recorded() {
    let case = Case::new("recorded", "");
    let made =
        case.compiles("FROM base\nMAINTAINER Some Body <some@body.example>\nWORKDIR /srv\nWORKDIR app\nUSER app:web\nEXPOSE 80 53/udp\n");
    let config = made.config();
    assert_eq!(made.all()["author"], "Some Body <some@body.example>");
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/srv/app"), &json!("app:web")));
    assert_eq!(config["ExposedPorts"], json!({ "53/udp": {}, "80/tcp": {} }));
    assert_eq!(ENGINE.run("recorded", &["sh", "-c", "pwd; id -u; id -g"]), "/srv/app\n1000\n1001\n");
}

#[test]
fn t_names_the_image_and_f_names_the_file() {
    let case = Case::new("options", "FROM base\nRUN exit 1\n");
    let file = case.file("elsewhere/Other", "FROM base\nCOPY file /f\n");
    case.file("context/file", "of the context");
    case.compile(&["-f", &file.to_string_lossy()]).ok();
    assert_eq!(case.made().text("f"), "of the context");
    // Without a name the image is known by its id.
    let (file, context) = (file.to_string_lossy(), case.join("context"));
    let done = ENGINE.twostage(&["compile", "-f", &file, &context.to_string_lossy()]).ok();
    assert_eq!(ENGINE.run(done.last_line(), &["cat", "/f"]), "of the context");
    ENGINE.twostage(&["compile", "-t", "options:tagged", "-f", &file, &context.to_string_lossy()]).ok();
    assert!(ENGINE.id_of("options:tagged").is_some());
}

#[test]
fn what_a_url_names_is_fetched_once_and_never_unpacked() {
    let server = server();
    let at = format!("http://{}", server.line);
    let case = Case::new("url", "").on_host();
    let made = case.compiles(&format!(
        "FROM base AS first\nADD {at}/dated /one\nFROM base\nCOPY --from=first /one /copied\nADD {at}/dated {at}/undated /several/\n\
         ADD --chown=app:web --chmod=0750 {at}/moved /made/below/\nADD {at}/packed.tar.gz /\nADD {at}/big /\nRUN cat /made/below/moved > /seen && wc -c < /big >> /seen && rm /big\n"
    ));
    let file = |path: &str| (made.rights(path), made.text(path).to_string());
    assert_eq!(file("copied"), ((0o600, 0, 0, 1_500_000_000), "dated\n".into()));
    assert_eq!(file("several/undated"), ((0o600, 0, 0, 0), "undated\n".into()), "as Docker has it");
    assert_eq!(file("made/below/moved"), ((0o750, 1000, 1001, 1_500_000_000), "dated\n".into()), "the time is that of what it leads to");
    assert_eq!(made.text("seen"), "dated\n8388608\n");
    assert!(made.entry("member").is_none() && made.entry("packed.tar.gz").is_some());
    assert_eq!(asked(&server), ["/dated", "/undated", "/moved", "/dated", "/packed.tar.gz", "/big"]);
    // Nothing of it is newer than what a build is to be as old as.
    case.compile(&["--source-date-epoch", "1000000000"]).ok();
    assert_eq!(case.made().rights("copied").3, 1_000_000_000);
}

#[test]
fn a_fetched_file_that_is_too_large_another_or_not_there_is_an_error_with_its_line() {
    let server = server();
    let at = format!("http://{}", server.line);
    let case = Case::new("unfetched", "").on_host();
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
    let case = Case::new("curl", &format!("FROM base\nADD http://{}/private /x\n", server.line)).on_host();
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

#[test]
fn what_only_this_machine_may_ask_is_not_fetched_for_a_dockerfile() {
    let server = server();
    let port = server.line.rsplit_once(':').expect("a port").1;
    let case = Case::new("local", "");
    let refused = |url: &str, more: &[&str]| {
        case.file("context/Dockerfile", &format!("FROM base\nADD {url} /x\n"));
        case.compile(more).fails_with(3).says("line 2: ADD: cannot fetch http")
    };
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"] {
        refused(&format!("http://{host}:{port}/dated"), &[]).says("this machine itself").says("network `host`");
    }
    for cloud in ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "[fe80::1]"] {
        refused(&format!("http://{cloud}/latest/meta-data/"), &[]).says("the machine's link");
    }
    for strange in ["%31%32%37.0.0.1", "a@b@127.0.0.1", "localhost."] {
        refused(&format!("http://{strange}:{port}/dated"), &[]).says("its host is written in a way that programs read differently");
    }
    refused("http://nothing.invalid/x", &[]).says("Could not resolve host: nothing.invalid");
    // What another server leads to is looked at anew, whoever fetches it.
    let proxy = format!("http_proxy=http://{}", server.line);
    for (path, why) in [
        ("local", "it leads to http://127.0.0.1:9/x: 127.0.0.1 is this machine itself"),
        ("file", "Protocol \"file\""),
        ("again", "Maximum (10) redirects"),
    ] {
        refused(&format!("http://elsewhere.invalid/{path}"), &["--build-arg", &proxy]).says(why);
    }
    assert!(asked(&server).iter().all(|asked| asked.starts_with("http://elsewhere.invalid/")), "nobody asked this machine");
    case.file("context/Dockerfile", "FROM base\nADD http://elsewhere.invalid/moved /y\n");
    case.compile(&["--build-arg", &proxy]).ok();
    assert_eq!(case.made().text("y"), "through a proxy: http://elsewhere.invalid/y\n");
}

#[test]
fn what_is_being_fetched_ends_with_the_command() {
    let case = Case::new("fetching", "FROM base\nADD http://127.0.0.1:9/x /x\n").on_host();
    let id = case.join("id");
    let text = format!("#!/bin/sh\necho $$ > {0}.new && mv {0}.new {0}\nexec sleep 300\n", id.display());
    fs::set_permissions(case.file("bin/curl", &text), fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", case.join("bin").display(), std::env::var("PATH").expect("a PATH"));
    let mut child = case.command(&[]).env("PATH", &path).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_until("curl was started", || id.exists());
    run(Command::new("kill").args(["-INT", &child.id().to_string()])).ok();
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("our child").code(), Some(8), "{said}");
    assert!(said.contains("stopped by Ctrl-C"), "{said}");
    let curl = PathBuf::from("/proc").join(fs::read_to_string(&id).expect("its id").trim());
    wait_until("curl is gone", || !curl.exists());
}

// Where it failed.

#[test]
fn the_folder_and_the_variables_of_a_run_end_with_it() {
    let case = Case::new("leaks", "");
    let made = case.compiles("FROM base\nWORKDIR /start\nRUN cd /tmp && X=leaks && export Y=leaks && set -f && umask 077 && cat & true\nRUN echo \"[$X$Y] $(pwd) $(umask)\" /dat* > /seen\n");
    assert_eq!(made.text("seen"), "[] /start 0022 /data\n");
}

#[test]
fn workdir_and_user_are_those_of_later_runs_and_of_no_earlier_ones() {
    let case = Case::new("where", "");
    let made = case.compiles(
        "FROM base\nRUN pwd > /first && id -u >> /first && chmod 777 /data\nWORKDIR /data\nUSER app\nRUN pwd > second && id -u >> second && id -g >> second\n\
         USER root\nWORKDIR ../etc\nRUN pwd > /third && id -u >> /third\n",
    );
    assert_eq!((made.text("first"), made.text("data/second"), made.text("third")), ("/\n0\n", "/data\n1000\n1001\n", "/etc\n0\n"));
    let (_, uid, gid, _) = made.rights("data/second");
    assert_eq!((uid, gid), (1000, 1001));
}

#[test]
fn nothing_is_in_the_layer_but_what_the_file_asks_for() {
    let case = Case::new("nothing", "");
    case.file("context/file", "");
    let made = case.compiles(
        "FROM base\nCOPY file /copied\nADD file /added/\nRUN echo > /run\nRUN <<END\n#!/bin/sh\necho > /script\nEND\nWORKDIR /work\n",
    );
    let mut names: Vec<&str> = made.0.layers[1].entries.iter().map(|entry| entry.path.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["added", "added/file", "copied", "run", "script", "work"]);
}

#[test]
fn volumes_are_recorded_and_what_a_run_writes_there_stays() {
    let case = Case::new("volumes", "");
    let made = case.compiles(
        "FROM base\nVOLUME /data [\"/not-a-list\"]\nVOLUME [\"/v w\"]\nRUN echo kept > /data/new && mkdir '/v w' && echo too > '/v w/f'\n",
    );
    assert_eq!((made.text("data/new"), made.text("v w/f")), ("kept\n", "too\n"));
    assert_eq!(made.config()["Volumes"], json!({ "/data": {}, "[/not-a-list]": {}, "/v w": {} }));
    let above = Case::new("volumes-above", "FROM volumes\nRUN echo more > /data/more\n");
    above.compile(&[]).ok();
    assert_eq!(above.made().config()["Volumes"], made.config()["Volumes"], "a volume of the base stays one");
    assert_eq!(ENGINE.run("volumes-above", &["cat", "/data/new", "/data/more"]), "kept\nmore\n");
}

#[test]
fn what_it_does_not_know_or_cannot_do_is_an_error_with_its_line() {
    Case::new("unknown", "").refuses_before_anything(&[
        ("INSTALL hello", "line 3: INSTALL: there is no such instruction"),
        ("COPPY a b", "line 3: COPPY: there is no such instruction"),
        ("ONBUILD RUN true", "line 3: ONBUILD: it is not supported"),
        ("COPY --link Dockerfile /x", "line 3: COPY: the flag --link is not known"),
        ("ADD git@host:repository /x", "line 3: ADD: git@host:repository is a repository of Git"),
        ("COPY http://host/x /x", "line 3: COPY: http://host/x is a URL"),
        ("EXPOSE http", "line 3: EXPOSE: "),
        ("RUN --security=insecure true", "line 3: RUN: the flag --security is not known"),
    ]);
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
    let other = Case { folder: case.folder, image: "again-too".into(), network: case.network };
    assert_eq!(told(&other.compile(&[]).ok()), (id.clone(), true));
    assert_eq!(ENGINE.id_of("again-too"), ENGINE.id_of("again"));
    assert_eq!(ENGINE.run("again-too", &[]), ENGINE.run("again", &[]));
    // What a RUN downloads is not looked at, unless somebody asks for it.
    let (fresh, unchanged) = told(&other.compile(&["--no-cache"]).ok());
    assert!(fresh != id && !unchanged);
    assert_eq!(told(&other.compile(&[]).ok()), (fresh, true));
    let named = fs::read_to_string(ENGINE.store().join("images/index.json")).expect("the index");
    // (Other tests are at work in the same store.)
    let run = twostage_engine::execute::id(&other.join("context/Dockerfile").canonicalize().expect("the file"));
    assert!(!named.contains(&format!("twostage-compile:{run}")), "no image of a run is left: {named}");
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
    let case = Case::new("changes", &text).on_host();
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
    case.file("context/Dockerfile", "FROM base\nRUN echo word > /word\n");
    again("the steps", &[]);
    let other = ENGINE.twostage(&["compile", "--network", "none", &case.join("context").to_string_lossy()]).ok();
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

//! `twostage serve` as its operator and its clients see it: the log, and crowds.

use crate::support::{give_key, run, tool, twostage, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A project whose channel has one package of some megabytes, and that package's target.
fn published() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("twostage.toml"), "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n").expect("a project file");
    give_key(folder.path());
    let (tree, file) = (folder.path().join("tree"), folder.path().join("demo.deb").to_string_lossy().into_owned());
    fs::create_dir_all(tree.join("DEBIAN")).expect("a folder");
    let control = "Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: a test\n";
    fs::write(tree.join("DEBIAN/control"), control).expect("a file");
    fs::write(tree.join("content"), vec![b'x'; 4 << 20]).expect("a file");
    tool("dpkg-deb", &["--root-owner-group", "-Znone", "--build", &tree.to_string_lossy(), &file]).ok();
    run(twostage().arg("--project").arg(folder.path()).args(["publish", &file])).ok();
    let digest = twostage_model::Sha256::of(&fs::read(&file).expect("the package")).to_string();
    (folder, format!("/main/pool/{}/{digest}/demo_1_all.deb", &digest[..2]))
}

/// A server with the lines of its log.
struct Server {
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(project: &Path, arguments: &[&str], level: Option<&str>) -> Server {
        let mut command = twostage();
        command.envs(level.map(|level| ("TWOSTAGE_LOG", level)));
        command.arg("--project").arg(project).args(["--json", "serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
        let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(err).split(b'\n').map_while(Result::ok) {
                seen.lock().expect("the log").push(String::from_utf8(line).expect("text"));
            }
        });
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("it says where");
        let first: Value = serde_json::from_str(&line).expect("JSON");
        Server { child, address: first["address"].as_str().expect("an address").to_string(), log }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    /// Waits for a line, and gives the log up to then.
    #[track_caller]
    fn logs(&self, word: &str) -> Vec<String> {
        wait_until(&format!("the log says {word}"), || self.log().iter().any(|line| line.contains(word)));
        self.log()
    }

    fn said(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the server answers");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("an answer");
        String::from_utf8_lossy(&said).into_owned()
    }

    fn get(&self, target: &str, more: &str) -> String {
        self.said(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Requests of each kind; the last is `/last`.
fn ask_in_every_way(server: &Server, project: &Path) {
    assert!(server.get("/main.sources?token=hidden-in-a-query", "User-Agent: tester \"1\"\r\n").starts_with("HTTP/1.1 200"));
    assert!(server.get("http://me:hidden-in-a-name@example.invalid/", "Authorization: hidden-in-a-header\r\n").starts_with("HTTP/1.1 403"));
    assert!(server.get("/a\u{9b}2J%0ainjected%20line", "User-Agent: a\u{9b}31m\u{202e}b\r\n").starts_with("HTTP/1.1 400"));
    assert!(server.said("hidden-in-a-line\x1b[2J\r\n\r\n").starts_with("HTTP/1.1 400"));
    let channel = project.join(".twostage/repository/channels/main.json");
    let whole = fs::read(&channel).expect("the channel");
    fs::write(&channel, "{").expect("damage");
    let failed = server.get("/main/dists/twostage/InRelease", "");
    fs::write(&channel, whole).expect("it is mended");
    assert!(failed.starts_with("HTTP/1.1 500") && failed.ends_with("the server's log says why\n"), "{failed}");
    assert!(server.get("/last", "").starts_with("HTTP/1.1 404"));
}

#[test]
fn the_server_logs_what_it_answers_and_why_not_and_nothing_that_harms_or_is_secret() {
    let (folder, deb) = published();
    let text = Server::start(folder.path(), &[], None);
    assert!(text.get(&deb, "").starts_with("HTTP/1.1 200"));
    ask_in_every_way(&text, folder.path());
    let lines = text.logs("/last");
    let one = |what: &[&str]| {
        let found: Vec<&String> = lines.iter().filter(|line| what.iter().all(|word| line.contains(word))).collect();
        assert_eq!(found.len(), 1, "{what:?} in {lines:#?}");
    };
    one(&[" INFO twostage::http: ", "peer=127.0.0.1:", "method=\"GET\"", &format!("uri=\"{deb}\""), "status=200"]);
    one(&[" INFO ", "uri=\"/main.sources?…\"", "status=200", "agent=\"tester \\\"1\\\"\""]);
    one(&[" INFO ", "uri=\"http://…@example.invalid/\"", "status=403"]);
    one(&[" INFO ", "uri=\"/a%C2%9B2J%0ainjected%20line\"", "status=400", "agent=\"a%C2%9B31m%E2%80%AEb\""]);
    one(&[" ERROR ", "status=400", "malformed request: "]);
    one(&[" ERROR ", "uri=\"/main/dists/twostage/InRelease\"", "status=500", "main.json"]);
    assert_eq!(lines.len(), 7, "one line each: {lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("hidden") && line.chars().all(|c| !c.is_control())), "{lines:#?}");

    let json = Server::start(folder.path(), &["--log-format", "json"], None);
    assert!(json.get(&deb, "Range: bytes=0-9\r\n").starts_with("HTTP/1.1 206"));
    ask_in_every_way(&json, folder.path());
    let lines: Vec<Value> = json.logs("/last").iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let words: Vec<_> = lines.iter().map(|line| (line["level"].as_str().unwrap_or_default(), line["status"].as_u64())).collect();
    let expected = [("INFO", 206), ("INFO", 200), ("INFO", 403), ("INFO", 400), ("ERROR", 400), ("ERROR", 500), ("INFO", 404)]
        .map(|(l, s)| (l, Some(s)));
    assert_eq!(words, expected);
    assert_eq!((lines[0]["uri"].as_str(), lines[0]["sent"].as_u64()), (Some(deb.as_str()), Some(10)));
    assert!(lines[5]["problem"].as_str().is_some_and(|problem| problem.contains("main.json")), "{}", lines[5]);
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && !line.to_string().contains("hidden")));
}

#[test]
fn a_quiet_server_logs_only_what_went_wrong_and_the_variable_has_the_last_word() {
    let (folder, _) = published();
    let quiet = Server::start(folder.path(), &["-q"], None);
    ask_in_every_way(&quiet, folder.path());
    assert_eq!(quiet.logs("main.json").len(), 2, "{:?}", quiet.log());
    for (arguments, level, lines) in [(&[][..], "off", 0), (&["-vv"], "error", 2), (&["-q"], "info", 6), (&[], "twostage::http=info", 6)] {
        let server = Server::start(folder.path(), arguments, Some(level));
        ask_in_every_way(&server, folder.path());
        // The log is written ten times a second; what is not there by then does not come.
        if lines > 0 {
            wait_until("the lines", || server.log().len() >= lines);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.log().len(), lines, "{arguments:?} {level}: {:#?}", server.log());
    }
    let mut wrong = twostage();
    wrong.env("TWOSTAGE_LOG", "hyper=trace").arg("--project").arg(folder.path()).arg("channel");
    run(&mut wrong).fails_with(2).says("`hyper` is no part of this program").says("write a level");
}

#[test]
fn a_crowd_of_idle_clients_does_not_make_the_next_one_wait() {
    let (folder, deb) = published();
    let server = Server::start(folder.path(), &["-q"], None);
    let idle: Vec<TcpStream> = (0..1100).map(|_| TcpStream::connect(&server.address).expect("a connection")).collect();
    for from in ["127.0.0.2", "127.0.0.1"] {
        let start = Instant::now();
        let url = format!("http://{}{deb}", server.address);
        let curl =
            ["--disable", "--noproxy", "*", "--interface", from, "--max-time", "25", "--fail", "--silent", "--output", "/dev/null", &url];
        tool("curl", &curl).ok();
        assert!(start.elapsed() < Duration::from_secs(15), "{from}: {:?}", start.elapsed());
    }
    drop(idle);
}

/// A process that may open few files has room for few connections: the oldest idle ones go.
#[test]
fn few_file_descriptors_are_shared_and_the_next_client_is_answered() {
    let (folder, deb) = published();
    let server = Server::start(folder.path(), &["-q"], None);
    let limit = |files: &str| tool("prlimit", &["--pid", &server.child.id().to_string(), &format!("--nofile={files}:{files}")]).ok();
    // Fewer than it knows of: it finds out by trying.
    limit("60");
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&server.address).expect("a connection")).collect();
    for target in ["/main/dists/twostage/InRelease", &deb, &deb] {
        let start = Instant::now();
        assert!(server.get(target, "").starts_with("HTTP/1.1 200"), "{target}");
        assert!(start.elapsed() < Duration::from_secs(15), "{target}: {:?}", start.elapsed());
    }
    drop(idle);
}

#[test]
fn curl_is_answered_in_all_the_ways_that_it_asks() {
    let (folder, deb) = published();
    let server = Server::start(folder.path(), &["-q"], None);
    let out = folder.path().join("out").to_string_lossy().into_owned();
    let url = format!("http://{}{deb}", server.address);
    let whole = fs::read(folder.path().join("demo.deb")).expect("the package");
    let curl = |arguments: &[&str]| {
        tool(
            "curl",
            &[&["--disable", "--noproxy", "*", "--max-time", "20", "--silent", "--show-error", "--write-out", "%{http_code}"], arguments]
                .concat(),
        )
    };
    let got = |arguments: &[&str], status: &str| {
        let done = curl(&[arguments, &["--output", &out, &url]].concat()).ok();
        assert_eq!(done.out, status, "{arguments:?}");
    };
    for how in [&["--http1.0"][..], &["--http1.1"], &["--http2"], &["--compressed"], &["--header", "Expect: 100-continue"]] {
        got(how, "200");
        assert!(fs::read(&out).is_ok_and(|bytes| bytes == whole), "{how:?}");
    }
    // The rest of half a file, under a condition, and of a whole one.
    fs::write(&out, &whole[..1_000_000]).expect("half");
    got(&["--continue-at", "-"], "206");
    assert!(fs::read(&out).is_ok_and(|bytes| bytes == whole));
    got(&["--range", "0-1,5-6"], "200");
    let etag = format!("\"{}\"", twostage_model::Sha256::of(&whole));
    got(&["--header", &format!("If-None-Match: {etag}")], "304");
    got(&["--header", "If-Match: \"another\""], "412");
    assert_eq!(curl(&["--head", "--output", &out, &url]).ok().out, "200");
    assert_eq!(curl(&["--upload-file", &folder.path().join("demo.deb").to_string_lossy(), "--output", &out, &url]).ok().out, "405");
    assert_eq!(curl(&["--data-binary", &format!("@{}", folder.path().join("demo.deb").display()), "--output", &out, &url]).ok().out, "405");
    assert_eq!(curl(&["--request", "OPTIONS", "--output", &out, &url]).ok().out, "405");
}

#[test]
fn where_time_goes_is_logged_and_nothing_secret_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("context")).expect("a folder");
    fs::write(path("context/file"), "x").expect("a file");
    fs::write(path("secret"), "hidden").expect("a file");
    let compile = |dockerfile: &str, more: &[&str], level: Option<&str>| {
        fs::write(path("context/Dockerfile"), dockerfile).expect("a file");
        let mut compile = twostage();
        compile.envs(level.map(|level| ("TWOSTAGE_LOG", level))).args(more).arg("compile").arg(path("context"));
        compile.args(["--engine", "embedded", "--no-cache", "--build-arg", "TOKEN=hidden", "--secret"]);
        run(compile.arg(format!("id=x,src={}", path("secret").display())).arg("--engine-host").arg(path("store")))
    };
    let files = "FROM scratch\nARG TOKEN\nENV OTHER=$TOKEN\nCOPY file /file\n";
    let lines = |done: &crate::support::Done| -> Vec<String> {
        done.err.lines().filter(|line| line.contains(" DEBUG ")).map(String::from).collect()
    };
    assert!(lines(&compile(files, &[], None).ok()).is_empty(), "without being asked for");
    let more = compile(files, &["-vv"], None).ok();
    assert!(lines(&more).iter().any(|line| line.contains(" pack: ") && line.contains("time.busy=")), "{}", more.err);
    let trace = compile(files, &["--log-format", "json"], Some("trace")).ok();
    let packed = trace.err.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|line| line["span"]["name"] == "pack");
    assert!(packed, "{}", trace.err);
    let url = format!("{files}ADD http://me:hidden@127.0.0.1:1/x?token=hidden /x\n");
    let failed = compile(&url, &["-vv"], Some("trace")).fails_with(3).says("cannot fetch http://…@127.0.0.1:1/x?…");
    for done in [&more, &trace, &failed] {
        assert!(!done.err.contains("hidden") && !done.out.contains("hidden"), "{}", done.err);
    }
}

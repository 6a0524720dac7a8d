//! A repository in a temporary folder, debs made by dpkg-deb, and a client that sends exactly what
//! it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use twostage_model::Sha256;
use twostage_reposerver::http::Limits;
use twostage_reposerver::sign::Algorithm;
use twostage_reposerver::{AccessEntry, PoolPackage, Repository, Server, Settings};

pub fn settings() -> Settings {
    Settings { algorithm: Algorithm::Ed25519, architectures: vec!["amd64".into()], ..Settings::new("demo") }
}

pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

pub struct Shop {
    pub dir: TempDir,
    pub repo: Arc<Repository>,
}

impl Shop {
    pub fn new() -> Shop {
        let dir = TempDir::new().unwrap();
        // apt's sandboxed downloads read the key from a world-readable folder.
        run(Command::new("chmod").arg("755").arg(dir.path()));
        let repo = Arc::new(Repository::open(&dir.path().join("repo"), settings()).unwrap());
        Shop { dir, repo }
    }

    pub fn again(&self) -> Repository {
        Repository::open(self.repo.root(), settings()).unwrap()
    }

    pub fn add(&self, name: &str, version: &str, content: &str) -> Arc<PoolPackage> {
        self.repo.pool().ingest(&deb(name, version, "all", "", content)[..], name).unwrap()
    }

    pub fn publish(&self, channel: &str, group: &str, members: &[&PoolPackage]) -> twostage_model::Result<twostage_reposerver::Published> {
        publish(&self.repo, channel, group, members, now())
    }
}

/// An immutable snapshot of these packages alone: what a channel of its own points to.
pub fn snapshot(repo: &Repository, members: &[Sha256], now: i64) -> twostage_model::Result<twostage_model::SnapshotId> {
    let mine = std::collections::BTreeMap::from([("all".to_string(), members.iter().copied().collect())]);
    let channel = format!("alone-{now}");
    Ok(repo.publish(&channel, now, |all| *all = mine)?.snapshot)
}

pub fn publish(
    repo: &Repository,
    channel: &str,
    group: &str,
    members: &[&PoolPackage],
    now: i64,
) -> twostage_model::Result<twostage_reposerver::Published> {
    repo.publish(channel, now, |all| {
        all.insert(group.to_string(), members.iter().map(|p| p.sha256).collect());
    })
}

/// A deb of one file, by dpkg-deb itself.
pub fn deb(name: &str, version: &str, arch: &str, fields: &str, content: &str) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    fs::create_dir_all(root.join(format!("usr/share/{name}"))).unwrap();
    fs::write(root.join(format!("usr/share/{name}/content")), content).unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: Test <test@example.invalid>\n{fields}\
         Description: a test\n of several lines\n .\n and a gap\n"
    );
    fs::write(root.join("DEBIAN/control"), control).unwrap();
    let out = dir.path().join("out.deb");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&root).arg(&out).env("SOURCE_DATE_EPOCH", "1700000000"));
    fs::read(out).unwrap()
}

pub fn run(command: &mut Command) -> String {
    let out = command.env("LC_ALL", "C").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}\n{text}", out.status);
    text
}

/// The status and all output.
pub fn try_run(command: &mut Command) -> (bool, String) {
    let out = command.env("LC_ALL", "C").output().unwrap();
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

/// A server with its own runtime and its access log.
pub struct Served {
    pub at: SocketAddr,
    pub log: Arc<Mutex<Vec<AccessEntry>>>,
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    pub fn new(repo: &Arc<Repository>) -> Served {
        Served::limited(repo, Limits::default())
    }

    pub fn limited(repo: &Arc<Repository>, limits: Limits) -> Served {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        let access = Arc::new(move |entry: &AccessEntry| seen.lock().unwrap().push(entry.clone()));
        let listen = ["127.0.0.1:0".parse().unwrap()];
        let server = runtime.block_on(Server::limited(Arc::clone(repo), &listen, Some(access), limits)).unwrap();
        Served { at: server.addresses()[0], log, server: Some(server), runtime }
    }

    pub fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.ask("GET", path, headers)
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let head: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        let host = if headers.iter().any(|h| h.starts_with("Host:")) { String::new() } else { format!("Host: {}\r\n", self.at) };
        self.raw(format!("{method} {target} HTTP/1.1\r\n{host}Connection: close\r\n{head}\r\n").as_bytes())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// All that comes back until the server closes.
    pub fn said(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Answer::read(stream)
    }

    pub fn stop(mut self) {
        self.runtime.block_on(self.server.take().unwrap().stop());
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The one answer of a connection that ends after it.
    pub fn read(stream: TcpStream) -> Answer {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_string()),
                None => break,
            };
        }
        let mut body = Vec::new();
        reader.read_to_end(&mut body).unwrap();
        Answer { status, headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.body)
    }
}

/// For the counts that `make test` prints: once a test.
pub fn count(word: &str) {
    thread_local!(static COUNTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS").filter(|_| !COUNTED.replace(true)) {
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{word}").unwrap();
    }
}

/// Whether this is `make test-all`, where everything is tried.
pub fn long() -> bool {
    std::env::var("TWOSTAGE_TESTS").is_ok_and(|which| which == "all")
}

/// A line for the end of what `make test` prints.
pub fn tell(line: &str) {
    println!("{line}");
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS") {
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "said {line}").unwrap();
    }
}

/// Real apt in folders of its own: nothing of this machine's is read or written.
pub struct Apt {
    dir: TempDir,
    pub proxy: Option<String>,
}

impl Apt {
    pub fn new(sources: &str) -> Apt {
        count("apt");
        let dir = TempDir::new().unwrap();
        run(Command::new("chmod").arg("755").arg(dir.path()));
        for folder in [
            "etc/sources.d",
            "etc/preferences.d",
            "etc/trusted.d",
            "etc/apt.conf.d",
            "lists/partial",
            "cache/archives/partial",
            "log",
            "got",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("status"), "").unwrap();
        let apt = Apt { dir, proxy: None };
        apt.sources(sources);
        apt
    }

    pub fn sources(&self, text: &str) {
        fs::write(self.path("etc/sources.d/demo.sources"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let p = |name: &str| self.path(name).display().to_string();
        let mut command = Command::new("apt-get");
        let options = [
            format!("Dir::Etc::sourcelist={}", p("etc/none")),
            format!("Dir::Etc::sourceparts={}", p("etc/sources.d")),
            format!("Dir::Etc::preferences={}", p("etc/none")),
            format!("Dir::Etc::preferencesparts={}", p("etc/preferences.d")),
            format!("Dir::Etc::trusted={}", p("etc/none")),
            format!("Dir::Etc::trustedparts={}", p("etc/trusted.d")),
            format!("Dir::State::lists={}", p("lists")),
            format!("Dir::State::status={}", p("status")),
            format!("Dir::State::extended_states={}", p("extended")),
            format!("Dir::Cache={}", p("cache")),
            format!("Dir::Log={}", p("log")),
            "APT::Architecture=amd64".into(),
            "APT::Architectures::=amd64".into(),
            "APT::Update::Error-Mode=any".into(),
            "APT::Sandbox::User=root".into(),
            "APT::Get::List-Cleanup=0".into(),
            "Acquire::Retries=0".into(),
        ];
        options.iter().for_each(|option| {
            command.args(["-o", option]);
        });
        // What this machine's own apt is told (proxies among it) is not part of the test.
        let config = p("etc/apt.conf");
        fs::write(&config, format!("Dir::Etc::parts \"{}\";\n", p("etc/apt.conf.d"))).unwrap();
        command.env("APT_CONFIG", config).env("LC_ALL", "C").args(args).current_dir(self.path("got"));
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        if let Some(proxy) = &self.proxy {
            command.env("http_proxy", proxy);
        }
        command
    }

    pub fn get(&self, args: &[&str]) -> String {
        run(&mut self.command(args))
    }

    pub fn fails(&self, args: &[&str]) -> String {
        let (ok, text) = try_run(&mut self.command(args));
        assert!(!ok, "apt-get {args:?} was to fail\n{text}");
        text
    }
}

/// Real gpgv with the repository's public key: whether it takes a signature.
pub fn gpgv(public_key: &str, dir: &Path, args: &[&Path]) -> (bool, String) {
    let ring = dir.join("ring.gpg");
    fs::write(dir.join("ring.asc"), public_key).unwrap();
    run(Command::new("gpg").args(["--batch", "--yes", "--dearmor", "-o"]).arg(&ring).arg(dir.join("ring.asc")).env("GNUPGHOME", dir));
    try_run(Command::new("gpgv").arg("--keyring").arg(&ring).args(args).env("GNUPGHOME", dir))
}

/// One of the scripts that the tests share.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools").join(name)
}

/// Whether this machine has all of these; counted as skipped if not.
pub fn has(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|tool| Command::new(tool).arg("--version").output().is_err()).collect();
    if !missing.is_empty() {
        count("skipped");
        eprintln!("not tested: this machine has no {missing:?}");
    }
    missing.is_empty()
}

/// Real dnf in folders of its own.
pub struct Dnf {
    dir: tempfile::TempDir,
}

impl Dnf {
    pub fn new(client: &str) -> Dnf {
        count("dnf");
        let dnf = Dnf { dir: tempfile::TempDir::new().unwrap() };
        for folder in ["repos", "root", "cache", "log", "persist", "got", "vars", "etc"] {
            fs::create_dir_all(dnf.path(folder)).unwrap();
        }
        fs::write(dnf.path("etc/dnf.conf"), "[main]\n").unwrap();
        fs::write(dnf.path("repos/demo.repo"), client).unwrap();
        dnf
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new("dnf");
        command.arg("-y").arg("--installroot").arg(self.path("root")).arg("-c").arg(self.path("etc/dnf.conf"));
        for (option, folder) in
            [("reposdir", "repos"), ("cachedir", "cache"), ("logdir", "log"), ("persistdir", "persist"), ("varsdir", "vars")]
        {
            command.arg(format!("--setopt={option}={}", self.path(folder).display()));
        }
        command.args(["--releasever=1", "--forcearch=x86_64"]).args(args).env("HOME", self.dir.path()).current_dir(self.path("got"));
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        try_run(&mut command)
    }
}

/// Real zypper in a root of its own.
pub struct Zypper {
    dir: tempfile::TempDir,
}

impl Zypper {
    pub fn new(client: &str) -> Zypper {
        let zypper = Zypper { dir: tempfile::TempDir::new().unwrap() };
        let repos = zypper.dir.path().join("etc/zypp/repos.d");
        fs::create_dir_all(&repos).unwrap();
        fs::write(repos.join("demo.repo"), client).unwrap();
        zypper
    }

    pub fn run(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new("zypper");
        command.arg("--root").arg(self.dir.path()).args(["--non-interactive", "--releasever", "1"]).args(args);
        command.env("HOME", self.dir.path()).env("LC_ALL", "C.UTF-8").env("ZYPP_LOCKFILE_ROOT", self.dir.path());
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        try_run(&mut command)
    }

    /// The names of the packages that it knows.
    pub fn packages(&self) -> std::collections::BTreeSet<String> {
        let (good, said) = self.run(&["--no-refresh", "--xmlout", "search", "--details", "--type", "package"]);
        assert!(good, "{said}");
        let found = said.split("<solvable ").skip(1).filter_map(|part| Some(part.split_once("name=\"")?.1.split_once('"')?.0.to_string()));
        found.collect()
    }
}

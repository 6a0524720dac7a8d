//! The engine's promises, against a real engine.
//!
//! Without one these tests fail and say how to get one; `TWOSTAGE_NO_ENGINE=1` skips them. The
//! base image is made of this machine's own shell and a few tools, so that nothing is downloaded.

#![allow(clippy::expect_used, clippy::panic)] // the helpers of tests are tests too

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use twostage_engine::{Build, Engine, Exec, Found, Hold, Kind, Network, Probe, Run, TarReader, file_stream, pipe, reach};
use twostage_model::{Class, Error, Sink};

const TOOLS: &[&str] = &["sh", "bash", "cat", "sleep", "mkdir", "mktemp", "rm", "touch", "id", "dd", "dpkg"];

/// Runs one test with an engine and an image of its own, and removes the image afterwards.
fn with_engine<F>(test: impl FnOnce(Engine, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    if std::env::var_os("TWOSTAGE_NO_ENGINE").is_some_and(|value| value == "1") {
        println!("skipped: TWOSTAGE_NO_ENGINE=1");
        count("skipped");
        return;
    }
    count("engine");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connected = match (podman_host(), store()) {
            (Some(host), _) => Engine::connect(Some(Kind::Podman), Some(host)).await,
            (_, Some(store)) => Engine::embedded(Some(store), Some(env!("CARGO_BIN_EXE_twostage-sandbox").into())).await,
            _ => Engine::connect(None, None).await,
        };
        let engine = match connected {
            Ok(engine) => engine,
            Err(error) => panic!("this test needs a container engine: {}\n(TWOSTAGE_NO_ENGINE=1 skips it)", told(&error)),
        };
        let image = unique("base");
        let mut id = engine.import(in_pieces(rootfs()), &image, &changes(&engine)).await;
        // All tests import the same layer, and Podman loses it where another one's image is removed at that moment.
        for _ in 0..3 {
            if id.as_ref().is_err_and(|error| is_podman(&engine) && told(error).contains("layer not known")) {
                id = engine.import(in_pieces(rootfs()), &image, &changes(&engine)).await;
            }
        }
        id.unwrap_or_else(|error| panic!("{}", told(&error)));
        let ended = tokio::spawn(test(engine.clone(), image.clone())).await;
        engine.settle().await;
        let removed = engine.remove_image(&image).await;
        if let Err(panicked) = ended {
            std::panic::resume_unwind(panicked.into_panic());
        }
        removed.unwrap_or_else(|error| panic!("{}", told(&error)));
    });
}

/// The same suite is `podman.rs`, and then a Podman is started for it, with all of its own in one
/// folder. It ends when this process does.
fn podman_host() -> Option<&'static str> {
    static HOST: OnceLock<String> = OnceLock::new();
    #[allow(clippy::zombie_processes, reason = "it outlives us, by a moment")]
    let host = || {
        // (A socket's path has at most 107 bytes, and cargo's folder may be deep.)
        let folder = std::env::temp_dir().join(format!("engtest-podman-{}", std::process::id()));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tools/podman_service.sh");
        let mut service = Command::new(script).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        BufReader::new(service.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says where it listens");
        assert!(line.starts_with("unix://"), "Podman's service did not start");
        // Its standard input stays open as long as this process lives.
        std::mem::forget(service);
        line.trim().to_string()
    };
    (env!("CARGO_CRATE_NAME") == "podman").then(|| HOST.get_or_init(host).as_str())
}

/// The same suite is `embedded.rs`, and then this is the folder of its images.
fn store() -> Option<&'static Path> {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    #[allow(clippy::zombie_processes, reason = "it outlives us, by a moment")]
    let store = || {
        let folder = std::env::temp_dir().join(format!("engtest-store-{}", std::process::id()));
        // It goes when this process does.
        let script = "cat; rm -rf \"$1\"";
        let mut remover = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell");
        std::mem::forget(remover.stdin.take());
        folder
    };
    (env!("CARGO_CRATE_NAME") == "embedded").then(|| STORE.get_or_init(store).as_path())
}

/// Podman's import takes one.
fn changes(engine: &Engine) -> Vec<String> {
    let all = words(&[r#"ENTRYPOINT ["/bin/false"]"#, "ENV COLOUR=blue"]);
    all.into_iter().take(if is_podman(engine) { 1 } else { 2 }).collect()
}

fn is_embedded(engine: &Engine) -> bool {
    engine.kind() == Kind::Embedded
}

fn is_podman(engine: &Engine) -> bool {
    engine.name().starts_with("podman ")
}

/// For the counts that `make test` prints.
fn count(word: &str) {
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS") {
        let mut file = std::fs::File::options().append(true).create(true).open(path).expect("the counts can be written");
        writeln!(file, "{word}").expect("the counts can be written");
    }
}

fn in_pieces(bytes: &'static [u8]) -> twostage_engine::ByteStream {
    Box::pin(futures_util::stream::iter(bytes.chunks(100_000).map(|chunk| Ok(bytes::Bytes::from_static(chunk)))))
}

fn unique(what: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("engtest-{what}-{}-{}:latest", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The error as the command prints it.
fn told(error: &Error) -> String {
    format!("{error}\n  because: {}\n  hint: {}", error.causes().join(": "), error.hint_text().unwrap_or("none"))
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| word.to_string()).collect()
}

fn shell(script: &str) -> Vec<String> {
    words(&["/bin/sh", "-c", script])
}

/// A root file system of a shell, some tools and apt's downloader, with the libraries they need.
fn rootfs() -> &'static [u8] {
    static ROOTFS: OnceLock<Vec<u8>> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut files = BTreeMap::new();
        let mut add = |at: String, from: PathBuf| {
            let listed = Command::new("ldd").arg(&from).output().expect("ldd");
            for word in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
                files.insert(word.to_string(), PathBuf::from(word));
            }
            files.insert(at, from);
        };
        for tool in TOOLS {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(tool)).into_iter().find(|path| path.exists());
            add(format!("/bin/{tool}"), found.unwrap_or_else(|| panic!("{tool} is on every Debian")));
        }
        for apt in ["/usr/lib/apt/apt-helper", "/usr/lib/apt/methods/http"] {
            if Path::new(apt).exists() {
                add(apt.to_string(), apt.into());
            }
        }
        for table in ["cputable", "ostable", "tupletable"].map(|name| format!("/usr/share/dpkg/{name}")) {
            files.insert(table.clone(), table.into());
        }
        for (at, from) in &files {
            let from = std::fs::canonicalize(from).expect("a library");
            builder.append_path_with_name(from, at.trim_start_matches('/')).expect("into memory");
        }
        for folder in ["tmp", "work", "etc/apt/apt.conf.d", "var/lib/dpkg", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial"] {
            entry(&mut builder, &format!("{folder}/"), b"", 0o777);
        }
        entry(&mut builder, "etc/passwd", b"root:x:0:0::/:/bin/sh\nbuilder:x:1000:1000::/work:/bin/sh\n", 0o644);
        entry(&mut builder, "etc/group", b"root:x:0:\nbuilder:x:1000:\n", 0o644);
        entry(&mut builder, "var/lib/dpkg/status", b"", 0o644);
        builder.into_inner().expect("into memory")
    })
}

fn entry(builder: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, path, bytes).expect("into memory");
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    files.iter().for_each(|(path, bytes)| entry(&mut builder, path, bytes, 0o755));
    builder.into_inner().expect("into memory")
}

/// A tar stream as text: `path: N bytes` or the file's content.
async fn tree(reader: TarReader) -> Vec<String> {
    let listing = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(reader);
        let mut lines = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            // Only Docker ends a folder's name with a slash.
            let path = entry.path().expect("a path").display().to_string().trim_end_matches('/').to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            lines.push(format!("{path}: {text}"));
        }
        // The end mark is checked once everything was read.
        archive.into_inner().read_to_end(&mut Vec::new()).expect("a whole archive");
        lines.sort();
        lines
    });
    listing.await.expect("the reader does not panic")
}

async fn run(engine: &Engine, run: Run<'_>) -> (i64, Vec<String>) {
    let mut lines = Vec::new();
    let container = engine.run(run, &mut |line| lines.push(line.to_string())).await;
    let container = container.unwrap_or_else(|error| panic!("{}", told(&error)));
    let status = container.exit_code;
    container.remove().await.expect("removed");
    (status, lines)
}

/// A server that answers like ours: 200 for /healthz of the fixed host, 404 else.
async fn server(address: &str) -> u16 {
    let listener = tokio::net::TcpListener::bind((address, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.is_ok_and(|length| length > 0) {}
                let found = request.starts_with(b"GET http://repository.twostage.invalid/healthz ");
                let status = if found { "200 OK" } else { "404 Not Found" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
                socket.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    port
}

#[test]
fn a_run_gives_its_lines_and_its_exit_status() {
    with_engine(|engine, image| async move {
        let kind = format!("{} ", engine.kind());
        let versioned = engine.name().strip_prefix(&kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        assert!(versioned || (is_embedded(&engine) && engine.name() == "embedded"), "{}", engine.name());
        assert!(!engine.name().contains('+'));
        let script = "echo one; echo two >&2; printf 'no end'; dd if=/dev/zero bs=20000 count=1 2>/dev/null; echo; id -u; echo $COLOUR $SIZE; exit 3";
        let cmd = shell(script);
        let env = [("SIZE".to_string(), "big one".to_string())];
        let (status, lines) = run(&engine, Run { env: &env, user: Some("builder"), ..Run::new(&image, &cmd) }).await;
        assert_eq!(status, 3, "{lines:?}");
        assert!(lines.contains(&"one".to_string()) && lines.contains(&"two".to_string()));
        assert!(lines.iter().any(|line| line.len() == 8192 && line.starts_with("no end\0")));
        assert!(lines.iter().all(|line| line.len() <= 8192));
        // Two pipes, so the place of "two" among the others is not known.
        let last: Vec<_> = lines.iter().filter(|line| *line != "two").rev().take(2).collect();
        assert_eq!(last, [if is_podman(&engine) { "big one" } else { "blue big one" }, "1000"]);
    });
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_leaves_no_container() {
    with_engine(|engine, image| async move {
        let labels = BTreeMap::from([("engtest".to_string(), image.clone())]);
        let cmd = words(&["/no/such/program"]);
        let error = engine.run(Run { labels: &labels, ..Run::new(&image, &cmd) }, &mut |_| ()).await.expect_err("no such program");
        assert!(told(&error).contains("/no/such/program"), "{}", told(&error));
        engine.settle().await;
        assert_eq!(engine.sweep(&format!("engtest={image}")).await.expect("swept"), 0);
        let error = engine.run(Run::new("engtest-no-such-image:1", &cmd), &mut |_| ()).await.expect_err("no such image");
        assert!(told(&error).contains("engtest-no-such-image"), "{}", told(&error));
    });
}

#[test]
fn files_go_in_before_the_start_and_come_out_after_the_end() {
    with_engine(|engine, image| async move {
        let label = format!("engtest={image}");
        let labelled = engine.labelled(BTreeMap::from([("engtest".to_string(), image.clone())]));
        let mut input = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut input, &tar_of(&[("work/in/", b""), ("work/in/name", b"world")])).expect("written");
        let cmd = shell("mkdir out && { printf 'hello '; cat in/name; } > out/greeting && touch out/empty");
        let run = Run { input: Some(&input), workdir: Some("/work"), ..Run::new(&image, &cmd) };
        let container = labelled.run(run, &mut |line| panic!("{line}")).await.expect("it runs");
        assert_eq!(container.exit_code, 0);
        let found = tree(container.copy_out("/work/out").await.expect("copied")).await;
        assert_eq!(found, ["out/empty: ", "out/greeting: hello world", "out: "]);
        let error = container.copy_out("/work/nothing").await.expect_err("no such folder");
        assert!(told(&error).contains("cannot copy /work/nothing out of the container"), "{}", told(&error));

        // The image keeps the files; the run's command gives way to what `changes` say.
        let name = unique("committed");
        let id = container.commit(&name, &words(&[r#"CMD ["/bin/cat", "/work/out/greeting"]"#, "USER 1000"])).await.expect("committed");
        container.remove().await.expect("removed");
        let info = engine.image(&name).await.expect("asked").expect("there");
        assert_eq!((info.id.as_str(), info.cmd.len(), info.entrypoint.len(), info.diff_ids.len()), (id.as_str(), 2, 0, 2));
        let made = engine.create(&name).await.expect("a container that never starts");
        assert_eq!(engine.sweep(&label).await.expect("swept"), 0, "a sweep takes no container of an image that we committed");
        assert_eq!(tree(made.copy_out("/work/out/greeting").await.expect("copied")).await, ["greeting: hello world"]);
        made.remove().await.expect("removed");
        std::mem::forget(labelled.create(&name).await.expect("what a killed run leaves"));
        assert_eq!(engine.sweep(&label).await.expect("swept"), 1);
        engine.remove_image(&id).await.expect("removed");
        assert_eq!(engine.image(&name).await.expect("asked"), None);
    });
}

#[test]
fn commands_run_one_after_another_in_a_container_and_between_them_nothing_does() {
    with_engine(|engine, image| async move {
        let hold = Hold { image: &image, hostname: Some("fixed"), network: Network::None };
        let container = engine.hold(hold).await.unwrap_or_else(|error| panic!("{}", told(&error)));
        let put = tar_of(&[("work/in", b"world"), ("work/folder/", b"")]);
        container.put(in_pieces(put.leak()), false).await.expect("nothing runs yet");
        let lines = std::sync::Mutex::new(Vec::new());
        let exec = async |cmd: &[String], user: &str, workdir: &str| {
            let env = [("A".to_string(), "b c".to_string())];
            let exec = Exec { cmd, env: &env, user, workdir, ..Exec::default() };
            let mut on_line = |line: &str| lines.lock().expect("a list").push(line.to_string());
            container.exec(exec, &mut on_line).await.unwrap_or_else(|error| panic!("{}", told(&error)))
        };
        let first = shell("X=1; echo \"$A $PWD $HOSTNAME\"; cat in; echo; touch /tmp/left; sleep 100 & exit 3");
        assert_eq!(exec(&first, "", "/work").await, 3, "what it leaves running does not hold it up");
        let second = shell("echo \"[$X] $(id -u) $PWD\"; for p in /proc/[0-9]*/cmdline; do cat $p; done; test -e /tmp/left");
        assert_eq!(exec(&second, "builder", "").await, 0, "files stay");
        let lines = lines.into_inner().expect("a list");
        assert!(lines.contains(&"b c /work fixed".to_string()) && lines.contains(&"world".to_string()), "{lines:?}");
        assert!(lines.contains(&"[] 1000 /".to_string()) && !lines.concat().contains("sleep"), "{lines:?}");
        assert_eq!(exec_fails(&container).await, 7);

        let folder = container.find("/work/folder").await.expect("asked").expect("there");
        assert_eq!(folder, Found { folder: true, link: None });
        assert_eq!(container.find("/work/nothing").await.expect("asked"), None);
        let over = tar_of(&[("work/folder", b"a file")]);
        assert!(container.put(in_pieces(over.leak()), false).await.is_err(), "a folder gives way only if it may");
        container.remove().await.expect("removed");
        let (config, _) = engine.config(&image).await.expect("asked").expect("there");
        assert_eq!(config.config.entrypoint, ["/bin/false"]);
        assert!(engine.config("engtest-no-such-image").await.expect("asked").is_none());
    });
}

async fn exec_fails(container: &twostage_engine::Container) -> i64 {
    let cmd = shell("exec >&- 2>&-; sleep 1; exit 7");
    container.exec(Exec { cmd: &cmd, ..Exec::default() }, &mut |line| panic!("{line}")).await.expect("it closes its output and goes on")
}

#[test]
fn a_run_whose_time_is_up_is_killed_and_removed() {
    with_engine(|engine, image| async move {
        let labels = BTreeMap::from([("engtest".to_string(), image.clone())]);
        let cmd = shell("echo waiting; sleep 100");
        let mut lines = Vec::new();
        let run = Run { labels: &labels, timeout: Some(Duration::from_secs(5)), ..Run::new(&image, &cmd) };
        let error = engine.run(run, &mut |line| lines.push(line.to_string())).await.expect_err("too slow");
        assert_eq!((error.class(), lines), (Class::Build, words(&["waiting"])));
        assert!(error.to_string().contains("did not end within 5s"), "{error}");
        engine.settle().await;
        assert_eq!(engine.sweep(&format!("engtest={image}")).await.expect("swept"), 0);
    });
}

#[test]
fn a_sweep_removes_what_a_killed_run_left() {
    with_engine(|engine, image| async move {
        let labels = BTreeMap::from([("engtest".to_string(), image.clone())]);
        let cmd = shell("echo started; sleep 100");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = engine.clone();
        let task = tokio::spawn(async move {
            let mut sender = Some(sender);
            other
                .run(Run { labels: &labels, ..Run::new(&image, &cmd) }, &mut |_| {
                    if let Some(sender) = sender.take() {
                        sender.send(image.clone()).expect("the test listens");
                    }
                })
                .await
        });
        let label = format!("engtest={}", receiver.await.expect("it starts"));
        assert_eq!(engine.sweep(&label).await.expect("swept"), 1);
        assert_eq!(engine.sweep(&label).await.expect("swept"), 0);
        // The run notices, whichever of its questions the engine answers first.
        let ended = tokio::time::timeout(Duration::from_secs(20), task).await.expect("it ends").expect("no panic");
        assert!(ended.map_or(true, |container| container.exit_code != 0));
    });
}

#[test]
fn a_run_that_somebody_stops_has_not_succeeded() {
    with_engine(|engine, image| async move {
        // (Nobody but us reaches the embedded engine's containers.)
        if is_embedded(&engine) {
            return;
        }
        let labels = BTreeMap::from([("engtest".to_string(), image.clone())]);
        // Between the signal that it does not heed and the one that ends it there are two seconds.
        let cmd = shell("trap '' TERM; echo started; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1; done");
        let stop = |line: &str| {
            assert_eq!(line, "started");
            let image = image.clone();
            std::thread::spawn(move || {
                let docker = |arguments: &[&str]| {
                    let host = podman_host().into_iter().flat_map(|host| ["--host", host]);
                    let output = Command::new("docker").args(host).args(arguments).output().expect("docker");
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    String::from_utf8_lossy(&output.stdout).trim().to_string()
                };
                let id = docker(&["ps", "--quiet", "--filter", &format!("label=engtest={image}")]);
                docker(&["stop", "--time", "2", &id])
            });
        };
        let container = engine.run(Run { labels: &labels, ..Run::new(&image, &cmd) }, &mut |line| stop(line)).await.expect("it ran");
        assert_eq!(container.exit_code, 137);
        container.remove().await.expect("removed");
    });
}

#[test]
fn a_run_that_nobody_waits_for_any_more_is_removed() {
    with_engine(|engine, image| async move {
        let labels = BTreeMap::from([("engtest".to_string(), image.clone())]);
        let cmd = shell("sleep 100");
        let mut ignore = |_: &str| ();
        let run = engine.run(Run { labels: &labels, ..Run::new(&image, &cmd) }, &mut ignore);
        assert!(tokio::time::timeout(Duration::from_secs(2), run).await.is_err(), "it sleeps");
        engine.settle().await;
        assert_eq!(engine.sweep(&format!("engtest={image}")).await.expect("swept"), 0);
    });
}

#[test]
fn without_a_network_nothing_is_reached() {
    with_engine(|engine, image| async move {
        let port = server("127.0.0.1").await;
        let cmd = words(&["/bin/bash", "-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached")]);
        let (status, lines) = run(&engine, Run { network: Network::None, ..Run::new(&image, &cmd) }).await;
        assert!(status != 0 && !lines.contains(&"reached".to_string()), "{lines:?}");
        let (status, lines) = run(&engine, Run { network: Network::Host, ..Run::new(&image, &cmd) }).await;
        assert_eq!((status, lines), (0, words(&["reached"])));
    });
}

#[test]
fn a_build_makes_an_image_with_its_arguments_and_labels() {
    with_engine(|engine, image| async move {
        let dockerfile = format!(
            "FROM {image} AS first\nRUN echo first > /first\nFROM {image}\nARG WHO\nCOPY name /name\nRUN cat /name && echo \" $WHO $http_proxy\" && echo oops >&2\n"
        );
        let context = tar_of(&[("Dockerfile", dockerfile.as_bytes()), ("name", b"hello")]);
        let arguments = BTreeMap::from([("WHO", "you"), ("http_proxy", "http://127.0.0.1:1")].map(|(k, v)| (k.to_string(), v.to_string())));
        let labels = BTreeMap::from([("snapshot".to_string(), "abc".to_string())]);
        let name = unique("built");
        let mut lines = Vec::new();
        let build = Build {
            tag: Some(&name),
            build_args: &arguments,
            labels: &labels,
            network: Network::Host,
            ..Build::new(context, "Dockerfile")
        };
        let id =
            engine.build(build.clone(), &mut |line| lines.push(line.to_string())).await.unwrap_or_else(|error| panic!("{}", told(&error)));
        // Podman makes one stream of two, so there the second can come in the midst of a line.
        let greeting = if is_podman(&engine) { " you http://127.0.0.1:1" } else { "hello you http://127.0.0.1:1" };
        let ends = |words: &str| lines.iter().any(|line| line.ends_with(words) && !line.contains("STEP"));
        assert!(ends(greeting) && ends("oops"), "{lines:#?}");
        let info = engine.image(&name).await.expect("asked").expect("built");
        assert_eq!((info.id.as_str(), info.labels["snapshot"].as_str()), (id.as_str(), "abc"));
        assert_eq!((info.architecture.as_str(), &info.tags), (engine.architecture(), &vec![name.clone()]));
        assert!(
            info.size > 1_000_000
                && (is_podman(&engine) || info.env.contains(&"COLOUR=blue".to_string()))
                && !info.env.iter().any(|e| e.contains("proxy"))
        );

        // The cache knows it; another proxy does not change that.
        let other = BTreeMap::from([("WHO", "you"), ("http_proxy", "http://127.0.0.1:2")].map(|(k, v)| (k.to_string(), v.to_string())));
        let again = engine.build(Build { build_args: &other, tag: None, ..build.clone() }, &mut |_| ()).await.expect("built again");
        assert_eq!(again == id, !is_podman(&engine), "Podman's cache, which knows no network, is not used");

        engine.tag(&id, "engtest-other:name").await.expect("tagged");
        assert_eq!(engine.image("engtest-other:name").await.expect("asked").map(|image| image.id).as_ref(), Some(&id));
        for image in [&id, &again] {
            engine.remove_image(image).await.expect("removed");
        }
    });
}

#[test]
fn a_failed_build_names_its_step_and_exit_status_and_tags_nothing() {
    with_engine(|engine, image| async move {
        let dockerfile = format!("FROM {image}\nRUN echo the reason >&2; exit 42\n");
        let name = unique("failed");
        let mut lines = Vec::new();
        let build = Build { tag: Some(&name), ..Build::new(tar_of(&[("a/Dockerfile", dockerfile.as_bytes())]), "a/Dockerfile") };
        let error = engine.build(build.clone(), &mut |line| lines.push(line.to_string())).await.expect_err("it fails");
        assert_eq!(
            (error.class(), error.to_string()),
            (Class::Build, format!("the build of {name} failed at step 2/2, RUN echo the reason >&2; exit 42 (exit status 42)"))
        );
        let words = if is_podman(&engine) { "exit status 42" } else { "returned a non-zero code: 42" };
        assert!(error.causes().concat().contains(words), "{}", told(&error));
        assert!(lines.contains(&"the reason".to_string()), "{lines:#?}");
        assert_eq!(engine.image(&name).await.expect("asked"), None);

        let error = engine.build(Build { context: tar_of(&[]), ..build }, &mut |_| ()).await.expect_err("no Dockerfile");
        assert!(told(&error).contains("a/Dockerfile"), "{}", told(&error));
    });
}

#[test]
fn a_build_that_nobody_waits_for_any_more_is_cancelled() {
    with_engine(|engine, image| async move {
        let port = server("127.0.0.1").await;
        let name = unique("cancelled");
        // After its sleep the step would tell our listener; it never does.
        let heard = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let told = heard.local_addr().expect("an address").port();
        let dockerfile = format!(
            "FROM {image}\nRUN [\"/bin/bash\", \"-c\", \"exec 3<>/dev/tcp/127.0.0.1/{port}; echo sleeping; sleep 4; exec 3<>/dev/tcp/127.0.0.1/{told}\"]\n"
        );
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = engine.clone();
        let tag = name.clone();
        let task = tokio::spawn(async move {
            let mut sender = Some(sender);
            let build = Build {
                tag: Some(&tag),
                network: Network::Host,
                ..Build::new(tar_of(&[("Dockerfile", dockerfile.as_bytes())]), "Dockerfile")
            };
            let mut on_line = |line: &str| {
                if line == "sleeping"
                    && let Some(sender) = sender.take()
                {
                    sender.send(()).expect("the test listens");
                }
            };
            other.build(build, &mut on_line).await
        });
        receiver.await.expect("the step starts");
        task.abort();
        let after = tokio::time::timeout(Duration::from_secs(7), heard.accept()).await;
        // Podman ends the step first.
        assert!(after.is_err() || is_podman(&engine), "the step went on after its build was dropped");
        assert_eq!(engine.image(&name).await.expect("asked"), None);
    });
}

#[test]
fn an_image_is_saved_whole_and_loads_again() {
    with_engine(|engine, image| async move {
        let before = engine.image(&image).await.expect("asked").expect("there");
        let mut reader = engine.save(&image).await.expect("saved");
        let bytes = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = bytes.await.expect("no panic").expect("a whole archive");
        assert!(bytes.len() > rootfs().len());
        let names: BTreeSet<String> = tar::Archive::new(&bytes[..])
            .entries()
            .expect("a tar")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert!(names.contains("manifest.json"), "{names:?}");

        engine.remove_image(&image).await.expect("removed");
        let (mut writer, stream) = pipe();
        let writing = tokio::task::spawn_blocking(move || std::io::copy(&mut &bytes[..], &mut writer).and_then(|_| writer.finish()));
        assert_eq!(engine.load(stream).await.expect("loaded"), [image.as_str()]);
        writing.await.expect("no panic").expect("written");
        let after = engine.image(&image).await.expect("asked").expect("there again");
        assert_eq!((after.id, after.diff_ids), (before.id, before.diff_ids));

        let error = engine.save("engtest-no-such-image:1").await.expect_err("no such image");
        assert!(told(&error).contains("cannot save image engtest-no-such-image:1"), "{}", told(&error));
    });
}

#[test]
fn a_reader_that_is_dropped_early_does_not_hang_the_engine() {
    with_engine(|engine, image| async move {
        let mut reader = engine.save(&image).await.expect("saved");
        let read = tokio::task::spawn_blocking(move || reader.read(&mut [0; 100]).expect("some bytes"));
        assert!(read.await.expect("no panic") > 0);
        assert!(engine.image(&image).await.expect("asked").is_some());
    });
}

#[test]
fn an_import_that_breaks_off_makes_no_image() {
    with_engine(|engine, _| async move {
        let name = unique("broken");
        let (mut writer, stream) = pipe();
        let writing = tokio::task::spawn_blocking(move || std::io::Write::write_all(&mut writer, &rootfs()[..200_000]));
        let error = engine.import(stream, &name, &[]).await.expect_err("half a tar");
        assert!(writing.await.is_ok());
        assert!(told(&error).contains("the archive was not finished"), "{}", told(&error));
        assert_eq!(engine.image(&name).await.expect("asked"), None);
        // (An engine may make an image of it yet, and must not give it this name.)
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(engine.image(&name).await.expect("asked"), None);

        let file = std::env::temp_dir().join(format!("engtest-{}.tar", std::process::id()));
        std::fs::write(&file, tar_of(&[("a", b"b")])).expect("written");
        let opened = tokio::fs::File::open(&file).await.expect("opened");
        let id = engine.import(file_stream(opened), &name, &["LABEL a=b".into()]).await.expect("imported");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(engine.image(&name).await.expect("asked").expect("there").labels["a"], "b");
        engine.remove_image(&id).await.expect("removed");
    });
}

#[test]
fn a_pull_without_a_registry_says_how_to_do_without() {
    with_engine(|engine, _| async move {
        let start = Instant::now();
        let error = engine.pull("127.0.0.1:9/team/base:1", &Sink::silent(), "base").await.expect_err("no registry");
        assert!(error.to_string().contains("cannot pull 127.0.0.1:9/team/base:1"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("bootstrap")), "{}", told(&error));
        assert!(start.elapsed() < Duration::from_secs(60));
    });
}

#[test]
fn the_server_is_reached_on_the_hosts_network_or_over_the_bridge() {
    with_engine(|engine, image| async move {
        let port = server("127.0.0.1").await;
        let command = reach::fetch("http://repository.twostage.invalid/healthz");
        let labels = BTreeMap::new();
        let probe = |networks| Probe { image: &image, command: &command, port, networks, labels: &labels };
        let found = engine.probe_reach(probe(Probe::NETWORKS), |_| async { Err(Error::new(Class::System, "not wanted")) }).await;
        let found = found.unwrap_or_else(|error| panic!("{}", told(&error)));
        let network = if is_embedded(&engine) { Network::Bridge } else { Network::Host };
        assert_eq!((found.network, found.proxy), (network, format!("http://127.0.0.1:{port}")));

        let Some(gateway) = engine.gateway().await.expect("asked") else {
            assert!(is_embedded(&engine), "there is a bridge");
            return;
        };
        let found = engine.probe_reach(probe(&[Network::Bridge]), |address| async move { Ok(server(&address.to_string()).await) }).await;
        let found = found.unwrap_or_else(|error| panic!("{}", told(&error)));
        assert_eq!(found.network, Network::Bridge);
        assert!(found.proxy.starts_with(&format!("http://{gateway}:")) && !found.proxy.ends_with(&format!(":{port}")), "{}", found.proxy);

        // Without apt the next tool is asked with; this base has bash.
        let without_apt =
            [command.clone(), Vec::new()].concat().iter().map(|word| word.replace("/usr/lib/apt/", "/nothing/")).collect::<Vec<_>>();
        let probe = Probe { command: &without_apt, ..probe(Probe::NETWORKS) };
        let found = engine.probe_reach(probe, |_| async { Err(Error::new(Class::System, "not wanted")) }).await;
        assert!(found.is_ok(), "{}", told(&found.expect_err("refused")));
    });
}

#[test]
fn a_server_that_is_not_there_is_told_with_every_try() {
    with_engine(|engine, image| async move {
        let command = reach::fetch("http://repository.twostage.invalid/healthz");
        let probe = Probe { image: &image, command: &command, port: 1, networks: Probe::NETWORKS, labels: &BTreeMap::new() };
        let refused = |_| async { Err(Error::new(Class::System, "cannot bind").because("address in use".to_string())) };
        let error = engine.probe_reach(probe, refused).await.expect_err("nothing listens");
        let why = error.causes().concat();
        let first = if is_embedded(&engine) { "bridge" } else { "host" };
        assert!(why.contains(&format!("{first} network: http://127.0.0.1:1: the container's request failed")), "{why}");
        assert!(
            is_embedded(&engine)
                || why.contains("bridge network: the server cannot listen on the bridge's gateway") && why.contains("address in use"),
            "{why}"
        );
        let hint = if is_embedded(&engine) { "127.0.0.1" } else { "firewall" };
        assert!(error.hint_text().is_some_and(|told| told.contains(hint)), "{}", told(&error));
    });
}

//! Dockerfiles built layer by layer, with real containers: busybox, from the machine.

#![allow(clippy::expect_used, clippy::panic)] // the helpers of tests are tests too

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tar::EntryType;
use twostage_engine::{Build, Engine, ImageInfo, Network};
use twostage_image::{Image, Kind, Want, read_archive};
use twostage_model::{Class, Error};

/// A store of its own with a base in it.
struct Place {
    engine: Engine,
    _folder: tempfile::TempDir,
}

/// One file of a context: path, text, time.
type File<'a> = (&'a str, &'a str, u64);

/// What a build gave.
struct Built {
    id: String,
    log: Vec<String>,
}

impl Built {
    /// Which steps, counted from 1, the cache knew.
    fn cached(&self) -> Vec<usize> {
        let mut step = 0;
        let mut cached = Vec::new();
        for line in &self.log {
            step += usize::from(line.starts_with("Step "));
            if line == " ---> Using cache" {
                cached.push(step);
            }
        }
        cached
    }
}

impl Place {
    async fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let program = env!("CARGO_BIN_EXE_twostage-sandbox").into();
        let engine = Engine::embedded(Some(folder.path()), Some(program)).await.unwrap_or_else(|error| panic!("{}", told(&error)));
        let tar: &'static [u8] = busybox().leak();
        let pieces = futures_util::stream::iter(tar.chunks(100_000).map(|chunk| Ok(bytes::Bytes::from_static(chunk))));
        let changes = ["ENV COLOUR=blue".to_string()];
        engine.import(Box::pin(pieces), "base", &changes).await.unwrap_or_else(|error| panic!("{}", told(&error)));
        Place { engine, _folder: folder }
    }

    async fn try_build(&self, dockerfile: &str, files: &[File<'_>], build: Build<'_>) -> Result<Built, Error> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text, time) in files.iter().chain([&("Dockerfile", dockerfile, 1)]) {
            add(&mut tar, path, EntryType::Regular, 0o644, text.as_bytes(), *time);
        }
        let build = Build { context: tar.into_inner().expect("into memory"), ..build };
        let mut log = Vec::new();
        let built = self.engine.build(build, &mut |line| log.push(line.to_string())).await;
        built.map(|id| Built { id, log })
    }

    async fn build(&self, dockerfile: &str, files: &[File<'_>]) -> Built {
        self.try_build(dockerfile, files, plain()).await.unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    async fn info(&self, id: &str) -> ImageInfo {
        self.engine.image(id).await.expect("asked").expect("there")
    }

    async fn read(&self, id: &str) -> Image {
        let archive = self.engine.save(id).await.expect("saved");
        tokio::task::spawn_blocking(move || read_archive(archive, &|_| Want::Content).expect("an image")).await.expect("no panic")
    }
}

fn plain() -> Build<'static> {
    Build { network: Network::Host, ..Build::new(Vec::new(), "Dockerfile") }
}

fn told(error: &Error) -> String {
    format!("{error}\n  because: {}\n  hint: {}", error.causes().join(": "), error.hint_text().unwrap_or("none"))
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, bytes: &[u8], time: u64) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).expect("into memory");
}

fn busybox() -> Vec<u8> {
    let program = fs::read("/bin/busybox").expect("`apt-get install busybox-static` gives /bin/busybox");
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode) in
        [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700), ("dev/", 0o755), ("proc/", 0o755), ("sys/", 0o755)]
    {
        add(&mut tar, folder, EntryType::Directory, mode, b"", 5);
    }
    add(&mut tar, "bin/busybox", EntryType::Regular, 0o755, &program, 5);
    add(&mut tar, "etc/passwd", EntryType::Regular, 0o644, b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/:/bin/sh\n", 5);
    add(&mut tar, "etc/group", EntryType::Regular, 0o644, b"root:x:0:\nusers:x:100:\n", 5);
    // What Docker would make, and leave in the layer of a RUN, if it were not there.
    for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        add(&mut tar, name, EntryType::Regular, 0o644, b"", 5);
    }
    for name in String::from_utf8(list.stdout).expect("names").lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").expect("into memory");
    }
    tar.into_inner().expect("into memory")
}

/// What is in the layers above the base: `path` or `path=text`, times after `@` where they are old.
fn above(image: &Image) -> Vec<Vec<String>> {
    let layer = |layer: &twostage_image::Layer| {
        let shown = |entry: &twostage_image::Entry| match (&entry.kind, &entry.content) {
            (Kind::File { .. }, Some(text)) => format!("{}={}", entry.path, String::from_utf8_lossy(text).trim()),
            _ => entry.path.clone(),
        };
        layer.entries.iter().map(shown).collect()
    };
    image.layers.iter().skip(1).map(layer).collect()
}

const STEPS: &str = "FROM base AS made
RUN mkdir /out && echo made > /out/made
COPY one /out/one
FROM base
ENV A=b
WORKDIR /work
COPY --from=made /out ./
COPY --chown=ann two /work/
RUN cat one two > /work/both
CMD [\"cat\", \"both\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_a_layer_and_one_that_is_known_is_not_done_again() {
    let place = Place::new().await;
    let first = place.build(STEPS, &[("one", "1", 10), ("two", "2", 10)]).await;
    assert_eq!((first.cached(), first.log[0].as_str()), (vec![], "Step 1/10 : FROM base AS made"));
    assert!(first.log.last().is_some_and(|line| line.starts_with("Successfully built ")), "{:#?}", first.log);
    let image = place.read(&first.id).await;
    assert_eq!(above(&image)[0], ["work"]);
    assert_eq!(above(&image)[2], ["work", "work/two=2"]);
    assert_eq!(above(&image)[3], ["work", "work/both=12"]);
    let two = image.layers[3].entries.iter().find(|entry| entry.path == "work/two").expect("copied");
    assert_eq!((two.uid, two.gid, two.mtime), (1000, 100, 10));
    let config: serde_json::Value = serde_json::from_slice(&image.config_json).expect("JSON");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["cat", "both"]));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let history: Vec<String> = config["history"].as_array().expect("a list")[1..]
        .iter()
        .map(|step| format!("{}{}", if step["empty_layer"] == true { "-" } else { "+" }, step["created_by"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        history,
        [
            "-ENV A=b",
            "+WORKDIR /work",
            "+COPY /out ./ # buildkit",
            "+COPY --chown=ann two /work/ # buildkit",
            "+RUN /bin/sh -c cat one two > /work/both # buildkit",
            "-CMD [\"cat\" \"both\"]",
        ]
    );

    // Times do not count. (FROM, ENV and CMD are in no cache.)
    let again = place.build(STEPS, &[("one", "1", 20), ("two", "2", 30)]).await;
    assert_eq!((again.cached(), &again.id), (vec![2, 3, 6, 7, 8, 9], &first.id));
    // What is in a file does, and its rights, from there on.
    let other = place.build(STEPS, &[("one", "1", 10), ("two", "3", 10)]).await;
    assert_eq!(other.cached(), [2, 3, 6, 7]);
    assert_ne!(other.id, first.id);
    // Another stage that makes the same files changes nothing after it.
    let same = STEPS.replace("echo made > /out/made", "printf 'made\\n' > /out/made");
    let same = place.build(&same, &[("one", "1", 10), ("two", "2", 10)]).await;
    // (Nor does the COPY in it, if it made them in the same second.)
    let known = same.cached().into_iter().filter(|step| *step != 3).collect::<Vec<_>>();
    assert_eq!((known, &same.id), (vec![6, 7, 8, 9], &first.id));
    let anew = place.try_build(STEPS, &[("one", "1", 10), ("two", "2", 10)], Build { no_cache: true, ..plain() }).await;
    assert!(anew.expect("built").cached().is_empty());
    // Nothing of this was removed with what needed it for a moment.
    place.engine.settle().await;
    place.engine.remove_image(&other.id).await.expect("removed");
    assert_eq!(place.build(STEPS, &[("one", "1", 10), ("two", "2", 10)]).await.cached().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_input_gives_one_image() {
    let dockerfile = "FROM base
ARG SOURCE_DATE_EPOCH
WORKDIR /a/b
COPY one /bin/deep/
COPY <<text /etc/text
hello
text
RUN date > /dev/null; echo x > /x; mkdir /y
";
    let arguments = BTreeMap::from([("SOURCE_DATE_EPOCH".to_string(), "1000".to_string())]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let place = Place::new().await;
        let build = Build { build_args: &arguments, ..plain() };
        let built = place.try_build(dockerfile, &[("one", "1", 10)], build).await.unwrap_or_else(|error| panic!("{}", told(&error)));
        let image = place.read(&built.id).await;
        let times: Vec<(String, i64)> =
            image.layers[1..].iter().flat_map(|layer| &layer.entries).map(|entry| (entry.path.clone(), entry.mtime)).collect();
        assert!(times.iter().all(|(_, time)| *time <= 1000), "{times:?}");
        let of = |path: &str| times.iter().find(|(found, _)| found == path).map(|(_, time)| *time);
        assert_eq!((of("bin"), of("bin/deep"), of("bin/deep/one"), of("x")), (Some(5), Some(1000), Some(10), Some(1000)), "{times:?}");
        let config: serde_json::Value = serde_json::from_slice(&image.config_json).expect("JSON");
        assert_eq!(config["created"], "1970-01-01T00:16:40Z");
        ids.push(built.id);
        // Long enough for another second.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    assert_eq!(ids[0], ids[1]);
}

/// A server of one file, with the time that it says of it; counts how often it was asked.
fn serve(answers: Vec<(&'static str, &'static str)>) -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for (text, time) in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 4096]).expect("a request");
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nLast-Modified: {time}\r\nConnection: close\r\n\r\n", text.len());
            stream.write_all(format!("{head}{text}").as_bytes()).expect("a client that waits");
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_is_known_by_content_name_and_time_and_with_a_digest_it_is_fetched_once() {
    let place = Place::new().await;
    let (early, late) = ("Fri, 14 Jul 2017 02:40:00 GMT", "Sun, 13 Sep 2020 12:26:40 GMT");
    let (address, asked) = serve(vec![("one", early), ("one", early), ("one", late), ("two", late), ("two", late), ("two", late)]);
    let dockerfile = |flags: &str, name: &str| format!("FROM base\nADD {flags}http://{address}/{name}?q /d/\nRUN cat /d/{name} > /seen\n");
    let first = place.build(&dockerfile("", "f"), &[]).await;
    assert_eq!(above(&place.read(&first.id).await), [vec!["d", "d/f=one"], vec!["seen=one"]]);
    assert_eq!(place.build(&dockerfile("", "f"), &[]).await.cached(), [2, 3]);
    // The time is in the layer, so it counts.
    assert_eq!(place.build(&dockerfile("", "f"), &[]).await.cached(), Vec::<usize>::new());
    let second = place.build(&dockerfile("", "f"), &[]).await;
    assert_eq!((second.cached(), above(&place.read(&second.id).await)[1].clone()), (vec![], vec!["seen=two".to_string()]));
    assert_eq!(place.build(&dockerfile("", "g"), &[]).await.cached(), Vec::<usize>::new(), "another name");
    // Whoever says the digest needs the server once.
    let flag = format!("--checksum=sha256:{} ", twostage_model::Sha256::of(b"two"));
    assert_eq!(place.build(&dockerfile(&flag, "f"), &[]).await.cached(), [3], "it makes a layer that is known");
    assert_eq!(place.build(&dockerfile(&flag, "f"), &[]).await.cached(), [2, 3]);
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 6);
    let refused = place.try_build(&dockerfile(&flag, "f"), &[], Build { no_cache: true, ..plain() }).await;
    let refused = told(&refused.err().expect("nobody serves"));
    assert!(refused.contains(&format!("Dockerfile line 2: ADD: cannot fetch http://{address}/f?…")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_changes_nothing_is_an_empty_layer_and_scratch_has_none() {
    let place = Place::new().await;
    let built = place.build("FROM base\nWORKDIR /tmp\nRUN true\n", &[]).await;
    let empty = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let layers: Vec<String> = place.info(&built.id).await.diff_ids.iter().map(ToString::to_string).collect();
    assert_eq!(layers[1..], [empty, empty]);
    let built = place.build("FROM scratch\nCOPY one /\nCOPY --from=base /etc/group /deep/er/\n", &[("one", "1", 1)]).await;
    let image = place.read(&built.id).await;
    let all: Vec<&str> = image.layers.iter().flat_map(|layer| &layer.entries).map(|entry| entry.path.as_str()).collect();
    assert_eq!(all, ["one", "deep", "deep/er", "deep/er/group"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_seen_by_their_run_and_are_in_no_layer() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let secrets: BTreeMap<String, PathBuf> = BTreeMap::from([("key".to_string(), folder.path().join("key"))]);
    fs::write(&secrets["key"], "secret words").expect("a file");
    let dockerfile = "FROM base AS made
RUN echo from-stage > /made
FROM base
RUN --mount=source=sub,target=/ctx --mount=from=made,source=/made,target=/made \\
    --mount=type=tmpfs,target=/memory --mount=type=secret,id=key,uid=1000 --mount=type=cache,target=/cache,uid=1000,mode=0750 \\
    set -e; cat /ctx/file; cat /made; echo; touch /memory/x; cat /run/secrets/key; echo; stat -c '%u %a' /cache; \\
    echo kept >> /cache/lines; ! touch /ctx/new 2> /dev/null; echo done > /done
RUN --mount=type=cache,target=/cache --mount=type=secret,id=none --mount=source=sub,target=/ctx,rw \\
    wc -l < /cache/lines; touch /ctx/new; ls /run/secrets/none 2>&1 || true
RUN ls -d /ctx /made /memory /cache /run/secrets 2>/dev/null; true
";
    let files = [("sub/file", "in context\n", 1), ("sub/ignored", "", 1), (".dockerignore", "sub/ignored\n", 1)];
    let build = Build { secrets: &secrets, ..plain() };
    let built = place.try_build(dockerfile, &files, build.clone()).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    let log = built.log.join("\n");
    for said in ["in context\n", "from-stage\n", "secret words\n", "1000 750\n", "\n1\n", "ls: /run/secrets/none: No such file"] {
        assert!(log.contains(said), "{said:?} is not in\n{log}");
    }
    let image = place.read(&built.id).await;
    assert_eq!(above(&image)[0], ["done=done"], "{log}");
    assert_eq!(above(&image)[1..], [Vec::<String>::new(), Vec::new()], "{log}");
    // What a secret says is in no key; what a mount of the context holds is.
    fs::write(&secrets["key"], "others").expect("a file");
    assert_eq!(place.try_build(dockerfile, &files, build.clone()).await.expect("built").cached(), [2, 4, 5, 6]);
    let changed = [("sub/file", "changed\n", 1), files[1], files[2]];
    let changed = place.try_build(dockerfile, &changed, build.clone()).await.expect("built");
    assert!(!changed.cached().contains(&4) && !changed.cached().contains(&5), "{:?}", changed.cached());
    assert!(changed.log.iter().any(|line| line == "2"), "the cache stays: {:#?}", changed.log);

    let required = "FROM base\nRUN --mount=type=secret,id=other,required true\n";
    let error = place.try_build(required, &[], plain()).await.map(|built| built.id).expect_err("it is not given");
    assert!(told(&error).contains("the secret other is not given"), "{}", told(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_cannot_be_done_is_named_with_its_line() {
    let place = Place::new().await;
    for (dockerfile, class, words) in [
        ("FROM base\nCOPY nothing /\n", Class::Build, "failed at step 2/2, COPY nothing /"),
        ("FROM base\nCOPY nothing /\n", Class::Build, "Dockerfile line 2: COPY: there is no nothing in the context"),
        ("FROM base\nUSER nobody\nWORKDIR /x\n", Class::Build, "there is no user nobody"),
        ("FROM base\nADD http://x.invalid/y.git /\n", Class::Project, "line 2: ADD: http://x.invalid/y.git is a repository of Git"),
        ("FROM base\nRUN --network=host true\n", Class::Project, "line 2: RUN: --network=host is more"),
        ("FROM base\nNONSENSE\n", Class::Project, "Dockerfile line 2"),
        ("FROM nosuch\nRUN true\n", Class::Engine, "Dockerfile line 1: FROM"),
    ] {
        let error = place.try_build(dockerfile, &[], Build { network: Network::None, ..plain() }).await;
        let error = error.map(|built| built.id).expect_err(dockerfile);
        assert_eq!(error.class(), class, "{}", told(&error));
        assert!(told(&error).contains(words) && error.hint_text().is_some(), "{words}\n{}", told(&error));
    }
    let error = place.try_build("FROM base\nRUN echo words; exit 3\n", &[], plain()).await.map(|built| built.id).expect_err("it fails");
    assert_eq!(error.to_string(), "the build of Dockerfile failed at step 2/2, RUN echo words; exit 3 (exit status 3)");
    assert_eq!(error.causes(), ["The command '/bin/sh -c echo words; exit 3' returned a non-zero code: 3\nwords"]);
}

/// For the counts that `make test` prints.
fn count(word: &str) {
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS") {
        let mut file = fs::File::options().append(true).create(true).open(path).expect("the counts can be written");
        std::io::Write::write_all(&mut file, format!("{word}\n").as_bytes()).expect("the counts can be written");
    }
}

/// Images of Docker that go away, whatever happens.
struct Images(Vec<String>);

impl Drop for Images {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force"]).args(&self.0).output();
    }
}

/// What BuildKit is compared in.
const ALIKE: &str = "FROM @base AS made
ARG WHAT=made
RUN mkdir -p /out/sub && echo $WHAT > /out/made && ln -s made /out/link && ln /out/made /out/sub/hard
FROM @base
LABEL a=b
ENV A=b C=\"d e\"
WORKDIR /work/deep
COPY --from=made /out ./out
COPY --chown=ann:users --chmod=0750 one two dir/ /srv/
ADD packed.tar.gz /unpacked/
USER ann
RUN id -u > /tmp/who; rm -f /tmp/nothing
USER root
RUN rm -r /bin/vi /work/deep/out/sub && mkdir /bin/vi && touch /bin/vi/x && rm -r /srv && mkdir /srv && chmod 0700 /root
RUN true
VOLUME /data
EXPOSE 80 53/udp
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
SHELL [\"/bin/sh\", \"-e\", \"-c\"]
RUN false || echo shell > /shell
ENTRYPOINT [\"/bin/sh\"]
CMD -c ls
";

/// One line for each entry, without the times, and with deletions; those of all that is below count only where something
/// is there (Docker also marks what takes the place of a file).
fn entries(image: &Image) -> Vec<Vec<String>> {
    let shown = |entry: &twostage_image::Entry| {
        let kind = match &entry.kind {
            Kind::File { sha256, .. } => format!("file {}", sha256.short()),
            other => format!("{other:?}"),
        };
        let mode = if matches!(entry.kind, Kind::Whiteout) { 0 } else { entry.mode };
        format!("{} {mode:o} {}:{} {kind}", entry.path, entry.uid, entry.gid)
    };
    image
        .layers
        .iter()
        .skip(1)
        .map(|layer| {
            let marks = layer.entries.iter().filter(|entry| !matches!(entry.kind, Kind::OpaqueWhiteout) || entry.path == "srv");
            let mut lines: Vec<String> = marks.map(shown).collect();
            lines.sort();
            lines
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_configuration_and_history_are_those_of_buildkit() {
    if std::env::var_os("TWOSTAGE_NO_ENGINE").is_some_and(|value| value == "1") {
        println!("skipped: TWOSTAGE_NO_ENGINE=1");
        count("skipped");
        return;
    }
    count("engine");
    let place = Place::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("twostage-test-layers-{}", std::process::id());
    let docker = |arguments: &[&str]| {
        // (The client that knows BuildKit without its plugin.)
        let program = if std::path::Path::new("/usr/bin/docker").exists() { "/usr/bin/docker" } else { "docker" };
        let done = Command::new(program).args(arguments).env("DOCKER_BUILDKIT", "1").output().expect("docker");
        assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let base = format!("{name}:base");
    let built = format!("{name}:built");
    let _images = Images(vec![built.clone(), base.clone()]);
    place.engine.tag("base", &base).await.expect("tagged");
    let mut archive = place.engine.save(&base).await.expect("saved");
    let file = folder.path().join("base.tar");
    let path = file.clone();
    let copied = move || std::io::copy(&mut archive, &mut fs::File::create(path).expect("a file")).expect("copied");
    tokio::task::spawn_blocking(copied).await.expect("no panic");
    docker(&["load", "--input", &file.to_string_lossy()]);

    let mut inner = tar::Builder::new(Vec::new());
    add(&mut inner, "a/b", EntryType::Regular, 0o600, b"packed", 5);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &inner.into_inner().expect("into memory")).expect("packed");
    let gzip = gzip.finish().expect("packed");
    let dockerfile = ALIKE.replace("@base", &base);
    let mut tar = tar::Builder::new(Vec::new());
    let context = folder.path().join("context");
    for (path, bytes) in [
        ("Dockerfile", dockerfile.as_bytes()),
        ("one", b"1"),
        ("two", b"2"),
        ("dir/three", b"3"),
        ("dir/ignored", b"4"),
        ("packed.tar.gz", &gzip),
        (".dockerignore", b"**/ignored"),
    ] {
        add(&mut tar, path, EntryType::Regular, 0o644, bytes, 5);
        let at = context.join(path);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        fs::write(&at, bytes).expect("a file");
    }
    let build = Build { context: tar.into_inner().expect("into memory"), ..plain() };
    let ours = place.engine.build(build, &mut |_| ()).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    let ours = place.read(&ours).await;
    docker(&["build", "--network", "host", "--tag", &built, &context.to_string_lossy()]);
    let file = folder.path().join("built.tar");
    docker(&["save", "--output", &file.to_string_lossy(), &built]);
    let theirs = read_archive(fs::File::open(&file).expect("an archive"), &|_| Want::Content).expect("an image");

    for (number, (ours, theirs)) in entries(&ours).iter().zip(&entries(&theirs)).enumerate() {
        assert_eq!(ours, theirs, "layer {number}");
    }
    assert_eq!(ours.layers.len(), theirs.layers.len());
    let told = |image: &Image| {
        let mut config: serde_json::Value = serde_json::from_slice(&image.config_json).expect("JSON");
        let history = config["history"].as_array().expect("a list").iter().skip(1);
        // (Docker 20.10 does not write down flags of COPY, and knows one time less of a health check.)
        let zero = r#"\"0s\" "#;
        let alike = |line: String| line.replace(" --chown=ann:users --chmod=0750", "").replace(&zero.repeat(3), &zero.repeat(2));
        let history: Vec<String> =
            history.map(|step| format!("{} {} {}", step["created_by"], step["comment"], step["empty_layer"])).map(alike).collect();
        let mut run = config["config"].take();
        run.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        (run, history)
    };
    assert_eq!(told(&ours).1, told(&theirs).1);
    assert_eq!(told(&ours).0, told(&theirs).0);
}

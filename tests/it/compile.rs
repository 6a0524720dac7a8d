//! `compile`: a Dockerfile in one pass is what `docker build` makes of it, in one layer.

use crate::support::{Done, Used, docker, exported_tree, image_name, root, run, twostage, uses, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use twostage_image::{Image, read_archive};
use twostage_model::Sha256;

/// A shell and coreutils, made once for all runs.
fn base() -> &'static str {
    static BASE: OnceLock<String> = OnceLock::new();
    BASE.get_or_init(|| {
        let script = root().join("tests/tools/small_base.sh");
        let name = format!("twostage-test-compile-base:{}", Sha256::of(&fs::read(&script).expect("the script")).short());
        if docker(&["image", "inspect", &name]).status != 0 {
            run(Command::new(script).arg(&name)).ok();
        }
        name
    })
}

/// A context with a Dockerfile, and the images that are made of it.
struct Case {
    folder: tempfile::TempDir,
    image: String,
}

impl Case {
    fn new(test: &str, dockerfile: &str) -> Case {
        let folder = tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let case = Case { folder, image: image_name(&format!("compile-{test}")) };
        case.file("Dockerfile", &dockerfile.replace("@base", base()));
        case
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = twostage();
        command.args(["compile", "--network", "none", "--tag", &self.image]).args(more).arg(self.path());
        command
    }

    fn compile(&self, more: &[&str]) -> Done {
        run(&mut self.command(more))
    }

    /// What the containers and images of a run are known by.
    fn id(&self, file: &str) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let path = self.path().join(file).canonicalize().expect("the Dockerfile");
        Sha256::of(format!("{} {}", host.trim(), path.display()).as_bytes()).short()
    }

    /// What the engine has of runs of a Dockerfile: containers, images that they needed, and the image itself.
    fn left_by(&self, file: &str) -> String {
        let id = self.id(file);
        let containers = docker(&["ps", "--all", "--quiet", "--filter", &format!("label=twostage.compile={id}")]).ok().out;
        let images = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "twostage-compile"]).ok().out;
        let images: String = images.lines().filter(|name| name.contains(&id)).collect();
        let named = docker(&["images", "--quiet", &self.image]).ok().out;
        format!("{containers}{images}{named}")
    }

    fn left(&self) -> String {
        self.left_by("Dockerfile")
    }

    fn read(&self, image: &str) -> Image {
        let tar = self.path().with_extension("tar");
        docker(&["save", "--output", &tar.to_string_lossy(), image]).ok();
        let image = read_archive(fs::File::open(&tar).expect("the archive"), &|_| twostage_image::Want::Content).expect("an image");
        fs::remove_file(&tar).expect("a file");
        image
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force", &self.image, &format!("{}-docker", self.image)]).output();
    }
}

/// The tree as the engine unpacks it. Times that a RUN made are not compared.
fn tree(image: &str) -> Vec<String> {
    let now = twostage_model::date::now();
    let out = exported_tree(image);
    let timeless = |word: &str| match word.parse::<i64>() {
        Ok(time) if time > now - 600 && word.len() == 10 => "now".to_string(),
        _ => word.to_string(),
    };
    out.lines().map(|line| line.split(' ').map(timeless).collect::<Vec<_>>().join(" ")).collect()
}

/// What containers of the image are like. An empty list is no list; `/` is where `FROM scratch` starts, and only BuildKit
/// writes it down.
fn config(image: &str) -> Value {
    let out = docker(&["inspect", "--format", "{{json .Config}}", image]).ok().out;
    let all: Value = serde_json::from_str(&out).expect("docker writes JSON");
    let names = [
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Labels",
        "OnBuild",
        "Shell",
        "StopSignal",
        "User",
        "Volumes",
        "WorkingDir",
    ];
    let said = |name: &&str| !matches!(&all[*name], Value::Null) && all[*name] != serde_json::json!([]) && all[*name] != "/";
    names.iter().filter(|name| said(name)).map(|name| ((*name).to_string(), all[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn layers(image: &str) -> Vec<String> {
    let out = docker(&["inspect", "--format", "{{json .RootFS.Layers}}", image]).ok().out;
    serde_json::from_str(&out).expect("docker writes JSON")
}

/// Both builders get the same; the tree, and what containers of it are like, must be the same, in one layer.
fn same_as_docker(case: &Case, more: &[&str], base_layers: usize) {
    let theirs = format!("{}-docker", case.image);
    let context = case.path().to_string_lossy().into_owned();
    let build = ["build", "--force-rm", "--no-cache", "--network=none", "--tag", &theirs];
    run(Command::new("docker").args(build).args(more).arg(&context).env("DOCKER_BUILDKIT", "0")).ok();
    let done = case.compile(more).ok();
    let (ours, wanted) = (tree(&case.image), tree(&theirs));
    let differ = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>().join("\n");
    assert!(ours == wanted, "{}\nonly compile:\n{}\nonly docker:\n{}", case.image, differ(&ours, &wanted), differ(&wanted, &ours));
    assert_eq!(config(&case.image), config(&theirs), "{}", case.image);
    let layers = layers(&case.image);
    assert!(layers.len() <= base_layers + 1, "{}: {layers:?}", case.image);
    assert!(done.last_line().starts_with("sha256:"), "{}", done.out);
}

#[test]
fn instructions_are_what_docker_makes_of_them() {
    uses(Used::Engine);
    base();
    let cases: [(&str, &str); 9] = [
        (
            "variables",
            "ARG TAG=unused\nFROM @base\nARG TAG\nARG V=1\nARG GIVEN=none\nENV A=b C=\"$BASE-${V}\" D='$V'\nENV E $A and $C\n\
             RUN echo \"$TAG $V $GIVEN $A $C $D $E ${NONE:-default}\" > /all && X=leaks && cd /tmp\n\
             RUN env | cat > /dev/null; echo \"[$X] $(pwd)\" > /second\nENV V=2\nCMD echo $A\n",
        ),
        (
            "workdir-user",
            "FROM @base\nWORKDIR /a/b\nWORKDIR c\nRUN pwd > here\nENV D=/dir\nWORKDIR $D\nRUN pwd > here && chmod 777 .\n\
             USER app\nRUN id > id && echo $HOME > home && touch mine\nUSER 77:88\nRUN id -u > u && id -g > g\nUSER app:extra\n\
             RUN touch grouped\nUSER root\nWORKDIR /data\n",
        ),
        (
            "commands",
            "# a comment\n\nfrom @base\nSHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN false || echo shell > /one; \\\n  # within\n  echo two >> /one\n\
             RUN [\"/bin/sh\", \"-c\", \"echo $BASE > /exec\"]\nENTRYPOINT [\"/bin/cat\"]\nSHELL [\"/bin/sh\", \"-c\"]\nCMD /one\nENTRYPOINT cat /one\n",
        ),
        (
            "metadata",
            "FROM @base\nLABEL a=1 \"b c\"=\"d e\" f='g'\nEXPOSE 80 53/udp 8000-8002\nVOLUME /v [\"/w\"]\nVOLUME [\"/x\", \"/y z\"]\nSTOPSIGNAL SIGINT\n\
             HEALTHCHECK --interval=7s --timeout=3s --retries=2 CMD cat /etc/passwd || exit 1\nUSER app\nENTRYPOINT [\"cat\"]\nCMD [\"/etc/group\"]\n",
        ),
        (
            "deletions",
            "FROM @base\nRUN rm /data/gone /data/hard && rm -r /usr/bin && ln -s /bin /usr/bin && rm /bin/env && mkdir /bin/env && touch /bin/env/x\n\
             RUN mkdir -m 1770 /s && cp /bin/id /s/id && chmod 4755 /s/id && ln /s/id /s/again && mkfifo /s/pipe && ln -s nowhere /s/dangling && chown -R 3:4 /s\n\
             RUN chmod 0711 /root && rm -r /tmp && mkdir -m 1777 /tmp && truncate -s 1M /s/holes && touch \"/s/$(printf 'new\\nline')\"\n",
        ),
        (
            "copies",
            "FROM @base\nCOPY one.txt /\nCOPY one.txt /renamed\nCOPY one.txt /made/below/\nCOPY one.txt two.txt /several/\nCOPY *.txt /by-pattern/\n\
             COPY d[ei]r/s[ou]* /by-pattern/deep/\nCOPY dir /of-dir\nCOPY dir/ /tmp\nCOPY dir/sub library/\nCOPY one.txt library\nCOPY two.txt /data/old\n\
             COPY . all/\nWORKDIR /here\nCOPY one.txt .\nCOPY dir ./\nCOPY one.txt ../up\nCOPY link.txt followed\n",
        ),
        (
            "owners",
            "FROM @base\nCOPY --chown=app:web one.txt /new/owned\nCOPY --chown=app:extra dir /owned\nCOPY --chown=5 dir /five/\nCOPY --chown=5:web one.txt /seven\n\
             COPY strange /strange\nADD --chown=6:7 dir /added\n",
        ),
        (
            "archives",
            "FROM @base\nADD plain.tar /plain\nADD packed.tar.gz /gz/\nADD packed.tar.xz packed.tar.bz2 /both/\nADD one.txt.gz /kept/\nADD dir /folder\n\
             COPY plain.tar /as-it-is/\nADD plain.tar /\nADD plain.t* /by-pattern\n",
        ),
        (
            "stages",
            "FROM @base AS first\nRUN mkdir /out && echo 1 > /out/one && echo 2 > /out/two.so && ln -s one /out/link && ln -s /etc/passwd /out/abs\n\
             RUN ln -s /out /way && rm /data/gone\nFROM first AS second\nRUN echo 3 > /out/three && rm /out/one\n\
             FROM second\nCOPY --from=first /out /from-first\nCOPY --from=0 /out/*.so /from-0/\nCOPY --from=first /out/link /out/abs /followed/\n\
             COPY --from=first /way/one /through\nCOPY --from=second /out/three /data/three\nCOPY --from=@base /etc/passwd /etc/group /from-image/\n\
             COPY --from=first --chown=app:web /out/. /owned/\nCOPY --from=first /climbing/passwd /climbed\n",
        ),
    ];
    std::thread::scope(|scope| {
        for part in cases.chunks(3) {
            scope.spawn(move || {
                for (test, text) in part {
                    let case = Case::new(test, text);
                    fill(&case);
                    let more: &[&str] = if *test == "variables" { &["--build-arg", "GIVEN=a b"] } else { &[] };
                    same_as_docker(&case, more, 1);
                }
            });
        }
    });
}

/// Files of every kind, with old times.
fn fill(case: &Case) {
    for name in ["one.txt", "two.txt", "dir/sub/deep", "dir/some", "strange/program", "strange/secret"] {
        case.file(name, &format!("{name}\n"));
    }
    let at = |name: &str| case.path().join(name);
    symlink("one.txt", at("link.txt")).expect("a link");
    symlink("/etc/shadow", at("dir/stays-a-link")).expect("a link");
    fs::hard_link(at("dir/some"), at("dir/other")).expect("a link");
    let mode = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a mode");
    mode("strange/program", 0o755);
    mode("strange/secret", 0o600);
    mode("strange", 0o700);
    mode("dir/sub", 0o750);
    let sh = "cd \"$0\" && tar --owner=8 --group=9 -cf plain.tar dir one.txt && gzip -k one.txt && tar -czf packed.tar.gz strange && \
              tar -cJf packed.tar.xz two.txt && tar -cjf packed.tar.bz2 dir/sub && find . -exec touch -h -d @1500000000 {} +";
    run(Command::new("sh").args(["-c", sh]).arg(case.path())).ok();
}

#[test]
fn scratch_ignored_files_and_other_dockerfiles_are_what_docker_makes_of_them() {
    uses(Used::Engine);
    base();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let case = Case::new("scratch", "FROM scratch\nCOPY dir /d\nCOPY one.txt /\nENV A=b PATH=/bin\nWORKDIR /w/x\nCMD [\"/one\"]\n");
            fill(&case);
            same_as_docker(&case, &[], 0);
            let case =
                Case::new("scratch-run", "FROM scratch\nENV PATH=/bin\nCOPY --from=@base / /\nRUN echo $PATH > /p && rm /data/gone\n");
            same_as_docker(&case, &[], 0);
        });
        scope.spawn(|| {
            let case = Case::new("ignored", "FROM @base\nCOPY . /c\nCOPY d* /d/\n");
            for name in ["a.md", "keep.md", "dir/b.md", "dir/c/d.tmp", "dir/c/e", "out/x", "out/kept/y", "node/node/z", "docs/1", "docs/2"]
            {
                case.file(name, name);
            }
            case.file(
                ".dockerignore",
                "# comment\n*.md\n!keep.md\n**/*.tmp\nout\n!out/kept\n/node/n?de/\ndocs/[1]\nDockerfile\n.dockerignore\n",
            );
            same_as_docker(&case, &[], 1);
        });
        scope.spawn(|| {
            let case = Case::new("target", "FROM @base AS one\nRUN echo 1 > /1\nFROM one AS two\nCOPY a /a\nFROM @base\nRUN exit 3\n");
            case.file("a", "a");
            case.file("other/Dockerfile", &fs::read_to_string(case.path().join("Dockerfile")).expect("a file").replace("echo 1", "echo 2"));
            same_as_docker(&case, &["--target", "two", "-f", &case.path().join("other/Dockerfile").to_string_lossy()], 1);
        });
    });
}

#[test]
fn a_payload_that_a_later_run_deletes_is_in_no_layer_and_one_input_gives_one_image() {
    uses(Used::Engine);
    let case = Case::new(
        "payload",
        "FROM @base AS unused\nRUN exit 7\nFROM @base\nCOPY installer /tmp/installer\nADD tool.tar /opt/\nRUN wc -c < /tmp/installer > /size && rm /tmp/installer && rm -r /opt/dir\n\
         RUN sleep 60 & echo started\nRUN test ! -e /proc/9/cmdline -o 1 = 1; for p in /proc/[0-9]*; do cat $p/cmdline; done > /seen; echo kept > /kept\n",
    );
    fs::write(case.path().join("installer"), vec![7; 3 << 20]).expect("a file");
    fill(&case);
    fs::rename(case.path().join("plain.tar"), case.path().join("tool.tar")).expect("a file");
    let epoch = ["--source-date-epoch", "1700000000"];
    let first = case.compile(&epoch).ok();
    let image = case.read(&case.image);
    assert_eq!(image.layers.len(), 2);
    let layer = image.layers.last().expect("a layer");
    let names: Vec<&str> = layer.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert!(names.contains(&"size") && names.contains(&"kept"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("installer") || name.starts_with("opt/dir")), "{names:?}");
    assert!(layer.size < 100_000, "{} bytes", layer.size);
    assert!(layer.entries.iter().all(|entry| entry.mtime <= 1_700_000_000), "nothing is newer");
    let seen = layer.entries.iter().find(|entry| entry.path == "seen").and_then(|entry| entry.content.clone()).expect("a file");
    assert!(!String::from_utf8_lossy(&seen).contains("sleep"), "what a RUN leaves running is ended with it");
    // Every step has a line, the last one the layer.
    let history: Vec<(&str, bool)> =
        image.config.history.iter().map(|step| (&step.created_by[..step.created_by.len().min(8)], step.empty_layer)).collect();
    assert_eq!(history.iter().filter(|(_, empty)| !empty).count(), 2, "{history:?}");
    assert!(history.len() == 6 && !history[5].1 && history[1] == ("COPY ins", true), "{history:?}");
    assert_eq!(image.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));

    // From another folder, without a name, with the variable: the same image.
    let elsewhere = Case::new("payload-again", "");
    run(Command::new("cp").args(["-a"]).arg(format!("{}/.", case.path().display())).arg(elsewhere.path())).ok();
    let mut again = twostage();
    again.args(["--quiet", "compile", "--no-cache", "--network", "none"]).arg(elsewhere.path()).env("SOURCE_DATE_EPOCH", "1700000000");
    let again = run(&mut again).ok();
    assert_eq!(again.last_line(), first.last_line());
    assert_eq!(docker(&["run", "--rm", "--network=none", again.last_line(), "cat", "/size"]).ok().out, "3145728\n");
    assert_eq!(case.left(), format!("{}\n", &image.id.to_string()[..12]), "nothing but the image is left");
}

#[test]
fn documents_scripts_and_a_base_with_volumes_are_as_buildkit_has_them() {
    uses(Used::Engine);
    let bottom = Case::new("volumes-base", "FROM @base\nRUN echo below > /data/below\nVOLUME /data\nHEALTHCHECK CMD false\n");
    bottom.compile(&[]).ok();
    let text = format!(
        "FROM {}\nRUN echo into > /data/written\nCOPY <<one <<'two' /doc/\n$BASE $A\none\n$BASE\ntwo\nRUN <<EOF\necho first > /lines\necho second >> /lines\nEOF\n\
         RUN <<EOF\n#!/bin/cat\na script that shows itself\nEOF\nRUN cat <<A > /within\nheredoc of the shell\nA\n\
         COPY --chown=app --chmod=0640 setuid /moded\nCOPY --chown=app setuid /user\n",
        bottom.image
    );
    let case = Case::new("documents", &text);
    fs::set_permissions(case.file("setuid", "x"), fs::Permissions::from_mode(0o4755)).expect("a mode");
    let done = case.compile(&["--verbose"]).ok();
    assert!(done.err.contains("a script that shows itself"), "{}", done.err);
    let image = case.read(&case.image);
    assert_eq!(image.layers.len(), 3);
    let content = |name: &str| {
        let found = image.layers[2].entries.iter().find(|entry| entry.path == name).and_then(|entry| entry.content.clone());
        String::from_utf8(found.unwrap_or_else(|| panic!("no {name}"))).expect("text")
    };
    let contents = ["data/written", "doc/one", "doc/two", "lines", "within"].map(content);
    assert_eq!(contents, ["into\n", "yes \n", "$BASE\n", "first\nsecond\n", "heredoc of the shell\n"]);
    let owned =
        |name: &str| image.layers[2].entries.iter().find(|entry| entry.path == name).map(|entry| (entry.mode, entry.uid, entry.gid));
    assert_eq!(
        [owned("moded"), owned("user")],
        [Some((0o640, 1000, 1001)), Some((0o4755, 1000, 1001))],
        "the classic builder loses setuid"
    );
    assert_eq!(config(&case.image)["Volumes"], serde_json::json!({ "/data": {} }), "the volume stays one");
    assert!(!image.layers[2].entries.iter().any(|entry| entry.path.starts_with("dev")), "no script is left");
    assert_eq!(case.left().lines().count(), 1);
}

#[test]
fn a_step_that_fails_is_named_with_its_line_and_leaves_nothing() {
    uses(Used::Engine);
    let case =
        Case::new("fails", "FROM @base AS a\nRUN echo 1 > /1\nFROM a\nENV X=1\nRUN echo the reason >&2 && \\\n  exit 42\nRUN echo never\n");
    case.compile(&[]).fails_with(4).says("Dockerfile line 5: RUN: the command ended with 42").says("the reason").says("hint:");
    assert_eq!(case.left(), "");
    case.file("Dockerfile", &format!("FROM {}\nRUN [\"/no/such/program\"]\n", base()));
    case.compile(&[]).fails_with(4).says("line 2: RUN");
    assert_eq!(case.left(), "");

    // Ctrl-C while something runs; then a kill, after which the next run cleans up.
    case.file("Dockerfile", &format!("FROM {} AS a\nRUN echo 1\nFROM a\nRUN echo waiting; sleep 300\n", base()));
    for (signal, leaves) in [("INT", false), ("KILL", true)] {
        let mut child = case
            .command(&["--verbose"])
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("a pipe"))).map_while(Result::ok);
        lines.find(|line| line.ends_with("| waiting")).expect("it runs");
        run(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()])).ok();
        let said: Vec<String> = lines.collect();
        let status = child.wait().expect("our child");
        if signal == "INT" {
            assert_eq!(status.code(), Some(8), "{said:?}");
            assert!(said.iter().any(|line| line.contains("stopped by Ctrl-C")), "{said:?}");
        }
        assert_eq!(!case.left().is_empty(), leaves, "{signal}: {}", case.left());
    }
    case.file("Dockerfile", &format!("FROM {}\nLABEL a=b\n", base()));
    case.compile(&[]).ok().says("that an interrupted run left");
    assert_eq!(case.left().lines().count(), 1, "{}", case.left());
    assert_eq!(layers(&case.image).len(), 1, "where nothing changes there is no layer");
    wait_until("the killed run's command is gone", || {
        docker(&["ps", "--quiet", "--filter", &format!("label=twostage.compile={}", case.id("Dockerfile"))]).ok().out.is_empty()
    });
}

#[test]
fn what_is_not_supported_or_leads_out_is_refused_with_its_line() {
    uses(Used::Engine);
    let case = Case::new("refused", "FROM @base\n");
    fill(&case);
    let at = |name: &str| case.path().join(name);
    symlink("/etc/passwd", at("absolute")).expect("a link");
    symlink("../../../../etc/passwd", at("climbing")).expect("a link");
    symlink("/etc", at("folder")).expect("a link");
    let tars = "import io, sys, tarfile\ndef make(name, *members):\n  with tarfile.open(f'{sys.argv[1]}/{name}', 'w') as tar:\n    for path, link in members:\n      \
                info = tarfile.TarInfo(path)\n      info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, '')\n      tar.addfile(info)\n\
                make('up.tar', ('a/../../../up', None))\nmake('through.tar', ('out', '/etc'), ('out/owned', None))\n";
    run(Command::new("python3").args(["-c", tars]).arg(case.path())).ok();
    let refused = [
        ("RUN --mount=type=cache,target=/c true", "--mount is not supported", 3),
        ("RUN --network=none true", "--network of one RUN is not supported", 3),
        ("ADD http://example.org/x.git /x", "is a repository of Git", 3),
        ("ARG U=https://example.org/\nADD $U /x/", "line 3: ADD: https://example.org/ names no file", 3),
        ("COPY absolute /x", "the link absolute leads to /etc/passwd", 3),
        ("COPY abs* /x", "the link absolute leads to /etc/passwd", 3),
        ("COPY climbing /x", "the link climbing in the context leads out of it", 3),
        ("COPY folder/passwd /x", "the link folder leads to /etc", 3),
        ("COPY ../../etc/passwd /x", "there is no etc/passwd in the context", 3),
        ("COPY missing /x", "there is no missing in the context", 3),
        ("COPY one.txt two.txt /x", "line 2: COPY", 3),
        ("ADD up.tar /x", "leads out of the image", 7),
        ("ADD through.tar /x", "out/owned below out, which is a link", 3),
        ("COPY dir /etc/passwd", "/etc/passwd in the image is no folder", 3),
        ("COPY --chown=nobody-known one.txt /x", "there is no user nobody-known in /etc/passwd of the image", 3),
        ("COPY --from=9 /x /x", "there is no stage 9", 3),
        ("ONBUILD RUN true", "line 2: ONBUILD", 3),
        ("INVALID x", "line 2", 3),
        ("WORKDIR /etc/passwd", "line 2: WORKDIR: /etc/passwd in the image is no folder", 3),
    ];
    std::thread::scope(|scope| {
        for (part, lines) in refused.chunks(6).enumerate() {
            let case = &case;
            scope.spawn(move || {
                for (number, (line, why, status)) in lines.iter().enumerate() {
                    let name = format!("Dockerfile.{part}.{number}");
                    let file = case.file(&name, &format!("FROM {}\n{line}\n", base()));
                    case.compile(&["-f", &file.to_string_lossy()]).fails_with(*status).says(why).says("hint:");
                    assert_eq!(case.left_by(&name), "", "{line}");
                }
            });
        }
    });
    case.file("Dockerfile", "FROM scratch\nCOPY one.txt /\nRUN true\n");
    case.compile(&[]).fails_with(6).says("line 3: RUN: cannot start a container for the stage").says("needs /bin/sh");
    assert_eq!(case.left(), "");
    case.file("Dockerfile", &format!("FROM --platform=linux/s390x {}\n", base()));
    case.compile(&[]).fails_with(3).says("line 1: FROM: it is for linux/s390x");
    case.file("Dockerfile", &format!("FROM {}\nCOPY one.txt /\n", base()));
    case.compile(&["--target", "none"]).fails_with(2).says("has no stage none");
    case.file(".dockerignore", "ok\n[z-a]\n");
    case.compile(&[]).fails_with(3).says(".dockerignore line 2: [z-a] is not a pattern");
    case.file(".dockerignore", "*.txt\n");
    case.compile(&[]).fails_with(3).says("one.txt is in the context, but .dockerignore leaves it out");

    // A warning says its line; a link in the image leads nowhere but into the image.
    case.file(".dockerignore", "");
    case.file(
        "Dockerfile",
        &format!("# syntax=docker/dockerfile:1\nFROM {} AS a\nRUN ln -s ../../../../../etc/new /x && ln -s / /root/r\nCOPY one.txt /x\nCOPY two.txt /root/r/root/../tmp/\n", base()),
    );
    let done = case.compile(&["--build-arg", "NOBODY=1"]).ok();
    assert!(done.err.contains("docker/dockerfile:1") && done.err.contains("no ARG declares the build argument NOBODY"), "{}", done.err);
    let image = case.read(&case.image);
    let has = |name: &str| image.layers[1].entries.iter().any(|entry| entry.path == name);
    assert!(has("etc/new") && has("tmp/two.txt") && !Path::new("/etc/new").exists());
}

#[test]
fn owners_with_high_numbers_are_kept() {
    uses(Used::Engine);
    let case = Case::new(
        "high-owners",
        "FROM @base\nCOPY --chown=1000680000:1000680001 one /one\nRUN touch /two && chown 4294967294 /two\n\
         USER 1000680000\nRUN test $(id -u) = 1000680000\n",
    );
    case.file("one", "1");
    case.compile(&[]).ok();
    let image = case.read(&case.image);
    let owner = |path: &str| {
        let entry = image.layers.iter().flat_map(|layer| &layer.entries).find(|entry| entry.path == path).expect("an entry");
        (entry.uid, entry.gid)
    };
    assert_eq!((owner("one"), owner("two").0), ((1_000_680_000, 1_000_680_001), 4_294_967_294));
}

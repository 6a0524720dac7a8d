//! The images that are kept without a daemon: what there is, what comes and goes, and what stays whole whatever happens
//! beside it.

use crate::support::{Done, run, tool, twostage};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Kept(tempfile::TempDir);

impl Kept {
    fn new() -> Kept {
        Kept(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn twostage(&self, arguments: &[&str]) -> Done {
        run(twostage().args(arguments).env("TWOSTAGE_STORE", self.path("store")).env("TWOSTAGE_ENGINE", "embedded"))
    }

    /// What it says, wherever: results on standard output, notes beside it.
    fn said(&self, arguments: &[&str]) -> String {
        let done = self.twostage(arguments).ok();
        format!("{}{}", done.out, done.err)
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let out = self.twostage(&[&["--json"], arguments].concat()).ok().out;
        out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn result(&self, arguments: &[&str]) -> Value {
        self.json(arguments).pop().expect("a result")
    }

    /// Names as `images` prints them.
    fn names(&self) -> Vec<String> {
        let out = self.twostage(&["images"]).ok().out;
        let names: Vec<String> = out.lines().skip(1).filter_map(|line| line.split("  ").next().map(str::to_string)).collect();
        names
    }

    /// A root file system of one program, as a tar.
    fn rootfs(&self) -> PathBuf {
        let script = "set -e; mkdir -p root/bin root/tmp; cp \"$(command -v busybox)\" root/bin/busybox; for n in sh echo cat sleep true; do ln -s busybox root/bin/$n; done
            tar --owner=0 --group=0 --mtime=@0 --sort=name -C root -cf rootfs.tar .";
        run(Command::new("sh").args(["-c", script]).current_dir(self.0.path())).ok();
        self.path("rootfs.tar")
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn images_come_in_are_named_listed_and_removed_and_what_that_frees_is_said() {
    let kept = Kept::new();
    let rootfs = text(&kept.rootfs());
    assert!(kept.said(&["images"]).contains("no images in"));
    kept.twostage(&["import-image", &rootfs])
        .fails_with(7)
        .says("neither a manifest.json nor an index.json")
        .says("twostage import-image FILE NAME");
    kept.twostage(&["import-image", &rootfs, "base"]).ok();
    assert_eq!(kept.twostage(&["run", "base", "echo", "hello"]).ok().out, "hello\n");
    kept.twostage(&["tag", "base", "team/base:2"]).ok();
    assert_eq!(kept.names(), ["base:latest", "team/base:2"]);

    // Out to archives and a layout, and in again, packed and on standard input: one id.
    let id = kept.result(&["images"])["images"][0]["id"].as_str().expect("an id").to_string();
    let store = text(&kept.path("store/images"));
    for to in ["docker-archive:saved.tar:saved:1", "oci-archive:oci.tar:x", "oci:layout:from/layout:3"] {
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", &format!("oci:{store}:base:latest"), to])
            .current_dir(kept.0.path()))
        .ok();
    }
    run(Command::new("gzip").args(["--keep", "saved.tar"]).current_dir(kept.0.path())).ok();
    for (file, name) in [("saved.tar", None), ("saved.tar.gz", Some("packed:1")), ("oci.tar", Some("oci:1")), ("layout", None)] {
        let file = text(&kept.path(file));
        let arguments: Vec<&str> = ["import-image", &file].into_iter().chain(name).collect();
        assert_eq!(kept.result(&arguments)["id"], id.as_str(), "{file}");
    }
    let piped = format!("cat {} | {} import-image - piped", text(&kept.path("saved.tar")), env!("CARGO_BIN_EXE_twostage"));
    run(Command::new("sh").args(["-c", &piped]).env("TWOSTAGE_STORE", kept.path("store"))).ok();
    let all = ["base:latest", "from/layout:3", "oci:1", "packed:1", "piped:latest", "saved:1", "team/base:2"];
    assert_eq!(kept.names(), all);

    // Names go, then the image; what never was is an error with what to do.
    kept.twostage(&["rm", "nothing"]).fails_with(6).says("there is no image nothing").says("twostage images");
    let gone = kept.twostage(&["rm", "saved:1", "nothing", "oci:1"]).fails_with(6);
    assert!(
        gone.out.contains("untagged: saved:1") && gone.out.contains("untagged: oci:1") && !gone.out.contains("deleted"),
        "{}",
        gone.out
    );
    let last = kept.twostage(&["rmi", &id]).ok().out;
    assert!(last.contains("untagged: base:latest") && last.contains(&format!("deleted: {id}")) && last.contains("freed "), "{last}");
    assert!(kept.said(&["images"]).contains("no images in"));

    // What lost its name is what `prune` removes; with --all what builds keep, too.
    kept.twostage(&["import-image", &rootfs, "base"]).ok();
    fs::create_dir(kept.path("build")).expect("a folder");
    for content in ["one", "two"] {
        fs::write(
            kept.path("build/Dockerfile"),
            format!("FROM base\nRUN --mount=type=cache,target=/c echo {content} > /x && echo y > /c/y\nRUN cat /x\n"),
        )
        .expect("written");
        kept.twostage(&["compile", &text(&kept.path("build")), "--tag", "made:1", "--network", "none"]).ok();
    }
    assert_eq!(kept.names(), ["base:latest", "made:1", "(no name)"]);
    let said = kept.said(&["prune", "--why"]);
    assert!(
        said.contains("waste  sha256:") && said.contains("it has no name\n1 image: ") && said.contains("`twostage prune --yes`"),
        "{said}"
    );
    assert!(said.contains("stays  made:1  no build made made:1 for itself\n"), "{said}");
    assert_eq!(kept.names(), ["base:latest", "made:1", "(no name)"], "it was only said");
    let pruned = kept.result(&["prune", "--yes"]);
    assert_eq!((pruned["freed"]["images"].as_array().map(Vec::len), pruned["freed"]["steps"].as_u64()), (Some(1), Some(0)), "{pruned}");
    assert_eq!(kept.names(), ["base:latest", "made:1"]);
    let pruned = kept.result(&["prune", "--all", "--yes"]);
    assert!(pruned["freed"]["bytes"].as_u64() > Some(0) && pruned["freed"]["caches"] == 1, "{pruned}");
    assert_eq!(kept.twostage(&["run", "made:1", "cat", "/x"]).ok().out, "two\n", "what has a name stays whole");

    // These are the images of the store, whichever engine is asked for elsewhere.
    let docker = run(twostage().args(["images", "--engine-host", &text(&kept.path("store"))]).env("TWOSTAGE_ENGINE", "docker"));
    docker.ok();
}

#[test]
fn what_holds_no_image_that_can_be_kept_is_refused_before_anything_is_taken_in() {
    let kept = Kept::new();
    // An archive of one image, whose configuration and manifest are as they are said to be.
    let archive = |name: &str, config: &str, manifest: &str| {
        let script = "set -e; mkdir -p made; cd made; echo x > file; tar --owner=0 --group=0 --mtime=@0 -cf layer.tar file
            printf %s \"$CONFIG\" | sed \"s/DIFF/sha256:$(sha256sum layer.tar | cut -c 1-64)/\" > config.json; printf %s \"$MANIFEST\" > manifest.json
            tar -cf \"../$NAME\" manifest.json config.json layer.tar";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(kept.0.path());
        run(command.env("NAME", name).env("CONFIG", config).env("MANIFEST", manifest)).ok();
        text(&kept.path(name))
    };
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["DIFF"]},"config":{}}"#;
    let manifest = r#"[{"Config":"config.json","RepoTags":["app:1"],"Layers":["layer.tar"]}]"#;
    for (number, change) in [
        r#""config":{},"variant":5"#,
        r#""config":{"Env":"PATH=/bin"}"#,
        r#""config":{"Volumes":{"/v":5}}"#,
        r#""config":{"Healthcheck":{"Interval":"30s"}}"#,
        r#""config":{"StopTimeout":"x"}"#,
        r#""config":{"OnBuild":5}"#,
        r#""config":{},"os.version":5"#,
        r#""config":{},"history":[5]"#,
    ]
    .into_iter()
    .enumerate()
    {
        let file = archive(&format!("bad-{number}.tar"), &config.replace(r#""config":{}"#, change), manifest);
        let refused = kept.twostage(&["import-image", &file]);
        assert!(refused.status > 1 && refused.err.contains("hint: "), "{change}: {}", refused.err);
        assert!(!refused.err.contains("twostage init"), "{change}: {}", refused.err);
        kept.twostage(&["import-image", &file, "named"]).fails_with(refused.status);
    }
    for (number, manifest) in ["[]", "null", "{}", "[5]", ""].into_iter().enumerate() {
        let file = archive(&format!("none-{number}.tar"), config, manifest);
        let refused = kept.twostage(&["import-image", &file]).fails_with(7);
        assert!(refused.err.contains("hint: "), "{manifest}: {}", refused.err);
    }
    for device in ["/dev/zero", "/dev/null", "/dev/urandom"] {
        for name in [&[][..], &["named"]] {
            kept.twostage(&[&["import-image", device], name].concat()).fails_with(2).says("is a device, and no archive");
        }
    }
    let good = archive("good.tar", config, manifest);
    let piped = |from: &str, status: i32| {
        let script = format!("{from} | {} import-image -", env!("CARGO_BIN_EXE_twostage"));
        let done = run(Command::new("sh").args(["-c", &script]).env("TWOSTAGE_STORE", kept.path("store")));
        assert_eq!(done.status, status, "{from}: {}", done.err);
        done.err
    };
    assert!(piped("cat /dev/zero", 7).contains("there is no file in it"));
    assert!(piped("cat /dev/urandom", 7).contains("is no archive of images"));
    assert!(piped("true", 7).contains("there is no file in it"));
    assert!(kept.said(&["images"]).contains("no images in"), "nothing was taken in");
    // What stands behind the end of a tar is not waited for.
    piped(&format!("cat {good} /dev/zero"), 0);
    assert_eq!(kept.names(), ["app:1"]);
}

#[test]
fn files_that_never_end_are_not_read_to_their_end() {
    let kept = Kept::new();
    kept.twostage(&["import-image", &text(&kept.rootfs()), "base"]).ok();
    fs::create_dir(kept.path("build")).expect("a folder");
    fs::write(kept.path("build/Dockerfile"), "FROM base\nRUN --mount=type=secret,id=x true\nUSER 4294967295\nRUN true\n").expect("written");
    let build = text(&kept.path("build"));
    let compile = |more: &[&str]| kept.twostage(&[&["compile", "--network", "none", &build], more].concat());
    compile(&["--secret", "id=x,src=/dev/zero"]).fails_with(2).says("cannot take the secret x").says("it has more than");
    compile(&[]).fails_with(4).says("unable to find user 4294967295").says("correct its USER");
    std::os::unix::fs::symlink("/dev/zero", kept.path("build/.dockerignore")).expect("a link");
    compile(&[]).fails_with(3).says(".dockerignore is no file").says("or remove it");
    fs::remove_file(kept.path("build/.dockerignore")).expect("removed");
    run(Command::new("mkfifo").arg(kept.path("build/.dockerignore"))).ok();
    compile(&[]).fails_with(3).says(".dockerignore is no file");
}

#[test]
fn a_bad_entry_of_the_index_is_told_by_every_command_and_stops_none() {
    let kept = Kept::new();
    kept.twostage(&["import-image", &text(&kept.rootfs()), "good"]).ok();
    let index = kept.path("store/images/index.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&index).expect("read")).expect("an index");
    let bad = serde_json::json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{}", "7".repeat(64)),
        "size": 500, "annotations": { "org.opencontainers.image.ref.name": "other:latest" } });
    document["manifests"].as_array_mut().expect("a list").push(bad);
    fs::write(&index, document.to_string()).expect("written");

    let said = kept.said(&["images"]);
    assert!(said.contains("good:latest") && said.contains("passed over: other:latest"), "{said}");
    assert_eq!(kept.twostage(&["run", "good", "echo", "x"]).ok().says("passed over: other:latest").out, "x\n");
    fs::create_dir(kept.path("build")).expect("a folder");
    fs::write(kept.path("build/Dockerfile"), "FROM good\nRUN echo 1 > /x\n").expect("written");
    kept.twostage(&["compile", &text(&kept.path("build")), "--tag", "made:1", "--network", "none"]).ok();
    let doctor = kept.twostage(&["doctor"]);
    assert!(doctor.out.contains("passed over: other:latest") && doctor.out.contains("twostage rm NAME"), "{}", doctor.out);
    kept.twostage(&["run", "other"]).fails_with(6).says("the image other cannot be read").says("twostage rm other");
    kept.twostage(&["prune", "--yes"]).ok();
    assert!(kept.said(&["rm", "other"]).contains("untagged: other:latest"));
    let doctor = kept.twostage(&["doctor"]);
    assert!(doctor.out.contains("2 images, and all can be read"), "{}", doctor.out);
}

#[test]
fn skopeo_beside_a_compile_loses_nothing_and_neither_does_the_compile() {
    let kept = Kept::new();
    let rootfs = text(&kept.rootfs());
    kept.twostage(&["import-image", &rootfs, "base"]).ok();
    let store = text(&kept.path("store/images"));
    let archive = format!("docker-archive:{}:elsewhere:1", text(&kept.path("elsewhere.tar")));
    tool("skopeo", &["copy", "--quiet", "--insecure-policy", &format!("oci:{store}:base:latest"), &archive]).ok();
    fs::create_dir(kept.path("build")).expect("a folder");
    let rounds = 6;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..rounds {
                let to = format!("oci:{store}:copied:{number}");
                tool("skopeo", &["copy", "--quiet", "--insecure-policy", &archive, &to]).ok();
            }
        });
        for number in 0..rounds {
            fs::write(kept.path("build/Dockerfile"), format!("FROM base\nRUN echo {number} > /x\nRUN cat /x\n")).expect("written");
            kept.twostage(&["compile", &text(&kept.path("build")), "--tag", &format!("made:{number}"), "--network", "none"]).ok();
            // Names that move and go make what nothing needs.
            kept.twostage(&["compile", &text(&kept.path("build")), "--tag", "moving", "--network", "none"]).ok();
            kept.twostage(&["prune", "--yes"]).ok();
        }
    });
    let names = kept.names();
    for number in 0..rounds {
        for name in [format!("copied:{number}"), format!("made:{number}")] {
            assert!(names.contains(&name), "{name} is lost: {names:?}");
        }
        assert_eq!(kept.twostage(&["run", &format!("made:{number}"), "cat", "/x"]).ok().out, format!("{number}\n"));
        assert_eq!(kept.twostage(&["run", &format!("copied:{number}"), "echo", "whole"]).ok().out, "whole\n");
    }
    assert!(kept.result(&["images"])["problems"].as_array().is_some_and(Vec::is_empty));
}

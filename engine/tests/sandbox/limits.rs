//! What a container may have of the machine, and that nothing of that is left afterwards.

use super::*;
use twostage_engine::sandbox::Limits;
use twostage_engine::{Build, Engine, Exec, Hold, Saved};
use twostage_image::{Compression, NewImage, Want, flatten, pax_record};
use twostage_model::Class;

/// Groups that programs of this number have made.
fn groups(of: u32) -> Vec<PathBuf> {
    let name = format!("twostage-{of}-");
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            if entry.file_name().to_string_lossy().starts_with(&name) {
                found.push(entry.path());
            }
            folders.push(entry.path());
        }
    }
    found
}

/// A sandbox with limits, where this machine has both.
fn limited(name: &str, limits: Limits) -> Option<Place> {
    let mut place = Place::new(name);
    if let Some(why) = place.sandbox.unlimited() {
        eprintln!("skipped: {why}");
        return None;
    }
    place.sandbox = place.sandbox.clone().with_limits(limits);
    Some(place)
}

#[test]
fn a_fork_bomb_ends_at_the_limit_of_processes() {
    let Some(place) = limited("bomb", Limits { processes: Some(64), ..Limits::default() }) else { return };
    let root = place.root();
    // Bounded, should there be no limit.
    let bomb = "n=0; while test $n -lt 300; do sleep 20 & n=$((n+1)); done; echo all";
    let (code, lines) = place.run(&root, bomb);
    assert_ne!(code, 0, "{lines:?}");
    assert!(!lines.contains(&"all".to_string()), "{lines:?}");
    let last = "twostage: the command asked for more than the 64 processes that it may have at once";
    assert_eq!(lines.last().map(String::as_str), Some(last), "{lines:?}");
    // What fits is not spoken of, and the next one may have as many.
    let fits = "n=0; while test $n -lt 40; do sleep 0.2 & n=$((n+1)); done; wait; exit 3";
    assert_eq!(place.run(&root, fits), (3, Vec::new()));
}

#[test]
fn memory_ends_at_its_limit() {
    let Some(place) = limited("memory", Limits { processes: Some(64), memory: Some(48 << 20), ..Limits::default() }) else { return };
    let root = place.root();
    // 100 MiB, should there be no limit.
    let (code, lines) = place.run(&root, "head -c 104857600 /dev/zero | tail -c 104857600 | wc -c; exit 5");
    assert_ne!(code, 0);
    let last = "twostage: the command needed more than the 48 MiB of memory that it may have, and was killed";
    assert_eq!(lines.last().map(String::as_str), Some(last), "{lines:?}");
    assert_eq!(place.says(&root, "head -c 4194304 /dev/zero | tail -c 4194304 | wc -c"), ["4194304"]);
}

/// Mounts of the folders of a test program, in whichever namespace: those of a container are in none but its own.
pub(super) fn mounts_of(program: u32) -> Vec<String> {
    let name = format!("twostage-sandbox-{program}-");
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        found.extend(mounts.lines().filter(|line| line.contains(&name)).map(|line| format!("{}: {line}", process.path().display())));
    }
    found
}

/// Runs a script with a folder of the place mounted. (The mount of the layers names none of them.)
pub(super) fn run_with_a_mount(place: &Place, root: &Root, script: &str) {
    let source = place.path("bound");
    place.sandbox.folder(&source).expect("a folder");
    let mounts = [Mount::Bind { source, target: "/bound".into(), read_only: false }];
    place.run_job(Job { cmd: &["/bin/sh", "-c", script].map(String::from), mounts: &mounts, ..job(root) });
}

/// Runs one of the ignored tests of this file where all files are on a disk of so many MiB, which goes away with it.
fn on_a_small_disk(test: &str, mib: u64) {
    let dir = std::env::temp_dir().join(format!("twostage-sandbox-{}-{test}", std::process::id()));
    fs::create_dir(&dir).expect("a folder");
    let script = "mount -t tmpfs -o mode=1777,size=$2m twostage $1 && exec env TMPDIR=$1 $3 --ignored --exact limits::$4 --nocapture";
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&dir).arg(mib.to_string()).arg(own).arg(test);
    let out = command.output().expect("`apt-get install util-linux` gives unshare");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    fs::remove_dir(&dir).expect("nothing was written below its disk");
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

fn free(dir: &Path) -> u64 {
    let disk = rustix::fs::statvfs(dir).expect("a disk");
    disk.f_bavail * disk.f_frsize
}

#[test]
fn a_command_that_fills_the_disk_is_ended_before_it_is_full() {
    on_a_small_disk("fill_the_disk", 1024);
}

#[test]
#[ignore = "run by `a_command_that_fills_the_disk_is_ended_before_it_is_full`"]
fn fill_the_disk() {
    const FLOOR: u64 = 512 << 20;
    // What may be written between two looks, and until the command has really ended.
    const SLACK: u64 = 128 << 20;
    let mut place = Place::new("disk");
    place.sandbox = place.sandbox.clone().with_limits(Limits { free: Some(FLOOR), ..Limits::default() });
    let root = place.root();
    let one = "dd if=/dev/zero of=/big bs=1048576 count=900";
    let many = "n=0; while test $n -lt 900; do head -c 1048576 /dev/zero > /file$n; n=$((n+1)); done";
    // In one call, if that were let through.
    let reserved = "fallocate -l 943718400 /big";
    for script in [one, many, reserved] {
        let cmd = ["sh".into(), "-c".into(), format!("{script}; sleep 1; echo all of it")];
        let mut lines = Vec::new();
        let ended = runtime().block_on(place.sandbox.run(Job { cmd: &cmd, ..job(&root) }, &mut |line| lines.push(line.to_string())));
        let left = free(&place.dir);
        let error = ended.expect_err("it is ended");
        assert_eq!(error.to_string(), "sh filled the disk and was ended");
        assert_eq!(error.class(), Class::Build);
        assert!(error.causes().iter().any(|cause| cause.contains("B and ") && cause.contains("are free on the disk of")), "{error:?}");
        assert!(!lines.contains(&"all of it".to_string()), "{script}: {lines:?}");
        assert!(left + SLACK >= FLOOR, "{script}: only {} MiB stayed free", left >> 20);
        for part in ["upper", "upper-work"] {
            place.sandbox.remove(&place.path(part)).expect("removed");
        }
    }
}

/// A tar of one file of zeros.
fn zeros(name: &str, size: u64) -> impl Read + Send + use<> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("a short name");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    std::io::Cursor::new(header.as_bytes().to_vec()).chain(std::io::repeat(0).take(size.next_multiple_of(512) + 1024))
}

fn gzip(data: impl Read + Send + 'static) -> impl Read + Send + 'static {
    flate2::read::GzEncoder::new(data, flate2::Compression::fast())
}

fn stream(mut data: impl Read + Send + 'static) -> twostage_engine::ByteStream {
    let (mut writer, stream) = twostage_engine::pipe();
    // (Nobody reads on, once it is refused.)
    std::thread::spawn(move || std::io::copy(&mut data, &mut writer).and_then(|_| writer.finish()));
    stream
}

/// A store on a disk of 64 MiB.
struct Small {
    dir: PathBuf,
    engine: Engine,
    free: u64,
}

impl Small {
    async fn new(name: &str) -> Small {
        let dir = std::env::temp_dir().join(name);
        let engine = Engine::embedded(Some(&dir), Some(env!("CARGO_BIN_EXE_twostage-sandbox").into())).await.expect("a store");
        engine.import(stream(std::io::Cursor::new(busybox())), "box", &[]).await.expect("busybox is small");
        engine.create("box").await.expect("made").remove().await.expect("removed");
        let free = free(&dir);
        Small { dir, engine, free }
    }

    /// That the disk's being full is what the error says, and that all is as before.
    async fn refused<T>(&self, what: &str, class: Class, result: twostage_model::Result<T>) {
        let error = result.err().unwrap_or_else(|| panic!("{what}: it is refused"));
        let said = format!("{error}: {}", error.causes().join(": "));
        assert!(said.contains("are free on the disk"), "{what}: {said}");
        assert_eq!(error.class(), class, "{what}: {said}");
        assert!(error.hint_or_class().contains("TWOSTAGE_STORE") || said.contains("cannot pack"), "{what}: {}", error.hint_or_class());
        self.engine.settle().await;
        for place in ["containers", "incoming", "trash"] {
            let left: Vec<_> = fs::read_dir(self.dir.join(place)).expect("a folder").flatten().map(|entry| entry.path()).collect();
            assert_eq!(left, [""; 0].map(PathBuf::from), "{what}");
        }
        let now = free(&self.dir);
        assert!(now + (1 << 20) > self.free, "{what}: {} of {} bytes are free again", now, self.free);
    }
}

#[test]
fn what_is_brought_into_a_store_ends_before_its_disk_is_full() {
    on_a_small_disk("bring_much", 64);
}

#[test]
#[ignore = "run by `what_is_brought_into_a_store_ends_before_its_disk_is_full`"]
fn bring_much() {
    const MUCH: u64 = 80 << 20;
    runtime().block_on(async {
        let small = Small::new("store").await;
        let imported = small.engine.import(stream(gzip(zeros("zeros", MUCH))), "much", &[]).await;
        small.refused("an import", Class::System, imported).await;
        let loaded = small.engine.load(stream(zeros("zeros", MUCH))).await;
        small.refused("an archive", Class::System, loaded).await;
        // A small archive of a layer that is large.
        let mut layer = Vec::new();
        gzip(zeros("zeros", MUCH)).read_to_end(&mut layer).expect("into memory");
        assert!(layer.len() < 1 << 20);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            twostage_model::Sha256::of(b"whatever")
        );
        let manifest = r#"[{"Config":"config.json","RepoTags":["much:1"],"Layers":["layer.tar"]}]"#;
        let archive = Tar::new()
            .file("config.json", 0o644, config.as_bytes())
            .file("manifest.json", 0o644, manifest.as_bytes())
            .file("layer.tar", 0o644, &layer)
            .end();
        let loaded = small.engine.load(stream(std::io::Cursor::new(archive))).await;
        small.refused("a packed layer", Class::System, loaded).await;
        let container = small.engine.create("box").await.expect("made");
        let put = container.put(stream(zeros("zeros", MUCH)), true).await;
        container.remove().await.expect("removed");
        small.refused("files that are put", Class::System, put).await;
        // A few bytes that say they are many.
        let records = [pax_record(b"GNU.sparse.size", MUCH.to_string().as_bytes()), pax_record(b"GNU.sparse.map", b"0,7")].concat();
        let holes = Tar::new().add("pax", tar::EntryType::XHeader, 0o644, 0, "", &records).file("holes", 0o644, b"program").end();
        let container = small.engine.create("box").await.expect("made");
        let put = container.put(stream(std::io::Cursor::new(holes.clone())), true).await;
        container.remove().await.expect("removed");
        small.refused("holes that are put", Class::System, put).await;
        small.engine.import(stream(std::io::Cursor::new(holes)), "holes", &[]).await.expect("it is small");
        small.refused("holes of a layer", Class::System, small.engine.create("holes").await).await;
        // Where a layer has room, and its files beside it have none.
        let half = (small.free - (8 << 20)) * 2 / 3;
        small.engine.import(stream(gzip(zeros("zeros", half))), "half", &[]).await.expect("there is room");
        let small = Small { free: free(&small.dir), ..small };
        small.refused("the files of a layer", Class::System, small.engine.create("half").await).await;
        let saved = small.engine.open("half").await.expect("opened");
        let written = small.engine.write(Some("flat".into()), true, move |write| {
            let Saved { store, place: _held } = saved;
            let image = store.read(&|_| Want::Digest)?;
            let flat = flatten::flatten(&image, 0)?;
            let config = |diff_id| flat.config(diff_id);
            // (Other bytes than those that are there: the layer is written before that is known.)
            write(&mut NewImage {
                store: &store,
                kept: 0,
                delta: flat.delta.as_ref(),
                compression: Compression::None,
                name: None,
                config: &config,
            })
        });
        small.refused("an image that is written", Class::System, written.await).await;
        // What fits is taken.
        small.engine.remove_image("half").await.expect("removed");
        small.engine.import(stream(gzip(zeros("zeros", 8 << 20))), "little", &[]).await.expect("there is room");
        small.engine.create("little").await.expect("made").remove().await.expect("removed");
    });
}

#[test]
fn a_layer_that_is_mostly_holes_ends_before_the_disk_is_full() {
    on_a_small_disk("build_holes", 64);
}

#[test]
#[ignore = "run by `a_layer_that_is_mostly_holes_ends_before_the_disk_is_full`"]
fn build_holes() {
    runtime().block_on(async {
        let small = Small::new("store").await;
        let epoch = BTreeMap::from([("SOURCE_DATE_EPOCH".to_string(), "1".to_string())]);
        let none = BTreeMap::new();
        // More than there is, and what would fit but for what others need.
        for (size, why) in [(1 << 40, "cannot pack x: it takes 1.1 TB"), (small.free - (2 << 20), "left fills the disk")] {
            for build_args in [&none, &epoch] {
                let file = format!("FROM box\nRUN truncate -s {size} /x\n");
                let context = Tar::new().file("Dockerfile", 0o644, file.as_bytes()).end();
                let build = Build { build_args, ..Build::new(context, "Dockerfile") };
                let built = small.engine.build(build, &mut |_| ()).await;
                let said = built.as_ref().err().map(|error| error.causes().join(": ")).unwrap_or_default();
                assert!(said.contains(why), "{said}");
                small.refused(why, Class::Build, built).await;
            }
        }
        let container = small.engine.hold(Hold { image: "box", hostname: None, network: Network::None }).await.expect("made");
        let cmd = ["truncate", "-s", "1099511627776", "/x"].map(String::from);
        let ended = container.exec(Exec { cmd: &cmd, ..Exec::default() }, &mut |_| ()).await;
        assert_eq!(ended.expect("a hole is free"), 0);
        let committed = container.commit("holes", &[]).await;
        container.remove().await.expect("removed");
        small.refused("a commit", Class::Build, committed).await;
    });
}

#[test]
#[ignore = "the program that `a_group_is_removed_by_the_next_run_and_never_while_it_is_used` kills"]
fn to_be_killed_with_a_group() {
    let place = Place::new("group");
    let root = place.root();
    place.run(&root, "sleep 7654");
}

#[test]
fn a_group_is_removed_by_the_next_run_and_never_while_it_is_used() {
    let Some(place) = limited("groups-left", Limits::default()) else { return };
    let root = place.root();
    let own = std::env::current_exe().expect("this program");
    let start = || {
        let mut command = Command::new(&own);
        command.args(["--ignored", "--exact", "limits::to_be_killed_with_a_group", "--nocapture"]).stdout(std::process::Stdio::null());
        command.spawn().expect("this program runs")
    };
    let (mut killed, mut lives) = (start(), start());
    until("both run", || processes_of("7654").len() >= 2 && !groups(killed.id()).is_empty() && !groups(lives.id()).is_empty());
    killed.kill().expect("it can be killed");
    killed.wait().expect("it ends");
    until("what it ran ends", || processes_of("7654").len() == 1);
    place.says(&root, "true");
    assert_eq!(groups(killed.id()), [""; 0].map(PathBuf::from));
    assert!(!groups(lives.id()).is_empty());
    assert_eq!(processes_of("7654").len(), 1);
    lives.kill().expect("it can be killed");
    lives.wait().expect("it ends");
    until("what it ran ends", || processes_of("7654").is_empty());
    place.says(&root, "true");
    assert_eq!(groups(lives.id()), [""; 0].map(PathBuf::from));
    for gone in [killed.id(), lives.id()] {
        place.sandbox.remove(&std::env::temp_dir().join(format!("twostage-sandbox-{gone}-group"))).expect("what it left can be removed");
    }
}

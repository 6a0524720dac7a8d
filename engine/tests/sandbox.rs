//! The sandbox with real namespaces, real layers and real programs: busybox, from the machine.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails by them")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use twostage_engine::Network;
use twostage_engine::sandbox::{Job, Mount, Root, Sandbox, Upper};

#[path = "sandbox/hostile.rs"]
mod hostile;
#[path = "sandbox/ids.rs"]
mod ids;
#[path = "sandbox/layers.rs"]
mod layers;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/network.rs"]
mod network;

/// A folder that goes away with all its layers.
struct Place {
    dir: PathBuf,
    sandbox: Sandbox,
}

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("twostage-sandbox-{}-{name}", std::process::id()));
        fs::create_dir(&dir).expect("a new folder");
        let sandbox = Sandbox::new().expect("ids").with_program(env!("CARGO_BIN_EXE_twostage-sandbox").into());
        Place { dir, sandbox }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A root of one layer with busybox in it, and a layer to write to.
    fn root(&self) -> Root {
        let base = self.path("base");
        self.sandbox.unpack(&busybox()[..], &base).expect("busybox unpacks");
        Root { lowers: vec![base], init: None, upper: Some(self.upper("upper")) }
    }

    fn upper(&self, name: &str) -> Upper {
        Upper { dir: self.path(name), work: self.path(&format!("{name}-work")) }
    }

    fn run(&self, root: &Root, script: &str) -> (i64, Vec<String>) {
        self.run_job(Job { cmd: &["/bin/sh", "-c", script].map(String::from), ..job(root) })
    }

    fn run_job(&self, job: Job<'_>) -> (i64, Vec<String>) {
        let mut lines = Vec::new();
        let code = runtime().block_on(self.sandbox.run(job, &mut |line: &str| lines.push(line.to_string())));
        (code.expect("it runs"), lines)
    }

    /// What the command writes, which must end well.
    fn says(&self, root: &Root, script: &str) -> Vec<String> {
        let (code, lines) = self.run(root, script);
        assert_eq!(code, 0, "{script}: {lines:?}");
        lines
    }

    fn packed(&self, root: &Root) -> Vec<u8> {
        let mut tar = Vec::new();
        self.sandbox.pack(root).expect("packing starts").read_to_end(&mut tar).expect("packing ends");
        tar
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let removed = self.sandbox.remove(&entry.path());
            if !std::thread::panicking() {
                removed.expect("it can be removed");
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn job(root: &Root) -> Job<'_> {
    Job {
        root,
        cmd: &[],
        env: &[],
        user: "",
        workdir: "",
        hostname: Some("box"),
        network: Network::None,
        doors: &[],
        ports: &[],
        inward: None,
        attached: None,
        script: None,
        mounts: &[],
        timeout: Some(Duration::from_secs(60)),
    }
}

/// Entries of a tar, for tests that make one.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, path: &str, kind: tar::EntryType, mode: u32, owner: u64, link: &str, data: &[u8]) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).expect("memory takes all");
        self
    }

    fn file(self, path: &str, mode: u32, data: &[u8]) -> Tar {
        self.add(path, tar::EntryType::Regular, mode, 0, "", data)
    }

    fn dir(self, path: &str, mode: u32) -> Tar {
        self.add(path, tar::EntryType::Directory, mode, 0, "", b"")
    }

    fn link(self, path: &str, target: &str) -> Tar {
        self.add(path, tar::EntryType::Symlink, 0o777, 0, target, b"")
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes all")
    }
}

/// A root file system of a static busybox.
fn busybox() -> Vec<u8> {
    let program = fs::read("/bin/busybox").expect("`apt-get install busybox-static` gives /bin/busybox");
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
    let mut tar = Tar::new();
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700), ("home/", 0o755)] {
        tar = tar.dir(folder, mode);
    }
    tar = tar
        .file("bin/busybox", 0o755, &program)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nusers:x:100:\nstaff:x:50:ann\n")
        .add("home/ann/", tar::EntryType::Directory, 0o755, 1000, "", b"");
    for name in String::from_utf8(list.stdout).expect("names").lines().filter(|name| *name != "busybox") {
        tar = tar.link(&format!("bin/{name}"), "busybox");
    }
    tar.end()
}

/// One line for each entry: kind, mode, owner, path, and what it leads to or holds.
fn dump(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let mut lines = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let header = entry.header().clone();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", String::from_utf8_lossy(&link))).unwrap_or_default();
        let mut data = String::new();
        entry.read_to_string(&mut data).unwrap_or_default();
        let data = if data.is_empty() || data.len() > 40 { String::new() } else { format!(" {data:?}") };
        let kind = char::from(header.entry_type().as_byte());
        let (uid, gid) = (header.uid().expect("uid"), header.gid().expect("gid"));
        lines.push(format!("{kind} {:04o} {uid}:{gid} {path}{link}{data}", header.mode().expect("mode")));
    }
    lines
}

#[test]
fn a_command_ends_with_its_status_as_in_a_shell() {
    let place = Place::new("status");
    let root = place.root();
    assert_eq!(place.run(&root, "echo out; echo err >&2; exit 3").0, 3);
    assert_eq!(place.run(&root, "sh -c 'kill -9 $$'; exit $?").0, 137);
    assert_eq!(place.run(&root, "kill -9 $$; exit 4").0, 4, "it is the first process, which none of its own ends");
    let cmd = |cmd: &[&str]| cmd.iter().map(ToString::to_string).collect::<Vec<_>>();
    let run = |cmd: &[String]| place.run_job(Job { cmd, ..job(&root) });
    assert_eq!(run(&cmd(&["nothing"])), (127, vec![r#"exec: "nothing": executable file not found in $PATH"#.to_string()]));
    assert_eq!(run(&cmd(&["/nothing"])), (127, vec![r#"exec: "/nothing": no such file or directory"#.to_string()]));
    assert_eq!(run(&cmd(&["/etc/passwd"])), (126, vec![r#"exec: "/etc/passwd": permission denied"#.to_string()]));
    assert_eq!(run(&cmd(&["echo", "found in PATH"])), (0, vec!["found in PATH".to_string()]));
    let (code, lines) = place.run_job(Job { workdir: "/nowhere", cmd: &cmd(&["true"]), ..job(&root) });
    assert_eq!(code, 127);
    assert_eq!(lines, [r#"chdir to cwd ("/nowhere") failed: no such file or directory"#]);
    let (code, lines) = place.run_job(Job { workdir: "/etc/passwd", cmd: &cmd(&["true"]), ..job(&root) });
    assert_eq!((code, lines), (125, vec![r#"chdir to cwd ("/etc/passwd") failed: not a directory"#.to_string()]));
    let (code, lines) = place.run_job(Job { workdir: "/root", user: "ann", cmd: &cmd(&["true"]), ..job(&root) });
    assert_eq!((code, lines), (126, vec![r#"chdir to cwd ("/root") failed: permission denied"#.to_string()]));
}

#[test]
fn what_a_command_leaves_running_is_ended_and_what_it_orphans_is_reaped() {
    let place = Place::new("pid1");
    let root = place.root();
    let began = Instant::now();
    assert_eq!(place.says(&root, "(sleep 4321 &); (sh -c 'trap \"\" TERM HUP; sleep 4321' &); echo started"), ["started"]);
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for what it left");
    assert!(processes_of("4321").is_empty());
    let states = place.says(&root, "(sleep 0.1 &); sleep 1; cat /proc/[0-9]*/stat | cut -d' ' -f3; echo pid $$");
    assert!(!states.contains(&"Z".to_string()), "{states:?}");
    // The first process, the shell and `cat`, `cut`: nothing of the machine's.
    assert!(states.len() <= 6, "{states:?}");
    let pids = place.says(&root, "ls /proc | grep -c '^[0-9]'; cat /proc/1/comm; kill -9 1; kill -TERM 1; echo alive");
    assert!(pids[0].parse::<u32>().is_ok_and(|n| n <= 5), "{pids:?}");
    assert_eq!(pids[2], "alive");
}

/// Pids of processes, anywhere on the machine, that have this word among their arguments.
fn processes_of(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rights_are_those_of_a_container_of_docker() {
    let place = Place::new("rights");
    let root = place.root();
    let status = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\\t' ' '";
    let docker = "00000000a80425fb";
    assert_eq!(
        place.says(&root, status),
        [
            "CapInh: 0000000000000000",
            &format!("CapPrm: {docker}"),
            &format!("CapEff: {docker}"),
            &format!("CapBnd: {docker}"),
            "CapAmb: 0000000000000000",
            "NoNewPrivs: 1",
            "Seccomp: 2",
        ]
    );
    let cmd = ["sh", "-c", status].map(String::from);
    let (_, lines) = place.run_job(Job { cmd: &cmd, user: "ann", ..job(&root) });
    assert_eq!(lines[1..4], ["CapPrm: 0000000000000000", "CapEff: 0000000000000000", &format!("CapBnd: {docker}")]);
    for denied in [
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "unshare -m true",
        "unshare -U true",
        "hostname other",
        "swapoff -a /x",
        "dmesg",
        "pivot_root . .",
        "nsenter -t 1 -m true",
        "mknod /tmp/sda b 8 0",
    ] {
        let (code, lines) = place.run(&root, denied);
        assert_ne!(code, 0, "{denied}: {lines:?}");
    }
    let said = place.run(&root, "date -s 2020-01-01").1;
    assert!(said.iter().any(|line| line.contains("not permitted")), "{said:?}");
    // What a build may need.
    place.says(&root, "chroot / true && chown 1000:100 /tmp && mkfifo /tmp/f && ulimit -n && setsid true");
}

#[test]
fn the_machine_is_hidden_and_protected() {
    let place = Place::new("masked");
    let root = place.root();
    assert_eq!(place.says(&root, "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | wc -c"), ["0"]);
    assert_eq!(place.says(&root, "ls /sys/firmware; ls /proc/acpi /proc/scsi 2>/dev/null | grep -v :; ls /sys/fs/cgroup; true"), [""; 0]);
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/power/state", "/sys/kernel/mm/ksm/run"] {
        let (code, lines) = place.run(&root, &format!("test ! -e {path} && exit 1; echo 1 > {path}"));
        assert_ne!(code, 0, "{path}: {lines:?}");
    }
    let mounts = place.says(&root, "cut -d' ' -f2 /proc/mounts");
    let dir = place.dir.to_string_lossy();
    assert!(!mounts.iter().any(|mount| mount.contains("/target/") || mount.contains(&*dir)), "{mounts:?}");
    assert_eq!(
        place.says(&root, "hostname; cat /etc/hostname; umask; id"),
        ["box", "box", "0022", "uid=0(root) gid=0(root) groups=0(root)"]
    );
    let dev = place.says(&root, "ls /dev; echo x > /dev/null; head -c 3 /dev/zero | wc -c; stat -c %a /dev/shm; test -c /dev/pts/ptmx");
    for name in
        ["core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    {
        assert!(dev.contains(&name.to_string()), "{name}: {dev:?}");
    }
    assert_eq!(dev[dev.len() - 2..], ["3", "1777"]);
    assert_eq!(place.says(&root, "ls -l /proc/self/fd 2>/dev/null | grep -c -e socket -e memfd -e order; true"), ["0"]);
    assert_eq!(place.says(&root, "readlink /etc/mtab"), ["/proc/mounts"]);
}

#[test]
fn a_container_may_have_no_network_or_the_machines() {
    let place = Place::new("network");
    let root = place.root();
    let lines = place.says(
        &root,
        "ls /sys/class/net; ip -o link | grep -c UP; ping -c1 -W2 127.0.0.1 >/dev/null && echo itself; cat /etc/hosts | tail -1",
    );
    assert_eq!(lines, ["lo", "1", "itself", "127.0.1.1\tbox"]);
    let cmd = ["sh", "-c", "ls /sys/class/net; grep -c box /etc/hosts"].map(String::from);
    let (code, lines) = place.run_job(Job { cmd: &cmd, network: Network::Host, ..job(&root) });
    let mut machine: Vec<String> =
        fs::read_dir("/sys/class/net").expect("/sys").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    machine.sort();
    assert_eq!(code, 0);
    assert_eq!(lines[lines.len() - 1], "1");
    assert_eq!(lines[..lines.len() - 1], machine);
}

#[test]
fn users_are_the_containers_own() {
    let place = Place::new("users");
    let root = place.root();
    let who = |user: &str| {
        let cmd = ["sh", "-c", "id -u; id -g; id -G; echo $HOME"].map(String::from);
        place.run_job(Job { cmd: &cmd, user, ..job(&root) })
    };
    let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(who("ann"), (0, lines(&["1000", "100", "100 50", "/home/ann"])));
    assert_eq!(who("1000:50"), (0, lines(&["1000", "50", "50", "/home/ann"])));
    assert_eq!(who("70000"), (0, lines(&["70000", "0", "0", "/"])));
    assert_eq!(who("bob"), (125, lines(&["unable to find user bob: no matching entries in passwd file"])));
    assert_eq!(who("ann:none"), (125, lines(&["unable to find group none: no matching entries in group file"])));
    // Nobody outside is who anybody is inside.
    place.says(&root, "echo mine > /root/file; chown 1000:100 /root/file");
    let found = fs::symlink_metadata(place.path("upper/root/file")).expect("the file");
    assert!(std::os::unix::fs::MetadataExt::uid(&found) > 100_000);
    assert!(dump(&place.packed(&root)).contains(&"0 0644 1000:100 root/file \"mine\\n\"".to_string()));
}

#[test]
fn dropping_a_run_or_its_time_ends_everything() {
    let place = Place::new("drop");
    let root = place.root();
    let cmd = ["sh", "-c", "(sleep 5432 &); sleep 5432"].map(String::from);
    let runtime = runtime();
    let mut ignore = |_: &str| {};
    let began = Instant::now();
    let ended = runtime.block_on(place.sandbox.run(Job { cmd: &cmd, timeout: Some(Duration::from_secs(2)), ..job(&root) }, &mut ignore));
    let error = ended.expect_err("its time is up");
    assert_eq!((error.class(), error.what()), (twostage_model::Class::Build, "sh did not end within 2 seconds and was ended"));
    assert!(processes_of("5432").is_empty());
    runtime.block_on(async {
        let run = place.sandbox.run(Job { cmd: &cmd, ..job(&root) }, &mut ignore);
        assert!(tokio::time::timeout(Duration::from_secs(2), run).await.is_err());
        assert!(processes_of("5432").is_empty());
    });
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
#[ignore = "the program that `a_killed_program_leaves_nothing` kills"]
fn to_be_killed() {
    let place = Place::new("killed");
    let root = place.root();
    println!("{}", place.dir.display());
    limits::run_with_a_mount(&place, &root, "(sleep 6543 &); setsid sleep 6543");
}

#[test]
fn a_killed_program_leaves_nothing() {
    let own = std::env::current_exe().expect("this program");
    let mut child = Command::new(own)
        .args(["--ignored", "--exact", "to_be_killed", "--nocapture"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("this program runs");
    until("the command starts", || processes_of("6543").len() >= 2 && !limits::mounts_of(child.id()).is_empty());
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    until("everything ends", || processes_of("6543").is_empty());
    let dir = std::env::temp_dir().join(format!("twostage-sandbox-{}-killed", child.id()));
    until("no mount is left", || limits::mounts_of(child.id()).is_empty());
    let sandbox = Sandbox::new().expect("ids").with_program(env!("CARGO_BIN_EXE_twostage-sandbox").into());
    sandbox.remove(&dir).expect("what it left can be removed");
    assert!(!dir.exists());
}

#[test]
fn mounts_are_there_for_one_command_and_leave_nothing() {
    let place = Place::new("mounts");
    let root = place.root();
    let cache = place.path("cache");
    place.sandbox.folder(&cache).expect("a cache");
    fs::write(place.path("context"), "from outside").expect("a file");
    let other = Root { lowers: root.lowers.clone(), ..Root::default() };
    let mounts = [
        Mount::Bind { source: cache, target: "/var/cache/x".into(), read_only: false },
        Mount::Bind { source: place.path("context"), target: "/src/context".into(), read_only: true },
        Mount::Tree { source: other, path: "/etc".into(), target: "/other".into(), read_only: true },
        Mount::Tmpfs { target: "/tmp/memory".into(), size: Some(1 << 20) },
        Mount::Secret { bytes: b"hush".to_vec(), target: "/run/secrets/key".into(), mode: 0o400, uid: 1000, gid: 100 },
    ];
    let script = "echo kept > /var/cache/x/file; cat /src/context; echo; cat /other/group | head -1; \
        stat -c '%a %u %g' /run/secrets/key; cat /run/secrets/key; echo; echo x > /tmp/memory/f; \
        for f in /src/context /other/group; do echo bad > $f && echo written; done; cat /dev/pipes/script; echo; /dev/pipes/script";
    let cmd = ["sh", "-c", script].map(String::from);
    let text = "#!/bin/sh\necho scripted";
    let (code, lines) = place.run_job(Job { cmd: &cmd, mounts: &mounts, script: Some(("/dev/pipes/script", text)), ..job(&root) });
    let (said, errors): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| !line.contains("Read-only"));
    assert_eq!(code, 0);
    assert_eq!(said, ["from outside", "root:x:0:", "400 1000 100", "hush", "#!/bin/sh", "echo scripted", "scripted"]);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(fs::read_to_string(place.path("cache/file")).expect("it is kept"), "kept\n");
    assert_eq!(dump(&place.packed(&root)), [""; 0]);
    assert_eq!(place.says(&root, "ls -a /tmp; ls -d /run /src /var /other 2>/dev/null; true"), [".", ".."]);
}

/// Mounts below a mount, one of them with a blank in its path, one hidden by another one.
const MOUNTS_BELOW: &str = r#"
    set -e
    empty() { mkdir -p "$1" && mount -t tmpfs -o nosuid,mode=777 none "$1"; }
    empty /mnt; empty "/mnt/in ner"; empty "/mnt/in ner/deep"; empty /mnt/over/below; empty /mnt/over
    mount --bind $1/ranges /etc/subuid && mount --bind $1/ranges /etc/subgid
    $AS env TMPDIR=$1 $1/tests --ignored --exact $2 --nocapture
"#;

#[test]
fn what_is_read_only_is_so_with_all_that_is_mounted_below_it() {
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    for (name, ranges, who) in [("root", "root:3000000:65536\n", ""), ("user", "nobody:3000000:65536\n", user), ("single", "", user)] {
        elsewhere(&format!("below-{name}"), "mounts_below_a_mount", ranges, &format!("AS='{who}'; {MOUNTS_BELOW}"));
    }
}

#[test]
#[ignore = "run by `what_is_read_only_is_so_with_all_that_is_mounted_below_it`"]
fn mounts_below_a_mount() {
    let place = place_of_nobody("below");
    let root = place.root();
    let mounts =
        [("/written", false), ("/kept", true)].map(|(at, read_only)| Mount::Bind { source: "/mnt".into(), target: at.into(), read_only });
    let script = "for at in /written /kept; do for below in '' '/in ner' '/in ner/deep' /over; do \
        touch \"$at$below/file\" 2>/dev/null && echo \"$at$below\"; done; done; true";
    let cmd = ["sh", "-c", script].map(String::from);
    let (code, lines) = place.run_job(Job { cmd: &cmd, mounts: &mounts, ..job(&root) });
    assert_eq!((code, lines), (0, ["/written", "/written/in ner", "/written/in ner/deep", "/written/over"].map(String::from).to_vec()));
}

#[test]
fn files_are_put_found_and_copied_as_docker_does() {
    let place = Place::new("files");
    let root = place.root();
    let put = |tar: Tar, replace| place.sandbox.put(&root, &tar.end()[..], replace);
    let tar = || Tar::new().dir("opt/", 0o755).file("opt/x", 0o640, b"x").add("opt/y", tar::EntryType::Regular, 0o644, 1000, "", b"y");
    put(tar().link("usr", "opt").file("usr/z", 0o644, b"z"), false).expect("it can be put");
    place.says(&root, "ln opt/x opt/h; ln -s ../etc/group opt/l; ln -s /nowhere/../opt opt/self; mkfifo opt/p");
    let found = |path: &str| {
        let found = place.sandbox.find(&root, path).expect("it can be looked for");
        found.map(|found| (found.folder, found.link))
    };
    assert_eq!(found("/opt"), Some((true, None)));
    assert_eq!(found("opt/x"), Some((false, None)));
    assert_eq!(found("/usr/z"), Some((false, None)));
    assert_eq!(found("/usr"), Some((false, Some("/opt".into()))));
    assert_eq!(found("/usr/"), Some((true, None)));
    assert_eq!(found("/opt/l"), Some((false, Some("/etc/group".into()))));
    assert_eq!(found("/opt/self"), Some((false, Some("/opt".into()))));
    assert_eq!(found("/nothing"), None);
    assert_eq!(found("/etc/passwd/x"), None);
    assert_eq!(found("/"), Some((true, None)));
    let copied = |path: &str| {
        let mut tar = Vec::new();
        place.sandbox.copy_out(&root, path).and_then(|mut reader| {
            reader.read_to_end(&mut tar).map_err(|error| twostage_model::Error::system("reading", error)).map(|_| dump(&tar))
        })
    };
    assert_eq!(
        copied("/usr/.").expect("a folder"),
        [
            "5 0755 0:0 usr/",
            "0 0640 0:0 usr/h \"x\"",
            "2 0777 0:0 usr/l -> ../etc/group",
            "6 0644 0:0 usr/p",
            "2 0777 0:0 usr/self -> /nowhere/../opt",
            "1 0640 0:0 usr/x -> usr/h",
            "0 0644 1000:1000 usr/y \"y\"",
            "0 0644 0:0 usr/z \"z\"",
        ]
    );
    assert_eq!(copied("/opt/y").expect("a file"), ["0 0644 1000:1000 y \"y\""]);
    assert_eq!(copied("/usr").expect("a link"), ["2 0777 0:0 usr -> opt"]);
    assert!(copied("/nothing").is_err_and(|error| error.causes().join(": ").contains("the container has no /nothing")));
    // Something else may take its place only if that is said.
    assert!(put(Tar::new().file("opt", 0o644, b""), false).is_err());
    assert!(put(Tar::new().dir("opt/x/", 0o755), false).is_err());
    put(Tar::new().dir("opt/x/", 0o755).file("home", 0o644, b"file"), true).expect("it can be replaced");
    assert_eq!(found("/opt/x"), Some((true, None)));
    assert_eq!(found("/home"), Some((false, None)));
    assert!(dump(&place.packed(&root)).contains(&"0 0644 0:0 home \"file\"".to_string()));
}

/// Runs one of the ignored tests of this file as `nobody`, with these lines as /etc/subuid and /etc/subgid.
fn as_nobody(test: &str, ranges: &str) {
    let script = "mount --bind $1/ranges /etc/subuid && mount --bind $1/ranges /etc/subgid && \
        exec setpriv --reuid=65534 --regid=65534 --clear-groups env TMPDIR=$1 $1/tests --ignored --exact $2 --nocapture";
    elsewhere(test, test, ranges, script);
}

/// Runs one of the ignored tests of this file by a script, which has mounts of its own: its arguments are a folder, with
/// this program, `twostage-sandbox` and these lines in it, and the test.
fn elsewhere(name: &str, test: &str, ranges: &str, script: &str) {
    let name = format!("twostage-sandbox-{}-{name}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    fs::create_dir(&dir).expect("a folder");
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
    let own = dir.join("tests");
    fs::copy(std::env::current_exe().expect("this program"), &own).expect("it can be copied");
    fs::copy(env!("CARGO_BIN_EXE_twostage-sandbox"), dir.join("program")).expect("it can be copied");
    fs::write(dir.join("ranges"), ranges).expect("a file");
    let out = Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(&dir).arg(test).output();
    let out = out.expect("`apt-get install util-linux` gives unshare and setpriv");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let left: Vec<_> = fs::read_dir(&dir).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    fs::remove_dir_all(&dir).expect("it can be removed");
    assert!(out.status.success(), "{said}");
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_user_without_ids_has_containers_of_one() {
    as_nobody("one_id", "");
}

#[test]
fn a_user_with_a_range_has_all_ids() {
    assert!(Path::new("/usr/bin/newuidmap").exists(), "`apt-get install uidmap` gives newuidmap");
    as_nobody("many_ids", "nobody:3000000:65536\n");
}

fn place_of_nobody(name: &str) -> Place {
    let place = Place::new(name);
    let sandbox = place.sandbox.clone().with_program(std::env::temp_dir().join("program"));
    Place { sandbox, dir: std::mem::take(&mut std::mem::ManuallyDrop::new(place).dir) }
}

#[test]
#[ignore = "run by `a_user_without_ids_has_containers_of_one`"]
fn one_id() {
    let place = place_of_nobody("one");
    assert!(place.sandbox.cost().is_some_and(|cost| cost.contains("all files") && cost.contains("usermod --add-subuids")));
    let root = place.root();
    let lines = place.says(
        &root,
        "id -u; touch f; chown 1000:100 f && chgrp 7 f && stat -c '%u %g' f; mknod d b 8 0 && echo ok; echo $APT_CONFIG; cat $APT_CONFIG",
    );
    assert_eq!(lines, ["0", "0 0", "ok", "/dev/twostage-apt.conf", "APT::Sandbox::User \"root\";"]);
    assert_eq!(dump(&place.packed(&root)), ["0 0644 0:0 f"]);
    assert_eq!(place.says(&root, "stat -c %u:%g /home/ann; rm -r /home; mkdir /home; touch /etc/x"), ["0:0"]);
    let tar = place.packed(&root);
    assert_eq!(dump(&tar), ["5 0755 0:0 etc/", "0 0644 0:0 etc/x", "0 0644 0:0 f", "5 0755 0:0 home/", "0 0755 0:0 home/.wh..wh..opq"]);
    // The one user may be called otherwise, and has no rights of root's then.
    let cmd = [
        "sh",
        "-c",
        "exec 2>&1; id -u; id -g; echo mine > /home/file; stat -c %u /home/file; chown 5 /home/file; grep CapEff /proc/self/status; chroot / true",
    ];
    let cmd = cmd.map(String::from);
    let (code, lines) = place.run_job(Job { cmd: &cmd, user: "ann", ..job(&root) });
    assert_ne!(code, 0);
    assert_eq!(lines[..4], ["1000", "100", "1000", "CapEff:\t0000000000000000"], "{lines:?}");
    assert!(dump(&place.packed(&root)).contains(&"0 0644 0:0 home/file \"mine\\n\"".to_string()));
}

#[test]
#[ignore = "run by `a_user_with_a_range_has_all_ids`"]
fn many_ids() {
    let place = place_of_nobody("many");
    assert_eq!(place.sandbox.cost(), None);
    let root = place.root();
    assert_eq!(place.says(&root, "stat -c %u:%g /home/ann; touch f; chown 65535:1 f; stat -c %u:%g f"), ["1000:1000", "65535:1"]);
    let found = fs::symlink_metadata(place.path("upper/f")).expect("the file");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), 3_000_000 + 65_534);
    assert_eq!(dump(&place.packed(&root)), ["0 0644 65535:1 f"]);
    let cmd = ["sh", "-c", "exec 2>&1; id -u; id -G; cat /root/x"].map(String::from);
    let (code, lines) = place.run_job(Job { cmd: &cmd, user: "ann", ..job(&root) });
    assert_ne!(code, 0);
    assert_eq!(lines, ["1000", "100 50", "cat: can't open '/root/x': Permission denied"]);
}

/// Installs packages into the Debian that `BASE` is a tar of: what ids, capabilities and scripts of packages ask for.
fn installs_packages(place: &Place, owner: &str) {
    let base = std::env::var("BASE").expect("BASE is a tar of Debian, as `mmdebstrap --variant=minbase bookworm base.tar` makes it");
    place.sandbox.unpack(fs::File::open(base).expect("a tar"), &place.path("debian")).expect("it unpacks");
    let root = Root { lowers: vec![place.path("debian")], init: None, upper: Some(place.upper("debian-upper")) };
    let script = "set -e; apt-get update -qq; apt-get install -y -qq --no-install-recommends iputils-ping dbus man-db openssh-client cron >/tmp/log 2>&1 \
        || { cat /tmp/log; exit 1; }; stat -c %U:%a /usr/lib/dbus-1.0/dbus-daemon-launch-helper; stat -c %G /usr/bin/ssh-agent; stat -c %U /var/cache/man; rm -rf /var/lib/apt/lists/* /tmp/log";
    let cmd = ["sh", "-c", script].map(String::from);
    let began = Instant::now();
    let (code, lines) = place.run_job(Job { cmd: &cmd, network: Network::Host, timeout: Some(Duration::from_secs(300)), ..job(&root) });
    println!("{:?} {lines:?}", began.elapsed());
    assert_eq!(code, 0, "{lines:?}");
    let said: Vec<_> = lines.iter().rev().take(3).rev().cloned().collect();
    assert_eq!(said, ["root:4754", if owner == "root" { "root" } else { "_ssh" }, owner]);
    let tar = place.packed(&root);
    let listed = dump(&tar);
    assert!(listed.iter().any(|line| line.starts_with("0 4755 0:0 usr/bin/") || line.contains("openssh/ssh-keysign")), "{listed:?}");
    assert!(tar.windows(30).any(|window| window == b"SCHILY.xattr.security.capabili"), "ping has lost its capability");
    assert!(!listed.iter().any(|line| line.contains("etc/resolv.conf") || line.contains("etc/hosts")), "{listed:?}");
    place.sandbox.unpack(&tar[..], &place.path("again")).expect("it unpacks");
}

#[test]
#[ignore = "needs the network, and a Debian as a tar in BASE"]
fn debian_installs_packages() {
    installs_packages(&Place::new("debian"), "man");
}

#[test]
#[ignore = "needs the network, and a Debian as a tar in BASE"]
fn debian_installs_packages_with_one_id() {
    as_nobody("debian_with_one_id", "");
}

#[test]
#[ignore = "run by `debian_installs_packages_with_one_id`"]
fn debian_with_one_id() {
    installs_packages(&place_of_nobody("debian"), "root");
}
